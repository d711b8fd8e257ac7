//! One error type per moment: [`ParseError`] at load, [`ScoreError`] at run, [`EmitError`] at build.

use core::fmt;

use crate::Feature;

/// Why a blob is not a model.
///
/// Every variant carries the numbers needed to find the cause; `FORMAT.md` lists the rules by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ParseError {
    /// The slice does not start at a multiple of [`ALIGNMENT`](crate::ALIGNMENT); use
    /// [`include_model!`](crate::include_model) or an aligned buffer.
    Misaligned {
        /// The slice's address modulo the alignment.
        remainder: u8,
    },
    /// The first four bytes are not those of a model.
    NotAModel {
        /// What stands there.
        found: [u8; 4],
    },
    /// The blob was made for another version of the format; convert the checkpoint again.
    UnsupportedVersion {
        /// The blob's version.
        found: u16,
        /// The one version that this library reads.
        supported: u16,
    },
    /// The blob is for the other arithmetic path: [`Model`](crate::Model) reads fixed, [`F32Model`](crate::F32Model) f32.
    WrongArithmetic {
        /// The blob's arithmetic: 0 is fixed, 1 is f32.
        found: u8,
        /// What the called type reads.
        expected: u8,
    },
    /// The slice ends before the blob does.
    Truncated {
        /// Bytes that must be there.
        needed: u32,
        /// Bytes that are.
        got: u32,
    },
    /// The blob was changed after it was emitted.
    ChecksumMismatch {
        /// The CRC-32 that the blob states.
        stored: u32,
        /// The CRC-32 of its bytes.
        computed: u32,
    },
    /// The manifest holds something that is no valid value there.
    Manifest {
        /// Offset of the manifest's record that could not be decoded, from the blob's start.
        offset: u32,
    },
    /// A number is outside of its legal range.
    OutOfRange {
        /// Which number.
        what: Quantity,
        /// The number.
        found: u32,
        /// The largest legal one (or the only one).
        limit: u32,
    },
    /// A section starts or ends where the dimensions say it cannot.
    Length {
        /// Length of the blob by its dimensions, or where the manifest must end.
        expected: u32,
        /// What the prefix states.
        found: u32,
    },
    /// A byte that must be zero is not.
    NonZeroPadding {
        /// Which section.
        what: Quantity,
        /// The row of the section.
        row: u32,
    },
    /// A sum could leave 32 bits on some legal sample.
    Overflow {
        /// Which sum.
        what: Quantity,
        /// The layer or the row of the layer.
        index: u32,
    },
    /// A stored float is not finite.
    NotFinite {
        /// Which section.
        what: Quantity,
        /// Its position in the section.
        index: u32,
    },
    /// The model needs a part of the library that this build leaves out.
    FeatureMissing {
        /// What to add to the features of `embedded-nfm`.
        feature: Feature,
    },
}

/// What a [`ParseError`] is about; the names are those of `FORMAT.md`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Quantity {
    /// `rows`
    Rows,
    /// `dim`
    Dim,
    /// `max_active`
    MaxActive,
    /// `max_value`
    MaxValue,
    /// `max_embedding`
    MaxEmbedding,
    /// `hot_rows`, the hot bits, or the counts beside them
    HotRows,
    /// An embedding that a row header allows.
    RowHeader,
    /// Row headers: first order and row multipliers.
    Linear,
    /// `embeddings`
    Embeddings,
    /// `bi_interaction`: its sums, its shift or its clamp.
    BiInteraction,
    /// `dense_inputs`
    DenseInputs,
    /// `layers`
    Layers,
    /// A layer's `out`
    LayerOut,
    /// A layer's `shift`
    LayerShift,
    /// A layer's `max`
    LayerMax,
    /// A layer's `fold`
    LayerFold,
    /// A layer's weights
    LayerWeights,
    /// A layer's bias
    LayerBias,
    /// A layer's slopes, multipliers or scales
    LayerChannels,
    /// `head`
    Head,
    /// `bias`
    Bias,
    /// A `rescale`'s shift
    RescaleShift,
    /// `fields`
    Fields,
    /// `link`
    Link,
    /// `scratch_len`
    ScratchLen,
    /// `reserved`
    Reserved,
}

impl Quantity {
    const fn name(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Dim => "dim",
            Self::MaxActive => "max_active",
            Self::MaxValue => "max_value",
            Self::MaxEmbedding => "max_embedding",
            Self::HotRows => "hot rows",
            Self::RowHeader => "row header",
            Self::Linear => "linear",
            Self::Embeddings => "embeddings",
            Self::BiInteraction => "bi_interaction",
            Self::DenseInputs => "dense_inputs",
            Self::Layers => "layers",
            Self::LayerOut => "layer out",
            Self::LayerShift => "layer shift",
            Self::LayerMax => "layer max",
            Self::LayerFold => "layer fold",
            Self::LayerWeights => "layer weights",
            Self::LayerBias => "layer bias",
            Self::LayerChannels => "layer channels",
            Self::Head => "head",
            Self::Bias => "bias",
            Self::RescaleShift => "rescale shift",
            Self::Fields => "fields",
            Self::Link => "link",
            Self::ScratchLen => "scratch_len",
            Self::Reserved => "reserved",
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Misaligned { remainder } => {
                write!(f, "expected a slice aligned to {}, found address ≡ {remainder}", crate::ALIGNMENT)
            }
            Self::NotAModel { found } => {
                write!(f, "expected magic {:02x?}, found {found:02x?}", crate::blob::MAGIC)
            }
            Self::UnsupportedVersion { found, supported } => {
                write!(f, "expected format version {supported}, found {found}")
            }
            Self::WrongArithmetic { found, expected } => {
                write!(f, "expected arithmetic {expected}, found {found} (0 is fixed, 1 is f32)")
            }
            Self::Truncated { needed, got } => write!(f, "expected {needed} bytes, found {got}"),
            Self::ChecksumMismatch { stored, computed } => {
                write!(f, "expected checksum {stored:08x}, found {computed:08x}")
            }
            Self::Manifest { offset } => write!(f, "no valid manifest record at offset {offset}"),
            Self::OutOfRange { what, found, limit } => {
                write!(f, "{what}: expected a number in the range that ends at {limit}, found {found}")
            }
            Self::Length { expected, found } => write!(f, "expected length {expected}, found {found}"),
            Self::NonZeroPadding { what, row } => write!(f, "{what}: padding of row {row} is not zero"),
            Self::Overflow { what, index } => write!(f, "{what} {index}: its sum can leave 32 bits"),
            Self::NotFinite { what, index } => write!(f, "{what}: element {index} is not finite"),
            Self::FeatureMissing { feature } => {
                write!(f, "the model needs the feature `{feature}`, which this build leaves out")
            }
        }
    }
}

impl core::error::Error for ParseError {}

/// Why a sample was not scored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ScoreError {
    /// More active entries than the model was proved for.
    TooManyActive {
        /// The model's `max_active`.
        max: u16,
        /// The sample's.
        got: usize,
    },
    /// An id is no row of the embedding table.
    UnknownId {
        /// Which entry of the sample.
        position: usize,
        /// Its id.
        id: u32,
        /// Ids must be below this.
        rows: u32,
    },
    /// There are values, but not one for each id.
    ValueCount {
        /// How many ids.
        expected: usize,
        /// How many values.
        got: usize,
    },
    /// A value's magnitude exceeds what the model was proved for.
    ValueOutOfRange {
        /// Which entry of the sample.
        position: usize,
    },
    /// A value is NaN or infinite.
    ValueNotFinite {
        /// Which entry of the sample.
        position: usize,
    },
    /// A sequence starts before the one before it ends, or ends after the entries.
    SequenceRange {
        /// Which sequence.
        position: usize,
    },
    /// Not as many dense inputs as the model has.
    DenseCount {
        /// The model's.
        expected: usize,
        /// The sample's.
        got: usize,
    },
    /// A dense input's magnitude exceeds what the model was calibrated for.
    DenseOutOfRange {
        /// Which dense input.
        position: usize,
    },
    /// A dense input is NaN or infinite.
    DenseNotFinite {
        /// Which dense input.
        position: usize,
    },
    /// The scratch is shorter than `scratch_len`.
    ScratchTooShort {
        /// Elements that must be there.
        needed: usize,
        /// Elements that are.
        got: usize,
    },
    /// The sample needs a part of the library that this build leaves out.
    FeatureMissing {
        /// What to add to the features of `embedded-nfm`.
        feature: Feature,
    },
}

impl fmt::Display for ScoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooManyActive { max, got } => {
                write!(f, "expected at most {max} active entries, found {got}")
            }
            Self::UnknownId { position, id, rows } => {
                write!(f, "entry {position}: expected an id below {rows}, found {id}")
            }
            Self::ValueCount { expected, got } => write!(f, "expected {expected} values, found {got}"),
            Self::ValueOutOfRange { position } => {
                write!(f, "entry {position}: value exceeds the model's max_value")
            }
            Self::ValueNotFinite { position } => write!(f, "entry {position}: value is not finite"),
            Self::SequenceRange { position } => {
                write!(f, "sequence {position}: expected entries of the sample after those of the one before")
            }
            Self::DenseCount { expected, got } => write!(f, "expected {expected} dense inputs, found {got}"),
            Self::DenseOutOfRange { position } => {
                write!(f, "dense input {position}: value exceeds its calibrated range")
            }
            Self::DenseNotFinite { position } => write!(f, "dense input {position}: value is not finite"),
            Self::ScratchTooShort { needed, got } => {
                write!(f, "expected scratch of {needed} elements, found {got}")
            }
            Self::FeatureMissing { feature } => {
                write!(f, "the sample needs the feature `{feature}`, which this build leaves out")
            }
        }
    }
}

impl core::error::Error for ScoreError {}

/// Why a model was not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EmitError {
    /// The buffer is shorter than `encoded_len`.
    BufferTooShort {
        /// Bytes that must be there.
        needed: usize,
        /// Bytes that are.
        got: usize,
    },
    /// `parse` would refuse the result.
    Refused(ParseError),
}

impl From<ParseError> for EmitError {
    fn from(error: ParseError) -> Self {
        Self::Refused(error)
    }
}

impl fmt::Display for EmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BufferTooShort { needed, got } => {
                write!(f, "expected a buffer of {needed} bytes, found {got}")
            }
            Self::Refused(error) => write!(f, "the model would be refused: {error}"),
        }
    }
}

impl core::error::Error for EmitError {}

/// A float that is no [`Q16`](crate::Q16): not finite, or outside of [-32768, 32768).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotRepresentable;

impl fmt::Display for NotRepresentable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a finite number in [-32768, 32768)")
    }
}

impl core::error::Error for NotRepresentable {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_errors_stay_small() {
        assert!(size_of::<ParseError>() <= 16);
        assert!(size_of::<ScoreError>() <= 24);
    }
}
