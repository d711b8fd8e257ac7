//! Container readers: files in, named tensors out.
//!
//! The first bytes of a file decide how it is read, never its name: people save torch files as `.h5`.
//! Every byte is untrusted. A file that is cut, damaged or hostile is an [`Error`] that names the place;
//! nothing in a file is executed, and memory stays within a small multiple of the file's length.
//!
//! A further container is one file with a `FORMAT` and one line in the table of formats here.

mod angel;
mod callables;
mod collect;
mod element;
mod hdf5;
mod keras;
mod npy;
pub(crate) mod object;
pub(crate) mod objects;
mod onnx;
mod paddle;
mod paddle_program;
mod pickle;
mod pickled;
pub(crate) mod rebuild;
mod safetensors;
mod saved_model;
mod sstable;
mod tf_bundle;
mod tf_graph;
mod tf_messages;
mod torch;
mod torch_legacy;
mod wire;

use std::{
    borrow::Cow,
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use indexmap::IndexMap;
use zip::{ZipArchive, read::ZipFile};

use crate::{
    error::{Error, Result},
    tensors::{Fact, Tensors},
};

/// The most bytes of a file beside the checkpoint that are read.
const MAX_SIDECAR: u64 = 16 << 20;

/// What wrappers of a module put before every name: `DataParallel` and `torch.compile`.
const PREFIXES: [&str; 2] = ["module.", "_orig_mod."];

/// A container that can be read.
struct Format {
    /// Its name, as messages and [`Tensors::container`] show it.
    name: &'static str,
    /// Whether the file is one.
    matches: fn(&Probe<'_>) -> bool,
    /// Reads it.
    read: fn(&Probe<'_>) -> Result<Tensors>,
}

/// The formats, each with a magic number of its own.
const FORMATS: &[Format] = &[
    torch::FORMAT,
    torch_legacy::FORMAT,
    pickled::FORMAT,
    safetensors::FORMAT,
    onnx::FORMAT,
    saved_model::FORMAT,
    tf_bundle::FORMAT,
    keras::FORMAT,
    keras::ARCHIVE,
    npy::FORMAT,
    npy::ARCHIVE,
    npy::FOLDER,
    angel::FORMAT,
    paddle::FORMAT,
];

/// A file that is not read yet.
struct Probe<'a> {
    path: &'a Path,
    /// The file, as the user named it.
    file: String,
    /// Whether it is a folder.
    is_dir: bool,
    /// Its length in bytes; 0 for a folder.
    len: u64,
    /// Its first bytes, 512 or all of them; none for a folder.
    head: Vec<u8>,
    /// The entries, when it is a zip archive.
    zip_entries: Vec<String>,
}

/// Reads the checkpoint at `path`, whatever its container.
///
/// # Errors
///
/// When the file cannot be opened, is of no supported container, is damaged, or holds no tensors.
pub fn read(path: &Path) -> Result<Tensors> {
    let file = tf_bundle::file_of(path);
    let probe = Probe::new(&file)?;
    let Some(format) = FORMATS.iter().find(|format| (format.matches)(&probe)) else {
        return Err(probe.unsupported());
    };
    let mut tensors = (format.read)(&probe)?;
    while let Some(prefix) = wrapper_prefix(tensors.entries.keys()) {
        strip_prefix(&mut tensors.entries, prefix);
    }
    let hyper_parameters = hyper_parameters(&file);
    for (fact, name) in [("feature_map", "feature_map.json"), ("hyper_parameters", &hyper_parameters)] {
        if let Some(json) = sidecar(&file.with_file_name(name))? {
            tensors.facts.insert(fact.into(), Fact::Json(json));
        }
    }
    Ok(tensors)
}

/// The name of LibRecommender's file beside its variables: `m_hyper_parameters.json` of `m_tf_variables.npz` or `m_tf.index`.
fn hyper_parameters(checkpoint: &Path) -> String {
    let stem = checkpoint.file_stem().unwrap_or_default().to_string_lossy();
    let name = ["_tf_variables", "_tf"].into_iter().find_map(|end| stem.strip_suffix(end));
    format!("{}_hyper_parameters.json", name.unwrap_or(&stem))
}

/// What a wrapper put before all of these names; of no name, nothing.
fn wrapper_prefix<'n>(names: impl ExactSizeIterator<Item = &'n String> + Clone) -> Option<&'static str> {
    PREFIXES.into_iter().find(|prefix| names.len() > 0 && names.clone().all(|name| name.starts_with(prefix)))
}

/// Takes a prefix from the keys that have it.
fn strip_prefix<T>(map: &mut IndexMap<String, T>, prefix: &str) {
    let strip = |name: String| name.strip_prefix(prefix).map(str::to_owned).unwrap_or(name);
    *map = core::mem::take(map).into_iter().map(|(name, value)| (strip(name), value)).collect();
}

/// The JSON that a trainer (FuxiCTR, LibRecommender) writes beside its checkpoint, where it does.
fn sidecar(path: &Path) -> Result<Option<serde_json::Value>> {
    let Ok(file) = File::open(path) else { return Ok(None) };
    let json = serde_json::from_reader(BufReader::new(file.take(MAX_SIDECAR)));
    json.map(Some).map_err(|error| Error::refused(&path.display().to_string(), "", error.to_string()))
}

impl<'a> Probe<'a> {
    fn new(path: &'a Path) -> Result<Self> {
        let io = |source| Error::io(path, source);
        let name = path.display().to_string();
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if metadata.is_dir() {
            let (head, zip_entries) = (Vec::new(), Vec::new());
            return Ok(Self { path, file: name, is_dir: true, len: 0, head, zip_entries });
        }
        let mut head = Vec::new();
        (&file).take(512).read_to_end(&mut head).map_err(io)?;
        if head.is_empty() {
            return Err(Error::refused(&name, "", "expected a checkpoint, found an empty file"));
        }
        let mut probe =
            Self { path, file: name, is_dir: false, len: metadata.len(), head, zip_entries: Vec::new() };
        if probe.head.starts_with(b"PK") {
            // An entry without a name that is text is none of ours.
            probe.zip_entries = probe.zip()?.file_names().flatten().map(Cow::into_owned).collect();
        }
        Ok(probe)
    }

    fn open(&self) -> Result<BufReader<File>> {
        File::open(self.path).map(BufReader::new).map_err(|source| Error::io(self.path, source))
    }

    fn zip(&self) -> Result<ZipArchive<BufReader<File>>> {
        ZipArchive::new(self.open()?).map_err(|error| {
            self.refuse(
                "",
                format!("expected a zip archive, found a damaged one ({error}); is the file complete?"),
            )
        })
    }

    fn refuse(&self, place: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::refused(&self.file, place, problem)
    }

    /// An entry of the zip archive `zip`, of which the archive says that it has at most `limit` bytes.
    fn zip_entry<'z>(
        &self,
        zip: &'z mut ZipArchive<BufReader<File>>,
        name: &str,
        limit: u64,
    ) -> Result<ZipFile<'z, BufReader<File>>> {
        let entry = zip.by_name(name).map_err(|error| {
            let problem = format!("expected this entry in the archive, found {error}");
            self.refuse(name, format!("{problem}; the file is cut or damaged"))
        })?;
        let len = entry.size();
        if len > limit {
            let problem = format!("expected at most {limit} bytes, found {len}");
            return Err(self.refuse(name, format!("{problem}; the file is hostile or damaged")));
        }
        Ok(entry)
    }

    /// The most bytes that names or values made from this file may take.
    fn limit(&self) -> u64 {
        self.len.saturating_mul(64).saturating_add(1 << 20)
    }

    fn unsupported(&self) -> Error {
        let supported: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
        let (found, remedy) = self.looks_like();
        let supported = supported.join(", ");
        self.refuse(
            "",
            format!("expected one of: {supported}; found {found}, which is not supported{remedy}"),
        )
    }

    /// What the file seems to be, and what to do then.
    fn looks_like(&self) -> (String, &'static str) {
        if self.is_dir {
            return ("a folder without one".into(), "; name the checkpoint in it");
        }
        if self.head.starts_with(b"PK") {
            return self.zip_looks_like();
        }
        let known = KNOWN
            .iter()
            .find(|(at, magic, ..)| self.head.get(*at..).is_some_and(|head| head.starts_with(magic)));
        match known {
            Some((_, _, name, remedy)) => ((*name).to_owned(), remedy),
            None => {
                let bytes: Vec<String> = self.head.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
                (format!("an unknown format (bytes {})", bytes.join(" ")), "")
            }
        }
    }

    fn zip_looks_like(&self) -> (String, &'static str) {
        let remedy = "; save the model's state_dict() with torch.save, or the model with Keras's save";
        ("a zip archive without data.pkl, model.weights.h5 or arrays (.npy)".into(), remedy)
    }
}

/// Formats that are recognized only to be refused by name: offset and bytes of the magic, name, remedy.
const KNOWN: &[(usize, &[u8], &str, &str)] = &[
    (0, b"\x1f\x8b", "a gzip file", "; unpack it first"),
    (0, b"BZh", "a bzip2 file", "; unpack it first"),
    (0, b"\xfd7zXZ", "an xz file", "; unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file", "; unpack it first"),
    (
        257,
        b"ustar",
        "a tar archive (torch before 0.1.10, or a packed one)",
        "; load it and save it anew, or unpack it",
    ),
    (0, b"GGUF", "a GGUF file", ""),
    (
        0,
        b"L119547037146038801333356L",
        "a torch file of pickle protocol 0 or 1",
        "; save it with protocol 2 or later",
    ),
    (0, b"version https://git-lfs", "a Git LFS pointer", "; fetch the file itself with `git lfs pull`"),
    (0, b"<", "an HTML or XML page", "; is it the download's error page?"),
    (
        0,
        b"\x08\x01\x12",
        "a TensorFlow SavedModel or an ONNX model (protobuf)",
        "; keep saved_model.pb in its folder, with variables/",
    ),
    (0, b"\x08", "an ONNX model or another protobuf", ""),
    (0, b"{", "JSON text", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hyper_parameters_stand_beside_either_form_of_the_variables() {
        for name in ["m.v2_tf_variables.npz", "m.v2_tf.index", "m.v2_tf.data-00000-of-00001", "m.v2.npz"] {
            assert_eq!(hyper_parameters(Path::new(name)), "m.v2_hyper_parameters.json", "{name}");
        }
    }

    #[test]
    fn a_damaged_file_beside_the_checkpoint_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m_hyper_parameters.json");
        assert_eq!(sidecar(&path).unwrap(), None);
        std::fs::write(&path, "{").unwrap();
        let message = sidecar(&path).unwrap_err().to_string();
        assert!(message.contains("m_hyper_parameters.json") && message.contains("EOF"), "{message}");
    }
}
