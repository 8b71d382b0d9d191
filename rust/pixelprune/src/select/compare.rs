//! Comparing neighbouring tokens of original pixels.

use crate::error::Result;
use crate::grid::Grid;
use crate::memory;
use crate::parallel::Bands;
use crate::select::planes::Planes;
use crate::select::predictor::Predictor;
use crate::select::tokens::{NONE, Scratch, Tokens, Verdict};

/// Which comparisons are read. The others are skipped, so that a flat page costs one comparison per token, not
/// two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Both neighbours of every token.
    All,
    /// Left neighbours only.
    Left,
    /// Those that a predictor reads: all left neighbours and some above.
    Of(Predictor),
}

/// Compares neighbouring tokens of original pixels.
pub fn planes(tokens: &impl Tokens, reads: Reads, bands: Bands) -> Result<Planes> {
    let mut planes = Planes::new(tokens.grid())?;
    fill(tokens, reads, 0, &mut planes.left, &mut planes.up, bands)?;
    Ok(planes)
}

/// Fills the planes of the token rows from `first_row` on (counted through all frames), in bands.
pub(crate) fn fill(
    tokens: &impl Tokens,
    reads: Reads,
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
        .share(pieces, |(i, (left, up))| band(tokens, reads, first_row + i * rows_per_band, left, up))
}

/// Fills the planes of the token rows from `first_row` (counted through all frames) on.
fn band(
    tokens: &impl Tokens,
    reads: Reads,
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
        if (first_row + row).is_multiple_of(frame_rows) || reads == Reads::Left {
            continue;
        }
        // `None` if the row above belongs to another band.
        let above = (at > 0).then(|| &left[at - cols..at]);
        for (col, y) in with.iter_mut().enumerate() {
            let needed = match reads {
                Reads::All => true,
                Reads::Left => false,
                Reads::Of(predictor) => predictor.reads_up(col, &left[at..at + cols], above),
            };
            *y = if needed { first + col - cols } else { NONE };
        }
        compare(first, &with, &mut up[at..at + cols]);
    }
    Ok(())
}
