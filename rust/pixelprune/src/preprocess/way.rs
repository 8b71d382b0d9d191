//! How each image is processed, and every size that decides it. The decision is made once per image.

use crate::error::Result;
use crate::image::RGB;
use crate::memory;
use crate::parallel::Threads;
use crate::preprocess::job::{Choice, Job};

/// Resized bytes of the images that are processed side by side, at most.
const TOGETHER_BYTES: usize = 1 << 26;

/// Resized bytes of an image that can't be cut into pieces, at most, to be processed side by side with others:
/// if there is one for every thread.
const MEDIUM_BYTES: usize = 1 << 24;

/// The same if there are fewer images than threads.
const SMALL_BYTES: usize = 1 << 22;

/// Resized bytes of a piece, at least.
const PIECE_BYTES: usize = 1 << 19;

/// Token rows of a piece, at least. Every piece but the first also resizes the row above it.
const PIECE_ROWS: usize = 8;

/// Resized bytes of a band for each thread. They fit its second-level cache.
const BAND_BYTES: usize = 1 << 18;

/// Pixel rows that a thread resizes at a time.
pub(super) const ROWS_AT_ONCE: usize = 16;

/// Output up to this size is written through the caches, where its reader may find it.
pub(super) const CACHED_BYTES: usize = 1 << 22;

/// Resized bytes of a call below which waking threads costs more than it saves.
const SHARED_BYTES: usize = 1 << 21;

/// How an image is processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Resize all of it, then prune, then pack. For methods that look at the whole image, and images that already
    /// have their size.
    Whole,
    /// Resize, prune and pack one band of token rows after the other, while the band is in the cache.
    Bands,
    /// As `Bands`, in this many pieces side by side. Each piece is a range of token rows.
    Pieces(usize),
}

/// The next images to process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// One image, by all threads together.
    Alone(Way),
    /// Some images side by side. Each image or piece is processed by one thread.
    SideBySide(Vec<Way>),
}

/// The threads to use for a call: `threads`, or the caller's alone if there is too little work.
pub(super) fn threads<'p>(jobs: &[Job], shared_bytes: Option<usize>, threads: Threads<'p>) -> Threads<'p> {
    let bytes = jobs.iter().fold(0, |sum: usize, job| sum.saturating_add(job.bytes()));
    if bytes < shared_bytes.unwrap_or(SHARED_BYTES) { Threads::ONE } else { threads }
}

/// Token rows of a band.
pub(super) fn band_rows(width: usize, token: usize, threads: Threads) -> usize {
    threads.count() * BAND_BYTES / (token * width * RGB) + 1
}

impl Turn {
    /// Takes the first of `jobs`, or the first few. There is at least one.
    pub(super) fn next(jobs: &[Job], token: usize, threads: Threads) -> Result<Self> {
        let can_be_cut = |job: &Job| can_be_cut(job, token);
        if !threads.is_parallel() {
            return Ok(Self::Alone(Way::of_one_thread(&jobs[0])));
        }
        let up_to = |limit| {
            let mut total = 0;
            let fits = |job: &&Job| {
                total += job.bytes();
                total <= TOGETHER_BYTES && (job.bytes() <= limit || can_be_cut(job))
            };
            jobs.iter().take(4 * threads.count()).take_while(fits).count()
        };
        let medium = up_to(MEDIUM_BYTES);
        let count = if medium < threads.count() { up_to(SMALL_BYTES) } else { medium };
        if count == 0 || count == 1 && jobs[0].bytes() > PIECE_BYTES && !can_be_cut(&jobs[0]) {
            return Ok(Self::Alone(Way::of_one_thread(&jobs[0])));
        }
        // About twice as many pieces as there are threads, of about the same size.
        let jobs = &jobs[..count];
        let total: usize = jobs.iter().map(Job::bytes).sum();
        let size = (total / (2 * threads.count())).max(PIECE_BYTES);
        let ways = jobs.iter().map(|job| {
            let most = if can_be_cut(job) { job.height / token / PIECE_ROWS } else { 1 };
            match job.bytes().div_ceil(size).clamp(1, most.max(1)) {
                1 => Way::of_one_thread(job),
                count => Way::Pieces(count),
            }
        });
        Ok(Self::SideBySide(memory::collected(ways)?))
    }
}

impl Way {
    /// How an image that is not cut is processed.
    fn of_one_thread(job: &Job) -> Self {
        let looks_at_neighbours = match job.choice {
            Choice::Everything | Choice::Given(_) => true,
            Choice::By(settings) => settings.method.predictor().is_some(),
        };
        if looks_at_neighbours && !job.has_its_size() { Self::Bands } else { Self::Whole }
    }
}

/// Whether the selection of a piece depends only on the piece and the token row above it.
fn can_be_cut(job: &Job, token: usize) -> bool {
    let is_local = match job.choice {
        Choice::Everything | Choice::Given(_) => true,
        Choice::By(settings) => settings.is_open_for(token),
    };
    is_local && Way::of_one_thread(job) == Way::Bands
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageView;
    use crate::parallel::Pool;
    use crate::select::{Method, Settings};

    const TOKEN: usize = 32;
    const PIXEL: [u8; RGB] = [0; RGB];

    fn job(height: usize, width: usize) -> Job<'static> {
        let image = ImageView::new(&PIXEL, 1, 1, RGB, RGB).unwrap();
        Job { image, height, width, pad: false, choice: Choice::Everything }
    }

    #[test]
    fn large_images_are_cut_and_small_ones_are_not() {
        let jobs = [job(32, 32), job(3200, 3200), job(512, 512), job(32, 32_000), job(1600, 1600)];
        for threads in 2..6 {
            let Some(pool) = Pool::new(threads) else { return };
            let Ok(Turn::SideBySide(ways)) = Turn::next(&jobs, TOKEN, pool.threads()) else {
                panic!("not side by side")
            };
            assert_eq!((ways.len(), ways[0], ways[3]), (5, Way::Bands, Way::Bands));
            let Way::Pieces(count) = ways[1] else { panic!("not cut") };
            assert!(count > 1 && count <= 3200 / TOKEN / PIECE_ROWS, "{count}");
        }
    }

    #[test]
    fn methods_that_look_at_the_whole_image_get_it() {
        let way = |settings: &Settings| {
            let job = Job { choice: Choice::By(settings), ..job(3200, 3200) };
            Turn::next(&[job], TOKEN, Threads::ONE).unwrap()
        };
        for method in [Method::Raster, Method::Serpentine, Method::Unique, Method::Random, Method::ConnComp] {
            assert_eq!(way(&Settings { method, ..Settings::default() }), Turn::Alone(Way::Whole));
        }
        for method in [Method::Pred2d, Method::Either] {
            assert_eq!(way(&Settings { method, ..Settings::default() }), Turn::Alone(Way::Bands));
        }
    }

    #[test]
    fn a_closed_loop_is_not_cut() {
        let Some(pool) = Pool::new(2) else { return };
        let way = |threshold| {
            let settings = Settings { threshold, ..Settings::default() };
            let job = Job { choice: Choice::By(&settings), ..job(3200, 3200) };
            Turn::next(&[job], TOKEN, pool.threads()).unwrap()
        };
        assert!(matches!(way(0.0), Turn::SideBySide(_)));
        assert!(matches!(way(0.003), Turn::SideBySide(_)), "less than a level is equality");
        assert_eq!(way(0.05), Turn::Alone(Way::Bands));
    }

    #[test]
    fn a_small_call_wakes_no_thread() {
        let Some(pool) = Pool::new(2) else { return };
        assert_eq!(threads(&[job(320, 320)], None, pool.threads()).count(), 1);
        assert_eq!(threads(&[job(320, 320); 20], None, pool.threads()).count(), 2);
    }
}
