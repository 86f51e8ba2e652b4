//! What two helpers say to each other about a container that moves; the bodies of requests below `/v1/arrivals/ID`.
//!
//! | request | what the destination does |
//! | --- | --- |
//! | `POST expect` [`Offer`] | looks whether it can take it, and says whether it lacks the image: [`Welcome`] |
//! | `PUT image` | loads the image from the body |
//! | `POST prepare` | makes networks, volumes and the container, stopped |
//! | `PUT files/PATH?length=BYTES` | keeps a file of the checkpoint |
//! | `POST restore` [`Sealed`] | verifies, restores, leaves it stopped: [`Standing`] |
//! | `POST sync` | has everything that came on disk: the source deletes what it has |
//! | `POST commit`, `POST drop`, `GET standing` | as the handover has it: [`Standing`] |
//!
//! The destination asks the source `GET /v1/departures/ID/standing` when it has heard nothing for long.

use crate::handover::Arrival;
use crate::network::forward::Link;
use crate::store::manifest::Origin;
use crate::store::{CheckpointId, ContainerId};
use crate::transport::protocol::Problem;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A container that would like to come.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// What `docker inspect` says of it.
    pub inspect: Value,
    /// The networks that it is in, as Docker tells them, besides Docker's own.
    pub networks: Vec<Value>,
    /// Its named volumes, as Docker tells them.
    pub volumes: Vec<Value>,
    /// The host that it comes from.
    pub origin: Origin,
    /// How the two hosts reach each other.
    pub link: Link,
}

/// It may come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Welcome {
    /// Whether its image has to be sent.
    pub lacks_image: bool,
}

/// All of the checkpoint is there.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The manifest, byte for byte.
    pub manifest: String,
}

/// Where the destination stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Standing {
    /// As the handover has it.
    pub arrival: Arrival,
    /// The container there, once there is one.
    pub container: Option<ContainerId>,
    /// The host's boot, as `/proc/sys/kernel/random/boot_id` has it.
    pub boot: String,
    /// Why it could not be restored.
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
