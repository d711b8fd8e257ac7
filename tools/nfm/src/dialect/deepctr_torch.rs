//! DeepCTR-Torch's NFM: a table per field, dense inputs concatenated after z, no batch norm, a projection without bias.
//!
//! A whole model holds its columns, so it needs no schema; one that is given must say the same.

use super::{
    Dialect, Hints, deepctr_torch_columns as columns,
    draft::{DenseColumns, Draft, Stored, extent, id_field},
};
use crate::{
    error::Result,
    float_model::{FloatModel, Stage},
    schema::{Field, Task},
    tensors::Tensors,
};

pub(super) const DIALECT: Dialect = Dialect {
    name: "deepctr-torch",
    about: "DeepCTR-Torch NFM",
    recognizes: |tensors| {
        tensors.entries.contains_key("dnn_linear.weight") && tables(tensors, SECOND).next().is_some()
    },
    import,
};

const FIRST: &str = "linear_model.embedding_dict.";
const SECOND: &str = "embedding_dict.";
const DENSE_LINEAR: &str = "linear_model.weight";

/// Names and rows of the tables whose tensors start with `prefix`.
fn tables(tensors: &Tensors, prefix: &'static str) -> impl Iterator<Item = (String, usize)> {
    tensors.entries.iter().filter_map(move |(name, tensor)| {
        let field = name.strip_prefix(prefix)?.strip_suffix(".weight")?;
        Some((field.to_owned(), tensor.shape.first().copied().unwrap_or(0)))
    })
}

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let dim = dim(draft.tensors)?;
    let (deep, linear) = dense_counts(draft.tensors, dim)?;
    let own = columns::columns(draft.tensors, linear)?;
    own.iter().for_each(|column| draft.alias(&column.field.name, column.table.as_deref()));
    let said = columns::fields(&draft.tensors.file, hints.schema_fields(), &own)?;
    let columns = match draft.dense_columns(&said, deep, linear.unwrap_or(0))? {
        Some(columns) => columns,
        None => DenseColumns::all(dense_inputs(draft.tensors, deep, linear)?),
    };
    let dense = columns.total;
    let known = known_tables(draft.tensors);
    let fields = draft.fields_of_tables_as(said, &known, dense)?;
    draft.stages.push(Stage::Concat);
    let width = layers(&mut draft, dim + deep)?;
    draft.head("dnn_linear.weight", None, Stored::OutIn, width)?;
    draft.widen_first_layer(dim, &columns);
    let rows = draft.rows(&fields, |draft, field| {
        Ok((
            table(draft, FIRST, "first order", field, 1)?,
            table(draft, SECOND, "Bi-Interaction", field, dim)?,
        ))
    })?;
    let weights = match linear {
        Some(linear) => draft.tensors.take(DENSE_LINEAR, &[linear, 1])?,
        None => Vec::new(),
    };
    draft.dense_linear = columns.spread(&weights);
    draft.bias = draft.number("out.bias")?;
    draft.finish(DIALECT.name, fields, dim, rows, ("out.task", Task::Binary))
}

/// The tables of either order.
fn known_tables(tensors: &Tensors) -> Vec<Field> {
    let mut known: Vec<Field> = Vec::new();
    for (name, rows) in tables(tensors, SECOND).chain(tables(tensors, FIRST)) {
        if known.iter().all(|field| field.name != name) {
            known.push(id_field(name, rows));
        }
    }
    known
}

/// Embedding width, which all tables must share.
fn dim(tensors: &Tensors) -> Result<usize> {
    let mut dim = None;
    for (name, _) in tables(tensors, SECOND) {
        let name = format!("{SECOND}{name}.weight");
        let shape = tensors.shape(&name).unwrap_or_default();
        match (shape, dim) {
            (&[_, width], None) => dim = Some(width),
            (&[_, width], Some(dim)) if width == dim => {}
            (_, None) => return Err(tensors.refuse(&name, format!("expected [rows, dim], found {shape:?}"))),
            (_, Some(dim)) => {
                return Err(tensors.refuse(&name, format!("expected [rows, {dim}], found {shape:?}")));
            }
        }
    }
    dim.ok_or_else(|| tensors.refuse(SECOND, "no embedding table"))
}

/// How many dense inputs the first layer takes, and how many the first order where it takes any.
fn dense_counts(tensors: &Tensors, dim: usize) -> Result<(usize, Option<usize>)> {
    let first = "dnn.linears.0.weight";
    let shape = tensors.shape(first);
    let Some(&[_, inputs]) = shape else {
        return Err(tensors.refuse(first, format!("expected [out, in], found {shape:?}")));
    };
    let Some(deep) = inputs.checked_sub(dim) else {
        return Err(
            tensors.refuse(first, format!("expected at least {dim} inputs (the lanes of z), found {inputs}"))
        );
    };
    Ok((deep, tensors.shape(DENSE_LINEAR).map(|_| tensors.rows(DENSE_LINEAR))))
}

/// How many dense inputs there are, where both orders take all.
fn dense_inputs(tensors: &Tensors, dense: usize, linear: Option<usize>) -> Result<usize> {
    match linear {
        Some(linear) if linear == dense => Ok(dense),
        None if dense == 0 => Ok(0),
        None => Err(tensors.refuse(
            DENSE_LINEAR,
            format!(
                "missing, but the first layer takes {dense} dense inputs: checkpoints that releases before 0.2.4 \
                 trained on a GPU lost it (DeepCTR-Torch issue 145). If the model never had first-order dense \
                 weights, add a zero tensor of shape [{dense}, 1]"
            ),
        )),
        Some(linear) => Err(tensors.refuse(
            DENSE_LINEAR,
            format!("has {linear} dense inputs, but the first layer takes {dense}: say in the schema which columns have `only` one order"),
        )),
    }
}

/// The hidden layers; gives the last one's width.
fn layers(draft: &mut Draft<'_>, inputs: usize) -> Result<usize> {
    let mut width = inputs;
    for layer in 0.. {
        let (weights, bias) = (format!("dnn.linears.{layer}.weight"), format!("dnn.linears.{layer}.bias"));
        if draft.tensors.shape(&weights).is_none() {
            if draft.tensors.shape(&bias).is_some() {
                return Err(draft.tensors.refuse(&weights, "missing, but its bias is there"));
            }
            break;
        }
        width = draft.dense(&weights, Some(&bias), Stored::OutIn, width)?;
        let module = format!("dnn.activation_layers.{layer}");
        let slopes = format!("{module}.weight");
        match draft.tensors.shape(&slopes) {
            Some(_) => draft.prelu(&slopes, width)?,
            None => draft.activation(&module)?,
        }
    }
    Ok(width)
}

/// A field's table, or zeros when the field takes no part in that order.
fn table(
    draft: &mut Draft<'_>,
    prefix: &str,
    order: &str,
    field: &Field,
    columns: usize,
) -> Result<Vec<f32>> {
    let name = format!("{prefix}{}.weight", draft.table_name(field));
    if draft.tensors.shape(&name).is_some() {
        return draft.tensors.take_f32(&name, &[extent(field), columns]);
    }
    draft.assume(format!(
        "field `{}` takes no part in the {order}: the checkpoint has no `{name}`",
        field.name
    ));
    Ok(vec![0.0; extent(field) * columns])
}

#[cfg(test)]
mod tests {
    use crate::{
        dialect::{
            Hints, import,
            tests::{refusal, tensors},
        },
        float_model::{Activation, Stage},
        schema::{Field, FieldKind, Schema, Task, lay_out},
        tensors::{Fact, Tensors},
    };

    const SHAPES: [(&str, &[usize]); 9] = [
        ("embedding_dict.a.weight", &[2, 3]),
        ("embedding_dict.b.weight", &[4, 3]),
        ("linear_model.embedding_dict.a.weight", &[2, 1]),
        ("linear_model.embedding_dict.b.weight", &[4, 1]),
        ("dnn.linears.0.weight", &[5, 3]),
        ("dnn.linears.0.bias", &[5]),
        ("dnn_linear.weight", &[1, 5]),
        ("out.bias", &[1]),
        ("dnn.activation_layers.0.weight", &[5]),
    ];

    /// The tensors of [`SHAPES`] without those of `but`, and `more`.
    fn with(but: &[&str], more: &[(&str, &[usize])]) -> Tensors {
        let kept = SHAPES.iter().filter(|(name, _)| !but.contains(name));
        tensors(&kept.chain(more).copied().collect::<Vec<_>>())
    }

    const PRELU: &str = "dnn.activation_layers.0.weight";

    #[test]
    fn fields_follow_the_schema_and_their_tables_with_them() {
        let field = |name: &str, rows| Field::new(name, FieldKind::Id { rows });
        let mut fields = vec![field("b", 4), field("a", 2)];
        lay_out(&mut fields).unwrap();
        let schema = Schema { schema_version: 1, fields: fields.clone(), ..Schema::default() };
        let mut tensors = with(&[], &[]);
        if let Some(tensor) = tensors.entries.get_mut("linear_model.embedding_dict.a.weight") {
            tensor.values = crate::tensors::Values::F32(vec![7.0, 8.0]);
        }
        let model = import(tensors, &Hints { schema: Some(schema), ..Hints::default() }).unwrap();
        assert_eq!(model.fields, fields);
        assert_eq!(model.linear, [0.5, 0.5, 0.5, 0.5, 7.0, 8.0]);
        assert!(matches!(model.fields[0].kind, FieldKind::Id { .. }) && model.max_active == 2);
    }

    #[test]
    fn a_field_of_one_order_only_is_zero_in_the_other_and_said_to_be() {
        let more: [(&str, &[usize]); 1] = [("linear_model.embedding_dict.c.weight", &[2, 1])];
        let model = import(with(&[], &more), &Hints::default()).unwrap();
        assert_eq!(model.rows(), 8);
        assert_eq!(model.embeddings[6 * 3..], [0.0; 6]);
        let note = "field `c` takes no part in the Bi-Interaction";
        assert!(model.assumptions.iter().any(|a| a.contains(note)), "{:?}", model.assumptions);
        let model = import(with(&["linear_model.embedding_dict.b.weight"], &[]), &Hints::default()).unwrap();
        assert_eq!(model.linear, [0.5, 0.5, 0.0, 0.0, 0.0, 0.0]);
        let note = "field `b` takes no part in the first order";
        assert!(model.assumptions.iter().any(|a| a.contains(note)), "{:?}", model.assumptions);
    }

    #[test]
    fn the_activation_is_the_checkpoints_own() {
        let slopes = |model: crate::float_model::FloatModel| match &model.stages[2] {
            Stage::Activation(activation) => activation.clone(),
            stage => panic!("{stage:?}"),
        };
        let model = import(with(&[], &[]), &Hints::default()).unwrap();
        assert_eq!(slopes(model), Activation::PRelu(vec![0.5; 5]));
        let model = import(with(&[PRELU], &[(PRELU, &[1])]), &Hints::default()).unwrap();
        assert_eq!(slopes(model), Activation::LeakyRelu(0.5));
        assert!(
            refusal(with(&[PRELU], &[(PRELU, &[3])]), &Hints::default()).contains("1 or 5 slopes, found 3")
        );
        let mut whole = with(&[PRELU], &[]);
        let fact = |name: &str, fact| (format!("dnn.activation_layers.0.{name}"), fact);
        let class = Fact::Text("torch.nn.modules.activation.LeakyReLU".into());
        whole.facts.extend([fact("__class__", class), fact("negative_slope", Fact::Float(0.3))]);
        assert_eq!(slopes(import(whole.clone(), &Hints::default()).unwrap()), Activation::LeakyRelu(0.3));
        // What the user says is about another function: the checkpoint's slope is not its.
        let said = Hints { activation: Some("leaky_relu".into()), ..Hints::default() };
        assert_eq!(slopes(import(whole, &said).unwrap()), Activation::LeakyRelu(0.01));
    }

    #[test]
    fn what_does_not_fit_is_refused_by_tensor() {
        let bias = "dnn.linears.0.bias";
        for (tensors, essential) in [
            (
                with(&["embedding_dict.b.weight"], &[("embedding_dict.b.weight", &[4, 2])]),
                "expected [rows, 3], found [4, 2]",
            ),
            (
                with(&["embedding_dict.a.weight"], &[("embedding_dict.a.weight", &[2])]),
                "embedding_dict.a.weight",
            ),
            (with(&["dnn.linears.0.weight"], &[("dnn.linears.0.weight", &[5, 2])]), "at least 3 inputs"),
            (with(&["dnn.linears.0.weight"], &[("dnn.linears.0.weight", &[5, 4])]), "linear_model.weight"),
            (with(&[bias], &[]), bias),
            (
                with(&[], &[("dnn.linears.1.bias", &[5])]),
                "`dnn.linears.1.weight`: missing, but its bias is there",
            ),
            (with(&[], &[("dnn.bn.0.weight", &[5])]), "tensors left over"),
        ] {
            let message = refusal(tensors, &Hints::default());
            assert!(message.contains(essential), "{essential}: {message}");
        }
    }

    #[test]
    fn tensors_without_elements_are_refused_and_do_not_panic() {
        let empty: [(&str, &[usize]); 2] =
            [("embedding_dict.a.weight", &[2, 0]), ("embedding_dict.b.weight", &[4, 0])];
        let but = [empty[0].0, empty[1].0, "dnn.linears.0.weight"];
        let message =
            refusal(with(&but, &[empty[0], empty[1], ("dnn.linears.0.weight", &[5, 0])]), &Hints::default());
        assert!(message.contains("at least one row and one lane"), "{message}");
        let but = ["embedding_dict.a.weight", "linear_model.embedding_dict.a.weight"];
        let message = refusal(with(&but, &[(but[0], &[0, 3]), (but[1], &[0, 1])]), &Hints::default());
        assert!(message.contains("field `a`") && message.contains("empty"), "{message}");
        let names = ["dnn.linears.0.weight", "dnn.linears.0.bias", PRELU, "dnn_linear.weight"];
        let message = refusal(
            with(&names, &[(names[0], &[0, 3]), (names[1], &[0]), (names[3], &[1, 0])]),
            &Hints::default(),
        );
        assert!(message.contains("stage 1"), "{message}");
    }

    #[test]
    fn a_task_that_is_not_supported_is_refused_unless_the_user_says_one() {
        let mut tensors = with(&[], &[]);
        tensors.facts.insert("out.task".into(), Fact::Text("multiclass".into()));
        assert!(refusal(tensors.clone(), &Hints::default()).contains("`multiclass`"));
        import(tensors, &Hints { task: Some(Task::Binary), ..Hints::default() }).unwrap();
    }
}
