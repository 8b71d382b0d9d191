//! Many images at once.

use crate::error::{Error, Failure, Result};
use crate::image::ImageView;
use crate::memory;
use crate::parallel::{Stop, Threads, group};
use crate::select::{Selection, Settings, prune_image};
use crate::simd::Level;

/// Prunes images of any sizes; the outcome of each is that of [`prune_image`]. The first error in the order
/// of the images is reported, with the index of its image.
pub fn prune_batch(
    images: &[ImageView],
    token: usize,
    settings: &Settings,
    level: Level,
    threads: Threads,
    stop: Stop,
) -> std::result::Result<Vec<Selection>, Failure> {
    in_groups(images, ImageView::bytes, threads, stop, |image| {
        prune_image(*image, token, settings, level, threads)
    })
}

/// What `one` makes of every item, several at a time; asks between groups of them whether to go on.
pub(crate) fn in_groups<T: Sync, R: Send>(
    items: &[T],
    bytes: impl Fn(&T) -> usize,
    threads: Threads,
    stop: Stop,
    one: impl Fn(&T) -> Result<R> + Sync,
) -> std::result::Result<Vec<R>, Failure> {
    let mut done = memory::with_room(items.len()).map_err(|error| (0, error))?;
    while done.len() < items.len() {
        let first = done.len();
        if first > 0 && stop() {
            return Err((first, Error::Stopped));
        }
        let items = &items[first..];
        let items = &items[..group(items, threads, &bytes)];
        let outcomes = threads.run(|| threads.map(items.iter(), &one)).map_err(|error| (first, error))?;
        for outcome in outcomes {
            let at = done.len();
            done.push(outcome.map_err(|error| (at, error))?);
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel::Pool;

    fn outcomes(pool: Option<&Pool>, bytes: usize, stop: Stop) -> std::result::Result<Vec<usize>, Failure> {
        let items: Vec<usize> = (0..100).collect();
        let threads = pool.map_or(Threads::ONE, Pool::threads);
        in_groups(
            &items,
            |_| bytes,
            threads,
            stop,
            |&i| match i {
                40 | 60 => Err(Error::Shape(i.to_string())),
                _ => Ok(i),
            },
        )
    }

    #[test]
    fn the_first_error_in_order_is_reported_whatever_the_threads() {
        for pool in [None, Pool::new(2), Pool::new(7)] {
            let (i, error) = outcomes(pool.as_ref(), 1, &mut || false).unwrap_err();
            assert_eq!((i, error.to_string()), (40, "40".to_string()));
        }
    }

    #[test]
    fn the_caller_is_asked_between_images_and_can_stop() {
        for pool in [None, Pool::new(2)] {
            let mut asked = 0;
            let mut stop = || {
                asked += 1;
                asked == 2
            };
            let (done, error) = outcomes(pool.as_ref(), 1 << 24, &mut stop).unwrap_err();
            assert_eq!(error, Error::Stopped);
            assert!((2..40).contains(&done), "{done}");
        }
    }
}
