//! DeepCTR's `NFMEstimator` (TensorFlow): a feature column per field, dense inputs concatenated after z, no batch norm, a projection
//! without bias.
//!
//! `y = bias_weights + Σ w + dense · w + dense(dnn(z ++ dense))`. The variable scopes are `linear` and `dnn`:
//! `dnn/input_layer_2/<column>_embedding/embedding_weights` is a table, `linear/linear_model/<column>/weights` its first order. A
//! numeric column of the first order is a table of one row, and in the layers it has no name: where there are several, their order is
//! the schema's. The columns of both orders are lists of their own, so a field may take part in one only. An embedding column pools
//! by the sum, mean or root that the schema says, the first order always sums. The task is in no variable.

use super::{
    Dialect, Hints,
    deepctr_keras::{dense_inputs, dim, known_tables, layers, table},
    draft::{DenseColumns, Draft, Stored},
};
use crate::{
    error::{Error, Result},
    float_model::{FloatModel, Stage},
    schema::{Field, FieldKind, Order, Pooling, Task},
    tensors::Tensors,
};

pub(super) const DIALECT: Dialect = Dialect {
    name: "deepctr-estimator",
    about: "DeepCTR's NFMEstimator (TensorFlow)",
    recognizes: |tensors| {
        tensors.shape(HEAD).is_some() && tensors.entries.keys().any(|name| second(name).is_some())
    },
    import,
};

const HEAD: &str = "dnn/dense/kernel";

/// The constant, with columns of the first order and without any.
const BIASES: [&str; 2] = ["linear/linear_model/bias_weights", "linear/bias_weights"];

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let dim = dim(draft.tensors, second)?;
    let tables = known_tables(draft.tensors, [second, first_order]);
    let (numbers, mut known): (Vec<Field>, Vec<Field>) =
        tables.into_iter().partition(|field| is_number(draft.tensors, &field.name));
    let hidden = hidden(draft.tensors);
    let deep = dense_inputs(draft.tensors, &hidden, HEAD, dim)?;
    let (dense, columns) = dense_fields(&mut draft, &numbers, deep)?;
    let fields = if hints.schema_fields().is_empty() {
        known.extend(dense.iter().cloned());
        draft.fields_of_tables(&known, 0)?
    } else {
        draft.fields_of_tables(&known, columns.total)?
    };
    for field in &fields {
        draft.check_pooling(field, &[Pooling::Mean, Pooling::SqrtN, Pooling::Sum], Pooling::Sum)?;
    }
    draft.stages.push(Stage::Concat);
    let width = layers(&mut draft, &hidden, dim + deep)?;
    draft.head(HEAD, None, Stored::InOut, width)?;
    draft.widen_first_layer(dim, &columns);
    let rows = draft.rows(&fields, |draft, field| {
        Ok((
            table(draft, first_order, "first order", field, 1)?,
            table(draft, second, "Bi-Interaction", field, dim)?,
        ))
    })?;
    let linear = dense.iter().filter(|field| field.only != Some(Order::Deep));
    let weights: Result<Vec<f64>> = linear.map(|field| draft.number(&linear_weights(&field.name))).collect();
    draft.dense_linear = columns.spread(&weights?);
    let bias = BIASES.into_iter().find(|name| draft.tensors.shape(name).is_some());
    draft.bias = draft.number(bias.unwrap_or(BIASES[0]))?;
    draft.finish(DIALECT.name, fields, dim, rows, ("config.task", Task::Binary))
}

/// The dense inputs in the order in which they join z, of which the layers take `deep`, and which order takes which.
fn dense_fields(draft: &mut Draft<'_>, numbers: &[Field], deep: usize) -> Result<(Vec<Field>, DenseColumns)> {
    let schema = draft.hints.schema_fields();
    let columns = draft.dense_columns(schema, deep, numbers.len())?;
    let said = schema.iter().filter(|field| field.kind == FieldKind::Dense).cloned().collect();
    let problem = if let Some(columns) = columns {
        return Ok((said, columns));
    } else if numbers.len() != deep {
        format!(
            "the checkpoint's layers take {deep} and its first order {}: say in a schema which have `only` one order",
            numbers.len()
        )
    } else if !schema.is_empty() {
        return Ok((said, DenseColumns::all(deep)));
    } else if let [] | [_] = numbers {
        let dense = |field: &Field| Field::new(field.name.clone(), FieldKind::Dense);
        return Ok((numbers.iter().map(dense).collect(), DenseColumns::all(deep)));
    } else {
        let names: Vec<&str> = numbers.iter().map(|field| field.name.as_str()).collect();
        format!(
            "the checkpoint does not tell in which order {} join z: list all fields in a schema, these in the order of the \
             model's dnn_feature_columns",
            names.join(", ")
        )
    };
    Err(Error::refused(&draft.tensors.file, "dense inputs", problem))
}

/// Whether a column of the first order is a number: one weight, and no embedding.
fn is_number(tensors: &Tensors, column: &str) -> bool {
    tensors.shape(&linear_weights(column)) == Some(&[1, 1])
        && tensors.entries.keys().all(|name| second(name) != Some(column))
}

/// The column of a table of the second order.
fn second(name: &str) -> Option<&str> {
    let (layer, column) = name.strip_prefix("dnn/input_layer")?.split_once('/')?;
    let numbered = layer.strip_prefix('_').is_some_and(|number| number.parse::<usize>().is_ok());
    (layer.is_empty() || numbered).then_some(column)?.strip_suffix("_embedding/embedding_weights")
}

/// The column of weights of the first order.
fn first_order(name: &str) -> Option<&str> {
    name.strip_prefix("linear/linear_model/")?.strip_suffix("/weights")
}

fn linear_weights(column: &str) -> String {
    format!("linear/linear_model/{column}/weights")
}

/// Kernel and bias of each hidden layer.
fn hidden(tensors: &Tensors) -> Vec<[String; 2]> {
    let pair = |layer: usize| ["kernel", "bias"].map(|weight| format!("dnn/dnn/{weight}{layer}"));
    (0..).map(pair).take_while(|[kernel, _]| tensors.shape(kernel).is_some()).collect()
}

#[cfg(test)]
mod tests {
    use crate::{
        dialect::{
            Hints, import,
            tests::{refusal, tensors},
        },
        schema::{Field, FieldKind, Order, Pooling, Schema, Sequence, Weights},
    };

    const SHAPES: [(&str, &[usize]); 8] = [
        ("dnn/input_layer/a_embedding/embedding_weights", &[4, 3]),
        ("dnn/input_layer_1/b_embedding/embedding_weights", &[2, 3]),
        ("dnn/dense/kernel", &[4, 1]),
        ("linear/linear_model/a/weights", &[4, 1]),
        ("linear/linear_model/b/weights", &[2, 1]),
        ("linear/linear_model/a_X_b/weights", &[7, 1]),
        ("linear/linear_model/x/weights", &[1, 1]),
        ("linear/linear_model/bias_weights", &[1]),
    ];

    fn hints(mut fields: Vec<Field>) -> Hints {
        crate::schema::lay_out(&mut fields).unwrap();
        Hints { schema: Some(Schema { schema_version: 1, fields, ..Schema::default() }), ..Hints::default() }
    }

    fn ids() -> Vec<Field> {
        [("a", 4), ("b", 2), ("a_X_b", 7)]
            .map(|(name, rows)| Field::new(name, FieldKind::Id { rows }))
            .to_vec()
    }

    #[test]
    fn columns_of_one_order_and_a_single_number_are_told_by_their_names() {
        let model = import(tensors(&SHAPES), &Hints::default()).unwrap();
        let names: Vec<&str> = model.fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!((names, model.rows()), (vec!["a", "b", "a_X_b", "x"], 13));
        assert_eq!((model.fields[3].kind, model.dense_linear), (FieldKind::Dense, vec![0.5]));
        assert!(model.assumptions.iter().any(|note| note.contains("`a_X_b` takes no part")));
    }

    #[test]
    fn the_order_of_several_numbers_is_asked_for() {
        let mut shapes = SHAPES.to_vec();
        shapes.push(("linear/linear_model/y/weights", &[1, 1]));
        shapes[2].1 = &[5, 1];
        let message = refusal(tensors(&shapes), &Hints::default());
        assert!(message.contains("in which order x, y join z"), "{message}");
        let dense = |name| Field::new(name, FieldKind::Dense);
        assert!(import(tensors(&shapes), &hints([ids(), vec![dense("y"), dense("x")]].concat())).is_ok());
        let message = refusal(tensors(&shapes), &hints([ids(), vec![dense("y"), dense("z")]].concat()));
        assert!(message.contains("`linear/linear_model/z/weights`: missing"), "{message}");
    }

    #[test]
    fn a_number_of_one_order_is_said_by_the_schema() {
        let mut shapes = SHAPES.to_vec();
        shapes[2].1 = &[5, 1];
        let message = refusal(tensors(&shapes), &Hints::default());
        assert!(
            message.contains("layers take 2 and its first order 1") && message.contains("`only`"),
            "{message}"
        );
        let deep = Field { only: Some(Order::Deep), ..Field::new("y", FieldKind::Dense) };
        let fields = [ids(), vec![deep, Field::new("x", FieldKind::Dense)]].concat();
        let model = import(tensors(&shapes), &hints(fields)).unwrap();
        assert_eq!(model.dense_linear, [0.0, 0.5]);
    }

    #[test]
    fn the_first_order_of_a_sequence_is_a_sum() {
        let mut fields = ids();
        let sequence = |linear| Sequence {
            rows: 4,
            pooling: Pooling::Mean,
            linear,
            max_len: Some(3),
            padding: None,
            weights: Weights::Raw,
        };
        fields.push(Field::new("x", FieldKind::Dense));
        fields[0].kind = FieldKind::Sequence(sequence(Pooling::Sum));
        assert!(import(tensors(&SHAPES), &hints(fields.clone())).is_ok());
        fields[0].kind = FieldKind::Sequence(sequence(Pooling::Mean));
        let message = refusal(tensors(&SHAPES), &hints(fields));
        assert!(message.contains("linear_pooling sum"), "{message}");
    }
}
