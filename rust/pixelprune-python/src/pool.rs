//! Rayon pools, one a process: a pool made before `fork()` has no threads in the child and would hang it.

use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The latest pool of one process.
struct Registry {
    pid: u32,
    pool: Mutex<Option<Arc<ThreadPool>>>,
}

static REGISTRY: AtomicPtr<Registry> = AtomicPtr::new(std::ptr::null_mut());

/// This process's registry. A child makes its own: the one it inherited may hold a lock that a thread of
/// the parent had, so it is neither used nor dropped.
fn registry() -> &'static Registry {
    let pid = std::process::id();
    loop {
        let current = REGISTRY.load(Ordering::Acquire);
        // SAFETY: a registry is never freed once it is published.
        if let Some(registry) = unsafe { current.as_ref() }
            && registry.pid == pid
        {
            return registry;
        }
        let fresh = Box::into_raw(Box::new(Registry { pid, pool: Mutex::new(None) }));
        if REGISTRY.compare_exchange(current, fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: `fresh` came from a box and was not published.
            drop(unsafe { Box::from_raw(fresh) });
        }
    }
}

/// Makes the next call start over. What was there is neither used nor dropped.
pub fn forget() {
    REGISTRY.store(std::ptr::null_mut(), Ordering::Release);
}

/// As many threads as affinity and cgroup quota allow.
pub fn available() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs `work` with the number of threads it may use, on a pool of that size where it is more than one.
///
/// Where no threads are to be had, it runs on the caller's alone.
pub fn run<R: Send>(threads: usize, work: impl FnOnce(usize) -> R + Send) -> R {
    // Many more threads than the machine has only cost; the result does not depend on them.
    const PLENTY: usize = 16;
    let threads = if threads > PLENTY { threads.min(available().max(PLENTY)) } else { threads };
    if threads > 1
        && let Some(pool) = pool(threads)
    {
        return pool.install(|| work(threads));
    }
    work(1)
}

fn pool(threads: usize) -> Option<Arc<ThreadPool>> {
    let mut latest = registry().pool.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pool) = latest.as_ref().filter(|pool| pool.current_num_threads() == threads) {
        return Some(pool.clone());
    }
    let name = |i| format!("pixelprune-{i}");
    let pool = Arc::new(ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build().ok()?);
    *latest = Some(pool.clone());
    Some(pool)
}
