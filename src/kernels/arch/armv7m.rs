//! Armv7-M (Cortex-M3), and Armv8-M Mainline without an FPU, whose DSP extension is not certain.
#![expect(unsafe_code, reason = "hand-written instructions take fewer than the portable kernels'")]

use core::arch::naked_asm;

use crate::kernels::bi_interaction::Term;

/// The most terms of [`pool`].
pub(super) const MAX_TERMS: usize = u16::MAX as usize;

/// `y[o] = clamp((bias[o] + Σᵢ (codes[o, i] − 128) · x[i]) >> shift, 0, max)`.
///
/// Eight outputs at a time: their sums are r0–r7.
///
/// # Safety
///
/// `x..x_end` are readable, and a positive multiple of eight halfwords, at a multiple of four. `y..y_end` are writable, and
/// a positive multiple of eight halfwords, at a multiple of four. `bias` has as many words, and `codes` as many bytes as the
/// product of both.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn relu(
    codes: *const u8,
    bias: *const i32,
    x: *const i16,
    x_end: *const i16,
    y: *mut i16,
    y_end: *mut i16,
    shift: u32,
    max: u32,
) {
    // [sp]: 128 · Σ x, (bias), x, (x_end), eight saved registers and lr, y, y_end, shift, max.
    naked_asm!(
        "push {{r4-r11, lr}}",
        "push {{r0-r3}}",
        "mov r8, r0",
        "mov lr, r1",
        "mov r12, r3",
        "movs r0, #0",
        "1:",
        "ldm r2!, {{r4-r7}}",
        ".irp pair, r4, r5, r6, r7",
        "sxth r1, \\pair",
        "add r0, r1",
        "add r0, r0, \\pair, asr #16",
        ".endr",
        "cmp r2, r12",
        "bne 1b",
        "lsls r0, r0, #7",
        "str r0, [sp]",
        "2:",
        "ldm lr!, {{r0-r7}}",
        "ldr r10, [sp]",
        ".irp acc, r0, r1, r2, r3, r4, r5, r6, r7",
        "sub \\acc, \\acc, r10",
        ".endr",
        "ldr r9, [sp, #8]",
        "3:",
        ".rept 8",
        "ldrsh r10, [r9], #2",
        ".irp acc, r0, r1, r2, r3, r4, r5, r6, r7",
        "ldrb r11, [r8], #1",
        "mla \\acc, r11, r10, \\acc",
        ".endr",
        ".endr",
        "cmp r9, r12",
        "bne 3b",
        "ldrd r9, r10, [sp, #60]",
        ".irp acc, r0, r1, r2, r3, r4, r5, r6, r7",
        "asr \\acc, \\acc, r9",
        "usat \\acc, #15, \\acc",
        ".endr",
        // No bit above the bits of max: none is larger.
        "orr r11, r0, r1",
        ".irp acc, r2, r3, r4, r5, r6, r7",
        "orr r11, r11, \\acc",
        ".endr",
        "cmp r11, r10",
        "bgt 5f",
        "4:",
        "orr r0, r0, r1, lsl #16",
        "orr r1, r2, r3, lsl #16",
        "orr r2, r4, r5, lsl #16",
        "orr r3, r6, r7, lsl #16",
        "ldrd r9, r10, [sp, #52]",
        "stm r9!, {{r0-r3}}",
        "str r9, [sp, #52]",
        "cmp r9, r10",
        "bne 2b",
        "add sp, #16",
        "pop {{r4-r11, pc}}",
        "5:",
        ".irp acc, r0, r1, r2, r3, r4, r5, r6, r7",
        "cmp \\acc, r10",
        "it gt",
        "movgt \\acc, r10",
        ".endr",
        "b 4b",
    )
}

/// The Bi-Interaction, as [`bi_interaction`](crate::kernels::bi_interaction::bi_interaction) does it.
///
/// Four lanes at a time: their sums are r0–r3, their pairs r4–r7.
///
/// # Safety
///
/// `terms..terms_end` are one term or more, `z..z_end` are writable and a positive multiple of four halfwords, at a multiple
/// of four. From `codes` + each term's start there are as many readable bytes.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn pool(
    codes: *const i8,
    terms: *const Term,
    terms_end: *const Term,
    z: *mut i16,
    z_end: *mut i16,
    shift: u32,
    max: u32,
    half: i32,
) {
    // [sp]: (codes), terms, (terms_end), z, eight saved registers and lr, z_end, shift, max, half.
    naked_asm!(
        "push {{r4-r11, lr}}",
        "push {{r0-r3}}",
        "mov r11, r0",
        "mov lr, r2",
        "1:",
        "ldr r12, [sp, #4]",
        "ldr r4, [sp, #64]",
        "mov r5, r4",
        "mov r6, r4",
        "mov r7, r4",
        "ldrd r8, r9, [r12], #8",
        "add r8, r11",
        "ldrsb r0, [r8]",
        "ldrsb r1, [r8, #1]",
        "ldrsb r2, [r8, #2]",
        "ldrsb r3, [r8, #3]",
        "mul r0, r0, r9",
        "mul r1, r1, r9",
        "mul r2, r2, r9",
        "mul r3, r3, r9",
        // Two terms a turn; an odd one enters in the middle.
        "subs r10, lr, r12",
        "beq 4f",
        "lsls r10, r10, #28",
        "bmi 3f",
        "2:",
        ".irp term, 0, 1",
        ".if \\term == 1",
        "3:",
        ".endif",
        "ldrd r8, r9, [r12], #8",
        "add r8, r11",
        "ldrsb r10, [r8]",
        "mul r10, r10, r9",
        "mla r4, r10, r0, r4",
        "add r0, r10",
        "ldrsb r10, [r8, #1]",
        "mul r10, r10, r9",
        "mla r5, r10, r1, r5",
        "add r1, r10",
        "ldrsb r10, [r8, #2]",
        "mul r10, r10, r9",
        "mla r6, r10, r2, r6",
        "add r2, r10",
        "ldrsb r10, [r8, #3]",
        "mul r10, r10, r9",
        "mla r7, r10, r3, r7",
        "add r3, r10",
        ".endr",
        "cmp r12, lr",
        "bne 2b",
        "4:",
        "ldrd r8, r9, [sp, #56]",
        ".irp pairs, r4, r5, r6, r7",
        "asr \\pairs, \\pairs, r8",
        ".endr",
        ".irp pairs, r4, r5, r6, r7",
        "add r10, \\pairs, r9",
        "cmp r10, r9, lsl #1",
        "bhi 6f",
        ".endr",
        "5:",
        "bfi r4, r5, #16, #16",
        "bfi r6, r7, #16, #16",
        "ldr r10, [sp, #12]",
        "strd r4, r6, [r10], #8",
        "str r10, [sp, #12]",
        "adds r11, #4",
        "ldr r9, [sp, #52]",
        "cmp r10, r9",
        "bne 1b",
        "add sp, #16",
        "pop {{r4-r11, pc}}",
        "6:",
        ".irp pairs, r4, r5, r6, r7",
        "cmp \\pairs, r9",
        "it gt",
        "movgt \\pairs, r9",
        "cmn \\pairs, r9",
        "it lt",
        "rsblt \\pairs, r9, #0",
        ".endr",
        "b 5b",
    )
}

/// `Σ weights[i] · x[i]`.
///
/// # Safety
///
/// `x..x_end` are readable, and a positive multiple of eight halfwords, as many as `weights`.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn dot(weights: *const i16, x: *const i16, x_end: *const i16) -> i32 {
    naked_asm!(
        "push {{r4, lr}}",
        "movs r3, #0",
        "1:",
        ".rept 8",
        "ldrsh r4, [r0], #2",
        "ldrsh r12, [r1], #2",
        "mla r3, r4, r12, r3",
        ".endr",
        "cmp r1, r2",
        "bne 1b",
        "mov r0, r3",
        "pop {{r4, pc}}",
    )
}
