//! Raw values: how each field's become ids and numbers, as the schema says and as the device does it.
//!
//! [`spec`] is what the schema file says, [`section()`](section::section) turns it into the device library's section of encoders,
//! and rows are encoded by that section alone, so that the host's ids are the device's.

pub(crate) mod columns;
pub(crate) mod describe;
pub mod import;
pub mod raw;
pub mod section;
pub mod spec;

use std::{fmt, fs, path::Path};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use self::spec::Keys;
use crate::error::{Error, Result};

/// A vocabulary from a file: JSON, `{"key": id}` or a list of keys whose ids are their positions, or CSV with the columns `key` and
/// `id` in any order.
///
/// # Errors
///
/// When the file cannot be read, or is none of these.
pub fn vocabulary_file(path: &Path) -> Result<Keys> {
    let text = text_of_file(path)?;
    let file = path.display().to_string();
    if text.trim_start().starts_with('{') {
        let Entries(entries) =
            serde_json::from_str(&text).map_err(|e| Error::refused(&file, "", e.to_string()))?;
        return Ok(Keys::Text(entries));
    }
    if text.trim_start().starts_with('[') {
        let keys: Vec<String> =
            serde_json::from_str(&text).map_err(|e| Error::refused(&file, "", e.to_string()))?;
        return Ok(Keys::Text(keys.into_iter().zip(0..).collect()));
    }
    csv_vocabulary(&file, &text)
}

/// A file's text, without a byte order mark.
pub(crate) fn text_of_file(path: &Path) -> Result<String> {
    let mut text = fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

/// The members of a JSON object as they stand, a key that comes twice included, which the schema refuses.
struct Entries(Vec<(String, u32)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> core::result::Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of keys and ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> core::result::Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

fn csv_vocabulary(file: &str, text: &str) -> Result<Keys> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let refused = |line: u64, problem: String| Error::refused(file, format!("line {line}"), problem);
    let header = reader.headers().map_err(|e| refused(1, e.to_string()))?.clone();
    let column = |name: &str| header.iter().position(|column| column.trim() == name);
    let (Some(key), Some(id)) = (column("key"), column("id")) else {
        let found = header.iter().collect::<Vec<_>>().join(", ");
        return Err(refused(1, format!("expected a header with the columns key and id, found {found}")));
    };
    let mut keys = Vec::new();
    for record in reader.records() {
        let record =
            record.map_err(|e| refused(e.position().map_or(0, csv::Position::line), e.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let text = record.get(id).unwrap_or_default().trim();
        let id = text.parse().map_err(|_| refused(line, format!("expected an id, found `{text}`")))?;
        keys.push((record.get(key).unwrap_or_default().to_owned(), id));
    }
    Ok(Keys::Text(keys))
}
