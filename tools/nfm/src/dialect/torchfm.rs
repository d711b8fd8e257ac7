//! rixwew's torchfm (pytorch-fm), and ARM-Net, which has its graph with values: one table with offsets for all fields, batch norm
//! on z and before each relu, a projection with a bias beside that of the first order.
//!
//! `y = linear.bias + Σ w x + mlp(bn(Σ pairs of x v))`, and a sigmoid. The offsets are no tensor, so a checkpoint of torchfm
//! needs a schema to tell its fields apart; ARM-Net's rows are ids with values over the whole table.

use super::{
    Dialect, Hints,
    draft::{BnNames, Draft, Rows},
    sequential::Sequential,
};
use crate::{
    error::Result,
    float_model::{Activation, FloatModel},
    schema::{Field, FieldKind, Task},
    tensors::Tensors,
};

pub(super) const DIALECT: Dialect = Dialect {
    name: "torchfm",
    about: "rixwew's torchfm (pytorch-fm) NFM",
    recognizes: |tensors| has_table(tensors) && tensors.shape("linear.fc.weight").is_some(),
    import: |tensors, hints| import(tensors, hints, "torchfm", "linear.fc.weight"),
};

pub(super) const ARM_NET: Dialect = Dialect {
    name: "arm-net",
    about: "ARM-Net's NFM",
    recognizes: |tensors| has_table(tensors) && tensors.shape("linear.weight.weight").is_some(),
    import: |tensors, hints| import(tensors, hints, "arm-net", "linear.weight.weight"),
};

const TABLE: &str = "embedding.embedding.weight";

/// torch's default.
const EPS: f64 = 1e-5;

fn has_table(tensors: &Tensors) -> bool {
    tensors.shape(TABLE).is_some() && tensors.shape("fm.1.running_mean").is_some()
}

fn import(tensors: &mut Tensors, hints: &Hints, name: &'static str, linear: &str) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let dim = draft.columns(TABLE)?;
    let rows = draft.tensors.rows(TABLE);
    let fields =
        draft.fields_of_one_table(rows, 0, |rows| vec![Field::new("feature", FieldKind::Ids { rows })])?;
    if hints.schema_fields().is_empty() {
        draft.assume(
            "the fields' offsets are not in the checkpoint: rows are ids over its whole table; a schema tells fields apart",
        );
    }
    let table = Rows {
        embeddings: draft.tensors.take_f32(TABLE, &[rows, dim])?,
        linear: draft.tensors.take_f32(linear, &[rows, 1])?,
    };
    draft.bias = draft.number("linear.bias")?;
    draft.batch_norm(&BnNames::torch("fm.1"), dim, Some(EPS))?;
    let layers = Sequential {
        prefix: "mlp.mlp",
        eps: Some(EPS),
        activation: Some(Activation::Relu),
        ends_in_head: true,
    };
    layers.take(&mut draft, dim)?;
    draft.finish(name, fields, dim, table, ("config.task", Task::Binary))
}

#[cfg(test)]
mod tests {
    use crate::dialect::{
        Hints, import,
        tests::{refusal, tensors},
    };

    const SHAPES: [(&str, &[usize]); 9] = [
        ("embedding.embedding.weight", &[4, 2]),
        ("linear.fc.weight", &[4, 1]),
        ("linear.bias", &[1]),
        ("fm.1.weight", &[2]),
        ("fm.1.bias", &[2]),
        ("fm.1.running_mean", &[2]),
        ("fm.1.running_var", &[2]),
        ("mlp.mlp.0.weight", &[1, 2]),
        ("mlp.mlp.0.bias", &[1]),
    ];

    #[test]
    fn both_biases_count() {
        let model = import(tensors(&SHAPES), &Hints::default()).unwrap();
        let none = crate::rows::Row::default();
        // z = 0: bn gives 0.5 · (0 − 0.5) / √0.50001 + 0.5 a lane; half of both, and a bias of 0.5 twice.
        let lane = 0.5 - 0.25 / 0.50001_f64.sqrt();
        assert!((model.score(&none) - (lane + 1.0)).abs() < 1e-9);
    }

    #[test]
    fn more_outputs_than_one_are_refused() {
        let mut shapes = SHAPES;
        shapes[7].1 = &[3, 2];
        shapes[8].1 = &[3];
        let message = refusal(tensors(&shapes), &Hints::default());
        assert!(
            message.contains("mlp.mlp.0") && message.contains("expected one output, found 3"),
            "{message}"
        );
    }
}
