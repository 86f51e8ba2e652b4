//! Making names and contents last through a loss of power.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::error::StoreError;

/// Writes out the names in directory `path`.
pub(super) fn directory(path: &Path) -> Result<(), StoreError> {
    let sync = || File::open(path)?.sync_all();
    sync().map_err(StoreError::io("write out directory", path))
}

/// Writes out the names in directory `path` and in all below it.
pub(super) fn directories(path: &Path) -> Result<(), StoreError> {
    let list = || std::fs::read_dir(path)?.collect::<std::io::Result<Vec<_>>>();
    for entry in list().map_err(StoreError::io("list", path))? {
        if entry.file_type().map_err(StoreError::io("look at", &entry.path()))?.is_dir() {
            directories(&entry.path())?;
        }
    }
    directory(path)
}

/// Writes out everything on the file system that `path` lies on.
pub(super) fn file_system(path: &Path) -> Result<(), StoreError> {
    let sync = || Ok(nix::unistd::syncfs(File::open(path)?)?);
    sync().map_err(StoreError::io("write out the file system of", path))
}

/// Writes `bytes` to `path` so that, whatever happens, the whole file is there or none: a temporary file beside it
/// is written out and renamed. The directory is not written out.
pub(super) fn write_atomically(path: &Path, temporary: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let write = || {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(temporary, path)
    };
    write().map_err(StoreError::io("write", path))
}

/// Renames `from` to `to`, which must not exist, and writes both directories out.
pub(super) fn move_new(from: &Path, to: &Path) -> Result<(), StoreError> {
    renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE)
        .map_err(|errno| StoreError::io("rename into place", to)(errno.into()))?;
    for parent in [from.parent(), to.parent()].into_iter().flatten() {
        directory(parent)?;
    }
    Ok(())
}
