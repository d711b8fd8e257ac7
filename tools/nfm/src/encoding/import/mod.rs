//! Encoders of training pipelines: files in, [`Encoding`]s out. The content of a file decides what it is, and nothing in it is executed.
//!
//! | file | encoders |
//! |---|---|
//! | pickle, joblib (plain, zlib, gzip), torch zip | of scikit-learn, alone, in lists, dicts, a `Pipeline` or a `ColumnTransformer`; FuxiCTR's `FeatureProcessor`; RecBole's `Dataset`; maps as below |
//! | JSON | FuxiCTR's `feature_vocab.json` and `feature_map.json`, rec_pangu's `enc_dict`, RecBole's token tables, maps of keys to ids, lists of keys |
//! | CSV | DeepCTR's `vocabulary_path`: `id,key` without a header; `key` and `id` under a header |

mod fuxi;
mod keys;
mod maps;
mod plain;
mod sklearn;
mod tables;

use std::{fs, path::Path};

use crate::{
    container::{object::Id, objects},
    encoding::spec::Encoding,
    error::{Error, Result},
};
use plain::{Plain, Python};

/// A value, or the problem, to which the caller adds file and place.
type Checked<T> = core::result::Result<T, String>;

/// The encoder of one column of the data.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The column's name, where the file knows it.
    pub field: Option<String>,
    /// The encoder.
    pub encoding: Encoding,
    /// How many ids it gives, from 0 on; `None` of numbers.
    pub rows: Option<u32>,
    /// What it was: one line.
    pub note: String,
}

/// The most bytes of a text that are read.
const MAX_TEXT: u64 = 256 << 20;

/// Reads the encoders in the file at `path`.
///
/// # Errors
///
/// When the file cannot be read, is damaged, holds no encoder, or one that is not supported, which is named.
pub fn read(path: &Path) -> Result<Vec<Imported>> {
    let file = path.display().to_string();
    let len = fs::metadata(path).map_err(|source| Error::io(path, source))?.len();
    if len == 0 {
        return Err(Error::refused(&file, "", "expected an encoder, found an empty file"));
    }
    if let Some(tree) = objects::read(path)? {
        let python = Python::new(&file, &tree);
        let root = python.plain(tree.root)?;
        return Reader { file: &file, python: Some(&python) }.top(root);
    }
    if len > MAX_TEXT {
        return Err(Error::refused(
            &file,
            "",
            format!("expected at most {MAX_TEXT} bytes of text, found {len}"),
        ));
    }
    let bytes = fs::read(path).map_err(|source| Error::io(path, source))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let problem =
            "expected a pickle, a file of joblib, JSON or CSV, found neither one of these nor UTF-8 text";
        Error::refused(&file, format!("byte {}", error.utf8_error().valid_up_to()), problem)
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if text.trim_start().starts_with(['{', '[']) {
        let json =
            serde_json::from_str(text).map_err(|error| Error::refused(&file, "", error.to_string()))?;
        return of_json(path, Plain::of_json(json));
    }
    Ok(vec![tables::read(&file, text)?])
}

fn of_json(path: &Path, json: Plain) -> Result<Vec<Imported>> {
    let file = path.display().to_string();
    if fuxi::is_feature_map(&json) {
        let vocabularies = path.with_file_name("feature_vocab.json");
        if !vocabularies.is_file() {
            let problem = "FuxiCTR's feature map holds no vocabulary; put feature_vocab.json beside it, or, of FuxiCTR 1, save \
                           {name: tokenizer.vocab} of its feature encoder as JSON";
            return Err(Error::refused(&file, "", problem));
        }
        return read(&vocabularies);
    }
    let mut imported = Reader { file: &file, python: None }.top(json)?;
    fuxi::mark_sequences(path, &mut imported)?;
    Ok(imported)
}

/// One file, in Python's or in JSON's form.
struct Reader<'r, 'a> {
    file: &'r str,
    python: Option<&'r Python<'a>>,
}

impl Reader<'_, '_> {
    fn top(&self, value: Plain) -> Result<Vec<Imported>> {
        let imported = match value {
            // rec_pangu saves it beside the model.
            Plain::Map(pairs)
                if plain::get(&pairs, "enc_dict").is_some_and(|value| value.map().is_some()) =>
            {
                let encoders = pairs.into_iter().rev().find(|(key, _)| key.text() == Some("enc_dict"));
                self.fields(
                    encoders.and_then(|(_, value)| value.map().map(<[_]>::to_vec)).unwrap_or_default(),
                )?
            }
            Plain::Map(pairs) if pairs.iter().all(|(_, value)| is_encoder(value)) => self.fields(pairs)?,
            Plain::List(items) if items.iter().any(|item| matches!(item, Plain::Object(_))) => {
                let items = items.into_iter().map(|item| self.one(item, None));
                items.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect()
            }
            value => self.one(value, None)?,
        };
        match imported.is_empty() {
            true => Err(self.refuse("", "expected encoders, found none")),
            false => Ok(imported),
        }
    }

    /// An encoder for each field.
    fn fields(&self, pairs: Vec<(Plain, Plain)>) -> Result<Vec<Imported>> {
        let mut all = Vec::new();
        for (name, value) in pairs {
            let Plain::Text(name) = name else {
                return Err(
                    self.refuse("", format!("expected the names of fields as keys, found {}", name.kind()))
                );
            };
            all.extend(self.one(value, Some(name))?);
        }
        Ok(all)
    }

    /// The encoders of one value: mostly one.
    fn one(&self, value: Plain, name: Option<String>) -> Result<Vec<Imported>> {
        let place = name.as_ref().map(|name| format!("field `{name}`")).unwrap_or_default();
        let encoded = match value {
            Plain::Object(id) => return self.object(id, name),
            Plain::Map(pairs) => maps::map(pairs),
            Plain::List(items) => maps::list(items),
            other => Err(format!(
                "expected an encoder, a map of keys to ids or a list of keys, found {}",
                other.kind()
            )),
        };
        let (encoding, note) = encoded.map_err(|problem| self.refuse(&place, problem))?;
        Ok(vec![Imported { field: name, rows: keys::rows(&encoding), encoding, note }])
    }

    fn object(&self, id: Id, name: Option<String>) -> Result<Vec<Imported>> {
        let Some(python) = self.python else { return Ok(Vec::new()) };
        if sklearn::class_name(python, id).is_some() {
            return sklearn::import(python, id, name);
        }
        if python.attribute(id, "processor_dict").is_some() {
            return fuxi::processor(python, id);
        }
        if python.attribute(id, "field2id_token").is_some() {
            return maps::rec_bole(python, id);
        }
        let place = name.map(|name| format!("field `{name}`")).unwrap_or_default();
        Err(self.refuse(
            &place,
            format!(
                "expected an encoder, found {}, which is not supported; supported are those of scikit-learn, \
                 FuxiCTR, RecBole, rec_pangu, and maps of keys to ids",
                python.kind(id)
            ),
        ))
    }

    fn refuse(&self, place: &str, problem: impl Into<String>) -> Error {
        Error::refused(self.file, place, problem)
    }
}

/// Whether a value in a map is an encoder, so that the map's keys are names of fields.
fn is_encoder(value: &Plain) -> bool {
    matches!(value, Plain::Map(_) | Plain::List(_) | Plain::Object(_))
}
