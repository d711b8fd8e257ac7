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
//! `SCHEMA.md` of this package has all members, the encoders of raw values and a worked example; `schema.schema.json` is its JSON
//! Schema. A member that is in neither is an error. FuxiCTR's `feature_map.json` is read in the place of a
//! schema file.

mod encoder;
mod file;

use std::{fmt, ops::Range, path::Path};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use self::file::{FieldRecord, SchemaRecord};
use crate::{
    encoding::{spec::Encoding, text_of_file},
    error::{Error, Result},
    feature_map,
    tensors::{Tensor, Tensors},
};

/// The one version of the schema file that is read.
pub const VERSION: u32 = 1;

/// A schema file's content.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Schema {
    /// Version of the file's format: 1.
    pub schema_version: u32,
    /// What the score means.
    pub task: Option<Task>,
    /// Activation of the hidden layers, as `relu`.
    pub activation: Option<String>,
    /// The ε that batch normalization adds to the variance.
    pub bn_eps: Option<f64>,
    /// The most active entries that a row can have.
    pub max_active: Option<u16>,
    /// The largest magnitude that a value of an active entry can have.
    pub max_value: Option<f64>,
    /// What dropout multiplies with at inference, where a trainer (Paddle's default mode) does so.
    pub dropout_scale: Option<f64>,
    /// The input's columns in their order, laid out.
    pub fields: Vec<Field>,
}

/// What the score means, and so which link follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
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
    /// How raw values become ids or a number.
    pub encoding: Encoding,
}

/// The parts of a model that take an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The first order.
    Linear,
    /// The layers.
    Deep,
}

impl Order {
    /// As `nfm inspect` shows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linear => "first order",
            Self::Deep => "layers",
        }
    }
}

impl Field {
    /// A field with a table of its own, which is not laid out.
    pub fn new(name: impl Into<String>, kind: FieldKind) -> Self {
        Self { name: name.into(), kind, table: None, first: 0, only: None, encoding: Encoding::default() }
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

    /// The same without what only concerns rows of data, as a `.nfm` file holds it: the most ids, the padding, the weights.
    #[must_use]
    pub const fn of_model(self) -> Self {
        match self {
            Self::Sequence(sequence) => {
                Self::Sequence(Sequence { max_len: None, padding: None, weights: Weights::Raw, ..sequence })
            }
            Self::Id { .. } | Self::Ids { .. } | Self::Dense | Self::Scaled => self,
        }
    }

    /// Whether a row may have any number of its values.
    #[must_use]
    pub const fn takes_several(self) -> bool {
        matches!(self, Self::Ids { .. } | Self::Sequence(_))
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

/// What a model holds of it.
impl fmt::Display for FieldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id { rows } => write!(f, "id of {rows} rows"),
            Self::Ids { rows } => write!(f, "ids of {rows} rows"),
            Self::Dense => f.write_str("dense"),
            Self::Scaled => f.write_str("scaled"),
            Self::Sequence(Sequence { rows, pooling, linear, .. }) => {
                write!(f, "sequence of {rows} rows, {} (first order {})", pooling.name(), linear.name())
            }
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// As it stands.
    #[default]
    Raw,
    /// The softmax over the row's entries.
    Softmax,
}

/// As it stands in a schema file.
impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> core::result::Result<S::Ok, S::Error> {
        SchemaRecord::of(self).serialize(serializer)
    }
}

/// From a schema file's text, whose vocabularies lie in no other file.
impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> core::result::Result<Self, D::Error> {
        let record = SchemaRecord::deserialize(deserializer)?;
        let schema = record.schema(Path::new(""));
        schema.map_err(|problem| D::Error::custom(format!("{}: {}", problem.path, problem.text)))
    }
}

/// As it stands in a schema file.
impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> core::result::Result<S::Ok, S::Error> {
        FieldRecord::of(self).serialize(serializer)
    }
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
    /// Reads a schema file, or FuxiCTR's `feature_map.json`.
    ///
    /// # Errors
    ///
    /// Names the JSON path of what is no schema.
    pub fn read(path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        let text = text_of_file(path)?;
        // What is no JSON is refused below, with its place.
        let json = serde_json::from_str(&text).unwrap_or_default();
        if let Some(schema) = feature_map::schema(&file, &json)? {
            return Ok(schema);
        }
        let mut reader = serde_json::Deserializer::from_str(&text);
        let record: SchemaRecord = serde_path_to_error::deserialize(&mut reader)
            .map_err(|e| Error::refused(&file, e.path().to_string(), e.inner().to_string()))?;
        reader.end().map_err(|e| Error::refused(&file, "", e.to_string()))?;
        if record.schema_version != VERSION {
            let found = record.schema_version;
            return Err(Error::refused(
                &file,
                "schema_version",
                format!("expected {VERSION}, found {found}"),
            ));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        record.schema(folder).map_err(|problem| Error::refused(&file, problem.path, problem.text))
    }
}

impl Schema {
    /// The schema as its file, which [`Self::read`] reads again; a vocabulary's keys stand in it.
    #[must_use]
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(&SchemaRecord::of(self));
        json.unwrap_or_default() + "\n"
    }

    /// Whether rows hold raw values: any field has an encoder or a policy.
    #[must_use]
    pub fn is_raw(&self) -> bool {
        self.fields.iter().any(|field| field.encoding.is_raw())
    }
}

/// A schema to start from, for a checkpoint that asks for one: a field for each table, which may hold the rows of several.
#[must_use]
pub fn starting_point(tensors: &Tensors) -> Option<Schema> {
    let table = |(name, tensor): (&String, &Tensor)| match tensor.shape.as_slice() {
        [rows, dim] if *dim > 1 && name.to_lowercase().contains("emb") => {
            let rows = u32::try_from(*rows).ok()?;
            Some(Field::new(name.trim_end_matches(".weight"), FieldKind::Id { rows }))
        }
        _ => None,
    };
    let mut fields: Vec<Field> = tensors.entries.iter().filter_map(table).collect();
    lay_out(&mut fields).ok().filter(|()| !fields.is_empty())?;
    Some(Schema { schema_version: VERSION, fields, ..Schema::default() })
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
                "fields[0]: field `a`: expected either `rows` or `table`, found none",
            ),
            (
                r#"{"schema_version":1,"fields":[{"name":"a","type":"id","table":"b"},{"name":"b","type":"dense"}]}"#,
                "found `b`",
            ),
            (
                r#"{"schema_version":1,"fields":[{"name":"a","type":"sequence","rows":3}]}"#,
                "fields[0].pooling: missing; expected one of sum, mean, sqrtn, max",
            ),
            (
                r#"{"schema_version":1,"fields":[{"name":"a","type":"dense","rows":3}]}"#,
                "fields[0].rows: a field of type `dense` has no such member; it has name, type, only, encoder",
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
