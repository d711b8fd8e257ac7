//! Armv7E-M and Armv8-M with the DSP extension: Cortex-M4, M7, M33, M55.
//!
//! The loops are unrolled and entered in their middle, so that no length needs a remainder. What they need once a block lies
//! in a frame on the stack, where one `ldm` fetches it and jumps into the loop.
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

use crate::{
    kernels::bi_interaction::Term,
    model::{BLOCK, FixedLayer, Weights, saturate},
};

/// Steps that a loop is unrolled to, and the bytes of their code.
const DENSE_STEPS: u32 = 4;
const DENSE_STEP_BYTES: u32 = 27 * 4;
const TERMS: u32 = 5;
const TERM_BYTES: u32 = 12 * 4;

/// Words of a term: its start, its gain, and one that [`pool`] uses.
pub(in crate::kernels) const TERM_WORDS: usize = 3;

/// How much code to jump over, so that the first pass of an unrolled loop does `steps % unroll` steps, or all where this is 0.
fn skip(steps: usize, unroll: u32, step_bytes: u32) -> u32 {
    match saturate(steps) % unroll {
        0 => 0,
        rest => (unroll - rest) * step_bytes,
    }
}

/// Two halfwords of `value`.
fn twice(value: u16) -> u32 {
    u32::from(value) * 0x1_0001
}

/// What [`dense_blocks`] reads.
#[repr(C)]
struct DenseArguments {
    words: *const u32,
    x: *const u32,
    skip: u32,
    total: *const i32,
    bias: *const i32,
    y: *mut u32,
    x_end: *const u32,
    shift: u32,
    max: u32,
    bias_end: *const i32,
    one_fold: u32,
    x_len: u32,
    fold_len: u32,
}

/// As `dense`, for a rectifier.
#[inline(never)]
pub(in crate::kernels) fn dense_relu(layer: &FixedLayer<'_>, x: &[i16], y: &mut [i16]) -> Option<()> {
    let Weights::Dsp { words, fold } = layer.weights else { return None };
    let y: &mut [u32] = bytemuck::try_cast_slice_mut(y).ok()?;
    let out = layer.bias.len();
    if out == 0 || out % BLOCK != 0 || y.len() * 2 != out {
        return None;
    }
    let arguments = DenseArguments {
        bias: layer.bias.as_ptr(),
        y: y.as_mut_ptr(),
        shift: layer.shift.into(),
        max: twice(layer.max),
        bias_end: layer.bias.as_ptr_range().end,
        ..DenseArguments::new(words, x, fold.into(), out, layer.bias.as_ptr())?
    };
    // SAFETY: `new` checked words and x; bias and y have `out` elements, a multiple of four.
    unsafe { dense_blocks(&arguments) };
    Some(())
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
    let arguments = DenseArguments {
        y: sums.as_mut_ptr().cast(),
        ..DenseArguments::new(words, x, fold, 4, zeros.as_ptr())?
    };
    // SAFETY: `new` checked words and x; without a bias, four totals are read, and four words written to y.
    unsafe { dense_blocks(&arguments) };
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

impl DenseArguments {
    /// What every use has in common; `None` where a row is not a whole number of folds, or a fold not one of loop steps.
    #[inline(always)]
    fn new(words: &[u32], x: &[i16], fold: usize, out: usize, total: *const i32) -> Option<Self> {
        let x: &[u32] = bytemuck::try_cast_slice(x).ok()?;
        let groups = x.len() / 2;
        let fold = fold.min(groups);
        if fold == 0 || fold % 2 != 0 || x.len() % 4 != 0 || Some(words.len()) != groups.checked_mul(out) {
            return None;
        }
        let one_fold = fold == groups;
        if !one_fold && groups % fold != 0 {
            return None;
        }
        Some(Self {
            words: words.as_ptr(),
            x: x.as_ptr(),
            skip: skip(fold / 2, DENSE_STEPS, DENSE_STEP_BYTES),
            total,
            bias: null(),
            y: null_mut(),
            x_end: x.as_ptr().wrapping_add(fold * 2),
            shift: 0,
            max: 0,
            bias_end: null(),
            one_fold: one_fold.into(),
            x_len: saturate(x.len() * 4),
            fold_len: saturate(fold * 8),
        })
    }
}

/// Blocks of four rows, from `bias` to `bias_end`; with a null `bias` one block, whose sums are stored as they are.
///
/// # Safety
///
/// `x_len` is the length of `x` in bytes, i > 0 activations; `x` is aligned to 4. `fold_len` is a positive multiple of 16 that
/// divides `x_len`, `x_end` is `x + fold_len`, `skip` is `skip(fold_len / 16, …)`, and `one_fold` is 1 where `fold_len` is
/// `x_len`, else 0.
///
/// With o biases from `bias` to `bias_end`, o > 0 and a multiple of 4: `words` holds i · o / 4 words, `total` is `bias`, `y` takes
/// o halfwords, and is aligned to 4. With a null `bias`: `words` holds i words, `total` holds four, and `y` takes four.
#[unsafe(naked)]
unsafe extern "C" fn dense_blocks(arguments: &DenseArguments) {
    naked_asm!(
        ".cpu cortex-m33",
        "push {{r4-r11, lr}}",
        "sub sp, #88",
        // The frame: 0 ×4, x, where to enter | 24 total, bias, y, x_end, shift, max, bias_end | 52 where to go after a fold,
        // end of x, first x_end, fold_len, 0 | 72 totals ×4.
        "ldm r0!, {{r1, r2, r3, r4-r10}}",
        "mov lr, r1",
        "adr.w r11, 2f",
        "add r3, r11",
        "orr r3, r3, #1", // Thumb
        "movs r1, #0",
        "strd r1, r1, [sp]",
        "strd r1, r1, [sp, #8]",
        "strd r2, r3, [sp, #16]",
        "add r12, sp, #24",
        "stm r12, {{r4-r10}}",
        "ldm r0, {{r3, r4, r5}}",
        "adr.w r8, 4f",
        "cbz r3, 6f",
        "adr.w r8, 3f",
        "6: orr r8, r8, #1",
        "adds r4, r4, r2",
        "strd r8, r4, [sp, #52]",
        "strd r7, r5, [sp, #60]",
        // r0-r3: sums; r4: x; lr: words.
        "1: ldm sp, {{r0-r4, pc}}",
        ".p2align 2",
        "2:",
        ".rept {steps}",
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
        "ldr r9, [sp, #36]", // x_end
        "cmp r4, r9",
        "bne.w 2b",
        "ldr pc, [sp, #52]",
        // One fold a row.
        "3:",
        "add r4, sp, #24",
        "ldm r4, {{r6, r7}}", // total, bias
        "ldm r6!, {{r5, r8-r10}}",
        "add r0, r5, r0, asr #8",
        "add r1, r8, r1, asr #8",
        "add r2, r9, r2, asr #8",
        "add r3, r10, r3, asr #8",
        "cbz r7, 7f",
        "mov r7, r6",
        "ldrd r8, r9, [sp, #32]", // y, x_end
        "ldrd r10, r11, [sp, #40]", // shift, max
        "asrs r0, r0, r10",
        "asrs r1, r1, r10",
        "asrs r2, r2, r10",
        "asrs r3, r3, r10",
        "usat r0, #15, r0",
        "usat r1, #15, r1",
        "usat r2, #15, r2",
        "usat r3, #15, r3",
        "pkhbt r0, r0, r1, lsl #16",
        "pkhbt r2, r2, r3, lsl #16",
        "usub16 r5, r0, r11", // min(·, max)
        "sel r0, r11, r0",
        "usub16 r5, r2, r11",
        "sel r2, r11, r2",
        "strd r0, r2, [r8], #8",
        "stm r4, {{r6-r8}}",
        "ldr r12, [sp, #48]", // bias_end
        "cmp r7, r12",
        "bne.w 1b",
        "add sp, #88",
        "pop {{r4-r11, pc}}",
        "7:",
        "ldr r8, [sp, #32]", // y
        "stm r8, {{r0-r3}}",
        "add sp, #88",
        "pop {{r4-r11, pc}}",
        // Several.
        "4:",
        "ldr r10, [sp, #24]", // total
        "ldr r11, [sp, #56]", // end of x
        "ldm r10, {{r5-r8}}",
        "add r0, r5, r0, asr #8",
        "add r1, r6, r1, asr #8",
        "add r2, r7, r2, asr #8",
        "add r3, r8, r3, asr #8",
        "cmp r4, r11",
        "beq 5f",
        "add r10, sp, #72",
        "stm r10, {{r0-r3}}",
        "str r10, [sp, #24]",
        "ldr r12, [sp, #64]", // fold_len
        "add r9, r9, r12",
        "str r9, [sp, #36]",
        "ldm sp, {{r0-r3}}",
        "ldr pc, [sp, #20]",
        "5:",
        "add r4, sp, #24",
        "ldm r4, {{r6-r12}}",
        "cmp r7, #0",
        "beq 7b",
        "asrs r0, r0, r10",
        "asrs r1, r1, r10",
        "asrs r2, r2, r10",
        "asrs r3, r3, r10",
        "usat r0, #15, r0",
        "usat r1, #15, r1",
        "usat r2, #15, r2",
        "usat r3, #15, r3",
        "pkhbt r0, r0, r1, lsl #16",
        "pkhbt r2, r2, r3, lsl #16",
        "usub16 r5, r0, r11", // min(·, max)
        "sel r0, r11, r0",
        "usub16 r5, r2, r11",
        "sel r2, r11, r2",
        "adds r7, #16",
        "strd r0, r2, [r8], #8",
        "mov r6, r7",
        "ldr r9, [sp, #60]", // first x_end
        "stm r4, {{r6-r9}}",
        "cmp r7, r12",
        "bne.w 1b",
        "add sp, #88",
        "pop {{r4-r11, pc}}",
        steps = const DENSE_STEPS,
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

/// What [`pool`] reads.
#[repr(C)]
struct PoolArguments {
    pairs: i32,
    sum: u32,
    terms: *mut Term,
    skip: u32,
    z: *mut u32,
    shift: u32,
    max: u32,
    min: u32,
    codes_end: *const i8,
    codes: *const i8,
    last: u32,
    terms_end: *const Term,
    bias: u32,
}

/// As `bi_interaction`, for terms whose gains are at most `max_multiplier`.
///
/// Sums are kept in halfwords. With `b = 128 · max_multiplier` every addend is `e + b`, which is not negative, so that a product
/// of two packed codes borrows nothing; sums begin at `−b (N−1)`. Then
/// `Σᵢ (eᵢ + b) · sumᵢ = Σ_{i<j} eᵢ eⱼ − b² N(N−1)/2`, and every sum that enters a product is in ±`b (N−1)`.
#[inline(never)]
pub(in crate::kernels) fn bi_interaction(
    codes: &[i8],
    terms: &mut [Term],
    max_multiplier: u8,
    shift: u8,
    max: u16,
    z: &mut [i16],
) -> Option<()> {
    let z: &mut [u32] = bytemuck::try_cast_slice_mut(z).ok()?;
    let lanes = z.len() * 2;
    let bias = u32::from(max_multiplier) * 128;
    let count = saturate(terms.len());
    if count == 0
        || lanes == 0
        || lanes % 4 != 0
        || max_multiplier > 16
        || (count - 1).saturating_mul(bias) > 0x7fff
    {
        return None;
    }
    // Codes are loaded by words. Those of a blob are aligned; a caller of `Model::new` may have others.
    if !codes.as_ptr().cast::<u32>().is_aligned() {
        return None;
    }
    let last = codes.len().checked_sub(lanes)?;
    let sum = (count - 1) * bias;
    let arguments = PoolArguments {
        terms: terms.as_mut_ptr(),
        skip: skip(terms.len(), TERMS, TERM_BYTES),
        codes: codes.as_ptr(),
        z: z.as_mut_ptr(),
        shift: shift.into(),
        max: twice(max),
        min: twice(0_u16.wrapping_sub(max)),
        codes_end: codes.as_ptr().wrapping_add(lanes),
        last: saturate(last),
        pairs: ((1_i32 << shift) >> 1).wrapping_add((sum * bias / 2 * count).cast_signed()),
        sum: 0_u32.wrapping_sub(sum) << 16 | (0_u32.wrapping_sub(sum) & 0xffff),
        terms_end: terms.as_ptr_range().end,
        bias: bias * 0x1_0001,
    };
    // SAFETY: there is a term, z takes a multiple of four lanes, the codes are aligned, and so many lie after `last`, as checked
    // above.
    (unsafe { pool(&arguments) } == 0).then_some(())
}

/// Four lanes after four, from `codes` to `codes_end`. Gives other than 0, with nothing done, where a term starts after `last`.
///
/// # Safety
///
/// `terms..terms_end` holds N > 0 terms; from `codes` to `codes_end` is a multiple of 4 lanes, more than none, and `codes` points
/// to as many more than `last`; `z` takes as many halfwords; both are aligned to 4. `skip` is `skip(N, …)`.
#[unsafe(naked)]
unsafe extern "C" fn pool(arguments: &PoolArguments) -> u32 {
    naked_asm!(
        ".cpu cortex-m33",
        "push {{r4-r11, lr}}",
        "sub sp, #56",
        // In the order of PoolArguments; the frame: pairs ×4, sum ×2, terms, where to enter, z, shift, max, min, codes_end.
        "ldm r0!, {{r1-r11, lr}}",
        "ldr r0, [r0]", // bias
        "adr.w r12, 2f",
        "add r4, r12",
        "orr r4, r4, #1", // Thumb
        "strd r1, r1, [sp]",
        "strd r1, r1, [sp, #8]",
        "strd r2, r2, [sp, #16]",
        "strd r3, r4, [sp, #24]",
        "add r12, sp, #32",
        "stm r12, {{r5-r9}}",
        "mov r8, r10",
        "mov r7, #0x00800080",
        // Each term's addend: 128 · (max_multiplier − gain), twice.
        "mov r6, r3",
        "4: ldrd r9, r10, [r6], #12",
        "cmp r9, r11", // last
        "bhi 5f",
        "mls r10, r10, r7, r0",
        "str r10, [r6, #-4]",
        "cmp r6, lr",
        "bne 4b",
        // r0-r3: pairs of the lanes; r4: sums of lanes 0 and 2; r5: of 1 and 3; r6: terms; r8: codes of the lanes.
        "1: ldm sp, {{r0-r6, pc}}",
        ".p2align 2",
        "2:",
        ".rept {terms}",
        "ldm.w r6!, {{r9-r11}}",
        "ldr.w r9, [r8, r9]",
        "sxtab16 r12, r7, r9", // codes + 128
        "sxtab16 r9, r7, r9, ror #8",
        "mla r12, r12, r10, r11",
        "mla r9, r9, r10, r11",
        "smlabb r0, r12, r4, r0",
        "smlabb r1, r9, r5, r1",
        "smlatt r2, r12, r4, r2",
        "smlatt r3, r9, r5, r3",
        "sadd16 r4, r4, r12",
        "sadd16 r5, r5, r9",
        ".endr",
        "cmp r6, lr",
        "bne.w 2b",
        "add r6, sp, #32",
        "ldm r6, {{r4, r5, r9-r11}}", // z, shift, max, min, codes_end
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
        "movs r0, #0",
        "add sp, #56",
        "pop {{r4-r11, pc}}",
        "5:",
        "movs r0, #1",
        "add sp, #56",
        "pop {{r4-r11, pc}}",
        terms = const TERMS,
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
