//! `nfm demo`: the whole road on a checkpoint that DeepCTR-Torch trained on nycflights13.

use std::{
    fmt::Write,
    fs,
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use flate2::read::MultiGzDecoder;

use super::{print, thousands};
use crate::{
    container,
    convert::{calibrate, convert},
    dialect::{self, Hints},
    encoding::{self, raw::RawFields},
    error::{Error, Result},
    evaluate::{Scored, differences, metrics},
    float_model::FloatModel,
    model_file::{Blob, Scorer},
    quantize::{DenseWeights, Embeddings, Options},
    rows::{Row, Rows},
    schema::{Schema, Task},
};

/// The demo's files, as `tools/training/flights.py` wrote them.
const FILES: [(&str, &[u8]); 7] = [
    ("flights.pt", include_bytes!("../../demo/flights.pt")),
    ("schema.json", include_bytes!("../../demo/schema.json")),
    ("calibrate.csv.gz", include_bytes!("../../demo/calibrate.csv.gz")),
    ("heldout.csv.gz", include_bytes!("../../demo/heldout.csv.gz")),
    ("heldout.ids.csv.gz", include_bytes!("../../demo/heldout.ids.csv.gz")),
    ("heldout.expected.csv.gz", include_bytes!("../../demo/heldout.expected.csv.gz")),
    ("training.log", include_bytes!("../../demo/training.log")),
];

/// How long each model's speed is measured.
const MEASURE: Duration = Duration::from_millis(400);

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Where the demo's files go
    #[arg(long, value_name = "DIR", default_value = "nfm-demo")]
    out: PathBuf,
}

impl Demo {
    pub(super) fn run(self) -> Result<()> {
        let out = &self.out;
        fs::create_dir_all(out).map_err(|e| Error::io(out, e))?;
        for (name, bytes) in FILES {
            let path = out.join(name);
            fs::write(&path, bytes).map_err(|e| Error::io(path, e))?;
        }
        let hints = Hints { schema: Some(Schema::read(&out.join("schema.json"))?), ..Hints::default() };
        let checkpoint = out.join("flights.pt");
        let mut model = dialect::import(container::read(&checkpoint)?, &hints)?;
        print(&introduction(&model))?;

        let calibration = out.join("calibrate.csv.gz");
        let raw = RawFields::new(&model.fields, encoding::section::Path::F32)
            .map_err(|problem| Error::refused("schema.json", "encoders", problem))?;
        let rows = Rows::open_raw(&calibration, &raw)?;
        let ranges = calibrate(&mut model, rows, &calibration.display().to_string(), true)?;
        let heldout: Vec<Row> =
            Rows::open_raw(&out.join("heldout.csv.gz"), &raw)?.collect::<Result<Vec<Row>>>()?;
        let framework = framework(&out.join("heldout.expected.csv.gz"), &heldout)?;

        let mut lines = vec![Line::heading()];
        lines.push(Line::new("DeepCTR-Torch", None, &framework, None, &framework));
        let oracle = scores(&mut Scorer::Oracle(&model), &heldout)?;
        lines.push(Line::new("f64, from the checkpoint", None, &oracle, None, &framework));
        let f32_options =
            Options { embeddings: Embeddings::F32, dense: DenseWeights::F32, ..Options::default() };
        let file = checkpoint.display().to_string();
        let mut int8_parts = String::new();
        for (name, stem, options) in
            [("f32", "flights-f32", f32_options), ("int8", "flights", Options::default())]
        {
            let converted = convert(stem, &file, &model, Some(ranges.clone()), options)?;
            converted.blob.write(&out.join(format!("{stem}.nfm")))?;
            let (scored, speed) = measure(&converted.blob, &file, &heldout)?;
            lines.push(Line::new(name, Some(converted.sizes.total), &scored, Some(speed), &framework));
            if options.is_fixed() {
                int8_parts = super::convert::report(&format!("{stem}.nfm"), &model, &converted, options);
            }
        }
        let mut text = format!(
            "\n{} held-out flights, raw (carrier, tail number, miles …), scored by the embedded library\n\n",
            thousands(heldout.len())
        );
        lines.iter().for_each(|line| line.write(&mut text));
        text.push_str("\ndifference: largest |Δ raw score| from DeepCTR-Torch's own output; rows/s: one row at a time, one thread\n\n");
        print(&(text + &int8_parts + &files(out)))
    }
}

fn introduction(model: &FloatModel) -> String {
    format!(
        "flights.pt: a {} NFM, {} parameters, trained on nycflights13:\nwill a flight land more than 15 minutes late?\n",
        model.dialect,
        thousands(model.parameters)
    )
}

fn files(out: &Path) -> String {
    format!(
        "\nfiles in {}: flights.pt (the checkpoint), flights.nfm (int8), flights-f32.nfm,\nheldout.csv.gz (raw flights), heldout.ids.csv.gz (as the pipeline in Python encoded them),\nheldout.expected.csv.gz (DeepCTR-Torch's scores), training.log\n\ntry  nfm score {0}/flights.nfm {0}/heldout.csv.gz\n",
        out.display()
    )
}

/// The framework's own scores, as its script wrote them.
fn framework(path: &Path, rows: &[Row]) -> Result<Vec<Scored>> {
    let file = path.display().to_string();
    let mut text = String::new();
    let gz = fs::File::open(path).map_err(|e| Error::io(path, e))?;
    MultiGzDecoder::new(gz).read_to_string(&mut text).map_err(|e| Error::io(path, e))?;
    let scored: Option<Vec<Scored>> = text
        .lines()
        .skip(1)
        .zip(rows)
        .map(|(line, row)| {
            let (raw, probability) = line.split_once(',')?;
            Some(Scored { label: row.label, raw: raw.parse().ok()?, prediction: probability.parse().ok()? })
        })
        .collect();
    scored.filter(|scored| scored.len() == rows.len()).ok_or_else(|| {
        Error::refused(&file, "", "expected a raw score and a probability for each held-out row")
    })
}

fn scores(scorer: &mut Scorer<'_>, rows: &[Row]) -> Result<Vec<Scored>> {
    rows.iter()
        .map(|row| scorer.score(row).map_err(|problem| Error::refused("heldout.csv.gz", "", problem)))
        .collect()
}

/// Scores all rows, and again until the time is up; gives the scores and the rows in a second.
fn measure(blob: &Blob, file: &str, rows: &[Row]) -> Result<(Vec<Scored>, f64)> {
    let mut scorer = Scorer::parse(blob).map_err(|e| Error::refused(file, "", e.to_string()))?;
    let scored = scores(&mut scorer, rows)?;
    let (start, mut passes) = (Instant::now(), 0_u32);
    while start.elapsed() < MEASURE {
        scores(&mut scorer, rows)?;
        passes += 1;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let speed = rows.len() as f64 * f64::from(passes) / start.elapsed().as_secs_f64();
    Ok((scored, speed))
}

/// One line of the table.
struct Line([String; 6]);

impl Line {
    fn heading() -> Self {
        Self(["", "bytes", "AUC", "log-loss", "difference", "rows/s"].map(str::to_owned))
    }

    fn new(
        name: &str,
        bytes: Option<usize>,
        scored: &[Scored],
        speed: Option<f64>,
        framework: &[Scored],
    ) -> Self {
        let metrics = metrics(Task::Binary, scored);
        let raw = |scored: &[Scored]| scored.iter().map(|s| s.raw).collect::<Vec<_>>();
        let difference = differences(&raw(scored), &raw(framework)).max;
        let number = |value: Option<f64>, digits| value.map_or_else(String::new, |v| format!("{v:.digits$}"));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate for people")]
        let speed = speed.map_or_else(String::new, |speed| thousands(speed as usize));
        Self([
            name.to_owned(),
            bytes.map(thousands).unwrap_or_default(),
            number(metrics.auc, 5),
            number(metrics.log_loss, 5),
            difference.map_or_else(String::new, |d| format!("{d:.1e}")),
            speed,
        ])
    }

    fn write(&self, text: &mut String) {
        let [name, rest @ ..] = &self.0;
        let _ = write!(text, "{name:26}");
        for cell in rest {
            let _ = write!(text, "{cell:>12}");
        }
        text.push('\n');
    }
}
