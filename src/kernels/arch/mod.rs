//! Twins of the portable kernels in hand-written instructions: the same bits.
//!
//! `build.rs` chooses by the target's name. [`plan`] is their safe side: each function there gives `None`, and has written nothing
//! that counts, where there is no twin for its arguments; the caller then goes on with the portable body.

#[cfg(nfm_kernels = "armv6m")]
#[path = "armv6m.rs"]
mod own;
#[cfg(nfm_kernels = "armv7m")]
#[path = "armv7m.rs"]
mod own;
#[cfg(nfm_kernels = "armv7em")]
#[path = "armv7em.rs"]
mod own;
#[cfg(nfm_kernels = "riscv32")]
#[path = "riscv32.rs"]
mod own;

#[cfg(test)]
#[expect(dead_code, reason = "the kernels alone are tested")]
pub(super) mod halves;
#[cfg(not(nfm_kernels = "armv7em"))]
mod no_dsp;
#[cfg_attr(nfm_kernels = "none", path = "none.rs")]
#[cfg_attr(nfm_kernels = "halves", path = "halves.rs")]
mod plan;
#[cfg(not(any(nfm_kernels = "armv7em", nfm_kernels = "halves", nfm_kernels = "none")))]
mod scalar;
#[cfg(any(nfm_kernels = "armv6m", nfm_kernels = "armv7m"))]
mod thumb;

#[cfg(not(nfm_kernels = "armv7em"))]
pub(super) use no_dsp::{float_dot, sums};
#[cfg(nfm_kernels = "armv7em")]
pub(super) use own::{float_dot, sums};
pub(crate) use plan::{POOLS_ANY_COUNT, Plan, is_native};
pub(super) use plan::{dense_relu, dot};
