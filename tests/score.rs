//! Properties of `score`: algebra, an independent evaluation in f64, and every refusal.
#![expect(clippy::cast_possible_wrap, reason = "the models of the tests are small")]
#![expect(clippy::cast_possible_truncation, reason = "the models of the tests are small")]

#[expect(clippy::allow_attributes, reason = "each test binary uses another part of the module")]
#[allow(dead_code, reason = "each test binary uses another part of the module")]
mod support;

use embedded_nfm::{
    Activation, F32Model, Libm, Link, Model, Pooling, Prediction, Q16, Q31, Rescale, Sample, SampleBuf,
    ScoreError, Sequence,
};
use support::{
    Codes, F32Spec, F32TableSpec, F32WeightsSpec, FixedSpec, Rng, RowSpec, TableSpec, WeightsSpec, pad,
    small, small_f32, small_i4, tiny, tiny_dsp, tiny_f32, tiny_i4, wide, wide_dsp, wide_i4,
};

fn score(model: &Model<'_>, sample: &Sample<'_, Q16>) -> Result<Q16, ScoreError> {
    model.score(sample, &mut vec![0x5a5a; model.scratch_len()])
}

fn score_f32(model: &F32Model<'_>, sample: &Sample<'_, f32>) -> Result<f32, ScoreError> {
    model.score(sample, &mut vec![f32::NAN; model.scratch_len()])
}

/// Legal ids, values and dense inputs of a fixed model.
fn draw(rng: &mut Rng, spec: &FixedSpec, active: usize) -> (Vec<u32>, Vec<Q16>, Vec<Q16>) {
    let ids = (0..active).map(|_| rng.int(0, spec.common.rows() as i64 - 1)).collect();
    let limit = i64::from(spec.max_value.to_bits());
    let values = rng.ints(active, limit).into_iter().map(Q16::from_bits).collect();
    let maxima = spec.words.iter().step_by(5).map(|&max| i64::from(max));
    let dense = maxima.map(|max| Q16::from_bits(rng.int(-max, max))).collect();
    (ids, values, dense)
}

/// A fixed model without layers, so that each score is `rescale(head · z) + …` and pooling is visible.
fn factorization_machine(mut spec: FixedSpec) -> FixedSpec {
    spec.layers.clear();
    let mut rng = Rng::new(3);
    spec.head = rng.ints(spec.common.input_len(), 500);
    let used = spec.common.lanes() + spec.common.dense();
    spec.head[used..].fill(0);
    spec.head_scale = Rescale { multiplier: 1 << 20, shift: 22 };
    spec
}

/// Models of each layout of weights and of embeddings, with and without layers.
fn all() -> Vec<FixedSpec> {
    let machines = [wide(), wide_i4()].map(factorization_machine);
    let others = [tiny(), tiny_dsp(1), tiny_i4(), small(), small_i4(), wide(), wide_dsp(), wide_i4()];
    others.into_iter().chain(machines).collect()
}

#[test]
fn the_order_of_entries_does_not_matter() {
    let mut rng = Rng::from_env();
    for spec in all() {
        let model = spec.model().unwrap();
        for _ in 0..200 {
            let (mut ids, mut values, dense) = draw(&mut rng, &spec, spec.common.max_active.into());
            let one = score(&model, &Sample::new(&ids).with_values(&values).with_dense(&dense));
            for i in (1..ids.len()).rev() {
                let j = rng.int(0, i as i64);
                ids.swap(i, j);
                values.swap(i, j);
            }
            let other = score(&model, &Sample::new(&ids).with_values(&values).with_dense(&dense));
            assert!(one.is_ok() && one == other, "{one:?} {other:?}");
        }
    }
}

#[test]
fn an_entry_of_value_zero_changes_nothing() {
    let mut rng = Rng::from_env();
    for spec in all().into_iter().skip(3) {
        let model = spec.model().unwrap();
        for _ in 0..200 {
            let active = rng.int(0, i64::from(spec.common.max_active) - 1);
            let (mut ids, mut values, dense) = draw(&mut rng, &spec, active);
            let one = score(&model, &Sample::new(&ids).with_values(&values).with_dense(&dense));
            let position = rng.int(0, active as i64);
            ids.insert(position, rng.int(0, spec.common.rows() as i64 - 1));
            values.insert(position, Q16::default());
            let other = score(&model, &Sample::new(&ids).with_values(&values).with_dense(&dense));
            assert!(one.is_ok() && one == other, "{one:?} {other:?}");
        }
    }
    let spec = small_f32(false);
    let model = spec.model().unwrap();
    let one = score_f32(&model, &Sample::new(&[1, 4]).with_values(&[0.5, 2.0]).with_dense(&[1.0]));
    let other = score_f32(&model, &Sample::new(&[1, 3, 4]).with_values(&[0.5, 0.0, 2.0]).with_dense(&[1.0]));
    assert_eq!(one.map(f32::to_bits), other.map(f32::to_bits));
}

#[test]
fn a_value_of_one_is_no_value() {
    let mut rng = Rng::from_env();
    for spec in all() {
        let model = spec.model().unwrap();
        for active in 0..=spec.common.max_active.into() {
            let (ids, _, dense) = draw(&mut rng, &spec, active);
            let ones = vec![Q16::ONE; active];
            let with = score(&model, &Sample::new(&ids).with_values(&ones).with_dense(&dense));
            let without = score(&model, &Sample::new(&ids).with_dense(&dense));
            assert!(with.is_ok() && with == without, "{with:?} {without:?}");
        }
    }
    for spec in [small_f32(false), small_f32(true)] {
        let model = spec.model().unwrap();
        let with = score_f32(&model, &Sample::new(&[1, 4]).with_values(&[1.0, 1.0]).with_dense(&[1.0]));
        let without = score_f32(&model, &Sample::new(&[1, 4]).with_dense(&[1.0]));
        assert_eq!(with.map(f32::to_bits), without.map(f32::to_bits));
    }
}

/// Runs of a sample's entries, some empty, with entries of none between them.
fn draw_sequences(rng: &mut Rng, active: usize) -> Vec<Sequence> {
    let poolings = [Pooling::Sum, Pooling::Mean, Pooling::SqrtN, Pooling::Max];
    let (mut sequences, mut at) = (Vec::new(), 0_usize);
    while at < active {
        let start: usize = rng.int(at as i64, active as i64);
        let len: usize = rng.int(0, (active - start) as i64);
        let (pooling, linear) = (poolings[rng.int::<usize>(0, 3)], poolings[rng.int::<usize>(0, 3)]);
        sequences.push(Sequence { start: start as u16, len: len as u16, pooling, linear });
        at = start + len.max(1);
    }
    sequences
}

/// Numbers of a group, pooled as the format's document says; the factors come from f64.
fn pool(numbers: &[i64], pooling: Pooling) -> i64 {
    let n = numbers.len() as f64;
    let factor = match pooling {
        Pooling::Max => return numbers.iter().copied().max().unwrap_or(0),
        Pooling::Mean if n > 1.0 => (65536.0 / n + 0.5).floor(),
        Pooling::SqrtN if n > 1.0 => (4_294_967_295.0 / n).floor().sqrt().floor(),
        Pooling::Sum | Pooling::Mean | Pooling::SqrtN => 65536.0,
    };
    (numbers.iter().sum::<i64>() * factor as i64 + (1 << 15)) >> 16
}

/// Every group against every other, in 64 bits, by the document.
#[test]
fn sequences_are_pooled_before_they_interact() {
    let mut rng = Rng::from_env();
    for spec in [tiny(), small(), wide(), small_i4(), wide_i4()].map(factorization_machine) {
        let model = spec.model().unwrap();
        for round in 0..300 {
            let active: usize = rng.int(0, i64::from(spec.common.max_active));
            let (ids, values, dense) = draw(&mut rng, &spec, active);
            let dense = vec![Q16::default(); dense.len()];
            let sequences = draw_sequences(&mut rng, active);
            let values = (round % 2 == 0).then_some(values);
            let x = |i: usize| values.as_ref().map_or(1 << 16, |values| i64::from(values[i].to_bits()));
            let times = |number: i64, i: usize| (number * x(i) + (1 << 15)) >> 16;

            // Entries of no sequence are groups of one.
            let mut groups: Vec<(std::ops::Range<usize>, Pooling, Pooling)> = Vec::new();
            for sequence in &sequences {
                let end = groups.last().map_or(0, |(run, ..)| run.end);
                let start = usize::from(sequence.start);
                groups.extend((end..start).map(|i| (i..i + 1, Pooling::Sum, Pooling::Sum)));
                groups.push((start..start + usize::from(sequence.len), sequence.pooling, sequence.linear));
            }
            let end = groups.last().map_or(0, |(run, ..)| run.end);
            groups.extend((end..active).map(|i| (i..i + 1, Pooling::Sum, Pooling::Sum)));

            let z = (0..usize::from(spec.common.dim)).map(|lane| {
                let e = |(run, pooling, _): &(std::ops::Range<usize>, Pooling, Pooling)| {
                    let e: Vec<i64> = run
                        .clone()
                        .map(|i| {
                            times(spec.table.embedding(ids[i] as usize, spec.common.lanes(), lane).into(), i)
                        })
                        .collect();
                    pool(&e, *pooling)
                };
                let e: Vec<i64> = groups.iter().map(e).collect();
                let pairs = (0..e.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
                let sum: i64 = pairs.map(|(i, j)| e[i] * e[j]).sum();
                let max = i64::from(spec.max);
                ((sum + ((1 << spec.shift) >> 1)) >> spec.shift).clamp(-max, max)
            });
            let deep: i64 = z.zip(&spec.head).map(|(z, p)| z * i64::from(*p)).sum();
            let first: i64 = groups
                .iter()
                .map(|(run, _, linear)| {
                    let w: Vec<i64> =
                        run.clone().map(|i| times(spec.table.header(ids[i] as usize).0.into(), i)).collect();
                    pool(&w, *linear)
                })
                .sum();
            let rescale = |number: i64, r: Rescale| {
                (number * i64::from(r.multiplier) + ((1 << r.shift) >> 1)) >> r.shift
            };
            let want = rescale(deep, spec.head_scale) + rescale(first, spec.linear_scale);

            let mut sample = Sample::new(&ids).with_dense(&dense);
            if let Some(values) = &values {
                sample = sample.with_values(values);
            }
            let score = |sequences: &[Sequence]| {
                model.score_sequences(&sample, sequences, &mut vec![0x5a5a; model.scratch_len()])
            };
            let got = i64::from(score(&sequences).unwrap().to_bits());
            assert_eq!(got, want + i64::from(spec.bias.to_bits()), "{groups:?}");
            assert_eq!(score(&[]), model.score(&sample, &mut vec![0x5a5a; model.scratch_len()]));
        }
    }
}

#[test]
fn a_sequence_beyond_the_entries_is_refused() {
    let model_spec = tiny();
    let model = model_spec.model().unwrap();
    let at = |start, len| Sequence { start, len, pooling: Pooling::Sum, linear: Pooling::Sum };
    let score = |sequences: &[Sequence]| {
        model.score_sequences(&Sample::new(&[0, 3]), sequences, &mut vec![0; model.scratch_len()])
    };
    assert!(score(&[at(0, 1), at(1, 1), at(2, 0)]).is_ok());
    for (sequences, position) in [
        (&[at(0, 3)][..], 0),
        (&[at(2, 1)], 0),
        (&[at(0, 2), at(1, 1)], 1),
        (&[at(1, 1), at(0, 1)], 1),
        (&[at(u16::MAX, u16::MAX)], 0),
    ] {
        assert_eq!(score(sequences), Err(ScoreError::SequenceRange { position }), "{sequences:?}");
    }
}

#[test]
fn a_duplicate_counts_twice() {
    // One lane-wise square of row 2, (50, 60, -70, 80)² → >> 5, and twice its first order of 200 · 40.
    let mut spec = tiny();
    spec.layers.clear();
    spec.max = 32767;
    spec.head = vec![1, 0, 0, 0, 0, 0, 0, 0];
    spec.head_scale = Rescale { multiplier: 1, shift: 0 };
    let model = spec.model().unwrap();
    let bits = |ids: &[u32]| score(&model, &Sample::new(ids)).unwrap().to_bits() - spec.bias.to_bits();
    assert_eq!(bits(&[2, 2]), (2500 + 16) / 32 + 2 * 200 * 40);
    assert_eq!(bits(&[2]), 200 * 40);
    assert_eq!(bits(&[]), 0);
}

#[test]
fn the_first_order_rounds_each_product_to_nearest_ties_up() {
    let mut spec = tiny();
    spec.layers.clear();
    spec.head = vec![0; 8];
    spec.linear_scale = Rescale { multiplier: 1, shift: 0 };
    spec.bias = Q16::default();
    let model = spec.model().unwrap();
    let bits = |ids: &[u32], values: &[i32]| {
        let values: Vec<_> = values.iter().copied().map(Q16::from_bits).collect();
        score(&model, &Sample::new(ids).with_values(&values)).unwrap().to_bits()
    };
    // 100 / 8 = 12.5 → 13; −300 / 8 = −37.5 → −37; −50 / 16 = −3.125 → −3; 100 · 0.3749… = 37.49… → 37.
    assert_eq!(bits(&[0], &[1 << 13]), 13);
    assert_eq!(bits(&[3], &[1 << 13]), -37);
    assert_eq!(bits(&[1], &[1 << 12]), -3);
    assert_eq!(bits(&[0], &[24575]), 37);
    // Each product for itself: 12.5 + 12.5 → 26.
    assert_eq!(bits(&[0, 0], &[1 << 13, 1 << 13]), 26);
}

#[test]
fn as_many_entries_as_stated_are_scored_and_no_more() {
    for spec in all() {
        let model = spec.model().unwrap();
        let max = spec.common.max_active;
        let dense = vec![Q16::default(); spec.common.dense()];
        let ids = vec![1; usize::from(max) + 1];
        assert!(score(&model, &Sample::new(&ids[1..]).with_dense(&dense)).is_ok());
        let error = ScoreError::TooManyActive { max, got: ids.len() };
        assert_eq!(score(&model, &Sample::new(&ids).with_dense(&dense)), Err(error));
    }
}

/// `Σ_{i<j} e_i · e_j` lane by lane, pairs one by one.
fn pairs(e: &[Vec<f64>], lanes: usize) -> Vec<f64> {
    let lane = |k: usize| {
        let mut sum = 0.0;
        for i in 0..e.len() {
            for j in i + 1..e.len() {
                sum += e[i][k] * e[j][k];
            }
        }
        sum
    };
    (0..lanes).map(lane).collect()
}

fn power(exponent: u8) -> f64 {
    2.0_f64.powi(exponent.into())
}

fn factor(scale: Rescale) -> f64 {
    f64::from(scale.multiplier) / power(scale.shift)
}

/// A number and a bound on how far the fixed path may be from it.
#[derive(Clone, Copy, Debug)]
struct Bounded {
    value: f64,
    error: f64,
}

/// The fixed model's definition in reals, where nothing is rounded, with the bound carried along: each rounding to a code adds
/// its half (or whole, where bits are dropped) unit, each sum adds up |weight| · error, each function multiplies by its
/// steepest slope. Clamps keep distances.
fn definition(spec: &FixedSpec, ids: &[u32], values: &[Q16], dense: &[Q16]) -> Bounded {
    let lanes = spec.common.lanes();
    let linear_code = |id: u32| f64::from(spec.table.header(id as usize).0);
    let e: Vec<Vec<f64>> = ids
        .iter()
        .zip(values)
        .map(|(&id, value)| {
            let embedding = |k| f64::from(spec.table.embedding(id as usize, lanes, k));
            (0..lanes).map(|k| embedding(k) * value.to_f64()).collect()
        })
        .collect();
    let max = f64::from(spec.max);
    let mut z: Vec<Bounded> = pairs(&e, lanes)
        .into_iter()
        .enumerate()
        .map(|(k, sum)| {
            if k >= spec.common.dim.into() {
                return Bounded { value: 0.0, error: 0.0 };
            }
            // |Σ_{i<j} (e_i + r_i)(e_j + r_j) − e_i e_j| with |r| ≤ ½: at most Σ_i |e_i| · (N−1)/2 + N(N−1)/8.
            let others = (e.len() as f64 - 1.0).max(0.0);
            let rounding =
                e.iter().map(|e| e[k].abs()).sum::<f64>() * others / 2.0 + e.len() as f64 * others / 8.0;
            let unit = power(spec.shift);
            Bounded { value: (sum / unit).clamp(-max, max), error: rounding / unit + 0.5 }
        })
        .collect();
    let scale = |words: &[i32]| f64::from(words[0]) / power(u8::try_from(words[1]).unwrap());
    let mut linear = Bounded { value: 0.0, error: 0.5 };
    for (words, value) in spec.words.chunks_exact(5).zip(dense) {
        let bits = f64::from(value.to_bits());
        z.push(Bounded { value: (bits * scale(&words[1..])).clamp(-max, max), error: 0.5 });
        linear.value += bits * scale(&words[3..]);
        linear.error += 0.5;
    }
    let first: f64 = ids.iter().zip(values).map(|(&id, value)| linear_code(id) * value.to_f64()).sum();
    linear.value += first * factor(spec.linear_scale);
    linear.error += 0.5 * ids.len() as f64 * factor(spec.linear_scale).abs();

    let sum = |weights: &[f64], z: &[Bounded], bias: f64| Bounded {
        value: bias + weights.iter().zip(z).map(|(w, z)| w * z.value).sum::<f64>(),
        error: weights.iter().zip(z).map(|(w, z)| w.abs() * z.error).sum(),
    };
    for layer in &spec.layers {
        z.resize(pad(z.len()), Bounded { value: 0.0, error: 0.0 });
        let max = f64::from(layer.max);
        let inputs = z.len();
        z = (0..layer.out.into())
            .map(|o| {
                let weight = |i| f64::from(layer.weights.multiplier(inputs, o, i)) / 256.0;
                let weights: Vec<_> = (0..inputs).map(weight).collect();
                let mut a = sum(&weights, &z, layer.bias[o].into());
                if let WeightsSpec::Dsp { fold, .. } = layer.weights {
                    // Each fold drops bits: below one unit.
                    a.error += (inputs / 4).div_ceil(fold.into()) as f64;
                }
                if layer.activation.is_homogeneous() {
                    // The shift drops bits: below one unit.
                    let c = (a.value / power(layer.shift)).clamp(-max, max);
                    let error = a.error / power(layer.shift) + 1.0;
                    let slope = match layer.activation {
                        Activation::Identity => 1.0,
                        Activation::Relu => 0.0,
                        Activation::LeakyRelu { slope } => f64::from(slope) / 8192.0,
                        _ => f64::from(layer.slopes[o]) / 8192.0,
                    };
                    let value = if c >= 0.0 { c } else { (slope * c).clamp(-max, max) };
                    return Bounded { value, error: error * slope.abs().max(1.0) + 0.5 };
                }
                let m = f64::from(layer.multipliers[o]) / power(layer.shift);
                let (t, unit) = (a.value * m / 65536.0, power(layer.fraction));
                let (f, slope) = match layer.activation {
                    Activation::Sigmoid => (1.0 / (1.0 + (-t).exp()), 0.25),
                    Activation::Tanh => (t.tanh(), 1.0),
                    Activation::Elu { alpha } => {
                        let alpha = f64::from(alpha) / 8192.0;
                        (if t < 0.0 { alpha * t.exp_m1() } else { t }, alpha.abs().max(1.0))
                    }
                    _ => panic!("a curve"),
                };
                // t is rounded to Q16, f is within one step of Q16, and the code rounds once more.
                let error = ((a.error * m.abs() + 0.5) * slope + 1.0) * unit / 65536.0 + 0.5;
                Bounded { value: (f * unit).clamp(-max, max), error }
            })
            .collect();
    }
    let head: Vec<_> = spec.head.iter().map(|&p| f64::from(p)).collect();
    let deep = sum(&head, &z, 0.0);
    let scale = factor(spec.head_scale);
    Bounded {
        value: f64::from(spec.bias.to_bits()) + linear.value + deep.value * scale,
        error: linear.error + deep.error * scale.abs() + 0.5,
    }
}

#[test]
fn the_fixed_score_is_within_a_derived_bound_of_the_definition() {
    let mut rng = Rng::from_env();
    for mut spec in all() {
        // Deep networks of random weights lose the bound: one layer after another, from none to all.
        let layers = spec.layers.len();
        let all = spec.layers.clone();
        for depth in 0..=layers {
            spec.layers = all[..depth].to_vec();
            let used = spec.layers.last().map_or(spec.common.input_len(), |l| l.out.into());
            let width = pad(used);
            if depth < layers {
                spec.head = rng.ints(width, 500);
                spec.head[used..].fill(0);
            }
            let model = spec.model().unwrap();
            let mut tight = 0.0_f64;
            for round in 0..100 {
                let active = round % (usize::from(spec.common.max_active) + 1);
                let (ids, values, dense) = draw(&mut rng, &spec, active);
                let sample = Sample::new(&ids).with_values(&values).with_dense(&dense);
                let got = f64::from(score(&model, &sample).unwrap().to_bits());
                let want = definition(&spec, &ids, &values, &dense);
                let error = (got - want.value).abs();
                assert!(error <= want.error, "depth {depth}: {got}, not {want:?}");
                tight = tight.max(error / want.error);
            }
            println!("{} depth {depth}: the largest error is {tight:.3} of its bound", spec.common.name);
        }
    }
}

#[test]
fn one_layer_is_exactly_its_definition_where_nothing_rounds() {
    // No fraction anywhere: shift 0, integer scales, bounds of half a unit.
    let mut spec = tiny();
    spec.shift = 0;
    spec.max = 32767;
    spec.layers[0].shift = 0;
    spec.layers[0].activation = Activation::Identity;
    spec.layers[0].max = 32767;
    spec.head_scale = Rescale { multiplier: 3, shift: 0 };
    let matrix: [[i8; 8]; 4] = [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0, 0, 0],
        [1, 0, 0, -1, 0, 0, 0, 0],
    ];
    spec.layers[0].weights = WeightsSpec::pack(matrix.as_flattened(), 8, 0);
    let model = spec.model().unwrap();
    // z = (-2700, -6000, 9900, -14400); acc = z + bias, last -2700 + 14400 + 64.
    let h = [-2700 + 64, -6000 - 936, 9900 + 2064, 11700 + 64];
    let deep: i32 = h.iter().zip([256, -128, 64, 32]).map(|(h, p)| h * p).sum();
    let got = score(&model, &Sample::new(&[0, 3])).unwrap().to_bits();
    assert_eq!(got, 3 * deep - 8000 - 16384);
}

#[test]
fn without_layers_it_is_a_factorization_machine() {
    let mut rng = Rng::from_env();
    let mut spec = small_f32(false);
    spec.layers.clear();
    spec.head = rng.floats(spec.common.input_len(), 1.0);
    let model = spec.model().unwrap();
    let F32TableSpec::F32 { linear, embeddings } = &spec.table else { panic!("floats") };
    for _ in 0..500 {
        let active = rng.int(0, spec.common.max_active.into());
        let ids: Vec<u32> = (0..active).map(|_| rng.int(0, linear.len() as i64 - 1)).collect();
        let (values, dense) = (rng.floats(active, 2.0), rng.floats(1, 2.0));
        let lanes = spec.common.lanes();
        let e: Vec<Vec<f64>> = ids
            .iter()
            .zip(&values)
            .map(|(&id, &x)| {
                embeddings[id as usize * lanes..][..lanes]
                    .iter()
                    .map(|&v| f64::from(v) * f64::from(x))
                    .collect()
            })
            .collect();
        let z = pairs(&e, lanes);
        let mut want = f64::from(spec.bias) + f64::from(spec.dense_linear[0]) * f64::from(dense[0]);
        want += ids
            .iter()
            .zip(&values)
            .map(|(&id, &x)| f64::from(linear[id as usize]) * f64::from(x))
            .sum::<f64>();
        want += z.iter().zip(&spec.head).map(|(z, &p)| z * f64::from(p)).sum::<f64>();
        want += f64::from(dense[0]) * f64::from(spec.head[lanes]);
        let sample = Sample::new(&ids).with_values(&values).with_dense(&dense);
        let got = f64::from(score_f32(&model, &sample).unwrap());
        assert!((got - want).abs() <= F32Model::ACCURACY * want.abs().max(1.0), "{got}, not {want}");
    }
}

/// The f32 model's definition in f64.
fn definition_f32(spec: &F32Spec, ids: &[u32], values: &[f32], dense: &[f32]) -> f64 {
    let lanes = spec.common.lanes();
    let (mut e, mut score) = (vec![], f64::from(spec.bias));
    for (&id, &x) in ids.iter().zip(values) {
        let (row, x) = (id as usize, f64::from(x));
        match &spec.table {
            F32TableSpec::F32 { linear, embeddings } => {
                score += f64::from(linear[row]) * x;
                e.push(embeddings[row * lanes..][..lanes].iter().map(|&v| f64::from(v) * x).collect());
            }
            F32TableSpec::I8 { headers, codes, linear_scale } => {
                let header = headers[row].cast_signed();
                score += f64::from(*linear_scale) * f64::from(header >> 4) * x;
                let gain = (f64::from(header & 15) + 1.0) * x;
                e.push(
                    codes[row * lanes..][..lanes].iter().map(|&v| f64::from(v) * gain).collect::<Vec<f64>>(),
                );
            }
        }
    }
    let mut z = pairs(&e, lanes);
    for (&d, &w) in dense.iter().zip(&spec.dense_linear) {
        z.push(d.into());
        score += f64::from(w) * f64::from(d);
    }
    for layer in &spec.layers {
        z.resize(pad(z.len()), 0.0);
        let activate = |(o, &bias): (usize, &f32)| {
            let weight = |i: usize| match &layer.weights {
                F32WeightsSpec::F32(weights) => f64::from(weights[o * z.len() + i]),
                F32WeightsSpec::I8 { codes, scales } => {
                    f64::from(codes[o * z.len() + i]) * f64::from(scales[o])
                }
            };
            let t = f64::from(bias) + z.iter().enumerate().map(|(i, z)| weight(i) * z).sum::<f64>();
            match layer.activation {
                Activation::PRelu if t < 0.0 => f64::from(layer.slopes[o]) * t,
                Activation::Elu { alpha } if t < 0.0 => f64::from(alpha) * t.exp_m1(),
                Activation::PRelu | Activation::Elu { .. } => t,
                Activation::Sigmoid => 1.0 / (1.0 + (-t).exp()),
                Activation::Tanh => t.tanh(),
                _ => panic!("not in these models"),
            }
        };
        z = layer.bias.iter().enumerate().map(activate).collect();
    }
    score + z.iter().zip(&spec.head).map(|(z, &p)| z * f64::from(p)).sum::<f64>()
}

#[test]
fn the_f32_score_keeps_its_stated_accuracy() {
    let mut rng = Rng::from_env();
    for spec in [tiny_f32(), small_f32(false), small_f32(true)] {
        let model = spec.model().unwrap();
        let mut distinct = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let active = rng.int(0, spec.common.max_active.into());
            let ids: Vec<u32> = (0..active).map(|_| rng.int(0, spec.common.rows() as i64 - 1)).collect();
            let (values, dense) = (rng.floats(active, 2.0), rng.floats(spec.common.dense(), 2.0));
            let sample = Sample::new(&ids).with_values(&values).with_dense(&dense);
            let got = f64::from(score_f32(&model, &sample).unwrap());
            let want = definition_f32(&spec, &ids, &values, &dense);
            assert!((got - want).abs() <= F32Model::ACCURACY * want.abs().max(1.0), "{got}, not {want}");
            distinct.insert(got.to_bits());
        }
        assert!(distinct.len() > 300, "the samples must tell scores apart: {}", distinct.len());
    }
}

#[test]
fn a_bad_sample_is_refused_with_its_position() {
    [small(), small_i4()].iter().for_each(assert_bad_samples_refused);
}

fn assert_bad_samples_refused(spec: &FixedSpec) {
    let model = spec.model().unwrap();
    let (one, age) = (Q16::ONE, [Q16::ONE]);
    let over = Q16::from_bits(spec.max_value.to_bits() + 1);
    let under = Q16::from_bits(-spec.max_value.to_bits() - 1);
    let old = Q16::from_bits((4 << 16) + 1);
    let refused = |ids: &[u32], values: Option<&[Q16]>, dense: &[Q16], error| {
        let mut sample = Sample::new(ids).with_dense(dense);
        if let Some(values) = values {
            sample = sample.with_values(values);
        }
        // An error leaves no trace: the scratch that it saw scores the next sample right.
        let mut scratch = vec![0x1111; model.scratch_len()];
        assert_eq!(model.score(&sample, &mut scratch), Err(error));
        let good = Sample::new(&[0, 4]).with_dense(&age);
        assert_eq!(model.score(&good, &mut scratch), score(&model, &good));
    };
    refused(&[0, 5, 9], None, &age, ScoreError::UnknownId { position: 1, id: 5, rows: 5 });
    refused(&[u32::MAX], None, &age, ScoreError::UnknownId { position: 0, id: u32::MAX, rows: 5 });
    refused(&[0, 1, 2, 3], None, &age, ScoreError::TooManyActive { max: 3, got: 4 });
    refused(&[0, 1], Some(&[one]), &age, ScoreError::ValueCount { expected: 2, got: 1 });
    refused(&[0], Some(&[one, one]), &age, ScoreError::ValueCount { expected: 1, got: 2 });
    refused(&[0], Some(&[]), &age, ScoreError::ValueCount { expected: 1, got: 0 });
    refused(&[0, 1, 2], Some(&[one, one, over]), &age, ScoreError::ValueOutOfRange { position: 2 });
    refused(&[0, 1], Some(&[one, under]), &age, ScoreError::ValueOutOfRange { position: 1 });
    refused(&[0], Some(&[Q16::MIN]), &age, ScoreError::ValueOutOfRange { position: 0 });
    refused(&[0], None, &[], ScoreError::DenseCount { expected: 1, got: 0 });
    refused(&[0], None, &[one, one], ScoreError::DenseCount { expected: 1, got: 2 });
    refused(&[0], None, &[old], ScoreError::DenseOutOfRange { position: 0 });
    refused(&[0], None, &[Q16::MIN], ScoreError::DenseOutOfRange { position: 0 });
    // The ends themselves are legal.
    let ends = [spec.max_value, Q16::from_bits(-spec.max_value.to_bits())];
    let sample = Sample::new(&[0, 4]).with_values(&ends);
    for dense in [4 << 16, -(4 << 16)].map(Q16::from_bits) {
        assert!(score(&model, &sample.with_dense(&[dense])).is_ok());
    }
}

#[test]
fn a_bad_f32_sample_is_refused_with_its_position() {
    for spec in [small_f32(false), small_f32(true)] {
        let model = spec.model().unwrap();
        let refused = |ids: &[u32], values: &[f32], dense: &[f32], error| {
            let sample = Sample::new(ids).with_values(values).with_dense(dense);
            let mut scratch = vec![7.0; model.scratch_len()];
            assert_eq!(model.score(&sample, &mut scratch), Err(error));
            let good = Sample::new(&[0, 4]).with_dense(&[1.0]);
            assert_eq!(model.score(&good, &mut scratch), score_f32(&model, &good));
        };
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            refused(&[0, 1], &[1.0, bad], &[1.0], ScoreError::ValueNotFinite { position: 1 });
            refused(&[0], &[1.0], &[bad], ScoreError::DenseNotFinite { position: 0 });
        }
        refused(&[0, 5], &[1.0, 1.0], &[1.0], ScoreError::UnknownId { position: 1, id: 5, rows: 5 });
        refused(&[0; 4], &[1.0; 4], &[1.0], ScoreError::TooManyActive { max: 3, got: 4 });
        refused(&[0], &[], &[1.0], ScoreError::ValueCount { expected: 1, got: 0 });
        refused(&[0], &[1.0], &[], ScoreError::DenseCount { expected: 1, got: 0 });
    }
}

#[test]
fn a_short_scratch_is_refused_and_an_exact_or_longer_one_is_not() {
    let (fixed, float) = (small(), small_f32(false));
    let (fixed, float) = (fixed.model().unwrap(), float.model().unwrap());
    let (sample, sample_f32) = (Sample::new(&[0, 4]), Sample::new(&[0, 4]).with_dense(&[1.0]));
    let sample = sample.with_dense(&[Q16::ONE]);
    for got in 0..float.scratch_len() {
        let error = ScoreError::ScratchTooShort { needed: float.scratch_len(), got };
        assert_eq!(float.score(&sample_f32, &mut vec![0.0; got]), Err(error));
    }
    let needed = fixed.scratch_len();
    for got in 0..needed {
        let error = ScoreError::ScratchTooShort { needed, got };
        assert_eq!(fixed.score(&sample, &mut vec![0; got]), Err(error));
    }
    let want = score(&fixed, &sample);
    for extra in [0, 1, 100] {
        let mut scratch = vec![0x7777; needed + extra];
        assert_eq!(fixed.score(&sample, &mut scratch), want);
        assert!(scratch[needed..].iter().all(|&element| element == 0x7777), "a foreign element was written");
    }
}

#[test]
fn what_the_scratch_held_does_not_matter() {
    for spec in all() {
        let model = spec.model().unwrap();
        let dense = vec![Q16::ONE; spec.common.dense()];
        let sample = Sample::new(&[0, 3]).with_dense(&dense);
        let with = |fill| model.score(&sample, &mut vec![fill; model.scratch_len()]);
        for fill in [0x8000_8000, 0x7fff_7fff, u32::MAX] {
            assert_eq!(with(0), with(fill));
        }
    }
}

#[test]
fn the_scratch_holds_two_buffers_and_the_terms_in_the_second() {
    // Words of two activations: 32 / 2 and 24 / 2, or three words an entry where these are more.
    let mut spec = wide();
    spec.layers.truncate(2);
    spec.head = vec![0; 16];
    for (max_active, words) in [(1, 16 + 12), (4, 16 + 12), (5, 16 + 15), (12, 16 + 36)] {
        spec.common.max_active = max_active;
        assert_eq!(spec.model().unwrap().scratch_len(), words, "{max_active} entries");
    }
    // The same where rows of four bits are.
    spec.table = wide_i4().table;
    spec.common.dim = 18;
    spec.max_embedding = 1920;
    for layer in &mut spec.layers {
        layer.shift = 0;
    }
    spec.layers[0].weights = wide_i4().layers[0].weights.clone();
    for (max_active, words) in [(1, 12 + 12), (4, 12 + 12), (5, 12 + 15), (12, 12 + 36)] {
        spec.common.max_active = max_active;
        assert_eq!(spec.model().unwrap().scratch_len(), words, "{max_active} entries");
    }
    assert_eq!(tiny_i4().model().unwrap().scratch_len(), 4 + 6);
    assert_eq!(small_i4().model().unwrap().scratch_len(), 8 + 9);
    assert_eq!(tiny().model().unwrap().scratch_len(), 4 + 6);
    assert_eq!(small().model().unwrap().scratch_len(), 8 + 9);
    assert_eq!(tiny_f32().model().unwrap().scratch_len(), 8 + 8);
    assert_eq!(small_f32(true).model().unwrap().scratch_len(), 16 + 8);
}

#[test]
fn what_stands_in_padding_outputs_does_not_matter() {
    let mut rng = Rng::from_env();
    for spec in all() {
        let mut other = spec.clone();
        let mut inputs = spec.common.input_len();
        for layer in &mut other.layers {
            for o in layer.out.into()..layer.bias.len() {
                layer.bias[o] = rng.int(-1_000_000, 1_000_000);
                layer.slopes.iter_mut().skip(o).for_each(|slope| *slope = rng.int(-9999, 9999));
                layer.multipliers.iter_mut().skip(o).for_each(|m| *m = rng.int(-9_999_999, 9_999_999));
                for i in 0..inputs {
                    layer.weights.set(inputs, o, i, rng.int(-128, 127));
                }
            }
            inputs = layer.bias.len();
        }
        let width = spec.common.lanes() + spec.common.dense();
        let used = spec.layers.last().map_or(width, |layer| layer.out.into());
        other.head[used..].fill_with(|| rng.int(-999, 999));
        let (one, other) = (spec.model().unwrap(), other.model().unwrap());
        assert_ne!(one, other);
        for _ in 0..50 {
            let (ids, values, dense) = draw(&mut rng, &spec, spec.common.max_active.into());
            let sample = Sample::new(&ids).with_values(&values).with_dense(&dense);
            assert_eq!(score(&one, &sample), score(&other, &sample));
        }
    }
}

/// A row of four bits has no code that is zero for certain, and DSP weights have fractions where a column is padding.
#[test]
fn what_stands_in_padding_lanes_does_not_matter() {
    let mut rng = Rng::from_env();
    for spec in [wide_i4(), small_i4(), factorization_machine(wide_i4())] {
        let (dim, mut other) = (usize::from(spec.common.dim), spec.clone());
        let words = spec.common.lanes().div_ceil(8);
        let TableSpec::I4 { nibbles, .. } = &mut other.table else { panic!("4-bit rows") };
        for row in nibbles.chunks_exact_mut(words) {
            // Places of lanes that are none, and of lanes of padding: lanes 2 3 6 7 are the upper half of a word.
            for (place, lane) in [0, 1, 4, 5, 2, 3, 6, 7].into_iter().enumerate() {
                if dim / 8 * 8 + lane >= dim {
                    row[words - 1] =
                        row[words - 1] & !(15 << (4 * place)) | rng.int::<u32>(0, 15) << (4 * place);
                }
            }
        }
        let (one, other) = (spec.model().unwrap(), other.model().unwrap());
        assert_ne!(one, other);
        for _ in 0..100 {
            let (ids, values, dense) = draw(&mut rng, &spec, spec.common.max_active.into());
            for sample in [Sample::new(&ids), Sample::new(&ids).with_values(&values)] {
                let sample = sample.with_dense(&dense);
                assert_eq!(score(&one, &sample), score(&other, &sample));
            }
        }
    }
}

#[test]
fn the_same_embeddings_give_the_same_score_however_they_are_stored() {
    let mut rng = Rng::from_env();
    let (mut bytes, lanes) = (factorization_machine(wide()), wide().common.lanes());
    let rows = bytes.common.rows();
    // Codes of −8 to 7, so that each row can be stored in both ways.
    let TableSpec::I8 { codes, .. } = &mut bytes.table else { panic!("8-bit rows") };
    codes.iter_mut().for_each(|code| *code = if *code == 0 { 0 } else { rng.int(-8, 7) });
    let TableSpec::I8 { headers, codes } = bytes.table.clone() else { panic!("8-bit rows") };
    let header = |row: usize| (headers[row].cast_signed() >> 4, (headers[row] & 15) + 1);
    let row = |row: usize, hot: bool| {
        let ((linear, multiplier), codes) = (header(row), &codes[row * lanes..][..lanes]);
        if hot {
            return RowSpec { linear, multiplier, offset: 0, codes: Codes::Hot(codes.to_vec()) };
        }
        let codes = codes.iter().map(|code| (code + 8).cast_unsigned()).collect();
        let offset = -8 * multiplier.cast_signed();
        RowSpec { linear, multiplier, offset, codes: Codes::Nibbles(codes) }
    };
    let stored = |is_hot: &mut dyn FnMut(usize) -> bool| {
        let rows: Vec<_> = (0..rows).map(|id| row(id, is_hot(id))).collect();
        FixedSpec { table: TableSpec::pack(&rows), ..bytes.clone() }
    };
    let others = [
        stored(&mut |_| true),
        stored(&mut |_| false),
        stored(&mut |id| id % 2 == 0),
        stored(&mut |id| id >= 32),
        stored(&mut |id| id == 31),
        stored(&mut |_| rng.int::<u8>(0, 2) == 0),
    ];
    let mut rng = Rng::from_env();
    for round in 0..300 {
        let (ids, values, dense) = draw(&mut rng, &bytes, round % 13);
        let sample = Sample::new(&ids).with_dense(&dense);
        for sample in [sample, sample.with_values(&values)] {
            let want = score(&bytes.model().unwrap(), &sample).unwrap();
            for (i, other) in others.iter().enumerate() {
                assert_eq!(score(&other.model().unwrap(), &sample), Ok(want), "{i}: {ids:?}");
            }
        }
    }
}

#[test]
fn a_score_beyond_its_type_saturates() {
    let mut spec = tiny();
    spec.bias = Q16::MAX;
    spec.linear_scale = Rescale { multiplier: i32::MAX, shift: 0 };
    assert_eq!(score(&spec.model().unwrap(), &Sample::new(&[2])), Ok(Q16::MAX));
    spec.bias = Q16::MIN;
    assert_eq!(score(&spec.model().unwrap(), &Sample::new(&[3])), Ok(Q16::MIN));
    // Two saturated terms of other signs cancel: the sum is wider than its type.
    spec.bias = Q16::MAX;
    let got = score(&spec.model().unwrap(), &Sample::new(&[3])).unwrap();
    assert!(got.to_bits().abs() < 1 << 16, "{got:?}");
}

#[test]
fn links_give_probabilities_and_values() {
    let (low, high) = (Q16::from_bits(-5), Q16::from_bits(7));
    let clip = Link::Clip { min: low, max: high };
    let value = |link: Link<Q16>, bits| link.apply(Q16::from_bits(bits));
    assert_eq!(value(clip, -6), Prediction::Value(low));
    assert_eq!(value(clip, 8), Prediction::Value(high));
    assert_eq!(value(clip, 3), Prediction::Value(Q16::from_bits(3)));
    assert_eq!(value(Link::Identity, i32::MIN), Prediction::Value(Q16::MIN));
    assert_eq!(value(Link::Sigmoid, 0), Prediction::Probability(Q31::from_bits(1 << 30)));
    assert_eq!(value(Link::Sigmoid, i32::MAX), Prediction::Probability(Q31::ONE));
    // 1 / (1 + e⁻¹) = 0.731058578630004879…
    let Prediction::Probability(p) = value(Link::Sigmoid, 1 << 16) else { panic!("a probability") };
    assert!((p.to_f64() - 0.731_058_578_630_004_9).abs() <= f64::from(Q31::SIGMOID_ERROR) / 2_147_483_648.0);
    let clip = Link::Clip { min: -1.0, max: 2.0 };
    let bits = |link: Link<f32>, score| link.apply::<Libm>(score).to_bits();
    assert_eq!([-3.0, 0.5, 3.0].map(|score| bits(clip, score)), [-1.0_f32, 0.5, 2.0].map(f32::to_bits));
    assert_eq!(bits(Link::Identity, -3.5), (-3.5_f32).to_bits());
    assert!((Link::<f32>::Sigmoid.apply::<Libm>(1.0) - 0.731_058_6).abs() < 1e-6);
}

#[test]
fn a_sample_buffer_scores_as_the_slices_do() {
    let spec = small();
    let model = spec.model().unwrap();
    let mut buffer: SampleBuf<Q16, 3, 1> = SampleBuf::new();
    let half = Q16::from_bits(0x8000);
    for id in [4, 1, 2] {
        assert_eq!(buffer.push(id, half), Ok(()));
    }
    assert_eq!(buffer.push(3, Q16::ONE), Err(Q16::ONE), "three entries fit");
    assert_eq!(buffer.push_dense(half), Ok(()));
    assert_eq!(buffer.push_dense(Q16::ONE), Err(Q16::ONE), "one dense input fits");
    let (values, dense) = ([half; 3], [half]);
    let slices = Sample::new(&[4, 1, 2]).with_values(&values).with_dense(&dense);
    assert_eq!(score(&model, &buffer.as_sample()), score(&model, &slices));
    buffer.clear();
    let empty = buffer.as_sample();
    assert!(empty.ids().is_empty() && empty.dense().is_empty() && empty.values() == Some(&[]));
    assert_eq!(score(&model, &empty), Err(ScoreError::DenseCount { expected: 1, got: 0 }));
}

#[test]
fn errors_say_what_was_expected_and_found() {
    let texts = [
        ScoreError::UnknownId { position: 2, id: 9, rows: 5 }.to_string(),
        ScoreError::ScratchTooShort { needed: 8, got: 4 }.to_string(),
        ScoreError::DenseNotFinite { position: 1 }.to_string(),
    ];
    let want = [
        "entry 2: expected an id below 5, found 9",
        "expected scratch of 8 elements, found 4",
        "dense input 1: value is not finite",
    ];
    assert_eq!(texts, want);
}
