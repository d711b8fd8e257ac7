//! Ranges of everything that quantization must give a scale: seen on rows, or bounded by the weights.

use crate::{
    float_model::{Activation, FloatModel},
    fold::Folded,
    rows::Row,
    schema::{FieldKind, Pooling},
};

/// The largest magnitude of every quantity between the stages.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranges {
    /// z before batch norm, `[dim]`.
    pub z: Vec<f64>,
    /// The dense inputs, `[dense inputs]`.
    pub dense: Vec<f64>,
    /// The sums before each hidden layer's activation, `[layers][out]`.
    pub sums: Vec<Vec<f64>>,
    /// The raw score; `None` when no row was seen.
    pub score: Option<f64>,
    /// The most active entries.
    pub active: usize,
    /// The largest magnitude of a value.
    pub value: f64,
    /// How often each row of the tables was looked up, `[rows]`; empty for bounds.
    pub counts: Vec<u32>,
    /// How many rows were seen; 0 for bounds.
    pub rows: usize,
}

/// Magnitude that a dense input is assumed to have when no row was seen.
pub const DENSE_BOUND: f64 = 16.0;

/// Largest magnitudes that any legal row can give, by the weights alone.
///
/// A lane of z is at most the sum of M · M′ over pairs of fields, with M the largest term of the lane in a field, for
/// a model whose fields bound their entries; for any other, N(N−1)/2 · M² with M over all rows, because all N entries may
/// come from one field. A layer's sum is at most |b| + Σ |w| · bound of its input. Only the dense inputs have no bound by the weights: theirs is [`DENSE_BOUND`].
#[must_use]
pub fn bounds(model: &FloatModel, folded: &Folded) -> Ranges {
    let factors = factors(model);
    let z: Vec<f64> = (0..model.dim).map(|lane| z_bound(model, factors.as_deref(), lane)).collect();
    let dense = vec![DENSE_BOUND; model.dense_linear.len()];
    let mut input: Vec<f64> = z.iter().chain(&dense).copied().collect();
    let mut sums = Vec::new();
    for layer in &folded.layers {
        let rows = layer.dense.weights.chunks_exact(input.len()).zip(&layer.dense.bias);
        let layer_sums: Vec<f64> = rows
            .map(|(w, b)| b.abs() + w.iter().zip(&input).map(|(w, x)| w.abs() * x).sum::<f64>())
            .collect();
        input =
            layer_sums.iter().enumerate().map(|(lane, sum)| largest(&layer.activation, lane, *sum)).collect();
        sums.push(layer_sums);
    }
    Ranges { z, dense, sums, score: None, active: 0, value: 0.0, counts: Vec::new(), rows: 0 }
}

fn z_bound(model: &FloatModel, factors: Option<&[f64]>, lane: usize) -> f64 {
    let largest = |first: usize, rows: usize| {
        let rows = model.embeddings[first * model.dim..(first + rows) * model.dim].chunks_exact(model.dim);
        rows.map(|row| f64::from(row[lane].abs())).fold(0.0, f64::max)
    };
    let Some(factors) = factors else {
        let active = f64::from(model.max_active);
        let all = largest(0, model.rows()) * model.max_value;
        return 0.5 * active * (active - 1.0) * all * all;
    };
    let terms = model.fields.iter().zip(factors);
    let terms =
        terms.map(|(field, factor)| factor * largest(field.first as usize, field.kind.rows() as usize));
    let (sum, squares) = terms.fold((0.0, 0.0), |(sum, squares), e| (sum + e, squares + e * e));
    0.5 * (sum * sum - squares)
}

/// How much larger than an embedding a field's term can be; `None` when entries are not bound to fields.
fn factors(model: &FloatModel) -> Option<Vec<f64>> {
    let mut active = 0;
    let factors: Option<Vec<f64>> = model
        .fields
        .iter()
        .map(|field| match field.kind {
            FieldKind::Dense => Some(0.0),
            FieldKind::Id { .. } => {
                active += 1;
                Some(1.0)
            }
            FieldKind::Scaled => {
                active += 1;
                Some(model.max_value)
            }
            FieldKind::Ids { .. } => None,
            FieldKind::Sequence(sequence) => {
                let len = sequence.max_len?;
                active += len;
                let factor = match sequence.pooling {
                    Pooling::Sum => f64::from(len),
                    Pooling::SqrtN => f64::from(len).sqrt(),
                    Pooling::Mean | Pooling::Max => 1.0,
                };
                Some(factor * model.max_value)
            }
        })
        .collect();
    factors.filter(|_| active == model.max_active)
}

/// The largest |f(x)| for |x| ≤ `bound`.
fn largest(activation: &Activation, lane: usize, bound: f64) -> f64 {
    activation.apply(lane, bound).abs().max(activation.apply(lane, -bound).abs())
}

/// Largest magnitudes on rows, one row at a time.
#[derive(Debug)]
pub struct Calibration<'m> {
    model: &'m FloatModel,
    folded: &'m Folded,
    ranges: Ranges,
}

impl<'m> Calibration<'m> {
    /// No row seen yet.
    #[must_use]
    pub fn new(model: &'m FloatModel, folded: &'m Folded) -> Self {
        let sums = folded.layers.iter().map(|layer| vec![0.0; layer.dense.bias.len()]).collect();
        let (z, dense) = (vec![0.0; model.dim], vec![0.0; model.dense_linear.len()]);
        Self {
            model,
            folded,
            ranges: Ranges {
                z,
                dense,
                sums,
                score: None,
                active: 0,
                value: 0.0,
                counts: vec![0; model.rows()],
                rows: 0,
            },
        }
    }

    /// Sees a row that the model [accepts](FloatModel::accepts).
    pub fn see(&mut self, row: &Row) {
        let ranges = &mut self.ranges;
        let z = self.model.bi_interaction(row);
        widen(&mut ranges.z, &z);
        widen(&mut ranges.dense, &row.dense);
        let input = z.into_iter().chain(row.dense.iter().copied()).collect();
        let deep = self.folded.run(input, |layer, sums| widen(&mut ranges.sums[layer], sums));
        let score = deep + self.folded.bias - self.model.bias + self.model.first_order(row);
        ranges.score = Some(ranges.score.unwrap_or(0.0).max(score.abs()));
        row.ids
            .iter()
            .for_each(|id| ranges.counts[*id as usize] = ranges.counts[*id as usize].saturating_add(1));
        ranges.active = ranges.active.max(row.ids.len());
        ranges.value =
            (0..row.ids.len()).map(|position| row.value(position).abs()).fold(ranges.value, f64::max);
        ranges.rows += 1;
    }

    /// What was seen; `None` when no row was.
    #[must_use]
    pub fn finish(self) -> Option<Ranges> {
        (self.ranges.rows > 0).then_some(self.ranges)
    }
}

fn widen(ranges: &mut [f64], values: &[f64]) {
    ranges.iter_mut().zip(values).for_each(|(range, value)| *range = range.max(value.abs()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        float_model::{Dense, Link, Stage},
        fold::fold,
        schema::{Field, lay_out},
    };

    /// Tables [[2], [−1]] and [[3]].
    fn model() -> FloatModel {
        let field = |rows| Field::new(format!("f{rows}"), FieldKind::Id { rows });
        let mut fields = vec![field(2), field(1)];
        lay_out(&mut fields).unwrap();
        FloatModel {
            dialect: "test",
            fields,
            max_active: 2,
            max_value: 1.0,
            bias: 0.0,
            linear: vec![0.0; 3],
            dense_linear: vec![],
            dim: 1,
            embeddings: vec![2.0, -1.0, 3.0],
            stages: vec![
                Stage::Dense(Dense { weights: vec![-0.5], bias: vec![1.0] }),
                Stage::Activation(Activation::Relu),
            ],
            link: Link::Identity,
            parameters: 0,
            assumptions: vec![],
            skipped: vec![],
        }
    }

    fn z(model: &FloatModel) -> f64 {
        bounds(model, &fold(model)).z[0]
    }

    #[test]
    fn the_bounds_are_reached() {
        let mut model = model();
        let close = |got: f64, want: f64| (got - want).abs() < 1e-12;
        // One of each table: 2 · 3. The layer: 1 + 0.5 · 6.
        let ranges = bounds(&model, &fold(&model));
        assert!(close(ranges.z[0], 6.0) && close(ranges.sums[0][0], 4.0), "{ranges:?}");
        model.fields[1].kind = FieldKind::Scaled;
        model.max_value = 2.0;
        assert!(close(z(&model), 12.0));
        // Any two: 3 · 3. Any three: three pairs of them.
        model.max_value = 1.0;
        model.fields[0].kind = FieldKind::Ids { rows: 2 };
        assert!(close(z(&model), 9.0));
        model.max_active = 3;
        assert!(close(z(&model), 27.0));
        let row = Row { ids: vec![2, 2, 2], ..Row::default() };
        assert!(close(model.bi_interaction(&row)[0], 27.0));
    }

    #[test]
    fn more_entries_than_fields_are_bounded_even_where_the_trainer_takes_one_of_each() {
        let mut model = model();
        model.max_active = 3;
        assert!((z(&model) - 27.0).abs() < 1e-12);
    }

    #[test]
    fn without_rows_there_is_nothing_to_finish() {
        let model = model();
        assert!(Calibration::new(&model, &fold(&model)).finish().is_none());
    }
}
