//! Claims: "the next create of container X restores checkpoint Y".
//!
//! A claim is a file. It is taken by renaming it, so that of any number of takers one gets it, and never twice:
//!
//! ```text
//! place ──> CONTAINER ──take──> CONTAINER.taken ──finish──> (gone)
//!               │  ^───give_back──────┘
//!            withdraw
//! ```
//!
//! This module sits in every `docker run` as part of the interposer. It stays with the standard library, serde and
//! the ids, and looking for a claim that is not there costs one failed `rename(2)`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::id::{CheckpointId, ContainerId};
use super::layout::{TAKEN_SUFFIX, TEMPORARY_SUFFIX};

/// The format of claims that is written and read.
pub const VERSION: u32 = 1;
/// Longest claim that is read, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// That the next create of a container restores a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// [`VERSION`] when it was written.
    pub version: u32,
    pub container: ContainerId,
    pub checkpoint: CheckpointId,
    /// The BLAKE3 digest, in hex, of the manifest that the checkpoint was verified against.
    pub manifest_digest: String,
    /// The unix socket at which the helper lets the restore go on.
    pub gate: PathBuf,
}

/// An operation on claims failed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The operating system refused.
    #[error("cannot {operation} claim {path:?}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file is no claim.
    #[error("claim {path:?} is malformed")]
    Malformed {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// The file is longer than any claim.
    #[error("claim {path:?} is longer than {MAX_BYTES} bytes")]
    TooLong { path: PathBuf },
    /// The claim is of another version of transship.
    #[error("claim {path:?} has version {found}, this program reads version {VERSION}")]
    Version { path: PathBuf, found: u32 },
    /// The claim speaks of another container than its file's name does.
    #[error("claim {path:?} is on container {found}")]
    WrongContainer { path: PathBuf, found: ContainerId },
    /// There is a claim on the container already.
    #[error("container {container} has a claim for checkpoint {checkpoint}{}", if *taken { ", and it was taken" } else { "" })]
    Occupied {
        container: ContainerId,
        checkpoint: CheckpointId,
        taken: bool,
    },
}

impl ClaimError {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}

#[derive(Deserialize)]
struct Header {
    version: u32,
}

impl Claim {
    /// Use [`Verified::claim`](super::verify::Verified::claim), which proves that there is something to claim.
    pub(super) fn new(
        container: ContainerId,
        checkpoint: CheckpointId,
        manifest_digest: String,
        gate: PathBuf,
    ) -> Self {
        Self {
            version: VERSION,
            container,
            checkpoint,
            manifest_digest,
            gate,
        }
    }
}

/// A directory of claims.
#[derive(Debug, Clone)]
pub struct Claims {
    dir: PathBuf,
}

impl Claims {
    /// The claims in `dir`. It is not looked at before it is needed.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Puts a claim in place so that it lasts. Placing the same claim again is fine as long as it was not taken.
    ///
    /// # Errors
    /// [`ClaimError::Occupied`] when there is another on that container, or this or another was taken and is not
    /// finished. Nothing has changed then.
    pub fn place(&self, claim: &Claim) -> Result<(), ClaimError> {
        let path = self.path(&claim.container);
        if let Some(taken) = self.taken(&claim.container)? {
            return Err(occupied(taken, true));
        }
        let temporary = self
            .dir
            .join(format!("{}{TEMPORARY_SUFFIX}", claim.container));
        let written = write(&temporary, claim).and_then(|()| fs::hard_link(&temporary, &path));
        let _ = fs::remove_file(&temporary);
        match written {
            // A link, not a rename: it never replaces a claim, nor one that is being taken this moment.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                match read(&path, &claim.container)? {
                    Some(present) if present == *claim => Ok(()),
                    Some(present) => Err(occupied(present, false)),
                    None => Err(ClaimError::io("place", &path)(error)),
                }
            }
            other => other.map_err(ClaimError::io("place", &path)),
        }?;
        self.sync()
    }

    /// Takes the claim on a container. `None` when there is none, or it was taken already.
    ///
    /// # Errors
    /// When the claim cannot be read or believed. It is taken all the same: the container must then neither be
    /// restored nor started afresh in silence.
    pub fn take(&self, container: &ContainerId) -> Result<Option<Claim>, ClaimError> {
        let (path, taken) = (self.path(container), self.taken_path(container));
        match fs::rename(&path, &taken) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(ClaimError::io("take", &path))?,
        }
        // After a loss of power it must not be there to be taken again.
        self.sync()?;
        read(&taken, container)
    }

    /// The claim that was taken on a container and is not finished.
    pub fn taken(&self, container: &ContainerId) -> Result<Option<Claim>, ClaimError> {
        read(&self.taken_path(container), container)
    }

    /// The claim on a container that was not taken yet.
    pub fn pending(&self, container: &ContainerId) -> Result<Option<Claim>, ClaimError> {
        read(&self.path(container), container)
    }

    /// Makes a taken claim one that can be taken again, where it is certain that its restore did not happen. False
    /// when none was taken.
    pub fn give_back(&self, container: &ContainerId) -> Result<bool, ClaimError> {
        let taken = self.taken_path(container);
        self.done(
            fs::rename(&taken, self.path(container)),
            "give back",
            &taken,
        )
    }

    /// Removes a taken claim, after its restore. False when none was taken.
    pub fn finish(&self, container: &ContainerId) -> Result<bool, ClaimError> {
        let taken = self.taken_path(container);
        self.done(fs::remove_file(&taken), "finish", &taken)
    }

    /// Removes a claim that was not taken. False when there is none: it may have been taken just now.
    pub fn withdraw(&self, container: &ContainerId) -> Result<bool, ClaimError> {
        let path = self.path(container);
        self.done(fs::remove_file(&path), "withdraw", &path)
    }

    /// Containers that have a claim, and whether it was taken.
    pub fn list(&self) -> Result<Vec<(ContainerId, bool)>, ClaimError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(ClaimError::io("list", &self.dir))? {
            let name = entry
                .map_err(ClaimError::io("list", &self.dir))?
                .file_name();
            let name = name.to_string_lossy();
            let (id, taken) = name
                .strip_suffix(TAKEN_SUFFIX)
                .map_or((&*name, false), |id| (id, true));
            // Temporary files are no claims.
            found.extend(id.parse().ok().map(|id| (id, taken)));
        }
        found.sort();
        Ok(found)
    }

    fn path(&self, container: &ContainerId) -> PathBuf {
        self.dir.join(container.as_str())
    }

    fn taken_path(&self, container: &ContainerId) -> PathBuf {
        self.dir.join(format!("{container}{TAKEN_SUFFIX}"))
    }

    fn done(
        &self,
        outcome: io::Result<()>,
        operation: &'static str,
        path: &Path,
    ) -> Result<bool, ClaimError> {
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => {
                other.map_err(ClaimError::io(operation, path))?;
                self.sync()?;
                Ok(true)
            }
        }
    }

    fn sync(&self) -> Result<(), ClaimError> {
        let sync = || File::open(&self.dir)?.sync_all();
        sync().map_err(ClaimError::io("write out directory of", &self.dir))
    }
}

fn occupied(claim: Claim, taken: bool) -> ClaimError {
    ClaimError::Occupied {
        container: claim.container,
        checkpoint: claim.checkpoint,
        taken,
    }
}

fn write(path: &Path, claim: &Claim) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(&serde_json::to_vec(claim)?)?;
    file.sync_all()
}

fn read(path: &Path, container: &ContainerId) -> Result<Option<Claim>, ClaimError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(ClaimError::io("open", path))?,
    };
    let mut json = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut json)
        .map_err(ClaimError::io("read", path))?;
    if json.len() as u64 > MAX_BYTES {
        return Err(ClaimError::TooLong {
            path: path.to_owned(),
        });
    }
    let malformed = |source| ClaimError::Malformed {
        path: path.to_owned(),
        source,
    };
    let Header { version } = serde_json::from_slice(&json).map_err(malformed)?;
    if version != VERSION {
        return Err(ClaimError::Version {
            path: path.to_owned(),
            found: version,
        });
    }
    let claim: Claim = serde_json::from_slice(&json).map_err(malformed)?;
    match claim.container == *container {
        true => Ok(Some(claim)),
        false => Err(ClaimError::WrongContainer {
            path: path.to_owned(),
            found: claim.container,
        }),
    }
}

#[cfg(test)]
mod tests;
