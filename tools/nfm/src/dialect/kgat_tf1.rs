//! KGAT's NFM and FM in TensorFlow 1: one table for ids with values, no batch norm, relu, a projection h without a bias, no
//! constant; a ranking score.
//!
//! `y = Σ w x + h · relu(W_n … relu(W_0 z + b_0) …)`; its FM has neither layers nor h: `y = Σ w x + Σ z`.

use super::{
    Dialect, Hints,
    draft::{Draft, Rows, Stored},
};
use crate::{
    error::Result,
    float_model::{Activation, FloatModel},
    schema::{Field, FieldKind, Task},
    tensors::Tensors,
};

pub(super) const DIALECT: Dialect = Dialect {
    name: "kgat-tf1",
    about: "KGAT's NFM and FM (TensorFlow 1)",
    recognizes: |tensors| [TABLE, FIRST].iter().all(|name| tensors.shape(name).is_some()),
    import,
};

const TABLE: &str = "var_factor";
const FIRST: &str = "var_linear";

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let dim = draft.columns(TABLE)?;
    let rows = draft.tensors.rows(TABLE);
    let fields =
        draft.fields_of_one_table(rows, 0, |rows| vec![Field::new("feature", FieldKind::Ids { rows })])?;
    let table = Rows {
        embeddings: draft.tensors.take_f32(TABLE, &[rows, dim])?,
        linear: draft.tensors.take_f32(FIRST, &[rows, 1])?,
    };
    let mut width = dim;
    for layer in 0.. {
        let (weights, bias) = (format!("W_{layer}"), format!("b_{layer}"));
        if draft.tensors.shape(&weights).is_none() {
            break;
        }
        width = draft.dense(&weights, Some(&bias), Stored::InOut, width)?;
        draft.activation_or(&weights, Activation::Relu)?;
    }
    if draft.stages.is_empty() && draft.tensors.shape("h").is_none() {
        draft.sum(dim);
    } else {
        draft.head("h", None, Stored::InOut, width)?;
    }
    draft.finish(DIALECT.name, fields, dim, table, ("config.task", Task::Regression))
}

#[cfg(test)]
mod tests {
    use crate::dialect::{
        Hints, import,
        tests::{refusal, tensors},
    };

    const SHAPES: [(&str, &[usize]); 5] = [
        ("var_factor", &[4, 2]),
        ("var_linear", &[4, 1]),
        ("W_0", &[2, 3]),
        ("b_0", &[1, 3]),
        ("h", &[3, 1]),
    ];

    #[test]
    fn an_fm_sums_z() {
        assert_eq!(import(tensors(&SHAPES[..2]), &Hints::default()).unwrap().stages.len(), 1);
    }

    #[test]
    fn layers_without_a_projection_are_refused() {
        let message = refusal(tensors(&SHAPES[..4]), &Hints::default());
        assert!(message.contains("`h`: missing") && message.contains("[3, out]"), "{message}");
    }
}
