//! Raw flights on target: texts and integers in, the scores of what the pipeline in Python encoded out, by a program with the Rust
//! module that `nfm convert --emit-rust` writes.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;
use nfm::{
    convert::convert,
    model_file::{Blob, Scorer},
    quantize::{DenseWeights, Embeddings, Layout, Options},
    rows::{Row, Rows},
    rust_module,
};

use super::{
    Failures, Line, Size,
    cases::{F32_BOUND, ROWS, demo, number_bits},
    firmware::{Build, Core, Emulator, LEVELS, build_programs, built},
    image::Image,
    line,
};
use crate::process::{Result, root};

/// What is measured of a flight: making a sample of it, and that with its score.
const WHATS: [&str; 2] = ["set", "score"];

/// Models in the report.
const FIXED: &str = "flights";
const F32: &str = "flights-f32";

/// A model of flights, and the cores that it is for.
struct Model {
    /// Its name in the report.
    name: &'static str,
    options: Options,
    is_for: fn(&Core) -> bool,
}

fn models() -> [Model; 3] {
    let packed = |layout| Options { layout, ..Options::default() };
    let f32 = Options { embeddings: Embeddings::F32, dense: DenseWeights::F32, ..Options::default() };
    [
        Model { name: FIXED, options: packed(Layout::Scalar), is_for: |core| core.layout == Layout::Scalar },
        Model { name: FIXED, options: packed(Layout::Dsp), is_for: |core| core.layout == Layout::Dsp },
        Model { name: F32, options: f32, is_for: |core| core.has_fpu },
    ]
}

/// Flights, raw and encoded by the pipeline in Python.
struct Flights {
    raw: String,
    encoded: Vec<Row>,
}

/// Builds and runs everything; what does not agree goes to `failures`.
pub(crate) fn measure(
    cores: &[&'static Core],
    emulator: &Emulator,
    folder: &Path,
    failures: &mut Failures,
) -> Result<Vec<Line>> {
    let (demo, ranges, _) = demo()?;
    let encoded = Rows::open(&file("heldout.ids.csv.gz"), &demo.fields).map_err(|e| e.to_string())?;
    let encoded = encoded.take(ROWS).collect::<core::result::Result<_, _>>().map_err(|e| e.to_string())?;
    let flights = Flights { raw: raw(&file("heldout.csv.gz"))?, encoded };
    let mut lines = Vec::new();
    for model in models() {
        let cores: Vec<&'static Core> = cores.iter().copied().filter(|core| (model.is_for)(core)).collect();
        let converted = convert(model.name, "flights.pt", &demo, Some(ranges.clone()), model.options);
        let blob = converted.map_err(|e| e.to_string())?.blob;
        let folder = folder.join(model.name);
        let expected = flights.expected(&blob)?;
        flights.write(&folder)?;
        let module = emit(&blob, &folder)?;
        for level in LEVELS {
            if !cores.is_empty() {
                build(&cores, level, &module)?;
            }
            for core in &cores {
                lines.extend(run(core, level, model.name, &expected, (emulator, &folder), failures)?);
            }
        }
    }
    // In the order of the report: a core's lines together.
    lines.sort_by_key(|line: &Line| cores.iter().position(|core| core.name == line.core));
    Ok(lines)
}

fn file(name: &str) -> PathBuf {
    root().join("tools/nfm/demo").join(name)
}

/// The first rows of a file, without its heading and without labels.
fn raw(path: &Path) -> Result<String> {
    let text = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut rows = String::new();
    GzDecoder::new(fs::File::open(path).map_err(text)?).read_to_string(&mut rows).map_err(text)?;
    let flight = |line: &str| line.split_once(',').map(|(_, flight)| format!("{flight}\n"));
    rows.lines().skip(1).take(ROWS).map(flight).collect::<Option<_>>().ok_or("a row has no label".into())
}

impl Flights {
    /// What each of [`WHATS`] must give of each flight.
    fn expected(&self, blob: &Blob) -> Result<[Vec<i32>; 2]> {
        let mut scorer = Scorer::parse(blob).map_err(|e| e.to_string())?;
        let bits = number_bits(matches!(scorer, Scorer::F32(..)));
        let digests = self.encoded.iter().map(|row| digest(row, bits)).collect();
        let scores: Result<_> =
            self.encoded.iter().map(|row| scorer.score(row).map(|scored| bits(scored.raw))).collect();
        Ok([digests, scores?])
    }

    /// Writes what the firmware reads: a folder for each of [`WHATS`].
    fn write(&self, folder: &Path) -> Result<()> {
        for what in WHATS {
            let folder = folder.join(what);
            fs::create_dir_all(&folder)
                .and_then(|()| fs::write(folder.join("flights.csv"), &self.raw))
                .and_then(|()| fs::write(folder.join("what.txt"), what))
                .map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        Ok(())
    }
}

/// A hash of the ids and of the dense inputs' bits, as the firmware has it.
fn digest(row: &Row, bits: fn(f64) -> i32) -> i32 {
    let dense = row.dense.iter().map(|number| bits(*number).cast_unsigned());
    let words = row.ids.iter().copied().chain(dense);
    words.fold(0_u32, |digest, word| (digest ^ word).wrapping_mul(0x0100_0193)).cast_signed()
}

/// Writes a model and its module, and gives the module's path.
fn emit(blob: &Blob, folder: &Path) -> Result<PathBuf> {
    let (model, module) = (folder.join("flights.nfm"), folder.join("flights.rs"));
    blob.write(&model)
        .and_then(|()| rust_module::write(&module, &model, blob, "flights.pt"))
        .map_err(|e| e.to_string())?;
    Ok(module)
}

fn build(cores: &[&'static Core], level: &str, module: &Path) -> Result<()> {
    let variable = format!("env.NFM_MODULE={:?}", module.display().to_string());
    build_programs(
        cores,
        Build::Whole,
        level,
        &[
            "--bin",
            "raw",
            "--bin",
            "size-raw",
            "--bin",
            "size-empty",
            "--features",
            "raw",
            "--config",
            &variable,
        ],
    )
}

/// Runs the program that was built last.
fn run(
    core: &'static Core,
    level: &'static str,
    model: &'static str,
    expected: &[Vec<i32>; 2],
    (emulator, folder): (&Emulator, &Path),
    failures: &mut Failures,
) -> Result<Vec<Line>> {
    let image = Image::read(&built(core, Build::Whole, "size-raw"))?;
    let context = format!("{} {model} O{level}", core.name);
    failures.add(&context, image.check_panics().err());
    failures.add(&context, if core.has_fpu { None } else { image.check_floats().err() });
    let empty = Image::read(&built(core, Build::Whole, "size-empty"))?.size;
    let size = if model == FIXED { image.size.beyond(empty) } else { Size::default() };
    let mut lines = Vec::new();
    for (what, expected) in WHATS.into_iter().zip(expected) {
        let context = format!("{} {model} {what} O{level}", core.name);
        let run = emulator.run(core, &built(core, Build::Whole, "raw"), &folder.join(what));
        let run = run.map_err(|e| format!("{context}: {e}"))?;
        let within = if model == F32 && what == "score" { F32_BOUND } else { 0.0 };
        failures.add(&context, agree(&run.scores, expected, within).err());
        lines.push(line(core, (model, what), level, &run, (size, Size::default())));
    }
    Ok(lines)
}

/// Whether `found` is what the host has: to the bit, or as floats within a bound that is not 0.
fn agree(found: &[i32], expected: &[i32], within: f32) -> Result<()> {
    if found.len() != expected.len() {
        return Err(format!("gives {} results instead of {}", found.len(), expected.len()));
    }
    let float = |bits: i32| f32::from_bits(bits.cast_unsigned());
    let same = |(a, b): (&i32, &i32)| a == b || (float(*a) - float(*b)).abs() < within;
    match found.iter().zip(expected).position(|pair| !same(pair)) {
        None => Ok(()),
        Some(at) => Err(format!("gives {} instead of {} for flight {at}", found[at], expected[at])),
    }
}

/// The README's table: instructions of a flight on the fixed path by core, and what it takes beside them.
pub(crate) fn summary(lines: &[Line]) -> String {
    let mut text = format!("{:11}{:4}{:>9}{:>9}{:>9}{:>9}\n", "", "opt", "set", "score", "RAM", "flash");
    let lines: Vec<&Line> = lines.iter().filter(|line| line.model == FIXED).collect();
    for pair in lines.chunks(WHATS.len()) {
        let Line { core, opt_level, cost, .. } = pair[pair.len() - 1];
        let set = pair[0].cost.instructions_score;
        let ram = cost.stack_bytes + cost.scratch_bytes;
        let (score, flash) = (cost.instructions_score, cost.flash_bytes);
        text.push_str(&format!("{core:11}{opt_level:4}{set:>9}{score:>9}{ram:>9}{flash:>9}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{F32_BOUND, agree};

    #[test]
    fn other_bits_and_missing_results_are_refused() {
        assert!(agree(&[1, -2], &[1, -2], 0.0).is_ok());
        assert!(agree(&[1, -2], &[1, -1], 0.0).unwrap_err().contains("flight 1"));
        assert!(agree(&[1], &[1, -1], 0.0).unwrap_err().contains("1 results instead of 2"));
    }

    #[test]
    fn floats_may_differ_by_their_bound_and_no_more() {
        let bits = |number: f32| [number.to_bits().cast_signed()];
        assert!(agree(&bits(0.5), &bits(0.500_001), F32_BOUND).is_ok());
        assert!(agree(&bits(0.5), &bits(0.500_1), F32_BOUND).is_err());
        assert!(agree(&bits(0.5), &bits(-0.5), F32_BOUND).is_err());
        assert!(agree(&bits(f32::NAN), &bits(0.5), F32_BOUND).is_err());
    }
}
