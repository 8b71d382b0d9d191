//! Pruning an image with only a few of its token rows in memory.
//!
//! Rows are processed in rounds. The window holds the last row of the previous round, then the rows of the current
//! one. In closed loop, a spare row below them holds the sources of that last row which lie further up. No other
//! pixels are needed again.

use crate::error::{Error, Result};
use crate::grid::Grid;
use crate::image::{ImageView, RGB};
use crate::memory;
use crate::metric::Budget;
use crate::metric::Spread;
use crate::parallel::Bands;
use crate::preprocess::job::Choice;
use crate::preprocess::pack::{KeptRow, TokenRow};
use crate::select::anchored::Walk;
use crate::select::compare::{Reads, Rows, fill};
use crate::select::planes::Planes;
use crate::select::predictor::Predictor;
use crate::select::tokens::{ImageTokens, NONE, Scratch, Tokens, Verdict};
use crate::select::{Selection, Settings};
use crate::simd::Level;
use std::ops::Range;

/// Some token rows of an RGB image, and the decisions about all rows up to the last of them.
pub(crate) struct Window {
    grid: Grid,
    token: usize,
    /// Token rows that fit, without the spare row.
    room: usize,
    pixels: Vec<u8>,
    /// The token rows of the current round.
    rows: Range<usize>,
    chooser: Chooser,
}

/// How tokens are chosen.
enum Chooser {
    Everything,
    Given { mask: Vec<bool> },
    Open { settings: Settings, predictor: Predictor, level: Level, planes: Planes, source: Vec<i64> },
    Closed { settings: Settings, level: Level, walk: Box<Walk>, places: Places },
}

/// Where the window holds the tokens that a closed loop may compare.
struct Places {
    /// For each token of the image its index in the window; meaningless if it is not there.
    of: Vec<u32>,
    /// The tokens in the spare row.
    stored: Vec<Option<usize>>,
    /// Tokens to move to the spare row, and its free places: buffers of `store`.
    wanted: Vec<usize>,
    free: Vec<usize>,
}

impl Window {
    /// A window of about `room` token rows. The settings have been checked.
    pub fn new(grid: Grid, token: usize, choice: Choice, level: Level, room: usize) -> Result<Self> {
        let total = grid.total();
        let chooser = match choice {
            Choice::Everything => Chooser::Everything,
            Choice::Given(keep) => {
                let mut mask = memory::filled(false, total)?;
                for &i in keep {
                    mask[i as usize] = true;
                }
                Chooser::Given { mask }
            }
            Choice::By(&settings) => {
                let Some(predictor) = settings.method.predictor() else {
                    return Err(Error::WholeImagesOnly { method: settings.method.name() });
                };
                if settings.is_open_for(token) {
                    let (planes, source) = (Planes::new(grid)?, memory::with_room(total)?);
                    Chooser::Open { settings, predictor, level, planes, source }
                } else {
                    let places = Places {
                        of: memory::filled(0, total)?,
                        stored: memory::filled(None, grid.cols)?,
                        wanted: memory::with_room(grid.cols)?,
                        free: memory::with_room(grid.cols)?,
                    };
                    let walk = Box::new(Walk::new(grid, predictor, settings.spread()?)?);
                    Chooser::Closed { settings, level, walk, places }
                }
            }
        };
        let room = room.clamp(grid.rows.min(2), grid.rows);
        let rows = room + usize::from(matches!(chooser, Chooser::Closed { .. }));
        let pixels = memory::filled(0, rows.saturating_mul(token * grid.cols * token * RGB))?;
        Ok(Self { grid, token, room, pixels, rows: 0..0, chooser })
    }

    /// Begins the next round: returns its token rows and the place for their pixels, row by row, or `None` after
    /// the last round.
    pub fn next(&mut self) -> Option<(Range<usize>, &mut [u8])> {
        let first = self.rows.end;
        if first == self.grid.rows {
            return None;
        }
        let size = self.row_bytes();
        let top = usize::from(first > 0);
        if top > 0 {
            let last = self.place(first - 1) * size;
            self.store(first - 1);
            self.pixels.copy_within(last..last + size, 0);
        }
        self.rows = first..(first + self.room - top).min(self.grid.rows);
        Some((self.rows.clone(), &mut self.pixels[top * size..(top + self.rows.len()) * size]))
    }

    /// Decides about the rows of the current round.
    pub fn choose(&mut self, bands: Bands) -> Result<()> {
        let (rows, top) = (self.rows.clone(), self.place(self.rows.start));
        let (grid, cols, token) = (self.grid, self.grid.cols, self.token);
        let stride = cols * token * RGB;
        let view = ImageView::new(&self.pixels, self.pixels.len() / stride, cols * token, RGB, stride)?;
        let tokens = |settings: &Settings, level| {
            let budget = Budget::of_token(settings.metric, settings.threshold, token, RGB)?;
            ImageTokens::new(view, token, budget, level)
        };
        match &mut self.chooser {
            Chooser::Everything | Chooser::Given { .. } => {}
            Chooser::Open { settings, predictor, level, planes, source } => {
                let tokens = tokens(settings, *level)?;
                let range = rows.start * cols..rows.end * cols;
                fill(
                    &tokens,
                    Reads::Of(*predictor),
                    settings.spread()?,
                    top,
                    Rows::of(planes, range),
                    bands,
                )?;
                predictor.extend(source, planes, grid, rows.end);
            }
            Chooser::Closed { settings, level, walk, places } => {
                for (i, place) in places.of[rows.start * cols..rows.end * cols].iter_mut().enumerate() {
                    *place = (top * cols + i) as u32;
                }
                let windowed = Windowed { tokens: tokens(settings, *level)?, places: &places.of, grid };
                walk.go(&windowed, rows.end);
            }
        }
        Ok(())
    }

    /// A token row of the current round, and the columns of its kept tokens.
    pub fn kept_row(&self, row: usize) -> Result<KeptRow<'_>> {
        let (first, cols) = (row * self.grid.cols, self.grid.cols);
        let columns = match &self.chooser {
            Chooser::Everything => memory::collected(0..cols),
            Chooser::Given { mask } => memory::collected((0..cols).filter(|col| mask[first + col])),
            Chooser::Open { source, .. } => memory::collected(own(source, first, cols)),
            Chooser::Closed { walk, .. } => memory::collected(own(&walk.source, first, cols)),
        }?;
        let pixels = &self.pixels[self.place(row) * self.row_bytes()..][..self.row_bytes()];
        let step = self.token * RGB;
        Ok((TokenRow { pixels, step, stride: cols * step }, columns))
    }

    /// The selection of the whole image.
    pub fn into_selection(self) -> Result<Selection> {
        match self.chooser {
            Chooser::Everything => Selection::of_everything(self.grid.total()),
            Chooser::Given { mask } => {
                let keep = (0..).zip(mask).filter_map(|(i, keep)| keep.then_some(i));
                Ok(Selection::of(memory::collected(keep)?))
            }
            Chooser::Open { source, .. } => Selection::from_source(source),
            Chooser::Closed { walk, .. } => Selection::from_source(walk.source),
        }
    }

    /// In open loop, the comparisons from token row `first` on; otherwise empty.
    pub fn into_planes(self, first: usize) -> Planes {
        let from = first * self.grid.cols;
        match self.chooser {
            Chooser::Open { planes: Planes { mut left, mut up, mut colours }, .. } => {
                left.drain(..from);
                up.drain(..from);
                colours.drain(..from);
                Planes { left, up, colours }
            }
            Chooser::Everything | Chooser::Given { .. } | Chooser::Closed { .. } => Planes::empty(),
        }
    }

    fn row_bytes(&self) -> usize {
        self.token * self.grid.cols * self.token * RGB
    }

    /// Where a token row of the current round lies.
    fn place(&self, row: usize) -> usize {
        row - self.rows.start + usize::from(self.rows.start > 0)
    }

    /// In closed loop: moves the sources of token row `row`, the last of its round, to the spare row. The row itself
    /// moves to the top of the window.
    fn store(&mut self, row: usize) {
        let Chooser::Closed { walk, places, .. } = &mut self.chooser else { return };
        let cols = self.grid.cols;
        let first = row * cols;
        let Places { of, stored, wanted, free } = places;
        wanted.clear();
        wanted.extend(walk.source[first..first + cols].iter().map(|&s| s as usize).filter(|&s| s < first));
        wanted.sort_unstable();
        wanted.dedup();
        for stored in &mut *stored {
            stored.take_if(|token| wanted.binary_search(token).is_err());
        }
        let below = self.room * cols;
        // Tokens of the spare row stay: a second copy would take the place of another source.
        wanted.retain(|&token| (of[token] as usize) < below);
        free.clear();
        free.extend((0..cols).filter(|&place| stored[place].is_none()).take(wanted.len()));
        let (segment, stride) = (self.token * RGB, cols * self.token * RGB);
        let start = |place: usize| place / cols * self.token * stride + place % cols * segment;
        for (&token, &place) in wanted.iter().zip(&*free) {
            let (from, to) = (start(of[token] as usize), start(below + place));
            for y in 0..self.token {
                self.pixels.copy_within(from + y * stride..from + y * stride + segment, to + y * stride);
            }
            stored[place] = Some(token);
            of[token] = (below + place) as u32;
        }
        for (col, place) in of[first..first + cols].iter_mut().enumerate() {
            *place = col as u32;
        }
    }
}

/// The columns of the kept tokens of the token row that begins at `first`.
fn own(source: &[i64], first: usize, cols: usize) -> impl Iterator<Item = usize> {
    (0..cols).filter(move |col| source[first + col] == (first + col) as i64)
}

/// The tokens of the image that are in the window.
struct Windowed<'a> {
    tokens: ImageTokens<'a>,
    places: &'a [u32],
    grid: Grid,
}

impl Tokens for Windowed<'_> {
    fn grid(&self) -> Grid {
        self.grid
    }

    fn is_exact(&self) -> bool {
        self.tokens.is_exact()
    }

    fn similar(&self, x: usize, y: usize) -> bool {
        self.tokens.similar(self.places[x] as usize, self.places[y] as usize)
    }

    fn is_one_colour(&self, i: usize, spread: Spread) -> bool {
        self.tokens.is_one_colour(self.places[i] as usize, spread)
    }

    fn hash(&self, i: usize) -> Result<u64> {
        self.tokens.hash(self.places[i] as usize)
    }

    fn compare_row(&self, first: usize, with: &[usize], verdicts: &mut [Verdict], scratch: &mut Scratch) {
        let mut places = std::mem::take(&mut scratch.places);
        places.clear();
        places.extend(with.iter().map(|&y| if y == NONE { NONE } else { self.places[y] as usize }));
        self.tokens.compare_row(self.places[first] as usize, &places, verdicts, scratch);
        scratch.places = places;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;
    use crate::parallel::{Pool, Threads};
    use crate::select::baseline::Thinning;
    use crate::select::{Method, Protect, prune_image};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn a_window_selects_what_the_whole_image_selects(
            (rows, cols, token) in (1usize..9, 1usize..9, 1usize..5),
            room in 0usize..6,
            bands in 1usize..4,
            method in prop_oneof![Just(Method::Pred2d), Just(Method::Either)],
            metric in prop_oneof![Just(Metric::Max), Just(Metric::Mae), Just(Metric::Rmse)],
            budget in 0u8..3,
            anchored in any::<bool>(),
            protect in prop_oneof![Just(Protect::Nothing), Just(Protect::Content)],
            // Most tiles repeat the one above.
            changes in prop::collection::vec(prop::option::weighted(0.25, 0u8..8), 81),
        ) {
            let settings = Settings {
                method,
                metric,
                threshold: f64::from(budget) / 255.0,
                anchored,
                protect,
                seed: 0,
                thinning: Thinning { sampled: true, skip: None },
            };
            let stride = cols * token * RGB;
            // Neighbours are nearly equal; some differ in one corner only.
            let image: Vec<u8> = (0..rows * token * stride)
                .map(|i| {
                    let (y, x) = (i / stride, i % stride);
                    let col = x / (token * RGB);
                    let change = (0..=y / token).rev().find_map(|row| changes[row * 9 + col]);
                    let tile = change.unwrap_or(3 * col as u8 % 8);
                    100 + if tile < 6 || y % token == token - 1 { tile % 6 } else { 0 }
                })
                .collect();
            let view = ImageView::new(&image, rows * token, cols * token, RGB, stride).unwrap();
            let pool = Pool::new(2);
            let threads = pool.as_ref().map_or(Threads::ONE, Pool::threads);
            for level in Level::available() {
                let whole = prune_image(view, token, &settings, level, Threads::ONE).unwrap();
                let grid = Grid::new(1, rows, cols).unwrap();
                let mut window = Window::new(grid, token, Choice::By(&settings), level, room).unwrap();
                let mut keep = Vec::new();
                while let Some((round, pixels)) = window.next() {
                    let size = token * stride;
                    pixels.copy_from_slice(&image[round.start * size..round.end * size]);
                    window.choose(Bands { count: bands, threads }).unwrap();
                    for row in round {
                        let (tokens, columns) = window.kept_row(row).unwrap();
                        prop_assert_eq!(tokens.pixels, &image[row * size..(row + 1) * size]);
                        keep.extend(columns.iter().map(|col| (row * cols + col) as i64));
                    }
                }
                prop_assert_eq!(&keep, &whole.keep);
                prop_assert_eq!(window.into_selection().unwrap(), whole);
            }
        }
    }
}
