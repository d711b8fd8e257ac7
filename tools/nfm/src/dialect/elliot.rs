//! elliot's NFM of a user and an item (Keras): z is the product of both embeddings, no batch norm, a projection without bias.
//!
//! `y = GB + B_U[user] + B_I[item] + dense_L(… relu(dense(z)) …)`.

use super::{
    Dialect, Hints,
    draft::{Draft, Stored, dense_kernels, extent, id_field},
};
use crate::{error::Result, float_model::FloatModel, schema::Task, tensors::Tensors};

pub(super) const DIALECT: Dialect = Dialect {
    name: "elliot",
    about: "elliot's NFM of a user and an item",
    recognizes: |tensors| TABLES.iter().all(|(_, second, _)| tensors.shape(second).is_some()),
    import,
};

/// Field, and its tensors of the second and the first order.
const TABLES: [(&str, &str, &str); 2] =
    [("user", "U_MF/embeddings", "B_U_MF/embeddings"), ("item", "I_MF/embeddings", "B_I_MF/embeddings")];

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let dim = draft.columns(TABLES[0].1)?;
    let known = TABLES.map(|(field, second, _)| id_field(field, draft.tensors.rows(second)));
    let fields = draft.fields_of_tables(&known, 0)?;
    draft.bias = draft.number("GB")?;
    let kernels = dense_kernels(draft.tensors);
    let mut width = dim;
    for kernel in &kernels {
        let bias = kernel.replace("/kernel", "/bias");
        if draft.tensors.shape(&bias).is_none() {
            draft.head(kernel, None, Stored::InOut, width)?;
            width = 1;
            break;
        }
        width = draft.dense(kernel, Some(&bias), Stored::InOut, width)?;
        draft.activation("dense")?;
    }
    if width != 1 {
        return Err(draft
            .tensors
            .refuse("NFM/dense/kernel", "missing; expected a projection without a bias"));
    }
    let rows = draft.rows(&fields, |draft, field| {
        let table = TABLES.iter().find(|(name, ..)| *name == field.name);
        let (_, second, first) = table.copied().unwrap_or(TABLES[0]);
        let linear = draft.tensors.take_f32(first, &[extent(field), 1])?;
        Ok((linear, draft.tensors.take_f32(second, &[extent(field), dim])?))
    })?;
    draft.finish(DIALECT.name, fields, dim, rows, ("config.task", Task::Regression))
}

#[cfg(test)]
mod tests {
    use crate::dialect::{
        Hints,
        tests::{refusal, tensors},
    };

    #[test]
    fn a_projection_that_is_missing_is_asked_for() {
        let shapes: [(&str, &[usize]); 5] = [
            ("U_MF/embeddings", &[2, 3]),
            ("I_MF/embeddings", &[4, 3]),
            ("B_U_MF/embeddings", &[2, 1]),
            ("B_I_MF/embeddings", &[4, 1]),
            ("GB", &[]),
        ];
        let message = refusal(tensors(&shapes), &Hints::default());
        assert!(message.contains("expected a projection without a bias"), "{message}");
    }
}
