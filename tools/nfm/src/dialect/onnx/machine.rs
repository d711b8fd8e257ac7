//! Evaluates a graph for a batch of rows, whose elements are symbols or numbers.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use super::{
    Checked,
    ops::Inputs,
    recognize::{Column, Source},
    symbols::{Algebra, Atom},
    value::Value,
};
use crate::{
    error::{Error, Result},
    tensors::{Graph, GraphValue, Node, Tensors},
};

/// How many rows a dynamic batch has: more than one, so that a score which looks at other rows is found out.
const BATCH: usize = 2;

/// The extent of an axis other than the batch's that is dynamic.
const ENTRIES: usize = 3;

/// A table, the lanes with the bits of their factors, and the bits of what is added.
type LaneSum = (usize, Vec<(usize, u64)>, u64);

/// What the operations share.
#[derive(Debug, Default)]
pub(super) struct Machine<'t> {
    pub(super) algebra: Algebra,
    /// The tables that ids look up, by the names of their values.
    pub(super) tables: IndexMap<String, Value<'t>>,
    /// Whether the element type of each input is an integer.
    pub(super) int_inputs: Vec<bool>,
    /// Rows of a table where a sum over its lanes is 0.
    pub(super) zero_rows: HashMap<LaneSum, Vec<usize>>,
}

/// A graph with its constants.
pub(super) struct Program<'t> {
    pub(super) tensors: &'t Tensors,
    pub(super) graph: &'t Graph,
    /// The nodes that the output needs.
    needed: Vec<&'t Node>,
}

impl<'t> Program<'t> {
    /// The part of the graph that its one output needs.
    pub(super) fn new(tensors: &'t Tensors, graph: &'t Graph) -> Result<Self> {
        let [output] = graph.outputs.as_slice() else {
            let problem = format!(
                "expected one output, the score, found {}: {}",
                graph.outputs.len(),
                graph.outputs.join(", ")
            );
            return Err(Error::refused(&tensors.file, "graph", problem));
        };
        let mut names = HashSet::from([output.as_str()]);
        let mut needed = Vec::new();
        // Nodes stand after the ones whose values they take.
        for node in graph.nodes.iter().rev() {
            if node.outputs.iter().any(|name| names.contains(name.as_str())) {
                names.extend(node.inputs.iter().map(String::as_str));
                needed.push(node);
            }
        }
        needed.reverse();
        Ok(Self { tensors, graph, needed })
    }

    /// Names of the file's tensors that the output needs.
    pub(super) fn used(&self) -> impl Iterator<Item = &'t str> {
        let inputs = self.needed.iter().flat_map(|node| &node.inputs);
        inputs.map(String::as_str).filter(|name| self.tensors.entries.contains_key(*name))
    }

    /// What the output is when the inputs are these.
    pub(super) fn run(&self, machine: &mut Machine<'t>, inputs: Vec<Value<'t>>) -> Result<Value<'t>> {
        let mut values: IndexMap<&str, Value<'t>> =
            self.graph.inputs.iter().map(|input| input.name.as_str()).zip(inputs).collect();
        for (at, node) in self.needed.iter().enumerate() {
            machine.algebra.node = at;
            let found = self.inputs(&values, node).and_then(|inputs| machine.node(&inputs));
            let outputs = found.map_err(|problem| self.refuse(at, problem))?;
            values.extend(node.outputs.iter().map(String::as_str).zip(outputs));
        }
        let name = self.graph.outputs.first().map_or("", String::as_str);
        self.value(&values, name).map_err(|problem| Error::refused(&self.tensors.file, "graph", problem))
    }

    fn inputs<'a>(&self, values: &IndexMap<&str, Value<'t>>, node: &'a Node) -> Checked<Inputs<'a, 't>> {
        let value =
            |name: &String| if name.is_empty() { Ok(None) } else { self.value(values, name).map(Some) };
        Ok(Inputs { node, values: node.inputs.iter().map(value).collect::<Checked<_>>()? })
    }

    fn value(&self, values: &IndexMap<&str, Value<'t>>, name: &str) -> Checked<Value<'t>> {
        if let Some(value) = values.get(name) {
            return Ok(value.clone());
        }
        let stored =
            self.tensors.entries.get_key_value(name).map(|(name, tensor)| Value::stored(name, tensor));
        stored.ok_or_else(|| format!("expected the value `{name}` from a node before it, found none"))
    }

    /// An error about a node.
    pub(super) fn refuse(&self, node: usize, problem: impl Into<String>) -> Error {
        let place = self.needed.get(node).map_or_else(
            || "graph".into(),
            |node| {
                let name = if node.name.is_empty() { node.outputs.first() } else { Some(&node.name) };
                format!("node `{}` ({})", name.map_or("", String::as_str), node.op)
            },
        );
        Error::refused(&self.tensors.file, place, problem)
    }

    /// An error about the whole graph.
    pub(super) fn whole(&self, problem: &str) -> Error {
        Error::refused(&self.tensors.file, "graph", problem)
    }

    /// Whether the number of a row's columns in an input is not fixed.
    pub(super) fn is_open(&self, input: usize) -> bool {
        self.graph.inputs.get(input).is_some_and(|input| input.shape.iter().skip(1).any(Option::is_none))
    }

    /// A column as messages name it.
    pub(super) fn column_name(&self, column: Column) -> String {
        let name = self.graph.inputs.get(column.input).map_or("", |input| input.name.as_str());
        format!("`{name}`[{}]", column.position)
    }

    /// The shape of an input, where a dynamic batch is of [`BATCH`] rows and any other dynamic axis has [`ENTRIES`].
    pub(super) fn shape(&self, input: &GraphValue) -> Result<Vec<usize>> {
        let extent = |(axis, extent): (usize, &Option<usize>)| {
            extent.unwrap_or(if axis == 0 { BATCH } else { ENTRIES })
        };
        let shape: Vec<usize> = input.shape.iter().enumerate().map(extent).collect();
        if shape.is_empty() || shape.contains(&0) || super::value::elements(&shape).is_err() {
            let problem = format!(
                "expected a shape with the batch first, found {:?}; export the model with the shapes of \
                 its inputs",
                input.shape
            );
            return Err(Error::refused(&self.tensors.file, format!("input `{}`", input.name), problem));
        }
        Ok(shape)
    }
}

impl<'t> Machine<'t> {
    pub(super) fn new(program: &Program<'_>) -> Self {
        let is_int = |input: &GraphValue| !input.dtype.starts_with('f') && !input.dtype.starts_with("bf");
        let int_inputs = program.graph.inputs.iter().map(is_int).collect();
        Self { algebra: Algebra::new(), tables: IndexMap::new(), int_inputs, zero_rows: HashMap::new() }
    }

    /// An input of the graph, each element an atom of its own.
    pub(super) fn input(&mut self, input: usize, shape: &[usize]) -> Value<'t> {
        let positions: usize = shape.iter().skip(1).product();
        let rows = shape.first().copied().unwrap_or(0);
        let places = (0..rows).flat_map(|row| (0..positions).map(move |position| (row, position)));
        let symbols = places
            .map(|(row, position)| self.algebra.variable(Atom::Input { input, row, position }))
            .collect();
        Value::symbols(shape.to_vec(), symbols, self.int_inputs[input])
    }

    /// The first id whose rows in all these tables are zeros.
    pub(super) fn zero_id(&self, sources: &[Source]) -> Option<i64> {
        let rows = sources.iter().map(|source| self.tables[source.table].shape[0]).min()?;
        let mut ids =
            (0..i64::try_from(rows).unwrap_or(i64::MAX)).map(|row| row.saturating_sub(sources[0].offset));
        ids.find(|id| sources.iter().all(|source| self.is_zero(*source, *id)))
    }

    /// Whether the row of an id is zeros.
    pub(super) fn is_zero(&self, source: Source, id: i64) -> bool {
        let table = &self.tables[source.table];
        let lanes: usize = table.shape.iter().skip(1).product();
        let row = usize::try_from(id.saturating_add(source.offset)).ok();
        row.filter(|row| *row < table.shape[0])
            .is_some_and(|row| (0..lanes).all(|lane| table.number(row * lanes + lane) == Some(0.0)))
    }
}
