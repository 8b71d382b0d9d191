//! `unique`: the first of every set of equal tokens, found by hash and confirmed by comparing pixels.

use crate::error::{Error, Result};
use crate::grid::Grid;
use crate::memory;
use crate::metric::Spread;
use crate::parallel::Bands;
use crate::select::colours::Colours;
use crate::select::compare::{Reads, planes};
use crate::select::predictor::Predictor;
use crate::select::tokens::Tokens;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Passes keys through: they are hashes already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("the keys are u64");
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

type ByHash<T> = HashMap<u64, T, BuildHasherDefault<Identity>>;

/// Makes room for `more` keys.
fn reserve<T>(map: &mut ByHash<T>, more: usize) -> Result<()> {
    let bytes = (map.len() + more).saturating_mul(size_of::<(u64, T)>());
    map.try_reserve(more).map_err(|_| Error::Memory { bytes })
}

/// Up to this many tokens with the same sketch are compared one by one; beyond, they are hashed first.
const FEW: usize = 4;

/// The distinct tokens of one sketch.
enum Distinct {
    /// The tokens and their number, in place: most sketches have one.
    Few([usize; FEW], usize),
    Many(ByHash<Vec<usize>>),
}

impl Distinct {
    /// The token among these that equals `i`; if there is none, `i` becomes one of them.
    fn find_or_add(&mut self, tokens: &impl Tokens, i: usize) -> Result<Option<usize>> {
        if let Self::Few(few, count) = self {
            let twin = few[..*count].iter().copied().find(|&other| tokens.similar(i, other));
            if twin.is_some() || *count < FEW {
                if twin.is_none() {
                    few[*count] = i;
                    *count += 1;
                }
                return Ok(twin);
            }
            let mut many = ByHash::<Vec<usize>>::default();
            reserve(&mut many, FEW)?;
            for &other in &*few {
                let same_hash = many.entry(tokens.hash(other)?).or_default();
                memory::reserve(same_hash, 1)?;
                same_hash.push(other);
            }
            *self = Self::Many(many);
        }
        let Self::Many(many) = self else { unreachable!("replaced above") };
        reserve(many, 1)?;
        let same_hash = many.entry(tokens.hash(i)?).or_default();
        let twin = same_hash.iter().copied().find(|&other| tokens.similar(i, other));
        if twin.is_none() {
            memory::reserve(same_hash, 1)?;
            same_hash.push(i);
        }
        Ok(twin)
    }
}

/// The source of every token: the first of its frame with the same pixels.
///
/// Most copies lie beside each other, so neighbours are compared first, without a hash. Most of the others
/// differ within a few pixel rows, so a sketch (the hash of those rows) tells them apart. Tokens are hashed
/// whole only if many distinct ones share a sketch. `tokens` must be exact.
pub fn sources(tokens: &impl Tokens, spread: Option<Spread>, bands: Bands) -> Result<Vec<i64>> {
    let planes = planes(tokens, Reads::Of(Predictor::Either), None, bands)?;
    let Grid { frames, cols, .. } = tokens.grid();
    let frame = tokens.grid().frame();
    let mut source = memory::filled(0, tokens.grid().total())?;
    for first in (0..frames).map(|f| f * frame) {
        let heads = memory::collected((first..first + frame).filter(|&i| !planes.left[i] && !planes.up[i]))?;
        let mut sketches = memory::filled(0, heads.len())?;
        let few = heads.len().div_ceil(bands.count.max(1)).max(1);
        bands.threads().share(heads.chunks(few).zip(sketches.chunks_mut(few)), |(heads, sketches)| {
            for (&i, sketch) in heads.iter().zip(sketches) {
                *sketch = tokens.sketch(i)?;
            }
            Ok(())
        })?;
        let mut known = ByHash::<Distinct>::default();
        reserve(&mut known, heads.len())?;
        for (&i, &sketch) in heads.iter().zip(&sketches) {
            let distinct = known.entry(sketch).or_insert(Distinct::Few([0; FEW], 0));
            source[i] = distinct.find_or_add(tokens, i)?.unwrap_or(i) as i64;
        }
        for i in first..first + frame {
            if planes.left[i] {
                source[i] = source[i - 1];
            } else if planes.up[i] {
                source[i] = source[i - cols];
            }
        }
    }
    if let Some(spread) = spread {
        let mut colours = memory::filled(Colours::Unknown, source.len())?;
        for (i, source) in source.iter_mut().enumerate() {
            let first = *source as usize;
            if first != i {
                colours[first] = Colours::of(tokens, first, spread, colours[first]);
                if colours[first] == Colours::Several {
                    *source = i as i64;
                }
            }
        }
    }
    Ok(source)
}
