//! HDF5: a tree of groups and datasets, read as paths, text attributes and tensors.
//!
//! Parsing is `hdf5-reader`'s. Here are the bounds on what a hostile file may ask for, and the way from
//! datasets to tensors: at most one block of a large dataset is in memory beside its tensor.

use std::{
    cell::Cell,
    fs::File,
    io::{Read, Seek, SeekFrom},
    sync::{Arc, Mutex, PoisonError},
};

use hdf5_reader::{
    ByteOrder as Order, Dataset, Datatype, H5Type, Hdf5File, OpenOptions, RawAttribute, SliceInfo,
    SliceInfoElem, Storage, StorageBuffer, StringSize, VarLenKind,
    error::{Error as Hdf5Error, Result as Hdf5Result},
    group::Group,
    messages::{attribute::AttributeMessage, dataspace::DataspaceType},
};
use indexmap::IndexMap;

use super::element::{ByteOrder, Checked, Element, View};
use crate::{
    error::{Error, Result},
    tensors::{Fact, Tensor, Values},
};

/// The first bytes of a file.
pub(super) const MAGIC: &[u8] = b"\x89HDF\r\n\x1a\n";

/// Deeper nesting than any model has.
const MAX_DEPTH: usize = 32;

/// Chunks are a few MB at most where people do not set their size; the crate's own limit is as wide.
const MAX_CHUNK_BYTES: u64 = 256 << 20;

/// Datasets up to this are read at once, larger ones in pieces of about this.
const BLOCK_BYTES: u64 = 1 << 16;

/// A parsed tree. Paths have no slash at their start; the root's is empty.
pub(super) struct Hdf5 {
    /// The file, as the user named it.
    pub(super) file: String,
    groups: IndexMap<String, Group>,
    datasets: IndexMap<String, Dataset>,
    /// The bytes that names, texts and values may still take.
    left: Cell<u64>,
}

impl Hdf5 {
    /// Parses the groups and the headers of datasets in `storage`; `limit` bounds all that is made from them.
    pub(super) fn parse(file: &str, storage: Arc<dyn Storage>, limit: u64) -> Result<Self> {
        let whole = |error: Hdf5Error| Error::refused(file, "", problem(&error));
        let bytes = |most: u64| usize::try_from(limit.min(most)).unwrap_or(usize::MAX);
        let options = OpenOptions::default()
            .with_chunk_cache_bytes(0)
            .with_max_chunk_bytes(bytes(MAX_CHUNK_BYTES))
            .with_max_object_header_bytes(bytes(64 << 20))
            .with_max_read_bytes(bytes(u64::MAX));
        let root = Hdf5File::from_storage_with_options(storage, options).and_then(|file| file.root_group());
        let root = root.map_err(whole)?;
        let (groups, datasets) = (IndexMap::new(), IndexMap::new());
        let mut hdf5 = Self { file: file.into(), groups, datasets, left: Cell::new(limit) };
        let mut seen = vec![root.address()];
        hdf5.walk(root, String::new(), 0, &mut seen)?;
        Ok(hdf5)
    }

    /// Adds a group and all below it. A group with two names counts once, so that a cycle ends.
    fn walk(&mut self, group: Group, path: String, depth: usize, seen: &mut Vec<u64>) -> Result<()> {
        if depth > MAX_DEPTH {
            let problem = format!("nested deeper than {MAX_DEPTH}; the file is hostile or damaged");
            return Err(self.refuse(&path, problem));
        }
        let members = group.members().map_err(|error| self.refuse(&path, problem(&error)))?;
        self.groups.insert(path.clone(), group);
        for dataset in members.1 {
            let path = join(&path, dataset.name());
            self.spend(&path, path.len() as u64 + 64)?;
            self.datasets.insert(path, dataset);
        }
        for group in members.0 {
            let path = join(&path, group.name());
            self.spend(&path, path.len() as u64 + 64)?;
            if let Err(at) = seen.binary_search(&group.address()) {
                seen.insert(at, group.address());
                self.walk(group, path, depth + 1, seen)?;
            }
        }
        Ok(())
    }

    /// The paths of all datasets, in the file's order: of creation where it is kept, else of names.
    pub(super) fn datasets(&self) -> impl Iterator<Item = &str> {
        self.datasets.keys().map(String::as_str)
    }

    /// The paths of all groups.
    pub(super) fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// The texts of attribute `name` of the group at `path`; `None` when there is none, or no text.
    pub(super) fn texts(&self, path: &str, name: &str) -> Result<Option<Vec<String>>> {
        match self.attributes(path)?.into_iter().find(|attribute| attribute.name() == name) {
            Some(attribute) => self.decode(path, &attribute),
            None => Ok(None),
        }
    }

    /// The attributes of the root that are one text, integer or float.
    pub(super) fn facts(&self) -> Result<IndexMap<String, Fact>> {
        let mut facts = IndexMap::new();
        for attribute in self.attributes("")? {
            let fact = match self.decode("", &attribute)? {
                Some(texts) => <[String; 1]>::try_from(texts).ok().map(|[text]| Fact::Text(text)),
                None => number(attribute.message()),
            };
            facts.extend(fact.map(|fact| (attribute.name().to_owned(), fact)));
        }
        Ok(facts)
    }

    fn attributes(&self, path: &str) -> Result<Vec<RawAttribute>> {
        let Some(group) = self.groups.get(path) else { return Ok(Vec::new()) };
        group.raw_attributes().map_err(|error| self.refuse(path, problem(&error)))
    }

    /// The texts of an attribute. Text of variable length lies elsewhere, and many may name one.
    fn decode(&self, path: &str, attribute: &RawAttribute) -> Result<Option<Vec<String>>> {
        let (message, place) = (attribute.message(), format!("{path}@{}", attribute.name()));
        let Some(size) = self.text_size(message) else { return Ok(None) };
        let count = message.dataspace.num_elements().unwrap_or(0);
        let count = if message.dataspace.dataspace_type == DataspaceType::Null { 0 } else { count };
        if size == 0 || count.saturating_mul(size as u64) > message.raw_data.len() as u64 {
            return Err(self.refuse(&place, format!("{count} texts exceed it; the file is damaged")));
        }
        let mut texts = Vec::new();
        for bytes in message.raw_data.chunks_exact(size).take(usize::try_from(count).unwrap_or(usize::MAX)) {
            let text = match is_variable(&message.datatype) {
                true => self.resolve(bytes).map_err(|error| self.refuse(&place, problem(&error)))?,
                false => bytes.to_vec(),
            };
            self.spend(&place, text.len() as u64 + 32)?;
            let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
            texts.push(String::from_utf8_lossy(text.get(..end).unwrap_or_default()).into_owned());
        }
        Ok(Some(texts))
    }

    fn resolve(&self, reference: &[u8]) -> Hdf5Result<Vec<u8>> {
        match self.groups.first() {
            Some((_, root)) => root.resolve_vlen_reference_bytes(reference, 1),
            None => Ok(Vec::new()),
        }
    }

    /// Bytes of one element of a text attribute: its text, or its reference to one.
    fn text_size(&self, message: &AttributeMessage) -> Option<usize> {
        match &message.datatype {
            Datatype::String { size: StringSize::Fixed(size), .. } => usize::try_from(*size).ok(),
            datatype if is_variable(datatype) => {
                self.groups.first().map(|(_, root)| 8 + usize::from(root.offset_size()))
            }
            _ => None,
        }
    }

    /// Reads the dataset at `path` as tensor `name`; `None` when its elements are text.
    pub(super) fn tensor(&self, path: &str, name: &str) -> Result<Option<Tensor>> {
        let refuse = |problem| Error::refused(&self.file, format!("tensor `{name}`"), problem);
        let Some(dataset) = self.datasets.get(path) else {
            return Err(refuse(format!("expected a dataset `{path}`, found none; the file is damaged")));
        };
        let marked =
            if self.is_bfloat16(path, dataset)? { Some((Element::Bf16, ByteOrder::Little)) } else { None };
        let found = if marked.is_some() { marked } else { element(dataset).map_err(refuse)? };
        let Some((element, order)) = found else { return Ok(None) };
        let extent = |extent: &u64| usize::try_from(*extent).ok();
        let shape = dataset.shape().iter().map(extent).collect::<Option<Vec<usize>>>();
        let len = dataset.num_elements().ok().and_then(|len| usize::try_from(len).ok());
        let Some((shape, len)) = shape.zip(len) else {
            let problem =
                format!("shape {:?} exceeds the address space; the file is damaged", dataset.shape());
            return Err(refuse(problem));
        };
        let view = View::whole(element, shape.clone(), len).map_err(refuse)?;
        self.spend(name, view.wide_bytes())?;
        let values = values(dataset, &view, order).map_err(|error| refuse(problem(&error)))?;
        let storage = Some((format!("{:#x}", dataset.address()), 0));
        Ok(Some(Tensor { shape, dtype: element.name(), values, storage }))
    }

    /// Whether these are opaque bytes to HDF5 that Keras marks as `bfloat16`.
    fn is_bfloat16(&self, path: &str, dataset: &Dataset) -> Result<bool> {
        if !matches!(dataset.dtype(), Datatype::Opaque { size: 2, .. }) {
            return Ok(false);
        }
        let attributes = dataset.raw_attributes().map_err(|error| self.refuse(path, problem(&error)))?;
        let dtype = attributes.iter().find(|attribute| attribute.name() == "dtype");
        let texts = dtype.map(|attribute| self.decode(path, attribute)).transpose()?.flatten();
        Ok(texts.is_some_and(|texts| texts == ["bfloat16"]))
    }

    fn spend(&self, place: &str, bytes: u64) -> Result<()> {
        let Some(left) = self.left.get().checked_sub(bytes) else {
            let problem =
                "the file up to here takes far more memory than it has bytes; it is hostile or damaged";
            return Err(self.refuse(place, problem));
        };
        self.left.set(left);
        Ok(())
    }

    /// An error about the object at `path`.
    pub(super) fn refuse(&self, path: &str, problem: impl Into<String>) -> Error {
        let start: String = path.chars().take(200).collect();
        let place = if start.is_empty() { String::new() } else { format!("`{start}`") };
        Error::refused(&self.file, place, problem)
    }
}

/// `below` a group.
pub(super) fn join(group: &str, below: &str) -> String {
    if group.is_empty() { below.to_owned() } else { format!("{group}/{below}") }
}

fn problem(error: &Hdf5Error) -> String {
    match error {
        Hdf5Error::UnsupportedFilter(_) | Hdf5Error::UnsupportedEncoding(_) => {
            format!("{error}; write it anew without compression, or with gzip")
        }
        Hdf5Error::ResourceLimit(_) => format!("{error}; the file is hostile or damaged"),
        _ => format!("{error}; the file is cut or damaged"),
    }
}

fn is_variable(datatype: &Datatype) -> bool {
    matches!(
        datatype,
        Datatype::VarLen { kind: VarLenKind::String, .. }
            | Datatype::String { size: StringSize::Variable, .. }
    )
}

/// The value of an attribute that is one number.
fn number(message: &AttributeMessage) -> Option<Fact> {
    let (bytes, datatype) = (message.raw_data.as_slice(), &message.datatype);
    if message.dataspace.dataspace_type == DataspaceType::Null
        || message.dataspace.num_elements().ok() != Some(1)
    {
        return None;
    }
    let (element, order) = plain_element(datatype)?;
    let view = View::whole(element, Vec::new(), bytes.len() / element.bytes()).ok()?;
    match view.gather(bytes, order).ok()? {
        Values::F32(values) => values.first().map(|value| Fact::Float((*value).into())),
        Values::F64(values) => values.first().map(|value| Fact::Float(*value)),
        Values::I64(values) if element == Element::Bool => {
            values.first().map(|value| Fact::Bool(*value != 0))
        }
        Values::I64(values) => values.first().map(|value| Fact::Int(*value)),
    }
}

/// The element type of integers, booleans and IEEE floats.
fn plain_element(datatype: &Datatype) -> Option<(Element, ByteOrder)> {
    let in_order = |element, order: &Order| match order {
        Order::LittleEndian => (element, ByteOrder::Little),
        Order::BigEndian => (element, ByteOrder::Big),
    };
    Some(match datatype {
        Datatype::FloatingPoint { size: 2, byte_order } => in_order(Element::F16, byte_order),
        Datatype::FloatingPoint { size: 4, byte_order } => in_order(Element::F32, byte_order),
        Datatype::FloatingPoint { size: 8, byte_order } => in_order(Element::F64, byte_order),
        Datatype::FixedPoint { size, signed, byte_order } => {
            let element = match (size, signed) {
                (1, true) => Element::I8,
                (2, true) => Element::I16,
                (4, true) => Element::I32,
                (8, true) => Element::I64,
                (1, false) => Element::U8,
                (2, false) => Element::U16,
                (4, false) => Element::U32,
                (8, false) => Element::U64,
                _ => return None,
            };
            in_order(element, byte_order)
        }
        // As h5py writes booleans.
        Datatype::Enum { base, members } if members.iter().map(|m| m.name.as_str()).eq(["FALSE", "TRUE"]) => {
            match plain_element(base)? {
                (Element::I8 | Element::U8, order) => (Element::Bool, order),
                _ => return None,
            }
        }
        _ => return None,
    })
}

/// The element type of a dataset, `None` for text; the problem for any other.
fn element(dataset: &Dataset) -> Checked<Option<(Element, ByteOrder)>> {
    let datatype = dataset.dtype();
    if matches!(datatype, Datatype::String { .. }) || is_variable(datatype) {
        return Ok(None);
    }
    let expected = "expected integers, booleans or IEEE floats of 16, 32 or 64 bits";
    let other = || format!("{expected}, found {}; convert it to float32", name(datatype));
    let (element, order) = plain_element(datatype).ok_or_else(other)?;
    if !matches!(datatype, Datatype::FloatingPoint { .. }) {
        return Ok(Some((element, order)));
    }
    // The datatype of a float goes on with, among others, the bits of its exponent and of its mantissa.
    let raw = dataset.raw_datatype().map_err(|error| problem(&error))?;
    let bits = (raw.get(13).copied().unwrap_or(0), raw.get(15).copied().unwrap_or(0));
    match (element, bits) {
        (Element::F16, (8, 7)) => Ok(Some((Element::Bf16, order))),
        (Element::F16, (5, 10)) | (Element::F32, (8, 23)) | (Element::F64, (11, 52)) => {
            Ok(Some((element, order)))
        }
        (_, (exponent, mantissa)) => Err(format!(
            "{expected}, found floats with {exponent} bits of exponent and {mantissa} of mantissa; \
             convert it to float32"
        )),
    }
}

fn name(datatype: &Datatype) -> &'static str {
    match datatype {
        Datatype::FixedPoint { .. } => "integers of another width",
        Datatype::FloatingPoint { .. } => "floats of another width",
        Datatype::Compound { .. } => "compounds",
        Datatype::Array { .. } => "arrays",
        Datatype::Enum { .. } => "an enumeration",
        Datatype::VarLen { .. } => "lists of variable length",
        Datatype::Opaque { .. } => "opaque bytes",
        Datatype::Reference { .. } => "references",
        Datatype::Bitfield { .. } => "bit fields",
        Datatype::String { .. } => "text",
    }
}

fn values(dataset: &Dataset, view: &View, order: ByteOrder) -> Hdf5Result<Values> {
    Ok(match view.element {
        Element::F32 => Values::F32(blocks(dataset, view)?),
        Element::F64 => Values::F64(blocks(dataset, view)?),
        Element::I64 => Values::I64(blocks(dataset, view)?),
        _ => view.gather(&dataset.read_raw_bytes()?, order)?,
    })
}

/// Reads a dataset in pieces along its first axis that is longer than 1, which keep whole chunks together.
fn blocks<T: H5Type + Copy>(dataset: &Dataset, view: &View) -> Hdf5Result<Vec<T>> {
    let bytes = view.wide_bytes();
    let axis = view.shape.iter().position(|extent| *extent > 1);
    let Some(axis) = axis.filter(|_| bytes > BLOCK_BYTES) else {
        return Ok(dataset.read_array::<T>()?.iter().copied().collect());
    };
    let extent = dataset.shape().get(axis).copied().unwrap_or(1).max(1);
    let chunk = dataset.chunks().and_then(|chunks| chunks.get(axis).copied()).map_or(1, u64::from).max(1);
    let step = (BLOCK_BYTES / (bytes / extent).max(1)).next_multiple_of(chunk).max(chunk);
    let mut all = Vec::with_capacity(view.len);
    let mut selection = SliceInfo::all(view.shape.len());
    let mut start = 0;
    while start < extent {
        let end = start.saturating_add(step).min(extent);
        if let Some(axis) = selection.selections.get_mut(axis) {
            *axis = SliceInfoElem::Slice { start, end, step: 1 };
        }
        let block = dataset.read_slice::<T>(&selection)?;
        match block.as_slice() {
            Some(block) => all.extend_from_slice(block),
            None => all.extend(block.iter().copied()),
        }
        start = end;
    }
    Ok(all)
}

/// A part of a file, as the crate reads it.
pub(super) struct Window {
    file: Mutex<File>,
    start: u64,
    len: u64,
}

impl Window {
    /// The `len` bytes of `file` at `start`.
    pub(super) fn new(file: File, start: u64, len: u64) -> Self {
        Self { file: Mutex::new(file), start, len }
    }
}

impl Storage for Window {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_range(&self, offset: u64, len: usize) -> Hdf5Result<StorageBuffer> {
        let available = self.len.saturating_sub(offset);
        if len as u64 > available {
            return Err(Hdf5Error::UnexpectedEof { offset, needed: len as u64, available });
        }
        let mut bytes = vec![0; len];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.start.saturating_add(offset)))?;
        file.read_exact(&mut bytes)?;
        Ok(StorageBuffer::from_vec(bytes))
    }
}
