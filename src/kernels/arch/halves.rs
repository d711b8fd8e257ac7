//! Targets that multiply halfwords, built without hand-written instructions: here the compiler finds these products by itself, if
//! not the sum of two of them in one instruction.
//!
//! The bodies of the loops use all registers there are, and were chosen by their counts of instructions. An empty [`black_box`] keeps
//! the compiler from loading ahead what then has no register.

use core::hint::black_box;

use crate::{
    kernels::{bi_interaction::clamp, nibbles::TERM_WORDS},
    model::{
        Activation, FixedLayer, FixedParts, QuantTable, Table, Weights, header_linear, header_multiplier,
        saturate,
    },
};

/// Whether the pooling of ids without values has a twin for any number of them that a model can have.
pub(crate) const POOLS_ANY_COUNT: bool = false;

/// Whether the weights of a layer are packed as this core's twins read them.
pub(crate) const fn is_native(weights: &Weights<'_>, _: usize) -> bool {
    matches!(weights, Weights::Dsp { .. })
}

/// A model's table of 8-bit rows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Plan<'a> {
    pub(in crate::kernels) table: QuantTable<'a>,
    pub(in crate::kernels) lanes: usize,
    /// The largest magnitude of an embedding, or 0 where there is no twin for the table.
    pub(in crate::kernels) largest: u16,
    pub(in crate::kernels) shift: u8,
    pub(in crate::kernels) max: u16,
}

impl<'a> Plan<'a> {
    /// Of no model.
    pub(crate) const EMPTY: Self =
        Self { table: QuantTable { headers: &[], codes: &[] }, lanes: 0, largest: 0, shift: 0, max: 0 };

    /// Looks up what there are twins for, from parts that are checked.
    pub(crate) fn fill(&mut self, parts: &FixedParts<'a>) {
        if let Table::I8(table) = parts.table {
            let (lanes, largest) = (parts.info.lanes(), parts.max_embedding);
            *self = Self { table, lanes, largest, shift: parts.shift, max: parts.max };
        }
    }

    /// Pools the rows of ids, each with value one, into the first lanes of x, and gives the sum of their first-order codes; `None`
    /// where there is no twin, an id is no row, there is none, or there are too many. `words` has room for the terms.
    ///
    /// With the bias b, the largest `|e|`, no addend `t = e + b` is negative, and two of them in the halves of a word are
    /// multiplied and summed as one number without a carry. Modulo 2³²,
    /// `Σ_{i<j} eᵢ eⱼ = ((Σ tᵢ)² − Σ tᵢ²) / 2 − b (N−1) Σ tᵢ + b² N(N−1)/2`.
    #[inline(never)]
    pub(crate) fn pool(&self, ids: &[u32], words: &mut [u32], x: &mut [i16]) -> Option<i32> {
        let (count, bias) = (saturate(ids.len()), u32::from(self.largest));
        // Σ t ≤ 2 b N must fit a halfword; then b² N² does not exceed 2³⁰.
        if count == 0 || bias == 0 || count > 0xffff / (2 * bias) {
            return None;
        }
        let terms = words.as_chunks_mut().0.get_mut(..ids.len())?;
        let z = x.get_mut(..self.lanes)?.as_chunks_mut().0;
        let linear = look_up(self.table.headers, ids, saturate(z.len()), bias, terms)?;
        let end = PoolingEnd {
            slope: bias * (count - 1),
            start: bias * bias * (count * (count - 1) / 2) + ((1 << self.shift) >> 1),
            shift: self.shift,
            max: self.max,
        };
        let mut codes = self.table.codes.as_chunks().0;
        for z in z {
            four_lanes(codes, terms, &end, z);
            codes = codes.get(1..).unwrap_or_default();
        }
        Some(linear)
    }

    /// Layer and head in one took more instructions.
    #[expect(clippy::unused_self, reason = "as beside other twins")]
    pub(crate) const fn has_last(&self) -> bool {
        false
    }

    #[expect(clippy::unused_self, reason = "as beside other twins")]
    pub(crate) const fn last_dot(&self, _: &[i16]) -> Option<i32> {
        None
    }
}

/// An active entry: where its row starts, in groups of four codes; its gain; and `b − 128 · gain` in both halves.
type Term = [u32; TERM_WORDS];

/// Writes the terms of ids, and gives the sum of their first-order codes; `None` when an id is no row.
#[inline(always)]
fn look_up(headers: &[u16], ids: &[u32], groups: u32, bias: u32, terms: &mut [Term]) -> Option<i32> {
    let mut sum = 0;
    for (&id, term) in ids.iter().zip(terms) {
        let header = *headers.get(id as usize)?;
        sum += header_linear(header);
        let gain = header_multiplier(header).cast_unsigned();
        let addend = bias.wrapping_sub(128 * gain).wrapping_mul(0x0001_0001);
        *term = [id.wrapping_mul(groups), gain, addend];
    }
    Some(sum)
}

/// What the pooling of a lane ends with: [`Plan::pool`] has the formula.
struct PoolingEnd {
    /// `b (N−1)`
    slope: u32,
    /// `b² N(N−1)/2`, and half of what the shift divides by.
    start: u32,
    shift: u8,
    max: u16,
}

impl PoolingEnd {
    /// z from Σ t and Σ t².
    #[inline(always)]
    fn lane(&self, sum: u32, squares: u32) -> i16 {
        let pairs = ((sum * sum - squares) >> 1).wrapping_sub(self.slope * sum).wrapping_add(self.start);
        clamp(pairs.cast_signed() >> self.shift, self.max)
    }
}

/// Pools four lanes; `codes` begins with their codes in the first row. Not inlined: nothing else takes its registers.
#[inline(never)]
fn four_lanes(codes: &[[i8; 4]], terms: &[Term], end: &PoolingEnd, z: &mut [i16; 4]) {
    let (mut sum_02, mut sum_13) = (0, 0);
    let [mut squares_0, mut squares_1, mut squares_2, mut squares_3] = [0_u32; 4];
    for &[row, gain, addend] in terms {
        // Each is there. This way out takes fewer registers than to go on would.
        let Some(codes) = codes.get(row as usize) else { break };
        let codes_128 = u32::from_le_bytes(codes.map(i8::cast_unsigned)) ^ 0x8080_8080;
        let t_02 = (codes_128 & 0x00ff_00ff).wrapping_mul(gain).wrapping_add(addend);
        let t_13 = ((codes_128 >> 8) & 0x00ff_00ff).wrapping_mul(gain).wrapping_add(addend);
        let ([t_0, t_2], [t_1, t_3]) = (halves(t_02), halves(t_13));
        sum_02 += t_02;
        sum_13 += t_13;
        squares_0 += (t_0 * t_0).cast_unsigned();
        squares_1 += (t_1 * t_1).cast_unsigned();
        squares_2 += (t_2 * t_2).cast_unsigned();
        squares_3 += (t_3 * t_3).cast_unsigned();
    }
    z[0] = end.lane(sum_02 & 0xffff, squares_0);
    z[1] = end.lane(sum_13 & 0xffff, squares_1);
    z[2] = end.lane(sum_02 >> 16, squares_2);
    z[3] = end.lane(sum_13 >> 16, squares_3);
}

/// `dense` with the rectifier, four outputs after four; `None` where sums are shifted down on the way.
#[inline(never)]
pub(in crate::kernels) fn dense_relu(layer: &FixedLayer<'_>, x: &[i16], y: &mut [i16]) -> Option<()> {
    let Weights::Dsp { words, fold } = layer.weights else { return None };
    let x: &[[u32; 2]] = bytemuck::try_cast_slice(x).ok()?;
    if layer.activation != Activation::Relu || x.is_empty() || x.len() > fold.into() {
        return None;
    }
    // Were this a number that the compiler knows, it would shift twice where one product gives both halves.
    let unit = black_box(256);
    let rows = words.as_chunks::<4>().0.chunks_exact(x.len());
    let outputs = y.as_chunks_mut::<4>().0.iter_mut();
    for ((y, bias), rows) in outputs.zip(layer.bias.as_chunks::<4>().0).zip(rows) {
        let [mut sum_0, mut sum_1, mut sum_2, mut sum_3] = [0; 4];
        for (words, x) in rows.iter().zip(x) {
            add_products(&mut sum_0, words[0], unit, x);
            add_products(&mut sum_1, words[1], unit, x);
            add_products(&mut sum_2, words[2], unit, x);
            add_products(&mut sum_3, words[3], unit, x);
        }
        y[0] = rectified(layer, bias[0], sum_0);
        y[1] = rectified(layer, bias[1], sum_1);
        y[2] = rectified(layer, bias[2], sum_2);
        y[3] = rectified(layer, bias[3], sum_3);
    }
    Some(())
}

/// Adds `Σ weights · x` of the weights in a word.
#[inline(always)]
fn add_products(sum: &mut i32, word: u32, unit: u32, &[x_01, x_23]: &[u32; 2]) {
    let ([w0, w1], [w2, w3]) = (halves(word), halves(word.wrapping_mul(unit)));
    let ([x0, x1], [x2, x3]) = (halves(x_01), halves(x_23));
    *sum += w0 * x0;
    *sum += w1 * x1;
    *sum += w2 * x2;
    *sum += w3 * x3;
    black_box(());
}

/// An output from its bias and its sum.
#[inline(always)]
fn rectified(layer: &FixedLayer<'_>, bias: i32, sum: i32) -> i16 {
    clamp(((bias + (sum >> 8)) >> layer.shift).max(0), layer.max)
}

/// `dense::dot`.
#[inline(always)]
pub(in crate::kernels) fn dot(weights: &[i16], x: &[i16]) -> Option<i32> {
    let (weights, []) = bytemuck::try_cast_slice::<_, u32>(weights).ok()?.as_chunks::<2>() else {
        return None;
    };
    let x = bytemuck::try_cast_slice::<_, u32>(x).ok()?.as_chunks().0;
    let mut sum = 0;
    for (weights, &[x_01, x_23]) in weights.iter().zip(x) {
        let ([w0, w1], [w2, w3]) = (halves(weights[0]), halves(weights[1]));
        let ([x0, x1], [x2, x3]) = (halves(x_01), halves(x_23));
        sum += w0 * x0 + w1 * x1 + w2 * x2 + w3 * x3;
    }
    Some(sum)
}

/// The halves of a word, from the lower on.
#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
const fn halves(word: u32) -> [i32; 2] {
    [word as i16 as i32, word.cast_signed() >> 16]
}
