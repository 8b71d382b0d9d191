//! The weights of one axis: which input pixels each output pixel depends on, and how much.

use crate::error::Result;
use crate::memory;

/// Outputs whose horizontal weights are stored together, so that a vector kernel loads them at once.
pub(crate) const OUTPUTS: usize = 8;

/// Antialiased bicubic weights from `input` to `output` pixels, as 16-bit integers.
///
/// The filter is the cubic convolution of Keys (1981) with a = -1/2, stretched by the scale when shrinking;
/// weights are computed in float64, normalised to sum 1 and rounded to 16-bit integers with as many fractional bits
/// as the largest weight allows. This is the arithmetic of torch's `_upsample_bicubic2d_aa` on uint8.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub input: usize,
    /// First input pixel of every output pixel.
    pub starts: Vec<u32>,
    /// The longest run of input pixels.
    pub longest: usize,
    /// Weights per output pixel: `longest` rounded up to whole pairs, at least two.
    pub taps: usize,
    /// `taps` weights of every output pixel, zeros at the end.
    pub weights: Vec<i16>,
    /// Fractional bits of the weights.
    pub shift: u32,
}

impl Axis {
    pub fn new(input: usize, output: usize) -> Result<Self> {
        let scale = input as f64 / output as f64;
        let stretch = scale.max(1.0);
        let support = 2.0 * stretch;
        let most = support.ceil() as usize * 2 + 1;
        let (mut exact, mut starts) =
            (memory::with_room(output.saturating_mul(most))?, memory::with_room(output)?);
        let (mut longest, mut largest) = (0, 0.0f64);
        for i in 0..output {
            let center = scale * (i as f64 + 0.5);
            let first = (center - support + 0.5).max(0.0) as usize;
            let last = ((center + support + 0.5) as usize).min(input);
            let begin = exact.len();
            exact.extend((first..last).map(|j| cubic((j as f64 - center + 0.5) * (1.0 / stretch))));
            let run = &mut exact[begin..];
            let total: f64 = run.iter().sum();
            for w in run.iter_mut() {
                *w /= if total == 0.0 { 1.0 } else { total };
                largest = largest.max(*w);
            }
            longest = longest.max(run.len());
            exact.resize(begin + most, 0.0);
            starts.push(first as u32);
        }
        // The most bits with which the largest weight still fits.
        let mut shift = 0;
        while shift < 22 && ((0.5 + largest * f64::from(1 << (shift + 1))) as i32) < 1 << 15 {
            shift += 1;
        }
        let taps = longest.next_multiple_of(2).max(4);
        let mut weights = memory::filled(0, taps * output)?;
        let one = f64::from(1 << shift);
        for (to, run) in weights.chunks_exact_mut(taps).zip(exact.chunks_exact(most)) {
            for (to, w) in to.iter_mut().zip(run) {
                let scaled = w * one;
                *to = (scaled + 0.5f64.copysign(scaled)) as i16;
            }
        }
        Ok(Self { input, starts, longest, taps, weights, shift })
    }

    pub fn output(&self) -> usize {
        self.starts.len()
    }

    /// The weights of output pixel `i`.
    pub fn weights_of(&self, i: usize) -> &[i16] {
        &self.weights[i * self.taps..][..self.taps]
    }

    /// The input pixels that output pixels `first..=last` depend on.
    pub fn span(&self, first: usize, last: usize) -> std::ops::Range<usize> {
        self.starts[first] as usize..(self.starts[last] as usize + self.longest).min(self.input)
    }
}

fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// An axis with its weights laid out for horizontal vector kernels.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    pub axis: Axis,
    /// First output pixel of every group of [`OUTPUTS`]; the last group ends with the row and may overlap.
    pub groups: Vec<u32>,
    /// For every group and every pair of taps: the two weights of each of the group's outputs, the first in
    /// the low half.
    #[cfg(target_arch = "x86_64")]
    pub pairs: Vec<[i32; OUTPUTS]>,
}

impl Columns {
    pub fn new(axis: Axis) -> Result<Self> {
        let output = axis.output();
        let groups = match output.checked_sub(OUTPUTS) {
            Some(last) => memory::collected((0..output).step_by(OUTPUTS).map(|i| i.min(last) as u32))?,
            None => Vec::new(),
        };
        #[cfg(target_arch = "x86_64")]
        let pairs = pairs(&axis, &groups)?;
        Ok(Self {
            axis,
            groups,
            #[cfg(target_arch = "x86_64")]
            pairs,
        })
    }
}

#[cfg(target_arch = "x86_64")]
fn pairs(axis: &Axis, groups: &[u32]) -> Result<Vec<[i32; OUTPUTS]>> {
    let places =
        groups.iter().flat_map(|&first| (0..axis.taps / 2).map(move |pair| (first as usize, 2 * pair)));
    memory::collected(places.map(|(first, tap)| {
        std::array::from_fn(|i| {
            let weights = axis.weights_of(first + i);
            pair_of(weights[tap], weights[tap + 1])
        })
    }))
}

/// Two weights as one 32-bit number, the first in the low half.
#[cfg(target_arch = "x86_64")]
pub(crate) fn pair_of(low: i16, high: i16) -> i32 {
    i32::from(high) << 16 | i32::from(low as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_fit() {
        for (input, output) in [(1, 28), (5, 32), (1080, 1088), (1088, 1080), (4000, 31), (7, 7), (33, 3200)]
        {
            let axis = Axis::new(input, output).unwrap();
            let one = 1i32 << axis.shift;
            for i in 0..output {
                let sum: i32 = axis.weights_of(i).iter().map(|&w| i32::from(w)).sum();
                // Each weight is rounded by at most a half.
                assert!((sum - one).abs() <= axis.taps as i32 / 2 + 1, "{input} -> {output} at {i}: {sum}");
                assert!((axis.starts[i] as usize) < input);
            }
        }
    }

    #[test]
    fn a_flat_run_stays_flat() {
        for (input, output) in [(1, 28), (90, 64), (64, 90), (10_000, 28)] {
            let axis = Axis::new(input, output).unwrap();
            for i in 0..output {
                let sum: i32 = axis.weights_of(i).iter().map(|&w| i32::from(w)).sum();
                for v in 0..=255 {
                    assert_eq!(
                        (sum * v + (1 << (axis.shift - 1))) >> axis.shift,
                        v,
                        "{input} -> {output} at {i}"
                    );
                }
            }
        }
    }
}
