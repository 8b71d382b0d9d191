//! The core's errors as Python's.

use pixelprune::error::Error;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// A `PixelPruneError` with the error's text.
#[allow(clippy::needless_pass_by_value)] // The form that `map_err` takes.
pub fn refused(error: Error) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    Python::attach(|py| match CLASS.import(py, "pixelprune.errors", "PixelPruneError") {
        Ok(class) => PyErr::from_type(class.clone(), error.to_string()),
        Err(error) => error,
    })
}
