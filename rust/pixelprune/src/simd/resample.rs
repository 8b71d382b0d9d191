//! Weighted sums of uint8 pixels with 16-bit weights: the two passes of resizing.
//!
//! ```text
//! out = clamp((sum of weight * value + half) >> shift, 0, 255)
//! ```
//!
//! in 32-bit integers, so every level gives the same bytes. Beyond that, the vector code multiplies and adds
//! two taps at a time.

use crate::image::RGB;
use crate::simd::axis::{Columns, OUTPUTS};
#[cfg(target_arch = "x86_64")]
use crate::simd::level::Isa;
use crate::simd::level::Level;

/// `out[i]` from the `i`th byte of every row; `rows` and `weights` are of one length, every row at least as
/// long as `out`.
pub(crate) type Vertical = fn(rows: &[&[u8]], weights: &[i16], shift: u32, out: &mut [u8]);

/// Output pixels `outputs` of an RGB row, at their places in `out`. Up to four bytes after the
/// last of them may be overwritten. `row` holds the whole input row, and may hold more after it.
pub(crate) type Horizontal =
    fn(row: &[u8], columns: &Columns, groups: std::ops::Range<usize>, out: &mut [u8]);

/// The kernels of a level.
#[derive(Clone, Copy)]
pub(crate) struct ResampleKernels {
    pub vertical: Vertical,
    pub horizontal: Horizontal,
}

impl ResampleKernels {
    pub(crate) fn new(level: Level) -> Self {
        match level.isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self {
                // SAFETY: a `Level` exists only where the CPU has its instructions.
                vertical: |rows, weights, shift, out| unsafe { avx2::vertical(rows, weights, shift, out) },
                // SAFETY: as above.
                horizontal: |row, columns, groups, out| unsafe {
                    avx2::horizontal(row, columns, groups, out);
                },
            },
            _ => Self { vertical, horizontal },
        }
    }
}

fn vertical(rows: &[&[u8]], weights: &[i16], shift: u32, out: &mut [u8]) {
    const AT_ONCE: usize = 64;
    let mut chunks = out.chunks_exact_mut(AT_ONCE);
    let mut at = 0;
    for chunk in &mut chunks {
        let mut sums = [1i32 << (shift - 1); AT_ONCE];
        for (row, &weight) in rows.iter().zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(&row[at..at + AT_ONCE]) {
                *sum += i32::from(weight) * i32::from(value);
            }
        }
        for (byte, sum) in chunk.iter_mut().zip(sums) {
            *byte = (sum >> shift).clamp(0, 255) as u8;
        }
        at += AT_ONCE;
    }
    for (i, byte) in chunks.into_remainder().iter_mut().enumerate() {
        let sum: i32 = rows.iter().zip(weights).map(|(row, &w)| i32::from(w) * i32::from(row[at + i])).sum();
        *byte = ((sum + (1 << (shift - 1))) >> shift).clamp(0, 255) as u8;
    }
}

fn horizontal(row: &[u8], columns: &Columns, groups: std::ops::Range<usize>, out: &mut [u8]) {
    let output = columns.axis.output();
    for group in groups {
        let first = columns.groups.get(group).map_or(0, |&first| first as usize);
        pixels(row, columns, first..(first + OUTPUTS).min(output), out);
    }
}

/// Output pixels one by one.
fn pixels(row: &[u8], columns: &Columns, outputs: std::ops::Range<usize>, out: &mut [u8]) {
    let axis = &columns.axis;
    for x in outputs {
        let mut sums = [1i32 << (axis.shift - 1); RGB];
        let start = axis.starts[x] as usize;
        for (pixel, &weight) in row[start * RGB..axis.input * RGB].chunks_exact(RGB).zip(axis.weights_of(x)) {
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(weight) * i32::from(value);
            }
        }
        for (byte, sum) in out[x * RGB..].iter_mut().zip(sums) {
            *byte = (sum >> axis.shift).clamp(0, 255) as u8;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Columns, OUTPUTS, RGB, pixels};
    use crate::simd::axis::pair_of;
    #[allow(clippy::wildcard_imports)] // The instructions, by their own names.
    use std::arch::x86_64::*;

    /// Bytes of a vector.
    const BYTES: usize = 32;

    /// # Safety
    ///
    /// The CPU has AVX2.
    #[target_feature(enable = "avx2")]
    pub unsafe fn vertical(rows: &[&[u8]], weights: &[i16], shift: u32, out: &mut [u8]) {
        assert!(rows.len() == weights.len() && rows.iter().all(|row| row.len() >= out.len()));
        let whole = out.len() / BYTES * BYTES;
        for at in (0..whole).step_by(BYTES) {
            let half = _mm256_set1_epi32(1 << (shift - 1));
            let mut sums = [half; 4];
            let (pairs, last) = rows.as_chunks::<2>();
            let (weight_pairs, last_weight) = weights.as_chunks::<2>();
            for ([a, b], &[low, high]) in pairs.iter().zip(weight_pairs) {
                // SAFETY: every row has at least `at + BYTES` bytes.
                let (a, b) = unsafe { (load(a.as_ptr().add(at)), load(b.as_ptr().add(at))) };
                add(&mut sums, a, b, _mm256_set1_epi32(pair_of(low, high)));
            }
            if let ([a], &[weight]) = (last, last_weight) {
                // SAFETY: as above.
                let a = unsafe { load(a.as_ptr().add(at)) };
                add(&mut sums, a, _mm256_setzero_si256(), _mm256_set1_epi32(pair_of(weight, 0)));
            }
            let bytes = narrow(sums, _mm_cvtsi32_si128(shift as i32));
            // SAFETY: `at + BYTES` is at most the length of `out`.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().add(at).cast(), bytes) };
        }
        if whole < out.len() {
            rest(rows, weights, shift, whole, out);
        }
    }

    /// The bytes of `out` from `from` on.
    #[cold]
    fn rest(rows: &[&[u8]], weights: &[i16], shift: u32, from: usize, out: &mut [u8]) {
        for (i, byte) in out.iter_mut().enumerate().skip(from) {
            let sum: i32 = rows.iter().zip(weights).map(|(row, &w)| i32::from(w) * i32::from(row[i])).sum();
            *byte = ((sum + (1 << (shift - 1))) >> shift).clamp(0, 255) as u8;
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn load(from: *const u8) -> __m256i {
        // SAFETY: the caller vouches for 32 readable bytes.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    /// Adds `low * a + high * b`, the weights being the halves of `weights`. The four sums are those of
    /// the bytes in the order in which unpacking leaves them; [`narrow`] undoes it.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn add(sums: &mut [__m256i; 4], a: __m256i, b: __m256i, weights: __m256i) {
        let zero = _mm256_setzero_si256();
        let (low, high) = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
        let pairs = [
            _mm256_unpacklo_epi8(low, zero),
            _mm256_unpackhi_epi8(low, zero),
            _mm256_unpacklo_epi8(high, zero),
            _mm256_unpackhi_epi8(high, zero),
        ];
        for (sum, pair) in sums.iter_mut().zip(pairs) {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pair, weights));
        }
    }

    /// Shifts the sums and packs them to bytes; saturating twice is clamping.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn narrow(sums: [__m256i; 4], shift: __m128i) -> __m256i {
        let [a, b, c, d] = sums;
        _mm256_packus_epi16(
            _mm256_packs_epi32(_mm256_sra_epi32(a, shift), _mm256_sra_epi32(b, shift)),
            _mm256_packs_epi32(_mm256_sra_epi32(c, shift), _mm256_sra_epi32(d, shift)),
        )
    }

    /// # Safety
    ///
    /// The CPU has AVX2.
    #[target_feature(enable = "avx2")]
    pub unsafe fn horizontal(row: &[u8], columns: &Columns, groups: std::ops::Range<usize>, out: &mut [u8]) {
        // SAFETY: the caller vouches for AVX2.
        unsafe {
            match columns.axis.longest {
                0..=4 => several::<2>(row, columns, groups, out),
                5 => several::<3>(row, columns, groups, out),
                _ => several::<0>(row, columns, groups, out),
            }
        }
    }

    /// 16 bytes for each of eight outputs: vector `i` has those of output `i`, then those of output `i + 4`.
    ///
    /// # Safety
    ///
    /// All of them are readable, from pixel `starts[i]` behind `row` on.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn load_outputs(row: *const u8, starts: &[u32; OUTPUTS]) -> [__m256i; 4] {
        let mut pixels = [_mm256_setzero_si256(); 4];
        for i in 0..4 {
            // SAFETY: the caller vouches for the bytes.
            pixels[i] = unsafe {
                let low = _mm_loadu_si128(row.add(starts[i] as usize * RGB).cast());
                let high = _mm_loadu_si128(row.add(starts[i + 4] as usize * RGB).cast());
                _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high)
            };
        }
        pixels
    }

    /// The shuffle that picks two pixels of 16 bytes and spreads them to `r r g g b b`, 16 bits each.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn spread(a: i8, b: i8) -> __m256i {
        let (a1, a2) = (a + 1, a + 2);
        let (b1, b2) = if b < 0 { (-1, -1) } else { (b + 1, b + 2) };
        _mm256_broadcastsi128_si256(_mm_setr_epi8(
            a, -1, b, -1, a1, -1, b1, -1, a2, -1, b2, -1, -1, -1, -1, -1,
        ))
    }

    /// `PAIRS` pairs of taps, or 0 for any number of them.
    ///
    /// Two outputs share a vector, one a half: output `i` of a group with output `i + 4`. A load of 16 bytes
    /// holds five RGB pixels.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn several<const PAIRS: usize>(
        row: &[u8],
        columns: &Columns,
        groups: std::ops::Range<usize>,
        out: &mut [u8],
    ) {
        const LOADED: usize = 16;
        let axis = &columns.axis;
        let outputs = axis.output();
        let loads = if PAIRS == 0 { axis.taps.div_ceil(4) } else { 1 };
        let reach = RGB * 4 * (loads - 1) + LOADED;
        let shift = _mm_cvtsi32_si128(axis.shift as i32);
        let half = _mm256_set1_epi32(1 << (axis.shift - 1));
        // The fifth pixel of a load stands alone.
        let (first, second, fifth) = (spread(0, 3), spread(6, 9), spread(12, -1));
        let squeeze = _mm256_broadcastsi128_si256(_mm_setr_epi8(
            0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1,
        ));
        for group in groups {
            let Some(&x) = columns.groups.get(group) else {
                pixels(row, columns, 0..outputs, out);
                return;
            };
            let x = x as usize;
            let starts: &[u32; OUTPUTS] = axis.starts[x..].first_chunk().unwrap();
            let fits = starts[OUTPUTS - 1] as usize * RGB + reach <= row.len()
                && (x + OUTPUTS) * RGB + 4 <= out.len();
            if !fits {
                pixels(row, columns, x..x + OUTPUTS, out);
                continue;
            }
            let weights = &columns.pairs[group * axis.taps / 2..][..axis.taps / 2];
            let mut sums = [half; 4];
            macro_rules! load {
                ($skip:expr) => {
                    // SAFETY: starts ascend, so the check covers all of them.
                    unsafe { load_outputs(row.as_ptr().add($skip), starts) }
                };
            }
            macro_rules! pair {
                ($pixels:expr, $shuffle:expr, $weights:expr) => {{
                    // SAFETY: eight weights of 32 bits.
                    let w = unsafe { _mm256_loadu_si256($weights.as_ptr().cast()) };
                    let w = [
                        _mm256_shuffle_epi32::<0x00>(w),
                        _mm256_shuffle_epi32::<0x55>(w),
                        _mm256_shuffle_epi32::<0xaa>(w),
                        _mm256_shuffle_epi32::<0xff>(w),
                    ];
                    for i in 0..4 {
                        let spread = _mm256_shuffle_epi8($pixels[i], $shuffle);
                        sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(spread, w[i]));
                    }
                }};
            }
            match PAIRS {
                2 | 3 => {
                    let pixels = load!(0);
                    pair!(pixels, first, weights[0]);
                    pair!(pixels, second, weights[1]);
                    if PAIRS == 3 {
                        pair!(pixels, fifth, weights[2]);
                    }
                }
                _ => {
                    for (i, weights) in weights.chunks(2).enumerate() {
                        let pixels = load!(i * 4 * RGB);
                        pair!(pixels, first, weights[0]);
                        if let Some(weights) = weights.get(1) {
                            pair!(pixels, second, weights);
                        }
                    }
                }
            }
            let bytes = _mm256_shuffle_epi8(narrow(sums, shift), squeeze);
            // SAFETY: 28 bytes from the group's place on are in `out`; the halves are stored in order, so
            // the four bytes too many of the first are overwritten by the second.
            unsafe {
                let to = out.as_mut_ptr().add(x * RGB);
                _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(bytes));
                _mm_storeu_si128(to.add(4 * RGB).cast(), _mm256_extracti128_si256::<1>(bytes));
            }
        }
    }
}
