//! `Fingerprint64` of `FarmHash`, which is `farmhashna::Hash64` of <https://github.com/google/farmhash>: four formulas by length.

use super::{word32, word64};

const K0: u64 = 0xc3a5_c85c_97cb_3127;
const K1: u64 = 0xb492_b66f_be98_f273;
const K2: u64 = 0x9ae1_6a3b_2f90_404f;

/// `Fingerprint64`: `tf.strings.to_hash_bucket_fast` is this hash modulo the number of buckets.
///
/// # Examples
///
/// ```
/// use embedded_nfm::encode::hash::{fingerprint64, remainder};
///
/// assert_eq!(remainder(fingerprint64(b"lake"), 1000), 256);
/// ```
#[must_use]
pub fn fingerprint64(bytes: &[u8]) -> u64 {
    match bytes.len() {
        0..=16 => up_to_16(bytes),
        17..=32 => up_to_32(bytes),
        33..=64 => up_to_64(bytes),
        _ => longer(bytes),
    }
}

fn shift_mix(value: u64) -> u64 {
    value ^ value >> 47
}

#[inline(never)]
fn mix(u: u64, v: u64, factor: u64) -> u64 {
    let a = shift_mix((u ^ v).wrapping_mul(factor));
    shift_mix((v ^ a).wrapping_mul(factor)).wrapping_mul(factor)
}

/// Not a call of `rotate_right` in every formula: three instructions a rotation on 32-bit cores, and there are thirty.
#[inline(never)]
fn rotate(value: u64, by: u32) -> u64 {
    value.rotate_right(by)
}

/// The factor of the formulas for up to 64 bytes.
fn factor(len: usize) -> u64 {
    K2.wrapping_add(len as u64 * 2)
}

fn up_to_16(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    if len >= 8 {
        let a = word64(bytes, 0).wrapping_add(K2);
        let b = word64(bytes, len - 8);
        let c = rotate(b, 37).wrapping_mul(factor(len)).wrapping_add(a);
        let d = rotate(a, 25).wrapping_add(b).wrapping_mul(factor(len));
        return mix(c, d, factor(len));
    }
    if len >= 4 {
        let a = u64::from(word32(bytes, 0));
        return mix((len as u64).wrapping_add(a << 3), word32(bytes, len - 4).into(), factor(len));
    }
    let (Some(&first), Some(&middle), Some(&last)) = (bytes.first(), bytes.get(len / 2), bytes.last()) else {
        return K2;
    };
    let y = u64::from(u32::from(first) + (u32::from(middle) << 8));
    let z = len as u64 + (u64::from(last) << 2);
    shift_mix(y.wrapping_mul(K2) ^ z.wrapping_mul(K0)).wrapping_mul(K2)
}

fn up_to_32(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    let a = word64(bytes, 0).wrapping_mul(K1);
    let b = word64(bytes, 8);
    let c = word64(bytes, len - 8).wrapping_mul(factor(len));
    let d = word64(bytes, len - 16).wrapping_mul(K2);
    let (y, z) = halves(a, b, c, d);
    mix(y, z, factor(len))
}

fn up_to_64(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    let factor = factor(len);
    let a = word64(bytes, 0).wrapping_mul(K2);
    let b = word64(bytes, 8);
    let c = word64(bytes, len - 8).wrapping_mul(factor);
    let d = word64(bytes, len - 16).wrapping_mul(K2);
    let (y, z) = halves(a, b, c, d);
    let z = mix(y, z, factor);
    let e = word64(bytes, 16).wrapping_mul(factor);
    let f = word64(bytes, 24);
    let g = y.wrapping_add(word64(bytes, len - 32)).wrapping_mul(factor);
    let h = z.wrapping_add(word64(bytes, len - 24)).wrapping_mul(factor);
    let y = rotate(e.wrapping_add(f), 43).wrapping_add(rotate(g, 30)).wrapping_add(h);
    let z = e.wrapping_add(rotate(f.wrapping_add(a), 18)).wrapping_add(g);
    mix(y, z, factor)
}

/// What both formulas of 17 to 64 bytes begin with.
#[inline(never)]
fn halves(a: u64, b: u64, c: u64, d: u64) -> (u64, u64) {
    let y = rotate(a.wrapping_add(b), 43).wrapping_add(rotate(c, 30)).wrapping_add(d);
    let z = a.wrapping_add(rotate(b.wrapping_add(K2), 18)).wrapping_add(c);
    (y, z)
}

/// The 56 bytes of state of the formula for more than 64 bytes.
struct State {
    x: u64,
    y: u64,
    z: u64,
    v: (u64, u64),
    w: (u64, u64),
}

impl State {
    /// Takes the 64 bytes from `offset` on; the last ones have other constants.
    #[inline(never)]
    fn take(&mut self, bytes: &[u8], offset: usize, factor: u64, ninefold: bool) {
        let at = |more: usize| word64(bytes, offset + more);
        let times = if ninefold { 9 } else { 1 };
        let Self { x, y, z, v, w } = self;
        *x = rotate(x.wrapping_add(*y).wrapping_add(v.0).wrapping_add(at(8)), 37).wrapping_mul(factor);
        *y = rotate(y.wrapping_add(v.1).wrapping_add(at(48)), 42).wrapping_mul(factor);
        *x ^= w.1.wrapping_mul(times);
        *y = y.wrapping_add(v.0.wrapping_mul(times)).wrapping_add(at(40));
        *z = rotate(z.wrapping_add(w.0), 33).wrapping_mul(factor);
        *v = weak(bytes, offset, v.1.wrapping_mul(factor), x.wrapping_add(w.0));
        *w = weak(bytes, offset + 32, z.wrapping_add(w.1), y.wrapping_add(at(16)));
        core::mem::swap(z, x);
    }
}

#[inline(never)]
fn weak(bytes: &[u8], offset: usize, a: u64, b: u64) -> (u64, u64) {
    let [w, x, y, z] = [0, 8, 16, 24].map(|more| word64(bytes, offset + more));
    let a = a.wrapping_add(w);
    let b = rotate(b.wrapping_add(a).wrapping_add(z), 21);
    let sum = a.wrapping_add(x).wrapping_add(y);
    (sum.wrapping_add(z), b.wrapping_add(rotate(sum, 44)).wrapping_add(a))
}

fn longer(bytes: &[u8]) -> u64 {
    const SEED: u64 = 81;
    let y = SEED.wrapping_mul(K1).wrapping_add(113);
    let mut state = State {
        x: SEED.wrapping_mul(K2).wrapping_add(word64(bytes, 0)),
        y,
        z: shift_mix(y.wrapping_mul(K2).wrapping_add(113)).wrapping_mul(K2),
        v: (0, 0),
        w: (0, 0),
    };
    let blocks = (bytes.len() - 1) / 64;
    (0..blocks).for_each(|block| state.take(bytes, block * 64, K1, false));

    let factor = K1.wrapping_add((state.z & 0xff) << 1);
    state.w.0 = state.w.0.wrapping_add((bytes.len() as u64 - 1) & 63);
    state.v.0 = state.v.0.wrapping_add(state.w.0);
    state.w.0 = state.w.0.wrapping_add(state.v.0);
    state.take(bytes, bytes.len() - 64, factor, true);
    let State { x, y, z, v, w } = state;
    let u = mix(v.0, w.0, factor).wrapping_add(shift_mix(y).wrapping_mul(K0)).wrapping_add(z);
    mix(u, mix(v.1, w.1, factor).wrapping_add(x), factor)
}

#[cfg(test)]
mod tests {
    use super::{super::remainder, fingerprint64};

    /// TensorFlow 2.16's `tf.strings.to_hash_bucket_fast` with 10, 1000, 2³¹ − 1 and 2⁶² buckets.
    const VECTORS: [(&str, u32, u32, u32, u64); 12] = [
        ("", 3, 263, 1_699_943_623, 1_936_946_117_179_621_455),
        ("0", 5, 735, 1_633_463_888, 1_363_911_219_970_409_023),
        ("1", 9, 849, 342_560_855, 80_785_766_752_259_041),
        ("-1", 0, 430, 1_833_158_626, 2_722_188_246_723_688_526),
        ("a", 9, 939, 493_484_721, 3_694_432_073_954_588_131),
        ("lake", 6, 256, 1_784_950_650, 3_471_076_709_905_511_352),
        ("Action", 0, 440, 1_562_614_919, 2_047_415_512_669_870_440),
        ("Comedy", 9, 339, 1_623_902_305, 3_948_439_503_163_846_339),
        ("68fd1e64", 8, 598, 1_959_646_491, 3_308_603_429_550_082_694),
        ("user_123", 6, 656, 164_312_496, 3_370_775_439_419_926_752),
        ("中文", 5, 955, 794_444_451, 1_492_797_022_198_779_051),
        ("The quick brown fox jumps over the lazy dog", 4, 284, 311_974_173, 3_152_101_869_897_863_476),
    ];

    #[test]
    fn tensorflow_gives_the_same_buckets() {
        for (text, tens, thousands, prime, power) in VECTORS {
            let hash = fingerprint64(text.as_bytes());
            let buckets = [10, 1000, 0x7fff_ffff].map(|buckets| remainder(hash, buckets));
            assert_eq!(buckets, [tens, thousands, prime], "{text:?}");
            assert_eq!(hash % (1 << 62), power, "{text:?}");
        }
        assert_eq!(fingerprint64(&[b'x'; 64]) % (1 << 62), 2_304_502_108_871_267_256);
    }
}
