//! The score: `y(x) = w0 + Σ w_i x_i + p · h_L(… h_1(z ++ dense))`, on both arithmetic paths.

use core::mem::swap;

use crate::{
    F32Model, Feature, Libm, Math, Model, Q16, Sample, ScoreError, features,
    kernels::{
        POOLS_ANY_COUNT,
        bi_interaction::{self, Term, bi_interaction, bi_interaction_of_values, clamp},
        dense::{dense, dot},
        float,
        nibbles::{self, NibbleTerm},
        rolled, zero,
    },
    model::{
        F32Table, FixedParts, NibbleTable, QuantTable, Sizes, Table, header_linear, header_multiplier,
        padded, saturate,
    },
};

impl Model<'_> {
    /// Scores one sample: the raw score, before the link.
    ///
    /// The same blob and sample give the same bits on every machine. Scores beyond the range of [`Q16`] saturate.
    ///
    /// # Errors
    ///
    /// [`ScoreError`] names the entry of the sample that is at fault, or what `scratch` needs; nothing was scored then.
    ///
    /// # Cost
    ///
    /// O(k·N) for N active entries, then the layers' multiplications. No heap, no float.
    ///
    /// # Examples
    ///
    /// ```
    /// # let blob = embedded_nfm::include_model!("../tests/golden/tiny.nfm");
    /// use embedded_nfm::{Model, Sample};
    ///
    /// let model = Model::parse(blob)?;
    /// let mut scratch = [0; 32];
    /// let score = model.score(&Sample::new(&[0, 3]), &mut scratch)?;
    /// println!("{}", score.to_f32());
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn score(&self, sample: &Sample<'_, Q16>, scratch: &mut [u32]) -> Result<Q16, ScoreError> {
        let Sizes { plan, lanes, .. } = &self.1;
        self.score_with(sample, scratch, |parts, terms, x| {
            let one_hot = !features::VALUES || sample.values().is_none();
            let twin = if one_hot { plan.pool(sample.ids(), terms, x) } else { None };
            twin.map_or_else(|| parts.pool(sample, terms, take_mut(x, *lanes)), Ok)
        })
    }

    /// [`Model::score`], with a function that checks the active entries, writes z where the first layer's inputs begin, and gives the
    /// sum of first-order codes.
    #[inline(always)]
    pub(crate) fn score_with(
        &self,
        sample: &Sample<'_, Q16>,
        scratch: &mut [u32],
        pool: impl FnOnce(&FixedParts<'_>, &mut [u32], &mut [i16]) -> Result<i32, ScoreError>,
    ) -> Result<Q16, ScoreError> {
        let Self(parts, sizes) = self;
        if !features::VALUES && sample.values().is_some() {
            return Err(ScoreError::FeatureMissing { feature: Feature::Values });
        }
        check_counts(sample, parts.info.max_active, sizes.dense_inputs)?;
        let (even_words, odd_words) = sizes.buffers;
        let (even, odd) = split_scratch(scratch, even_words, odd_words)?;

        // The terms lie where the first layer's outputs come once z is there.
        let x = halfwords(even);
        let linear = parts.linear_scale.apply(pool(parts, odd, x)?);
        let mut score = i64::from(parts.bias.to_bits()) + i64::from(linear);
        if sizes.input != sizes.lanes {
            let rest = x.get_mut(sizes.lanes..sizes.input).unwrap_or_default();
            zero(rest);
            if features::DENSE_INPUTS && !sample.dense().is_empty() {
                parts.dense_codes(sample.dense(), rest);
                score += parts.dense_linear(sample.dense())?;
            }
        }
        // The most common depth has no need for a second buffer, nor for the stack that goes with it.
        let only = if parts.layers.len() == 1 { sizes.plan.last_dot(x) } else { None };
        let deep = only.unwrap_or_else(|| parts.deep(sizes, even, odd));
        Ok(Q16::saturating_from_bits(score + i64::from(parts.head_scale.apply(deep))))
    }
}

impl FixedParts<'_> {
    /// `p · h_L(… h_1(x))`, with the first layer's inputs in `even`.
    #[inline(never)]
    fn deep(&self, sizes: &Sizes<'_>, even: &mut [u32], odd: &mut [u32]) -> i32 {
        let (mut x, mut y, mut width) = (halfwords(even), halfwords(odd), sizes.input);
        // The last layer and the head may be one.
        let alone = self.layers.len().saturating_sub(sizes.plan.has_last().into());
        for layer in self.layers.iter().take(alone) {
            let out = layer.bias.len();
            dense(layer, take(x, width), take_mut(y, out));
            swap(&mut x, &mut y);
            width = out;
        }
        sizes.plan.last_dot(x).unwrap_or_else(|| dot(self.head, take(x, width)))
    }

    /// Checks the dense inputs, and gives their part of the first order.
    #[inline(never)]
    fn dense_linear(&self, dense: &[Q16]) -> Result<i64, ScoreError> {
        let mut linear = 0;
        for (position, (input, value)) in self.dense_inputs.iter().zip(dense).enumerate() {
            if value.to_bits().unsigned_abs() > input.max.to_bits().unsigned_abs() {
                return Err(ScoreError::DenseOutOfRange { position });
            }
            linear += i64::from(input.linear.apply(value.to_bits()));
        }
        Ok(linear)
    }

    /// Writes the dense inputs' codes.
    #[inline(never)]
    fn dense_codes(&self, dense: &[Q16], codes: &mut [i16]) {
        for ((code, input), value) in codes.iter_mut().zip(self.dense_inputs.iter()).zip(dense) {
            *code = clamp(input.code.apply(value.to_bits()), self.max);
        }
    }

    /// Checks the active entries, pools them into `z`, and gives the sum of first-order codes, on any core.
    #[inline(never)]
    fn pool(&self, sample: &Sample<'_, Q16>, terms: &mut [u32], z: &mut [i16]) -> Result<i32, ScoreError> {
        match &self.table {
            Table::I8(table) => self.pool_i8(table, sample, terms, z),
            Table::I4(table) if features::NIBBLES => self.pool_i4(table, sample, terms, z),
            Table::I4(_) => Ok(0),
        }
    }

    /// [`FixedParts::pool`] of 8-bit rows.
    fn pool_i8(
        &self,
        table: &QuantTable<'_>,
        sample: &Sample<'_, Q16>,
        terms: &mut [u32],
        z: &mut [i16],
    ) -> Result<i32, ScoreError> {
        let (ids, shift, max) = (sample.ids(), self.shift, self.max);
        for (position, &id) in ids.iter().enumerate() {
            rolled();
            if id >= self.info.rows {
                return Err(self.unknown(position, id));
            }
        }
        if POOLS_ANY_COUNT && !features::VALUES {
            // The twin takes all but a sample without entries.
            zero(z);
            return Ok(0);
        }
        let terms = take_mut(terms.as_chunks_mut().0, ids.len());
        let sum = bi_interaction::terms(table.headers, ids, saturate(z.len()), terms);
        let values = if features::VALUES { sample.values() } else { None };
        let Some(values) = values else {
            bi_interaction(table.codes, terms, shift, max, z);
            return Ok(sum);
        };
        let sum = self.times_values(table, ids, values, terms)?;
        bi_interaction_of_values(table.codes, terms, shift, max, z);
        Ok(sum)
    }

    /// Checks the values, multiplies the terms' gains with them, and gives the sum of first-order codes times values.
    #[inline(never)]
    fn times_values(
        &self,
        table: &QuantTable<'_>,
        ids: &[u32],
        values: &[Q16],
        terms: &mut [Term],
    ) -> Result<i32, ScoreError> {
        let headers = ids.iter().map(|&id| table.headers.get(id as usize).copied().unwrap_or_default());
        // |sum| ≤ max_active · (2048 · max_value + 1) < 2²⁹, by the proof of the Bi-Interaction in `parse`.
        let mut sum = 0_i32;
        for (position, ((header, value), [_, gain])) in headers.zip(values).zip(terms).enumerate() {
            rolled();
            let value = self.legal(*value, position)?;
            sum += times(header_linear(header), value);
            // gain · |value| < 2⁸, by `parse`.
            *gain = gain.cast_signed().wrapping_mul(value.to_bits()).cast_unsigned();
        }
        Ok(sum)
    }

    /// `value`, if it is not larger than the model was proved for.
    fn legal(&self, value: Q16, position: usize) -> Result<Q16, ScoreError> {
        if value.to_bits().unsigned_abs() > self.max_value.to_bits().unsigned_abs() {
            return Err(ScoreError::ValueOutOfRange { position });
        }
        Ok(value)
    }

    /// [`FixedParts::pool`] of 4-bit rows and the hot ones among them.
    fn pool_i4(
        &self,
        table: &NibbleTable<'_>,
        sample: &Sample<'_, Q16>,
        terms: &mut [u32],
        z: &mut [i16],
    ) -> Result<i32, ScoreError> {
        let terms = take_mut(terms.as_chunks_mut().0, sample.ids().len());
        let mut sum = 0_i32;
        for (position, (&id, place)) in sample.ids().iter().zip(&mut *terms).enumerate() {
            rolled();
            let value = sample.values().and_then(|values| values.get(position)).copied();
            let (linear, term) = self.nibble_term(table, (position, id), value, saturate(z.len()))?;
            sum += linear;
            *place = term;
        }
        let values = sample.values().is_some();
        nibbles::bi_interaction(table.codes, table.nibbles, terms, values, self.shift, self.max, z);
        // No code of a row is zero for certain: what the padding's codes gave would meet the fractions of DSP weights.
        zero(z.get_mut(self.info.dim.into()..).unwrap_or_default());
        Ok(sum)
    }

    /// The first-order code and the term of the entry at `position`, both times its value where it has one.
    #[inline(always)]
    pub(crate) fn nibble_term(
        &self,
        table: &NibbleTable<'_>,
        (position, id): (usize, u32),
        value: Option<Q16>,
        lanes: u32,
    ) -> Result<(i32, NibbleTerm), ScoreError> {
        let (linear, [start, gain, offset]) =
            nibbles::term(table, id, lanes).ok_or_else(|| self.unknown(position, id))?;
        // gain · 15 · |value| < 2¹⁵ and |offset| · |value| < 2¹⁴, by the factor 2 of the proof in `parse`.
        let parts = (linear, gain.cast_signed(), offset.cast_signed());
        let (linear, gain, offset) = self.times_value(parts, value, position)?;
        Ok((linear, [start, gain.cast_unsigned(), offset.cast_unsigned()]))
    }

    /// As [`FixedParts::nibble_term`], for a row of 8 bits.
    pub(crate) fn byte_term(
        &self,
        table: &QuantTable<'_>,
        (position, id): (usize, u32),
        value: Option<Q16>,
        lanes: u32,
    ) -> Result<(i32, NibbleTerm), ScoreError> {
        let Some(&header) = table.headers.get(id as usize) else { return Err(self.unknown(position, id)) };
        let parts = (header_linear(header), header_multiplier(header), 0);
        let (linear, gain, _) = self.times_value(parts, value, position)?;
        Ok((linear, [id.wrapping_mul(lanes), gain.cast_unsigned(), 0]))
    }

    /// A header's first-order code, gain and offset times the entry's value, where it has one.
    #[inline(always)]
    fn times_value(
        &self,
        (linear, gain, offset): (i32, i32, i32),
        value: Option<Q16>,
        position: usize,
    ) -> Result<(i32, i32, i32), ScoreError> {
        let Some(value) = value else { return Ok((linear, gain, offset)) };
        let value = self.legal(value, position)?;
        Ok((times(linear, value), gain * value.to_bits(), offset * value.to_bits()))
    }

    #[cold]
    const fn unknown(&self, position: usize, id: u32) -> ScoreError {
        ScoreError::UnknownId { position, id, rows: self.info.rows }
    }
}

/// Words of scratch as the halfwords that activations are.
fn halfwords(words: &mut [u32]) -> &mut [i16] {
    // A word is aligned for its halves, so this cannot fail.
    bytemuck::try_cast_slice_mut(words).unwrap_or_default()
}

/// Row `id` of a matrix with rows of `lanes` elements.
fn row<T>(matrix: &[T], lanes: usize, id: u32) -> Option<&[T]> {
    let start = (id as usize).checked_mul(lanes)?;
    matrix.get(start..start.checked_add(lanes)?)
}

/// `round(code · value)`.
#[expect(clippy::cast_possible_truncation, reason = "|code| ≤ 2¹¹ and |value| < 2¹¹, by `parse`: below 2²³")]
fn times(code: i32, value: Q16) -> i32 {
    ((i64::from(code) * i64::from(value.to_bits()) + (1 << 15)) >> Q16::FRACTION_BITS) as i32
}

/// Checks how many entries, values and dense inputs there are.
fn check_counts<V>(sample: &Sample<'_, V>, max_active: u16, dense_inputs: usize) -> Result<(), ScoreError> {
    let (active, dense) = (sample.ids().len(), sample.dense().len());
    if active > usize::from(max_active) {
        return Err(ScoreError::TooManyActive { max: max_active, got: active });
    }
    if let Some(values) = sample.values().filter(|values| values.len() != active) {
        return Err(ScoreError::ValueCount { expected: active, got: values.len() });
    }
    if dense != dense_inputs {
        return Err(ScoreError::DenseCount { expected: dense_inputs, got: dense });
    }
    Ok(())
}

/// Cuts the two buffers from the scratch.
fn split_scratch<T>(scratch: &mut [T], even: usize, odd: usize) -> Result<(&mut [T], &mut [T]), ScoreError> {
    let error = ScoreError::ScratchTooShort { needed: even + odd, got: scratch.len() };
    let (x, rest) = scratch.split_at_mut_checked(even).ok_or(error)?;
    let (y, _) = rest.split_at_mut_checked(odd).ok_or(error)?;
    Ok((x, y))
}

/// The first `len` elements, or all when there are fewer.
fn take<T>(slice: &[T], len: usize) -> &[T] {
    slice.get(..len).unwrap_or(slice)
}

/// The first `len` elements, or all when there are fewer.
pub(crate) fn take_mut<T>(slice: &mut [T], len: usize) -> &mut [T] {
    let len = len.min(slice.len());
    slice.split_at_mut_checked(len).map_or(&mut [], |(head, _)| head)
}

impl F32Model<'_> {
    /// Bound on `|score − definition| / max(1, |definition|)` with [`Libm`], measured on every model of the repository.
    pub const ACCURACY: f64 = 1e-5;

    /// Scores one sample: the raw score, before the link.
    ///
    /// # Errors
    ///
    /// [`ScoreError`] names the entry of the sample that is at fault, or what `scratch` needs; nothing was scored then.
    ///
    /// # Accuracy
    ///
    /// [`F32Model::ACCURACY`] against `f64`.
    ///
    /// # Cost
    ///
    /// As [`Model::score`].
    pub fn score(&self, sample: &Sample<'_, f32>, scratch: &mut [f32]) -> Result<f32, ScoreError> {
        self.score_with::<Libm>(sample, scratch)
    }

    /// Scores one sample with the functions of `M`.
    ///
    /// # Errors
    ///
    /// As [`F32Model::score`].
    #[expect(clippy::float_arithmetic, reason = "this is the f32 path")]
    pub fn score_with<M: Math>(
        &self,
        sample: &Sample<'_, f32>,
        scratch: &mut [f32],
    ) -> Result<f32, ScoreError> {
        self.check(sample)?;
        let mut linear = 0.0;
        for position in 0..sample.ids().len() {
            linear += self.weight(sample, position)?;
        }
        self.deep::<M>(sample, scratch, linear + self.dense_first_order(sample)?, |z| self.pool(sample, z))
    }

    /// Checks the sample's counts.
    pub(crate) fn check(&self, sample: &Sample<'_, f32>) -> Result<(), ScoreError> {
        check_counts(sample, self.0.info.max_active, self.0.dense_linear.len())
    }

    /// The score, from its first-order part and z, which `pool` writes.
    #[expect(clippy::float_arithmetic, reason = "this is the f32 path")]
    #[inline(always)]
    pub(crate) fn deep<M: Math>(
        &self,
        sample: &Sample<'_, f32>,
        scratch: &mut [f32],
        linear: f32,
        pool: impl FnOnce(&mut [f32]),
    ) -> Result<f32, ScoreError> {
        let parts = &self.0;
        let (even_len, odd_len) = parts.buffers();
        let (mut x, mut y) = split_scratch(scratch, even_len, odd_len)?;

        let lanes = parts.info.lanes();
        pool(take_mut(x, lanes));
        let mut width = parts.input_len();
        let rest = x.iter_mut().take(width).skip(lanes);
        let dense = sample.dense().iter().copied().chain(core::iter::repeat(0.0));
        rest.zip(dense).for_each(|(x, value)| *x = value);
        for layer in &parts.layers {
            let out = padded(layer.bias.len());
            float::dense::<M>(layer, take(x, width), take_mut(y, out));
            swap(&mut x, &mut y);
            width = out;
        }
        Ok(parts.bias + linear + float::dot_f32(parts.head, take(x, width)))
    }

    /// Checks the entry at `position` and gives its first-order weight times its value.
    #[expect(clippy::float_arithmetic, reason = "this is the f32 path")]
    pub(crate) fn weight(&self, sample: &Sample<'_, f32>, position: usize) -> Result<f32, ScoreError> {
        let id = sample.ids().get(position).copied().unwrap_or_default();
        let error = ScoreError::UnknownId { position, id, rows: self.0.info.rows };
        let weight = self.0.table.linear(id).ok_or(error)?;
        match sample.values().and_then(|values| values.get(position)) {
            None => Ok(weight),
            Some(value) if value.is_finite() => Ok(weight * value),
            Some(_) => Err(ScoreError::ValueNotFinite { position }),
        }
    }

    /// Checks the dense inputs and gives their part of the first order.
    #[expect(clippy::float_arithmetic, reason = "this is the f32 path")]
    pub(crate) fn dense_first_order(&self, sample: &Sample<'_, f32>) -> Result<f32, ScoreError> {
        let mut sum = 0.0;
        for (position, (weight, value)) in self.0.dense_linear.iter().zip(sample.dense()).enumerate() {
            if !value.is_finite() {
                return Err(ScoreError::DenseNotFinite { position });
            }
            sum += weight * value;
        }
        Ok(sum)
    }

    /// One lane of the embedding of the entry at `position`, times its value.
    #[expect(clippy::float_arithmetic, reason = "this is the f32 path")]
    #[expect(clippy::cast_precision_loss, reason = "a row multiplier is at most 16")]
    pub(crate) fn element(&self, sample: &Sample<'_, f32>, position: usize, lane: usize) -> f32 {
        let id = sample.ids().get(position).copied().unwrap_or_default();
        let value = sample.values().and_then(|values| values.get(position)).copied().unwrap_or(1.0);
        let at = (id as usize).saturating_mul(self.0.info.lanes()).saturating_add(lane);
        match self.0.table {
            F32Table::F32 { embeddings, .. } => embeddings.get(at).map_or(0.0, |e| e * value),
            F32Table::I8 { table, .. } => {
                let multiplier =
                    table.headers.get(id as usize).map_or(0, |&header| header_multiplier(header));
                table.codes.get(at).map_or(0.0, |&code| f32::from(code) * (multiplier as f32 * value))
            }
        }
    }

    /// Writes z.
    fn pool(&self, sample: &Sample<'_, f32>, z: &mut [f32]) {
        let lanes = z.len();
        let values = sample.values().unwrap_or_default();
        let active = sample.ids().iter().enumerate();
        let active = active.map(|(position, &id)| (id, values.get(position).copied().unwrap_or(1.0)));
        match self.0.table {
            F32Table::F32 { embeddings, .. } => float::bi_interaction(
                active.filter_map(|(id, gain)| {
                    Some(float::Term { embedding: row(embeddings, lanes, id)?, gain })
                }),
                z,
            ),
            F32Table::I8 { table, .. } => {
                float::bi_interaction(
                    active.filter_map(|(id, value)| float_term(&table, lanes, id, value)),
                    z,
                );
            }
        }
    }
}

/// Row `id` of codes, its gain as a float.
#[expect(clippy::float_arithmetic, reason = "this is the f32 path")]
#[expect(clippy::cast_precision_loss, reason = "a row multiplier is at most 16")]
fn float_term<'a>(table: &QuantTable<'a>, lanes: usize, id: u32, value: f32) -> Option<float::Term<'a, i8>> {
    let header = *table.headers.get(id as usize)?;
    Some(float::Term {
        embedding: row(table.codes, lanes, id)?,
        gain: header_multiplier(header) as f32 * value,
    })
}

impl F32Table<'_> {
    /// First-order weight of row `id`.
    #[expect(clippy::float_arithmetic, reason = "this is the f32 path")]
    #[expect(clippy::cast_precision_loss, reason = "a first-order code has twelve bits")]
    fn linear(&self, id: u32) -> Option<f32> {
        match *self {
            Self::F32 { linear, .. } => linear.get(id as usize).copied(),
            Self::I8 { table, linear_scale } => {
                table.headers.get(id as usize).map(|&header| linear_scale * header_linear(header) as f32)
            }
        }
    }
}
