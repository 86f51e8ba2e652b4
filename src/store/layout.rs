//! Where everything of the store lies, and for whom.

use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::id::CheckpointId;

/// The store's root, unless configured otherwise.
pub const DEFAULT_ROOT: &str = "/var/lib/transship";

// Below the root.
pub const CHECKPOINTS: &str = "checkpoints";
pub const STAGING: &str = "staging";
pub const CLAIMS: &str = "claims";
pub const TMP: &str = "tmp";
pub const HANDOVERS: &str = "handovers";
pub const LOGS: &str = "logs";
pub const JOURNAL: &str = "journal.sqlite";
pub const INSTALLATION: &str = "installation.json";
pub const UPGRADES: &str = "upgrades";

// In a checkpoint's directory.
pub const MANIFEST: &str = "manifest.json";
pub const IMAGES: &str = "images";
pub const EXTRA: &str = "extra";
pub const ROOTFS_BASE: &str = "rootfs.tar";
pub const ROOTFS_DELTA: &str = "rootfs-delta.tar";
pub const PACKED_IMAGES: &str = "images.tar.zst";

/// What a compressed file's name has behind the raw one's.
pub const PACKED_SUFFIX: &str = ".zst";
/// What the name of a file ends with that is not complete yet.
pub const TEMPORARY_SUFFIX: &str = ".tmp";
/// What the name of a claim ends with once it was taken.
pub const TAKEN_SUFFIX: &str = ".taken";
/// What the name of something on its way out ends with, in the staging directory.
pub const TRASH_SUFFIX: &str = ".trash";

/// For the owner alone: checkpoints hold the memory of processes.
const DIRECTORY_MODE: u32 = 0o700;

/// The store's paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The store at `root`, whose directories are made where they lack, for their owner alone.
    ///
    /// # Errors
    /// When the root or a directory in it belongs to another user or is open to group or others. The modes are not
    /// mended: whoever could get in may have left something behind.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let layout = Self { root: root.into() };
        create_dir(&layout.root, true)?;
        check_owner(&layout.root, layout.root.metadata())?;
        for name in [CHECKPOINTS, STAGING, CLAIMS, TMP, HANDOVERS] {
            let path = layout.root.join(name);
            create_dir(&path, false)?;
            // A link inside the root is nobody's configuration.
            check_owner(&path, path.symlink_metadata())?;
        }
        Ok(layout)
    }

    /// The store's root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where whole checkpoints lie.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join(CHECKPOINTS)
    }

    /// Where an upgrade, by its number in the journal, keeps its packages. Made by whoever fills it.
    pub fn upgrade(&self, number: i64) -> PathBuf {
        self.root.join(UPGRADES).join(number.to_string())
    }

    /// The directory of one checkpoint.
    pub fn checkpoint(&self, id: &CheckpointId) -> PathBuf {
        self.checkpoints().join(id.as_str())
    }

    /// Where checkpoints come to be and cease to be.
    pub fn staging(&self) -> PathBuf {
        self.root.join(STAGING)
    }

    /// Where one checkpoint comes to be.
    pub fn staging_of(&self, id: &CheckpointId) -> PathBuf {
        self.staging().join(id.as_str())
    }

    /// Where `what` of a checkpoint is moved to be deleted.
    pub fn trash_of(&self, id: &CheckpointId, what: &str) -> PathBuf {
        self.staging().join(format!("{id}.{what}{TRASH_SUFFIX}"))
    }

    /// Where claims lie.
    pub fn claims(&self) -> PathBuf {
        self.root.join(CLAIMS)
    }

    /// For files that outlive no operation.
    pub fn tmp(&self) -> PathBuf {
        self.root.join(TMP)
    }

    /// The journal of operations.
    pub fn journal(&self) -> PathBuf {
        self.root.join(JOURNAL)
    }

    /// What the installer changed on this host.
    pub fn installation(&self) -> PathBuf {
        self.root.join(INSTALLATION)
    }
}

/// Makes `path` for its owner alone; `recursive` also makes its parents. One that exists is left as it is.
pub(super) fn create_dir(path: &Path, recursive: bool) -> Result<(), StoreError> {
    match DirBuilder::new().recursive(recursive).mode(DIRECTORY_MODE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(StoreError::io("create directory", path)(error))
        }
        _ => Ok(()),
    }
}

fn check_owner(path: &Path, metadata: io::Result<Metadata>) -> Result<(), StoreError> {
    let metadata = metadata.map_err(StoreError::io("look at", path))?;
    let own = nix::unistd::geteuid().as_raw();
    if !metadata.is_dir() {
        return Err(StoreError::NotADirectory { path: path.to_owned() });
    }
    if metadata.uid() != own {
        return Err(StoreError::ForeignOwner { path: path.to_owned(), found: metadata.uid(), own });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(StoreError::OpenToOthers { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn directories_are_made_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path().join("a/b")).unwrap();
        for path in [layout.checkpoints(), layout.staging(), layout.claims(), layout.tmp()] {
            assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o700);
        }
        assert_eq!(Layout::open(dir.path().join("a/b")).unwrap(), layout);
    }

    #[test]
    fn a_root_that_others_can_enter_is_refused_and_not_mended() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o750)).unwrap();
        let refused = Layout::open(dir.path());
        assert!(matches!(refused, Err(StoreError::OpenToOthers { mode: 0o750, .. })));
        assert_eq!(dir.path().metadata().unwrap().mode() & 0o777, 0o750);
    }

    #[test]
    fn a_directory_of_another_user_or_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("/tmp", dir.path().join(CLAIMS)).unwrap();
        assert!(matches!(Layout::open(dir.path()), Err(StoreError::NotADirectory { .. })));
        fs::remove_file(dir.path().join(CLAIMS)).unwrap();
        std::os::unix::fs::chown(dir.path(), Some(12345), None).unwrap();
        assert!(matches!(Layout::open(dir.path()), Err(StoreError::ForeignOwner { found: 12345, .. })));
    }
}
