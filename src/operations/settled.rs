//! What follows when restored containers run again and everything of theirs is put back.

use super::checkpoint::Checkpoint;
use super::restore::Restore;
use super::{pack, state};
use crate::saga::{Journal, JournalError, Operation, OperationRecord, Phase, is_past_commit};
use crate::world::World;
use serde_json::json;
use std::sync::Arc;

/// Their checkpoints may be compressed now, and an operation that stopped half way past its commit is seen to.
pub fn containers(world: &Arc<World>) {
    pack::begin(world);
    if let Err(error) = close_what_is_seen_to(world, &world.journal) {
        tracing::warn!(%error, "the journal could not be tidied");
    }
}

fn close_what_is_seen_to(world: &World, journal: &Journal) -> Result<(), JournalError> {
    for record in journal.needing_a_person()?.iter().filter(|record| is_seen_to(world, record)) {
        tracing::info!(operation = record.id, "its containers were restored since; nothing is left to decide");
        journal.end(record.id, Phase::Done, &json!({ "seen_to": "its containers were restored since" }))?;
    }
    Ok(())
}

fn is_seen_to(world: &World, record: &OperationRecord) -> bool {
    match record.kind.as_str() {
        Checkpoint::KIND => state(record)
            .is_ok_and(|operation: Checkpoint| is_past_commit(&operation, record) && operation.is_seen_to(world)),
        Restore::KIND => state(record).is_ok_and(|operation: Restore| operation.is_seen_to(world)),
        _ => false,
    }
}
