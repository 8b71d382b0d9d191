//! Borrowed pixels, validated once.

use crate::error::{Error, Result};

/// Bytes of an RGB pixel.
pub(crate) const RGB: usize = 3;

/// A uint8 image in place: `height` rows of `width * channels` bytes, `stride` bytes apart.
#[derive(Debug, Clone, Copy)]
pub struct ImageView<'a> {
    data: &'a [u8],
    height: usize,
    width: usize,
    channels: usize,
    stride: usize,
}

impl<'a> ImageView<'a> {
    /// Borrows `data` as an image; the last row need not fill its stride, and the stride of a single row is ignored.
    pub fn new(data: &'a [u8], height: usize, width: usize, channels: usize, stride: usize) -> Result<Self> {
        if height == 0 || width == 0 || channels == 0 {
            return Err(Error::EmptyImage { shape: [height, width, channels] });
        }
        let checked = || {
            let row = width.checked_mul(channels)?;
            let stride = if height == 1 { row } else { stride };
            let needed = (height - 1).checked_mul(stride)?.checked_add(row)?;
            (stride >= row && needed <= data.len()).then_some(stride)
        };
        match checked() {
            Some(stride) => Ok(Self { data, height, width, channels, stride }),
            None => Err(Error::Buffer { bytes: data.len(), shape: [height, width, channels], stride }),
        }
    }

    /// Rows of pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Pixels in a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Bytes in a pixel.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Bytes from the start of a row to the start of the next.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Bytes of all pixels.
    pub(crate) fn bytes(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// All bytes, from the first pixel to the last.
    #[must_use]
    pub fn data(&self) -> &'a [u8] {
        self.data
    }
}
