//! The two fixed-point types that cross the fixed path's boundary.

use core::fmt;

use crate::error::NotRepresentable;

/// A signed fixed-point number with 16 fractional bits: values, dense inputs and raw scores of the fixed path.
///
/// # Ranges
///
/// [-32768, 32768) in steps of 2⁻¹⁶ ≈ 1.5e-5.
///
/// # Examples
///
/// ```
/// use embedded_nfm::Q16;
///
/// assert_eq!(Q16::from_bits(0x0001_8000).to_f32(), 1.5);
/// assert_eq!(Q16::try_from(-0.25_f32), Ok(Q16::from_bits(-0x4000)));
/// assert!(Q16::try_from(f32::NAN).is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize)]
pub struct Q16(i32);

impl Q16 {
    /// How many bits stand after the binary point.
    pub const FRACTION_BITS: u32 = 16;
    /// One.
    pub const ONE: Self = Self(1 << Self::FRACTION_BITS);
    /// The largest number.
    pub const MAX: Self = Self(i32::MAX);
    /// The smallest number.
    pub const MIN: Self = Self(i32::MIN);

    /// The number `bits · 2⁻¹⁶`.
    #[must_use]
    pub const fn from_bits(bits: i32) -> Self {
        Self(bits)
    }

    /// The integer `self · 2¹⁶`.
    #[must_use]
    pub const fn to_bits(self) -> i32 {
        self.0
    }

    /// The nearest `f32`.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "rounding to the nearest f32 is what the caller asks for")]
    pub const fn to_f32(self) -> f32 {
        self.0 as f32 * (1.0 / 65536.0)
    }

    /// The number as `f64`, exact.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        f64::from(self.0) * (1.0 / 65536.0)
    }

    /// Clamps a 64-bit count of 2⁻¹⁶ steps.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what is lost makes the difference that is looked at"
    )]
    pub(crate) fn saturating_from_bits(bits: i64) -> Self {
        let low = bits as i32;
        Self(if i64::from(low) == bits { low } else { ((bits >> 32) as i32 >> 31) ^ i32::MAX })
    }
}

impl TryFrom<f32> for Q16 {
    type Error = NotRepresentable;

    /// Rounds to the nearest step, ties to even.
    ///
    /// # Errors
    ///
    /// When `value` is not finite or not in [-32768, 32768).
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked just before")]
    fn try_from(value: f32) -> Result<Self, NotRepresentable> {
        // NaN is in no range. The product by a power of two is exact.
        if !(-32768.0..32768.0).contains(&value) {
            return Err(NotRepresentable);
        }
        Ok(Self(libm::rintf(value * 65536.0) as i32))
    }
}

impl fmt::Debug for Q16 {
    /// Writes the bits: device images must not pull in float formatting.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Q16({:#x})", self.0)
    }
}

/// A number in [0, 1] with 31 fractional bits: probabilities of the fixed path.
///
/// # Examples
///
/// ```
/// use embedded_nfm::Q31;
///
/// assert_eq!(Q31::from_bits(1 << 30).to_f32(), 0.5);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Q31(u32);

impl Q31 {
    /// How many bits stand after the binary point.
    pub const FRACTION_BITS: u32 = 31;
    /// One.
    pub const ONE: Self = Self(1 << Self::FRACTION_BITS);

    /// The number `bits · 2⁻³¹`; above one it is one.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        if bits > 1 << Self::FRACTION_BITS { Self::ONE } else { Self(bits) }
    }

    /// The integer `self · 2³¹`.
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// The nearest `f32`.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "rounding to the nearest f32 is what the caller asks for")]
    pub const fn to_f32(self) -> f32 {
        self.0 as f32 * (1.0 / (1_u32 << Self::FRACTION_BITS) as f32)
    }

    /// The number as `f64`, exact.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        f64::from(self.0) * (1.0 / 2_147_483_648.0)
    }
}

impl fmt::Debug for Q31 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Q31({:#x})", self.0)
    }
}

/// A positive or negative real factor as integers: `multiplier · 2^-shift`.
///
/// # Ranges
///
/// `shift ≤ 62`, checked by `parse`; any multiplier. 30 significant bits when the converter normalizes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Rescale {
    /// The factor's significant bits.
    pub multiplier: i32,
    /// The factor's exponent, negated.
    pub shift: u8,
}

impl Rescale {
    /// The largest legal `shift`.
    pub const MAX_SHIFT: u8 = 62;

    /// `round(acc · multiplier · 2^-shift)`, ties up, saturated to `i32`.
    #[must_use]
    #[inline(never)]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a 64-bit product are what is wanted")]
    pub(crate) fn apply(self, acc: i32) -> i32 {
        // By halves, since 64-bit shifts by variables are long on 32-bit cores, and function calls on Armv6-M.
        let product = product(acc, self.multiplier);
        let shift = u32::from(self.shift);
        if shift > 31 {
            // |high| ≤ 2³⁰ and the rounding is at most 2²⁹. The lower half decides nothing where the rounding bit lies above it.
            let (high, shift) = ((product >> 32) as i32, shift - 32);
            let half = if shift == 0 { (product as i32).cast_unsigned() >> 31 } else { 1 << (shift - 1) };
            return (high + half.cast_signed()) >> shift;
        }
        // |product| ≤ 2⁶² and half ≤ 2³⁰: their sum fits i64.
        let sum = product + i64::from((1_u32 << shift) >> 1);
        let (high, low) = ((sum >> 32) as i32, sum.cast_unsigned() as u32);
        let result = (high << (31 - shift) << 1) | (low >> shift).cast_signed();
        if high >> shift == result >> 31 { result } else { (high >> 31) ^ i32::MAX }
    }
}

/// `a · b`.
#[inline(always)]
fn product(a: i32, b: i32) -> i64 {
    // Armv6-M has no long multiplication: the compiler would call that of 64 by 64 bits.
    #[cfg(nfm_kernels = "armv6m")]
    return product_by_halves(a, b);
    #[cfg(not(nfm_kernels = "armv6m"))]
    return i64::from(a) * i64::from(b);
}

/// [`product`] from four products of halves.
#[cfg(any(test, nfm_kernels = "armv6m"))]
fn product_by_halves(a: i32, b: i32) -> i64 {
    let ((a_high, a_low), (b_high, b_low)) = ((a >> 16, a & 0xffff), (b >> 16, b & 0xffff));
    // |high · low| ≤ 2¹⁵ · (2¹⁶ − 1), and low · low < 2³².
    let middle = i64::from(a_high * b_low) + i64::from(a_low * b_high);
    let low = a_low.cast_unsigned() * b_low.cast_unsigned();
    (i64::from(a_high * b_high) << 32) + (middle << 16) + i64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q16_rounds_to_nearest_and_refuses_what_it_cannot_hold() {
        assert_eq!(Q16::try_from(1.0_f32 / 131_072.0), Ok(Q16(0))); // half a step, ties to even
        assert_eq!(Q16::try_from(3.0_f32 / 131_072.0), Ok(Q16(2)));
        assert_eq!(Q16::try_from(-32768.0_f32), Ok(Q16::MIN));
        for bad in [32768.0_f32, -32769.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            assert_eq!(Q16::try_from(bad), Err(NotRepresentable), "{bad}");
        }
    }

    #[test]
    fn products_of_halves_make_the_product() {
        let numbers =
            [i32::MIN, -0x10_0001, -0x1_0000, -0xffff, -1, 0, 1, 0xffff, 0x1_0000, 0x7fff_8001, i32::MAX];
        for a in numbers {
            for b in numbers {
                assert_eq!(product_by_halves(a, b), i64::from(a) * i64::from(b), "{a} · {b}");
            }
        }
    }

    #[test]
    fn rescale_rounds_half_up_and_saturates() {
        let half = Rescale { multiplier: 1, shift: 1 };
        // 3/2 → 2, -3/2 → -1 (ties up), 2/2 → 1.
        assert_eq!([3, -3, 2].map(|a| half.apply(a)), [2, -1, 1]);
        let large = Rescale { multiplier: i32::MAX, shift: 0 };
        assert_eq!(large.apply(i32::MAX), i32::MAX);
        assert_eq!(large.apply(i32::MIN), i32::MIN);
        let tiny = Rescale { multiplier: i32::MIN, shift: Rescale::MAX_SHIFT };
        // 2³¹·2³¹/2⁶² = 1.
        assert_eq!(tiny.apply(i32::MIN), 1);
    }
}
