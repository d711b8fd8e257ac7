//! Drawn models and samples against a naive evaluation of the score's definition.
//!
//! Pairs are enumerated, sums are 64 bits wide, and every rounding is `floor((x + half) / 2^s)`. The heads are drawn, so a wrong
//! lane or output shows in the score. The program `agree` runs this on microcontrollers, and the test of the same name on the
//! host.

use embedded_nfm::{
    Activation, DenseInputs, Feature, Field, FieldKind, Fields, FixedLayer, FixedParts, Info, Link, Model,
    NibbleTable, ParseError, Q16, QuantTable, Rescale, Sample, ScoreError, Table, Weights, nibble_header,
    row_header,
};
use heapless::Vec;

const ROWS: usize = 48;
const WIDTH: usize = 128;
const TERMS: usize = 33;
/// A pair for each 32 rows.
const HOT_WORDS: usize = 2 * ROWS.div_ceil(32);
/// How many models [`Drawn::agree`] draws.
pub const CASES: u32 = 400;

/// The parts of a model, drawn.
#[derive(Debug)]
pub struct Drawn {
    headers: [u16; ROWS],
    nibble_headers: [u32; ROWS],
    hot: [u32; HOT_WORDS],
    nibbles: [u32; ROWS * WIDTH / 8],
    codes: [i8; ROWS * WIDTH + 3],
    bias: [[i32; WIDTH]; 2],
    weights: [[u8; WIDTH * WIDTH]; 2],
    head: [i16; WIDTH + 1],
    scratch: [u32; 1024],
}

/// Marsaglia's xorshift32.
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// Below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit
    }

    /// A byte; of the two ends alone in every fourth case.
    fn byte(&mut self, case: u32) -> u8 {
        let byte = (self.next() >> 11) as u8;
        match case % 4 {
            1 if byte & 1 == 0 => 0x80,
            1 => 0x7F,
            2 => 0x80, // The largest sum of pairs.
            _ => byte,
        }
    }
}

/// What `Q16` saturates to.
fn saturate(x: i64) -> i32 {
    x.clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

/// `floor((x + half) / 2^shift)`, clamped.
fn shifted(x: i64, shift: u8, max: u16) -> i64 {
    let half = (1_i64 << shift) >> 1;
    ((x + half) >> shift).clamp(-i64::from(max), max.into())
}

impl Drawn {
    /// Nothing drawn yet.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a static needs a const fn")]
    pub const fn new() -> Self {
        Self {
            headers: [0; ROWS],
            nibble_headers: [0; ROWS],
            hot: [0; HOT_WORDS],
            nibbles: [0; ROWS * WIDTH / 8],
            codes: [0; ROWS * WIDTH + 3],
            bias: [[0; WIDTH]; 2],
            weights: [[0; WIDTH * WIDTH]; 2],
            head: [0; WIDTH + 1],
            scratch: [0; 1024],
        }
    }

    /// Draws [`CASES`] models, prints what differs, and gives how many scores there were and how many of them differed.
    pub fn agree(&mut self, seed: u32, print: &mut dyn FnMut(core::fmt::Arguments<'_>)) -> (u32, u32) {
        let mut random = Random(seed | 1);
        let (mut scores, mut differ) = (0, 0);
        for case in 0..CASES {
            self.case(&mut random, case, print, &mut scores, &mut differ);
        }
        (scores, differ)
    }

    /// Draws rows of nibbles, hot ones among them or none, and gives how many are hot; nothing where the case has none.
    fn nibble_rows(&mut self, random: &mut Random, case: u32, multiplier: usize) -> Option<usize> {
        if !Feature::Nibbles.is_built() {
            return None;
        }
        let hot_in_four = [None, Some(0), Some(3), Some(1), Some(4)][random.below(5)]?;
        // 128 · multiplier is the largest embedding, at most 2048.
        let limit = 128 * multiplier;
        let mut hot_rows = 0;
        for (row, header) in self.nibble_headers.iter_mut().enumerate() {
            let (group, bit) = (row / 32, row % 32);
            if bit == 0 {
                (self.hot[2 * group], self.hot[2 * group + 1]) = (0, hot_rows);
            }
            let linear = (random.next() >> 20) as i16 - 2048;
            if random.below(4) < hot_in_four {
                self.hot[2 * group] |= 1 << bit;
                hot_rows += 1;
                *header = nibble_header(linear, 1 + random.below(multiplier) as u16, 0);
                continue;
            }
            // The widest row of all in every other case.
            let gain = if case.is_multiple_of(2) { 2 * limit / 15 } else { 1 + random.below(200) }.min(256);
            let above_the_least = random.below(2 * limit - 15 * gain + 1) as u16;
            let offset = above_the_least.cast_signed() - (limit as u16).cast_signed();
            *header = nibble_header(linear, gain as u16, offset);
        }
        self.nibbles.iter_mut().for_each(|word| *word = random.next());
        Some(hot_rows as usize)
    }

    /// Draws a model, and scores samples of every number of terms or of a few.
    fn case(
        &mut self,
        random: &mut Random,
        case: u32,
        print: &mut dyn FnMut(core::fmt::Arguments<'_>),
        scores: &mut u32,
        differ: &mut u32,
    ) {
        let lanes = 4 * (1 + random.below(WIDTH / 4));
        let outs: [usize; 2] = core::array::from_fn(|_| 8 * (1 + random.below(WIDTH / 8)));
        let layers = random.below(3);
        // Both are as large as the range proof admits.
        let (active, multiplier) = if case.is_multiple_of(2) { (32, 16) } else { (TERMS, 15) };
        let maxs: [u16; 3] = core::array::from_fn(|_| match random.below(4) {
            0 => 32767,
            1 => 2047,
            2 => 1 + random.below(32767) as u16,
            _ => 1 + random.below(300) as u16,
        });
        self.codes.iter_mut().for_each(|code| *code = random.byte(case).cast_signed());
        for header in &mut self.headers {
            let gain = if case % 4 == 2 { multiplier } else { 1 + random.below(multiplier) };
            *header = row_header((random.next() >> 20) as i16 - 2048, gain as u8);
        }
        let nibbles = self.nibble_rows(random, case, multiplier);
        // Codes and head start anywhere: a twin that loads words must see that it cannot.
        let (first_code, first_weight) = (random.below(4), random.below(2));
        for (layer, bias) in self.bias.iter_mut().enumerate() {
            let width = if layer == 0 { lanes.next_multiple_of(8) } else { outs[0] };
            let used = width * outs[layer];
            self.weights[layer][..used].iter_mut().for_each(|code| *code = random.byte(case / 4) ^ 0x80);
            // |bias| + 128 · 128 · 2¹⁵ < 2³¹.
            bias.iter_mut().for_each(|bias| *bias = random.next().cast_signed() >> (1 + random.below(20)));
        }
        // 128 · 2¹⁵ · 511 < 2³¹.
        self.head.iter_mut().for_each(|head| *head = (random.next() >> 22) as i16 - 512 + 1);
        let padding: [usize; 2] = core::array::from_fn(|_| random.below(2) * random.below(8));
        if layers > 0 && random.below(2) == 0 {
            let out = outs[layers - 1];
            self.head[first_weight..][out - padding[layers - 1]..out].fill(0);
        }

        let shift = |random: &mut Random, max: usize| random.below(max) as u8;
        let (z_shift, shifts) = (shift(random, 26), [shift(random, 24), shift(random, 24)]);
        let scale = Rescale { multiplier: random.next().cast_signed(), shift: shift(random, 63) };
        let head_scale = if case.is_multiple_of(3) { scale } else { Rescale { multiplier: 1, shift: 0 } };
        let mut parts = FixedParts {
            info: Info {
                name: "drawn",
                rows: ROWS as u32,
                dim: lanes as u16,
                max_active: active as u16,
                fields: Fields::Listed(&[Field {
                    name: "id",
                    kind: FieldKind::Id { first: 0, rows: ROWS as u32 },
                }]),
                encoders: &[],
            },
            max_value: Q16::ONE,
            max_embedding: 128 * multiplier as u16,
            table: match nibbles {
                None => Table::I8(QuantTable {
                    headers: &self.headers,
                    codes: &self.codes[first_code..][..ROWS * lanes],
                }),
                Some(hot_rows) => Table::I4(NibbleTable {
                    headers: &self.nibble_headers,
                    hot: if hot_rows == 0 { &[] } else { &self.hot },
                    codes: &self.codes[first_code..][..hot_rows * lanes],
                    nibbles: &self.nibbles[..(ROWS - hot_rows) * lanes.div_ceil(8)],
                }),
            },
            shift: z_shift,
            max: maxs[0],
            dense_inputs: DenseInputs { words: &[] },
            layers: Vec::new(),
            head: &[],
            head_scale,
            linear_scale: scale,
            bias: Q16::from_bits(random.next().cast_signed() >> 8),
            link: Link::Identity,
        };
        let mut width = parts.input_len();
        for layer in 0..layers {
            let out = outs[layer];
            let _ = parts.layers.push(FixedLayer {
                activation: if random.below(8) == 0 { Activation::Identity } else { Activation::Relu },
                shift: shifts[layer],
                fraction: 0,
                max: maxs[layer + 1],
                out: (out - padding[layer]) as u16,
                bias: &self.bias[layer][..out],
                weights: Weights::Scalar(&self.weights[layer][..width * out]),
                slopes: &[],
                multipliers: &[],
            });
            width = out;
        }
        parts.head = &self.head[first_weight..][..width];
        let model = match Model::new(parts) {
            Ok(model) => model,
            Err(ParseError::FeatureMissing { .. }) => return,
            Err(problem) => {
                print(format_args!("case {case} is refused: {problem}"));
                *differ += 1;
                return;
            }
        };
        let mut ids = [0; TERMS];
        for len in 0..=active {
            if case >= 4 && random.below(12) != 0 {
                continue;
            }
            let ids = &mut ids[..len];
            ids.iter_mut().for_each(|id| *id = random.below(ROWS) as u32);
            let mut want = Ok(naive(model.parts(), ids));
            if len > 0 && random.below(8) == 0 {
                let (position, id) =
                    (random.below(len), ROWS as u32 + (random.next() >> random.below(32)) / 2);
                ids[position] = id;
                want = Err(ScoreError::UnknownId { position, id, rows: ROWS as u32 });
            }
            let got = model.score(&Sample::new(ids), &mut self.scratch);
            *scores += 1;
            if got.map(Q16::to_bits) != want {
                *differ += 1;
                if *differ < 20 {
                    print(format_args!(
                        "case {case}: {len} terms, {lanes} lanes, {layers} layers: {got:?}, not {want:?}"
                    ));
                }
            }
        }
    }
}

/// The embedding of a row in a lane, by the table's definition.
fn embedding(table: &Table<'_>, lanes: usize, row: usize, lane: usize) -> i64 {
    let table = match table {
        Table::I8(table) => {
            let gain = i64::from(table.headers[row] & 15) + 1;
            return gain * i64::from(table.codes[row * lanes + lane]);
        }
        Table::I4(table) => table,
    };
    let header = table.headers[row].cast_signed();
    let gain = i64::from((header >> 12) & 255) + 1;
    let is_hot = |row: usize| !table.hot.is_empty() && table.hot[row / 32 * 2] >> (row % 32) & 1 == 1;
    let before = (0..row).filter(|&other| is_hot(other) == is_hot(row)).count();
    if is_hot(row) {
        return gain * i64::from(table.codes[before * lanes + lane]);
    }
    let word = table.nibbles[before * lanes.div_ceil(8) + lane / 8];
    // Lanes 0 1 4 5 2 3 6 7 from the lowest bits on.
    let place = [0, 1, 4, 5, 2, 3, 6, 7][lane % 8];
    gain * i64::from(word >> (4 * place) & 15) + i64::from(header << 20 >> 20)
}

/// The first-order code of a row.
fn linear_code(table: &Table<'_>, row: usize) -> i64 {
    match table {
        Table::I8(table) => i64::from(table.headers[row].cast_signed() >> 4),
        Table::I4(table) => i64::from(table.headers[row].cast_signed() >> 20),
    }
}

/// The score by its definition.
fn naive(parts: &FixedParts<'_>, ids: &[u32]) -> i32 {
    let lanes = usize::from(parts.info.dim);
    let mut x = [0_i64; WIDTH];
    for (lane, x) in x[..lanes].iter_mut().enumerate() {
        let mut e = [0; TERMS];
        for (e, &id) in e.iter_mut().zip(ids) {
            *e = embedding(&parts.table, lanes, id as usize, lane);
        }
        let mut pairs = 0;
        for (i, a) in e.iter().enumerate() {
            for b in &e[..i] {
                pairs += a * b;
            }
        }
        *x = shifted(pairs, parts.shift, parts.max);
    }
    let mut width = parts.input_len();
    for layer in &parts.layers {
        let Weights::Scalar(codes) = layer.weights else { return 0 };
        let mut y = [0_i64; WIDTH];
        for (o, y) in y[..layer.out.into()].iter_mut().enumerate() {
            let mut sum = i64::from(layer.bias[o]);
            for (i, x) in x[..width].iter().enumerate() {
                sum += (i64::from(codes[(o / 8 * width + i) * 8 + o % 8]) - 128) * x;
            }
            let max = i64::from(layer.max);
            let low = if matches!(layer.activation, Activation::Relu) { 0 } else { -max };
            *y = (sum >> layer.shift).clamp(low, max);
        }
        x = y;
        width = layer.bias.len();
    }
    let rescale = |scale: Rescale, sum: i64| {
        let half = (1_i64 << scale.shift) >> 1;
        i64::from(saturate((sum * i64::from(scale.multiplier) + half) >> scale.shift))
    };
    let deep = parts.head.iter().zip(&x).map(|(&p, x)| i64::from(p) * x).sum();
    let linear = ids.iter().map(|&id| linear_code(&parts.table, id as usize)).sum();
    saturate(
        i64::from(parts.bias.to_bits())
            + rescale(parts.linear_scale, linear)
            + rescale(parts.head_scale, deep),
    )
}
