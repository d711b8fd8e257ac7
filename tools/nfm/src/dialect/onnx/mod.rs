//! ONNX graphs, whatever exported them: recognized by what they calculate, not by names.
//!
//! The graph is evaluated with symbols for its inputs ([`machine`], [`ops`], [`arithmetic`]), so that each element of a tensor is a
//! polynomial of lookups, inputs and activations ([`symbols`]): two spellings of one function are one polynomial. What the score's
//! polynomial says is then read off ([`recognize`]): the products in its lanes are the Bi-Interaction and say which columns are terms and
//! which are pooled, the activations are layers, what is left is the first order; batch norms have become part of the layers. The
//! columns become fields ([`slots`], [`fields`]), in the schema's order and with its names, or those of the inputs.
//!
//! The model is then compared with the graph, evaluated in numbers, on drawn rows ([`check`]).

#[expect(clippy::float_cmp, reason = "a coefficient of 1 or 0 is exact")]
mod arithmetic;
mod assemble;
mod check;
mod fields;
mod machine;
#[expect(clippy::float_cmp, reason = "a coefficient of 1 or 0 is exact")]
mod ops;
#[expect(clippy::float_cmp, reason = "a coefficient of 1 or 0 is exact")]
mod recognize;
mod slots;
mod symbols;
#[cfg(test)]
mod tests;
mod value;

use self::{
    fields::{Matcher, Part, Table},
    machine::{Machine, Program},
    recognize::{Reader, Structure},
    symbols::Function,
};
use super::{Dialect, Hints, draft::Draft};
use crate::{
    error::{Error, Result},
    float_model::{Activation, FloatModel, Link},
    schema::Task,
    tensors::{Tensors, Values},
};

/// A result whose error says what was expected and what was found; the place is the caller's.
type Checked<T> = core::result::Result<T, String>;

pub(super) const DIALECT: Dialect =
    Dialect { name: "onnx", about: "any NFM as an ONNX graph", recognizes: is_graph, import };

/// Whether it is a graph of ONNX, whose names say nothing.
pub(super) fn is_graph(tensors: &Tensors) -> bool {
    tensors.container == "ONNX" && tensors.graph.is_some()
}

/// What is known before any weight is taken.
struct Found {
    structure: Structure,
    parts: Vec<Part>,
    tables: Vec<Table>,
    drawn: check::Drawn,
    notes: Vec<String>,
    most_active: Option<u16>,
    /// Tensors of the file that take part in the score.
    used: Vec<String>,
}

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let Found { structure, parts, tables, drawn, notes, most_active, used } = find(tensors, hints)?;
    check_hints(&tensors.file, hints, &structure)?;
    let file = tensors.file.clone();
    let hints = Hints { max_active: hints.said_max_active().or(most_active), ..hints.clone() };
    let mut draft = Draft::new(tensors, &hints);
    notes.into_iter().for_each(|note| draft.assume(note));
    if hints.said_bn_eps().is_some() {
        draft.assume("the graph has its own eps of batch norms, and the one that was said is not used");
    }
    assemble::stages(&mut draft, &structure, &parts);
    let rows = assemble::rows(&mut draft, &parts, &tables, &structure)?;
    claim(&mut draft, &used);
    let link = link(&structure);
    if link == Link::Sigmoid {
        draft.know_task(Task::Binary);
    }
    let fields = parts.into_iter().map(|part| part.field).collect();
    let dim = structure.lanes.len();
    let mut model = draft.finish(DIALECT.name, fields, dim, rows, ("", Task::Regression))?;
    match (model.link, link) {
        (Link::Identity, Link::Clip { .. }) => model.link = link,
        (said, found) if found != Link::Identity && said != found => {
            let problem =
                format!("the graph ends in {}, which is not of that task; leave it out", found.name());
            return Err(Error::refused(&file, "task", problem));
        }
        _ => {}
    }
    model.check(&file)?;
    drawn.compare(&model, link, &file)?;
    Ok(model)
}

/// What the graph makes of the score.
fn link(structure: &Structure) -> Link {
    match structure.link {
        Some(Function::Clip(min, max)) => Link::Clip { min: f64::from_bits(min), max: f64::from_bits(max) },
        Some(_) => Link::Sigmoid,
        None => Link::Identity,
    }
}

/// Takes the tensors that the graph has made its own use of; others are no part of the score.
fn claim(draft: &mut Draft<'_>, used: &[String]) {
    let left: Vec<String> = draft.tensors.entries.keys().cloned().collect();
    for name in left {
        if used.contains(&name) {
            draft.tensors.entries.shift_remove(&name);
        } else {
            draft.skip(&name);
        }
    }
}

/// Reads the graph.
fn find(tensors: &Tensors, hints: &Hints) -> Result<Found> {
    let Some(graph) = &tensors.graph else {
        return Err(Error::refused(&tensors.file, "", "expected a graph of operations, found weights alone"));
    };
    let program = Program::new(tensors, graph)?;
    let used: Vec<String> = program.used().map(str::to_owned).collect();
    check_finite(tensors, &used)?;
    let mut machine = Machine::new(&program);
    let inputs = graph.inputs.iter().enumerate();
    let inputs = inputs
        .map(|(at, input)| Ok(machine.input(at, &program.shape(input)?)))
        .collect::<Result<Vec<_>>>()?;
    let batch = inputs.iter().map(|input| input.shape[0]).min().unwrap_or(0);
    let output = program.run(&mut machine, inputs)?;
    if output.len() != batch || batch == 0 || output.is_constant() {
        let problem =
            format!("expected one score a row, found the shape {:?} for {batch} rows", output.shape);
        return Err(program.whole(&problem));
    }
    let structure = Reader::new(&program, &machine).structure(&output.symbol(0))?;
    let slots = slots::slots(&structure, &machine).map_err(|problem| program.whole(&problem))?;
    let tables: Vec<Table> = machine
        .tables
        .iter()
        .map(|(name, value)| {
            let numbers = if value.stored_name().is_some() { None } else { value.all() };
            Table { name: name.clone(), shape: value.shape.clone(), numbers }
        })
        .collect();
    let mut notes = Vec::new();
    let matcher = Matcher { program: &program, tables: &tables, structure: &structure };
    let parts = matcher.parts(slots, hints, &mut notes)?;
    let most_active = matcher.most_active(&parts);
    let drawn = check::draw(&program, &parts)?;
    Ok(Found { structure, parts, tables, drawn, notes, most_active, used })
}

/// Refuses weights that are no numbers.
fn check_finite(tensors: &Tensors, used: &[String]) -> Result<()> {
    for name in used {
        let Some(tensor) = tensors.entries.get(name) else { continue };
        let at = match &tensor.values {
            Values::F32(values) => values.iter().position(|value| !value.is_finite()),
            Values::F64(values) => values.iter().position(|value| !value.is_finite()),
            Values::I64(_) => None,
        };
        // A single one may be the end of a range.
        if let Some(at) = at.filter(|_| tensor.values.len() > 1) {
            return Err(tensors
                .refuse(name, format!("element {at} of {} is not a finite number", tensor.values.len())));
        }
    }
    Ok(())
}

/// Refuses an activation that the graph contradicts.
fn check_hints(file: &str, hints: &Hints, structure: &Structure) -> Result<()> {
    let said = hints.said(hints.activation.clone(), |schema| schema.activation.clone());
    let Some(said) = said else { return Ok(()) };
    let differs = |found: &Activation| {
        let is_leaky =
            |activation: &Activation| matches!(activation, Activation::LeakyRelu(_) | Activation::PRelu(_));
        Activation::by_name(&said).is_none_or(|said| {
            std::mem::discriminant(&said) != std::mem::discriminant(found)
                && !(is_leaky(&said) && is_leaky(found))
        })
    };
    match structure.layers.iter().find(|(found, _)| differs(found)) {
        Some((found, _)) => {
            let problem = format!("`{said}` was said, the graph's is {}; leave it out", found.name());
            Err(Error::refused(file, "hidden activation", problem))
        }
        None => Ok(()),
    }
}
