//! Invariant: for every method, metric, threshold, loop and protection, [`pixelprune::prune`] keeps the tokens and names
//! the sources that the definition does, at every vector level, with every number of threads and bands.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::prune(data));
