//! A TensorFlow `SavedModel`: a folder with `saved_model.pb`, the graph, and `variables/`, a checkpoint.
//!
//! Keras 2 adds `keras_metadata.pb`, with the configuration of every layer as JSON.

use std::{
    fs,
    path::{Path, PathBuf},
};

use prost::Message;
use serde_json::{Map, Value};

use super::{
    Format, Probe, tf_bundle, tf_graph,
    tf_messages::{KerasMetadata, MetaGraph, SavedModel},
};
use crate::{
    error::{Error, Result},
    tensors::{Fact, Tensors},
};

pub(super) const FORMAT: Format = Format { name: "TensorFlow SavedModel", matches, read };

/// The only version of the format.
const SCHEMA_VERSION: i64 = 1;

fn matches(probe: &Probe<'_>) -> bool {
    folder(probe).is_some()
}

/// The folder, when the user names it or the `saved_model.pb` in it.
fn folder(probe: &Probe<'_>) -> Option<PathBuf> {
    if probe.is_dir {
        return probe.path.join("saved_model.pb").is_file().then(|| probe.path.to_owned());
    }
    let folder = probe.path.parent()?;
    let is_one = probe.path.file_name()? == "saved_model.pb" && folder.join("variables").is_dir();
    is_one.then(|| folder.to_owned())
}

fn read(probe: &Probe<'_>) -> Result<Tensors> {
    let folder = folder(probe).unwrap_or_default();
    let index = folder.join("variables/variables.index");
    if !index.is_file() {
        let problem = format!("expected {}, found none; copy the whole folder", index.display());
        return Err(probe.refuse("", problem));
    }
    let mut tensors = tf_bundle::read_index(&index, &probe.file, FORMAT.name)?;
    let (meta, len) = meta_graph(&folder.join("saved_model.pb"))?;
    tensors.graph = Some(tf_graph::of_meta_graph(meta, len));
    let metadata = folder.join("keras_metadata.pb");
    if metadata.is_file() {
        let config = model_config(&metadata)?;
        tensors.facts.insert("model_config".into(), Fact::Json(config));
    }
    Ok(tensors)
}

fn decode<M: Message + Default>(path: &Path) -> Result<(M, usize)> {
    let bytes = fs::read(path).map_err(|source| Error::io(path, source))?;
    let message = M::decode(bytes.as_slice()).map_err(|error| damaged(path, error))?;
    Ok((message, bytes.len()))
}

fn damaged(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::refused(&path.display().to_string(), "", format!("{problem}; the file is cut or damaged"))
}

/// The graph that serves, or the first one, and the bytes of the file.
fn meta_graph(path: &Path) -> Result<(MetaGraph, usize)> {
    let (model, len) = decode::<SavedModel>(path)?;
    if model.schema_version != SCHEMA_VERSION {
        let found = model.schema_version;
        return Err(damaged(path, format!("expected schema version {SCHEMA_VERSION}, found {found}")));
    }
    let serves = |graph: &MetaGraph| graph.info.iter().flat_map(|info| &info.tags).any(|tag| tag == "serve");
    let mut graphs = model.meta_graphs;
    let at = graphs.iter().position(serves).unwrap_or(0);
    if at >= graphs.len() {
        return Err(damaged(path, "expected a graph, found none"));
    }
    Ok((graphs.swap_remove(at), len))
}

/// The model's own configuration; when it has none, that of each layer by its path.
fn model_config(path: &Path) -> Result<Value> {
    let (metadata, _) = decode::<KerasMetadata>(path)?;
    let mut layers = Map::new();
    for node in metadata.nodes {
        let mut layer: Value = serde_json::from_str(&node.metadata).map_err(|error| damaged(path, error))?;
        if node.path == "root"
            && let Some(config) = layer.get_mut("model_config").filter(|config| config.is_object())
        {
            return Ok(without_tuples(config.take()));
        }
        layers.insert(node.path, without_tuples(layer));
    }
    Ok(Value::Object(layers))
}

/// The same with plain arrays for tuples, as an `.h5` file has them.
fn without_tuples(value: Value) -> Value {
    match value {
        Value::Object(mut object) if object.get("class_name").is_some_and(|class| class == "__tuple__") => {
            without_tuples(object.remove("items").unwrap_or_default())
        }
        Value::Object(object) => {
            object.into_iter().map(|(key, value)| (key, without_tuples(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_tuples).collect(),
        scalar => scalar,
    }
}
