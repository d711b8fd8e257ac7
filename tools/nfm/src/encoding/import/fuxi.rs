//! FuxiCTR's `feature_map.json` beside a vocabulary, and its `feature_processor.pkl`.

use std::{fs, path::Path};

use super::{
    Imported, keys,
    maps::{FUXI_PADDING, FUXI_UNSEEN},
    plain::{Plain, Python, get},
    sklearn,
};
use crate::{
    container::object::Id,
    encoding::spec::{Encoding, Keep, Policy},
    error::{Error, Result},
};

/// What separates the values of a sequence, where nothing else was said.
const SEPARATOR: char = '^';

/// Whether this is a `feature_map.json`, of version 2 or 1.
pub(super) fn is_feature_map(json: &Plain) -> bool {
    json.get("dataset_id").is_some()
        && (json.get("features").is_some() || json.get("feature_specs").is_some())
}

/// Takes from the `feature_map.json` beside a `feature_vocab.json` which fields are sequences.
pub(super) fn mark_sequences(vocabularies: &Path, imported: &mut [Imported]) -> Result<()> {
    let path = vocabularies.with_file_name("feature_map.json");
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    let refuse = |problem: String| Error::refused(&path.display().to_string(), "", problem);
    let map = Plain::of_json(serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?);
    for feature in map.get("features").and_then(Plain::list).unwrap_or_default() {
        let [(Plain::Text(name), about)] = feature.map().unwrap_or_default() else { continue };
        let Some(field) = imported.iter_mut().find(|field| field.field.as_ref() == Some(name)) else {
            continue;
        };
        if let Some(processor) = about.get("category_processor").and_then(Plain::text) {
            return Err(refuse(format!(
                "field `{name}`: `category_processor` {processor:?} is not supported"
            )));
        }
        if about.get("type").and_then(Plain::text) == Some("sequence") {
            (field.encoding.separator, field.encoding.missing) = (SEPARATOR, Policy::Zero);
        }
    }
    Ok(())
}

/// The encoders of a `FeatureProcessor`.
pub(super) fn processor(python: &Python<'_>, id: Id) -> Result<Vec<Imported>> {
    let processors = python.value(id, "processor_dict")?;
    let columns = python.value(id, "feature_cols")?;
    let features = match python.attribute(id, "feature_map") {
        Some(map) => python.value(map, "features")?,
        None => Plain::None,
    };
    let Plain::Map(features) = features else {
        return Err(python.refuse("feature_map", format!("expected features, found {}", features.kind())));
    };
    let mut all = Vec::new();
    for (name, about) in features {
        let Plain::Text(name) = name else { continue };
        let column = columns.list().unwrap_or_default().iter().find(|column| is_of(column, &name));
        let feature = Feature { python, processors: &processors, column, name: &name };
        match about.get("type").and_then(Plain::text) {
            Some("numeric") => all.push(feature.number()?),
            Some("categorical") => all.push(feature.category(&about)?),
            Some("sequence") => all.push(feature.sequence()?),
            // What groups rows is no input, and a vector has no encoder.
            _ => {}
        }
    }
    Ok(all)
}

fn is_of(column: &Plain, name: &str) -> bool {
    column.get("name").and_then(Plain::text) == Some(name)
}

/// One feature of a `FeatureProcessor`.
struct Feature<'f, 'a> {
    python: &'f Python<'a>,
    processors: &'f Plain,
    /// What the data set's configuration says about it.
    column: Option<&'f Plain>,
    name: &'f str,
}

impl Feature<'_, '_> {
    fn refuse(&self, problem: impl Into<String>) -> Error {
        self.python.refuse(format!("field `{}`", self.name), problem)
    }

    fn option(&self, key: &str) -> Option<&Plain> {
        self.column?.get(key).filter(|value| **value != Plain::None)
    }

    /// The object that processes it, if there is one.
    fn processor(&self, kind: &str) -> Result<Option<Id>> {
        if let Some(function) = self.option("preprocess") {
            let name = function.text().unwrap_or_default();
            return Err(self.refuse(format!("`preprocess` {name:?} is Python code, which is not supported")));
        }
        match self.processors.get(&format!("{}::{kind}", self.name)) {
            None => Ok(None),
            Some(Plain::Object(id)) => Ok(Some(*id)),
            Some(other) => Err(self.refuse(format!("expected a {kind}, found {}", other.kind()))),
        }
    }

    fn number(&self) -> Result<Imported> {
        let field = Some(self.name.to_owned());
        let fill = self.option("fill_na").cloned().unwrap_or(Plain::Float(0.0));
        let Some(normalizer) = self.processor("normalizer")? else {
            let missing = Policy::Number(fill.number().unwrap_or(0.0));
            let encoding = Encoding { missing, ..Encoding::default() };
            return Ok(Imported { field, encoding, rows: None, note: "FuxiCTR: a number as it is".into() });
        };
        // The method `transform` of a scaler.
        let method = self.python.attribute(normalizer, "normalizer");
        let scaler = method.and_then(|method| self.python.arguments(method).first().copied());
        let Some(scaler) = scaler.filter(|scaler| sklearn::class_name(self.python, *scaler).is_some()) else {
            let found = method.map_or_else(|| "nothing".into(), |method| self.python.kind(method));
            return Err(
                self.refuse(format!("expected a scaler of scikit-learn as normalizer, found {found}"))
            );
        };
        let imported = sklearn::import(self.python, scaler, field)?;
        let Some(mut imported) = imported.into_iter().next() else {
            return Err(self.refuse("expected a scaler of one column"));
        };
        imported.encoding.missing =
            sklearn::missing(&imported.encoding, &fill).map_err(|problem| self.refuse(problem))?;
        imported.note = format!("FuxiCTR: {}", imported.note);
        Ok(imported)
    }

    fn category(&self, about: &Plain) -> Result<Imported> {
        if let Some(processor) = about.get("category_processor").and_then(Plain::text) {
            return Err(self.refuse(format!("`category_processor` {processor:?} is not supported")));
        }
        let (mut encoding, note) = self.vocabulary()?;
        // FuxiCTR fills missing values first: a text with nothing, an integer with 0.
        let is_int = self.option("dtype").is_some_and(|dtype| self.is_int(dtype));
        let default = if is_int { Plain::Int(0) } else { Plain::Text(String::new()) };
        let fill = self.option("fill_na").unwrap_or(&default);
        let known = encoding.encoder.as_ref().and_then(|encoder| keys::id_of(encoder, fill));
        encoding.missing = known.map_or(encoding.unseen, Policy::Id);
        Ok(self.imported(encoding, note))
    }

    fn sequence(&self) -> Result<Imported> {
        let (mut encoding, note) = self.vocabulary()?;
        let Some(tokenizer) = self.processor("tokenizer")? else {
            return Err(self.refuse("expected a tokenizer"));
        };
        let splitter = self.python.value(tokenizer, "_splitter")?;
        let mut chars = splitter.text().unwrap_or_default().chars();
        let (Some(separator), None) = (chars.next(), chars.next()) else {
            return Err(
                self.refuse(format!("expected one character as `splitter`, found {:?}", splitter.text()))
            );
        };
        let padding = self.python.value(tokenizer, "padding")?;
        // It is cut where it is filled up.
        encoding.keep = if padding.text() == Some("pre") { Keep::Last } else { Keep::First };
        (encoding.separator, encoding.missing) = (separator, Policy::Zero);
        Ok(self.imported(encoding, note))
    }

    fn imported(&self, encoding: Encoding, note: String) -> Imported {
        Imported { field: Some(self.name.to_owned()), rows: keys::rows(&encoding), encoding, note }
    }

    fn vocabulary(&self) -> Result<(Encoding, String)> {
        let Some(tokenizer) = self.processor("tokenizer")? else {
            return Err(self.refuse("expected a tokenizer"));
        };
        let Plain::Map(vocabulary) = self.python.value(tokenizer, "vocab")? else {
            return Err(self.refuse("expected a tokenizer with a vocabulary"));
        };
        let unseen = get(&vocabulary, FUXI_UNSEEN).and_then(Plain::id);
        let unseen = unseen.map_or(Policy::Error, Policy::Id);
        let is_key = |key: &Plain| !matches!(key.text(), Some(FUXI_PADDING | FUXI_UNSEEN));
        let pairs = vocabulary.into_iter().filter(|(key, _)| is_key(key));
        let pairs: Option<Vec<(Plain, u32)>> = pairs.map(|(key, id)| Some((key, id.id()?))).collect();
        let pairs = pairs.ok_or_else(|| self.refuse("expected ids of at least 0 in the vocabulary"))?;
        let note = format!("FuxiCTR's vocabulary, {} keys", pairs.len());
        let encoding = keys::encoding(pairs, unseen, unseen).map_err(|problem| self.refuse(problem))?;
        Ok((encoding, note))
    }

    /// `int`, or `"int"`.
    fn is_int(&self, dtype: &Plain) -> bool {
        match dtype {
            Plain::Text(name) => name == "int",
            Plain::Object(class) => self.python.class(*class).is_some_and(|class| &*class.name == "int"),
            _ => false,
        }
    }
}
