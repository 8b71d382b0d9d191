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

/// The source of every token: the first of its frame with the same pixels.
///
/// Most copies lie beside each other, so neighbours are compared first, without a hash. Of the others, most
/// differ in a few pixel rows already: a sketch of those tells, and only tokens that share a sketch are
/// hashed whole. `tokens` must be exact.
pub fn sources(tokens: &impl Tokens, bands: usize) -> Vec<i64> {
    let planes = planes(tokens, Wanted::Either, bands);
    let Grid { frames, cols, .. } = tokens.grid();
    let frame = tokens.grid().frame();
    let mut source = vec![0; tokens.grid().total()];
    for first in (0..frames).map(|f| f * frame) {
        let heads: Vec<usize> =
            (first..first + frame).filter(|&i| !planes.left[i] && !planes.up[i]).collect();
        let sketches = map(&heads, bands, |i| tokens.sketch(i));
        let mut sharing = ByHash::<u32>::default();
        for &sketch in &sketches {
            *sharing.entry(sketch).or_default() += 1;
        }
        let suspects: Vec<usize> =
            heads.iter().zip(&sketches).filter(|(_, sketch)| sharing[sketch] > 1).map(|(&i, _)| i).collect();
        let hashes = map(&suspects, bands, |i| tokens.hash(i));

        for &i in &heads {
            source[i] = i as i64;
        }
        let mut known = ByHash::<Vec<usize>>::default();
        for (&i, &hash) in suspects.iter().zip(&hashes) {
            let same_hash = known.entry(hash).or_default();
            if let Some(&twin) = same_hash.iter().find(|&&other| tokens.similar(i, other)) {
                source[i] = twin as i64;
            } else {
                same_hash.push(i);
            }
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
