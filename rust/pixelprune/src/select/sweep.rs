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
use crate::simd::{Extent, Level};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
    /// For each token the first one with the same pixels.
    first: Vec<u32>,
    /// The extents of the first token of each class.
    extents: Vec<Extent>,
    /// For each token the most levels that a channel spans.
    spreads: Vec<u8>,
    distances: Vec<Distances<'a>>,
}

impl<'a> Memory<'a> {
    fn new(
        image: ImageView<'a>,
        token: usize,
        settings: &[Settings],
        level: Level,
        bands: Bands,
    ) -> Result<Self> {
        let tokens = ImageTokens::new(image, token, Budget::Equal, level)?;
        let first = memory::collected(unique::sources(&tokens, None, bands)?.into_iter().map(|i| i as u32))?;
        let mut widest = 0;
        for one in settings {
            widest = widest.max(Spread::new(one.threshold)?.levels);
        }
        let mut extents = memory::filled(Extent::ANYTHING, first.len())?;
        let size = first.len().div_ceil(bands.count);
        bands.threads().share(
            first.chunks(size).zip(extents.chunks_mut(size)).enumerate(),
            |(k, piece)| {
                for (i, (&first, extent)) in (k * size..).zip(piece.0.iter().zip(piece.1)) {
                    if first as usize == i {
                        *extent = tokens.extent(i, widest);
                    }
                }
                Ok(())
            },
        )?;
        let spread = |&i: &u32| tokens.spread(i as usize, &extents[i as usize]);
        let spreads = memory::collected(first.iter().map(spread))?;
        let mut distances: Vec<Distances> = Vec::new();
        for one in settings {
            if distances.iter().all(|known| known.metric != one.metric) {
                memory::reserve(&mut distances, 1)?;
                distances.push(Distances::new(image, token, one.metric, settings, level)?);
            }
        }
        Ok(Self { first, extents, spreads, distances })
    }

    fn sweep(&self, settings: &Settings) -> Result<Swept> {
        let Some(distances) = self.distances.iter().find(|known| known.metric == settings.metric) else {
            unreachable!("there are distances for the metric of each of the settings")
        };
        let tokens = Remembered::new(self, distances, distances.budget(settings)?.limit());
        let keep = select(&tokens, settings, Bands::ONE)?.keep;
        let spread = Spread::new(settings.threshold)?;
        let mut dropped_content = 0;
        let mut from = 0;
        for &end in keep.iter().chain([&(self.first.len() as i64)]) {
            dropped_content +=
                self.spreads[from..end as usize].iter().filter(|&&levels| levels > spread.levels).count();
            from = end as usize + 1;
        }
        Ok(Swept { keep, dropped_content })
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
    /// The pairs of each token with its left neighbour, with the one above, and with [`PLACES`] other earlier tokens.
    ///
    /// Each holds the earlier token in its high half; in the low one twice the rank of their distance, plus one, or
    /// twice the least rank that it may have.
    left: Vec<AtomicU64>,
    up: Vec<AtomicU64>,
    others: Vec<AtomicU64>,
}

/// Other pairs remembered for a token. A newer one may evict an older one.
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
        let empty = |count| memory::collected((0..count).map(|_| AtomicU64::new(EMPTY)));
        let (left, up, others) = (empty(total)?, empty(total)?, empty(total * PLACES)?);
        Ok(Self { metric, side: token, channels: image.channels(), tokens, limits, left, up, others })
    }

    fn budget(&self, settings: &Settings) -> Result<Budget> {
        Budget::of_token(self.metric, settings.threshold, self.side, self.channels)
    }

    /// The number of budgets that a distance exceeds: 0 if two tokens are equal.
    fn rank(&self, distance: u64) -> u32 {
        self.limits.partition_point(|&limit| limit < distance) as u32
    }

    /// Where the distance of two tokens is remembered, the earlier one given first. Another pair may be there.
    fn place(&self, x: usize, y: usize) -> &AtomicU64 {
        match y - x {
            1 => &self.left[y],
            back if back == self.tokens.grid().cols => &self.up[y],
            _ => {
                let places = &self.others[y * PLACES..][..PLACES];
                let start = (x as u32).wrapping_mul(0x9e37_79b9) as usize >> 16;
                let fits = |place: &&AtomicU64| {
                    let known = place.load(Relaxed);
                    known == EMPTY || known >> 32 == x as u64
                };
                let mut from_start = (start..start + PLACES).map(|place| &places[place % PLACES]);
                from_start.find(fits).unwrap_or(&places[start % PLACES])
            }
        }
    }

    /// Whether the distance of two tokens that are not equal is of that rank or below.
    fn is_within(&self, rank: u32, x: u32, y: u32) -> bool {
        let (x, y) = (x.min(y), x.max(y));
        let place = self.place(x as usize, y as usize);
        let known = place.load(Relaxed);
        if known >> 32 == x.into() {
            let (least, is_exact) = (known as u32 >> 1, known & 1 == 1);
            if is_exact || rank < least {
                return least <= rank;
            }
        }
        let distance = self.tokens.distance(x as usize, y as usize, self.limits[rank as usize]);
        let found = distance.map_or((rank + 1) << 1, |distance| self.rank(distance) << 1 | 1);
        place.store(u64::from(x) << 32 | u64::from(found), Relaxed);
        distance.is_some()
    }
}

/// The tokens of an image, similar if the rank of their distance is at most this.
struct Remembered<'m, 'a> {
    memory: &'m Memory<'a>,
    distances: &'m Distances<'a>,
    rank: u32,
    /// The most levels that values may differ by everywhere, and somewhere, if tokens are similar.
    everywhere: u8,
    somewhere: u8,
}

impl<'m, 'a> Remembered<'m, 'a> {
    fn new(memory: &'m Memory<'a>, distances: &'m Distances<'a>, limit: u64) -> Self {
        let values = (distances.side * distances.side * distances.channels) as u64;
        let one = |level: u8| match distances.metric {
            Metric::Max | Metric::Mae => u64::from(level),
            Metric::Rmse => u64::from(level).pow(2),
        };
        let all = |level| if distances.metric == Metric::Max { one(level) } else { one(level) * values };
        let most =
            |distance: &dyn Fn(u8) -> u64| (0..=u8::MAX).rev().find(|&d| distance(d) <= limit).unwrap_or(0);
        Self { memory, distances, rank: distances.rank(limit), everywhere: most(&all), somewhere: most(&one) }
    }

    fn compare(&self, x: usize, y: usize) -> Verdict {
        let (x, y) = (self.memory.first[x], self.memory.first[y]);
        if x == y {
            Verdict::Equal
        } else if self.rank > 0 && self.is_within(x, y) {
            Verdict::Similar
        } else {
            Verdict::Different
        }
    }

    /// Whether two tokens that are not equal are similar.
    fn is_within(&self, x: u32, y: u32) -> bool {
        let extents = &self.memory.extents;
        let told = extents[x as usize].compare(&extents[y as usize], self.everywhere, self.somewhere);
        told.unwrap_or_else(|| self.distances.is_within(self.rank, x, y))
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
        self.memory.spreads[i] <= spread.levels
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
