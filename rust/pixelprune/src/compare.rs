//! The comparison planes: which tokens equal their left and their upper neighbour.

use crate::error::Result;
use crate::grid::Grid;
use crate::memory;
use crate::parallel::Bands;
use crate::tokens::{NONE, Scratch, Tokens, Verdict};

/// Which comparisons a predictor reads. The others are left out: a flat page then costs one comparison a
/// token instead of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Both neighbours of every token.
    All,
    /// What `pred_2d` reads: above only next to a left edge in the row above.
    Pred2d,
    /// What `either` reads: above only where the left neighbour differs.
    Either,
    /// Left neighbours only.
    Left,
}

/// Two bool planes over a grid; entries that were not wanted are false.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planes {
    /// Token equals its left neighbour; false in column 0.
    pub left: Vec<bool>,
    /// Token equals the one above; false in row 0 of a frame.
    pub up: Vec<bool>,
}

impl Planes {
    /// Planes on which nothing is equal.
    pub(crate) fn new(grid: Grid) -> Result<Self> {
        Ok(Self { left: memory::filled(false, grid.total())?, up: memory::filled(false, grid.total())? })
    }
}

/// Compares neighbouring tokens of original pixels.
pub fn planes(tokens: &impl Tokens, wanted: Wanted, bands: Bands) -> Result<Planes> {
    let mut planes = Planes::new(tokens.grid())?;
    fill(tokens, wanted, 0, &mut planes.left, &mut planes.up, bands)?;
    Ok(planes)
}

/// Fills the planes of the token rows from `first_row` on (counted through all frames), in bands.
pub(crate) fn fill(
    tokens: &impl Tokens,
    wanted: Wanted,
    first_row: usize,
    left: &mut [bool],
    up: &mut [bool],
    bands: Bands,
) -> Result<()> {
    let cols = tokens.grid().cols;
    let rows = left.len() / cols;
    let rows_per_band = rows.div_ceil(bands.count.clamp(1, rows));
    let size = rows_per_band * cols;
    let pieces = left.chunks_mut(size).zip(up.chunks_mut(size)).enumerate();
    bands
        .threads()
        .for_each(pieces, |(i, (left, up))| band(tokens, wanted, first_row + i * rows_per_band, left, up))
}

/// Fills the planes of the token rows from `first_row` (counted through all frames) on.
fn band(
    tokens: &impl Tokens,
    wanted: Wanted,
    first_row: usize,
    left: &mut [bool],
    up: &mut [bool],
) -> Result<()> {
    let Grid { rows: frame_rows, cols, .. } = tokens.grid();
    let mut with = memory::filled(NONE, cols)?;
    let mut verdicts = memory::filled(Verdict::Unknown, cols)?;
    let mut scratch = Scratch::new(cols)?;
    let mut compare = |first: usize, with: &[usize], plane: &mut [bool]| {
        tokens.compare_row(first, with, &mut verdicts, &mut scratch);
        for (bit, verdict) in plane.iter_mut().zip(&verdicts) {
            *bit = matches!(verdict, Verdict::Similar | Verdict::Equal);
        }
    };
    for (row, at) in (0..left.len()).step_by(cols).enumerate() {
        let first = (first_row + row) * cols;
        for (col, y) in with.iter_mut().enumerate().skip(1) {
            *y = first + col - 1;
        }
        with[0] = NONE;
        compare(first, &with, &mut left[at..at + cols]);
        if (first_row + row).is_multiple_of(frame_rows) || wanted == Wanted::Left {
            continue;
        }
        // The row above may belong to another band: then nothing is known of it and all of it is wanted.
        let above = (at > 0).then(|| &left[at - cols..at]);
        for (col, y) in with.iter_mut().enumerate() {
            let needed = match (wanted, above) {
                (Wanted::Either, _) => !left[at + col],
                (Wanted::Pred2d, Some(above)) => {
                    col == 0 || !above[col] || above.get(col + 1) == Some(&false)
                }
                _ => true,
            };
            *y = if needed { first + col - cols } else { NONE };
        }
        compare(first, &with, &mut up[at..at + cols]);
    }
    Ok(())
}
