//! The methods as they are defined: one token at a time, one comparison at a time.

use pixelprune::{Method, Metric, Protect, Settings};

/// The expected outcome.
#[derive(Debug, PartialEq)]
pub enum Expected {
    /// The source of every token; a kept token is its own.
    Sources(Vec<usize>),
    /// The number of kept tokens: for baselines, whose draws are not defined.
    Count(usize),
}

/// Tokens of one frame, row-major.
struct Frame<'a> {
    tokens: &'a [Vec<u8>],
    cols: usize,
    channels: usize,
    settings: &'a Settings,
}

/// Prunes the tokens of one frame, given row-major.
pub fn prune(tokens: &[Vec<u8>], cols: usize, channels: usize, settings: &Settings) -> Expected {
    let frame = Frame { tokens, cols, channels, settings };
    match settings.method {
        Method::Unique => Expected::Sources(frame.first_occurrences()),
        Method::Random => Expected::Count(frame.kept_by_pred_2d()),
        Method::ConnComp => match settings.thinning.skip {
            None => Expected::Count(frame.kept_by_pred_2d()),
            Some(skip) => Expected::Count(frame.components().into_iter().map(|n| thinned(n, skip)).sum()),
        },
        method => Expected::Sources(frame.predict(method)),
    }
}

impl Frame<'_> {
    fn similar(&self, x: usize, y: usize) -> bool {
        let differences =
            || self.tokens[x].iter().zip(&self.tokens[y]).map(|(&a, &b)| u64::from(a.abs_diff(b)));
        let (tau, n, slack) = (self.settings.threshold, self.tokens[x].len() as f64, 1.0 + 1e-9);
        let (distance, budget) = match self.settings.metric {
            Metric::Max => (differences().max().unwrap_or(0), 255.0 * tau * slack),
            Metric::Mae => (differences().sum(), 255.0 * tau * n * slack),
            Metric::Rmse => (differences().map(|d| d * d).sum(), (255.0 * tau) * (255.0 * tau) * n * slack),
            other => unreachable!("{other:?} has no definition here"),
        };
        distance as f64 <= budget.floor()
    }

    /// Whether the token must be kept, whatever the method predicts.
    fn is_protected(&self, x: usize) -> bool {
        let most = (255.0 * self.settings.threshold * (1.0 + 1e-9)).floor();
        let span = |channel: usize| {
            let values = || self.tokens[x].iter().skip(channel).step_by(self.channels);
            values().max().zip(values().min()).map_or(0, |(high, low)| high - low)
        };
        self.settings.protect == Protect::Content && (0..self.channels).any(|c| f64::from(span(c)) > most)
    }

    fn predict(&self, method: Method) -> Vec<usize> {
        let (cols, total) = (self.cols, self.tokens.len());
        let mut source = vec![0; total];
        // The token whose value the predictor sees at each place.
        let mut seen: Vec<usize> = (0..total).collect();
        let mut previous = None;
        for step in 0..total {
            let row = step / cols;
            let is_backwards = method == Method::Serpentine && row % 2 == 1;
            let x = if is_backwards { row * cols + cols - 1 - step % cols } else { step };
            let guesses = self.guesses(method, x, previous, &seen);
            source[x] = match guesses.into_iter().find(|&guess| self.similar(x, seen[guess])) {
                Some(guess) if !self.is_protected(x) => source[guess],
                _ => x,
            };
            if self.settings.anchored {
                seen[x] = source[x];
            }
            previous = Some(x);
        }
        source
    }

    /// The places whose values are tried for token `x`, in order.
    fn guesses(&self, method: Method, x: usize, previous: Option<usize>, seen: &[usize]) -> Vec<usize> {
        let (row, col, cols) = (x / self.cols, x % self.cols, self.cols);
        match (method, row, col) {
            (Method::Raster | Method::Serpentine, ..) => previous.into_iter().collect(),
            (_, 0, 0) => vec![],
            (_, 0, _) => vec![x - 1],
            (_, _, 0) => vec![x - cols],
            (Method::Either, ..) => vec![x - 1, x - cols],
            _ => {
                let (a, b, c) = (seen[x - 1], seen[x - cols], seen[x - cols - 1]);
                vec![if self.similar(c, a) && !self.similar(c, b) { x - cols } else { x - 1 }]
            }
        }
    }

    fn first_occurrences(&self) -> Vec<usize> {
        let first = |x: &Vec<u8>| self.tokens.iter().position(|y| x == y).unwrap_or(0);
        let source = |(i, x)| if self.is_protected(i) { i } else { first(x) };
        self.tokens.iter().enumerate().map(source).collect()
    }

    fn kept_by_pred_2d(&self) -> usize {
        self.predict(Method::Pred2d).into_iter().enumerate().filter(|(i, source)| i == source).count()
    }

    /// The sizes of the components of similar 4-neighbours.
    fn components(&self) -> Vec<usize> {
        let (cols, total) = (self.cols, self.tokens.len());
        let mut component: Vec<usize> = (0..total).collect();
        // Similar neighbours get the smaller number until nothing changes.
        loop {
            let before = component.clone();
            for x in 0..total {
                let left = (x % cols > 0).then(|| x - 1);
                let up = x.checked_sub(cols);
                for y in [left, up].into_iter().flatten().filter(|&y| self.similar(x, y)) {
                    let least = component[x].min(component[y]);
                    component[x] = least;
                    component[y] = least;
                }
            }
            if component == before {
                break;
            }
        }
        (0..total).map(|c| component.iter().filter(|&&of| of == c).count()).filter(|&n| n > 0).collect()
    }
}

/// Tokens that remain of a component of `n` when a share of `skip` is dropped.
fn thinned(n: usize, skip: f64) -> usize {
    n.saturating_sub((n as f64 * skip).round_ties_even() as usize).max(1)
}
