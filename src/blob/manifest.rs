//! The manifest's records, each one postcard value, in the order in which they stand here.
//!
//! `emit` writes them by serde's derive. They are read by hand: derived, each type has its own visitors and copies of postcard's
//! functions, 2.5 KB of code more on a Cortex-M0.

use serde::Serialize;

use crate::{
    Q16, Rescale,
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

    /// The number of an `Option`, or 0 and a failure.
    fn or_fail<T: Default>(&mut self, number: Option<T>) -> T {
        self.failed |= number.is_none();
        number.unwrap_or_default()
    }

    #[inline(never)]
    fn u32(&mut self) -> u32 {
        let taken = postcard::take_from_bytes(self.rest).ok();
        self.rest = taken.map_or(self.rest, |(_, rest)| rest);
        self.or_fail(taken.map(|(number, _)| number))
    }

    #[inline(never)]
    fn u16(&mut self) -> u16 {
        let before = self.rest.len();
        let number = u16::try_from(self.u32()).ok();
        // No u16 takes more bytes, not even in a form longer than the shortest.
        let number = number.filter(|_| before - self.rest.len() <= 3);
        self.or_fail(number)
    }

    #[inline(never)]
    fn u8(&mut self) -> u8 {
        let taken = self.rest.split_first();
        self.rest = taken.map_or(self.rest, |(_, rest)| rest);
        self.or_fail(taken.map(|(&byte, _)| byte))
    }

    #[inline(never)]
    fn i32(&mut self) -> i32 {
        let zigzag = self.u32();
        (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed()
    }

    fn q16(&mut self) -> Q16 {
        Q16::from_bits(self.i32())
    }

    fn i16(&mut self) -> i16 {
        let zigzag = self.u16();
        (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed()
    }

    fn f32(&mut self) -> f32 {
        let taken = self.rest.split_first_chunk();
        self.rest = taken.map_or(self.rest, |(_, rest)| rest);
        f32::from_le_bytes(self.or_fail(taken.map(|(&bytes, _)| bytes)))
    }

    #[inline(never)]
    fn str(&mut self) -> &'a str {
        let len = self.u32() as usize;
        let taken = self.rest.split_at_checked(len);
        self.rest = taken.map_or(self.rest, |(_, rest)| rest);
        // Not by `from_utf8`, whose paths for long texts are 300 bytes.
        let mut chunks = taken.map_or(&[][..], |(text, _)| text).utf8_chunks();
        let text = chunks.next().map_or("", |chunk| {
            self.failed |= !chunk.invalid().is_empty();
            chunk.valid()
        });
        self.failed |= taken.is_none();
        text
    }

    /// A value of an enum without any variant of that tag.
    fn no_variant<T>(&mut self, any: T) -> T {
        self.failed = true;
        any
    }

    fn rescale(&mut self) -> Rescale {
        Rescale { multiplier: self.i32(), shift: self.u8() }
    }

    /// A link with ends that `end` decodes.
    fn link<V>(&mut self, end: fn(&mut Self) -> V) -> Link<V> {
        match self.u32() {
            0 => Link::Sigmoid,
            1 => Link::Identity,
            2 => Link::Clip { min: end(self), max: end(self) },
            _ => self.no_variant(Link::Identity),
        }
    }

    /// An activation with a parameter that `parameter` decodes.
    fn activation<S>(&mut self, parameter: fn(&mut Self) -> S) -> Activation<S> {
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
    fn table(&mut self) -> TableEncoding {
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
        let kind = match decoder.u32() {
            0 => FieldKind::Id { first: decoder.u32(), rows: decoder.u32() },
            1 => FieldKind::Dense,
            2 => FieldKind::Ids { first: decoder.u32(), rows: decoder.u32() },
            3 => FieldKind::Scaled { row: decoder.u32() },
            4 => FieldKind::Sequence {
                first: decoder.u32(),
                rows: decoder.u32(),
                pooling: decoder.pooling(),
                linear: decoder.pooling(),
            },
            _ => decoder.no_variant(FieldKind::Dense),
        };
        Self { name, kind }
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

impl<'a> Record<'a> for Head<'a> {
    fn decode(decoder: &mut Decoder<'a>) -> Self {
        Self {
            name: decoder.str(),
            rows: decoder.u32(),
            dim: decoder.u16(),
            max_active: decoder.u16(),
            dense_inputs: decoder.u16(),
            layers: decoder.u8(),
            fields: decoder.u16(),
        }
    }
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

impl Record<'_> for FixedHead {
    fn decode(decoder: &mut Decoder<'_>) -> Self {
        Self {
            max_value: decoder.q16(),
            max_embedding: decoder.u16(),
            table: decoder.table(),
            shift: decoder.u8(),
            max: decoder.u16(),
            head_scale: decoder.rescale(),
            linear_scale: decoder.rescale(),
            bias: decoder.q16(),
            link: decoder.link(Decoder::q16),
        }
    }
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

impl Record<'_> for FixedLayerHead {
    fn decode(decoder: &mut Decoder<'_>) -> Self {
        Self {
            out: decoder.u16(),
            activation: decoder.activation(Decoder::i16),
            shift: decoder.u8(),
            fraction: decoder.u8(),
            max: decoder.u16(),
            fold: decoder.u16(),
        }
    }
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
