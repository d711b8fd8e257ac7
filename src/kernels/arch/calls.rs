//! The safe side of the twins: what they ask of their arguments is checked here, once a call.
#![expect(unsafe_code, reason = "calls hand-written instructions")]

use super::scalar;
use crate::{
    kernels::{
        bi_interaction::Term,
        nibbles::{self, NIBBLES, NibbleTerm},
    },
    model::{BLOCK, FixedLayer, LANES, MAX_WIDTH, NibbleTable, QuantTable, Weights, saturate},
};

/// Words of a term: its start and its gain.
pub(in crate::kernels) const TERM_WORDS: usize = 2;

/// In the shift of [`scalar::relu`]: its outputs are multiplied with the head, not written. A core's shift reads the lowest byte.
const HEAD: u32 = 1 << 31;

/// [`terms`] and then [`bi_interaction`].
#[inline(always)]
pub(in crate::kernels) fn bi_interaction_of_ids(
    table: &QuantTable<'_>,
    ids: &[u32],
    words: &mut [u32],
    _max_embedding: u16,
    shift: u8,
    max: u16,
    z: &mut [i16],
) -> Option<i32> {
    let (places, _) = words.as_chunks_mut().0.split_at_mut_checked(ids.len())?;
    let sum = terms(table.headers, ids, saturate(z.len()), places)?;
    bi_interaction(table.codes, places, shift, max, z)?;
    Some(sum)
}

/// The terms of ids, and then [`bi_interaction_of_nibbles`].
#[inline(always)]
pub(in crate::kernels) fn bi_interaction_of_nibble_ids(
    table: &NibbleTable<'_>,
    ids: &[u32],
    words: &mut [u32],
    _max_embedding: u16,
    shift: u8,
    max: u16,
    z: &mut [i16],
) -> Option<i32> {
    let (places, _) = words.as_chunks_mut().0.split_at_mut_checked(ids.len())?;
    let sum = nibbles::terms(table, ids, saturate(z.len()), places)?;
    bi_interaction_of_nibbles(table.codes, table.nibbles, places, shift, max, z)?;
    Some(sum)
}

/// [`terms`](crate::kernels::bi_interaction::terms), if there are ids.
#[inline(always)]
fn terms(headers: &[u16], ids: &[u32], lanes: u32, terms: &mut [Term]) -> Option<i32> {
    if ids.is_empty() || terms.len() < ids.len() {
        return None;
    }
    let (ids, terms) = (ids.as_ptr_range(), terms.as_mut_ptr());
    // SAFETY: there is an id or more, and a term for each; headers are as many as the length says.
    let sum = unsafe { scalar::terms(headers.as_ptr(), headers.len(), ids.start, ids.end, lanes, terms) };
    (sum != i32::MIN).then_some(sum)
}

/// [`bi_interaction`](crate::kernels::bi_interaction::bi_interaction), if there are terms and not too many.
#[inline(always)]
fn bi_interaction(codes: &[i8], terms: &[Term], shift: u8, max: u16, z: &mut [i16]) -> Option<()> {
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

/// [`bi_interaction`](crate::kernels::nibbles::bi_interaction) without values, if there are terms.
#[inline(always)]
fn bi_interaction_of_nibbles(
    codes: &[i8],
    nibbles: &[u32],
    terms: &mut [NibbleTerm],
    shift: u8,
    max: u16,
    z: &mut [i16],
) -> Option<()> {
    // How many starts leave room for a row. A slice is shorter than 2³¹, so that adding one cannot wrap.
    let starts = saturate((codes.len() + 1).saturating_sub(z.len()));
    let nibble_starts = saturate((nibbles.len() + 1).saturating_sub(z.len().div_ceil(8))) | NIBBLES;
    let rows_lie_in_tables =
        terms.iter().all(|&[start, ..]| start < if start & NIBBLES == 0 { starts } else { nibble_starts });
    let fits = !terms.is_empty() && is_vector(z, LANES) && rows_lie_in_tables;
    let (terms, z) = (terms.as_mut_ptr_range(), z.as_mut_ptr_range());
    let (codes, nibbles, half) = (codes.as_ptr(), nibbles.as_ptr(), (1 << shift) >> 1);
    let (shift, max) = (shift.into(), max.into());
    // SAFETY: there is a term or more; z is a positive multiple of four halfwords at a multiple of four; no row ends after the
    // codes or the nibbles.
    fits.then(|| unsafe {
        scalar::pool_nibbles(codes, nibbles, terms.start, terms.end, z.start, z.end, shift, max, half);
    })
}

/// [`dense`](crate::kernels::dense::dense) with the rectifier, on [`Weights::Scalar`].
#[inline(always)]
pub(in crate::kernels) fn dense_relu(layer: &FixedLayer<'_>, x: &[i16], y: &mut [i16]) -> Option<()> {
    let codes = codes_that_fit(layer, x, y)?;
    let (bias, x, y) = (layer.bias.as_ptr(), x.as_ptr_range(), y.as_mut_ptr_range());
    let (shift, max) = (layer.shift.into(), layer.max.into());
    // SAFETY: by `codes_that_fit`.
    unsafe { scalar::relu(codes, bias, x.start, x.end, y.start, y.end, shift, max) };
    Some(())
}

/// [`dense_dot`](crate::kernels::dense::dense_dot) with the rectifier, on [`Weights::Scalar`] and without padding.
#[inline(always)]
pub(in crate::kernels) fn dense_relu_dot(layer: &FixedLayer<'_>, x: &[i16], head: &[i16]) -> Option<i32> {
    let codes = codes_that_fit(layer, x, head)?;
    if usize::from(layer.out) != head.len() {
        return None;
    }
    let (bias, x, head) = (layer.bias.as_ptr(), x.as_ptr_range(), head.as_ptr_range());
    let (shift, max) = (u32::from(layer.shift) | HEAD, layer.max.into());
    let (head, head_end) = (head.start.cast_mut(), head.end.cast_mut());
    // SAFETY: by `codes_that_fit`; with HEAD, the head is read, not written.
    Some(unsafe { scalar::relu(codes, bias, x.start, x.end, head, head_end, shift, max) })
}

/// The codes of a layer on [`Weights::Scalar`], if x and y are positive multiples of eight halfwords, at multiples of four, and
/// the lengths of the biases and of the codes follow from theirs.
#[inline(always)]
fn codes_that_fit(layer: &FixedLayer<'_>, x: &[i16], y: &[i16]) -> Option<*const u8> {
    let Weights::Scalar(codes) = layer.weights else { return None };
    let fits = is_vector(x, BLOCK)
        && is_vector(y, BLOCK)
        && layer.bias.len() == y.len()
        // Below twice MAX_WIDTH both, so the product cannot wrap; `checked_mul` is a call on Armv6-M.
        && (x.len() | y.len()) < 2 * MAX_WIDTH
        && codes.len() == x.len().wrapping_mul(y.len());
    fits.then_some(codes.as_ptr())
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
