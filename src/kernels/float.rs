//! The f32 path: the same shapes, floats throughout.
//!
//! Every sum has one fixed order, so the same build of a function gives the same bits on every IEEE machine; the bound against
//! the definition is [`F32Model::ACCURACY`](crate::F32Model::ACCURACY).
#![expect(clippy::float_arithmetic, reason = "this is the f32 path")]

use super::{arch, nth};
use crate::model::{Activation, F32Layer, F32Weights};

/// The functions that the f32 path takes from a library: [`Libm`], or `Micromath` by the feature of that name.
pub trait Math: Copy + core::fmt::Debug {
    /// eˣ
    fn exp(x: f32) -> f32;
    /// eˣ − 1
    fn exp_m1(x: f32) -> f32;
    /// tanh x
    fn tanh(x: f32) -> f32;

    /// 1 / (1 + e⁻ˣ), from an exponential that cannot overflow.
    fn sigmoid(x: f32) -> f32 {
        let e = Self::exp(-x.abs());
        let small = e / (1.0 + e);
        if x >= 0.0 { 1.0 - small } else { small }
    }
}

/// Correct to the last bit or two: the `libm` crate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Libm;

impl Math for Libm {
    fn exp(x: f32) -> f32 {
        libm::expf(x)
    }
    fn exp_m1(x: f32) -> f32 {
        libm::expm1f(x)
    }
    fn tanh(x: f32) -> f32 {
        libm::tanhf(x)
    }
}

/// Small and fast: the `micromath` crate. The relative error of its exponential is below 2.5e-3.
#[cfg(feature = "micromath")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Micromath;

#[cfg(feature = "micromath")]
impl Math for Micromath {
    fn exp(x: f32) -> f32 {
        micromath::F32(x).exp().0
    }
    fn exp_m1(x: f32) -> f32 {
        Self::exp(x) - 1.0
    }
    fn tanh(x: f32) -> f32 {
        2.0 * Self::sigmoid(2.0 * x) - 1.0
    }
}

/// A row of embeddings and what it is multiplied with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term<'a, E> {
    /// `[lanes]`
    pub(crate) embedding: &'a [E],
    /// The value, times the row multiplier where there is one.
    pub(crate) gain: f32,
}

/// Pools the active rows: `z[k] = Σ_{i<j} e[i, k] · e[j, k]` with `e[i, k] = gain[i] · embedding[i, k]`, by the two accumulators of
/// the integer kernel; here they also avoid the cancellation of `sum² − Σe²`.
///
/// # Shapes
///
/// `z` is `[lanes]`, a multiple of four; each term's `embedding` too.
pub(crate) fn bi_interaction<'a, E: Copy + Into<f32> + 'a>(
    terms: impl Iterator<Item = Term<'a, E>> + Clone,
    z: &mut [f32],
) {
    let (blocks, rest) = z.as_chunks_mut::<16>();
    let first = blocks.len() * 16;
    for (b, out) in blocks.iter_mut().enumerate() {
        block(terms.clone(), b * 16, out);
    }
    for (b, out) in rest.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        block(terms.clone(), first + b * 4, out);
    }
}

fn block<'a, E: Copy + Into<f32> + 'a, const B: usize>(
    terms: impl Iterator<Item = Term<'a, E>>,
    first: usize,
    out: &mut [f32; B],
) {
    let mut sum = [0.0_f32; B];
    let mut pairs = [0.0_f32; B];
    for term in terms {
        let Some(row) = term.embedding.get(first..).and_then(<[E]>::first_chunk::<B>) else { continue };
        for ((&e, sum), pairs) in row.iter().zip(&mut sum).zip(&mut pairs) {
            let e: f32 = e.into() * term.gain;
            *pairs += e * *sum;
            *sum += e;
        }
    }
    *out = pairs;
}

/// Sums `weights · x` in eight interleaved accumulators, then those in pairs.
///
/// # Shapes
///
/// Both have the same length, a multiple of four.
pub(crate) fn dot<W: Copy + Into<f32>>(weights: &[W], x: &[f32]) -> f32 {
    let mut acc = [0.0_f32; 8];
    let (w8, w_rest) = weights.as_chunks::<8>();
    let (x8, x_rest) = x.as_chunks::<8>();
    for (w, x) in w8.iter().zip(x8) {
        for ((acc, &w), &x) in acc.iter_mut().zip(w).zip(x) {
            *acc += w.into() * x;
        }
    }
    for ((acc, &w), &x) in acc.iter_mut().zip(w_rest).zip(x_rest) {
        *acc += w.into() * x;
    }
    in_pairs(acc)
}

fn in_pairs([a, b, c, d, e, f, g, h]: [f32; 8]) -> f32 {
    ((a + e) + (b + f)) + ((c + g) + (d + h))
}

/// [`dot`] of floats.
pub(crate) fn dot_f32(weights: &[f32], x: &[f32]) -> f32 {
    arch::float_dot(weights, x).map_or_else(|| dot(weights, x), in_pairs)
}

/// Computes one hidden layer: `y[o] = f(bias[o] + Σᵢ weights[o, i] · x[i])`.
///
/// # Shapes
///
/// `weights` is `[out, in]` row-major, `x` is `[in]`, `y` is `[out]` or longer: what is longer becomes zero.
pub(crate) fn dense<M: Math>(layer: &F32Layer<'_>, x: &[f32], y: &mut [f32]) {
    let (out, padding) = y.split_at_mut(layer.bias.len().min(y.len()));
    match layer.weights {
        F32Weights::F32(weights) => {
            for (o, (y, bias)) in out.iter_mut().zip(layer.bias).enumerate() {
                *y = bias + dot_f32(nth(weights, x.len(), o), x);
            }
        }
        F32Weights::I8 { codes, scales } => {
            for (o, ((y, bias), scale)) in out.iter_mut().zip(layer.bias).zip(scales).enumerate() {
                *y = bias + scale * dot(nth(codes, x.len(), o), x);
            }
        }
    }
    activate::<M>(layer, out);
    padding.fill(0.0);
}

fn activate<M: Math>(layer: &F32Layer<'_>, y: &mut [f32]) {
    let leaky = |y: &mut f32, slope: f32| *y = if *y >= 0.0 { *y } else { slope * *y };
    match layer.activation {
        Activation::Identity => {}
        Activation::Relu => y.iter_mut().for_each(|y| *y = y.max(0.0)),
        Activation::LeakyRelu { slope } => y.iter_mut().for_each(|y| leaky(y, slope)),
        Activation::PRelu => y.iter_mut().zip(layer.slopes).for_each(|(y, &slope)| leaky(y, slope)),
        Activation::Sigmoid => y.iter_mut().for_each(|y| *y = M::sigmoid(*y)),
        Activation::Tanh => y.iter_mut().for_each(|y| *y = M::tanh(*y)),
        Activation::Elu { alpha } => {
            y.iter_mut().for_each(|y| *y = if *y >= 0.0 { *y } else { alpha * M::exp_m1(*y) });
        }
    }
}
