//! Fingerprints: XXH3-64, seed 0, of a token's bytes in row-major height-width-channel order.

use crate::error::Result;
use crate::image::ImageView;
use crate::memory;
use crate::metric::Budget;
use crate::simd::Level;
use crate::tokens::{ImageTokens, Tokens};
use twox_hash::XxHash3_64;

/// The fingerprint of every token of an image, row-major.
pub fn hash_tokens(image: ImageView, token: usize) -> Result<Vec<u64>> {
    let tokens = ImageTokens::new(image, token, Budget::Equal, Level::portable())?;
    let mut hashes = memory::filled(0, tokens.grid().total())?;
    for (i, hash) in hashes.iter_mut().enumerate() {
        *hash = tokens.hash(i)?;
    }
    Ok(hashes)
}

/// The fingerprint of bytes that lie in pieces, `total` in all.
pub(crate) fn of_segments<'a>(segments: impl Iterator<Item = &'a [u8]>, total: usize) -> Result<u64> {
    // Gathering a token costs less than hashing it in pieces: the hash is fastest in one go.
    let mut bytes = memory::with_room(total)?;
    segments.for_each(|segment| bytes.extend_from_slice(segment));
    Ok(XxHash3_64::oneshot(&bytes))
}
