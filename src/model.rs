//! A model as data: the borrowed parts that `emit` writes and `parse` checks, and nothing that computes.

use heapless::Vec;
use serde::Serialize;

use crate::{
    Q16, Rescale,
    blob::{Decoder, Record, check},
    error::ParseError,
    features,
    kernels::{Plan, nibbles::TERM_WORDS, rolled},
    link::Link,
};

/// The most hidden layers that a model can have.
pub const MAX_LAYERS: usize = 8;

/// The widest layer, and the most lanes and dense inputs together, that a model can have.
pub const MAX_WIDTH: usize = 4096;

/// Rows of embeddings are padded with zeros to a multiple of this.
pub const LANES: usize = 4;

/// Vectors between layers are padded with zeros to a multiple of this: layers compute this many outputs together.
pub const BLOCK: usize = 8;

/// Facts that both arithmetic paths share.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Info<'a> {
    /// The model's name, chosen at conversion.
    pub name: &'a str,
    /// Rows n of the embedding table; ids are below it.
    pub rows: u32,
    /// Embedding width k.
    pub dim: u16,
    /// The most active entries that a sample may have.
    pub max_active: u16,
    /// The fields in their order.
    pub fields: Fields<'a>,
    /// The section of encoders as it lies in the blob, which `parse` does not look into; empty where there is none.
    pub encoders: &'a [u8],
}

impl Info<'_> {
    /// Of no model.
    pub(crate) const EMPTY: Self =
        Self { name: "", rows: 0, dim: 0, max_active: 0, fields: Fields::Listed(&[]), encoders: &[] };

    /// Lanes of z with their padding: `dim` rounded up to a multiple of [`LANES`].
    #[must_use]
    pub fn lanes(&self) -> usize {
        usize::from(self.dim).next_multiple_of(LANES)
    }
}

/// One column of the model's input.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Field<'a> {
    /// The column's name.
    pub name: &'a str,
    /// What it holds.
    pub kind: FieldKind,
}

/// What a column of the input holds.
///
/// Rows are of the model's one embedding table; fields may share theirs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum FieldKind {
    /// One id.
    Id {
        /// The first of its rows.
        first: u32,
        /// How many there are.
        rows: u32,
    },
    /// A number that joins z as input of the first layer.
    Dense,
    /// Any number of ids, each with a value, each a term of its own.
    Ids {
        /// The first of their rows.
        first: u32,
        /// How many there are.
        rows: u32,
    },
    /// A number that is the value of one row: x · v in z, and x · w in the first order.
    Scaled {
        /// Which row.
        row: u32,
    },
    /// Ids whose rows are pooled into one embedding, see [`Sequence`](crate::Sequence).
    Sequence {
        /// The first of their rows.
        first: u32,
        /// How many there are.
        rows: u32,
        /// How embeddings are pooled.
        pooling: Pooling,
        /// How first-order weights are pooled.
        linear: Pooling,
    },
}

impl FieldKind {
    /// The field's rows: the first one, and how many; none for a dense input.
    #[must_use]
    pub const fn rows(self) -> (u32, u32) {
        match self {
            Self::Id { first, rows } | Self::Ids { first, rows } | Self::Sequence { first, rows, .. } => {
                (first, rows)
            }
            Self::Scaled { row } => (row, 1),
            Self::Dense => (0, 0),
        }
    }
}

/// How the rows of a sequence become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Pooling {
    /// Σ
    Sum,
    /// Σ / n
    Mean,
    /// Σ / √n
    SqrtN,
    /// The largest of each lane.
    Max,
}

/// The fields of a model: as the caller lists them for `emit`, or as they lie in a parsed blob.
#[derive(Clone, Copy, Debug)]
pub enum Fields<'a> {
    /// A list.
    Listed(&'a [Field<'a>]),
    /// `count` records of a checked manifest.
    Encoded {
        /// How many.
        count: u16,
        /// Their bytes.
        bytes: &'a [u8],
    },
}

impl<'a> Fields<'a> {
    /// Gives the fields one by one.
    pub fn iter(&self) -> impl Iterator<Item = Field<'a>> + 'a {
        let (mut listed, mut encoded) = match *self {
            Self::Listed(list) => (list, &[][..]),
            Self::Encoded { bytes, .. } => (&[][..], bytes),
        };
        core::iter::from_fn(move || {
            if let Some((&field, rest)) = listed.split_first() {
                listed = rest;
                return Some(field);
            }
            let mut decoder = Decoder::new(encoded);
            let field = Field::decode(&mut decoder);
            encoded = decoder.rest;
            (!decoder.failed).then_some(field)
        })
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match *self {
            Self::Listed(list) => list.len(),
            Self::Encoded { count, .. } => usize::from(count),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl PartialEq for Fields<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

/// The function between two layers; `S` holds its parameter: Q13 in `i16` on the fixed path, `f32` on the f32 path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Activation<S> {
    /// x
    Identity,
    /// max(0, x)
    Relu,
    /// x where positive, else `slope · x`, one slope for the layer.
    LeakyRelu {
        /// The slope.
        slope: S,
    },
    /// x where positive, else `slope[o] · x`, a slope for each output.
    PRelu,
    /// 1 / (1 + e⁻ˣ)
    Sigmoid,
    /// tanh x
    Tanh,
    /// x where positive, else `alpha · (eˣ − 1)`.
    Elu {
        /// The limit at −∞, negated.
        alpha: S,
    },
}

impl<S> Activation<S> {
    /// Whether `f(a · x) = a · f(x)` for positive a, so that a layer's scale can move into the next weights.
    #[must_use]
    pub const fn is_homogeneous(&self) -> bool {
        matches!(self, Self::Identity | Self::Relu | Self::LeakyRelu { .. } | Self::PRelu)
    }
}

/// Embedding rows as 8-bit codes with an integer multiplier a row: `e[r, k] = multiplier[r] · code[r, k]` in units of
/// the lane's scale, which the converter folded into the layer after z.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct QuantTable<'a> {
    /// A row's header: first-order code (upper 12 bits, signed) and row multiplier − 1 (lower 4 bits), `[rows]`.
    pub headers: &'a [u16],
    /// Codes, `[rows, lanes]` row-major.
    pub codes: &'a [i8],
}

/// Embedding rows as 4-bit codes, and as many *hot* rows as one likes as 8-bit codes, in the same units.
///
/// With an integer multiplier and offset a row, `e[r, k] = multiplier[r] · code[r, k] + offset[r]`; codes of 4 bits have no
/// sign, and hot rows no offset. Hot rows lie in `codes` and the others in `nibbles`, each in the order of their ids: row r is hot when its bit is set, and
/// its place is the number of such bits (or of the others) before it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct NibbleTable<'a> {
    /// A row's header: first-order code (upper 12 bits, signed), row multiplier − 1 (8 bits), offset (lower 12 bits, signed),
    /// `[rows]`. The offset of a hot row is 0.
    pub headers: &'a [u32],
    /// Pairs of words for 32 rows each: their hot bits, from the lowest on, and the number of hot rows before them; empty when
    /// no row is hot.
    pub hot: &'a [u32],
    /// Codes of the hot rows, `[hot rows, lanes]` row-major.
    pub codes: &'a [i8],
    /// Codes of the other rows, eight lanes a word, `[other rows, ⌈lanes / 8⌉]` row-major. Lanes of padding may have any code.
    ///
    /// From the lowest bits: lanes 0 1 4 5 2 3 6 7, so that a mask of four bits in each half of the word picks two lanes that are
    /// two apart.
    pub nibbles: &'a [u32],
}

/// Where a row of a [`NibbleTable`] lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// Row of `codes`.
    Hot(u32),
    /// Row of `nibbles`.
    Other(u32),
}

impl NibbleTable<'_> {
    /// How many rows are hot.
    pub(crate) fn hot_rows(&self, lanes: usize) -> usize {
        self.codes.len().checked_div(lanes).unwrap_or(0)
    }

    /// Where row `id` lies.
    #[inline(never)]
    pub(crate) fn place(&self, id: u32) -> Place {
        let pair = self.hot.as_chunks::<2>().0.get((id / 32) as usize);
        let Some(&[bits, before]) = pair else { return Place::Other(id) };
        let bit = 1 << (id % 32);
        let rank = before.wrapping_add((bits & (bit - 1)).count_ones());
        if bits & bit == 0 { Place::Other(id.wrapping_sub(rank)) } else { Place::Hot(rank) }
    }
}

/// First order and embeddings of the fixed path.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Table<'a> {
    /// 8-bit rows.
    I8(QuantTable<'a>),
    /// 4-bit rows, and 8-bit ones where that pays.
    I4(NibbleTable<'a>),
}

/// A row header of a [`NibbleTable`].
///
/// # Ranges
///
/// `linear` and `offset` are in [-2048, 2047], `multiplier` in 1..=256; more bits are cut off.
#[must_use]
#[expect(clippy::cast_sign_loss, reason = "the bits are the numbers' two's complement")]
pub const fn nibble_header(linear: i16, multiplier: u16, offset: i16) -> u32 {
    (linear as u32) << 20 | ((multiplier.wrapping_sub(1) & 255) as u32) << 12 | (offset as u32 & 0xfff)
}

/// First-order code, row multiplier and offset of a [`NibbleTable`]'s header.
#[must_use]
pub(crate) const fn nibble_header_parts(header: u32) -> (i32, i32, i32) {
    let header = header.cast_signed();
    (header >> 20, ((header >> 12) & 255) + 1, (header << 20) >> 20)
}

/// Lanes of a word of nibbles, from its lowest bits on.
pub const NIBBLE_LANES: [usize; 8] = [0, 1, 4, 5, 2, 3, 6, 7];

/// The largest row multiplier that a [`QuantTable`]'s header can hold.
pub const MAX_MULTIPLIER: u8 = 16;

/// A row header of a [`QuantTable`].
///
/// # Ranges
///
/// `linear` is in [-2048, 2047], `multiplier` in 1..=16; more bits are cut off.
#[must_use]
#[expect(clippy::cast_sign_loss, reason = "the twelve bits are the code's two's complement")]
pub const fn row_header(linear: i16, multiplier: u8) -> u16 {
    (linear as u16) << 4 | (multiplier.wrapping_sub(1) & 15) as u16
}

/// First-order code of a row header.
#[must_use]
pub(crate) const fn header_linear(header: u16) -> i32 {
    (header.cast_signed() >> 4) as i32
}

/// Row multiplier of a row header.
#[must_use]
pub(crate) const fn header_multiplier(header: u16) -> i32 {
    (header.cast_signed() & 15) as i32 + 1
}

/// The weights of a layer on the fixed path, packed for the cores that read them: any core reads both.
///
/// `in` and `out` are padded to a multiple of [`BLOCK`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Weights<'a> {
    /// For cores that multiply one pair at a time (Cortex-M0, M3, RISC-V) and for hosts: `[out / 8, in, 8]`, each code
    /// plus 128, so that a load extends it by zeros.
    ///
    /// The sum is `Σᵢ (weights[o, i] − 128) · x[i]`.
    Scalar(&'a [u8]),
    /// For cores that multiply two 16-bit pairs at a time (Cortex-M4, M7, M33, M55): `[out / 4, in / 4, 4]` words of the
    /// four codes of one output and four inputs, c₂ c₀ c₃ c₁ from the lowest byte.
    ///
    /// The halfwords of the word, and of the word shifted up by 8 bits, are the multipliers as they lie: each code with the
    /// code below it as its fraction, w₀ = c₀ + u(c₂)/256, w₁ = c₁ + u(c₃)/256, w₂ = c₂, w₃ = c₃ + u(c₀)/256 with u the
    /// byte without sign. The converter rounds each code with its fraction in view, so this costs no accuracy, and saves the
    /// unpacking. The sum is taken in units of 1/256 and shifted down after every `fold` groups of four inputs.
    Dsp {
        /// The words, little-endian.
        words: &'a [u32],
        /// Groups of four inputs between two shifts.
        fold: u16,
    },
}

/// The four multipliers of a word of [`Weights::Dsp`], in units of 1/256.
#[must_use]
pub(crate) const fn dsp_weights(word: u32) -> [i32; 4] {
    let (low, high) = (word.cast_signed(), (word << 8).cast_signed());
    [(low << 16) >> 16, low >> 16, (high << 16) >> 16, high >> 16]
}

/// One hidden layer of the fixed path.
///
/// `acc[o] = bias[o] + Σᵢ weights[o, i] · x[i]`, in `i32`; see [`Weights`]. Homogeneous activations then give
/// `clamp(f(clamp(acc >> shift, ±max)), ±max)`; the others read `t = round(acc · multipliers[o] · 2^-shift)` as [`Q16`], and
/// give `clamp(round(f(t) · 2^fraction), ±max)`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct FixedLayer<'a> {
    /// The function after the sum.
    pub activation: Activation<i16>,
    /// Bits that requantization drops.
    pub shift: u8,
    /// Fraction bits of the outputs where the activation is not homogeneous, else 0.
    pub fraction: u8,
    /// Largest magnitude of an output.
    pub max: u16,
    /// How many outputs.
    pub out: u16,
    /// `[out padded]`, the rounding constant of the shift included.
    pub bias: &'a [i32],
    /// `[out, in]`
    pub weights: Weights<'a>,
    /// `PRelu`: Q13 slopes `[out]`; empty otherwise.
    pub slopes: &'a [i16],
    /// Sigmoid, tanh, ELU: multipliers `[out]`; empty otherwise.
    pub multipliers: &'a [i32],
}

/// How one dense input enters the fixed path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DenseInput {
    /// Largest legal magnitude; `score` refuses more.
    pub max: Q16,
    /// From [`Q16`] bits to the first layer's code.
    pub code: Rescale,
    /// From [`Q16`] bits to the first-order term's [`Q16`] bits.
    pub linear: Rescale,
}

/// The dense inputs as they lie in the blob: five words each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DenseInputs<'a> {
    /// `[inputs, 5]`: max, code multiplier, code shift, linear multiplier, linear shift.
    pub words: &'a [i32],
}

/// Words of one [`DenseInput`] in the blob.
pub(crate) const DENSE_INPUT_WORDS: usize = 5;

impl DenseInput {
    /// The five words of the blob.
    #[must_use]
    pub fn to_words(self) -> [i32; DENSE_INPUT_WORDS] {
        let Self { max, code, linear } = self;
        [max.to_bits(), code.multiplier, i32::from(code.shift), linear.multiplier, i32::from(linear.shift)]
    }
}

impl<'a> DenseInputs<'a> {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.words.len() / DENSE_INPUT_WORDS
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Gives the inputs one by one. A shift that is no legal one reads as 255.
    pub fn iter(&self) -> impl Iterator<Item = DenseInput> + 'a {
        let shift = |word: i32| u8::try_from(word).unwrap_or(u8::MAX);
        self.words.as_chunks::<DENSE_INPUT_WORDS>().0.iter().map(move |&[max, cm, cs, lm, ls]| DenseInput {
            max: Q16::from_bits(max),
            code: Rescale { multiplier: cm, shift: shift(cs) },
            linear: Rescale { multiplier: lm, shift: shift(ls) },
        })
    }
}

/// A model for the fixed path, part by part.
///
/// `emit` writes it, [`Model::new`] checks it.
#[derive(Clone, PartialEq, Debug)]
pub struct FixedParts<'a> {
    /// Name, dimensions, fields.
    pub info: Info<'a>,
    /// The largest magnitude of a value x; one when the model is only ever one-hot.
    pub max_value: Q16,
    /// The largest magnitude of an embedding of `table`, in its units; a code of 8 bits counts as 128.
    pub max_embedding: u16,
    /// First order and embeddings.
    pub table: Table<'a>,
    /// Bits that z loses before the first layer.
    pub shift: u8,
    /// Largest magnitude of a code that enters the first layer.
    pub max: u16,
    /// The dense inputs, in the model's order.
    pub dense_inputs: DenseInputs<'a>,
    /// The hidden layers.
    pub layers: Vec<FixedLayer<'a>, MAX_LAYERS>,
    /// p, `[width of the last layer, padded]`, or of z and the dense inputs when there is none.
    pub head: &'a [i16],
    /// From p · h to [`Q16`] bits.
    pub head_scale: Rescale,
    /// From the sum of first-order codes to [`Q16`] bits.
    pub linear_scale: Rescale,
    /// w0 and every other constant.
    pub bias: Q16,
    /// The link that [`Model::link`] gives.
    pub link: Link<Q16>,
}

/// The embeddings of the f32 path.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum F32Table<'a> {
    /// Floats.
    F32 {
        /// First order w, `[rows]`.
        linear: &'a [f32],
        /// V, `[rows, lanes]` row-major.
        embeddings: &'a [f32],
    },
    /// Codes; the lanes' scales are folded into the layer after z.
    I8 {
        /// First-order codes and row multipliers, and codes.
        table: QuantTable<'a>,
        /// w = `linear_scale` · first-order code.
        linear_scale: f32,
    },
}

/// The weights of a layer on the f32 path, `[out, in]` row-major, `in` padded to a multiple of [`BLOCK`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum F32Weights<'a> {
    /// Floats.
    F32(&'a [f32]),
    /// Codes with a scale for each output.
    I8 {
        /// `[out, in]`.
        codes: &'a [i8],
        /// `[out]`.
        scales: &'a [f32],
    },
}

/// One hidden layer of the f32 path: `y[o] = f(bias[o] + Σᵢ weights[o, i] · x[i])`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct F32Layer<'a> {
    /// f
    pub activation: Activation<f32>,
    /// `[out]`
    pub bias: &'a [f32],
    /// `[out, in]`
    pub weights: F32Weights<'a>,
    /// `PRelu`: `[out]`; empty otherwise.
    pub slopes: &'a [f32],
}

/// A model for the f32 path, part by part.
#[derive(Clone, PartialEq, Debug)]
pub struct F32Parts<'a> {
    /// Name, dimensions, fields.
    pub info: Info<'a>,
    /// First order and embeddings.
    pub table: F32Table<'a>,
    /// First-order weights of the dense inputs, `[dense inputs]`.
    pub dense_linear: &'a [f32],
    /// The hidden layers.
    pub layers: Vec<F32Layer<'a>, MAX_LAYERS>,
    /// p, `[width of the last layer, padded]`.
    pub head: &'a [f32],
    /// w0 and every other constant.
    pub bias: f32,
    /// The link that [`F32Model::link`] gives.
    pub link: Link<f32>,
}

/// A checked model for the fixed path: integers only, the same bits on every machine.
///
/// It borrows everything from the blob, and is a few hundred bytes itself. After [`Model::parse`] returned `Ok`
/// nothing can panic and no sum can overflow.
#[derive(Clone, PartialEq, Debug)]
pub struct Model<'a>(pub(crate) FixedParts<'a>, pub(crate) Sizes<'a>);

/// What [`Model::score`] would else compute again each time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Sizes<'a> {
    /// Lanes of z with their padding.
    pub(crate) lanes: usize,
    /// The dense inputs.
    pub(crate) dense_inputs: usize,
    /// Width of the first layer's input.
    pub(crate) input: usize,
    /// Words of the two buffers.
    pub(crate) buffers: (usize, usize),
    /// What the core's own instructions read.
    pub(crate) plan: Plan<'a>,
}

impl<'a> Sizes<'a> {
    /// Of no model.
    const EMPTY: Self = Self { lanes: 0, dense_inputs: 0, input: 0, buffers: (0, 0), plan: Plan::EMPTY };

    /// Sets all of them, where they are: a value that is moved is copied.
    #[inline(never)]
    pub(crate) fn fill(&mut self, parts: &FixedParts<'a>) {
        self.lanes = parts.info.lanes();
        self.dense_inputs = parts.dense_len();
        self.input = parts.input_len();
        self.buffers = parts.buffer_words();
        self.plan.fill(parts);
    }
}

impl<'a> Model<'a> {
    /// What `parse` fills.
    #[inline(always)]
    pub(crate) fn empty() -> Self {
        Self(FixedParts::empty(), Sizes::EMPTY)
    }

    /// Checks `parts` by every rule that [`Model::parse`] applies to a blob.
    ///
    /// # Errors
    ///
    /// As [`Model::parse`], from [`ParseError::OutOfRange`] on.
    pub fn new(parts: FixedParts<'a>) -> Result<Self, ParseError> {
        check::all_of_fixed(&parts)?;
        let mut model = Self(parts, Sizes::EMPTY);
        model.1.fill(&model.0);
        Ok(model)
    }

    /// Name, dimensions, fields.
    #[must_use]
    pub const fn info(&self) -> &Info<'a> {
        &self.0.info
    }

    /// How a raw score becomes a prediction.
    #[must_use]
    pub const fn link(&self) -> Link<Q16> {
        self.0.link
    }

    /// The parts.
    #[must_use]
    pub const fn parts(&self) -> &FixedParts<'a> {
        &self.0
    }

    /// How many words [`Model::score`] needs as scratch.
    #[must_use]
    pub fn scratch_len(&self) -> usize {
        self.0.scratch_len()
    }
}

impl FixedParts<'_> {
    /// What `parse` fills.
    #[inline(always)]
    const fn empty() -> Self {
        Self {
            info: Info::EMPTY,
            max_value: Q16::from_bits(0),
            max_embedding: 0,
            table: Table::I8(QuantTable { headers: &[], codes: &[] }),
            shift: 0,
            max: 0,
            dense_inputs: DenseInputs { words: &[] },
            layers: Vec::new(),
            head: &[],
            head_scale: Rescale { multiplier: 0, shift: 0 },
            linear_scale: Rescale { multiplier: 0, shift: 0 },
            bias: Q16::from_bits(0),
            link: Link::Sigmoid,
        }
    }

    /// Width of the first layer's input: lanes and dense inputs, padded.
    #[must_use]
    pub fn input_len(&self) -> usize {
        padded(self.info.lanes() + self.dense_len())
    }

    /// How many dense inputs there are.
    pub(crate) const fn dense_len(&self) -> usize {
        // A model with some is refused elsewhere.
        if features::DENSE_INPUTS { self.dense_inputs.len() } else { 0 }
    }

    /// How many words a score needs: two buffers that the layers read and write in turn.
    #[must_use]
    pub fn scratch_len(&self) -> usize {
        let (even, odd) = self.buffer_words();
        even + odd
    }

    /// Lengths of the two buffers, in words of two activations; the second holds the terms of the Bi-Interaction first.
    #[inline(always)]
    pub(crate) fn buffer_words(&self) -> (usize, usize) {
        let (even, odd) = buffers(self.input_len(), self.layers.iter().map(|l| l.bias.len()));
        (even / 2, (odd / 2).max(TERM_WORDS * usize::from(self.info.max_active)))
    }
}

/// A checked model for the f32 path.
#[derive(Clone, PartialEq, Debug)]
pub struct F32Model<'a>(pub(crate) F32Parts<'a>);

impl<'a> F32Model<'a> {
    /// Checks `parts` by every rule that [`F32Model::parse`] applies to a blob.
    ///
    /// # Errors
    ///
    /// As [`F32Model::parse`], from [`ParseError::OutOfRange`] on.
    pub fn new(parts: F32Parts<'a>) -> Result<Self, ParseError> {
        check::all_of_f32(&parts)?;
        Ok(Self(parts))
    }

    /// Name, dimensions, fields.
    #[must_use]
    pub const fn info(&self) -> &Info<'a> {
        &self.0.info
    }

    /// How a raw score becomes a prediction.
    #[must_use]
    pub const fn link(&self) -> Link<f32> {
        self.0.link
    }

    /// The parts.
    #[must_use]
    pub const fn parts(&self) -> &F32Parts<'a> {
        &self.0
    }

    /// How many `f32` [`F32Model::score`] needs as scratch.
    #[must_use]
    pub fn scratch_len(&self) -> usize {
        self.0.scratch_len()
    }
}

impl F32Parts<'_> {
    /// Width of the first layer's input: lanes and dense inputs, padded.
    #[must_use]
    pub fn input_len(&self) -> usize {
        padded(self.info.lanes() + self.dense_linear.len())
    }

    /// How many `f32` a score needs.
    #[must_use]
    pub fn scratch_len(&self) -> usize {
        let (even, odd) = self.buffers();
        even + odd
    }

    /// Lengths of the two buffers.
    pub(crate) fn buffers(&self) -> (usize, usize) {
        buffers(self.input_len(), self.layers.iter().map(|l| padded(l.bias.len())))
    }
}

/// `len` rounded up to a multiple of [`BLOCK`].
pub(crate) const fn padded(len: usize) -> usize {
    len.next_multiple_of(BLOCK)
}

/// `len`, or what `u32` holds at most.
pub(crate) fn saturate(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Lengths of the two buffers that hold the layers' inputs in turn; outs are padded.
fn buffers(input_len: usize, outs: impl Iterator<Item = usize>) -> (usize, usize) {
    // The one that holds what comes next is the second.
    let (mut this, mut next, mut swapped) = (input_len, 0, false);
    for out in outs {
        rolled();
        (this, next, swapped) = (next.max(out), this, !swapped);
    }
    if swapped { (next, this) } else { (this, next) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_header_gives_back_what_it_was_made_of() {
        for linear in [-2048_i16, -1, 0, 1, 2047] {
            for multiplier in 1..=MAX_MULTIPLIER {
                let header = row_header(linear, multiplier);
                assert_eq!(header_linear(header), i32::from(linear));
                assert_eq!(header_multiplier(header), i32::from(multiplier));
            }
        }
    }

    #[test]
    fn a_nibble_header_gives_back_what_it_was_made_of() {
        for linear in [-2048_i16, -1, 0, 2047] {
            for multiplier in [1_u16, 17, 256] {
                for offset in [-2048_i16, -7, 0, 2047] {
                    let parts = nibble_header_parts(nibble_header(linear, multiplier, offset));
                    assert_eq!(parts, (linear.into(), multiplier.into(), offset.into()));
                }
            }
        }
    }

    #[test]
    fn places_count_the_hot_rows_before() {
        // Rows 1, 31 and 33 are hot.
        let hot = [1 << 1 | 1 << 31, 0, 1 << 1, 2];
        let table = NibbleTable { headers: &[], hot: &hot, codes: &[], nibbles: &[] };
        let places = [0, 1, 2, 31, 32, 33, 34].map(|id| table.place(id));
        let (h, o) = (Place::Hot, Place::Other);
        assert_eq!(places, [o(0), h(0), o(1), h(1), o(30), h(2), o(31)]);
        let cold = NibbleTable { hot: &[], ..table };
        assert_eq!(cold.place(33), o(33));
    }

    #[test]
    fn the_buffers_hold_every_second_width() {
        assert_eq!(buffers(72, [128, 64, 32].into_iter()), (72, 128));
        assert_eq!(buffers(8, [8, 104].into_iter()), (104, 8));
    }
}
