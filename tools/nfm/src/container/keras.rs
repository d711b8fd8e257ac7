//! Keras: every HDF5 layout of its two lines, `.keras` archives, and HDF5 of anyone else.
//!
//! | file | where the weights are | tensor names |
//! |---|---|---|
//! | Keras 2 `.h5`, weights | `<layer>/<layer>/kernel:0`, as `layer_names` and `weight_names` list them | `<layer>/kernel` |
//! | Keras 2 or 3 `.h5`, model | the same below `model_weights`; Keras 3 without the `:0` | `<layer>/kernel` |
//! | Keras 3 `.weights.h5`, `.keras` | `layers/embedding_1/vars/0`, the layer's name in an attribute of `vars` | `<layer>/0` |
//! | `tf_keras` `.keras` | the same without the attribute: the n-th layer of its class in `config.json` | `<layer>/0` |
//! | `tf_keras` `.weights.h5` | the same without any name | `layers/embedding_1/0` |
//! | any other HDF5 | anywhere | its path |
//!
//! A layer inside of a layer is `<outer>/<inner>/…`. Names that two tensors would share stay paths. Tensors
//! come in the model's order of layers where the file tells it, in the order of their paths otherwise.
//! Optimizer slots, metrics and the states of random generators are passed over.
//!
//! Facts: `model_config` and `training_config` as JSON, `layer_names` as a JSON list, `<layer>.__class__`,
//! and whatever else the root says in one text or number, as `keras_version`.

use std::{
    collections::HashMap,
    io::{self, Read},
    sync::Arc,
};

use hdf5_reader::{BytesStorage, Storage};
use indexmap::IndexMap;
use serde_json::Value;
use zip::CompressionMethod;

use super::{
    Format, Probe,
    hdf5::{Hdf5, MAGIC, Window, join},
    npy::natural,
};
use crate::{
    error::Result,
    tensors::{Fact, Tensors},
};

/// One HDF5 file.
pub(super) const FORMAT: Format =
    Format { name: "HDF5", matches: |probe| probe.head.starts_with(MAGIC), read };
/// The zip archive of Keras 3.
pub(super) const ARCHIVE: Format = Format { name: "Keras archive", matches: is_archive, read: read_archive };

const WEIGHTS: &str = "model.weights.h5";
const CONFIG: &str = "config.json";
const METADATA: &str = "metadata.json";

/// What is no part of a model: groups by the first part of their path, and groups of that name anywhere.
const SKIPPED_ROOTS: [&str; 3] = ["optimizer", "optimizer_weights", "metrics"];
const SKIPPED: [&str; 2] = ["seed_generator", "_seed_generator"];

fn read(probe: &Probe<'_>) -> Result<Tensors> {
    let storage = Window::new(probe.open()?.into_inner(), 0, probe.len);
    let hdf5 = Hdf5::parse(&probe.file, Arc::new(storage), probe.limit())?;
    let facts = hdf5.facts()?.into_iter().map(|(name, fact)| match fact {
        Fact::Text(text) if name.ends_with("_config") => {
            let json = serde_json::from_str(&text).map(Fact::Json);
            (name, json.unwrap_or(Fact::Text(text)))
        }
        fact => (name, fact),
    });
    load(&hdf5, FORMAT.name, facts.collect())
}

fn is_archive(probe: &Probe<'_>) -> bool {
    [CONFIG, WEIGHTS].iter().all(|name| probe.zip_entries.iter().any(|entry| entry == name))
}

fn read_archive(probe: &Probe<'_>) -> Result<Tensors> {
    let mut facts = IndexMap::new();
    if probe.zip_entries.iter().any(|entry| entry == METADATA)
        && let Value::Object(metadata) = json(probe, METADATA)?
    {
        let texts =
            metadata.into_iter().filter_map(|(name, value)| Some((name, Fact::Text(value.as_str()?.into()))));
        facts.extend(texts);
    }
    facts.insert("model_config".to_owned(), Fact::Json(json(probe, CONFIG)?));
    let hdf5 = Hdf5::parse(&probe.file, weights(probe)?, probe.limit())?;
    load(&hdf5, ARCHIVE.name, facts)
}

fn json(probe: &Probe<'_>, name: &str) -> Result<Value> {
    let mut text = Vec::new();
    let mut zip = probe.zip()?;
    let mut entry = probe.zip_entry(&mut zip, name, probe.limit())?;
    let damaged = |problem: String| probe.refuse(name, format!("{problem}; the file is cut or damaged"));
    entry.by_ref().take(probe.limit()).read_to_end(&mut text).map_err(|error| damaged(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))
}

/// The weights of an archive: in place as Keras stores them, unpacked to memory where someone packed them.
fn weights(probe: &Probe<'_>) -> Result<Arc<dyn Storage>> {
    let mut zip = probe.zip()?;
    let mut entry = probe.zip_entry(&mut zip, WEIGHTS, probe.limit())?;
    let damaged = |error: io::Error| probe.refuse(WEIGHTS, format!("{error}; the file is cut or damaged"));
    if entry.compression() != CompressionMethod::Stored {
        let mut bytes = Vec::new();
        entry.by_ref().take(probe.limit()).read_to_end(&mut bytes).map_err(damaged)?;
        return Ok(Arc::new(BytesStorage::new(bytes)));
    }
    // To the end, where the archive compares its checksum.
    let len = io::copy(&mut entry, &mut io::sink()).map_err(damaged)?;
    let Some(start) = entry.data_start() else {
        return Err(probe.refuse(WEIGHTS, "expected its place in the archive; the file is damaged"));
    };
    Ok(Arc::new(Window::new(probe.open()?.into_inner(), start, len)))
}

/// Reads the tensors of a parsed file, named as its layout asks for.
fn load(hdf5: &Hdf5, container: &'static str, mut facts: IndexMap<String, Fact>) -> Result<Tensors> {
    let layers = match facts.get("model_config") {
        Some(Fact::Json(config)) => layers(config),
        _ => Vec::new(),
    };
    let (layer_names, named) = if let Some(layer_names) = list(hdf5, "", "layer_names")? {
        listed(hdf5, "", layer_names)?
    } else if let Some(layer_names) = list(hdf5, "model_weights", "layer_names")? {
        listed(hdf5, "model_weights", layer_names)?
    } else {
        (layers.iter().map(|layer| layer.name.clone()).collect(), placed(hdf5, &layers)?)
    };
    if !layer_names.is_empty() {
        let names = layer_names.into_iter().map(Value::String).collect();
        facts.insert("layer_names".into(), Fact::Json(Value::Array(names)));
    }
    for Layer { name, class, .. } in layers {
        facts.insert(format!("{name}.__class__"), Fact::Text(class));
    }
    let mut tensors = Tensors { file: hdf5.file.clone(), container, facts, ..Tensors::default() };
    for (path, name) in unambiguous(named) {
        if let Some(tensor) = hdf5.tensor(&path, &name)? {
            tensors.entries.insert(name, tensor);
        }
    }
    match tensors.entries.is_empty() {
        true => Err(hdf5.refuse("", "expected datasets of numbers, found none")),
        false => Ok(tensors),
    }
}

/// Paths of datasets with the names of their tensors, in the tensors' order.
type Named = Vec<(String, String)>;

/// Gives each path a name of its own: the path itself where names are equal.
fn unambiguous(named: Named) -> Named {
    let mut uses: HashMap<String, usize> = HashMap::new();
    for (_, name) in &named {
        *uses.entry(name.clone()).or_default() += 1;
    }
    let is_own = |name: &str| uses.get(name) == Some(&1);
    named
        .into_iter()
        .map(|(path, name)| if is_own(&name) { (path, name) } else { (path.clone(), path) })
        .collect()
}

/// The layers, and the weights of each, as Keras 2 lists them.
fn listed(hdf5: &Hdf5, base: &str, layers: Vec<String>) -> Result<(Vec<String>, Named)> {
    let mut named = Named::new();
    // Weights that the model owns itself; older versions have none.
    for layer in layers.iter().map(String::as_str).chain(["top_level_model_weights"]) {
        let group = join(base, layer);
        for weight in list(hdf5, &group, "weight_names")?.unwrap_or_default() {
            let name = weight_name(layer, &weight);
            named.push((join(&group, weight.trim_matches('/')), name));
        }
    }
    Ok((layers, named))
}

/// `<layer>/<weight>`: without what stands before the layer, and without `:0`.
fn weight_name(layer: &str, weight: &str) -> String {
    let weight = weight.strip_suffix(":0").unwrap_or(weight);
    let (inner, within) = (format!("{layer}/"), format!("/{layer}/"));
    if weight.starts_with(&inner) || layer == "top_level_model_weights" {
        return weight.to_owned();
    }
    match weight.split_once(&within) {
        Some((_, own)) => format!("{inner}{own}"),
        None => format!("{inner}{weight}"),
    }
}

/// A list of names; Keras cuts one that is too long for an attribute into `<name>0`, `<name>1`, ….
fn list(hdf5: &Hdf5, group: &str, name: &str) -> Result<Option<Vec<String>>> {
    if let Some(whole) = hdf5.texts(group, name)? {
        return Ok(Some(whole));
    }
    let mut parts = Vec::new();
    while let Some(part) = hdf5.texts(group, &format!("{name}{}", parts.len()))? {
        parts.push(part);
    }
    Ok((!parts.is_empty()).then(|| parts.concat()))
}

/// The names of datasets that only their places tell: Keras 3's `vars/<n>`, and those of anyone else.
fn placed(hdf5: &Hdf5, layers: &[Layer]) -> Result<Named> {
    let model = hdf5.datasets().filter(|path| !is_skipped(path));
    let mut paths: Vec<&str> = model.collect();
    if !paths.iter().any(|path| variable(path).is_some()) {
        return Ok(paths.into_iter().map(|path| (path.to_owned(), plain_name(path))).collect());
    }
    let names = layer_names(hdf5, layers)?;
    let place = |path: &str| layers.iter().position(|layer| path.starts_with(&format!("{}/", layer.path)));
    paths.sort_by_cached_key(|path| (place(path).unwrap_or(usize::MAX), natural(path)));
    let named = paths.into_iter().map(|path| {
        let name = match variable(path) {
            Some((owner, n)) => join(&owner_name(owner, &names), n),
            None => plain_name(path),
        };
        (path.to_owned(), name)
    });
    Ok(named.collect())
}

fn plain_name(path: &str) -> String {
    path.strip_suffix(":0").unwrap_or(path).to_owned()
}

fn is_skipped(path: &str) -> bool {
    let is_root = path.split('/').next().is_some_and(|root| SKIPPED_ROOTS.contains(&root));
    is_root || path.split('/').any(|part| SKIPPED.contains(&part))
}

/// The owner's path and the number of variable `<owner>/vars/<n>`.
fn variable(path: &str) -> Option<(&str, &str)> {
    let (group, n) = path.rsplit_once('/')?;
    n.parse::<u64>().ok()?;
    Some((owner(group)?, n))
}

/// The owner's path of the group `<owner>/vars`.
fn owner(group: &str) -> Option<&str> {
    if group == "vars" { Some("") } else { group.strip_suffix("/vars") }
}

/// Layers' names by path: those that the file gives, and of `config.json` where it gives none.
fn layer_names(hdf5: &Hdf5, layers: &[Layer]) -> Result<HashMap<String, String>> {
    let mut names: HashMap<String, String> =
        layers.iter().map(|layer| (layer.path.clone(), layer.own.clone())).collect();
    for group in hdf5.groups().filter(|group| !is_skipped(group)) {
        let Some(owner) = owner(group) else { continue };
        if let Some([name]) = hdf5.texts(group, "name")?.as_deref() {
            names.insert(owner.to_owned(), name.clone());
        }
    }
    Ok(names)
}

/// The name of the layer at `owner`: those of the layers around it and its own.
fn owner_name(owner: &str, names: &HashMap<String, String>) -> String {
    if owner.is_empty() {
        return names.get("").cloned().unwrap_or_default();
    }
    let ends = owner.match_indices('/').map(|(at, _)| at).chain([owner.len()]);
    let (mut name, mut rest) = (String::new(), owner);
    for end in ends {
        let (outer, inner) = owner.split_at(end);
        if let Some(layer) = names.get(outer) {
            name = join(&name, layer);
            rest = inner.strip_prefix('/').unwrap_or(inner);
        }
    }
    if rest.is_empty() { name } else { join(&name, rest) }
}

/// A layer of a `model_config`.
struct Layer {
    /// The layer's path in a file of Keras 3.
    path: String,
    /// The layer's own name.
    own: String,
    /// The same behind the names of the models around it.
    name: String,
    class: String,
}

/// The layers of a `model_config`, those of models inside of it behind these.
fn layers(config: &Value) -> Vec<Layer> {
    let mut found = Vec::new();
    add_layers(config, "", "", &mut found);
    found
}

/// The depth is bounded, as that of JSON is.
fn add_layers(config: &Value, path: &str, name: &str, found: &mut Vec<Layer>) {
    let Some(config) = config.get("config") else { return };
    // The oldest `Sequential` has the list alone.
    let Some(list) = config.get("layers").unwrap_or(config).as_array() else { return };
    let mut numbers: HashMap<String, usize> = HashMap::new();
    for layer in list {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let Some(class) = text(layer.get("class_name")) else { continue };
        let own = layer.get("config").and_then(|config| config.get("name"));
        let own = text(own).or(text(layer.get("name"))).unwrap_or_default();
        // A class of the user's has its package before it: `Custom>DNN`.
        let class = class.rsplit('>').next().unwrap_or(&class).to_owned();
        let mut place = snake_case(&class);
        let number = numbers.entry(place.clone()).or_default();
        if *number > 0 {
            place = format!("{place}_{number}");
        }
        *number += 1;
        let path = join(path, &format!("layers/{place}"));
        let name = join(name, &own);
        found.push(Layer { path: path.clone(), own, name: name.clone(), class });
        add_layers(layer, &path, &name, found);
    }
}

/// The name of a class as Keras 3 writes it in paths: `re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)`, then
/// `re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()`.
fn snake_case(class: &str) -> String {
    let class: Vec<char> = class.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut once = String::new();
    let mut rest = class.as_slice();
    while let [first, after @ ..] = rest {
        once.push(*first);
        rest = after;
        if let [upper, lower, ..] = after
            && upper.is_ascii_uppercase()
            && lower.is_ascii_lowercase()
        {
            let end =
                after.iter().skip(1).position(|c| !c.is_ascii_lowercase()).map_or(after.len(), |at| at + 1);
            let (word, after) = after.split_at(end);
            once.push('_');
            once.extend(word);
            rest = after;
        }
    }
    let mut snake = String::new();
    let mut before = ' ';
    for c in once.chars() {
        if before.is_ascii_lowercase() && c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c);
        before = c;
    }
    let snake = snake.to_lowercase();
    if snake.starts_with('_') { format!("private{snake}") } else { snake }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_snake_case_as_keras_makes_it() {
        for (class, snake) in [
            ("DNN", "dnn"),
            ("InputLayer", "input_layer"),
            ("PReLU", "p_re_lu"),
            ("BiInteractionPooling", "bi_interaction_pooling"),
            ("Conv2DTranspose", "conv2d_transpose"),
            ("TFOpLambda", "tf_op_lambda"),
            ("_Own", "private__own"),
            ("LSTMCell2", "lstm_cell2"),
            ("SpatialDropout1D", "spatial_dropout1d"),
        ] {
            assert_eq!(snake_case(class), snake);
        }
    }

    #[test]
    fn a_weight_is_named_after_its_layer() {
        for (weight, name) in [
            ("mlp/kernel:0", "mlp/kernel"),
            ("nfm/mlp/dense/kernel:0", "mlp/dense/kernel"),
            ("kernel", "mlp/kernel"),
            ("mlp_1/kernel:0", "mlp/mlp_1/kernel"),
        ] {
            assert_eq!(weight_name("mlp", weight), name);
        }
        assert_eq!(weight_name("top_level_model_weights", "GB:0"), "GB");
    }

    #[test]
    fn layers_of_a_model_in_a_model_have_both_names_and_their_places() {
        let config = r#"{"config": {"layers": [
            {"class_name": "Custom>FM", "config": {"name": "a"}},
            {"class_name": "FM", "config": {"name": "b"}},
            {"class_name": "Functional", "config": {"name": "deep", "layers": [
                {"class_name": "FM", "config": {"name": "c"}}]}},
            {"class_name": "Sequential", "config": [{"class_name": "FM", "config": {"name": "d"}}]}]}}"#;
        let layers = layers(&serde_json::from_str(config).expect("JSON"));
        let found: Vec<(&str, &str)> = layers.iter().map(|l| (l.path.as_str(), l.name.as_str())).collect();
        let expected = [
            ("layers/fm", "a"),
            ("layers/fm_1", "b"),
            ("layers/functional", "deep"),
            ("layers/functional/layers/fm", "deep/c"),
            ("layers/sequential", ""),
            ("layers/sequential/layers/fm", "d"),
        ];
        assert_eq!(found, expected);
        let names: HashMap<String, String> = layers.into_iter().map(|l| (l.path, l.own)).collect();
        assert_eq!(owner_name("layers/functional/layers/fm", &names), "deep/c");
        assert_eq!(owner_name("layers/fm_1/inner", &names), "b/inner");
        assert_eq!(owner_name("other/fm", &names), "other/fm");
    }

    #[test]
    fn equal_names_give_way_to_paths() {
        let pair = |path: &str, name: &str| (path.to_owned(), name.to_owned());
        let named = vec![pair("x/a", "a"), pair("y/a", "a"), pair("z/b", "b")];
        assert_eq!(unambiguous(named), [pair("x/a", "x/a"), pair("y/a", "y/a"), pair("z/b", "b")]);
    }
}
