//! Rows of data: what is scored, calibrated with and evaluated on.
//!
//! [`Rows`] reads them one after the other in constant memory, from a file or from standard input. The first bytes decide which of
//! four formats a file has, not its name:
//!
//! * **Parquet**, which starts with `PAR1`: columns by name. A value is a text, a number, a truth value or null; several are a list of
//!   these, or with weights a map, or a list of structs of two. A decimal is its text; dates, times and other structs are refused.
//!   Standard input is copied to a temporary file first.
//! * **JSON lines**, where the first character is `{`: an object a line, whose members are columns. A value is a text, a number, a truth
//!   value or null; several are an array of these, or with weights an object, `{"a": 0.5}`, or an array of pairs, `[["a", 0.5]]`.
//! * **libFM**, where the first word is a number: `label id:value id:value …`. The ids count from 0 over the tables
//!   in the order of the id fields, and an id may come more than once. With `n` rows in all tables, `n` is the first
//!   dense input, `n + 1` the second; each must be given exactly once. Entries in the rows of a sequence are its ids,
//!   in their order. A `#` starts a comment.
//! * **CSV** otherwise: a header names the columns. Several values have `|` between, or what the schema says; those of encoded rows
//!   and those with weights are `value:weight`. A record is one line: a quoted cell cannot hold a line break.
//!
//! Text is UTF-8, with or without a byte order mark, plain or gzipped, and a line ends with LF or CRLF. Blank lines are skipped.
//!
//! All but libFM have a column for each field, and an optional one called `label`, in any order. What the values are is said by whom
//! opens the rows:
//!
//! * **encoded** ones, of [`Rows::open`], are ids of each field's own table and numbers. Any other column is an error. A field
//!   without a value has no active entry; a number must be there.
//! * **raw** ones, of [`Rows::open_raw`], are encoded as the schema says, and so as the device does it. Other columns are
//!   [ignored](Rows::ignored), and a column, member or value may be missing where the field's policy says what becomes of it.
//!
//! A truth value is 1 or 0. All numbers must be finite, but for a raw NaN, which is a missing value. Nothing is guessed: what does not
//! fit is an error with the file, the line or row, and the column or member.
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
mod encoded;
mod json;
mod libfm;
mod lines;
mod named;
mod parquet;
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
use self::{
    csv::Csv,
    json::JsonLines,
    libfm::LibFm,
    lines::{Input, Lines},
    named::{Coder, Named},
    parquet::Parquet,
};
use crate::{
    encoding::raw::{FieldCounts, RawFields, RowEncoder},
    error::{Error, Result},
    schema::{self, Field, FieldKind, Pooling, Sequence, Weights},
};

/// The name of the label's column.
const LABEL: &str = "label";

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
pub struct Rows<'e> {
    file: String,
    total_bytes: Option<u64>,
    source: Source,
    coder: Coder<'e>,
    named: Named,
    rows_read: u64,
    ended: bool,
}

enum Source {
    LibFm(Lines, LibFm),
    Csv(Lines, Box<Csv>),
    Json(Lines, JsonLines),
    Parquet(Parquet),
}

impl Rows<'static> {
    /// Opens the file at `path`, or standard input for `-`, and reads the first line. Ids and numbers are encoded already.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, has no line, has a CSV header that does not fit `fields`, or when `fields` is
    /// empty or addresses more than 2³² rows.
    pub fn open(path: &Path, fields: &[Field]) -> Result<Self> {
        Self::open_any(path, fields, None)
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
        let input = Input::open(name, reader, None)?;
        Self::read(name, input, total_bytes, fields, None)
    }
}

impl<'e> Rows<'e> {
    /// Opens a file of raw values, or standard input for `-`; text in the format of libFM is encoded already.
    ///
    /// # Errors
    ///
    /// As [`Rows::open`], and where `raw` has no sound section.
    pub fn open_raw(path: &Path, raw: &'e RawFields) -> Result<Self> {
        let encoder =
            raw.encoder().map_err(|e| Error::refused(&path.display().to_string(), "encoders", e))?;
        Self::open_any(path, raw.fields(), Some(encoder))
    }

    /// Reads raw values from `reader`, as [`Rows::from_reader`] does encoded ones.
    ///
    /// # Errors
    ///
    /// As [`Rows::open`].
    pub fn raw_from_reader(
        name: &str,
        reader: impl Read + Send + 'static,
        total_bytes: Option<u64>,
        encoder: RowEncoder<'e>,
    ) -> Result<Self> {
        let input = Input::open(name, reader, None)?;
        Self::read(name, input, total_bytes, encoder.fields(), Some(encoder))
    }

    fn open_any(path: &Path, fields: &[Field], encoder: Option<RowEncoder<'e>>) -> Result<Self> {
        if path == Path::new("-") {
            let input = Input::open("standard input", io::stdin(), None)?;
            return Self::read("standard input", input, None, fields, encoder);
        }
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let total = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|m| m.len());
        let whole = total.map(|_| file.try_clone()).transpose().map_err(|e| Error::io(path, e))?;
        let name = path.display().to_string();
        let input = Input::open(&name, file, whole)?;
        Self::read(&name, input, total, fields, encoder)
    }

    fn read(
        name: &str,
        input: Input,
        total_bytes: Option<u64>,
        fields: &[Field],
        encoder: Option<RowEncoder<'e>>,
    ) -> Result<Self> {
        let layout = Layout::new(fields).map_err(|problem| problem.at(name, &Place::WHOLE))?;
        let coder = encoder.map_or_else(|| Coder::Encoded(fields.to_vec()), Coder::Raw);
        let source = match input {
            Input::Text(lines) => Source::of_text(name, lines, layout, &coder)?,
            Input::Parquet(file) => {
                let parquet = Parquet::open(file, &coder);
                Source::Parquet(parquet.map_err(|problem| problem.at(name, &Place::WHOLE))?)
            }
        };
        let named = Named::missing(fields.len());
        Ok(Self { file: name.into(), total_bytes, source, coder, named, rows_read: 0, ended: false })
    }

    /// Bytes consumed so far, counted before decompression; of Parquet an estimate by the rows.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        match &self.source {
            Source::LibFm(lines, _) | Source::Csv(lines, _) | Source::Json(lines, _) => lines.bytes_read(),
            Source::Parquet(parquet) => parquet.part_of(self.total_bytes.unwrap_or(0)),
        }
    }

    /// Bytes that [`Rows::bytes_read`] reaches at the end; `None` for a pipe.
    #[must_use]
    pub fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    /// The number of the line last read, or of the row in Parquet; both count from 1.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.source.place().number
    }

    /// Where the row last read stands, for messages about it: `line 3`, or `row 3` in Parquet.
    #[must_use]
    pub fn place(&self) -> String {
        let Place { unit, number, .. } = self.source.place();
        format!("{unit} {number}")
    }

    /// Whether the rows have labels: always in libFM, with a `label` column, or with such a member in the first line of JSON.
    #[must_use]
    pub fn has_labels(&self) -> bool {
        match &self.source {
            Source::LibFm(..) => true,
            Source::Csv(_, csv) => csv.columns.has_label(),
            Source::Json(_, json) => json.has_label,
            Source::Parquet(parquet) => parquet.columns.has_label(),
        }
    }

    /// Columns of raw values that are no field's, and are not read; in JSON the members so far, at most 1,000.
    #[must_use]
    pub fn ignored(&self) -> &[String] {
        match &self.source {
            Source::LibFm(..) => &[],
            Source::Csv(_, csv) => &csv.columns.ignored,
            Source::Json(_, json) => &json.ignored,
            Source::Parquet(parquet) => &parquet.columns.ignored,
        }
    }

    /// What the encoder met so far, for each field; `None` of rows that are encoded already.
    #[must_use]
    pub fn counts(&self) -> Option<&[FieldCounts]> {
        match (&self.source, &self.coder) {
            (Source::LibFm(..), _) | (_, Coder::Encoded(_)) => None,
            (_, Coder::Raw(encoder)) => Some(encoder.counts()),
        }
    }

    fn next_row(&mut self) -> Result<Option<Row>> {
        while self.source.advance()? {
            match self.source.parse(&mut self.coder, &mut self.named) {
                Ok(Some(row)) => {
                    self.rows_read = self.rows_read.saturating_add(1);
                    return Ok(Some(row));
                }
                Ok(None) => {}
                Err(problem) => return Err(problem.at(&self.file, &self.source.place())),
            }
        }
        if self.rows_read == 0 {
            return Err(Error::refused(&self.file, "", "expected rows, found only the header"));
        }
        Ok(None)
    }
}

impl Source {
    /// The format of a text by its first line that is no comment.
    fn of_text(name: &str, mut lines: Lines, layout: Layout, coder: &Coder<'_>) -> Result<Self> {
        loop {
            if !lines.advance()? {
                return Err(Error::refused(name, "", "expected rows, found an empty file"));
            }
            if !lines.text().trim_start().starts_with('#') {
                break;
            }
        }
        let place = Place::of_line(&lines, "column");
        if libfm::recognises(lines.text()) {
            lines.put_back();
            let format = LibFm::new(layout).map_err(|problem| problem.at(name, &Place::WHOLE))?;
            return Ok(Self::LibFm(lines, format));
        }
        if JsonLines::recognises(lines.text()) {
            lines.put_back();
            let format = JsonLines::new(coder, lines.text()).map_err(|problem| problem.at(name, &place))?;
            return Ok(Self::Json(lines, format));
        }
        let format = Csv::new(coder, lines.text()).map_err(|problem| problem.at(name, &place))?;
        Ok(Self::Csv(lines, Box::new(format)))
    }

    /// Goes to the next line or row; false at the end.
    fn advance(&mut self) -> Result<bool> {
        match self {
            Self::LibFm(lines, _) | Self::Csv(lines, _) | Self::Json(lines, _) => lines.advance(),
            Self::Parquet(parquet) => Ok(parquet.advance()),
        }
    }

    /// The row that is there; `None` of a comment. `named` is memory for its values.
    fn parse(
        &mut self,
        coder: &mut Coder<'_>,
        named: &mut Named,
    ) -> core::result::Result<Option<Row>, Problem> {
        match self {
            Self::LibFm(lines, format) => return format.parse(lines.text()),
            Self::Csv(lines, format) => format.parse(lines.text(), named)?,
            Self::Json(lines, format) => format.parse(lines.text(), coder, named)?,
            Self::Parquet(format) => format.parse(named)?,
        }
        coder.row(named).map(Some)
    }

    /// Where the row stands that is there.
    fn place(&self) -> Place {
        match self {
            Self::LibFm(lines, _) | Self::Csv(lines, _) => Place::of_line(lines, "column"),
            Self::Json(lines, _) => Place::of_line(lines, "member"),
            Self::Parquet(parquet) => Place { unit: "row", number: parquet.number(), name: "column" },
        }
    }
}

impl Iterator for Rows<'_> {
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

impl core::iter::FusedIterator for Rows<'_> {}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match self.source {
            Source::LibFm(..) => "libFM",
            Source::Csv(..) => "CSV",
            Source::Json(..) => "JSON lines",
            Source::Parquet(_) => "Parquet",
        };
        f.debug_struct("Rows")
            .field("file", &self.file)
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
pub(crate) fn push_sequence(
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

/// Where a row stands, and what its values are called.
struct Place {
    unit: &'static str,
    /// From 1; 0 of the whole file.
    number: u64,
    name: &'static str,
}

impl Place {
    /// No row, but the file.
    const WHOLE: Self = Self { unit: "row", number: 0, name: "column" };

    fn of_line(lines: &Lines, name: &'static str) -> Self {
        Self { unit: "line", number: lines.number(), name }
    }
}

/// What is wrong with a row.
#[derive(Debug)]
struct Problem {
    part: Part,
    text: String,
}

/// The part of a row that is wrong.
#[derive(Debug)]
enum Part {
    Whole,
    /// The value of this name.
    Value(String),
    /// From the byte at this position, from 1.
    Byte(usize),
}

impl Problem {
    fn new(text: impl Into<String>) -> Self {
        Self { part: Part::Whole, text: text.into() }
    }

    fn of_value(name: &str, text: impl Into<String>) -> Self {
        Self { part: Part::Value(quote(name)), text: text.into() }
    }

    fn of_byte(position: usize, text: impl Into<String>) -> Self {
        Self { part: Part::Byte(position), text: text.into() }
    }

    /// Names the file, and the place unless it is the file.
    fn at(self, file: &str, place: &Place) -> Error {
        let Place { unit, number, name } = place;
        let row = (*number > 0).then(|| format!("{unit} {number}"));
        let part = match self.part {
            Part::Whole => None,
            Part::Value(value) => Some(format!("{name} {value}")),
            Part::Byte(position) => Some(format!("byte {position}")),
        };
        let place: Vec<String> = row.into_iter().chain(part).collect();
        Error::refused(file, place.join(", "), self.text)
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
pub(crate) fn unless_all_one(values: Vec<f64>) -> Option<Vec<f64>> {
    let one = 1f64.to_bits();
    values.iter().any(|value| value.to_bits() != one).then_some(values)
}

/// `text` for a message: in backticks, escaped, and shortened when long.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST: usize = 40;
    let mut quoted: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        quoted.push('…');
    }
    format!("`{quoted}`")
}

#[cfg(test)]
mod tests;
