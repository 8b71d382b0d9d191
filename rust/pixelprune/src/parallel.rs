//! Serial or parallel, by one argument. The one file that names rayon.

use crate::error::Result;
use crate::memory;

/// The threads that a call may use: the caller's own ([`Threads::ONE`]) or those of a [`Pool`].
///
/// No result depends on it. Nothing else in this crate starts or uses threads.
#[derive(Debug, Clone, Copy)]
pub struct Threads<'p>(Option<&'p Pool>);

impl<'p> Threads<'p> {
    /// The caller's thread alone.
    pub const ONE: Self = Self(None);

    /// How many there are.
    #[must_use]
    pub fn count(self) -> usize {
        self.0.map_or(1, Pool::count)
    }

    /// Whether work can be shared.
    pub(crate) fn is_parallel(self) -> bool {
        self.count() > 1
    }

    /// The pool, where work can be shared.
    fn shared(self) -> Option<&'p Pool> {
        self.0.filter(|pool| pool.count() > 1)
    }

    /// Runs `work` on one of the threads, so that sharing work inside it does not wake the pool again.
    pub(crate) fn run<R: Send>(self, work: impl FnOnce() -> R + Send) -> R {
        match self.shared() {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// Calls `f` with every task, in any order. If several fail, returns one of the errors.
    pub(crate) fn share<T: Send>(
        self,
        tasks: impl Iterator<Item = T>,
        f: impl Fn(T) -> Result<()> + Sync,
    ) -> Result<()> {
        match self.shared() {
            Some(pool) => pool.for_each(memory::collected(tasks)?, f),
            None => { tasks }.try_for_each(f),
        }
    }

    /// Maps every item with `f`; results are in the order of the items.
    pub(crate) fn gather<T: Send, R: Send>(
        self,
        items: impl ExactSizeIterator<Item = T>,
        f: impl Fn(T) -> R + Sync,
    ) -> Result<Vec<R>> {
        let mut made = memory::with_room(items.len())?;
        made.extend(std::iter::repeat_with(|| None).take(items.len()));
        self.share(items.zip(&mut made), |(item, made)| {
            *made = Some(f(item));
            Ok(())
        })?;
        memory::collected(made.into_iter().flatten())
    }
}

#[cfg(feature = "rayon")]
mod pool {
    use crate::error::Result;
    use crate::memory;
    use rayon::prelude::*;

    /// A thread pool. Dropping it ends the threads.
    #[derive(Debug)]
    pub struct Pool(rayon::ThreadPool);

    impl Pool {
        /// Starts the threads. `None` if `threads` is 0, or if the system can't start them or lacks the memory.
        #[must_use]
        pub fn new(threads: usize) -> Option<Self> {
            // Starting a thread makes small allocations that abort the process if they fail: check for room first.
            const ROOM: usize = 1 << 20;
            if threads == 0 {
                return None; // To rayon, 0 means one thread per CPU.
            }
            drop(std::hint::black_box(memory::with_room::<u8>(threads.saturating_mul(ROOM)).ok()?));
            let name = |i| format!("pixelprune-{i}");
            rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build().ok().map(Self)
        }

        /// How many threads it has.
        #[must_use]
        pub fn count(&self) -> usize {
            self.0.current_num_threads()
        }

        pub(super) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
            self.0.install(work)
        }

        pub(super) fn for_each<T: Send>(
            &self,
            tasks: Vec<T>,
            f: impl Fn(T) -> Result<()> + Sync,
        ) -> Result<()> {
            self.0.install(|| tasks.into_par_iter().try_for_each(&f))
        }
    }
}

#[cfg(not(feature = "rayon"))]
mod pool {
    use crate::error::Result;

    /// A thread pool. Without the feature `rayon` there is none.
    #[derive(Debug)]
    pub enum Pool {}

    impl Pool {
        /// Without the feature `rayon`, always `None`.
        #[must_use]
        pub fn new(_threads: usize) -> Option<Self> {
            None
        }

        /// How many threads it has.
        #[must_use]
        pub fn count(&self) -> usize {
            match *self {}
        }

        pub(super) fn install<R>(&self, _: impl FnOnce() -> R) -> R {
            match *self {}
        }

        pub(super) fn for_each<T>(&self, _: Vec<T>, _: impl Fn(T) -> Result<()>) -> Result<()> {
            match *self {}
        }
    }
}

pub use pool::Pool;

impl Pool {
    /// Its threads.
    #[must_use]
    pub fn threads(&self) -> Threads<'_> {
        Threads(Some(self))
    }
}

/// The number of bands of token rows that an image is split into, and the threads that process them.
#[derive(Debug, Clone, Copy)]
pub struct Bands<'p> {
    /// How many bands.
    pub count: usize,
    /// The threads that share them.
    pub threads: Threads<'p>,
}

impl Bands<'_> {
    /// The whole image, on the caller's thread.
    pub const ONE: Self = Self { count: 1, threads: Threads::ONE };
}

impl<'p> Bands<'p> {
    /// Bytes of an image per band, at least.
    const BYTES: usize = 1 << 20;

    /// The number of bands for comparing `bytes` bytes.
    pub(crate) fn of(bytes: usize, threads: Threads<'p>) -> Self {
        // More bands than threads, so that a thread that finishes a quick band (texture) finds another.
        let count =
            if threads.is_parallel() { (4 * threads.count()).min(bytes / Self::BYTES).max(1) } else { 1 };
        Self { count, threads }
    }

    /// The threads to use: the caller's alone for a single band.
    pub(crate) fn threads(self) -> Threads<'p> {
        if self.count > 1 { self.threads } else { Threads::ONE }
    }
}

/// The number of items to process before `stop` is called again: enough to keep all threads busy.
pub(crate) fn group<T>(items: &[T], threads: Threads, bytes: impl Fn(&T) -> usize) -> usize {
    /// About ten milliseconds of work.
    const GROUP_BYTES: usize = 1 << 26;
    if !threads.is_parallel() {
        return items.len().min(1);
    }
    let mut total = 0usize;
    let is_short = |(i, item): &(usize, &T)| {
        let wanted = *i < 4 * threads.count() || total < GROUP_BYTES;
        total = total.saturating_add(bytes(item));
        wanted
    };
    items.iter().enumerate().take_while(is_short).count()
}

/// Called between images, on the caller's thread. If it returns true, the call ends with
/// [`Error::Stopped`](crate::error::Error::Stopped).
pub type Stop<'a> = &'a mut dyn FnMut() -> bool;
