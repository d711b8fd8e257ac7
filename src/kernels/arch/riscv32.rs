//! RV32 with the M extension: one product at a time, but registers for sixteen sums.
//!
//! The safe side comes first: what the instructions ask of their arguments is checked there, once a call.
#![expect(unsafe_code, reason = "hand-written instructions take fewer than the portable kernels'")]

use core::{arch::naked_asm, mem::offset_of};

use super::plan::Rows;
pub(crate) use super::scalar::is_native;
pub(super) use super::scalar::{Layer, limits};
use crate::{features, kernels::nibbles::TERM_WORDS};

/// Whether the pooling takes any number of terms.
pub(crate) const POOLS_ANY_COUNT: bool = true;

/// No code is loaded with its neighbours.
pub(super) const LOADS_WORDS_OF_CODES: bool = false;

/// Where its row starts, in bytes; its gain; its offset, which is not read where the row is of codes.
type Term = [u32; TERM_WORDS];

/// Pools the rows of ids into z, and gives the sum of their first-order codes; `i32::MIN` when an id is none.
///
/// # Safety
///
/// `rows` is as [`Rows`] says. `ids..ids_end` are readable, one or more; `words` has three for each of them, and `z` takes as many
/// halfwords as there are lanes.
pub(super) unsafe fn pool(
    rows: &Rows,
    ids: *const u32,
    ids_end: *const u32,
    words: *mut u32,
    z: *mut i16,
) -> i32 {
    let terms: *mut Term = words.cast();
    // SAFETY: both are of one slice.
    let end = terms.wrapping_add(unsafe { ids_end.offset_from_unsigned(ids) });
    let Found { sum, first } = if features::NIBBLES && rows.has_nibbles() {
        // SAFETY: there is room for as many terms.
        unsafe { look_up_nibbles(rows, ids, ids_end, terms, end) }
    } else {
        // SAFETY: there is room for as many terms.
        Found { sum: unsafe { look_up(rows, ids, ids_end, terms) }, first: terms }
    };
    if sum != i32::MIN {
        // SAFETY: the terms are those just written.
        unsafe { pool_terms(rows, terms, first, end, z) };
    }
    sum
}

/// Takes 64 bytes of stack, and saves ra and s0–s11 in the first 52 of them.
macro_rules! enter {
    () => {
        ".option push\n.option arch, +m\naddi sp, sp, -64\n.set .Lat, 0
        .irp reg, ra, s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11
        sw \\reg, .Lat(sp)\n.set .Lat, .Lat + 4\n.endr"
    };
}

/// Undoes [`enter`].
macro_rules! leave {
    () => {
        ".set .Lat, 0
        .irp reg, ra, s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11
        lw \\reg, .Lat(sp)\n.set .Lat, .Lat + 4\n.endr
        addi sp, sp, 64\nret\n.option pop"
    };
}

/// Repeats a text for each register of a list; in it, `\acc` is the register and `.Lat` a number that grows by `$step` from
/// `$first`.
macro_rules! each {
    ($registers:literal, $first:literal, $step:literal, $($text:literal),+ $(,)?) => {
        concat!(
            ".set .Lat, ", $first, "\n.irp acc, ", $registers, "\n", $($text, "\n",)+
            ".set .Lat, .Lat + ", $step, "\n.endr"
        )
    };
}

/// Shifts and rectifies sums, and adds their products with the head from `$first` bytes after a4 on to a2: a negative one adds
/// nothing.
macro_rules! meet_head {
    ($registers:literal, $first:literal) => {
        each!(
            $registers,
            $first,
            "2",
            "blez \\acc, 3f",
            "sra \\acc, \\acc, a6",
            "ble \\acc, a7, 2f",
            "mv \\acc, a7",
            "2:",
            "lh t0, .Lat(a4)",
            "mul \\acc, \\acc, t0",
            "add a2, a2, \\acc",
            "3:",
        )
    };
}

/// `y[o] = clamp((bias[o] + Σᵢ (codes[o, i] − 128) · x[i]) >> shift, 0, max)`; before a head y is read, not written, and
/// `Σ y[o] ·` these outputs is given.
///
/// Sixteen outputs at a time, after eight where these are odd: their sums are s0–s11 and t3–t6.
///
/// # Safety
///
/// `layer` is as [`Layer`] says, its outputs writable, or readable where they are the head. `x` has as many inputs,
/// readable.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn run(layer: &Layer, x: *const i16) -> i32 {
    // 52(sp): 128 · Σ x, 56(sp): x, 60(sp): the bytes of a block's codes. a2 becomes the sum with the head.
    naked_asm!(
        enter!(),
        "mv t2, a1",
        "sw a1, 56(sp)",
        "lw a4, 0(a0)", // y, y_end, shift, max, x_bytes, codes, bias
        "lw a5, 4(a0)",
        "lw a6, 8(a0)",
        "lw a7, 12(a0)",
        "lw a3, 16(a0)",
        "lw a1, 24(a0)",
        "lw a0, 20(a0)",
        "slli t1, a3, 2",
        "sw t1, 60(sp)",
        "add a3, a3, t2",
        "li a2, 0",
        "li t0, 0",
        "1:",
        ".set .Lat, 0",
        ".rept 8",
        "lh t1, .Lat(t2)",
        "add t0, t0, t1",
        ".set .Lat, .Lat + 2",
        ".endr",
        "addi t2, t2, 16",
        "bne t2, a3, 1b",
        "slli t0, t0, 7",
        "sw t0, 52(sp)",
        "sub t1, a5, a4",
        "andi t1, t1, 16",
        "beqz t1, 4f",
        // Eight outputs, as if they were the second of two blocks.
        "lw t2, 56(sp)",
        each!("s8, s9, s10, s11, t3, t4, t5, t6", "0", "4", "lw \\acc, .Lat(a1)", "sub \\acc, \\acc, t0"),
        "addi a1, a1, 32",
        "2:",
        "lh t0, 0(t2)",
        each!(
            "s8, s9, s10, s11, t3, t4, t5, t6",
            "0",
            "1",
            "lbu ra, .Lat(a0)",
            "mul ra, ra, t0",
            "add \\acc, \\acc, ra",
        ),
        "addi t2, t2, 2",
        "addi a0, a0, 8",
        "bne t2, a3, 2b",
        "addi a4, a4, -16",
        "bltz a6, 6f",
        "addi sp, sp, -64",
        "addi s0, sp, 32",
        "addi t2, a4, 16",
        "j 3f",
        // Shifts, rectifies and writes sums, which lie on the stack. This is not unrolled: most layers are followed by the head.
        "7:",
        "addi sp, sp, -64",
        each!("s0, s1, s2, s3, s4, s5, s6, s7", "0", "4", "sw \\acc, .Lat(sp)"),
        "mv s0, sp",
        "mv t2, a4",
        "3:",
        each!("s8, s9, s10, s11, t3, t4, t5, t6", "32", "4", "sw \\acc, .Lat(sp)"),
        "addi t1, sp, 64",
        "8:",
        "lw s1, 0(s0)",
        "bgez s1, 2f",
        "li s1, 0",
        "2:",
        "sra s1, s1, a6",
        "ble s1, a7, 3f",
        "mv s1, a7",
        "3:",
        "sh s1, 0(t2)",
        "addi s0, s0, 4",
        "addi t2, t2, 2",
        "bne s0, t1, 8b",
        "mv sp, t1",
        "j 9f",
        // Sixteen outputs. The second block follows the first, eight bytes an input.
        "4:",
        "lw t0, 52(sp)",
        "lw t2, 56(sp)",
        "lw t1, 60(sp)",
        "add t1, t1, a0",
        each!(
            "s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, t3, t4, t5, t6",
            "0",
            "4",
            "lw \\acc, .Lat(a1)",
            "sub \\acc, \\acc, t0",
        ),
        "addi a1, a1, 64",
        "5:",
        ".set .Lat, 0",
        ".rept 4",
        "lh t0, .Lat / 4(t2)",
        ".irp acc, s0, s1, s2, s3, s4, s5, s6, s7",
        "lbu ra, .Lat(a0)",
        "mul ra, ra, t0",
        "add \\acc, \\acc, ra",
        ".set .Lat, .Lat + 1",
        ".endr",
        ".set .Lat, .Lat - 8",
        ".irp acc, s8, s9, s10, s11, t3, t4, t5, t6",
        "lbu ra, .Lat(t1)",
        "mul ra, ra, t0",
        "add \\acc, \\acc, ra",
        ".set .Lat, .Lat + 1",
        ".endr",
        ".endr",
        "addi t2, t2, 8",
        "addi a0, a0, 32",
        "addi t1, t1, 32",
        "bne t2, a3, 5b",
        "mv a0, t1",
        "bgez a6, 7b",
        meet_head!("s0, s1, s2, s3, s4, s5, s6, s7", "0"),
        "6:",
        meet_head!("s8, s9, s10, s11, t3, t4, t5, t6", "16"),
        "9:",
        "addi a4, a4, 32",
        "bne a4, a5, 4b",
        "mv a0, a2",
        leave!(),
    )
}

/// Adds a term to the pair and sum of a lane, whose code `$load` leaves in a0; t2 is the gain.
macro_rules! pair {
    ($sum:literal, $pair:literal, $load:literal) => {
        concat!($load, "\nmul a0, a0, t2\n", add_to!($sum, $pair))
    };
}

/// As [`pair`], with the offset in a5.
macro_rules! nibble_pair {
    ($sum:literal, $pair:literal, $load:literal) => {
        concat!($load, "\nmul a0, a0, t2\nadd a0, a0, a5\n", add_to!($sum, $pair))
    };
}

/// Adds the embedding in a0 to the pair and sum of a lane.
macro_rules! add_to {
    ($sum:literal, $pair:literal) => {
        concat!("mul ra, a0, ", $sum, "\nadd ", $sum, ", ", $sum, ", a0\nadd ", $pair, ", ", $pair, ", ra")
    };
}

/// Fetches the term at t0: where its row of codes goes on into t1, its gain into t2.
macro_rules! codes_of_term {
    () => {
        "lw t1, 0(t0)\nlw t2, 4(t0)\nadd t1, t1, a6\naddi t0, t0, 12"
    };
}

/// Fetches the term at t0: its word of nibbles into t1, its gain into t2, its offset into a5.
macro_rules! nibbles_of_term {
    () => {
        "lw t1, 0(t0)\nlw t2, 4(t0)\nlw a5, 8(t0)\nadd t1, t1, a7\nlw t1, 0(t1)\naddi t0, t0, 12"
    };
}

/// Shifts, clamps and writes pairs from `$first` bytes after a3 on, by what [`limits`] left.
macro_rules! clamp {
    ($registers:literal, $first:literal) => {
        each!(
            $registers,
            $first,
            "2",
            "sra \\acc, \\acc, t0",
            "ble \\acc, t1, 2f",
            "mv \\acc, t1",
            "2:",
            "bge \\acc, t2, 3f",
            "mv \\acc, t2",
            "3:",
            "sh \\acc, .Lat(a3)",
        )
    };
}

/// Puts what pairs are shifted down by into t0, and z's limits into t1 and t2.
macro_rules! limits {
    () => {
        "lw t0, 56(sp)\nsrli t1, t0, 5\nneg t2, t1"
    };
}

/// The Bi-Interaction: first of the rows of nibbles, then of those of codes.
///
/// Eight lanes at a time: their sums are s0–s7, their pairs s8–s11 and t3–t6; four that are left are s4–s7 and t3–t6.
///
/// # Safety
///
/// `terms..first` and `first..end` are terms, together one or more, of rows of nibbles and of codes. `z` takes as many halfwords as
/// there are lanes.
#[unsafe(naked)]
unsafe extern "C" fn pool_terms(
    rows: &Rows,
    terms: *const Term,
    first: *const Term,
    end: *const Term,
    z: *mut i16,
) {
    // 52(sp): terms, 56(sp): the largest magnitude of z, above five bits of what pairs are shifted down by, 60(sp): half a unit.
    naked_asm!(
        enter!(),
        "sw a1, 52(sp)",
        "lw t0, {max}(a0)",
        "lw t1, {shift}(a0)",
        "slli t0, t0, 5",
        "or t0, t0, t1",
        "sw t0, 56(sp)",
        "lw t0, {half}(a0)",
        "sw t0, 60(sp)",
        "lw t0, {lanes}(a0)",
        "lw a6, {codes}(a0)",
        "lw a7, {nibbles}(a0)",
        "mv a1, a2",
        "mv a2, a3",
        "mv a3, a4",
        "slli t0, t0, 1",
        "add a4, a4, t0",
        // From here on, eight lanes are left up to a4.
        "addi a4, a4, -16",
        "bltu a4, a3, 6f",
        "1:",
        "lw t0, 52(sp)",
        each!("s8, s9, s10, s11, t3, t4, t5, t6", "0", "0", "lw \\acc, 60(sp)"),
        ".if {has_nibbles}",
        "beq t0, a1, 3f",
        each!("s0, s1, s2, s3, s4, s5, s6, s7", "0", "0", "li \\acc, 0"),
        "2:",
        nibbles_of_term!(),
        nibble_pair!("s0", "s8", "andi a0, t1, 15"),
        nibble_pair!("s1", "s9", "srli a0, t1, 4\nandi a0, a0, 15"),
        nibble_pair!("s4", "t3", "srli a0, t1, 8\nandi a0, a0, 15"),
        nibble_pair!("s5", "t4", "srli a0, t1, 12\nandi a0, a0, 15"),
        nibble_pair!("s2", "s10", "srli a0, t1, 16\nandi a0, a0, 15"),
        nibble_pair!("s3", "s11", "srli a0, t1, 20\nandi a0, a0, 15"),
        nibble_pair!("s6", "t5", "srli a0, t1, 24\nandi a0, a0, 15"),
        nibble_pair!("s7", "t6", "srli a0, t1, 28"),
        "bne t0, a1, 2b",
        "bne t0, a2, 4f",
        "j 5f",
        ".endif",
        // A first term has no pair.
        "3:",
        codes_of_term!(),
        each!("s0, s1, s2, s3, s4, s5, s6, s7", "0", "1", "lb \\acc, .Lat(t1)", "mul \\acc, \\acc, t2"),
        "beq t0, a2, 5f",
        "4:",
        codes_of_term!(),
        pair!("s0", "s8", "lb a0, 0(t1)"),
        pair!("s1", "s9", "lb a0, 1(t1)"),
        pair!("s2", "s10", "lb a0, 2(t1)"),
        pair!("s3", "s11", "lb a0, 3(t1)"),
        pair!("s4", "t3", "lb a0, 4(t1)"),
        pair!("s5", "t4", "lb a0, 5(t1)"),
        pair!("s6", "t5", "lb a0, 6(t1)"),
        pair!("s7", "t6", "lb a0, 7(t1)"),
        "bne t0, a2, 4b",
        "5:",
        limits!(),
        clamp!("s8, s9, s10, s11", "0"),
        // Four lanes come here as if they were the last of eight.
        "7:",
        clamp!("t3, t4, t5, t6", "8"),
        "addi a6, a6, 8",
        "addi a7, a7, 4",
        "addi a3, a3, 16",
        "bgeu a4, a3, 1b",
        "6:",
        "addi t1, a4, 16",
        "beq a3, t1, 9f",
        "addi a3, a3, -8",
        "lw t0, 52(sp)",
        each!("s4, s5, s6, s7", "0", "0", "li \\acc, 0"),
        each!("t3, t4, t5, t6", "0", "0", "lw \\acc, 60(sp)"),
        ".if {has_nibbles}",
        "beq t0, a1, 3f",
        "2:",
        nibbles_of_term!(),
        nibble_pair!("s4", "t3", "andi a0, t1, 15"),
        nibble_pair!("s5", "t4", "srli a0, t1, 4\nandi a0, a0, 15"),
        nibble_pair!("s6", "t5", "srli a0, t1, 16\nandi a0, a0, 15"),
        nibble_pair!("s7", "t6", "srli a0, t1, 20\nandi a0, a0, 15"),
        "bne t0, a1, 2b",
        "beq t0, a2, 8f",
        ".endif",
        "3:",
        codes_of_term!(),
        pair!("s4", "t3", "lb a0, 0(t1)"),
        pair!("s5", "t4", "lb a0, 1(t1)"),
        pair!("s6", "t5", "lb a0, 2(t1)"),
        pair!("s7", "t6", "lb a0, 3(t1)"),
        "bne t0, a2, 3b",
        "8:",
        limits!(),
        "j 7b",
        "9:",
        leave!(),
        max = const offset_of!(Rows, max),
        shift = const offset_of!(Rows, shift),
        half = const offset_of!(Rows, half),
        lanes = const offset_of!(Rows, lanes),
        codes = const offset_of!(Rows, codes),
        nibbles = const offset_of!(Rows, nibbles),
        has_nibbles = const features::NIBBLES as u32,
    )
}

/// Writes the terms of ids, and gives the sum of their first-order codes; `i32::MIN` when an id is no row.
///
/// # Safety
///
/// `ids..ids_end` are one word or more, and `terms` takes as many terms.
#[unsafe(naked)]
unsafe extern "C" fn look_up(rows: &Rows, ids: *const u32, ids_end: *const u32, terms: *mut Term) -> i32 {
    naked_asm!(
        ".option push",
        ".option arch, +m",
        "lw a4, {lanes}(a0)",
        "lw a5, {rows}(a0)",
        "lw a7, {headers}(a0)",
        "li a0, 0",
        "1:",
        "lw t0, 0(a1)",
        "bgeu t0, a5, 2f",
        "slli t1, t0, 1",
        "add t1, t1, a7",
        "lh t1, 0(t1)",
        "mul t0, t0, a4",
        "sw t0, 0(a3)",
        "srai t2, t1, 4",
        "add a0, a0, t2",
        "andi t1, t1, 15",
        "addi t1, t1, 1",
        "sw t1, 4(a3)",
        "addi a1, a1, 4",
        "addi a3, a3, 12",
        "bne a1, a2, 1b",
        "ret",
        "2:",
        "lui a0, 0x80000", // i32::MIN
        "ret",
        ".option pop",
        headers = const offset_of!(Rows, headers),
        rows = const offset_of!(Rows, rows),
        lanes = const offset_of!(Rows, lanes),
    )
}

/// What [`look_up_nibbles`] gives.
#[repr(C)]
struct Found {
    /// The sum of the first-order codes, or `i32::MIN`.
    sum: i32,
    /// The first term of a row of codes.
    first: *const Term,
}

/// Writes the terms of ids, those of rows of codes last; `i32::MIN` when an id or its row is not in the table.
///
/// # Safety
///
/// `ids..ids_end` are one word or more, and `terms..terms_end` take as many terms.
#[unsafe(naked)]
unsafe extern "C" fn look_up_nibbles(
    rows: &Rows,
    ids: *const u32,
    ids_end: *const u32,
    terms: *mut Term,
    terms_end: *mut Term,
) -> Found {
    // 0(sp): s0–s2, ra. The terms of nibbles grow from a3 up, those of codes from a4 down; a7 becomes the sum.
    naked_asm!(
        ".option push",
        ".option arch, +m",
        "addi sp, sp, -16",
        "sw s0, 0(sp)",
        "sw s1, 4(sp)",
        "sw s2, 8(sp)",
        "sw ra, 12(sp)",
        "li a7, 0",
        "lw s0, {hot}(a0)",
        "lw a6, {rows}(a0)",
        "lw a5, {headers}(a0)",
        "li s1, 0x01010101",
        "li t4, 0x55555555",
        "li t5, 0x33333333",
        "li t6, 0x0f0f0f0f",
        "1:",
        "lw t0, 0(a1)",
        "addi a1, a1, 4",
        "bgeu t0, a6, 6f",
        "slli t1, t0, 2",
        "add t1, t1, a5",
        "lw t1, 0(t1)",
        "beqz s0, 2f",
        // t2 becomes how many rows before this one are hot, as `NibbleTable::place` counts them, and t3 negative if this one is.
        "srli t2, t0, 5",
        "slli t2, t2, 3",
        "add t2, t2, s0",
        "lw t3, 0(t2)",
        "lw t2, 4(t2)",
        "not ra, t0",
        "sll t3, t3, ra",
        "slli s2, t3, 1",
        "srli ra, s2, 1",
        "and ra, ra, t4",
        "sub s2, s2, ra",
        "srli ra, s2, 2",
        "and ra, ra, t5",
        "and s2, s2, t5",
        "add s2, s2, ra",
        "srli ra, s2, 4",
        "add s2, s2, ra",
        "and s2, s2, t6",
        "mul s2, s2, s1",
        "srli s2, s2, 24",
        "add t2, t2, s2",
        "bltz t3, 3f",
        "sub t0, t0, t2",
        "2:",
        "lw t2, {nibble_rows}(a0)",
        "bgeu t0, t2, 6f",
        "lw t2, {row_bytes}(a0)",
        "mul t0, t0, t2",
        "slli t2, t1, 20",
        "srai t2, t2, 20",
        "sw t2, 8(a3)",
        "mv ra, a3",
        "addi a3, a3, 12",
        "j 4f",
        "3:",
        "lw t0, {hot_rows}(a0)",
        "bgeu t2, t0, 6f",
        "lw t0, {lanes}(a0)",
        "mul t0, t0, t2",
        "addi a4, a4, -12",
        "mv ra, a4",
        "4:",
        "sw t0, 0(ra)",
        "srai t2, t1, 20",
        "add a7, a7, t2",
        "slli t1, t1, 12",
        "srli t1, t1, 24",
        "addi t1, t1, 1",
        "sw t1, 4(ra)",
        "bne a1, a2, 1b",
        "5:",
        "mv a0, a7",
        "mv a1, a4",
        "lw s0, 0(sp)",
        "lw s1, 4(sp)",
        "lw s2, 8(sp)",
        "lw ra, 12(sp)",
        "addi sp, sp, 16",
        "ret",
        "6:",
        "lui a7, 0x80000", // i32::MIN
        "j 5b",
        ".option pop",
        headers = const offset_of!(Rows, headers),
        rows = const offset_of!(Rows, rows),
        lanes = const offset_of!(Rows, lanes),
        hot_rows = const offset_of!(Rows, hot_rows),
        hot = const offset_of!(Rows, hot),
        row_bytes = const offset_of!(Rows, row_bytes),
        nibble_rows = const offset_of!(Rows, nibble_rows),
    )
}

/// `Σ weights[i] · x[i]`.
///
/// # Safety
///
/// `x..x_end` are readable, and a positive multiple of two halfwords, as many as `weights`.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn multiply(weights: *const i16, x: *const i16, x_end: *const i16) -> i32 {
    naked_asm!(
        ".option push",
        ".option arch, +m",
        "li a3, 0",
        "1:",
        "lh a4, 0(a0)",
        "lh a5, 0(a1)",
        "mul a4, a4, a5",
        "add a3, a3, a4",
        "lh a4, 2(a0)",
        "lh a5, 2(a1)",
        "mul a4, a4, a5",
        "add a3, a3, a4",
        "addi a0, a0, 4",
        "addi a1, a1, 4",
        "bne a1, a2, 1b",
        "mv a0, a3",
        "ret",
        ".option pop",
    )
}
