//! What can go wrong in the store.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::id::CheckpointId;
use super::manifest::ManifestError;
use crate::archive::ArchiveError;
use crate::archive::hash::HashFault;

/// An operation on the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {operation} {path:?}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Part of the store is not a directory.
    #[error("{path:?} is not a directory")]
    NotADirectory { path: PathBuf },
    /// Part of the store belongs to somebody else.
    #[error("{path:?} belongs to user {found}, not to user {own}: the store must be its user's alone")]
    ForeignOwner { path: PathBuf, found: u32, own: u32 },
    /// Part of the store is open to group or others.
    #[error("{path:?} has mode {mode:04o}: look who was in there, then `chmod 700` it")]
    OpenToOthers { path: PathBuf, mode: u32 },
    /// A manifest cannot be used.
    #[error("cannot use manifest {path:?}")]
    Manifest {
        path: PathBuf,
        #[source]
        source: ManifestError,
    },
    /// A directory and the manifest in it disagree on the id.
    #[error("{path:?} holds the manifest of checkpoint {found}")]
    WrongId { path: PathBuf, found: CheckpointId },
    /// An entry among the checkpoints that is none.
    #[error("{path:?} is no checkpoint")]
    NotACheckpoint { path: PathBuf },
    /// A file in a staging directory that a checkpoint does not consist of.
    #[error("{path:?} has no place in a checkpoint")]
    StrayFile { path: PathBuf },
    /// The id is in use.
    #[error("checkpoint {id} exists already")]
    Exists { id: CheckpointId },
    /// Nothing goes by that name.
    #[error("no checkpoint {reference:?}, and none of a container of that name or id")]
    NotFound { reference: String },
    /// Several checkpoints go by that name.
    #[error("{reference:?} could be any of {}", list(candidates))]
    Ambiguous { reference: String, candidates: Vec<CheckpointId> },
    /// The checkpoint has neither images nor their archive.
    #[error("checkpoint {id} has no images")]
    NoImages { id: CheckpointId },
    /// The checkpoint is not what its manifest says.
    #[error("checkpoint {id} is damaged: {}", list(faults))]
    Damaged { id: CheckpointId, faults: Vec<FileFault> },
    /// A file could not be hashed while the checkpoint was sealed.
    #[error("cannot hash {path:?}")]
    Hash {
        path: PathBuf,
        #[source]
        source: HashFault,
    },
    /// A checkpoint could not be compressed, decompressed or checked.
    #[error("cannot {operation} checkpoint {id}")]
    Archive {
        operation: &'static str,
        id: CheckpointId,
        // Boxed, since it would make every result of the store large.
        #[source]
        source: Box<ArchiveError>,
    },
}

/// One file of a damaged checkpoint.
#[derive(Debug)]
pub struct FileFault {
    /// The file, below the checkpoint's directory.
    pub file: String,
    pub damage: Damage,
}

/// How a file is damaged.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// Missing, of another kind, of another length, or unreadable.
    #[error("{0}")]
    Hash(#[source] HashFault),
    /// Other contents.
    #[error("wrong digest")]
    Digest,
    /// There, but not in the manifest.
    #[error("not in the manifest")]
    Unlisted,
    /// A link that leads elsewhere.
    #[error("link with another target")]
    Link,
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.file, self.damage)
    }
}

impl StoreError {
    /// An error of the operating system about `path`, for `map_err`.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }

    /// An error of an archive about checkpoint `id`, for `map_err`.
    pub(crate) fn archive(operation: &'static str, id: &CheckpointId) -> impl FnOnce(ArchiveError) -> Self {
        let id = id.clone();
        move |source| Self::Archive { operation, id, source: Box::new(source) }
    }

    /// Whether there is no such checkpoint.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether another thread had the work stopped.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Archive { source, .. } if matches!(**source, ArchiveError::Cancelled))
    }
}

/// The first few of many, for a message.
fn list(items: &[impl fmt::Display]) -> String {
    const SHOWN: usize = 8;
    let mut text = items.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if let Some(more) = items.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}
