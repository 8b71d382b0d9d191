//! Fingerprints are those of the xxHash library, on every machine.

use pixelprune::ImageView;
use pixelprune::internals::hash_tokens;

/// The expected numbers are `xxhash.xxh3_64_intdigest` of a token's bytes, row-major.
#[test]
fn tokens_of_every_length_class_have_their_published_hash() {
    let pixels: Vec<u8> = (0..32 * 32 * 3u32).map(|i| (i * i + 7 * i) as u8).collect();
    let hashes = |height, width, channels, token| {
        hash_tokens(ImageView::new(&pixels, height, width, channels, width * channels).unwrap(), token)
            .unwrap()
    };
    assert_eq!(hashes(4, 8, 3, 4), [0x631e_c6d5_15a9_cda6, 0x6d00_edc1_e10c_3d2d]);
    assert_eq!(hashes(32, 32, 3, 32), [0x9047_bfbb_c268_0ff4]);
    assert_eq!(hash_tokens(ImageView::new(&[7], 1, 1, 1, 1).unwrap(), 1).unwrap(), [0x4c5c_ca45_d0f4_811f]);
}
