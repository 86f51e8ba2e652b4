//! What two helpers say to each other about containers that move together; the bodies of requests below `/v1/arrivals/ID`.
//!
//! | request | what the destination does |
//! | --- | --- |
//! | `POST expect` [`Offer`] | looks whether it can take them, and says which images it lacks: [`Welcome`] |
//! | `POST pull` [`Pull`] | has its own engine pull an image, and says how far it is: [`Pulled`] |
//! | `POST layers` [`Layers`] | says how many of an image's layers it has: [`LayersThere`] |
//! | `PUT image?of=ID` | loads that image from the body |
//! | `POST prepare` | makes networks, volumes and the containers, stopped; says what has to end first: [`Prepared`] |
//! | `PUT files/CHECKPOINT/PATH?from=BYTES&length=BYTES` | keeps a file of one of the checkpoints; `GET` says how much of it is there |
//! | `POST restore` [`Sealed`] | verifies, restores, leaves it stopped: [`Standing`] |
//! | `POST sync` | has everything that came on disk: the source deletes what it has |
//! | `POST commit`, `POST drop`, `GET standing` | as the handover has it: [`Standing`] |
//!
//! The destination asks the source `GET /v1/departures/ID/standing` when it has heard nothing for long, and
//! `POST /v1/departures/ID/pages` for memory that follows ([`crate::pager::words`]).

use crate::docker::Container;
use crate::handover::Arrival;
use crate::network::ways::Link;
use crate::pager::Told;
use crate::store::manifest::Origin;
use crate::store::{CheckpointId, ContainerId};
use crate::transport::client::Compress;
use crate::transport::protocol::Problem;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

/// How long restoring may take there. The container stands still meanwhile, and goes on here when it is over.
pub const RESTORE: Duration = Duration::from_secs(600);

/// How long making networks, volumes and the container may take there, and writing all of it out.
pub const PREPARE: Duration = Duration::from_secs(900);

/// Containers that would like to come.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// The containers. Whoever uses another's network comes after it. The first one's checkpoint is the migration's id, and
    /// brings the volumes' files.
    pub members: Vec<Coming>,
    /// The networks that they are in, as Docker tells them, besides Docker's own.
    pub networks: Vec<Value>,
    /// Their named volumes, as Docker tells them.
    pub volumes: Vec<Value>,
    /// What they have mounted of their host.
    pub binds: Vec<Bind>,
    /// The host that they come from.
    pub origin: Origin,
    /// How the two hosts reach each other.
    pub link: Link,
    /// What it takes to run them.
    pub needs: Needs,
    /// What programs may rely on of the processor: CRIU's `cpuinfo.img` in base64, where there is one.
    pub processor: Option<String>,
    /// How their memory follows, where it does not come with the checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Following>,
}

/// A path of the source's host that containers have mounted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// On either host.
    pub path: PathBuf,
    /// Whether its files come along with the first one's checkpoint; else they are there already.
    pub is_brought: bool,
}

/// How memory travels that follows.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Following {
    /// How hard it is compressed.
    pub compress: Compress,
    /// How many bytes a second may come.
    pub rate: Option<NonZeroU64>,
}

/// Room that containers take, in bytes.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// Of memory.
    pub memory: u64,
    /// Of disk, for their checkpoints.
    pub disk: u64,
}

/// One of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coming {
    /// The checkpoint that brings it.
    pub checkpoint: CheckpointId,
    /// What `docker inspect` says of it.
    #[serde(deserialize_with = "inspected")]
    pub inspect: Value,
}

/// What can be read and changed as `docker inspect`'s words on a container.
fn inspected<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Value, D::Error> {
    let inspect = Value::deserialize(from)?;
    let has_fields = |value: &Value| value.is_object() || value.is_null();
    let parts = ["", "/Config", "/HostConfig", "/State", "/NetworkSettings", "/NetworkSettings/Networks"];
    let endpoints = inspect.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    let mut all = parts
        .into_iter()
        .filter_map(|part| inspect.pointer(part))
        .chain(endpoints.into_iter().flat_map(|of| of.values()));
    match all.all(has_fields) {
        true => Ok(inspect),
        false => Err(serde::de::Error::custom("this is not what Docker says of a container")),
    }
}

impl Coming {
    /// The container as it is where it comes from.
    pub fn container(&self) -> Container {
        Container::new(self.inspect.clone())
    }
}

/// They may come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Welcome {
    /// The images that have to come, by their content's ids.
    pub lacks_images: Vec<String>,
    /// Whether it can be asked to pull them.
    #[serde(default)]
    pub pulls_images: bool,
}

/// An image that the destination may find at its registry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pull {
    /// Its content's id.
    pub image: String,
    /// What it is called there, with the digest of what is kept there: `web@sha256:…`.
    pub reference: String,
}

/// How far that is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pulled {
    /// So many bytes have come, of those layers that have begun to.
    UnderWay { done: u64, total: u64 },
    /// The image is there.
    Here,
    /// It has to be sent.
    Failed(Problem),
}

/// The layers of an image, from the lowest up.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layers {
    /// Their content's digests, as `sha256:…`.
    pub layers: Vec<String>,
}

/// How many of them need not be sent.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct LayersThere {
    /// So many of the lowest.
    pub there: usize,
}

/// They are made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Prepared {
    /// They are not yet, and this has to end first: the source asks again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

/// All of the checkpoints is there.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The manifests, byte for byte, in the order of the offer.
    pub manifests: Vec<String>,
}

/// Where the destination stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Standing {
    /// As the handover has it.
    pub arrival: Arrival,
    /// The containers there, once there are some, in the order of the offer.
    pub containers: Vec<ContainerId>,
    /// The host's boot, as `/proc/sys/kernel/random/boot_id` has it.
    pub boot: String,
    /// Why they could not be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// They run, and so much of their memory is still to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Told>,
}

/// Where a destination asks what the source has decided.
pub fn departure_path(id: &CheckpointId) -> String {
    format!("/v1/departures/{id}/standing")
}

/// Where a destination asks for pages that are to follow.
pub fn pages_path(id: &CheckpointId) -> String {
    format!("/v1/departures/{id}/pages")
}

/// How much of a file has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Here {
    /// Bytes from its beginning, as long as it is not whole.
    pub bytes: u64,
    /// Whether it is on disk, where it belongs.
    pub is_whole: bool,
}

/// What is there of everything that came is on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Synced {
    /// The host's boot.
    pub boot: String,
    /// Whether all that came is, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_whole: Option<bool>,
}

/// The path of a request about a migration.
pub fn path(id: &CheckpointId, request: &str) -> String {
    format!("/v1/arrivals/{id}/{request}")
}

/// The path of a body of pages, which has a number of its own: whoever asks how much of it has come says which one is meant, and
/// takes no more of it in.
pub fn body_path(id: &CheckpointId, what: &str, number: u64) -> String {
    path(id, &format!("{what}?body={number}"))
}

/// Numbers for bodies of pages, each higher than the one before.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bodies(u64);

impl Bodies {
    /// One more.
    pub fn another(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What a peer says is changed in these places.
    #[test]
    fn what_docker_would_not_say_of_a_container_is_refused() {
        let said = json!({
            "Config": {}, "HostConfig": {}, "State": null, "NetworkSettings": { "Networks": { "bridge": {}, "none": null } },
        });
        let coming = |inspect: &Value| {
            serde_json::from_value::<Coming>(json!({ "checkpoint": "0123456789abcdef", "inspect": inspect }))
        };
        assert!(coming(&said).is_ok(), "{:?}", coming(&said));
        assert!(coming(&json!(6)).is_err());
        let all = ["/Config", "/HostConfig", "/State", "/NetworkSettings", "/NetworkSettings/Networks"];
        for part in all.into_iter().chain(["/NetworkSettings/Networks/bridge"]) {
            for other in [json!(6), json!([]), json!("x")] {
                let mut wrong = said.clone();
                *wrong.pointer_mut(part).unwrap() = other;
                assert!(coming(&wrong).is_err(), "{wrong}");
            }
        }
    }
}
