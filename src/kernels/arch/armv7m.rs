//! Armv7-M (Cortex-M3), and Armv8-M Mainline without an FPU, whose DSP extension is not certain.
#![expect(unsafe_code, reason = "hand-written instructions take fewer than the portable kernels'")]

use core::{arch::naked_asm, mem::offset_of};

use super::{
    plan::Rows,
    thumb::{Term, Terms},
};

pub(crate) use super::scalar::is_native;
pub(super) use super::{
    scalar::{Layer, limits},
    thumb::pool,
};

/// Whether the pooling takes any number of terms.
pub(crate) const POOLS_ANY_COUNT: bool = true;

/// No code is loaded with its neighbours.
pub(super) const LOADS_WORDS_OF_CODES: bool = false;

/// Bytes of the code of a step of [`pool_codes`].
const POOL_STEP_BYTES: u32 = 62;

/// The most terms of [`pool_codes`]: as many as a model can have.
pub(super) const MAX_TERMS: usize = u16::MAX as usize;

/// `y[o] = clamp((bias[o] + Σᵢ (codes[o, i] − 128) · x[i]) >> shift, 0, max)`; before a head y is read, not written, and
/// `Σ y[o] ·` these outputs is given.
///
/// Eight outputs at a time: their sums are r0–r7.
///
/// # Safety
///
/// `layer` is as [`Layer`] says, its outputs writable at multiples of four, or readable where they are the head. `x` has as many
/// inputs, readable, at a multiple of four.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn run(layer: &Layer, x: *const i16) -> i32 {
    // [sp]: 128 · Σ x, the head's sum, x, x_end, codes and bias while the head is multiplied, y, y_end, shift, max, eight saved
    // registers and lr.
    naked_asm!(
        "push {{r4-r11, lr}}",
        "ldm r0, {{r4-r10}}", // y, y_end, shift, max, x_bytes, codes, bias
        "push {{r4-r7}}",
        "sub sp, #24",
        "add r12, r1, r8",
        "strd r1, r12, [sp, #8]",
        "mov r8, r9",
        "mov lr, r10",
        "mov r2, r1",
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
        "ldrd r10, r11, [sp, #32]",
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
        "ldrd r9, r10, [sp, #24]",
        "stm r9!, {{r0-r3}}",
        "str r9, [sp, #24]",
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
        "ldr r12, [sp, #24]",
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
        "ldr r8, [sp, #28]",
        "str r12, [sp, #24]",
        "cmp r12, r8",
        "ldrd r8, lr, [sp, #16]",
        "ldr r12, [sp, #12]",
        "bne 2b",
        "9:",
        "ldr r0, [sp, #4]",
        "add sp, #40",
        "pop {{r4-r11, pc}}",
    )
}

/// The Bi-Interaction, as [`bi_interaction`](crate::kernels::bi_interaction::bi_interaction) does it.
///
/// Four lanes at a time: their sums are r0–r3, their pairs r4–r7.
///
/// # Safety
///
/// `terms..terms_end` are one term or more, as [`look_up`] writes them. `z` takes as many halfwords as there are lanes, at a multiple
/// of four.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn pool_codes(
    rows: &Rows,
    terms: *const Term,
    terms_end: *const Term,
    z: *mut i16,
) {
    // [sp]: half of a unit ×4, where to go after the first term, terms, z, z_end, shift, max, eight saved registers and lr.
    naked_asm!(
        "push {{r4-r11, lr}}",
        "mov lr, r2",
        "ldr r11, [r0, #{codes}]",
        "ldrd r9, r10, [r0, #{shift}]",
        "ldrd r4, r7, [r0, #{lanes}]",
        "add r8, r3, r4, lsl #1",
        "push {{r3, r8-r10}}",
        // Four terms a turn; after the first one, the turn is entered where as many as are left end with a turn.
        "adr.w r10, 2f + 1", // Thumb
        "adr.w r3, 4f + 1",
        "subs r4, r2, r1",
        "rsb r8, r4, #8",
        "ubfx r8, r8, #3, #2",
        "movs r9, #{step}",
        "mla r10, r8, r9, r10",
        "cmp r4, #8",
        "it eq",
        "moveq r10, r3",
        "mov r4, r7",
        "mov r5, r7",
        "mov r6, r7",
        "mov r12, r1",
        "push {{r4-r7, r10, r12}}",
        "1:",
        "ldm sp, {{r4-r7, r10, r12}}",
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
        "bx r10",
        "2:",
        ".rept 4",
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
        "ldrd r8, r9, [sp, #32]",
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
        "ldrd r8, r9, [sp, #24]",
        "strd r4, r6, [r8], #8",
        "str r8, [sp, #24]",
        "adds r11, #4",
        "cmp r8, r9",
        "bne 1b",
        "add sp, #40",
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
        step = const POOL_STEP_BYTES,
        codes = const offset_of!(Rows, codes),
        lanes = const offset_of!(Rows, lanes),
        shift = const offset_of!(Rows, shift),
    )
}

/// The Bi-Interaction of rows of nibbles and hot rows.
///
/// Four lanes at a time: their sums are r0–r3, their pairs r4–r7. A word has the nibbles of two such blocks, those of the second
/// eight bits above those of the first.
///
/// # Safety
///
/// `terms` are as [`look_up_nibbles`] writes them. `z` takes as many halfwords as there are lanes, at a multiple of four.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn pool_nibbles(rows: &Rows, terms: &Terms, z: *mut i16) {
    // [sp]: how far a word of nibbles is shifted, the first code and the first byte of nibbles' words of a block, the terms, z, z_end,
    // shift, max, half, eight saved registers and lr.
    naked_asm!(
        "push {{r4-r11, lr}}",
        "ldrd r6, r7, [r0, #{shift}]",
        "ldrd r8, r9, [r0, #{lanes}]", // and half
        "mov r4, r2",
        "add r5, r2, r8, lsl #1",
        "push {{r4-r7, r9}}",
        "ldm r1, {{r0-r3}}",
        "movs r4, #0",
        "movs r5, #0",
        "movs r6, #0",
        "push {{r0-r3}}",
        "push {{r4-r6}}",
        "1:",
        "ldrd r12, lr, [sp, #12]",
        "ldr r4, [sp, #44]",
        ".irp pairs, r5, r6, r7",
        "mov \\pairs, r4",
        ".endr",
        ".irp sum, r0, r1, r2, r3",
        "movs \\sum, #0",
        ".endr",
        "ldr r11, [sp, #4]",
        "cmp r12, lr",
        "beq 3f",
        "2:",
        "ldrd r8, r9, [r12], #8",
        "add r8, r11",
        "ldrsb r10, [r8, #0]",
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
        "cmp r12, lr",
        "bne 2b",
        "3:",
        "ldrd r12, r10, [sp, #20]",
        "ldr lr, [sp, #8]",
        "cmp r12, r10",
        "beq 5f",
        "4:",
        "ldm r12!, {{r8, r9, r11}}",
        "ldr r8, [r8, lr]",
        "ldr r10, [sp]",
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
        "ldr r10, [sp, #24]",
        "cmp r12, r10",
        "bne 4b",
        "5:",
        "ldrd r8, r9, [sp, #36]",
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
        "ldm sp, {{r5, r7}}",
        "adds r7, #4",
        "eors r5, #8",
        "it eq",
        "addeq lr, #4",
        "stm sp, {{r5, r7, lr}}",
        "ldrd r8, r9, [sp, #28]",
        "strd r4, r6, [r8], #8",
        "str r8, [sp, #28]",
        "cmp r8, r9",
        "bne 1b",
        "add sp, #48",
        "pop {{r4-r11, pc}}",
        lanes = const offset_of!(Rows, lanes),
        shift = const offset_of!(Rows, shift),
    )
}

/// Looks ids up: hot rows' addresses and gains go to `hot_end` and on, the others' addresses, gains and offsets to `others` and before.
/// Gives the sum of their first-order codes; `i32::MIN` when an id or its row is not in the table.
///
/// # Safety
///
/// `ids..ids_end` are one word or more, with room for three words each from `hot_end` to `others`.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn look_up_nibbles(
    rows: &Rows,
    ids: *const u32,
    ids_end: *const u32,
    terms: &mut Terms,
) -> i32 {
    // r3 is hot_end, r4 others, r5 headers, r6 rows, r7 hot, r8 the sum.
    naked_asm!(
        "push {{r3-r11, lr}}",
        "ldrd r5, r6, [r0, #{headers}]",
        "ldr r7, [r0, #{hot}]",
        "ldrd r3, r4, [r3, #{hot_end}]",
        "mov r8, #0",
        "1:",
        "ldr r9, [r1], #4",
        "cmp r9, r6",
        "bhs 9f",
        "ldr r10, [r5, r9, lsl #2]",
        "cbz r7, 5f",
        "lsr lr, r9, #5",
        "add lr, r7, lr, lsl #3",
        "ldrd r11, lr, [lr]",
        // The id's bit as the sign; below it those before, which are counted.
        "mvn r12, r9",
        "and r12, #31",
        "lsl r11, r12",
        "lsls r12, r11, #1", // the carry says hot
        "and r11, r12, #0xaaaaaaaa",
        "sub r12, r12, r11, lsr #1",
        "and r11, r12, #0xcccccccc",
        "and r12, #0x33333333",
        "add r12, r12, r11, lsr #2",
        "add r12, r12, r12, lsr #4",
        "and r12, #0x0f0f0f0f",
        "add r12, r12, r12, lsl #8",
        "add r12, r12, r12, lsl #16",
        "add lr, lr, r12, lsr #24",
        "bcs 6f",
        "sub r9, lr",
        "5:",
        "ldr r11, [r0, #{nibble_rows}]",
        "cmp r9, r11",
        "bhs 9f",
        "ldrd r11, lr, [r0, #{row_bytes}]", // and nibbles
        "mla r9, r9, r11, lr",
        "sbfx lr, r10, #0, #12",
        "ubfx r11, r10, #12, #8",
        "adds r11, #1",
        "str lr, [r4, #-4]!",
        "strd r9, r11, [r4, #-8]!",
        "b 7f",
        "6:",
        "ldrd r11, r12, [r0, #{codes}]", // and hot_rows
        "cmp lr, r12",
        "bhs 9f",
        "ldr r12, [r0, #{lanes}]",
        "mla r9, lr, r12, r11",
        "ubfx r11, r10, #12, #8",
        "adds r11, #1",
        "strd r9, r11, [r3], #8",
        "7:",
        "add r8, r8, r10, asr #20",
        "cmp r1, r2",
        "bne 1b",
        "ldr r12, [sp]",
        "strd r3, r4, [r12, #{hot_end}]",
        "mov r0, r8",
        "pop {{r3-r11, pc}}",
        "9:",
        "mov r0, #0x80000000",
        "pop {{r3-r11, pc}}",
        headers = const offset_of!(Rows, headers),
        lanes = const offset_of!(Rows, lanes),
        codes = const offset_of!(Rows, codes),
        hot = const offset_of!(Rows, hot),
        row_bytes = const offset_of!(Rows, row_bytes),
        nibble_rows = const offset_of!(Rows, nibble_rows),
        hot_end = const offset_of!(Terms, hot_end),
    )
}

/// `Σ weights[i] · x[i]`.
///
/// # Safety
///
/// `x..x_end` are readable, and a positive multiple of eight halfwords, as many as `weights`.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn multiply(weights: *const i16, x: *const i16, x_end: *const i16) -> i32 {
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

/// Writes a term for each id, and gives the sum of their first-order codes; `i32::MIN` when an id is no row.
///
/// # Safety
///
/// `ids..ids_end` are one word or more, and `terms` takes as many terms.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn look_up(
    rows: &Rows,
    ids: *const u32,
    ids_end: *const u32,
    terms: *mut Term,
) -> i32 {
    naked_asm!(
        "push {{r4-r8, lr}}",
        "ldr r4, [r0, #{lanes}]",
        "ldrd r0, r5, [r0, #{headers}]", // and rows
        "movs r6, #0",
        "1:",
        "ldr r7, [r1], #4",
        "cmp r7, r5",
        "bhs 2f",
        "ldrsh r12, [r0, r7, lsl #1]",
        "mul r7, r7, r4",
        "and r8, r12, #15",
        "adds r8, #1",
        "add r6, r6, r12, asr #4",
        "strd r7, r8, [r3], #8",
        "cmp r1, r2",
        "bne 1b",
        "mov r0, r6",
        "pop {{r4-r8, pc}}",
        "2:",
        "mov r0, #0x80000000",
        "pop {{r4-r8, pc}}",
        headers = const offset_of!(Rows, headers),
        lanes = const offset_of!(Rows, lanes),
    )
}
