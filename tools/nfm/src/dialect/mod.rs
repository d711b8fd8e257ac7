//! Dialects: named tensors in, a [`FloatModel`] out. Each knows one trainer's names and graph, and no file.

mod angel;
mod daisy;
mod deepctr_estimator;
mod deepctr_keras;
mod deepctr_old;
mod deepctr_torch;
mod deepctr_torch_columns;
mod draft;
mod elliot;
mod fuxi;
mod kgat_tf1;
mod kgat_torch;
mod lambdaji;
mod libreco;
pub mod map;
mod mlgb;
mod onnx;
mod paddle_rec;
mod paper;
mod paper_tf1;
mod rec_bole;
mod rec_learn;
mod rec_pangu;
mod sequential;
mod torchfm;

use crate::{
    encoding::spec::Encoding,
    error::{Error, Result},
    float_model::{Activation, FloatModel},
    schema::{Field, Schema, Task},
    tensors::{Fact, Tensors, Values},
};

/// One trainer's way to name things.
pub struct Dialect {
    /// As `--dialect` takes it.
    pub name: &'static str,
    /// Whose models these are.
    pub about: &'static str,
    /// Whether a checkpoint's names look like it.
    recognizes: fn(&Tensors) -> bool,
    /// Takes the tensors that it knows; what is left over is an error of the caller.
    import: fn(&mut Tensors, &Hints) -> Result<FloatModel>,
}

impl core::fmt::Debug for Dialect {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name)
    }
}

impl Dialect {
    /// Whether a checkpoint is of this trainer. A graph says itself what it is; its tensors may have a trainer's names all the same.
    fn is_of(&self, tensors: &Tensors) -> bool {
        (self.name == onnx::DIALECT.name || !onnx::is_graph(tensors)) && (self.recognizes)(tensors)
    }
}

/// All dialects, in the order in which they are tried.
pub const DIALECTS: &[Dialect] = &[
    deepctr_torch::DIALECT,
    paper::DIALECT,
    torchfm::DIALECT,
    torchfm::ARM_NET,
    rec_pangu::DIALECT,
    daisy::DIALECT,
    deepctr_keras::DIALECT,
    deepctr_old::DIALECT,
    deepctr_estimator::DIALECT,
    paper_tf1::DIALECT,
    paper_tf1::PRINCEWEN,
    lambdaji::DIALECT,
    libreco::DIALECT,
    kgat_tf1::DIALECT,
    rec_learn::DIALECT,
    elliot::DIALECT,
    fuxi::DIALECT,
    rec_bole::DIALECT,
    kgat_torch::DIALECT,
    mlgb::DIALECT,
    paddle_rec::DIALECT,
    angel::DIALECT,
    onnx::DIALECT,
];

/// What the user says about the checkpoint that it does not say itself.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// The schema, where there is one.
    pub schema: Option<Schema>,
    /// The task, which goes before the schema's.
    pub task: Option<Task>,
    /// The dialect's name; recognized when absent.
    pub dialect: Option<String>,
    /// Which tensor is what, for a checkpoint of no dialect.
    pub map: Option<map::Map>,
    /// ε of batch normalization, which goes before the schema's.
    pub bn_eps: Option<f64>,
    /// The hidden layers' activation, which goes before the schema's.
    pub activation: Option<String>,
    /// The most active entries in a row, which goes before the schema's.
    pub max_active: Option<u16>,
    /// The largest magnitude of a value, which goes before the schema's.
    pub max_value: Option<f64>,
}

impl Hints {
    /// What the user said, or else what the schema says.
    fn said<T>(&self, own: Option<T>, of_schema: impl FnOnce(&Schema) -> Option<T>) -> Option<T> {
        own.or_else(|| self.schema.as_ref().and_then(of_schema))
    }

    /// The most active entries in a row, by the user or the schema.
    #[must_use]
    pub fn said_max_active(&self) -> Option<u16> {
        self.said(self.max_active, |schema| schema.max_active)
    }

    /// The largest magnitude of a value, by the user or the schema.
    #[must_use]
    pub fn said_max_value(&self) -> Option<f64> {
        self.said(self.max_value, |schema| schema.max_value)
    }

    /// ε of batch norm, by the user or the schema.
    fn said_bn_eps(&self) -> Option<f64> {
        self.said(self.bn_eps, |schema| schema.bn_eps)
    }

    /// The schema's fields; none without a schema.
    fn schema_fields(&self) -> &[Field] {
        self.schema.as_ref().map_or(&[], |schema| &schema.fields)
    }

    /// The task, by the user, the schema or the checkpoint, or `default`, which is then noted.
    fn task(
        &self,
        file: &str,
        fact: Option<&Fact>,
        default: Task,
        assumptions: &mut Vec<String>,
    ) -> Result<Task> {
        if let Some(task) = self.said(self.task, |schema| schema.task) {
            return Ok(task);
        }
        match fact {
            Some(Fact::Text(task)) if task == "binary" => Ok(Task::Binary),
            Some(Fact::Text(task)) if task == "regression" => Ok(Task::Regression),
            Some(Fact::Text(task)) => {
                let problem =
                    format!("the checkpoint's is `{task}`; supported are binary, regression: say --task");
                Err(Error::refused(file, "task", problem))
            }
            _ => {
                let (name, other) = match default {
                    Task::Binary => ("binary", "regression"),
                    Task::Regression => ("regression", "binary"),
                };
                assumptions.push(format!("task is {name}; if not, say --task {other}"));
                Ok(default)
            }
        }
    }

    /// The activation of a hidden layer, by the user, the schema or the checkpoint, or relu, which is then noted once.
    ///
    /// In a whole model the checkpoint's is the module at `module`, with its parameters.
    fn activation(
        &self,
        tensors: &Tensors,
        module: &str,
        assumptions: &mut Vec<String>,
    ) -> Result<Activation> {
        if let Some(known) = self.known_activation(tensors, module)? {
            return Ok(known);
        }
        let note = "hidden activation is relu; if not, say --activation";
        if assumptions.iter().all(|assumption| assumption != note) {
            assumptions.push(note.into());
        }
        Ok(Activation::Relu)
    }

    /// The activation of a hidden layer, by the user, the schema or the checkpoint.
    fn known_activation(&self, tensors: &Tensors, module: &str) -> Result<Option<Activation>> {
        let said = self.said(self.activation.clone(), |schema| schema.activation.clone());
        let class = tensors.facts.get(&format!("{module}.__class__"));
        let fact = match class.or(tensors.facts.get("config.activation")) {
            Some(Fact::Text(name)) => Some(class_name(name)),
            _ => None,
        };
        let of_module = said.is_none() && class.is_some();
        let Some(name) = said.or(fact) else { return Ok(None) };
        let parameter = |name: &str| match tensors.facts.get(&format!("{module}.{name}")) {
            Some(Fact::Float(parameter)) if of_module => Some(*parameter),
            #[expect(clippy::cast_precision_loss, reason = "a slope is small")]
            Some(Fact::Int(parameter)) if of_module => Some(*parameter as f64),
            _ => None,
        };
        match Activation::by_name(&name) {
            Some(Activation::LeakyRelu(slope)) => {
                Ok(Some(Activation::LeakyRelu(parameter("negative_slope").unwrap_or(slope))))
            }
            Some(Activation::Elu(alpha)) => Ok(Some(Activation::Elu(parameter("alpha").unwrap_or(alpha)))),
            Some(other) => Ok(Some(other)),
            None => {
                let problem = format!("`{name}` is not supported; supported are {}", Activation::NAMES);
                Err(Error::refused(&tensors.file, "hidden activation", problem))
            }
        }
    }
}

/// `torch.nn.modules.activation.ReLU` → `ReLU`
fn class_name(qualified: &str) -> String {
    qualified.rsplit('.').next().unwrap_or(qualified).into()
}

/// Makes a float model of a checkpoint's tensors.
///
/// # Errors
///
/// When no dialect recognizes them, a tensor is missing or of another shape, or one is left over that no dialect
/// claimed.
pub fn import(mut tensors: Tensors, hints: &Hints) -> Result<FloatModel> {
    let file = tensors.file.clone();
    let mut skipped: Vec<String> =
        tensors.entries.keys().filter(|name| is_no_parameter(name)).cloned().collect();
    tensors.entries.retain(|name, _| !is_no_parameter(name));
    let floats = tensors.entries.iter().filter(|(_, tensor)| !matches!(tensor.values, Values::I64(_)));
    let sizes: Vec<(String, usize)> =
        floats.map(|(name, tensor)| (name.clone(), tensor.values.len())).collect();
    let (name, mut model) = match &hints.map {
        Some(map) => {
            check_dropout(&file, "map", hints)?;
            ("map", map.import(&mut tensors, hints)?)
        }
        None => {
            let dialect = choose(&tensors, hints)?;
            check_dropout(&file, dialect.name, hints)?;
            (dialect.name, (dialect.import)(&mut tensors, hints)?)
        }
    };
    if !tensors.entries.is_empty() {
        let left: Vec<String> =
            tensors.entries.iter().map(|(name, tensor)| format!("`{name}` {:?}", tensor.shape)).collect();
        let problem = format!(
            "the {} dialect has no place for {}; scores without it could be wrong. If it is no part of the model, \
             remove it from the checkpoint",
            name,
            left.join(", ")
        );
        return Err(Error::refused(&file, "tensors left over", problem));
    }
    attach_encodings(&mut model, hints.schema_fields())
        .map_err(|text| Error::refused(&file, "schema, fields", text))?;
    let taken = sizes.iter().filter(|(name, _)| !model.skipped.contains(name));
    model.parameters = taken.map(|(_, len)| len).sum();
    model.skipped.append(&mut skipped);
    model.check(&file)?;
    Ok(model)
}

/// Refuses a scale of dropout where the trainer does not multiply with it.
fn check_dropout(file: &str, dialect: &str, hints: &Hints) -> Result<()> {
    if hints.said(None, |schema| schema.dropout_scale).is_none() || dialect == paddle_rec::DIALECT.name {
        return Ok(());
    }
    let problem = format!("a {dialect} model multiplies with nothing at inference: leave it out");
    Err(Error::refused(file, "schema, dropout_scale", problem))
}

/// Gives the model's fields the encodings that the schema says.
fn attach_encodings(model: &mut FloatModel, schema: &[Field]) -> core::result::Result<(), String> {
    let standard = Encoding::default();
    for said in schema.iter().filter(|field| field.encoding != standard) {
        let own = model.fields.iter_mut().find(|field| field.name == said.name);
        let own =
            own.ok_or_else(|| format!("`{}` has an encoder, and the model has no such field", said.name))?;
        if own.kind.rows() != said.kind.rows() {
            let (found, expected) = (said.kind.rows(), own.kind.rows());
            return Err(format!(
                "`{}`: expected {expected} rows, as its table has, found {found}",
                said.name
            ));
        }
        own.encoding = said.encoding.clone();
    }
    Ok(())
}

/// Names of the dialects that recognize `tensors`: one, for a checkpoint that loads without saying its dialect.
#[must_use]
pub fn recognized(tensors: &Tensors) -> Vec<&'static str> {
    DIALECTS.iter().filter(|dialect| dialect.is_of(tensors)).map(|dialect| dialect.name).collect()
}

/// Counters that training keeps beside the parameters.
fn is_no_parameter(name: &str) -> bool {
    name.rsplit('.').next() == Some("num_batches_tracked")
}

/// Whether Keras numbered the weights and wrote no names: `.weights.h5` of `tf_keras`, and the export of Keras 3.
fn is_nameless(tensors: &Tensors) -> bool {
    let numbered = |name: &String| name.starts_with("layers/") || name.starts_with("variables/");
    tensors.entries.keys().any(numbered)
}

fn choose(tensors: &Tensors, hints: &Hints) -> Result<&'static Dialect> {
    let file = &tensors.file;
    let names = || DIALECTS.iter().map(|d| d.name).collect::<Vec<_>>().join(", ");
    if let Some(name) = &hints.dialect {
        let found = DIALECTS.iter().find(|d| d.name == name);
        return found
            .ok_or_else(|| Error::refused(file, "--dialect", format!("`{name}` is none of {}", names())));
    }
    DIALECTS.iter().find(|d| d.is_of(tensors)).ok_or_else(|| {
        if is_nameless(tensors) {
            let problem = "it holds weights without the names of layers, so that nobody can tell its tables apart: save the \
                           model as .keras, as .h5, or as a TensorFlow checkpoint";
            return Error::refused(file, "", problem);
        }
        let found: Vec<&str> = tensors.entries.keys().take(8).map(String::as_str).collect();
        let problem = format!(
            "its {} tensors ({}, …) look like no supported NFM: {}; say what they are by --map, for which `nfm inspect` prints a \
             starting point",
            tensors.entries.len(),
            found.join(", "),
            names()
        );
        Error::refused(file, "", problem)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::Tensor;

    /// Tensors of these shapes, filled with 0.5.
    pub(super) fn tensors(shapes: &[(&str, &[usize])]) -> Tensors {
        let entry = |(name, shape): &(&str, &[usize])| {
            let values = Values::F32(vec![0.5; shape.iter().product()]);
            ((*name).to_owned(), Tensor { shape: shape.to_vec(), dtype: "f32", values, storage: None })
        };
        let entries = shapes.iter().map(entry).collect();
        Tensors { file: "m.pt".into(), container: "test", entries, ..Tensors::default() }
    }

    pub(super) fn refusal(tensors: Tensors, hints: &Hints) -> String {
        import(tensors, hints).unwrap_err().to_string()
    }

    /// `--dialect` may name any of them.
    #[test]
    fn what_a_dialect_cannot_read_is_refused_by_each() {
        for dialect in DIALECTS {
            let hints = Hints { dialect: Some(dialect.name.into()), ..Hints::default() };
            for shapes in [&[][..], &[("conv1.weight", &[3, 3][..])], &[("bias", &[1])]] {
                assert!(refusal(tensors(shapes), &hints).starts_with("m.pt: "), "{dialect:?}");
            }
        }
    }

    #[test]
    fn a_scale_of_dropout_is_not_passed_over() {
        let schema = Schema { schema_version: 1, dropout_scale: Some(0.1), ..Schema::default() };
        let hints = Hints { schema: Some(schema), ..Hints::default() };
        let shapes: [(&str, &[usize]); 2] = [("feature_embed", &[4, 2]), ("h.weight", &[1, 3])];
        assert!(refusal(tensors(&shapes), &hints).contains("dropout_scale: a kgat-pytorch model"));
    }

    #[test]
    fn a_checkpoint_of_no_dialect_is_refused_with_what_was_found() {
        let message = refusal(tensors(&[("conv1.weight", &[3, 3])]), &Hints::default());
        assert!(
            message.contains("conv1.weight") && message.contains("deepctr-torch, paper-torch, "),
            "{message}"
        );
        let hints = Hints { dialect: Some("keras".into()), ..Hints::default() };
        let message = refusal(tensors(&[]), &hints);
        assert!(message.contains("`keras` is none of deepctr-torch, paper-torch, "), "{message}");
    }
}
