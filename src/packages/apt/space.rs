//! Whether there is room for a plan.

use std::path::Path;

use super::super::error::{PackageError, Result};
use super::super::plan::{SYSTEM, Space};

/// Left free in any case: logs, dpkg's own database, others.
const MARGIN: u64 = 64 << 20;

/// Refuses a plan whose files do not fit into `directory`, or whose packages do not fit into the system.
pub(super) fn refuse_shortage(space: &Space, directory: &Path) -> Result<()> {
    let files = space.forward.saturating_add(space.backward);
    let beside = space.unpacking_beside(directory)?;
    refuse(directory, files.saturating_add(beside))?;
    refuse(Path::new(SYSTEM), space.unpacking - beside)
}

fn refuse(path: &Path, bytes: u64) -> Result<()> {
    let needed = bytes.saturating_add(MARGIN);
    let status = nix::sys::statvfs::statvfs(path);
    let status = status.map_err(|errno| PackageError::io("look at the file system of", path)(errno.into()))?;
    let free = status.blocks_available().saturating_mul(status.fragment_size());
    match free < needed {
        true => Err(PackageError::Space { path: path.to_owned(), needed, free }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        refuse_shortage(&Space::default(), dir.path()).unwrap();
        let space = Space { forward: 1 << 60, ..Space::default() };
        let refused = refuse_shortage(&space, dir.path()).unwrap_err();
        assert!(matches!(refused, PackageError::Space { needed, .. } if needed > 1 << 60), "{refused}");
    }
}
