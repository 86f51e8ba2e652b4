//! The cgroup freezer, written to directly.
//!
//! CRIU freezes by itself, and then sleeps for 100 ms before it looks whether that is done (`freeze_processes`,
//! `criu/seize.c`). A cgroup that is frozen already it takes as it is; when its dump is given up, or leaves the
//! container running, it leaves the cgroup frozen as it found it.

use crate::process::Cgroups;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Why a container could not be frozen or thawed.
#[derive(Debug, thiserror::Error)]
pub enum FreezerError {
    /// The process has no cgroup with a freezer.
    #[error("process {pid} is in no cgroup with a freezer")]
    NoFreezer { pid: i32 },
    /// The kernel says no.
    #[error("cannot write {path}", path = path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A process does not stop: it sleeps in the kernel, uninterruptibly.
    #[error("some of its processes did not stop within {} s", PATIENCE.as_secs())]
    TooLong,
}

/// Freezing takes microseconds unless a process hangs in the kernel.
const PATIENCE: Duration = Duration::from_secs(10);

/// Freezes the container whose first process is `init`; returns when all its processes stand still.
pub fn freeze(init: i32) -> Result<(), FreezerError> {
    let freezer = Freezer::of(init).ok_or(FreezerError::NoFreezer { pid: init })?;
    freezer.write(true)?;
    let deadline = Instant::now() + PATIENCE;
    // The kernel tells of this only to who asks (version 1), or through a file whose events come no sooner.
    while !freezer.is_frozen() {
        if Instant::now() > deadline {
            freezer.write(false)?;
            return Err(FreezerError::TooLong);
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// Lets a container go on, whoever froze it. One that has ended is none to thaw.
pub fn thaw(init: i32) -> Result<(), FreezerError> {
    match Freezer::of(init) {
        Some(freezer) => freezer.write(false),
        None => Ok(()),
    }
}

/// Where a cgroup is frozen, by version.
enum Freezer {
    V1(PathBuf),
    V2(PathBuf),
}

impl Freezer {
    fn of(pid: i32) -> Option<Self> {
        let cgroups = Cgroups::of(pid)?;
        let v1 = cgroups.path("freezer").map(|path| Path::new("/sys/fs/cgroup/freezer").join(path));
        let v1 = v1.map(|directory| directory.join("freezer.state")).filter(|file| file.exists());
        let v2 = || {
            let directory = Path::new("/sys/fs/cgroup").join(cgroups.path("")?);
            directory.join("cgroup.freeze").exists().then_some(Self::V2(directory))
        };
        v1.map(Self::V1).or_else(v2)
    }

    fn write(&self, frozen: bool) -> Result<(), FreezerError> {
        let (path, word) = match (self, frozen) {
            (Self::V1(file), true) => (file.clone(), "FROZEN"),
            (Self::V1(file), false) => (file.clone(), "THAWED"),
            (Self::V2(directory), true) => (directory.join("cgroup.freeze"), "1"),
            (Self::V2(directory), false) => (directory.join("cgroup.freeze"), "0"),
        };
        std::fs::write(&path, word).map_err(|source| FreezerError::Write { path, source })
    }

    fn is_frozen(&self) -> bool {
        let holds = |path: &Path, word: &str| {
            std::fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line == word))
        };
        match self {
            Self::V1(file) => holds(file, "FROZEN"),
            Self::V2(directory) => holds(&directory.join("cgroup.events"), "frozen 1"),
        }
    }
}
