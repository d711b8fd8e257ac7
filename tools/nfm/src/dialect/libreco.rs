//! LibRecommender's FM, which is an NFM of one unit: batch norm on z, and an ELU after the projection.
//!
//! `y = dense(w x of each field) + elu(dense_1(bn(z)))`. The first order is a linear layer over one number a field, which folds into
//! the tables: w of field f's row is `dense/kernel[f]` times its own. Users and items have tables of their own; the other id fields,
//! lists after them, share one, `sparse_*_var`, whose parts are the schema's fields in their order; numbers are values of rows of
//! their own in `dense_*_var`. The last row of a part is that of unknown ids. Of a list it is the padding, which the graph sets to 0.
//!
//! `<name>_hyper_parameters.json`, which the library writes beside its variables, tells the task, the range to which a rating is
//! clipped, and how lists are pooled.

use serde_json::Value;

use super::{
    Dialect, Hints,
    draft::{BnNames, Draft, Rows, Stored, extent, id_field},
};
use crate::{
    error::{Error, Result},
    float_model::{Activation, FloatModel, Link, Stage},
    schema::{Field, FieldKind, Pooling, Sequence, Task, lay_out},
    tensors::{Fact, Tensors},
};

pub(super) const DIALECT: Dialect = Dialect {
    name: "librecommender",
    about: "LibRecommender's FM",
    recognizes: |tensors| {
        ["embedding/user_embeds_var", "embedding/user_linear_var", "dense_1/kernel"]
            .iter()
            .all(|name| tensors.shape(name).is_some())
    },
    import,
};

/// Fields with tables of their own, which the library calls so.
const OWN: [&str; 2] = ["user", "item"];

/// Keras's.
const EPS: f64 = 1e-3;

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let dim = draft.columns("embedding/user_embeds_var")?;
    let fields = fields(&mut draft)?;
    let order = order(&fields);
    let tables = tables(&mut draft, &order, dim)?;
    let kernel = draft.tensors.take("dense/kernel", &[order.len(), 1])?;
    let rows = draft.rows(&fields, |_, field| {
        let at = order.iter().position(|known| known.name == field.name).unwrap_or_default();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounding to the nearest f32 is what is asked for"
        )]
        let fold = |w: &f32| (kernel[at] * f64::from(*w)) as f32;
        let Rows { linear, embeddings } = &tables[at];
        Ok((linear.iter().map(fold).collect(), embeddings.clone()))
    })?;
    draft.bias = draft.number("dense/bias")?;
    let norm = BnNames::keras("batch_normalization");
    if draft.tensors.shape(&norm.variance).is_some() {
        draft.batch_norm(&norm, dim, Some(EPS))?;
    }
    draft.head("dense_1/kernel", Some("dense_1/bias"), Stored::InOut, dim)?;
    draft.stages.push(Stage::Activation(Activation::Elu(1.0)));
    let range = learn_task(&mut draft);
    let mut model = draft.finish(DIALECT.name, fields, dim, rows, ("config.task", Task::Binary))?;
    match (model.link, range) {
        (Link::Identity, Some((min, max))) => model.link = Link::Clip { min, max },
        (Link::Identity, None) => model.assumptions.push(
            "ratings are not clipped: their range, which the library clips to, is in no `_hyper_parameters.json` beside the file"
                .into(),
        ),
        _ => {}
    }
    Ok(model)
}

/// The fields: the schema's, or the user, the item and the numbers where there are no others.
fn fields(draft: &mut Draft<'_>) -> Result<Vec<Field>> {
    let rows = |name: &str| draft.tensors.rows(&format!("embedding/{name}_embeds_var"));
    let (sparse, numbers) = (rows("sparse"), rows("dense"));
    let mut known: Vec<Field> = OWN.iter().map(|name| id_field(*name, rows(name))).collect();
    let mut said = draft.hints.schema_fields().to_vec();
    known.extend(draft.scaled_fields(numbers)?);
    if said.is_empty() && sparse == 0 {
        lay_out(&mut known).map_err(|problem| Error::refused(&draft.tensors.file, "fields", problem))?;
        return Ok(known);
    }
    let others: Vec<Field> = said.iter().filter(|field| is_sparse(field)).cloned().collect();
    let found: usize = others.iter().map(extent).sum();
    if found != sparse {
        let problem = format!(
            "expected fields of {sparse} rows together, found {found}: list the sparse fields, each with a row for unknown ids, in a \
             schema after user and item"
        );
        return Err(draft.tensors.refuse("embedding/sparse_embeds_var", problem));
    }
    known.extend(others);
    for field in &mut said {
        let place = format!("schema, field `{}`", field.name);
        let problem = check_field(draft, field)?;
        problem.map_or(Ok(()), |problem| Err(Error::refused(&draft.tensors.file, place, problem)))?;
    }
    draft.fields_of_tables_as(said, &known, 0)
}

/// Gives a list the library's padding; says what is wrong with a field.
fn check_field(draft: &Draft<'_>, field: &mut Field) -> Result<Option<String>> {
    if field.table.is_some() {
        return Ok(Some("expected `rows`, found `table`: no two fields of this library share one".into()));
    }
    if OWN.contains(&field.name.as_str()) && !matches!(field.kind, FieldKind::Id { .. }) {
        return Ok(Some("expected type id, as a row has one user and one item".into()));
    }
    let FieldKind::Sequence(sequence) = &mut field.kind else { return Ok(None) };
    let padding = sequence.rows.checked_sub(1);
    if sequence.padding.is_some() && sequence.padding != padding {
        return Ok(Some(format!("expected its last row as the padding, found {:?}", sequence.padding)));
    }
    sequence.padding = padding;
    let first = sequence.pooling;
    let second = match hyper_parameter(draft.tensors, "multi_sparse_combiner").and_then(Value::as_str) {
        Some("mean") => &[Pooling::Mean][..],
        Some("sum") => &[Pooling::Sum],
        Some("sqrtn") => &[Pooling::SqrtN],
        Some("normal") => {
            return Ok(Some(
                "the model's lists are not pooled (`normal`): each place has a weight of its own".into(),
            ));
        }
        _ => &[Pooling::Mean, Pooling::Sum, Pooling::SqrtN],
    };
    draft.check_pooling(field, second, first)?;
    Ok(None)
}

/// Whether a field's rows are in the shared table.
fn is_sparse(field: &Field) -> bool {
    !OWN.contains(&field.name.as_str()) && field.kind.rows() > 0 && field.kind != FieldKind::Scaled
}

/// The fields in the library's order: user, item, ids, lists, numbers.
fn order(fields: &[Field]) -> Vec<Field> {
    let rank = |field: &Field| match field.kind {
        _ if field.name == OWN[0] => 0,
        _ if field.name == OWN[1] => 1,
        FieldKind::Id { .. } | FieldKind::Ids { .. } => 2,
        FieldKind::Sequence(Sequence { .. }) => 3,
        FieldKind::Scaled | FieldKind::Dense => 4,
    };
    let mut order = fields.to_vec();
    order.sort_by_key(rank);
    order
}

/// First-order weights, not yet folded, and embeddings of each field, in the library's order.
fn tables(draft: &mut Draft<'_>, order: &[Field], dim: usize) -> Result<Vec<Rows>> {
    let mut tables = Vec::new();
    for (name, field) in OWN.iter().zip(order) {
        let rows = extent(field);
        tables.push(Rows {
            linear: draft.tensors.take_f32(&format!("embedding/{name}_linear_var"), &[rows, 1])?,
            embeddings: draft.tensors.take_f32(&format!("embedding/{name}_embeds_var"), &[rows, dim])?,
        });
    }
    let (sparse, numbers): (Vec<&Field>, Vec<&Field>) =
        order.iter().skip(OWN.len()).partition(|field| is_sparse(field));
    tables.extend(parts(draft, "sparse", &sparse, dim)?);
    tables.extend(parts(draft, "dense", &numbers, dim)?);
    Ok(tables)
}

/// The parts of a table that these fields share.
fn parts(draft: &mut Draft<'_>, name: &str, fields: &[&Field], dim: usize) -> Result<Vec<Rows>> {
    if fields.is_empty() {
        return Ok(Vec::new());
    }
    let rows = fields.iter().map(|field| extent(field)).sum();
    let linear = draft.tensors.take_f32(&format!("embedding/{name}_linear_var"), &[rows])?;
    let embeddings = draft.tensors.take_f32(&format!("embedding/{name}_embeds_var"), &[rows, dim])?;
    let (mut linear, mut embeddings) = (linear.into_iter(), embeddings.into_iter());
    let part = |field: &&Field| Rows {
        linear: linear.by_ref().take(extent(field)).collect(),
        embeddings: embeddings.by_ref().take(extent(field) * dim).collect(),
    };
    Ok(fields.iter().map(part).collect())
}

fn hyper_parameter<'t>(tensors: &'t Tensors, name: &str) -> Option<&'t Value> {
    match tensors.facts.get("hyper_parameters") {
        Some(Fact::Json(parameters)) => parameters.get(name),
        _ => None,
    }
}

/// Tells the draft the task, where it is known, and gives the range of a rating.
fn learn_task(draft: &mut Draft<'_>) -> Option<(f64, f64)> {
    match hyper_parameter(draft.tensors, "task").and_then(Value::as_str) {
        Some("rating") => draft.know_task(Task::Regression),
        Some("ranking") => draft.know_task(Task::Binary),
        _ => {}
    }
    let range = hyper_parameter(draft.tensors, "lower_upper_bound")?.as_array()?;
    match range.iter().map(Value::as_f64).collect::<Vec<_>>().as_slice() {
        [Some(min), Some(max)] => Some((*min, *max)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{
        import,
        tests::{refusal, tensors},
    };
    use crate::schema::{Schema, Weights};

    const SHAPES: [(&str, &[usize]); 10] = [
        ("embedding/user_linear_var", &[3, 1]),
        ("embedding/user_embeds_var", &[3, 2]),
        ("embedding/item_linear_var", &[4, 1]),
        ("embedding/item_embeds_var", &[4, 2]),
        ("embedding/dense_linear_var", &[1]),
        ("embedding/dense_embeds_var", &[1, 2]),
        ("dense/kernel", &[3, 1]),
        ("dense/bias", &[1]),
        ("dense_1/kernel", &[2, 1]),
        ("dense_1/bias", &[1]),
    ];

    fn rating(shapes: &[(&str, &[usize])], parameters: Value) -> Tensors {
        let mut tensors = tensors(shapes);
        tensors.facts.insert("hyper_parameters".into(), Fact::Json(parameters));
        tensors
    }

    fn with_lists() -> Vec<(&'static str, &'static [usize])> {
        let mut shapes = SHAPES.to_vec();
        shapes[6].1 = &[5, 1];
        shapes.extend([
            ("embedding/sparse_linear_var", &[7][..]),
            ("embedding/sparse_embeds_var", &[7, 2][..]),
        ]);
        shapes
    }

    fn hints(pooling: Pooling, padding: Option<u32>) -> Hints {
        let sequence =
            Sequence { rows: 4, pooling, linear: pooling, max_len: Some(3), padding, weights: Weights::Raw };
        let mut fields = vec![
            Field::new("tags", FieldKind::Sequence(sequence)),
            id_field("item", 4),
            id_field("user", 3),
            id_field("sex", 3),
            Field::new("age", FieldKind::Scaled),
        ];
        lay_out(&mut fields).unwrap();
        Hints { schema: Some(Schema { schema_version: 1, fields, ..Schema::default() }), ..Hints::default() }
    }

    #[test]
    fn a_rating_is_clipped_to_its_range() {
        let parameters = serde_json::json!({"task": "rating", "lower_upper_bound": [1, 5]});
        let model = import(rating(&SHAPES, parameters), &Hints::default()).unwrap();
        assert_eq!(model.link, Link::Clip { min: 1.0, max: 5.0 });
        assert_eq!(model.linear, [0.25; 8]);
        let parameters = serde_json::json!({"task": "rating"});
        let model = import(rating(&SHAPES, parameters), &Hints::default()).unwrap();
        assert!(model.assumptions.iter().any(|note| note.contains("not clipped")), "{:?}", model.assumptions);
    }

    #[test]
    fn the_parts_of_the_shared_table_are_asked_for() {
        let message = refusal(tensors(&with_lists()), &Hints::default());
        assert!(message.contains("7 rows together, found 0") && message.contains("schema"), "{message}");
    }

    /// Rows of the shared table are 0, 1, 2 …; the ids' part is before that of the lists.
    #[test]
    fn ids_are_before_lists_in_the_shared_table() {
        let mut tensors = tensors(&with_lists());
        let rows = crate::tensors::Values::F32((0..7_u8).map(f32::from).collect());
        tensors.entries.get_mut("embedding/sparse_linear_var").unwrap().values = rows;
        let model = import(tensors, &hints(Pooling::Mean, None)).unwrap();
        assert_eq!(model.linear[..4], [1.5, 2.0, 2.5, 3.0]);
        assert_eq!(model.linear[11..14], [0.0, 0.5, 1.0]);
        let FieldKind::Sequence(tags) = model.fields[0].kind else { panic!("{:?}", model.fields) };
        assert_eq!(tags.padding, Some(3));
    }

    #[test]
    fn lists_that_are_not_pooled_so_are_refused() {
        let with = |combiner| rating(&with_lists(), serde_json::json!({"multi_sparse_combiner": combiner}));
        for (combiner, hints, expected) in [
            ("sqrtn", hints(Pooling::Mean, None), "expected pooling sqrtn, found mean"),
            ("normal", hints(Pooling::Mean, None), "a weight of its own"),
            ("mean", hints(Pooling::Mean, Some(0)), "its last row as the padding"),
        ] {
            let message = refusal(with(combiner), &hints);
            assert!(message.contains("field `tags`") && message.contains(expected), "{message}");
        }
    }
}
