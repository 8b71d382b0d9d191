//! Which vector instructions to use, and the kernels compiled for each of them.
//!
//! The kernels that compare (`compare.rs`) are written once over a small trait of vector operations
//! (`vector.rs`) and compiled once per level under `#[target_feature]`. Loops that rely on the compiler to
//! vectorise ran at half the speed. All `unsafe` of the crate is in this folder: calling a kernel is sound if
//! the CPU has its features, and a [`Level`] proves that.

// A body that is not inlined into the function with the target feature is compiled without it.
#![allow(clippy::inline_always)]

mod axis;
mod cache;
mod colour;
mod compare;
mod level;
pub mod pack;
mod resample;
mod rgbx;
mod sealed;
pub mod values;
mod vector;

pub(crate) use axis::{Axis, Columns, OUTPUTS};
pub(crate) use cache::{copy_past_caches, finish_stores};
pub(crate) use colour::{Extent, extent, is_one_colour};
pub(crate) use compare::{GROUP_ROWS, Kernels, MAX_SEGMENT, Scan, Shape};
pub use level::{Level, cpu_features};
pub(crate) use resample::ResampleKernels;
pub use rgbx::drop_fourth;
