"""Stock transformers models on pruned inputs. Run once for every supported version of transformers."""
