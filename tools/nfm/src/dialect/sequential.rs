//! A `torch.nn.Sequential` of a perceptron: linear layers, batch norms and slopes under numbers that have gaps where modules
//! without parameters stand.

use super::draft::{BnNames, Draft, Stored};
use crate::{
    error::Result,
    float_model::{Activation, Stage},
    tensors::Tensors,
};

/// What is known about the list beside its tensors.
pub(super) struct Sequential<'a> {
    /// What stands before the numbers, without the dot.
    pub(super) prefix: &'a str,
    /// ε of batch norms; `None` when the user must say it.
    pub(super) eps: Option<f64>,
    /// The activation where neither user nor file say another; `None` to note that relu is assumed.
    pub(super) activation: Option<Activation>,
    /// Whether the last linear layer is the projection to the score, without an activation after it.
    pub(super) ends_in_head: bool,
}

impl Sequential<'_> {
    /// Takes the layers as the draft's next stages; gives the last one's width.
    pub(super) fn take(&self, draft: &mut Draft<'_>, inputs: usize) -> Result<usize> {
        let positions = self.positions(draft.tensors);
        self.check_distances(draft.tensors, &positions)?;
        let linear: Vec<usize> =
            positions.iter().copied().filter(|at| self.is_linear(draft.tensors, *at)).collect();
        let mut width = inputs;
        for (index, &at) in linear.iter().enumerate() {
            width =
                draft.dense(&self.name(at, "weight"), Some(&self.name(at, "bias")), Stored::OutIn, width)?;
            let end = linear.get(index + 1).copied().unwrap_or(usize::MAX);
            let more: Vec<usize> =
                positions.iter().copied().filter(|more| (at + 1..end).contains(more)).collect();
            if self.ends_in_head && index + 1 == linear.len() && more.is_empty() {
                return match width {
                    1 => Ok(1),
                    out => {
                        let problem = format!(
                            "expected one output, found {out}; a model of several scores is not supported"
                        );
                        Err(draft.tensors.refuse(&self.name(at, "weight"), problem))
                    }
                };
            }
            self.after_linear(draft, at, &more, width)?;
        }
        Ok(width)
    }

    /// The batch norm and the activation after the linear layer at `at`.
    fn after_linear(&self, draft: &mut Draft<'_>, at: usize, more: &[usize], width: usize) -> Result<()> {
        let mut module = at.saturating_add(1);
        let mut slopes = false;
        for &at in more {
            let weights = self.name(at, "weight");
            if draft.tensors.shape(&self.name(at, "running_mean")).is_some() {
                draft.batch_norm(&BnNames::torch(&format!("{}.{at}", self.prefix)), width, self.eps)?;
                module = at.saturating_add(1);
            } else if draft.tensors.shape(&weights).is_some_and(|shape| shape.len() == 1) && !slopes {
                draft.prelu(&weights, width)?;
                slopes = true;
            } else {
                let shape = draft.tensors.shape(&weights).map(<[usize]>::to_vec).unwrap_or_default();
                let problem =
                    format!("expected a linear layer, a batch norm or slopes, found shape {shape:?}");
                return Err(draft.tensors.refuse(&weights, problem));
            }
        }
        match &self.activation {
            _ if slopes => Ok(()),
            // The module after this one, where the checkpoint knows its class.
            None => draft.activation(&format!("{}.{module}", self.prefix)),
            Some(own) => draft.activation_or(&format!("{}.{module}", self.prefix), own.clone()),
        }
    }

    fn name(&self, at: usize, tensor: &str) -> String {
        format!("{}.{at}.{tensor}", self.prefix)
    }

    fn is_linear(&self, tensors: &Tensors, at: usize) -> bool {
        tensors.shape(&self.name(at, "weight")).is_some_and(|shape| shape.len() == 2)
    }

    /// Positions that hold tensors, ascending.
    pub(super) fn positions(&self, tensors: &Tensors) -> Vec<usize> {
        let number = |name: &String| {
            name.strip_prefix(self.prefix)?.strip_prefix('.')?.split('.').next()?.parse().ok()
        };
        let mut positions: Vec<usize> = tensors.entries.keys().filter_map(number).collect();
        positions.sort_unstable();
        positions.dedup();
        positions
    }

    /// Linear layers stand at equal distances; otherwise one is missing, which equal widths would hide.
    fn check_distances(&self, tensors: &Tensors, positions: &[usize]) -> Result<()> {
        let linear: Vec<usize> =
            positions.iter().copied().filter(|at| self.is_linear(tensors, *at)).collect();
        let Some(&first) = linear.first() else { return Ok(()) };
        if first > 1 {
            return Err(tensors.refuse(
                &self.name(first, "weight"),
                format!(
                    "expected linear layer 0 at {0}.0, or at {0}.1 after a dropout: is a layer missing?",
                    self.prefix
                ),
            ));
        }
        let distance = linear.get(1).map_or(1, |second| second - first);
        let expected = |index: usize| first.saturating_add(index.saturating_mul(distance));
        match linear.iter().enumerate().find(|(index, at)| expected(*index) != **at) {
            Some((index, found)) => Err(tensors.refuse(
                &self.name(*found, "weight"),
                format!(
                    "expected linear layer {index} at {}.{}: is a layer missing?",
                    self.prefix,
                    expected(index)
                ),
            )),
            None => Ok(()),
        }
    }
}

impl Draft<'_> {
    /// Takes the slopes of a PReLU, one or `width`, as the next stage.
    pub(super) fn prelu(&mut self, name: &str, width: usize) -> Result<()> {
        let shape = self.tensors.shape(name).map(<[usize]>::to_vec).unwrap_or_default();
        let slopes = self.tensors.take(name, &shape)?;
        let activation = match slopes.as_slice() {
            [slope] => Activation::LeakyRelu(*slope),
            slopes if slopes.len() == width => Activation::PRelu(slopes.to_vec()),
            slopes => {
                let problem = format!("expected 1 or {width} slopes, found {}", slopes.len());
                return Err(self.tensors.refuse(name, problem));
            }
        };
        self.stages.push(Stage::Activation(activation));
        Ok(())
    }
}
