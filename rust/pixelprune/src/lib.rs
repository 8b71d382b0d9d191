//! Drops image patches whose pixels a neighbour predicts, before a vision-language model sees them.
//!
//! The method is PixelPrune (arXiv 2604.00886): predictive coding in pixel space, over tokens of
//! `merge` x `merge` patches. Read [`select::prune_image`] first: it is the whole job in a few lines.
//!
//! Two jobs, each a folder that reads top to bottom:
//!
//! * [`preprocess`](mod@preprocess): from images to patches, as a model's image processor makes them, pruned on the
//!   way, a band of token rows at a time;
//! * [`select`](mod@select): which tokens are kept.
//!
//! Beside them stand [`pixel_values`] (pruning a processor's finished output), [`hash`] (fingerprints of tokens)
//! and [`batch`]; below them [`image`] (borrowed pixels), [`grid`] (tokens), [`metric`] (from a threshold to a
//! budget), [`parallel`] (threads) and [`simd`], which holds all of the `unsafe`.
//!
//! Functions that take [`Threads`](parallel::Threads) run on the caller's thread or share work among those of a
//! [`Pool`](parallel::Pool) that the caller has made. Nothing else starts or uses a thread.
//!
//! ```
//! use pixelprune::select::{Settings, prune_image};
//! use pixelprune::{image::ImageView, parallel::Threads, simd::Level};
//! let white = vec![255; 64 * 96 * 3];
//! let image = ImageView::new(&white, 64, 96, 3, 96 * 3)?;
//! let selection = prune_image(image, 32, &Settings::default(), Level::detect(), Threads::ONE)?;
//! assert_eq!(selection.keep, [0]);
//! # Ok::<(), pixelprune::error::Error>(())
//! ```
#![deny(unsafe_code)]

pub mod batch;
pub mod error;
pub mod grid;
pub mod hash;
pub mod image;
mod memory;
pub mod metric;
pub mod parallel;
pub mod pixel_values;
pub mod preprocess;
pub mod select;
#[allow(unsafe_code)]
pub mod simd;
