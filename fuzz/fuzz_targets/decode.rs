//! Invariant: decoding the mask and the kept tokens of a pruned image gives the sources back, and at threshold 0 every
//! byte of the image. Masks, grids and tokens that do not belong together are errors or decode to kept tokens; no panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::decode(data));
