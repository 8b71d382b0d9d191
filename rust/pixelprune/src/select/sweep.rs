//! Many settings on one image: what they have in common is measured once.
//!
//! * Tokens are put into classes of equal pixels, and only the first token of each class is looked at again.
//! * The extents of their values often tell that two tokens are similar, or that they are not.
//! * Where they do not, the [`Distances`] are measured, and what is found is remembered for all methods and thresholds.
//!
//! [`select`] then runs on [`Remembered`] tokens, once for each of the settings.

use crate::error::{Error, Result};
use crate::grid::Grid;
use crate::image::ImageView;
use crate::memory;
use crate::metric::{Budget, Metric, Spread};
use crate::parallel::{Bands, Stop, Threads, group};
use crate::select::distances::Distances;
use crate::select::tokens::{ImageTokens, NONE, Scratch, Tokens, Verdict};
use crate::select::{Settings, select, unique};
use crate::simd::{Extent, Level};

/// What one of the settings does to the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Indices of the kept tokens, ascending.
    pub keep: Vec<i64>,
    /// How many of the dropped tokens are not of one colour, within the threshold.
    pub dropped_content: usize,
}

/// Prunes an image as [`prune_image`](crate::select::prune_image) does, once for each of the settings. `stop` can end
/// the call between them.
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
    let measured = Measured::new(image, token, settings, level, bands)?;
    let mut done = memory::with_room(settings.len())?;
    while done.len() < settings.len() {
        if !done.is_empty() && stop() {
            return Err(Error::Stopped);
        }
        let rest = &settings[done.len()..];
        let some = &rest[..group(rest, bands.threads(), |_| image.bytes())];
        for swept in bands.threads().gather(some.iter(), |settings| measured.sweep(settings))? {
            done.push(swept?);
        }
    }
    Ok(done)
}

/// What is known of an image's tokens, whatever the settings.
struct Measured<'a> {
    tokens: ImageTokens<'a>,
    /// For each token the first one with the same pixels.
    first: Vec<u32>,
    /// The extents of the first tokens.
    extents: Vec<Extent>,
    /// For each token the most levels that a channel spans.
    spreads: Vec<u8>,
    distances: Vec<(Metric, Distances<'a>)>,
}

impl<'a> Measured<'a> {
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
        let pieces = first.chunks(size).zip(extents.chunks_mut(size)).enumerate();
        bands.threads().share(pieces, |(piece, (first, extents))| {
            for (i, (&first, extent)) in (piece * size..).zip(first.iter().zip(extents)) {
                if first as usize == i {
                    *extent = tokens.extent(i, widest);
                }
            }
            Ok(())
        })?;
        let spread = |&first: &u32| tokens.spread(first as usize, &extents[first as usize]);
        let spreads = memory::collected(first.iter().map(spread))?;
        let mut distances = Vec::new();
        for metric in [Metric::Max, Metric::Mae, Metric::Rmse] {
            let mut limits = memory::with_room(settings.len())?;
            let mut largest = Budget::Equal;
            for one in settings.iter().filter(|one| one.metric == metric) {
                let budget = tokens.budget(metric, one.threshold)?;
                limits.push(budget.limit());
                if budget.limit() > largest.limit() {
                    largest = budget;
                }
            }
            if !limits.is_empty() {
                let tokens = ImageTokens::new(image, token, largest, level)?;
                memory::reserve(&mut distances, 1)?;
                distances.push((metric, Distances::new(tokens, limits)?));
            }
        }
        Ok(Self { tokens, first, extents, spreads, distances })
    }

    fn sweep(&self, settings: &Settings) -> Result<Swept> {
        let keep = select(&self.under(settings)?, settings, Bands::ONE)?.keep;
        let most = Spread::new(settings.threshold)?.levels;
        let content = |&&levels: &&u8| levels > most;
        let all = self.spreads.iter().filter(content).count();
        let kept = keep.iter().map(|&i| &self.spreads[i as usize]).filter(content).count();
        Ok(Swept { keep, dropped_content: all - kept })
    }

    /// The tokens under a metric and a threshold.
    fn under(&self, settings: &Settings) -> Result<Remembered<'_, 'a>> {
        let Some((_, distances)) = self.distances.iter().find(|(metric, _)| *metric == settings.metric)
        else {
            unreachable!("there are distances for the metric of each of the settings");
        };
        let budget = self.tokens.budget(settings.metric, settings.threshold)?;
        let (everywhere, somewhere) = budget.levels(self.tokens.values());
        Ok(Remembered {
            measured: self,
            distances,
            rank: distances.rank(budget.limit()),
            everywhere,
            somewhere,
        })
    }
}

/// The tokens of an image, similar if the rank of their distance is at most this.
struct Remembered<'m, 'a> {
    measured: &'m Measured<'a>,
    distances: &'m Distances<'a>,
    rank: u32,
    /// See [`Budget::levels`].
    everywhere: u8,
    somewhere: u8,
}

impl Remembered<'_, '_> {
    fn compare(&self, x: usize, y: usize) -> Verdict {
        let (x, y) = (self.measured.first[x], self.measured.first[y]);
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
        let extents = &self.measured.extents;
        let told = extents[x as usize].compare(&extents[y as usize], self.everywhere, self.somewhere);
        told.unwrap_or_else(|| self.distances.is_within(self.rank, x, y))
    }
}

impl Tokens for Remembered<'_, '_> {
    fn grid(&self) -> Grid {
        self.measured.tokens.grid()
    }

    fn is_exact(&self) -> bool {
        self.rank == 0
    }

    fn similar(&self, x: usize, y: usize) -> bool {
        self.compare(x, y) != Verdict::Different
    }

    fn is_one_colour(&self, i: usize, spread: Spread) -> bool {
        self.measured.spreads[i] <= spread.levels
    }

    fn hash(&self, i: usize) -> Result<u64> {
        Ok(self.measured.first[i].into())
    }

    fn compare_row(&self, first: usize, with: &[usize], verdicts: &mut [Verdict], _: &mut Scratch) {
        for (x, (verdict, &y)) in (first..).zip(verdicts.iter_mut().zip(with)) {
            *verdict = if y == NONE { Verdict::Unknown } else { self.compare(x, y) };
        }
    }
}
