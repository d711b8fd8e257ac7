//! The fixed path: integer codes for everything, with shifts that are proved not to overflow.

use embedded_nfm::{
    self as device, BLOCK, DenseInput, DenseInputs, Fields, FixedLayer, FixedParts, Info, LANES, MAX_LAYERS,
    MAX_WIDTH, Model, NibbleTable, Q16, QuantTable,
};

use super::{
    Activations, Embeddings, Layout, Options, Refusal, Scales, Sizes, Table, activation, fields, link,
    nibbles::{Nibbles, hottest},
    pack::{Packed, pad_columns, pad_rows},
    rescale, round,
    table::max_embedding,
};
use crate::{
    calibrate::Ranges,
    float_model::FloatModel,
    fold::{Folded, FoldedLayer},
};

/// Ranges seen on rows are widened by this before they become a clamp: a row that is not among them may go further.
///
/// 16 bits have a bit to spare; of 8 bits it would be an eighth of the precision.
const fn headroom(activations: Activations) -> f64 {
    match activations {
        Activations::I8 => 1.25,
        Activations::I16 => 2.0,
    }
}

/// How far beyond the largest magnitude seen a dense input may go before `score` refuses it.
const DENSE_HEADROOM: f64 = 4.0;

/// Bits that z may give up so that its weights are as fine as those of the dense inputs.
const MAX_BALANCE_BITS: u8 = 4;

/// A hidden layer in codes; the slices of a [`FixedLayer`], owned.
struct Layer {
    activation: embedded_nfm::Activation<i16>,
    shift: u8,
    fraction: u8,
    max: u16,
    bias: Vec<i32>,
    out: u16,
    weights: Packed,
    slopes: Vec<i16>,
    multipliers: Vec<i32>,
}

/// Codes of a vector between two stages: what one unit of each is worth, and the largest magnitude.
struct Codes {
    units: Vec<f64>,
    max: u16,
    /// How low `max` may become without cutting anything that was seen, and a quarter more.
    least_max: u16,
}

/// Quantizes for the fixed path and emits the blob.
///
/// # Errors
///
/// Names the part that no legal code can hold, and the remedy.
pub fn fixed(
    name: &str,
    model: &FloatModel,
    folded: &Folded,
    ranges: &Ranges,
    options: Options,
) -> Result<(Vec<u8>, Sizes), Refusal> {
    let limit = match options.activations {
        Activations::I8 => 127,
        Activations::I16 if ranges.rows > 0 => 2047,
        Activations::I16 => 16383,
    };
    check_limits(model, folded, ranges)?;
    let limit_embedding = max_embedding(model.max_active, model.max_value).ok_or_else(|| {
        format!(
            "{} active entries of magnitude up to {} overflow 32 bits in the Bi-Interaction whatever the shift: lower \
             --max-active or --max-value, or use --embeddings f32 --dense f32",
            model.max_active, model.max_value
        )
    })?;
    let table = EmbeddingCodes::new(model, ranges, options, limit_embedding)?;
    let headroom = if ranges.rows > 0 { headroom(options.activations) } else { 1.0 };
    let mut first_max = max_code(limit, model.dim + ranges.dense.len());
    let (shift, dense_inputs, mut codes) =
        input(model, folded, ranges, headroom, &table.lanes(model.dim), first_max)?;

    let mut layers = Vec::new();
    for (index, layer) in folded.layers.iter().enumerate() {
        let outputs = layer.dense.bias.len();
        let next_max = if index + 1 == folded.layers.len() { limit } else { max_code(limit, outputs) };
        let lanes = if index == 0 { model.dim } else { codes.units.len() };
        let sums: Vec<f64> = ranges.sums[index].iter().map(|sum| sum * headroom).collect();
        let (layer, next, input_max) =
            self::layer(layer, &codes, lanes, &sums, headroom, next_max, options.layout)
                .map_err(|problem| format!("hidden layer {index}: {problem}"))?;
        layers.last_mut().map_or(&mut first_max, |before: &mut Layer| &mut before.max).clone_from(&input_max);
        layers.push(layer);
        codes = next;
    }
    let (head, head_unit) = head(&folded.head, &codes);
    let lanes = if layers.is_empty() { model.dim } else { head.len() };
    let head = pad_columns(&head, codes.units.len(), lanes);

    let fields = fields(&model.fields);
    let words: Vec<i32> = dense_inputs.iter().flat_map(|input| input.to_words()).collect();
    let narrow_rows = u32::try_from(model.rows()).map_err(|_| "more than 2³² rows")?;
    let parts = FixedParts {
        info: Info {
            name,
            rows: narrow_rows,
            dim: u16::try_from(model.dim).map_err(|_| "more than 65535 lanes")?,
            max_active: model.max_active,
            fields: Fields::Listed(&fields),
            encoders: &[],
        },
        max_value: q16(model.max_value.max(1.0), "max_value")?,
        max_embedding: table.max_embedding(),
        table: table.borrow(),
        shift,
        max: first_max,
        dense_inputs: DenseInputs { words: &words },
        layers: layers.iter().map(Layer::borrow).collect(),
        head: &head,
        head_scale: rescale(head_unit * 65536.0)?,
        linear_scale: rescale(table.linear_scale() * 65536.0)?,
        bias: q16(folded.bias, "the bias")?,
        link: link(model.link, |x| q16(x, "the clip's end"))?,
    };
    emit(parts)
}

/// Embeddings in codes of either width.
enum EmbeddingCodes {
    I8 { table: Table, padded: Vec<i8> },
    I4(Nibbles),
}

impl EmbeddingCodes {
    fn new(model: &FloatModel, ranges: &Ranges, options: Options, limit: u16) -> Result<Self, Refusal> {
        if options.embeddings == Embeddings::I8 {
            let multiplier = u8::try_from(limit / 128).unwrap_or(device::MAX_MULTIPLIER);
            let table = Table::new(model, options.scales, multiplier);
            let padded = pad_rows(&table.codes, model.dim);
            return Ok(Self::I8 { table, padded });
        }
        if options.scales != Scales::Row {
            return Err("4-bit rows have their own scales; --scales is for --embeddings i8".into());
        }
        let hot = match options.embeddings {
            Embeddings::Mixed if ranges.counts.is_empty() => {
                return Err(
                    "--embeddings mixed needs rows that tell which ids are frequent: give --calibrate".into(),
                );
            }
            Embeddings::Mixed => hottest(&ranges.counts, options.hot_share),
            _ => vec![false; model.rows()],
        };
        Ok(Self::I4(Nibbles::new(model, &hot, limit)))
    }

    /// What one unit of an embedding is worth in each lane.
    fn lanes(&self, dim: usize) -> Vec<f64> {
        match self {
            Self::I8 { table, .. } => table.lanes.clone(),
            Self::I4(table) => vec![table.unit; dim],
        }
    }

    fn linear_scale(&self) -> f64 {
        match self {
            Self::I8 { table, .. } => table.linear_scale,
            Self::I4(table) => table.linear_scale,
        }
    }

    fn max_embedding(&self) -> u16 {
        match self {
            Self::I8 { table, .. } => 128 * u16::from(table.max_multiplier),
            Self::I4(table) => table.max_embedding,
        }
    }

    fn borrow(&self) -> device::Table<'_> {
        match self {
            Self::I8 { table, padded } => {
                device::Table::I8(QuantTable { headers: &table.headers, codes: padded })
            }
            Self::I4(table) => device::Table::I4(NibbleTable {
                headers: &table.headers,
                hot: &table.hot,
                codes: &table.codes,
                nibbles: &table.nibbles,
            }),
        }
    }
}

/// Limits of the format that are told better before than after.
fn check_limits(model: &FloatModel, folded: &Folded, ranges: &Ranges) -> Result<(), Refusal> {
    if folded.layers.len() > MAX_LAYERS {
        return Err(format!("{} hidden layers; the format has at most {MAX_LAYERS}", folded.layers.len()));
    }
    let widest = folded.layers.iter().map(|layer| layer.dense.bias.len()).max().unwrap_or(0);
    let widest = widest.max(model.dim.next_multiple_of(LANES) + model.dense_linear.len());
    if widest > MAX_WIDTH {
        return Err(format!("a layer of width {widest}; the format has at most {MAX_WIDTH}"));
    }
    match ranges.score {
        Some(score) if score * 2.0 > 32767.0 => Err(format!(
            "scores of magnitude {score:.0} were seen, and the fixed path's go to 32767: scale the target down, or use \
             --embeddings f32 --dense f32"
        )),
        _ => Ok(()),
    }
}

fn emit(parts: FixedParts<'_>) -> Result<(Vec<u8>, Sizes), Refusal> {
    let model = Model::new(parts).map_err(|e| e.to_string())?;
    let mut blob = vec![0; model.encoded_len().map_err(|e| e.to_string())?];
    let total = model.emit(&mut blob).map_err(|e| e.to_string())?;
    let sizes = Sizes::of_fixed(model.parts(), total);
    Ok((blob, sizes))
}

impl Layer {
    fn borrow(&self) -> FixedLayer<'_> {
        FixedLayer {
            activation: self.activation,
            shift: self.shift,
            fraction: self.fraction,
            max: self.max,
            bias: &self.bias,
            out: self.out,
            weights: self.weights.borrow(),
            slopes: &self.slopes,
            multipliers: &self.multipliers,
        }
    }
}

/// The largest code that leaves half of an accumulator to the bias: 127 · inputs · max ≤ 2³⁰.
fn max_code(limit: u16, inputs: usize) -> u16 {
    let inputs = inputs.next_multiple_of(LANES).max(1);
    u16::try_from((1_usize << 30) / (127 * inputs)).unwrap_or(u16::MAX).min(limit)
}

/// How low `max` may become when `seen` is the largest code of the rows: a quarter above it. Bounds are not seen, and
/// `headroom` is 1.
fn least_max(seen: f64, headroom: f64, max: u16) -> u16 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in 1..=max")]
    let least = (seen * 1.25).ceil().clamp(1.0, f64::from(max)) as u16;
    if headroom > 1.0 { least } else { max }
}

/// The smallest shift after which `range` is at most `max`.
fn shift_to(range: f64, max: u16) -> u8 {
    (0..=30).find(|shift| range / f64::from(*shift).exp2() <= f64::from(max)).unwrap_or(30)
}

/// Shift of z, the dense inputs, and the codes of both.
fn input(
    model: &FloatModel,
    folded: &Folded,
    ranges: &Ranges,
    headroom: f64,
    lanes: &[f64],
    max: u16,
) -> Result<(u8, Vec<DenseInput>, Codes), Refusal> {
    let squares: Vec<f64> = lanes.iter().map(|lane| lane * lane).collect();
    let live = ranges.z.iter().zip(&squares).filter(|(_, square)| **square > 0.0);
    let largest = live.map(|(z, square)| headroom * z / square).fold(0.0, f64::max);
    let mut shift = shift_to(largest, max);

    // What a column's weights would be in codes of its input: the largest column decides how fine all are.
    let weight = column_magnitudes(folded, model.dim + model.dense_linear.len());
    let z_weight = |shift: u8| {
        let unit = f64::from(shift).exp2();
        weight.iter().zip(&squares).map(|(w, square)| w * square * unit).fold(0.0, f64::max)
    };
    let legal: Vec<f64> = ranges.dense.iter().map(|range| dense_limit(*range, ranges)).collect();
    let finest: Vec<f64> = legal.iter().map(|legal| legal / f64::from(max)).collect();
    let dense_weights = &weight[model.dim..];
    let dense_weight = finest.iter().zip(dense_weights).map(|(unit, w)| unit * w).fold(0.0, f64::max);
    let coarsest = shift + MAX_BALANCE_BITS;
    while dense_weight > z_weight(shift + 1) && shift < coarsest.min(30) {
        shift += 1;
    }

    let mut units: Vec<f64> = squares.iter().map(|square| square * f64::from(shift).exp2()).collect();
    let mut inputs = Vec::new();
    for (index, legal) in legal.iter().enumerate() {
        // Coarser codes where z's weights are the larger ones, but never fewer than eight bits.
        let wanted = if dense_weights[index] > 0.0 { z_weight(shift) / dense_weights[index] } else { 0.0 };
        let unit = wanted.min(legal / f64::from(max.min(255))).max(finest[index]);
        units.push(unit);
        inputs.push(DenseInput {
            max: q16(*legal, &format!("the range of dense input {index}"))?,
            code: rescale(1.0 / (65536.0 * unit))?,
            linear: rescale(model.dense_linear[index])?,
        });
    }
    // A dense input may use every code: none can be cut.
    let seen = if inputs.is_empty() { largest / headroom / f64::from(shift).exp2() } else { f64::from(max) };
    Ok((shift, inputs, Codes { units, max, least_max: least_max(seen, headroom, max) }))
}

/// How large a dense input may be.
fn dense_limit(range: f64, of: &Ranges) -> f64 {
    if of.rows == 0 { range } else { (range * DENSE_HEADROOM).max(1.0 / 256.0) }
}

/// The largest magnitude of a weight in each column of what comes first.
fn column_magnitudes(folded: &Folded, columns: usize) -> Vec<f64> {
    let weights = folded.layers.first().map_or(&folded.head, |layer| &layer.dense.weights);
    let mut largest = vec![0.0_f64; columns];
    for row in weights.chunks_exact(columns.max(1)) {
        row.iter().zip(&mut largest).for_each(|(w, largest)| *largest = largest.max(w.abs()));
    }
    largest
}

/// A hidden layer in codes. `lanes` of its inputs are padded by themselves; `sums` are the ranges before the activation.
fn layer(
    layer: &FoldedLayer,
    codes: &Codes,
    lanes: usize,
    sums: &[f64],
    headroom: f64,
    max: u16,
    layout: Layout,
) -> Result<(Layer, Codes, u16), Refusal> {
    let inputs = codes.units.len();
    let (mut weights, mut bias) = (Vec::new(), Vec::new());
    let (function, mut slopes) = activation(&layer.activation, q13)?;
    let rows: Vec<(Vec<f64>, f64)> = layer
        .dense
        .weights
        .chunks_exact(inputs)
        .zip(&layer.dense.bias)
        .map(|(row, b)| (row.iter().zip(&codes.units).map(|(w, unit)| w * unit).collect(), *b))
        .collect();
    let mut units: Vec<f64> = rows.iter().map(|(row, b)| finest_unit(row, *b)).collect();
    if function.is_homogeneous() {
        coarsen(&mut units, &rows, sums, codes.max, max);
    } else {
        balance(&mut units, &rows);
    }
    for ((row, b), unit) in rows.iter().zip(&units) {
        let codes = |x: f64| if *unit > 0.0 { x / unit } else { 0.0 };
        weights.extend(row.iter().map(|w| codes(*w)));
        bias.push(round(codes(*b)).ok_or("a bias does not fit 32 bits")?);
    }
    let out = u16::try_from(bias.len()).map_err(|_| "more than 65535 outputs")?;
    let weights = pad_columns(&weights, inputs, lanes);
    let width = weights.len() / bias.len();
    bias.resize(bias.len().next_multiple_of(BLOCK), 0);
    let (weights, input_max) =
        Packed::new(&pad_outputs(weights, width), width, layout, codes.max, codes.least_max);
    if !slopes.is_empty() {
        slopes.resize(bias.len(), 0);
    }
    let layer = Layer {
        out,
        activation: function,
        shift: 0,
        fraction: 0,
        max,
        bias,
        weights,
        slopes,
        multipliers: Vec::new(),
    };
    let (layer, codes) = if function.is_homogeneous() {
        shifted(layer, units, sums, headroom)
    } else {
        curved(layer, units, sums)?
    };
    Ok((layer, codes, input_max))
}

/// Rows of zeros up to the device's block.
fn pad_outputs(mut weights: Vec<f64>, width: usize) -> Vec<f64> {
    weights.resize(weights.len().next_multiple_of(width * BLOCK), 0.0);
    weights
}

/// What a unit of an output's sum is worth when its weights take all of ±127; 0 for an output that is always f(0).
fn finest_unit(row: &[f64], bias: f64) -> f64 {
    let largest = row.iter().map(|w| w.abs()).fold(0.0, f64::max);
    // The bias may take a quarter of the accumulator; the weights take at most a half.
    (largest / 127.0).max(bias.abs() / f64::from(1 << 29))
}

/// Gives outputs whose bias is out of proportion to their weights a coarser unit.
///
/// All outputs share one shift. In the finest units a sum that is nearly all bias, as that of a dead output, can be so
/// large that the shift leaves nothing of the others.
fn coarsen(units: &mut [f64], rows: &[(Vec<f64>, f64)], sums: &[f64], input_max: u16, max: u16) {
    // Bits that an activation has beyond those of a weight may go before a weight loses any.
    let slack = 2.0 * f64::from(max) / 127.0;
    let mut needed = 0.0_f64;
    for (((row, _), unit), sum) in rows.iter().zip(&*units).zip(sums) {
        let reach = row.iter().map(|w| w.abs()).sum::<f64>() * f64::from(input_max);
        if *unit > 0.0 {
            needed = needed.max(sum.min(reach * slack) / unit);
        }
    }
    let ceiling = f64::from(max) * f64::from(shift_to(needed, max)).exp2();
    let live = units.iter_mut().zip(sums).filter(|(unit, _)| **unit > 0.0);
    live.for_each(|(unit, sum)| *unit = unit.max(sum / ceiling));
}

/// Gives outputs whose unit is minute beside the largest a coarser one.
///
/// All outputs share the multipliers' shift, so that a unit 2⁻ᵇ of the largest leaves a multiplier 30 − b bits; a code of the
/// row has as many as the square root of both gives it.
fn balance(units: &mut [f64], rows: &[(Vec<f64>, f64)]) {
    let largest = units.iter().copied().fold(0.0, f64::max);
    for (unit, (row, b)) in units.iter_mut().zip(rows) {
        let number = row.iter().map(|w| w.abs()).fold(b.abs(), f64::max);
        *unit = unit.max((number * largest / f64::from(1 << 30)).sqrt());
    }
}

/// Requantization by a shift: the outputs' units differ, and move into the next weights.
fn shifted(mut layer: Layer, units: Vec<f64>, sums: &[f64], headroom: f64) -> (Layer, Codes) {
    let live = sums.iter().zip(&units).filter(|(_, unit)| **unit > 0.0);
    let range = live.map(|(sum, unit)| sum / unit).fold(0.0, f64::max);
    layer.shift = shift_to(range.min(f64::from(i32::MAX)), layer.max);
    layer.bias.iter_mut().for_each(|bias| *bias += (1 << layer.shift) >> 1);
    let unit = f64::from(layer.shift).exp2();
    let least_max = least_max(range / headroom / unit, headroom, layer.max);
    let codes = Codes { units: units.into_iter().map(|u| u * unit).collect(), max: layer.max, least_max };
    (layer, codes)
}

/// Requantization to Q16 for a function that needs the sum itself.
fn curved(mut layer: Layer, units: Vec<f64>, sums: &[f64]) -> Result<(Layer, Codes), Refusal> {
    let largest = units.iter().copied().fold(0.0, f64::max) * 65536.0;
    let shift = rescale(largest)?.shift;
    let multiplier =
        |unit: &f64| round(unit * 65536.0 * f64::from(shift).exp2()).ok_or("a scale does not fit 31 bits");
    layer.multipliers = units.iter().map(multiplier).collect::<Result<_, _>>()?;
    layer.multipliers.resize(layer.bias.len(), 0);
    layer.shift = shift;
    let range = match layer.activation {
        // Its outputs go up to the sum, and down to −alpha in Q13.
        embedded_nfm::Activation::Elu { alpha } => {
            sums.iter().copied().fold(1.0, f64::max).max(f64::from(alpha).abs() / 8192.0)
        }
        _ => 1.0,
    };
    let fraction = (0..=15_u8).rev().find(|f| range * f64::from(*f).exp2() <= f64::from(layer.max) + 1.0);
    layer.fraction =
        fraction.ok_or("its outputs exceed the activations' range; use --activations i16, or --dense f32")?;
    let unit = (-f64::from(layer.fraction)).exp2();
    let codes = Codes { units: vec![unit; units.len()], max: layer.max, least_max: layer.max };
    Ok((layer, codes))
}

/// The head in codes as fine as a 32-bit sum allows, and their unit.
fn head(head: &[f64], codes: &Codes) -> (Vec<i16>, f64) {
    let scaled: Vec<f64> = head.iter().zip(&codes.units).map(|(p, unit)| p * unit).collect();
    let largest = scaled.iter().map(|p| p.abs()).fold(0.0, f64::max);
    let sum: f64 = scaled.iter().map(|p| p.abs()).sum();
    // Rounding adds at most half a unit a weight to the sum.
    let room =
        f64::from(i32::MAX) / f64::from(codes.max) - 0.5 * f64::from(u32::try_from(head.len()).unwrap_or(0));
    let unit = (largest / 32767.0).max(sum / room);
    let unit = if unit > 0.0 { unit } else { 1.0 };
    #[expect(clippy::cast_possible_truncation, reason = "at most 32767 in magnitude")]
    let codes = scaled.iter().map(|p| (p / unit).round() as i16).collect();
    (codes, unit)
}

/// A slope in Q13.
fn q13(slope: f64) -> Result<i16, Refusal> {
    let bits = (slope * 8192.0).round();
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
    if bits.abs() <= 32767.0 {
        Ok(bits as i16)
    } else {
        Err(format!("a slope of {slope} is beyond the fixed path's ±4; use --embeddings f32 --dense f32"))
    }
}

/// A number in Q16.
fn q16(x: f64, what: &str) -> Result<Q16, Refusal> {
    let bits = round(x * 65536.0);
    bits.map(Q16::from_bits).ok_or_else(|| {
        format!("{what} is {x}, beyond the fixed path's ±32768; use --embeddings f32 --dense f32")
    })
}
