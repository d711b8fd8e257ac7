//! Compares a recognized model with its graph on drawn rows, so that no graph is taken for what it is not.

use super::{
    fields::Part,
    machine::{Machine, Program},
    recognize::Column,
    slots::{Kind, Several},
    value::{Value, elements, of_i64},
};
use crate::{
    error::Result,
    float_model::{FloatModel, Link},
    rows::{Row, Run},
    schema::{FieldKind, Pooling},
    synthetic::Random,
};

/// How many rows are drawn.
const ROWS: usize = 8;

/// How far apart the two scores may be.
const TOLERANCE: f64 = 1e-5;

/// Rows, and what the graph gives for them.
pub(super) struct Drawn {
    rows: Vec<Row>,
    outputs: Vec<f64>,
}

/// Draws rows and evaluates the graph on them, in numbers.
pub(super) fn draw(program: &Program<'_>, parts: &[Part]) -> Result<Drawn> {
    let mut random = Random::new(1);
    let shapes = program.graph.inputs.iter().map(|input| program.shape(input)).collect::<Result<Vec<_>>>()?;
    let mut drawn = Drawn { rows: Vec::new(), outputs: Vec::new() };
    while drawn.rows.len() < ROWS {
        let sizes = shapes.iter().map(|shape| elements(shape)).collect::<core::result::Result<Vec<_>, _>>();
        let sizes = sizes.map_err(|problem| program.whole(&problem))?;
        let mut inputs: Vec<Vec<f64>> = sizes.into_iter().map(|size| vec![0.0; size]).collect();
        let batch = shapes.iter().map(|shape| shape[0]).min().unwrap_or(1);
        for at in 0..batch {
            let mut feed = |column: Column, number: f64| {
                let rows = shapes[column.input][0];
                let width = inputs[column.input].len() / rows;
                inputs[column.input][at * width + column.position] = number;
            };
            drawn.rows.push(row(parts, &mut random, &mut feed));
        }
        let mut machine = Machine::new(program);
        let values = inputs.into_iter().zip(&shapes).enumerate();
        let values = values.map(|(input, (numbers, shape))| {
            Value::numbers(shape.clone(), numbers, machine.int_inputs[input])
        });
        let values = values.collect();
        let output = program.run(&mut machine, values)?;
        let numbers = output.all().filter(|numbers| numbers.len() == batch);
        drawn
            .outputs
            .extend(numbers.ok_or_else(|| program.whole("expected one score for each row of numbers"))?);
    }
    Ok(drawn)
}

/// A row of the model; what the graph takes for it goes to `feed`.
fn row(parts: &[Part], random: &mut Random, feed: &mut impl FnMut(Column, f64)) -> Row {
    let mut row = Row::default();
    let mut values = Vec::new();
    for part in parts {
        let start = row.ids.len();
        let columns = &part.slot.columns;
        match &part.slot.kind {
            Kind::Dense => {
                let number = random.unit();
                row.dense.push(number);
                columns.iter().for_each(|column| feed(*column, number));
            }
            Kind::Scaled => {
                row.ids.push(part.field.first);
                values.push(random.unit());
                columns.iter().for_each(|column| feed(*column, values[start]));
            }
            Kind::One => entries(part, 1, &Several::default(), random, feed, (&mut row, &mut values)),
            Kind::Many(several) => {
                let is_open = several.padding.is_some() || several.values.len() == columns.len();
                let count = if is_open { count(random, columns.len(), 0) } else { columns.len() };
                entries(part, count, several, random, feed, (&mut row, &mut values));
            }
            Kind::Sequence(several, pooling) => {
                let is_open = several.padding.is_some() || several.length.is_some();
                let least = usize::from(*pooling == Pooling::Max);
                let count = if is_open { count(random, columns.len(), least) } else { columns.len() };
                entries(part, count, several, random, feed, (&mut row, &mut values));
                let FieldKind::Sequence(sequence) = part.field.kind else { continue };
                let run = Run {
                    start,
                    len: count,
                    pooling: sequence.pooling,
                    linear: sequence.linear,
                    is_sequence: true,
                };
                row.sequences.push(run);
            }
        }
    }
    row.values = Some(values);
    row
}

/// A number of entries.
fn count(random: &mut Random, most: usize, least: usize) -> usize {
    let choices = u32::try_from(most + 1 - least).unwrap_or(1).max(1);
    least + random.below(choices) as usize
}

/// Draws the entries of a field.
fn entries(
    part: &Part,
    count: usize,
    several: &Several,
    random: &mut Random,
    feed: &mut impl FnMut(Column, f64),
    (row, values): (&mut Row, &mut Vec<f64>),
) {
    let rows = part.field.kind.rows().max(1);
    if let Some(length) = several.length {
        feed(length, of_i64(i64::try_from(count).unwrap_or(0)));
    }
    for (at, column) in part.slot.columns.iter().enumerate() {
        let padding = several.padding.unwrap_or(0);
        if at >= count {
            feed(*column, of_i64(padding));
            continue;
        }
        let mut id = random.below(rows);
        if several.padding == Some(i64::from(id)) {
            id = (id + 1) % rows;
        }
        let value = several.values.get(at).map_or(1.0, |column| {
            let value = random.unit();
            feed(*column, value);
            value
        });
        feed(*column, f64::from(id) + f64::from(part.base));
        row.ids.push(part.field.first + id);
        values.push(value);
    }
}

impl Drawn {
    /// Whether the model gives what the graph gives.
    pub(super) fn compare(&self, model: &FloatModel, link: Link, file: &str) -> Result<()> {
        for (at, (row, output)) in self.rows.iter().zip(&self.outputs).enumerate() {
            let score = model.score(row);
            let (got, want) = match link {
                // Where it is not saturated, the raw score is what tells.
                Link::Sigmoid if score.abs() < 20.0 => (score, (output / (1.0 - output)).ln()),
                link => (link.apply(score), *output),
            };
            // Without an ε, or a least of 1, the mean of no entry is not defined in the graph.
            if want.is_nan() && row.sequences.iter().any(|run| run.len == 0) {
                continue;
            }
            let is_close = (got - want).abs() <= TOLERANCE * want.abs().max(1.0);
            // NaN is not.
            if !is_close {
                let problem = format!(
                    "expected the score of the graph, {want}, of drawn row {at}, found {got}: the graph is no Neural Factorization \
                     Machine as this program understands it; please report it"
                );
                return Err(crate::error::Error::refused(file, "graph", problem));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic;

    #[test]
    fn a_model_that_differs_from_its_graph_is_refused() {
        let model =
            synthetic::model(synthetic::Shape { name: "c", fields: &[2, 3], dim: 2, hidden: &[2] }, 1);
        let rows = synthetic::rows(&model, 3, 2);
        let scores: Vec<f64> = rows.iter().map(|row| model.score(row)).collect();
        let compare = |link: Link, output: &dyn Fn(f64) -> f64| {
            let outputs = scores.iter().map(|score| output(*score)).collect();
            Drawn { rows: rows.clone(), outputs }.compare(&model, link, "m.onnx")
        };
        compare(Link::Identity, &|score| score).unwrap();
        compare(Link::Sigmoid, &|score| Link::Sigmoid.apply(score)).unwrap();
        compare(Link::Identity, &|score| score + 1e-3).unwrap_err();
        compare(Link::Sigmoid, &|score| Link::Sigmoid.apply(score + 1e-3)).unwrap_err();
        compare(Link::Identity, &|_| f64::NAN).unwrap_err();
    }
}
