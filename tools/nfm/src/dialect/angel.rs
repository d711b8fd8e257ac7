//! Angel's NFM (and sona's): one table for ids with values, no batch norm, a projection with a bias.
//!
//! `y = wide_bias + Σ w x + fc(act(… act(fc_0(z))))`. The layers of a model have names of its configuration: a simple input layer
//! (`wide`, or `input` where Angel itself builds the network) has `<name>_weight` `[1, rows]` and `<name>_bias`; an embedding layer
//! `<name>_embedding` `[dim, rows]`; fully connected ones `<name>_0_weight` `[out, in]` and so on, of which the last has no number.
//! Activations, the loss and what dropout multiplies with (1 − p in prediction) are in the configuration alone, which is used where
//! it lies in the folder.

use serde_json::Value;

use super::{
    Dialect, Hints,
    draft::{Draft, Rows, Stored, transposed},
};
use crate::{
    error::{Error, Result},
    float_model::{Activation, FloatModel, Stage},
    schema::{Field, FieldKind, Task},
    tensors::{Fact, Tensors},
};

pub(super) const DIALECT: Dialect = Dialect {
    name: "angel",
    about: "Angel's NFM",
    recognizes: |tensors| {
        tensors.container == "Angel" && embedding(tensors).is_some_and(|name| tensors.shape(name).is_some())
    },
    import,
};

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let Some(name) = embedding(draft.tensors).map(str::to_owned) else {
        return Err(draft
            .tensors
            .refuse("embedding_embedding", "missing; expected one of shape [dim, rows]"));
    };
    let (rows, dim) = (draft.columns(&name)?, draft.tensors.rows(&name));
    let wide = wide(draft.tensors, rows)?;
    let table = Rows {
        embeddings: transposed(&draft.tensors.take_f32(&name, &[dim, rows])?, dim, rows),
        linear: draft.tensors.take_f32(&format!("{wide}_weight"), &[1, rows])?,
    };
    draft.bias = draft.number(&format!("{wide}_bias"))?;
    let network = match draft.tensors.facts.get("network") {
        Some(Fact::Json(network)) => Some(network.clone()),
        _ => None,
    };
    if let Some(network) = &network {
        let task = task(draft.tensors, network, &wide)?;
        draft.know_task(task);
    }
    layers(&mut draft, network.as_ref(), dim)?;
    let fields =
        draft.fields_of_one_table(rows, 0, |rows| vec![Field::new("feature", FieldKind::Ids { rows })])?;
    draft.finish(DIALECT.name, fields, dim, table, ("config.task", Task::Binary))
}

/// The table of the second order.
fn embedding(tensors: &Tensors) -> Option<&str> {
    tensors.entries.keys().map(String::as_str).find(|name| name.ends_with("_embedding"))
}

/// The layer of the first order: the one with a weight for each row that is no fully connected one.
fn wide(tensors: &Tensors, rows: usize) -> Result<String> {
    let layers = tensors.entries.keys().filter_map(|name| name.strip_suffix("_weight"));
    let is_wide = |layer: &&str| {
        tensors.shape(&format!("{layer}_weight")) == Some(&[1, rows])
            && tensors.shape(&format!("{layer}_0_weight")).is_none()
    };
    let found: Vec<&str> = layers.filter(is_wide).collect();
    let known = ["wide", "input"].into_iter().find(|known| found.contains(known));
    match (known, found.as_slice()) {
        (Some(layer), _) | (None, &[layer]) => Ok(layer.into()),
        (None, _) => {
            let problem = format!(
                "expected one of shape [1, {rows}] for the first order, found {}; say which tensor is what by --map",
                if found.is_empty() { "none".into() } else { found.join(", ") }
            );
            Err(Error::refused(&tensors.file, "tensors `…_weight`", problem))
        }
    }
}

/// The fully connected layers and the projection.
fn layers(draft: &mut Draft<'_>, network: Option<&Value>, dim: usize) -> Result<()> {
    let without_number = |name: &str| match name.rsplit_once('_') {
        Some((base, number)) if number.parse::<u32>().is_ok() => base.to_owned(),
        _ => name.to_owned(),
    };
    let mut names = draft.tensors.entries.keys().filter_map(|name| name.strip_suffix("_weight"));
    let last = names.next().map_or_else(|| "fclayer".into(), without_number);
    let mut width = dim;
    for index in 0.. {
        let [weights, bias] = ["weight", "bias"].map(|part| format!("{last}_{index}_{part}"));
        if draft.tensors.shape(&weights).is_none() {
            break;
        }
        width = draft.dense(&weights, Some(&bias), Stored::OutIn, width)?;
        let Some(network) = network else {
            draft.activation(&format!("{last}_{index}"))?;
            continue;
        };
        let (activation, scale) = function(draft.tensors, network, &last, Some(index))?;
        draft.activation_or(&format!("{last}_{index}"), activation)?;
        if scale < 1.0 {
            draft.stages.push(Stage::Scale(scale));
        }
    }
    if let Some(network) = network {
        check_linear(draft.tensors, function(draft.tensors, network, &last, None)?, &last)?;
    }
    let [weights, bias] = ["weight", "bias"].map(|part| format!("{last}_{part}"));
    draft.head(&weights, Some(&bias), Stored::OutIn, width)
}

/// What follows a layer in prediction, by the configuration: an activation, and a factor. `index` is that of a hidden layer under
/// the name of all; the last one has none.
fn function(
    tensors: &Tensors,
    network: &Value,
    layer: &str,
    index: Option<usize>,
) -> Result<(Activation, f64)> {
    let default = || network.get("default_trandfunc");
    let function = match &network["layers"] {
        Value::Array(layers) => {
            let own = layers.iter().find(|own| own["name"] == layer);
            let of_all = own.and_then(|own| own["transfuncs"].as_array());
            let of_all = of_all.and_then(|all| index.map_or(all.last(), |index| all.get(index)));
            of_all.or_else(|| own?.get("transfunc")).or_else(default)
        }
        layers => {
            let name = index.map_or_else(|| layer.to_owned(), |index| format!("{layer}_{index}"));
            layers[name].get("transfunc")
        }
    };
    let Some(function) = function else { return Ok((Activation::Relu, 1.0)) };
    let name = function.as_str().or_else(|| function["type"].as_str()).unwrap_or_default();
    let kept = 1.0 - function["proba"].as_f64().unwrap_or(0.5);
    let known = match name.to_ascii_lowercase().as_str() {
        "identity" => (Activation::Identity, 1.0),
        "relu" => (Activation::Relu, 1.0),
        "sigmoid" => (Activation::Sigmoid, 1.0),
        "tanh" => (Activation::Tanh, 1.0),
        "dropout" => (Activation::Identity, kept),
        "sigmoidwithdropout" => (Activation::Sigmoid, kept),
        "tanhwithdropout" => (Activation::Tanh, kept),
        _ => {
            let problem = format!("the function `{name}` of `{layer}` is not supported");
            return Err(Error::refused(&tensors.file, "network", problem));
        }
    };
    if known.1 > 0.0 && known.1 <= 1.0 {
        return Ok(known);
    }
    let problem = format!("expected a `proba` from 0 to below 1 in `{layer}`, found {}", 1.0 - known.1);
    Err(Error::refused(&tensors.file, "network", problem))
}

/// Refuses a function of a layer whose output is added to the score.
fn check_linear(tensors: &Tensors, function: (Activation, f64), layer: &str) -> Result<()> {
    if function == (Activation::Identity, 1.0) {
        return Ok(());
    }
    let problem = format!("expected the transfunc identity of `{layer}`, found {}", function.0.name());
    Err(Error::refused(&tensors.file, "network", problem))
}

/// The task that the configuration's loss has, when the network is an NFM.
fn task(tensors: &Tensors, network: &Value, wide: &str) -> Result<Task> {
    let layers: Vec<&Value> = match &network["layers"] {
        Value::Array(layers) => layers.iter().collect(),
        layers => layers.as_object().into_iter().flat_map(|layers| layers.values()).collect(),
    };
    let is = |layer: &Value, classes: [&str; 2]| {
        layer["type"].as_str().is_some_and(|own| classes.iter().any(|class| class.eq_ignore_ascii_case(own)))
    };
    let refuse = |problem: String| Err(Error::refused(&tensors.file, "network", problem));
    if !layers.iter().any(|layer| is(layer, ["BiInteractionCross"; 2])) {
        return refuse("expected a layer of type BiInteractionCross, found none: it is no NFM".into());
    }
    // Where Angel itself builds the network, that layer has another name and no function.
    if layers.iter().any(|layer| layer["name"] == wide) || network["layers"].get(wide).is_some() {
        check_linear(tensors, function(tensors, network, wide, None)?, wide)?;
    }
    let loss = layers.iter().find(|layer| is(layer, ["LossLayer", "SimpleLossLayer"]));
    let loss = loss.map(|layer| &layer["lossfunc"]);
    let name = loss.and_then(|loss| loss.as_str().or_else(|| loss["type"].as_str())).unwrap_or("logloss");
    match name.to_ascii_lowercase().as_str() {
        "logloss" | "hingeloss" => Ok(Task::Binary),
        "l2loss" | "huberloss" => Ok(Task::Regression),
        _ => refuse(format!(
            "the loss `{name}` is not supported; supported are logloss, hingeloss, l2loss, huberloss"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dialect::{
        import,
        tests::{refusal, tensors},
    };

    const SHAPES: [(&str, &[usize]); 7] = [
        ("deep_0_bias", &[1, 3]),
        ("deep_0_weight", &[3, 2]),
        ("deep_bias", &[1, 1]),
        ("deep_weight", &[1, 3]),
        ("embedding_embedding", &[2, 3]),
        ("input_bias", &[1, 1]),
        ("input_weight", &[1, 3]),
    ];

    fn angel(shapes: &[(&str, &[usize])]) -> Tensors {
        Tensors { container: "Angel", ..tensors(shapes) }
    }

    #[test]
    fn layers_have_any_name_and_the_projection_may_be_as_wide_as_the_first_order() {
        let model = import(angel(&SHAPES), &Hints::default()).unwrap();
        assert_eq!((model.rows(), model.dim, model.stages.len()), (3, 2, 3));
        assert!(model.assumptions.iter().any(|note| note.contains("--activation")));
        assert!(model.assumptions.iter().any(|note| note.contains("--task")));
    }

    fn configured(network: Value) -> Tensors {
        let mut tensors = angel(&SHAPES);
        tensors.facts.insert("network".into(), Fact::Json(network));
        tensors
    }

    fn network(functions: &Value, loss: &str) -> Value {
        json!({"layers": [
            {"name": "cross", "type": "biinteractioncross"},
            {"name": "deep", "type": "FCLayer", "outputdims": [3, 1], "transfuncs": functions},
            {"name": "loss", "type": "simplelosslayer", "lossfunc": loss}
        ]})
    }

    #[test]
    fn a_configuration_tells_activations_factors_and_the_task() {
        let dropout = json!([{"type": "TanhWithDropout", "proba": 0.25, "actiontype": "train"}, "identity"]);
        let model = import(configured(network(&dropout, "l2loss")), &Hints::default()).unwrap();
        assert_eq!(model.stages[1..3], [Stage::Activation(Activation::Tanh), Stage::Scale(0.75)]);
        assert_eq!(model.link, crate::float_model::Link::Identity);
        assert!(
            model.assumptions.iter().all(|note| !note.contains("--activation") && !note.contains("--task"))
        );
        let by_name = json!({"layers": {
            "cross": {"type": "BiInteractionCross"},
            "deep_0": {"type": "FCLayer", "transfunc": {"type": "Sigmoid"}},
            "deep": {"type": "FCLayer", "transfunc": {"type": "Identity"}},
            "loss": {"type": "LossLayer", "lossfunc": {"type": "LogLoss"}}
        }});
        let model = import(configured(by_name), &Hints::default()).unwrap();
        assert_eq!(model.stages[1], Stage::Activation(Activation::Sigmoid));
    }

    #[test]
    fn a_configuration_of_another_graph_is_refused() {
        let sound = json!(["relu", "identity"]);
        for (network, essential) in [
            (network(&json!(["relu", "relu"]), "logloss"), "identity of `deep`, found relu"),
            (network(&json!(["relu"]), "logloss"), "identity of `deep`, found relu"),
            (network(&json!(["softmax", "identity"]), "logloss"), "`softmax` of `deep`"),
            (network(&json!([{"type": "dropout", "proba": 1.0}, "identity"]), "logloss"), "below 1"),
            (network(&sound, "softmaxloss"), "the loss `softmaxloss`"),
            (json!({"layers": [{"name": "deep", "type": "FCLayer"}]}), "it is no NFM"),
            (json!({"layers": 3}), "it is no NFM"),
            (
                json!({"layers": [{"type": "BiInteractionCross"}, {"name": "input", "type": "SimpleInputLayer"}]}),
                "identity of `input`, found relu",
            ),
        ] {
            let message = refusal(configured(network), &Hints::default());
            assert!(message.contains(essential), "{message}");
        }
    }

    #[test]
    fn the_table_is_transposed() {
        let mut tensors = angel(&SHAPES);
        let table = &mut tensors.entries["embedding_embedding"].values;
        *table = crate::tensors::Values::F32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let model = import(tensors, &Hints::default()).unwrap();
        assert_eq!(model.embeddings, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }

    #[test]
    fn what_is_missing_or_left_over_is_named() {
        for (without, essential) in [
            (0, "`deep_0_bias`: missing"),
            (1, "`deep_weight`: expected [out, 2], found [1, 3]"),
            (3, "`deep_weight`: missing"),
            (5, "`input_bias`: missing"),
            (6, "expected one of shape [1, 3] for the first order, found none"),
        ] {
            let mut shapes = SHAPES.to_vec();
            shapes.remove(without);
            let message = refusal(angel(&shapes), &Hints::default());
            assert!(message.contains(essential), "{message}");
        }
        let two = [SHAPES.as_slice(), &[("other_weight", &[1, 3])]].concat();
        let message = refusal(angel(&two), &Hints::default());
        assert!(message.contains("other"), "{message}");
    }
}
