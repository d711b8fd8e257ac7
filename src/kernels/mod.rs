//! The arithmetic. Kernels trust their arguments: `parse` proved every bound, `score` checked every length.
//!
//! The integer kernels hold no float operation, which the lint below proves; [`float`] is the f32 path.
#![deny(clippy::float_arithmetic)]

mod arch;
pub(crate) mod bi_interaction;
pub(crate) mod dense;
pub(crate) mod exp;
pub(crate) mod float;
pub(crate) mod nibbles;
pub(crate) mod sequences;

pub(crate) use arch::{POOLS_ANY_COUNT, Plan, is_native};

/// In the body of a loop, keeps it from being unrolled on the cores where flash is scarce: 50 to 200 bytes less for two or three
/// instructions a turn.
#[inline(always)]
pub(crate) fn rolled() {
    #[cfg(target_pointer_width = "32")]
    core::hint::black_box(());
}

/// [`rolled`] for loops over an array, whose length would be known.
#[inline(always)]
pub(crate) fn of_unknown_length<T>(elements: &[T]) -> &[T] {
    #[cfg(target_pointer_width = "32")]
    let elements = core::hint::black_box(elements);
    elements
}

/// Fills activations with zeros, not by a call.
#[inline(always)]
pub(crate) fn zero(x: &mut [i16]) {
    for x in x {
        rolled();
        *x = 0;
    }
}

/// The `n`-th piece of `len` elements; not by `chunks_exact`, which divides.
pub(crate) fn nth<T>(elements: &[T], len: usize, n: usize) -> &[T] {
    elements.get(n * len..).and_then(|rest| rest.get(..len)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
