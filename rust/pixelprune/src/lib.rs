//! Drops image patches whose pixels a neighbour predicts, before a vision-language model sees them.
//!
//! The method is PixelPrune (arXiv 2604.00886): predictive coding in pixel space, over tokens of
//! `merge` x `merge` patches. [`prune`] chooses the tokens of an image, [`preprocess`](fn@preprocess) does all that
//! a model's image processor does and prunes on the way, and [`decode`] restores the sources from the mask and the
//! kept tokens.
//!
//! ```
//! use pixelprune::{ImageView, Settings, Threads, prune};
//! let white = vec![255; 64 * 96 * 3];
//! let image = ImageView::new(&white, 64, 96, 3, 96 * 3)?;
//! let selection = prune(image, 32, &Settings::default(), Threads::ONE)?;
//! assert_eq!(selection.keep, [0]);
//! # Ok::<(), pixelprune::Error>(())
//! ```
//!
//! Functions that take [`Threads`] run on the caller's thread or share work among those of a [`Pool`] that the
//! caller has made. Nothing else starts or uses a thread. Without the feature `rayon`, [`Pool::new`] returns `None`.
//!
//! # Inside
//!
//! Two jobs, each a folder that reads top to bottom: `preprocess` (from images to patches, a band of token rows at
//! a time) and `select` (which tokens are kept; start with `select::prune_image`, which does the whole job in
//! a few lines). Beside them stand `pixel_values` (pruning a processor's finished output), `hash` (fingerprints of
//! tokens) and `batch`; below them `image` (borrowed pixels), `grid` (tokens), `metric` (from a threshold to a
//! budget), `parallel` (threads), `memory` (allocations that may fail) and `simd`, which holds all of the `unsafe`.
#![deny(unsafe_code)]

mod api;
mod batch;
mod error;
mod grid;
mod hash;
mod image;
mod memory;
mod metric;
mod parallel;
mod pixel_values;
mod preprocess;
mod select;
#[allow(unsafe_code)]
mod simd;

pub use api::{decode, preprocess, prune, prune_batch};
pub use error::Error;
pub use grid::{Grid, PatchOrder};
pub use image::ImageView;
pub use metric::Metric;
pub use parallel::{Pool, Threads};
pub use preprocess::{Choice, Job, Recipe, RowFormat, Table, normalised_levels};
pub use select::baseline::Thinning;
pub use select::{Method, Protect, Selection, Settings};
pub use simd::Level;

/// Runs the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Also used by the Python bindings, the tests and the benchmarks. Not part of the public interface: anything here
/// may change in any release.
#[doc(hidden)]
pub mod internals {
    pub use crate::batch::prune_batch;
    pub use crate::error::Result;
    pub use crate::hash::hash_tokens;
    pub use crate::metric::{Budget, Spread};
    pub use crate::parallel::{Bands, Stop};
    pub use crate::pixel_values::{Channel, PatchFormat, PixelValues};
    pub use crate::preprocess::preprocess;
    pub use crate::preprocess::resize::Resizer;
    pub use crate::select::compare::{Reads, planes};
    pub use crate::select::decode::decode;
    pub use crate::select::planes::Planes;
    pub use crate::select::predictor::Predictor;
    pub use crate::select::sweep::sweep_image;
    pub use crate::select::tokens::{ImageTokens, Tokens};
    pub use crate::select::{anchored, image_content, image_planes, is_within, prune_image, select, unique};
    pub use crate::simd::pack::{Affine, PatchValue};
    pub use crate::simd::values::{Bfloat, Element, Half};
    pub use crate::simd::{cpu_features, drop_fourth};
}
