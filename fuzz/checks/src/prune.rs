//! `prune` against the definition.

use crate::definition::{self, Expected};
use crate::draw::Draw;
use crate::threads;
use pixelprune::internals::{Bands, Budget, ImageTokens, prune_image, select};
use pixelprune::{Error, Level, Method, Selection, Settings, prune_batch};

/// Every method, metric, threshold and protection keeps what the definition keeps, at every level, with any threads
/// and bands.
pub fn prune(data: &[u8]) {
    let draw = &mut Draw::new(data);
    let token = draw.of(&[2, 1, 3, 4, 5, 8, 14, 16, 28, 32]);
    let (rows, cols) = (draw.between(1, 6), draw.between(1, 7));
    let channels = draw.of(&[3, 1, 4, 2]);
    let settings = draw.settings();
    let bands = draw.between(0, rows + 2);
    let image = draw.tiles(token, (rows, cols), channels);
    let expected = definition::prune(&image.tokens(token), cols, channels, &settings);
    for level in Level::available() {
        for threads in threads() {
            let found = prune_image(image.view(), token, &settings, level, threads);
            agrees(&found.expect("it can be pruned"), &expected, &settings, rows * cols);
            let budget = Budget::of_token(settings.metric, settings.threshold, token, channels);
            let tokens = ImageTokens::new(image.view(), token, budget.expect("it is a threshold"), level);
            let bands = Bands { count: bands, threads };
            let found = select(&tokens.expect("they are tokens"), &settings, bands);
            agrees(&found.expect("it can be pruned"), &expected, &settings, rows * cols);
        }
    }
    let loud = Settings { method: Method::Unique, threshold: 0.5, ..settings };
    let refused = prune_batch(&[image.view()], token, &loud, threads()[1]);
    assert!(matches!(refused, Err(Error::Image { index: 0, .. })), "{refused:?}");
}

/// Checks that a selection is consistent and as expected.
pub fn agrees(found: &Selection, expected: &Expected, settings: &Settings, total: usize) {
    let Selection { keep, source } = found;
    assert!(keep.is_sorted_by(|a, b| a < b), "{keep:?} does not ascend, {settings:?}");
    assert!(keep.iter().all(|i| (0..total as i64).contains(i)), "{keep:?} of {total}, {settings:?}");
    match expected {
        Expected::Sources(sources) => {
            let source = source.as_ref().expect("a source");
            assert!(
                source.iter().map(|&s| s as usize).eq(sources.iter().copied()),
                "{source:?}, expected {sources:?}"
            );
            let kept = (0..).zip(source).filter(|&(i, &s)| i == s).map(|(i, _)| i);
            assert!(keep.iter().copied().eq(kept), "{keep:?} kept by {source:?}");
        }
        Expected::Count(count) => {
            assert_eq!(keep.len(), *count, "{settings:?}");
            assert_eq!(*source, None);
        }
    }
}
