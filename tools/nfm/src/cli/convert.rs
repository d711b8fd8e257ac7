//! `nfm convert`

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{HintArgs, RowArgs, distinct, print, remark, thousands};
use crate::{
    calibrate::DENSE_BOUND,
    container,
    convert::{Converted, calibrate, convert},
    dialect,
    error::Result,
    float_model::FloatModel,
    model_file::Scorer,
    quantize::{Activations, DenseWeights, Embeddings, Layout, Options, Scales},
    rust_module,
};

#[derive(Debug, Args)]
pub(super) struct Convert {
    /// The checkpoint
    checkpoint: PathBuf,
    /// Where the model goes
    #[arg(short, value_name = "MODEL.nfm")]
    output: PathBuf,
    /// Where a Rust module over the model goes: its bytes, the memory it takes, a constant for each field
    #[arg(long, value_name = "MODEL.rs")]
    emit_rust: Option<PathBuf>,
    /// Rows that look like those of the field, for the ranges between the layers
    #[arg(long, value_name = "ROWS")]
    calibrate: Option<PathBuf>,
    /// Storage of embeddings
    #[arg(long, default_value = "i8")]
    embeddings: Embeddings,
    /// Storage of the hidden layers' weights
    #[arg(long, default_value = "i8")]
    dense: DenseWeights,
    /// Width of activations on the fixed path
    #[arg(long, default_value = "i16")]
    activations: Activations,
    /// What embedding codes share a scale
    #[arg(long, default_value = "row")]
    scales: Scales,
    /// Which part of the rows has 8 bits in mixed embeddings
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    hot: f64,
    /// Which cores the layers' weights are packed for: dsp for Cortex-M4, M7, M33, M55; scalar for M0, M3, RISC-V, hosts
    #[arg(long, default_value = "dsp")]
    layout: Layout,
    /// The model's name; the output's file name when absent
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    row_args: RowArgs,
    #[command(flatten)]
    hints: HintArgs,
}

impl Convert {
    pub(super) fn run(self) -> Result<()> {
        let inputs = [Some(&self.checkpoint), self.calibrate.as_ref(), self.hints.schema.as_ref()];
        let inputs: Vec<&Path> = inputs.into_iter().flatten().map(PathBuf::as_path).collect();
        for output in [Some(&self.output), self.emit_rust.as_ref()].into_iter().flatten() {
            distinct(output, &inputs)?;
        }
        let file = self.checkpoint.display().to_string();
        let hints = self.hints.hints()?;
        let widen_values = hints.said_max_value().is_none();
        let mut model = dialect::import(container::read(&self.checkpoint)?, &hints)?;
        let ranges = match &self.calibrate {
            Some(path) => {
                let columns = self.row_args.columns(&self.checkpoint, &Scorer::Oracle(&model), None)?;
                let rows = columns.open(path)?;
                Some(calibrate(&mut model, rows, &path.display().to_string(), widen_values)?)
            }
            None => None,
        };
        let name = self.name.clone().unwrap_or_else(|| {
            self.output.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
        });
        let options = Options {
            embeddings: self.embeddings,
            dense: self.dense,
            activations: self.activations,
            scales: self.scales,
            hot_share: self.hot,
            layout: self.layout,
        };
        let converted = convert(&name, &file, &model, ranges, options)?;
        converted.blob.write(&self.output)?;
        if let Some(module) = &self.emit_rust {
            distinct(module, &[&self.output])?;
            let checkpoint = self.checkpoint.file_name().unwrap_or_default().to_string_lossy();
            let origin = format!("{checkpoint} ({})", model.dialect);
            rust_module::write(module, &self.output, &converted.blob, &origin)?;
        }
        if self.calibrate.is_none() && options.is_fixed() {
            remark("note: without --calibrate, ranges come from bounds over the weights, which are wide");
            if !model.dense_linear.is_empty() {
                remark(&format!("note: without --calibrate, dense inputs may go up to ±{DENSE_BOUND}"));
            }
        }
        print(&report(&self.output.display().to_string(), &model, &converted, options))
    }
}

/// What was made of what.
pub(super) fn report(output: &str, model: &FloatModel, converted: &Converted, options: Options) -> String {
    let sizes = converted.sizes;
    let float_bytes = model.parameters * 4;
    let mut text = String::new();
    for assumption in &model.assumptions {
        let _ = writeln!(text, "assumed: {assumption}");
    }
    let path = if options.is_fixed() { "fixed (integers only)" } else { "f32" };
    let _ = writeln!(text, "{output}: {} model, {path}", model.dialect);
    if options.is_fixed() {
        let (own, cores, other) = match options.layout {
            Layout::Dsp => {
                ("DSP cores (Cortex-M4, M7, M33, M55)", "Cortex-M0 and M3, RISC-V and hosts", "scalar")
            }
            Layout::Scalar => {
                ("Cortex-M0 and M3, RISC-V and hosts", "DSP cores (Cortex-M4, M7, M33, M55)", "dsp")
            }
        };
        let _ = writeln!(text, "  layers packed for {own}; for {cores} say --layout {other}");
    }
    let parts = sizes.parts().into_iter().filter(|(_, bytes)| *bytes > 0);
    for (part, bytes) in parts.chain([("total", sizes.total)]) {
        let _ = writeln!(text, "  {part:13}{:>12} bytes", thousands(bytes));
    }
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    let ratio = (sizes.total - sizes.encoders) as f64 / float_bytes as f64;
    let without = if sizes.encoders > 0 { " without encoders" } else { "" };
    let _ =
        writeln!(text, "  {ratio:.3} of the checkpoint's {} bytes in f32{without}", thousands(float_bytes));
    text
}
