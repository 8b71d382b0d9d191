//! Converts the core's errors to Python's, with messages that name Python's arguments.

use pixelprune::Error;
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// A `MemoryError` if memory ran out, else a `PixelPruneError`.
#[allow(clippy::needless_pass_by_value)] // The form that `map_err` takes.
pub fn to_py_err(error: Error) -> PyErr {
    let cause = match &error {
        Error::Image { error, .. } => error,
        other => other,
    };
    match cause {
        Error::Memory { .. } => PyMemoryError::new_err(text(&error)),
        _ => refused(text(&error)),
    }
}

/// The same for `pixel_values`, whose messages name the row instead of the image.
pub fn of_pixel_values(error: Error) -> PyErr {
    match error {
        Error::Image { error, .. } => to_py_err(*error),
        other => to_py_err(other),
    }
}

/// A `PixelPruneError` with that message.
pub fn refused(text: String) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    Python::attach(|py| match CLASS.import(py, "pixelprune.errors", "PixelPruneError") {
        Ok(class) => PyErr::from_type(class.clone(), text),
        Err(error) => error,
    })
}

fn text(error: &Error) -> String {
    match error {
        Error::PartialTokens { .. } => {
            format!("{error}: resize it to smart_resize(height, width, spec) first")
        }
        Error::PatchGrid { shape: [t, h, w], merge } => format!(
            "grid_thw row ({t}, {h}, {w}) is in patches; expected height and width in multiples of merge_size {merge}"
        ),
        Error::GridPatches { shape: [t, h, w], left, found } => {
            let rows = t.saturating_mul(*h).saturating_mul(*w);
            format!(
                "grid_thw row ({t}, {h}, {w}) asks for {rows} rows, but pixel_values has {left} left of {found}"
            )
        }
        Error::Patches { found, needed } => {
            format!("pixel_values has {found} rows; grid_thw asks for {needed}")
        }
        Error::NotFinite { patch } => {
            format!("pixel_values has a NaN or an infinity in row {patch}; expected finite values only")
        }
        Error::Output { found, needed } => format!("out has {found} values; expected at least {needed}"),
        Error::Image { index, error } => format!("images[{index}]: {}", text(error)),
        other => other.to_string(),
    }
}
