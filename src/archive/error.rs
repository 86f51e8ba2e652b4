//! What can be wrong with an archive.

use std::io;
use std::path::{Path, PathBuf};

use super::entry::Digest;
use super::tar::TarError;

/// An archive could not be written, read or believed. Names of members come from outside and are printed quoted.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file of ours could not be read or written.
    #[error("cannot {operation} {path:?}")]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The stream could not be read, is cut short, or is no tar.
    #[error("cannot read the archive")]
    Tar(#[from] TarError),
    /// A member's contents could not be read.
    #[error("cannot read member {member:?}")]
    Input {
        member: String,
        #[source]
        source: io::Error,
    },
    /// The archive could not be written out.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// The compressor could not be set up or fed.
    #[error("cannot compress")]
    Compress(#[source] io::Error),
    /// The compressed data is damaged, cut short or no zstd.
    #[error("cannot decompress {what}")]
    Decompress {
        what: String,
        #[source]
        source: io::Error,
    },
    /// A member that nothing announced.
    #[error("unexpected member {member:?} at offset {offset}")]
    UnexpectedMember { member: String, offset: u64 },
    /// A member where another was due.
    #[error("member {member:?} at offset {offset} in place of {expected:?}")]
    OutOfOrder {
        member: String,
        offset: u64,
        expected: String,
    },
    /// The same member again.
    #[error("member {member:?} at offset {offset} is there a second time")]
    DuplicateMember { member: String, offset: u64 },
    /// A member that is not a plain file.
    #[error("member {member:?} at offset {offset} is not a regular file")]
    NotRegular { member: String, offset: u64 },
    /// An announced member that never came.
    #[error("member {member:?} is missing")]
    MissingMember { member: String },
    /// A file that is longer or shorter than announced.
    #[error("{member:?} has {found} bytes instead of {expected}")]
    Length {
        member: String,
        expected: u64,
        found: u64,
    },
    /// A file with other contents than announced.
    #[error("{member:?} has digest {found} instead of {expected}")]
    Digest {
        member: String,
        expected: Digest,
        found: Digest,
    },
    /// A member whose metadata cannot be.
    #[error("member {member:?} at offset {offset}: {fault}")]
    Member {
        member: String,
        offset: u64,
        fault: &'static str,
    },
    /// A directory that should be empty is not.
    #[error("{path:?} is not empty")]
    NotEmpty { path: PathBuf },
    /// Something follows the archive's end.
    #[error("there is data behind the end of {what}")]
    TrailingData { what: String },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl ArchiveError {
    /// An error about a file of ours, for `map_err`.
    pub(crate) fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            operation,
            path,
            source,
        }
    }
}
