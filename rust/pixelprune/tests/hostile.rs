//! Invalid arguments are errors, never panics. The tests run with overflow checks.

use pixelprune::internals::{
    Bands, Budget, Channel, ImageTokens, PatchFormat, PixelValues, Resizer, image_planes, is_within, unique,
};
use pixelprune::{
    Choice, Error, Grid, ImageView, Job, Level, Method, Metric, PatchOrder, Pool, Recipe, RowFormat,
    Settings, Thinning, Threads, decode, normalised_levels, preprocess, prune, prune_batch,
};

const PIXELS: [u8; 4 * 4 * 3] = [7; 48];
/// Values that overflow when multiplied by each other, and the smallest ones.
const ABSURD: [usize; 8] = [0, 2, 3, 1 << 16, 1 << 31, usize::MAX / 2, usize::MAX - 1, usize::MAX];

fn image() -> ImageView<'static> {
    ImageView::new(&PIXELS, 4, 4, 3, 12).unwrap()
}

#[test]
fn token_sides_of_any_size_are_refused_or_fit() {
    let source = [0; 4];
    for token in ABSURD {
        let fits = token == 2;
        for threshold in [0.0, 0.1] {
            let settings = Settings { threshold, ..Settings::default() };
            assert_eq!(prune(image(), token, &settings, Threads::ONE).is_ok(), fits, "{token}");
            assert_eq!(prune_batch(&[image()], token, &settings, Threads::ONE).is_ok(), fits, "{token}");
            let planes = image_planes(image(), token, Metric::Mae, threshold, Level::portable());
            assert_eq!(planes.is_ok(), fits, "{token}");
            let within = is_within(image(), token, &source, Metric::Rmse, threshold, Level::portable());
            assert_eq!(within.is_ok(), fits, "{token}");
        }
    }
    assert_eq!(
        prune(image(), 0, &Settings::default(), Threads::ONE),
        Err(Error::PartialTokens { size: [4, 4], token: 0 })
    );
}

#[test]
fn thresholds_and_shares_outside_0_to_1_are_refused() {
    for found in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e-300, 1.0 + f64::EPSILON] {
        let settings = Settings { threshold: found, ..Settings::default() };
        assert!(
            matches!(prune(image(), 2, &settings, Threads::ONE), Err(Error::Threshold { .. })),
            "{found}"
        );
        let kept = ImageView::new(&PIXELS, 4, 2, 3, 6).unwrap();
        let grid = Grid::new(1, 1, 2).unwrap();
        assert!(matches!(decode(&[true, true], grid, kept, &settings), Err(Error::Threshold { .. })));
        let thinning = Thinning { sampled: false, skip: Some(found) };
        let settings = Settings { method: Method::ConnComp, thinning, ..Settings::default() };
        assert!(matches!(prune(image(), 2, &settings, Threads::ONE), Err(Error::Skip { .. })), "{found}");
    }
    for skip in [0.0, 1.0] {
        let thinning = Thinning { sampled: false, skip: Some(skip) };
        let settings = Settings { method: Method::ConnComp, thinning, ..Settings::default() };
        assert!(prune(image(), 2, &settings, Threads::ONE).is_ok());
    }
}

#[test]
fn the_stride_of_a_single_row_is_ignored() {
    for stride in ABSURD {
        let image = ImageView::new(&PIXELS, 1, 16, 3, stride).unwrap();
        let selection = prune(image, 1, &Settings::default(), Threads::ONE).unwrap();
        assert_eq!(selection.keep, [0]);
        let format =
            RowFormat { patch: 1, merge: 1, frames: 1, channels_last: false, order: PatchOrder::Block };
        let levels = normalised_levels([0.5; 3], [0.5; 3]);
        for pad in [false, true] {
            let job = Job { image, height: 2, width: 16, pad, choice: Choice::Everything };
            let mut out = vec![0.0; 2 * 16 * 3];
            assert!(preprocess(&[job], &Recipe::new(format, &levels), Threads::ONE, &mut out).is_ok());
        }
    }
}

#[test]
fn images_of_any_shape_are_refused_or_fit() {
    for height in ABSURD {
        for width in ABSURD {
            for channels in ABSURD {
                for stride in ABSURD {
                    let outcome = ImageView::new(&PIXELS, height, width, channels, stride);
                    let fits = height > 0
                        && width > 0
                        && channels > 0
                        && (height == 1 || stride >= width.saturating_mul(channels))
                        && (height - 1).saturating_mul(stride).saturating_add(width.saturating_mul(channels))
                            <= PIXELS.len();
                    assert_eq!(outcome.is_ok(), fits, "{height} {width} {channels} {stride}");
                }
            }
        }
    }
}

#[test]
fn grids_of_any_size_are_refused_or_fit() {
    for frames in ABSURD {
        for rows in ABSURD {
            for cols in ABSURD {
                match Grid::new(frames, rows, cols) {
                    Ok(grid) => {
                        assert!(grid.total() > 0 && u32::try_from(grid.total()).is_ok());
                        assert_eq!((grid.frames(), grid.rows(), grid.cols()), (frames, rows, cols));
                        assert!(matches!(
                            decode(&[true], grid, image(), &Settings::default()),
                            Err(Error::Mask { .. })
                        ));
                    }
                    Err(error) => assert_eq!(error, Error::Grid { shape: [frames, rows, cols] }),
                }
            }
        }
    }
}

#[test]
fn row_formats_of_any_size_are_refused_or_fit() {
    let levels = normalised_levels([f32::NAN, 0.5, 0.5], [0.0, 0.5, f32::INFINITY]);
    let mut out = vec![0.0; 4 * 4 * 3 * 3];
    for patch in ABSURD {
        for merge in ABSURD {
            for frames in ABSURD {
                for channels_last in [false, true] {
                    let format = RowFormat { patch, merge, frames, channels_last, order: PatchOrder::Raster };
                    // Products saturate: they never wrap around to a small number.
                    assert!(format.token() >= patch.max(merge) || patch.min(merge) == 0);
                    assert!(format.token_values() >= format.row() || merge == 0);
                    let recipe = Recipe::new(format, &levels);
                    for side in [4, usize::MAX / 4 * 4] {
                        let job = Job {
                            image: image(),
                            height: side,
                            width: side,
                            pad: false,
                            choice: Choice::Everything,
                        };
                        let outcome = preprocess(&[job; 2], &recipe, Threads::ONE, &mut out);
                        assert!(outcome.is_err(), "{format:?}: two images do not fit");
                        let error = outcome.unwrap_err().to_string();
                        assert!(!error.is_empty());
                    }
                }
            }
        }
    }
}

#[test]
fn jobs_of_any_size_are_refused_or_fit() {
    let format = RowFormat { patch: 1, merge: 2, frames: 1, channels_last: true, order: PatchOrder::Block };
    let levels = normalised_levels([0.5; 3], [0.5; 3]);
    let recipe = Recipe { shared_bytes: Some(0), ..Recipe::new(format, &levels) };
    let mut out = vec![0.0; 48];
    let settings = Settings::default();
    let keeps: [&[i64]; 8] = [&[], &[0], &[3], &[4], &[-1], &[1, 1], &[1, 0], &[i64::MIN, 0, i64::MAX]];
    for height in [ABSURD.as_slice(), &[4]].concat() {
        for width in [ABSURD.as_slice(), &[4]].concat() {
            for pad in [false, true] {
                let choices =
                    keeps.map(Choice::Given).into_iter().chain([Choice::Everything, Choice::By(&settings)]);
                for choice in choices {
                    let job = Job { image: image(), height, width, pad, choice };
                    let outcome = preprocess(&[job], &recipe, Threads::ONE, &mut out);
                    let fits = height.saturating_mul(width) <= 16
                        && [height, width].iter().all(|side| *side > 0 && side % 2 == 0)
                        && !(pad && (height < 4 || width < 4));
                    if !fits {
                        assert!(outcome.is_err(), "{height} x {width}, {choice:?}");
                    } else if !matches!(choice, Choice::Given(_)) {
                        assert!(outcome.is_ok(), "{height} x {width}, {choice:?}: {outcome:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn padding_to_a_smaller_size_is_refused() {
    for (height, width) in [(4, 3), (3, 4), (1, 1), (100, 3)] {
        let resizer = Resizer::new(image(), height, width, true, Level::portable());
        assert_eq!(resizer.err(), Some(Error::Pad { from: [4, 4], to: [height, width] }));
    }
    assert!(Resizer::new(image(), 4, 4, true, Level::portable()).is_ok());
    assert!(Resizer::new(image(), 1, 1, false, Level::portable()).is_ok());
}

const CHANNEL: Channel = Channel { first: 0, end: 3, step: 1, factor: 1.0, offset: 0.0 };

#[test]
fn formats_of_pixel_values_are_checked_by_every_function() {
    let good = PatchFormat {
        order: PatchOrder::Block,
        merge: 2,
        row: 3,
        runs: vec![(0, 3)],
        factor: vec![1.0; 3],
        offset: vec![0.0; 3],
        to_levels: vec![255.0; 3],
        channels: vec![CHANNEL],
        slack: true,
    };
    let data = [7u8; 48];
    let run = |format: &PatchFormat, grids: &[[usize; 3]]| {
        let values = PixelValues { data: &data, grids, format };
        let pruned = values.prune(&Settings::default(), Level::portable(), Threads::ONE, &mut || false);
        let planes = values.planes(Metric::Rmse, 0.1, Level::portable(), &mut || false);
        let content = values.content(0.1, Level::portable(), &mut || false);
        assert_eq!(pruned.as_ref().err(), planes.as_ref().err());
        assert_eq!(pruned.as_ref().err(), content.as_ref().err());
        pruned
    };
    assert_eq!(run(&good, &[[1, 4, 4]]).unwrap()[0].keep, [0]);
    let half = usize::MAX / 2 + 1;
    let bad = [
        PatchFormat { row: 0, ..good.clone() },
        PatchFormat { row: usize::MAX, runs: vec![(0, half), (0, half), (0, 3)], ..good.clone() },
        PatchFormat { merge: 0, ..good.clone() },
        PatchFormat { merge: usize::MAX, ..good.clone() },
        PatchFormat { runs: vec![], ..good.clone() },
        PatchFormat { runs: vec![(0, 4)], ..good.clone() },
        PatchFormat { runs: vec![(usize::MAX, 3)], ..good.clone() },
        PatchFormat { factor: vec![1.0; 2], ..good.clone() },
        PatchFormat { offset: vec![], ..good.clone() },
        PatchFormat { to_levels: vec![255.0; 4], ..good.clone() },
        PatchFormat { channels: vec![], ..good.clone() },
        PatchFormat { channels: vec![Channel { first: 3, ..CHANNEL }], ..good.clone() },
        PatchFormat { channels: vec![Channel { end: 4, ..CHANNEL }], ..good.clone() },
        PatchFormat { channels: vec![CHANNEL, Channel { step: 0, ..CHANNEL }], ..good.clone() },
    ];
    for format in &bad {
        assert!(matches!(run(format, &[[1, 4, 4]]), Err(Error::Runs { .. })), "{format:?}");
    }
    for t in ABSURD {
        for h in ABSURD {
            for w in ABSURD {
                for merge in [1, 2, 1 << 16] {
                    let format = PatchFormat { merge, ..good.clone() };
                    assert!(run(&format, &[[t, h, w]]).is_err(), "{t} {h} {w} / {merge}");
                }
            }
        }
    }
}

#[test]
fn a_band_count_of_zero_means_one() {
    let tokens = ImageTokens::new(image(), 2, Budget::Equal, Level::portable()).unwrap();
    let none = Bands { count: 0, threads: Threads::ONE };
    assert_eq!(unique::sources(&tokens, None, none), unique::sources(&tokens, None, Bands::ONE));
}

#[test]
fn a_pool_of_zero_or_too_many_threads_is_none() {
    assert!(Pool::new(0).is_none());
    assert!(Pool::new(usize::MAX).is_none());
}
