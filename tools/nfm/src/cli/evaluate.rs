//! `nfm evaluate`

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{HintArgs, RowArgs, Visit, for_each_row, print, remark_on, thousands};
use crate::{
    encoding::raw::FieldCounts,
    error::{Error, Result},
    evaluate::{Evaluation, Metrics, Scored},
    model_file::{ModelFile, Scorer},
};

#[derive(Debug, Args)]
pub(super) struct Evaluate {
    /// A .nfm file, or a checkpoint, which is scored in f64
    model: PathBuf,
    /// Rows: CSV or JSON lines of raw values where the model has encoders, else of ids; libFM text of ids; Parquet; - is
    /// standard input
    rows: PathBuf,
    /// A checkpoint (or .nfm file) whose scores to compare with
    #[arg(long, value_name = "CKPT")]
    reference: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    row_args: RowArgs,
    #[command(flatten)]
    hints: HintArgs,
}

impl Evaluate {
    pub(super) fn run(self) -> Result<()> {
        let hinted = self.hints.any();
        let hints = self.hints.hints()?;
        let file = ModelFile::read(&self.model, &hints)?;
        remark_on(&self.model, &file, hinted && self.reference.is_none());
        let mut scorer = file.scorer(&self.model)?;
        let reference_file = match &self.reference {
            Some(path) => Some((ModelFile::read(path, &hints)?, path)),
            None => None,
        };
        let mut reference = match &reference_file {
            Some((file, path)) => {
                remark_on(path, file, false);
                let reference = file.scorer(path)?;
                comparable(&scorer, &self.model, &reference, path)?;
                Some(reference)
            }
            None => None,
        };
        let (mut scored, mut reference_scored): (Vec<Scored>, Vec<Scored>) = (Vec::new(), Vec::new());
        let columns = self.row_args.columns(&self.model, &scorer, hints.schema.as_ref())?;
        let mut rows = columns.open(&self.rows)?;
        for_each_row(&mut rows, &self.rows, "scoring", |row| {
            match scorer.score(row) {
                Ok(score) => scored.push(score),
                Err(problem) => return Ok(Visit::Refuse(problem)),
            }
            match reference.as_mut().map(|reference| reference.score(row)) {
                Some(Ok(score)) => reference_scored.push(score),
                Some(Err(problem)) => {
                    return Ok(Visit::Refuse(format!("the reference refuses it: {problem}")));
                }
                None => {}
            }
            Ok(Visit::Next)
        })?;
        let mut evaluation = Evaluation::new(
            scorer.task(),
            &scored,
            reference.is_some().then_some(reference_scored.as_slice()),
        );
        evaluation.skew = rows.counts().map(<[FieldCounts]>::to_vec);
        if self.json {
            let json = serde_json::to_string_pretty(&evaluation)
                .map_err(|e| Error::refused("JSON", "", e.to_string()))?;
            return print(&(json + "\n"));
        }
        print(&table(&evaluation))
    }
}

/// Whether two models read the same rows and predict the same thing.
fn comparable(model: &Scorer<'_>, file: &Path, reference: &Scorer<'_>, path: &Path) -> Result<()> {
    let refuse = |place: &str, problem| Err(Error::refused(&path.display().to_string(), place, problem));
    let fields =
        |scorer: &Scorer<'_>| scorer.fields().iter().map(|field| field.kind.of_model()).collect::<Vec<_>>();
    if fields(model) != fields(reference) {
        return refuse("fields", format!("they are not those of {}; say --schema", file.display()));
    }
    if model.task() != reference.task() {
        return refuse("task", format!("it is not that of {}; say --task", file.display()));
    }
    Ok(())
}

type Metric = fn(&Metrics) -> Option<f64>;

/// The evaluation as a table.
fn table(evaluation: &Evaluation) -> String {
    let mut text = format!("{} rows\n\n", thousands(evaluation.metrics.rows));
    let headings: &[&str] = if evaluation.reference.is_some() {
        &["", "model", "reference", "difference"]
    } else {
        &["", "model"]
    };
    line(&mut text, headings.iter().map(|heading| (*heading).to_owned()));
    let rows: [(&str, Metric); 4] = [
        ("AUC", |m| m.auc),
        ("log-loss", |m| m.log_loss),
        ("RMSE", |m| m.rmse),
        ("RMSE, clipped", |m| m.rmse_clipped),
    ];
    for (name, metric) in rows {
        let Some(value) = metric(&evaluation.metrics) else { continue };
        let mut cells = vec![name.to_owned(), format!("{value:.6}")];
        if let Some(reference) = evaluation.reference.as_ref().and_then(metric) {
            cells.extend([format!("{reference:.6}"), format!("{:+.6}", value - reference)]);
        }
        line(&mut text, cells.into_iter());
    }
    if let Some(differences) = &evaluation.differences {
        text.push_str("\nraw scores differ by\n");
        for (name, value) in
            [("rms", differences.rms), ("p99", differences.p99), ("largest", differences.max)]
        {
            if let Some(value) = value {
                line(&mut text, [name.to_owned(), format!("{value:.6}")].into_iter());
            }
        }
        if let Some(reason) = &differences.absent {
            let _ = writeln!(text, "unknown: {reason}");
        }
    }
    for (name, reason) in &evaluation.metrics.absent {
        let _ = writeln!(text, "no {name}: {reason}");
    }
    if let Some(skew) = &evaluation.skew {
        skew_table(&mut text, skew);
    }
    text
}

/// What the encoders met: how far these rows are from those of training.
fn skew_table(text: &mut String, skew: &[FieldCounts]) {
    let mut table = vec![["field", "values", "unseen", "clamped", "missing"].map(String::from)];
    for FieldCounts { field, values, unseen, clamped, missing } in skew {
        let share = |count: u64| match count {
            0 => "0".to_owned(),
            #[expect(clippy::cast_precision_loss, reason = "a share for people")]
            count => format!(
                "{} ({:.2} %)",
                grouped(count),
                100.0 * count as f64 / (values + missing).max(1) as f64
            ),
        };
        table.push([field.clone(), grouped(*values), share(*unseen), share(*clamped), share(*missing)]);
    }
    let [name, values, unseen, clamped, missing] =
        core::array::from_fn(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    text.push('\n');
    for [a, b, c, d, e] in &table {
        let _ = writeln!(text, "{a:name$}  {b:>values$}  {c:>unseen$}  {d:>clamped$}  {e:>missing$}");
    }
}

fn grouped(number: u64) -> String {
    usize::try_from(number).map_or_else(|_| number.to_string(), thousands)
}

fn line(text: &mut String, cells: impl Iterator<Item = String>) {
    for (position, cell) in cells.enumerate() {
        let _ = if position == 0 { write!(text, "{cell:14}") } else { write!(text, "{cell:>12}") };
    }
    text.push('\n');
}
