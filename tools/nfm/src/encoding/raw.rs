//! Raw rows to encoded ones, by the device library's own code.

use std::fmt;

use embedded_nfm::{
    Q16,
    encode::{
        Encoder, Encoders, FieldEncoder, FieldIndex, FieldKey, KeyKind, Number, Padding, Policy, Problem,
        SampleBuilder, SampleSlices, SequenceRule, Slot, Slots, Span, Value,
    },
};
use serde::Serialize;

use super::{
    describe,
    section::{Path, q16, section},
    spec::{self, Encoding, HashedValues},
};
use crate::{
    rows::{Row, push_sequence, quote, unless_all_one},
    schema::{Field, FieldKind},
};

/// A value as a file of rows has it.
#[derive(Debug, Clone, PartialEq)]
pub enum RawValue {
    /// None.
    Missing,
    /// A text; where a number is wanted, its decimal.
    Text(String),
    /// An integer.
    Int(i64),
    /// A real number.
    Float(f64),
    /// Several values, each with its weight.
    List(Vec<(Self, f64)>),
}

impl fmt::Display for RawValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("nothing"),
            Self::Text(text) => f.write_str(&quote(text)),
            Self::Int(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::List(values) => write!(f, "a list of {}", values.len()),
        }
    }
}

/// Fields with their section of encoders.
#[derive(Debug, Clone)]
pub struct RawFields {
    fields: Vec<Field>,
    words: Vec<u32>,
    path: Path,
}

impl RawFields {
    /// Of fields whose encoders the schema says.
    ///
    /// # Errors
    ///
    /// Names the field whose encoder the path's numbers cannot hold.
    pub fn new(fields: &[Field], path: Path) -> Result<Self, String> {
        Ok(Self { fields: fields.to_vec(), words: section(fields, path)?, path })
    }

    /// Of a model file's fields and its section. What only concerns text, as which cells are missing, is said by the fields.
    ///
    /// # Errors
    ///
    /// Names the field whose encoder breaks a rule of the section's format.
    pub fn of_section(fields: Vec<Field>, section: &[u8], path: Path) -> Result<Self, String> {
        let (words, rest) = section.as_chunks();
        if !rest.is_empty() {
            return Err(format!("expected a section of whole words, found {} bytes", section.len()));
        }
        let raw = Self { words: words.iter().map(|word| u32::from_le_bytes(*word)).collect(), fields, path };
        raw.encoder()?;
        Ok(raw)
    }

    /// The fields.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// What encodes rows.
    ///
    /// # Errors
    ///
    /// When the section breaks a rule of its format.
    pub fn encoder(&self) -> Result<RowEncoder<'_>, String> {
        let encoders = match self.path {
            Path::Fixed => OfPath::Fixed(Memory::new(self.parse()?)),
            Path::F32 => OfPath::F32(Memory::new(self.parse()?)),
        };
        let counts = self.fields.iter().map(|field| FieldCounts::of(&field.name)).collect();
        Ok(RowEncoder { fields: &self.fields, encoders, counts })
    }

    fn parse<V: Number>(&self) -> Result<Encoders<'_, V>, String> {
        let section = bytemuck::cast_slice(&self.words);
        Encoders::parse(section, &HostFields(&self.fields)).map_err(|e| {
            let name = self.fields.get(usize::from(e.field)).map_or("", |field| &field.name);
            format!("{e} (field {} is `{name}`); convert the checkpoint again", e.field)
        })
    }

    /// The fields whose texts a section leaves open, which a schema may say: those of several values, and hashed ones.
    ///
    /// # Errors
    ///
    /// As [`Self::encoder`].
    pub fn open_texts(&self) -> Result<Vec<&str>, String> {
        let encoder = self.encoder()?;
        let is_open = |(at, field): &(usize, &Field)| {
            field.kind.takes_several() || matches!(encoder.encoder_of(*at), Encoder::Hash(_))
        };
        Ok(self.fields.iter().enumerate().filter(is_open).map(|(_, field)| field.name.as_str()).collect())
    }

    /// What each field's encoder does, as a line.
    ///
    /// # Errors
    ///
    /// As [`Self::encoder`].
    pub fn describe(&self) -> Result<Vec<String>, String> {
        Ok(match self.path {
            Path::Fixed => describe::fields(&self.fields, &self.parse::<Q16>()?),
            Path::F32 => describe::fields(&self.fields, &self.parse::<f32>()?),
        })
    }
}

/// The fields as the builder of samples wants them.
struct HostFields<'a>(&'a [Field]);

impl Slots for HostFields<'_> {
    fn count(&self) -> u16 {
        u16::try_from(self.0.len()).unwrap_or(u16::MAX)
    }

    fn slot(&self, field: u16) -> Option<Slot> {
        let at = usize::from(field);
        let Field { kind, first, .. } = self.0.get(at)?;
        let (first, rows) = (*first, kind.rows());
        Some(match kind {
            FieldKind::Id { .. } => Slot::Ids { first, rows, many: false },
            FieldKind::Ids { .. } | FieldKind::Sequence(_) => Slot::Ids { first, rows, many: true },
            FieldKind::Scaled => Slot::Scaled { row: first },
            FieldKind::Dense => {
                let position = self.0[..at].iter().filter(|field| field.kind == FieldKind::Dense).count();
                Slot::Dense { position: u16::try_from(position).unwrap_or(u16::MAX) }
            }
        })
    }

    fn name(&self, field: u16) -> &str {
        self.0.get(usize::from(field)).map_or("", |field| &field.name)
    }
}

/// How many values of a field were what they were not in training.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct FieldCounts {
    /// The field's name.
    pub field: String,
    /// Values that were there; each of a sequence, also those that are cut off.
    pub values: u64,
    /// Of these, values that the encoder has no id or no number for.
    pub unseen: u64,
    /// Of these, numbers outside of the range, of which the nearest was taken.
    pub clamped: u64,
    /// Rows without a value, and values that are no number, as `nan`.
    pub missing: u64,
}

impl FieldCounts {
    fn of(name: &str) -> Self {
        Self { field: name.into(), ..Self::default() }
    }
}

/// Encodes rows, and counts what it meets.
#[derive(Debug)]
pub struct RowEncoder<'a> {
    fields: &'a [Field],
    encoders: OfPath<'a>,
    counts: Vec<FieldCounts>,
}

#[derive(Debug)]
enum OfPath<'a> {
    Fixed(Memory<'a, Q16>),
    F32(Memory<'a, f32>),
}

/// A path's numbers, from and to `f64`.
pub(super) trait PathNumber: Number {
    /// The nearest one, if there is one.
    fn of_f64(number: f64) -> Option<Self>;
    /// The same number.
    fn to_f64(self) -> f64;
}

impl PathNumber for Q16 {
    fn of_f64(number: f64) -> Option<Self> {
        q16(number)
    }
    fn to_f64(self) -> f64 {
        Self::to_f64(self)
    }
}

impl PathNumber for f32 {
    fn of_f64(number: f64) -> Option<Self> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounding to the nearest f32 is what is asked for"
        )]
        Some(number as Self).filter(|number| number.is_finite())
    }
    fn to_f64(self) -> f64 {
        self.into()
    }
}

/// A builder's memory.
#[derive(Debug)]
struct Memory<'a, V> {
    encoders: Encoders<'a, V>,
    ids: Vec<u32>,
    values: Vec<V>,
    dense: Vec<V>,
    spans: Vec<Span>,
}

impl<'a, V> Memory<'a, V> {
    const fn new(encoders: Encoders<'a, V>) -> Self {
        Self { encoders, ids: Vec::new(), values: Vec::new(), dense: Vec::new(), spans: Vec::new() }
    }
}

/// What is wrong with a row: the field, and the problem.
pub type Refusal = (usize, String);

impl<'a> RowEncoder<'a> {
    /// The fields.
    #[must_use]
    pub const fn fields(&self) -> &'a [Field] {
        self.fields
    }

    fn encoder_of(&self, at: usize) -> Encoder<'a> {
        match &self.encoders {
            OfPath::Fixed(memory) => memory.encoders.encoder(index(at)).encoder,
            OfPath::F32(memory) => memory.encoders.encoder(index(at)).encoder,
        }
    }

    /// What was met since the start, for each field.
    #[must_use]
    pub fn counts(&self) -> &[FieldCounts] {
        &self.counts
    }

    /// The row of a value for each field, in their order.
    ///
    /// # Errors
    ///
    /// Names the field by its position, what its encoder expected and what was found.
    pub fn encode(&mut self, values: &[RawValue], label: Option<f64>) -> Result<Row, Refusal> {
        let Self { fields, encoders, counts } = self;
        let row = match encoders {
            OfPath::Fixed(memory) => encode(fields, memory, counts, values),
            OfPath::F32(memory) => encode(fields, memory, counts, values),
        };
        row.map(|row| Row { label, ..row })
    }
}

fn encode<V: PathNumber>(
    fields: &[Field],
    memory: &mut Memory<'_, V>,
    counts: &mut [FieldCounts],
    values: &[RawValue],
) -> Result<Row, Refusal> {
    let Memory { encoders, ids, values: weights, dense, spans } = memory;
    let of_fields: Vec<FieldEncoder<'_>> = (0..fields.len()).map(|at| encoders.encoder(index(at))).collect();
    let lists = split_all(fields, &of_fields, values)?;
    let room = lists.iter().zip(&of_fields).map(|(list, encoder)| room(list.len(), encoder)).sum();
    ids.resize(room, 0);
    weights.resize(room, V::ONE);
    dense.resize(fields.iter().filter(|field| field.kind == FieldKind::Dense).count(), V::ZERO);
    spans.resize(fields.len(), Span { start: 0, len: 0 });
    let slots = HostFields(fields);
    let mut builder =
        SampleBuilder::over(*encoders, &slots, SampleSlices { ids, values: weights, dense, spans });
    for (at, (field, list)) in fields.iter().zip(&lists).enumerate() {
        let put = put(&mut builder, (at, field), &of_fields[at], list, &mut counts[at]);
        put.map_err(|problem| (at, problem))?;
    }
    if let Err(error) = builder.finish() {
        let at = fields.iter().position(|field| FieldKey::Name(&field.name) == error.field).unwrap_or(0);
        return Err((at, problem_text(error.problem, None)));
    }
    row(fields, &lists, &builder)
}

/// Gives the builder a field's values; none are left to what the field does about missing ones.
fn put<V: PathNumber>(
    builder: &mut SampleBuilder<'_, '_, V, HostFields<'_>>,
    (at, field): (usize, &Field),
    encoder: &FieldEncoder<'_>,
    list: &[(RawValue, f64)],
    counts: &mut FieldCounts,
) -> Result<(), String> {
    if list.len() > usize::from(u16::MAX) {
        return Err(format!("expected at most 65535 values, found {}", list.len()));
    }
    let (key, rows) = (FieldKey::Index(FieldIndex(index(at))), field.kind.rows());
    let values: Result<Vec<Value<'_>>, String> =
        list.iter().map(|(value, _)| convert(encoder, &field.encoding, value)).collect();
    let values = values?;
    count::<V>(counts, encoder, rows, &values);
    let set = match values.as_slice() {
        // A sequence of none is filled up too.
        [] if encoder.missing != Policy::Zero || !field.kind.takes_several() => return Ok(()),
        values if field.kind.takes_several() => {
            let tagged = values.iter().enumerate().map(|(position, value)| (*value, tag(position)));
            builder.set_weighted(key, tagged)
        }
        [value] => builder.set(key, *value),
        values => return Err(format!("expected one value, found {}", values.len())),
    };
    set.map_err(|e| {
        let fault = values.iter().position(|value| encoder.encode::<V>(rows, *value).is_err());
        problem_text(e.problem, fault.map(|at| &list[at].0))
    })
}

/// What goes through the builder in the place of a weight: its position, exact in the numbers of both paths, and never one. So
/// the row has the weights as they are.
fn tag<V: PathNumber>(position: usize) -> V {
    V::of_f64(f64::from(index(position.saturating_add(1))) / 65536.0).unwrap_or(V::ONE)
}

/// The weight of a tag, with the tag's sign; 1 of what was filled up.
fn weight(tag: f64, list: &[(RawValue, f64)]) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 65536")]
    let position = (tag.abs() * 65536.0) as usize;
    let weight = position.checked_sub(1).and_then(|position| list.get(position));
    weight.map_or(tag, |(_, weight)| *weight * tag.signum())
}

/// How many entries a field may take.
fn room(len: usize, encoder: &FieldEncoder<'_>) -> usize {
    let SequenceRule { max_len, padding, .. } = encoder.sequence;
    len.max(if matches!(padding, Padding::Fill(_)) { max_len.into() } else { 1 })
}

/// Each field's values one by one; none where they are missing.
fn split_all(
    fields: &[Field],
    encoders: &[FieldEncoder<'_>],
    values: &[RawValue],
) -> Result<Vec<Vec<(RawValue, f64)>>, Refusal> {
    let all = fields.iter().zip(encoders).zip(values).enumerate();
    all.map(|(at, ((field, encoder), value))| split(field, encoder, value).map_err(|problem| (at, problem)))
        .collect()
}

fn split(
    field: &Field,
    encoder: &FieldEncoder<'_>,
    value: &RawValue,
) -> Result<Vec<(RawValue, f64)>, String> {
    let encoding = &field.encoding;
    let is_missing = |value: &RawValue| match value {
        RawValue::Missing => true,
        RawValue::Text(text) => encoding.missing_values.contains(text),
        RawValue::Int(_) | RawValue::Float(_) | RawValue::List(_) => false,
    };
    let all = match value {
        value if is_missing(value) => return Ok(Vec::new()),
        RawValue::Text(text) if field.kind.takes_several() => {
            let weighted = encoding.weighted.unwrap_or(matches!(encoder.encoder, Encoder::Id));
            let all: Result<Vec<_>, _> =
                text.split(encoding.separator).map(|part| element(part, weighted)).collect();
            all?
        }
        RawValue::List(list) => list.clone(),
        value => vec![(value.clone(), 1.0)],
    };
    Ok(all.into_iter().filter(|(value, _)| !is_missing(value)).collect())
}

/// `value` or `value:weight`
fn element(text: &str, weighted: bool) -> Result<(RawValue, f64), String> {
    let Some((value, weight)) = text.rsplit_once(':').filter(|_| weighted) else {
        return Ok((RawValue::Text(text.into()), 1.0));
    };
    let weight = weight.parse().ok().filter(|weight: &f64| weight.is_finite());
    let weight = weight
        .ok_or_else(|| format!("expected `value:weight` with a finite weight, found {}", quote(text)))?;
    Ok((RawValue::Text(value.into()), weight))
}

/// A value as the encoder takes it.
fn convert<'v>(
    encoder: &FieldEncoder<'_>,
    encoding: &Encoding,
    value: &'v RawValue,
) -> Result<Value<'v>, String> {
    let hashes_floats =
        matches!(&encoding.encoder, Some(spec::Encoder::Hash(hash)) if hash.values == HashedValues::Float);
    match (encoder.encoder, value) {
        (Encoder::Vocabulary(table), RawValue::Text(text)) if table.kind() == KeyKind::Integer => {
            // A text that is no integer is a value that was not seen.
            Ok(integer(value).map_or(Value::Text(text), Value::Int))
        }
        (Encoder::Hash(_), RawValue::Float(_)) => real(value),
        (Encoder::Hash(_), _) if hashes_floats => real(value),
        (Encoder::Vocabulary(_) | Encoder::Hash(_), RawValue::Text(text)) => Ok(Value::Text(text)),
        (Encoder::Vocabulary(_) | Encoder::Hash(_), _) => integer(value)
            .map(Value::Int)
            .ok_or_else(|| format!("expected a text or a whole number, found {value}")),
        (Encoder::Id, _) => {
            integer(value).map(Value::Int).ok_or_else(|| format!("expected a whole number, found {value}"))
        }
        (Encoder::Buckets(_) | Encoder::Number(_) | Encoder::F32Number(_), _) => {
            integer(value).map_or_else(|| real(value), |number| Ok(Value::Int(number)))
        }
    }
}

/// The integer that a value is, also as `3` or `3.0`.
fn integer(value: &RawValue) -> Option<i64> {
    match value {
        RawValue::Int(number) => Some(*number),
        RawValue::Text(text) => text.trim().parse().ok().or_else(|| whole(text.trim().parse().ok()?)),
        RawValue::Float(number) => whole(*number),
        RawValue::Missing | RawValue::List(_) => None,
    }
}

/// A real number that is an integer, as far as all integers are real numbers.
fn whole(number: f64) -> Option<i64> {
    let is_whole = number.fract().abs() <= 0.0 && number.abs() <= 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
    is_whole.then_some(number as i64)
}

/// The nearest `f32`.
fn real(value: &RawValue) -> Result<Value<'static>, String> {
    let number = match value {
        RawValue::Text(text) => text.trim().parse().ok(),
        RawValue::Float(number) => Some(*number),
        #[expect(clippy::cast_precision_loss, reason = "rounded to an f32 next")]
        RawValue::Int(number) => Some(*number as f64),
        RawValue::Missing | RawValue::List(_) => None,
    };
    #[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest f32 is what is asked for")]
    let narrow = |number: f64| Value::F32(number as f32);
    number.map(narrow).ok_or_else(|| format!("expected a number, found {value}"))
}

/// Counts a field's values by what the encoder says of each when it is not to hide it.
fn count<V: PathNumber>(
    counts: &mut FieldCounts,
    encoder: &FieldEncoder<'_>,
    rows: u32,
    values: &[Value<'_>],
) {
    let strict = FieldEncoder { unseen: Policy::Error, missing: Policy::Error, ..*encoder };
    counts.missing += u64::from(values.is_empty());
    for value in values {
        let number = match strict.encode::<V>(rows, *value) {
            Err(Problem::Missing) => {
                counts.missing += 1;
                continue;
            }
            Err(Problem::Unseen) if encoder.unseen == Policy::Clamp => Some(&mut counts.clamped),
            Err(Problem::Unseen) => Some(&mut counts.unseen),
            _ => None,
        };
        number.into_iter().for_each(|number| *number += 1);
        counts.values += 1;
    }
}

fn problem_text(problem: Problem, value: Option<&RawValue>) -> String {
    let found = value.map_or("nothing".into(), RawValue::to_string);
    match problem {
        Problem::Unseen => {
            format!(
                "expected a value that was seen in training, found {found}; `unseen` in the schema says what else to do"
            )
        }
        Problem::Missing => {
            "expected a value, found none; `missing` in the schema says what else to do".into()
        }
        Problem::WrongType => format!("expected another type of value, found {found}"),
        Problem::TooManyEntries { .. } => "expected fewer than 65,535 values in a row, found more".into(),
        problem => format!("{problem:?}"),
    }
}

/// The encoded row.
fn row<V: PathNumber>(
    fields: &[Field],
    lists: &[Vec<(RawValue, f64)>],
    builder: &SampleBuilder<'_, '_, V, HostFields<'_>>,
) -> Result<Row, Refusal> {
    let sample = builder.sample();
    let mut row =
        Row { dense: sample.dense().iter().map(|value| value.to_f64()).collect(), ..Row::default() };
    let mut values = Vec::new();
    let value = |at: usize| sample.values().map_or(1.0, |values| values[at].to_f64());
    for (at, (field, span)) in fields.iter().zip(builder.spans()).enumerate() {
        let positions = usize::from(span.start)..usize::from(span.start) + usize::from(span.len);
        let entries: Vec<(u32, f64)> = if field.kind.takes_several() {
            positions.map(|entry| (sample.ids()[entry], weight(value(entry), &lists[at]))).collect()
        } else {
            positions.map(|entry| (sample.ids()[entry], value(entry))).collect()
        };
        match &field.kind {
            FieldKind::Dense => {}
            FieldKind::Sequence(sequence) => {
                push_sequence(&mut row, &mut values, sequence, &entries).map_err(|problem| (at, problem))?;
            }
            FieldKind::Id { .. } | FieldKind::Ids { .. } | FieldKind::Scaled => {
                row.ids.extend(entries.iter().map(|(id, _)| id));
                values.extend(entries.iter().map(|(_, value)| value));
            }
        }
    }
    row.values = unless_all_one(values);
    Ok(row)
}

fn index(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}
