//! Named volumes.

use crate::docker::Container;
use crate::failure::{Failure, OrFail};
use crate::migration::tree::Tree;
use crate::world::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A named volume of containers that move.
#[derive(Debug, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// As Docker tells it.
    pub told: Value,
    /// Its files.
    pub tree: Tree,
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
    let tree = Tree::of(told["Mountpoint"].as_str().unwrap_or_default().into());
    if told["Options"].as_object().is_some_and(|options| !options.is_empty()) {
        return Err(Failure::refused(format!("the volume {name} has options of its own: it may lie anywhere"))
            .remedy("only volumes without options are moved"));
    }
    Ok(Volume { name: name.to_owned(), told, tree })
}
