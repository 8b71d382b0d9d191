//! What is to be done: per-image jobs and per-call settings.

use crate::error::{Error, Result};
use crate::grid::{Grid, PatchOrder};
use crate::image::{ImageView, RGB};
use crate::memory;
use crate::select::{Selection, Settings};
use crate::simd::Level;
use crate::simd::pack::Affine;

/// An image and what to do with it.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// RGB pixels.
    pub image: ImageView<'a>,
    /// Height to resize to, a multiple of the token side.
    pub height: usize,
    /// Width to resize to, a multiple of the token side.
    pub width: usize,
    /// Pad by repeating the last row and column instead of resampling.
    pub pad: bool,
    /// Which tokens to keep.
    pub choice: Choice<'a>,
}

/// Which tokens of an image to keep.
#[derive(Debug, Clone, Copy)]
pub enum Choice<'a> {
    /// All of them.
    Everything,
    /// These, ascending.
    Given(&'a [i64]),
    /// Those that their neighbours do not predict.
    By(&'a Settings),
}

impl Choice<'_> {
    /// The selection of `total` tokens; calls `prune` if it depends on the pixels.
    pub(crate) fn selection(
        self,
        total: usize,
        prune: impl FnOnce(&Settings) -> Result<Selection>,
    ) -> Result<Selection> {
        match self {
            Self::Everything => Selection::of_everything(total),
            Self::Given(keep) => Ok(Selection::of(memory::collected(keep.iter().copied())?)),
            Self::By(settings) => prune(settings),
        }
    }
}

/// The settings of a call: the same for all its images.
#[derive(Clone, Copy)]
pub struct Recipe<'a, E> {
    /// What a row of the output looks like.
    pub format: RowFormat,
    /// The value of each 8-bit level.
    pub table: &'a Table<E>,
    /// Center and scale of each channel, if the table holds `(level - center) / scale`. Values are then computed,
    /// which is faster, provided that the results equal the table's.
    pub affine: Option<&'a Affine>,
    /// The vector instructions to use.
    pub level: Level,
    /// Threads share the work of calls with at least this many bytes of resized pixels; `None`: the default.
    pub shared_bytes: Option<usize>,
}

/// What a row of `pixel_values` looks like, and in which order the rows come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowFormat {
    /// Side of a patch in pixels.
    pub patch: usize,
    /// A token is `merge` x `merge` patches.
    pub merge: usize,
    /// How many times the frame is written: (channel, frame, y, x).
    pub frames: usize,
    /// The values of a pixel lie side by side: (y, x, channel); one frame.
    pub channels_last: bool,
    /// Order of the patches.
    pub order: PatchOrder,
}

impl RowFormat {
    /// Refuses a format whose numbers are out of range.
    pub fn check(&self) -> Result<()> {
        let Self { patch, merge, frames, channels_last, .. } = *self;
        let fits = [patch, merge, frames].iter().all(|side| (1..=1 << 10).contains(side));
        if fits && !(channels_last && frames != 1) {
            return Ok(());
        }
        Err(Error::RowFormat { patch, merge, frames })
    }

    /// Side of a token in pixels. Saturates at `usize::MAX`, as the numbers below do.
    #[must_use]
    pub fn token(&self) -> usize {
        self.patch.saturating_mul(self.merge)
    }

    /// Values of a row.
    #[must_use]
    pub fn row(&self) -> usize {
        self.patch.saturating_mul(self.patch).saturating_mul(self.frames).saturating_mul(RGB)
    }

    /// Values of a token.
    #[must_use]
    pub fn token_values(&self) -> usize {
        self.row().saturating_mul(self.merge).saturating_mul(self.merge)
    }
}

/// For each channel, the value of each of the 256 levels.
pub type Table<E> = [[E; 256]; RGB];

/// The table of `(level / 255 - mean) / std` for each channel, computed as the image processors of transformers do.
#[must_use]
pub fn normalised_levels(mean: [f32; RGB], std: [f32; RGB]) -> Table<f32> {
    std::array::from_fn(|c| std::array::from_fn(|level| (level as f32 - mean[c] * 255.0) / (std[c] * 255.0)))
}

impl<'a, E> Recipe<'a, E> {
    /// A recipe that uses the best vector instructions of this CPU.
    #[must_use]
    pub fn new(format: RowFormat, table: &'a Table<E>) -> Self {
        Self { format, table, affine: None, level: Level::detect(), shared_bytes: None }
    }
}

impl<'a> Job<'a> {
    /// Whether there is nothing to resize.
    pub(crate) fn has_its_size(&self) -> bool {
        (self.height, self.width) == (self.image.height(), self.image.width())
    }

    /// Bytes of the resized image.
    pub(crate) fn bytes(&self) -> usize {
        self.height * self.width * RGB
    }

    /// The grid of the resized image.
    pub(crate) fn grid(&self, token: usize) -> Result<Grid> {
        Grid::new(1, self.height / token, self.width / token)
    }

    /// The resized image: `pixels`, or the image itself if there are none.
    pub(crate) fn resized<'b>(&self, pixels: Option<&'b [u8]>) -> Result<ImageView<'b>>
    where
        'a: 'b,
    {
        match pixels {
            Some(pixels) => ImageView::new(pixels, self.height, self.width, RGB, self.width * RGB),
            None => Ok(self.image),
        }
    }
}
