//! The stages on synthetic images, each beside a memcpy of the same bytes.
//!
//! Before a stage is timed, its result is compared with that of plain loops or of the portable kernels.

#![allow(missing_docs)] // The macros make the functions.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pixelprune::internals::{
    Bands, Budget, ImageTokens, Predictor, Reads, Resizer, Tokens, anchored, hash_tokens, planes, preprocess,
    unique,
};
use pixelprune::{
    Choice, ImageView, Job, Level, Method, Metric, PatchOrder, Protect, Recipe, RowFormat, Settings,
    Thinning, Threads,
};
use std::collections::HashMap;
use std::hint::black_box;
use twox_hash::XxHash3_64;

const HEIGHT: usize = 2048;
const WIDTH: usize = 1536;
const TOKEN: usize = 32;
const ROW: usize = WIDTH * 3;

/// A blank page, a page with lines of texture, and noise.
fn images() -> [(&'static str, Vec<u8>); 3] {
    let mut state = 1u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let blank = vec![255; HEIGHT * ROW];
    let mut page = blank.clone();
    for y in (0..HEIGHT).filter(|y| y % 64 < 24) {
        page[y * ROW + 300..y * ROW + 3600].fill_with(&mut draw);
    }
    let mut noise = blank.clone();
    noise.fill_with(draw);
    [("blank", blank), ("page", page), ("noise", noise)]
}

fn stages(c: &mut Criterion) {
    for (name, data) in images() {
        let image = ImageView::new(&data, HEIGHT, WIDTH, 3, ROW).unwrap();
        let mut copy = data.clone();
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(data.len() as u64));
        group.bench_function("memcpy", |b| b.iter(|| black_box(&mut copy).copy_from_slice(&data)));
        select(&mut group, image);
        resize(&mut group, image);
        patches(&mut group, image);
        group.finish();
    }
}

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn tokens(image: ImageView, metric: Metric, tau: f64, level: Level) -> ImageTokens {
    let budget = Budget::of_token(metric, tau, TOKEN, image.channels()).unwrap();
    ImageTokens::new(image, TOKEN, budget, level).unwrap()
}

/// The bytes of every token.
fn token_bytes(image: ImageView) -> Vec<Vec<u8>> {
    let places = (0..HEIGHT / TOKEN).flat_map(|row| (0..WIDTH / TOKEN).map(move |col| (row, col)));
    let bytes = |(row, col)| {
        (0..TOKEN).flat_map(move |y| {
            let at = (row * TOKEN + y) * ROW + col * TOKEN * 3;
            image.data()[at..at + TOKEN * 3].iter().copied()
        })
    };
    places.map(|place| bytes(place).collect()).collect()
}

fn select(group: &mut Group, image: ImageView) {
    let (best, portable) = (Level::detect(), Level::portable());
    let bytes = token_bytes(image);
    let exact = tokens(image, Metric::Max, 0.0, best);
    let (grid, cols) = (exact.grid(), WIDTH / TOKEN);

    let known = planes(&exact, Reads::All, None, Bands::ONE).unwrap();
    let left: Vec<bool> = (0..bytes.len()).map(|i| i % cols > 0 && bytes[i] == bytes[i - 1]).collect();
    let up: Vec<bool> = (0..bytes.len()).map(|i| i >= cols && bytes[i] == bytes[i - cols]).collect();
    assert!(known.left == left && known.up == up, "planes");
    group.bench_function(BenchmarkId::new("planes", "all"), |b| {
        b.iter(|| planes(&exact, Reads::All, None, Bands::ONE));
    });
    for (predictor, label) in [(Predictor::Pred2d, "pred_2d"), (Predictor::Either, "either")] {
        let reads = Reads::Of(predictor);
        let sources = predictor.sources(&planes(&exact, reads, None, Bands::ONE).unwrap(), grid).unwrap();
        assert_eq!(sources, predictor.sources(&known, grid).unwrap(), "planes of {label}");
        assert_eq!(sources, anchored::sources(&exact, predictor, None).unwrap(), "{label}");
        group.bench_function(BenchmarkId::new("planes", label), |b| {
            b.iter(|| planes(&exact, reads, None, Bands::ONE));
        });
    }
    group.bench_function("predictor", |b| b.iter(|| Predictor::Pred2d.sources(black_box(&known), grid)));

    for (label, metric, tau) in
        [("max", Metric::Max, 0.05), ("mae", Metric::Mae, 0.02), ("rmse", Metric::Rmse, 0.02)]
    {
        let close = tokens(image, metric, tau, best);
        let sources = |tokens: &ImageTokens| anchored::sources(tokens, Predictor::Pred2d, None).unwrap();
        assert_eq!(sources(&close), sources(&tokens(image, metric, tau, portable)), "anchored, {label}");
        group.bench_function(BenchmarkId::new("anchored", label), |b| {
            b.iter(|| anchored::sources(&close, Predictor::Pred2d, None));
        });
    }

    let mut first = HashMap::new();
    let firsts: Vec<i64> = (0..).zip(&bytes).map(|(i, bytes)| *first.entry(bytes).or_insert(i)).collect();
    assert_eq!(unique::sources(&exact, None, Bands::ONE).unwrap(), firsts, "unique");
    group.bench_function("unique", |b| b.iter(|| unique::sources(&exact, None, Bands::ONE)));

    let hashes: Vec<u64> = bytes.iter().map(|bytes| XxHash3_64::oneshot(bytes)).collect();
    assert_eq!(hash_tokens(image, TOKEN).unwrap(), hashes, "hash_tokens");
    group.bench_function("hash_tokens", |b| b.iter(|| hash_tokens(image, TOKEN)));
}

/// A size other than the image's.
const TO: [usize; 2] = [HEIGHT + TOKEN, WIDTH + TOKEN];

fn resize(group: &mut Group, image: ImageView) {
    let resizer = |level| Resizer::new(image, TO[0], TO[1], false, level).unwrap();
    let rows = TOKEN * TO[1] * 3;
    let whole = resizer(Level::portable()).whole(Threads::ONE).unwrap();
    let mut band = vec![0; rows];
    let mut best = resizer(Level::detect());
    for (i, expected) in whole.chunks(rows).enumerate() {
        best.rows(i * TOKEN..(i + 1) * TOKEN, &mut band, Threads::ONE).unwrap();
        assert!(band == expected, "resize");
    }
    group.bench_function("resize", |b| {
        b.iter(|| {
            let mut resizer = resizer(Level::detect());
            for y in (0..TO[0]).step_by(TOKEN) {
                resizer.rows(y..y + TOKEN, &mut band, Threads::ONE).unwrap();
            }
        });
    });
}

fn patches(group: &mut Group, image: ImageView) {
    let format = RowFormat { patch: 16, merge: 2, frames: 2, channels_last: false, order: PatchOrder::Block };
    let table = [std::array::from_fn(|level| (level as f32 - 127.5) / 127.5); 3];
    let recipe = Recipe { affine: Some(&[(127.5, 127.5); 3]), ..Recipe::new(format, &table) };
    // Table lookups and portable kernels.
    let plain = Recipe { affine: None, level: Level::portable(), ..recipe };
    let mut out = vec![0.0; TO[0] * TO[1] * 3 * format.frames];
    let mut expected = out.clone();
    for (label, choice) in [("everything", Choice::Everything), ("pred_2d", Choice::By(&SETTINGS))] {
        let jobs = [Job { image, height: TO[0], width: TO[1], pad: false, choice }];
        let run = |recipe: &Recipe<f32>, out: &mut [f32]| {
            preprocess(&jobs, recipe, Threads::ONE, out, &mut || false).unwrap()
        };
        out.fill(0.0);
        expected.fill(0.0);
        assert_eq!(run(&recipe, &mut out), run(&plain, &mut expected), "preprocess, {label}");
        assert!(out == expected, "preprocess, {label}");
        group.bench_function(BenchmarkId::new("preprocess", label), |b| b.iter(|| run(&recipe, &mut out)));
    }
}

const SETTINGS: Settings = Settings {
    method: Method::Pred2d,
    metric: Metric::Max,
    threshold: 0.0,
    anchored: true,
    protect: Protect::Nothing,
    seed: 42,
    thinning: Thinning { sampled: true, skip: None },
};

criterion_group!(benches, stages);
criterion_main!(benches);
