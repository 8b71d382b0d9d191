//! Open loop: predictors that are Boolean functions of the comparison planes.
//!
//! If similarity is equality, the closed loop decides the same.

use crate::error::Result;
use crate::grid::Grid;
use crate::memory;
use crate::select::colours::Colours;
use crate::select::planes::Planes;

/// A rule that predicts a token from its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predictor {
    /// The left neighbour, or the one above where there is a vertical edge above the left one.
    Pred2d,
    /// The left neighbour if it is similar, else the one above.
    Either,
}

impl Predictor {
    /// The earlier token that token `i`, in row `row` and column `col` of its frame, repeats, if it may be dropped.
    fn repeats(self, planes: &Planes, cols: usize, (row, col, i): (usize, usize, usize)) -> Option<usize> {
        if planes.colours[i] == Colours::Several {
            return None;
        }
        let from_left = || planes.left[i].then(|| i - 1);
        let from_above = || planes.up[i].then(|| i - cols);
        match self {
            Self::Pred2d if row == 0 => from_left(),
            Self::Pred2d if col == 0 => from_above(),
            // C is similar to A but not to B: a vertical edge, so predict the token above.
            Self::Pred2d if !planes.left[i - cols] && planes.up[i - 1] => from_above(),
            Self::Pred2d => from_left(),
            Self::Either => from_left().or_else(from_above),
        }
    }

    /// Whether [`Predictor::repeats`] reads `up` in column `col` of a token row below the first.
    ///
    /// `left` is the plane of this row, `left_above` that of the row above. If that is `None`, any entry may be read.
    pub(crate) fn reads_up(self, col: usize, left: &[bool], left_above: Option<&[bool]>) -> bool {
        match (self, left_above) {
            (Self::Either, _) => !left[col],
            (Self::Pred2d, None) => true,
            // For the token itself if an edge may be above it; for its right neighbour if one may be above that.
            (Self::Pred2d, Some(above)) => col == 0 || !above[col] || above.get(col + 1) == Some(&false),
        }
    }

    /// The source of every token.
    pub fn sources(self, planes: &Planes, grid: Grid) -> Result<Vec<i64>> {
        let mut source = memory::with_room(grid.total())?;
        self.extend(&mut source, planes, grid, grid.frames * grid.rows);
        Ok(source)
    }

    /// Extends `source` in raster order up to token row `end`, counted through all frames. It has room for all
    /// tokens.
    pub(crate) fn extend(self, source: &mut Vec<i64>, planes: &Planes, grid: Grid, end: usize) {
        for row in source.len() / grid.cols..end {
            for col in 0..grid.cols {
                let i = source.len();
                let from = self.repeats(planes, grid.cols, (row % grid.rows, col, i));
                source.push(from.map_or(i as i64, |from| source[from]));
            }
        }
    }
}
