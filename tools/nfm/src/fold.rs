//! Folding: batch norms disappear into the weights beside them, exactly, and the graph becomes layers and a head.

use crate::float_model::{Activation, Dense, FloatModel, Stage};

/// What is left of the stages: `head · f_L(W_L … f_1(W_1 (z ++ dense) + b_1) … + b_L)`.
///
/// The constant that is left over is in [`Folded::bias`], with the model's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Folded {
    /// The hidden layers.
    pub layers: Vec<FoldedLayer>,
    /// p, over the last layer's outputs, or over z and the dense inputs when there is no layer.
    pub head: Vec<f64>,
    /// Every constant.
    pub bias: f64,
}

/// One hidden layer.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldedLayer {
    /// Weights and bias.
    pub dense: Dense,
    /// The function after them.
    pub activation: Activation,
}

/// An affine function on a vector that waits for the weights that it can fold into.
struct Affine {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

impl Affine {
    fn identity(width: usize) -> Self {
        Self { scale: vec![1.0; width], shift: vec![0.0; width] }
    }

    /// `other` after `self`.
    fn then(&mut self, (scale, shift): &(Vec<f64>, Vec<f64>)) {
        for (lane, (scale, shift)) in scale.iter().zip(shift).enumerate() {
            self.scale[lane] *= scale;
            self.shift[lane] = self.shift[lane] * scale + shift;
        }
    }

    /// Appends `more` inputs that it leaves as they are.
    fn extend(&mut self, more: usize) {
        self.scale.extend(std::iter::repeat_n(1.0, more));
        self.shift.extend(std::iter::repeat_n(0.0, more));
    }

    /// `dense` after `self`, as one dense stage.
    fn into_dense(self, dense: &Dense) -> Dense {
        let mut folded = dense.clone();
        for (weights, bias) in folded.weights.chunks_exact_mut(self.scale.len()).zip(&mut folded.bias) {
            for ((weight, scale), shift) in weights.iter_mut().zip(&self.scale).zip(&self.shift) {
                *bias += *weight * shift;
                *weight *= scale;
            }
        }
        folded
    }

    /// Itself as a dense stage with a diagonal matrix.
    fn into_diagonal(self) -> Dense {
        let width = self.scale.len();
        let mut weights = vec![0.0; width * width];
        for (lane, scale) in self.scale.into_iter().enumerate() {
            weights[lane * width + lane] = scale;
        }
        Dense { weights, bias: self.shift }
    }
}

/// Folds the stages of a model that was [checked](FloatModel::check).
///
/// An affine before a dense stage folds into its columns, one after it into its rows; the head takes what comes last.
/// An activation that follows another one (as act-BN-act), or z itself, needs a layer of its own: a diagonal one.
#[must_use]
pub fn fold(model: &FloatModel) -> Folded {
    let mut layers: Vec<FoldedLayer> = Vec::new();
    let mut pending = Affine::identity(model.dim);
    let mut open: Option<Dense> = None;
    for stage in &model.stages {
        match stage {
            Stage::BatchNorm(bn) => fold_affine(&mut open, &mut pending, &bn.affine()),
            Stage::Scale(scale) => {
                let width = open.as_ref().map_or(pending.scale.len(), |dense| dense.bias.len());
                fold_affine(&mut open, &mut pending, &(vec![*scale; width], vec![0.0; width]));
            }
            Stage::Concat => {
                close(&mut layers, &mut open, &mut pending);
                pending.extend(model.dense_linear.len());
            }
            Stage::Dense(dense) => {
                close(&mut layers, &mut open, &mut pending);
                let before = std::mem::replace(&mut pending, Affine::identity(0));
                open = Some(before.into_dense(dense));
            }
            Stage::Activation(activation) => {
                let dense = open
                    .take()
                    .unwrap_or_else(|| std::mem::replace(&mut pending, Affine::identity(0)).into_diagonal());
                pending = Affine::identity(dense.bias.len());
                layers.push(FoldedLayer { dense, activation: activation.clone() });
            }
        }
    }
    let head = open.unwrap_or_else(|| pending.into_diagonal());
    let bias = model.bias + head.bias.iter().sum::<f64>();
    let mut folded = Folded { layers, head: head.weights, bias };
    if !model.stages.contains(&Stage::Concat) {
        folded.ignore_inputs(model.dim, model.dense_linear.len());
    }
    folded
}

/// An affine function after the open dense stage or, without one, after those that wait.
fn fold_affine(open: &mut Option<Dense>, pending: &mut Affine, affine: &(Vec<f64>, Vec<f64>)) {
    match open {
        Some(dense) => fold_rows(dense, affine),
        None => pending.then(affine),
    }
}

/// Ends a dense stage that no activation followed.
fn close(layers: &mut Vec<FoldedLayer>, open: &mut Option<Dense>, pending: &mut Affine) {
    if let Some(dense) = open.take() {
        *pending = Affine::identity(dense.bias.len());
        layers.push(FoldedLayer { dense, activation: Activation::Identity });
    }
}

fn fold_rows(dense: &mut Dense, (scale, shift): &(Vec<f64>, Vec<f64>)) {
    let inputs = dense.inputs();
    let rows = dense.weights.chunks_exact_mut(inputs).zip(&mut dense.bias);
    for ((weights, bias), (scale, shift)) in rows.zip(scale.iter().zip(shift)) {
        weights.iter_mut().for_each(|weight| *weight *= scale);
        *bias = *bias * scale + shift;
    }
}

impl Folded {
    /// Adds `more` inputs after the first `width` that change nothing: dense inputs of the first order alone.
    fn ignore_inputs(&mut self, width: usize, more: usize) {
        let weights = self.layers.first_mut().map_or(&mut self.head, |layer| &mut layer.dense.weights);
        let zeros = vec![0.0; more];
        *weights = weights.chunks_exact(width).flat_map(|row| row.iter().chain(&zeros)).copied().collect();
    }

    /// Whether every number is finite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        let layers = self.layers.iter().flat_map(|layer| layer.dense.weights.iter().chain(&layer.dense.bias));
        layers.chain(&self.head).chain([&self.bias]).all(|number| number.is_finite())
    }

    /// Runs the layers on z and the dense inputs; `visit` sees each layer's sums before its activation.
    pub fn run(&self, input: Vec<f64>, mut visit: impl FnMut(usize, &[f64])) -> f64 {
        let mut h = input;
        for (index, layer) in self.layers.iter().enumerate() {
            let rows = layer.dense.weights.chunks_exact(h.len()).zip(&layer.dense.bias);
            let sums: Vec<f64> =
                rows.map(|(w, b)| b + w.iter().zip(&h).map(|(w, h)| w * h).sum::<f64>()).collect();
            visit(index, &sums);
            h = sums.iter().enumerate().map(|(lane, sum)| layer.activation.apply(lane, *sum)).collect();
        }
        self.head.iter().zip(&h).map(|(p, h)| p * h).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{float_model::BatchNorm, synthetic};

    fn bn(gamma: f64) -> Stage {
        let (gamma, beta, mean, variance) = (vec![gamma; 2], vec![0.5; 2], vec![-1.0; 2], vec![3.0; 2]);
        Stage::BatchNorm(BatchNorm { gamma, beta, mean, variance, eps: 1.0 })
    }

    fn folded(stages: Vec<Stage>) -> Folded {
        let shape = synthetic::Shape { name: "fold", fields: &[2, 3], dim: 2, hidden: &[] };
        let mut model = synthetic::model(shape, 1);
        model.stages = stages;
        model.bias = 0.25;
        model.check("fold").unwrap();
        fold(&model)
    }

    fn scale() -> Stage {
        Stage::Scale(0.5)
    }

    fn sum() -> Stage {
        Stage::Dense(Dense { weights: vec![1.0, 2.0], bias: vec![0.125] })
    }

    fn square() -> Stage {
        Stage::Dense(Dense { weights: vec![1.0, 0.0, 0.0, -1.0], bias: vec![1.0, 2.0] })
    }

    #[test]
    fn without_a_layer_batch_norm_folds_into_head_and_bias() {
        let folded = folded(vec![bn(-4.0), sum()]);
        assert_eq!(folded.layers, []);
        // Scale −4 / 2; shift 0.5 + −2 · 1 = −1.5 a lane, times 1 + 2.
        assert_eq!(folded.head, [-2.0, -4.0]);
        assert!((folded.bias - (0.25 + 0.125 - 4.5)).abs() < 1e-12);
    }

    #[test]
    fn a_scale_folds_into_the_weights_on_either_side() {
        let relu = Stage::Activation(Activation::Relu);
        let folded = folded(vec![scale(), square(), scale(), relu, bn(-4.0), scale(), sum()]);
        // Before it only the weights, after it the bias too: 1 · ½ · ½ and 1 · ½; −1 · ½ · ½ and 2 · ½.
        let dense = Dense { weights: vec![0.25, 0.0, 0.0, -0.25], bias: vec![0.5, 1.0] };
        assert_eq!(folded.layers, [FoldedLayer { dense, activation: Activation::Relu }]);
        // −2 · ½, times 1 and 2; −1.5 · ½ a lane, times 1 + 2.
        assert_eq!(folded.head, [-1.0, -2.0]);
        assert!((folded.bias - (0.25 + 0.125 - 2.25)).abs() < 1e-12);
    }

    #[test]
    fn batch_norm_costs_no_layer_and_consecutive_activations_cost_one() {
        let relu = || Stage::Activation(Activation::Relu);
        for (stages, layers) in [
            (vec![sum()], 0),
            (vec![bn(1.0), square(), bn(-1.0), relu(), bn(2.0), sum()], 1),
            (vec![square(), relu(), bn(-1.0), relu(), sum()], 2),
            (vec![bn(1.0), relu(), sum()], 1),
            (vec![square(), square(), sum()], 2),
            (vec![scale(), square(), scale(), relu(), scale(), sum()], 1),
        ] {
            assert_eq!(folded(stages).layers.len(), layers);
        }
    }

    #[test]
    fn a_variance_of_nothing_is_found_to_be_infinite() {
        let mut stage = bn(1.0);
        if let Stage::BatchNorm(bn) = &mut stage {
            (bn.gamma, bn.variance, bn.eps) = (vec![1e200; 2], vec![1e-320; 2], 0.0);
        }
        assert!(!folded(vec![stage, sum()]).is_finite());
        assert!(folded(vec![bn(1.0), sum()]).is_finite());
    }
}
