//! The readers of Paddle's files, of pickled arrays and of Angel's folders, over real files, damaged ones and made ones.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nfm::{
    container::read,
    tensors::{Attribute, Fact, Tensors, Values},
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn load(path: &Path) -> Tensors {
    read(path).unwrap_or_else(|e| panic!("{e}"))
}

fn refusal(path: &Path) -> String {
    read(path).err().unwrap_or_else(|| panic!("{} must be refused", path.display())).to_string()
}

fn floats(tensors: &Tensors, name: &str) -> Vec<f32> {
    match &tensors.entries[name].values {
        Values::F32(values) => values.clone(),
        _ => panic!("{name} is no f32"),
    }
}

/// A copy of a folder without folders in it.
fn copy(from: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, folder.path().join(path.file_name().expect("a name"))).expect("a copy");
    }
    folder
}

/// A variable as Paddle writes it: `dims` below 128.
fn variable(dims: &[u8], values: &[f32]) -> Vec<u8> {
    let desc = [vec![0x08, 5], dims.iter().flat_map(|dim| [0x10, *dim]).collect()].concat();
    let len = u32::try_from(desc.len()).expect("short").to_le_bytes();
    let values = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    [vec![0; 16], len.to_vec(), desc, values].concat()
}

#[test]
fn a_variable_is_as_it_was_written() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("w"), variable(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.5])).expect("written");
    fs::write(folder.path().join("b"), variable(&[], &[-0.5])).expect("written");
    fs::write(folder.path().join(".hidden"), b"other").expect("written");
    let tensors = load(folder.path());
    assert_eq!(tensors.container, "Paddle");
    assert_eq!(tensors.entries.keys().collect::<Vec<_>>(), ["b", "w"]);
    assert_eq!(tensors.entries["w"].shape, [2, 3]);
    assert_eq!(floats(&tensors, "w"), [1.0, 2.0, 3.0, 4.0, 5.0, 6.5]);
    assert_eq!(floats(&tensors, "b"), [-0.5]);
    assert_eq!(floats(&load(&folder.path().join("w")), "w").len(), 6, "one variable by its file");
}

#[test]
fn what_is_no_variable_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let sound = variable(&[2], &[1.0, 2.0]);
    fs::write(folder.path().join("a"), &sound).expect("written");
    let mut half = sound.clone();
    half[21] = 30;
    let mut negative = sound.clone();
    negative.splice(
        16..24,
        [13, 0, 0, 0, 0x08, 5, 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
    );
    let cases: [(&[u8], &str); 6] = [
        (b"readme", "variable `b`: failed to fill whole buffer; the file is cut"),
        (b"a file of something else", "expected a dense variable of Paddle"),
        (&sound[..27], "shape [2] exceeds the 3 bytes left"),
        (&[sound.as_slice(), &sound].concat(), "found 32 more bytes: if it holds several"),
        (&half, "found type 30"),
        (&negative, "expected extents ≥ 0, found [-1]"),
    ];
    for (bytes, part) in cases {
        fs::write(folder.path().join("b"), bytes).expect("written");
        let message = refusal(folder.path());
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn one_file_of_variables_is_read_by_its_program_of_either_age() {
    let two = fixture("paddlerec-static");
    let tensors = load(&two.join("checkpoint.pdiparams"));
    assert_eq!(tensors.entries["batch_norm_2.w_2"].shape, [5]);
    assert_eq!(load(&two.join("checkpoint.pdmodel")).entries, tensors.entries, "by the program");
    let graph = tensors.graph.expect("a graph");
    assert_eq!(graph.producer, "Paddle 2.6.2");
    let fed: Vec<_> = graph.inputs.iter().map(|value| (value.name.as_str(), value.dtype)).collect();
    assert_eq!(fed, [("feat_value", "f32"), ("feat_idx", "i64")]);
    assert_eq!(graph.inputs[0].shape, [None, Some(4)]);
    let dropout = graph.nodes.iter().find(|node| node.op == "dropout").expect("a dropout");
    assert_eq!(dropout.attributes["dropout_prob"], Attribute::Float(0.9));

    let folder = tempfile::tempdir().expect("a folder");
    fs::copy(two.join("checkpoint.pdmodel"), folder.path().join("__model__")).expect("a copy");
    fs::copy(two.join("checkpoint.pdiparams"), folder.path().join("params")).expect("a copy");
    for path in ["", "__model__", "params"] {
        assert_eq!(load(&folder.path().join(path)).entries, tensors.entries, "{path}");
    }
    fs::remove_file(folder.path().join("__model__")).expect("removed");
    let message = refusal(folder.path());
    assert!(message.contains("copy the program"), "{message}");
}

#[test]
fn a_program_of_another_model_is_refused() {
    let folder = copy(&fixture("paddlerec-static"));
    fs::copy(fixture("paddlerec-inference/checkpoint/__model__"), folder.path().join("checkpoint.pdmodel"))
        .expect("a copy");
    let message = refusal(&folder.path().join("checkpoint.pdiparams"));
    assert!(message.contains("its program says [41, 1], found [4]"), "{message}");
    fs::write(folder.path().join("checkpoint.pdmodel"), b"\x0a\x7f").expect("written");
    let message = refusal(&folder.path().join("checkpoint.pdiparams"));
    assert!(message.contains("checkpoint.pdmodel: ") && message.contains("cut or damaged"), "{message}");
}

#[test]
fn arrays_are_read_from_a_pickle_with_the_model_in_it() {
    let tensors = load(&fixture("paddlerec-pickled/checkpoint.pdparams"));
    assert_eq!(tensors.container, "pickle of arrays");
    assert_eq!(tensors.entries["fc_0.w_0"].shape, [4, 6]);
    assert_eq!(tensors.facts["epoch"], Fact::Int(7));
    let bare = load(&fixture("paddlerec-pdparams/checkpoint.pdparams"));
    assert!(bare.entries.keys().eq(tensors.entries.keys()) && bare.graph.is_none());
}

#[test]
fn a_program_beside_pickled_arrays_is_their_graph() {
    let folder = copy(&fixture("paddlerec-pdparams"));
    fs::copy(fixture("paddlerec-static/checkpoint.pdmodel"), folder.path().join("checkpoint.pdmodel"))
        .expect("a copy");
    assert!(load(&folder.path().join("checkpoint.pdparams")).graph.is_some());
}

/// A pickle (protocol 3) of `{"w": array}`, of `rows` rows of four floats with this order of bytes.
fn pickle(rows: u32, order: char) -> Vec<u8> {
    let len = rows * 16;
    let values = (0..rows * 4).flat_map(|value| f32::from_bits(value).to_le_bytes());
    [
        b"\x80\x03}X\x01\x00\x00\x00wcnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00C\x01btR"
            .as_slice(),
        b"(K\x01J",
        &rows.to_le_bytes(),
        b"K\x04\x86cnumpy\ndtype\nX\x02\x00\x00\x00f4\x89\x88\x87R(K\x03X\x01\x00\x00\x00",
        order.to_string().as_bytes(),
        b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89B",
        &len.to_le_bytes(),
        &values.collect::<Vec<u8>>(),
        b"tbs.",
    ]
    .concat()
}

#[test]
fn long_arrays_of_a_pickle_come_from_their_place_in_the_file() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    for rows in [1, 4095, 4096, 9000] {
        fs::write(file.path(), pickle(rows, '<')).expect("written");
        let tensors = load(file.path());
        assert_eq!(tensors.entries["w"].shape, [rows as usize, 4]);
        let bits: Vec<u32> = floats(&tensors, "w").iter().map(|value| value.to_bits()).collect();
        assert!(bits.into_iter().eq(0..rows * 4), "{rows} rows");
    }
    fs::write(file.path(), pickle(9000, '>')).expect("written");
    assert!(refusal(file.path()).contains("tensor `w`: an array of big-endian numbers"));
    let cut = pickle(9000, '<');
    fs::write(file.path(), &cut[..100_000]).expect("written");
    assert!(refusal(file.path()).contains("the file is cut or damaged"));
}

/// Writes a matrix of Angel into a folder of its name.
fn angel(folder: &Path, format: &str, row_type: u8, [rows, columns]: [u64; 2], partition: &str, data: &[u8]) {
    let meta = format!(
        r#"{{"matrixName":"m","formatClassName":"{format}","rowType":{row_type},"row":{rows},"col":{columns},"partMetas":{{"0":{{
        "startCol":0,"fileName":"part","offset":0,"length":{},{partition}}}}}}}"#,
        data.len()
    );
    let len = u32::try_from(meta.len()).expect("short").to_be_bytes();
    fs::create_dir_all(folder.join("m")).expect("a folder");
    fs::write(folder.join("m/meta"), [&len, meta.as_bytes()].concat()).expect("written");
    fs::write(folder.join("m/part"), data).expect("written");
}

/// Format, row type, extents, data; shape and values.
type Read<'a> = (&'a str, u8, [u64; 2], &'a [u8], &'a [usize], &'a [f32]);

/// Format, row type, extents, facts of the partition, data; words of the refusal.
type Refused<'a> = (&'a str, u8, [u64; 2], &'a str, &'a [u8], &'a str);

const DENSE_DOUBLE: u8 = 0;
const DENSE: u8 = 7;
const SPARSE: u8 = 10;
const SPARSE_LONG: u8 = 12;

#[test]
fn each_format_of_angel_gives_the_matrix() {
    let folder = tempfile::tempdir().expect("a folder");
    let long = [&1_u64.to_be_bytes()[..], &1.5_f32.to_be_bytes(), &(-2.0_f32).to_be_bytes()].concat();
    let binary = |keys: &[u32], value: f32| {
        [keys.iter().flat_map(|key| key.to_be_bytes()).collect(), value.to_be_bytes().to_vec()].concat()
    };
    let keyed = [binary(&[1, 0], 1.5), binary(&[0, 1], -2.0)].concat();
    let cases: [Read<'_>; 9] = [
        ("ValueTextRowFormat", DENSE, [1, 2], b"1.5\n-2.0E-1\n", &[1, 2], &[1.5, -0.2]),
        ("ColIdValueTextRowFormat", SPARSE, [9, 3], b"2,1.5\n0,-2.0\n", &[1, 3], &[-2.0, 0.0, 1.5]),
        (
            "RowIdColIdValueTextRowFormat",
            SPARSE,
            [2, 2],
            b"1,0,1.5\n0,1,3.0\n",
            &[2, 2],
            &[0.0, 3.0, 1.5, 0.0],
        ),
        ("TextColumnFormat", DENSE, [4, 2], b"1,1.5,2.0\n0,3.0,4.0\n", &[2, 2], &[3.0, 1.5, 4.0, 2.0]),
        ("x.ValueBinaryRowFormat", DENSE, [1, 1], &1.5_f32.to_be_bytes(), &[1, 1], &[1.5]),
        ("ColIdValueBinaryRowFormat", SPARSE, [1, 2], &binary(&[1], 1.5), &[1, 2], &[0.0, 1.5]),
        ("RowIdColIdValueBinaryRowFormat", SPARSE, [2, 2], &keyed, &[2, 2], &[0.0, -2.0, 1.5, 0.0]),
        ("BinaryColumnFormat", SPARSE_LONG, [2, 2], &long, &[2, 2], &[0.0, 1.5, 0.0, -2.0]),
        ("TextColumnFormat", SPARSE, [2, 1], b"0,1.0E-5,Infinity\n", &[2, 1], &[1e-5, f32::INFINITY]),
    ];
    for (format, row_type, extents, data, shape, values) in cases {
        angel(folder.path(), format, row_type, extents, r#""saveColElemNum":2"#, data);
        let tensors = load(folder.path());
        assert_eq!((tensors.container, &*tensors.entries["m"].shape), ("Angel", shape), "{format}");
        assert_eq!(floats(&tensors, "m"), values, "{format}");
    }
    let partition = r#""saveColElemNum":0"#;
    angel(folder.path(), "ValueTextRowFormat", DENSE_DOUBLE, [1, 1], partition, b"0.1\n");
    assert_eq!(load(folder.path()).entries["m"].values, Values::F64(vec![0.1]));
}

#[test]
fn what_is_no_matrix_of_angel_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let keyed = "RowIdColIdValueTextRowFormat";
    let none = r#""saveColElemNum":0"#;
    let cases: [Refused<'_>; 12] = [
        ("my.Format", DENSE, [1, 1], none, b"1\n", "found `my.Format`"),
        (keyed, 21, [1, 1], none, b"0,0,1\n", "found rowType 21"),
        (keyed, DENSE, [1, u64::MAX], none, b"0,0,1\n", "number the features anew"),
        (keyed, DENSE, [1 << 60, 1 << 10], none, b"1152921504606846975,0,1\n", "far more memory"),
        (keyed, DENSE, [1, 2], none, b"0,0,1\n", "nothing is written for row 0, column 1"),
        (keyed, DENSE, [1, 1], none, b"0,0,1\n0,0,1\n", "record 2: row 0, column 0: it is written twice"),
        (keyed, DENSE, [1, 1], none, b"0,1,1\n", "found row 0, column 1"),
        (keyed, DENSE, [1, 1], none, b"0,0,NaN\n", "training diverged"),
        (keyed, DENSE, [1, 1], none, b"0,0,1", "found `0,0,1`"),
        (keyed, DENSE, [1, 1], none, b"0,0\n", "found `0,0`"),
        (keyed, DENSE, [1, 1], none, b"", "no element"),
        ("BinaryColumnFormat", DENSE, [2, 1], r#""saveColElemNum":2"#, &[0; 11], "the file is cut"),
    ];
    for (format, row_type, extents, partition, data, part) in cases {
        angel(folder.path(), format, row_type, extents, partition, data);
        let message = refusal(folder.path());
        assert!(message.contains(part), "{message}");
    }
    angel(folder.path(), keyed, DENSE, [1, 1], r#""length":9"#, b"0,0,1\n");
    assert!(refusal(folder.path()).contains("a folder without one"), "two lengths are no meta");
    angel(folder.path(), keyed, DENSE, [1, 1], none, b"0,0,1\n");
    fs::write(folder.path().join("m/part"), b"0,0,").expect("written");
    let message = refusal(folder.path());
    assert!(message.contains("expected 6 bytes, as `meta` says, found 4"), "{message}");
}

#[test]
fn a_partition_stays_in_its_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let keyed = "RowIdColIdValueTextRowFormat";
    angel(folder.path(), keyed, DENSE, [1, 1], r#""saveColElemNum":0"#, b"0,0,1\n");
    let meta = fs::read(folder.path().join("m/meta")).expect("a file");
    let text = String::from_utf8_lossy(&meta[4..]).replace(r#""part""#, r#""../../x""#);
    let len = u32::try_from(text.len()).expect("short").to_be_bytes();
    fs::write(folder.path().join("m/meta"), [&len, text.as_bytes()].concat()).expect("written");
    let message = refusal(folder.path());
    assert!(message.contains("expected the name of a file, found `../../x`"), "{message}");
}

#[test]
fn a_configuration_in_the_folder_is_a_fact() {
    let folder = tempfile::tempdir().expect("a folder");
    angel(folder.path(), "ValueTextRowFormat", DENSE, [1, 1], r#""saveColElemNum":0"#, b"1.5\n");
    fs::write(folder.path().join("other.json"), r#"{"epochs": 3}"#).expect("written");
    assert!(load(folder.path()).facts.is_empty());
    fs::write(folder.path().join("nfm.json"), r#"{"layers": []}"#).expect("written");
    assert_eq!(load(folder.path()).facts["network"], Fact::Json(serde_json::json!({"layers": []})));
    fs::write(folder.path().join("other.json"), r#"{"layers": []}"#).expect("written");
    assert!(refusal(folder.path()).contains("a second network in this folder"));
    fs::write(folder.path().join("other.json"), r#"{"layers": "#).expect("written");
    assert!(refusal(folder.path()).contains("other.json: EOF"));
}
