//! `XXH64` of Yann Collet, by the specification in <https://github.com/Cyan4973/xxHash>.

use super::{word32, word64};

const P1: u64 = 0x9e37_79b1_85eb_ca87;
const P2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const P3: u64 = 0x1656_67b1_9e37_79f9;
const P4: u64 = 0x85eb_ca77_c2b2_ae63;
const P5: u64 = 0x27d4_eb2f_1656_67c5;

/// `XXH64` with the seed 0.
///
/// # Examples
///
/// ```
/// assert_eq!(embedded_nfm::encode::hash::xx64(b""), 0xef46_db37_51d8_e999);
/// ```
#[must_use]
pub fn xx64(bytes: &[u8]) -> u64 {
    let mut offset = 0;
    let mut hash = P5;
    if bytes.len() >= 32 {
        let mut lanes = [P1.wrapping_add(P2), P2, 0, P1.wrapping_neg()];
        while offset + 32 <= bytes.len() {
            for lane in &mut lanes {
                *lane = round(*lane, word64(bytes, offset));
                offset += 8;
            }
        }
        let [a, b, c, d] = lanes;
        let sum = a.rotate_left(1).wrapping_add(b.rotate_left(7)).wrapping_add(c.rotate_left(12));
        hash = lanes.into_iter().fold(sum.wrapping_add(d.rotate_left(18)), |hash, lane| {
            (hash ^ round(0, lane)).wrapping_mul(P1).wrapping_add(P4)
        });
    }
    hash = hash.wrapping_add(bytes.len() as u64);
    while offset + 8 <= bytes.len() {
        hash = (hash ^ round(0, word64(bytes, offset))).rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
        offset += 8;
    }
    if offset + 4 <= bytes.len() {
        hash ^= u64::from(word32(bytes, offset)).wrapping_mul(P1);
        hash = hash.rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        offset += 4;
    }
    for &byte in bytes.iter().skip(offset) {
        hash = (hash ^ u64::from(byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ hash >> 33).wrapping_mul(P2);
    hash = (hash ^ hash >> 29).wrapping_mul(P3);
    hash ^ hash >> 32
}

#[inline(never)]
fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}
