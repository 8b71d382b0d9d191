//! A vector of bytes, with the few operations that comparing tokens needs.

/// Byte vectors of one width.
///
/// # Safety
///
/// Methods may use the instructions of the level that the type belongs to: call them only where the CPU is
/// known to have them.
pub(crate) unsafe trait Vector: Copy {
    /// Bytes in a vector.
    const BYTES: usize;
    /// A running sum of distances; holds those of 2**18 bytes without overflow.
    type Sum: Copy;

    /// Loads `BYTES` bytes, which must be readable; any alignment.
    unsafe fn load(from: *const u8) -> Self;
    unsafe fn zero() -> Self;
    unsafe fn and(self, other: Self) -> Self;
    unsafe fn or(self, other: Self) -> Self;
    unsafe fn xor(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn saturating_sub(self, other: Self) -> Self;
    unsafe fn splat(byte: u8) -> Self;
    unsafe fn is_zero(self) -> bool;

    unsafe fn no_sum() -> Self::Sum;
    /// Adds the absolute differences.
    unsafe fn add_differences(sum: Self::Sum, x: Self, y: Self) -> Self::Sum;
    unsafe fn total_differences(sum: Self::Sum) -> u64;
    /// Adds the squared differences.
    unsafe fn add_squares(sum: Self::Sum, x: Self, y: Self) -> Self::Sum;
    unsafe fn total_squares(sum: Self::Sum) -> u64;

    /// Absolute differences.
    #[inline(always)]
    unsafe fn abs_diff(self, other: Self) -> Self {
        // SAFETY: same level as the caller's.
        unsafe { self.saturating_sub(other).or(other.saturating_sub(self)) }
    }
}

/// Plain arrays, for targets without vectors of their own here; the compiler vectorises single operations.
#[derive(Clone, Copy)]
pub(crate) struct Plain([u8; 16]);

macro_rules! plain {
    ($f:expr, $x:expr, $y:expr) => {
        Self(std::array::from_fn(|i| $f($x.0[i], $y.0[i])))
    };
}

// SAFETY: no instruction beyond the target's own is used.
unsafe impl Vector for Plain {
    const BYTES: usize = 16;
    type Sum = [u32; 16];

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller vouches for 16 readable bytes; an array of bytes has no alignment.
        Self(unsafe { *from.cast::<[u8; 16]>() })
    }
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0; 16])
    }
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        plain!(|x, y| x & y, self, other)
    }
    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        plain!(|x, y| x | y, self, other)
    }
    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        plain!(|x, y| x ^ y, self, other)
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        plain!(u8::max, self, other)
    }
    #[inline(always)]
    unsafe fn saturating_sub(self, other: Self) -> Self {
        plain!(u8::saturating_sub, self, other)
    }
    #[inline(always)]
    unsafe fn splat(byte: u8) -> Self {
        Self([byte; 16])
    }
    #[inline(always)]
    unsafe fn is_zero(self) -> bool {
        self.0 == [0; 16]
    }
    #[inline(always)]
    unsafe fn no_sum() -> Self::Sum {
        [0; 16]
    }
    #[inline(always)]
    unsafe fn add_differences(sum: Self::Sum, x: Self, y: Self) -> Self::Sum {
        std::array::from_fn(|i| sum[i] + u32::from(x.0[i].abs_diff(y.0[i])))
    }
    #[inline(always)]
    unsafe fn total_differences(sum: Self::Sum) -> u64 {
        sum.into_iter().map(u64::from).sum()
    }
    #[inline(always)]
    unsafe fn add_squares(sum: Self::Sum, x: Self, y: Self) -> Self::Sum {
        std::array::from_fn(|i| {
            let difference = u16::from(x.0[i].abs_diff(y.0[i]));
            sum[i] + u32::from(difference * difference)
        })
    }
    #[inline(always)]
    unsafe fn total_squares(sum: Self::Sum) -> u64 {
        sum.into_iter().map(u64::from).sum()
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    #[allow(clippy::wildcard_imports)] // The names are spelled out below.
    use std::arch::x86_64::*;

    /// Implements [`Vector`] for one register width from the names of its intrinsics.
    macro_rules! register {
        (
            $name:ident, $register:ty, $bytes:literal, $load:ident, $zero:ident, $and:ident, $or:ident, $xor:ident,
            $max:ident, $subs:ident, $splat:ident, $sad:ident, $add64:ident, $lo:ident, $hi:ident, $sub16:ident,
            $madd:ident, $add32:ident, |$test:ident| $is_zero:expr
        ) => {
            #[derive(Clone, Copy)]
            pub(crate) struct $name($register);

            // SAFETY: only this register width's instructions are used.
            unsafe impl Vector for $name {
                const BYTES: usize = $bytes;
                type Sum = $register;

                #[inline(always)]
                unsafe fn load(from: *const u8) -> Self {
                    // SAFETY: the caller vouches for the bytes and the level; the load is unaligned.
                    Self(unsafe { $load(from.cast()) })
                }
                #[inline(always)]
                unsafe fn zero() -> Self {
                    // SAFETY: the caller vouches for the level, here and below.
                    Self(unsafe { $zero() })
                }
                #[inline(always)]
                unsafe fn and(self, other: Self) -> Self {
                    // SAFETY: as for `zero`.
                    Self(unsafe { $and(self.0, other.0) })
                }
                #[inline(always)]
                unsafe fn or(self, other: Self) -> Self {
                    // SAFETY: as for `zero`.
                    Self(unsafe { $or(self.0, other.0) })
                }
                #[inline(always)]
                unsafe fn xor(self, other: Self) -> Self {
                    // SAFETY: as for `zero`.
                    Self(unsafe { $xor(self.0, other.0) })
                }
                #[inline(always)]
                unsafe fn max(self, other: Self) -> Self {
                    // SAFETY: as for `zero`.
                    Self(unsafe { $max(self.0, other.0) })
                }
                #[inline(always)]
                unsafe fn saturating_sub(self, other: Self) -> Self {
                    // SAFETY: as for `zero`.
                    Self(unsafe { $subs(self.0, other.0) })
                }
                #[inline(always)]
                unsafe fn splat(byte: u8) -> Self {
                    // SAFETY: as for `zero`.
                    Self(unsafe { $splat(byte.cast_signed()) })
                }
                #[inline(always)]
                unsafe fn is_zero(self) -> bool {
                    let $test = self.0;
                    // SAFETY: as for `zero`.
                    unsafe { $is_zero }
                }
                #[inline(always)]
                unsafe fn no_sum() -> Self::Sum {
                    // SAFETY: as for `zero`.
                    unsafe { $zero() }
                }
                #[inline(always)]
                unsafe fn add_differences(sum: Self::Sum, x: Self, y: Self) -> Self::Sum {
                    // SAFETY: as for `zero`.
                    unsafe { $add64(sum, $sad(x.0, y.0)) }
                }
                #[inline(always)]
                unsafe fn total_differences(sum: Self::Sum) -> u64 {
                    // SAFETY: both types are plain bytes of the same size.
                    let lanes: [u64; $bytes / 8] = unsafe { std::mem::transmute(sum) };
                    lanes.into_iter().sum()
                }
                #[inline(always)]
                unsafe fn add_squares(sum: Self::Sum, x: Self, y: Self) -> Self::Sum {
                    // SAFETY: as for `zero`.
                    unsafe {
                        let zero = $zero();
                        let low = $sub16($lo(x.0, zero), $lo(y.0, zero));
                        let high = $sub16($hi(x.0, zero), $hi(y.0, zero));
                        $add32(sum, $add32($madd(low, low), $madd(high, high)))
                    }
                }
                #[inline(always)]
                unsafe fn total_squares(sum: Self::Sum) -> u64 {
                    // SAFETY: both types are plain bytes of the same size.
                    let lanes: [u32; $bytes / 4] = unsafe { std::mem::transmute(sum) };
                    lanes.into_iter().map(u64::from).sum()
                }
            }
        };
    }

    register!(
        Sse2,
        __m128i,
        16,
        _mm_loadu_si128,
        _mm_setzero_si128,
        _mm_and_si128,
        _mm_or_si128,
        _mm_xor_si128,
        _mm_max_epu8,
        _mm_subs_epu8,
        _mm_set1_epi8,
        _mm_sad_epu8,
        _mm_add_epi64,
        _mm_unpacklo_epi8,
        _mm_unpackhi_epi8,
        _mm_sub_epi16,
        _mm_madd_epi16,
        _mm_add_epi32,
        |v| _mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_setzero_si128())) == 0xffff
    );
    register!(
        Avx2,
        __m256i,
        32,
        _mm256_loadu_si256,
        _mm256_setzero_si256,
        _mm256_and_si256,
        _mm256_or_si256,
        _mm256_xor_si256,
        _mm256_max_epu8,
        _mm256_subs_epu8,
        _mm256_set1_epi8,
        _mm256_sad_epu8,
        _mm256_add_epi64,
        _mm256_unpacklo_epi8,
        _mm256_unpackhi_epi8,
        _mm256_sub_epi16,
        _mm256_madd_epi16,
        _mm256_add_epi32,
        |v| _mm256_testz_si256(v, v) == 1
    );
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Sse2};
