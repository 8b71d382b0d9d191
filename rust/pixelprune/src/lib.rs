//! Drops image patches whose pixels a neighbour predicts, before a vision-language model sees them.
//!
//! The method is PixelPrune (arXiv 2604.00886): predictive coding in pixel space, over tokens of
//! `merge` x `merge` patches. Read [`select::prune_image`] first: it is the whole job in a few lines. The
//! data flows through the modules in this order:
//!
//! [`image`] (borrowed pixels) -> [`grid`] (tokens) -> [`tokens`] (are two similar?) -> [`compare`] (two bit
//! planes) -> [`predictor`] (open loop), [`anchored`] (closed loop), [`path`](mod@path) (runs), [`unique`] or
//! [`baseline`] -> [`select`] (indices). Beside it stand [`metric`] (from a threshold to a budget), [`hash`]
//! (fingerprints), [`patches`] (`pixel_values` instead of an image), [`decode`](mod@decode), [`batch`], and
//! [`simd`], which holds all of the `unsafe`.
//!
//! [`preprocess`](mod@preprocess) does all that a model's image processor does, and prunes on the way, a few
//! token rows at a time: [`resize`] -> `window` (the selection from what is at hand) -> [`pack`] (patches of
//! normalised values). `pieces` shares that among threads.
//!
//! Functions that take [`Threads`](parallel::Threads) run on the caller's thread or share work among those of a
//! [`Pool`](parallel::Pool) that the caller has made. Nothing else starts or uses a thread.
//!
//! ```
//! use pixelprune::{image::ImageView, metric::Metric, parallel::Threads, simd::Level};
//! use pixelprune::select::{Method, Settings, prune_image};
//! # use pixelprune::baseline::Thinning;
//! let white = vec![255; 64 * 96 * 3];
//! let image = ImageView::new(&white, 64, 96, 3, 96 * 3)?;
//! let settings = Settings {
//!     method: Method::Pred2d,
//!     metric: Metric::Max,
//!     threshold: 0.0,
//!     anchored: true,
//!     seed: 42,
//!     thinning: Thinning { sampled: true, skip: None },
//! };
//! let selection = prune_image(image, 32, &settings, Level::detect(), Threads::ONE)?;
//! assert_eq!(selection.keep, [0]);
//! # Ok::<(), pixelprune::error::Error>(())
//! ```
#![deny(unsafe_code)]

pub mod anchored;
pub mod baseline;
pub mod batch;
pub mod compare;
pub mod decode;
pub mod error;
pub mod grid;
pub mod hash;
pub mod image;
mod memory;
pub mod metric;
pub mod pack;
pub mod parallel;
pub mod patches;
pub mod path;
mod pieces;
pub mod predictor;
pub mod preprocess;
mod recipe;
pub mod resize;
mod rounds;
pub mod select;
#[allow(unsafe_code)]
pub mod simd;
pub mod tokens;
pub mod unique;
mod window;
