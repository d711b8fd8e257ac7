//! FNV-1a of Fowler, Noll and Vo: xor a byte, multiply by a prime.

/// FNV-1a with 32 bits.
///
/// # Examples
///
/// ```
/// assert_eq!(embedded_nfm::encode::hash::fnv1a_32(b"foobar"), 0xbf9c_f968);
/// ```
#[must_use]
pub fn fnv1a_32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash: u32, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// FNV-1a with 64 bits.
///
/// # Examples
///
/// ```
/// assert_eq!(embedded_nfm::encode::hash::fnv1a_64(b"foobar"), 0x8594_4171_f739_67e8);
/// ```
#[must_use]
pub fn fnv1a_64(bytes: &[u8]) -> u64 {
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}
