//! What the types of values that kernels take have in common.

/// Types without padding, all of whose bits are values. Nobody else can implement it.
pub trait Sealed {}

impl Sealed for u8 {}
impl Sealed for f32 {}
