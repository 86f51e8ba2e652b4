//! Files that the installation puts somewhere, and taking away exactly those.

use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Why a file could not be put in place or taken away.
#[derive(Debug, thiserror::Error)]
pub enum PlacementError {
    /// The file system says no.
    #[error("cannot change {path}", path = path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Something is there that is not ours.
    #[error("{path} is there already and is not transship's", path = path.display())]
    Occupied { path: PathBuf },
    /// The record of the installation cannot be read.
    #[error("the record of the installation {path} cannot be read", path = path.display())]
    Record {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

/// One change to the host, described well enough to be undone exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Change {
    /// A file that was not there.
    File { path: PathBuf, text: String },
    /// A link that was not there.
    Link { path: PathBuf, target: PathBuf },
    /// A block at the end of a file that may have been there.
    Block { path: PathBuf, text: String, existed: bool },
}

impl Change {
    /// A block at the end of `path`, which may or may not exist.
    pub fn block(path: &Path, text: String) -> Self {
        Self::Block { path: path.to_owned(), text, existed: path.exists() }
    }

    /// What it does, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::File { path, .. } => format!("write {}", path.display()),
            Self::Link { path, target } => format!("link {} to {}", path.display(), target.display()),
            Self::Block { path, .. } => format!("add a block to the end of {}", path.display()),
        }
    }

    /// What undoing it does, for people.
    pub fn describe_undo(&self) -> String {
        match self {
            Self::File { path, .. } | Self::Link { path, .. } => format!("remove {}", path.display()),
            Self::Block { path, existed: true, .. } => format!("take the block out of {}", path.display()),
            Self::Block { path, existed: false, .. } => format!("remove {}", path.display()),
        }
    }

    /// Whether the host is already as this change makes it.
    pub fn is_made(&self) -> bool {
        match self {
            Self::File { path, text } => std::fs::read_to_string(path).is_ok_and(|found| &found == text),
            Self::Link { path, target } => std::fs::read_link(path).is_ok_and(|found| &found == target),
            Self::Block { path, text, .. } => {
                std::fs::read_to_string(path).is_ok_and(|found| found.contains(text.as_str()))
            }
        }
    }

    /// Makes the change; making it twice is making it once.
    pub fn make(&self) -> Result<(), PlacementError> {
        if self.is_made() {
            return Ok(());
        }
        match self {
            Self::File { path, text } => vacant(path).and_then(|()| in_directory(path, || write(path, text))),
            Self::Link { path, target } => vacant(path).and_then(|()| in_directory(path, || symlink(target, path))),
            Self::Block { path, text, .. } => in_directory(path, || {
                let before = read_or_empty(path)?;
                write(path, &format!("{before}{text}"))
            }),
        }
    }

    /// Takes the change back; what somebody else has put in its place stays.
    pub fn undo(&self) -> Result<(), PlacementError> {
        if !self.is_made() {
            return Ok(());
        }
        let undone = match self {
            Self::File { path, .. } | Self::Link { path, .. } => std::fs::remove_file(path),
            Self::Block { path, text, existed } => std::fs::read_to_string(path).and_then(|found| {
                let rest = found.replacen(text.as_str(), "", 1);
                match rest.is_empty() && !existed {
                    true => std::fs::remove_file(path),
                    false => write(path, &rest),
                }
            }),
        };
        undone.map_err(|source| PlacementError::Io { path: self.path().to_owned(), source })?;
        if let Some(directory) = self.path().parent() {
            remove_if_ours_and_empty(directory);
        }
        Ok(())
    }

    fn path(&self) -> &Path {
        match self {
            Self::File { path, .. } | Self::Link { path, .. } | Self::Block { path, .. } => path,
        }
    }
}

/// What is installed, as kept in the store.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Installation {
    /// In the order in which they were made.
    pub changes: Vec<Change>,
}

impl Installation {
    /// Reads the record; an absent one is an empty installation.
    pub fn load(path: &Path) -> Result<Self, PlacementError> {
        let text = read_or_empty(path).map_err(|source| PlacementError::Io { path: path.to_owned(), source })?;
        if text.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(&text).map_err(|source| PlacementError::Record { path: path.to_owned(), source })
    }

    /// Writes the record, atomically.
    pub fn save(&self, path: &Path) -> Result<(), PlacementError> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|source| PlacementError::Record { path: path.to_owned(), source })?;
        write(path, &text).map_err(|source| PlacementError::Io { path: path.to_owned(), source })
    }
}

fn vacant(path: &Path) -> Result<(), PlacementError> {
    match path.symlink_metadata() {
        Ok(_) => Err(PlacementError::Occupied { path: path.to_owned() }),
        Err(_) => Ok(()),
    }
}

fn in_directory(path: &Path, make: impl FnOnce() -> io::Result<()>) -> Result<(), PlacementError> {
    let directory = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    directory.and_then(|()| make()).map_err(|source| PlacementError::Io { path: path.to_owned(), source })
}

/// Writes through a temporary file, with the permissions of the one that is replaced.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mode = std::fs::metadata(path).map_or(0o644, |found| found.permissions().mode() & 0o7777);
    let temporary = path.with_extension("transship-new");
    std::fs::write(&temporary, text)?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(&temporary, path)
}

fn read_or_empty(path: &Path) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other,
    }
}

/// Drop-in directories and our own: gone when the last file is. Others are never empty for our sake.
fn remove_if_ours_and_empty(directory: &Path) {
    let name = directory.to_string_lossy();
    if name.ends_with(".service.d") || name.contains("/transship") {
        let _ = std::fs::remove_dir(directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undoing_a_block_gives_the_file_back_byte_for_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker");
        std::fs::write(&path, "A=1\nno newline").unwrap();
        let change = Change::block(&path, "\n# transship\nexport PATH=x\n".into());
        change.make().unwrap();
        change.make().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "A=1\nno newline\n# transship\nexport PATH=x\n");
        change.undo().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "A=1\nno newline");
    }

    #[test]
    fn a_file_that_was_not_there_is_gone_after_undoing_and_its_drop_in_directory_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.service.d/50-transship.conf");
        let change = Change::File { path: path.clone(), text: "x".into() };
        change.make().unwrap();
        change.undo().unwrap();
        assert!(!path.parent().unwrap().exists());
    }

    #[test]
    fn what_is_not_ours_is_neither_overwritten_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runc");
        std::fs::write(&path, "somebody's").unwrap();
        let change = Change::Link { path: path.clone(), target: "/x".into() };
        assert!(matches!(change.make(), Err(PlacementError::Occupied { .. })));
        change.undo().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "somebody's");
    }
}
