//! The Bi-Interaction pooling of 4-bit rows, and of 8-bit rows among them.

use super::{bi_interaction::clamp, rolled};
use crate::{
    Q16,
    model::{NibbleTable, Place, nibble_header_parts},
};

/// One active entry: where its row starts, and the gain and offset of its codes.
///
/// A row of nibbles starts at a word, and the highest bit of its start is set; a hot row starts at a code. In a sample with
/// values, gain and offset are multiplied with the value and have 16 fraction bits.
pub(crate) type NibbleTerm = [u32; TERM_WORDS];

/// Words of scratch that an active entry takes, here and at most in any other pooling.
pub(crate) const TERM_WORDS: usize = 3;

/// The bit of a term's start that says that the row is one of nibbles.
pub(crate) const NIBBLES: u32 = 1 << 31;

/// The first-order code and the term of a row, without value; `None` when `id` is none.
#[inline(always)]
pub(crate) fn term(table: &NibbleTable<'_>, id: u32, lanes: u32) -> Option<(i32, NibbleTerm)> {
    let (linear, gain, offset) = nibble_header_parts(*table.headers.get(id as usize)?);
    let start = match table.place(id) {
        Place::Hot(row) => row.wrapping_mul(lanes),
        Place::Other(row) => row.wrapping_mul(lanes.div_ceil(8)) | NIBBLES,
    };
    Some((linear, [start, gain.cast_unsigned(), offset.cast_unsigned()]))
}

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
#[inline(never)]
pub(crate) fn bi_interaction(
    codes: &[i8],
    nibbles: &[u32],
    terms: &[NibbleTerm],
    values: bool,
    shift: u8,
    max: u16,
    z: &mut [i16],
) {
    // One loop for both: a shift costs less than a second copy.
    let (half, fraction) = if values { (1 << 15, Q16::FRACTION_BITS) } else { (0, 0) };
    for (lane, z) in z.iter_mut().enumerate() {
        rolled();
        let (mut sum, mut pairs) = (0_i32, (1_i32 << shift) >> 1);
        for &[start, gain, offset] in terms {
            rolled();
            let e = code(codes, nibbles, start, lane) * gain.cast_signed() + offset.cast_signed();
            let e = (e + half) >> fraction;
            pairs += e * sum;
            sum += e;
        }
        *z = clamp(pairs >> shift, max);
    }
}

/// The code of one lane.
#[inline(always)]
pub(super) fn code(codes: &[i8], nibbles: &[u32], start: u32, lane: usize) -> i32 {
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
