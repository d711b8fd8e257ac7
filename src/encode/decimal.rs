//! Numbers as text, as TensorFlow's `tf.as_string` prints them: what a pipeline hashes when it hashes a number.

use core::fmt;

/// The longest text: `-`, 39 digits, `.`, six digits.
const MAX_LEN: usize = 47;

/// The decimal text of a number.
///
/// # Examples
///
/// ```
/// use embedded_nfm::encode::Decimal;
///
/// assert_eq!(Decimal::of_int(-5).as_bytes(), b"-5");
/// assert_eq!(Decimal::of_f32_bits(123_456.789_f32.to_bits()).as_bytes(), b"123456.789062");
/// ```
#[derive(Clone, Copy)]
pub struct Decimal {
    /// The text stands at the end.
    bytes: [u8; MAX_LEN],
    start: u8,
}

impl Decimal {
    const fn empty() -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "47 fits")]
        Self { bytes: [0; MAX_LEN], start: MAX_LEN as u8 }
    }

    /// An integer, by its digits.
    #[must_use]
    pub fn of_int(number: i64) -> Self {
        let mut text = Self::empty();
        text.integer([number.unsigned_abs(), 0]);
        text.sign(number < 0);
        text
    }

    /// A float, given by its bits, with six decimals: C's `%f`, which rounds the exact value, ties to even.
    #[must_use]
    pub fn of_f32_bits(bits: u32) -> Self {
        let mut text = Self::empty();
        let (exponent, fraction) = (bits >> 23 & 0xff, bits & 0x7f_ffff);
        match (exponent, fraction) {
            (0xff, 0) => text.push(b"inf"),
            (0xff, _) => text.push(b"nan"),
            (0, _) => text.float(fraction, 149),
            _ => text.float(fraction | 0x80_0000, 150 - exponent.cast_signed()),
        }
        text.sign(bits >> 31 != 0);
        text
    }

    /// The text's bytes, which are ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(usize::from(self.start)..).unwrap_or_default()
    }

    /// Writes `mantissa · 2^-shift`, with `mantissa` below 2²⁴.
    fn float(&mut self, mantissa: u32, shift: i32) {
        let shift_bits = shift.unsigned_abs();
        if shift <= 0 {
            // shift ≥ 150 − 254, so the number is below 2¹²⁸.
            let number = u128::from(mantissa) << (shift_bits & 127);
            self.fraction(0);
            return self.integer(halves(number));
        }
        let whole = mantissa.checked_shr(shift_bits).unwrap_or(0);
        // The rest's millionths, exact: below 2²⁴ · 10⁶ < 2⁴⁴.
        let rest = u64::from(mantissa - (whole << (shift_bits & 31) & mantissa));
        let (millionths, carry) = round(rest * 1_000_000, shift_bits);
        self.fraction(millionths);
        self.integer([u64::from(whole + carry), 0]);
    }

    /// Writes a point and six digits.
    fn fraction(&mut self, mut millionths: u32) {
        for _ in 0..6 {
            self.digit(millionths % 10);
            millionths /= 10;
        }
        self.push(b".");
    }

    /// Writes an integer of 128 bits, its low half first.
    ///
    /// Four digits at a time, with divisions of 32 bits: there are no others on Armv7-M, and none at all on Armv6-M.
    #[inline(never)]
    fn integer(&mut self, [low, high]: [u64; 2]) {
        let mut limbs = [0_u16; 8];
        let quarters = [high, low].into_iter().flat_map(|half| [48, 32, 16, 0].map(|by| half >> by & 0xffff));
        limbs.iter_mut().zip(quarters).for_each(|(limb, quarter)| *limb = narrow(quarter));
        loop {
            let mut rest = 0;
            for limb in &mut limbs {
                // rest < 10⁴ < 2¹⁴.
                let number = rest << 16 | u32::from(*limb);
                (*limb, rest) = (narrow(u64::from(number / 10_000)), number % 10_000);
            }
            let last = limbs == [0; 8];
            for _ in 0..4 {
                self.digit(rest % 10);
                rest /= 10;
                if last && rest == 0 {
                    return;
                }
            }
        }
    }

    fn sign(&mut self, negative: bool) {
        if negative {
            self.push(b"-");
        }
    }

    fn digit(&mut self, digit: u32) {
        self.push(&[b'0' + narrow(u64::from(digit)).to_le_bytes()[0]]);
    }

    /// Puts bytes before the text, which has room for them.
    #[inline(never)]
    fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes.iter().rev() {
            self.start = self.start.saturating_sub(1);
            if let Some(to) = self.bytes.get_mut(usize::from(self.start)) {
                *to = byte;
            }
        }
    }
}

/// `number · 2^-shift`, rounded, ties to even: the millionths, and 1 where they are a whole. `number` is below 10⁶ · 2^shift.
fn round(number: u64, shift: u32) -> (u32, u32) {
    // number < 2⁴⁴ is less than half of 2^shift from 46 on.
    if shift > 45 {
        return (0, 0);
    }
    let (quotient, rest, half) = (number >> shift, number & ((1 << shift) - 1), 1 << (shift - 1));
    let up = rest > half || (rest == half && quotient & 1 == 1);
    match quotient + u64::from(up) {
        1_000_000 => (0, 1),
        #[expect(clippy::cast_possible_truncation, reason = "below a million")]
        millionths => (millionths as u32, 0),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the halves of a 128-bit number are what is wanted")]
const fn halves(number: u128) -> [u64; 2] {
    [number as u64, (number >> 64) as u64]
}

#[expect(clippy::cast_possible_truncation, reason = "callers give 16 bits")]
const fn narrow(number: u64) -> u16 {
    number as u16
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(self.as_bytes()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::Decimal;
    use std::string::String;

    fn f32_text(number: f32) -> String {
        std::format!("{:?}", Decimal::of_f32_bits(number.to_bits()))
    }

    #[test]
    fn floats_are_printed_as_tensorflow_prints_them() {
        let printed_by_tensorflow = [
            (1e-7, "0.000000"),
            (-1e-7, "-0.000000"),
            (123_456.79, "123456.789062"),
            (3.4e38, "339999995214436424907732413799364296704.000000"),
            (f32::MIN, "-340282346638528859811704183484516925440.000000"),
            (1e-45, "0.000000"),
            (f32::INFINITY, "inf"),
            (f32::NEG_INFINITY, "-inf"),
            (f32::from_bits(0x7fc0_0000), "nan"),
            (f32::from_bits(0xffc0_0000), "-nan"),
            (0.5, "0.500000"),
            (2.5e-6, "0.000002"),
            (-0.0, "-0.000000"),
            (5e-7, "0.000000"),
            (0.999_999_94, "1.000000"),
        ];
        for (number, text) in printed_by_tensorflow {
            assert_eq!(f32_text(number), text);
        }
    }

    #[test]
    fn ties_go_to_the_even_digit() {
        // 2⁻⁷ = 0.0078125 and 3 · 2⁻⁷ = 0.0234375: exact ties of the sixth decimal.
        assert_eq!([f32_text(0.007_812_5), f32_text(0.023_437_5)], ["0.007812", "0.023438"]);
    }

    #[test]
    fn every_exponent_is_printed_as_the_standard_library_prints_it() {
        // Rust prints the exact value too, rounded to even.
        for exponent in 0..255_u32 {
            for fraction in [0, 1, 2, 0x12_3456, 0x40_0000, 0x7f_fffe, 0x7f_ffff] {
                let number = f32::from_bits(exponent << 23 | fraction);
                assert_eq!(f32_text(number), std::format!("{number:.6}"));
                assert_eq!(f32_text(-number), std::format!("-{number:.6}"));
            }
        }
    }

    #[test]
    fn integers_are_printed_whole() {
        for number in [0, 7, -7, 9_999, 10_000, -10_001, 100_000_000, i64::MAX, i64::MIN] {
            assert_eq!(std::format!("{:?}", Decimal::of_int(number)), std::format!("{number}"));
        }
    }
}
