//! [`Model`] → bytes, in the order in which `parse` reads them.

use bytemuck::NoUninit;
use serde::Serialize;

use super::{
    ALIGNMENT, Arithmetic, CHECKSUM_OFFSET, MAGIC, PREFIX_BYTES, VERSION, checksum,
    manifest::{Encoding, F32Head, F32LayerHead, FixedHead, FixedLayerHead, Head, TableEncoding},
};
use crate::{
    F32Model, Model,
    error::{EmitError, ParseError, Quantity},
    model::{F32Parts, F32Table, F32Weights, FixedParts, Info, Table, Weights, saturate},
};

impl Model<'_> {
    /// How many bytes [`Model::emit`] writes.
    ///
    /// # Errors
    ///
    /// When the blob would be longer than its prefix can say.
    pub fn encoded_len(&self) -> Result<usize, EmitError> {
        let mut sink = Sink::measure();
        sink.fixed(&self.0)?;
        Ok(total_bytes(sink.offset)? as usize)
    }

    /// Writes the blob to the start of `out` and gives its length.
    ///
    /// # Errors
    ///
    /// When `out` is shorter than [`Model::encoded_len`].
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, EmitError> {
        let mut sink = Sink::over(out, self.encoded_len()?)?;
        let manifest_bytes = sink.fixed(&self.0)?;
        sink.finish(Arithmetic::Fixed, !self.0.info.encoders.is_empty(), manifest_bytes, self.scratch_len())
    }
}

impl F32Model<'_> {
    /// How many bytes [`F32Model::emit`] writes.
    ///
    /// # Errors
    ///
    /// When the blob would be longer than its prefix can say.
    pub fn encoded_len(&self) -> Result<usize, EmitError> {
        let mut sink = Sink::measure();
        sink.f32(&self.0)?;
        Ok(total_bytes(sink.offset)? as usize)
    }

    /// Writes the blob to the start of `out` and gives its length.
    ///
    /// # Errors
    ///
    /// When `out` is shorter than [`F32Model::encoded_len`].
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, EmitError> {
        let mut sink = Sink::over(out, self.encoded_len()?)?;
        let manifest_bytes = sink.f32(&self.0)?;
        sink.finish(Arithmetic::F32, !self.0.info.encoders.is_empty(), manifest_bytes, self.scratch_len())
    }
}

/// A buffer that is written from its start, or only measured.
struct Sink<'o> {
    out: Option<&'o mut [u8]>,
    offset: usize,
}

impl<'o> Sink<'o> {
    fn measure() -> Self {
        Self { out: None, offset: 0 }
    }

    fn over(out: &'o mut [u8], needed: usize) -> Result<Self, EmitError> {
        match out.len() {
            got if got < needed => Err(EmitError::BufferTooShort { needed, got }),
            _ => Ok(Self { out: Some(out), offset: 0 }),
        }
    }

    /// Writes all of a fixed model but the prefix; gives the manifest's length.
    fn fixed(&mut self, parts: &FixedParts<'_>) -> Result<usize, EmitError> {
        self.bytes(&[0; PREFIX_BYTES])?;
        self.record(&head(&parts.info, parts.dense_inputs.len(), parts.layers.len())?)?;
        self.record(&FixedHead {
            max_value: parts.max_value,
            max_embedding: parts.max_embedding,
            table: match parts.table {
                Table::I8(_) => TableEncoding::I8,
                Table::I4(table) => {
                    TableEncoding::I4 { hot_rows: saturate(table.hot_rows(parts.info.lanes())) }
                }
            },
            shift: parts.shift,
            max: parts.max,
            head_scale: parts.head_scale,
            linear_scale: parts.linear_scale,
            bias: parts.bias,
            link: parts.link,
        })?;
        for layer in &parts.layers {
            self.record(&FixedLayerHead {
                out: layer.out,
                activation: layer.activation,
                shift: layer.shift,
                fraction: layer.fraction,
                max: layer.max,
                fold: match layer.weights {
                    Weights::Scalar(_) => 0,
                    Weights::Dsp { fold, .. } => fold,
                },
            })?;
        }
        let manifest_bytes = self.fields(&parts.info)?;
        match parts.table {
            Table::I8(table) => {
                self.section(table.headers)?;
                self.section(table.codes)?;
            }
            Table::I4(table) => {
                self.section(table.headers)?;
                self.section(table.hot)?;
                self.section(table.codes)?;
                self.section(table.nibbles)?;
            }
        }
        self.section(parts.dense_inputs.words)?;
        for layer in &parts.layers {
            self.section(layer.bias)?;
            match layer.weights {
                Weights::Scalar(codes) => self.section(codes)?,
                Weights::Dsp { words, .. } => self.section(words)?,
            }
            self.section(layer.slopes)?;
            self.section(layer.multipliers)?;
        }
        self.section(parts.head)?;
        self.bytes(parts.info.encoders)?;
        Ok(manifest_bytes)
    }

    /// Writes all of an f32 model but the prefix; gives the manifest's length.
    fn f32(&mut self, parts: &F32Parts<'_>) -> Result<usize, EmitError> {
        self.bytes(&[0; PREFIX_BYTES])?;
        self.record(&head(&parts.info, parts.dense_linear.len(), parts.layers.len())?)?;
        let (embeddings, linear_scale) = match parts.table {
            F32Table::F32 { .. } => (Encoding::F32, 0.0),
            F32Table::I8 { linear_scale, .. } => (Encoding::I8, linear_scale),
        };
        self.record(&F32Head { embeddings, linear_scale, bias: parts.bias, link: parts.link })?;
        for layer in &parts.layers {
            let weights = match layer.weights {
                F32Weights::F32(_) => Encoding::F32,
                F32Weights::I8 { .. } => Encoding::I8,
            };
            let out = narrow(layer.bias.len(), Quantity::LayerOut)?;
            self.record(&F32LayerHead { out, activation: layer.activation, weights })?;
        }
        let manifest_bytes = self.fields(&parts.info)?;
        match parts.table {
            F32Table::F32 { linear, embeddings } => {
                self.section(linear)?;
                self.section(embeddings)?;
            }
            F32Table::I8 { table, .. } => {
                self.section(table.headers)?;
                self.section(table.codes)?;
            }
        }
        self.section(parts.dense_linear)?;
        for layer in &parts.layers {
            self.section(layer.bias)?;
            match layer.weights {
                F32Weights::F32(weights) => self.section(weights)?,
                F32Weights::I8 { codes, scales } => {
                    self.section(scales)?;
                    self.section(codes)?;
                }
            }
            self.section(layer.slopes)?;
        }
        self.section(parts.head)?;
        self.bytes(parts.info.encoders)?;
        Ok(manifest_bytes)
    }

    /// Writes the fields, which end the manifest; gives its length.
    fn fields(&mut self, info: &Info<'_>) -> Result<usize, EmitError> {
        for field in info.fields.iter() {
            self.record(&field)?;
        }
        let manifest_bytes = self.offset - PREFIX_BYTES;
        self.align()?;
        Ok(manifest_bytes)
    }

    fn record<T: Serialize>(&mut self, record: &T) -> Result<(), EmitError> {
        let too_long = ParseError::Manifest { offset: saturate(self.offset) };
        let len = postcard::experimental::serialized_size(record).map_err(|_| too_long)?;
        let range = self.reserve(len)?;
        if let Some(out) = self.out.as_deref_mut().and_then(|out| out.get_mut(range)) {
            postcard::to_slice(record, out).map_err(|_| too_long)?;
        }
        Ok(())
    }

    fn section<T: NoUninit>(&mut self, elements: &[T]) -> Result<(), EmitError> {
        self.bytes(bytemuck::cast_slice(elements))?;
        self.align()
    }

    fn align(&mut self) -> Result<(), EmitError> {
        let padding = self.offset.next_multiple_of(ALIGNMENT) - self.offset;
        self.bytes([0; ALIGNMENT].get(..padding).unwrap_or_default())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), EmitError> {
        let range = self.reserve(bytes.len())?;
        if let Some(out) = self.out.as_deref_mut().and_then(|out| out.get_mut(range)) {
            out.copy_from_slice(bytes);
        }
        Ok(())
    }

    /// Moves on by `len` bytes, which must be there.
    fn reserve(&mut self, len: usize) -> Result<core::ops::Range<usize>, EmitError> {
        let start = self.offset;
        let end = start.saturating_add(len);
        if let Some(got) = self.out.as_ref().map(|out| out.len()).filter(|&got| got < end) {
            return Err(EmitError::BufferTooShort { needed: end, got });
        }
        self.offset = end;
        Ok(start..end)
    }

    /// Writes the prefix over the zeros at the start; gives the blob's length.
    fn finish(
        self,
        arithmetic: Arithmetic,
        has_encoders: bool,
        manifest_bytes: usize,
        scratch_len: usize,
    ) -> Result<usize, EmitError> {
        let len = self.offset;
        let total_bytes = total_bytes(len)?;
        let blob = self.out.and_then(|out| out.get_mut(..len)).unwrap_or_default();
        let [v0, v1] = VERSION.to_le_bytes();
        let words = [total_bytes, saturate(manifest_bytes), saturate(scratch_len)].map(u32::to_le_bytes);
        let prefix = MAGIC
            .into_iter()
            .chain([v0, v1, arithmetic as u8, has_encoders.into()])
            .chain(words.into_iter().flatten());
        blob.iter_mut().zip(prefix).for_each(|(byte, value)| *byte = value);
        let checksum = checksum(blob).to_le_bytes();
        blob.iter_mut().skip(CHECKSUM_OFFSET).zip(checksum).for_each(|(byte, value)| *byte = value);
        Ok(len)
    }
}

/// `len` as the prefix's type.
fn total_bytes(len: usize) -> Result<u32, ParseError> {
    u32::try_from(len).map_err(|_| ParseError::Length { expected: u32::MAX, found: saturate(len) })
}

fn head<'a>(info: &Info<'a>, dense_inputs: usize, layers: usize) -> Result<Head<'a>, ParseError> {
    let Info { name, rows, dim, max_active, fields, .. } = *info;
    Ok(Head {
        name,
        rows,
        dim,
        max_active,
        dense_inputs: narrow(dense_inputs, Quantity::DenseInputs)?,
        layers: narrow(layers, Quantity::Layers)?,
        fields: narrow(fields.len(), Quantity::Fields)?,
    })
}

/// `len` as the manifest's type.
fn narrow<T: TryFrom<usize> + Into<u32>>(len: usize, what: Quantity) -> Result<T, ParseError> {
    T::try_from(len).map_err(|_| ParseError::OutOfRange {
        what,
        found: saturate(len),
        limit: u16::MAX.into(),
    })
}
