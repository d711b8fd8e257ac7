//! Bytes → [`Model`]: one pass that cuts the blob into typed slices, then the rules of [`check`](super::check).

use bytemuck::AnyBitPattern;
use heapless::Vec;

use super::{
    ALIGNMENT, Arithmetic, MAGIC, PREFIX_BYTES, VERSION,
    check::{self, Verdict, multipliers, slopes},
    checksum,
    manifest::{Decoder, Encoding, F32Head, F32LayerHead, FieldTotals, Record, TableEncoding},
};
use crate::{
    F32Model, Model,
    error::{ParseError, Quantity},
    features::{ACTIVATIONS, DENSE_INPUTS, NIBBLES},
    model::{
        DENSE_INPUT_WORDS, DenseInputs, F32Layer, F32Parts, F32Table, F32Weights, Fields, FixedLayer,
        FixedParts, Info, MAX_LAYERS, MAX_WIDTH, NibbleTable, QuantTable, Table, Weights, padded, saturate,
    },
};

impl<'a> Model<'a> {
    /// Checks a blob once and for all, and gives the model that lies in it.
    ///
    /// Bytes after the blob's own length are ignored, so that a whole flash slot can be handed in.
    ///
    /// # Errors
    ///
    /// [`ParseError`] names the rule of `FORMAT.md` that is broken.
    ///
    /// # Examples
    ///
    /// ```
    /// use embedded_nfm::{Model, ParseError};
    ///
    /// let blob = embedded_nfm::include_model!("../../tests/golden/tiny.nfm");
    /// assert!(Model::parse(blob).is_ok());
    /// let cut = Model::parse(&blob[..40]).unwrap_err();
    /// assert!(matches!(cut, ParseError::Truncated { got: 40, .. }));
    /// ```
    pub fn parse(blob: &'a [u8]) -> Result<Self, ParseError> {
        let mut result = Ok(Self::empty());
        if let Ok(model) = &mut result
            && let Err(error) = Reader::fixed(blob, model)
        {
            result = Err(error);
        }
        result
    }

    /// As [`Model::parse`], where the model stays: a result that is moved is copied, which takes the stack for two models.
    ///
    /// # Errors
    ///
    /// As [`Model::parse`]; `place` is `None` then.
    ///
    /// # Examples
    ///
    /// ```
    /// use embedded_nfm::Model;
    ///
    /// let mut place = None;
    /// Model::parse_into(embedded_nfm::include_model!("../../tests/golden/tiny.nfm"), &mut place)?;
    /// assert!(place.is_some());
    /// # Ok::<(), embedded_nfm::ParseError>(())
    /// ```
    pub fn parse_into(blob: &'a [u8], place: &mut Option<Self>) -> Result<(), ParseError> {
        let result = Reader::fixed(blob, place.insert(Self::empty()));
        if result.is_err() {
            *place = None;
        }
        result
    }
}

impl<'a> F32Model<'a> {
    /// Checks a blob once and for all, and gives the model that lies in it.
    ///
    /// # Errors
    ///
    /// [`ParseError`] names the rule of `FORMAT.md` that is broken.
    pub fn parse(blob: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new();
        reader.open(blob, Arithmetic::F32);
        let mut info = Info::EMPTY;
        let Counts { dense_inputs, layers: count, fields } = reader.head(&mut info);
        let second: F32Head = reader.record();
        let (mut outs, mut layers) = (Vec::<u16, MAX_LAYERS>::new(), Vec::new());
        for _ in 0..count {
            let F32LayerHead { out, activation, weights } = reader.record();
            let weights = match weights {
                Encoding::F32 => F32Weights::F32(&[]),
                Encoding::I8 => F32Weights::I8 { codes: &[], scales: &[] },
            };
            reader.push(&mut outs, out);
            reader.push(&mut layers, F32Layer { activation, bias: &[], weights, slopes: &[] });
        }
        let totals = reader.fields(fields, &mut info);

        let rows = info.rows as usize;
        let table = match second.embeddings {
            Encoding::F32 => {
                reader.verdict.at_most(Quantity::Reserved, second.linear_scale.to_bits(), 0);
                F32Table::F32 {
                    linear: reader.section(rows, 1),
                    embeddings: reader.section(rows, info.lanes()),
                }
            }
            Encoding::I8 => F32Table::I8 {
                table: reader.quant_table(rows, info.lanes()),
                linear_scale: second.linear_scale,
            },
        };
        let dense_linear = reader.section(dense_inputs, 1);
        let mut width = padded(info.lanes() + dense_inputs);
        for (layer, out) in layers.iter_mut().zip(&outs) {
            reader.f32_layer(layer, usize::from(*out), width);
            width = padded(usize::from(*out));
        }
        let mut model = Self(F32Parts {
            info,
            table,
            dense_linear,
            layers,
            head: reader.section(1, width),
            bias: second.bias,
            link: second.link,
        });
        model.0.info.encoders = reader.encoders();
        check::f32(&mut reader.verdict, &model.0, totals);
        reader.close(model.scratch_len())?;
        Ok(model)
    }
}

/// How many elements of scratch the model in `blob` needs, readable at compile time; 0 for what is no blob.
///
/// `parse` refuses a blob whose statement is not the truth.
///
/// # Examples
///
/// ```
/// static MODEL: &[u8] = embedded_nfm::include_model!("../../tests/golden/tiny.nfm");
/// static mut SCRATCH: [u32; embedded_nfm::scratch_len(MODEL)] = [0; embedded_nfm::scratch_len(MODEL)];
/// ```
#[must_use]
pub const fn scratch_len(blob: &[u8]) -> usize {
    match blob.first_chunk::<PREFIX_BYTES>() {
        Some([_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, a, b, c, d, ..]) => {
            u32::from_le_bytes([*a, *b, *c, *d]) as usize
        }
        None => 0,
    }
}

/// A position in the blob that only moves forward.
struct Reader<'a> {
    /// The blob, cut to its own length.
    blob: &'a [u8],
    /// The same, as far as it is whole words.
    words: &'a [u32],
    /// How many of them lie behind.
    at: usize,
    /// What is left of the manifest.
    manifest: Decoder<'a>,
    manifest_end: usize,
    scratch_len: u32,
    has_encoders: bool,
    /// After a broken rule records have no meaning and sections are empty.
    verdict: Verdict,
}

/// What there is as often as the first record says.
struct Counts {
    dense_inputs: usize,
    layers: u8,
    fields: u16,
}

impl<'a> Reader<'a> {
    /// A reader of nothing.
    #[inline(always)]
    fn new() -> Self {
        Self {
            blob: &[],
            words: &[],
            at: 0,
            manifest: Decoder::new(&[]),
            manifest_end: 0,
            scratch_len: 0,
            has_encoders: false,
            verdict: Verdict::default(),
        }
    }

    /// Goes behind the prefix of a blob, and checks it and the checksum.
    #[inline(never)]
    fn open(&mut self, blob: &'a [u8], arithmetic: Arithmetic) {
        let verdict = &mut self.verdict;
        let got = saturate(blob.len());
        let Some(words) = whole_words(blob) else {
            let remainder = saturate(blob.as_ptr().addr() % ALIGNMENT).to_le_bytes()[0];
            return verdict.broken(ParseError::Misaligned { remainder });
        };
        if let Some(found) = words.first().map(|word| word.to_le_bytes())
            && found != MAGIC
        {
            return verdict.broken(ParseError::NotAModel { found });
        }
        let &[_, kind, total_bytes, manifest_bytes, scratch_len, stored, ..] = words else {
            return verdict.truncated(saturate(PREFIX_BYTES), got);
        };
        let [v0, v1, found, encoders] = kind.to_le_bytes();
        let version = u16::from_le_bytes([v0, v1]);
        if version != VERSION {
            return verdict.broken(ParseError::UnsupportedVersion { found: version, supported: VERSION });
        }
        let Some(blob) = blob.get(..total_bytes as usize) else {
            return verdict.truncated(total_bytes, got);
        };
        let computed = checksum(blob);
        if computed != stored {
            return verdict.broken(ParseError::ChecksumMismatch { stored, computed });
        }
        if found != arithmetic as u8 {
            return verdict.broken(ParseError::WrongArithmetic { found, expected: arithmetic as u8 });
        }
        verdict.at_most(Quantity::Reserved, encoders.into(), 1);
        self.manifest_end = PREFIX_BYTES.saturating_add(manifest_bytes as usize);
        let Some(manifest) = blob.get(PREFIX_BYTES..self.manifest_end) else {
            return verdict.length(total_bytes as usize, self.manifest_end);
        };
        self.manifest.rest = manifest;
        (self.blob, self.scratch_len, self.has_encoders) = (blob, scratch_len, encoders != 0);
        self.words = whole_words(blob).unwrap_or_default();
    }

    /// Reads a blob of the fixed path into a model, and checks it.
    #[inline(never)]
    fn fixed(blob: &'a [u8], model: &mut Model<'a>) -> Result<(), ParseError> {
        let Model(parts, sizes) = model;
        let mut reader = Self::new();
        reader.open(blob, Arithmetic::Fixed);
        let Counts { dense_inputs, layers, fields } = reader.head(&mut parts.info);
        let table = reader.fixed_head(parts);
        for _ in 0..layers {
            reader.fixed_layer_head(&mut parts.layers);
        }
        let totals = reader.fields(fields, &mut parts.info);
        check::features(&mut reader.verdict, parts, table != TableEncoding::I8, dense_inputs);

        let lanes = parts.info.lanes();
        parts.table = reader.table(parts.info.rows, table, lanes);
        if DENSE_INPUTS {
            parts.dense_inputs = DenseInputs { words: reader.section(dense_inputs, DENSE_INPUT_WORDS) };
        }
        let mut width = padded(lanes + dense_inputs);
        for layer in &mut parts.layers {
            reader.fixed_layer(layer, width);
            width = layer.bias.len();
        }
        parts.head = reader.section(1, width);
        parts.info.encoders = reader.encoders();
        check::fixed(&mut reader.verdict, parts, totals);
        sizes.fill(parts);
        reader.close(sizes.buffers.0 + sizes.buffers.1)
    }

    /// Decodes the first record, [`Head`](super::manifest::Head), and checks the dimensions' upper ends, before anything is multiplied
    /// with them.
    #[inline(never)]
    fn head(&mut self, info: &mut Info<'a>) -> Counts {
        let (start, manifest) = (self.record_offset(), &mut self.manifest);
        info.name = manifest.str();
        info.rows = manifest.u32();
        info.dim = manifest.u16();
        info.max_active = manifest.u16();
        let (dense_inputs, layers, fields) = (manifest.u16(), manifest.u8(), manifest.u16());
        self.end_record(start);
        let max_width = saturate(MAX_WIDTH);
        self.verdict.at_most(Quantity::Rows, info.rows, u32::MAX >> 1);
        self.verdict.at_most(Quantity::Dim, info.dim.into(), max_width);
        self.verdict.at_most(Quantity::DenseInputs, dense_inputs.into(), max_width);
        self.verdict.at_most(Quantity::Layers, layers.into(), saturate(MAX_LAYERS));
        Counts { dense_inputs: dense_inputs.into(), layers, fields }
    }

    /// Where the manifest's next record starts.
    fn record_offset(&self) -> usize {
        self.manifest_end.saturating_sub(self.manifest.rest.len())
    }

    /// Decodes the manifest's next record.
    #[inline(always)]
    fn record<T: Record<'a>>(&mut self) -> T {
        let start = self.record_offset();
        let record = T::decode(&mut self.manifest);
        self.end_record(start);
        record
    }

    #[inline(never)]
    fn end_record(&mut self, start: usize) {
        if self.manifest.failed {
            self.verdict.broken(ParseError::Manifest { offset: saturate(start) });
        }
    }

    /// Decodes the second record of the fixed path, [`FixedHead`](super::manifest::FixedHead), to where it goes: a record that is
    /// moved is copied.
    #[inline(never)]
    fn fixed_head(&mut self, parts: &mut FixedParts<'a>) -> TableEncoding {
        let (start, manifest) = (self.record_offset(), &mut self.manifest);
        parts.max_value = manifest.q16();
        parts.max_embedding = manifest.u16();
        let table = manifest.table();
        parts.shift = manifest.u8();
        parts.max = manifest.u16();
        parts.head_scale = manifest.rescale();
        parts.linear_scale = manifest.rescale();
        parts.bias = manifest.q16();
        parts.link = manifest.link(Decoder::q16);
        self.end_record(start);
        table
    }

    /// Decodes a layer's record, [`FixedLayerHead`](super::manifest::FixedLayerHead), and adds the layer; its sections are not cut yet.
    #[inline(never)]
    fn fixed_layer_head(&mut self, layers: &mut Vec<FixedLayer<'a>, MAX_LAYERS>) {
        let (start, manifest) = (self.record_offset(), &mut self.manifest);
        let (out, activation) = (manifest.u16(), manifest.fixed_activation());
        let (shift, fraction, max) = (manifest.u8(), manifest.u8(), manifest.u16());
        let weights = match manifest.u16() {
            0 => Weights::Scalar(&[]),
            fold => Weights::Dsp { words: &[], fold },
        };
        self.end_record(start);
        if !self.verdict.is_broken() {
            let (bias, slopes, multipliers) = (&[], &[], &[]);
            // When there is no room, `head` has seen it.
            let _ = layers.push(FixedLayer {
                activation,
                shift,
                fraction,
                max,
                out,
                bias,
                weights,
                slopes,
                multipliers,
            });
        }
    }

    /// Adds a layer; when there is no room, `head` has seen it.
    fn push<T>(&self, layers: &mut Vec<T, MAX_LAYERS>, layer: T) {
        if !self.verdict.is_broken() {
            let _ = layers.push(layer);
        }
    }

    /// Decodes the fields, which end the manifest, and moves to the first section.
    #[inline(never)]
    fn fields(&mut self, count: u16, info: &mut Info<'a>) -> FieldTotals {
        info.fields = Fields::Encoded { count, bytes: self.manifest.rest };
        let mut totals = FieldTotals::default();
        for _ in 0..count {
            let start = self.record_offset();
            self.manifest.field(&mut totals);
            self.end_record(start);
        }
        if !self.manifest.rest.is_empty() {
            self.verdict.length(self.record_offset(), self.manifest_end);
        }
        self.move_to(self.manifest_end);
        totals
    }

    /// Cuts the next section: `rows · columns` elements, then zeros up to the alignment.
    #[inline(always)]
    fn section<T: AnyBitPattern>(&mut self, rows: usize, columns: usize) -> &'a [T] {
        let words = self.section_words(rows, columns, size_of::<T>());
        // No element is larger than a word. The product was checked.
        bytemuck::must_cast_slice(words).get(..rows.wrapping_mul(columns)).unwrap_or_default()
    }

    /// The one place that multiplies dimensions. Not inlined: there are a dozen calls.
    #[inline(never)]
    fn section_words(&mut self, rows: usize, columns: usize, size: usize) -> &'a [u32] {
        let bytes = rows.checked_mul(columns).and_then(|len| len.checked_mul(size));
        let end = bytes.and_then(|bytes| (self.at * ALIGNMENT).checked_add(bytes)).unwrap_or(usize::MAX);
        self.move_to(end)
    }

    /// The words up to byte `end`, and to the next aligned offset; the bytes after `end` must be zero.
    #[inline(never)]
    fn move_to(&mut self, end: usize) -> &'a [u32] {
        let next = end.div_ceil(ALIGNMENT);
        let cut = self.words.get(self.at..next).filter(|_| !self.verdict.is_broken());
        let Some(words) = cut else {
            // The blob ends in the section, or in the zeros after it.
            let expected = if end > self.blob.len() { end } else { next * ALIGNMENT };
            self.verdict.length(expected, self.blob.len());
            return &[];
        };
        self.at = next;
        if !end.is_multiple_of(ALIGNMENT)
            && words.last().is_some_and(|word| word >> (end % ALIGNMENT * 8) != 0)
        {
            self.verdict.broken(ParseError::NonZeroPadding { what: Quantity::Reserved, row: saturate(end) });
        }
        words
    }

    #[inline(always)]
    fn table(&mut self, rows: u32, encoding: TableEncoding, lanes: usize) -> Table<'a> {
        match encoding {
            TableEncoding::I4 { hot_rows } if NIBBLES => self.nibble_table(rows, hot_rows, lanes),
            _ => Table::I8(self.quant_table(rows as usize, lanes)),
        }
    }

    #[inline(never)]
    fn nibble_table(&mut self, rows: u32, hot_rows: u32, lanes: usize) -> Table<'a> {
        self.verdict.at_most(Quantity::HotRows, hot_rows, rows);
        let groups = if hot_rows == 0 { 0 } else { rows.div_ceil(32) };
        Table::I4(NibbleTable {
            headers: self.section(rows as usize, 1),
            hot: self.section(groups as usize, 2),
            codes: self.section(hot_rows as usize, lanes),
            nibbles: self.section(rows.saturating_sub(hot_rows) as usize, lanes.div_ceil(8)),
        })
    }

    fn quant_table(&mut self, rows: usize, lanes: usize) -> QuantTable<'a> {
        QuantTable { headers: self.section(rows, 1), codes: self.section(rows, lanes) }
    }

    /// Cuts a layer's sections.
    #[inline(never)]
    fn fixed_layer(&mut self, layer: &mut FixedLayer<'a>, width: usize) {
        let out = padded(usize::from(layer.out));
        layer.bias = self.section(out, 1);
        match &mut layer.weights {
            Weights::Scalar(codes) => *codes = self.section(out, width),
            Weights::Dsp { words, .. } => *words = self.section(out, width / 4),
        }
        if ACTIVATIONS {
            layer.slopes = self.section(slopes(&layer.activation, out), 1);
            layer.multipliers = self.section(multipliers(&layer.activation, out), 1);
        }
    }

    /// Cuts a layer's sections.
    fn f32_layer(&mut self, layer: &mut F32Layer<'a>, out: usize, width: usize) {
        layer.bias = self.section(out, 1);
        match &mut layer.weights {
            F32Weights::F32(weights) => *weights = self.section(out, width),
            F32Weights::I8 { codes, scales } => {
                *scales = self.section(out, 1);
                *codes = self.section(out, width);
            }
        }
        layer.slopes = self.section(slopes(&layer.activation, out), 1);
    }

    /// What is left of the blob where its prefix says that it is the section of encoders, which has at least a word.
    #[inline(always)]
    fn encoders(&mut self) -> &'a [u8] {
        if !self.has_encoders {
            return &[];
        }
        let rest = self.blob.get(self.at * ALIGNMENT..).unwrap_or_default();
        if rest.len() < ALIGNMENT {
            self.verdict.length((self.at + 1) * ALIGNMENT, self.blob.len());
        }
        rest
    }

    /// Checks that the blob ends here and that its statement about the scratch is true.
    #[inline(always)]
    fn close(mut self, scratch_len: usize) -> Result<(), ParseError> {
        if !self.has_encoders && self.at * ALIGNMENT != self.blob.len() {
            self.verdict.length(self.at * ALIGNMENT, self.blob.len());
        }
        self.verdict.exactly(Quantity::ScratchLen, self.scratch_len as usize, scratch_len);
        self.verdict.result()
    }
}

/// As many words as are whole; `None` when they are not aligned.
fn whole_words(bytes: &[u8]) -> Option<&[u32]> {
    bytemuck::try_cast_slice(bytes.get(..bytes.len() & !(ALIGNMENT - 1))?).ok()
}
