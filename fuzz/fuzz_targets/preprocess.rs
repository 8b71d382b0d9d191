//! Invariant: at every vector level, with every number of threads, whole, in bands and in pieces, the same bytes are
//! written: those of the resized image, cut and normalised as defined, of the tokens that pruning the resized image
//! keeps. Nothing behind them is touched; where an argument is refused, nothing at all is.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::preprocess(data));
