//! Which tokens are of one colour: the only ones that may be dropped where content is protected.

use crate::metric::Spread;
use crate::select::tokens::{Tokens, Verdict};

/// What is known about the colours of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// Nobody has asked.
    Unknown,
    /// One: it may be dropped.
    One,
    /// Several: it carries content.
    Several,
}

impl Colours {
    /// The colours of token `i`: those of a token that is equal to it, if they are known.
    pub(crate) fn of(tokens: &impl Tokens, i: usize, spread: Spread, equal: Self) -> Self {
        match equal {
            Self::Unknown if tokens.is_one_colour(i, spread) => Self::One,
            Self::Unknown => Self::Several,
            known => known,
        }
    }

    /// Those of another token, if it is known to be equal to this one.
    pub(crate) fn if_equal(self, verdict: Verdict) -> Self {
        if verdict == Verdict::Equal { self } else { Self::Unknown }
    }
}
