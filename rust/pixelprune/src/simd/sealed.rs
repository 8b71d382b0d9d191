//! The trait that seals the value types of kernels.

/// Types without padding for which every bit pattern is valid. Other crates can't implement it.
pub trait Sealed {}

impl Sealed for u8 {}
impl Sealed for f32 {}
