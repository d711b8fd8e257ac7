//! Blobs of released format versions stay readable, and give the bits that they always gave.
//!
//! A golden is a blob and a list of scores: a line a sample, `entries | dense inputs | score`, where an entry is an id, or
//! `id:value`; values, dense inputs and scores are the integers of their bits. `NFM_WRITE_GOLDEN=1 cargo test --test golden`
//! writes them anew; a change is a change of the format or of the arithmetic.
#![expect(clippy::cast_possible_wrap, reason = "the models of the tests are small")]

#[expect(clippy::allow_attributes, reason = "each test binary uses another part of the module")]
#[allow(dead_code, reason = "each test binary uses another part of the module")]
mod support;

use std::{fmt::Write, fs, path::PathBuf};

use embedded_nfm::{F32Model, Model, Q16, Sample};
use support::{AlignedBytes, FixedSpec, Rng, tiny, tiny_dsp, tiny_f32, tiny_i4, wide, wide_dsp, wide_i4};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The committed file; written first when the environment asks for it.
fn golden(name: &str, built: &[u8]) -> Vec<u8> {
    if std::env::var_os("NFM_WRITE_GOLDEN").is_some_and(|value| value == "1") {
        fs::write(path(name), built).expect("the golden can be written");
    }
    fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A sample as bits.
#[derive(Clone, PartialEq, Debug, Default)]
struct Bits {
    ids: Vec<u32>,
    values: Option<Vec<i32>>,
    dense: Vec<i32>,
}

impl Bits {
    fn line(&self, score: i32) -> String {
        let entry = |(i, id): (usize, &u32)| match &self.values {
            None => id.to_string(),
            Some(values) => format!("{id}:{}", values[i]),
        };
        let entries: Vec<_> = self.ids.iter().enumerate().map(entry).collect();
        let dense: Vec<_> = self.dense.iter().map(i32::to_string).collect();
        format!("{} | {} | {score}", entries.join(" "), dense.join(" "))
    }

    fn of_line(line: &str) -> (Self, i32) {
        let mut parts = line.split('|').map(str::trim);
        let mut next = || parts.next().expect("three parts");
        let (entries, dense, score) = (next(), next(), next());
        let (mut ids, mut values) = (vec![], vec![]);
        for entry in entries.split_whitespace() {
            let (id, value) = entry.split_once(':').map_or((entry, None), |(id, value)| (id, Some(value)));
            ids.push(id.parse().expect("an id"));
            values.extend(value.map(|value| value.parse::<i32>().expect("a value")));
        }
        let values = if values.is_empty() { None } else { Some(values) };
        let dense = dense.split_whitespace().map(|value| value.parse().expect("a dense input")).collect();
        (Self { ids, values, dense }, score.parse().expect("a score"))
    }
}

fn q16s(bits: &[i32]) -> Vec<Q16> {
    bits.iter().copied().map(Q16::from_bits).collect()
}

fn f32s(bits: &[i32]) -> Vec<f32> {
    bits.iter().map(|&bits| f32::from_bits(bits.cast_unsigned())).collect()
}

fn score_fixed(blob: &[u8], bits: &Bits) -> i32 {
    let model = Model::parse(blob).expect("the golden is a model");
    let (values, dense) = (bits.values.as_deref().map(q16s), q16s(&bits.dense));
    let mut sample = Sample::new(&bits.ids).with_dense(&dense);
    if let Some(values) = &values {
        sample = sample.with_values(values);
    }
    model.score(&sample, &mut vec![0x1234; model.scratch_len()]).expect("the sample is legal").to_bits()
}

fn score_f32(blob: &[u8], bits: &Bits) -> i32 {
    let model = F32Model::parse(blob).expect("the golden is a model");
    let (values, dense) = (bits.values.as_deref().map(f32s), f32s(&bits.dense));
    let mut sample = Sample::new(&bits.ids).with_dense(&dense);
    if let Some(values) = &values {
        sample = sample.with_values(values);
    }
    let score = model.score(&sample, &mut vec![f32::NAN; model.scratch_len()]).expect("the sample is legal");
    score.to_bits().cast_signed()
}

fn check(name: &str, built: &[u8], samples: &[Bits], score: fn(&[u8], &Bits) -> i32) {
    let mut lines = String::new();
    for sample in samples {
        writeln!(lines, "{}", sample.line(score(&AlignedBytes::new(built), sample)))
            .expect("a string takes all");
    }
    let blob = golden(&format!("{name}.nfm"), built);
    let text = golden(&format!("{name}.scores.txt"), lines.as_bytes());
    assert_eq!(blob, built, "{name}: the same model is emitted as other bytes");
    let blob = AlignedBytes::new(&blob);
    let text = String::from_utf8(text).expect("the scores are text");
    assert_eq!(text.lines().count(), samples.len(), "{name}: scores are missing");
    for (line, sample) in text.lines().zip(samples) {
        let (read, want) = Bits::of_line(line);
        assert_eq!(read, *sample, "{name}: the samples are others");
        assert_eq!(score(&blob, &read), want, "{name}: {line}");
    }
}

fn of_ids(ids: &[u32]) -> Bits {
    Bits { ids: ids.to_vec(), ..Bits::default() }
}

fn tiny_samples() -> Vec<Bits> {
    let mut samples = vec![of_ids(&[])];
    samples.extend((0..4).map(|id| of_ids(&[id])));
    samples.extend((0..16).map(|pair| of_ids(&[pair / 4, pair % 4])));
    samples
}

#[test]
fn tiny_gives_its_bits() {
    let mut samples = tiny_samples();
    samples.push(Bits { ids: vec![0, 3], values: Some(vec![0x8000, -0x4001]), dense: vec![] });
    check("tiny", &tiny().emit(), &samples, score_fixed);
}

#[test]
fn tiny_scores_what_a_hand_computes() {
    // Ids 0 and 3: e0 = 1 · [10, -20, 30, 40], e3 = 3 · [-90, 100, 110, -120].
    // z = (e0 · e3 + 16) >> 5 = ([-2700, -6000, 9900, -14400] + 16) >> 5 = [-84, -187, 309, -450].
    // acc0 = 64 + 1·-84 + 2·-187 + 3·309 + 4·-450 = -1267 → >> 7 = -10 → relu 0
    // acc1 = -936 + 672 - 1309 - 1854 - 2250 = -5677 → 0
    // acc2 = 2064 + 127·-84 + 127·450 = 48546 → >> 7 = 379
    // acc3 = 64 + 84 + 187 - 309 + 450 = 476 → >> 7 = 3
    // p · h = 64·379 + 32·3 = 24352; · 2¹⁴ · 2⁻¹⁶ = 6088
    // first order: (100 - 300) · 40 = -8000; bias -16384.
    assert_eq!(score_fixed(&tiny().emit(), &of_ids(&[0, 3])), 6088 - 8000 - 16384);
}

#[test]
fn tiny_with_dsp_weights_scores_what_a_hand_computes() {
    // The same z. Multipliers in units of 1/256: each code with the unsigned byte of code 2, 3, none, 0 below it.
    // w0 = [256 + 3, 512 + 4, 768, 1024 + 1]:  259·-84 + 516·-187 + 768·309 + 1025·-450 = -342186 → >> 8 = -1337
    // w1 = [-2048 + 250, 1792 + 5, -1536, 1280 + 248]:
    //      -1798·-84 + 1797·-187 - 1536·309 + 1528·-450 = -1347231 → >> 8 = -5263
    // w2 = [32512, 129, 0, -32512 + 127]: 32512·-84 + 129·-187 - 32385·-450 = 11818119 → >> 8 = 46164
    // w3 = [-256 + 255, -256 + 255, -256, -256 + 255]: 84 + 187 - 256·309 + 450 = -78383 → >> 8 = -307
    // acc = [64 - 1337, -936 - 5263, 2064 + 46164, 64 - 307] → >> 7, relu = [0, 0, 376, 0]; p · h = 64·376 = 24064 → 6016
    for fold in [1, 2, 9] {
        // All inputs of the second group are zero.
        let got = score_fixed(&tiny_dsp(fold).emit(), &of_ids(&[0, 3]));
        assert_eq!(got, 6016 - 8000 - 16384, "fold {fold}");
    }
}

#[test]
fn tiny_with_rows_of_four_bits_scores_what_a_hand_computes() {
    // e0 = 4 · [7, 0, 12, 15] − 20 = [8, -20, 28, 40], e3 = 50 · [2, 14, 15, 0] − 365 = [-265, 335, 385, -365].
    // z = (e0 · e3 + 16) >> 5 = ([-2120, -6700, 10780, -14600] + 16) >> 5 = [-66, -209, 337, -456].
    // acc0 = 64 - 66 - 418 + 1011 - 1824 = -1233 → relu 0
    // acc1 = -936 + 528 - 1463 - 2022 - 2280 = -6173 → 0
    // acc2 = 2064 - 127·66 + 127·456 = 51594 → >> 7 = 403
    // acc3 = 64 + 66 + 209 - 337 + 456 = 458 → >> 7 = 3
    // p · h = 64·403 + 32·3 = 25888; · 2¹⁴ · 2⁻¹⁶ = 6472
    let blob = tiny_i4().emit();
    assert_eq!(score_fixed(&blob, &of_ids(&[0, 3])), 6472 - 8000 - 16384);
    // Row 1 is hot: e1 = 2 · [-5, 15, 25, -35]; z = ([-80, -600, 1400, -2800] + 16) >> 5 = [-2, -19, 44, -87].
    // acc0 = 64 - 2 - 38 + 132 - 348 < 0; acc1 < 0; acc2 = 2064 - 254 + 11049 = 12859 → 100; acc3 = 64 + 64 = 128 → 1
    // p · h = 6400 + 32 = 6432 → 1608; first order (100 - 50) · 40
    assert_eq!(score_fixed(&blob, &of_ids(&[0, 1])), 1608 + 2000 - 16384);
    // Values of ½ and −¼: e0 = [4, -10, 14, 20], e3 = [66.25, -83.75, -96.25, 91.25] → [66, -84, -96, 91].
    // z = ([264, 840, -1344, 1820] + 16) >> 5 = [8, 26, -42, 57]
    // acc0 = 64 + 8 + 52 - 126 + 228 = 226 → 1; acc1 = -936 - 64 + 182 + 252 + 285 < 0
    // acc2 = 2064 + 1016 - 7239 < 0; acc3 = 64 - 8 - 26 + 42 - 57 = 15 → 0
    // p · h = 256 → 64; first order (50 + 75) · 40
    let values = Some(vec![0x8000, -0x4000]);
    let got = score_fixed(&blob, &Bits { ids: vec![0, 3], values, dense: vec![] });
    assert_eq!(got, 64 + 5000 - 16384);
}

#[test]
fn tiny_f32_gives_its_bits() {
    let mut samples = tiny_samples();
    let bits = |value: f32| value.to_bits().cast_signed();
    samples.push(Bits { ids: vec![0, 3], values: Some(vec![bits(0.5), bits(-0.25)]), dense: vec![] });
    check("tiny-f32", &tiny_f32().emit(), &samples, score_f32);
}

#[test]
fn wide_gives_its_bits() {
    check_wide(&wide());
}

#[test]
fn wide_with_dsp_weights_gives_its_bits() {
    check_wide(&wide_dsp());
}

#[test]
fn wide_with_rows_of_four_bits_gives_its_bits() {
    check_wide(&wide_i4());
}

fn check_wide(spec: &FixedSpec) {
    let (model, rows) = (spec.model().expect("the model is legal"), spec.common.rows() as i64);
    let mut rng = Rng::new(31);
    let mut samples = vec![];
    for active in 0..40_usize {
        let ids: Vec<u32> = (0..active % 13).map(|_| rng.int(0, rows - 1)).collect();
        let limit = i64::from(spec.max_value.to_bits());
        let values = (active % 3 != 0 && !ids.is_empty()).then(|| rng.ints(ids.len(), limit));
        let dense = model.parts().dense_inputs.iter();
        let dense = dense.map(|input| rng.int(-i64::from(input.max.to_bits()), input.max.to_bits().into()));
        samples.push(Bits { ids, values, dense: dense.collect() });
    }
    let blob = spec.emit();
    let scores: std::collections::BTreeSet<_> =
        samples.iter().map(|sample| score_fixed(&blob, sample)).collect();
    assert!(scores.len() > 35, "the samples must tell the scores apart: {}", scores.len());
    check(spec.common.name, &blob, &samples, score_fixed);
}
