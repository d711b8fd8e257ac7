//! The command line: arguments in, text and files out. Exit status 0, 1 when something was refused, 2 for usage.

mod convert;
mod demo;
mod evaluate;
mod inspect;
mod schema;
mod score;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anstyle::{AnsiColor, Style};
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    dialect::{Hints, map::Map},
    encoding::raw::{FieldCounts, RawFields},
    error::{Error, Result},
    model_file::{ModelFile, Scorer},
    rows::{Row, Rows},
    schema::{Field, Schema, Task},
};

/// As clap has it.
const ERROR: Style = AnsiColor::Red.on_default().bold();

/// Turns Neural Factorization Machine checkpoints into compact models for microcontrollers, scores and evaluates them.
#[derive(Debug, Parser)]
#[command(name = "nfm", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the whole road on a real checkpoint: convert, score 4,000 held-out rows, compare.
    Demo(demo::Demo),
    /// Shows what is in a checkpoint or a .nfm file, and what would be refused.
    Inspect(inspect::Inspect),
    /// Writes a first schema from a checkpoint, rows and the encoders of the training pipeline.
    Schema(schema::SchemaCommand),
    /// Converts a checkpoint to a .nfm file.
    Convert(convert::Convert),
    /// Scores rows.
    Score(score::Score),
    /// Measures how good a model's scores are, and how far they are from a reference's.
    Evaluate(evaluate::Evaluate),
}

/// What the user says about a checkpoint that it does not say itself.
#[derive(Debug, Args)]
struct HintArgs {
    /// JSON file with the fields in order, the task, and facts about the graph
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Whose names and graph the checkpoint has; recognized when absent
    #[arg(long, value_name = "NAME")]
    dialect: Option<String>,
    /// TOML file that says which tensor is what, for a checkpoint of no dialect
    #[arg(long, value_name = "FILE", conflicts_with = "dialect")]
    map: Option<PathBuf>,
    /// What the score means
    #[arg(long)]
    task: Option<Task>,
    /// Activation of the hidden layers
    #[arg(long, value_name = "NAME")]
    activation: Option<String>,
    /// The epsilon of batch normalization
    #[arg(long, value_name = "X")]
    bn_eps: Option<f64>,
    /// The most active entries in a row
    #[arg(long, value_name = "N")]
    max_active: Option<u16>,
    /// The largest magnitude of a value
    #[arg(long, value_name = "X")]
    max_value: Option<f64>,
}

impl HintArgs {
    /// Whether anything was said.
    fn any(&self) -> bool {
        let Self { schema, dialect, map, task, activation, bn_eps, max_active, max_value } = self;
        schema.is_some()
            || dialect.is_some()
            || map.is_some()
            || task.is_some()
            || activation.is_some()
            || bn_eps.is_some()
            || max_active.is_some()
            || max_value.is_some()
    }

    fn hints(self) -> Result<Hints> {
        Ok(Hints {
            schema: self.schema.as_deref().map(Schema::read).transpose()?,
            task: self.task,
            dialect: self.dialect,
            map: self.map.as_deref().map(Map::read).transpose()?,
            bn_eps: self.bn_eps,
            activation: self.activation,
            max_active: self.max_active,
            max_value: self.max_value,
        })
    }
}

/// How rows are to be read.
#[derive(Debug, Args)]
struct RowArgs {
    /// Rows hold ids and scaled numbers, as the model takes them, though it has encoders for raw values
    #[arg(long)]
    encoded: bool,
}

impl RowArgs {
    /// The columns of a model's rows, and what encodes them; `None` where rows are encoded already.
    fn columns(&self, file: &Path, scorer: &Scorer<'_>, schema: Option<&Schema>) -> Result<Columns> {
        let refused =
            |place: &str, problem| Error::refused(&file.display().to_string(), place.to_owned(), problem);
        let fields = scorer.columns(schema).map_err(|problem| refused("fields", problem))?;
        let raw = match self.encoded {
            true => None,
            false => scorer.raw_fields(schema).map_err(|problem| refused("encoders", problem))?,
        };
        let columns = Columns { fields, raw };
        if schema.is_none() && !matches!(scorer, Scorer::Oracle(_)) {
            remark_on_texts(file, &columns.open_texts().map_err(|problem| refused("encoders", problem))?);
        }
        Ok(columns)
    }
}

/// The columns of rows, and what encodes raw ones.
struct Columns {
    fields: Vec<Field>,
    raw: Option<RawFields>,
}

impl Columns {
    /// The fields of which a `.nfm` file leaves open what their cells are.
    fn open_texts(&self) -> core::result::Result<Vec<&str>, String> {
        let several = self.fields.iter().filter(|field| field.kind.takes_several());
        let encoded = several.map(|field| field.name.as_str()).collect();
        self.raw.as_ref().map_or(Ok(encoded), RawFields::open_texts)
    }

    /// Opens a file of raw rows where there are encoders, else of encoded ones.
    fn open(&self, path: &Path) -> Result<Rows<'_>> {
        match &self.raw {
            Some(raw) => Rows::open_raw(path, raw),
            None => Rows::open(path, &self.fields),
        }
    }
}

/// Runs the command that the arguments name.
#[must_use]
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(demo) => demo.run(),
        Command::Inspect(inspect) => inspect.run(),
        Command::Schema(schema) => schema.run(),
        Command::Convert(convert) => convert.run(),
        Command::Score(score) => score.run(),
        Command::Evaluate(evaluate) => evaluate.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where not even the reason can be written, the status still says it.
            let _ = writeln!(anstream::stderr(), "{ERROR}error:{ERROR:#} {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output; a reader that went away is no error.
fn print(text: &str) -> Result<()> {
    write_to(io::stdout(), text)
}

/// As [`print`], with the text's styles where standard output shows them.
fn print_styled(text: &str) -> Result<()> {
    write_to(anstream::stdout(), text)
}

fn write_to(mut out: impl Write, text: &str) -> Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Error::io("standard output", e)),
        _ => Ok(()),
    }
}

/// Writes a remark to standard error.
fn remark(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A bar over a file of rows, when standard error is a terminal.
fn progress(rows: &Rows<'_>, what: &'static str) -> ProgressBar {
    let style = "{msg:>12} {bar:40} {binary_bytes}/{binary_total_bytes} {eta}";
    let bar = match rows.total_bytes() {
        Some(total) => ProgressBar::new(total)
            .with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar())),
        None => ProgressBar::no_length(),
    };
    bar.with_message(what)
}

/// What is to happen after a row.
enum Visit {
    /// The next row.
    Next,
    /// No more rows: nobody reads the result.
    Stop,
    /// The row is refused, for this reason.
    Refuse(String),
}

/// Gives each row of a file to `visit`, under a bar. A refusal is told with the row's line.
fn for_each_row(
    rows: &mut Rows<'_>,
    path: &Path,
    what: &'static str,
    mut visit: impl FnMut(&Row) -> Result<Visit>,
) -> Result<()> {
    let bar = progress(rows, what);
    let mut count = 0_u64;
    while let Some(row) = rows.next() {
        match visit(&row?)? {
            Visit::Next => {}
            Visit::Stop => break,
            Visit::Refuse(problem) => {
                let file =
                    if path == Path::new("-") { "standard input".into() } else { path.display().to_string() };
                return Err(Error::refused(&file, rows.place(), problem));
            }
        }
        count += 1;
        if count.is_multiple_of(256) {
            bar.set_position(rows.bytes_read());
        }
    }
    bar.finish_and_clear();
    if let [first, more @ ..] = rows.ignored() {
        let others = if more.is_empty() { String::new() } else { format!(" and {} others", more.len()) };
        remark(&format!("note: column `{first}`{others} of {} is no field and was not read", path.display()));
    }
    Ok(())
}

/// Says how cells are read of which a `.nfm` file says nothing.
fn remark_on_texts(file: &Path, fields: &[&str]) {
    if !fields.is_empty() {
        remark(&format!(
            "note: {} does not say how cells of {} are to be read: values between `|` with their weights as they stand, no \
             padding, texts hashed as they stand; a --schema may say otherwise",
            file.display(),
            fields.join(", ")
        ));
    }
}

/// Says how many values the encoders had no id or no number for, where any were.
fn remark_on_skew(counts: &[FieldCounts], path: &Path) {
    let sum = |of: fn(&FieldCounts) -> u64| counts.iter().map(of).sum::<u64>();
    let (unseen, clamped, missing) = (sum(|f| f.unseen), sum(|f| f.clamped), sum(|f| f.missing));
    if unseen + clamped + missing > 0 {
        let odd = |of: &&FieldCounts| of.unseen + of.clamped + of.missing > 0;
        let names: Vec<&str> = counts.iter().filter(odd).map(|of| of.field.as_str()).collect();
        remark(&format!(
            "note: values of {}: {unseen} unseen, {clamped} clamped, {missing} missing, in {}; nfm evaluate counts by field",
            path.display(),
            names.join(", ")
        ));
    }
}

/// Refuses to write to a file that is read: the checkpoint must outlive its conversion.
fn distinct(output: &Path, inputs: &[&Path]) -> Result<()> {
    let Ok(path) = output.canonicalize() else { return Ok(()) };
    let same = |input: &&&Path| path.is_file() && input.canonicalize().is_ok_and(|input| input == path);
    match inputs.iter().find(same) {
        Some(input) => {
            let problem =
                format!("expected another file than the input {}; say another path", input.display());
            Err(Error::refused(&output.display().to_string(), "", problem))
        }
        None => Ok(()),
    }
}

/// Says what was assumed of a checkpoint, and that a `.nfm` file needs no hints.
fn remark_on(path: &Path, file: &ModelFile, hinted: bool) {
    match file {
        ModelFile::Checkpoint(model) => {
            model.assumptions.iter().for_each(|assumption| remark(&format!("assumed: {assumption}")));
        }
        ModelFile::Blob(_) => remark_on_hints(path, hinted),
    }
}

/// Says that a `.nfm` file needs no hints, where there are some.
fn remark_on_hints(path: &Path, hinted: bool) {
    if hinted {
        let file = path.display();
        remark(&format!(
            "note: {file} says itself what --schema and the like say of a checkpoint; of these only what a schema says of rows \
             is used: missing values, separators, padding, weights"
        ));
    }
}

/// `1234567` → `1,234,567`
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
