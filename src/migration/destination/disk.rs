//! What has come, on disk.

use crate::failure::{Failure, OrFail};
use crate::world::Context;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where Docker has its files: dockerd starts four programs to tell.
pub fn docker_root(context: &Context) -> Result<PathBuf, Failure> {
    let engine = context.docker.engine().or_fail(|| "Docker does not say where its files are".into())?;
    Ok(engine.root.into())
}

/// Returns when what has come is on disk: a loss of power does not take it any more.
pub fn write_out(context: &Context, docker_root: &Path) -> Result<(), Failure> {
    let failed = || "what has come cannot be written out".to_owned();
    for path in [docker_root, context.catalog.layout().root()] {
        let directory = File::open(path).or_fail(failed)?;
        nix::unistd::syncfs(directory).or_fail(failed)?;
    }
    Ok(())
}
