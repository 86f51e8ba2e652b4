//! What two helpers say to each other about containers that move together; the bodies of requests below `/v1/arrivals/ID`.
//!
//! | request | what the destination does |
//! | --- | --- |
//! | `POST expect` [`Offer`] | looks whether it can take them, and says which images it lacks: [`Welcome`] |
//! | `PUT image` | loads an image from the body |
//! | `POST prepare` | makes networks, volumes and the containers, stopped |
//! | `PUT files/CHECKPOINT/PATH?length=BYTES` | keeps a file of one of the checkpoints |
//! | `POST restore` [`Sealed`] | verifies, restores, leaves it stopped: [`Standing`] |
//! | `POST sync` | has everything that came on disk: the source deletes what it has |
//! | `POST commit`, `POST drop`, `GET standing` | as the handover has it: [`Standing`] |
//!
//! The destination asks the source `GET /v1/departures/ID/standing` when it has heard nothing for long.

use crate::docker::Container;
use crate::handover::Arrival;
use crate::network::forward::Link;
use crate::store::manifest::Origin;
use crate::store::{CheckpointId, ContainerId};
use crate::transport::protocol::Problem;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a migration makes bears its id: what somebody else has made under the same name meanwhile is not taken for it.
pub const LABEL: &str = "transship.migration";

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
    /// The host that they come from.
    pub origin: Origin,
    /// How the two hosts reach each other.
    pub link: Link,
}

/// One of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coming {
    /// The checkpoint that brings it.
    pub checkpoint: CheckpointId,
    /// What `docker inspect` says of it.
    pub inspect: Value,
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
    /// The images that have to be sent, by their content's ids.
    pub lacks_images: Vec<String>,
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
}

/// Where a destination asks what the source has decided.
pub fn departure_path(id: &CheckpointId) -> String {
    format!("/v1/departures/{id}/standing")
}

/// Everything that came is on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Synced {
    /// The host's boot.
    pub boot: String,
}

/// The path of a request about a migration.
pub fn path(id: &CheckpointId, request: &str) -> String {
    format!("/v1/arrivals/{id}/{request}")
}
