//! Borrowing numpy arrays.

use crate::errors::{refused, to_py_err};
use numpy::npyffi::{NPY_ARRAY_WRITEABLE, NpyTypes, PY_ARRAY_API, get_type_object, npy_intp};
use numpy::{PyArray, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods};
use pixelprune::ImageView;
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

/// Borrows a uint8 array (height, width) or (height, width, channels) whose pixels lie side by side.
///
/// Another thread that writes to the array meanwhile may change the pixels, but not the bounds.
pub fn image<'a>(array: &'a Bound<'_, PyArrayDyn<u8>>) -> PyResult<ImageView<'a>> {
    let (shape, strides) = (array.shape(), array.strides());
    let unusable = || {
        refused(format!(
            "the image has shape {shape:?} and strides {strides:?}; expected (height, width) or (height, width, \
             channels) with the pixels of a row side by side"
        ))
    };
    let (height, width, channels) = sides(shape).ok_or_else(unusable)?;
    if height == 0 || width == 0 || channels == 0 {
        return ImageView::new(&[], height, width, channels, 0).map_err(to_py_err);
    }
    let stride = row_stride(height, width, channels, strides).ok_or_else(unusable)?;
    let span = (height - 1) * stride + width * channels;
    // SAFETY: numpy vouches for every element of the shape, `span` bytes from the first to the last; the
    // array is borrowed for as long as the view.
    let data = unsafe { std::slice::from_raw_parts(array.data(), span) };
    ImageView::new(data, height, width, channels, stride).map_err(to_py_err)
}

/// Whether `image` is an array of an image's shape that [`image`] can borrow.
pub fn is_plain(image: &Bound<'_, PyAny>) -> bool {
    let Ok(array) = image.cast_exact::<PyArrayDyn<u8>>() else { return false };
    sides(array.shape()).is_some_and(|(height, width, channels)| {
        matches!(channels, 1 | 3 | 4)
            && height > 0
            && width > 0
            && row_stride(height, width, channels, array.strides()).is_some()
    })
}

/// (height, width, channels) of an array of that shape, if it can be an image.
fn sides(shape: &[usize]) -> Option<(usize, usize, usize)> {
    match *shape {
        [height, width] => Some((height, width, 1)),
        [height, width, channels] => Some((height, width, channels)),
        _ => None,
    }
}

/// The bytes from row to row, if the pixels of a row lie side by side and rows do not overlap.
fn row_stride(height: usize, width: usize, channels: usize, strides: &[isize]) -> Option<usize> {
    // The stride along a side of length 1 is meaningless.
    let packed = (width == 1 || strides[1] == channels as isize) && (channels == 1 || strides[2] == 1);
    let stride = if height == 1 { width * channels } else { usize::try_from(strides[0]).ok()? };
    (packed && stride >= width * channels).then_some(stride)
}

/// Collects an iterator, or returns its first error; a `MemoryError` if memory runs out.
pub fn collected<T>(items: impl ExactSizeIterator<Item = PyResult<T>>) -> PyResult<Vec<T>> {
    let mut collected = Vec::new();
    if collected.try_reserve_exact(items.len()).is_err() {
        return Err(PyMemoryError::new_err(format!("out of memory for {} images", items.len())));
    }
    for item in items {
        collected.push(item?);
    }
    Ok(collected)
}

/// A new C-contiguous array whose values are not written yet; a `MemoryError` if memory runs out.
pub fn uninitialised<T: numpy::Element, D: numpy::ndarray::Dimension, const N: usize>(
    py: Python<'_>,
    shape: [usize; N],
) -> PyResult<Bound<'_, PyArray<T, D>>> {
    // SAFETY: numpy allocates the values.
    unsafe { new_array(py, shape, std::ptr::null_mut()) }
}

/// These values as an array, which takes over their memory.
pub fn from_vec<T: numpy::Element + Copy + 'static, D: numpy::ndarray::Dimension, const N: usize>(
    py: Python<'_>,
    mut values: Vec<T>,
    shape: [usize; N],
) -> PyResult<Bound<'_, PyArray<T, D>>> {
    assert_eq!(values.len(), shape.iter().product::<usize>());
    let data = values.as_mut_ptr();
    let owner = PyCapsule::new_with_value(py, values, c"pixelprune.values")?;
    // SAFETY: `data` holds as many values as the shape has, and lives as long as the capsule.
    let array = unsafe { new_array(py, shape, data) }?;
    // SAFETY: the array is new; numpy takes over the reference to its owner, also where that fails.
    if unsafe { PY_ARRAY_API.PyArray_SetBaseObject(py, array.as_array_ptr(), owner.into_ptr()) } < 0 {
        return Err(PyErr::fetch(py));
    }
    Ok(array)
}

/// A new C-contiguous array of the values at `data`, or of memory of its own if that is null.
///
/// The constructors of the numpy crate do not check what numpy returns, and crash or panic without memory.
///
/// # Safety
///
/// `data` is null, or holds as many values as the shape has for as long as the array lives.
unsafe fn new_array<T: numpy::Element, D: numpy::ndarray::Dimension, const N: usize>(
    py: Python<'_>,
    shape: [usize; N],
    data: *mut T,
) -> PyResult<Bound<'_, PyArray<T, D>>> {
    let mut shape = shape.map(|side| side as npy_intp);
    let dims = shape.as_mut_ptr();
    // For an array with memory of its own, numpy gives these flags another meaning.
    let flags = if data.is_null() { 0 } else { NPY_ARRAY_WRITEABLE };
    // SAFETY: numpy takes over the reference to the type, and copies the shape; the caller vouches for `data`.
    let array = unsafe {
        let class = get_type_object(py, NpyTypes::PyArray_Type);
        let kind = T::get_dtype(py).into_dtype_ptr();
        let (data, none) = (data.cast(), std::ptr::null_mut());
        PY_ARRAY_API.PyArray_NewFromDescr(
            py,
            class,
            kind,
            N as i32,
            dims,
            std::ptr::null_mut(),
            data,
            flags,
            none,
        )
    };
    // SAFETY: a new reference, or null with an exception set.
    let array = unsafe { Bound::from_owned_ptr_or_err(py, array) }?;
    Ok(array.cast_into()?)
}

/// Borrows a C-contiguous, aligned array of `T`s as the type `U` of the same size.
pub fn values<'a, T: numpy::Element, U: Copy>(array: &'a Bound<'_, PyArrayDyn<T>>) -> PyResult<&'a [U]> {
    const { assert!(size_of::<T>() == size_of::<U>() && align_of::<T>() == align_of::<U>()) };
    let is_native = array.dtype().is_native_byteorder().unwrap_or(true);
    if array.len() == 0 {
        return Ok(&[]);
    }
    if !array.is_c_contiguous() || !is_native || !array.data().is_aligned() {
        return Err(refused("the array is not C-contiguous, aligned and in native byte order".into()));
    }
    // SAFETY: the array is contiguous, aligned and borrowed; every caller names a `U` that any bits of `T` are.
    Ok(unsafe { std::slice::from_raw_parts(array.data().cast::<U>(), array.len()) })
}

/// Borrows a C-contiguous writable array of `T`s, to be written as the type `U` of the same size.
///
/// Nothing else may read or write it meanwhile: the caller has made it, or has been given it for this.
#[allow(clippy::mut_from_ref)]
pub fn values_mut<'a, T: numpy::Element, U: Copy>(
    array: &'a Bound<'_, PyArrayDyn<T>>,
) -> PyResult<&'a mut [U]> {
    const { assert!(size_of::<T>() == size_of::<U>() && align_of::<T>() == align_of::<U>()) };
    if array.len() == 0 {
        return Ok(&mut []);
    }
    let is_writable = array.getattr("flags")?.getattr("writeable")?.extract::<bool>()?;
    if !array.is_c_contiguous() || !is_writable || !array.data().is_aligned() {
        return Err(refused("the array to write is not C-contiguous, aligned and writable".into()));
    }
    // SAFETY: the array is contiguous, aligned and borrowed, and nobody else uses it by the contract above;
    // every caller names a `U` that any bits of `T` are, and the other way round.
    Ok(unsafe { std::slice::from_raw_parts_mut(array.data().cast::<U>(), array.len()) })
}
