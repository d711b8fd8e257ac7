//! From a row's raw values to a [`Sample`], field by field, in memory of the caller.

use core::fmt;

use super::{
    numeric::Raw,
    section::{Encoders, Number, Padding},
};
use crate::{Q16, Sample};

/// What the builder must know of a model's fields.
pub trait Slots {
    /// How many fields there are.
    fn count(&self) -> u16;
    /// What becomes of a field's values; `None` where there is no such field.
    fn slot(&self, field: u16) -> Option<Slot>;
    /// A field's name; empty where there is none.
    fn name(&self, field: u16) -> &str;
    /// The field of a name.
    fn find(&self, name: &str) -> Option<u16> {
        (0..self.count()).find(|&field| self.name(field) == name)
    }
}

/// What becomes of a field's values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// Entries: row `first + id` of the model's table, of ids below `rows`.
    Ids {
        /// The row of id 0.
        first: u32,
        /// How many ids there are.
        rows: u32,
        /// Whether the field may have any number of values.
        many: bool,
    },
    /// One entry, whose value is the number.
    Scaled {
        /// Its row.
        row: u32,
    },
    /// A dense input.
    Dense {
        /// Which one.
        position: u16,
    },
}

/// A field by its position in the model; a constant of generated code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldIndex(
    /// The position.
    pub u16,
);

/// A field, by name or by position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FieldKey<'n> {
    /// By name: fields are compared one after another.
    Name(&'n str),
    /// By position.
    Index(FieldIndex),
}

impl<'n> From<&'n str> for FieldKey<'n> {
    fn from(name: &'n str) -> Self {
        Self::Name(name)
    }
}

impl From<FieldIndex> for FieldKey<'_> {
    fn from(index: FieldIndex) -> Self {
        Self::Index(index)
    }
}

/// A raw value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value<'v> {
    /// A text; also an empty one is a value.
    Text(&'v str),
    /// An integer.
    Int(i64),
    /// A fixed-point number.
    Q16(Q16),
    /// A float; NaN is no value.
    F32(f32),
}

impl Value<'_> {
    /// The number; `None` of NaN.
    pub(super) fn raw(self) -> Result<Option<Raw>, Problem> {
        match self {
            Self::Text(_) => Err(Problem::WrongType),
            Self::Int(number) => Ok(Some(Raw::of_int(number))),
            Self::Q16(number) => Ok(Some(Raw::of_q16(number))),
            Self::F32(number) => Ok(Raw::of_f32_bits(number.to_bits())),
        }
    }
}

impl<'v> From<&'v str> for Value<'v> {
    fn from(text: &'v str) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<i32> for Value<'_> {
    fn from(number: i32) -> Self {
        Self::Int(number.into())
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Self::Int(number.into())
    }
}

impl From<Q16> for Value<'_> {
    fn from(number: Q16) -> Self {
        Self::Q16(number)
    }
}

impl From<f32> for Value<'_> {
    fn from(number: f32) -> Self {
        Self::F32(number)
    }
}

/// Where a field's entries stand among those of the sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The first.
    pub start: u16,
    /// How many.
    pub len: u16,
}

impl Span {
    /// Of a field that has no value yet.
    const UNSET: Self = Self { start: 0, len: u16::MAX };
}

/// Memory of a [`SampleBuilder`]: for `N` entries, `D` dense inputs and `F` fields.
#[derive(Clone, Debug)]
pub struct SampleMemory<V, const N: usize, const D: usize, const F: usize> {
    ids: [u32; N],
    values: [V; N],
    dense: [V; D],
    spans: [Span; F],
}

impl<V: Number, const N: usize, const D: usize, const F: usize> SampleMemory<V, N, D, F> {
    /// Memory without a sample.
    #[must_use]
    pub const fn new() -> Self {
        Self { ids: [0; N], values: [V::ONE; N], dense: [V::ZERO; D], spans: [Span::UNSET; F] }
    }
}

impl<V: Number, const N: usize, const D: usize, const F: usize> Default for SampleMemory<V, N, D, F> {
    fn default() -> Self {
        Self::new()
    }
}

/// The same, borrowed.
#[derive(Debug)]
pub struct SampleSlices<'m, V> {
    /// An id for each entry.
    pub ids: &'m mut [u32],
    /// A value for each entry; as many as ids.
    pub values: &'m mut [V],
    /// The dense inputs: as many as the model has, since the sample is given all of them.
    pub dense: &'m mut [V],
    /// One for each field.
    pub spans: &'m mut [Span],
}

/// Encodes a row's raw values into a [`Sample`].
///
/// Fields may come in any order; entries stand in the order in which their fields came, those of missing fields at the end.
///
/// # Examples
///
/// ```
/// use embedded_nfm::{Q16, encode::*};
///
/// # struct Fields;
/// # impl Slots for Fields {
/// #     fn count(&self) -> u16 { 2 }
/// #     fn slot(&self, field: u16) -> Option<Slot> {
/// #         Some(if field == 0 { Slot::Ids { first: 0, rows: 3, many: false } } else { Slot::Dense { position: 0 } })
/// #     }
/// #     fn name(&self, field: u16) -> &str { ["carrier", "distance"][usize::from(field)] }
/// # }
/// # let fields = Fields;
/// # let parts = VocabularyParts { keys: Keys::Text(&["AA", "DL", "UA"]), ids: &[0, 1, 2], exact: false };
/// # let (mut scratch, mut table, mut words) = ([Entry::default(); 3], [0; 16], [0; 64]);
/// # let len = parts.emit(&mut scratch, &mut table)?;
/// # let carriers = Encoder::Vocabulary(Vocabulary::parse(&table[..len], 3)?);
/// # let miles = Scaling::new(Of::Value, 1000.0, 0.001, Q16::MIN, Q16::MAX).ok_or("no scale")?;
/// # let field = |encoder| FieldEncoder {
/// #     encoder, unseen: Policy::Error, missing: Policy::Error, sequence: SequenceRule::SINGLE };
/// # let len = emit_encoders(&[field(carriers), field(Encoder::Number(miles))], &mut words)?;
/// # let section = bytemuck::cast_slice(&words[..len]);
/// let encoders = Encoders::<Q16>::parse(section, &fields)?;
/// let mut memory = SampleMemory::<Q16, 1, 1, 2>::new();
///
/// let mut sample = SampleBuilder::new(encoders, &fields, &mut memory);
/// sample.set("carrier", "UA").unwrap();
/// sample.set(FieldIndex(1), 2500).unwrap(); // miles, by a constant of generated code
/// let sample = sample.finish().unwrap();
/// assert_eq!(sample.ids(), [2]);
/// assert_eq!(sample.dense(), [Q16::from_bits(3 << 15)]); // (2500 − 1000) / 1000
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SampleBuilder<'b, 'a, V, S> {
    encoders: Encoders<'a, V>,
    slots: &'b S,
    ids: &'b mut [u32],
    values: &'b mut [V],
    dense: &'b mut [V],
    spans: &'b mut [Span],
    len: usize,
    /// Whether any value is not one.
    weighted: bool,
}

/// An id that is left out of a sequence.
const NO_ID: u32 = u32::MAX;

impl<'b, 'a, V: Number, S: Slots> SampleBuilder<'b, 'a, V, S> {
    /// A builder without any value.
    pub fn new<const N: usize, const D: usize, const F: usize>(
        encoders: Encoders<'a, V>,
        slots: &'b S,
        memory: &'b mut SampleMemory<V, N, D, F>,
    ) -> Self {
        let SampleMemory { ids, values, dense, spans } = memory;
        Self::over(encoders, slots, SampleSlices { ids, values, dense, spans })
    }

    /// A builder without any value, in memory whose sizes are known only when it runs.
    pub fn over(encoders: Encoders<'a, V>, slots: &'b S, memory: SampleSlices<'b, V>) -> Self {
        let SampleSlices { ids, values, dense, spans } = memory;
        let mut builder = Self { encoders, slots, ids, values, dense, spans, len: 0, weighted: false };
        builder.clear();
        builder
    }

    /// Removes all values.
    pub fn clear(&mut self) {
        self.spans.fill(Span::UNSET);
        self.dense.fill(V::ZERO);
        (self.len, self.weighted) = (0, false);
    }

    /// Gives a field its one value.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] names the field; it has no value then.
    pub fn set<'n>(
        &mut self,
        field: impl Into<FieldKey<'n>>,
        value: impl Into<Value<'n>>,
    ) -> Result<(), EncodeError<'n>>
    where
        'b: 'n,
    {
        let (field, slot) = self.field(field.into())?;
        let encoder = self.encoders.encoder(field);
        let rows = if let Slot::Ids { rows, .. } = slot { rows } else { 1 };
        let start = self.len;
        let put = encoder.encode(rows, value.into()).and_then(|entry| self.put(slot, entry));
        self.close(field, start, put)
    }

    /// Gives a field of several values its values, each of weight one.
    ///
    /// # Errors
    ///
    /// As for [`Self::set`].
    pub fn set_sequence<'n, T: Into<Value<'n>>>(
        &mut self,
        field: impl Into<FieldKey<'n>>,
        values: impl IntoIterator<Item = T>,
    ) -> Result<(), EncodeError<'n>>
    where
        'b: 'n,
    {
        self.set_weighted(field, values.into_iter().map(|value| (value, V::ONE)))
    }

    /// Gives a field of several values its values and their weights.
    ///
    /// Values beyond the field's `max_len` are left out, at the end or at the start as its encoder says; then those without an
    /// entry, and those that are padding.
    ///
    /// # Errors
    ///
    /// As for [`Self::set`].
    pub fn set_weighted<'n, T: Into<Value<'n>>>(
        &mut self,
        field: impl Into<FieldKey<'n>>,
        values: impl IntoIterator<Item = (T, V)>,
    ) -> Result<(), EncodeError<'n>>
    where
        'b: 'n,
    {
        let (field, slot) = self.field(field.into())?;
        let start = self.len;
        let put = match slot {
            Slot::Ids { first, rows, many: true } => {
                let values = values.into_iter().map(|(value, weight)| (value.into(), weight));
                self.put_sequence(field, first, rows, values)
            }
            _ => Err(Problem::NotASequence),
        };
        self.close(field, start, put)
    }

    /// The sample, with what each field without a value has in its place.
    ///
    /// # Errors
    ///
    /// When a field is missing that must not be.
    pub fn finish(&mut self) -> Result<Sample<'_, V>, EncodeError<'b>> {
        for field in 0..self.slots.count() {
            if self.spans.get(usize::from(field)) == Some(&Span::UNSET) {
                let (field, slot) = self.field(FieldKey::Index(FieldIndex(field)))?;
                let start = self.len;
                let missing = self.encoders.encoder(field).missing();
                let put = missing.and_then(|entry| match slot {
                    // No value is an empty sequence, which may be filled up.
                    Slot::Ids { first, rows, many: true } if entry.is_none() => {
                        self.put_sequence(field, first, rows, core::iter::empty())
                    }
                    slot => self.put(slot, entry),
                });
                self.close(field, start, put)?;
            }
        }
        Ok(self.sample())
    }

    /// The sample that [`Self::finish`] gave, once more.
    #[must_use]
    pub fn sample(&self) -> Sample<'_, V> {
        let sample = Sample::new(self.ids.get(..self.len).unwrap_or_default()).with_dense(self.dense);
        let values = self.values.get(..self.len).unwrap_or_default();
        if self.weighted { sample.with_values(values) } else { sample }
    }

    /// Where each field's entries stand in the sample, in the order of the fields, once [`Self::finish`] gave it.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        self.spans
    }

    /// The model's fields.
    pub(super) const fn slots(&self) -> &'b S {
        self.slots
    }

    /// Finds a field that has no value yet.
    fn field<'n>(&self, key: FieldKey<'n>) -> Result<(u16, Slot), EncodeError<'n>>
    where
        'b: 'n,
    {
        let slots = self.slots;
        let found = match key {
            FieldKey::Index(FieldIndex(index)) => Some(index),
            FieldKey::Name(name) => slots.find(name),
        };
        let found = found.and_then(|field| Some((field, slots.slot(field)?)));
        let (field, slot) = found.ok_or(EncodeError { field: key, problem: Problem::UnknownField })?;
        match self.spans.get(usize::from(field)) {
            Some(&Span::UNSET) => Ok((field, slot)),
            Some(_) => Err(self.error(field, Problem::AlreadySet)),
            None => Err(self.error(field, Problem::TooManyFields { max: self.spans.len() })),
        }
    }

    fn error<'n>(&self, field: u16, problem: Problem) -> EncodeError<'n>
    where
        'b: 'n,
    {
        EncodeError { field: FieldKey::Name(self.slots.name(field)), problem }
    }

    /// Notes what was put since `start` as the field's, or takes it back.
    fn close<'n>(&mut self, field: u16, start: usize, put: Result<(), Problem>) -> Result<(), EncodeError<'n>>
    where
        'b: 'n,
    {
        let put = put.and_then(|()| {
            let span = u16::try_from(start).ok().zip(u16::try_from(self.len - start).ok());
            let full = Problem::TooManyEntries { max: self.ids.len() };
            let (start, len) = span.filter(|(_, len)| *len != u16::MAX).ok_or(full)?;
            if let Some(to) = self.spans.get_mut(usize::from(field)) {
                *to = Span { start, len };
            }
            Ok(())
        });
        put.map_err(|problem| {
            self.len = start;
            self.error(field, problem)
        })
    }

    /// Puts what one value was encoded to.
    fn put(&mut self, slot: Slot, entry: Option<(u32, V)>) -> Result<(), Problem> {
        match (slot, entry) {
            (Slot::Ids { first, .. }, Some((id, value))) => self.push(first.wrapping_add(id), value),
            (Slot::Scaled { row }, Some((_, value))) => self.push(row, value),
            (Slot::Dense { position }, entry) => {
                let max = self.dense.len();
                let to = self.dense.get_mut(usize::from(position)).ok_or(Problem::TooManyDense { max })?;
                *to = entry.map_or(V::ZERO, |(_, value)| value);
                Ok(())
            }
            (_, None) => Ok(()),
        }
    }

    fn push(&mut self, id: u32, value: V) -> Result<(), Problem> {
        self.write(self.len, id, value)?;
        self.len += 1;
        Ok(())
    }

    fn write(&mut self, at: usize, id: u32, value: V) -> Result<(), Problem> {
        match (self.ids.get_mut(at), self.values.get_mut(at)) {
            (Some(to_id), Some(to_value)) => (*to_id, *to_value) = (id, value),
            _ => return Err(Problem::TooManyEntries { max: self.ids.len() }),
        }
        self.weighted |= value != V::ONE;
        Ok(())
    }

    /// Puts a sequence: with `keep_last` in a ring of `max_len` entries, which is turned around at the end.
    fn put_sequence<'v>(
        &mut self,
        field: u16,
        first: u32,
        rows: u32,
        mut values: impl Iterator<Item = (Value<'v>, V)>,
    ) -> Result<(), Problem> {
        let encoder = self.encoders.encoder(field);
        let rule = encoder.sequence;
        let (start, max_len) = (self.len, usize::from(rule.max_len.max(1)));
        let mut count = 0;
        while rule.keep_last || count < max_len {
            let Some((value, weight)) = values.next() else { break };
            let entry = encoder.encode::<V>(rows, value)?;
            let entry = entry.filter(|(id, _)| rule.padding != Padding::Skip(*id));
            let (id, value) = match entry {
                None => (NO_ID, V::ONE),
                Some((id, sign)) => {
                    (first.wrapping_add(id), if sign == V::ONE { weight } else { weight.negated() })
                }
            };
            self.write(start + count % max_len, id, value)?;
            count += 1;
        }
        let end = start + count.min(max_len);
        if count > max_len {
            self.ids.get_mut(start..end).unwrap_or_default().rotate_left(count % max_len);
            self.values.get_mut(start..end).unwrap_or_default().rotate_left(count % max_len);
        }
        self.compact(end);
        if let Padding::Fill(id) = rule.padding {
            while self.len < start + max_len {
                self.push(first.wrapping_add(id), V::ONE)?;
            }
        }
        Ok(())
    }

    /// Takes over the entries up to `end` but those that are left out.
    fn compact(&mut self, end: usize) {
        for at in self.len..end {
            if let (Some(&id), Some(&value)) = (self.ids.get(at), self.values.get(at))
                && id != NO_ID
                && self.write(self.len, id, value).is_ok()
            {
                self.len += 1;
            }
        }
    }
}

/// Why a value was not encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EncodeError<'n> {
    /// The field: its name, or what was given where there is no such field.
    pub field: FieldKey<'n>,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Problem {
    /// The model has no such field.
    UnknownField,
    /// The field has a value already.
    AlreadySet,
    /// The field's encoder takes no value of this type.
    WrongType,
    /// The value is not in the vocabulary or not in the range, and that is an error for this field.
    Unseen,
    /// The field has no value, and that is an error for this field.
    Missing,
    /// The field takes one value.
    NotASequence,
    /// There is no room for more entries.
    TooManyEntries {
        /// How many there is room for.
        max: usize,
    },
    /// There is no room for this dense input.
    TooManyDense {
        /// How many there is room for.
        max: usize,
    },
    /// There is no room for this field.
    TooManyFields {
        /// How many there is room for.
        max: usize,
    },
}

impl fmt::Display for EncodeError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            FieldKey::Name(name) => write!(f, "field `{name}`: ")?,
            FieldKey::Index(FieldIndex(index)) => write!(f, "field {index}: ")?,
        }
        match self.problem {
            Problem::UnknownField => f.write_str("the model has no such field"),
            Problem::AlreadySet => f.write_str("it has a value already; expected one call a field"),
            Problem::WrongType => f.write_str("its encoder takes no value of this type"),
            Problem::Unseen => f.write_str("expected a value that was seen in training"),
            Problem::Missing => f.write_str("expected a value, found none"),
            Problem::NotASequence => f.write_str("expected one value, found a sequence"),
            Problem::TooManyEntries { max } => write!(f, "expected room for its entries, found {max} in all"),
            Problem::TooManyDense { max } => {
                write!(f, "expected room for its dense input, found {max} in all")
            }
            Problem::TooManyFields { max } => write!(f, "expected room for it, found {max} fields"),
        }
    }
}

impl core::error::Error for EncodeError<'_> {}
