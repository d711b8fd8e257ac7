//! What the columns of a CSV file tell about a model's fields.

use std::{collections::BTreeSet, fs::File, io::Read, path::Path};

use flate2::read::MultiGzDecoder;

use super::spec::{Encoder, Keys, Vocabulary};
use crate::{
    error::{Error, Result},
    schema::{Field, FieldKind, lay_out},
};

/// The name of the label's column.
const LABEL: &str = "label";
/// More different values than this are not told apart.
const MAX_DISTINCT: usize = 1 << 20;

/// A column.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The different cells but empty ones; those of a cell with `|` each by itself. At most [`MAX_DISTINCT`] and one.
    values: BTreeSet<String>,
    /// Whether any cell is empty.
    has_empty: bool,
}

/// The columns of the file at `path`, plain or gzipped, but the label's.
pub(crate) fn read(path: &Path) -> Result<Vec<Column>> {
    let io = |source| Error::io(path, source);
    let mut magic = [0; 2];
    let is_packed = File::open(path).map_err(io)?.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    let file = File::open(path).map_err(io)?;
    let text: Box<dyn Read> = if is_packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
    let refuse = |error: csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        Error::refused(&path.display().to_string(), format!("line {line}"), error.to_string())
    };
    let header = reader.headers().map_err(refuse)?.clone();
    let column = |name: &str| Column { name: name.into(), values: BTreeSet::new(), has_empty: false };
    let mut columns: Vec<Column> = header.iter().map(column).collect();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(refuse)? {
        columns.iter_mut().zip(&record).for_each(|(column, cell)| column.add(cell));
    }
    columns.retain(|column| column.name != LABEL);
    Ok(columns)
}

impl Column {
    fn add(&mut self, cell: &str) {
        self.has_empty |= cell.is_empty();
        for value in cell.split('|').filter(|value| !value.is_empty()) {
            if self.values.len() <= MAX_DISTINCT && !self.values.contains(value) {
                self.values.insert(value.to_owned());
            }
        }
    }

    /// The values in their order, where all are integers.
    fn ints(&self) -> Option<Vec<i64>> {
        let mut ints = self.values.iter().map(|value| value.parse().ok()).collect::<Option<Vec<i64>>>()?;
        ints.sort_unstable();
        Some(ints)
    }

    fn numbers(&self) -> Option<Vec<f64>> {
        let mut numbers = self.values.iter().map(|value| value.parse().ok()).collect::<Option<Vec<f64>>>()?;
        numbers.sort_by(f64::total_cmp);
        Some(numbers)
    }

    /// The first that is no number.
    fn text(&self) -> Option<&String> {
        self.values.iter().find(|value| value.parse::<f64>().is_err())
    }
}

/// The fields by the names of the columns: those that agree; else, where as many are left over on both sides, in their order; else
/// one field over a table of all, where the columns are the ids of as many rows.
pub(crate) fn name(mut fields: Vec<Field>, columns: &[Column]) -> core::result::Result<Vec<Field>, String> {
    let has = |name: &String| columns.iter().any(|column| column.name == *name);
    let unnamed: Vec<usize> =
        (0..fields.len()).filter(|at| fields.get(*at).is_some_and(|field| !has(&field.name))).collect();
    let is_left = |column: &&Column| fields.iter().all(|field| field.name != column.name);
    let left: Vec<&Column> = columns.iter().filter(is_left).collect();
    if unnamed.is_empty() {
        return Ok(fields);
    }
    if let [Field { kind: FieldKind::Ids { rows }, .. }] = *fields
        && let Some(apart) = apart(rows, &left)?
    {
        return Ok(apart);
    }
    if unnamed.len() != left.len() {
        let names =
            |names: Vec<&str>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let fields =
            names(unnamed.iter().filter_map(|at| fields.get(*at)).map(|field| &*field.name).collect());
        let columns = names(left.iter().map(|column| &*column.name).collect());
        return Err(format!(
            "expected a column for each field, found none for {fields}, and no field for {columns}"
        ));
    }
    for (at, column) in unnamed.into_iter().zip(left) {
        let Some(old) =
            fields.get_mut(at).map(|field| core::mem::replace(&mut field.name, column.name.clone()))
        else {
            continue;
        };
        let shared =
            fields.iter_mut().filter_map(|field| field.table.as_mut()).filter(|table| **table == old);
        shared.for_each(|table| table.clone_from(&column.name));
    }
    Ok(fields)
}

/// A field for each column of ids, where they have `rows` ids together: one more than the largest of each.
fn apart(rows: u32, columns: &[&Column]) -> core::result::Result<Option<Vec<Field>>, String> {
    let rows_of = |column: &&Column| match *column.ints()? {
        [first, .., last] | [first @ last] if first >= 0 => u32::try_from(last).ok()?.checked_add(1),
        _ => None,
    };
    let Some(counts) = columns.iter().map(rows_of).collect::<Option<Vec<u32>>>() else { return Ok(None) };
    let sum: u64 = counts.iter().map(|count| u64::from(*count)).sum();
    if columns.len() < 2 {
        return Ok(None);
    }
    if sum != u64::from(rows) {
        return Err(format!(
            "the model has one table of {rows} rows for all fields, the columns' ids need {sum}; write a schema with the rows of \
             each field"
        ));
    }
    let field = |(column, rows): (&&Column, u32)| Field::new(&column.name, FieldKind::Id { rows });
    let mut fields: Vec<Field> = columns.iter().zip(counts).map(field).collect();
    lay_out(&mut fields).map(|()| Some(fields))
}

/// Gives the field the encoder that its column suggests, if any, and says what was found.
pub(crate) fn encode(field: &mut Field, column: &Column) -> core::result::Result<String, String> {
    let empty = if column.has_empty { "; some cells are empty: say `missing`" } else { "" };
    if matches!(field.kind, FieldKind::Dense | FieldKind::Scaled) {
        return match (column.text(), column.numbers().as_deref()) {
            (Some(text), _) => Err(format!("expected numbers, as the model takes here, found {text:?}")),
            (None, Some([low, .., high] | [low @ high])) => {
                Ok(format!("numbers from {low} to {high}, taken as they are{empty}"))
            }
            _ => Ok("no numbers at all".into()),
        };
    }
    let (rows, count) = (field.kind.rows(), column.values.len());
    let ints = column.ints();
    if let Some([low, .., high] | [low @ high]) = ints.as_deref()
        && *low >= 0
        && *high < i64::from(rows)
    {
        return Ok(format!("ids from {low} to {high} for {rows} rows, taken as they are{empty}"));
    }
    if count == 0 || count > rows as usize {
        return Ok(format!(
            "{count} different values for {rows} rows, so no vocabulary was made of them; say --encoders, or write its `encoder`"
        ));
    }
    let keys = match ints {
        Some(ints) => Keys::Int(ints.into_iter().zip(0..).collect()),
        None if column.text().is_none() => {
            return Ok(format!("{count} different fractions; say --encoders, or write its `encoder`"));
        }
        None => Keys::Text(column.values.iter().cloned().zip(0..).collect()),
    };
    field.encoding.encoder = Some(Encoder::Vocabulary(Vocabulary { keys, exact: false }));
    Ok(format!(
        "assumed: ids are the places of the {count} different values in their order, as LabelEncoder has it, for {rows} rows; if \
         not, say --encoders{empty}"
    ))
}
