//! The `encoder` of a field in the schema file, and whether it fits the field.

use std::{collections::BTreeSet, fmt, path::Path};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, Unexpected, Visitor},
};

use super::{
    Field, FieldKind,
    file::{Problem, Result},
};
use crate::encoding::{
    self,
    spec::{
        Buckets, Closed, Encoder, Encoding, Hash, HashFunction, HashedValues, Keep, Keys, Number, Of, Policy,
        Scale, Vocabulary,
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Type {
    Vocabulary,
    Hash,
    Buckets,
    MinMax,
    Standard,
    Number,
}

impl Type {
    const fn name(self) -> &'static str {
        match self {
            Self::Vocabulary => "vocabulary",
            Self::Hash => "hash",
            Self::Buckets => "buckets",
            Self::MinMax => "min_max",
            Self::Standard => "standard",
            Self::Number => "number",
        }
    }

    /// The members that an encoder of the type may have.
    const fn members(self) -> &'static [&'static str] {
        match self {
            Self::Vocabulary => &["keys", "first", "entries", "file", "exact"],
            Self::Hash => &["function", "buckets", "prefix", "values"],
            Self::Buckets => &["boundaries", "closed", "ids"],
            Self::MinMax => &["min", "max", "low", "high", "epsilon", "of", "clip", "step"],
            Self::Standard => &["mean", "std", "of", "clip", "step"],
            Self::Number => &["of", "clip", "step"],
        }
    }
}

/// An encoder: the members of all types.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "an object with the encoder's members")]
pub(super) struct EncoderRecord {
    #[serde(rename = "type")]
    kind: Type,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<Key>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entries: Option<Vec<(Key, u32)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exact: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    function: Option<HashFunction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    buckets: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    values: Option<HashedValues>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boundaries: Option<Vec<f64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    closed: Option<Closed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<Option<u32>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    low: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    high: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epsilon: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mean: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    std: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<Of>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clip: Option<[f64; 2]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<f64>,
}

/// A key.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
enum Key {
    Int(i64),
    Text(String),
}

/// By hand, as an error of an untagged enum does not say what was found.
impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> core::result::Result<Self, D::Error> {
        struct OfKey;
        impl Visitor<'_> for OfKey {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or an integer of 64 bits")
            }

            fn visit_i64<E: de::Error>(self, key: i64) -> core::result::Result<Key, E> {
                Ok(Key::Int(key))
            }

            fn visit_u64<E: de::Error>(self, key: u64) -> core::result::Result<Key, E> {
                i64::try_from(key)
                    .map(Key::Int)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(key), &self))
            }

            fn visit_str<E: de::Error>(self, key: &str) -> core::result::Result<Key, E> {
                Ok(Key::Text(key.into()))
            }
        }
        deserializer.deserialize_any(OfKey)
    }
}

impl EncoderRecord {
    const fn empty(kind: Type) -> Self {
        Self {
            kind,
            keys: None,
            first: None,
            entries: None,
            file: None,
            exact: None,
            function: None,
            buckets: None,
            prefix: None,
            values: None,
            boundaries: None,
            closed: None,
            ids: None,
            min: None,
            max: None,
            low: None,
            high: None,
            epsilon: None,
            mean: None,
            std: None,
            of: None,
            clip: None,
            step: None,
        }
    }

    /// The members that are there.
    fn present(&self) -> impl Iterator<Item = &'static str> {
        let members = [
            ("keys", self.keys.is_some()),
            ("first", self.first.is_some()),
            ("entries", self.entries.is_some()),
            ("file", self.file.is_some()),
            ("exact", self.exact.is_some()),
            ("function", self.function.is_some()),
            ("buckets", self.buckets.is_some()),
            ("prefix", self.prefix.is_some()),
            ("values", self.values.is_some()),
            ("boundaries", self.boundaries.is_some()),
            ("closed", self.closed.is_some()),
            ("ids", self.ids.is_some()),
            ("min", self.min.is_some()),
            ("max", self.max.is_some()),
            ("low", self.low.is_some()),
            ("high", self.high.is_some()),
            ("epsilon", self.epsilon.is_some()),
            ("mean", self.mean.is_some()),
            ("std", self.std.is_some()),
            ("of", self.of.is_some()),
            ("clip", self.clip.is_some()),
            ("step", self.step.is_some()),
        ];
        members.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name)
    }

    /// The encoder, with a vocabulary's file read from beside the schema.
    pub(super) fn encoder(self, path: &str, folder: &Path) -> Result<Encoder> {
        let (kind, members) = (self.kind.name(), self.kind.members());
        if let Some(other) = self.present().find(|name| !members.contains(name)) {
            let all = members.join(", ");
            let text = format!("an encoder of type `{kind}` has no such member; it has type, {all}");
            return Err(Problem::new(format!("{path}.{other}"), text));
        }
        match self.kind {
            Type::Vocabulary => self.vocabulary(path, folder).map(Encoder::Vocabulary),
            Type::Hash => Ok(Encoder::Hash(Hash {
                function: needed(self.function, path, "function")?,
                buckets: self.buckets,
                prefix: self.prefix.unwrap_or_default(),
                values: self.values.unwrap_or_default(),
            })),
            Type::Buckets => Ok(Encoder::Buckets(Buckets {
                boundaries: needed(self.boundaries, path, "boundaries")?,
                closed: self.closed.unwrap_or_default(),
                ids: self.ids.unwrap_or_default(),
            })),
            Type::MinMax | Type::Standard | Type::Number => self.number(path).map(Encoder::Number),
        }
    }

    fn vocabulary(self, path: &str, folder: &Path) -> Result<Vocabulary> {
        if self.first.is_some() && self.keys.is_none() {
            return Err(Problem::new(format!("{path}.first"), "only `keys` count from it; expected `keys`"));
        }
        let first = self.first.unwrap_or(0);
        let keys = match (self.keys, self.entries, self.file) {
            (Some(keys), None, None) => {
                let ids = u64::from(first)..;
                let entries: Option<Vec<_>> =
                    keys.into_iter().zip(ids).map(|(key, id)| Some((key, u32::try_from(id).ok()?))).collect();
                let beyond =
                    || Problem::new(format!("{path}.keys"), "expected ids of 32 bits, found more keys");
                of_one_type(entries.ok_or_else(beyond)?, |at| format!("{path}.keys[{at}]"))?
            }
            (None, Some(entries), None) => of_one_type(entries, |at| format!("{path}.entries[{at}][0]"))?,
            (None, None, Some(file)) => encoding::vocabulary_file(&folder.join(file))
                .map_err(|e| Problem::new(format!("{path}.file"), e.to_string()))?,
            _ => return Err(Problem::new(path, "expected one of `keys`, `entries` and `file`")),
        };
        Ok(Vocabulary { keys, exact: self.exact.unwrap_or(false) })
    }

    fn number(self, path: &str) -> Result<Number> {
        let scale = match self.kind {
            Type::MinMax => Scale::MinMax {
                min: needed(self.min, path, "min")?,
                max: needed(self.max, path, "max")?,
                low: self.low.unwrap_or(0.0),
                high: self.high.unwrap_or(1.0),
                epsilon: self.epsilon.unwrap_or(0.0),
            },
            Type::Standard => Scale::Standard {
                mean: needed(self.mean, path, "mean")?,
                std: needed(self.std, path, "std")?,
            },
            _ => Scale::Identity,
        };
        Ok(Number { of: self.of.unwrap_or_default(), scale, clip: self.clip, step: self.step })
    }

    /// The record of an encoder; a vocabulary's keys stand in it, also where they came from a file.
    pub(super) fn of(encoder: &Encoder) -> Self {
        match encoder {
            Encoder::Vocabulary(vocabulary) => Self::of_vocabulary(vocabulary),
            Encoder::Hash(hash) => Self {
                function: Some(hash.function),
                buckets: hash.buckets,
                prefix: (!hash.prefix.is_empty()).then(|| hash.prefix.clone()),
                values: (hash.values != HashedValues::Text).then_some(hash.values),
                ..Self::empty(Type::Hash)
            },
            Encoder::Buckets(buckets) => Self {
                boundaries: Some(buckets.boundaries.clone()),
                closed: (buckets.closed != Closed::Left).then_some(buckets.closed),
                ids: (!buckets.ids.is_empty()).then(|| buckets.ids.clone()),
                ..Self::empty(Type::Buckets)
            },
            Encoder::Number(number) => Self::of_number(number),
        }
    }

    fn of_vocabulary(vocabulary: &Vocabulary) -> Self {
        let entries: Vec<(Key, u32)> = match &vocabulary.keys {
            Keys::Int(keys) => keys.iter().map(|(key, id)| (Key::Int(*key), *id)).collect(),
            Keys::Text(keys) => keys.iter().map(|(key, id)| (Key::Text(key.clone()), *id)).collect(),
        };
        let first = entries.first().map_or(0, |(_, id)| *id);
        let exact = vocabulary.exact.then_some(true);
        // Ids that count need not be written.
        if entries.iter().map(|(_, id)| u64::from(*id)).eq((u64::from(first)..).take(entries.len())) {
            let keys = Some(entries.into_iter().map(|(key, _)| key).collect());
            let first = (first > 0).then_some(first);
            return Self { keys, first, exact, ..Self::empty(Type::Vocabulary) };
        }
        Self { entries: Some(entries), exact, ..Self::empty(Type::Vocabulary) }
    }

    fn of_number(number: &Number) -> Self {
        let common = |kind| Self {
            of: (number.of != Of::Value).then_some(number.of),
            clip: number.clip,
            step: number.step,
            ..Self::empty(kind)
        };
        match number.scale {
            Scale::Identity => common(Type::Number),
            Scale::Standard { mean, std } => {
                Self { mean: Some(mean), std: Some(std), ..common(Type::Standard) }
            }
            Scale::MinMax { min, max, low, high, epsilon } => Self {
                min: Some(min),
                max: Some(max),
                low: (low.abs() > 0.0).then_some(low),
                high: ((high - 1.0).abs() > 0.0).then_some(high),
                epsilon: (epsilon.abs() > 0.0).then_some(epsilon),
                ..common(Type::MinMax)
            },
        }
    }
}

/// Keys, which are all texts or all integers.
fn of_one_type(entries: Vec<(Key, u32)>, path: impl Fn(usize) -> String) -> Result<Keys> {
    let is_text = |entry: &(Key, u32)| matches!(entry.0, Key::Text(_));
    let (mut texts, mut ints) = (Vec::new(), Vec::new());
    let first = entries.first().is_none_or(is_text);
    if let Some(at) = entries.iter().position(|entry| is_text(entry) != first) {
        return Err(Problem::new(path(at), "expected keys of one type, found texts and integers"));
    }
    for (key, id) in entries {
        match key {
            Key::Text(key) => texts.push((key, id)),
            Key::Int(key) => ints.push((key, id)),
        }
    }
    Ok(if first { Keys::Text(texts) } else { Keys::Int(ints) })
}

fn needed<T>(member: Option<T>, path: &str, name: &str) -> Result<T> {
    member.ok_or_else(|| Problem::new(format!("{path}.{name}"), "missing; this type of encoder needs it"))
}

/// Checks a field's encoder and policies against its kind and its rows.
pub(super) fn check(path: &str, field: &Field) -> Result<()> {
    let encoding = &field.encoding;
    let has_ids = !matches!(field.kind, FieldKind::Dense | FieldKind::Scaled);
    let rows = field.kind.rows();
    let at = |member: &str| format!("{path}.{member}");
    match &encoding.encoder {
        None => {}
        Some(Encoder::Number(number)) if !has_ids => check_number(&at("encoder"), number)?,
        Some(Encoder::Vocabulary(vocabulary)) if has_ids => {
            check_vocabulary(&at("encoder"), vocabulary, rows)?;
        }
        Some(Encoder::Hash(hash)) if has_ids => check_hash(&at("encoder"), hash, rows)?,
        Some(Encoder::Buckets(buckets)) if has_ids => check_buckets(&at("encoder"), buckets, rows)?,
        Some(_) if has_ids => {
            let text =
                "a field of ids takes vocabulary, hash or buckets, found an encoder that gives a number";
            return Err(Problem::new(at("encoder.type"), text));
        }
        Some(_) => {
            let text =
                "a field of a number takes min_max, standard or number, found an encoder that gives ids";
            return Err(Problem::new(at("encoder.type"), text));
        }
    }
    if encoding.missing == Policy::Clamp {
        let text = "expected error, zero or a value in its place, found clamp: what is not there has no nearest value";
        return Err(Problem::new(at("missing"), text));
    }
    if encoding.unseen == Policy::Clamp && has_ids && encoding.encoder.is_some() {
        let text = "expected error, zero or {\"id\": …}, found clamp: what the encoder has no id for has no nearest one";
        return Err(Problem::new(at("unseen"), text));
    }
    for (member, policy) in [("unseen", encoding.unseen), ("missing", encoding.missing)] {
        check_policy(&at(member), policy, has_ids, rows)?;
    }
    if field.table.is_none() && has_ids && rows == 0 {
        return Err(Problem::new(at("rows"), "expected at least 1, found 0"));
    }
    check_length(path, encoding)?;
    if let FieldKind::Sequence(sequence) = field.kind {
        for (member, id) in [("padding", sequence.padding), ("fill", encoding.fill)] {
            if let Some(id) = id.filter(|id| *id >= rows) {
                return Err(Problem::new(
                    at(member),
                    format!("expected an id below {rows}, its rows, found {id}"),
                ));
            }
        }
        if sequence.padding.is_some() && encoding.fill.is_some() {
            let text =
                "expected either `padding`, ids that are left out, or `fill`, ids that take part, found both";
            return Err(Problem::new(at("fill"), text));
        }
    }
    Ok(())
}

fn check_length(path: &str, encoding: &Encoding) -> Result<()> {
    let problem = match encoding {
        Encoding { max_len: Some(0), .. } => "expected at least 1, found 0",
        Encoding { max_len: None, fill: Some(_), .. } => {
            "missing; `fill` fills up to it, and expects a number from 1 to 65535"
        }
        Encoding { max_len: None, keep: Keep::Last, .. } => {
            "missing; `keep` says what is kept of more values than it, and expects a number from 1 to 65535"
        }
        _ => return Ok(()),
    };
    Err(Problem::new(format!("{path}.max_len"), problem))
}

fn check_policy(path: &str, policy: Policy, has_ids: bool, rows: u32) -> Result<()> {
    match policy {
        Policy::Id(_) if !has_ids => {
            Err(Problem::new(path, "a field of a number takes {\"number\": …}, found {\"id\": …}"))
        }
        Policy::Number(_) if has_ids => {
            Err(Problem::new(path, "a field of ids takes {\"id\": …}, found {\"number\": …}"))
        }
        Policy::Id(id) if id >= rows => {
            Err(Problem::new(path, format!("expected an id below {rows}, its rows, found {id}")))
        }
        _ => Ok(()),
    }
}

fn check_vocabulary(path: &str, vocabulary: &Vocabulary, rows: u32) -> Result<()> {
    let ids = vocabulary.keys.ids();
    if let Some((at, id)) = ids.iter().enumerate().find(|(_, id)| **id >= rows) {
        let text =
            format!("key {at}: expected an id below {rows}, the rows of the field's table, found {id}");
        return Err(Problem::new(path, text));
    }
    let twice = match &vocabulary.keys {
        Keys::Text(keys) => first_twice(keys.iter().map(|(key, _)| key)).map(|key| format!("{key:?}")),
        Keys::Int(keys) => first_twice(keys.iter().map(|(key, _)| key)).map(i64::to_string),
    };
    match twice {
        Some(key) => Err(Problem::new(path, format!("expected each key once, found {key} a second time"))),
        None if ids.is_empty() => Err(Problem::new(path, "expected at least one key, found none")),
        None => Ok(()),
    }
}

/// The first that comes again.
fn first_twice<T: Ord + Copy>(mut keys: impl Iterator<Item = T>) -> Option<T> {
    let mut seen = BTreeSet::new();
    keys.find(|key| !seen.insert(*key))
}

fn check_hash(path: &str, hash: &Hash, rows: u32) -> Result<()> {
    let least = if hash.function == HashFunction::Farmhash64MaskZero { 2 } else { 1 };
    let buckets = hash.buckets.unwrap_or(rows);
    if !(least..=rows).contains(&buckets) {
        let text = format!("expected from {least} to {rows}, the rows of the field's table, found {buckets}");
        return Err(Problem::new(format!("{path}.buckets"), text));
    }
    let takes_prefix = matches!(hash.function, HashFunction::Murmur3 | HashFunction::FeatureHasher);
    if !hash.prefix.is_empty() && !takes_prefix {
        let text = "expected none with this function, as only murmur3_32 and feature_hasher hash one";
        return Err(Problem::new(format!("{path}.prefix"), text));
    }
    if hash.prefix.len() > usize::from(u16::MAX) {
        let text = format!("expected at most {} bytes, found {}", u16::MAX, hash.prefix.len());
        return Err(Problem::new(format!("{path}.prefix"), text));
    }
    Ok(())
}

fn check_buckets(path: &str, buckets: &Buckets, rows: u32) -> Result<()> {
    let ends = &buckets.boundaries;
    if let Some(at) = (1..ends.len()).find(|&at| ends[at - 1] > ends[at]) {
        let text = format!("expected ascending boundaries, found {} after {}", ends[at], ends[at - 1]);
        return Err(Problem::new(format!("{path}.boundaries[{at}]"), text));
    }
    let count = ends.len() + 1;
    if buckets.ids.is_empty() && count > rows as usize {
        let text = format!("expected at most {rows} buckets, the rows of the field's table, found {count}");
        return Err(Problem::new(format!("{path}.boundaries"), text));
    }
    if !buckets.ids.is_empty() && buckets.ids.len() != count {
        let text = format!("expected an id for each of {count} buckets, found {}", buckets.ids.len());
        return Err(Problem::new(format!("{path}.ids"), text));
    }
    match buckets.ids.iter().enumerate().find_map(|(at, id)| id.filter(|id| *id >= rows).map(|id| (at, id))) {
        Some((at, id)) => {
            let text = format!("expected an id below {rows}, the rows of the field's table, found {id}");
            Err(Problem::new(format!("{path}.ids[{at}]"), text))
        }
        None => Ok(()),
    }
}

fn check_number(path: &str, number: &Number) -> Result<()> {
    let ascends = |names: &str, low: f64, high: f64| match low < high {
        true => Ok(()),
        false => Err(Problem::new(path, format!("expected {names}, found {low} and {high}"))),
    };
    match number.scale {
        Scale::MinMax { min, max, low, high, epsilon } => {
            ascends("`min` below `max` + `epsilon`", min, max + epsilon)?;
            ascends("`low` below `high`", low, high)?;
        }
        Scale::Standard { std, .. } => ascends("0 below `std`", 0.0, std)?,
        Scale::Identity => {}
    }
    let (offset, factor) = number.scale.offset_and_factor();
    if !offset.is_finite() || !factor.is_finite() || factor <= 0.0 {
        let text = format!("expected a finite scale, found (x − {offset}) · {factor}");
        return Err(Problem::new(path, text));
    }
    if let Some([low, high]) = number.clip.filter(|[low, high]| low > high) {
        let text = format!("expected [smallest, largest], found [{low}, {high}]");
        return Err(Problem::new(format!("{path}.clip"), text));
    }
    match number.step {
        Some(step) if encoding::section::step(step).is_none() => {
            let text = format!("expected a power of two from 2^-15 to 1, found {step}");
            Err(Problem::new(format!("{path}.step"), text))
        }
        _ => Ok(()),
    }
}
