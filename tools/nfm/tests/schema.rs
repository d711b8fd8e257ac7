//! Schema files: what is accepted, what is refused and how that is told, by the reader and by the JSON Schema.

use std::{fs, path::Path};

use nfm::{
    encoding::spec::{
        Buckets, Closed, Encoder, Hash, HashFunction, HashedValues, Keep, Keys, Number, Of, Policy, Scale,
        Vocabulary,
    },
    error::Error,
    schema::{Field, FieldKind, Pooling, Schema, Sequence, Weights, lay_out},
    synthetic::Random,
};
use serde_json::{Value, json};

fn crate_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every schema file that is committed.
fn committed() -> Vec<std::path::PathBuf> {
    let mut found = vec![crate_root().join("demo/schema.json")];
    let folders = fs::read_dir(crate_root().join("tests/fixtures")).unwrap();
    found.extend(
        folders.map(|folder| folder.unwrap().path().join("schema.json")).filter(|path| path.is_file()),
    );
    assert!(found.len() > 50, "{} schemas", found.len());
    found
}

fn validator() -> jsonschema::Validator {
    let text = fs::read_to_string(crate_root().join("schema.schema.json")).unwrap();
    jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
}

/// Reads a schema from a folder of its own, in which `vocabularies` lie.
fn read(schema: &str, vocabularies: &[(&str, &str)]) -> Result<Schema, Error> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in vocabularies {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let path = folder.path().join("schema.json");
    fs::write(&path, schema).unwrap();
    Schema::read(&path)
}

fn of_field(field: &Value) -> String {
    json!({"schema_version": 1, "fields": [{"name": "home", "type": "id", "rows": 9}, field]}).to_string()
}

#[test]
fn committed_schemas_are_read_and_written_and_valid() {
    let validator = validator();
    for path in committed() {
        let schema = Schema::read(&path).unwrap_or_else(|e| panic!("{e}"));
        let text = fs::read_to_string(&path).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(&serde_json::from_str(&text).unwrap()).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        assert_eq!(read(&schema.to_json(), &[]).unwrap(), schema, "{}", path.display());
    }
}

/// Fields that are as they should be.
fn sound() -> Vec<Value> {
    vec![
        json!({"name": "a", "type": "id", "rows": 3, "unseen": "clamp", "missing": {"id": 2}}),
        json!({"name": "a", "type": "id", "table": "home", "encoder": {"type": "vocabulary", "keys": ["x", "y"], "first": 7}}),
        json!({"name": "a", "type": "id", "rows": 3, "encoder": {"type": "vocabulary", "entries": [[-5, 2], [7, 0]], "exact": true}, "unseen": {"id": 1}, "missing": "zero", "missing_values": ["", "NA"]}),
        json!({"name": "a", "type": "ids", "rows": 3, "max_len": 4, "keep": "last", "separator": ";", "weighted": true, "encoder": {"type": "hash", "function": "feature_hasher", "prefix": "a="}}),
        json!({"name": "a", "type": "sequence", "rows": 3, "pooling": "mean", "linear_pooling": "sum", "max_len": 5, "fill": 0, "weights": "softmax", "encoder": {"type": "hash", "function": "xxh64", "buckets": 2, "values": "float"}}),
        json!({"name": "a", "type": "sequence", "table": "home", "pooling": "max", "padding": 0}),
        json!({"name": "a", "type": "id", "rows": 4, "encoder": {"type": "buckets", "boundaries": [0, 1.5, 2e9], "closed": "right"}}),
        json!({"name": "a", "type": "id", "rows": 4, "encoder": {"type": "buckets", "boundaries": [0], "ids": [3, null]}}),
        json!({"name": "a", "type": "dense", "only": "deep", "encoder": {"type": "min_max", "min": -1, "max": 4, "low": -1, "high": 2, "epsilon": 1e-5, "of": "log1p", "clip": [-1, 2], "step": 0.25}, "unseen": "clamp", "missing": {"number": 0.5}}),
        json!({"name": "a", "type": "scaled", "encoder": {"type": "standard", "mean": 1, "std": 2}}),
        json!({"name": "a", "type": "dense", "encoder": {"type": "number", "of": "log"}, "unseen": {"number": -3}}),
    ]
}

#[test]
fn every_member_is_read_and_written_and_valid() {
    let validator = validator();
    for field in sound() {
        let text = of_field(&field);
        let schema = read(&text, &[]).unwrap_or_else(|e| panic!("{field}: {e}"));
        let errors: Vec<String> =
            validator.iter_errors(&serde_json::from_str(&text).unwrap()).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{field}: {errors:?}");
        let written: Value = serde_json::from_str(&schema.to_json()).unwrap();
        let again = read(&schema.to_json(), &[]).unwrap();
        assert_eq!(again, schema);
        // Numbers may be written as floats, and defaults are left out: every other member comes back.
        for (member, value) in field.as_object().unwrap() {
            let found = &written["fields"][1][member];
            assert!(found == value || value.is_object(), "{member}: {found} for {value}");
        }
    }
}

/// What is broken in the second field, where that is told, and what is said.
fn broken() -> Vec<(Value, &'static str, &'static str)> {
    let id = |member: &str, value: Value| {
        let mut field = json!({"name": "a", "type": "id", "rows": 3});
        field[member] = value;
        field
    };
    let id_encoder = |encoder: Value| id("encoder", encoder);
    let dense = |encoder: Value| json!({"name": "a", "type": "dense", "encoder": encoder});
    let sequence = |member: &str, value: Value| {
        let mut field = json!({"name": "a", "type": "sequence", "rows": 3, "pooling": "mean"});
        field[member] = value;
        field
    };
    vec![
        (json!({"type": "id", "rows": 3}), "fields[1]", "missing field `name`"),
        (json!({"name": "a", "rows": 3}), "fields[1]", "missing field `type`"),
        (
            json!({"name": "a", "type": "label", "rows": 3}),
            "fields[1].type",
            "unknown variant `label`, expected one of `id`",
        ),
        (
            json!({"name": 7, "type": "id", "rows": 3}),
            "fields[1].name",
            "invalid type: integer `7`, expected a string",
        ),
        (json!({"name": "a", "type": "id"}), "fields[1]", "expected either `rows` or `table`, found none"),
        (id("table", json!("home")), "fields[1]", "expected either `rows` or `table`, found both"),
        (id("rows", json!(0)), "fields[1].rows", "expected at least 1, found 0"),
        (id("rows", json!(-1)), "fields[1].rows", "invalid value: integer `-1`, expected u32"),
        (
            id("rows", json!(4_294_967_296_u64)),
            "fields[1].rows",
            "invalid value: integer `4294967296`, expected u32",
        ),
        (id("rows", json!(2.5)), "fields[1].rows", "invalid type: floating point `2.5`, expected u32"),
        (id("rows", json!("3")), "fields[1].rows", "invalid type: string \"3\", expected u32"),
        (
            id("pooling", json!("sum")),
            "fields[1].pooling",
            "a field of type `id` has no such member; it has name, type, rows, table,",
        ),
        (id("colour", json!("red")), "fields[1].colour", "unknown field `colour`, expected one of `name`"),
        (id("only", json!("deep")), "fields[1].only", "a field of type `id` has no such member"),
        (
            id("missing", json!("clamp")),
            "fields[1].missing",
            "expected error, zero or a value in its place, found clamp",
        ),
        (
            id("missing", json!("guess")),
            "fields[1].missing",
            "unknown variant `guess`, expected one of `error`, `zero`",
        ),
        (id("unseen", json!({"id": 3})), "fields[1].unseen", "expected an id below 3, its rows, found 3"),
        (
            json!({"name": "a", "type": "id", "rows": 3, "unseen": "clamp", "encoder": {"type": "vocabulary", "keys": ["x"]}}),
            "fields[1].unseen",
            "expected error, zero or {\"id\": …}, found clamp",
        ),
        (id("unseen", json!({"number": 1})), "fields[1].unseen", "a field of ids takes {\"id\": …}"),
        (id("unseen", json!({"id": -1})), "fields[1].unseen.id", "expected u32"),
        (id("missing_values", json!("")), "fields[1].missing_values", "expected a sequence"),
        (
            id_encoder(json!({"type": "vocabulary"})),
            "fields[1].encoder",
            "expected one of `keys`, `entries` and `file`",
        ),
        (
            id_encoder(json!({"type": "vocabulary", "keys": ["x"], "entries": [["x", 1]]})),
            "fields[1].encoder",
            "expected one of `keys`",
        ),
        (
            id_encoder(json!({"type": "vocabulary", "keys": []})),
            "fields[1].encoder",
            "expected at least one key",
        ),
        (
            id_encoder(json!({"type": "vocabulary", "keys": [9_223_372_036_854_775_808_u64]})),
            "fields[1].encoder.keys[0]",
            "invalid value: integer `9223372036854775808`, expected a text or an integer of 64 bits",
        ),
        (
            id_encoder(json!({"type": "vocabulary", "keys": ["x", 7]})),
            "fields[1].encoder.keys[1]",
            "expected keys of one type",
        ),
        (
            id_encoder(json!({"type": "vocabulary", "keys": ["x", 1.5]})),
            "fields[1].encoder.keys[1]",
            "invalid type: floating point `1.5`, expected a text or an integer of 64 bits",
        ),
        (
            id_encoder(json!({"type": "vocabulary", "keys": ["x", "y", "x"]})),
            "fields[1].encoder",
            "found \"x\" a second time",
        ),
        (
            id_encoder(json!({"type": "vocabulary", "keys": ["x", "y", "z", "u"]})),
            "fields[1].encoder",
            "key 3: expected an id below 3, the rows of the field's table, found 3",
        ),
        (
            id_encoder(json!({"type": "vocabulary", "keys": ["x"], "first": 3})),
            "fields[1].encoder",
            "expected an id below 3",
        ),
        (
            id_encoder(json!({"type": "vocabulary", "entries": [["x", 1]], "first": 3})),
            "fields[1].encoder.first",
            "expected `keys`",
        ),
        (
            id_encoder(json!({"type": "vocabulary", "entries": [["x", 1], ["y", 5]]})),
            "fields[1].encoder",
            "key 1: expected an id below 3",
        ),
        (
            id_encoder(json!({"type": "vocabulary", "entries": [["x", 1], ["y", -5]]})),
            "fields[1].encoder.entries[1][1]",
            "expected u32",
        ),
        (
            id_encoder(json!({"type": "vocabulary", "entries": [["x", 1], ["y"]]})),
            "fields[1].encoder.entries[1]",
            "invalid length 1",
        ),
        (
            id_encoder(json!({"type": "vocabulary", "file": "nowhere.csv"})),
            "fields[1].encoder.file",
            "nowhere.csv",
        ),
        (id_encoder(json!({"type": "hash"})), "fields[1].encoder.function", "missing"),
        (
            id_encoder(json!({"type": "hash", "function": "md5"})),
            "fields[1].encoder.function",
            "unknown variant `md5`, expected one of `farmhash64`",
        ),
        (
            id_encoder(json!({"type": "hash", "function": "xxh64", "buckets": 4})),
            "fields[1].encoder.buckets",
            "expected from 1 to 3, the rows of the field's table, found 4",
        ),
        (
            id_encoder(json!({"type": "hash", "function": "farmhash64_mask_zero", "buckets": 1})),
            "fields[1].encoder.buckets",
            "expected from 2 to 3",
        ),
        (
            id_encoder(json!({"type": "hash", "function": "xxh64", "prefix": "a="})),
            "fields[1].encoder.prefix",
            "only murmur3_32 and feature_hasher",
        ),
        (
            id_encoder(json!({"type": "hash", "function": "xxh64", "keys": ["x"]})),
            "fields[1].encoder.keys",
            "an encoder of type `hash` has no such member; it has type, function",
        ),
        (id_encoder(json!({"type": "buckets"})), "fields[1].encoder.boundaries", "missing"),
        (
            id_encoder(json!({"type": "buckets", "boundaries": [1, 0]})),
            "fields[1].encoder.boundaries[1]",
            "expected ascending boundaries, found 0 after 1",
        ),
        (
            id_encoder(json!({"type": "buckets", "boundaries": [1, "x"]})),
            "fields[1].encoder.boundaries[1]",
            "expected f64",
        ),
        (
            id_encoder(json!({"type": "buckets", "boundaries": [1, 2, 3]})),
            "fields[1].encoder.boundaries",
            "expected at most 3 buckets, the rows of the field's table, found 4",
        ),
        (
            id_encoder(json!({"type": "buckets", "boundaries": [1], "ids": [1]})),
            "fields[1].encoder.ids",
            "expected an id for each of 2 buckets, found 1",
        ),
        (
            id_encoder(json!({"type": "buckets", "boundaries": [1], "ids": [1, 3]})),
            "fields[1].encoder.ids[1]",
            "expected an id below 3",
        ),
        (
            id_encoder(json!({"type": "standard", "mean": 0, "std": 1})),
            "fields[1].encoder.type",
            "a field of ids takes vocabulary, hash or buckets",
        ),
        (
            id_encoder(json!({"type": "lookup"})),
            "fields[1].encoder.type",
            "unknown variant `lookup`, expected one of `vocabulary`",
        ),
        (
            id_encoder(json!("hash")),
            "fields[1].encoder",
            "invalid type: string \"hash\", expected an object with the encoder's members",
        ),
        (
            dense(json!({"type": "hash", "function": "xxh64"})),
            "fields[1].encoder.type",
            "a field of a number takes min_max, standard or number",
        ),
        (dense(json!({"type": "standard", "mean": 0})), "fields[1].encoder.std", "missing"),
        (
            dense(json!({"type": "standard", "mean": 0, "std": 0})),
            "fields[1].encoder",
            "expected 0 below `std`, found 0 and 0",
        ),
        (
            dense(json!({"type": "min_max", "min": 2, "max": 2})),
            "fields[1].encoder",
            "expected `min` below `max` + `epsilon`, found 2 and 2",
        ),
        (
            dense(json!({"type": "min_max", "min": 0, "max": 2, "low": 1})),
            "fields[1].encoder",
            "expected `low` below `high`, found 1 and 1",
        ),
        (
            dense(json!({"type": "min_max", "min": 0, "max": 1e-320})),
            "fields[1].encoder",
            "expected a finite scale, found (x − ",
        ),
        (
            dense(json!({"type": "number", "clip": [1, 0]})),
            "fields[1].encoder.clip",
            "expected [smallest, largest], found [1, 0]",
        ),
        (dense(json!({"type": "number", "clip": [1]})), "fields[1].encoder.clip", "invalid length 1"),
        (
            dense(json!({"type": "number", "step": 0.3})),
            "fields[1].encoder.step",
            "expected a power of two from 2^-15 to 1, found 0.3",
        ),
        (
            dense(json!({"type": "number", "of": "sqrt"})),
            "fields[1].encoder.of",
            "unknown variant `sqrt`, expected one of `value`",
        ),
        (
            json!({"name": "a", "type": "dense", "unseen": {"id": 1}}),
            "fields[1].unseen",
            "a field of a number takes {\"number\": …}",
        ),
        (
            json!({"name": "a", "type": "dense", "rows": 3}),
            "fields[1].rows",
            "a field of type `dense` has no such member",
        ),
        (
            json!({"name": "a", "type": "sequence", "rows": 3}),
            "fields[1].pooling",
            "missing; expected one of sum, mean, sqrtn, max",
        ),
        (
            sequence("pooling", json!("median")),
            "fields[1].pooling",
            "unknown variant `median`, expected one of `sum`, `mean`",
        ),
        (sequence("max_len", json!(0)), "fields[1].max_len", "expected at least 1, found 0"),
        (sequence("padding", json!(3)), "fields[1].padding", "expected an id below 3, its rows, found 3"),
        (sequence("fill", json!(0)), "fields[1].max_len", "missing; `fill` fills up to it"),
        (sequence("keep", json!("last")), "fields[1].max_len", "missing; `keep` says what is kept"),
        (
            json!({"name": "a", "type": "sequence", "rows": 3, "pooling": "sum", "max_len": 2, "fill": 9}),
            "fields[1].fill",
            "expected an id below 3, its rows, found 9",
        ),
        (sequence("separator", json!("||")), "fields[1].separator", "expected a character"),
        (
            json!({"name": "a", "type": "sequence", "rows": 3, "pooling": "sum", "padding": 0, "fill": 0, "max_len": 2}),
            "fields[1].fill",
            "expected either `padding`",
        ),
        (json!({"name": "home", "type": "dense"}), "fields[1].name", "found `home` a second time"),
        (
            json!({"name": "a", "type": "id", "table": "b"}),
            "fields",
            "expected `table` to name a field with rows of its own, found `b`",
        ),
    ]
}

/// What only the reader can know, as it compares two numbers of the file: the JSON Schema takes these.
const BEYOND_JSON_SCHEMA: [&str; 14] = [
    "an id below",
    "from 1 to 3",
    "from 2 to 3",
    "murmur3_32 and feature_hasher",
    "ascending",
    "at most 3 buckets",
    "for each of 2 buckets",
    "second time",
    "`min` below `max`",
    "`low` below `high`",
    "finite scale",
    "found clamp: what the encoder",
    "[smallest, largest]",
    "nowhere.csv",
];

#[test]
fn what_is_broken_is_told_with_its_path_what_was_found_and_what_is_allowed() {
    let validator = validator();
    for (field, path, essential) in broken() {
        let text = of_field(&field);
        let message = read(&text, &[]).unwrap_err().to_string();
        let place = format!("schema.json: {path}: ");
        assert!(
            message.contains(&place) && message.contains(essential),
            "{field}\n{message}\n{place}{essential}"
        );
        let beyond = BEYOND_JSON_SCHEMA.iter().any(|what| message.contains(what))
            || ["power of two", "to name a field"].iter().any(|what| message.contains(what));
        let valid = validator.is_valid(&serde_json::from_str(&text).unwrap());
        assert_eq!(valid, beyond, "{field}: the JSON Schema");
    }
}

#[test]
fn what_is_no_schema_is_told_with_its_place() {
    for (text, essential) in [
        ("", "EOF while parsing a value at line 1"),
        ("{\n\"schema_version\":", "EOF while parsing a value at line 2"),
        ("[]", "expected an object with the schema's members"),
        ("{}", "missing field `schema_version`"),
        ("\u{feff}{}", "missing field `schema_version`"),
        (r#"{"schema_version":2}"#, "schema_version: expected 1, found 2"),
        (r#"{"schema_version":1}}"#, "trailing characters"),
        (r#"{"schema_version":1,"schema_version":1}"#, "duplicate field `schema_version`"),
        (r#"{"schema_version":1,"feilds":[]}"#, "unknown field `feilds`, expected one of `schema_version`"),
        (
            r#"{"schema_version":1,"task":"ranking"}"#,
            "task: unknown variant `ranking`, expected `binary` or `regression`",
        ),
        (r#"{"schema_version":1,"bn_eps":NaN}"#, "bn_eps"),
    ] {
        let message = read(text, &[]).unwrap_err().to_string();
        assert!(message.contains(essential), "{text}: {message}");
    }
    let deep = format!("{{\"schema_version\":{}", "[".repeat(100_000));
    assert!(read(&deep, &[]).is_err());
}

#[test]
fn a_vocabulary_may_lie_beside_the_schema() {
    let schema = of_field(
        &json!({"name": "a", "type": "id", "rows": 4, "encoder": {"type": "vocabulary", "file": "v"}}),
    );
    let keys = |text: &str| {
        let schema = read(&schema, &[("v", text)]).map_err(|e| e.to_string())?;
        let Some(Encoder::Vocabulary(vocabulary)) = &schema.fields[1].encoding.encoder else { panic!() };
        let ids = vocabulary.keys.ids();
        // What is read is written in place, so that the schema then needs no file.
        assert_eq!(read(&schema.to_json(), &[]).unwrap(), schema);
        Ok::<_, String>(ids)
    };
    assert_eq!(keys("id,key\n3,x\n1,\"y,z\"\n"), Ok(vec![3, 1]));
    assert_eq!(keys(r#"{"x": 2, "ü": 0}"#), Ok(vec![2, 0]));
    assert_eq!(keys(r#"["x", "y", "z"]"#), Ok(vec![0, 1, 2]));
    assert_eq!(keys("\u{feff}key,id\r\nx,3\r\n"), Ok(vec![3]));
    for (text, essential) in [
        ("x,y\n1,2\n", "expected a header with the columns key and id, found x, y"),
        ("key,id\nx,one\n", "line 2: expected an id, found `one`"),
        ("key,id\nx,1\nx,2\n", "found \"x\" a second time"),
        (r#"{"x": 1, "x": 2}"#, "found \"x\" a second time"),
        (r#"{"x": -1}"#, "expected u32"),
        (r#"{"x": 4}"#, "expected an id below 4, the rows of the field's table, found 4"),
        ("", "expected a header"),
    ] {
        let message = keys(text).unwrap_err();
        assert!(message.contains(essential) && message.contains("fields[1].encoder"), "{text}: {message}");
    }
}

/// A number of any size, whose text has as many digits as it needs.
fn any_number(random: &mut Random) -> f64 {
    let mantissa = f64::from(random.bits()) + f64::from(random.bits()) / 4_294_967_296.0 + 0.1;
    let sign = if random.below(2) == 0 { 1.0 } else { -1.0 };
    sign * mantissa * f64::from(random.below(80)).exp2() / 40_f64.exp2()
}

fn any_policy(random: &mut Random, in_its_place: Policy) -> Policy {
    [Policy::Error, Policy::Zero, in_its_place][random.below(3) as usize]
}

fn any_id_encoder(random: &mut Random, rows: u32) -> Encoder {
    match random.below(4) {
        0 => {
            let first = random.below(rows);
            let keys = (first..rows).map(|id| (format!("k\"ü{id}"), id)).collect();
            Encoder::Vocabulary(Vocabulary { keys: Keys::Text(keys), exact: random.below(2) == 0 })
        }
        1 => {
            let entry =
                |at: u32| (i64::from(random.bits()) * 1024 + i64::from(at) - (1 << 41), random.below(rows));
            Encoder::Vocabulary(Vocabulary { keys: Keys::Int((0..9).map(entry).collect()), exact: false })
        }
        2 => Encoder::Hash(Hash {
            function: [HashFunction::Murmur3, HashFunction::FeatureHasher][random.below(2) as usize],
            buckets: (random.below(2) == 0).then(|| 1 + random.below(rows)),
            prefix: ["", "a="][random.below(2) as usize].into(),
            values: [HashedValues::Text, HashedValues::Float][random.below(2) as usize],
        }),
        _ => {
            let mut boundaries: Vec<f64> = (1..rows).map(|_| any_number(random)).collect();
            boundaries.sort_by(f64::total_cmp);
            let ids = (0..rows).map(|_| (random.below(3) > 0).then(|| random.below(rows))).collect();
            Encoder::Buckets(Buckets {
                boundaries,
                closed: [Closed::Left, Closed::Right][random.below(2) as usize],
                ids: if random.below(2) == 0 { ids } else { Vec::new() },
            })
        }
    }
}

fn any_number_encoder(random: &mut Random) -> Encoder {
    let min = any_number(random);
    let span = any_number(random).abs() + min.abs();
    let scale = match random.below(3) {
        0 => Scale::Identity,
        1 => Scale::Standard { mean: min, std: span },
        _ => Scale::MinMax { min, max: min + span, low: -span, high: 1.0, epsilon: 1e-5 },
    };
    Encoder::Number(Number {
        of: [Of::Value, Of::Log1p, Of::Log][random.below(3) as usize],
        scale,
        clip: (random.below(2) == 0).then_some([min, min + span]),
        step: (random.below(2) == 0).then_some(0.125),
    })
}

fn any_field(random: &mut Random, at: u32) -> Field {
    let rows = 1 + random.below(20);
    let kind = match random.below(5) {
        0 => FieldKind::Dense,
        1 => FieldKind::Scaled,
        2 => FieldKind::Ids { rows },
        3 => FieldKind::Sequence(Sequence {
            rows,
            pooling: [Pooling::Mean, Pooling::SqrtN][random.below(2) as usize],
            linear: [Pooling::Mean, Pooling::Max][random.below(2) as usize],
            max_len: Some(7),
            padding: (random.below(2) == 0).then(|| random.below(rows)),
            weights: [Weights::Raw, Weights::Softmax][random.below(2) as usize],
        }),
        _ => FieldKind::Id { rows },
    };
    let mut field = Field::new(format!("f{at} \u{2028}\\"), kind);
    let encoding = &mut field.encoding;
    let has_ids = !matches!(kind, FieldKind::Dense | FieldKind::Scaled);
    let in_its_place =
        if has_ids { Policy::Id(random.below(rows)) } else { Policy::Number(any_number(random)) };
    encoding.unseen = any_policy(random, in_its_place);
    encoding.missing = any_policy(random, in_its_place);
    encoding.encoder = Some(if has_ids { any_id_encoder(random, rows) } else { any_number_encoder(random) });
    if kind.takes_several() {
        encoding.max_len = Some(7);
        encoding.separator = ['|', '\t', '→'][random.below(3) as usize];
        encoding.weighted = [None, Some(false), Some(true)][random.below(3) as usize];
        encoding.keep = [Keep::First, Keep::Last][random.below(2) as usize];
        encoding.missing_values = vec!["NA".into(), String::new()];
    }
    field
}

/// To the last bit: a boundary that moved would put numbers in other buckets than in training.
#[test]
fn any_schema_is_read_as_it_was_written() {
    let validator = validator();
    let mut random = Random::new(7);
    for _ in 0..200 {
        let mut fields: Vec<Field> = (0..6).map(|at| any_field(&mut random, at)).collect();
        lay_out(&mut fields).unwrap();
        let (bn_eps, max_active) = (Some(any_number(&mut random).abs()), Some(9));
        let schema = Schema { schema_version: 1, bn_eps, max_active, fields, ..Schema::default() };
        let text = schema.to_json();
        assert_eq!(read(&text, &[]).unwrap_or_else(|e| panic!("{e}\n{text}")), schema);
        let json = serde_json::from_str(&text).unwrap();
        let errors: Vec<String> = validator.iter_errors(&json).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
}

#[test]
fn a_damaged_schema_is_refused_or_read() {
    let sound = of_field(&sound()[8]).into_bytes();
    let mut state = 1_u64;
    for round in 0..400 {
        let mut bytes = sound.clone();
        if round % 2 == 0 {
            bytes.truncate(round * bytes.len() / 400);
        } else {
            for _ in 0..3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (state >> 33) as usize % bytes.len();
                bytes[at] = (state >> 24).to_le_bytes()[0] & 0x7f;
            }
        }
        if let Ok(schema) = read(&String::from_utf8(bytes).unwrap(), &[]) {
            assert_eq!(schema.schema_version, 1);
        }
    }
}
