//! Whether a uint8 token is of one colour.
//!
//! Every loop stops at the first pixel rows that say no, which makes content cheap.

use crate::simd::compare::{GROUP_ROWS, Shape};
#[cfg(target_arch = "x86_64")]
use crate::simd::level::Isa;
use crate::simd::level::Level;

/// Bytes of a pixel row whose smallest and largest values are collected side by side. A multiple of [`PERIOD`].
const LANES: usize = 96;

/// Bytes after which pixels of 1, 2, 3, 4, 6 and 12 channels begin anew.
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
    if most == 0 {
        return token.is_one_pixel();
    }
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

    /// Whether all pixels are equal. Comparisons of slices use vectors already.
    fn is_one_pixel(self) -> bool {
        let first = self.row(0);
        first[self.channels..] == first[..self.shape.segment - self.channels]
            && (1..self.shape.rows).all(|row| self.row(row) == first)
    }

    #[inline(always)]
    fn is_within(self, most: u8) -> bool {
        let Self { shape: Shape { segment, .. }, channels, .. } = self;
        if !PERIOD.is_multiple_of(channels) {
            return (0..channels).all(|channel| self.channel_is_within(channel, most));
        }
        // The lengths of tokens of 28 and 32 RGB pixels are known at compile time.
        match segment {
            84 => self.columns_are_within::<84>(most),
            96 => self.columns_are_within::<96>(most),
            _ => self.chunks_are_within(most),
        }
    }

    /// For segments of `N` bytes, at most [`LANES`].
    #[inline(always)]
    fn columns_are_within<const N: usize>(self, most: u8) -> bool {
        let (mut low, mut high) = ([u8::MAX; LANES], [0; LANES]);
        for first in (0..self.shape.rows).step_by(GROUP_ROWS) {
            for row in first..self.shape.rows.min(first + GROUP_ROWS) {
                let Some(row) = self.row(row).first_chunk::<N>() else { return false };
                for i in 0..N {
                    low[i] = low[i].min(row[i]);
                    high[i] = high[i].max(row[i]);
                }
            }
            if widest(&low, &high) > most {
                return false;
            }
        }
        self.spread(low, high) <= most
    }

    /// For segments of any length.
    #[inline(always)]
    fn chunks_are_within(self, most: u8) -> bool {
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
            if widest(&all.0, &all.1) > most {
                return false;
            }
        }
        self.spread(all.0, all.1) <= most
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

/// The widest span of a lane.
#[inline(always)]
fn widest(low: &[u8; LANES], high: &[u8; LANES]) -> u8 {
    // Lanes without a value saturate to 0.
    low.iter().zip(high).fold(0, |most, (low, high)| most.max(high.saturating_sub(*low)))
}
