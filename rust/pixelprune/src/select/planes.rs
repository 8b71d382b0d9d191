//! The comparison planes: which tokens equal their left and their upper neighbour.

use crate::error::Result;
use crate::grid::Grid;
use crate::memory;

/// Two bool planes over a grid; entries that nobody reads are false.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planes {
    /// Token equals its left neighbour; false in column 0.
    pub left: Vec<bool>,
    /// Token equals the one above; false in row 0 of a frame.
    pub up: Vec<bool>,
}

impl Planes {
    /// Planes on which nothing is equal.
    pub(crate) fn new(grid: Grid) -> Result<Self> {
        Ok(Self { left: memory::filled(false, grid.total())?, up: memory::filled(false, grid.total())? })
    }

    /// Planes of no rows, for [`Planes::append`].
    pub(crate) fn empty() -> Self {
        Self { left: Vec::new(), up: Vec::new() }
    }

    /// Puts the token rows of `other` below these.
    pub(crate) fn append(&mut self, other: &Self) -> Result<()> {
        memory::reserve(&mut self.left, other.left.len())?;
        memory::reserve(&mut self.up, other.up.len())?;
        self.left.extend(&other.left);
        self.up.extend(&other.up);
        Ok(())
    }
}
