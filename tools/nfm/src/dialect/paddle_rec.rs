//! `PaddleRec`'s NFM (fluid 1.8, and the same graph in static 2.x): one table for ids with values, row 0 the padding; batch norm
//! on z and between two activations; dropout that multiplies at inference.
//!
//! `y = Σ w x + fc(s · act(bn(act(fc(s · bn(z))))))`, with `s = 1 − p` of the dropout in Paddle's default mode, or 1. Layers are numbered as
//! Paddle numbers them: `embedding_0.w_0` is the first order, `embedding_1.w_0` the table, `fc_i.{w,b}_0`, and
//! `batch_norm_i.{w_0,b_0,w_1,w_2}` γ, β, μ and σ². Where the program stands beside the parameters, it tells padding, dropout,
//! activations and ε. Skipped: optimizer slots, learning rates, the counts of metrics.

use super::{
    Dialect, Hints,
    draft::{BnNames, Draft, Rows, Stored},
};
use crate::{
    error::{Error, Result},
    float_model::{Activation, FloatModel, Stage},
    schema::{Field, FieldKind, Task},
    tensors::{Attribute, Graph, Node, Tensors},
};

pub(super) const DIALECT: Dialect = Dialect {
    name: "paddlerec",
    about: "PaddleRec's NFM",
    recognizes: |tensors| numbered(tensors, "embedding").len() == 2 && !numbered(tensors, "fc").is_empty(),
    import,
};

/// ε of Paddle's batch norm.
const EPS: f64 = 1e-5;

/// The slope of Paddle's leaky relu.
const SLOPE: f64 = 0.02;

/// What optimizers put behind the name of a parameter, before a number.
const SLOTS: [&str; 10] = [
    "_beta1_pow_acc",
    "_beta2_pow_acc",
    "_inf_norm",
    "_linear",
    "_mean_grad",
    "_mean_square",
    "_moment",
    "_moment1",
    "_moment2",
    "_velocity",
];

/// Starts of the names of learning rates, counters and the counts of metrics.
const NO_PARAMETERS: [&str; 3] = ["learning_rate_", "_generated_var_", "@"];

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    skip_training(&mut draft);
    let graph = draft.tensors.graph.clone();
    let [first, second] = tables(draft.tensors)?;
    let (rows, dim) = (draft.tensors.rows(&second), draft.columns(&second)?);
    let table = Rows {
        linear: without_padding(&mut draft, graph.as_ref(), &first, [rows, 1])?,
        embeddings: without_padding(&mut draft, graph.as_ref(), &second, [rows, dim])?,
    };
    layers(&mut draft, graph.as_ref(), dim)?;
    let fields =
        draft.fields_of_one_table(rows, 0, |rows| vec![Field::new("feature", FieldKind::Ids { rows })])?;
    draft.know_task(Task::Binary);
    draft.finish(DIALECT.name, fields, dim, table, ("config.task", Task::Binary))
}

/// Layers of this kind that have weights, by their numbers.
fn numbered(tensors: &Tensors, kind: &str) -> Vec<String> {
    let number = |name: &String| -> Option<u32> {
        name.strip_prefix(kind)?.strip_prefix('_')?.strip_suffix(".w_0")?.parse().ok()
    };
    let mut numbers: Vec<u32> = tensors.entries.keys().filter_map(number).collect();
    numbers.sort_unstable();
    numbers.into_iter().map(|number| format!("{kind}_{number}")).collect()
}

fn skip_training(draft: &mut Draft<'_>) {
    let is_slot = |name: &str| {
        let (slot, number) = name.rsplit_once('_')?;
        let parameter = SLOTS.iter().find_map(|end| slot.strip_suffix(end))?;
        number.parse::<u64>().ok()?;
        draft.tensors.shape(parameter)
    };
    let is_training =
        |name: &str| NO_PARAMETERS.iter().any(|start| name.starts_with(start)) || is_slot(name).is_some();
    let names: Vec<String> = draft.tensors.entries.keys().filter(|name| is_training(name)).cloned().collect();
    names.iter().for_each(|name| draft.skip(name));
}

/// The tables of the first and of the second order.
fn tables(tensors: &Tensors) -> Result<[String; 2]> {
    match numbered(tensors, "embedding").as_slice() {
        [first, second] => Ok([first, second].map(|layer| format!("{layer}.w_0"))),
        found => {
            let problem =
                format!("expected a table for the first and one for the second order, found {found:?}");
            Err(Error::refused(&tensors.file, "embedding_0.w_0, embedding_1.w_0", problem))
        }
    }
}

/// A table, with zeros for the padding, which Paddle never reads.
fn without_padding(
    draft: &mut Draft<'_>,
    graph: Option<&Graph>,
    name: &str,
    shape: [usize; 2],
) -> Result<Vec<f32>> {
    let mut table = draft.tensors.take_f32(name, &shape)?;
    let padding = match graph.and_then(|graph| user(graph, name)?.attributes.get("padding_idx")) {
        Some(Attribute::Int(padding)) => usize::try_from(*padding).ok(),
        _ => Some(0),
    };
    if let Some(row) = padding.and_then(|padding| table.chunks_exact_mut(shape[1]).nth(padding)) {
        row.fill(0.0);
    }
    Ok(table)
}

fn layers(draft: &mut Draft<'_>, graph: Option<&Graph>, dim: usize) -> Result<()> {
    let [layers, norms] = ["fc", "batch_norm"].map(|kind| numbered(draft.tensors, kind));
    check_numbers(draft.tensors, "fc", &layers)?;
    if !norms.is_empty() && norms.len() != layers.len() {
        let problem = format!(
            "expected none, or one for z and each of {} hidden layers, found {}",
            layers.len().saturating_sub(1),
            norms.join(", ")
        );
        return Err(Error::refused(&draft.tensors.file, "batch norms", problem));
    }
    let scale = dropout_scale(draft, graph, layers.len())?;
    let mut width = dim;
    for (index, layer) in layers.iter().enumerate() {
        let norm = norms.get(index);
        if let Some(norm) = norm {
            draft.batch_norm(&bn_names(norm), width, Some(eps(graph, norm).unwrap_or(EPS)))?;
        }
        if index > 0 && norm.is_some() {
            // The function of the layer before, again.
            activation(draft, graph, &layers[index - 1])?;
        }
        if scale < 1.0 {
            draft.stages.push(Stage::Scale(scale));
        }
        let [weights, bias] = ["w", "b"].map(|part| format!("{layer}.{part}_0"));
        if index + 1 == layers.len() {
            return draft.head(&weights, Some(&bias), Stored::InOut, width);
        }
        width = draft.dense(&weights, Some(&bias), Stored::InOut, width)?;
        activation(draft, graph, layer)?;
    }
    Err(draft.tensors.refuse("fc_0.w_0", "missing; expected the projection to the score"))
}

/// Layers are numbered without a gap; otherwise one is missing, which equal widths would hide.
fn check_numbers(tensors: &Tensors, kind: &str, layers: &[String]) -> Result<()> {
    let number = |layer: &String| layer.rsplit('_').next()?.parse::<u32>().ok().map(u64::from);
    let first = layers.first().and_then(number).unwrap_or(0);
    match (first..).zip(layers).find(|(expected, layer)| number(layer) != Some(*expected)) {
        Some((expected, _)) => {
            Err(tensors.refuse(&format!("{kind}_{expected}.w_0"), "missing; is the folder complete?"))
        }
        None => Ok(()),
    }
}

fn bn_names(norm: &str) -> BnNames {
    BnNames::of(norm, ["w_0", "b_0", "w_1", "w_2"], '.')
}

/// What dropout multiplies with: by the schema, by the program, or 1, which is then noted.
fn dropout_scale(draft: &mut Draft<'_>, graph: Option<&Graph>, layers: usize) -> Result<f64> {
    let scale = match (draft.hints.said(None, |schema| schema.dropout_scale), graph) {
        (Some(said), _) => said,
        (None, Some(graph)) => scale_of_program(draft.tensors, graph, layers)?,
        (None, None) => {
            draft.assume(
                "dropout was off, as in PaddleRec's configuration; if not, say \"dropout_scale\" in the schema: 1 − dropout_prob",
            );
            1.0
        }
    };
    if scale > 0.0 && scale <= 1.0 {
        return Ok(scale);
    }
    let problem = format!("expected a factor above 0 and up to 1, which is 1 − dropout_prob, found {scale}");
    Err(Error::refused(&draft.tensors.file, "dropout", problem))
}

/// What all dropouts of the program multiply with; 1 without one.
fn scale_of_program(tensors: &Tensors, graph: &Graph, layers: usize) -> Result<f64> {
    let scales: Vec<f64> = graph.nodes.iter().filter(|node| node.op == "dropout").map(scale_of).collect();
    let alike = |scale: &f64| scales.iter().all(|other| other.total_cmp(scale).is_eq());
    match scales.first() {
        None => Ok(1.0),
        Some(scale) if scales.len() == layers && alike(scale) => Ok(*scale),
        Some(_) => {
            let problem = format!(
                "expected one alike on z and after each hidden layer, found {} in the program, which multiply by {scales:?}",
                scales.len()
            );
            Err(Error::refused(&tensors.file, "dropout", problem))
        }
    }
}

/// What a dropout multiplies with at inference.
fn scale_of(dropout: &Node) -> f64 {
    let scales_in_training = Attribute::Text("upscale_in_train".into());
    match dropout.attributes.get("dropout_prob") {
        _ if dropout.attributes.get("dropout_implementation") == Some(&scales_in_training) => 1.0,
        Some(Attribute::Float(probability)) => 1.0 - probability,
        // The operator's own default.
        _ => 0.5,
    }
}

/// The activation after a hidden layer: by the user, the schema or the program, or relu, which is then noted.
fn activation(draft: &mut Draft<'_>, graph: Option<&Graph>, layer: &str) -> Result<()> {
    if let Some(graph) = graph {
        let own = of_program(draft.tensors, graph, layer)?;
        return draft.activation_or(layer, own);
    }
    draft.activation(layer)?;
    if let Some(Stage::Activation(Activation::LeakyRelu(slope))) = draft.stages.last_mut() {
        *slope = SLOPE;
    }
    Ok(())
}

/// The activation that the program has after a layer's bias.
fn of_program(tensors: &Tensors, graph: &Graph, layer: &str) -> Result<Activation> {
    let after = |node: &Node| node.outputs.first().and_then(|output| user(graph, output));
    let node = user(graph, &format!("{layer}.b_0")).and_then(after);
    let number = |node: &Node, name: &str, default: f64| match node.attributes.get(name) {
        Some(Attribute::Float(number)) => *number,
        _ => default,
    };
    Ok(match node.map(|node| (node.op.as_str(), node)) {
        Some(("mul" | "matmul_v2" | "batch_norm" | "dropout", _)) => Activation::Identity,
        Some(("relu", _)) => Activation::Relu,
        Some(("sigmoid", _)) => Activation::Sigmoid,
        Some(("tanh", _)) => Activation::Tanh,
        Some(("leaky_relu", node)) => Activation::LeakyRelu(number(node, "alpha", SLOPE)),
        Some(("elu", node)) => Activation::Elu(number(node, "alpha", 1.0)),
        found => {
            let found = found.map_or("nothing", |(op, _)| op);
            let problem =
                format!("`{found}` after `{layer}` is not supported; supported are {}", Activation::NAMES);
            return Err(Error::refused(&tensors.file, "hidden activation", problem));
        }
    })
}

/// ε of a batch norm of the program.
fn eps(graph: Option<&Graph>, norm: &str) -> Option<f64> {
    match user(graph?, &format!("{norm}.w_0"))?.attributes.get("epsilon")? {
        Attribute::Float(eps) => Some(*eps),
        _ => None,
    }
}

/// The first operation that takes a value; those of the way back come later.
fn user<'g>(graph: &'g Graph, value: &str) -> Option<&'g Node> {
    graph.nodes.iter().find(|node| node.inputs.iter().any(|input| input == value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dialect::{
            import,
            tests::{refusal, tensors},
        },
        schema::Schema,
    };

    const SHAPES: [(&str, &[usize]); 6] = [
        ("embedding_4.w_0", &[3, 1]),
        ("embedding_5.w_0", &[3, 2]),
        ("fc_2.w_0", &[2, 2]),
        ("fc_2.b_0", &[2]),
        ("fc_3.w_0", &[2, 1]),
        ("fc_3.b_0", &[1]),
    ];

    fn scaled_by(dropout_scale: f64) -> Hints {
        let schema = Schema { schema_version: 1, dropout_scale: Some(dropout_scale), ..Schema::default() };
        Hints { schema: Some(schema), ..Hints::default() }
    }

    fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[(&str, Attribute)]) -> Node {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Node { op: op.into(), inputs: texts(inputs), outputs: texts(outputs), attributes, ..Node::default() }
    }

    /// The program of [`SHAPES`] with `activation` after the hidden layer.
    fn program(activation: Node, more: Vec<Node>) -> Tensors {
        let table = node(
            "lookup_table_v2",
            &["ids", "embedding_5.w_0"],
            &["e"],
            &[("padding_idx", Attribute::Int(-1))],
        );
        let add = node("elementwise_add", &["h", "fc_2.b_0"], &["sum"], &[]);
        let nodes = [vec![table, add, activation], more].concat();
        Tensors { graph: Some(Graph { nodes, ..Graph::default() }), ..tensors(&SHAPES) }
    }

    fn dropout(probability: f64, mode: &str) -> Node {
        let attributes = [
            ("dropout_prob", Attribute::Float(probability)),
            ("dropout_implementation", Attribute::Text(mode.into())),
        ];
        node("dropout", &["x"], &["y"], &attributes)
    }

    fn relu() -> Node {
        node("relu", &["sum"], &["h1"], &[])
    }

    fn scales(model: &FloatModel) -> Vec<f64> {
        let scale = |stage: &Stage| match stage {
            Stage::Scale(scale) => Some(*scale),
            _ => None,
        };
        model.stages.iter().filter_map(scale).collect()
    }

    #[test]
    fn numbers_may_start_anywhere_and_the_padding_is_zero() {
        let model = import(tensors(&SHAPES), &Hints::default()).unwrap();
        assert_eq!(model.linear, [0.0, 0.5, 0.5]);
        assert_eq!(model.embeddings, [0.0, 0.0, 0.5, 0.5, 0.5, 0.5]);
        assert!(model.assumptions.iter().any(|note| note.contains("dropout_scale")));
        assert!(model.assumptions.iter().all(|note| !note.contains("--task")));
    }

    #[test]
    fn dropout_multiplies_before_each_layer() {
        let model = import(tensors(&SHAPES), &scaled_by(0.25)).unwrap();
        assert!(matches!(model.stages[0], Stage::Scale(_)) && matches!(model.stages[3], Stage::Scale(_)));
        assert_eq!(scales(&model), [0.25, 0.25]);
        assert!(model.assumptions.iter().all(|note| !note.contains("dropout")));
        for wrong in [0.0, -0.5, 1.5, f64::NAN] {
            assert!(refusal(tensors(&SHAPES), &scaled_by(wrong)).contains("above 0 and up to 1"));
        }
    }

    #[test]
    fn a_program_tells_padding_dropout_and_activation() {
        let old = || dropout(0.75, "downgrade_in_infer");
        let model = import(program(relu(), vec![old(), old()]), &Hints::default()).unwrap();
        assert_eq!(scales(&model), [0.25, 0.25]);
        assert_eq!((model.linear[0], model.embeddings[0]), (0.0, 0.5), "no padding in the second order");
        let new = || dropout(0.75, "upscale_in_train");
        let slopes = node("leaky_relu", &["sum"], &["h1"], &[("alpha", Attribute::Float(0.125))]);
        let model = import(program(slopes, vec![new(), new()]), &Hints::default()).unwrap();
        assert!(scales(&model).is_empty());
        assert_eq!(model.stages[1], Stage::Activation(Activation::LeakyRelu(0.125)));
    }

    #[test]
    fn a_program_of_another_graph_is_refused() {
        let one = vec![dropout(0.75, "downgrade_in_infer")];
        assert!(refusal(program(relu(), one), &Hints::default()).contains("found 1 in the program"));
        let unlike = [0.25, 0.5].map(|probability| dropout(probability, "downgrade_in_infer"));
        assert!(refusal(program(relu(), unlike.to_vec()), &Hints::default()).contains("alike"));
        let gelu = node("gelu", &["sum"], &["h1"], &[]);
        assert!(refusal(program(gelu, vec![]), &Hints::default()).contains("`gelu` after `fc_2`"));
        let nothing = node("relu", &["other"], &["h1"], &[]);
        assert!(refusal(program(nothing, vec![]), &Hints::default()).contains("`nothing` after `fc_2`"));
    }

    #[test]
    fn without_a_program_leaky_relu_has_the_slope_of_paddle() {
        let hints = Hints { activation: Some("leaky_relu".into()), ..Hints::default() };
        let model = import(tensors(&SHAPES), &hints).unwrap();
        assert_eq!(model.stages[1], Stage::Activation(Activation::LeakyRelu(0.02)));
    }

    #[test]
    fn training_state_is_skipped_and_anything_else_is_left_over() {
        let more: [(&str, &[usize]); 4] = [
            ("fc_2.w_0_moment1_0", &[2, 2]),
            ("learning_rate_0", &[1]),
            ("_generated_var_2", &[9]),
            ("other_moment1_0", &[2]),
        ];
        let known = [SHAPES.as_slice(), &more[..3]].concat();
        let model = import(tensors(&known), &Hints::default()).unwrap();
        assert_eq!(model.skipped, ["fc_2.w_0_moment1_0", "learning_rate_0", "_generated_var_2"]);
        assert_eq!(model.parameters, 3 + 6 + 4 + 2 + 2 + 1);
        let message = refusal(tensors(&[SHAPES.as_slice(), &more].concat()), &Hints::default());
        assert!(message.contains("`other_moment1_0` [2]"), "{message}");
    }

    #[test]
    fn what_is_missing_or_of_another_shape_is_named() {
        let without = |name: &str| SHAPES.into_iter().filter(|(found, _)| *found != name).collect::<Vec<_>>();
        let message = refusal(tensors(&without("fc_3.b_0")), &Hints::default());
        assert!(message.contains("`fc_3.b_0`: missing"), "{message}");
        let mut gap = SHAPES;
        (gap[4].0, gap[5].0) = ("fc_4.w_0", "fc_4.b_0");
        let message = refusal(tensors(&gap), &Hints::default());
        assert!(message.contains("`fc_3.w_0`: missing"), "{message}");
        // PaddleRec's DeepFM has the same names; its layers take all embeddings.
        let mut wide = SHAPES;
        wide[2].1 = &[78, 2];
        let message = refusal(tensors(&wide), &Hints::default());
        assert!(message.contains("expected [2, out], found [78, 2]"), "{message}");
        let norm = [SHAPES.as_slice(), &[("batch_norm_0.w_0", &[2])]].concat();
        let message = refusal(tensors(&norm), &Hints::default());
        assert!(message.contains("one for z and each of 1 hidden layers"), "{message}");
    }
}
