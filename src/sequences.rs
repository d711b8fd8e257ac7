//! Samples with sequences: runs of entries that are pooled to one embedding before they interact.
//!
//! These are methods of their own, so that firmware without sequences does not carry the code.

use crate::{
    F32Model, Libm, Math, Model, Pooling, Q16, Sample, ScoreError, Sequence,
    kernels::{
        nibbles::NibbleTerm,
        sequences::{self, groups},
    },
    model::{FixedParts, Table, saturate},
    score::take_mut,
};

impl Model<'_> {
    /// As [`Model::score`], with the entries of each of `sequences` pooled to one embedding.
    ///
    /// Sequences stand in the order of their entries; entries of none are terms of their own.
    ///
    /// # Errors
    ///
    /// As [`Model::score`]; and [`ScoreError::SequenceRange`].
    ///
    /// # Examples
    ///
    /// ```
    /// # let blob = embedded_nfm::include_model!("../tests/golden/tiny.nfm");
    /// use embedded_nfm::{Model, Pooling, Sample, Sequence};
    ///
    /// let model = Model::parse(blob)?;
    /// let mut scratch = [0; 32];
    /// let sample = Sample::new(&[0, 3]);
    /// let both = [Sequence { start: 0, len: 2, pooling: Pooling::Mean, linear: Pooling::Sum }];
    /// // One embedding has no other to interact with.
    /// assert_ne!(model.score_sequences(&sample, &both, &mut scratch)?, model.score(&sample, &mut scratch)?);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn score_sequences(
        &self,
        sample: &Sample<'_, Q16>,
        sequences: &[Sequence],
        scratch: &mut [u32],
    ) -> Result<Q16, ScoreError> {
        check_ranges(sequences, sample.ids().len())?;
        let lanes = self.1.lanes;
        self.score_with(sample, scratch, |parts, terms, x| {
            parts.pool_sequences(sample, sequences, terms, take_mut(x, lanes))
        })
    }
}

impl FixedParts<'_> {
    /// Pools the groups into `z`, and gives their first-order codes, pooled too.
    fn pool_sequences(
        &self,
        sample: &Sample<'_, Q16>,
        sequences: &[Sequence],
        terms: &mut [u32],
        z: &mut [i16],
    ) -> Result<i32, ScoreError> {
        let (ids, terms) = (sample.ids(), take_mut(terms.as_chunks_mut().0, sample.ids().len()));
        let mut sum = 0;
        for group in groups(ids.len(), sequences) {
            let mut pooled = Pooled::new(group.linear);
            for position in group.entries() {
                let (linear, term) = self.sequence_term(sample, position, saturate(z.len()))?;
                pooled.add(linear);
                if let Some(place) = terms.get_mut(position) {
                    *place = term;
                }
            }
            sum += sequences::divide(pooled.value, group.linear, group.len);
        }
        let (codes, nibbles) = match &self.table {
            Table::I8(table) => (table.codes, &[][..]),
            Table::I4(table) => (table.codes, table.nibbles),
        };
        let values = sample.values().is_some();
        sequences::pool(codes, nibbles, terms, sequences, values, (self.shift, self.max), z);
        // What padding's nibbles gave would meet the fractions of DSP weights.
        z.iter_mut().skip(self.info.dim.into()).for_each(|z| *z = 0);
        Ok(sum)
    }

    /// The first-order code and the term of one entry, each times its value.
    fn sequence_term(
        &self,
        sample: &Sample<'_, Q16>,
        position: usize,
        lanes: u32,
    ) -> Result<(i32, NibbleTerm), ScoreError> {
        let id = sample.ids().get(position).copied().unwrap_or_default();
        let value = sample.values().and_then(|values| values.get(position)).copied();
        match &self.table {
            Table::I8(table) => self.byte_term(table, (position, id), value, lanes),
            Table::I4(table) => self.nibble_term(table, (position, id), value, lanes),
        }
    }
}

/// First-order weights of a group, on the way.
struct Pooled<T> {
    value: T,
    pooling: Pooling,
    empty: bool,
}

impl<T: Copy + Default + PartialOrd + core::ops::Add<Output = T>> Pooled<T> {
    fn new(pooling: Pooling) -> Self {
        Self { value: T::default(), pooling, empty: true }
    }

    fn add(&mut self, weight: T) {
        let larger = self.empty || weight > self.value;
        self.value = match self.pooling {
            Pooling::Max if larger => weight,
            Pooling::Max => self.value,
            Pooling::Sum | Pooling::Mean | Pooling::SqrtN => self.value + weight,
        };
        self.empty = false;
    }
}

impl F32Model<'_> {
    /// As [`F32Model::score`], with the entries of each of `sequences` pooled to one embedding.
    ///
    /// # Errors
    ///
    /// As [`F32Model::score`]; and [`ScoreError::SequenceRange`].
    pub fn score_sequences(
        &self,
        sample: &Sample<'_, f32>,
        sequences: &[Sequence],
        scratch: &mut [f32],
    ) -> Result<f32, ScoreError> {
        self.score_sequences_with::<Libm>(sample, sequences, scratch)
    }

    /// As [`F32Model::score_sequences`], with the functions of `M`.
    ///
    /// # Errors
    ///
    /// As there.
    #[expect(clippy::float_arithmetic, reason = "this is the f32 path")]
    pub fn score_sequences_with<M: Math>(
        &self,
        sample: &Sample<'_, f32>,
        sequences: &[Sequence],
        scratch: &mut [f32],
    ) -> Result<f32, ScoreError> {
        check_ranges(sequences, sample.ids().len())?;
        self.check(sample)?;
        let mut linear = 0.0;
        for group in groups(sample.ids().len(), sequences) {
            let mut pooled = Pooled::new(group.linear);
            for position in group.entries() {
                pooled.add(self.weight(sample, position)?);
            }
            linear += sequences::divide_f32(pooled.value, group.linear, group.len);
        }
        let linear = linear + self.dense_first_order(sample)?;
        self.deep::<M>(sample, scratch, linear, |z| {
            for (lane, z) in z.iter_mut().enumerate() {
                let (mut sum, mut pairs) = (0.0, 0.0);
                for group in groups(sample.ids().len(), sequences) {
                    let mut pooled = Pooled::new(group.pooling);
                    group.entries().for_each(|position| pooled.add(self.element(sample, position, lane)));
                    let e = sequences::divide_f32(pooled.value, group.pooling, group.len);
                    pairs += e * sum;
                    sum += e;
                }
                *z = pairs;
            }
        })
    }
}

/// Checks that the sequences are runs of the sample's entries, one after the other.
fn check_ranges(sequences: &[Sequence], entries: usize) -> Result<(), ScoreError> {
    let mut end = 0;
    for (position, sequence) in sequences.iter().enumerate() {
        let run = sequence.entries();
        if run.start < end || run.end > entries {
            return Err(ScoreError::SequenceRange { position });
        }
        end = run.end;
    }
    Ok(())
}
