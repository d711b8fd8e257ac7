//! Vocabularies give each key its id and other keys none, and no malformed table does more harm than a wrong answer.

use std::collections::{BTreeMap, BTreeSet};

use embedded_nfm::encode::{
    EmitEncodersError, EncodersError, Entry, Keys, Part, Vocabulary, VocabularyParts,
};

use crate::{
    drawn::{halfwords, ints, texts},
    support::Rng,
};

fn emit(keys: Keys<'_>, ids: &[u32], exact: bool) -> Result<Vec<u32>, EmitEncodersError> {
    let parts = VocabularyParts { keys, ids, exact };
    let mut words = vec![0xdead_beef; parts.encoded_len() + 3];
    let len = parts.emit(&mut vec![Entry::default(); ids.len()], &mut words)?;
    words.truncate(len);
    Ok(words)
}

fn words(keys: Keys<'_>, ids: &[u32], exact: bool) -> Vec<u32> {
    emit(keys, ids, exact).expect("distinct keys")
}

/// The texts of the fixtures, and the id that `LabelEncoder` gives each.
fn label_encoder() -> BTreeMap<String, u32> {
    texts().into_iter().zip(halfwords("label_encoder").into_iter().map(u32::from)).collect()
}

#[test]
fn keys_have_the_ids_that_label_encoder_gave_them() {
    let map = label_encoder();
    let (keys, ids): (Vec<&str>, Vec<u32>) = map.iter().map(|(key, id)| (key.as_str(), *id)).unzip();
    for exact in [false, true] {
        let words = words(Keys::Text(&keys), &ids, exact);
        let table = Vocabulary::parse(&words, short(ids.len())).expect("as it was emitted");
        for (text, id) in texts().iter().zip(halfwords("label_encoder")) {
            assert_eq!(table.id_of_text(text), Some(id.into()), "{text:?}");
        }
        for i in 0..20_000 {
            assert_eq!(table.id_of_text(&format!("unseen {i}")), None);
        }
    }
}

fn short(len: usize) -> u32 {
    u32::try_from(len).expect("small")
}

#[test]
fn integers_have_their_ids_in_either_kind_of_vocabulary() {
    let numbers: Vec<i64> = ints().into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let ids: Vec<u32> = (0..short(numbers.len())).rev().collect();
    let texts: Vec<String> = numbers.iter().map(i64::to_string).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for exact in [false, true] {
        for keys in [Keys::Integer(&numbers), Keys::Text(&texts)] {
            let words = words(keys, &ids, exact);
            let table = Vocabulary::parse(&words, short(ids.len())).expect("as it was emitted");
            for (number, id) in numbers.iter().zip(&ids) {
                assert_eq!(table.id_of_int(*number), Some(*id), "{number}");
            }
            assert_eq!(table.id_of_int(1_234_567_890_123), None);
            assert_eq!(table.id_of_text(texts[0]), matches!(keys, Keys::Text(_)).then_some(ids[0]));
        }
    }
}

#[test]
fn ten_thousand_keys_take_less_than_sixty_kilobytes() {
    let keys: Vec<String> = (0..10_000).map(|i| format!("N{i:05}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let ids: Vec<u32> = (0..10_000).rev().collect();
    assert_eq!(words(Keys::Text(&keys), &ids, false).len() * 4, 60_668);
}

#[test]
fn small_vocabularies_of_every_size_work() {
    let keys: Vec<String> = (0..300).map(|i| format!("key {i}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for len in 0..keys.len() {
        // Large ids, in an order of their own.
        let ids: Vec<u32> = (0..short(len)).map(|i| i * 7_919 % 3_001 * 1_000).collect();
        let words = words(Keys::Text(&keys[..len]), &ids, len % 2 == 1);
        let table = Vocabulary::parse(&words, 3_001_000).expect("as it was emitted");
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(table.id_of_text(key), ids.get(at).copied(), "{key} of {len}");
        }
    }
}

#[test]
fn the_same_key_twice_is_refused() {
    let error = emit(Keys::Text(&["a", "b", "a"]), &[0, 1, 2], false).unwrap_err();
    assert!(matches!(error, EmitEncodersError::SameKey { first: 0 | 2, second: 0 | 2 }), "{error:?}");
    assert_eq!(
        emit(Keys::Text(&["a"]), &[0, 1], false),
        Err(EmitEncodersError::Count { expected: 1, got: 2 })
    );
}

#[test]
fn ids_beyond_the_rows_are_refused() {
    let words = words(Keys::Text(&["a", "b"]), &[0, 5], false);
    assert!(Vocabulary::parse(&words, 6).is_ok());
    assert_eq!(
        Vocabulary::parse(&words, 5).unwrap_err(),
        EncodersError { field: 0, what: Part::Id, found: 6, limit: 5 }
    );
}

/// The odds of FORMAT.md, at a scale where they can be seen: a remainder cut to 8 bits is met by (keys / buckets) · 2⁻⁸ of the
/// unseen keys, whatever these look like.
#[test]
fn unseen_keys_meet_remainders_no_more_often_than_by_chance() {
    const PROBES: u32 = 300_000;
    let key = |kind: &str, i: u32| match kind {
        "counted" => format!("user_{i}"),
        "padded" => format!("{i:08x}"),
        _ => format!("{:b}", u64::from(i) << 20),
    };
    for name in ["counted", "padded", "bits"] {
        let keys: Vec<String> = (0..4096).map(|i| key(name, i)).collect();
        let (buckets, mut low) = (4096 + 64 + 1, vec![[0_u64; 4]; 4161]);
        let place = |key: &str| {
            let [low, high] = embedded_nfm::encode::hash::half_sip_1_3(key.as_bytes(), [0, 0]);
            (((u64::from(high) * buckets) >> 32) as usize, (low & 255) as usize)
        };
        for key in &keys {
            let (bucket, remainder) = place(key);
            low[bucket][remainder / 64] |= 1 << (remainder % 64);
        }
        let meets = |&i: &u32| {
            let (bucket, remainder) = place(&key(name, i));
            low[bucket][remainder / 64] >> (remainder % 64) & 1 == 1
        };
        let met = (4096..4096 + PROBES).filter(meets).count() as f64;
        let expected = f64::from(PROBES) * 4096.0 / 4161.0 / 256.0;
        // Five standard deviations.
        assert!((met - expected).abs() < 5.0 * expected.sqrt(), "{name}: {met} instead of {expected}");
    }
}

#[test]
fn a_cut_table_is_refused() {
    for exact in [false, true] {
        let words = words(Keys::Text(&["a", "b", "c"]), &[2, 1, 0], exact);
        for len in 0..words.len() {
            let error = Vocabulary::parse(&words[..len], 3).unwrap_err();
            assert_eq!(error.what, Part::Length, "{len}: {error:?}");
        }
    }
}

#[test]
fn a_changed_table_is_refused_or_harmless() {
    let mut rng = Rng::from_env();
    let keys: Vec<String> = (0..200).map(|i| format!("key {i}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let ids: Vec<u32> = (0..200).collect();
    for exact in [false, true] {
        let words = words(Keys::Text(&keys), &ids, exact);
        for _ in 0..1_000 {
            let mut broken = words.clone();
            let at: usize = rng.int(0, i64::from(short(words.len())) - 1);
            broken[at] ^= 1 << rng.int::<u32>(0, 31);
            if let Ok(table) = Vocabulary::parse(&broken, 200) {
                let found = keys.iter().filter_map(|key| table.id_of_text(key));
                assert!(found.max() < Some(200));
            }
        }
    }
}

#[test]
fn each_part_of_a_table_is_checked() {
    let words = words(Keys::Text(&["a", "b", "c"]), &[2, 1, 0], true);
    // Header, a directory of one, runs of 7 bits, three remainders, six bits of ids, four ends, three bytes.
    let cases: [(usize, u32, Part); 10] = [
        (0, 1 << 24, Part::Keys),
        (2, 32, Part::IdBits),
        (2, 2 << 8, Part::Kind),
        (2, 1 << 24, Part::Reserved),
        (3, 1, Part::Directory),
        (4, 0x80, Part::Runs),
        (8, 0x40, Part::Reserved),
        (9, 1, Part::Texts),
        (10, 8, Part::Texts),
        (13, 1 << 24, Part::Reserved),
    ];
    for (at, bits, what) in cases {
        let mut broken = words.clone();
        broken[at] |= bits;
        let error = Vocabulary::parse(&broken, 3).unwrap_err();
        assert_eq!(error.what, what, "word {at}: {error}");
    }
}
