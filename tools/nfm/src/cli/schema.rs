//! `nfm schema`

use std::path::{Path, PathBuf};

use clap::Args;

use super::{HintArgs, distinct, print, remark};
use crate::{
    container, dialect,
    encoding::{
        columns::{self, Column},
        import::{self, Imported},
        spec::{Encoder, Encoding},
    },
    error::{Error, Result},
    float_model::Link,
    rows::write_file,
    schema::{Field, FieldKind, Schema, Task},
};

#[derive(Debug, Args)]
pub(super) struct SchemaCommand {
    /// The checkpoint
    checkpoint: PathBuf,
    /// Rows with a header, which tell names, and what cells are ids, numbers or texts
    #[arg(long, value_name = "ROWS.csv")]
    csv: Option<PathBuf>,
    /// Encoders of the training pipeline; FIELD,FIELD=FILE names those that the file does not
    #[arg(long, value_name = "[FIELD=]FILE", num_args = 1..)]
    encoders: Vec<String>,
    /// Where the schema goes; standard output when absent
    #[arg(short, value_name = "SCHEMA.json")]
    output: Option<PathBuf>,
    #[command(flatten)]
    hints: HintArgs,
}

impl SchemaCommand {
    pub(super) fn run(self) -> Result<()> {
        let encoders: Vec<(Vec<String>, PathBuf)> = self.encoders.iter().map(|text| argument(text)).collect();
        if let Some(output) = &self.output {
            let inputs = [Some(&self.checkpoint), self.csv.as_ref(), self.hints.schema.as_ref()];
            let inputs = inputs.into_iter().flatten().chain(encoders.iter().map(|(_, path)| path));
            distinct(output, &inputs.map(PathBuf::as_path).collect::<Vec<_>>())?;
        }
        let hints = self.hints.hints()?;
        let model = dialect::import(container::read(&self.checkpoint)?, &hints)?;
        model.assumptions.iter().for_each(|assumption| remark(&format!("assumed: {assumption}")));
        let task = if model.link == Link::Sigmoid { Task::Binary } else { Task::Regression };
        let mut fields = model.fields;
        let csv = self.csv.as_deref().map(|path| Ok((path, columns::read(path)?))).transpose()?;
        if let Some((path, columns)) = &csv {
            fields = columns::name(fields, columns)
                .map_err(|problem| Error::refused(&path.display().to_string(), "line 1", problem))?;
        }
        for (names, path) in &encoders {
            take_over(&mut fields, path, names)?;
        }
        if let Some((path, columns)) = &csv {
            look_at(&mut fields, columns, path)?;
        }
        let schema = Schema {
            schema_version: 1,
            task: Some(task),
            activation: hints.activation,
            bn_eps: hints.bn_eps,
            max_active: hints.max_active,
            max_value: hints.max_value,
            fields,
            ..hints.schema.unwrap_or_default()
        };
        write(self.output.as_deref(), &schema)
    }
}

/// `FIELD,FIELD=FILE` or `FILE`.
fn argument(text: &str) -> (Vec<String>, PathBuf) {
    match text.split_once('=') {
        Some((names, file)) if !Path::new(text).exists() => {
            (names.split(',').map(|name| name.trim().to_owned()).collect(), file.into())
        }
        _ => (Vec::new(), text.into()),
    }
}

/// Gives fields the encoders in a file.
fn take_over(fields: &mut [Field], path: &Path, names: &[String]) -> Result<()> {
    let file = path.display().to_string();
    let mut imported = import::read(path)?;
    if !names.is_empty() {
        if names.len() != imported.len() {
            let problem =
                format!("expected {} encoders, one for each name, found {}", names.len(), imported.len());
            return Err(Error::refused(&file, "", problem));
        }
        let names = names.iter().cloned();
        imported.iter_mut().zip(names).for_each(|(imported, name)| imported.field = Some(name));
    }
    name_dense(fields, &imported, &file);
    for imported in imported {
        let Some(name) = &imported.field else {
            let problem = format!("{}: the file does not name its field; say FIELD={file}", imported.note);
            return Err(Error::refused(&file, "", problem));
        };
        let known = fields.iter().map(|field| format!("`{}`", field.name)).collect::<Vec<_>>().join(", ");
        let Some(field) = fields.iter_mut().find(|field| field.name == *name) else {
            let problem = format!("expected the name of a field of the model ({known}), found `{name}`");
            return Err(Error::refused(&file, "", problem));
        };
        let name = name.clone();
        take(field, imported).map_err(|problem| Error::refused(&file, format!("field `{name}`"), problem))?;
    }
    Ok(())
}

/// Names dense inputs that the checkpoint does not name by the scales in a file, where there are as many.
fn name_dense(fields: &mut [Field], imported: &[Imported], file: &str) {
    let is_number = |imported: &&Imported| matches!(imported.encoding.encoder, Some(Encoder::Number(_)));
    let names = imported.iter().filter(is_number).filter_map(|imported| imported.field.clone());
    let names: Vec<String> = names.filter(|name| fields.iter().all(|field| field.name != *name)).collect();
    let is_made_up = |field: &&mut Field| field.kind == FieldKind::Dense && field.name.starts_with("dense_");
    let unnamed: Vec<&mut Field> = fields.iter_mut().filter(is_made_up).collect();
    if !names.is_empty() && names.len() == unnamed.len() {
        let all = names.join(", ");
        remark(&format!(
            "assumed: the dense inputs are {all}, in the order of {file}; if not, say --schema or --csv"
        ));
        unnamed.into_iter().zip(names).for_each(|(field, name)| field.name = name);
    }
}

/// Gives a field an encoder that fits its table.
fn take(field: &mut Field, imported: Imported) -> core::result::Result<(), String> {
    let (table, note) = (field.kind.rows(), &imported.note);
    if field.encoding.encoder.is_some() {
        return Err(format!("expected one encoder for each field, found a second one ({note})"));
    }
    let gives_number = matches!(imported.encoding.encoder, Some(Encoder::Number(_)));
    let takes_number = matches!(field.kind, FieldKind::Dense | FieldKind::Scaled);
    if imported.encoding.encoder.is_some() && gives_number != takes_number {
        let (gives, takes) = if gives_number { ("a number", "an id") } else { ("an id", "a number") };
        return Err(format!("the encoder ({note}) gives {gives}, but the model takes {takes} here"));
    }
    match imported.rows {
        Some(rows) if rows > table => {
            return Err(format!(
                "the encoder ({note}) gives {rows} ids, but the field's table has {table} rows; is it of another training?"
            ));
        }
        Some(rows) if rows < table => remark(&format!(
            "field `{}`: {note}: {rows} ids for a table of {table} rows; are the others padding or unseen values?",
            field.name
        )),
        _ => remark(&format!("field `{}`: {note}", field.name)),
    }
    let max_len = field.encoding.max_len;
    field.encoding = Encoding { max_len, ..imported.encoding };
    Ok(())
}

/// Takes from the data what fields without an encoder may be, and says what it took.
fn look_at(fields: &mut [Field], columns: &[Column], path: &Path) -> Result<()> {
    for field in fields {
        let Some(column) = columns.iter().find(|column| column.name == field.name) else { continue };
        if field.encoding.encoder.is_none() {
            let found = columns::encode(field, column);
            let note = found.map_err(|problem| {
                Error::refused(&path.display().to_string(), format!("column `{}`", column.name), problem)
            })?;
            remark(&format!("field `{}`: {note}", field.name));
        }
    }
    Ok(())
}

/// Writes the schema once it was read again as the same.
fn write(output: Option<&Path>, schema: &Schema) -> Result<()> {
    let json = schema.to_json();
    let own = || -> std::io::Result<tempfile::NamedTempFile> {
        let mut file = tempfile::NamedTempFile::new()?;
        std::io::Write::write_all(&mut file, json.as_bytes())?;
        Ok(file)
    };
    let file = own().map_err(|source| Error::io("a temporary file", source))?;
    let name = output.map_or_else(|| "the schema".to_owned(), |path| path.display().to_string());
    let again = Schema::read(file.path()).map_err(|error| match error {
        Error::Refused { place, problem, .. } => Error::refused(&name, place, problem),
        other => other,
    })?;
    if again != *schema {
        let problem = "expected to read what was written, found a difference, which is a fault of this tool";
        return Err(Error::refused(&name, "", problem));
    }
    match output {
        Some(path) => write_file(path, json.as_bytes()).map_err(|source| Error::io(path, source)),
        None => print(&json),
    }
}
