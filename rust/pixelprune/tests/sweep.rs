//! A sweep against one call for each of the settings.

use pixelprune::internals::{image_content, prune_image, sweep_image};
use pixelprune::{Error, ImageView, Level, Method, Metric, Pool, Protect, Settings, Thinning, Threads};
use proptest::prelude::*;

const METHODS: [Method; 7] = [
    Method::Pred2d,
    Method::Raster,
    Method::Serpentine,
    Method::Either,
    Method::Unique,
    Method::Random,
    Method::ConnComp,
];

/// Every combination of names at these thresholds.
fn settings(thresholds: &[f64], metrics: &[Metric]) -> Vec<Settings> {
    let mut all = Vec::new();
    for method in METHODS {
        for &threshold in thresholds {
            let threshold = if method == Method::Unique { 0.0 } else { threshold };
            for &metric in metrics {
                for anchored in [true, false] {
                    for protect in [Protect::Nothing, Protect::Content] {
                        let thinning = Thinning { sampled: true, skip: None };
                        all.push(Settings {
                            method,
                            metric,
                            threshold,
                            anchored,
                            protect,
                            seed: 3,
                            thinning,
                        });
                    }
                }
            }
        }
    }
    all
}

/// Tokens of one colour or of noise from a small palette, whose values lie a few levels apart.
fn image(rows: usize, cols: usize, side: usize, channels: usize, seed: u64) -> (Vec<u8>, usize) {
    let mut state = seed;
    let mut draw = move |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let stride = cols * side * channels + 5;
    let mut data = vec![77; rows * side * stride];
    for row in 0..rows {
        for col in 0..cols {
            let (base, noise) = (draw(3) * 4 + draw(2), [1, 1, 2, 6, 100][draw(5) as usize]);
            for y in 0..side {
                for x in 0..side * channels {
                    let value = 60 * (x % channels) as u64 % 140 + base + draw(noise);
                    data[(row * side + y) * stride + col * side * channels + x] = value as u8;
                }
            }
        }
    }
    (data, stride)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_sweep_is_many_calls(
        (rows, cols) in (1..7usize, 1..14usize),
        side in prop_oneof![1..6usize, Just(28), Just(32)],
        channels in 1..6usize,
        seed: u64,
        thresholds in proptest::collection::vec(prop_oneof![Just(0.0), 0.0..0.06, 0.0..=1.0], 1..4),
        metrics in prop_oneof![
            Just(vec![Metric::Max]),
            Just(vec![Metric::Rmse, Metric::Mae]),
            Just(vec![Metric::Max, Metric::Mae, Metric::Rmse]),
        ],
    ) {
        let (data, stride) = image(rows, cols, side, channels, seed);
        let image = ImageView::new(&data, rows * side, cols * side, channels, stride).unwrap();
        let settings = settings(&thresholds, &metrics);
        for level in Level::available() {
            let swept = sweep_image(image, side, &settings, level, Threads::ONE, &mut || false).unwrap();
            prop_assert_eq!(swept.len(), settings.len());
            for (swept, settings) in swept.iter().zip(&settings) {
                let one = prune_image(image, side, settings, level, Threads::ONE).unwrap();
                prop_assert_eq!(&swept.keep, &one.keep, "{:?} {:?}", settings, level);
                let mut content = image_content(image, side, settings.threshold, level).unwrap();
                one.keep.iter().for_each(|&i| content[i as usize] = false);
                let content = content.into_iter().filter(|&content| content).count();
                prop_assert_eq!(swept.dropped_content, content, "{:?} {:?}", settings, level);
            }
        }
    }
}

#[test]
fn threads_change_nothing() {
    let (data, stride) = image(24, 40, 32, 3, 5);
    let image = ImageView::new(&data, 24 * 32, 40 * 32, 3, stride).unwrap();
    let settings = settings(&[0.0, 0.01, 0.1], &[Metric::Max, Metric::Mae]);
    let sweep = |threads| sweep_image(image, 32, &settings, Level::detect(), threads, &mut || false).unwrap();
    let pool = Pool::new(3);
    let expected = sweep(Threads::ONE);
    assert_eq!(sweep(pool.as_ref().map_or(Threads::ONE, Pool::threads)), expected);
    for (one, swept) in settings.iter().zip(&expected) {
        let whole = prune_image(image, 32, one, Level::detect(), Threads::ONE).unwrap();
        assert_eq!(swept.keep, whole.keep);
    }
}

#[test]
fn the_caller_is_asked_between_settings_and_can_stop() {
    let image = ImageView::new(&[7; 64], 8, 8, 1, 8).unwrap();
    let settings = [Settings::default(); 5];
    let mut asked = 0;
    let mut stop = || {
        asked += 1;
        asked == 2
    };
    let outcome = sweep_image(image, 4, &settings, Level::detect(), Threads::ONE, &mut stop);
    assert_eq!(outcome.unwrap_err(), Error::Stopped);
    let none = sweep_image(image, 4, &[], Level::detect(), Threads::ONE, &mut || true);
    assert_eq!(none.unwrap(), []);
}

#[test]
fn settings_and_images_are_checked() {
    let image = ImageView::new(&[7; 64], 8, 8, 1, 8).unwrap();
    let sweep = |token, settings: &[Settings]| {
        sweep_image(image, token, settings, Level::detect(), Threads::ONE, &mut || false).unwrap_err()
    };
    assert_eq!(sweep(5, &[]), Error::PartialTokens { size: [8, 8], token: 5 });
    let wrong = Settings { threshold: 1.5, ..Settings::default() };
    assert_eq!(sweep(4, &[Settings::default(), wrong]), Error::Threshold { found: 1.5 });
}

#[test]
fn there_may_be_more_budgets_than_ranks_are_remembered() {
    let (data, stride) = image(2, 9, 32, 1, 8);
    let image = ImageView::new(&data, 2 * 32, 9 * 32, 1, stride).unwrap();
    let settings: Vec<Settings> = (1..70_000)
        .map(|i| Settings {
            metric: Metric::Mae,
            threshold: f64::from(i) / 255.0 / 1024.0,
            ..Settings::default()
        })
        .collect();
    let swept = sweep_image(image, 32, &settings, Level::detect(), Threads::ONE, &mut || false).unwrap();
    for (swept, settings) in swept.iter().zip(&settings).step_by(7) {
        let one = prune_image(image, 32, settings, Level::detect(), Threads::ONE).unwrap();
        assert_eq!(swept.keep, one.keep, "{settings:?}");
    }
}
