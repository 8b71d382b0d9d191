//! From images to model-ready patches.

use crate::arrays;
use crate::errors::{refused, to_py_err};
use crate::signals::Signals;
use crate::{Given, Image, level, list_of, patch_order, pool, settings};
use numpy::{Element, PyArray1, PyArray3, PyArrayDyn, PyArrayMethods};
use pixelprune::internals::{
    Affine, Bfloat, Half, PatchValue, Resizer, Result as CoreResult, preprocess as core_preprocess,
};
use pixelprune::{Choice, Job, Level, Recipe, RowFormat, Table, Threads};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use std::sync::{Mutex, PoisonError};

/// The output and the table of its values, of the same type; float16 and bfloat16 as their bits.
#[derive(FromPyObject)]
pub enum Output<'py> {
    Bytes(Bound<'py, PyArrayDyn<u8>>, Bound<'py, PyArrayDyn<u8>>),
    Floats(Bound<'py, PyArrayDyn<f32>>, Bound<'py, PyArrayDyn<f32>>),
    Bits(Bound<'py, PyArrayDyn<u16>>, Bound<'py, PyArrayDyn<u16>>),
}

/// Center and scale of each channel.
type Channels = [(f32, f32); 3];

/// An image and what to do with it: `pixelprune.preprocessing.Job`.
#[derive(FromPyObject)]
pub struct Order<'py> {
    image: Image<'py>,
    height: usize,
    width: usize,
    /// Whether to repeat the last row and column instead of resizing.
    pad: bool,
    /// The tokens to keep, if the caller decides that.
    keep: Option<Bound<'py, PyArray1<i64>>>,
}

/// What a row of the output holds: `pixelprune.preprocessing.OutputFormat`.
#[derive(FromPyObject)]
pub struct OutputFormat<'py> {
    patch: usize,
    merge: usize,
    frames: usize,
    channels_last: bool,
    order: Bound<'py, PyString>,
}

/// Writes the kept patches of all images to the first array of `output`; the second is (3, 256), the
/// value of each level. Without `prune`, every token is kept.
#[pyfunction]
#[pyo3(signature = (jobs, format, given, prune, output, affine=None, bfloat16=false, threads=1, level=None))]
#[allow(clippy::too_many_arguments)]
pub fn preprocess<'py>(
    py: Python<'py>,
    jobs: Vec<Order<'py>>,
    format: OutputFormat<'py>,
    given: Given,
    prune: bool,
    output: Output<'py>,
    affine: Option<Channels>,
    bfloat16: bool,
    threads: usize,
    level: Option<&str>,
) -> PyResult<Bound<'py, PyList>> {
    let OutputFormat { patch, merge, frames, channels_last, order } = format;
    let order = patch_order(&order)?;
    let format = RowFormat { patch, merge, frames, channels_last, order };
    let settings = Some(settings(given, true, None)?).filter(|_| prune);
    let level = self::level(level)?;
    let jobs = jobs.iter().enumerate().map(|(i, Order { image, height, width, pad, keep })| {
        let image =
            arrays::image(image).map_err(|error| refused(format!("images[{i}]: {}", error.value(py))))?;
        let choice = match (keep, &settings) {
            (Some(keep), _) => Choice::Given(arrays::values(keep.to_dyn())?),
            (None, Some(settings)) => Choice::By(settings),
            (None, None) => Choice::Everything,
        };
        Ok(Job { image, height: *height, width: *width, pad: *pad, choice })
    });
    let jobs = arrays::collected(jobs)?;
    let work = Work { jobs, format, affine, level, threads };
    let outcome = match &output {
        Output::Bytes(out, table) => work.run::<_, u8>(py, out, table),
        Output::Floats(out, table) => work.run::<_, f32>(py, out, table),
        Output::Bits(out, table) if bfloat16 => work.run::<_, Bfloat>(py, out, table),
        Output::Bits(out, table) => work.run::<_, Half>(py, out, table),
    };
    let selections = outcome?.map_err(to_py_err)?;
    list_of(py, selections)
}

/// The resized bytes from which calls share work among threads, if a test has set it.
static SHARED_BYTES: Mutex<Option<usize>> = Mutex::new(None);

/// For tests: calls with at least this many resized bytes share work among threads; `None` restores the default.
#[pyfunction]
#[pyo3(signature = (bytes=None))]
pub fn share_from(bytes: Option<usize>) {
    *SHARED_BYTES.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
}

type Outcome = CoreResult<Vec<pixelprune::Selection>>;

/// The arguments of a call, except those that depend on the type of its values.
struct Work<'a> {
    jobs: Vec<Job<'a>>,
    format: RowFormat,
    affine: Option<Affine>,
    level: Level,
    threads: usize,
}

impl Work<'_> {
    /// Values of type `E` in arrays of `T`, which is as wide.
    fn run<T: Element, E: PatchValue>(
        &self,
        py: Python<'_>,
        out: &Bound<'_, PyArrayDyn<T>>,
        table: &Bound<'_, PyArrayDyn<T>>,
    ) -> PyResult<Outcome> {
        let levels: &[E] = arrays::values(table)?;
        let table: Table<E> = match levels.as_chunks::<256>() {
            (&[red, green, blue], []) => [red, green, blue],
            _ => {
                return Err(refused(format!("the table has {} values; expected 768", levels.len())));
            }
        };
        let out = arrays::values_mut(out)?;
        let Self { jobs, format, affine, level, .. } = self;
        let shared_bytes = *SHARED_BYTES.lock().unwrap_or_else(PoisonError::into_inner);
        let mut signals = Signals::new();
        let outcome = py.detach(|| {
            pool::with(self.threads, |threads| {
                let recipe = Recipe {
                    format: *format,
                    table: &table,
                    affine: affine.as_ref(),
                    level: *level,
                    shared_bytes,
                };
                core_preprocess(jobs, &recipe, threads, out, &mut || signals.have_raised())
            })
        });
        signals.result()?;
        Ok(outcome)
    }
}

/// Resizes an RGB image.
#[pyfunction]
#[pyo3(signature = (image, height, width, threads=1, level=None))]
pub fn resize<'py>(
    py: Python<'py>,
    image: &Image<'py>,
    height: usize,
    width: usize,
    threads: usize,
    level: Option<&str>,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let (image, level) = (arrays::image(image)?, self::level(level)?);
    let resize = |threads: Threads| Resizer::new(image, height, width, false, level)?.whole(threads);
    let resized = py.detach(|| pool::with(threads, resize)).map_err(to_py_err)?;
    arrays::from_vec(py, resized, [height, width, 3])
}
