//! DeepCTR's NFM (TensorFlow, Keras 2 and 3): a table per field, dense inputs concatenated after z, no batch norm, a projection
//! without bias.
//!
//! `y = global_bias + Σ w + dense · linear_kernel + dense(dnn(z ++ dense))`. Layers are called as DeepCTR names them, with `_1`,
//! `_2` … after the names of those that Keras numbers; where a file has positions instead of the names of weights, they are in
//! DeepCTR's order: all kernels, then all biases. A sequence's pooling is the schema's.

use serde_json::Value;

use super::{
    Dialect, Hints,
    draft::{Draft, Stored, extent, id_field},
};
use crate::{
    error::{Error, Result},
    float_model::{Activation, FloatModel, Stage},
    schema::{Field, Task},
    tensors::{Fact, Tensors},
};

pub(super) const DIALECT: Dialect = Dialect {
    name: "deepctr",
    about: "DeepCTR NFM (Keras)",
    recognizes: |tensors| {
        layer(tensors, "prediction_layer").is_some()
            && tensors.entries.keys().any(|name| second(name).is_some())
    },
    import,
};

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let known = known_tables(draft.tensors);
    let dim = dim(draft.tensors)?;
    let head = weight(draft.tensors, "dense", "kernel", 0)?;
    let kernels = kernels(draft.tensors)?;
    let first = kernels.first().unwrap_or(&head);
    let inputs = draft.tensors.rows(first);
    let Some(dense) = inputs.checked_sub(dim) else {
        let problem = format!("expected at least {dim} inputs (the lanes of z), found {inputs}");
        return Err(draft.tensors.refuse(first, problem));
    };
    let fields = draft.fields_of_tables(&known, dense)?;
    draft.stages.push(Stage::Concat);
    let width = layers(&mut draft, &kernels, inputs)?;
    draft.head(&head, None, Stored::InOut, width)?;
    let rows = draft.rows(&fields, |draft, field| {
        Ok((
            table(draft, first_order, "first order", field, 1)?,
            table(draft, second, "Bi-Interaction", field, dim)?,
        ))
    })?;
    draft.dense_linear = dense_linear(&mut draft, dense)?;
    draft.bias = draft.number(&weight(draft.tensors, "prediction_layer", "global_bias", 0)?)?;
    let task = match config(draft.tensors, "PredictionLayer").and_then(|config| config["task"].as_str()) {
        Some("regression") => Task::Regression,
        Some("multiclass") => {
            let problem =
                "the model's is multiclass, which has no single score; supported are binary, regression";
            return Err(Error::refused(&draft.tensors.file, "task", problem));
        }
        _ => Task::Binary,
    };
    if config(draft.tensors, "PredictionLayer").is_some() {
        draft.know_task(task);
    }
    draft.finish(DIALECT.name, fields, dim, rows, ("config.task", task))
}

/// First-order weights of the dense inputs; zeros where the model's linear columns have none.
fn dense_linear(draft: &mut Draft<'_>, dense: usize) -> Result<Vec<f64>> {
    match weight(draft.tensors, "linear", "linear_kernel", 0) {
        Ok(kernel) => draft.tensors.take(&kernel, &[dense, 1]),
        Err(_) => {
            if dense > 0 {
                draft.assume("dense inputs take no part in the first order: the checkpoint has no `linear/linear_kernel`");
            }
            Ok(vec![0.0; dense])
        }
    }
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
fn embedding(name: &str) -> Option<&str> {
    name.strip_suffix("/embeddings").or_else(|| name.strip_suffix("/0"))
}

fn field(rest: &str) -> Option<&str> {
    rest.strip_prefix("_seq").unwrap_or(rest).strip_prefix("_emb_")
}

/// The tables of either order.
fn known_tables(tensors: &Tensors) -> Vec<Field> {
    let mut known: Vec<Field> = Vec::new();
    for of in [second as fn(&str) -> Option<&str>, first_order] {
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
fn dim(tensors: &Tensors) -> Result<usize> {
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
fn table(
    draft: &mut Draft<'_>,
    of: fn(&str) -> Option<&str>,
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
fn layer(tensors: &Tensors, name: &str) -> Option<String> {
    let is_number = |rest: &str| {
        rest.is_empty() || rest.strip_prefix('_').is_some_and(|n| n.chars().all(|c| c.is_ascii_digit()))
    };
    let layers = tensors.entries.keys().filter_map(|tensor| tensor.split('/').next());
    layers.filter(|layer| layer.strip_prefix(name).is_some_and(is_number)).map(str::to_owned).next()
}

/// The weight of a layer, by its name or by its position.
fn weight(tensors: &Tensors, layer_name: &str, name: &str, position: usize) -> Result<String> {
    let layer = layer(tensors, layer_name).unwrap_or_else(|| layer_name.into());
    let named = format!("{layer}/{name}");
    let by_position = format!("{layer}/{position}");
    let found = [&named, &by_position].into_iter().find(|name| tensors.shape(name).is_some());
    found.cloned().ok_or_else(|| tensors.refuse(&named, "missing"))
}

/// The kernels of the hidden layers, in order.
fn kernels(tensors: &Tensors) -> Result<Vec<String>> {
    let Some(dnn) = layer(tensors, "dnn") else { return Ok(Vec::new()) };
    let weights = || tensors.entries.iter().filter(|(name, _)| name.starts_with(&format!("{dnn}/")));
    let count = weights().filter(|(_, tensor)| tensor.shape.len() == 2).count();
    (0..count).map(|index| weight(tensors, "dnn", &format!("kernel{index}"), index)).collect()
}

/// The hidden layers; gives the last one's width.
fn layers(draft: &mut Draft<'_>, kernels: &[String], inputs: usize) -> Result<usize> {
    let mut width = inputs;
    let slopes = slopes(draft.tensors);
    let own = configured_activation(draft.tensors)?;
    for (index, kernel) in kernels.iter().enumerate() {
        let bias = weight(draft.tensors, "dnn", &format!("bias{index}"), kernels.len() + index)?;
        width = draft.dense(kernel, Some(&bias), Stored::InOut, width)?;
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
    let Some(name) = config(tensors, "DNN").and_then(|config| config["activation"].as_str()) else {
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
}
