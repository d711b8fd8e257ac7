//! `nfm score`

use std::path::PathBuf;

use clap::Args;

use super::{HintArgs, Visit, distinct, for_each_row, remark_on};
use crate::{error::Result, model_file::ModelFile, rows::ScoreWriter, schema::Task};

#[derive(Debug, Args)]
pub(super) struct Score {
    /// A .nfm file, or a checkpoint, which is scored in f64
    model: PathBuf,
    /// Rows: libFM text or CSV, plain or gzipped; - is standard input
    rows: PathBuf,
    /// Where the scores go; standard output when absent
    #[arg(short, value_name = "OUT.csv")]
    output: Option<PathBuf>,
    #[command(flatten)]
    hints: HintArgs,
}

impl Score {
    pub(super) fn run(self) -> Result<()> {
        if let Some(output) = &self.output {
            distinct(output, &[&self.model, &self.rows])?;
        }
        let hinted = self.hints.any();
        let file = ModelFile::read(&self.model, &self.hints.hints()?)?;
        remark_on(&self.model, &file, hinted);
        let mut scorer = file.scorer(&self.model)?;
        let probability = scorer.task() == Task::Binary;
        let mut writer = ScoreWriter::create(self.output.as_deref(), probability)?;
        for_each_row(&self.rows, &scorer.fields(), "scoring", |row| {
            let scored = match scorer.score(row) {
                Ok(scored) => scored,
                Err(problem) => return Ok(Visit::Refuse(problem)),
            };
            writer.write(scored.raw, probability.then_some(scored.prediction))?;
            Ok(if writer.is_closed() { Visit::Stop } else { Visit::Next })
        })?;
        writer.finish()
    }
}
