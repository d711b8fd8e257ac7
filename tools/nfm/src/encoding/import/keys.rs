//! From keys with ids to an encoder.

use super::{Checked, plain::Plain};
use crate::encoding::spec::{Buckets, Closed, Encoder, Encoding, Keys, Policy, Vocabulary};

/// The encoder of keys with ids.
///
/// Texts and integers are a vocabulary, and so are whole floats; booleans are the texts that Python prints. Other floats
/// are looked up as the `f32` nearest to them, so they are buckets of one number each. `None` and NaN among the keys is the value
/// that is not there. Where `""` is a key, it is no missing value.
pub(super) fn encoding(pairs: Vec<(Plain, u32)>, unseen: Policy, missing: Policy) -> Checked<Encoding> {
    let (absent, present): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(key, _)| key.is_missing());
    let missing = match *absent {
        [] => missing,
        [(_, id)] => Policy::Id(id),
        _ => return Err("expected one key for a missing value, found None and NaN; fit it anew".into()),
    };
    let encoder = encoder(present)?;
    let has_empty = match &encoder {
        Encoder::Vocabulary(Vocabulary { keys: Keys::Text(keys), .. }) => {
            keys.iter().any(|(key, _)| key.is_empty())
        }
        _ => false,
    };
    let missing_values = if has_empty { Vec::new() } else { vec![String::new()] };
    Ok(Encoding { encoder: Some(encoder), unseen, missing, missing_values, ..Encoding::default() })
}

fn encoder(pairs: Vec<(Plain, u32)>) -> Checked<Encoder> {
    if pairs.iter().all(|(key, _)| matches!(key, Plain::Text(_) | Plain::Bool(_))) {
        return vocabulary(Keys::Text(pairs.into_iter().map(|(key, id)| (printed(key), id)).collect()));
    }
    let whole: Option<Vec<(i64, u32)>> = pairs.iter().map(|(key, id)| Some((whole(key)?, *id))).collect();
    if let Some(keys) = whole {
        return vocabulary(Keys::Int(keys));
    }
    let floats: Option<Vec<(f64, u32)>> = pairs.iter().map(|(key, id)| Some((key.number()?, *id))).collect();
    match floats {
        Some(floats) => Ok(Encoder::Buckets(floats_as_buckets(floats)?)),
        None => {
            let other = pairs.iter().find(|(key, _)| !matches!(key, Plain::Text(_) | Plain::Bool(_)));
            let kind = other.map_or("another", |(key, _)| key.kind());
            Err(format!("expected keys that are all texts or all numbers, found {kind} among them"))
        }
    }
}

fn vocabulary(keys: Keys) -> Checked<Encoder> {
    let twice = match &keys {
        Keys::Text(keys) => twice(keys.iter().map(|(key, _)| key)).map(|key| format!("{key:?}")),
        Keys::Int(keys) => twice(keys.iter().map(|(key, _)| key)).map(ToString::to_string),
    };
    match twice {
        Some(key) => Err(format!("expected each key once, found {key} twice")),
        None => Ok(Encoder::Vocabulary(Vocabulary { keys, exact: false })),
    }
}

/// A key that is there twice.
fn twice<T: Ord>(keys: impl Iterator<Item = T>) -> Option<T> {
    let mut keys: Vec<T> = keys.collect();
    keys.sort_unstable();
    let at = keys.windows(2).position(|pair| matches!(pair, [a, b] if a == b))?;
    keys.into_iter().nth(at)
}

/// A text, or a boolean as Python prints it.
fn printed(key: Plain) -> String {
    match key {
        Plain::Text(text) => text,
        Plain::Bool(true) => "True".into(),
        _ => "False".into(),
    }
}

/// An integer, or a float that is one.
fn whole(key: &Plain) -> Option<i64> {
    match key {
        Plain::Int(int) => Some(*int),
        #[expect(clippy::cast_possible_truncation, reason = "below 2⁵³ a whole float is an integer")]
        Plain::Float(float) => (float.fract() == 0.0 && float.abs() < 9e15).then_some(*float as i64),
        _ => None,
    }
}

/// Buckets of one `f32` each; what is between two of them has no id.
fn floats_as_buckets(floats: Vec<(f64, u32)>) -> Checked<Buckets> {
    #[expect(clippy::cast_possible_truncation, reason = "the device compares numbers as f32")]
    let mut keys: Vec<(f32, u32)> = floats.into_iter().map(|(key, id)| (key as f32, id)).collect();
    keys.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let mut buckets = Buckets { boundaries: Vec::new(), closed: Closed::Left, ids: vec![None] };
    let mut end = None;
    for (key, id) in keys {
        if key.abs() >= f32::MAX {
            return Err(format!("expected numbers of 32 bits as keys, found {key}"));
        }
        if end.is_some_and(|end| key < end) {
            return Err(format!("expected keys that differ as numbers of 32 bits, found {key} twice"));
        }
        if end == Some(key) {
            // The bucket of the key before ends where this begins.
            buckets.ids.pop();
        } else {
            buckets.boundaries.push(key.into());
        }
        buckets.ids.push(Some(id));
        buckets.boundaries.push(key.next_up().into());
        buckets.ids.push(None);
        end = Some(key.next_up());
    }
    Ok(buckets)
}

/// The id of a key.
pub(super) fn id_of(encoder: &Encoder, key: &Plain) -> Option<u32> {
    match encoder {
        Encoder::Vocabulary(Vocabulary { keys: Keys::Text(keys), .. }) => {
            keys.iter().find(|(text, _)| Some(&**text) == key.text()).map(|(_, id)| *id)
        }
        Encoder::Vocabulary(Vocabulary { keys: Keys::Int(keys), .. }) => {
            let key = whole(key)?;
            keys.iter().find(|(int, _)| *int == key).map(|(_, id)| *id)
        }
        Encoder::Buckets(buckets) => {
            let number = key.number()?;
            let bucket = buckets.boundaries.partition_point(|boundary| *boundary <= number);
            if buckets.ids.is_empty() { u32::try_from(bucket).ok() } else { *buckets.ids.get(bucket)? }
        }
        _ => None,
    }
}

/// How many ids an encoding gives: 1 more than the largest; `None` where that is not known.
pub(super) fn rows(encoding: &Encoding) -> Option<u32> {
    let own = match encoding.encoder.as_ref()? {
        Encoder::Vocabulary(vocabulary) => vocabulary.keys.ids().into_iter().max(),
        Encoder::Buckets(buckets) if buckets.ids.is_empty() => u32::try_from(buckets.boundaries.len()).ok(),
        Encoder::Buckets(buckets) => buckets.ids.iter().flatten().copied().max(),
        _ => return None,
    };
    let policies = [encoding.unseen, encoding.missing].into_iter();
    let policies = policies.filter_map(|policy| if let Policy::Id(id) = policy { Some(id) } else { None });
    own.into_iter().chain(policies).max()?.checked_add(1)
}
