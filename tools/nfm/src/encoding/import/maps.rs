//! Maps of keys to ids and lists of keys, with what trainers put among the keys.

use super::{
    Checked, Imported, keys,
    plain::{Plain, Python, get},
};
use crate::{
    container::object::Id,
    encoding::spec::{Encoder, Encoding, Number, Of, Policy, Scale},
    error::Result,
};

/// What RecBole pads sequences with; its id is 0.
const REC_BOLE_PADDING: &str = "[PAD]";
/// What FuxiCTR keeps in its vocabularies for padding and for unseen values.
pub(super) const FUXI_PADDING: &str = "__PAD__";
pub(super) const FUXI_UNSEEN: &str = "__OOV__";
/// What rec_pangu keeps among the keys: how many there are, which is the id of unseen values.
const PANGU_COUNT: &str = "vocab_size";
/// What rec_pangu adds to the span of a number.
const PANGU_EPSILON: f64 = 1e-5;

/// The encoder of a map, and what it was.
pub(super) fn map(pairs: Vec<(Plain, Plain)>) -> Checked<(Encoding, String)> {
    if let Some(encoding) = pangu_number(&pairs)? {
        return Ok((encoding, "rec_pangu's minimum and maximum".into()));
    }
    let mut pairs = ids(pairs)?;
    let count = pairs.len();
    if let Some(unseen) = take(&mut pairs, FUXI_UNSEEN) {
        take(&mut pairs, FUXI_PADDING);
        let missing = fuxi_missing(&pairs, unseen);
        let encoding = keys::encoding(pairs, Policy::Id(unseen), missing)?;
        return Ok((encoding, format!("FuxiCTR's vocabulary, {} keys", count - 2)));
    }
    let is_count = |(key, id): &(Plain, u32)| key.text() == Some(PANGU_COUNT) && *id as usize == count - 1;
    if pairs.iter().any(is_count) {
        let unseen = take(&mut pairs, PANGU_COUNT).map_or(Policy::Error, Policy::Id);
        // A missing value is a text like any other to it.
        let nan = pairs.iter().find(|(key, _)| key.text() == Some("nan"));
        let missing = nan.map_or(unseen, |(_, id)| Policy::Id(*id));
        return Ok((
            keys::encoding(pairs, unseen, missing)?,
            format!("rec_pangu's vocabulary, {} keys", count - 1),
        ));
    }
    if let Some(padding) = take(&mut pairs, REC_BOLE_PADDING) {
        let encoding = keys::encoding(pairs, Policy::Error, Policy::Id(padding))?;
        return Ok((encoding, format!("RecBole's tokens, {}", count - 1)));
    }
    Ok((keys::encoding(pairs, Policy::Error, Policy::Error)?, format!("a map of {count} keys")))
}

/// The encoder of a list of keys, of which each one's place is its id.
pub(super) fn list(items: Vec<Plain>) -> Checked<(Encoding, String)> {
    let place = |(at, key)| (key, Plain::Int(at));
    map((0..).zip(items).map(place).collect())
}

/// The keys with ids, from which later ones replace earlier ones, as in Python.
fn ids(pairs: Vec<(Plain, Plain)>) -> Checked<Vec<(Plain, u32)>> {
    if pairs.is_empty() {
        return Err("expected keys with ids, found none".into());
    }
    let id = |(key, id): (Plain, Plain)| match (&key, id.id()) {
        (Plain::List(_) | Plain::Map(_) | Plain::Object(_), _) => {
            Err(format!("expected texts or numbers as keys, found {}", key.kind()))
        }
        (_, Some(id)) => Ok((key, id)),
        (_, None) => {
            let found = id.number().map_or_else(|| id.kind().to_owned(), |number| number.to_string());
            Err(format!("expected an id of at least 0 for each key, found {found} for {key:?}"))
        }
    };
    pairs.into_iter().map(id).collect()
}

/// Takes a key out; gives its id.
fn take(pairs: &mut Vec<(Plain, u32)>, key: &str) -> Option<u32> {
    let at = pairs.iter().position(|(other, _)| other.text() == Some(key))?;
    Some(pairs.remove(at).1)
}

/// `{"min": …, "max": …}`
fn pangu_number(pairs: &[(Plain, Plain)]) -> Checked<Option<Encoding>> {
    let (Some(min), Some(max), 2) = (get(pairs, "min"), get(pairs, "max"), pairs.len()) else {
        return Ok(None);
    };
    let (Some(min), Some(max)) = (min.number(), max.number()) else {
        return Err("expected numbers as min and max".into());
    };
    if !(min.is_finite() && max.is_finite()) {
        return Err(format!("expected finite numbers as min and max, found {min} and {max}"));
    }
    let scale = Scale::MinMax { min, max, low: 0.0, high: 1.0, epsilon: PANGU_EPSILON };
    let number = Number { of: Of::Value, scale, clip: None, step: None };
    Ok(Some(Encoding { encoder: Some(Encoder::Number(number)), ..Encoding::default() }))
}

/// The missing value of a vocabulary of which nothing else is known: FuxiCTR fills a text with nothing, an integer with 0. Where
/// all keys are decimal and one is 0, it may be either.
fn fuxi_missing(pairs: &[(Plain, u32)], unseen: u32) -> Policy {
    let is_decimal = |key: &Plain| key.text().is_some_and(|text| text.parse::<i64>().is_ok());
    let zero = pairs.iter().any(|(key, _)| key.text() == Some("0"));
    if zero && pairs.iter().all(|(key, _)| is_decimal(key)) { Policy::Error } else { Policy::Id(unseen) }
}

/// The token tables of RecBole's `Dataset`.
pub(super) fn rec_bole(python: &Python<'_>, id: Id) -> Result<Vec<Imported>> {
    let (tables, types) = (python.value(id, "field2id_token")?, python.value(id, "field2type")?);
    let Plain::Map(tables) = tables else {
        return Err(python.refuse("field2id_token", format!("expected a map, found {}", tables.kind())));
    };
    let mut all = Vec::new();
    for (name, tokens) in tables {
        let (Plain::Text(name), Plain::List(tokens)) = (name, tokens) else {
            return Err(
                python.refuse("field2id_token", "expected lists of tokens by field; the file is damaged")
            );
        };
        let encoded = list(tokens).map_err(|problem| python.refuse(format!("field `{name}`"), problem));
        let (mut encoding, note) = encoded?;
        // An enum's member is a call of its class with its value.
        let kind = types.get(&name).and_then(|kind| match kind {
            Plain::Object(kind) => python.plain(*python.arguments(*kind).first()?).ok(),
            _ => None,
        });
        if kind.is_some_and(|kind| kind.text() == Some("token_seq")) {
            (encoding.separator, encoding.missing) = (' ', Policy::Zero);
        }
        all.push(Imported { field: Some(name), rows: keys::rows(&encoding), encoding, note });
    }
    Ok(all)
}
