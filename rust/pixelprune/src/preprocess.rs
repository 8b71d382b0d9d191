//! From pictures to model-ready patches: resize, prune, normalise, pack.

use crate::error::{Error, Result};
use crate::grid::Grid;
use crate::image::ImageView;
use crate::pack::{Packer, RowFormat, Table, TokenRow, columns_by_row};
use crate::resize::Resizer;
use crate::select::{Selection, Settings, prune_image};
use crate::simd::pack::{Affine, PatchValue};
use crate::simd::{Level, RGB};
use crate::window::{Choice, Window};

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
    for (i, job) in jobs.iter().enumerate() {
        let selection = one(job, recipe, rest).map_err(|error| (i, error))?;
        rest = &mut rest[selection.keep.len() * recipe.format.token_values()..];
        selections.push(selection);
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

fn one<E: PatchValue>(job: &Job, recipe: &Recipe<E>, out: &mut [E]) -> Result<Selection> {
    let Job { image, height, width, pad, keep } = *job;
    let choice = match (keep, recipe.settings) {
        (Some(keep), _) => Choice::Given(keep),
        (None, Some(settings)) => Choice::By(settings),
        (None, None) => Choice::Everything,
    };
    let bytes =
        size_of::<E>() * recipe.format.token_values() * (height * width / recipe.format.token().pow(2));
    let packer = Packer::new(recipe.format, recipe.table, recipe.affine, recipe.level, bytes > CACHED_BYTES);
    if (height, width) == (image.height(), image.width()) {
        return in_place(image, choice, recipe, &packer, out);
    }
    let mut resizer = Resizer::new(image, height, width, pad, recipe.level)?;
    if Window::suits(choice) {
        return in_rounds(resizer, (height, width), choice, recipe, &packer, out);
    }
    let resized = resizer.whole(recipe.threads > 1)?;
    in_place(ImageView::new(&resized, height, width, RGB, width * RGB)?, choice, recipe, &packer, out)
}

/// A picture that has its size already.
fn in_place<E: PatchValue>(
    image: ImageView,
    choice: Choice,
    recipe: &Recipe<E>,
    packer: &Packer<E>,
    out: &mut [E],
) -> Result<Selection> {
    let token = recipe.format.token();
    let grid = Grid::of_image(&image, token)?;
    let selection = match choice {
        Choice::By(settings) => prune_image(image, token, settings, recipe.level, recipe.threads)?,
        Choice::Given(keep) => Selection { keep: keep.to_vec(), source: None },
        Choice::Everything => Selection::from_source((0..grid.total() as i64).collect()),
    };
    let mut rest = out;
    for (row, kept) in columns_by_row(&selection.keep, grid).iter().enumerate() {
        let (here, after) = rest.split_at_mut(kept.len() * recipe.format.token_values());
        let tokens =
            TokenRow { pixels: &image.data()[row * token * image.stride()..], stride: image.stride() };
        packer.pack(tokens, kept, here, recipe.threads > 1);
        rest = after;
    }
    Ok(selection)
}

/// A picture that is resized, pruned and packed a few token rows at a time.
fn in_rounds<E: PatchValue>(
    mut resizer: Resizer,
    (height, width): (usize, usize),
    choice: Choice,
    recipe: &Recipe<E>,
    packer: &Packer<E>,
    out: &mut [E],
) -> Result<Selection> {
    let (token, stride) = (recipe.format.token(), width * RGB);
    let grid = Grid::new(1, height / token, width / token)?;
    let room = recipe.threads * ROUND_BYTES / (token * stride) + 1;
    let mut window = Window::new(grid, token, choice, recipe.level, room);
    let is_parallel = recipe.threads > 1;
    let mut rest = out;
    let mut kept = Vec::new();
    while let Some((rows, pixels)) = window.next() {
        resizer.rows(rows.start * token..rows.end * token, pixels, is_parallel);
        window.choose(if is_parallel { 2 * recipe.threads } else { 1 })?;
        for row in rows {
            window.kept(row, &mut kept);
            let (here, after) = rest.split_at_mut(kept.len() * recipe.format.token_values());
            packer.pack(TokenRow { pixels: window.pixels(row), stride }, &kept, here, is_parallel);
            rest = after;
        }
    }
    Ok(window.into_selection())
}
