//! Twins of the portable kernels in hand-written instructions: the same names, the same bits.
//!
//! `build.rs` chooses by the target's name. Each function here gives `None`, and has written nothing that counts, where there is
//! no twin for its arguments: the caller then goes on with the portable body.

#[cfg(nfm_kernels = "armv7em")]
mod armv7em;
#[cfg(not(nfm_kernels = "armv7em"))]
#[cfg_attr(nfm_kernels = "none", path = "none.rs")]
mod calls;
#[cfg(nfm_kernels = "armv6m")]
#[path = "armv6m.rs"]
mod scalar;
#[cfg(nfm_kernels = "armv7m")]
#[path = "armv7m.rs"]
mod scalar;
#[cfg(nfm_kernels = "riscv32")]
#[path = "riscv32.rs"]
mod scalar;

#[cfg(nfm_kernels = "armv7em")]
pub(super) use armv7em::{TERM_WORDS, bi_interaction, dense_relu, dot, float_dot, sums};
#[cfg(not(nfm_kernels = "armv7em"))]
pub(super) use calls::{TERM_WORDS, bi_interaction, dense_relu, dot, float_dot, sums};
