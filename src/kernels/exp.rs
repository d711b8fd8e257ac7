//! The exponential and what follows from it, in integers.

use crate::{Q16, Q31};

impl Q31 {
    /// Bound on the absolute error of the integer sigmoid, in [`Q31`] bits: 2⁻³⁰. Over all inputs it is 1.72.
    pub const SIGMOID_ERROR: u32 = 2;
}

/// 2^(-i/32) in Q31, i = 0..32.
const EXP2: [u32; 32] = [
    2_147_483_648,
    2_101_467_502,
    2_056_437_387,
    2_012_372_174,
    1_969_251_188,
    1_927_054_196,
    1_885_761_398,
    1_845_353_420,
    1_805_811_301,
    1_767_116_489,
    1_729_250_827,
    1_692_196_547,
    1_655_936_265,
    1_620_452_965,
    1_585_730_000,
    1_551_751_076,
    1_518_500_250,
    1_485_961_921,
    1_454_120_821,
    1_422_962_010,
    1_392_470_869,
    1_362_633_090,
    1_333_434_672,
    1_304_861_917,
    1_276_901_417,
    1_249_540_052,
    1_222_764_986,
    1_196_563_654,
    1_170_923_762,
    1_145_833_280,
    1_121_280_436,
    1_097_253_708,
];

/// log2(e) in Q30.
const LOG2_E: u64 = 1_549_082_005;

/// ln 2 in Q32.
const LN_2: u32 = 2_977_044_472;

/// `a · b · 2^-32`, rounded down.
fn high(a: u32, b: u32) -> u32 {
    ((u64::from(a) * u64::from(b)) >> 32) as u32
}

/// e⁻ˣ in Q31, for x in Q16.
///
/// e⁻ˣ = 2⁻ⁿ · 2^(-i/32) · e⁻ᵗ with x · log2 e = n + i/32 + rest, t = rest · ln 2 < 0.0217; a Taylor polynomial of degree
/// four gives e⁻ᵗ: its next term is t⁵/120 < 2⁻³⁴.
#[expect(clippy::cast_possible_truncation, reason = "each cast keeps the bits that its comment names")]
#[inline(never)]
pub(crate) fn exp_neg(x: u32) -> u32 {
    // x < 2³² and LOG2_E < 2³¹: the product, in Q46, fits u64.
    let y = u64::from(x) * LOG2_E;
    let n = (y >> 46) as u32; // < 2¹⁷
    if n > 31 {
        return 0;
    }
    let fraction = (y >> 14) as u32; // the 32 bits after the point
    let power = EXP2.get((fraction >> 27) as usize).copied().unwrap_or_default();
    let t = high(fraction << 5 >> 5, LN_2); // Q32, < 2²⁷
    // 1 - t(1 - t/2(1 - t/3(1 - t/4))), Horner in Q32 with the 1 implied: every factor stays in [0.98, 1].
    let mut p = u32::MAX - (t >> 2);
    p = u32::MAX - high(t / 3, p);
    p = u32::MAX - high(t >> 1, p);
    p = u32::MAX - high(t, p);
    let e = high(power, p);
    // Round to nearest: e < 2³¹ + 1, so the addition cannot wrap.
    if n == 0 { e } else { (e + (1 << (n - 1))) >> n }
}

/// 1 / (1 + e⁻ˣ) in Q31, for x in Q16.
///
/// One 32-bit division and two Newton steps: a 64-bit division would be a call of some hundred instructions on every
/// Cortex-M.
#[expect(clippy::cast_possible_truncation, reason = "each cast keeps the bits that its comment names")]
#[inline(never)]
pub(crate) fn sigmoid(x: i32) -> u32 {
    let e = exp_neg(x.unsigned_abs()).min((1 << 31) - 1);
    let d = (1 << 31) + e; // Q31, in [1, 2)
    // 1/d in Q31, in (½, 1]: 2³¹ / (d >> 16) is in [2¹⁵, 2¹⁶], its relative error below 2⁻¹⁴.
    let mut r = (((1_u32 << 31) / (d >> 16)) << 15).min(1 << 31);
    for _ in 0..2 {
        // r ← r · (2 - d·r): d·r is near one, in Q30 after the shift, and the error squares. Both shifts round to nearest,
        // so that 0 gives one half exactly. d·r < 2⁶³.
        let product = ((u64::from(d) * u64::from(r) + (1 << 31)) >> 32) as u32;
        let two_minus = (1_u32 << 31).wrapping_sub(product);
        r = ((u64::from(r) * u64::from(two_minus) + (1 << 29)) >> 30) as u32;
    }
    let r = r.min(1 << 31);
    if x >= 0 { r } else { (1 << 31) - r }
}

/// tanh x = 2·sigmoid(2x) − 1 in Q16, for x in Q16.
#[expect(clippy::cast_possible_wrap, reason = "the sigmoid is at most 2³¹, so its half fits")]
pub(crate) fn tanh(x: i32) -> i32 {
    // (2·s·2⁻³¹ − 1) · 2¹⁶ = (s/2 − 2²⁹) / 2¹³ for s in Q31; the half keeps it in i32.
    ((sigmoid(x.saturating_mul(2)) >> 1) as i32 - (1 << 29) + (1 << 12)) >> 13
}

/// x where positive, else alpha · (eˣ − 1), in Q16, with alpha in Q13.
#[expect(
    clippy::cast_possible_truncation,
    reason = "alpha·(1 - e) is below 4 in magnitude, so it fits Q16 in i32"
)]
pub(crate) fn elu(x: i32, alpha: i16) -> i32 {
    if x >= 0 {
        return x;
    }
    let fall = (1_i64 << 31) - i64::from(exp_neg(x.unsigned_abs())); // Q31, in [0, 1]
    // Q31 · Q13 = Q44 → Q16.
    -((fall * i64::from(alpha) + (1 << 27)) >> 28) as i32
}

/// The sigmoid in Q16.
#[expect(clippy::cast_possible_wrap, reason = "at most 2¹⁶")]
pub(crate) fn sigmoid_q16(x: Q16) -> i32 {
    ((sigmoid(x.to_bits()) + (1 << 14)) >> 15) as i32
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    /// Bound on the absolute error of `exp_neg`, in 2⁻³¹. Over all inputs it is 1.81.
    const EXP_NEG_ERROR: f64 = 2.0;

    /// All x near zero, then every 17th one: from 1.5 million on e⁻ˣ is below 2⁻³², so the rest adds nothing.
    fn grid() -> impl Iterator<Item = i32> {
        (0..70_000)
            .chain((70_000..1_500_000).step_by(17))
            .chain([i32::MAX - 1, i32::MAX])
            .flat_map(|x| [x, -x])
    }

    #[test]
    fn exp_neg_keeps_its_bound_and_needs_it() {
        let mut worst = 0.0_f64;
        for x in grid().filter(|x| *x >= 0) {
            let want = libm::exp(-f64::from(x) / 65536.0) * 2_147_483_648.0;
            worst = worst.max((f64::from(exp_neg(x.unsigned_abs())) - want).abs());
        }
        std::eprintln!("exp_neg: worst error {worst} of 2^-31");
        assert!(worst <= EXP_NEG_ERROR, "{worst}");
        assert!(worst > EXP_NEG_ERROR / 2.0, "the bound can be lowered: {worst}");
    }

    #[test]
    fn sigmoid_keeps_its_stated_bound_and_needs_it() {
        let mut worst = 0.0_f64;
        for x in grid() {
            let want = 2_147_483_648.0 / (1.0 + libm::exp(-f64::from(x) / 65536.0));
            worst = worst.max((f64::from(sigmoid(x)) - want).abs());
        }
        std::eprintln!("sigmoid: worst error {worst} of 2^-31");
        assert!(worst <= f64::from(Q31::SIGMOID_ERROR), "{worst}");
        assert!(worst > f64::from(Q31::SIGMOID_ERROR) / 2.0, "the bound can be lowered: {worst}");
        assert_eq!(sigmoid(i32::MIN), 0);
        assert_eq!(sigmoid(i32::MAX), 1 << 31);
        assert_eq!(sigmoid(0), 1 << 30);
    }

    #[test]
    fn the_curves_in_q16_round_to_the_nearest_step() {
        // Half a step, and what the error of e⁻ˣ adds in 2⁻¹⁶.
        const STEP: f64 = 0.501;
        for x in grid() {
            let real = f64::from(x) / 65536.0;
            assert!((f64::from(tanh(x)) - libm::tanh(real) * 65536.0).abs() <= STEP, "tanh {real}");
            let want = if x < 0 { 0.75 * libm::expm1(real) * 65536.0 } else { f64::from(x) };
            assert!((f64::from(elu(x, 6144)) - want).abs() <= STEP, "elu {real}");
            let want = 65536.0 / (1.0 + libm::exp(-real));
            assert!((f64::from(sigmoid_q16(Q16::from_bits(x))) - want).abs() <= STEP, "sigmoid {real}");
        }
    }
}
