//! Dialects: named tensors in, a [`FloatModel`] out. Each knows one trainer's names and graph, and no file.

mod deepctr_torch;
mod paper;

use crate::{
    error::{Error, Result},
    float_model::{Activation, FloatModel},
    schema::{Field, FieldKind, Schema, Task, dense_inputs},
    tensors::{Fact, Tensors},
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

/// All dialects, in the order in which they are tried.
pub const DIALECTS: &[Dialect] = &[deepctr_torch::DIALECT, paper::DIALECT];

/// What the user says about the checkpoint that it does not say itself.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// The schema, where there is one.
    pub schema: Option<Schema>,
    /// The task, which goes before the schema's.
    pub task: Option<Task>,
    /// The dialect's name; recognized when absent.
    pub dialect: Option<String>,
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
        let said = self.said(self.activation.clone(), |schema| schema.activation.clone());
        let class = tensors.facts.get(&format!("{module}.__class__"));
        let fact = match class.or(tensors.facts.get("config.activation")) {
            Some(Fact::Text(name)) => Some(class_name(name)),
            _ => None,
        };
        let known = said.is_none() && class.is_some();
        let Some(name) = said.or(fact) else {
            let note = "hidden activation is relu; if not, say --activation";
            if assumptions.iter().all(|assumption| assumption != note) {
                assumptions.push(note.into());
            }
            return Ok(Activation::Relu);
        };
        let parameter = |name: &str| match tensors.facts.get(&format!("{module}.{name}")) {
            Some(Fact::Float(parameter)) if known => Some(*parameter),
            #[expect(clippy::cast_precision_loss, reason = "a slope is small")]
            Some(Fact::Int(parameter)) if known => Some(*parameter as f64),
            _ => None,
        };
        match Activation::by_name(&name) {
            Some(Activation::LeakyRelu(slope)) => {
                Ok(Activation::LeakyRelu(parameter("negative_slope").unwrap_or(slope)))
            }
            Some(Activation::Elu(alpha)) => Ok(Activation::Elu(parameter("alpha").unwrap_or(alpha))),
            Some(other) => Ok(other),
            None => {
                let problem = format!("`{name}` is not supported; supported are {}", Activation::NAMES);
                Err(Error::refused(&tensors.file, "hidden activation", problem))
            }
        }
    }

    /// The fields: the schema's, checked against `tables` (name and rows of each id field, if the checkpoint knows
    /// them) and the number of dense inputs, or made up from these.
    fn fields(&self, file: &str, tables: &[(String, usize)], dense: usize) -> Result<Vec<Field>> {
        let fields = self.schema_fields();
        if fields.is_empty() {
            let ids = tables.iter().map(|(name, rows)| Field {
                name: name.clone(),
                kind: FieldKind::Id { rows: u32::try_from(*rows).unwrap_or(u32::MAX) },
            });
            let dense = (0..dense).map(|i| Field { name: format!("dense_{i}"), kind: FieldKind::Dense });
            return Ok(ids.chain(dense).collect());
        }
        if dense_inputs(fields) != dense {
            let problem =
                format!("the checkpoint has {dense} dense inputs, the schema {}", dense_inputs(fields));
            return Err(Error::refused(file, "schema", problem));
        }
        Ok(fields.to_vec())
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
    let dialect = choose(&tensors, hints)?;
    let parameters = tensors.entries.values().map(|tensor| tensor.values.len()).sum();
    let mut model = (dialect.import)(&mut tensors, hints)?;
    if !tensors.entries.is_empty() {
        let left: Vec<String> =
            tensors.entries.iter().map(|(name, tensor)| format!("`{name}` {:?}", tensor.shape)).collect();
        let problem = format!(
            "the {} dialect has no place for {}; scores without it could be wrong. If it is no part of the model, \
             remove it from the checkpoint",
            dialect.name,
            left.join(", ")
        );
        return Err(Error::refused(&file, "tensors left over", problem));
    }
    model.parameters = parameters;
    model.skipped.append(&mut skipped);
    model.check(&file)?;
    Ok(model)
}

/// Counters that training keeps beside the parameters.
fn is_no_parameter(name: &str) -> bool {
    name.rsplit('.').next() == Some("num_batches_tracked")
}

fn choose(tensors: &Tensors, hints: &Hints) -> Result<&'static Dialect> {
    let file = &tensors.file;
    let names = || DIALECTS.iter().map(|d| d.name).collect::<Vec<_>>().join(", ");
    if let Some(name) = &hints.dialect {
        let found = DIALECTS.iter().find(|d| d.name == name);
        return found
            .ok_or_else(|| Error::refused(file, "--dialect", format!("`{name}` is none of {}", names())));
    }
    DIALECTS.iter().find(|d| (d.recognizes)(tensors)).ok_or_else(|| {
        let found: Vec<&str> = tensors.entries.keys().take(8).map(String::as_str).collect();
        let problem = format!(
            "its {} tensors ({}, …) look like no supported NFM: {}",
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
    use crate::tensors::{Tensor, Values};

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

    #[test]
    fn a_checkpoint_of_no_dialect_is_refused_with_what_was_found() {
        let message = refusal(tensors(&[("conv1.weight", &[3, 3])]), &Hints::default());
        assert!(
            message.contains("conv1.weight") && message.contains("deepctr-torch, paper-torch"),
            "{message}"
        );
        let hints = Hints { dialect: Some("keras".into()), ..Hints::default() };
        let message = refusal(tensors(&[]), &hints);
        assert!(message.contains("`keras` is none of deepctr-torch, paper-torch"), "{message}");
    }
}
