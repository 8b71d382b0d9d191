//! The public functions, which use the vector instructions of this CPU.

use crate::batch;
use crate::error::{Error, Result};
use crate::grid::Grid;
use crate::image::ImageView;
use crate::memory;
use crate::metric::Budget;
use crate::parallel::Threads;
use crate::preprocess::{self, Job, Recipe};
use crate::select::decode::decode as decode_mask;
use crate::select::{Selection, Settings, prune_image};
use crate::simd::Level;
use crate::simd::pack::PatchValue;

/// Chooses the tokens of a uint8 image that its neighbours do not predict.
///
/// A token is `token` x `token` pixels; both sides of the image are multiples of it. The result does not depend on
/// `threads`.
///
/// ```
/// use pixelprune::{ImageView, Settings, Threads, prune};
/// let mut page = vec![255; 64 * 64];
/// page[64 * 32 + 40] = 0; // a dot in the last token
/// let page = ImageView::new(&page, 64, 64, 1, 64)?;
/// assert_eq!(prune(page, 32, &Settings::default(), Threads::ONE)?.keep, [0, 3]);
/// # Ok::<(), pixelprune::Error>(())
/// ```
pub fn prune(image: ImageView, token: usize, settings: &Settings, threads: Threads) -> Result<Selection> {
    prune_image(image, token, settings, Level::detect(), threads)
}

/// Prunes images of any sizes; each outcome is the same as from [`prune`].
///
/// An error is an [`Error::Image`], about the first image in order that can't be pruned.
///
/// ```
/// use pixelprune::{Error, ImageView, Pool, Settings, Threads, prune_batch};
/// let pixels = vec![0; 96 * 64];
/// let images = [ImageView::new(&pixels, 64, 64, 1, 64)?, ImageView::new(&pixels, 64, 96, 1, 96)?];
/// let pool = Pool::new(2);
/// let threads = pool.as_ref().map_or(Threads::ONE, Pool::threads);
/// let selections = prune_batch(&images, 32, &Settings::default(), threads)?;
/// assert_eq!(selections[1].keep, [0]);
/// let error = prune_batch(&images, 64, &Settings::default(), threads).unwrap_err();
/// assert!(matches!(error, Error::Image { index: 1, .. }));
/// # Ok::<(), Error>(())
/// ```
pub fn prune_batch(
    images: &[ImageView],
    token: usize,
    settings: &Settings,
    threads: Threads,
) -> Result<Vec<Selection>> {
    batch::prune_batch(images, token, settings, Level::detect(), threads, &mut || false)
}

/// Resizes, prunes, normalises and packs images: writes the kept patches of all images to `out`, one image after
/// the other, and returns what was kept.
///
/// `out` needs room for all patches of all images, kept or not. Values after the kept ones are left as they are.
/// Arguments are checked before anything is written.
///
/// ```
/// use pixelprune::{Choice, ImageView, Job, PatchOrder, Recipe, RowFormat, Settings, Threads, normalised_levels, preprocess};
/// let page = vec![255; 50 * 60 * 3];
/// let image = ImageView::new(&page, 50, 60, 3, 60 * 3)?;
/// let format = RowFormat { patch: 16, merge: 2, frames: 2, channels_last: false, order: PatchOrder::Block };
/// let levels = normalised_levels([0.5; 3], [0.5; 3]);
/// let settings = Settings::default();
/// let recipe = Recipe::new(format, &levels);
/// let mut out = vec![0.0; 4 * format.token_values()];
/// let job = Job { image, height: 64, width: 64, pad: false, choice: Choice::By(&settings) };
/// let selections = preprocess(&[job], &recipe, Threads::ONE, &mut out)?;
/// assert_eq!(selections[0].keep, [0]);
/// assert!(out[..format.token_values()].iter().all(|&value| value == 1.0));
/// # Ok::<(), pixelprune::Error>(())
/// ```
pub fn preprocess<E: PatchValue>(
    jobs: &[Job],
    recipe: &Recipe<E>,
    threads: Threads,
    out: &mut [E],
) -> Result<Vec<Selection>> {
    preprocess::preprocess(jobs, recipe, threads, out, &mut || false)
}

/// The source of every token, as its rank among the kept tokens.
///
/// `kept` is the stack of kept tokens as an image of one token's width. A decoder repeats every decision of the
/// encoder, so this takes `pred_2d`, `raster` or `serpentine`, in closed loop or without loss.
///
/// ```
/// use pixelprune::{Grid, ImageView, Settings, decode};
/// let kept = vec![7; 32 * 32]; // one token
/// let kept = ImageView::new(&kept, 32, 32, 1, 32)?;
/// let mask = [true, false, false, false];
/// assert_eq!(decode(&mask, Grid::new(1, 2, 2)?, kept, &Settings::default())?, [0, 0, 0, 0]);
/// # Ok::<(), pixelprune::Error>(())
/// ```
pub fn decode(mask: &[bool], grid: Grid, kept: ImageView, settings: &Settings) -> Result<Vec<i64>> {
    settings.check()?;
    if !settings.anchored && settings.threshold > 0.0 {
        return Err(Error::OpenLoop { threshold: settings.threshold });
    }
    let budget = Budget::of_token(settings.metric, settings.threshold, kept.width(), kept.channels())?;
    let mask = memory::collected(mask.iter().map(|&kept| u8::from(kept)))?;
    decode_mask(&mask, grid, kept, budget, settings.method, Level::detect())
}
