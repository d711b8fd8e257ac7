//! From the objects of a torch pickle to named tensors: which object is the model, and what its
//! tensors are called.

use std::collections::HashSet;

use indexmap::IndexMap;

use super::{
    element::View,
    object::{Global, Id, Instance, Node, Tree},
    rebuild::{self, Source, Spec},
    strip_prefix, wrapper_prefix,
};
use crate::{
    error::{Error, Result},
    tensors::Fact,
};

/// Keys under which checkpoints keep the model beside other things, the likeliest first.
const WRAPPERS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// Keys of optimizer states, which hold no part of the model.
const OPTIMIZERS: [&str; 4] = ["optimizer", "optimizers", "optimizer_state_dict", "optimizer_states"];

/// The dicts of registered parts that every module has.
const MODULE_PARTS: [&str; 3] = ["_parameters", "_buffers", "_modules"];

/// Deeper nesting than any model has.
const MAX_DEPTH: usize = 100;

/// The tensors and facts of a pickle; the values are not read yet.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) specs: IndexMap<String, Spec>,
    /// Small tensors that are attributes of a module, which no state dict holds: facts, not tensors.
    pub(super) small: IndexMap<String, Spec>,
    pub(super) facts: IndexMap<String, Fact>,
}

/// Finds the model in `tree` and names its tensors as its `state_dict()` does.
///
/// `limit` bounds the bytes of all names and, apart from it, of all values.
pub(super) fn collect(file: &str, tree: &Tree, limit: u64) -> Result<Collected> {
    let mut collector = Collector {
        file,
        tree,
        module_states: module_states(tree),
        out: Collected { specs: IndexMap::new(), small: IndexMap::new(), facts: IndexMap::new() },
        later: Vec::new(),
        seen: vec![false; tree.nodes().len()],
        taken: HashSet::new(),
        skips_aliases: false,
        names_left: limit,
        values_left: limit,
    };
    let (model, rest) = collector.choose()?;
    collector.model(model)?;
    if collector.out.specs.is_empty() {
        let kind = tree.kind(model);
        return Err(Error::refused(
            file,
            "",
            format!("expected a state_dict or a module with parameters, found {kind} without any tensor"),
        ));
    }
    collector.skips_aliases = true;
    collector.leftovers()?;
    collector.strip_prefixes();
    for (key, value) in rest {
        collector.plain(value, &key, Place::Beside, 1)?;
        collector.leftovers()?;
    }
    Ok(collector.out)
}

/// Attributes of at most so many elements are facts.
const MAX_FACTS: usize = 4096;

/// What an object that no module registered is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A dict of the file: scalars are facts, tensors are tensors.
    Beside,
    /// An attribute of a module: a small tensor is like a list, so its elements are facts.
    Attribute,
    /// An attribute of a module with `_` before its name: only a large tensor counts.
    Private,
}

/// An object, its path and its place.
type Leftover = (Id, String, Place);

struct Collector<'a> {
    file: &'a str,
    tree: &'a Tree,
    /// The dicts that are the attributes of a module.
    module_states: HashSet<Id>,
    out: Collected,
    /// Attributes of modules that are no scalars, walked after all that is registered.
    later: Vec<Leftover>,
    /// By index, which objects are walked already.
    seen: Vec<bool>,
    /// Tensors taken already.
    taken: HashSet<(Source, View)>,
    /// Whether a further name of a tensor taken already is passed over.
    skips_aliases: bool,
    names_left: u64,
    values_left: u64,
}

impl<'a> Collector<'a> {
    /// The model, and what stands beside it.
    fn choose(&mut self) -> Result<(Id, Vec<(String, Id)>)> {
        let root = self.tree.root;
        let whole = Ok((root, Vec::new()));
        if self.module(root).is_some() {
            return whole;
        }
        let Some(pairs) = self.pairs(root) else {
            let kind = self.tree.kind(root);
            let problem = format!("expected a state_dict, a dict that holds one, or a module, found {kind}");
            return Err(Error::refused(self.file, "", problem));
        };
        let named = |key: &str| self.tree.get(pairs, key).filter(|value| self.is_model(*value));
        let chosen = WRAPPERS.iter().find_map(|key| named(key).map(|value| (*key, value)));
        let Some((chosen_key, model)) = chosen else {
            return whole;
        };
        let rest = self.entries(pairs)?.into_iter();
        let rest = rest.filter(|(key, _)| key != chosen_key && !OPTIMIZERS.contains(&key.as_str()));
        Ok((model, rest.collect()))
    }

    /// Whether this is a module or a dict with a tensor right in it.
    fn is_model(&self, id: Id) -> bool {
        let is_tensor = |id| rebuild::is_tensor(self.tree, id) || rebuild::is_array(self.tree, id);
        let holds_tensor = |pairs: &[(Id, Id)]| pairs.iter().any(|(_, v)| is_tensor(*v));
        self.module(id).is_some() || self.pairs(id).is_some_and(holds_tensor)
    }

    fn model(&mut self, id: Id) -> Result<()> {
        if self.module(id).is_some() {
            return self.walk_module(id, "", 0);
        }
        let Some(pairs) = self.pairs(id) else { return Ok(()) };
        self.is_first_visit(id);
        for (key, value) in self.entries(pairs)? {
            if !OPTIMIZERS.contains(&key.as_str()) || rebuild::is_tensor(self.tree, value) {
                self.plain(value, &key, Place::Beside, 1)?;
            }
        }
        Ok(())
    }

    fn leftovers(&mut self) -> Result<()> {
        while !self.later.is_empty() {
            let mut batch = core::mem::take(&mut self.later);
            // An object is walked once: better by its public name.
            batch.sort_by_key(|(_, _, place)| *place == Place::Private);
            for (id, path, place) in batch {
                self.plain(id, &path, place, 1)?;
            }
        }
        Ok(())
    }

    fn strip_prefixes(&mut self) {
        while let Some(prefix) = wrapper_prefix(self.out.specs.keys()) {
            strip_prefix(&mut self.out.specs, prefix);
            strip_prefix(&mut self.out.small, prefix);
            // The wrapped model's own facts take the place of the wrapper's.
            strip_prefix(&mut self.out.facts, prefix);
        }
    }

    /// Whether the object was not visited yet; it is from now on.
    fn is_first_visit(&mut self, id: Id) -> bool {
        let seen = self.seen.get_mut(id.index());
        seen.is_some_and(|seen| !core::mem::replace(seen, true))
    }

    /// The attributes of a `torch.nn.Module`.
    fn module(&self, id: Id) -> Option<(&'a Instance, &'a [(Id, Id)])> {
        let Node::Instance(instance) = self.tree.node(id) else { return None };
        let state = instance.state.filter(|state| self.module_states.contains(state))?;
        Some((instance, self.tree.dict(state)?))
    }

    /// The items of a dict, or of an object of a subclass of `dict`.
    fn pairs(&self, id: Id) -> Option<&'a [(Id, Id)]> {
        match self.tree.node(id) {
            Node::Dict(pairs) => Some(pairs),
            Node::Instance(instance) if !instance.pairs.is_empty() => Some(&instance.pairs),
            _ => None,
        }
    }

    /// The items of a dict by the text of their keys. A key written twice counts once, with the later
    /// value in the earlier place, as in Python.
    fn entries(&mut self, pairs: &[(Id, Id)]) -> Result<Vec<(String, Id)>> {
        let mut entries: IndexMap<(bool, String), Id> = IndexMap::with_capacity(pairs.len());
        for (at, (key, value)) in pairs.iter().enumerate() {
            let (is_text, key) = match self.tree.node(*key) {
                Node::Text(text) => (true, text.to_string()),
                Node::Int(int) => (false, int.to_string()),
                _ => (false, format!("#{at}")),
            };
            self.spend(key.len())?;
            entries.insert((is_text, key), *value);
        }
        Ok(entries.into_iter().map(|((_, key), value)| (key, value)).collect())
    }

    fn walk_module(&mut self, id: Id, path: &str, depth: usize) -> Result<()> {
        self.charge(path, depth)?;
        self.is_first_visit(id);
        let Some((instance, attributes)) = self.module(id) else {
            let problem = format!("expected a module, found {}", self.tree.kind(id));
            return Err(Error::refused(self.file, format!("module `{path}`"), problem));
        };
        self.class_fact(instance, path)?;
        for (name, value) in self.entries(attributes)? {
            self.attribute(&name, value, path)?;
        }
        let part = |name| self.tree.get(attributes, name).and_then(|id| self.pairs(id)).unwrap_or_default();
        let (parameters, buffers, modules) = (part("_parameters"), part("_buffers"), part("_modules"));
        let not_saved = self.tree.get(attributes, "_non_persistent_buffers_set");
        let not_saved = not_saved.and_then(|id| self.tree.sequence(id)).unwrap_or_default();
        self.spend(not_saved.len())?;
        let not_saved: HashSet<&str> = not_saved.iter().filter_map(|id| self.tree.text(*id)).collect();
        for (name, value) in self.entries(parameters)? {
            self.registered(&join(path, &name), value)?;
        }
        for (name, value) in self.entries(buffers)? {
            if !not_saved.contains(name.as_str()) {
                self.registered(&join(path, &name), value)?;
            }
        }
        for (name, value) in self.entries(modules)? {
            if *self.tree.node(value) != Node::None {
                self.walk_module(value, &join(path, &name), depth + 1)?;
            }
        }
        Ok(())
    }

    fn attribute(&mut self, name: &str, value: Id, path: &str) -> Result<()> {
        if MODULE_PARTS.contains(&name) || ["_non_persistent_buffers_set", "training"].contains(&name) {
            return Ok(());
        }
        let place = if name.starts_with('_') { Place::Private } else { Place::Attribute };
        match self.scalar(value)? {
            Some(fact) if place == Place::Attribute => self.fact(join(path, name), fact),
            Some(_) => Ok(()),
            None => {
                let path = join(path, name);
                self.charge(&path, 0)?;
                self.later.push((value, path, place));
                Ok(())
            }
        }
    }

    fn registered(&mut self, name: &str, value: Id) -> Result<()> {
        if *self.tree.node(value) == Node::None {
            return Ok(());
        }
        match rebuild::spec(self.file, name, self.tree, value)? {
            Some(spec) => self.tensor(name, spec),
            None => Err(self.refuse(name, format!("expected a tensor, found {}", self.tree.kind(value)))),
        }
    }

    /// Walks what no module registered: each object once, so that a cycle ends.
    fn plain(&mut self, id: Id, path: &str, place: Place, depth: usize) -> Result<()> {
        self.charge(path, depth)?;
        if let Some(spec) = rebuild::spec(self.file, path, self.tree, id)? {
            let is_small = spec.view.len <= MAX_FACTS;
            return match place {
                Place::Private if is_small => Ok(()),
                Place::Attribute if is_small => self.small(path, spec),
                _ => self.tensor(path, spec),
            };
        }
        if let Some(fact) = self.scalar(id)? {
            return if place == Place::Private { Ok(()) } else { self.fact(path.to_owned(), fact) };
        }
        if !self.is_first_visit(id) {
            return Ok(());
        }
        match self.tree.node(id) {
            Node::Dict(pairs) => self.plain_pairs(pairs, path, place, depth),
            Node::Tuple(items) => self.plain_items(items, path, place, depth),
            Node::List(items) => self.plain_items(items, path, place, depth),
            Node::Instance(instance) => self.plain_instance(id, instance, path, place, depth),
            _ => Ok(()),
        }
    }

    fn plain_pairs(&mut self, pairs: &[(Id, Id)], path: &str, place: Place, depth: usize) -> Result<()> {
        for (key, value) in self.entries(pairs)? {
            self.plain(value, &join(path, &key), place, depth + 1)?;
        }
        Ok(())
    }

    fn plain_items(&mut self, items: &[Id], path: &str, place: Place, depth: usize) -> Result<()> {
        for (at, item) in items.iter().enumerate() {
            self.plain(*item, &join(path, &at.to_string()), place, depth + 1)?;
        }
        Ok(())
    }

    fn plain_instance(
        &mut self,
        id: Id,
        instance: &Instance,
        path: &str,
        place: Place,
        depth: usize,
    ) -> Result<()> {
        let class = self.tree.global(instance.class);
        if class.is_some_and(|class| class.module.starts_with("torch.optim")) {
            return Ok(());
        }
        if self.module(id).is_some() {
            return self.walk_module(id, path, depth + 1);
        }
        if place != Place::Private {
            self.class_fact(instance, path)?;
        }
        for part in [Some(instance.args), instance.state].into_iter().flatten() {
            // Arguments and attributes belong to the object, so they stand right below its path.
            match self.tree.node(part) {
                Node::Tuple(items) => self.plain_items(items, path, place, depth)?,
                Node::List(items) => self.plain_items(items, path, place, depth)?,
                Node::Dict(pairs) => self.plain_pairs(pairs, path, place, depth)?,
                _ => (),
            }
        }
        self.plain_items(&instance.items, path, place, depth)?;
        self.plain_pairs(&instance.pairs, path, place, depth)
    }

    fn class_fact(&mut self, instance: &Instance, path: &str) -> Result<()> {
        match self.tree.global(instance.class) {
            Some(class) => {
                self.spend(class.module.len() + class.name.len())?;
                self.fact(join(path, "__class__"), Fact::Text(class.to_string()))
            }
            None => Ok(()),
        }
    }

    /// The value of a scalar; the name of a class or function; the text of a device.
    fn scalar(&mut self, id: Id) -> Result<Option<Fact>> {
        Ok(Some(match self.tree.node(id) {
            Node::Bool(bool) => Fact::Bool(*bool),
            Node::Int(int) => Fact::Int(*int),
            Node::Float(float) => Fact::Float(*float),
            Node::Text(text) => {
                self.spend(text.len())?;
                Fact::Text(text.to_string())
            }
            Node::Global(global) => {
                self.spend(global.module.len() + global.name.len())?;
                Fact::Text(global.to_string())
            }
            Node::Instance(instance) => {
                let class = self.tree.global(instance.class);
                return Ok(class.and_then(|class| self.known_scalar(class, instance)));
            }
            _ => return Ok(None),
        }))
    }

    fn known_scalar(&self, class: &Global, instance: &Instance) -> Option<Fact> {
        let args = self.tree.sequence(instance.args)?;
        match (&*class.module, &*class.name, args) {
            ("torch", "device", [kind]) => Some(Fact::Text(self.tree.text(*kind)?.into())),
            ("torch", "device", [kind, at]) => {
                Some(Fact::Text(format!("{}:{}", self.tree.text(*kind)?, self.tree.int(*at)?)))
            }
            ("numpy._core.multiarray", "scalar", args) => rebuild::numpy_scalar(self.tree, args),
            _ => None,
        }
    }

    fn fact(&mut self, path: String, fact: Fact) -> Result<()> {
        self.spend(path.len())?;
        self.out.facts.insert(path, fact);
        Ok(())
    }

    fn tensor(&mut self, name: &str, spec: Spec) -> Result<()> {
        if self.is_alias(&spec) {
            return Ok(());
        }
        self.pay(name, &spec)?;
        if self.out.specs.contains_key(name) {
            return Err(self.refuse(name, "two tensors have this name; rename one of them"));
        }
        self.out.specs.insert(name.to_owned(), spec);
        Ok(())
    }

    fn small(&mut self, name: &str, spec: Spec) -> Result<()> {
        if !self.is_alias(&spec) {
            self.pay(name, &spec)?;
            self.spend((name.len() + 16) * spec.view.len)?;
            self.out.small.insert(name.to_owned(), spec);
        }
        Ok(())
    }

    /// Whether this is a further name, to be passed over, of a tensor taken already.
    fn is_alias(&mut self, spec: &Spec) -> bool {
        let alias = (spec.source.clone(), spec.view.clone());
        !self.taken.insert(alias) && self.skips_aliases
    }

    /// Pays for the name and the values.
    fn pay(&mut self, name: &str, spec: &Spec) -> Result<()> {
        let Some(left) = self.values_left.checked_sub(spec.view.wide_bytes()) else {
            let problem = "the tensors up to here take far more memory than the file has bytes";
            return Err(self.refuse(name, format!("{problem}; save contiguous copies of them")));
        };
        self.values_left = left;
        self.spend(name.len())
    }

    fn refuse(&self, name: &str, problem: impl Into<String>) -> Error {
        Error::refused(self.file, format!("tensor `{name}`"), problem)
    }

    /// Pays for a visit of the object at `path`.
    fn charge(&mut self, path: &str, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            let start: String = path.chars().take(80).collect();
            let problem = format!("nested deeper than {MAX_DEPTH}; the file is hostile or damaged");
            return Err(Error::refused(self.file, format!("object `{start}…`"), problem));
        }
        self.spend(path.len())
    }

    fn spend(&mut self, bytes: usize) -> Result<()> {
        match self.names_left.checked_sub(bytes as u64 + 16) {
            Some(left) => {
                self.names_left = left;
                Ok(())
            }
            None => {
                let problem =
                    "its names take far more memory than the file has bytes; the file is hostile or damaged";
                Err(Error::refused(self.file, "", problem))
            }
        }
    }
}

/// The dicts that hold what every `torch.nn.Module` has; found in one pass, for many objects may share one.
fn module_states(tree: &Tree) -> HashSet<Id> {
    let is_state = |id: &Id| {
        let has = |pairs, name| tree.get(pairs, name).is_some();
        tree.dict(*id).is_some_and(|pairs| MODULE_PARTS.iter().all(|name| has(pairs, name)))
    };
    tree.ids().filter(is_state).collect()
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
