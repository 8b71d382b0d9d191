//! Invariant: decoding the mask and the kept tokens of a pruned image restores the sources, and at threshold 0 every byte
//! of the image. Masks, grids and tokens that do not match are errors or decode to kept tokens; nothing panics.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::decode(data));
