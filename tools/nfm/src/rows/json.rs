//! JSON lines: an object a line.

use std::fmt;

use indexmap::IndexMap;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue as Json;

use super::{
    LABEL, Problem, finite,
    named::{Coder, Named, Target},
    quote,
};
use crate::{encoding::raw::RawValue, schema::Field};

/// The most names of members that are remembered as not read.
const IGNORED: usize = 1000;

/// Parses lines.
pub(super) struct JsonLines {
    /// Names of members that were not read so far.
    pub(super) ignored: Vec<String>,
    /// Whether the first line has a label.
    pub(super) has_label: bool,
}

impl JsonLines {
    /// Whether a text whose first line is `line` has this format.
    pub(super) fn recognises(line: &str) -> bool {
        line.trim_start().starts_with('{')
    }

    /// A parser for a text whose first line is `line`.
    pub(super) fn new(coder: &Coder<'_>, line: &str) -> Result<Self, Problem> {
        coder.check_names()?;
        Ok(Self { ignored: Vec::new(), has_label: Members::parse(line)?.0.contains_key(LABEL) })
    }

    /// Gives the values in `line` to `named`.
    pub(super) fn parse(&mut self, line: &str, coder: &Coder<'_>, named: &mut Named) -> Result<(), Problem> {
        let Members(members) = Members::parse(line)?;
        named.values.fill(RawValue::Missing);
        named.label = None;
        for (name, json) in &members {
            let refused = |text| Problem::of_value(name, text);
            match coder.target(name)? {
                Target::Field(at) => {
                    if let Some(value) = named.values.get_mut(at) {
                        *value = value_of(json.get()).map_err(refused)?;
                    }
                }
                Target::Label => named.set_label(&scalar(json.get()).map_err(refused)?)?,
                Target::Nothing => self.ignore(name),
            }
        }
        let is_lacking = |field: &&Field| !coder.may_lack(field) && !members.contains_key(&field.name);
        match coder.fields().iter().find(is_lacking) {
            Some(field) => Err(coder.lacking(field, &members.keys().map(String::as_str).collect::<Vec<_>>())),
            None => Ok(()),
        }
    }

    fn ignore(&mut self, name: &str) {
        if self.ignored.len() < IGNORED && !self.ignored.iter().any(|ignored| ignored == name) {
            self.ignored.push(name.into());
        }
    }
}

/// An object's members, each still as text.
struct Members<'a>(IndexMap<String, &'a Json>);

impl<'a> Members<'a> {
    fn parse(text: &'a str) -> Result<Self, Problem> {
        serde_json::from_str(text).map_err(|e| {
            let hint = if e.is_eof() { "; each object stands on one line" } else { "" };
            Problem::of_byte(e.column(), format!("expected a JSON object: {}{hint}", without_place(&e)))
        })
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = IndexMap::new();
                while let Some((name, value)) = map.next_entry::<String, &Json>()? {
                    if members.contains_key(&name) {
                        let name = quote(&name);
                        return Err(A::Error::custom(format!("found the member {name} a second time")));
                    }
                    members.insert(name, value);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// An error's text; its place counts from the start of what was parsed, which is not always the line.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text).to_owned()
}

/// Any value: one, or several as an array, of values or of `[value, weight]`, or as an object of weights.
fn value_of(json: &str) -> Result<RawValue, String> {
    match json.bytes().next() {
        Some(b'[') => array(json)?.iter().map(|json| element(json.get())).collect::<Result<_, _>>(),
        Some(b'{') => {
            let Members(members) =
                serde_json::from_str(json).map_err(|e| format!("expected weights: {}", without_place(&e)))?;
            let weighted =
                members.into_iter().map(|(key, json)| Ok((RawValue::Text(key), weight(json.get())?)));
            weighted.collect::<Result<_, _>>()
        }
        _ => return scalar(json),
    }
    .map(RawValue::List)
}

fn array(json: &str) -> Result<Vec<&Json>, String> {
    serde_json::from_str(json).map_err(|e| format!("expected an array: {}", without_place(&e)))
}

/// A value of an array, or a value with its weight.
fn element(json: &str) -> Result<(RawValue, f64), String> {
    if !json.starts_with('[') {
        return Ok((scalar(json)?, 1.0));
    }
    match array(json)?.as_slice() {
        [value, weight_of] => Ok((scalar(value.get())?, weight(weight_of.get())?)),
        other => Err(format!("expected `[value, weight]`, found an array of {}", other.len())),
    }
}

fn weight(json: &str) -> Result<f64, String> {
    finite(json).ok_or_else(|| format!("expected a finite number as the weight, found {}", quote(json)))
}

/// A text, a number, a truth value, or none.
fn scalar(json: &str) -> Result<RawValue, String> {
    match json.bytes().next() {
        Some(b'"') => serde_json::from_str(json)
            .map(RawValue::Text)
            .map_err(|e| format!("expected a text: {}", without_place(&e))),
        Some(b'n') => Ok(RawValue::Missing),
        Some(b't') => Ok(RawValue::Int(1)),
        Some(b'f') => Ok(RawValue::Int(0)),
        Some(b'[' | b'{') => Err(format!("expected a text or a number, found {}", quote(json))),
        _ => number(json),
    }
}

fn number(json: &str) -> Result<RawValue, String> {
    if json.contains(['.', 'e', 'E']) {
        let number = finite(json).map(RawValue::Float);
        return number.ok_or_else(|| format!("expected a finite number, found {}", quote(json)));
    }
    let number = json.parse().map(RawValue::Int);
    number.map_err(|_| format!("expected an integer from -2⁶³ to below 2⁶³, found {}", quote(json)))
}
