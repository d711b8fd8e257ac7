//! Models and rows from a seed: for benchmarks and on-target measurements, where shape matters and meaning does not.

use crate::{
    float_model::{Activation, Dense, FloatModel, Link, Stage},
    rows::Row,
    schema::{Field, FieldKind, lay_out},
};

/// A small generator of reproducible numbers (xorshift64*), so that a seed means the same model for ever.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next 32 bits.
    pub fn bits(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    /// A number in [-1, 1).
    pub fn unit(&mut self) -> f64 {
        f64::from(self.bits()) / f64::from(1_u32 << 31) - 1.0
    }

    /// An integer below `limit`, which is positive.
    pub fn below(&mut self, limit: u32) -> u32 {
        self.bits() % limit
    }
}

/// A shape to generate.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Name of the model.
    pub name: &'static str,
    /// Rows of each one-hot field.
    pub fields: &'static [u32],
    /// Embedding width k.
    pub dim: usize,
    /// Widths of the hidden layers.
    pub hidden: &'static [usize],
}

/// Ten one-hot fields with the sizes of Frappe's: 5,382 rows.
pub const TEN_FIELDS: &[u32] = &[957, 4082, 7, 7, 2, 3, 2, 9, 80, 233];

/// The shapes that are measured.
pub const SHAPES: [Shape; 3] = [
    Shape { name: "A", fields: TEN_FIELDS, dim: 64, hidden: &[64] },
    Shape { name: "B", fields: TEN_FIELDS, dim: 16, hidden: &[64] },
    Shape { name: "C", fields: TEN_FIELDS, dim: 32, hidden: &[128, 64] },
];

/// A model of this shape, with weights of the size that training gives.
#[must_use]
pub fn model(shape: Shape, seed: u64) -> FloatModel {
    let mut random = Random::new(seed);
    let total: usize = shape.fields.iter().map(|rows| *rows as usize).sum();
    // Rows differ in norm by two orders of magnitude, as rare and frequent ids do.
    let mut embeddings = Vec::with_capacity(total * shape.dim);
    for _ in 0..total {
        let norm = 0.3 * libm::exp(-2.3 * (1.0 + random.unit()));
        embeddings.extend((0..shape.dim).map(|_| narrow(norm * random.unit())));
    }
    let linear = (0..total).map(|_| narrow(0.3 * random.unit())).collect();
    let mut stages = Vec::new();
    let mut width = shape.dim;
    for &out in shape.hidden {
        // The first layer sees z, which is small; later ones see activations of about one.
        let scale =
            if width == shape.dim { 8.0 } else { 1.5 } / f64::from(u32::try_from(width).unwrap_or(1)).sqrt();
        let weights = (0..out * width).map(|_| scale * random.unit()).collect();
        let bias = (0..out).map(|_| 0.2 * random.unit()).collect();
        stages.push(Stage::Dense(Dense { weights, bias }));
        stages.push(Stage::Activation(Activation::Relu));
        width = out;
    }
    stages.push(Stage::Dense(Dense {
        weights: (0..width).map(|_| 0.4 * random.unit()).collect(),
        bias: vec![0.0],
    }));
    let field = |(index, rows): (usize, &u32)| Field::new(format!("f{index}"), FieldKind::Id { rows: *rows });
    let mut fields: Vec<Field> = shape.fields.iter().enumerate().map(field).collect();
    // The shapes are far below 2³² rows.
    let _ = lay_out(&mut fields);
    FloatModel {
        dialect: "synthetic",
        fields,
        max_active: u16::try_from(shape.fields.len()).unwrap_or(u16::MAX),
        max_value: 1.0,
        bias: 0.1,
        parameters: total * (shape.dim + 1) + 1,
        linear,
        dense_linear: Vec::new(),
        dim: shape.dim,
        embeddings,
        stages,
        link: Link::Sigmoid,
        assumptions: Vec::new(),
        skipped: Vec::new(),
    }
}

/// Rows of one id a field.
#[must_use]
pub fn rows(model: &FloatModel, count: usize, seed: u64) -> Vec<Row> {
    let mut random = Random::new(seed);
    let tables: Vec<(usize, usize)> = model.tables().collect();
    let mut id = |&(first, rows): &(usize, usize)| {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        u32::try_from(first).unwrap_or(u32::MAX).saturating_add(random.below(rows))
    };
    (0..count).map(|_| Row { ids: tables.iter().map(&mut id).collect(), ..Row::default() }).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest f32 is what is asked for")]
fn narrow(x: f64) -> f32 {
    x as f32
}
