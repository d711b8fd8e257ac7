//! scikit-learn's encoders, alone and in a `Pipeline` or a `ColumnTransformer`.

use super::{
    Checked, Imported, keys,
    plain::{Plain, Python},
};
use crate::{
    container::object::{Global, Id},
    encoding::spec::{Buckets, Closed, Encoder, Encoding, Number, Of, Policy, Scale},
    error::{Error, Result},
};

/// What is supported, for messages.
const SUPPORTED: &str = "supported are LabelEncoder, OrdinalEncoder, MinMaxScaler, StandardScaler, KBinsDiscretizer, \
     SimpleImputer, FunctionTransformer of log or log1p, Pipeline and ColumnTransformer";

/// The name of a class of scikit-learn, of whichever version.
pub(super) fn class_name<'a>(python: &Python<'a>, id: Id) -> Option<&'a str> {
    let class = python.class(id)?;
    class.module.starts_with("sklearn.").then_some(&*class.name)
}

/// The encoders of an object of scikit-learn, one for each of its columns; `name` is that of its only one.
pub(super) fn import(python: &Python<'_>, id: Id, name: Option<String>) -> Result<Vec<Imported>> {
    if class_name(python, id) == Some("ColumnTransformer") {
        return column_transformer(python, id);
    }
    let width = width(python, id)?;
    let names = match (name, feature_names(python, id)?) {
        (Some(name), _) if width == 1 => vec![Some(name)],
        (_, Some(names)) => names.into_iter().map(Some).collect(),
        _ => vec![None; width],
    };
    import_columns(python, id, names)
}

/// The encoders of the columns of these names.
fn import_columns(python: &Python<'_>, id: Id, names: Vec<Option<String>>) -> Result<Vec<Imported>> {
    let mut columns: Vec<Column> = names.into_iter().map(Column::new).collect();
    transform(python, id, &mut columns)?;
    let version = version(python, id)?;
    let finished = columns.into_iter().map(|column| column.finish(&version));
    finished
        .collect::<Checked<_>>()
        .map_err(|problem| python.refuse(class_name(python, id).unwrap_or_default(), problem))
}

/// A column of the data on its way through a chain of transformers.
struct Column {
    name: Option<String>,
    /// The classes that it went through.
    path: Vec<String>,
    /// What stands in the place of a missing value.
    imputed: Option<Plain>,
    of: Of,
    encoding: Option<Encoding>,
}

impl Column {
    fn new(name: Option<String>) -> Self {
        Self { name, path: Vec::new(), imputed: None, of: Of::Value, encoding: None }
    }

    /// Adds a remark to the class that it went through last.
    fn remark(&mut self, text: Option<&str>) {
        if let Some((class, text)) = self.path.last_mut().zip(text) {
            *class = format!("{class} {text}");
        }
    }

    /// Takes over a scale, which must be the last of the chain.
    fn scale(&mut self, scale: Scale, clip: Option<[f64; 2]>) -> Checked<()> {
        let (offset, factor) = scale.offset_and_factor();
        if !(offset.is_finite() && factor.is_finite()) {
            return Err(format!("expected a finite shift and scale, found {offset} and {factor}"));
        }
        let number = Number { of: self.of, scale, clip, step: None };
        let unseen = if clip.is_some() { Policy::Clamp } else { Policy::Error };
        self.set(Encoding { encoder: Some(Encoder::Number(number)), unseen, ..Encoding::default() })
    }

    fn set(&mut self, encoding: Encoding) -> Checked<()> {
        let is_number = matches!(encoding.encoder, Some(Encoder::Number(_)));
        if self.encoding.is_some() || (self.of != Of::Value && !is_number) {
            let path = self.path.join(" → ");
            return Err(format!(
                "expected at most log1p and one scaler, or one encoder, in a chain, found {path}; chain the others in your data"
            ));
        }
        self.encoding = Some(encoding);
        Ok(())
    }

    fn finish(self, version: &str) -> Checked<Imported> {
        let identity = Number { of: self.of, scale: Scale::Identity, clip: None, step: None };
        let is_touched = self.of != Of::Value || self.imputed.is_some();
        let encoder = is_touched.then_some(Encoder::Number(identity));
        let mut encoding = self.encoding.unwrap_or_else(|| Encoding { encoder, ..Encoding::default() });
        if let Some(imputed) = &self.imputed {
            encoding.missing = missing(&encoding, imputed)?;
        }
        let rows = keys::rows(&encoding);
        let path = if self.path.is_empty() { "passed through".to_owned() } else { self.path.join(" → ") };
        Ok(Imported { field: self.name, encoding, rows, note: format!("scikit-learn{version} {path}") })
    }
}

/// What becomes of a missing value that is first taken for `imputed`.
pub(super) fn missing(encoding: &Encoding, imputed: &Plain) -> Checked<Policy> {
    let place =
        || format!("expected the imputed value to be a number or a known key, found {}", imputed.kind());
    match &encoding.encoder {
        Some(Encoder::Number(number)) => {
            let x = imputed.number().ok_or_else(place)?;
            let x = match number.of {
                Of::Value => x,
                Of::Log1p => libm::log1p(x),
                Of::Log => libm::log(x),
            };
            let (offset, factor) = number.scale.offset_and_factor();
            let scaled = (x - offset) * factor;
            let clipped = number.clip.map_or(scaled, |[low, high]| scaled.max(low).min(high));
            if !clipped.is_finite() {
                return Err(format!("expected an imputed value with a scaled number, found {x}"));
            }
            Ok(Policy::Number(clipped))
        }
        Some(encoder) => match keys::id_of(encoder, imputed) {
            Some(id) => Ok(Policy::Id(id)),
            // An imputed value that was never seen is as any other one.
            None => Ok(encoding.unseen),
        },
        None => Err(place()),
    }
}

/// The names of the columns that an object was fitted on.
fn feature_names(python: &Python<'_>, id: Id) -> Result<Option<Vec<String>>> {
    let names = python.value(id, "feature_names_in_")?;
    let texts = names.list().map(|names| names.iter().map(|name| name.text().map(str::to_owned)).collect());
    match texts.flatten() {
        Some(names) => Ok(Some(names)),
        // A pipeline has the names of its first step.
        None => first_step(python, id)?.map_or(Ok(None), |step| feature_names(python, step)),
    }
}

/// The first step of a pipeline.
fn first_step(python: &Python<'_>, id: Id) -> Result<Option<Id>> {
    if class_name(python, id) != Some("Pipeline") {
        return Ok(None);
    }
    Ok(steps(python, id)?
        .into_iter()
        .find_map(|step| if let Plain::Object(id) = step { Some(id) } else { None }))
}

/// The transformers of a pipeline, in their order.
fn steps(python: &Python<'_>, id: Id) -> Result<Vec<Plain>> {
    let steps = python.value(id, "steps")?;
    let of_pair = |pair: &Plain| match pair.list() {
        Some([_, step]) => Some(step.clone()),
        _ => None,
    };
    let found = steps.list().and_then(|steps| steps.iter().map(of_pair).collect());
    found.ok_or_else(|| python.refuse("Pipeline", "expected pairs of a name and a transformer as steps"))
}

/// How many columns an object without names takes.
fn width(python: &Python<'_>, id: Id) -> Result<usize> {
    if class_name(python, id) == Some("LabelEncoder") {
        return Ok(1);
    }
    if let Some(count) = python.value(id, "n_features_in_")?.id() {
        return Ok(count as usize);
    }
    for name in ["categories_", "bin_edges_", "scale_", "mean_", "var_", "statistics_"] {
        if let Some(items) = python.value(id, name)?.list() {
            return Ok(items.len());
        }
    }
    first_step(python, id)?.map_or(Ok(1), |step| width(python, step))
}

/// ` 1.6.1`, with a space before it.
fn version(python: &Python<'_>, id: Id) -> Result<String> {
    let version = python.value(id, "_sklearn_version")?;
    Ok(version.text().map(|version| format!(" {version}")).unwrap_or_default())
}

/// Takes the columns through one transformer.
fn transform(python: &Python<'_>, id: Id, columns: &mut [Column]) -> Result<()> {
    let Some(class) = class_name(python, id) else {
        return Err(python.refuse(
            "",
            format!("expected an encoder of scikit-learn, found {}; {SUPPORTED}", python.kind(id)),
        ));
    };
    if class == "Pipeline" {
        return pipeline(python, id, columns);
    }
    columns.iter_mut().for_each(|column| column.path.push(class.to_owned()));
    let object = Object { python, id, class };
    match class {
        "LabelEncoder" => object.label_encoder(columns),
        "OrdinalEncoder" => object.ordinal_encoder(columns),
        "MinMaxScaler" => object.min_max(columns),
        "StandardScaler" => object.standard(columns),
        "KBinsDiscretizer" => object.bins(columns),
        "SimpleImputer" => object.imputer(columns),
        "FunctionTransformer" => object.function(columns),
        _ => Err(python.refuse(class, format!("expected another class, found this one; {SUPPORTED}"))),
    }
}

fn pipeline(python: &Python<'_>, id: Id, columns: &mut [Column]) -> Result<()> {
    for step in steps(python, id)? {
        match step {
            Plain::Object(step) => transform(python, step, columns)?,
            Plain::None => {}
            Plain::Text(text) if text == "passthrough" => {}
            other => {
                let problem = format!("expected a transformer as a step, found {}", other.kind());
                return Err(python.refuse("Pipeline", problem));
            }
        }
    }
    Ok(())
}

fn column_transformer(python: &Python<'_>, id: Id) -> Result<Vec<Imported>> {
    let refuse = |problem: String| python.refuse("ColumnTransformer", problem);
    let transformers = python.value(id, "transformers_")?;
    let transformers = transformers
        .list()
        .ok_or_else(|| refuse("expected a fitted one, found one without transformers_".into()))?;
    let names = feature_names(python, id)?.unwrap_or_default();
    let mut all = Vec::new();
    for entry in transformers {
        let Some([name, transformer, columns]) = entry.list() else {
            return Err(refuse("expected name, transformer and columns; the file is damaged".into()));
        };
        let columns = || {
            let columns = selected(python, columns, &names);
            columns.ok_or_else(|| refuse(format!(
                "expected the names or the positions of columns of {:?}, found others; fit it on a data frame",
                name.text().unwrap_or_default()
            )))
        };
        match transformer {
            Plain::Text(text) if text == "drop" => {}
            Plain::Text(text) if text == "passthrough" => {
                for name in columns()? {
                    all.push(Column::new(Some(name)).finish("").map_err(&refuse)?);
                }
            }
            Plain::Object(transformer) => {
                let columns = columns()?;
                if !columns.is_empty() {
                    all.extend(import_columns(
                        python,
                        *transformer,
                        columns.into_iter().map(Some).collect(),
                    )?);
                }
            }
            other => return Err(refuse(format!("expected a transformer, found {}", other.kind()))),
        }
    }
    Ok(all)
}

/// The names of the columns that a selector selects: names, positions, a mask or a slice, or one of these.
fn selected(python: &Python<'_>, selector: &Plain, names: &[String]) -> Option<Vec<String>> {
    let at = |position: i64| {
        let position = if position < 0 {
            names.len().checked_sub(usize::try_from(-position).ok()?)?
        } else {
            usize::try_from(position).ok()?
        };
        names.get(position).cloned()
    };
    match selector {
        Plain::Text(name) => Some(vec![name.clone()]),
        Plain::Int(position) => Some(vec![at(*position)?]),
        Plain::List(mask) if !mask.is_empty() && mask.iter().all(|item| matches!(item, Plain::Bool(_))) => {
            let selected = names.iter().zip(mask).filter(|(_, item)| **item == Plain::Bool(true));
            (mask.len() == names.len()).then(|| selected.map(|(name, _)| name.clone()).collect())
        }
        Plain::List(items) => items
            .iter()
            .map(|item| match item {
                Plain::Text(name) => Some(name.clone()),
                Plain::Int(position) => at(*position),
                _ => None,
            })
            .collect(),
        // `_RemainderColsList` of scikit-learn 1.5 and 1.6 is a list of positions with a warning.
        Plain::Object(id) if python.attribute(*id, "data").is_some() => {
            selected(python, &python.value(*id, "data").ok()?, names)
        }
        Plain::Object(id) => slice(python, *id, names),
        _ => None,
    }
}

/// `slice(start, end, None)` of positions, or of names, of which the last is selected, too.
fn slice(python: &Python<'_>, id: Id, names: &[String]) -> Option<Vec<String>> {
    if python.class(id).map(ToString::to_string).as_deref() != Some("builtins.slice") {
        return None;
    }
    let [start, end, step] = *python.arguments(id) else { return None };
    let (start, end, step) = (python.plain(start).ok()?, python.plain(end).ok()?, python.plain(step).ok()?);
    let place = |bound: &Plain, or: usize, of_name: usize| match bound {
        Plain::None => Some(or),
        Plain::Int(at) => usize::try_from(*at).ok(),
        Plain::Text(name) => Some(names.iter().position(|other| other == name)? + of_name),
        _ => None,
    };
    let (start, end) = (place(&start, 0, 0)?, place(&end, names.len(), 1)?);
    (step == Plain::None).then(|| names.get(start..end).map(<[String]>::to_vec))?
}

/// One transformer.
struct Object<'p, 'a> {
    python: &'p Python<'a>,
    id: Id,
    class: &'a str,
}

impl Object<'_, '_> {
    fn refuse(&self, problem: impl Into<String>) -> Error {
        self.python.refuse(self.class, problem)
    }

    fn value(&self, name: &str) -> Result<Plain> {
        self.python.value(self.id, name)
    }

    /// A list with an item for each column.
    fn each(&self, name: &str, columns: &[Column]) -> Result<Vec<Plain>> {
        let value = self.value(name)?;
        let Plain::List(items) = value else {
            return Err(self.refuse(format!("expected a fitted one, found {} as `{name}`", value.kind())));
        };
        if items.len() != columns.len() {
            return Err(self.refuse(format!(
                "expected `{name}` of {} columns, found {}; the file is damaged",
                columns.len(),
                items.len()
            )));
        }
        Ok(items)
    }

    fn numbers(&self, name: &str, columns: &[Column]) -> Result<Vec<f64>> {
        let numbers = self.each(name, columns)?.iter().map(Plain::number).collect::<Option<_>>();
        numbers.ok_or_else(|| self.refuse(format!("expected numbers in `{name}`")))
    }

    /// Refuses an option that is not what it must be.
    fn only(&self, name: &str, is_legal: impl Fn(&Plain) -> bool, legal: &str) -> Result<()> {
        let value = self.value(name)?;
        if is_legal(&value) {
            return Ok(());
        }
        let found = value.text().map_or_else(|| value.kind().to_owned(), |text| format!("{text:?}"));
        Err(self.refuse(format!("expected `{name}` to be {legal}, found {found}, which is not supported")))
    }

    fn label_encoder(&self, columns: &mut [Column]) -> Result<()> {
        let [column] = columns else {
            return Err(self.refuse(format!("expected one column, found {}", columns.len())));
        };
        let classes = self.value("classes_")?;
        let Plain::List(classes) = classes else {
            return Err(self.refuse("expected a fitted one, found one without classes_"));
        };
        let pairs = classes.into_iter().zip(0..).collect();
        let encoding = keys::encoding(pairs, Policy::Error, Policy::Error);
        encoding.and_then(|encoding| column.set(encoding)).map_err(|problem| self.refuse(problem))
    }

    fn ordinal_encoder(&self, columns: &mut [Column]) -> Result<()> {
        let (unseen, note) = self.unknown()?;
        let categories = self.each("categories_", columns)?;
        let groups = self.value("_default_to_infrequent_mappings")?;
        for (position, (column, categories)) in columns.iter_mut().zip(categories).enumerate() {
            let group = groups.list().and_then(|groups| groups.get(position));
            let pairs = self.ordinals(categories, group)?;
            column.remark(note.as_deref());
            // A missing value that was not there in fitting is an unknown one.
            let mut encoding =
                keys::encoding(pairs, unseen, unseen).map_err(|problem| self.refuse(problem))?;
            self.encoded_missing(&mut encoding, column, position)?;
            column.set(encoding).map_err(|problem| self.refuse(problem))?;
        }
        Ok(())
    }

    /// What becomes of unknown values, and a remark about it.
    fn unknown(&self) -> Result<(Policy, Option<String>)> {
        match self.value("handle_unknown")?.text() {
            Some("error") | None => Ok((Policy::Error, None)),
            Some("use_encoded_value") => {
                let value = self.value("unknown_value")?;
                let note = || match value.number() {
                    Some(number) => format!("(unknown_value {number} is no id: unseen values are refused)"),
                    None => "(no unknown_value: unseen values are refused)".to_owned(),
                };
                Ok(value.id().map_or_else(|| (Policy::Error, Some(note())), |id| (Policy::Id(id), None)))
            }
            Some(other) => Err(self.refuse(format!(
                "expected `handle_unknown` to be error or use_encoded_value, found {other:?}"
            ))),
        }
    }

    /// The categories with their ids: positions, or what infrequent ones are grouped to. The mapping leaves a NaN at the end out.
    fn ordinals(&self, categories: Plain, group: Option<&Plain>) -> Result<Vec<(Plain, u32)>> {
        let Plain::List(categories) = categories else {
            return Err(self.refuse(format!("expected lists of categories, found {}", categories.kind())));
        };
        let Some(group) = group.and_then(Plain::list) else {
            return Ok(categories.into_iter().zip(0..).collect());
        };
        let pairs = categories.into_iter().zip(0..).map(|(category, position)| {
            let grouped = group.get(position as usize).map(|id| id.id());
            let id = grouped.unwrap_or_else(|| category.is_missing().then_some(position));
            id.map(|id| (category, id))
        });
        let pairs = pairs.collect::<Option<_>>();
        pairs.ok_or_else(|| self.refuse("expected a group for each category; the file is damaged"))
    }

    /// A NaN among the categories becomes `encoded_missing_value`, of which NaN is no id.
    fn encoded_missing(&self, encoding: &mut Encoding, column: &mut Column, position: usize) -> Result<()> {
        let indices = self.value("_missing_indices")?;
        let position = i64::try_from(position).unwrap_or(i64::MAX);
        let is_missing =
            indices.map().is_some_and(|pairs| pairs.iter().any(|(key, _)| *key == Plain::Int(position)));
        if !is_missing {
            return Ok(());
        }
        let value = self.value("encoded_missing_value")?;
        encoding.missing = value.id().map_or(Policy::Error, Policy::Id);
        if value.id().is_none() {
            column.remark(Some("(encoded_missing_value is no id: missing values are refused)"));
        }
        Ok(())
    }

    fn min_max(&self, columns: &mut [Column]) -> Result<()> {
        let range = self.value("feature_range")?;
        let range = range.list().and_then(|range| match range {
            [low, high] => low.number().zip(high.number()),
            _ => None,
        });
        let (low, high) = range.ok_or_else(|| self.refuse("expected two numbers as `feature_range`"))?;
        let clip = self.value("clip")? == Plain::Bool(true);
        let mins = self.numbers("data_min_", columns)?;
        let scales = self.numbers("scale_", columns)?;
        let maxima = self.numbers("data_max_", columns)?;
        for (column, ((min, max), scale)) in columns.iter_mut().zip(mins.into_iter().zip(maxima).zip(scales))
        {
            // A column of one number has the span 1.
            let agrees = ((high - low) / (max - min) / scale - 1.0).abs() < 1e-9;
            let max = if agrees { max } else { min + (high - low) / scale };
            let scale = Scale::MinMax { min, max, low, high, epsilon: 0.0 };
            column.scale(scale, clip.then_some([low, high])).map_err(|problem| self.refuse(problem))?;
        }
        Ok(())
    }

    fn standard(&self, columns: &mut [Column]) -> Result<()> {
        let or = |switch: &str, name: &str, default: f64| {
            let off = self.value(switch)? == Plain::Bool(false);
            if off { Ok(vec![default; columns.len()]) } else { self.numbers(name, columns) }
        };
        let (means, deviations) = (or("with_mean", "mean_", 0.0)?, or("with_std", "scale_", 1.0)?);
        for (column, (mean, std)) in columns.iter_mut().zip(means.into_iter().zip(deviations)) {
            column.scale(Scale::Standard { mean, std }, None).map_err(|problem| self.refuse(problem))?;
        }
        Ok(())
    }

    fn bins(&self, columns: &mut [Column]) -> Result<()> {
        let is_known = |value: &Plain| matches!(value.text(), Some("ordinal" | "onehot" | "onehot-dense"));
        self.only("encode", is_known, "ordinal, onehot or onehot-dense")?;
        let version = self.value("_sklearn_version")?;
        if version.text().is_some_and(|version| version.starts_with("0.") || version.starts_with("1.0")) {
            let problem = "expected scikit-learn 1.1 or later, where a value below an edge is in the bin below it; fit it anew";
            return Err(self.refuse(problem));
        }
        let all = self.each("bin_edges_", columns)?;
        for (column, edges) in columns.iter_mut().zip(all) {
            let edges: Option<Vec<f64>> =
                edges.list().and_then(|edges| edges.iter().map(Plain::number).collect());
            // The first and the last edge bound nothing: what is outside of them is in the first and the last bin.
            let Some([_, inner @ .., _]) = edges.as_deref() else {
                return Err(self.refuse("expected at least two edges of bins; the file is damaged"));
            };
            if !inner.is_sorted() || !inner.iter().all(|edge| edge.is_finite()) {
                return Err(self.refuse("expected ascending finite edges of bins; the file is damaged"));
            }
            let buckets = Buckets { boundaries: inner.to_vec(), closed: Closed::Left, ids: Vec::new() };
            let encoder = Some(Encoder::Buckets(buckets));
            column
                .set(Encoding { encoder, ..Encoding::default() })
                .map_err(|problem| self.refuse(problem))?;
        }
        Ok(())
    }

    fn imputer(&self, columns: &mut [Column]) -> Result<()> {
        self.only("add_indicator", |value| matches!(value, Plain::Bool(false) | Plain::None), "False")?;
        // pandas.NA is an object.
        let is_absent = |value: &Plain| value.is_missing() || matches!(value, Plain::Object(_));
        self.only("missing_values", is_absent, "NaN or None")?;
        let statistics = self.each("statistics_", columns)?;
        for (column, statistic) in columns.iter_mut().zip(statistics) {
            if statistic.is_missing() {
                return Err(
                    self.refuse("a column without any value, which it leaves out; leave it out of the data")
                );
            }
            if column.encoding.is_some() || column.of != Of::Value || column.imputed.is_some() {
                return Err(self.refuse("expected it first in a chain, found it later"));
            }
            column.imputed = Some(statistic);
        }
        Ok(())
    }

    fn function(&self, columns: &mut [Column]) -> Result<()> {
        let of = match self.python.attribute(self.id, "func").map(|func| (func, self.python.class(func))) {
            None | Some((_, None)) if self.value("func")? == Plain::None => Of::Value,
            Some((func, Some(function))) => self.of(func, function)?,
            _ => return Err(self.refuse("expected a function of numpy as `func`")),
        };
        for column in columns {
            if of == Of::Value {
                continue;
            }
            if column.encoding.is_some() || column.of != Of::Value {
                return Err(self.refuse("expected it before the scaler and once in a chain, found it later"));
            }
            column.of = of;
        }
        Ok(())
    }

    /// `numpy.log1p` or `numpy.log`, as it was pickled in whichever version.
    fn of(&self, func: Id, function: &Global) -> Result<Of> {
        let name = match &*function.name {
            "_ufunc_reconstruct" => {
                let name = self.python.arguments(func).get(1).map(|name| self.python.plain(*name));
                name.transpose()?.and_then(|name| name.text().map(str::to_owned)).unwrap_or_default()
            }
            name => name.to_owned(),
        };
        let is_numpy = &*function.module == "numpy" || function.module.starts_with("numpy.");
        match &*name {
            "log1p" if is_numpy => Ok(Of::Log1p),
            "log" if is_numpy => Ok(Of::Log),
            _ => Err(self.refuse(format!(
                "expected numpy.log1p or numpy.log, found `{}.{name}`, which is not supported",
                function.module
            ))),
        }
    }
}
