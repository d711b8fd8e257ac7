//! daisyRec's NFM of a user and an item: z is the product of both embeddings, batch norm on z and before each activation, a
//! projection p without a bias.
//!
//! The first order is added before the projection, to every element of its input h, so that it counts Σp times:
//! `y = p · (h + (b_u + b_i + b) · 1) = p · h + Σp · (b_u + b_i + b)`.

use super::{
    Dialect, Hints,
    draft::{BnNames, Draft, Stored, extent, id_field},
    sequential::Sequential,
};
use crate::{
    error::Result,
    float_model::{FloatModel, Stage},
    schema::Task,
    tensors::Tensors,
};

pub(super) const DIALECT: Dialect = Dialect {
    name: "daisyrec",
    about: "daisyRec's NFM of a user and an item",
    recognizes: |tensors| {
        TABLES
            .iter()
            .all(|(_, second, first)| tensors.shape(second).is_some() && tensors.shape(first).is_some())
    },
    import,
};

/// Field, and its tensors of the second and the first order.
const TABLES: [(&str, &str, &str); 2] =
    [("user", "embed_user.weight", "u_bias.weight"), ("item", "embed_item.weight", "i_bias.weight")];

const LAYERS: Sequential<'_> =
    Sequential { prefix: "deep_layers", eps: Some(1e-5), activation: None, ends_in_head: false };

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let dim = draft.columns("embed_user.weight")?;
    let known = TABLES.map(|(field, second, _)| id_field(field, draft.tensors.rows(second)));
    let fields = draft.fields_of_tables(&known, 0)?;
    if draft.tensors.shape("FM_layers.0.running_mean").is_some() {
        draft.batch_norm(&BnNames::torch("FM_layers.0"), dim, Some(1e-5))?;
    }
    let width = LAYERS.take(&mut draft, dim)?;
    draft.head("prediction.weight", None, Stored::OutIn, width)?;
    let times = match draft.stages.last() {
        Some(Stage::Dense(head)) => head.weights.iter().sum::<f64>(),
        _ => 1.0,
    };
    draft.bias = times * draft.number("bias_")?;
    let rows = draft.rows(&fields, |draft, field| {
        let table = TABLES.iter().find(|(name, ..)| *name == field.name);
        let (_, second, first) = table.copied().unwrap_or(TABLES[0]);
        let first = draft.tensors.take(first, &[extent(field), 1])?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounding to the nearest f32 is what is asked for"
        )]
        let first = first.iter().map(|w| (times * w) as f32).collect();
        Ok((first, draft.tensors.take_f32(second, &[extent(field), dim])?))
    })?;
    draft.finish(DIALECT.name, fields, dim, rows, ("config.task", Task::Regression))
}

#[cfg(test)]
mod tests {
    use crate::dialect::{
        Hints, import,
        tests::{refusal, tensors},
    };

    const SHAPES: [(&str, &[usize]); 6] = [
        ("embed_user.weight", &[2, 3]),
        ("embed_item.weight", &[4, 3]),
        ("u_bias.weight", &[2, 1]),
        ("i_bias.weight", &[4, 1]),
        ("bias_", &[1]),
        ("prediction.weight", &[1, 3]),
    ];

    #[test]
    fn the_first_order_counts_as_often_as_the_projection_sums() {
        let model = import(tensors(&SHAPES), &Hints::default()).unwrap();
        // Σp = 1.5.
        assert_eq!(model.linear, [0.75; 6]);
        assert!(model.bias.total_cmp(&0.75).is_eq());
    }

    #[test]
    fn a_projection_that_is_missing_is_asked_for() {
        let message = refusal(tensors(&SHAPES[..5]), &Hints::default());
        assert!(message.contains("`prediction.weight`: missing"), "{message}");
    }
}
