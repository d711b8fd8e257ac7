use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use super::*;

/// 3 + 2 rows and one dense input, which so has the id 5 in libFM.
fn fields() -> Vec<Field> {
    let id = |name: &str, rows| Field::new(name, FieldKind::Id { rows });
    laid_out([id("user", 3), Field::new("age", FieldKind::Dense), id("tags", 2)])
}

fn laid_out(fields: impl Into<Vec<Field>>) -> Vec<Field> {
    let mut fields = fields.into();
    schema::lay_out(&mut fields).unwrap();
    fields
}

fn read_bytes(bytes: Vec<u8>, fields: &[Field]) -> Result<Vec<Row>> {
    Rows::from_reader("data", io::Cursor::new(bytes), None, fields)?.collect()
}

fn read(text: &str) -> Result<Vec<Row>> {
    read_bytes(text.as_bytes().to_vec(), &fields())
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn row(ids: &[u32], values: Option<&[f64]>, dense: f64, label: Option<f64>) -> Row {
    Row {
        ids: ids.to_vec(),
        values: values.map(<[f64]>::to_vec),
        dense: vec![dense],
        label,
        ..Row::default()
    }
}

const LIBFM: &str = "1 2:1 3:1 5:0.5\n-1 0:1 4:0.25 3:-2 5:1e-3\n0.5 5:7\n1 1:1 1:1 5:-0\n";
const CSV: &str = "tags,label,user,age\n0,1,2,0.5\n1:0.25|0:-2,-1,0,1e-3\n,0.5,,7\n,1,1|1,-0\n";

/// What both texts above hold.
fn expected() -> Vec<Row> {
    vec![
        row(&[2, 3], None, 0.5, Some(1.0)),
        row(&[0, 4, 3], Some(&[1.0, 0.25, -2.0]), 0.001, Some(-1.0)),
        row(&[], None, 7.0, Some(0.5)),
        row(&[1, 1], None, 0.0, Some(1.0)),
    ]
}

#[test]
fn both_formats_give_the_same_rows() {
    assert_eq!(read(LIBFM).unwrap(), expected());
    assert_eq!(read(CSV).unwrap(), expected());
}

#[test]
fn gzip_gives_what_plain_text_gives() {
    for text in [LIBFM, CSV] {
        assert_eq!(read_bytes(gzip(text), &fields()).unwrap(), expected());
        let (first, second) = text.split_at(text.len() / 2);
        let members = [gzip(first), gzip(second)].concat();
        assert_eq!(read_bytes(members, &fields()).unwrap(), expected());
    }
}

#[test]
fn line_ends_blank_lines_and_a_byte_order_mark_change_nothing() {
    for text in [LIBFM, CSV] {
        assert_eq!(read(&text.replace('\n', "\r\n")).unwrap(), expected());
        assert_eq!(read(&text.replace('\n', "\n \n\r\n")).unwrap(), expected());
        assert_eq!(read(text.trim_end()).unwrap(), expected());
        assert_eq!(read(&format!("\u{feff}{text}")).unwrap(), expected());
        assert_eq!(read(&format!("\n# made by hand\n\n{text}")).unwrap(), expected());
    }
}

#[test]
fn white_space_comments_and_quotes_are_tolerated() {
    assert_eq!(read("  1\t2:1   3:1 5:.5 # third user\n# end\n").unwrap(), expected()[..1]);
    assert_eq!(read("\"tags\", label ,user,age\n\"0\", 1 , 2,\"0.5\"\n").unwrap(), expected()[..1]);
    let names = [Field::new("a,\"b\"", FieldKind::Dense)];
    assert_eq!(read_bytes(b"\"a,\"\"b\"\"\"\n3\n".to_vec(), &names).unwrap()[0].dense, [3.0]);
}

#[test]
fn labels_may_be_absent_in_csv() {
    assert_eq!(read("user,age,tags\n2,0.5,0\n").unwrap(), [row(&[2, 3], None, 0.5, None)]);
    assert_eq!(read("user,age,tags,label\n2,0.5,0,\n").unwrap(), [row(&[2, 3], None, 0.5, None)]);
    let open = |text: &'static str| Rows::from_reader("data", text.as_bytes(), None, &fields()).unwrap();
    assert!(!open("user,age,tags\n2,0.5,0\n").has_labels());
    assert!(open(CSV).has_labels() && open(LIBFM).has_labels());
}

#[test]
fn what_does_not_fit_is_an_error_that_says_where_and_why() {
    let h = "user,age,tags,label\n";
    let cases: &[(&str, &[&str])] = &[
        // Nothing there.
        ("", &["data: expected rows", "empty file"]),
        ("\n\r\n  \n", &["empty file"]),
        ("# only a comment\n", &["empty file"]),
        ("user,age,tags\n", &["expected rows", "only the header"]),
        // libFM.
        ("1 5:1\nx 5:1\n", &["line 2", "label", "finite number", "`x`"]),
        ("nan 5:1\n", &["line 1", "label", "`nan`"]),
        ("1 5:1\n\n1e999 5:1\n", &["line 3", "label", "`1e999`"]),
        ("2:1 5:1\n", &["line 1", "label", "`2:1`"]),
        ("1 2 5:1\n", &["line 1", "`id:value`", "`2`"]),
        ("1 -2:1 5:1\n", &["line 1", "whole number", "`-2:1`"]),
        ("1 +2:1 5:1\n", &["line 1", "whole number", "`+2:1`"]),
        ("1 2.0:1 5:1\n", &["line 1", "whole number", "`2.0:1`"]),
        ("1 :1 5:1\n", &["line 1", "whole number", "`:1`"]),
        ("1 2: 5:1\n", &["line 1", "finite number", "`2:`"]),
        ("1 2:nan 5:1\n", &["line 1", "finite number", "`2:nan`"]),
        ("1 2:inf 5:1\n", &["line 1", "finite number", "`2:inf`"]),
        ("1 2:1:1 5:1\n", &["line 1", "finite number", "`2:1:1`"]),
        ("1 6:1 5:1\n", &["line 1", "below 5", "1 dense inputs", "from 0", "`6:1`"]),
        ("1 99999999999999999999:1 5:1\n", &["line 1", "below 5", "`99999999999999999999:1`"]),
        ("1 2:1\n", &["line 1", "dense input `age` (id 5)", "found none"]),
        ("1 5:1 5:2\n", &["line 1", "`age` once", "id 5", "second time"]),
        // The header.
        ("user,age\n1,2\n", &["line 1", "value for the field `tags`", "found none"]),
        ("user,age,tags,rating\n", &["line 1, column `rating`", "`user`, `age`, `tags`", "label"]),
        ("User,age,tags\n", &["line 1, column `User`", "one of `user`"]),
        ("user,age,tags,user\n", &["line 1, column `user`", "once", "second time"]),
        ("label,user,age,tags,label\n", &["line 1, column `label`", "second time"]),
        (",user,age,tags\n", &["line 1", "name for column 1", "index=False"]),
        ("1,0.5,0,1\n", &["line 1", "header", "found numbers"]),
        ("user\tage\ttags\n", &["line 1", "commas", "'\\t'"]),
        ("user;age;tags\n", &["line 1", "commas", "';'"]),
        ("user,age,\"tags\n1,2,0\n", &["line 1", "closing quote"]),
        // Rows of CSV.
        (&format!("{h}1,2,0\n"), &["line 2", "expected 4 cells", "found 3"]),
        (&format!("{h}1,2,0,1\n1,2,0,1,1\n"), &["line 3", "expected 4 cells", "found 5"]),
        (&format!("{h}\n\n3,2,0,1\n"), &["line 4, column `user`", "below 3", "`3`"]),
        (&format!("{h}1,2,2,1\n"), &["line 2, column `tags`", "below 2", "`2`"]),
        (&format!("{h}-1,2,0,1\n"), &["line 2, column `user`", "whole number", "`-1`"]),
        (&format!("{h}1.0,2,0,1\n"), &["line 2, column `user`", "whole number", "`1.0`"]),
        (&format!("{h}x,2,0,1\n"), &["line 2, column `user`", "whole number", "`x`"]),
        (&format!("{h}nan,2,0,1\n"), &["line 2, column `user`", "whole number", "`nan`"]),
        (&format!("{h}99999999999999999999,2,0,1\n"), &["line 2, column `user`", "below 3"]),
        (&format!("{h}1,2,0|,1\n"), &["line 2, column `tags`", "whole number", "nothing"]),
        (&format!("{h}1,2,|,1\n"), &["line 2, column `tags`", "nothing"]),
        (&format!("{h}1,2,0|2,1\n"), &["line 2, column `tags`", "below 2", "`2`"]),
        (&format!("{h}1,2,0:nan,1\n"), &["line 2, column `tags`", "finite", "`0:nan`"]),
        (&format!("{h}1,2,0:,1\n"), &["line 2, column `tags`", "finite", "`0:`"]),
        (&format!("{h}1,,0,1\n"), &["line 2, column `age`", "finite number", "nothing"]),
        (&format!("{h}1,NaN,0,1\n"), &["line 2, column `age`", "finite number", "`NaN`"]),
        (&format!("{h}1,-inf,0,1\n"), &["line 2, column `age`", "finite number", "`-inf`"]),
        (&format!("{h}1,1e999,0,1\n"), &["line 2, column `age`", "finite number", "`1e999`"]),
        (&format!("{h}1,two,0,1\n"), &["line 2, column `age`", "finite number", "`two`"]),
        (&format!("{h}1,2,0,yes\n"), &["line 2, column `label`", "finite number", "`yes`"]),
        (&format!("{h}1,2,0,inf\n"), &["line 2, column `label`", "finite number", "`inf`"]),
        (&format!("{h}1,2,0,1\n1,2,\"0,1\n1,2,0,1\n"), &["line 3", "closing quote"]),
        (&format!("{h}1,2,0,1\r1,2,0,1\n"), &["line 2", "expected 4 cells", "found 7"]),
        (&format!("{h}{},2,0,1\n", "x".repeat(999)), &["line 2, column `user`", "xxx…`"]),
    ];
    for (text, words) in cases {
        let message = read(text).expect_err(text).to_string();
        assert!(message.starts_with("data: "), "{text:?} gave {message:?}");
        for word in *words {
            assert!(message.contains(word), "{text:?} gave {message:?} without {word:?}");
        }
    }
}

#[test]
fn fields_that_cannot_be_told_apart_are_an_error() {
    let dense = |name: &str| Field::new(name, FieldKind::Dense);
    let many = |name: &str| Field::new(name, FieldKind::Id { rows: u32::MAX });
    let cases = [
        (vec![], "give a schema"),
        (laid_out([many("a"), many("b")]), "2³²"),
        (vec![dense("a"), dense("a")], "`a` twice"),
        (vec![dense("label")], "rename the field"),
    ];
    for (fields, word) in cases {
        let message = read_bytes(b"a,b,label\n1,2,3\n".to_vec(), &fields).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }
    // libFM does not need the names.
    assert_eq!(read_bytes(b"1 0:2 1:3\n".to_vec(), &[dense("a"), dense("a")]).unwrap()[0].dense, [2.0, 3.0]);
}

#[test]
fn the_last_addressable_id_is_read() {
    let id = |name: &str, rows| Field::new(name, FieldKind::Id { rows });
    let fields = laid_out([id("a", u32::MAX), id("b", 1)]);
    for text in ["a,b\n4294967294,0\n", "0 4294967294:1 4294967295:1\n"] {
        let rows = read_bytes(text.as_bytes().to_vec(), &fields).unwrap();
        assert_eq!(rows[0].ids, [u32::MAX - 1, u32::MAX]);
    }
}

#[test]
fn bad_utf8_is_an_error_that_names_line_and_byte() {
    for (bytes, words) in [
        (b"1 5:1\n1 5:\xff\n".as_slice(), ["line 2", "UTF-8", "byte 5"]),
        (b"user,age,tags\n1,2,0\n\xe9,1,0\n", ["line 3", "UTF-8", "byte 1"]),
        (b"\xff\xfe1\0 \0", ["line 1", "UTF-8", "byte 1"]),
    ] {
        let message = read_bytes(bytes.to_vec(), &fields()).unwrap_err().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
}

#[test]
fn every_cut_of_a_gzip_stream_is_an_error() {
    let whole = gzip(CSV);
    for len in 0..whole.len() {
        let message = read_bytes(whole[..len].to_vec(), &fields()).expect_err("cut").to_string();
        // Below 3 bytes there is no magic to know it by.
        assert!(len < 3 || (message.contains("gzip stream") && message.contains("cut")), "{len}: {message}");
    }
}

#[test]
fn a_damaged_gzip_stream_is_an_error() {
    let mut bytes = gzip(CSV);
    let crc = bytes.len() - 8;
    bytes[crc] ^= 1;
    let message = read_bytes(bytes, &fields()).unwrap_err().to_string();
    assert!(message.contains("gzip stream") && message.contains("damaged"), "{message}");
}

#[test]
fn flipped_bytes_and_cuts_never_panic() {
    for text in [LIBFM.as_bytes().to_vec(), CSV.as_bytes().to_vec(), gzip(LIBFM), gzip(CSV)] {
        for position in 0..text.len() {
            let _ = read_bytes(text[..position].to_vec(), &fields());
            for flip in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                let mut bytes = text.clone();
                bytes[position] ^= flip;
                let _ = read_bytes(bytes, &fields());
            }
        }
    }
}

#[test]
fn a_line_without_end_is_an_error_and_not_a_full_memory() {
    let endless = io::repeat(b'1');
    let message = Rows::from_reader("data", endless, None, &fields()).unwrap_err().to_string();
    assert!(message.contains("line 1") && message.contains("longer"), "{message}");
}

/// Gives one byte at a time, as a slow pipe may.
struct Slow(io::Cursor<Vec<u8>>);

impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(1);
        self.0.read(&mut buffer[..len])
    }
}

#[test]
fn a_pipe_gives_what_a_file_gives() {
    for bytes in [CSV.as_bytes().to_vec(), LIBFM.as_bytes().to_vec(), gzip(CSV), gzip(LIBFM)] {
        let pipe = Rows::from_reader("pipe", Slow(io::Cursor::new(bytes.clone())), None, &fields()).unwrap();
        assert_eq!(pipe.total_bytes(), None);
        assert_eq!(pipe.collect::<Result<Vec<_>>>().unwrap(), expected());

        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        let mut rows = Rows::open(file.path(), &fields()).unwrap();
        assert_eq!(rows.by_ref().collect::<Result<Vec<_>>>().unwrap(), expected());
        assert_eq!(rows.total_bytes(), Some(bytes.len() as u64));
        assert_eq!(rows.bytes_read(), bytes.len() as u64);
    }
}

#[test]
fn the_iterator_ends_after_an_error() {
    let mut rows = Rows::from_reader("data", "1 5:1\nx\n1 5:1\n".as_bytes(), None, &fields()).unwrap();
    assert!(rows.next().unwrap().is_ok());
    assert_eq!(rows.line(), 1);
    assert!(rows.next().unwrap().is_err());
    assert_eq!(rows.line(), 2);
    assert!(rows.next().is_none());
}

#[test]
fn a_reader_that_fails_is_an_error_of_the_system() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("unplugged"))
        }
    }
    let text = io::Cursor::new("1 5:1\n").chain(Broken);
    let last = Rows::from_reader("data", text, None, &fields()).map(|rows| rows.last());
    let (Err(error) | Ok(Some(Err(error)))) = last else { panic!("expected an error") };
    assert!(matches!(error, Error::Io { .. }) && error.to_string() == "data: unplugged", "{error}");

    let missing = Rows::open(Path::new("/nonexistent/rows.csv"), &fields()).unwrap_err();
    assert!(missing.to_string().starts_with("/nonexistent/rows.csv: "));
    assert!(matches!(Rows::open(Path::new("/"), &fields()), Err(Error::Io { .. })));
}

#[test]
fn both_formats_give_the_ids_of_a_sequence_together() {
    let sequence = |pooling, weights| {
        let (linear, max_len, padding) = (Pooling::Sum, Some(3), Some(0));
        FieldKind::Sequence(Sequence { rows: 4, pooling, linear, max_len, padding, weights })
    };
    let mean = sequence(Pooling::Mean, Weights::Raw);
    let fields = laid_out([
        Field::new("tags", mean),
        Field::new("user", FieldKind::Id { rows: 2 }),
        Field::new("price", FieldKind::Scaled),
    ]);
    let run = |start| Run { start, len: 2, pooling: Pooling::Mean, linear: Pooling::Sum, is_sequence: true };
    // The padding 0 is no entry.
    let csv = &read_bytes(b"tags,user,price\n3|0|2:0.5,1,0.25\n".to_vec(), &fields).unwrap()[0];
    assert_eq!((csv.ids.as_slice(), csv.sequences.as_slice()), (&[3, 2, 5, 6][..], &[run(0)][..]));
    assert_eq!(csv.values.as_deref(), Some(&[1.0, 0.5, 1.0, 0.25][..]));
    let libfm = &read_bytes(b"1 3:1 5:1 0:1 2:0.5 6:0.25\n".to_vec(), &fields).unwrap()[0];
    assert_eq!((libfm.ids.as_slice(), libfm.sequences.as_slice()), (&[5, 6, 3, 2][..], &[run(2)][..]));

    let message = read_bytes(b"tags,user,price\n1|2|3|1,1,0\n".to_vec(), &fields).unwrap_err().to_string();
    assert!(message.contains("at most 3 ids") && message.contains("found 4"), "{message}");
    let empty = read_bytes(b"tags,user,price\n,1,0\n".to_vec(), &fields).unwrap();
    assert_eq!((empty[0].ids.as_slice(), empty[0].sequences.len()), (&[5, 6][..], 0));
    let largest = laid_out([Field::new("tags", sequence(Pooling::Max, Weights::Raw))]);
    let message = read_bytes(b"tags\n0\n".to_vec(), &largest).unwrap_err().to_string();
    assert!(message.contains("column `tags`: expected at least one id"), "{message}");

    // Softmax of 0 and ln 3: 1 / 4 and 3 / 4.
    let softmax = laid_out([Field::new("tags", sequence(Pooling::Sum, Weights::Softmax))]);
    let values =
        read_bytes(b"tags\n1:0|2:1.0986122886681098\n".to_vec(), &softmax).unwrap()[0].values.clone();
    assert!(values.unwrap().iter().zip([0.25, 0.75]).all(|(got, want)| (got - want).abs() < 1e-12));

    let mut shared = vec![Field::new("tags", mean), Field::new("tag", FieldKind::Id { rows: 0 })];
    shared[1].table = Some("tags".into());
    schema::lay_out(&mut shared).unwrap();
    let message = read_bytes(b"1 3:1\n".to_vec(), &shared).unwrap_err().to_string();
    assert!(message.contains("expected CSV"), "{message}");
    let csv = read_bytes(b"tags,tag\n3|2,1\n".to_vec(), &shared).unwrap();
    assert_eq!(csv[0].ids, [3, 2, 1]);
}
