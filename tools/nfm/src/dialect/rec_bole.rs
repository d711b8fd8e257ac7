//! RecBole's NFM: one table for all tokens and one for all floats, batch norm on z and before each sigmoid, a projection without
//! bias; always a probability.
//!
//! `y = first_order.bias + Σ w x + predict(mlp(bn(Σ pairs of x v)))`. Where a field's rows start is no tensor, so a schema must say
//! the fields in RecBole's order: tokens (`id`), floats (`scaled`), sequences of tokens, sequences of floats. A float field has two
//! rows, of which the second one is used. Sequences are averaged in the second order and those of tokens summed in the first.

use super::{
    Dialect, Hints,
    draft::{BnNames, Draft, Stored},
    sequential::Sequential,
};
use crate::{
    error::{Error, Result},
    float_model::{Activation, FloatModel},
    schema::{Field, FieldKind, Pooling, Task},
    tensors::Tensors,
};

pub(super) const DIALECT: Dialect = Dialect {
    name: "recbole",
    about: "RecBole's NFM",
    recognizes: |tensors| {
        tensors.shape("predict_layer.weight").is_some() && tensors.shape("first_order_linear.bias").is_some()
    },
    import,
};

const TOKENS: &str = "token_embedding_table.embedding.weight";
const FLOATS: &str = "float_embedding_table.embedding.weight";

const LAYERS: Sequential<'_> = Sequential {
    prefix: "mlp_layers.mlp_layers",
    eps: Some(1e-5),
    activation: Some(Activation::Sigmoid),
    ends_in_head: false,
};

/// The two orders of a table, taken from the front.
#[derive(Default)]
struct Table {
    name: String,
    linear: Vec<f32>,
    embeddings: Vec<f32>,
}

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let dim = draft.tensors.rows("bn.running_mean");
    let fields = hints.schema_fields().to_vec();
    if fields.is_empty() {
        let problem = "RecBole keeps the fields' order and sizes in its config and dataset, not in the checkpoint: give a \
                       --schema with its token fields (type id, rows), float fields (scaled) and sequences";
        return Err(Error::refused(&draft.tensors.file, "schema", problem));
    }
    draft.bias = draft.number("first_order_linear.bias")?;
    draft.batch_norm(&BnNames::torch("bn"), dim, Some(1e-5))?;
    let width = LAYERS.take(&mut draft, dim)?;
    draft.head("predict_layer.weight", None, Stored::OutIn, width)?;

    let mut tokens = take(&mut draft, TOKENS, dim)?;
    let mut floats = take(&mut draft, FLOATS, dim)?;
    let mut sequences: Vec<Table> = Vec::new();
    for kind in ["token_seq", "float_seq"] {
        for at in 0.. {
            let name = format!("{kind}_embedding_table.{at}.weight");
            if draft.tensors.shape(&name).is_none() {
                break;
            }
            sequences.push(take(&mut draft, &name, dim)?);
        }
    }
    let rows = draft.rows(&fields, |draft, field| {
        let file = &draft.tensors.file;
        match field.kind {
            FieldKind::Scaled => {
                cut(file, &mut floats, field, 1, dim)?;
                cut(file, &mut floats, field, 1, dim)
            }
            FieldKind::Sequence(_) => {
                let rows = field.kind.rows() as usize;
                let Some(at) = sequences.iter().position(|table| table.linear.len() == rows) else {
                    let problem = format!(
                        "field `{}`: the checkpoint has no table of {rows} rows for a sequence",
                        field.name
                    );
                    return Err(Error::refused(file, "schema", problem));
                };
                let mut table = sequences.remove(at);
                let first = if table.name.starts_with("float_seq") { Pooling::Mean } else { Pooling::Sum };
                draft.check_pooling(field, &[Pooling::Mean], first)?;
                cut(file, &mut table, field, rows, dim)
            }
            _ => cut(file, &mut tokens, field, field.kind.rows() as usize, dim),
        }
    })?;
    sequences.extend([tokens, floats]);
    if let Some(left) = sequences.iter().find(|table| !table.linear.is_empty()) {
        let problem = format!("the schema's fields leave {} rows of `{}`", left.linear.len(), left.name);
        return Err(Error::refused(&draft.tensors.file, "schema", problem));
    }
    draft.finish(DIALECT.name, fields, dim, rows, ("config.task", Task::Binary))
}

/// Both orders of a table; nothing where the checkpoint has none.
fn take(draft: &mut Draft<'_>, name: &str, dim: usize) -> Result<Table> {
    let Some(&[rows, _]) = draft.tensors.shape(name) else {
        return Ok(Table { name: name.into(), ..Table::default() });
    };
    let embeddings = draft.tensors.take_f32(name, &[rows, dim])?;
    let linear = draft.tensors.take_f32(&format!("first_order_linear.{name}"), &[rows, 1])?;
    Ok(Table { name: name.into(), linear, embeddings })
}

/// The next rows of a table.
fn cut(
    file: &str,
    table: &mut Table,
    field: &Field,
    rows: usize,
    dim: usize,
) -> Result<(Vec<f32>, Vec<f32>)> {
    if table.linear.len() < rows {
        let problem = format!(
            "field `{}`: expected {rows} more rows in `{}`, found {}",
            field.name,
            table.name,
            table.linear.len()
        );
        return Err(Error::refused(file, "schema", problem));
    }
    Ok((table.linear.drain(..rows).collect(), table.embeddings.drain(..rows * dim).collect()))
}

#[cfg(test)]
mod tests {
    use crate::{
        dialect::{
            Hints, import,
            tests::{refusal, tensors},
        },
        schema::{Field, FieldKind, Schema, lay_out},
    };

    const SHAPES: [(&str, &[usize]); 10] = [
        ("token_embedding_table.embedding.weight", &[5, 2]),
        ("first_order_linear.token_embedding_table.embedding.weight", &[5, 1]),
        ("first_order_linear.bias", &[1]),
        ("bn.weight", &[2]),
        ("bn.bias", &[2]),
        ("bn.running_mean", &[2]),
        ("bn.running_var", &[2]),
        ("mlp_layers.mlp_layers.1.weight", &[3, 2]),
        ("mlp_layers.mlp_layers.1.bias", &[3]),
        ("predict_layer.weight", &[1, 3]),
    ];

    fn hints(rows: &[u32]) -> Hints {
        let field = |(at, rows): (usize, &u32)| Field::new(format!("f{at}"), FieldKind::Id { rows: *rows });
        let mut fields: Vec<Field> = rows.iter().enumerate().map(field).collect();
        lay_out(&mut fields).unwrap();
        Hints { schema: Some(Schema { schema_version: 1, fields, ..Schema::default() }), ..Hints::default() }
    }

    #[test]
    fn the_fields_must_be_said_and_fit() {
        assert_eq!(import(tensors(&SHAPES), &hints(&[2, 3])).unwrap().rows(), 5);
        for (rows, essential) in [
            (&[][..], "give a --schema"),
            (&[2, 4], "field `f1`: expected 4 more rows"),
            (&[2, 2], "leave 1 rows of `token_embedding_table"),
        ] {
            let message = refusal(tensors(&SHAPES), &hints(rows));
            assert!(message.contains(essential), "{message}");
        }
    }
}
