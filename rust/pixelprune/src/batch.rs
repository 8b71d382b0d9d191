//! Many images at once.

use crate::error::Result;
use crate::image::ImageView;
use crate::select::{Selection, Settings, prune_image};
use crate::simd::Level;
use rayon::prelude::*;

/// Prunes images of any sizes; the outcome of each is that of [`prune_image`]. The first error in the order
/// of the images is reported, with the index of its image.
///
/// With more than one of `threads`, must run on a rayon pool; the result does not depend on it.
pub fn prune_batch(
    images: &[ImageView],
    token: usize,
    settings: &Settings,
    level: Level,
    threads: usize,
) -> std::result::Result<Vec<Selection>, (usize, crate::error::Error)> {
    let one = |image: &ImageView| prune_image(*image, token, settings, level, threads);
    let outcomes: Vec<Result<Selection>> =
        if threads > 1 { images.par_iter().map(one).collect() } else { images.iter().map(one).collect() };
    outcomes.into_iter().enumerate().map(|(i, outcome)| outcome.map_err(|error| (i, error))).collect()
}
