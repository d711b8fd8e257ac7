//! ONNX: one protobuf with the graph, and its tensors in it or in files beside it.
//!
//! The model is walked on the wire, so that a table is read once, into its place; nodes and inputs, which
//! are small, are decoded as messages. An initializer and the output of a `Constant` node are both tensors
//! of the name that the graph's nodes know them by; the `Constant` node itself is left out.

use std::{
    fs::{self, File},
    io::{self, BufReader, Cursor, Read, Seek, SeekFrom},
    ops::Range,
    path::{Component, Path, PathBuf},
};

use half::{bf16, f16};
use indexmap::IndexMap;
use prost::Message;

use super::{
    Format, Probe,
    element::{ByteOrder, Checked, Element, View},
    wire::{self, Field, FieldValue, Fields},
};
use crate::{
    error::{Error, Result},
    tensors::{Attribute, Fact, Graph, GraphValue, Node, Tensor, Tensors, Values},
};

pub(super) const FORMAT: Format = Format { name: "ONNX", matches, read };

/// Field numbers of `ModelProto`.
mod model {
    pub(super) const IR_VERSION: u64 = 1;
    pub(super) const PRODUCER_NAME: u64 = 2;
    pub(super) const PRODUCER_VERSION: u64 = 3;
    pub(super) const GRAPH: u64 = 7;
    pub(super) const OPSET: u64 = 8;
    pub(super) const METADATA: u64 = 14;
    pub(super) const FUNCTIONS: u64 = 25;
}

/// Field numbers of `GraphProto`.
mod graph {
    pub(super) const NODE: u64 = 1;
    pub(super) const INITIALIZER: u64 = 5;
    pub(super) const INPUT: u64 = 11;
    pub(super) const OUTPUT: u64 = 12;
    pub(super) const SPARSE_INITIALIZER: u64 = 15;
}

/// Field numbers of `TensorProto`.
mod tensor {
    pub(super) const DIMS: u64 = 1;
    pub(super) const DATA_TYPE: u64 = 2;
    pub(super) const FLOATS: u64 = 4;
    pub(super) const INTS: u64 = 5;
    pub(super) const LONGS: u64 = 7;
    pub(super) const NAME: u64 = 8;
    pub(super) const RAW: u64 = 9;
    pub(super) const DOUBLES: u64 = 10;
    pub(super) const UNSIGNED: u64 = 11;
    pub(super) const EXTERNAL: u64 = 13;
    pub(super) const LOCATION: u64 = 14;
}

/// The `data_type` of text, which no stage of a model needs.
const STRING: i64 = 8;

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    outputs: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op: String,
    #[prost(message, repeated, tag = "5")]
    attributes: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    domain: String,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, optional, tag = "2")]
    float: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    int: Option<i64>,
    #[prost(bytes, optional, tag = "4")]
    text: Option<Vec<u8>>,
    /// A `TensorProto`, which is read as an initializer is.
    #[prost(bytes, optional, tag = "5")]
    tensor: Option<Vec<u8>>,
    #[prost(float, repeated, packed = "false", tag = "7")]
    floats: Vec<f32>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    ints: Vec<i64>,
    #[prost(bytes, repeated, tag = "9")]
    texts: Vec<Vec<u8>>,
    /// What the attribute is; writers of the first versions leave it out.
    #[prost(int32, tag = "20")]
    kind: i32,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    element: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<ShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct ShapeProto {
    #[prost(message, repeated, tag = "1")]
    dims: Vec<DimProto>,
}

#[derive(Clone, PartialEq, Message)]
struct DimProto {
    #[prost(int64, optional, tag = "1")]
    value: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct OpsetId {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// ONNX has no magic number: the version stands first, and of all protobufs with one only a model has a graph.
fn matches(probe: &Probe<'_>) -> bool {
    let starts = matches!(probe.head.as_slice(), [0x08, 1..=0x7f, _, ..]);
    starts && probe.open().is_ok_and(|mut file| has_graph(&mut file))
}

fn has_graph(file: &mut (impl Read + Seek)) -> bool {
    let Ok(mut fields) = Fields::new(file, 0..u64::MAX) else { return false };
    while let Ok(Some(field)) = fields.next() {
        match (field.number, &field.value) {
            (model::GRAPH, FieldValue::Bytes(_)) => return true,
            (1 | 5, FieldValue::Varint(_)) | (2..=4 | 6 | 8, FieldValue::Bytes(_)) => (),
            _ => return false,
        }
    }
    false
}

fn read(probe: &Probe<'_>) -> Result<Tensors> {
    let mut loader = Loader { probe, external: IndexMap::new() };
    let mut file = probe.open()?;
    let top = wire::fields(&mut file, 0..probe.len).map_err(|source| loader.damaged("model", &source))?;
    let Some(graph) = top.iter().rev().find(|field| field.number == model::GRAPH).and_then(Field::range)
    else {
        return Err(probe.refuse("", "expected a graph, found none; the file is damaged"));
    };
    if top.iter().any(|field| field.number == model::FUNCTIONS) {
        let problem = "expected plain operations, found functions of the model's own; export it with \
                       optimize=True, or put it through onnx.inliner.inline_local_functions";
        return Err(probe.refuse("", problem));
    }
    let mut tensors = Tensors { file: probe.file.clone(), container: FORMAT.name, ..Tensors::default() };
    let producer = facts(&loader, &mut file, &top, &mut tensors)?;
    let fields = wire::fields(&mut file, graph).map_err(|source| loader.damaged("graph", &source))?;
    let mut graph = Graph { producer, ..Graph::default() };
    for field in fields {
        loader.graph_field(&mut file, &field, &mut graph, &mut tensors)?;
    }
    // Versions before 4 list initializers among the inputs.
    graph.inputs.retain(|input| !tensors.entries.contains_key(&input.name));
    if tensors.entries.is_empty() {
        return Err(probe.refuse("", "expected a model with weights, found a graph without any"));
    }
    tensors.graph = Some(graph);
    Ok(tensors)
}

/// Puts what stands beside the graph among the facts, and gives what wrote the file.
fn facts(
    loader: &Loader<'_>,
    file: &mut BufReader<File>,
    top: &[Field],
    tensors: &mut Tensors,
) -> Result<String> {
    let mut producer = Vec::new();
    for field in top {
        let Some(range) = field.range() else {
            if let (model::IR_VERSION, Some(version)) = (field.number, field.varint()) {
                tensors.facts.insert("ir_version".into(), Fact::Int(version.cast_signed()));
            }
            continue;
        };
        match field.number {
            model::PRODUCER_NAME | model::PRODUCER_VERSION => {
                let text = loader.bytes(file, range, "model")?;
                producer.push(String::from_utf8_lossy(&text).into_owned());
            }
            model::OPSET => {
                let id: OpsetId = loader.message(file, range, "opset")?;
                let name = match id.domain.as_str() {
                    "" | "ai.onnx" => "opset".to_owned(),
                    domain => format!("opset.{domain}"),
                };
                tensors.facts.insert(name, Fact::Int(id.version));
            }
            model::METADATA => {
                let pair: Pair = loader.message(file, range, "metadata")?;
                tensors.facts.insert(format!("metadata.{}", pair.key), Fact::Text(pair.value));
            }
            _ => (),
        }
    }
    Ok(producer.join(" "))
}

/// Reads the parts of one model.
struct Loader<'a> {
    probe: &'a Probe<'a>,
    /// The files beside the model, with the bytes of each that no tensor has taken yet.
    external: IndexMap<PathBuf, u64>,
}

impl Loader<'_> {
    fn damaged(&self, place: &str, source: &io::Error) -> Error {
        self.probe.refuse(place, format!("{source}; the file is cut or damaged"))
    }

    fn bytes(&self, reader: &mut (impl Read + Seek), range: Range<u64>, place: &str) -> Result<Vec<u8>> {
        wire::bytes(reader, range).map_err(|source| self.damaged(place, &source))
    }

    fn message<M: Message + Default>(
        &self,
        reader: &mut (impl Read + Seek),
        range: Range<u64>,
        place: &str,
    ) -> Result<M> {
        let bytes = self.bytes(reader, range, place)?;
        M::decode(bytes.as_slice()).map_err(|error| self.damaged(place, &io::Error::other(error)))
    }

    fn graph_field(
        &mut self,
        file: &mut BufReader<File>,
        field: &Field,
        graph: &mut Graph,
        tensors: &mut Tensors,
    ) -> Result<()> {
        let Some(range) = field.range() else { return Ok(()) };
        match field.number {
            graph::NODE => {
                let node: NodeProto = self.message(file, range, "node")?;
                self.node(node, graph, tensors)
            }
            graph::INITIALIZER => match self.tensor(file, range)? {
                (name, Some(tensor)) => self.insert(tensors, name, tensor),
                _ => Ok(()),
            },
            graph::INPUT => {
                graph.inputs.push(graph_value(self.message(file, range, "input")?));
                Ok(())
            }
            graph::OUTPUT => {
                let output: ValueInfo = self.message(file, range, "output")?;
                graph.outputs.push(output.name);
                Ok(())
            }
            graph::SPARSE_INITIALIZER => {
                Err(self.probe.refuse("graph", "expected dense tensors, found a sparse one; export it dense"))
            }
            _ => Ok(()),
        }
    }

    fn insert(&self, tensors: &mut Tensors, name: String, tensor: Tensor) -> Result<()> {
        if tensors.entries.contains_key(&name) {
            return Err(tensors.refuse(&name, "two tensors have this name; the file is damaged"));
        }
        tensors.entries.insert(name, tensor);
        Ok(())
    }

    fn node(&mut self, proto: NodeProto, graph: &mut Graph, tensors: &mut Tensors) -> Result<()> {
        let mut attributes = IndexMap::new();
        for attribute in proto.attributes {
            let name = attribute.name.clone();
            if let Some(attribute) = self.attribute(attribute)? {
                attributes.insert(name, attribute);
            }
        }
        let is_own = ["", "ai.onnx"].contains(&proto.domain.as_str());
        if let ("Constant", true, [output]) = (proto.op.as_str(), is_own, proto.outputs.as_slice())
            && let Some(tensor) = constant(&mut attributes)
        {
            return self.insert(tensors, output.clone(), tensor);
        }
        let op = if is_own { proto.op } else { format!("{}::{}", proto.domain, proto.op) };
        let NodeProto { inputs, outputs, name, .. } = proto;
        graph.nodes.push(Node { op, name, inputs, outputs, attributes });
        Ok(())
    }

    fn attribute(&mut self, proto: AttributeProto) -> Result<Option<Attribute>> {
        let text = |text: &Vec<u8>| String::from_utf8_lossy(text).into_owned();
        if let Some(tensor) = proto.tensor {
            let len = tensor.len() as u64;
            let (_, tensor) = self.tensor(&mut Cursor::new(tensor), 0..len)?;
            return Ok(tensor.map(Attribute::Tensor));
        }
        Ok(match (proto.float, proto.int, &proto.text) {
            // Writers may set the fields that are not meant to 0; the kind says which one is.
            (Some(float), ..) if matches!(proto.kind, 0 | 1) => Some(Attribute::Float(float.into())),
            (_, Some(int), _) if matches!(proto.kind, 0 | 2) => Some(Attribute::Int(int)),
            (.., Some(bytes)) if matches!(proto.kind, 0 | 3) => Some(Attribute::Text(text(bytes))),
            _ if proto.kind == 6 || !proto.floats.is_empty() => {
                Some(Attribute::Floats(proto.floats.into_iter().map(f64::from).collect()))
            }
            _ if proto.kind == 7 || !proto.ints.is_empty() => Some(Attribute::Ints(proto.ints)),
            _ if proto.kind == 8 || !proto.texts.is_empty() => {
                Some(Attribute::Texts(proto.texts.iter().map(text).collect()))
            }
            // proto3 leaves a zero out.
            _ => match proto.kind {
                1 => Some(Attribute::Float(0.0)),
                2 => Some(Attribute::Int(0)),
                3 => Some(Attribute::Text(String::new())),
                _ => None,
            },
        })
    }

    /// The name and the values of a `TensorProto`; no values when it holds text.
    fn tensor(
        &mut self,
        reader: &mut (impl Read + Seek),
        range: Range<u64>,
    ) -> Result<(String, Option<Tensor>)> {
        let proto = self.tensor_proto(reader, range)?;
        if proto.dtype == STRING {
            return Ok((proto.name, None));
        }
        let place = format!("tensor `{}`", proto.name);
        let refuse = |problem: String| self.probe.refuse(&place, problem);
        let element = element(proto.dtype).ok_or_else(|| {
            refuse(format!(
                "expected floats of 16, 32 or 64 bits or integers, found type {}; convert it to float32",
                proto.dtype
            ))
        })?;
        let shape = proto.dims.iter().map(|dim| usize::try_from(*dim).ok()).collect::<Option<Vec<usize>>>();
        let shape = shape.ok_or_else(|| refuse(format!("expected extents ≥ 0, found {:?}", proto.dims)))?;
        let values = if proto.is_external {
            self.external_values(&proto, element, &shape)?
        } else {
            let values = inline_values(reader, &proto, element, &shape);
            values.map_err(|problem| refuse(format!("{problem}; the file is cut or damaged")))?
        };
        Ok((proto.name, Some(Tensor { shape, dtype: element.name(), values, storage: None })))
    }

    fn tensor_proto(&self, reader: &mut (impl Read + Seek), range: Range<u64>) -> Result<TensorProto> {
        let damaged = |source: io::Error| self.damaged("tensor", &source);
        let mut proto = TensorProto::default();
        for field in wire::fields(reader, range).map_err(damaged)? {
            match (field.number, field.value) {
                (tensor::DIMS, FieldValue::Varint(dim)) => proto.dims.push(dim.cast_signed()),
                (tensor::DIMS, FieldValue::Bytes(range)) => {
                    let mut at = Fields::new(reader, range).map_err(damaged)?;
                    while let Some(dim) = at.packed().map_err(damaged)? {
                        proto.dims.push(dim.cast_signed());
                    }
                }
                (tensor::DATA_TYPE, FieldValue::Varint(dtype)) => proto.dtype = dtype.cast_signed(),
                (tensor::NAME, FieldValue::Bytes(range)) => {
                    proto.name = String::from_utf8_lossy(&self.bytes(reader, range, "tensor")?).into_owned();
                }
                (tensor::EXTERNAL, FieldValue::Bytes(range)) => {
                    let pair: Pair = self.message(reader, range, "tensor")?;
                    proto.external.insert(pair.key, pair.value);
                }
                (tensor::LOCATION, FieldValue::Varint(location)) => proto.is_external = location == 1,
                (
                    tensor::FLOATS
                    | tensor::INTS
                    | tensor::LONGS
                    | tensor::RAW
                    | tensor::DOUBLES
                    | tensor::UNSIGNED,
                    value,
                ) => proto.data.push((field.number, value)),
                _ => (),
            }
        }
        Ok(proto)
    }

    /// The values in a file beside the model, which must not lie elsewhere.
    fn external_values(&mut self, proto: &TensorProto, element: Element, shape: &[usize]) -> Result<Values> {
        let probe = self.probe;
        let refuse = |problem: String| probe.refuse(format!("tensor `{}`", proto.name), problem);
        let location = proto.external.get("location").map_or("", String::as_str);
        let path = beside(probe.path, location).map_err(refuse)?;
        let mut file = File::open(&path).map_err(|source| {
            refuse(format!("its values are in {}: {source}; copy that file beside the model", path.display()))
        })?;
        let len = file.metadata().map_err(|source| Error::io(&path, source))?.len();
        let number = |key: &str, default: u64| {
            proto.external.get(key).map_or(Some(default), |text| text.trim().parse().ok())
        };
        let offset = number("offset", 0);
        let size = offset.and_then(|offset| number("length", len.saturating_sub(offset)));
        let left = self.external.entry(path.clone()).or_insert(len);
        let inside =
            offset.zip(size).filter(|(offset, size)| offset.checked_add(*size).is_some_and(|end| end <= len));
        let Some((offset, size)) = inside.filter(|(_, size)| size <= left) else {
            let problem = format!(
                "its bytes leave {} of {len} bytes; that file is cut or not of this model",
                path.display()
            );
            return Err(refuse(problem));
        };
        *left -= size;
        let view = whole(element, shape, size).map_err(refuse)?;
        file.seek(SeekFrom::Start(offset)).map_err(|source| Error::io(&path, source))?;
        view.read(&mut file, ByteOrder::Little).map_err(|source| Error::io(&path, source))
    }
}

/// A `TensorProto` whose values are not read yet.
#[derive(Debug, Default)]
struct TensorProto {
    name: String,
    dims: Vec<i64>,
    dtype: i64,
    /// The fields that hold values.
    data: Vec<(u64, FieldValue)>,
    is_external: bool,
    external: IndexMap<String, String>,
}

/// The path of a file in the model's folder or below it.
fn beside(model: &Path, location: &str) -> Checked<PathBuf> {
    let inside =
        Path::new(location).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let folder = model.parent().unwrap_or(Path::new(""));
    let path = folder.join(location);
    // A link may lead out of the folder all the same.
    let real =
        |path: &Path| fs::canonicalize(if path.as_os_str().is_empty() { Path::new(".") } else { path });
    let leaves = matches!((real(folder), real(&path)), (Ok(folder), Ok(path)) if !path.starts_with(&folder));
    if location.is_empty() || !inside || leaves {
        return Err(format!(
            "expected its values in a file beside the model, found the path `{location}`; the file is hostile or damaged"
        ));
    }
    Ok(path)
}

/// The contiguous view of `shape` over `bytes` bytes.
fn whole(element: Element, shape: &[usize], bytes: u64) -> Checked<View> {
    let bytes = usize::try_from(bytes).map_err(|_| "more bytes than the address space")?;
    if !bytes.is_multiple_of(element.bytes()) {
        return Err(format!("expected whole elements of {} bytes, found {bytes} bytes", element.bytes()));
    }
    View::whole(element, shape.to_vec(), bytes / element.bytes())
}

fn inline_values(
    reader: &mut (impl Read + Seek),
    proto: &TensorProto,
    element: Element,
    shape: &[usize],
) -> Checked<Values> {
    let text = |source: io::Error| source.to_string();
    let (field, range) = match proto.data.as_slice() {
        [] => return whole(element, shape, 0)?.read(&mut io::empty(), ByteOrder::Little).map_err(text),
        [(field, FieldValue::Bytes(range))] => (*field, range.clone()),
        _ => return Err("expected one run of values, found several".into()),
    };
    let is_plain = match field {
        tensor::RAW => true,
        tensor::FLOATS => element == Element::F32,
        tensor::DOUBLES => element == Element::F64,
        _ => false,
    };
    if is_plain {
        let view = whole(element, shape, range.end - range.start)?;
        reader.seek(SeekFrom::Start(range.start)).map_err(text)?;
        return view.read(reader, ByteOrder::Little).map_err(text);
    }
    let is_listed = match field {
        tensor::INTS => {
            !matches!(element, Element::F32 | Element::F64 | Element::I64 | Element::U32 | Element::U64)
        }
        tensor::LONGS => element == Element::I64,
        tensor::UNSIGNED => matches!(element, Element::U32 | Element::U64),
        _ => false,
    };
    if !is_listed {
        return Err(format!(
            "its values of type {} are in field {field}, which is of another type",
            element.name()
        ));
    }
    listed(reader, range, element, shape).map_err(text)
}

/// Integers one by one; those of a short float are its bits.
fn listed(
    reader: &mut (impl Read + Seek),
    range: Range<u64>,
    element: Element,
    shape: &[usize],
) -> io::Result<Values> {
    let len = shape.iter().try_fold(1_usize, |len, extent| len.checked_mul(*extent));
    // A number takes a byte at least.
    let len = len.filter(|len| *len as u64 <= range.end - range.start);
    let len = len.ok_or_else(|| wire::damaged(format!("too few values for shape {shape:?}")))?;
    let mut values = element.zeros(0);
    wire::varints(reader, range, len, |number| {
        let bits = u16::try_from(number);
        match (&mut values, element, bits) {
            (Values::F32(values), Element::F16, Ok(bits)) => values.push(f16::from_bits(bits).to_f32()),
            (Values::F32(values), Element::Bf16, Ok(bits)) => values.push(bf16::from_bits(bits).to_f32()),
            (Values::I64(_), Element::U64, _) if number > i64::MAX as u64 => {
                return Err(wire::damaged(format!("{number} exceeds 2⁶³ − 1")));
            }
            (Values::I64(values), ..) => values.push(number.cast_signed()),
            _ => return Err(wire::damaged(format!("{number} is no {} of 16 bits", element.name()))),
        }
        Ok(())
    })?;
    Ok(values)
}

/// The value of a `Constant` node, in each of the forms that it has.
fn constant(attributes: &mut IndexMap<String, Attribute>) -> Option<Tensor> {
    if let Some(Attribute::Text(_) | Attribute::Texts(_)) = attributes.values().next() {
        return None;
    }
    let (_, value) = attributes.pop()?;
    #[expect(clippy::cast_possible_truncation, reason = "they were f32 in the file")]
    let narrow = |floats: &[f64]| Values::F32(floats.iter().map(|float| *float as f32).collect());
    let (shape, values, dtype) = match value {
        Attribute::Tensor(tensor) => return Some(tensor),
        Attribute::Float(float) => (vec![], narrow(&[float]), "f32"),
        Attribute::Floats(floats) => (vec![floats.len()], narrow(&floats), "f32"),
        Attribute::Int(int) => (vec![], Values::I64(vec![int]), "i64"),
        Attribute::Ints(ints) => (vec![ints.len()], Values::I64(ints), "i64"),
        Attribute::Text(_) | Attribute::Texts(_) => return None,
    };
    Some(Tensor { shape, dtype, values, storage: None })
}

fn graph_value(info: ValueInfo) -> GraphValue {
    let tensor = info.kind.and_then(|kind| kind.tensor).unwrap_or_default();
    let dims = tensor.shape.unwrap_or_default().dims;
    let shape = dims.iter().map(|dim| dim.value.and_then(|value| usize::try_from(value).ok())).collect();
    let dtype = match i64::from(tensor.element) {
        STRING => "string",
        other => element(other).map_or("other", Element::name),
    };
    GraphValue { name: info.name, shape, dtype }
}

/// The element type of `TensorProto.DataType`; `None` when it is none that is read.
fn element(dtype: i64) -> Option<Element> {
    Some(match dtype {
        1 => Element::F32,
        2 => Element::U8,
        3 => Element::I8,
        4 => Element::U16,
        5 => Element::I16,
        6 => Element::I32,
        7 => Element::I64,
        9 => Element::Bool,
        10 => Element::F16,
        11 => Element::F64,
        12 => Element::U32,
        13 => Element::U64,
        16 => Element::Bf16,
        _ => return None,
    })
}
