//! Which vector instructions to use, and the kernels compiled for each of them.
//!
//! The kernels that compare (`kernels.rs`) are written once over a small trait of vector operations
//! (`vector.rs`) and compiled once per level under `#[target_feature]`. Bodies without spelled-out vectors were
//! measured at half the speed. All `unsafe` of the crate is in this folder: calling a kernel is sound exactly
//! when the CPU has its features, which is what holding a [`Level`] stands for.

// A body that is not inlined into the function with the target feature is compiled without it.
#![allow(clippy::inline_always)]

mod kernels;
pub mod pack;
mod resample;
mod rgbx;
pub mod values;
mod vector;

pub(crate) use kernels::{GROUP, Kernels, MAX_SEGMENT, Scan, Shape};
pub(crate) use resample::{RGB, ResampleKernels};
pub use rgbx::drop_fourth;

use std::sync::OnceLock;

/// A set of vector instructions that this CPU is known to have.
///
/// The field is private and every constructor checks the CPU, so a `Level` that exists may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(Isa);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isa {
    /// No vector instructions spelled out: what the compiler makes of arrays.
    Portable,
    #[cfg(target_arch = "x86_64")]
    Sse2,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Level {
    /// The best level of this CPU, found once per process.
    #[must_use]
    pub fn detect() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| Self::avx2().or_else(Self::sse2).unwrap_or_else(Self::portable))
    }

    /// The level that every target has.
    #[must_use]
    pub fn portable() -> Self {
        Self(Isa::Portable)
    }

    /// 128-bit vectors, which every x86-64 CPU has.
    #[must_use]
    pub fn sse2() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        return Some(Self(Isa::Sse2));
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    /// 256-bit vectors, if the CPU has them.
    #[must_use]
    pub fn avx2() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            return Some(Self(Isa::Avx2));
        }
        None
    }

    /// Every level of this CPU, slowest first: what the tests loop over.
    #[must_use]
    pub fn available() -> Vec<Self> {
        [Some(Self::portable()), Self::sse2(), Self::avx2()].into_iter().flatten().collect()
    }

    /// The level of that name, if it is known and this CPU has it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::available().into_iter().find(|level| level.name() == name)
    }

    /// `"portable"`, `"sse2"` or `"avx2"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Isa::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Isa::Sse2 => "sse2",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "avx2",
        }
    }

    pub(crate) fn isa(self) -> Isa {
        self.0
    }
}

use sealed::Sealed;

mod sealed {
    /// Types without padding, all of whose bits are values.
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for f32 {}
    impl Sealed for super::values::Half {}
    impl Sealed for super::values::Bfloat {}
}

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
pub(crate) fn copy_past_caches<T: pack::PatchValue>(from: &[T], to: &mut [T]) {
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

/// The vector instruction sets of this CPU that are used, or could be.
#[must_use]
pub fn cpu_features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    return [
        ("sse2", is_x86_feature_detected!("sse2")),
        ("sse4.1", is_x86_feature_detected!("sse4.1")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
    ]
    .into_iter()
    .filter_map(|(name, has)| has.then_some(name))
    .collect();
    #[cfg(target_arch = "aarch64")]
    return vec!["neon"];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    Vec::new()
}
