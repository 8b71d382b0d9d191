//! Open loop: predictors that are Boolean functions of the comparison planes.
//!
//! At tau = 0 equality is transitive, so these are the closed loop too.

use crate::compare::Planes;
use crate::error::Result;
use crate::grid::Grid;
use crate::memory;

/// `pred_2d` over planes: the source of every token.
pub fn pred_2d(planes: &Planes, grid: Grid) -> Result<Vec<i64>> {
    let mut source = memory::with_room(grid.total())?;
    extend_pred_2d(&mut source, planes, grid, grid.frames * grid.rows);
    Ok(source)
}

/// `either` over planes: the source of every token.
pub fn either(planes: &Planes, grid: Grid) -> Result<Vec<i64>> {
    let mut source = memory::with_room(grid.total())?;
    extend_either(&mut source, planes, grid, grid.frames * grid.rows);
    Ok(source)
}

/// Goes on with `pred_2d` up to token row `end`, counted through all frames. `source` has room for all tokens.
pub(crate) fn extend_pred_2d(source: &mut Vec<i64>, planes: &Planes, grid: Grid, end: usize) {
    let Planes { left, up } = planes;
    extend(source, grid, end, |row, col, i| {
        if row == 0 {
            return left[i].then(|| i - 1);
        }
        if col == 0 {
            return up[i].then(|| i - grid.cols);
        }
        // C equals A and not B: a vertical edge, so the token continues what is above it.
        if !left[i - grid.cols] && up[i - 1] { up[i].then(|| i - grid.cols) } else { left[i].then(|| i - 1) }
    });
}

/// Goes on with `either` up to token row `end`, counted through all frames. `source` has room for all tokens.
pub(crate) fn extend_either(source: &mut Vec<i64>, planes: &Planes, grid: Grid, end: usize) {
    extend(
        source,
        grid,
        end,
        |_, _, i| {
            if planes.left[i] { Some(i - 1) } else { planes.up[i].then(|| i - grid.cols) }
        },
    );
}

/// Walks the grid in raster order, from where `source` ends to token row `end`; `predicted_from` gives the
/// earlier token that a dropped one repeats.
fn extend(
    source: &mut Vec<i64>,
    grid: Grid,
    end: usize,
    predicted_from: impl Fn(usize, usize, usize) -> Option<usize>,
) {
    for row in source.len() / grid.cols..end {
        for col in 0..grid.cols {
            let i = source.len();
            source.push(predicted_from(row % grid.rows, col, i).map_or(i as i64, |from| source[from]));
        }
    }
}
