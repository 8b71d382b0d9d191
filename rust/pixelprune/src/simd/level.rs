//! Which vector instructions this CPU has.

use std::sync::OnceLock;

/// A set of vector instructions that this CPU is known to have.
///
/// The field is private and every constructor checks the CPU, so every `Level` can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(Isa);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isa {
    /// Plain arrays, vectorised by the compiler.
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
