//! The core's errors as Python's.

use pixelprune::error::Error;
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// A `MemoryError` where memory ran out, else a `PixelPruneError` with the error's text.
#[allow(clippy::needless_pass_by_value)] // The form that `map_err` takes.
pub fn to_py_err(error: Error) -> PyErr {
    of_class(&error, error.to_string())
}

/// The same for one of several images.
pub fn about_image(i: usize, error: &Error) -> PyErr {
    of_class(error, format!("images[{i}]: {error}"))
}

/// A `PixelPruneError` for what the core was not asked about.
pub fn refused(text: String) -> PyErr {
    to_py_err(Error::Shape(text))
}

fn of_class(error: &Error, text: String) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    Python::attach(|py| match (error, CLASS.import(py, "pixelprune.errors", "PixelPruneError")) {
        (Error::Memory { .. }, _) => PyMemoryError::new_err(text),
        (_, Ok(class)) => PyErr::from_type(class.clone(), text),
        (_, Err(error)) => error,
    })
}
