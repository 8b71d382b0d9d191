//! One image, or some of its token rows, resized, pruned and packed.

use crate::error::Result;
use crate::grid::Grid;
use crate::parallel::{Bands, Threads};
use crate::preprocess::job::{Choice, Job, Recipe};
use crate::preprocess::pack::{Packer, rows_of};
use crate::preprocess::resize::Resizer;
use crate::preprocess::way::{Way, band_rows};
use crate::preprocess::window::Window;
use crate::select::{Selection, prune_image};
use crate::simd::pack::PatchValue;
use std::ops::Range;

/// Writes the kept patches of one image to `out`.
pub(super) fn alone<E: PatchValue>(
    job: &Job,
    way: Way,
    recipe: &Recipe<E>,
    threads: Threads,
    out: &mut [E],
) -> Result<Selection> {
    let (token, choice) = (recipe.format.token(), job.choice);
    let packer = Packer::new(recipe, job.grid(token)?.total());
    match way {
        Way::Whole => {
            let (resized, selection) = whole(job, recipe, threads)?;
            let image = job.resized(resized.as_deref())?;
            packer.pack_rows(rows_of(image, &selection.keep, token), out, threads)?;
            Ok(selection)
        }
        Way::Bands | Way::Pieces(_) => {
            let rows = 0..job.height / token;
            packed(job, recipe, rows, choice, threads, &packer, out)?.into_selection()
        }
    }
}

/// Resizes and prunes token rows of an image, a band at a time, and calls `take` with the rows of each band.
///
/// Rows are counted from the first of `rows`. They are pruned as an image of their own.
pub(super) fn selected<E>(
    job: &Job,
    recipe: &Recipe<E>,
    rows: Range<usize>,
    choice: Choice,
    threads: Threads,
    mut take: impl FnMut(&Window, Range<usize>) -> Result<()>,
) -> Result<Window> {
    let (token, Job { image, height, width, pad, .. }) = (recipe.format.token(), *job);
    let mut resizer = Resizer::new(image, height, width, pad, recipe.level)?;
    let grid = Grid::new(1, rows.len(), width / token)?;
    let mut window = Window::new(grid, token, choice, recipe.level, band_rows(width, token, threads))?;
    let bands = Bands { count: if threads.is_parallel() { 2 * threads.count() } else { 1 }, threads };
    while let Some((band, pixels)) = window.next() {
        resizer.rows((rows.start + band.start) * token..(rows.start + band.end) * token, pixels, threads)?;
        window.choose(bands)?;
        take(&window, band)?;
    }
    Ok(window)
}

/// Does the same, and writes the patches of the kept tokens to `out`.
pub(super) fn packed<E: PatchValue>(
    job: &Job,
    recipe: &Recipe<E>,
    rows: Range<usize>,
    choice: Choice,
    threads: Threads,
    packer: &Packer<E>,
    out: &mut [E],
) -> Result<Window> {
    let mut rest = out;
    selected(job, recipe, rows, choice, threads, |window, band| {
        let kept = band.map(|row| window.kept_row(row));
        rest = packer.pack_rows(kept, std::mem::take(&mut rest), threads)?;
        Ok(())
    })
}

/// The selection, and the resized pixels, unless the image has its size already.
pub(super) fn whole<E>(
    job: &Job,
    recipe: &Recipe<E>,
    threads: Threads,
) -> Result<(Option<Vec<u8>>, Selection)> {
    let (token, Job { image, height, width, pad, .. }) = (recipe.format.token(), *job);
    let resized = if job.has_its_size() {
        None
    } else {
        Some(Resizer::new(image, height, width, pad, recipe.level)?.whole(threads)?)
    };
    let selection = job.choice.selection(job.grid(token)?.total(), |settings| {
        prune_image(job.resized(resized.as_deref())?, token, settings, recipe.level, threads)
    })?;
    Ok((resized, selection))
}
