//! What Armv6-M and Armv7-M without the DSP extension have in common: how a sample's rows come to their instructions.
#![expect(unsafe_code, reason = "calls hand-written instructions")]

use super::{
    own::{MAX_TERMS, look_up, look_up_nibbles, pool_codes, pool_nibbles},
    plan::Rows,
};
use crate::features;

/// Where a row starts in the codes, and its gain.
pub(super) type Term = [u32; 2];

/// Where the terms of a table with nibbles begin and end.
#[repr(C)]
pub(super) struct Terms {
    pub(super) hot: *mut u32,
    pub(super) hot_end: *mut u32,
    pub(super) others: *mut u32,
    pub(super) others_end: *mut u32,
}

/// Pools the rows of ids into z, and gives the sum of their first-order codes; `i32::MIN` when an id is none, or there are
/// too many.
///
/// # Safety
///
/// `rows` is as [`Rows`] says. `ids..ids_end` are readable, one or more; `words` has three for each of them, and `z` takes as many
/// halfwords as there are lanes, at a multiple of four.
pub(super) unsafe fn pool(
    rows: &Rows,
    ids: *const u32,
    ids_end: *const u32,
    words: *mut u32,
    z: *mut i16,
) -> i32 {
    // SAFETY: both are of one slice.
    let count = unsafe { ids_end.offset_from_unsigned(ids) };
    if features::NIBBLES && rows.has_nibbles() {
        let end = words.wrapping_add(3 * count);
        let mut terms = Terms { hot: words, hot_end: words, others: end, others_end: end };
        // SAFETY: there are three words for each id.
        let sum = unsafe { look_up_nibbles(rows, ids, ids_end, &mut terms) };
        if sum != i32::MIN {
            // SAFETY: the terms are those just written.
            unsafe { pool_nibbles(rows, &terms, z) };
        }
        return sum;
    }
    let terms: *mut Term = words.cast();
    if count > MAX_TERMS {
        return i32::MIN;
    }
    // SAFETY: there are two words for each id.
    let sum = unsafe { look_up(rows, ids, ids_end, terms) };
    if sum != i32::MIN {
        // SAFETY: the terms are those just written.
        unsafe { pool_codes(rows, terms, terms.wrapping_add(count), z) };
    }
    sum
}
