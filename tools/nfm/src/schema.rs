//! What a checkpoint cannot tell: the order and the names of the input's columns, the task, and facts about the graph.
//!
//! A schema file is JSON:
//!
//! ```json
//! {
//!   "schema_version": 1,
//!   "task": "binary",
//!   "fields": [
//!     {"name": "carrier", "type": "id", "rows": 17},
//!     {"name": "visited", "type": "sequence", "rows": 40, "pooling": "mean", "max_len": 8},
//!     {"name": "home", "type": "id", "table": "visited"},
//!     {"name": "distance", "type": "dense"}
//!   ]
//! }
//! ```
//!
//! `task` is `binary` or `regression`. Optional: `activation` (of the hidden layers), `bn_eps`, `max_active` (the most
//! active entries in a row), `max_value` (the largest magnitude of a value) and `dropout_scale` (what dropout multiplies
//! with at inference, in Paddle's default mode; refused by every dialect that loads, as none does).
//!
//! The types of fields:
//!
//! | type | holds | members |
//! |---|---|---|
//! | `id` | exactly one id | `rows` or `table` |
//! | `ids` | any number of ids with values, each a term of its own | `rows` or `table` |
//! | `sequence` | ids whose rows are pooled to one | `rows` or `table`, `pooling`, `linear_pooling`, `max_len`, `padding`, `weights` |
//! | `dense` | a number that joins z | `only`: `linear` or `deep`, where the other order does not take it |
//! | `scaled` | a number x of a row of its own: x · v and x · w | |
//!
//! A field has as many `rows` as its embedding table, or the `table` of the field of that name. The tables are
//! concatenated in the order of their fields, which makes ids global. `pooling` is `sum`, `mean`, `sqrtn` or `max`;
//! `linear_pooling`, of the first-order weights, is the same where it is not said. A `padding` id is dropped.
//! `weights` says what an entry's weight (`id:weight`) is: `raw`, or `softmax` over the entries of the row.
//!
//! A key that is not listed here is an error.

use std::{fs, ops::Range, path::Path};

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::error::{Error, Result};

/// The one version of the schema file that is read.
const VERSION: u32 = 1;

/// A schema file's content.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// Version of the file's format: 1.
    pub schema_version: u32,
    /// What the score means.
    #[serde(default)]
    pub task: Option<Task>,
    /// Activation of the hidden layers, as `relu`.
    #[serde(default)]
    pub activation: Option<String>,
    /// The ε that batch normalization adds to the variance.
    #[serde(default)]
    pub bn_eps: Option<f64>,
    /// The most active entries that a row can have.
    #[serde(default)]
    pub max_active: Option<u16>,
    /// The largest magnitude that a value of an active entry can have.
    #[serde(default)]
    pub max_value: Option<f64>,
    /// What dropout multiplies with at inference, where a trainer (Paddle's default mode) does so.
    #[serde(default)]
    pub dropout_scale: Option<f64>,
    /// The input's columns in their order, laid out.
    #[serde(default, deserialize_with = "fields")]
    pub fields: Vec<Field>,
}

/// What the score means, and so which link follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// A logit; the sigmoid follows.
    Binary,
    /// A value; nothing follows.
    Regression,
}

/// One column of the input.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The column's name.
    pub name: String,
    /// What it holds.
    pub kind: FieldKind,
    /// The field whose table it uses; `None` for one of its own.
    pub table: Option<String>,
    /// The first of its rows in the model's one table, by [`lay_out`].
    pub first: u32,
    /// The one order that takes a dense input; `None` when both do.
    pub only: Option<Order>,
}

/// The parts of a model that take an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The first order.
    Linear,
    /// The layers.
    Deep,
}

impl Field {
    /// A field with a table of its own, which is not laid out.
    pub fn new(name: impl Into<String>, kind: FieldKind) -> Self {
        Self { name: name.into(), kind, table: None, first: 0, only: None }
    }

    /// Its rows in the model's one table; empty for a dense input.
    #[must_use]
    pub fn rows(&self) -> Range<u64> {
        u64::from(self.first)..u64::from(self.first) + u64::from(self.kind.rows())
    }
}

/// What a column of the input holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FieldKind {
    /// Exactly one id below `rows`.
    Id {
        /// Rows of the field's table.
        rows: u32,
    },
    /// Any number of ids below `rows`, each with a value, each a term of its own.
    Ids {
        /// Rows of the field's table.
        rows: u32,
    },
    /// A number that joins z.
    Dense,
    /// A number that is the value of one row.
    Scaled,
    /// Ids whose rows are pooled to one.
    Sequence(Sequence),
}

impl FieldKind {
    /// Rows of the field's table; 0 for a dense input.
    #[must_use]
    pub const fn rows(self) -> u32 {
        match self {
            Self::Id { rows } | Self::Ids { rows } | Self::Sequence(Sequence { rows, .. }) => rows,
            Self::Scaled => 1,
            Self::Dense => 0,
        }
    }

    /// The same with another table.
    #[must_use]
    pub const fn with_rows(self, rows: u32) -> Self {
        match self {
            Self::Id { .. } => Self::Id { rows },
            Self::Ids { .. } => Self::Ids { rows },
            Self::Sequence(sequence) => Self::Sequence(Sequence { rows, ..sequence }),
            Self::Scaled | Self::Dense => self,
        }
    }
}

/// How a field of several ids becomes one term.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sequence {
    /// Rows of the field's table.
    pub rows: u32,
    /// How embeddings are pooled.
    pub pooling: Pooling,
    /// How first-order weights are pooled.
    pub linear: Pooling,
    /// The most ids in a row, where that is known.
    pub max_len: Option<u16>,
    /// The id that is no entry.
    pub padding: Option<u32>,
    /// What an entry's weight is.
    pub weights: Weights,
}

/// How the rows of a sequence become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Σ
    Sum,
    /// Σ / n
    Mean,
    /// Σ / √n
    SqrtN,
    /// The largest of each lane; of no entry it is not defined.
    Max,
}

impl Pooling {
    /// As the schema file spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::SqrtN => "sqrtn",
            Self::Max => "max",
        }
    }
}

impl From<Pooling> for embedded_nfm::Pooling {
    fn from(pooling: Pooling) -> Self {
        match pooling {
            Pooling::Sum => Self::Sum,
            Pooling::Mean => Self::Mean,
            Pooling::SqrtN => Self::SqrtN,
            Pooling::Max => Self::Max,
        }
    }
}

impl From<embedded_nfm::Pooling> for Pooling {
    fn from(pooling: embedded_nfm::Pooling) -> Self {
        match pooling {
            embedded_nfm::Pooling::Sum => Self::Sum,
            embedded_nfm::Pooling::Mean => Self::Mean,
            embedded_nfm::Pooling::SqrtN => Self::SqrtN,
            embedded_nfm::Pooling::Max => Self::Max,
        }
    }
}

/// What the weight of a sequence's entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// As it stands.
    #[default]
    Raw,
    /// The softmax over the row's entries.
    Softmax,
}

/// A field as it stands in the file.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum FieldRecord {
    Id { name: String, rows: Option<u32>, table: Option<String> },
    Ids { name: String, rows: Option<u32>, table: Option<String> },
    Dense { name: String, only: Option<Order> },
    Scaled { name: String },
    Sequence(SequenceRecord),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SequenceRecord {
    name: String,
    rows: Option<u32>,
    table: Option<String>,
    pooling: Pooling,
    linear_pooling: Option<Pooling>,
    max_len: Option<u16>,
    padding: Option<u32>,
    #[serde(default)]
    weights: Weights,
}

impl FieldRecord {
    /// The field, not laid out; one that uses another's table has no rows yet.
    fn field(self) -> core::result::Result<Field, String> {
        let (name, rows, table, kind) = match self {
            Self::Dense { name, only } => return Ok(Field { only, ..Field::new(name, FieldKind::Dense) }),
            Self::Scaled { name } => return Ok(Field::new(name, FieldKind::Scaled)),
            Self::Id { name, rows, table } => (name, rows, table, FieldKind::Id { rows: 0 }),
            Self::Ids { name, rows, table } => (name, rows, table, FieldKind::Ids { rows: 0 }),
            Self::Sequence(record) => {
                let sequence = Sequence {
                    rows: 0,
                    pooling: record.pooling,
                    linear: record.linear_pooling.unwrap_or(record.pooling),
                    max_len: record.max_len,
                    padding: record.padding,
                    weights: record.weights,
                };
                (record.name, record.rows, record.table, FieldKind::Sequence(sequence))
            }
        };
        match (rows, &table) {
            (Some(rows), None) => Ok(Field { table, ..Field::new(name, kind.with_rows(rows)) }),
            (None, Some(_)) => Ok(Field { table, ..Field::new(name, kind) }),
            _ => Err(format!("field `{name}`: expected either `rows` or `table`")),
        }
    }
}

fn fields<'de, D: Deserializer<'de>>(deserializer: D) -> core::result::Result<Vec<Field>, D::Error> {
    let records = Vec::<FieldRecord>::deserialize(deserializer)?;
    let fields: core::result::Result<Vec<Field>, String> =
        records.into_iter().map(FieldRecord::field).collect();
    let mut fields = fields.map_err(D::Error::custom)?;
    lay_out(&mut fields).map_err(D::Error::custom)?;
    Ok(fields)
}

/// Gives each field the place of its rows: the tables one after the other in the order of the fields that own them, and a field
/// that shares one the place and the rows of its owner.
///
/// # Errors
///
/// When a field shares the table of one that has none of its own, or there are more rows than 32 bits count.
pub fn lay_out(fields: &mut [Field]) -> core::result::Result<(), String> {
    let mut first = 0_u64;
    for field in fields.iter_mut().filter(|field| field.table.is_none() && field.kind.rows() > 0) {
        field.first = u32::try_from(first)
            .map_err(|_| format!("field `{}`: expected fewer than 2³² rows in all fields", field.name))?;
        first += u64::from(field.kind.rows());
    }
    let owners: Vec<Field> = fields.iter().filter(|field| field.table.is_none()).cloned().collect();
    for field in fields {
        let Some(table) = &field.table else { continue };
        let owner = owners.iter().find(|owner| owner.name == *table && owner.kind.rows() > 0);
        let Some(owner) = owner else {
            return Err(format!(
                "field `{}`: expected `table` to name a field with rows of its own, found `{table}`",
                field.name
            ));
        };
        field.first = owner.first;
        field.kind = field.kind.with_rows(owner.kind.rows());
    }
    Ok(())
}

impl Schema {
    /// Reads a schema file.
    ///
    /// # Errors
    ///
    /// Names the JSON path of what is no schema.
    pub fn read(path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        let mut reader = serde_json::Deserializer::from_str(&text);
        let schema: Self = serde_path_to_error::deserialize(&mut reader)
            .map_err(|e| Error::refused(&file, e.path().to_string(), e.inner().to_string()))?;
        reader.end().map_err(|e| Error::refused(&file, "", e.to_string()))?;
        if schema.schema_version != VERSION {
            let found = schema.schema_version;
            return Err(Error::refused(
                &file,
                "schema_version",
                format!("expected {VERSION}, found {found}"),
            ));
        }
        Ok(schema)
    }
}

/// Rows of all fields together.
#[must_use]
pub fn total_rows(fields: &[Field]) -> u64 {
    fields.iter().map(|field| field.rows().end).max().unwrap_or(0)
}

/// How many dense inputs there are.
#[must_use]
pub fn dense_inputs(fields: &[Field]) -> usize {
    fields.iter().filter(|field| field.kind == FieldKind::Dense).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Schema> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        Schema::read(file.path())
    }

    #[test]
    fn a_schema_gives_its_fields_in_order() {
        let fields = r#"[{"name":"a","type":"id","rows":3},{"name":"b","type":"dense"}]"#;
        let schema = read(&format!(r#"{{"schema_version":1,"task":"binary","fields":{fields}}}"#)).unwrap();
        assert_eq!(schema.task, Some(Task::Binary));
        assert_eq!((total_rows(&schema.fields), dense_inputs(&schema.fields)), (3, 1));
    }

    #[test]
    fn a_shared_table_has_one_place() {
        let fields = r#"[{"name":"a","type":"id","table":"s"},{"name":"b","type":"id","rows":3},{"name":"x","type":"scaled"},
            {"name":"s","type":"sequence","rows":5,"pooling":"mean","linear_pooling":"sum","padding":0}]"#;
        let schema = read(&format!(r#"{{"schema_version":1,"fields":{fields}}}"#)).unwrap();
        let rows: Vec<_> = schema.fields.iter().map(Field::rows).collect();
        assert_eq!(rows, [4..9, 0..3, 3..4, 4..9]);
        assert_eq!(total_rows(&schema.fields), 9);
        let FieldKind::Sequence(sequence) = schema.fields[3].kind else { panic!() };
        assert_eq!((sequence.pooling, sequence.linear), (Pooling::Mean, Pooling::Sum));
    }

    #[test]
    fn what_is_no_schema_is_refused_with_its_place() {
        for (text, essential) in [
            (r#"{"schema_version":2}"#, "expected 1, found 2"),
            (r#"{"schema_version":1,"feilds":[]}"#, "unknown field `feilds`"),
            (
                r#"{"schema_version":1,"fields":[{"name":"a","type":"id"}]}"#,
                "fields: field `a`: expected either `rows` or `table`",
            ),
            (
                r#"{"schema_version":1,"fields":[{"name":"a","type":"id","table":"b"},{"name":"b","type":"dense"}]}"#,
                "found `b`",
            ),
            (
                r#"{"schema_version":1,"fields":[{"name":"a","type":"sequence","rows":3}]}"#,
                "missing field `pooling`",
            ),
            (
                r#"{"schema_version":1,"fields":[{"name":"a","type":"dense","rows":3}]}"#,
                "unknown field `rows`",
            ),
            (r#"{"schema_version":1,"fields":[{"name":"a","type":"hash"}]}"#, "unknown variant `hash`"),
            (r#"{"schema_version":1,"task":"ranking"}"#, "unknown variant `ranking`"),
            ("{\n\"schema_version\":", "line 2"),
            ("", "EOF"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(essential), "{text}: {message}");
        }
    }
}
