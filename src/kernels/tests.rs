//! The kernels against naive evaluations of their definitions: pairs are enumerated, sums are 128 bits wide, and every
//! rounding is `floor((x + half) / 2^s)`.
#![expect(clippy::float_arithmetic, reason = "the oracles of the curves are floats")]
#![expect(clippy::cast_precision_loss, reason = "the oracles compare small integers as floats")]
#![expect(clippy::cast_sign_loss, reason = "drawn numbers are cut to the type under test")]
#![expect(clippy::cast_possible_truncation, reason = "drawn numbers are cut to the type under test")]

use std::{format, string::String, vec, vec::Vec};

use super::{
    arch::halves,
    bi_interaction::{Term, bi_interaction, bi_interaction_of_values, by_lanes, clamp},
    dense::{dense, dot},
    float::{self, Libm},
    nibbles::{self, NIBBLES, NibbleTerm},
};
use crate::{
    Rescale,
    kernels::nibbles::TERM_WORDS,
    model::{Activation, F32Layer, F32Weights, FixedLayer, QuantTable, Weights, dsp_weights, row_header},
};

/// Marsaglia's xorshift64*.
struct Rng(u64);

impl Rng {
    /// Seeded by `NFM_SEED`, else by a fixed number; prints it, so that a failure can be repeated.
    fn from_env() -> Self {
        let seed = std::env::var("NFM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1708_05027);
        std::eprintln!("NFM_SEED={seed}");
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number in `low..=high`.
    fn int(&mut self, low: i64, high: i64) -> i64 {
        let span = high.abs_diff(low) + 1;
        low.wrapping_add_unsigned((self.next() >> 11) % span)
    }

    fn i8s(&mut self, len: usize, limit: i64) -> Vec<i8> {
        (0..len).map(|_| self.int(-limit, limit) as i8).collect()
    }

    fn i16s(&mut self, len: usize, limit: i64) -> Vec<i16> {
        (0..len).map(|_| self.int(-limit, limit) as i16).collect()
    }

    fn f32s(&mut self, len: usize, limit: f32) -> Vec<f32> {
        (0..len).map(|_| limit * (self.int(-(1 << 23), 1 << 23) as f32 / (1 << 23) as f32)).collect()
    }
}

/// `floor((x + half) / 2^shift)` with half of a unit, none where nothing is dropped.
fn round_shift(x: i128, shift: u32) -> i128 {
    let unit = 1_i128 << shift;
    (x + unit / 2).div_euclid(unit)
}

fn clamped(x: i128, max: u16) -> i128 {
    x.clamp(-i128::from(max), i128::from(max))
}

/// Σ over all pairs i < j, one by one.
fn naive_bi_interaction(rows: &[(Vec<i8>, i32)], lanes: usize, shift: u8, max: u16) -> Vec<i128> {
    let e = |i: usize, k: usize| round_shift(i128::from(rows[i].0[k]) * i128::from(rows[i].1), 16);
    let lane = |k| {
        let mut sum = 0;
        for i in 0..rows.len() {
            for j in i + 1..rows.len() {
                sum += e(i, k) * e(j, k);
            }
        }
        clamped(round_shift(sum, shift.into()), max)
    };
    (0..lanes).map(lane).collect()
}

/// A table that holds the rows last to first with a foreign row before each, and the terms that name them in order.
fn table_of(rows: &[(Vec<i8>, i32)]) -> (Vec<i8>, Vec<Term>) {
    let mut codes = vec![];
    let mut terms = vec![Term::default(); rows.len()];
    for ((row, gain), term) in rows.iter().zip(&mut terms).rev() {
        codes.extend(vec![77_i8; row.len()]);
        (term[0], term[1]) = (codes.len() as u32, gain.cast_unsigned());
        codes.extend(row);
    }
    (codes, terms)
}

/// Pools `rows`, their gains in Q16; where all are whole numbers, by both kernels.
fn pool(rows: &[(Vec<i8>, i32)], lanes: usize, shift: u8, max: u16) -> Vec<i16> {
    let (codes, mut terms) = table_of(rows);
    let mut z = vec![0x5555; lanes];
    bi_interaction_of_values(&codes, &terms, shift, max, &mut z);
    if rows.iter().all(|(_, gain)| gain & 0xffff == 0) {
        terms.iter_mut().for_each(|[_, gain, ..]| *gain = (gain.cast_signed() >> 16).cast_unsigned());
        let mut whole = vec![0x5555; lanes];
        bi_interaction(&codes, &terms, shift, max, &mut whole);
        assert_eq!(z, whole);
        by_lanes(&codes, &terms, 0, shift, max, &mut whole);
        assert_eq!(z, whole);
    }
    z
}

fn assert_bi_interaction(rows: &[(Vec<i8>, i32)], lanes: usize, shift: u8, max: u16) {
    let got: Vec<i128> = pool(rows, lanes, shift, max).into_iter().map(i128::from).collect();
    let want = naive_bi_interaction(rows, lanes, shift, max);
    assert_eq!(got, want, "{} rows, {lanes} lanes, shift {shift}, max {max}", rows.len());
}

#[test]
fn bi_interaction_is_the_sum_over_pairs() {
    let mut rng = Rng::from_env();
    for lanes in [4, 12, 16, 64, 68] {
        for count in [0_usize, 1, 2, 10, 40] {
            for round in 0..24 {
                // N(N−1)/2 · E² + half < 2³¹ with E = |gain| · 128 is what `parse` proves.
                let pairs = (count * count.saturating_sub(1) / 2).max(1) as f64;
                let limit = ((2_000_000_000.0 / pairs).sqrt() / 128.0).min(255.0);
                let limit = (limit * 65536.0) as i64;
                let gain = |rng: &mut Rng| match round % 3 {
                    0 => 1 << 16,
                    1 => (rng.int(-limit, limit) >> 16 << 16).max(-limit),
                    _ => rng.int(-limit, limit),
                } as i32;
                let rows: Vec<_> = (0..count)
                    .map(|_| {
                        let gain = gain(&mut rng);
                        let codes = (0..lanes).map(|_| rng.int(-128, 127) as i8).collect();
                        (codes, gain)
                    })
                    .collect();
                let shift = rng.int(0, 26) as u8;
                let max = rng.int(1, 32767) as u16;
                assert_bi_interaction(&rows, lanes, shift, max);
            }
        }
    }
}

#[test]
fn bi_interaction_holds_at_the_largest_sums_that_parse_admits() {
    for code in [127_i8, -128] {
        // 512 · 511 / 2 · 128² + 2¹⁵ < 2³¹.
        assert_bi_interaction(&vec![(vec![code; 4], 1 << 16); 512], 4, 16, 32767);
        // 2 rows of |128 · gain| < 2¹⁵: the product is below 2³⁰; the rounding adds 2¹⁵ to a product below 2³¹ − 2¹⁵.
        for gain in [16_776_959, -16_776_959, 16_711_680, -16_711_680] {
            assert_bi_interaction(&[(vec![code; 4], gain), (vec![127; 4], gain)], 4, 15, 32767);
            assert_bi_interaction(&[(vec![code; 4], gain), (vec![-128; 4], -gain)], 4, 15, 32767);
        }
    }
}

#[test]
fn bi_interaction_saturates_at_both_clamps_and_rounds_ties_up() {
    let ones = |code: i8| (vec![code; 4], 1 << 16);
    let pool = |a: i8, b: i8, shift, max| pool(&[ones(a), ones(b)], 4, shift, max)[0];
    assert_eq!(pool(100, 100, 0, 500), 500);
    assert_eq!(pool(100, -100, 0, 500), -500);
    assert_eq!(pool(100, 5, 0, 500), 500);
    assert_eq!(pool(7, 71, 0, 500), 497);
    // 6 / 4 → 2; -6 / 4 → -1; 3 / 2 → 2; -3 / 2 → -1
    assert_eq!([pool(2, 3, 2, 9), pool(2, -3, 2, 9), pool(1, 3, 1, 9), pool(1, -3, 1, 9)], [2, -1, 2, -1]);
}

/// Rows of (codes, multiplier, first-order code), as a whole table that is pooled with two lanes a word; `None` where that cannot be.
fn pool_halves(
    rows: &[(Vec<i8>, u8, i16)],
    largest: u16,
    lanes: usize,
    shift: u8,
    max: u16,
) -> Option<(i32, Vec<i16>)> {
    let codes: Vec<i8> = rows.iter().flat_map(|(codes, ..)| codes.iter().copied()).collect();
    let headers: Vec<u16> =
        rows.iter().map(|(_, multiplier, linear)| row_header(*linear, *multiplier)).collect();
    let table = QuantTable { headers: &headers, codes: &codes };
    let plan = halves::Plan { table, lanes, largest, shift, max };
    let ids: Vec<u32> = (0..rows.len() as u32).rev().collect();
    let mut z = vec![0x5555; lanes + 1];
    let sum = plan.pool(&ids, &mut vec![0; TERM_WORDS * ids.len()], &mut z)?;
    assert_eq!(z.pop(), Some(0x5555));
    Some((sum, z))
}

fn assert_halves(rows: &[(Vec<i8>, u8, i16)], largest: u16, lanes: usize, shift: u8, max: u16) {
    let (sum, z) = pool_halves(rows, largest, lanes, shift, max).unwrap();
    assert_eq!(sum, rows.iter().map(|(_, _, linear)| i32::from(*linear)).sum::<i32>());
    let pairs: Vec<_> = rows.iter().map(|(codes, gain, _)| (codes.clone(), i32::from(*gain) << 16)).collect();
    let z: Vec<i128> = z.into_iter().map(i128::from).collect();
    assert_eq!(z, naive_bi_interaction(&pairs, lanes, shift, max), "{} rows, {lanes} lanes", rows.len());
}

#[test]
fn the_pooling_of_two_lanes_a_word_is_the_sum_over_pairs() {
    let mut rng = Rng::from_env();
    for lanes in [4, 12, 64] {
        for multiplier in [1_u8, 2, 7, 16] {
            let largest = 128 * u16::from(multiplier);
            // 2 · N · 2048 < 2¹⁶
            for count in [1, 2, 10, 15] {
                for _ in 0..20 {
                    let row = |rng: &mut Rng| {
                        let codes = (0..lanes).map(|_| rng.int(-128, 127) as i8).collect();
                        (codes, rng.int(1, multiplier.into()) as u8, rng.int(-2048, 2047) as i16)
                    };
                    let rows: Vec<_> = (0..count).map(|_| row(&mut rng)).collect();
                    let (shift, max) = (rng.int(0, 26) as u8, rng.int(1, 32767) as u16);
                    assert_halves(&rows, largest, lanes, shift, max);
                }
            }
        }
    }
}

#[test]
fn the_pooling_of_two_lanes_a_word_holds_up_to_its_bound() {
    for code in [127_i8, -128] {
        let rows = |count, multiplier| vec![(vec![code; 4], multiplier, -1); count];
        // Σ (e + b) of codes of 127 is (127 + 128) · 16 · 15 = 61,200; with one row more b alone could make 65,536.
        assert_halves(&rows(15, 16), 2048, 4, 11, 32767);
        assert_eq!(pool_halves(&rows(16, 16), 2048, 4, 11, 32767), None);
        // The same with a multiplier of one: 2 · 255 · 128 = 65,280.
        assert_halves(&rows(255, 1), 128, 4, 16, 32767);
        assert_eq!(pool_halves(&rows(256, 1), 128, 4, 16, 32767), None);
        // The largest bias, which no row of eight bits needs.
        assert_halves(&rows(2, 16), 16383, 4, 8, 32767);
        assert_eq!(pool_halves(&rows(3, 16), 16383, 4, 8, 32767), None);
    }
    assert_eq!(pool_halves(&[], 2048, 4, 11, 32767), None);
}

#[test]
fn a_row_that_stands_twice_pairs_with_itself() {
    let mut z = [0; 4];
    bi_interaction(&[1, 1, 1, 1, 3, -4, 5, 0], &[[4, 1], [4, 1]], 0, 32767, &mut z);
    assert_eq!(z, [9, 16, 25, 0]);
}

/// A row of either width; gain and offset in Q16.
#[derive(Clone, Debug)]
struct MixedRow {
    hot: bool,
    /// Of four bits where the row is not hot.
    codes: Vec<i8>,
    gain: i32,
    offset: i32,
}

/// Which lane of eight each nibble of a word has, from the lowest on.
const LANES_OF_NIBBLES: [usize; 8] = [0, 1, 4, 5, 2, 3, 6, 7];

impl MixedRow {
    /// The embedding in a lane, rounded.
    fn embedding(&self, lane: usize) -> i128 {
        let product = i128::from(self.codes[lane]) * i128::from(self.gain);
        round_shift(product + i128::from(self.offset), 16)
    }

    /// Eight lanes a word; nibbles that are no lane are drawn.
    fn words(&self, rng: &mut Rng) -> Vec<u32> {
        let word = |w| {
            LANES_OF_NIBBLES.iter().enumerate().fold(0, |word, (place, lane)| {
                let nibble =
                    self.codes.get(8 * w + lane).map_or_else(|| rng.int(0, 15), |&code| i64::from(code));
                word | (nibble as u32) << (4 * place)
            })
        };
        (0..self.codes.len().div_ceil(8)).map(word).collect()
    }
}

/// The kernel against the sum over pairs, one by one; without values too where nothing is a fraction.
fn assert_mixed(rng: &mut Rng, rows: &[MixedRow], lanes: usize, shift: u8, max: u16) {
    // The tables hold the rows last to first, each with a foreign row before it.
    let (mut codes, mut nibbles) = (vec![], vec![]);
    let mut terms: Vec<NibbleTerm> = vec![[0; 3]; rows.len()];
    for (row, term) in rows.iter().zip(&mut terms).rev() {
        codes.extend(vec![77_i8; lanes]);
        nibbles.extend(vec![0x9999_9999; lanes.div_ceil(8)]);
        let start = if row.hot { codes.len() as u32 } else { nibbles.len() as u32 | NIBBLES };
        *term = [start, row.gain.cast_unsigned(), row.offset.cast_unsigned()];
        if row.hot {
            codes.extend(&row.codes);
        } else {
            nibbles.extend(row.words(rng));
        }
    }
    let want: Vec<i128> = (0..lanes)
        .map(|k| {
            let mut sum = 0;
            for (i, row) in rows.iter().enumerate() {
                sum += rows[i + 1..].iter().map(|other| row.embedding(k) * other.embedding(k)).sum::<i128>();
            }
            clamped(round_shift(sum, shift.into()), max)
        })
        .collect();
    let pool = |terms: &[NibbleTerm], values| {
        let mut z = vec![0x5555; lanes];
        nibbles::bi_interaction(&codes, &nibbles, terms, values, shift, max, &mut z);
        let got: Vec<i128> = z.into_iter().map(i128::from).collect();
        assert_eq!(got, want, "{rows:?}, values {values}, shift {shift}, max {max}");
    };
    pool(&terms, true);
    if rows.iter().all(|row| row.gain & 0xffff == 0 && row.offset & 0xffff == 0) {
        for [_, gain, offset] in &mut terms {
            *gain = (gain.cast_signed() >> 16).cast_unsigned();
            *offset = (offset.cast_signed() >> 16).cast_unsigned();
        }
        pool(&terms, false);
    }
}

#[test]
fn the_pooling_of_nibbles_is_the_sum_over_pairs() {
    let mut rng = Rng::from_env();
    for lanes in [4, 8, 12, 20, 64] {
        for count in [0_usize, 1, 2, 10, 40] {
            for round in 0..36 {
                // N(N−1)/2 · E² + half < 2³¹ is what `parse` proves; 15 · 256 steps from −1920 are the widest row.
                let pairs = (count * count.saturating_sub(1) / 2).max(1) as f64;
                let largest = (2_000_000_000.0 / pairs).sqrt().min(1920.0) as i64;
                let values = round % 2 == 1;
                let hot_share = [0, 3, 1][round / 2 % 3];
                let rows: Vec<_> = (0..count)
                    .map(|_| {
                        let value = if values { rng.int(-65536, 65536) } else { 65536 };
                        let hot = rng.int(0, 3) < hot_share;
                        if hot {
                            let gain = (rng.int(1, (largest / 128).max(1)) * value) as i32;
                            let codes = rng.i8s(lanes, 128);
                            return MixedRow { hot, codes, gain, offset: 0 };
                        }
                        let multiplier = rng.int(1, 2 * largest / 15);
                        let offset = rng.int(-largest, largest - 15 * multiplier);
                        let codes = (0..lanes).map(|_| rng.int(0, 15) as i8).collect();
                        let (gain, offset) = ((multiplier * value) as i32, (offset * value) as i32);
                        MixedRow { hot, codes, gain, offset }
                    })
                    .collect();
                let (shift, max) = (rng.int(0, 26) as u8, rng.int(1, 32767) as u16);
                assert_mixed(&mut rng, &rows, lanes, shift, max);
            }
        }
    }
}

#[test]
fn the_pooling_of_nibbles_holds_at_its_extremes() {
    let mut rng = Rng::from_env();
    let row = |code, gain, offset| MixedRow { hot: false, codes: vec![code; 4], gain, offset };
    let hot = |code, gain| MixedRow { hot: true, codes: vec![code; 4], gain, offset: 0 };
    let one = 1 << 16;
    // The widest multiplier and offset: −1920 and 1920.
    let (low, high) = (row(0, 256 * one, -1920 * one), row(15, 256 * one, -1920 * one));
    // 34 · 33 / 2 · 1920² < 2³¹.
    for rows in [vec![low.clone(); 34], vec![high.clone(); 34], [vec![low; 17], vec![high; 17]].concat()] {
        assert_mixed(&mut rng, &rows, 4, 0, 32767);
        assert_mixed(&mut rng, &rows, 4, 17, 32767);
    }
    // Offsets alone, at both ends of their twelve bits, and a hot row's lowest code.
    for (code, offset) in [(0, -2048), (0, 2047), (1, 2046), (15, -2048), (15, 2032)] {
        for other in [hot(-128, 15 * one), hot(127, -15 * one), row(0, one, -2048 * one)] {
            let rows = [row(code, one, offset * one), other];
            assert_mixed(&mut rng, &rows, 4, 9, 32767);
        }
    }
    // 2 · (embedding · value + 2¹⁵) ≤ 2³¹ − 1, with 1920 and the largest value that goes with it.
    for value in [559_223_i32, -559_223] {
        let (gain, offset) = (256 * value, -1920 * value);
        assert!(2 * (1920 * value.abs() + (1 << 15)) > i32::MAX - 2 * 1920);
        for (a, b) in [(0, 0), (0, 15), (15, 15), (7, 8)] {
            assert_mixed(&mut rng, &[row(a, gain, offset), row(b, gain, offset)], 4, 14, 32767);
        }
        assert_mixed(&mut rng, &[hot(-128, 15 * value), row(15, gain, offset)], 4, 14, 32767);
    }
    // An offset and a product round together, ties up: 3 · ¼ − ¼ = ½ → 1, and −½ → 0.
    let quarter = 1 << 14;
    let two = row(2, one, 0);
    for (rows, want) in [(row(3, quarter, -quarter), 2), (row(1, quarter, -3 * quarter), 0)] {
        let terms = [rows, two.clone()]
            .map(|row| [NIBBLES | row.codes[0] as u32, row.gain as u32, row.offset as u32]);
        let mut z = [9];
        nibbles::bi_interaction(&[], &[0, 1, 2, 3], &terms, true, 0, 99, &mut z);
        assert_eq!(z, [want]);
    }
}

#[test]
fn dot_is_the_sum_of_the_products() {
    let mut rng = Rng::from_env();
    for len in [0, 1, 3, 4, 5, 8, 15, 16, 17, 64, 100] {
        for _ in 0..50 {
            let (w, x) = (rng.i16s(len, 600), rng.i16s(len, 32767));
            let sum: i64 = w.iter().zip(&x).map(|(&w, &x)| i64::from(w) * i64::from(x)).sum();
            assert_eq!(i64::from(dot(&w, &x)), sum);
            let (w, x) = (in_words(&w), in_words(&x));
            assert_eq!(
                halves::dot(&halfwords(&w)[..len], &halfwords(&x)[..len]).map(i64::from),
                (len % 4 == 0).then_some(sum)
            );
        }
    }
    // Both ends of a head's weight.
    assert_eq!(dot(&[i16::MIN, i16::MAX], &[-32767, 32767]), 32768 * 32767 + 32767 * 32767 - 1 + 1);
}

#[test]
fn a_dsp_word_is_four_multipliers_each_with_the_byte_below_it() {
    let word = |c: [i8; 4]| u32::from_le_bytes([c[2], c[0], c[3], c[1]].map(|c| c.to_le_bytes()[0]));
    // By hand: w0 = 256 c0 + u(c2), w1 = 256 c1 + u(c3), w2 = 256 c2, w3 = 256 c3 + u(c0).
    assert_eq!(word([1, 2, 3, 4]), 0x0204_0103);
    assert_eq!(dsp_weights(word([1, 2, 3, 4])), [259, 516, 768, 1025]);
    assert_eq!(dsp_weights(word([-1, -2, -3, -4])), [-256 + 253, -512 + 252, -768, -1024 + 255]);
    assert_eq!(dsp_weights(word([-128; 4])), [-32640, -32640, -32768, -32640]);
    assert_eq!(dsp_weights(word([127, -128, 0, 0])), [32512, -32768, 0, 127]);
    let mut rng = Rng::from_env();
    for _ in 0..10_000 {
        let codes: Vec<i8> = rng.i8s(4, 128);
        let codes = [codes[0], codes[1], codes[2], codes[3]];
        let [c0, c1, c2, c3] = codes.map(i32::from);
        let [u0, _, u2, u3] = codes.map(|c| i32::from(c.cast_unsigned()));
        let want = [256 * c0 + u2, 256 * c1 + u3, 256 * c2, 256 * c3 + u0];
        assert_eq!(dsp_weights(word(codes)), want, "{codes:?}");
    }
}

/// Activations where they can be read by words, as in scratch, with one more where they are odd.
fn in_words(halfwords: &[i16]) -> Vec<u32> {
    let word = |pair: &[i16]| {
        u32::from(pair[0].cast_unsigned())
            | u32::from(pair.get(1).map_or(0, |half| half.cast_unsigned())) << 16
    };
    halfwords.chunks(2).map(word).collect()
}

fn halfwords(words: &[u32]) -> &[i16] {
    bytemuck::cast_slice(words)
}

/// How a test packs its codes.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Layout {
    Scalar,
    Dsp { fold: u16 },
}

impl Layout {
    fn has_one_fold(self, inputs: usize) -> bool {
        matches!(self, Self::Dsp { fold } if inputs / 4 <= fold.into())
    }
}

/// A layer with its memory.
struct Layer {
    activation: Activation<i16>,
    shift: u8,
    fraction: u8,
    max: u16,
    /// `[out]`
    bias: Vec<i32>,
    /// `[out, in]`
    codes: Vec<i8>,
    layout: Layout,
    slopes: Vec<i16>,
    multipliers: Vec<i32>,
}

/// `list` up to a multiple of eight, with a number that would show.
fn padded<T: Copy>(list: &[T], filler: T) -> Vec<T> {
    let mut list = list.to_vec();
    list.resize(list.len().next_multiple_of(8), filler);
    list
}

impl Layer {
    /// The code of an output, which may be padding, and an input.
    fn code(&self, inputs: usize, o: usize, i: usize) -> i8 {
        self.codes.get(o * inputs + i).copied().unwrap_or(-5)
    }

    fn run(&self, x: &[i16], len: usize) -> Vec<i16> {
        let outputs = self.bias.len().next_multiple_of(8);
        let (mut bytes, mut words) = (vec![], vec![]);
        match self.layout {
            // [out / 8, in, 8]
            Layout::Scalar => {
                for block in (0..outputs).step_by(8) {
                    for i in 0..x.len() {
                        let code = |o| self.code(x.len(), block + o, i).cast_unsigned().wrapping_add(128);
                        bytes.extend((0..8).map(code));
                    }
                }
            }
            // [out / 4, in / 4, 4] of c2 c0 c3 c1
            Layout::Dsp { .. } => {
                for block in (0..outputs).step_by(4) {
                    for i in (0..x.len()).step_by(4) {
                        for o in block..block + 4 {
                            let byte = |c| self.code(x.len(), o, i + c).cast_unsigned();
                            words.push(u32::from_le_bytes([byte(2), byte(0), byte(3), byte(1)]));
                        }
                    }
                }
            }
        }
        let (bias, slopes) = (padded(&self.bias, 999), padded(&self.slopes, 99));
        let multipliers = padded(&self.multipliers, 9999);
        let layer = FixedLayer {
            activation: self.activation,
            shift: self.shift,
            fraction: self.fraction,
            max: self.max,
            out: self.bias.len() as u16,
            bias: &bias,
            weights: match self.layout {
                Layout::Scalar => Weights::Scalar(&bytes),
                Layout::Dsp { fold } => Weights::Dsp { words: &words, fold },
            },
            slopes: &slopes,
            multipliers: &multipliers,
        };
        let mut y = vec![0x5555; len];
        dense(&layer, x, &mut y);
        let mut twin = y.clone();
        let ran = halves::dense_relu(&layer, halfwords(&in_words(x)), &mut twin).is_some();
        assert_eq!(ran, self.activation == Activation::Relu && self.layout.has_one_fold(x.len()));
        // What pads the outputs is not its business.
        assert_eq!(twin[..self.bias.len()], y[..self.bias.len()]);
        y
    }

    /// The sum by the definition of each layout.
    fn acc(&self, x: &[i16], o: usize) -> i128 {
        let codes = &self.codes[o * x.len()..(o + 1) * x.len()];
        let mut sum = i128::from(self.bias[o]);
        match self.layout {
            Layout::Scalar => {
                sum += codes.iter().zip(x).map(|(&w, &x)| i128::from(w) * i128::from(x)).sum::<i128>();
            }
            Layout::Dsp { fold } => {
                let mut partial = 0;
                for (i, &x) in x.iter().enumerate() {
                    // Every fourth code but the third has another code of its four as its fraction.
                    let below = |at: usize| i128::from(codes[i / 4 * 4 + at].cast_unsigned());
                    let fraction = [below(2), below(3), 0, below(0)][i % 4];
                    partial += (i128::from(codes[i]) * 256 + fraction) * i128::from(x);
                    if (i + 1) % (4 * usize::from(fold)) == 0 || i + 1 == codes.len() {
                        sum += partial.div_euclid(256);
                        partial = 0;
                    }
                }
            }
        }
        sum
    }

    /// The output by the definition: exact for homogeneous activations.
    fn homogeneous(&self, x: &[i16], o: usize) -> i128 {
        let v = self.acc(x, o).div_euclid(1 << self.shift);
        let v = clamped(v, self.max);
        let slope = match self.activation {
            Activation::Identity => return v,
            Activation::Relu => return v.max(0),
            Activation::LeakyRelu { slope } => slope,
            _ => self.slopes[o],
        };
        if v >= 0 { v } else { clamped(round_shift(v * i128::from(slope), 13), self.max) }
    }

    /// The output of a curve before its rounding, in f64 of the exact t.
    fn curve(&self, x: &[i16], o: usize) -> f64 {
        let t = round_shift(self.acc(x, o) * i128::from(self.multipliers[o]), self.shift.into());
        let t = t.clamp(i32::MIN.into(), i32::MAX.into()) as f64 / 65536.0;
        let y = match self.activation {
            Activation::Sigmoid => 1.0 / (1.0 + libm::exp(-t)),
            Activation::Tanh => libm::tanh(t),
            Activation::Elu { alpha } if t < 0.0 => f64::from(alpha) / 8192.0 * libm::expm1(t),
            _ => t,
        };
        (y * libm::exp2(self.fraction.into())).clamp(-f64::from(self.max), self.max.into())
    }
}

/// Both layouts; folds of one group, of some, and of more than there are.
const LAYOUTS: [Layout; 5] =
    [Layout::Scalar, Layout::Dsp { fold: 1 }, Layout::Dsp { fold: 2 }, Layout::Dsp { fold: 3 }, LONG_FOLD];
const LONG_FOLD: Layout = Layout::Dsp { fold: u16::MAX };

fn draw_layer(
    rng: &mut Rng,
    layout: Layout,
    activation: Activation<i16>,
    inputs: usize,
    out: usize,
) -> Layer {
    let curve = !activation.is_homogeneous();
    Layer {
        activation,
        shift: if curve { 24 } else { rng.int(0, 14) as u8 },
        fraction: if curve { rng.int(0, 16) as u8 } else { 0 },
        max: rng.int(1, 32767) as u16,
        bias: (0..out).map(|_| rng.int(-50_000, 50_000) as i32).collect(),
        codes: rng.i8s(inputs * out, 128),
        layout,
        slopes: if activation == Activation::PRelu { rng.i16s(out, 32767) } else { vec![] },
        multipliers: if curve {
            (0..out).map(|_| rng.int(-(1 << 25), 1 << 25) as i32).collect()
        } else {
            vec![]
        },
    }
}

#[test]
fn homogeneous_layers_are_exactly_their_definition() {
    let mut rng = Rng::from_env();
    let leaky = |slope| Activation::LeakyRelu { slope };
    let slopes = [0, 1, 82, 8191, 8192, -8192, i16::MIN, i16::MAX].map(leaky);
    let others = [Activation::Identity, Activation::Relu, Activation::PRelu];
    for activation in others.into_iter().chain(slopes) {
        for (inputs, out) in [(8, 1), (8, 4), (16, 5), (16, 8), (24, 17), (72, 9)] {
            for layout in LAYOUTS.into_iter().cycle().take(20) {
                let layer = draw_layer(&mut rng, layout, activation, inputs, out);
                // 72 · 2¹⁵ · 800 < 2³¹.
                let x = rng.i16s(inputs, 800);
                let y = layer.run(&x, out.next_multiple_of(8));
                for o in 0..out {
                    let want = layer.homogeneous(&x, o);
                    assert_eq!(i128::from(y[o]), want, "{activation:?} {layout:?} output {o}");
                }
                assert!(y[out..].iter().all(|&y| y == 0), "{activation:?}: padding is not zeroed");
            }
        }
    }
}

#[test]
fn a_layer_without_inputs_is_not_for_halves() {
    let layer = FixedLayer {
        activation: Activation::Relu,
        shift: 0,
        fraction: 0,
        max: 9,
        out: 8,
        bias: &[1; 8],
        weights: Weights::Dsp { words: &[], fold: 1 },
        slopes: &[],
        multipliers: &[],
    };
    assert_eq!(halves::dense_relu(&layer, &halfwords(&[0])[..0], &mut [0; 8]), None);
}

#[test]
fn curves_are_within_one_code_of_their_definition() {
    let mut rng = Rng::from_env();
    let elu = |alpha| Activation::Elu { alpha };
    let elus = [0, 8192, -8192, i16::MAX, i16::MIN].map(elu);
    for activation in [Activation::Sigmoid, Activation::Tanh].into_iter().chain(elus) {
        for (inputs, out) in [(8, 1), (16, 5), (72, 9)] {
            for layout in LAYOUTS.into_iter().cycle().take(60) {
                let layer = draw_layer(&mut rng, layout, activation, inputs, out);
                let x = rng.i16s(inputs, 800);
                let y = layer.run(&x, out.next_multiple_of(8));
                for o in 0..out {
                    let (got, want) = (f64::from(y[o]), layer.curve(&x, o));
                    assert!((got - want).abs() <= 1.0, "{activation:?} output {o}: {got}, not {want}");
                }
                assert!(y[out..].iter().all(|&y| y == 0), "{activation:?}: padding is not zeroed");
            }
        }
    }
}

/// Sums as large as `parse` admits, of every sign: no step of either kernel leaves `i32` where it must not.
#[test]
fn layers_hold_at_the_largest_sums_that_parse_admits() {
    for (code, sign) in [(-128_i8, 1_i16), (-128, -1), (127, 1), (127, -1)] {
        for layout in LAYOUTS {
            let w = match (layout, code) {
                (Layout::Scalar, _) => i64::from(code).abs() * 24,
                // Of a group: 3 · 32640 + 32768, and 3 · 32639 + 32512.
                (Layout::Dsp { fold }, -128) => 130_688 * i64::from(fold.min(6)),
                (Layout::Dsp { fold }, _) => 130_429 * i64::from(fold.min(6)),
            };
            let max = (i64::from(i32::MAX) / w).min(32767) as i16;
            let sum = i64::from(code).abs() * 24 * i64::from(max);
            for bias in [0, i64::from(i32::MAX) - sum - sum / 100 - 9] {
                for bias in [bias as i32, -bias as i32] {
                    let layer = Layer {
                        activation: Activation::Identity,
                        shift: 17,
                        fraction: 0,
                        max: 32767,
                        bias: vec![bias; 8],
                        codes: vec![code; 24 * 8],
                        layout,
                        slopes: vec![],
                        multipliers: vec![],
                    };
                    let x = vec![sign * max; 24];
                    let y = layer.run(&x, 8);
                    for o in 0..8 {
                        assert_eq!(i128::from(y[o]), layer.homogeneous(&x, o), "{layout:?} {code} {sign}");
                    }
                }
            }
        }
    }
}

/// One input of `acc`, one output.
fn curve_of(activation: Activation<i16>, fraction: u8, max: u16, acc: i32) -> i16 {
    let layer = Layer {
        activation,
        shift: 0,
        fraction,
        max,
        bias: vec![acc],
        codes: vec![0; 8],
        layout: Layout::Scalar,
        slopes: vec![],
        multipliers: vec![1],
    };
    layer.run(&[0; 8], 8)[0]
}

#[test]
fn a_curve_that_gives_back_the_largest_number_saturates() {
    for fraction in 0..=16 {
        assert_eq!(curve_of(Activation::Elu { alpha: 8192 }, fraction, 32767, i32::MAX), 32767, "{fraction}");
        let least = curve_of(Activation::Elu { alpha: i16::MAX }, fraction, 32767, i32::MIN);
        // −alpha · 2^fraction, rounded.
        let want = (-32767.0 / 8192.0 * libm::exp2(fraction.into())).clamp(-32767.0, 32767.0);
        assert!((f64::from(least) - want).abs() <= 1.0, "{fraction}: {least}, not {want}");
    }
}

#[test]
fn curves_round_their_last_bit_to_nearest() {
    let elu = Activation::Elu { alpha: 8192 };
    // t in Q16 → Q8: 0x17f → 1.496 → 1, 0x180 → 1.5 → 2.
    assert_eq!([0x17f, 0x180, 0x27f, 0x280].map(|t| curve_of(elu, 8, 99, t)), [1, 2, 2, 3]);
    assert_eq!([1, 2, 3].map(|t| curve_of(elu, 16, 99, t)), [1, 2, 3]);
    assert_eq!([1, 2, 3].map(|t| curve_of(elu, 15, 99, t)), [1, 1, 2]);
    assert_eq!([0x7fff, 0x8000].map(|t| curve_of(elu, 0, 99, t)), [0, 1]);
}

#[test]
fn the_multiplier_enters_before_the_curve() {
    // t = acc · m / 2^shift = 3 · 2²⁰ · 2⁻⁶ = 3 · 2¹⁴ → 0.75.
    let layer = Layer {
        activation: Activation::Tanh,
        shift: 6,
        fraction: 14,
        max: 32767,
        bias: vec![3],
        codes: vec![0; 8],
        layout: Layout::Scalar,
        slopes: vec![],
        multipliers: vec![1 << 20],
    };
    // tanh 0.75 · 2¹⁴ = 10406.2
    assert_eq!(layer.run(&[0; 8], 8), [10406, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn leaky_slopes_apply_to_negative_codes_only() {
    let layer = |activation, slopes: &[i16], bias: &[i32]| {
        let layer = Layer {
            activation,
            shift: 0,
            fraction: 0,
            max: 100,
            bias: bias.to_vec(),
            codes: vec![0; 8 * bias.len()],
            layout: Layout::Scalar,
            slopes: slopes.to_vec(),
            multipliers: vec![],
        };
        layer.run(&[0; 8], 8)[..bias.len()].to_vec()
    };
    // Q13: 2048 is 1/4. −10/4 = −2.5 → −2 (ties up); −11/4 = −2.75 → −3.
    let quarter = Activation::LeakyRelu { slope: 2048 };
    assert_eq!(layer(quarter, &[], &[40, 0, -10, -11]), [40, 0, -2, -3]);
    // The code is clamped before the slope, the product after it.
    assert_eq!(layer(quarter, &[], &[-1000, 1000]), [-25, 100]);
    assert_eq!(layer(Activation::LeakyRelu { slope: 16384 }, &[], &[-90, -30]), [-100, -60]);
    assert_eq!(layer(Activation::PRelu, &[8192, 0, -8192], &[-10, -10, -10]), [-10, 0, 10]);
}

#[test]
fn clamp_is_symmetric() {
    assert_eq!([i32::MIN, -6, -5, 0, 5, 6, i32::MAX].map(|v| clamp(v, 5)), [-5, -5, -5, 0, 5, 5, 5]);
    assert_eq!(clamp(i32::MIN, 32767), -32767);
}

#[test]
fn rescale_is_its_definition() {
    let mut rng = Rng::from_env();
    for _ in 0..20_000 {
        let (acc, multiplier) = (rng.next() as i32, (rng.next() as i32) >> rng.int(0, 31));
        let shift = rng.int(0, 62) as u8;
        let want = round_shift(i128::from(acc) * i128::from(multiplier), shift.into());
        let want = want.clamp(i32::MIN.into(), i32::MAX.into());
        assert_eq!(i128::from(Rescale { multiplier, shift }.apply(acc)), want, "{acc} {multiplier} {shift}");
    }
}

/// What is wrong with `got`, if it is not within `atol + rtol · |want|` of `want`. NaN is never right.
fn difference(got: f32, want: f64, atol: f64, rtol: f64) -> Option<String> {
    let error = (f64::from(got) - want).abs();
    let bound = atol + rtol * want.abs();
    if error <= bound { None } else { Some(format!("{got}, not {want}: {error:e} above {bound:e}")) }
}

#[test]
fn the_comparison_of_floats_can_fail() {
    assert!(difference(1.0, 1.0, 0.0, 1e-6).is_none());
    assert!(difference(-1.0, 1.0, 1e-6, 1e-6).is_some(), "a wrong sign");
    assert!(difference(1e-3, 0.0, 1e-6, 1e-6).is_some(), "an expected zero");
    assert!(difference(f32::NAN, 0.0, 1e-6, 1e-6).is_some(), "NaN");
    assert!(difference(-1.1, -1.0, 1e-6, 1e-6).is_some(), "a negative expectation");
}

#[test]
fn the_float_bi_interaction_is_the_sum_over_pairs() {
    let mut rng = Rng::from_env();
    for lanes in [4, 12, 16, 68] {
        for count in [0_usize, 1, 2, 10, 40] {
            let rows: Vec<_> =
                (0..count).map(|_| (rng.f32s(lanes, 1.0), rng.f32s(1, 2.0)[0])).collect::<Vec<_>>();
            let mut z = vec![f32::NAN; lanes];
            let terms =
                rows.iter().map(|(embedding, gain)| float::Term { embedding: &embedding[..], gain: *gain });
            float::bi_interaction(terms, &mut z);
            let e = |i: usize, k: usize| f64::from(rows[i].0[k]) * f64::from(rows[i].1);
            for k in 0..lanes {
                let (mut want, mut magnitude) = (0.0, 0.0);
                for i in 0..count {
                    for j in i + 1..count {
                        want += e(i, k) * e(j, k);
                        magnitude += (e(i, k) * e(j, k)).abs();
                    }
                }
                // Each product passes at most 2N + 2 roundings of 2⁻²⁴, relative to the sum of magnitudes.
                let atol = magnitude * (2 * count + 2) as f64 / f64::from(1 << 24);
                let error = difference(z[k], want, atol, 0.0);
                assert!(error.is_none(), "{count} rows, lane {k}: {error:?}");
            }
        }
    }
}

#[test]
fn float_layers_are_their_definition() {
    let mut rng = Rng::from_env();
    let activations = [
        Activation::Identity,
        Activation::Relu,
        Activation::LeakyRelu { slope: 0.01 },
        Activation::PRelu,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Elu { alpha: 0.7 },
    ];
    for activation in activations {
        for (inputs, out) in [(8, 1), (16, 5), (16, 8), (72, 9)] {
            let (bias, slopes) = (rng.f32s(out, 1.0), rng.f32s(out, 1.0));
            let (floats, codes, scales) =
                (rng.f32s(inputs * out, 1.0), rng.i8s(inputs * out, 128), rng.f32s(out, 0.01));
            let x = rng.f32s(inputs, 1.0);
            for encoded in [false, true] {
                let weights = if encoded {
                    F32Weights::I8 { codes: &codes, scales: &scales }
                } else {
                    F32Weights::F32(&floats)
                };
                let layer = F32Layer { activation, bias: &bias, weights, slopes: &slopes };
                let mut y = vec![f32::NAN; out.next_multiple_of(8)];
                float::dense::<Libm>(&layer, &x, &mut y);
                for o in 0..out {
                    let mut t = f64::from(bias[o]);
                    for (i, &x) in x.iter().enumerate() {
                        let at = o * inputs + i;
                        t += f64::from(x)
                            * if encoded {
                                f64::from(codes[at]) * f64::from(scales[o])
                            } else {
                                floats[at].into()
                            };
                    }
                    let want = match activation {
                        Activation::Identity => t,
                        Activation::Relu => t.max(0.0),
                        Activation::LeakyRelu { .. } => t.max(f64::from(0.01_f32) * t),
                        Activation::PRelu => {
                            if t < 0.0 {
                                f64::from(slopes[o]) * t
                            } else {
                                t
                            }
                        }
                        Activation::Sigmoid => 1.0 / (1.0 + libm::exp(-t)),
                        Activation::Tanh => libm::tanh(t),
                        Activation::Elu { .. } => {
                            if t < 0.0 {
                                f64::from(0.7_f32) * libm::expm1(t)
                            } else {
                                t
                            }
                        }
                    };
                    // 72 products below 1.28, each with at most 13 roundings of 2⁻²⁴: below 7.2e-5; no curve is steeper than 1.
                    let error = difference(y[o], want, 2e-6 + 1e-6 * inputs as f64, 0.0);
                    assert!(error.is_none(), "{activation:?} {encoded} output {o}: {error:?}");
                }
                assert!(y[out..].iter().all(|y| y.to_bits() == 0), "{activation:?}: padding is not zeroed");
            }
        }
    }
}

#[test]
fn the_float_sigmoid_keeps_its_range_at_the_ends() {
    use float::Math;
    let ends = [f32::MIN, -200.0, 0.0, 200.0, f32::MAX].map(Libm::sigmoid);
    assert_eq!(ends.map(f32::to_bits), [0.0_f32, 0.0, 0.5, 1.0, 1.0].map(f32::to_bits));
}

#[cfg(feature = "micromath")]
#[test]
fn micromath_keeps_its_stated_error() {
    use float::{Math, Micromath};
    let mut worst = 0.0_f64;
    for i in -80_000..80_000 {
        let x = i as f32 / 1000.0;
        let want = libm::exp(x.into());
        worst = worst.max((f64::from(Micromath::exp(x)) - want).abs() / want);
        assert!((f64::from(Micromath::tanh(x)) - libm::tanh(x.into())).abs() <= 4e-3, "tanh {x}");
        let want = 1.0 / (1.0 + libm::exp(-f64::from(x)));
        assert!((f64::from(Micromath::sigmoid(x)) - want).abs() <= 2e-3, "sigmoid {x}");
    }
    std::eprintln!("micromath exp: worst relative error {worst}");
    assert!(worst <= 2.5e-3, "{worst}");
    assert!(worst > 1.25e-3, "the bound can be lowered: {worst}");
    for x in [f32::MIN, f32::MAX, -1e9, 1e9, -88.5, 200.0] {
        assert!((0.0..=1.0).contains(&Micromath::sigmoid(x)), "sigmoid {x}");
    }
}
