//! What a build can leave out: `parse` refuses a model that needs it.

use core::fmt;

/// A feature of this library, on by default, that some models need.
///
/// None changes a result. Firmware with one known model leaves out what that does not need, and saves flash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Feature {
    /// `activations`: other activations than the rectifier.
    Activations,
    /// `any-layout`: layers that are packed for another kind of core, or fold where no kernel of this one does.
    AnyLayout,
    /// `dense-inputs`: numbers that join z as inputs of the first layer.
    DenseInputs,
    /// `nibbles`: rows of 4 bits, alone or beside hot rows of 8.
    Nibbles,
    /// `values`: entries with other values than one.
    Values,
}

/// Whether each feature is part of this build.
pub(crate) const ACTIVATIONS: bool = cfg!(feature = "activations");
pub(crate) const ANY_LAYOUT: bool = cfg!(feature = "any-layout");
pub(crate) const DENSE_INPUTS: bool = cfg!(feature = "dense-inputs");
/// Names are no part of any score: without this they read as empty.
pub(crate) const NAMES: bool = cfg!(feature = "names");
pub(crate) const NIBBLES: bool = cfg!(feature = "nibbles");
pub(crate) const VALUES: bool = cfg!(feature = "values");

/// Whether this core's own packing of layers is that for the DSP extension.
pub(crate) const DSP_IS_NATIVE: bool = cfg!(any(nfm_kernels = "armv7em", nfm_kernels = "halves"));

/// Whether no kernel is in assembly.
pub(crate) const PORTABLE: bool = cfg!(any(nfm_kernels = "halves", nfm_kernels = "none"));

/// Whether layers can need the portable kernels: those in assembly have a twin for every other one.
pub(crate) const PORTABLE_LAYERS: bool = PORTABLE || ACTIVATIONS || ANY_LAYOUT;

impl Feature {
    /// Whether it is part of this build.
    #[must_use]
    pub const fn is_built(self) -> bool {
        match self {
            Self::Activations => ACTIVATIONS,
            Self::AnyLayout => ANY_LAYOUT,
            Self::DenseInputs => DENSE_INPUTS,
            Self::Nibbles => NIBBLES,
            Self::Values => VALUES,
        }
    }

    /// Its name in `Cargo.toml`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Activations => "activations",
            Self::AnyLayout => "any-layout",
            Self::DenseInputs => "dense-inputs",
            Self::Nibbles => "nibbles",
            Self::Values => "values",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
