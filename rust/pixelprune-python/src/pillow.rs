//! The pixels of Pillow images, by the Arrow C data interface. Pillow's own conversion to numpy makes several copies.

use crate::arrays;
use numpy::{PyArray3, PyArrayMethods};
use pixelprune::Level;
use pixelprune::internals::drop_fourth;
use pyo3::exceptions::PyException;
use pyo3::ffi::PyCapsule_GetPointer;
use pyo3::prelude::*;
use std::ffi::{CStr, c_char, c_void};

/// As the Arrow C data interface lays it out; what is not read here is left out at the end.
#[repr(C)]
struct Schema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    children_count: i64,
    children: *const *const Self,
}

/// As the Arrow C data interface lays it out; what is not read here is left out at the end.
#[repr(C)]
struct Array {
    length: i64,
    null_count: i64,
    offset: i64,
    buffers_count: i64,
    children_count: i64,
    buffers: *const *const c_void,
    children: *const *const Self,
}

/// The pixels of an RGB image as uint8 (height, width, 3), or None where Pillow can't hand them out in one
/// piece: before version 11.2, and for images of more than one block of memory.
#[pyfunction]
pub fn pixels_of_pillow<'py>(
    py: Python<'py>,
    image: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyArray3<u8>>>> {
    let (width, height): (usize, usize) = image.getattr("size")?.extract()?;
    let pixels = width.saturating_mul(height);
    if pixels == 0 {
        return Ok(None); // Pillow 11.2 to 12.3 crash when asked for the pixels of an image without any
    }
    let capsules = match image.call_method0("__arrow_c_array__") {
        Err(error) if error.is_instance_of::<PyException>(py) => return Ok(None),
        outcome => outcome?,
    };
    let (schema, array): (Bound<'py, PyAny>, Bound<'py, PyAny>) = capsules.extract()?;
    // SAFETY: capsules of these names point to such structures for as long as they live; null is an error.
    let (schema, array) = unsafe {
        (
            PyCapsule_GetPointer(schema.as_ptr(), c"arrow_schema".as_ptr()).cast::<Schema>().as_ref(),
            PyCapsule_GetPointer(array.as_ptr(), c"arrow_array".as_ptr()).cast::<Array>().as_ref(),
        )
    };
    let (Some(schema), Some(array)) = (schema, array) else { return Err(PyErr::fetch(py)) };
    // SAFETY: the producer vouches for the counts of children and buffers, and for their contents.
    let bytes = unsafe {
        let is_rgbx = CStr::from_ptr(schema.format) == c"+w:4"
            && schema.children_count == 1
            && CStr::from_ptr((**schema.children).format) == c"C"
            && array.length == pixels as i64
            && array.offset == 0
            && array.children_count == 1;
        if !is_rgbx {
            return Ok(None);
        }
        let values = &**array.children;
        if values.length != 4 * array.length || values.offset != 0 || values.buffers_count != 2 {
            return Ok(None);
        }
        std::slice::from_raw_parts((*values.buffers.add(1)).cast::<u8>(), 4 * pixels)
    };
    let packed: Bound<'_, PyArray3<u8>> = arrays::uninitialised(py, [height, width, 3])?;
    // SAFETY: nobody else has the array yet, and it is contiguous.
    let to = unsafe { packed.as_slice_mut() }?;
    py.detach(|| drop_fourth(bytes, to, Level::detect()));
    Ok(Some(packed))
}
