//! The paper's own graph (He & Chua 2017) as a PyTorch module, with the tensor names of guoyang9/NFM-pyTorch: one table,
//! batch norm on z and before each hidden activation, a projection without bias; without a hidden layer and a projection
//! it is the factorization machine.

use super::{Dialect, Hints};
use crate::{
    error::{Error, Result},
    float_model::{BatchNorm, Dense, FloatModel, Link, Stage},
    schema::{Task, id_fields, total_rows},
    tensors::{Fact, Tensors},
};

pub(super) const DIALECT: Dialect = Dialect {
    name: "paper-torch",
    about: "the paper's graph as a PyTorch module (NFM-pyTorch names)",
    recognizes: |tensors| {
        ["embeddings.weight", "biases.weight", "bias_"].iter().all(|name| tensors.entries.contains_key(*name))
    },
    import,
};

/// How many active entries a row may have when nobody says.
const DEFAULT_MAX_ACTIVE: u16 = 32;

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut assumptions = Vec::new();
    let shape = tensors.shape("embeddings.weight").unwrap_or_default();
    let &[rows, dim] = shape else {
        return Err(tensors.refuse("embeddings.weight", format!("expected [rows, dim], found {shape:?}")));
    };
    let embeddings = tensors.take_f32("embeddings.weight", &[rows, dim])?;
    let linear = tensors.take_f32("biases.weight", &[rows, 1])?;
    let bias = tensors.take("bias_", &[1])?;

    let mut stages = Vec::new();
    if tensors.shape("FM_layers.0.running_mean").is_some() {
        stages.push(batch_norm(tensors, hints, "FM_layers.0", dim)?);
    }
    let is_fm = positions(tensors).is_empty();
    let width = layers(tensors, hints, dim, &mut stages, &mut assumptions)?;
    let projection = match tensors.shape("prediction.weight") {
        Some(_) => tensors.take("prediction.weight", &[1, width])?,
        None if is_fm => vec![1.0; dim],
        None => {
            return Err(
                tensors.refuse("prediction.weight", format!("missing; expected one of shape [1, {width}]"))
            );
        }
    };
    stages.push(Stage::Dense(Dense { weights: projection, bias: vec![0.0] }));

    let fields = hints.fields(&tensors.file, &[("feature".into(), rows)], 0)?;
    if total_rows(&fields) != rows as u64 {
        let problem = format!("the checkpoint has {rows} rows, the schema's fields {}", total_rows(&fields));
        return Err(Error::refused(&tensors.file, "schema", problem));
    }
    let ids = id_fields(&fields);
    let max_active = hints.said_max_active().unwrap_or_else(|| {
        if ids > 1 {
            assumptions.push(format!(
                "at most {ids} active entries in a row, one a field; if more, say --max-active"
            ));
            return u16::try_from(ids).unwrap_or(u16::MAX);
        }
        assumptions
            .push(format!("at most {DEFAULT_MAX_ACTIVE} active entries in a row; if more, say --max-active"));
        DEFAULT_MAX_ACTIVE
    });
    let task =
        hints.task(&tensors.file, tensors.facts.get("config.task"), Task::Regression, &mut assumptions)?;
    Ok(FloatModel {
        dialect: DIALECT.name,
        fields,
        max_active,
        max_value: hints.said_max_value().unwrap_or(1.0),
        one_per_field: false,
        bias: bias.iter().sum(),
        linear,
        dense_linear: Vec::new(),
        dim,
        embeddings,
        stages,
        link: Link::of(task),
        parameters: 0,
        assumptions,
        skipped: Vec::new(),
    })
}

/// The hidden layers, which are numbered with gaps; gives the last one's width.
fn layers(
    tensors: &mut Tensors,
    hints: &Hints,
    inputs: usize,
    stages: &mut Vec<Stage>,
    assumptions: &mut Vec<String>,
) -> Result<usize> {
    let mut width = inputs;
    let positions: Vec<usize> = positions(tensors);
    check_positions(tensors, &positions)?;
    for (at, &position) in positions.iter().enumerate() {
        let prefix = format!("deep_layers.{position}");
        let shape = tensors.shape(&format!("{prefix}.weight")).map(<[usize]>::to_vec).unwrap_or_default();
        match shape.as_slice() {
            &[out, _] => {
                let weights = tensors.take(&format!("{prefix}.weight"), &[out, width])?;
                let bias = tensors.take(&format!("{prefix}.bias"), &[out])?;
                stages.push(Stage::Dense(Dense { weights, bias }));
                width = out;
            }
            [_] if tensors.shape(&format!("{prefix}.running_mean")).is_some() => {
                stages.push(batch_norm(tensors, hints, &prefix, width)?);
            }
            _ => {
                let problem = format!("expected a linear layer or a batch norm, found shape {shape:?}");
                return Err(tensors.refuse(&format!("{prefix}.weight"), problem));
            }
        }
        // An activation follows each linear layer or the batch norm after it, before the next linear layer.
        let next = positions.get(at + 1).map(|next| format!("deep_layers.{next}.running_mean"));
        if next.is_none_or(|name| tensors.shape(&name).is_none()) {
            // The module after this one, where the checkpoint knows its class.
            let module = format!("deep_layers.{}", position.saturating_add(1));
            stages.push(Stage::Activation(hints.activation(tensors, &module, assumptions)?));
        }
    }
    Ok(width)
}

/// Linear layers stand at equal distances from position 0; otherwise one is missing, which equal widths would hide.
fn check_positions(tensors: &Tensors, positions: &[usize]) -> Result<()> {
    let is_linear = |position: &&usize| {
        tensors.shape(&format!("deep_layers.{position}.weight")).is_some_and(|shape| shape.len() == 2)
    };
    let linear: Vec<usize> = positions.iter().filter(is_linear).copied().collect();
    let distance = match linear.as_slice() {
        [first, second, ..] => second - first,
        _ => 1,
    };
    match linear.iter().enumerate().find(|(index, position)| index.saturating_mul(distance) != **position) {
        Some((index, found)) => Err(tensors.refuse(
            &format!("deep_layers.{found}.weight"),
            format!(
                "expected linear layer {index} at deep_layers.{}: is a layer missing?",
                index.saturating_mul(distance)
            ),
        )),
        None => Ok(()),
    }
}

/// Positions in `deep_layers` that hold tensors, ascending.
fn positions(tensors: &Tensors) -> Vec<usize> {
    let number = |name: &String| name.strip_prefix("deep_layers.")?.split('.').next()?.parse().ok();
    let mut positions: Vec<usize> = tensors.entries.keys().filter_map(number).collect();
    positions.sort_unstable();
    positions.dedup();
    positions
}

fn batch_norm(tensors: &mut Tensors, hints: &Hints, prefix: &str, width: usize) -> Result<Stage> {
    let float = |fact: Option<&Fact>| match fact {
        Some(Fact::Float(eps)) => Some(*eps),
        _ => None,
    };
    let fact =
        float(tensors.facts.get(&format!("{prefix}.eps"))).or(float(tensors.facts.get("config.bn_eps")));
    let Some(eps) = hints.said(hints.bn_eps, |schema| schema.bn_eps).or(fact) else {
        let problem = "its eps is not in the checkpoint: say --bn-eps (PyTorch's default is 1e-5, the paper's code has \
                       1e-3), or `bn_eps` in the schema";
        return Err(Error::refused(&tensors.file, format!("batch norm `{prefix}`"), problem));
    };
    if !(eps.is_finite() && eps >= 0.0) {
        return Err(Error::refused(&tensors.file, format!("batch norm `{prefix}`"), format!("eps is {eps}")));
    }
    let variance_name = format!("{prefix}.running_var");
    let variance = tensors.take(&variance_name, &[width])?;
    if let Some(at) = variance.iter().position(|variance| variance + eps <= 0.0) {
        return Err(
            tensors.refuse(&variance_name, format!("element {at} is {}, not a variance", variance[at]))
        );
    }
    let mut take = |name: &str| tensors.take(&format!("{prefix}.{name}"), &[width]);
    let (gamma, beta, mean) = (take("weight")?, take("bias")?, take("running_mean")?);
    Ok(Stage::BatchNorm(BatchNorm { gamma, beta, mean, variance, eps }))
}

#[cfg(test)]
mod tests {
    use crate::{
        dialect::{
            Hints, import,
            tests::{refusal, tensors},
        },
        float_model::{Activation, Dense, FloatModel, Stage},
        tensors::Fact,
    };

    const FM: [(&str, &[usize]); 3] =
        [("bias_", &[1]), ("embeddings.weight", &[4, 2]), ("biases.weight", &[4, 1])];

    fn layer(position: usize, shape: [usize; 2]) -> Vec<(String, Vec<usize>)> {
        let prefix = format!("deep_layers.{position}");
        vec![(format!("{prefix}.weight"), shape.to_vec()), (format!("{prefix}.bias"), vec![shape[0]])]
    }

    /// A model with layers of width 2 at these positions.
    fn with_layers(at: &[usize], prediction: bool) -> crate::tensors::Tensors {
        let mut all: Vec<(String, Vec<usize>)> = at.iter().flat_map(|at| layer(*at, [2, 2])).collect();
        if prediction {
            all.push(("prediction.weight".into(), vec![1, 2]));
        }
        let more = all.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
        tensors(&FM.into_iter().chain(more).collect::<Vec<_>>())
    }

    fn activations(model: &FloatModel) -> Vec<Activation> {
        let activation = |stage: &Stage| match stage {
            Stage::Activation(activation) => Some(activation.clone()),
            _ => None,
        };
        model.stages.iter().filter_map(activation).collect()
    }

    #[test]
    fn without_layers_and_projection_it_is_the_factorization_machine() {
        let model = import(tensors(&FM), &Hints::default()).unwrap();
        assert_eq!(model.stages, [Stage::Dense(Dense { weights: vec![1.0; 2], bias: vec![0.0] })]);
        assert!(!model.one_per_field && model.max_active == 32);
    }

    #[test]
    fn a_layer_or_a_projection_that_is_missing_is_not_passed_over() {
        for (positions, prediction, essential) in [
            // Widths alone would not tell: all are 2.
            (&[0, 3][..], false, "`prediction.weight`: missing"),
            (&[3], true, "expected linear layer 0 at deep_layers.0"),
            (&[0, 3, 9], true, "expected linear layer 2 at deep_layers.6"),
            (&[0, 3, 7], true, "expected linear layer 2 at deep_layers.6"),
            (&[usize::MAX], true, "expected linear layer 0"),
        ] {
            let message = refusal(with_layers(positions, prediction), &Hints::default());
            assert!(message.contains(essential), "{positions:?}: {message}");
        }
        for positions in [&[][..], &[0], &[0, 2, 4], &[0, 4, 8]] {
            let model = import(with_layers(positions, true), &Hints::default()).unwrap();
            assert_eq!(activations(&model), vec![Activation::Relu; positions.len()]);
        }
    }

    #[test]
    fn a_whole_model_tells_its_activation_and_its_slope() {
        let mut tensors = with_layers(&[0, 3], true);
        for (name, fact) in [
            ("deep_layers.1.__class__", Fact::Text("torch.nn.modules.activation.ELU".into())),
            ("deep_layers.1.alpha", Fact::Float(0.5)),
            ("deep_layers.4.__class__", Fact::Text("torch.nn.modules.activation.LeakyReLU".into())),
            ("deep_layers.4.negative_slope", Fact::Float(0.2)),
        ] {
            tensors.facts.insert(name.into(), fact);
        }
        let model = import(tensors.clone(), &Hints::default()).unwrap();
        assert_eq!(activations(&model), [Activation::Elu(0.5), Activation::LeakyRelu(0.2)]);
        tensors.facts.insert("deep_layers.1.__class__".into(), Fact::Text("my.Swish".into()));
        assert!(refusal(tensors, &Hints::default()).contains("`Swish` is not supported"));
    }

    #[test]
    fn tables_without_elements_are_refused() {
        for (rows, dim) in [(0, 2), (4, 0)] {
            let shapes: [(&str, &[usize]); 3] =
                [("bias_", &[1]), ("embeddings.weight", &[rows, dim]), ("biases.weight", &[rows, 1])];
            refusal(tensors(&shapes), &Hints::default());
        }
    }
}
