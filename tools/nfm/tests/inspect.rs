//! What `nfm inspect` says of each fixture, as JSON and in colour.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use nfm::{
    container,
    dialect::{Hints, import, map::Map},
    inspect::{Checkpoint, Content, Inspection, Step},
    schema::Schema,
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The folders of a folder that hold a checkpoint, each with it.
fn checkpoints(folder: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    for folder in
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir())
    {
        let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let is_it = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.split('.').next() == Some("checkpoint")
                && !name.contains(".data-")
                && !name.ends_with(".meta")
        };
        found.extend(files.filter(is_it).map(|file| (folder.clone(), file)));
    }
    found.sort();
    found
}

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nfm"));
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.args(arguments).envs(environment.iter().copied()).output().unwrap()
}

/// The JSON of `nfm inspect`, whose status it must deserve.
fn inspected(file: &Path, more: &[&str]) -> (serde_json::Value, Checkpoint) {
    let output = run(&[&["inspect", "--json", file.to_str().unwrap()], more].concat(), &[]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let inspection: Inspection = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&inspection).unwrap(), json, "{}", file.display());
    let Content::Checkpoint(checkpoint) = inspection.content else { panic!("{}", file.display()) };
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(i32::from(checkpoint.refused.is_some())), "{message}");
    if let Some(reason) = &checkpoint.refused {
        assert_eq!(message, format!("error: {}: {reason}\n", file.display()));
    }
    (json, *checkpoint)
}

/// Options that say what a fixture's checkpoint does not.
fn options(folder: &Path) -> Vec<String> {
    let mut options = Vec::new();
    for (option, file) in [("--schema", "schema.json"), ("--map", "map.toml")] {
        if folder.join(file).exists() {
            options.extend([option.to_owned(), folder.join(file).to_str().unwrap().to_owned()]);
        }
    }
    options
}

#[test]
fn each_fixture_that_loads_is_described_in_full() {
    let mut loaded = 0;
    for (folder, file) in checkpoints(&fixtures()) {
        if container::read(&file).is_err() {
            assert!(run(&["inspect", "--json", file.to_str().unwrap()], &[]).stdout.is_empty());
            continue;
        }
        let options = options(&folder);
        let (_, checkpoint) = inspected(&file, &options.iter().map(String::as_str).collect::<Vec<_>>());
        let name = folder.display().to_string();
        let Some(model) = checkpoint.model else {
            assert!(checkpoint.refused.is_some(), "{name}");
            continue;
        };
        loaded += 1;
        assert!(checkpoint.refused.is_none() && checkpoint.dialect.is_some(), "{name}");
        // Integers are constants of a graph.
        let taken = checkpoint.tensors.iter().filter(|tensor| {
            tensor.skipped.is_none() && tensor.dtype.trim_start_matches('b').starts_with('f')
        });
        let numbers: usize = taken.map(|tensor| tensor.shape.iter().product::<usize>()).sum();
        assert_eq!(checkpoint.parameters, Some(numbers), "{name}");
        assert_eq!(model.stages[0].step, Step::BiInteraction, "{name}");
        assert_eq!(model.stages.last().unwrap().width, 1, "{name}");
        assert!(model.stages.iter().all(|stage| !stage.text.is_empty() && !stage.text.contains('\n')));
        gives_the_same_fields(&folder, &file, &checkpoint.schema.unwrap());
    }
    assert!(loaded >= 70, "{loaded}");
}

/// The schema that `inspect` prints is one that a user can go on with.
fn gives_the_same_fields(folder: &Path, file: &Path, schema: &Schema) {
    let text = serde_json::to_string(schema).unwrap();
    let printed = tempfile::NamedTempFile::new().unwrap();
    fs::write(printed.path(), text).unwrap();
    let read = Schema::read(printed.path()).unwrap();
    assert_eq!(read.fields, schema.fields, "{}", folder.display());
    let map = folder.join("map.toml");
    let map = map.exists().then(|| Map::read(&map).unwrap());
    let own = folder.join("schema.json");
    let mut said = if own.exists() { Schema::read(&own).unwrap() } else { Schema::default() };
    said.fields = read.fields;
    let hints = Hints { schema: Some(said), map, ..Hints::default() };
    let model = import(container::read(file).unwrap(), &hints);
    let model = model.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(model.fields, schema.fields, "{}", folder.display());
}

#[test]
fn a_refused_checkpoint_is_still_described() {
    for (folder, file) in checkpoints(&fixtures().join("refused")) {
        let (json, checkpoint) = inspected(&file, &[]);
        assert!(checkpoint.refused.is_some() && !checkpoint.tensors.is_empty(), "{}", folder.display());
        assert!(json.get("model").is_none() && checkpoint.parameters.is_none(), "{json}");
    }
}

#[test]
fn what_is_missing_is_started() {
    let (_, recbole) = inspected(&fixtures().join("recbole-all/checkpoint.pth"), &[]);
    assert!(recbole.refused.unwrap().contains("--schema"));
    let rows: Vec<u32> = recbole.schema.unwrap().fields.iter().map(|field| field.kind.rows()).collect();
    assert_eq!(rows, [25, 4, 8, 2]);
    let (_, unknown) = inspected(&fixtures().join("unknown/checkpoint.pt"), &[]);
    assert!(unknown.dialect.is_none() && unknown.map.unwrap().contains("embeddings = \"net.tables.hour\""));
    let (json, _) = inspected(&fixtures().join("hostile/extra-tensor.pt"), &[]);
    assert!(json.get("schema").is_none() && json.get("map").is_none(), "{json}");
}

#[test]
fn what_was_skipped_and_what_made_the_file_are_said() {
    let (_, paper) = inspected(&fixtures().join("original-pretrained/checkpoint.index"), &[]);
    let skipped = paper.tensors.iter().filter(|tensor| tensor.skipped.is_some());
    let skipped: Vec<&str> = skipped.map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(skipped, ["bias", "feature_bias", "feature_embeddings"]);
    let slot = paper.left_in_file.iter().find(|left| left.name == "Variable/Adagrad");
    assert_eq!(slot.unwrap().why, "optimizer slot of `Variable`");
    for (file, made_by) in [
        ("original-tf1/checkpoint.index", "TensorFlow 2.16.2"),
        ("deepctr-keras2-h5-full/checkpoint.h5", "Keras 2.16.0"),
        ("deepctr-whole/checkpoint.pt", "deepctr_torch.models.nfm.NFM"),
        ("onnx-paper-script/checkpoint.onnx", "pytorch 2.15.0"),
    ] {
        let (_, checkpoint) = inspected(&fixtures().join(file), &[]);
        assert_eq!(checkpoint.made_by.as_deref(), Some(made_by));
    }
}

#[test]
fn a_converted_model_says_its_bytes_and_how_they_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("m.nfm");
    let (model, from) = (model.to_str().unwrap(), fixtures().join("deepctr-zip"));
    let [checkpoint, schema, rows] =
        ["checkpoint.pt", "schema.json", "rows.csv"].map(|name| from.join(name).to_str().unwrap().to_owned());
    let convert = ["convert", &checkpoint, "--schema", &schema, "--calibrate", &rows, "-o", model];
    let fixed = ["--embeddings", "mixed", "--hot", "0.5", "--layout", "scalar"];
    // First order: 81 headers of 2 or 4 bytes, 3 pairs of words with hot bits, 2 dense inputs of 5 words or one.
    for (options, arithmetic, embeddings, layout, linear) in [
        (&[][..], "fixed", "i8", Some("dsp"), 202),
        (&fixed, "fixed", "mixed", Some("scalar"), 388),
        (&["--embeddings", "i4"], "fixed", "i4", Some("dsp"), 364),
        (&["--dense", "f32"], "f32", "i8", None, 170),
        (&["--embeddings", "f32", "--dense", "f32"], "f32", "f32", None, 332),
    ] {
        assert!(run(&[&convert[..], options].concat(), &[]).status.success());
        let output = run(&["inspect", model, "--json"], &[]);
        let inspection: Inspection = serde_json::from_slice(&output.stdout).unwrap();
        let Content::Nfm(nfm) = inspection.content else { panic!("{inspection:?}") };
        assert_eq!((nfm.arithmetic.as_str(), nfm.embeddings.as_str()), (arithmetic, embeddings));
        assert_eq!((nfm.layout.as_deref(), nfm.format_version), (layout, 1));
        // 81 rows; two of four are hot where half of them are, rounded by the converter.
        assert_eq!(nfm.hot_rows.is_some_and(|rows| (40..=41).contains(&rows)), embeddings == "mixed");
        assert_eq!(nfm.bytes.linear, linear, "{embeddings}");
        assert_eq!(nfm.bytes.total as u64, fs::metadata(model).unwrap().len());
        assert_eq!(nfm.bytes.parts().map(|(_, bytes)| bytes).iter().sum::<usize>(), nfm.bytes.total);
        let widths: Vec<usize> = nfm.model.stages.iter().map(|stage| stage.width).collect();
        assert_eq!(widths, [8, 10, 16, 16, 8, 8, 1, 1], "{:?}", nfm.model.stages);
        let fields: Vec<_> =
            nfm.model.fields.iter().map(|field| (field.name.as_str(), field.offset)).collect();
        assert_eq!(fields[..2], [("user", Some(0)), ("item", Some(12))]);
    }
}

#[test]
fn colour_is_for_terminals_or_where_it_is_forced() {
    let file = fixtures().join("paper-zip/checkpoint.pt");
    let refused = fixtures().join("recbole-all/checkpoint.pth");
    let escapes = |file: &Path, environment: &[(&str, &str)]| {
        let output = run(&["inspect", file.to_str().unwrap()], environment);
        [output.stdout, output.stderr].map(|text| text.contains(&0x1b))
    };
    assert_eq!(escapes(&file, &[]), [false, false]);
    assert_eq!(escapes(&file, &[("CLICOLOR_FORCE", "1")]), [true, false]);
    assert_eq!(escapes(&refused, &[]), [false, false]);
    assert_eq!(escapes(&refused, &[("CLICOLOR_FORCE", "1")]), [true, true]);
    let forced = run(&["inspect", "--json", file.to_str().unwrap()], &[("CLICOLOR_FORCE", "1")]);
    assert!(!forced.stdout.contains(&0x1b));
}
