//! The stages on drawn images, each beside a memcpy of the same bytes.

#![allow(missing_docs)] // The macros make the functions.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pixelprune::internals::{
    Bands, Budget, ImageTokens, Predictor, Reads, Resizer, anchored, hash_tokens, planes, preprocess, unique,
};
use pixelprune::{
    Choice, Grid, ImageView, Job, Level, Method, Metric, PatchOrder, Recipe, RowFormat, Settings, Thinning,
    Threads,
};
use std::hint::black_box;

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
        let tokens = |metric, tau| {
            let budget = Budget::new(metric, tau, TOKEN * TOKEN * 3).unwrap();
            ImageTokens::new(image, TOKEN, budget, Level::detect()).unwrap()
        };
        let (exact, close) = (tokens(Metric::Max, 0.0), tokens(Metric::Max, 0.05));
        let (mae, rmse) = (tokens(Metric::Mae, 0.02), tokens(Metric::Rmse, 0.02));
        let grid = Grid::of_image(&image, TOKEN).unwrap();
        let known = planes(&exact, Reads::All, Bands::ONE).unwrap();
        let mut copy = data.clone();

        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(data.len() as u64));
        group.bench_function("memcpy", |b| b.iter(|| black_box(&mut copy).copy_from_slice(&data)));
        for (wanted, label) in [
            (Reads::All, "all"),
            (Reads::Of(Predictor::Pred2d), "pred_2d"),
            (Reads::Of(Predictor::Either), "either"),
        ] {
            group.bench_function(BenchmarkId::new("planes", label), |b| {
                b.iter(|| planes(&exact, wanted, Bands::ONE));
            });
        }
        group.bench_function("predictor", |b| b.iter(|| Predictor::Pred2d.sources(black_box(&known), grid)));
        for (label, tokens) in [("max", &close), ("mae", &mae), ("rmse", &rmse)] {
            group.bench_function(BenchmarkId::new("anchored", label), |b| {
                b.iter(|| anchored::sources(tokens, Predictor::Pred2d));
            });
        }
        group.bench_function("unique", |b| b.iter(|| unique::sources(&exact, Bands::ONE)));
        group.bench_function("hash_tokens", |b| b.iter(|| hash_tokens(image, TOKEN)));
        group.bench_function("resize", |b| {
            let mut band = vec![0; TOKEN * (ROW + TOKEN * 3)];
            b.iter(|| {
                let (height, width) = (HEIGHT + TOKEN, WIDTH + TOKEN);
                let mut resizer = Resizer::new(image, height, width, false, Level::detect()).unwrap();
                for y in (0..height).step_by(TOKEN) {
                    resizer.rows(y..y + TOKEN, &mut band, Threads::ONE).unwrap();
                }
            });
        });
        for (label, choice) in [("everything", Choice::Everything), ("pred_2d", Choice::By(&SETTINGS))] {
            let table = [std::array::from_fn(|level| (level as f32 - 127.5) / 127.5); 3];
            let format =
                RowFormat { patch: 16, merge: 2, frames: 2, channels_last: false, order: PatchOrder::Block };
            let recipe = Recipe { affine: Some(&[(127.5, 127.5); 3]), ..Recipe::new(format, &table) };
            let jobs = [Job { image, height: HEIGHT + TOKEN, width: WIDTH + TOKEN, pad: false, choice }];
            let mut out = vec![0.0; (HEIGHT + TOKEN) * (ROW + TOKEN * 3) * 2];
            group.bench_function(BenchmarkId::new("preprocess", label), |b| {
                b.iter(|| preprocess(&jobs, &recipe, Threads::ONE, &mut out, &mut || false).unwrap());
            });
        }
        group.finish();
    }
}

const SETTINGS: Settings = Settings {
    method: Method::Pred2d,
    metric: Metric::Max,
    threshold: 0.0,
    anchored: true,
    seed: 42,
    thinning: Thinning { sampled: true, skip: None },
};

criterion_group!(benches, stages);
criterion_main!(benches);
