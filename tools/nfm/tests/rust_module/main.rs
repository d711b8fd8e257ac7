//! Rust modules over models, as a firmware engineer uses them: compiled by cargo in crates of their own, and run.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use nfm::{
    convert::convert,
    encoding::spec,
    float_model::FloatModel,
    model_file::{Blob, Scorer},
    quantize::{DenseWeights, Embeddings, Options},
    rows::{Row, Run},
    rust_module,
    schema::{Field, FieldKind, Pooling, Sequence, Weights, lay_out},
    synthetic::{self, Shape},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A crate that depends on the library, in a folder of its own.
struct Crate {
    folder: PathBuf,
}

impl Crate {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rust-module").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("src")).unwrap();
        let manifest = format!(
            "[package]\nname = {name:?}\nedition = \"2024\"\n[workspace]\n[dependencies]\nembedded-nfm = {{ path = {:?} }}\n",
            root()
        );
        let made = Self { folder };
        made.file("Cargo.toml", &manifest);
        // rustfmt's own style, and not that of this repository.
        made.file("rustfmt.toml", "");
        fs::copy(root().join("Cargo.lock"), made.folder.join("Cargo.lock")).unwrap();
        made
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap();
    }

    /// Runs cargo, with all crates in one folder of results.
    fn cargo(&self, command: &str, input: &str) -> Output {
        let mut child = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args([command, "--quiet", "--offline", "--target-dir"])
            .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("rust-module-target"))
            .current_dir(&self.folder)
            .env("RUSTFLAGS", "--deny warnings")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// What the program prints.
    fn run(&self, input: &str) -> String {
        let output = self.cargo("run", input);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What the compiler says.
    fn refused(&self) -> String {
        let output = self.cargo("check", "");
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    fn is_formatted(&self, name: &str) {
        for edition in ["2021", "2024"] {
            let mut rustfmt = Command::new("rustfmt");
            let output =
                rustfmt.args(["--check", "--edition", edition]).arg(self.path(name)).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
    }
}

fn nfm(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nfm")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn ok(arguments: &[&str]) -> String {
    let output = nfm(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn demo(file: &str) -> String {
    root().join("tools/nfm/demo").join(file).to_str().unwrap().to_owned()
}

/// The rows of a file of the demo.
fn lines(file: &str) -> String {
    let file = fs::File::open(demo(file)).unwrap();
    std::io::read_to_string(flate2::read::GzDecoder::new(file)).unwrap()
}

/// A program that scores what it is given as the README does, and then each flight of its input.
fn program(readme: &str) -> String {
    let start = readme.find("```rust\nmod flights;").expect("the README has an example")
        + "```rust\nmod flights;".len();
    let example = &readme[start..start + readme[start..].find("```").unwrap()];
    format!(
        r#"mod flights;

struct Refused(String);

impl<E: core::fmt::Display> From<E> for Refused {{
    fn from(error: E) -> Self {{
        Self(error.to_string())
    }}
}}

fn main() {{
    if let Err(Refused(problem)) = example().and_then(|()| all()) {{
        panic!("{{problem}}");
    }}
}}

fn example() -> Result<(), Refused> {{
    {example}
    let embedded_nfm::Prediction::Probability(late) = late else {{ panic!("{{late:?}}") }};
    println!("{{}}", late.to_f64());
    Ok(())
}}

fn all() -> Result<(), Refused> {{
    use flights::field::*;
    let model = flights::model()?;
    let mut memory = flights::Memory::new();
    let mut sample = flights::builder(&model, &mut memory)?;
    let mut scratch = [0; flights::SCRATCH_LEN];
    for line in std::io::stdin().lines() {{
        let line = line?;
        let cells: Vec<&str> = line.split(',').skip(1).collect();
        sample.clear();
        for (field, cell) in [CARRIER, ORIGIN, DEST, TAILNUM, FLIGHT].into_iter().zip(&cells) {{
            sample.set(field, *cell).map_err(|e| e.to_string())?;
        }}
        let numbers = [DEPARTURE_HOUR, ARRIVAL_HOUR, MONTH, DAY_OF_MONTH, DAY_OF_WEEK];
        let dense = [DISTANCE, SCHEDULED_MINUTES, DEPARTURE_MINUTE];
        for (field, cell) in numbers.into_iter().chain(dense).zip(&cells[5..]) {{
            sample.set(field, cell.parse::<i64>()?).map_err(|e| e.to_string())?;
        }}
        let score = model.score(&sample.finish().map_err(|e| e.to_string())?, &mut scratch)?;
        println!("{{}}", score.to_bits());
    }}
    Ok(())
}}
"#
    )
}

/// The demo, from its checkpoint to a program that was compiled with its module.
#[test]
fn the_demo_is_scored_by_a_program_with_its_module() {
    let crate_ = Crate::new("flights");
    let (model, module) = (crate_.path("src/flights.nfm"), crate_.path("src/flights.rs"));
    let (schema, rows) = (demo("schema.json"), demo("calibrate.csv.gz"));
    let (checkpoint, convert) = (demo("flights.pt"), ["--schema", &schema, "--calibrate", &rows]);
    ok(&[&["convert", &checkpoint, "-o", &model, "--emit-rust", &module][..], &convert].concat());
    crate_.is_formatted("src/flights.rs");
    golden(&fs::read_to_string(&module).unwrap());

    let program = program(&fs::read_to_string(root().join("README.md")).unwrap());
    crate_.file("src/main.rs", &program);
    let flights = lines("heldout.csv.gz");
    let flights: Vec<&str> = flights.lines().skip(1).take(500).collect();
    let printed = crate_.run(&flights.join("\n"));
    let (late, bits) = printed.split_once('\n').unwrap();

    // The oracle: what the pipeline in Python encoded.
    let scores = ok(&["score", "--encoded", &model, &demo("heldout.ids.csv.gz")]);
    let scores: Vec<Vec<f64>> = scores
        .lines()
        .skip(1)
        .take(flights.len())
        .map(|line| line.split(',').map(|number| number.parse().unwrap()).collect())
        .collect();
    let expected: Vec<String> = scores.iter().map(|score| (score[0] * 65536.0).to_string()).collect();
    assert_eq!(bits.lines().collect::<Vec<_>>(), expected);
    assert_eq!(late, scores[0][1].to_string());

    crate_.file("src/main.rs", &program.replace("[CARRIER, ", "[CARIER, "));
    let message = crate_.refused();
    assert!(message.contains("cannot find value `CARIER`") && message.contains("CARRIER"), "{message}");

    crate_.file("src/main.rs", &program);
    let other = Blob::new(&fs::read(&model).unwrap());
    let Scorer::Fixed(parsed, _) = Scorer::parse(&other).unwrap() else { unreachable!() };
    let mut parts = parsed.parts().clone();
    parts.bias = embedded_nfm::Q16::from_bits(parts.bias.to_bits() + 1);
    let mut bytes = other.bytes().to_vec();
    embedded_nfm::Model::new(parts).unwrap().emit(&mut bytes).unwrap();
    fs::write(&model, bytes).unwrap();
    let message = crate_.refused();
    assert!(message.contains("not the one that this module was generated for"), "{message}");
}

/// Compares the demo's module with the committed one; `NFM_WRITE_GOLDEN=1` commits it. The model's checksum is not part of it: it is
/// compared when the module is compiled, and changes whenever quantization does.
fn golden(module: &str) {
    let path = root().join("tools/nfm/tests/rust_module/flights.rs");
    if env::var_os("NFM_WRITE_GOLDEN").is_some_and(|value| value == "1") {
        fs::write(&path, module).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap();
    let changes = |line: &&str| !line.contains("CRC-32") && !line.contains("Some([..");
    assert_eq!(
        module.lines().filter(changes).collect::<Vec<_>>(),
        golden.lines().filter(changes).collect::<Vec<_>>()
    );
}

/// A model of fields with tables of their own.
fn model(fields: Vec<Field>, max_active: u16) -> FloatModel {
    const SHAPE: Shape = Shape { name: "small", fields: &[60], dim: 4, hidden: &[8] };
    let mut fields = fields;
    lay_out(&mut fields).unwrap();
    let rows = fields.iter().map(|field| field.rows().end).max().unwrap();
    let rows = usize::try_from(rows).unwrap();
    let mut model = synthetic::model(SHAPE, 1);
    model.linear.truncate(rows);
    model.embeddings.truncate(rows * 4);
    FloatModel { fields, max_active, max_value: 2.0, ..model }
}

fn id(name: &str) -> Field {
    Field::new(name, FieldKind::Id { rows: 3 })
}

fn sequence(name: &str) -> Field {
    let (pooling, linear, max_len) = (Pooling::Mean, Pooling::Sum, None);
    let padding = Some(0);
    let kind = Sequence { rows: 6, pooling, linear, max_len, padding, weights: Weights::Raw };
    Field::new(name, FieldKind::Sequence(kind))
}

fn with_max_len(mut field: Field, max_len: u16) -> Field {
    field.encoding = spec::Encoding { max_len: Some(max_len), missing: spec::Policy::Zero, ..field.encoding };
    field
}

fn f32_options() -> Options {
    Options { embeddings: Embeddings::F32, dense: DenseWeights::F32, ..Options::default() }
}

/// Writes a model and its module into a crate, and gives the model and the module's text.
fn emit(crate_: &Crate, name: &str, model: &FloatModel, options: Options) -> (Blob, String) {
    let blob = convert(name, name, model, None, options).unwrap().blob;
    let (file, module) = (crate_.path(&format!("{name}.nfm")), crate_.path(&format!("src/{name}.rs")));
    blob.write(Path::new(&file)).unwrap();
    rust_module::write(Path::new(&module), Path::new(&file), &blob, "a test").unwrap();
    crate_.is_formatted(&format!("src/{name}.rs"));
    (blob, fs::read_to_string(module).unwrap())
}

/// Names that are no identifiers, or of which several give the same one; and the constants that they give.
const NAMES: [(&str, &str); 20] = [
    ("type", "TYPE"),
    ("self", "SELF"),
    ("1st", "FIELD_1ST"),
    ("Größe", "GR_E"),
    ("", "FIELD_4"),
    ("航空", "FIELD_5"),
    ("a b", "A_B_6_6"),
    ("a-b", "A_B_7"),
    ("a_b_6", "A_B_6_8"),
    ("x\n} pub const Y: u8 = 0; //", "X_PUB_CONST_Y_U8_0"),
    ("back`tick", "BACK_TICK"),
    ("\u{202e}left to right", "LEFT_TO_RIGHT"),
    ("camelCase", "CAMEL_CASE"),
    ("user_id[0]", "USER_ID_0"),
    ("_", "FIELD_14"),
    (
        "a field with a name that is just too long for a line",
        "A_FIELD_WITH_A_NAME_THAT_IS_JUST_TOO_LONG_FOR_A_LINE",
    ),
    (
        "a field with a name that is much too long for any line of any width that somebody would like to read",
        "A_FIELD_WITH_A_NAME_THAT_IS_MUCH_TOO_LONG_FOR_ANY_LINE_OF_ANY_WIDTH_THAT_SOMEBODY_WOULD_LIKE_TO_READ",
    ),
    ("\"quoted\" \\", "QUOTED"),
    ("*/", "FIELD_18"),
    ("C1", "C1"),
];

#[test]
fn a_module_overwrites_nothing_that_it_is_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (checkpoint, model, schema) = (path("flights.pt"), path("flights.nfm"), demo("schema.json"));
    fs::copy(demo("flights.pt"), &checkpoint).unwrap();
    for module in [&checkpoint, &model] {
        let arguments = ["convert", &checkpoint, "-o", &model, "--emit-rust", module, "--schema", &schema];
        let output = nfm(&arguments);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && message.contains("expected another file"), "{message}");
    }
    assert_eq!(fs::read(&checkpoint).unwrap(), fs::read(demo("flights.pt")).unwrap());
    assert!(Scorer::parse(&Blob::new(&fs::read(&model).unwrap())).is_ok());
}

#[test]
fn any_names_and_kinds_of_fields_compile_and_score() {
    let crate_ = Crate::new("modules");
    let weird = model(NAMES.iter().map(|(name, _)| id(name)).collect(), 20);
    let (blob, text) = emit(&crate_, "weird", &weird, Options::default());
    let constants: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub const ")?.split_once(": FieldIndex").map(|c| c.0))
        .collect();
    assert_eq!(constants, NAMES.map(|(_, constant)| constant));
    let ids: Vec<u32> = (0..20).map(|field| 3 * field + field % 3).collect();
    let weird = score(&blob, &Row { ids, ..Row::default() });

    let dense = Field::new("dense", FieldKind::Scaled);
    let tags = Field::new("tags", FieldKind::Ids { rows: 5 });
    let kinds = model(vec![id("id"), dense, tags, sequence("history")], 9);
    let row = Row {
        ids: vec![2, 3, 4, 8, 10, 14],
        values: Some(vec![1.0, 0.5, 1.5, -1.0, 1.0, 2.0]),
        sequences: vec![Run {
            start: 4,
            len: 2,
            is_sequence: true,
            pooling: Pooling::Mean,
            linear: Pooling::Sum,
        }],
        ..Row::default()
    };
    let (blob, text) = emit(&crate_, "kinds", &kinds, Options::default());
    // A list without a limit: all that the model takes.
    assert!(text.contains("MAX_ENTRIES: usize = 9;") && text.contains("SEQUENCES: usize = 1;"), "{text}");
    let fixed = score(&blob, &row);
    let (blob, _) = emit(&crate_, "kinds_f32", &kinds, f32_options());
    let f32 = score(&blob, &row);

    let limited = vec![id("id"), with_max_len(sequence("history"), 4), with_max_len(sequence("more"), 2)];
    let (_, text) = emit(&crate_, "limited", &model(limited, 3), Options::default());
    assert!(text.contains("MAX_ENTRIES: usize = 7;") && text.contains("SEQUENCES: usize = 2;"), "{text}");
    assert!(!text.contains("static ENCODERS"), "{text}");

    crate_.file("src/main.rs", include_str!("modules.rs"));
    let printed = crate_.run("");
    assert_eq!(printed.lines().collect::<Vec<_>>(), [weird, fixed, f32].map(|score| score.to_string()));
}

/// The host's score of an encoded row.
fn score(blob: &Blob, row: &Row) -> f64 {
    Scorer::parse(blob).unwrap().score(row).unwrap().raw
}
