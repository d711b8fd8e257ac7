//! `nfm inspect`

use std::{fmt::Write, path::PathBuf};

use clap::Args;
use embedded_nfm as device;

use super::{HintArgs, print, remark_on, thousands};
use crate::{
    container,
    dialect::{self, Hints},
    error::Result,
    float_model::{FloatModel, Stage},
    model_file::{Blob, ModelFile, Scorer},
    schema::{Field, FieldKind, Sequence},
    tensors::Tensors,
};

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// A checkpoint or a .nfm file
    file: PathBuf,
    #[command(flatten)]
    hints: HintArgs,
}

impl Inspect {
    pub(super) fn run(self) -> Result<()> {
        let hinted = self.hints.any();
        let hints = self.hints.hints()?;
        if !ModelFile::is_blob(&self.file) {
            return inspect_checkpoint(container::read(&self.file)?, &hints);
        }
        let file = ModelFile::read(&self.file, &hints)?;
        remark_on(&self.file, &file, hinted);
        let ModelFile::Blob(blob) = &file else { return Ok(()) };
        let text = blob_text(&file.scorer(&self.file)?, blob);
        print(&format!("{}: embedded-nfm model, format {}\n{text}", self.file.display(), device::VERSION))
    }
}

/// Shows the tensors, then the model, then what refuses it.
fn inspect_checkpoint(tensors: Tensors, hints: &Hints) -> Result<()> {
    let mut text = format!("{}: {}\n\ntensors\n", tensors.file, tensors.container);
    let widest = tensors.entries.keys().map(String::len).max().unwrap_or(0);
    for (name, tensor) in &tensors.entries {
        let _ = writeln!(text, "  {name:widest$}  {:5} {:?}", tensor.dtype, tensor.shape);
    }
    print(&text)?;
    if hints.map.is_none() && hints.dialect.is_none() && dialect::recognized(&tensors).is_empty() {
        print(&format!("\na map to start from, for --map\n{}\n", dialect::map::starting_point(&tensors)))?;
    }
    let model = dialect::import(tensors, hints)?;
    print(&model_text(&model))
}

fn model_text(model: &FloatModel) -> String {
    let mut text = format!("\ndialect     {}\nparameters  {}\n", model.dialect, thousands(model.parameters));
    text.push_str(&fields_text(&model.fields));
    let _ = writeln!(text, "\ngraph");
    let _ = writeln!(text, "  z = ½ ((Σ x v)² − Σ (x v)²)              [{}]", model.dim);
    let mut width = model.dim;
    for stage in &model.stages {
        let line = match stage {
            Stage::BatchNorm(bn) => format!("batch norm, eps {}", bn.eps),
            Stage::Concat if model.dense_linear.is_empty() => continue,
            Stage::Concat => {
                width += model.dense_linear.len();
                format!("++ {} dense inputs", model.dense_linear.len())
            }
            Stage::Dense(dense) => {
                let line = format!("dense {width} → {}", dense.bias.len());
                width = dense.bias.len();
                line
            }
            Stage::Activation(activation) => activation.name(),
        };
        let _ = writeln!(text, "  {line:40} [{width}]");
    }
    let _ = writeln!(text, "  + first order + bias {:.6}", model.bias);
    let _ = writeln!(text, "  link: {}", model.link.name());
    let _ = writeln!(text, "\nat most {} active entries, values up to {}", model.max_active, model.max_value);
    for assumption in &model.assumptions {
        let _ = writeln!(text, "assumed: {assumption}");
    }
    if !model.skipped.is_empty() {
        let _ = writeln!(text, "skipped: {}", model.skipped.join(", "));
    }
    text
}

fn fields_text(fields: &[Field]) -> String {
    let mut text = String::from("\nfields\n");
    let widest = fields.iter().map(|field| field.name.chars().count()).max().unwrap_or(0);
    for field in fields {
        let _ = writeln!(text, "  {:widest$}  {}", field.name, field_text(field));
    }
    text
}

fn field_text(field: &Field) -> String {
    let rows = match &field.table {
        Some(table) => format!("the table of `{table}`"),
        None => format!("{} rows", thousands(field.kind.rows() as usize)),
    };
    match field.kind {
        FieldKind::Id { .. } => format!("id, {rows}"),
        FieldKind::Ids { .. } => format!("ids with values, {rows}"),
        FieldKind::Dense => "dense".into(),
        FieldKind::Scaled => "scaled: a number times a row".into(),
        FieldKind::Sequence(Sequence { pooling, linear, .. }) if pooling == linear => {
            format!("sequence, {}, {rows}", pooling.name())
        }
        FieldKind::Sequence(Sequence { pooling, linear, .. }) => {
            format!("sequence, {} (first order {}), {rows}", pooling.name(), linear.name())
        }
    }
}

fn blob_text(scorer: &Scorer<'_>, blob: &Blob) -> String {
    let (info, path, scratch, layers): (_, _, _, Vec<String>) = match scorer {
        Scorer::Oracle(model) => return model_text(model),
        Scorer::Fixed(model, scratch) => {
            let layers = model.parts().layers.iter().map(|layer| {
                format!("{:?} → {}, shift {}, ±{}", layer.activation, layer.out, layer.shift, layer.max)
            });
            (model.info(), "fixed (integers only)", scratch.len() * 4, layers.collect())
        }
        Scorer::F32(model, scratch) => {
            let layers = model
                .parts()
                .layers
                .iter()
                .map(|layer| format!("{:?} → {}", layer.activation, layer.bias.len()));
            (model.info(), "f32", scratch.len() * 4, layers.collect())
        }
    };
    let mut text = String::new();
    let _ = writeln!(text, "name        {}\narithmetic  {path}", info.name);
    let _ = writeln!(text, "size        {} bytes", thousands(blob.bytes().len()));
    let _ = writeln!(text, "scratch     {scratch} bytes");
    let _ = writeln!(text, "embeddings  {} rows × {}", thousands(info.rows as usize), info.dim);
    let _ = writeln!(text, "active      at most {}", info.max_active);
    for layer in layers {
        let _ = writeln!(text, "layer       {layer}");
    }
    text + &fields_text(&scorer.fields())
}
