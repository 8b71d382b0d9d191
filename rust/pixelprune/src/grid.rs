//! Token grids: how many tokens there are and where they lie.

use crate::error::{Error, Result};
use crate::image::ImageView;

/// A grid of tokens, `frames` x `rows` x `cols`; every side is at least 1 and the product fits a `u32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    pub(crate) frames: usize,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

impl Grid {
    /// A grid with no empty side whose token count can be an index.
    pub fn new(frames: usize, rows: usize, cols: usize) -> Result<Self> {
        let total = frames.checked_mul(rows).and_then(|n| n.checked_mul(cols));
        match total {
            Some(total) if total > 0 && u32::try_from(total).is_ok() => Ok(Self { frames, rows, cols }),
            _ => Err(Error::Grid { shape: [frames, rows, cols] }),
        }
    }

    /// The one-frame grid of an image whose sides are multiples of `token` pixels.
    pub fn of_image(image: &ImageView, token: usize) -> Result<Self> {
        let (height, width) = (image.height(), image.width());
        if token == 0 || height % token != 0 || width % token != 0 {
            return Err(Error::PartialTokens { size: [height, width], token });
        }
        Self::new(1, height / token, width / token)
    }

    /// Frames, each a grid of its own.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Token rows of a frame.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Token columns of a frame.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Tokens in all.
    #[must_use]
    pub fn total(&self) -> usize {
        self.frames * self.rows * self.cols
    }

    /// Tokens of one frame.
    #[must_use]
    pub fn frame(&self) -> usize {
        self.rows * self.cols
    }
}

/// The order of the rows of `pixel_values`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchOrder {
    /// The patches of a token side by side.
    Block,
    /// All patches of a frame row-major.
    Raster,
}
