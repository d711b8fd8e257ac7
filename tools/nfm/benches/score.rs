//! Rows per second on this machine, one row at a time, one thread: `cargo xtask bench`.
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "figures for people")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use embedded_nfm::Sample;
use nfm::{
    calibrate::bounds,
    container,
    convert::convert,
    dialect::{Hints, import},
    float_model::FloatModel,
    fold::fold,
    model_file::{Blob, Scorer},
    quantize::{DenseWeights, Embeddings, Layout, Options},
    rows::{Row, Rows},
    schema::Schema,
    synthetic::{SHAPES, model, rows},
};

/// One measurement lasts this long; the fastest of [`REPEATS`] counts, since noise only slows.
const MEASURE: Duration = Duration::from_millis(150);
const REPEATS: usize = 7;

fn main() {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/demo");
    let schema = Schema::read(format!("{demo}/schema.json").as_ref()).expect("the demo's schema");
    let hints = Hints { schema: Some(schema), ..Hints::default() };
    let flights = container::read(format!("{demo}/flights.pt").as_ref()).expect("the demo's checkpoint");
    let flights = import(flights, &hints).expect("a model");
    let heldout =
        Rows::open(format!("{demo}/heldout.ids.csv.gz").as_ref(), &flights.fields).expect("the demo's rows");
    let heldout: Vec<Row> = heldout.collect::<Result<_, _>>().expect("sound rows");

    println!("{:32}{:>14}{:>14}", "rows/s, batch 1, one thread", "fixed (int8)", "f32");
    line("demo: 10 fields + 3, k=16, [64, 32]", &flights, &heldout);
    for shape in SHAPES {
        let model = model(shape, 1);
        let rows = rows(&model, 4096, 2);
        let title = format!("{}: 10 fields, 5,382 rows, k={}, {:?}", shape.name, shape.dim, shape.hidden);
        line(&title, &model, &rows);
    }
}

fn line(title: &str, model: &FloatModel, rows: &[Row]) {
    let float = Options { embeddings: Embeddings::F32, dense: DenseWeights::F32, ..Options::default() };
    // As the converter advises for hosts.
    let fixed = Options { layout: Layout::Scalar, ..Options::default() };
    let [fixed, float] = [fixed, float].map(|options| {
        let ranges = bounds(model, &fold(model));
        speed(&convert("bench", title, model, Some(ranges), options).expect("a model").blob, rows)
    });
    println!("{title:42}{fixed:>10.0}{float:>14.0}");
}

/// Rows a second of the device library's own call, the samples prepared.
fn speed(blob: &Blob, rows: &[Row]) -> f64 {
    match Scorer::parse(blob).expect("a sound model") {
        Scorer::Fixed(model, mut scratch) => {
            let dense: Vec<Vec<_>> = rows
                .iter()
                .map(|row| {
                    row.dense.iter().map(|x| embedded_nfm::Q16::from_bits((x * 65536.0) as i32)).collect()
                })
                .collect();
            best(rows.len(), |i| {
                let sample = Sample::new(&rows[i].ids).with_dense(&dense[i]);
                black_box(model.score(black_box(&sample), &mut scratch).expect("a legal row"));
            })
        }
        Scorer::F32(model, mut scratch) => {
            let dense: Vec<Vec<f32>> =
                rows.iter().map(|row| row.dense.iter().map(|x| *x as f32).collect()).collect();
            best(rows.len(), |i| {
                let sample = Sample::new(&rows[i].ids).with_dense(&dense[i]);
                black_box(model.score(black_box(&sample), &mut scratch).expect("a legal row"));
            })
        }
        Scorer::Oracle(_) => unreachable!("a blob is no checkpoint"),
    }
}

fn best(rows: usize, mut score: impl FnMut(usize)) -> f64 {
    let mut best = 0.0_f64;
    for _ in 0..REPEATS {
        let (start, mut count) = (Instant::now(), 0_usize);
        while start.elapsed() < MEASURE {
            (0..rows).for_each(&mut score);
            count += rows;
        }
        best = best.max(count as f64 / start.elapsed().as_secs_f64());
    }
    best
}
