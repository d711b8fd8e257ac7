//! Sections: what was emitted is parsed, what breaks a rule is refused, and nothing panics.

use embedded_nfm::{
    Q16,
    encode::{
        Buckets, EmitEncodersError, Encoder, Encoders, EncodersError, Entry, F32Scaling, FieldEncoder, Keys,
        Of, Padding, Part, Policy, SampleBuilder, SampleMemory, Scaling, SequenceRule, Slot, Vocabulary,
        VocabularyParts, emit_encoders,
        hash::{Hashing, Rule},
        ordered,
    },
};

use crate::{
    fields::{Fields, ids, many, section, strict},
    support::Rng,
};

fn carriers() -> Vec<u32> {
    let parts = VocabularyParts { keys: Keys::Text(&["AA", "DL", "UA"]), ids: &[0, 1, 2], exact: false };
    let mut words = vec![0; parts.encoded_len()];
    parts.emit(&mut [Entry::default(); 3], &mut words).expect("distinct keys");
    words
}

fn fields() -> Fields {
    Fields(vec![
        ("carrier", ids(0, 4)),
        ("seat", ids(4, 10)),
        ("tail", ids(14, 100)),
        ("hour", ids(114, 3)),
        ("before", many(0, 4)),
        ("miles", Slot::Dense { position: 0 }),
    ])
}

/// An encoder of each kind; the fifth field shares the first one's table.
fn with_encoders<T>(action: impl FnOnce(&[FieldEncoder<'_>]) -> T) -> T {
    let (table, boundaries) = (carriers(), [6.0, 18.0].map(ordered));
    let vocabulary = Encoder::Vocabulary(Vocabulary::parse(&table, 4).expect("as it was emitted"));
    let hashing = Hashing { rule: Rule::FeatureHasher, buckets: 100, prefix: "tail=" };
    let buckets = Buckets { right_closed: false, integers: false, boundaries: &boundaries, ids: &[] };
    let miles = Scaling::new(Of::Value, 1000.0, 0.001, Q16::from_bits(-65_536), Q16::from_bits(1 << 18));
    let sequence = SequenceRule { max_len: 3, keep_last: true, padding: Padding::Skip(3) };
    action(&[
        FieldEncoder { unseen: Policy::Use(3), ..strict(vocabulary) },
        FieldEncoder { unseen: Policy::Clamp, missing: Policy::Use(9), ..strict(Encoder::Id) },
        strict(Encoder::Hash(hashing)),
        FieldEncoder { missing: Policy::Zero, ..strict(Encoder::Buckets(buckets)) },
        FieldEncoder { unseen: Policy::Zero, missing: Policy::Zero, sequence, ..strict(vocabulary) },
        strict(Encoder::Number(miles.expect("ordinary numbers"))),
    ])
}

fn parse(words: &[u32]) -> Result<Encoders<'_, Q16>, EncodersError> {
    Encoders::parse(bytemuck::cast_slice(words), &fields())
}

#[test]
fn what_was_emitted_is_parsed() {
    with_encoders(|encoders| {
        let words = section(encoders);
        let parsed = parse(&words).expect("as it was emitted");
        let parsed: Vec<FieldEncoder<'_>> = (0..parsed.fields()).map(|field| parsed.encoder(field)).collect();
        assert_eq!(format!("{parsed:?}"), format!("{encoders:?}"));
        assert_eq!(section(&parsed), words);
    });
}

#[test]
fn a_shared_vocabulary_is_stored_once() {
    let table = carriers();
    let encoder = strict(Encoder::Vocabulary(Vocabulary::parse(&table, 4).expect("as it was emitted")));
    // A word, six for each field, the table.
    assert_eq!(section(&[encoder; 5]).len(), 1 + 5 * 6 + table.len());
}

#[test]
fn every_cut_is_refused() {
    let words = with_encoders(section);
    for len in 0..words.len() {
        assert!(parse(&words[..len]).is_err(), "{len} of {}", words.len());
    }
    let longer = [words.as_slice(), &[0]].concat();
    let (found, limit) = (longer.len() as u32, words.len() as u32);
    assert_eq!(parse(&longer).unwrap_err(), EncodersError { field: 0, what: Part::Length, found, limit });
    let bytes = bytemuck::cast_slice(&words);
    for cut in [&bytes[1..], &bytes[..bytes.len() - 2]] {
        let what = Encoders::<Q16>::parse(cut, &fields()).unwrap_err().what;
        assert!(matches!(what, Part::Alignment | Part::Length));
    }
}

#[test]
fn a_short_buffer_is_refused() {
    with_encoders(|encoders| {
        let needed = section(encoders).len();
        let error = emit_encoders(encoders, &mut [0; 20]).unwrap_err();
        assert_eq!(error, EmitEncodersError::BufferTooShort { needed, got: 20 });
    });
}

#[test]
fn each_rule_of_a_record_is_checked() {
    let words = with_encoders(section);
    let record = |field: usize| 1 + field * 6;
    let table = |field: usize| words[record(field) + 3] as usize;
    let cases: [(usize, u32, u16, Part); 24] = [
        (0, 5, 0, Part::Fields),
        (record(0), 6, 0, Part::Kind),
        (record(0), 4, 0, Part::Kind),
        (record(5), 1, 5, Part::Kind),
        (record(5), 5, 5, Part::Kind),
        (record(0), 0x0002_0101, 0, Part::Kind),
        (record(2), 0x0702, 2, Part::Kind),
        (record(0), 0x0003_0001, 0, Part::Reserved),
        (record(0) + 1, 4, 0, Part::Id),
        (record(0) + 2, 1, 0, Part::Reserved),
        (record(1), 0x0303_0000, 1, Part::Reserved),
        (record(4), 0x0101_0000, 4, Part::Table),
        (record(0) + 3, 38, 0, Part::Table),
        (record(1) + 3, 37, 1, Part::Table),
        (record(0) + 4, 0, 0, Part::Parameter),
        (record(0) + 4, 0x0002_0001, 0, Part::Parameter),
        (record(0) + 4, 0x0300_0001, 0, Part::Parameter),
        (record(4) + 5, 4, 4, Part::Id),
        (record(0) + 5, 1, 0, Part::Reserved),
        (table(2), 101, 2, Part::Parameter),
        (table(2), 0, 2, Part::Parameter),
        (table(3) + 2, 0x4200_0000, 3, Part::Boundary),
        (table(5) + 3, 63, 5, Part::Parameter),
        (table(5) + 4, 1 << 19, 5, Part::Parameter),
    ];
    for (at, word, field, what) in cases {
        let mut broken = words.clone();
        broken[at] = word;
        let error = parse(&broken).expect_err("a broken rule");
        assert_eq!((error.field, error.what), (field, what), "word {at}, {word:#x}: {error}");
    }
}

#[test]
fn a_prefix_is_text_that_its_rule_takes() {
    let words = with_encoders(section);
    let (record, table) = (1 + 2 * 6, words[1 + 2 * 6 + 3] as usize);
    for (at, word, what) in
        [(table + 2, 0xff, Part::Texts), (table + 3, 0x0100_003d, Part::Reserved), (record, 2, Part::Texts)]
    {
        let mut broken = words.clone();
        broken[at] = word;
        assert_eq!(parse(&broken).unwrap_err().what, what, "word {at}");
    }
}

#[test]
fn numbers_of_the_other_path_are_refused() {
    let scaling = F32Scaling { of: Of::Value, step: 0, offset: 0.0, scale: 1.0, min: -1.0, max: 1.0 };
    let fields = Fields(vec![("x", Slot::Dense { position: 0 })]);
    let words = section(&[strict(Encoder::F32Number(scaling))]);
    assert!(Encoders::<f32>::parse(bytemuck::cast_slice(&words), &fields).is_ok());
    let error = Encoders::<Q16>::parse(bytemuck::cast_slice(&words), &fields).unwrap_err();
    assert_eq!(error.what, Part::Kind);
    for broken in [F32Scaling { scale: f32::NAN, ..scaling }, F32Scaling { max: -2.0, ..scaling }] {
        let words = section(&[strict(Encoder::F32Number(broken))]);
        let error = Encoders::<f32>::parse(bytemuck::cast_slice(&words), &fields).unwrap_err();
        assert_eq!(error.what, Part::Parameter);
    }
}

#[test]
fn a_changed_section_is_refused_or_harmless() {
    let mut rng = Rng::from_env();
    let (words, fields) = (with_encoders(section), fields());
    for _ in 0..30_000 {
        let mut broken = words.clone();
        for _ in 0..rng.int(1, 3) {
            let at: usize = rng.int(0, i64::try_from(words.len()).expect("few") - 1);
            broken[at] ^= 1 << rng.int::<u32>(0, 31);
        }
        let Ok(encoders) = parse(&broken) else { continue };
        let mut memory = SampleMemory::<Q16, 16, 1, 6>::new();
        let mut builder = SampleBuilder::new(encoders, &fields, &mut memory);
        let _ = builder.set("carrier", "UA");
        let _ = builder.set("seat", 70);
        let _ = builder.set("tail", "N12345");
        let _ = builder.set("hour", 12);
        let _ = builder.set_sequence("before", ["AA", "XX", "UA", "DL"]);
        let _ = builder.set("miles", 1234.5_f32);
        if let Ok(sample) = builder.finish() {
            assert!(sample.ids().iter().all(|&id| id < 117));
        }
    }
}
