//! Targets without a twin.

use crate::model::{FixedLayer, NibbleTable, QuantTable};

/// Words of a term.
pub(in crate::kernels) const TERM_WORDS: usize = 2;

pub(in crate::kernels) const fn bi_interaction_of_ids(
    _: &QuantTable<'_>,
    _: &[u32],
    _: &mut [u32],
    _: u16,
    _: u8,
    _: u16,
    _: &mut [i16],
) -> Option<i32> {
    None
}

pub(in crate::kernels) const fn bi_interaction_of_nibble_ids(
    _: &NibbleTable<'_>,
    _: &[u32],
    _: &mut [u32],
    _: u16,
    _: u8,
    _: u16,
    _: &mut [i16],
) -> Option<i32> {
    None
}

pub(in crate::kernels) const fn dense_relu(_: &FixedLayer<'_>, _: &[i16], _: &mut [i16]) -> Option<()> {
    None
}

pub(in crate::kernels) const fn dense_relu_dot(_: &FixedLayer<'_>, _: &[i16], _: &[i16]) -> Option<i32> {
    None
}

pub(in crate::kernels) const fn dot(_: &[i16], _: &[i16]) -> Option<i32> {
    None
}

pub(in crate::kernels) const fn sums(_: &[u32], _: &[i16], _: usize) -> Option<[i32; 4]> {
    None
}

pub(in crate::kernels) const fn float_dot(_: &[f32], _: &[f32]) -> Option<[f32; 8]> {
    None
}
