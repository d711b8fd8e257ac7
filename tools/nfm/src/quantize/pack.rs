//! Weights of a layer, packed as the device library reads them.

use embedded_nfm::{BLOCK, LANES, Weights};

use super::table::code;

/// How the weights of layers lie in the model: for which cores they are packed. Every core reads both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Layout {
    /// For Cortex-M4, M7, M33 and M55.
    #[default]
    Dsp,
    /// For Cortex-M0 and M3, RISC-V, and hosts.
    Scalar,
}

/// Packed weights, owned.
pub(super) enum Packed {
    Scalar(Vec<u8>),
    Dsp { words: Vec<u32>, fold: u16 },
}

impl Packed {
    /// Rounds and packs `[out, in]` weights in units of their codes, both dimensions padded to the device's blocks.
    ///
    /// `max` is the largest magnitude of an input. It may come back lower, where that makes folds longer, but not below
    /// `least_max`.
    pub(super) fn new(
        weights: &[f64],
        inputs: usize,
        layout: Layout,
        max: u16,
        least_max: u16,
    ) -> (Self, u16) {
        match layout {
            Layout::Scalar => (Self::Scalar(scalar(weights, inputs)), max),
            Layout::Dsp => {
                let words = dsp(weights, inputs);
                let (fold, max) = fold(&words, inputs, max, least_max);
                (Self::Dsp { words, fold }, max)
            }
        }
    }

    pub(super) fn borrow(&self) -> Weights<'_> {
        match self {
            Self::Scalar(codes) => Weights::Scalar(codes),
            Self::Dsp { words, fold } => Weights::Dsp { words, fold: *fold },
        }
    }
}

/// `[out / 8, in, 8]`, each code plus 128.
fn scalar(weights: &[f64], inputs: usize) -> Vec<u8> {
    let mut packed = Vec::with_capacity(weights.len());
    for block in weights.chunks_exact(inputs * BLOCK) {
        for input in 0..inputs {
            packed.extend((0..BLOCK).map(|row| code(block[row * inputs + input]).cast_unsigned() ^ 0x80));
        }
    }
    packed
}

/// `[out / 4, in / 4, 4]` words.
fn dsp(weights: &[f64], inputs: usize) -> Vec<u32> {
    let mut packed = Vec::with_capacity(weights.len() / 4);
    for block in weights.chunks_exact(inputs * 4) {
        for input in (0..inputs).step_by(4) {
            packed.extend((0..4).map(|row| {
                let at = row * inputs + input;
                word([block[at], block[at + 1], block[at + 2], block[at + 3]])
            }));
        }
    }
    packed
}

/// Four weights of one output; each code is rounded with the one below it as its fraction.
fn word([w0, w1, w2, w3]: [f64; 4]) -> u32 {
    let below = |code: i8| f64::from(code.cast_unsigned()) / 256.0;
    #[expect(clippy::cast_possible_truncation, reason = "clamped to the range of i8")]
    let rounded = |w: f64| w.round().clamp(-128.0, 127.0) as i8;
    let c2 = rounded(w2);
    let c0 = rounded(w0 - below(c2));
    let c3 = rounded(w3 - below(c0));
    let c1 = rounded(w1 - below(c3));
    u32::from_le_bytes([c2, c0, c3, c1].map(i8::cast_unsigned))
}

/// The longest fold whose sums fit 32 bits in every row, in groups of four inputs, and the largest input that it allows: `max`,
/// or less down to `least_max`.
///
/// A fold divides the row, and is even or 1: the kernels take such folds without a remainder.
fn fold(words: &[u32], inputs: usize, max: u16, least_max: u16) -> (u16, u16) {
    let groups = (inputs / 4).max(1);
    let folds = (2..=groups).rev().filter(|fold| groups.is_multiple_of(*fold) && fold.is_multiple_of(2));
    let allowed = |fold: usize| {
        let largest = largest_sum(words, inputs, fold).max(1);
        u16::try_from(u64::from(i32::MAX.cast_unsigned()) / largest).unwrap_or(u16::MAX).min(max)
    };
    let found = folds.map(|fold| (fold, allowed(fold))).find(|(_, allowed)| *allowed >= least_max);
    let (fold, max) = found.unwrap_or((1, max));
    (u16::try_from(fold).unwrap_or(u16::MAX), max)
}

/// The largest `Σ |w|` of a row's fold, in units of 1/256.
fn largest_sum(words: &[u32], inputs: usize, fold: usize) -> u64 {
    let folds = words.chunks_exact(inputs.max(1)).flat_map(|block| block.chunks(fold * 4));
    let rows = folds.flat_map(|fold| {
        (0..4).map(move |row| fold.iter().skip(row).step_by(4).map(|word| magnitude(*word)).sum::<u64>())
    });
    rows.max().unwrap_or(0)
}

/// `Σ |w|` of a word's four multipliers, in units of 1/256.
fn magnitude(word: u32) -> u64 {
    let halves = |word: u32| {
        let [a, b, c, d] = word.to_le_bytes();
        [i16::from_le_bytes([a, b]), i16::from_le_bytes([c, d])].map(|half| u64::from(half.unsigned_abs()))
    };
    halves(word).into_iter().chain(halves(word << 8)).sum()
}

/// `[rows, dim]` with each row padded to the device's lanes.
pub(super) fn pad_rows<T: Copy + Default>(matrix: &[T], dim: usize) -> Vec<T> {
    pad(matrix, dim, dim, dim.next_multiple_of(LANES))
}

/// `[out, in]` with each row padded to the device's blocks; the first `lanes` columns (those of z) are padded by
/// themselves, to the device's lanes.
pub(super) fn pad_columns<T: Copy + Default>(matrix: &[T], columns: usize, lanes: usize) -> Vec<T> {
    let width = (lanes.next_multiple_of(LANES) + columns - lanes).next_multiple_of(BLOCK);
    pad(matrix, columns, lanes, width)
}

fn pad<T: Copy + Default>(matrix: &[T], columns: usize, lanes: usize, width: usize) -> Vec<T> {
    let mut padded = Vec::with_capacity(matrix.len() / columns.max(1) * width);
    for row in matrix.chunks_exact(columns.max(1)) {
        let start = padded.len();
        padded.extend_from_slice(&row[..lanes]);
        padded.resize(start + lanes.next_multiple_of(LANES), T::default());
        padded.extend_from_slice(&row[lanes..]);
        padded.resize(start + width, T::default());
    }
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dsp_word_holds_each_weight_to_half_a_unit() {
        let mut random = crate::synthetic::Random::new(7);
        for _ in 0..10_000 {
            let weights = [0; 4].map(|_| 127.0 * random.unit());
            let word = word(weights);
            let halves = |word: u32| {
                [(word & 0xffff) as u16, (word >> 16) as u16].map(|h| f64::from(h.cast_signed()) / 256.0)
            };
            let ([h0, h1], [h2, h3]) = (halves(word), halves(word << 8));
            for (want, got) in weights.into_iter().zip([h0, h1, h2, h3]) {
                assert!((want - got).abs() <= 0.5, "{weights:?}: {got} for {want}");
            }
        }
    }

    #[test]
    fn a_fold_is_as_long_as_32_bits_allow() {
        // All four codes 127 (the last three lowered by their fraction to 127 or 126): each about 127.5·256 = 2¹⁵ − 128.
        let words = vec![0x7f7f_7f7f; 64];
        // Σ of a word is at most 4·32767, · 16383 = 2³¹ − 2¹⁸: one group fits, two do not.
        assert_eq!(fold(&words, 64, 16383, 16383), (1, 16383));
        // A word: halves 0x7f7f, 0x7f7f, 0x7f00, 0x7f7f = 3·32639 + 32512 = 130429; · 16 groups · 1029 = 2³¹ − 100592.
        assert_eq!(fold(&words, 64, 1029, 1029), (16, 1029));
        assert_eq!(fold(&words, 64, 1030, 1030), (8, 1030));
        // The same, where less than 1030 will do.
        assert_eq!(fold(&words, 64, 1030, 900), (16, 1029));
    }
}
