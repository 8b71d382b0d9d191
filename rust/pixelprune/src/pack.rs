//! From kept tokens of a uint8 image to rows of `pixel_values`.

use crate::error::{Error, Result};
use crate::grid::Grid;
use crate::patches::PatchOrder;
use crate::simd::pack::{Affine, Kernel, PIXELS, PatchValue};
use crate::simd::{Level, RGB};
use rayon::prelude::*;

/// What a row of `pixel_values` looks like, and in which order the rows come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowFormat {
    /// Side of a patch in pixels.
    pub patch: usize,
    /// A token is `merge` x `merge` patches.
    pub merge: usize,
    /// How many times the frame is written: (channel, frame, y, x).
    pub frames: usize,
    /// The values of a pixel lie side by side: (y, x, channel); one frame.
    pub channels_last: bool,
    /// Order of the patches.
    pub order: PatchOrder,
}

impl RowFormat {
    /// Refuses formats that no row has.
    pub fn check(&self) -> Result<()> {
        let Self { patch, merge, frames, channels_last, .. } = *self;
        let fits = [patch, merge, frames].iter().all(|side| (1..=1 << 10).contains(side));
        if fits && !(channels_last && frames != 1) {
            return Ok(());
        }
        Err(Error::Shape(format!(
            "patch {patch}, merge {merge}, frames {frames}; expected 1 to 1024 each, and one frame where channels \
             come last"
        )))
    }

    /// Side of a token in pixels.
    #[must_use]
    pub fn token(&self) -> usize {
        self.patch * self.merge
    }

    /// Values of a row.
    #[must_use]
    pub fn row(&self) -> usize {
        RGB * self.frames * self.patch * self.patch
    }

    /// Values of a token.
    #[must_use]
    pub fn token_values(&self) -> usize {
        self.merge * self.merge * self.row()
    }
}

/// For each channel, what each of the 256 levels becomes.
pub type Table<E> = [[E; 256]; RGB];

/// A token row of an RGB image: its first pixel row is `pixels[..]`, the next `stride` bytes later.
#[derive(Clone, Copy)]
pub(crate) struct TokenRow<'a> {
    pub pixels: &'a [u8],
    pub stride: usize,
}

/// Writes tokens.
pub(crate) struct Packer<'a, E: PatchValue> {
    format: RowFormat,
    table: &'a Table<E>,
    /// Computes what the table holds.
    kernel: Option<(Kernel<E>, &'a Affine)>,
}

impl<'a, E: PatchValue> Packer<'a, E> {
    /// For values that a table gives; if it is that of an affine map, they can be computed instead.
    pub fn new(format: RowFormat, table: &'a Table<E>, affine: Option<&'a Affine>, level: Level) -> Self {
        let is_apt = format.patch >= PIXELS && !format.channels_last;
        let kernel =
            affine.zip(E::kernel(level)).filter(|(affine, kernel)| is_apt && makes(kernel, affine, table));
        Self { format, table, kernel: kernel.map(|(affine, kernel)| (kernel, affine)) }
    }

    /// Writes the tokens in columns `kept` of a token row to `out`, which has just their room.
    ///
    /// With `parallel`, runs on the rayon pool that the caller is in.
    pub fn pack(&self, tokens: TokenRow, kept: &[usize], out: &mut [E], parallel: bool) {
        const AT_ONCE: usize = 8;
        let size = self.format.token_values();
        match self.format.order {
            PatchOrder::Block if parallel => kept
                .par_chunks(AT_ONCE)
                .zip(out.par_chunks_mut(AT_ONCE * size))
                .for_each(|(kept, out)| self.pack(tokens, kept, out, false)),
            PatchOrder::Block => {
                for (&col, out) in kept.iter().zip(out.chunks_mut(size)) {
                    for (patch, out) in out.chunks_mut(self.format.row()).enumerate() {
                        self.patch(tokens, col, patch / self.format.merge, patch % self.format.merge, out);
                    }
                }
            }
            PatchOrder::Raster => {
                let merge = self.format.merge;
                for (i, out) in out.chunks_mut(self.format.row()).enumerate() {
                    let (down, along) = (i / (kept.len() * merge), i % (kept.len() * merge));
                    self.patch(tokens, kept[along / merge], down, along % merge, out);
                }
            }
        }
    }

    /// Writes the patch `down` and `right` in the token in column `col`.
    fn patch(&self, tokens: TokenRow, col: usize, down: usize, right: usize, out: &mut [E]) {
        let RowFormat { patch, merge, frames, channels_last, .. } = self.format;
        let start = down * patch * tokens.stride + (col * merge + right) * patch * RGB;
        if let Some((kernel, affine)) = &self.kernel {
            let plane = frames * patch * patch;
            (kernel.0)(&tokens.pixels[start..], tokens.stride, patch, affine, out, plane);
            repeat(out, patch * patch, frames);
            return;
        }
        let lines = (0..patch).map(|y| &tokens.pixels[start + y * tokens.stride..][..patch * RGB]);
        if channels_last {
            for (line, out) in lines.zip(out.chunks_mut(patch * RGB)) {
                for (out, pixel) in out.chunks_exact_mut(RGB).zip(line.chunks_exact(RGB)) {
                    for ((out, &value), table) in out.iter_mut().zip(pixel).zip(self.table) {
                        *out = table[usize::from(value)];
                    }
                }
            }
            return;
        }
        let plane = patch * patch;
        for (y, line) in lines.enumerate() {
            for (channel, table) in self.table.iter().enumerate() {
                let out = &mut out[channel * frames * plane + y * patch..][..patch];
                for (out, pixel) in out.iter_mut().zip(line.chunks_exact(RGB)) {
                    *out = table[usize::from(pixel[channel])];
                }
            }
        }
        repeat(out, plane, frames);
    }
}

/// Copies the first frame of each channel to the others.
fn repeat<E: Copy>(out: &mut [E], plane: usize, frames: usize) {
    for out in out.chunks_mut(frames * plane) {
        let (first, others) = out.split_at_mut(plane);
        for other in others.chunks_mut(plane) {
            other.copy_from_slice(first);
        }
    }
}

/// Whether the kernel makes the table, for all levels of all channels.
fn makes<E: PatchValue>(kernel: &Kernel<E>, affine: &Affine, table: &Table<E>) -> bool {
    const SIDE: usize = 16;
    let levels: Vec<u8> = (0..=255).flat_map(|level| [level; RGB]).collect();
    let mut out = [E::default(); RGB * SIDE * SIDE];
    (kernel.0)(&levels, SIDE * RGB, SIDE, affine, &mut out, SIDE * SIDE);
    out.iter().zip(table.as_flattened()).all(|(made, wanted)| made.bits() == wanted.bits())
}

/// The columns of the kept tokens of each token row.
pub(crate) fn columns_by_row(keep: &[i64], grid: Grid) -> Vec<Vec<usize>> {
    let mut rows = vec![Vec::new(); grid.rows];
    for &i in keep {
        rows[i as usize / grid.cols].push(i as usize % grid.cols);
    }
    rows
}
