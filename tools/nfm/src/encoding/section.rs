//! The section of encoders of a model file, by the device library's own code.

use embedded_nfm::{
    Q16,
    encode::{
        self as device, EmitEncodersError, Entry, FieldEncoder, Padding, SequenceRule, VocabularyParts,
        emit_encoders,
        hash::{Hashing, Rule},
    },
};

use super::spec::{Buckets, Closed, Encoder, Encoding, Hash, HashFunction, Keep, Keys, Number, Of, Policy};
use crate::schema::{Field, FieldKind};

/// The numbers that a section is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// The fixed path's.
    Fixed,
    /// The f32 path's.
    F32,
}

/// The section of encoders of a model with these fields, in words.
///
/// # Errors
///
/// Names the field whose encoder cannot be written, and why.
pub fn section(fields: &[Field], path: Path) -> Result<Vec<u32>, String> {
    let tables = Tables::new(fields)?;
    let encoders: Result<Vec<_>, String> =
        fields.iter().enumerate().map(|(at, field)| tables.encoder(at, field, path)).collect();
    let encoders = encoders?;
    let needed = match emit_encoders(&encoders, &mut []) {
        Err(EmitEncodersError::BufferTooShort { needed, .. }) => needed,
        result => return result.map(|_| Vec::new()).map_err(|e| e.to_string()),
    };
    let mut words = vec![0; needed];
    emit_encoders(&encoders, &mut words).map_err(|e| e.to_string())?;
    Ok(words)
}

/// The power of two that results are rounded to, as the device has it: of 2⁻¹⁶; `None` where it is none from 2⁻¹⁵ to 1.
#[must_use]
pub fn step(step: f64) -> Option<u8> {
    (1..=16_u8).find(|bits| ((step * 65536.0) - f64::from(1_u32 << bits)).abs() <= 0.0)
}

/// What encoders borrow.
struct Tables {
    /// Vocabularies, one for all fields that have the same.
    vocabularies: Vec<Vec<u32>>,
    /// For each field its vocabulary.
    of_field: Vec<Option<usize>>,
    /// For each field its buckets' boundaries.
    boundaries: Vec<Vec<i32>>,
    /// For each field its buckets' ids.
    ids: Vec<Vec<u32>>,
}

impl Tables {
    fn new(fields: &[Field]) -> Result<Self, String> {
        let (mut vocabularies, mut of_field) = (Vec::new(), Vec::new());
        let mut sources = Vec::new();
        for field in fields {
            let Some(Encoder::Vocabulary(vocabulary)) = &field.encoding.encoder else {
                of_field.push(None);
                continue;
            };
            let known = sources.iter().position(|source| *source == vocabulary);
            of_field.push(Some(known.unwrap_or(sources.len())));
            if known.is_none() {
                sources.push(vocabulary);
                let words = table(&vocabulary.keys, vocabulary.exact);
                vocabularies.push(words.map_err(|problem| format!("field `{}`: {problem}", field.name))?);
            }
        }
        let buckets = |field: &Field| match &field.encoding.encoder {
            Some(Encoder::Buckets(buckets)) => (boundaries(buckets).0, bucket_ids(buckets)),
            _ => (Vec::new(), Vec::new()),
        };
        let (boundaries, ids) = fields.iter().map(buckets).unzip();
        Ok(Self { vocabularies, of_field, boundaries, ids })
    }

    fn encoder<'a>(&'a self, at: usize, field: &'a Field, path: Path) -> Result<FieldEncoder<'a>, String> {
        let encoding = &field.encoding;
        let rows = field.kind.rows();
        let encoder = match &encoding.encoder {
            Some(Encoder::Vocabulary(_)) => {
                let words = self.of_field[at].map_or(&[][..], |table| &self.vocabularies[table]);
                let table = device::Vocabulary::parse(words, rows).map_err(|e| e.to_string());
                device::Encoder::Vocabulary(table.map_err(|e| format!("field `{}`: {e}", field.name))?)
            }
            Some(Encoder::Hash(hash)) => device::Encoder::Hash(hashing(hash, rows)),
            Some(Encoder::Buckets(buckets)) => device::Encoder::Buckets(device::Buckets {
                right_closed: buckets.closed == Closed::Right,
                integers: boundaries(buckets).1,
                boundaries: &self.boundaries[at],
                ids: &self.ids[at],
            }),
            Some(Encoder::Number(number)) => scaling(field, number, path)?,
            None if matches!(field.kind, FieldKind::Dense | FieldKind::Scaled) => {
                scaling(field, &Number::AS_IT_IS, path)?
            }
            None => device::Encoder::Id,
        };
        Ok(FieldEncoder {
            encoder,
            unseen: policy(field, "unseen", encoding.unseen, path)?,
            missing: policy(field, "missing", encoding.missing, path)?,
            sequence: sequence(field),
        })
    }
}

/// A vocabulary's words.
fn table(keys: &Keys, exact: bool) -> Result<Vec<u32>, String> {
    let ids = keys.ids();
    let (texts, ints): (Vec<&str>, Vec<i64>) = match keys {
        Keys::Text(keys) => (keys.iter().map(|(key, _)| key.as_str()).collect(), Vec::new()),
        Keys::Int(keys) => (Vec::new(), keys.iter().map(|(key, _)| *key).collect()),
    };
    let keys = match keys {
        Keys::Text(_) => device::Keys::Text(&texts),
        Keys::Int(_) => device::Keys::Integer(&ints),
    };
    let parts = VocabularyParts { keys, ids: &ids, exact };
    let mut words = vec![0; parts.encoded_len()];
    let mut scratch = vec![Entry::default(); ids.len()];
    parts.emit(&mut scratch, &mut words).map_err(|e| e.to_string())?;
    Ok(words)
}

fn hashing(hash: &Hash, rows: u32) -> Hashing<'_> {
    let rule = match hash.function {
        HashFunction::Farmhash64 => Rule::Fingerprint64,
        HashFunction::Farmhash64MaskZero => Rule::Fingerprint64MaskZero,
        HashFunction::Murmur3 => Rule::Murmur3,
        HashFunction::FeatureHasher => Rule::FeatureHasher,
        HashFunction::Fnv1a32 => Rule::Fnv1a32,
        HashFunction::Fnv1a64 => Rule::Fnv1a64,
        HashFunction::Xxh64 => Rule::Xx64,
    };
    Hashing { rule, buckets: hash.buckets.unwrap_or(rows), prefix: &hash.prefix }
}

/// The boundaries in the device's order, and whether they are integers, which are exact for integers of any size.
///
/// A boundary that is no `f32` is moved to the next one that separates the same floats.
#[expect(
    clippy::cast_possible_truncation,
    reason = "checked to be integers of 32 bits, or to be rounded on purpose"
)]
fn boundaries(buckets: &Buckets) -> (Vec<i32>, bool) {
    let ends = &buckets.boundaries;
    let is_int = |end: &f64| end.fract().abs() <= 0.0 && end.abs() < 2_147_483_648.0;
    if buckets.closed == Closed::Left && ends.iter().all(is_int) {
        return (ends.iter().map(|end| *end as i32).collect(), true);
    }
    let nearest = |end: f64| {
        let near = end as f32;
        match buckets.closed {
            Closed::Left if f64::from(near) < end => near.next_up(),
            Closed::Right if f64::from(near) > end => near.next_down(),
            _ => near,
        }
    };
    (ends.iter().map(|end| device::ordered(nearest(*end))).collect(), false)
}

fn bucket_ids(buckets: &Buckets) -> Vec<u32> {
    buckets.ids.iter().map(|id| id.unwrap_or(u32::MAX)).collect()
}

/// The scaling on a path, where that can hold it.
fn scaling(field: &Field, number: &Number, path: Path) -> Result<device::Encoder<'static>, String> {
    let (offset, factor) = number.scale.offset_and_factor();
    let of = match number.of {
        Of::Value => device::Of::Value,
        Of::Log1p => device::Of::Ln1p,
        Of::Log => device::Of::Ln,
    };
    let step = number.step.and_then(step).unwrap_or(0);
    match path {
        Path::Fixed => {
            let [min, max] = match number.clip {
                None => FIXED_RANGE,
                Some([min, max]) => [fixed(field, "clip", min)?, fixed(field, "clip", max)?],
            };
            let scaling = device::Scaling::new(of, offset, factor, min, max).ok_or_else(|| {
                let what = format!("(x − {offset}) · {factor}");
                format!("field `{}`: {what} is beyond the fixed path's 64 bits; {TO_F32}", field.name)
            })?;
            Ok(device::Encoder::Number(device::Scaling { step, ..scaling }))
        }
        Path::F32 => {
            let [min, max] = number.clip.unwrap_or([f32::MIN.into(), f32::MAX.into()]);
            let [offset, scale] = [narrow(field, "offset", offset)?, narrow(field, "scale", factor)?];
            let [min, max] = [narrow(field, "clip", min)?, narrow(field, "clip", max)?];
            Ok(device::Encoder::F32Number(device::F32Scaling { of, step, offset, scale, min, max }))
        }
    }
}

fn policy(field: &Field, member: &str, policy: Policy, path: Path) -> Result<device::Policy, String> {
    Ok(match (policy, path) {
        (Policy::Error, _) => device::Policy::Error,
        (Policy::Zero, _) => device::Policy::Zero,
        (Policy::Clamp, _) => device::Policy::Clamp,
        (Policy::Id(id), _) => device::Policy::Use(id),
        (Policy::Number(number), Path::Fixed) => {
            device::Policy::Use(fixed(field, member, number)?.to_bits().cast_unsigned())
        }
        (Policy::Number(number), Path::F32) => device::Policy::Use(narrow(field, member, number)?.to_bits()),
    })
}

fn sequence(field: &Field) -> SequenceRule {
    let Encoding { max_len, keep, fill, .. } = field.encoding;
    let skipped = match field.kind {
        FieldKind::Sequence(sequence) => sequence.padding,
        FieldKind::Ids { .. } => None,
        FieldKind::Id { .. } | FieldKind::Dense | FieldKind::Scaled => return SequenceRule::SINGLE,
    };
    SequenceRule {
        max_len: max_len.unwrap_or(u16::MAX),
        keep_last: keep == Keep::Last,
        padding: match (skipped, fill) {
            (Some(id), _) => Padding::Skip(id),
            (None, Some(id)) => Padding::Fill(id),
            (None, None) => Padding::None,
        },
    }
}

/// The nearest fixed-point number, if there is one.
pub(crate) fn q16(number: f64) -> Option<Q16> {
    let bits = (number * 65536.0).round();
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked; NaN is in no range")]
    (-2_147_483_648.0..2_147_483_648.0).contains(&bits).then(|| Q16::from_bits(bits as i32))
}

/// The range of results where none is said: not the two ends, which also stand for all that is beyond them.
pub(super) const FIXED_RANGE: [Q16; 2] = [Q16::from_bits(i32::MIN + 1), Q16::from_bits(i32::MAX - 1)];

/// What to do about a number that the fixed path does not hold.
const TO_F32: &str = "convert with --embeddings f32 --dense f32";

/// A member of a field, where the fixed path holds it.
fn fixed(field: &Field, member: &str, number: f64) -> Result<Q16, String> {
    q16(number).ok_or_else(|| {
        format!("field `{}`: `{member}` of {number} is beyond the fixed path's ±32768; {TO_F32}", field.name)
    })
}

/// A member of a field as the nearest `f32`, where there is one.
fn narrow(field: &Field, member: &str, number: f64) -> Result<f32, String> {
    #[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest f32 is what is asked for")]
    let near = number as f32;
    let problem = || format!("field `{}`: {member} of {number:e} is beyond the range of f32", field.name);
    near.is_finite().then_some(near).ok_or_else(problem)
}
