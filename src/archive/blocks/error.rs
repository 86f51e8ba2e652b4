//! What can be wrong with a stream of blocks.

use super::BlockDigest;
use std::io;
use std::path::{Path, PathBuf};

/// A file could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum BlocksError {
    /// The stream broke off.
    #[error("the stream broke off")]
    Stream(#[source] io::Error),
    /// It does not begin as such a stream does.
    #[error("this is no stream of blocks")]
    NoBlocks,
    /// It is of a version that is not spoken here.
    #[error("the stream of blocks has version {found}, and version {known} is spoken here")]
    Version { found: u16, known: u16 },
    /// It is of another part of a file than was asked for.
    #[error("the stream is of bytes {found_from} to {found_length} of the file instead of {from} to {length}")]
    Part { from: u64, length: u64, found_from: u64, found_length: u64 },
    /// A record that cannot be.
    #[error("the record for byte {offset} of the file {fault}")]
    Record { offset: u64, fault: &'static str },
    /// A block was referred to that is not in the pool.
    #[error("block {digest:?} for byte {offset} of the file is not here")]
    Unknown { digest: BlockDigest, offset: u64 },
    /// A block is not what it was when it came into the pool.
    #[error("{path:?} has changed at byte {at}, where block {digest:?} was")]
    Changed { digest: BlockDigest, path: PathBuf, at: u64 },
    /// A block that came into the pool cannot be read any more.
    #[error("a block of {path:?} cannot be read")]
    Pool {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A file of ours could not be read or written.
    #[error("cannot {operation} {path:?}")]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl BlocksError {
    /// Whether the same file may come through where it travels in full: what was wrong is the pool.
    pub fn is_about_the_pool(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::Changed { .. } | Self::Pool { .. })
    }

    pub(super) fn pool(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Pool { path, source }
    }

    pub(super) fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { operation, path, source }
    }
}
