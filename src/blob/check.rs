//! The rules on a model's content, applied by `parse` and before `emit`: after them kernels need no check.
//!
//! [`fixed`] and [`f32`] leave out what holds wherever sections were cut by the dimensions; [`fixed_lengths`] and [`f32_lengths`]
//! look at that in a model that was not parsed, and no image that only parses has them.

use super::manifest::FieldTotals;
use crate::{
    Feature, Q16, Rescale,
    error::{ParseError, Quantity},
    features::{ACTIVATIONS, ANY_LAYOUT, DENSE_INPUTS, DSP_IS_NATIVE, NIBBLES, VALUES},
    kernels::{is_native, rolled},
    link::Link,
    model::{
        Activation, BLOCK, DENSE_INPUT_WORDS, DenseInputs, F32Parts, F32Table, F32Weights, FieldKind,
        FixedLayer, FixedParts, Info, LANES, MAX_MULTIPLIER, MAX_WIDTH, NibbleTable, Place, QuantTable,
        Table, Weights, dsp_weights, header_multiplier, nibble_header_parts, padded, saturate,
    },
};

type Check = Result<(), ParseError>;

/// The largest code that an activation may have.
const MAX_CODE: u32 = i16::MAX as u32;

/// The largest sum.
const MAX_SUM: u64 = i32::MAX as u64;

/// The first broken rule. Rules after it change nothing, so no rule needs a branch behind it: 1.5 KB less on a Cortex-M0.
#[derive(Debug)]
pub(super) struct Verdict(Check);

impl Default for Verdict {
    fn default() -> Self {
        Self(Ok(()))
    }
}

impl Verdict {
    pub(super) fn is_broken(&self) -> bool {
        self.0.is_err()
    }

    pub(super) fn result(&self) -> Check {
        self.0
    }

    #[cold]
    #[inline(never)]
    pub(super) fn broken(&mut self, error: ParseError) {
        if self.0.is_ok() {
            self.0 = Err(error);
        }
    }

    #[cold]
    #[inline(never)]
    fn out_of_range(&mut self, what: Quantity, found: u32, limit: u32) {
        self.broken(ParseError::OutOfRange { what, found, limit });
    }

    #[inline(never)]
    pub(super) fn at_most(&mut self, what: Quantity, found: u32, limit: u32) {
        if found > limit {
            self.out_of_range(what, found, limit);
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn truncated(&mut self, needed: u32, got: u32) {
        self.broken(ParseError::Truncated { needed, got });
    }

    #[cold]
    #[inline(never)]
    pub(super) fn length(&mut self, expected: usize, found: usize) {
        self.broken(ParseError::Length { expected: saturate(expected), found: saturate(found) });
    }

    #[inline(never)]
    fn at_least_one(&mut self, what: Quantity, found: u32) {
        if found == 0 {
            self.out_of_range(what, 0, 1);
        }
    }

    #[inline(never)]
    pub(super) fn exactly(&mut self, what: Quantity, found: usize, expected: usize) {
        if found != expected {
            self.out_of_range(what, saturate(found), saturate(expected));
        }
    }

    /// Refuses a model that needs a feature which is not part of this build.
    fn needs(&mut self, feature: Feature, needed: bool) {
        if needed && !feature.is_built() {
            self.broken(ParseError::FeatureMissing { feature });
        }
    }

    fn finite(&mut self, what: Quantity, floats: &[f32]) {
        if let Some(index) = floats.iter().position(|value| !value.is_finite()) {
            self.broken(ParseError::NotFinite { what, index: saturate(index) });
        }
    }
}

/// Checks a fixed model that was not parsed.
pub(crate) fn all_of_fixed(parts: &FixedParts<'_>) -> Check {
    let mut verdict = Verdict::default();
    features(&mut verdict, parts, matches!(parts.table, Table::I4(_)), parts.dense_inputs.len());
    fixed_lengths(&mut verdict, parts);
    fixed(&mut verdict, parts, field_totals(&parts.info));
    verdict.result()
}

/// Checks that all that a fixed model needs is part of this build.
pub(super) fn features(verdict: &mut Verdict, parts: &FixedParts<'_>, nibbles: bool, dense_inputs: usize) {
    verdict.needs(Feature::Values, parts.max_value != Q16::ONE);
    verdict.needs(Feature::Nibbles, nibbles);
    verdict.needs(Feature::DenseInputs, dense_inputs != 0);
    let mut inputs = padded(parts.info.lanes() + dense_inputs);
    for layer in &parts.layers {
        verdict.needs(Feature::Activations, layer.activation != Activation::Relu);
        verdict.needs(Feature::AnyLayout, !is_native(&layer.weights, inputs));
        inputs = padded(layer.out.into());
    }
}

/// Checks an f32 model that was not parsed.
pub(crate) fn all_of_f32(parts: &F32Parts<'_>) -> Check {
    let mut verdict = Verdict::default();
    f32_lengths(&mut verdict, parts);
    f32(&mut verdict, parts, field_totals(&parts.info));
    verdict.result()
}

/// Checks a fixed model: dimensions, ranges, and that no sum can leave 32 bits on any legal sample.
#[inline(never)]
pub(super) fn fixed(verdict: &mut Verdict, parts: &FixedParts<'_>, totals: FieldTotals) {
    let FixedParts { info, table, .. } = parts;
    shape(verdict, info, parts.dense_len());
    field_shape(verdict, info, parts.dense_len(), totals);
    verdict.at_least_one(Quantity::MaxEmbedding, parts.max_embedding.into());
    // Below, dimensions are multiplied.
    if verdict.is_broken() {
        return;
    }
    match table {
        Table::I8(table) => quant_table(verdict, info, table, parts.max_embedding),
        Table::I4(table) if NIBBLES => nibble_table(verdict, info, table, parts.max_embedding),
        Table::I4(_) => {}
    }
    bi_interaction(verdict, parts);
    if DENSE_INPUTS {
        dense_inputs(verdict, parts.dense_inputs);
    }
    let (mut width, mut max) = (parts.input_len(), parts.max);
    for (index, layer) in (0_u32..).zip(&parts.layers) {
        fixed_layer(verdict, index, layer, width, max);
        (width, max) = (padded(layer.bias.len()), layer.max);
    }
    let mut head = 0;
    for weight in parts.head {
        rolled();
        head += u32::from(weight.unsigned_abs());
    }
    if !fits(head, max, 0) {
        verdict.broken(ParseError::Overflow { what: Quantity::Head, index: 0 });
    }
    for scale in [&parts.head_scale, &parts.linear_scale] {
        verdict.at_most(Quantity::RescaleShift, scale.shift.into(), Rescale::MAX_SHIFT.into());
    }
    if let Link::Clip { min, max } = parts.link
        && min > max
    {
        verdict.out_of_range(Quantity::Link, min.to_bits().cast_unsigned(), max.to_bits().cast_unsigned());
    }
}

fn dense_inputs(verdict: &mut Verdict, inputs: DenseInputs<'_>) {
    for input in inputs.iter() {
        verdict.at_most(Quantity::RescaleShift, input.code.shift.into(), Rescale::MAX_SHIFT.into());
        verdict.at_most(Quantity::RescaleShift, input.linear.shift.into(), Rescale::MAX_SHIFT.into());
        verdict.at_most(Quantity::DenseInputs, input.max.to_bits().cast_unsigned(), i32::MAX.cast_unsigned());
    }
}

/// Checks an f32 model: dimensions, ranges, and that every float is finite.
pub(super) fn f32(verdict: &mut Verdict, parts: &F32Parts<'_>, totals: FieldTotals) {
    let info = &parts.info;
    shape(verdict, info, parts.dense_linear.len());
    field_shape(verdict, info, parts.dense_linear.len(), totals);
    if verdict.is_broken() {
        return;
    }
    match parts.table {
        F32Table::F32 { linear, embeddings } => {
            verdict.finite(Quantity::Linear, linear);
            verdict.finite(Quantity::Embeddings, embeddings);
            padding(verdict, embeddings, info);
        }
        F32Table::I8 { table, linear_scale } => {
            quant_table(verdict, info, &table, 128 * u16::from(MAX_MULTIPLIER));
            verdict.finite(Quantity::Linear, &[linear_scale]);
        }
    }
    verdict.finite(Quantity::DenseInputs, parts.dense_linear);
    for layer in &parts.layers {
        layer_out(verdict, layer.bias.len());
        match layer.weights {
            F32Weights::F32(weights) => verdict.finite(Quantity::LayerWeights, weights),
            F32Weights::I8 { scales, .. } => verdict.finite(Quantity::LayerChannels, scales),
        }
        verdict.finite(Quantity::LayerBias, layer.bias);
        verdict.finite(Quantity::LayerChannels, layer.slopes);
        if let Activation::LeakyRelu { slope: parameter } | Activation::Elu { alpha: parameter } =
            layer.activation
        {
            verdict.finite(Quantity::LayerChannels, &[parameter]);
        }
    }
    verdict.finite(Quantity::Head, parts.head);
    verdict.finite(Quantity::Bias, &[parts.bias]);
    if let Link::Clip { min, max } = parts.link {
        verdict.finite(Quantity::Link, &[min, max]);
        if min > max {
            verdict.out_of_range(Quantity::Link, min.to_bits(), max.to_bits());
        }
    }
}

/// Checks that the sections of a fixed model are as long as its dimensions say.
fn fixed_lengths(verdict: &mut Verdict, parts: &FixedParts<'_>) {
    let FixedParts { info, dense_inputs, .. } = parts;
    shape(verdict, info, dense_inputs.len());
    verdict.exactly(Quantity::DenseInputs, dense_inputs.words.len(), dense_inputs.len() * DENSE_INPUT_WORDS);
    match &parts.table {
        Table::I8(table) => quant_table_lengths(verdict, info, table),
        Table::I4(table) => nibble_table_lengths(verdict, info, table),
    }
    let mut width = parts.input_len();
    for layer in &parts.layers {
        layer_out(verdict, layer.out.into());
        let out = padded(layer.out.into());
        verdict.exactly(Quantity::LayerBias, layer.bias.len(), out);
        verdict.exactly(Quantity::LayerChannels, layer.slopes.len(), slopes(&layer.activation, out));
        verdict.exactly(
            Quantity::LayerChannels,
            layer.multipliers.len(),
            multipliers(&layer.activation, out),
        );
        match layer.weights {
            Weights::Scalar(codes) => {
                verdict.exactly(Quantity::LayerWeights, codes.len(), out.saturating_mul(width));
            }
            Weights::Dsp { words, fold } => {
                verdict.exactly(Quantity::LayerWeights, words.len(), out.saturating_mul(width) / 4);
                verdict.at_least_one(Quantity::LayerFold, fold.into());
            }
        }
        width = out;
    }
    verdict.exactly(Quantity::Head, parts.head.len(), width);
}

/// Checks that the sections of an f32 model are as long as its dimensions say.
fn f32_lengths(verdict: &mut Verdict, parts: &F32Parts<'_>) {
    let info = &parts.info;
    shape(verdict, info, parts.dense_linear.len());
    match &parts.table {
        F32Table::F32 { linear, embeddings } => {
            let rows = info.rows as usize;
            verdict.exactly(Quantity::Linear, linear.len(), rows);
            verdict.exactly(Quantity::Embeddings, embeddings.len(), rows.saturating_mul(info.lanes()));
        }
        F32Table::I8 { table, .. } => quant_table_lengths(verdict, info, table),
    }
    let mut width = parts.input_len();
    for layer in &parts.layers {
        let out = layer.bias.len();
        layer_out(verdict, out);
        match layer.weights {
            F32Weights::F32(weights) => {
                verdict.exactly(Quantity::LayerWeights, weights.len(), out.saturating_mul(width));
            }
            F32Weights::I8 { codes, scales } => {
                verdict.exactly(Quantity::LayerWeights, codes.len(), out.saturating_mul(width));
                verdict.exactly(Quantity::LayerChannels, scales.len(), out);
            }
        }
        verdict.exactly(Quantity::LayerChannels, layer.slopes.len(), slopes(&layer.activation, out));
        width = padded(out);
    }
    verdict.exactly(Quantity::Head, parts.head.len(), width);
}

fn quant_table_lengths(verdict: &mut Verdict, info: &Info<'_>, table: &QuantTable<'_>) {
    let rows = info.rows as usize;
    verdict.exactly(Quantity::Linear, table.headers.len(), rows);
    verdict.exactly(Quantity::Embeddings, table.codes.len(), rows.saturating_mul(info.lanes()));
}

fn nibble_table_lengths(verdict: &mut Verdict, info: &Info<'_>, table: &NibbleTable<'_>) {
    let (rows, lanes) = (info.rows as usize, info.lanes());
    let hot_rows = table.hot_rows(lanes);
    verdict.exactly(Quantity::Linear, table.headers.len(), rows);
    verdict.exactly(Quantity::Embeddings, table.codes.len(), hot_rows.saturating_mul(lanes));
    let others = rows.saturating_sub(hot_rows);
    verdict.exactly(Quantity::Embeddings, table.nibbles.len(), others.saturating_mul(lanes.div_ceil(8)));
    verdict.exactly(
        Quantity::HotRows,
        table.hot.len(),
        if hot_rows == 0 { 0 } else { 2 * rows.div_ceil(32) },
    );
}

/// Dimensions.
#[inline(never)]
fn shape(verdict: &mut Verdict, info: &Info<'_>, dense_inputs: usize) {
    verdict.at_least_one(Quantity::Rows, info.rows);
    verdict.at_least_one(Quantity::Dim, info.dim.into());
    verdict.at_least_one(Quantity::MaxActive, info.max_active.into());
    verdict.at_most(Quantity::Dim, saturate(info.lanes() + dense_inputs), saturate(MAX_WIDTH));
    // A row's place is a number of 31 bits: the highest one tells rows of nibbles from hot ones.
    let elements = (info.rows as usize).saturating_mul(info.lanes());
    verdict.at_most(Quantity::Embeddings, saturate(elements), i32::MAX.cast_unsigned());
}

/// That the fields end with the dimensions.
#[inline(always)]
fn field_shape(verdict: &mut Verdict, info: &Info<'_>, dense_inputs: usize, totals: FieldTotals) {
    verdict.exactly(Quantity::Fields, totals.fields, info.fields.len());
    verdict.exactly(Quantity::Fields, totals.rows as usize, info.rows as usize);
    verdict.exactly(Quantity::DenseInputs, totals.dense, dense_inputs);
}

fn field_totals(info: &Info<'_>) -> FieldTotals {
    let mut totals = FieldTotals::default();
    info.fields.iter().for_each(|field| totals.add(field.kind.rows(), field.kind == FieldKind::Dense));
    totals
}

#[inline(never)]
fn quant_table(verdict: &mut Verdict, info: &Info<'_>, table: &QuantTable<'_>, max_embedding: u16) {
    for header in table.headers {
        rolled();
        // The code −128 is legal.
        let largest = 128 * header_multiplier(*header).cast_unsigned();
        verdict.at_most(Quantity::RowHeader, largest, max_embedding.into());
    }
    padding(verdict, table.codes, info);
}

/// Checks the rows' headers, and that the hot bits, the counts beside them and the sections say the same.
#[inline(never)]
fn nibble_table(verdict: &mut Verdict, info: &Info<'_>, table: &NibbleTable<'_>, max_embedding: u16) {
    // The rows that the groups have not shown yet; the last group may have fewer of them than bits.
    let (mut rows, mut counted) = (info.rows, 0);
    for &[bits, before] in table.hot.as_chunks::<2>().0 {
        rolled();
        verdict.exactly(Quantity::HotRows, before as usize, counted);
        verdict.at_most(Quantity::HotRows, bits.checked_shr(rows).unwrap_or(0), 0);
        rows = rows.saturating_sub(32);
        counted += bits.count_ones() as usize;
    }
    verdict.exactly(Quantity::HotRows, counted, table.hot_rows(info.lanes()));
    for (id, &header) in (0_u32..).zip(table.headers) {
        let (_, multiplier, offset) = nibble_header_parts(header);
        let largest = match table.place(id) {
            Place::Hot(_) if offset != 0 => u32::MAX,
            Place::Hot(_) => 128 * multiplier.cast_unsigned(),
            Place::Other(_) => offset.unsigned_abs().max((15 * multiplier + offset).unsigned_abs()),
        };
        verdict.at_most(Quantity::RowHeader, largest, max_embedding.into());
    }
    padding(verdict, table.codes, info);
}

/// Proves that the sums of the Bi-Interaction fit `i32`, and with them those of the first order; codes count as 128, so that
/// none needs to be looked at.
#[inline(never)]
fn bi_interaction(verdict: &mut Verdict, parts: &FixedParts<'_>) {
    let value = parts.max_value.to_bits().cast_unsigned();
    if parts.max_value < Q16::ONE {
        verdict.out_of_range(Quantity::MaxValue, value, Q16::ONE.to_bits().cast_unsigned());
    }
    verdict.at_most(Quantity::LayerShift, parts.shift.into(), 30);
    code_max(verdict, parts.max);
    if verdict.is_broken() {
        return;
    }
    // embedding · value in Q16, and half, must fit i32; so must the part of a nibble's embedding without its offset, which is at
    // most twice as large.
    let value = if VALUES { value } else { Q16::ONE.to_bits().cast_unsigned() };
    let product = u64::from(parts.max_embedding) * u64::from(value) + (1 << 15);
    let active = u32::from(parts.info.max_active);
    let pairs = active * (active - 1) / 2;
    // With the product below 2³⁰, largest ≤ 2¹⁴, and pairs < 2³¹: nothing wraps.
    let fits_product = 2 * product <= MAX_SUM;
    let largest = if fits_product { rounded(product) } else { 0 };
    let sum = u64::from(pairs) * u64::from(largest * largest) + u64::from((1_u32 << parts.shift) >> 1);
    // With the pairs, active · largest < 2¹⁷ too, and so active · value < 2¹⁷: the sum of the first-order codes,
    // active · (2048 · value + 1), is below 2²⁹.
    if !fits_product || sum > MAX_SUM {
        verdict.broken(ParseError::Overflow { what: Quantity::BiInteraction, index: 0 });
    }
}

/// What an embedding times its value can be rounded to.
#[expect(clippy::cast_possible_truncation, reason = "the product is below 2³⁰")]
const fn rounded(product: u64) -> u32 {
    (product >> Q16::FRACTION_BITS) as u32 + 1
}

#[inline(never)]
fn fixed_layer(verdict: &mut Verdict, index: u32, layer: &FixedLayer<'_>, width: usize, max: u16) {
    layer_out(verdict, layer.out.into());
    code_max(verdict, layer.max);
    let curve = ACTIVATIONS && !layer.activation.is_homogeneous();
    let (shift, fraction) = if curve { (Rescale::MAX_SHIFT.into(), Q16::FRACTION_BITS) } else { (31, 0) };
    verdict.at_most(Quantity::LayerShift, layer.shift.into(), shift);
    verdict.at_most(Quantity::LayerShift, layer.fraction.into(), fraction);
    if verdict.is_broken() {
        return;
    }
    for (row, bias) in layer.bias.iter().enumerate() {
        let bias = bias.unsigned_abs();
        let fits = match layer.weights {
            Weights::Scalar(codes) if ANY_LAYOUT || !DSP_IS_NATIVE => {
                scalar_row_fits(codes.as_chunks().0, width, row, max, bias)
            }
            Weights::Dsp { words, fold } if ANY_LAYOUT || DSP_IS_NATIVE => {
                dsp_row_fits(words.as_chunks().0, width / 4, row, fold.into(), max, bias)
            }
            // `features` refuses them.
            _ => false,
        };
        if !fits {
            // The layer in the upper half: both are below 2¹⁶.
            let index = (index << 16) + saturate(row);
            verdict.broken(ParseError::Overflow { what: Quantity::LayerWeights, index });
        }
    }
}

/// `Σ |weights| · max + |bias| < 2³¹` in a row of [`Weights::Scalar`].
#[inline(never)]
fn scalar_row_fits(codes: &[[u8; BLOCK]], width: usize, row: usize, max: u16, bias: u32) -> bool {
    let mut sum = 0;
    for codes in columns(codes, width, row / BLOCK) {
        rolled();
        sum += codes.get(row % BLOCK).map_or(0, |code| u32::from(code.abs_diff(128)));
    }
    fits(sum, max, bias)
}

/// In a row of [`Weights::Dsp`], `Σ |weights| · max < 2³¹` between two folds, in units of 1/256, and all folded sums with the
/// bias, in whole units; a fold rounds down, which is one unit more.
#[inline(never)]
fn dsp_row_fits(words: &[[u32; 4]], groups: usize, row: usize, fold: usize, max: u16, bias: u32) -> bool {
    let mut rest = columns(words, groups, row / 4);
    let mut total = u64::from(bias);
    // Where `fold` divides the groups, the last fold is empty, and counts.
    loop {
        let (words, more) = rest.split_at_checked(fold).unwrap_or((rest, &[]));
        let mut sum = 0;
        for words in words {
            rolled();
            let word = words.get(row % 4).copied().unwrap_or_default();
            for weight in dsp_weights(word) {
                sum += weight.unsigned_abs();
            }
        }
        if !fits(sum, max, 0) {
            return false;
        }
        total += ((u64::from(sum) * u64::from(max)) >> 8) + 1;
        if words.len() < fold {
            return total <= MAX_SUM;
        }
        rest = more;
    }
}

/// Block `block` of a matrix with `columns` columns a block.
fn columns<T>(matrix: &[T], columns: usize, block: usize) -> &[T] {
    matrix.get(block * columns..).and_then(|rest| rest.get(..columns)).unwrap_or_default()
}

/// `sum · max + bias < 2³¹`
#[inline(never)]
fn fits(sum: u32, max: u16, bias: u32) -> bool {
    u64::from(sum) * u64::from(max) + u64::from(bias) <= MAX_SUM
}

/// How many slopes a layer of `out` outputs has.
pub(super) fn slopes<S>(activation: &Activation<S>, out: usize) -> usize {
    if matches!(activation, Activation::PRelu) { out } else { 0 }
}

/// How many multipliers a layer of `out` outputs has.
pub(super) fn multipliers<S>(activation: &Activation<S>, out: usize) -> usize {
    if activation.is_homogeneous() { 0 } else { out }
}

#[inline(never)]
fn layer_out(verdict: &mut Verdict, out: usize) {
    verdict.at_least_one(Quantity::LayerOut, saturate(out));
    verdict.at_most(Quantity::LayerOut, saturate(out), saturate(MAX_WIDTH));
}

#[inline(never)]
fn code_max(verdict: &mut Verdict, max: u16) {
    verdict.at_least_one(Quantity::LayerMax, max.into());
    verdict.at_most(Quantity::LayerMax, max.into(), MAX_CODE);
}

/// The elements after `dim` of each row must be zero.
#[inline(never)]
fn padding<T: Default + PartialEq>(verdict: &mut Verdict, matrix: &[T], info: &Info<'_>) {
    let (lanes, used) = (info.lanes(), usize::from(info.dim));
    if used.is_multiple_of(LANES) {
        return;
    }
    // Not by `chunks_exact`, which divides. A turn takes at least one element, so the loop ends.
    let (mut rest, mut row) = (matrix, 0);
    while let Some((_, after)) = rest.split_at_checked(used)
        && let Some((padding, more)) = after.split_at_checked(lanes - used)
    {
        for element in padding {
            rolled();
            if *element != T::default() {
                verdict.broken(ParseError::NonZeroPadding { what: Quantity::Embeddings, row });
            }
        }
        (rest, row) = (more, row + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Field, FieldKind, Fields};

    #[test]
    fn a_rows_place_has_31_bits() {
        // Two lanes pad to four: 2²⁹ − 1 rows have 2³¹ − 4 elements, and one more has 2³¹.
        for (rows, legal) in [((1 << 29) - 1, true), (1 << 29, false), (u32::MAX >> 1, false)] {
            let fields = [Field { name: "id", kind: FieldKind::Id { first: 0, rows } }];
            let info = Info {
                name: "",
                rows,
                dim: 2,
                max_active: 1,
                fields: Fields::Listed(&fields),
                encoders: &[],
            };
            let mut verdict = Verdict::default();
            shape(&mut verdict, &info, 0);
            assert_eq!(verdict.result().is_ok(), legal, "{rows}");
        }
    }
}
