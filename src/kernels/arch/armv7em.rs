//! Armv7E-M and Armv8-M with the DSP extension: Cortex-M4, M7, M33, M55.
//!
//! The loops are unrolled twice and entered in their middle for an odd count, so that no length needs a remainder. What they need
//! once a block lies in a frame on the stack, where one `ldm` fetches it and jumps into the loop; what changes from block to
//! block lies among the arguments behind the frame.
//!
//! `.cpu cortex-m33`: for `thumbv8m.main` the assembler knows the DSP instructions by no other name, stable `target_feature`
//! included.
#![expect(
    unsafe_code,
    reason = "a score takes 2.6 times fewer instructions than with the portable kernels: `cargo xtask on-target`"
)]

use core::{arch::naked_asm, ops::Range};

use crate::{
    kernels::bi_interaction::Term,
    model::{FixedLayer, MAX_MULTIPLIER, NibbleTable, QuantTable, Weights, saturate},
};

/// Bytes of the code of a step of the unrolled loops.
const DENSE_STEP_BYTES: u32 = 27 * 4;
const TERM_BYTES: u32 = 12 * 4;

/// Words of a term: the address of its row, its gain and its addend; see [`pool`].
pub(in crate::kernels) const TERM_WORDS: usize = 3;

/// Two halfwords of `value`.
fn twice(value: u16) -> u32 {
    u32::from(value) * 0x1_0001
}

/// What [`dense_blocks`] does with the sums of rows.
#[derive(Clone, Copy)]
enum Finish {
    /// Rectifies and requantizes them to at most 2047, and sums their products with a head.
    Dot11 = 0,
    /// The same with any largest output.
    Dot = 1,
    /// Rectifies, requantizes and stores them.
    Store = 2,
    /// Stores them as words.
    Sums = 3,
}

/// As `dense`, for a rectifier.
pub(in crate::kernels) fn dense_relu(layer: &FixedLayer<'_>, x: &[i16], y: &mut [i16]) -> Option<()> {
    let y: &mut [u32] = bytemuck::try_cast_slice_mut(y).ok()?;
    let fits = y.len() * 2 == layer.bias.len();
    // SAFETY: y takes an output for each bias.
    if fits { unsafe { relu(layer, x, Finish::Store, y.as_mut_ptr()) }.map(drop) } else { None }
}

/// As [`dense_relu`] and then `dot`: `Σₒ head[o] · y[o]`, padding included.
pub(in crate::kernels) fn dense_relu_dot(layer: &FixedLayer<'_>, x: &[i16], head: &[i16]) -> Option<i32> {
    let head: &[u32] = bytemuck::try_cast_slice(head).ok()?;
    let fits = head.len() * 2 == layer.bias.len();
    let finish = if layer.max == 2047 { Finish::Dot11 } else { Finish::Dot };
    // SAFETY: there is a weight for each bias, and these ways to finish only read them.
    if fits { unsafe { relu(layer, x, finish, head.as_ptr().cast_mut()) } } else { None }
}

/// All rows of a layer with a rectifier.
///
/// # Safety
///
/// `y` points to as many halfwords as there are biases, aligned to 4, which [`Finish::Store`] writes and the others read.
#[inline(never)]
unsafe fn relu(layer: &FixedLayer<'_>, x: &[i16], finish: Finish, y: *mut u32) -> Option<i32> {
    let Weights::Dsp { words, fold } = layer.weights else { return None };
    let out = layer.bias.len();
    if out == 0 || out % 4 != 0 {
        return None;
    }
    let blocks = saturate(out / 4 - 1);
    let arguments = Rows::new(words, x, fold.into(), out)?;
    let (bias, shift) = (layer.bias.as_ptr(), u32::from(layer.shift & 31));
    // SAFETY: bias and y have `out` elements, a multiple of four.
    Some(unsafe { arguments.run(finish, bias, y, blocks << 8 | shift, twice(layer.max)) })
}

/// As `dsp::block`.
pub(in crate::kernels) fn sums(words: &[u32], x: &[i16], fold: usize) -> Option<[i32; 4]> {
    let mut sums = [0_i32; 4];
    if fold == 1 {
        let x: &[[u32; 2]] = bytemuck::try_cast_slice(x).ok()?;
        if x.is_empty() || words.len() != x.len() * 4 {
            return None;
        }
        // SAFETY: there is a group of four inputs, and as many of weights; both are aligned.
        unsafe { fold_each(words.as_ptr(), x.as_ptr(), x.as_ptr_range().end, &mut sums) };
        return Some(sums);
    }
    let zeros = [0_i32; 4];
    let rows = Rows::new(words, x, fold, 4)?;
    // SAFETY: there are four biases, and room for four sums.
    unsafe { rows.run(Finish::Sums, zeros.as_ptr(), sums.as_mut_ptr().cast(), 0, 0) };
    Some(sums)
}

/// Four rows, folded after every group of four inputs.
///
/// # Safety
///
/// From `x` to `x_end` are i > 0 groups; `words` holds 4 · i words.
#[unsafe(naked)]
unsafe extern "C" fn fold_each(
    words: *const u32,
    x: *const [u32; 2],
    x_end: *const [u32; 2],
    sums: &mut [i32; 4],
) {
    naked_asm!(
        ".cpu cortex-m33",
        "push {{r3-r11, lr}}",
        "movs r4, #0",
        "movs r5, #0",
        "movs r6, #0",
        "movs r7, #0",
        "1: ldm r0!, {{r8-r11}}",
        "ldm r1!, {{r12, lr}}",
        "smuad r3, r8, r12",
        "lsl r8, r8, #8",
        "smlad r3, r8, lr, r3",
        "add r4, r4, r3, asr #8",
        "smuad r3, r9, r12",
        "lsl r9, r9, #8",
        "smlad r3, r9, lr, r3",
        "add r5, r5, r3, asr #8",
        "smuad r3, r10, r12",
        "lsl r10, r10, #8",
        "smlad r3, r10, lr, r3",
        "add r6, r6, r3, asr #8",
        "smuad r3, r11, r12",
        "lsl r11, r11, #8",
        "smlad r3, r11, lr, r3",
        "add r7, r7, r3, asr #8",
        "cmp r1, r2",
        "bne 1b",
        "ldr r3, [sp]",
        "stm r3, {{r4-r7}}",
        "pop {{r3-r11, pc}}",
    )
}

/// Rows of weights and their inputs, as [`dense_blocks`] takes them.
struct Rows<'a> {
    words: &'a [u32],
    x: &'a [u32],
    /// Bytes of inputs between two folds.
    fold_len: usize,
}

impl<'a> Rows<'a> {
    /// `None` where there are not `out` rows, or not a whole number of folds in each, or of loop steps in a fold.
    #[inline(always)]
    fn new(words: &'a [u32], x: &'a [i16], fold: usize, out: usize) -> Option<Self> {
        let x: &[u32] = bytemuck::try_cast_slice(x).ok()?;
        let groups = x.len() / 2;
        let fold = fold.min(groups);
        // Below 2¹⁶ both, so their product cannot wrap.
        let small = (groups | out) < 1 << 16;
        if fold == 0 || x.len() % 4 != 0 || !small || words.len() != groups.wrapping_mul(out) {
            return None;
        }
        if fold != groups && (fold % 2 != 0 || groups % fold != 0) {
            return None;
        }
        Some(Self { words, x, fold_len: fold * 8 })
    }

    /// # Safety
    ///
    /// As [`dense_blocks`], whose first arguments are checked: `out` rows are there.
    #[inline(always)]
    unsafe fn run(self, finish: Finish, bias: *const i32, y: *mut u32, blocks: u32, max: u32) -> i32 {
        let (words, x) = (self.words.as_ptr(), self.x.as_ptr_range());
        // SAFETY: `new` checked the words, x and the folds; the caller the rest.
        unsafe { dense_blocks(words, x.start, x.end, self.fold_len, finish as u32, bias, y, 0, blocks, max) }
    }
}

/// Blocks of four rows; gives the products' sum where there is a head.
///
/// # Safety
///
/// `x..x_end` are readable, i > 0 activations, a multiple of eight, aligned to 4. `fold_len` is a positive multiple of 16 that
/// divides their bytes, or these. `blocks` holds the number of blocks less one, shifted up by 8 bits, and a shift below 32;
/// with o rows in these blocks, `words` holds i · o / 4 words, `bias` o words, and `y` o halfwords, aligned to 4: it takes the
/// outputs, or holds the head. [`Finish::Sums`] is for one block: `y` takes four words.
#[unsafe(naked)]
unsafe extern "C" fn dense_blocks(
    words: *const u32,
    x: *const u32,
    x_end: *const u32,
    fold_len: usize,
    finish: u32,
    bias: *const i32,
    y: *mut u32,
    sum: i32,
    blocks: u32,
    max: u32,
) -> i32 {
    naked_asm!(
        ".cpu cortex-m33",
        "push {{r4-r11, lr}}",
        // The frame: 0 ×4, x, where to start a block | 24 where to go after a pass, end of the fold, where to go after it |
        // 36 where to start a fold, its bytes, end of x, totals ×4 | the arguments: 100 finish, bias, y, sum, blocks, max.
        "sub sp, #64",
        "mov lr, r0",
        "movs r4, #0",
        "strd r4, r4, [sp]",
        "strd r4, r4, [sp, #8]",
        "adr.w r5, 2f",
        "lsls r6, r3, #27",
        "it mi",
        "addmi r5, #{step}", // An odd number of steps.
        "orr r5, r5, #1", // Thumb
        "strd r1, r5, [sp, #16]",
        "adr.w r7, 3f",
        "ldr r6, [sp, #100]",
        "cbz r6, 8f",
        "adr.w r7, 4f",
        "8: add r8, r1, r3",
        "adr.w r6, 6f",
        "cmp r8, r2",
        "bne 9f",
        "cmp r3, #32",
        "it ls",
        "movls r6, r7", // One pass.
        "0: orr r6, r6, #1",
        "orr r7, r7, #1",
        "strd r6, r8, [sp, #24]",
        "str r7, [sp, #32]",
        // r0-r3: sums; r4: x; lr: words.
        "1: ldm sp, {{r0-r4, pc}}",
        ".p2align 2",
        "2:",
        ".rept 2",
        "ldm.w r4!, {{r9-r12}}",
        "ldm.w lr!, {{r5-r8}}",
        "smlad r0, r5, r9, r0",
        "smlad r1, r6, r9, r1",
        "smlad r2, r7, r9, r2",
        "smlad r3, r8, r9, r3",
        "lsl.w r5, r5, #8",
        "lsl.w r6, r6, #8",
        "lsl.w r7, r7, #8",
        "lsl.w r8, r8, #8",
        "smlad r0, r5, r10, r0",
        "smlad r1, r6, r10, r1",
        "smlad r2, r7, r10, r2",
        "smlad r3, r8, r10, r3",
        "ldm.w lr!, {{r5-r8}}",
        "smlad r0, r5, r11, r0",
        "smlad r1, r6, r11, r1",
        "smlad r2, r7, r11, r2",
        "smlad r3, r8, r11, r3",
        "lsl.w r5, r5, #8",
        "lsl.w r6, r6, #8",
        "lsl.w r7, r7, #8",
        "lsl.w r8, r8, #8",
        "smlad r0, r5, r12, r0",
        "smlad r1, r6, r12, r1",
        "smlad r2, r7, r12, r2",
        "smlad r3, r8, r12, r3",
        ".endr",
        "ldr pc, [sp, #24]",
        "6:",
        "ldr r9, [sp, #28]",
        "cmp r4, r9",
        "bne.w 2b",
        "ldr pc, [sp, #32]",
        // Outputs of at most 2047.
        "3:",
        "add r4, sp, #104",
        "ldm r4, {{r5-r8}}", // bias, y, sum, blocks and shift
        "ldm r5!, {{r9-r12}}",
        "add r0, r9, r0, asr #8",
        "add r1, r10, r1, asr #8",
        "add r2, r11, r2, asr #8",
        "add r3, r12, r3, asr #8",
        "asrs r0, r0, r8", // by the lowest byte
        "asrs r1, r1, r8",
        "asrs r2, r2, r8",
        "asrs r3, r3, r8",
        "usat r0, #11, r0",
        "usat r1, #11, r1",
        "usat r2, #11, r2",
        "usat r3, #11, r3",
        "pkhbt r0, r0, r1, lsl #16",
        "pkhbt r2, r2, r3, lsl #16",
        "10:",
        "ldm r6!, {{r9, r10}}",
        "smlad r7, r9, r0, r7",
        "smlad r7, r10, r2, r7",
        "11:",
        "subs.w r8, r8, #256",
        "stm r4, {{r5-r8}}",
        "bhs 1b",
        "mov r0, r7",
        "5:",
        "add sp, #64",
        "pop {{r4-r11, pc}}",
        // Other outputs.
        "4:",
        "add r4, sp, #104",
        "ldm r4, {{r5-r8}}",
        "ldm r5!, {{r9-r12}}",
        "add r0, r9, r0, asr #8",
        "add r1, r10, r1, asr #8",
        "add r2, r11, r2, asr #8",
        "add r3, r12, r3, asr #8",
        "12:",
        "ldr r12, [sp, #100]", // finish
        "cmp r12, #{sums}",
        "itt eq",
        "stmeq r6, {{r0-r3}}",
        "beq 5b",
        "asrs r0, r0, r8",
        "asrs r1, r1, r8",
        "asrs r2, r2, r8",
        "asrs r3, r3, r8",
        "usat r0, #15, r0",
        "usat r1, #15, r1",
        "usat r2, #15, r2",
        "usat r3, #15, r3",
        "pkhbt r0, r0, r1, lsl #16",
        "pkhbt r2, r2, r3, lsl #16",
        "ldr r11, [sp, #120]",
        "usub16 r9, r0, r11", // min(·, max)
        "sel r0, r11, r0",
        "usub16 r9, r2, r11",
        "sel r2, r11, r2",
        "cmp r12, #{store}",
        "bne 10b",
        "strd r0, r2, [r6], #8",
        "b 11b",
        // Several folds: a block starts with its biases as totals.
        "9:",
        "str r5, [sp, #36]",
        "strd r3, r2, [sp, #40]",
        "adr.w r5, 13f",
        "orr r5, r5, #1",
        "str r5, [sp, #20]",
        "adr.w r7, 14f",
        "b 0b",
        "13:",
        "ldr r5, [sp, #104]",
        "ldm r5, {{r5-r8}}",
        "add r9, sp, #48",
        "stm r9, {{r5-r8}}",
        "ldr pc, [sp, #36]",
        "14:",
        "add r10, sp, #48",
        "ldm r10, {{r5-r8}}",
        "add r0, r5, r0, asr #8",
        "add r1, r6, r1, asr #8",
        "add r2, r7, r2, asr #8",
        "add r3, r8, r3, asr #8",
        "stm r10, {{r0-r3}}",
        "ldrd r11, r12, [sp, #40]",
        "cmp r4, r12",
        "add r9, r9, r11",
        "beq 15f",
        "str r9, [sp, #28]",
        "ldm sp, {{r0-r3}}",
        "ldr pc, [sp, #36]",
        "15:",
        "ldr r5, [sp, #16]",
        "add r5, r5, r11",
        "str r5, [sp, #28]",
        "add r4, sp, #104",
        "ldm r4, {{r5-r8}}",
        "adds r5, #16",
        "b 12b",
        step = const DENSE_STEP_BYTES,
        sums = const Finish::Sums as u32,
        store = const Finish::Store as u32,
    )
}

/// As `dense::dot`.
#[inline(always)]
pub(in crate::kernels) fn dot(weights: &[i16], x: &[i16]) -> Option<i32> {
    let (weights, x): (&[u32], &[u32]) =
        (bytemuck::try_cast_slice(weights).ok()?, bytemuck::try_cast_slice(x).ok()?);
    if x.len() != weights.len() || x.is_empty() || x.len() % 4 != 0 {
        return None;
    }
    // SAFETY: both hold as many words, a multiple of four, aligned.
    Some(unsafe { dot_words(weights.as_ptr(), x.as_ptr(), x.as_ptr_range().end) })
}

/// # Safety
///
/// From `x` to `x_end` is a positive multiple of 16 bytes; `weights` points to as many; both are aligned to 4.
#[unsafe(naked)]
unsafe extern "C" fn dot_words(weights: *const u32, x: *const u32, x_end: *const u32) -> i32 {
    naked_asm!(
        ".cpu cortex-m33",
        "push {{r4-r10, lr}}",
        "movs r3, #0",
        "1: ldm r0!, {{r4-r7}}",
        "ldm r1!, {{r8-r10, lr}}",
        "smlad r3, r4, r8, r3",
        "smlad r3, r5, r9, r3",
        "smlad r3, r6, r10, r3",
        "smlad r3, r7, lr, r3",
        "cmp r1, r2",
        "bne 1b",
        "mov r0, r3",
        "pop {{r4-r10, pc}}",
    )
}

/// What both kinds of tables need to be pooled: everything but the rows.
struct Pooling<'a> {
    z: &'a mut [u32],
    shift: u8,
    max: u16,
    /// Lanes, a positive multiple of 4.
    lanes: usize,
    /// What makes every embedding's sum with it positive.
    bias: u32,
    /// `−bias (N−1)`, and the constant part of the sum over pairs.
    sum: u32,
    pairs: i32,
}

impl<'a> Pooling<'a> {
    /// `None` where there is no entry, or where sums of `count` entries of magnitudes up to `bias` do not fit 16 bits.
    #[inline(always)]
    fn new(count: usize, bias: u32, shift: u8, max: u16, z: &'a mut [i16]) -> Option<Self> {
        let z: &mut [u32] = bytemuck::try_cast_slice_mut(z).ok()?;
        let lanes = z.len() * 2;
        let others = saturate(count).checked_sub(1)?;
        if lanes == 0 || lanes % 4 != 0 || bias > 0x3fff || others.saturating_mul(bias) > 0x7fff {
            return None;
        }
        let sum = others * bias;
        let half = (1_i32 << (shift & 31)) >> 1;
        // b² N (N−1) / 2
        let pairs = half.wrapping_add((sum * (others + 1) / 2 * bias).cast_signed());
        let sum = 0_u32.wrapping_sub(sum);
        Some(Self { z, shift, max, lanes, bias, sum: sum << 16 | (sum & 0xffff), pairs })
    }

    /// # Safety
    ///
    /// As [`pool`] for the terms.
    #[inline(always)]
    unsafe fn run(self, terms: *const Term, hot: *const Term, terms_end: *const Term) {
        let Self { z, shift, max, lanes, sum, pairs, .. } = self;
        let (z, shift, min) = (z.as_mut_ptr(), shift.into(), twice(0_u16.wrapping_sub(max)));
        // SAFETY: z takes a positive multiple of four lanes; the caller answers for the terms.
        unsafe { pool(terms, hot, terms_end, pairs, z, shift, twice(max), min, lanes, sum) };
    }
}

/// The first `count` terms of `words`.
#[inline(always)]
fn room(words: &mut [u32], count: usize) -> Option<Range<*mut Term>> {
    let first: *mut Term = words.as_mut_ptr().cast();
    // No slice is so long that the product wraps.
    (count.wrapping_mul(TERM_WORDS) <= words.len()).then(|| first..first.wrapping_add(count))
}

/// As `terms` and then `bi_interaction`: the sum of the first-order codes; z where every id is a row.
///
/// Sums are kept in halfwords. With `b = max_embedding` every addend is `e + b`, which is not negative, so that a product
/// of two packed codes borrows nothing; sums begin at `−b (N−1)`. Then
/// `Σᵢ (eᵢ + b) · sumᵢ = Σ_{i<j} eᵢ eⱼ − b² N(N−1)/2`, and every sum that enters a product is in ±`b (N−1)`.
#[inline(never)]
pub(in crate::kernels) fn bi_interaction_of_ids(
    table: &QuantTable<'_>,
    ids: &[u32],
    terms: &mut [u32],
    max_embedding: u16,
    shift: u8,
    max: u16,
    z: &mut [i16],
) -> Option<i32> {
    let QuantTable { headers, codes } = *table;
    // A header holds a multiplier of at most 16.
    let bias = max_embedding.min(128 * u16::from(MAX_MULTIPLIER));
    let pooling = Pooling::new(ids.len(), bias.into(), shift, max, z)?;
    // Codes are loaded by words. Those of a blob are aligned; a caller of `Model::new` may have others.
    let aligned = codes.as_ptr().cast::<u32>().is_aligned();
    let rows_lie_in_codes = headers.len().checked_mul(pooling.lanes)? <= codes.len();
    let terms = room(terms, ids.len())?;
    if !aligned || !rows_lie_in_codes {
        return None;
    }
    let ids = ids.as_ptr_range();
    let bias = pooling.bias * 0x1_0001;
    // SAFETY: there are ids and as many terms; a row of `lanes` codes lies behind each header's place.
    let sum = unsafe {
        row_terms(
            ids.start,
            ids.end,
            headers.as_ptr(),
            headers.len(),
            codes.as_ptr(),
            pooling.lanes,
            terms.start,
            bias,
        )
    };
    if sum == NO_ROW {
        return None;
    }
    // SAFETY: `row_terms` gave each term an aligned row of `lanes` codes.
    unsafe { pooling.run(terms.start, terms.start, terms.end) };
    Some(sum)
}

/// No sum of first-order codes: one of 2¹⁶ entries is above −2²⁷.
const NO_ROW: i32 = i32::MIN;

/// Writes the terms of ids, and gives the sum of their first-order codes, or [`NO_ROW`].
///
/// # Safety
///
/// `ids..ids_end` are readable and not empty; `terms` takes as many terms. `headers` holds `rows` halfwords.
#[unsafe(naked)]
unsafe extern "C" fn row_terms(
    ids: *const u32,
    ids_end: *const u32,
    headers: *const u16,
    rows: usize,
    codes: *const i8,
    lanes: usize,
    terms: *mut Term,
    bias: u32,
) -> i32 {
    naked_asm!(
        ".cpu cortex-m33",
        "push {{r4-r11, lr}}",
        "add r12, sp, #36",
        "ldm r12, {{r4-r7}}", // codes, lanes, terms, bias
        "mov r8, #0x00800080",
        "mov r9, #0",
        "1: ldr r10, [r0], #4",
        "cmp r10, r3",
        "bhs 2f",
        "ldrsh r11, [r2, r10, lsl #1]",
        "mla r10, r10, r5, r4",
        "add r9, r9, r11, asr #4",
        "and r11, r11, #15",
        "add r11, r11, #1",
        "mls r12, r11, r8, r7", // b − 128 · gain, twice
        "stm r6!, {{r10-r12}}",
        "cmp r0, r1",
        "bne 1b",
        "mov r0, r9",
        "pop {{r4-r11, pc}}",
        "2: mov r0, #0x80000000", // NO_ROW
        "pop {{r4-r11, pc}}",
    )
}

/// As `nibble_terms` and then the pooling of nibbles: the sum of the first-order codes; z where every id is a row.
///
/// As [`bi_interaction_of_ids`]. The terms of hot rows come after those of the others.
#[inline(never)]
pub(in crate::kernels) fn bi_interaction_of_nibble_ids(
    table: &NibbleTable<'_>,
    ids: &[u32],
    terms: &mut [u32],
    max_embedding: u16,
    shift: u8,
    max: u16,
    z: &mut [i16],
) -> Option<i32> {
    let NibbleTable { headers, hot, codes, nibbles } = *table;
    let pooling = Pooling::new(ids.len(), max_embedding.into(), shift, max, z)?;
    let aligned = codes.is_empty() || codes.as_ptr().cast::<u32>().is_aligned();
    let groups_are_there = hot.is_empty() || hot.len() / 2 >= headers.len().div_ceil(32);
    let terms = room(terms, ids.len())?;
    if !aligned || !groups_are_there {
        return None;
    }
    let words = pooling.lanes.div_ceil(8);
    let arguments = NibbleRows {
        row_bytes: words * 4,
        nibbles: nibbles.as_ptr(),
        rows: nibbles.len().checked_div(words)?,
        lanes: pooling.lanes,
        codes: codes.as_ptr(),
        hot_rows: codes.len().checked_div(pooling.lanes)?,
        bias: pooling.bias,
        hot: if hot.is_empty() { core::ptr::null() } else { hot.as_ptr() },
    };
    // SAFETY: there are ids and as many terms, and a group of hot bits for each 32 headers; `rows` and `hot_rows` fit the codes.
    let found = unsafe {
        nibble_terms(ids.as_ptr(), headers.as_ptr(), headers.len(), &arguments, terms.start, terms.end)
    };
    let (sum, hot_terms) = ((found as u32).cast_signed(), (found >> 32) as usize);
    if sum == NO_ROW {
        return None;
    }
    let hot_terms = terms.end.wrapping_byte_sub(hot_terms);
    // SAFETY: `nibble_terms` gave each term an aligned row of the kind that its place says.
    unsafe { pooling.run(terms.start, hot_terms, terms.end) };
    Some(sum)
}

/// What [`nibble_terms`] reads: where rows of either kind begin, how long they are, and how many there are.
#[repr(C)]
struct NibbleRows {
    row_bytes: usize,
    nibbles: *const u32,
    rows: usize,
    lanes: usize,
    codes: *const i8,
    hot_rows: usize,
    bias: u32,
    hot: *const u32,
}

/// Writes the terms of ids, those of hot rows last, and gives the sum of their first-order codes and, from bit 32 on, the bytes
/// that the hot terms take; or a sum of [`NO_ROW`].
///
/// # Safety
///
/// `terms..terms_end` takes one term or more, and `ids` holds as many ids. `headers` holds `rows` words; where `hot` is not null
/// it has a pair of words for each 32 of them.
#[unsafe(naked)]
unsafe extern "C" fn nibble_terms(
    ids: *const u32,
    headers: *const u32,
    rows: usize,
    table: &NibbleRows,
    terms: *mut Term,
    terms_end: *mut Term,
) -> u64 {
    naked_asm!(
        ".cpu cortex-m33",
        "push {{r4-r11, lr}}",
        "ldrd r5, r6, [sp, #36]",
        "ldr r4, [r3, #28]", // hot
        "movs r7, #0",
        "1: ldr r9, [r0], #4",
        "cmp r9, r2",
        "bhs 9f",
        "ldr r10, [r1, r9, lsl #2]",
        "add r7, r7, r10, asr #20",
        "ubfx r11, r10, #12, #8",
        "add r11, r11, #1",
        "sbfx r12, r10, #0, #12",
        "cbz r4, 2f",
        // How many rows up to this one are hot, as `NibbleTable::place` counts them.
        "lsr lr, r9, #5",
        "add lr, r4, lr, lsl #3",
        "ldrd r10, lr, [lr]",
        "mvn r8, r9",
        "and r8, r8, #31",
        "lsls r10, r10, r8", // N: hot
        "and r8, r10, #0xaaaaaaaa",
        "sub r10, r10, r8, lsr #1",
        "and r8, r10, #0x33333333",
        "bic r10, r10, #0x33333333",
        "add r10, r8, r10, lsr #2",
        "add r10, r10, r10, lsr #4",
        "and r10, r10, #0x0f0f0f0f",
        "mov.w r8, #0",
        "usada8 r10, r10, r8, lr",
        "bmi 3f",
        "sub r9, r9, r10",
        "2: ldm r3, {{r8, r10, lr}}", // row_bytes, nibbles, rows
        "cmp r9, lr",
        "bhs 9f",
        "mla r10, r9, r8, r10",
        "ldr r8, [r3, #24]", // bias
        "add r12, r12, r8",
        "pkhbt r12, r12, r12, lsl #16",
        "stm r5!, {{r10-r12}}",
        "cmp r5, r6",
        "bne 1b",
        "8: mov r0, r7",
        "ldr r1, [sp, #40]",
        "subs r1, r1, r6",
        "pop {{r4-r11, pc}}",
        "9: mov r0, #0x80000000", // NO_ROW
        "pop {{r4-r11, pc}}",
        "3: add lr, r3, #12",
        "ldm lr, {{r8, r9, r12, lr}}", // lanes, codes, hot_rows, bias
        "sub r10, r10, #1",
        "cmp r10, r12",
        "bhs 9b",
        "mla r10, r10, r8, r9",
        "sub r12, lr, r11, lsl #7",
        "pkhbt r12, r12, r12, lsl #16",
        "stmdb r6!, {{r10-r12}}",
        "cmp r5, r6",
        "bne 1b",
        "b 8b",
    )
}

/// What every row adds in four lanes: r12 holds the codes of lanes 0 and 2, r9 those of 1 and 3; r10 the gain, r11 the addend.
macro_rules! accumulate {
    () => {
        "mla r12, r12, r10, r11
        mla r9, r9, r10, r11
        smlabb r0, r12, r4, r0
        smlabb r1, r9, r5, r1
        smlatt r2, r12, r4, r2
        smlatt r3, r9, r5, r3
        sadd16 r4, r4, r12
        sadd16 r5, r5, r9"
    };
}

/// Four lanes after four: first the rows of nibbles, then those of 8-bit codes. A term's addend is `b − 128 · gain` where the
/// codes are of 8 bits, else `b` and the row's offset, in both halves.
///
/// # Safety
///
/// `terms..hot` and `hot..terms_end` are terms, N > 0 together. Those of the first are at ⌈lanes / 8⌉ words, of the others at
/// `lanes` codes, aligned to 4. `lanes` is a positive multiple of 4, and `z` takes as many halfwords, aligned to 4.
#[unsafe(naked)]
unsafe extern "C" fn pool(
    terms: *const Term,
    hot: *const Term,
    terms_end: *const Term,
    pairs: i32,
    z: *mut u32,
    shift: u32,
    max: u32,
    min: u32,
    lanes: usize,
    sum: u32,
) {
    naked_asm!(
        ".cpu cortex-m33",
        "push {{r4-r11, lr}}",
        // The frame: pairs ×4, sum ×2, terms, where to start | 32 where to go after the nibbles, hot, where to start there,
        // terms_end | the arguments: 84 z, shift, max, min, lanes, sum.
        "sub sp, #48",
        "mov lr, r2",
        "ldr r4, [sp, #104]",
        "strd r3, r3, [sp]",
        "strd r3, r3, [sp, #8]",
        "strd r4, r4, [sp, #16]",
        "adr.w r5, 2f",
        "subs r6, r2, r1",
        "lsls r6, r6, #29",
        "it mi",
        "addmi r5, #{term}", // An odd number of terms.
        "orr r5, r5, #1", // Thumb
        "cmp r0, r1",
        "bne 6f",
        "mov r7, #0x00800080",
        "0: strd r0, r5, [sp, #24]",
        "mov r8, #0",
        // r0-r3: pairs of the lanes; r4: sums of lanes 0 and 2; r5: of 1 and 3; r6: terms; r8: lane.
        "1: ldm sp, {{r0-r6, pc}}",
        ".p2align 2",
        "2:",
        ".rept 2",
        "ldm.w r6!, {{r9-r11}}",
        "ldr.w r9, [r9, r8]",
        "sxtab16 r12, r7, r9", // codes + 128
        "sxtab16 r9, r7, r9, ror #8",
        accumulate!(),
        ".endr",
        "cmp r6, lr",
        "bne 2b",
        "3: add r6, sp, #84",
        "ldm r6, {{r4, r5, r9-r11}}", // z, shift, max, min, lanes
        "asrs r0, r0, r5",
        "asrs r1, r1, r5",
        "asrs r2, r2, r5",
        "asrs r3, r3, r5",
        "ssat r0, #16, r0",
        "ssat r1, #16, r1",
        "ssat r2, #16, r2",
        "ssat r3, #16, r3",
        "pkhbt r0, r0, r1, lsl #16",
        "pkhbt r2, r2, r3, lsl #16",
        "ssub16 r12, r0, r9", // min(·, max)
        "sel r0, r9, r0",
        "ssub16 r12, r2, r9",
        "sel r2, r9, r2",
        "ssub16 r12, r0, r10", // max(·, min)
        "sel r0, r0, r10",
        "ssub16 r12, r2, r10",
        "sel r2, r2, r10",
        "strd r0, r2, [r4], #8",
        "str r4, [r6]",
        "add r8, r8, #4",
        "cmp r8, r11",
        "bne.w 1b",
        "add sp, #48",
        "pop {{r4-r11, pc}}",
        // There are nibbles.
        "6:",
        "strd r1, r5, [sp, #36]",
        "str r2, [sp, #44]",
        "adr.w r6, 3b",
        "adr.w r7, 7f",
        "cmp r1, r2",
        "it ne",
        "movne r6, r7",
        "orr r6, r6, #1",
        "str r6, [sp, #32]",
        "adr.w r5, 4f",
        "orr r5, r5, #1",
        "b 0b",
        // A word of them has eight lanes.
        "4:",
        "mov r7, #0x000f000f",
        "ldr lr, [sp, #36]",
        "lsrs r8, r8, #3",
        "bcs 5f",
        "8: ldm r6!, {{r9-r11}}",
        "ldr r9, [r9, r8, lsl #2]",
        "and r12, r7, r9",
        "and r9, r7, r9, lsr #4",
        accumulate!(),
        "cmp r6, lr",
        "bne 8b",
        "lsl r8, r8, #3",
        "ldr pc, [sp, #32]",
        "5: ldm r6!, {{r9-r11}}",
        "ldr r9, [r9, r8, lsl #2]",
        "and r12, r7, r9, lsr #8",
        "and r9, r7, r9, lsr #12",
        accumulate!(),
        "cmp r6, lr",
        "bne 5b",
        "lsl r8, r8, #3",
        "add r8, r8, #4",
        "ldr pc, [sp, #32]",
        // Now the hot rows.
        "7:",
        "mov r7, #0x00800080",
        "ldr lr, [sp, #44]",
        "ldr pc, [sp, #40]",
        term = const TERM_BYTES,
    )
}

/// As `float::dot`, before its last sums: the eight accumulators.
///
/// `vmla` rounds the product and then the sum, as the portable kernel's two operations do.
#[cfg(target_abi = "eabihf")]
pub(in crate::kernels) fn float_dot(weights: &[f32], x: &[f32]) -> Option<[f32; 8]> {
    if x.is_empty() || !x.len().is_multiple_of(8) || weights.len() != x.len() {
        return None;
    }
    let mut sums = [0.0; 8];
    // SAFETY: from both pointers on there are as many floats, a positive multiple of eight.
    unsafe { float_products(weights.as_ptr(), x.as_ptr(), x.as_ptr_range().end, &mut sums) };
    Some(sums)
}

/// Adds products to eight interleaved sums.
///
/// # Safety
///
/// From `x` to `x_end` are i > 0 floats, a multiple of eight; `weights` has as many.
#[cfg(target_abi = "eabihf")]
#[unsafe(naked)]
unsafe extern "C" fn float_products(
    weights: *const f32,
    x: *const f32,
    x_end: *const f32,
    sums: &mut [f32; 8],
) {
    naked_asm!(
        ".cpu cortex-m33",
        "vpush {{s16-s23}}",
        "vldmia r3, {{s0-s7}}",
        "2: vldmia r1!, {{s8-s15}}",
        "vldmia r0!, {{s16-s23}}",
        "vmla.f32 s0, s16, s8",
        "vmla.f32 s1, s17, s9",
        "vmla.f32 s2, s18, s10",
        "vmla.f32 s3, s19, s11",
        "vmla.f32 s4, s20, s12",
        "vmla.f32 s5, s21, s13",
        "vmla.f32 s6, s22, s14",
        "vmla.f32 s7, s23, s15",
        "cmp r1, r2",
        "bne 2b",
        "vstmia r3, {{s0-s7}}",
        "vpop {{s16-s23}}",
        "bx lr",
    )
}

/// There is none without an FPU.
#[cfg(not(target_abi = "eabihf"))]
pub(in crate::kernels) const fn float_dot(_: &[f32], _: &[f32]) -> Option<[f32; 8]> {
    None
}
