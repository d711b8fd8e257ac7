//! What the integration tests share: a random generator, aligned bytes, and models that own their memory.
#![expect(clippy::cast_possible_truncation, reason = "the models of the tests are small")]

use embedded_nfm::{
    Activation, DenseInput, DenseInputs, EmitError, F32Layer, F32Model, F32Parts, F32Table, F32Weights,
    Field, FieldKind, Fields, FixedLayer, FixedParts, Info, Link, Model, NibbleTable, ParseError, Pooling,
    Q16, QuantTable, Rescale, Table, Weights, nibble_header, row_header,
};

/// Marsaglia's xorshift64*.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Seeded by `NFM_SEED`, else by a fixed number; prints it, so that a failure can be repeated.
    pub(crate) fn from_env() -> Self {
        let seed = std::env::var("NFM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1708_05027);
        println!("NFM_SEED={seed}");
        Self::new(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number in `low..=high`.
    pub(crate) fn int<T: TryFrom<i64>>(&mut self, low: i64, high: i64) -> T {
        let span = high.abs_diff(low) + 1;
        let drawn = low.wrapping_add_unsigned((self.next() >> 11) % span);
        T::try_from(drawn).ok().expect("the range fits the type")
    }

    pub(crate) fn ints<T: TryFrom<i64>>(&mut self, len: usize, limit: i64) -> Vec<T> {
        (0..len).map(|_| self.int(-limit, limit)).collect()
    }

    /// A number in `-limit..=limit`, in steps of 2⁻²³ of it.
    pub(crate) fn float(&mut self, limit: f32) -> f32 {
        limit * (self.int::<i32>(-(1 << 23), 1 << 23) as f32 / 8_388_608.0)
    }

    pub(crate) fn floats(&mut self, len: usize, limit: f32) -> Vec<f32> {
        (0..len).map(|_| self.float(limit)).collect()
    }
}

/// Bytes that start at a multiple of four.
#[derive(Clone)]
pub(crate) struct AlignedBytes {
    words: Vec<u32>,
    len: usize,
}

impl AlignedBytes {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut words = vec![0; bytes.len().div_ceil(4)];
        bytemuck::cast_slice_mut::<u32, u8>(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self { words, len: bytes.len() }
    }
}

impl std::ops::Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }
}

/// What both paths' models share.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) name: &'static str,
    pub(crate) dim: u16,
    pub(crate) max_active: u16,
    pub(crate) fields: Vec<Field<'static>>,
}

impl Common {
    pub(crate) fn rows(&self) -> usize {
        let end = |field: &Field<'_>| field.kind.rows().0 + field.kind.rows().1;
        self.fields.iter().map(end).max().unwrap_or_default() as usize
    }

    pub(crate) fn dense(&self) -> usize {
        self.fields.iter().filter(|field| field.kind == FieldKind::Dense).count()
    }

    pub(crate) fn lanes(&self) -> usize {
        usize::from(self.dim).next_multiple_of(4)
    }

    pub(crate) fn input_len(&self) -> usize {
        pad(self.lanes() + self.dense())
    }

    fn info(&self) -> Info<'_> {
        Info {
            name: self.name,
            rows: self.rows() as u32,
            dim: self.dim,
            max_active: self.max_active,
            fields: Fields::Listed(&self.fields),
            encoders: &[],
        }
    }
}

pub(crate) fn field(name: &'static str, kind: FieldKind) -> Field<'static> {
    Field { name, kind }
}

pub(crate) fn id(name: &'static str, first: u32, rows: u32) -> Field<'static> {
    Field { name, kind: FieldKind::Id { first, rows } }
}

pub(crate) fn dense(name: &'static str) -> Field<'static> {
    Field { name, kind: FieldKind::Dense }
}

/// `len` with the padding that vectors between layers have.
pub(crate) fn pad(len: usize) -> usize {
    len.next_multiple_of(8)
}

/// `list` with zeros up to its padded length.
pub(crate) fn zeros_after<T: Clone + Default>(mut list: Vec<T>) -> Vec<T> {
    list.resize(pad(list.len()), T::default());
    list
}

/// A layer's weights, packed as FORMAT.md says.
#[derive(Clone)]
pub(crate) enum WeightsSpec {
    Scalar(Vec<u8>),
    Dsp { words: Vec<u32>, fold: u16 },
}

impl WeightsSpec {
    /// Packs `[out, inputs]` row-major codes; a `fold` of 0 packs scalar weights.
    pub(crate) fn pack(codes: &[i8], inputs: usize, fold: u16) -> Self {
        assert!(inputs.is_multiple_of(8) && codes.len().is_multiple_of(inputs), "inputs are padded");
        let out = pad(codes.len() / inputs);
        let code = |o: usize, i: usize| codes.get(o * inputs + i).copied().unwrap_or(0);
        let mut packed = if fold == 0 {
            Self::Scalar(vec![0; out * inputs])
        } else {
            Self::Dsp { words: vec![0; out * inputs / 4], fold }
        };
        for o in 0..out {
            for i in 0..inputs {
                packed.set(inputs, o, i, code(o, i));
            }
        }
        packed
    }

    /// Writes the code of output `o` and input `i`.
    pub(crate) fn set(&mut self, inputs: usize, o: usize, i: usize, code: i8) {
        match self {
            Self::Scalar(codes) => {
                codes[o / 8 * 8 * inputs + 8 * i + o % 8] = code.to_le_bytes()[0].wrapping_add(128);
            }
            Self::Dsp { words, .. } => {
                let word = &mut words[o / 4 * inputs + i / 4 * 4 + o % 4];
                let mut bytes = word.to_le_bytes();
                bytes[DSP_BYTE[i % 4]] = code.to_le_bytes()[0];
                *word = u32::from_le_bytes(bytes);
            }
        }
    }

    /// What input `i` is multiplied with for output `o`, in units of 1/256.
    pub(crate) fn multiplier(&self, inputs: usize, o: usize, i: usize) -> i32 {
        match self {
            Self::Scalar(codes) => (i32::from(codes[o / 8 * 8 * inputs + 8 * i + o % 8]) - 128) * 256,
            Self::Dsp { words, .. } => {
                let bytes = words[o / 4 * inputs + i / 4 * 4 + o % 4].to_le_bytes();
                let code = i32::from(i8::from_le_bytes([bytes[DSP_BYTE[i % 4]]]));
                // The code whose byte lies below: that of input 2, of 3, none, of 0.
                let fraction = match i % 4 {
                    0 => bytes[DSP_BYTE[2]],
                    1 => bytes[DSP_BYTE[3]],
                    2 => 0,
                    _ => bytes[DSP_BYTE[0]],
                };
                code * 256 + i32::from(fraction)
            }
        }
    }

    pub(crate) fn fold(&self) -> u16 {
        match self {
            Self::Scalar(_) => 0,
            Self::Dsp { fold, .. } => *fold,
        }
    }

    pub(crate) fn view(&self) -> Weights<'_> {
        match self {
            Self::Scalar(codes) => Weights::Scalar(codes),
            Self::Dsp { words, fold } => Weights::Dsp { words, fold: *fold },
        }
    }
}

/// Which byte of a word holds the code of each of its four inputs: c₂ c₀ c₃ c₁.
const DSP_BYTE: [usize; 4] = [1, 3, 0, 2];

#[derive(Clone)]
pub(crate) struct FixedLayerSpec {
    pub(crate) out: u16,
    pub(crate) activation: Activation<i16>,
    pub(crate) shift: u8,
    pub(crate) fraction: u8,
    pub(crate) max: u16,
    pub(crate) bias: Vec<i32>,
    pub(crate) weights: WeightsSpec,
    pub(crate) slopes: Vec<i16>,
    pub(crate) multipliers: Vec<i32>,
}

/// A row of [`TableSpec::I4`]: first order, multiplier, offset, codes of all lanes.
#[derive(Clone)]
pub(crate) struct RowSpec {
    pub(crate) linear: i16,
    pub(crate) multiplier: u16,
    pub(crate) offset: i16,
    pub(crate) codes: Codes,
}

#[derive(Clone)]
pub(crate) enum Codes {
    Hot(Vec<i8>),
    Nibbles(Vec<u8>),
}

/// First order and embeddings, packed as FORMAT.md says.
#[derive(Clone)]
pub(crate) enum TableSpec {
    I8 { headers: Vec<u16>, codes: Vec<i8> },
    I4 { headers: Vec<u32>, hot: Vec<u32>, codes: Vec<i8>, nibbles: Vec<u32> },
}

/// Which lane of eight each nibble of a word has, from the lowest on.
const LANE_OF_NIBBLE: [usize; 8] = [0, 1, 4, 5, 2, 3, 6, 7];

impl TableSpec {
    pub(crate) fn pack(rows: &[RowSpec]) -> Self {
        let headers = rows.iter().map(|row| nibble_header(row.linear, row.multiplier, row.offset)).collect();
        let (mut hot, mut codes, mut nibbles) = (vec![], vec![], vec![]);
        let mut hot_rows = 0;
        for group in rows.chunks(32) {
            let (mut bits, before) = (0, hot_rows);
            for (bit, row) in group.iter().enumerate() {
                match &row.codes {
                    Codes::Hot(row) => {
                        bits |= 1 << bit;
                        hot_rows += 1;
                        codes.extend(row);
                    }
                    Codes::Nibbles(row) => nibbles.extend(row.chunks(8).map(|lanes| {
                        let nibble = |(place, &lane): (usize, &usize)| {
                            u32::from(lanes.get(lane).copied().unwrap_or_default()) << (4 * place)
                        };
                        LANE_OF_NIBBLE.iter().enumerate().map(nibble).sum::<u32>()
                    })),
                }
            }
            hot.extend([bits, before]);
        }
        if hot_rows == 0 {
            hot.clear();
        }
        Self::I4 { headers, hot, codes, nibbles }
    }

    pub(crate) fn view(&self) -> Table<'_> {
        match self {
            Self::I8 { headers, codes } => Table::I8(QuantTable { headers, codes }),
            Self::I4 { headers, hot, codes, nibbles } => {
                Table::I4(NibbleTable { headers, hot, codes, nibbles })
            }
        }
    }

    /// Whether row `id` has 8-bit codes.
    pub(crate) fn is_hot(&self, id: usize) -> bool {
        match self {
            Self::I8 { .. } => true,
            Self::I4 { hot, .. } => hot.get(id / 32 * 2).is_some_and(|bits| bits >> (id % 32) & 1 == 1),
        }
    }

    /// First-order code, multiplier and offset of a row.
    pub(crate) fn header(&self, id: usize) -> (i32, i32, i32) {
        match self {
            Self::I8 { headers, .. } => {
                (i32::from(headers[id].cast_signed() >> 4), i32::from(headers[id] & 15) + 1, 0)
            }
            Self::I4 { headers, .. } => {
                let [b0, b1, b2, b3] = headers[id].to_le_bytes().map(i32::from);
                let signed = |bits: i32| if bits >= 2048 { bits - 4096 } else { bits };
                (signed(b2 >> 4 | b3 << 4), (b1 >> 4 | (b2 & 15) << 4) + 1, signed(b0 | (b1 & 15) << 8))
            }
        }
    }

    /// The embedding of a row in a lane, in units.
    pub(crate) fn embedding(&self, id: usize, lanes: usize, lane: usize) -> i32 {
        let (_, multiplier, offset) = self.header(id);
        // Rows of the same kind before this one.
        let row = (0..id).filter(|&other| self.is_hot(other) == self.is_hot(id)).count();
        let code = match self {
            Self::I8 { codes, .. } => i32::from(codes[id * lanes + lane]),
            Self::I4 { codes, .. } if self.is_hot(id) => i32::from(codes[row * lanes + lane]),
            Self::I4 { nibbles, .. } => {
                let place = LANE_OF_NIBBLE.iter().position(|&l| l == lane % 8).expect("one of eight");
                (nibbles[row * lanes.div_ceil(8) + lane / 8] >> (4 * place) & 15).cast_signed()
            }
        };
        multiplier * code + offset
    }
}

/// A fixed model with its memory.
#[derive(Clone)]
pub(crate) struct FixedSpec {
    pub(crate) common: Common,
    pub(crate) max_value: Q16,
    pub(crate) max_embedding: u16,
    pub(crate) table: TableSpec,
    pub(crate) shift: u8,
    pub(crate) max: u16,
    /// Five words for each dense input.
    pub(crate) words: Vec<i32>,
    pub(crate) layers: Vec<FixedLayerSpec>,
    pub(crate) head: Vec<i16>,
    pub(crate) head_scale: Rescale,
    pub(crate) linear_scale: Rescale,
    pub(crate) bias: Q16,
    pub(crate) link: Link<Q16>,
}

impl FixedSpec {
    pub(crate) fn parts(&self) -> FixedParts<'_> {
        FixedParts {
            info: self.common.info(),
            max_value: self.max_value,
            max_embedding: self.max_embedding,
            table: self.table.view(),
            shift: self.shift,
            max: self.max,
            dense_inputs: DenseInputs { words: &self.words },
            layers: self
                .layers
                .iter()
                .map(|layer| FixedLayer {
                    activation: layer.activation,
                    shift: layer.shift,
                    fraction: layer.fraction,
                    max: layer.max,
                    out: layer.out,
                    bias: &layer.bias,
                    weights: layer.weights.view(),
                    slopes: &layer.slopes,
                    multipliers: &layer.multipliers,
                })
                .collect(),
            head: &self.head,
            head_scale: self.head_scale,
            linear_scale: self.linear_scale,
            bias: self.bias,
            link: self.link,
        }
    }

    pub(crate) fn model(&self) -> Result<Model<'_>, ParseError> {
        Model::new(self.parts())
    }

    pub(crate) fn emit(&self) -> AlignedBytes {
        let model = self.model().expect("the model is legal");
        emit_to(model.encoded_len(), |out| model.emit(out))
    }
}

#[derive(Clone)]
pub(crate) enum F32WeightsSpec {
    F32(Vec<f32>),
    I8 { codes: Vec<i8>, scales: Vec<f32> },
}

#[derive(Clone)]
pub(crate) struct F32LayerSpec {
    pub(crate) activation: Activation<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) weights: F32WeightsSpec,
    pub(crate) slopes: Vec<f32>,
}

#[derive(Clone)]
pub(crate) enum F32TableSpec {
    F32 { linear: Vec<f32>, embeddings: Vec<f32> },
    I8 { headers: Vec<u16>, codes: Vec<i8>, linear_scale: f32 },
}

/// An f32 model with its memory.
#[derive(Clone)]
pub(crate) struct F32Spec {
    pub(crate) common: Common,
    pub(crate) table: F32TableSpec,
    pub(crate) dense_linear: Vec<f32>,
    pub(crate) layers: Vec<F32LayerSpec>,
    pub(crate) head: Vec<f32>,
    pub(crate) bias: f32,
    pub(crate) link: Link<f32>,
}

impl F32Spec {
    pub(crate) fn parts(&self) -> F32Parts<'_> {
        F32Parts {
            info: self.common.info(),
            table: match &self.table {
                F32TableSpec::F32 { linear, embeddings } => F32Table::F32 { linear, embeddings },
                F32TableSpec::I8 { headers, codes, linear_scale } => {
                    F32Table::I8 { table: QuantTable { headers, codes }, linear_scale: *linear_scale }
                }
            },
            dense_linear: &self.dense_linear,
            layers: self
                .layers
                .iter()
                .map(|layer| F32Layer {
                    activation: layer.activation,
                    bias: &layer.bias,
                    weights: match &layer.weights {
                        F32WeightsSpec::F32(weights) => F32Weights::F32(weights),
                        F32WeightsSpec::I8 { codes, scales } => F32Weights::I8 { codes, scales },
                    },
                    slopes: &layer.slopes,
                })
                .collect(),
            head: &self.head,
            bias: self.bias,
            link: self.link,
        }
    }

    pub(crate) fn model(&self) -> Result<F32Model<'_>, ParseError> {
        F32Model::new(self.parts())
    }

    pub(crate) fn emit(&self) -> AlignedBytes {
        let model = self.model().expect("the model is legal");
        emit_to(model.encoded_len(), |out| model.emit(out))
    }
}

fn emit_to(
    len: Result<usize, EmitError>,
    emit: impl FnOnce(&mut [u8]) -> Result<usize, EmitError>,
) -> AlignedBytes {
    let len = len.expect("the blob has a length");
    let mut bytes = vec![0xa5; len];
    assert_eq!(emit(&mut bytes), Ok(len));
    AlignedBytes::new(&bytes)
}

/// Weights of [`tiny`], four outputs of four inputs and their padding.
pub(crate) const TINY_WEIGHTS: [[i8; 8]; 4] = [
    [1, 2, 3, 4, 0, 0, 0, 0],
    [-8, 7, -6, 5, 0, 0, 0, 0],
    [127, 0, 0, -127, 0, 0, 0, 0],
    [-1, -1, -1, -1, 0, 0, 0, 0],
];

/// Embedding codes of [`tiny`].
pub(crate) const TINY_CODES: [[i8; 4]; 4] =
    [[10, -20, 30, 40], [-5, 15, 25, -35], [50, 60, -70, 80], [-90, 100, 110, -120]];

/// The smallest model of the goldens: two id fields, four rows of four lanes, one hidden layer.
pub(crate) fn tiny() -> FixedSpec {
    FixedSpec {
        common: Common {
            name: "tiny",
            dim: 4,
            max_active: 2,
            fields: vec![id("user", 0, 2), id("item", 2, 2)],
        },
        max_value: Q16::ONE,
        max_embedding: 384,
        table: TableSpec::I8 {
            headers: vec![row_header(100, 1), row_header(-50, 2), row_header(200, 1), row_header(-300, 3)],
            codes: TINY_CODES.as_flattened().to_vec(),
        },
        shift: 5,
        max: 2047,
        words: vec![],
        layers: vec![FixedLayerSpec {
            out: 4,
            activation: Activation::Relu,
            shift: 7,
            fraction: 0,
            max: 4095,
            bias: vec![64, -936, 2064, 64, 0, 0, 0, 0],
            weights: WeightsSpec::pack(TINY_WEIGHTS.as_flattened(), 8, 0),
            slopes: vec![],
            multipliers: vec![],
        }],
        head: vec![256, -128, 64, 32, 0, 0, 0, 0],
        head_scale: Rescale { multiplier: 1 << 14, shift: 16 },
        linear_scale: Rescale { multiplier: 40, shift: 0 },
        bias: Q16::from_bits(-0x4000),
        link: Link::Sigmoid,
    }
}

/// [`tiny`] with DSP weights.
pub(crate) fn tiny_dsp(fold: u16) -> FixedSpec {
    let mut spec = tiny();
    spec.layers[0].weights = WeightsSpec::pack(TINY_WEIGHTS.as_flattened(), 8, fold);
    spec
}

/// [`tiny`] with rows of four bits but for row 1, which is hot.
pub(crate) fn tiny_i4() -> FixedSpec {
    let row = |linear, multiplier, offset, codes| RowSpec { linear, multiplier, offset, codes };
    let nibbles = |codes: [u8; 4]| Codes::Nibbles(codes.to_vec());
    let mut spec = tiny();
    spec.table = TableSpec::pack(&[
        row(100, 4, -20, nibbles([7, 0, 12, 15])),
        row(-50, 2, 0, Codes::Hot(TINY_CODES[1].to_vec())),
        row(200, 10, -70, nibbles([12, 13, 0, 15])),
        row(-300, 50, -365, nibbles([2, 14, 15, 0])),
    ]);
    spec.max_embedding = 385;
    spec
}

/// The f32 twin of [`tiny`] in shape: floats throughout.
pub(crate) fn tiny_f32() -> F32Spec {
    F32Spec {
        common: tiny().common,
        table: F32TableSpec::F32 {
            linear: vec![0.25, -0.125, 0.5, -0.75],
            embeddings: TINY_CODES.as_flattened().iter().map(|&code| f32::from(code) / 128.0).collect(),
        },
        dense_linear: vec![],
        layers: vec![F32LayerSpec {
            activation: Activation::Tanh,
            bias: vec![0.5, -0.25, 0.125, 0.0],
            weights: F32WeightsSpec::F32(
                TINY_WEIGHTS.as_flattened().iter().map(|&w| f32::from(w) / 16.0).collect(),
            ),
            slopes: vec![],
        }],
        head: vec![1.0, -0.5, 0.25, 0.125, 0.0, 0.0, 0.0, 0.0],
        bias: -0.25,
        link: Link::Sigmoid,
    }
}

fn small_common() -> Common {
    Common {
        name: "small",
        dim: 6,
        max_active: 3,
        fields: vec![id("user", 0, 2), dense("ages"), id("item", 2, 3)],
    }
}

fn zero_padding<T: Copy + Default>(matrix: &mut [T], columns: usize, used: usize) {
    for row in matrix.chunks_exact_mut(columns) {
        row[used..].fill(T::default());
    }
}

/// Where padding, a dense input, slopes, multipliers, values and both layouts of weights all are present.
pub(crate) fn small() -> FixedSpec {
    let common = small_common();
    let mut rng = Rng::new(7);
    let mut codes: Vec<i8> = rng.ints(common.rows() * common.lanes(), 127);
    zero_padding(&mut codes, common.lanes(), common.dim.into());
    let layer = |rng: &mut Rng, activation, inputs: usize, out: usize, fold| FixedLayerSpec {
        out: out as u16,
        activation,
        shift: if matches!(activation, Activation::Sigmoid) { 20 } else { 9 },
        fraction: if matches!(activation, Activation::Sigmoid) { 12 } else { 0 },
        max: 8191,
        bias: zeros_after(rng.ints(out, 5000)),
        weights: WeightsSpec::pack(&rng.ints::<i8>(inputs * out, 127), inputs, fold),
        slopes: zeros_after(rng.ints(if activation == Activation::PRelu { out } else { 0 }, 8192)),
        multipliers: zeros_after(rng.ints(if activation == Activation::Sigmoid { out } else { 0 }, 1 << 20)),
    };
    let headers = (0..common.rows()).map(|_| row_header(rng.int(-2048, 2047), rng.int(1, 2))).collect();
    let scale = |multiplier, shift| Rescale { multiplier, shift };
    let age =
        DenseInput { max: Q16::from_bits(4 << 16), code: scale(1 << 20, 27), linear: scale(-12345, 15) };
    FixedSpec {
        max_value: Q16::from_bits(2 << 16),
        max_embedding: 256,
        table: TableSpec::I8 { headers, codes },
        shift: 6,
        max: 4095,
        words: age.to_words().to_vec(),
        layers: vec![
            layer(&mut rng, Activation::Relu, common.input_len(), 4, 0),
            layer(&mut rng, Activation::PRelu, 8, 3, 1),
            layer(&mut rng, Activation::Sigmoid, 8, 2, 0),
        ],
        head: zeros_after(vec![1000, -700]),
        head_scale: scale(1 << 20, 26),
        linear_scale: scale(77, 3),
        bias: Q16::from_bits(9999),
        link: Link::Clip { min: Q16::from_bits(-(5 << 16)), max: Q16::from_bits(5 << 16) },
        common,
    }
}

/// Rows of four bits, every fourth one hot, of embeddings up to `limit`; among them one of the widest span of all.
fn draw_rows(rng: &mut Rng, rows: usize, dim: u16, limit: i64) -> TableSpec {
    let lanes = usize::from(dim).next_multiple_of(4);
    let row = |row: usize| {
        let linear = rng.int(-2048, 2047);
        if row % 4 == 3 {
            let mut codes: Vec<i8> = rng.ints(lanes, 127);
            codes[dim.into()..].fill(0);
            codes[0] = -128;
            let multiplier = rng.int(1, limit / 128);
            return RowSpec { linear, multiplier, offset: 0, codes: Codes::Hot(codes) };
        }
        let multiplier = if row == 2 { (2 * limit) / 15 } else { rng.int(1, limit / 15) };
        let offset = if row == 2 { -limit } else { rng.int(-limit, limit - 15 * multiplier) };
        // The padding is no zero: no code might be.
        let codes = Codes::Nibbles((0..lanes).map(|_| rng.int(0, 15)).collect());
        let multiplier = u16::try_from(multiplier).expect("at most 256");
        RowSpec { linear, multiplier, offset: offset as i16, codes }
    };
    TableSpec::pack(&(0..rows).map(row).collect::<Vec<_>>())
}

/// [`small`] with rows of four bits.
pub(crate) fn small_i4() -> FixedSpec {
    let mut spec = small();
    spec.table = draw_rows(&mut Rng::new(9), spec.common.rows(), spec.common.dim, 384);
    spec.max_embedding = 384;
    spec.shift = 7;
    spec
}

/// [`small`] in shape, on the f32 path; `encoded` stores embeddings and weights as codes.
pub(crate) fn small_f32(encoded: bool) -> F32Spec {
    let common = small_common();
    let mut rng = Rng::new(8);
    let (rows, lanes) = (common.rows(), common.lanes());
    let table = if encoded {
        let TableSpec::I8 { headers, codes } = small().table else { panic!("8-bit rows") };
        F32TableSpec::I8 { headers, codes, linear_scale: 1.0 / 1024.0 }
    } else {
        let mut embeddings = rng.floats(rows * lanes, 1.0);
        zero_padding(&mut embeddings, lanes, common.dim.into());
        F32TableSpec::F32 { linear: rng.floats(rows, 1.0), embeddings }
    };
    let scale = if encoded { 1.0 / 16384.0 } else { 1.0 };
    let mut layer = |activation, inputs: usize, out: usize, scale: f32| F32LayerSpec {
        activation,
        bias: rng.floats(out, 1.0),
        weights: if encoded {
            F32WeightsSpec::I8 { codes: rng.ints(inputs * out, 127), scales: rng.floats(out, scale / 64.0) }
        } else {
            F32WeightsSpec::F32(rng.floats(inputs * out, scale))
        },
        slopes: if matches!(activation, Activation::PRelu) { rng.floats(out, 1.0) } else { vec![] },
    };
    F32Spec {
        table,
        dense_linear: vec![0.5],
        layers: vec![
            layer(Activation::Elu { alpha: 0.5 }, common.input_len(), 4, scale),
            layer(Activation::PRelu, 8, 3, 1.0),
            layer(Activation::Sigmoid, 8, 2, 1.0),
        ],
        head: zeros_after(vec![1.5, -0.75]),
        bias: 0.125,
        link: Link::Clip { min: -5.0, max: 5.0 },
        common,
    }
}

/// A few kilobytes: every activation, three dense inputs, values; scalar weights.
pub(crate) fn wide() -> FixedSpec {
    wide_of("wide", 22, [0; 7])
}

/// [`wide`] with DSP weights: folds that divide the groups of a layer and some that do not, one and more than there are.
pub(crate) fn wide_dsp() -> FixedSpec {
    wide_of("wide-dsp", 22, [3, 2, 1, 2, 1, 2, 65535])
}

/// [`wide`] with rows of four bits and hot ones among them, lanes that do not fill a word, and both layouts of weights.
pub(crate) fn wide_i4() -> FixedSpec {
    let mut spec = wide_of("wide-i4", 18, [2, 0, 1, 0, 0, 2, 0]);
    spec.table = draw_rows(&mut Rng::new(4), spec.common.rows(), spec.common.dim, 1920);
    spec.max_embedding = 1920;
    spec.shift = 12;
    spec
}

fn wide_of(name: &'static str, dim: u16, folds: [u16; 7]) -> FixedSpec {
    let fields = vec![
        id("user", 0, 25),
        dense("age"),
        id("item", 25, 20),
        dense("price"),
        field(
            "genres",
            FieldKind::Sequence { first: 45, rows: 12, pooling: Pooling::Mean, linear: Pooling::Sum },
        ),
        dense("hour"),
        field("tags", FieldKind::Ids { first: 45, rows: 12 }),
        field(
            "device",
            FieldKind::Sequence { first: 57, rows: 2, pooling: Pooling::Max, linear: Pooling::SqrtN },
        ),
        field("weight", FieldKind::Scaled { row: 59 }),
    ];
    let common = Common { name, dim, max_active: 12, fields };
    let mut rng = Rng::new(2017);
    let mut codes: Vec<i8> = rng.ints(common.rows() * common.lanes(), 127);
    zero_padding(&mut codes, common.lanes(), common.dim.into());
    let activations = [
        (Activation::Relu, 24),
        (Activation::LeakyRelu { slope: 82 }, 13),
        (Activation::Tanh, 12),
        (Activation::PRelu, 10),
        (Activation::Elu { alpha: 8192 }, 8),
        (Activation::Identity, 7),
        (Activation::Sigmoid, 6),
    ];
    let mut inputs = common.input_len();
    let mut layers = Vec::new();
    for ((activation, out), fold) in activations.into_iter().zip(folds) {
        let curve = !activation.is_homogeneous();
        layers.push(FixedLayerSpec {
            out: out as u16,
            activation,
            shift: if curve { 22 } else { 7 },
            fraction: if curve { 11 } else { 0 },
            max: 8191,
            bias: zeros_after(rng.ints(out, 20_000)),
            weights: WeightsSpec::pack(&rng.ints::<i8>(inputs * out, 127), inputs, fold),
            slopes: zeros_after(rng.ints(if activation == Activation::PRelu { out } else { 0 }, 8192)),
            multipliers: zeros_after(rng.ints(if curve { out } else { 0 }, 1 << 20)),
        });
        inputs = pad(out);
    }
    let mut head: Vec<i16> = rng.ints(8, 4000);
    head[6..].fill(0);
    let headers = (0..common.rows()).map(|_| row_header(rng.int(-2048, 2047), rng.int(1, 4))).collect();
    let scale = |multiplier, shift| Rescale { multiplier, shift };
    let words = [3, 100, 24].into_iter().flat_map(|limit| {
        DenseInput {
            max: Q16::from_bits(limit << 16),
            code: scale(rng.int(-(1 << 29), 1 << 29), 36),
            linear: scale(rng.int(-(1 << 29), 1 << 29), 31),
        }
        .to_words()
    });
    FixedSpec {
        max_value: Q16::from_bits(0x2_8000),
        max_embedding: 512,
        table: TableSpec::I8 { headers, codes },
        shift: 9,
        max: 4095,
        words: words.collect(),
        layers,
        head,
        head_scale: scale(1 << 16, 22),
        linear_scale: scale(1_234_567, 16),
        bias: Q16::from_bits(-43210),
        link: Link::Sigmoid,
        common,
    }
}
