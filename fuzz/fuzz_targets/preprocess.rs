//! Invariant: every vector level and number of threads, whole, in bands or in pieces, writes the same bytes. They are the
//! patches of the resized image, normalised as defined, of the tokens that pruning the resized image keeps. Nothing after
//! them is written. If an argument is refused, nothing is written at all.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::preprocess(data));
