//! What is told of a migration's rounds.

use serde::{Deserialize, Serialize};

/// One look at all memory of containers that migrate, while they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// Its number, from 1.
    pub number: usize,
    /// Bytes that were looked at.
    pub memory_bytes: u64,
    /// Bytes of it that the peer lacked, and has now.
    pub sent_bytes: u64,
    /// Bytes that change in a second; not known in the first round.
    pub dirty_bytes_per_s: Option<u64>,
    /// For how long they would be away if they were frozen now; not known in the first round.
    pub expected_downtime_us: Option<u64>,
}
