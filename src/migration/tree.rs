//! A directory that travels: copied while the containers run, and what has changed since once they stand still.

use crate::archive::rootfs::{self, Snapshot};
use crate::failure::{Failure, OrFail};
use crate::store::Staging;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

/// The directories of a checkpoint for trees of volumes, and of what is mounted of the host.
pub const VOLUMES: &str = "volumes";
pub const BINDS: &str = "binds";

/// The directory.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tree {
    root: PathBuf,
    /// What the first pass has seen.
    #[serde(skip)]
    snapshot: Option<Snapshot>,
}

/// The names of a tree's two files in the checkpoint, below [`crate::store::layout::EXTRA`].
pub fn files(kind: &str, number: usize) -> [String; 2] {
    [format!("{kind}/{number}.tar"), format!("{kind}/{number}-delta.tar")]
}

impl Tree {
    /// Nothing is copied yet.
    pub fn of(root: PathBuf) -> Self {
        Self { root, snapshot: None }
    }

    /// Copies it while the containers run.
    pub fn copy(&mut self, [base, _]: &[String; 2], staging: &Staging) -> Result<(), Failure> {
        let failed = || format!("{} cannot be copied", self.root.display());
        let file = create(staging, base).or_fail(failed)?;
        let (_, snapshot, _) = rootfs::capture(&self.root, file).or_fail(failed)?;
        self.snapshot = Some(snapshot);
        Ok(())
    }

    /// Copies what has changed since; `always` are files whose times lie, by device and inode.
    pub fn copy_rest(
        &self,
        [_, delta]: &[String; 2],
        staging: &Staging,
        always: &HashSet<(u64, u64)>,
    ) -> Result<(), Failure> {
        let failed = || format!("{} cannot be copied", self.root.display());
        let Some(snapshot) = &self.snapshot else { return Err(Failure::new(failed())) };
        let file = create(staging, delta).or_fail(failed)?;
        rootfs::capture_delta(&self.root, file, snapshot, always).map(drop).or_fail(failed)
    }
}

fn create(staging: &Staging, name: &str) -> std::io::Result<BufWriter<File>> {
    let path = staging.extra().map_err(std::io::Error::other)?.join(name);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    File::create_new(path).map(BufWriter::new)
}
