//! Tables of keys and ids as text.

use super::{Imported, keys, plain::Plain};
use crate::{
    encoding::spec::Policy,
    error::{Error, Result},
};

/// The encoder in a CSV file: with a header of `key` and `id`, or as DeepCTR's `vocabulary_path` without one.
pub(super) fn read(file: &str, text: &str) -> Result<Imported> {
    let header: Vec<&str> = text.lines().next().unwrap_or_default().split(',').map(str::trim).collect();
    let (pairs, policy, note) = match *header {
        ["key", "id"] => (with_header(file, text, 0, 1)?, Policy::Error, "a table"),
        ["id", "key"] => (with_header(file, text, 1, 0)?, Policy::Error, "a table"),
        // What is not in the table has the id 0 there.
        [id, _, ..] if id.parse::<i64>().is_ok() => {
            (without_header(file, text)?, Policy::Id(0), "DeepCTR's vocabulary")
        }
        _ => {
            let found: String = header.join(",").chars().take(60).collect();
            let problem = format!("expected the header `key,id` or lines of `id,key`, found {found:?}");
            return Err(Error::refused(file, "line 1", problem));
        }
    };
    let count = pairs.len();
    let encoding =
        keys::encoding(pairs, policy, policy).map_err(|problem| Error::refused(file, "", problem))?;
    Ok(Imported {
        field: None,
        rows: keys::rows(&encoding),
        encoding,
        note: format!("{note} of {count} keys"),
    })
}

fn with_header(file: &str, text: &str, key: usize, id: usize) -> Result<Vec<(Plain, u32)>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(text.as_bytes());
    let mut pairs = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| Error::refused(file, "", error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |at: usize| record.get(at).unwrap_or_default();
        pairs.push((Plain::Text(cell(key).to_owned()), parsed(file, line, cell(id))?));
    }
    Ok(pairs)
}

/// As `tf.lookup.TextFileInitializer` reads it: split at each comma, without quotes, the first cell the id and the second the key.
fn without_header(file: &str, text: &str) -> Result<Vec<(Plain, u32)>> {
    let mut pairs = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.replace('\r', "");
        let mut cells = line.split(',');
        let (Some(id), Some(key)) = (cells.next(), cells.next()) else {
            let problem = format!("expected an id and a key, found {line:?}");
            return Err(Error::refused(file, format!("line {number}"), problem));
        };
        pairs.push((Plain::Text(key.to_owned()), parsed(file, number, id)?));
    }
    Ok(pairs)
}

fn parsed(file: &str, line: u64, id: &str) -> Result<u32> {
    id.trim().parse().map_err(|_| {
        let problem = format!("expected a whole number from 0 to {} as the id, found {id:?}", u32::MAX);
        Error::refused(file, format!("line {line}"), problem)
    })
}
