//! From images to model-ready patches: resize, prune, normalise, pack.
//!
//! [`job`] says what to do, and [`way`] decides how each image is processed. [`bands`] processes one image, a band of
//! token rows at a time; [`pieces`] processes several side by side. Both resize ([`resize`]), prune ([`window`], which
//! holds a few token rows) and pack ([`pack`]).

mod bands;
mod job;
mod pack;
mod pieces;
pub mod resize;
mod way;
mod window;

pub use job::{Choice, Job, Recipe, RowFormat, Table, normalised_levels};

use crate::error::{Error, Result};
use crate::grid::Grid;
use crate::memory;
use crate::parallel::{Stop, Threads};
use crate::select::Selection;
use crate::simd::pack::PatchValue;
use resize::Resizer;
use way::Turn;

/// Writes the kept patches of all images to `out`, one image after the other, and returns what was kept.
///
/// `out` needs room for all patches of all images, kept or not; values after the kept ones are left as they are.
/// Arguments are checked before anything is written. If memory runs out, or `stop` ends the call, some patches may
/// have been written.
pub fn preprocess<E: PatchValue>(
    jobs: &[Job],
    recipe: &Recipe<E>,
    threads: Threads,
    out: &mut [E],
    stop: Stop,
) -> Result<Vec<Selection>> {
    check_all(jobs, recipe, out)?;
    let threads = way::threads(jobs, recipe.shared_bytes, threads);
    let mut selections = memory::with_room(jobs.len())?;
    let mut rest = out;
    while selections.len() < jobs.len() {
        let first = selections.len();
        if first > 0 && stop() {
            return Err(Error::Stopped);
        }
        let jobs = &jobs[first..];
        let turn = Turn::next(jobs, recipe.format.token(), threads)?;
        let made = threads.run(|| match &turn {
            Turn::Alone(way) => {
                let selection = bands::alone(&jobs[0], *way, recipe, threads, rest);
                memory::collected(std::iter::once(selection.map_err(|error| error.of_image(0))?))
            }
            Turn::SideBySide(ways) => pieces::side_by_side(&jobs[..ways.len()], ways, recipe, threads, rest),
        });
        selections.extend(made.map_err(|error| error.after(first))?);
        let kept: usize = selections[first..].iter().map(|selection: &Selection| selection.keep.len()).sum();
        rest = &mut rest[kept * recipe.format.token_values()..];
    }
    Ok(selections)
}

fn check_all<E>(jobs: &[Job], recipe: &Recipe<E>, out: &[E]) -> Result<()> {
    let mut needed = 0usize;
    for (i, job) in jobs.iter().enumerate() {
        let grid = check(job, recipe).map_err(|error| error.of_image(i))?;
        needed = grid
            .total()
            .checked_mul(recipe.format.token_values())
            .and_then(|values| needed.checked_add(values))
            .ok_or(Error::TooMany)?;
    }
    if out.len() < needed {
        return Err(Error::Output { found: out.len(), needed });
    }
    Ok(())
}

fn check<E>(job: &Job, recipe: &Recipe<E>) -> Result<Grid> {
    recipe.format.check()?;
    let (token, Job { height, width, .. }) = (recipe.format.token(), *job);
    if height == 0 || width == 0 || height % token != 0 || width % token != 0 {
        return Err(Error::PartialTokens { size: [height, width], token });
    }
    Resizer::check(&job.image, height, width, job.pad)?;
    let grid = Grid::new(1, height / token, width / token)?;
    let ascends = |keep: &[i64]| keep.is_sorted_by(|a, b| a < b);
    let fits = |keep: &[i64]| keep.iter().all(|&i| (0..grid.total() as i64).contains(&i));
    match job.choice {
        Choice::By(settings) => settings.check()?,
        Choice::Given(keep) if keep.is_empty() || !ascends(keep) || !fits(keep) => {
            return Err(Error::Keep { kept: keep.len(), total: grid.total() });
        }
        Choice::Given(_) | Choice::Everything => {}
    }
    Ok(grid)
}
