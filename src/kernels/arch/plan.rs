//! The safe side of the twins: what they ask of a model is checked when its plan is made, what they ask of a sample's memory in each
//! call.
#![expect(unsafe_code, reason = "calls hand-written instructions")]

use core::{marker::PhantomData, ptr::null};

use super::own::{self, Layer};
use crate::{
    features,
    kernels::{nibbles::TERM_WORDS, zero},
    model::{Activation, BLOCK, FixedLayer, FixedParts, MAX_MULTIPLIER, NibbleTable, Table},
};

pub(crate) use own::{POOLS_ANY_COUNT, is_native};

/// No sum of first-order codes: one of 2¹⁶ entries is above −2²⁷.
const NO_ROW: i32 = i32::MIN;

/// A model's table, and its last layer with the head, as the instructions read them.
///
/// That they lie where this says, in memory borrowed for `'a`, was checked when it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    rows: Rows,
    last: Layer,
    parts: PhantomData<&'a [u32]>,
}

// SAFETY: all pointers are to what is borrowed shared.
unsafe impl Send for Plan<'_> {}
// SAFETY: as above.
unsafe impl Sync for Plan<'_> {}

/// It follows from the parts, which are compared.
impl PartialEq for Plan<'_> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<'a> Plan<'a> {
    /// Of no model.
    pub(crate) const EMPTY: Self = Self { rows: Rows::EMPTY, last: Layer::EMPTY, parts: PhantomData };

    /// Looks up what there are twins for, from parts that are checked.
    #[inline(always)]
    pub(crate) fn fill(&mut self, parts: &FixedParts<'a>) {
        self.rows.fill(parts);
        if let Some(layer) = last_layer(parts) {
            self.last = layer;
        }
    }

    /// Pools the rows of ids, each with value one, into the first lanes of x, and gives the sum of their first-order codes; `None`
    /// where there is no twin, an id is no row, or there is none. `words` has room for the terms.
    #[inline(always)]
    pub(crate) fn pool(&self, ids: &[u32], words: &mut [u32], x: &mut [i16]) -> Option<i32> {
        let rows = &self.rows;
        // No slice is so long that the product wraps.
        let has_room = ids.len().wrapping_mul(TERM_WORDS) <= words.len() && rows.lanes <= x.len();
        if rows.headers.is_null() || ids.is_empty() || !has_room || !is_aligned(x) {
            return None;
        }
        let ids = ids.as_ptr_range();
        // SAFETY: there is an id or more, and room for as many terms and lanes.
        let sum = unsafe { own::pool(rows, ids.start, ids.end, words.as_mut_ptr(), x.as_mut_ptr()) };
        if features::NIBBLES && rows.has_nibbles() {
            // No code of a row of nibbles is zero for certain: what the padding's codes gave would meet weights.
            zero(x.get_mut(rows.dim..rows.lanes).unwrap_or_default());
        }
        (sum != NO_ROW).then_some(sum)
    }

    /// Whether there is a twin for the last layer with the head.
    pub(crate) const fn has_last(&self) -> bool {
        !self.last.is_empty()
    }

    /// The outputs of the last layer, whose inputs x begins with, times the head; `None` where there is no twin.
    #[inline(always)]
    pub(crate) fn last_dot(&self, x: &[i16]) -> Option<i32> {
        let layer = &self.last;
        let fits = !layer.is_empty() && size_of_val(x) >= layer.x_bytes() && is_aligned(x);
        // SAFETY: the inputs are there, and aligned; the head is read.
        fits.then(|| unsafe { own::run(layer, x.as_ptr()) })
    }
}

/// The last layer and its head, if it is a rectifier and all padding of the head is zero.
fn last_layer(parts: &FixedParts<'_>) -> Option<Layer> {
    let layer = parts.layers.last()?;
    let before = parts.layers.len().checked_sub(2).and_then(|index| parts.layers.get(index));
    let inputs = before.map_or_else(|| parts.input_len(), |layer| layer.bias.len());
    let padding = parts.head.get(layer.out.into()..)?;
    let fits = layer.activation == Activation::Relu
        && padding.iter().all(|&weight| weight == 0)
        && parts.head.len() == layer.bias.len()
        && is_aligned(parts.head);
    let layer = if fits { Layer::new(layer, inputs, parts.head.as_ptr().cast_mut())? } else { return None };
    Some(layer.before_head())
}

/// `dense` with the rectifier.
#[inline(always)]
pub(in crate::kernels) fn dense_relu(layer: &FixedLayer<'_>, x: &[i16], y: &mut [i16]) -> Option<()> {
    let fits = y.len() == layer.bias.len() && is_aligned(x) && is_aligned(y);
    let layer = if fits { Layer::new(layer, x.len(), y.as_mut_ptr())? } else { return None };
    // SAFETY: `new` checked the length of x; y takes an output for each bias; both are aligned.
    unsafe { own::run(&layer, x.as_ptr()) };
    Some(())
}

/// `dense::dot`.
#[inline(always)]
pub(in crate::kernels) fn dot(weights: &[i16], x: &[i16]) -> Option<i32> {
    let fits = !x.is_empty()
        && x.len().is_multiple_of(BLOCK)
        && weights.len() == x.len()
        && is_aligned(weights)
        && is_aligned(x);
    let x = x.as_ptr_range();
    // SAFETY: both are as long, one or more blocks, and aligned.
    fits.then(|| unsafe { own::multiply(weights.as_ptr(), x.start, x.end) })
}

/// Whether this can be read by words.
#[inline(always)]
fn is_aligned<T>(elements: &[T]) -> bool {
    elements.as_ptr().cast::<u32>().is_aligned()
}

/// What `own::pool` reads of a table, in this order.
///
/// The lanes are a positive multiple of four. Rows of 8-bit codes take as many bytes, rows of nibbles a word for each eight of
/// them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Rows {
    /// `rows` halfwords of a table of 8-bit codes, or words; null where there is no twin for the table.
    pub(super) headers: *const u32,
    pub(super) rows: usize,
    /// The largest magnitude of an embedding, below 2¹⁴.
    pub(super) largest: u32,
    pub(super) shift: u32,
    /// z's largest and least code, as [`own::limits`] has them.
    pub(super) max: u32,
    pub(super) min: u32,
    pub(super) lanes: usize,
    /// Half of what the shift divides by.
    pub(super) half: i32,
    /// Rows of 8-bit codes, `rows` ones where there are no nibbles.
    pub(super) codes: *const i8,
    pub(super) hot_rows: usize,
    /// A pair of words for each 32 rows, or null where none is hot.
    pub(super) hot: *const u32,
    pub(super) row_bytes: usize,
    /// Rows of nibbles, or null in a table of 8-bit codes.
    pub(super) nibbles: *const u32,
    pub(super) nibble_rows: usize,
    pub(super) dim: usize,
}

impl Rows {
    /// No table.
    const EMPTY: Self = Self {
        headers: null(),
        rows: 0,
        largest: 0,
        shift: 0,
        max: 0,
        min: 0,
        lanes: 0,
        half: 0,
        codes: null(),
        hot_rows: 0,
        hot: null(),
        row_bytes: 0,
        nibbles: null(),
        nibble_rows: 0,
        dim: 0,
    };

    /// Looks a table up. A checked model has as many headers and rows as its dimensions say, and no embedding above 2¹⁴.
    #[inline(always)]
    fn fill(&mut self, parts: &FixedParts<'_>) {
        let (lanes, shift) = (parts.info.lanes(), parts.shift & 31);
        // Headers of 8-bit rows hold a multiplier of at most 16.
        let bytes = 128 * u16::from(MAX_MULTIPLIER);
        let (headers, codes, largest) = match &parts.table {
            Table::I4(table) if features::NIBBLES => {
                self.fill_nibbles(table, parts.info.rows as usize, lanes);
                (table.headers.as_ptr(), table.codes, parts.max_embedding)
            }
            Table::I4(_) => return,
            Table::I8(table) => (table.headers.as_ptr().cast(), table.codes, parts.max_embedding.min(bytes)),
        };
        // Cores that load codes by words need them aligned. Those of a blob are; a caller of `Model::new` may have others.
        if own::LOADS_WORDS_OF_CODES && !codes.is_empty() && !is_aligned(codes) {
            return;
        }
        self.headers = headers;
        self.rows = parts.info.rows as usize;
        self.largest = largest.into();
        self.shift = shift.into();
        (self.max, self.min) = own::limits(parts.max);
        self.lanes = lanes;
        self.half = (1 << shift) >> 1;
        self.codes = codes.as_ptr();
        self.dim = parts.info.dim.into();
    }

    /// What a table of nibbles has beside 8-bit codes.
    fn fill_nibbles(&mut self, table: &NibbleTable<'_>, rows: usize, lanes: usize) {
        self.hot_rows = table.hot_rows(lanes);
        self.hot = if table.hot.is_empty() { null() } else { table.hot.as_ptr() };
        self.row_bytes = lanes.div_ceil(8) * 4;
        self.nibbles = table.nibbles.as_ptr();
        self.nibble_rows = rows.saturating_sub(self.hot_rows);
    }

    /// Whether rows are looked up among nibbles and hot rows.
    pub(super) fn has_nibbles(&self) -> bool {
        !self.nibbles.is_null()
    }
}
