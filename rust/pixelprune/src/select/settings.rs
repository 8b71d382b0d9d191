//! What a selection depends on besides the pixels.

use crate::error::{Error, Result};
use crate::image::RGB;
use crate::metric::{Budget, Metric, Spread, check_threshold};
use crate::select::baseline::Thinning;
use crate::select::predictor::Predictor;

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Each is described in `Settings::method` by its name.
#[non_exhaustive]
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
            kind: "method",
            found: name.into(),
            expected: &["pred_2d", "raster", "serpentine", "either", "unique", "random", "conncomp"],
        })
    }

    /// The predictor of the method, if it looks only at a token's neighbours.
    pub(crate) fn predictor(self) -> Option<Predictor> {
        match self {
            Self::Pred2d => Some(Predictor::Pred2d),
            Self::Either => Some(Predictor::Either),
            Self::Raster | Self::Serpentine | Self::Unique | Self::Random | Self::ConnComp => None,
        }
    }

    /// The name of the method.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// Which tokens are never dropped, whatever the method predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protect {
    /// None: the published method.
    Nothing,
    /// Those that are not of one colour: in some channel, the smallest and the largest value are further apart than
    /// the threshold.
    Content,
}

impl Protect {
    /// The protection of that name.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "nothing" => Ok(Self::Nothing),
            "content" => Ok(Self::Content),
            _ => {
                Err(Error::Unknown { kind: "protect", found: name.into(), expected: &["nothing", "content"] })
            }
        }
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
    /// What is kept although it is predicted. The baselines keep as many tokens as `pred_2d` does with it.
    pub protect: Protect,
    /// Seed of the baselines.
    pub seed: u64,
    /// How `conncomp` thins its components.
    pub thinning: Thinning,
}

impl Default for Settings {
    /// `pred_2d` without loss.
    fn default() -> Self {
        Self {
            method: Method::Pred2d,
            metric: Metric::Max,
            threshold: 0.0,
            anchored: true,
            protect: Protect::Nothing,
            seed: 42,
            thinning: Thinning { sampled: true, skip: None },
        }
    }
}

impl Settings {
    /// Refuses settings that no image can be pruned with.
    pub fn check(&self) -> Result<()> {
        check_threshold(self.threshold)?;
        if let Some(found) = self.thinning.skip.filter(|skip| !(0.0..=1.0).contains(skip)) {
            return Err(Error::Skip { found });
        }
        if self.method == Method::Unique && self.threshold != 0.0 {
            return Err(Error::ExactMethod { method: self.method.name(), threshold: self.threshold });
        }
        Ok(())
    }

    /// How far apart the values of a token that may be dropped are at most, if that matters.
    pub(crate) fn spread(&self) -> Result<Option<Spread>> {
        match self.protect {
            Protect::Nothing => Ok(None),
            Protect::Content => Spread::new(self.threshold).map(Some),
        }
    }

    /// Whether a token's prediction depends on original pixels only: in open loop, and wherever similarity is
    /// equality, because a source then equals the token.
    pub(crate) fn is_open(&self, similarity_is_equality: bool) -> bool {
        similarity_is_equality || !self.anchored
    }

    /// The same for tokens of `side` x `side` RGB pixels.
    pub(crate) fn is_open_for(&self, side: usize) -> bool {
        let budget = Budget::of_token(self.metric, self.threshold, side, RGB);
        self.is_open(budget.is_ok_and(Budget::is_exact))
    }
}
