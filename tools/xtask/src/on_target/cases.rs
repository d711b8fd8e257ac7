//! What is scored: models and rows that a seed or the demo gives, and the scores that the host computes for them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use embedded_nfm::{F32Model, Model, Q16, Sample};
use nfm::{
    calibrate::{Calibration, Ranges},
    convert::{calibrate, convert},
    dialect::{Hints, import},
    encoding::{self, raw::RawFields},
    float_model::FloatModel,
    fold::fold,
    model_file::Blob,
    quantize::{Activations, DenseWeights, Embeddings, Layout, Options, Scales},
    rows::{Row, Rows},
    schema::Schema,
    synthetic,
};

use crate::process::{Result, root};

/// Rows that are scored of each model.
pub(crate) const ROWS: usize = 200;
/// Rows that synthetic models are calibrated with.
const CALIBRATION_ROWS: usize = 1000;
/// Seeds of the synthetic models and of their rows.
const MODEL_SEED: u64 = 1;
const ROWS_SEED: u64 = 2;
const CALIBRATION_SEED: u64 = 3;

/// A row as the firmware gets it: values and dense inputs by their bits.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Bits {
    ids: Vec<u32>,
    values: Option<Vec<i32>>,
    dense: Vec<i32>,
}

/// A model, rows, and the scores that every core must give.
pub(crate) struct Case {
    /// The model's name in the report.
    pub(crate) model: &'static str,
    /// Its numbers: `int8`, `int4`, `mixed`, or a variant of these, or `f32`.
    pub(crate) precision: &'static str,
    /// Which cores its layers are packed for, where it exists for both.
    pub(crate) layout: Option<Layout>,
    pub(crate) blob: Blob,
    pub(crate) rows: Vec<Bits>,
    /// Bits of the host's scores.
    pub(crate) scores: Vec<i32>,
}

impl Case {
    /// Whether it takes an FPU.
    pub(crate) fn is_f32(&self) -> bool {
        self.precision == "f32"
    }

    /// Whether its cost is reported for a core of this layout; the other cases are there for their bits.
    pub(crate) fn is_measured(&self, layout: Layout) -> bool {
        ["int8", "int4", "mixed", "f32"].contains(&self.precision)
            && self.layout.is_none_or(|own| own == layout)
    }

    /// Whether it needs no feature of the library: 8-bit rows, no dense inputs, no values, rectifiers.
    pub(crate) fn is_lean(&self) -> bool {
        self.precision == "int8" && ["A", "B", "C"].contains(&self.model)
    }

    /// `model-precision[-layout]`, for messages and files.
    pub(crate) fn name(&self) -> String {
        let layout = match self.layout {
            None => "",
            Some(Layout::Dsp) => "-dsp",
            Some(Layout::Scalar) => "-scalar",
        };
        format!("{}-{}{layout}", self.model, self.precision)
    }

    /// Writes what the firmware reads into a folder of its own, and gives the folder.
    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf> {
        let folder = folder.join(self.name());
        let put = |file: &str, bytes: &[u8]| fs::write(folder.join(file), bytes);
        let words: Vec<u8> = self.rows.iter().flat_map(Bits::words).flat_map(i32::to_le_bytes).collect();
        fs::create_dir_all(&folder)
            .and_then(|()| put("model.nfm", self.blob.bytes()))
            .and_then(|()| put("rows.bin", &words))
            .map_err(|e| format!("{}: {e}", folder.display()))?;
        Ok(folder)
    }

    /// Compares the host's scores with the committed ones, or commits them.
    pub(crate) fn check_golden(&self, write: bool) -> Result<()> {
        let path = root().join("tests/golden/on-target").join(format!("{}.txt", self.name()));
        let advice = "if the arithmetic was meant to change, run `cargo xtask on-target --write-golden`";
        if write {
            let text: String = self.scores.iter().map(|score| format!("{score}\n")).collect();
            return fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()));
        }
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}; {advice}", path.display()))?;
        let golden = text.lines().map(str::parse).collect::<core::result::Result<Vec<i32>, _>>();
        let golden = golden.map_err(|e| format!("{}: {e}", path.display()))?;
        self.agree(&golden).map_err(|problem| format!("{}: the host {problem}; {advice}", path.display()))
    }

    /// Whether `scores` are the host's: to the bit, or on the f32 path within [`F32_BOUND`].
    pub(crate) fn agree(&self, scores: &[i32]) -> Result<()> {
        if scores.len() != self.scores.len() {
            return Err(format!("gives {} scores instead of {}", scores.len(), self.scores.len()));
        }
        let mut pairs = scores.iter().zip(&self.scores).enumerate();
        let differs = |(_, (a, b)): &(usize, (&i32, &i32))| {
            if self.is_f32() { (float(**a) - float(**b)).abs() > F32_BOUND } else { a != b }
        };
        match pairs.find(differs) {
            None => Ok(()),
            Some((row, (got, want))) => Err(format!("gives bits {got} instead of {want} for row {row}")),
        }
    }
}

/// How far f32 scores may differ between machines: other compilers and math functions round otherwise.
pub(crate) const F32_BOUND: f32 = 1e-5;

fn float(bits: i32) -> f32 {
    f32::from_bits(bits.cast_unsigned())
}

impl Bits {
    fn words(&self) -> impl Iterator<Item = i32> + '_ {
        let values = self.values.as_deref().unwrap_or_default();
        let lens = [self.ids.len(), values.len(), self.dense.len()].map(count);
        let ids = self.ids.iter().map(|id| id.cast_signed());
        lens.into_iter().chain(ids).chain(values.iter().copied()).chain(self.dense.iter().copied())
    }

    fn of_row(row: &Row, number: fn(f64) -> i32) -> Self {
        let numbers = |values: &[f64]| values.iter().map(|value| number(*value)).collect();
        let values = row.values.as_deref().map(numbers);
        Self { ids: row.ids.clone(), values, dense: numbers(&row.dense) }
    }

    /// A line of a golden file in `tests/golden`, without its score.
    fn of_line(line: &str) -> Option<Self> {
        let mut parts = line.split('|').map(str::split_whitespace);
        let (mut ids, mut values) = (Vec::new(), Vec::new());
        for entry in parts.next()? {
            let (id, value) = entry.split_once(':').map_or((entry, None), |(id, value)| (id, Some(value)));
            ids.push(id.parse().ok()?);
            values.extend(value.map(str::parse::<i32>).transpose().ok()?);
        }
        let dense = parts.next()?.map(str::parse).collect::<core::result::Result<_, _>>().ok()?;
        Some(Self { ids, values: Some(values).filter(|values| !values.is_empty()), dense })
    }
}

fn count(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}

/// All cases: the measured models with every width of embeddings, packed for either kind of core, and what else the library
/// can do.
pub(crate) fn cases() -> Result<Vec<Case>> {
    let (mut demo, ranges, rows) = demo()?;
    // Encoders are measured by cases of their own.
    demo.fields.iter_mut().for_each(|field| field.encoding = encoding::spec::Encoding::default());
    let mut cases = measured("demo", &demo, &ranges, &rows)?;
    let i8_activations = Options { activations: Activations::I8, ..Options::default() };
    let lane_row = Options { scales: Scales::LaneRow, ..Options::default() };
    for (precision, options) in [("int8-activations-i8", i8_activations), ("int8-scales-lane-row", lane_row)]
    {
        cases.push(converted(("demo", precision), &demo, &ranges, options, &rows)?);
    }
    for shape in synthetic::SHAPES {
        let model = synthetic::model(shape, MODEL_SEED);
        let folded = fold(&model);
        let mut calibration = Calibration::new(&model, &folded);
        synthetic::rows(&model, CALIBRATION_ROWS, CALIBRATION_SEED)
            .iter()
            .for_each(|row| calibration.see(row));
        let ranges = calibration.finish().ok_or("no row to calibrate with")?;
        let rows = synthetic::rows(&model, ROWS, ROWS_SEED);
        cases.extend(measured(shape.name, &model, &ranges, &rows)?);
    }
    cases.push(wide("int8-values", "wide")?);
    cases.push(wide("int8-values-dsp", "wide-dsp")?);
    cases.push(wide("mixed-values", "wide-i4")?);
    Ok(cases)
}

/// A model in the precisions that are measured.
fn measured(name: &'static str, model: &FloatModel, ranges: &Ranges, rows: &[Row]) -> Result<Vec<Case>> {
    let int8 = Options::default();
    let f32 = Options { embeddings: Embeddings::F32, dense: DenseWeights::F32, ..int8 };
    let mut cases = vec![converted((name, "f32"), model, ranges, f32, rows)?];
    for (precision, embeddings) in
        [("int8", Embeddings::I8), ("int4", Embeddings::I4), ("mixed", Embeddings::Mixed)]
    {
        for layout in [Layout::Scalar, Layout::Dsp] {
            let options = Options { embeddings, layout, ..int8 };
            let case = converted((name, precision), model, ranges, options, rows)?;
            cases.push(Case { layout: Some(layout), ..case });
        }
    }
    Ok(cases)
}

fn converted(
    (name, precision): (&'static str, &'static str),
    model: &FloatModel,
    ranges: &Ranges,
    options: Options,
    rows: &[Row],
) -> Result<Case> {
    let converted = convert(name, name, model, Some(ranges.clone()), options).map_err(|e| e.to_string())?;
    case(name, precision, converted.blob, rows)
}

/// The demo's model, its ranges, and the first of its held-out rows.
pub(crate) fn demo() -> Result<(FloatModel, Ranges, Vec<Row>)> {
    let file = |name: &str| root().join("tools/nfm/demo").join(name);
    let text = |e: nfm::error::Error| e.to_string();
    let hints = Hints { schema: Some(Schema::read(&file("schema.json")).map_err(text)?), ..Hints::default() };
    let tensors = nfm::container::read(&file("flights.pt")).map_err(text)?;
    let mut model = import(tensors, &hints).map_err(text)?;
    let raw = RawFields::new(&model.fields, encoding::section::Path::F32)?;
    let rows = Rows::open_raw(&file("calibrate.csv.gz"), &raw).map_err(text)?;
    let ranges = calibrate(&mut model, rows, "calibrate.csv.gz", true).map_err(text)?;
    let heldout = Rows::open_raw(&file("heldout.csv.gz"), &raw).map_err(text)?;
    let heldout = heldout.take(ROWS).collect::<core::result::Result<_, _>>().map_err(text)?;
    Ok((model, ranges, heldout))
}

/// One of the library's own goldens with values, dense inputs and every activation.
fn wide(precision: &'static str, file: &str) -> Result<Case> {
    let folder = root().join("tests/golden");
    let read = |name: String| fs::read(folder.join(&name)).map_err(|e| format!("{name}: {e}"));
    let text = String::from_utf8(read(format!("{file}.scores.txt"))?).map_err(|e| e.to_string())?;
    let rows: Option<Vec<Bits>> = text.lines().map(Bits::of_line).collect();
    let rows = rows.ok_or_else(|| format!("{file}.scores.txt: a line is no sample"))?;
    of_bits("wide", precision, Blob::new(&read(format!("{file}.nfm"))?), rows)
}

fn case(model: &'static str, precision: &'static str, blob: Blob, rows: &[Row]) -> Result<Case> {
    let number = number_bits(precision == "f32");
    let rows = rows.iter().map(|row| Bits::of_row(row, number)).collect();
    of_bits(model, precision, blob, rows)
}

/// A number as the bits of an arithmetic path.
#[expect(clippy::cast_possible_truncation, reason = "numbers of the demo, far inside both ranges")]
pub(super) fn number_bits(is_f32: bool) -> fn(f64) -> i32 {
    if is_f32 {
        |value| (value as f32).to_bits().cast_signed()
    } else {
        |value| (value * 65536.0).round() as i32
    }
}

/// Scores the rows.
fn of_bits(model: &'static str, precision: &'static str, blob: Blob, rows: Vec<Bits>) -> Result<Case> {
    let scores = if precision == "f32" { score_f32(&blob, &rows) } else { score_fixed(&blob, &rows) };
    let scores = scores.map_err(|e| format!("{model}-{precision}: {e}"))?;
    Ok(Case { model, precision, layout: None, blob, rows, scores })
}

fn score_fixed(blob: &Blob, rows: &[Bits]) -> Result<Vec<i32>> {
    let model = Model::parse(blob.bytes()).map_err(|e| e.to_string())?;
    let mut scratch = vec![0; model.scratch_len()];
    let q16s = |bits: &[i32]| bits.iter().copied().map(Q16::from_bits).collect::<Vec<_>>();
    let score = |row: &Bits| {
        let (values, dense) = (row.values.as_deref().map(q16s), q16s(&row.dense));
        let sample = Sample::new(&row.ids).with_dense(&dense);
        let sample = values.as_deref().map_or(sample, |values| sample.with_values(values));
        model.score(&sample, &mut scratch).map(Q16::to_bits).map_err(|e| e.to_string())
    };
    rows.iter().map(score).collect()
}

fn score_f32(blob: &Blob, rows: &[Bits]) -> Result<Vec<i32>> {
    let model = F32Model::parse(blob.bytes()).map_err(|e| e.to_string())?;
    let mut scratch = vec![0.0; model.scratch_len()];
    let f32s = |bits: &[i32]| bits.iter().copied().map(float).collect::<Vec<_>>();
    let score = |row: &Bits| {
        let (values, dense) = (row.values.as_deref().map(f32s), f32s(&row.dense));
        let sample = Sample::new(&row.ids).with_dense(&dense);
        let sample = values.as_deref().map_or(sample, |values| sample.with_values(values));
        model.score(&sample, &mut scratch).map(|y| y.to_bits().cast_signed()).map_err(|e| e.to_string())
    };
    rows.iter().map(score).collect()
}
