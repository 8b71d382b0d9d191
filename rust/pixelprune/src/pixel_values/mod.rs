//! Tokens of a processor's finished `pixel_values`.

mod colour;
mod limit;

use crate::batch::in_groups;
use crate::error::{Error, Result};
use crate::grid::{Grid, PatchOrder};
use crate::memory;
use crate::metric::{Metric, Spread};
use crate::parallel::{Bands, Stop, Threads};
use crate::select::compare::{Reads, planes};
use crate::select::planes::Planes;
use crate::select::tokens::{Tokens, fingerprint};
use crate::select::{Selection, Settings, content, select};
use crate::simd::Level;
use crate::simd::values::{
    Count, Element, Scale, all_finite, all_levels, distance, level_distance, prefetch,
};
use limit::Limit;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// What a row of `pixel_values` holds and which of it is compared.
#[derive(Debug, Clone)]
pub struct PatchFormat {
    /// Order of the rows.
    pub order: PatchOrder,
    /// A token is `merge` x `merge` patches.
    pub merge: usize,
    /// Values in a row.
    pub row: usize,
    /// The compared values of a row: runs of (first, length).
    pub runs: Vec<(usize, usize)>,
    /// Factor of every compared value of a row, in the order of the runs: to [0, 1].
    pub factor: Vec<f32>,
    /// Offset of every compared value of a row.
    pub offset: Vec<f32>,
    /// Factor of every compared value of a row to 0-255.
    pub to_levels: Vec<f32>,
    /// The compared values of each channel of a row.
    pub channels: Vec<Channel>,
    /// True: values that are 8-bit levels use the integer budgets, and others get a little slack, so that a
    /// tau of k/255 does not lose its last level to rounding. False: values are compared as they are.
    pub slack: bool,
}

/// Where the compared values of a channel are in a row, and what they mean.
#[derive(Debug, Clone, Copy)]
pub struct Channel {
    /// The first value.
    pub first: usize,
    /// The end of the last value.
    pub end: usize,
    /// From a value to the next.
    pub step: usize,
    /// Factor of the values: to [0, 1].
    pub factor: f32,
    /// Offset of the values.
    pub offset: f32,
}

/// A run of compared values of a row.
struct Run<'a> {
    values: Range<usize>,
    scale: Scale<'a>,
    to_levels: &'a [f32],
}

impl PatchFormat {
    fn compared(&self) -> impl Iterator<Item = Run<'_>> {
        let mut done = 0;
        self.runs.iter().map(move |&(first, length)| {
            let own = done..done + length;
            done += length;
            Run {
                values: first..first + length,
                scale: Scale { factor: &self.factor[own.clone()], offset: &self.offset[own.clone()] },
                to_levels: &self.to_levels[own],
            }
        })
    }

    /// Compared values of a row.
    fn compared_values(&self) -> usize {
        self.runs.iter().fold(0, |sum, &(_, length)| sum.saturating_add(length))
    }

    /// Patches of a token.
    fn patches(&self) -> usize {
        self.merge.saturating_mul(self.merge)
    }

    /// Refuses a format whose runs do not fit its rows.
    fn check(&self) -> Result<()> {
        let compared = self.compared_values();
        let fits = self
            .runs
            .iter()
            .all(|&(first, length)| first.checked_add(length).is_some_and(|end| end <= self.row));
        let holds = |c: &Channel| c.first < c.end && c.end <= self.row && c.step > 0;
        let fits = fits && !self.channels.is_empty() && self.channels.iter().all(holds);
        let known = [&self.factor, &self.offset, &self.to_levels].iter().all(|v| v.len() == compared);
        if self.merge > 0 && self.merge <= 1 << 16 && self.row > 0 && compared > 0 && fits && known {
            return Ok(());
        }
        Err(Error::Runs { row: self.row, runs: self.runs.len(), compared })
    }
}

/// Flags of a token: what has been checked, and the outcome.
mod known {
    pub const FINITE_CHECKED: u8 = 1;
    pub const LEVELS_CHECKED: u8 = 2;
    pub const LEVELS: u8 = 4;
}

/// Whether a value is infinite on the scale of the threshold.
fn overflows<T: Element>(values: &[T], scale: Scale) -> bool {
    let scales = scale.factor.iter().zip(scale.offset);
    values.iter().zip(scales).any(|(v, (factor, offset))| !(v.value() * factor + offset).is_finite())
}

/// How many patches ahead to prefetch.
const AHEAD: usize = 3;

/// The tokens of one image within `pixel_values`.
///
/// Every value must be finite. A token is checked right before its first comparison, which then finds it in
/// the cache.
struct PatchTokens<'a, T> {
    data: &'a [T],
    grid: Grid,
    format: &'a PatchFormat,
    limit: Limit,
    level: Level,
    known: Vec<AtomicU8>,
    /// Whether finite values can be infinite on the scale of the threshold.
    may_overflow: bool,
    /// The first row of `data` that holds a value that is not finite.
    bad: AtomicUsize,
}

impl<T: Element> PatchTokens<'_, T> {
    /// The token's patches, as rows of `data`.
    fn patches(&self, token: usize) -> impl Iterator<Item = usize> + use<T> {
        let PatchFormat { order, merge, .. } = *self.format;
        let cols = self.grid.cols;
        // Frames follow each other, so the token row counts through all of them.
        let (line, col) = (token / cols, token % cols);
        (0..merge * merge).map(move |k| match order {
            PatchOrder::Block => token * merge * merge + k,
            PatchOrder::Raster => (line * merge + k / merge) * cols * merge + col * merge + k % merge,
        })
    }

    fn row(&self, patch: usize) -> &[T] {
        &self.data[patch * self.format.row..][..self.format.row]
    }

    /// The token's runs of compared values, patch by patch.
    fn runs(&self, token: usize) -> impl Iterator<Item = (&[T], Scale<'_>)> {
        self.patches(token).flat_map(move |patch| {
            let row = self.row(patch);
            self.format.compared().map(move |run| (&row[run.values], run.scale))
        })
    }

    /// Looks for values that are not finite in the token, once.
    fn check_finite(&self, i: usize) {
        if self.known[i].load(Ordering::Relaxed) & known::FINITE_CHECKED != 0 {
            return;
        }
        for patch in self.patches(i) {
            let row = self.row(patch);
            let ahead = (patch + AHEAD).saturating_mul(self.format.row);
            let ahead = self.data.get(ahead..).unwrap_or_default();
            for run in self.format.compared() {
                if let Some(values) = ahead.get(run.values.clone()) {
                    prefetch(values);
                }
                let values = &row[run.values];
                if !all_finite(self.level, values) || (self.may_overflow && overflows(values, run.scale)) {
                    self.bad.fetch_min(patch, Ordering::Relaxed);
                }
            }
        }
        self.known[i].fetch_or(known::FINITE_CHECKED, Ordering::Relaxed);
    }

    /// Whether all values of the token are 8-bit levels.
    fn is_levels(&self, i: usize) -> bool {
        let known = self.known[i].load(Ordering::Relaxed);
        if known & known::LEVELS_CHECKED != 0 {
            return known & known::LEVELS != 0;
        }
        let levels = self.runs(i).all(|(values, scale)| all_levels(self.level, values, scale));
        let found = if levels { known::LEVELS | known::LEVELS_CHECKED } else { known::LEVELS_CHECKED };
        self.known[i].fetch_or(found, Ordering::Relaxed);
        levels
    }

    /// The distance on the scale of [0, 1], or in whole levels; stops adding once it is over `limit`.
    fn distance(&self, x: usize, y: usize, in_levels: bool, limit: f64) -> f64 {
        let count = self.limit.count;
        let mut so_far = 0.0;
        for (x, y) in self.patches(x).zip(self.patches(y)) {
            let (x, y) = (self.row(x), self.row(y));
            for Run { values, scale, to_levels } in self.format.compared() {
                let (x, y) = (&x[values.clone()], &y[values]);
                so_far = if in_levels {
                    level_distance(self.level, count, x, y, to_levels, so_far)
                } else {
                    distance(self.level, count, x, y, scale, so_far)
                };
                if so_far > limit {
                    return so_far;
                }
            }
        }
        so_far
    }

    /// Checks the tokens that were never compared, and refuses values that are not finite: NaN equals nothing,
    /// so a mask over it would be meaningless.
    fn check(&self, first_row: usize) -> Result<()> {
        for i in 0..self.known.len() {
            self.check_finite(i);
        }
        match self.bad.load(Ordering::Relaxed) {
            usize::MAX => Ok(()),
            row => Err(Error::NotFinite { patch: first_row + row }),
        }
    }
}

impl<T: Element> Tokens for PatchTokens<'_, T> {
    fn grid(&self) -> Grid {
        self.grid
    }

    fn is_exact(&self) -> bool {
        self.limit.count == Count::Unequal
    }

    fn similar(&self, x: usize, y: usize) -> bool {
        self.check_finite(x);
        self.check_finite(y);
        let Limit { unit, levels, surely, hardly, .. } = self.limit;
        let distance = self.distance(x, y, false, hardly);
        if distance <= surely || distance > hardly {
            return distance <= surely;
        }
        if self.format.slack && self.is_levels(x) && self.is_levels(y) {
            return self.distance(x, y, true, levels) <= levels;
        }
        distance <= unit
    }

    fn is_one_colour(&self, i: usize, spread: Spread) -> bool {
        self.is_within(i, spread)
    }

    fn hash(&self, i: usize) -> Result<u64> {
        let keys =
            memory::collected(self.runs(i).flat_map(|(values, _)| values).map(|v| v.key().to_le_bytes()))?;
        let bytes = keys.as_flattened();
        fingerprint(std::iter::once(bytes), bytes.len())
    }
}

/// A batch of `pixel_values` as a processor made it.
#[derive(Debug, Clone, Copy)]
pub struct PixelValues<'a, T> {
    /// All rows, one after the other.
    pub data: &'a [T],
    /// The grid of every image in patches: (frames, rows, columns).
    pub grids: &'a [[usize; 3]],
    /// What a row holds.
    pub format: &'a PatchFormat,
}

impl<T: Element> PixelValues<'_, T> {
    /// Prunes every image. The first error in the order of the images is reported.
    pub fn prune(
        &self,
        settings: &Settings,
        level: Level,
        threads: Threads,
        stop: Stop,
    ) -> Result<Vec<Selection>> {
        settings.check()?;
        let images = self.images(settings.metric, settings.threshold, level)?;
        Self::each(&images, threads, stop, |tokens| {
            select(tokens, settings, Bands::of(size_of_val(tokens.data), threads))
        })
    }

    /// Both complete planes of every image, for methods implemented by the caller.
    pub fn planes(&self, metric: Metric, tau: f64, level: Level, stop: Stop) -> Result<Vec<Planes>> {
        let images = self.images(metric, tau, level)?;
        Self::each(&images, Threads::ONE, stop, |tokens| planes(tokens, Reads::All, None, Bands::ONE))
    }

    /// Which tokens of every image are not of one colour.
    pub fn content(&self, tau: f64, level: Level, stop: Stop) -> Result<Vec<Vec<bool>>> {
        let spread = Spread::new(tau)?;
        let images = self.images(Metric::Max, tau, level)?;
        Self::each(&images, Threads::ONE, stop, |tokens| content(tokens, spread))
    }

    /// Maps every image with `one`, then checks that its values are finite.
    fn each<R: Send>(
        images: &[(usize, PatchTokens<T>)],
        threads: Threads,
        stop: Stop,
        one: impl Fn(&PatchTokens<T>) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let bytes = |(_, tokens): &(usize, PatchTokens<T>)| size_of_val(tokens.data);
        in_groups(images, bytes, threads, stop, |(first_row, tokens)| {
            let outcome = one(tokens)?;
            tokens.check(*first_row)?;
            Ok(outcome)
        })
    }

    /// The images, each with its first row.
    fn images(&self, metric: Metric, tau: f64, level: Level) -> Result<Vec<(usize, PatchTokens<'_, T>)>> {
        let Self { data, format, .. } = *self;
        format.check()?;
        let (merge, patches) = (format.merge, format.patches());
        let compared = patches.saturating_mul(format.compared_values());
        let limit = Limit::new(metric, tau, compared, format.slack.then_some(T::GRID))?;
        let have = data.len() / format.row;
        let enlarges = |v: &f32| v.abs() > 1.0;
        let may_overflow = limit.count != Count::Unequal
            && (format.factor.iter().any(enlarges) || format.offset.iter().any(enlarges));
        let mut rest = data;
        let mut first_row = 0usize;
        let mut images = memory::with_room(self.grids.len())?;
        for &[t, h, w] in self.grids {
            if h % merge != 0 || w % merge != 0 {
                return Err(Error::PatchGrid { shape: [t, h, w], merge });
            }
            let grid = Grid::new(t, h / merge, w / merge)?;
            let rows = grid.total().saturating_mul(patches);
            let Some((own, others)) = rest.split_at_checked(rows.saturating_mul(format.row)) else {
                return Err(Error::GridPatches {
                    shape: [t, h, w],
                    left: rest.len() / format.row,
                    found: have,
                });
            };
            let known = memory::collected((0..grid.total()).map(|_| AtomicU8::new(0)))?;
            let bad = AtomicUsize::new(usize::MAX);
            images.push((
                first_row,
                PatchTokens { data: own, grid, format, limit, level, known, may_overflow, bad },
            ));
            first_row += rows;
            rest = others;
        }
        if !rest.is_empty() {
            return Err(Error::Patches { found: have, needed: first_row });
        }
        Ok(images)
    }
}
