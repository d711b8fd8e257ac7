//! The whole road on checkpoints that real frameworks wrote: oracle, f32 and int8 against the framework's own scores.

use std::{
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

/// Fixtures whose container or dialect is not read yet, by the start of their names; each is still refused.
const NOT_YET: &[&str] = &["angel", "deepctr-0.", "onnx", "paddlerec", "princewen"];

fn is_not_yet(folder: &Path) -> bool {
    let name = folder.file_name().unwrap().to_str().unwrap();
    NOT_YET.iter().any(|start| name.starts_with(start))
}

/// Every fixture that a framework scored and that loads.
fn scored_fixtures() -> Vec<PathBuf> {
    let (not_yet, folders): (Vec<_>, Vec<_>) =
        all_fixtures().into_iter().partition(|folder| is_not_yet(folder));
    assert_eq!(not_yet.is_empty(), NOT_YET.is_empty());
    folders
}

#[test]
fn what_is_not_read_yet_is_refused() {
    for folder in all_fixtures().into_iter().filter(|folder| is_not_yet(folder)) {
        let result = load(&file(&folder, "checkpoint").unwrap(), &hints(&folder));
        assert!(result.is_err(), "{} loads: take it out of NOT_YET", folder.display());
    }
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
    let cases: std::collections::BTreeMap<String, Case> = serde_json::from_str(&cases).unwrap();
    assert!(cases.len() >= 7);
    for (name, case) in cases {
        let folder = folder.join(&name);
        if is_not_yet(&folder) {
            println!("{name} is not refused for its reason yet");
            continue;
        }
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
    let mut loads: std::collections::BTreeMap<&str, std::collections::BTreeMap<&str, Vec<String>>> =
        std::collections::BTreeMap::new();
    for folder in scored_fixtures() {
        let tensors = container::read(&file(&folder, "checkpoint").unwrap()).unwrap();
        let container = tensors.container;
        let dialect = import(tensors, &hints(&folder)).unwrap().dialect;
        let fixture = folder.file_name().unwrap().to_str().unwrap().to_owned();
        loads.entry(dialect).or_default().entry(container).or_default().push(fixture);
    }
    let mut table = String::from("| `--dialect` | whose models | loads from (fixtures) |\n|---|---|---|\n");
    for (dialect, containers) in &loads {
        let about = nfm::dialect::DIALECTS.iter().find(|known| known.name == *dialect);
        let about = about.map_or("any, by `--map`", |known| known.about);
        let containers: Vec<String> =
            containers.iter().map(|(name, fixtures)| format!("{name} ({})", fixtures.len())).collect();
        table += &format!("| `{dialect}` | {about} | {} |\n", containers.join(", "));
    }
    let untested = nfm::dialect::DIALECTS.iter().find(|known| !loads.contains_key(known.name));
    assert!(untested.is_none(), "{untested:?} has no fixture");
    table += "\n| refused | because |\n|---|---|\n";
    let cases = fs::read_to_string(fixtures().join("refused/cases.json")).unwrap();
    let cases: std::collections::BTreeMap<String, serde_json::Value> = serde_json::from_str(&cases).unwrap();
    for (name, case) in cases.iter().filter(|(name, _)| !is_not_yet(Path::new(name))) {
        table += &format!("| {name} | {} |\n", case["because"].as_str().unwrap());
    }
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

/// Every fixture that a framework scored.
fn all_fixtures() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|folder| folder.join("expected.csv").exists())
        .collect();
    folders.sort();
    assert!(folders.len() >= 18, "fixtures are missing: {}", folders.len());
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
    let calibration = Rows::open(&folder.join("calibrate.csv.gz"), &model.fields).unwrap();
    let ranges = calibrate(&mut model, calibration, "calibrate.csv.gz", true).unwrap();
    let rows = rows(&folder.join("heldout.csv.gz"), &model);
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
    (framework, scored, converted.sizes.total, model.parameters * 4)
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
    let cases: std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>> =
        serde_json::from_str(&cases).unwrap();
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

#[test]
fn a_schema_that_does_not_fit_is_refused_with_both_numbers() {
    let folder = fixtures().join("deepctr-zip");
    let mut hints = hints(&folder);
    let fields = &mut hints.schema.as_mut().unwrap().fields;
    fields[1].kind = nfm::schema::FieldKind::Id { rows: 41 };
    let message = load(&folder.join("checkpoint.pt"), &hints).unwrap_err().to_string();
    assert!(message.contains("41") && message.contains("40"), "{message}");
    hints.schema.as_mut().unwrap().fields.remove(1);
    let message = load(&folder.join("checkpoint.pt"), &hints).unwrap_err().to_string();
    assert!(message.contains("`item`"), "{message}");
}
