//! Embeddings as 4-bit codes with a multiplier and an offset a row, and hot rows as 8-bit codes.

use embedded_nfm::{LANES, NIBBLE_LANES, nibble_header};

use super::table::{code, first_order};
use crate::float_model::FloatModel;

/// A model's tables in 4-bit codes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Nibbles {
    /// What one unit of an embedding is worth.
    pub(super) unit: f64,
    /// First-order codes, multipliers and offsets, `[rows]`.
    pub(super) headers: Vec<u32>,
    /// Hot bits and counts, as the device library reads them.
    pub(super) hot: Vec<u32>,
    /// Codes of the hot rows, padded.
    pub(super) codes: Vec<i8>,
    /// Codes of the other rows.
    pub(super) nibbles: Vec<u32>,
    /// `w[r] ≈ linear_scale · first-order code`.
    pub(super) linear_scale: f64,
    /// The largest magnitude of an embedding, in units.
    pub(super) max_embedding: u16,
}

/// The largest embedding, in units, whose span a multiplier of 8 bits covers with 15 steps.
const MAX_EMBEDDING: u16 = 1920;

impl Nibbles {
    /// Quantizes the tables; rows that `is_hot` names get 8 bits. `limit` is the largest embedding, in units, that no sum can
    /// overflow with; it is at least 128.
    #[must_use]
    pub(super) fn new(model: &FloatModel, is_hot: &[bool], limit: u16) -> Self {
        let max_multiplier = limit.min(MAX_EMBEDDING) / 128;
        let limit = max_multiplier * 128;
        let largest = model.embeddings.iter().map(|v| f64::from(v.abs())).fold(0.0, f64::max);
        let unit = if largest == 0.0 { 1.0 } else { largest / (127.0 * f64::from(max_multiplier)) };
        let (linear, linear_scale) = first_order(model);
        let mut table = Self {
            unit,
            headers: Vec::with_capacity(model.rows()),
            hot: hot_bits(is_hot),
            codes: Vec::new(),
            nibbles: Vec::new(),
            linear_scale,
            max_embedding: limit,
        };
        for ((row, linear), hot) in model.embeddings.chunks_exact(model.dim).zip(linear).zip(is_hot) {
            let row: Vec<f64> = row.iter().map(|v| f64::from(*v) / unit).collect();
            if *hot { table.push_hot(&row, linear, max_multiplier) } else { table.push(&row, linear, limit) }
        }
        table
    }

    fn push_hot(&mut self, row: &[f64], linear: i16, max_multiplier: u16) {
        let largest = row.iter().map(|e| e.abs()).fold(0.0, f64::max);
        let multiplier =
            (1..max_multiplier).find(|m| largest < 127.499 * f64::from(*m)).unwrap_or(max_multiplier);
        self.headers.push(nibble_header(linear, multiplier, 0));
        self.codes.extend(row.iter().map(|e| code(e / f64::from(multiplier))));
        self.codes.resize(self.codes.len().next_multiple_of(LANES), 0);
    }

    fn push(&mut self, row: &[f64], linear: i16, limit: u16) {
        let (multiplier, offset) = fit(row, limit);
        self.headers.push(nibble_header(linear, multiplier, offset));
        for lanes in row.chunks(8) {
            let mut word = 0;
            for (position, lane) in NIBBLE_LANES.into_iter().enumerate() {
                // A lane of padding has the code that is nearest to zero.
                let e = lanes.get(lane).copied().unwrap_or(0.0);
                word |= nibble(e, multiplier, offset) << (4 * position);
            }
            self.nibbles.push(word);
        }
    }
}

/// Pairs of words for 32 rows: their bits, and the number of hot rows before; empty when no row is hot.
fn hot_bits(is_hot: &[bool]) -> Vec<u32> {
    if !is_hot.contains(&true) {
        return Vec::new();
    }
    let mut before = 0;
    let groups = is_hot.chunks(32).flat_map(|group| {
        let bits = group.iter().enumerate().fold(0_u32, |bits, (row, hot)| bits | u32::from(*hot) << row);
        let pair = [bits, before];
        before += bits.count_ones();
        pair
    });
    groups.collect()
}

/// The code of an embedding.
fn nibble(e: f64, multiplier: u16, offset: i16) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=15")]
    let nibble = ((e - f64::from(offset)) / f64::from(multiplier)).round().clamp(0.0, 15.0) as u32;
    nibble
}

/// The multiplier and offset with the smallest squared error: the row's whole span, or somewhat less, which costs its
/// extremes and serves all others.
fn fit(row: &[f64], limit: u16) -> (u16, i16) {
    let low = row.iter().copied().fold(f64::INFINITY, f64::min);
    let high = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let limit = f64::from(limit);
    let full = ((high - low) / 15.0).ceil().clamp(1.0, 256.0);
    let narrowest = (full * 0.7).floor().max(1.0);
    let step = ((full - narrowest) / 10.0).ceil().max(1.0);
    let mut best = (f64::INFINITY, 1, 0);
    let mut multiplier = full;
    while multiplier >= narrowest {
        let slack = 15.0 * multiplier - (high - low);
        for part in [0.25, 0.375, 0.5, 0.625, 0.75] {
            let offset = (low - slack * part).round().clamp(-limit, limit - 15.0 * multiplier).max(-limit);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1..=256 and ±limit")]
            let (m, c) = (multiplier as u16, offset as i16);
            let error: f64 = row
                .iter()
                .map(|e| (e - f64::from(c) - f64::from(m) * f64::from(nibble(*e, m, c))).powi(2))
                .sum();
            if error < best.0 && 15.0 * multiplier + offset <= limit {
                best = (error, m, c);
            }
        }
        multiplier -= step;
    }
    (best.1, best.2)
}

/// The `share` of the rows that are looked up most often, ties by id.
#[must_use]
pub(super) fn hottest(counts: &[u32], share: f64) -> Vec<bool> {
    let mut by_count: Vec<usize> = (0..counts.len()).filter(|row| counts[*row] > 0).collect();
    by_count.sort_by_key(|row| (core::cmp::Reverse(counts[*row]), *row));
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of the rows, rounded"
    )]
    let wanted = (counts.len() as f64 * share).round() as usize;
    let mut hot = vec![false; counts.len()];
    by_count.into_iter().take(wanted).for_each(|row| hot[row] = true);
    hot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_on_the_grid_is_kept_exactly() {
        // Multiplier 7 from offset -40: the row uses both ends, so no narrower grid does as well.
        let row: Vec<f64> = (0..16).map(|u| f64::from(7 * u - 40)).collect();
        assert_eq!(fit(&row, 1920), (7, -40));
    }

    #[test]
    fn a_fit_never_leaves_the_limit() {
        let mut random = crate::synthetic::Random::new(3);
        for round in 0..2000 {
            let limit = [128, 384, 1920][round % 3];
            let scale = f64::from(limit) * 127.0 / 128.0 * random.unit().abs();
            let row: Vec<f64> = (0..12).map(|_| scale * random.unit()).collect();
            let (m, c) = fit(&row, limit);
            assert!((1..=256).contains(&m));
            assert!(
                c.unsigned_abs() <= limit
                    && (15 * i32::from(m) + i32::from(c)).unsigned_abs() <= limit.into()
            );
            let worst =
                row.iter().map(|e| (e - f64::from(c) - f64::from(m) * f64::from(nibble(*e, m, c))).abs());
            // At most the extremes are cut, by what narrowing to 0.7 of the span can cut.
            let span = 2.0 * scale;
            assert!(worst.fold(0.0, f64::max) <= 0.5 * f64::from(m) + 0.2 * span + 1.0, "{row:?} {m} {c}");
        }
    }

    #[test]
    fn the_hottest_rows_are_the_most_frequent() {
        assert_eq!(hottest(&[3, 0, 9, 3, 1], 0.4), [true, false, true, false, false]);
        assert_eq!(hottest(&[0, 0, 9, 0, 0], 0.8), [false, false, true, false, false]);
    }
}
