//! Comparison of runs of `pixel_values`, in whatever type they are stored.

#![allow(clippy::float_cmp)] // Equality is what tau 0 asks for.
#![allow(clippy::verbose_bit_mask)] // The masks name the parts of a float.

use crate::simd::cache::{CACHE_LINE, prefetch_line};
#[cfg(target_arch = "x86_64")]
use crate::simd::level::Isa;
use crate::simd::level::Level;
use crate::simd::sealed::Sealed;

/// An element of `pixel_values`. Sealed, because kernels rely on its implementations.
pub trait Element: Sealed + Copy + Send + Sync + 'static {
    /// Neither NaN nor infinite.
    fn is_finite(self) -> bool;
    /// The value in float32, exactly.
    fn value(self) -> f32;
    /// Whether the values are equal (so 0 equals -0).
    fn same(self, other: Self) -> bool;
    /// Bits that are equal exactly where the values are.
    fn key(self) -> u32;
    /// How far from a whole level on the 0-255 scale a value may be to count as it: more than float32 rounding
    /// takes a normalised uint8 value. The 16-bit types round further: of them, only values close to a level count.
    const GRID: f32;
}

impl Element for u8 {
    const GRID: f32 = 0.5;
    #[inline(always)]
    fn is_finite(self) -> bool {
        true
    }
    #[inline(always)]
    fn value(self) -> f32 {
        self.into()
    }
    #[inline(always)]
    fn same(self, other: Self) -> bool {
        self == other
    }
    #[inline(always)]
    fn key(self) -> u32 {
        self.into()
    }
}

impl Element for f32 {
    const GRID: f32 = 1.0 / 1024.0;
    #[inline(always)]
    fn is_finite(self) -> bool {
        self.to_bits() & 0x7f80_0000 != 0x7f80_0000
    }
    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
    #[inline(always)]
    fn same(self, other: Self) -> bool {
        self == other
    }
    #[inline(always)]
    fn key(self) -> u32 {
        (self + 0.0).to_bits()
    }
}

/// The bits of an IEEE half-precision number.
#[derive(Debug, Clone, Copy, Default)]
#[repr(transparent)]
pub struct Half(pub u16);

impl Sealed for Half {}

impl Element for Half {
    const GRID: f32 = 1.0 / 1024.0;
    #[inline(always)]
    fn is_finite(self) -> bool {
        self.0 & 0x7c00 != 0x7c00
    }
    #[inline(always)]
    fn value(self) -> f32 {
        // The exponent is 112 too small after the shift; multiplying mends it for subnormals too.
        let magnitude = f32::from_bits(u32::from(self.0 & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
        f32::from_bits(magnitude.to_bits() | u32::from(self.0 & 0x8000) << 16)
    }
    #[inline(always)]
    fn same(self, other: Self) -> bool {
        self.0 == other.0 || (self.0 | other.0) & 0x7fff == 0
    }
    #[inline(always)]
    fn key(self) -> u32 {
        if self.0 == 0x8000 { 0 } else { self.0.into() }
    }
}

/// The bits of a bfloat16 number.
#[derive(Debug, Clone, Copy, Default)]
#[repr(transparent)]
pub struct Bfloat(pub u16);

impl Sealed for Bfloat {}

impl Element for Bfloat {
    const GRID: f32 = 1.0 / 1024.0;
    #[inline(always)]
    fn is_finite(self) -> bool {
        self.0 & 0x7f80 != 0x7f80
    }
    #[inline(always)]
    fn value(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
    #[inline(always)]
    fn same(self, other: Self) -> bool {
        self.0 == other.0 || (self.0 | other.0) & 0x7fff == 0
    }
    #[inline(always)]
    fn key(self) -> u32 {
        if self.0 == 0x8000 { 0 } else { self.0.into() }
    }
}

/// How the distance of two values counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Any difference at all.
    Unequal,
    /// The largest difference.
    Largest,
    /// The sum of differences.
    Sum,
    /// The sum of squared differences.
    Squares,
}

/// Per-value factors and offsets that bring stored values to [0, 1], in float32 (uint8 values: to 0-255).
#[derive(Debug, Clone, Copy)]
pub struct Scale<'a> {
    /// What a value is multiplied by.
    pub factor: &'a [f32],
    /// What is added to the product.
    pub offset: &'a [f32],
}

/// Prefetches values. For runs too short and too far apart for the hardware prefetcher.
#[inline]
pub fn prefetch<T>(values: &[T]) {
    for line in (0..size_of_val(values)).step_by(CACHE_LINE) {
        prefetch_line(values.as_ptr().cast::<u8>().wrapping_add(line));
    }
}

/// Compiles a body for AVX2 too, and calls the version for the level.
macro_rules! by_level {
    ($level:expr, $body:ident <$($generic:ident),+> ($($argument:ident: $type:ty),+) -> $output:ty) => {
        match $level.isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                #[target_feature(enable = "avx2")]
                fn wide<$($generic: Element),+>($($argument: $type),+) -> $output {
                    $body($($argument),+)
                }
                // SAFETY: an AVX2 level exists only where the CPU has AVX2.
                unsafe { wide($($argument),+) }
            }
            _ => $body($($argument),+),
        }
    };
}

/// Whether no value is NaN or infinite.
pub fn all_finite<T: Element>(level: Level, x: &[T]) -> bool {
    by_level!(level, all_finite_plain<T>(x: &[T]) -> bool)
}

/// Whether every `step`-th value equals `first`.
pub fn all_same<T: Element>(level: Level, x: &[T], step: usize, first: T) -> bool {
    by_level!(level, all_same_plain<T>(x: &[T], step: usize, first: T) -> bool)
}

/// The smallest and the largest of `so_far` and every `step`-th value.
pub fn range<T: Element>(level: Level, x: &[T], step: usize, so_far: (f32, f32)) -> (f32, f32) {
    by_level!(level, range_plain<T>(x: &[T], step: usize, so_far: (f32, f32)) -> (f32, f32))
}

/// Whether all values are normalised uint8 levels, within the precision of the type; `scale` maps to [0, 1].
pub fn all_levels<T: Element>(level: Level, x: &[T], scale: Scale) -> bool {
    by_level!(level, all_levels_plain<T>(x: &[T], scale: Scale) -> bool)
}

/// The distance of two runs of equal length, added to (or, for `Largest`, joined with) `so_far`: differences
/// of values brought to the scale in float32, summed in float64.
pub fn distance<T: Element>(level: Level, count: Count, x: &[T], y: &[T], scale: Scale, so_far: f64) -> f64 {
    by_level!(level, distance_plain<T>(count: Count, x: &[T], y: &[T], scale: Scale, so_far: f64) -> f64)
}

/// The exact distance in whole levels, for values that are levels; `factor` maps to 0-255.
pub fn level_distance<T: Element>(
    level: Level,
    count: Count,
    x: &[T],
    y: &[T],
    factor: &[f32],
    so_far: f64,
) -> f64 {
    by_level!(level, level_distance_plain<T>(count: Count, x: &[T], y: &[T], factor: &[f32], so_far: f64) -> f64)
}

const LANES: usize = 16;

/// The nearest whole number, for magnitudes below 2**22: in float32 nothing smaller than 1 survives next to
/// 1.5 * 2**23.
#[inline(always)]
fn nearest(value: f32) -> f32 {
    (value + 12_582_912.0) - 12_582_912.0
}

#[inline(always)]
fn all_finite_plain<T: Element>(x: &[T]) -> bool {
    x.iter().fold(true, |finite, v| finite & v.is_finite())
}

#[inline(always)]
fn all_same_plain<T: Element>(x: &[T], step: usize, first: T) -> bool {
    if step == 1 {
        return x.iter().fold(true, |same, v| same & v.same(first));
    }
    x.iter().step_by(step).all(|v| v.same(first))
}

#[inline(always)]
fn range_plain<T: Element>(x: &[T], step: usize, so_far: (f32, f32)) -> (f32, f32) {
    let widen = |(low, high): (f32, f32), v: &T| {
        let v = v.value();
        (if v < low { v } else { low }, if v > high { v } else { high })
    };
    if step > 1 {
        return x.iter().step_by(step).fold(so_far, widen);
    }
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [so_far; LANES];
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = widen(lanes[i], &chunk[i]);
        }
    }
    let join = |a: (f32, f32), b: (f32, f32)| (a.0.min(b.0), a.1.max(b.1));
    lanes.into_iter().fold(rest.iter().fold(so_far, widen), join)
}

#[inline(always)]
fn all_levels_plain<T: Element>(x: &[T], scale: Scale) -> bool {
    let off_level = |x: T, _: T, factor: f32, offset: f32| {
        let level = 255.0 * (x.value() * factor + offset);
        if level.abs() <= 256.0 { (level - nearest(level)).abs() } else { 1.0 }
    };
    fold(x, x, scale, off_level, |a: f32, b| if b > a { b } else { a }, f32::max) < T::GRID
}

#[inline(always)]
fn distance_plain<T: Element>(count: Count, x: &[T], y: &[T], scale: Scale, so_far: f64) -> f64 {
    let difference = |x: T, y: T, factor: f32, offset: f32| {
        ((x.value() * factor + offset) - (y.value() * factor + offset)).abs()
    };
    match count {
        Count::Unequal => {
            let equal = x.iter().zip(y).fold(true, |equal, (x, y)| equal & x.same(*y));
            so_far.max(f64::from(u8::from(!equal)))
        }
        Count::Largest => {
            so_far.max(fold(x, y, scale, difference, |a: f32, b| if b > a { b } else { a }, f32::max).into())
        }
        Count::Sum => so_far + fold(x, y, scale, difference, |sum, d| sum + f64::from(d), |a: f64, b| a + b),
        Count::Squares => {
            so_far
                + fold(x, y, scale, difference, |sum, d| sum + f64::from(d) * f64::from(d), |a: f64, b| a + b)
        }
    }
}

#[inline(always)]
fn level_distance_plain<T: Element>(count: Count, x: &[T], y: &[T], factor: &[f32], so_far: f64) -> f64 {
    // A float32 holds the sum of this many squared differences exactly.
    const EXACT: usize = 256;
    let scale = Scale { factor, offset: factor };
    // The offsets cancel, and what is left of the rounding is far below half a level.
    let difference = |x: T, y: T, factor: f32, _: f32| nearest((x.value() - y.value()).abs() * factor);
    match count {
        Count::Unequal => distance_plain(count, x, y, scale, so_far),
        Count::Largest => {
            so_far.max(fold(x, y, scale, difference, |a: f32, b| if b > a { b } else { a }, f32::max).into())
        }
        Count::Sum | Count::Squares => {
            let squares = count == Count::Squares;
            let mut so_far = so_far;
            for ((x, y), factor) in x.chunks(EXACT).zip(y.chunks(EXACT)).zip(factor.chunks(EXACT)) {
                let scale = Scale { factor, offset: factor };
                let sum = if squares {
                    fold(x, y, scale, difference, |sum, d| sum + d * d, |a: f32, b| a + b)
                } else {
                    fold(x, y, scale, difference, |sum, d| sum + d, |a: f32, b| a + b)
                };
                so_far += f64::from(sum);
            }
            so_far
        }
    }
}

/// Folds the differences in independent lanes, which the compiler turns into vectors: it may not reorder
/// float sums by itself.
#[inline(always)]
fn fold<T: Element, A: Copy + Default>(
    x: &[T],
    y: &[T],
    scale: Scale,
    difference: impl Fn(T, T, f32, f32) -> f32,
    add: impl Fn(A, f32) -> A,
    join: impl Fn(A, A) -> A,
) -> A {
    let mut sums = [A::default(); LANES];
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let ((fs, f_rest), (os, o_rest)) = (scale.factor.as_chunks::<LANES>(), scale.offset.as_chunks::<LANES>());
    for (((x, y), f), o) in xs.iter().zip(ys).zip(fs).zip(os) {
        for i in 0..LANES {
            sums[i] = add(sums[i], difference(x[i], y[i], f[i], o[i]));
        }
    }
    for i in 0..x_rest.len() {
        sums[i] = add(sums[i], difference(x_rest[i], y_rest[i], f_rest[i], o_rest[i]));
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            sums[i] = join(sums[i], sums[i + width]);
        }
    }
    sums[0]
}
