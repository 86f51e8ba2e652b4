//! Named volumes: copied while the container runs, and what has changed since once it stands still.

use crate::archive::rootfs::{self, Snapshot};
use crate::docker::Container;
use crate::failure::{Failure, OrFail};
use crate::store::Staging;
use crate::world::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashSet;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

/// A named volume of containers that move.
#[derive(Debug, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// As Docker tells it.
    pub told: Value,
    /// Where its files are.
    mountpoint: PathBuf,
    /// What the first pass has seen.
    #[serde(skip)]
    snapshot: Option<Snapshot>,
}

/// The containers' volumes, each once; refuses what can neither be sent nor be taken for the same on both hosts.
pub fn of(context: &Context, containers: &[Container]) -> Result<Vec<Volume>, Failure> {
    let mut volumes: Vec<Volume> = Vec::new();
    for (container, mount) in containers.iter().flat_map(|one| one.mounts().map(move |mount| (one, mount))) {
        let name = container.name();
        let text = |field: &str| mount[field].as_str().unwrap_or_default();
        match text("Type") {
            "volume" if volumes.iter().any(|known| known.name == text("Name")) => {}
            "volume" if text("Driver") == "local" => {
                alone(context, containers, container, text("Name"))?;
                volumes.push(volume(context, text("Name"))?);
            }
            "volume" => {
                return Err(Failure::refused(format!(
                    "{name} has the volume {} of driver {}",
                    text("Name"),
                    text("Driver")
                ))
                .remedy("only volumes of Docker's own driver `local` are moved"));
            }
            "bind" => {
                return Err(Failure::refused(format!(
                    "{name} has {} of this host mounted at {}",
                    text("Source"),
                    text("Destination")
                ))
                .remedy("keep the data in a named volume: files of the host are not moved"));
            }
            _ => {}
        }
    }
    Ok(volumes)
}

/// Another container that has it too and does not go along would stay behind with a copy.
fn alone(context: &Context, going: &[Container], container: &Container, volume: &str) -> Result<(), Failure> {
    let all = context.containers().or_fail(|| "the containers cannot be listed".into())?;
    let has_it = |other: &&Container| other.mounts().any(|mount| mount["Type"] == "volume" && mount["Name"] == volume);
    match all.iter().filter(|other| going.iter().all(|one| one.id() != other.id())).find(has_it) {
        None => Ok(()),
        Some(other) => {
            Err(Failure::refused(format!("{} and {} both use the volume {volume}", container.name(), other.name()))
                .remedy(format!("remove {} if nobody needs it", other.name())))
        }
    }
}

fn volume(context: &Context, name: &str) -> Result<Volume, Failure> {
    let told = context.docker.volume(name).or_fail(|| format!("the volume {name} cannot be looked at"))?;
    let mountpoint = told["Mountpoint"].as_str().unwrap_or_default().into();
    if told["Options"].as_object().is_some_and(|options| !options.is_empty()) {
        return Err(Failure::refused(format!("the volume {name} has options of its own: it may lie anywhere"))
            .remedy("only volumes without options are moved"));
    }
    Ok(Volume { name: name.to_owned(), told, mountpoint, snapshot: None })
}

/// The names of a volume's two files in the checkpoint, below [`crate::store::layout::EXTRA`].
pub fn files(number: usize) -> [String; 2] {
    [format!("volumes/{number}.tar"), format!("volumes/{number}-delta.tar")]
}

impl Volume {
    /// Copies it while the container runs.
    pub fn copy(&mut self, number: usize, staging: &Staging) -> Result<(), Failure> {
        let failed = || format!("the volume {} cannot be copied", self.name);
        let [base, _] = files(number);
        let file = create(staging, &base).or_fail(failed)?;
        let (_, snapshot, _) = rootfs::capture(&self.mountpoint, file).or_fail(failed)?;
        self.snapshot = Some(snapshot);
        Ok(())
    }

    /// Copies what has changed since; `always` are files whose times lie, by device and inode.
    pub fn copy_rest(&self, number: usize, staging: &Staging, always: &HashSet<(u64, u64)>) -> Result<(), Failure> {
        let failed = || format!("the volume {} cannot be copied", self.name);
        let Some(snapshot) = &self.snapshot else { return Err(Failure::new(failed())) };
        let [_, delta] = files(number);
        let file = create(staging, &delta).or_fail(failed)?;
        rootfs::capture_delta(&self.mountpoint, file, snapshot, always).map(drop).or_fail(failed)
    }
}

fn create(staging: &Staging, name: &str) -> std::io::Result<BufWriter<File>> {
    let path = staging.extra().map_err(std::io::Error::other)?.join(name);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    File::create_new(path).map(BufWriter::new)
}
