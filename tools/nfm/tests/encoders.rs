//! Raw values to rows, on both paths: by hand, and against encoded rows of models that frameworks trained.
#![expect(clippy::float_cmp, reason = "what is exact on both paths is to be exact")]

use std::{
    fs,
    io::{Cursor, Write},
    path::{Path, PathBuf},
};

use embedded_nfm as device;
use nfm::{
    container,
    convert::convert,
    dialect::{Hints, import},
    encoding::{
        raw::{FieldCounts, RawFields},
        section::{Path as Numbers, section},
        spec,
    },
    float_model::FloatModel,
    model_file::{Blob, Scorer},
    quantize::{DenseWeights, Embeddings, Options},
    rows::{Row, Rows},
    schema::{Field, FieldKind, Schema},
};
use serde_json::{Value, json};

const BOTH: [Numbers; 2] = [Numbers::Fixed, Numbers::F32];

fn schema(fields: &Value) -> Schema {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "{}", json!({"schema_version": 1, "fields": fields})).unwrap();
    Schema::read(file.path()).unwrap_or_else(|e| panic!("{fields}: {e}"))
}

fn raw_fields(fields: &Value, numbers: Numbers) -> RawFields {
    RawFields::new(&schema(fields).fields, numbers).unwrap()
}

/// The rows of a CSV, and what was counted.
fn read(raw: &RawFields, csv: &str) -> Result<(Vec<Row>, Vec<FieldCounts>), String> {
    let text = Cursor::new(csv.to_owned());
    let mut rows = Rows::raw_from_reader("rows", text, None, raw.encoder().unwrap()).unwrap();
    let read = rows.by_ref().collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    Ok((read, rows.counts().unwrap().to_vec()))
}

/// Ids and values of one cell of the field `f`, of which `field` has the members beside the name.
fn cell(field: &Value, cell: &str, numbers: Numbers) -> Result<(Vec<u32>, Vec<f64>), String> {
    let mut field = field.clone();
    field["name"] = json!("f");
    // A second column, as a line without any text is no row.
    let fields = json!([field, {"name": "other", "type": "dense"}]);
    let raw = raw_fields(&fields, numbers);
    let (rows, _) = read(&raw, &format!("f,other\n\"{cell}\",0\n"))?;
    let row = &rows[0];
    let values = (0..row.ids.len()).map(|at| row.value(at)).collect();
    Ok(if row.dense.len() == 2 { (Vec::new(), vec![row.dense[0]]) } else { (row.ids.clone(), values) })
}

fn ids(field: &Value, text: &str) -> Vec<u32> {
    let [fixed, float] = BOTH.map(|numbers| {
        let (ids, values) = cell(field, text, numbers).unwrap_or_else(|e| panic!("{field} of {text}: {e}"));
        assert!(values.iter().all(|value| *value == 1.0), "{field} of {text}: {values:?}");
        ids
    });
    assert_eq!(fixed, float, "{field} of {text}");
    fixed
}

fn number(field: &Value, text: &str) -> [f64; 2] {
    BOTH.map(|numbers| {
        let (_, values) = cell(field, text, numbers).unwrap_or_else(|e| panic!("{field} of {text}: {e}"));
        assert_eq!(values.len(), 1);
        values[0]
    })
}

fn refusal(field: &Value, text: &str) -> String {
    let [fixed, float] = BOTH.map(|numbers| cell(field, text, numbers).unwrap_err());
    assert_eq!(fixed, float);
    fixed
}

fn id(rows: u32, encoder: Value) -> Value {
    json!({"type": "id", "rows": rows, "encoder": encoder})
}

#[test]
fn a_vocabulary_gives_the_id_of_a_text_or_an_integer() {
    let texts = id(4, json!({"type": "vocabulary", "keys": ["UA", "Ü 1", "7", "-5"], "exact": true}));
    for (text, expected) in [("UA", 0), ("Ü 1", 1), ("7", 2), ("-5", 3)] {
        assert_eq!(ids(&texts, text), [expected]);
    }
    // A text is taken as it stands.
    for text in ["ua", "7.0", "07"] {
        assert!(refusal(&texts, text).contains("line 2, column `f`: expected a value that was seen"));
    }
    let ints =
        id(3, json!({"type": "vocabulary", "entries": [[-5, 2], [7, 0], [9_007_199_254_740_993_i64, 1]]}));
    // Of an integer's text only the number counts; beyond 2⁵³ too.
    for (text, expected) in [("-5", 2), ("7", 0), ("7.0", 0), ("+7", 0), ("9007199254740993", 1)] {
        assert_eq!(ids(&ints, text), [expected]);
    }
    for text in ["8", "7.5", "UA", "nan", "9007199254740992"] {
        assert!(refusal(&ints, text).contains(&format!("found `{text}`; `unseen` in the schema")), "{text}");
    }
}

/// Published vectors of the functions, and `MurmurHash3` of a reference in Python; buckets are the remainders by 997.
#[test]
fn a_hash_gives_the_bucket_of_the_text() {
    let hash = |function: &str, prefix: &str| {
        id(1000, json!({"type": "hash", "function": function, "buckets": 997, "prefix": prefix}))
    };
    for (function, expected) in [
        ("farmhash64", 12_917_804_110_809_363_939_u64 % 997),
        ("farmhash64_mask_zero", 12_917_804_110_809_363_939 % 996 + 1),
        ("murmur3_32", 0x3c25_69b2 % 997),
        ("fnv1a_32", 0xe40c_292c % 997),
        ("fnv1a_64", 0xaf63_dc4c_8601_ec8c % 997),
        ("xxh64", 0xd24e_c4f1_a98c_6e5b % 997),
    ] {
        assert_eq!(ids(&hash(function, ""), "a"), [u32::try_from(expected).unwrap()], "{function}");
    }
    assert_eq!(ids(&hash("murmur3_32", "a="), "UA"), [385]);
    assert_eq!(ids(&hash("farmhash64_mask_zero", ""), "0"), [0]);
    // A signed hash has a signed value: MurmurHash3 of `a=UA` is −325,502,138.
    for numbers in BOTH {
        assert_eq!(cell(&hash("feature_hasher", "a="), "UA", numbers), Ok((vec![581], vec![-1.0])));
        assert_eq!(cell(&hash("feature_hasher", "a="), "DL", numbers), Ok((vec![421], vec![1.0])));
    }
    // As many buckets as rows where nothing is said.
    let all = id(7, json!({"type": "hash", "function": "fnv1a_32"}));
    assert_eq!(ids(&all, "a"), [0xe40c_292c % 7]);
}

#[test]
fn numbers_are_hashed_by_their_text_or_by_that_of_a_float() {
    let hash = |values: &str| id(1000, json!({"type": "hash", "function": "farmhash64", "values": values}));
    let bucket = |text: &str| {
        vec![u32::try_from(device::encode::hash::fingerprint64(text.as_bytes()) % 1000).unwrap()]
    };
    for (text, as_float) in
        [("1.5", "1.500000"), ("3", "3.000000"), ("-0.1", "-0.100000"), ("1e3", "1000.000000")]
    {
        assert_eq!(ids(&hash("text"), text), bucket(text));
        assert_eq!(ids(&hash("float"), text), bucket(as_float));
    }
    assert!(refusal(&hash("float"), "UA").contains("expected a number, found `UA`"));
}

#[test]
fn buckets_are_counted_from_boundaries() {
    let buckets =
        |closed: &str| id(4, json!({"type": "buckets", "boundaries": [0, 1.5, 10], "closed": closed}));
    for (text, left, right) in [
        ("-1e30", 0, 0),
        ("-0.0", 1, 0),
        ("0", 1, 0),
        ("1.4999", 1, 1),
        ("1.5", 2, 1),
        ("1.5001", 2, 2),
        ("10", 3, 2),
        ("inf", 3, 3),
    ] {
        assert_eq!(
            (ids(&buckets("left"), text), ids(&buckets("right"), text)),
            (vec![left], vec![right]),
            "{text}"
        );
    }
    // Whole boundaries are exact for all integers of 32 bits: no float lies between these.
    let whole = id(3, json!({"type": "buckets", "boundaries": [16_777_217, 2_000_000_001]}));
    for (text, expected) in [("16777216", 0), ("16777217", 1), ("2000000000", 1), ("2000000001", 2)] {
        assert_eq!(ids(&whole, text), [expected]);
    }
    let own = id(9, json!({"type": "buckets", "boundaries": [0], "ids": [8, null]}));
    assert_eq!(ids(&own, "-1"), [8]);
    assert!(refusal(&own, "1").contains("was seen in training, found `1`"));
    assert!(refusal(&own, "nan").contains("expected a value, found none"));
    assert!(refusal(&own, "x").contains("expected a number, found `x`"));
}

#[test]
fn numbers_are_scaled() {
    let dense = |encoder: Value| json!({"type": "dense", "encoder": encoder});
    let min_max = dense(json!({"type": "min_max", "min": -1, "max": 3}));
    let wide = dense(json!({"type": "min_max", "min": -1, "max": 3, "low": -1, "high": 1}));
    let standard = dense(json!({"type": "standard", "mean": 1000, "std": 0.5}));
    let step = dense(json!({"type": "number", "step": 0.25}));
    // All of these are exact on both paths.
    for (field, text, expected) in [
        (&min_max, "1", 0.5),
        (&min_max, "-1", 0.0),
        (&min_max, "-1.5", -0.125),
        (&wide, "1", 0.0),
        (&wide, "3", 1.0),
        (&standard, "1000.25", 0.5),
        (&standard, "-1000", -4000.0),
        (&step, "0.375", 0.5),
        (&step, "-0.375", -0.25),
        (&step, "0.374", 0.25),
    ] {
        assert_eq!(number(field, text), [expected; 2], "{field} of {text}");
    }
    // A span of 4 + 1: (1 + 1) / 5.
    let epsilon = dense(json!({"type": "min_max", "min": -1, "max": 3, "epsilon": 1}));
    let log1p = dense(json!({"type": "standard", "mean": 1, "std": 2, "of": "log1p"}));
    let log = dense(json!({"type": "number", "of": "log"}));
    for (field, text, expected) in [
        (&epsilon, "1", 0.4),
        (&log1p, "0", -0.5),
        (&log1p, "6.38905609893065", 0.5), // e² − 1
        (&log, "2.718281828459045", 1.0),
        (&log, "0.1353352832366127", -2.0),
    ] {
        for found in number(field, text) {
            assert!((found - expected).abs() < 4e-5, "{field} of {text}: {found}");
        }
    }
    for field in [&log1p, &log] {
        assert!(refusal(field, "-1").contains("was seen in training, found `-1`"));
    }
    // What the fixed path cannot hold is not the largest number that it can.
    let plain = json!({"type": "dense", "missing": "zero"});
    assert_eq!(number(&plain, "32767.5"), [32_767.5; 2]);
    for text in ["32768", "-1e9", "inf"] {
        assert!(cell(&plain, text, Numbers::Fixed).unwrap_err().contains("was seen in training"), "{text}");
    }
    assert_eq!(cell(&plain, "-1e9", Numbers::F32), Ok((vec![], vec![-1e9])));
    // The value of a row of its own, which is not one.
    let scaled = json!({"type": "scaled", "encoder": {"type": "min_max", "min": -1, "max": 3}});
    for numbers in BOTH {
        assert_eq!(cell(&scaled, "1", numbers), Ok((vec![0], vec![0.5])));
    }
}

#[test]
fn policies_say_what_becomes_of_what_has_no_id_or_number() {
    let vocabulary = json!({"type": "vocabulary", "keys": ["a", "b"], "first": 1});
    let with = |member: &str, policy: Value| {
        let mut field = id(4, vocabulary.clone());
        field[member] = policy;
        field
    };
    assert_eq!(ids(&with("unseen", json!({"id": 3})), "c"), [3]);
    assert_eq!(ids(&with("unseen", json!("zero")), "c"), [0; 0]);
    assert_eq!(ids(&with("missing", json!({"id": 0})), ""), [0]);
    assert_eq!(ids(&with("missing", json!("zero")), ""), [0; 0]);
    let mut other = with("missing", json!({"id": 0}));
    other["missing_values"] = json!(["NA", "-"]);
    assert_eq!((ids(&other, "NA"), ids(&other, "-")), (vec![0], vec![0]));
    assert!(refusal(&other, "").contains("seen in training, found ``"));
    assert!(refusal(&with("unseen", json!({"id": 3})), "").contains("found none; `missing` in the schema"));

    let as_they_are = json!({"type": "id", "rows": 4, "unseen": "clamp"});
    for (text, expected) in [("-7", 0), ("0", 0), ("3.0", 3), ("4", 3), ("1e12", 3)] {
        assert_eq!(ids(&as_they_are, text), [expected]);
    }
    assert!(refusal(&as_they_are, "a").contains("expected a whole number, found `a`"));

    let dense = |unseen: Value| json!({"type": "dense", "encoder": {"type": "number", "clip": [-1, 2]}, "unseen": unseen, "missing": {"number": 0.5}});
    for (text, expected) in
        [("-1", -1.0), ("2", 2.0), ("2.5", 2.0), ("-inf", -1.0), ("1e300", 2.0), ("nan", 0.5), ("", 0.5)]
    {
        assert_eq!(number(&dense(json!("clamp")), text), [expected; 2], "{text}");
    }
    assert_eq!(number(&dense(json!({"number": -8})), "3"), [-8.0; 2]);
    assert_eq!(number(&dense(json!("zero")), "3"), [0.0; 2]);
    assert!(refusal(&dense(json!("error")), "3").contains("seen in training, found `3`"));
    assert!(refusal(&dense(json!("clamp")), "x").contains("expected a number, found `x`"));
}

fn sequence(more: &Value) -> Value {
    let mut field = json!({"type": "sequence", "rows": 9, "pooling": "sum", "missing": "zero",
        "encoder": {"type": "vocabulary", "keys": ["p", "a", "b", "c", "d"]}});
    field.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    field
}

#[test]
fn sequences_are_cut_filled_and_left_out_of() {
    for (more, text, expected) in [
        (json!({}), "a|b|a", &[1, 2, 1][..]),
        (json!({}), "", &[]),
        (json!({}), "a||b|", &[1, 2]),
        (json!({"separator": ";"}), "a;b", &[1, 2]),
        (json!({"separator": " ", "missing_values": ["NA"]}), "a NA b", &[1, 2]),
        (json!({"max_len": 2}), "a|b|c", &[1, 2]),
        (json!({"max_len": 2, "keep": "last"}), "a|b|c", &[2, 3]),
        (json!({"max_len": 3, "keep": "last"}), "a|b|c|d|a", &[3, 4, 1]),
        // Values are cut before padding is left out.
        (json!({"padding": 0}), "p|a|p|b", &[1, 2]),
        (json!({"padding": 0, "max_len": 2}), "p|a|b", &[1]),
        (json!({"fill": 0, "max_len": 4}), "a|b", &[1, 2, 0, 0]),
        (json!({"fill": 7, "max_len": 2}), "a|b|c", &[1, 2]),
        (json!({"fill": 7, "max_len": 2}), "", &[7, 7]),
        (json!({"unseen": "zero"}), "a|x|b", &[1, 2]),
        (json!({"unseen": {"id": 8}}), "a|x|b", &[1, 8, 2]),
        (json!({"missing": {"id": 5}}), "", &[5]),
    ] {
        assert_eq!(ids(&sequence(&more), text), expected, "{more} of {text}");
    }
    assert!(refusal(&sequence(&json!({})), "a|b|x").contains("seen in training, found `x`"));
    assert!(refusal(&sequence(&json!({"missing": "error"})), "").contains("`missing` in the schema"));
    assert!(refusal(&sequence(&json!({"pooling": "max"})), "").contains("largest of none"));
    let ids_of_row = json!({"type": "ids", "rows": 9, "max_len": 2, "keep": "last", "unseen": "clamp"});
    assert_eq!(ids(&ids_of_row, "1|2|30"), [2, 8]);
}

#[test]
fn weights_go_with_their_values() {
    let weighted = |more: Value| {
        let mut field = sequence(&json!({"weighted": true}));
        field.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        field
    };
    for numbers in BOTH {
        let of = |field: &Value, text: &str| cell(field, text, numbers);
        let plain = weighted(json!({}));
        assert_eq!(of(&plain, "a:0.5|b|c:-3"), Ok((vec![1, 2, 3], vec![0.5, 1.0, -3.0])));
        // Each stays as it is, whatever the path's numbers.
        assert_eq!(of(&plain, "a:0.1|b:1e-9"), Ok((vec![1, 2], vec![0.1, 1e-9])));
        let last = weighted(json!({"max_len": 2, "keep": "last", "padding": 0}));
        assert_eq!(of(&last, "a:1|b:2|c:3"), Ok((vec![2, 3], vec![2.0, 3.0])));
        assert_eq!(of(&last, "a:1|b:2|p:3"), Ok((vec![2], vec![2.0])));
        let filled = weighted(json!({"max_len": 3, "fill": 0}));
        assert_eq!(of(&filled, "a:2"), Ok((vec![1, 0, 0], vec![2.0, 1.0, 1.0])));
        // e^0 and e^ln 3, of those that are kept: ¼ and ¾.
        let softmax = weighted(json!({"weights": "softmax", "padding": 0}));
        let (ids, values) = of(&softmax, "a:0|p:5|b:1.0986122886681098").unwrap();
        assert_eq!(ids, [1, 2]);
        assert!((values[0] - 0.25).abs() < 1e-15 && (values[1] - 0.75).abs() < 1e-15, "{values:?}");
        // The sign of a signed hash and the weight: MurmurHash3 of `t=x`, `t=y`, `t=z` is −1942425219, 66197861, −701413454.
        let signed = weighted(
            json!({"rows": 7, "encoder": {"type": "hash", "function": "feature_hasher", "prefix": "t="}}),
        );
        assert_eq!(of(&signed, "x:2|y:3|z:-1"), Ok((vec![0, 2, 0], vec![-2.0, 3.0, 1.0])));
        assert!(
            of(&plain, "a:x")
                .unwrap_err()
                .contains("expected `value:weight` with a finite weight, found `a:x`")
        );
    }
    // Weights are those of ids; of other keys a colon is a part, where nothing is said.
    let colon = sequence(&json!({"encoder": {"type": "vocabulary", "keys": ["a:2"]}}));
    assert_eq!(ids(&colon, "a:2|a:2"), [0, 0]);
    let of_ids = json!({"type": "ids", "rows": 9, "missing": "zero"});
    for numbers in BOTH {
        assert_eq!(cell(&of_ids, "3:0.5|3", numbers), Ok((vec![3, 3], vec![0.5, 1.0])));
    }
}

#[test]
fn fields_share_tables_and_vocabularies() {
    let keys = json!({"type": "vocabulary", "keys": ["x", "y", "z"]});
    let fields = json!([
        {"name": "before", "type": "id", "rows": 5},
        {"name": "home", "type": "id", "rows": 3, "encoder": keys},
        {"name": "price", "type": "scaled"},
        {"name": "seen", "type": "sequence", "table": "home", "pooling": "mean", "encoder": keys},
    ]);
    for numbers in BOTH {
        let raw = raw_fields(&fields, numbers);
        let (rows, _) = read(&raw, "seen,home,price,before\nx|z,y,0.5,4\n").unwrap();
        assert_eq!(rows[0].ids, [4, 6, 8, 5, 7]);
        assert_eq!(rows[0].values.as_deref(), Some(&[1.0, 1.0, 0.5, 1.0, 1.0][..]));
        assert_eq!((rows[0].sequences[0].start, rows[0].sequences[0].len), (3, 2));
        let words = |fields: &Value| section(&schema(fields).fields, numbers).unwrap().len();
        // The vocabulary of three keys stands there once: the header, four records, the scaling are all that is more.
        let scaling = if numbers == Numbers::Fixed { 6 } else { 4 };
        assert_eq!(words(&fields) - words(&json!([fields[0], fields[1]])), 2 * 6 + scaling);
    }
}

/// One row each of what can be met, counted by hand.
#[test]
fn what_was_not_so_in_training_is_counted() {
    let fields = json!([
        {"name": "carrier", "type": "id", "rows": 4, "encoder": {"type": "vocabulary", "keys": ["AA", "UA"]},
            "unseen": {"id": 3}, "missing": {"id": 2}},
        {"name": "tags", "type": "sequence", "rows": 3, "pooling": "sum", "max_len": 2, "unseen": "zero", "missing": "zero",
            "encoder": {"type": "vocabulary", "keys": ["a", "b"]}},
        {"name": "page", "type": "id", "rows": 3, "unseen": "clamp"},
        {"name": "miles", "type": "dense", "encoder": {"type": "number", "clip": [0, 1]}, "unseen": "clamp", "missing": "zero"},
    ]);
    let csv = "carrier,tags,page,miles\nAA,a|b,0,0.5\nXX,a|x|b,7,2\n,,-1,\nUA,x|x|x|x,1,nan\nAA,b,2,-inf\n";
    for numbers in BOTH {
        let (rows, counts) = read(&raw_fields(&fields, numbers), csv).unwrap();
        assert_eq!(rows.len(), 5);
        let counted: Vec<_> =
            counts.iter().map(|c| (c.field.as_str(), c.values, c.unseen, c.clamped, c.missing)).collect();
        assert_eq!(
            counted,
            [("carrier", 4, 1, 0, 1), ("tags", 10, 5, 0, 1), ("page", 5, 0, 2, 0), ("miles", 3, 0, 2, 2)]
        );
    }
}

#[test]
fn what_a_path_cannot_hold_is_refused_with_the_field_and_the_remedy() {
    let dense = |member: &str, value: Value| {
        let mut field = json!({"name": "miles", "type": "dense", "encoder": {"type": "number"}});
        match member {
            "unseen" | "missing" => field[member] = value,
            _ => field["encoder"][member] = value,
        }
        schema(&json!([field])).fields
    };
    for (fields, essential) in [
        (dense("unseen", json!({"number": 40_000})), "`unseen` of 40000 is beyond the fixed path's ±32768"),
        (
            dense("missing", json!({"number": -1e9})),
            "`missing` of -1000000000 is beyond the fixed path's ±32768",
        ),
        (dense("clip", json!([0, 32_768])), "`clip` of 32768 is beyond the fixed path's ±32768"),
    ] {
        let message = RawFields::new(&fields, Numbers::Fixed).unwrap_err();
        assert!(message.starts_with("field `miles`: ") && message.contains(essential), "{message}");
        assert!(message.contains("convert with --embeddings f32 --dense f32"), "{message}");
        RawFields::new(&fields, Numbers::F32).unwrap();
    }
    let steep = schema(
        &json!([{"name": "miles", "type": "dense", "encoder": {"type": "standard", "mean": 0, "std": 1e-30}}]),
    );
    let message = RawFields::new(&steep.fields, Numbers::Fixed).unwrap_err();
    assert!(message.contains("beyond the fixed path's 64 bits"), "{message}");
    for (member, value) in [("clip", json!([0, 1e39])), ("missing", json!({"number": 1e39}))] {
        let message = RawFields::new(&dense(member, value), Numbers::F32).unwrap_err();
        assert!(message.contains("of 1e39 is beyond the range of f32"), "{message}");
    }
}

/// The text of the block of a language in `SCHEMA.md`.
fn documented(language: &str) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("SCHEMA.md")).unwrap();
    let (_, block) = text.split_once(&format!("```{language}\n")).unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_documented_example_is_as_documented() {
    let json: Value = serde_json::from_str(&documented("json")).unwrap();
    for numbers in BOTH {
        let (rows, _) = read(&raw_fields(&json["fields"], numbers), &documented("csv")).unwrap();
        let found: Vec<_> = rows.iter().map(|row| (row.ids.as_slice(), row.dense.as_slice())).collect();
        assert_eq!(found, [(&[3, 5, 10, 11, 9, 11][..], &[1.5][..]), (&[0, 7, 9], &[5.0])]);
        let sequences = rows.iter().flat_map(|row| &row.sequences).map(|run| (run.start, run.len));
        assert!(sequences.eq([(2, 3)]));
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn model(folder: &Path, schema: &Schema) -> FloatModel {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_checkpoint = |path: &PathBuf| {
        path.file_stem().unwrap() == "checkpoint" && !path.to_str().unwrap().contains(".data-")
    };
    let path = paths.into_iter().find(is_checkpoint).unwrap();
    let hints = Hints { schema: Some(schema.clone()), max_value: Some(8.0), ..Hints::default() };
    import(container::read(&path).unwrap(), &hints).unwrap()
}

/// Every field of ids with a vocabulary of the keys `k0`, `k1` …, in the order of no id.
fn with_vocabularies(schema: &Schema) -> Schema {
    let mut schema = schema.clone();
    for field in &mut schema.fields {
        let rows = field.kind.rows();
        if matches!(field.kind, FieldKind::Dense | FieldKind::Scaled) {
            continue;
        }
        let keys = (0..rows).rev().map(|id| (format!("k{id}"), id)).collect();
        let keys = spec::Keys::Text(keys);
        field.encoding.encoder = Some(spec::Encoder::Vocabulary(spec::Vocabulary { keys, exact: false }));
        field.encoding.weighted = Some(true);
        if field.kind.takes_several() {
            field.encoding.missing = spec::Policy::Zero;
        }
    }
    schema
}

/// The text of encoded rows with `k` before each id.
fn raw_text(text: &str, fields: &[Field]) -> String {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let is_ids = |column: &str| {
        let field = fields.iter().find(|field| field.name == column);
        field.is_some_and(|field| !matches!(field.kind, FieldKind::Dense | FieldKind::Scaled))
    };
    let mut raw = header.join(",") + "\n";
    for line in lines {
        let cells = line.split(',').zip(&header).map(|(cell, column)| {
            let ids = cell.split('|').filter(|id| !id.is_empty());
            if is_ids(column) {
                ids.map(|id| format!("k{id}")).collect::<Vec<_>>().join("|")
            } else {
                cell.into()
            }
        });
        raw += &(cells.collect::<Vec<_>>().join(",") + "\n");
    }
    raw
}

fn scores(scorer: &mut Scorer<'_>, rows: Rows<'_>) -> Vec<u64> {
    rows.map(|row| scorer.score(&row.unwrap()).unwrap().raw.to_bits()).collect()
}

#[test]
fn raw_rows_of_trained_models_give_the_scores_of_encoded_ones_to_the_last_bit() {
    for name in ["deepctr-sequences", "deepctr-keras2-weighted-softmax", "recbole-all", "fuxictr-sequences"] {
        let folder = fixture(name);
        let plain = Schema::read(&folder.join("schema.json")).unwrap();
        let encoded = fs::read_to_string(folder.join("rows.csv")).unwrap();
        let raw = raw_text(&encoded, &plain.fields);
        let schema = with_vocabularies(&plain);
        let model = model(&folder, &schema);
        let read = |text: &str, fields: &[Field]| {
            Rows::from_reader("rows", Cursor::new(text.to_owned()), None, fields).unwrap()
        };
        let f32 = Options { embeddings: Embeddings::F32, dense: DenseWeights::F32, ..Options::default() };
        for options in [Options::default(), f32] {
            let converted = convert("test", name, &model, None, options).unwrap();
            let mut scorer = Scorer::parse(&converted.blob).unwrap();
            let columns = scorer.columns(Some(&plain)).unwrap();
            let expected = scores(&mut scorer, read(&encoded, &columns));
            assert!(expected.len() >= 64 && expected.iter().any(|score| *score != expected[0]));
            let raw_fields = scorer.raw_fields(Some(&schema)).unwrap().unwrap();
            let encoder = raw_fields.encoder().unwrap();
            let rows = Rows::raw_from_reader("rows", Cursor::new(raw.clone()), None, encoder).unwrap();
            assert_eq!(scores(&mut scorer, rows), expected, "{name}");
        }
        // The oracle too.
        let mut scorer = Scorer::Oracle(&model);
        let expected = scores(&mut scorer, read(&encoded, &model.fields));
        let raw_fields = scorer.raw_fields(None).unwrap().unwrap();
        let rows =
            Rows::raw_from_reader("rows", Cursor::new(raw), None, raw_fields.encoder().unwrap()).unwrap();
        assert_eq!(scores(&mut scorer, rows), expected, "{name}");
    }
}

/// A model file with every kind of encoder.
fn with_all_kinds() -> (Blob, Schema) {
    let folder = fixture("deepctr-sequences");
    let mut plain = with_vocabularies(&Schema::read(&folder.join("schema.json")).unwrap());
    let [user, _, genres, price] = &mut plain.fields[..] else { panic!() };
    let hash = spec::Hash {
        function: spec::HashFunction::FeatureHasher,
        buckets: Some(5),
        prefix: "genre=".into(),
        values: spec::HashedValues::Text,
    };
    genres.encoding.encoder = Some(spec::Encoder::Hash(hash));
    let buckets = spec::Buckets {
        boundaries: vec![0.0, 2.5],
        closed: spec::Closed::Right,
        ids: vec![Some(1), None, Some(8)],
    };
    user.encoding.encoder = Some(spec::Encoder::Buckets(buckets));
    user.encoding.unseen = spec::Policy::Id(4);
    let scale = spec::Scale::Standard { mean: 1.0, std: 4.0 };
    let number = spec::Number { of: spec::Of::Value, scale, clip: Some([-1.0, 1.0]), step: Some(0.25) };
    price.encoding.encoder = Some(spec::Encoder::Number(number));
    price.encoding.unseen = spec::Policy::Clamp;
    let converted = convert("test", "test", &model(&folder, &plain), None, Options::default()).unwrap();
    (converted.blob, plain)
}

fn section_of(blob: &Blob) -> Vec<u8> {
    let model = device::Model::parse(blob.bytes()).unwrap();
    model.info().encoders.to_vec()
}

/// The model file with another section of encoders, and a right checksum.
fn with_section(blob: &Blob, section: &[u8]) -> Blob {
    let mut parts = device::Model::parse(blob.bytes()).unwrap().parts().clone();
    parts.info.encoders = section;
    let mut bytes = vec![0; blob.bytes().len() + section.len()];
    let len = device::Model::new(parts).unwrap().emit(&mut bytes).unwrap();
    Blob::new(&bytes[..len])
}

const CSV: &str = "user,tags,genres,price\n-1,k1|k2,x|y,3\n1,k3,,900\n7,,z,-2\n";

#[test]
fn a_damaged_section_is_an_error_that_names_the_field_or_encodes_something() {
    let (blob, _) = with_all_kinds();
    let section = section_of(&blob);
    let fields = Scorer::parse(&blob).unwrap().fields();
    let names: Vec<String> = fields.iter().map(|field| format!("`{}`", field.name)).collect();
    // Whether it is refused, for a reason that names a field.
    let is_refused = |bytes: &[u8]| match RawFields::of_section(fields.clone(), bytes, Numbers::Fixed) {
        Err(message) => {
            assert!(names.iter().any(|name| message.contains(name)), "{message}");
            true
        }
        Ok(raw) => {
            drop(read(&raw, CSV));
            false
        }
    };
    assert!((0..section.len()).step_by(4).all(|len| is_refused(&section[..len])));
    assert!(!is_refused(&section));
    let flipped = (0..section.len()).flat_map(|at| [1, 0x10, 0x80, 0xff].map(|flip| (at, flip)));
    let refused = flipped.filter(|(at, flip)| {
        let mut bytes = section.clone();
        bytes[*at] ^= flip;
        is_refused(&bytes)
    });
    assert!(refused.count() > section.len());
}

#[test]
fn a_file_with_a_damaged_section_is_refused_when_rows_are_raw() {
    let (blob, _) = with_all_kinds();
    let mut section = section_of(&blob);
    // The kind of the second record: a field of ids has none of numbers.
    section[4 + 24] = 4;
    let damaged = with_section(&blob, &section);
    let scorer = Scorer::parse(&damaged).unwrap();
    let message = scorer.raw_fields(None).unwrap_err();
    assert!(message.contains("encoder of field 1: kind:") && message.contains("is `tags`"), "{message}");
    let model = device::Model::parse(damaged.bytes()).unwrap();
    assert_eq!(model.encoders().unwrap_err().field, 1);
}

#[test]
fn a_schema_that_does_not_fit_a_model_file_is_refused_with_both() {
    let (blob, schema) = with_all_kinds();
    let scorer = Scorer::parse(&blob).unwrap();
    assert!(scorer.raw_fields(Some(&schema)).unwrap().is_some());
    // The order of fields is the model's.
    let mut turned = schema.clone();
    turned.fields.reverse();
    assert!(scorer.raw_fields(Some(&turned)).unwrap().is_some());
    let changed = |change: fn(&mut Vec<Field>)| {
        let mut schema = schema.clone();
        change(&mut schema.fields);
        scorer.raw_fields(Some(&schema)).unwrap_err()
    };
    for (message, essentials) in [
        (changed(|fields| drop(fields.pop())), &["the model has 4 fields, the schema 3"][..]),
        (changed(|fields| fields[0].name = "home".into()), &["the schema has no field `user`"]),
        (
            changed(|fields| fields[0].kind = FieldKind::Id { rows: 12 }),
            &["field `user`: the model has id of 9 rows, the schema id of 12 rows"],
        ),
        (
            changed(|fields| fields[0].kind = FieldKind::Ids { rows: 9 }),
            &["the model has id of 9 rows, the schema ids of 9 rows"],
        ),
        (
            changed(|fields| {
                let FieldKind::Sequence(sequence) = &mut fields[1].kind else { panic!() };
                sequence.pooling = nfm::schema::Pooling::Max;
            }),
            &["the model has sequence of 11 rows, mean (", "the schema sequence of 11 rows, max ("],
        ),
        (
            changed(|fields| {
                let FieldKind::Sequence(sequence) = &mut fields[1].kind else { panic!() };
                sequence.padding = Some(3);
            }),
            &["field `tags`: ", "id 0 is left out", "id 3 is left out", "convert again"],
        ),
        (
            changed(|fields| {
                let Some(spec::Encoder::Vocabulary(vocabulary)) = &mut fields[1].encoding.encoder else {
                    panic!()
                };
                let spec::Keys::Text(keys) = &mut vocabulary.keys else { panic!() };
                keys.pop();
            }),
            &["field `tags`: ", "vocabulary of 11 texts", "vocabulary of 10 texts"],
        ),
        (
            changed(|fields| fields[3].encoding.unseen = spec::Policy::Zero),
            &[
                "field `price`: ",
                "(x − 1) · 0.25 in -1 ..= 1, in steps of 0.25; unseen: clamp",
                "unseen: zero",
            ],
        ),
    ] {
        for essential in essentials {
            assert!(message.contains(essential), "no {essential:?} in {message}");
        }
    }
}
