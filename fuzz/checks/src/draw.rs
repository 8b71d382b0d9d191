//! From bytes to cases. When the bytes run out, every draw returns its first possible value.

use arbitrary::Unstructured;
use pixelprune::{ImageView, Method, Metric, Protect, Settings, Thinning};

/// Bytes to draw from.
pub struct Draw<'a>(Unstructured<'a>);

impl<'a> Draw<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self(Unstructured::new(data))
    }

    /// A number from `first` to `last`.
    pub fn between(&mut self, first: usize, last: usize) -> usize {
        self.0.int_in_range(first..=last).unwrap_or(first)
    }

    /// One of some values.
    pub fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.between(0, values.len() - 1)]
    }

    /// True for one of `n` draws.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.between(1, n) == n
    }

    pub fn bool(&mut self) -> bool {
        self.one_in(2)
    }

    pub fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub fn u64(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// Any number; often a small or an absurdly large one.
    pub fn any_usize(&mut self) -> usize {
        match self.between(0, 3) {
            0 => self.between(0, 9),
            1 => self.of(&[1 << 16, 1 << 31, usize::MAX / 2, usize::MAX / 2 + 1, usize::MAX - 1, usize::MAX]),
            2 => 1usize.checked_shl(self.between(0, 70) as u32).unwrap_or(0),
            _ => self.u64() as usize,
        }
    }

    /// Any float; often one that overflows, vanishes or is NaN.
    pub fn any_f32(&mut self) -> f32 {
        match self.between(0, 2) {
            0 => self.of(&[
                0.0,
                -0.0,
                1.0,
                f32::NAN,
                f32::INFINITY,
                f32::NEG_INFINITY,
                f32::MAX,
                f32::MIN_POSITIVE,
            ]),
            1 => self.between(0, 255) as f32 / 255.0,
            _ => f32::from_bits(self.u64() as u32),
        }
    }

    /// A threshold: 0, a whole level, the next float above or below it, or anything in [0, 1].
    pub fn threshold(&mut self) -> f64 {
        let level = self.between(0, 12) as f64 / 255.0;
        match self.between(0, 5) {
            0 | 1 => 0.0,
            2 => level,
            3 => level.next_up(),
            4 => level.next_down().max(0.0),
            _ => self.between(0, 1000) as f64 / 1000.0,
        }
    }

    /// Settings that can be used.
    pub fn settings(&mut self) -> Settings {
        let method = self.of(&[
            Method::Pred2d,
            Method::Either,
            Method::Raster,
            Method::Serpentine,
            Method::Unique,
            Method::Random,
            Method::ConnComp,
        ]);
        let threshold = if method == Method::Unique { 0.0 } else { self.threshold() };
        let skip = self.one_in(3).then(|| self.between(0, 10) as f64 / 10.0);
        Settings {
            method,
            metric: self.of(&[Metric::Max, Metric::Mae, Metric::Rmse]),
            threshold,
            anchored: !self.one_in(3),
            protect: self.of(&[Protect::Nothing, Protect::Content]),
            seed: self.u64(),
            thinning: Thinning { sampled: self.bool(), skip },
        }
    }

    /// An image of tokens from a small palette, with a few values moved by a few levels: neighbours are equal,
    /// nearly equal or different.
    pub fn tiles(&mut self, token: usize, (rows, cols): (usize, usize), channels: usize) -> Image {
        let (height, width) = (rows * token, cols * token);
        let stride = width * channels + self.between(0, 4);
        let mut noise = Noise(self.u64());
        let palette: [(u8, u8); 4] = std::array::from_fn(|_| (noise.byte() / 64 * 3 + 120, noise.byte() % 4));
        let colours = palette.len() - self.between(0, palette.len() - 1);
        // There are fewer bytes to draw from than tiles in a large image: most of its tiles repeat the one above.
        let is_large = rows * cols > 100;
        let change = if is_large { self.of(&[64, 1024, 8]) } else { 1 };
        let mut chosen: Vec<usize> = Vec::with_capacity(rows * cols);
        let mut bytes = vec![0xa5; height * stride];
        for tile in 0..rows * cols {
            chosen.push(match chosen.len().checked_sub(cols) {
                _ if !is_large => self.between(0, colours - 1),
                Some(above) if !noise.number().is_multiple_of(change) => chosen[above],
                _ => noise.number() as usize % colours,
            });
            let (base, kind) = palette[chosen[tile]];
            let (top, left) = (tile / cols * token, tile % cols * token * channels);
            for y in 0..token {
                for x in 0..token * channels {
                    bytes[(top + y) * stride + left + x] = match kind {
                        0 | 1 => base,
                        2 => base + (y % 3) as u8,
                        _ => base.wrapping_add(noise.byte() % 2),
                    };
                }
            }
        }
        for _ in 0..self.between(0, 9) {
            let (y, x) = (self.between(0, height - 1), self.between(0, width * channels - 1));
            let byte = &mut bytes[y * stride + x];
            *byte = byte.wrapping_add(self.byte() % 9).wrapping_sub(4);
        }
        // The last row need not fill its stride.
        bytes.truncate((height - 1) * stride + width * channels);
        Image { bytes, height, width, channels, stride }
    }
}

/// A uint8 image in memory of its own.
pub struct Image {
    bytes: Vec<u8>,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    stride: usize,
}

impl Image {
    pub fn view(&self) -> ImageView<'_> {
        ImageView::new(&self.bytes, self.height, self.width, self.channels, self.stride)
            .expect("it is an image")
    }

    /// The bytes of a pixel row.
    pub fn row(&self, y: usize) -> &[u8] {
        &self.bytes[y * self.stride..][..self.width * self.channels]
    }

    /// The bytes of every token, row-major, frame by frame.
    pub fn tokens(&self, token: usize) -> Vec<Vec<u8>> {
        let segment = token * self.channels;
        let places = (0..self.height / token).flat_map(|r| (0..self.width / token).map(move |c| (r, c)));
        let bytes = |(r, c): (usize, usize)| {
            (0..token).flat_map(|y| self.row(r * token + y)[c * segment..][..segment].to_vec()).collect()
        };
        places.map(bytes).collect()
    }
}

/// A small generator (SplitMix64), for large images, which have more pixels than there are bytes to draw from.
pub struct Noise(pub u64);

impl Noise {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn byte(&mut self) -> u8 {
        self.number() as u8
    }
}
