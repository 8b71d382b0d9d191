//! What can be wrong with an input.

use std::fmt;

/// Why an input was refused. Each variant carries what was found and what was needed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A size, stride or count does not fit the buffer it describes.
    Shape(String),
    /// A threshold that is NaN or outside [0, 1], or that the method does not take.
    Threshold(String),
    /// A name that is not one of the known ones.
    Unknown {
        /// The argument that was given.
        argument: &'static str,
        /// What was given.
        found: String,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// A NaN or infinity among the compared values.
    NotFinite {
        /// The row of `pixel_values` that holds it.
        row: usize,
    },
    /// The request cannot be answered from what it was given.
    Undecodable(String),
    /// There is not enough memory.
    Memory {
        /// The bytes that could not be had.
        bytes: usize,
    },
    /// The caller wanted the call to end; see [`Stop`](crate::parallel::Stop).
    Stopped,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape(text) | Self::Threshold(text) | Self::Undecodable(text) => f.write_str(text),
            Self::Unknown { argument, found, expected } => {
                write!(f, "{argument} is {found:?}; expected one of {expected}")
            }
            Self::NotFinite { row } => {
                write!(f, "pixel_values has a NaN or an infinity in row {row}; expected finite values only")
            }
            Self::Memory { bytes } => write!(f, "out of memory: {bytes} bytes could not be allocated"),
            Self::Stopped => f.write_str("the call was stopped between two images"),
        }
    }
}

impl std::error::Error for Error {}

/// An error, and the index of the image that it is about.
pub type Failure = (usize, Error);

/// The result of everything that checks its input.
pub type Result<T> = std::result::Result<T, Error>;
