//! `HalfSipHash` of Jean-Philippe Aumasson and Daniel J. Bernstein, by its reference in <https://github.com/veorq/SipHash>.

/// `HalfSipHash-1-3` with an output of 64 bits: the low and the high half.
///
/// A keyed pseudo-random function of 32-bit additions, rotations and xors alone: a Cortex-M0 has no product of 64 bits, and the
/// halves of one output are independent, where two seeds of a weaker hash may collide together.
///
/// # Examples
///
/// ```
/// use embedded_nfm::encode::hash::half_sip_1_3;
///
/// assert_ne!(half_sip_1_3(b"UA", [0, 0]), half_sip_1_3(b"UA", [1, 0]));
/// ```
#[must_use]
pub fn half_sip_1_3(bytes: &[u8], key: [u32; 2]) -> [u32; 2] {
    half_sip::<1, 3, true>(bytes, key)
}

/// With C rounds a word and D at the end; with an output of 32 bits, which is then both halves, or of 64.
#[expect(clippy::cast_possible_truncation, reason = "the reference takes the length modulo 2⁸")]
fn half_sip<const C: u32, const D: u32, const LONG: bool>(bytes: &[u8], [k0, k1]: [u32; 2]) -> [u32; 2] {
    let (v1, v2) = if LONG { (0xee, 0xee) } else { (0, 0xff) };
    let mut state = State(k0, k1 ^ v1, 0x6c79_6765 ^ k0, 0x7465_6462 ^ k1);
    let (words, tail) = bytes.as_chunks::<4>();
    for &word in words {
        state = state.take::<C>(u32::from_le_bytes(word));
    }
    let mut last = [0, 0, 0, bytes.len() as u8];
    last.iter_mut().zip(tail).for_each(|(to, &byte)| *to = byte);
    state = state.take::<C>(u32::from_le_bytes(last));

    state = state.end::<D>(0, v2);
    let low = state.output();
    [low, if LONG { state.end::<D>(0xdd, 0).output() } else { low }]
}

/// v0 to v3, by value: in registers also where code is made small.
#[derive(Clone, Copy)]
struct State(u32, u32, u32, u32);

impl State {
    #[inline(always)]
    fn take<const C: u32>(self, word: u32) -> Self {
        let Self(v0, v1, v2, v3) = Self(self.0, self.1, self.2, self.3 ^ word).rounds::<C>();
        Self(v0 ^ word, v1, v2, v3)
    }

    #[inline(always)]
    fn end<const D: u32>(self, v1: u32, v2: u32) -> Self {
        Self(self.0, self.1 ^ v1, self.2 ^ v2, self.3).rounds::<D>()
    }

    fn output(self) -> u32 {
        self.1 ^ self.3
    }

    #[inline(always)]
    fn rounds<const N: u32>(self) -> Self {
        let Self(mut v0, mut v1, mut v2, mut v3) = self;
        for _ in 0..N {
            v0 = v0.wrapping_add(v1);
            v2 = v2.wrapping_add(v3);
            v1 = v1.rotate_left(5) ^ v0;
            v3 = v3.rotate_left(8) ^ v2;
            v0 = v0.rotate_left(16).wrapping_add(v3);
            v2 = v2.wrapping_add(v1);
            v3 = v3.rotate_left(7) ^ v0;
            v1 = v1.rotate_left(13) ^ v2;
            v2 = v2.rotate_left(16);
        }
        Self(v0, v1, v2, v3)
    }
}

#[cfg(test)]
mod tests {
    use super::half_sip;

    const KEY: [u32; 2] = [0x0302_0100, 0x0706_0504];

    fn counted(len: u8) -> std::vec::Vec<u8> {
        (0..len).collect()
    }

    #[test]
    fn two_and_four_rounds_give_the_reference_vectors() {
        // `vectors_hsip64` and `vectors_hsip32` of the reference, of the inputs 0, 1, … of lengths 0 to 5.
        let long: [[u8; 8]; 6] = [
            [0x21, 0x8d, 0x1f, 0x59, 0xb9, 0xb8, 0x3c, 0xc8],
            [0xbe, 0x55, 0x24, 0x12, 0xf8, 0x38, 0x73, 0x15],
            [0x06, 0x4f, 0x39, 0xef, 0x7c, 0x50, 0xeb, 0x57],
            [0xce, 0x0f, 0x1a, 0x45, 0xf7, 0x06, 0x06, 0x79],
            [0xd5, 0xe7, 0x8a, 0x17, 0x5b, 0xe5, 0x2e, 0xa1],
            [0xcb, 0x9d, 0x7c, 0x3f, 0x2f, 0x3d, 0xb5, 0x80],
        ];
        for (len, expected) in (0..).zip(long) {
            let halves = half_sip::<2, 4, true>(&counted(len), KEY).map(u32::to_le_bytes);
            assert_eq!(halves.concat(), expected, "{len}");
        }
        assert_eq!(half_sip::<2, 4, false>(&counted(63), KEY)[0].to_le_bytes(), [0x59, 0xea, 0x4a, 0x74]);
    }

    #[test]
    fn one_and_three_rounds_give_the_vectors_of_linux() {
        // `test_vectors_hsiphash` for 32-bit machines in lib/tests/siphash_kunit.c.
        let expected = [
            0x5814_c896,
            0xe7e8_64ca,
            0xbc4b_0e30,
            0x0153_9939,
            0x7e05_9ea6,
            0x88e3_d89b,
            0xa008_0b65,
            0x9d38_d9d6,
        ];
        for (len, expected) in (0..).zip(expected) {
            assert_eq!(half_sip::<1, 3, false>(&counted(len), KEY)[0], expected, "{len}");
        }
        assert_eq!(half_sip::<1, 3, false>(&counted(63), KEY)[0], 0x8717_8304);
    }
}
