//! Numpy: one array (`.npy`), an archive of them (`.npz`), a folder of them.
//!
//! A tensor has the name that the array has in the archive or folder, without `.npy` and without the `:0` of
//! TensorFlow; the array of a single file has the file's. Text is no tensor and is passed over, as is what
//! TensorFlow's optimizers keep beside the variables of an archive; an array of Python objects is a pickle,
//! and refused.
//!
//! The header is one line of Python: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`. The crates
//! that read it bring a parser generator and a C compiler along, and refuse the `3L` of Python 2.

use std::{
    fs::{self, File},
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use super::{
    Format, Probe,
    element::{ByteOrder, Checked, Element, View},
    tf_bundle::optimizer_variable,
};
use crate::{
    error::{Error, Result},
    tensors::{Fact, Tensor, Tensors},
};

/// One array.
pub(super) const FORMAT: Format = Format { name: "npy", matches, read };
/// A zip archive of arrays.
pub(super) const ARCHIVE: Format =
    Format { name: "npz", matches: |probe| has_arrays(&probe.zip_entries), read: read_archive };
/// A folder of arrays.
pub(super) const FOLDER: Format = Format {
    name: "npy folder",
    matches: |probe| probe.is_dir && !arrays_in(probe.path).is_empty(),
    read: read_folder,
};

const MAGIC: &[u8] = b"\x93NUMPY";

/// Longer headers than any array of numbers has; records of many fields have such.
const MAX_HEADER_BYTES: u64 = 1 << 16;

fn matches(probe: &Probe<'_>) -> bool {
    probe.head.starts_with(MAGIC)
}

fn has_arrays(entries: &[String]) -> bool {
    entries.iter().any(|entry| entry.ends_with(".npy"))
}

fn read(probe: &Probe<'_>) -> Result<Tensors> {
    let mut tensors = Tensors { file: probe.file.clone(), container: FORMAT.name, ..Tensors::default() };
    let name = stem(probe.path);
    add(&mut tensors, &name, probe.open()?, probe.len)?;
    some(tensors)
}

fn read_archive(probe: &Probe<'_>) -> Result<Tensors> {
    let mut tensors = Tensors { file: probe.file.clone(), container: ARCHIVE.name, ..Tensors::default() };
    let mut zip = probe.zip()?;
    let mut left = probe.limit();
    for entry in probe.zip_entries.iter().filter(|entry| entry.ends_with(".npy")) {
        let array = probe.zip_entry(&mut zip, entry, left)?;
        let len = array.size();
        left -= len;
        add(&mut tensors, entry.strip_suffix(".npy").unwrap_or(entry), array, len)?;
    }
    skip_optimizer(&mut tensors);
    some(tensors)
}

/// The variables of TensorFlow's optimizers that stand beside the model's become facts.
fn skip_optimizer(tensors: &mut Tensors) {
    let why =
        |name: &String| optimizer_variable(name, |variable| tensors.shape(variable) == tensors.shape(name));
    let skipped: Vec<(String, String)> =
        tensors.entries.keys().filter_map(|name| Some((name.clone(), why(name)?))).collect();
    for (name, why) in skipped {
        tensors.entries.shift_remove(&name);
        tensors.facts.insert(format!("skipped.{name}"), Fact::Text(why));
    }
}

fn read_folder(probe: &Probe<'_>) -> Result<Tensors> {
    let mut tensors = Tensors { file: probe.file.clone(), container: FOLDER.name, ..Tensors::default() };
    for path in arrays_in(probe.path) {
        let io = |source| Error::io(&path, source);
        let file = File::open(&path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        add(&mut tensors, &stem(&path), BufReader::new(file), len)?;
    }
    some(tensors)
}

/// The arrays right in the folder at `path`, by name; `w9` is before `w10`.
fn arrays_in(path: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut arrays: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|e| e == "npy")).collect();
    arrays.sort_by_cached_key(|path| natural(&stem(path)));
    arrays
}

/// A key that orders names with the numbers in them as numbers.
pub(super) fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, after) = rest.split_at(text);
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (digits, after) = after.split_at(digits);
        parts.push((text.to_owned(), digits.parse().unwrap_or(0)));
        rest = after;
    }
    parts
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn some(tensors: Tensors) -> Result<Tensors> {
    match tensors.entries.is_empty() {
        true => Err(Error::refused(&tensors.file, "", "expected arrays of numbers, found none")),
        false => Ok(tensors),
    }
}

/// Reads the array `name`, of `len` bytes with its header, to its last byte.
fn add(tensors: &mut Tensors, name: &str, mut reader: impl Read, len: u64) -> Result<()> {
    let name = name.strip_suffix(":0").unwrap_or(name);
    let refuse = |problem: String| Error::refused(&tensors.file, format!("tensor `{name}`"), problem);
    let (header, header_bytes) = header(&mut reader).map_err(refuse)?;
    let Some((element, order)) = header.element().map_err(refuse)? else { return Ok(()) };
    let bytes = usize::try_from(len.saturating_sub(header_bytes)).unwrap_or(usize::MAX);
    let extents =
        if header.is_fortran { header.shape.iter().rev().copied().collect() } else { header.shape.clone() };
    let view = View::whole(element, extents, bytes / element.bytes()).map_err(refuse)?;
    let view = if header.is_fortran { view.transposed() } else { view };
    let damaged = |error| refuse(format!("{error}; the file is cut or damaged"));
    let values = if view.is_contiguous() {
        view.read(&mut reader, order).map_err(damaged)?
    } else {
        let mut storage = Vec::new();
        (&mut reader).take(len).read_to_end(&mut storage).map_err(damaged)?;
        view.gather(&storage, order).map_err(damaged)?
    };
    // An archive compares its checksum at the end.
    if reader.read(&mut [0]).map_err(damaged)? > 0 {
        return Err(refuse("longer than its shape; the file is damaged".into()));
    }
    let tensor = Tensor { shape: header.shape, dtype: element.name(), values, storage: None };
    if tensors.entries.insert(name.to_owned(), tensor).is_some() {
        return Err(tensors.refuse(name, "two arrays have this name; rename one of them"));
    }
    Ok(())
}

/// What the header of an array says.
#[derive(Debug, PartialEq)]
struct Header {
    descr: String,
    is_fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    /// The element type, and the order of its bytes; `None` for text.
    fn element(&self) -> Checked<Option<(Element, ByteOrder)>> {
        let (order, kind) = match self.descr.split_at_checked(1) {
            Some(("<" | "|" | "=", kind)) => (ByteOrder::Little, kind),
            Some((">", kind)) => (ByteOrder::Big, kind),
            _ => (ByteOrder::Little, ""),
        };
        let element = match kind {
            "f2" => Element::F16,
            "f4" => Element::F32,
            "f8" => Element::F64,
            "i1" => Element::I8,
            "i2" => Element::I16,
            "i4" => Element::I32,
            "i8" => Element::I64,
            "u1" => Element::U8,
            "u2" => Element::U16,
            "u4" => Element::U32,
            "u8" => Element::U64,
            "b1" => Element::Bool,
            kind if kind.starts_with(['S', 'U', 'a']) => return Ok(None),
            kind if kind.starts_with('O') => {
                let problem = "expected numbers, found Python objects (a pickle), which are never loaded";
                return Err(format!("{problem}; save each array of numbers under a name of its own"));
            }
            _ => {
                let found: String = self.descr.chars().take(40).collect();
                return Err(format!(
                    "expected integers, booleans or floats, found `{found}`; convert it to float32"
                ));
            }
        };
        Ok(Some((element, order)))
    }
}

/// The header, and how many bytes it takes with all before it.
fn header(reader: &mut impl Read) -> Checked<(Header, u64)> {
    let cut = |error| format!("header: {error}; the file is cut or damaged");
    let mut start = [0; 8];
    reader.read_exact(&mut start).map_err(cut)?;
    let [.., major, _] = start;
    if !start.starts_with(MAGIC) || !(1..=3).contains(&major) {
        return Err(format!("expected an array of numpy's format 1 to 3, found bytes {start:02x?}"));
    }
    let mut len = [0; 4];
    let size = if major == 1 { 2 } else { 4 };
    reader
        .take(size)
        .read_exact(len.get_mut(..if major == 1 { 2 } else { 4 }).unwrap_or_default())
        .map_err(cut)?;
    let len = u64::from(u32::from_le_bytes(len));
    if len > MAX_HEADER_BYTES {
        return Err(format!(
            "header: expected at most {MAX_HEADER_BYTES} bytes, found {len}; the file is damaged"
        ));
    }
    let mut text = Vec::new();
    reader.take(len).read_to_end(&mut text).map_err(cut)?;
    if text.len() as u64 != len {
        return Err(format!("header: expected {len} bytes, found {}; the file is cut", text.len()));
    }
    let text = String::from_utf8_lossy(&text);
    let header = parse(&text).ok_or_else(|| {
        let found: String = text.chars().take(120).collect();
        format!(
            "header: expected {{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }}, found {found:?}"
        )
    })?;
    Ok((header, 8 + size + len))
}

/// Parses the line of Python that numpy writes; the keys come in any order.
fn parse(text: &str) -> Option<Header> {
    let value = |key: &str| {
        let (_, after) = text.split_once(key)?;
        Some(after.trim_start().strip_prefix(':')?.trim_start())
    };
    let descr = value("'descr'")?;
    let descr = match descr.strip_prefix('\'') {
        Some(descr) => descr.split_once('\'')?.0,
        // A record: a list of fields.
        None => descr.starts_with('[').then_some(descr)?,
    };
    let is_fortran = value("'fortran_order'")?;
    let is_fortran = is_fortran.starts_with("True") || is_fortran.starts_with("False").then_some(false)?;
    let (shape, _) = value("'shape'")?.strip_prefix('(')?.split_once(')')?;
    let extents = shape.split(',').map(str::trim).filter(|extent| !extent.is_empty());
    let shape =
        extents.map(|extent| extent.trim_end_matches('L').parse().ok()).collect::<Option<Vec<usize>>>()?;
    Some(Header { descr: descr.to_owned(), is_fortran, shape })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_any_age_are_parsed() {
        let header = |descr: &str, is_fortran, shape: &[usize]| {
            Some(Header { descr: descr.into(), is_fortran, shape: shape.into() })
        };
        let new = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }   \n";
        assert_eq!(parse(new), header("<f4", false, &[3, 4]));
        let old = "{'shape': (3L,), 'fortran_order': True, 'descr': '|i1'}";
        assert_eq!(parse(old), header("|i1", true, &[3]));
        assert_eq!(
            parse("{'descr': '>f8', 'fortran_order': False, 'shape': (), }"),
            header(">f8", false, &[])
        );
    }

    #[test]
    fn headers_without_a_fact_are_refused() {
        for text in [
            "",
            "{'descr': '<f4', 'fortran_order': False}",
            "{'descr': '<f4', 'fortran_order': 0, 'shape': (3,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-3,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999,)}",
            "{'descr': <f4, 'fortran_order': False, 'shape': (3,)}",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_in_names_order_as_numbers() {
        let mut names = ["w10", "w9", "a", "w9b", "w"];
        names.sort_by_cached_key(|name| natural(name));
        assert_eq!(names, ["a", "w", "w9", "w9b", "w10"]);
    }
}
