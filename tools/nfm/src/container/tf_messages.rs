//! The protobuf messages of TensorFlow, cut down to the fields that are read here.
//!
//! Field numbers are those of `tensor_bundle.proto`, `trackable_object_graph.proto`, `graph.proto`,
//! `meta_graph.proto` and `saved_model.proto`; what is not listed is passed over.

use std::collections::BTreeMap;

use prost::{Message, Oneof};

use super::element::Element;

/// The value under the empty key of a checkpoint's index.
#[derive(Clone, PartialEq, Message)]
pub(super) struct BundleHeader {
    #[prost(int32, tag = "1")]
    pub(super) num_shards: i32,
    /// 1 for big-endian tensors.
    #[prost(int32, tag = "2")]
    pub(super) endianness: i32,
}

/// Where a tensor of a checkpoint is.
#[derive(Clone, PartialEq, Message)]
pub(super) struct BundleEntry {
    #[prost(int32, tag = "1")]
    pub(super) dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) shape: Option<Shape>,
    #[prost(int32, tag = "3")]
    pub(super) shard_id: i32,
    #[prost(int64, tag = "4")]
    pub(super) offset: i64,
    #[prost(int64, tag = "5")]
    pub(super) size: i64,
    #[prost(fixed32, tag = "6")]
    pub(super) crc32c: u32,
    /// The parts of a partitioned variable, which have entries of their own.
    #[prost(message, repeated, tag = "7")]
    pub(super) slices: Vec<Slice>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Shape {
    #[prost(message, repeated, tag = "2")]
    pub(super) dim: Vec<Dim>,
    #[prost(bool, tag = "3")]
    pub(super) unknown_rank: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Dim {
    #[prost(int64, tag = "1")]
    pub(super) size: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Slice {
    #[prost(message, repeated, tag = "1")]
    pub(super) extent: Vec<Extent>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Extent {
    #[prost(int64, tag = "1")]
    pub(super) start: i64,
    /// `None` for the whole axis.
    #[prost(int64, optional, tag = "2")]
    pub(super) length: Option<i64>,
}

/// `TrackableObjectGraph`: the objects of an object-based checkpoint.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ObjectGraph {
    #[prost(message, repeated, tag = "1")]
    pub(super) nodes: Vec<Object>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Object {
    #[prost(message, repeated, tag = "2")]
    pub(super) attributes: Vec<Saved>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Saved {
    #[prost(string, tag = "2")]
    pub(super) full_name: String,
    #[prost(string, tag = "3")]
    pub(super) checkpoint_key: String,
}

/// `SavedMetadata` of Keras.
#[derive(Clone, PartialEq, Message)]
pub(super) struct KerasMetadata {
    #[prost(message, repeated, tag = "1")]
    pub(super) nodes: Vec<KerasNode>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KerasNode {
    #[prost(string, tag = "3")]
    pub(super) path: String,
    /// JSON.
    #[prost(string, tag = "5")]
    pub(super) metadata: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SavedModel {
    #[prost(int64, tag = "1")]
    pub(super) schema_version: i64,
    #[prost(message, repeated, tag = "2")]
    pub(super) meta_graphs: Vec<MetaGraph>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MetaGraph {
    #[prost(message, optional, tag = "1")]
    pub(super) info: Option<MetaInfo>,
    #[prost(message, optional, tag = "2")]
    pub(super) graph: Option<GraphDef>,
    #[prost(btree_map = "string, message", tag = "5")]
    pub(super) signatures: BTreeMap<String, Signature>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MetaInfo {
    #[prost(string, repeated, tag = "4")]
    pub(super) tags: Vec<String>,
    #[prost(string, tag = "5")]
    pub(super) version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Signature {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) inputs: BTreeMap<String, TensorInfo>,
    #[prost(btree_map = "string, message", tag = "2")]
    pub(super) outputs: BTreeMap<String, TensorInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorInfo {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(int32, tag = "2")]
    pub(super) dtype: i32,
    #[prost(message, optional, tag = "3")]
    pub(super) shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GraphDef {
    #[prost(message, repeated, tag = "1")]
    pub(super) nodes: Vec<NodeDef>,
    #[prost(message, optional, tag = "2")]
    pub(super) library: Option<Library>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeDef {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) op: String,
    #[prost(string, repeated, tag = "3")]
    pub(super) inputs: Vec<String>,
    #[prost(btree_map = "string, message", tag = "5")]
    pub(super) attributes: BTreeMap<String, AttrValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Library {
    #[prost(message, repeated, tag = "1")]
    pub(super) functions: Vec<Function>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Function {
    #[prost(message, optional, tag = "1")]
    pub(super) signature: Option<OpDef>,
    #[prost(message, repeated, tag = "3")]
    pub(super) nodes: Vec<NodeDef>,
    /// Which value of the body each output is.
    #[prost(btree_map = "string, string", tag = "4")]
    pub(super) results: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OpDef {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) inputs: Vec<Argument>,
    #[prost(message, repeated, tag = "3")]
    pub(super) outputs: Vec<Argument>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Argument {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AttrValue {
    #[prost(oneof = "Attr", tags = "1, 2, 3, 4, 5, 6, 7, 8, 10")]
    pub(super) value: Option<Attr>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Attr {
    #[prost(message, tag = "1")]
    List(AttrList),
    #[prost(bytes, tag = "2")]
    Text(Vec<u8>),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(float, tag = "4")]
    Float(f32),
    #[prost(bool, tag = "5")]
    Bool(bool),
    #[prost(int32, tag = "6")]
    Type(i32),
    #[prost(message, tag = "7")]
    Shape(Shape),
    #[prost(message, tag = "8")]
    Tensor(Box<TensorProto>),
    #[prost(message, tag = "10")]
    Function(FunctionName),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AttrList {
    #[prost(bytes, repeated, tag = "2")]
    pub(super) texts: Vec<Vec<u8>>,
    #[prost(int64, repeated, tag = "3")]
    pub(super) ints: Vec<i64>,
    #[prost(float, repeated, tag = "4")]
    pub(super) floats: Vec<f32>,
    #[prost(bool, repeated, tag = "5")]
    pub(super) bools: Vec<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FunctionName {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorProto {
    #[prost(int32, tag = "1")]
    pub(super) dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) shape: Option<Shape>,
    #[prost(bytes, tag = "4")]
    pub(super) content: Vec<u8>,
    #[prost(float, repeated, tag = "5")]
    pub(super) floats: Vec<f32>,
    #[prost(double, repeated, tag = "6")]
    pub(super) doubles: Vec<f64>,
    /// Of all integers up to 32 bits.
    #[prost(int32, repeated, tag = "7")]
    pub(super) ints: Vec<i32>,
    #[prost(int64, repeated, tag = "10")]
    pub(super) longs: Vec<i64>,
    #[prost(bool, repeated, tag = "11")]
    pub(super) bools: Vec<bool>,
    /// Of `f16` and `bf16`: their bits.
    #[prost(int32, repeated, tag = "13")]
    pub(super) halves: Vec<i32>,
}

/// `DT_STRING`.
pub(super) const STRING: i32 = 7;

/// The element type of a `DataType`; `None` when its values are no numbers.
pub(super) fn element(dtype: i32) -> Option<Element> {
    Some(match dtype {
        1 => Element::F32,
        2 => Element::F64,
        3 => Element::I32,
        4 => Element::U8,
        5 => Element::I16,
        6 => Element::I8,
        9 => Element::I64,
        10 => Element::Bool,
        14 => Element::Bf16,
        17 => Element::U16,
        19 => Element::F16,
        22 => Element::U32,
        23 => Element::U64,
        _ => return None,
    })
}

/// The name of a `DataType`, as [`crate::tensors::GraphValue::dtype`] has it.
pub(super) fn dtype_name(dtype: i32) -> &'static str {
    match element(dtype) {
        Some(element) => element.name(),
        None if dtype == STRING => "string",
        None => "other",
    }
}
