//! The host's errors: each names the file, the place in it, what was wrong and what to do.

use std::{io, path::Path};

/// The host library's result.
pub type Result<T> = core::result::Result<T, Error>;

/// Why a file was not read, converted or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{file}: {source}")]
    Io {
        /// The file, as the user named it.
        file: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The content was refused.
    #[error("{file}: {place}{}{problem}", if place.is_empty() { "" } else { ": " })]
    Refused {
        /// The file, as the user named it.
        file: String,
        /// Where in it: ``tensor `bias` ``, `byte 120`, `line 3`; empty for the whole file.
        place: String,
        /// What was expected, what was found, and what to do.
        problem: String,
    },
}

impl Error {
    /// A [`Error::Refused`].
    pub fn refused(file: &str, place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Refused { file: file.into(), place: place.into(), problem: problem.into() }
    }

    /// A [`Error::Io`] about `path`.
    pub fn io(path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { file: path.as_ref().display().to_string(), source }
    }
}
