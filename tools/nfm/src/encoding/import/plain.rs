//! Values of Python and of JSON, in one form.

use std::cell::Cell;

use crate::{
    container::{
        object::{Global, Id, Node, Tree},
        rebuild::{Elements, elements_of, numpy_scalar},
    },
    error::{Error, Result},
    tensors::{Fact, Values},
};

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Plain {
    /// `None`, `null`.
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// A list, a tuple, a set, an array.
    List(Vec<Plain>),
    /// A dict, in its order; a key written twice stands twice, and the later value counts.
    Map(Vec<(Plain, Plain)>),
    /// An object of a class, or a function: only a pickle has them.
    Object(Id),
}

impl Plain {
    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Object(_) => "an object",
        }
    }

    pub(super) fn number(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "Python divides by it as a float, too")]
            Self::Int(int) => Some(*int as f64),
            Self::Float(float) => Some(*float),
            _ => None,
        }
    }

    /// An id; scikit-learn has whole floats for it, too.
    pub(super) fn id(&self) -> Option<u32> {
        match self {
            Self::Int(int) => u32::try_from(*int).ok(),
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "was just checked")]
            Self::Float(float) => {
                (float.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(float)).then_some(*float as u32)
            }
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn map(&self) -> Option<&[(Self, Self)]> {
        match self {
            Self::Map(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// The value under a key of a map.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        get(self.map()?, key)
    }

    /// Whether it stands for a value that is not there.
    pub(super) fn is_missing(&self) -> bool {
        match self {
            Self::None => true,
            Self::Float(float) => float.is_nan(),
            _ => false,
        }
    }

    /// Of JSON.
    pub(super) fn of_json(json: serde_json::Value) -> Self {
        use serde_json::Value;
        match json {
            Value::Null => Self::None,
            Value::Bool(bool) => Self::Bool(bool),
            Value::Number(number) => {
                number.as_i64().map_or_else(|| Self::Float(number.as_f64().unwrap_or(f64::NAN)), Self::Int)
            }
            Value::String(text) => Self::Text(text),
            Value::Array(items) => Self::List(items.into_iter().map(Self::of_json).collect()),
            Value::Object(pairs) => Self::Map(
                pairs.into_iter().map(|(key, value)| (Self::Text(key), Self::of_json(value))).collect(),
            ),
        }
    }
}

/// The value under a key of a map.
pub(super) fn get<'a>(pairs: &'a [(Plain, Plain)], key: &str) -> Option<&'a Plain> {
    pairs.iter().rev().find(|(k, _)| k.text() == Some(key)).map(|(_, value)| value)
}

/// The bytes that all values of a file may take: a pickle can name one again and again.
const MAX_BYTES: usize = 256 << 20;
/// Deeper nesting than any encoder has.
const MAX_DEPTH: usize = 8;

/// The objects of a pickle.
pub(super) struct Python<'a> {
    file: &'a str,
    tree: &'a Tree,
    /// How many bytes may still be taken.
    left: Cell<usize>,
}

impl<'a> Python<'a> {
    pub(super) fn new(file: &'a str, tree: &'a Tree) -> Self {
        Self { file, tree, left: Cell::new(MAX_BYTES) }
    }

    /// The value of an object; a tuple, a set and a numpy array are lists.
    pub(super) fn plain(&self, id: Id) -> Result<Plain> {
        self.plain_at(id, 0)
    }

    fn plain_at(&self, id: Id, depth: usize) -> Result<Plain> {
        if depth > MAX_DEPTH {
            return Err(self.refuse("", format!("nested deeper than {MAX_DEPTH}; no encoder is")));
        }
        self.charge(size_of::<Plain>())?;
        let list = |items: &[Id]| {
            let items: Result<Vec<Plain>> =
                items.iter().map(|item| self.plain_at(*item, depth + 1)).collect();
            items.map(Plain::List)
        };
        Ok(match self.tree.node(id) {
            Node::None => Plain::None,
            Node::Bool(bool) => Plain::Bool(*bool),
            Node::Int(int) => Plain::Int(*int),
            Node::Float(float) => Plain::Float(*float),
            Node::Text(text) => {
                self.charge(text.len())?;
                Plain::Text(text.to_string())
            }
            Node::Tuple(items) => list(items)?,
            Node::List(items) => list(items)?,
            Node::Dict(pairs) => {
                let pair = |(key, value): &(Id, Id)| {
                    Ok((self.plain_at(*key, depth + 1)?, self.plain_at(*value, depth + 1)?))
                };
                Plain::Map(pairs.iter().map(pair).collect::<Result<_>>()?)
            }
            Node::Instance(_) => self.instance(id, depth)?,
            Node::Global(_) | Node::Bytes(_) | Node::Span { .. } | Node::Long(_) | Node::Persistent(_) => {
                Plain::Object(id)
            }
        })
    }

    /// A numpy array, a numpy scalar, or any other object.
    fn instance(&self, id: Id, depth: usize) -> Result<Plain> {
        if let Some(scalar) = self.numpy_scalar(id) {
            return Ok(scalar);
        }
        let Some(elements) = elements_of(self.tree, id).map_err(|problem| self.refuse("", problem))? else {
            return Ok(Plain::Object(id));
        };
        let items: Vec<Plain> = match elements {
            Elements::Bools(bools) => bools.into_iter().map(Plain::Bool).collect(),
            Elements::Numbers(Values::I64(ints)) => ints.into_iter().map(Plain::Int).collect(),
            Elements::Numbers(Values::F64(floats)) => floats.into_iter().map(Plain::Float).collect(),
            Elements::Numbers(Values::F32(floats)) => {
                floats.into_iter().map(|float| Plain::Float(float.into())).collect()
            }
            Elements::Texts(texts) => texts.into_iter().map(Plain::Text).collect(),
            Elements::Objects(ids) => {
                ids.into_iter().map(|id| self.plain_at(id, depth + 1)).collect::<Result<_>>()?
            }
        };
        self.charge(items.len().saturating_mul(size_of::<Plain>()))?;
        Ok(Plain::List(items))
    }

    fn numpy_scalar(&self, id: Id) -> Option<Plain> {
        let class = self.class(id)?;
        if (&*class.module, &*class.name) != ("numpy._core.multiarray", "scalar") {
            return None;
        }
        let args = self.arguments(id);
        Some(match numpy_scalar(self.tree, args)? {
            Fact::Bool(bool) => Plain::Bool(bool),
            Fact::Int(int) => Plain::Int(int),
            Fact::Float(float) => Plain::Float(float),
            Fact::Text(text) => Plain::Text(text),
            _ => return None,
        })
    }

    /// The class of an object, or the name of a function.
    pub(super) fn class(&self, id: Id) -> Option<&'a Global> {
        match self.tree.node(id) {
            Node::Instance(instance) => self.tree.global(instance.class),
            Node::Global(global) => Some(global),
            _ => None,
        }
    }

    /// What a class or a function was called with.
    pub(super) fn arguments(&self, id: Id) -> &'a [Id] {
        match self.tree.node(id) {
            Node::Instance(instance) => self.tree.sequence(instance.args).unwrap_or_default(),
            _ => &[],
        }
    }

    /// An attribute of an object.
    pub(super) fn attribute(&self, id: Id, name: &str) -> Option<Id> {
        let Node::Instance(instance) = self.tree.node(id) else { return None };
        let state = instance.state?;
        // With slots, the state is a pair.
        let state = self.tree.sequence(state).and_then(|parts| parts.first().copied()).unwrap_or(state);
        self.tree.get(self.tree.dict(state)?, name)
    }

    /// The value of an attribute; `None` where there is none.
    pub(super) fn value(&self, id: Id, name: &str) -> Result<Plain> {
        self.attribute(id, name).map_or(Ok(Plain::None), |id| self.plain(id))
    }

    /// What Python calls the type of an object.
    pub(super) fn kind(&self, id: Id) -> String {
        self.tree.kind(id)
    }

    pub(super) fn refuse(&self, place: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::refused(self.file, place, problem)
    }

    fn charge(&self, bytes: usize) -> Result<()> {
        match self.left.get().checked_sub(bytes) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                Err(self.refuse("", "its values take more than 256 MB; the file is hostile, or no encoder"))
            }
        }
    }
}
