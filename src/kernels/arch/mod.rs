//! Twins of the portable kernels in hand-written instructions: the same names, the same bits.
//!
//! `build.rs` chooses by the target's name. Each function here gives `None`, and has written nothing that counts, where there is
//! no twin for its arguments: the caller then goes on with the portable body.

#[cfg(nfm_kernels = "armv7em")]
mod armv7em;
#[cfg(not(any(nfm_kernels = "armv7em", nfm_kernels = "riscv32")))]
#[cfg_attr(nfm_kernels = "none", path = "none.rs")]
mod calls;
#[cfg(nfm_kernels = "riscv32")]
mod riscv32;
#[cfg(nfm_kernels = "armv6m")]
#[path = "armv6m.rs"]
mod scalar;
#[cfg(nfm_kernels = "armv7m")]
#[path = "armv7m.rs"]
mod scalar;

#[cfg(nfm_kernels = "armv7em")]
pub(super) use armv7em::{
    TERM_WORDS, bi_interaction_of_ids, bi_interaction_of_nibble_ids, dense_relu, dense_relu_dot, dot,
    float_dot, sums,
};
#[cfg(not(any(nfm_kernels = "armv7em", nfm_kernels = "riscv32")))]
pub(super) use calls::{
    TERM_WORDS, bi_interaction_of_ids, bi_interaction_of_nibble_ids, dense_relu, dense_relu_dot, dot,
    float_dot, sums,
};
#[cfg(nfm_kernels = "riscv32")]
pub(super) use riscv32::{
    TERM_WORDS, bi_interaction_of_ids, bi_interaction_of_nibble_ids, dense_relu, dense_relu_dot, dot,
    float_dot, sums,
};
