//! From pictures to model-ready patches: resize, prune, normalise, pack.

use crate::error::{Error, Result};
use crate::grid::Grid;
use crate::image::ImageView;
use crate::pack::{Packer, RowFormat, Table, TokenRow};
use crate::resize::Resizer;
use crate::select::{Selection, Settings, prune_image};
use crate::simd::pack::{Affine, PatchValue};
use crate::simd::{Level, RGB};
use crate::window::{Choice, Window};
use rayon::prelude::*;

/// Bytes of resized pixels that a thread works on before they are written: what its second-level cache holds.
const ROUND_BYTES: usize = 1 << 18;

/// Resized pictures up to this size are prepared whole where there are several of them and of threads.
const SMALL_BYTES: usize = 1 << 22;

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
        let together = if recipe.threads > 1 { run_of_small(jobs, 4 * recipe.threads) } else { 0 };
        let made = if together > 1 {
            several(&jobs[..together], recipe, rest).map_err(|(i, error)| (first + i, error))?
        } else {
            vec![one(&jobs[0], recipe, rest).map_err(|error| (first, error))?]
        };
        let kept: usize = made.iter().map(|selection| selection.keep.len()).sum();
        rest = &mut rest[kept * recipe.format.token_values()..];
        selections.extend(made);
    }
    Ok(selections)
}

/// How many of the first jobs are small enough to be prepared whole, each by one thread; `most` of them.
fn run_of_small(jobs: &[Job], most: usize) -> usize {
    jobs.iter().take(most).take_while(|job| job.height * job.width * RGB <= SMALL_BYTES).count()
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

fn choice<'a, E>(job: &Job<'a>, recipe: &Recipe<'a, E>) -> Choice<'a> {
    match (job.keep, recipe.settings) {
        (Some(keep), _) => Choice::Given(keep),
        (None, Some(settings)) => Choice::By(settings),
        (None, None) => Choice::Everything,
    }
}

fn packer<'a, E: PatchValue>(recipe: &Recipe<'a, E>, tokens: usize) -> Packer<'a, E> {
    let bytes = size_of::<E>() * recipe.format.token_values() * tokens;
    Packer::new(recipe.format, recipe.table, recipe.affine, recipe.level, bytes > CACHED_BYTES)
}

/// One picture, by all threads.
fn one<E: PatchValue>(job: &Job, recipe: &Recipe<E>, out: &mut [E]) -> Result<Selection> {
    let packer = packer(recipe, job.height * job.width / recipe.format.token().pow(2));
    if !job.has_its_size() && Window::suits(choice(job, recipe)) {
        return in_rounds(job, recipe, &packer, out);
    }
    let (resized, selection) = whole(job, recipe, recipe.threads)?;
    let image = job.resized(resized.as_deref())?;
    pack_all(image, &selection, recipe, &packer, out, recipe.threads > 1);
    Ok(selection)
}

/// Small pictures, each prepared and then packed by one thread.
fn several<E: PatchValue>(
    jobs: &[Job],
    recipe: &Recipe<E>,
    out: &mut [E],
) -> std::result::Result<Vec<Selection>, (usize, Error)> {
    let prepared: Vec<_> = jobs.par_iter().map(|job| whole(job, recipe, 1)).collect();
    let (mut rest, mut work, mut tokens) = (out, Vec::with_capacity(jobs.len()), 0);
    for (i, (job, prepared)) in jobs.iter().zip(prepared).enumerate() {
        let (resized, selection) = prepared.map_err(|error| (i, error))?;
        let (here, after) = rest.split_at_mut(selection.keep.len() * recipe.format.token_values());
        tokens += selection.keep.len();
        work.push((job, resized, selection, here));
        rest = after;
    }
    let packer = packer(recipe, tokens);
    let packed = work.into_par_iter().enumerate().map(|(i, (job, resized, selection, out))| {
        let image = job.resized(resized.as_deref()).map_err(|error| (i, error))?;
        pack_all(image, &selection, recipe, &packer, out, false);
        Ok(selection)
    });
    packed.collect()
}

impl<'a> Job<'a> {
    fn has_its_size(&self) -> bool {
        (self.height, self.width) == (self.image.height(), self.image.width())
    }

    /// The picture in its new size, which is its own if there are no pixels for it.
    fn resized<'b>(&self, pixels: Option<&'b [u8]>) -> Result<ImageView<'b>>
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
fn whole<E: PatchValue>(
    job: &Job,
    recipe: &Recipe<E>,
    threads: usize,
) -> Result<(Option<Vec<u8>>, Selection)> {
    let Job { image, height, width, pad, .. } = *job;
    let resized = if job.has_its_size() {
        None
    } else {
        Some(Resizer::new(image, height, width, pad, recipe.level)?.whole(threads > 1)?)
    };
    let image = job.resized(resized.as_deref())?;
    let token = recipe.format.token();
    let selection = match choice(job, recipe) {
        Choice::By(settings) => prune_image(image, token, settings, recipe.level, threads)?,
        Choice::Given(keep) => Selection { keep: keep.to_vec(), source: None },
        Choice::Everything => {
            Selection::from_source((0..Grid::of_image(&image, token)?.total() as i64).collect())
        }
    };
    Ok((resized, selection))
}

fn pack_all<E: PatchValue>(
    image: ImageView,
    selection: &Selection,
    recipe: &Recipe<E>,
    packer: &Packer<E>,
    out: &mut [E],
    is_parallel: bool,
) {
    let (token, cols) = (recipe.format.token(), image.width() / recipe.format.token());
    let mut rest = out;
    for kept in selection.keep.chunk_by(|&a, &b| a as usize / cols == b as usize / cols) {
        let row = kept[0] as usize / cols;
        let columns: Vec<usize> = kept.iter().map(|&i| i as usize % cols).collect();
        let (here, after) = rest.split_at_mut(kept.len() * recipe.format.token_values());
        let tokens =
            TokenRow { pixels: &image.data()[row * token * image.stride()..], stride: image.stride() };
        packer.pack(tokens, &columns, here, is_parallel);
        rest = after;
    }
}

/// A picture that is resized, pruned and packed a few token rows at a time.
fn in_rounds<E: PatchValue>(
    job: &Job,
    recipe: &Recipe<E>,
    packer: &Packer<E>,
    out: &mut [E],
) -> Result<Selection> {
    let Job { image, height, width, pad, .. } = *job;
    let mut resizer = Resizer::new(image, height, width, pad, recipe.level)?;
    let (token, stride) = (recipe.format.token(), width * RGB);
    let grid = Grid::new(1, height / token, width / token)?;
    let room = recipe.threads * ROUND_BYTES / (token * stride) + 1;
    let mut window = Window::new(grid, token, choice(job, recipe), recipe.level, room);
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
