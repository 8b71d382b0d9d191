//! How far apart the values of a uint8 token are, and whether it is of one colour.
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

/// The most levels that a channel of the token that starts at `start` in `data` spans, if they are at most `most`. The
/// limit of `shape` is not used.
pub(crate) fn spread_within(
    level: Level,
    data: &[u8],
    start: usize,
    shape: Shape,
    channels: usize,
    most: u8,
) -> Option<u8> {
    let token = Token { data, start, shape, channels };
    match level.isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            #[target_feature(enable = "avx2")]
            fn wide(token: Token, most: u8) -> Option<u8> {
                token.spread_within(most)
            }
            // SAFETY: an AVX2 level exists only where the CPU has AVX2.
            unsafe { wide(token, most) }
        }
        _ => token.spread_within(most),
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

    #[inline(always)]
    fn spread_within(self, most: u8) -> Option<u8> {
        let Self { shape: Shape { segment, .. }, channels, .. } = self;
        // Both halves begin with the same channel, and nothing lies between them: tokens of 28 and 32 RGB pixels.
        let is_usual = (HALF..=LANES).contains(&segment) && segment.is_multiple_of(PERIOD);
        match (most, PERIOD.is_multiple_of(channels)) {
            (0, _) if is_usual => self.is_one_pixel_in_halves().then_some(0),
            (0, _) => self.is_one_pixel().then_some(0),
            (_, false) => (0..channels).try_fold(0, |widest, channel| {
                self.channel_within(channel, most).map(|spread| widest.max(spread))
            }),
            (_, true) if is_usual => self.halves_within(most),
            (_, true) => self.chunks_within(most),
        }
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
    fn halves_within(self, most: u8) -> Option<u8> {
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
        Some(self.spread(low, high)).filter(|&spread| spread <= most)
    }

    /// For segments of any length.
    #[inline(always)]
    fn chunks_within(self, most: u8) -> Option<u8> {
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
        Some(self.spread(all.0, all.1)).filter(|&spread| spread <= most)
    }

    /// The widest span of a channel, given those of the lanes.
    #[inline(always)]
    fn spread(self, mut low: [u8; LANES], mut high: [u8; LANES]) -> u8 {
        let mut length = LANES;
        while length > PERIOD {
            length /= 2;
            for i in 0..length {
                low[i] = low[i].min(low[length + i]);
                high[i] = high[i].max(high[length + i]);
            }
        }
        let channel = |c: usize| {
            let lanes = || (c..PERIOD).step_by(self.channels);
            let low = lanes().fold(u8::MAX, |least, i| least.min(low[i]));
            lanes().fold(0, |most: u8, i| most.max(high[i])).saturating_sub(low)
        };
        (0..self.channels).fold(0, |most, c| most.max(channel(c)))
    }

    /// For pixels of unusually many channels.
    fn channel_within(self, channel: usize, most: u8) -> Option<u8> {
        let (mut low, mut high) = (u8::MAX, 0);
        let within = (0..self.shape.rows).all(|row| {
            for &value in self.row(row).iter().skip(channel).step_by(self.channels) {
                low = low.min(value);
                high = high.max(value);
            }
            high - low <= most
        });
        within.then(|| high - low)
    }
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
