//! Whether a uint8 token is of one colour, and the extent of its values.
//!
//! Every loop stops at the first pixel rows that say no, which makes content cheap.

use crate::simd::compare::{GROUP_ROWS, Shape};
#[cfg(target_arch = "x86_64")]
use crate::simd::level::Isa;
use crate::simd::level::Level;

/// Bytes of the vectors that the usual segments are read in: from their start and up to their end.
const HALF: usize = 48;

/// Bytes whose smallest and largest values are collected side by side.
const LANES: usize = 2 * HALF;

/// Bytes after which pixels of 1, 2, 3, 4, 6 and 12 channels begin anew. Divides [`HALF`].
const PERIOD: usize = 12;

/// Whether no channel of the token that starts at `start` in `data` spans more than `most` levels. The limit of
/// `shape` is not used.
pub(crate) fn is_one_colour(
    level: Level,
    data: &[u8],
    start: usize,
    shape: Shape,
    channels: usize,
    most: u8,
) -> bool {
    let token = Token { data, start, shape, channels };
    match level.isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            #[target_feature(enable = "avx2")]
            fn wide(token: Token, most: u8) -> bool {
                token.is_within(most)
            }
            // SAFETY: an AVX2 level exists only where the CPU has AVX2.
            unsafe { wide(token, most) }
        }
        _ => token.is_within(most),
    }
}

/// The extent of the values of the token that starts at `start` in `data`, or [`Extent::ANYTHING`] if a group of them
/// spans more than `most` levels. The limit of `shape` is not used.
pub(crate) fn extent(level: Level, data: &[u8], start: usize, shape: Shape, most: u8) -> Extent {
    let token = Token { data, start, shape, channels: 1 };
    let extent = match level.isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            #[target_feature(enable = "avx2")]
            fn wide(token: Token, most: u8) -> Option<Extent> {
                token.extent_within(most)
            }
            // SAFETY: an AVX2 level exists only where the CPU has AVX2.
            unsafe { wide(token, most) }
        }
        _ => token.extent_within(most),
    };
    let mut extent = extent.unwrap_or(Extent::ANYTHING);
    // Groups without a value of their own repeat others, which hold values of the same channel.
    let groups = PERIOD.min(shape.segment);
    for i in groups..GROUPS {
        (extent.low[i], extent.high[i]) = (extent.low[i % groups], extent.high[i % groups]);
    }
    extent
}

/// The smallest and the largest of a token's values, in groups: value `i` of a pixel row belongs to group
/// `i % PERIOD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    low: [u8; GROUPS],
    high: [u8; GROUPS],
}

/// The groups of an [`Extent`], and some more to fill a vector.
const GROUPS: usize = 16;

impl Extent {
    /// That of values that may be any.
    pub const ANYTHING: Self = Self { low: [0; GROUPS], high: [u8::MAX; GROUPS] };

    /// The widest span of a channel, if every group holds values of one channel only.
    pub fn spread(&self, channels: usize) -> Option<u8> {
        if !PERIOD.is_multiple_of(channels) {
            return None;
        }
        let channel = |c: usize| {
            let groups = || (c..PERIOD).step_by(channels);
            let low = groups().fold(u8::MAX, |least, i| least.min(self.low[i]));
            groups().fold(0, |most: u8, i| most.max(self.high[i])).saturating_sub(low)
        };
        Some((0..channels).fold(0, |most, c| most.max(channel(c))))
    }

    /// Whether values of two tokens at the same place differ by at most `similar` everywhere (true) or by more than
    /// `different` somewhere (false), as far as their extents tell.
    pub fn compare(&self, other: &Self, similar: u8, different: u8) -> Option<bool> {
        let (mut open, mut over) = ([0; GROUPS], [0; GROUPS]);
        for i in 0..GROUPS {
            let above = self.high[i].saturating_sub(other.low[i]);
            let below = other.high[i].saturating_sub(self.low[i]);
            open[i] = above.max(below).saturating_sub(similar);
            let gap =
                self.low[i].saturating_sub(other.high[i]).max(other.low[i].saturating_sub(self.high[i]));
            over[i] = gap.saturating_sub(different);
        }
        match (open == [0; GROUPS], over == [0; GROUPS]) {
            (true, _) => Some(true),
            (_, false) => Some(false),
            _ => None,
        }
    }
}

#[derive(Clone, Copy)]
struct Token<'a> {
    data: &'a [u8],
    start: usize,
    shape: Shape,
    channels: usize,
}

impl<'a> Token<'a> {
    fn row(self, row: usize) -> &'a [u8] {
        &self.data[self.start + row * self.shape.stride..][..self.shape.segment]
    }

    /// The first and the last bytes of a pixel row, which overlap or meet.
    #[inline(always)]
    fn halves(self, row: usize) -> Option<(&'a [u8; HALF], &'a [u8; HALF])> {
        let row = self.row(row);
        Some((row.first_chunk()?, row.last_chunk()?))
    }

    /// Whether both halves begin with the same channel, and nothing lies between them: in tokens of 28 and 32 RGB
    /// pixels.
    #[inline(always)]
    fn is_usual(self) -> bool {
        let segment = self.shape.segment;
        (HALF..=LANES).contains(&segment) && segment.is_multiple_of(PERIOD)
    }

    #[inline(always)]
    fn is_within(self, most: u8) -> bool {
        let channels = self.channels;
        match (most, PERIOD.is_multiple_of(channels)) {
            (0, _) if self.is_usual() => self.is_one_pixel_in_halves(),
            (0, _) => self.is_one_pixel(),
            (_, false) => (0..channels).all(|channel| self.channel_is_within(channel, most)),
            (_, true) => self
                .extent_within(most)
                .and_then(|extent| extent.spread(channels))
                .is_some_and(|spread| spread <= most),
        }
    }

    /// The extent of the values, or nothing if a group of them spans more than `most`.
    #[inline(always)]
    fn extent_within(self, most: u8) -> Option<Extent> {
        let (low, high) = if self.is_usual() { self.halves_within(most) } else { self.chunks_within(most) }?;
        Some(fold(low, high))
    }

    /// Whether all pixels of the first row are equal.
    fn first_is_one_pixel(self) -> bool {
        let first = self.row(0);
        first[self.channels..] == first[..self.shape.segment - self.channels]
    }

    /// Whether all pixels are equal.
    fn is_one_pixel(self) -> bool {
        self.first_is_one_pixel() && (1..self.shape.rows).all(|row| self.row(row) == self.row(0))
    }

    #[inline(always)]
    fn is_one_pixel_in_halves(self) -> bool {
        let Some((start, end)) = self.halves(0) else { return false };
        if !self.first_is_one_pixel() {
            return false;
        }
        for first in (0..self.shape.rows).step_by(GROUP_ROWS) {
            let mut differences = [0; HALF];
            for row in first..self.shape.rows.min(first + GROUP_ROWS) {
                let Some((a, b)) = self.halves(row) else { return false };
                for i in 0..HALF {
                    differences[i] |= (a[i] ^ start[i]) | (b[i] ^ end[i]);
                }
            }
            if differences != [0; HALF] {
                return false;
            }
        }
        true
    }

    #[inline(always)]
    fn halves_within(self, most: u8) -> Option<([u8; LANES], [u8; LANES])> {
        let (mut low, mut high) = ([u8::MAX; LANES], [0; LANES]);
        for first in (0..self.shape.rows).step_by(GROUP_ROWS) {
            for row in first..self.shape.rows.min(first + GROUP_ROWS) {
                let (a, b) = self.halves(row)?;
                for i in 0..HALF {
                    low[i] = low[i].min(a[i]);
                    high[i] = high[i].max(a[i]);
                    low[HALF + i] = low[HALF + i].min(b[i]);
                    high[HALF + i] = high[HALF + i].max(b[i]);
                }
            }
            if is_wider(&low, &high, most) {
                return None;
            }
        }
        Some((low, high))
    }

    /// For segments of any length.
    #[inline(always)]
    fn chunks_within(self, most: u8) -> Option<([u8; LANES], [u8; LANES])> {
        let segment = self.shape.segment;
        let mut all = ([u8::MAX; LANES], [0; LANES]);
        for at in (0..segment).step_by(LANES) {
            let length = LANES.min(segment - at);
            let (low, high) = (&mut all.0[..length], &mut all.1[..length]);
            for row in 0..self.shape.rows {
                for ((low, high), &value) in
                    low.iter_mut().zip(&mut *high).zip(&self.row(row)[at..at + length])
                {
                    *low = (*low).min(value);
                    *high = (*high).max(value);
                }
            }
            if is_wider(&all.0, &all.1, most) {
                return None;
            }
        }
        Some(all)
    }

    /// For pixels of unusually many channels.
    fn channel_is_within(self, channel: usize, most: u8) -> bool {
        let (mut low, mut high) = (u8::MAX, 0);
        (0..self.shape.rows).all(|row| {
            for &value in self.row(row).iter().skip(channel).step_by(self.channels) {
                low = low.min(value);
                high = high.max(value);
            }
            high - low <= most
        })
    }
}

/// From lanes to groups.
#[inline(always)]
fn fold(mut low: [u8; LANES], mut high: [u8; LANES]) -> Extent {
    let mut length = LANES;
    while length > PERIOD {
        length /= 2;
        for i in 0..length {
            low[i] = low[i].min(low[length + i]);
            high[i] = high[i].max(high[length + i]);
        }
    }
    let mut extent = Extent::ANYTHING;
    extent.low[..PERIOD].copy_from_slice(&low[..PERIOD]);
    extent.high[..PERIOD].copy_from_slice(&high[..PERIOD]);
    extent
}

/// Whether a lane spans more than that.
#[inline(always)]
fn is_wider(low: &[u8; LANES], high: &[u8; LANES], most: u8) -> bool {
    let mut excess = [0; LANES];
    for i in 0..LANES {
        // Lanes without a value saturate to 0.
        excess[i] = high[i].saturating_sub(low[i]).saturating_sub(most);
    }
    excess != [0; LANES]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two tokens of noise side by side; the amplitude and the distance of their means vary.
    fn pairs() -> impl Iterator<Item = (Vec<u8>, Shape, usize)> {
        let shapes = [1, 2, 3, 4, 5, 7]
            .into_iter()
            .flat_map(|channels| [1, 2, 3, 14, 16, 28, 32, 33].into_iter().map(move |side| (side, channels)));
        let mut state = 7u32;
        shapes.flat_map(move |(side, channels)| {
            let segment = side * channels;
            let shape = Shape { rows: side, segment, stride: 2 * segment + 3, limit: 0 };
            let mut pair = |amplitude: u32, step: u8| {
                let mut data = vec![0; side * shape.stride];
                for (i, value) in data.iter_mut().enumerate() {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let column = i % shape.stride;
                    let base =
                        40 + (column % segment % channels) as u8 * 20 + step * u8::from(column >= segment);
                    *value = base + (state >> 16) as u8 % (amplitude as u8 + 1);
                }
                (data, shape, channels)
            };
            [(0, 0), (0, 3), (2, 0), (2, 3), (5, 9), (60, 0), (60, 30)]
                .map(|(amplitude, step)| pair(amplitude, step))
        })
    }

    #[test]
    fn extents_tell_the_spread_and_never_a_wrong_comparison() {
        let mut told = [0; 3];
        for (data, shape, channels) in pairs() {
            let token = |start: usize| (0..shape.rows).map(move |row| start + row * shape.stride);
            let values = |start| token(start).flat_map(|at| data[at..at + shape.segment].iter().copied());
            let largest = values(0).zip(values(shape.segment)).map(|(x, y)| x.abs_diff(y)).max().unwrap();
            let spread = (0..channels)
                .map(|channel| {
                    let values = || values(0).skip(channel).step_by(channels);
                    values().max().unwrap() - values().min().unwrap()
                })
                .max()
                .unwrap();
            for level in Level::available() {
                for most in [0, 2, 5, 100, 255] {
                    let extents = [0, shape.segment].map(|start| extent(level, &data, start, shape, most));
                    if PERIOD.is_multiple_of(channels) {
                        let found = extents[0].spread(channels).unwrap();
                        assert!(
                            found == spread || spread > most && found > most,
                            "{shape:?} {spread} {found} {most}"
                        );
                    }
                    for limit in [0, 1, 3, 4, 8, 30, 254, 255] {
                        let found = extents[0].compare(&extents[1], limit, limit);
                        assert!(
                            found.is_none_or(|similar| similar == (largest <= limit)),
                            "{shape:?} {limit} {found:?}"
                        );
                        told[found.map_or(2, usize::from)] += 1;
                    }
                }
            }
        }
        assert!(told.into_iter().all(|count| count > 1000), "{told:?}");
    }
}
