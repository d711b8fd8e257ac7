//! `nfm inspect`

use std::{fmt::Write, path::PathBuf};

use anstyle::{AnsiColor, Style};
use clap::Args;

use super::{HintArgs, print, print_styled, remark_on_hints, thousands};
use crate::{
    error::{Error, Result},
    inspect::{Checkpoint, Content, FieldEntry, FieldType, Inspection, Model, Nfm},
    model_file::ModelFile,
    schema::{Schema, Weights},
};

const HEADING: Style = Style::new().bold();
const KNOWN: Style = AnsiColor::Cyan.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default();
const DIM: Style = Style::new().dimmed();

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// A checkpoint or a .nfm file
    file: PathBuf,
    /// Print JSON; also of a checkpoint that is refused
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hints: HintArgs,
}

impl Inspect {
    pub(super) fn run(self) -> Result<()> {
        let hinted = self.hints.any();
        let has_schema = self.hints.schema.is_some();
        let hints = self.hints.hints()?;
        let inspection = if ModelFile::is_blob(&self.file) {
            remark_on_hints(&self.file, hinted);
            Inspection::of_blob(&self.file)?
        } else {
            Inspection::of_checkpoint(&self.file, &hints)?
        };
        if self.json {
            print(&(json(&inspection)? + "\n"))?;
        } else {
            print_styled(&text(&inspection, has_schema)?)?;
        }
        inspection.check()
    }
}

fn json(inspection: &Inspection) -> Result<String> {
    serde_json::to_string_pretty(inspection).map_err(|e| Error::refused("JSON", "", e.to_string()))
}

fn json_line(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::refused("JSON", "", e.to_string()))
}

/// The inspection for people, with styles.
fn text(inspection: &Inspection, has_schema: bool) -> Result<String> {
    let file = &inspection.file;
    match &inspection.content {
        Content::Checkpoint(checkpoint) => {
            let mut text = format!("{HEADING}{file}{HEADING:#}: {}", checkpoint.container);
            if let Some(made_by) = &checkpoint.made_by {
                let _ = write!(text, ", made by {}", printable(made_by));
            }
            text.push('\n');
            checkpoint_text(&mut text, checkpoint);
            if let Some(schema) = checkpoint.schema.as_ref().filter(|_| !has_schema) {
                schema_text(&mut text, schema)?;
            }
            Ok(text)
        }
        Content::Nfm(nfm) => {
            let version = nfm.format_version;
            let mut text = format!("{HEADING}{file}{HEADING:#}: embedded-nfm model, format {version}\n");
            nfm_text(&mut text, nfm);
            Ok(text)
        }
    }
}

/// The tensors, then the model or a map to start from.
fn checkpoint_text(text: &mut String, checkpoint: &Checkpoint) {
    let _ = writeln!(text, "\n{HEADING}tensors{HEADING:#}");
    let widest = widest(checkpoint.tensors.iter().map(|tensor| &tensor.name));
    for tensor in &checkpoint.tensors {
        let (name, shape) = (printable(&tensor.name), format!("{:?}", tensor.shape));
        let _ = match &tensor.skipped {
            None => writeln!(text, "  {name:widest$}  {:5} {shape}", tensor.dtype),
            Some(why) => {
                writeln!(text, "  {DIM}{name:widest$}  {:5} {shape:12} skipped: {why}{DIM:#}", tensor.dtype)
            }
        };
    }
    if let Some(first) = checkpoint.left_in_file.first() {
        let (count, name) = (checkpoint.left_in_file.len(), printable(&first.name));
        let _ = writeln!(text, "  {DIM}and {count} that no model needs, as `{name}`: {}{DIM:#}", first.why);
    }
    if let Some(map) = &checkpoint.map {
        let _ = writeln!(text, "\n{HEADING}a map to start from, for --map{HEADING:#}\n{map}");
    }
    if let Some(dialect) = &checkpoint.dialect {
        let about = checkpoint.about.as_deref().map(|about| format!(": {about}")).unwrap_or_default();
        let _ = writeln!(text, "\n{HEADING}dialect{HEADING:#}     {KNOWN}{dialect}{KNOWN:#}{about}");
    }
    if let Some(parameters) = checkpoint.parameters {
        let _ = writeln!(text, "{HEADING}parameters{HEADING:#}  {}", thousands(parameters));
    }
    if let Some(model) = &checkpoint.model {
        model_text(text, model);
    }
    for assumption in &checkpoint.assumptions {
        let _ = writeln!(text, "{WARNING}assumed:{WARNING:#} {assumption}");
    }
}

fn schema_text(text: &mut String, schema: &Schema) -> Result<()> {
    let _ = writeln!(text, "\n{HEADING}a schema to start from, for --schema{HEADING:#}");
    text.push_str("{\n  \"schema_version\": 1,\n");
    if let Some(task) = schema.task {
        let _ = writeln!(text, "  \"task\": {},", json_line(&task)?);
    }
    text.push_str("  \"fields\": [\n");
    for (at, field) in schema.fields.iter().enumerate() {
        let comma = if at + 1 < schema.fields.len() { "," } else { "" };
        let _ = writeln!(text, "    {}{comma}", json_line(field)?);
    }
    text.push_str("  ]\n}\n");
    Ok(())
}

fn nfm_text(text: &mut String, nfm: &Nfm) {
    let arithmetic = if nfm.arithmetic == "fixed" { "fixed (integers only)" } else { &nfm.arithmetic };
    let mut line = |what: &str, value: String| {
        let _ = writeln!(text, "{HEADING}{what:11}{HEADING:#} {value}");
    };
    line("name", printable(&nfm.name));
    line("arithmetic", arithmetic.into());
    let (rows, dim) = (thousands(nfm.model.rows), nfm.model.dim);
    let hot = nfm.hot_rows.map(|rows| format!(", {} rows in 8 bits", thousands(rows))).unwrap_or_default();
    line("embeddings", format!("{rows} rows × {dim}, {}{hot}", nfm.embeddings));
    if let Some(layout) = &nfm.layout {
        line("layout", layout.clone());
    }
    line("scratch", format!("{} bytes", thousands(nfm.scratch_bytes)));
    line("size", format!("{} bytes", thousands(nfm.bytes.total)));
    for (part, bytes) in nfm.bytes.parts().into_iter().filter(|(_, bytes)| *bytes > 0) {
        let _ = writeln!(text, "  {part:13}{:>12} bytes", thousands(bytes));
    }
    model_text(text, &nfm.model);
}

fn model_text(text: &mut String, model: &Model) {
    let _ = writeln!(text, "\n{HEADING}fields{HEADING:#}");
    let widest = widest(model.fields.iter().map(|field| &field.name));
    for field in &model.fields {
        let _ = writeln!(text, "  {:widest$}  {}", printable(&field.name), field_text(field));
    }
    encoders_text(text, model);
    let _ = writeln!(text, "\n{HEADING}graph{HEADING:#}");
    for stage in &model.stages {
        let _ = writeln!(text, "  {:40} {DIM}[{}]{DIM:#}", stage.text, stage.width);
    }
    let _ = writeln!(text, "  link: {}", model.link.name());
    let _ = write!(text, "\nat most {} active entries", model.max_active);
    let _ = match model.max_value {
        Some(most) => writeln!(text, ", values up to {most}"),
        None => writeln!(text),
    };
}

/// What becomes of raw values, where rows are raw.
fn encoders_text(text: &mut String, model: &Model) {
    let described = model.fields.iter().filter_map(|field| Some((&field.name, field.encoder.as_ref()?)));
    let widest = widest(described.clone().map(|(name, _)| name));
    for (at, (name, line)) in described.enumerate() {
        if at == 0 {
            let _ = writeln!(text, "\n{HEADING}encoders{HEADING:#}");
        }
        let _ = writeln!(text, "  {:widest$}  {}", printable(name), printable(line));
    }
}

fn field_text(field: &FieldEntry) -> String {
    let rows = match (&field.table, field.rows, field.offset) {
        (Some(table), ..) => format!(", the table of `{}`", printable(table)),
        (None, Some(1), Some(offset)) => format!(", row {offset}"),
        (None, Some(rows), Some(offset)) => format!(", {} rows from {offset}", thousands(rows as usize)),
        _ => String::new(),
    };
    let Some(sequence) = field.sequence else {
        return match field.kind {
            FieldType::Id => format!("id{rows}"),
            FieldType::Ids => format!("ids with values{rows}"),
            FieldType::Scaled => format!("scaled{rows}"),
            FieldType::Sequence => format!("sequence{rows}"),
            FieldType::Dense => match field.only {
                Some(order) => format!("dense, in the {} only", order.name()),
                None => "dense".into(),
            },
        };
    };
    let mut text = format!("sequence{rows}, {}", sequence.pooling.name());
    if sequence.linear_pooling != sequence.pooling {
        let _ = write!(text, ", first order {}", sequence.linear_pooling.name());
    }
    if let Some(padding) = sequence.padding {
        let _ = write!(text, ", padding {padding}");
    }
    if let Some(most) = sequence.max_len {
        let _ = write!(text, ", at most {most}");
    }
    if sequence.weights == Weights::Softmax {
        text.push_str(", softmax of weights");
    }
    text
}

fn widest<'a>(names: impl Iterator<Item = &'a String>) -> usize {
    names.map(|name| name.chars().count()).max().unwrap_or(0)
}

/// A name of the file, without what would control a terminal.
fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
