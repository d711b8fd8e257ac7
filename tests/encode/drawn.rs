//! The inputs of `tests/fixtures/encoders`, by the rules of `tools/fixtures/encoders.py`.

use crate::support::Rng;

const COUNT: usize = 10_000;
const ALPHABET: [char; 12] = ['ä', 'é', 'ñ', 'ß', '中', '文', 'Ж', '🙂', 'a', ' ', '\t', '|'];

/// The bytes of a fixture.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/encoders/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// A fixture of numbers of 16 bits.
pub(crate) fn halfwords(name: &str) -> Vec<u16> {
    fixture(&format!("{name}.bin")).as_chunks().0.iter().map(|&word| u16::from_le_bytes(word)).collect()
}

/// The numbers of a line of `parameters.txt`.
pub(crate) fn parameters(name: &str) -> Vec<f64> {
    let text = String::from_utf8(fixture("parameters.txt")).expect("ASCII");
    let line =
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).expect("there is one");
    line.split(' ').map(|number| number.parse().expect("a number")).collect()
}

/// Every kind of text in turn.
pub(crate) fn texts() -> Vec<String> {
    let mut rng = Rng::new(1);
    (0..COUNT).map(|i| text(&mut rng, i)).collect()
}

fn text(rng: &mut Rng, i: usize) -> String {
    match i % 8 {
        0 => {
            let len = rng.int(0, 20);
            letters(rng, len)
        }
        1 => format!("user_{}", rng.int::<i64>(0, 1_000_000)),
        2 => format!("{:08x}", rng.int::<i64>(0, u32::MAX.into())),
        3 => rng.int::<i64>(-1_000_000_000, 1_000_000_000).to_string(),
        4 => format!("{:.6}", f64::from(rng.int::<i32>(-1_000_000_000, 1_000_000_000)) / 64.0),
        5 => (0..rng.int(1, 12)).map(|_| ALPHABET[rng.int::<usize>(0, 11)]).collect(),
        6 => letters(rng, 64),
        _ => letters(rng, i / 8 % 300),
    }
}

fn letters(rng: &mut Rng, len: usize) -> String {
    (0..len).map(|_| char::from(rng.int::<u8>(97, 122))).collect()
}

/// Any bits, and readable numbers, in turn.
pub(crate) fn floats() -> Vec<f32> {
    let mut rng = Rng::new(2);
    let mut float = |i| match i % 2 {
        0 => f32::from_bits((rng.next() >> 32) as u32),
        _ => {
            let digits = f64::from(rng.int::<i32>(-10_000_000, 10_000_000));
            (digits / 10_f64.powi(rng.int(0, 9))) as f32
        }
    };
    (0..COUNT).map(&mut float).collect()
}

/// Of all magnitudes.
pub(crate) fn ints() -> Vec<i64> {
    let mut rng = Rng::new(3);
    let mut int = |_| {
        let bits = rng.next().cast_signed();
        bits >> rng.int::<u32>(0, 63)
    };
    (0..COUNT).map(&mut int).collect()
}

/// Numbers as a sensor has them.
pub(crate) fn measurements() -> Vec<f32> {
    let mut rng = Rng::new(2);
    (0..COUNT).map(|_| (f64::from(rng.int::<i32>(-2_000_000, 8_000_000)) / 1000.0) as f32).collect()
}
