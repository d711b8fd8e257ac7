//! The section of encoders: a record for each field of the model, then their tables.

use core::marker::PhantomData;

use super::{
    builder::{Problem, Slot, Slots, Value},
    decimal::Decimal,
    error::{EmitEncodersError, EncodersError, Part, at_most, exactly},
    hash::{Hashing, Rule},
    numeric::{Buckets, F32Scaling, LAST_OPTION, Raw, Scaling},
    vocabulary::{Cutter, Vocabulary, short},
};
use crate::Q16;

/// Words before the records.
const HEADER: usize = 1;
/// Words of a record.
const RECORD: usize = 6;

/// What turns a model's raw values into ids and numbers, borrowed from a section that was checked.
///
/// `V` is [`Q16`] on the fixed path and `f32` on the f32 path.
#[derive(Clone, Copy, Debug)]
pub struct Encoders<'a, V> {
    words: &'a [u32],
    path: PhantomData<V>,
}

/// The encoder of a field.
#[derive(Clone, Copy, Debug)]
pub struct FieldEncoder<'a> {
    /// From a value to an id or a number.
    pub encoder: Encoder<'a>,
    /// What becomes of a value that it has no id or no legal number for.
    pub unseen: Policy,
    /// What becomes of a field that has no value, or NaN.
    pub missing: Policy,
    /// How several values become one sequence.
    pub sequence: SequenceRule,
}

/// From a value to an id, or to a number.
#[derive(Clone, Copy, Debug)]
pub enum Encoder<'a> {
    /// Integers that are ids already.
    Id,
    /// Texts or integers, by a table.
    Vocabulary(Vocabulary<'a>),
    /// Texts and numbers, by a hash.
    Hash(Hashing<'a>),
    /// Numbers, by boundaries.
    Buckets(Buckets<'a>),
    /// Numbers, to numbers of the fixed path.
    Number(Scaling),
    /// Numbers, to numbers of the f32 path.
    F32Number(F32Scaling),
}

/// What becomes of a value that cannot be encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// The sample is refused.
    Error,
    /// No entry; a dense input is 0.
    Zero,
    /// This id, or the number of these bits.
    Use(u32),
    /// The nearest legal id or number: of ids that are encoded already, and of numbers outside of their range.
    Clamp,
}

/// How several values become one sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SequenceRule {
    /// The most values, at least 1.
    pub max_len: u16,
    /// Whether the last values are kept of a longer sequence; else the first.
    pub keep_last: bool,
    /// What is done about padding.
    pub padding: Padding,
}

impl SequenceRule {
    /// A field of one value.
    pub const SINGLE: Self = Self { max_len: 1, keep_last: false, padding: Padding::None };
}

/// What is done about padding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Padding {
    /// Nothing.
    None,
    /// Values that are encoded to this id are left out: the model masks it.
    Skip(u32),
    /// Shorter sequences are filled with this id: the model has it take part.
    Fill(u32),
}

/// The numbers of a path.
pub trait Number: Copy + PartialEq + sealed::Sealed {
    /// The value of an entry that has none.
    const ONE: Self;
    /// The number that adds nothing.
    const ZERO: Self;
    /// The number of these bits, as policies have it.
    #[must_use]
    fn from_bits(bits: u32) -> Self;
    /// The number with the other sign.
    #[must_use]
    fn negated(self) -> Self;
}

mod sealed {
    use super::{Encoder, EncodersError, Raw};

    pub trait Sealed: Sized {
        /// The kind of the encoders that scale numbers of this path.
        const KIND: u8;
        /// The number after scaling, if it is in the range; else the nearest that is. `None` where the encoder scales none of
        /// this path.
        fn scaled(encoder: &Encoder<'_>, number: Raw) -> Option<Result<Self, Self>>;
        /// Checks a policy's bits.
        fn check_bits(bits: u32) -> Result<(), EncodersError>;
    }
}

impl Number for Q16 {
    const ONE: Self = Self::ONE;
    const ZERO: Self = Self::from_bits(0);
    fn from_bits(bits: u32) -> Self {
        Self::from_bits(bits.cast_signed())
    }
    fn negated(self) -> Self {
        Self::from_bits(self.to_bits().saturating_neg())
    }
}

impl sealed::Sealed for Q16 {
    const KIND: u8 = 4;
    fn scaled(encoder: &Encoder<'_>, number: Raw) -> Option<Result<Self, Self>> {
        let Encoder::Number(scaling) = encoder else {
            return None;
        };
        let number = scaling.apply(number);
        let nearest = number.max(scaling.min).min(scaling.max);
        Some(if number == nearest { Ok(number) } else { Err(nearest) })
    }
    fn check_bits(_: u32) -> Result<(), EncodersError> {
        Ok(())
    }
}

impl Number for f32 {
    const ONE: Self = 1.0;
    const ZERO: Self = 0.0;
    fn from_bits(bits: u32) -> Self {
        Self::from_bits(bits)
    }
    fn negated(self) -> Self {
        -self
    }
}

impl sealed::Sealed for f32 {
    const KIND: u8 = 5;
    fn scaled(encoder: &Encoder<'_>, number: Raw) -> Option<Result<Self, Self>> {
        let Encoder::F32Number(scaling) = encoder else {
            return None;
        };
        let number = scaling.apply(number);
        // NaN comes of ln(1 + x) for x < −1, and of infinities: it is below the range.
        let in_range = (scaling.min..=scaling.max).contains(&number);
        let nearest = if number > scaling.max { scaling.max } else { scaling.min };
        Some(if in_range { Ok(number) } else { Err(nearest) })
    }
    fn check_bits(bits: u32) -> Result<(), EncodersError> {
        at_most(Part::Policy, bits & 0x7fff_ffff, Self::MAX.to_bits())
    }
}

/// A record, as it stands in the section.
#[derive(Clone, Copy, Default)]
struct Record {
    kind: u8,
    option: u8,
    unseen: u8,
    missing: u8,
    unseen_use: u32,
    missing_use: u32,
    table: u32,
    max_len: u16,
    keep_last: u8,
    padding: u8,
    padding_id: u32,
}

impl Record {
    fn of_words(words: [u32; RECORD]) -> Self {
        let [head, unseen_use, missing_use, table, sequence, padding_id] = words;
        let [kind, option, unseen, missing] = head.to_le_bytes();
        let [low, high, keep_last, padding] = sequence.to_le_bytes();
        let max_len = u16::from_le_bytes([low, high]);
        Self {
            kind,
            option,
            unseen,
            missing,
            unseen_use,
            missing_use,
            table,
            max_len,
            keep_last,
            padding,
            padding_id,
        }
    }

    fn words(&self) -> [u32; RECORD] {
        let head = u32::from_le_bytes([self.kind, self.option, self.unseen, self.missing]);
        let [low, high] = self.max_len.to_le_bytes();
        let sequence = u32::from_le_bytes([low, high, self.keep_last, self.padding]);
        [head, self.unseen_use, self.missing_use, self.table, sequence, self.padding_id]
    }

    /// The field's encoder with its table, which `words` starts with, and the table's length.
    fn encoder<'a>(&self, words: &'a [u32]) -> Option<(Encoder<'a>, usize)> {
        let option = self.option.into();
        Some(match self.kind {
            0 => (Encoder::Id, 0),
            1 => {
                let (table, len) = Vocabulary::cut(words);
                (Encoder::Vocabulary(table), len)
            }
            2 => {
                let (hashing, len) = hashing(*Rule::ALL.get(usize::from(self.option))?, words);
                (Encoder::Hash(hashing), len)
            }
            3 => {
                let (buckets, len) = Buckets::cut(option, words);
                (Encoder::Buckets(buckets), len)
            }
            4 => (Encoder::Number(Scaling::cut(option, words)?), Scaling::WORDS),
            5 => (Encoder::F32Number(F32Scaling::cut(option, words)?), F32Scaling::WORDS),
            _ => return None,
        })
    }

    /// The largest legal option of the kind.
    fn last_option(&self) -> u32 {
        match self.kind {
            2 => short(Rule::ALL.len() - 1),
            // Boundaries are closed on the right, or integers.
            3 => 2,
            4 | 5 => LAST_OPTION,
            _ => 0,
        }
    }

    fn sequence(&self) -> SequenceRule {
        let padding = match self.padding {
            1 => Padding::Skip(self.padding_id),
            2 => Padding::Fill(self.padding_id),
            _ => Padding::None,
        };
        SequenceRule { max_len: self.max_len, keep_last: self.keep_last != 0, padding }
    }
}

/// A hash encoder's table: its buckets, and its prefix as a text of that many bytes.
#[inline(never)]
fn hashing(rule: Rule, words: &[u32]) -> (Hashing<'_>, usize) {
    let mut rest = Cutter { words, needed: 0 };
    let (buckets, len) = match rest.take(2) {
        [buckets, len] => (*buckets, *len as usize),
        _ => (0, 0),
    };
    let bytes = bytemuck::cast_slice::<u32, u8>(rest.take(len.div_ceil(4)));
    let prefix = bytes.get(..len).and_then(|bytes| bytes.utf8_chunks().next());
    (Hashing { rule, buckets, prefix: prefix.map_or("", |chunk| chunk.valid()) }, rest.needed)
}

fn policy(tag: u8, bits: u32) -> Policy {
    match tag {
        0 => Policy::Error,
        1 => Policy::Zero,
        2 => Policy::Use(bits),
        _ => Policy::Clamp,
    }
}

impl<'a, V: Number> Encoders<'a, V> {
    /// Checks a section once and for all, against the fields of the model that it is for.
    ///
    /// # Errors
    ///
    /// [`EncodersError`] names the field, and the rule of `FORMAT.md` that is broken.
    pub fn parse(section: &'a [u8], slots: &impl Slots) -> Result<Self, EncodersError> {
        let remainder = short(section.as_ptr().addr() % size_of::<u32>());
        exactly(Part::Alignment, remainder, 0)?;
        exactly(Part::Length, short(section.len() % size_of::<u32>()), 0)?;
        let words: &[u32] = bytemuck::try_cast_slice(section).unwrap_or_default();
        let fields = slots.count();
        exactly(Part::Fields, words.first().copied().unwrap_or_default(), fields.into())?;
        let start = HEADER + usize::from(fields) * RECORD;
        at_most(Part::Length, short(start), short(words.len()))?;
        let encoders = Self { words, path: PhantomData };
        let mut end = start;
        for field in 0..fields {
            end = encoders.check(field, slots.slot(field), end).map_err(|error| error.of_field(field))?;
        }
        exactly(Part::Length, short(words.len()), short(end))?;
        Ok(encoders)
    }

    /// Checks a field's record, and its table if that is not one before; gives where the tables end then.
    #[inline(never)]
    fn check(&self, field: u16, slot: Option<Slot>, end: usize) -> Result<usize, EncodersError> {
        let record = self.record(field);
        at_most(Part::Kind, record.kind.into(), 5)?;
        at_most(Part::Kind, record.option.into(), record.last_option())?;
        let (rows, kinds) = match slot {
            Some(Slot::Ids { rows, .. }) => (rows, 0..=3),
            _ => (0, V::KIND..=V::KIND),
        };
        if !kinds.contains(&record.kind) {
            return Err(EncodersError::new(Part::Kind, record.kind.into(), (*kinds.end()).into()));
        }
        check_policies::<V>(&record, rows)?;
        check_sequence(&record, rows)?;
        if record.kind == 0 {
            return exactly(Part::Table, record.table, 0).map(|()| end);
        }
        let own = record.table == short(end);
        let same = |before| {
            let other = self.record(before);
            (other.kind, other.table) == (record.kind, record.table)
        };
        if !own && !(0..field).any(same) {
            return Err(EncodersError::new(Part::Table, record.table, short(end)));
        }
        let table = self.tables(&record);
        // Numbers are of fixed length, and the kind is known: nothing else has no encoder.
        let Some((encoder, len)) = record.encoder(table) else {
            return Err(EncodersError::new(Part::Length, short(F32Scaling::WORDS), short(table.len())));
        };
        at_most(Part::Length, short(len), short(table.len()))?;
        check_encoder(&encoder, table, rows)?;
        Ok(if own { end + len } else { end })
    }

    fn record(&self, field: u16) -> Record {
        let start = HEADER + usize::from(field) * RECORD;
        let words = self.words.get(start..).and_then(<[u32]>::first_chunk);
        words.map_or(Record::default(), |words| Record::of_words(*words))
    }

    /// The words from a record's table on.
    fn tables(&self, record: &Record) -> &'a [u32] {
        self.words.get(record.table as usize..).unwrap_or_default()
    }

    /// How many fields there are.
    #[must_use]
    pub fn fields(&self) -> u16 {
        let fields = self.words.first().copied().unwrap_or_default();
        u16::try_from(fields).unwrap_or(u16::MAX)
    }

    /// The encoder of a field; of one that does not exist, that of ids.
    #[must_use]
    pub fn encoder(&self, field: u16) -> FieldEncoder<'a> {
        let record = self.record(field);
        let encoder = record.encoder(self.tables(&record)).map_or(Encoder::Id, |(encoder, _)| encoder);
        FieldEncoder {
            encoder,
            unseen: policy(record.unseen, record.unseen_use),
            missing: policy(record.missing, record.missing_use),
            sequence: record.sequence(),
        }
    }
}

fn check_policies<V: Number>(record: &Record, rows: u32) -> Result<(), EncodersError> {
    for (tag, bits) in [(record.unseen, record.unseen_use), (record.missing, record.missing_use)] {
        at_most(Part::Policy, tag.into(), 3)?;
        match tag {
            2 if record.kind < 4 => at_most(Part::Id, bits.saturating_add(1), rows)?,
            2 => V::check_bits(bits)?,
            _ => exactly(Part::Reserved, bits, 0)?,
        }
    }
    // What a vocabulary, a hash and buckets have no id for has no nearest one, and neither has a value that is not there.
    at_most(Part::Policy, record.missing.into(), 2)?;
    at_most(Part::Policy, record.unseen.into(), if (1..4).contains(&record.kind) { 2 } else { 3 })
}

fn check_sequence(record: &Record, rows: u32) -> Result<(), EncodersError> {
    if record.max_len == 0 {
        return Err(EncodersError::new(Part::Parameter, 0, 1));
    }
    at_most(Part::Parameter, record.keep_last.into(), 1)?;
    at_most(Part::Parameter, record.padding.into(), 2)?;
    match record.padding {
        0 => exactly(Part::Reserved, record.padding_id, 0),
        _ => at_most(Part::Id, record.padding_id.saturating_add(1), rows),
    }
}

fn check_encoder(encoder: &Encoder<'_>, table: &[u32], rows: u32) -> Result<(), EncodersError> {
    match encoder {
        Encoder::Id => Ok(()),
        Encoder::Vocabulary(_) => Vocabulary::parse(table, rows).map(drop),
        Encoder::Hash(hashing) => check_hashing(hashing, table, rows),
        Encoder::Buckets(buckets) => buckets.check(rows),
        Encoder::Number(scaling) => scaling.check(),
        Encoder::F32Number(scaling) => scaling.check(),
    }
}

fn check_hashing(hashing: &Hashing<'_>, table: &[u32], rows: u32) -> Result<(), EncodersError> {
    at_most(Part::Parameter, hashing.buckets, rows)?;
    let least = if hashing.rule == Rule::Fingerprint64MaskZero { 2 } else { 1 };
    if hashing.buckets < least {
        return Err(EncodersError::new(Part::Parameter, hashing.buckets, least));
    }
    let len = table.get(1).copied().unwrap_or_default();
    // A prefix that is no UTF-8 is shorter here than it is stored.
    exactly(Part::Texts, short(hashing.prefix.len()), len)?;
    let padding = table.get(2..).and_then(|words| words.get(..len.div_ceil(4) as usize)).unwrap_or_default();
    let padding = bytemuck::cast_slice::<u32, u8>(padding).iter().skip(len as usize);
    at_most(Part::Reserved, padding.copied().max().unwrap_or(0).into(), 0)?;
    let takes_prefix = matches!(hashing.rule, Rule::Murmur3 | Rule::FeatureHasher);
    at_most(Part::Texts, len, if takes_prefix { u16::MAX.into() } else { 0 })
}

impl FieldEncoder<'_> {
    /// Encodes a value of a field with so many rows: an id and its value, or for a number 0 and the number; `None` where there is
    /// no entry.
    ///
    /// # Errors
    ///
    /// When the value is unseen or missing and the policy says so, and when it has a type that the encoder does not take.
    #[inline(never)]
    pub fn encode<V: Number>(&self, rows: u32, value: Value<'_>) -> Result<Option<(u32, V)>, Problem> {
        let id = match (&self.encoder, value) {
            (Encoder::Id, Value::Int(id)) => {
                let legal = u32::try_from(id).ok().filter(|&id| id < rows);
                let nearest = if id < 0 { 0 } else { rows.saturating_sub(1) };
                return legal.map_or_else(|| self.unseen((nearest, V::ONE)), |id| Ok(Some((id, V::ONE))));
            }
            (Encoder::Vocabulary(table), Value::Text(text)) => table.id_of_text(text),
            (Encoder::Vocabulary(table), Value::Int(number)) => table.id_of_int(number),
            (Encoder::Hash(hashing), value) => return Ok(Some(hashed(hashing, value))),
            (Encoder::Buckets(buckets), value) => match value.raw()? {
                None => return self.missing(),
                Some(number) => buckets.id(number),
            },
            (encoder @ (Encoder::Number(_) | Encoder::F32Number(_)), value) => match value.raw()? {
                None => return self.missing(),
                Some(number) => match V::scaled(encoder, number) {
                    Some(Err(nearest)) => return self.unseen((0, nearest)),
                    number => return Ok(number.and_then(Result::ok).map(|number| (0, number))),
                },
            },
            _ => return Err(Problem::WrongType),
        };
        id.map_or_else(|| self.unseen((0, V::ONE)), |id| Ok(Some((id, V::ONE))))
    }

    /// What an unseen value is, given the nearest legal one.
    fn unseen<V: Number>(&self, nearest: (u32, V)) -> Result<Option<(u32, V)>, Problem> {
        match self.unseen {
            Policy::Error => Err(Problem::Unseen),
            Policy::Zero => Ok(None),
            Policy::Use(bits) => Ok(Some(self.used(bits))),
            Policy::Clamp => Ok(Some(nearest)),
        }
    }

    /// What a value is that is not there.
    pub(super) fn missing<V: Number>(&self) -> Result<Option<(u32, V)>, Problem> {
        match self.missing {
            Policy::Use(bits) => Ok(Some(self.used(bits))),
            Policy::Zero => Ok(None),
            Policy::Error | Policy::Clamp => Err(Problem::Missing),
        }
    }

    fn used<V: Number>(&self, bits: u32) -> (u32, V) {
        match self.encoder {
            Encoder::Number(_) | Encoder::F32Number(_) => (0, V::from_bits(bits)),
            _ => (bits, V::ONE),
        }
    }
}

/// A value's bucket, by its text.
fn hashed<V: Number>(hashing: &Hashing<'_>, value: Value<'_>) -> (u32, V) {
    let (id, negative) = match value {
        Value::Text(text) => hashing.bucket(text.as_bytes(), b"0"),
        Value::Int(number) => hashing.bucket(Decimal::of_int(number).as_bytes(), b"0"),
        Value::F32(number) => float_bucket(hashing, number.to_bits()),
        Value::Q16(number) => float_bucket(hashing, Raw::of_q16(number).to_f32_bits()),
    };
    (id, if negative { V::ONE.negated() } else { V::ONE })
}

fn float_bucket(hashing: &Hashing<'_>, bits: u32) -> (u32, bool) {
    hashing.bucket(Decimal::of_f32_bits(bits).as_bytes(), b"0.000000")
}

/// Writes a section of encoders, one for each field in the model's order, to the start of `out`; gives its length in words.
///
/// Vocabularies that lie in the same memory are stored once.
///
/// # Errors
///
/// When `out` is too short, and when there are more than 65,535 fields. What does not fit the model is told by
/// [`Encoders::parse`].
pub fn emit_encoders(fields: &[FieldEncoder<'_>], out: &mut [u32]) -> Result<usize, EmitEncodersError> {
    at_most(Part::Fields, short(fields.len()), u16::MAX.into())?;
    let mut sink = Sink { out, len: 0 };
    sink.put(&[short(fields.len())]);
    for (at, field) in fields.iter().enumerate() {
        let owner = shared_table(fields, at).unwrap_or(at);
        sink.put(&record(field, table_start(fields, owner)).words());
    }
    for (at, field) in fields.iter().enumerate() {
        if shared_table(fields, at).is_none() {
            sink.put_table(&field.encoder);
        }
    }
    let (needed, got) = (sink.len, sink.out.len());
    if needed > got { Err(EmitEncodersError::BufferTooShort { needed, got }) } else { Ok(needed) }
}

/// The first field before this one with the same vocabulary.
fn shared_table(fields: &[FieldEncoder<'_>], at: usize) -> Option<usize> {
    let words = |field: &FieldEncoder<'_>| match field.encoder {
        Encoder::Vocabulary(table) => Some(table.words().as_ptr_range()),
        _ => None,
    };
    let own = fields.get(at).and_then(words)?;
    fields.iter().take(at).position(|before| words(before).as_ref() == Some(&own))
}

/// Where a field's own table starts.
fn table_start(fields: &[FieldEncoder<'_>], at: usize) -> u32 {
    let before = fields.iter().enumerate().take(at);
    let own = before.filter(|(at, _)| shared_table(fields, *at).is_none());
    let tables: usize = own.map(|(_, field)| table_len(&field.encoder)).sum();
    short(HEADER + fields.len() * RECORD + tables)
}

fn table_len(encoder: &Encoder<'_>) -> usize {
    match encoder {
        Encoder::Id => 0,
        Encoder::Vocabulary(table) => table.words().len(),
        Encoder::Hash(hashing) => 2 + hashing.prefix.len().div_ceil(4),
        Encoder::Buckets(buckets) => Buckets::HEADER + buckets.boundaries.len() + buckets.ids.len(),
        Encoder::Number(_) => Scaling::WORDS,
        Encoder::F32Number(_) => F32Scaling::WORDS,
    }
}

fn record(field: &FieldEncoder<'_>, table: u32) -> Record {
    let (kind, option) = match &field.encoder {
        Encoder::Id => (0, 0),
        Encoder::Vocabulary(_) => (1, 0),
        Encoder::Hash(hashing) => (2, Rule::ALL.iter().position(|&rule| rule == hashing.rule).unwrap_or(0)),
        Encoder::Buckets(buckets) if buckets.integers => (3, 2),
        Encoder::Buckets(buckets) => (3, buckets.right_closed.into()),
        Encoder::Number(scaling) => (4, scaling.option().into()),
        Encoder::F32Number(scaling) => (5, scaling.option().into()),
    };
    let (unseen, unseen_use) = tagged(field.unseen);
    let (missing, missing_use) = tagged(field.missing);
    let SequenceRule { max_len, keep_last, padding } = field.sequence;
    let (padding, padding_id) = match padding {
        Padding::None => (0, 0),
        Padding::Skip(id) => (1, id),
        Padding::Fill(id) => (2, id),
    };
    let table = if kind == 0 { 0 } else { table };
    Record {
        kind,
        option: short(option).to_le_bytes()[0],
        unseen,
        missing,
        unseen_use,
        missing_use,
        table,
        max_len,
        keep_last: keep_last.into(),
        padding,
        padding_id,
    }
}

fn tagged(policy: Policy) -> (u8, u32) {
    match policy {
        Policy::Error => (0, 0),
        Policy::Zero => (1, 0),
        Policy::Use(bits) => (2, bits),
        Policy::Clamp => (3, 0),
    }
}

/// Words that are written from the start, or counted where there is no room.
struct Sink<'o> {
    out: &'o mut [u32],
    len: usize,
}

impl Sink<'_> {
    fn put(&mut self, words: &[u32]) {
        let room = self.out.iter_mut().skip(self.len);
        room.zip(words).for_each(|(to, &word)| *to = word);
        self.len += words.len();
    }

    fn put_table(&mut self, encoder: &Encoder<'_>) {
        match encoder {
            Encoder::Id => {}
            Encoder::Vocabulary(table) => self.put(table.words()),
            Encoder::Hash(hashing) => {
                self.put(&[hashing.buckets, short(hashing.prefix.len())]);
                for bytes in hashing.prefix.as_bytes().chunks(4) {
                    let mut word = [0; 4];
                    word.iter_mut().zip(bytes).for_each(|(to, &byte)| *to = byte);
                    self.put(&[u32::from_le_bytes(word)]);
                }
            }
            Encoder::Buckets(buckets) => {
                self.put(&[short(buckets.boundaries.len()), short(buckets.ids.len())]);
                self.put(bytemuck::cast_slice(buckets.boundaries));
                self.put(buckets.ids);
            }
            Encoder::Number(scaling) => self.put(&scaling.words()),
            Encoder::F32Number(scaling) => self.put(&scaling.words()),
        }
    }
}
