//! Closed loop: predict from what a decoder would have, so errors never add up.
//!
//! A reconstructed token is its source's pixels, so only the index of each token's source is kept, and
//! equal indices are similar without a pixel read.
//!
//! Beyond that,
//! * each token row is first compared in the order of memory with a guess, the source of the token above,
//!   and, where that differs, with the token on the left. Most of these turn out to be the prediction;
//! * a kept token that equals its guess to the last bit shares its `twin`, so that two copies of the same
//!   pixels count as the same source;
//! * the outcome of comparing two sources is cached, because predictors compare the same pairs repeatedly.

use crate::error::Result;
use crate::grid::Grid;
use crate::memory;
use crate::metric::Spread;
use crate::select::colours::Colours;
use crate::select::predictor::Predictor;
use crate::select::tokens::{NONE, Scratch, Tokens, Verdict};

/// The source of every token.
pub fn sources<T: Tokens>(tokens: &T, predictor: Predictor, spread: Option<Spread>) -> Result<Vec<i64>> {
    let grid = tokens.grid();
    let mut walk = Walk::new(grid, predictor, spread)?;
    walk.go(tokens, grid.frames * grid.rows);
    Ok(walk.source)
}

fn predict_pred_2d<T: Tokens>(seen: &mut Seen<T>, row: usize, col: usize, i: usize) -> Option<usize> {
    let cols = seen.walk.grid.cols;
    let prediction = match (row, col) {
        (0, 0) => return None,
        (0, _) => seen.source(i - 1),
        (_, 0) => seen.source(i - cols),
        _ => {
            let (a, b, c) = (seen.source(i - 1), seen.source(i - cols), seen.source(i - cols - 1));
            let vertical_edge = !seen.same(a, b) && seen.similar(c, a) && !seen.similar(c, b);
            if vertical_edge { b } else { a }
        }
    };
    seen.matches(i, col, prediction).then_some(prediction)
}

fn predict_either<T: Tokens>(seen: &mut Seen<T>, row: usize, col: usize, i: usize) -> Option<usize> {
    let cols = seen.walk.grid.cols;
    let left = (col > 0).then(|| seen.source(i - 1));
    if left.is_some_and(|a| seen.matches(i, col, a)) {
        return left;
    }
    let up = (row > 0).then(|| seen.source(i - cols));
    up.filter(|&b| seen.matches(i, col, b))
}

/// A walk over the tokens, from the first token row to the last, and its state.
///
/// It looks only at tokens of the row that it is in, and at the sources of those and of the row above.
pub(crate) struct Walk {
    grid: Grid,
    predictor: Predictor,
    spread: Option<Spread>,
    /// The next token row, counted through all frames.
    row: usize,
    /// Source of every token so far.
    pub source: Vec<i64>,
    /// For kept tokens: the first token known to have the same pixels.
    twin: Vec<u32>,
    /// For each column the source of the token above, and the verdict on the row's token against it.
    guess: Vec<usize>,
    guessed: Vec<Verdict>,
    /// The verdicts on the row's tokens against their left neighbours' original pixels.
    left: Vec<Verdict>,
    /// Asked for where a token is predicted, and content is protected.
    colours: Vec<Colours>,
    memory: Memory,
    scratch: Scratch,
}

/// A walk that can look at pixels.
struct Seen<'a, T> {
    tokens: &'a T,
    walk: &'a mut Walk,
}

impl<T> std::ops::Deref for Seen<'_, T> {
    type Target = Walk;
    fn deref(&self) -> &Walk {
        self.walk
    }
}

impl<T> std::ops::DerefMut for Seen<'_, T> {
    fn deref_mut(&mut self) -> &mut Walk {
        self.walk
    }
}

impl<T: Tokens> Seen<'_, T> {
    fn source(&self, i: usize) -> usize {
        self.source[i] as usize
    }

    /// Whether two sources are known to have the same pixels.
    fn same(&self, x: usize, y: usize) -> bool {
        self.twin[x] == self.twin[y]
    }

    /// Whether two sources are similar.
    fn similar(&mut self, x: usize, y: usize) -> bool {
        self.same(x, y) || self.memory.recall(x, y).unwrap_or_else(|| self.compare(x, y))
    }

    /// Whether token `i` in column `col`, not decided yet, is similar to a source.
    fn matches(&mut self, i: usize, col: usize, source: usize) -> bool {
        if self.guessed[col] != Verdict::Unknown && self.same(self.guess[col], source) {
            return self.guessed[col] != Verdict::Different;
        }
        match self.left[col] {
            // The left neighbour is within the budget of its source, and this token equals it.
            Verdict::Equal if source == self.source(i - 1) => true,
            Verdict::Different if source + 1 == i => false,
            Verdict::Similar if source + 1 == i => true,
            _ => self.compare(i, source),
        }
    }

    fn compare(&mut self, x: usize, y: usize) -> bool {
        let similar = self.tokens.similar(x, y);
        self.memory.note(x, y, similar);
        similar
    }

    /// Compares token row `row` of its frame in the order of memory.
    fn look(&mut self, first: usize, row: usize) {
        let cols = self.guess.len();
        for col in 0..cols {
            let guess = if row == 0 { NONE } else { self.source(first + col - cols) };
            self.guess[col] = guess;
        }
        let Walk { guess, guessed, left, scratch, .. } = &mut *self.walk;
        self.tokens.compare_row(first, guess, guessed, scratch);
        let mut with = std::mem::take(&mut scratch.with);
        with.clear();
        with.extend(guessed.iter().enumerate().map(|(col, &verdict)| match verdict {
            Verdict::Unknown | Verdict::Different if col > 0 => first + col - 1,
            _ => NONE,
        }));
        self.tokens.compare_row(first, &with, left, scratch);
        scratch.with = with;
    }

    /// Whether token `i` in column `col`, which is predicted, may be dropped.
    fn may_drop(&mut self, i: usize, col: usize) -> bool {
        let Some(spread) = self.spread else { return true };
        // Equal to the guess, or else to the left neighbour: what is found here is known of that token too.
        let equal = match (self.guessed[col], self.left[col]) {
            (Verdict::Equal, _) => self.guess[col],
            (_, Verdict::Equal) => i - 1,
            _ => i,
        };
        let known = self.colours[equal];
        let colours = Colours::of(self.tokens, i, spread, known);
        (self.colours[i], self.colours[equal]) = (colours, colours);
        colours == Colours::One
    }

    /// Token `i` in column `col` is kept: it stands for itself from now on.
    fn keep(&mut self, i: usize, col: usize) {
        self.source[i] = i as i64;
        let (guess, verdict) = (self.guess[col], self.guessed[col]);
        let twin = if verdict == Verdict::Equal { self.twin[guess] } else { i as u32 };
        self.twin[i] = twin;
        if verdict != Verdict::Unknown {
            self.memory.note(i, guess, verdict != Verdict::Different);
        }
        if self.left[col] == Verdict::Different && self.source(i - 1) + 1 == i {
            self.memory.note(i, i - 1, false);
        }
    }
}

impl Walk {
    pub fn new(grid: Grid, predictor: Predictor, spread: Option<Spread>) -> Result<Self> {
        let (total, cols) = (grid.total(), grid.cols);
        Ok(Self {
            grid,
            predictor,
            spread,
            row: 0,
            source: memory::filled(0, total)?,
            twin: memory::filled(0, total)?,
            guess: memory::filled(NONE, cols)?,
            guessed: memory::filled(Verdict::Unknown, cols)?,
            left: memory::filled(Verdict::Unknown, cols)?,
            colours: memory::filled(Colours::Unknown, total)?,
            memory: Memory::new(cols)?,
            scratch: Scratch::new(cols)?,
        })
    }

    /// Goes on up to token row `end`, counted through all frames.
    pub fn go<T: Tokens>(&mut self, tokens: &T, end: usize) {
        match self.predictor {
            Predictor::Pred2d => self.go_by(tokens, end, predict_pred_2d),
            Predictor::Either => self.go_by(tokens, end, predict_either),
        }
    }

    fn go_by<T: Tokens>(
        &mut self,
        tokens: &T,
        end: usize,
        predict: impl Fn(&mut Seen<T>, usize, usize, usize) -> Option<usize>,
    ) {
        let Grid { rows, cols, .. } = self.grid;
        let mut seen = Seen { tokens, walk: self };
        while seen.row < end {
            let (first, row) = (seen.row * cols, seen.row % rows);
            seen.look(first, row);
            for col in 0..cols {
                let i = first + col;
                match predict(&mut seen, row, col, i) {
                    Some(from) if seen.may_drop(i, col) => seen.source[i] = from as i64,
                    _ => seen.keep(i, col),
                }
            }
            seen.row += 1;
        }
    }
}

/// A cache of whether pairs of tokens are similar; a newer pair may evict an older one.
struct Memory {
    pairs: Vec<(u32, u32, bool)>,
}

impl Memory {
    /// Room for the pairs of a row and the one above it; less for extremely long rows.
    fn new(cols: usize) -> Result<Self> {
        const LONG: usize = 1 << 24;
        // No token is paired with itself, so (0, 0) is an empty place.
        Ok(Self { pairs: memory::filled((0, 0, false), (4 * cols.min(LONG)).next_power_of_two().max(64))? })
    }

    /// The pair in one order, and its place.
    fn place(&self, x: usize, y: usize) -> (u32, u32, usize) {
        let (x, y) = (x.min(y) as u32, x.max(y) as u32);
        let mixed = (u64::from(x) << 32 | u64::from(y)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (x, y, (mixed >> 32) as usize & (self.pairs.len() - 1))
    }

    fn recall(&self, x: usize, y: usize) -> Option<bool> {
        let (x, y, place) = self.place(x, y);
        let (a, b, similar) = self.pairs[place];
        ((a, b) == (x, y)).then_some(similar)
    }

    fn note(&mut self, x: usize, y: usize, similar: bool) {
        let (x, y, place) = self.place(x, y);
        self.pairs[place] = (x, y, similar);
    }
}
