//! `decode` inverts `prune`, and survives any input.

use crate::draw::{Draw, Image};
use crate::threads;
use pixelprune::{Grid, ImageView, Method, Selection, Settings, prune};

/// The output of `prune` is decoded; any other input is an error or decodes to kept tokens.
pub fn decode(data: &[u8]) {
    let draw = &mut Draw::new(data);
    let token = draw.of(&[2, 1, 3, 8, 28]);
    let (rows, cols) = (draw.between(1, 6), draw.between(1, 7));
    let settings = draw.settings();
    let channels = draw.of(&[1, 3]);
    let image = draw.tiles(token, (rows, cols), channels);
    let selection = prune(image.view(), token, &settings, threads()[0]).expect("it can be pruned");
    inverts(&image, token, (rows, cols), &settings, &selection);
    hostile(draw);
}

fn inverts(
    image: &Image,
    token: usize,
    (rows, cols): (usize, usize),
    settings: &Settings,
    selection: &Selection,
) {
    let tokens = image.tokens(token);
    let kept: Vec<&Vec<u8>> = selection.keep.iter().map(|&i| &tokens[i as usize]).collect();
    let stack: Vec<u8> = kept.iter().flat_map(|token| token.iter().copied()).collect();
    let (height, stride) = (kept.len() * token, token * image.channels);
    let stack = ImageView::new(&stack, height, token, image.channels, stride).expect("it is an image");
    let mut mask = vec![false; rows * cols];
    selection.keep.iter().for_each(|&i| mask[i as usize] = true);

    let grid = Grid::new(1, rows, cols).expect("it is a grid");
    let found = pixelprune::decode(&mask, grid, stack, settings);
    let repeats = matches!(settings.method, Method::Pred2d | Method::Raster | Method::Serpentine);
    if !repeats || !(settings.anchored || settings.threshold == 0.0) {
        assert!(found.is_err(), "{settings:?} can't be decoded");
        return;
    }
    let found = found.expect("it can be decoded");
    let source = selection.source.as_ref().expect("a source");
    assert!(
        found.iter().map(|&rank| selection.keep[rank as usize]).eq(source.iter().copied()),
        "{settings:?}"
    );
    if settings.threshold == 0.0 {
        assert!(found.iter().map(|&rank| kept[rank as usize]).eq(&tokens), "{settings:?} loses something");
    }
}

fn hostile(draw: &mut Draw) {
    let sides = [draw.any_usize(), draw.any_usize(), draw.any_usize()];
    let small = [draw.between(1, 2), draw.between(1, 4), draw.between(1, 4)];
    let [frames, rows, cols] = if draw.one_in(4) { sides } else { small };
    let Ok(grid) = Grid::new(frames, rows, cols) else { return };
    let places = if draw.one_in(4) { draw.between(0, 40) } else { grid.total().min(1 << 12) };
    let mask: Vec<bool> = (0..places).map(|i| i == 0 || draw.bool()).collect();
    let kept = mask.iter().filter(|kept| **kept).count();
    let token = draw.between(1, 3);
    let height = if draw.one_in(4) { draw.between(1, 40) } else { kept.max(1) * token };
    let bytes: Vec<u8> = (0..height * token).map(|_| draw.byte() % 4).collect();
    let stack = ImageView::new(&bytes, height, token, 1, token).expect("it is an image");
    let settings = draw.settings();
    if let Ok(found) = pixelprune::decode(&mask, grid, stack, &settings) {
        assert_eq!(found.len(), mask.len());
        assert!(found.iter().all(|rank| (0..kept as i64).contains(rank)), "{found:?} of {kept}");
        let own = found.iter().zip(&mask).filter(|(_, kept)| **kept).map(|(&rank, _)| rank);
        assert!(own.eq(0..kept as i64), "a kept token stands for itself: {found:?}");
    }
}
