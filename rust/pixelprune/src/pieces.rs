//! Preprocessing by several threads side by side, each at work on a piece of a picture: some of its token rows.
//!
//! A picture's patches follow those of what comes before it, so that all pieces are pruned first and packed
//! afterwards. In between wait the pixels of kept tokens, a fraction of what their patches take.

use crate::compare::Planes;
use crate::error::{Error, Failure, Result};
use crate::grid::Grid;
use crate::image::ImageView;
use crate::memory;
use crate::pack::{KeptRow, Packer, TokenRow, by_row, rows_of};
use crate::parallel::Threads;
use crate::recipe::{Job, Recipe, choice, is_for_rounds};
use crate::rounds::{in_rounds, packed_in_rounds, whole};
use crate::select::Selection;
use crate::simd::RGB;
use crate::simd::pack::PatchValue;
use crate::window::{Choice, Window};
use std::ops::Range;

/// Resized pixels of the pictures that are worked on together, at most.
const TOGETHER_BYTES: usize = 1 << 26;

/// Resized pixels of a picture that can't be cut into pieces, at most, where there are as many as threads.
const MEDIUM_BYTES: usize = 1 << 24;

/// The same where there are fewer.
const SMALL_BYTES: usize = 1 << 22;

/// A piece is not made smaller than this.
const PIECE_BYTES: usize = 1 << 19;

/// Token rows of a piece, at least: each but a picture's first resizes one row more, the one above.
const PIECE_ROWS: usize = 8;

/// A piece of a picture.
struct Piece {
    job: usize,
    rows: Range<usize>,
    is_whole: bool,
}

/// What is known about a piece once it is pruned.
struct Pruned {
    pixels: Pixels,
    choice: Chosen,
}

/// Where the pixels of kept tokens are.
enum Pixels {
    /// Not resized yet, because what is kept was known without.
    Unmade,
    /// Here, one token after the other.
    Kept(Vec<u8>),
    /// In the whole picture; None: it had its size already.
    Whole(Option<Vec<u8>>),
}

enum Chosen {
    Selection(Selection),
    /// The comparisons of a piece that is a part of its picture.
    Planes(Planes),
    /// Known without looking.
    Known,
}

/// How many of the first pictures are to be worked on together; 0: the first one alone, by all threads.
pub(crate) fn together<E>(jobs: &[Job], recipe: &Recipe<E>) -> usize {
    if !recipe.threads.is_parallel() {
        return 0;
    }
    let up_to = |limit| {
        let mut total = 0;
        let fits = |job: &&Job| {
            total += bytes(job);
            total <= TOGETHER_BYTES && (bytes(job) <= limit || can_be_cut(job, recipe))
        };
        jobs.iter().take(4 * recipe.threads.count()).take_while(fits).count()
    };
    let medium = up_to(MEDIUM_BYTES);
    match if medium < recipe.threads.count() { up_to(SMALL_BYTES) } else { medium } {
        1 if bytes(&jobs[0]) > PIECE_BYTES && !can_be_cut(&jobs[0], recipe) => 0,
        count => count,
    }
}

/// Writes the kept patches of all pictures to `out` and returns what was kept.
pub(crate) fn preprocess<E: PatchValue>(
    jobs: &[Job],
    recipe: &Recipe<E>,
    out: &mut [E],
) -> std::result::Result<Vec<Selection>, Failure> {
    let threads = recipe.threads;
    let pieces = cut(jobs, recipe).map_err(whole_group)?;
    // Every piece is the work of one thread.
    let each = &Recipe { threads: Threads::ONE, ..*recipe };
    let pruned = threads.map(pieces.iter(), |piece| prune(&jobs[piece.job], piece, each));
    let mut pixels = memory::with_room(pieces.len()).map_err(whole_group)?;
    let mut chosen = memory::with_room(pieces.len()).map_err(whole_group)?;
    for (piece, pruned) in pieces.iter().zip(pruned.map_err(whole_group)?) {
        let pruned = pruned.map_err(|error| (piece.job, error))?;
        pixels.push(pruned.pixels);
        chosen.push(pruned.choice);
    }
    let mut chosen = chosen.into_iter();
    let mut selections = memory::with_room(jobs.len()).map_err(whole_group)?;
    for of_job in pieces.chunk_by(|a, b| a.job == b.job) {
        let i = of_job[0].job;
        let parts = chosen.by_ref().take(of_job.len());
        selections.push(join(&jobs[i], recipe, parts).map_err(|error| (i, error))?);
    }
    let tokens = selections.iter().map(|selection: &Selection| selection.keep.len()).sum();
    let packer = Packer::new(recipe, tokens);
    let (mut rest, mut work) = (out, memory::with_room(pieces.len()).map_err(whole_group)?);
    for (piece, pixels) in pieces.iter().zip(&pixels) {
        let cols = jobs[piece.job].width / recipe.format.token();
        let all = &selections[piece.job].keep;
        let before = |row: usize| all.partition_point(|&i| (i as usize) < row * cols);
        let keep = &all[before(piece.rows.start)..before(piece.rows.end)];
        let (here, after) = rest.split_at_mut(keep.len() * packer.token_values());
        rest = after;
        work.push((piece, pixels, keep, here));
    }
    let written = threads.map(work.into_iter(), |(piece, pixels, keep, out)| {
        write(&jobs[piece.job], piece, pixels, keep, each, &packer, out)
    });
    for (piece, written) in pieces.iter().zip(written.map_err(whole_group)?) {
        written.map_err(|error| (piece.job, error))?;
    }
    Ok(selections)
}

/// An error that is about no image in particular is reported with the first one.
fn whole_group(error: Error) -> Failure {
    (0, error)
}

fn bytes(job: &Job) -> usize {
    job.height * job.width * RGB
}

/// Whether what is kept of a piece can be told from the piece and the token row above.
fn can_be_cut<E>(job: &Job, recipe: &Recipe<E>) -> bool {
    is_for_rounds(job, recipe)
        && !matches!(choice(job, recipe), Choice::By(settings) if !Window::is_open(settings))
}

/// Cuts pictures into about twice as many pieces as there are threads, of about the same size.
fn cut<E>(jobs: &[Job], recipe: &Recipe<E>) -> Result<Vec<Piece>> {
    let total: usize = jobs.iter().map(bytes).sum();
    let size = (total / (2 * recipe.threads.count())).max(PIECE_BYTES);
    let mut pieces = Vec::new();
    for (i, job) in jobs.iter().enumerate() {
        let rows = job.height / recipe.format.token();
        let most = if can_be_cut(job, recipe) { rows / PIECE_ROWS } else { 1 };
        let count = bytes(job).div_ceil(size).clamp(1, most.max(1));
        let edge = |part: usize| rows * part / count;
        memory::reserve(&mut pieces, count)?;
        pieces.extend((0..count).map(|part| Piece {
            job: i,
            rows: edge(part)..edge(part + 1),
            is_whole: count == 1,
        }));
    }
    Ok(pieces)
}

fn prune<E: PatchValue>(job: &Job, piece: &Piece, recipe: &Recipe<E>) -> Result<Pruned> {
    if !is_for_rounds(job, recipe) {
        let (pixels, selection) = whole(job, recipe)?;
        return Ok(Pruned { pixels: Pixels::Whole(pixels), choice: Chosen::Selection(selection) });
    }
    if !matches!(choice(job, recipe), Choice::By(_)) {
        return Ok(Pruned { pixels: Pixels::Unmade, choice: Chosen::Known });
    }
    let context = usize::from(piece.rows.start > 0);
    let rows = piece.rows.start - context..piece.rows.end;
    let segment = recipe.format.token() * RGB;
    let mut pixels = memory::with_room(piece.rows.len() * recipe.format.token() * job.width * RGB)?;
    let window = in_rounds(job, recipe, rows, choice(job, recipe), |window, round| {
        for row in round.start.max(context)..round.end {
            let (tokens, kept) = window.kept_row(row)?;
            for column in kept {
                for row in tokens.pixels.chunks(tokens.stride) {
                    pixels.extend_from_slice(&row[column * segment..][..segment]);
                }
            }
        }
        Ok(())
    })?;
    let choice = if piece.is_whole {
        Chosen::Selection(window.into_selection()?)
    } else {
        Chosen::Planes(window.into_planes(context))
    };
    Ok(Pruned { pixels: Pixels::Kept(pixels), choice })
}

/// What is kept of a picture, from what is known about its pieces.
fn join<E>(job: &Job, recipe: &Recipe<E>, pieces: impl Iterator<Item = Chosen>) -> Result<Selection> {
    let mut planes = Planes { left: Vec::new(), up: Vec::new() };
    for piece in pieces {
        match piece {
            Chosen::Selection(selection) => return Ok(selection),
            Chosen::Known => {}
            Chosen::Planes(Planes { left, up }) => {
                memory::reserve(&mut planes.left, left.len())?;
                memory::reserve(&mut planes.up, up.len())?;
                planes.left.extend(left);
                planes.up.extend(up);
            }
        }
    }
    let token = recipe.format.token();
    match choice(job, recipe) {
        Choice::Everything => Selection::of_everything(recipe.tokens(job)),
        Choice::Given(keep) => Selection::given(keep),
        Choice::By(settings) => {
            let grid = Grid::new(1, job.height / token, job.width / token)?;
            Selection::from_source(Window::source_of(settings.method, &planes, grid)?)
        }
    }
}

fn write<E: PatchValue>(
    job: &Job,
    piece: &Piece,
    pixels: &Pixels,
    keep: &[i64],
    recipe: &Recipe<E>,
    packer: &Packer<E>,
    out: &mut [E],
) -> Result<()> {
    let token = recipe.format.token();
    let cols = job.width / token;
    match pixels {
        Pixels::Whole(pixels) => {
            let image: ImageView = job.resized(pixels.as_deref())?;
            packer.pack_rows(rows_of(image, keep, token), out, Threads::ONE)?;
        }
        Pixels::Kept(pixels) => {
            let mut pixels = &pixels[..];
            let rows = by_row(keep, cols).map(|kept| -> Result<KeptRow> {
                let row = TokenRow { pixels, step: token * token * RGB, stride: token * RGB };
                pixels = &pixels[kept.len() * row.step..];
                Ok((row, memory::collected(0..kept.len())?))
            });
            packer.pack_rows(rows, out, Threads::ONE)?;
        }
        Pixels::Unmade if keep.is_empty() => {}
        Pixels::Unmade => {
            let first = (piece.rows.start * cols) as i64;
            let keep = memory::collected(keep.iter().map(|&i| i - first))?;
            packed_in_rounds(job, recipe, piece.rows.clone(), Choice::Given(&keep), packer, out)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::RowFormat;
    use crate::parallel::Pool;
    use crate::patches::PatchOrder;
    use crate::simd::Level;

    #[test]
    fn pieces_are_all_rows_of_all_pictures_in_order() {
        let table = [[0u8; 256]; RGB];
        let format =
            RowFormat { patch: 16, merge: 2, frames: 2, channels_last: false, order: PatchOrder::Block };
        let pixel = [0; RGB];
        let image = ImageView::new(&pixel, 1, 1, RGB, RGB).unwrap();
        let job = |height, width| Job { image, height, width, pad: false, keep: None };
        let jobs = [job(32, 32), job(3200, 3200), job(512, 512), job(32, 32_000), job(1600, 1600)];
        for threads in 2..6 {
            let Some(pool) = Pool::new(threads) else { return };
            let recipe = Recipe {
                format,
                table: &table,
                affine: None,
                settings: None,
                level: Level::detect(),
                threads: pool.threads(),
            };
            let pieces = cut(&jobs, &recipe).unwrap();
            let counts: Vec<usize> =
                (0..jobs.len()).map(|i| pieces.iter().filter(|piece| piece.job == i).count()).collect();
            assert!(counts[1] > 1 && counts[1] <= 3200 / 32 / PIECE_ROWS, "{counts:?}");
            assert_eq!((counts[0], counts[3]), (1, 1));
            for (i, job) in jobs.iter().enumerate() {
                let mut end = 0;
                for piece in pieces.iter().filter(|piece| piece.job == i) {
                    assert_eq!((piece.rows.start, piece.is_whole), (end, counts[i] == 1));
                    assert!(piece.rows.len() >= PIECE_ROWS.min(job.height / 32));
                    end = piece.rows.end;
                }
                assert_eq!(end, job.height / 32);
            }
            assert!(pieces.is_sorted_by_key(|piece| piece.job));
        }
    }
}
