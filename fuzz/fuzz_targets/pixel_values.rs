//! Invariant: pruning uint8 or float32 patches of an image keeps what pruning the image keeps. Invalid formats,
//! grids and values are errors or give a selection of the grid's tokens; nothing panics.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::pixel_values(data));
