//! The same rows in all formats are the same: files that Python, Arrow, `DuckDB` and Polars wrote, `tools/fixtures/raw_rows.py`.

use std::{fs, io::Cursor, io::Write, path::PathBuf};

use flate2::{Compression, write::GzEncoder};
use nfm::{
    encoding::{
        raw::{FieldCounts, RawFields},
        section::Path as NumberPath,
    },
    error::Result,
    rows::{Row, Rows},
    schema::{self, Field, FieldKind, Schema},
};

const PARQUET: [&str; 8] = [
    "arrow-none",
    "arrow-snappy",
    "arrow-gzip",
    "arrow-zstd",
    "arrow-lz4",
    "arrow-brotli",
    "duckdb",
    "polars",
];

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures-raw").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(file(name)).unwrap()
}

fn raw_fields(path: NumberPath) -> RawFields {
    RawFields::new(&Schema::read(&file("schema.json")).unwrap().fields, path).unwrap()
}

/// The rows, what the encoder counted, and the names that were not read.
type Read = (Vec<Row>, Vec<FieldCounts>, Vec<String>);

fn read_raw(bytes: Vec<u8>, fields: &RawFields) -> Result<Read> {
    let mut rows = Rows::raw_from_reader("data", Cursor::new(bytes), None, fields.encoder().unwrap())?;
    let read = rows.by_ref().collect::<Result<_>>()?;
    Ok((read, rows.counts().unwrap().to_vec(), rows.ignored().to_vec()))
}

/// Fields of ids and numbers, as in `src/rows/tests.rs`.
fn encoded_fields() -> Vec<Field> {
    let id = |name: &str, rows| Field::new(name, FieldKind::Id { rows });
    let mut fields = vec![id("user", 3), Field::new("age", FieldKind::Dense), id("tags", 2)];
    schema::lay_out(&mut fields).unwrap();
    fields
}

fn read_encoded(bytes: Vec<u8>) -> Result<Vec<Row>> {
    Rows::from_reader("data", Cursor::new(bytes), None, &encoded_fields())?.collect()
}

fn message<T>(read: Result<T>) -> String {
    read.err().expect("an error").to_string()
}

#[test]
fn raw_rows_are_the_same_in_every_format() {
    for path in [NumberPath::F32, NumberPath::Fixed] {
        let fields = raw_fields(path);
        let csv = read_raw(bytes("rows.csv"), &fields).unwrap();
        assert_eq!((csv.0.len(), csv.2.as_slice()), (40, &["note".to_owned()][..]));
        assert!(
            csv.1.iter().any(|counts| counts.unseen > 0) && csv.1.iter().any(|counts| counts.missing > 0)
        );
        assert_eq!(read_raw(bytes("rows.jsonl"), &fields).unwrap(), csv, "JSON lines");
        for name in PARQUET {
            assert_eq!(read_raw(bytes(&format!("{name}.parquet")), &fields).unwrap(), csv, "{name}");
        }
    }
}

#[test]
fn encoded_rows_are_the_same_in_every_format() {
    let csv = read_encoded(bytes("encoded.csv")).unwrap();
    let expected = Row {
        ids: vec![0, 4, 3],
        values: Some(vec![1.0, 0.25, -2.0]),
        dense: vec![0.001],
        label: Some(-1.0),
        ..Row::default()
    };
    assert_eq!((csv.len(), &csv[1]), (3, &expected));
    assert_eq!(read_encoded(bytes("encoded.jsonl")).unwrap(), csv);
    assert_eq!(read_encoded(bytes("encoded.parquet")).unwrap(), csv);
}

#[test]
fn a_file_gives_what_a_pipe_gives() {
    let fields = raw_fields(NumberPath::F32);
    for name in ["arrow-snappy.parquet", "rows.jsonl"] {
        let mut rows = Rows::open_raw(&file(name), &fields).unwrap();
        let total = rows.total_bytes().unwrap();
        assert!(rows.has_labels());
        let read: Vec<Row> = rows.by_ref().collect::<Result<_>>().unwrap();
        assert_eq!(read, read_raw(bytes(name), &fields).unwrap().0);
        assert_eq!((rows.bytes_read(), total, rows.line()), (total, bytes(name).len() as u64, 40));
        assert_eq!(rows.place(), if name == "rows.jsonl" { "line 40" } else { "row 40" });
    }
    // Gzip is for text.
    let gzip = |bytes: Vec<u8>| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&bytes).unwrap();
        encoder.finish().unwrap()
    };
    let read = read_raw(gzip(bytes("rows.jsonl")), &fields).unwrap();
    assert_eq!(read, read_raw(bytes("rows.csv"), &fields).unwrap());
    let text = message(read_raw(gzip(bytes("polars.parquet")), &fields));
    assert!(text.contains("inside of gzip, found a Parquet file"), "{text}");
}

#[test]
fn json_is_told_what_is_wrong_with_it_and_where() {
    let cases: &[(&str, &[&str])] = &[
        (r#"{"user":1,"age":2,"tags":[],"label":1"#, &["line 1, byte 37", "JSON object", "EOF", "one line"]),
        ("{\n\"user\":1}", &["line 1, byte 1", "EOF", "one line"]),
        (r#"{"user":1,"age":2,}"#, &["line 1, byte 19", "trailing comma"]),
        (r#"{"user":1 "age":2}"#, &["line 1, byte 11", "expected `,` or `}`"]),
        (r#"{"user":1,"age":NaN,"tags":1}"#, &["line 1, byte 17", "expected value"]),
        (r#"{"user":1,"age":01,"tags":1}"#, &["line 1, byte 18", "invalid number"]),
        (r#"{"user":1,"age":1,"tags":1} x"#, &["line 1, byte 29", "trailing characters"]),
        (r#"{"user":1,"age":1,"user":1}"#, &["line 1, byte", "member `user` a second time"]),
        ("[{\"user\":1,\"age\":1}]", &["line 1", "a JSON object on each line", "array", "lines=True"]),
        ("{\"user\":1,\"age\":2,\"tags\":1}\n[1]", &["line 2", "expected a JSON object", "sequence"]),
        ("{\"user\":1,\"age\":2,\"tags\":1}\n\n7", &["line 3", "expected a JSON object", "integer `7`"]),
        (
            r#"{"user":1,"age":2}"#,
            &["line 1", "value for the field `tags`", "found none among `user`, `age`"],
        ),
        (r#"{"user":1,"age":2,"tags":1,"rating":3}"#, &["line 1, member `rating`", "one of `user`"]),
        (r#"{"user":3,"age":2,"tags":1}"#, &["line 1, member `user`", "below 3", "`3`"]),
        (r#"{"user":-1,"age":2,"tags":1}"#, &["member `user`", "whole number", "`-1`"]),
        (r#"{"user":1.0,"age":2,"tags":1}"#, &["member `user`", "whole number", "`1.0`"]),
        (r#"{"user":"x","age":2,"tags":1}"#, &["member `user`", "whole number", "`x`"]),
        (
            r#"{"user":9223372036854775808,"age":2,"tags":1}"#,
            &["member `user`", "2⁶³", "`9223372036854775808`"],
        ),
        (r#"{"user":1,"age":1e999,"tags":1}"#, &["member `age`", "finite number", "`1e999`"]),
        (r#"{"user":1,"age":null,"tags":1}"#, &["member `age`", "finite number", "nothing"]),
        (r#"{"user":1,"age":[1],"tags":1}"#, &["member `age`", "finite number", "a list of 1"]),
        (r#"{"user":1,"age":2,"tags":[2]}"#, &["member `tags`", "below 2", "`2`"]),
        (r#"{"user":1,"age":2,"tags":[null]}"#, &["member `tags`", "whole number", "nothing"]),
        (r#"{"user":1,"age":2,"tags":[[1]]}"#, &["member `tags`", "`[value, weight]`", "an array of 1"]),
        (r#"{"user":1,"age":2,"tags":[[1,"a"]]}"#, &["member `tags`", "finite number as the weight"]),
        (r#"{"user":1,"age":2,"tags":[[[1],1]]}"#, &["member `tags`", "a text or a number", "`[1]`"]),
        (r#"{"user":1,"age":2,"tags":{"1":null}}"#, &["member `tags`", "as the weight", "`null`"]),
        (r#"{"user":1,"age":2,"tags":{"1":1,"1":2}}"#, &["member `tags`", "member `1` a second time"]),
        (r#"{"user":1,"age":2,"tags":{"2":1}}"#, &["member `tags`", "below 2", "`2`"]),
        (r#"{"user":1,"age":2,"tags":"0|2"}"#, &["member `tags`", "below 2", "`2`"]),
        (r#"{"user":1,"age":2,"tags":"\ud800"}"#, &["member `tags`", "expected a text"]),
        (r#"{"user":1,"age":2,"tags":1,"label":"yes"}"#, &["member `label`", "finite number", "`yes`"]),
        (r#"{"user":1,"age":2,"tags":1,"label":[1]}"#, &["member `label`", "a text or a number", "`[1]`"]),
    ];
    for (text, words) in cases {
        let message = message(read_encoded(text.as_bytes().to_vec()));
        assert!(message.starts_with("data: "), "{text} gave {message}");
        for word in *words {
            assert!(message.contains(word), "{text} gave {message:?} without {word:?}");
        }
    }
}

#[test]
fn json_values_have_their_types() {
    let text = "\u{feff}# by hand\n {\"tags\":{\"1\":0.5},\"age\":-0.1e-1,\"user\":true,\"label\":null}\r\n\n\
                {\"tags\":[[0,2],1],\"user\":\"2\",\"age\":\"0.1\"}\n{\"tags\":\"0:3|1\",\"user\":null,\"age\":false,\"label\":1e0}";
    let row = |ids: &[u32], values: &[f64], age: f64, label| Row {
        ids: ids.to_vec(),
        values: Some(values.to_vec()),
        dense: vec![age],
        label,
        ..Row::default()
    };
    let expected = [
        row(&[1, 4], &[1.0, 0.5], -0.01, None),
        row(&[2, 3, 4], &[1.0, 2.0, 1.0], 0.1, None),
        row(&[3, 4], &[3.0, 1.0], 0.0, Some(1.0)),
    ];
    assert_eq!(read_encoded(text.as_bytes().to_vec()).unwrap(), expected);
}

#[test]
fn raw_members_may_lack_what_the_schema_lets_be_missing() {
    let fields = raw_fields(NumberPath::F32);
    let line = |more: &str| format!("{{\"flight\":7,\"hour\":1,\"weekend\":false,\"air_time\":1{more}}}\n");
    let text = line("") + &line(",\"b\":1,\"a\":[{}]") + &line(",\"a\":2,\"c\":null");
    let (rows, counts, ignored) = read_raw(text.into_bytes(), &fields).unwrap();
    assert_eq!((rows.len(), counts[0].missing, ignored), (3, 3, vec!["b".into(), "a".into(), "c".into()]));
    assert_eq!(rows[0].ids[0], 5, "the id of a carrier that is missing");

    let text = message(read_raw(b"{\"hour\":1,\"weekend\":0,\"air_time\":1}".to_vec(), &fields));
    assert!(text.contains("line 1: expected a value for the field `flight`"), "{text}");
    let text = message(read_raw(line(",\"hour\":null").replacen("\"hour\":1,", "", 1).into_bytes(), &fields));
    assert!(text.contains("line 1, member `hour`: expected a value, found none"), "{text}");
    // What has a separator of CSV in it is one value.
    let weighted = line(",\"visited\":[\"UA|B6\",\"DL\"],\"weighted\":{\"U:A\":1,\"DL\":2}");
    let (rows, counts, _) = read_raw(weighted.into_bytes(), &fields).unwrap();
    assert_eq!((counts[3].values, counts[3].unseen, counts[4].unseen), (2, 1, 1));
    assert_eq!(rows[0].sequences[0].len, 2);
}

#[test]
fn types_that_are_no_values_are_refused_by_name() {
    let read = |name: &str, kind| {
        let mut fields = vec![Field::new(name, kind)];
        schema::lay_out(&mut fields).unwrap();
        let raw = RawFields::new(&fields, NumberPath::F32).unwrap();
        read_raw(bytes("times.parquet"), &raw)
    };
    let id = FieldKind::Id { rows: 9 };
    for (name, words) in [
        ("day", ["column `day`: expected texts, numbers", "Date"]),
        ("moment", ["column `moment`", "Timestamp"]),
        ("milli", ["column `milli`", "Timestamp"]),
        ("clock", ["column `clock`", "Time"]),
        ("place", ["column `place`", "a struct"]),
        ("nested", ["column `nested`", "List"]),
        ("fixed", ["column `fixed`", "FIXED_LEN_BYTE_ARRAY"]),
        ("named", ["row 1, column `named`", "finite number as the weight, found `b`"]),
        ("huge", ["row 1, column `huge`", "below 2⁶³, found 9223372036854775808"]),
        ("bytes", ["row 1, column `bytes`", "UTF-8 text, found 1 other bytes"]),
        ("none", ["expected a value for the field `none`", "found none among `day`"]),
    ] {
        let message = message(read(name, id));
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
    assert_eq!(read("fine", id).unwrap().0[0].ids, [3]);
    // NaN is a missing value.
    assert!(message(read("nan", FieldKind::Dense)).contains("column `nan`: expected a value, found none"));
    let text = message(read_encoded(bytes("times.parquet")));
    assert!(text.contains("column `day`: expected one of `user`, `age`, `tags` or `label`"), "{text}");
}

/// A generator of Knuth's.
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

#[test]
fn damaged_parquet_is_an_error_and_no_panic() {
    let fields = raw_fields(NumberPath::F32);
    let (mut draws, mut refused) = (Draws(7), 0);
    for name in PARQUET {
        let whole = bytes(&format!("{name}.parquet"));
        for cut in 0..50 {
            let message = message(read_raw(whole[..whole.len() * cut / 50].to_vec(), &fields));
            assert!(cut == 0 || message.contains("an intact Parquet file"), "{name}, {cut}: {message}");
        }
        for _ in 0..200 {
            let mut changed = whole.clone();
            changed[draws.below(whole.len() - 4) + 4] ^= u8::try_from(draws.below(255) + 1).unwrap();
            refused += usize::from(read_raw(changed, &fields).is_err());
        }
    }
    // The others changed a value, or what nobody reads.
    assert!(refused > 200 * PARQUET.len() / 2, "{refused}");
    #[cfg(target_os = "linux")]
    assert!(peak_kilobytes() < 1 << 20);
}

/// The most memory that this process had.
#[cfg(target_os = "linux")]
fn peak_kilobytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
