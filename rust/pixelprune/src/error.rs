//! What can be wrong with an input.

use std::fmt;

/// Why a call failed: what was found and what was expected, as data. `Display` makes the text.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// An image without pixels.
    EmptyImage {
        /// Height, width and channels.
        shape: [usize; 3],
    },
    /// A buffer too small for its image.
    Buffer {
        /// Bytes of the buffer.
        bytes: usize,
        /// Height, width and channels of the image.
        shape: [usize; 3],
        /// Bytes from row to row.
        stride: usize,
    },
    /// Sides that are not multiples of the token side.
    PartialTokens {
        /// Height and width.
        size: [usize; 2],
        /// The token side.
        token: usize,
    },
    /// A grid with an empty side, or with more tokens than 32 bits count.
    Grid {
        /// Frames, rows and columns in tokens.
        shape: [usize; 3],
    },
    /// Tokens wider than can be compared.
    WideToken {
        /// Bytes of a pixel row of a token.
        bytes: usize,
        /// The most that is possible.
        most: usize,
    },
    /// An image that is not RGB.
    Channels {
        /// How many it has.
        found: usize,
    },
    /// A size that can't be resized from or to.
    Resize {
        /// Height and width of the image.
        from: [usize; 2],
        /// Height and width that it was to get.
        to: [usize; 2],
    },
    /// Padding to a smaller size.
    Pad {
        /// Height and width of the image.
        from: [usize; 2],
        /// Height and width that it was to get.
        to: [usize; 2],
    },
    /// A row format out of range.
    RowFormat {
        /// Side of a patch in pixels.
        patch: usize,
        /// Patches along the side of a token.
        merge: usize,
        /// Copies of the frame.
        frames: usize,
    },
    /// Kept tokens that are empty, not ascending, or outside the grid.
    Keep {
        /// How many were given.
        kept: usize,
        /// Tokens of the grid.
        total: usize,
    },
    /// An output too small for the patches.
    Output {
        /// Values that it has room for.
        found: usize,
        /// Values that are needed.
        needed: usize,
    },
    /// Sources that are not one token index for every token.
    Source {
        /// How many were given.
        found: usize,
        /// Tokens of the grid.
        total: usize,
    },
    /// A threshold that is NaN or outside [0, 1].
    Threshold {
        /// What was given.
        found: f64,
    },
    /// A share of tokens to drop that is NaN or outside [0, 1].
    Skip {
        /// What was given.
        found: f64,
    },
    /// A threshold above 0 for a method that compares for equality only.
    ExactMethod {
        /// The method.
        method: &'static str,
        /// What was given.
        threshold: f64,
    },
    /// A name that is not one of the known ones.
    Unknown {
        /// What it names.
        kind: &'static str,
        /// What was given.
        found: String,
        /// The known names.
        expected: &'static [&'static str],
    },
    /// A format of finished patches whose runs do not fit its rows.
    Runs {
        /// Values of a row.
        row: usize,
        /// Runs of compared values.
        runs: usize,
        /// Values that they compare.
        compared: usize,
    },
    /// A grid of patches that is not made of whole tokens.
    PatchGrid {
        /// Frames, rows and columns in patches.
        shape: [usize; 3],
        /// Patches along the side of a token.
        merge: usize,
    },
    /// A grid that asks for more patches than are left.
    GridPatches {
        /// Frames, rows and columns in patches.
        shape: [usize; 3],
        /// The patches that are left for it.
        left: usize,
        /// The patches of all grids.
        found: usize,
    },
    /// Grids that ask for fewer patches than there are.
    Patches {
        /// The patches that there are.
        found: usize,
        /// The patches that the grids ask for.
        needed: usize,
    },
    /// A NaN or infinity among the compared values.
    NotFinite {
        /// The patch that holds it.
        patch: usize,
    },
    /// A mask that does not fit the grid or the number of tokens.
    Mask {
        /// Tokens that the mask keeps.
        kept: usize,
        /// Places of the mask.
        places: usize,
        /// Tokens that were given.
        tokens: usize,
    },
    /// A mask that drops the first token of a frame, which is always kept.
    FirstDropped,
    /// A method whose decisions can't be repeated from mask and kept tokens.
    Undecodable {
        /// The method.
        method: &'static str,
    },
    /// Tokens chosen in open loop above threshold 0, which can't be decoded.
    OpenLoop {
        /// The threshold.
        threshold: f64,
    },
    /// A method that needs a whole image, for a part of one.
    WholeImagesOnly {
        /// The method.
        method: &'static str,
    },
    /// More values than can be counted.
    TooMany,
    /// There is not enough memory.
    Memory {
        /// Bytes that could not be allocated.
        bytes: usize,
    },
    /// The caller ended the call; see [`Stop`](crate::parallel::Stop).
    Stopped,
    /// What is wrong with one of several images.
    Image {
        /// Its index.
        index: usize,
        /// What is wrong with it.
        error: Box<Self>,
    },
}

impl fmt::Display for Error {
    #[allow(clippy::too_many_lines)] // One text for each variant.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyImage { shape: [height, width, channels] } => write!(
                f,
                "the image is {height} x {width} x {channels} (height x width x channels); expected no empty side"
            ),
            Self::Buffer { bytes, shape: [height, width, channels], stride } => write!(
                f,
                "{bytes} bytes with rows {stride} bytes apart can't hold an image of {height} x {width} x {channels}"
            ),
            Self::PartialTokens { size: [height, width], token } => write!(
                f,
                "the image is {height} x {width} (height x width); expected multiples of the token side, {token} \
                 pixels"
            ),
            Self::Grid { shape: [frames, rows, cols] } => write!(
                f,
                "the token grid is {frames} x {rows} x {cols} (frames x rows x cols); expected no empty side and a \
                 product below 2**32"
            ),
            Self::WideToken { bytes, most } => {
                write!(f, "a pixel row of a token is {bytes} bytes; expected at most {most}")
            }
            Self::Channels { found } => write!(f, "the image has {found} channels; expected 3"),
            Self::Resize { from, to } => write!(
                f,
                "can't resize {} x {} to {} x {} (height x width); expected sides from 1 to 2**28",
                from[0], from[1], to[0], to[1]
            ),
            Self::Pad { from, to } => write!(
                f,
                "can't pad {} x {} to {} x {} (height x width); expected a larger size",
                from[0], from[1], to[0], to[1]
            ),
            Self::RowFormat { patch, merge, frames } => write!(
                f,
                "patch {patch}, merge {merge}, frames {frames}; expected 1 to 1024 each, and one frame where channels \
                 come last"
            ),
            Self::Keep { kept, total } => write!(
                f,
                "the {kept} kept tokens do not ascend from 0 to {} at most; expected at least one, each once, in order",
                total.saturating_sub(1)
            ),
            Self::Output { found, needed } => {
                write!(f, "the output has {found} values; expected at least {needed}")
            }
            Self::Source { found, total } => {
                write!(f, "source has {found} entries; expected {total} token indices")
            }
            Self::Threshold { found } => write!(
                f,
                "threshold is {found}; expected a number from 0 to 1 (a fraction of full scale, 0 = lossless)"
            ),
            Self::Skip { found } => {
                write!(f, "the share of each component to drop is {found}; expected a number from 0 to 1")
            }
            Self::ExactMethod { method, threshold } => write!(
                f,
                "threshold is {threshold}, but method '{method}' compares for equality only; expected 0"
            ),
            Self::Unknown { kind, found, expected } => {
                write!(f, "{kind} is {found:?}; expected one of ")?;
                for (i, name) in expected.iter().enumerate() {
                    write!(f, "{}'{name}'", if i == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::Runs { row, runs, compared } => {
                write!(
                    f,
                    "a row of {row} values with {runs} runs can't be compared {compared} values at a time"
                )
            }
            Self::PatchGrid { shape: [frames, height, width], merge } => write!(
                f,
                "the grid ({frames}, {height}, {width}) is in patches; expected height and width in multiples of {merge}"
            ),
            Self::GridPatches { shape: [frames, height, width], left, found } => write!(
                f,
                "the grid ({frames}, {height}, {width}) asks for more patches than the {left} left of {found}"
            ),
            Self::Patches { found, needed } => {
                write!(f, "there are {found} patches; the grids ask for {needed}")
            }
            Self::NotFinite { patch } => {
                write!(f, "there is a NaN or an infinity in patch {patch}; expected finite values only")
            }
            Self::Mask { kept, places, tokens } => write!(
                f,
                "the mask keeps {kept} of {places} tokens, but there are {tokens} tokens; expected one for every kept \
                 place"
            ),
            Self::FirstDropped => f.write_str("the mask drops token (0, 0) of a frame; expected it kept"),
            Self::Undecodable { method } => {
                write!(f, "{method} can't be decoded from mask and tokens; use the selection's source")
            }
            Self::OpenLoop { threshold } => write!(
                f,
                "open loop at threshold {threshold} can't be decoded from mask and tokens; use the selection's source"
            ),
            Self::WholeImagesOnly { method } => write!(f, "{method} looks at whole images"),
            Self::TooMany => f.write_str("the images have more values than can be counted"),
            Self::Memory { bytes } => write!(f, "out of memory: {bytes} bytes could not be allocated"),
            Self::Stopped => f.write_str("the call was stopped between two images"),
            Self::Image { index, error } => write!(f, "image {index}: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Image { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl Error {
    /// This error, attributed to the image with that index.
    pub(crate) fn of_image(self, index: usize) -> Self {
        Self::Image { index, error: Box::new(self) }
    }

    /// The same error with its image index moved up by `count`.
    pub(crate) fn after(self, count: usize) -> Self {
        match self {
            Self::Image { index, error } => Self::Image { index: index + count, error },
            other => other,
        }
    }
}

/// The result of everything that checks its input.
pub type Result<T> = std::result::Result<T, Error>;
