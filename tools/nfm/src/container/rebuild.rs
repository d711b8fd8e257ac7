//! Which objects of a pickle are tensors, and how their values come out of the storages.

use std::io::{self, Read};

use indexmap::IndexMap;

use super::{
    collect::Collected,
    element::{ByteOrder, Checked, Element, View},
    object::{Global, Id, Instance, Node, Tree},
    pickled::span_key,
};
use crate::{
    error::{Error, Result},
    tensors::{Fact, Tensor, Tensors, Values},
};

/// A tensor whose values are not read yet.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) source: Source,
    pub(super) view: View,
    /// Bytes that the pickle says its storage has; zero for an inline one.
    pub(super) storage_bytes: usize,
}

/// Where the values are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// In the storage of this key, or in the span of the file that [`span_key`] names.
    Storage(String),
    /// In a bytes object of the pickle: a numpy array.
    Inline(Id, bool),
}

/// The storages of one file.
pub(super) trait Storages {
    /// The order of bytes in all of them.
    fn order(&self) -> ByteOrder;
    /// Where in the file the storage is, for messages.
    fn place(&self, key: &str) -> String;
    /// The length of a storage in bytes, and its bytes.
    fn open(&mut self, key: &str) -> Result<(u64, impl Read)>;
}

/// A storage as a persistent id describes it.
#[derive(Debug, Clone)]
pub(super) struct StorageId {
    pub(super) key: String,
    /// `None` for an untyped one, whose length is in bytes.
    pub(super) element: Option<Element>,
    /// The first element of the part that the tensors see.
    start: usize,
    /// The element after that part.
    end: usize,
    /// The bytes of the whole.
    pub(super) bytes: usize,
}

impl StorageId {
    /// Bytes of one element.
    pub(super) fn element_bytes(&self) -> usize {
        self.element.map_or(1, Element::bytes)
    }
}

/// The persistent id `('storage', type, key, location, length[, view])`.
pub(super) fn storage_id(tree: &Tree, id: Id) -> Checked<StorageId> {
    let [kind, class, key, _, len, view @ ..] = tree.sequence(id).unwrap_or_default() else {
        return Err(format!("expected a storage, found {}; the file is damaged", tree.kind(id)));
    };
    if tree.text(*kind) != Some("storage") {
        return Err(format!("expected a storage, found {}; the file is damaged", tree.kind(*kind)));
    }
    let element = match tree.global(*class).map(|class| &*class.name).or_else(|| tree.text(*class)) {
        Some("UntypedStorage") => None,
        Some(class) => Some(storage_element(class)?),
        None => return Err(format!("expected a storage class, found {}", tree.kind(*class))),
    };
    let key = match tree.node(*key) {
        Node::Text(key) => key.to_string(),
        Node::Int(key) => key.to_string(),
        _ => return Err(format!("expected the key of a storage, found {}", tree.kind(*key))),
    };
    if key.len() > MAX_KEY_BYTES {
        return Err(format!(
            "expected a storage's key of at most {MAX_KEY_BYTES} bytes, found {}",
            key.len()
        ));
    }
    let len = length(tree, *len)?;
    let size = element.map_or(1, Element::bytes);
    let Some(bytes) = len.checked_mul(size) else {
        return Err(format!("a storage of {len} elements exceeds the address space; the file is damaged"));
    };
    let (start, end) = match view.first().and_then(|view| tree.sequence(*view)) {
        Some([_, start, view_len]) => {
            let (start, view_len) = (length(tree, *start)?, length(tree, *view_len)?);
            match start.checked_add(view_len).filter(|end| *end <= len) {
                Some(end) => (start, end),
                None => {
                    return Err(format!(
                        "a view of {view_len} at {start} leaves its storage of {len} elements"
                    ));
                }
            }
        }
        _ => (0, len),
    };
    Ok(StorageId { key, element, start, end, bytes })
}

/// Keys are short decimal numbers; every tensor carries a copy of its storage's.
const MAX_KEY_BYTES: usize = 64;

fn storage_element(class: &str) -> Checked<Element> {
    Ok(match class {
        "FloatStorage" => Element::F32,
        "HalfStorage" => Element::F16,
        "BFloat16Storage" => Element::Bf16,
        "DoubleStorage" => Element::F64,
        "LongStorage" => Element::I64,
        "IntStorage" => Element::I32,
        "ShortStorage" => Element::I16,
        "CharStorage" => Element::I8,
        "ByteStorage" => Element::U8,
        "BoolStorage" => Element::Bool,
        _ => {
            return Err(format!(
                "expected floats, integers or booleans, found `{class}`; convert it to float32"
            ));
        }
    })
}

fn dtype_element(name: &str) -> Checked<Element> {
    Ok(match name {
        "float32" | "float" => Element::F32,
        "float16" | "half" => Element::F16,
        "bfloat16" => Element::Bf16,
        "float64" | "double" => Element::F64,
        "int64" | "long" => Element::I64,
        "int32" | "int" => Element::I32,
        "int16" | "short" => Element::I16,
        "int8" => Element::I8,
        "uint64" => Element::U64,
        "uint32" => Element::U32,
        "uint16" => Element::U16,
        "uint8" => Element::U8,
        "bool" => Element::Bool,
        _ => {
            return Err(format!(
                "expected floats, integers or booleans, found `torch.{name}`; convert it to float32"
            ));
        }
    })
}

fn length(tree: &Tree, id: Id) -> Checked<usize> {
    let len = tree.int(id).and_then(|int| usize::try_from(int).ok());
    len.ok_or_else(|| match tree.node(id) {
        Node::Int(int) => format!("expected a length or an offset ≥ 0, found {int}; the file is damaged"),
        _ => format!("expected a length or an offset, found {}; the file is damaged", tree.kind(id)),
    })
}

/// Class and arguments of an object.
fn call(tree: &Tree, id: Id) -> Option<(&Global, &[Id], &Instance)> {
    let Node::Instance(instance) = tree.node(id) else { return None };
    Some((tree.global(instance.class)?, tree.sequence(instance.args)?, instance))
}

/// Whether the object is a numpy array, or Paddle's pair of a tensor's own name and its array.
pub(super) fn is_array(tree: &Tree, id: Id) -> bool {
    let of_paddle = paddle_array(tree, id);
    call(tree, of_paddle.unwrap_or(id)).is_some_and(|(class, ..)| {
        matches!(
            (&*class.module, &*class.name),
            ("numpy._core.multiarray", "_reconstruct") | ("numpy._core.numeric", "_frombuffer")
        )
    })
}

/// The array of a tensor of Paddle, which is pickled as the pair of its own name and its array.
fn paddle_array(tree: &Tree, id: Id) -> Option<Id> {
    match tree.node(id) {
        Node::Tuple(pair) => match &**pair {
            [name, array] if tree.text(*name).is_some() => Some(*array),
            _ => None,
        },
        _ => None,
    }
}

/// Whether the object is a tensor, be it one that [`spec`] refuses.
pub(super) fn is_tensor(tree: &Tree, id: Id) -> bool {
    call(tree, id).is_some_and(|(class, ..)| match &*class.module {
        "torch._utils" => class.name.starts_with("_rebuild_"),
        "torch._tensor" => &*class.name == "_rebuild_from_type_v2",
        _ => false,
    })
}

/// The tensor or numeric numpy array that the object is, if it is one.
pub(super) fn spec(file: &str, name: &str, tree: &Tree, id: Id) -> Result<Option<Spec>> {
    find(tree, id, 0).map_err(|problem| Error::refused(file, format!("tensor `{name}`"), problem))
}

fn find(tree: &Tree, id: Id, depth: usize) -> Checked<Option<Spec>> {
    if let Some(array) = paddle_array(tree, id).filter(|array| is_array(tree, *array)) {
        return find(tree, array, depth + 1);
    }
    let Some((class, args, _)) = call(tree, id) else { return Ok(None) };
    if depth > 4 {
        return Err("a parameter of a parameter of a parameter; the file is damaged".into());
    }
    if let Some(array) = raw_array(tree, id) {
        return numpy_array(tree, array.shape, array.dtype, array.is_fortran, array.data);
    }
    if !is_tensor(tree, id) {
        return Ok(None);
    }
    match (&*class.name, args) {
        ("_rebuild_parameter" | "_rebuild_parameter_with_state", [data, ..]) => {
            let found = find(tree, *data, depth + 1)?;
            found.map(Some).ok_or_else(|| format!("expected a tensor, found {}", tree.kind(*data)))
        }
        ("_rebuild_from_type_v2", [function, _, args, ..]) => {
            let (function, args) = (tree.global(*function), tree.sequence(*args));
            match function.zip(args) {
                Some((function, args)) => view(tree, &function.name, args).map(Some),
                None => Err("expected a function that rebuilds a tensor; the file is damaged".into()),
            }
        }
        (function, args) => view(tree, function, args).map(Some),
    }
}

/// The arguments of `torch._utils._rebuild_tensor` and its later versions.
fn view(tree: &Tree, function: &str, args: &[Id]) -> Checked<Spec> {
    let element = match (function, args) {
        ("_rebuild_tensor" | "_rebuild_tensor_v2", _) => None,
        ("_rebuild_tensor_v3", [_, _, _, _, _, _, dtype, ..]) => match tree.global(*dtype) {
            Some(dtype) => Some(dtype_element(&dtype.name)?),
            None => return Err(format!("expected a dtype, found {}", tree.kind(*dtype))),
        },
        _ => {
            return Err(format!(
                "expected a dense tensor, found one of `torch._utils.{function}`; save it dense, \
                 unquantized and on the CPU"
            ));
        }
    };
    let [storage, offset, shape, strides, ..] = args else {
        return Err(format!(
            "expected 4 arguments of `{function}`, found {}; the file is damaged",
            args.len()
        ));
    };
    let Node::Persistent(id) = tree.node(*storage) else {
        return Err(format!("expected a storage, found {}; the file is damaged", tree.kind(*storage)));
    };
    let storage = storage_id(tree, *id)?;
    let Some(element) = element.or(storage.element) else {
        return Err("an untyped storage without a dtype; the file is damaged".into());
    };
    let end = match storage.element {
        Some(own) if own == element => storage.end,
        Some(_) if storage.start > 0 => {
            return Err("a part of a storage, of another dtype; save it contiguous".into());
        }
        // A `_v3` tensor may see the bytes of a typed storage as another type.
        _ => storage.bytes / element.bytes(),
    };
    let Some(offset) = length(tree, *offset)?.checked_add(storage.start) else {
        return Err("an offset beyond the address space; the file is damaged".into());
    };
    let view = View::new(element, &ints(tree, *shape)?, &ints(tree, *strides)?, offset, end)?;
    Ok(Spec { source: Source::Storage(storage.key), view, storage_bytes: storage.bytes })
}

fn ints(tree: &Tree, id: Id) -> Checked<Vec<i64>> {
    let Some(items) = tree.sequence(id).filter(|items| items.len() <= 64) else {
        return Err(format!("expected a shape of at most 64 extents, found {}", tree.kind(id)));
    };
    let ints = items.iter().map(|item| tree.int(*item)).collect::<Option<Vec<i64>>>();
    ints.ok_or_else(|| "expected integers in a shape; the file is damaged".into())
}

/// The element type and the order of bytes of a `numpy.dtype`; `None` when it is not a number.
fn numpy_dtype(tree: &Tree, id: Id) -> Option<(Element, bool)> {
    let (class, args, instance) = call(tree, id)?;
    if &*class.module != "numpy" || &*class.name != "dtype" {
        return None;
    }
    let element = match tree.text(*args.first()?)? {
        "f4" => Element::F32,
        "f2" => Element::F16,
        "f8" => Element::F64,
        "i8" => Element::I64,
        "i4" => Element::I32,
        "i2" => Element::I16,
        "i1" => Element::I8,
        "u8" => Element::U64,
        "u4" => Element::U32,
        "u2" => Element::U16,
        "u1" => Element::U8,
        "b1" => Element::Bool,
        _ => return None,
    };
    let order = instance.state.and_then(|state| tree.sequence(state)?.get(1).copied());
    Some((element, order.and_then(|order| tree.text(order)) == Some(">")))
}

/// A `numpy.ndarray`; `None` when its elements are no numbers.
fn numpy_array(tree: &Tree, shape: Id, dtype: Id, is_fortran: bool, data: Id) -> Checked<Option<Spec>> {
    let Some((element, is_big)) = numpy_dtype(tree, dtype) else { return Ok(None) };
    let (source, len) = match tree.node(data) {
        Node::Bytes(bytes) => (Source::Inline(data, is_big), bytes.len()),
        Node::Span { .. } if is_big => {
            return Err("an array of big-endian numbers; convert it to `<f4`".into());
        }
        Node::Span { at, len } => {
            let problem = || format!("an array of {len} bytes exceeds the address space");
            (Source::Storage(span_key(*at, *len)), usize::try_from(*len).map_err(|_| problem())?)
        }
        _ => return Ok(None),
    };
    let mut shape = ints(tree, shape)?;
    if is_fortran {
        shape.reverse();
    }
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride: i64 = 1;
    for extent in shape.iter().rev() {
        strides.push(stride);
        stride = stride.saturating_mul(*extent);
    }
    strides.reverse();
    if is_fortran {
        shape.reverse();
        strides.reverse();
    }
    let view = View::new(element, &shape, &strides, 0, len / element.bytes())?;
    let storage_bytes = if matches!(source, Source::Inline(..)) { 0 } else { len };
    Ok(Some(Spec { source, view, storage_bytes }))
}

/// What joblib writes of an array.
pub(super) enum ArrayBytes {
    /// So many bytes.
    Plain(u64),
    /// A pickle: its elements are objects.
    Objects,
}

/// What joblib writes of an array of this shape and dtype.
pub(super) fn array_bytes(tree: &Tree, shape: Id, dtype: Id) -> Checked<ArrayBytes> {
    let size = match dtype_kind(tree, dtype) {
        Some(Kind::Object) => return Ok(ArrayBytes::Objects),
        Some(Kind::Number(element, _)) => element.bytes(),
        Some(Kind::Text { chars, .. }) => chars.saturating_mul(4),
        Some(Kind::Bytes { len }) => len,
        None => {
            return Err(format!(
                "expected an array of numbers, text or objects, found {}",
                dtype_name(tree, dtype)
            ));
        }
    };
    let extents = ints(tree, shape)?;
    let mut bytes = size as u64;
    for extent in extents {
        let extent = u64::try_from(extent).map_err(|_| "a negative extent; the file is damaged")?;
        bytes = bytes.checked_mul(extent).ok_or("an array beyond the address space; the file is damaged")?;
    }
    Ok(ArrayBytes::Plain(bytes))
}

/// The element type of a numpy array.
enum Kind {
    /// Numbers, and whether their most significant byte is first.
    Number(Element, bool),
    /// Texts of this many code points, filled up with zeros.
    Text { chars: usize, is_big: bool },
    /// Bytes, filled up with zeros.
    Bytes { len: usize },
    /// Objects.
    Object,
}

fn dtype_kind(tree: &Tree, dtype: Id) -> Option<Kind> {
    if let Some((element, is_big)) = numpy_dtype(tree, dtype) {
        return Some(Kind::Number(element, is_big));
    }
    let name = dtype_name(tree, dtype);
    let (kind, len) = name.split_at_checked(1)?;
    let order = call(tree, dtype).and_then(|(.., instance)| tree.sequence(instance.state?)?.get(1).copied());
    let is_big = order.and_then(|order| tree.text(order)) == Some(">");
    match (kind, len.parse()) {
        ("O", _) => Some(Kind::Object),
        ("U", Ok(chars)) => Some(Kind::Text { chars, is_big }),
        ("S", Ok(len)) => Some(Kind::Bytes { len }),
        _ => None,
    }
}

/// The first argument of a dtype: `f8`, `U12`, `O8`.
fn dtype_name(tree: &Tree, dtype: Id) -> String {
    match call(tree, dtype) {
        Some((class, [name, ..], _)) if &*class.module == "numpy" && &*class.name == "dtype" => {
            tree.text(*name).unwrap_or_default().chars().take(40).collect()
        }
        _ => tree.kind(dtype),
    }
}

/// The elements of a numpy array, row by row.
pub(crate) enum Elements {
    /// Numbers; booleans as 0 and 1.
    Numbers(Values),
    /// Booleans.
    Bools(Vec<bool>),
    /// Texts.
    Texts(Vec<String>),
    /// Objects.
    Objects(Vec<Id>),
}

/// The elements of a numpy array of any number of dimensions; `None` when the object is no array.
pub(crate) fn elements_of(tree: &Tree, id: Id) -> Checked<Option<Elements>> {
    let Some(array) = raw_array(tree, id) else { return Ok(None) };
    let kind = dtype_kind(tree, array.dtype);
    match (kind, tree.node(array.data)) {
        (Some(Kind::Object), Node::List(items)) => Ok(Some(Elements::Objects(items.clone()))),
        (Some(Kind::Number(element, is_big)), Node::Bytes(bytes)) => {
            let Some(spec) = numpy_array(tree, array.shape, array.dtype, array.is_fortran, array.data)?
            else {
                return Ok(None);
            };
            let values =
                spec.view.gather(bytes, order(is_big)).map_err(|e| format!("{e}; the file is damaged"))?;
            Ok(Some(match values {
                Values::I64(ints) if element == Element::Bool => {
                    Elements::Bools(ints.into_iter().map(|int| int != 0).collect())
                }
                values => Elements::Numbers(values),
            }))
        }
        (Some(Kind::Text { chars, is_big }), Node::Bytes(bytes)) => {
            let texts = chunks(bytes, chars.saturating_mul(4)).map(|chunk| utf32(chunk, is_big));
            texts.collect::<Checked<_>>().map(|texts| Some(Elements::Texts(texts)))
        }
        (Some(Kind::Bytes { len }), Node::Bytes(bytes)) => {
            let texts = chunks(bytes, len).map(|chunk| utf8(chunk.to_vec()));
            texts.collect::<Checked<_>>().map(|texts| Some(Elements::Texts(texts)))
        }
        _ => Err(format!(
            "expected an array of numbers, text or objects, found one of `{}`",
            dtype_name(tree, array.dtype)
        )),
    }
}

/// The parts of a numpy array.
struct RawArray {
    shape: Id,
    dtype: Id,
    is_fortran: bool,
    data: Id,
}

fn raw_array(tree: &Tree, id: Id) -> Option<RawArray> {
    let (class, args, instance) = call(tree, id)?;
    match (&*class.module, &*class.name, args) {
        ("numpy._core.multiarray", "_reconstruct", _) => {
            // The state is `(version, shape, dtype, is_fortran, data)`.
            let [_, shape, dtype, is_fortran, data] = *tree.sequence(instance.state?)? else { return None };
            Some(RawArray { shape, dtype, is_fortran: *tree.node(is_fortran) == Node::Bool(true), data })
        }
        ("numpy._core.numeric", "_frombuffer", [data, dtype, shape, order]) => {
            let is_fortran = tree.text(*order) == Some("F");
            Some(RawArray { shape: *shape, dtype: *dtype, is_fortran, data: *data })
        }
        _ => None,
    }
}

/// The elements of `len` bytes; texts of none are one empty text for all that numpy ever wrote.
fn chunks(bytes: &[u8], len: usize) -> impl Iterator<Item = &[u8]> {
    bytes.chunks_exact(len.max(1))
}

fn utf32(bytes: &[u8], is_big: bool) -> Checked<String> {
    let words = bytes.as_chunks::<4>().0.iter();
    let points = words.map(|word| if is_big { u32::from_be_bytes(*word) } else { u32::from_le_bytes(*word) });
    let text: Option<String> = points.map(char::from_u32).collect();
    let text = text.ok_or("expected Unicode text; the file is damaged")?;
    Ok(text.trim_end_matches('\0').to_owned())
}

fn utf8(bytes: Vec<u8>) -> Checked<String> {
    let text = String::from_utf8(bytes)
        .map_err(|_| "expected UTF-8 in an array of bytes, found another encoding")?;
    Ok(text.trim_end_matches('\0').to_owned())
}

/// The arguments `(dtype, bytes)` of a numpy scalar.
pub(crate) fn numpy_scalar(tree: &Tree, args: &[Id]) -> Option<Fact> {
    let [dtype, data] = args else { return None };
    if let (Some(Kind::Text { is_big, .. }), Node::Bytes(bytes)) =
        (dtype_kind(tree, *dtype), tree.node(*data))
    {
        return utf32(bytes, is_big).ok().map(Fact::Text);
    }
    let ((element, is_big), Node::Bytes(bytes)) = (numpy_dtype(tree, *dtype)?, tree.node(*data)) else {
        return None;
    };
    let view = View::whole(element, Vec::new(), bytes.len() / element.bytes()).ok()?;
    match view.gather(bytes, order(is_big)).ok()? {
        Values::F32(v) => v.first().map(|v| Fact::Float((*v).into())),
        Values::F64(v) => v.first().map(|v| Fact::Float(*v)),
        Values::I64(v) if element == Element::Bool => v.first().map(|v| Fact::Bool(*v != 0)),
        Values::I64(v) => v.first().map(|v| Fact::Int(*v)),
    }
}

fn order(is_big: bool) -> ByteOrder {
    if is_big { ByteOrder::Big } else { ByteOrder::Little }
}

/// Reads the values of all tensors, each storage once.
pub(super) fn load(
    file: &str,
    container: &'static str,
    tree: &Tree,
    collected: Collected,
    storages: &mut impl Storages,
) -> Result<Tensors> {
    let Collected { specs, small, mut facts } = collected;
    let mut by_storage: IndexMap<&str, Vec<Wanted<'_>>> = IndexMap::new();
    let mut values: Vec<Option<Values>> = vec![None; specs.len() + small.len()];
    for (at, (name, spec)) in specs.iter().chain(&small).enumerate() {
        match &spec.source {
            Source::Storage(key) => by_storage.entry(key).or_default().push((at, name, spec)),
            Source::Inline(id, is_big) => {
                let Node::Bytes(bytes) = tree.node(*id) else { continue };
                put(&mut values, at, file, name, spec.view.gather(bytes, order(*is_big)))?;
            }
        }
    }
    for (key, group) in by_storage {
        load_storage(file, key, &group, storages, &mut values)?;
    }
    let small_values = values.split_off(specs.len());
    for ((name, spec), values) in small.iter().zip(small_values) {
        facts.extend(elements(name, &spec.view, values));
    }
    let entries = specs.into_iter().zip(values).map(|((name, spec), values)| {
        let storage = match spec.source {
            Source::Storage(key) => Some((key, spec.view.offset)),
            Source::Inline(..) => None,
        };
        let values = values.unwrap_or(Values::F32(Vec::new()));
        (name, Tensor { dtype: spec.view.element.name(), shape: spec.view.shape, values, storage })
    });
    Ok(Tensors { file: file.into(), container, entries: entries.collect(), facts, graph: None })
}

/// The elements of a small tensor as facts: `<name>.<index>` in row-major order, `<name>` for a scalar.
fn elements(name: &str, view: &View, values: Option<Values>) -> Vec<(String, Fact)> {
    let facts: Vec<Fact> = match values {
        Some(Values::F32(v)) => v.into_iter().map(|v| Fact::Float(v.into())).collect(),
        Some(Values::F64(v)) => v.into_iter().map(Fact::Float).collect(),
        Some(Values::I64(v)) if view.element == Element::Bool => {
            v.into_iter().map(|v| Fact::Bool(v != 0)).collect()
        }
        Some(Values::I64(v)) => v.into_iter().map(Fact::Int).collect(),
        None => Vec::new(),
    };
    let path = |at| if view.shape.is_empty() { name.to_owned() } else { format!("{name}.{at}") };
    facts.into_iter().enumerate().map(|(at, fact)| (path(at), fact)).collect()
}

/// The place of a tensor in the list, its name, and what to read.
type Wanted<'a> = (usize, &'a str, &'a Spec);

fn load_storage(
    file: &str,
    key: &str,
    group: &[Wanted<'_>],
    storages: &mut impl Storages,
    values: &mut [Option<Values>],
) -> Result<()> {
    let (order, place) = (storages.order(), storages.place(key));
    let refuse = |problem: String| Error::refused(file, place.clone(), problem);
    let (len, mut reader) = storages.open(key)?;
    if let Some((_, name, spec)) = group.iter().find(|(_, _, spec)| spec.storage_bytes as u64 > len) {
        let expected = spec.storage_bytes;
        return Err(refuse(format!(
            "expected {expected} bytes for tensor `{name}`, found {len}; the file is cut"
        )));
    }
    let damaged = |source: io::Error| match source.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            refuse(format!("{source}; the file is cut or damaged"))
        }
        _ => Error::io(file, source),
    };
    if let Some(spans) = apart(group) {
        // No second copy of a large table.
        let mut at = 0;
        for (start, end, (slot, name, spec)) in spans {
            skip(&mut reader, start.saturating_sub(at)).map_err(damaged)?;
            put(values, slot, file, name, spec.view.read(&mut reader, order))?;
            at = end;
        }
        skip(&mut reader, len.saturating_sub(at)).map_err(damaged)?;
        return finish(reader).map_err(damaged);
    }
    let mut bytes = Vec::new();
    (&mut reader).take(len).read_to_end(&mut bytes).map_err(damaged)?;
    for (at, name, spec) in group {
        put(values, *at, file, name, spec.view.gather(&bytes, order))?;
    }
    finish(reader).map_err(damaged)
}

/// First byte, and byte after the last, of each tensor in its storage, in their order there; `None` when
/// two of them overlap or one is not contiguous.
fn apart<'a>(group: &[Wanted<'a>]) -> Option<Vec<(u64, u64, Wanted<'a>)>> {
    let span = |wanted: &Wanted<'a>| {
        let view = &wanted.2.view;
        // The view lies within the storage, so neither product overflows; an empty one may lie anywhere.
        let size = if view.len == 0 { 0 } else { view.element.bytes() };
        let start = view.is_contiguous().then_some(view.offset * size)?;
        Some((start as u64, (start + view.len * size) as u64, *wanted))
    };
    let mut spans = group.iter().map(span).collect::<Option<Vec<_>>>()?;
    spans.sort_by_key(|(start, end, _)| (*start, *end));
    spans.is_sorted_by(|(_, end, _), (start, ..)| end <= start).then_some(spans)
}

fn skip(reader: &mut impl Read, bytes: u64) -> io::Result<()> {
    io::copy(&mut reader.take(bytes), &mut io::sink()).map(drop)
}

/// Asks for one byte after the last: an archive compares its checksum then.
fn finish(mut reader: impl Read) -> io::Result<()> {
    match reader.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "longer than it says")),
    }
}

fn put(
    values: &mut [Option<Values>],
    at: usize,
    file: &str,
    name: &str,
    read: io::Result<Values>,
) -> Result<()> {
    let read = read.map_err(|source| {
        Error::refused(file, format!("tensor `{name}`"), format!("{source}; the file is cut or damaged"))
    })?;
    if let Some(slot) = values.get_mut(at) {
        *slot = Some(read);
    }
    Ok(())
}
