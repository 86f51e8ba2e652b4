//! What has come, on disk.

use crate::failure::{Failure, OrFail};
use crate::world::Context;
use std::fs::File;
use std::path::Path;

/// Returns when what has come is on disk: a loss of power does not take it any more.
pub fn write_out(context: &Context) -> Result<(), Failure> {
    let failed = || "what has come cannot be written out".to_owned();
    let root = context.docker.engine().or_fail(failed)?.root;
    for path in [Path::new(&root), context.catalog.layout().root()] {
        let directory = File::open(path).or_fail(failed)?;
        nix::unistd::syncfs(directory).or_fail(failed)?;
    }
    Ok(())
}
