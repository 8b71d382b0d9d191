//! `preprocess` writes the defined bytes, however it processes an image.

use crate::draw::{Draw, Image, Noise};
use crate::threads;
use half::{bf16, f16};
use pixelprune::internals::{Affine, Bfloat, Half, PatchValue, Resizer};
use pixelprune::{
    Choice, Error, ImageView, Job, Level, Method, PatchOrder, Recipe, RowFormat, Selection, Settings, Table,
    Threads, normalised_levels, prune,
};

const RGB: usize = 3;

/// An image and what to do with it.
struct Case {
    image: Image,
    height: usize,
    width: usize,
    pad: bool,
    choice: Chosen,
}

enum Chosen {
    Everything,
    Given(Vec<i64>),
    By(Settings),
}

impl Case {
    fn job(&self) -> Job<'_> {
        let choice = match &self.choice {
            Chosen::Everything => Choice::Everything,
            Chosen::Given(keep) => Choice::Given(keep),
            Chosen::By(settings) => Choice::By(settings),
        };
        Job { image: self.image.view(), height: self.height, width: self.width, pad: self.pad, choice }
    }
}

/// All ways, levels and threads write the bytes that are defined.
pub fn preprocess(data: &[u8]) {
    let draw = &mut Draw::new(data);
    // Few pixels as a rule; now and then as many as are cut into bands and pieces.
    let is_large = draw.one_in(5);
    let format = format(draw, is_large);
    let cases: Vec<Case> =
        (0..draw.between(1, if is_large { 2 } else { 4 })).map(|_| case(draw, &format, is_large)).collect();
    let mean = [draw.byte(), draw.byte(), draw.byte()].map(|byte| f32::from(byte) / 255.0);
    let std = [draw.byte(), draw.byte(), draw.byte()].map(|byte| (f32::from(byte) + 1.0) / 256.0);
    let levels = normalised_levels(mean, std);
    let affine: Affine = std::array::from_fn(|c| (mean[c] * 255.0, std[c] * 255.0));
    match draw.between(0, 3) {
        0 => check::<f32>(&cases, format, &levels, &affine),
        1 => check(&cases, format, &levels.map(|l| l.map(|v| Half(f16::from_f32(v).to_bits()))), &affine),
        2 => check(&cases, format, &levels.map(|l| l.map(|v| Bfloat(bf16::from_f32(v).to_bits()))), &affine),
        _ => check::<u8>(&cases, format, &std::array::from_fn(|_| std::array::from_fn(|v| v as u8)), &affine),
    }
    hostile(draw, &cases[0], format, &levels);
}

fn format(draw: &mut Draw, is_large: bool) -> RowFormat {
    let patch = if is_large { draw.of(&[4, 14, 16]) } else { draw.of(&[1, 2, 3, 7, 8, 9, 14, 16]) };
    let channels_last = draw.one_in(4);
    RowFormat {
        patch,
        merge: draw.between(1, 2),
        frames: if channels_last { 1 } else { draw.between(1, 3) },
        channels_last,
        order: draw.of(&[PatchOrder::Block, PatchOrder::Raster]),
    }
}

fn case(draw: &mut Draw, format: &RowFormat, is_large: bool) -> Case {
    let token = format.token();
    let most = if is_large { 900 / token } else { 4 };
    let (rows, cols) = (draw.between(most / 2 + 1, most + 1), draw.between(most / 2 + 1, most));
    let (height, width) = (rows * token, cols * token);
    let pad = draw.one_in(4);
    // Tiles that lie on the tokens, and others.
    let tile = draw.of(&[token, 5, 1]).min(height).min(width);
    let (down, along) = (height / tile, width / tile);
    let image = match draw.between(usize::from(is_large), 2) {
        0 => draw.tiles(token, (rows, cols), RGB),
        1 if !pad => {
            let tiles = (draw.between(1, down + 3), draw.between(1, along + 3));
            draw.tiles(tile, tiles, RGB)
        }
        _ => {
            let tiles = (draw.between(1, down), draw.between(1, along));
            draw.tiles(tile, tiles, RGB)
        }
    };
    let choice = match draw.between(0, 5) {
        // Closed loop: the only choice for which a band needs pixels of the bands before it.
        0 | 3 if is_large => Chosen::By(Settings {
            method: draw.of(&[Method::Pred2d, Method::Either]),
            threshold: draw.between(1, 4) as f64 / 255.0,
            anchored: true,
            ..draw.settings()
        }),
        0 | 1 => Chosen::Everything,
        2 => {
            let mut noise = Noise(draw.u64());
            let keep: Vec<i64> =
                (0..(rows * cols) as i64).filter(|_| noise.byte().is_multiple_of(3)).collect();
            Chosen::Given(if keep.is_empty() { vec![0] } else { keep })
        }
        _ => Chosen::By(draw.settings()),
    };
    Case { image, height, width, pad, choice }
}

fn check<E: PatchValue + std::fmt::Debug>(
    cases: &[Case],
    format: RowFormat,
    table: &Table<E>,
    affine: &Affine,
) {
    let token = format.token();
    let resized: Vec<Vec<u8>> = cases.iter().map(resized).collect();
    let selections: Vec<Selection> =
        cases.iter().zip(&resized).map(|(case, pixels)| chosen(case, pixels, token)).collect();
    let mut expected = Vec::new();
    for ((case, pixels), selection) in cases.iter().zip(&resized).zip(&selections) {
        write(case.width, pixels, &selection.keep, format, table, &mut expected);
    }
    let total: usize = cases.iter().map(|case| case.height * case.width * RGB * format.frames).sum();
    let mark = table[0][1];
    expected.resize(total + 1, mark);
    let jobs: Vec<Job> = cases.iter().map(Case::job).collect();
    let mut out = vec![E::default(); total + 1];
    for level in Level::available() {
        for affine in [None, Some(affine)] {
            for (threads, shared_bytes) in [(threads()[0], None), (threads()[1], Some(0))] {
                let recipe = Recipe { affine, level, shared_bytes, ..Recipe::new(format, table) };
                out.fill(mark);
                let found = call(&jobs, &recipe, threads, &mut out).expect("the arguments are right");
                let place =
                    || format!("{}, {} threads, {affine:?}, {format:?}", level.name(), threads.count());
                assert_eq!(found, selections, "{}", place());
                let wrong =
                    out.iter().zip(&expected).position(|(found, expected)| found.bits() != expected.bits());
                assert_eq!(wrong, None, "value written wrong at, {}", place());
            }
        }
    }
}

fn call<E: PatchValue>(
    jobs: &[Job],
    recipe: &Recipe<E>,
    threads: Threads,
    out: &mut [E],
) -> Result<Vec<Selection>, Error> {
    pixelprune::preprocess(jobs, recipe, threads, out)
}

/// The image in its new size.
fn resized(case: &Case) -> Vec<u8> {
    let Case { image, height, width, pad, .. } = case;
    if *pad || (*height, *width) == (image.height, image.width) {
        let pixel =
            |y: usize, x: usize| &image.row(y.min(image.height - 1))[x.min(image.width - 1) * RGB..][..RGB];
        return (0..*height)
            .flat_map(|y| (0..*width).flat_map(move |x| pixel(y, x).iter().copied()))
            .collect();
    }
    let resizer = Resizer::new(image.view(), *height, *width, false, Level::portable());
    resizer.and_then(|mut resizer| resizer.whole(Threads::ONE)).expect("it can be resized")
}

/// What is kept of the resized image.
fn chosen(case: &Case, resized: &[u8], token: usize) -> Selection {
    let all: Vec<i64> = (0..(case.height / token * (case.width / token)) as i64).collect();
    match &case.choice {
        Chosen::Everything => Selection { keep: all.clone(), source: Some(all) },
        Chosen::Given(keep) => Selection { keep: keep.clone(), source: None },
        Chosen::By(settings) => {
            let view = ImageView::new(resized, case.height, case.width, RGB, case.width * RGB)
                .expect("it is an image");
            prune(view, token, settings, Threads::ONE).expect("it can be pruned")
        }
    }
}

/// Appends the patches of the kept tokens, in their order.
fn write<E: PatchValue>(
    width: usize,
    pixels: &[u8],
    keep: &[i64],
    format: RowFormat,
    table: &Table<E>,
    out: &mut Vec<E>,
) {
    let RowFormat { patch, merge, frames, channels_last, order } = format;
    let cols = width / format.token();
    let mut places = Vec::new();
    for row in keep.chunk_by(|&a, &b| a as usize / cols == b as usize / cols) {
        let places_of = |token: i64| {
            let (top, left) = (token as usize / cols * merge, token as usize % cols * merge);
            (0..merge).flat_map(move |down| (0..merge).map(move |right| (top + down, left + right)))
        };
        let from = places.len();
        places.extend(row.iter().copied().flat_map(places_of));
        if order == PatchOrder::Raster {
            places[from..].sort_unstable();
        }
    }
    let side = 0..patch;
    for (top, left) in places {
        let value = |y: usize, x: usize, c: usize| {
            table[c][usize::from(pixels[((top * patch + y) * width + left * patch + x) * RGB + c])]
        };
        if channels_last {
            out.extend(
                side.clone()
                    .flat_map(|y| (0..patch).flat_map(move |x| (0..RGB).map(move |c| (y, x, c))))
                    .map(|(y, x, c)| value(y, x, c)),
            );
        } else {
            for c in 0..RGB {
                for _ in 0..frames {
                    out.extend(
                        side.clone()
                            .flat_map(|y| (0..patch).map(move |x| (y, x)))
                            .map(|(y, x)| value(y, x, c)),
                    );
                }
            }
        }
    }
}

/// Invalid arguments are refused before anything is written.
fn hostile(draw: &mut Draw, case: &Case, format: RowFormat, levels: &Table<f32>) {
    let given: Vec<i64> = (0..draw.between(0, 4)).map(|_| draw.any_usize() as i64).collect();
    let mut job = case.job();
    let mut format = format;
    match draw.between(0, 4) {
        0 => (job.height, job.width) = (draw.any_usize(), draw.any_usize()),
        1 => {
            (format.patch, format.merge, format.frames) =
                (draw.any_usize(), draw.any_usize(), draw.any_usize())
        }
        2 => job.choice = Choice::Given(&given),
        3 => job.pad = true,
        _ => {}
    }
    let needed = case.height * case.width * RGB * format.frames.min(3);
    let mut out = vec![-9.0; draw.between(0, needed.min(1 << 14))];
    let recipe = Recipe::new(format, levels);
    match call(&[job], &recipe, threads()[usize::from(draw.bool())], &mut out) {
        Ok(selections) => assert_eq!(selections.len(), 1),
        Err(_) => assert!(out.iter().all(|&value| value == -9.0), "written although refused"),
    }
}
