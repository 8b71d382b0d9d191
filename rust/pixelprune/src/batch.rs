//! Many images at once.

use crate::error::{Error, Result};
use crate::image::ImageView;
use crate::memory;
use crate::parallel::{Stop, Threads, group};
use crate::select::{Selection, Settings, prune_image};
use crate::simd::Level;

/// Prunes images of any sizes; each outcome is the same as from [`prune_image`]. Reports the first error
/// in the order of the images.
pub fn prune_batch(
    images: &[ImageView],
    token: usize,
    settings: &Settings,
    level: Level,
    threads: Threads,
    stop: Stop,
) -> Result<Vec<Selection>> {
    in_groups(images, ImageView::bytes, threads, stop, |image| {
        prune_image(*image, token, settings, level, threads)
    })
}

/// Maps every item with `one`, a group at a time; `stop` can end the call between groups.
pub(crate) fn in_groups<T: Sync, R: Send>(
    items: &[T],
    bytes: impl Fn(&T) -> usize,
    threads: Threads,
    stop: Stop,
    one: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let mut done = memory::with_room(items.len())?;
    while done.len() < items.len() {
        let first = done.len();
        if first > 0 && stop() {
            return Err(Error::Stopped);
        }
        let items = &items[first..];
        let items = &items[..group(items, threads, &bytes)];
        let outcomes = threads.run(|| threads.gather(items.iter(), &one))?;
        for outcome in outcomes {
            let at = done.len();
            done.push(outcome.map_err(|error| error.of_image(at))?);
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel::Pool;

    fn outcomes(pool: Option<&Pool>, bytes: usize, stop: Stop) -> Result<Vec<usize>> {
        let items: Vec<usize> = (0..100).collect();
        let threads = pool.map_or(Threads::ONE, Pool::threads);
        in_groups(
            &items,
            |_| bytes,
            threads,
            stop,
            |&i| match i {
                40 | 60 => Err(Error::Channels { found: i }),
                _ => Ok(i),
            },
        )
    }

    #[test]
    fn the_first_error_in_order_is_reported_whatever_the_threads() {
        for pool in [None, Pool::new(2), Pool::new(7)] {
            let error = outcomes(pool.as_ref(), 1, &mut || false).unwrap_err();
            assert_eq!(error, Error::Channels { found: 40 }.of_image(40));
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
            assert_eq!(outcomes(pool.as_ref(), 1 << 24, &mut stop), Err(Error::Stopped));
        }
    }
}
