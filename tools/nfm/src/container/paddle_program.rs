//! The program of a `PaddlePaddle` model: `__model__` in fluid 1.x, `.pdmodel` in 2.x, a protobuf.
//!
//! Field numbers are those of `framework.proto`; what is not listed is passed over.

use std::{fs, path::Path};

use indexmap::IndexMap;
use prost::Message;

use super::element::Element;
use crate::{
    error::{Error, Result},
    tensors::{Attribute, Graph, GraphValue, Node},
};

/// Element type and extents of a variable; −1 for an extent that is not known.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorDesc {
    #[prost(int32, tag = "1")]
    pub(super) data_type: i32,
    #[prost(int64, repeated, packed = "false", tag = "2")]
    pub(super) dims: Vec<i64>,
}

impl TensorDesc {
    /// The element type, by `VarType.Type`; `None` when it is none that is read.
    pub(super) fn element(&self) -> Option<Element> {
        Some(match self.data_type {
            0 => Element::Bool,
            1 => Element::I16,
            2 => Element::I32,
            3 => Element::I64,
            4 => Element::F16,
            5 => Element::F32,
            6 => Element::F64,
            20 => Element::U8,
            21 => Element::I8,
            22 => Element::Bf16,
            _ => return None,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ProgramDesc {
    #[prost(message, repeated, tag = "1")]
    blocks: Vec<BlockDesc>,
    #[prost(message, optional, tag = "4")]
    version: Option<Version>,
}

#[derive(Clone, PartialEq, Message)]
struct Version {
    #[prost(int64, tag = "1")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct BlockDesc {
    #[prost(message, repeated, tag = "3")]
    vars: Vec<VarDesc>,
    #[prost(message, repeated, tag = "4")]
    ops: Vec<OpDesc>,
}

#[derive(Clone, PartialEq, Message)]
struct VarDesc {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<VarType>,
    #[prost(bool, tag = "3")]
    persistable: bool,
}

#[derive(Clone, PartialEq, Message)]
struct VarType {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(message, optional, tag = "3")]
    lod_tensor: Option<LodTensorDesc>,
}

#[derive(Clone, PartialEq, Message)]
struct LodTensorDesc {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorDesc>,
}

#[derive(Clone, PartialEq, Message)]
struct OpDesc {
    #[prost(message, repeated, tag = "1")]
    inputs: Vec<Slot>,
    #[prost(message, repeated, tag = "2")]
    outputs: Vec<Slot>,
    #[prost(string, tag = "3")]
    kind: String,
    #[prost(message, repeated, tag = "4")]
    attributes: Vec<Attr>,
}

/// The variables of one of an operation's named inputs or outputs.
#[derive(Clone, PartialEq, Message)]
struct Slot {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "2")]
    variables: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Attr {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "2")]
    kind: i32,
    #[prost(int32, tag = "3")]
    int: i32,
    #[prost(float, tag = "4")]
    float: f32,
    #[prost(string, tag = "5")]
    text: String,
    #[prost(int32, repeated, packed = "false", tag = "6")]
    ints: Vec<i32>,
    #[prost(float, repeated, packed = "false", tag = "7")]
    floats: Vec<f32>,
    #[prost(string, repeated, tag = "8")]
    texts: Vec<String>,
    #[prost(bool, tag = "10")]
    bool: bool,
    #[prost(int64, tag = "13")]
    long: i64,
    #[prost(int64, repeated, packed = "false", tag = "15")]
    longs: Vec<i64>,
    #[prost(double, tag = "19")]
    double: f64,
}

/// `VarType.Type` of what an executor feeds, fetches and reads from.
const NO_PARAMETERS: [i32; 3] = [9, 10, 15];

/// Reads the program at `path`.
pub(super) fn read(path: &Path) -> Result<ProgramDesc> {
    let bytes = fs::read(path).map_err(|source| Error::io(path, source))?;
    let damaged = |problem: String| {
        Error::refused(&path.display().to_string(), "", format!("{problem}; the file is cut or damaged"))
    };
    let program = ProgramDesc::decode(bytes.as_slice()).map_err(|error| damaged(error.to_string()))?;
    if program.blocks.is_empty() {
        return Err(damaged("expected a program, found one without blocks".into()));
    }
    Ok(program)
}

impl ProgramDesc {
    /// The variables that are saved, by name, with what is known of them; in one file they are in this order.
    pub(super) fn saved(&self) -> Vec<(&str, Option<&TensorDesc>)> {
        let is_saved = |variable: &&VarDesc| {
            let kind = variable.kind.as_ref().map_or(0, |kind| kind.kind);
            variable.persistable && !NO_PARAMETERS.contains(&kind)
        };
        let saved = self.blocks.iter().flat_map(|block| &block.vars).filter(is_saved);
        let mut saved: Vec<_> = saved.map(|variable| (variable.name.as_str(), variable.desc())).collect();
        saved.sort_by_key(|(name, _)| *name);
        saved.dedup_by_key(|(name, _)| *name);
        saved
    }

    /// The graph of the first block; others are bodies of loops and branches.
    pub(super) fn into_graph(self) -> Graph {
        let version = self.version.map_or(0, |version| version.version);
        let (major, minor, patch) = (version / 1_000_000, version / 1000 % 1000, version % 1000);
        let mut graph = Graph { producer: format!("Paddle {major}.{minor}.{patch}"), ..Graph::default() };
        let Some(block) = self.blocks.into_iter().next() else { return graph };
        let variables: IndexMap<&str, &VarDesc> =
            block.vars.iter().map(|variable| (variable.name.as_str(), variable)).collect();
        for op in block.ops {
            let all =
                |slots: &[Slot]| slots.iter().flat_map(|slot| slot.variables.clone()).collect::<Vec<_>>();
            match op.kind.as_str() {
                "feed" => {
                    let fed = all(&op.outputs).into_iter();
                    graph.inputs.extend(fed.map(|name| graph_value(name, &variables)));
                }
                "fetch" => graph.outputs.extend(all(&op.inputs)),
                _ => graph.nodes.push(node(op)),
            }
        }
        graph
    }
}

impl VarDesc {
    fn desc(&self) -> Option<&TensorDesc> {
        self.kind.as_ref()?.lod_tensor.as_ref()?.tensor.as_ref()
    }
}

fn graph_value(name: String, variables: &IndexMap<&str, &VarDesc>) -> GraphValue {
    let desc = variables.get(name.as_str()).and_then(|variable| variable.desc());
    let shape = desc.map(|desc| desc.dims.iter().map(|dim| usize::try_from(*dim).ok()).collect());
    let dtype = desc.and_then(TensorDesc::element).map_or("other", Element::name);
    GraphValue { name, shape: shape.unwrap_or_default(), dtype }
}

/// A node whose attributes `input.<slot>` and `output.<slot>` say which value is which: `input.Scale`.
fn node(op: OpDesc) -> Node {
    let mut node = Node { op: op.kind, ..Node::default() };
    for (slots, values, side) in
        [(op.inputs, &mut node.inputs, "input"), (op.outputs, &mut node.outputs, "output")]
    {
        for slot in slots {
            values.extend(slot.variables.iter().cloned());
            node.attributes.insert(format!("{side}.{}", slot.name), Attribute::Texts(slot.variables));
        }
    }
    node.attributes.extend(op.attributes.into_iter().filter_map(attribute));
    node
}

/// An attribute by its `AttrType`; `None` for blocks, and for what no operation of such a model has.
fn attribute(attr: Attr) -> Option<(String, Attribute)> {
    let value = match attr.kind {
        0 => Attribute::Int(attr.int.into()),
        1 => Attribute::Float(decimal(attr.float)),
        2 => Attribute::Text(attr.text),
        3 => Attribute::Ints(attr.ints.into_iter().map(i64::from).collect()),
        4 => Attribute::Floats(attr.floats.into_iter().map(decimal).collect()),
        5 => Attribute::Texts(attr.texts),
        6 => Attribute::Int(attr.bool.into()),
        9 => Attribute::Int(attr.long),
        11 => Attribute::Ints(attr.longs),
        15 => Attribute::Float(attr.double),
        _ => return None,
    };
    Some((attr.name, value))
}

/// What the user wrote, 0.9 and not 0.8999999762: the shortest decimal that is this float.
fn decimal(float: f32) -> f64 {
    float.to_string().parse().unwrap_or_else(|_| float.into())
}
