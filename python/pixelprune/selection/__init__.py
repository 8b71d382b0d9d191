"""Which tokens of an image are kept: choosing, the result, decoding, fingerprints, analysis."""
