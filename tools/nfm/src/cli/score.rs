//! `nfm score`

use std::path::PathBuf;

use clap::Args;

use super::{HintArgs, RowArgs, Visit, distinct, for_each_row, remark_on, remark_on_skew};
use crate::{error::Result, model_file::ModelFile, rows::ScoreWriter, schema::Task};

#[derive(Debug, Args)]
pub(super) struct Score {
    /// A .nfm file, or a checkpoint, which is scored in f64
    model: PathBuf,
    /// Rows: CSV or JSON lines of raw values where the model has encoders, else of ids; libFM text of ids; Parquet; - is
    /// standard input
    rows: PathBuf,
    /// Where the scores go; standard output when absent
    #[arg(short, value_name = "OUT.csv")]
    output: Option<PathBuf>,
    #[command(flatten)]
    row_args: RowArgs,
    #[command(flatten)]
    hints: HintArgs,
}

impl Score {
    pub(super) fn run(self) -> Result<()> {
        if let Some(output) = &self.output {
            distinct(output, &[&self.model, &self.rows])?;
        }
        let hinted = self.hints.any();
        let hints = self.hints.hints()?;
        let file = ModelFile::read(&self.model, &hints)?;
        remark_on(&self.model, &file, hinted);
        let mut scorer = file.scorer(&self.model)?;
        let probability = scorer.task() == Task::Binary;
        let mut writer = ScoreWriter::create(self.output.as_deref(), probability)?;
        let columns = self.row_args.columns(&self.model, &scorer, hints.schema.as_ref())?;
        let mut rows = columns.open(&self.rows)?;
        for_each_row(&mut rows, &self.rows, "scoring", |row| {
            let scored = match scorer.score(row) {
                Ok(scored) => scored,
                Err(problem) => return Ok(Visit::Refuse(problem)),
            };
            writer.write(scored.raw, probability.then_some(scored.prediction))?;
            Ok(if writer.is_closed() { Visit::Stop } else { Visit::Next })
        })?;
        remark_on_skew(rows.counts().unwrap_or_default(), &self.rows);
        writer.finish()
    }
}
