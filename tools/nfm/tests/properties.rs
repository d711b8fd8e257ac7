//! Properties of the steps from a float model to a `.nfm` file, on random models of every shape.
//!
//! `NFM_SEED` chooses other models.

use nfm::{
    calibrate::{Calibration, DENSE_BOUND, Ranges, bounds},
    convert::convert,
    float_model::{Activation, BatchNorm, Dense, FloatModel, Link, Stage},
    fold::{Folded, fold},
    model_file::Scorer,
    quantize::{Activations, DenseWeights, Embeddings, Layout, Options, Scales},
    rows::{Row, Run},
    schema::{Field, FieldKind, Pooling, Sequence, Weights, lay_out},
    synthetic::Random,
};

fn random() -> Random {
    let seed = std::env::var("NFM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("NFM_SEED={seed}");
    Random::new(seed)
}

fn chance(random: &mut Random, percent: u32) -> bool {
    random.below(100) < percent
}

fn between(random: &mut Random, least: u32, most: u32) -> usize {
    (least + random.below(most - least + 1)) as usize
}

fn numbers(random: &mut Random, len: usize, scale: f64) -> Vec<f64> {
    (0..len).map(|_| scale * random.unit()).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest f32 is what is asked for")]
fn floats(random: &mut Random, len: usize, scale: f64) -> Vec<f32> {
    numbers(random, len, scale).into_iter().map(|x| x as f32).collect()
}

fn activation(random: &mut Random, width: usize) -> Activation {
    match random.below(7) {
        0 => Activation::Identity,
        1 => Activation::Relu,
        2 => Activation::LeakyRelu(random.unit()),
        3 => Activation::PRelu(numbers(random, width, 1.0)),
        4 => Activation::Sigmoid,
        5 => Activation::Tanh,
        _ => Activation::Elu(1.0 + random.unit()),
    }
}

/// γ of either sign.
fn batch_norm(random: &mut Random, width: usize) -> Stage {
    Stage::BatchNorm(BatchNorm {
        gamma: numbers(random, width, 2.0),
        beta: numbers(random, width, 1.0),
        mean: numbers(random, width, 1.0),
        variance: numbers(random, width, 1.0).into_iter().map(f64::abs).collect(),
        eps: 0.1,
    })
}

fn dense(random: &mut Random, inputs: usize, outputs: usize) -> Stage {
    let scale = 1.5 / f64::from(u32::try_from(inputs).unwrap()).sqrt();
    let weights = numbers(random, outputs * inputs, scale);
    Stage::Dense(Dense { weights, bias: numbers(random, outputs, 0.5) })
}

/// Dense, batch norm and activation stages in any order, each there or not.
fn stages(random: &mut Random, dim: usize, dense_inputs: usize, layers: usize) -> Vec<Stage> {
    let mut stages = Vec::new();
    if chance(random, 40) {
        stages.push(batch_norm(random, dim));
    }
    if dense_inputs > 0 || chance(random, 50) {
        stages.push(Stage::Concat);
    }
    let mut width = dim + dense_inputs;
    if chance(random, 15) {
        stages.push(batch_norm(random, width));
    }
    if chance(random, 10) {
        stages.push(Stage::Activation(activation(random, width)));
    }
    for _ in 0..layers {
        let out = between(random, 1, 9);
        stages.push(dense(random, width, out));
        width = out;
        if chance(random, 30) {
            stages.push(batch_norm(random, width));
        }
        if chance(random, 80) {
            stages.push(Stage::Activation(activation(random, width)));
        }
        if chance(random, 30) {
            stages.push(batch_norm(random, width));
        }
        if chance(random, 10) {
            stages.push(Stage::Activation(activation(random, width)));
        }
    }
    stages.push(dense(random, width, 1));
    if chance(random, 20) {
        stages.push(batch_norm(random, 1));
    }
    stages
}

/// Columns of ids with values, or of every other kind, some with shared tables; and dense inputs.
fn fields(random: &mut Random, dense_inputs: usize) -> Vec<Field> {
    let tables = between(random, 1, 4);
    let bound = chance(random, 60);
    let mut fields: Vec<Field> = Vec::new();
    for i in 0..tables {
        let rows = 1 + random.below(6);
        let kind = match random.below(4) {
            _ if !bound => FieldKind::Ids { rows },
            0 => FieldKind::Scaled,
            1 => FieldKind::Sequence(sequence(random, rows)),
            _ => FieldKind::Id { rows },
        };
        let owner = fields.iter().find(|owner| owner.table.is_none() && owner.kind != FieldKind::Scaled);
        let shares = bound && kind != FieldKind::Scaled && chance(random, 30);
        let table = owner.filter(|_| shares).map(|owner| owner.name.clone());
        fields.push(Field { table, ..Field::new(format!("f{i}"), kind) });
    }
    fields.extend((0..dense_inputs).map(|i| Field::new(format!("d{i}"), FieldKind::Dense)));
    lay_out(&mut fields).unwrap();
    fields
}

fn sequence(random: &mut Random, rows: u32) -> Sequence {
    let poolings = [Pooling::Sum, Pooling::Mean, Pooling::SqrtN, Pooling::Max];
    let (pooling, linear) = (poolings[random.below(4) as usize], poolings[random.below(4) as usize]);
    Sequence { rows, pooling, linear, max_len: Some(3), padding: None, weights: Weights::Raw }
}

fn takes_values(model: &FloatModel) -> bool {
    model.fields.iter().any(|field| !matches!(field.kind, FieldKind::Id { .. } | FieldKind::Dense))
}

fn model(random: &mut Random) -> FloatModel {
    let dense_inputs = between(random, 0, 2);
    let fields = fields(random, dense_inputs);
    let rows = usize::try_from(nfm::schema::total_rows(&fields)).unwrap();
    let dim = between(random, 1, 9);
    let layers = between(random, 0, 3);
    let active = |field: &Field| match field.kind {
        FieldKind::Dense => 0,
        FieldKind::Id { .. } | FieldKind::Scaled => 1,
        FieldKind::Sequence(sequence) => sequence.max_len.unwrap(),
        FieldKind::Ids { .. } => 2,
    };
    let joins = dense_inputs > 0 && chance(random, 80);
    let mut model = FloatModel {
        dialect: "test",
        max_active: fields.iter().map(active).sum(),
        max_value: 1.0,
        bias: random.unit(),
        linear: floats(random, rows, 0.5),
        dense_linear: numbers(random, dense_inputs, 0.5),
        dim,
        embeddings: floats(random, rows * dim, 1.0),
        stages: stages(random, dim, if joins { dense_inputs } else { 0 }, layers),
        link: Link::Identity,
        parameters: 1,
        assumptions: vec![],
        skipped: vec![],
        fields,
    };
    if takes_values(&model) {
        model.max_value += random.unit().abs();
    }
    if !joins {
        model.stages.retain(|stage| *stage != Stage::Concat);
    }
    model.check("random").unwrap();
    model
}

/// A row that the model accepts, within its limits; dense inputs of up to `dense` in magnitude.
fn row(random: &mut Random, model: &FloatModel, dense: f64) -> Row {
    let mut row = Row { dense: numbers(random, model.dense_linear.len(), dense), ..Row::default() };
    let mut values = Vec::new();
    for field in &model.fields {
        let (len, weighted) = match field.kind {
            FieldKind::Dense => continue,
            FieldKind::Id { .. } => (1, false),
            FieldKind::Scaled => (1, true),
            FieldKind::Ids { .. } => (between(random, 0, 2), true),
            FieldKind::Sequence(sequence) => {
                let len = between(random, 1, 3);
                let Sequence { pooling, linear, .. } = sequence;
                row.sequences.push(Run { start: row.ids.len(), len, pooling, linear, is_sequence: true });
                (len, chance(random, 50))
            }
        };
        row.ids.extend((0..len).map(|_| field.first + random.below(field.kind.rows())));
        values.extend((0..len).map(|_| if weighted { model.max_value * random.unit() } else { 1.0 }));
    }
    row.values = takes_values(model).then_some(values);
    model.accepts(&row).unwrap();
    row
}

fn rows(random: &mut Random, model: &FloatModel, count: usize, dense: f64) -> Vec<Row> {
    (0..count).map(|_| row(random, model, dense)).collect()
}

fn seen(model: &FloatModel, folded: &Folded, rows: &[Row]) -> Ranges {
    let mut calibration = Calibration::new(model, folded);
    rows.iter().for_each(|row| calibration.see(row));
    calibration.finish().unwrap()
}

fn folded_score(model: &FloatModel, folded: &Folded, row: &Row) -> f64 {
    let input = model.bi_interaction(row).into_iter().chain(row.dense.iter().copied()).collect();
    folded.run(input, |_, _| {}) + folded.bias - model.bias + model.first_order(row)
}

#[test]
fn folding_changes_no_score() {
    let mut random = random();
    let mut diagonal = 0;
    for _ in 0..2000 {
        let model = model(&mut random);
        let folded = fold(&model);
        diagonal += usize::from(folded.layers.len() > 3);
        for row in rows(&mut random, &model, 4, 2.0) {
            let (got, want) = (folded_score(&model, &folded, &row), model.score(&row));
            assert!((got - want).abs() <= 1e-12 * want.abs().max(1.0), "{got}, expected {want}: {model:?}");
        }
    }
    assert!(diagonal > 20, "an activation after another was hardly ever there: {diagonal}");
}

#[test]
fn no_row_exceeds_the_bounds() {
    let mut random = random();
    let within = |seen: &[f64], bound: &[f64]| {
        assert_eq!(seen.len(), bound.len());
        assert!(
            seen.iter().zip(bound).all(|(seen, bound)| *seen <= bound * (1.0 + 1e-12)),
            "{seen:?} {bound:?}"
        );
    };
    for _ in 0..400 {
        let model = model(&mut random);
        let folded = fold(&model);
        let rows = rows(&mut random, &model, 50, DENSE_BOUND);
        let (seen, bounds) = (seen(&model, &folded, &rows), bounds(&model, &folded));
        within(&seen.z, &bounds.z);
        within(&seen.dense, &bounds.dense);
        seen.sums.iter().zip(&bounds.sums).for_each(|(seen, bounds)| within(seen, bounds));
    }
}

/// How far the part of the score after z can be off, when each layer's sums are off by `part` of the largest magnitude that
/// they can have, and the error of its inputs goes through.
fn error_bound(model: &FloatModel, folded: &Folded, dense: f64, part: f64) -> f64 {
    let z = bounds(model, folded).z;
    let mut input: Vec<f64> = z.into_iter().chain(model.dense_linear.iter().map(|_| dense)).collect();
    let mut error: Vec<f64> = input.iter().map(|x| part * x).collect();
    let dot = |w: &[f64], x: &[f64]| w.iter().zip(x).map(|(w, x)| w.abs() * x).sum::<f64>();
    for layer in &folded.layers {
        let (mut outputs, mut errors) = (Vec::new(), Vec::new());
        let rows = layer.dense.weights.chunks_exact(input.len()).zip(&layer.dense.bias);
        for (lane, (w, b)) in rows.enumerate() {
            let sum = b.abs() + dot(w, &input);
            let f = |x| layer.activation.apply(lane, x);
            let slope = if let Activation::Elu(alpha) = layer.activation { alpha.max(1.0) } else { 1.0 };
            let largest = f(sum).abs().max(f(-sum).abs());
            outputs.push(largest);
            // Half a step of ±127 for [−1, 1].
            let curved =
                matches!(layer.activation, Activation::Sigmoid | Activation::Tanh | Activation::Elu(_));
            let step = if curved { 0.5 / 127.0 } else { 0.0 };
            errors.push(step + (slope * (dot(w, &error) + part * sum)).min(2.0 * largest) + part * largest);
        }
        (input, error) = (outputs, errors);
    }
    dot(&folded.head, &error) + part * dot(&folded.head, &input)
}

/// What a trainer, a bug or a joker can do to a model.
fn spoil(random: &mut Random, model: &mut FloatModel) {
    let power = |random: &mut Random| 10.0_f64.powf(6.0 * random.unit());
    if chance(random, 40) {
        #[expect(clippy::cast_possible_truncation, reason = "1e±6 fits")]
        let scale = power(random) as f32;
        model.embeddings.iter_mut().for_each(|v| *v *= scale);
    }
    if chance(random, 20) {
        let lane = random.below(u32::try_from(model.dim).unwrap()) as usize;
        model.embeddings.iter_mut().skip(lane).step_by(model.dim).for_each(|v| *v = 0.0);
    }
    if chance(random, 5) {
        model.embeddings.fill(0.0);
    }
    if chance(random, 5) {
        model.linear.fill(0.0);
    }
    for stage in &mut model.stages {
        let Stage::Dense(dense) = stage else { continue };
        if chance(random, 20) {
            let scale = power(random);
            dense.weights.iter_mut().for_each(|w| *w *= scale);
        }
        if chance(random, 20) {
            let inputs = dense.inputs();
            dense.weights[..inputs].fill(0.0);
        }
        if chance(random, 20) {
            let scale = power(random);
            dense.bias.iter_mut().for_each(|b| *b *= scale);
        }
    }
}

fn options(random: &mut Random) -> Options {
    let scales = [Scales::Table, Scales::Lane, Scales::Field, Scales::Row, Scales::LaneRow];
    Options {
        embeddings: if chance(random, 15) { Embeddings::F32 } else { Embeddings::I8 },
        dense: if chance(random, 15) { DenseWeights::F32 } else { DenseWeights::I8 },
        activations: if chance(random, 50) { Activations::I8 } else { Activations::I16 },
        scales: scales[random.below(5) as usize],
        layout: if chance(random, 50) { Layout::Scalar } else { Layout::Dsp },
        ..Options::default()
    }
}

#[test]
fn any_model_is_refused_with_a_remedy_or_scores_near_the_oracle() {
    let mut random = random();
    let (mut refused, mut scored) = (0, 0);
    for number in 0..4000 {
        let mut model = model(&mut random);
        spoil(&mut random, &mut model);
        let options = options(&mut random);
        let folded = fold(&model);
        let rows = rows(&mut random, &model, 20, 2.0);
        let ranges = chance(&mut random, 70).then(|| seen(&model, &folded, &rows));
        let calibrated = ranges.is_some();
        let converted = match convert("random", "random.pt", &model, ranges, options) {
            Ok(converted) => converted,
            Err(error) => {
                let message = error.to_string();
                assert!(["f32", "--", "down"].iter().any(|remedy| message.contains(remedy)), "{message}");
                refused += 1;
                continue;
            }
        };
        let mut scorer = Scorer::parse(&converted.blob).unwrap();
        let dense = if calibrated { 2.0 } else { DENSE_BOUND };
        let part = if options.activations == Activations::I8 { 0.2 } else { 0.05 };
        let first: f64 = model.linear.iter().map(|w| f64::from(w.abs())).fold(0.0, f64::max);
        let bound = error_bound(&model, &folded, dense, part) + 0.01 * first + 1e-3;
        for row in &rows {
            let want = model.score(row);
            if want.abs() > 32767.0 {
                continue;
            }
            let got = scorer.score(row).unwrap().raw;
            // The f32 path gives a score as an f32, 0.002 apart from 16,384 on.
            let bound = bound + want.abs() * f64::from(f32::EPSILON);
            assert!(
                (got - want).abs() <= bound,
                "model {number}: {got}, expected {want} ± {bound}: {options:?} {model:#?}"
            );
            scored += 1;
        }
    }
    println!("{refused} models refused, {scored} rows scored");
    assert!(scored > 40_000 && refused > 100, "{refused} models refused, {scored} rows scored");
}

/// A model of eight one-hot lanes, sixteen relu outputs and a head of ones, of which the test spoils one thing.
fn sound(random: &mut Random) -> FloatModel {
    let mut fields: Vec<Field> =
        (0..4).map(|i| Field::new(format!("f{i}"), FieldKind::Id { rows: 20 })).collect();
    lay_out(&mut fields).unwrap();
    let positive = |random: &mut Random, len, scale| {
        numbers(random, len, scale).into_iter().map(f64::abs).collect::<Vec<_>>()
    };
    FloatModel {
        dialect: "test",
        fields,
        max_active: 4,
        max_value: 1.0,
        bias: 0.0,
        linear: vec![0.0; 80],
        dense_linear: vec![],
        dim: 8,
        embeddings: floats(random, 80 * 8, 0.5),
        stages: vec![
            Stage::Dense(Dense { weights: numbers(random, 16 * 8, 1.0), bias: numbers(random, 16, 0.1) }),
            Stage::Activation(Activation::Relu),
            Stage::Dense(Dense { weights: positive(random, 16, 1.0), bias: vec![0.0] }),
        ],
        link: Link::Identity,
        parameters: 1,
        assumptions: vec![],
        skipped: vec![],
    }
}

/// Root of the mean squared error of a conversion, as a part of the scores' standard deviation.
fn relative_error(random: &mut Random, model: &FloatModel, options: Options) -> f64 {
    let folded = fold(model);
    let rows = rows(random, model, 200, 2.0);
    let ranges = seen(model, &folded, &rows);
    let converted = convert("test", "test.pt", model, Some(ranges), options).unwrap();
    let mut scorer = Scorer::parse(&converted.blob).unwrap();
    let want: Vec<f64> = rows.iter().map(|row| model.score(row)).collect();
    let got: Vec<f64> = rows.iter().map(|row| scorer.score(row).unwrap().raw).collect();
    let mean = want.iter().sum::<f64>() / 200.0;
    let spread: f64 = want.iter().map(|want| (want - mean).powi(2)).sum();
    let error: f64 = want.iter().zip(&got).map(|(want, got)| (want - got).powi(2)).sum();
    (error / spread).sqrt()
}

fn every_fixed_option() -> Vec<Options> {
    let scales = [Scales::Table, Scales::Lane, Scales::Field, Scales::Row, Scales::LaneRow];
    let activations = [Activations::I8, Activations::I16];
    let option =
        |scales| activations.map(|activations| Options { scales, activations, ..Options::default() });
    scales.into_iter().flat_map(option).collect()
}

fn stays_precise(what: &str, spoil: impl Fn(&mut FloatModel)) {
    for options in every_fixed_option() {
        let mut random = random();
        let mut model = sound(&mut random);
        spoil(&mut model);
        let error = relative_error(&mut random, &model, options);
        let bound = if options.activations == Activations::I8 { 0.08 } else { 0.03 };
        assert!(error <= bound, "{what}: {error} {options:?}");
    }
}

fn first_dense(model: &mut FloatModel) -> &mut Dense {
    match model.stages.iter_mut().find(|stage| matches!(stage, Stage::Dense(_))) {
        Some(Stage::Dense(dense)) => dense,
        _ => panic!("no dense stage"),
    }
}

#[test]
fn one_odd_part_does_not_make_the_others_coarse() {
    stays_precise("nothing odd", |_| {});
    stays_precise("a dead output", |model| {
        let dense = first_dense(model);
        dense.weights[..8].fill(0.0);
        dense.bias[0] = 0.01;
    });
    stays_precise("an output that is nearly dead", |model| {
        let dense = first_dense(model);
        dense.weights[..8].iter_mut().for_each(|w| *w *= 1e-6);
        dense.bias[0] = 0.5;
    });
    stays_precise("a dead lane whose batch norm has no variance", |model| {
        model.embeddings.iter_mut().step_by(8).for_each(|v| *v = 0.0);
        let mut variance = vec![0.05; 8];
        variance[0] = 0.0;
        let (gamma, beta, mean) = (vec![1.0; 8], vec![0.1; 8], vec![0.0; 8]);
        model.stages.insert(0, Stage::BatchNorm(BatchNorm { gamma, beta, mean, variance, eps: 1e-5 }));
    });
    stays_precise("tiny embeddings and large weights", |model| {
        model.embeddings.iter_mut().for_each(|v| *v *= 1e-6);
        first_dense(model).weights.iter_mut().for_each(|w| *w *= 1e12);
    });
    stays_precise("large embeddings and tiny weights", |model| {
        model.embeddings.iter_mut().for_each(|v| *v *= 1e6);
        first_dense(model).weights.iter_mut().for_each(|w| *w *= 1e-12);
    });
}

#[test]
fn a_constant_output_beside_a_steep_one_keeps_its_value() {
    for f in [Activation::Tanh, Activation::Sigmoid] {
        let mut random = random();
        let mut model = sound(&mut random);
        model.linear = floats(&mut random, 80, 1.0);
        let dense = first_dense(&mut model);
        dense.weights[..8].fill(0.0);
        dense.bias[0] = 0.25;
        dense.weights[8..16].iter_mut().for_each(|w| *w *= 3e4);
        let constant = f.apply(0, 0.25);
        model.stages[1] = Stage::Activation(f);
        let mut head = vec![0.0; 16];
        head[0] = 1.0;
        model.stages[2] = Stage::Dense(Dense { weights: head, bias: vec![0.0] });
        let converted = convert("test", "test.pt", &model, None, Options::default()).unwrap();
        let row = row(&mut random, &model, 0.0);
        let got = Scorer::parse(&converted.blob).unwrap().score(&row).unwrap().raw;
        let want = constant + model.first_order(&row);
        assert!((got - want).abs() < 0.01, "{got}, expected {want}");
    }
}

#[test]
fn an_elu_of_large_alpha_keeps_its_negative_side() {
    let mut random = random();
    let mut model = sound(&mut random);
    model.stages[1] = Stage::Activation(Activation::Elu(3.5));
    first_dense(&mut model).bias.iter_mut().for_each(|b| *b -= 1.0);
    let error = relative_error(&mut random, &model, Options::default());
    assert!(error <= 0.03, "{error}");
}

#[test]
fn the_widest_and_deepest_legal_models_convert_and_the_next_are_refused() {
    let mut random = random();
    let mut try_shape = |dim: usize, widths: &[usize]| {
        let mut model = sound(&mut random);
        model.dim = dim;
        model.embeddings = floats(&mut random, 80 * dim, 0.1);
        model.stages.clear();
        let mut width = dim;
        for out in widths.iter().chain(&[1]) {
            model.stages.push(dense(&mut random, width, *out));
            width = *out;
            if *out > 1 {
                model.stages.push(Stage::Activation(Activation::Relu));
            }
        }
        model.check("shape").unwrap();
        convert("shape", "shape.pt", &model, None, Options::default()).map_err(|e| e.to_string())
    };
    for (dim, widths) in [(4096, &[2][..]), (2, &[4096]), (3, &[3; 8]), (4096, &[])] {
        try_shape(dim, widths).unwrap();
    }
    assert!(try_shape(2, &[2; 9]).unwrap_err().contains("9 hidden layers"));
    assert!(try_shape(4097, &[2]).unwrap_err().contains("at most 4096"));
    assert!(try_shape(2, &[4097]).unwrap_err().contains("4097"));
}
