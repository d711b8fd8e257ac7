//! The graph of a TensorFlow model: `MetaGraphDef` to [`Graph`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use half::{bf16, f16};
use indexmap::IndexMap;
use prost::Message;

use super::{
    element::{ByteOrder, Element, View},
    tf_messages::{
        Attr, AttrList, AttrValue, MetaGraph, NodeDef, Shape, TensorInfo, TensorProto, dtype_name, element,
    },
};
use crate::{
    error::{Error, Result},
    tensors::{Attribute, Graph, GraphValue, Node, Tensor, Values},
};

/// The graph of a `.meta` file.
pub(super) fn of_meta_file(path: &Path) -> Result<Graph> {
    let bytes = fs::read(path).map_err(|source| Error::io(path, source))?;
    let meta = MetaGraph::decode(bytes.as_slice()).map_err(|error| {
        Error::refused(
            &path.display().to_string(),
            "",
            format!("{error}; the file is cut or damaged, remove it to do without the graph"),
        )
    })?;
    Ok(of_meta_graph(meta, bytes.len()))
}

/// The graph of a message that was `len` bytes long.
pub(super) fn of_meta_graph(meta: MetaGraph, len: usize) -> Graph {
    let version = meta.info.map(|info| info.version).unwrap_or_default();
    let defs = meta.graph.unwrap_or_default().nodes;
    let signatures = meta.signatures.into_values();
    let (fed, given): (Vec<_>, Vec<_>) =
        signatures.map(|signature| (signature.inputs, signature.outputs)).unzip();
    let mut inputs: Vec<GraphValue> = fed.into_iter().flatten().map(|(_, info)| of_info(info)).collect();
    if inputs.is_empty() {
        inputs = defs.iter().filter_map(placeholder).collect();
    }
    let outputs = given.into_iter().flatten().map(|(_, info)| info.name).collect();
    let mut values = ValueNames::of(&defs);
    let mut constants = Constants { left: len.saturating_mul(64).saturating_add(1 << 20) };
    let nodes = defs.into_iter().map(|def| node(def, &mut values, &mut constants)).collect();
    Graph {
        producer: format!("TensorFlow {version}").trim_end().to_owned(),
        inputs: distinct(inputs),
        outputs,
        nodes,
    }
}

/// Each value once: signatures may share their inputs.
fn distinct(mut values: Vec<GraphValue>) -> Vec<GraphValue> {
    let mut seen = BTreeSet::new();
    values.retain(|value| !value.name.is_empty() && seen.insert(value.name.clone()));
    values
}

fn of_info(info: TensorInfo) -> GraphValue {
    GraphValue { name: info.name, shape: known(info.shape.as_ref()), dtype: dtype_name(info.dtype) }
}

fn placeholder(def: &NodeDef) -> Option<GraphValue> {
    if !["Placeholder", "PlaceholderWithDefault"].contains(&def.op.as_str()) {
        return None;
    }
    let attr = |name: &str| def.attributes.get(name).and_then(|attr| attr.value.as_ref());
    let shape = match attr("shape") {
        Some(Attr::Shape(shape)) => known(Some(shape)),
        _ => Vec::new(),
    };
    let dtype = match attr("dtype") {
        Some(Attr::Type(dtype)) => dtype_name(*dtype),
        _ => "other",
    };
    Some(GraphValue { name: format!("{}:0", def.name), shape, dtype })
}

fn known(shape: Option<&Shape>) -> Vec<Option<usize>> {
    shape
        .map(|shape| shape.dim.iter().map(|dim| usize::try_from(dim.size).ok()).collect())
        .unwrap_or_default()
}

/// The values of each node that others take, besides the first.
struct ValueNames(BTreeMap<String, BTreeSet<String>>);

impl ValueNames {
    fn of(defs: &[NodeDef]) -> Self {
        let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for input in defs.iter().flat_map(|def| &def.inputs) {
            if let Some((node, _)) = input.split_once(':') {
                names.entry(node.to_owned()).or_default().insert(input.clone());
            }
        }
        Self(names)
    }

    /// All values of a node that is asked for once.
    fn take(&mut self, node: &str) -> Vec<String> {
        let mut names = self.0.remove(node).unwrap_or_default();
        let first = format!("{node}:0");
        names.remove(&first);
        [first].into_iter().chain(names).collect()
    }
}

fn node(def: NodeDef, values: &mut ValueNames, constants: &mut Constants) -> Node {
    // `^x` orders two nodes and carries no value.
    let inputs = def.inputs.into_iter().filter(|input| !input.starts_with('^'));
    let inputs = inputs.map(|input| if input.contains(':') { input } else { format!("{input}:0") }).collect();
    let attributes = def.attributes.into_iter();
    let attributes: IndexMap<_, _> =
        attributes.filter_map(|(name, value)| Some((name, attribute(value, constants)?))).collect();
    Node { op: def.op, outputs: values.take(&def.name), name: def.name, inputs, attributes }
}

fn attribute(value: AttrValue, constants: &mut Constants) -> Option<Attribute> {
    Some(match value.value? {
        Attr::Text(text) => Attribute::Text(String::from_utf8(text).ok()?),
        Attr::Int(int) => Attribute::Int(int),
        Attr::Float(float) => Attribute::Float(float.into()),
        Attr::Bool(bool) => Attribute::Int(bool.into()),
        Attr::Type(dtype) => Attribute::Text(dtype_name(dtype).to_owned()),
        Attr::Shape(shape) if shape.unknown_rank => return None,
        Attr::Shape(shape) => Attribute::Ints(shape.dim.iter().map(|dim| dim.size).collect()),
        Attr::Tensor(tensor) => Attribute::Tensor(constants.tensor(&tensor)?),
        Attr::Function(function) => Attribute::Text(function.name),
        Attr::List(list) => of_list(list),
    })
}

fn of_list(list: AttrList) -> Attribute {
    if !list.texts.is_empty() {
        return Attribute::Texts(
            list.texts.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect(),
        );
    }
    if !list.floats.is_empty() {
        return Attribute::Floats(list.floats.into_iter().map(f64::from).collect());
    }
    let bools = list.bools.into_iter().map(i64::from);
    Attribute::Ints(list.ints.into_iter().chain(bools).collect())
}

/// Makes the constants of one graph.
struct Constants {
    /// Elements that one value may still be repeated to: a constant fill of a table takes a few bytes only.
    left: usize,
}

impl Constants {
    /// The tensor; `None` when it holds no numbers, is damaged, or is one value repeated too often.
    fn tensor(&mut self, proto: &TensorProto) -> Option<Tensor> {
        let element = element(proto.dtype)?;
        let shape = known(proto.shape.as_ref()).into_iter().collect::<Option<Vec<usize>>>()?;
        let len = shape.iter().try_fold(1_usize, |len, extent| len.checked_mul(*extent))?;
        let values = if proto.content.is_empty() {
            self.listed(proto, len)?
        } else {
            let view = View::whole(element, shape.clone(), proto.content.len() / element.bytes()).ok()?;
            view.gather(&proto.content, ByteOrder::Little).ok()?
        };
        Some(Tensor { shape, dtype: element.name(), values, storage: None })
    }

    /// Values listed one by one, of which the last is repeated to the end.
    fn listed(&mut self, proto: &TensorProto, len: usize) -> Option<Values> {
        let ints = proto.ints.iter().map(|int| i64::from(*int));
        let ints: Vec<i64> = ints
            .chain(proto.longs.iter().copied())
            .chain(proto.bools.iter().map(|bool| i64::from(*bool)))
            .collect();
        let element = element(proto.dtype)?;
        Some(match element.zeros(0) {
            Values::F32(_) if element != Element::F32 => {
                Values::F32(self.repeated(halves(element, &proto.halves)?, len)?)
            }
            Values::F32(_) => Values::F32(self.repeated(proto.floats.clone(), len)?),
            Values::F64(_) => Values::F64(self.repeated(proto.doubles.clone(), len)?),
            Values::I64(_) => Values::I64(self.repeated(ints, len)?),
        })
    }

    fn repeated<T: Copy + Default>(&mut self, mut values: Vec<T>, len: usize) -> Option<Vec<T>> {
        // TensorFlow refuses more values than elements, too.
        self.left = self.left.checked_sub(len.checked_sub(values.len())?)?;
        let last = values.last().copied().unwrap_or_default();
        values.resize(len, last);
        Some(values)
    }
}

/// Short floats from their bits.
fn halves(element: Element, bits: &[i32]) -> Option<Vec<f32>> {
    let bits = bits.iter().map(|bits| u16::try_from(*bits).ok()).collect::<Option<Vec<u16>>>()?;
    let float = |bits: u16| match element {
        Element::Bf16 => bf16::from_bits(bits).to_f32(),
        _ => f16::from_bits(bits).to_f32(),
    };
    Some(bits.into_iter().map(float).collect())
}
