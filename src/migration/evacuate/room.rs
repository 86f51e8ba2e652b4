//! How much a host can take in, as a peer asks for it that moves containers to it.

use crate::failure::{Failure, OrFail};
use crate::migration::asking;
use crate::migration::destination::admit;
use crate::operations::persist;
use crate::world::{Context, World};
use serde::{Deserialize, Serialize};

/// What is left to the host's own, whatever comes.
const RESERVE: u64 = 64 << 20;

/// What is free.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Room {
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes where checkpoints are stored.
    pub store_bytes: u64,
}

impl Room {
    /// Whether processes with so much memory, and the checkpoint that brings them, find room.
    pub fn has(&self, memory: u64) -> bool {
        let needed = memory.saturating_add(RESERVE);
        self.memory_bytes >= needed && self.store_bytes >= needed
    }

    /// They have come. Their checkpoint goes again; that room is the next one's.
    pub fn take(&mut self, memory: u64) {
        self.memory_bytes = self.memory_bytes.saturating_sub(memory);
    }
}

/// This host's, for a peer that may bring containers.
pub fn for_peer(context: &Context, peer: &str) -> Result<Room, Failure> {
    admit::may(context, peer)?;
    here(context)
}

/// This host's.
pub fn here(world: &World) -> Result<Room, Failure> {
    let failed = || "what is free there cannot be looked at".to_owned();
    let text = std::fs::read_to_string("/proc/meminfo").or_fail(failed)?;
    let available = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"));
    let kib: u64 = available.and_then(|kib| kib.trim().parse().ok()).ok_or_else(|| Failure::new(failed()))?;
    Ok(Room { memory_bytes: kib << 10, store_bytes: world.catalog.free_bytes().or_fail(failed)? })
}

/// A peer's.
pub fn of_peer(peer: &str) -> Result<Room, Failure> {
    let told = asking::peer(peer).get("/v1/room");
    told.map_err(|error| persist::failed(&error, format!("{peer} does not say how much it can take in")).as_refusal())
}
