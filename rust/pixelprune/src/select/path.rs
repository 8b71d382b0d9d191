//! `raster` and `serpentine`: runs along a one-dimensional path through the grid.

use crate::error::Result;
use crate::grid::Grid;
use crate::memory;
use crate::metric::Spread;
use crate::parallel::Bands;
use crate::select::colours::Colours;
use crate::select::compare::{Reads, planes};
use crate::select::tokens::Tokens;

/// The order in which a path visits a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Row by row, left to right.
    Raster,
    /// Odd rows right to left, so that the path never jumps.
    Serpentine,
}

impl Path {
    /// The token of a frame that comes before the one at (`row`, `col`), if any.
    #[must_use]
    pub fn previous(self, row: usize, col: usize, cols: usize) -> Option<usize> {
        let i = row * cols + col;
        match self {
            Self::Serpentine if row % 2 == 1 => Some(if col + 1 == cols { i - cols } else { i + 1 }),
            Self::Serpentine if col == 0 => row.checked_sub(1).map(|_| i - cols),
            _ => i.checked_sub(1),
        }
    }

    /// The tokens of a frame in the order of the path, as (row, column).
    pub fn walk(self, rows: usize, cols: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..rows * cols).map(move |step| {
            let (row, col) = (step / cols, step % cols);
            if self == Self::Serpentine && row % 2 == 1 { (row, cols - 1 - col) } else { (row, col) }
        })
    }
}

/// The source of every token. Closed loop compares with the run's first token, open loop with the
/// preceding one of the path.
pub fn sources(
    tokens: &impl Tokens,
    path: Path,
    open: bool,
    spread: Option<Spread>,
    bands: Bands,
) -> Result<Vec<i64>> {
    let Grid { frames, rows, cols } = tokens.grid();
    let mut source = memory::filled(0, tokens.grid().total())?;
    let mut colours = memory::filled(Colours::Unknown, source.len())?;
    let left = if open { planes(tokens, Reads::Left, None, bands)?.left } else { Vec::new() };
    for frame in 0..frames {
        let first = frame * rows * cols;
        for (row, col) in path.walk(rows, cols) {
            let i = first + row * cols + col;
            let Some(previous) = path.previous(row, col, cols).map(|p| first + p) else {
                source[i] = i as i64;
                continue;
            };
            let run = source[previous];
            let similar = match (open, i.abs_diff(previous)) {
                // Neighbours in a row: the plane holds the outcome at the right one of the two.
                (true, 1) if i.max(previous) % cols != 0 => left[i.max(previous)],
                (true, _) => tokens.similar(i, previous),
                (false, _) => tokens.similar(i, run as usize),
            };
            let may_drop = |spread| {
                let equal = if tokens.is_exact() { colours[previous] } else { Colours::Unknown };
                colours[i] = Colours::of(tokens, i, spread, equal);
                colours[i] == Colours::One
            };
            source[i] = if similar && spread.is_none_or(may_drop) { run } else { i as i64 };
        }
    }
    Ok(source)
}
