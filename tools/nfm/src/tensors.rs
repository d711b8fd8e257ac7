//! What a container reader gives and a dialect takes: named tensors and named facts, in the file's order.

use indexmap::IndexMap;

use crate::error::{Error, Result};

/// The named tensors of one checkpoint, and the scalar facts that stood beside them.
///
/// A container reader fills it and knows nothing of models; a dialect empties it and knows nothing of files.
#[derive(Debug, Clone, Default)]
pub struct Tensors {
    /// The file, as the user named it; every message about a tensor starts with it.
    pub file: String,
    /// The container's name as `nfm inspect` shows it, for example `torch zip`.
    pub container: &'static str,
    /// Tensors by name, in the file's order.
    pub entries: IndexMap<String, Tensor>,
    /// Scalars that stood beside the tensors, by dotted path: `config.bn_eps`, `FM_layers.0.eps`, `epoch`.
    ///
    /// For an object of a pickled whole model its class stands under `<path>.__class__`, the model's own
    /// under `__class__`. Keras keeps its model as JSON under `model_config`.
    pub facts: IndexMap<String, Fact>,
    /// The graph of operations, where the container holds one.
    pub graph: Option<Graph>,
}

/// The operations that a container holds beside the tensors, in its framework's own words.
///
/// A value is named by text: by the graph's own name of it, or `<node>:<output>` in TensorFlow, where nodes
/// have names and values have not. A value of a node's `inputs` is another node's output, one of
/// [`Graph::inputs`], or a tensor of [`Tensors::entries`]; empty for an input that is left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Graph {
    /// What wrote the file, with its version.
    pub producer: String,
    /// What the user feeds, in the container's order.
    pub inputs: Vec<GraphValue>,
    /// The values that the user gets; empty when the container does not say.
    pub outputs: Vec<String>,
    /// The operations, in the file's order.
    pub nodes: Vec<Node>,
}

/// A value that the user feeds.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphValue {
    /// Its name.
    pub name: String,
    /// Extents, outermost first, `None` where the batch or the row decides; empty when nothing is known.
    pub shape: Vec<Option<usize>>,
    /// The element type, as in [`Tensor::dtype`]; `string` for text, `other` for anything else.
    pub dtype: &'static str,
}

/// One operation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// The operation: `MatMul`; with its domain, `com.microsoft::Gelu`, when that is not the format's own.
    pub op: String,
    /// The node's name; may be empty.
    pub name: String,
    /// The values that it takes.
    pub inputs: Vec<String>,
    /// The values that it gives.
    pub outputs: Vec<String>,
    /// Its attributes by name.
    pub attributes: IndexMap<String, Attribute>,
}

/// An attribute of a [`Node`].
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// An integer, or a boolean as 0 or 1.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string; the name of a type or of a function.
    Text(String),
    /// Integers, booleans as 0 or 1, or a shape with -1 for an extent that is not known.
    Ints(Vec<i64>),
    /// Floats.
    Floats(Vec<f64>),
    /// Strings.
    Texts(Vec<String>),
    /// A constant.
    Tensor(Tensor),
}

/// One tensor, widened to `f32` where it was a shorter float, row-major and contiguous.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The element type that the file holds, as its container spells it (`f32`, `bf16`, `i64` …).
    pub dtype: &'static str,
    /// `product(shape)` values.
    pub values: Values,
    /// Which storage of the file, and where in it: equal for two names of one tensor. `None` when the
    /// container cannot share.
    pub storage: Option<(String, usize)>,
}

/// The values of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// `f32`, `f16` and `bf16` files.
    F32(Vec<f32>),
    /// `f64` files.
    F64(Vec<f64>),
    /// Integer and boolean files.
    I64(Vec<i64>),
}

impl Values {
    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::I64(v) => v.len(),
        }
    }

    /// Copies `from` over the values that start at `at`; `None` when they are of another type or too few.
    pub(crate) fn copy_at(&mut self, at: usize, from: &Self) -> Option<()> {
        fn copy<T: Copy>(to: &mut [T], at: usize, from: &[T]) -> Option<()> {
            to.get_mut(at..at.checked_add(from.len())?)?.copy_from_slice(from);
            Some(())
        }
        match (self, from) {
            (Self::F32(to), Self::F32(from)) => copy(to, at, from),
            (Self::F64(to), Self::F64(from)) => copy(to, at, from),
            (Self::I64(to), Self::I64(from)) => copy(to, at, from),
            _ => None,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A scalar, or a configuration, that stood beside the tensors.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string, or the qualified name of a class.
    Text(String),
    /// A configuration that the container keeps as JSON.
    Json(serde_json::Value),
}

impl Tensors {
    /// An error about tensor `name`, with the file's name before it.
    #[must_use]
    pub fn refuse(&self, name: &str, problem: impl Into<String>) -> Error {
        Error::refused(&self.file, format!("tensor `{name}`"), problem)
    }

    /// Takes the float tensor `name` of exactly this `shape` out, as `f64`.
    ///
    /// # Errors
    ///
    /// When it is missing, of another shape, not of a float type, or holds a value that is not finite.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        let Some(tensor) = self.entries.get(name) else {
            return Err(self.refuse(name, format!("missing; expected one of shape {shape:?}")));
        };
        if tensor.shape != shape {
            return Err(self.refuse(name, format!("expected {shape:?}, found {:?}", tensor.shape)));
        }
        if let Values::I64(_) = tensor.values {
            return Err(self.refuse(name, format!("expected floats, found {}", tensor.dtype)));
        }
        let values: Vec<f64> = match self.entries.shift_remove(name).map(|t| t.values) {
            Some(Values::F32(v)) => v.into_iter().map(f64::from).collect(),
            Some(Values::F64(v)) => v,
            Some(Values::I64(_)) | None => Vec::new(),
        };
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            let problem = format!("element {at} of {} is {}, not a finite number", values.len(), values[at]);
            return Err(self.refuse(name, problem));
        }
        Ok(values)
    }

    /// As [`Tensors::take`], but as `f32`: for the tables, which are large and are `f32` in every known trainer.
    ///
    /// # Errors
    ///
    /// As [`Tensors::take`], and when a value is beyond the range of `f32`.
    pub fn take_f32(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        if let Some(Tensor { shape: found, values: Values::F32(values), .. }) = self.entries.get(name)
            && found == shape
            && values.iter().all(|v| v.is_finite())
        {
            return match self.entries.shift_remove(name).map(|t| t.values) {
                Some(Values::F32(values)) => Ok(values),
                _ => Ok(Vec::new()),
            };
        }
        let values = self.take(name, shape)?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounding to the nearest f32 is what is asked for"
        )]
        let narrow: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        match narrow.iter().position(|v| !v.is_finite()) {
            Some(at) => {
                Err(self.refuse(name, format!("element {at} is {}, beyond the range of f32", values[at])))
            }
            None => Ok(narrow),
        }
    }

    /// The first extent of tensor `name`; 0 where it has none, or there is no such tensor.
    #[must_use]
    pub fn rows(&self, name: &str) -> usize {
        self.shape(name).and_then(|shape| shape.first().copied()).unwrap_or(0)
    }

    /// The shape of tensor `name`, when there is one.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|t| t.shape.as_slice())
    }
}
