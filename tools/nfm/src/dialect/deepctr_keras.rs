//! DeepCTR's NFM since 0.5 (TensorFlow, Keras 2 and 3): a table per field, dense inputs concatenated after z, no batch norm, a
//! projection without bias. What all eras of DeepCTR share is here.
//!
//! `y = global_bias + linear_bias + Σ w + dense · linear_kernel + dense(dnn(z ++ dense))`. Layers are called as DeepCTR names
//! them, with `_1`, `_2` … after the names of those that Keras numbers; where a file has positions instead of the names of weights,
//! they are in DeepCTR's order: all kernels, then all biases. A sequence's pooling is the schema's.
//!
//! Up to 0.7 `linear_kernel` is `linear/dense/kernel`; 0.5 alone has a `linear_bias`. In 0.7 a table of the first order may have as
//! many columns as that of the second, and w is their sum.
//!
//! Before 0.9 the largest of a sequence that is shorter than its `maxlen` is the largest of its rows and 0: it is refused where
//! the names are those of before 0.8, and said where they tell nothing.

use serde_json::Value;

use super::{
    Dialect, Hints, deepctr_old,
    draft::{Draft, Rows, Stored, extent, id_field},
};
use crate::{
    error::{Error, Result},
    float_model::{Activation, FloatModel, Stage},
    schema::{Field, FieldKind, Pooling, Sequence, Task},
    tensors::{Fact, Tensors},
};

pub(super) const DIALECT: Dialect = Dialect {
    name: "deepctr",
    about: "DeepCTR NFM (Keras)",
    recognizes: |tensors| {
        layer(tensors, "prediction_layer").is_some()
            && tensors.entries.keys().any(|name| second(name).is_some())
            && !deepctr_old::recognizes(tensors)
    },
    import,
};

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let known = known_tables(draft.tensors, [second, first_order]);
    let dim = dim(draft.tensors, second)?;
    let head = weight(draft.tensors, "dense", "kernel", 0)?;
    let hidden = hidden(draft.tensors)?;
    let dense = dense_inputs(draft.tensors, &hidden, &head, dim)?;
    let fields = draft.fields_of_tables(&known, dense)?;
    check_largest(&mut draft, &fields)?;
    draft.stages.push(Stage::Concat);
    let width = layers(&mut draft, &hidden, dim + dense)?;
    draft.head(&head, None, Stored::InOut, width)?;
    let rows = draft.rows(&fields, |draft, field| {
        Ok((summed_weights(draft, field)?, table(draft, second, "Bi-Interaction", field, dim)?))
    })?;
    draft.dense_linear = dense_linear(&mut draft, dense)?;
    draft.bias = biases(&mut draft)?;
    finish(draft, DIALECT.name, fields, dim, rows)
}

/// The model, with the task of its configuration where the file has one.
pub(super) fn finish(
    mut draft: Draft<'_>,
    dialect: &'static str,
    fields: Vec<Field>,
    dim: usize,
    rows: Rows,
) -> Result<FloatModel> {
    let layer = config(draft.tensors, "PredictionLayer");
    // Before 0.3 it has the name of the last activation.
    let task = layer.and_then(|config| config["task"].as_str().or_else(|| config["activation"].as_str()));
    let task = match task {
        Some("regression" | "linear") => Task::Regression,
        Some("multiclass") => {
            let problem =
                "the model's is multiclass, which has no single score; supported are binary, regression";
            return Err(Error::refused(&draft.tensors.file, "task", problem));
        }
        _ => Task::Binary,
    };
    if layer.is_some() {
        draft.know_task(task);
    }
    draft.finish(dialect, fields, dim, rows, ("config.task", task))
}

/// How many dense inputs the first layer takes after the lanes of z.
pub(super) fn dense_inputs(
    tensors: &Tensors,
    hidden: &[[String; 2]],
    head: &str,
    dim: usize,
) -> Result<usize> {
    let first = hidden.first().map_or(head, |[kernel, _]| kernel);
    let inputs = tensors.rows(first);
    inputs.checked_sub(dim).ok_or_else(|| {
        tensors.refuse(first, format!("expected at least {dim} inputs (the lanes of z), found {inputs}"))
    })
}

/// Refuses the largest of a sequence where the names are those of before 0.8, and says what it is where they may be.
fn check_largest(draft: &mut Draft<'_>, fields: &[Field]) -> Result<()> {
    let before_0_8 = linear_bias(draft.tensors).is_some()
        || linear_kernel(draft.tensors).is_some_and(|kernel| kernel.contains("/dense"))
        || draft.tensors.entries.iter().any(|(name, tensor)| {
            first_order(name).is_some() && tensor.shape.last().is_some_and(|columns| *columns != 1)
        });
    if before_0_8 {
        return refuse_largest(draft.tensors, fields);
    }
    for field in fields.iter().filter(|field| takes_largest(field)) {
        draft.assume(format!(
            "the largest of `{}` is that of its rows, as since DeepCTR 0.9; before, a sequence shorter than its maxlen had at \
             least 0",
            field.name
        ));
    }
    Ok(())
}

/// Refuses the largest of a sequence.
pub(super) fn refuse_largest(tensors: &Tensors, fields: &[Field]) -> Result<()> {
    let Some(field) = fields.iter().find(|field| takes_largest(field)) else { return Ok(()) };
    let problem = "expected pooling sum or mean, found max, which this release takes over the padding too";
    Err(Error::refused(&tensors.file, format!("schema, field `{}`", field.name), problem))
}

fn takes_largest(field: &Field) -> bool {
    let FieldKind::Sequence(Sequence { pooling, linear, .. }) = field.kind else { return false };
    [pooling, linear].contains(&Pooling::Max)
}

/// Constants outside of the layers.
fn biases(draft: &mut Draft<'_>) -> Result<f64> {
    let bias = draft.number(&weight(draft.tensors, "prediction_layer", "global_bias", 0)?)?;
    linear_bias(draft.tensors).map_or(Ok(bias), |name| Ok(bias + draft.number(&name)?))
}

/// The first order's constant, which it has in 0.5.
fn linear_bias(tensors: &Tensors) -> Option<String> {
    let name = format!("{}/linear_bias", layer(tensors, "linear")?);
    tensors.shape(&name).is_some().then_some(name)
}

/// First-order weights of the dense inputs; zeros where the model's linear columns have none.
fn dense_linear(draft: &mut Draft<'_>, dense: usize) -> Result<Vec<f64>> {
    match linear_kernel(draft.tensors) {
        Some(kernel) => draft.tensors.take(&kernel, &[dense, 1]),
        None => {
            if dense > 0 {
                draft.assume("dense inputs take no part in the first order: the checkpoint has no `linear/linear_kernel`");
            }
            Ok(vec![0.0; dense])
        }
    }
}

/// The first order's kernel: its layer's own, or up to 0.7 that of a layer inside of it.
fn linear_kernel(tensors: &Tensors) -> Option<String> {
    let inner = || {
        let prefix = format!("{}/dense", layer(tensors, "linear")?);
        tensors.entries.keys().find(|name| name.starts_with(&prefix) && name.ends_with("/kernel")).cloned()
    };
    weight(tensors, "linear", "linear_kernel", 0).ok().or_else(inner)
}

/// A field's first-order weights, `[rows]`: the sums of its table's columns.
fn summed_weights(draft: &mut Draft<'_>, field: &Field) -> Result<Vec<f32>> {
    let wanted = draft.table_name(field);
    let name = draft.tensors.entries.keys().find(|name| first_order(name) == Some(&wanted)).cloned();
    let columns = name.map_or(Ok(1), |name| draft.columns(&name))?;
    let weights = table(draft, first_order, "first order", field, columns)?;
    #[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest f32 is what is asked for")]
    let sum = |row: &[f32]| row.iter().copied().map(f64::from).sum::<f64>() as f32;
    Ok(weights.chunks_exact(columns).map(sum).collect())
}

/// The field of a table of the second order.
fn second(name: &str) -> Option<&str> {
    embedding(name)?.strip_prefix("sparse").and_then(field)
}

/// The field of a table of the first order.
fn first_order(name: &str) -> Option<&str> {
    let rest = embedding(name)?.strip_prefix("linear")?;
    field(rest.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("sparse")?)
}

/// The layer of an embedding's one weight.
pub(super) fn embedding(name: &str) -> Option<&str> {
    name.strip_suffix("/embeddings").or_else(|| name.strip_suffix("/0"))
}

fn field(rest: &str) -> Option<&str> {
    rest.strip_prefix("_seq").unwrap_or(rest).strip_prefix("_emb_")
}

/// The field of a tensor, if it is one of an order's tables.
pub(super) type FieldOf = fn(&str) -> Option<&str>;

/// The tables of both orders.
pub(super) fn known_tables(tensors: &Tensors, orders: [FieldOf; 2]) -> Vec<Field> {
    let mut known: Vec<Field> = Vec::new();
    for of in orders {
        for (name, tensor) in &tensors.entries {
            let Some(field) = of(name).filter(|field| known.iter().all(|known| known.name != **field)) else {
                continue;
            };
            known.push(id_field(field, tensor.shape.first().copied().unwrap_or(0)));
        }
    }
    known
}

/// Embedding width, which all tables must share.
pub(super) fn dim(tensors: &Tensors, second: FieldOf) -> Result<usize> {
    let tables = tensors.entries.iter().filter(|(name, _)| second(name).is_some());
    let mut dim = None;
    for (name, tensor) in tables {
        match (tensor.shape.as_slice(), dim) {
            (&[_, width], None) => dim = Some(width),
            (&[_, width], Some(dim)) if width == dim => {}
            (shape, _) => {
                let expected = dim.map_or("dim".into(), |dim| dim.to_string());
                return Err(tensors.refuse(name, format!("expected [rows, {expected}], found {shape:?}")));
            }
        }
    }
    dim.ok_or_else(|| Error::refused(&tensors.file, "", "no embedding table"))
}

/// A field's table, or zeros when the field takes no part in that order.
pub(super) fn table(
    draft: &mut Draft<'_>,
    of: FieldOf,
    order: &str,
    field: &Field,
    columns: usize,
) -> Result<Vec<f32>> {
    let wanted = draft.table_name(field);
    let name = draft.tensors.entries.keys().find(|name| of(name) == Some(&wanted)).cloned();
    if let Some(name) = name {
        return draft.tensors.take_f32(&name, &[extent(field), columns]);
    }
    draft.assume(format!(
        "field `{}` takes no part in the {order}: the checkpoint has no table of it",
        field.name
    ));
    Ok(vec![0.0; extent(field) * columns])
}

/// The layer of this name, with the number that Keras may have given it.
pub(super) fn layer(tensors: &Tensors, name: &str) -> Option<String> {
    let is_number = |rest: &str| {
        rest.is_empty() || rest.strip_prefix('_').is_some_and(|n| n.chars().all(|c| c.is_ascii_digit()))
    };
    let layers = tensors.entries.keys().filter_map(|tensor| tensor.split('/').next());
    layers.filter(|layer| layer.strip_prefix(name).is_some_and(is_number)).map(str::to_owned).next()
}

/// The weight of a layer, by its name or by its position.
pub(super) fn weight(tensors: &Tensors, layer_name: &str, name: &str, position: usize) -> Result<String> {
    let layer = layer(tensors, layer_name).unwrap_or_else(|| layer_name.into());
    let named = format!("{layer}/{name}");
    let by_position = format!("{layer}/{position}");
    let found = [&named, &by_position].into_iter().find(|name| tensors.shape(name).is_some());
    found.cloned().ok_or_else(|| tensors.refuse(&named, "missing"))
}

/// Kernel and bias of each hidden layer; before 0.3 they are called `mlp`.
pub(super) fn hidden(tensors: &Tensors) -> Result<Vec<[String; 2]>> {
    let of = |name| layer(tensors, name).map(|layer| (name, layer));
    let Some((name, layer)) = of("dnn").or_else(|| of("mlp")) else { return Ok(Vec::new()) };
    let weights = || tensors.entries.iter().filter(|(name, _)| name.starts_with(&format!("{layer}/")));
    let count = weights().filter(|(_, tensor)| tensor.shape.len() == 2).count();
    let pair = |index| {
        Ok([
            weight(tensors, name, &format!("kernel{index}"), index)?,
            weight(tensors, name, &format!("bias{index}"), count + index)?,
        ])
    };
    (0..count).map(pair).collect()
}

/// The hidden layers; gives the last one's width.
pub(super) fn layers(draft: &mut Draft<'_>, hidden: &[[String; 2]], inputs: usize) -> Result<usize> {
    let mut width = inputs;
    let slopes = slopes(draft.tensors);
    let own = configured_activation(draft.tensors)?;
    for (index, [kernel, bias]) in hidden.iter().enumerate() {
        width = draft.dense(kernel, Some(bias), Stored::InOut, width)?;
        match (slopes.get(index), &own) {
            (Some(slopes), _) => draft.prelu(slopes, width)?,
            (None, Some(own)) => draft.activation_or("dnn", own.clone())?,
            (None, None) => draft.activation("dnn")?,
        }
    }
    Ok(width)
}

/// The slopes of PReLUs inside of the hidden layers, in order.
fn slopes(tensors: &Tensors) -> Vec<String> {
    let names = tensors.entries.keys().filter(|name| name.starts_with("dnn") && name.ends_with("/alpha"));
    let mut names: Vec<String> = names.cloned().collect();
    names.sort_by_key(|name| (name.len(), name.clone()));
    names
}

/// The activation that the model's configuration names.
fn configured_activation(tensors: &Tensors) -> Result<Option<Activation>> {
    let layer = config(tensors, "DNN").or_else(|| config(tensors, "MLP"));
    let Some(name) = layer.and_then(|config| config["activation"].as_str()) else {
        return Ok(None);
    };
    if name.eq_ignore_ascii_case("prelu") {
        return Ok(None);
    }
    match Activation::by_name(name) {
        Some(activation) => Ok(Some(activation)),
        None => {
            let problem = format!("`{name}` is not supported; supported are {}", Activation::NAMES);
            Err(Error::refused(&tensors.file, "hidden activation", problem))
        }
    }
}

/// The configuration of the first layer of a class, where the file has the model's.
fn config<'t>(tensors: &'t Tensors, class: &str) -> Option<&'t Value> {
    let Some(Fact::Json(model)) = tensors.facts.get("model_config") else { return None };
    let layers = model["config"]["layers"].as_array()?;
    let is_class = |layer: &&Value| {
        layer["class_name"].as_str().is_some_and(|name| name.rsplit('>').next() == Some(class))
    };
    layers.iter().find(is_class).map(|layer| &layer["config"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{
        import,
        tests::{refusal, tensors},
    };

    const SHAPES: [(&str, &[usize]); 8] = [
        ("sparse_emb_a/embeddings", &[2, 3]),
        ("sparse_seq_emb_b/embeddings", &[4, 3]),
        ("linear0sparse_emb_a/embeddings", &[2, 1]),
        ("linear0sparse_seq_emb_b/embeddings", &[4, 1]),
        ("dnn_2/kernel0", &[3, 5]),
        ("dnn_2/bias0", &[5]),
        ("dense_1/kernel", &[5, 1]),
        ("prediction_layer_2/global_bias", &[1]),
    ];

    #[test]
    fn names_may_have_numbers_of_keras() {
        let model = import(tensors(&SHAPES), &Hints::default()).unwrap();
        let fields: Vec<&str> = model.fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!((fields, model.rows()), (vec!["a", "b"], 6));
        assert!(model.assumptions.iter().any(|note| note.contains("relu")));
    }

    #[test]
    fn dense_inputs_without_a_first_order_are_said_to_have_none() {
        let mut shapes = SHAPES;
        shapes[4].1 = &[4, 5];
        let model = import(tensors(&shapes), &Hints::default()).unwrap();
        assert_eq!(model.dense_linear, [0.0]);
        assert!(model.assumptions.iter().any(|note| note.contains("`linear/linear_kernel`")));
        shapes[4].1 = &[2, 5];
        let message = refusal(tensors(&shapes), &Hints::default());
        assert!(message.contains("at least 3 inputs"), "{message}");
    }

    fn with_sequence(pooling: Pooling) -> Hints {
        let weights = crate::schema::Weights::Raw;
        let sequence =
            Sequence { rows: 4, pooling, linear: pooling, max_len: Some(3), padding: None, weights };
        let mut fields = vec![id_field("a", 2), Field::new("b", FieldKind::Sequence(sequence))];
        crate::schema::lay_out(&mut fields).unwrap();
        let schema = crate::schema::Schema { schema_version: 1, fields, ..Default::default() };
        Hints { schema: Some(schema), ..Hints::default() }
    }

    #[test]
    fn the_columns_of_a_first_order_are_summed_and_say_that_a_maximum_is_of_padding_too() {
        let mut shapes = SHAPES;
        let largest = import(tensors(&shapes), &with_sequence(Pooling::Max)).unwrap();
        assert!(largest.assumptions.iter().any(|note| note.contains("since DeepCTR 0.9")));
        shapes[3].1 = &[4, 3];
        let model = import(tensors(&shapes), &with_sequence(Pooling::Mean)).unwrap();
        assert_eq!(model.linear, [0.5, 0.5, 1.5, 1.5, 1.5, 1.5]);
        let message = refusal(tensors(&shapes), &with_sequence(Pooling::Max));
        assert!(message.contains("field `b`") && message.contains("padding"), "{message}");
    }

    #[test]
    fn the_first_orders_of_0_5_and_0_7_are_found() {
        let mut shapes = SHAPES.to_vec();
        shapes[4].1 = &[4, 5];
        shapes.push(("linear_3/dense_2/kernel", &[1, 1]));
        shapes.push(("linear_3/linear_bias", &[1]));
        let model = import(tensors(&shapes), &Hints::default()).unwrap();
        assert_eq!((model.dense_linear, model.bias), (vec![0.5], 1.0));
    }
}
