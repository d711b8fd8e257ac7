//! The hash functions of the pipelines whose ids a device must repeat, one a file.
//!
//! Each gives exactly what its reference gives, of any bytes. All but [`half_sip_1_3`] are there because a pipeline uses them; that one
//! is the vocabularies' own.

mod buckets;
mod farm;
mod fnv;
mod half_sip;
mod murmur;
mod xx;

pub use buckets::{Hashing, Rule};
pub use farm::fingerprint64;
pub use fnv::{fnv1a_32, fnv1a_64};
pub use half_sip::half_sip_1_3;
pub use murmur::murmur3_32;
pub use xx::xx64;

/// The eight bytes from `offset` on as a number; 0 where they are not there.
#[inline(never)]
fn word64(bytes: &[u8], offset: usize) -> u64 {
    bytes.get(offset..).and_then(<[u8]>::first_chunk).map_or(0, |&chunk| u64::from_le_bytes(chunk))
}

/// The four bytes from `offset` on as a number; 0 where they are not there.
#[inline(never)]
fn word32(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..).and_then(<[u8]>::first_chunk).map_or(0, |&chunk| u32::from_le_bytes(chunk))
}

/// `hash mod divisor`, and 0 for a divisor of 0.
///
/// By 32 steps of one bit instead of a division of 64 bits, which is a function of its own on 32-bit cores.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the halves of a 64-bit number are what is wanted")]
pub fn remainder(hash: u64, divisor: u32) -> u32 {
    let Some(mut rest) = ((hash >> 32) as u32).checked_rem(divisor) else {
        return 0;
    };
    let mut low = hash as u32;
    for _ in 0..u32::BITS {
        // rest < divisor, so 2 · rest + 1 minus one divisor is below it again, whether or not the doubling left 32 bits.
        let carry = rest >> 31 != 0;
        rest = rest << 1 | low >> 31;
        low <<= 1;
        if carry || rest >= divisor {
            rest = rest.wrapping_sub(divisor);
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::remainder;

    #[test]
    fn the_remainder_is_that_of_a_division() {
        let hashes =
            [0, 1, 41, u64::MAX, u64::MAX - 1, 1 << 63, 0x1234_5678_9abc_def0, 1 << 32, (1 << 32) - 1];
        let divisors =
            [1, 2, 3, 10, 1000, 65_536, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, u32::MAX - 1, u32::MAX];
        for hash in hashes {
            for divisor in divisors {
                assert_eq!(
                    u64::from(remainder(hash, divisor)),
                    hash % u64::from(divisor),
                    "{hash} mod {divisor}"
                );
            }
            assert_eq!(remainder(hash, 0), 0);
        }
    }
}
