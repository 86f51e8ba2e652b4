//! What programs may rely on of a host's processor, as CRIU tells and compares it.
//!
//! A program that has found an instruction once goes on using it. CRIU refuses on the destination what lacks one, but only
//! when everything has been sent and the container stands still.

use crate::criu::error::CriuError;
use crate::criu::rpc::Criu;
use crate::failure::{Failure, OrFail};
use crate::store::CheckpointId;
use crate::world::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::path::{Path, PathBuf};

/// CRIU's name for the file.
const FILE: &str = "cpuinfo.img";

/// This host's, to be compared on another one; none where CRIU does not know this kind of processor.
pub fn features(context: &Context) -> Result<Option<String>, Failure> {
    let failed = || "what this processor has cannot be told".to_owned();
    let directory = Directory::make(context).or_fail(failed)?;
    let dumped = Criu::in_path().and_then(|criu| criu.cpuinfo_dump(&directory.0));
    if let Err(CriuError::Failed { .. }) = dumped {
        return Ok(None);
    }
    dumped.or_fail(failed)?;
    Ok(Some(STANDARD.encode(std::fs::read(directory.0.join(FILE)).or_fail(failed)?)))
}

/// Refuses where this host's lacks something of `features`, which another host has told.
pub fn require(context: &Context, features: &str) -> Result<(), Failure> {
    let failed = || "what the processors have cannot be compared".to_owned();
    let features = STANDARD.decode(features).or_fail(failed)?;
    let directory = Directory::make(context).or_fail(failed)?;
    std::fs::write(directory.0.join(FILE), features).or_fail(failed)?;
    match Criu::in_path().and_then(|criu| criu.cpuinfo_check(&directory.0)) {
        Err(CriuError::Failed { message, .. }) => {
            Err(Failure::refused(format!("the processor there lacks what programs may be using here: {message}"))
                .remedy("choose a host with a processor of the same kind, or a newer one; for virtual machines, give both the same model"))
        }
        other => other.or_fail(failed),
    }
}

/// A directory of its own, which goes with this.
struct Directory(PathBuf);

impl Directory {
    fn make(context: &Context) -> std::io::Result<Self> {
        let number = CheckpointId::random().map_err(std::io::Error::other)?;
        let path = context.catalog.layout().tmp().join(format!("processor-{number}"));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let path: &Path = &self.0;
        if let Err(error) = std::fs::remove_dir_all(path) {
            tracing::warn!(path = %path.display(), %error, "a directory could not be removed");
        }
    }
}
