//! The host side of `embedded-nfm`: checkpoints in, checked and quantized models out.
//!
//! The path of the data, one way, each module one step:
//!
//! | module | from | to |
//! |---|---|---|
//! | [`container`] | a file | [`tensors::Tensors`]: named tensors, of whatever |
//! | [`dialect`] | named tensors | [`float_model::FloatModel`]: one graph as data, which scores in `f64` |
//! | [`fold`](mod@fold) | the float model's stages | [`fold::Folded`]: layers and a head, batch norm gone |
//! | [`calibrate`] | rows, or the weights alone | [`calibrate::Ranges`] |
//! | [`quantize`] | all of these | a model of the device library, emitted as bytes |
//! | [`convert`] | a float model | the whole of the last three |
//! | [`model_file`] | a checkpoint or a `.nfm` file | something that scores [`rows`] |
//! | [`inspect`] | a file | what is in it, for people and as JSON |
//! | [`rust_module`] | a `.nfm` file | a Rust module over it, with its fields as constants |
//! | [`evaluate`] | scores | metrics, and differences between models |
//!
//! [`cli`] is the command `nfm` over them. A new container or dialect is one file and one line in its `mod.rs`.

pub mod calibrate;
pub mod cli;
pub mod container;
pub mod convert;
pub mod dialect;
pub mod encoding;
pub mod error;
pub mod evaluate;
mod feature_map;
pub mod float_model;
pub mod fold;
pub mod inspect;
pub mod model_file;
pub mod quantize;
pub mod rows;
pub mod rust_module;
pub mod schema;
pub mod synthetic;
pub mod tensors;
