"""Readers of the files that the benchmarks come in."""
