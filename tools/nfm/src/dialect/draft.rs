//! What dialects share on the way from tensors to a [`FloatModel`].

use super::Hints;
use crate::{
    error::{Error, Result},
    float_model::{Activation, BatchNorm, Dense, FloatModel, Link, Stage},
    schema::{Field, FieldKind, Order, Pooling, Task, dense_inputs, lay_out, total_rows},
    tensors::{Fact, Tensors},
};

/// How many active entries a row may have when nobody says.
const DEFAULT_MAX_ACTIVE: u16 = 32;

/// How many ids a sequence may have when nobody says.
const DEFAULT_MAX_LEN: u16 = 20;

/// Which of the dense inputs the layers take, and which the first order.
#[derive(Debug, Clone)]
pub(super) struct DenseColumns {
    /// How many inputs there are.
    pub(super) total: usize,
    deep: Vec<usize>,
    linear: Vec<usize>,
}

impl DenseColumns {
    /// Both take all.
    pub(super) fn all(total: usize) -> Self {
        Self { total, deep: (0..total).collect(), linear: (0..total).collect() }
    }

    /// First-order weights of all inputs, from those that the first order takes.
    pub(super) fn spread(&self, linear: &[f64]) -> Vec<f64> {
        spread(linear, &self.linear, self.total)
    }
}

/// `values` at these places of `total`, and zeros elsewhere.
fn spread(values: &[f64], places: &[usize], total: usize) -> Vec<f64> {
    let mut all = vec![0.0; total];
    for (place, value) in places.iter().zip(values) {
        all[*place] = *value;
    }
    all
}

/// How a matrix of a layer lies in the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// `[out, in]`, as torch has it.
    OutIn,
    /// `[in, out]`, as TensorFlow and Paddle have it.
    InOut,
}

/// Names of a batch norm's four tensors.
#[derive(Debug, Clone)]
pub(super) struct BnNames {
    /// The module, for messages and facts about it.
    pub place: String,
    pub gamma: String,
    pub beta: String,
    pub mean: String,
    pub variance: String,
}

impl BnNames {
    /// As torch names them.
    pub(super) fn torch(prefix: &str) -> Self {
        Self::of(prefix, ["weight", "bias", "running_mean", "running_var"], '.')
    }

    /// As Keras and TensorFlow name them.
    pub(super) fn keras(prefix: &str) -> Self {
        Self::of(prefix, ["gamma", "beta", "moving_mean", "moving_variance"], '/')
    }

    /// The names of γ, β, μ and σ² under a prefix.
    pub(super) fn of(prefix: &str, names: [&str; 4], separator: char) -> Self {
        let [gamma, beta, mean, variance] = names.map(|name| format!("{prefix}{separator}{name}"));
        Self { place: prefix.into(), gamma, beta, mean, variance }
    }
}

/// A model that is being put together.
pub(super) struct Draft<'t> {
    pub(super) tensors: &'t mut Tensors,
    pub(super) hints: &'t Hints,
    pub(super) assumptions: Vec<String>,
    pub(super) stages: Vec<Stage>,
    /// Every constant outside of the stages.
    pub(super) bias: f64,
    /// First-order weights of the dense inputs.
    pub(super) dense_linear: Vec<f64>,
    /// Tensors that take no part in a score.
    skipped: Vec<String>,
    /// Fields whose table stands under the name of another one that shares it: field, name.
    aliases: Vec<(String, String)>,
    /// The task that the checkpoint itself states.
    known_task: Option<Task>,
    /// Whether the dialect has looked at which order takes a dense input.
    knows_only: bool,
}

/// The model's one table: the fields' own tables one after the other.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// w, `[rows]`
    pub(super) linear: Vec<f32>,
    /// V, `[rows, dim]`
    pub(super) embeddings: Vec<f32>,
}

impl<'t> Draft<'t> {
    pub(super) const fn new(tensors: &'t mut Tensors, hints: &'t Hints) -> Self {
        Self {
            tensors,
            hints,
            assumptions: Vec::new(),
            stages: Vec::new(),
            bias: 0.0,
            dense_linear: Vec::new(),
            skipped: Vec::new(),
            aliases: Vec::new(),
            known_task: None,
            knows_only: false,
        }
    }

    /// Notes, once, what the checkpoint did not say.
    pub(super) fn assume(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.assumptions.contains(&note) {
            self.assumptions.push(note);
        }
    }

    /// Says that the task is in the checkpoint.
    pub(super) const fn know_task(&mut self, task: Task) {
        self.known_task = Some(task);
    }

    /// Leaves out a tensor that takes no part in a score.
    pub(super) fn skip(&mut self, name: &str) {
        if self.tensors.entries.shift_remove(name).is_some() {
            self.skipped.push(name.into());
        }
    }

    /// The name under which the checkpoint has a field's table.
    pub(super) fn table_name(&self, field: &Field) -> String {
        let alias = self.aliases.iter().find(|(name, _)| *name == field.name);
        alias.map_or(&field.name, |(_, alias)| alias).clone()
    }

    /// Says under which name the checkpoint has a field's table, where that is not the field's.
    pub(super) fn alias(&mut self, field: &str, table: Option<&str>) {
        if let Some(table) = table.filter(|table| *table != field) {
            self.aliases.push((field.into(), table.into()));
        }
    }

    /// The width of the matrix `name`, `[rows, width]`, which is not 0.
    pub(super) fn columns(&self, name: &str) -> Result<usize> {
        match self.tensors.shape(name) {
            Some(&[rows, 0]) => {
                Err(self.tensors.refuse(name, format!("expected at least one column, found [{rows}, 0]")))
            }
            Some(&[_, columns]) => Ok(columns),
            Some(shape) => Err(self.tensors.refuse(name, format!("expected [rows, dim], found {shape:?}"))),
            None => Err(self.tensors.refuse(name, "missing; expected one of shape [rows, dim]")),
        }
    }

    /// Takes a matrix of `inputs`, as `[out, in]` row-major, and gives it with `out`.
    pub(super) fn matrix(&mut self, name: &str, stored: Stored, inputs: usize) -> Result<(Vec<f64>, usize)> {
        let (outs, expected) = match stored {
            Stored::OutIn => (0, format!("[out, {inputs}]")),
            Stored::InOut => (1, format!("[{inputs}, out]")),
        };
        let shape = self.tensors.shape(name).map(<[usize]>::to_vec);
        let Some(&[a, b]) = shape.as_deref() else {
            let problem = match shape {
                Some(shape) => format!("expected {expected}, found {shape:?}"),
                None => format!("missing; expected one of shape {expected}"),
            };
            return Err(self.tensors.refuse(name, problem));
        };
        let out = [a, b][outs];
        if [a, b][1 - outs] != inputs {
            return Err(self.tensors.refuse(name, format!("expected {expected}, found [{a}, {b}]")));
        }
        let values = self.tensors.take(name, &[a, b])?;
        Ok((if stored == Stored::InOut { transposed(&values, inputs, out) } else { values }, out))
    }

    /// Takes a layer `W h + b` of `inputs` as the next stage and gives its width. The bias may be `[out]` or `[1, out]`.
    pub(super) fn dense(
        &mut self,
        weights: &str,
        bias: Option<&str>,
        stored: Stored,
        inputs: usize,
    ) -> Result<usize> {
        let (weights, out) = self.matrix(weights, stored, inputs)?;
        let bias = match bias {
            None => vec![0.0; out],
            Some(name) if self.tensors.shape(name) == Some(&[1, out]) => {
                self.tensors.take(name, &[1, out])?
            }
            Some(name) => self.tensors.take(name, &[out])?,
        };
        self.stages.push(Stage::Dense(Dense { weights, bias }));
        Ok(out)
    }

    /// Takes a last layer: as [`Draft::dense`], of one output.
    pub(super) fn head(
        &mut self,
        weights: &str,
        bias: Option<&str>,
        stored: Stored,
        inputs: usize,
    ) -> Result<()> {
        match self.dense(weights, bias, stored, inputs)? {
            1 => Ok(()),
            out => Err(self.tensors.refuse(weights, format!("expected one output, found {out}"))),
        }
    }

    /// A last layer that is the sum of its `inputs`.
    pub(super) fn sum(&mut self, inputs: usize) {
        self.stages.push(Stage::Dense(Dense { weights: vec![1.0; inputs], bias: vec![0.0] }));
    }

    /// Takes a batch norm of `width` as the next stage. Its ε is the user's, the schema's, the checkpoint's, or the trainer's
    /// `eps`; where a trainer's user chooses, that is `None`, and one that nobody said is an error.
    pub(super) fn batch_norm(&mut self, names: &BnNames, width: usize, eps: Option<f64>) -> Result<()> {
        let eps = self.eps(&names.place, eps)?;
        let mut take = |name: &str| self.tensors.take(name, &[width]);
        let (gamma, beta) = (take(&names.gamma)?, take(&names.beta)?);
        let (mean, variance) = (take(&names.mean)?, take(&names.variance)?);
        if let Some(at) = variance.iter().position(|variance| *variance + eps <= 0.0) {
            let problem = format!("element {at} is {}, not a variance", variance[at]);
            return Err(self.tensors.refuse(&names.variance, problem));
        }
        self.stages.push(Stage::BatchNorm(BatchNorm { gamma, beta, mean, variance, eps }));
        Ok(())
    }

    fn eps(&self, place: &str, own: Option<f64>) -> Result<f64> {
        let float = |name: &str| match self.tensors.facts.get(name) {
            Some(Fact::Float(eps)) => Some(*eps),
            _ => None,
        };
        let fact = || float(&format!("{place}.eps")).or_else(|| float("config.bn_eps"));
        let refuse = |problem: String| {
            Err(Error::refused(&self.tensors.file, format!("batch norm `{place}`"), problem))
        };
        match self.hints.said_bn_eps().or_else(fact).or(own) {
            Some(eps) if eps.is_finite() && eps >= 0.0 => Ok(eps),
            Some(eps) => refuse(format!("expected an eps of at least 0, found {eps}; say --bn-eps")),
            None => refuse(
                "its eps is not in the checkpoint: say --bn-eps (PyTorch's default is 1e-5, the paper's code has 1e-3), \
                 or `bn_eps` in the schema"
                    .into(),
            ),
        }
    }

    /// The activation of a hidden layer, by the user, the schema or the checkpoint's `module`, or relu, which is then noted.
    pub(super) fn activation(&mut self, module: &str) -> Result<()> {
        let activation = self.hints.activation(self.tensors, module, &mut self.assumptions)?;
        self.stages.push(Stage::Activation(activation));
        Ok(())
    }

    /// As [`Draft::activation`], or else the trainer's `own`.
    pub(super) fn activation_or(&mut self, module: &str, own: Activation) -> Result<()> {
        let known = self.hints.known_activation(self.tensors, module)?;
        self.stages.push(Stage::Activation(known.unwrap_or(own)));
        Ok(())
    }

    /// Takes one number: `[1]`, `[1, 1]` or `[]`.
    pub(super) fn number(&mut self, name: &str) -> Result<f64> {
        let shape = self.tensors.shape(name).map_or_else(|| vec![1], <[usize]>::to_vec);
        if shape.iter().any(|extent| *extent != 1) {
            return Err(self.tensors.refuse(name, format!("expected one number, found {shape:?}")));
        }
        Ok(self.tensors.take(name, &shape)?.iter().sum())
    }

    /// The fields, from the tables that the checkpoint has and the number of dense inputs, checked against the schema where
    /// there is one: it may reorder them, and say that ids are a sequence or share a table.
    pub(super) fn fields_of_tables(&mut self, tables: &[Field], dense: usize) -> Result<Vec<Field>> {
        self.fields_of_tables_as(self.hints.schema_fields().to_vec(), tables, dense)
    }

    /// As [`Draft::fields_of_tables`], with the schema's fields as the dialect understands them.
    pub(super) fn fields_of_tables_as(
        &mut self,
        said: Vec<Field>,
        tables: &[Field],
        dense: usize,
    ) -> Result<Vec<Field>> {
        if said.is_empty() {
            return self.made_up(tables.to_vec(), dense);
        }
        self.check_dense(&said, dense)?;
        let refuse = |problem| Err(Error::refused(&self.tensors.file, "schema", problem));
        let mut used = Vec::new();
        for field in said.iter().filter(|field| field.table.is_none() && field.kind != FieldKind::Dense) {
            let (name, rows) = (&field.name, field.kind.rows());
            // Its own table, or one that stands under the name of a field that shares it.
            let sharers = said.iter().filter(|other| other.table.as_ref() == Some(name));
            let mut names = std::iter::once(field).chain(sharers).map(|field| self.table_name(field));
            let Some(table) = names.find_map(|name| tables.iter().find(|table| table.name == name)) else {
                return refuse(format!("the checkpoint has no table for the field `{name}`"));
            };
            let found = table.kind.rows();
            if found != rows {
                return refuse(format!(
                    "field `{name}`: the schema says {rows} rows, the checkpoint has {found}"
                ));
            }
            if table.name != *name {
                self.aliases.push((name.clone(), table.name.clone()));
            }
            used.push(&table.name);
        }
        let missing =
            tables.iter().find(|table| used.iter().filter(|name| **name == &table.name).count() != 1);
        match missing {
            Some(Field { name, kind, .. }) => refuse(format!(
                "the checkpoint's field `{name}` of {} rows is not in it, or another is twice",
                kind.rows()
            )),
            None => Ok(said),
        }
    }

    /// The dense inputs of `fields`, of which the layers take `deep` and the first order `linear`; `None` where no field says
    /// `only`.
    pub(super) fn dense_columns(
        &mut self,
        fields: &[Field],
        deep: usize,
        linear: usize,
    ) -> Result<Option<DenseColumns>> {
        self.knows_only = true;
        let dense: Vec<_> = fields.iter().filter(|field| field.kind == FieldKind::Dense).collect();
        if dense.iter().all(|field| field.only.is_none()) {
            return Ok(None);
        }
        let but = |order| (0..dense.len()).filter(|at| dense[*at].only != Some(order)).collect::<Vec<_>>();
        let columns = DenseColumns { total: dense.len(), deep: but(Order::Linear), linear: but(Order::Deep) };
        if (columns.deep.len(), columns.linear.len()) == (deep, linear) {
            return Ok(Some(columns));
        }
        let problem = format!(
            "the checkpoint's layers take {deep} dense inputs and its first order {linear}, by the schema they take {} and {}",
            columns.deep.len(),
            columns.linear.len()
        );
        Err(Error::refused(&self.tensors.file, "schema", problem))
    }

    /// Gives the first layer a column for each dense input, after its `lanes`: zeros for those that it does not take.
    pub(super) fn widen_first_layer(&mut self, lanes: usize, columns: &DenseColumns) {
        let first = self.stages.iter_mut().find_map(|stage| match stage {
            Stage::Dense(dense) => Some(dense),
            _ => None,
        });
        let Some(first) = first.filter(|_| columns.deep.len() < columns.total) else { return };
        let rows = first.weights.chunks_exact((lanes + columns.deep.len()).max(1));
        let wide =
            rows.map(|row| [&row[..lanes], &spread(&row[lanes..], &columns.deep, columns.total)].concat());
        first.weights = wide.collect::<Vec<_>>().concat();
    }

    /// The fields of one table of `rows` for all: the schema's, whose rows must add up, or `otherwise`.
    pub(super) fn fields_of_one_table(
        &mut self,
        rows: usize,
        dense: usize,
        otherwise: impl FnOnce(u32) -> Vec<Field>,
    ) -> Result<Vec<Field>> {
        let said = self.hints.schema_fields().to_vec();
        if said.is_empty() {
            return self.made_up(otherwise(u32::try_from(rows).unwrap_or(u32::MAX)), dense);
        }
        self.check_dense(&said, dense)?;
        if total_rows(&said) != rows as u64 {
            let problem =
                format!("the checkpoint has {rows} rows, the schema's fields {}", total_rows(&said));
            return Err(Error::refused(&self.tensors.file, "schema", problem));
        }
        Ok(said)
    }

    /// The `count` numbers with rows of their own, in the model's order: the schema's `scaled` fields, or made up without one.
    pub(super) fn scaled_fields(&mut self, count: usize) -> Result<Vec<Field>> {
        let said = self.hints.schema_fields();
        if said.is_empty() {
            if count > 0 {
                self.assume(format!(
                    "the {count} numbers with rows of their own are called dense_0 … in the model's order; a schema can name them"
                ));
            }
            return Ok((0..count).map(|i| Field::new(format!("dense_{i}"), FieldKind::Scaled)).collect());
        }
        let fields: Vec<Field> =
            said.iter().filter(|field| field.kind == FieldKind::Scaled).cloned().collect();
        if fields.len() == count {
            return Ok(fields);
        }
        let problem = format!(
            "the checkpoint has {count} numbers with rows of their own, the schema {} fields of type scaled",
            fields.len()
        );
        Err(Error::refused(&self.tensors.file, "schema", problem))
    }

    /// The fields where no schema says them: these, and then the dense inputs.
    fn made_up(&mut self, mut fields: Vec<Field>, dense: usize) -> Result<Vec<Field>> {
        if dense > 1 {
            self.assume(format!(
                "the {dense} dense inputs are called dense_0 … in the order of the model's dense columns; a schema can name them"
            ));
        }
        fields.extend((0..dense).map(|i| Field::new(format!("dense_{i}"), FieldKind::Dense)));
        lay_out(&mut fields).map_err(|problem| Error::refused(&self.tensors.file, "fields", problem))?;
        Ok(fields)
    }

    fn check_dense(&self, fields: &[Field], dense: usize) -> Result<()> {
        if let Some(field) = fields.iter().find(|field| field.only.is_some() && !self.knows_only) {
            let problem = "`only` is not supported by this dialect, whose orders take the same dense inputs: leave it out";
            return Err(Error::refused(
                &self.tensors.file,
                format!("schema, field `{}`", field.name),
                problem,
            ));
        }
        let said = dense_inputs(fields);
        if said == dense {
            return Ok(());
        }
        let problem = format!("the checkpoint has {dense} dense inputs, the schema {said}");
        Err(Error::refused(&self.tensors.file, "schema", problem))
    }

    /// Refuses a sequence that the schema pools in another way than the trainer.
    pub(super) fn check_pooling(&self, field: &Field, second: &[Pooling], first: Pooling) -> Result<()> {
        let FieldKind::Sequence(sequence) = field.kind else { return Ok(()) };
        let problem = if !second.contains(&sequence.pooling) {
            let poolings: Vec<&str> = second.iter().map(|pooling| pooling.name()).collect();
            format!("expected pooling {}, found {}", poolings.join(" or "), sequence.pooling.name())
        } else if sequence.linear != first {
            let found = sequence.linear.name();
            format!("expected linear_pooling {}, as the trainer has it, found {found}", first.name())
        } else {
            return Ok(());
        };
        Err(Error::refused(&self.tensors.file, format!("schema, field `{}`", field.name), problem))
    }

    /// The rows of fields with tables of their own, each by `table`: its first-order weights `[rows]` and its embeddings
    /// `[rows, dim]`.
    pub(super) fn rows(
        &mut self,
        fields: &[Field],
        mut table: impl FnMut(&mut Self, &Field) -> Result<(Vec<f32>, Vec<f32>)>,
    ) -> Result<Rows> {
        let mut rows = Rows::default();
        for field in fields.iter().filter(|field| field.table.is_none() && field.kind != FieldKind::Dense) {
            let (linear, embeddings) = table(self, field)?;
            rows.linear.extend(linear);
            rows.embeddings.extend(embeddings);
        }
        Ok(rows)
    }

    /// The most active entries in a row: said, or what the fields have at most.
    fn max_active(&mut self, fields: &[Field]) -> u16 {
        if let Some(said) = self.hints.said_max_active() {
            return said;
        }
        let many: Vec<&Field> =
            fields.iter().filter(|field| matches!(field.kind, FieldKind::Ids { .. })).collect();
        let mut active = 0_u16;
        for field in fields {
            active = active.saturating_add(match field.kind {
                FieldKind::Dense => 0,
                FieldKind::Ids { .. } if many.len() == 1 => DEFAULT_MAX_ACTIVE,
                FieldKind::Id { .. } | FieldKind::Ids { .. } | FieldKind::Scaled => 1,
                FieldKind::Sequence(sequence) => sequence.max_len.unwrap_or_else(|| {
                    let name = &field.name;
                    self.assume(format!(
                        "at most {DEFAULT_MAX_LEN} ids in `{name}`; if more, say max_len in the schema, or --max-active"
                    ));
                    DEFAULT_MAX_LEN
                }),
            });
        }
        match many.len() {
            0 => {}
            1 => self.assume(format!("at most {active} active entries in a row; if more, say --max-active")),
            _ => self.assume(format!(
                "at most {active} active entries in a row, one a field; if more, say --max-active"
            )),
        }
        active
    }

    /// The model; the task is the user's, the schema's, that of the fact `task`, or `default`, which is then noted.
    pub(super) fn finish(
        mut self,
        dialect: &'static str,
        fields: Vec<Field>,
        dim: usize,
        rows: Rows,
        task: (&str, Task),
    ) -> Result<FloatModel> {
        let stated = self
            .known_task
            .map(|task| Fact::Text(if task == Task::Binary { "binary".into() } else { "regression".into() }));
        let fact = stated.as_ref().or_else(|| self.tensors.facts.get(task.0));
        let task = self.hints.task(&self.tensors.file, fact, task.1, &mut self.assumptions)?;
        Ok(FloatModel {
            dialect,
            max_active: self.max_active(&fields),
            max_value: self.hints.said_max_value().unwrap_or(1.0),
            fields,
            bias: self.bias,
            linear: rows.linear,
            dense_linear: self.dense_linear,
            dim,
            embeddings: rows.embeddings,
            stages: self.stages,
            link: Link::of(task),
            parameters: 0,
            assumptions: self.assumptions,
            skipped: self.skipped,
        })
    }
}

/// `[rows, columns]` row-major as `[columns, rows]`.
pub(super) fn transposed<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

/// Rows of a table as an extent of a tensor.
pub(super) fn extent(field: &Field) -> usize {
    field.kind.rows() as usize
}

/// A field of ids with a table of `rows`.
pub(super) fn id_field(name: impl Into<String>, rows: usize) -> Field {
    Field::new(name, FieldKind::Id { rows: u32::try_from(rows).unwrap_or(u32::MAX) })
}

/// The kernels of Keras's `dense`, `dense_1` …, in order, whatever stands before these names.
pub(super) fn dense_kernels(tensors: &Tensors) -> Vec<String> {
    let number = |name: &String| -> Option<usize> {
        let rest = name.rsplit_once("dense")?.1.strip_suffix("/kernel")?;
        if rest.is_empty() { Some(0) } else { rest.strip_prefix('_')?.parse().ok() }
    };
    let mut kernels: Vec<(usize, String)> =
        tensors.entries.keys().filter_map(|name| Some((number(name)?, name.clone()))).collect();
    kernels.sort();
    kernels.into_iter().map(|(_, name)| name).collect()
}
