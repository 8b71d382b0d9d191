//! From pictures to model-ready patches: resize, prune, normalise, pack.

use crate::error::{Error, Result};
use crate::grid::Grid;
use crate::image::ImageView;
use crate::pack::{Packer, RowFormat, Table, TokenRow};
use crate::pieces;
use crate::resize::Resizer;
use crate::select::{Selection, Settings, prune_image};
use crate::simd::pack::{Affine, PatchValue};
use crate::simd::{Level, RGB};
use crate::window::{Choice, Window};
use rayon::prelude::*;
use std::ops::Range;

/// Bytes of resized pixels that a thread works on before they are written: what its second-level cache holds.
const ROUND_BYTES: usize = 1 << 18;

/// Output up to this size is written through the caches, where its reader may still find it.
const CACHED_BYTES: usize = 1 << 22;

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
    /// With more than one, runs on the rayon pool that the caller is in.
    pub threads: usize,
}

/// Writes the kept patches of all pictures to `out`, one picture after the other, and returns what was kept.
///
/// `out` needs room for all patches of all pictures, kept or not; what lies behind the kept ones is left as
/// it is. An error comes with the index of its picture; it is found before anything is written.
pub fn preprocess<E: PatchValue>(
    jobs: &[Job],
    recipe: &Recipe<E>,
    out: &mut [E],
) -> std::result::Result<Vec<Selection>, (usize, Error)> {
    let mut needed = 0usize;
    for (i, job) in jobs.iter().enumerate() {
        let grid = check(job, recipe).map_err(|error| (i, error))?;
        needed = grid
            .total()
            .checked_mul(recipe.format.token_values())
            .and_then(|values| needed.checked_add(values))
            .ok_or_else(|| (i, Error::Shape("the pictures have more values than can be counted".into())))?;
    }
    if out.len() < needed {
        return Err((0, Error::Shape(format!("out has {} values; expected at least {needed}", out.len()))));
    }
    let mut selections = Vec::with_capacity(jobs.len());
    let mut rest = out;
    while let Some(first) = (selections.len() < jobs.len()).then_some(selections.len()) {
        let jobs = &jobs[first..];
        let made = match pieces::together(jobs, recipe) {
            0 => vec![one(&jobs[0], recipe, rest).map_err(|error| (first, error))?],
            count => {
                pieces::preprocess(&jobs[..count], recipe, rest).map_err(|(i, error)| (first + i, error))?
            }
        };
        let kept: usize = made.iter().map(|selection| selection.keep.len()).sum();
        rest = &mut rest[kept * recipe.format.token_values()..];
        selections.extend(made);
    }
    Ok(selections)
}

fn check<E>(job: &Job, recipe: &Recipe<E>) -> Result<Grid> {
    recipe.format.check()?;
    if let Some(settings) = recipe.settings {
        settings.check()?;
    }
    let (token, Job { height, width, .. }) = (recipe.format.token(), *job);
    if height == 0 || width == 0 || height % token != 0 || width % token != 0 {
        return Err(Error::Shape(format!(
            "the picture is to be {height} x {width} (height x width); expected multiples of the token side, {token} \
             pixels"
        )));
    }
    let (from_height, from_width) = (job.image.height(), job.image.width());
    if job.pad && (from_height > height || from_width > width) {
        return Err(Error::Shape(format!(
            "can't pad {from_height} x {from_width} to {height} x {width} (height x width); expected a larger size"
        )));
    }
    Resizer::check(&job.image, height, width)?;
    let grid = Grid::new(1, height / token, width / token)?;
    let ascends = |keep: &[i64]| keep.is_sorted_by(|a, b| a < b);
    let fits = |keep: &[i64]| keep.iter().all(|&i| (0..grid.total() as i64).contains(&i));
    match job.keep {
        Some(keep) if keep.is_empty() || !ascends(keep) || !fits(keep) => Err(Error::Shape(format!(
            "the {} kept tokens do not ascend from 0 to {} at most; expected at least one, each once, in order",
            keep.len(),
            grid.total() - 1
        ))),
        _ => Ok(grid),
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

pub(crate) fn packer<'a, E: PatchValue>(recipe: &Recipe<'a, E>, tokens: usize) -> Packer<'a, E> {
    let bytes = size_of::<E>() * recipe.format.token_values() * tokens;
    Packer::new(recipe.format, recipe.table, recipe.affine, recipe.level, bytes > CACHED_BYTES)
}

/// One picture, after another if there are more.
fn one<E: PatchValue>(job: &Job, recipe: &Recipe<E>, out: &mut [E]) -> Result<Selection> {
    let packer = packer(recipe, job.height * job.width / recipe.format.token().pow(2));
    let parallel = recipe.threads > 1;
    if !is_for_rounds(job, recipe) {
        let (resized, selection) = whole(job, recipe)?;
        let image = job.resized(resized.as_deref())?;
        pack(rows_of(image, &selection.keep, recipe.format.token()), &packer, out, parallel);
        return Ok(selection);
    }
    let rows = 0..job.height / recipe.format.token();
    let mut rest = out;
    let window = in_rounds(job, recipe, rows, choice(job, recipe), |window, rows| {
        rest = pack(rows.map(|row| window.kept_row(row)), &packer, std::mem::take(&mut rest), parallel);
    })?;
    Ok(window.into_selection())
}

/// What is kept, or the settings that make it depend on the pixels.
pub(crate) fn known<'a, E>(
    job: &Job<'a>,
    recipe: &Recipe<'a, E>,
) -> std::result::Result<Selection, &'a Settings> {
    match choice(job, recipe) {
        Choice::By(settings) => Err(settings),
        Choice::Given(keep) => Ok(Selection { keep: keep.to_vec(), source: None }),
        Choice::Everything => {
            let total = job.height * job.width / recipe.format.token().pow(2);
            Ok(Selection::from_source((0..total as i64).collect()))
        }
    }
}

/// Whether a picture is best resized and pruned a few token rows at a time.
pub(crate) fn is_for_rounds<E>(job: &Job, recipe: &Recipe<E>) -> bool {
    !job.has_its_size() && Window::suits(choice(job, recipe))
}

impl<'a> Job<'a> {
    fn has_its_size(&self) -> bool {
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

/// The resized pixels, unless the picture has its size already, and what is kept.
pub(crate) fn whole<E: PatchValue>(job: &Job, recipe: &Recipe<E>) -> Result<(Option<Vec<u8>>, Selection)> {
    let Job { image, height, width, pad, .. } = *job;
    let resized = if job.has_its_size() {
        None
    } else {
        Some(Resizer::new(image, height, width, pad, recipe.level)?.whole(recipe.threads > 1)?)
    };
    let selection = match known(job, recipe) {
        Ok(selection) => selection,
        Err(settings) => {
            let image = job.resized(resized.as_deref())?;
            prune_image(image, recipe.format.token(), settings, recipe.level, recipe.threads)?
        }
    };
    Ok((resized, selection))
}

/// A token row and the columns of its kept tokens.
pub(crate) type KeptRow<'a> = (TokenRow<'a>, Vec<usize>);

/// The token rows of a picture that have kept tokens, of which `keep` are all that are asked for.
pub(crate) fn rows_of<'a>(
    image: ImageView<'a>,
    keep: &'a [i64],
    token: usize,
) -> impl Iterator<Item = KeptRow<'a>> {
    let (cols, stride) = (image.width() / token, image.stride());
    keep.chunk_by(move |&a, &b| a as usize / cols == b as usize / cols).map(move |kept| {
        let first = kept[0] as usize / cols;
        let columns = kept.iter().map(|&i| i as usize % cols).collect();
        let pixels = &image.data()[first * token * stride..];
        (TokenRow { pixels, step: token * RGB, stride }, columns)
    })
}

/// Writes the kept tokens of some rows one after the other, and returns what is left of `out`.
///
/// With `parallel`, runs on the rayon pool that the caller is in.
pub(crate) fn pack<'a, 'o, E: PatchValue>(
    rows: impl Iterator<Item = KeptRow<'a>>,
    packer: &Packer<E>,
    out: &'o mut [E],
    parallel: bool,
) -> &'o mut [E] {
    let mut rest = out;
    let mut work = Vec::new();
    for (row, columns) in rows {
        let (here, after) = rest.split_at_mut(columns.len() * packer.token_values());
        rest = after;
        if parallel {
            work.push((row, columns, here));
        } else {
            packer.pack(row, &columns, here);
        }
    }
    work.par_iter_mut().for_each(|(row, columns, out)| {
        let at_once = packer.at_once(columns.len());
        let chunks = out.par_chunks_mut(at_once * packer.token_values());
        columns.par_chunks(at_once).zip(chunks).for_each(|(columns, out)| packer.pack(*row, columns, out));
    });
    rest
}

/// Resizes and prunes token rows of a picture, a few at a time; `take` gets the rows of each round.
///
/// Rows are counted from 0 for the first of them. What is chosen is what would be in the whole picture, if that
/// depends on no more than the row above.
pub(crate) fn in_rounds<E: PatchValue>(
    job: &Job,
    recipe: &Recipe<E>,
    rows: Range<usize>,
    choice: Choice,
    mut take: impl FnMut(&Window, Range<usize>),
) -> Result<Window> {
    let Job { image, height, width, pad, .. } = *job;
    let mut resizer = Resizer::new(image, height, width, pad, recipe.level)?;
    let (token, stride) = (recipe.format.token(), width * RGB);
    let grid = Grid::new(1, rows.len(), width / token)?;
    let room = recipe.threads * ROUND_BYTES / (token * stride) + 1;
    let mut window = Window::new(grid, token, choice, recipe.level, room);
    let is_parallel = recipe.threads > 1;
    while let Some((round, pixels)) = window.next() {
        let from = (rows.start + round.start) * token..(rows.start + round.end) * token;
        resizer.rows(from, pixels, is_parallel);
        window.choose(if is_parallel { 2 * recipe.threads } else { 1 })?;
        take(&window, round);
    }
    Ok(window)
}
