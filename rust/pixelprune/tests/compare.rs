//! Every SIMD level, band split and shortcut against the definition.

use pixelprune::internals::{Bands, Budget, ImageTokens, Predictor, Reads, Spread, Tokens, anchored, planes};
use pixelprune::{Grid, ImageView, Level, Pool, Threads};
use proptest::prelude::*;

/// Similarity as it is defined.
fn within(budget: Budget, x: &[u8], y: &[u8]) -> bool {
    let differences = || x.iter().zip(y).map(|(&a, &b)| u64::from(a.abs_diff(b)));
    match budget {
        Budget::Equal => x == y,
        Budget::Max(limit) => differences().max().unwrap_or(0) <= limit.into(),
        Budget::Mae(limit) => differences().sum::<u64>() <= limit,
        Budget::Rmse(limit) => differences().map(|d| d * d).sum::<u64>() <= limit,
    }
}

/// Whether a token is of one colour, as it is defined.
fn is_one_colour(token: &[u8], channels: usize, levels: u8) -> bool {
    (0..channels).all(|c| {
        let values = || token.iter().skip(c).step_by(channels);
        values().max().unwrap() - values().min().unwrap() <= levels
    })
}

/// Two tokens of `side` x `side` single-channel pixels side by side in rows `stride` apart.
fn pair_image(side: usize, stride: usize) -> Vec<u8> {
    let mut data = vec![0; (side - 1) * stride + 2 * side];
    for (i, byte) in data.iter_mut().enumerate() {
        // The same pixels in both halves; whatever lies between the rows differs.
        let (row, col) = (i / stride, i % stride);
        *byte = if col < 2 * side { ((row * 31 + col % side) % 251) as u8 } else { (i % 241) as u8 };
    }
    data
}

#[test]
fn a_single_difference_is_seen_at_every_place() {
    for side in [1, 2, 3, 5, 8, 15, 16, 17, 28, 31, 32, 33, 47, 48, 63, 64, 65, 96, 100] {
        let stride = 2 * side + 3;
        let clean = pair_image(side, stride);
        for level in Level::available() {
            for amount in [1, 5, 6] {
                for budget in [Budget::Equal, Budget::Max(5), Budget::Mae(5), Budget::Rmse(25)] {
                    let expected = budget != Budget::Equal && amount <= 5;
                    for row in [0, side / 2, side - 1] {
                        for col in 0..side {
                            let mut data = clean.clone();
                            let byte = &mut data[row * stride + side + col];
                            *byte = if *byte >= 128 { *byte - amount } else { *byte + amount };
                            let image = ImageView::new(&data, side, 2 * side, 1, stride).unwrap();
                            let tokens = ImageTokens::new(image, side, budget, level).unwrap();
                            let place = format!("{side} {level:?} {budget:?} +{amount} at {row},{col}");
                            assert_eq!(tokens.similar(0, 1), expected, "{place}");
                            let left = planes(&tokens, Reads::All, None, Bands::ONE).unwrap().left[1];
                            assert_eq!(left, expected, "scan, {place}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn another_colour_is_seen_at_every_place() {
    for channels in [1, 2, 3, 4, 5, 6, 7, 12] {
        for side in [1, 2, 7, 8, 14, 16, 28, 31, 32, 33, 48] {
            let (segment, stride) = (side * channels, side * channels + 5);
            let mut data: Vec<u8> = (0..side * stride).map(|i| (i % stride % channels) as u8 * 9).collect();
            let last = [0, 1, channels, segment / 2, 83, 84, 95, 96, segment - 1];
            for place in last.into_iter().filter(|&place| place < segment) {
                for row in [0, side / 2, side - 1] {
                    let at = row * stride + place;
                    let clean = data[at];
                    for (levels, moved, expected) in
                        [(0, 0, true), (0, 1, false), (5, 5, true), (5, 6, false)]
                    {
                        data[at] = clean + moved;
                        let expected = expected || side == 1;
                        let image = ImageView::new(&data, side, side, channels, stride).unwrap();
                        let spread = Spread { tau: f64::from(levels) / 255.0, levels };
                        for level in Level::available() {
                            let tokens = ImageTokens::new(image, side, Budget::Equal, level).unwrap();
                            let found = tokens.is_one_colour(0, spread);
                            assert_eq!(
                                found, expected,
                                "{side} {channels} {level:?} +{moved} at {row},{place}"
                            );
                        }
                    }
                    data[at] = clean;
                }
            }
        }
    }
}

/// The same tokens without the shortcut for rows.
struct OneByOne<'a>(ImageTokens<'a>);

impl Tokens for OneByOne<'_> {
    fn grid(&self) -> Grid {
        self.0.grid()
    }
    fn is_exact(&self) -> bool {
        self.0.is_exact()
    }
    fn similar(&self, x: usize, y: usize) -> bool {
        self.0.similar(x, y)
    }
    fn is_one_colour(&self, i: usize, spread: Spread) -> bool {
        self.0.is_one_colour(i, spread)
    }
    fn hash(&self, i: usize) -> pixelprune::internals::Result<u64> {
        self.0.hash(i)
    }
}

/// An image of tokens from a small palette, with a few values moved by a few levels.
fn images() -> impl Strategy<Value = (Vec<u8>, usize, usize, usize, usize, usize)> {
    let sides = (
        1..6usize,
        1..7usize,
        prop_oneof![1..9usize, Just(28), Just(32)],
        prop_oneof![Just(1), Just(3), Just(4)],
    );
    (sides, 0..5usize, any::<u64>(), 1..4u64, 0..12usize).prop_map(
        |((rows, cols, side, channels), padding, seed, palette, moves)| {
            let mut state = seed;
            let mut draw = move |n: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % n
            };
            let stride = cols * side * channels + padding;
            let mut data = vec![0; rows * side * stride];
            for row in 0..rows {
                for col in 0..cols {
                    let base = draw(palette) * 3 + 100;
                    for y in 0..side {
                        let at = (row * side + y) * stride + col * side * channels;
                        data[at..at + side * channels].fill(base as u8 + (y % 3) as u8);
                    }
                }
            }
            for _ in 0..moves {
                let i = draw(data.len() as u64) as usize;
                data[i] = data[i].wrapping_add(draw(7) as u8);
            }
            (data, rows, cols, side, channels, stride)
        },
    )
}

fn budgets() -> impl Strategy<Value = Budget> {
    prop_oneof![
        Just(Budget::Equal),
        (0..8u8).prop_map(Budget::Max),
        (0..60u64).prop_map(Budget::Mae),
        (0..200u64).prop_map(Budget::Rmse),
    ]
}

proptest! {
    #[test]
    fn levels_bands_and_shortcuts_agree_with_the_definition(
        (data, rows, cols, side, channels, stride) in images(),
        budget in budgets(),
        levels in 0..4u8,
    ) {
        let spread = Spread { tau: f64::from(levels) / 255.0, levels };
        let image = ImageView::new(&data, rows * side, cols * side, channels, stride).unwrap();
        let bytes = |i: usize| -> Vec<u8> {
            let (row, col) = (i / cols, i % cols);
            (0..side).flat_map(|y| {
                let at = (row * side + y) * stride + col * side * channels;
                data[at..at + side * channels].to_vec()
            }).collect()
        };
        let pool = Pool::new(2);
        for level in Level::available() {
            let tokens = ImageTokens::new(image, side, budget, level).unwrap();
            let all = planes(&tokens, Reads::All, None, Bands::ONE).unwrap();
            for i in 0..rows * cols {
                let left = i % cols > 0 && within(budget, &bytes(i), &bytes(i - 1));
                let up = i >= cols && within(budget, &bytes(i), &bytes(i - cols));
                prop_assert_eq!((all.left[i], all.up[i]), (left, up));
                prop_assert_eq!(tokens.is_one_colour(i, spread), is_one_colour(&bytes(i), channels, levels));
            }
            let grid = tokens.grid();
            let shared = pool.as_ref().map_or(Threads::ONE, Pool::threads);
            for (count, threads) in [(2, shared), (3, Threads::ONE), (3, shared), (7, shared)] {
                let bands = Bands { count, threads };
                prop_assert_eq!(&planes(&tokens, Reads::All, None, bands).unwrap(), &all);
                // Skipped comparisons are never read.
                for predictor in [Predictor::Pred2d, Predictor::Either] {
                    let lazy = planes(&tokens, Reads::Of(predictor), None, bands).unwrap();
                    prop_assert_eq!(predictor.sources(&lazy, grid), predictor.sources(&all, grid));
                }
            }
            let plain = OneByOne(tokens);
            let tokens = &plain.0;
            for predictor in [Predictor::Pred2d, Predictor::Either] {
                for spread in [None, Some(spread)] {
                    let closed = anchored::sources(tokens, predictor, spread);
                    prop_assert_eq!(&closed, &anchored::sources(&plain, predictor, spread));
                    let open = predictor.sources(&planes(&plain, Reads::All, spread, Bands::ONE).unwrap(), grid);
                    for bands in [Bands::ONE, Bands { count: 3, threads: Threads::ONE }] {
                        let lazy = planes(tokens, Reads::Of(predictor), spread, bands).unwrap();
                        prop_assert_eq!(&predictor.sources(&lazy, grid), &open);
                    }
                    if tokens.is_exact() && (spread.is_none() || levels == 0) {
                        prop_assert_eq!(&closed, &open);
                    }
                    let dropped = |source: &[i64]| (0..).zip(source).filter(|&(i, &s)| i != s).map(|(i, _)| i as usize).collect::<Vec<_>>();
                    for source in [closed.unwrap(), open.unwrap()] {
                        let content = dropped(&source).into_iter().find(|&i| !is_one_colour(&bytes(i), channels, levels));
                        prop_assert!(spread.is_none() || content.is_none());
                    }
                }
            }
        }
    }
}
