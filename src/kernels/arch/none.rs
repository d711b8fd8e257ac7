//! Targets without a twin.

use crate::{kernels::bi_interaction::Term, model::FixedLayer};

/// Words of a term.
pub(in crate::kernels) const TERM_WORDS: usize = 2;

pub(in crate::kernels) const fn bi_interaction(
    _: &[i8],
    _: &mut [Term],
    _: u8,
    _: u8,
    _: u16,
    _: &mut [i16],
) -> Option<()> {
    None
}

pub(in crate::kernels) const fn dense_relu(_: &FixedLayer<'_>, _: &[i16], _: &mut [i16]) -> Option<()> {
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
