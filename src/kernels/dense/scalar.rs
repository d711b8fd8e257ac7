//! [`Weights::Scalar`](crate::Weights::Scalar): eight outputs together, one input after the other.

use crate::{kernels::rolled, model::BLOCK};

/// `128 · Σ x`: what the offset of the codes adds to every output's sum.
pub(super) fn offset(x: &[i16]) -> i32 {
    // |x| ≤ 2¹⁵ and at most 2¹³ inputs: the product wraps where the sums do, and their difference is right.
    let sum = x.iter().fold(0, |sum, &x| {
        rolled();
        sum + i32::from(x)
    });
    sum.wrapping_mul(128)
}

/// `Σᵢ codes[i, o] · x[i]` of eight outputs, added to `out`. Not inlined: its registers are not spilled around other code.
///
/// # Shapes
///
/// `codes` is `[in, 8]`, `x` is `[in]`.
#[inline(never)]
pub(super) fn block(codes: &[u8], x: &[i16], out: &mut [i32; BLOCK]) {
    let mut sums = *out;
    for (codes, &x) in codes.as_chunks::<BLOCK>().0.iter().zip(x) {
        rolled();
        for (sum, &code) in sums.iter_mut().zip(codes) {
            *sum = sum.wrapping_add(i32::from(code) * i32::from(x));
        }
    }
    *out = sums;
}
