//! Which tokens are kept.

use crate::error::Result;
use crate::memory;

/// The kept tokens of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Indices of the kept tokens, ascending.
    pub keep: Vec<i64>,
    /// The kept token that stands for each token; `None` for the baselines.
    pub source: Option<Vec<i64>>,
}

impl Selection {
    /// Keeps the tokens that are their own source.
    pub(crate) fn from_source(source: Vec<i64>) -> Result<Self> {
        let keep = memory::collected((0..).zip(&source).filter(|&(i, &s)| i == s).map(|(i, _)| i))?;
        Ok(Self { keep, source: Some(source) })
    }

    /// Keeps all of `total` tokens.
    pub(crate) fn of_everything(total: usize) -> Result<Self> {
        Self::from_source(memory::collected(0..total as i64)?)
    }

    /// Keeps these tokens, without sources for the others.
    pub(crate) fn of(keep: Vec<i64>) -> Self {
        Self { keep, source: None }
    }
}
