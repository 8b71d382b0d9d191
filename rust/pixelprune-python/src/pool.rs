//! The thread pools of a process. A pool made before `fork()` has no threads in the child, which would hang.

use pixelprune::{Pool, Threads};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The latest pools of one process, the latest first.
struct Registry {
    pid: u32,
    pools: Mutex<Vec<Arc<Pool>>>,
}

/// The number of pools kept, so that callers which alternate between two thread counts do not restart threads.
const KEPT: usize = 2;

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
        let fresh = Box::into_raw(Box::new(Registry { pid, pools: Mutex::new(Vec::new()) }));
        if REGISTRY.compare_exchange(current, fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: `fresh` came from a box and was not published.
            drop(unsafe { Box::from_raw(fresh) });
        }
    }
}

/// Makes the next call create a new registry. The old one is neither used nor dropped.
pub fn forget() {
    REGISTRY.store(std::ptr::null_mut(), Ordering::Release);
}

/// The number of threads that affinity and cgroup quota allow.
pub fn available() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs `work` on the caller's thread, with the threads that it may share work among.
///
/// If no threads can be started, it gets the caller's thread alone.
pub fn with<R>(threads: usize, work: impl FnOnce(Threads) -> R) -> R {
    // More threads than CPUs only cost time; the result does not depend on them.
    const PLENTY: usize = 16;
    let threads = if threads > PLENTY { threads.min(available().max(PLENTY)) } else { threads };
    if threads > 1
        && let Some(pool) = pool(threads)
    {
        return work(pool.threads());
    }
    work(Threads::ONE)
}

fn pool(threads: usize) -> Option<Arc<Pool>> {
    let mut pools = registry().pools.lock().unwrap_or_else(PoisonError::into_inner);
    let at = if let Some(at) = pools.iter().position(|pool| pool.count() == threads) {
        at
    } else {
        let fresh = Arc::new(Pool::new(threads)?);
        pools.truncate(KEPT - 1);
        pools.push(fresh);
        pools.len() - 1
    };
    pools[..=at].rotate_right(1);
    Some(pools[0].clone())
}
