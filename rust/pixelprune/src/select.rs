//! The main job: which tokens are kept, and which kept token stands for each dropped one.

use crate::anchored;
use crate::baseline::{Thinning, conncomp, random};
use crate::compare::{Planes, Wanted, planes};
use crate::error::{Error, Result};
use crate::image::ImageView;
use crate::memory;
use crate::metric::{Budget, Metric, check_threshold};
use crate::parallel::{Bands, Threads};
use crate::path::{self, Path};
use crate::predictor;
use crate::simd::Level;
use crate::tokens::{ImageTokens, Tokens};
use crate::unique;

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Each is described in `Settings::method` by its name.
pub enum Method {
    Pred2d,
    Raster,
    Serpentine,
    Either,
    Unique,
    Random,
    ConnComp,
}

impl Method {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Pred2d, "pred_2d"),
        (Self::Raster, "raster"),
        (Self::Serpentine, "serpentine"),
        (Self::Either, "either"),
        (Self::Unique, "unique"),
        (Self::Random, "random"),
        (Self::ConnComp, "conncomp"),
    ];

    /// The method of that name.
    pub fn parse(name: &str) -> Result<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|&(method, _)| method).ok_or_else(|| Error::Unknown {
            argument: "method",
            found: name.into(),
            expected: "'pred_2d', 'raster', 'serpentine', 'either', 'unique', 'random', 'conncomp'",
        })
    }

    /// The name of the method.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// Everything that a selection depends on besides the pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// `pred_2d` (PixelPrune, arXiv 2604.00886), `raster`, `serpentine`, `either`, `unique`, or one of the
    /// baselines `random` and `conncomp`.
    pub method: Method,
    /// How the distance of two tokens is measured.
    pub metric: Metric,
    /// Tau in [0, 1] of full scale; 0 is lossless.
    pub threshold: f64,
    /// Closed loop: predict from what a decoder would have.
    pub anchored: bool,
    /// For the baselines' draws.
    pub seed: u64,
    /// For `conncomp`.
    pub thinning: Thinning,
}

impl Settings {
    /// Refuses settings that no image could be pruned with.
    pub fn check(&self) -> Result<()> {
        check_threshold(self.threshold)?;
        if self.method == Method::Unique && self.threshold != 0.0 {
            return Err(Error::Threshold(format!(
                "threshold is {}, but method 'unique' compares for equality only; expected 0",
                self.threshold
            )));
        }
        Ok(())
    }
}

/// The outcome for one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Indices of the kept tokens, ascending.
    pub keep: Vec<i64>,
    /// The kept token that stands for each token; `None` for the baselines.
    pub source: Option<Vec<i64>>,
}

impl Selection {
    /// The tokens that stand for themselves are kept.
    pub(crate) fn from_source(source: Vec<i64>) -> Result<Self> {
        let keep = memory::collected((0..).zip(&source).filter(|&(i, &s)| i == s).map(|(i, _)| i))?;
        Ok(Self { keep, source: Some(source) })
    }

    /// All of `total` tokens are kept.
    pub(crate) fn of_everything(total: usize) -> Result<Self> {
        Self::from_source(memory::collected(0..total as i64)?)
    }

    /// Kept tokens that a caller has chosen.
    pub(crate) fn given(keep: &[i64]) -> Result<Self> {
        Ok(Self { keep: memory::collected(keep.iter().copied())?, source: None })
    }
}

/// Prunes a uint8 image cut into tokens of `token` x `token` pixels.
pub fn prune_image(
    image: ImageView,
    token: usize,
    settings: &Settings,
    level: Level,
    threads: Threads,
) -> Result<Selection> {
    settings.check()?;
    let budget = Budget::new(settings.metric, settings.threshold, token * token * image.channels())?;
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
    let budget = Budget::new(metric, tau, token * token * image.channels())?;
    let tokens = ImageTokens::new(image, token, budget, level)?;
    let total = tokens.grid().total();
    if source.len() != total || source.iter().any(|s| !(0..total as i64).contains(s)) {
        return Err(Error::Shape(format!(
            "source has {} entries; expected {total} token indices",
            source.len()
        )));
    }
    Ok((0..).zip(source).all(|(i, &s)| i == s as usize || tokens.similar(i, s as usize)))
}

/// The two planes of an image, whole: what a caller's own method decides from.
pub fn image_planes(
    image: ImageView,
    token: usize,
    metric: Metric,
    tau: f64,
    level: Level,
) -> Result<Planes> {
    let budget = Budget::new(metric, tau, token * token * image.channels())?;
    planes(&ImageTokens::new(image, token, budget, level)?, Wanted::All, Bands::ONE)
}

/// Chooses tokens. The settings have been checked.
pub fn select(tokens: &impl Tokens, settings: &Settings, bands: Bands) -> Result<Selection> {
    let grid = tokens.grid();
    let open = tokens.is_exact() || !settings.anchored;
    let count = || {
        let like = Settings { method: Method::Pred2d, ..*settings };
        select(tokens, &like, bands).map(|selection| selection.keep.len())
    };
    let source = match settings.method {
        Method::Pred2d if open => predictor::pred_2d(&planes(tokens, Wanted::Pred2d, bands)?, grid)?,
        Method::Pred2d => anchored::pred_2d(tokens)?,
        Method::Either if open => predictor::either(&planes(tokens, Wanted::Either, bands)?, grid)?,
        Method::Either => anchored::either(tokens)?,
        Method::Raster => path::sources(tokens, Path::Raster, open, bands)?,
        Method::Serpentine => path::sources(tokens, Path::Serpentine, open, bands)?,
        Method::Unique => unique::sources(tokens, bands)?,
        Method::Random => {
            return Ok(Selection { keep: random(grid.total(), count()?, settings.seed)?, source: None });
        }
        Method::ConnComp => {
            let planes = planes(tokens, Wanted::All, bands)?;
            let keep = conncomp(&planes, grid, count()?, settings.thinning, settings.seed)?;
            return Ok(Selection { keep, source: None });
        }
    };
    Selection::from_source(source)
}
