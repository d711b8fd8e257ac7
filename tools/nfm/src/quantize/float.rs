//! The f32 path: floats, with embeddings or layers in 8-bit codes where that was asked for.

use embedded_nfm::{
    Activation, F32Layer, F32Model, F32Parts, F32Table, F32Weights, Fields, Info, QuantTable,
};

use super::{
    DenseWeights, Embeddings, Options, Refusal, Sizes, Table, activation, fields, link,
    pack::{pad_columns, pad_rows},
    table::code,
};
use crate::{float_model::FloatModel, fold::Folded};

/// A hidden layer; the slices of an [`F32Layer`], owned.
struct Layer {
    activation: Activation<f32>,
    bias: Vec<f32>,
    weights: Weights,
    slopes: Vec<f32>,
}

enum Weights {
    F32(Vec<f32>),
    I8 { codes: Vec<i8>, scales: Vec<f32> },
}

/// Narrows for the f32 path and emits the blob.
///
/// # Errors
///
/// When a folded weight is beyond the range of `f32`, or a limit of the format is exceeded.
pub fn float(
    name: &str,
    model: &FloatModel,
    folded: &Folded,
    options: Options,
) -> Result<(Vec<u8>, Sizes), Refusal> {
    if matches!(options.embeddings, Embeddings::I4 | Embeddings::Mixed) {
        return Err("4-bit embeddings are for the fixed path; use --dense i8, or --embeddings i8".into());
    }
    // Rows have any multiplier: nothing here is an integer sum.
    let table = (options.embeddings == Embeddings::I8)
        .then(|| Table::new(model, options.scales, embedded_nfm::MAX_MULTIPLIER));
    let units = input_units(model, table.as_ref());

    let (mut layers, mut units, mut lanes) = (Vec::new(), units, model.dim);
    for layer in &folded.layers {
        let weights = scaled(&layer.dense.weights, &units);
        let outputs = layer.dense.bias.len();
        let weights = match options.dense {
            DenseWeights::F32 => Weights::F32(pad_columns(&narrow(&weights)?, units.len(), lanes)),
            DenseWeights::I8 => codes(&weights, units.len(), lanes)?,
        };
        let (activation, slopes) = activation(&layer.activation, narrow_one)?;
        layers.push(Layer { activation, bias: narrow(&layer.dense.bias)?, weights, slopes });
        (units, lanes) = (vec![1.0; outputs], outputs);
    }
    let head = pad_columns(&narrow(&scaled(&folded.head, &units))?, units.len(), lanes);

    let fields = fields(&model.fields);
    let dense_linear = narrow(&model.dense_linear)?;
    let embeddings = match &table {
        None => (pad_rows(&model.embeddings, model.dim), Vec::new()),
        Some(table) => (Vec::new(), pad_rows(&table.codes, model.dim)),
    };
    let parts = F32Parts {
        info: Info {
            name,
            rows: u32::try_from(model.rows()).map_err(|_| "more than 2³² rows")?,
            dim: u16::try_from(model.dim).map_err(|_| "more than 65535 lanes")?,
            max_active: model.max_active,
            fields: Fields::Listed(&fields),
            encoders: &[],
        },
        table: match &table {
            None => F32Table::F32 { linear: &model.linear, embeddings: &embeddings.0 },
            Some(table) => F32Table::I8 {
                table: QuantTable { headers: &table.headers, codes: &embeddings.1 },
                linear_scale: narrow_one(table.linear_scale)?,
            },
        },
        dense_linear: &dense_linear,
        layers: layers.iter().map(Layer::borrow).collect(),
        head: &head,
        bias: narrow_one(folded.bias)?,
        link: link(model.link, narrow_one)?,
    };
    emit(parts)
}

/// What one unit of each input of the first layer is worth.
fn input_units(model: &FloatModel, table: Option<&Table>) -> Vec<f64> {
    let z = match table {
        None => vec![1.0; model.dim],
        Some(table) => table.lanes.iter().map(|lane| lane * lane).collect(),
    };
    z.into_iter().chain(model.dense_linear.iter().map(|_| 1.0)).collect()
}

/// `[out, in]` weights with each column in its input's unit.
fn scaled(weights: &[f64], units: &[f64]) -> Vec<f64> {
    weights.iter().zip(units.iter().cycle()).map(|(weight, unit)| weight * unit).collect()
}

/// A scale for each output.
fn codes(weights: &[f64], inputs: usize, lanes: usize) -> Result<Weights, Refusal> {
    let rows = weights.chunks_exact(inputs);
    let scales: Vec<f64> = rows
        .clone()
        .map(|row| row.iter().map(|w| w.abs()).fold(0.0, f64::max) / 127.0)
        .map(|scale| if scale > 0.0 { scale } else { 1.0 })
        .collect();
    let codes: Vec<i8> =
        rows.zip(&scales).flat_map(|(row, scale)| row.iter().map(move |w| code(w / scale))).collect();
    Ok(Weights::I8 { codes: pad_columns(&codes, inputs, lanes), scales: narrow(&scales)? })
}

fn emit(parts: F32Parts<'_>) -> Result<(Vec<u8>, Sizes), Refusal> {
    let model = F32Model::new(parts).map_err(|e| e.to_string())?;
    let mut blob = vec![0; model.encoded_len().map_err(|e| e.to_string())?];
    let total = model.emit(&mut blob).map_err(|e| e.to_string())?;
    let sizes = Sizes::of_f32(model.parts(), total);
    Ok((blob, sizes))
}

impl Layer {
    fn borrow(&self) -> F32Layer<'_> {
        F32Layer {
            activation: self.activation,
            bias: &self.bias,
            weights: match &self.weights {
                Weights::F32(weights) => F32Weights::F32(weights),
                Weights::I8 { codes, scales } => F32Weights::I8 { codes, scales },
            },
            slopes: &self.slopes,
        }
    }
}

fn narrow(values: &[f64]) -> Result<Vec<f32>, Refusal> {
    values.iter().map(|value| narrow_one(*value)).collect()
}

fn narrow_one(value: f64) -> Result<f32, Refusal> {
    #[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest f32 is what is asked for")]
    let narrow = value as f32;
    if narrow.is_finite() {
        Ok(narrow)
    } else {
        Err(format!("a folded weight is {value}, beyond the range of f32"))
    }
}
