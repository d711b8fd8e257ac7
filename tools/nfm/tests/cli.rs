//! The command as a user runs it: arguments and files in; text, files and an exit status out.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use nfm::{
    model_file::{Blob, Scorer},
    rows::Rows,
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nfm"));
    command.args(arguments).stdin(Stdio::null());
    command
}

struct Ran {
    status: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ran = Self {
            status: output.status.code().expect("ended by itself"),
            out: text(output.stdout),
            err: text(output.stderr),
        };
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
        ran
    }
}

fn run(arguments: &[&str]) -> Ran {
    command(arguments).output().unwrap().into()
}

/// Standard output of a command that succeeds.
fn ok(arguments: &[&str]) -> String {
    let ran = run(arguments);
    assert_eq!(ran.status, 0, "{arguments:?}: {}", ran.err);
    ran.out
}

/// Standard error of a command that refuses.
fn refused(arguments: &[&str]) -> String {
    let ran = run(arguments);
    assert_eq!(ran.status, 1, "{arguments:?}: {}{}", ran.out, ran.err);
    assert!(ran.err.lines().any(|line| line.starts_with("error: ")), "{}", ran.err);
    ran.err
}

fn refused_with(arguments: &[&str], essentials: &[&str]) {
    let message = refused(arguments);
    for essential in essentials {
        assert!(message.contains(essential), "{arguments:?}: no {essential:?} in {message}");
    }
}

/// A fixture's files and a folder to write to.
struct Bench {
    folder: tempfile::TempDir,
    checkpoint: String,
    rows: String,
    schema: String,
}

impl Bench {
    fn new(fixture: &str) -> Self {
        let from = fixtures().join(fixture);
        let find = |stem: &str| {
            let mut paths = fs::read_dir(&from).unwrap().map(|entry| entry.unwrap().path());
            let path = paths.find(|path| path.file_stem().unwrap() == stem);
            path.map(|path| path.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        let [checkpoint, rows, schema] = ["checkpoint", "rows", "schema"].map(find);
        Self { folder: tempfile::tempdir().unwrap(), checkpoint, rows, schema }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The model, converted with the fixture's own rows.
    fn converted(&self) -> String {
        let model = self.path("model.nfm");
        let mut arguments = vec!["convert", &self.checkpoint, "-o", &model, "--calibrate", &self.rows];
        if !self.schema.is_empty() {
            arguments.extend(["--schema", &self.schema]);
        }
        ok(&arguments);
        model
    }
}

const DEEPCTR: &str = "deepctr-zip";
const PAPER: &str = "paper-zip";

/// A row of the deepctr fixture's columns.
fn csv(cells: &str) -> String {
    format!("label,user,item,genre,hour,age,price\n1,0,0,0,0,2,1.375\n{cells}\n")
}

fn raw(scores: &str) -> Vec<f64> {
    scores.lines().skip(1).map(|line| line.split(',').next().unwrap().parse().unwrap()).collect()
}

fn within(got: &[f64], want: &[f64], bound: f64) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        // Written so that NaN fails.
        assert!((got - want).abs() <= bound, "{got}, expected {want}");
    }
}

fn gz(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn with_input(arguments: &[&str], input: &[u8]) -> Ran {
    let mut child = command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn the_demo_walks_the_whole_road() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("demo");
    let text = ok(&["demo", "--out", out.to_str().unwrap()]);
    for row in ["DeepCTR-Torch ", "f64, from the checkpoint", "f32 ", "int8 "] {
        assert!(text.lines().any(|line| line.starts_with(row)), "no {row} in {text}");
    }
    for file in ["flights.pt", "flights.nfm", "flights-f32.nfm", "heldout.csv.gz", "training.log"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let mut expected = String::new();
    flate2::read::GzDecoder::new(fs::File::open(out.join("heldout.expected.csv.gz")).unwrap())
        .read_to_string(&mut expected)
        .unwrap();
    let rows = out.join("heldout.csv.gz");
    let (rows, ids) = (rows.to_str().unwrap(), out.join("heldout.ids.csv.gz"));
    for (model, bound) in [("flights.nfm", 0.07), ("flights-f32.nfm", 1e-5)] {
        let model = out.join(model);
        let scores = ok(&["score", model.to_str().unwrap(), rows]);
        within(&raw(&scores), &raw(&expected), bound);
        // What the pipeline in Python encoded gives the same scores, to the last bit.
        assert_eq!(ok(&["score", "--encoded", model.to_str().unwrap(), ids.to_str().unwrap()]), scores);
    }
}

#[test]
fn inspect_shows_a_checkpoint_and_its_graph() {
    let bench = Bench::new(DEEPCTR);
    let text = ok(&["inspect", &bench.checkpoint, "--schema", &bench.schema]);
    for essential in [
        "torch zip",
        "dnn.linears.0.weight",
        "[16, 10]",
        "dialect     deepctr-torch",
        "parameters  1,052",
        "item   id, 40 rows from 12",
        "price  dense",
        "++ 2 dense inputs                        [10]",
        "dense 16 → 8",
        "link: sigmoid",
        "at most 4 active entries",
        "assumed: hidden activation is relu; if not, say --activation",
    ] {
        assert!(text.contains(essential), "no {essential:?} in {text}");
    }
    // A whole model knows its activation.
    assert!(!ok(&["inspect", &Bench::new("deepctr-whole").checkpoint]).contains("hidden activation"));
}

#[test]
fn inspect_shows_the_tensors_of_a_checkpoint_that_it_refuses() {
    let path = fixtures().join("hostile/extra-tensor.pt");
    let ran = run(&["inspect", path.to_str().unwrap()]);
    assert_eq!(ran.status, 1);
    assert!(ran.out.contains("mystery.weight") && ran.err.contains("`mystery.weight` [4, 4]"), "{}", ran.err);
}

#[test]
fn inspect_shows_a_converted_model() {
    let bench = Bench::new(DEEPCTR);
    let text = ok(&["inspect", &bench.converted()]);
    for essential in
        ["fixed (integers only)", "81 rows × 8, i8", "at most 4", "dense 10 → 16, i8", "price  dense"]
    {
        assert!(text.contains(essential), "no {essential:?} in {text}");
    }
}

#[test]
fn a_checkpoints_scores_are_the_frameworks() {
    for fixture in [DEEPCTR, "deepctr-prelu", "deepctr-safetensors-bf16", PAPER, "paper-fm", "paper-bare"] {
        let bench = Bench::new(fixture);
        let mut arguments = vec!["score", &bench.checkpoint, &bench.rows];
        if !bench.schema.is_empty() {
            arguments.extend(["--schema", &bench.schema]);
        }
        let expected = fs::read_to_string(fixtures().join(fixture).join("expected.csv")).unwrap();
        within(&raw(&ok(&arguments)), &raw(&expected), 1e-5);
    }
}

#[test]
fn a_converted_models_scores_are_the_librarys() {
    for fixture in [DEEPCTR, PAPER] {
        let bench = Bench::new(fixture);
        let model = bench.converted();
        let blob = Blob::new(&fs::read(&model).unwrap());
        let mut scorer = Scorer::parse(&blob).unwrap();
        let rows = Rows::open(Path::new(&bench.rows), &scorer.fields()).unwrap();
        let want: Vec<f64> = rows.map(|row| scorer.score(&row.unwrap()).unwrap().raw).collect();
        within(&raw(&ok(&["score", &model, &bench.rows])), &want, 0.0);
    }
}

#[test]
fn rows_come_from_a_file_from_gzip_or_from_standard_input() {
    let bench = Bench::new(DEEPCTR);
    let model = bench.converted();
    let text = fs::read_to_string(&bench.rows).unwrap();
    let want = ok(&["score", &model, &bench.rows]);
    assert!(want.starts_with("raw,probability\n"));
    assert_eq!(want.lines().count(), text.lines().count());
    let zipped = bench.file("rows.bin", gz(&text));
    assert_eq!(ok(&["score", &model, &zipped]), want);
    for input in [text.as_bytes(), &gz(&text)] {
        let ran = with_input(&["score", &model, "-"], input);
        assert_eq!((ran.status, ran.out.as_str()), (0, want.as_str()), "{}", ran.err);
    }
    let scores = bench.path("scores.csv");
    assert_eq!(ok(&["score", &model, &bench.rows, "-o", &scores]), "");
    assert_eq!(fs::read_to_string(&scores).unwrap(), want);
    let ran = with_input(&["score", &model, "-"], csv("1,0,99,0,0,2,1").as_bytes());
    assert!(ran.status == 1 && ran.err.contains("standard input: line 3"), "{}", ran.err);
}

#[test]
fn evaluate_compares_with_a_reference_in_text_and_json() {
    let bench = Bench::new(DEEPCTR);
    let model = bench.converted();
    let reference = ["--reference", &bench.checkpoint, "--schema", &bench.schema];
    let arguments = [&["evaluate", &model, &bench.rows], &reference[..]].concat();
    let text = ok(&arguments);
    assert!(text.contains("reference  difference") && text.contains("largest"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&ok(&[&arguments[..], &["--json"]].concat())).unwrap();
    assert_eq!(json["metrics"]["rows"], 64);
    let largest = json["differences"]["max"].as_f64().unwrap();
    assert!(largest > 0.0 && largest < 0.1, "{largest}");
    let alone: serde_json::Value =
        serde_json::from_str(&ok(&["evaluate", &model, &bench.rows, "--json"])).unwrap();
    assert!(alone.get("differences").is_none() && alone.get("reference").is_none());
    assert_eq!(alone["metrics"]["auc"], json["metrics"]["auc"]);
}

#[test]
fn evaluate_refuses_a_reference_of_other_fields_or_another_task() {
    let bench = Bench::new(DEEPCTR);
    let model = bench.converted();
    let other = Bench::new(PAPER).checkpoint;
    refused_with(&["evaluate", &model, &bench.rows, "--reference", &other], &["fields", &other]);
    let task = ["--reference", &bench.checkpoint, "--task", "regression"];
    refused_with(&[&["evaluate", &model, &bench.rows], &task[..]].concat(), &["task", "--task"]);
}

#[test]
fn labels_of_minus_one_and_one_give_the_metrics_of_zero_and_one() {
    let bench = Bench::new(DEEPCTR);
    let text = fs::read_to_string(&bench.rows).unwrap();
    let signed: String = text
        .lines()
        .map(|line| line.strip_prefix("0,").map_or(line.to_owned(), |l| format!("-1,{l}")) + "\n")
        .collect();
    assert_ne!(signed, text);
    let signed = bench.file("signed.csv", signed);
    let evaluate = |rows: &str| ok(&["evaluate", &bench.checkpoint, rows, "--schema", &bench.schema]);
    assert_eq!(evaluate(&signed), evaluate(&bench.rows));
}

#[test]
fn what_was_assumed_is_said_wherever_a_checkpoint_is_scored() {
    let bench = Bench::new(DEEPCTR);
    for verb in ["score", "evaluate"] {
        let ran = run(&[verb, &bench.checkpoint, &bench.rows, "--schema", &bench.schema]);
        assert!(ran.err.contains("assumed: hidden activation is relu"), "{verb}: {}", ran.err);
    }
    let ran = run(&["score", &bench.converted(), &bench.rows, "--task", "regression"]);
    assert!(ran.status == 0 && ran.err.contains("only what a schema says of rows"), "{}", ran.err);
}

/// A schema of the deepctr fixture with encoders, and raw rows: what is met is counted by hand below.
fn with_encoders(bench: &Bench, price_missing: &str) -> (String, String) {
    let schema = format!(
        r#"{{"schema_version": 1, "task": "binary", "activation": "relu", "fields": [
        {{"name": "user", "type": "id", "rows": 12, "unseen": "clamp"}},
        {{"name": "item", "type": "id", "rows": 40, "encoder": {{"type": "hash", "function": "xxh64"}}}},
        {{"name": "genre", "type": "id", "rows": 5, "unseen": {{"id": 4}}, "missing": {{"id": 0}}, "missing_values": ["NA"],
          "encoder": {{"type": "vocabulary", "keys": ["drama", "comedy"], "first": 1}}}},
        {{"name": "hour", "type": "id", "rows": 24, "encoder": {{"type": "buckets", "boundaries": [6, 12, 18]}}}},
        {{"name": "age", "type": "dense", "encoder": {{"type": "standard", "mean": 40, "std": 20}}}},
        {{"name": "price", "type": "dense", "unseen": "clamp", "missing": {price_missing},
          "encoder": {{"type": "min_max", "min": 0, "max": 8, "clip": [0, 1]}}}}]}}"#
    );
    let rows = "hour,user,item,genre,age,price,label\n7,3,a,drama,20,4,1\n0,99,b,western,60,9,0\n\
                23,-1,c,NA,40,-2,1\n18,5,d,,50,,0\n";
    (bench.file("encoders.json", schema), bench.file("raw.csv", rows))
}

#[test]
fn encoders_are_converted_shown_and_what_they_met_is_counted() {
    let bench = Bench::new(DEEPCTR);
    let (schema, rows) = with_encoders(&bench, r#""zero""#);
    let model = bench.path("raw.nfm");
    let converted = ok(&["convert", &bench.checkpoint, "-o", &model, "--schema", &schema]);
    assert!(converted.lines().any(|line| line.starts_with("  encoders ")), "{converted}");
    let inspected = ok(&["inspect", &model]);
    for line in [
        "user   ids as they are; unseen: clamp; missing: error",
        "item   xxh64 hash into 40 buckets; unseen: error; missing: error",
        "genre  vocabulary of 2 texts, exact to 2^-32; unseen: id 4; missing: id 0",
        "hour   4 buckets closed on the left; unseen: error; missing: error",
        "age    (x − 40) · 0.05; unseen: error; missing: error",
        "price  x · 0.125 in 0 ..= 1; unseen: clamp; missing: zero",
    ] {
        assert!(inspected.contains(&format!("  {line}\n")), "no {line} in {inspected}");
        let checkpoint = ok(&["inspect", &bench.checkpoint, "--schema", &schema]);
        assert!(checkpoint.contains(&format!("  {line}\n")), "no {line} in {checkpoint}");
    }
    // With the schema `NA` is missing and an empty text a genre; without it the empty text is missing.
    for (arguments, genre) in [
        (&["--schema", &schema][..], "genre       3  2 (50.00 %)            0  1 (25.00 %)"),
        (&[], "genre       3  2 (50.00 %)            0  1 (25.00 %)"),
    ] {
        let text = ok(&[&["evaluate", &model, &rows], arguments].concat());
        let table = text.split("\n\n").find(|part| part.starts_with("field")).unwrap();
        assert_eq!(
            table.trim_end().lines().collect::<Vec<_>>(),
            [
                "field  values       unseen      clamped      missing",
                "user        4            0  2 (50.00 %)            0",
                "item        4            0            0            0",
                genre,
                "hour        4            0            0            0",
                "age         4            0            0            0",
                "price       3            0  2 (50.00 %)  1 (25.00 %)",
            ],
            "{text}"
        );
    }
    let json = ok(&["evaluate", &model, &rows, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let price = serde_json::json!({"field": "price", "values": 3, "unseen": 0, "clamped": 2, "missing": 1});
    assert_eq!((&json["skew"][5], json["skew"].as_array().unwrap().len()), (&price, 6));
    let ran = run(&["score", &model, &rows]);
    assert_eq!((ran.status, ran.out.lines().count()), (0, 5));
    let remark =
        "raw.csv: 2 unseen, 4 clamped, 2 missing, in user, genre, price; nfm evaluate counts by field\n";
    assert!(ran.err.ends_with(remark), "{}", ran.err);
    let first = fs::read_to_string(&rows).unwrap().lines().take(2).collect::<Vec<_>>().join("\n");
    let seen = bench.file("seen.csv", first);
    let ran = run(&["score", &model, &seen]);
    assert!(
        ran.err.contains("does not say how cells of item are to be read") && ran.err.lines().count() == 1
    );
    let ran = run(&["score", &model, &seen, "--schema", &schema]);
    assert!(
        ran.err.contains("only what a schema says of rows") && ran.err.lines().count() == 1,
        "{}",
        ran.err
    );
}

#[test]
fn encoders_that_do_not_fit_are_refused_with_field_and_remedy() {
    let bench = Bench::new(DEEPCTR);
    let (schema, rows) = with_encoders(&bench, r#"{"number": 40000}"#);
    let model = bench.path("raw.nfm");
    let convert = ["convert", &bench.checkpoint, "-o", &model, "--schema", &schema];
    refused_with(
        &convert,
        &[
            "encoders: field `price`: `missing` of 40000 is beyond the fixed path's ±32768",
            "--embeddings f32 --dense f32",
        ],
    );
    assert!(!Path::new(&model).exists());
    ok(&[&convert[..], &["--embeddings", "f32", "--dense", "f32"]].concat());
    // A row is refused by its line and column, a schema that is not the model's with both numbers.
    let row = bench.file("row.csv", "hour,user,item,genre,age,price\n7,3,a,drama,20,4\n7,3,a,drama,old,4\n");
    refused_with(
        &["score", &model, &row],
        &["row.csv: line 3, column `age`: expected a number, found `old`"],
    );
    let text = fs::read_to_string(&schema).unwrap();
    let other = bench.file("other.json", text.replace("\"rows\": 24", "\"rows\": 23"));
    refused_with(
        &["evaluate", &model, &rows, "--schema", &other],
        &["raw.nfm: fields: field `hour`: the model has id of 24 rows, the schema id of 23 rows"],
    );
    let other = bench.file("other.json", text.replace("\"max\": 8", "\"max\": 4"));
    refused_with(
        &["score", &model, &rows, "--schema", &other],
        &["field `price`: ", "x · 0.125", "x · 0.25"],
    );
}

/// A `.nfm` file does not hold what padding is, nor whether weights are to be normalised: its schema does.
#[test]
fn a_model_of_sequences_takes_padding_and_weights_from_the_schema() {
    for fixture in ["deepctr-sequences", "deepctr-keras2-weighted-softmax"] {
        let bench = Bench::new(fixture);
        let checkpoint = fixtures().join(fixture).join("checkpoint.index");
        let checkpoint = if checkpoint.exists() { checkpoint.to_str().unwrap() } else { &bench.checkpoint };
        let (model, schema) = (bench.path("model.nfm"), ["--schema", &bench.schema]);
        let f32 = ["--embeddings", "f32", "--dense", "f32", "--max-value", "8"];
        ok(&[&["convert", checkpoint, "-o", &model][..], &schema, &f32].concat());
        let padded = fs::read_to_string(&bench.rows).unwrap();
        let rows = bench.file("rows.csv", padded);
        let evaluate = ["evaluate", &model, &rows, "--reference", checkpoint, "--json"];
        let json = ok(&[&evaluate[..], &schema].concat());
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(json["differences"]["max"].as_f64().unwrap() < 1e-5, "{fixture}: {json}");
    }
}

#[test]
fn usage_errors_have_status_two() {
    for arguments in [
        &[][..],
        &["score"],
        &["convert", "a.pt"],
        &["frobnicate"],
        &["convert", "a.pt", "-o", "b", "--embeddings", "i3"],
        &["score", "a", "b", "--max-active", "-1"],
        &["score", "a", "b", "--max-active", "65536"],
    ] {
        assert_eq!(run(arguments).status, 2, "{arguments:?}");
    }
    assert_eq!(run(&["--version"]).status, 0);
}

#[test]
fn hostile_checkpoints_leave_no_file_and_touch_none() {
    let cases = fs::read_to_string(fixtures().join("hostile/cases.json")).unwrap();
    let cases: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&cases).unwrap();
    let mut refusals = 0;
    for (name, case) in cases {
        let bench = Bench::new(DEEPCTR);
        let path = fixtures().join("hostile").join(&name);
        let [fresh, existing] = [bench.path("fresh.nfm"), bench.file("existing.nfm", "precious")];
        for output in [&fresh, &existing] {
            let arguments = ["convert", path.to_str().unwrap(), "-o", output, "--schema", &bench.schema];
            if case["expect"] != "refused" {
                ok(&arguments);
                continue;
            }
            refusals += 1;
            let message = refused(&arguments);
            assert!(message.contains(&name), "{message}");
            let place = ["tensor", "byte", "checkpoint/data/0"].iter().any(|place| message.contains(place));
            assert!(place, "{message}");
            assert_eq!(bench.names(), ["existing.nfm"], "{name}");
            assert_eq!(fs::read_to_string(&existing).unwrap(), "precious", "{name}");
        }
    }
    assert!(refusals >= 24);
}

#[test]
fn an_output_that_cannot_be_written_is_refused_and_leaves_nothing() {
    let bench = Bench::new(DEEPCTR);
    let model = bench.converted();
    fs::remove_file(&model).unwrap();
    fs::create_dir(bench.path("folder")).unwrap();
    for (output, reason) in [("nowhere/model.nfm", "nowhere"), ("folder", "directory")] {
        let output = bench.path(output);
        let schema = ["--schema", &bench.schema];
        refused_with(&[&["convert", &bench.checkpoint, "-o", &output], &schema[..]].concat(), &[reason]);
        refused_with(
            &[&["score", &bench.checkpoint, &bench.rows, "-o", &output], &schema[..]].concat(),
            &[reason],
        );
        assert_eq!(bench.names(), ["folder"]);
    }
}

#[test]
fn an_input_is_never_overwritten() {
    let bench = Bench::new(DEEPCTR);
    let copy = bench.file("copy.pt", fs::read(&bench.checkpoint).unwrap());
    let rows = bench.file("rows.csv", fs::read(&bench.rows).unwrap());
    let roundabout = bench.path("./copy.pt");
    refused_with(&["convert", &copy, "-o", &roundabout, "--schema", &bench.schema], &["copy.pt", "input"]);
    refused_with(&["score", &copy, &rows, "-o", &rows, "--schema", &bench.schema], &["rows.csv", "input"]);
    assert_eq!(fs::read(&copy).unwrap(), fs::read(&bench.checkpoint).unwrap());
    assert_eq!(fs::read(&rows).unwrap(), fs::read(&bench.rows).unwrap());
}

#[cfg(unix)]
#[test]
fn a_model_has_the_permissions_of_any_new_file_and_a_pipe_stays_one() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new(DEEPCTR);
    let mode = |path: &str| fs::metadata(path).unwrap().permissions().mode();
    let plain = bench.file("plain", "");
    assert_eq!(mode(&bench.converted()), mode(&plain));
    let convert = ["convert", &bench.checkpoint, "--schema", &bench.schema, "-o"];
    ok(&[&convert[..], &["/dev/null"]].concat());
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn rows_that_cannot_be_scored_are_refused_by_line_and_entry() {
    let bench = Bench::new(DEEPCTR);
    let model = bench.converted();
    let rows = bench.path("bad.csv");
    for (cells, essentials) in [
        ("1,0,40,0,0,2,1", &["line 3", "`item`", "40"][..]),
        ("1,0,NaN,0,0,2,1", &["line 3", "`item`", "NaN"]),
        ("1,0,0,0,0,NaN,1", &["line 3", "`age`", "NaN"]),
        ("1,0,0,0,0,2,inf", &["line 3", "`price`", "inf"]),
        ("1,0,0,0,0,2", &["line 3", "expected 7 cells", "6"]),
        ("1,0,0:2,0,0,2,1", &["line 3", "entry 1", "value"]),
    ] {
        fs::write(&rows, csv(cells)).unwrap();
        for scorer in [&model, &bench.checkpoint] {
            for verb in ["score", "evaluate"] {
                refused_with(&[verb, scorer, &rows, "--schema", &bench.schema], essentials);
            }
        }
    }
    fs::write(&rows, csv("1,0,0|1,0,0,2,1")).unwrap();
    refused_with(&["score", &model, &rows], &["line 3", "at most 4 active entries, found 5"]);
    fs::write(&rows, csv("1,0,0,0,0,2,9000")).unwrap();
    refused_with(&["score", &model, &rows], &["line 3", "dense input 1"]);
}

#[test]
fn a_deepctr_model_takes_exactly_one_id_of_each_field() {
    let bench = Bench::new(DEEPCTR);
    let rows = bench.path("bad.csv");
    let output = bench.path("model.nfm");
    for (cells, found) in [("1,0,,0,0,2,1", "found 0"), ("1,0,0|1,0,0,2,1", "found 2")] {
        fs::write(&rows, csv(cells)).unwrap();
        let essentials = ["line 3", "field `item`", found];
        for verb in ["score", "evaluate"] {
            refused_with(&[verb, &bench.checkpoint, &rows, "--schema", &bench.schema], &essentials);
        }
        let convert = ["convert", &bench.checkpoint, "-o", &output, "--schema", &bench.schema];
        refused_with(&[&convert[..], &["--calibrate", &rows]].concat(), &essentials);
        assert!(!Path::new(&output).exists());
    }
}

#[test]
fn limits_are_held_when_calibrating_and_must_make_sense() {
    let bench = Bench::new(PAPER);
    let output = bench.path("model.nfm");
    let convert = ["convert", &bench.checkpoint, "-o", &output, "--calibrate"];
    let refuse = |rows: &str, limit: &[&str], essentials: &[&str]| {
        refused_with(&[&convert[..], &[rows], limit].concat(), essentials);
    };
    let wide = bench.file("wide.libfm", "1 0:1 1:1\n1 0:1 1:1 2:1\n");
    refuse(&wide, &["--max-active", "2"], &["line 2", "at most 2", "found 3", "--max-active"]);
    let large = bench.file("large.libfm", "1 0:1\n1 0:1 3:-2.5\n");
    refuse(&large, &["--max-value", "2"], &["line 2", "entry 1", "-2.5", "--max-value"]);
    for limit in ["0", "0.5", "-1", "NaN", "inf", "-inf"] {
        let limit = format!("--max-value={limit}");
        refuse(&bench.rows, &[&limit], &["max_value", "at least 1"]);
    }
    refuse(&bench.rows, &["--max-active", "0"], &["max_active", "at least 1"]);
    refuse(&bench.rows, &["--max-value", "1e6"], &["--max-value", "f32"]);
    refuse(&bench.rows, &["--max-active", "65535"], &["--max-active", "f32"]);
    let bare = Bench::new("paper-bare");
    for eps in ["NaN", "-1", "inf"] {
        let eps = format!("--bn-eps={eps}");
        refused_with(&["inspect", &bare.checkpoint, &eps], &["eps"]);
    }
    let deepctr = Bench::new(DEEPCTR);
    refused_with(&["inspect", &deepctr.checkpoint, "--max-active", "3"], &["max_active", "at least 4"]);
    assert!(!Path::new(&output).exists());
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_ends_the_scoring() {
    let bench = Bench::new(DEEPCTR);
    let model = bench.converted();
    let mut child = command(&["score", &model, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Rows without end: only the broken pipe stops it.
    let mut stdin = child.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        let _ = stdin.write_all(b"label,user,item,genre,hour,age,price\n");
        while stdin.write_all(b"1,0,0,0,0,2,1.375\n").is_ok() {}
    });
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "raw,probability\n");
    let ran = Ran::from(child.wait_with_output().unwrap());
    feeder.join().unwrap();
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
}

#[test]
fn a_damaged_model_is_refused_with_the_reason() {
    let bench = Bench::new(DEEPCTR);
    let model = bench.converted();
    let bytes = fs::read(&model).unwrap();
    for len in [0, 3, 4, 20, bytes.len() / 2, bytes.len() - 1] {
        let cut = bench.file("cut.nfm", &bytes[..len]);
        refused_with(&["score", &cut, &bench.rows], &["cut.nfm"]);
        refused_with(&["inspect", &cut], &["cut.nfm"]);
    }
    refused_with(&["score", &bench.path("cut.nfm"), &bench.rows], &["no sound model", "expected"]);
    for byte in (0..bytes.len()).step_by(97) {
        let mut flipped = bytes.clone();
        flipped[byte] ^= 1 << (byte % 8);
        let path = bench.file("flipped.nfm", flipped);
        refused_with(&["score", &path, &bench.rows], &["flipped.nfm"]);
    }
    let mut flipped = bytes;
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let path = bench.file("flipped.nfm", flipped);
    refused_with(&["evaluate", &path, &bench.rows], &["flipped.nfm", "checksum"]);
    refused_with(&["score", &bench.path("absent.nfm"), &bench.rows], &["absent.nfm"]);
    refused_with(&["score", &bench.path("."), &bench.rows], &["folder"]);
}

#[test]
fn a_schema_that_is_none_is_refused_by_name() {
    let bench = Bench::new(DEEPCTR);
    for (content, essential) in
        [("{", "line 1"), ("", "EOF"), (r#"{"schema_version":2}"#, "expected 1, found 2")]
    {
        let schema = bench.file("schema.json", content);
        refused_with(&["inspect", &bench.checkpoint, "--schema", &schema], &["schema.json", essential]);
    }
}
