//! What a pickle says, as inert data.
//!
//! The objects live in one flat vector and name each other by index. So shared and self-referential
//! structures cost nothing, dropping a deep one does not recurse, and memory is at most a small
//! multiple of the pickle's length.

use core::fmt;

/// The index of a [`Node`] in its [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Id(u32);

impl Id {
    /// The index in [`Tree::nodes`].
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// One Python object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond `i64`: little-endian two's complement.
    Long(Box<[u8]>),
    Float(f64),
    Text(Box<str>),
    Bytes(Box<[u8]>),
    /// Bytes that were left where they are in the file.
    Span {
        at: u64,
        len: u64,
    },
    Tuple(Box<[Id]>),
    /// A list, a set or a frozenset.
    List(Vec<Id>),
    /// In writing order; a key written twice stands twice, and the later value counts.
    Dict(Vec<(Id, Id)>),
    Global(Box<Global>),
    Instance(Box<Instance>),
    /// What `torch.save` keeps outside of the pickle: a storage.
    Persistent(Id),
}

/// The qualified name of a class or function; nothing is imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Global {
    pub(crate) module: Box<str>,
    pub(crate) name: Box<str>,
}

impl fmt::Display for Global {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.module, self.name)
    }
}

/// An object that a class or a known function would have made: its maker and all that it was given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Instance {
    /// A [`Node::Global`], in a well-formed pickle.
    pub(crate) class: Id,
    /// A [`Node::Tuple`], in a well-formed pickle.
    pub(crate) args: Id,
    /// What `BUILD` gave: mostly the `__dict__`.
    pub(crate) state: Option<Id>,
    /// Appended items, of a subclass of `list`.
    pub(crate) items: Vec<Id>,
    /// Items set by key, of a subclass of `dict`.
    pub(crate) pairs: Vec<(Id, Id)>,
}

/// All objects of one pickle.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    pub(crate) root: Id,
}

/// The id of `None`, of which there is one.
pub(crate) const NONE: Id = Id(0);

impl Tree {
    /// A tree that holds `None` only.
    pub(crate) fn new() -> Self {
        Self { nodes: vec![Node::None], root: NONE }
    }

    /// Adds an object; `None` when there are 2³² already.
    pub(crate) fn add(&mut self, node: Node) -> Option<Id> {
        let id = u32::try_from(self.nodes.len()).ok()?;
        self.nodes.push(node);
        Some(Id(id))
    }

    pub(crate) fn node(&self, id: Id) -> &Node {
        self.nodes.get(id.index()).unwrap_or(&Node::None)
    }

    pub(crate) fn node_mut(&mut self, id: Id) -> Option<&mut Node> {
        self.nodes.get_mut(id.index())
    }

    /// The index of every object, in the order of writing.
    pub(crate) fn ids(&self) -> impl Iterator<Item = Id> {
        (0..self.nodes.len()).filter_map(|at| u32::try_from(at).ok().map(Id))
    }

    /// Every object, in the order of writing.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(crate) fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn int(&self, id: Id) -> Option<i64> {
        match self.node(id) {
            Node::Int(int) => Some(*int),
            _ => None,
        }
    }

    pub(crate) fn global(&self, id: Id) -> Option<&Global> {
        match self.node(id) {
            Node::Global(global) => Some(global),
            _ => None,
        }
    }

    /// The items of a tuple or a list.
    pub(crate) fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple(items) => Some(items),
            Node::List(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn dict(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.node(id) {
            Node::Dict(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// The last value under the text `key`.
    pub(crate) fn get(&self, pairs: &[(Id, Id)], key: &str) -> Option<Id> {
        pairs.iter().rev().find(|(k, _)| self.text(*k) == Some(key)).map(|(_, v)| *v)
    }

    /// What Python calls the type of this object.
    pub(crate) fn kind(&self, id: Id) -> String {
        let kind = match self.node(id) {
            Node::None => "None",
            Node::Bool(_) => "bool",
            Node::Int(_) | Node::Long(_) => "int",
            Node::Float(_) => "float",
            Node::Text(_) => "str",
            Node::Bytes(_) | Node::Span { .. } => "bytes",
            Node::Tuple(_) => "tuple",
            Node::List(_) => "list",
            Node::Dict(_) => "dict",
            Node::Global(global) => return format!("`{global}`"),
            Node::Instance(instance) => match self.global(instance.class) {
                Some(class) => return format!("an object of `{class}`"),
                None => "object",
            },
            Node::Persistent(_) => "storage",
        };
        kind.into()
    }
}
