//! The file format `.nfm`; `FORMAT.md` beside this file is normative.
//!
//! `parse` and `emit` walk the same records and sections in the same order; `check` holds the rules that both apply.

pub(crate) mod check;
mod emit;
mod manifest;
mod parse;

pub(crate) use manifest::{Decoder, Record};
pub use parse::scratch_len;

use crate::kernels::rolled;

/// The blob's first four bytes.
pub const MAGIC: [u8; 4] = *b"eNFM";

/// The one version of the format that this library reads and writes.
pub const VERSION: u16 = 1;

/// A blob must start at a multiple of this.
pub const ALIGNMENT: usize = 4;

/// Bytes before the manifest.
pub const PREFIX_BYTES: usize = 24;

/// Offset of the checksum in the prefix.
pub(crate) const CHECKSUM_OFFSET: usize = 20;

/// The arithmetic path that a blob is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Arithmetic {
    /// Integers only: [`Model`](crate::Model).
    Fixed = 0,
    /// Floats: [`F32Model`](crate::F32Model).
    F32 = 1,
}

impl Arithmetic {
    /// Which path `blob` is made for, by its prefix alone; `None` when it is no blob of this version.
    #[must_use]
    pub fn of(blob: &[u8]) -> Option<Self> {
        let prefix = blob.first_chunk::<PREFIX_BYTES>()?;
        let [m0, m1, m2, m3, v0, v1, arithmetic, ..] = *prefix;
        match ([m0, m1, m2, m3] == MAGIC && u16::from_le_bytes([v0, v1]) == VERSION, arithmetic) {
            (true, 0) => Some(Self::Fixed),
            (true, 1) => Some(Self::F32),
            _ => None,
        }
    }
}

/// Holds bytes at an address that every model may have; made by [`include_model!`](crate::include_model).
#[derive(Debug)]
#[repr(C, align(16))]
pub struct Aligned<T: ?Sized>(
    /// The bytes.
    pub T,
);

/// Places the model file at a path, relative to the calling file, in flash, aligned: gives a `&'static [u8]`.
///
/// # Examples
///
/// ```
/// static MODEL: &[u8] = embedded_nfm::include_model!("../../tests/golden/tiny.nfm");
/// assert!(embedded_nfm::Model::parse(MODEL).is_ok());
/// ```
#[macro_export]
macro_rules! include_model {
    ($path:expr $(,)?) => {{
        static MODEL: &$crate::Aligned<[u8]> = &$crate::Aligned(*include_bytes!($path));
        &MODEL.0
    }};
}

/// The checksum of a blob: CRC-32 (ISO-HDLC, as zip and PNG have it) of all its bytes but the checksum's own.
pub(crate) fn checksum(blob: &[u8]) -> u32 {
    let parts = [blob.get(..CHECKSUM_OFFSET), blob.get(PREFIX_BYTES..)];
    !parts.into_iter().flatten().fold(u32::MAX, crc32)
}

/// Takes `bytes` into a CRC, four bits at a time: a table of 16 words instead of the usual 256, 960 bytes less, for twice the
/// instructions.
#[inline(never)]
fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    /// The CRC of each four bits; their polynomial reflected.
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut bits = 0;
        while bits < 16 {
            let mut crc = bits;
            let mut bit = 0;
            while bit < 4 {
                crc = if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0xEDB8_8320 };
                bit += 1;
            }
            #[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
            (table[bits as usize] = crc);
            bits += 1;
        }
        table
    };
    let step = |crc: u32| crc >> 4 ^ TABLE.get((crc & 15) as usize).copied().unwrap_or_default();
    bytes.iter().fold(crc, |crc, &byte| {
        rolled();
        step(step(crc ^ u32::from(byte)))
    })
}
