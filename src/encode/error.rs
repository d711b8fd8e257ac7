//! One error type per moment: [`EncodersError`] at load, [`EmitEncodersError`] at build, [`EncodeError`] at run.

use core::fmt;

/// Why bytes are no section of encoders: the rule of `FORMAT.md` that is broken, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EncodersError {
    /// The field whose encoder it is; 0 for what concerns them all.
    pub field: u16,
    /// What breaks the rule.
    pub what: Part,
    /// What stands there.
    pub found: u32,
    /// The largest legal number, or the only one.
    pub limit: u32,
}

/// What an [`EncodersError`] is about; the names are those of `FORMAT.md`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Part {
    /// The section's alignment.
    Alignment,
    /// The section's length.
    Length,
    /// The number of records.
    Fields,
    /// A record's `kind`.
    Kind,
    /// A record's `unseen` or `missing` policy.
    Policy,
    /// A record's `table`, which is where none ends.
    Table,
    /// A parameter of the kind.
    Parameter,
    /// A byte or word that is not used.
    Reserved,
    /// A vocabulary's `keys`.
    Keys,
    /// A vocabulary's `id_bits`.
    IdBits,
    /// A vocabulary's `directory`.
    Directory,
    /// A vocabulary's `runs`.
    Runs,
    /// A vocabulary's `remainders`.
    Remainders,
    /// An id.
    Id,
    /// A vocabulary's `texts`.
    Texts,
    /// A number among boundaries.
    Boundary,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Alignment => "alignment",
            Self::Length => "length",
            Self::Fields => "fields",
            Self::Kind => "kind",
            Self::Policy => "policy",
            Self::Table => "table",
            Self::Parameter => "parameter",
            Self::Reserved => "reserved",
            Self::Keys => "keys",
            Self::IdBits => "id_bits",
            Self::Directory => "directory",
            Self::Runs => "runs",
            Self::Remainders => "remainders",
            Self::Id => "id",
            Self::Texts => "texts",
            Self::Boundary => "boundary",
        }
    }
}

impl EncodersError {
    pub(super) const fn new(what: Part, found: u32, limit: u32) -> Self {
        Self { field: 0, what, found, limit }
    }

    pub(super) const fn of_field(self, field: u16) -> Self {
        Self { field, ..self }
    }
}

/// Fails with a number above its limit.
pub(super) fn at_most(what: Part, found: u32, limit: u32) -> Result<(), EncodersError> {
    if found > limit { Err(EncodersError::new(what, found, limit)) } else { Ok(()) }
}

/// Fails with a number that is not the only one.
pub(super) fn exactly(what: Part, found: u32, expected: u32) -> Result<(), EncodersError> {
    if found == expected { Ok(()) } else { Err(EncodersError::new(what, found, expected)) }
}

impl fmt::Display for EncodersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, what, found, limit } = self;
        let what = what.name();
        write!(
            f,
            "encoder of field {field}: {what}: expected a number in the range that ends at {limit}, found {found}"
        )
    }
}

impl core::error::Error for EncodersError {}

/// Why a section of encoders, or a vocabulary, was not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EmitEncodersError {
    /// The buffer is too short.
    BufferTooShort {
        /// Words that must be there.
        needed: usize,
        /// Words that are.
        got: usize,
    },
    /// There are not as many ids as keys, or not as many entries of scratch.
    Count {
        /// How many keys.
        expected: usize,
        /// How many of the others.
        got: usize,
    },
    /// Two keys are the same.
    SameKey {
        /// The position of one.
        first: u32,
        /// The position of the other.
        second: u32,
    },
    /// No seed separates the keys; this does not happen by chance.
    NoSeed,
    /// `parse` would refuse the result.
    Refused(EncodersError),
}

impl From<EncodersError> for EmitEncodersError {
    fn from(error: EncodersError) -> Self {
        Self::Refused(error)
    }
}

impl fmt::Display for EmitEncodersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BufferTooShort { needed, got } => {
                write!(f, "expected a buffer of {needed} words, found {got}")
            }
            Self::Count { expected, got } => {
                write!(f, "expected one for each of {expected} keys, found {got}")
            }
            Self::SameKey { first, second } => write!(f, "keys {first} and {second} are the same"),
            Self::NoSeed => f.write_str("no seed separates the keys"),
            Self::Refused(error) => write!(f, "the encoders would be refused: {error}"),
        }
    }
}

impl core::error::Error for EmitEncodersError {}

#[cfg(test)]
mod tests {
    use super::EncodersError;

    #[test]
    fn the_error_fits_into_a_parse_error() {
        assert!(size_of::<EncodersError>() <= 12);
    }
}
