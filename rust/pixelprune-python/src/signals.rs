//! Signals that arrive during a call. Python runs their handlers only when asked to.

use pyo3::prelude::*;
use std::time::{Duration, Instant};

/// Checks for signals between images.
pub struct Signals {
    looked: Instant,
    /// Handlers run on the main thread only, so other threads do not check. `None`: not known yet.
    is_main: Option<bool>,
    raised: Option<PyErr>,
}

impl Signals {
    /// A check takes the GIL and may have to wait for other threads.
    const EVERY: Duration = Duration::from_millis(50);

    pub fn new() -> Self {
        Self { looked: Instant::now(), is_main: None, raised: None }
    }

    /// Whether a handler has raised an exception, so that the call is to end. Called without the GIL.
    pub fn have_raised(&mut self) -> bool {
        if self.is_main == Some(false) || self.looked.elapsed() < Self::EVERY {
            return false;
        }
        Python::attach(|py| {
            let is_main = *self.is_main.get_or_insert_with(|| is_main_thread(py).unwrap_or(true));
            self.raised = if is_main { py.check_signals().err() } else { None };
        });
        self.looked = Instant::now();
        self.raised.is_some()
    }

    /// The exception that a handler has raised.
    pub fn result(self) -> PyResult<()> {
        self.raised.map_or(Ok(()), Err)
    }
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    Ok(threading.call_method0("current_thread")?.is(&threading.call_method0("main_thread")?))
}
