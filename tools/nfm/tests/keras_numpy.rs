//! The HDF5, Keras and numpy readers over files of the real libraries; `tools/fixtures/containers_h5.py` wrote them.

use std::{fs, io::Write, path::PathBuf};

use nfm::{
    container::read,
    tensors::{Fact, Tensor, Tensors, Values},
};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/containers").join(name)
}

fn load(name: &str) -> Tensors {
    read(&fixture(name)).unwrap_or_else(|e| panic!("{e}"))
}

fn refusal(name: &str) -> String {
    read(&fixture(name)).err().unwrap_or_else(|| panic!("{name} must be refused")).to_string()
}

fn names(tensors: &Tensors) -> Vec<&str> {
    tensors.entries.keys().map(String::as_str).collect()
}

/// The values as the script computes them: weight `k` of the model holds `k + i / 64`.
fn weight(k: usize, shape: &[usize]) -> Tensor {
    let value = |i: usize| u16::try_from(64 * k + i).map(f32::from).expect("a small number") / 64.0;
    let values = Values::F32((0..shape.iter().product()).map(value).collect());
    Tensor { shape: shape.into(), dtype: "f32", values, storage: None }
}

/// The shapes of the weights, in the model's order.
const SHAPES: [&[usize]; 9] = [&[5, 4], &[3, 4], &[4, 3], &[3, 2], &[3], &[2], &[2, 2], &[2], &[2, 1]];

#[track_caller]
fn assert_is(tensors: &Tensors, name: &str, expected: Tensor) {
    let found = tensors.entries.get(name).unwrap_or_else(|| panic!("{name} in {:?}", names(tensors)));
    assert_eq!(Tensor { storage: None, ..found.clone() }, expected, "{name}");
}

/// The nine weights of the model by their names, in this order or, without one in the file, in any.
#[track_caller]
fn assert_model(tensors: &Tensors, expected: [&str; 9], in_order: bool) {
    match in_order {
        true => assert_eq!(names(tensors), expected),
        false => assert_eq!(tensors.entries.len(), expected.len(), "{:?}", names(tensors)),
    }
    for (k, (name, shape)) in expected.into_iter().zip(SHAPES).enumerate() {
        assert_is(tensors, name, weight(k, shape));
    }
}

#[track_caller]
fn assert_config(tensors: &Tensors, loss: bool) {
    let Some(Fact::Json(config)) = tensors.facts.get("model_config") else {
        panic!("{:?}", tensors.facts.keys())
    };
    assert_eq!(config["config"]["layers"][2]["config"]["output_dim"], 4);
    assert_eq!(tensors.facts["dnn.__class__"], Fact::Text("DNN".into()));
    let Fact::Json(layers) = &tensors.facts["layer_names"] else { panic!("layer_names") };
    assert_eq!((&layers[0], &layers[10]), (&"user".into(), &"dense".into()));
    if loss {
        let Fact::Json(training) = &tensors.facts["training_config"] else { panic!("training_config") };
        assert_eq!(training["loss"], "binary_crossentropy");
    }
}

const KERAS_2: [&str; 9] = [
    "sparse_emb_user/embeddings",
    "sparse_emb_it/em/embeddings",
    "dnn/kernel0",
    "dnn/kernel1",
    "dnn/bias0",
    "dnn/bias1",
    "tower/kernel",
    "tower/bias",
    "dense/kernel",
];

const NUMBERED: [&str; 9] = [
    "sparse_emb_user/0",
    "sparse_emb_it_em/0",
    "dnn/0",
    "dnn/1",
    "dnn/2",
    "dnn/3",
    "tower/inner/0",
    "tower/inner/1",
    "dense/0",
];

#[test]
fn keras_2_weights_have_their_layers_names() {
    let tensors = load("keras2-weights.h5");
    assert_eq!(tensors.container, "HDF5");
    assert_model(&tensors, KERAS_2, true);
    assert_eq!(tensors.facts["backend"], Fact::Text("tensorflow".into()));
    assert_eq!(tensors.facts["keras_version"], Fact::Text("2.16.0".into()));
}

#[test]
fn keras_2_models_come_with_their_configuration_and_without_their_optimizer() {
    let tensors = load("keras2-full.h5");
    assert_model(&tensors, KERAS_2, true);
    assert_config(&tensors, true);
}

#[test]
fn keras_3_models_in_hdf5_have_the_same_names() {
    let tensors = load("keras3-full.h5");
    let mut expected = KERAS_2;
    expected[1] = "sparse_emb_it_em/embeddings";
    (expected[6], expected[7]) = ("tower/inner/kernel", "tower/inner/bias");
    assert_model(&tensors, expected, true);
    assert_config(&tensors, true);
}

#[test]
fn keras_3_weights_take_their_layers_names_from_attributes() {
    assert_model(&load("keras3.weights.h5"), NUMBERED, false);
}

#[test]
fn keras_archives_have_layers_names_and_order() {
    let tensors = load("keras3.keras");
    assert_eq!(tensors.container, "Keras archive");
    assert_model(&tensors, NUMBERED, true);
    assert_config(&tensors, false);
    assert_eq!(tensors.facts["keras_version"], Fact::Text("3.15.1".into()));
}

#[test]
fn archives_of_tf_keras_take_their_layers_names_from_the_configuration() {
    let mut expected = NUMBERED;
    expected[1] = "sparse_emb_it/em/0";
    let tensors = load("tf-keras.keras");
    assert_model(&tensors, expected, true);
    assert_config(&tensors, false);
}

#[test]
fn weights_without_any_name_are_named_by_their_place() {
    let mut expected = NUMBERED.map(|name| format!("layers/{name}"));
    expected[0] = "layers/embedding/0".into();
    expected[1] = "layers/embedding_1/0".into();
    assert_model(&load("tf-keras.weights.h5"), expected.each_ref().map(String::as_str), false);
}

#[test]
fn an_archive_that_someone_packed_anew_is_the_same() {
    let mut zip = ZipArchive::new(fs::File::open(fixture("keras3.keras")).expect("file")).expect("zip");
    let mut packed = tempfile::NamedTempFile::new().expect("a file");
    let mut writer = ZipWriter::new(&mut packed);
    for at in 0..zip.len() {
        let mut entry = zip.by_index(at).expect("entry");
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        writer.start_file(entry.name().expect("text"), options).expect("a new entry");
        std::io::copy(&mut entry, &mut writer).expect("bytes");
    }
    writer.finish().expect("an archive");
    let again = read(packed.path()).unwrap_or_else(|e| panic!("{e}"));
    assert_model(&again, NUMBERED, true);
}

#[test]
fn a_changed_byte_in_an_archive_is_found() {
    let mut bytes = fs::read(fixture("keras3.keras")).expect("file");
    let at =
        bytes.windows(8).position(|window| window == b"\x00\x00\x80\x3f\x00\x00\x82\x3f").expect("table 1");
    bytes[at + 2] ^= 1;
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&bytes).expect("bytes");
    let error = read(file.path()).expect_err("a wrong checksum").to_string();
    assert!(error.contains("model.weights.h5") && error.contains("checksum"), "{error}");
}

/// `0, 1, …, 11` as 4 rows.
fn table(dtype: &'static str) -> Tensor {
    let values = match dtype {
        "f64" => Values::F64((0..12).map(f64::from).collect()),
        "i16" => Values::I64((0..12).collect()),
        _ => Values::F32((0..12_u8).map(f32::from).collect()),
    };
    Tensor { shape: vec![4, 3], dtype, values, storage: None }
}

#[test]
fn every_kind_of_hdf5_dataset_group_and_attribute_is_read() {
    for file in ["plain.h5", "latest.h5"] {
        let tensors = load(file);
        for (name, dtype) in [
            ("tables/z", "f32"),
            ("tables/a", "f64"),
            ("tables/packed", "f32"),
            ("tables/summed", "f32"),
            ("alias", "f32"),
        ] {
            assert_is(&tensors, name, table(dtype));
        }
        assert_eq!(tensors.entries["alias"].storage, tensors.entries["tables/z"].storage);
        let tables: Vec<&str> =
            names(&tensors).into_iter().filter(|name| name.starts_with("tables/")).collect();
        assert_eq!(tables, ["tables/z", "tables/a", "tables/packed", "tables/summed", "tables/unwritten"]);
        assert_eq!(tensors.entries["tables/unwritten"].values, Values::F32(vec![0.5; 4]));
        assert_eq!(tensors.entries["kinds/scalar"].values, Values::F32(vec![7.5]));
        assert_eq!(tensors.entries["kinds/empty"].shape, [0, 3]);
        let short = |dtype, name: &str| {
            assert_eq!(tensors.entries[name].dtype, dtype, "{name}");
            assert_eq!(tensors.entries[name].values, Values::F32(vec![0.0, 1.0, 100.0]), "{name}");
        };
        short("f16", "kinds/f2");
        short("bf16", "kinds/bf2");
        assert_eq!(tensors.entries["kinds/f8"].values, Values::F64(vec![0.0, 1.0, 100.0]));
        for (name, dtype) in [
            ("i1", "i8"),
            ("i2", "i16"),
            ("i4", "i32"),
            ("i8", "i64"),
            ("u1", "u8"),
            ("u4", "u32"),
            ("u8", "u64"),
            ("big-i4", "i32"),
        ] {
            let tensor = &tensors.entries[&format!("kinds/{name}")];
            assert_eq!((tensor.dtype, &tensor.values), (dtype, &Values::I64(vec![0, 1, 100])), "{name}");
        }
        assert_eq!(tensors.entries["kinds/?"].values, Values::I64(vec![0, 1, 1]));
        for i in 0..20_u8 {
            assert_eq!(tensors.entries[&format!("many/w{i}")].values, Values::F32(vec![i.into(); 2]));
        }
        assert!(!tensors.entries.contains_key("kinds/text") && !tensors.entries.contains_key("elsewhere"));
        assert_eq!(tensors.facts["task"], Fact::Text("binary".into()));
        assert_eq!(tensors.facts["fields"], Fact::Int(2));
        assert_eq!(tensors.facts["eps"], Fact::Float(0.001));
    }
}

#[test]
fn an_element_type_that_is_no_number_is_refused_by_name() {
    let error = refusal("compound.h5");
    assert!(
        error.contains("tensor `bad`: expected integers, booleans or IEEE floats")
            && error.contains("compounds"),
        "{error}"
    );
}

#[test]
fn a_table_that_is_far_larger_than_its_file_is_refused_before_it_is_allocated() {
    let error = refusal("bomb.h5");
    assert!(error.contains("`w`: the file up to here takes far more memory than it has bytes"), "{error}");
}

#[test]
fn numpy_archives_keep_their_order_and_drop_the_colon() {
    for (file, container) in [("plain.npz", "npz"), ("packed.npz", "npz")] {
        let tensors = load(file);
        assert_eq!((tensors.container, names(&tensors)), (container, vec!["V/embeddings", "w", "b"]));
        assert_is(&tensors, "V/embeddings", table("f32"));
        assert_is(&tensors, "w", table("f64"));
        assert_eq!(tensors.entries["b"].shape, [0_usize; 0]);
        assert_eq!(tensors.entries["b"].values, Values::F32(vec![0.5]));
    }
}

#[test]
fn an_array_alone_has_the_files_name() {
    let tensors = load("single.npy");
    assert_eq!((tensors.container, names(&tensors)), ("npy", vec!["single"]));
    assert_is(&tensors, "single", table("i16"));
}

#[test]
fn a_folder_of_arrays_is_read_in_the_order_of_their_numbers() {
    let tensors = load("folder");
    assert_eq!((tensors.container, names(&tensors)), ("npy folder", vec!["python2", "w9", "w10"]));
    assert_is(&tensors, "python2", table("f32"));
    assert_eq!(
        (tensors.entries["w9"].dtype, &tensors.entries["w9"].values),
        ("bool", &Values::I64(vec![1, 0]))
    );
    assert_is(&tensors, "w10", table("f32"));
}

#[test]
fn arrays_of_objects_are_refused_by_name() {
    let error = refusal("object.npz");
    assert!(error.contains("tensor `bad`") && error.contains("Python objects (a pickle)"), "{error}");
}
