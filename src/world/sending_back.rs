//! How far containers are that a peer wants back.

use super::cancels::Cancellable;
use crate::transport::protocol::Problem;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Those of one migration.
#[derive(Debug, Clone)]
pub struct Returning {
    /// How far they are.
    pub standing: SendingBack,
    /// By what the peer has them kept here.
    pub cancel: Arc<Cancellable>,
}

/// How far this host has come with it; also what it answers the peer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SendingBack {
    /// They are here, and nobody is at sending them.
    Idle,
    /// They are on their way.
    UnderWay,
    /// They run where they have come from.
    Sent,
    /// They have not left.
    Failed(Problem),
    /// There are none of that migration here.
    NotHere,
}
