//! [`Weights::Dsp`](crate::Weights::Dsp): four outputs together, four inputs at a time.

use crate::{
    kernels::{arch, rolled},
    model::{BLOCK, dsp_weights},
};

/// `Σᵢ weights[o, i] · x[i]` of eight outputs, each `fold` groups of four inputs shifted down together.
///
/// # Shapes
///
/// `words` is `[2, in / 4, 4]`, `x` is `[in]`.
///
/// # Ranges
///
/// Between two folds `Σᵢ |weights| · max|x| < 2³¹`, which `parse` enforces.
pub(super) fn block(words: &[u32], x: &[i16], fold: u16, sums: &mut [i32; BLOCK]) {
    let (first, second) = words.split_at_checked(words.len() / 2).unwrap_or_default();
    for (words, sums) in [first, second].into_iter().zip(sums.as_chunks_mut().0) {
        match arch::sums(words, x, fold.into()) {
            Some(found) => sums.iter_mut().zip(found).for_each(|(sum, found)| *sum += found),
            None => four(words, x, fold, sums),
        }
    }
}

/// Four outputs of [`block`], added to `sums`.
#[inline(never)]
fn four(mut words: &[u32], mut x: &[i16], fold: u16, sums: &mut [i32; 4]) {
    while !words.is_empty() && !x.is_empty() {
        let cut = 4 * usize::from(fold.max(1));
        let (first_words, other_words) = words.split_at_checked(cut).unwrap_or((words, &[]));
        let (first_x, other_x) = x.split_at_checked(cut).unwrap_or((x, &[]));
        for (sum, partial) in sums.iter_mut().zip(fold_of(first_words, first_x)) {
            *sum += partial >> 8;
        }
        (words, x) = (other_words, other_x);
    }
}

/// The sums of one fold, which stay in registers.
#[inline(always)]
fn fold_of(words: &[u32], x: &[i16]) -> [i32; 4] {
    let mut partial = [0_i32; 4];
    for (words, x) in words.as_chunks::<4>().0.iter().zip(x.as_chunks::<4>().0) {
        rolled();
        let [x0, x1, x2, x3] = x.map(i32::from);
        for (sum, &word) in partial.iter_mut().zip(words) {
            let [w0, w1, w2, w3] = dsp_weights(word);
            *sum += w0 * x0 + w1 * x1 + w2 * x2 + w3 * x3;
        }
    }
    partial
}
