//! The paper's own code (`hexiangnan/neural_factorization_machine`, TensorFlow 1): one table, batch norm on z and before each
//! hidden activation, a projection without bias. Its FM has the same names without layers.
//!
//! The layers have no names of their own: `Variable`, `Variable_1` … are matrices and biases in turn, the last one the projection.
//! A model that was started from a trained FM (`pretrain 1`) holds that FM's graph beside its own: `feature_embeddings`,
//! `feature_bias` and `bias` are then decoys that no score uses, and `Variable`, `Variable_1`, `Variable_2` are the real ones. Two
//! matrices of as many rows give it away. The batch norm on z has `_1` after its names then, if that FM had one too.
//!
//! princewen's demo (`Basic-NFM-Demo`) has the same names and values x, no batch norm, and no projection: `y = bias + Σ w x + Σ h` of
//! the last layer h. Its graph makes a projection and a constant of it all the same and uses neither; the constant, a scalar as the
//! last `Variable`, gives it away.

use super::{
    Dialect, Hints,
    draft::{BnNames, Draft, Rows, Stored},
};
use crate::{
    error::Result,
    float_model::FloatModel,
    schema::{Field, FieldKind, Task},
    tensors::Tensors,
};

pub(super) const DIALECT: Dialect = Dialect {
    name: "paper-tf1",
    about: "the paper's own code (TensorFlow 1)",
    recognizes: |tensors| {
        TABLES.iter().all(|name| tensors.shape(name).is_some()) && unused_constant(tensors).is_none()
    },
    import,
};

pub(super) const PRINCEWEN: Dialect = Dialect {
    name: "princewen",
    about: "princewen's Basic-NFM-Demo (TensorFlow 1)",
    recognizes: |tensors| {
        TABLES.iter().all(|name| tensors.shape(name).is_some()) && unused_constant(tensors).is_some()
    },
    import: import_princewen,
};

/// tf.contrib's.
const EPS: f64 = 1e-3;

const TABLES: [&str; 3] = ["feature_embeddings", "feature_bias", "bias"];

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let dim = draft.columns(TABLES[0])?;
    let rows = draft.tensors.rows(TABLES[0]);
    // A table of as many rows as lanes could be a layer; then a vector of weights a row follows it.
    let pretrained = draft.tensors.shape(&variable(0)) == Some(&[rows, dim])
        && draft.tensors.shape(&variable(1)) == Some(&[rows, 1]);
    let names = if pretrained { [variable(0), variable(1), variable(2)] } else { TABLES.map(str::to_owned) };
    if pretrained {
        TABLES.iter().for_each(|name| draft.skip(name));
        draft.assume(
            "it was started from a trained FM: `Variable`, `Variable_1`, `Variable_2` are its table, first order and bias, and \
             `feature_embeddings`, `feature_bias`, `bias` are not used by its graph",
        );
    }
    let table = Rows {
        embeddings: draft.tensors.take_f32(&names[0], &[rows, dim])?,
        linear: draft.tensors.take_f32(&names[1], &[rows, 1])?,
    };
    draft.bias = draft.number(&names[2])?;
    norm_of_z(&mut draft, dim)?;
    layers(&mut draft, if pretrained { 3 } else { 0 }, dim)?;
    let fields =
        draft.fields_of_one_table(rows, 0, |rows| vec![Field::new("feature", FieldKind::Ids { rows })])?;
    draft.finish(DIALECT.name, fields, dim, table, ("config.task", Task::Regression))
}

/// The name that TensorFlow gave the n-th variable without one.
fn variable(n: usize) -> String {
    if n == 0 { "Variable".into() } else { format!("Variable_{n}") }
}

fn import_princewen(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let dim = draft.columns(TABLES[0])?;
    let rows = draft.tensors.rows(TABLES[0]);
    let table = Rows {
        embeddings: draft.tensors.take_f32(TABLES[0], &[rows, dim])?,
        linear: draft.tensors.take_f32(TABLES[1], &[rows, 1])?,
    };
    draft.bias = draft.number(TABLES[2])?;
    if let Some(constant) = unused_constant(draft.tensors) {
        draft.skip(&variable(constant - 1));
        draft.skip(&variable(constant));
    }
    let (_, width) = hidden(&mut draft, 0, dim)?;
    draft.sum(width);
    let fields =
        draft.fields_of_one_table(rows, 0, |rows| vec![Field::new("feature", FieldKind::Ids { rows })])?;
    draft.finish(PRINCEWEN.name, fields, dim, table, ("config.task", Task::Binary))
}

/// The number of princewen's last variable: a scalar after as many matrices as vectors and a projection.
fn unused_constant(tensors: &Tensors) -> Option<usize> {
    let last = (0..).take_while(|n| tensors.shape(&variable(*n)).is_some()).last()?;
    let projects = last % 2 == 1 && matches!(tensors.shape(&variable(last - 1)), Some([_, 1]));
    (projects && tensors.shape(&variable(last)) == Some(&[])).then_some(last)
}

fn norm_of_z(draft: &mut Draft<'_>, dim: usize) -> Result<()> {
    let own = BnNames::keras("bn_fm");
    let second = BnNames {
        place: "bn_fm".into(),
        gamma: "bn_fm/gamma_1".into(),
        beta: "bn_fm/beta_1".into(),
        mean: "bn_fm/moving_mean_1".into(),
        variance: "bn_fm/moving_variance_1".into(),
    };
    if draft.tensors.shape(&second.variance).is_some() {
        draft.batch_norm(&second, dim, Some(EPS))?;
        [own.gamma, own.beta, own.mean, own.variance].iter().for_each(|name| draft.skip(name));
        return Ok(());
    }
    if draft.tensors.shape(&own.variance).is_some() { draft.batch_norm(&own, dim, Some(EPS)) } else { Ok(()) }
}

/// The layers, from this variable on; gives the variable after them and the last one's width.
fn hidden(draft: &mut Draft<'_>, first: usize, dim: usize) -> Result<(usize, usize)> {
    let (mut at, mut width) = (first, dim);
    while draft.tensors.shape(&variable(at + 1)).is_some() {
        width = draft.dense(&variable(at), Some(&variable(at + 1)), Stored::InOut, width)?;
        let norm = BnNames::keras(&format!("bn_{}", (at - first) / 2));
        if draft.tensors.shape(&norm.variance).is_some() {
            draft.batch_norm(&norm, width, Some(EPS))?;
        }
        draft.activation("hidden layer")?;
        at += 2;
    }
    Ok((at, width))
}

/// The layers, from this variable on, and the projection; without any variable it is an FM.
fn layers(draft: &mut Draft<'_>, first: usize, dim: usize) -> Result<()> {
    let (at, width) = hidden(draft, first, dim)?;
    if draft.tensors.shape(&variable(at)).is_some() {
        return draft.head(&variable(at), None, Stored::InOut, width);
    }
    if at == first {
        draft.sum(dim);
        return Ok(());
    }
    Err(draft
        .tensors
        .refuse(&variable(at), format!("missing; expected the projection, of shape [{width}, 1]")))
}

#[cfg(test)]
mod tests {
    use crate::dialect::{
        Hints, import,
        tests::{refusal, tensors},
    };

    const FM: [(&str, &[usize]); 3] =
        [("feature_embeddings", &[4, 2]), ("feature_bias", &[4, 1]), ("bias", &[])];

    #[test]
    fn decoys_are_skipped_and_said_to_be() {
        let more: [(&str, &[usize]); 4] =
            [("Variable", &[4, 2]), ("Variable_1", &[4, 1]), ("Variable_2", &[]), ("Variable_3", &[2, 1])];
        let model = import(tensors(&[FM.as_slice(), &more].concat()), &Hints::default()).unwrap();
        assert_eq!(model.skipped, ["feature_embeddings", "feature_bias", "bias"]);
        assert!(model.assumptions.iter().any(|note| note.contains("trained FM")));
    }

    #[test]
    fn a_scalar_after_the_projection_says_that_neither_is_used() {
        let more: [(&str, &[usize]); 4] =
            [("Variable", &[2, 3]), ("Variable_1", &[1, 3]), ("Variable_2", &[3, 1]), ("Variable_3", &[])];
        let model = import(tensors(&[FM.as_slice(), &more].concat()), &Hints::default()).unwrap();
        assert_eq!(
            (model.dialect, model.skipped),
            ("princewen", vec!["Variable_2".into(), "Variable_3".into()])
        );
        let other = [FM.as_slice(), &more[..3], &[("Variable_3", &[1])]].concat();
        let message = refusal(tensors(&other), &Hints::default());
        assert!(message.contains("`Variable_4`: missing"), "{message}");
    }

    #[test]
    fn a_projection_that_is_missing_is_asked_for() {
        let more: [(&str, &[usize]); 2] = [("Variable", &[2, 3]), ("Variable_1", &[1, 3])];
        let message = refusal(tensors(&[FM.as_slice(), &more].concat()), &Hints::default());
        assert!(message.contains("`Variable_2`: missing") && message.contains("[3, 1]"), "{message}");
    }
}
