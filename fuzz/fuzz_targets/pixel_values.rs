//! Invariant: pruning uint8 or float32 patches of an image keeps what pruning the image keeps. Formats, grids and
//! values that make no sense are errors or give a selection of the grid's tokens; no panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::pixel_values(data));
