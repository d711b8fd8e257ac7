//! The float model: a checkpoint's content with the graph as data, which scores by itself in `f64`.
//!
//! It is the oracle for everything after it, and so computes by the definition, in the order of the equation, and
//! shares no code with the device library.

use crate::{
    encoding::spec::Policy,
    error::{Error, Result},
    rows::{Row, Run},
    schema::{Field, FieldKind, Pooling, Task, dense_inputs, total_rows},
};

/// A Neural Factorization Machine in floats.
///
/// `y(x) = bias + Σ linear[i] · x_i + Σ dense_linear[d] · dense[d] + stages(z)`, where z is the Bi-Interaction of the
/// embeddings and the last stage leaves one number.
#[derive(Debug, Clone, PartialEq)]
pub struct FloatModel {
    /// Which trainer's names and graph the checkpoint had.
    pub dialect: &'static str,
    /// The input's columns, [laid out](crate::schema::lay_out).
    pub fields: Vec<Field>,
    /// The most active entries that a row may have.
    pub max_active: u16,
    /// The largest magnitude of a value; 1 when values are no part of the trainer's graph.
    pub max_value: f64,
    /// w0 and whatever other constant the trainer adds outside of the stages.
    pub bias: f64,
    /// w, `[rows]`
    pub linear: Vec<f32>,
    /// First-order weights of the dense inputs, `[dense inputs]`.
    pub dense_linear: Vec<f64>,
    /// Embedding width k.
    pub dim: usize,
    /// V, `[rows, dim]` row-major.
    pub embeddings: Vec<f32>,
    /// What happens to z, in order; the last one leaves one number.
    pub stages: Vec<Stage>,
    /// What follows the score.
    pub link: Link,
    /// How many numbers the checkpoint holds for it.
    pub parameters: usize,
    /// Facts that the checkpoint did not hold and that were assumed, for the user to see.
    pub assumptions: Vec<String>,
    /// Tensors that were skipped because a score does not need them.
    pub skipped: Vec<String>,
}

/// One step of the graph, on a vector.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// `γ · (h − μ) / √(σ² + ε) + β`, all `[width]`.
    BatchNorm(BatchNorm),
    /// Every lane times a number, as Paddle's dropout does at inference.
    Scale(f64),
    /// Appends the dense inputs, which without it have first-order weights only.
    Concat,
    /// `W h + b`
    Dense(Dense),
    /// An activation function.
    Activation(Activation),
}

/// Batch normalization with its stored statistics.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNorm {
    /// γ
    pub gamma: Vec<f64>,
    /// β
    pub beta: Vec<f64>,
    /// μ
    pub mean: Vec<f64>,
    /// σ²
    pub variance: Vec<f64>,
    /// ε
    pub eps: f64,
}

impl BatchNorm {
    /// The affine function that it is at inference: scale and shift, `[width]` each.
    #[must_use]
    pub fn affine(&self) -> (Vec<f64>, Vec<f64>) {
        let scale: Vec<f64> = self
            .gamma
            .iter()
            .zip(&self.variance)
            .map(|(gamma, variance)| gamma / (variance + self.eps).sqrt())
            .collect();
        let shift =
            self.beta.iter().zip(&scale).zip(&self.mean).map(|((beta, scale), mean)| beta - scale * mean);
        (scale.clone(), shift.collect())
    }
}

/// A fully connected stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    /// `[out, in]` row-major.
    pub weights: Vec<f64>,
    /// `[out]`; zeros when the trainer has none.
    pub bias: Vec<f64>,
}

impl Dense {
    /// Width of the input.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.weights.len().checked_div(self.bias.len()).unwrap_or(0)
    }
}

/// An activation function.
#[derive(Debug, Clone, PartialEq)]
pub enum Activation {
    /// x
    Identity,
    /// max(0, x)
    Relu,
    /// x where positive, else slope · x.
    LeakyRelu(f64),
    /// x where positive, else slope · x, a slope for each lane.
    PRelu(Vec<f64>),
    /// 1 / (1 + e⁻ˣ)
    Sigmoid,
    /// tanh x
    Tanh,
    /// x where positive, else alpha · (eˣ − 1).
    Elu(f64),
}

impl Activation {
    /// The activation of this name, as PyTorch and Keras spell it; `None` for one that is not supported.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "identity" | "linear" | "none" => Self::Identity,
            "relu" => Self::Relu,
            "leakyrelu" | "leaky_relu" => Self::LeakyRelu(0.01),
            "sigmoid" => Self::Sigmoid,
            "tanh" => Self::Tanh,
            "elu" => Self::Elu(1.0),
            _ => return None,
        })
    }

    /// Names that [`Activation::by_name`] knows.
    pub const NAMES: &'static str = "identity, relu, leaky_relu, sigmoid, tanh, elu";

    /// f(x) on lane `lane`.
    #[must_use]
    pub fn apply(&self, lane: usize, x: f64) -> f64 {
        match self {
            Self::Identity => x,
            Self::Relu => x.max(0.0),
            Self::LeakyRelu(slope) => {
                if x >= 0.0 {
                    x
                } else {
                    slope * x
                }
            }
            Self::PRelu(slopes) => {
                if x >= 0.0 {
                    x
                } else {
                    slopes[lane] * x
                }
            }
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Tanh => x.tanh(),
            Self::Elu(alpha) => {
                if x >= 0.0 {
                    x
                } else {
                    alpha * x.exp_m1()
                }
            }
        }
    }

    /// As `nfm inspect` shows it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Identity => "identity".into(),
            Self::Relu => "relu".into(),
            Self::LeakyRelu(slope) => format!("leaky_relu({slope})"),
            Self::PRelu(slopes) => format!("prelu({} slopes)", slopes.len()),
            Self::Sigmoid => "sigmoid".into(),
            Self::Tanh => "tanh".into(),
            Self::Elu(alpha) => format!("elu({alpha})"),
        }
    }
}

/// What follows the raw score.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum Link {
    /// A probability.
    Sigmoid,
    /// The score itself.
    Identity,
    /// The score, clamped.
    Clip {
        /// Lower end.
        min: f64,
        /// Upper end.
        max: f64,
    },
}

impl Link {
    /// The link of a task.
    #[must_use]
    pub const fn of(task: Task) -> Self {
        match task {
            Task::Binary => Self::Sigmoid,
            Task::Regression => Self::Identity,
        }
    }

    /// The prediction.
    #[must_use]
    pub fn apply(self, score: f64) -> f64 {
        match self {
            Self::Sigmoid => 1.0 / (1.0 + (-score).exp()),
            Self::Identity => score,
            Self::Clip { min, max } => score.clamp(min, max),
        }
    }

    /// As `nfm inspect` shows it.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Sigmoid => "sigmoid".into(),
            Self::Identity => "identity".into(),
            Self::Clip { min, max } => format!("clip({min}, {max})"),
        }
    }
}

impl FloatModel {
    /// Rows of the embedding table.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.linear.len()
    }

    /// Checks that all shapes fit together and no limit is absurd, so that scoring cannot go wrong.
    ///
    /// # Errors
    ///
    /// Names the stage whose width does not fit, or the number that is out of range.
    pub fn check(&self, file: &str) -> Result<()> {
        self.check_limits(file)?;
        let dense = dense_inputs(&self.fields);
        let rows = usize::try_from(total_rows(&self.fields)).unwrap_or(usize::MAX);
        for (place, expected, found) in [
            ("fields", self.rows(), rows),
            ("dense inputs", dense, self.dense_linear.len()),
            ("embeddings", rows.saturating_mul(self.dim), self.embeddings.len()),
        ] {
            if expected != found {
                return Err(mismatch(file, place.into(), expected, found));
            }
        }
        self.check_stages(file, dense)
    }

    fn check_limits(&self, file: &str) -> Result<()> {
        let refuse = |place: &str, problem: String| Err(Error::refused(file, place, problem));
        let empty = self.fields.iter().find(|field| field.kind != FieldKind::Dense && field.kind.rows() == 0);
        if let Some(field) = empty {
            return refuse(&format!("field `{}`", field.name), "expected rows, found an empty table".into());
        }
        if self.dim == 0 || self.rows() == 0 {
            let (rows, dim) = (self.rows(), self.dim);
            return refuse(
                "embeddings",
                format!("expected at least one row and one lane, found [{rows}, {dim}]"),
            );
        }
        if self.max_active == 0 {
            return refuse(
                "max_active",
                "expected at least 1 active entry, found 0; say --max-active".into(),
            );
        }
        let ids = self.fields.iter().filter(|field| field.kind != FieldKind::Dense).count();
        let single = |field: &&Field| matches!(field.kind, FieldKind::Id { .. } | FieldKind::Scaled);
        let least = self.fields.iter().filter(single).count();
        if usize::from(self.max_active) < least {
            let problem = format!(
                "expected at least {least}, as {least} of the {ids} id fields have an entry in every row, found {}; \
                 leave --max-active out",
                self.max_active
            );
            return refuse("max_active", problem);
        }
        if !(self.max_value.is_finite() && self.max_value >= 1.0) {
            return refuse(
                "max_value",
                format!(
                    "expected a finite number of at least 1, which is the value of an entry that states none, found {}; \
                     say --max-value",
                    self.max_value
                ),
            );
        }
        Ok(())
    }

    fn check_stages(&self, file: &str, dense: usize) -> Result<()> {
        let mut width = self.dim;
        let joins = self.stages.contains(&Stage::Concat);
        let mut waiting = if joins { dense } else { 0 };
        for (position, stage) in self.stages.iter().enumerate() {
            let (needs, gives) = match stage {
                Stage::BatchNorm(bn) => {
                    let lens = [&bn.gamma, &bn.beta, &bn.mean, &bn.variance].map(Vec::len);
                    (lens.into_iter().find(|len| *len != width).unwrap_or(width), width)
                }
                Stage::Scale(_) => (width, width),
                Stage::Concat => (width, width + std::mem::take(&mut waiting)),
                Stage::Dense(dense) => (dense.inputs(), dense.bias.len()),
                Stage::Activation(Activation::PRelu(slopes)) => (slopes.len(), width),
                Stage::Activation(_) => (width, width),
            };
            if waiting > 0 && matches!(stage, Stage::Dense(_) | Stage::Activation(_)) {
                let problem = format!("expected the {dense} dense inputs to join z before it");
                return Err(Error::refused(file, format!("stage {position}"), problem));
            }
            if needs != width {
                return Err(mismatch(file, format!("stage {position}"), width, needs));
            }
            if let Stage::Dense(dense) = stage
                && (gives == 0 || dense.weights.len() != gives * width)
            {
                let problem = format!("expected {gives} × {width} weights, found {}", dense.weights.len());
                return Err(Error::refused(file, format!("stage {position}"), problem));
            }
            width = gives;
        }
        if width == 1 { Ok(()) } else { Err(mismatch(file, "last stage".into(), 1, width)) }
    }

    /// z of the row's terms, `[dim]`: ½ ((Σ e)² − Σ e²), with e = x v of an entry, or the pooled e of a sequence's.
    #[must_use]
    pub fn bi_interaction(&self, row: &Row) -> Vec<f64> {
        let mut sum = vec![0.0; self.dim];
        let mut squares = vec![0.0; self.dim];
        for run in row.terms() {
            for (lane, (sum, square)) in sum.iter_mut().zip(&mut squares).enumerate() {
                let e = pooled(run.pooling, run, |position| {
                    let at = row.ids[position] as usize * self.dim + lane;
                    row.value(position) * f64::from(self.embeddings[at])
                });
                *sum += e;
                *square += e * e;
            }
        }
        sum.iter().zip(&squares).map(|(sum, square)| 0.5 * (sum * sum - square)).collect()
    }

    /// The first-order part and the bias.
    #[must_use]
    pub fn first_order(&self, row: &Row) -> f64 {
        let weight = |position| row.value(position) * f64::from(self.linear[row.ids[position] as usize]);
        let active = row.terms().map(|run| pooled(run.linear, run, weight));
        let dense = self.dense_linear.iter().zip(&row.dense).map(|(weight, x)| weight * x);
        self.bias + active.sum::<f64>() + dense.sum::<f64>()
    }

    /// Scores a row that [`FloatModel::accepts`].
    #[must_use]
    pub fn score(&self, row: &Row) -> f64 {
        let mut h = self.bi_interaction(row);
        for stage in &self.stages {
            h = match stage {
                Stage::BatchNorm(bn) => {
                    let normalize = |(lane, h): (usize, &f64)| {
                        bn.gamma[lane] * (h - bn.mean[lane]) / (bn.variance[lane] + bn.eps).sqrt()
                            + bn.beta[lane]
                    };
                    h.iter().enumerate().map(normalize).collect()
                }
                Stage::Scale(scale) => h.iter().map(|h| scale * h).collect(),
                Stage::Concat => h.into_iter().chain(row.dense.iter().copied()).collect(),
                Stage::Dense(dense) => {
                    let rows = dense.weights.chunks_exact(h.len()).zip(&dense.bias);
                    rows.map(|(w, b)| b + w.iter().zip(&h).map(|(w, h)| w * h).sum::<f64>()).collect()
                }
                Stage::Activation(f) => h.iter().enumerate().map(|(lane, h)| f.apply(lane, *h)).collect(),
            };
        }
        self.first_order(row) + h.iter().sum::<f64>()
    }

    /// Whether `row` can be scored.
    ///
    /// # Errors
    ///
    /// Says which entry cannot.
    pub fn accepts(&self, row: &Row) -> core::result::Result<(), String> {
        if let Some((position, id)) = row.ids.iter().enumerate().find(|(_, id)| **id as usize >= self.rows())
        {
            return Err(format!("entry {position}: expected an id below {}, found {id}", self.rows()));
        }
        if row.dense.len() != self.dense_linear.len() {
            return Err(format!(
                "expected {} dense inputs, found {}",
                self.dense_linear.len(),
                row.dense.len()
            ));
        }
        for (what, values) in
            [("entry", row.values.as_deref().unwrap_or_default()), ("dense input", &row.dense)]
        {
            if let Some((position, value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
                return Err(format!("{what} {position}: expected a finite value, found {value}"));
            }
        }
        self.accepts_fields(row)
    }

    /// Whether `row` has what each field asks for.
    fn accepts_fields(&self, row: &Row) -> core::result::Result<(), String> {
        let single = |field: &Field| matches!(field.kind, FieldKind::Id { .. } | FieldKind::Scaled);
        let alone: Vec<usize> =
            row.terms().filter(|run| !run.is_sequence).map(|run| run.entries().start).collect();
        for field in self.fields.iter().filter(|field| single(field)) {
            let shares = |other: &&Field| other.rows() == field.rows();
            if self.fields.iter().filter(shares).any(|other| matches!(other.kind, FieldKind::Ids { .. })) {
                continue;
            }
            let expected =
                self.fields.iter().filter(|other| single(other) && other.rows() == field.rows()).count();
            let mut entries = alone.iter().filter(|at| field.rows().contains(&row.ids[**at].into()));
            let found = entries.clone().count();
            // What has no id has no entry where the schema says so.
            let zero = |policy| policy == Policy::Zero;
            if found < expected && (zero(field.encoding.unseen) || zero(field.encoding.missing)) {
                continue;
            }
            if found != expected {
                let (expected, ids) =
                    if expected == 1 { ("one".into(), "id") } else { (expected.to_string(), "ids") };
                return Err(format!(
                    "field `{}`: expected exactly {expected} {ids}, as a {} model takes, found {found}",
                    field.name, self.dialect
                ));
            }
            let weighted = entries.find(|at| row.value(**at).total_cmp(&1.0).is_ne());
            if let Some(position) = weighted.filter(|_| field.kind != FieldKind::Scaled) {
                return Err(format!(
                    "entry {position}: expected no value, as field `{}` of a {} model takes none, found {}",
                    field.name,
                    self.dialect,
                    row.value(*position)
                ));
            }
        }
        Ok(())
    }

    /// The tables: (first row, rows) of each.
    pub fn tables(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let own = self.fields.iter().filter(|field| field.table.is_none() && field.kind != FieldKind::Dense);
        own.map(|field| (field.first as usize, field.kind.rows() as usize))
    }
}

/// `f` of the run's entries, pooled.
fn pooled(pooling: Pooling, run: Run, f: impl Fn(usize) -> f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a row has fewer than 2^16 entries")]
    let n = run.len.max(1) as f64;
    let values = run.entries().map(f);
    match pooling {
        Pooling::Sum => values.sum(),
        Pooling::Mean => values.sum::<f64>() / n,
        Pooling::SqrtN => values.sum::<f64>() / n.sqrt(),
        Pooling::Max => values.reduce(f64::max).unwrap_or(0.0),
    }
}

fn mismatch(file: &str, place: String, expected: usize, found: usize) -> Error {
    Error::refused(file, place, format!("expected width {expected}, found {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three rows of two lanes; BN, a dense input, one hidden layer.
    fn small() -> FloatModel {
        let ids = Field::new("f", FieldKind::Ids { rows: 3 });
        let dense = Field::new("d", FieldKind::Dense);
        FloatModel {
            dialect: "test",
            fields: vec![ids, dense],
            max_active: 8,
            max_value: 4.0,
            bias: 0.5,
            linear: vec![1.0, -2.0, 4.0],
            dense_linear: vec![0.25],
            dim: 2,
            embeddings: vec![1.0, 2.0, 3.0, -1.0, 0.5, 4.0],
            stages: vec![
                Stage::BatchNorm(BatchNorm {
                    gamma: vec![2.0, 1.0],
                    beta: vec![0.0, 1.0],
                    mean: vec![1.0, -2.0],
                    variance: vec![3.0, 8.0],
                    eps: 1.0,
                }),
                Stage::Concat,
                Stage::Dense(Dense { weights: vec![1.0, 1.0, 2.0, -1.0, 0.0, 0.0], bias: vec![0.0, 0.5] }),
                Stage::Activation(Activation::Relu),
                Stage::Dense(Dense { weights: vec![10.0, 100.0], bias: vec![0.125] }),
            ],
            link: Link::Identity,
            parameters: 0,
            assumptions: vec![],
            skipped: vec![],
        }
    }

    #[test]
    fn the_score_is_what_hand_arithmetic_gives() {
        let model = small();
        model.check("test").unwrap();
        // Rows 0 and 1: z = (1·3, 2·-1) = (3, -2).
        // BN: (2·(3-1)/√4, 1·(-2+2)/√9 + 1) = (2, 1). Dense input 3: (2, 1, 3).
        // Hidden: (2 + 1 + 6, -2 + 0.5) = (9, -1.5) → relu (9, 0) → 10·9 + 0.125 = 90.125.
        // First order: 0.5 + 1 - 2 + 0.25·3 = 0.25.
        let row = Row { ids: vec![0, 1], dense: vec![3.0], ..Row::default() };
        assert!((model.score(&row) - 90.375).abs() < 1e-12);
    }

    #[test]
    fn the_bi_interaction_is_the_sum_over_pairs() {
        let model = small();
        let row = Row {
            ids: vec![0, 1, 2, 1, 0],
            values: Some(vec![0.5, -2.0, 1.5, 3.0, 1.0]),
            dense: vec![0.0],
            ..Row::default()
        };
        for lane in 0..2 {
            let e = |i: usize| row.value(i) * f64::from(model.embeddings[row.ids[i] as usize * 2 + lane]);
            let pairs = (0..5).flat_map(|i| (0..i).map(move |j| (i, j)));
            let want: f64 = pairs.map(|(i, j)| e(i) * e(j)).sum();
            assert!((model.bi_interaction(&row)[lane] - want).abs() < 1e-12, "lane {lane}");
        }
    }

    #[test]
    fn a_sequence_is_one_term() {
        let mut model = small();
        let run = |pooling, linear| Run { start: 1, len: 2, pooling, linear, is_sequence: true };
        let z = |model: &FloatModel, pooling| {
            let row =
                Row { ids: vec![0, 1, 2], sequences: vec![run(pooling, Pooling::Sum)], ..Row::default() };
            model.bi_interaction(&row)
        };
        // Rows 1 and 2 are (3, −1) and (0.5, 4), and meet row 0, (1, 2).
        for (pooling, want) in [
            (Pooling::Sum, [3.5, 6.0]),
            (Pooling::Mean, [1.75, 3.0]),
            (Pooling::SqrtN, [3.5 / 2f64.sqrt(), 6.0 / 2f64.sqrt()]),
            (Pooling::Max, [3.0, 8.0]),
        ] {
            let got = z(&model, pooling);
            assert!(
                got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-12),
                "{pooling:?}: {got:?}"
            );
        }
        // First order of 1, −2 and 4, the last two pooled.
        model.bias = 0.0;
        for (linear, want) in [(Pooling::Sum, 3.0), (Pooling::Mean, 2.0), (Pooling::Max, 5.0)] {
            let sequences = vec![run(Pooling::Sum, linear)];
            let row = Row { ids: vec![0, 1, 2], sequences, ..Row::default() };
            assert!((model.first_order(&row) - want).abs() < 1e-12, "{linear:?}");
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused_by_stage() {
        let mut model = small();
        model.stages.remove(1);
        let error = model.check("m.pt").unwrap_err().to_string();
        assert_eq!(error, "m.pt: stage 1: expected width 2, found 3");
    }

    #[test]
    fn what_cannot_be_scored_without_a_panic_is_refused() {
        type Break = fn(&mut FloatModel);
        let cases: [(Break, &str); 10] = [
            (|m| (m.dim, m.embeddings) = (0, vec![]), "at least one row and one lane, found [3, 0]"),
            (|m| m.fields.clear(), "fields: expected width 3, found 0"),
            (|m| (m.fields[0].kind, m.linear) = (FieldKind::Ids { rows: 0 }, vec![]), "field `f`"),
            (|m| m.max_active = 0, "max_active"),
            (|m| m.max_value = f64::NAN, "max_value"),
            (|m| m.max_value = 0.5, "max_value"),
            (|m| m.dense_linear.clear(), "dense inputs: expected width 1, found 0"),
            (|m| m.stages.swap(1, 2), "stage 1: expected the 1 dense inputs to join z before it"),
            (|m| m.stages[4] = Stage::Dense(Dense { weights: vec![], bias: vec![] }), "stage 4"),
            (|m| m.stages.truncate(2), "last stage: expected width 1, found 3"),
        ];
        for (spoil, essential) in cases {
            let mut model = small();
            spoil(&mut model);
            let message = model.check("m.pt").unwrap_err().to_string();
            assert!(message.starts_with("m.pt: ") && message.contains(essential), "{essential}: {message}");
        }
        let mut ragged = small();
        let Stage::Dense(dense) = &mut ragged.stages[2] else { return };
        dense.weights.push(0.0);
        assert!(ragged.check("m.pt").unwrap_err().to_string().contains("2 × 3 weights, found 7"));
    }

    #[test]
    fn a_row_that_does_not_fit_is_refused_by_entry() {
        let mut model = small();
        let accepts = |model: &FloatModel, ids: &[u32], values: Option<Vec<f64>>, dense: &[f64]| {
            model.accepts(&Row { ids: ids.to_vec(), values, dense: dense.to_vec(), ..Row::default() })
        };
        accepts(&model, &[], None, &[1.0]).unwrap();
        for (ids, values, dense, essential) in [
            (&[0, 3][..], None, &[1.0][..], "entry 1: expected an id below 3, found 3"),
            (&[0], Some(vec![f64::NAN]), &[1.0], "entry 0"),
            (&[0], None, &[f64::INFINITY], "dense input 0"),
            (&[0], None, &[], "expected 1 dense inputs, found 0"),
        ] {
            assert!(accepts(&model, ids, values, dense).unwrap_err().contains(essential), "{essential}");
        }
        model.fields[0].kind = FieldKind::Id { rows: 3 };
        accepts(&model, &[2], None, &[1.0]).unwrap();
        for ids in [&[][..], &[0, 1]] {
            assert!(accepts(&model, ids, None, &[1.0]).unwrap_err().contains("field `f`"));
        }
        assert!(accepts(&model, &[0], Some(vec![0.5]), &[1.0]).unwrap_err().contains("entry 0"));
    }
}
