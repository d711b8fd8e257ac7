//! The Bi-Interaction pooling of 4-bit rows, and of 8-bit rows among them.

use super::{bi_interaction::clamp, rolled};
use crate::Q16;

/// One active entry: where its row starts, and the gain and offset of its codes.
///
/// A row of nibbles starts at a word, and the highest bit of its start is set; a hot row starts at a code. In a sample with
/// values, gain and offset are multiplied with the value and have 16 fraction bits.
pub(crate) type NibbleTerm = [u32; TERM_WORDS];

/// Words of scratch that an active entry takes, here and at most in any other pooling.
pub(crate) const TERM_WORDS: usize = 3;

/// The bit of a term's start that says that the row is one of nibbles.
pub(crate) const NIBBLES: u32 = 1 << 31;

/// As [`bi_interaction`](super::bi_interaction::bi_interaction) with `e[i, k] = gain[i] · codes[i, k] + offset[i]`, rounded
/// (ties up) when `values` says that both have 16 fraction bits.
///
/// # Shapes
///
/// `z` is `[lanes]`, a multiple of four. A hot row has as many codes; a row of nibbles has a word for each eight lanes.
///
/// # Ranges
///
/// As there; and `|gain · code + offset| + 2¹⁵ < 2³¹` with values.
pub(crate) fn bi_interaction(
    codes: &[i8],
    nibbles: &[u32],
    terms: &[NibbleTerm],
    values: bool,
    shift: u8,
    max: u16,
    z: &mut [i16],
) {
    for (lane, z) in z.iter_mut().enumerate() {
        let (mut sum, mut pairs) = (0_i32, (1_i32 << shift) >> 1);
        for &[start, gain, offset] in terms {
            rolled();
            let e = code(codes, nibbles, start, lane) * gain.cast_signed() + offset.cast_signed();
            let e = if values { (e + (1 << 15)) >> Q16::FRACTION_BITS } else { e };
            pairs += e * sum;
            sum += e;
        }
        *z = clamp(pairs >> shift, max);
    }
}

/// The code of one lane.
#[inline(always)]
fn code(codes: &[i8], nibbles: &[u32], start: u32, lane: usize) -> i32 {
    if start & NIBBLES == 0 {
        return codes.get(start as usize + lane).copied().map_or(0, i32::from);
    }
    let word = nibbles.get((start & !NIBBLES) as usize + lane / 8).copied().unwrap_or_default();
    // Lanes 0 1 4 5 2 3 6 7 from the lowest bits on: bits 1 and 2 of the lane change places.
    let position = (lane & 1) | ((lane & 2) << 1) | ((lane & 4) >> 1);
    ((word >> (4 * position)) & 15).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lane_has_its_nibble() {
        for (position, lane) in crate::NIBBLE_LANES.into_iter().enumerate() {
            assert_eq!(code(&[], &[9 << (4 * position)], NIBBLES, lane), 9);
            assert_eq!(code(&[], &[0, 9 << (4 * position)], NIBBLES, lane + 8), 9);
        }
    }
}
