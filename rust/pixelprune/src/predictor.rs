//! Open loop: predictors that are Boolean functions of the comparison planes.
//!
//! At tau = 0 equality is transitive, so these are the closed loop too.

use crate::compare::Planes;
use crate::grid::Grid;

/// `pred_2d` over planes: the source of every token.
#[must_use]
pub fn pred_2d(planes: &Planes, grid: Grid) -> Vec<i64> {
    sources(grid, |row, col, i| {
        let Planes { left, up } = planes;
        if row == 0 {
            return left[i].then(|| i - 1);
        }
        if col == 0 {
            return up[i].then(|| i - grid.cols);
        }
        // C equals A and not B: a vertical edge, so the token continues what is above it.
        if !left[i - grid.cols] && up[i - 1] { up[i].then(|| i - grid.cols) } else { left[i].then(|| i - 1) }
    })
}

/// `either` over planes: the source of every token.
#[must_use]
pub fn either(planes: &Planes, grid: Grid) -> Vec<i64> {
    sources(grid, |_, _, i| if planes.left[i] { Some(i - 1) } else { planes.up[i].then(|| i - grid.cols) })
}

/// Walks the grid in raster order; `predicted_from` gives the earlier token that a dropped one repeats.
fn sources(grid: Grid, predicted_from: impl Fn(usize, usize, usize) -> Option<usize>) -> Vec<i64> {
    let mut source = vec![0; grid.total()];
    let mut i = 0;
    for _ in 0..grid.frames {
        for row in 0..grid.rows {
            for col in 0..grid.cols {
                source[i] = predicted_from(row, col, i).map_or(i as i64, |from| source[from]);
                i += 1;
            }
        }
    }
    source
}
