//! A TensorFlow checkpoint (format V2): `x.index` says where in `x.data-00000-of-00001` each tensor is.
//!
//! The index is a table of [`sstable`]. A name-based checkpoint (TF 1, Estimator) keeps tensors under the
//! names of variables; an object-based one (TF 2, Keras) under paths of attributes, with an object graph
//! that tells the names. Optimizer slots and counters are not the model's: they become facts.

use std::{
    borrow::Cow,
    ffi::OsString,
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use indexmap::IndexMap;
use prost::Message;

use super::{
    Format, Probe,
    element::{ByteOrder, Checked, View},
    sstable::{self, masked, varint},
    tf_graph,
    tf_messages::{
        BundleEntry, BundleHeader, Extent, ObjectGraph, STRING, Shape, Slice, dtype_name, element,
    },
};
use crate::{
    error::{Error, Result},
    tensors::{Fact, Tensor, Tensors, Values},
};

pub(super) const FORMAT: Format = Format { name: "TensorFlow checkpoint", matches, read };

/// What ends the key of a variable's value in an object-based checkpoint.
const VARIABLE_VALUE: &str = "/.ATTRIBUTES/VARIABLE_VALUE";

/// The key of the serialized [`ObjectGraph`].
const OBJECT_GRAPH: &[u8] = b"_CHECKPOINTABLE_OBJECT_GRAPH";

/// What optimizers put behind the name of a variable for each variable that they keep for it.
const SLOTS: [&str; 15] = [
    "Adadelta",
    "Adadelta_1",
    "Adagrad",
    "Adam",
    "Adam_1",
    "AdamAsync",
    "AdamAsync_1",
    "Ftrl",
    "Ftrl_1",
    "Momentum",
    "ProximalAdagrad",
    "RMSProp",
    "RMSProp_1",
    "RMSProp_2",
    "AdagradDecay",
];

/// Parts of an object path that no model's own variable has.
const NOT_MODEL: [&str; 4] = [".OPTIMIZER_SLOT", "optimizer", "keras_api", "save_counter"];

/// More parts than any partitioned variable has.
const MAX_SLICES: usize = 4096;

/// Elements that are read at a time into a partitioned variable.
const PIECE: usize = 1 << 14;

/// Why the variable `name` is the optimizer's, if it is; `is_like_it` tells whether another is there, of the same shape.
pub(super) fn optimizer_variable(name: &str, is_like_it: impl Fn(&str) -> bool) -> Option<String> {
    if ["beta1_power", "beta2_power"].contains(&name.rsplit('/').next()?) {
        return Some("optimizer state".to_owned());
    }
    let (variable, slot) = name.rsplit_once('/')?;
    (SLOTS.contains(&slot) && is_like_it(variable)).then(|| format!("optimizer slot of `{variable}`"))
}

/// The file to read when the user names `path`: a checkpoint may be named by its prefix, which is no file.
pub(super) fn file_of(path: &Path) -> Cow<'_, Path> {
    let index = with_suffix(path, ".index");
    if !path.exists() && index.is_file() { Cow::Owned(index) } else { Cow::Borrowed(path) }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.into();
    name.push(suffix);
    name.into()
}

fn matches(probe: &Probe<'_>) -> bool {
    !indexes(probe).is_empty()
}

/// The indexes that the user may mean: of one checkpoint, or of all in a folder that names none of them.
fn indexes(probe: &Probe<'_>) -> Vec<PathBuf> {
    if probe.is_dir {
        let latest = fs::read(probe.path.join("checkpoint")).ok().and_then(|text| latest(probe.path, &text));
        return latest.map_or_else(|| indexes_in(probe.path), |index| vec![index]);
    }
    let name = probe.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let stems = [
        name.strip_suffix(".index"),
        name.strip_suffix(".meta"),
        name.split_once(".data-").map(|(stem, _)| stem),
    ];
    let folder = probe.path.parent().unwrap_or(Path::new(""));
    let named = stems.into_iter().flatten().next().map(|stem| folder.join(format!("{stem}.index")));
    let is_index = has_magic(probe.path).then(|| probe.path.to_owned());
    let found = is_index.or_else(|| named.filter(|index| is_index_of_data(index)));
    found.or_else(|| latest(folder, &probe.head)).into_iter().collect()
}

/// The index that a `checkpoint` file names, which is in the same folder wherever the folder is now.
fn latest(folder: &Path, text: &[u8]) -> Option<PathBuf> {
    let line = text.strip_prefix(b"model_checkpoint_path:")?;
    let line = str::from_utf8(line.split(|byte| *byte == b'\n').next()?).ok()?;
    let prefix = line.trim().trim_matches('"').rsplit(['/', '\\']).next()?;
    Some(folder.join(format!("{prefix}.index"))).filter(|index| is_index_of_data(index))
}

fn indexes_in(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path());
    let mut found: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|e| e == "index") && has_magic(path)).collect();
    found.sort();
    found
}

/// Whether the file ends as an index does.
fn has_magic(path: &Path) -> bool {
    let tail = File::open(path).and_then(|mut file| {
        let mut tail = [0; 8];
        file.seek(SeekFrom::End(-8))?;
        file.read_exact(&mut tail)?;
        Ok(tail)
    });
    tail.is_ok_and(|tail| tail == sstable::MAGIC)
}

/// Whether this is an index, or was before it was cut: then its data lie beside it.
fn is_index_of_data(index: &Path) -> bool {
    has_magic(index) || index.is_file() && first_shard(index).is_some()
}

fn first_shard(index: &Path) -> Option<PathBuf> {
    let start = format!("{}.data-00000-of-", index.file_stem()?.to_str()?);
    let mut files =
        fs::read_dir(index.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))
            .ok()?
            .flatten();
    files
        .find(|file| file.file_name().to_str().is_some_and(|name| name.starts_with(&start)))
        .map(|file| file.path())
}

fn read(probe: &Probe<'_>) -> Result<Tensors> {
    let found = indexes(probe);
    let [index] = found.as_slice() else {
        let names: Vec<_> = found.iter().map(|path| path.display().to_string()).collect();
        return Err(probe
            .refuse("", format!("expected one checkpoint, found {}; name one of them", names.join(", "))));
    };
    let mut tensors = read_index(index, &probe.file, FORMAT.name)?;
    let meta = index.with_extension("meta");
    if meta.is_file() {
        tensors.graph = Some(tf_graph::of_meta_file(&meta)?);
    }
    Ok(tensors)
}

/// Reads the checkpoint of this index; `file` is what the user named.
pub(super) fn read_index(index: &Path, file: &str, container: &'static str) -> Result<Tensors> {
    let mut bundle = Bundle::open(index)?;
    let names = bundle.names()?;
    let mut tensors = Tensors { file: file.to_owned(), container, ..Tensors::default() };
    for (key, name) in names {
        let (entry, skipped) = (bundle.entry(&key)?, bundle.why_skipped(&key));
        let fact = match skipped {
            Some(why) => Some((format!("skipped.{name}"), Fact::Text(why))),
            None if is_counter(&entry) => {
                counter(&bundle.values(&key, &entry)?).map(|count| (name.clone(), Fact::Int(count)))
            }
            None => None,
        };
        match fact {
            Some((name, fact)) => drop(tensors.facts.insert(name, fact)),
            None => {
                let values = bundle.values(&key, &entry)?;
                let shape = extents(entry.shape.as_ref()).unwrap_or_default();
                let tensor = Tensor { shape, dtype: dtype_name(entry.dtype), values, storage: None };
                tensors.entries.insert(name, tensor);
            }
        }
    }
    if tensors.entries.is_empty() {
        return Err(Error::refused(file, "", "expected variables of a model, found none"));
    }
    Ok(tensors)
}

/// Whether this is a scalar integer: a step or an epoch.
fn is_counter(entry: &BundleEntry) -> bool {
    entry.shape.as_ref().is_none_or(|shape| shape.dim.is_empty())
        && matches!(dtype_name(entry.dtype), "i32" | "i64")
}

fn counter(values: &Values) -> Option<i64> {
    match values {
        Values::I64(values) => values.first().copied(),
        _ => None,
    }
}

/// The extents of a shape, when all are known.
fn extents(shape: Option<&Shape>) -> Option<Vec<usize>> {
    shape.map_or(Some(Vec::new()), |shape| {
        shape.dim.iter().map(|dim| usize::try_from(dim.size).ok()).collect()
    })
}

/// An open checkpoint.
struct Bundle {
    /// The index's path, for messages.
    index: String,
    /// The path without `.index`.
    prefix: PathBuf,
    order: ByteOrder,
    entries: IndexMap<Vec<u8>, Vec<u8>>,
    /// The data files and their lengths; opened at first use.
    shards: Vec<Option<(File, u64)>>,
    /// Bytes of the data files that no tensor has taken yet: no two tensors share bytes.
    left: u64,
}

impl Bundle {
    fn open(index: &Path) -> Result<Self> {
        let name = index.display().to_string();
        let refuse = |problem| Error::refused(&name, "", problem);
        let table = fs::read(index).map_err(|source| Error::io(index, source))?;
        let mut entries: IndexMap<_, _> = sstable::pairs(&table).map_err(refuse)?.into_iter().collect();
        let header =
            entries.shift_remove(&Vec::new()).and_then(|value| BundleHeader::decode(value.as_slice()).ok());
        let Some(header) = header else {
            return Err(refuse(
                "expected the header of a checkpoint, found none; the index is damaged".into(),
            ));
        };
        // Every shard has an entry at least, so a larger count is damage.
        let shards = usize::try_from(header.num_shards).unwrap_or(0);
        if shards == 0 || shards > entries.len() {
            return Err(refuse(format!(
                "expected 1 to {} data files, found {}; the index is damaged",
                entries.len(),
                header.num_shards
            )));
        }
        let order = if header.endianness == 1 { ByteOrder::Big } else { ByteOrder::Little };
        let shards = (0..shards).map(|_| None).collect();
        let mut bundle =
            Self { index: name, prefix: index.with_extension(""), order, entries, shards, left: 0 };
        bundle.open_shards()?;
        Ok(bundle)
    }

    fn open_shards(&mut self) -> Result<()> {
        let count = self.shards.len();
        for (at, shard) in self.shards.iter_mut().enumerate() {
            let path = with_suffix(&self.prefix, &format!(".data-{at:05}-of-{count:05}"));
            let file = File::open(&path).map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => {
                    let problem = format!("expected {} beside it, found none; copy it there", path.display());
                    Error::refused(&self.index, "", problem)
                }
                _ => Error::io(&path, source),
            })?;
            let len = file.metadata().map_err(|source| Error::io(&path, source))?.len();
            self.left = self.left.saturating_add(len);
            *shard = Some((file, len));
        }
        Ok(())
    }

    fn refuse(&self, key: &[u8], problem: impl Into<String>) -> Error {
        Error::refused(&self.index, format!("tensor `{}`", String::from_utf8_lossy(key)), problem)
    }

    fn entry(&self, key: &[u8]) -> Result<BundleEntry> {
        let value = self.entries.get(key).map(Vec::as_slice);
        let value = value.ok_or_else(|| self.refuse(key, "missing; the index is damaged"))?;
        BundleEntry::decode(value).map_err(|error| self.refuse(key, format!("{error}; the index is damaged")))
    }

    /// The keys of all whole numeric tensors, each with the tensor's name.
    fn names(&mut self) -> Result<Vec<(Vec<u8>, String)>> {
        let full_names = self.full_names()?;
        let mut names = Vec::new();
        // A key that starts with a zero is a part of a partitioned variable.
        for key in self.entries.keys().filter(|key| key.first() != Some(&0) && *key != OBJECT_GRAPH) {
            if element(self.entry(key)?.dtype).is_none() {
                continue;
            }
            let text = str::from_utf8(key)
                .map_err(|_| self.refuse(key, "its name is no text; the index is damaged"))?;
            let name = full_names
                .get(text)
                .map_or_else(|| text.strip_suffix(VARIABLE_VALUE).unwrap_or(text), String::as_str);
            names.push((key.clone(), name.to_owned()));
        }
        Ok(names)
    }

    /// The variables' names by key, from the object graph: those that name one variable only.
    fn full_names(&mut self) -> Result<IndexMap<String, String>> {
        let Some(graph) = self.object_graph()? else { return Ok(IndexMap::new()) };
        let saved = || {
            graph.nodes.iter().flat_map(|node| &node.attributes).filter(|saved| !saved.full_name.is_empty())
        };
        let mut keys_of: IndexMap<&str, usize> = IndexMap::new();
        for saved in saved() {
            *keys_of.entry(&saved.full_name).or_default() += 1;
        }
        let unique = saved().filter(|saved| keys_of.get(saved.full_name.as_str()) == Some(&1));
        Ok(unique.map(|saved| (saved.checkpoint_key.clone(), saved.full_name.clone())).collect())
    }

    fn object_graph(&mut self) -> Result<Option<ObjectGraph>> {
        if !self.entries.contains_key(OBJECT_GRAPH) {
            return Ok(None);
        }
        let entry = self.entry(OBJECT_GRAPH)?;
        if entry.dtype != STRING {
            return Err(self.refuse(OBJECT_GRAPH, "expected a string; the index is damaged"));
        }
        let mut bytes = Vec::new();
        let (reader, size) = self.open_entry(OBJECT_GRAPH, &entry)?;
        reader.take(size).read_to_end(&mut bytes).map_err(|source| self.cut(OBJECT_GRAPH, &source))?;
        let graph = string(&bytes, entry.crc32c).and_then(|bytes| {
            ObjectGraph::decode(bytes).map_err(|error| format!("{error}; the file is damaged"))
        });
        graph.map(Some).map_err(|problem| self.refuse(OBJECT_GRAPH, problem))
    }

    /// Why a tensor is not the model's, if it is not.
    fn why_skipped(&self, key: &[u8]) -> Option<String> {
        let key = str::from_utf8(key).ok()?;
        if key.ends_with(VARIABLE_VALUE) {
            let part = key.split('/').find(|part| NOT_MODEL.contains(part))?;
            return Some(format!("part of `{part}`"));
        }
        let shape = |key: &str| self.entry(key.as_bytes()).ok().map(|entry| entry.shape);
        optimizer_variable(key, |variable| {
            self.entries.contains_key(variable.as_bytes()) && shape(variable) == shape(key)
        })
    }

    /// The values of a tensor, checked against its checksum.
    fn values(&mut self, key: &[u8], entry: &BundleEntry) -> Result<Values> {
        if !entry.slices.is_empty() {
            return self.sliced(key, entry);
        }
        let view = view(entry).map_err(|problem| self.refuse(key, problem))?;
        let order = self.order;
        let (reader, _) = self.open_entry(key, entry)?;
        let mut reader = Summed { reader, sum: 0 };
        let values = view.read(&mut reader, order);
        let sum = reader.sum;
        let values = values.map_err(|source| self.cut(key, &source))?;
        self.compare(key, sum, entry.crc32c)?;
        Ok(values)
    }

    /// The values of a partitioned variable, each part read right into its place.
    fn sliced(&mut self, key: &[u8], entry: &BundleEntry) -> Result<Values> {
        let refuse = |bundle: &Self, problem| bundle.refuse(key, problem);
        let grid = Grid::new(entry).map_err(|problem| refuse(self, problem))?;
        let bytes = (grid.len as u64).saturating_mul(grid.element.bytes() as u64);
        if bytes > self.left {
            return Err(refuse(
                self,
                format!("expected {bytes} bytes, found {} in the data files; they are cut", self.left),
            ));
        }
        let mut values = grid.element.zeros(grid.len);
        for (part, slice) in grid.parts.iter().zip(&entry.slices) {
            let part_key = slice_key(key, slice);
            let found = self.entry(&part_key)?;
            if found.dtype != entry.dtype || extents(found.shape.as_ref()).as_ref() != Some(&part.extent) {
                return Err(refuse(
                    self,
                    format!("expected a part of {:?}; the index is damaged", part.extent),
                ));
            }
            view(&found).map_err(|problem| refuse(self, problem))?;
            let order = self.order;
            let (reader, _) = self.open_entry(key, &found)?;
            let mut reader = Summed { reader: BufReader::new(reader), sum: 0 };
            let read = grid.fill(part, &mut reader, order, &mut values);
            let sum = reader.sum;
            read.map_err(|source| self.cut(key, &source))?;
            self.compare(key, sum, found.crc32c)?;
        }
        Ok(values)
    }

    /// The data file at the first byte of a tensor, and the length of the tensor, which is all there.
    fn open_entry(&mut self, key: &[u8], entry: &BundleEntry) -> Result<(&mut File, u64)> {
        let found = usize::try_from(entry.shard_id)
            .ok()
            .filter(|at| self.shards.get(*at).is_some_and(Option::is_some));
        let Some(at) = found else {
            return Err(self.refuse(
                key,
                format!(
                    "expected a data file of {}, found number {}; the index is damaged",
                    self.shards.len(),
                    entry.shard_id
                ),
            ));
        };
        let len = self.shards.get(at).and_then(Option::as_ref).map_or(0, |(_, len)| *len);
        let range = u64::try_from(entry.offset).ok().zip(u64::try_from(entry.size).ok());
        let inside = range.filter(|(offset, size)| offset.checked_add(*size).is_some_and(|end| end <= len));
        let Some((offset, size)) = inside else {
            let problem = format!(
                "{} bytes at {} leave data file {at} of {len} bytes; it is cut, or not of this index",
                entry.size, entry.offset
            );
            return Err(self.refuse(key, problem));
        };
        let Some(left) = self.left.checked_sub(size) else {
            return Err(self.refuse(
                key,
                "the tensors up to here take more bytes than the data files have; the index is damaged",
            ));
        };
        self.left = left;
        let index = &self.index;
        match self.shards.get_mut(at) {
            Some(Some((file, _))) => {
                file.seek(SeekFrom::Start(offset)).map_err(|source| Error::io(index, source))?;
                Ok((file, size))
            }
            _ => Err(Error::refused(index, "", "a data file is missing")),
        }
    }

    fn compare(&self, key: &[u8], sum: u32, expected: u32) -> Result<()> {
        if masked(sum) == expected {
            return Ok(());
        }
        Err(self.refuse(key, "its checksum differs; the data file is damaged, or not of this index"))
    }

    fn cut(&self, key: &[u8], source: &io::Error) -> Error {
        self.refuse(key, format!("{source}; the data file is cut or damaged"))
    }
}

fn view(entry: &BundleEntry) -> Checked<View> {
    let element = element(entry.dtype).ok_or("expected numbers, found none; the index is damaged")?;
    let shape = extents(entry.shape.as_ref()).ok_or("expected extents ≥ 0; the index is damaged")?;
    let bytes = usize::try_from(entry.size).map_err(|_| "expected a length ≥ 0; the index is damaged")?;
    if bytes % element.bytes() != 0 {
        return Err(format!("expected whole elements of {} bytes, found {bytes} bytes", element.bytes()));
    }
    View::whole(element, shape, bytes / element.bytes())
}

/// The one string of a scalar `DT_STRING` tensor: its length, the length's checksum, its bytes.
fn string(mut bytes: &[u8], expected: u32) -> Checked<&[u8]> {
    let len = varint(&mut bytes)?;
    let (sum, text) =
        bytes.split_first_chunk::<4>().ok_or("a string without a checksum; the file is damaged")?;
    // TensorFlow sums a length as four bytes, however it is written.
    let len_bytes =
        u32::try_from(len).map(u32::to_le_bytes).map_err(|_| "a string of 4 GB; the file is damaged")?;
    let whole = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&len_bytes), sum), text);
    if text.len() as u64 != len || masked(whole) != expected {
        return Err("its checksum differs; the file is damaged".into());
    }
    Ok(text)
}

/// A reader that sums what passes.
struct Summed<R> {
    reader: R,
    sum: u32,
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let len = self.reader.read(to)?;
        self.sum = crc32c::crc32c_append(self.sum, to.get(..len).unwrap_or_default());
        Ok(len)
    }
}

/// A partitioned variable: its shape, and the boxes that tile it.
struct Grid {
    element: super::element::Element,
    shape: Vec<usize>,
    /// The product of `shape`.
    len: usize,
    parts: Vec<Part>,
}

/// A box of a grid.
#[derive(Debug, PartialEq)]
struct Part {
    start: Vec<usize>,
    extent: Vec<usize>,
}

impl Grid {
    fn new(entry: &BundleEntry) -> Checked<Self> {
        let element = element(entry.dtype).ok_or("expected numbers, found none; the index is damaged")?;
        let shape = extents(entry.shape.as_ref()).ok_or("expected extents ≥ 0; the index is damaged")?;
        let len = product(&shape).ok_or_else(|| format!("shape {shape:?} exceeds the address space"))?;
        if entry.slices.len() > MAX_SLICES {
            return Err(format!("expected at most {MAX_SLICES} parts, found {}", entry.slices.len()));
        }
        let parts = entry.slices.iter().map(|slice| Part::new(slice, &shape)).collect::<Option<Vec<Part>>>();
        let parts =
            parts.ok_or_else(|| format!("a part leaves the shape {shape:?}; the index is damaged"))?;
        let covered = parts.iter().try_fold(0_usize, |sum, part| sum.checked_add(product(&part.extent)?));
        let overlap =
            parts.iter().enumerate().any(|(at, a)| parts.iter().skip(at + 1).any(|b| a.overlaps(b)));
        if covered != Some(len) || overlap {
            return Err(format!(
                "its parts do not cover the shape {shape:?}, each element once; the index is damaged"
            ));
        }
        Ok(Self { element, shape, len, parts })
    }

    /// Reads the elements of a part, row-major, to their places in the whole.
    fn fill(
        &self,
        part: &Part,
        reader: &mut impl Read,
        order: ByteOrder,
        values: &mut Values,
    ) -> io::Result<()> {
        // Axes after the last one that is cut follow each other without a gap.
        let cut = part.extent.iter().zip(&self.shape).rposition(|(part, whole)| part != whole).unwrap_or(0);
        let inner: usize = self.shape.iter().skip(cut + 1).product();
        let run = inner * part.extent.get(cut).copied().unwrap_or(1);
        let runs: usize = part.extent.iter().take(cut).product();
        for at in 0..runs {
            let start = self.run_start(part, cut, at) * inner;
            for from in (0..run).step_by(PIECE) {
                let len = PIECE.min(run - from);
                let piece = View::whole(self.element, vec![len], len).map_err(io::Error::other)?;
                values
                    .copy_at(start + from, &piece.read(reader, order)?)
                    .ok_or(io::ErrorKind::InvalidData)?;
            }
        }
        Ok(())
    }

    /// Where run number `at` of a part starts, counted in steps of axis `cut`.
    fn run_start(&self, part: &Part, cut: usize, mut at: usize) -> usize {
        let mut stride = 1;
        let mut start = 0;
        let axes = part.start.iter().zip(&part.extent).zip(&self.shape).take(cut + 1).enumerate();
        for (axis, ((first, extent), whole)) in axes.rev() {
            let index = if axis == cut { 0 } else { at % extent };
            if axis != cut {
                at /= extent;
            }
            start += (first + index) * stride;
            stride *= whole;
        }
        start
    }
}

impl Part {
    fn new(slice: &Slice, shape: &[usize]) -> Option<Self> {
        if slice.extent.len() != shape.len() {
            return None;
        }
        let extents = slice.extent.iter().zip(shape).map(|(extent, whole)| {
            let start = usize::try_from(extent.start).ok()?;
            let len = extent.length.map_or(Some(*whole), |len| usize::try_from(len).ok())?;
            (start.checked_add(len)? <= *whole).then_some((start, len))
        });
        let (start, extent) = extents.collect::<Option<Vec<_>>>()?.into_iter().unzip();
        Some(Self { start, extent })
    }

    fn overlaps(&self, other: &Self) -> bool {
        let (a, b) = (self.start.iter().zip(&self.extent), other.start.iter().zip(&other.extent));
        a.zip(b).all(|((a, a_len), (b, b_len))| a < &(b + b_len) && b < &(a + a_len))
    }
}

fn product(extents: &[usize]) -> Option<usize> {
    extents.iter().try_fold(1_usize, |len, extent| len.checked_mul(*extent))
}

/// The key of a part: `EncodeTensorNameSlice` of TensorFlow, in its order-preserving code.
fn slice_key(name: &[u8], slice: &Slice) -> Vec<u8> {
    let mut key = vec![0];
    for byte in name {
        match byte {
            0 => key.extend([0, 0xff]),
            0xff => key.extend([0xff, 0]),
            byte => key.push(*byte),
        }
    }
    key.extend([0, 1]);
    let axes = slice.extent.len().to_be_bytes();
    let axes: Vec<u8> = axes.into_iter().skip_while(|byte| *byte == 0).collect();
    key.extend(u8::try_from(axes.len()));
    key.extend(axes);
    for Extent { start, length } in &slice.extent {
        key.extend(ordered(*start));
        key.extend(ordered(length.unwrap_or(-1)));
    }
    key
}

/// A signed number in the order-preserving code: as many leading ones as bytes, inverted when negative.
fn ordered(value: i64) -> Vec<u8> {
    let magnitude = if value < 0 { !value } else { value };
    let bits = 64 - magnitude.leading_zeros() as usize;
    let len = bits / 7 + 1;
    let sign = if value < 0 { 0xff } else { 0 };
    let mut bytes = vec![sign; 2];
    bytes.extend(value.to_be_bytes());
    let mut code = bytes.split_off(10 - len);
    let header = !(u16::MAX >> len);
    for (byte, header) in code.iter_mut().zip(header.to_be_bytes()) {
        *byte ^= header;
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(extents: &[(i64, i64)]) -> Slice {
        let extent = extents
            .iter()
            .map(|(start, len)| Extent { start: *start, length: Some(*len).filter(|len| *len >= 0) });
        Slice { extent: extent.collect() }
    }

    fn entry(shape: &[i64], slices: Vec<Slice>) -> BundleEntry {
        let dim = shape.iter().map(|size| super::super::tf_messages::Dim { size: *size }).collect();
        BundleEntry {
            dtype: 9,
            shape: Some(Shape { dim, unknown_rank: false }),
            slices,
            ..BundleEntry::default()
        }
    }

    #[test]
    fn numbers_are_coded_in_order() {
        // By the tables of TensorFlow's `ordered_code.cc`.
        let codes: [(i64, &[u8]); 8] = [
            (0, &[0x80]),
            (63, &[0xbf]),
            (64, &[0xc0, 0x40]),
            (-1, &[0x7f]),
            (-64, &[0x40]),
            (-65, &[0x3f, 0xbf]),
            (1000, &[0xc3, 0xe8]),
            (i64::MAX, &[0xff, 0xc0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ];
        for (value, code) in codes {
            assert_eq!(ordered(value), code, "{value}");
        }
        let mut last = ordered(i64::MIN);
        for shift in (0..63).rev() {
            let next = ordered(-(1 << shift));
            assert!(last < next, "-2^{shift}");
            last = next;
        }
    }

    #[test]
    fn parts_go_to_their_places() {
        // A 3 × 4 grid of 0..12, cut at row 1 and, below it, at column 3.
        let slices = vec![slice(&[(0, 1), (0, -1)]), slice(&[(1, 2), (0, 3)]), slice(&[(1, 2), (3, 1)])];
        let grid = Grid::new(&entry(&[3, 4], slices)).unwrap();
        let parts: [&[i64]; 3] = [&[0, 1, 2, 3], &[4, 5, 6, 8, 9, 10], &[7, 11]];
        let mut values = grid.element.zeros(grid.len);
        for (part, elements) in grid.parts.iter().zip(parts) {
            let bytes: Vec<u8> = elements.iter().flat_map(|v| v.to_le_bytes()).collect();
            grid.fill(part, &mut bytes.as_slice(), ByteOrder::Little, &mut values).unwrap();
        }
        assert_eq!(values, Values::I64((0..12).collect()));
    }

    #[test]
    fn parts_that_overlap_or_leave_a_gap_are_refused() {
        let refused: [&[Slice]; 4] = [
            &[slice(&[(0, 1)]), slice(&[(0, 2)])],
            &[slice(&[(0, 1)])],
            &[slice(&[(0, 4)])],
            &[slice(&[(0, 3), (0, 1)])],
        ];
        for slices in refused {
            assert!(Grid::new(&entry(&[3], slices.to_vec())).is_err(), "{slices:?}");
        }
        assert!(Grid::new(&entry(&[3], vec![slice(&[(0, 2)]), slice(&[(2, 1)])])).is_ok());
    }
}
