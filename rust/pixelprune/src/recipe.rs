//! What is to be done with pictures.

use crate::error::Result;
use crate::image::ImageView;
use crate::pack::{RowFormat, Table};
use crate::parallel::Threads;
use crate::select::Settings;
use crate::simd::pack::Affine;
use crate::simd::{Level, RGB};
use crate::window::{Choice, Window};

/// A picture and what becomes of it.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// RGB pixels.
    pub image: ImageView<'a>,
    /// Height to bring it to, a multiple of the token side.
    pub height: usize,
    /// Width to bring it to, a multiple of the token side.
    pub width: usize,
    /// Fill up by repeating the last row and column instead of resampling.
    pub pad: bool,
    /// Keep these tokens, ascending, instead of asking the recipe's settings.
    pub keep: Option<&'a [i64]>,
}

/// What is the same for all pictures of a call.
#[derive(Clone, Copy)]
pub struct Recipe<'a, E> {
    /// What a row of the output looks like.
    pub format: RowFormat,
    /// What each level becomes.
    pub table: &'a Table<E>,
    /// Center and scale of each channel, if the table is that of `(level - center) / scale`: then values are
    /// computed, which is faster, provided that they come out the same.
    pub affine: Option<&'a Affine>,
    /// How to prune; `None` keeps everything.
    pub settings: Option<&'a Settings>,
    /// The vector instructions to use.
    pub level: Level,
    /// The threads that share the work.
    pub threads: Threads<'a>,
}

impl<'a> Job<'a> {
    pub(crate) fn has_its_size(&self) -> bool {
        (self.height, self.width) == (self.image.height(), self.image.width())
    }

    /// The picture in its new size, which is its own if there are no pixels for it.
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

impl<E> Recipe<'_, E> {
    /// Tokens of a picture in its new size.
    pub(crate) fn tokens(&self, job: &Job) -> usize {
        job.height * job.width / self.format.token().pow(2)
    }
}

/// How the tokens of a picture are chosen.
pub(crate) fn choice<'a, E>(job: &Job<'a>, recipe: &Recipe<'a, E>) -> Choice<'a> {
    match (job.keep, recipe.settings) {
        (Some(keep), _) => Choice::Given(keep),
        (None, Some(settings)) => Choice::By(settings),
        (None, None) => Choice::Everything,
    }
}

/// Whether a picture is best resized and pruned a few token rows at a time.
pub(crate) fn is_for_rounds<E>(job: &Job, recipe: &Recipe<E>) -> bool {
    !job.has_its_size() && Window::suits(choice(job, recipe))
}
