//! Several images side by side. Each thread processes an image or a piece of it, which is a range of token rows.
//!
//! Where a piece's patches go depends on how many tokens the pieces before it keep. So all pieces are pruned first and
//! packed afterwards. Until then only the pixels of kept tokens are stored, which take much less memory than patches.

use crate::error::{Error, Result};
use crate::image::RGB;
use crate::memory;
use crate::parallel::Threads;
use crate::preprocess::bands::{packed, selected, whole};
use crate::preprocess::job::{Choice, Job, Recipe};
use crate::preprocess::pack::{KeptRow, Packer, TokenRow, by_row, rows_of};
use crate::preprocess::way::Way;
use crate::preprocess::window::Window;
use crate::select::Selection;
use crate::select::planes::Planes;
use crate::simd::pack::PatchValue;
use std::ops::Range;

/// A piece of an image.
struct Piece<'a, E> {
    /// The image's index.
    index: usize,
    job: &'a Job<'a>,
    recipe: &'a Recipe<'a, E>,
    way: Way,
    rows: Range<usize>,
}

/// The outcome of pruning a piece.
struct Pruned {
    pixels: Pixels,
    choice: Chosen,
}

/// Where the pixels of kept tokens are.
enum Pixels {
    /// Not resized yet: the choice does not depend on them.
    Unmade,
    /// Here, those of the kept tokens one after the other.
    Kept(Vec<u8>),
    /// In the resized image; `None` if the image had its size already.
    Whole(Option<Vec<u8>>),
}

enum Chosen {
    Selection(Selection),
    /// The comparisons of one of several pieces.
    Planes(Planes),
    /// Does not depend on the pixels.
    Known,
}

/// A pruned piece and the place for its patches.
struct Packing<'a, E: PatchValue> {
    piece: &'a Piece<'a, E>,
    pixels: &'a Pixels,
    keep: &'a [i64],
    packer: &'a Packer<'a, E>,
    out: &'a mut [E],
}

/// Writes the kept patches of all images to `out` and returns what was kept.
pub(super) fn side_by_side<E: PatchValue>(
    jobs: &[Job],
    ways: &[Way],
    recipe: &Recipe<E>,
    threads: Threads,
    out: &mut [E],
) -> Result<Vec<Selection>> {
    let pieces = cut(jobs, ways, recipe)?;
    let mut pixels = memory::with_room(pieces.len())?;
    let mut chosen = memory::with_room(pieces.len())?;
    for (piece, pruned) in pieces.iter().zip(threads.gather(pieces.iter(), Piece::prune)?) {
        let pruned = pruned.map_err(|error| error.of_image(piece.index))?;
        pixels.push(pruned.pixels);
        chosen.push(pruned.choice);
    }
    let selections = join(&pieces, chosen)?;
    let tokens = selections.iter().map(|selection| selection.keep.len()).sum();
    let packer = Packer::new(recipe, tokens);
    let (mut rest, mut work) = (out, memory::with_room(pieces.len())?);
    for (piece, pixels) in pieces.iter().zip(&pixels) {
        let cols = piece.job.width / recipe.format.token();
        let all = &selections[piece.index].keep;
        let before = |row: usize| all.partition_point(|&i| (i as usize) < row * cols);
        let keep = &all[before(piece.rows.start)..before(piece.rows.end)];
        let (out, after) = rest.split_at_mut(keep.len() * packer.token_values());
        rest = after;
        work.push(Packing { piece, pixels, keep, packer: &packer, out });
    }
    for (piece, packed) in pieces.iter().zip(threads.gather(work.into_iter(), Packing::pack)?) {
        packed.map_err(|error| error.of_image(piece.index))?;
    }
    Ok(selections)
}

/// The pieces of all images, in order.
fn cut<'a, E>(jobs: &'a [Job], ways: &[Way], recipe: &'a Recipe<E>) -> Result<Vec<Piece<'a, E>>> {
    let mut pieces = Vec::new();
    for (index, (job, &way)) in jobs.iter().zip(ways).enumerate() {
        let count = match way {
            Way::Whole | Way::Bands => 1,
            Way::Pieces(count) => count,
        };
        let rows = job.height / recipe.format.token();
        let edge = |part: usize| rows * part / count;
        memory::reserve(&mut pieces, count)?;
        pieces.extend((0..count).map(|part| Piece {
            index,
            job,
            recipe,
            way,
            rows: edge(part)..edge(part + 1),
        }));
    }
    Ok(pieces)
}

/// The selection of every image, from those of its pieces.
fn join<E>(pieces: &[Piece<E>], chosen: Vec<Chosen>) -> Result<Vec<Selection>> {
    let mut chosen = chosen.into_iter();
    let mut selections = memory::with_room(pieces.len())?;
    for of_image in pieces.chunk_by(|a, b| a.index == b.index) {
        let Piece { index, job, recipe, .. } = of_image[0];
        let parts = chosen.by_ref().take(of_image.len());
        let selection = selection_of(job, recipe.format.token(), parts);
        selections.push(selection.map_err(|error| error.of_image(index))?);
    }
    Ok(selections)
}

fn selection_of(job: &Job, token: usize, parts: impl Iterator<Item = Chosen>) -> Result<Selection> {
    let mut planes = Planes::empty();
    for part in parts {
        match part {
            Chosen::Selection(selection) => return Ok(selection),
            Chosen::Known => {}
            Chosen::Planes(part) => planes.append(&part)?,
        }
    }
    let grid = job.grid(token)?;
    job.choice.selection(grid.total(), |settings| match settings.method.predictor() {
        Some(predictor) => Selection::from_source(predictor.sources(&planes, grid)?),
        None => Err(Error::WholeImagesOnly { method: settings.method.name() }),
    })
}

impl<E: PatchValue> Piece<'_, E> {
    fn prune(&self) -> Result<Pruned> {
        let Self { job, recipe, rows, .. } = self;
        if self.way == Way::Whole {
            let (pixels, selection) = whole(job, recipe, Threads::ONE)?;
            return Ok(Pruned { pixels: Pixels::Whole(pixels), choice: Chosen::Selection(selection) });
        }
        if !matches!(job.choice, Choice::By(_)) {
            return Ok(Pruned { pixels: Pixels::Unmade, choice: Chosen::Known });
        }
        let context = usize::from(rows.start > 0);
        let token = recipe.format.token();
        let segment = token * RGB;
        let mut pixels = memory::with_room(rows.len() * token * job.width * RGB)?;
        let mut take = |window: &Window, band: Range<usize>| {
            for row in band.start.max(context)..band.end {
                let (tokens, kept) = window.kept_row(row)?;
                for column in kept {
                    for row in tokens.pixels.chunks(tokens.stride) {
                        pixels.extend_from_slice(&row[column * segment..][..segment]);
                    }
                }
            }
            Ok(())
        };
        let window =
            selected(job, recipe, rows.start - context..rows.end, job.choice, Threads::ONE, &mut take)?;
        let choice = match self.way {
            Way::Pieces(_) => Chosen::Planes(window.into_planes(context)),
            Way::Whole | Way::Bands => Chosen::Selection(window.into_selection()?),
        };
        Ok(Pruned { pixels: Pixels::Kept(pixels), choice })
    }
}

impl<E: PatchValue> Packing<'_, E> {
    fn pack(self) -> Result<()> {
        let Self { piece: Piece { job, recipe, rows, .. }, pixels, keep, packer, out } = self;
        let token = recipe.format.token();
        let cols = job.width / token;
        match pixels {
            Pixels::Whole(pixels) => {
                let image = job.resized(pixels.as_deref())?;
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
                let first = (rows.start * cols) as i64;
                let keep = memory::collected(keep.iter().map(|&i| i - first))?;
                packed(job, recipe, rows.clone(), Choice::Given(&keep), Threads::ONE, packer, out)?;
            }
        }
        Ok(())
    }
}
