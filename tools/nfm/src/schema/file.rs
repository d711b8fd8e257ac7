//! The schema file: JSON records in both directions. Each record is flat, so that an error has the path of its member; which members
//! belong together is checked afterwards.

use serde::{Deserialize, Serialize};

use super::{
    Field, FieldKind, Order, Pooling, Schema, Sequence, Task, Weights, encoder::EncoderRecord, lay_out,
};
use crate::encoding::spec::{Encoding, Keep, Policy};

/// What is wrong, and the JSON path of where.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) path: String,
    pub(super) text: String,
}

impl Problem {
    pub(super) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into() }
    }
}

pub(super) type Result<T> = core::result::Result<T, Problem>;

/// The file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "an object with the schema's members")]
pub(super) struct SchemaRecord {
    pub(super) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task: Option<Task>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    activation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bn_eps: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_active: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_value: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dropout_scale: Option<f64>,
    #[serde(default)]
    fields: Vec<FieldRecord>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Type {
    Id,
    Ids,
    Sequence,
    Dense,
    Scaled,
}

/// A field: the members of all types.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "an object with the field's members")]
pub(super) struct FieldRecord {
    name: String,
    #[serde(rename = "type")]
    kind: Type,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pooling: Option<Pooling>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    linear_pooling: Option<Pooling>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_len: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    padding: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fill: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep: Option<Keep>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weights: Option<Weights>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    separator: Option<char>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weighted: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    only: Option<Order>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encoder: Option<EncoderRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unseen: Option<Policy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    missing: Option<Policy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    missing_values: Option<Vec<String>>,
}

/// Members of every field.
const OF_ALL: [&str; 4] = ["encoder", "unseen", "missing", "missing_values"];

impl Type {
    const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Ids => "ids",
            Self::Sequence => "sequence",
            Self::Dense => "dense",
            Self::Scaled => "scaled",
        }
    }

    /// The members that a field of the type may have beside those of all.
    const fn members(self) -> &'static [&'static str] {
        match self {
            Self::Id => &["rows", "table"],
            Self::Ids => &["rows", "table", "max_len", "keep", "separator", "weighted"],
            Self::Sequence => &[
                "rows",
                "table",
                "pooling",
                "linear_pooling",
                "max_len",
                "padding",
                "fill",
                "keep",
                "weights",
                "separator",
                "weighted",
            ],
            Self::Dense => &["only"],
            Self::Scaled => &[],
        }
    }
}

impl SchemaRecord {
    /// The schema, with files that it names read from beside it.
    pub(super) fn schema(self, folder: &std::path::Path) -> Result<Schema> {
        let mut fields = Vec::with_capacity(self.fields.len());
        for (at, record) in self.fields.into_iter().enumerate() {
            let path = format!("fields[{at}]");
            if fields.iter().any(|before: &Field| before.name == record.name) {
                return Err(Problem::new(
                    format!("{path}.name"),
                    format!("expected each name once, found `{}` a second time", record.name),
                ));
            }
            fields.push(record.field(&path, folder)?);
        }
        lay_out(&mut fields).map_err(|text| Problem::new("fields", text))?;
        for (at, field) in fields.iter().enumerate() {
            super::encoder::check(&format!("fields[{at}]"), field)?;
        }
        Ok(Schema {
            schema_version: self.schema_version,
            task: self.task,
            activation: self.activation,
            bn_eps: self.bn_eps,
            max_active: self.max_active,
            max_value: self.max_value,
            dropout_scale: self.dropout_scale,
            fields,
        })
    }

    /// The record of a schema.
    pub(super) fn of(schema: &Schema) -> Self {
        Self {
            schema_version: schema.schema_version,
            task: schema.task,
            activation: schema.activation.clone(),
            bn_eps: schema.bn_eps,
            max_active: schema.max_active,
            max_value: schema.max_value,
            dropout_scale: schema.dropout_scale,
            fields: schema.fields.iter().map(FieldRecord::of).collect(),
        }
    }
}

impl FieldRecord {
    /// The members that are there, of those that not every type has.
    fn present(&self) -> impl Iterator<Item = &'static str> {
        let members = [
            ("rows", self.rows.is_some()),
            ("table", self.table.is_some()),
            ("pooling", self.pooling.is_some()),
            ("linear_pooling", self.linear_pooling.is_some()),
            ("max_len", self.max_len.is_some()),
            ("padding", self.padding.is_some()),
            ("fill", self.fill.is_some()),
            ("keep", self.keep.is_some()),
            ("weights", self.weights.is_some()),
            ("separator", self.separator.is_some()),
            ("weighted", self.weighted.is_some()),
            ("only", self.only.is_some()),
        ];
        members.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name)
    }

    /// The field, not laid out; one that uses another's table has no rows yet.
    fn field(mut self, path: &str, folder: &std::path::Path) -> Result<Field> {
        self.check_members(path)?;
        let encoder = self.encoder.take().map(|record| record.encoder(&format!("{path}.encoder"), folder));
        let standard = Encoding::default();
        let encoding = Encoding {
            encoder: encoder.transpose()?,
            unseen: self.unseen.unwrap_or_default(),
            missing: self.missing.unwrap_or_default(),
            missing_values: self.missing_values.take().unwrap_or(standard.missing_values),
            separator: self.separator.unwrap_or(standard.separator),
            weighted: self.weighted,
            keep: self.keep.unwrap_or_default(),
            max_len: self.max_len,
            fill: self.fill,
        };
        let kind = self.kind(path)?;
        Ok(Field {
            table: self.table,
            only: self.only,
            encoding,
            ..Field::new(self.name, kind.with_rows(self.rows.unwrap_or(0)))
        })
    }

    fn check_members(&self, path: &str) -> Result<()> {
        let (kind, members) = (self.kind.name(), self.kind.members());
        if let Some(other) = self.present().find(|name| !members.contains(name)) {
            let all = [&["name", "type"], members, &OF_ALL].concat().join(", ");
            let text = format!("a field of type `{kind}` has no such member; it has {all}");
            return Err(Problem::new(format!("{path}.{other}"), text));
        }
        if members.contains(&"rows") && self.rows.is_some() == self.table.is_some() {
            let found = if self.rows.is_some() { "both" } else { "none" };
            let text = format!("field `{}`: expected either `rows` or `table`, found {found}", self.name);
            return Err(Problem::new(path, text));
        }
        Ok(())
    }

    fn kind(&self, path: &str) -> Result<FieldKind> {
        Ok(match self.kind {
            Type::Id => FieldKind::Id { rows: 0 },
            Type::Ids => FieldKind::Ids { rows: 0 },
            Type::Dense => FieldKind::Dense,
            Type::Scaled => FieldKind::Scaled,
            Type::Sequence => {
                let pooling = self.pooling.ok_or_else(|| {
                    let text =
                        "missing; expected one of sum, mean, sqrtn, max: the checkpoint does not say it";
                    Problem::new(format!("{path}.pooling"), text)
                })?;
                FieldKind::Sequence(Sequence {
                    rows: 0,
                    pooling,
                    linear: self.linear_pooling.unwrap_or(pooling),
                    max_len: self.max_len,
                    padding: self.padding,
                    weights: self.weights.unwrap_or_default(),
                })
            }
        })
    }

    pub(super) fn of(field: &Field) -> Self {
        let (kind, sequence) = match field.kind {
            FieldKind::Id { .. } => (Type::Id, None),
            FieldKind::Ids { .. } => (Type::Ids, None),
            FieldKind::Dense => (Type::Dense, None),
            FieldKind::Scaled => (Type::Scaled, None),
            FieldKind::Sequence(sequence) => (Type::Sequence, Some(sequence)),
        };
        let (encoding, standard) = (&field.encoding, Encoding::default());
        let has_rows = kind.members().contains(&"rows") && field.table.is_none();
        Self {
            name: field.name.clone(),
            kind,
            rows: has_rows.then(|| field.kind.rows()),
            table: field.table.clone(),
            pooling: sequence.map(|sequence| sequence.pooling),
            linear_pooling: sequence
                .filter(|sequence| sequence.linear != sequence.pooling)
                .map(|sequence| sequence.linear),
            max_len: sequence.map_or(encoding.max_len, |sequence| sequence.max_len),
            padding: sequence.and_then(|sequence| sequence.padding),
            fill: encoding.fill,
            keep: (encoding.keep != Keep::First).then_some(encoding.keep),
            weights: sequence.map(|sequence| sequence.weights).filter(|weights| *weights != Weights::Raw),
            separator: (encoding.separator != standard.separator).then_some(encoding.separator),
            weighted: encoding.weighted,
            only: field.only,
            encoder: encoding.encoder.as_ref().map(EncoderRecord::of),
            unseen: (encoding.unseen != Policy::Error).then_some(encoding.unseen),
            missing: (encoding.missing != Policy::Error).then_some(encoding.missing),
            missing_values: (encoding.missing_values != standard.missing_values)
                .then(|| encoding.missing_values.clone()),
        }
    }
}
