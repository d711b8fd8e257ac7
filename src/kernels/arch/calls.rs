//! The safe side of the twins: what they ask of their arguments is checked here, once a call.
#![expect(unsafe_code, reason = "calls hand-written instructions")]

use super::scalar;
use crate::{
    kernels::bi_interaction::Term,
    model::{BLOCK, FixedLayer, LANES, MAX_WIDTH, Weights},
};

/// Words of a term: its start and its gain.
pub(in crate::kernels) const TERM_WORDS: usize = 2;

/// [`bi_interaction`](crate::kernels::bi_interaction::bi_interaction), if there are terms and not too many.
#[inline(always)]
pub(in crate::kernels) fn bi_interaction(
    codes: &[i8],
    terms: &mut [Term],
    _max_multiplier: u8,
    shift: u8,
    max: u16,
    z: &mut [i16],
) -> Option<()> {
    let last = codes.len().checked_sub(z.len())?;
    let rows_lie_in_codes = terms.iter().all(|&[start, ..]| start as usize <= last);
    let fits =
        !terms.is_empty() && terms.len() <= scalar::MAX_TERMS && is_vector(z, LANES) && rows_lie_in_codes;
    let (terms, z) = (terms.as_ptr_range(), z.as_mut_ptr_range());
    let half = (1 << shift) >> 1;
    // SAFETY: there are 1 to `MAX_TERMS` terms; z is a positive multiple of four halfwords at a multiple of four; no row ends
    // after the codes.
    fits.then(|| unsafe {
        scalar::pool(codes.as_ptr(), terms.start, terms.end, z.start, z.end, shift.into(), max.into(), half);
    })
}

/// [`dense`](crate::kernels::dense::dense) with the rectifier, on [`Weights::Scalar`].
#[inline(always)]
pub(in crate::kernels) fn dense_relu(layer: &FixedLayer<'_>, x: &[i16], y: &mut [i16]) -> Option<()> {
    let Weights::Scalar(codes) = layer.weights else { return None };
    let (bias, shift, max) = (layer.bias, layer.shift.into(), layer.max.into());
    let fits = is_vector(x, BLOCK)
        && is_vector(y, BLOCK)
        && bias.len() == y.len()
        // Below twice MAX_WIDTH both, so the product cannot wrap; `checked_mul` is a call on Armv6-M.
        && (x.len() | y.len()) < 2 * MAX_WIDTH
        && codes.len() == x.len().wrapping_mul(y.len());
    let (x, y) = (x.as_ptr_range(), y.as_mut_ptr_range());
    // SAFETY: x and y are positive multiples of eight halfwords at multiples of four; the lengths of the biases and of the codes
    // follow from theirs.
    fits.then(|| unsafe {
        scalar::relu(codes.as_ptr(), bias.as_ptr(), x.start, x.end, y.start, y.end, shift, max);
    })
}

/// [`dot`](crate::kernels::dense::dot).
#[inline(always)]
pub(in crate::kernels) fn dot(weights: &[i16], x: &[i16]) -> Option<i32> {
    let fits = is_vector(weights, BLOCK) && is_vector(x, BLOCK) && weights.len() == x.len();
    let x = x.as_ptr_range();
    // SAFETY: both are as long, a multiple of eight.
    fits.then(|| unsafe { scalar::dot(weights.as_ptr(), x.start, x.end) })
}

/// There is no twin for [`Weights::Dsp`].
pub(in crate::kernels) const fn sums(_: &[u32], _: &[i16], _: usize) -> Option<[i32; 4]> {
    None
}

/// Whether this is a positive multiple of `block` elements that can be read by words.
#[inline(always)]
fn is_vector(x: &[i16], block: usize) -> bool {
    !x.is_empty() && x.len().is_multiple_of(block) && x.as_ptr().cast::<u32>().is_aligned()
}

/// There is no twin for floats.
pub(in crate::kernels) const fn float_dot(_: &[f32], _: &[f32]) -> Option<[f32; 8]> {
    None
}
