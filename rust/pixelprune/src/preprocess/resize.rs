//! Resizing of uint8 RGB images, a band of output rows at a time.
//!
//! Antialiased bicubic, along the rows first, then along the columns, both on uint8: the same bytes as
//! from torch's `_upsample_bicubic2d_aa`, and so from torchvision's `resize` of a uint8 image.
//!
//! ```text
//! for each input row that the band needs:  shrink or stretch the row      (horizontal)
//! for each output row of the band:         weighted sum of such rows      (vertical)
//! ```
//!
//! In documents and screenshots, many rows repeat the one above. So rows are compared in blocks. A block whose input
//! equals that of the row before is not computed again: its `like` is the earlier row. If all rows of a vertical sum
//! have the same `like`, the sum is that row, because the weights add up to one.

use crate::error::{Error, Result};
use crate::image::{ImageView, RGB};
use crate::memory;
use crate::parallel::Threads;
use crate::preprocess::way::ROWS_AT_ONCE;
use crate::simd::{Axis, Columns, Level, OUTPUTS, ResampleKernels};
use std::ops::Range;

/// Groups of output pixels in a block.
const BLOCK_GROUPS: usize = 8;
/// Bytes that a horizontal kernel may write after the end of a row.
const SLACK: usize = 4;
/// Bytes that a horizontal kernel reads after the end of a row, if they exist.
const OVERREAD: usize = 16;

/// Resizes an RGB image.
pub struct Resizer<'a> {
    plan: Plan<'a>,
    /// The input rows in the buffer.
    at_hand: Range<usize>,
    /// For each of these rows and each block, the row whose block is equal.
    like: Vec<u32>,
    /// These rows, resized to the output's width, if that is not the image's.
    buffer: Vec<u8>,
}

/// What does not change from band to band.
struct Plan<'a> {
    image: ImageView<'a>,
    height: usize,
    width: usize,
    columns: Option<Columns>,
    rows: Option<Axis>,
    /// Repeat the last row and column instead of resampling.
    pad: bool,
    blocks: Vec<Block>,
    kernels: ResampleKernels,
}

/// A piece of every row.
struct Block {
    /// Its groups of output pixels.
    groups: Range<usize>,
    /// Its bytes in an output row.
    bytes: Range<usize>,
    /// The bytes of an input row that it is made of.
    from: Range<usize>,
}

impl<'a> Resizer<'a> {
    /// From an RGB image to `height` x `width` pixels; with `pad`, by repeating the last row and column.
    pub fn new(image: ImageView<'a>, height: usize, width: usize, pad: bool, level: Level) -> Result<Self> {
        Self::check(&image, height, width, pad)?;
        let (from_height, from_width) = (image.height(), image.width());
        let axis = |from: usize, to: usize| (!pad && to != from).then(|| Axis::new(from, to)).transpose();
        let columns = axis(from_width, width)?.map(Columns::new).transpose()?;
        let rows = axis(from_height, height)?;
        let blocks = blocks(columns.as_ref(), width)?;
        let plan =
            Plan { image, height, width, columns, rows, pad, blocks, kernels: ResampleKernels::new(level) };
        Ok(Self { plan, at_hand: 0..0, like: Vec::new(), buffer: Vec::new() })
    }

    /// Refuses what can't be resized or padded.
    pub(crate) fn check(image: &ImageView, height: usize, width: usize, pad: bool) -> Result<()> {
        const LONGEST: usize = 1 << 28;
        let (from_height, from_width) = (image.height(), image.width());
        if image.channels() != RGB {
            return Err(Error::Channels { found: image.channels() });
        }
        let sides = [height, width, from_height, from_width];
        if sides.iter().any(|side| !(1..=LONGEST).contains(side)) {
            return Err(Error::Resize { from: [from_height, from_width], to: [height, width] });
        }
        if pad && (from_height > height || from_width > width) {
            return Err(Error::Pad { from: [from_height, from_width], to: [height, width] });
        }
        Ok(())
    }

    /// Writes output rows `wanted` to `band`, one after the other. Call it for bands from top to bottom.
    pub fn rows(&mut self, wanted: Range<usize>, band: &mut [u8], threads: Threads) -> Result<()> {
        if self.plan.pad {
            self.plan.padded(wanted, band);
            return Ok(());
        }
        let needed = match &self.plan.rows {
            Some(axis) => axis.span(wanted.start, wanted.end - 1),
            None => wanted.clone(),
        };
        self.fetch(needed, threads)?;
        let length = self.plan.width * RGB;
        let this = &*self;
        let few = wanted.clone().step_by(ROWS_AT_ONCE).zip(band.chunks_mut(ROWS_AT_ONCE * length));
        threads.share(few, |(first, band)| {
            let mut taken = memory::with_room(this.plan.rows.as_ref().map_or(1, |axis| axis.longest))?;
            for (i, out) in band.chunks_mut(length).enumerate() {
                this.row(first + i, out, &mut taken);
            }
            Ok(())
        })
    }

    /// All output rows.
    pub fn whole(&mut self, threads: Threads) -> Result<Vec<u8>> {
        let (height, width) = (self.plan.height, self.plan.width);
        let mut whole = memory::filled(0, height.saturating_mul(width * RGB))?;
        self.rows(0..height, &mut whole, threads)?;
        Ok(whole)
    }

    /// Makes `needed` the input rows in the buffer; those that are there already are kept.
    fn fetch(&mut self, needed: Range<usize>, threads: Threads) -> Result<()> {
        let (blocks, stride) = (self.plan.blocks.len(), self.plan.stride());
        let kept = if self.at_hand.contains(&needed.start) {
            needed.start..self.at_hand.end.min(needed.end)
        } else {
            needed.start..needed.start
        };
        self.keep(kept.clone())?;
        self.at_hand = needed.clone();
        memory::resize(&mut self.like, needed.len() * blocks, 0)?;
        memory::resize(&mut self.buffer, needed.len() * stride, 0)?;
        let (old, like) = self.like.split_at_mut(kept.len() * blocks);
        let above = old.rchunks(blocks).next();
        let buffer = &mut self.buffer[kept.len() * stride..];
        let plan = &self.plan;
        // Rows that are split among threads are not compared across the splits.
        let size = if threads.is_parallel() { ROWS_AT_ONCE } else { needed.len() };
        let mut buffers = buffer.chunks_mut((size * stride).max(1));
        let parts = like.chunks_mut(size * blocks).map(|like| (like, buffers.next().unwrap_or_default()));
        threads.share(parts.enumerate(), |(i, (like, buffer))| {
            plan.fetch(kept.end + i * size, above.filter(|_| i == 0), like, buffer);
            Ok(())
        })
    }

    /// Moves rows of the buffer to its front.
    fn keep(&mut self, kept: Range<usize>) -> Result<()> {
        let (blocks, stride) = (self.plan.blocks.len(), self.plan.stride());
        let first = self.at_hand.start;
        let mut was = memory::filled(u32::MAX, blocks)?;
        for (to, row) in kept.enumerate() {
            for (b, block) in self.plan.blocks.iter().enumerate() {
                let like = self.like[(row - first) * blocks + b];
                // Its `like` may not be kept: the first kept row with the same `like` replaces it.
                self.like[to * blocks + b] = match (like == was[b], to) {
                    (true, 1..) => self.like[(to - 1) * blocks + b],
                    _ => row as u32,
                };
                if like != was[b] && stride > 0 {
                    let from = (like as usize - first) * stride;
                    let bytes = from + block.bytes.start..from + block.bytes.end;
                    self.buffer.copy_within(bytes, to * stride + block.bytes.start);
                }
                was[b] = like;
            }
        }
        Ok(())
    }

    /// Writes output row `y`.
    fn row<'b>(&'b self, y: usize, out: &mut [u8], taken: &mut Vec<&'b [u8]>) {
        let plan = &self.plan;
        let blocks = plan.blocks.len();
        let (start, weights) = match &plan.rows {
            Some(axis) => {
                let start = axis.starts[y] as usize;
                let taps = axis.longest.min(self.at_hand.end - start);
                (start, &axis.weights_of(y)[..taps])
            }
            None => (y, &[0][..]),
        };
        let shift = plan.rows.as_ref().map_or(0, |axis| axis.shift);
        let like = |tap: usize| &self.like[(start + tap - self.at_hand.start) * blocks..][..blocks];
        let first = like(0);
        let mut b = 0;
        while b < blocks {
            // Takes as many blocks as depend on the same rows.
            let mut end = b + 1;
            let is_flat = (1..weights.len()).all(|tap| like(tap)[b] == first[b]);
            let alike = |end: usize| {
                if is_flat {
                    first[end] == first[b] && (1..weights.len()).all(|tap| like(tap)[end] == first[b])
                } else {
                    (0..weights.len()).all(|tap| like(tap)[end] == like(tap)[b])
                }
            };
            while end < blocks && alike(end) {
                end += 1;
            }
            let bytes = plan.blocks[b].bytes.start..plan.blocks[end - 1].bytes.end;
            if is_flat {
                out[bytes.clone()].copy_from_slice(&self.input(first[b])[bytes]);
            } else {
                taken.clear();
                taken.extend((0..weights.len()).map(|tap| &self.input(like(tap)[b])[bytes.clone()]));
                (plan.kernels.vertical)(taken, weights, shift, &mut out[bytes]);
            }
            b = end;
        }
    }

    /// An input row in the output's width.
    fn input(&self, row: u32) -> &[u8] {
        match self.plan.stride() {
            0 => self.plan.input(row as usize),
            stride => &self.buffer[(row as usize - self.at_hand.start) * stride..][..stride],
        }
    }
}

impl Plan<'_> {
    fn padded(&self, wanted: Range<usize>, band: &mut [u8]) {
        let image = &self.image;
        for (y, out) in wanted.zip(band.chunks_mut(self.width * RGB)) {
            let row = &self.input(y.min(image.height() - 1))[..image.width() * RGB];
            let (inside, outside) = out.split_at_mut(row.len());
            inside.copy_from_slice(row);
            for pixel in outside.chunks_exact_mut(RGB) {
                pixel.copy_from_slice(&row[row.len() - RGB..]);
            }
        }
    }

    /// Bytes from a row of the buffer to the next; 0 where none is needed.
    fn stride(&self) -> usize {
        if self.columns.is_some() { self.width * RGB + SLACK } else { 0 }
    }

    /// A row of the image, and a few bytes of what comes after it.
    fn input(&self, row: usize) -> &[u8] {
        let image = &self.image;
        let start = row * image.stride();
        let end = (start + image.width() * RGB + OVERREAD).min(image.data().len());
        &image.data()[start..end]
    }

    /// Fills `like` for the input rows from `first` on and, if the width changes, resizes the blocks that are new.
    fn fetch(&self, first: usize, above: Option<&[u32]>, like: &mut [u32], buffer: &mut [u8]) {
        let blocks = self.blocks.len();
        let mut above = above;
        let mut outs = buffer.chunks_mut(self.stride().max(1));
        for (i, like) in like.chunks_mut(blocks).enumerate() {
            let row = self.input(first + i);
            match above {
                Some(above) => {
                    let before = self.input(first + i - 1);
                    for ((like, &above), Block { from, .. }) in like.iter_mut().zip(above).zip(&self.blocks) {
                        let is_same = equal(&row[from.clone()], &before[from.clone()]);
                        *like = if is_same { above } else { (first + i) as u32 };
                    }
                }
                None => like.fill((first + i) as u32),
            }
            if let (Some(columns), Some(out)) = (&self.columns, outs.next()) {
                let is_new = |&like: &u32| like as usize == first + i;
                let mut b = 0;
                while b < blocks {
                    let run = like[b..].iter().take_while(|like| is_new(like)).count();
                    if run > 0 {
                        let groups = self.blocks[b].groups.start..self.blocks[b + run - 1].groups.end;
                        (self.kernels.horizontal)(row, columns, groups, out);
                    }
                    b += run.max(1);
                }
            }
            above = Some(like);
        }
    }
}

fn blocks(columns: Option<&Columns>, width: usize) -> Result<Vec<Block>> {
    let groups = width.div_ceil(OUTPUTS);
    let block = |first: usize| {
        let groups = first..(first + BLOCK_GROUPS).min(groups);
        let pixels = groups.start * OUTPUTS..(groups.end * OUTPUTS).min(width);
        let from = match columns {
            Some(columns) => columns.axis.span(pixels.start, pixels.end - 1),
            None => pixels.clone(),
        };
        let bytes = |pixels: Range<usize>| pixels.start * RGB..pixels.end * RGB;
        Block { groups, bytes: bytes(pixels), from: bytes(from) }
    };
    memory::collected((0..groups).step_by(BLOCK_GROUPS).map(block))
}

/// Whether two slices of one length are equal. (The library's comparison is a loop over bytes on some targets.)
fn equal(x: &[u8], y: &[u8]) -> bool {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<32>(), y.as_chunks::<32>());
    x.iter().zip(y).all(|(x, y)| x == y) && x_rest == y_rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel::Pool;
    use proptest::prelude::*;

    /// The two passes, whole and in plain loops.
    fn slow(image: &[u8], size: (usize, usize), to: (usize, usize)) -> Vec<u8> {
        let pass = |input: &dyn Fn(usize) -> u8, axis: &Axis, i: usize| {
            let sum: i32 = axis
                .weights_of(i)
                .iter()
                .enumerate()
                .filter(|(_, weight)| **weight != 0)
                .map(|(tap, &weight)| i32::from(weight) * i32::from(input(axis.starts[i] as usize + tap)))
                .sum();
            ((sum + (1 << (axis.shift - 1))) >> axis.shift).clamp(0, 255) as u8
        };
        let (columns, rows) = (Axis::new(size.1, to.1).unwrap(), Axis::new(size.0, to.0).unwrap());
        let mut wide = Vec::new();
        for y in 0..size.0 {
            for x in 0..to.1 * RGB {
                let at = |column: usize| image[(y * size.1 + column) * RGB + x % RGB];
                wide.push(if size.1 == to.1 { at(x / RGB) } else { pass(&at, &columns, x / RGB) });
            }
        }
        let mut out = Vec::new();
        for y in 0..to.0 {
            for x in 0..to.1 * RGB {
                let at = |row: usize| wide[row * to.1 * RGB + x];
                out.push(if size.0 == to.0 { at(y) } else { pass(&at, &rows, y) });
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn bands_of_every_level_equal_plain_loops(
            (height, width) in (1usize..70, 1usize..90),
            to in (1usize..80, 1usize..200),
            same in (any::<bool>(), any::<bool>()),
            seed in any::<u64>(),
            kind in 0..4,
            band in 1usize..40,
            parallel in any::<bool>(),
        ) {
            let to = (if same.0 { height } else { to.0 }, if same.1 { width } else { to.1 });
            let mut state = seed;
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as u8
            };
            // Noise; noise of extremes; rows that repeat; flat with some dots.
            let row: Vec<u8> = (0..width * RGB).map(|_| random()).collect();
            let image: Vec<u8> = (0..height * width * RGB)
                .map(|i| match kind {
                    0 => random(),
                    1 => if random() > 127 { 255 } else { 0 },
                    2 if random() > 2 => row[i % (width * RGB)],
                    _ => if random() > 3 { 200 } else { random() },
                })
                .collect();
            let expected = slow(&image, (height, width), to);
            let view = ImageView::new(&image, height, width, RGB, width * RGB).unwrap();
            let pool = Pool::new(2).filter(|_| parallel);
            let threads = pool.as_ref().map_or(Threads::ONE, Pool::threads);
            for level in Level::available() {
                let mut resizer = Resizer::new(view, to.0, to.1, false, level).unwrap();
                let mut found = vec![0; to.0 * to.1 * RGB];
                for (i, out) in found.chunks_mut(band * to.1 * RGB).enumerate() {
                    let rows = i * band..(i * band + band).min(to.0);
                    resizer.rows(rows, out, threads).unwrap();
                }
                prop_assert_eq!(&found, &expected, "{}", level.name());
            }
        }
    }
}
