//! Package files on disk that belong together, with digests.

use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

use super::error::{PackageError, Result};

/// A package's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// The package's name, with the architecture where that is not the host's.
    pub package: String,
    /// Its full version.
    pub version: String,
    /// The name of the file, in the directory of the set.
    pub file: String,
    /// The size of the file in bytes.
    pub bytes: u64,
    /// BLAKE3 of the file, as hexadecimal digits.
    pub digest: String,
}

/// What is to be installed together, and what is to go: one way of a [`Fetched`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageSet {
    /// Where the files are.
    pub directory: PathBuf,
    /// Each package that the set installs.
    pub archives: Vec<Archive>,
    /// The packages that go.
    pub removed: Vec<String>,
    /// Which of `archives` the manager may remove once nothing needs them.
    pub automatic: Vec<String>,
    /// Whether this is the way back: packages may become older, and holds do not bar it.
    pub way_back: bool,
}

/// Both ways, on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// To the plan's target.
    pub forward: PackageSet,
    /// Back to what was installed when the plan was made.
    pub backward: PackageSet,
}

impl Fetched {
    /// The way back from where these have led: what was the way back leads forward.
    pub fn reversed(self) -> Self {
        Self {
            forward: PackageSet { way_back: false, ..self.backward },
            backward: PackageSet { way_back: true, ..self.forward },
        }
    }
}

impl Fetched {
    /// Reads every file of both ways in full and compares it with what was fetched.
    ///
    /// # Errors
    /// [`PackageError::Digest`] for the first that differs.
    pub fn verify(&self) -> Result<()> {
        self.forward.verify().and_then(|()| self.backward.verify())
    }
}

impl PackageSet {
    /// The whole path of an archive of this set.
    pub fn path(&self, archive: &Archive) -> PathBuf {
        self.directory.join(&archive.file)
    }

    /// The version that the package has in this set.
    pub(super) fn version_of(&self, package: &str) -> Option<&str> {
        self.archives.iter().find(|archive| archive.package == package).map(|archive| archive.version.as_str())
    }

    /// Reads every file in full and compares it with what was fetched.
    pub(super) fn verify(&self) -> Result<()> {
        for archive in &self.archives {
            let path = self.path(archive);
            let (bytes, digest) = measure(&path)?;
            if (bytes, digest) != (archive.bytes, archive.digest.clone()) {
                return Err(PackageError::Digest { path });
            }
        }
        Ok(())
    }
}

/// The size of a file in bytes, and its digest.
pub(super) fn measure(path: &Path) -> Result<(u64, String)> {
    let read = || -> io::Result<_> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_mmap(path)?;
        Ok((hasher.count(), hasher.finalize().to_hex().to_string()))
    };
    read().map_err(PackageError::io("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_changed_after_it_was_fetched_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runc.deb");
        std::fs::write(&path, "as fetched").unwrap();
        let (bytes, digest) = measure(&path).unwrap();
        let archive = Archive { package: "runc".into(), version: "1".into(), file: "runc.deb".into(), bytes, digest };
        let set = PackageSet {
            directory: dir.path().into(),
            archives: vec![archive],
            removed: vec![],
            automatic: vec![],
            way_back: false,
        };
        set.verify().unwrap();
        std::fs::write(&path, "as fetcheD").unwrap();
        assert!(matches!(set.verify(), Err(PackageError::Digest { .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(set.verify(), Err(PackageError::Io { .. })));
    }
}
