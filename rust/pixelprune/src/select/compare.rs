//! Comparing neighbouring tokens of original pixels.

use crate::error::Result;
use crate::grid::Grid;
use crate::memory;
use crate::metric::Spread;
use crate::parallel::Bands;
use crate::select::colours::Colours;
use crate::select::planes::Planes;
use crate::select::predictor::Predictor;
use crate::select::tokens::{NONE, Scratch, Tokens, Verdict};
use std::ops::Range;

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

/// Compares neighbouring tokens of original pixels. With a `spread`, finds the colours of tokens similar to one.
pub fn planes(tokens: &impl Tokens, reads: Reads, spread: Option<Spread>, bands: Bands) -> Result<Planes> {
    let mut planes = Planes::new(tokens.grid())?;
    fill(tokens, reads, spread, 0, Rows::all(&mut planes), bands)?;
    Ok(planes)
}

/// Some token rows of [`Planes`].
pub(crate) struct Rows<'a> {
    left: &'a mut [bool],
    up: &'a mut [bool],
    colours: &'a mut [Colours],
}

impl<'a> Rows<'a> {
    fn all(planes: &'a mut Planes) -> Self {
        Self::of(planes, 0..planes.left.len())
    }

    /// Those that hold a range of tokens.
    pub(crate) fn of(planes: &'a mut Planes, tokens: Range<usize>) -> Self {
        Self {
            left: &mut planes.left[tokens.clone()],
            up: &mut planes.up[tokens.clone()],
            colours: &mut planes.colours[tokens],
        }
    }

    /// Pieces of `size` tokens each.
    fn chunks(self, size: usize) -> impl ExactSizeIterator<Item = Self> + Send {
        let planes = self.left.chunks_mut(size).zip(self.up.chunks_mut(size));
        planes.zip(self.colours.chunks_mut(size)).map(|((left, up), colours)| Self { left, up, colours })
    }
}

/// Fills the planes of the token rows from `first_row` on (counted through all frames), in bands.
pub(crate) fn fill(
    tokens: &impl Tokens,
    reads: Reads,
    spread: Option<Spread>,
    first_row: usize,
    planes: Rows,
    bands: Bands,
) -> Result<()> {
    let cols = tokens.grid().cols;
    let rows = planes.left.len() / cols;
    let rows_per_band = rows.div_ceil(bands.count.clamp(1, rows));
    let pieces = planes.chunks(rows_per_band * cols).enumerate();
    bands
        .threads()
        .share(pieces, |(i, piece)| band(tokens, reads, spread, first_row + i * rows_per_band, piece))
}

/// Fills the planes of the token rows from `first_row` (counted through all frames) on.
fn band(
    tokens: &impl Tokens,
    reads: Reads,
    spread: Option<Spread>,
    first_row: usize,
    Rows { left, up, colours }: Rows,
) -> Result<()> {
    let Grid { rows: frame_rows, cols, .. } = tokens.grid();
    let mut with = memory::filled(NONE, cols)?;
    let mut verdicts = memory::filled(Verdict::Unknown, cols)?;
    let mut scratch = Scratch::new(cols)?;
    for (row, at) in (0..left.len()).step_by(cols).enumerate() {
        let first = (first_row + row) * cols;
        for (col, y) in with.iter_mut().enumerate().skip(1) {
            *y = first + col - 1;
        }
        with[0] = NONE;
        tokens.compare_row(first, &with, &mut verdicts, &mut scratch);
        mark(&mut left[at..at + cols], &verdicts);
        if let Some(spread) = spread {
            for col in (1..cols).filter(|col| left[at + col]) {
                let verdict = verdicts[col];
                let of = Colours::of(tokens, first + col, spread, colours[at + col - 1].if_equal(verdict));
                colours[at + col] = of;
            }
        }
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
        tokens.compare_row(first, &with, &mut verdicts, &mut scratch);
        mark(&mut up[at..at + cols], &verdicts);
        if let Some(spread) = spread {
            for col in (0..cols).filter(|col| up[at + col]) {
                if colours[at + col] == Colours::Unknown {
                    let above = if at > 0 { colours[at + col - cols] } else { Colours::Unknown };
                    let above = above.if_equal(verdicts[col]);
                    colours[at + col] = Colours::of(tokens, first + col, spread, above);
                }
            }
        }
    }
    Ok(())
}

fn mark(plane: &mut [bool], verdicts: &[Verdict]) {
    for (bit, verdict) in plane.iter_mut().zip(verdicts) {
        *bit = matches!(verdict, Verdict::Similar | Verdict::Equal);
    }
}
