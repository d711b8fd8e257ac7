//! Rows whose values have names: a format gives a value for each field, and one coder makes rows of them.

use super::{LABEL, Problem, Row, encoded, finite, quote};
use crate::{
    encoding::{
        raw::{RawValue, RowEncoder},
        spec::Policy,
    },
    schema::Field,
};

/// A row as a format has it.
#[derive(Debug)]
pub(super) struct Named {
    /// A value for each field.
    pub(super) values: Vec<RawValue>,
    /// The label.
    pub(super) label: Option<f64>,
}

impl Named {
    /// A row without values for `count` fields.
    pub(super) fn missing(count: usize) -> Self {
        Self { values: vec![RawValue::Missing; count], label: None }
    }

    /// Takes the label; a missing value or an empty text is none.
    pub(super) fn set_label(&mut self, value: &RawValue) -> Result<(), Problem> {
        let text = |found: String| format!("expected a finite number, found {found}");
        self.label = match value {
            RawValue::Missing => None,
            RawValue::Text(cell) if cell.is_empty() => None,
            value => Some(number(value).map_err(|found| Problem::of_value(LABEL, text(found)))?),
        };
        Ok(())
    }
}

/// The finite number that a value is, also as a decimal; else what was found.
pub(super) fn number(value: &RawValue) -> Result<f64, String> {
    let number = match value {
        RawValue::Text(cell) => finite(cell),
        #[expect(clippy::cast_precision_loss, reason = "rounded, as the decimal of it would be")]
        RawValue::Int(number) => Some(*number as f64),
        RawValue::Float(number) => Some(*number).filter(|number| number.is_finite()),
        RawValue::Missing | RawValue::List(_) => None,
    };
    number.ok_or_else(|| found(value))
}

/// A value for a message.
pub(super) fn found(value: &RawValue) -> String {
    match value {
        RawValue::Text(text) if text.is_empty() => "nothing".into(),
        // With the point, which tells it from an integer.
        RawValue::Float(number) => format!("`{number:?}`"),
        RawValue::Int(number) => format!("`{number}`"),
        value => value.to_string(),
    }
}

/// What makes rows of values.
pub(super) enum Coder<'e> {
    /// The values are ids and numbers as the model takes them.
    Encoded(Vec<Field>),
    /// They are raw.
    Raw(RowEncoder<'e>),
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The field at this position.
    Field(usize),
    /// The label.
    Label,
    /// Nothing that is read.
    Nothing,
}

/// What the columns of a table stand for.
#[derive(Debug)]
pub(super) struct Columns {
    /// For each column.
    pub(super) targets: Vec<Target>,
    /// Names of those that are not read.
    pub(super) ignored: Vec<String>,
}

impl Columns {
    /// Whether one is the label's.
    pub(super) fn has_label(&self) -> bool {
        self.targets.contains(&Target::Label)
    }
}

impl Coder<'_> {
    /// The fields.
    pub(super) fn fields(&self) -> &[Field] {
        match self {
            Self::Encoded(fields) => fields,
            Self::Raw(encoder) => encoder.fields(),
        }
    }

    /// The row of a value for each field.
    pub(super) fn row(&mut self, named: &Named) -> Result<Row, Problem> {
        match self {
            Self::Encoded(fields) => encoded::row(fields, named),
            Self::Raw(encoder) => encoder.encode(&named.values, named.label).map_err(|(at, text)| {
                let name = encoder.fields().get(at).map_or("", |field| &field.name);
                Problem::of_value(name, text)
            }),
        }
    }

    /// Whether `field` needs no value anywhere: none that is encoded already, and a raw one whose policy says what else to take.
    pub(super) fn may_lack(&self, field: &Field) -> bool {
        matches!(self, Self::Raw(_)) && field.encoding.missing != Policy::Error
    }

    /// What `name` stands for; an error where it must be a field's, as each name of encoded rows.
    pub(super) fn target(&self, name: &str) -> Result<Target, Problem> {
        match self.fields().iter().position(|field| field.name == name) {
            Some(field) => Ok(Target::Field(field)),
            None if name == LABEL => Ok(Target::Label),
            None if matches!(self, Self::Raw(_)) => Ok(Target::Nothing),
            None => Err(self.unknown(name)),
        }
    }

    /// Fields are found by their names, so the names must tell them apart.
    pub(super) fn check_names(&self) -> Result<(), Problem> {
        for (index, field) in self.fields().iter().enumerate() {
            if field.name == LABEL {
                return Err(Problem::new(format!(
                    "expected `{LABEL}` to be the label's column, found a field of that name; rename the field"
                )));
            }
            if self.fields().iter().take(index).any(|earlier| earlier.name == field.name) {
                let name = quote(&field.name);
                return Err(Problem::new(format!(
                    "expected fields with different names, found {name} twice"
                )));
            }
        }
        Ok(())
    }

    /// What the columns of a table with these names stand for.
    pub(super) fn columns(&self, names: &[&str]) -> Result<Columns, Problem> {
        self.check_names()?;
        let mut columns = Columns { targets: Vec::with_capacity(names.len()), ignored: Vec::new() };
        for (index, name) in names.iter().enumerate() {
            let target = self.target(name)?;
            if names.iter().take(index).any(|earlier| earlier == name) {
                return Err(Problem::of_value(name, "expected each column once, found it a second time"));
            }
            if target == Target::Nothing {
                columns.ignored.push((*name).to_owned());
            }
            columns.targets.push(target);
        }
        for (at, field) in self.fields().iter().enumerate() {
            if !columns.targets.contains(&Target::Field(at)) && !self.may_lack(field) {
                return Err(self.lacking(field, names));
            }
        }
        Ok(columns)
    }

    /// What is wrong with a row or a header of these names without `field`.
    pub(super) fn lacking(&self, field: &Field, names: &[&str]) -> Problem {
        let hint = match self {
            Self::Encoded(_) => "",
            Self::Raw(_) => "; `missing` in the schema says what else to take",
        };
        let (name, names) = (quote(&field.name), list(names));
        Problem::new(format!("expected a value for the field {name}, found none among {names}{hint}"))
    }

    fn unknown(&self, name: &str) -> Problem {
        if name.starts_with("__index_level_") {
            let text =
                "expected a field's name, found the index of a data frame (pandas: write with `index=False`)";
            return Problem::of_value(name, text);
        }
        let names: Vec<&str> = self.fields().iter().map(|field| field.name.as_str()).collect();
        Problem::of_value(name, format!("expected one of {} or `{LABEL}`, found another name", list(&names)))
    }
}

/// Names for a message.
fn list(names: &[&str]) -> String {
    const LISTED: usize = 12;
    let mut quoted: Vec<String> = names.iter().take(LISTED).map(|name| quote(name)).collect();
    if names.len() > LISTED {
        quoted.push("…".into());
    }
    quoted.join(", ")
}
