//! The manifest's records, each one postcard value, in the order in which they stand here.
//!
//! `emit` writes them by serde's derive. They are read by hand: derived, each type has its own visitors and copies of postcard's
//! functions, 2.5 KB of code more on a Cortex-M0.

use serde::Serialize;

use crate::{
    Q16, Rescale, features,
    link::Link,
    model::{Activation, Field, FieldKind, Pooling},
};

/// Takes numbers, as postcard writes them, from the start of some bytes.
///
/// What cannot be decoded is 0 and sets `failed`, which is looked at once a record: a branch less for each number.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    pub(crate) rest: &'a [u8],
    pub(crate) failed: bool,
}

impl<'a> Decoder<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, failed: false }
    }

    /// A number of at most `bits` bits: seven a byte, the lowest first; the highest bit of a byte says that more follow.
    #[inline(never)]
    fn number(&mut self, bits: u32) -> u32 {
        let (mut number, mut shift) = (0, 0);
        while shift < bits
            && let Some((&byte, rest)) = self.rest.split_first()
        {
            self.rest = rest;
            let part = u32::from(byte & 127);
            number |= part << shift;
            // The last byte that a number can have has bits to spare.
            self.failed |= part.checked_shr(bits - shift).is_some_and(|beyond| beyond != 0);
            if byte < 128 {
                return number;
            }
            shift += 7;
        }
        self.failed = true;
        0
    }

    pub(super) fn u32(&mut self) -> u32 {
        self.number(u32::BITS)
    }

    #[expect(clippy::cast_possible_truncation, reason = "of so many bits")]
    pub(super) fn u16(&mut self) -> u16 {
        self.number(u16::BITS) as u16
    }

    #[inline(never)]
    pub(super) fn u8(&mut self) -> u8 {
        let Some((&byte, rest)) = self.rest.split_first() else {
            self.failed = true;
            return 0;
        };
        self.rest = rest;
        byte
    }

    #[inline(never)]
    fn i32(&mut self) -> i32 {
        let zigzag = self.u32();
        (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed()
    }

    pub(super) fn q16(&mut self) -> Q16 {
        Q16::from_bits(self.i32())
    }

    pub(super) fn i16(&mut self) -> i16 {
        let zigzag = self.u16();
        (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed()
    }

    fn f32(&mut self) -> f32 {
        let taken = self.rest.split_first_chunk();
        self.failed |= taken.is_none();
        let (bytes, rest) = taken.unwrap_or((&[0; 4], self.rest));
        self.rest = rest;
        f32::from_le_bytes(*bytes)
    }

    #[inline(never)]
    pub(super) fn str(&mut self) -> &'a str {
        let len = self.u32() as usize;
        let Some((text, rest)) = self.rest.split_at_checked(len) else {
            self.failed = true;
            return "";
        };
        self.rest = rest;
        if !features::NAMES {
            return "";
        }
        // Not by `from_utf8`, whose paths for long texts are 300 bytes.
        text.utf8_chunks().next().map_or("", |chunk| {
            self.failed |= !chunk.invalid().is_empty();
            chunk.valid()
        })
    }

    /// A value of an enum without any variant of that tag.
    fn no_variant<T>(&mut self, any: T) -> T {
        self.failed = true;
        any
    }

    pub(super) fn rescale(&mut self) -> Rescale {
        Rescale { multiplier: self.i32(), shift: self.u8() }
    }

    /// A link with ends that `end` decodes.
    pub(super) fn link<V>(&mut self, end: fn(&mut Self) -> V) -> Link<V> {
        match self.u32() {
            0 => Link::Sigmoid,
            1 => Link::Identity,
            2 => Link::Clip { min: end(self), max: end(self) },
            _ => self.no_variant(Link::Identity),
        }
    }

    /// An activation with a parameter that `parameter` decodes.
    pub(super) fn activation<S>(&mut self, parameter: fn(&mut Self) -> S) -> Activation<S> {
        match self.u32() {
            0 => Activation::Identity,
            1 => Activation::Relu,
            2 => Activation::LeakyRelu { slope: parameter(self) },
            3 => Activation::PRelu,
            4 => Activation::Sigmoid,
            5 => Activation::Tanh,
            6 => Activation::Elu { alpha: parameter(self) },
            _ => self.no_variant(Activation::Identity),
        }
    }

    /// The activation of a layer of the fixed path. Where the rectifier is all that this build has, any other reads as the identity,
    /// which `check::features` refuses.
    pub(super) fn fixed_activation(&mut self) -> Activation<i16> {
        if features::ACTIVATIONS {
            return self.activation(Self::i16);
        }
        let tag = self.u32();
        if tag == 2 || tag == 6 {
            self.i16();
        }
        self.failed |= tag > 6;
        if tag == 1 { Activation::Relu } else { Activation::Identity }
    }

    fn encoding(&mut self) -> Encoding {
        match self.u32() {
            0 => Encoding::F32,
            1 => Encoding::I8,
            _ => self.no_variant(Encoding::I8),
        }
    }

    fn pooling(&mut self) -> Pooling {
        match self.u32() {
            0 => Pooling::Sum,
            1 => Pooling::Mean,
            2 => Pooling::SqrtN,
            3 => Pooling::Max,
            _ => self.no_variant(Pooling::Sum),
        }
    }

    /// The fixed path's table: how it is stored.
    pub(super) fn table(&mut self) -> TableEncoding {
        match self.u32() {
            0 => TableEncoding::I8,
            1 => TableEncoding::I4 { hot_rows: self.u32() },
            _ => self.no_variant(TableEncoding::I8),
        }
    }
}

/// A value that is a record of the manifest.
pub(crate) trait Record<'a> {
    /// Takes the record from the decoder; a value without meaning where it fails.
    fn decode(decoder: &mut Decoder<'a>) -> Self;
}

impl<'a> Record<'a> for Field<'a> {
    #[inline(never)]
    fn decode(decoder: &mut Decoder<'a>) -> Self {
        let name = decoder.str();
        let FieldNumbers { tag, first, rows, pooling, linear } = decoder.field_numbers();
        let kind = match tag {
            0 => FieldKind::Id { first, rows },
            2 => FieldKind::Ids { first, rows },
            3 => FieldKind::Scaled { row: first },
            4 => FieldKind::Sequence { first, rows, pooling, linear },
            _ => FieldKind::Dense,
        };
        Self { name, kind }
    }
}

/// What a field's kind is encoded as.
struct FieldNumbers {
    tag: u32,
    first: u32,
    rows: u32,
    pooling: Pooling,
    linear: Pooling,
}

/// What the fields say of the dimensions.
#[derive(Clone, Copy, Default)]
pub(super) struct FieldTotals {
    /// How many fields there are.
    pub(super) fields: usize,
    /// Where the last of their rows ends, saturated.
    pub(super) rows: u32,
    /// How many are dense inputs.
    pub(super) dense: usize,
}

impl FieldTotals {
    pub(super) fn add(&mut self, (first, rows): (u32, u32), is_dense: bool) {
        self.fields += 1;
        self.rows = self.rows.max(first.saturating_add(rows));
        self.dense += usize::from(is_dense);
    }
}

impl Decoder<'_> {
    #[inline(always)]
    fn field_numbers(&mut self) -> FieldNumbers {
        let tag = self.u32();
        let (mut first, mut rows, mut pooling, mut linear) = (0, 0, Pooling::Sum, Pooling::Sum);
        self.failed |= tag > 4;
        if tag != 1 {
            first = self.u32();
            rows = if tag == 3 { 1 } else { self.u32() };
        }
        if tag == 4 {
            (pooling, linear) = (self.pooling(), self.pooling());
        }
        FieldNumbers { tag, first, rows, pooling, linear }
    }

    /// Skips a field, and adds it to the totals.
    #[inline(never)]
    pub(super) fn field(&mut self, totals: &mut FieldTotals) {
        self.str();
        let FieldNumbers { tag, first, rows, .. } = self.field_numbers();
        totals.add((first, rows), tag == 1);
    }
}

/// The first record of both arithmetic paths.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Head<'a> {
    pub(super) name: &'a str,
    pub(super) rows: u32,
    pub(super) dim: u16,
    pub(super) max_active: u16,
    pub(super) dense_inputs: u16,
    pub(super) layers: u8,
    pub(super) fields: u16,
}

/// The second record of the fixed path.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct FixedHead {
    pub(super) max_value: Q16,
    pub(super) max_embedding: u16,
    pub(super) table: TableEncoding,
    pub(super) shift: u8,
    pub(super) max: u16,
    pub(super) head_scale: Rescale,
    pub(super) linear_scale: Rescale,
    pub(super) bias: Q16,
    pub(super) link: Link<Q16>,
}

/// How the fixed path stores embeddings.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) enum TableEncoding {
    I8,
    I4 { hot_rows: u32 },
}

/// A layer of the fixed path.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct FixedLayerHead {
    pub(super) out: u16,
    pub(super) activation: Activation<i16>,
    pub(super) shift: u8,
    pub(super) fraction: u8,
    pub(super) max: u16,
    /// 0 for scalar weights, else the groups between two folds of DSP weights.
    pub(super) fold: u16,
}

/// How the f32 path stores a table or a layer's weights.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) enum Encoding {
    F32,
    I8,
}

/// The second record of the f32 path.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct F32Head {
    pub(super) embeddings: Encoding,
    pub(super) linear_scale: f32,
    pub(super) bias: f32,
    pub(super) link: Link<f32>,
}

impl Record<'_> for F32Head {
    fn decode(decoder: &mut Decoder<'_>) -> Self {
        Self {
            embeddings: decoder.encoding(),
            linear_scale: decoder.f32(),
            bias: decoder.f32(),
            link: decoder.link(Decoder::f32),
        }
    }
}

/// A layer of the f32 path.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct F32LayerHead {
    pub(super) out: u16,
    pub(super) activation: Activation<f32>,
    pub(super) weights: Encoding,
}

impl Record<'_> for F32LayerHead {
    fn decode(decoder: &mut Decoder<'_>) -> Self {
        Self { out: decoder.u16(), activation: decoder.activation(Decoder::f32), weights: decoder.encoding() }
    }
}
