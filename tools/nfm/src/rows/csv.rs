//! CSV with a header.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};

use super::{Layout, Problem, Row, finite, push_sequence, quote, unless_all_one, whole};
use crate::schema::{Field, FieldKind};

/// The name of the label's column.
const LABEL: &str = "label";

/// Parses lines.
pub(super) struct Csv {
    layout: Layout,
    /// For each field its column.
    columns: Vec<usize>,
    label: Option<usize>,
    column_count: usize,
    cells: Cells,
}

impl Csv {
    /// Reads the header.
    pub(super) fn new(layout: Layout, header: &str) -> Result<Self, Problem> {
        check_names(&layout)?;
        let mut cells = Cells::new();
        cells.split(header)?;
        let names: Vec<&str> = cells.iter().collect();
        for (index, name) in names.iter().enumerate() {
            if *name != LABEL && !layout.fields.iter().any(|slot| slot.name == *name) {
                return Err(unknown_column(&layout, index, name, &names));
            }
            if names.iter().take(index).any(|earlier| earlier == name) {
                return Err(Problem::in_column(name, "expected each column once, found it a second time"));
            }
        }
        let position = |wanted: &str| names.iter().position(|name| *name == wanted);
        let mut columns = Vec::with_capacity(layout.fields.len());
        for slot in &layout.fields {
            columns.push(position(&slot.name).ok_or_else(|| {
                Problem::new(format!("expected a column for the field {}, found none", quote(&slot.name)))
            })?);
        }
        let (label, column_count) = (position(LABEL), names.len());
        Ok(Self { layout, columns, label, column_count, cells })
    }

    pub(super) fn has_labels(&self) -> bool {
        self.label.is_some()
    }

    /// The row in `line`.
    pub(super) fn parse(&mut self, line: &str) -> Result<Row, Problem> {
        self.cells.split(line)?;
        let found = self.cells.len();
        if found != self.column_count {
            return Err(Problem::new(format!(
                "expected {} cells, as the header has, found {found}",
                self.column_count
            )));
        }
        let mut row = Row::default();
        let mut values = Vec::new();
        for (field, column) in self.layout.fields.iter().zip(&self.columns) {
            let cell = self.cells.get(*column);
            add(field, cell, &mut row, &mut values).map_err(|text| Problem::in_column(&field.name, text))?;
        }
        if let Some(cell) = self.label.map(|column| self.cells.get(column)).filter(|cell| !cell.is_empty()) {
            row.label = Some(number(cell).map_err(|text| Problem::in_column(LABEL, text))?);
        }
        row.values = unless_all_one(values);
        Ok(row)
    }
}

/// Adds what a field's cell says.
fn add(field: &Field, cell: &str, row: &mut Row, values: &mut Vec<f64>) -> Result<(), String> {
    match field.kind {
        FieldKind::Dense => row.dense.push(number(cell)?),
        FieldKind::Scaled => {
            row.ids.push(field.first);
            values.push(number(cell)?);
        }
        FieldKind::Id { .. } | FieldKind::Ids { .. } => {
            for (id, value) in entries(field, cell)? {
                row.ids.push(id);
                values.push(value);
            }
        }
        FieldKind::Sequence(sequence) => {
            let mut entries = entries(field, cell)?;
            let padding = sequence.padding.map(|padding| field.first + padding);
            entries.retain(|(id, _)| Some(*id) != padding);
            push_sequence(row, values, &sequence, &entries)?;
        }
    }
    Ok(())
}

/// The entries of a cell, `(global id, value)`.
fn entries(field: &Field, cell: &str) -> Result<Vec<(u32, f64)>, String> {
    let cells = cell.split('|').filter(|_| !cell.is_empty());
    cells.map(|entry| active(entry.trim(), field.first.into(), field.kind.rows())).collect()
}

/// Columns are found by name, so the names must tell the fields apart.
fn check_names(layout: &Layout) -> Result<(), Problem> {
    for (index, slot) in layout.fields.iter().enumerate() {
        if slot.name == LABEL {
            return Err(Problem::new(format!(
                "expected `{LABEL}` to be the label's column, found a field of that name; rename the field"
            )));
        }
        if layout.fields.iter().take(index).any(|earlier| earlier.name == slot.name) {
            let name = quote(&slot.name);
            return Err(Problem::new(format!("expected fields with different names, found {name} twice")));
        }
    }
    Ok(())
}

fn unknown_column(layout: &Layout, index: usize, name: &str, names: &[&str]) -> Problem {
    const LISTED: usize = 12;
    if name.is_empty() {
        return Problem::new(format!(
            "expected a name for column {}, found none (pandas: write with `index=False`)",
            index.saturating_add(1)
        ));
    }
    if names.iter().all(|name| name.is_empty() || name.parse::<f64>().is_ok()) {
        return Problem::new("expected a header with the names of the columns, found numbers");
    }
    if let ([_], Some(separator)) = (names, name.chars().find(|c| matches!(c, '\t' | ';'))) {
        return Problem::new(format!("expected columns separated by commas, found {separator:?}"));
    }
    let mut fields: Vec<String> = layout.fields.iter().take(LISTED).map(|slot| quote(&slot.name)).collect();
    if layout.fields.len() > LISTED {
        fields.push("…".into());
    }
    Problem::in_column(
        name,
        format!("expected one of {} or `{LABEL}`, found another column", fields.join(", ")),
    )
}

fn number(cell: &str) -> Result<f64, String> {
    finite(cell).ok_or_else(|| format!("expected a finite number, found {}", found(cell)))
}

/// An entry of an id field, `id` or `id:value`, as a global id and its value.
fn active(entry: &str, base: u64, rows: u32) -> Result<(u32, f64), String> {
    let (id, value) = match entry.split_once(':') {
        None => (entry, 1.0),
        Some((id, value)) => {
            let value = finite(value)
                .ok_or_else(|| format!("expected `id:value` with a finite value, found {}", quote(entry)))?;
            (id, value)
        }
    };
    let id = whole(id).filter(|id| *id < u64::from(rows));
    // base + id < 2³², which the layout checked.
    let id = id.and_then(|id| u32::try_from(base.saturating_add(id)).ok());
    match id {
        Some(id) => Ok((id, value)),
        None => {
            Err(format!("expected a whole number from 0 to below {rows} as the id, found {}", found(entry)))
        }
    }
}

fn found(text: &str) -> String {
    if text.is_empty() { "nothing".into() } else { quote(text) }
}

/// The cells of one line, without the white space around them.
struct Cells {
    reader: Reader,
    input: Vec<u8>,
    output: Vec<u8>,
    ends: Vec<usize>,
    text: String,
    len: usize,
}

impl Cells {
    fn new() -> Self {
        // `Lines` took the carriage return off; any other is part of a cell and no line end that would shift the count.
        let reader = ReaderBuilder::new().terminator(Terminator::Any(b'\n')).build();
        Self { reader, input: Vec::new(), output: Vec::new(), ends: Vec::new(), text: String::new(), len: 0 }
    }

    fn split(&mut self, line: &str) -> Result<(), Problem> {
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

    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: usize) -> &str {
        let end = |index: usize| self.ends.get(..self.len).and_then(|ends| ends.get(index)).copied();
        let start = index.checked_sub(1).map_or(Some(0), end);
        start.zip(end(index)).and_then(|(start, end)| self.text.get(start..end)).unwrap_or_default().trim()
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len).map(|index| self.get(index))
    }
}
