//! Encoders of the real libraries, written by `tools/fixtures/importers.py`: read, encoded by the device's code, and compared with
//! what the library gave for 10,000 values each.

use std::{collections::BTreeMap, fs, io::Read, path::PathBuf, process::Command};

use flate2::read::GzDecoder;
use nfm::{
    encoding::{
        import::{self, Imported},
        raw::{RawFields, RawValue},
        section::Path,
        spec::{Encoder, Keys},
    },
    rows::Row,
    schema::{Field, FieldKind, Schema},
};

/// How far a number of the fixed path may be from the library's, beside 2⁻²⁰ of its size: its last place, and the steps of the file.
const FIXED: f64 = 1.0 / 65_536.0 + 1.0 / 8_388_608.0;
/// The same of the f32 path: roundings of the number, the offset and the scale.
const F32: f64 = 1e-5;

/// A case of `cases.json`.
#[derive(serde::Deserialize)]
struct Case {
    file: String,
    field: String,
    kind: String,
    values: String,
    results: String,
    /// What a value that is not there becomes, where it is not refused.
    missing: Option<f64>,
}

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/fixtures-encoders", name].iter().collect()
}

fn unpacked(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(fs::File::open(fixture(name)).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

fn values(list: &str) -> Vec<String> {
    let text = String::from_utf8(unpacked(&format!("{list}.txt.gz"))).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn cases() -> BTreeMap<String, Case> {
    serde_json::from_slice(&fs::read(fixture("cases.json")).unwrap()).unwrap()
}

fn read(file: &str) -> Vec<Imported> {
    import::read(&fixture(file)).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(file: &str) -> String {
    import::read(&fixture(file)).expect_err(file).to_string()
}

/// The encoder of a field; of a file without names, its only one.
fn encoder(file: &str, field: &str) -> Imported {
    let all = read(file);
    if field.is_empty() {
        assert_eq!(all.len(), 1, "{file}");
        return all.into_iter().next().unwrap();
    }
    let found = all.into_iter().find(|imported| imported.field.as_deref() == Some(field));
    found.unwrap_or_else(|| panic!("{file}: no field {field}"))
}

/// The device's encoder of an imported one.
fn device(imported: &Imported, path: Path) -> RawFields {
    let kind = imported.rows.map_or(FieldKind::Dense, |rows| FieldKind::Id { rows });
    let field = Field { encoding: imported.encoding.clone(), ..Field::new("field", kind) };
    RawFields::new(&[field], path).unwrap()
}

fn check_ids(case: &Case) {
    let device = device(&encoder(&case.file, &case.field), Path::Fixed);
    let mut device = device.encoder().unwrap();
    let bytes = unpacked(&case.results);
    let (expected, []) = bytes.as_chunks::<4>() else { panic!("{}: no ids", case.results) };
    let values = values(&case.values);
    assert_eq!((values.len(), expected.len()), (10_000, 10_000));
    for (value, expected) in values.into_iter().zip(expected) {
        let row = device.encode(&[RawValue::Text(value.clone())], None);
        // As the fixtures have it: -1 for a value that is refused, -2 for no entry.
        let found = row.map_or(-1, |row| row.ids.first().map_or(-2, |id| i64::from(*id)));
        let expected = i64::from(i32::from_le_bytes(*expected));
        // What the library has no id for, or one that is none, the device refuses; a sequence's padding is no entry.
        let agrees = found == expected || (found == -1 && expected == -2) || (found == -2 && expected == 0);
        assert!(agrees, "{} {}: {value:?}: {found}, expected {expected}", case.file, case.field);
    }
}

fn check_numbers(case: &Case) {
    let imported = encoder(&case.file, &case.field);
    let (fixed, float) = (device(&imported, Path::Fixed), device(&imported, Path::F32));
    let (mut fixed, mut float) = (fixed.encoder().unwrap(), float.encoder().unwrap());
    let bytes = unpacked(&case.results);
    let (steps, []) = bytes.as_chunks::<8>() else { panic!("{}: no numbers", case.results) };
    let mut sum = 0_i64;
    for (value, step) in values(&case.values).into_iter().zip(steps) {
        sum = sum.wrapping_add(i64::from_le_bytes(*step));
        let cell = [RawValue::Text(value.clone())];
        let number = |row: Result<Row, _>| row.map(|row| row.dense[0]).ok();
        let (on_fixed, on_f32) = (number(fixed.encode(&cell, None)), number(float.encode(&cell, None)));
        let expected = (sum != i64::MIN).then(|| sum as f64 / f64::from(1 << 24));
        let near = |found: Option<f64>, bound: f64| match found.zip(expected) {
            Some((found, expected)) => {
                (found - expected).abs() <= bound + expected.abs() / f64::from(1 << 20)
            }
            None => found == expected,
        };
        let place = format!("{} {}: {value}: {on_fixed:?}, {on_f32:?}", case.file, case.field);
        assert!(near(on_fixed, FIXED) && near(on_f32, F32), "{place}, expected {expected:?}");
    }
    let missing = float.encode(&[RawValue::Missing], None).ok().map(|row| row.dense[0]);
    assert_eq!(missing.is_some(), case.missing.is_some(), "{} {}", case.file, case.field);
    let distance = missing.zip(case.missing).map_or(0.0, |(found, expected)| (found - expected).abs());
    assert!(distance < F32, "{} {}: {missing:?}, expected {:?}", case.file, case.field, case.missing);
}

#[test]
fn ids_are_those_of_the_real_libraries() {
    let cases = cases();
    let ids = cases.values().filter(|case| case.kind == "ids");
    assert_eq!(ids.map(check_ids).count(), 29);
}

#[test]
fn numbers_are_those_of_the_real_libraries() {
    let cases = cases();
    let numbers = cases.values().filter(|case| case.kind == "numbers");
    assert_eq!(numbers.map(check_numbers).count(), 11);
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (file, essential) in [
        (
            "refused-one-hot.pkl",
            "OneHotEncoder: expected another class, found this one; supported are LabelEncoder",
        ),
        ("refused-power.pkl", "PowerTransformer: expected another class"),
        ("refused-function.pkl", "expected numpy.log1p or numpy.log, found `numpy.sqrt`"),
        ("refused-chain.pkl", "found StandardScaler → MinMaxScaler"),
        ("refused-code.pkl", "calls `posix.system`"),
        (
            "refused-mixed.pkl",
            "field `city`: expected keys that are all texts or all numbers, found an integer among them",
        ),
        ("refused-lzma.joblib", "found one that is packed by xz; save it uncompressed"),
        ("floats.txt.gz", "found neither one of these nor UTF-8 text"),
        ("no-such-file.pkl", "No such file"),
    ] {
        let message = refusal(file);
        assert!(message.contains(essential), "{message}");
    }
}

#[test]
fn text_that_holds_no_encoder_is_refused_with_its_place() {
    for (text, essential) in [
        ("", "expected an encoder, found an empty file"),
        ("[]", "expected keys with ids, found none"),
        ("{}", "expected encoders, found none"),
        ("{\"a\": -1}", "expected an id of at least 0 for each key, found -1"),
        ("{\"a\": {\"b\": {\"c\": 1}}}", "field `a`: expected an id of at least 0 for each key, found a map"),
        ("{\"a\": [\"x\", \"x\"]}", "field `a`: expected each key once, found \"x\" twice"),
        ("{\"dataset_id\": \"d\", \"features\": []}", "put feature_vocab.json beside it"),
        ("[1.5, 1.50000001]", "expected keys that differ as numbers of 32 bits, found 1.5 twice"),
        ("{\"a\"", "EOF"),
        (
            "name,number\na,1\n",
            "line 1: expected the header `key,id` or lines of `id,key`, found \"name,number\"",
        ),
        ("key,id\na,1\nb,x\n", "line 3: expected a whole number from 0 to 4294967295 as the id, found \"x\""),
        ("1,a\n2\n", "line 2: expected an id and a key, found \"2\""),
        ("1,a\n2,a\n", "expected each key once, found \"a\" twice"),
    ] {
        let file = text_file(text);
        let message = import::read(file.path()).expect_err(text).to_string();
        assert!(message.contains(essential), "{text}: {message}");
    }
}

fn text_file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn adjacent_floats_are_apart() {
    let (low, high) = (0.1_f32, 0.1_f32.next_up());
    let file = text_file(&format!("[{high}, {low}, -0.0]"));
    let imported = import::read(file.path()).unwrap().remove(0);
    let device = device(&imported, Path::Fixed);
    let mut device = device.encoder().unwrap();
    let mut id =
        |number: f32| device.encode(&[RawValue::Float(number.into())], None).ok().map(|row| row.ids[0]);
    assert_eq!((id(high), id(low), id(0.0)), (Some(0), Some(1), Some(2)));
    assert_eq!((id(low.next_down()), id(high.next_up()), id(0.0_f32.next_up())), (None, None, None));
}

#[test]
fn a_damaged_file_is_an_error_or_an_encoder() {
    let mut draws = 7_u64;
    for file in [
        "label.pkl",
        "label.joblib",
        "scalers.joblib",
        "columns.joblib",
        "feature_processor.pkl",
        "pangu.pth",
    ] {
        let bytes = fs::read(fixture(file)).unwrap();
        let damaged = tempfile::NamedTempFile::new().unwrap();
        for cut in 0..40 {
            fs::write(damaged.path(), &bytes[..bytes.len() * cut / 40]).unwrap();
            assert!(import::read(damaged.path()).is_err(), "{file}: {cut}/40");
        }
        for _ in 0..150 {
            draws = draws.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (at, byte) = (usize::try_from(draws >> 33).unwrap() % bytes.len(), draws.to_le_bytes()[3]);
            let mut changed = bytes.clone();
            changed[at] = byte;
            fs::write(damaged.path(), &changed).unwrap();
            drop(import::read(damaged.path()));
        }
    }
}

/// Standard output and standard error of `nfm`, and whether it succeeded.
fn nfm(arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nfm"));
    let output = command.args(arguments).current_dir(checkpoints()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn schema(arguments: &[&str]) -> (bool, String, String) {
    nfm(&[&["schema"], arguments].concat())
}

fn checkpoints() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/fixtures"].iter().collect()
}

/// The schema that `nfm schema` writes, and its remarks.
fn drafted(arguments: &[&str]) -> (Schema, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (ok, _, remarks) = schema(&[arguments, &["-o", &file.path().display().to_string()]].concat());
    assert!(ok, "{arguments:?}: {remarks}");
    (Schema::read(file.path()).unwrap(), remarks)
}

fn names_and_rows(schema: &Schema) -> Vec<(&str, u32)> {
    schema.fields.iter().map(|field| (field.name.as_str(), field.kind.rows())).collect()
}

#[test]
fn a_schema_takes_encoders_by_the_names_of_fields() {
    let (fuxi, _) =
        drafted(&["fuxictr-plain/checkpoint.model", "--encoders", "fuxictr-plain/feature_vocab.json"]);
    assert_eq!(names_and_rows(&fuxi), [("user", 9), ("item", 14), ("hour", 24)]);
    let known = import::read(&checkpoints().join("fuxictr-plain/feature_vocab.json")).unwrap();
    for field in &fuxi.fields {
        let imported = known.iter().find(|imported| imported.field.as_ref() == Some(&field.name)).unwrap();
        assert_eq!((&field.encoding, imported.rows), (&imported.encoding, Some(field.kind.rows())));
    }
    // rec_pangu's model carries its own.
    let model = "recpangu-all/checkpoint.pth";
    let (pangu, _) = drafted(&[model, "--encoders", model]);
    assert!(pangu.fields.iter().all(|field| field.encoding.encoder.is_some()));
}

#[test]
fn raw_rows_score_as_encoded_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (checkpoint, vocabularies) = ("fuxictr-plain/checkpoint.model", "fuxictr-plain/feature_vocab.json");
    let (schema, model) = (path("schema.json"), path("model.nfm"));
    let ok = |arguments: &[&str]| {
        let (ok, out, message) = nfm(arguments);
        assert!(ok, "{arguments:?}: {message}");
        out
    };
    ok(&["schema", checkpoint, "--encoders", vocabularies, "-o", &schema]);
    ok(&["convert", checkpoint, "--schema", &schema, "-o", &model]);
    let keys: BTreeMap<String, BTreeMap<String, u32>> =
        serde_json::from_slice(&fs::read(checkpoints().join(vocabularies)).unwrap()).unwrap();
    let rows = fs::read_to_string(checkpoints().join("fuxictr-plain/rows.csv")).unwrap();
    let header = rows.lines().next().unwrap();
    let (mut encoded, mut raw) = (format!("{header}\n"), format!("{header}\n"));
    for line in rows.lines().skip(1) {
        let key = |(name, id): (&str, &str)| match keys.get(name) {
            None => Some(id.to_owned()),
            Some(keys) => keys.iter().find(|(_, other)| other.to_string() == id).map(|(key, _)| key.clone()),
        };
        let cells: Vec<String> = header.split(',').zip(line.split(',')).filter_map(key).collect();
        // A row of padding comes of no raw value; what is not in the vocabulary is unseen.
        if !cells.iter().any(|cell| cell == "__PAD__") {
            encoded.push_str(&format!("{line}\n"));
            raw.push_str(&format!("{}\n", cells.join(",").replace("__OOV__", "never seen")));
        }
    }
    assert!(raw.contains("never seen") && raw.lines().count() > 40, "{raw}");
    fs::write(path("raw.csv"), raw).unwrap();
    fs::write(path("encoded.csv"), encoded).unwrap();
    let of_encoded = ok(&["score", checkpoint, &path("encoded.csv")]);
    assert_eq!(ok(&["score", checkpoint, "--schema", &schema, &path("raw.csv")]), of_encoded);
    let plain = path("plain.nfm");
    ok(&["convert", checkpoint, "-o", &plain]);
    assert_eq!(ok(&["score", &model, &path("raw.csv")]), ok(&["score", &plain, &path("encoded.csv")]));
}

#[test]
fn a_schema_takes_names_and_vocabularies_from_rows() {
    // The offsets are not in the checkpoint; the rows tell them.
    let (torchfm, _) = drafted(&["torchfm-state/checkpoint.pt", "--csv", "torchfm-state/rows.csv"]);
    assert_eq!(names_and_rows(&torchfm), [("user", 9), ("item", 14), ("hour", 24)]);
    // The names of dense inputs are not, either.
    let rows = text_file("user,item,genre,hour,age,price,label\n0,é,pop,5,-1.5,2,1\n11,a,,3,0,1e2,0\n");
    let rows = rows.path().display().to_string();
    let (deepctr, remarks) = drafted(&["deepctr-zip/checkpoint.pt", "--csv", &rows]);
    let names: Vec<&str> = deepctr.fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["user", "item", "genre", "hour", "age", "price"]);
    let Some(Encoder::Vocabulary(vocabulary)) = &deepctr.fields[1].encoding.encoder else {
        panic!("{remarks}")
    };
    assert_eq!(vocabulary.keys, Keys::Text(vec![("a".into(), 0), ("é".into(), 1)]));
    for essential in [
        "field `user`: ids from 0 to 11 for 12 rows, taken as they are",
        "field `item`: assumed: ids are the places of the 2 different values",
        "field `genre`: assumed: ids are the places of the 1 different values in their order, as LabelEncoder has it, for 5 rows; if \
         not, say --encoders; some cells are empty: say `missing`",
        "field `price`: numbers from 2 to 100, taken as they are",
    ] {
        assert!(remarks.contains(essential), "{remarks}");
    }
}

#[test]
fn a_schema_that_does_not_fit_is_refused_with_both_numbers() {
    let keys = text_file(&format!("[{}]", (0..13).map(|at| at.to_string()).collect::<Vec<_>>().join(",")));
    let keys = keys.path().display().to_string();
    let user = format!("user={keys}");
    let rows = text_file("user,item,hour,label\n0,1,2,1\n");
    let rows = rows.path().display().to_string();
    let texts = text_file("user,item,genre,hour,age,price\n0,1,2,3,old,5\n");
    let texts = texts.path().display().to_string();
    let two = format!("user,item={keys}");
    for (arguments, essential) in [
        (
            &["deepctr-zip/checkpoint.pt", "--encoders", &user][..],
            "gives 13 ids, but the field's table has 12 rows",
        ),
        (&["deepctr-zip/checkpoint.pt", "--encoders", &keys], "the file does not name its field; say FIELD="),
        (
            &["deepctr-zip/checkpoint.pt", "--encoders", &two],
            "expected 2 encoders, one for each name, found 1",
        ),
        (
            &["deepctr-zip/checkpoint.pt", "--encoders", "../fixtures-encoders/bole.json"],
            "(`user`, `item`, `genre`, `hour`, `dense_0`, `dense_1`), found `item_id`",
        ),
        (
            &["deepctr-zip/checkpoint.pt", "--encoders", "user=../fixtures-encoders/constant.pkl"],
            "gives a number, but the model takes an id here",
        ),
        (
            &["torchfm-state/checkpoint.pt", "--csv", &rows],
            "one table of 47 rows for all fields, the columns' ids need 6",
        ),
        (&["deepctr-zip/checkpoint.pt", "--csv", &rows], "found none for `genre`, `dense_0`, `dense_1`"),
        (
            &["deepctr-zip/checkpoint.pt", "--csv", &texts],
            "column `age`: expected numbers, as the model takes here, found \"old\"",
        ),
    ] {
        let (ok, _, message) = schema(arguments);
        assert!(!ok && message.contains(essential), "{arguments:?}: {message}");
    }
}
