//! Quantization: a folded float model and its ranges in, a model of the device library out.

mod fixed;
mod float;
mod nibbles;
mod pack;
mod table;

use embedded_nfm as device;

use crate::{
    calibrate::Ranges,
    float_model::{Activation, FloatModel, Link},
    fold::Folded,
    schema::{Field, FieldKind, Sequence},
};

pub use fixed::fixed;
pub use float::float;
pub use pack::Layout;
pub use table::{Scales, Table};

/// How embeddings are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Embeddings {
    /// Floats.
    F32,
    /// 8-bit codes, a multiplier for each row.
    I8,
    /// 4-bit codes, a multiplier and an offset for each row.
    I4,
    /// 8-bit codes for the rows that are looked up most often in the calibration, 4-bit codes for the others.
    Mixed,
}

/// How the weights of hidden layers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DenseWeights {
    /// Floats.
    F32,
    /// 8-bit codes, a scale for each output.
    I8,
}

/// How wide activations are on the fixed path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Activations {
    /// ±127
    I8,
    /// ±2047 where rows were seen; ±16383 where ranges are bounds, which are wider than they need be.
    I16,
}

/// What a conversion may choose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Storage of embeddings.
    pub embeddings: Embeddings,
    /// Storage of the hidden layers' weights.
    pub dense: DenseWeights,
    /// Width of activations, on the fixed path.
    pub activations: Activations,
    /// Granularity of the embeddings' scales.
    pub scales: Scales,
    /// Which part of the rows has 8 bits in [`Embeddings::Mixed`].
    pub hot_share: f64,
    /// Packing of the hidden layers' weights, on the fixed path.
    pub layout: Layout,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            embeddings: Embeddings::I8,
            dense: DenseWeights::I8,
            activations: Activations::I16,
            scales: Scales::default(),
            hot_share: 0.1,
            layout: Layout::default(),
        }
    }
}

impl Options {
    /// Whether the model is for the fixed path: all weights are integers.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.embeddings != Embeddings::F32 && self.dense == DenseWeights::I8
    }
}

/// Why a model cannot be quantized: what does not fit, and what to do.
pub type Refusal = String;

/// Quantizes and emits a model: the bytes of a `.nfm` file, and how many of them each part takes.
///
/// # Errors
///
/// Names the part that no legal code can hold, and the remedy.
pub fn quantize(
    name: &str,
    model: &FloatModel,
    folded: &Folded,
    ranges: &Ranges,
    options: Options,
) -> Result<(Vec<u8>, Sizes), Refusal> {
    if options.is_fixed() {
        fixed(name, model, folded, ranges, options)
    } else {
        float(name, model, folded, options)
    }
}

/// Bytes of a model's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Sizes {
    /// Embedding rows.
    pub embeddings: usize,
    /// First order, and row multipliers.
    pub linear: usize,
    /// Hidden layers and head.
    pub dense: usize,
    /// Prefix, manifest and padding.
    pub manifest: usize,
    /// Encoders of raw values.
    pub encoders: usize,
    /// All.
    pub total: usize,
}

impl Sizes {
    /// Of a model for the fixed path whose blob has `total` bytes.
    #[must_use]
    pub fn of_fixed(parts: &device::FixedParts<'_>, total: usize) -> Self {
        let (embeddings, rows) = match parts.table {
            device::Table::I8(table) => (table.codes.len(), size_of_val(table.headers)),
            device::Table::I4(table) => {
                let rows = size_of_val(table.headers) + size_of_val(table.hot);
                (table.codes.len() + size_of_val(table.nibbles), rows)
            }
        };
        let layer = |layer: &device::FixedLayer<'_>| {
            let weights = match layer.weights {
                device::Weights::Scalar(codes) => codes.len(),
                device::Weights::Dsp { words, .. } => size_of_val(words),
            };
            weights + size_of_val(layer.bias) + size_of_val(layer.slopes) + size_of_val(layer.multipliers)
        };
        let dense = size_of_val(parts.head) + parts.layers.iter().map(layer).sum::<usize>();
        let linear = rows + size_of_val(parts.dense_inputs.words);
        Self::of(embeddings, linear, dense, parts.info.encoders.len(), total)
    }

    /// Of a model for the f32 path whose blob has `total` bytes.
    #[must_use]
    pub fn of_f32(parts: &device::F32Parts<'_>, total: usize) -> Self {
        let (embeddings, rows) = match parts.table {
            device::F32Table::F32 { linear, embeddings } => (size_of_val(embeddings), size_of_val(linear)),
            device::F32Table::I8 { table, .. } => (table.codes.len(), size_of_val(table.headers)),
        };
        let layer = |layer: &device::F32Layer<'_>| {
            let weights = match layer.weights {
                device::F32Weights::F32(weights) => size_of_val(weights),
                device::F32Weights::I8 { codes, scales } => codes.len() + size_of_val(scales),
            };
            weights + size_of_val(layer.bias) + size_of_val(layer.slopes)
        };
        let dense = size_of_val(parts.head) + parts.layers.iter().map(layer).sum::<usize>();
        let linear = rows + size_of_val(parts.dense_linear);
        Self::of(embeddings, linear, dense, parts.info.encoders.len(), total)
    }

    /// The parts by the names that people see; together they are the whole.
    #[must_use]
    pub const fn parts(self) -> [(&'static str, usize); 5] {
        [
            ("embeddings", self.embeddings),
            ("first order", self.linear),
            ("layers, head", self.dense),
            ("manifest", self.manifest),
            ("encoders", self.encoders),
        ]
    }

    const fn of(embeddings: usize, linear: usize, dense: usize, encoders: usize, total: usize) -> Self {
        let manifest = total - embeddings - linear - dense - encoders;
        Self { embeddings, linear, dense, manifest, encoders, total }
    }
}

/// The input's columns as the device library lists them.
fn fields(fields: &[Field]) -> Vec<device::Field<'_>> {
    fields.iter().map(|field| device::Field { name: &field.name, kind: field_kind(field) }).collect()
}

fn field_kind(field: &Field) -> device::FieldKind {
    let first = field.first;
    match field.kind {
        FieldKind::Id { rows } => device::FieldKind::Id { first, rows },
        FieldKind::Ids { rows } => device::FieldKind::Ids { first, rows },
        FieldKind::Dense => device::FieldKind::Dense,
        FieldKind::Scaled => device::FieldKind::Scaled { row: first },
        FieldKind::Sequence(Sequence { rows, pooling, linear, .. }) => {
            device::FieldKind::Sequence { first, rows, pooling: pooling.into(), linear: linear.into() }
        }
    }
}

/// The nearest integer, as `i32`; `None` when it is beyond.
fn round(x: f64) -> Option<i32> {
    let rounded = x.round();
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
    (rounded.abs() <= f64::from(i32::MAX)).then_some(rounded as i32)
}

/// `factor` with 30 significant bits.
fn rescale(factor: f64) -> Result<device::Rescale, Refusal> {
    let shift = if factor == 0.0 { 0.0 } else { (30.0 - factor.abs().log2().ceil()).min(62.0) };
    if shift < 0.0 {
        return Err(format!("a scale of {factor:e} does not fit 31 bits; scale the target down, or use f32"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in 0..=62")]
    let shift = shift as u8;
    let multiplier = round(factor * f64::from(shift).exp2()).ok_or("a scale does not fit 31 bits")?;
    Ok(device::Rescale { multiplier, shift })
}

/// The link in the device's number type.
fn link<V>(link: Link, number: impl Fn(f64) -> Result<V, Refusal>) -> Result<device::Link<V>, Refusal> {
    Ok(match link {
        Link::Sigmoid => device::Link::Sigmoid,
        Link::Identity => device::Link::Identity,
        Link::Clip { min, max } => device::Link::Clip { min: number(min)?, max: number(max)? },
    })
}

/// The activation in the device's parameter type, and the slopes of a PReLU.
fn activation<S>(
    activation: &Activation,
    parameter: impl Fn(f64) -> Result<S, Refusal>,
) -> Result<(device::Activation<S>, Vec<S>), Refusal> {
    let one = |activation| Ok((activation, Vec::new()));
    match activation {
        Activation::Identity => one(device::Activation::Identity),
        Activation::Relu => one(device::Activation::Relu),
        Activation::LeakyRelu(slope) => one(device::Activation::LeakyRelu { slope: parameter(*slope)? }),
        Activation::PRelu(slopes) => Ok((
            device::Activation::PRelu,
            slopes.iter().map(|slope| parameter(*slope)).collect::<Result<_, _>>()?,
        )),
        Activation::Sigmoid => one(device::Activation::Sigmoid),
        Activation::Tanh => one(device::Activation::Tanh),
        Activation::Elu(alpha) => one(device::Activation::Elu { alpha: parameter(*alpha)? }),
    }
}
