//! Scores Neural Factorization Machines on microcontrollers: no heap, integers only, straight out of flash.
//!
//! ```
//! use embedded_nfm::{Model, Prediction, Sample, include_model, scratch_len};
//!
//! static MODEL: &[u8] = include_model!("../tests/golden/tiny.nfm");
//!
//! let model = Model::parse(MODEL)?; // once: everything that can be wrong with the file is found here
//! let mut scratch = [0; scratch_len(MODEL)];
//!
//! let sample = Sample::new(&[0, 3]); // user 0 meets item 1, which is row 3 of the table
//! let score = model.score(&sample, &mut scratch)?;
//! if let Prediction::Probability(p) = model.link().apply(score) {
//!     assert!((p.to_f32() - 0.4307).abs() < 1e-4);
//! }
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! The file is made by the command-line tool `nfm` from a PyTorch checkpoint; `src/blob/FORMAT.md` specifies it.
//!
//! # The model
//!
//! ```text
//! y(x) = w0 + Σ w_i x_i + p · h_L(… h_1(z ++ dense))      z = ½ [(Σ x_i v_i)² − Σ (x_i v_i)²]
//! ```
//!
//! after He & Chua, *Neural Factorization Machines for Sparse Predictive Analytics*, SIGIR 2017, arXiv 1708.05027. Batch norm is
//! folded into the first layer by the converter. Without hidden layers it is a factorization machine.
//!
//! # Vocabulary
//!
//! | paper | name | shape | |
//! |---|---|---|---|
//! | x | *sample*: active `(id, value)` pairs and dense values | N | [`Sample`]; duplicates are legal |
//! | n | `rows` | | rows of the embedding table |
//! | k | `dim` | | embedding width; one coordinate is a *lane* |
//! | w0, w | `bias`, `linear` | 1, \[rows\] | first order |
//! | V | `embeddings` | \[rows, dim\] | padded to [`LANES`] |
//! | `f_BI(V)` = z | `bi_interaction` | \[dim\] | |
//! | `W_l`, `b_l` | `layers[l].weights`, `.bias` | \[out, in\], \[out\] | |
//! | p | `head` | \[last out\] | |
//! | ŷ | `score`, and after the [`Link`] a [`Prediction`] | 1 | |
//!
//! A *blob* is the model file's bytes; `parse` gives the model that lies in it, `emit` writes one.
//!
//! # Two paths
//!
//! [`Model`] computes in integers; [`F32Model`] in floats, for targets with an FPU. A blob is made for one of them.
//!
//! # Guarantees
//!
//! * The blob is untrusted: `parse` refuses whatever is not a model, down to the proof that no sum overflows on any legal sample.
//! * The sample is untrusted: `score` refuses it before anything is computed, and names the entry at fault.
//! * After `parse` returned `Ok` nothing panics. Nothing allocates. The only unsafe code are the kernels in assembly, which check
//!   what they are called with.
//! * On the fixed path the same blob and sample give the same bits on every machine, in whatever order the entries stand; no float
//!   instruction is needed.
//!
//! # Non-guarantees
//!
//! * Time is bounded by `max_active` and the dimensions alone; it is not independent of the sample.
//! * Accuracy beyond what the converter measured: a model can be quantized badly.
//! * The f32 path repeats its bits only with the same compiler and math library, and gives infinities or NaN where its floats
//!   overflow.
//! * The checksum finds accidents, not attackers: sign your updates.
//!
//! # Features
//!
//! On by default is what some models need and others do without; firmware with one known model leaves out the rest, and halves the
//! flash. [`Model::parse`] refuses a model that needs more, and names the [`Feature`]. None changes a result.
//!
//! * `activations`: layers with other functions than the rectifier.
//! * `any-layout`: layers packed for another kind of core, or folded where no kernel of this one does; the converter makes none for
//!   the core that it packs for.
//! * `dense-inputs`: numbers that join z as inputs of the first layer.
//! * `nibbles`: rows of 4 bits, alone or beside rows of 8.
//! * `values`: entries with other values than one.
//! * `names`: the names of the model and its fields; without it they read as empty.
//!
//! Code that is not called needs no feature: [`F32Model`], links, sequences and encoders are whole in every build.
//!
//! Off by default:
//!
//! * `micromath` adds the type `Micromath`, smaller and faster functions for [`F32Model::score_with`]. It changes no other result.
//!
//! The minimum supported Rust version is `rust-version` in `Cargo.toml`. Targets are little-endian.
#![no_std]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::std_instead_of_core,
    clippy::alloc_instead_of_core,
    clippy::print_stdout,
    clippy::large_stack_arrays
)]

#[cfg(target_endian = "big")]
compile_error!("embedded-nfm reads little-endian weights in place: big-endian targets are not supported");

#[cfg(test)]
extern crate std;

mod blob;
pub mod encode;
mod error;
mod features;
mod fixed;
mod kernels;
mod link;
mod model;
mod sample;
mod score;
mod sequences;

pub use blob::{ALIGNMENT, Aligned, Arithmetic, MAGIC, PREFIX_BYTES, VERSION, scratch_len};
pub use error::{EmitError, NotRepresentable, ParseError, Quantity, ScoreError};
pub use features::Feature;
pub use fixed::{Q16, Q31, Rescale};
#[cfg(feature = "micromath")]
pub use kernels::float::Micromath;
pub use kernels::float::{Libm, Math};
pub use link::{Link, Prediction};
pub use model::{
    Activation, BLOCK, DenseInput, DenseInputs, F32Layer, F32Model, F32Parts, F32Table, F32Weights, Field,
    FieldKind, Fields, FixedLayer, FixedParts, Info, LANES, MAX_LAYERS, MAX_MULTIPLIER, MAX_WIDTH, Model,
    NIBBLE_LANES, NibbleTable, Pooling, QuantTable, Table, Weights, nibble_header, row_header,
};
pub use sample::{Sample, SampleBuf, Sequence};
