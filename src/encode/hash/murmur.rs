//! `MurmurHash3_x86_32` of Austin Appleby, public domain.

/// `MurmurHash3_x86_32`: scikit-learn's `FeatureHasher` takes it with the seed 0 and as a signed number.
///
/// The bytes come one by one, so that a text may come in parts: `FeatureHasher` hashes `carrier=UA`.
///
/// # Examples
///
/// ```
/// use embedded_nfm::encode::hash::murmur3_32;
///
/// assert_eq!(murmur3_32(b"foo".iter().copied(), 0), 0xf6a5_c420);
/// ```
#[must_use]
pub fn murmur3_32(bytes: impl Iterator<Item = u8>, seed: u32) -> u32 {
    let (mut hash, mut word, mut len) = (seed, 0, 0_u32);
    for byte in bytes {
        word |= u32::from(byte) << (len % 4 * 8);
        len = len.wrapping_add(1);
        if len % 4 == 0 {
            hash = (hash ^ scramble(word)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
            word = 0;
        }
    }
    // 0 for no rest, whose scramble is 0.
    hash ^= scramble(word) ^ len;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

fn scramble(word: u32) -> u32 {
    word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}
