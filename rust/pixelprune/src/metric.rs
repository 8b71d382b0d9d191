//! From a threshold on the [0, 1] scale to an integer budget on the 0-255 scale.

use crate::error::{Error, Result};

/// How the distance of two tokens is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Metric {
    /// Largest absolute difference.
    Max,
    /// Mean absolute difference.
    Mae,
    /// Root of the mean squared difference.
    Rmse,
}

impl Metric {
    /// The metric of that name.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "max" => Ok(Self::Max),
            "mae" => Ok(Self::Mae),
            "rmse" => Ok(Self::Rmse),
            _ => {
                Err(Error::Unknown { kind: "metric", found: name.into(), expected: &["max", "mae", "rmse"] })
            }
        }
    }
}

/// When two uint8 tokens are similar, in integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// All values equal: tau = 0 under every metric.
    Equal,
    /// Largest absolute difference at most this.
    Max(u8),
    /// Sum of absolute differences at most this.
    Mae(u64),
    /// Sum of squared differences at most this.
    Rmse(u64),
}

/// So that a tau of k/255 does not lose its last level to rounding.
const SLACK: f64 = 1.0 + 1e-9;

/// Refuses a threshold that is NaN or outside [0, 1].
pub fn check_threshold(tau: f64) -> Result<()> {
    if (0.0..=1.0).contains(&tau) { Ok(()) } else { Err(Error::Threshold { found: tau }) }
}

impl Budget {
    /// The budget of `metric` at `tau` over tokens of `values` uint8 values, computed once in float64.
    pub fn new(metric: Metric, tau: f64, values: usize) -> Result<Self> {
        check_threshold(tau)?;
        if tau == 0.0 {
            return Ok(Self::Equal);
        }
        let (scale, n) = (255.0 * tau, values as f64);
        Ok(match metric {
            Metric::Max => Self::Max((scale * SLACK).floor() as u8),
            Metric::Mae => Self::Mae((scale * n * SLACK).floor() as u64),
            Metric::Rmse => Self::Rmse((scale * scale * n * SLACK).floor() as u64),
        })
    }

    /// The budget for tokens of `side` x `side` pixels of `channels` bytes.
    pub fn of_token(metric: Metric, tau: f64, side: usize, channels: usize) -> Result<Self> {
        // A product that overflows fits no image: cutting the image into tokens reports that.
        Self::new(metric, tau, side.saturating_mul(side).saturating_mul(channels))
    }

    /// The largest distance that is similar.
    #[must_use]
    pub fn limit(self) -> u64 {
        match self {
            Self::Equal => 0,
            Self::Max(limit) => limit.into(),
            Self::Mae(limit) | Self::Rmse(limit) => limit,
        }
    }

    /// By how many levels the values of two similar tokens of `values` values may differ: if all of them do, and if one
    /// does.
    pub(crate) fn levels(self, values: usize) -> (u8, u8) {
        let levels = |distance: u64| u8::try_from(distance).unwrap_or(u8::MAX);
        let (all, one) = (self.limit() / values as u64, self.limit());
        match self {
            Self::Equal | Self::Max(_) => (levels(one), levels(one)),
            Self::Mae(_) => (levels(all), levels(one)),
            Self::Rmse(_) => (levels(all.isqrt()), levels(one.isqrt())),
        }
    }

    /// Whether similarity is equality, and so transitive.
    #[must_use]
    pub fn is_exact(self) -> bool {
        self.limit() == 0
    }
}

/// How far apart the values of a channel may be in a token of one colour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// On the [0, 1] scale; 0 asks for equal values.
    pub tau: f64,
    /// On the 0-255 scale.
    pub levels: u8,
}

impl Spread {
    /// At that threshold.
    pub fn new(tau: f64) -> Result<Self> {
        let levels = match Budget::new(Metric::Max, tau, 1)? {
            Budget::Max(levels) => levels,
            Budget::Equal | Budget::Mae(_) | Budget::Rmse(_) => 0,
        };
        Ok(Self { tau, levels })
    }
}
