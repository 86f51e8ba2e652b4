//! Migrations that are taken up again: after the death of a helper, on request, or as a person has decided.

use super::Migrate;
use super::departures::{is_kept, kept, was_kept};
use crate::failure::{Failure, OrFail};
use crate::operations;
use crate::operations::checkpoint::Member;
use crate::saga::{self, Asked, OperationRecord};
use crate::store::{CheckpointId, ContainerId};
use crate::world::Context;
use crate::world::decisions::Decision;
use serde_json::{Value, json};

/// Brings a migration to its end; whoever calls it has the turn on its container.
pub fn go_on(context: &Context, record: &OperationRecord) -> Result<Value, Failure> {
    let operation: Migrate = operations::state(record)?;
    let ended = take_up(context, record);
    // A helper that had begun to take it back may have died over that.
    if is_kept(context, operation.id())? {
        bring_back(context, &frozen(&operation), &record.asked_by)?;
    }
    ended
}

/// The same, and what was taken back is not restored yet.
pub fn take_up(context: &Context, record: &OperationRecord) -> Result<Value, Failure> {
    let world = &context.world;
    let operation: Migrate = operations::state(record)?;
    let mut record = record.clone();
    if let Some(kept) = kept(context, operation.id())?.filter(|kept| was_kept(kept.departure)) {
        // It may run here since. That was on disk before it did; the journal may not know.
        record.state["decided"] = json!(Decision::Thaw);
        record.state["departure"] = json!(kept.departure);
    }
    saga::recover::<Migrate>(&record, context, &world.journal, &world.failpoints, context.told.as_ref())
}

/// A container that a migration freezes.
pub struct Frozen {
    name: String,
    container: ContainerId,
    checkpoint: CheckpointId,
}

/// Those of a migration.
pub fn frozen(operation: &Migrate) -> Vec<Frozen> {
    let of = |Member { name, id, checkpoint, .. }: &Member| Frozen {
        name: name.clone(),
        container: id.clone(),
        checkpoint: checkpoint.clone(),
    };
    operation.members().iter().map(of).collect()
}

/// Restores what was taken back after its processes had ended: it goes on from what was frozen.
pub fn bring_back(context: &Context, frozen: &[Frozen], asked_by: &str) -> Result<(), Failure> {
    let mut ended = Vec::new();
    for Frozen { name, container, checkpoint } in frozen {
        let claim = context.claims.find(container).or_fail(|| "the claims cannot be read".into())?;
        if claim.is_some_and(|claim| claim.checkpoint == *checkpoint && claim.departed_to.is_none()) {
            // It is refused as one that runs until Docker has heard of their end.
            let stopped = context.docker.wait_until_stopped(container.as_str());
            stopped.or_fail(|| format!("{name} has ended, and Docker does not say so"))?;
            ended.push(checkpoint.clone());
        }
    }
    match ended.is_empty() {
        true => Ok(()),
        false => operations::restore::members(context, &ended, Asked::by(asked_by)).map(drop),
    }
}
