//! Distances between the tokens of an image, compared with many budgets.

use crate::error::Result;
use crate::memory;
use crate::select::tokens::{ImageTokens, Tokens};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Distances under one metric, each compared with a budget when it is first asked for.
///
/// What is remembered is the rank of a distance, the number of budgets that it exceeds, as far as comparisons tell. So
/// pairs that differ at once never cost much, and every comparison after the first narrows the rank down.
pub(crate) struct Distances<'a> {
    tokens: ImageTokens<'a>,
    /// The budgets, ascending, after 0.
    limits: Vec<u64>,
    /// For each token what is known of it and its left neighbour, the one above, and [`PLACES`] other earlier tokens,
    /// see [`Entry`]. Empty where nothing can be remembered.
    left: Vec<AtomicU64>,
    up: Vec<AtomicU64>,
    others: Vec<AtomicU64>,
}

/// Other pairs remembered for a token. A newer one may evict an older one.
const PLACES: usize = 8;

/// An earlier token, and the least and the greatest rank that its distance may have.
#[derive(Clone, Copy)]
struct Entry {
    earlier: u32,
    least: u16,
    most: u16,
}

impl Entry {
    /// No token has this index.
    const EMPTY: u64 = u64::MAX;

    fn read(place: &AtomicU64) -> Self {
        let bits = place.load(Relaxed);
        Self { earlier: (bits >> 32) as u32, least: (bits >> 16) as u16, most: bits as u16 }
    }

    fn write(self, place: &AtomicU64) {
        let ranks = u64::from(self.least) << 16 | u64::from(self.most);
        place.store(u64::from(self.earlier) << 32 | ranks, Relaxed);
    }
}

impl<'a> Distances<'a> {
    /// `tokens` measure by the metric; `limits` are the largest distances that are similar, in any order.
    pub fn new(tokens: ImageTokens<'a>, mut limits: Vec<u64>) -> Result<Self> {
        memory::reserve(&mut limits, 1)?;
        limits.push(0);
        limits.sort_unstable();
        limits.dedup();
        // Nothing is measured for a budget of 0. Beyond the largest rank of an entry, nothing is remembered.
        let is_useful = (2..usize::from(u16::MAX)).contains(&limits.len());
        let total = if is_useful { tokens.grid().total() } else { 0 };
        let empty = |count| memory::collected((0..count).map(|_| AtomicU64::new(Entry::EMPTY)));
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
        let measure = || self.tokens.is_within(x as usize, y as usize, self.limits[rank as usize]);
        let Some(place) = self.place(x as usize, y as usize) else { return measure() };
        let rank = rank as u16;
        let mut known = Entry::read(place);
        if known.earlier != x {
            known = Entry { earlier: x, least: 1, most: self.limits.len() as u16 };
        }
        if known.most <= rank {
            return true;
        }
        if known.least > rank {
            return false;
        }
        let is_within = measure();
        if is_within {
            known.most = rank;
        } else {
            known.least = rank + 1;
        }
        known.write(place);
        is_within
    }

    /// The entry of token `y` for the earlier token `x`; what it holds may be about another one.
    fn place(&self, x: usize, y: usize) -> Option<&AtomicU64> {
        match y - x {
            1 => self.left.get(y),
            back if back == self.tokens.grid().cols() => self.up.get(y),
            _ => {
                let places = self.others.get(y * PLACES..)?.get(..PLACES)?;
                let fits = |place: &&AtomicU64| {
                    let known = place.load(Relaxed);
                    known == Entry::EMPTY || known >> 32 == x as u64
                };
                let start = (x as u32).wrapping_mul(0x9e37_79b9) as usize >> 16;
                let mut from_start = (start..start + PLACES).map(|place| &places[place % PLACES]);
                Some(from_start.find(fits).unwrap_or(&places[start % PLACES]))
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
