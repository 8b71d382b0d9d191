//! The comparison planes: which tokens are similar to their left and upper neighbours.

use crate::error::Result;
use crate::grid::Grid;
use crate::memory;
use crate::select::colours::Colours;

/// Planes over a grid; comparisons that were skipped are false.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planes {
    /// Whether the token is similar to its left neighbour; false in column 0.
    pub left: Vec<bool>,
    /// Whether the token is similar to the one above; false in row 0 of a frame.
    pub up: Vec<bool>,
    /// The colours of the token, if they were asked for and it is similar to a neighbour.
    pub colours: Vec<Colours>,
}

impl Planes {
    /// Planes that are false everywhere.
    pub(crate) fn new(grid: Grid) -> Result<Self> {
        let total = grid.total();
        Ok(Self {
            left: memory::filled(false, total)?,
            up: memory::filled(false, total)?,
            colours: memory::filled(Colours::Unknown, total)?,
        })
    }

    /// Planes of no rows, for [`Planes::append`].
    pub(crate) fn empty() -> Self {
        Self { left: Vec::new(), up: Vec::new(), colours: Vec::new() }
    }

    /// Appends the token rows of `other`.
    pub(crate) fn append(&mut self, other: &Self) -> Result<()> {
        memory::reserve(&mut self.left, other.left.len())?;
        memory::reserve(&mut self.up, other.up.len())?;
        memory::reserve(&mut self.colours, other.colours.len())?;
        self.left.extend(&other.left);
        self.up.extend(&other.up);
        self.colours.extend(&other.colours);
        Ok(())
    }
}
