//! Several images side by side, each thread at work on an image or a piece of it: some of its token rows.
//!
//! An image's patches follow those of what comes before it, so that all pieces are pruned first and packed
//! afterwards. In between wait the pixels of kept tokens, a fraction of what their patches take.

use crate::error::{Error, Result};
use crate::image::{ImageView, RGB};
use crate::memory;
use crate::parallel::Threads;
use crate::preprocess::bands::{packed, selected, whole};
use crate::preprocess::job::{Choice, Job, Recipe};
use crate::preprocess::pack::{KeptRow, Packer, TokenRow, by_row, rows_of};
use crate::preprocess::way::Way;
use crate::select::Selection;
use crate::select::planes::Planes;
use crate::simd::pack::PatchValue;
use std::ops::Range;

/// A piece of an image.
struct Piece {
    job: usize,
    way: Way,
    rows: Range<usize>,
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
    /// In the whole image; None: it had its size already.
    Whole(Option<Vec<u8>>),
}

enum Chosen {
    Selection(Selection),
    /// The comparisons of a piece that is a part of its image.
    Planes(Planes),
    /// Known without looking.
    Known,
}

/// Writes the kept patches of all images to `out` and returns what was kept.
pub(super) fn preprocess<E: PatchValue>(
    jobs: &[Job],
    ways: &[Way],
    recipe: &Recipe<E>,
    threads: Threads,
    out: &mut [E],
) -> Result<Vec<Selection>> {
    let token = recipe.format.token();
    let pieces = cut(jobs, ways, token)?;
    let pruned = threads.map(pieces.iter(), |piece| prune(&jobs[piece.job], piece, recipe));
    let mut pixels = memory::with_room(pieces.len())?;
    let mut chosen = memory::with_room(pieces.len())?;
    for (piece, pruned) in pieces.iter().zip(pruned?) {
        let pruned = pruned.map_err(|error| error.of_image(piece.job))?;
        pixels.push(pruned.pixels);
        chosen.push(pruned.choice);
    }
    let mut chosen = chosen.into_iter();
    let mut selections = memory::with_room(jobs.len())?;
    for of_job in pieces.chunk_by(|a, b| a.job == b.job) {
        let i = of_job[0].job;
        let parts = chosen.by_ref().take(of_job.len());
        let choice = jobs[i].choice(recipe.settings);
        selections.push(join(&jobs[i], choice, token, parts).map_err(|error| error.of_image(i))?);
    }
    let tokens = selections.iter().map(|selection: &Selection| selection.keep.len()).sum();
    let packer = Packer::new(recipe, tokens);
    let (mut rest, mut work) = (out, memory::with_room(pieces.len())?);
    for (piece, pixels) in pieces.iter().zip(&pixels) {
        let cols = jobs[piece.job].width / token;
        let all = &selections[piece.job].keep;
        let before = |row: usize| all.partition_point(|&i| (i as usize) < row * cols);
        let keep = &all[before(piece.rows.start)..before(piece.rows.end)];
        let (here, after) = rest.split_at_mut(keep.len() * packer.token_values());
        rest = after;
        work.push((piece, pixels, keep, here));
    }
    let written = threads.map(work.into_iter(), |(piece, pixels, keep, out)| {
        write(&jobs[piece.job], piece, pixels, keep, recipe, &packer, out)
    });
    for (piece, written) in pieces.iter().zip(written?) {
        written.map_err(|error| error.of_image(piece.job))?;
    }
    Ok(selections)
}

/// The pieces of all images, in order.
fn cut(jobs: &[Job], ways: &[Way], token: usize) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for (i, (job, &way)) in jobs.iter().zip(ways).enumerate() {
        let count = match way {
            Way::Whole | Way::Bands => 1,
            Way::Pieces(count) => count,
        };
        let edge = |part: usize| job.height / token * part / count;
        memory::reserve(&mut pieces, count)?;
        pieces.extend((0..count).map(|part| Piece { job: i, way, rows: edge(part)..edge(part + 1) }));
    }
    Ok(pieces)
}

fn prune<E: PatchValue>(job: &Job, piece: &Piece, recipe: &Recipe<E>) -> Result<Pruned> {
    if piece.way == Way::Whole {
        let (pixels, selection) = whole(job, recipe, Threads::ONE)?;
        return Ok(Pruned { pixels: Pixels::Whole(pixels), choice: Chosen::Selection(selection) });
    }
    let choice = job.choice(recipe.settings);
    if !matches!(choice, Choice::By(_)) {
        return Ok(Pruned { pixels: Pixels::Unmade, choice: Chosen::Known });
    }
    let context = usize::from(piece.rows.start > 0);
    let rows = piece.rows.start - context..piece.rows.end;
    let token = recipe.format.token();
    let segment = token * RGB;
    let mut pixels = memory::with_room(piece.rows.len() * token * job.width * RGB)?;
    let window = selected(job, recipe, rows, choice, Threads::ONE, |window, band| {
        for row in band.start.max(context)..band.end {
            let (tokens, kept) = window.kept_row(row)?;
            for column in kept {
                for row in tokens.pixels.chunks(tokens.stride) {
                    pixels.extend_from_slice(&row[column * segment..][..segment]);
                }
            }
        }
        Ok(())
    })?;
    let choice = match piece.way {
        Way::Pieces(_) => Chosen::Planes(window.into_planes(context)),
        Way::Whole | Way::Bands => Chosen::Selection(window.into_selection()?),
    };
    Ok(Pruned { pixels: Pixels::Kept(pixels), choice })
}

/// What is kept of an image, from what is known about its pieces.
fn join(job: &Job, choice: Choice, token: usize, pieces: impl Iterator<Item = Chosen>) -> Result<Selection> {
    let mut planes = Planes::empty();
    for piece in pieces {
        match piece {
            Chosen::Selection(selection) => return Ok(selection),
            Chosen::Known => {}
            Chosen::Planes(part) => planes.append(&part)?,
        }
    }
    let grid = job.grid(token)?;
    match choice {
        Choice::Everything => Selection::of_everything(grid.total()),
        Choice::Given(keep) => Ok(Selection::of(memory::collected(keep.iter().copied())?)),
        Choice::By(settings) => match settings.method.predictor() {
            Some(predictor) => Selection::from_source(predictor.sources(&planes, grid)?),
            None => Err(Error::WholeImagesOnly { method: settings.method.name() }),
        },
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
            packed(job, recipe, piece.rows.clone(), Choice::Given(&keep), Threads::ONE, packer, out)?;
        }
    }
    Ok(())
}
