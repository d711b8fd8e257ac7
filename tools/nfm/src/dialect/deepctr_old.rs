//! DeepCTR's NFM up to 0.4.1 (TensorFlow, Keras 2): a table per field, dense inputs as values of one shared row, no batch norm,
//! a projection without bias.
//!
//! `y = global_bias + Σ w x + dense_2(dnn(z))`. `dense/kernel`, `[1, dim]`, is the embedding v of every dense input, which joins z
//! as x · v; `dense_1/kernel`, `[inputs, 1]`, has their w. A model without dense inputs has one `dense`, the projection. Keras
//! counts these layers through all models of a process, so their order tells what they are. Tables are `sparse_emb_0-user` and
//! `linear_emb_0-user` up to 0.4.0, `sparseemb_user`, `sparseseq_emb_tags` and `linearemb_user` in 0.4.1; the hidden layers are
//! `mlp` before 0.3. The names of dense inputs are not in a checkpoint: they are the schema's `scaled` fields in their order.
//!
//! A sequence's largest is refused: it is taken over padding to `maxlen` too, which counts as rows of 0.

use super::{
    Dialect, Hints,
    deepctr_keras::{
        FieldOf, dim, embedding, finish, hidden, known_tables, layers, refuse_largest, table, weight,
    },
    draft::{Draft, Stored, dense_kernels},
};
use crate::{error::Result, float_model::FloatModel, tensors::Tensors};

pub(super) const DIALECT: Dialect =
    Dialect { name: "deepctr-old", about: "DeepCTR NFM up to 0.4.1 (Keras)", recognizes, import };

/// Whether both orders have tables under the old names.
pub(super) fn recognizes(tensors: &Tensors) -> bool {
    let has = |of: FieldOf| tensors.entries.keys().any(|name| of(name).is_some());
    has(first_order) && has(second)
}

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let mut known = known_tables(draft.tensors, [second, first_order]);
    let dim = dim(draft.tensors, second)?;
    let (head, dense) = dense_layers(draft.tensors)?;
    let (row, linear) = match &dense {
        None => (Vec::new(), Vec::new()),
        Some([shared, linear]) => {
            let inputs = draft.tensors.rows(linear);
            (draft.tensors.take_f32(shared, &[1, dim])?, draft.tensors.take_f32(linear, &[inputs, 1])?)
        }
    };
    let numbers = draft.scaled_fields(linear.len())?;
    known.extend(numbers.iter().cloned());
    let fields = draft.fields_of_tables(&known, 0)?;
    refuse_largest(draft.tensors, &fields)?;
    let hidden = hidden(draft.tensors)?;
    let width = layers(&mut draft, &hidden, dim)?;
    draft.head(&head, None, Stored::InOut, width)?;
    let rows = draft.rows(&fields, |draft, field| {
        if let Some((_, w)) = numbers.iter().zip(&linear).find(|(number, _)| number.name == field.name) {
            return Ok((vec![*w], row.clone()));
        }
        Ok((
            table(draft, first_order, "first order", field, 1)?,
            table(draft, second, "Bi-Interaction", field, dim)?,
        ))
    })?;
    draft.bias = draft.number(&weight(draft.tensors, "prediction_layer", "global_bias", 0)?)?;
    finish(draft, DIALECT.name, fields, dim, rows)
}

/// The kernels of the projection, and of the dense inputs where there are any: embedding and first order.
fn dense_layers(tensors: &Tensors) -> Result<(String, Option<[String; 2]>)> {
    match dense_kernels(tensors).as_slice() {
        [head] => Ok((head.clone(), None)),
        [shared, linear, head] => Ok((head.clone(), Some([shared.clone(), linear.clone()]))),
        found => {
            let problem = format!(
                "expected one `dense` layer, or three where the model has dense inputs, found {}",
                found.len()
            );
            Err(tensors.refuse("dense/kernel", problem))
        }
    }
}

/// The field of a table of the second order.
fn second(name: &str) -> Option<&str> {
    field(embedding(name)?.strip_prefix("sparse")?)
}

/// The field of a table of the first order.
fn first_order(name: &str) -> Option<&str> {
    field(embedding(name)?.strip_prefix("linear")?)
}

/// `_emb_0-user`, `emb_user` and `seq_emb_user` → `user`
fn field(rest: &str) -> Option<&str> {
    match rest.strip_prefix("_emb_") {
        Some(rest) => {
            let (number, field) = rest.split_once('-')?;
            number.parse::<usize>().is_ok().then_some(field)
        }
        None => rest.strip_prefix("seq_").unwrap_or(rest).strip_prefix("emb_"),
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        dialect::{
            Hints, import,
            tests::{refusal, tensors},
        },
        schema::{Field, FieldKind, Pooling, Schema, Sequence, Task, Weights},
        tensors::Fact,
    };

    const SHAPES: [(&str, &[usize]); 10] = [
        ("sparse_emb_0-a/embeddings", &[2, 3]),
        ("sparse_emb_1-b/embeddings", &[4, 3]),
        ("linear_emb_0-a/embeddings", &[2, 1]),
        ("linear_emb_1-b/embeddings", &[4, 1]),
        ("dense_11/kernel", &[5, 1]),
        ("dense_9/kernel", &[1, 3]),
        ("dense_10/kernel", &[2, 1]),
        ("mlp/kernel0", &[3, 5]),
        ("mlp/bias0", &[5]),
        ("prediction_layer/global_bias", &[1]),
    ];

    #[test]
    fn dense_layers_are_told_by_their_order_and_inputs_share_a_row() {
        let model = import(tensors(&SHAPES), &Hints::default()).unwrap();
        let kinds: Vec<_> = model.fields.iter().map(|field| (field.name.as_str(), field.kind)).collect();
        assert_eq!(kinds[2..], [("dense_0", FieldKind::Scaled), ("dense_1", FieldKind::Scaled)]);
        assert_eq!((model.rows(), model.max_active), (8, 4));
        assert!(model.assumptions.iter().any(|note| note.contains("dense_0")), "{:?}", model.assumptions);
    }

    #[test]
    fn the_last_activation_of_0_2_tells_the_task() {
        let mut tensors = tensors(&SHAPES);
        let layer = serde_json::json!({"class_name": "PredictionLayer", "config": {"activation": "linear"}});
        let config = serde_json::json!({"config": {"layers": [layer]}});
        tensors.facts.insert("model_config".into(), Fact::Json(config));
        let model = import(tensors, &Hints::default()).unwrap();
        assert_eq!(model.link, crate::float_model::Link::of(Task::Regression));
    }

    #[test]
    fn a_layer_that_is_missing_is_counted() {
        let shapes: Vec<_> = SHAPES.into_iter().filter(|(name, _)| *name != "dense_10/kernel").collect();
        let message = refusal(tensors(&shapes), &Hints::default());
        assert!(message.contains("three where the model has dense inputs, found 2"), "{message}");
    }

    #[test]
    fn a_schema_names_the_numbers_and_pools_no_maximum() {
        let with = |pooling, numbers: &[&str]| {
            let sequence = Sequence {
                rows: 4,
                pooling,
                linear: pooling,
                max_len: Some(3),
                padding: None,
                weights: Weights::Raw,
            };
            let mut fields = vec![
                Field::new("a", FieldKind::Id { rows: 2 }),
                Field::new("b", FieldKind::Sequence(sequence)),
            ];
            fields.extend(numbers.iter().map(|name| Field::new(*name, FieldKind::Scaled)));
            crate::schema::lay_out(&mut fields).unwrap();
            let schema = Schema { schema_version: 1, fields, ..Schema::default() };
            Hints { schema: Some(schema), ..Hints::default() }
        };
        assert!(import(tensors(&SHAPES), &with(Pooling::Mean, &["age", "price"])).is_ok());
        let message = refusal(tensors(&SHAPES), &with(Pooling::Max, &["age", "price"]));
        assert!(message.contains("field `b`") && message.contains("padding"), "{message}");
        let message = refusal(tensors(&SHAPES), &with(Pooling::Mean, &["age"]));
        assert!(
            message.contains("2 numbers") && message.contains("scaled") && message.contains('1'),
            "{message}"
        );
    }
}
