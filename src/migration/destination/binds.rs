//! Directories of the host that containers have mounted where they come from.
//!
//! One whose files come along is made here and must not be there before: nobody's files are written over. It bears the
//! migration's id in an extended attribute as long as it may have to be removed again.

use crate::failure::{Failure, OrFail};
use crate::migration::words::Bind;
use crate::store::CheckpointId;
use std::io;
use std::path::Path;

/// Who has made it. Only root sees it.
const MARK: &str = "trusted.transship.migration";

/// Refuses a directory that is there and should not be, or the reverse.
pub fn look(bind: &Bind) -> Result<(), Failure> {
    let path = bind.path.display();
    if !bind.path.is_absolute() {
        return Err(Failure::usage(format!("{path} is no absolute path")));
    }
    let there = bind.path.try_exists().or_fail(|| format!("{path} there cannot be looked at"))?;
    match (bind.is_brought, there) {
        (true, true) => Err(Failure::refused(format!("there is {path} there already"))
            .remedy(format!("move it away; or, where it holds the same: --bind shared={path}"))),
        (false, false) => Err(Failure::refused(format!("there is no {path} there"))
            .remedy(format!("put it there, or have it copied: --bind copy={path}"))),
        _ => Ok(()),
    }
}

/// Makes the directories whose files come along.
pub fn make(binds: &[Bind], id: &CheckpointId) -> Result<(), Failure> {
    for Bind { path, .. } in binds.iter().filter(|bind| bind.is_brought && !is_made_for(&bind.path, id)) {
        let failed = || format!("{} cannot be made", path.display());
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).or_fail(failed)?;
        }
        std::fs::create_dir(path).or_fail(failed)?;
        mark(path, id).or_fail(failed)?;
    }
    Ok(())
}

/// So that it is known whose it is.
pub fn mark(path: &Path, id: &CheckpointId) -> io::Result<()> {
    xattr::set(path, MARK, id.as_str().as_bytes())
}

/// They stay.
pub fn keep(binds: &[Bind]) -> Result<(), Failure> {
    for Bind { path, .. } in binds.iter().filter(|bind| bind.is_brought) {
        match xattr::remove(path, MARK) {
            // A helper before this one has done so.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENODATA) => {}
            removed => removed.or_fail(|| format!("{} is still marked as a migration's", path.display()))?,
        }
    }
    Ok(())
}

/// Removes those that were made for a migration, and no others.
pub fn remove(binds: &[Bind], id: &CheckpointId) -> Result<(), Failure> {
    for Bind { path, .. } in binds.iter().filter(|bind| bind.is_brought && is_made_for(&bind.path, id)) {
        std::fs::remove_dir_all(path).or_fail(|| format!("{} cannot be removed", path.display()))?;
    }
    Ok(())
}

fn is_made_for(path: &Path, id: &CheckpointId) -> bool {
    xattr::get(path, MARK).ok().flatten().is_some_and(|mark| mark == id.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_for_a_migration_goes_with_it_and_nothing_else_does() {
        let directory = tempfile::tempdir().unwrap();
        let id = CheckpointId::random().unwrap();
        let bind = |name: &str| Bind { path: directory.path().join(name), is_brought: true };
        let (new, theirs) = (bind("deep/new"), bind("theirs"));
        std::fs::create_dir(&theirs.path).unwrap();
        assert!(look(&new).is_ok() && look(&theirs).unwrap_err().what.contains("already"));
        assert!(look(&Bind { is_brought: false, ..new.clone() }).unwrap_err().what.contains("there is no"));
        let binds = [new.clone(), theirs.clone()];
        assert!(make(&binds, &id).is_err(), "somebody has made it meanwhile");
        assert!(make(&binds[..1], &id).is_ok(), "twice is as once");
        remove(&binds, &CheckpointId::random().unwrap()).unwrap();
        assert!(new.path.exists(), "another migration's");
        remove(&binds, &id).unwrap();
        assert!(!new.path.exists() && theirs.path.exists());
        make(&binds[..1], &id).unwrap();
        keep(&binds[..1]).unwrap();
        keep(&binds[..1]).unwrap();
        remove(&binds, &id).unwrap();
        assert!(new.path.exists());
    }
}
