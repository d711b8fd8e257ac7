//! Bytes → [`Model`]: one pass that cuts the blob into typed slices, then the rules of [`check`](super::check).

use bytemuck::AnyBitPattern;
use heapless::Vec;

use super::{
    ALIGNMENT, Arithmetic, MAGIC, PREFIX_BYTES, VERSION,
    check::{self, Verdict, multipliers, slopes},
    checksum,
    manifest::{
        Decoder, Encoding, F32Head, F32LayerHead, FixedHead, FixedLayerHead, Head, Record, TableEncoding,
    },
};
use crate::{
    F32Model, Model,
    error::{ParseError, Quantity},
    model::{
        DENSE_INPUT_WORDS, DenseInputs, F32Layer, F32Parts, F32Table, F32Weights, Field, Fields, FixedLayer,
        FixedParts, Info, MAX_LAYERS, MAX_WIDTH, NibbleTable, QuantTable, Sizes, Table, Weights, padded,
        saturate,
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
    #[inline]
    pub fn parse(blob: &'a [u8]) -> Result<Self, ParseError> {
        // Filled where it is returned, and checked by reference: a model that is moved is copied, 500 bytes of stack more.
        let mut result = Ok(Self(FixedParts::empty(), Sizes::default()));
        if let Ok(Self(parts, sizes)) = &mut result {
            match Reader::fixed(blob, parts) {
                Ok(()) => *sizes = Sizes::of(parts),
                Err(error) => result = Err(error),
            }
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
        let mut reader = Reader::open(blob, Arithmetic::F32);
        let head = reader.head();
        let second: F32Head = reader.record();
        let (mut outs, mut layers) = (Vec::<u16, MAX_LAYERS>::new(), Vec::new());
        for _ in 0..head.layers {
            let F32LayerHead { out, activation, weights } = reader.record();
            let weights = match weights {
                Encoding::F32 => F32Weights::F32(&[]),
                Encoding::I8 => F32Weights::I8 { codes: &[], scales: &[] },
            };
            reader.push(&mut outs, out);
            reader.push(&mut layers, F32Layer { activation, bias: &[], weights, slopes: &[] });
        }
        let info = reader.info(&head);

        let rows = head.rows as usize;
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
        let dense_linear = reader.section(usize::from(head.dense_inputs), 1);
        let mut width = padded(info.lanes() + usize::from(head.dense_inputs));
        for (layer, out) in layers.iter_mut().zip(&outs) {
            reader.f32_layer(layer, usize::from(*out), width);
            width = padded(usize::from(*out));
        }
        let model = Self(F32Parts {
            info,
            table,
            dense_linear,
            layers,
            head: reader.section(1, width),
            bias: second.bias,
            link: second.link,
        });
        check::f32(&mut reader.verdict, &model.0);
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
    offset: usize,
    /// What is left of the manifest.
    manifest: Decoder<'a>,
    manifest_end: usize,
    scratch_len: u32,
    /// After a broken rule records have no meaning and sections are empty.
    verdict: Verdict,
}

impl<'a> Reader<'a> {
    /// A reader behind the prefix, which is checked.
    fn open(blob: &'a [u8], arithmetic: Arithmetic) -> Self {
        let (manifest, verdict) = (Decoder::new(&[]), Verdict::default());
        let mut reader =
            Self { blob: &[], offset: PREFIX_BYTES, manifest, manifest_end: 0, scratch_len: 0, verdict };
        reader.prefix(blob, arithmetic);
        reader
    }

    /// Checks the prefix and the checksum.
    #[inline(never)]
    fn prefix(&mut self, blob: &'a [u8], arithmetic: Arithmetic) {
        let verdict = &mut self.verdict;
        let remainder = blob.as_ptr().addr() % ALIGNMENT;
        if remainder != 0 {
            return verdict
                .broken(ParseError::Misaligned { remainder: saturate(remainder).to_le_bytes()[0] });
        }
        if let Some(&found) = blob.first_chunk::<4>()
            && found != MAGIC
        {
            return verdict.broken(ParseError::NotAModel { found });
        }
        let got = saturate(blob.len());
        let Some((prefix, _)) = blob.split_first_chunk::<PREFIX_BYTES>() else {
            return verdict.broken(ParseError::Truncated { needed: saturate(PREFIX_BYTES), got });
        };
        let [_, _, _, _, v0, v1, found, reserved, words @ ..] = *prefix;
        let version = u16::from_le_bytes([v0, v1]);
        if version != VERSION {
            return verdict.broken(ParseError::UnsupportedVersion { found: version, supported: VERSION });
        }
        let words = words.as_chunks::<4>().0;
        let mut words = words.iter().map(|&word| u32::from_le_bytes(word));
        let mut word = || words.next().unwrap_or_default();
        let (total_bytes, manifest_bytes, scratch_len, stored) = (word(), word(), word(), word());
        let Some(blob) = blob.get(..total_bytes as usize) else {
            return verdict.broken(ParseError::Truncated { needed: total_bytes, got });
        };
        let computed = checksum(blob);
        if computed != stored {
            return verdict.broken(ParseError::ChecksumMismatch { stored, computed });
        }
        if found != arithmetic as u8 {
            return verdict.broken(ParseError::WrongArithmetic { found, expected: arithmetic as u8 });
        }
        verdict.at_most(Quantity::Reserved, reserved.into(), 0);
        let manifest_end = PREFIX_BYTES.saturating_add(manifest_bytes as usize);
        let Some(manifest) = blob.get(PREFIX_BYTES..manifest_end) else {
            return verdict
                .broken(ParseError::Length { expected: total_bytes, found: saturate(manifest_end) });
        };
        self.manifest.rest = manifest;
        (self.blob, self.manifest_end, self.scratch_len) = (blob, manifest_end, scratch_len);
    }

    /// Reads a blob of the fixed path into `parts`, and checks it.
    #[inline(never)]
    fn fixed(blob: &'a [u8], parts: &mut FixedParts<'a>) -> Result<(), ParseError> {
        let mut reader = Self::open(blob, Arithmetic::Fixed);
        let head = reader.head();
        let second: FixedHead = reader.record();
        parts.max_value = second.max_value;
        parts.max_embedding = second.max_embedding;
        parts.shift = second.shift;
        parts.max = second.max;
        parts.head_scale = second.head_scale;
        parts.linear_scale = second.linear_scale;
        parts.bias = second.bias;
        parts.link = second.link;
        for _ in 0..head.layers {
            let layer = reader.fixed_layer_head();
            reader.push(&mut parts.layers, layer);
        }
        parts.info = reader.info(&head);

        let lanes = parts.info.lanes();
        let dense_inputs = usize::from(head.dense_inputs);
        parts.table = reader.table(head.rows, second.table, lanes);
        parts.dense_inputs = DenseInputs { words: reader.section(dense_inputs, DENSE_INPUT_WORDS) };
        let mut width = padded(lanes + dense_inputs);
        for layer in &mut parts.layers {
            reader.fixed_layer(layer, width);
            width = padded(usize::from(layer.out));
        }
        parts.head = reader.section(1, width);
        check::fixed(&mut reader.verdict, parts);
        reader.close(parts.scratch_len())
    }

    /// Decodes the first record and checks the dimensions' upper ends, before anything is multiplied with them.
    #[inline(never)]
    fn head(&mut self) -> Head<'a> {
        let head: Head<'a> = self.record();
        let max_width = saturate(MAX_WIDTH);
        self.verdict.at_most(Quantity::Rows, head.rows, u32::MAX >> 1);
        self.verdict.at_most(Quantity::Dim, head.dim.into(), max_width);
        self.verdict.at_most(Quantity::DenseInputs, head.dense_inputs.into(), max_width);
        self.verdict.at_most(Quantity::Layers, head.layers.into(), saturate(MAX_LAYERS));
        head
    }

    /// Decodes the manifest's next record.
    fn record<T: Record<'a>>(&mut self) -> T {
        let record = T::decode(&mut self.manifest);
        self.end_record();
        record
    }

    #[inline(never)]
    fn end_record(&mut self) {
        if self.manifest.failed {
            self.verdict.broken(ParseError::Manifest { offset: saturate(self.offset) });
        }
        self.offset = self.manifest_end.saturating_sub(self.manifest.rest.len());
    }

    /// Adds a layer; when there is no room, `head` has seen it.
    fn push<T>(&self, layers: &mut Vec<T, MAX_LAYERS>, layer: T) {
        if !self.verdict.is_broken() {
            let _ = layers.push(layer);
        }
    }

    /// Decodes the fields, which end the manifest, and moves to the first section.
    #[inline(never)]
    fn info(&mut self, head: &Head<'a>) -> Info<'a> {
        let start = self.offset;
        for _ in 0..head.fields {
            self.record::<Field<'a>>();
        }
        if self.offset != self.manifest_end {
            let (expected, found) = (saturate(self.offset), saturate(self.manifest_end));
            self.verdict.broken(ParseError::Length { expected, found });
        }
        let bytes = self.blob.get(start..self.offset).unwrap_or_default();
        self.align();
        let fields = Fields::Encoded { count: head.fields, bytes };
        let Head { name, rows, dim, max_active, .. } = *head;
        Info { name, rows, dim, max_active, fields }
    }

    /// Cuts the next section: `rows · columns` elements, then zeros up to the alignment.
    #[inline(never)]
    fn section<T: AnyBitPattern>(&mut self, rows: usize, columns: usize) -> &'a [T] {
        // The blob and every section start aligned and no element is larger, so this cannot fail.
        bytemuck::try_cast_slice(self.section_bytes(rows, columns, size_of::<T>())).unwrap_or_default()
    }

    /// The one place that multiplies dimensions. Not inlined: there are a dozen calls.
    #[inline(never)]
    fn section_bytes(&mut self, rows: usize, columns: usize, size: usize) -> &'a [u8] {
        let bytes = rows.checked_mul(columns).and_then(|len| len.checked_mul(size));
        let end = bytes.and_then(|bytes| self.offset.checked_add(bytes)).unwrap_or(usize::MAX);
        let section = self.move_to(end);
        self.align();
        section
    }

    /// Moves to the next aligned offset over bytes that must be zero.
    #[inline(never)]
    fn align(&mut self) {
        let offset = self.offset;
        let padding = self.move_to(offset.next_multiple_of(ALIGNMENT));
        if padding.iter().any(|&byte| byte != 0) {
            self.verdict
                .broken(ParseError::NonZeroPadding { what: Quantity::Reserved, row: saturate(offset) });
        }
    }

    /// The bytes up to `end`.
    #[inline(never)]
    fn move_to(&mut self, end: usize) -> &'a [u8] {
        match self.blob.get(self.offset..end) {
            Some(bytes) if !self.verdict.is_broken() => {
                self.offset = end;
                bytes
            }
            _ => {
                let (expected, found) = (saturate(end), saturate(self.blob.len()));
                self.verdict.broken(ParseError::Length { expected, found });
                &[]
            }
        }
    }

    #[inline(never)]
    fn table(&mut self, rows: u32, encoding: TableEncoding, lanes: usize) -> Table<'a> {
        let TableEncoding::I4 { hot_rows } = encoding else {
            return Table::I8(self.quant_table(rows as usize, lanes));
        };
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

    /// A layer whose sections are not cut yet.
    fn fixed_layer_head(&mut self) -> FixedLayer<'a> {
        let FixedLayerHead { out, activation, shift, fraction, max, fold } = self.record();
        let weights = match fold {
            0 => Weights::Scalar(&[]),
            fold => Weights::Dsp { words: &[], fold },
        };
        FixedLayer {
            activation,
            shift,
            fraction,
            max,
            out,
            bias: &[],
            weights,
            slopes: &[],
            multipliers: &[],
        }
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
        layer.slopes = self.section(slopes(&layer.activation, out), 1);
        layer.multipliers = self.section(multipliers(&layer.activation, out), 1);
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

    /// Checks that the blob ends here and that its statement about the scratch is true.
    fn close(mut self, scratch_len: usize) -> Result<(), ParseError> {
        if self.offset != self.blob.len() {
            let (expected, found) = (saturate(self.offset), saturate(self.blob.len()));
            self.verdict.broken(ParseError::Length { expected, found });
        }
        self.verdict.exactly(Quantity::ScratchLen, self.scratch_len as usize, scratch_len);
        self.verdict.result()
    }
}
