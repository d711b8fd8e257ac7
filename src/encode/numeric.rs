//! Numbers: into buckets by sorted boundaries, and by shift and scale into what a model takes as a value or a dense input.
//!
//! The fixed path takes any number, a float too, in integer arithmetic alone.

use super::{
    error::{EncodersError, Part, at_most, exactly},
    vocabulary::short,
};
use crate::{Q16, Rescale};

/// A number as it came: `±magnitude · 2^exponent`, exact. An infinity is 2¹²⁸.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw {
    negative: bool,
    magnitude: u64,
    exponent: i32,
}

impl Raw {
    pub(super) const fn of_int(number: i64) -> Self {
        Self { negative: number < 0, magnitude: number.unsigned_abs(), exponent: 0 }
    }

    pub(super) const fn of_q16(number: Q16) -> Self {
        let bits = number.to_bits();
        Self { negative: bits < 0, magnitude: bits.unsigned_abs() as u64, exponent: -16 }
    }

    /// `None` of NaN.
    pub(super) fn of_f32_bits(bits: u32) -> Option<Self> {
        let (negative, biased, fraction) = (bits >> 31 != 0, bits >> 23 & 0xff, bits & 0x7f_ffff);
        let (magnitude, biased) = if biased == 0 { (fraction, 1) } else { (fraction | 0x80_0000, biased) };
        let exponent = biased.cast_signed() - 150;
        let number = Self { negative, magnitude: magnitude.into(), exponent };
        (biased != 0xff || fraction == 0).then_some(number)
    }

    /// The nearest `f32`, ties to even, by its bits.
    #[expect(clippy::cast_possible_truncation, reason = "what is cut has 24 bits")]
    #[inline(never)]
    pub(super) fn to_f32_bits(self) -> u32 {
        let Self { negative, magnitude, exponent } = self;
        if magnitude == 0 {
            return 0;
        }
        // A one at bit 63, then 23 bits of fraction, then what is rounded away.
        let zeros = magnitude.leading_zeros();
        let top = magnitude << zeros;
        let (kept, rest) = ((top >> 40) as u32, top & ((1 << 40) - 1));
        let up = rest > 1 << 39 || (rest == 1 << 39 && kept & 1 == 1);
        let bits = match exponent + 63 - zeros.cast_signed() + 127 {
            // Only a subnormal float is that small, and its fraction is the magnitude.
            ..1 => magnitude as u32,
            // A carry out of the fraction goes into the exponent. Below 2⁶⁴ and of floats, it stays a float's.
            biased => (biased.cast_unsigned() << 23) + (kept & 0x7f_ffff) + u32::from(up),
        };
        u32::from(negative) << 31 | bits
    }

    /// The number in steps of 2^-fraction, rounded half away from zero; what does not fit is the largest or the smallest.
    #[inline(never)]
    fn to_fixed(self, fraction: u32) -> i64 {
        let by = self.exponent + fraction.cast_signed();
        let steps = match (by, by.unsigned_abs()) {
            (0.., by) if by >= self.magnitude.leading_zeros() => u64::MAX,
            (0.., by) => self.magnitude << by,
            (_, 1..=63) => (self.magnitude >> (by.unsigned_abs() - 1)).div_ceil(2),
            _ => 0,
        };
        let steps = steps.min(i64::MAX.cast_unsigned()).cast_signed();
        if self.negative { -steps } else { steps }
    }

    /// `ln(1 + number)` in steps of 2⁻³²; `None` where the number is −1 or below.
    fn ln_1p(self) -> Option<i64> {
        // From 2³⁸ on, 1 adds less than 2⁻³⁸ to the logarithm.
        if !self.negative && self.exponent + 64 - self.magnitude.leading_zeros().cast_signed() > 38 {
            return Some(ln(self.magnitude, self.exponent));
        }
        let sum = u64::try_from(self.to_fixed(24) + (1 << 24)).ok().filter(|&sum| sum > 0)?;
        Some(ln(sum, -24))
    }

    /// `ln(number)` in steps of 2⁻³²; `None` where the number is 0 or below.
    fn ln(self) -> Option<i64> {
        (!self.negative && self.magnitude > 0).then(|| ln(self.magnitude, self.exponent))
    }

    /// The largest integer that is not above the number, as far as 32 bits go.
    #[inline(never)]
    fn floor(self) -> i32 {
        let by = self.exponent.min(0).unsigned_abs();
        let whole = self.magnitude.checked_shr(by).unwrap_or(0);
        let rest = whole.checked_shl(by).unwrap_or(0) != self.magnitude;
        let whole = match self.exponent {
            ..=0 => whole,
            1..=39 if whole < 1 << 24 => whole << self.exponent,
            _ => u64::MAX,
        };
        let whole = whole.min(1 << 40).cast_signed();
        Q16::saturating_from_bits(if self.negative { -whole - i64::from(rest) } else { whole }).to_bits()
    }
}

/// An integer that orders as the float does; both zeros are 0.
///
/// # Examples
///
/// ```
/// use embedded_nfm::encode::ordered;
///
/// assert!(ordered(-2.5) < ordered(-0.0));
/// assert_eq!(ordered(-0.0), ordered(0.0));
/// assert!(ordered(0.0) < ordered(1e-45));
/// ```
#[must_use]
pub const fn ordered(number: f32) -> i32 {
    ordered_bits(number.to_bits())
}

const fn ordered_bits(bits: u32) -> i32 {
    let magnitude = (bits & 0x7fff_ffff).cast_signed();
    if bits >> 31 == 0 { magnitude } else { -magnitude }
}

/// Buckets between sorted boundaries, and the id of each.
///
/// The bucket of a number is how many boundaries are not above it; with `right_closed`, how many are below it. The
/// inner edges of `KBinsDiscretizer` and `tf.bucketize` are left-closed, `pandas.cut` is right-closed.
///
/// # Accuracy
///
/// Exact for every `f32`, and for integers up to 2²⁴; others are rounded to the nearest `f32`, as TensorFlow does. A boundary
/// that is no `f32` is rounded up by the converter (right-closed: down), which changes nothing for any `f32`. With `integers`,
/// exact for all integers of 32 bits.
#[derive(Clone, Copy, Debug)]
pub struct Buckets<'a> {
    /// Which end belongs to a bucket.
    pub right_closed: bool,
    /// Whether boundaries are integers, which numbers are rounded down to; they are left-closed then.
    pub integers: bool,
    /// Ascending: integers, or floats made comparable by [`ordered`].
    pub boundaries: &'a [i32],
    /// Each bucket's id, `u32::MAX` where it was never seen; empty where the id is the bucket. So a pipeline that looks up what a
    /// number was rounded to, as `int(ln(v)²)`, takes one table.
    pub ids: &'a [u32],
}

impl<'a> Buckets<'a> {
    pub(super) const HEADER: usize = 2;

    pub(super) fn cut(option: u32, words: &'a [u32]) -> (Self, usize) {
        let mut rest = super::vocabulary::Cutter { words, needed: 0 };
        let (count, ids) = match rest.take(Self::HEADER) {
            [count, ids] => (*count as usize, *ids as usize),
            _ => (0, 0),
        };
        let boundaries = bytemuck::cast_slice(rest.take(count));
        let ids = rest.take(ids);
        let buckets = Self { right_closed: option & 1 != 0, integers: option >> 1 & 1 != 0, boundaries, ids };
        (buckets, rest.needed)
    }

    pub(super) fn check(&self, rows: u32) -> Result<(), EncodersError> {
        if let Some([a, b]) = self.boundaries.windows(2).find(|pair| !pair.is_sorted()) {
            return Err(EncodersError::new(Part::Boundary, a.cast_unsigned(), b.cast_unsigned()));
        }
        let buckets = short(self.boundaries.len()).saturating_add(1);
        if self.ids.is_empty() {
            return at_most(Part::Boundary, buckets, rows);
        }
        exactly(Part::Id, short(self.ids.len()), buckets)?;
        let mut ids = self.ids.iter().filter(|&&id| id != u32::MAX);
        ids.try_for_each(|id| at_most(Part::Id, id.saturating_add(1), rows))
    }

    /// The id of a number; `None` where its bucket has none.
    pub(super) fn id(&self, number: Raw) -> Option<u32> {
        let number = if self.integers { number.floor() } else { ordered_bits(number.to_f32_bits()) };
        let bucket = if self.right_closed {
            self.boundaries.partition_point(|&boundary| boundary < number)
        } else {
            self.boundaries.partition_point(|&boundary| boundary <= number)
        };
        if self.ids.is_empty() {
            return Some(short(bucket));
        }
        self.ids.get(bucket).copied().filter(|&id| id != u32::MAX)
    }
}

/// What is scaled of a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Of {
    /// The number.
    #[default]
    Value,
    /// `ln(1 + number)`; numbers of −1 and below are below every range.
    Ln1p,
    /// `ln(number)`; numbers of 0 and below are below every range.
    Ln,
}

/// The largest legal `step`: a whole.
const MAX_STEP: u8 = 16;

/// The largest legal option of a number: what of it, and the step.
pub(super) const LAST_OPTION: u32 = 2 + 3 * MAX_STEP as u32;

impl Of {
    /// What a record's option says, with the step.
    fn cut(option: u32) -> (Self, u8) {
        let of = match option % 3 {
            0 => Self::Value,
            1 => Self::Ln1p,
            _ => Self::Ln,
        };
        (of, (option / 3).to_le_bytes()[0])
    }

    /// The option that [`Self::cut`] reads.
    const fn option(self, step: u8) -> u8 {
        self as u8 + 3 * if step < MAX_STEP { step } else { MAX_STEP }
    }
}

/// `(x − offset) · scale` on the fixed path, where x is the number, or a logarithm of it; rounded to a multiple of a step.
///
/// # Accuracy
///
/// From the exact result before it is rounded to a step: at most 2⁻¹⁶ + |x − offset| · |scale| · 2⁻²⁹ + |scale| · 2⁻ᶠ⁻¹, with f the
/// `fraction`, of which the last term is 0 for whole numbers. With [`Of::Ln1p`], for numbers that are not negative,
/// |scale| · 2⁻²⁴ in place of the last term; with [`Of::Ln`] the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scaling {
    /// What is scaled.
    pub of: Of,
    /// Results are rounded to multiples of 2^step in the last place, halves up; at most 16, whole numbers. 0 leaves them as they are.
    pub step: u8,
    /// In steps of 2^-fraction.
    pub offset: i64,
    /// From steps of the offset to [`Q16`].
    pub scale: Rescale,
    /// What numbers are rounded to: steps of 2^-fraction, at most 40; of a logarithm 32.
    pub fraction: u8,
    /// The smallest result that is in the range.
    pub min: Q16,
    /// The largest.
    pub max: Q16,
}

/// Steps of a logarithm: 2⁻³².
const LOG_FRACTION: i32 = 32;

impl Scaling {
    pub(super) const WORDS: usize = 6;
    /// The largest legal `fraction`.
    pub const MAX_FRACTION: u8 = 40;

    /// The scaling by an offset and a scale, with a fraction that loses less than 2⁻²⁵ of the result; `None` where they are not
    /// finite or the offset is beyond 64 bits.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped, or checked at the end"
    )]
    pub fn new(of: Of, offset: f64, scale: f64, min: Q16, max: Q16) -> Option<Self> {
        let (_, exponent) = libm::frexp(scale);
        let fraction = match of {
            Of::Value => (24 + exponent).clamp(0, Self::MAX_FRACTION.into()),
            Of::Ln1p | Of::Ln => LOG_FRACTION,
        };
        let offset = libm::rint(libm::scalbn(offset, fraction));
        // factor · 2^shift is in [2³⁰, 2³¹), or shift is as large as it may be.
        let factor = libm::scalbn(scale, 16 - fraction);
        let (_, exponent) = libm::frexp(factor);
        let shift = (31 - exponent).clamp(0, Rescale::MAX_SHIFT.into());
        let multiplier =
            libm::rint(libm::scalbn(factor, shift)).clamp(f64::from(i32::MIN), f64::from(i32::MAX));
        let fits = scale.is_finite() && offset.abs() < 9.2e18 && factor.abs() < 2_147_483_648.0;
        let scale = Rescale { multiplier: multiplier as i32, shift: shift as u8 };
        fits.then_some(Self { of, step: 0, offset: offset as i64, scale, fraction: fraction as u8, min, max })
    }

    pub(super) fn cut(option: u32, words: &[u32]) -> Option<Self> {
        let [low, high, multiplier, shifts, min, max] = *words.first_chunk::<{ Self::WORDS }>()?;
        let [shift, fraction, ..] = shifts.to_le_bytes();
        let (of, step) = Of::cut(option);
        Some(Self {
            of,
            step,
            offset: (u64::from(high) << 32 | u64::from(low)).cast_signed(),
            scale: Rescale { multiplier: multiplier.cast_signed(), shift },
            fraction,
            min: Q16::from_bits(min.cast_signed()),
            max: Q16::from_bits(max.cast_signed()),
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "the halves of a 64-bit number are what is wanted")]
    pub(super) fn words(&self) -> [u32; Self::WORDS] {
        let offset = self.offset.cast_unsigned();
        let shifts = u32::from_le_bytes([self.scale.shift, self.fraction, 0, 0]);
        let [multiplier, min, max] =
            [self.scale.multiplier, self.min.to_bits(), self.max.to_bits()].map(i32::cast_unsigned);
        [offset as u32, (offset >> 32) as u32, multiplier, shifts, min, max]
    }

    pub(super) fn check(&self) -> Result<(), EncodersError> {
        match self.of {
            Of::Value => at_most(Part::Parameter, self.fraction.into(), Self::MAX_FRACTION.into())?,
            Of::Ln1p | Of::Ln => exactly(Part::Parameter, self.fraction.into(), LOG_FRACTION.unsigned_abs())?,
        }
        at_most(Part::Parameter, self.scale.shift.into(), Rescale::MAX_SHIFT.into())?;
        if self.min > self.max {
            let ends = [self.min, self.max].map(|end| end.to_bits().cast_unsigned());
            return Err(EncodersError::new(Part::Parameter, ends[0], ends[1]));
        }
        Ok(())
    }

    /// The result, saturated; not yet held to the range.
    #[inline(never)]
    pub(super) fn apply(&self, number: Raw) -> Q16 {
        let x = match self.of {
            Of::Value => Some(number.to_fixed(self.fraction.into())),
            Of::Ln1p => number.ln_1p(),
            Of::Ln => number.ln(),
        };
        let result = match x {
            Some(x) => self.scaled(x.saturating_sub(self.offset)),
            None if self.scale.multiplier < 0 => Q16::MAX,
            None => Q16::MIN,
        };
        let half = 1_i64 << self.step >> 1;
        Q16::saturating_from_bits((i64::from(result.to_bits()) + half) >> self.step << self.step)
    }

    /// The option of the record.
    pub(super) const fn option(&self) -> u8 {
        self.of.option(self.step)
    }

    /// `steps · scale`, with the 31 highest bits of the steps.
    #[expect(clippy::cast_possible_truncation, reason = "cut to 31 bits just before")]
    fn scaled(&self, steps: i64) -> Q16 {
        let bits = u64::BITS - steps.unsigned_abs().leading_zeros();
        let Rescale { multiplier, shift } = self.scale;
        let drop = bits.saturating_sub(31);
        match u32::from(shift).checked_sub(drop) {
            Some(shift) => {
                let shift = shift.to_le_bytes()[0];
                Q16::from_bits(Rescale { multiplier, shift }.apply((steps >> drop) as i32))
            }
            // |steps| ≥ 2³⁰ after the cut, and is shifted up by one bit at least.
            None if multiplier == 0 => Q16::default(),
            None if (steps < 0) == (multiplier < 0) => Q16::MAX,
            None => Q16::MIN,
        }
    }
}

/// The natural logarithm of `number · 2^exponent`, in steps of 2⁻³², within 2⁻²⁶.
///
/// Bit by bit: squaring a number in [1, 2) doubles its logarithm, whose whole part is then the next bit.
#[inline(never)]
fn ln(number: u64, exponent: i32) -> i64 {
    const LN_2: u32 = 2_977_044_472;
    let zeros = number.leading_zeros();
    let whole = 63 - i64::from(zeros) + i64::from(exponent);
    let mut mantissa = number << zeros >> 32;
    let mut bits = 0_u32;
    for _ in 0..u32::BITS {
        let square = mantissa * mantissa;
        let carry = square >> 63;
        bits = bits << 1 | u32::from(carry != 0);
        mantissa = square >> (31 + carry);
    }
    whole * i64::from(LN_2) + ((u64::from(bits) * u64::from(LN_2)) >> 32).cast_signed()
}

/// `(x − offset) · scale` on the f32 path: a subtraction, then a product, in `f32`; x is the number, or a logarithm of it. The result is
/// rounded to a multiple of a step.
///
/// # Accuracy
///
/// From the exact result of these parameters, before it is rounded to a step: at most 2⁻²³ · |x − offset| · |scale|, and 2⁻²³ · |x| · |scale| more where the number
/// is no `f32`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct F32Scaling {
    /// What is scaled.
    pub of: Of,
    /// Results are rounded to multiples of 2^(step − 16), halves up; at most 16. 0 leaves them as they are.
    pub step: u8,
    /// What is taken away first.
    pub offset: f32,
    /// What is multiplied with then.
    pub scale: f32,
    /// The smallest result that is in the range.
    pub min: f32,
    /// The largest.
    pub max: f32,
}

impl F32Scaling {
    pub(super) const WORDS: usize = 4;

    pub(super) fn cut(option: u32, words: &[u32]) -> Option<Self> {
        let [offset, scale, min, max] = words.first_chunk::<{ Self::WORDS }>()?.map(f32::from_bits);
        let (of, step) = Of::cut(option);
        Some(Self { of, step, offset, scale, min, max })
    }

    pub(super) fn words(&self) -> [u32; Self::WORDS] {
        [self.offset, self.scale, self.min, self.max].map(f32::to_bits)
    }

    pub(super) fn check(&self) -> Result<(), EncodersError> {
        for number in self.words() {
            at_most(Part::Parameter, number & 0x7fff_ffff, f32::MAX.to_bits())?;
        }
        // Integers, since images of the fixed path check this too.
        if ordered(self.min) > ordered(self.max) {
            return Err(EncodersError::new(Part::Parameter, self.min.to_bits(), self.max.to_bits()));
        }
        Ok(())
    }

    pub(super) fn apply(&self, number: Raw) -> f32 {
        let number = f32::from_bits(number.to_f32_bits());
        let x = match self.of {
            Of::Value => number,
            Of::Ln1p => libm::log1pf(number),
            Of::Ln => libm::logf(number),
        };
        let result = (x - self.offset) * self.scale;
        if self.step == 0 {
            return result;
        }
        let step = i32::from(self.step) - 16;
        libm::scalbnf(libm::floorf(libm::scalbnf(result, -step) + 0.5), step)
    }

    /// The option of the record.
    pub(super) const fn option(&self) -> u8 {
        self.of.option(self.step)
    }
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "rounding to the nearest f32 is what is tested")]
mod tests {
    use super::{Raw, ordered};
    use crate::Q16;

    /// Numbers around every tie of 24 bits, of every magnitude.
    fn ints() -> impl Iterator<Item = i64> {
        let near = |shift: u32| [0_i64, 1, 2, 3].map(move |odd| ((1 << 24) + odd) << shift);
        let around = |x: i64| [-1, 0, 1].map(move |step| x + step);
        let halves = (0..38).flat_map(near).flat_map(|x| [x >> 1, x, x + (x & -x) / 2]);
        halves.flat_map(around).flat_map(|x| [x, -x]).chain([0, i64::MIN, i64::MAX])
    }

    #[test]
    fn integers_and_fixed_point_numbers_become_the_nearest_float() {
        for number in ints() {
            assert_eq!(Raw::of_int(number).to_f32_bits(), (number as f32).to_bits(), "{number}");
            let Ok(bits) = i32::try_from(number) else { continue };
            let number = Q16::from_bits(bits);
            assert_eq!(Raw::of_q16(number).to_f32_bits(), number.to_f32().to_bits(), "{number:?}");
        }
    }

    #[test]
    fn a_float_stays_what_it_is() {
        for exponent in 0..=255_u32 {
            for fraction in [0, 1, 0x12_3456, 0x7f_ffff] {
                for bits in [exponent << 23 | fraction, exponent << 23 | fraction | 1 << 31] {
                    match Raw::of_f32_bits(bits) {
                        None => assert!(f32::from_bits(bits).is_nan()),
                        // −0 has no sign here.
                        Some(number) if bits << 1 == 0 => assert_eq!(number.to_f32_bits(), 0),
                        Some(number) => assert_eq!(number.to_f32_bits(), bits, "{bits:#x}"),
                    }
                }
            }
        }
    }

    #[test]
    fn order_is_that_of_floats() {
        let floats = [f32::NEG_INFINITY, -1e30, -1.0, -1e-45, 0.0, 1e-45, 1.0, f32::MAX, f32::INFINITY];
        assert!(floats.map(ordered).is_sorted_by(|a, b| a < b));
        assert_eq!(ordered(-0.0), ordered(0.0));
    }

    #[test]
    fn fixed_steps_are_rounded_and_saturated() {
        let fixed = |x: f32, fraction| Raw::of_f32_bits(x.to_bits()).map(|x| x.to_fixed(fraction));
        assert_eq!(fixed(0.75, 1), Some(2)); // 1.5 steps, half away from zero
        assert_eq!(fixed(-0.75, 1), Some(-2));
        assert_eq!(fixed(0.625, 1), Some(1));
        assert_eq!(fixed(1e-30, 40), Some(0));
        assert_eq!(fixed(f32::INFINITY, 0), Some(i64::MAX));
        assert_eq!(fixed(f32::MIN, 40), Some(-i64::MAX));
        assert_eq!(Raw::of_int(i64::MIN).to_fixed(0), -i64::MAX);
        assert_eq!(Raw::of_int(1 << 40).to_fixed(22), 1 << 62);
        assert_eq!(Raw::of_int(1 << 40).to_fixed(23), i64::MAX);
    }
}
