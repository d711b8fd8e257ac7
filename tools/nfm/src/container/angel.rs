//! Angel's models: a folder with a folder for each matrix, of any of its eight formats.
//!
//! A matrix is `meta`, a length and JSON, with files of partitions, which the JSON names. The length has 4 bytes, and 2
//! from older versions. A partition is lines of text, or bytes in Java's order: elements one by one with their row and
//! column, or columns, which have a value for each row. A sparse matrix leaves its zeros out. The JSON that training was started
//! with is no part of it; where it lies in the folder, it is the fact `network`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Take},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use super::{Format, Probe, element::Checked, npy::natural};
use crate::{
    error::{Error, Result},
    tensors::{Fact, Tensor, Tensors, Values},
};

pub(super) const FORMAT: Format = Format { name: "Angel", matches, read };

/// The file of a matrix that says how to read the others.
const META: &str = "meta";

/// Longer lines than a column of any model has.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// What `meta` says, cut down to what is needed here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    matrix_name: String,
    /// A Java class.
    format_class_name: String,
    /// The number of a `RowType`.
    row_type: u8,
    /// Rows of the matrix; those of an optimizer follow the model's own and are not saved.
    row: u64,
    col: u64,
    part_metas: BTreeMap<String, Partition>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Partition {
    start_col: u64,
    file_name: String,
    offset: u64,
    length: u64,
    /// Values in a column.
    #[serde(default)]
    save_col_elem_num: usize,
}

fn matches(probe: &Probe<'_>) -> bool {
    matrices(probe).iter().any(|folder| read_meta(folder).is_ok())
}

/// The folders of matrices: the one that the user names, or those in it.
fn matrices(probe: &Probe<'_>) -> Vec<PathBuf> {
    if !probe.is_dir {
        return Vec::new();
    }
    if probe.path.join(META).is_file() {
        return vec![probe.path.to_owned()];
    }
    let folders = fs::read_dir(probe.path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut folders: Vec<PathBuf> = folders.filter(|folder| folder.join(META).is_file()).collect();
    folders.sort_by_cached_key(|folder| natural(&folder.to_string_lossy()));
    folders
}

fn read(probe: &Probe<'_>) -> Result<Tensors> {
    let mut tensors = Tensors { file: probe.file.clone(), container: FORMAT.name, ..Tensors::default() };
    for folder in matrices(probe) {
        let meta = read_meta(&folder)?;
        let tensor = matrix(&folder, &meta)?;
        let name = meta.matrix_name;
        if tensors.entries.insert(name.clone(), tensor).is_some() {
            return Err(tensors.refuse(&name, "two matrices have this name; remove one of them"));
        }
    }
    if let Some(network) = network(probe)? {
        tensors.facts.insert("network".into(), Fact::Json(network));
    }
    Ok(tensors)
}

/// The configuration with the network's layers, when one lies in the folder.
fn network(probe: &Probe<'_>) -> Result<Option<Value>> {
    let files = fs::read_dir(probe.path).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let mut found = None;
    for path in files {
        let refuse = |problem: &str| Err(Error::refused(&path.display().to_string(), "", problem));
        let text = fs::read(&path).map_err(|source| Error::io(&path, source))?;
        match serde_json::from_slice::<Value>(&text) {
            Ok(json) if json.get("layers").is_none() => (),
            Ok(_) if found.is_some() => return refuse("a second network in this folder; remove one of them"),
            Ok(json) => found = Some(json),
            Err(error) => return refuse(&error.to_string()),
        }
    }
    Ok(found)
}

fn read_meta(folder: &Path) -> Result<Meta> {
    let path = folder.join(META);
    let bytes = fs::read(&path).map_err(|source| Error::io(&path, source))?;
    let refuse = |problem: String| {
        Error::refused(&path.display().to_string(), "", format!("{problem}; the file is cut or damaged"))
    };
    let long = bytes.split_first_chunk().map(|(len, json)| (u64::from(u32::from_be_bytes(*len)), json));
    let short = bytes.split_first_chunk().map(|(len, json)| (u64::from(u16::from_be_bytes(*len)), json));
    let json = [long, short].into_iter().flatten().find(|(len, json)| *len == json.len() as u64);
    let Some((_, json)) = json else {
        return Err(refuse("expected a length of 2 or 4 bytes and as many bytes of JSON".into()));
    };
    serde_json::from_slice(json).map_err(|error| refuse(error.to_string()))
}

/// How the elements of a matrix are written.
#[derive(Debug, Clone, Copy)]
struct Layout {
    is_text: bool,
    /// The row is written before each element.
    has_row: bool,
    /// The column is written before each element.
    has_col: bool,
    /// A column is one record.
    by_column: bool,
    /// Values have 64 bits.
    is_wide: bool,
    /// Columns are numbered with 64 bits.
    has_long_keys: bool,
    /// Every element is written.
    is_dense: bool,
}

impl Layout {
    fn of(meta: &Meta) -> Checked<Self> {
        let format = meta.format_class_name.rsplit('.').next().unwrap_or_default();
        let (is_text, has_row, has_col, by_column) = match format {
            "ValueTextRowFormat" => (true, false, false, false),
            "ColIdValueTextRowFormat" => (true, false, true, false),
            "RowIdColIdValueTextRowFormat" => (true, true, true, false),
            "TextColumnFormat" => (true, false, true, true),
            "ValueBinaryRowFormat" => (false, false, false, false),
            "ColIdValueBinaryRowFormat" => (false, false, true, false),
            "RowIdColIdValueBinaryRowFormat" => (false, true, true, false),
            "BinaryColumnFormat" => (false, false, true, true),
            _ => {
                let found = &meta.format_class_name;
                return Err(format!(
                    "expected one of Angel's own formats, found `{found}`; save it in one of those"
                ));
            }
        };
        // Seven types of doubles, then seven of floats: dense, dense of parts, dense of parts and long keys, the same sparse.
        let (is_wide, kind) = match meta.row_type {
            kind @ 0..=6 => (true, kind),
            kind @ 7..=13 => (false, kind - 7),
            found => {
                return Err(format!(
                    "expected floats or doubles (a rowType up to 13), found rowType {found}"
                ));
            }
        };
        let (is_dense, has_long_keys) = (kind < 3, [2, 5, 6].contains(&kind));
        Ok(Self { is_text, has_row, has_col, by_column, is_wide, has_long_keys, is_dense })
    }
}

/// Reads the matrix, `[rows, columns]`.
fn matrix(folder: &Path, meta: &Meta) -> Result<Tensor> {
    let refuse = |problem: String| Error::refused(&folder.join(META).display().to_string(), "", problem);
    let layout = Layout::of(meta).map_err(refuse)?;
    let mut elements = Elements::new(folder, meta, layout).map_err(refuse)?;
    for partition in meta.part_metas.values() {
        let name = Path::new(&partition.file_name);
        if name.file_name() != Some(name.as_os_str()) {
            return Err(refuse(format!(
                "expected the name of a file, found `{}`; it is damaged",
                partition.file_name
            )));
        }
        let path = folder.join(name);
        let mut records = Records::open(&path, layout, partition)?;
        let mut at = 0_u64;
        records
            .all(|record| {
                at += 1;
                elements.add(record).map_err(|problem| format!("record {at}: {problem}"))
            })
            .map_err(|problem| Error::refused(&path.display().to_string(), "", problem))?;
    }
    elements.finish().map_err(refuse)
}

/// A part of a matrix: the values of a column from this row on.
struct Record<'a> {
    row: u64,
    col: u64,
    values: &'a [f64],
}

/// A matrix that grows by rows, with NaN where nothing was written yet.
struct Elements {
    layout: Layout,
    /// Of the whole matrix; the model's own may be fewer.
    max_rows: u64,
    columns: usize,
    values: Values,
    /// The most elements that its files can hold.
    limit: u64,
}

impl Elements {
    fn new(folder: &Path, meta: &Meta, layout: Layout) -> Checked<Self> {
        let bytes = |partition: &Partition| {
            fs::metadata(folder.join(&partition.file_name)).map_or(0, |metadata| metadata.len())
        };
        let bytes = meta.part_metas.values().map(bytes).fold(0_u64, u64::saturating_add);
        // Most of a matrix that was hashed to many columns is zeros.
        let limit = bytes.saturating_mul(8).saturating_add(1 << 16);
        let columns = usize::try_from(meta.col).ok().filter(|columns| *columns > 0 && meta.col <= limit);
        let Some(columns) = columns else {
            return Err(format!(
                "expected columns from 1 to {limit}, as its files have {bytes} bytes, found {}; number the features anew",
                meta.col
            ));
        };
        let values = if layout.is_wide { Values::F64(Vec::new()) } else { Values::F32(Vec::new()) };
        Ok(Self { layout, max_rows: meta.row, columns, values, limit })
    }

    fn add(&mut self, record: Record<'_>) -> Checked<()> {
        let end = record.row.saturating_add(record.values.len() as u64);
        if end > self.max_rows || record.col >= self.columns as u64 {
            return Err(format!(
                "expected a place in {} rows and {} columns, found row {}, column {}; it is damaged",
                self.max_rows,
                self.columns,
                end.saturating_sub(1),
                record.col
            ));
        }
        self.grow(end)?;
        for (row, value) in (record.row..).zip(record.values) {
            let at = row.saturating_mul(self.columns as u64).saturating_add(record.col);
            self.put(at, *value).map_err(|problem| format!("row {row}, column {}: {problem}", record.col))?;
        }
        Ok(())
    }

    fn grow(&mut self, rows: u64) -> Checked<()> {
        let len = rows.saturating_mul(self.columns as u64);
        if len > self.limit {
            return Err(format!(
                "{rows} rows of {} columns take far more memory than the files have bytes; it is damaged",
                self.columns
            ));
        }
        // Below the limit, which is a small multiple of a file's length.
        let len = usize::try_from(len).unwrap_or(usize::MAX).max(self.values.len());
        match &mut self.values {
            Values::F32(values) => values.resize(len, f32::NAN),
            Values::F64(values) => values.resize(len, f64::NAN),
            Values::I64(_) => (),
        }
        Ok(())
    }

    fn put(&mut self, at: u64, value: f64) -> Checked<()> {
        if value.is_nan() {
            return Err("expected a number, found NaN; training diverged".into());
        }
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let is_new = match &mut self.values {
            #[expect(clippy::cast_possible_truncation, reason = "it was a float of 32 bits before")]
            Values::F32(values) => values.get_mut(at).map(|to| std::mem::replace(to, value as f32).is_nan()),
            Values::F64(values) => values.get_mut(at).map(|to| std::mem::replace(to, value).is_nan()),
            Values::I64(_) => None,
        };
        if is_new == Some(true) { Ok(()) } else { Err("it is written twice; the files are damaged".into()) }
    }

    /// The matrix, with zeros where a sparse one has nothing.
    fn finish(mut self) -> Checked<Tensor> {
        let missing = match &mut self.values {
            Values::F32(values) => fill(values, 0.0, f32::is_nan),
            Values::F64(values) => fill(values, 0.0, f64::is_nan),
            Values::I64(_) => None,
        };
        if let Some(at) = missing.filter(|_| self.layout.is_dense) {
            let (row, column) = (at / self.columns, at % self.columns);
            return Err(format!(
                "nothing is written for row {row}, column {column}; a file is cut or damaged"
            ));
        }
        let shape = vec![self.values.len() / self.columns, self.columns];
        if self.values.is_empty() {
            return Err("expected a matrix, found no element of one; a file is missing or damaged".into());
        }
        let dtype = if self.layout.is_wide { "f64" } else { "f32" };
        Ok(Tensor { shape, dtype, values: self.values, storage: None })
    }
}

/// Puts `zero` where a value is missing, and gives the first such place.
fn fill<T: Copy>(values: &mut [T], zero: T, is_missing: fn(T) -> bool) -> Option<usize> {
    let first = values.iter().position(|value| is_missing(*value));
    values.iter_mut().filter(|value| is_missing(**value)).for_each(|value| *value = zero);
    first
}

/// The records of a partition.
struct Records {
    layout: Layout,
    reader: Take<BufReader<File>>,
    /// Values in a record of bytes.
    len: usize,
    /// The column of an element that does not say it.
    next_col: u64,
}

impl Records {
    fn open(path: &Path, layout: Layout, partition: &Partition) -> Result<Self> {
        let io = |source| Error::io(path, source);
        let mut file = File::open(path).map_err(io)?;
        let (end, len) =
            (partition.offset.saturating_add(partition.length), file.metadata().map_err(io)?.len());
        if end > len {
            let problem = format!("expected {end} bytes, as `{META}` says, found {len}; the file is cut");
            return Err(Error::refused(&path.display().to_string(), "", problem));
        }
        file.seek(SeekFrom::Start(partition.offset)).map_err(io)?;
        let reader = BufReader::new(file).take(partition.length);
        let len = if layout.by_column { partition.save_col_elem_num } else { 1 };
        Ok(Self { layout, reader, len, next_col: partition.start_col })
    }

    /// Hands all records to `each`.
    fn all(&mut self, mut each: impl FnMut(Record<'_>) -> Checked<()>) -> Checked<()> {
        let mut values = Vec::new();
        loop {
            values.clear();
            let place = if self.layout.is_text { self.line(&mut values)? } else { self.bytes(&mut values)? };
            let Some((row, col)) = place else { return Ok(()) };
            each(Record { row, col, values: &values })?;
        }
    }

    fn next_col(&mut self) -> u64 {
        self.next_col += 1;
        self.next_col - 1
    }

    /// The next line: row and column of its first value, and its values.
    fn line(&mut self, values: &mut Vec<f64>) -> Checked<Option<(u64, u64)>> {
        let mut line = String::new();
        (&mut self.reader).take(MAX_LINE_BYTES).read_line(&mut line).map_err(|error| error.to_string())?;
        if line.is_empty() {
            return Ok(None);
        }
        let wrong = || {
            let start: String = line.trim_end().chars().take(40).collect();
            format!("expected numbers with commas between, found `{start}`; the file is damaged")
        };
        let mut cells = line.strip_suffix('\n').ok_or_else(wrong)?.split(',');
        let mut key = |is_there: bool| match is_there {
            true => cells.next().and_then(|cell| cell.parse().ok()).map(Some).ok_or_else(wrong),
            false => Ok(None),
        };
        let (row, col) = (key(self.layout.has_row)?, key(self.layout.has_col)?);
        for cell in cells {
            let value = match self.layout.is_wide {
                true => cell.parse().ok(),
                false => cell.parse::<f32>().ok().map(f64::from),
            };
            values.push(value.ok_or_else(wrong)?);
        }
        if values.is_empty() || !self.layout.by_column && values.len() > 1 {
            return Err(wrong());
        }
        Ok(Some((row.unwrap_or(0), col.unwrap_or_else(|| self.next_col()))))
    }

    /// The next record of bytes: row and column of its first value, and its values.
    fn bytes(&mut self, values: &mut Vec<f64>) -> Checked<Option<(u64, u64)>> {
        if self.reader.limit() == 0 {
            return Ok(None);
        }
        let row = if self.layout.has_row { self.int()? } else { 0 };
        let col = match (self.layout.has_col, self.layout.has_long_keys) {
            (false, _) => self.next_col(),
            (true, false) => self.int()?,
            (true, true) => u64::from_be_bytes(self.array()?),
        };
        for _ in 0..self.len {
            values.push(match self.layout.is_wide {
                true => f64::from_be_bytes(self.array()?),
                false => f32::from_be_bytes(self.array()?).into(),
            });
        }
        Ok(Some((row, col)))
    }

    fn int(&mut self) -> Checked<u64> {
        Ok(u32::from_be_bytes(self.array()?).into())
    }

    fn array<const N: usize>(&mut self) -> Checked<[u8; N]> {
        let mut array = [0; N];
        match self.reader.read_exact(&mut array) {
            Ok(()) => Ok(array),
            Err(error) => Err(format!("{error}; the file is cut or damaged")),
        }
    }
}
