//! `unique`: the first of every set of equal tokens, found by hash and confirmed by comparing pixels.

use crate::compare::{Wanted, planes};
use crate::grid::Grid;
use crate::tokens::Tokens;
use rayon::prelude::*;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Passes a hash through: the keys of the maps here are hashes already.
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

/// So many tokens of one sketch are compared one by one; more are told apart by their hashes first.
const FEW: usize = 4;

/// The distinct tokens of one sketch.
enum Distinct {
    /// The first so many; in place, for most sketches have one.
    Few([usize; FEW], usize),
    Many(ByHash<Vec<usize>>),
}

impl Distinct {
    /// The token among these that equals `i`; if there is none, `i` becomes one of them.
    fn find_or_add(&mut self, tokens: &impl Tokens, i: usize) -> Option<usize> {
        if let Self::Few(few, count) = self {
            let twin = few[..*count].iter().copied().find(|&other| tokens.similar(i, other));
            if twin.is_some() || *count < FEW {
                if twin.is_none() {
                    few[*count] = i;
                    *count += 1;
                }
                return twin;
            }
            let mut many = ByHash::<Vec<usize>>::default();
            for &other in &*few {
                many.entry(tokens.hash(other)).or_default().push(other);
            }
            *self = Self::Many(many);
        }
        let Self::Many(many) = self else { unreachable!("it was made so above") };
        let same_hash = many.entry(tokens.hash(i)).or_default();
        let twin = same_hash.iter().copied().find(|&other| tokens.similar(i, other));
        if twin.is_none() {
            same_hash.push(i);
        }
        twin
    }
}

/// The source of every token: the first of its frame with the same pixels.
///
/// Most copies lie beside each other, so neighbours are compared first, without a hash. Of the others, most
/// differ in a few pixel rows already, which a sketch (the hash of those) tells; only where many distinct
/// tokens share a sketch are they hashed whole. `tokens` must be exact.
pub fn sources(tokens: &impl Tokens, bands: usize) -> Vec<i64> {
    let planes = planes(tokens, Wanted::Either, bands);
    let Grid { frames, cols, .. } = tokens.grid();
    let frame = tokens.grid().frame();
    let mut source = vec![0; tokens.grid().total()];
    for first in (0..frames).map(|f| f * frame) {
        let heads: Vec<usize> =
            (first..first + frame).filter(|&i| !planes.left[i] && !planes.up[i]).collect();
        let sketches = map(&heads, bands, |i| tokens.sketch(i));
        let mut known =
            ByHash::<Distinct>::with_capacity_and_hasher(heads.len(), BuildHasherDefault::default());
        for (&i, &sketch) in heads.iter().zip(&sketches) {
            let distinct = known.entry(sketch).or_insert(Distinct::Few([0; FEW], 0));
            source[i] = distinct.find_or_add(tokens, i).unwrap_or(i) as i64;
        }
        for i in first..first + frame {
            if planes.left[i] {
                source[i] = source[i - 1];
            } else if planes.up[i] {
                source[i] = source[i - cols];
            }
        }
    }
    source
}

fn map(items: &[usize], bands: usize, f: impl Fn(usize) -> u64 + Sync) -> Vec<u64> {
    if bands > 1 { items.par_iter().map(|&i| f(i)).collect() } else { items.iter().map(|&i| f(i)).collect() }
}
