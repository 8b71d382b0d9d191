//! Instructions about caches: asking for a line ahead of its use, writing past them.

use crate::simd::sealed::Sealed;

/// Cache-line size in bytes.
pub(crate) const CACHE_LINE: usize = 64;

/// Asks for the cache line of an address, whatever it is; does nothing where there is no such instruction.
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

/// Copies without bringing what is written into the caches, where the CPU can: for what nobody reads soon.
/// [`finish_stores`] has to follow before another thread reads it.
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

/// Makes what [`copy_past_caches`] wrote visible before anything that is written later.
pub(crate) fn finish_stores() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 CPU has SSE.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}
