//! The NFM of lambdaji's `tf_repos` (TensorFlow Estimator): one table for ids with values, no batch norm on z and one after
//! each relu, a projection with a bias beside that of the model.
//!
//! `y = bias + Σ w x + deep_out(… bn_0(relu(mlp0(z))) …)`, and a sigmoid. w is a vector. Every row has as many entries as the data
//! set has fields, absent ones with the value 0, which adds nothing.

use super::{
    Dialect, Hints,
    draft::{BnNames, Draft, Rows, Stored},
};
use crate::{
    error::Result,
    float_model::{Activation, FloatModel},
    schema::{Field, FieldKind, Task},
    tensors::Tensors,
};

pub(super) const DIALECT: Dialect = Dialect {
    name: "lambdaji",
    about: "the NFM of lambdaji's tf_repos (TensorFlow Estimator)",
    recognizes: |tensors| {
        let head = format!("{HEAD}/weights");
        ["emb", "linear", &head].iter().all(|name| tensors.shape(name).is_some())
    },
    import,
};

const HEAD: &str = "Deep-part/deep_out";

/// tf.contrib's.
const EPS: f64 = 1e-3;

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let dim = draft.columns("emb")?;
    let rows = draft.tensors.rows("emb");
    let fields =
        draft.fields_of_one_table(rows, 0, |rows| vec![Field::new("feature", FieldKind::Ids { rows })])?;
    let table = Rows {
        embeddings: draft.tensors.take_f32("emb", &[rows, dim])?,
        linear: draft.tensors.take_f32("linear", &[rows])?,
    };
    draft.bias = draft.number("bias")?;
    let mut width = dim;
    for layer in 0.. {
        let scope = format!("Deep-part/mlp{layer}");
        let (weights, bias) = (format!("{scope}/weights"), format!("{scope}/biases"));
        if draft.tensors.shape(&weights).is_none() {
            break;
        }
        width = draft.dense(&weights, Some(&bias), Stored::InOut, width)?;
        draft.activation_or(&scope, Activation::Relu)?;
        let norm = BnNames::keras(&format!("Deep-part/bn_{layer}"));
        if draft.tensors.shape(&norm.variance).is_some() {
            draft.batch_norm(&norm, width, Some(EPS))?;
        }
    }
    draft.head(&format!("{HEAD}/weights"), Some(&format!("{HEAD}/biases")), Stored::InOut, width)?;
    draft.finish(DIALECT.name, fields, dim, table, ("config.task", Task::Binary))
}

#[cfg(test)]
mod tests {
    use crate::dialect::{
        Hints,
        tests::{refusal, tensors},
    };

    const SHAPES: [(&str, &[usize]); 7] = [
        ("bias", &[1]),
        ("emb", &[4, 2]),
        ("linear", &[4]),
        ("Deep-part/mlp0/weights", &[2, 3]),
        ("Deep-part/mlp0/biases", &[3]),
        ("Deep-part/deep_out/weights", &[3, 1]),
        ("Deep-part/deep_out/biases", &[1]),
    ];

    #[test]
    fn a_bias_that_is_missing_is_asked_for() {
        let message = refusal(tensors(&SHAPES[..6]), &Hints::default());
        assert!(message.contains("deep_out/biases") && message.contains("missing"), "{message}");
    }

    #[test]
    fn a_batch_norm_of_no_layer_is_left_over() {
        let shapes = [SHAPES.as_slice(), &[("Deep-part/bn_1/gamma", &[3])]].concat();
        let message = refusal(tensors(&shapes), &Hints::default());
        assert!(message.contains("no place for `Deep-part/bn_1/gamma`"), "{message}");
    }
}
