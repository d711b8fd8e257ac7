//! The Bi-Interaction of groups: each a run of entries that is pooled to one embedding first.

use super::{
    bi_interaction::clamp,
    nibbles::{NibbleTerm, code},
    rolled,
};
use crate::{Pooling, Q16, Sequence};

/// Lanes that are pooled together, so that a group's divisor is computed once for them.
const LANES_TOGETHER: usize = 4;

/// The groups of a sample in the order of its entries: its sequences, and each other entry as one of its own.
pub(crate) fn groups(entries: usize, sequences: &[Sequence]) -> impl Iterator<Item = Sequence> {
    let (mut at, mut rest) = (0, sequences.iter().copied().peekable());
    core::iter::from_fn(move || {
        if let Some(next) = rest.next_if(|next| usize::from(next.start) == at) {
            at = next.entries().end;
            return Some(next);
        }
        let start = u16::try_from(at).ok().filter(|_| at < entries)?;
        at += 1;
        Some(Sequence { start, len: 1, pooling: Pooling::Sum, linear: Pooling::Sum })
    })
}

/// Pools the groups' embeddings: `z[k] = clamp((Σ_{f<g} e[f, k] · e[g, k] + half) >> shift, ±max)`.
///
/// An entry's embedding is as in [`nibbles`](super::nibbles::bi_interaction), for rows of 8 bits with an offset of 0; a group's is
/// [`divide`] of the sum of its entries', or their largest.
///
/// # Ranges
///
/// A group of n entries is at most n times as large as the largest entry, so the bound that `parse` has for as many entries holds.
#[inline(never)]
pub(crate) fn pool(
    codes: &[i8],
    nibbles: &[u32],
    terms: &[NibbleTerm],
    sequences: &[Sequence],
    values: bool,
    (shift, max): (u8, u16),
    z: &mut [i16],
) {
    for (block, z) in z.as_chunks_mut::<LANES_TOGETHER>().0.iter_mut().enumerate() {
        let mut sum = [0_i32; LANES_TOGETHER];
        let mut pairs = [(1_i32 << shift) >> 1; LANES_TOGETHER];
        for group in groups(terms.len(), sequences) {
            let factor = factor(group.pooling, group.len);
            for (lane, (sum, pairs)) in sum.iter_mut().zip(&mut pairs).enumerate() {
                rolled();
                let entries = terms.get(group.entries()).unwrap_or_default();
                let entries = entries.iter().map(|&[start, gain, offset]| {
                    let code = code(codes, nibbles, start, block * LANES_TOGETHER + lane);
                    let e = code * gain.cast_signed() + offset.cast_signed();
                    if values { (e + (1 << 15)) >> Q16::FRACTION_BITS } else { e }
                });
                let e = match group.pooling {
                    Pooling::Max => entries.max().unwrap_or_default(),
                    Pooling::Sum | Pooling::Mean | Pooling::SqrtN => times_factor(entries.sum(), factor),
                };
                *pairs += e * *sum;
                *sum += e;
            }
        }
        for (z, pairs) in z.iter_mut().zip(pairs) {
            *z = clamp(pairs >> shift, max);
        }
    }
}

/// `sum` as the pooling of `n` entries: itself, or divided by n or √n and rounded, ties up.
pub(crate) fn divide(sum: i32, pooling: Pooling, n: u16) -> i32 {
    times_factor(sum, factor(pooling, n))
}

/// What a sum of `n` entries is multiplied with, with 16 fraction bits.
fn factor(pooling: Pooling, n: u16) -> u32 {
    match (pooling, u32::from(n)) {
        (_, 0 | 1) | (Pooling::Sum | Pooling::Max, _) => 1 << 16,
        (Pooling::Mean, n) => ((1 << 16) + n / 2) / n,
        (Pooling::SqrtN, n) => (u32::MAX / n).isqrt(),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the factor is at most one")]
fn times_factor(sum: i32, factor: u32) -> i32 {
    ((i64::from(sum) * i64::from(factor) + (1 << 15)) >> 16) as i32
}

/// As [`divide`].
#[expect(clippy::float_arithmetic, reason = "this is the f32 path")]
pub(crate) fn divide_f32(sum: f32, pooling: Pooling, n: u16) -> f32 {
    match pooling {
        _ if n <= 1 => sum,
        Pooling::Sum | Pooling::Max => sum,
        Pooling::Mean => sum / f32::from(n),
        Pooling::SqrtN => sum / libm::sqrtf(f32::from(n)),
    }
}
