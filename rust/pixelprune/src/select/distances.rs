//! Distances between the tokens of an image, measured once for many budgets.

use crate::error::Result;
use crate::memory;
use crate::select::tokens::{ImageTokens, Tokens};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Distances under one metric, each measured when it is first asked for.
///
/// A distance is remembered as its rank: the number of budgets that it exceeds. Measuring stops once it exceeds the
/// budget that was asked about; a larger budget measures again. So pairs that differ at once never cost much.
pub(crate) struct Distances<'a> {
    tokens: ImageTokens<'a>,
    /// The budgets, ascending, after 0.
    limits: Vec<u64>,
    /// For each token what is known of it and its left neighbour, the one above, and [`PLACES`] other earlier tokens.
    ///
    /// The high half of an entry is the earlier token. The low half is an odd number if their rank is known, and an
    /// even one if only the least rank is: twice that, plus one if it is known.
    left: Vec<AtomicU64>,
    up: Vec<AtomicU64>,
    others: Vec<AtomicU64>,
}

/// Other pairs remembered for a token. A newer one may evict an older one.
const PLACES: usize = 8;

/// No pair: no token has this index.
const EMPTY: u64 = u64::MAX;

impl<'a> Distances<'a> {
    /// `tokens` measure by the metric; `limits` are the largest distances that are similar, in any order.
    pub fn new(tokens: ImageTokens<'a>, mut limits: Vec<u64>) -> Result<Self> {
        memory::reserve(&mut limits, 1)?;
        limits.push(0);
        limits.sort_unstable();
        limits.dedup();
        // Nothing is measured for a budget of 0.
        let total = if limits.len() > 1 { tokens.grid().total() } else { 0 };
        let empty = |count| memory::collected((0..count).map(|_| AtomicU64::new(EMPTY)));
        let (left, up, others) = (empty(total)?, empty(total)?, empty(total * PLACES)?);
        Ok(Self { tokens, limits, left, up, others })
    }

    /// The number of budgets that a distance exceeds: 0 for equal tokens only.
    pub fn rank(&self, distance: u64) -> u32 {
        self.limits.partition_point(|&limit| limit < distance) as u32
    }

    /// Whether the rank of the distance of two different tokens is at most `rank`, which is that of a budget above 0.
    pub fn is_within(&self, rank: u32, x: u32, y: u32) -> bool {
        let (x, y) = (x.min(y), x.max(y));
        let place = self.place(x as usize, y as usize);
        let known = place.load(Relaxed);
        if known >> 32 == x.into() {
            let (least, is_exact) = (known as u32 >> 1, known & 1 == 1);
            if is_exact || least > rank {
                return least <= rank;
            }
        }
        let distance = self.tokens.distance(x as usize, y as usize, self.limits[rank as usize]);
        let found = distance.map_or((rank + 1) << 1, |distance| self.rank(distance) << 1 | 1);
        place.store(u64::from(x) << 32 | u64::from(found), Relaxed);
        distance.is_some()
    }

    /// The entry of token `y` for the earlier token `x`; what it holds may be about another one.
    fn place(&self, x: usize, y: usize) -> &AtomicU64 {
        match y - x {
            1 => &self.left[y],
            back if back == self.tokens.grid().cols() => &self.up[y],
            _ => {
                let places = &self.others[y * PLACES..][..PLACES];
                let fits = |place: &&AtomicU64| {
                    let known = place.load(Relaxed);
                    known == EMPTY || known >> 32 == x as u64
                };
                let start = (x as u32).wrapping_mul(0x9e37_79b9) as usize >> 16;
                let mut from_start = (start..start + PLACES).map(|place| &places[place % PLACES]);
                from_start.find(fits).unwrap_or(&places[start % PLACES])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageView;
    use crate::metric::{Budget, Metric};
    use crate::simd::Level;

    /// A distance between two rows of values, as it is defined.
    fn distance(metric: Metric, x: &[u8], y: &[u8]) -> u64 {
        let differences = || x.iter().zip(y).map(|(&a, &b)| u64::from(a.abs_diff(b)));
        match metric {
            Metric::Max => differences().max().unwrap_or(0),
            Metric::Mae => differences().sum(),
            Metric::Rmse => differences().map(|d| d * d).sum(),
        }
    }

    #[test]
    fn distances_are_those_of_the_definition_in_whatever_order_they_are_asked_for() {
        const SIDE: usize = 3;
        const COLS: usize = 40;
        let mut state = 1u32;
        let mut draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let width = SIDE * COLS;
        let values: Vec<u8> = (0..SIDE * width).map(|_| 100 + draw() % 32).collect();
        let token = |i: usize| -> Vec<u8> {
            (0..SIDE).flat_map(|row| values[row * width + i * SIDE..][..SIDE].to_vec()).collect()
        };
        let image = ImageView::new(&values, SIDE, width, 1, width).unwrap();
        for (metric, limits) in
            [(Metric::Max, [24, 4, 16]), (Metric::Mae, [150, 60, 90]), (Metric::Rmse, [4000, 900, 1500])]
        {
            let budget = match metric {
                Metric::Max => Budget::Max(24),
                Metric::Mae => Budget::Mae(150),
                Metric::Rmse => Budget::Rmse(4000),
            };
            for level in Level::available() {
                let tokens = ImageTokens::new(image, SIDE, budget, level).unwrap();
                let distances = Distances::new(tokens, limits.to_vec()).unwrap();
                // More pairs of a token than are remembered, each of them asked about several times.
                for _ in 0..20_000 {
                    let (x, y, limit) = (draw() % COLS as u8, draw() % COLS as u8, draw() % 3);
                    let limit = limits[usize::from(limit)];
                    if x != y {
                        let expected = distance(metric, &token(x.into()), &token(y.into())) <= limit;
                        let found = distances.is_within(distances.rank(limit), x.into(), y.into());
                        assert_eq!(found, expected, "{metric:?} {level:?} {x} {y} {limit}");
                    }
                }
            }
        }
    }
}
