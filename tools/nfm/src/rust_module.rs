//! A Rust module over a model file: what a program must know of the model when it is compiled.
//!
//! The module stands for one file, whose checksum it asserts at compile time. A field's constant has the field's name in capitals:
//!
//! * words are separated by `_`, also where `camelCase` is;
//! * what is no ASCII letter or digit is left out; a name of which nothing is left is `FIELD`, and one that starts with a digit has
//!   `FIELD_` before it. No keyword is in capitals;
//! * fields that would have the same constant have their positions behind it, all of them, so that neither is taken for the other.

use std::{
    collections::HashMap,
    fmt::Write,
    path::{Component, Path as FilePath},
};

use embedded_nfm::{
    self as device,
    encode::{Encoder, Encoders, FieldEncoder, KeyKind, Number, Padding, Policy, SequenceRule},
};
use heck::ToShoutySnakeCase;

use crate::{
    encoding::section::{Path, section},
    error::{Error, Result},
    model_file::{Blob, Scorer},
    rows::write_file,
    schema,
};

/// The width that code is broken at, which is rustfmt's own.
const WIDTH: usize = 100;

/// Writes the module for the model file at `model`, which is written already: all of it, or none.
///
/// `origin` says what the model was made of.
///
/// # Errors
///
/// When the operating system refuses, and when a path from the module to the model cannot be written as a text.
pub fn write(module: &FilePath, model: &FilePath, blob: &Blob, origin: &str) -> Result<()> {
    let refused = |problem: String| Error::refused(&module.display().to_string(), "", problem);
    let text = rust_module(blob, &relative(module, model)?, origin).map_err(refused)?;
    write_file(module, text.as_bytes()).map_err(|e| Error::io(module, e))
}

/// The module's text, for the model that lies at `path` relative to the module.
///
/// # Errors
///
/// When the blob is no model, or its encoders are none.
pub fn rust_module(blob: &Blob, path: &str, origin: &str) -> core::result::Result<String, String> {
    let scorer = Scorer::parse(blob).map_err(|e| e.to_string())?;
    let (info, arithmetic) = match &scorer {
        Scorer::Fixed(model, _) => (model.info(), Path::Fixed),
        Scorer::F32(model, _) => (model.info(), Path::F32),
        Scorer::Oracle(_) => return Err("expected a .nfm file, found a checkpoint".into()),
    };
    let words = if info.encoders.is_empty() { section(&scorer.fields(), arithmetic)? } else { Vec::new() };
    let own = Some(bytemuck::cast_slice(&words)).filter(|bytes: &&[u8]| !bytes.is_empty());
    Ok(Facts::of(info, arithmetic, own)?.text(blob, path, origin))
}

/// The path from the folder of `module` to `model`, with `/` on every system.
fn relative(module: &FilePath, model: &FilePath) -> Result<String> {
    let folder =
        module.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(FilePath::new("."));
    let real = |path: &FilePath| path.canonicalize().map_err(|e| Error::io(path, e));
    let (folder, target) = (real(folder)?, real(model)?);
    let common = folder.components().zip(target.components()).take_while(|(a, b)| a == b).count();
    let text = |part: Component<'_>| part.as_os_str().to_str().map(str::to_owned);
    let up = folder.components().skip(common).map(|_| Some("..".to_owned()));
    let parts: Option<Vec<String>> = up.chain(target.components().skip(common).map(text)).collect();
    parts.map(|parts| parts.join("/")).ok_or_else(|| {
        let problem = "expected a path in UTF-8, since the Rust module names it; say another -o";
        Error::refused(&model.display().to_string(), "", problem)
    })
}

/// What a module says.
struct Facts<'a> {
    model: &'static str,
    number: &'static str,
    scratch: &'static str,
    fields: Vec<(device::Field<'a>, FieldEncoder<'a>)>,
    max_active: u16,
    /// The section of encoders that the module has, where the model file has none.
    section: Option<&'a [u8]>,
}

impl<'a> Facts<'a> {
    fn of(
        info: &device::Info<'a>,
        arithmetic: Path,
        section: Option<&'a [u8]>,
    ) -> core::result::Result<Self, String> {
        let (model, number, scratch, fields) = match arithmetic {
            Path::Fixed => ("Model", "embedded_nfm::Q16", "u32", encoders::<device::Q16>(info, section)?),
            Path::F32 => ("F32Model", "f32", "f32", encoders::<f32>(info, section)?),
        };
        Ok(Self { model, number, scratch, fields, max_active: info.max_active, section })
    }

    fn count(&self, is: fn(device::FieldKind) -> bool) -> usize {
        self.fields.iter().filter(|(field, _)| is(field.kind)).count()
    }

    fn text(&self, blob: &Blob, path: &str, origin: &str) -> String {
        let Self { model, number, scratch, .. } = self;
        let (parameter, section) = match self.section {
            Some(_) => ("_model", "&ENCODERS.0"),
            None => ("model", "model.info().encoders"),
        };
        format!(
            r#"{head}
/// Elements of scratch that a score needs, each a `{scratch}`.
pub const SCRATCH_LEN: usize = embedded_nfm::scratch_len(MODEL);

/// The most entries of a sample.
pub const MAX_ENTRIES: usize = {max_entries};

/// The dense inputs of a sample.
pub const DENSE_INPUTS: usize = {dense_inputs};
{sequences}
/// The model's fields.
pub const FIELDS: usize = {fields};

/// The numbers of the model's arithmetic.
pub type Number = {number};

/// The model, checked.
pub type Model = embedded_nfm::{model}<'static>;

/// Memory of a sample.
pub type Memory = embedded_nfm::encode::SampleMemory<Number, MAX_ENTRIES, DENSE_INPUTS, FIELDS>;

/// Builds samples from raw values, field by field.
pub type Builder<'b> =
    embedded_nfm::encode::SampleBuilder<'b, 'static, Number, embedded_nfm::Fields<'static>>;

/// Checks the model file, and gives the model; once is enough.
///
/// # Errors
///
/// As `parse`, which took this file when this module was generated.
pub fn model() -> Result<Model, embedded_nfm::ParseError> {{
    Model::parse(MODEL)
}}

/// Checks the encoders, and gives a builder of samples; once is enough, since it can be cleared.
///
/// # Errors
///
/// As `parse`, which took these encoders when this module was generated.
pub fn builder<'b>(
    {parameter}: &'b Model,
    memory: &'b mut Memory,
) -> Result<Builder<'b>, embedded_nfm::encode::EncodersError> {{
    let encoders = embedded_nfm::encode::Encoders::parse({section}, &TABLE)?;
    Ok(Builder::new(encoders, &TABLE, memory))
}}
{encoders}
/// The fields as the model file has them, but found without decoding those before.
#[rustfmt::skip]
static TABLE: embedded_nfm::Fields<'static> = embedded_nfm::Fields::Listed(&[
{table}]);

/// The fields, for [`Builder`]: one that is misspelt does not compile.
pub mod field {{
    use embedded_nfm::encode::FieldIndex;
{constants}}}
"#,
            head = head(blob, path, origin),
            max_entries = max_entries(&self.fields, self.max_active),
            dense_inputs = self.count(|kind| kind == device::FieldKind::Dense),
            sequences = self.sequences_text(),
            fields = self.fields.len(),
            encoders = self.section.map(section_text).unwrap_or_default(),
            table = self.table_text(),
            constants = self.constants_text(),
        )
    }

    fn sequences_text(&self) -> String {
        match self.count(|kind| matches!(kind, device::FieldKind::Sequence { .. })) {
            0 => String::new(),
            count => format!(
                r#"
/// The sequences of a sample, which a builder gives by `sequences::<SEQUENCES>()`.
pub const SEQUENCES: usize = {count};
"#
            ),
        }
    }

    fn table_text(&self) -> String {
        let line = |(field, _): &(device::Field<'_>, FieldEncoder<'_>)| {
            format!(
                "    embedded_nfm::Field {{ name: {:?}, kind: {} }},\n",
                field.name,
                kind_code(field.kind)
            )
        };
        self.fields.iter().map(line).collect()
    }

    fn constants_text(&self) -> String {
        let names = constants(self.fields.iter().map(|(field, _)| field.name));
        let lines = self.fields.iter().zip(names).enumerate().map(|(at, ((field, encoder), name))| {
            let (start, end) = (format!("    pub const {name}: FieldIndex ="), format!("FieldIndex({at});"));
            let space = if start.len() + 1 + end.len() <= WIDTH { " " } else { "\n        " };
            format!("\n    /// {}\n{start}{space}{end}\n", field_text(field, encoder))
        });
        lines.collect()
    }
}

/// A model's fields, each with its encoder in this section or in the model's own.
fn encoders<'a, V: Number>(
    info: &device::Info<'a>,
    section: Option<&'a [u8]>,
) -> core::result::Result<Vec<(device::Field<'a>, FieldEncoder<'a>)>, String> {
    let encoders = Encoders::<V>::parse(section.unwrap_or(info.encoders), &info.fields);
    let encoders = encoders.map_err(|e| e.to_string())?;
    Ok(info.fields.iter().zip(0..).map(|(field, at)| (field, encoders.encoder(at))).collect())
}

/// Where the module comes from, the model's bytes, and the proof that they are the right ones.
fn head(blob: &Blob, path: &str, origin: &str) -> String {
    let prefix = blob.bytes().first_chunk::<{ device::PREFIX_BYTES }>();
    let [a, b, c, d] = prefix.and_then(|prefix| prefix.last_chunk()).copied().unwrap_or_default();
    let file = FilePath::new(path).file_name().unwrap_or_default().to_string_lossy();
    format!(
        r#"// Generated by nfm {version} from {origin}; generate it again rather than edit it.
// {file}: {bytes} bytes, CRC-32 {checksum:08x}.
//
// It is to be a module of its own: `mod model;`, or `mod model {{ include!("..."); }}`.

/// The model file, in flash.
pub static MODEL: &[u8] = embedded_nfm::include_model!({path:?});

// What this module says is true of the file with this checksum alone.
const _: () = assert!(
    matches!(
        MODEL.first_chunk::<{{ embedded_nfm::PREFIX_BYTES }}>(),
        Some([.., {a:#04x}, {b:#04x}, {c:#04x}, {d:#04x}])
    ),
    "the model file is not the one that this module was generated for: run nfm convert again"
);
"#,
        version = env!("CARGO_PKG_VERSION"),
        origin = printable(origin),
        file = printable(&file),
        bytes = blob.bytes().len(),
        checksum = u32::from_le_bytes([a, b, c, d]),
    )
}

fn section_text(bytes: &[u8]) -> String {
    let len = bytes.len();
    let mut text = format!(
        r#"
/// Encoders that take ids and numbers as they are: the model file has none.
static ENCODERS: embedded_nfm::Aligned<[u8; {len}]> = embedded_nfm::Aligned([
"#
    );
    // Four characters before the first one, six for each, but no space after the last.
    for line in bytes.chunks((WIDTH - 4 + 1) / 6) {
        let elements: Vec<String> = line.iter().map(|byte| format!("{byte:#04x},")).collect();
        let _ = writeln!(text, "    {}", elements.join(" "));
    }
    text + "]);\n"
}

/// The most entries that a sample of these fields has while it is built.
///
/// One for each id and scaled number, `max_len` for each list of ids. Where a list has no limit of its own, all entries together
/// are as many as the model takes: more cannot be scored.
fn max_entries(fields: &[(device::Field<'_>, FieldEncoder<'_>)], max_active: u16) -> usize {
    let room = |(field, encoder): &(device::Field<'_>, FieldEncoder<'_>)| match field.kind {
        device::FieldKind::Dense => Some(0),
        device::FieldKind::Id { .. } | device::FieldKind::Scaled { .. } => Some(1),
        device::FieldKind::Ids { .. } | device::FieldKind::Sequence { .. } => {
            Some(encoder.sequence.max_len).filter(|len| *len != u16::MAX).map(usize::from)
        }
    };
    let limited: usize = fields.iter().filter_map(room).sum();
    if fields.iter().all(|field| room(field).is_some()) { limited } else { limited.max(max_active.into()) }
}

/// A constant's name for each field.
fn constants<'a>(fields: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = fields.map(constant).collect();
    loop {
        let mut counts = HashMap::new();
        names.iter().for_each(|name| *counts.entry(name.clone()).or_insert(0) += 1);
        if counts.len() == names.len() {
            return names;
        }
        // Names that end with different positions differ: of two that are the same, one grows for the first time. So this ends.
        for (at, name) in names.iter_mut().enumerate().filter(|(_, name)| counts[*name] > 1) {
            let _ = write!(name, "_{at}");
        }
    }
}

fn constant(field: &str) -> String {
    let name = field.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_shouty_snake_case();
    match name.chars().next() {
        None => "FIELD".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("FIELD_{name}"),
        Some(_) => name,
    }
}

/// What a field holds and how it is encoded, in a line.
fn field_text(field: &device::Field<'_>, encoder: &FieldEncoder<'_>) -> String {
    let name = printable(field.name);
    let policy = |policy| policy_text(policy, &encoder.encoder);
    format!(
        "`{name}`: {}{}{}; unseen: {}, missing: {}.",
        kind_text(field.kind),
        encoder_text(&encoder.encoder),
        sequence_text(encoder.sequence),
        policy(encoder.unseen),
        policy(encoder.missing)
    )
}

/// The kind as Rust.
fn kind_code(kind: device::FieldKind) -> String {
    let code = match kind {
        device::FieldKind::Sequence { first, rows, pooling, linear } => {
            let [pooling, linear] =
                [pooling, linear].map(|pooling| format!("embedded_nfm::Pooling::{pooling:?}"));
            format!("Sequence {{ first: {first}, rows: {rows}, pooling: {pooling}, linear: {linear} }}")
        }
        kind => format!("{kind:?}"),
    };
    format!("embedded_nfm::FieldKind::{code}")
}

fn kind_text(kind: device::FieldKind) -> String {
    let (_, rows) = kind.rows();
    match kind {
        device::FieldKind::Id { .. } => format!("an id of {rows} rows"),
        device::FieldKind::Ids { .. } => format!("ids of {rows} rows, each with a value"),
        device::FieldKind::Sequence { pooling, .. } => {
            format!("a sequence of {rows} rows, {}", schema::Pooling::from(pooling).name())
        }
        device::FieldKind::Scaled { .. } => "a number that is the value of a row".to_owned(),
        device::FieldKind::Dense => "a dense input".to_owned(),
    }
}

fn encoder_text(encoder: &Encoder<'_>) -> String {
    match encoder {
        Encoder::Id => String::new(),
        Encoder::Vocabulary(table) => {
            let kind = if table.kind() == KeyKind::Text { "texts" } else { "integers" };
            format!(", by a vocabulary of {} {kind}", table.keys())
        }
        Encoder::Hash(hashing) => format!(", by a hash with {} buckets", hashing.buckets),
        Encoder::Buckets(buckets) => format!(", by {} boundaries", buckets.boundaries.len()),
        Encoder::Number(_) | Encoder::F32Number(_) => ", shifted and scaled".to_owned(),
    }
}

fn sequence_text(rule: SequenceRule) -> String {
    let mut text = match rule {
        SequenceRule { max_len: 1 | u16::MAX, .. } => String::new(),
        SequenceRule { max_len, keep_last: true, .. } => format!("; the last {max_len} of more"),
        SequenceRule { max_len, .. } => format!("; the first {max_len} of more"),
    };
    let _ = match rule.padding {
        Padding::None => Ok(()),
        Padding::Skip(id) => write!(text, "; without padding, which is id {id}"),
        Padding::Fill(id) => write!(text, "; filled up with id {id}"),
    };
    text
}

fn policy_text(policy: Policy, encoder: &Encoder<'_>) -> String {
    match (policy, encoder) {
        (Policy::Error, _) => "an error".to_owned(),
        (Policy::Zero, _) => "nothing".to_owned(),
        (Policy::Clamp, _) => "the nearest".to_owned(),
        (Policy::Use(bits), Encoder::Number(_)) => {
            device::Q16::from_bits(bits.cast_signed()).to_f64().to_string()
        }
        (Policy::Use(bits), Encoder::F32Number(_)) => f32::from_bits(bits).to_string(),
        (Policy::Use(id), _) => format!("id {id}"),
    }
}

/// A text that ends no comment, and hides nothing in it.
fn printable(text: &str) -> String {
    text.escape_debug().to_string().replace('`', "\\u{60}")
}
