//! FuxiCTR's NFM, versions 1 and 2: a table per field, numbers as values of a row of their own, batch norm only before hidden
//! activations, a projection whose bias is the only constant.
//!
//! `y = Σ w x + mlp(Σ pairs of x v)`. A number's embedding is a linear layer `[dim, 1]`, so its one row is that layer's weights. A
//! sequence is averaged or summed in the second order and always summed in the first. Fields that share a table share only that
//! of the second order, so each gets rows of its own here. Rows of padding are looked up like any other, so they must be zero; an
//! average counts the rows that do not sum to 0, which is the same as long as no other row does. Pretrained embeddings are projected
//! when they are read. The `feature_map.json` of the data set, where it stands beside the checkpoint, gives the order of the fields
//! and the sequences.

use std::path::Path;

use super::{
    Dialect, Hints,
    draft::{Draft, Stored, extent, id_field},
    sequential::Sequential,
};
use crate::{
    error::{Error, Result},
    feature_map,
    float_model::FloatModel,
    schema::{Field, FieldKind, Pooling, Sequence, Task},
    tensors::{Fact, Tensors},
};

pub(super) const DIALECT: Dialect = Dialect {
    name: "fuxictr",
    about: "FuxiCTR's NFM",
    recognizes: |tensors| prefix(tensors).is_some(),
    import,
};

/// What stands before a field's name in the second order, in versions 2, 1.1 and 1.0; in the first order, `lr_layer.` and this.
const PREFIXES: [&str; 3] = [
    "embedding_layer.embedding_layer.embedding_layers.",
    "embedding_layer.embedding_layer.embedding_layer.",
    "embedding_layer.embedding_layer.",
];

fn prefix(tensors: &Tensors) -> Option<&'static str> {
    let has =
        |prefix: &str| tensors.entries.keys().any(|name| name.starts_with(&format!("lr_layer.{prefix}")));
    PREFIXES.into_iter().find(|prefix| has(prefix))
}

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let prefix = prefix(draft.tensors).unwrap_or(PREFIXES[0]);
    refuse_encoders(draft.tensors)?;
    let mlp = if draft.tensors.shape("dnn.dnn.0.weight").is_some() { "dnn.dnn" } else { "dnn.mlp" };
    let dim = draft.columns(&format!("{mlp}.0.weight"))?;
    let known = tables(draft.tensors, prefix, dim);
    let said = said(&draft)?;
    let said = own_tables(&mut draft, said, &known);
    let fields = draft.fields_of_tables_as(said, &known, 0)?;
    for field in &fields {
        draft.check_pooling(field, &[Pooling::Mean, Pooling::Sum], Pooling::Sum)?;
    }
    let layers = Sequential { prefix: mlp, eps: Some(1e-5), activation: None, ends_in_head: true };
    layers.take(&mut draft, dim)?;
    let rows = draft.rows(&fields, |draft, field| {
        let first = format!("lr_layer.{prefix}{}.weight", field.name);
        let linear = draft.tensors.take_f32(&first, &[extent(field), 1])?;
        let embeddings = embeddings(draft, &format!("{prefix}{}", field.name), field, dim)?;
        check_padding(draft.tensors, field, &linear, &embeddings)?;
        check_average(draft.tensors, field, &embeddings, dim)?;
        Ok((linear, embeddings))
    })?;
    draft.finish(DIALECT.name, fields, dim, rows, ("config.task", Task::Binary))
}

/// An encoder that has tensors of its own is no pooling.
fn refuse_encoders(tensors: &Tensors) -> Result<()> {
    match tensors.entries.keys().find(|name| name.contains("feature_encoders.")) {
        None => Ok(()),
        Some(name) => {
            let problem =
                "an encoder with weights of its own is not supported; supported are average and sum pooling";
            Err(tensors.refuse(name, problem))
        }
    }
}

/// The schema's fields, or else those of the `feature_map.json` beside the checkpoint, which must be supported either way.
fn said(draft: &Draft<'_>) -> Result<Vec<Field>> {
    let file = Path::new(&draft.tensors.file).with_file_name("feature_map.json");
    let map = match draft.tensors.facts.get("feature_map") {
        Some(Fact::Json(map)) => feature_map::schema(&file.display().to_string(), map)?,
        _ => None,
    };
    let said = draft.hints.schema_fields();
    if said.is_empty() { Ok(map.map(|map| map.fields).unwrap_or_default()) } else { Ok(said.to_vec()) }
}

/// The fields: ids, or numbers where both tables have the shapes of a linear layer of one input.
fn tables(tensors: &Tensors, prefix: &str, dim: usize) -> Vec<Field> {
    let mut known: Vec<Field> = Vec::new();
    for (name, tensor) in &tensors.entries {
        let Some(field) = name.strip_prefix("lr_layer.").and_then(|name| name.strip_prefix(prefix)) else {
            continue;
        };
        let Some(field) = field.strip_suffix(".weight") else { continue };
        let is_number =
            tensors.shape(&format!("{prefix}{field}.weight")) == Some(&[dim, 1]) && tensor.shape == [1, 1];
        known.push(if is_number {
            Field::new(field, FieldKind::Scaled)
        } else {
            id_field(field, tensor.shape.first().copied().unwrap_or(0))
        });
    }
    known
}

/// These fields, with a table of its own for each that the checkpoint has one of.
fn own_tables(draft: &mut Draft<'_>, mut fields: Vec<Field>, known: &[Field]) -> Vec<Field> {
    for field in &mut fields {
        let Some(owner) = field.table.take_if(|_| known.iter().any(|table| table.name == field.name)) else {
            continue;
        };
        draft.assume(format!(
            "field `{}` has a copy of the table of `{owner}`: FuxiCTR shares no weights of the first order",
            field.name
        ));
    }
    // The schema was laid out before, so it fits again with more rows, or `FloatModel::check` says that it does not.
    let _ = crate::schema::lay_out(&mut fields);
    fields
}

/// A field's embeddings, `[rows, dim]`.
fn embeddings(draft: &mut Draft<'_>, place: &str, field: &Field, dim: usize) -> Result<Vec<f32>> {
    let pretrained = format!("{place}.pretrain_embedding.weight");
    if draft.tensors.shape(&pretrained).is_some() {
        return projected(draft, place, field, dim);
    }
    let shape = if field.kind == FieldKind::Scaled { [dim, 1] } else { [extent(field), dim] };
    draft.tensors.take_f32(&format!("{place}.weight"), &shape)
}

/// Pretrained embeddings: projected, with those of the ids added, or before the projection appended.
fn projected(draft: &mut Draft<'_>, place: &str, field: &Field, dim: usize) -> Result<Vec<f32>> {
    let rows = extent(field);
    let name = format!("{place}.pretrain_embedding.weight");
    let width = draft.columns(&name)?;
    let pretrained = draft.tensors.take(&name, &[rows, width])?;
    let name = format!("{place}.id_embedding.weight");
    let ids = match draft.tensors.shape(&name) {
        None => None,
        Some(_) => {
            draft.assume(format!(
                "all ids of field `{}` were seen in training; those after its oov_idx have no id embedding",
                field.name
            ));
            Some(draft.tensors.take(&name, &[rows, dim])?)
        }
    };
    let name = format!("{place}.proj.weight");
    let projection = match draft.tensors.shape(&name) {
        None if width == dim => None,
        _ => {
            let columns = draft.columns(&name)?;
            Some((draft.matrix(&name, Stored::OutIn, columns)?.0, columns))
        }
    };
    let mut embeddings = Vec::with_capacity(rows * dim);
    for row in 0..rows {
        let own = &pretrained[row * width..(row + 1) * width];
        let id = ids.as_ref().map(|ids| &ids[row * dim..(row + 1) * dim]);
        let (joined, added) = match (&projection, id) {
            (Some((_, columns)), Some(id)) if *columns == width + dim => ([own, id].concat(), None),
            (_, id) => (own.to_vec(), id),
        };
        for lane in 0..dim {
            let value = match &projection {
                None => joined[lane],
                Some((weights, columns)) if *columns == joined.len() => weights
                    [lane * columns..(lane + 1) * columns]
                    .iter()
                    .zip(&joined)
                    .map(|(w, e)| w * e)
                    .sum(),
                Some((_, columns)) => {
                    let problem = format!("expected [{dim}, {}], found [{dim}, {columns}]", joined.len());
                    return Err(draft.tensors.refuse(&name, problem));
                }
            };
            #[expect(
                clippy::cast_possible_truncation,
                reason = "rounding to the nearest f32 is what is asked for"
            )]
            embeddings.push((value + added.map_or(0.0, |id| id[lane])) as f32);
        }
    }
    Ok(embeddings)
}

/// FuxiCTR fills a sequence up with its padding, whose rows count as they are: `padding_idx` only keeps a gradient from them.
fn check_padding(tensors: &Tensors, field: &Field, linear: &[f32], embeddings: &[f32]) -> Result<()> {
    let FieldKind::Sequence(Sequence { padding: Some(id), .. }) = field.kind else { return Ok(()) };
    for (order, rows) in [("first", linear), ("second", embeddings)] {
        let width = rows.len().checked_div(extent(field)).unwrap_or(0);
        let row = rows.chunks_exact(width.max(1)).nth(id as usize).unwrap_or_default();
        if row.iter().any(|value| value.abs() > 0.0) {
            let problem = format!(
                "row {id} of the {order} order is the padding and not 0, and FuxiCTR adds it for each id that is missing to max_len: \
                 say a schema without `padding`, and rows that are filled up with {id}"
            );
            return Err(Error::refused(&tensors.file, format!("field `{}`", field.name), problem));
        }
    }
    Ok(())
}

/// FuxiCTR's average does not count rows that sum to 0, as padding does.
fn check_average(tensors: &Tensors, field: &Field, embeddings: &[f32], dim: usize) -> Result<()> {
    let FieldKind::Sequence(Sequence { pooling: Pooling::Mean, padding, .. }) = field.kind else {
        return Ok(());
    };
    let is_zero = |row: &[f32]| row.iter().map(|e| f64::from(*e)).sum::<f64>().total_cmp(&0.0).is_eq();
    let mut zeros =
        embeddings.chunks_exact(dim).enumerate().filter(|(_, row)| is_zero(row)).map(|(id, _)| id);
    match zeros.find(|id| padding.is_none_or(|padding| padding as usize != *id)) {
        None => Ok(()),
        Some(id) => {
            let problem = format!(
                "row {id} sums to 0, which FuxiCTR's average does not count: say it as `padding` in the schema if it is the padding"
            );
            Err(Error::refused(&tensors.file, format!("field `{}`", field.name), problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        dialect::{
            Hints, import,
            tests::{refusal, tensors},
        },
        schema::{FieldKind, Pooling},
        tensors::{Fact, Tensors, Values},
    };

    const SHAPES: [(&str, &[usize]); 6] = [
        ("embedding_layer.embedding_layer.embedding_layers.a.weight", &[4, 3]),
        ("embedding_layer.embedding_layer.embedding_layers.x.weight", &[3, 1]),
        ("lr_layer.embedding_layer.embedding_layer.embedding_layers.a.weight", &[4, 1]),
        ("lr_layer.embedding_layer.embedding_layer.embedding_layers.x.weight", &[1, 1]),
        ("dnn.mlp.0.weight", &[1, 3]),
        ("dnn.mlp.0.bias", &[1]),
    ];

    #[test]
    fn a_number_is_the_value_of_a_row() {
        let model = import(tensors(&SHAPES), &Hints::default()).unwrap();
        assert_eq!(model.fields[1].kind, FieldKind::Scaled);
        assert_eq!((model.rows(), model.max_active), (5, 2));
    }

    /// Sets a row of a table of [`SHAPES`] to 0.
    fn without_row(mut tensors: Tensors, table: &str, row: usize) -> Tensors {
        let tensor = &mut tensors.entries[table];
        let width = tensor.shape[1];
        if let Values::F32(values) = &mut tensor.values {
            values[row * width..(row + 1) * width].fill(0.0);
        }
        tensors
    }

    #[test]
    fn a_row_of_padding_that_is_not_zero_is_refused() {
        let about = r#"{"name": "a", "type": "sequence", "rows": 4, "pooling": "sum", "padding": 3}"#;
        let text =
            format!(r#"{{"schema_version": 1, "fields": [{about}, {{"name": "x", "type": "scaled"}}]}}"#);
        let hints = Hints { schema: Some(serde_json::from_str(&text).unwrap()), ..Hints::default() };
        let message = refusal(tensors(&SHAPES), &hints);
        assert!(message.contains("field `a`: row 3 of the first order is the padding"), "{message}");
        let first = without_row(tensors(&SHAPES), SHAPES[2].0, 3);
        let message = refusal(first.clone(), &hints);
        assert!(message.contains("field `a`: row 3 of the second order"), "{message}");
        import(without_row(first, SHAPES[0].0, 3), &hints).unwrap();
    }

    #[test]
    fn a_feature_map_gives_the_order_and_the_sequences() {
        let with_map = |encoder: &str| {
            let about = serde_json::json!({
                "type": "sequence", "feature_encoder": encoder, "padding_idx": 0, "max_len": 7, "vocab_size": 4
            });
            let map =
                serde_json::json!({"labels": ["y"], "features": [{"x": {"type": "numeric"}}, {"a": about}]});
            let mut tensors = without_row(tensors(&SHAPES), SHAPES[0].0, 0);
            tensors = without_row(tensors, SHAPES[2].0, 0);
            tensors.facts.insert("feature_map".into(), Fact::Json(map));
            tensors
        };
        let model = import(with_map("layers.MaskedSumPooling()"), &Hints::default()).unwrap();
        assert_eq!((model.fields[0].name.as_str(), model.max_active), ("x", 8));
        let FieldKind::Sequence(tags) = model.fields[1].kind else { panic!("{:?}", model.fields) };
        assert_eq!((tags.pooling, tags.linear, tags.padding), (Pooling::Sum, Pooling::Sum, Some(0)));
        let message = refusal(with_map("layers.KMaxPooling(1, 1)"), &Hints::default());
        assert!(
            message.contains("feature_map.json: feature `a`") && message.contains("KMaxPooling(1, 1)"),
            "{message}"
        );
    }

    #[test]
    fn an_encoder_with_weights_is_refused() {
        let more = [("embedding_layer.embedding_layer.feature_encoders.a.weight", &[3, 3][..])];
        let message = refusal(tensors(&[SHAPES.as_slice(), &more].concat()), &Hints::default());
        assert!(message.contains("feature_encoders.a") && message.contains("average and sum"), "{message}");
    }
}
