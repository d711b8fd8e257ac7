//! Buckets and scaled numbers, against scikit-learn, TensorFlow, and the formulas in `f64`.

use embedded_nfm::{
    Q16,
    encode::{Buckets, Encoder, F32Scaling, FieldEncoder, Of, Policy, Scaling, SequenceRule, Value, ordered},
};

use crate::{
    drawn::{fixture, floats, halfwords, ints, measurements, parameters},
    fields::{each_id, each_number, strict},
};

/// A boundary as a converter rounds it: up to the next `f32`.
fn rounded_up(boundary: f64) -> f32 {
    let nearest = boundary as f32;
    if f64::from(nearest) < boundary { nearest.next_up() } else { nearest }
}

fn buckets(boundaries: &[i32]) -> Buckets<'_> {
    Buckets { right_closed: false, integers: false, boundaries, ids: &[] }
}

fn assert_buckets(fixture_name: &str, boundaries: &[f64]) {
    let boundaries: Vec<i32> = boundaries.iter().map(|&x| ordered(rounded_up(x))).collect();
    let values = measurements();
    let encoder = Encoder::Buckets(buckets(&boundaries));
    let found = each_id(encoder, 100, values.iter().copied().map(Value::F32));
    let expected = fixture(&format!("{fixture_name}.bin"));
    assert_eq!(found.len(), expected.len());
    for ((value, found), expected) in values.iter().zip(found).zip(expected) {
        assert_eq!(found, u32::from(expected), "{fixture_name} of {value}");
    }
}

#[test]
fn buckets_are_those_of_scikit_learn_and_tensorflow() {
    for name in ["kbins_quantile", "kbins_uniform"] {
        let edges = parameters(name);
        assert_buckets(name, &edges[1..edges.len() - 1]);
    }
    assert_buckets("bucketize", &parameters("bucketize"));
}

#[test]
fn any_float_falls_where_comparison_says() {
    let boundaries = [f32::NEG_INFINITY, -1e30, -2.5, -1e-45, 0.0, 1e-45, 1e-38, 0.1, 3.0, f32::MAX];
    let keys = boundaries.map(ordered);
    let values: Vec<f32> = floats().into_iter().chain(boundaries).chain([-0.0, f32::INFINITY]).collect();
    let values: Vec<f32> = values.into_iter().filter(|x| !x.is_nan()).collect();
    for right_closed in [false, true] {
        let encoder = Encoder::Buckets(Buckets { right_closed, ..buckets(&keys) });
        let found = each_id(encoder, 11, values.iter().copied().map(Value::F32));
        for (value, found) in values.iter().zip(found) {
            let below = boundaries.iter().filter(|&b| if right_closed { b < value } else { b <= value });
            assert_eq!(found as usize, below.count(), "{value:?}");
        }
    }
}

#[test]
fn integers_and_fixed_point_numbers_fall_where_their_float_does() {
    let boundaries = [-1e9_f32, -300.0, -0.5, 0.0, 0.25, 7.0, 65_536.0, 1e12].map(ordered);
    let encoder = Encoder::Buckets(buckets(&boundaries));
    let ints = ints();
    let found = each_id(encoder, 9, ints.iter().copied().map(Value::Int));
    let as_float = each_id(encoder, 9, ints.iter().map(|&x| Value::F32(x as f32)));
    assert_eq!(found, as_float);
    let q16s: Vec<Q16> = ints.iter().map(|&x| Q16::from_bits(x as i32)).collect();
    let found = each_id(encoder, 9, q16s.iter().copied().map(Value::Q16));
    assert_eq!(found, each_id(encoder, 9, q16s.iter().map(|x| Value::F32(x.to_f32()))));
}

/// What torchfm's criteo.py does to an integer: `int(ln(v)²)`, or v − 2 for small ones.
#[test]
fn the_logarithm_squared_of_every_integer_is_that_of_python() {
    let starts: Vec<i32> =
        fixture("log_square.bin").as_chunks().0.iter().map(|&b| i32::from_le_bytes(b)).collect();
    // From 3 on the value is 1; below, every integer has its own: −1 gives −3, and so on.
    let boundaries: Vec<i32> = [-1, 0, 1, 2, 3].into_iter().chain(starts.iter().copied()).collect();
    let ids: Vec<u32> = [u32::MAX].into_iter().chain(0..boundaries.len() as u32).collect();
    let table = Buckets { right_closed: false, integers: true, boundaries: &boundaries, ids: &ids };
    let near = |start: &i32| [start - 1, *start, start.saturating_add(1)];
    let numbers: Vec<i32> = (-1..2_000).chain(starts.iter().flat_map(near)).collect();
    let found = each_id(Encoder::Buckets(table), 1_000, numbers.iter().map(|&x| Value::from(x)));
    for (&number, found) in numbers.iter().zip(found) {
        let value = if number > 2 { f64::from(number).ln().powi(2).floor() } else { f64::from(number) - 2.0 };
        // −1, 0, 1, 2 have the values −3, −2, −1, 0; 3 has 1.
        assert_eq!(i64::from(found) - 3, value as i64, "{number}");
    }
    let unseen =
        std::panic::catch_unwind(|| each_id(Encoder::Buckets(table), 1_000, [Value::Int(-2)].into_iter()));
    assert!(unseen.is_err(), "−2 was never seen");
}

#[test]
fn fractions_are_rounded_down_to_integers() {
    let boundaries = [-2, 0, 3];
    let table = Buckets { integers: true, ..buckets(&boundaries) };
    let values = [-2.5, -2.0, -0.25, 0.0, 2.99, 3.0, -1e30, 1e30, f32::INFINITY];
    let found = each_id(Encoder::Buckets(table), 4, values.into_iter().map(Value::F32));
    assert_eq!(found, [0, 1, 1, 2, 2, 3, 0, 3, 3]);
}

/// What a scaling takes of a number, in f64.
fn taken(of: Of, number: f64) -> f64 {
    match of {
        Of::Value => number,
        Of::Ln1p => number.ln_1p(),
        Of::Ln => number.ln(),
    }
}

/// Whether a bound is stated for the number.
fn is_bounded(of: Of, number: f32) -> bool {
    match of {
        Of::Value => true,
        Of::Ln1p => number >= 0.0,
        Of::Ln => number > 0.0,
    }
}

/// Each scaling with its offset, its scale, and the bound of its documentation.
fn scalings() -> Vec<(Of, f64, f64)> {
    let [min_max, standard] = ["min_max", "standard"].map(parameters);
    vec![
        (Of::Value, min_max[0], min_max[1]),
        (Of::Value, standard[0], 1.0 / standard[1]),
        (Of::Value, 0.0, 1.0),
        (Of::Value, -0.125, -3.5),
        (Of::Value, 1e6, 1e-9),
        (Of::Value, 2.0, 1234.5),
        (Of::Value, 0.0, 0.0),
        (Of::Ln1p, 0.0, 1.0),
        (Of::Ln1p, 7.5, 0.3),
        (Of::Ln1p, 1.0, -12.0),
        (Of::Ln, 0.0, 1.0),
        (Of::Ln, 6.5, 1.4),
        (Of::Ln, 1.0, -12.0),
    ]
}

fn wide(encoder: Encoder<'_>) -> FieldEncoder<'_> {
    FieldEncoder { unseen: Policy::Clamp, ..strict(encoder) }
}

#[test]
fn fixed_scaling_is_within_its_bound() {
    let floats: Vec<f32> = floats().into_iter().chain(measurements()).filter(|x| !x.is_nan()).collect();
    for (of, offset, scale) in scalings() {
        let scaling = Scaling::new(of, offset, scale, Q16::MIN, Q16::MAX).expect("ordinary numbers");
        let floats: Vec<f32> = floats.iter().copied().filter(|&x| is_bounded(of, x)).collect();
        let found = each_number::<Q16>(wide(Encoder::Number(scaling)), floats.iter().map(|&x| Value::F32(x)));
        let mut inside = 0;
        for (&value, found) in floats.iter().zip(found) {
            let x = taken(of, value.into());
            let exact = ((x - offset) * scale).clamp(-32768.0, 32768.0 - 1.0 / 65536.0);
            let bound = 2_f64.powi(-16)
                + ((x - offset) * scale).abs() * 2_f64.powi(-29)
                + scale.abs()
                    * 2_f64.powi(if of == Of::Value { -1 - i32::from(scaling.fraction) } else { -24 });
            assert!(
                (found.to_f64() - exact).abs() <= bound,
                "({value} − {offset}) · {scale}, {of:?}: {found:?}, {exact}"
            );
            inside += usize::from(exact.abs() < 32767.0);
        }
        assert!(inside > 4_000, "{inside} of {} inside of the range", floats.len());
    }
}

#[test]
fn integers_are_scaled_exactly_but_for_the_result() {
    let (offset, scale) = (1_000_000.0, 0.01);
    let scaling = Scaling::new(Of::Value, offset, scale, Q16::MIN, Q16::MAX).expect("ordinary numbers");
    let ints = ints();
    let found = each_number::<Q16>(wide(Encoder::Number(scaling)), ints.iter().map(|&x| Value::Int(x)));
    for (&number, found) in ints.iter().zip(found) {
        let exact = (number as f64 - offset) * scale;
        let bound = 2_f64.powi(-16) + exact.abs() * 2_f64.powi(-29);
        let exact = exact.clamp(-32768.0, 32768.0 - 1.0 / 65536.0);
        assert!((found.to_f64() - exact).abs() <= bound, "{number}: {found:?}, {exact}");
    }
}

#[test]
fn f32_scaling_is_the_two_operations_in_f32() {
    let floats: Vec<f32> = floats().into_iter().filter(|x| !x.is_nan()).collect();
    for (of, offset, scale) in scalings() {
        let (offset, scale) = (offset as f32, scale as f32);
        let scaling = F32Scaling { of, step: 0, offset, scale, min: f32::MIN, max: f32::MAX };
        let floats: Vec<f32> =
            floats.iter().copied().filter(|&x| x.is_finite() && is_bounded(of, x)).collect();
        let found =
            each_number::<f32>(wide(Encoder::F32Number(scaling)), floats.iter().map(|&x| Value::F32(x)));
        for (&value, found) in floats.iter().zip(found) {
            let x = match of {
                Of::Value => value,
                Of::Ln1p => libm::log1pf(value),
                Of::Ln => libm::logf(value),
            };
            let expected = ((x - offset) * scale).clamp(f32::MIN, f32::MAX);
            assert_eq!(found.to_bits(), expected.to_bits(), "{value}");
            if of != Of::Value {
                let exact = taken(of, value.into());
                assert!(
                    (f64::from(x) - exact).abs() <= exact.abs() * 2_f64.powi(-23),
                    "{value}: {x}, {exact}"
                );
            }
        }
    }
}

#[test]
fn results_are_rounded_to_steps() {
    let values = [-1.0, -0.051, -0.05, 0.0, 0.0499, 0.05, 0.149, 0.15, 0.374_99, 7.04];
    // Times 10 / 4, as whole numbers of 1/4: the nearest, halves up.
    let expected = [-10.0, -1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 4.0, 70.0].map(|quarters| quarters / 4.0);
    let fixed = Scaling::new(Of::Value, 0.0, 2.5, Q16::MIN, Q16::MAX).expect("ordinary numbers");
    let fixed = Encoder::Number(Scaling { step: 14, ..fixed });
    let float = F32Scaling { of: Of::Value, step: 14, offset: 0.0, scale: 2.5, min: -99.0, max: 99.0 };
    let values = || values.into_iter().map(Value::F32);
    let found = each_number::<Q16>(strict(fixed), values());
    assert_eq!(found.into_iter().map(Q16::to_f64).collect::<Vec<_>>(), expected);
    let found = each_number::<f32>(strict(Encoder::F32Number(float)), values());
    assert_eq!(found.into_iter().map(f64::from).collect::<Vec<_>>(), expected);
}

#[test]
fn what_has_no_logarithm_is_below_every_range() {
    let fixed = |of, scale| {
        Encoder::Number(
            Scaling::new(of, 0.0, scale, Q16::from_bits(-7), Q16::from_bits(9)).expect("ordinary"),
        )
    };
    let values = [Value::Int(-1), Value::Int(i64::MIN), Value::F32(f32::NEG_INFINITY)];
    for of in [Of::Ln1p, Of::Ln] {
        assert_eq!(each_number::<Q16>(wide(fixed(of, 1.0)), values.into_iter()), [Q16::from_bits(-7); 3]);
        assert_eq!(each_number::<Q16>(wide(fixed(of, -1.0)), values.into_iter()), [Q16::from_bits(9); 3]);
    }
    let zero = [Value::Int(0)].into_iter();
    assert_eq!(each_number::<Q16>(wide(fixed(Of::Ln, 1.0)), zero), [Q16::from_bits(-7)]);
}

#[test]
fn scalers_are_those_of_scikit_learn() {
    let values = measurements();
    let [min_max, standard] = ["min_max", "standard"].map(parameters);
    // scikit-learn's outputs are rounded to these steps in the fixtures.
    let cases = [
        (
            min_max[0],
            min_max[1],
            1.0 / 65_535.0,
            halfwords("min_max").into_iter().map(f64::from).collect::<Vec<_>>(),
        ),
        (
            standard[0],
            1.0 / standard[1],
            1.0 / 8_192.0,
            halfwords("standard").into_iter().map(|x| f64::from(x.cast_signed())).collect(),
        ),
    ];
    for (offset, scale, step, expected) in cases {
        let fixed = Scaling::new(Of::Value, offset, scale, Q16::MIN, Q16::MAX).expect("ordinary numbers");
        let fixed = each_number::<Q16>(strict(Encoder::Number(fixed)), values.iter().map(|&x| Value::F32(x)));
        let (offset, scale) = (offset as f32, scale as f32);
        let float = F32Scaling { of: Of::Value, step: 0, offset, scale, min: f32::MIN, max: f32::MAX };
        let float =
            each_number::<f32>(strict(Encoder::F32Number(float)), values.iter().map(|&x| Value::F32(x)));
        for (((fixed, float), expected), value) in fixed.into_iter().zip(float).zip(&expected).zip(&values) {
            let expected = expected * step;
            assert!((fixed.to_f64() - expected).abs() <= step / 2.0 + 1.1 * 2_f64.powi(-16), "{value}");
            assert!((f64::from(float) - expected).abs() <= step / 2.0 + 1e-6, "{value}");
        }
        assert_eq!(expected.len(), values.len());
    }
}

#[test]
fn numbers_outside_of_their_range_follow_the_policy() {
    let (min, max) = (Q16::from_bits(0), Q16::from_bits(1 << 16));
    let fixed = Encoder::Number(Scaling::new(Of::Value, 10.0, 0.1, min, max).expect("ordinary numbers"));
    let float = Encoder::F32Number(F32Scaling {
        of: Of::Value,
        step: 0,
        offset: 10.0,
        scale: 0.1,
        min: 0.0,
        max: 1.0,
    });
    let all = |unseen| {
        let field = |encoder| FieldEncoder {
            encoder,
            unseen,
            missing: Policy::Use(if matches!(encoder, Encoder::Number(_)) {
                1 << 15
            } else {
                0.5_f32.to_bits()
            }),
            sequence: SequenceRule::SINGLE,
        };
        let values = [9.0, 10.0, 20.0, 21.0, f32::NAN, f32::NEG_INFINITY, f32::INFINITY].map(Value::F32);
        let fixed = each_number::<Q16>(field(fixed), values.into_iter());
        let float = each_number::<f32>(field(float), values.into_iter());
        assert_eq!(fixed.iter().map(|x| x.to_f32()).collect::<Vec<_>>(), float);
        float
    };
    assert_eq!(all(Policy::Clamp), [0.0, 0.0, 1.0, 1.0, 0.5, 0.0, 1.0]);
    assert_eq!(all(Policy::Zero), [0.0, 0.0, 1.0, 0.0, 0.5, 0.0, 0.0]);
}
