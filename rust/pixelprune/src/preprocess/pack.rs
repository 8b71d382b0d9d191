//! From kept tokens of a uint8 image to rows of `pixel_values`.

use crate::error::Result;
use crate::grid::PatchOrder;
use crate::image::{ImageView, RGB};
use crate::memory;
use crate::parallel::Threads;
use crate::preprocess::job::{Recipe, RowFormat, Table};
use crate::preprocess::way;
use crate::simd::pack::{Affine, Kernel, PIXELS, PatchValue};
use crate::simd::{copy_past_caches, finish_stores};

/// A token row of an RGB image.
#[derive(Clone, Copy)]
pub(crate) struct TokenRow<'a> {
    pub pixels: &'a [u8],
    /// Bytes from a token to the next.
    pub step: usize,
    /// Bytes from a pixel row of a token to the next.
    pub stride: usize,
}

/// A token row and the columns of its kept tokens.
pub(crate) type KeptRow<'a> = (TokenRow<'a>, Vec<usize>);

/// The token rows of an image that have tokens in `keep`.
pub(crate) fn rows_of<'a>(
    image: ImageView<'a>,
    keep: &'a [i64],
    token: usize,
) -> impl Iterator<Item = Result<KeptRow<'a>>> {
    let (cols, stride) = (image.width() / token, image.stride());
    by_row(keep, cols).map(move |kept| {
        let first = kept[0] as usize / cols;
        let columns = memory::collected(kept.iter().map(|&i| i as usize % cols))?;
        let pixels = &image.data()[first * token * stride..];
        Ok((TokenRow { pixels, step: token * RGB, stride }, columns))
    })
}

/// Kept tokens of a grid of `cols` columns, token row by token row.
pub(crate) fn by_row(keep: &[i64], cols: usize) -> impl Iterator<Item = &[i64]> {
    keep.chunk_by(move |&a, &b| a as usize / cols == b as usize / cols)
}

/// Writes the patches of tokens.
pub(crate) struct Packer<'a, E: PatchValue> {
    format: RowFormat,
    table: &'a Table<E>,
    /// Computes the values of the table; `None`: look them up.
    kernel: Option<(Kernel<E>, &'a Affine)>,
    /// Whether there is too much output for the caches.
    past_caches: bool,
}

impl<'a, E: PatchValue> Packer<'a, E> {
    /// A packer for `tokens` tokens. It computes values by the recipe's affine map if the results equal its table.
    pub fn new(recipe: &Recipe<'a, E>, tokens: usize) -> Self {
        let Recipe { format, table, affine, level, .. } = *recipe;
        let is_apt = format.patch >= PIXELS && !format.channels_last;
        let kernel =
            affine.zip(E::kernel(level)).filter(|(affine, kernel)| is_apt && makes(kernel, affine, table));
        let past_caches = size_of::<E>() * format.token_values() * tokens > way::CACHED_BYTES;
        Self { format, table, kernel: kernel.map(|(affine, kernel)| (kernel, affine)), past_caches }
    }

    /// Values of a token.
    pub fn token_values(&self) -> usize {
        self.format.token_values()
    }

    /// Writes the kept tokens of some rows one after the other, and returns what is left of `out`.
    pub fn pack_rows<'r, 'o>(
        &self,
        rows: impl Iterator<Item = Result<KeptRow<'r>>>,
        out: &'o mut [E],
        threads: Threads,
    ) -> Result<&'o mut [E]> {
        let mut rest = out;
        let mut shared = Vec::new();
        for row in rows {
            let (row, columns) = row?;
            let (here, after) = rest.split_at_mut(columns.len() * self.token_values());
            rest = after;
            if threads.is_parallel() {
                memory::reserve(&mut shared, 1)?;
                shared.push((row, columns, here));
            } else {
                self.pack(row, &columns, here)?;
            }
        }
        let tasks = shared.iter_mut().flat_map(|(row, columns, out)| {
            let at_once = self.at_once(columns.len());
            let outs = out.chunks_mut(at_once * self.token_values());
            columns.chunks(at_once).zip(outs).map(|(columns, out)| (*row, columns, out))
        });
        threads.share(tasks, |(row, columns, out)| self.pack(row, columns, out))?;
        Ok(rest)
    }

    /// How many tokens of a row make one task when threads share them.
    fn at_once(&self, kept: usize) -> usize {
        match self.format.order {
            PatchOrder::Block => 8,
            PatchOrder::Raster => kept.max(1), // The patches of its tokens are interleaved.
        }
    }

    /// Writes the tokens in columns `kept` of a token row to `out`, which has exactly their length.
    fn pack(&self, tokens: TokenRow, kept: &[usize], out: &mut [E]) -> Result<()> {
        let merge = self.format.merge;
        let mut frame = memory::filled(E::default(), self.format.row() / self.format.frames)?;
        for (i, out) in out.chunks_mut(self.format.row()).enumerate() {
            let (col, down, right) = match self.format.order {
                PatchOrder::Block => (kept[i / (merge * merge)], i / merge % merge, i % merge),
                PatchOrder::Raster => {
                    let (down, along) = (i / (kept.len() * merge), i % (kept.len() * merge));
                    (kept[along / merge], down, along % merge)
                }
            };
            let side = self.format.patch;
            let start = col * tokens.step + right * side * RGB + down * side * tokens.stride;
            self.patch(&tokens.pixels[start..], tokens.stride, &mut frame);
            self.repeat(&frame, out);
        }
        if self.past_caches {
            finish_stores();
        }
        Ok(())
    }

    /// Makes one frame of the patch that begins with `pixels`.
    fn patch(&self, pixels: &[u8], stride: usize, frame: &mut [E]) {
        let side = self.format.patch;
        if let Some((kernel, affine)) = &self.kernel {
            (kernel.0)(pixels, stride, side, affine, frame, side * side);
            return;
        }
        let pixels = (0..side).flat_map(|y| pixels[y * stride..][..side * RGB].as_chunks().0);
        let levels =
            |pixel: &[u8; RGB]| -> [E; RGB] { std::array::from_fn(|c| self.table[c][usize::from(pixel[c])]) };
        if self.format.channels_last {
            for (to, pixel) in frame.as_chunks_mut().0.iter_mut().zip(pixels) {
                *to = levels(pixel);
            }
            return;
        }
        let (red, others) = frame.split_at_mut(side * side);
        let (green, blue) = others.split_at_mut(side * side);
        for (((red, green), blue), pixel) in red.iter_mut().zip(green).zip(blue).zip(pixels) {
            [*red, *green, *blue] = levels(pixel);
        }
    }

    /// Writes the frame of a patch `frames` times, channel by channel.
    fn repeat(&self, frame: &[E], out: &mut [E]) {
        let RowFormat { patch, frames, channels_last, .. } = self.format;
        let plane = if channels_last { frame.len() } else { patch * patch };
        for (plane, out) in frame.chunks(plane).zip(out.chunks_mut(frames * plane)) {
            for out in out.chunks_mut(plane.len()) {
                if self.past_caches {
                    copy_past_caches(plane, out);
                } else {
                    out.copy_from_slice(plane);
                }
            }
        }
    }
}

/// Whether the kernel computes exactly the table, for all levels of all channels.
fn makes<E: PatchValue>(kernel: &Kernel<E>, affine: &Affine, table: &Table<E>) -> bool {
    const SIDE: usize = 16;
    let levels: [[u8; RGB]; 256] = std::array::from_fn(|level| [level as u8; RGB]);
    let mut out = [E::default(); RGB * SIDE * SIDE];
    (kernel.0)(levels.as_flattened(), SIDE * RGB, SIDE, affine, &mut out, SIDE * SIDE);
    out.iter().zip(table.as_flattened()).all(|(made, wanted)| made.bits() == wanted.bits())
}
