//! Targets without twins.

use core::marker::PhantomData;

use crate::model::{FixedLayer, FixedParts, Weights};

/// Whether the pooling of ids without values has a twin for any number of them that a model can have.
pub(crate) const POOLS_ANY_COUNT: bool = false;

/// Whether this is the packing that cores without twins are given, for which scalar ones are as good as any.
pub(crate) const fn is_native(weights: &Weights<'_>, _: usize) -> bool {
    matches!(weights, Weights::Scalar(_))
}

/// As the one beside twins, which says what its functions do.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Plan<'a>(PhantomData<&'a [u32]>);

impl<'a> Plan<'a> {
    pub(crate) const EMPTY: Self = Self(PhantomData);

    #[expect(clippy::unused_self, reason = "as beside twins")]
    pub(crate) const fn fill(&mut self, _: &FixedParts<'a>) {}

    pub(crate) const fn pool(&self, _: &[u32], _: &mut [u32], _: &mut [i16]) -> Option<i32> {
        None
    }

    pub(crate) const fn has_last(&self) -> bool {
        false
    }

    pub(crate) const fn last_dot(&self, _: &[i16]) -> Option<i32> {
        None
    }
}

pub(in crate::kernels) const fn dense_relu(_: &FixedLayer<'_>, _: &[i16], _: &mut [i16]) -> Option<()> {
    None
}

pub(in crate::kernels) const fn dot(_: &[i16], _: &[i16]) -> Option<i32> {
    None
}
