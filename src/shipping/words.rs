//! What is said about checkpoints that travel.

use crate::store::CheckpointId;
use crate::transport::client::Compress;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::num::NonZeroU64;

/// What a peer may fetch.
#[derive(Debug, Serialize, Deserialize)]
pub struct Shared {
    /// As `ls` has them.
    pub checkpoints: Vec<Value>,
}

/// How a checkpoint travels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Way {
    /// How hard what is sent is compressed; chosen by what is measured where there is none.
    #[serde(default)]
    pub compress: Option<Compress>,
    /// How many bytes a second are sent.
    #[serde(default)]
    pub rate: Option<NonZeroU64>,
}

/// Where a checkpoint stands that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// So many bytes of so many are there.
    UnderWay { done: u64, total: u64 },
    /// It is there in whole, and verified.
    Here,
}

/// The path of a question about a checkpoint that was shared.
pub fn shared(id: &CheckpointId, what: &str) -> String {
    format!("/v1/shared/{id}/{what}")
}

/// The path of a question about one that is offered.
pub fn offer(id: &CheckpointId) -> String {
    format!("/v1/offers/{id}")
}
