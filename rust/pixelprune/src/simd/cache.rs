//! Cache instructions: prefetching a line, and writing past the caches.

use crate::simd::sealed::Sealed;

/// Cache-line size in bytes.
pub(crate) const CACHE_LINE: usize = 64;

/// Prefetches the cache line of any address; does nothing on CPUs without such an instruction.
#[inline(always)]
pub(crate) fn prefetch_line(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing, whatever the address, and every x86-64 CPU has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Copies past the caches, if the CPU can: for output that is not read soon. Call [`finish_stores`] before another
/// thread reads it.
#[inline(always)]
pub(crate) fn copy_past_caches<T: Sealed + Copy>(from: &[T], to: &mut [T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
        let (source, target) = (from.as_ptr().cast::<__m128i>(), to.as_mut_ptr().cast::<__m128i>());
        let bytes = size_of_val(to);
        if bytes.is_multiple_of(16) && target.is_aligned() && size_of_val(from) == bytes {
            for i in 0..bytes / 16 {
                // SAFETY: both hold `bytes` bytes, all of them initialised, because `T` is sealed to types without
                // padding; `target` is aligned, and every x86-64 CPU has SSE2.
                unsafe { _mm_stream_si128(target.add(i), _mm_loadu_si128(source.add(i))) };
            }
            return;
        }
    }
    to.copy_from_slice(from);
}

/// Orders the stores of [`copy_past_caches`] before all later stores.
pub(crate) fn finish_stores() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 CPU has SSE.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}
