//! The readers of TensorFlow and ONNX files over real ones, damaged ones and hostile ones.
//!
//! `fixtures/containers/<name>.json` holds every tensor by the account of the framework that wrote `<name>`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use nfm::{
    container::read,
    tensors::{Attribute, Fact, Graph, GraphValue, Node, Tensor, Tensors, Values},
};
use serde::Deserialize;
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/containers").join(name)
}

fn load(path: impl AsRef<Path>) -> Tensors {
    read(&fixture("").join(path)).unwrap_or_else(|e| panic!("{e}"))
}

fn refusal(path: &Path) -> String {
    read(path).err().unwrap_or_else(|| panic!("{} must be refused", path.display())).to_string()
}

/// A copy of a fixture that may be damaged.
fn copy(name: &str) -> TempDir {
    fn copy_into(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("a folder");
        for file in fs::read_dir(from).expect("a fixture") {
            let (path, name) = file.map(|file| (file.path(), file.file_name())).expect("an entry");
            match path.is_dir() {
                true => copy_into(&path, &to.join(name)),
                false => drop(fs::copy(&path, to.join(name)).expect("a copy")),
            }
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    copy_into(&fixture(name), folder.path());
    folder
}

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|file| file.expect("an entry").path());
    let mut files: Vec<PathBuf> =
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

/// Damages each file of a fixture in every way and asks for an error, or for a model, of each.
fn damage(name: &str, opened: &str) {
    let folder = copy(name);
    for path in files(folder.path()) {
        let whole = fs::read(&path).expect("a file");
        let step = whole.len() / 40 + 1;
        for at in (0..whole.len()).step_by(step) {
            fs::write(&path, &whole[..at]).expect("a file");
            let _ = read(&folder.path().join(opened));
            for flip in [1, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] ^= flip;
                fs::write(&path, &changed).expect("a file");
                let _ = read(&folder.path().join(opened));
            }
        }
        fs::write(&path, &whole).expect("a file");
    }
    let _ = read(&folder.path().join(opened)).unwrap_or_else(|e| panic!("{e}"));
}

/// A tensor as the framework gives it.
#[derive(Debug, Deserialize)]
struct Expected {
    shape: Vec<usize>,
    dtype: String,
    values: Vec<f64>,
}

/// The values as `f32`, which all fixtures' values are exactly: decimal text loses a bit of an `f64` sometimes.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "rounds what text has added only"
)]
fn as_f32(values: &Values) -> Vec<f32> {
    match values {
        Values::F32(v) => v.clone(),
        Values::F64(v) => v.iter().map(|v| *v as f32).collect(),
        Values::I64(v) => v.iter().map(|v| *v as f32).collect(),
    }
}

fn matches(tensor: &Tensor, expected: &Expected) -> bool {
    let is_alike = tensor.shape == expected.shape && tensor.dtype == expected.dtype;
    is_alike && as_f32(&tensor.values) == as_f32(&Values::F64(expected.values.clone()))
}

/// All tensors of `<name>.json`, each as there, and no other.
fn assert_expected(tensors: &Tensors, name: &str) {
    let json = fs::read(fixture(&format!("{name}.json"))).unwrap_or_else(|e| panic!("{name}.json: {e}"));
    let expected: BTreeMap<String, Expected> =
        serde_json::from_slice(&json).unwrap_or_else(|e| panic!("{e}"));
    let found: Vec<&String> = tensors.entries.keys().collect();
    assert_eq!(expected.len(), found.len(), "{name}: {found:?}");
    for (key, expected) in &expected {
        let tensor = tensors.entries.get(key).unwrap_or_else(|| panic!("{name}: no {key} in {found:?}"));
        assert!(matches(tensor, expected), "{name}: {key} is {} {:?}", tensor.dtype, tensor.shape);
    }
}

#[test]
fn a_name_based_checkpoint_gives_its_variables_however_it_is_named() {
    let names = [
        "",
        "/checkpoint",
        "/model.ckpt-1",
        "/model.ckpt-1.index",
        "/model.ckpt-1.data-00000-of-00001",
        "/model.ckpt-1.meta",
    ];
    for name in names {
        let tensors = load(format!("tf1-name-based{name}"));
        assert_expected(&tensors, "tf1-name-based");
        assert_eq!(tensors.container, "TensorFlow checkpoint");
        assert_eq!(tensors.facts["global_step"], Fact::Int(1));
        assert_eq!(
            tensors.facts["skipped.feature_bias/Adagrad"],
            Fact::Text("optimizer slot of `feature_bias`".into())
        );
    }
}

#[test]
fn partitioned_variables_are_put_together_over_all_data_files() {
    let tensors = load("tf1-partitioned");
    assert_expected(&tensors, "tf1-partitioned");
    assert!(tensors.facts.contains_key("skipped.emb/Adam_1"), "{:?}", tensors.facts);
}

#[test]
fn every_element_type_of_a_checkpoint_is_read_and_strings_are_passed_over() {
    assert_expected(&load("tf-dtypes"), "tf-dtypes");
}

#[test]
fn an_object_based_checkpoint_gives_the_names_of_its_variables() {
    let tensors = load("tf2-object-based");
    assert_expected(&tensors, "tf2-object-based");
    assert!(tensors.facts.keys().any(|name| name.starts_with("skipped.")), "{:?}", tensors.facts);
    assert_expected(&load("tf2-duplicate-names"), "tf2-duplicate-names");
}

/// What a dialect asks of each layer of a Keras configuration.
fn layers(config: &serde_json::Value) -> Vec<String> {
    let layers = config["config"]["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 8);
    let keys = ["name", "batch_input_shape", "input_dim", "output_dim", "units", "activation", "epsilon"];
    let row = |layer: &serde_json::Value| {
        let facts = keys.map(|key| format!("{key} {}", layer["config"][key]));
        format!("{} {} {}", layer["class_name"], layer["inbound_nodes"], facts.join(" "))
    };
    layers.iter().map(row).collect()
}

#[test]
fn a_saved_model_gives_variables_graph_and_configuration() {
    for path in ["tf-saved-model", "tf-saved-model/saved_model.pb"] {
        let tensors = load(path);
        assert_expected(&tensors, "tf-saved-model");
        assert_eq!(tensors.container, "TensorFlow SavedModel");
        let config = fs::read(fixture("tf-saved-model.config.json")).expect("a configuration");
        let config: serde_json::Value = serde_json::from_slice(&config).expect("JSON");
        let Fact::Json(found) = &tensors.facts["model_config"] else { panic!("no JSON") };
        assert_eq!(layers(found), layers(&config));
        assert!(tensors.graph.is_some());
    }
}

/// The one node of this operation.
fn node<'a>(graph: &'a Graph, op: &str) -> &'a Node {
    let found: Vec<&Node> = graph.nodes.iter().filter(|node| node.op == op).collect();
    let [node] = found.as_slice() else { panic!("{} nodes of {op}", found.len()) };
    node
}

#[test]
fn the_graph_of_a_tensorflow_model_names_its_values_and_attributes() {
    for (path, is_saved) in [("tf1-name-based", false), ("tf1-saved-model", true)] {
        let tensors = load(path);
        assert_expected(&tensors, path);
        let graph = tensors.graph.expect("a graph");
        assert!(graph.producer.starts_with("TensorFlow 2."), "{}", graph.producer);
        let input = GraphValue { name: "train_features_fm:0".into(), shape: vec![None, None], dtype: "i32" };
        assert_eq!(graph.inputs, [input]);
        assert_eq!(graph.outputs, if is_saved { vec!["out:0"] } else { vec![] });
        let norm = node(&graph, "FusedBatchNormV3");
        let Attribute::Float(epsilon) = norm.attributes["epsilon"] else { panic!("{norm:?}") };
        assert!((epsilon - 1e-3).abs() < 1e-9, "{epsilon}");
        assert_eq!(norm.attributes["is_training"], Attribute::Int(0));
        // Scale, offset, mean and variance come through a read of each variable.
        for (input, name) in
            norm.inputs.iter().skip(1).zip(["gamma", "beta", "moving_mean", "moving_variance"])
        {
            let read = graph.nodes.iter().find(|node| node.outputs.contains(input)).expect("a node");
            assert!(
                read.inputs.iter().chain([&read.name]).any(|v| v.contains(&format!("bn_fm/{name}"))),
                "{read:?}"
            );
        }
        let half = graph.nodes.iter().find(|node| node.name == "mul/x").expect("the factor of z");
        let Attribute::Tensor(half) = &half.attributes["value"] else { panic!("{half:?}") };
        assert_eq!((half.shape.as_slice(), &half.values), ([].as_slice(), &Values::F32(vec![0.5])));
    }
}

#[test]
fn a_damaged_tensorflow_file_is_an_error_or_a_model() {
    for name in ["tf1-name-based", "tf1-partitioned", "tf-dtypes", "tf2-object-based", "tf-saved-model"] {
        damage(name, "");
    }
}

#[test]
fn a_changed_or_cut_data_file_is_refused_by_tensor() {
    let folder = copy("tf1-name-based");
    let data = folder.path().join("model.ckpt-1.data-00000-of-00001");
    let whole = fs::read(&data).expect("data");
    // The first tensor of the file, in order of name.
    let mut changed = whole.clone();
    changed[3] ^= 4;
    fs::write(&data, &changed).expect("data");
    let message = refusal(folder.path());
    assert!(message.contains("tensor `Variable`: its checksum differs"), "{message}");
    fs::write(&data, &whole[..whole.len() - 200]).expect("data");
    let message = refusal(folder.path());
    assert!(message.contains("tensor `") && message.contains("cut"), "{message}");
    fs::remove_file(&data).expect("data");
    let message = refusal(folder.path());
    assert!(message.contains("model.ckpt-1.data-00000-of-00001 beside it"), "{message}");
}

#[test]
fn a_folder_of_several_checkpoints_asks_which_one() {
    let folder = copy("tf1-name-based");
    for file in files(&fixture("tf-dtypes")) {
        fs::copy(&file, folder.path().join(file.file_name().expect("a name"))).expect("a copy");
    }
    assert_eq!(read(folder.path()).expect("the latest").facts["global_step"], Fact::Int(1));
    fs::remove_file(folder.path().join("checkpoint")).expect("a file");
    let message = refusal(folder.path());
    assert!(message.contains("all.index") && message.contains("model.ckpt-1.index; name one"), "{message}");
    let message = refusal(tempfile::tempdir().expect("a folder").path());
    assert!(message.contains("found a folder without one"), "{message}");
}

#[test]
fn an_onnx_model_gives_its_weights_and_its_graph() {
    let ops = [
        "Gather",
        "ReduceSum",
        "Mul",
        "Mul",
        "ReduceSum",
        "Sub",
        "Mul",
        "BatchNormalization",
        "Gemm",
        "Relu",
        "Gemm",
        "Gather",
        "ReduceSum",
        "Add",
        "Add",
        "Sigmoid",
    ];
    for name in ["onnx-torchscript", "onnx-dynamo", "onnx-external"] {
        let tensors = load(format!("{name}/model.onnx"));
        assert_expected(&tensors, name);
        assert_eq!(tensors.container, "ONNX");
        assert_eq!(tensors.facts["opset"], Fact::Int(18));
        let graph = tensors.graph.expect("a graph");
        assert!(graph.producer.starts_with("pytorch 2."), "{}", graph.producer);
        assert_eq!(
            graph.inputs,
            [GraphValue { name: "ids".into(), shape: vec![None, Some(2)], dtype: "i64" }]
        );
        assert_eq!(graph.outputs, ["score"]);
        let found: Vec<&str> =
            graph.nodes.iter().map(|node| node.op.as_str()).filter(|op| *op != "Identity").collect();
        // The older exporter transposes the projection and multiplies.
        let found: Vec<&str> = found.iter().map(|op| if *op == "MatMul" { "Gemm" } else { op }).collect();
        assert_eq!(found, ops, "{name}");
        let Attribute::Float(epsilon) = node(&graph, "BatchNormalization").attributes["epsilon"] else {
            panic!("{name}")
        };
        assert!((epsilon - 1e-3).abs() < 1e-9, "{epsilon}");
        // Every value that a node takes comes from somewhere.
        let mut known: Vec<&str> = tensors.entries.keys().map(String::as_str).chain(["ids"]).collect();
        for node in &graph.nodes {
            assert!(node.inputs.iter().all(|input| known.contains(&input.as_str())), "{name}: {node:?}");
            known.extend(node.outputs.iter().map(String::as_str));
        }
    }
}

#[test]
fn every_element_type_and_attribute_of_onnx_is_read() {
    let tensors = load("onnx-dtypes/model.onnx");
    assert_expected(&tensors, "onnx-dtypes");
    assert_eq!(tensors.facts["opset"], Fact::Int(17));
    assert_eq!(tensors.facts["opset.com.example"], Fact::Int(2));
    assert_eq!(tensors.facts["metadata.task"], Fact::Text("regression".into()));
    let graph = tensors.graph.expect("a graph");
    assert_eq!(graph.producer, "make 1.2");
    assert_eq!(graph.inputs, [GraphValue { name: "x".into(), shape: vec![None, Some(3)], dtype: "i64" }]);
    let node = node(&graph, "com.example::Custom");
    assert_eq!(
        (node.name.as_str(), node.inputs.as_slice()),
        ("odd", ["x".into(), String::new(), "listed_FLOAT".into()].as_slice())
    );
    let attributes = [
        ("int", Attribute::Int(-3)),
        ("float", Attribute::Float(0.5)),
        ("text", Attribute::Text("abc".into())),
        ("ints", Attribute::Ints(vec![1, -2])),
        ("floats", Attribute::Floats(vec![0.25, 4.0])),
        ("texts", Attribute::Texts(vec!["a".into(), "b".into()])),
        ("zero", Attribute::Int(0)),
    ];
    for (name, value) in attributes {
        assert_eq!(node.attributes[name], value, "{name}");
    }
    let Attribute::Tensor(tensor) = &node.attributes["tensor"] else { panic!("{node:?}") };
    assert_eq!(tensor.values, Values::F32(vec![7.5]));
}

#[test]
fn external_weights_of_onnx_must_lie_beside_the_model() {
    let folder = copy("onnx-external");
    let model = folder.path().join("model.onnx");
    let whole = fs::read(&model).expect("a model");
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).expect("a folder");
    fs::rename(folder.path().join("weights"), outside.join("weights")).expect("a move");
    assert!(refusal(&model).contains("copy that file beside the model"), "{}", refusal(&model));
    // A path of the same length that climbs, and one that starts at the root.
    for hostile in [b"a/../../el.data!!!", b"/etc/passwd-------"] {
        let hostile = &hostile[.."weights/model.data".len()];
        let changed: Vec<u8> = replace(&whole, b"weights/model.data", hostile);
        fs::write(&model, changed).expect("a model");
        assert!(refusal(&model).contains("beside the model, found the path"), "{}", refusal(&model));
    }
    #[cfg(unix)]
    {
        let secret = tempfile::tempdir().expect("a folder");
        fs::write(secret.path().join("model.data"), [0; 4096]).expect("a file");
        std::os::unix::fs::symlink(secret.path(), folder.path().join("weights")).expect("a link");
        fs::write(&model, &whole).expect("a model");
        assert!(refusal(&model).contains("beside the model, found the path"), "{}", refusal(&model));
    }
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
    bytes
}

#[test]
fn a_damaged_onnx_file_is_an_error_or_a_model() {
    for name in ["onnx-torchscript", "onnx-external", "onnx-dtypes"] {
        damage(name, "model.onnx");
    }
}
