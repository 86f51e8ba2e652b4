//! What lies below a directory of the store.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::error::StoreError;
use crate::archive::RelPath;

/// One thing below a directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// A regular file of so many bytes.
    File(u64),
    /// A symbolic link with this text.
    Link(String),
}

/// Everything below `dir` but directories, sorted by path; nothing if there is no `dir`.
///
/// # Errors
/// When something is neither file, link nor directory, or has a name that a manifest cannot hold.
pub(super) fn list(dir: &Path) -> Result<Vec<(RelPath, Node)>, StoreError> {
    let mut found = Vec::new();
    let mut pending = vec![String::new()];
    while let Some(below) = pending.pop() {
        let path = dir.join(&below);
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && below.is_empty() => {
                return Ok(found);
            }
            other => other.map_err(StoreError::io("list", &path))?,
        };
        for entry in entries {
            let entry = entry.map_err(StoreError::io("list", &path))?;
            let stray = || StoreError::StrayFile { path: entry.path() };
            let name = entry.file_name().into_string().map_err(|_| stray())?;
            let relative = if below.is_empty() { name } else { format!("{below}/{name}") };
            // Checked for directories too, so that the depth is bounded.
            let checked = RelPath::new(relative.as_str()).map_err(|_| stray())?;
            let metadata = entry.metadata().map_err(StoreError::io("look at", &entry.path()))?;
            if metadata.is_dir() {
                pending.push(relative);
            } else if metadata.is_file() {
                found.push((checked, Node::File(metadata.len())));
            } else if metadata.is_symlink() {
                let target = fs::read_link(entry.path()).map_err(StoreError::io("read link", &entry.path()))?;
                found.push((checked, Node::Link(target.into_os_string().into_string().map_err(|_| stray())?)));
            } else {
                return Err(stray());
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// Bytes that `path` and all below it take on disk; 0 for what is gone meanwhile.
pub(super) fn disk_usage(path: &Path) -> u64 {
    let Ok(metadata) = path.symlink_metadata() else {
        return 0;
    };
    let below: u64 = match metadata.is_dir() {
        true => fs::read_dir(path).into_iter().flatten().flatten().map(|entry| disk_usage(&entry.path())).sum(),
        false => 0,
    };
    // `st_blocks` counts 512 bytes each, whatever the file system's block is.
    metadata.blocks() * 512 + below
}

/// Removes a directory or file with everything below; one that is not there is fine.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    let is_dir = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    let outcome = if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(StoreError::io("remove", path)),
    }
}
