//! Normalising the pixels of a patch: `(level - center) / scale`, one plane per channel.
//!
//! A table defines the value of each level. Looking values up is slower than computing them, so the vector code
//! computes them: it multiplies by the rounded reciprocal and corrects once with a fused multiply-add, which gives the
//! rounded quotient (Markstein 1990). It is used only if its results equal the whole table, bit for bit.

use crate::image::RGB;
#[cfg(target_arch = "x86_64")]
use crate::simd::level::Isa;
use crate::simd::level::Level;
use crate::simd::sealed::Sealed;
use crate::simd::values::{Bfloat, Half};

/// Center and scale of each channel.
pub type Affine = [(f32, f32); RGB];

/// Writes one patch, `side` x `side` RGB pixels whose rows begin `stride` bytes apart, to
/// `out[channel][y][x]`, channels `plane` values apart.
pub(crate) type PatchKernel<E> =
    fn(pixels: &[u8], stride: usize, side: usize, affine: &Affine, out: &mut [E], plane: usize);

/// Pixels that a kernel processes at a time; patches must be at least this wide.
pub(crate) const PIXELS: usize = 8;

/// The type of a patch's values. Sealed, because kernels rely on its implementations.
pub trait PatchValue: Sealed + Copy + Default + Send + Sync {
    /// The bits that represent it.
    fn bits(self) -> u32;
    /// The kernel of a level, if it has one for this type.
    #[doc(hidden)]
    fn kernel(level: Level) -> Option<Kernel<Self>>;
}

/// A kernel for patches with sides of at least `PIXELS`.
pub struct Kernel<E>(pub(crate) PatchKernel<E>);

macro_rules! patch_value {
    ($value:ty, $store:ident, $bits:expr) => {
        impl PatchValue for $value {
            fn bits(self) -> u32 {
                $bits(self)
            }

            fn kernel(level: Level) -> Option<Kernel<Self>> {
                match level.isa() {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 if is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") => {
                        // SAFETY: the CPU has just been asked.
                        Some(Kernel(|pixels, stride, side, affine, out, plane| unsafe {
                            avx2::$store(pixels, stride, side, affine, out, plane);
                        }))
                    }
                    _ => None,
                }
            }
        }
    };
}

patch_value!(f32, floats, Self::to_bits);
patch_value!(Half, halves, |half: Self| half.0.into());
patch_value!(Bfloat, bfloats, |bfloat: Self| bfloat.0.into());
patch_value!(u8, bytes, u32::from);

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Affine, Bfloat, Half, PIXELS, RGB};
    #[allow(clippy::wildcard_imports)] // The instructions, by their own names.
    use std::arch::x86_64::*;

    macro_rules! kernel {
        ($name:ident, $value:ty, $pixels:ident, $center:ident, $scale:ident, $inverse:ident, $to:ident, $store:expr) => {
            /// # Safety
            ///
            /// The CPU has AVX2, FMA and F16C.
            #[target_feature(enable = "avx2,fma,f16c")]
            pub unsafe fn $name(
                pixels: &[u8],
                stride: usize,
                side: usize,
                affine: &Affine,
                out: &mut [$value],
                plane: usize,
            ) {
                assert!(side >= PIXELS && pixels.len() >= (side - 1) * stride + side * RGB);
                assert!(out.len() >= (RGB - 1) * plane + side * side);
                let shuffles = [spread(0), spread(1), spread(2)];
                let constants = affine.map(|(center, scale)| [center, scale, 1.0 / scale]);
                for y in 0..side {
                    let mut x = 0;
                    loop {
                        // SAFETY: `x + PIXELS` is at most `side`, and the sizes have been checked.
                        let loaded = unsafe { load(pixels.as_ptr().add(y * stride + x * RGB)) };
                        for channel in 0..RGB {
                            let $pixels = _mm256_shuffle_epi8(loaded, shuffles[channel]);
                            let [$center, $scale, $inverse] = constants[channel];
                            // SAFETY: as above.
                            unsafe {
                                let $to = out.as_mut_ptr().add(channel * plane + y * side + x);
                                $store;
                            }
                        }
                        if x + PIXELS == side {
                            break;
                        }
                        // The last pixels of a row may be written twice.
                        x = (x + PIXELS).min(side - PIXELS);
                    }
                }
            }
        };
    }

    kernel!(floats, f32, pixels, center, scale, inverse, to, {
        _mm256_storeu_ps(to, normalise(pixels, center, scale, inverse));
    });
    kernel!(halves, Half, pixels, center, scale, inverse, to, {
        let values = normalise(pixels, center, scale, inverse);
        _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values));
    });
    kernel!(bfloats, Bfloat, pixels, center, scale, inverse, to, {
        // Rounded to nearest even: half a unit is added, less the last bit if the number was even.
        let bits = _mm256_castps_si256(normalise(pixels, center, scale, inverse));
        let even = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(even, _mm256_set1_epi32(0x7fff)));
        let high = _mm256_srli_epi32::<16>(rounded);
        let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(high, high));
        _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(packed));
    });
    kernel!(bytes, u8, pixels, _center, _scale, _inverse, to, {
        let words = _mm_packus_epi32(_mm256_castsi256_si128(pixels), _mm256_extracti128_si256::<1>(pixels));
        _mm_storel_epi64(to.cast(), _mm_packus_epi16(words, words));
    });

    /// 24 bytes: the first 16 in the low half, the last 16 in the high one.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn load(from: *const u8) -> __m256i {
        // SAFETY: the caller vouches for 24 readable bytes.
        unsafe {
            let low = _mm_loadu_si128(from.cast());
            _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), _mm_loadu_si128(from.add(8).cast()))
        }
    }

    /// The shuffle that spreads a channel of what [`load`] loads to eight 32-bit numbers.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn spread(channel: i8) -> __m256i {
        let c = channel;
        _mm256_setr_epi8(
            c,
            -1,
            -1,
            -1,
            c + 3,
            -1,
            -1,
            -1,
            c + 6,
            -1,
            -1,
            -1,
            c + 9,
            -1,
            -1,
            -1,
            c + 4,
            -1,
            -1,
            -1,
            c + 7,
            -1,
            -1,
            -1,
            c + 10,
            -1,
            -1,
            -1,
            c + 13,
            -1,
            -1,
            -1,
        )
    }

    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn normalise(pixels: __m256i, center: f32, scale: f32, inverse: f32) -> __m256 {
        let (scale, inverse) = (_mm256_set1_ps(scale), _mm256_set1_ps(inverse));
        let centered = _mm256_sub_ps(_mm256_cvtepi32_ps(pixels), _mm256_set1_ps(center));
        let quotient = _mm256_mul_ps(centered, inverse);
        let error = _mm256_fnmadd_ps(quotient, scale, centered);
        _mm256_fmadd_ps(error, inverse, quotient)
    }
}
