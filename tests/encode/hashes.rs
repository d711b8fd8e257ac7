//! The hash functions, and numbers as text, against the libraries that users train with.

use embedded_nfm::encode::{
    Decimal,
    hash::{fingerprint64, fnv1a_32, fnv1a_64, half_sip_1_3, murmur3_32, remainder, xx64},
};

use crate::drawn::{floats, halfwords, ints, texts};

fn folded(hash: u64) -> u16 {
    (hash ^ hash >> 16 ^ hash >> 32 ^ hash >> 48) as u16
}

fn agree(fixture: &str, hash: impl Fn(&[u8]) -> u64) {
    let (texts, expected) = (texts(), halfwords(fixture));
    assert_eq!(texts.len(), expected.len());
    for (text, expected) in texts.iter().zip(expected) {
        assert_eq!(folded(hash(text.as_bytes())), expected, "{fixture} of {text:?}");
    }
}

#[test]
fn hashes_are_those_of_the_libraries() {
    agree("fingerprint64", fingerprint64);
    agree("murmur3", |text| murmur3_32(text.iter().copied(), 0).into());
    agree("fnv1a_32", |text| fnv1a_32(text).into());
    agree("fnv1a_64", fnv1a_64);
    agree("xx64", xx64);
    agree("half_sip", |text| {
        let [low, high] = half_sip_1_3(text, [7, 8]);
        u64::from(high) << 32 | u64::from(low)
    });
}

#[test]
fn numbers_are_printed_as_tensorflow_hashes_them() {
    let id = |text: Decimal| remainder(fingerprint64(text.as_bytes()), 40_009) as u16;
    for (number, expected) in ints().into_iter().zip(halfwords("deepctr_ints")) {
        assert_eq!(id(Decimal::of_int(number)), expected, "{number}");
    }
    let id =
        |text: &[u8]| if text == b"0.000000" { 0 } else { remainder(fingerprint64(text), 40_008) as u16 + 1 };
    for (number, expected) in floats().into_iter().zip(halfwords("deepctr_floats")) {
        assert_eq!(id(Decimal::of_f32_bits(number.to_bits()).as_bytes()), expected, "{number}");
    }
}
