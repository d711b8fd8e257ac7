//! How good scores are, and how far two models' scores are apart.
//!
//! No metric is computed from a NaN, an infinity or a label that it has no meaning for: it is `None` then, and
//! [`Metrics::absent`] has the reason.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{encoding::raw::FieldCounts, schema::Task};

/// One row's label and score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The label, where the row has one.
    pub label: Option<f64>,
    /// The score before the link.
    pub raw: f64,
    /// The score after the link: the probability, or for a regression the value itself.
    pub prediction: f64,
}

/// A model's metrics and, where there is a reference, the differences to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// The model's metrics.
    pub metrics: Metrics,
    /// The reference's metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<Metrics>,
    /// How far the raw scores are apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differences: Option<Differences>,
    /// The model's metrics less the reference's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deltas: Option<Deltas>,
    /// Of rows with raw values, how many of each field were what they were not in training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skew: Option<Vec<FieldCounts>>,
}

impl Evaluation {
    /// Evaluates the scores of a model and of the reference on the same rows.
    #[must_use]
    pub fn new(task: Task, rows: &[Scored], reference: Option<&[Scored]>) -> Self {
        let raw = |rows: &[Scored]| rows.iter().map(|row| row.raw).collect::<Vec<_>>();
        let metrics_of_reference = reference.map(|reference| metrics(task, reference));
        let metrics = metrics(task, rows);
        Self {
            differences: reference.map(|reference| differences(&raw(rows), &raw(reference))),
            deltas: metrics_of_reference.as_ref().map(|reference| Deltas::new(&metrics, reference)),
            reference: metrics_of_reference,
            skew: None,
            metrics,
        }
    }
}

/// How good scores are.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Metrics {
    /// How many rows there are.
    pub rows: usize,
    /// How many of them have a label; the metrics are over these.
    pub labelled: usize,
    /// Area under the ROC curve of the raw scores: the share of pairs of a positive and a negative row in which the
    /// positive one scores higher, a tie counting half. Exact.
    pub auc: Option<f64>,
    /// Mean logistic loss in nats, from the raw scores.
    ///
    /// Nothing is clipped: a raw score of −800 on a positive row costs 800, where a library that takes probabilities
    /// and clips them at 10⁻¹⁵ says 34.5.
    pub log_loss: Option<f64>,
    /// Root of the mean squared difference between prediction and label; for a binary task the labels are 0 and 1.
    pub rmse: Option<f64>,
    /// The same after the predictions of a regression are clipped to the range of the labels, as the paper on NFM
    /// reports it for labels of ±1.
    pub rmse_clipped: Option<f64>,
    /// Why a metric is `None`, by its name.
    pub absent: BTreeMap<&'static str, String>,
}

/// A model's metrics less the reference's; `None` where one of them is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Deltas {
    /// Above 0 the model ranks better.
    pub auc: Option<f64>,
    /// Below 0 the model is better.
    pub log_loss: Option<f64>,
    /// Below 0 the model is better.
    pub rmse: Option<f64>,
    /// Below 0 the model is better.
    pub rmse_clipped: Option<f64>,
}

impl Deltas {
    /// `model` less `reference`.
    #[must_use]
    pub fn new(model: &Metrics, reference: &Metrics) -> Self {
        let less = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a - b);
        Self {
            auc: less(model.auc, reference.auc),
            log_loss: less(model.log_loss, reference.log_loss),
            rmse: less(model.rmse, reference.rmse),
            rmse_clipped: less(model.rmse_clipped, reference.rmse_clipped),
        }
    }
}

/// How far two models' raw scores of the same rows are apart.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Differences {
    /// How many rows were compared.
    pub rows: usize,
    /// Root of the mean squared difference.
    pub rms: Option<f64>,
    /// The smallest absolute difference that at least 99 % of the rows do not exceed.
    pub p99: Option<f64>,
    /// The largest absolute difference.
    pub max: Option<f64>,
    /// Why the differences are `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
}

/// Computes the metrics of `rows`.
///
/// AUC and log-loss need labels of two classes, either {0, 1} or {−1, 1}; log-loss also needs a binary task.
///
/// ```
/// use nfm::{evaluate::{Scored, metrics}, schema::Task};
///
/// let row = |label, raw| Scored { label: Some(label), raw, prediction: raw };
/// let found = metrics(Task::Regression, &[row(1.0, 0.5), row(-1.0, -1.5), row(1.0, 1.0)]);
/// assert_eq!(found.auc, Some(1.0));
/// assert!(found.absent["log_loss"].contains("regression"));
/// ```
#[must_use]
pub fn metrics(task: Task, rows: &[Scored]) -> Metrics {
    let labelled = rows.iter().filter(|row| row.label.is_some()).count();
    let mut absent = BTreeMap::new();
    let mut keep = |name, metric: Result<f64, String>| metric.map_err(|why| absent.insert(name, why)).ok();
    let checked = check(rows);
    let classes = checked.clone().and_then(|rows| classes(&rows));
    let auc = keep("auc", classes.clone().and_then(|rows| auc(&rows)));
    let (log_loss, rmse, rmse_clipped) = match task {
        Task::Binary => {
            let probabilities = classes.clone().and_then(|rows| {
                let outside = rows.iter().find(|row| !(0.0..=1.0).contains(&row.prediction));
                match outside {
                    Some(row) => Err(format!("expected probabilities, found {:?}", row.prediction)),
                    None => Ok(rows),
                }
            });
            (
                keep("log_loss", classes.map(|rows| log_loss(&rows)).and_then(representable)),
                keep("rmse", probabilities.and_then(|rows| root_mean_square(errors(&rows)))),
                keep("rmse_clipped", Err("only a regression clips; a probability is in range".into())),
            )
        }
        Task::Regression => (
            keep("log_loss", Err("the task is a regression".into())),
            keep("rmse", checked.clone().and_then(|rows| root_mean_square(errors(&rows)))),
            keep("rmse_clipped", checked.and_then(|rows| root_mean_square(errors(&clipped(rows))))),
        ),
    };
    Metrics { rows: rows.len(), labelled, auc, log_loss, rmse, rmse_clipped, absent }
}

/// Compares the raw scores of two models on the same rows.
#[must_use]
pub fn differences(a: &[f64], b: &[f64]) -> Differences {
    match compare(a, b) {
        Ok(differences) => differences,
        Err(why) => Differences { absent: Some(why), ..Differences::default() },
    }
}

fn compare(a: &[f64], b: &[f64]) -> Result<Differences, String> {
    if a.len() != b.len() {
        return Err(format!("expected scores of the same rows, found {} and {}", a.len(), b.len()));
    }
    for (row, value) in a.iter().zip(b).enumerate().flat_map(|(row, (a, b))| [(row, a), (row, b)]) {
        if !value.is_finite() {
            return Err(format!("expected finite scores, found {value} in row {}", row.saturating_add(1)));
        }
    }
    let mut distances: Vec<f64> = a.iter().zip(b).map(|(a, b)| (a - b).abs()).collect();
    let rows = distances.len();
    let rms = root_mean_square(distances.iter().copied())?;
    distances.sort_unstable_by(f64::total_cmp);
    // The nearest rank ⌈99 n / 100⌉ = n − ⌊n / 100⌋, from 1.
    let p99 = (rows - rows / 100).checked_sub(1).and_then(|index| distances.get(index)).copied();
    Ok(Differences { rows, rms: Some(rms), p99, max: distances.last().copied(), absent: None })
}

/// A row that has a label, all of it finite.
#[derive(Clone, Copy)]
struct Checked {
    label: f64,
    raw: f64,
    prediction: f64,
}

fn check(rows: &[Scored]) -> Result<Vec<Checked>, String> {
    let mut checked = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        let Scored { label: Some(label), raw, prediction } = *row else { continue };
        for (name, value) in [("label", label), ("raw score", raw), ("prediction", prediction)] {
            if !value.is_finite() {
                let row = index.saturating_add(1);
                return Err(format!("expected finite numbers, found a {name} of {value} in row {row}"));
            }
        }
        checked.push(Checked { label, raw, prediction });
    }
    if checked.is_empty() {
        return Err("expected rows with labels, found none".into());
    }
    Ok(checked)
}

/// The rows with labels of 0 and 1; of −1 and 1 the former becomes 0.
fn classes(rows: &[Checked]) -> Result<Vec<Checked>, String> {
    let among = |negative: f64| {
        let is = |label: f64, class: f64| label.total_cmp(&class).is_eq();
        move |row: &&Checked| !is(row.label + 0.0, negative) && !is(row.label, 1.0) // −0 + 0 = 0
    };
    if let (Some(row), Some(_)) = (rows.iter().find(among(0.0)), rows.iter().find(among(-1.0))) {
        return Err(format!(
            "expected labels of two classes, 0 and 1 or -1 and 1, found also {:?}",
            row.label
        ));
    }
    Ok(rows.iter().map(|row| Checked { label: if row.label > 0.0 { 1.0 } else { 0.0 }, ..*row }).collect())
}

fn auc(rows: &[Checked]) -> Result<f64, String> {
    // + 0 makes −0 tie with 0.
    let mut scores: Vec<(f64, bool)> = rows.iter().map(|row| (row.raw + 0.0, row.label > 0.0)).collect();
    scores.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut positives, mut negatives) = (0u128, 0u128);
    // Twice the pairs that are in order. There are at most 2¹²⁶ pairs: each factor counts rows, of which there are
    // less than 2⁶⁴ together.
    let mut ordered = 0u128;
    for tied in scores.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let (mut tied_positives, mut tied_negatives) = (0u128, 0u128);
        for (_, positive) in tied {
            *if *positive { &mut tied_positives } else { &mut tied_negatives } += 1;
        }
        ordered += tied_positives * (2 * negatives + tied_negatives);
        positives += tied_positives;
        negatives += tied_negatives;
    }
    if positives == 0 || negatives == 0 {
        let class = if positives == 0 { "negative" } else { "positive" };
        return Err(format!("expected rows of both classes, found only {class} ones"));
    }
    Ok(ordered as f64 / (2 * positives * negatives) as f64)
}

/// The mean of ln(1 + eˣ) − y x.
fn log_loss(rows: &[Checked]) -> f64 {
    // max(x, 0) − y x + ln(1 + e^−|x|): no exponent is positive, so nothing overflows; and the difference is formed
    // by cases, because it would cancel.
    let loss = |row: &Checked| {
        let wrong = if row.label > 0.0 { (-row.raw).max(0.0) } else { row.raw.max(0.0) };
        wrong + (-row.raw.abs()).exp().ln_1p()
    };
    rows.iter().map(loss).sum::<f64>() / rows.len() as f64
}

fn errors(rows: &[Checked]) -> impl Iterator<Item = f64> + Clone {
    rows.iter().map(|row| row.prediction - row.label)
}

/// The rows with the predictions in the range of the labels.
fn clipped(mut rows: Vec<Checked>) -> Vec<Checked> {
    let low = rows.iter().map(|row| row.label).fold(f64::INFINITY, f64::min);
    let high = rows.iter().map(|row| row.label).fold(f64::NEG_INFINITY, f64::max);
    for row in &mut rows {
        row.prediction = row.prediction.max(low).min(high);
    }
    rows
}

fn root_mean_square(values: impl Iterator<Item = f64> + Clone) -> Result<f64, String> {
    // The squares of values above 10¹⁵⁴ overflow, those of values divided by the largest do not.
    let largest = values.clone().map(f64::abs).fold(0.0, f64::max);
    let (mut sum, mut len) = (0.0, 0u64);
    for value in values {
        let ratio = if largest > 0.0 { value / largest } else { 0.0 };
        sum += ratio * ratio;
        len += 1;
    }
    if len == 0 {
        return Err("expected rows, found none".into());
    }
    representable(largest * (sum / len as f64).sqrt())
}

fn representable(value: f64) -> Result<f64, String> {
    if value.is_finite() { Ok(value) } else { Err("the sum exceeds the range of f64".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(label: f64, raw: f64, prediction: f64) -> Scored {
        Scored { label: Some(label), raw, prediction }
    }

    fn sigmoid(raw: f64) -> f64 {
        1.0 / (1.0 + (-raw).exp())
    }

    fn binary(rows: &[(f64, f64)]) -> Metrics {
        let rows: Vec<Scored> = rows.iter().map(|(label, raw)| row(*label, *raw, sigmoid(*raw))).collect();
        metrics(Task::Binary, &rows)
    }

    fn regression(rows: &[(f64, f64)]) -> Metrics {
        let rows: Vec<Scored> = rows.iter().map(|(label, raw)| row(*label, *raw, *raw)).collect();
        metrics(Task::Regression, &rows)
    }

    /// False for NaN.
    fn close(got: Option<f64>, want: f64) -> bool {
        got.is_some_and(|got| (got - want).abs() <= 1e-15 + 4e-15 * want.abs())
    }

    #[test]
    fn close_rejects() {
        assert!(close(Some(0.5), 0.5) && close(Some(0.0), 0.0) && close(Some(-2.0), -2.0));
        assert!(!close(None, 0.0) && !close(Some(f64::NAN), 0.0) && !close(Some(1e-9), 0.0));
        assert!(!close(Some(2.0), -2.0) && !close(Some(f64::INFINITY), 1.0) && !close(Some(1.000_001), 1.0));
    }

    #[test]
    fn auc_counts_a_tie_as_half() {
        // Pairs (positive, negative): (.9, .8) 1, (.9, .1) 1, (.8, .8) ½, (.8, .1) 1: 3.5 of 4.
        let labels_and_scores = [(1.0, 0.9), (0.0, 0.8), (1.0, 0.8), (0.0, 0.1)];
        assert_eq!(binary(&labels_and_scores).auc, Some(0.875));
        // The same with ±1, and turned round it is 1 − 0.875.
        let signed = labels_and_scores.map(|(label, raw)| (2.0 * label - 1.0, raw));
        assert_eq!(binary(&signed).auc, Some(0.875));
        assert_eq!(regression(&signed).auc, Some(0.875));
        assert_eq!(binary(&labels_and_scores.map(|(label, raw)| (label, -raw))).auc, Some(0.125));
        // All tied: ½. A negative zero ties with a positive one.
        assert_eq!(binary(&[(1.0, 0.0), (0.0, -0.0), (1.0, -0.0)]).auc, Some(0.5));
        // Where the probabilities are both 1, the raw scores still rank.
        assert_eq!(binary(&[(1.0, 900.0), (0.0, 800.0)]).auc, Some(1.0));
    }

    #[test]
    fn auc_equals_the_count_of_pairs() {
        let seed = std::env::var("NFM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1u64);
        println!("NFM_SEED={seed}");
        let mut state = seed;
        let mut random = move |below: u64| {
            // Knuth's MMIX generator; the high bits are the good ones.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for levels in [2, 5, 30, 1_000_000] {
            for len in [2, 3, 17, 200] {
                let mut rows: Vec<(f64, f64)> = (0..len)
                    .map(|_| (random(2) as f64, random(levels) as f64 - levels as f64 / 2.0))
                    .collect();
                rows[0].0 = 0.0;
                rows[1].0 = 1.0;
                let (mut ordered, mut pairs) = (0.0, 0.0);
                for (_, positive) in rows.iter().filter(|row| row.0 > 0.5) {
                    for (_, negative) in rows.iter().filter(|row| row.0 < 0.5) {
                        pairs += 1.0;
                        ordered += if positive > negative {
                            1.0
                        } else if positive < negative {
                            0.0
                        } else {
                            0.5
                        };
                    }
                }
                // Both counts are exact, so is the quotient but for one rounding.
                assert_eq!(binary(&rows).auc, Some(ordered / pairs), "{levels} levels, {len} rows");
            }
        }
    }

    #[test]
    fn log_loss_by_hand() {
        // A logit of 0 costs ln 2 whatever the label.
        assert!(close(binary(&[(1.0, 0.0), (0.0, 0.0)]).log_loss, core::f64::consts::LN_2));
        // p = 3/4 for ln 3 and 1/4 for −ln 3: −(ln ¾ + ln ¾ + ln ¼) / 3 = (3 ln 4 − 2 ln 3) / 3.
        let l3 = 3f64.ln();
        let want = (3.0 * 4f64.ln() - 2.0 * l3) / 3.0;
        assert!(close(binary(&[(1.0, l3), (0.0, -l3), (0.0, l3)]).log_loss, want));
        assert!(close(binary(&[(1.0, l3), (-1.0, -l3), (-1.0, l3)]).log_loss, want));
    }

    #[test]
    fn log_loss_is_stable_and_not_clipped() {
        // ln(1 + e^−x) is x + e^−x… for x ≪ 0 and e^−x for x ≫ 0.
        assert!(close(binary(&[(1.0, -800.0)]).log_loss, 800.0));
        assert!(close(binary(&[(0.0, 800.0)]).log_loss, 800.0));
        let right = binary(&[(1.0, 50.0)]).log_loss;
        assert!(right.is_some_and(|loss| (loss / (-50f64).exp() - 1.0).abs() < 1e-12), "{right:?}");
        assert_eq!(binary(&[(1.0, 800.0)]).log_loss, Some(0.0));
        let too_large = binary(&[(1.0, -f64::MAX), (0.0, f64::MAX)]);
        assert_eq!(too_large.log_loss, None);
        assert!(too_large.absent["log_loss"].contains("range of f64"));
    }

    #[test]
    fn rmse_by_hand() {
        // Errors 1, −2, 3 and 0: √((1 + 4 + 9 + 0) / 4) = √3.5.
        let rows = [(1.0, 2.0), (5.0, 3.0), (0.0, 3.0), (2.0, 2.0)];
        assert!(close(regression(&rows).rmse, 3.5f64.sqrt()));
        // Labels of ±1: errors 2, 0.5, −1 give √(5.25 / 3); 3 and −2 are clipped to 1 and −1: 0, 0.5, 0.
        let signed = regression(&[(1.0, 3.0), (-1.0, -0.5), (-1.0, -2.0)]);
        assert!(close(signed.rmse, (5.25f64 / 3.0).sqrt()));
        assert!(close(signed.rmse_clipped, (0.25f64 / 3.0).sqrt()));
        // A binary task compares the probability, ½, with labels of 0 and 1, also when they were ±1.
        assert!(close(binary(&[(1.0, 0.0), (0.0, 0.0)]).rmse, 0.5));
        assert!(close(binary(&[(1.0, 0.0), (-1.0, 0.0)]).rmse, 0.5));
        assert_eq!(binary(&[(1.0, 0.0)]).rmse_clipped, None);
        // Exact fit, and squares that overflow although the root does not: √((9 + 16) / 2) · 10²⁰⁰.
        assert_eq!(regression(&[(3.0, 3.0)]).rmse, Some(0.0));
        assert!(close(regression(&[(0.0, 3e200), (0.0, 4e200)]).rmse, 12.5f64.sqrt() * 1e200));
    }

    #[test]
    fn what_cannot_be_computed_has_a_reason() {
        let nan = f64::NAN;
        let cases: [(Metrics, &[&str], &str); 9] = [
            (binary(&[]), &["auc", "log_loss", "rmse"], "rows with labels, found none"),
            (binary(&[(1.0, 0.5), (1.0, 0.1)]), &["auc"], "both classes, found only positive"),
            (binary(&[(-1.0, 0.5), (-1.0, 0.1)]), &["auc"], "both classes, found only negative"),
            (binary(&[(1.0, 0.5), (0.0, nan)]), &["auc", "log_loss", "rmse"], "raw score of NaN in row 2"),
            (binary(&[(nan, 0.5)]), &["auc", "log_loss", "rmse"], "label of NaN in row 1"),
            (binary(&[(1.0, 0.5), (0.0, 0.0), (-1.0, 0.0)]), &["auc", "log_loss", "rmse"], "two classes"),
            (binary(&[(1.0, 0.5), (3.0, 0.0)]), &["auc", "log_loss", "rmse"], "found also 3.0"),
            (regression(&[(4.0, 0.5), (3.0, 0.0)]), &["auc"], "two classes"),
            (
                regression(&[(4.0, f64::INFINITY)]),
                &["auc", "rmse", "rmse_clipped"],
                "raw score of inf in row 1",
            ),
        ];
        for (metrics, names, reason) in cases {
            for name in names {
                assert!(metrics.absent[name].contains(reason), "{name}: {metrics:?}");
            }
            let some = [
                ("auc", metrics.auc),
                ("log_loss", metrics.log_loss),
                ("rmse", metrics.rmse),
                ("rmse_clipped", metrics.rmse_clipped),
            ];
            for (name, value) in some {
                assert_eq!(value.is_none(), metrics.absent.contains_key(name), "{name}: {metrics:?}");
            }
        }
        let no_probability = metrics(Task::Binary, &[row(1.0, 2.0, 2.0)]);
        assert!(no_probability.absent["rmse"].contains("probabilities, found 2.0"));
    }

    #[test]
    fn rows_without_a_label_are_counted_and_left_out() {
        let unlabelled = Scored { label: None, raw: f64::NAN, prediction: f64::NAN };
        let found = metrics(Task::Regression, &[row(1.0, 1.0, 1.0), unlabelled, row(-1.0, 1.0, 1.0)]);
        assert_eq!((found.rows, found.labelled, found.auc), (3, 2, Some(0.5)));
        // Errors 0 and 2.
        assert!(close(found.rmse, 2f64.sqrt()));
        assert_eq!(metrics(Task::Binary, &[unlabelled]).labelled, 0);
    }

    #[test]
    fn differences_by_hand() {
        // Distances 0, 3, 4: √(25 / 3); of 3 rows, 99 % are all 3.
        let found = differences(&[1.0, -1.0, 2.0], &[1.0, 2.0, -2.0]);
        assert!(close(found.rms, (25f64 / 3.0).sqrt()));
        assert_eq!((found.rows, found.p99, found.max), (3, Some(4.0), Some(4.0)));
        // Distances 1 … 200: 198 of them are 99 %.
        let a: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let found = differences(&a, &[0.0; 200]);
        assert_eq!((found.p99, found.max), (Some(198.0), Some(200.0)));
        // Of 100 the 99th, of 99 the last, of 1 that.
        assert_eq!(differences(&a[..100], &[100.0; 100]).p99, Some(99.0));
        assert_eq!(differences(&a[..99], &[101.0; 99]).p99, Some(99.0));
        assert_eq!(differences(&[2.0], &[1.0]).p99, Some(1.0));
        assert_eq!(differences(&[2.0], &[2.0]).rms, Some(0.0));
    }

    #[test]
    fn differences_that_cannot_be_computed_have_a_reason() {
        let cases: [(&[f64], &[f64], &str); 5] = [
            (&[], &[], "found none"),
            (&[1.0], &[1.0, 2.0], "found 1 and 2"),
            (&[1.0, f64::NAN], &[1.0, 2.0], "NaN in row 2"),
            (&[1.0], &[f64::NEG_INFINITY], "-inf in row 1"),
            (&[f64::MAX], &[-f64::MAX], "range of f64"),
        ];
        for (a, b, reason) in cases {
            let found = differences(a, b);
            assert_eq!((found.rms, found.p99, found.max), (None, None, None));
            assert!(found.absent.as_ref().is_some_and(|why| why.contains(reason)), "{found:?}");
        }
    }

    #[test]
    fn an_evaluation_has_deltas_to_the_reference_and_serializes() {
        // The model ranks one pair of two right, the reference both.
        let model = [row(1.0, 1.0, 1.0), row(-1.0, 0.0, 0.0), row(-1.0, 2.0, 2.0)];
        let reference = [row(1.0, 1.0, 1.0), row(-1.0, 0.0, 0.0), row(-1.0, -1.0, -1.0)];
        let found = Evaluation::new(Task::Regression, &model, Some(&reference));
        let deltas = found.deltas.unwrap();
        assert_eq!((deltas.auc, deltas.log_loss), (Some(-0.5), None));
        // Squared errors 0, 1, 9 and 0, 1, 0; clipped 0, 1, 4.
        assert!(close(deltas.rmse, (10f64 / 3.0).sqrt() - (1f64 / 3.0).sqrt()));
        assert!(close(deltas.rmse_clipped, (5f64 / 3.0).sqrt() - (1f64 / 3.0).sqrt()));
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!(json["metrics"]["auc"], 0.5);
        assert_eq!(json["reference"]["auc"], 1.0);
        assert_eq!(json["differences"]["max"], 3.0);
        assert!(json["metrics"]["log_loss"].is_null() && json["metrics"]["absent"]["log_loss"].is_string());
        let alone = Evaluation::new(Task::Regression, &model, None);
        assert!(serde_json::to_value(&alone).unwrap().get("deltas").is_none());
    }
}
