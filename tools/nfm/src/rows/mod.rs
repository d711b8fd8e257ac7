//! Rows of data: what is scored, calibrated with and evaluated on.
//!
//! [`Rows`] reads them one after the other in constant memory, from a file or from standard input, plain or gzipped
//! (by the magic bytes, not by the name). The text is UTF-8, with or without a byte order mark, and a line ends with
//! LF or CRLF. Blank lines are skipped. The first line decides which of two formats the text has:
//!
//! * **libFM**, where the first word is a number: `label id:value id:value …`. The ids count from 0 over the tables
//!   in the order of the id fields, and an id may come more than once. With `n` rows in all tables, `n` is the first
//!   dense input, `n + 1` the second; each must be given exactly once. Entries in the rows of a sequence are its ids,
//!   in their order. A `#` starts a comment.
//! * **CSV** otherwise: a header names the columns, one for each field and an optional one called `label`, in any
//!   order. The cell of an id field or a sequence is an id of that field's table, or several with `|` between, each
//!   `id` or `id:value`; an empty one has no active entry. The cell of a dense or scaled field is a number. An empty
//!   label is none. A record is one line: a quoted cell cannot hold a line break.
//!
//! All numbers must be finite. Nothing is guessed: what does not fit is an error with the file, line and column.
//!
//! ```
//! use nfm::{rows::Rows, schema::{Field, FieldKind}};
//!
//! let fields = [
//!     Field::new("carrier", FieldKind::Id { rows: 17 }),
//!     Field::new("distance", FieldKind::Dense),
//! ];
//! let csv = "distance,carrier,label\n0.5,3,1\n";
//! for row in Rows::from_reader("example", csv.as_bytes(), None, &fields)? {
//!     let row = row?;
//!     assert_eq!((row.ids, row.dense, row.label), (vec![3], vec![0.5], Some(1.0)));
//! }
//! # Ok::<(), nfm::error::Error>(())
//! ```

mod csv;
mod libfm;
mod lines;
mod scores;

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    ops::Range,
    path::Path,
};

pub use self::scores::ScoreWriter;
pub(crate) use self::scores::write_file;
use self::{csv::Csv, libfm::LibFm, lines::Lines};
use crate::{
    error::{Error, Result},
    schema::{self, Field, FieldKind, Pooling, Sequence, Weights},
};

/// One row: the active entries, the dense inputs, and the label where there is one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// Active ids, global over the tables in the order of the fields.
    pub ids: Vec<u32>,
    /// A value for each id; `None` when all are one.
    pub values: Option<Vec<f64>>,
    /// The entries that are sequences, in the order of the entries.
    pub sequences: Vec<Run>,
    /// Dense inputs in the order of the fields.
    pub dense: Vec<f64>,
    /// The label.
    pub label: Option<f64>,
}

/// Entries of a row that are one term.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// The position of the first one.
    pub start: usize,
    /// How many there are.
    pub len: usize,
    /// How their embeddings are pooled.
    pub pooling: Pooling,
    /// How their first-order weights are pooled.
    pub linear: Pooling,
    /// Whether they are the ids of a sequence, and not the one entry of a term.
    pub is_sequence: bool,
}

impl Run {
    /// The positions.
    #[must_use]
    pub const fn entries(&self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

impl Row {
    /// Value of the entry at `position`.
    #[must_use]
    pub fn value(&self, position: usize) -> f64 {
        self.values.as_ref().and_then(|values| values.get(position)).copied().unwrap_or(1.0)
    }

    /// The row's terms in the order of their entries: the sequences, and each other entry by itself.
    pub fn terms(&self) -> impl Iterator<Item = Run> {
        let (mut at, mut sequences) = (0, self.sequences.iter().copied().peekable());
        core::iter::from_fn(move || {
            if let Some(run) = sequences.next_if(|run| run.start == at) {
                at = run.entries().end;
                return Some(run);
            }
            let start = at;
            at += 1;
            let sum = Pooling::Sum;
            (start < self.ids.len()).then_some(Run {
                start,
                len: 1,
                pooling: sum,
                linear: sum,
                is_sequence: false,
            })
        })
    }
}

/// The rows of a file, one after the other; the [module](self) describes the formats.
///
/// After an error the iterator ends.
pub struct Rows {
    lines: Lines,
    format: Format,
    /// The line in `lines` was read and is still to be parsed.
    pending: bool,
    rows_read: u64,
    ended: bool,
}

enum Format {
    LibFm(LibFm),
    Csv(Box<Csv>),
}

impl Rows {
    /// Opens the file at `path`, or standard input for `-`, and reads the first line.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, has no line, has a CSV header that does not fit `fields`, or when `fields` is
    /// empty or addresses more than 2³² rows.
    pub fn open(path: &Path, fields: &[Field]) -> Result<Self> {
        if path == Path::new("-") {
            return Self::from_reader("standard input", io::stdin(), None, fields);
        }
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let total = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|m| m.len());
        Self::from_reader(&path.display().to_string(), file, total, fields)
    }

    /// Reads from `reader`, which messages call `name` and which has `total_bytes` where that is known.
    ///
    /// # Errors
    ///
    /// As [`Rows::open`].
    pub fn from_reader(
        name: &str,
        reader: impl Read + Send + 'static,
        total_bytes: Option<u64>,
        fields: &[Field],
    ) -> Result<Self> {
        let layout = Layout::new(fields).map_err(|problem| problem.at(name, 0))?;
        let mut lines = Lines::new(name, reader, total_bytes)?;
        loop {
            if !lines.advance()? {
                return Err(Error::refused(name, "", "expected rows, found an empty file"));
            }
            if !lines.text().trim_start().starts_with('#') {
                break;
            }
        }
        let (format, pending) = if libfm::recognises(lines.text()) {
            (Format::LibFm(LibFm::new(layout).map_err(|problem| problem.at(name, 0))?), true)
        } else {
            let csv = Csv::new(layout, lines.text()).map_err(|problem| problem.at(name, lines.number()))?;
            (Format::Csv(Box::new(csv)), false)
        };
        Ok(Self { lines, format, pending, rows_read: 0, ended: false })
    }

    /// Bytes consumed so far, counted before decompression.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.lines.bytes_read()
    }

    /// Bytes that [`Rows::bytes_read`] reaches at the end; `None` for a pipe.
    #[must_use]
    pub fn total_bytes(&self) -> Option<u64> {
        self.lines.total_bytes()
    }

    /// The number of the line last read, for messages about its row; lines count from 1.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.lines.number()
    }

    /// Whether the rows have labels: always in libFM, with a `label` column in CSV.
    #[must_use]
    pub fn has_labels(&self) -> bool {
        match &self.format {
            Format::LibFm(_) => true,
            Format::Csv(csv) => csv.has_labels(),
        }
    }

    fn next_row(&mut self) -> Result<Option<Row>> {
        loop {
            if !core::mem::take(&mut self.pending) && !self.lines.advance()? {
                break;
            }
            let parsed = match &mut self.format {
                Format::LibFm(format) => format.parse(self.lines.text()),
                Format::Csv(format) => format.parse(self.lines.text()).map(Some),
            };
            match parsed {
                Ok(Some(row)) => {
                    self.rows_read = self.rows_read.saturating_add(1);
                    return Ok(Some(row));
                }
                Ok(None) => {}
                Err(problem) => return Err(problem.at(self.lines.file(), self.lines.number())),
            }
        }
        if self.rows_read == 0 {
            return Err(Error::refused(self.lines.file(), "", "expected rows, found only the header"));
        }
        Ok(None)
    }
}

impl Iterator for Rows {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let row = self.next_row().transpose();
        self.ended = !matches!(row, Some(Ok(_)));
        row
    }
}

impl core::iter::FusedIterator for Rows {}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match self.format {
            Format::LibFm(_) => "libFM",
            Format::Csv(_) => "CSV",
        };
        f.debug_struct("Rows")
            .field("file", &self.lines.file())
            .field("format", &format)
            .field("line", &self.line())
            .finish_non_exhaustive()
    }
}

/// Where each field's entries go in a [`Row`].
struct Layout {
    fields: Vec<Field>,
    total_rows: u64,
    dense_len: usize,
}

impl Layout {
    fn new(fields: &[Field]) -> core::result::Result<Self, Problem> {
        if fields.is_empty() {
            return Err(Problem::new(
                "expected fields that say what the columns are, found none; give a schema",
            ));
        }
        let total_rows = schema::total_rows(fields);
        if total_rows > 1 << 32 {
            return Err(Problem::new(format!(
                "expected at most 2³² rows in all id fields, found {total_rows}"
            )));
        }
        Ok(Self { fields: fields.to_vec(), total_rows, dense_len: schema::dense_inputs(fields) })
    }

    /// The dense fields in their order.
    fn dense(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| field.kind == FieldKind::Dense)
    }

    /// The fields that are sequences.
    fn sequences(&self) -> impl Iterator<Item = (&Field, Sequence)> {
        self.fields.iter().filter_map(|field| match field.kind {
            FieldKind::Sequence(sequence) => Some((field, sequence)),
            _ => None,
        })
    }
}

/// Ends `row` with the entries of a sequence, `(global id, weight)`.
fn push_sequence(
    row: &mut Row,
    values: &mut Vec<f64>,
    sequence: &Sequence,
    entries: &[(u32, f64)],
) -> core::result::Result<(), String> {
    if entries.is_empty() {
        return if sequence.pooling == Pooling::Max || sequence.linear == Pooling::Max {
            Err("expected at least one id, as the largest of none is not defined, found none".into())
        } else {
            Ok(())
        };
    }
    if let Some(most) = sequence.max_len.filter(|most| entries.len() > usize::from(*most)) {
        return Err(format!("expected at most {most} ids, which is its max_len, found {}", entries.len()));
    }
    let Sequence { pooling, linear, .. } = *sequence;
    row.sequences.push(Run { start: row.ids.len(), len: entries.len(), pooling, linear, is_sequence: true });
    row.ids.extend(entries.iter().map(|(id, _)| id));
    match sequence.weights {
        Weights::Raw => values.extend(entries.iter().map(|(_, weight)| weight)),
        Weights::Softmax => {
            let largest = entries.iter().map(|(_, weight)| *weight).fold(f64::NEG_INFINITY, f64::max);
            let e: Vec<f64> = entries.iter().map(|(_, weight)| (weight - largest).exp()).collect();
            let total: f64 = e.iter().sum();
            values.extend(e.iter().map(|e| e / total));
        }
    }
    Ok(())
}

/// What is wrong in a line.
#[derive(Debug)]
struct Problem {
    column: Option<String>,
    text: String,
}

impl Problem {
    fn new(text: impl Into<String>) -> Self {
        Self { column: None, text: text.into() }
    }

    fn in_column(name: &str, text: impl Into<String>) -> Self {
        Self { column: Some(quote(name)), text: text.into() }
    }

    /// Names the file and, unless it is 0, the line.
    fn at(self, file: &str, line: u64) -> Error {
        let place = match (line, self.column) {
            (0, _) => String::new(),
            (line, None) => format!("line {line}"),
            (line, Some(column)) => format!("line {line}, column {column}"),
        };
        Error::refused(file, place, self.text)
    }
}

/// A whole number; one above 2⁶⁴ − 1 becomes that.
fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Only digits, so the one way to fail is overflow.
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// A number that is neither infinite nor NaN.
fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// `values`, or `None` when all are one.
fn unless_all_one(values: Vec<f64>) -> Option<Vec<f64>> {
    let one = 1f64.to_bits();
    values.iter().any(|value| value.to_bits() != one).then_some(values)
}

/// `text` for a message: in backticks, escaped, and shortened when long.
fn quote(text: &str) -> String {
    const LONGEST: usize = 40;
    let mut quoted: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        quoted.push('…');
    }
    format!("`{quoted}`")
}

#[cfg(test)]
mod tests;
