//! Armv7-M (Cortex-M3), and Armv8-M Mainline without an FPU, whose DSP extension is not certain.
#![expect(unsafe_code, reason = "hand-written instructions take fewer than the portable kernels'")]

use core::arch::naked_asm;

use crate::kernels::{bi_interaction::Term, nibbles::NibbleTerm};

/// The most terms of [`pool`].
pub(super) const MAX_TERMS: usize = u16::MAX as usize;

/// `y[o] = clamp((bias[o] + Σᵢ (codes[o, i] − 128) · x[i]) >> shift, 0, max)`; with [`HEAD`] in `shift`, `y` is `head` instead,
/// and the result `Σ head[o] · y[o]`.
///
/// Eight outputs at a time: their sums are r0–r7.
///
/// # Safety
///
/// `x..x_end` are readable, and a positive multiple of eight halfwords, at a multiple of four. `y..y_end` are writable, or readable
/// where it is the head, and a positive multiple of eight halfwords, at a multiple of four. `bias` has as many words, and `codes`
/// as many bytes as the product of both.
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
) -> i32 {
    // [sp]: 128 · Σ x, the head's sum, x, x_end, codes and bias while the head is multiplied, eight saved registers and lr, y,
    // y_end, shift, max.
    naked_asm!(
        "push {{r4-r11, lr}}",
        "sub sp, #8",
        "push {{r0-r3}}",
        "mov r8, r0",
        "mov lr, r1",
        "mov r12, r3",
        "movs r0, #0",
        "str r0, [sp, #4]",
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
        "ldrd r10, r11, [sp, #68]",
        "ldr r9, [sp]",
        "cmp r10, #0",
        "bmi 6f",
        ".irp acc, r0, r1, r2, r3, r4, r5, r6, r7",
        "sub \\acc, \\acc, r9",
        "asr \\acc, \\acc, r10",
        "usat \\acc, #15, \\acc",
        ".endr",
        // No bit above the bits of max: none is larger.
        "orr r9, r0, r1",
        ".irp acc, r2, r3, r4, r5, r6, r7",
        "orr r9, r9, \\acc",
        ".endr",
        "cmp r9, r11",
        "bgt 5f",
        "4:",
        "orr r0, r0, r1, lsl #16",
        "orr r1, r2, r3, lsl #16",
        "orr r2, r4, r5, lsl #16",
        "orr r3, r6, r7, lsl #16",
        "ldrd r9, r10, [sp, #60]",
        "stm r9!, {{r0-r3}}",
        "str r9, [sp, #60]",
        "cmp r9, r10",
        "bne 2b",
        "b 9f",
        "5:",
        ".irp acc, r0, r1, r2, r3, r4, r5, r6, r7",
        "cmp \\acc, r11",
        "it gt",
        "movgt \\acc, r11",
        ".endr",
        "b 4b",
        "6:",
        "strd r8, lr, [sp, #16]",
        "ldr r8, [sp, #4]",
        "ldr r12, [sp, #60]",
        ".irp output, 0, 1, 2, 3, 4, 5, 6, 7",
        "subs r\\output, r9",
        "bmi 8f",
        "asr r\\output, r10",
        "cmp r\\output, r11",
        "ble 7f",
        "mov r\\output, r11",
        "7:",
        "ldrsh lr, [r12, #2 * \\output]",
        "mla r8, r\\output, lr, r8",
        "8:",
        ".endr",
        "add r12, #16",
        "str r8, [sp, #4]",
        "ldr r8, [sp, #64]",
        "str r12, [sp, #60]",
        "cmp r12, r8",
        "ldrd r8, lr, [sp, #16]",
        "ldr r12, [sp, #12]",
        "bne 2b",
        "9:",
        "ldr r0, [sp, #4]",
        "add sp, #24",
        "pop {{r4-r11, pc}}",
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
    // [sp]: terms, eight saved registers and lr, z, z_end, shift, max, half.
    naked_asm!(
        "push {{r3}}",
        "push {{r4-r11, lr}}",
        "push {{r1}}",
        "mov r11, r0",
        "mov lr, r2",
        "1:",
        "ldr r12, [sp]",
        "ldr r4, [sp, #56]",
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
        "ldrd r8, r9, [sp, #48]",
        ".irp pairs, r4, r5, r6, r7",
        "asr \\pairs, \\pairs, r8",
        ".endr",
        // No bit of a magnitude, or of the number below it, above those of max − 1: none is larger than max.
        "eor r8, r4, r4, asr #31",
        ".irp pairs, r5, r6, r7",
        "eor r10, \\pairs, \\pairs, asr #31",
        "orr r8, r10",
        ".endr",
        "cmp r8, r9",
        "bge 6f",
        "5:",
        "bfi r4, r5, #16, #16",
        "bfi r6, r7, #16, #16",
        "ldrd r8, r9, [sp, #40]",
        "strd r4, r6, [r8], #8",
        "str r8, [sp, #40]",
        "adds r11, #4",
        "cmp r8, r9",
        "bne 1b",
        "add sp, #4",
        "pop {{r4-r11, lr}}",
        "add sp, #4",
        "bx lr",
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

/// The Bi-Interaction of rows of nibbles and hot rows.
///
/// Four lanes at a time: their sums are r0–r3, their pairs r4–r7. A word has the nibbles of two such blocks, those of the second
/// eight bits above those of the first.
///
/// # Safety
///
/// `terms..terms_end` are one term or more, `z..z_end` are writable and a positive multiple of four halfwords, at a multiple
/// of four. From `codes` + the start of each hot row there are as many readable bytes, and from `nibbles` + the start of each other
/// row a word for each eight.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn pool_nibbles(
    codes: *const i8,
    nibbles: *const u32,
    terms: *mut NibbleTerm,
    terms_end: *const NibbleTerm,
    z: *mut i16,
    z_end: *mut i16,
    shift: u32,
    max: u32,
    half: i32,
) {
    // [sp]: codes, nibbles, terms, terms_end, how far a word is shifted, eight saved registers and lr, z, z_end, shift, max, half.
    naked_asm!(
        "push {{r4-r11, lr}}",
        "movs r4, #0",
        "push {{r0-r4}}",
        "mov lr, r1",
        "1:",
        "ldr r12, [sp, #8]",
        "ldr r4, [sp, #72]",
        ".irp pairs, r5, r6, r7",
        "mov \\pairs, r4",
        ".endr",
        ".irp sum, r0, r1, r2, r3",
        "movs \\sum, #0",
        ".endr",
        "2:",
        "ldm r12!, {{r8, r9, r11}}",
        "cmp r8, #0",
        "bpl 7f",
        "ldr r8, [lr, r8, lsl #2]", // the shift drops the bit that says nibbles
        "ldr r10, [sp, #16]",
        "lsr r8, r10",
        "ubfx r10, r8, #0, #4",
        "mla r10, r10, r9, r11",
        "mla r4, r10, r0, r4",
        "add r0, r10",
        "ubfx r10, r8, #4, #4",
        "mla r10, r10, r9, r11",
        "mla r5, r10, r1, r5",
        "add r1, r10",
        "ubfx r10, r8, #16, #4",
        "mla r10, r10, r9, r11",
        "mla r6, r10, r2, r6",
        "add r2, r10",
        "ubfx r10, r8, #20, #4",
        "mla r10, r10, r9, r11",
        "mla r7, r10, r3, r7",
        "add r3, r10",
        "3:",
        "ldr r10, [sp, #12]",
        "cmp r12, r10",
        "bne 2b",
        "ldrd r8, r9, [sp, #64]",
        ".irp pairs, r4, r5, r6, r7",
        "asr \\pairs, \\pairs, r8",
        "cmp \\pairs, r9",
        "it gt",
        "movgt \\pairs, r9",
        "cmn \\pairs, r9",
        "it lt",
        "rsblt \\pairs, r9, #0",
        ".endr",
        "bfi r4, r5, #16, #16",
        "bfi r6, r7, #16, #16",
        "ldr r8, [sp]",
        "adds r8, #4",
        "str r8, [sp]",
        "ldr r8, [sp, #16]",
        "eors r8, #8",
        "str r8, [sp, #16]",
        "it eq",
        "addeq lr, #4",
        "ldrd r8, r9, [sp, #56]",
        "strd r4, r6, [r8], #8",
        "str r8, [sp, #56]",
        "cmp r8, r9",
        "bne 1b",
        "add sp, #20",
        "pop {{r4-r11, pc}}",
        "7:",
        "ldr r10, [sp]",
        "add r8, r10",
        "ldrsb r10, [r8, #0]",
        "mla r10, r10, r9, r11",
        "mla r4, r10, r0, r4",
        "add r0, r10",
        "ldrsb r10, [r8, #1]",
        "mla r10, r10, r9, r11",
        "mla r5, r10, r1, r5",
        "add r1, r10",
        "ldrsb r10, [r8, #2]",
        "mla r10, r10, r9, r11",
        "mla r6, r10, r2, r6",
        "add r2, r10",
        "ldrsb r10, [r8, #3]",
        "mla r10, r10, r9, r11",
        "mla r7, r10, r3, r7",
        "add r3, r10",
        "b 3b",
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

/// Writes a term for each id, and gives the sum of their first-order codes; `i32::MIN` when an id is not below `rows`.
///
/// # Safety
///
/// `headers` are `rows` halfwords, `ids..ids_end` one word or more, and `terms` has as many elements.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn terms(
    headers: *const u16,
    rows: usize,
    ids: *const u32,
    ids_end: *const u32,
    lanes: u32,
    terms: *mut Term,
) -> i32 {
    naked_asm!(
        "push {{r4-r8, lr}}",
        "ldrd r4, r5, [sp, #24]",
        "movs r6, #0",
        "1:",
        "ldr r7, [r2], #4",
        "cmp r7, r1",
        "bhs 2f",
        "ldrsh r12, [r0, r7, lsl #1]",
        "mul r7, r7, r4",
        "and r8, r12, #15",
        "adds r8, #1",
        "add r6, r6, r12, asr #4",
        "strd r7, r8, [r5], #8",
        "cmp r2, r3",
        "bne 1b",
        "mov r0, r6",
        "pop {{r4-r8, pc}}",
        "2:",
        "mov r0, #0x80000000",
        "pop {{r4-r8, pc}}",
    )
}
