//! The Bi-Interaction pooling of embedding codes.

use super::rolled;
use crate::{
    Q16, features,
    model::{header_linear, header_multiplier},
};

/// One active entry: where its row starts in the codes, and what the codes are multiplied with.
///
/// The gain is the row multiplier; in a sample with values it is row multiplier · value in [`Q16`].
pub(crate) type Term = [u32; 2];

/// Writes the terms of ids, each a row and without value, and gives the sum of their first-order codes.
///
/// # Ranges
///
/// `rows · lanes < 2³¹`, by `parse`.
#[inline(never)]
pub(crate) fn terms(headers: &[u16], ids: &[u32], lanes: u32, terms: &mut [Term]) -> i32 {
    let mut sum = 0_i32;
    for (&id, term) in ids.iter().zip(terms) {
        rolled();
        let header = headers.get(id as usize).copied().unwrap_or_default();
        sum += header_linear(header);
        *term = [id.wrapping_mul(lanes), header_multiplier(header).cast_unsigned()];
    }
    sum
}

/// Pools the active rows: `z[k] = clamp((Σ_{i<j} e[i, k] · e[j, k] + half) >> shift, ±max)`, with
/// `e[i, k] = gain[i] · codes[i, k]` and `half = 2^shift / 2`.
///
/// The sum over pairs comes from two accumulators a lane, `pairs += e · sum` then `sum += e`: the sum-square identity
/// (He & Chua 2017, eq. 4) without the final `(sum² − Σe²) / 2`, which would need one more accumulator bit.
/// Exact in integers: only the shift rounds.
///
/// # Shapes
///
/// `z` is `[lanes]`, a multiple of four; a term's row is as long, in `codes`.
///
/// # Ranges
///
/// Accumulates in `i32`: exact while `N(N−1)/2 · E² + half < 2³¹` for `N` terms with `|e| ≤ E`, which `parse` enforces from
/// `max_active`, `max_embedding` and `max_value`.
#[inline(always)]
pub(crate) fn bi_interaction(codes: &[i8], terms: &[Term], shift: u8, max: u16, z: &mut [i16]) {
    // Beside twins, this sees samples without entries alone: it is the loop that values need anyway.
    if features::PORTABLE {
        by_blocks(codes, terms, shift, max, z);
    } else {
        by_lanes(codes, terms, 0, shift, max, z);
    }
}

/// As [`bi_interaction`], with gains in [`Q16`]: `e[i, k] = round(gain[i] · codes[i, k])`, ties up.
#[inline(always)]
pub(crate) fn bi_interaction_of_values(codes: &[i8], terms: &[Term], shift: u8, max: u16, z: &mut [i16]) {
    by_lanes(codes, terms, Q16::FRACTION_BITS, shift, max, z);
}

/// Lanes that [`by_blocks`] keeps in registers together on hosts; on microcontrollers it is four.
const LANES_TOGETHER: usize = 16;

/// Some lanes together, as many as there are registers for.
#[inline(never)]
fn by_blocks(codes: &[i8], terms: &[Term], shift: u8, max: u16, z: &mut [i16]) {
    let wide = if cfg!(target_pointer_width = "32") { 0 } else { z.len() / LANES_TOGETHER * LANES_TOGETHER };
    let Some((blocks, rest)) = z.split_at_mut_checked(wide) else { return };
    for (b, out) in blocks.as_chunks_mut().0.iter_mut().enumerate() {
        block::<LANES_TOGETHER>(codes.get(b * LANES_TOGETHER..).unwrap_or_default(), terms, shift, max, out);
    }
    for (b, out) in rest.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        four(codes.get(wide + b * 4..).unwrap_or_default(), terms, shift, max, out);
    }
}

/// One lane at a time, with gains of `fraction` bits after the point: this is small.
#[inline(never)]
pub(super) fn by_lanes(codes: &[i8], terms: &[Term], fraction: u32, shift: u8, max: u16, z: &mut [i16]) {
    let half = (1_i32 << fraction) >> 1;
    for (lane, z) in z.iter_mut().enumerate() {
        rolled();
        let (mut sum, mut pairs) = (0_i32, (1_i32 << shift) >> 1);
        for &[start, gain] in terms {
            rolled();
            let code = codes.get(start as usize + lane).copied().map_or(0, i32::from);
            // |code · gain| ≤ 2³¹ − 2¹⁵, by the bound on max_embedding · max_value.
            let e = (code * gain.cast_signed() + half) >> fraction;
            pairs += e * sum;
            sum += e;
        }
        *z = clamp(pairs >> shift, max);
    }
}

/// `B` lanes, the first of them at the start of `codes`; their accumulators stay in registers over all terms.
#[inline(always)]
fn block<const B: usize>(codes: &[i8], terms: &[Term], shift: u8, max: u16, out: &mut [i16; B]) {
    let mut sum = [0_i32; B];
    let mut pairs = [(1_i32 << shift) >> 1; B];
    for &[start, gain] in terms {
        rolled();
        let row = codes.get(start as usize..).and_then(<[i8]>::first_chunk::<B>);
        let Some(row) = row else { continue };
        for ((&code, sum), pairs) in row.iter().zip(&mut sum).zip(&mut pairs) {
            add(sum, pairs, code, gain.cast_signed());
        }
    }
    for (out, pairs) in out.iter_mut().zip(pairs) {
        *out = clamp(pairs >> shift, max);
    }
}

/// As [`block`], of four lanes, without loops over them that `opt-level = "s"` would keep.
#[inline(always)]
fn four(codes: &[i8], terms: &[Term], shift: u8, max: u16, out: &mut [i16; 4]) {
    let (mut sum_0, mut sum_1, mut sum_2, mut sum_3) = (0, 0, 0, 0);
    let half = (1_i32 << shift) >> 1;
    let (mut pairs_0, mut pairs_1, mut pairs_2, mut pairs_3) = (half, half, half, half);
    for &[start, gain] in terms {
        let row = codes.get(start as usize..).and_then(<[i8]>::first_chunk::<4>);
        // Each is there. This way out takes fewer registers than to go on would.
        let Some(row) = row else { break };
        let gain = gain.cast_signed();
        add(&mut sum_0, &mut pairs_0, row[0], gain);
        add(&mut sum_1, &mut pairs_1, row[1], gain);
        add(&mut sum_2, &mut pairs_2, row[2], gain);
        add(&mut sum_3, &mut pairs_3, row[3], gain);
    }
    out[0] = clamp(pairs_0 >> shift, max);
    out[1] = clamp(pairs_1 >> shift, max);
    out[2] = clamp(pairs_2 >> shift, max);
    out[3] = clamp(pairs_3 >> shift, max);
}

/// Adds an element to the accumulators of its lane.
#[inline(always)]
fn add(sum: &mut i32, pairs: &mut i32, code: i8, gain: i32) {
    let e = i32::from(code) * gain;
    *pairs += e * *sum;
    *sum += e;
}

/// `value` clamped to ±`max`; `max` is at most 32767.
#[expect(clippy::cast_possible_truncation, reason = "clamped to the range of i16 just before")]
pub(crate) fn clamp(value: i32, max: u16) -> i16 {
    value.clamp(-i32::from(max), i32::from(max)) as i16
}
