//! One picture: resized and pruned, a few token rows at a time or whole.

use crate::error::Result;
use crate::grid::Grid;
use crate::pack::Packer;
use crate::parallel::Bands;
use crate::recipe::{Job, Recipe, choice};
use crate::resize::Resizer;
use crate::select::{Selection, prune_image};
use crate::simd::RGB;
use crate::simd::pack::PatchValue;
use crate::window::{Choice, Window};
use std::ops::Range;

/// Bytes of resized pixels that a thread works on before they are written: what its second-level cache holds.
const ROUND_BYTES: usize = 1 << 18;

/// Resizes and prunes token rows of a picture, a few at a time; `take` gets the rows of each round.
///
/// Rows are counted from 0 for the first of them. What is chosen is what would be in the whole picture, if that
/// depends on no more than the row above.
pub(crate) fn in_rounds<E>(
    job: &Job,
    recipe: &Recipe<E>,
    rows: Range<usize>,
    wanted: Choice,
    mut take: impl FnMut(&Window, Range<usize>) -> Result<()>,
) -> Result<Window> {
    let Job { image, height, width, pad, .. } = *job;
    let mut resizer = Resizer::new(image, height, width, pad, recipe.level)?;
    let (token, stride) = (recipe.format.token(), width * RGB);
    let grid = Grid::new(1, rows.len(), width / token)?;
    let threads = recipe.threads;
    let room = threads.count() * ROUND_BYTES / (token * stride) + 1;
    let mut window = Window::new(grid, token, wanted, recipe.level, room)?;
    let bands = Bands { count: if threads.is_parallel() { 2 * threads.count() } else { 1 }, threads };
    while let Some((round, pixels)) = window.next() {
        let from = (rows.start + round.start) * token..(rows.start + round.end) * token;
        resizer.rows(from, pixels, threads)?;
        window.choose(bands)?;
        take(&window, round)?;
    }
    Ok(window)
}

/// The same, and writes the patches of what is kept to `out`.
pub(crate) fn packed_in_rounds<E: PatchValue>(
    job: &Job,
    recipe: &Recipe<E>,
    rows: Range<usize>,
    wanted: Choice,
    packer: &Packer<E>,
    out: &mut [E],
) -> Result<Window> {
    let mut rest = out;
    in_rounds(job, recipe, rows, wanted, |window, round| {
        let kept = round.map(|row| window.kept_row(row));
        rest = packer.pack_rows(kept, std::mem::take(&mut rest), recipe.threads)?;
        Ok(())
    })
}

/// The resized pixels, unless the picture has its size already, and what is kept.
pub(crate) fn whole<E>(job: &Job, recipe: &Recipe<E>) -> Result<(Option<Vec<u8>>, Selection)> {
    let Job { image, height, width, pad, .. } = *job;
    let resized = if job.has_its_size() {
        None
    } else {
        Some(Resizer::new(image, height, width, pad, recipe.level)?.whole(recipe.threads)?)
    };
    let selection = match choice(job, recipe) {
        Choice::Everything => Selection::of_everything(recipe.tokens(job))?,
        Choice::Given(keep) => Selection::given(keep)?,
        Choice::By(settings) => {
            let image = job.resized(resized.as_deref())?;
            prune_image(image, recipe.format.token(), settings, recipe.level, recipe.threads)?
        }
    };
    Ok((resized, selection))
}
