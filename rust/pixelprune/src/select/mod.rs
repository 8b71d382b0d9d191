//! The main job: which tokens are kept, and which kept token stands for each dropped one.
//!
//! Tokens of an image ([`tokens`]) are compared with their neighbours ([`compare`], into bool planes), from which
//! a [`predictor`] decides in open loop; [`anchored`] decides in closed loop. [`path`](mod@path), [`unique`] and
//! [`baseline`] are the other methods. Where content is protected, all but the baselines ask for the [`colours`] of a
//! token before they drop it. [`decode`](mod@decode) restores the sources from the mask. [`sweep`] runs all this for many
//! settings on one image, and measures the [`distances`] of its tokens once.

pub mod anchored;
pub mod baseline;
pub mod colours;
pub mod compare;
pub mod decode;
mod distances;
pub mod path;
pub mod planes;
pub mod predictor;
mod selection;
mod settings;

pub mod sweep;
pub mod tokens;
pub mod unique;

use crate::error::{Error, Result};
use crate::image::ImageView;
use crate::memory;
use crate::metric::{Budget, Metric, Spread};
use crate::parallel::{Bands, Threads};
use crate::simd::Level;
use baseline::{conncomp, random};
use compare::{Reads, planes};
use path::Path;
use planes::Planes;
use predictor::Predictor;
pub use selection::Selection;
pub use settings::{Method, Protect, Settings};
use tokens::{ImageTokens, Tokens};

/// Prunes a uint8 image cut into tokens of `token` x `token` pixels.
pub fn prune_image(
    image: ImageView,
    token: usize,
    settings: &Settings,
    level: Level,
    threads: Threads,
) -> Result<Selection> {
    settings.check()?;
    let budget = Budget::of_token(settings.metric, settings.threshold, token, image.channels())?;
    let tokens = ImageTokens::new(image, token, budget, level)?;
    select(&tokens, settings, Bands::of(image.bytes(), threads))
}

/// Whether every token of the image is within `tau` of its source.
pub fn is_within(
    image: ImageView,
    token: usize,
    source: &[i64],
    metric: Metric,
    tau: f64,
    level: Level,
) -> Result<bool> {
    let budget = Budget::of_token(metric, tau, token, image.channels())?;
    let tokens = ImageTokens::new(image, token, budget, level)?;
    let total = tokens.grid().total();
    if source.len() != total || source.iter().any(|s| !(0..total as i64).contains(s)) {
        return Err(Error::Source { found: source.len(), total });
    }
    Ok((0..).zip(source).all(|(i, &s)| i == s as usize || tokens.similar(i, s as usize)))
}

/// Which tokens of an image are not of one colour, within `tau`.
pub fn image_content(image: ImageView, token: usize, tau: f64, level: Level) -> Result<Vec<bool>> {
    let spread = Spread::new(tau)?;
    content(&ImageTokens::new(image, token, Budget::Equal, level)?, spread)
}

/// Which tokens are not of one colour.
pub fn content(tokens: &impl Tokens, spread: Spread) -> Result<Vec<bool>> {
    memory::collected((0..tokens.grid().total()).map(|i| !tokens.is_one_colour(i, spread)))
}

/// Both complete planes of an image, for methods implemented by the caller.
pub fn image_planes(
    image: ImageView,
    token: usize,
    metric: Metric,
    tau: f64,
    level: Level,
) -> Result<Planes> {
    let budget = Budget::of_token(metric, tau, token, image.channels())?;
    planes(&ImageTokens::new(image, token, budget, level)?, Reads::All, None, Bands::ONE)
}

/// Chooses tokens. The settings have been checked.
pub fn select(tokens: &impl Tokens, settings: &Settings, bands: Bands) -> Result<Selection> {
    let grid = tokens.grid();
    let open = settings.is_open(tokens.is_exact());
    let spread = settings.spread()?;
    let count = || {
        let like = Settings { method: Method::Pred2d, ..*settings };
        select(tokens, &like, bands).map(|selection| selection.keep.len())
    };
    let by = |predictor: Predictor| {
        if open {
            predictor.sources(&planes(tokens, Reads::Of(predictor), spread, bands)?, grid)
        } else {
            anchored::sources(tokens, predictor, spread)
        }
    };
    let source = match settings.method {
        Method::Pred2d => by(Predictor::Pred2d),
        Method::Either => by(Predictor::Either),
        Method::Raster => path::sources(tokens, Path::Raster, open, spread, bands),
        Method::Serpentine => path::sources(tokens, Path::Serpentine, open, spread, bands),
        Method::Unique => unique::sources(tokens, spread, bands),
        Method::Random => {
            return Ok(Selection::of(random(grid.total(), count()?, settings.seed)?));
        }
        Method::ConnComp => {
            let planes = planes(tokens, Reads::All, None, bands)?;
            let keep = conncomp(&planes, grid, count()?, settings.thinning, settings.seed)?;
            return Ok(Selection::of(keep));
        }
    };
    Selection::from_source(source?)
}
