//! What the cores that multiply one weight at a time have in common.

use core::ptr::{null, null_mut};

use crate::model::{BLOCK, FixedLayer, MAX_WIDTH, Weights};

/// In the shift of a [`Layer`]: its outputs meet the head. Shifts look at the lowest bits alone.
const HEAD: u32 = 1 << 31;

/// What `own::run` reads of a layer, in this order.
///
/// There are one or more blocks of [`BLOCK`] inputs and of [`BLOCK`] outputs. `codes` has as many bytes as the product of both
/// numbers, and `bias` a word for each output.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Layer {
    /// The outputs or, where `shift` has [`HEAD`], the head.
    y: *mut i16,
    y_end: *mut i16,
    shift: u32,
    max: u32,
    x_bytes: usize,
    codes: *const u8,
    bias: *const i32,
}

impl Layer {
    /// No layer.
    pub(super) const EMPTY: Self =
        Self { y: null_mut(), y_end: null_mut(), shift: 0, max: 0, x_bytes: 0, codes: null(), bias: null() };

    /// Whether this is none.
    pub(super) const fn is_empty(&self) -> bool {
        self.x_bytes == 0
    }

    /// A layer that writes its outputs to `y`, as many as there are biases.
    ///
    /// `None` where inputs or outputs are no positive multiples of [`BLOCK`], or the codes are not as many as follows from them.
    #[inline(never)]
    pub(super) fn new(layer: &FixedLayer<'_>, inputs: usize, y: *mut i16) -> Option<Self> {
        let Weights::Scalar(codes) = layer.weights else { return None };
        let outputs = layer.bias.len();
        let fits = inputs != 0
            && outputs != 0
            && (inputs | outputs).is_multiple_of(BLOCK)
            // Below twice MAX_WIDTH both, so the product cannot wrap; `checked_mul` is a call on Armv6-M.
            && (inputs | outputs) < 2 * MAX_WIDTH
            && codes.len() == inputs.wrapping_mul(outputs);
        let (bias, y_end, x_bytes) = (layer.bias.as_ptr(), y.wrapping_add(outputs), inputs * 2);
        let (codes, shift, max) = (codes.as_ptr(), layer.shift.into(), layer.max.into());
        fits.then_some(Self { y, y_end, shift, max, x_bytes, codes, bias })
    }

    /// The same, with outputs that meet the head at `y` instead.
    pub(super) fn before_head(self) -> Self {
        Self { shift: self.shift | HEAD, ..self }
    }

    /// Bytes of the inputs.
    pub(super) const fn x_bytes(&self) -> usize {
        self.x_bytes
    }
}

/// Whether the weights of a layer are packed as this core's twins read them.
pub(crate) const fn is_native(weights: &Weights<'_>, _: usize) -> bool {
    matches!(weights, Weights::Scalar(_))
}

/// z's largest and least code.
pub(super) fn limits(max: u16) -> (u32, u32) {
    (max.into(), 0_u32.wrapping_sub(max.into()))
}
