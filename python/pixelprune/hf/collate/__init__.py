"""Batches for training: examples in many layouts, padded or packed, pruned."""
