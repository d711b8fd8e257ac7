//! What is scored: the active `(id, value)` pairs of a row, and its dense inputs.

use core::ops::Range;

use heapless::Vec;

use crate::model::Pooling;

/// A borrowed sample: active ids, their values, and the dense inputs.
///
/// `V` is [`Q16`](crate::Q16) on the fixed path and `f32` on the f32 path. Ids are rows of the model's one
/// embedding table; the same id may stand several times, and each time counts. Order does not matter to the
/// fixed path's result.
///
/// # Examples
///
/// ```
/// use embedded_nfm::{Q16, Sample};
///
/// let one_hot: Sample<'_, Q16> = Sample::new(&[3, 17, 40]);
/// let weighted = Sample::new(&[3, 17]).with_values(&[0.5, 2.0]).with_dense(&[0.125]);
/// assert_eq!(one_hot.ids().len(), 3);
/// assert_eq!(weighted.dense(), [0.125]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Sample<'s, V> {
    ids: &'s [u32],
    values: Option<&'s [V]>,
    dense: &'s [V],
}

impl<'s, V> Sample<'s, V> {
    /// A sample of these active ids, each with value one, and no dense input.
    #[must_use]
    pub const fn new(ids: &'s [u32]) -> Self {
        Self { ids, values: None, dense: &[] }
    }

    /// Gives each id its value; `score` refuses a sample with another number of values than ids.
    #[must_use]
    pub const fn with_values(mut self, values: &'s [V]) -> Self {
        self.values = Some(values);
        self
    }

    /// Gives the dense inputs, in the model's order.
    #[must_use]
    pub const fn with_dense(mut self, dense: &'s [V]) -> Self {
        self.dense = dense;
        self
    }

    /// The active ids.
    #[must_use]
    pub const fn ids(&self) -> &'s [u32] {
        self.ids
    }

    /// The values, one for each id; `None` when all are one.
    #[must_use]
    pub const fn values(&self) -> Option<&'s [V]> {
        self.values
    }

    /// The dense inputs.
    #[must_use]
    pub const fn dense(&self) -> &'s [V] {
        self.dense
    }
}

/// A run of a sample's entries that are one embedding: their rows are pooled before they interact with the others'.
///
/// With n entries of embeddings e (times their values) the pooled one is Σ e, Σ e / n, Σ e / √n, or the largest of each
/// lane; their first-order weights are pooled likewise, on their own.
///
/// # Examples
///
/// ```
/// use embedded_nfm::{Pooling, Q16, Sample, Sequence};
///
/// // A user, and three genres that count as one embedding, their mean.
/// let sample: Sample<'_, Q16> = Sample::new(&[3, 17, 18, 25]);
/// let genres = Sequence { start: 1, len: 3, pooling: Pooling::Mean, linear: Pooling::Mean };
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sequence {
    /// The position of its first entry in the sample.
    pub start: u16,
    /// How many entries it has. One without entries adds nothing to the score.
    pub len: u16,
    /// How embeddings are pooled.
    pub pooling: Pooling,
    /// How first-order weights are pooled.
    pub linear: Pooling,
}

impl Sequence {
    /// Its entries, among a sample's.
    pub(crate) const fn entries(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

/// A sample that owns its memory: at most `N` active entries and `D` dense inputs, no heap.
///
/// # Examples
///
/// ```
/// use embedded_nfm::SampleBuf;
///
/// let mut sample: SampleBuf<f32, 2, 0> = SampleBuf::new();
/// sample.push(3, 1.0).unwrap();
/// sample.push(17, 0.5).unwrap();
/// assert_eq!(sample.push(40, 1.0), Err(1.0));
/// assert_eq!(sample.as_sample().ids(), [3, 17]);
/// ```
#[derive(Clone, Debug)]
pub struct SampleBuf<V, const N: usize, const D: usize> {
    ids: Vec<u32, N>,
    values: Vec<V, N>,
    dense: Vec<V, D>,
}

impl<V, const N: usize, const D: usize> SampleBuf<V, N, D> {
    /// An empty sample.
    #[must_use]
    pub const fn new() -> Self {
        Self { ids: Vec::new(), values: Vec::new(), dense: Vec::new() }
    }

    /// Adds an active entry.
    ///
    /// # Errors
    ///
    /// Gives `value` back when `N` entries are there already.
    pub fn push(&mut self, id: u32, value: V) -> Result<(), V> {
        self.values.push(value)?;
        // Both hold N and grow together, so this one has room too.
        let _ = self.ids.push(id);
        Ok(())
    }

    /// Adds a dense input.
    ///
    /// # Errors
    ///
    /// Gives `value` back when `D` inputs are there already.
    pub fn push_dense(&mut self, value: V) -> Result<(), V> {
        self.dense.push(value)
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.ids.clear();
        self.values.clear();
        self.dense.clear();
    }

    /// The sample, borrowed.
    ///
    /// # Cost
    ///
    /// It has values, also where all are one; [`Sample::new`] of the ids scores the same in far fewer instructions.
    #[must_use]
    pub fn as_sample(&self) -> Sample<'_, V> {
        Sample::new(&self.ids).with_values(&self.values).with_dense(&self.dense)
    }
}

impl<V, const N: usize, const D: usize> Default for SampleBuf<V, N, D> {
    fn default() -> Self {
        Self::new()
    }
}
