//! Fingerprints: XXH3-64, seed 0, of a token's bytes in row-major height-width-channel order.

use crate::error::Result;
use crate::image::ImageView;
use crate::memory;
use crate::metric::Budget;
use crate::select::tokens::{ImageTokens, Tokens};
use crate::simd::Level;

/// The fingerprint of every token of an image, row-major.
pub fn hash_tokens(image: ImageView, token: usize) -> Result<Vec<u64>> {
    let tokens = ImageTokens::new(image, token, Budget::Equal, Level::portable())?;
    let mut hashes = memory::filled(0, tokens.grid().total())?;
    for (i, hash) in hashes.iter_mut().enumerate() {
        *hash = tokens.hash(i)?;
    }
    Ok(hashes)
}
