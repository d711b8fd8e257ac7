//! RV32 with the M extension: one product at a time, but registers for sixteen sums.
//!
//! The safe side comes first: what the instructions ask of their arguments is checked there, once a call, or by themselves.
#![expect(unsafe_code, reason = "hand-written instructions take fewer than the portable kernels'")]

use core::arch::naked_asm;

use crate::{
    kernels::{
        bi_interaction::Term,
        nibbles::{self, NIBBLES, NibbleTerm},
    },
    model::{BLOCK, FixedLayer, LANES, MAX_WIDTH, NibbleTable, QuantTable, Weights, saturate},
};

/// Words of a term: its start, its gain, and one that is not used; those of nibbles have their offset there.
pub(in crate::kernels) const TERM_WORDS: usize = 3;

/// What [`terms`] and [`nibble_terms`] give for an id that is no row; no sum of first-order codes is so low.
const NO_ROW: i32 = i32::MIN;

/// Says to [`layer`] that the outputs meet a head: the instructions that shift look at the lowest five bits alone.
const HEAD: u32 = 1 << 31;

/// [`bi_interaction`](crate::kernels::bi_interaction::bi_interaction).
#[inline(always)]
fn bi_interaction(codes: &[i8], terms: &[Term], shift: u8, max: u16, z: &mut [i16]) -> Option<()> {
    pool_rows(codes, None, terms, shift, max, z)
}

/// [`terms`] and then [`bi_interaction`].
#[inline(always)]
pub(in crate::kernels) fn bi_interaction_of_ids(
    table: &QuantTable<'_>,
    ids: &[u32],
    words: &mut [u32],
    _max_embedding: u16,
    shift: u8,
    max: u16,
    z: &mut [i16],
) -> Option<i32> {
    let (places, _) = words.as_chunks_mut().0.split_at_mut_checked(ids.len())?;
    let sum = terms(table.headers, ids, saturate(z.len()), places)?;
    bi_interaction(table.codes, places, shift, max, z)?;
    Some(sum)
}

/// The terms of ids, and then [`nibbles::bi_interaction`](crate::kernels::nibbles::bi_interaction) without values.
#[inline(always)]
pub(in crate::kernels) fn bi_interaction_of_nibble_ids(
    table: &NibbleTable<'_>,
    ids: &[u32],
    words: &mut [u32],
    _max_embedding: u16,
    shift: u8,
    max: u16,
    z: &mut [i16],
) -> Option<i32> {
    let (places, _) = words.as_chunks_mut().0.split_at_mut_checked(ids.len())?;
    let lanes = saturate(z.len());
    let sum = if table.hot.is_empty() {
        nibble_terms(table.headers, ids, lanes, places)
    } else {
        nibbles::terms(table, ids, lanes, places)
    }?;
    pool_rows(table.codes, Some(table.nibbles), places, shift, max, z)?;
    Some(sum)
}

/// Pools rows of either kind, if there are terms and each starts where a whole row lies.
#[inline(always)]
fn pool_rows(
    codes: &[i8],
    nibbles: Option<&[u32]>,
    terms: &[[u32; TERM_WORDS]],
    shift: u8,
    max: u16,
    z: &mut [i16],
) -> Option<()> {
    let code_starts = starts(codes.len(), z.len()).min(NIBBLES);
    let nibble_starts =
        nibbles.map_or(0, |nibbles| NIBBLES | starts(nibbles.len(), z.len().div_ceil(8)).min(NIBBLES / 4));
    let nibbles = nibbles.unwrap_or_default().as_ptr();
    let fits = !terms.is_empty() && !z.is_empty() && z.len().is_multiple_of(LANES);
    let (terms, z) = (terms.as_ptr_range(), z.as_mut_ptr_range());
    // SAFETY: there is a term, and z is a positive multiple of four halfwords; from each start below the limits on, a whole row
    // lies in the codes or nibbles, and a word has two bits more than the start of one.
    let pooled = fits.then(|| unsafe {
        pool(
            codes.as_ptr(),
            code_starts,
            nibbles,
            nibble_starts,
            terms.start,
            terms.end,
            z.start,
            z.end,
            shift.into(),
            max.into(),
        )
    })?;
    (pooled == 0).then_some(())
}

/// At how many places among `len` elements a row of `row` can start.
#[inline(always)]
fn starts(len: usize, row: usize) -> u32 {
    saturate((len + 1).saturating_sub(row))
}

/// The headers of `ids`, looked up: writes a term each, and gives the sum of their first-order codes.
#[inline(always)]
fn terms(headers: &[u16], ids: &[u32], lanes: u32, terms: &mut [Term]) -> Option<i32> {
    let fits = !ids.is_empty() && ids.len() <= terms.len();
    let (rows, ids) = (saturate(headers.len()), ids.as_ptr_range());
    // SAFETY: there is an id, and there are no fewer terms and `rows` headers.
    let sum = fits
        .then(|| unsafe { look_up(headers.as_ptr(), rows, ids.start, ids.end, lanes, terms.as_mut_ptr()) })?;
    (sum != NO_ROW).then_some(sum)
}

/// As [`terms`] for rows that are all of nibbles.
#[inline(always)]
fn nibble_terms(headers: &[u32], ids: &[u32], lanes: u32, terms: &mut [NibbleTerm]) -> Option<i32> {
    let fits = !ids.is_empty() && ids.len() <= terms.len();
    let (rows, ids, words) = (saturate(headers.len()), ids.as_ptr_range(), lanes.div_ceil(8));
    // SAFETY: there is an id, and there are no fewer terms and `rows` headers.
    let sum = fits.then(|| unsafe {
        look_up_nibbles(headers.as_ptr(), rows, ids.start, ids.end, words, terms.as_mut_ptr())
    })?;
    (sum != NO_ROW).then_some(sum)
}

/// [`dense`](crate::kernels::dense::dense) with the rectifier, on [`Weights::Scalar`].
#[inline(always)]
pub(in crate::kernels) fn dense_relu(layer: &FixedLayer<'_>, x: &[i16], y: &mut [i16]) -> Option<()> {
    let codes = fitting_codes(layer, x, y)?;
    let (x, y) = (x.as_ptr_range(), y.as_mut_ptr_range());
    let (shift, max) = (layer.shift.into(), layer.max.into());
    // SAFETY: by `fitting_codes`; nothing says that y is a head.
    unsafe { self::layer(codes, layer.bias.as_ptr(), x.start, x.end, y.start, y.end, shift, max) };
    Some(())
}

/// [`dense_relu`] and [`dot`] of its outputs with the head, where every output is one of the layer's.
#[inline(always)]
pub(in crate::kernels) fn dense_relu_dot(layer: &FixedLayer<'_>, x: &[i16], head: &[i16]) -> Option<i32> {
    let codes = fitting_codes(layer, x, head)?;
    let no_padding = head.len() == layer.out.into();
    let (x, head) = (x.as_ptr_range(), head.as_ptr_range());
    let (shift, max) = (u32::from(layer.shift) | HEAD, layer.max.into());
    let (head, head_end) = (head.start.cast_mut(), head.end.cast_mut());
    // SAFETY: by `fitting_codes`; the head is only read.
    no_padding.then(|| unsafe {
        self::layer(codes, layer.bias.as_ptr(), x.start, x.end, head, head_end, shift, max)
    })
}

/// The codes of a layer, if it is one that [`layer`] can compute: x, outputs and codes have the lengths that it asks for.
#[inline(always)]
fn fitting_codes(layer: &FixedLayer<'_>, x: &[i16], outputs: &[i16]) -> Option<*const u8> {
    let Weights::Scalar(codes) = layer.weights else { return None };
    let fits = is_blocks(x)
        && is_blocks(outputs)
        && layer.bias.len() == outputs.len()
        // Below twice MAX_WIDTH both, so the product cannot wrap.
        && (x.len() | outputs.len()) < 2 * MAX_WIDTH
        && codes.len() == x.len().wrapping_mul(outputs.len());
    fits.then_some(codes.as_ptr())
}

/// [`dot`](crate::kernels::dense::dot).
#[inline(always)]
pub(in crate::kernels) fn dot(weights: &[i16], x: &[i16]) -> Option<i32> {
    let fits = is_blocks(x) && weights.len() == x.len();
    let x = x.as_ptr_range();
    // SAFETY: both are as long, a positive multiple of eight.
    fits.then(|| unsafe { multiply(weights.as_ptr(), x.start, x.end) })
}

/// Whether this is a positive multiple of [`BLOCK`] elements.
#[inline(always)]
fn is_blocks(x: &[i16]) -> bool {
    !x.is_empty() && x.len().is_multiple_of(BLOCK)
}

/// There is no twin for [`Weights::Dsp`].
pub(in crate::kernels) const fn sums(_: &[u32], _: &[i16], _: usize) -> Option<[i32; 4]> {
    None
}

/// There is no twin for floats.
pub(in crate::kernels) const fn float_dot(_: &[f32], _: &[f32]) -> Option<[f32; 8]> {
    None
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

/// Shifts and rectifies sums, and adds their products with the head from `$first` bytes after a4 to ra: a negative sum adds nothing.
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
            "add ra, ra, \\acc",
            "3:",
        )
    };
}

/// Shifts, rectifies and writes sums from `$first` bytes after a4 on.
macro_rules! store {
    ($registers:literal, $first:literal) => {
        each!(
            $registers,
            $first,
            "2",
            "bgez \\acc, 2f",
            "li \\acc, 0",
            "2:",
            "sra \\acc, \\acc, a6",
            "ble \\acc, a7, 3f",
            "mv \\acc, a7",
            "3:",
            "sh \\acc, .Lat(a4)",
        )
    };
}

/// `y[o] = clamp((bias[o] + Σᵢ (codes[o, i] − 128) · x[i]) >> shift, 0, max)`; with [`HEAD`] in `shift`, y is not written but
/// read, and `Σ_o y[o] ·` these outputs is given.
///
/// Sixteen outputs at a time, after eight where these are odd: their sums are s0–s11 and t3–t6.
///
/// # Safety
///
/// `x..x_end` are readable, and a positive multiple of eight halfwords. `y..y_end` are writable or, with [`HEAD`], readable, and
/// a positive multiple of eight halfwords. `bias` has as many words, and `codes` as many bytes as the product of both.
#[unsafe(naked)]
unsafe extern "C" fn layer(
    codes: *const u8,
    bias: *const i32,
    x: *const i16,
    x_end: *const i16,
    y: *mut i16,
    y_end: *mut i16,
    shift: u32,
    max: u32,
) -> i32 {
    // 52(sp): 128 · Σ x, 56(sp): the sum with the head.
    naked_asm!(
        enter!(),
        "sw zero, 56(sp)",
        // t0 becomes 128 · Σ x, and a2 the bytes of x.
        "li t0, 0",
        "mv t2, a2",
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
        "sub a2, a3, a2",
        "sub t1, a5, a4",
        "andi t1, t1, 16",
        "beqz t1, 4f",
        // Eight outputs, as if they were the second of two blocks.
        "sub t2, a3, a2",
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
        "lw ra, 56(sp)",
        "bltz a6, 6f",
        "j 8f",
        // Sixteen outputs. The second block follows the first, eight bytes an input.
        "4:",
        "lw t0, 52(sp)",
        "sub t2, a3, a2",
        "slli t1, a2, 2",
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
        "bgez a6, 7f",
        // ra becomes the sum with the head.
        "lw ra, 56(sp)",
        meet_head!("s0, s1, s2, s3, s4, s5, s6, s7", "0"),
        "6:",
        meet_head!("s8, s9, s10, s11, t3, t4, t5, t6", "16"),
        "sw ra, 56(sp)",
        "j 9f",
        "7:",
        store!("s0, s1, s2, s3, s4, s5, s6, s7", "0"),
        "8:",
        store!("s8, s9, s10, s11, t3, t4, t5, t6", "16"),
        "9:",
        "addi a4, a4, 32",
        "bne a4, a5, 4b",
        "lw a0, 56(sp)",
        leave!(),
    )
}

/// Adds a term to the pair and sum of a lane, whose code `$load` leaves in a4. t2 is its gain.
macro_rules! pair {
    ($sum:literal, $pair:literal, $load:literal) => {
        concat!($load, "\nmul a4, a4, t2\n", add_to!($sum, $pair))
    };
}

/// As [`pair`] with the offset in a3.
macro_rules! nibble_pair {
    ($sum:literal, $pair:literal, $load:literal) => {
        concat!($load, "\nmul a4, a4, t2\nadd a4, a4, a3\n", add_to!($sum, $pair))
    };
}

/// Adds the embedding in a4 to the pair and sum of a lane.
macro_rules! add_to {
    ($sum:literal, $pair:literal) => {
        concat!("mul ra, a4, ", $sum, "\nadd ", $sum, ", ", $sum, ", a4\nadd ", $pair, ", ", $pair, ", ra")
    };
}

/// Puts the offset of a term that does not start at a code into a3 and its word of nibbles into t1; leaves at 11 when it does not
/// start at nibbles either.
macro_rules! find_nibbles {
    () => {
        "bgez t1, 11f\nlw a3, 56(sp)\nbgeu t1, a3, 11f\nlw a3, -4(t0)
        slli t1, t1, 2\nadd t1, t1, a2\nlw t1, 0(t1)"
    };
}

/// Puts what `z` is shifted down by into t0, and its limits into t1 and t2.
macro_rules! limits {
    () => {
        "lw t0, 64(sp)\nlw t1, 68(sp)\nneg t2, t1"
    };
}

/// Shifts, clamps and writes pairs from `$first` bytes after a6 on, by what [`limits`] left.
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
            "sh \\acc, .Lat(a6)",
        )
    };
}

/// The Bi-Interaction of rows of codes and of nibbles; gives 0, or anything else when a term starts at neither and nothing was
/// written.
///
/// Eight lanes at a time: their sums are s0–s7, their pairs s8–s11 and t3–t6; four that are left are s4–s7 and t3–t6.
///
/// # Safety
///
/// `terms..terms_end` are one term or more, and `z..z_end` are writable and a positive multiple of four halfwords, the lanes.
/// From each start below `code_starts` on, as many bytes of `codes` are readable, and from each start from [`NIBBLES`] up to
/// `nibble_starts`, without that bit, as many nibbles, rounded up to words.
#[unsafe(naked)]
unsafe extern "C" fn pool(
    codes: *const i8,
    code_starts: u32,
    nibbles: *const u32,
    nibble_starts: u32,
    terms: *const [u32; TERM_WORDS],
    terms_end: *const [u32; TERM_WORDS],
    z: *mut i16,
    z_end: *mut i16,
    shift: u32,
    max: u32,
) -> u32 {
    // 52(sp): terms, 56(sp): nibble_starts, 60(sp): half a unit, 64(sp): shift, 68(sp): max.
    naked_asm!(
        enter!(),
        "sw a4, 52(sp)",
        "sw a3, 56(sp)",
        "lw t0, 64(sp)",
        "li t1, 1",
        "sll t1, t1, t0",
        "srli t1, t1, 1",
        "sw t1, 60(sp)",
        "1:",
        "lw t0, 52(sp)",
        "sub t1, a7, a6",
        "addi t1, t1, -16",
        "bltz t1, 5f",
        each!("s8, s9, s10, s11, t3, t4, t5, t6", "0", "0", "lw \\acc, 60(sp)"),
        "lw t1, 0(t0)",
        "lw t2, 4(t0)",
        "addi t0, t0, 12",
        "bltu t1, a1, 2f",
        each!("s0, s1, s2, s3, s4, s5, s6, s7", "0", "0", "li \\acc, 0"),
        "j 4f",
        // The first term has no pair.
        "2:",
        "add t1, t1, a0",
        each!("s0, s1, s2, s3, s4, s5, s6, s7", "0", "1", "lb \\acc, .Lat(t1)", "mul \\acc, \\acc, t2"),
        "beq t0, a5, 7f",
        "3:",
        "lw t1, 0(t0)",
        "lw t2, 4(t0)",
        "addi t0, t0, 12",
        "bgeu t1, a1, 4f",
        "add t1, t1, a0",
        pair!("s0", "s8", "lb a4, 0(t1)"),
        pair!("s1", "s9", "lb a4, 1(t1)"),
        pair!("s2", "s10", "lb a4, 2(t1)"),
        pair!("s3", "s11", "lb a4, 3(t1)"),
        pair!("s4", "t3", "lb a4, 4(t1)"),
        pair!("s5", "t4", "lb a4, 5(t1)"),
        pair!("s6", "t5", "lb a4, 6(t1)"),
        pair!("s7", "t6", "lb a4, 7(t1)"),
        "bne t0, a5, 3b",
        "j 7f",
        "4:",
        find_nibbles!(),
        nibble_pair!("s0", "s8", "andi a4, t1, 15"),
        nibble_pair!("s1", "s9", "srli a4, t1, 4\nandi a4, a4, 15"),
        nibble_pair!("s4", "t3", "srli a4, t1, 8\nandi a4, a4, 15"),
        nibble_pair!("s5", "t4", "srli a4, t1, 12\nandi a4, a4, 15"),
        nibble_pair!("s2", "s10", "srli a4, t1, 16\nandi a4, a4, 15"),
        nibble_pair!("s3", "s11", "srli a4, t1, 20\nandi a4, a4, 15"),
        nibble_pair!("s6", "t5", "srli a4, t1, 24\nandi a4, a4, 15"),
        nibble_pair!("s7", "t6", "srli a4, t1, 28"),
        "bne t0, a5, 3b",
        "7:",
        limits!(),
        clamp!("s8, s9, s10, s11", "0"),
        "8:",
        clamp!("t3, t4, t5, t6", "8"),
        "addi a0, a0, 8",
        "addi a2, a2, 4",
        "addi a6, a6, 16",
        "bne a6, a7, 1b",
        "j 11f",
        // Four lanes are left, as if they were the last of eight.
        "5:",
        each!("s4, s5, s6, s7", "0", "0", "li \\acc, 0"),
        each!("t3, t4, t5, t6", "0", "0", "lw \\acc, 60(sp)"),
        "addi a6, a6, -8",
        "6:",
        "lw t1, 0(t0)",
        "lw t2, 4(t0)",
        "addi t0, t0, 12",
        "bgeu t1, a1, 9f",
        "add t1, t1, a0",
        pair!("s4", "t3", "lb a4, 0(t1)"),
        pair!("s5", "t4", "lb a4, 1(t1)"),
        pair!("s6", "t5", "lb a4, 2(t1)"),
        pair!("s7", "t6", "lb a4, 3(t1)"),
        "bne t0, a5, 6b",
        "j 10f",
        "9:",
        find_nibbles!(),
        nibble_pair!("s4", "t3", "andi a4, t1, 15"),
        nibble_pair!("s5", "t4", "srli a4, t1, 4\nandi a4, a4, 15"),
        nibble_pair!("s6", "t5", "srli a4, t1, 16\nandi a4, a4, 15"),
        nibble_pair!("s7", "t6", "srli a4, t1, 20\nandi a4, a4, 15"),
        "bne t0, a5, 6b",
        "10:",
        limits!(),
        "j 8b",
        // Nothing is left, unless a term was refused.
        "11:",
        "sub a0, a6, a7",
        leave!(),
    )
}

/// The headers of ids, looked up: writes a term each, and gives the sum of their first-order codes, or [`NO_ROW`].
///
/// # Safety
///
/// `ids..ids_end` are readable and not empty, and `terms` are writable and as many. `headers` are `rows`, readable.
#[unsafe(naked)]
unsafe extern "C" fn look_up(
    headers: *const u16,
    rows: u32,
    ids: *const u32,
    ids_end: *const u32,
    lanes: u32,
    terms: *mut Term,
) -> i32 {
    naked_asm!(
        ".option push",
        ".option arch, +m",
        "li a6, 0",
        "lui a7, 0x80000",
        "1:",
        "lw t0, 0(a2)",
        "bgeu t0, a1, 2f",
        "slli t1, t0, 1",
        "add t1, t1, a0",
        "lh t1, 0(t1)",
        "mul t0, t0, a4",
        "sw t0, 0(a5)",
        "srai t2, t1, 4",
        "add a6, a6, t2",
        "andi t1, t1, 15",
        "addi t1, t1, 1",
        "sw t1, 4(a5)",
        "addi a2, a2, 4",
        "addi a5, a5, 12",
        "bne a2, a3, 1b",
        "mv a7, a6",
        "2:",
        "mv a0, a7",
        "ret",
        ".option pop",
    )
}

/// As [`look_up`], of rows of nibbles, each `words` long.
///
/// # Safety
///
/// As there.
#[unsafe(naked)]
unsafe extern "C" fn look_up_nibbles(
    headers: *const u32,
    rows: u32,
    ids: *const u32,
    ids_end: *const u32,
    words: u32,
    terms: *mut NibbleTerm,
) -> i32 {
    naked_asm!(
        ".option push",
        ".option arch, +m",
        "li a6, 0",
        "lui a7, 0x80000",
        "1:",
        "lw t0, 0(a2)",
        "bgeu t0, a1, 2f",
        "slli t1, t0, 2",
        "add t1, t1, a0",
        "lw t1, 0(t1)",
        "mul t0, t0, a4",
        "or t0, t0, a7",
        "sw t0, 0(a5)",
        "srai t2, t1, 20",
        "add a6, a6, t2",
        "slli t2, t1, 12",
        "srli t2, t2, 24",
        "addi t2, t2, 1",
        "sw t2, 4(a5)",
        "slli t1, t1, 20",
        "srai t1, t1, 20",
        "sw t1, 8(a5)",
        "addi a2, a2, 4",
        "addi a5, a5, 12",
        "bne a2, a3, 1b",
        "mv a7, a6",
        "2:",
        "mv a0, a7",
        "ret",
        ".option pop",
    )
}

/// `Σ weights[i] · x[i]`.
///
/// # Safety
///
/// `x..x_end` are readable, and a positive multiple of two halfwords, as many as `weights`.
#[unsafe(naked)]
unsafe extern "C" fn multiply(weights: *const i16, x: *const i16, x_end: *const i16) -> i32 {
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
