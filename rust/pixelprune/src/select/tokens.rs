//! Tokens and their comparison, which every method builds on.

use crate::error::{Error, Result};
use crate::grid::Grid;
use crate::image::ImageView;
use crate::memory;
use crate::metric::{Budget, Metric, Spread};
use crate::simd::{Extent, GROUP_ROWS, Kernels, Level, MAX_SEGMENT, Scan, Shape, extent, is_one_colour};
use twox_hash::XxHash3_64;

/// Outcome of comparing two tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not compared.
    Unknown,
    /// Further apart than the budget.
    Different,
    /// Within the budget.
    Similar,
    /// Within the budget, and known to be equal to the last bit.
    Equal,
}

/// Stands for "no token" where a token index is expected.
pub const NONE: usize = usize::MAX;

/// Tokens on a grid that can be compared.
pub trait Tokens: Sync {
    /// The grid they lie on.
    fn grid(&self) -> Grid;

    /// Whether similarity is equality, and so transitive.
    fn is_exact(&self) -> bool;

    /// Whether tokens `x` and `y` (row-major, frame by frame) are similar.
    fn similar(&self, x: usize, y: usize) -> bool;

    /// Whether no channel of a token spans more than that.
    fn is_one_colour(&self, i: usize, spread: Spread) -> bool;

    /// A hash of a token's values: equal tokens have equal hashes.
    fn hash(&self, i: usize) -> Result<u64>;

    /// A hash of a few of the token's values, cheaper than [`Tokens::hash`]: equal tokens have equal sketches.
    fn sketch(&self, i: usize) -> Result<u64> {
        self.hash(i)
    }

    /// Compares token `first + c` with token `with[c]` for every column `c` of the token row that begins at
    /// `first`, except where `with[c]` is `NONE`.
    fn compare_row(&self, first: usize, with: &[usize], verdicts: &mut [Verdict], _: &mut Scratch) {
        let similar = if self.is_exact() { Verdict::Equal } else { Verdict::Similar };
        for (col, (verdict, &y)) in verdicts.iter_mut().zip(with).enumerate() {
            *verdict = match y {
                NONE => Verdict::Unknown,
                y if self.similar(first + col, y) => similar,
                _ => Verdict::Different,
            };
        }
    }
}

/// Buffers of one token row, kept from row to row. They have room for all columns, and never grow.
pub struct Scratch {
    pub(crate) with: Vec<usize>,
    /// Indices of another grid.
    pub(crate) places: Vec<usize>,
    alive: Vec<u32>,
    starts: Vec<usize>,
    distance: Vec<u64>,
}

impl Scratch {
    /// For token rows of `cols` columns.
    pub fn new(cols: usize) -> Result<Self> {
        Ok(Self {
            with: memory::with_room(cols)?,
            places: memory::with_room(cols)?,
            alive: memory::with_room(cols)?,
            starts: memory::with_room(cols)?,
            distance: memory::with_room(cols)?,
        })
    }
}

/// The tokens of a uint8 image, compared in place.
pub struct ImageTokens<'a> {
    image: ImageView<'a>,
    grid: Grid,
    shape: Shape,
    /// Where each token begins in the image's bytes.
    starts: Vec<usize>,
    budget: Budget,
    kernels: Kernels,
    level: Level,
}

impl<'a> ImageTokens<'a> {
    /// Cuts `image` into tokens of `token` x `token` pixels that are similar within `budget`.
    pub fn new(image: ImageView<'a>, token: usize, budget: Budget, level: Level) -> Result<Self> {
        let grid = Grid::of_image(&image, token)?;
        let segment = token * image.channels();
        if segment > MAX_SEGMENT {
            return Err(Error::WideToken { bytes: segment, most: MAX_SEGMENT });
        }
        let kernels = Kernels::new(level, budget, segment);
        let shape = Shape { rows: token, segment, stride: image.stride(), limit: kernels.limit };
        let mut starts = memory::with_room(grid.total())?;
        for row in 0..grid.rows {
            let first = row * shape.rows * shape.stride;
            starts.extend((0..grid.cols).map(|col| first + col * segment));
        }
        Ok(Self { image, grid, shape, starts, budget, kernels, level })
    }

    /// The budget of a metric at a threshold for these tokens.
    pub(crate) fn budget(&self, metric: Metric, tau: f64) -> Result<Budget> {
        Budget::of_token(metric, tau, self.shape.rows, self.image.channels())
    }

    /// Values in a token.
    pub(crate) fn values(&self) -> usize {
        self.shape.rows * self.shape.segment
    }

    /// Whether the distance of two tokens, as the budget measures it, is at most `limit`.
    pub(crate) fn is_within(&self, x: usize, y: usize, limit: u64) -> bool {
        let shape = Shape { limit, ..self.shape };
        (self.kernels.pair)(self.image.data(), self.starts[x], self.starts[y], shape)
    }

    /// The extent of a token's values, if no channel spans more than `most` levels.
    pub(crate) fn extent(&self, i: usize, most: u8) -> Extent {
        extent(self.level, self.image.data(), self.starts[i], self.shape, most)
    }

    /// The most levels that a channel of a token of that extent spans.
    pub(crate) fn spread(&self, i: usize, extent: &Extent) -> u8 {
        let channels = self.image.channels();
        let of_channel = |channel| {
            let values = || self.segments(i).flat_map(move |row| row[channel..].iter().step_by(channels));
            values().max().zip(values().min()).map_or(0, |(most, least)| most - least)
        };
        extent.spread(channels).unwrap_or_else(|| (0..channels).map(of_channel).max().unwrap_or(0))
    }

    /// The pixel rows of a token, in order.
    pub(crate) fn segments(&self, index: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let Shape { rows, segment, stride, .. } = self.shape;
        let (data, start) = (self.image.data(), self.starts[index]);
        (0..rows).map(move |row| &data[start + row * stride..][..segment])
    }
}

impl Tokens for ImageTokens<'_> {
    fn grid(&self) -> Grid {
        self.grid
    }

    fn is_exact(&self) -> bool {
        self.budget.is_exact()
    }

    fn similar(&self, x: usize, y: usize) -> bool {
        (self.kernels.pair)(self.image.data(), self.starts[x], self.starts[y], self.shape)
    }

    fn is_one_colour(&self, i: usize, spread: Spread) -> bool {
        let Self { image, shape, starts, level, .. } = self;
        is_one_colour(*level, image.data(), starts[i], *shape, image.channels(), spread.levels)
    }

    fn hash(&self, i: usize) -> Result<u64> {
        fingerprint(self.segments(i), self.shape.rows * self.shape.segment)
    }

    fn sketch(&self, i: usize) -> Result<u64> {
        // From the middle of the token: its first rows are often blank.
        let few = self.segments(i).skip(self.shape.rows / 2).take(GROUP_ROWS);
        fingerprint(few, GROUP_ROWS * self.shape.segment)
    }

    fn compare_row(&self, first: usize, with: &[usize], verdicts: &mut [Verdict], scratch: &mut Scratch) {
        let Scratch { alive, starts, distance, .. } = scratch;
        alive.clear();
        starts.clear();
        distance.clear();
        distance.resize(with.len(), 0);
        for (col, &y) in with.iter().enumerate() {
            starts.push(if y == NONE { 0 } else { self.starts[y] });
            if y == NONE {
                verdicts[col] = Verdict::Unknown;
            } else {
                verdicts[col] = Verdict::Different;
                alive.push(col as u32);
            }
        }
        let scan = Scan { data: self.image.data(), shape: self.shape, x: self.starts[first], y: starts };
        let mut left = alive.len();
        for line in (0..self.shape.rows).step_by(GROUP_ROWS) {
            if left == 0 {
                return;
            }
            let lines = GROUP_ROWS.min(self.shape.rows - line);
            left = (self.kernels.scan)(&scan, line, lines, &mut alive[..left], distance);
        }
        for &col in &alive[..left] {
            let col = col as usize;
            verdicts[col] = if distance[col] == 0 { Verdict::Equal } else { Verdict::Similar };
        }
    }
}

/// The fingerprint of `total` bytes, given in segments.
pub(crate) fn fingerprint<'a>(segments: impl Iterator<Item = &'a [u8]>, total: usize) -> Result<u64> {
    // Copying a token into one buffer costs less than hashing it in pieces.
    let mut bytes = memory::with_room(total)?;
    segments.for_each(|segment| bytes.extend_from_slice(segment));
    Ok(XxHash3_64::oneshot(&bytes))
}
