//! The file format against `src/blob/FORMAT.md`: blobs are built here by hand, byte by byte, and never with the library's own
//! records, so that these tests pin the document.
#![expect(clippy::cast_possible_truncation, reason = "the models of the tests are small")]
#![expect(clippy::cast_possible_wrap, reason = "the models of the tests are small")]
#![expect(clippy::cast_sign_loss, reason = "the models of the tests are small")]

#[expect(clippy::allow_attributes, reason = "each test binary uses another part of the module")]
#[allow(dead_code, reason = "each test binary uses another part of the module")]
mod support;

use embedded_nfm::{
    ALIGNMENT, Activation, Arithmetic, DenseInputs, EmitError, F32Model, FieldKind, Fields, Info, Link,
    Model, NibbleTable, PREFIX_BYTES, ParseError, Pooling, Q16, QuantTable, Quantity, Rescale, Sample, Table,
    Weights,
    encode::{Part, SampleBuilder, SampleMemory},
    scratch_len,
};
use support::{
    AlignedBytes, Common, F32Spec, F32TableSpec, F32WeightsSpec, FixedSpec, Rng, TableSpec, WeightsSpec, pad,
    small, small_f32, small_i4, tiny, tiny_dsp, tiny_i4, wide_i4,
};

/// CRC-32 (ISO-HDLC), bit by bit.
fn crc32(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

fn fix_checksum(blob: &mut [u8]) {
    let covered = blob.iter().take(20).chain(blob.iter().skip(24)).copied();
    let checksum = crc32(covered).to_le_bytes();
    if let Some(place) = blob.get_mut(20..24) {
        place.copy_from_slice(&checksum);
    }
}

/// postcard's varint: seven bits a byte, the lowest first.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn zigzag(value: i64) -> Vec<u8> {
    varint(((value << 1) ^ (value >> 63)) as u64)
}

fn string(text: &str) -> Vec<u8> {
    [varint(text.len() as u64), text.as_bytes().to_vec()].concat()
}

/// A blob as a list of what stands in it. Each record's numbers are wider than the format's, so that a lie fits.
#[derive(Clone)]
struct Raw {
    arithmetic: u8,
    encoders: u8,
    version: u16,
    total_bytes: Option<u32>,
    manifest_bytes: Option<u32>,
    scratch_len: u32,
    name: Vec<u8>,
    rows: u64,
    dim: u64,
    max_active: u64,
    dense_inputs: u64,
    layers: u64,
    fields: u64,
    fixed: FixedRecord,
    f32: F32Record,
    layer_records: Vec<LayerRecord>,
    field_records: Vec<Vec<u8>>,
    manifest_tail: Vec<u8>,
    sections: Vec<(String, Vec<u8>)>,
    /// Byte that fills the gaps before aligned offsets.
    filler: u8,
}

#[derive(Clone, Default)]
struct FixedRecord {
    max_value: i64,
    max_embedding: u64,
    /// 0, or 1 and the number of hot rows.
    table: Vec<u8>,
    shift: u8,
    max: u64,
    head_scale: (i64, u8),
    linear_scale: (i64, u8),
    bias: i64,
    link: Vec<u8>,
}

#[derive(Clone, Default)]
struct F32Record {
    embeddings: u64,
    linear_scale: f32,
    bias: f32,
    link: Vec<u8>,
}

#[derive(Clone)]
struct LayerRecord {
    out: u64,
    activation: Vec<u8>,
    shift: u8,
    fraction: u8,
    max: u64,
    fold: u64,
    encoding: u64,
}

impl Raw {
    fn manifest(&self) -> Vec<u8> {
        let mut bytes = self.name.clone();
        for number in [self.rows, self.dim, self.max_active, self.dense_inputs] {
            bytes.extend(varint(number));
        }
        bytes.push(self.layers as u8);
        bytes.extend(varint(self.fields));
        if self.arithmetic == 0 {
            let FixedRecord { max_value, max_embedding, table, shift, max, head_scale, linear_scale, .. } =
                &self.fixed;
            bytes.extend(zigzag(*max_value));
            bytes.extend(varint(*max_embedding));
            bytes.extend(table);
            bytes.push(*shift);
            bytes.extend(varint(*max));
            for (multiplier, shift) in [head_scale, linear_scale] {
                bytes.extend(zigzag(*multiplier));
                bytes.push(*shift);
            }
            bytes.extend(zigzag(self.fixed.bias));
            bytes.extend(&self.fixed.link);
        } else {
            let F32Record { embeddings, linear_scale, bias, link } = &self.f32;
            bytes.extend(varint(*embeddings));
            bytes.extend(linear_scale.to_le_bytes());
            bytes.extend(bias.to_le_bytes());
            bytes.extend(link);
        }
        for layer in &self.layer_records {
            bytes.extend(varint(layer.out));
            bytes.extend(&layer.activation);
            if self.arithmetic == 0 {
                bytes.extend([layer.shift, layer.fraction]);
                bytes.extend(varint(layer.max));
                bytes.extend(varint(layer.fold));
            } else {
                bytes.extend(varint(layer.encoding));
            }
        }
        bytes.extend(self.field_records.concat());
        bytes.extend(&self.manifest_tail);
        bytes
    }

    fn blob(&self) -> AlignedBytes {
        let manifest = self.manifest();
        let mut blob = vec![0; PREFIX_BYTES];
        blob.extend(&manifest);
        blob.resize(blob.len().next_multiple_of(4), self.filler);
        for (_, section) in &self.sections {
            blob.extend(section);
            blob.resize(blob.len().next_multiple_of(4), self.filler);
        }
        let total_bytes = self.total_bytes.unwrap_or(blob.len() as u32);
        let manifest_bytes = self.manifest_bytes.unwrap_or(manifest.len() as u32);
        blob[..4].copy_from_slice(b"eNFM");
        blob[4..6].copy_from_slice(&self.version.to_le_bytes());
        blob[6..8].copy_from_slice(&[self.arithmetic, self.encoders]);
        blob[8..12].copy_from_slice(&total_bytes.to_le_bytes());
        blob[12..16].copy_from_slice(&manifest_bytes.to_le_bytes());
        blob[16..20].copy_from_slice(&self.scratch_len.to_le_bytes());
        fix_checksum(&mut blob);
        AlignedBytes::new(&blob)
    }

    fn section(&mut self, name: &str) -> &mut Vec<u8> {
        let found = self.sections.iter_mut().find(|(found, _)| found == name);
        &mut found.unwrap_or_else(|| panic!("no section {name}")).1
    }

    /// States another `max_active`, and the scratch that goes with it in [`tiny`]: four words of input, four of output.
    fn set_active(&mut self, max_active: u64) {
        self.max_active = max_active;
        self.scratch_len = 4 + (3 * max_active as u32).max(4);
    }

    /// States another number of hot rows.
    fn set_hot_rows(&mut self, hot_rows: u64) {
        self.fixed.table = [varint(1), varint(hot_rows)].concat();
    }

    fn put(&mut self, section: &str, offset: usize, bytes: &[u8]) {
        self.section(section)[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}

fn field_kind(kind: FieldKind) -> Vec<u8> {
    let pooling = |pooling| match pooling {
        Pooling::Sum => 0,
        Pooling::Mean => 1,
        Pooling::SqrtN => 2,
        Pooling::Max => 3,
    };
    let numbers: &[u64] = match kind {
        FieldKind::Id { first, rows } => &[0, first.into(), rows.into()],
        FieldKind::Dense => &[1],
        FieldKind::Ids { first, rows } => &[2, first.into(), rows.into()],
        FieldKind::Scaled { row } => &[3, row.into()],
        FieldKind::Sequence { first, rows, pooling: embeddings, linear } => {
            &[4, first.into(), rows.into(), pooling(embeddings), pooling(linear)]
        }
    };
    numbers.iter().copied().flat_map(varint).collect()
}

fn common(common: &Common, layers: usize, scratch_len: usize) -> Raw {
    let field_records =
        common.fields.iter().map(|field| [string(field.name), field_kind(field.kind)].concat());
    Raw {
        arithmetic: 0,
        encoders: 0,
        version: 1,
        total_bytes: None,
        manifest_bytes: None,
        scratch_len: scratch_len as u32,
        name: string(common.name),
        rows: common.rows() as u64,
        dim: common.dim.into(),
        max_active: common.max_active.into(),
        dense_inputs: common.dense() as u64,
        layers: layers as u64,
        fields: common.fields.len() as u64,
        fixed: FixedRecord::default(),
        f32: F32Record::default(),
        layer_records: vec![],
        field_records: field_records.collect(),
        manifest_tail: vec![],
        sections: vec![],
        filler: 0,
    }
}

fn i8s(values: &[i8]) -> Vec<u8> {
    values.iter().map(|value| value.to_le_bytes()[0]).collect()
}
fn i16s(values: &[i16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
fn u16s(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
fn u32s(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
fn i32s(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn raw_fixed(spec: &FixedSpec) -> Raw {
    // Two buffers, of words: the even widths, and the odd ones or the terms.
    let mut widths = vec![spec.common.input_len()];
    widths.extend(spec.layers.iter().map(|layer| pad(layer.out.into())));
    let largest = |start: usize| widths.iter().skip(start).step_by(2).max().copied().unwrap_or(0);
    let terms = 3 * usize::from(spec.common.max_active);
    let mut raw = common(&spec.common, spec.layers.len(), largest(0) / 2 + (largest(1) / 2).max(terms));
    let scale = |scale: Rescale| (scale.multiplier.into(), scale.shift);
    raw.fixed = FixedRecord {
        max_value: spec.max_value.to_bits().into(),
        max_embedding: spec.max_embedding.into(),
        table: match &spec.table {
            TableSpec::I8 { .. } => varint(0),
            TableSpec::I4 { codes, .. } => {
                [varint(1), varint((codes.len() / spec.common.lanes()) as u64)].concat()
            }
        },
        shift: spec.shift,
        max: spec.max.into(),
        head_scale: scale(spec.head_scale),
        linear_scale: scale(spec.linear_scale),
        bias: spec.bias.to_bits().into(),
        link: match spec.link {
            Link::Sigmoid => varint(0),
            Link::Identity => varint(1),
            Link::Clip { min, max } => {
                [varint(2), zigzag(min.to_bits().into()), zigzag(max.to_bits().into())].concat()
            }
        },
    };
    raw.layer_records = spec
        .layers
        .iter()
        .map(|layer| LayerRecord {
            out: layer.out.into(),
            activation: activation(layer.activation, |q13| zigzag(q13.into())),
            shift: layer.shift,
            fraction: layer.fraction,
            max: layer.max.into(),
            fold: layer.weights.fold().into(),
            encoding: 0,
        })
        .collect();
    let mut section = |name: &str, bytes| raw.sections.push((name.to_owned(), bytes));
    match &spec.table {
        TableSpec::I8 { headers, codes } => {
            section("headers", u16s(headers));
            section("codes", i8s(codes));
        }
        TableSpec::I4 { headers, hot, codes, nibbles } => {
            section("headers", u32s(headers));
            section("hot", u32s(hot));
            section("codes", i8s(codes));
            section("nibbles", u32s(nibbles));
        }
    }
    section("dense_inputs", i32s(&spec.words));
    for (l, layer) in spec.layers.iter().enumerate() {
        section(&format!("bias{l}"), i32s(&layer.bias));
        let weights = match &layer.weights {
            WeightsSpec::Scalar(codes) => codes.clone(),
            WeightsSpec::Dsp { words, .. } => u32s(words),
        };
        section(&format!("weights{l}"), weights);
        section(&format!("slopes{l}"), i16s(&layer.slopes));
        section(&format!("multipliers{l}"), i32s(&layer.multipliers));
    }
    section("head", i16s(&spec.head));
    raw
}

fn activation<S>(activation: Activation<S>, parameter: impl Fn(S) -> Vec<u8>) -> Vec<u8> {
    match activation {
        Activation::Identity => varint(0),
        Activation::Relu => varint(1),
        Activation::LeakyRelu { slope } => [varint(2), parameter(slope)].concat(),
        Activation::PRelu => varint(3),
        Activation::Sigmoid => varint(4),
        Activation::Tanh => varint(5),
        Activation::Elu { alpha } => [varint(6), parameter(alpha)].concat(),
    }
}

fn raw_f32(spec: &F32Spec) -> Raw {
    let mut raw = common(&spec.common, spec.layers.len(), 0);
    let widths = spec.layers.iter().map(|layer| pad(layer.bias.len()));
    let widths: Vec<_> = [spec.common.input_len()].into_iter().chain(widths).collect();
    let largest = |start: usize| widths.iter().skip(start).step_by(2).max().copied().unwrap_or(0);
    raw.scratch_len = (largest(0) + largest(1)) as u32;
    raw.arithmetic = 1;
    raw.f32 = F32Record {
        embeddings: matches!(spec.table, F32TableSpec::I8 { .. }).into(),
        linear_scale: if let F32TableSpec::I8 { linear_scale, .. } = spec.table { linear_scale } else { 0.0 },
        bias: spec.bias,
        link: match spec.link {
            Link::Sigmoid => varint(0),
            Link::Identity => varint(1),
            Link::Clip { min, max } => [varint(2), f32s(&[min, max])].concat(),
        },
    };
    raw.layer_records = spec
        .layers
        .iter()
        .map(|layer| LayerRecord {
            out: layer.bias.len() as u64,
            activation: activation(layer.activation, |parameter| f32s(&[parameter])),
            shift: 0,
            fraction: 0,
            max: 0,
            fold: 0,
            encoding: matches!(layer.weights, F32WeightsSpec::I8 { .. }).into(),
        })
        .collect();
    let mut section = |name: &str, bytes| raw.sections.push((name.to_owned(), bytes));
    match &spec.table {
        F32TableSpec::F32 { linear, embeddings } => {
            section("linear", f32s(linear));
            section("embeddings", f32s(embeddings));
        }
        F32TableSpec::I8 { headers, codes, .. } => {
            section("headers", u16s(headers));
            section("codes", i8s(codes));
        }
    }
    section("dense_linear", f32s(&spec.dense_linear));
    for (l, layer) in spec.layers.iter().enumerate() {
        section(&format!("bias{l}"), f32s(&layer.bias));
        match &layer.weights {
            F32WeightsSpec::F32(weights) => section(&format!("weights{l}"), f32s(weights)),
            F32WeightsSpec::I8 { codes, scales } => {
                section(&format!("scales{l}"), f32s(scales));
                section(&format!("weights{l}"), i8s(codes));
            }
        }
        section(&format!("slopes{l}"), f32s(&layer.slopes));
    }
    section("head", f32s(&spec.head));
    raw
}

fn parse_any(blob: &[u8]) -> Result<(), ParseError> {
    match blob.get(6) {
        Some(1) => F32Model::parse(blob).map(|_| ()),
        _ => Model::parse(blob).map(|_| ()),
    }
}

/// One blob of each kind; the fixed ones have both layouts of weights.
fn blobs() -> [AlignedBytes; 4] {
    [small().emit(), small_f32(false).emit(), small_f32(true).emit(), small_i4().emit()]
}

/// `spec` with rows of four bits only.
fn cold(mut spec: FixedSpec) -> FixedSpec {
    let (rows, lanes) = (spec.common.rows(), spec.common.lanes());
    let TableSpec::I4 { hot, codes, nibbles, headers } = &mut spec.table else { panic!("4-bit rows") };
    hot.clear();
    codes.clear();
    nibbles.resize(rows * lanes.div_ceil(8), 0x7654_3210);
    headers.iter_mut().for_each(|header| *header = *header & 0xfff0_0000 | 0x1_0fc0);
    spec
}

#[test]
fn emit_writes_what_the_document_says() {
    assert_eq!(*small().emit(), *raw_fixed(&small()).blob());
    assert_eq!(*tiny().emit(), *raw_fixed(&tiny()).blob());
    assert_eq!(*tiny_dsp(2).emit(), *raw_fixed(&tiny_dsp(2)).blob());
    assert_eq!(*support::wide().emit(), *raw_fixed(&support::wide()).blob());
    assert_eq!(*support::wide_dsp().emit(), *raw_fixed(&support::wide_dsp()).blob());
    for spec in [tiny_i4(), small_i4(), wide_i4(), cold(wide_i4())] {
        assert_eq!(*spec.emit(), *raw_fixed(&spec).blob());
    }
    // The words that the document shows.
    let mut i4 = raw_fixed(&tiny_i4());
    assert_eq!(i4.fixed.table, [1, 1]);
    let headers = [
        [0xec, 0x3f, 0x40, 0x06],
        [0x00, 0x10, 0xe0, 0xfc],
        [0xba, 0x9f, 0x80, 0x0c],
        [0x93, 0x1e, 0x43, 0xed],
    ];
    assert_eq!(i4.section("headers")[..], *headers.as_flattened());
    assert_eq!(i4.section("hot")[..], [2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(i4.section("codes")[..], [0xfb, 0x0f, 0x19, 0xdd]);
    let nibbles = [[0x07, 0x00, 0xfc, 0x00], [0xdc, 0x00, 0xf0, 0x00], [0xe2, 0x00, 0x0f, 0x00]];
    assert_eq!(i4.section("nibbles")[..], *nibbles.as_flattened());
    let mut dsp = raw_fixed(&tiny_dsp(2));
    assert_eq!(dsp.section("weights0")[4..8], [0xfa, 0xf8, 0x05, 0x07]);
    assert_eq!(dsp.section("weights0")[20..24], [0; 4]);
    for encoded in [false, true] {
        assert_eq!(*small_f32(encoded).emit(), *raw_f32(&small_f32(encoded)).blob());
    }
    assert_eq!(*support::tiny_f32().emit(), *raw_f32(&support::tiny_f32()).blob());
}

#[test]
fn parse_gives_back_what_emit_was_given() {
    let i8 = [tiny(), tiny_dsp(300), small(), support::wide(), support::wide_dsp()];
    let i4 = [tiny_i4(), small_i4(), wide_i4(), cold(wide_i4()), cold(tiny_i4())];
    for spec in i8.into_iter().chain(i4) {
        let (blob, built) = (spec.emit(), spec.model().unwrap());
        let parsed = Model::parse(&blob).unwrap();
        assert_eq!(parsed.parts(), built.parts());
        assert_eq!(parsed.info().fields.len(), spec.common.fields.len());
        assert_eq!(scratch_len(&blob), built.scratch_len());
        assert_eq!(Arithmetic::of(&blob), Some(Arithmetic::Fixed));
        let dense = vec![Q16::from_bits(0x8000); spec.common.dense()];
        let sample = Sample::new(&[0, 3]).with_dense(&dense);
        let (mut a, mut b) = (vec![0; built.scratch_len()], vec![1; built.scratch_len()]);
        assert_eq!(parsed.score(&sample, &mut a), built.score(&sample, &mut b));
        // What was parsed can be emitted again.
        let mut again = vec![0; parsed.encoded_len().unwrap()];
        assert_eq!(parsed.emit(&mut again), Ok(blob.len()));
        assert_eq!(again, *blob);
    }
    for spec in [support::tiny_f32(), small_f32(false), small_f32(true)] {
        let (blob, built) = (spec.emit(), spec.model().unwrap());
        let parsed = F32Model::parse(&blob).unwrap();
        assert_eq!(parsed.parts(), built.parts());
        assert_eq!(scratch_len(&blob), built.scratch_len());
        assert_eq!(Arithmetic::of(&blob), Some(Arithmetic::F32));
        let sample = Sample::new(&[0, 3]).with_dense(&[0.5][..spec.common.dense()]);
        let (mut a, mut b) = (vec![0.0; built.scratch_len()], vec![1.0; built.scratch_len()]);
        let bits = |score: Result<f32, _>| score.map(f32::to_bits);
        assert_eq!(bits(parsed.score(&sample, &mut a)), bits(built.score(&sample, &mut b)));
        let mut again = vec![0; parsed.encoded_len().unwrap()];
        assert_eq!(parsed.emit(&mut again), Ok(blob.len()));
        assert_eq!(again, *blob);
    }
}

/// Records of two fields whose ids are encoded already: no policy, at most one value.
const ID_ENCODERS: [u32; 13] = [2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0];

#[test]
fn encoders_are_the_rest_of_the_blob_and_take_no_part_in_a_score() {
    let mut raw = raw_fixed(&tiny());
    raw.encoders = 1;
    raw.sections.push(("encoders".to_owned(), u32s(&ID_ENCODERS)));
    let blob = raw.blob();
    let model = Model::parse(&blob).unwrap();
    assert_eq!(model.info().encoders, u32s(&ID_ENCODERS));
    let mut again = vec![0; blob.len()];
    assert_eq!(Model::new(model.parts().clone()).unwrap().emit(&mut again), Ok(blob.len()));
    assert_eq!(again, *blob);

    let encoders = model.encoders().unwrap().unwrap();
    let mut memory = SampleMemory::<Q16, 2, 0, 2>::new();
    let mut builder = SampleBuilder::new(encoders, &model.info().fields, &mut memory);
    builder.set("item", 1).unwrap();
    builder.set("user", 0).unwrap();
    let mut scratch = [0; 10];
    let score = model.score(&builder.finish().unwrap(), &mut scratch).unwrap();
    assert_eq!(score.to_bits(), -18296); // ids 0 and 3, as in the document

    // The section is checked where it is asked for, against the model's fields.
    let mut raw = raw.clone();
    raw.put("encoders", 0, &[1]);
    let error = Model::parse(&raw.blob()).unwrap().encoders().unwrap_err();
    assert_eq!((error.what, error.found, error.limit), (Part::Fields, 1, 2));
    assert!(Model::parse(&tiny().emit()).unwrap().encoders().unwrap().is_none());
}

#[test]
fn encoders_of_an_f32_model_lie_at_its_end_too() {
    let mut raw = raw_f32(&support::tiny_f32());
    let section = u32s(&ID_ENCODERS);
    raw.encoders = 1;
    raw.sections.push(("encoders".to_owned(), section.clone()));
    let blob = raw.blob();
    let model = F32Model::parse(&blob).unwrap();
    assert_eq!(model.info().encoders, section);
    let mut again = vec![0; blob.len()];
    assert_eq!(F32Model::new(model.parts().clone()).unwrap().emit(&mut again), Ok(blob.len()));
    assert_eq!(again, *blob);
}

#[test]
fn emit_fills_exactly_its_length_and_refuses_every_shorter_buffer() {
    let (fixed, nibbles, float) = (small(), small_i4(), small_f32(false));
    let (fixed, nibbles) = (fixed.model().unwrap(), nibbles.model().unwrap());
    let float = float.model().unwrap();
    let check = |needed: usize, emit: &dyn Fn(&mut [u8]) -> Result<usize, EmitError>| {
        for got in 0..needed {
            let mut out = vec![0xee; got];
            assert_eq!(emit(&mut out), Err(EmitError::BufferTooShort { needed, got }));
            assert!(out.iter().all(|&byte| byte == 0xee), "a refused buffer was written to");
        }
        let mut out = vec![0xee; needed + 9];
        assert_eq!(emit(&mut out), Ok(needed));
        assert_eq!(out[needed..], [0xee; 9]);
    };
    check(fixed.encoded_len().unwrap(), &|out| fixed.emit(out));
    check(nibbles.encoded_len().unwrap(), &|out| nibbles.emit(out));
    check(float.encoded_len().unwrap(), &|out| float.emit(out));
}

#[test]
fn every_truncation_is_an_error_that_says_what_is_missing() {
    for blob in blobs() {
        for got in 0..blob.len() {
            let needed = if got < PREFIX_BYTES { PREFIX_BYTES } else { blob.len() };
            let error = ParseError::Truncated { needed: needed as u32, got: got as u32 };
            let cut = AlignedBytes::new(&blob[..got]);
            assert_eq!(Model::parse(&cut).err(), Some(error), "{got}");
            assert_eq!(F32Model::parse(&cut).err(), Some(error), "{got}");
        }
    }
}

#[test]
fn every_flipped_bit_is_an_error() {
    for blob in blobs() {
        for bit in 0..blob.len() * 8 {
            let mut flipped = blob.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let flipped = AlignedBytes::new(&flipped);
            let errors = [Model::parse(&flipped).err(), F32Model::parse(&flipped).err()];
            assert!(errors.iter().all(Option::is_some), "bit {bit}");
            if bit >= 24 * 8 {
                let checksum = |error: &_| matches!(error, Some(ParseError::ChecksumMismatch { .. }));
                assert!(errors.iter().all(checksum), "bit {bit}: {errors:?}");
            }
        }
    }
}

#[test]
fn a_misaligned_slice_is_refused() {
    for blob in blobs() {
        for remainder in 1..ALIGNMENT {
            let shifted = AlignedBytes::new(&[&[0xa5_u8; 4][..remainder], &blob[..]].concat());
            let error = Some(ParseError::Misaligned { remainder: remainder as u8 });
            assert_eq!(Model::parse(&shifted[remainder..]).err(), error);
            assert_eq!(F32Model::parse(&shifted[remainder..]).err(), error);
        }
    }
}

#[test]
fn bytes_after_the_blob_are_ignored() {
    for blob in blobs() {
        for extra in [1, 2, 3, 4, 100] {
            let slot = AlignedBytes::new(&[&blob[..], &vec![0xff; extra]].concat());
            assert_eq!(parse_any(&slot), Ok(()));
        }
    }
}

#[test]
fn the_other_path_is_refused_by_name() {
    let [fixed, float, ..] = blobs();
    let error = |found, expected| Some(ParseError::WrongArithmetic { found, expected });
    assert_eq!(F32Model::parse(&fixed).err(), error(0, 1));
    assert_eq!(Model::parse(&float).err(), error(1, 0));
    let mut raw = raw_fixed(&small());
    raw.arithmetic = 2;
    let other = raw.blob();
    assert_eq!(Model::parse(&other).err(), error(2, 0));
    assert_eq!(Arithmetic::of(&other), None);
}

fn out_of_range(what: Quantity, found: u32, limit: u32) -> ParseError {
    ParseError::OutOfRange { what, found, limit }
}

/// Name of a lie, how it is told, and how `parse` must refuse it.
type Lie = (&'static str, fn(&mut Raw), ParseError);

fn assert_refused(raw: &Raw, lies: &[Lie]) {
    assert_eq!(parse_any(&raw.blob()), Ok(()), "the blob is true before anybody lies");
    for (name, lie, error) in lies {
        let mut raw = raw.clone();
        lie(&mut raw);
        assert_eq!(parse_any(&raw.blob()), Err(*error), "{name}");
    }
}

#[test]
fn a_lying_prefix_is_refused() {
    let raw = raw_fixed(&small());
    let len = raw.blob().len() as u32;
    let manifest = raw.manifest().len() as u32;
    let lies: &[Lie] = &[
        ("version 0", |r| r.version = 0, ParseError::UnsupportedVersion { found: 0, supported: 1 }),
        ("version 2", |r| r.version = 2, ParseError::UnsupportedVersion { found: 2, supported: 1 }),
        ("encoders", |r| r.encoders = 7, out_of_range(Quantity::Reserved, 7, 1)),
        ("scratch_len", |r| r.scratch_len -= 1, out_of_range(Quantity::ScratchLen, 16, 17)),
        ("scratch_len", |r| r.scratch_len = u32::MAX, out_of_range(Quantity::ScratchLen, u32::MAX, 17)),
        (
            "total_bytes beyond the slice",
            |r| r.total_bytes = Some(u32::MAX),
            ParseError::Truncated { needed: u32::MAX, got: len },
        ),
        (
            "manifest_bytes beyond the blob",
            |r| r.manifest_bytes = Some(100_000),
            ParseError::Length { expected: len, found: 100_024 },
        ),
        (
            "manifest_bytes at the largest",
            |r| r.manifest_bytes = Some(u32::MAX),
            ParseError::Length { expected: len, found: u32::MAX },
        ),
        (
            "a byte between the manifest and its end",
            |r| r.manifest_tail = vec![0],
            ParseError::Length { expected: 24 + manifest, found: 25 + manifest },
        ),
        ("no manifest", |r| r.manifest_bytes = Some(0), ParseError::Manifest { offset: 24 }),
    ];
    assert_refused(&raw, lies);

    let mut longer = raw.clone();
    longer.sections.push(("extra".to_owned(), vec![0; 4]));
    assert_eq!(parse_any(&longer.blob()), Err(ParseError::Length { expected: len, found: len + 4 }));
    let mut shorter = raw.clone();
    shorter.section("head").truncate(12);
    assert_eq!(parse_any(&shorter.blob()), Err(ParseError::Length { expected: len, found: len - 4 }));
    let magic = AlignedBytes::new(b"eNFN");
    assert_eq!(parse_any(&magic), Err(ParseError::NotAModel { found: *b"eNFN" }));
    for total_bytes in 0..PREFIX_BYTES as u32 {
        let mut blob = raw.blob().to_vec();
        blob[8..12].copy_from_slice(&total_bytes.to_le_bytes());
        // A prefix that does not cover itself: whatever checksum it states.
        for checksum in [0, crc32(blob.iter().take(20).copied()), crc32(std::iter::empty())] {
            blob[20..24].copy_from_slice(&checksum.to_le_bytes());
            assert!(parse_any(&AlignedBytes::new(&blob)).is_err(), "{total_bytes}");
        }
    }
}

#[test]
fn every_lie_of_a_fixed_manifest_is_refused_by_name() {
    use Quantity::*;
    let overflow = |what, index| ParseError::Overflow { what, index };
    let raw = raw_fixed(&small());
    let lies: &[Lie] = &[
        // The first record.
        ("rows", |r| r.rows = 1 << 31, out_of_range(Rows, 1 << 31, i32::MAX as u32)),
        ("dim", |r| r.dim = 4097, out_of_range(Dim, 4097, 4096)),
        ("max_active 0", |r| r.max_active = 0, out_of_range(MaxActive, 0, 1)),
        ("max_active that sums overflow", |r| r.max_active = 65535, overflow(BiInteraction, 0)),
        ("dense_inputs", |r| r.dense_inputs = 4097, out_of_range(DenseInputs, 4097, 4096)),
        ("layers", |r| r.layers = 9, out_of_range(Layers, 9, 8)),
        ("rows of the last field", |r| r.field_records[2][7] = 4, out_of_range(Fields, 6, 5)),
        ("first row of the last field", |r| r.field_records[2][6] = 1, out_of_range(Fields, 4, 5)),
        (
            "a dense field too many",
            |r| {
                r.field_records.push(vec![1, b'x', 1]);
                r.fields += 1;
            },
            out_of_range(DenseInputs, 2, 1),
        ),
        // The second record.
        ("max_value below one", |r| r.fixed.max_value = 65535, out_of_range(MaxValue, 65535, 65536)),
        ("max_value negative", |r| r.fixed.max_value = -65536, out_of_range(MaxValue, 0xffff_0000, 65536)),
        ("max_value", |r| r.fixed.max_value = i32::MAX.into(), overflow(BiInteraction, 0)),
        ("max_embedding 0", |r| r.fixed.max_embedding = 0, out_of_range(MaxEmbedding, 0, 1)),
        ("max_embedding", |r| r.fixed.max_embedding = 255, out_of_range(RowHeader, 256, 255)),
        (
            "a row multiplier above it",
            |r| r.put("headers", 4, &[0x0f, 0]),
            out_of_range(RowHeader, 2048, 256),
        ),
        (
            "max_embedding of more than 16 bits",
            |r| r.fixed.max_embedding = 65536,
            ParseError::Manifest { offset: 36 },
        ),
        ("a table of another kind", |r| r.fixed.table = vec![2], ParseError::Manifest { offset: 36 }),
        ("shift", |r| r.fixed.shift = 31, out_of_range(LayerShift, 31, 30)),
        ("max 0", |r| r.fixed.max = 0, out_of_range(LayerMax, 0, 1)),
        ("max", |r| r.fixed.max = 32768, out_of_range(LayerMax, 32768, 32767)),
        ("head_scale", |r| r.fixed.head_scale.1 = 63, out_of_range(RescaleShift, 63, 62)),
        ("linear_scale", |r| r.fixed.linear_scale.1 = 255, out_of_range(RescaleShift, 255, 62)),
        ("clip", |r| r.fixed.link = [varint(2), zigzag(9), zigzag(8)].concat(), out_of_range(Link, 9, 8)),
        // The dense input: max, code multiplier, code shift, linear multiplier, linear shift.
        (
            "dense max",
            |r| r.put("dense_inputs", 0, &i32s(&[-1])),
            out_of_range(DenseInputs, u32::MAX, i32::MAX as u32),
        ),
        ("code shift", |r| r.put("dense_inputs", 8, &i32s(&[63])), out_of_range(RescaleShift, 63, 62)),
        (
            "code shift negative",
            |r| r.put("dense_inputs", 8, &i32s(&[-1])),
            out_of_range(RescaleShift, 255, 62),
        ),
        ("linear shift", |r| r.put("dense_inputs", 16, &i32s(&[256])), out_of_range(RescaleShift, 255, 62)),
        // Layers.
        ("layer max 0", |r| r.layer_records[1].max = 0, out_of_range(LayerMax, 0, 1)),
        ("layer max", |r| r.layer_records[1].max = 65535, out_of_range(LayerMax, 65535, 32767)),
        ("layer shift", |r| r.layer_records[0].shift = 32, out_of_range(LayerShift, 32, 31)),
        ("curve shift", |r| r.layer_records[2].shift = 63, out_of_range(LayerShift, 63, 62)),
        ("fraction without a curve", |r| r.layer_records[0].fraction = 1, out_of_range(LayerShift, 1, 0)),
        ("fraction", |r| r.layer_records[2].fraction = 17, out_of_range(LayerShift, 17, 16)),
        // Padding.
        (
            "padding lane",
            |r| r.put("codes", 8 + 6, &[1]),
            ParseError::NonZeroPadding { what: Embeddings, row: 1 },
        ),
        (
            "last padding lane",
            |r| r.put("codes", 39, &[255]),
            ParseError::NonZeroPadding { what: Embeddings, row: 4 },
        ),
        // Proofs.
        ("bias", |r| r.put("bias0", 8, &i32s(&[i32::MIN])), overflow(LayerWeights, 2)),
        (
            "bias with weights",
            |r| r.put("bias1", 4, &i32s(&[i32::MAX - 1])),
            overflow(LayerWeights, (1 << 16) + 1),
        ),
        ("bias of padding", |r| r.put("bias0", 28, &i32s(&[i32::MIN])), overflow(LayerWeights, 7)),
        (
            "bias of padding",
            |r| r.put("bias1", 28, &i32s(&[i32::MAX])),
            overflow(LayerWeights, (1 << 16) + 7),
        ),
        // Layouts. The largest codes and inputs leave no room for one group.
        (
            "a fold that is too long",
            |r| {
                r.layer_records[0].max = 32767;
                r.section("weights1").fill(0x80);
                r.layer_records[1].fold = 2;
            },
            overflow(LayerWeights, 1 << 16),
        ),
        (
            "a fold of more than 16 bits",
            |r| r.layer_records[1].fold = 65536,
            ParseError::Manifest { offset: 70 },
        ),
    ];
    assert_refused(&raw, lies);

    // The layouts take as many bytes: what the record says is what they are.
    for (layer, fold) in [(1, 0), (1, 2), (1, 65535), (0, 1), (2, 7)] {
        let mut other = raw.clone();
        other.layer_records[layer].fold = fold;
        let blob = other.blob();
        let model = Model::parse(&blob).unwrap();
        match model.parts().layers[layer].weights {
            Weights::Scalar(codes) => {
                assert!(fold == 0 && codes == *other.section(&format!("weights{layer}")));
            }
            Weights::Dsp { words, fold: read } => {
                assert_eq!(u64::from(read), fold);
                assert_eq!(words[3].to_le_bytes(), other.section(&format!("weights{layer}"))[12..16]);
            }
        }
    }
    // Fewer or more outputs of the same block are as many bytes, too.
    for out in 1..=8 {
        let mut other = raw.clone();
        other.layer_records[0].out = out;
        let blob = other.blob();
        assert_eq!(u64::from(Model::parse(&blob).unwrap().parts().layers[0].out), out);
    }

    let mut clip = raw.clone();
    clip.fixed.link = [varint(2), zigzag(-9), zigzag(-9)].concat();
    assert_eq!(parse_any(&clip.blob()), Ok(()), "a clip to one number is legal");

    // Sections that the dimensions do not fill end elsewhere; a zero may be found before that.
    for lie in [
        (|r| r.rows = 0) as fn(&mut Raw),
        |r| r.rows = 6,
        |r| r.dim = 0,
        |r| r.dim = 12,
        |r| r.dense_inputs = 2,
        |r| r.layers = 2,
        |r| r.fields = 2,
        |r| r.fields = 4,
        |r| r.layer_records[0].out = 0,
        |r| r.layer_records[0].out = 9,
        |r| r.layer_records[1].out = 9,
        |r| r.layer_records[2].out = 65535,
    ] {
        let mut raw = raw.clone();
        lie(&mut raw);
        let error = parse_any(&raw.blob()).unwrap_err();
        assert!(
            matches!(
                error,
                ParseError::Length { .. }
                    | ParseError::Manifest { .. }
                    | ParseError::NonZeroPadding { .. }
                    | ParseError::OutOfRange { found: 0, limit: 1, .. }
            ),
            "{error:?}"
        );
    }
}

/// Sixty rows of which 3, 7, 11, … are hot: eight of the first group of 32, and seven of the last 28.
#[test]
fn every_lie_about_rows_of_four_bits_is_refused_by_name() {
    use Quantity::*;
    let mut raw = raw_fixed(&wide_i4());
    assert_eq!(raw.fixed.table, [1, 15]);
    assert_eq!(raw.section("hot")[..], u32s(&[0x8888_8888, 0, 0x0888_8888, 8]));
    let too_short = |raw: &Raw, missing: u32| {
        let found = raw.blob().len() as u32;
        Err(ParseError::Length { expected: found + missing, found })
    };
    // A header: linear, multiplier, offset.
    let header = |linear: i32, multiplier: i32, offset: i32| {
        ((linear as u32) << 20 | ((multiplier - 1) as u32) << 12 | offset as u32 & 0xfff).to_le_bytes()
    };
    let max = 1920;
    for (row, bytes, expected) in [
        // Upwards and downwards, to the last unit.
        (0, header(0, 1, 1905), Ok(())),
        (0, header(0, 1, 1906), Err(out_of_range(RowHeader, 1921, max))),
        (0, header(0, 256, -1920), Ok(())),
        (0, header(0, 256, -1921), Err(out_of_range(RowHeader, 1921, max))),
        (0, header(0, 256, -1919), Err(out_of_range(RowHeader, 1921, max))),
        (0, header(2047, 1, -2048), Err(out_of_range(RowHeader, 2048, max))),
        (58, header(-1, 130, 0), Err(out_of_range(RowHeader, 1950, max))),
        (58, header(-1, 128, 0), Ok(())),
        // A hot row counts its code as 128, and has no offset.
        (3, header(0, 15, 0), Ok(())),
        (3, header(-2048, 15, 0), Ok(())),
        (3, header(0, 16, 0), Err(out_of_range(RowHeader, 2048, max))),
        (3, header(0, 256, 0), Err(out_of_range(RowHeader, 32768, max))),
        (3, header(0, 1, 1), Err(out_of_range(RowHeader, u32::MAX, max))),
        (55, header(0, 1, -1), Err(out_of_range(RowHeader, u32::MAX, max))),
    ] {
        let mut raw = raw.clone();
        raw.put("headers", 4 * row, &bytes);
        assert_eq!(parse_any(&raw.blob()), expected, "row {row}: {bytes:?}");
    }

    let lies: &[Lie] = &[
        ("max_embedding 0", |r| r.fixed.max_embedding = 0, out_of_range(MaxEmbedding, 0, 1)),
        (
            "max_embedding below the widest row",
            |r| r.fixed.max_embedding = 1919,
            out_of_range(RowHeader, 1920, 1919),
        ),
        (
            "max_embedding that overflows",
            |r| r.fixed.max_embedding = 65535,
            ParseError::Overflow { what: BiInteraction, index: 0 },
        ),
        (
            "max_value that overflows",
            |r| r.fixed.max_value = i32::MAX.into(),
            ParseError::Overflow { what: BiInteraction, index: 0 },
        ),
        (
            "max_active that overflows",
            |r| r.max_active = 99,
            ParseError::Overflow { what: BiInteraction, index: 0 },
        ),
        ("more hot rows than rows", |r| r.set_hot_rows(61), out_of_range(HotRows, 61, 60)),
        (
            "as many hot rows as a number holds",
            |r| r.set_hot_rows(u32::MAX.into()),
            out_of_range(HotRows, u32::MAX, 60),
        ),
        ("more hot rows than 32 bits hold", |r| r.set_hot_rows(1 << 32), ParseError::Manifest { offset: 38 }),
        ("a kind of table", |r| r.fixed.table[0] = 2, ParseError::Manifest { offset: 38 }),
        ("hot rows before the first", |r| r.put("hot", 4, &[1]), out_of_range(HotRows, 1, 0)),
        ("one hot row more before a group", |r| r.put("hot", 12, &[9]), out_of_range(HotRows, 9, 8)),
        ("one hot row less before a group", |r| r.put("hot", 12, &[7]), out_of_range(HotRows, 7, 8)),
        ("the largest count", |r| r.put("hot", 12, &[255; 4]), out_of_range(HotRows, u32::MAX, 8)),
        ("a hot bit that the count does not have", |r| r.put("hot", 0, &[0x89]), out_of_range(HotRows, 8, 9)),
        ("a hot bit beyond the last row", |r| r.put("hot", 11, &[0x18]), out_of_range(HotRows, 1, 0)),
        ("the last hot bit beyond the last row", |r| r.put("hot", 11, &[0x88]), out_of_range(HotRows, 8, 0)),
        // The same number of bits, so that only the place is wrong.
        ("a hot bit in another place", |r| r.put("hot", 11, &[0x80]), out_of_range(HotRows, 8, 0)),
        ("a hot bit more", |r| r.put("hot", 8, &[0x89]), out_of_range(HotRows, 16, 15)),
        ("a hot bit less", |r| r.put("hot", 8, &[0x80]), out_of_range(HotRows, 14, 15)),
        // Row 59 is hot: its bit is the last that there is.
        ("the last row is not hot", |r| r.put("hot", 11, &[0x00]), out_of_range(HotRows, 14, 15)),
        (
            "padding of a hot row",
            |r| r.put("codes", 18, &[1]),
            ParseError::NonZeroPadding { what: Embeddings, row: 0 },
        ),
        (
            "padding of the last hot row",
            |r| r.put("codes", 14 * 20 + 19, &[128]),
            ParseError::NonZeroPadding { what: Embeddings, row: 14 },
        ),
    ];
    assert_refused(&raw, lies);

    // Sections that the number of hot rows does not fill: a row of codes is 20 bytes, one of nibbles is 12.
    let mut lie = raw.clone();
    lie.set_hot_rows(16);
    assert_eq!(parse_any(&lie.blob()), too_short(&lie, 8));
    let mut lie = raw.clone();
    lie.set_hot_rows(14);
    assert_eq!(
        parse_any(&lie.blob()),
        Err(out_of_range(HotRows, 15, 14)),
        "the rest is read eight bytes too early"
    );
    let mut lie = raw.clone();
    lie.section("nibbles").extend([0; 4]);
    lie.section("head").drain(..4);
    assert!(parse_any(&lie.blob()).is_err(), "the rest is read four bytes too early");
    let mut lie = raw.clone();
    lie.section("nibbles").drain(..4);
    assert_eq!(parse_any(&lie.blob()), too_short(&lie, 4));
    // Sections that agree with a number of hot rows, and bits that do not.
    let mut lie = raw.clone();
    lie.set_hot_rows(16);
    lie.section("codes").extend([0; 20]);
    lie.section("nibbles").drain(..12);
    assert_eq!(parse_any(&lie.blob()), Err(out_of_range(HotRows, 15, 16)));
    // No hot row has no bits: the section is empty.
    let mut lie = raw_fixed(&cold(wide_i4()));
    assert_eq!(parse_any(&lie.blob()), Ok(()));
    assert_eq!(lie.fixed.table, [1, 0]);
    *lie.section("hot") = vec![0; 16];
    assert!(parse_any(&lie.blob()).is_err(), "the rest is read sixteen bytes too early");
    // All rows are hot.
    let mut all = raw.clone();
    all.set_hot_rows(60);
    *all.section("headers") = header(5, 2, 0).repeat(60);
    *all.section("hot") = u32s(&[u32::MAX, 0, 0x0fff_ffff, 32]);
    *all.section("codes") = vec![0; 60 * 20];
    all.section("nibbles").clear();
    assert_eq!(parse_any(&all.blob()), Ok(()));

    // A whole group has no bit too many: 64 rows.
    let mut whole = all.clone();
    whole.set_hot_rows(64);
    whole.rows = 64;
    whole.field_records[0] = [string("user"), varint(0), varint(0), varint(64)].concat();
    *whole.section("headers") = header(5, 2, 0).repeat(64);
    *whole.section("hot") = u32s(&[u32::MAX, 0, u32::MAX, 32]);
    *whole.section("codes") = vec![0; 64 * 20];
    assert_eq!(parse_any(&whole.blob()), Ok(()));
}

#[test]
fn dimensions_of_zero_are_refused_where_the_sections_agree() {
    use Quantity::*;
    let plain = || {
        let mut spec = tiny();
        spec.layers.clear();
        spec.head = vec![1; 8];
        raw_fixed(&spec)
    };
    let mut raw = plain();
    raw.rows = 0;
    raw.field_records = vec![];
    raw.fields = 0;
    raw.section("headers").clear();
    raw.section("codes").clear();
    assert_eq!(parse_any(&raw.blob()), Err(out_of_range(Rows, 0, 1)));
    let mut raw = plain();
    raw.dim = 0;
    raw.section("codes").clear();
    raw.section("head").clear();
    assert_eq!(parse_any(&raw.blob()), Err(out_of_range(Dim, 0, 1)));
    for out in [0_usize, 4097] {
        let mut raw = plain();
        raw.layers = 1;
        let (activation, encoding) = (varint(1), 0);
        let (max, fold) = (1, 0);
        raw.layer_records =
            vec![LayerRecord { out: out as u64, activation, shift: 0, fraction: 0, max, fold, encoding }];
        let head = vec![0; 2 * pad(out)];
        raw.sections.pop();
        raw.sections.push(("bias".to_owned(), vec![0; 4 * pad(out)]));
        raw.sections.push(("weights".to_owned(), vec![0; 8 * pad(out)]));
        raw.sections.push(("head".to_owned(), head));
        let limit = if out == 0 { 1 } else { 4096 };
        assert_eq!(parse_any(&raw.blob()), Err(out_of_range(LayerOut, out as u32, limit)));
    }
    // Lanes and dense inputs together.
    let mut raw = plain();
    raw.dense_inputs = 4093;
    raw.field_records.push([string("d"), varint(1)].concat());
    raw.fields = 3;
    *raw.section("dense_inputs") = vec![0; 4093 * 20];
    *raw.section("head") = vec![0; 2 * 4104];
    assert_eq!(parse_any(&raw.blob()), Err(out_of_range(Dim, 4097, 4096)));
}

#[test]
fn a_record_that_cannot_be_decoded_is_refused_at_its_offset() {
    let raw = raw_fixed(&small());
    let offset_of = |r: &Raw| match parse_any(&r.blob()) {
        Err(ParseError::Manifest { offset }) => offset,
        other => panic!("{other:?}"),
    };
    let first = 24 + string("small").len() as u32 + 4 + 1 + 1;
    let second = |r: &Raw| {
        let fixed = &r.fixed;
        let scales = zigzag(fixed.head_scale.0).len() + 1 + zigzag(fixed.linear_scale.0).len() + 1;
        let table = varint(fixed.max_embedding).len() + fixed.table.len();
        let numbers = zigzag(fixed.max_value).len() + table + 1 + varint(fixed.max).len() + scales;
        first + (numbers + zigzag(fixed.bias).len() + fixed.link.len()) as u32
    };
    let told = |lie: fn(&mut Raw)| {
        let mut raw = raw.clone();
        lie(&mut raw);
        raw
    };
    assert_eq!(offset_of(&told(|r| r.name = vec![3, 0xff, 0xfe, 0xfd])), 24, "a name that is not UTF-8");
    assert_eq!(offset_of(&told(|r| r.name = vec![0xff, 0x7f])), 24, "a name longer than the manifest");
    assert_eq!(offset_of(&told(|r| r.dim = 65536)), 24, "more than 16 bits");
    assert_eq!(offset_of(&told(|r| r.rows = 1 << 32)), 24, "more than 32 bits");
    let link = told(|r| r.fixed.link = varint(3));
    assert_eq!(offset_of(&link), first, "a link that does not exist");
    assert_eq!(offset_of(&told(|r| r.fixed.table = vec![2])), first, "a table of a kind that does not exist");
    let third = second(&raw);
    assert_eq!(offset_of(&told(|r| r.layer_records[0].activation = varint(7))), third, "an activation");
    let kind = told(|r| r.field_records[0][5] = 5);
    let layers: usize = raw
        .layer_records
        .iter()
        .map(|l| [varint(l.out), l.activation.clone(), varint(l.max), varint(l.fold)].concat().len() + 2)
        .sum();
    assert_eq!(offset_of(&kind), third + layers as u32, "a kind of field");
    let float = raw_f32(&small_f32(false));
    let mut encoding = float.clone();
    encoding.f32.embeddings = 2;
    assert_eq!(offset_of(&encoding), first, "an encoding");
    let mut link = float.clone();
    link.f32.link = varint(9);
    assert_eq!(offset_of(&link), first);
    let mut weights = float;
    weights.layer_records[0].encoding = 2;
    assert_eq!(offset_of(&weights), first + 9 + 9, "a layer's encoding");
}

#[test]
fn bytes_between_sections_must_be_zero() {
    for raw in [raw_fixed(&small()), raw_f32(&small_f32(true))] {
        let mut raw = raw;
        raw.filler = 1;
        let manifest_end = (PREFIX_BYTES + raw.manifest().len()) as u32;
        assert_ne!(manifest_end % 4, 0, "the manifest is padded");
        let error = ParseError::NonZeroPadding { what: Quantity::Reserved, row: manifest_end };
        assert_eq!(parse_any(&raw.blob()), Err(error));
        // A filler after a section only: five headers end at half a word.
        raw.filler = 0;
        let mut blob = raw.blob().to_vec();
        let end = manifest_end.next_multiple_of(4) as usize + 10;
        blob[end + 1] = 0x80;
        fix_checksum(&mut blob);
        let error = ParseError::NonZeroPadding { what: Quantity::Reserved, row: end as u32 };
        assert_eq!(parse_any(&AlignedBytes::new(&blob)), Err(error));
    }
}

#[test]
fn each_proof_holds_up_to_its_last_number() {
    use Quantity::*;
    let overflow = |what, index| Err(ParseError::Overflow { what, index });
    let limit = i64::from(i32::MAX);

    // Pooling: E = 129 for embeddings of 128 and value 1; N(N−1)/2 · E² + half ≤ 2³¹ − 1.
    let mut raw = raw_fixed(&tiny());
    raw.section("headers").chunks_exact_mut(2).for_each(|header| header[0] &= 0xf0);
    raw.fixed.max_embedding = 128;
    raw.fixed.shift = 0;
    let pairs = |n: i64| n * (n - 1) / 2 * 129 * 129;
    let most = (2..).take_while(|&n| pairs(n) <= limit).last().unwrap();
    raw.set_active(most as u64);
    assert_eq!(parse_any(&raw.blob()), Ok(()));
    raw.set_active(most as u64 + 1);
    assert_eq!(parse_any(&raw.blob()), overflow(BiInteraction, 0));
    // The rounding constant counts too: with shift 30 half is 2²⁹.
    raw.fixed.shift = 30;
    let most = (2..).take_while(|&n| pairs(n) + (1 << 29) <= limit).last().unwrap();
    raw.set_active(most as u64);
    assert_eq!(parse_any(&raw.blob()), Ok(()));
    raw.set_active(most as u64 + 1);
    assert_eq!(parse_any(&raw.blob()), overflow(BiInteraction, 0));

    // One product: 2 · (embedding · value + 2¹⁵) ≤ 2³¹ − 1. One entry makes no pair.
    for spec in [tiny(), tiny_i4()] {
        for max_embedding in [385, 1920, 2048, 65535] {
            let mut raw = raw_fixed(&spec);
            raw.set_active(1);
            raw.fixed.max_embedding = max_embedding as u64;
            let largest = (limit / 2 - (1 << 15)) / max_embedding;
            if largest < 1 << 16 {
                raw.fixed.max_value = 1 << 16;
                assert_eq!(parse_any(&raw.blob()), overflow(BiInteraction, 0));
                continue;
            }
            raw.fixed.max_value = largest;
            assert_eq!(parse_any(&raw.blob()), Ok(()));
            raw.fixed.max_value += 1;
            assert_eq!(parse_any(&raw.blob()), overflow(BiInteraction, 0));
        }
    }

    // The same for rows of four bits: E = 386.
    let mut raw = raw_fixed(&tiny_i4());
    let pairs = |n: i64| n * (n - 1) / 2 * 386 * 386;
    let most = (2..).take_while(|&n| pairs(n) + 16 <= limit).last().unwrap();
    raw.set_active(most as u64);
    assert_eq!(parse_any(&raw.blob()), Ok(()));
    raw.set_active(most as u64 + 1);
    assert_eq!(parse_any(&raw.blob()), overflow(BiInteraction, 0));

    // A layer: Σ|w| · max + |b| ≤ 2³¹ − 1.
    let mut raw = raw_fixed(&tiny());
    for (i, byte) in [0, 255, 127, 131].into_iter().enumerate() {
        // The codes −128, 127, −1, 3 of output 1.
        raw.put("weights0", 8 * i + 1, &[byte]);
    }
    let room = limit - 259 * 2047;
    for (bias, expected) in [
        (room, Ok(())),
        (-room, Ok(())),
        (room + 1, overflow(LayerWeights, 1)),
        (-room - 1, overflow(LayerWeights, 1)),
    ] {
        raw.put("bias0", 4, &i32s(&[bias as i32]));
        assert_eq!(parse_any(&raw.blob()), expected, "{bias}");
    }
    // Columns and rows of padding count.
    raw.put("bias0", 4, &i32s(&[room as i32]));
    raw.put("weights0", 8 * 7 + 1, &[129]);
    assert_eq!(parse_any(&raw.blob()), overflow(LayerWeights, 1));

    // The head: Σ|p| · max ≤ 2³¹ − 1.
    let mut raw = raw_fixed(&tiny());
    raw.layer_records[0].max = 32767;
    raw.put("head", 0, &i16s(&[i16::MIN, i16::MAX, 3, 0]));
    // (32768 + 32767 + 3) · 32767 = 2147483646 + … : 65538 · 32767 = 2 147 483 646.
    assert_eq!(65538 * 32767_i64, limit - 1);
    assert_eq!(parse_any(&raw.blob()), Ok(()));
    raw.put("head", 6, &i16s(&[1]));
    assert_eq!(parse_any(&raw.blob()), overflow(Head, 0));
    raw.put("head", 6, &i16s(&[0]));
    raw.put("head", 14, &i16s(&[-1]));
    assert_eq!(parse_any(&raw.blob()), overflow(Head, 0), "padding counts");
}

#[test]
fn each_proof_of_dsp_weights_holds_up_to_its_last_number() {
    let overflow = |index| Err(ParseError::Overflow { what: Quantity::LayerWeights, index });
    let limit = i64::from(i32::MAX);
    // Codes of −128 in output 1: multipliers of −32640, −32640, −32768 and −32640, twice.
    let group = 130_688_i64;
    let largest = |codes_at: &[usize]| {
        let mut raw = raw_fixed(&tiny_dsp(1));
        raw.section("weights0").fill(0);
        // [out / 4, in / 4, 4] words.
        codes_at.iter().for_each(|&word| raw.put("weights0", 4 * word, &[0x80; 4]));
        raw
    };

    // Between two folds Σ|w| · max ≤ 2³¹ − 1, in units of 1/256.
    let mut raw = largest(&[1, 5]);
    let two = limit / (2 * group);
    let one = limit / group;
    for (fold, max, expected) in [
        (1, two + 1, Ok(())),
        (1, one, Ok(())),
        (1, one + 1, overflow(1)),
        (2, two, Ok(())),
        (2, two + 1, overflow(1)),
        (3, two + 1, overflow(1)),
        (65535, two, Ok(())),
        (65535, two + 1, overflow(1)),
    ] {
        raw.layer_records[0].fold = fold;
        raw.fixed.max = max as u64;
        assert_eq!(parse_any(&raw.blob()), expected, "fold {fold}, max {max}");
    }
    // Exactly 2³¹: (2 · 32768 + 128) + (32768 + 32512 + 128) = 2¹⁷, times 2¹⁴.
    let mut exact = largest(&[]);
    exact.put("weights0", 4, &[0, 0x80, 0, 0x80]);
    exact.put("weights0", 20, &[0, 0x80, 0, 0x81]);
    exact.layer_records[0].fold = 2;
    for (max, expected) in [((1 << 14) - 1, Ok(())), (1 << 14, overflow(1))] {
        exact.fixed.max = max;
        assert_eq!(parse_any(&exact.blob()), expected, "max {max}");
    }
    // In the row that has them, and in none beside it: the words of another output, of another block.
    for (words, row) in [([0, 4], 0), ([3, 7], 3), ([8, 12], 4), ([11, 15], 7)] {
        let mut raw = largest(&words);
        raw.layer_records[0].fold = 2;
        raw.fixed.max = two as u64;
        assert_eq!(parse_any(&raw.blob()), Ok(()));
        raw.fixed.max += 1;
        assert_eq!(parse_any(&raw.blob()), overflow(row));
    }
    // One group each of two outputs is no sum.
    let mut raw = largest(&[1, 6]);
    raw.layer_records[0].fold = 2;
    raw.fixed.max = one as u64;
    assert_eq!(parse_any(&raw.blob()), Ok(()));

    // |bias| + Σ_folds (P / 256, rounded down, + 1) ≤ 2³¹ − 1, where what is left after the last whole fold, and be it
    // nothing, is a fold too.
    let max = 2047;
    let mut raw = largest(&[1, 5]);
    for (fold, folds) in [
        (1, 2 * (((group * max) >> 8) + 1) + 1),
        (2, ((2 * group * max) >> 8) + 1 + 1),
        (3, ((2 * group * max) >> 8) + 1),
        (65535, ((2 * group * max) >> 8) + 1),
    ] {
        raw.layer_records[0].fold = fold;
        for (bias, expected) in [
            (limit - folds, Ok(())),
            (folds - limit, Ok(())),
            (limit - folds + 1, overflow(1)),
            (folds - limit - 1, overflow(1)),
            (i64::from(i32::MIN), overflow(1)),
        ] {
            raw.put("bias0", 4, &i32s(&[bias as i32]));
            assert_eq!(parse_any(&raw.blob()), expected, "fold {fold}, bias {bias}");
        }
    }
}

#[test]
fn the_proof_of_pooling_covers_the_first_order() {
    let mut bytes = raw_fixed(&tiny());
    bytes.fixed.max_embedding = 128;
    bytes.section("headers").chunks_exact_mut(2).for_each(|header| header[0] &= 0xf0);
    // No row of four bits has smaller embeddings than from −7 or −8 to 8 or 7.
    let mut nibbles = raw_fixed(&cold(tiny_i4()));
    nibbles.fixed.max_embedding = 8;
    *nibbles.section("headers") = u32s(&[0x7ff0_0ff9; 4]);
    for (mut raw, bits) in [(bytes, 22), (nibbles, 29)] {
        let mut legal = 0;
        for active in (0..16).map(|bit| 1 << bit).chain([500, 65535]) {
            for value in (16..=30).map(|bit| (1 << bit) - 8192).chain([1 << 16]) {
                raw.set_active(active);
                raw.fixed.max_value = value;
                if parse_any(&raw.blob()).is_ok() {
                    assert!(active as i64 * (((2048 * value) >> 16) + 1) < 1 << bits, "{active} {value}");
                    legal += 1;
                }
            }
        }
        println!("{legal} legal pairs");
        assert!(legal > 40, "{legal}");
    }
}

#[test]
fn every_lie_of_an_f32_model_is_refused_by_name() {
    use Quantity::*;
    let nan = |what, index| ParseError::NotFinite { what, index };
    const BAD: [u8; 4] = f32::NAN.to_le_bytes();
    const INF: [u8; 4] = f32::NEG_INFINITY.to_le_bytes();
    let mut one = raw_f32(&small_f32(false));
    one.f32.link = [varint(2), f32s(&[0.5, 0.5])].concat();
    assert_eq!(parse_any(&one.blob()), Ok(()), "a clip to one number is legal");
    let bits = f32::to_bits;
    assert_refused(
        &raw_f32(&small_f32(false)),
        &[
            ("linear", |r| r.put("linear", 12, &BAD), nan(Linear, 3)),
            ("embeddings", |r| r.put("embeddings", 20, &INF), nan(Embeddings, 5)),
            ("NaN in padding", |r| r.put("embeddings", 24, &BAD), nan(Embeddings, 6)),
            (
                "padding",
                |r| r.put("embeddings", 24, &f32s(&[1e-30])),
                ParseError::NonZeroPadding { what: Embeddings, row: 0 },
            ),
            (
                "padding",
                |r| r.put("embeddings", 32 * 4 + 28, &f32s(&[1.0])),
                ParseError::NonZeroPadding { what: Embeddings, row: 4 },
            ),
            ("dense_linear", |r| r.put("dense_linear", 0, &BAD), nan(DenseInputs, 0)),
            ("weights", |r| r.put("weights1", 8, &INF), nan(LayerWeights, 2)),
            ("bias", |r| r.put("bias2", 4, &BAD), nan(LayerBias, 1)),
            ("slopes", |r| r.put("slopes1", 8, &BAD), nan(LayerChannels, 2)),
            (
                "alpha",
                |r| r.layer_records[0].activation = [vec![6], BAD.to_vec()].concat(),
                nan(LayerChannels, 0),
            ),
            (
                "slope",
                |r| r.layer_records[0].activation = [vec![2], INF.to_vec()].concat(),
                nan(LayerChannels, 0),
            ),
            ("head", |r| r.put("head", 4, &BAD), nan(Head, 1)),
            ("bias", |r| r.f32.bias = f32::INFINITY, nan(Bias, 0)),
            ("clip", |r| r.f32.link = [varint(2), f32s(&[0.0, f32::NAN])].concat(), nan(Link, 1)),
            (
                "clip",
                |r| r.f32.link = [varint(2), f32s(&[2.0, 1.0])].concat(),
                out_of_range(Link, bits(2.0), bits(1.0)),
            ),
            (
                "linear_scale without codes",
                |r| r.f32.linear_scale = 1.0,
                out_of_range(Reserved, bits(1.0), 0),
            ),
            ("max_active", |r| r.max_active = 0, out_of_range(MaxActive, 0, 1)),
            ("layers", |r| r.layers = 200, out_of_range(Layers, 200, 8)),
            ("scratch_len", |r| r.scratch_len = 0, out_of_range(ScratchLen, 0, 24)),
            ("fields", |r| r.field_records[2][7] = 9, out_of_range(Fields, 11, 5)),
        ],
    );
    assert_refused(
        &raw_f32(&small_f32(true)),
        &[
            ("linear_scale", |r| r.f32.linear_scale = f32::NAN, nan(Linear, 0)),
            ("scales", |r| r.put("scales0", 12, &BAD), nan(LayerChannels, 3)),
            ("bias", |r| r.put("bias0", 0, &BAD), nan(LayerBias, 0)),
            ("padding", |r| r.put("codes", 7, &[1]), ParseError::NonZeroPadding { what: Embeddings, row: 0 }),
        ],
    );
}

#[test]
fn new_refuses_what_parse_would_refuse() {
    let spec = small();
    let blob = spec.emit();
    let dense_words = [&spec.words[..], &[0]].concat();
    let good = spec.parts();
    assert!(Model::new(good.clone()).is_ok());
    let refused = |parts: embedded_nfm::FixedParts<'_>| Model::new(parts).unwrap_err();

    let mut parts = good.clone();
    parts.head = &parts.head[1..];
    assert_eq!(refused(parts), out_of_range(Quantity::Head, 7, 8));
    let Table::I8(table) = good.table else { panic!("8-bit rows") };
    let mut parts = good.clone();
    parts.table = Table::I8(QuantTable { headers: &table.headers[1..], ..table });
    assert_eq!(refused(parts), out_of_range(Quantity::Linear, 4, 5));
    let mut parts = good.clone();
    parts.table = Table::I8(QuantTable { codes: &table.codes[1..], ..table });
    assert_eq!(refused(parts), out_of_range(Quantity::Embeddings, 39, 40));
    let mut parts = good.clone();
    let Weights::Scalar(codes) = parts.layers[0].weights else { panic!("scalar") };
    parts.layers[0].weights = Weights::Scalar(&codes[1..]);
    assert_eq!(refused(parts), out_of_range(Quantity::LayerWeights, 127, 128));
    let mut parts = good.clone();
    let Weights::Dsp { words, fold } = parts.layers[1].weights else { panic!("DSP") };
    parts.layers[1].weights = Weights::Dsp { words: &words[1..], fold };
    assert_eq!(refused(parts), out_of_range(Quantity::LayerWeights, 15, 16));
    let mut parts = good.clone();
    parts.layers[1].weights = Weights::Dsp { words, fold: 0 };
    assert_eq!(refused(parts), out_of_range(Quantity::LayerFold, 0, 1));
    // The other layout's lengths.
    let mut parts = good.clone();
    parts.layers[0].weights = Weights::Dsp { words, fold };
    assert_eq!(refused(parts), out_of_range(Quantity::LayerWeights, 16, 32));
    let mut parts = good.clone();
    parts.layers[1].weights = Weights::Scalar(codes);
    assert_eq!(refused(parts), out_of_range(Quantity::LayerWeights, 128, 64));
    // Outputs that the sections do not have, or have too many of.
    for (out, error) in [
        (0, out_of_range(Quantity::LayerOut, 0, 1)),
        (9, out_of_range(Quantity::LayerBias, 8, 16)),
        (4097, out_of_range(Quantity::LayerOut, 4097, 4096)),
    ] {
        let mut parts = good.clone();
        parts.layers[0].out = out;
        assert_eq!(refused(parts), error);
    }
    let mut parts = good.clone();
    parts.layers[0].bias = &parts.layers[0].bias[..4];
    assert_eq!(refused(parts), out_of_range(Quantity::LayerBias, 4, 8));
    let mut parts = good.clone();
    parts.layers[1].slopes = &parts.layers[1].slopes[..3];
    assert_eq!(refused(parts), out_of_range(Quantity::LayerChannels, 3, 8));
    let mut parts = good.clone();
    parts.layers[0].slopes = &[1, 2, 3, 4];
    assert_eq!(refused(parts), out_of_range(Quantity::LayerChannels, 4, 0));
    let mut parts = good.clone();
    parts.layers[2].multipliers = &[1];
    assert_eq!(refused(parts), out_of_range(Quantity::LayerChannels, 1, 8));
    let mut parts = good.clone();
    parts.dense_inputs = DenseInputs { words: &dense_words };
    assert_eq!(refused(parts), out_of_range(Quantity::DenseInputs, 6, 5));
    // Fields that do not decode as often as they say.
    let mut parts = good.clone();
    let Fields::Encoded { bytes, .. } = Model::parse(&blob).unwrap().info().fields else { panic!("listed") };
    parts.info = Info { fields: Fields::Encoded { count: 4, bytes }, ..parts.info };
    assert_eq!(refused(parts), out_of_range(Quantity::Fields, 3, 4));
}

#[test]
fn new_refuses_rows_of_four_bits_that_parse_would_refuse() {
    use Quantity::*;
    let spec = small_i4();
    let good = spec.parts();
    let Table::I4(table) = good.table else { panic!("4-bit rows") };
    assert_eq!((table.hot, table.codes.len(), table.nibbles.len()), (&[8, 0][..], 8, 4));
    let refused = |table: NibbleTable<'_>| {
        let mut parts = good.clone();
        parts.table = Table::I4(table);
        Model::new(parts).unwrap_err()
    };
    let longer = [table.headers, &[0]].concat();
    assert_eq!(refused(NibbleTable { headers: &longer, ..table }), out_of_range(Linear, 6, 5));
    assert_eq!(refused(NibbleTable { headers: &longer[1..5], ..table }), out_of_range(Linear, 4, 5));
    let codes = [0; 48];
    // What is no whole row, one row too many, all rows, and more than there are.
    assert_eq!(refused(NibbleTable { codes: &codes[..9], ..table }), out_of_range(Embeddings, 9, 8));
    assert_eq!(refused(NibbleTable { codes: &codes[..16], ..table }), out_of_range(Embeddings, 4, 3));
    assert_eq!(refused(NibbleTable { codes: &codes[..40], ..table }), out_of_range(Embeddings, 4, 0));
    let all = NibbleTable { codes: &codes, nibbles: &[], ..table };
    assert_eq!(refused(all), out_of_range(HotRows, 1, 6));
    assert_eq!(
        refused(NibbleTable { nibbles: &table.nibbles[1..], ..table }),
        out_of_range(Embeddings, 3, 4)
    );
    for hot in [&[][..], &[8], &[8, 0, 0], &[8, 0, 0, 1]] {
        assert_eq!(refused(NibbleTable { hot, ..table }), out_of_range(HotRows, hot.len() as u32, 2));
    }
    let cold = NibbleTable { codes: &[], nibbles: &[0; 5], ..table };
    assert_eq!(refused(cold), out_of_range(HotRows, 2, 0));
}

#[test]
fn a_mutated_blob_is_refused_or_scores() {
    let mut rng = Rng::from_env();
    let (mut refused, mut scored) = (0, 0);
    let originals = [
        small().emit(),
        small_f32(false).emit(),
        small_f32(true).emit(),
        tiny().emit(),
        tiny_dsp(2).emit(),
        support::wide_dsp().emit(),
        small_i4().emit(),
        tiny_i4().emit(),
        wide_i4().emit(),
    ];
    for round in 0..20_000 {
        let original = &originals[round % originals.len()];
        let mut blob = original.to_vec();
        for _ in 0..rng.int::<u32>(1, 3) {
            let position: usize = rng.int(0, blob.len() as i64 - 1);
            // Half of the time in the prefix and the manifest, where each bit means something.
            let position = if rng.int::<u8>(0, 1) == 0 { position % 100 } else { position };
            blob[position] = match rng.int::<u8>(0, 3) {
                0 => 0xff,
                1 => 0,
                2 => blob[position] ^ (1 << rng.int::<u8>(0, 7)),
                _ => rng.int(0, 255),
            };
        }
        fix_checksum(&mut blob);
        let blob = AlignedBytes::new(&blob);
        if let Ok(model) = Model::parse(&blob) {
            score_some(&mut rng, &model);
            scored += 1;
        } else if let Ok(model) = F32Model::parse(&blob) {
            let (rows, dense) = (model.info().rows, model.parts().dense_linear.len());
            let mut scratch = vec![0.0; scratch_len(&blob)];
            for _ in 0..4 {
                let ids: Vec<u32> = (0..rng.int::<u32>(0, 3)).map(|_| rng.int(0, i64::from(rows))).collect();
                let values = rng.floats(ids.len(), 1e30);
                let dense = rng.floats(dense, 1e30);
                let sample = Sample::new(&ids).with_values(&values).with_dense(&dense);
                let score = model.score(&sample, &mut scratch).unwrap_or_default();
                let _ = model.link().apply::<embedded_nfm::Libm>(score);
            }
            scored += 1;
        } else {
            refused += 1;
        }
    }
    println!("{refused} refused, {scored} scored");
    assert!(refused > 1000 && scored > 1000, "the mutations reach both ends: {refused}, {scored}");
}

/// Scores legal and illegal samples at the ends of every range.
fn score_some(rng: &mut Rng, model: &Model<'_>) {
    let parts = model.parts();
    let mut scratch = vec![0x7fff_7fff; model.scratch_len()];
    for round in 0..4 {
        let active = [0, 1, parts.info.max_active.min(600), 3][round];
        let ids: Vec<u32> = (0..active).map(|_| rng.int(0, i64::from(parts.info.rows) - 1)).collect();
        let limit = i64::from(parts.max_value.to_bits());
        let values: Vec<Q16> = ids
            .iter()
            .map(|_| Q16::from_bits(if round == 2 { limit as i32 } else { rng.int(-limit, limit) }))
            .collect();
        let dense: Vec<Q16> = parts
            .dense_inputs
            .iter()
            .map(|input| {
                let limit = i64::from(input.max.to_bits());
                Q16::from_bits(if round == 2 { limit as i32 } else { rng.int(-limit, limit) })
            })
            .collect();
        let sample = Sample::new(&ids).with_values(&values).with_dense(&dense);
        if ids.len() <= parts.info.max_active.into() {
            let score = model.score(&sample, &mut scratch).expect("the sample is legal");
            let _ = model.link().apply(score);
        }
        let _ = model.score(&Sample::new(&[u32::MAX]), &mut scratch);
    }
}

/// FORMAT.md's dump of the smallest golden: lines of an offset, bytes in hex, and what they are.
#[test]
fn the_document_shows_the_golden_byte_by_byte() {
    let document = include_str!("../src/blob/FORMAT.md");
    let dump =
        document.split("```hexdump\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a dump");
    let mut bytes = Vec::new();
    for line in dump.lines() {
        let (offset, rest) = line.split_once("  ").expect("an offset");
        assert_eq!(usize::from_str_radix(offset, 16), Ok(bytes.len()), "{line}");
        let (hex, label) = rest.split_once("  ").expect("a label");
        assert!(!label.trim().is_empty(), "{line}");
        bytes.extend(hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits")));
    }
    assert_eq!(bytes, include_bytes!("golden/tiny.nfm"));
}

/// FORMAT.md's table of near misses: an offset, what stands there instead, and the error.
#[test]
fn each_near_miss_of_the_document_gives_its_error() {
    let document = include_str!("../src/blob/FORMAT.md");
    let table = document.split("## Near misses").nth(1).expect("a table");
    let lines = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in lines {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let mut cell = || cells.next().expect("three cells");
        let (offset, bytes, error) = (cell(), cell(), cell());
        let mut blob = include_bytes!("golden/tiny.nfm").to_vec();
        for (offset, bytes) in offset.split(", ").zip(bytes.split(", ")) {
            let places = blob.iter_mut().skip(usize::from_str_radix(offset, 16).expect("an offset"));
            for (place, byte) in places.zip(bytes.split(' ')) {
                *place = u8::from_str_radix(byte, 16).expect("two hex digits");
            }
        }
        // The checksum covers what the blob says is its length.
        let len = u32::from_le_bytes(blob[8..12].try_into().unwrap()) as usize;
        let len = len.min(blob.len());
        fix_checksum(&mut blob[..len]);
        let got = match Model::parse(&AlignedBytes::new(&blob)) {
            Ok(_) => "a model".to_owned(),
            Err(error) => format!("`{error:?}`"),
        };
        if got != error {
            wrong.push(format!("{line} gives {got}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 20, "the table was not found: {count} lines");
}

#[test]
fn errors_say_what_was_expected_and_found() {
    let texts = [
        ParseError::Misaligned { remainder: 3 }.to_string(),
        ParseError::Truncated { needed: 24, got: 5 }.to_string(),
        out_of_range(Quantity::Dim, 5000, 4096).to_string(),
        ParseError::NonZeroPadding { what: Quantity::Embeddings, row: 4 }.to_string(),
        EmitError::Refused(ParseError::Manifest { offset: 24 }).to_string(),
    ];
    assert_eq!(
        texts,
        [
            "expected a slice aligned to 4, found address ≡ 3",
            "expected 24 bytes, found 5",
            "dim: expected a number in the range that ends at 4096, found 5000",
            "embeddings: padding of row 4 is not zero",
            "the model would be refused: no valid manifest record at offset 24",
        ]
    );
}
