//! rec_pangu's NFM: a table per field, no batch norm, relu, a projection with a bias.
//!
//! The first order is a linear layer over tables of one column and the dense inputs, `fc(e_1 ++ … ++ e_F ++ dense)`, which folds
//! into the tables: w of field f's row is `fc[f] · e_f`. Dense inputs take part there alone. The order of the columns is that of
//! the tables; the last row of a table is that of unseen values.

use super::{
    Dialect, Hints,
    draft::{Draft, extent, id_field},
    sequential::Sequential,
};
use crate::{
    error::{Error, Result},
    float_model::{Activation, FloatModel},
    schema::{Field, FieldKind, Task},
    tensors::Tensors,
};

pub(super) const DIALECT: Dialect = Dialect {
    name: "rec-pangu",
    about: "rec_pangu's NFM",
    recognizes: |tensors| {
        tensors.shape("lr.fc.weight").is_some() && tensors.entries.keys().any(|name| name.starts_with(SECOND))
    },
    import,
};

const FIRST: &str = "lr.emb_layer.embedding_layer.";
const SECOND: &str = "embedding_layer.embedding_layer.";

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let tables = tables(draft.tensors);
    let first = tables.first().map_or("", |table| &table.name);
    let dim = draft.columns(&format!("{SECOND}{first}.weight"))?;
    let columns = draft.columns("lr.fc.weight")?;
    let Some(dense) = columns.checked_sub(tables.len()) else {
        let problem = format!("expected a column for each of {} fields, found {columns}", tables.len());
        return Err(draft.tensors.refuse("lr.fc.weight", problem));
    };
    let fields = draft.fields_of_tables(&tables, dense)?;
    check_dense_order(draft.tensors, &fields)?;
    let weights = draft.tensors.take("lr.fc.weight", &[1, columns])?;
    draft.bias = draft.number("lr.fc.bias")?;
    draft.dense_linear = weights[tables.len()..].to_vec();
    let rows = draft.rows(&fields, |draft, field| {
        let rows = extent(field);
        let column = tables.iter().position(|table| table.name == field.name).unwrap_or_default();
        let first = draft.tensors.take(&format!("{FIRST}{}.weight", field.name), &[rows, 1])?;
        let second = draft.tensors.take_f32(&format!("{SECOND}{}.weight", field.name), &[rows, dim])?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounding to the nearest f32 is what is asked for"
        )]
        let first = first.iter().map(|e| (weights[column] * e) as f32).collect();
        Ok((first, second))
    })?;
    let layers =
        Sequential { prefix: "dnn.net", eps: None, activation: Some(Activation::Relu), ends_in_head: true };
    layers.take(&mut draft, dim)?;
    draft.finish(DIALECT.name, fields, dim, rows, ("config.task", Task::Binary))
}

/// Where the checkpoint has its encodings, dense inputs must stand in their order.
fn check_dense_order(tensors: &Tensors, fields: &[Field]) -> Result<()> {
    let stored: Vec<&str> = tensors
        .facts
        .keys()
        .filter_map(|fact| fact.strip_prefix("enc_dict.")?.strip_suffix(".min"))
        .collect();
    let said: Vec<&str> = fields
        .iter()
        .filter(|field| field.kind == FieldKind::Dense)
        .map(|field| field.name.as_str())
        .collect();
    let known: Vec<&str> = stored.iter().copied().filter(|name| said.contains(name)).collect();
    if known.is_empty() || known == said {
        return Ok(());
    }
    let problem = format!(
        "expected the dense inputs in the checkpoint's order {}, found {}",
        known.join(", "),
        said.join(", ")
    );
    Err(Error::refused(&tensors.file, "schema", problem))
}

/// The fields in the order of their tables, which is that of the first order's columns.
fn tables(tensors: &Tensors) -> Vec<Field> {
    let tables = tensors.entries.iter().filter_map(|(name, tensor)| {
        let field = name.strip_prefix(SECOND)?.strip_suffix(".weight")?;
        Some(id_field(field, tensor.shape.first().copied().unwrap_or(0)))
    });
    tables.collect()
}

#[cfg(test)]
mod tests {
    use crate::dialect::{
        Hints, import,
        tests::{refusal, tensors},
    };

    const SHAPES: [(&str, &[usize]); 8] = [
        ("embedding_layer.embedding_layer.a.weight", &[2, 3]),
        ("embedding_layer.embedding_layer.b.weight", &[4, 3]),
        ("lr.emb_layer.embedding_layer.a.weight", &[2, 1]),
        ("lr.emb_layer.embedding_layer.b.weight", &[4, 1]),
        ("lr.fc.weight", &[1, 3]),
        ("lr.fc.bias", &[1]),
        ("dnn.net.0.weight", &[1, 3]),
        ("dnn.net.0.bias", &[1]),
    ];

    #[test]
    fn the_first_order_is_folded() {
        let model = import(tensors(&SHAPES), &Hints::default()).unwrap();
        assert_eq!((model.linear.as_slice(), model.dense_linear.as_slice()), (&[0.25; 6][..], &[0.5][..]));
        assert!(model.bias.total_cmp(&0.5).is_eq());
    }

    #[test]
    fn a_first_order_without_a_column_for_each_field_is_refused() {
        let mut shapes = SHAPES;
        shapes[4].1 = &[1, 1];
        let message = refusal(tensors(&shapes), &Hints::default());
        assert!(
            message.contains("lr.fc.weight") && message.contains("each of 2 fields, found 1"),
            "{message}"
        );
    }
}
