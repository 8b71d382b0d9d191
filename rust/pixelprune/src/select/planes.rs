//! The comparison planes: which tokens are similar to their left and upper neighbours.

use crate::error::Result;
use crate::grid::Grid;
use crate::memory;

/// Two bool planes over a grid; comparisons that were skipped are false.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planes {
    /// Whether the token is similar to its left neighbour; false in column 0.
    pub left: Vec<bool>,
    /// Whether the token is similar to the one above; false in row 0 of a frame.
    pub up: Vec<bool>,
}

impl Planes {
    /// Planes that are false everywhere.
    pub(crate) fn new(grid: Grid) -> Result<Self> {
        Ok(Self { left: memory::filled(false, grid.total())?, up: memory::filled(false, grid.total())? })
    }

    /// Planes of no rows, for [`Planes::append`].
    pub(crate) fn empty() -> Self {
        Self { left: Vec::new(), up: Vec::new() }
    }

    /// Appends the token rows of `other`.
    pub(crate) fn append(&mut self, other: &Self) -> Result<()> {
        memory::reserve(&mut self.left, other.left.len())?;
        memory::reserve(&mut self.up, other.up.len())?;
        self.left.extend(&other.left);
        self.up.extend(&other.up);
        Ok(())
    }
}
