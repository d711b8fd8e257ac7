//! Fully connected layers on 8-bit weights and 16-bit activations.

mod dsp;
mod scalar;

use crate::{
    Q16, Rescale, features,
    kernels::{
        arch,
        bi_interaction::clamp,
        exp::{elu, sigmoid_q16, tanh},
        nth, of_unknown_length, rolled, zero,
    },
    model::{Activation, BLOCK, FixedLayer, Weights},
};

/// Sums `weights · x`.
///
/// # Ranges
///
/// Exact while `Σ |weights[i]| · max|x| < 2³¹`, which `parse` enforces.
pub(crate) fn dot(weights: &[i16], x: &[i16]) -> i32 {
    arch::dot(weights, x).unwrap_or_else(|| {
        weights.iter().zip(x).fold(0, |sum, (&w, &x)| {
            rolled();
            sum + i32::from(w) * i32::from(x)
        })
    })
}

/// Computes one hidden layer: `y[o] = requantize(f(bias[o] + Σᵢ weights[o, i] · x[i]))`; see [`FixedLayer`] for both forms of
/// requantization.
///
/// # Shapes
///
/// `x` is `[in]` and `y` is `[out]`, both padded to a multiple of [`BLOCK`]; what is padding of `y` becomes zero.
///
/// # Ranges
///
/// `|bias[o]| + Σᵢ |weights[o, i]| · max|x| < 2³¹`, which `parse` enforces. Sums on the way may wrap; the last one has not.
pub(crate) fn dense(layer: &FixedLayer<'_>, x: &[i16], y: &mut [i16]) {
    let rectified = !features::ACTIVATIONS || matches!(layer.activation, Activation::Relu);
    let twin = if rectified { arch::dense_relu(layer, x, y) } else { None };
    if features::PORTABLE_LAYERS && twin.is_none() {
        portable(layer, x, y);
    }
    zero(y.get_mut(layer.out.into()..).unwrap_or_default());
}

/// [`dense`] on any core, without the padding.
#[inline(never)]
fn portable(layer: &FixedLayer<'_>, x: &[i16], y: &mut [i16]) {
    let start = match layer.weights {
        Weights::Scalar(_) => scalar::offset(x).wrapping_neg(),
        Weights::Dsp { .. } => 0,
    };
    let blocks = layer.bias.as_chunks().0.iter().zip(y.as_chunks_mut().0);
    for (block, (bias, y)) in blocks.enumerate() {
        let mut sums = [start; BLOCK];
        match layer.weights {
            Weights::Scalar(codes) => scalar::block(nth(codes, x.len() * BLOCK, block), x, &mut sums),
            Weights::Dsp { words, fold } => {
                dsp::block(nth(words, x.len() * 2, block), x, fold, &mut sums);
            }
        }
        finish(layer, block * BLOCK, bias, &sums, y);
    }
}

/// Adds the bias to the sums, applies the activation and requantizes, from output `first` on.
#[inline(never)]
fn finish(
    layer: &FixedLayer<'_>,
    first: usize,
    bias: &[i32; BLOCK],
    sums: &[i32; BLOCK],
    y: &mut [i16; BLOCK],
) {
    let FixedLayer { shift, max, .. } = *layer;
    let outputs = y.iter_mut().zip(bias).zip(of_unknown_length(sums));
    // `activate` can rectify too, where what counts is flash.
    if layer.activation == Activation::Relu && (features::PORTABLE || !features::ACTIVATIONS) {
        for ((y, bias), sum) in outputs {
            rolled();
            *y = clamp((bias.wrapping_add(*sum) >> shift).max(0), max);
        }
    } else if features::ACTIVATIONS {
        for (((y, bias), sum), o) in outputs.zip(first..) {
            rolled();
            *y = activate(layer, o, bias.wrapping_add(*sum));
        }
    }
}

/// Any activation, on output `o`.
#[inline(never)]
fn activate(layer: &FixedLayer<'_>, o: usize, acc: i32) -> i16 {
    let FixedLayer { shift, max, .. } = *layer;
    // The bits after the point that the output drops.
    let (x, drop) = if layer.activation.is_homogeneous() {
        (clamp(acc >> shift, max).into(), 0)
    } else {
        let multiplier = layer.multipliers.get(o).copied().unwrap_or_default();
        (Rescale { multiplier, shift }.apply(acc), 16 - layer.fraction)
    };
    let value = match layer.activation {
        Activation::Identity => x,
        Activation::Relu => x.max(0),
        Activation::LeakyRelu { slope } => leaky(x, slope),
        Activation::PRelu => leaky(x, layer.slopes.get(o).copied().unwrap_or_default()),
        Activation::Sigmoid => sigmoid_q16(Q16::from_bits(x)),
        Activation::Tanh => tanh(x),
        Activation::Elu { alpha } => elu(x, alpha),
    };
    // The last dropped bit rounds: unlike value + half, which leaves i32 where ELU gives back a saturated t, the sum is
    // at most 2³⁰.
    let round = if drop == 0 { 0 } else { (value >> (drop - 1)) & 1 };
    clamp((value >> drop) + round, max)
}

/// `x` where positive, else `round(slope · x)`, with `slope` in Q13.
fn leaky(x: i32, slope: i16) -> i32 {
    // |x · slope| ≤ 2³⁰.
    if x >= 0 { x } else { (x * i32::from(slope) + (1 << 12)) >> 13 }
}
