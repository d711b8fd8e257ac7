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
    /// under `__class__`.
    pub facts: IndexMap<String, Fact>,
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

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A scalar that stood beside the tensors.
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

    /// The shape of tensor `name`, when there is one.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|t| t.shape.as_slice())
    }
}
