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

/// Resized pictures up to this size are a thread's own work where there are several of them and of threads.
const SMALL_BYTES: usize = 1 << 22;

/// The same where there are at least as many of them as threads.
const MEDIUM_BYTES: usize = 1 << 24;

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
        let together = if recipe.threads > 1 { run_of_small(jobs, recipe.threads) } else { 0 };
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

/// How many of the first jobs are to be done side by side, each by one thread.
fn run_of_small(jobs: &[Job], threads: usize) -> usize {
    let up_to = |size| {
        let first = jobs.iter().take(4 * threads);
        first.take_while(|job| job.height * job.width * RGB <= size).count()
    };
    let medium = up_to(MEDIUM_BYTES);
    if medium < threads { up_to(SMALL_BYTES) } else { medium }
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
    if is_for_rounds(job, recipe) {
        return packed_in_rounds(job, recipe, &packer, out);
    }
    let (resized, selection) = whole(job, recipe)?;
    let image = job.resized(resized.as_deref())?;
    pack_all(image, &selection, recipe, &packer, out);
    Ok(selection)
}

/// What a picture has become before it is known where its patches go.
enum Prepared {
    /// Nothing: what is kept is known without.
    Known,
    /// Pixels of the kept tokens: those of the first token row side by side, then those of the next.
    Kept(Vec<u8>),
    /// All pixels in the new size, unless the picture has its size already.
    Whole(Option<Vec<u8>>),
}

/// Pictures side by side, each by one thread.
///
/// A picture's patches follow those of the picture before, so that all are pruned first and then packed. In
/// between wait the pixels of kept tokens, a fraction of what their patches take.
fn several<E: PatchValue>(
    jobs: &[Job],
    recipe: &Recipe<E>,
    out: &mut [E],
) -> std::result::Result<Vec<Selection>, (usize, Error)> {
    let recipe = &Recipe { threads: 1, ..*recipe };
    let prepared: Vec<_> = jobs.par_iter().map(|job| prepare(job, recipe)).collect();
    let (mut rest, mut work, mut tokens) = (out, Vec::with_capacity(jobs.len()), 0);
    for (i, (job, prepared)) in jobs.iter().zip(prepared).enumerate() {
        let (prepared, selection) = prepared.map_err(|error| (i, error))?;
        let (here, after) = rest.split_at_mut(selection.keep.len() * recipe.format.token_values());
        tokens += selection.keep.len();
        work.push((job, prepared, selection, here));
        rest = after;
    }
    let packer = packer(recipe, tokens);
    let packed = work.into_par_iter().enumerate().map(|(i, (job, prepared, selection, out))| {
        match prepared {
            Prepared::Known => packed_in_rounds(job, recipe, &packer, out).map(drop),
            Prepared::Kept(pixels) => {
                pack_kept(&pixels, &selection, job.width / recipe.format.token(), recipe, &packer, out);
                Ok(())
            }
            Prepared::Whole(pixels) => {
                job.resized(pixels.as_deref()).map(|image| pack_all(image, &selection, recipe, &packer, out))
            }
        }
        .map_err(|error| (i, error))?;
        Ok(selection)
    });
    packed.collect()
}

fn prepare<E: PatchValue>(job: &Job, recipe: &Recipe<E>) -> Result<(Prepared, Selection)> {
    if !is_for_rounds(job, recipe) {
        let (resized, selection) = whole(job, recipe)?;
        return Ok((Prepared::Whole(resized), selection));
    }
    if let Ok(selection) = known(job, recipe) {
        return Ok((Prepared::Known, selection));
    }
    let segment = recipe.format.token() * RGB;
    let mut pixels = Vec::new();
    let selection = in_rounds(job, recipe, |tokens, kept| {
        for row in tokens.pixels.chunks(tokens.stride) {
            for &column in kept {
                pixels.extend_from_slice(&row[column * segment..][..segment]);
            }
        }
    })?;
    Ok((Prepared::Kept(pixels), selection))
}

/// What is kept, or the settings that make it depend on the pixels.
fn known<'a, E>(job: &Job<'a>, recipe: &Recipe<'a, E>) -> std::result::Result<Selection, &'a Settings> {
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
fn is_for_rounds<E>(job: &Job, recipe: &Recipe<E>) -> bool {
    !job.has_its_size() && Window::suits(choice(job, recipe))
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
fn whole<E: PatchValue>(job: &Job, recipe: &Recipe<E>) -> Result<(Option<Vec<u8>>, Selection)> {
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

/// The kept tokens of a picture.
fn pack_all<E: PatchValue>(
    image: ImageView,
    selection: &Selection,
    recipe: &Recipe<E>,
    packer: &Packer<E>,
    out: &mut [E],
) {
    let (token, cols) = (recipe.format.token(), image.width() / recipe.format.token());
    let mut rest = out;
    for kept in rows_of(selection, cols) {
        let row = kept[0] as usize / cols;
        let columns: Vec<usize> = kept.iter().map(|&i| i as usize % cols).collect();
        let tokens =
            TokenRow { pixels: &image.data()[row * token * image.stride()..], stride: image.stride() };
        let (here, after) = std::mem::take(&mut rest).split_at_mut(kept.len() * recipe.format.token_values());
        packer.pack(tokens, &columns, here, recipe.threads > 1);
        rest = after;
    }
}

/// The same from `Prepared::Kept`.
fn pack_kept<E: PatchValue>(
    mut pixels: &[u8],
    selection: &Selection,
    cols: usize,
    recipe: &Recipe<E>,
    packer: &Packer<E>,
    out: &mut [E],
) {
    let token = recipe.format.token();
    let columns: Vec<usize> = (0..cols).collect();
    let mut rest = out;
    for kept in rows_of(selection, cols) {
        let stride = kept.len() * token * RGB;
        let (here, after) = std::mem::take(&mut rest).split_at_mut(kept.len() * recipe.format.token_values());
        packer.pack(TokenRow { pixels, stride }, &columns[..kept.len()], here, false);
        rest = after;
        pixels = &pixels[token * stride..];
    }
}

/// The kept tokens of every token row that has some.
fn rows_of(selection: &Selection, cols: usize) -> impl Iterator<Item = &[i64]> {
    selection.keep.chunk_by(move |&a, &b| a as usize / cols == b as usize / cols)
}

/// A picture that is resized, pruned and packed a few token rows at a time.
fn packed_in_rounds<E: PatchValue>(
    job: &Job,
    recipe: &Recipe<E>,
    packer: &Packer<E>,
    out: &mut [E],
) -> Result<Selection> {
    let mut rest = out;
    in_rounds(job, recipe, |tokens, kept| {
        let (here, after) = std::mem::take(&mut rest).split_at_mut(kept.len() * recipe.format.token_values());
        packer.pack(tokens, kept, here, recipe.threads > 1);
        rest = after;
    })
}

/// Resizes and prunes a picture a few token rows at a time; `take` gets each with the columns of its kept tokens.
fn in_rounds<E: PatchValue>(
    job: &Job,
    recipe: &Recipe<E>,
    mut take: impl FnMut(TokenRow, &[usize]),
) -> Result<Selection> {
    let Job { image, height, width, pad, .. } = *job;
    let mut resizer = Resizer::new(image, height, width, pad, recipe.level)?;
    let (token, stride) = (recipe.format.token(), width * RGB);
    let grid = Grid::new(1, height / token, width / token)?;
    let room = recipe.threads * ROUND_BYTES / (token * stride) + 1;
    let mut window = Window::new(grid, token, choice(job, recipe), recipe.level, room);
    let is_parallel = recipe.threads > 1;
    let mut kept = Vec::new();
    while let Some((rows, pixels)) = window.next() {
        resizer.rows(rows.start * token..rows.end * token, pixels, is_parallel);
        window.choose(if is_parallel { 2 * recipe.threads } else { 1 })?;
        for row in rows {
            window.kept(row, &mut kept);
            take(TokenRow { pixels: window.pixels(row), stride }, &kept);
        }
    }
    Ok(window.into_selection())
}
