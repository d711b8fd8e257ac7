//! What is in a file, as data: `nfm inspect --json` prints an [`Inspection`] as JSON, and `nfm inspect` the same for people.
//!
//! [`VERSION`] grows when a member goes or changes its meaning; members may come without it. One that is not known is left out.

use std::{fs, path::Path};

use embedded_nfm as device;
use serde::{Deserialize, Serialize};

use crate::{
    container,
    dialect::{self, DIALECTS, Hints},
    encoding::{raw::RawFields, section},
    error::{Error, Result},
    float_model::{self, Activation, FloatModel, Link},
    model_file::{Blob, Scorer, fields_of},
    quantize::Sizes,
    schema::{self, FieldKind, Order, Pooling, Schema, Sequence, Task, Weights},
    tensors::{Fact, Tensors},
};

/// The version of the shape that is written.
pub const VERSION: u32 = 1;

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// [`VERSION`].
    pub inspect_version: u32,
    /// The file, as the user named it.
    pub file: String,
    /// What it is.
    #[serde(flatten)]
    pub content: Content,
}

/// What a file is: `"kind": "checkpoint"` or `"nfm"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Content {
    /// A checkpoint.
    Checkpoint(Box<Checkpoint>),
    /// A converted model.
    Nfm(Box<Nfm>),
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Checkpoint {
    /// The container, as `torch zip`.
    pub container: String,
    /// What the file says that wrote it: a library with its version, or the class of a whole model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
    /// The dialect that was recognized or said; `map` with a map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialect: Option<String>,
    /// Whose models the dialect reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// The tensors in the file's order.
    pub tensors: Vec<TensorEntry>,
    /// Tensors that stay in the file: an optimizer's state and the like.
    pub left_in_file: Vec<LeftInFile>,
    /// How many floats the model's tensors hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<usize>,
    /// The model; absent where it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<Model>,
    /// What the file does not say and was assumed, each with what to say if it is wrong.
    pub assumptions: Vec<String>,
    /// Why the file is refused, or what it asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// A schema file that says what was understood; where a schema is asked for, one to start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<Schema>,
    /// Of a checkpoint of no dialect, a map file to start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
}

/// One tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorEntry {
    /// Its name.
    pub name: String,
    /// The element type in the file, as `f32`, `bf16` or `i64`.
    pub dtype: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Why it is no part of the model; where there is a model, it took every tensor without this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// A tensor that was not read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeftInFile {
    /// Its name.
    pub name: String,
    /// What it is.
    pub why: String,
}

/// A graph with its inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Rows of all tables together.
    pub rows: usize,
    /// Embedding width k.
    pub dim: usize,
    /// The most active entries in a row.
    pub max_active: u16,
    /// The largest magnitude of a value, where there is a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_value: Option<f64>,
    /// The input's columns in their order.
    pub fields: Vec<FieldEntry>,
    /// The graph from z to the raw score.
    pub stages: Vec<Stage>,
    /// What follows the raw score: `sigmoid`, `identity`, or `clip` with `min` and `max`.
    pub link: Link,
}

/// One column of the input; the members are those of the schema file, with the place of the rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldEntry {
    /// The column's name.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: FieldType,
    /// Rows of its table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u32>,
    /// Its id 0 in the model's one table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u32>,
    /// The field whose table it uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Of a dense input, the one order that takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<Order>,
    /// Of a sequence, how it becomes one term.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<SequenceEntry>,
    /// Where rows are raw, what becomes of a value, as a line for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
}

/// The types of fields, as in the schema file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    /// Exactly one id.
    Id,
    /// Any number of ids with values.
    Ids,
    /// Ids that are pooled to one.
    Sequence,
    /// A number that joins z.
    Dense,
    /// A number times a row of its own.
    Scaled,
}

/// How a sequence becomes one term.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SequenceEntry {
    /// Of embeddings.
    pub pooling: Pooling,
    /// Of first-order weights.
    pub linear_pooling: Pooling,
    /// The most ids in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_len: Option<u16>,
    /// The id that is no entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub padding: Option<u32>,
    /// What an entry's weight is.
    pub weights: Weights,
}

/// One step of the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// The step as a line.
    pub text: String,
    /// How many numbers it leaves.
    pub width: usize,
    /// What it does.
    #[serde(flatten)]
    pub step: Step,
}

/// What a stage does: `"step": "dense"` and so on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// z of the active entries.
    BiInteraction,
    /// Each number times a factor, as a dropout that multiplies at inference.
    Scale {
        /// The factor.
        factor: f64,
    },
    /// Batch normalization.
    BatchNorm {
        /// ε
        eps: f64,
    },
    /// Appends the dense inputs.
    Concat {
        /// How many.
        dense_inputs: usize,
    },
    /// `W h + b`
    Dense {
        /// Width of the input.
        inputs: usize,
        /// The element type of a converted model's weights: `i8`, `i16` or `f32`.
        #[serde(skip_serializing_if = "Option::is_none")]
        weights: Option<String>,
    },
    /// An activation function.
    Activation {
        /// Its name with its parameters.
        function: String,
        /// The largest magnitude of a code that it leaves, on the fixed path.
        #[serde(skip_serializing_if = "Option::is_none")]
        max: Option<u16>,
    },
    /// Adds the first order and every constant.
    FirstOrder {
        /// Whether rows have first-order weights.
        rows: bool,
        /// How many dense inputs have.
        dense_inputs: usize,
        /// The sum of the constants.
        bias: f64,
    },
}

/// A converted model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nfm {
    /// The version of the file's format.
    pub format_version: u16,
    /// The model's name.
    pub name: String,
    /// `fixed`, with integers only, or `f32`.
    pub arithmetic: String,
    /// Storage of embeddings: `f32`, `i8`, `i4` or `mixed`.
    pub embeddings: String,
    /// Rows of 8 bits, where the embeddings are mixed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hot_rows: Option<usize>,
    /// What the hidden layers are packed for: `dsp` or `scalar`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// Bytes of its parts.
    pub bytes: Sizes,
    /// Bytes of RAM that a score needs beside the stack.
    pub scratch_bytes: usize,
    /// The model.
    pub model: Model,
}

impl Inspection {
    /// Of the checkpoint at `path`. One that is refused is no error.
    ///
    /// # Errors
    ///
    /// When no tensor can be read from it.
    pub fn of_checkpoint(path: &Path, hints: &Hints) -> Result<Self> {
        let tensors = container::read(path)?;
        let file = tensors.file.clone();
        let content = Content::Checkpoint(Box::new(Checkpoint::of(tensors, hints)));
        Ok(Self { inspect_version: VERSION, file, content })
    }

    /// Of the `.nfm` file at `path`.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or breaks a rule of the format.
    pub fn of_blob(path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
        let content = Content::Nfm(Box::new(Nfm::of(&file, Blob::new(&bytes).bytes())?));
        Ok(Self { inspect_version: VERSION, file, content })
    }

    /// Whether the file gives a model.
    ///
    /// # Errors
    ///
    /// Why it is refused.
    pub fn check(&self) -> Result<()> {
        match &self.content {
            Content::Checkpoint(checkpoint) => match &checkpoint.refused {
                Some(reason) => Err(Error::refused(&self.file, "", reason)),
                None => Ok(()),
            },
            Content::Nfm(_) => Ok(()),
        }
    }
}

impl Checkpoint {
    fn of(tensors: Tensors, hints: &Hints) -> Self {
        let recognized = dialect::recognized(&tensors).first().map(|name| (*name).to_owned());
        let dialect = match (&hints.map, &hints.dialect) {
            (Some(_), _) => Some("map".to_owned()),
            (None, Some(said)) => Some(said.clone()),
            (None, None) => recognized,
        };
        let file = tensors.file.clone();
        let known = DIALECTS.iter().find(|known| Some(known.name) == dialect.as_deref());
        let mut checkpoint = Self {
            container: tensors.container.into(),
            made_by: made_by(&tensors),
            about: known.map(|known| known.about.into()),
            tensors: entries(&tensors),
            left_in_file: left_in_file(&tensors),
            map: dialect.is_none().then(|| dialect::map::starting_point(&tensors)),
            dialect,
            ..Self::default()
        };
        let start = schema::starting_point(&tensors);
        match dialect::import(tensors, hints) {
            Ok(model) => checkpoint.take(model),
            Err(error) => {
                let reason = error.to_string();
                let after_file = reason.strip_prefix(&file).and_then(|reason| reason.strip_prefix(": "));
                let reason = after_file.unwrap_or(&reason);
                checkpoint.schema = start.filter(|_| hints.schema.is_none() && reason.contains("schema"));
                checkpoint.refused = Some(reason.into());
            }
        }
        checkpoint
    }

    /// Adds what is known of a checkpoint that loads.
    fn take(&mut self, model: FloatModel) {
        for tensor in &mut self.tensors {
            if model.skipped.contains(&tensor.name) {
                tensor.skipped = Some(why_skipped(&tensor.name).into());
            }
        }
        match describe(Scorer::Oracle(&model).raw_fields(None)) {
            Ok(encoders) => self.model = Some(Model::of(&model).with(encoders)),
            Err(problem) => self.refused = Some(format!("encoders: {problem}")),
        }
        self.parameters = Some(model.parameters);
        let task = match model.link {
            Link::Sigmoid => Some(Task::Binary),
            Link::Identity => Some(Task::Regression),
            Link::Clip { .. } => None,
        };
        let schema_version = schema::VERSION;
        self.schema = Some(Schema { schema_version, task, fields: model.fields, ..Schema::default() });
        self.assumptions = model.assumptions;
    }
}

/// What the file says that wrote it.
fn made_by(tensors: &Tensors) -> Option<String> {
    let producer = tensors.graph.as_ref().map(|graph| graph.producer.clone()).filter(|name| !name.is_empty());
    let text = |name: &str| match tensors.facts.get(name) {
        Some(Fact::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let keras = || text("keras_version").map(|version| format!("Keras {version}"));
    producer.or_else(keras).or_else(|| text("__class__"))
}

fn entries(tensors: &Tensors) -> Vec<TensorEntry> {
    let entry = |(name, tensor): (&String, &crate::tensors::Tensor)| TensorEntry {
        name: name.clone(),
        dtype: tensor.dtype.into(),
        shape: tensor.shape.clone(),
        skipped: None,
    };
    tensors.entries.iter().map(entry).collect()
}

fn left_in_file(tensors: &Tensors) -> Vec<LeftInFile> {
    let left = tensors.facts.iter().filter_map(|(name, fact)| match fact {
        Fact::Text(why) => Some(LeftInFile { name: name.strip_prefix("skipped.")?.into(), why: why.clone() }),
        _ => None,
    });
    left.collect()
}

fn why_skipped(name: &str) -> &'static str {
    if name.ends_with("num_batches_tracked") { "counts batches of training" } else { "no part of a score" }
}

/// Stages from the first one on.
struct Stages {
    stages: Vec<Stage>,
    width: usize,
}

impl Stages {
    fn new(dim: usize) -> Self {
        let mut stages = Self { stages: Vec::new(), width: dim };
        stages.push(Step::BiInteraction, dim);
        stages
    }

    fn push(&mut self, step: Step, width: usize) {
        self.stages.push(Stage { text: step.text(width), width, step });
        self.width = width;
    }

    fn dense(&mut self, width: usize, weights: Option<&str>) {
        self.push(Step::Dense { inputs: self.width, weights: weights.map(str::to_owned) }, width);
    }

    fn activation(&mut self, function: &Activation, max: Option<u16>) {
        self.push(Step::Activation { function: function.name(), max }, self.width);
    }

    fn scale(&mut self, factor: f64) {
        self.push(Step::Scale { factor }, self.width);
    }

    fn concat(&mut self, dense_inputs: usize) {
        if dense_inputs > 0 {
            self.push(Step::Concat { dense_inputs }, self.width + dense_inputs);
        }
    }
}

impl Step {
    /// The step as a line, where it leaves `width` numbers.
    fn text(&self, width: usize) -> String {
        let inputs =
            |count: usize| if count == 1 { "1 dense input".into() } else { format!("{count} dense inputs") };
        match self {
            Self::BiInteraction => "z = ½ ((Σ x v)² − Σ (x v)²)".into(),
            Self::Scale { factor } => format!("× {factor:?}"),
            Self::BatchNorm { eps } => format!("batch norm, eps {eps:?}"),
            Self::Concat { dense_inputs } => format!("++ {}", inputs(*dense_inputs)),
            Self::Dense { inputs, weights: None } => format!("dense {inputs} → {width}"),
            Self::Dense { inputs, weights: Some(weights) } => format!("dense {inputs} → {width}, {weights}"),
            Self::Activation { function, max: None } => function.clone(),
            Self::Activation { function, max: Some(max) } => format!("{function}, codes up to ±{max}"),
            Self::FirstOrder { rows, dense_inputs, bias } => {
                let first_order = (*rows || *dense_inputs > 0).then(|| "first order".to_owned());
                let bias = (bias.abs() > 0.0).then(|| format!("bias {bias:.6}"));
                let terms: Vec<String> = first_order.into_iter().chain(bias).collect();
                if terms.is_empty() {
                    "no first order, no bias".into()
                } else {
                    format!("+ {}", terms.join(", "))
                }
            }
        }
    }
}

impl Model {
    /// The model with a line for each field's encoder.
    fn with(mut self, encoders: Vec<String>) -> Self {
        for (field, line) in self.fields.iter_mut().zip(encoders) {
            field.encoder = Some(line);
        }
        self
    }

    fn of(model: &FloatModel) -> Self {
        let mut stages = Stages::new(model.dim);
        for stage in &model.stages {
            match stage {
                float_model::Stage::BatchNorm(norm) => {
                    stages.push(Step::BatchNorm { eps: norm.eps }, stages.width);
                }
                float_model::Stage::Scale(scale) => stages.scale(*scale),
                float_model::Stage::Concat => stages.concat(model.dense_linear.len()),
                float_model::Stage::Dense(dense) => stages.dense(dense.bias.len(), None),
                float_model::Stage::Activation(function) => stages.activation(function, None),
            }
        }
        let rows = model.linear.iter().any(|weight| weight.abs() > 0.0);
        let dense_inputs = model.dense_linear.iter().filter(|weight| weight.abs() > 0.0).count();
        stages.push(Step::FirstOrder { rows, dense_inputs, bias: model.bias }, 1);
        Self {
            rows: model.rows(),
            dim: model.dim,
            max_active: model.max_active,
            max_value: Some(model.max_value),
            fields: model.fields.iter().map(FieldEntry::of).collect(),
            stages: stages.stages,
            link: model.link,
        }
    }

    fn of_fixed(parts: &device::FixedParts<'_>) -> Self {
        let info = parts.info;
        let mut stages = Stages::new(info.dim.into());
        stages.concat(parts.dense_inputs.len());
        for layer in &parts.layers {
            stages.dense(layer.out.into(), Some("i8"));
            let slope = |slope: i16| f64::from(slope) / f64::from(1 << 13);
            stages.activation(&function(layer.activation, layer.slopes, slope), Some(layer.max));
        }
        stages.dense(1, Some("i16"));
        let bias = parts.bias.to_f64();
        stages.push(Step::FirstOrder { rows: true, dense_inputs: parts.dense_inputs.len(), bias }, 1);
        let link = link(parts.link, device::Q16::to_f64);
        Self::converted(&info, Some(parts.max_value.to_f64()), stages, link)
    }

    fn of_f32(parts: &device::F32Parts<'_>) -> Self {
        let info = parts.info;
        let mut stages = Stages::new(info.dim.into());
        stages.concat(parts.dense_linear.len());
        for layer in &parts.layers {
            let weights = if matches!(layer.weights, device::F32Weights::F32(_)) { "f32" } else { "i8" };
            stages.dense(layer.bias.len(), Some(weights));
            stages.activation(&function(layer.activation, layer.slopes, f64::from), None);
        }
        stages.dense(1, Some("f32"));
        let bias = parts.bias.into();
        stages.push(Step::FirstOrder { rows: true, dense_inputs: parts.dense_linear.len(), bias }, 1);
        Self::converted(&info, None, stages, link(parts.link, f64::from))
    }

    fn converted(info: &device::Info<'_>, max_value: Option<f64>, stages: Stages, link: Link) -> Self {
        Self {
            rows: info.rows as usize,
            dim: info.dim.into(),
            max_active: info.max_active,
            max_value,
            fields: fields_of(info).iter().map(FieldEntry::of).collect(),
            stages: stages.stages,
            link,
        }
    }
}

/// What each encoder does; nothing of rows that are encoded already.
fn describe(
    raw: core::result::Result<Option<RawFields>, String>,
) -> core::result::Result<Vec<String>, String> {
    raw?.map_or(Ok(Vec::new()), |raw| raw.describe())
}

/// The activation with its parameters as `f64`.
fn function<S: Copy>(
    activation: device::Activation<S>,
    slopes: &[S],
    number: impl Fn(S) -> f64,
) -> Activation {
    match activation {
        device::Activation::Identity => Activation::Identity,
        device::Activation::Relu => Activation::Relu,
        device::Activation::LeakyRelu { slope } => Activation::LeakyRelu(number(slope)),
        device::Activation::PRelu => Activation::PRelu(slopes.iter().map(|slope| number(*slope)).collect()),
        device::Activation::Sigmoid => Activation::Sigmoid,
        device::Activation::Tanh => Activation::Tanh,
        device::Activation::Elu { alpha } => Activation::Elu(number(alpha)),
    }
}

/// The link with its limits as `f64`.
fn link<V>(link: device::Link<V>, number: impl Fn(V) -> f64) -> Link {
    match link {
        device::Link::Sigmoid => Link::Sigmoid,
        device::Link::Identity => Link::Identity,
        device::Link::Clip { min, max } => Link::Clip { min: number(min), max: number(max) },
    }
}

impl FieldEntry {
    fn of(field: &schema::Field) -> Self {
        let (kind, sequence) = match field.kind {
            FieldKind::Id { .. } => (FieldType::Id, None),
            FieldKind::Ids { .. } => (FieldType::Ids, None),
            FieldKind::Dense => (FieldType::Dense, None),
            FieldKind::Scaled => (FieldType::Scaled, None),
            FieldKind::Sequence(Sequence { pooling, linear, max_len, padding, weights, .. }) => {
                let entry = SequenceEntry { pooling, linear_pooling: linear, max_len, padding, weights };
                (FieldType::Sequence, Some(entry))
            }
        };
        let rows = Some(field.kind.rows()).filter(|rows| *rows > 0);
        Self {
            name: field.name.clone(),
            kind,
            rows,
            offset: rows.map(|_| field.first),
            table: field.table.clone(),
            only: field.only,
            sequence,
            encoder: None,
        }
    }
}

impl Nfm {
    fn of(file: &str, blob: &[u8]) -> Result<Self> {
        let refuse = |e| Error::refused(file, "", format!("no sound model: {e}"));
        if device::Arithmetic::of(blob) == Some(device::Arithmetic::F32) {
            let model = device::F32Model::parse(blob).map_err(refuse)?;
            return Self::of_f32(&model, blob.len()).with_encoders(file, model.info(), section::Path::F32);
        }
        let model = device::Model::parse(blob).map_err(refuse)?;
        Self::of_fixed(&model, blob.len()).with_encoders(file, model.info(), section::Path::Fixed)
    }

    fn with_encoders(self, file: &str, info: &device::Info<'_>, path: section::Path) -> Result<Self> {
        if info.encoders.is_empty() {
            return Ok(self);
        }
        let raw = RawFields::of_section(fields_of(info), info.encoders, path);
        let encoders =
            describe(raw.map(Some)).map_err(|problem| Error::refused(file, "encoders", problem))?;
        Ok(Self { model: self.model.with(encoders), ..self })
    }

    fn of_fixed(model: &device::Model<'_>, total: usize) -> Self {
        let parts = model.parts();
        let (embeddings, hot_rows) = match parts.table {
            device::Table::I8(_) => ("i8", None),
            device::Table::I4(table) if table.hot.is_empty() => ("i4", None),
            device::Table::I4(table) => ("mixed", table.codes.len().checked_div(parts.info.lanes())),
        };
        let layout = |layer: &device::FixedLayer<'_>| match layer.weights {
            device::Weights::Scalar(_) => "scalar".to_owned(),
            device::Weights::Dsp { .. } => "dsp".to_owned(),
        };
        Self {
            format_version: device::VERSION,
            name: parts.info.name.into(),
            arithmetic: "fixed".into(),
            embeddings: embeddings.into(),
            hot_rows,
            layout: parts.layers.first().map(layout),
            bytes: Sizes::of_fixed(parts, total),
            scratch_bytes: model.scratch_len() * size_of::<u32>(),
            model: Model::of_fixed(parts),
        }
    }

    fn of_f32(model: &device::F32Model<'_>, total: usize) -> Self {
        let parts = model.parts();
        let embeddings = match parts.table {
            device::F32Table::F32 { .. } => "f32",
            device::F32Table::I8 { .. } => "i8",
        };
        Self {
            format_version: device::VERSION,
            name: parts.info.name.into(),
            arithmetic: "f32".into(),
            embeddings: embeddings.into(),
            hot_rows: None,
            layout: None,
            bytes: Sizes::of_f32(parts, total),
            scratch_bytes: model.scratch_len() * size_of::<f32>(),
            model: Model::of_f32(parts),
        }
    }
}
