//! The link between the raw score and the prediction.

use serde::Serialize;

use crate::{
    Q16, Q31,
    kernels::{exp::sigmoid, float::Math},
};

/// How a raw score becomes a prediction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Link<V> {
    /// A probability: 1 / (1 + e^-score).
    Sigmoid,
    /// The score itself.
    Identity,
    /// The score, clamped.
    Clip {
        /// Lower end.
        min: V,
        /// Upper end.
        max: V,
    },
}

/// A prediction of the fixed path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prediction {
    /// Of a model whose link is the sigmoid.
    Probability(Q31),
    /// Of any other model.
    Value(Q16),
}

impl Prediction {
    /// The nearest `f32`.
    #[must_use]
    pub const fn to_f32(self) -> f32 {
        match self {
            Self::Probability(p) => p.to_f32(),
            Self::Value(v) => v.to_f32(),
        }
    }
}

impl Link<Q16> {
    /// Applies the link, in integers.
    ///
    /// # Accuracy
    ///
    /// The sigmoid's error is at most [`Q31::SIGMOID_ERROR`].
    ///
    /// # Examples
    ///
    /// ```
    /// use embedded_nfm::{Link, Prediction, Q16, Q31};
    ///
    /// let half = Link::<Q16>::Sigmoid.apply(Q16::default());
    /// assert_eq!(half, Prediction::Probability(Q31::from_bits(1 << 30)));
    /// ```
    #[must_use]
    pub fn apply(self, score: Q16) -> Prediction {
        match self {
            Self::Sigmoid => Prediction::Probability(Q31::from_bits(sigmoid(score.to_bits()))),
            Self::Identity => Prediction::Value(score),
            Self::Clip { min, max } => Prediction::Value(score.min(max).max(min)),
        }
    }
}

impl Link<f32> {
    /// Applies the link, with the exponential of `M`.
    ///
    /// # Examples
    ///
    /// ```
    /// use embedded_nfm::{Libm, Link};
    ///
    /// assert_eq!(Link::<f32>::Sigmoid.apply::<Libm>(0.0), 0.5);
    /// ```
    #[must_use]
    pub fn apply<M: Math>(self, score: f32) -> f32 {
        match self {
            Self::Sigmoid => M::sigmoid(score),
            Self::Identity => score,
            Self::Clip { min, max } => score.min(max).max(min),
        }
    }
}
