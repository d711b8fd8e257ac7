//! The paper's own graph (He & Chua 2017) as a PyTorch module, with the tensor names of guoyang9/NFM-pyTorch: one table,
//! batch norm on z and before each hidden activation, a projection without bias; without a hidden layer and a projection
//! it is the factorization machine.

use super::{
    Dialect, Hints,
    draft::{BnNames, Draft, Rows, Stored},
    sequential::Sequential,
};
use crate::{
    error::Result,
    float_model::FloatModel,
    schema::{Field, FieldKind, Task},
    tensors::Tensors,
};

pub(super) const DIALECT: Dialect = Dialect {
    name: "paper-torch",
    about: "the paper's graph as a PyTorch module (NFM-pyTorch names)",
    recognizes: |tensors| {
        ["embeddings.weight", "biases.weight", "bias_"].iter().all(|name| tensors.entries.contains_key(*name))
    },
    import,
};

const LAYERS: Sequential<'_> =
    Sequential { prefix: "deep_layers", eps: None, activation: None, ends_in_head: false };

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let dim = draft.columns("embeddings.weight")?;
    let rows = draft.tensors.rows("embeddings.weight");
    let table = Rows {
        embeddings: draft.tensors.take_f32("embeddings.weight", &[rows, dim])?,
        linear: draft.tensors.take_f32("biases.weight", &[rows, 1])?,
    };
    draft.bias = draft.number("bias_")?;
    if draft.tensors.shape("FM_layers.0.running_mean").is_some() {
        draft.batch_norm(&BnNames::torch("FM_layers.0"), dim, None)?;
    }
    let is_fm = LAYERS.positions(draft.tensors).is_empty();
    let width = LAYERS.take(&mut draft, dim)?;
    if is_fm && draft.tensors.shape("prediction.weight").is_none() {
        draft.sum(dim);
    } else {
        draft.head("prediction.weight", None, Stored::OutIn, width)?;
    }
    let fields =
        draft.fields_of_one_table(rows, 0, |rows| vec![Field::new("feature", FieldKind::Ids { rows })])?;
    draft.finish(DIALECT.name, fields, dim, table, ("config.task", Task::Regression))
}

#[cfg(test)]
mod tests {
    use crate::{
        dialect::{
            Hints, import,
            tests::{refusal, tensors},
        },
        float_model::{Activation, Dense, FloatModel, Stage},
        schema::FieldKind,
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
        assert!(matches!(model.fields[0].kind, FieldKind::Ids { rows: 4 }) && model.max_active == 32);
    }

    #[test]
    fn a_layer_or_a_projection_that_is_missing_is_not_passed_over() {
        for (positions, prediction, essential) in [
            // Widths alone would not tell: all are 2.
            (&[0, 3][..], false, "`prediction.weight`: missing"),
            (&[3], true, "expected linear layer 0 at deep_layers.0, or"),
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
