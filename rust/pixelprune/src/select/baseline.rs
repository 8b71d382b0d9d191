//! Baselines for evaluation: as many tokens as `pred_2d` keeps, chosen without looking at edges.

use crate::error::Result;
use crate::grid::Grid;
use crate::memory;
use crate::select::planes::Planes;

/// How `conncomp` thins a component.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thinning {
    /// A seeded sample of each component, instead of evenly spaced members.
    pub sampled: bool,
    /// Share of each component to drop, from 0 to 1. With `None`, exactly as many tokens are kept as `pred_2d`
    /// keeps.
    pub skip: Option<f64>,
}

/// A small seeded generator (SplitMix64; Steele, Lea and Flood 2014): the same draws on every machine.
pub struct Draws(u64);

impl Draws {
    /// A generator with that seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An index below `n`; the bias of the multiplication is below n / 2**64.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// Moves a sample of `k` to the front of `items`, without replacement.
    fn sample<T>(&mut self, items: &mut [T], k: usize) {
        for i in 0..k.min(items.len()) {
            let j = i + self.below(items.len() - i);
            items.swap(i, j);
        }
    }
}

/// `random`: `count` of `total` tokens, ascending.
pub fn random(total: usize, count: usize, seed: u64) -> Result<Vec<i64>> {
    let mut all = memory::collected(0..total as i64)?;
    Draws::new(seed).sample(&mut all, count);
    all.truncate(count);
    all.sort_unstable();
    Ok(all)
}

/// `conncomp`: thins every component of similar 4-neighbours alike, then adds or removes tokens until
/// `count` are kept (unless `thinning.skip` fixes the share).
pub fn conncomp(
    planes: &Planes,
    grid: Grid,
    count: usize,
    thinning: Thinning,
    seed: u64,
) -> Result<Vec<i64>> {
    let mut draws = Draws::new(seed);
    let total = grid.total();
    let skip = thinning.skip.unwrap_or(1.0 - count as f64 / total as f64);
    let mut kept = memory::filled(false, total)?;
    for mut members in components(planes, grid)? {
        let n = members.len();
        let wanted = n.saturating_sub((n as f64 * skip).round_ties_even() as usize).max(1);
        if thinning.sampled {
            draws.sample(&mut members, wanted);
            members[..wanted].iter().for_each(|&i| kept[i] = true);
        } else {
            // Evenly spaced from the first to the last; a single one is the first.
            let steps = wanted.saturating_sub(1).max(1);
            (0..wanted).for_each(|k| kept[members[k * (n - 1) / steps]] = true);
        }
    }
    if thinning.skip.is_none() {
        let have = kept.iter().filter(|&&k| k).count();
        let short = have < count;
        let mut others = memory::collected((0..total).filter(|&i| kept[i] != short))?;
        let change = have.abs_diff(count);
        draws.sample(&mut others, change);
        others[..change].iter().for_each(|&i| kept[i] = short);
    }
    memory::collected((0..total).filter(|&i| kept[i]).map(|i| i as i64))
}

/// The components, each ascending, in the order of their first members.
fn components(planes: &Planes, grid: Grid) -> Result<Vec<Vec<usize>>> {
    fn root(parent: &mut [usize], mut i: usize) -> usize {
        while parent[i] != i {
            parent[i] = parent[parent[i]];
            i = parent[i];
        }
        i
    }
    let total = grid.total();
    let mut parent = memory::collected(0..total)?;
    for i in 0..total {
        for (joined, back) in [(planes.left[i], 1), (planes.up[i], grid.cols)] {
            if joined {
                let (a, b) = (root(&mut parent, i), root(&mut parent, i - back));
                // The smaller index stays the root, so a root is the first member.
                parent[a.max(b)] = a.min(b);
            }
        }
    }
    let mut members = memory::filled(Vec::new(), total)?;
    for i in 0..total {
        let members: &mut Vec<usize> = &mut members[root(&mut parent, i)];
        memory::reserve(members, 1)?;
        members.push(i);
    }
    members.retain(|m| !m.is_empty());
    Ok(members)
}
