//! Pruning a processor's finished output agrees with pruning the image that it was made of.

use crate::draw::Draw;
use crate::threads;
use pixelprune::internals::{Bfloat, Channel, Element, Half, PatchFormat, PixelValues};
use pixelprune::{
    Choice, Job, Level, PatchOrder, Recipe, RowFormat, Selection, Settings, normalised_levels, prune,
};

const RGB: usize = 3;

/// uint8 and float32 patches keep the same tokens as their image; any other input is an error or a selection.
pub fn pixel_values(data: &[u8]) {
    let draw = &mut Draw::new(data);
    agrees(draw);
    let format = hostile_format(draw);
    let few = |draw: &mut Draw| if draw.one_in(8) { draw.any_usize() } else { draw.between(1, 4) };
    let grids: Vec<[usize; 3]> = (0..draw.between(0, 2)).map(|_| [few(draw), few(draw), few(draw)]).collect();
    let needed = grids
        .iter()
        .fold(0usize, |sum, [t, h, w]| sum.saturating_add(t.saturating_mul(*h).saturating_mul(*w)));
    let needed = needed.saturating_mul(format.row).min(1 << 10);
    let length = if draw.one_in(4) { draw.between(0, needed + 1) } else { needed };
    let settings = draw.settings();
    match draw.between(0, 3) {
        0 => survives(&(0..length).map(|_| draw.byte() % 3).collect::<Vec<u8>>(), &grids, &format, &settings),
        1 => survives(&(0..length).map(|_| draw.any_f32()).collect::<Vec<f32>>(), &grids, &format, &settings),
        2 => survives(
            &(0..length).map(|_| Half(draw.u64() as u16)).collect::<Vec<_>>(),
            &grids,
            &format,
            &settings,
        ),
        _ => survives(
            &(0..length).map(|_| Bfloat(draw.u64() as u16)).collect::<Vec<_>>(),
            &grids,
            &format,
            &settings,
        ),
    }
}

fn agrees(draw: &mut Draw) {
    let format = RowFormat {
        patch: draw.of(&[4, 1, 2, 7, 14, 16]),
        merge: draw.between(1, 2),
        frames: draw.between(1, 2),
        channels_last: false,
        order: draw.of(&[PatchOrder::Block, PatchOrder::Raster]),
    };
    let (rows, cols) = (draw.between(1, 5), draw.between(1, 5));
    let token = format.token();
    let image = draw.tiles(token, (rows, cols), RGB);
    let settings = draw.settings();
    let expected = prune(image.view(), token, &settings, threads()[0]).expect("it can be pruned");

    let (height, width) = (image.height, image.width);
    let job = Job { image: image.view(), height, width, pad: false, choice: Choice::Everything };
    let grids = [[1, rows * format.merge, cols * format.merge]];
    let mean = [draw.byte(), draw.byte(), draw.byte()].map(|byte| f32::from(byte) / 255.0);
    let std = [draw.byte(), draw.byte(), draw.byte()].map(|byte| (f32::from(byte) + 64.0) / 320.0);
    let repeats = draw.bool();

    let mut floats = vec![0.0; rows * cols * format.token_values()];
    let levels = normalised_levels(mean, std);
    pixelprune::preprocess(&[job], &Recipe::new(format, &levels), threads()[0], &mut floats)
        .expect("they are patches");
    keeps(&floats, &grids, &patches(format, std, mean, repeats), &settings, &expected);

    let mut bytes = vec![0; floats.len()];
    let levels = std::array::from_fn(|_| std::array::from_fn(|level| level as u8));
    pixelprune::preprocess(&[job], &Recipe::new(format, &levels), threads()[0], &mut bytes)
        .expect("they are patches");
    keeps(&bytes, &grids, &patches(format, [1.0 / 255.0; RGB], [0.0; RGB], repeats), &settings, &expected);
}

/// The format of such rows. If the frame repeats, only the first copy is compared.
fn patches(format: RowFormat, std: [f32; RGB], mean: [f32; RGB], repeats: bool) -> PatchFormat {
    let plane = format.patch * format.patch;
    let compared = plane * if repeats { 1 } else { format.frames };
    let each = |of: [f32; RGB]| of.into_iter().flat_map(|value| vec![value; compared]).collect();
    PatchFormat {
        order: format.order,
        merge: format.merge,
        row: format.row(),
        runs: (0..RGB).map(|c| (c * format.frames * plane, compared)).collect(),
        factor: each(std),
        offset: each(mean),
        to_levels: each(std.map(|std| 255.0 * std)),
        channels: (0..RGB)
            .map(|c| {
                let first = c * format.frames * plane;
                Channel { first, end: first + compared, step: 1, factor: std[c], offset: mean[c] }
            })
            .collect(),
        slack: true,
    }
}

fn keeps<T: Element>(
    data: &[T],
    grids: &[[usize; 3]],
    format: &PatchFormat,
    settings: &Settings,
    expected: &Selection,
) {
    let values = PixelValues { data, grids, format };
    for level in Level::available() {
        for threads in threads() {
            let found = values.prune(settings, level, threads, &mut || false).expect("they can be pruned");
            assert_eq!(&found[0], expected, "{}, {} threads, {settings:?}", level.name(), threads.count());
        }
    }
}

fn hostile_format(draw: &mut Draw) -> PatchFormat {
    let row = if draw.one_in(6) { draw.any_usize() } else { draw.between(1, 8) };
    let run = |draw: &mut Draw| {
        if draw.one_in(6) {
            (draw.any_usize(), draw.any_usize())
        } else {
            let first = draw.between(0, row.clamp(1, 8) - 1);
            (first, draw.between(1, row.clamp(1, 8) - first))
        }
    };
    let channel = |draw: &mut Draw| {
        let (first, length) = run(draw);
        let step = if draw.one_in(6) { draw.any_usize() } else { draw.between(1, 3) };
        let (factor, offset) = if draw.one_in(3) { (draw.any_f32(), draw.any_f32()) } else { (0.5, 0.5) };
        Channel { first, end: first.wrapping_add(length), step, factor, offset }
    };
    let runs: Vec<(usize, usize)> = (0..draw.between(0, 3)).map(|_| run(draw)).collect();
    let compared = runs.iter().fold(0usize, |sum, (_, length)| sum.wrapping_add(*length)).min(32);
    let numbers = |draw: &mut Draw| -> Vec<f32> {
        let length = if draw.one_in(8) { draw.between(0, 32) } else { compared };
        (0..length).map(|_| if draw.one_in(3) { draw.any_f32() } else { 0.5 }).collect()
    };
    PatchFormat {
        order: draw.of(&[PatchOrder::Block, PatchOrder::Raster]),
        merge: if draw.one_in(6) { draw.any_usize() } else { draw.between(1, 2) },
        row,
        runs,
        factor: numbers(draw),
        offset: numbers(draw),
        to_levels: numbers(draw),
        channels: (0..draw.between(0, 3)).map(|_| channel(draw)).collect(),
        slack: draw.bool(),
    }
}

fn survives<T: Element>(data: &[T], grids: &[[usize; 3]], format: &PatchFormat, settings: &Settings) {
    let values = PixelValues { data, grids, format };
    let mut outcomes = Vec::new();
    for threads in threads() {
        let outcome = values.prune(settings, Level::detect(), threads, &mut || false);
        if let Ok(selections) = &outcome {
            assert_eq!(selections.len(), grids.len());
            for (Selection { keep, .. }, [t, h, w]) in selections.iter().zip(grids) {
                let total = t * (h / format.merge) * (w / format.merge);
                assert!(!keep.is_empty() && keep.is_sorted_by(|a, b| a < b));
                assert!(keep.iter().all(|i| (0..total as i64).contains(i)), "{keep:?} of {total}");
            }
        }
        outcomes.push(outcome);
    }
    assert_eq!(outcomes[0], outcomes[1], "the outcome depends on threads");
    let planes = values.planes(settings.metric, settings.threshold, Level::detect(), &mut || false);
    assert_eq!(planes.is_ok(), outcomes[0].is_ok(), "{:?}, {:?}", planes.err(), outcomes[0]);
    let content = values.content(settings.threshold, Level::detect(), &mut || false);
    assert_eq!(content.is_ok(), outcomes[0].is_ok(), "{:?}, {:?}", content.err(), outcomes[0]);
}
