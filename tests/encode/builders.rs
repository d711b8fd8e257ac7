//! The sample builder: values of all types, sequences, missing values, and errors that name the field.

use embedded_nfm::{
    Field, FieldKind, Fields, Pooling, Q16, Sequence,
    encode::{
        Encoder, Encoders, Entry, F32Scaling, FieldEncoder, FieldIndex, Keys, Of, Padding, Policy, Problem,
        SampleBuilder, SampleMemory, Scaling, SequenceRule, Slot, Slots, Span, Value, Vocabulary,
        VocabularyParts,
        hash::{Hashing, Rule},
    },
};

use crate::{
    drawn::{floats, halfwords, ints, texts},
    fields::{Fields as Others, each_id, encoded, ids, many, section, strict},
};

fn table(keys: &[&str]) -> Vec<u32> {
    let ids: Vec<u32> = (0..keys.len() as u32).collect();
    let parts = VocabularyParts { keys: Keys::Text(keys), ids: &ids, exact: false };
    let mut words = vec![0; parts.encoded_len()];
    parts.emit(&mut vec![Entry::default(); keys.len()], &mut words).expect("distinct keys");
    words
}

#[test]
fn hashed_ids_are_those_of_the_pipelines() {
    let drawn = texts();
    let with = |rule, buckets| Encoder::Hash(Hashing { rule, buckets, prefix: "" });
    let deepctr = with(Rule::Fingerprint64MaskZero, 40_009);
    let values = drawn.iter().map(String::as_str).chain(["0"]).map(Value::Text);
    let expected: Vec<u32> = halfwords("deepctr").into_iter().map(u32::from).collect();
    assert_eq!(each_id(deepctr, 40_009, values), expected);
    let expected: Vec<u32> = halfwords("deepctr_floats").into_iter().map(u32::from).collect();
    assert_eq!(each_id(deepctr, 40_009, floats().into_iter().map(Value::F32)), expected);
    let plain = with(Rule::Fingerprint64, 40_009);
    let expected: Vec<u32> = halfwords("deepctr_ints").into_iter().map(u32::from).collect();
    assert_eq!(each_id(plain, 40_009, ints().into_iter().map(Value::Int)), expected);
}

#[test]
fn feature_hasher_gives_signs_as_values() {
    // With a dictionary's key as prefix, the texts themselves being "prefix" and the rest.
    let drawn = texts();
    for (text, expected) in drawn.iter().zip(halfwords("feature_hasher")).step_by(7) {
        let expected = expected.cast_signed();
        let cut = text.char_indices().nth(3).map_or(0, |(at, _)| at);
        let (prefix, rest) = text.split_at(cut);
        let hashing = Hashing { rule: Rule::FeatureHasher, buckets: 10_007, prefix };
        let field = strict(Encoder::Hash(hashing));
        let (found, values) = encoded::<f32>(field, ids(0, 10_007), Value::Text(rest)).expect("any text");
        assert_eq!(found, [u32::from(expected.unsigned_abs()) - 1], "{text:?}");
        assert_eq!(values, (expected < 0).then(|| vec![-1.0]), "{text:?}");
    }
}

#[test]
fn fixed_point_numbers_are_hashed_as_their_float() {
    let hashing = Hashing { rule: Rule::Fingerprint64, buckets: 1000, prefix: "" };
    let numbers = [0, 1, -1, 65_536, 98_304, i32::MAX, i32::MIN].map(Q16::from_bits);
    let encoder = Encoder::Hash(hashing);
    let found = each_id(encoder, 1000, numbers.into_iter().map(Value::Q16));
    assert_eq!(found, each_id(encoder, 1000, numbers.into_iter().map(|x| Value::F32(x.to_f32()))));
}

#[test]
fn ids_are_held_to_their_rows_as_the_policy_says() {
    let with = |unseen| FieldEncoder { unseen, ..strict(Encoder::Id) };
    let id =
        |unseen, value| encoded::<f32>(with(unseen), ids(100, 10), Value::Int(value)).map(|(ids, _)| ids);
    assert_eq!(id(Policy::Error, 9), Ok(vec![109]));
    assert_eq!(
        id(Policy::Error, 10),
        Err("field `x`: expected a value that was seen in training".to_owned())
    );
    assert_eq!(id(Policy::Clamp, 1 << 40), Ok(vec![109]));
    assert_eq!(id(Policy::Clamp, -5), Ok(vec![100]));
    assert_eq!(id(Policy::Use(3), -5), Ok(vec![103]));
    assert_eq!(id(Policy::Zero, -5), Ok(vec![]));
}

/// The ids that a sequence field of `rule` gives for these values.
fn sequence(rule: SequenceRule, unseen: Policy, values: &[&str]) -> Result<Vec<u32>, String> {
    sequence_or_none(rule, unseen, Some(values))
}

/// The same, where the field may have no value, which is no entry.
fn sequence_or_none(rule: SequenceRule, unseen: Policy, given: Option<&[&str]>) -> Result<Vec<u32>, String> {
    let values = given.unwrap_or_default();
    let words = table(&["pad", "a", "b", "c", "d"]);
    let encoder = Encoder::Vocabulary(Vocabulary::parse(&words, 5).expect("as it was emitted"));
    let field = FieldEncoder { encoder, unseen, missing: Policy::Zero, sequence: rule };
    let (words, fields) = (section(&[field]), Others(vec![("genres", many(10, 5))]));
    let encoders =
        Encoders::<f32>::parse(bytemuck::cast_slice(&words), &fields).map_err(|e| e.to_string())?;
    let mut memory = SampleMemory::<f32, 4, 0, 1>::new();
    let mut builder = SampleBuilder::new(encoders, &fields, &mut memory);
    // Weights tell which value an entry comes from.
    let weighted = values.iter().enumerate().map(|(at, &value)| (value, at as f32));
    if given.is_some() {
        builder.set_weighted("genres", weighted).map_err(|e| e.to_string())?;
    }
    let sample = builder.finish().map_err(|e| e.to_string())?;
    let ids = sample.ids().to_vec();
    if rule.padding == Padding::None && unseen == Policy::Error {
        let kept = values.len().min(usize::from(rule.max_len));
        let first = if rule.keep_last { values.len() - kept } else { 0 };
        let expected: Vec<f32> = (first..first + kept).map(|at| at as f32).collect();
        assert_eq!(sample.values().unwrap_or_default(), expected);
    }
    Ok(ids)
}

#[test]
fn sequences_are_cut_padded_and_masked() {
    let rule = SequenceRule { max_len: 3, keep_last: false, padding: Padding::None };
    let last = SequenceRule { keep_last: true, ..rule };
    let skip = SequenceRule { padding: Padding::Skip(0), ..rule };
    let fill = SequenceRule { padding: Padding::Fill(0), ..rule };
    let ids = |rule, values: &[&str]| sequence(rule, Policy::Error, values).unwrap();
    assert_eq!(ids(rule, &["a", "b", "c", "d", "a"]), [11, 12, 13]);
    assert_eq!(ids(last, &["a", "b", "c", "d", "a"]), [13, 14, 11]);
    assert_eq!(ids(last, &["a", "b"]), [11, 12]);
    assert_eq!(ids(rule, &["b", "b", "b"]), [12, 12, 12]);
    // The cut comes before the mask, as pad_sequences comes before the model.
    assert_eq!(ids(skip, &["pad", "a", "pad", "b"]), [11]);
    assert_eq!(ids(SequenceRule { keep_last: true, ..skip }, &["pad", "a", "pad", "b"]), [11, 12]);
    assert_eq!(ids(fill, &["a"]), [11, 10, 10]);
    assert_eq!(ids(fill, &["a", "pad", "b", "c"]), [11, 10, 12]);
    assert_eq!(sequence(rule, Policy::Zero, &["a", "unknown", "b", "c"]), Ok(vec![11, 12]));
    assert_eq!(sequence(rule, Policy::Use(4), &["unknown", "b"]), Ok(vec![14, 12]));
    assert!(sequence(rule, Policy::Error, &["a", "unknown"]).unwrap_err().starts_with("field `genres`: "));
    let long = SequenceRule { max_len: 9, ..rule };
    let error = sequence(long, Policy::Error, &["a"; 5]).unwrap_err();
    assert_eq!(error, "field `genres`: expected room for its entries, found 4 in all");
}

#[test]
fn an_empty_and_a_missing_sequence_have_no_entries() {
    let rule = SequenceRule { max_len: 3, keep_last: false, padding: Padding::None };
    assert_eq!(sequence(rule, Policy::Error, &[]), Ok(vec![]));
    assert_eq!(sequence_or_none(rule, Policy::Error, None), Ok(vec![]));
    // Both are filled up.
    let fill = SequenceRule { padding: Padding::Fill(2), ..rule };
    assert_eq!(sequence(fill, Policy::Error, &[]), Ok(vec![12, 12, 12]));
    assert_eq!(sequence_or_none(fill, Policy::Error, None), Ok(vec![12, 12, 12]));
}

/// A user, a sequence, a scaled number and a dense input.
fn mixed(action: impl FnOnce(&mut SampleBuilder<'_, '_, Q16, Others>)) {
    let words = table(&["ann", "bob"]);
    let users = Encoder::Vocabulary(Vocabulary::parse(&words, 2).expect("as it was emitted"));
    let number =
        Encoder::Number(Scaling::new(Of::Value, 0.0, 0.5, Q16::MIN, Q16::MAX).expect("ordinary numbers"));
    let sequence = SequenceRule { max_len: 4, keep_last: false, padding: Padding::None };
    let words = section(&[
        strict(users),
        FieldEncoder { sequence, missing: Policy::Zero, ..strict(Encoder::Id) },
        FieldEncoder { missing: Policy::Zero, ..strict(number) },
        FieldEncoder { missing: Policy::Use(77), ..strict(number) },
    ]);
    let fields = Others(vec![
        ("user", ids(0, 2)),
        ("clicks", many(2, 50)),
        ("price", Slot::Scaled { row: 52 }),
        ("age", Slot::Dense { position: 0 }),
    ]);
    let encoders = Encoders::parse(bytemuck::cast_slice(&words), &fields).expect("as it was emitted");
    let mut memory = SampleMemory::<Q16, 6, 1, 4>::new();
    action(&mut SampleBuilder::new(encoders, &fields, &mut memory));
}

#[test]
fn fields_come_in_any_order_and_spans_tell_where_they_are() {
    mixed(|builder| {
        builder.set("age", 40).unwrap();
        builder.set_sequence("clicks", [7, 3, 7]).unwrap();
        builder.set(FieldIndex(2), 3).unwrap();
        builder.set(FieldIndex(0), "bob").unwrap();
        let sample = builder.finish().unwrap();
        assert_eq!(sample.ids(), [9, 5, 9, 52, 1]);
        let one = Q16::ONE;
        assert_eq!(sample.values().unwrap(), [one, one, one, Q16::from_bits(3 << 15), one]);
        assert_eq!(sample.dense(), [Q16::from_bits(20 << 16)]);
        let spans = [(4, 1), (0, 3), (3, 1), (0, 0)].map(|(start, len)| Span { start, len });
        assert_eq!(builder.spans(), spans);
    });
}

#[test]
fn missing_fields_follow_their_policy() {
    mixed(|builder| {
        builder.set("user", "ann").unwrap();
        let sample = builder.finish().unwrap();
        assert_eq!((sample.ids(), sample.values()), (&[0][..], None), "all values are one");
        assert_eq!(sample.dense(), [Q16::from_bits(77)]);
        builder.clear();
        let error = builder.finish().unwrap_err();
        assert_eq!(error.to_string(), "field `user`: expected a value, found none");
    });
}

#[test]
fn errors_name_the_field_and_leave_it_unset() {
    mixed(|builder| {
        let problem =
            |error: Result<(), embedded_nfm::encode::EncodeError<'_>>| error.unwrap_err().to_string();
        assert_eq!(problem(builder.set("usr", "ann")), "field `usr`: the model has no such field");
        assert_eq!(problem(builder.set(FieldIndex(4), 1)), "field 4: the model has no such field");
        assert_eq!(
            problem(builder.set("user", 1.5_f32)),
            "field `user`: its encoder takes no value of this type"
        );
        assert_eq!(
            problem(builder.set("price", "much")),
            "field `price`: its encoder takes no value of this type"
        );
        assert_eq!(
            problem(builder.set("user", "eve")),
            "field `user`: expected a value that was seen in training"
        );
        assert_eq!(
            problem(builder.set_sequence("user", ["ann"])),
            "field `user`: expected one value, found a sequence"
        );
        let error = builder.set_sequence("clicks", [1, 2, 99]).unwrap_err();
        assert_eq!(error.problem, Problem::Unseen);
        builder.set("user", "ann").unwrap();
        assert_eq!(builder.set("user", "ann").unwrap_err().problem, Problem::AlreadySet);
        builder.set_sequence("clicks", [1, 2]).unwrap();
        assert_eq!(builder.finish().unwrap().ids(), [0, 3, 4]);
    });
}

#[test]
fn a_models_own_fields_are_slots_and_its_sequences_are_told() {
    let sequence = |first, linear| FieldKind::Sequence { first, rows: 10, pooling: Pooling::Mean, linear };
    let list = [
        Field { name: "age", kind: FieldKind::Dense },
        Field { name: "user", kind: FieldKind::Id { first: 0, rows: 5 } },
        Field { name: "genres", kind: sequence(5, Pooling::Sum) },
        Field { name: "price", kind: FieldKind::Scaled { row: 15 } },
        Field { name: "tags", kind: sequence(16, Pooling::Max) },
        Field { name: "height", kind: FieldKind::Dense },
    ];
    let fields = Fields::Listed(&list);
    assert_eq!(fields.slot(5), Some(Slot::Dense { position: 1 }));
    assert_eq!((fields.slot(6), fields.find("tags"), fields.find("tag")), (None, Some(4), None));
    let number = F32Scaling { of: Of::Value, step: 0, offset: 0.0, scale: 1.0, min: -9.0, max: 9.0 };
    let encoder = |field: &Field<'_>| match field.kind {
        FieldKind::Dense | FieldKind::Scaled { .. } => strict(Encoder::F32Number(number)),
        _ => FieldEncoder {
            missing: Policy::Zero,
            sequence: SequenceRule { max_len: 4, ..SequenceRule::SINGLE },
            ..strict(Encoder::Id)
        },
    };
    let words = section(&list.iter().map(encoder).collect::<Vec<_>>());
    let encoders = Encoders::<f32>::parse(bytemuck::cast_slice(&words), &fields).expect("as it was emitted");
    let mut memory = SampleMemory::<f32, 8, 2, 6>::new();
    let mut builder = SampleBuilder::new(encoders, &fields, &mut memory);
    builder.set_sequence("tags", [3, 3]).unwrap();
    builder.set("height", 2).unwrap();
    builder.set("age", 1.5_f32).unwrap();
    builder.set("user", 4).unwrap();
    builder.set("price", 0.5_f32).unwrap();
    builder.finish().unwrap();
    let sample = builder.sample();
    assert_eq!((sample.ids(), sample.dense()), (&[19, 19, 4, 15][..], &[1.5, 2.0][..]));
    assert_eq!(sample.values(), Some(&[1.0, 1.0, 1.0, 0.5][..]));
    let (pooling, linear) = (Pooling::Mean, Pooling::Max);
    let tags = Sequence { start: 0, len: 2, pooling, linear };
    let genres = Sequence { start: 4, len: 0, pooling, linear: Pooling::Sum };
    assert_eq!(builder.sequences::<2>().expect("room for both"), [tags, genres]);
    assert_eq!(builder.sequences::<1>(), None);
}
