//! The score: `y(x) = w0 + Σ w_i x_i + p · h_L(… h_1(z ++ dense))`, on both arithmetic paths.

use core::mem::swap;

use crate::{
    F32Model, Libm, Math, Model, Q16, Sample, ScoreError,
    kernels::{
        bi_interaction::{Term, bi_interaction, bi_interaction_of_values, clamp},
        dense::{dense, dot},
        float,
        nibbles::{self, NIBBLES},
    },
    model::{
        F32Table, FixedParts, MAX_MULTIPLIER, NibbleTable, Place, QuantTable, Table, header_linear,
        header_multiplier, nibble_header_parts, padded, saturate,
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
        let Self(parts, sizes) = self;
        check_counts(sample, parts.info.max_active, sizes.dense_inputs)?;
        let (even_words, odd_words) = sizes.buffers;
        let (even, odd) = split_scratch(scratch, even_words, odd_words)?;

        // The terms lie where the first layer's outputs come once z is there.
        let (mut x, mut width) = (halfwords(even), sizes.input);
        let linear = parts.input(sample, sizes.lanes, odd, take_mut(x, width))?;
        let mut y = halfwords(odd);
        for layer in &parts.layers {
            let out = layer.bias.len();
            dense(layer, take(x, width), take_mut(y, out));
            swap(&mut x, &mut y);
            width = out;
        }
        let deep = parts.head_scale.apply(dot(parts.head, take(x, width)));
        Ok(Q16::saturating_from_bits(i64::from(parts.bias.to_bits()) + linear + i64::from(deep)))
    }
}

impl FixedParts<'_> {
    /// Checks the sample's entries, writes z and the dense inputs' codes into `x`, `[in]`, and gives `Σ w_i x_i` over the active
    /// entries and the dense inputs, in [`Q16`] bits.
    fn input(
        &self,
        sample: &Sample<'_, Q16>,
        lanes: usize,
        terms: &mut [u32],
        x: &mut [i16],
    ) -> Result<i64, ScoreError> {
        let (z, rest) = x.split_at_mut_checked(lanes).unwrap_or_default();
        let sum = match &self.table {
            Table::I8(table) => self.pool_i8(table, sample, lanes, terms, z)?,
            Table::I4(table) => self.pool_i4(table, sample, lanes, terms, z)?,
        };
        let linear = i64::from(self.linear_scale.apply(sum));
        if rest.is_empty() {
            return Ok(linear);
        }
        self.dense_codes(sample.dense(), rest);
        Ok(if sample.dense().is_empty() { linear } else { linear + self.dense_linear(sample.dense())? })
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

    /// Writes the dense inputs' codes, and zeros after them.
    #[inline(never)]
    fn dense_codes(&self, dense: &[Q16], codes: &mut [i16]) {
        codes.fill(0);
        for ((code, input), value) in codes.iter_mut().zip(self.dense_inputs.iter()).zip(dense) {
            *code = clamp(input.code.apply(value.to_bits()), self.max);
        }
    }

    /// Pools 8-bit rows into `z`, and gives the sum of first-order codes.
    fn pool_i8(
        &self,
        table: &QuantTable<'_>,
        sample: &Sample<'_, Q16>,
        lanes: usize,
        terms: &mut [u32],
        z: &mut [i16],
    ) -> Result<i32, ScoreError> {
        let terms = take_mut(terms.as_chunks_mut().0, sample.ids().len());
        let sum = self.terms(table, sample.ids(), saturate(lanes), terms)?;
        let Some(values) = sample.values() else {
            // A header holds a multiplier of at most 16.
            let max_multiplier = (self.max_embedding / 128).min(MAX_MULTIPLIER.into()).to_le_bytes()[0];
            bi_interaction(table.codes, terms, max_multiplier, self.shift, self.max, z);
            return Ok(sum);
        };
        let sum = self.times_values(table, sample.ids(), values, terms)?;
        bi_interaction_of_values(table.codes, terms, self.shift, self.max, z);
        Ok(sum)
    }

    /// Checks the ids, writes a term for each, and gives the sum of their first-order codes.
    #[inline(never)]
    fn terms(
        &self,
        table: &QuantTable<'_>,
        ids: &[u32],
        lanes: u32,
        terms: &mut [Term],
    ) -> Result<i32, ScoreError> {
        let mut sum = 0_i32;
        for (&id, term) in ids.iter().zip(terms) {
            let Some(&header) = table.headers.get(id as usize) else { return Err(self.unknown_id(ids)) };
            sum += header_linear(header);
            // id < rows, and rows · lanes < 2³¹, by `parse`.
            let [start, gain, ..] = term;
            (*start, *gain) = (id.wrapping_mul(lanes), header_multiplier(header).cast_unsigned());
        }
        Ok(sum)
    }

    /// The error of the first id that is no row.
    #[cold]
    fn unknown_id(&self, ids: &[u32]) -> ScoreError {
        let rows = self.info.rows;
        let position = ids.iter().position(|&id| id >= rows).unwrap_or_default();
        ScoreError::UnknownId { position, id: ids.get(position).copied().unwrap_or_default(), rows }
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
        for (position, ((header, value), [_, gain, ..])) in headers.zip(values).zip(terms).enumerate() {
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

    /// Pools 4-bit rows, and the hot ones among them, into `z`, and gives the sum of first-order codes.
    fn pool_i4(
        &self,
        table: &NibbleTable<'_>,
        sample: &Sample<'_, Q16>,
        lanes: usize,
        terms: &mut [u32],
        z: &mut [i16],
    ) -> Result<i32, ScoreError> {
        let lanes = saturate(lanes);
        let terms = take_mut(terms.as_chunks_mut().0, sample.ids().len());
        let mut sum = 0_i32;
        for (position, (&id, term)) in sample.ids().iter().zip(&mut *terms).enumerate() {
            let Some(&header) = table.headers.get(id as usize) else {
                return Err(self.unknown_id(sample.ids()));
            };
            let (linear, gain, offset) = nibble_header_parts(header);
            let value = sample.values().and_then(|values| values.get(position));
            let (linear, gain, offset) = match value {
                None => (linear, gain, offset),
                // gain · 15 · |value| < 2¹⁵ and |offset| · |value| < 2¹⁴, by the factor 2 of the proof in `parse`.
                Some(&value) => {
                    let value = self.legal(value, position)?;
                    (times(linear, value), gain * value.to_bits(), offset * value.to_bits())
                }
            };
            sum += linear;
            let start = match table.place(id) {
                Place::Hot(row) => row.wrapping_mul(lanes),
                Place::Other(row) => row.wrapping_mul(lanes.div_ceil(8)) | NIBBLES,
            };
            *term = [start, gain.cast_unsigned(), offset.cast_unsigned()];
        }
        let values = sample.values().is_some();
        nibbles::bi_interaction(table.codes, table.nibbles, terms, values, self.shift, self.max, z);
        // No code of a row is zero for certain: what the padding's codes gave would meet the fractions of DSP weights.
        z.iter_mut().skip(self.info.dim.into()).for_each(|z| *z = 0);
        Ok(sum)
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
fn take_mut<T>(slice: &mut [T], len: usize) -> &mut [T] {
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
        let parts = &self.0;
        check_counts(sample, parts.info.max_active, parts.dense_linear.len())?;
        let linear = self.first_order(sample)?;
        let (even_len, odd_len) = parts.buffers();
        let (mut x, mut y) = split_scratch(scratch, even_len, odd_len)?;

        let mut width = self.input(sample, x);
        for layer in &parts.layers {
            let out = padded(layer.bias.len());
            float::dense::<M>(layer, take(x, width), take_mut(y, out));
            swap(&mut x, &mut y);
            width = out;
        }
        Ok(parts.bias + linear + float::dot_f32(parts.head, take(x, width)))
    }

    /// Checks the sample and gives `Σ w_i x_i` over the active entries and the dense inputs.
    #[expect(clippy::float_arithmetic, reason = "this is the f32 path")]
    fn first_order(&self, sample: &Sample<'_, f32>) -> Result<f32, ScoreError> {
        let mut sum = 0.0;
        for (position, &id) in sample.ids().iter().enumerate() {
            let error = ScoreError::UnknownId { position, id, rows: self.0.info.rows };
            let weight = self.0.table.linear(id).ok_or(error)?;
            sum += match sample.values().and_then(|values| values.get(position)) {
                None => weight,
                Some(value) if value.is_finite() => weight * value,
                Some(_) => return Err(ScoreError::ValueNotFinite { position }),
            };
        }
        for (position, (weight, value)) in self.0.dense_linear.iter().zip(sample.dense()).enumerate() {
            if !value.is_finite() {
                return Err(ScoreError::DenseNotFinite { position });
            }
            sum += weight * value;
        }
        Ok(sum)
    }

    /// Writes z and the dense inputs into `x`, and gives the padded width of both.
    fn input(&self, sample: &Sample<'_, f32>, x: &mut [f32]) -> usize {
        let lanes = self.0.info.lanes();
        let z = take_mut(x, lanes);
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
        let width = self.0.input_len();
        let rest = x.iter_mut().take(width).skip(lanes);
        let dense = sample.dense().iter().copied().chain(core::iter::repeat(0.0));
        rest.zip(dense).for_each(|(x, value)| *x = value);
        width
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
