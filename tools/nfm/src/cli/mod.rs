//! The command line: arguments in, text and files out. Exit status 0, 1 when something was refused, 2 for usage.

mod convert;
mod demo;
mod evaluate;
mod inspect;
mod score;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    dialect::{Hints, map::Map},
    error::{Error, Result},
    model_file::ModelFile,
    rows::{Row, Rows},
    schema::{Field, Schema, Task},
};

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

/// Runs the command that the arguments name.
#[must_use]
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(demo) => demo.run(),
        Command::Inspect(inspect) => inspect.run(),
        Command::Convert(convert) => convert.run(),
        Command::Score(score) => score.run(),
        Command::Evaluate(evaluate) => evaluate.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where not even the reason can be written, the status still says it.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output; a reader that went away is no error.
fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Error::io("standard output", e)),
        _ => Ok(()),
    }
}

/// Writes a remark to standard error.
fn remark(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A bar over a file of rows, when standard error is a terminal.
fn progress(rows: &Rows, what: &'static str) -> ProgressBar {
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
    path: &Path,
    fields: &[Field],
    what: &'static str,
    mut visit: impl FnMut(&Row) -> Result<Visit>,
) -> Result<()> {
    let mut rows = Rows::open(path, fields)?;
    let bar = progress(&rows, what);
    let mut count = 0_u64;
    while let Some(row) = rows.next() {
        match visit(&row?)? {
            Visit::Next => {}
            Visit::Stop => break,
            Visit::Refuse(problem) => {
                let file =
                    if path == Path::new("-") { "standard input".into() } else { path.display().to_string() };
                return Err(Error::refused(&file, format!("line {}", rows.line()), problem));
            }
        }
        count += 1;
        if count.is_multiple_of(256) {
            bar.set_position(rows.bytes_read());
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Refuses to write to a file that is read: the checkpoint must outlive its conversion.
fn distinct(output: &Path, inputs: &[&Path]) -> Result<()> {
    let Ok(path) = output.canonicalize() else { return Ok(()) };
    let same = |input: &&&Path| path.is_file() && input.canonicalize().is_ok_and(|input| input == path);
    match inputs.iter().find(same) {
        Some(input) => {
            let problem = format!("expected another file than the input {}; say another -o", input.display());
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
        ModelFile::Blob(_) if hinted => {
            let file = path.display();
            remark(&format!(
                "note: {file} says itself what --schema and the like say of a checkpoint; they are not used"
            ));
        }
        ModelFile::Blob(_) => {}
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
