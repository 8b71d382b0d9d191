"""From images of any kind to patches: decoding, resizing, pruning, packing."""
