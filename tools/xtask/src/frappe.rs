//! `cargo xtask frappe`: what quantization costs the paper's own model on the paper's own data.
//!
//! Frappe may not be redistributed, and neither may a model of it: the user brings the data, this trains.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;

use crate::{
    process::{Result, output, own_cargo, program, root, run},
    readme,
};

#[derive(Debug, Args)]
pub(crate) struct Frappe {
    /// Folder with frappe.{train*,validation,test}.libfm[.gz]
    #[arg(long)]
    data: PathBuf,
    /// Where the trained checkpoints are or go
    #[arg(long, default_value = "target/frappe")]
    out: PathBuf,
    /// Write the table into the README
    #[arg(long)]
    readme: bool,
}

/// What a conversion may cost: clipped RMSE, rms and maximum of the raw score's difference, bytes.
struct Limits {
    rmse: f64,
    rms: f64,
    largest: f64,
    bytes: u64,
}

/// The default's limits.
const INT8: Limits = Limits { rmse: 0.0002, rms: 0.01, largest: 0.08, bytes: 365_000 };
/// 4-bit embeddings'.
const INT4: Limits = Limits { rmse: 0.0006, rms: f64::INFINITY, largest: f64::INFINITY, bytes: 210_000 };
/// Mixed precision's.
const MIXED: Limits = Limits { rmse: 0.0002, rms: f64::INFINITY, largest: f64::INFINITY, bytes: 225_000 };

/// The conversions that are compared: arguments, and limits for the NFM and the FM.
const CONVERSIONS: [(&str, Option<Limits>, Option<Limits>); 8] = [
    ("--scales table", None, None),
    ("--scales field", None, None),
    ("--scales lane", None, None),
    ("--scales row", Some(INT8), Some(INT8)),
    ("--scales lane-row", None, None),
    ("--layout scalar", Some(INT8), Some(INT8)),
    ("--embeddings i4", Some(INT4), None),
    ("--embeddings mixed", Some(MIXED), None),
];

impl Frappe {
    pub(crate) fn run(&self) -> Result<()> {
        let data = fs::canonicalize(&self.data).map_err(|e| format!("{}: {e}", self.data.display()))?;
        let out = root().join(&self.out);
        fs::create_dir_all(&out).map_err(|e| format!("{}: {e}", out.display()))?;
        let schema = out.join("schema.json");
        fs::write(&schema, schema_json()).map_err(|e| format!("{}: {e}", schema.display()))?;
        let (train_rows, test_rows) = (find(&data, "frappe.train")?, find(&data, "frappe.test")?);
        let mut table = format!(
            "{:5}{:20}{:>9}{:>11}{:>11}{:>11}{:>10}\n",
            "", "", "bytes", "RMSE", "ΔRMSE", "rms", "largest"
        );
        print!("{table}");
        let mut failures = Vec::new();
        for model in ["nfm", "fm"] {
            let checkpoint = out.join(format!("frappe-{model}.pt"));
            if !checkpoint.exists() {
                train(model, &data, &out)?;
            }
            for (arguments, nfm_limits, fm_limits) in &CONVERSIONS {
                let cost = Cost::measure(arguments, &checkpoint, &schema, &train_rows, &test_rows)?;
                let line = cost.line(model, arguments);
                print!("{line}");
                table.push_str(&line);
                let limits = if model == "nfm" { nfm_limits } else { fm_limits };
                failures.extend(
                    limits
                        .iter()
                        .flat_map(|limits| cost.failures(limits))
                        .map(|failure| format!("{model} {arguments}: {failure}")),
                );
            }
        }
        if !failures.is_empty() {
            return Err(failures.join("\n"));
        }
        if self.readme { readme::update("frappe", &table) } else { Ok(()) }
    }
}

/// Trains a model, in a Python environment of its own.
fn train(model: &str, data: &Path, out: &Path) -> Result<()> {
    let python = out.join("venv/bin/python");
    if !python.exists() {
        run(program("python3").args(["-m", "venv"]).arg(out.join("venv")))?;
        run(program(&python).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "-r",
            "tools/training/requirements.txt",
        ]))?;
    }
    println!("training frappe-{model}.pt: some ten minutes");
    run(program(&python)
        .arg("tools/training/frappe.py")
        .args(["--model", model])
        .arg("--data")
        .arg(data)
        .arg("--out")
        .arg(out))
}

/// What one conversion cost on the test rows.
struct Cost {
    rmse: f64,
    delta: f64,
    rms: f64,
    largest: f64,
    bytes: u64,
}

impl Cost {
    /// Converts with `arguments` and compares with the checkpoint on the test rows.
    fn measure(arguments: &str, checkpoint: &Path, schema: &Path, train: &Path, test: &Path) -> Result<Self> {
        let blob = checkpoint.with_extension("nfm");
        output(
            nfm("convert", checkpoint)
                .arg("-o")
                .arg(&blob)
                .args(arguments.split(' '))
                .arg("--schema")
                .arg(schema)
                .arg("--calibrate")
                .arg(train),
        )?;
        let evaluate = output(
            nfm("evaluate", &blob)
                .arg(test)
                .arg("--reference")
                .arg(checkpoint)
                .arg("--schema")
                .arg(schema)
                .arg("--json"),
        )?;
        let bytes = fs::metadata(&blob).map_err(|e| format!("{}: {e}", blob.display()))?.len();
        let json: serde_json::Value =
            serde_json::from_str(&evaluate).map_err(|e| format!("{evaluate}: {e}"))?;
        let number = |path: &str| {
            json.pointer(path).and_then(serde_json::Value::as_f64).ok_or(format!("no {path} in {evaluate}"))
        };
        Ok(Self {
            rmse: number("/metrics/rmse_clipped")?,
            delta: number("/deltas/rmse_clipped")?,
            rms: number("/differences/rms")?,
            largest: number("/differences/max")?,
            bytes,
        })
    }

    fn line(&self, model: &str, arguments: &str) -> String {
        let Self { rmse, delta, rms, largest, bytes } = self;
        format!("{model:5}{arguments:20}{bytes:>9}{rmse:>11.6}{delta:>+11.6}{rms:>11.6}{largest:>10.5}\n")
    }

    fn failures(&self, limits: &Limits) -> Vec<String> {
        [
            ("ΔRMSE", self.delta.abs(), limits.rmse),
            ("rms", self.rms, limits.rms),
            ("largest difference", self.largest, limits.largest),
        ]
        .into_iter()
        // NaN is in no range, and so fails.
        .filter(|(_, found, limit)| !(0.0..=*limit).contains(found))
        .map(|(what, found, limit)| format!("{what} is {found}, more than {limit}"))
        .chain(
            (self.bytes > limits.bytes).then(|| format!("{} bytes, more than {}", self.bytes, limits.bytes)),
        )
        .collect()
    }
}

fn nfm(command: &str, model: &Path) -> Command {
    let mut nfm = own_cargo();
    nfm.args(["run", "--quiet", "--release", "--package", "nfm", "--", command]).arg(model);
    nfm
}

/// The one file in `folder` whose name starts with `stem`.
fn find(folder: &Path, stem: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(stem)))
        .ok_or_else(|| format!("{}: no file {stem}*.libfm", folder.display()))
}

/// Frappe's fields and their sizes.
fn schema_json() -> String {
    const FIELDS: [(&str, u32); 10] = [
        ("user", 957),
        ("item", 4082),
        ("daytime", 7),
        ("weekday", 7),
        ("isweekend", 2),
        ("homework", 3),
        ("cost", 2),
        ("weather", 9),
        ("country", 80),
        ("city", 233),
    ];
    let fields = FIELDS.map(|(name, rows)| format!(r#"{{"name":"{name}","type":"id","rows":{rows}}}"#));
    format!(r#"{{"schema_version":1,"task":"regression","fields":[{}]}}"#, fields.join(","))
}
