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
//!     {"name": "distance", "type": "dense"}
//!   ]
//! }
//! ```
//!
//! `task` is `binary` or `regression`. An `id` field has as many `rows` as its embedding table; the tables are
//! concatenated in the order of their fields, which makes ids global. Optional: `activation` (of the hidden layers),
//! `bn_eps`, `max_active` (the most active entries in a row) and `max_value` (the largest magnitude of a value).
//! A key that is not listed here is an error.

use std::{fs, path::Path};

use serde::Deserialize;

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
    /// The input's columns in their order.
    #[serde(default)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "FieldRecord")]
pub struct Field {
    /// The column's name.
    pub name: String,
    /// What it holds.
    pub kind: FieldKind,
}

/// What a column of the input holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// Encoded ids, each below `rows`.
    Id {
        /// Rows of the field's table.
        rows: u32,
    },
    /// A number.
    Dense,
}

/// A field as it stands in the file.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum FieldRecord {
    Id { name: String, rows: u32 },
    Dense { name: String },
}

impl From<FieldRecord> for Field {
    fn from(record: FieldRecord) -> Self {
        match record {
            FieldRecord::Id { name, rows } => Self { name, kind: FieldKind::Id { rows } },
            FieldRecord::Dense { name } => Self { name, kind: FieldKind::Dense },
        }
    }
}

impl Schema {
    /// Reads a schema file.
    ///
    /// # Errors
    ///
    /// Names the line and column of what is no schema.
    pub fn read(path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        let schema: Self =
            serde_json::from_str(&text).map_err(|e| Error::refused(&file, "", e.to_string()))?;
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

/// Rows of all id fields together.
#[must_use]
pub fn total_rows(fields: &[Field]) -> u64 {
    let rows = |field: &Field| match field.kind {
        FieldKind::Id { rows } => u64::from(rows),
        FieldKind::Dense => 0,
    };
    fields.iter().map(rows).sum()
}

/// How many id fields there are.
#[must_use]
pub fn id_fields(fields: &[Field]) -> usize {
    fields.len() - dense_inputs(fields)
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
    fn what_is_no_schema_is_refused_with_its_place() {
        for (text, essential) in [
            (r#"{"schema_version":2}"#, "expected 1, found 2"),
            (r#"{"schema_version":1,"feilds":[]}"#, "unknown field `feilds`"),
            (r#"{"schema_version":1,"fields":[{"name":"a","type":"id"}]}"#, "missing field `rows`"),
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
