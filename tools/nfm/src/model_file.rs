//! Anything that scores: a `.nfm` file through the device library, or a checkpoint through the oracle.

use std::{fs::File, io::Read, path::Path as FilePath};

use embedded_nfm as device;

use crate::{
    container,
    dialect::{self, Hints},
    encoding::{
        raw::RawFields,
        section::{Path, q16},
    },
    error::{Error, Result},
    evaluate::Scored,
    float_model::FloatModel,
    rows::{self, Row, Run},
    schema::{Field, FieldKind, Schema, Sequence, Task, Weights},
};

/// The bytes of a `.nfm` file, at an address that the device library accepts.
#[derive(Debug, Clone)]
pub struct Blob {
    words: Vec<u64>,
    len: usize,
}

impl Blob {
    /// Copies `bytes` to an aligned place.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let mut words = vec![0_u64; bytes.len().div_ceil(8)];
        bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self { words, len: bytes.len() }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }

    /// Writes the file: all of it, or none. What is no regular file, as a pipe, is written to.
    ///
    /// # Errors
    ///
    /// When the operating system refuses.
    pub fn write(&self, path: &FilePath) -> Result<()> {
        rows::write_file(path, self.bytes()).map_err(|e| Error::io(path, e))
    }
}

/// A file that scores.
#[derive(Debug)]
pub enum ModelFile {
    /// A checkpoint.
    Checkpoint(Box<FloatModel>),
    /// A `.nfm` file.
    Blob(Blob),
}

impl ModelFile {
    /// Whether the file at `path` starts as a `.nfm` file does.
    ///
    /// A folder is none, and so is what cannot be opened, such as the prefix of a checkpoint's files.
    #[must_use]
    pub fn is_blob(path: &FilePath) -> bool {
        let mut head = [0; device::MAGIC.len()];
        let is_read = File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok();
        is_read && head == device::MAGIC
    }

    /// Reads a `.nfm` file or a checkpoint; its first bytes decide which it is.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the file.
    pub fn read(path: &FilePath, hints: &Hints) -> Result<Self> {
        if !Self::is_blob(path) {
            return Ok(Self::Checkpoint(Box::new(dialect::import(container::read(path)?, hints)?)));
        }
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        Ok(Self::Blob(Blob::new(&bytes)))
    }

    /// The checked model, ready to score.
    ///
    /// # Errors
    ///
    /// When a `.nfm` file breaks a rule of the format.
    pub fn scorer(&self, path: &FilePath) -> Result<Scorer<'_>> {
        match self {
            Self::Checkpoint(model) => Ok(Scorer::Oracle(model)),
            Self::Blob(blob) => Scorer::parse(blob)
                .map_err(|e| Error::refused(&path.display().to_string(), "", format!("no sound model: {e}"))),
        }
    }
}

/// A model with the memory to score.
#[derive(Debug)]
pub enum Scorer<'a> {
    /// In `f64`.
    Oracle(&'a FloatModel),
    /// The device library's fixed path.
    Fixed(Box<device::Model<'a>>, Vec<u32>),
    /// The device library's f32 path.
    F32(Box<device::F32Model<'a>>, Vec<f32>),
}

impl<'a> Scorer<'a> {
    /// Parses a blob.
    ///
    /// # Errors
    ///
    /// When it breaks a rule of the format.
    pub fn parse(blob: &'a Blob) -> core::result::Result<Self, device::ParseError> {
        if device::Arithmetic::of(blob.bytes()) == Some(device::Arithmetic::F32) {
            let model = device::F32Model::parse(blob.bytes())?;
            let scratch = vec![0.0; model.scratch_len()];
            return Ok(Self::F32(Box::new(model), scratch));
        }
        let model = device::Model::parse(blob.bytes())?;
        let scratch = vec![0; model.scratch_len()];
        Ok(Self::Fixed(Box::new(model), scratch))
    }

    /// The input's columns.
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        match self {
            Self::Oracle(model) => model.fields.clone(),
            Self::Fixed(model, _) => fields_of(model.info()),
            Self::F32(model, _) => fields_of(model.info()),
        }
    }

    /// The columns of rows. What only concerns rows of data, as padding and the weights of a sequence, a `.nfm` file does not hold:
    /// a schema may say it.
    ///
    /// # Errors
    ///
    /// When the schema has other fields than the model.
    pub fn columns(&self, schema: Option<&Schema>) -> core::result::Result<Vec<Field>, String> {
        match (self, schema) {
            (Self::Fixed(..) | Self::F32(..), Some(schema)) if !schema.fields.is_empty() => {
                said_by(self.fields(), &schema.fields)
            }
            _ => Ok(self.fields()),
        }
    }

    /// The encoders of raw values, where the model has any, with [columns](Self::columns) that a schema says.
    ///
    /// # Errors
    ///
    /// When the encoders cannot be written for the model's numbers or break a rule of their format, or the schema has other fields or
    /// other encoders than the model.
    pub fn raw_fields(&self, schema: Option<&Schema>) -> core::result::Result<Option<RawFields>, String> {
        let (section, path) = match self {
            Self::Oracle(model) => {
                let is_raw = model.fields.iter().any(|field| field.encoding.is_raw());
                return is_raw.then(|| RawFields::new(&model.fields, Path::F32)).transpose();
            }
            Self::Fixed(model, _) => (model.info().encoders, Path::Fixed),
            Self::F32(model, _) => (model.info().encoders, Path::F32),
        };
        if section.is_empty() {
            return Ok(None);
        }
        let raw = RawFields::of_section(self.columns(schema)?, section, path)?;
        if schema.is_some_and(Schema::is_raw) {
            same_encoders(&raw, &RawFields::new(raw.fields(), path)?)?;
        }
        Ok(Some(raw))
    }

    /// What the score means.
    #[must_use]
    pub fn task(&self) -> Task {
        let sigmoid = match self {
            Self::Oracle(model) => model.link == crate::float_model::Link::Sigmoid,
            Self::Fixed(model, _) => model.link() == device::Link::Sigmoid,
            Self::F32(model, _) => model.link() == device::Link::Sigmoid,
        };
        if sigmoid { Task::Binary } else { Task::Regression }
    }

    /// Scores a row.
    ///
    /// # Errors
    ///
    /// Says which entry of the row is at fault.
    pub fn score(&mut self, row: &Row) -> core::result::Result<Scored, String> {
        let (raw, prediction) = match self {
            Self::Oracle(model) => {
                model.accepts(row)?;
                let raw = model.score(row);
                (raw, model.link.apply(raw))
            }
            Self::Fixed(model, scratch) => {
                let values = row.values.as_deref().map(|values| q16s(values, "value")).transpose()?;
                let dense = q16s(&row.dense, "dense input")?;
                let sample = sample(&row.ids, values.as_deref(), &dense);
                let raw = match sequences(row).as_slice() {
                    [] => model.score(&sample, scratch),
                    sequences => model.score_sequences(&sample, sequences, scratch),
                };
                let raw = raw.map_err(|e| e.to_string())?;
                let prediction = match model.link().apply(raw) {
                    device::Prediction::Probability(p) => p.to_f64(),
                    device::Prediction::Value(v) => v.to_f64(),
                };
                (raw.to_f64(), prediction)
            }
            Self::F32(model, scratch) => {
                let values = row.values.as_deref().map(f32s);
                let dense = f32s(&row.dense);
                let sample = sample(&row.ids, values.as_deref(), &dense);
                let raw = match sequences(row).as_slice() {
                    [] => model.score(&sample, scratch),
                    sequences => model.score_sequences(&sample, sequences, scratch),
                };
                let raw = raw.map_err(|e| e.to_string())?;
                (raw.into(), model.link().apply::<device::Libm>(raw).into())
            }
        };
        Ok(Scored { label: row.label, raw, prediction })
    }
}

/// A model's fields with what a schema says of rows of data.
fn said_by(model: Vec<Field>, schema: &[Field]) -> core::result::Result<Vec<Field>, String> {
    if model.len() != schema.len() {
        return Err(format!("the model has {} fields, the schema {}", model.len(), schema.len()));
    }
    let merged = model.into_iter().map(|own| {
        let said = schema.iter().find(|said| said.name == own.name);
        let said =
            said.ok_or_else(|| format!("the schema has no field `{}`, which the model has", own.name))?;
        if said.kind.of_model() != own.kind.of_model() {
            return Err(format!(
                "field `{}`: the model has {}, the schema {}",
                own.name, own.kind, said.kind
            ));
        }
        Ok(Field { encoding: said.encoding.clone(), kind: said.kind, ..own })
    });
    merged.collect()
}

/// Whether encoders do the same, as far as words tell.
fn same_encoders(model: &RawFields, schema: &RawFields) -> core::result::Result<(), String> {
    let (own, said) = (model.describe()?, schema.describe()?);
    match own.iter().zip(&said).zip(model.fields()).find(|((own, said), _)| own != said) {
        Some(((own, said), field)) => Err(format!(
            "field `{}`: the model was converted with `{own}`, the schema says `{said}`: say that schema, or convert again",
            field.name
        )),
        None => Ok(()),
    }
}

/// The columns of the input of a `.nfm` file; the first field of some rows owns them.
pub(crate) fn fields_of(info: &device::Info<'_>) -> Vec<Field> {
    let mut fields: Vec<Field> = info.fields.iter().map(field).collect();
    for at in 1..fields.len() {
        let (before, field) = fields.split_at_mut(at);
        let owner = before.iter().find(|owner| field[0].kind.rows() > 0 && owner.rows() == field[0].rows());
        field[0].table = owner.map(|owner| owner.name.clone());
    }
    fields
}

/// A field of a `.nfm` file, as if its rows were its own.
fn field(field: device::Field<'_>) -> Field {
    let (first, rows) = field.kind.rows();
    let kind = match field.kind {
        device::FieldKind::Id { .. } => FieldKind::Id { rows },
        device::FieldKind::Ids { .. } => FieldKind::Ids { rows },
        device::FieldKind::Dense => FieldKind::Dense,
        device::FieldKind::Scaled { .. } => FieldKind::Scaled,
        device::FieldKind::Sequence { pooling, linear, .. } => FieldKind::Sequence(Sequence {
            rows,
            pooling: pooling.into(),
            linear: linear.into(),
            max_len: None,
            padding: None,
            weights: Weights::Raw,
        }),
    };
    Field { first, ..Field::new(field.name, kind) }
}

fn sequences(row: &Row) -> Vec<device::Sequence> {
    // Where a row has more entries than 16 bits count, the library refuses it for that.
    let count = |n| u16::try_from(n).unwrap_or(u16::MAX);
    let sequence = |run: &Run| device::Sequence {
        start: count(run.start),
        len: count(run.len),
        pooling: run.pooling.into(),
        linear: run.linear.into(),
    };
    row.sequences.iter().map(sequence).collect()
}

fn sample<'s, V>(ids: &'s [u32], values: Option<&'s [V]>, dense: &'s [V]) -> device::Sample<'s, V> {
    let sample = device::Sample::new(ids).with_dense(dense);
    match values {
        Some(values) => sample.with_values(values),
        None => sample,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest f32 is what is asked for")]
fn f32s(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

/// The nearest fixed-point numbers.
fn q16s(values: &[f64], what: &str) -> core::result::Result<Vec<device::Q16>, String> {
    let number = |(position, value): (usize, &f64)| {
        q16(*value).ok_or_else(|| format!("{what} {position} is {value}, beyond the fixed path's ±32768"))
    };
    values.iter().enumerate().map(number).collect()
}
