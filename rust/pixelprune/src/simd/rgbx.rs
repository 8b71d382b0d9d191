//! From four bytes a pixel to three.

#[cfg(target_arch = "x86_64")]
use crate::simd::level::Isa;
use crate::simd::level::Level;

/// Copies the first three of every four bytes. `to` has three quarters of the length of `from`.
pub fn drop_fourth(from: &[u8], to: &mut [u8], level: Level) {
    let (from, to) = (from.as_chunks::<4>().0, to.as_chunks_mut::<3>().0);
    let done = match level.isa() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a `Level` exists only where the CPU has its instructions.
        Isa::Avx2 => unsafe { avx2(from, to) },
        _ => 0,
    };
    for (to, from) in to.iter_mut().zip(from).skip(done) {
        to.copy_from_slice(&from[..3]);
    }
}

/// Eight pixels at a time; returns how many were copied.
///
/// # Safety
///
/// The CPU has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(from: &[[u8; 4]], to: &mut [[u8; 3]]) -> usize {
    #[allow(clippy::wildcard_imports)] // The instructions, by their own names.
    use std::arch::x86_64::*;
    const PIXELS: usize = 8;
    let squeeze =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
    let together = _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7);
    // A store writes eight bytes too many, into the next three pixels.
    let end = from.len().min(to.len()).saturating_sub(3) / PIXELS * PIXELS;
    for i in (0..end).step_by(PIXELS) {
        // SAFETY: eight pixels are there to be read, and eleven to be written.
        unsafe {
            let pixels = _mm256_loadu_si256(from.as_ptr().add(i).cast());
            let packed = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(pixels, squeeze), together);
            _mm256_storeu_si256(to.as_mut_ptr().add(i).cast(), packed);
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_at_every_level() {
        for pixels in 0..40 {
            let from: Vec<u8> = (0..pixels * 4).map(|i| (i * 7 % 251) as u8).collect();
            let expected: Vec<u8> = from.chunks(4).flat_map(|p| p[..3].to_vec()).collect();
            for level in Level::available() {
                let mut to = vec![0; pixels * 3];
                drop_fourth(&from, &mut to, level);
                assert_eq!(to, expected, "{pixels} pixels, {}", level.name());
            }
        }
    }
}
