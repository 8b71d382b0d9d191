"""Does a model still answer the same? A tiny Qwen3-VL, trained from scratch, reads drawn pages: whole and pruned.

    python -m benches.accuracy --out FOLDER [--seeds 3] [--quick] [--record]

The stock class with about 1.8 million weights is asked four kinds of questions about drawn pages (`questions`).
It is trained on whole pages, on pages pruned with pred_2d, and on the same with protected content; each of these models
then answers the questions of held-out pages of several kinds (`pages`), pruned in every way (`evaluation`). Figures
mean nothing before those of all tokens are near 100 %. On mixed pages alone READ and FIND are, after 1300 steps; on all
kinds of pages this has not been measured yet, so no table of this benchmark is published. `reader.safetensors` has the
weights of a model that answers FIND, TICK and GREY, for the tests. Every model and every evaluation is saved in FOLDER
when it is done; the same command goes on where it was stopped. `--record` writes all figures and the tables to
benches/records.

What makes the model learn within minutes: patch filters of zero mean that are never trained, attention that starts by
looking for its like, names of words and places that are sums of their parts, extra losses on the tower's output
(`hints`), and answers of one token.
"""
