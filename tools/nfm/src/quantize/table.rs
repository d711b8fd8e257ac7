//! Embeddings and first order as codes.

use embedded_nfm::{MAX_MULTIPLIER, row_header};

use crate::float_model::FloatModel;

/// What embedding codes share a scale.
///
/// Lanes' scales cost no byte: they fold into the weights after z. A row's is an integer multiplier of four bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Scales {
    /// One for all.
    Table,
    /// One for each lane.
    Lane,
    /// One for each field: a multiplier for all rows of the field.
    Field,
    /// One for each row.
    #[default]
    Row,
    /// One for each lane, and a multiplier for each row.
    LaneRow,
}

/// A model's tables in codes.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// `v[r, k] ≈ lanes[k] · multiplier[r] · codes[r, k]`, `[dim]`; 0 for a lane that is always 0 in z.
    pub lanes: Vec<f64>,
    /// First-order codes and row multipliers, `[rows]`.
    pub headers: Vec<u16>,
    /// `[rows, dim]`
    pub codes: Vec<i8>,
    /// `w[r] ≈ linear_scale · first-order code`.
    pub linear_scale: f64,
    /// The largest row multiplier.
    pub max_multiplier: u8,
}

impl Table {
    /// Quantizes the tables; `max_multiplier` is the largest row multiplier that no sum can overflow with.
    #[must_use]
    pub fn new(model: &FloatModel, scales: Scales, max_multiplier: u8) -> Self {
        let max_multiplier = if matches!(scales, Scales::Table | Scales::Lane) { 1 } else { max_multiplier };
        let lanes = lane_scales(model, scales, max_multiplier);
        let multipliers = row_multipliers(model, scales, max_multiplier, &lanes);
        let codes =
            model.embeddings.chunks_exact(model.dim).zip(&multipliers).flat_map(|(row, multiplier)| {
                let lanes = &lanes;
                row.iter()
                    .zip(lanes)
                    .map(move |(v, lane)| code(f64::from(*v) / (lane * f64::from(*multiplier))))
            });
        let (linear, linear_scale) = first_order(model);
        let headers = linear
            .into_iter()
            .zip(&multipliers)
            .map(|(linear, multiplier)| row_header(linear, *multiplier))
            .collect();
        let codes: Vec<i8> = codes.collect();
        // Of a single entry there is no pair, and z is 0.
        let lanes = if model.max_active < 2 { vec![0.0; model.dim] } else { without_empty(&lanes, &codes) };
        Self { lanes, headers, codes, linear_scale, max_multiplier }
    }
}

/// The nearest code, in ±127.
pub(super) fn code(x: f64) -> i8 {
    #[expect(clippy::cast_possible_truncation, reason = "clamped to the range of i8")]
    let code = x.round().clamp(-127.0, 127.0) as i8;
    code
}

/// A scale for each lane, so that the largest value has code 127 at the largest multiplier.
fn lane_scales(model: &FloatModel, scales: Scales, max_multiplier: u8) -> Vec<f64> {
    let mut largest = vec![0.0_f64; model.dim];
    for row in model.embeddings.chunks_exact(model.dim) {
        row.iter().zip(&mut largest).for_each(|(v, largest)| *largest = largest.max(f64::from(v.abs())));
    }
    if !matches!(scales, Scales::Lane | Scales::LaneRow) {
        largest = vec![largest.iter().copied().fold(0.0, f64::max); model.dim];
    }
    let scale =
        |largest: f64| if largest == 0.0 { 1.0 } else { largest / (127.0 * f64::from(max_multiplier)) };
    largest.into_iter().map(scale).collect()
}

/// `lanes` with 0 for those without a code: the weights after them see nothing, and must not make the others coarse, as
/// those do that a batch norm of almost no variance was folded into.
fn without_empty(lanes: &[f64], codes: &[i8]) -> Vec<f64> {
    let mut used = vec![false; lanes.len()];
    for row in codes.chunks_exact(lanes.len()) {
        row.iter().zip(&mut used).for_each(|(code, used)| *used |= *code != 0);
    }
    lanes.iter().zip(used).map(|(lane, used)| if used { *lane } else { 0.0 }).collect()
}

/// For each row the smallest multiplier whose codes hold it, or its whole field.
fn row_multipliers(model: &FloatModel, scales: Scales, max_multiplier: u8, lanes: &[f64]) -> Vec<u8> {
    let smallest = |row: &[f32]| {
        let needed = row.iter().zip(lanes).map(|(v, lane)| f64::from(v.abs()) / lane).fold(0.0, f64::max);
        // 127.5 would round to 128; a hair above 127 is rounding in the scale itself.
        (1..max_multiplier).find(|m| needed < 127.499 * f64::from(*m)).unwrap_or(max_multiplier)
    };
    let mut multipliers: Vec<u8> = model.embeddings.chunks_exact(model.dim).map(smallest).collect();
    if scales == Scales::Field {
        for (first, rows) in model.tables() {
            let field = &mut multipliers[first..first + rows];
            let largest = field.iter().copied().max().unwrap_or(1);
            field.fill(largest);
        }
    }
    multipliers
}

/// First-order codes of twelve bits, and what one of them is worth.
pub(super) fn first_order(model: &FloatModel) -> (Vec<i16>, f64) {
    let largest = model.linear.iter().map(|w| f64::from(w.abs())).fold(0.0, f64::max);
    let scale = if largest == 0.0 { 1.0 } else { largest / 2047.0 };
    #[expect(clippy::cast_possible_truncation, reason = "at most 2047 in magnitude")]
    let codes = model.linear.iter().map(|w| (f64::from(*w) / scale).round() as i16).collect();
    (codes, scale)
}

/// The largest embedding in units, up to 16 · 128, with which the pooling of `max_active` entries of values up to `max_value`
/// fits 32 bits; `None` when not even one of 8 bits, 128, does.
///
/// The rule is the format's.
pub(super) fn max_embedding(max_active: u16, max_value: f64) -> Option<u16> {
    let active = f64::from(max_active);
    let limit = f64::from(i32::MAX);
    let fits = |embedding: u16| {
        let product = f64::from(embedding) * (max_value * 65536.0).ceil() + 32768.0;
        let largest = (product / 65536.0).floor() + 1.0;
        let half = f64::from(1 << 29); // the largest shift is 30
        2.0 * product <= limit && active * (active - 1.0) / 2.0 * largest * largest + half <= limit
    };
    (128..=128 * u16::from(MAX_MULTIPLIER)).rev().find(|embedding| fits(*embedding))
}

#[cfg(test)]
mod tests {
    use embedded_nfm::{
        self as device, BLOCK, DenseInputs, Field, FieldKind, Fields, FixedParts, Info, Link, Model, Q16,
        QuantTable, Rescale,
    };

    use super::*;
    use crate::synthetic::{self, Random, Shape};

    fn model(seed: u64) -> FloatModel {
        synthetic::model(Shape { name: "table", fields: &[5, 9, 2], dim: 6, hidden: &[4] }, seed)
    }

    const ALL: [Scales; 5] = [Scales::Table, Scales::Lane, Scales::Field, Scales::Row, Scales::LaneRow];

    /// First-order code and multiplier.
    fn read(header: u16) -> (f64, f64) {
        (f64::from(header.cast_signed() >> 4), f64::from((header & 15) + 1))
    }

    #[test]
    fn codes_give_the_values_back_to_half_a_unit() {
        for (seed, scales) in (1..40).flat_map(|seed| ALL.map(|scales| (seed, scales))) {
            let model = model(seed);
            let table = Table::new(&model, scales, 16);
            let rows = model.embeddings.chunks_exact(6).zip(table.codes.chunks_exact(6));
            for ((row, codes), (header, w)) in rows.zip(table.headers.iter().zip(&model.linear)) {
                let (linear, multiplier) = read(*header);
                for ((v, code), lane) in row.iter().zip(codes).zip(&table.lanes) {
                    assert!(code.unsigned_abs() <= 127, "{scales:?}");
                    let (unit, got) = (lane * multiplier, lane * multiplier * f64::from(*code));
                    assert!(
                        (got - f64::from(*v)).abs() <= unit * 0.500_001,
                        "{scales:?}: {got}, expected {v}"
                    );
                }
                let got = table.linear_scale * linear;
                assert!((got - f64::from(*w)).abs() <= table.linear_scale * 0.500_001, "{got}, expected {w}");
            }
        }
    }

    #[test]
    fn each_scale_is_shared_by_what_its_name_says() {
        let model = model(7);
        for scales in ALL {
            let table = Table::new(&model, scales, 16);
            let multipliers: Vec<f64> = table.headers.iter().map(|header| read(*header).1).collect();
            let one_lane = table.lanes.windows(2).all(|lanes| lanes[0].total_cmp(&lanes[1]).is_eq());
            assert_eq!(one_lane, !matches!(scales, Scales::Lane | Scales::LaneRow), "{scales:?}");
            let same = |multipliers: &[f64]| multipliers.windows(2).all(|m| m[0].total_cmp(&m[1]).is_eq());
            let fields = [&multipliers[..5], &multipliers[5..14], &multipliers[14..]];
            match scales {
                Scales::Table | Scales::Lane => {
                    assert!(multipliers.iter().all(|m| m.total_cmp(&1.0).is_eq()));
                }
                Scales::Field => assert!(fields.into_iter().all(same) && !same(&multipliers)),
                Scales::Row | Scales::LaneRow => assert!(!fields.into_iter().all(same)),
            }
        }
    }

    #[test]
    fn a_rows_multiplier_is_the_smallest_that_holds_it() {
        for (seed, scales) in (1..40).flat_map(|seed| [(seed, Scales::Row), (seed, Scales::LaneRow)]) {
            let model = model(seed);
            let table = Table::new(&model, scales, 16);
            for (row, header) in model.embeddings.chunks_exact(6).zip(&table.headers) {
                let (_, multiplier) = read(*header);
                let needed = row.iter().zip(&table.lanes).map(|(v, lane)| f64::from(v.abs()) / lane);
                let needed = needed.fold(0.0, f64::max);
                assert!(needed < 127.5 * multiplier, "{needed} {multiplier}");
                assert!(multiplier < 1.5 || needed >= 127.49 * (multiplier - 1.0), "{needed} {multiplier}");
            }
        }
    }

    #[test]
    fn an_empty_lane_weighs_nothing_and_an_empty_table_is_legal() {
        for scales in ALL {
            let mut model = model(3);
            model.embeddings.iter_mut().skip(2).step_by(6).for_each(|v| *v = 0.0);
            let lanes = Table::new(&model, scales, 16).lanes;
            assert!(lanes.iter().enumerate().all(|(lane, scale)| (*scale > 0.0) == (lane != 2)), "{lanes:?}");
            model.embeddings.fill(0.0);
            model.linear.fill(0.0);
            let table = Table::new(&model, scales, 16);
            assert!(
                table.codes.iter().all(|code| *code == 0) && table.lanes.iter().all(|lane| *lane < 1e-300)
            );
            assert!(table.linear_scale > 0.0);
        }
    }

    /// What the device says to a model of one row with these limits, at the largest shift.
    fn device_accepts(max_active: u16, max_value: Q16, max_embedding: u16) -> bool {
        let fields = [Field { name: "f", kind: FieldKind::Id { first: 0, rows: 1 } }];
        let parts = FixedParts {
            info: Info {
                name: "",
                rows: 1,
                dim: 4,
                max_active,
                fields: Fields::Listed(&fields),
                encoders: &[],
            },
            max_value,
            max_embedding,
            table: device::Table::I8(QuantTable { headers: &[row_header(0, 1)], codes: &[0; 4] }),
            shift: 30,
            max: 1,
            dense_inputs: DenseInputs { words: &[] },
            layers: Default::default(),
            head: &[0; BLOCK],
            head_scale: Rescale::default(),
            linear_scale: Rescale::default(),
            bias: Q16::default(),
            link: Link::Identity,
        };
        Model::new(parts).is_ok()
    }

    #[test]
    fn the_largest_embedding_is_the_devices_own() {
        let mut random = Random::new(5);
        let (mut none, mut limited) = (0, 0);
        let actives = (1..300).chain([1000, 1500, 4095, 4096, 20_000, 65_535]);
        for (max_active, _) in actives.flat_map(|active| (0..12).map(move |i| (active, i))) {
            let bits = 65536 + (random.below(1 << 24) >> random.below(24));
            let max_value = Q16::from_bits(i32::try_from(bits).unwrap());
            let chosen = max_embedding(max_active, max_value.to_f64());
            let accepted = |embedding| device_accepts(max_active, max_value, embedding);
            if let Some(embedding) = chosen {
                assert!(accepted(embedding), "{max_active} {max_value:?} {embedding}");
            } else {
                none += 1;
            }
            let next = chosen.unwrap_or(127) + 1;
            if next <= 2048 {
                limited += 1;
                assert!(!accepted(next), "{max_active} {max_value:?} {next}");
            }
        }
        assert!(none > 50 && limited > none, "{none} {limited}");
    }
}
