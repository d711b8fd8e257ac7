//! The whole road on checkpoints that real frameworks wrote: oracle, f32 and int8 against the framework's own scores.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use nfm::{
    container,
    convert::{calibrate, convert},
    dialect::{Hints, import},
    error::Result,
    evaluate::{Scored, differences, metrics},
    float_model::FloatModel,
    model_file::Scorer,
    quantize::{Activations, DenseWeights, Embeddings, Layout, Options, Scales},
    rows::{Row, Rows},
    schema::{Schema, Task},
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The file or folder of this name, whatever its extension; of a TensorFlow checkpoint its index.
fn file(folder: &Path, stem: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let is_it = |path: &PathBuf| name(path).split('.').next() == Some(stem) && !name(path).contains(".data-");
    entries.filter(is_it).min_by_key(|path| (!name(path).ends_with(".index"), name(path)))
}

fn hints(folder: &Path) -> Hints {
    let path = folder.join("schema.json");
    let schema = path.exists().then(|| Schema::read(&path).unwrap());
    let path = folder.join("map.toml");
    let map = path.exists().then(|| nfm::dialect::map::Map::read(&path).unwrap());
    // No row of libFM text has more entries.
    Hints { schema, map, max_active: folder.join("rows.libfm").exists().then_some(8), ..Hints::default() }
}

fn load(checkpoint: &Path, hints: &Hints) -> Result<FloatModel> {
    import(container::read(checkpoint)?, hints)
}

fn rows(path: &Path, model: &FloatModel) -> Vec<Row> {
    Rows::open(path, &model.fields).unwrap().collect::<Result<_>>().unwrap()
}

/// Raw score and, for a binary task, probability of each row, as the framework printed them.
fn expected(folder: &Path) -> Vec<Vec<f64>> {
    let text = fs::read_to_string(folder.join("expected.csv")).unwrap();
    text.lines().skip(1).map(|line| line.split(',').map(|cell| cell.parse().unwrap()).collect()).collect()
}

/// Each case's words stand in the refusal.
#[test]
fn what_no_blob_can_hold_is_refused_with_the_reason() {
    #[derive(serde::Deserialize)]
    struct Case {
        message: Vec<String>,
    }
    let folder = fixtures().join("refused");
    let cases = fs::read_to_string(folder.join("cases.json")).unwrap();
    let cases: BTreeMap<String, Case> = serde_json::from_str(&cases).unwrap();
    assert!(cases.len() >= 7);
    for (name, case) in cases {
        let folder = folder.join(&name);
        let message = load(&file(&folder, "checkpoint").unwrap(), &hints(&folder)).unwrap_err().to_string();
        println!("{message}");
        for word in case.message {
            assert!(
                message.to_lowercase().contains(&word.to_lowercase()),
                "{name}: no `{word}` in {message}"
            );
        }
    }
}

#[test]
fn each_fixture_is_recognized_by_one_dialect() {
    for folder in scored_fixtures() {
        let tensors = container::read(&file(&folder, "checkpoint").unwrap()).unwrap();
        let names = nfm::dialect::recognized(&tensors);
        let wanted = usize::from(!folder.join("map.toml").exists());
        assert_eq!(names.len(), wanted, "{}: {names:?}", folder.display());
    }
}

/// `--dialect` may name a wrong one.
#[test]
fn no_dialect_panics_on_the_checkpoint_of_another() {
    for folder in scored_fixtures() {
        let tensors = container::read(&file(&folder, "checkpoint").unwrap()).unwrap();
        for dialect in nfm::dialect::DIALECTS {
            let mut hints = hints(&folder);
            (hints.map, hints.dialect) = (None, Some(dialect.name.into()));
            let _ = import(tensors.clone(), &hints);
            hints.schema = None;
            let _ = import(tensors.clone(), &hints);
        }
    }
}

/// The table of the user's page between `<!-- dialects -->` and `<!-- /dialects -->`, which `NFM_WRITE_GOLDEN=1` rewrites.
#[test]
fn the_table_of_what_loads_is_that_of_the_fixtures() {
    let table = format!("{}\n{}", loaded_table(), refused_table());
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(&page).unwrap();
    let (start, end) = ("<!-- dialects -->\n\n", "\n<!-- /dialects -->");
    let (before, rest) = text.split_once(start).unwrap();
    let (found, after) = rest.split_once(end).unwrap();
    if std::env::var_os("NFM_WRITE_GOLDEN").is_some() {
        fs::write(&page, format!("{before}{start}{table}{end}{after}")).unwrap();
    } else {
        assert_eq!(found, table, "rewrite it with NFM_WRITE_GOLDEN=1");
    }
}

/// A line for each dialect: whose models, from which containers, made by what.
fn loaded_table() -> String {
    let mut loads: BTreeMap<&str, (BTreeMap<&str, usize>, BTreeSet<String>)> = BTreeMap::new();
    for folder in scored_fixtures() {
        let tensors = container::read(&file(&folder, "checkpoint").unwrap()).unwrap();
        let container = tensors.container;
        let dialect = import(tensors, &hints(&folder)).unwrap().dialect;
        let (containers, makers) = loads.entry(dialect).or_default();
        *containers.entry(container).or_default() += 1;
        makers.insert(made_by(&folder));
    }
    let untested = nfm::dialect::DIALECTS.iter().find(|known| !loads.contains_key(known.name));
    assert!(untested.is_none(), "{untested:?} has no fixture");
    let heading = "| `--dialect` | whose models | loads from (fixtures) | made by |\n|---|---|---|---|\n";
    let mut table = String::from(heading);
    for (dialect, (containers, makers)) in &loads {
        let about = nfm::dialect::DIALECTS.iter().find(|known| known.name == *dialect);
        let about = about.map_or("any, by `--map`", |known| known.about);
        let containers: Vec<String> =
            containers.iter().map(|(name, fixtures)| format!("{name} ({fixtures})")).collect();
        let makers: Vec<&str> = makers.iter().map(String::as_str).collect();
        table += &format!("| `{dialect}` | {about} | {} | {} |\n", containers.join(", "), makers.join("; "));
    }
    table
}

/// A line for each file that is refused.
fn refused_table() -> String {
    let mut table = String::from("| refused | because |\n|---|---|\n");
    let cases = fs::read_to_string(fixtures().join("refused/cases.json")).unwrap();
    let cases: BTreeMap<String, serde_json::Value> = serde_json::from_str(&cases).unwrap();
    for (name, case) in &cases {
        table += &format!("| {name} | {} |\n", case["because"].as_str().unwrap());
    }
    table
}

/// What wrote a fixture: the line of `made_by.json` with the longest start of its name. `{package}` is the version by which the
/// scripts' requirements pin it.
fn made_by(folder: &Path) -> String {
    let text = fs::read_to_string(fixtures().with_file_name("made_by.json")).unwrap();
    let makers: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    let name = folder.file_name().unwrap().to_str().unwrap();
    let is_it = |start: &String| {
        name.strip_prefix(start.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let maker = makers.into_iter().filter(|(start, _)| is_it(start)).max_by_key(|(start, _)| start.len());
    let mut maker = maker.unwrap_or_else(|| panic!("{name}: say in tests/made_by.json what wrote it")).1;
    while let Some((before, rest)) = maker.split_once('{') {
        let (package, after) = rest.split_once('}').expect("a closed brace");
        maker = format!("{before}{}{after}", pinned(package));
    }
    maker
}

/// The one version of a package in the requirements of the fixtures' scripts.
fn pinned(package: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "txt"));
    let text: String = files.map(|path| fs::read_to_string(path).unwrap()).collect();
    let pins = text.split_whitespace().filter_map(|word| word.split_once("=="));
    let versions: BTreeSet<&str> = pins.filter(|(name, _)| *name == package).map(|(_, pin)| pin).collect();
    assert_eq!(versions.len(), 1, "{package}: expected one version in tools/fixtures, found {versions:?}");
    versions.into_iter().collect()
}

/// Every fixture that a framework scored.
fn scored_fixtures() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|folder| folder.join("expected.csv").exists())
        .collect();
    folders.sort();
    assert!(folders.len() >= 100, "fixtures are missing: {}", folders.len());
    folders
}

fn raw(scorer: &mut Scorer<'_>, rows: &[Row]) -> Vec<f64> {
    rows.iter().map(|row| scorer.score(row).unwrap().raw).collect()
}

fn within(got: &[f64], want: &[f64], bound: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (row, (got, want)) in got.iter().zip(want).enumerate() {
        // Written so that NaN fails.
        assert!(
            (got - want).abs() <= bound * want.abs().max(1.0),
            "{what}, row {row}: {got}, expected {want}"
        );
    }
}

#[test]
fn the_oracle_gives_the_frameworks_scores() {
    for folder in scored_fixtures() {
        let name = folder.display().to_string();
        let model = load(&file(&folder, "checkpoint").unwrap(), &hints(&folder)).unwrap();
        let rows = rows(&file(&folder, "rows").unwrap(), &model);
        let expected = expected(&folder);
        assert!(expected.len() >= 64, "{name}");
        for (row, want) in rows.iter().zip(&expected) {
            let got = Scorer::Oracle(&model).score(row).unwrap();
            within(&[got.raw], &want[..1], 1e-5, &name);
            if let Some(probability) = want.get(1) {
                within(&[got.prediction], &[*probability], 1e-5, &name);
            }
        }
    }
}

/// FuxiCTR's `feature_map.json`, beside the checkpoint or in the place of the schema.
#[test]
fn a_feature_map_is_a_schema() {
    for fixture in ["fuxictr-numeric", "fuxictr-sequences", "fuxictr-shared", "fuxictr-pretrained"] {
        let folder = fixtures().join(fixture);
        let beside = container::read(&file(&folder, "checkpoint").unwrap()).unwrap();
        let mut alone = beside.clone();
        assert!(alone.facts.shift_remove("feature_map").is_some(), "{fixture}");
        let schema = Some(Schema::read(&folder.join("feature_map.json")).unwrap());
        let want: Vec<f64> = expected(&folder).iter().map(|row| row[0]).collect();
        for (tensors, schema) in [(beside, None), (alone, schema)] {
            let model =
                import(tensors, &Hints { schema, activation: Some("relu".into()), ..Hints::default() });
            let model = model.unwrap();
            let rows = rows(&folder.join("rows.csv"), &model);
            within(&raw(&mut Scorer::Oracle(&model), &rows), &want, 1e-5, fixture);
        }
    }
}

#[test]
fn a_wrong_weight_makes_the_oracle_differ() {
    let folder = fixtures().join("deepctr-zip");
    let mut model = load(&folder.join("checkpoint.pt"), &hints(&folder)).unwrap();
    let rows = rows(&folder.join("rows.csv"), &model);
    let want: Vec<f64> = expected(&folder).iter().map(|row| row[0]).collect();
    model.linear.iter_mut().for_each(|w| *w *= 1.001);
    let got = raw(&mut Scorer::Oracle(&model), &rows);
    assert!(got.iter().zip(&want).any(|(got, want)| (got - want).abs() > 1e-5));
}

/// Converts with and without rows to calibrate with, and gives the blob's scores and the oracle's.
fn through_the_library(folder: &Path, options: Options, with_rows: bool) -> (Vec<f64>, Vec<f64>) {
    let mut model = load(&file(folder, "checkpoint").unwrap(), &hints(folder)).unwrap();
    let path = file(folder, "rows").unwrap();
    let rows = rows(&path, &model);
    let values = rows.iter().flat_map(|row| row.values.iter().flatten().map(|value| value.abs()));
    model.max_value = values.fold(1.0, f64::max).ceil();
    let ranges = with_rows.then(|| {
        let opened = Rows::open(&path, &model.fields).unwrap();
        calibrate(&mut model, opened, "rows", true).unwrap()
    });
    let converted = convert("test", &folder.display().to_string(), &model, ranges, options).unwrap();
    let got = raw(&mut Scorer::parse(&converted.blob).unwrap(), &rows);
    (got, raw(&mut Scorer::Oracle(&model), &rows))
}

#[test]
fn the_f32_path_is_within_its_stated_accuracy() {
    let options = Options { embeddings: Embeddings::F32, dense: DenseWeights::F32, ..Options::default() };
    for folder in scored_fixtures() {
        let (got, want) = through_the_library(&folder, options, false);
        within(&got, &want, embedded_nfm::F32Model::ACCURACY, &folder.display().to_string());
    }
}

/// The fixtures' weights are random, so their scores are larger and rougher than a trained model's: the bounds are on the
/// largest error as a part of the scores' own range.
#[test]
fn eight_bit_weights_stay_within_their_bound_of_the_oracle() {
    let options = Options::default();
    let variants = [
        ("int8, 16-bit activations", options, 0.02),
        ("int8 embeddings, f32 layers", Options { dense: DenseWeights::F32, ..options }, 0.02),
        ("f32 embeddings, int8 layers", Options { embeddings: Embeddings::F32, ..options }, 0.02),
        ("int8, scalar layout", Options { layout: Layout::Scalar, ..options }, 0.02),
        ("4-bit embeddings", Options { embeddings: Embeddings::I4, ..options }, 0.15),
        ("mixed embeddings", Options { embeddings: Embeddings::Mixed, hot_share: 0.5, ..options }, 0.08),
        ("int8, lane and row scales", Options { scales: Scales::LaneRow, ..options }, 0.02),
        ("int8, 8-bit activations", Options { activations: Activations::I8, ..options }, 0.08),
    ];
    for folder in scored_fixtures() {
        for (what, options, bound) in variants {
            let (got, want) = through_the_library(&folder, options, true);
            let range =
                want.iter().copied().fold(f64::MIN, f64::max) - want.iter().copied().fold(f64::MAX, f64::min);
            let largest = differences(&got, &want).max.unwrap() / range;
            println!("{:60} {what:30} {largest:.5}", folder.file_name().unwrap().to_str().unwrap());
            assert!(largest <= bound, "{}: {what}: {largest} of the range", folder.display());
        }
    }
}

#[test]
fn without_rows_the_ranges_come_from_the_weights() {
    for folder in scored_fixtures() {
        let (got, want) = through_the_library(&folder, Options::default(), false);
        let range =
            want.iter().copied().fold(f64::MIN, f64::max) - want.iter().copied().fold(f64::MAX, f64::min);
        let largest = differences(&got, &want).max.unwrap() / range;
        println!("{:60} {largest:.5}", folder.file_name().unwrap().to_str().unwrap());
        assert!(largest <= 0.07, "{}: {largest} of the range", folder.display());
    }
}

/// Scores of the demo's held-out rows: the framework's, and the library's after a conversion with `options`.
fn demo(options: Options) -> (Vec<Scored>, Vec<Scored>, usize, usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
    let mut model = load(&folder.join("flights.pt"), &hints(&folder)).unwrap();
    let raw_fields = Scorer::Oracle(&model).raw_fields(None).unwrap().unwrap();
    let calibration = Rows::open_raw(&folder.join("calibrate.csv.gz"), &raw_fields).unwrap();
    let ranges = calibrate(&mut model, calibration, "calibrate.csv.gz", true).unwrap();
    let rows = rows(&folder.join("heldout.ids.csv.gz"), &model);
    let from_raw = Rows::open_raw(&folder.join("heldout.csv.gz"), &raw_fields).unwrap();
    assert_eq!(from_raw.collect::<Result<Vec<_>>>().unwrap(), rows);
    let mut text = String::new();
    let gz = fs::File::open(folder.join("heldout.expected.csv.gz")).unwrap();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(gz), &mut text).unwrap();
    let framework = text.lines().skip(1).zip(&rows).map(|(line, row)| {
        let (raw, probability) = line.split_once(',').unwrap();
        Scored { label: row.label, raw: raw.parse().unwrap(), prediction: probability.parse().unwrap() }
    });
    let framework: Vec<Scored> = framework.collect();
    assert_eq!(framework.len(), 4000);
    let oracle = raw(&mut Scorer::Oracle(&model), &rows);
    within(&oracle, &framework.iter().map(|s| s.raw).collect::<Vec<_>>(), 1e-5, "the oracle");
    let converted = convert("demo", "flights.pt", &model, Some(ranges), options).unwrap();
    let mut scorer = Scorer::parse(&converted.blob).unwrap();
    let scored = rows.iter().map(|row| scorer.score(row).unwrap()).collect();
    let weights = converted.sizes.total - converted.sizes.encoders;
    (framework, scored, weights, model.parameters * 4)
}

#[test]
fn quantization_costs_the_demo_nothing_that_shows() {
    let (framework, scored, bytes, float_bytes) = demo(Options::default());
    let [want, got] = [&framework, &scored].map(|scored| metrics(Task::Binary, scored));
    let auc = got.auc.unwrap() - want.auc.unwrap();
    let log_loss = got.log_loss.unwrap() - want.log_loss.unwrap();
    println!("ΔAUC {auc:+.6}, Δlog-loss {log_loss:+.6}, {bytes} of {float_bytes} bytes");
    assert!(auc.abs() <= 0.0003, "{auc}");
    assert!(log_loss.abs() <= 0.0003, "{log_loss}");
    assert!(bytes * 100 <= float_bytes * 30, "{bytes} of {float_bytes} bytes");
}

#[test]
fn the_demo_is_within_accuracy_on_the_f32_path() {
    let options = Options { embeddings: Embeddings::F32, dense: DenseWeights::F32, ..Options::default() };
    let (framework, scored, ..) = demo(options);
    let [want, got] = [&framework, &scored].map(|scored| scored.iter().map(|s| s.raw).collect::<Vec<_>>());
    within(&got, &want, 1e-5, "f32");
}

#[test]
fn hostile_checkpoints_are_refused_and_odd_ones_give_the_same_scores() {
    let folder = fixtures().join("hostile");
    let sound = fixtures().join("deepctr-zip");
    let hints = hints(&sound);
    let want: Vec<f64> = expected(&sound).iter().map(|row| row[0]).collect();
    let cases = fs::read_to_string(folder.join("cases.json")).unwrap();
    let cases: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(&cases).unwrap();
    assert!(cases.len() >= 15);
    for (name, case) in cases {
        let result = load(&folder.join(&name), &hints);
        if case["expect"] == "refused" {
            let message = result.expect_err(&name).to_string();
            println!("{message}");
            assert!(message.contains(&name), "{message}");
        } else {
            let model = result.unwrap();
            let rows = rows(&sound.join("rows.csv"), &model);
            within(&raw(&mut Scorer::Oracle(&model), &rows), &want, 1e-5, &name);
        }
    }
    assert!(!Path::new("/tmp/embedded-nfm-pwned").exists());
}

#[test]
fn what_a_checkpoint_lacks_is_asked_for_by_name() {
    let bare = fixtures().join("paper-bare");
    let mut hints = hints(&bare);
    let schema = hints.schema.as_mut().unwrap();
    schema.bn_eps = None;
    let message = load(&bare.join("checkpoint.pt"), &hints).unwrap_err().to_string();
    assert!(message.contains("--bn-eps"), "{message}");

    let lost = fixtures().join("deepctr-missing-linear");
    let message = load(&lost.join("checkpoint.pt"), &self::hints(&lost)).unwrap_err().to_string();
    assert!(message.contains("linear_model.weight") && message.contains("0.2.4"), "{message}");
}

/// The fixture's refusal after a change of its schema's JSON.
fn refusal_of(fixture: &str, change: impl FnOnce(&mut serde_json::Value)) -> String {
    let folder = fixtures().join(fixture);
    let text = fs::read_to_string(folder.join("schema.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    change(&mut json["fields"]);
    let path = tempfile::NamedTempFile::new().unwrap();
    fs::write(path.path(), json.to_string()).unwrap();
    let schema = Schema::read(path.path());
    let hints = schema.map(|schema| Hints { schema: Some(schema), ..hints(&folder) });
    let result = hints.and_then(|hints| load(&file(&folder, "checkpoint").unwrap(), &hints));
    result.unwrap_err().to_string()
}

#[test]
fn a_schema_that_does_not_fit_a_checkpoint_is_refused_with_both() {
    let encoder = serde_json::json!({"type": "vocabulary", "keys": ["a", "b"]});
    for (message, essential) in [
        (
            refusal_of("deepctr-zip", |fields| fields[1]["rows"] = 41.into()),
            "field `item`: the schema says 41 rows, the checkpoint has 40",
        ),
        (
            refusal_of("deepctr-zip", |fields| {
                fields[1]["rows"] = 41.into();
                fields[1]["encoder"] = encoder;
            }),
            "field `item`: the schema says 41 rows, the checkpoint has 40",
        ),
        (
            refusal_of("deepctr-zip", |fields| drop(fields.as_array_mut().unwrap().remove(1))),
            "the checkpoint's field `item` of 40 rows is not in it",
        ),
        (
            refusal_of("deepctr-zip", |fields| drop(fields.as_array_mut().unwrap().pop())),
            "the checkpoint has 2 dense inputs, the schema 1",
        ),
        (
            refusal_of("deepctr-zip", |fields| fields[1]["name"] = "thing".into()),
            "the checkpoint has no table for the field `thing`",
        ),
        (
            refusal_of("paper-bare", |fields| fields[0]["rows"] = 21.into()),
            "the checkpoint has 67 rows, the schema's fields 68",
        ),
        (
            refusal_of("fuxictr-sequences", |fields| fields[1]["pooling"] = "max".into()),
            "expected pooling mean or sum, found max",
        ),
        (
            refusal_of("fuxictr-sequences", |fields| fields[1]["linear_pooling"] = "mean".into()),
            "expected linear_pooling sum, as the trainer has it, found mean",
        ),
        (
            refusal_of("fuxictr-sequences", |fields| fields[1]["padding"] = 11.into()),
            "fields[1].padding: expected an id below 11, its rows, found 11",
        ),
    ] {
        assert!(message.contains(essential), "no {essential:?} in {message}");
    }
}
