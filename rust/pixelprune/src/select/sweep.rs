//! Many settings on one image: what they have in common is measured once.
//!
//! The distance of two tokens does not depend on the threshold, nor on the method that asks for it. So
//! * tokens are put into classes of equal pixels first, and only the first token of each class is measured;
//! * a distance is measured when it is first asked for, and remembered as its rank among the budgets of the sweep.
//!   Measuring stops beyond the largest of them, so that texture stays cheap;
//! * the spread of a token's values is remembered, too.
//!
//! [`select`] then runs on [`Remembered`] tokens, once for each of the settings.

use crate::error::{Error, Result};
use crate::grid::Grid;
use crate::image::ImageView;
use crate::memory;
use crate::metric::{Budget, Metric, Spread};
use crate::parallel::{Bands, Stop, Threads, group};
use crate::select::tokens::{ImageTokens, NONE, Scratch, Tokens, Verdict};
use crate::select::{Settings, select, unique};
use crate::simd::Level;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};

/// What one of the settings does to the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Indices of the kept tokens, ascending.
    pub keep: Vec<i64>,
    /// How many of the dropped tokens are not of one colour, within the threshold.
    pub dropped_content: usize,
}

/// Prunes an image as [`prune_image`](crate::select::prune_image) does, once for each of the settings.
pub fn sweep_image(
    image: ImageView,
    token: usize,
    settings: &[Settings],
    level: Level,
    threads: Threads,
    stop: Stop,
) -> Result<Vec<Swept>> {
    settings.iter().try_for_each(Settings::check)?;
    let bands = Bands::of(image.bytes(), threads);
    let memory = Memory::new(image, token, settings, level, bands)?;
    let mut done = memory::with_room(settings.len())?;
    while done.len() < settings.len() {
        if !done.is_empty() && stop() {
            return Err(Error::Stopped);
        }
        let rest = &settings[done.len()..];
        let some = &rest[..group(rest, bands.threads(), |_| image.bytes())];
        for swept in bands.threads().gather(some.iter(), |settings| memory.sweep(settings))? {
            done.push(swept?);
        }
    }
    Ok(done)
}

/// What is known of an image's tokens, whatever the settings.
struct Memory<'a> {
    tokens: ImageTokens<'a>,
    /// For each token the first one with the same pixels.
    first: Vec<u32>,
    /// For the first token of each class: how far apart the values of a channel are.
    spreads: Vec<AtomicU16>,
    /// The spread beyond which no setting asks for more.
    widest: u8,
    distances: Vec<Distances<'a>>,
}

impl<'a> Memory<'a> {
    const UNKNOWN: u16 = u16::MAX;
    /// Wider than any setting allows.
    const WIDE: u16 = u16::MAX - 1;

    fn new(
        image: ImageView<'a>,
        token: usize,
        settings: &[Settings],
        level: Level,
        bands: Bands,
    ) -> Result<Self> {
        let tokens = ImageTokens::new(image, token, Budget::Equal, level)?;
        let first = memory::collected(unique::sources(&tokens, None, bands)?.into_iter().map(|i| i as u32))?;
        let spreads = memory::collected(first.iter().map(|_| AtomicU16::new(Self::UNKNOWN)))?;
        let mut widest = 0;
        let mut distances: Vec<Distances> = Vec::new();
        for one in settings {
            widest = widest.max(Spread::new(one.threshold)?.levels);
            if distances.iter().all(|known| known.metric != one.metric) {
                memory::reserve(&mut distances, 1)?;
                distances.push(Distances::new(image, token, one.metric, settings, level)?);
            }
        }
        Ok(Self { tokens, first, spreads, widest, distances })
    }

    fn sweep(&self, settings: &Settings) -> Result<Swept> {
        let Some(distances) = self.distances.iter().find(|known| known.metric == settings.metric) else {
            unreachable!("there are distances for the metric of each of the settings")
        };
        let rank = distances.rank(distances.budget(settings)?.limit());
        let keep = select(&Remembered { memory: self, distances, rank }, settings, Bands::ONE)?.keep;
        let levels = Spread::new(settings.threshold)?.levels;
        let mut dropped_content = 0;
        let mut from = 0;
        for &end in keep.iter().chain([&(self.first.len() as i64)]) {
            dropped_content += (from..end as usize).filter(|&i| self.spread(i) > levels.into()).count();
            from = end as usize + 1;
        }
        Ok(Swept { keep, dropped_content })
    }

    fn spread(&self, i: usize) -> u16 {
        let i = self.first[i] as usize;
        let known = self.spreads[i].load(Relaxed);
        if known != Self::UNKNOWN {
            return known;
        }
        let spread = self.tokens.spread(i, self.widest).map_or(Self::WIDE, u16::from);
        self.spreads[i].store(spread, Relaxed);
        spread
    }
}

/// The distances of pairs of tokens under one metric.
struct Distances<'a> {
    metric: Metric,
    side: usize,
    channels: usize,
    tokens: ImageTokens<'a>,
    /// The budgets of the sweep, ascending, after 0.
    limits: Vec<u64>,
    /// For each token [`PLACES`] pairs with earlier tokens: that token in the high half, the rank of the distance in
    /// the low one.
    pairs: Vec<AtomicU64>,
}

/// Pairs remembered for a token. A newer pair may evict an older one.
const PLACES: usize = 8;

/// No pair: no token has this index.
const EMPTY: u64 = u64::MAX;

impl<'a> Distances<'a> {
    fn new(
        image: ImageView<'a>,
        token: usize,
        metric: Metric,
        settings: &[Settings],
        level: Level,
    ) -> Result<Self> {
        let mut largest = Budget::Equal;
        let mut limits = memory::with_room(settings.len() + 1)?;
        limits.push(0);
        for one in settings.iter().filter(|one| one.metric == metric) {
            let budget = Budget::of_token(metric, one.threshold, token, image.channels())?;
            limits.push(budget.limit());
            if budget.limit() > largest.limit() {
                largest = budget;
            }
        }
        limits.sort_unstable();
        limits.dedup();
        let tokens = ImageTokens::new(image, token, largest, level)?;
        let total = tokens.grid().total();
        let pairs = memory::collected((0..total * PLACES).map(|_| AtomicU64::new(EMPTY)))?;
        Ok(Self { metric, side: token, channels: image.channels(), tokens, limits, pairs })
    }

    fn budget(&self, settings: &Settings) -> Result<Budget> {
        Budget::of_token(self.metric, settings.threshold, self.side, self.channels)
    }

    /// The number of budgets that a distance exceeds: 0 if two tokens are equal.
    fn rank(&self, distance: u64) -> u32 {
        self.limits.partition_point(|&limit| limit < distance) as u32
    }

    /// The rank of the distance of two tokens that are not equal.
    fn of(&self, x: u32, y: u32) -> u32 {
        let (x, y) = (x.min(y), x.max(y));
        let pair = &self.pairs[y as usize * PLACES + x as usize % PLACES];
        let known = pair.load(Relaxed);
        if known >> 32 == x.into() {
            return known as u32;
        }
        let distance = self.tokens.distance(x as usize, y as usize);
        let rank = distance.map_or(self.limits.len() as u32, |distance| self.rank(distance));
        pair.store(u64::from(x) << 32 | u64::from(rank), Relaxed);
        rank
    }
}

/// The tokens of an image, similar if the rank of their distance is at most this.
struct Remembered<'m, 'a> {
    memory: &'m Memory<'a>,
    distances: &'m Distances<'a>,
    rank: u32,
}

impl Remembered<'_, '_> {
    fn compare(&self, x: usize, y: usize) -> Verdict {
        let (x, y) = (self.memory.first[x], self.memory.first[y]);
        if x == y {
            Verdict::Equal
        } else if self.rank > 0 && self.distances.of(x, y) <= self.rank {
            Verdict::Similar
        } else {
            Verdict::Different
        }
    }
}

impl Tokens for Remembered<'_, '_> {
    fn grid(&self) -> Grid {
        self.distances.tokens.grid()
    }

    fn is_exact(&self) -> bool {
        self.rank == 0
    }

    fn similar(&self, x: usize, y: usize) -> bool {
        self.compare(x, y) != Verdict::Different
    }

    fn is_one_colour(&self, i: usize, spread: Spread) -> bool {
        self.memory.spread(i) <= spread.levels.into()
    }

    fn hash(&self, i: usize) -> Result<u64> {
        Ok(self.memory.first[i].into())
    }

    fn compare_row(&self, first: usize, with: &[usize], verdicts: &mut [Verdict], _: &mut Scratch) {
        for (col, (verdict, &y)) in verdicts.iter_mut().zip(with).enumerate() {
            *verdict = if y == NONE { Verdict::Unknown } else { self.compare(first + col, y) };
        }
    }
}
