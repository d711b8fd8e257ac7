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
    // Without a loop over them, which `opt-level = "s"` would keep.
    let [mut sum_0, mut sum_1, mut sum_2, mut sum_3, mut sum_4, mut sum_5, mut sum_6, mut sum_7] = *out;
    for (codes, &x) in codes.as_chunks::<BLOCK>().0.iter().zip(x) {
        rolled();
        add_product(&mut sum_0, codes[0], x);
        add_product(&mut sum_1, codes[1], x);
        add_product(&mut sum_2, codes[2], x);
        add_product(&mut sum_3, codes[3], x);
        add_product(&mut sum_4, codes[4], x);
        add_product(&mut sum_5, codes[5], x);
        add_product(&mut sum_6, codes[6], x);
        add_product(&mut sum_7, codes[7], x);
    }
    *out = [sum_0, sum_1, sum_2, sum_3, sum_4, sum_5, sum_6, sum_7];
}

#[inline(always)]
fn add_product(sum: &mut i32, code: u8, x: i16) {
    *sum = sum.wrapping_add(i32::from(code) * i32::from(x));
}
