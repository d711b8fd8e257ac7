//! From a hash to an id, as each pipeline does it.

use super::{fingerprint64, fnv1a_32, fnv1a_64, murmur3_32, remainder, xx64};

/// Which hash, and how its buckets are numbered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// `tf.strings.to_hash_bucket_fast`: [`fingerprint64`] modulo the buckets.
    Fingerprint64,
    /// DeepCTR's `Hash` with `mask_zero`: the text of zero is 0, others are [`fingerprint64`] modulo one bucket less, plus 1.
    Fingerprint64MaskZero,
    /// [`murmur3_32`] modulo the buckets, without sign.
    Murmur3,
    /// scikit-learn's `FeatureHasher`: the magnitude of the signed [`murmur3_32`] modulo the buckets; where it is negative, the
    /// entry's value is −1.
    FeatureHasher,
    /// [`fnv1a_32`] modulo the buckets.
    Fnv1a32,
    /// [`fnv1a_64`] modulo the buckets.
    Fnv1a64,
    /// [`xx64`] modulo the buckets.
    Xx64,
}

impl Rule {
    /// All rules, in the order of their numbers in the section.
    pub(in super::super) const ALL: [Self; 7] = [
        Self::Fingerprint64,
        Self::Fingerprint64MaskZero,
        Self::Murmur3,
        Self::FeatureHasher,
        Self::Fnv1a32,
        Self::Fnv1a64,
        Self::Xx64,
    ];
}

/// A hash encoder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hashing<'a> {
    /// Which hash, and how its buckets are numbered.
    pub rule: Rule,
    /// How many there are, at least 1; with [`Rule::Fingerprint64MaskZero`] at least 2.
    pub buckets: u32,
    /// What is hashed before a text, under [`Rule::Murmur3`] and [`Rule::FeatureHasher`]: `carrier=` for a dictionary's key
    /// "carrier". Empty under other rules.
    pub prefix: &'a str,
}

impl Hashing<'_> {
    /// The bucket of a text, and whether its value is −1. `zero` is the text of zero in the type that was hashed.
    ///
    /// # Examples
    ///
    /// ```
    /// use embedded_nfm::encode::hash::{Hashing, Rule};
    ///
    /// let hashing = Hashing { rule: Rule::Fingerprint64MaskZero, buckets: 100, prefix: "" };
    /// assert_eq!(hashing.bucket(b"lake", b"0"), (35, false)); // DeepCTR's Hash(100, mask_zero=True)
    /// assert_eq!(hashing.bucket(b"0", b"0"), (0, false));
    /// ```
    #[must_use]
    #[inline(never)]
    pub fn bucket(&self, text: &[u8], zero: &[u8]) -> (u32, bool) {
        let bucket = match self.rule {
            Rule::Fingerprint64 => remainder(fingerprint64(text), self.buckets),
            Rule::Fingerprint64MaskZero if text == zero => 0,
            Rule::Fingerprint64MaskZero => {
                // One less than the buckets, so 1 more fits.
                remainder(fingerprint64(text), self.buckets.saturating_sub(1)).saturating_add(1)
            }
            Rule::Murmur3 => self.modulo(self.murmur(text)),
            Rule::FeatureHasher => return self.feature(self.murmur(text).cast_signed()),
            Rule::Fnv1a32 => self.modulo(fnv1a_32(text)),
            Rule::Fnv1a64 => remainder(fnv1a_64(text), self.buckets),
            Rule::Xx64 => remainder(xx64(text), self.buckets),
        };
        (bucket, false)
    }

    fn murmur(&self, text: &[u8]) -> u32 {
        murmur3_32(self.prefix.bytes().chain(text.iter().copied()), 0)
    }

    fn modulo(&self, hash: u32) -> u32 {
        hash.checked_rem(self.buckets).unwrap_or(0)
    }

    /// The magnitude of −2³¹ modulo the buckets is taken as 2³¹ is, which fits a number without sign.
    fn feature(&self, hash: i32) -> (u32, bool) {
        (self.modulo(hash.unsigned_abs()), hash < 0)
    }
}
