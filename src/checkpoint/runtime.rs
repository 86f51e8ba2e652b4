//! The runc that runs Docker's containers, and where it keeps their state.

use std::path::{Path, PathBuf};

/// Below these, each runtime has a directory `runtime-NAME/moby` (dockerd's `--exec-root`).
const EXEC_ROOTS: [&str; 2] = ["/run/docker", "/var/run/docker"];

/// runc as Docker's shim calls it for one container.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// What goes to `--root`.
    pub root: PathBuf,
}

impl Runtime {
    /// The state directory that knows the container; `None` where no runc of Docker's runs it.
    pub fn of(container: &str) -> Option<Self> {
        EXEC_ROOTS.iter().find_map(|root| {
            let runtimes = std::fs::read_dir(root).ok()?;
            let mut roots = runtimes.flatten().map(|entry| entry.path().join("moby"));
            roots.find(|root| root.join(container).join("state.json").is_file()).map(|root| Self { root })
        })
    }

    /// The container's state directory.
    pub fn state(&self, container: &str) -> PathBuf {
        self.root.join(container)
    }
}

/// Whether a path can be given to runc and CRIU as it is.
pub fn is_plain(path: &Path) -> bool {
    path.is_absolute() && path.to_str().is_some_and(|text| !text.contains(['\n', '\0']))
}
