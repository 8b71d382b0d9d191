//! Comparison of uint8 tokens.
//!
//! ```text
//! similar(x, y):  for each pixel row of the token: distance += d(segment of x, segment of y)
//!                 similar iff distance <= limit
//! ```
//!
//! To be fast, the code
//! * stops as soon as the distance is over the limit, which makes texture cheap;
//! * processes [`GROUP_ROWS`] pixel rows between two checks;
//! * knows the usual segment lengths at compile time;
//! * prefetches the next group of a token while the tokens beside it are compared;
//! * can walk one token row of the image in the order of memory ([`Scan`]): a token at a time touches 32
//!   lines far apart, which defeats the prefetcher and, where the stride is a multiple of 4096, the cache.
//!
//! One algorithm serves every [`Vector`] width. (Plain loops over arrays were tried first: the compiler
//! vectorised some of the metrics only, and `pred_2d` took twice as long.)

use crate::metric::Budget;
use crate::simd::cache::{CACHE_LINE, prefetch_line};
use crate::simd::level::{Isa, Level};
#[cfg(target_arch = "x86_64")]
use crate::simd::vector::{Avx2, Sse2};
use crate::simd::vector::{Plain, Vector};
use std::marker::PhantomData;

/// Pixel rows between two checks.
pub(crate) const GROUP_ROWS: usize = 4;
/// Longest segment whose distance a [`Vector::Sum`] holds.
pub(crate) const MAX_SEGMENT: usize = 1 << 18;

/// How tokens lie in memory, and how far apart two may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Pixel rows of a token.
    pub rows: usize,
    /// Bytes of a pixel row of a token; at most [`MAX_SEGMENT`].
    pub segment: usize,
    /// Bytes from a pixel row to the next.
    pub stride: usize,
    /// The largest distance that is similar.
    pub limit: u64,
}

/// One token row: token `c` starts at `x + c * segment` and is compared with the token at `y[c]`.
pub(crate) struct Scan<'a> {
    pub data: &'a [u8],
    pub shape: Shape,
    pub x: usize,
    pub y: &'a [usize],
}

/// Compares two tokens that start at `x` and `y` in `data`; true iff similar.
pub(crate) type PairKernel = fn(data: &[u8], x: usize, y: usize, shape: Shape) -> bool;

/// Compares pixel rows `line..line + rows` of the tokens `alive` of one token row with their partners.
/// Moves those still within the limit to the front of `alive`, in order, and returns their number. Adds to
/// `distance`, which stays 0 exactly while a token and its partner are equal.
pub(crate) type ScanKernel =
    fn(scan: &Scan, line: usize, rows: usize, alive: &mut [u32], distance: &mut [u64]) -> usize;

/// The two kernels for a budget and a segment length.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    pub pair: PairKernel,
    pub scan: ScanKernel,
    pub limit: u64,
}

impl Kernels {
    pub(crate) fn new(level: Level, budget: Budget, segment: usize) -> Self {
        match budget {
            Budget::Equal => by_length::<Equal<()>>(level, segment, 0),
            Budget::Max(limit) => by_length::<Max<()>>(level, segment, limit.into()),
            Budget::Mae(limit) => by_length::<Mae<()>>(level, segment, limit),
            Budget::Rmse(limit) => by_length::<Rmse<()>>(level, segment, limit),
        }
    }
}

/// Fixed lengths for tokens of 28 and 32 pixels in 1, 3 and 4 channels; 0 stands for any other.
fn by_length<R: Distance>(level: Level, segment: usize, limit: u64) -> Kernels {
    match segment {
        28 => by_level::<28, R>(level, segment, limit),
        32 => by_level::<32, R>(level, segment, limit),
        84 => by_level::<84, R>(level, segment, limit),
        96 => by_level::<96, R>(level, segment, limit),
        112 => by_level::<112, R>(level, segment, limit),
        128 => by_level::<128, R>(level, segment, limit),
        _ => by_level::<0, R>(level, segment, limit),
    }
}

/// Compiles the pair and the scan kernel for one vector type, with or without a target feature.
macro_rules! kernels {
    ($vector:ty, $limit:expr $(, $feature:literal)?) => {{
        $(#[target_feature(enable = $feature)])?
        unsafe fn pair_here<const N: usize, R: Distance>(data: &[u8], x: usize, y: usize, shape: Shape) -> bool {
            // SAFETY: the caller vouches for the level.
            unsafe { pair::<N, R::Rule<$vector>>(data, x, y, shape) }
        }
        $(#[target_feature(enable = $feature)])?
        unsafe fn scan_here<const N: usize, R: Distance>(
            s: &Scan,
            line: usize,
            rows: usize,
            alive: &mut [u32],
            distance: &mut [u64],
        ) -> usize {
            // SAFETY: the caller vouches for the level.
            unsafe { scan::<N, R::Rule<$vector>>(s, line, rows, alive, distance) }
        }
        Kernels {
            // SAFETY: a `Level` exists only where the CPU has its instructions.
            pair: |data, x, y, shape| unsafe { pair_here::<N, R>(data, x, y, shape) },
            // SAFETY: as above.
            scan: |s, line, rows, alive, distance| unsafe { scan_here::<N, R>(s, line, rows, alive, distance) },
            limit: $limit,
        }
    }};
}

#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))] // Only vectors may be too long for a segment.
fn by_level<const N: usize, R: Distance>(level: Level, segment: usize, limit: u64) -> Kernels {
    match level.isa() {
        Isa::Portable => kernels!(Plain, limit),
        #[cfg(target_arch = "x86_64")]
        Isa::Sse2 => kernels!(Sse2, limit, "sse2"),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if segment < 32 => kernels!(Sse2, limit, "avx2"),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => kernels!(Avx2, limit, "avx2"),
    }
}

#[inline(always)]
unsafe fn pair<const N: usize, R: Rule>(data: &[u8], x: usize, y: usize, shape: Shape) -> bool {
    let mut distance = 0;
    let mut row = 0;
    while row < shape.rows {
        let rows = GROUP_ROWS.min(shape.rows - row);
        let at = row * shape.stride;
        // SAFETY: same level as the caller's.
        if unsafe { group::<N, R>(data, x + at, y + at, rows, shape, &mut distance) } {
            return false;
        }
        row += rows;
    }
    true
}

#[inline(always)]
unsafe fn scan<const N: usize, R: Rule>(
    s: &Scan,
    line: usize,
    rows: usize,
    alive: &mut [u32],
    distance: &mut [u64],
) -> usize {
    let at = line * s.shape.stride;
    let segment = if N > 0 { N } else { s.shape.segment };
    let mut left = 0;
    for i in 0..alive.len() {
        let col = alive[i] as usize;
        let (x, y) = (s.x + at + col * segment, s.y[col] + at);
        // SAFETY: same level as the caller's.
        let over = unsafe { group::<N, R>(s.data, x, y, rows, s.shape, &mut distance[col]) };
        alive[left] = alive[i];
        left += usize::from(!over);
        // The hardware prefetcher sees no pattern in the tokens that are left. Prefetch their next group; for the
        // others this prefetches the current group again, which costs nothing and needs no branch.
        let skip = (usize::from(!over) * rows).wrapping_mul(s.shape.stride);
        let next = s.data.as_ptr().wrapping_add(x).wrapping_add(skip);
        for row in 0..GROUP_ROWS {
            // Two cache lines hold most of a segment; the address need not lie within the data.
            let line = next.wrapping_add(row.wrapping_mul(s.shape.stride));
            prefetch_line(line);
            if segment > CACHE_LINE {
                prefetch_line(line.wrapping_add(CACHE_LINE));
            }
        }
    }
    left
}

/// Adds the distance of `rows` segments to `so_far`; true iff it is over the limit now.
#[inline(always)]
unsafe fn group<const N: usize, R: Rule>(
    data: &[u8],
    x: usize,
    y: usize,
    rows: usize,
    shape: Shape,
    so_far: &mut u64,
) -> bool {
    let segment = if N > 0 { N } else { shape.segment };
    let span = (rows - 1) * shape.stride + segment;
    let (a, b) = (data[x..][..span].as_ptr(), data[y..][..span].as_ptr());
    // SAFETY: `span` bytes from `a` and from `b` on were just checked to exist; the
    // level is the caller's.
    unsafe {
        if N > 0 && rows == GROUP_ROWS {
            // A loop of its own, which the compiler unrolls.
            let mut sum = R::none();
            for row in 0..GROUP_ROWS {
                let at = row * shape.stride;
                sum = segments::<R>(sum, a.add(at), b.add(at), N);
            }
            return R::fold(sum, so_far, shape.limit);
        }
        for row in 0..rows {
            let at = row * shape.stride;
            let sum = segments::<R>(R::none(), a.add(at), b.add(at), segment);
            if R::fold(sum, so_far, shape.limit) {
                return true;
            }
        }
        false
    }
}

/// Adds the distance of two segments of `length` readable bytes to `sum`.
#[inline(always)]
unsafe fn segments<R: Rule>(mut sum: R::Sum, a: *const u8, b: *const u8, length: usize) -> R::Sum {
    let width = R::V::BYTES;
    // SAFETY: every load lies within the `length` bytes, or within the copies.
    unsafe {
        if length < width {
            let (mut x, mut y) = ([0; 32], [0; 32]);
            x[..length].copy_from_slice(std::slice::from_raw_parts(a, length));
            y[..length].copy_from_slice(std::slice::from_raw_parts(b, length));
            return R::add(sum, R::V::load(x.as_ptr()), R::V::load(y.as_ptr()));
        }
        let whole = length / width * width;
        let mut at = 0;
        while at < whole {
            sum = R::add(sum, R::V::load(a.add(at)), R::V::load(b.add(at)));
            at += width;
        }
        if whole < length {
            // The last vector overlaps bytes that were counted already: zero those.
            let back = length - width;
            let fresh = R::V::load(FRESH.as_ptr().add(FRESH.len() / 2 - width + length - whole));
            sum = R::add(sum, R::V::load(a.add(back)).and(fresh), R::V::load(b.add(back)).and(fresh));
        }
        sum
    }
}

/// A vector that ends `n` bytes into the second half has ones in its own last `n` bytes.
static FRESH: [u8; 64] = {
    let mut bytes = [0; 64];
    let mut i = 32;
    while i < 64 {
        bytes[i] = 0xff;
        i += 1;
    }
    bytes
};

/// One metric over one vector type.
trait Rule {
    type V: Vector;
    type Sum: Copy;
    unsafe fn none() -> Self::Sum;
    /// Adds the distance of two vectors.
    unsafe fn add(sum: Self::Sum, x: Self::V, y: Self::V) -> Self::Sum;
    /// Adds `sum` to `so_far`, which stays 0 exactly while all values are equal; true iff over `limit`.
    unsafe fn fold(sum: Self::Sum, so_far: &mut u64, limit: u64) -> bool;
}

/// One metric over every vector type.
trait Distance {
    type Rule<V: Vector>: Rule<V = V>;
}

struct Equal<V>(PhantomData<V>);
struct Max<V>(PhantomData<V>);
struct Mae<V>(PhantomData<V>);
struct Rmse<V>(PhantomData<V>);

macro_rules! rule {
    ($name:ident, $v:ident, $sum:ty, $none:expr, |$s:ident, $x:ident, $y:ident| $add:expr, |$so_far:ident, $limit:ident| $fold:expr) => {
        impl Distance for $name<()> {
            type Rule<V: Vector> = $name<V>;
        }
        impl<$v: Vector> Rule for $name<$v> {
            type V = $v;
            type Sum = $sum;
            #[inline(always)]
            unsafe fn none() -> Self::Sum {
                // SAFETY: the caller vouches for the level, here and below.
                unsafe { $none }
            }
            #[inline(always)]
            unsafe fn add($s: Self::Sum, $x: $v, $y: $v) -> Self::Sum {
                // SAFETY: as above.
                unsafe { $add }
            }
            #[inline(always)]
            unsafe fn fold($s: Self::Sum, $so_far: &mut u64, $limit: u64) -> bool {
                // SAFETY: as above.
                unsafe { $fold }
            }
        }
    };
}

rule!(Equal, V, V, V::zero(), |sum, x, y| sum.or(x.xor(y)), |so_far, _limit| {
    let over = !sum.is_zero();
    *so_far |= u64::from(over);
    over
});
rule!(Max, V, V, V::zero(), |sum, x, y| sum.max(x.abs_diff(y)), |so_far, limit| {
    *so_far |= u64::from(!sum.is_zero());
    !sum.saturating_sub(V::splat(limit as u8)).is_zero()
});
rule!(Mae, V, V::Sum, V::no_sum(), |sum, x, y| V::add_differences(sum, x, y), |so_far, limit| {
    *so_far += V::total_differences(sum);
    *so_far > limit
});
rule!(Rmse, V, V::Sum, V::no_sum(), |sum, x, y| V::add_squares(sum, x, y), |so_far, limit| {
    *so_far += V::total_squares(sum);
    *so_far > limit
});
