//! From a mask and the kept tokens back to the source of every token.
//!
//! A decoder repeats every decision of the closed loop: it has the reconstructed neighbours, and the mask
//! says where a prediction failed.

use crate::error::{Error, Result};
use crate::grid::Grid;
use crate::image::ImageView;
use crate::memory;
use crate::metric::Budget;
use crate::select::path::Path;
use crate::select::settings::Method;
use crate::select::tokens::{ImageTokens, Tokens};
use crate::simd::Level;

/// The source of every token, as its rank among the kept tokens.
///
/// `mask` is 0 where a token was dropped. `kept` is the stack of K kept tokens: an image of one token's width and
/// K tokens' height.
pub fn decode(
    mask: &[u8],
    grid: Grid,
    kept: ImageView,
    budget: Budget,
    method: Method,
    level: Level,
) -> Result<Vec<i64>> {
    let tokens = ImageTokens::new(kept, kept.width(), budget, level)?;
    let count = mask.iter().filter(|&&k| k != 0).count();
    if mask.len() != grid.total() || count != tokens.grid().total() {
        let (places, tokens) = (mask.len(), tokens.grid().total());
        return Err(Error::Mask { kept: count, places, tokens });
    }
    let mut rank = 0;
    let ranks = memory::collected(mask.iter().map(|&kept| {
        rank += i64::from(kept != 0);
        rank - 1
    }))?;
    if (0..grid.frames).any(|frame| mask[frame * grid.frame()] == 0) {
        return Err(Error::FirstDropped);
    }
    let similar = |a: i64, b: i64| a == b || tokens.similar(a as usize, b as usize);
    let mut source = memory::filled(0, grid.total())?;
    let cols = grid.cols;
    for first in (0..grid.frames).map(|frame| frame * grid.frame()) {
        match method {
            Method::Pred2d => {
                for (row, col) in Path::Raster.walk(grid.rows, cols) {
                    let i = first + row * cols + col;
                    source[i] = if mask[i] != 0 {
                        ranks[i]
                    } else if row == 0 {
                        source[i - 1]
                    } else if col == 0 {
                        source[i - cols]
                    } else {
                        let (a, b, c) = (source[i - 1], source[i - cols], source[i - cols - 1]);
                        if a != b && similar(c, a) && !similar(c, b) { b } else { a }
                    };
                }
            }
            Method::Raster | Method::Serpentine => {
                let path = if method == Method::Raster { Path::Raster } else { Path::Serpentine };
                let mut run = 0;
                for (row, col) in path.walk(grid.rows, cols) {
                    let i = first + row * cols + col;
                    run = if mask[i] != 0 { ranks[i] } else { run };
                    source[i] = run;
                }
            }
            Method::Either | Method::Unique | Method::Random | Method::ConnComp => {
                return Err(Error::Undecodable { method: method.name() });
            }
        }
    }
    Ok(source)
}
