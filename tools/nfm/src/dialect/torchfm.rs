//! rixwew's torchfm (pytorch-fm), and ARM-Net, which has its graph with values: one table with offsets for all fields, batch norm
//! on z and before each relu, a projection with a bias beside that of the first order.
//!
//! `y = linear.bias + Σ w x + mlp(bn(Σ pairs of x v))`, and a sigmoid. The offsets are no tensor, so a `state_dict` of torchfm
//! needs a schema to tell its fields apart; a whole model has them, and a schema must then have fields of these rows. ARM-Net's
//! rows are ids with values over the whole table.

use super::{
    Dialect, Hints,
    draft::{BnNames, Draft, Rows, id_field},
    sequential::Sequential,
};
use crate::{
    error::{Error, Result},
    float_model::{Activation, FloatModel},
    schema::{Field, FieldKind, Task},
    tensors::{Fact, Tensors},
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
    let own = sizes(draft.tensors, rows)?;
    check_sizes(&draft.tensors.file, hints.schema_fields(), &own)?;
    let fields = draft.fields_of_one_table(rows, 0, |rows| fields(&own, rows))?;
    if hints.schema_fields().is_empty() && own.is_empty() {
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

/// The rows of each field by the offsets that a whole model holds; none in a `state_dict`.
fn sizes(tensors: &Tensors, rows: usize) -> Result<Vec<usize>> {
    let offset = |index: usize| match tensors.facts.get(&format!("embedding.offsets.{index}")) {
        Some(Fact::Int(offset)) => Some(*offset),
        _ => None,
    };
    let offsets: Vec<i64> = (0..).map_while(offset).collect();
    let ends = offsets.iter().skip(1).copied().chain(i64::try_from(rows));
    let sizes = offsets.iter().zip(ends).map(|(start, end)| usize::try_from(end.checked_sub(*start)?).ok());
    let sizes: Option<Vec<usize>> = sizes.collect();
    match sizes {
        Some(sizes) if offsets.first().is_none_or(|first| *first == 0) && !sizes.contains(&0) => Ok(sizes),
        _ => {
            let problem = format!("expected offsets that rise from 0 to below {rows}, found {offsets:?}");
            Err(Error::refused(&tensors.file, "embedding.offsets", problem))
        }
    }
}

/// Whether a schema has fields of the model's own sizes, where it has some.
fn check_sizes(file: &str, schema: &[Field], own: &[usize]) -> Result<()> {
    let said: Vec<usize> = schema.iter().map(|field| field.kind.rows() as usize).collect();
    if said.is_empty() || own.is_empty() || said == own {
        return Ok(());
    }
    let problem =
        format!("by the offsets in the checkpoint its fields have {own:?} rows, the schema says {said:?}");
    Err(Error::refused(file, "schema", problem))
}

/// The fields where no schema says them: an id of each size, or ids over the whole table.
fn fields(sizes: &[usize], rows: u32) -> Vec<Field> {
    if sizes.is_empty() {
        return vec![Field::new("feature", FieldKind::Ids { rows })];
    }
    sizes.iter().enumerate().map(|(at, rows)| id_field(format!("field_{at}"), *rows)).collect()
}

#[cfg(test)]
mod tests {
    use crate::{
        dialect::{
            Hints, import,
            tests::{refusal, tensors},
        },
        schema::{Field, FieldKind, Schema},
        tensors::{Fact, Tensors},
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

    fn with_offsets(offsets: &[i64]) -> Tensors {
        let mut tensors = tensors(&SHAPES);
        let facts = offsets.iter().enumerate();
        tensors
            .facts
            .extend(facts.map(|(at, offset)| (format!("embedding.offsets.{at}"), Fact::Int(*offset))));
        tensors
    }

    #[test]
    fn a_whole_model_has_its_fields_sizes() {
        let model = import(with_offsets(&[0, 3]), &Hints::default()).unwrap();
        assert_eq!(model.fields.iter().map(Field::rows).collect::<Vec<_>>(), [0..3, 3..4]);
        assert!(model.assumptions.iter().all(|note| !note.contains("offsets")));
        for offsets in [&[1, 3][..], &[0, 4], &[0, 2, 2], &[0, -1], &[0, i64::MIN]] {
            let message = refusal(with_offsets(offsets), &Hints::default());
            assert!(message.contains("embedding.offsets: expected offsets"), "{message}");
        }
    }

    #[test]
    fn a_schema_of_other_sizes_is_refused_with_both() {
        let mut fields =
            vec![Field::new("a", FieldKind::Id { rows: 1 }), Field::new("b", FieldKind::Id { rows: 3 })];
        crate::schema::lay_out(&mut fields).unwrap();
        let mut hints = Hints { schema: Some(Schema { fields, ..Schema::default() }), ..Hints::default() };
        let message = refusal(with_offsets(&[0, 3]), &hints);
        assert!(message.contains("have [3, 1] rows, the schema says [1, 3]"), "{message}");
        let model = import(with_offsets(&[0, 1]), &hints).unwrap();
        assert_eq!(model.fields[1].name, "b");
        hints.schema = None;
        assert_eq!(import(with_offsets(&[]), &hints).unwrap().fields[0].name, "feature");
    }
}
