//! Whether a token of `pixel_values` is of one colour.

use super::{Channel, PatchTokens};
use crate::metric::Spread;
use crate::simd::values::{Count, Element, Scale, all_levels, all_same, distance, level_distance, range};

/// Added to the threshold: undoing the normalisation is not exact.
const SLACK: f64 = 1e-6;

impl<T: Element> PatchTokens<'_, T> {
    /// Whether no channel of a token spans more than that. If the smallest and the largest values of all channels are
    /// 8-bit levels, the limit is that of the image they come from.
    pub(super) fn is_within(&self, token: usize, spread: Spread) -> bool {
        let channels = &self.format.channels;
        if spread.tau == 0.0 {
            return channels.iter().all(|channel| self.is_constant(token, channel));
        }
        let (mut are_levels, mut in_levels, mut in_unit) = (self.format.slack, true, true);
        for channel in channels {
            let (low, high) = self.range(token, channel);
            let scale = Scale { factor: &[channel.factor; 2], offset: &[channel.offset; 2] };
            let apart = distance(self.level, Count::Largest, &[low], &[high], scale, 0.0);
            in_unit &= apart <= spread.tau + if self.format.slack { SLACK } else { 0.0 };
            are_levels = are_levels && all_levels(self.level, &[low, high], scale);
            let to_levels = [255.0 * channel.factor];
            let apart = level_distance(self.level, Count::Largest, &[low], &[high], &to_levels, 0.0);
            in_levels &= apart <= f64::from(spread.levels);
            if !in_unit && !in_levels {
                return false;
            }
        }
        if are_levels { in_levels } else { in_unit }
    }

    /// The values of a channel, a patch at a time, from its first value to its last.
    fn of_channel(&self, token: usize, channel: &Channel) -> impl Iterator<Item = &[T]> {
        self.patches(token).map(|patch| &self.row(patch)[channel.first..channel.end])
    }

    fn is_constant(&self, token: usize, channel: &Channel) -> bool {
        let mut first = None;
        self.of_channel(token, channel).all(|values| {
            let first = *first.get_or_insert(values[0]);
            all_same(self.level, values, channel.step, first)
        })
    }

    fn range(&self, token: usize, channel: &Channel) -> (f32, f32) {
        let empty = (f32::INFINITY, f32::NEG_INFINITY);
        self.of_channel(token, channel)
            .fold(empty, |so_far, values| range(self.level, values, channel.step, so_far))
    }
}
