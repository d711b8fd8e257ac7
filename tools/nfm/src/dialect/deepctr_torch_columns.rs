//! The columns that a whole model of DeepCTR-Torch holds, as fields in the order of its input.
//!
//! `dnn_feature_columns` are those of the layers, `linear_model.*_feature_columns` those of the first order; as a reader names an
//! object once, the latter are only those that the layers do not have. `feature_index` gives the order of the input: first the
//! columns of the first order, then those that only the layers have.

use crate::{
    error::{Error, Result},
    schema::{Field, FieldKind, Order, Pooling, Sequence, Weights, lay_out},
    tensors::{Fact, Tensors},
};

const DEEP: &str = "dnn_feature_columns";
const LISTS: [&str; 4] = [
    DEEP,
    "linear_model.sparse_feature_columns",
    "linear_model.varlen_sparse_feature_columns",
    "linear_model.dense_feature_columns",
];

/// A column, or one number of a dense column of several.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) field: Field,
    /// The name of its table.
    pub(super) table: Option<String>,
    /// Its place in the list of the layers' columns; `None` when they do not take it.
    deep: Option<usize>,
    /// Its place in the input.
    position: i64,
}

/// The columns in the order of the input; none in a `state_dict`. The first order takes `linear` dense inputs, where that is known.
pub(super) fn columns(tensors: &Tensors, linear: Option<usize>) -> Result<Vec<Column>> {
    let mut columns = Vec::new();
    for list in LISTS {
        for index in indices(tensors, list) {
            let place = format!("{list}.{index}");
            let read = read(tensors, &place, (list == DEEP).then_some(index));
            columns.extend(read.ok_or_else(|| {
                let problem = "expected a SparseFeat, VarLenSparseFeat or DenseFeat with its members, found another object; \
                               save the state_dict() instead";
                Error::refused(&tensors.file, format!("column `{place}`"), problem)
            })?);
        }
    }
    columns.sort_by_key(|column| column.position);
    let dense = columns.iter().filter(|column| column.field.kind == FieldKind::Dense);
    if !dense.filter_map(|column| column.deep).is_sorted() {
        let problem = "the first order takes the dense columns in another order than the layers, which is not supported";
        return Err(Error::refused(&tensors.file, DEEP, problem));
    }
    share(&mut columns);
    if let Some(linear) = linear {
        let dense = columns.iter_mut().filter(|column| column.field.kind == FieldKind::Dense);
        dense.enumerate().for_each(|(index, column)| column.field.only = column.only(index < linear));
    }
    Ok(columns)
}

/// The places of a list that hold an object.
fn indices<'t>(tensors: &'t Tensors, list: &'t str) -> impl Iterator<Item = usize> + 't {
    let index = move |fact: &String| {
        let rest = fact.strip_prefix(list)?.strip_prefix('.')?;
        rest.strip_suffix(".__class__")?.parse().ok()
    };
    tensors.facts.keys().filter_map(index)
}

/// The columns of the object at `place`: several for a dense one of several numbers.
fn read(tensors: &Tensors, place: &str, deep: Option<usize>) -> Option<Vec<Column>> {
    let member = |member: &str| tensors.facts.get(&format!("{place}.{member}"));
    let text = |name: &str| match member(name) {
        Some(Fact::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let number = |name: &str| match member(name) {
        Some(Fact::Int(number)) => u32::try_from(*number).ok(),
        _ => None,
    };
    let (name, kind, table, count) = match text("__class__")?.rsplit('.').next()? {
        "SparseFeat" => (text("0")?, FieldKind::Id { rows: number("1")? }, text("5"), 1),
        "VarLenSparseFeat" => {
            let pooling = match text("2")?.as_str() {
                "mean" => Pooling::Mean,
                "sum" => Pooling::Sum,
                "max" => Pooling::Max,
                _ => return None,
            };
            let sequence = Sequence {
                rows: number("0.1")?,
                pooling,
                linear: pooling,
                max_len: number("1").and_then(|len| u16::try_from(len).ok()),
                // Without a length, entries of id 0 are no entries.
                padding: text("3").is_none().then_some(0),
                weights: Weights::Raw,
            };
            (text("0.0")?, FieldKind::Sequence(sequence), text("0.5"), 1)
        }
        "DenseFeat" => (text("0")?, FieldKind::Dense, None, number("1")?),
        _ => return None,
    };
    let Some(Fact::Int(position)) = tensors.facts.get(&format!("feature_index.{name}.0")) else {
        return None;
    };
    let column = |at: u32| Column {
        field: Field::new(if count == 1 { name.clone() } else { format!("{name}_{at}") }, kind),
        table: table.clone(),
        deep,
        position: position.saturating_add(at.into()),
    };
    Some((0..count).map(column).collect())
}

/// Lets the fields of one table share it, of whom the first one or the one of its name owns it.
fn share(columns: &mut [Column]) {
    let named = |column: &Column| column.table.as_ref() == Some(&column.field.name);
    let all = columns.to_vec();
    for column in columns.iter_mut().filter(|column| column.table.is_some()) {
        let mut same = all.iter().filter(|other| other.table == column.table);
        let owner = same.clone().find(|other| named(other)).or_else(|| same.next());
        let owner = owner.map(|owner| owner.field.name.clone());
        column.field.table = owner.filter(|owner| *owner != column.field.name);
    }
}

impl Column {
    fn only(&self, is_linear: bool) -> Option<Order> {
        match (self.deep.is_some(), is_linear) {
            (true, false) => Some(Order::Deep),
            (false, true) => Some(Order::Linear),
            _ => None,
        }
    }
}

/// The fields: those of the schema, which must be the model's own where it has them, or else the model's.
pub(super) fn fields(file: &str, schema: &[Field], columns: &[Column]) -> Result<Vec<Field>> {
    if !schema.is_empty() {
        compare(schema, columns).map_err(|problem| Error::refused(file, "schema", problem))?;
        return Ok(schema.to_vec());
    }
    let mut fields: Vec<Field> = columns.iter().map(|column| column.field.clone()).collect();
    lay_out(&mut fields).map_err(|problem| Error::refused(file, DEEP, problem))?;
    Ok(fields)
}

/// Says where a schema is not what the columns are.
fn compare(schema: &[Field], columns: &[Column]) -> core::result::Result<(), String> {
    if columns.is_empty() {
        return Ok(());
    }
    let column = |name: &String| columns.iter().find(|column| column.field.name == *name);
    if let Some(absent) =
        columns.iter().find(|column| schema.iter().all(|field| field.name != column.field.name))
    {
        return Err(format!("the model's column `{}` is not in it", absent.field.name));
    }
    for field in schema {
        let name = &field.name;
        let Some(own) = column(name) else { return Err(format!("the model has no column `{name}`")) };
        let (said, found) = (described(field), described(&own.field));
        if said != found {
            return Err(format!("field `{name}`: the schema says {said}, the model's own column {found}"));
        }
        let other = field.table.as_ref().and_then(column);
        if let Some(other) = other.filter(|other| other.table != own.table) {
            let (table, found) = (&other.field.name, own.table.as_deref().unwrap_or("none"));
            return Err(format!(
                "field `{name}`: the schema says the table of `{table}`, the model's own column `{found}`"
            ));
        }
    }
    let dense = |field: &&Field| field.kind == FieldKind::Dense;
    let said: Vec<&str> = schema.iter().filter(dense).map(|field| field.name.as_str()).collect();
    let own = columns.iter().map(|column| &column.field).filter(dense);
    let own: Vec<&str> = own.map(|field| field.name.as_str()).collect();
    if said == own {
        return Ok(());
    }
    Err(format!(
        "expected the dense inputs in the model's order {}, found {}",
        own.join(", "),
        said.join(", ")
    ))
}

/// What of a field the model's column says too.
fn described(field: &Field) -> String {
    let only = |order: Order| format!("dense, in the {} only", order.name());
    match field.kind {
        FieldKind::Id { rows } => format!("an id of {rows} rows"),
        FieldKind::Ids { rows } => format!("ids of {rows} rows"),
        FieldKind::Scaled => "scaled".into(),
        FieldKind::Dense => field.only.map_or_else(|| "dense".into(), only),
        FieldKind::Sequence(Sequence { rows, pooling, linear, padding, .. }) => {
            let padding = padding.map_or_else(|| "no padding".into(), |id| format!("padding {id}"));
            let (pooling, linear) = (pooling.name(), linear.name());
            format!("a sequence of {rows} rows with pooling {pooling}, linear_pooling {linear} and {padding}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dialect::{Hints, import, tests::tensors},
        float_model::FloatModel,
        schema::Schema,
    };

    /// Tables `t` of the columns `a` and `s`, and the dense columns `x`, of the first order alone, and `y`, of two numbers.
    fn whole() -> Tensors {
        let mut whole = tensors(&[
            ("embedding_dict.t.weight", &[4, 3]),
            ("linear_model.embedding_dict.t.weight", &[4, 1]),
            ("linear_model.weight", &[3, 1]),
            ("dnn.linears.0.weight", &[2, 5]),
            ("dnn.linears.0.bias", &[2]),
            ("dnn_linear.weight", &[1, 2]),
            ("out.bias", &[1]),
        ]);
        let text = |text: &str| Fact::Text(text.into());
        let deep = |at: usize, member: &str| format!("{DEEP}.{at}.{member}");
        let facts = [
            (deep(0, "__class__"), text("deepctr_torch.inputs.DenseFeat")),
            (deep(0, "0"), text("y")),
            (deep(0, "1"), Fact::Int(2)),
            (deep(1, "__class__"), text("deepctr_torch.inputs.SparseFeat")),
            (deep(1, "0"), text("a")),
            (deep(1, "1"), Fact::Int(4)),
            (deep(1, "5"), text("t")),
            (deep(2, "__class__"), text("deepctr_torch.inputs.VarLenSparseFeat")),
            (deep(2, "0.0"), text("s")),
            (deep(2, "0.1"), Fact::Int(4)),
            (deep(2, "0.5"), text("t")),
            (deep(2, "1"), Fact::Int(7)),
            (deep(2, "2"), text("sum")),
            ("linear_model.dense_feature_columns.0.__class__".into(), text("deepctr_torch.inputs.DenseFeat")),
            ("linear_model.dense_feature_columns.0.0".into(), text("x")),
            ("linear_model.dense_feature_columns.0.1".into(), Fact::Int(1)),
            ("feature_index.x.0".into(), Fact::Int(0)),
            ("feature_index.a.0".into(), Fact::Int(1)),
            ("feature_index.s.0".into(), Fact::Int(2)),
            ("feature_index.y.0".into(), Fact::Int(9)),
        ];
        whole.facts.extend(facts);
        whole
    }

    fn import_with(fields: &str) -> Result<FloatModel> {
        let schema: Schema =
            serde_json::from_str(&format!(r#"{{"schema_version": 1, "fields": [{fields}]}}"#)).unwrap();
        import(whole(), &Hints { schema: Some(schema), ..Hints::default() })
    }

    const X: &str = r#"{"name": "x", "type": "dense", "only": "linear"}"#;
    const Y: &str = r#"{"name": "y_0", "type": "dense"}, {"name": "y_1", "type": "dense"}"#;
    const A: &str = r#"{"name": "a", "type": "id", "rows": 4}"#;
    const S: &str = r#"{"name": "s", "type": "sequence", "table": "a", "pooling": "sum", "padding": 0}"#;

    #[test]
    fn a_whole_model_has_its_fields() {
        let model = import(whole(), &Hints::default()).unwrap();
        let names: Vec<&str> = model.fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["x", "a", "s", "y_0", "y_1"]);
        assert_eq!(model.fields[2].table.as_deref(), Some("a"));
        assert_eq!((model.rows(), model.max_active), (4, 8));
        let own: Vec<Order> = model.fields.iter().filter_map(|field| field.only).collect();
        assert_eq!(own, [Order::Linear]);
    }

    #[test]
    fn a_schema_must_say_what_the_columns_say() {
        import_with(&format!("{S}, {X}, {A}, {Y}")).unwrap();
        for (fields, essentials) in [
            (format!("{X}, {A}, {S}"), ["the model's column `y_0`", "not in it"]),
            (format!("{X}, {A}, {S}, {Y}, {}", A.replace("\"a\"", "\"b\"")), ["no column `b`", ""]),
            (
                format!("{X}, {}, {S}, {Y}", A.replace('4', "5")),
                ["says an id of 5 rows", "own column an id of 4 rows"],
            ),
            (
                format!("{X}, {A}, {}, {Y}", S.replace("sum", "mean")),
                ["pooling mean, ", "own column a sequence of 4 rows with pooling sum"],
            ),
            (format!("{X}, {A}, {}, {Y}", S.replace(", \"padding\": 0", "")), ["no padding", "padding 0"]),
            (
                format!("{}, {A}, {S}, {Y}", X.replace(", \"only\": \"linear\"", "")),
                ["says dense,", "dense, in the first order only"],
            ),
            (format!("{Y}, {A}, {S}, {X}"), ["model's order x, y_0, y_1", "found y_0, y_1, x"]),
        ] {
            let message = import_with(&fields).unwrap_err().to_string();
            assert!(essentials.iter().all(|essential| message.contains(essential)), "{message}");
        }
    }

    #[test]
    fn what_is_no_column_is_refused_by_its_place() {
        for (fact, value) in
            [("2.2", Fact::Text("attention".into())), ("1.__class__", Fact::Text("my.Column".into()))]
        {
            let mut whole = whole();
            whole.facts.insert(format!("{DEEP}.{fact}"), value);
            let message = import(whole, &Hints::default()).unwrap_err().to_string();
            assert!(message.contains(&format!("column `{DEEP}.{}`", &fact[..1])), "{message}");
        }
        let mut whole = whole();
        whole.facts.insert(format!("{DEEP}.3.__class__"), Fact::Text("DenseFeat".into()));
        whole.facts.insert(format!("{DEEP}.3.0"), Fact::Text("z".into()));
        whole.facts.insert(format!("{DEEP}.3.1"), Fact::Int(1));
        whole.facts.insert("feature_index.z.0".into(), Fact::Int(0));
        let message = import(whole, &Hints::default()).unwrap_err().to_string();
        assert!(message.contains("in another order than the layers"), "{message}");
    }
}
