//! From a threshold on the [0, 1] scale to limits for float values.

use crate::error::Result;
use crate::metric::{Budget, Metric};
use crate::simd::values::Count;

/// When two tokens of `pixel_values` are similar.
///
/// Tokens whose values are all 8-bit levels use the integer budget of the image they come from; other tokens
/// use a limit on the [0, 1] scale. The two differ only for distances between `surely` and `hardly` (both on
/// the [0, 1] scale): up to `surely` tokens are similar, above `hardly` they are not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub count: Count,
    pub unit: f64,
    pub levels: f64,
    pub surely: f64,
    pub hardly: f64,
}

impl Limit {
    /// `grid` is how far from a level a value may be to count as it; `None` ignores levels.
    pub fn new(metric: Metric, tau: f64, values: usize, grid: Option<f32>) -> Result<Self> {
        let n = values as f64;
        let (count, levels) = match Budget::new(metric, tau, values)? {
            Budget::Equal => (Count::Unequal, 0.0),
            Budget::Max(limit) => (Count::Largest, f64::from(limit)),
            Budget::Mae(limit) => (Count::Sum, limit as f64),
            Budget::Rmse(limit) => (Count::Squares, limit as f64),
        };
        // `total` turns a mean distance into an accumulated one; `budget` is the budget as a mean distance.
        let total = |mean: f64| match count {
            Count::Unequal => 0.0,
            Count::Largest => mean,
            Count::Sum => mean * n,
            Count::Squares => mean * mean * n,
        };
        let budget = match count {
            Count::Unequal | Count::Largest => levels,
            Count::Sum => levels / n,
            Count::Squares => (levels / n).sqrt(),
        } / 255.0;
        let Some(grid) = grid else {
            let unit = total(tau);
            return Ok(Self { count, unit, levels, surely: unit, hardly: unit });
        };
        let mean = tau + if count == Count::Largest { 1e-6 } else { 1e-7 };
        // Either value may be off its level, and undoing the normalisation rounds a little more.
        let margin = 2.0 * f64::from(grid) / 255.0 + 1e-6;
        Ok(Self {
            count,
            unit: total(mean),
            levels,
            surely: total((budget - margin).min(mean).max(0.0)),
            hardly: total((budget + margin).max(mean)),
        })
    }
}
