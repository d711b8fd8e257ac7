//! KGAT-pytorch's NFM: one table for ids with values, no batch norm, relu, a projection h without a bias; a ranking score.
//!
//! `y = linear.bias + Σ w x + h · relu(…)`; the first order is a linear layer, so w lies transposed, `[1, rows]`.

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
    name: "kgat-pytorch",
    about: "KGAT-pytorch's NFM",
    recognizes: |tensors| ["feature_embed", "h.weight"].iter().all(|name| tensors.shape(name).is_some()),
    import,
};

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let dim = draft.columns("feature_embed")?;
    let rows = draft.tensors.rows("feature_embed");
    let fields =
        draft.fields_of_one_table(rows, 0, |rows| vec![Field::new("feature", FieldKind::Ids { rows })])?;
    let table = Rows {
        embeddings: draft.tensors.take_f32("feature_embed", &[rows, dim])?,
        linear: draft.tensors.take_f32("linear.weight", &[1, rows])?,
    };
    draft.bias = draft.number("linear.bias")?;
    let mut width = dim;
    for layer in 0.. {
        let module = format!("hidden_layers.{layer}");
        let (weights, bias) = (format!("{module}.linear.weight"), format!("{module}.linear.bias"));
        if draft.tensors.shape(&weights).is_none() {
            break;
        }
        width = draft.dense(&weights, Some(&bias), Stored::OutIn, width)?;
        draft.activation_or(&format!("{module}.activation"), Activation::Relu)?;
    }
    draft.head("h.weight", None, Stored::OutIn, width)?;
    draft.finish(DIALECT.name, fields, dim, table, ("config.task", Task::Regression))
}

#[cfg(test)]
mod tests {
    use crate::dialect::{
        Hints, import,
        tests::{refusal, tensors},
    };

    const SHAPES: [(&str, &[usize]); 6] = [
        ("feature_embed", &[4, 2]),
        ("linear.weight", &[1, 4]),
        ("linear.bias", &[1]),
        ("hidden_layers.0.linear.weight", &[3, 2]),
        ("hidden_layers.0.linear.bias", &[3]),
        ("h.weight", &[1, 3]),
    ];

    #[test]
    fn its_first_order_is_transposed() {
        assert_eq!(import(tensors(&SHAPES), &Hints::default()).unwrap().linear, [0.5; 4]);
        let mut shapes = SHAPES;
        shapes[1].1 = &[4, 1];
        let message = refusal(tensors(&shapes), &Hints::default());
        assert!(message.contains("expected [1, 4], found [4, 1]"), "{message}");
    }
}
