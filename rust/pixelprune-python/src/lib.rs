//! Python bindings: parse, borrow, release the GIL, call, convert.
#![allow(unsafe_code)] // Borrowing the memory of numpy and Pillow.
#![allow(clippy::needless_pass_by_value)] // Arguments are owned as Python hands them over.

mod arrays;
mod errors;
mod pillow;
mod pool;
mod preprocess;
mod signals;

use errors::{of_pixel_values, refused, to_py_err};
use numpy::{PyArray1, PyArray2, PyArrayDyn, PyArrayMethods};
use pixelprune::internals::{
    Bfloat, Budget, Channel, Element, Half, PatchFormat, PixelValues, Stop, image_content, image_planes,
    is_within, prune_batch as core_prune_batch, prune_image, sweep_image,
};
use pixelprune::{
    Grid, ImageView, Level, Method, Metric, PatchOrder, Protect, Selection, Settings, Thinning,
};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use signals::Signals;

type Image<'py> = Bound<'py, PyArrayDyn<u8>>;
type Bools<'py> = Bound<'py, PyArray1<bool>>;
type Indices<'py> = Bound<'py, PyArray1<i64>>;
type Selected<'py> = (Indices<'py>, Option<Indices<'py>>);

/// The settings as Python gives them: `pixelprune.settings.Given`.
#[derive(FromPyObject)]
struct Given<'py> {
    method: Bound<'py, PyString>,
    metric: Bound<'py, PyString>,
    threshold: f64,
    anchored: bool,
    seed: u64,
    protect: Bound<'py, PyString>,
}

#[pymodule]
mod _core {
    #[pymodule_export]
    use super::pillow::pixels_of_pillow;
    #[pymodule_export]
    use super::preprocess::{preprocess, resize, share_from};
    #[pymodule_export]
    use super::{
        available_threads, check_settings, content, content_of_pixel_values, cpu_features, decode,
        forget_threads, hash_tokens, is_plain_image, is_within_tau, planes, planes_of_pixel_values, prune,
        prune_batch, prune_pixel_values, simd_levels, sweep, version,
    };
}

fn settings(given: Given, sampled: bool, skip: Option<f64>) -> PyResult<Settings> {
    let Given { method, metric, threshold, anchored, seed, protect } = given;
    let settings = Settings {
        method: Method::parse(method.to_str()?).map_err(to_py_err)?,
        metric: Metric::parse(metric.to_str()?).map_err(to_py_err)?,
        threshold,
        anchored,
        protect: Protect::parse(protect.to_str()?).map_err(to_py_err)?,
        seed,
        thinning: Thinning { sampled, skip },
    };
    settings.check().map_err(to_py_err)?;
    Ok(settings)
}

fn patch_order(name: &Bound<'_, PyString>) -> PyResult<PatchOrder> {
    match name.to_str()? {
        "block" => Ok(PatchOrder::Block),
        "raster" => Ok(PatchOrder::Raster),
        other => Err(refused(format!("order is {other:?}; expected \"block\" or \"raster\""))),
    }
}

fn level(name: Option<&str>) -> PyResult<Level> {
    let Some(name) = name else { return Ok(Level::detect()) };
    Level::named(name).ok_or_else(|| refused(format!("level is {name:?}; expected one of simd_levels()")))
}

fn flat<T: numpy::Element + Copy + 'static>(
    py: Python<'_>,
    values: Vec<T>,
) -> PyResult<Bound<'_, PyArray1<T>>> {
    let length = values.len();
    arrays::from_vec(py, values, [length])
}

fn selected(py: Python<'_>, selection: Selection) -> PyResult<Selected<'_>> {
    let Selection { keep, source } = selection;
    Ok((flat(py, keep)?, source.map(|source| flat(py, source)).transpose()?))
}

/// A list, grown item by item: allocating it at once would panic if memory ran out.
fn list_of(py: Python<'_>, selections: Vec<Selection>) -> PyResult<Bound<'_, PyList>> {
    let list = PyList::empty(py);
    for selection in selections {
        list.append(selected(py, selection)?)?;
    }
    Ok(list)
}

/// Refuses settings that no image can be pruned with.
#[pyfunction]
fn check_settings(given: Given) -> PyResult<()> {
    settings(given, true, None).map(|_| ())
}

/// Prunes one image.
#[pyfunction]
#[pyo3(signature = (image, token, given, threads=1, level=None))]
fn prune<'py>(
    py: Python<'py>,
    image: &Image<'py>,
    token: usize,
    given: Given,
    threads: usize,
    level: Option<&str>,
) -> PyResult<Selected<'py>> {
    let settings = settings(given, true, None)?;
    let (image, level) = (arrays::image(image)?, self::level(level)?);
    let outcome =
        py.detach(|| pool::with(threads, |threads| prune_image(image, token, &settings, level, threads)));
    selected(py, outcome.map_err(to_py_err)?)
}

/// Prunes many images; an error names the image.
#[pyfunction]
#[pyo3(signature = (images, token, given, threads=1, level=None))]
fn prune_batch<'py>(
    py: Python<'py>,
    images: Vec<Image<'py>>,
    token: usize,
    given: Given,
    threads: usize,
    level: Option<&str>,
) -> PyResult<Bound<'py, PyList>> {
    let (settings, level) = (settings(given, true, None)?, self::level(level)?);
    let views = images.iter().enumerate().map(|(i, image)| {
        arrays::image(image).map_err(|error| refused(format!("images[{i}]: {}", error.value(py))))
    });
    let images: Vec<ImageView> = arrays::collected(views)?;
    let mut signals = Signals::new();
    let outcome = py.detach(|| {
        pool::with(threads, |threads| {
            core_prune_batch(&images, token, &settings, level, threads, &mut || signals.have_raised())
        })
    });
    signals.result()?;
    let selections = outcome.map_err(to_py_err)?;
    list_of(py, selections)
}

/// Prunes one image with each of many settings: the kept tokens, and how many of the dropped ones carry content.
#[pyfunction]
#[pyo3(signature = (image, token, given, threads=1, level=None))]
fn sweep<'py>(
    py: Python<'py>,
    image: &Image<'py>,
    token: usize,
    given: Vec<Given>,
    threads: usize,
    level: Option<&str>,
) -> PyResult<Bound<'py, PyList>> {
    let settings = arrays::collected(given.into_iter().map(|given| settings(given, true, None)))?;
    let (image, level) = (arrays::image(image)?, self::level(level)?);
    let mut signals = Signals::new();
    let outcome = py.detach(|| {
        pool::with(threads, |threads| {
            sweep_image(image, token, &settings, level, threads, &mut || signals.have_raised())
        })
    });
    signals.result()?;
    let list = PyList::empty(py);
    for swept in outcome.map_err(to_py_err)? {
        list.append((flat(py, swept.keep)?, swept.dropped_content))?;
    }
    Ok(list)
}

/// The two comparison planes of one image, each flat.
#[pyfunction]
#[pyo3(signature = (image, token, metric, threshold, level=None))]
fn planes<'py>(
    py: Python<'py>,
    image: &Image<'py>,
    token: usize,
    metric: &str,
    threshold: f64,
    level: Option<&str>,
) -> PyResult<(Bools<'py>, Bools<'py>)> {
    let metric = Metric::parse(metric).map_err(to_py_err)?;
    let (image, level) = (arrays::image(image)?, self::level(level)?);
    let planes = py.detach(|| image_planes(image, token, metric, threshold, level)).map_err(to_py_err)?;
    Ok((flat(py, planes.left)?, flat(py, planes.up)?))
}

/// Which tokens of one image are not of one colour, flat.
#[pyfunction]
#[pyo3(signature = (image, token, threshold, level=None))]
fn content<'py>(
    py: Python<'py>,
    image: &Image<'py>,
    token: usize,
    threshold: f64,
    level: Option<&str>,
) -> PyResult<Bools<'py>> {
    let (image, level) = (arrays::image(image)?, self::level(level)?);
    let content = py.detach(|| image_content(image, token, threshold, level)).map_err(to_py_err)?;
    flat(py, content)
}

/// `pixel_values` in the type they are stored in; float16 and bfloat16 as their bits.
#[derive(FromPyObject)]
enum Values<'py> {
    Bytes(Bound<'py, PyArrayDyn<u8>>),
    Floats(Bound<'py, PyArrayDyn<f32>>),
    Bits(Bound<'py, PyArrayDyn<u16>>),
}

/// What a row of `pixel_values` holds: `pixelprune.pruning.ValuesFormat`.
#[derive(FromPyObject)]
struct ValuesFormat<'py> {
    order: Bound<'py, PyString>,
    merge: usize,
    /// Values in a row.
    row: usize,
    runs: Vec<(usize, usize)>,
    factor: Vec<f32>,
    offset: Vec<f32>,
    /// First, end, step, factor and offset of each channel.
    channels: Vec<(usize, usize, usize, f32, f32)>,
    slack: bool,
    /// Whether 16-bit values are bfloat16, not float16.
    bfloat16: bool,
}

/// A function of `pixel_values` of any type.
trait OfValues {
    type Output: Send;
    fn call<T: Element>(
        &self,
        values: &PixelValues<T>,
        stop: Stop,
    ) -> pixelprune::internals::Result<Self::Output>;
}

fn with_values<F: OfValues + Sync>(
    py: Python<'_>,
    values: &Values,
    grids: &[[usize; 3]],
    format: ValuesFormat,
    f: &F,
) -> PyResult<F::Output> {
    let ValuesFormat { order, merge, row, runs, factor, offset, channels, slack, bfloat16 } = format;
    let order = patch_order(&order)?;
    let to_levels = factor.iter().map(|f| 255.0 * f).collect();
    let channel = |(first, end, step, factor, offset)| Channel { first, end, step, factor, offset };
    let channels = channels.into_iter().map(channel).collect();
    let format = &PatchFormat { order, merge, row, runs, factor, offset, to_levels, channels, slack };
    let mut signals = Signals::new();
    macro_rules! run {
        ($array:expr, $element:ty) => {{
            let data: &[$element] = arrays::values($array)?;
            py.detach(|| f.call(&PixelValues { data, grids, format }, &mut || signals.have_raised()))
        }};
    }
    let outcome = match values {
        Values::Bytes(array) => run!(array, u8),
        Values::Floats(array) => run!(array, f32),
        Values::Bits(array) if bfloat16 => run!(array, Bfloat),
        Values::Bits(array) => run!(array, Half),
    };
    signals.result()?;
    outcome.map_err(of_pixel_values)
}

/// Prunes every image of `pixel_values`.
#[pyfunction]
#[pyo3(signature = (values, grids, format, given, threads=1, level=None, sampled=true, skip=None))]
#[allow(clippy::too_many_arguments)]
fn prune_pixel_values<'py>(
    py: Python<'py>,
    values: Values<'py>,
    grids: Vec<[usize; 3]>,
    format: ValuesFormat,
    given: Given,
    threads: usize,
    level: Option<&str>,
    sampled: bool,
    skip: Option<f64>,
) -> PyResult<Bound<'py, PyList>> {
    struct Prune(Settings, Level, usize);
    impl OfValues for Prune {
        type Output = Vec<Selection>;
        fn call<T: Element>(
            &self,
            values: &PixelValues<T>,
            stop: Stop,
        ) -> pixelprune::internals::Result<Self::Output> {
            pool::with(self.2, |threads| values.prune(&self.0, self.1, threads, stop))
        }
    }
    let work = Prune(settings(given, sampled, skip)?, self::level(level)?, threads);
    let selections = with_values(py, &values, &grids, format, &work)?;
    list_of(py, selections)
}

/// The two comparison planes of every image of `pixel_values`, each flat.
#[pyfunction]
fn planes_of_pixel_values<'py>(
    py: Python<'py>,
    values: Values<'py>,
    grids: Vec<[usize; 3]>,
    format: ValuesFormat,
    metric: &str,
    threshold: f64,
) -> PyResult<Vec<(Bools<'py>, Bools<'py>)>> {
    struct AllPlanes(Metric, f64);
    impl OfValues for AllPlanes {
        type Output = Vec<pixelprune::internals::Planes>;
        fn call<T: Element>(
            &self,
            values: &PixelValues<T>,
            stop: Stop,
        ) -> pixelprune::internals::Result<Self::Output> {
            values.planes(self.0, self.1, Level::detect(), stop)
        }
    }
    let work = AllPlanes(Metric::parse(metric).map_err(to_py_err)?, threshold);
    let planes = with_values(py, &values, &grids, format, &work)?;
    planes.into_iter().map(|p| Ok((flat(py, p.left)?, flat(py, p.up)?))).collect()
}

/// Which tokens of every image of `pixel_values` are not of one colour, each flat.
#[pyfunction]
fn content_of_pixel_values<'py>(
    py: Python<'py>,
    values: Values<'py>,
    grids: Vec<[usize; 3]>,
    format: ValuesFormat,
    threshold: f64,
) -> PyResult<Vec<Bools<'py>>> {
    struct Content(f64);
    impl OfValues for Content {
        type Output = Vec<Vec<bool>>;
        fn call<T: Element>(
            &self,
            values: &PixelValues<T>,
            stop: Stop,
        ) -> pixelprune::internals::Result<Self::Output> {
            values.content(self.0, Level::detect(), stop)
        }
    }
    let content = with_values(py, &values, &grids, format, &Content(threshold))?;
    content.into_iter().map(|content| flat(py, content)).collect()
}

/// Whether every token is within the threshold of its source.
#[pyfunction]
fn is_within_tau(
    py: Python<'_>,
    image: &Image<'_>,
    token: usize,
    source: &Indices<'_>,
    metric: &str,
    threshold: f64,
) -> PyResult<bool> {
    let metric = Metric::parse(metric).map_err(to_py_err)?;
    let (image, source) = (arrays::image(image)?, arrays::values(source.to_dyn())?);
    py.detach(|| is_within(image, token, source, metric, threshold, Level::detect())).map_err(to_py_err)
}

/// The source of every token, as its rank among the kept tokens; `tokens` is (K * token, token, channels).
#[pyfunction]
fn decode<'py>(
    py: Python<'py>,
    mask: &Bools<'py>,
    grid: (usize, usize, usize),
    tokens: &Image<'py>,
    method: &str,
    metric: &str,
    threshold: f64,
) -> PyResult<Indices<'py>> {
    let method = Method::parse(method).map_err(to_py_err)?;
    let metric = Metric::parse(metric).map_err(to_py_err)?;
    let grid = Grid::new(grid.0, grid.1, grid.2).map_err(to_py_err)?;
    let kept = arrays::image(tokens)?;
    let mask: &[u8] = arrays::values(mask.to_dyn())?;
    let budget = Budget::of_token(metric, threshold, kept.width(), kept.channels()).map_err(to_py_err)?;
    let source = py
        .detach(|| pixelprune::internals::decode(mask, grid, kept, budget, method, Level::detect()))
        .map_err(to_py_err)?;
    flat(py, source)
}

/// The fingerprint of every token.
#[pyfunction]
fn hash_tokens<'py>(
    py: Python<'py>,
    image: &Image<'py>,
    token: usize,
) -> PyResult<Bound<'py, PyArray2<u64>>> {
    let image = arrays::image(image)?;
    let hashes = py.detach(|| pixelprune::internals::hash_tokens(image, token)).map_err(to_py_err)?;
    let cols = image.width() / token;
    arrays::from_vec(py, hashes, [image.height() / token, cols])
}

/// Whether `prune` and `prune_batch` can borrow an object as an image.
#[pyfunction]
fn is_plain_image(image: &Bound<'_, PyAny>) -> bool {
    arrays::is_plain(image)
}

/// The number of threads that affinity and cgroup quota allow.
#[pyfunction]
fn available_threads() -> usize {
    pool::available()
}

/// Forgets the thread pools: in a forked child, the parent's threads do not exist.
#[pyfunction]
fn forget_threads() {
    pool::forget();
}

/// The names of the SIMD levels of this CPU, slowest first.
#[pyfunction]
fn simd_levels() -> Vec<&'static str> {
    Level::available().into_iter().map(Level::name).collect()
}

/// The vector instruction sets of this CPU that matter here.
#[pyfunction]
fn cpu_features() -> Vec<&'static str> {
    pixelprune::internals::cpu_features()
}

/// The version of the package.
#[pyfunction]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
