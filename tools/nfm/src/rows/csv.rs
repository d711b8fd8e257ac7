//! CSV with a header.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};

use super::{
    Problem,
    named::{Coder, Columns, Named, Target},
};
use crate::encoding::raw::RawValue;

/// Parses lines.
pub(super) struct Csv {
    pub(super) columns: Columns,
    cells: Cells,
}

impl Csv {
    /// Reads the header.
    pub(super) fn new(coder: &Coder<'_>, header: &str) -> Result<Self, Problem> {
        let mut cells = Cells::new();
        cells.split(header)?;
        let names: Vec<&str> = cells.iter().collect();
        let columns =
            coder.columns(&names).map_err(|problem| better_problem(header, &names).unwrap_or(problem))?;
        Ok(Self { columns, cells })
    }

    /// Gives the values in `line` to `named`.
    pub(super) fn parse(&mut self, line: &str, named: &mut Named) -> Result<(), Problem> {
        self.cells.split(line)?;
        let (found, expected) = (self.cells.len(), self.columns.targets.len());
        if found != expected {
            let text = format!("expected {expected} cells, as the header has, found {found}");
            return Err(Problem::new(text));
        }
        for (column, target) in self.columns.targets.iter().enumerate() {
            let cell = self.cells.get(column);
            match target {
                Target::Field(field) => {
                    if let Some(value) = named.values.get_mut(*field) {
                        set_text(value, cell);
                    }
                }
                Target::Label => named.set_label(&RawValue::Text(cell.into()))?,
                Target::Nothing => {}
            }
        }
        Ok(())
    }
}

/// Makes `value` a text, in the memory of the last row's.
fn set_text(value: &mut RawValue, cell: &str) {
    match value {
        RawValue::Text(text) => {
            text.clear();
            text.push_str(cell);
        }
        value => *value = RawValue::Text(cell.into()),
    }
}

/// What is wrong with a header that names no fields at all.
fn better_problem(header: &str, names: &[&str]) -> Option<Problem> {
    if header.trim_start().starts_with('[') {
        let text = "expected a JSON object on each line, found an array (pandas: write with `lines=True`)";
        return Some(Problem::new(text));
    }
    if names.iter().all(|name| name.is_empty() || name.parse::<f64>().is_ok()) {
        return Some(Problem::new("expected a header with the names of the columns, found numbers"));
    }
    if let Some(column) = names.iter().position(|name| name.is_empty()) {
        return Some(Problem::new(format!(
            "expected a name for column {}, found none (pandas: write with `index=False`)",
            column.saturating_add(1)
        )));
    }
    let [only] = names else { return None };
    let separator = only.chars().find(|c| matches!(c, '\t' | ';'))?;
    Some(Problem::new(format!("expected columns separated by commas, found {separator:?}")))
}

/// The cells of one line, without the white space around them.
pub(super) struct Cells {
    reader: Reader,
    input: Vec<u8>,
    output: Vec<u8>,
    ends: Vec<usize>,
    text: String,
    len: usize,
}

impl Cells {
    pub(super) fn new() -> Self {
        // `Lines` took the carriage return off; any other is part of a cell and no line end that would shift the count.
        let reader = ReaderBuilder::new().terminator(Terminator::Any(b'\n')).build();
        Self { reader, input: Vec::new(), output: Vec::new(), ends: Vec::new(), text: String::new(), len: 0 }
    }

    pub(super) fn split(&mut self, line: &str) -> Result<(), Problem> {
        self.input.clear();
        self.input.extend_from_slice(line.as_bytes());
        self.input.push(b'\n');
        // A cell is no longer than its text, and there is at most one more than there are commas.
        self.output.resize(self.input.len(), 0);
        self.ends.resize(line.matches(',').count().saturating_add(1), 0);
        let (result, _, written, len) =
            self.reader.read_record(&self.input, &mut self.output, &mut self.ends);
        if result != ReadRecordResult::Record {
            return Err(Problem::new("expected a closing quote on the same line, found none"));
        }
        self.text.clear();
        // The reader only drops quotes, so what was UTF-8 still is.
        self.text
            .push_str(str::from_utf8(self.output.get(..written).unwrap_or_default()).unwrap_or_default());
        self.len = len;
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, index: usize) -> &str {
        let end = |index: usize| self.ends.get(..self.len).and_then(|ends| ends.get(index)).copied();
        let start = index.checked_sub(1).map_or(Some(0), end);
        start.zip(end(index)).and_then(|(start, end)| self.text.get(start..end)).unwrap_or_default().trim()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len).map(|index| self.get(index))
    }
}
