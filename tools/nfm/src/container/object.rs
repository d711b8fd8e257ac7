//! What a pickle says, as inert data.
//!
//! The objects live in one flat vector and name each other by index. So shared and self-referential
//! structures cost nothing, dropping a deep one does not recurse, and memory is at most a small
//! multiple of the pickle's length.

use core::fmt;

/// The index of a [`Node`] in its [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id(u32);

impl Id {
    /// The index in [`Tree::nodes`].
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// One Python object.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond `i64`: little-endian two's complement.
    Long(Box<[u8]>),
    Float(f64),
    Text(Box<str>),
    Bytes(Box<[u8]>),
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
pub(super) struct Global {
    pub(super) module: Box<str>,
    pub(super) name: Box<str>,
}

impl fmt::Display for Global {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.module, self.name)
    }
}

/// An object that a class or a known function would have made: its maker and all that it was given.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Instance {
    /// A [`Node::Global`], in a well-formed pickle.
    pub(super) class: Id,
    /// A [`Node::Tuple`], in a well-formed pickle.
    pub(super) args: Id,
    /// What `BUILD` gave: mostly the `__dict__`.
    pub(super) state: Option<Id>,
    /// Appended items, of a subclass of `list`.
    pub(super) items: Vec<Id>,
    /// Items set by key, of a subclass of `dict`.
    pub(super) pairs: Vec<(Id, Id)>,
}

/// All objects of one pickle.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    pub(super) root: Id,
}

/// The id of `None`, of which there is one.
pub(super) const NONE: Id = Id(0);

impl Tree {
    /// A tree that holds `None` only.
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::None], root: NONE }
    }

    /// Adds an object; `None` when there are 2³² already.
    pub(super) fn add(&mut self, node: Node) -> Option<Id> {
        let id = u32::try_from(self.nodes.len()).ok()?;
        self.nodes.push(node);
        Some(Id(id))
    }

    pub(super) fn node(&self, id: Id) -> &Node {
        self.nodes.get(id.index()).unwrap_or(&Node::None)
    }

    pub(super) fn node_mut(&mut self, id: Id) -> Option<&mut Node> {
        self.nodes.get_mut(id.index())
    }

    /// The index of every object, in the order of writing.
    pub(super) fn ids(&self) -> impl Iterator<Item = Id> {
        (0..self.nodes.len()).filter_map(|at| u32::try_from(at).ok().map(Id))
    }

    /// Every object, in the order of writing.
    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn int(&self, id: Id) -> Option<i64> {
        match self.node(id) {
            Node::Int(int) => Some(*int),
            _ => None,
        }
    }

    pub(super) fn global(&self, id: Id) -> Option<&Global> {
        match self.node(id) {
            Node::Global(global) => Some(global),
            _ => None,
        }
    }

    /// The items of a tuple or a list.
    pub(super) fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple(items) => Some(items),
            Node::List(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn dict(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.node(id) {
            Node::Dict(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// The last value under the text `key`.
    pub(super) fn get(&self, pairs: &[(Id, Id)], key: &str) -> Option<Id> {
        pairs.iter().rev().find(|(k, _)| self.text(*k) == Some(key)).map(|(_, v)| *v)
    }

    /// What Python calls the type of this object.
    pub(super) fn kind(&self, id: Id) -> String {
        let kind = match self.node(id) {
            Node::None => "None",
            Node::Bool(_) => "bool",
            Node::Int(_) | Node::Long(_) => "int",
            Node::Float(_) => "float",
            Node::Text(_) => "str",
            Node::Bytes(_) => "bytes",
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
