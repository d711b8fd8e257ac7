//! Armv7E-M and Armv8-M with the DSP extension: Cortex-M4, M7, M33, M55.
//!
//! The loops are unrolled twice and entered in their middle for an odd count, so that no length needs a remainder. What they need
//! once a block lies in a frame on the stack, where one `ldm` fetches it and jumps into the loop. What stays the same for a model
//! is checked and looked up once, see [`Plan`].
//!
//! `.cpu cortex-m33`: for `thumbv8m.main` the assembler knows the DSP instructions by no other name, stable `target_feature`
//! included.
#![expect(
    unsafe_code,
    reason = "a score takes 2.6 times fewer instructions than with the portable kernels: `cargo xtask on-target`"
)]

use core::{
    arch::naked_asm,
    ptr::{null, null_mut},
};

use super::plan::Rows;
use crate::{
    features,
    kernels::nibbles::TERM_WORDS,
    model::{FixedLayer, Weights, saturate},
};

/// Whether the pooling takes any number of terms: its sums are of 16 bits.
pub(crate) const POOLS_ANY_COUNT: bool = false;

/// Four codes are loaded together.
pub(super) const LOADS_WORDS_OF_CODES: bool = true;

/// Bytes of the code of a step of [`run`].
const DENSE_STEP_BYTES: u32 = 27 * 4;

/// The address of a row, its gain and its addend; see [`pool_terms`].
type Term = [u32; TERM_WORDS];

/// Two halfwords of `value`.
fn twice(value: u16) -> u32 {
    u32::from(value) * 0x1_0001
}

/// z's largest code, or 0 where that is 2047, and its least one, twice.
pub(super) fn limits(max: u16) -> (u32, u32) {
    (if max == 2047 { 0 } else { twice(max) }, twice(0_u16.wrapping_sub(max)))
}

/// Pools the rows of ids into z, and gives the sum of their first-order codes; `i32::MIN` when an id is none, or there are too many.
///
/// # Safety
///
/// `rows` is as [`Rows`] says. `ids..ids_end` are readable, one or more; `words` has three for each of them, and `z` takes as many
/// halfwords as there are lanes, at a multiple of four.
pub(super) unsafe fn pool(
    rows: &Rows,
    ids: *const u32,
    ids_end: *const u32,
    words: *mut u32,
    z: *mut i16,
) -> i32 {
    if features::NIBBLES && rows.has_nibbles() {
        // SAFETY: by this function's own contract.
        unsafe { pool_nibbles(rows, ids, ids_end, words.cast(), z) }
    } else {
        // SAFETY: as above.
        unsafe { pool_codes(rows, ids, ids_end, words.cast(), z) }
    }
}

/// Whether [`run`] takes rows of these groups of four inputs, folded after so many of them.
const fn takes_fold(groups: usize, fold: usize) -> bool {
    fold != 0 && (fold >= groups || (fold % 2 == 0 && groups % fold == 0))
}

/// Whether the weights of a layer are packed as this core's twins read them.
pub(crate) const fn is_native(weights: &Weights<'_>, inputs: usize) -> bool {
    matches!(weights, Weights::Dsp { fold, .. } if takes_fold(inputs / 4, *fold as usize))
}

/// What [`run`] does with the sums of rows.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
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

/// What [`run`] reads.
///
/// With i inputs, i > 0 and a multiple of eight, and o rows, o > 0 and a multiple of four: `words` holds i · o / 4 words, `bias` o
/// words, and `y` o halfwords, aligned to 4, which are the head or take the outputs. [`Finish::Sums`] is for four rows: `y` takes
/// as many words.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Layer {
    words: *const u32,
    /// Bytes of inputs between two folds: 2 · i, or a multiple of 16 that divides it.
    fold_bytes: usize,
    /// 2 · i
    x_bytes: usize,
    finish: Finish,
    bias: *const i32,
    y: *mut i16,
    /// Where the sum of products begins.
    sum: i32,
    /// o / 4 − 1, shifted up by 8 bits, and a shift below 32.
    blocks: u32,
    /// The largest output, twice.
    max: u32,
}

impl Layer {
    /// No layer.
    pub(super) const EMPTY: Self = Self {
        words: null(),
        fold_bytes: 0,
        x_bytes: 0,
        finish: Finish::Dot11,
        bias: null(),
        y: null_mut(),
        sum: 0,
        blocks: 0,
        max: 0,
    };

    /// Whether this is none.
    pub(super) const fn is_empty(&self) -> bool {
        self.x_bytes == 0
    }

    /// A layer that writes its outputs to `y`, as many as there are biases.
    ///
    /// `None` where the layer is not a whole number of folds in each row, or of loop steps in a fold.
    #[inline(never)]
    pub(super) fn new(layer: &FixedLayer<'_>, inputs: usize, y: *mut i16) -> Option<Self> {
        let Weights::Dsp { words, fold } = layer.weights else { return None };
        let out = layer.bias.len();
        let rows = Self::rows(words, inputs, fold.into(), out)?;
        let blocks = saturate(out / 4).checked_sub(1)? << 8 | u32::from(layer.shift & 31);
        (out % 4 == 0).then_some(Self {
            finish: Finish::Store,
            bias: layer.bias.as_ptr(),
            y,
            blocks,
            max: twice(layer.max),
            ..rows
        })
    }

    /// The same, with outputs that meet the head at `y` instead.
    pub(super) fn before_head(self) -> Self {
        let finish = if self.max == twice(2047) { Finish::Dot11 } else { Finish::Dot };
        Self { finish, ..self }
    }

    /// Bytes of the inputs.
    pub(super) const fn x_bytes(&self) -> usize {
        self.x_bytes
    }

    /// As [`Layer::new`], of `out` rows that have neither bias nor outputs.
    #[inline(always)]
    fn rows(words: &[u32], inputs: usize, fold: usize, out: usize) -> Option<Self> {
        let groups = inputs / 4;
        let fold = fold.min(groups);
        // Below 2¹⁶ both, so their product cannot wrap.
        let small = (groups | out) < 1 << 16;
        if inputs % 8 != 0 || !small || words.len() != groups.wrapping_mul(out) || !takes_fold(groups, fold) {
            return None;
        }
        Some(Self {
            words: words.as_ptr(),
            fold_bytes: fold * 8,
            x_bytes: inputs * 2,
            finish: Finish::Sums,
            ..Self::EMPTY
        })
    }
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
    if !x.as_ptr().cast::<u32>().is_aligned() {
        return None;
    }
    let zeros = [0_i32; 4];
    let rows = Layer::rows(words, x.len(), fold, 4)?;
    let layer = Layer { bias: zeros.as_ptr(), y: sums.as_mut_ptr().cast(), ..rows };
    // SAFETY: `rows` checked the length of x; there are four biases, and room for four sums.
    unsafe { run(&layer, x.as_ptr()) };
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

/// Blocks of four rows; gives the products' sum where there is a head.
///
/// # Safety
///
/// `layer` is as [`Layer`] says; `x` points to as many inputs, aligned to 4.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn run(layer: &Layer, x: *const i16) -> i32 {
    naked_asm!(
        ".cpu cortex-m33",
        "push {{r4-r11, lr}}",
        // The frame: 0 ×4, x, where to start a block | 24 where to go after a pass, end of the fold, where to go after it |
        // 36 where to start a fold, its bytes, end of x, totals ×4 | 64 finish, bias, y, sum, blocks, max.
        "sub sp, #88",
        "ldm r0, {{r2-r10}}",
        "add lr, sp, #64",
        "stm lr, {{r5-r10}}",
        "mov lr, r2",
        "add r2, r1, r4",
        "adr.w r7, 3f + 1",
        "cbz r5, 8f",
        "adr.w r7, 4f + 1",
        "8:",
        "movs r4, #0",
        "strd r4, r4, [sp]",
        "strd r4, r4, [sp, #8]",
        "adr.w r5, 2f + 1", // Thumb
        "lsls r6, r3, #27",
        "it mi",
        "addmi r5, #{step}", // An odd number of steps.
        "strd r1, r5, [sp, #16]",
        "adr.w r6, 6f + 1",
        "add r8, r1, r3",
        "cmp r8, r2",
        "bne 9f",
        "cmp r3, #32",
        "it ls",
        "movls r6, r7", // One pass.
        "0: strd r6, r8, [sp, #24]",
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
        "add r4, sp, #68",
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
        "add sp, #88",
        "pop {{r4-r11, pc}}",
        // Other outputs.
        "4:",
        "add r4, sp, #68",
        "ldm r4, {{r5-r8}}",
        "ldm r5!, {{r9-r12}}",
        "add r0, r9, r0, asr #8",
        "add r1, r10, r1, asr #8",
        "add r2, r11, r2, asr #8",
        "add r3, r12, r3, asr #8",
        "12:",
        "ldr r12, [sp, #64]", // finish
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
        "ldr r11, [sp, #84]",
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
        "adr.w r5, 13f + 1",
        "str r5, [sp, #20]",
        "adr.w r7, 14f + 1",
        "b 0b",
        "13:",
        "ldr r5, [sp, #68]",
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
        "add r4, sp, #68",
        "ldm r4, {{r5-r8}}",
        "adds r5, #16",
        "b 12b",
        step = const DENSE_STEP_BYTES,
        sums = const Finish::Sums as u32,
        store = const Finish::Store as u32,
    )
}

/// `Σ weights[i] · x[i]`.
///
/// # Safety
///
/// `x..x_end` are readable, and a positive multiple of eight halfwords, as many as `weights`; both lie at multiples of four.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn multiply(weights: *const i16, x: *const i16, x_end: *const i16) -> i32 {
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

/// Makes the frame of [`pool_terms`], for ids in `r1..r2`; terms begin at r3. Goes to 9 when sums do not fit 16 bits.
///
/// Sums are kept in halfwords. With the bias b every addend is `e + b`, which is not negative, so that a product of two packed
/// codes borrows nothing; sums begin at `−b (N−1)`. Then `Σᵢ (eᵢ + b) · sumᵢ = Σ_{i<j} eᵢ eⱼ − b² N(N−1)/2`, and every sum that
/// enters a product is in ±`b (N−1)`.
///
/// Leaves the headers in r4, how many there are in r5, b twice in r7, the lanes in r11, and the place of the codes in r0.
macro_rules! pool_frame {
    () => {
        "push {{r4-r11, lr}}
        ldr r12, [sp, #36]
        sub sp, #72
        ldm r0!, {{r4, r5, r7-r11}}
        add lr, sp, #48
        stm lr, {{r8-r12}}
        subs r9, r2, r1
        beq 9f
        lsrs r9, r9, #2
        sub r10, r9, #1
        mul r10, r10, r7
        lsrs r8, r10, #15
        bne 9f
        mul r9, r9, r10
        lsrs r9, r9, #1
        ldr r8, [r0], #4
        mla r9, r9, r7, r8
        rsb r10, r10, #0
        pkhbt r10, r10, r10, lsl #16
        pkhbt r7, r7, r7, lsl #16
        strd r9, r9, [sp]
        strd r9, r9, [sp, #8]
        strd r10, r10, [sp, #16]
        str r3, [sp, #24]"
    };
}

/// Pools the rows of ids into z, and gives the sum of their first-order codes; or gives `i32::MIN`, when an id is none, when there
/// are none, or too many.
///
/// # Safety
///
/// `rows` is as [`Rows`] says. `ids..ids_end` are readable; `terms` takes as many terms, and `z` as many halfwords as there are
/// lanes, aligned to 4.
#[unsafe(naked)]
unsafe extern "C" fn pool_codes(
    rows: &Rows,
    ids: *const u32,
    ids_end: *const u32,
    terms: *mut Term,
    z: *mut i16,
) -> i32 {
    naked_asm!(
        ".cpu cortex-m33",
        pool_frame!(),
        "ldr r6, [r0]", // codes
        "mov r8, #0x00800080",
        "mov r12, #0",
        "1: ldr r9, [r1], #4",
        "cmp r9, r5",
        "bhs 9f",
        "ldrsh r10, [r4, r9, lsl #1]",
        "mla r9, r9, r11, r6",
        "add r12, r12, r10, asr #4",
        "and r10, r10, #15",
        "add r10, r10, #1",
        "mls lr, r10, r8, r7", // b − 128 · gain, twice
        "stm r3!, {{r9, r10, lr}}",
        "cmp r1, r2",
        "bne 1b",
        "str r12, [sp, #68]",
        "ldr r1, [sp, #24]",
        "b {pool_terms}",
        "9: mov r0, #0x80000000", // i32::MIN
        "add sp, #72",
        "pop {{r4-r11, pc}}",
        pool_terms = sym pool_terms,
    )
}

/// As [`pool_codes`], of a table of nibbles. The terms of hot rows come last.
///
/// # Safety
///
/// As [`pool_codes`].
#[unsafe(naked)]
unsafe extern "C" fn pool_nibbles(
    rows: &Rows,
    ids: *const u32,
    ids_end: *const u32,
    terms: *mut Term,
    z: *mut i16,
) -> i32 {
    naked_asm!(
        ".cpu cortex-m33",
        pool_frame!(),
        "subs r2, r2, r1",
        "add r2, r2, r2, lsl #1",
        "add r2, r2, r3",
        "str r2, [sp, #44]", // end of the terms, and the first of a hot row
        "ldr r6, [r0, #8]", // hot
        "mov r11, #0",
        "1: ldr r9, [r1], #4",
        "cmp r9, r5",
        "bhs 9f",
        "ldr r12, [r4, r9, lsl #2]",
        "add r11, r11, r12, asr #20",
        "cbz r6, 2f",
        // How many rows up to this one are hot, as `NibbleTable::place` counts them.
        "lsr r10, r9, #5",
        "add r10, r6, r10, lsl #3",
        "ldrd r10, lr, [r10]",
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
        "2: add lr, r0, #12",
        "ldm lr, {{r8, r10, lr}}", // row_bytes, nibbles, nibble_rows
        "cmp r9, lr",
        "bhs 9f",
        "mla r8, r9, r8, r10",
        "ubfx r9, r12, #12, #8",
        "add r9, r9, #1",
        "sbfx r10, r12, #0, #12",
        "pkhbt r10, r10, r10, lsl #16",
        "sadd16 r10, r10, r7",
        "stm r3!, {{r8-r10}}",
        "4: cmp r3, r2",
        "bne 1b",
        "str r11, [sp, #68]",
        "mov r1, r2",
        "ldr r3, [sp, #44]",
        "b {pool_terms}",
        "3: sub r9, r10, #1",
        "ldrd r8, r10, [r0]", // codes, hot_rows
        "cmp r9, r10",
        "bhs 9f",
        "ldr r10, [sp, #60]", // lanes
        "mla r8, r9, r10, r8",
        "ubfx r9, r12, #12, #8",
        "add r9, r9, #1",
        "pkhbt r10, r9, r9, lsl #16",
        "sub r10, r7, r10, lsl #7",
        "stmdb r2!, {{r8-r10}}",
        "b 4b",
        "9: mov r0, #0x80000000", // i32::MIN
        "add sp, #72",
        "pop {{r4-r11, pc}}",
        pool_terms = sym pool_terms,
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

/// The end of [`pool_codes`] and [`pool_nibbles`]: four lanes after four, first the rows of nibbles, then those of 8-bit codes. A
/// term's addend is `b − 128 · gain` where the codes are of 8 bits, else `b` and the row's offset, in both halves.
///
/// # Safety
///
/// Their frame is on the stack. Terms are from where it says to r1, of nibbles, and on to r3.
#[unsafe(naked)]
unsafe extern "C" fn pool_terms() {
    naked_asm!(
        ".cpu cortex-m33",
        // The frame: pairs ×4, sum ×2, terms, where to start | 32 where to go after the nibbles, hot, where to start there,
        // end of the terms | 48 shift, max, min, lanes, z | 68 what is given back.
        "mov lr, r3",
        "adr.w r5, 2f + 1", // Thumb
        "subs r6, r3, r1",
        "ubfx r6, r6, #2, #2", // 3 N, which is −N, modulo 4: how many steps to jump over
        "add r6, r6, r6, lsl #1",
        "add r5, r5, r6, lsl #4", // A step has 48 bytes.
        ".if {nibbles}",
        "ldr r0, [sp, #24]",
        "cmp r0, r1",
        "bne 6f",
        ".endif",
        "mov r7, #0x00800080",
        "0: str r5, [sp, #28]",
        "mov r8, #0",
        // r0-r3: pairs of the lanes; r4: sums of lanes 0 and 2; r5: of 1 and 3; r6: terms; r8: lane.
        "1: ldm sp, {{r0-r6, pc}}",
        ".p2align 2",
        "2:",
        ".rept 4",
        "ldm.w r6!, {{r9-r11}}",
        "ldr.w r9, [r9, r8]",
        "sxtab16 r12, r7, r9", // codes + 128
        "sxtab16 r9, r7, r9, ror #8",
        accumulate!(),
        ".endr",
        "cmp r6, lr",
        "bne 2b",
        "3: add r6, sp, #48",
        "ldm r6, {{r4, r5, r9-r11}}", // shift, max, min, lanes, z
        "asrs r0, r0, r4",
        "asrs r1, r1, r4",
        "asrs r2, r2, r4",
        "asrs r3, r3, r4",
        "cbnz r5, 9f",
        "ssat r0, #12, r0",
        "ssat r1, #12, r1",
        "ssat r2, #12, r2",
        "ssat r3, #12, r3",
        "pkhbt r0, r0, r1, lsl #16",
        "pkhbt r2, r2, r3, lsl #16",
        "10:",
        "ssub16 r12, r0, r9", // max(·, min)
        "sel r0, r0, r9",
        "ssub16 r12, r2, r9",
        "sel r2, r2, r9",
        "strd r0, r2, [r11], #8",
        "str r11, [r6, #16]",
        "add r8, r8, #4",
        "cmp r8, r10",
        "bne.w 1b",
        "ldr r0, [sp, #68]",
        "add sp, #72",
        "pop {{r4-r11, pc}}",
        // Another largest code than 2047.
        "9:",
        "ssat r0, #16, r0",
        "ssat r1, #16, r1",
        "ssat r2, #16, r2",
        "ssat r3, #16, r3",
        "pkhbt r0, r0, r1, lsl #16",
        "pkhbt r2, r2, r3, lsl #16",
        "ssub16 r12, r0, r5", // min(·, max)
        "sel r0, r5, r0",
        "ssub16 r12, r2, r5",
        "sel r2, r5, r2",
        "b 10b",
        // There are nibbles.
        ".if {nibbles}",
        "6:",
        "strd r1, r5, [sp, #36]",
        "adr.w r6, 3b + 1",
        "adr.w r7, 7f + 1",
        "cmp r1, r3",
        "it ne",
        "movne r6, r7",
        "str r6, [sp, #32]",
        "adr.w r5, 4f + 1",
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
        ".endif",
        nibbles = const features::NIBBLES as u32,
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
