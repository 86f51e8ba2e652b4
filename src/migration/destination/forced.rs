//! What a person decides by force about a migration that comes here (I3).

use super::arrivals::{keep, standing_on_disk};
use super::said::HEARING;
use super::{Arrive, go_on, of_source};
use crate::failure::Failure;
use crate::handover::{Arrival, Request, arrival};
use crate::migration::forced;
use crate::operations;
use crate::saga::{OperationRecord, Phase};
use crate::world::Context;
use crate::world::decisions::Decision;
use crate::world::visits::Word;
use serde_json::json;

/// Whether a person can decide this about a migration that comes here.
pub fn can_be(context: &Context, record: &OperationRecord, decision: Decision) -> Result<Arrive, Failure> {
    let operation: Arrive = operations::state(record)?;
    let (name, peer) = (operation.name(), &operation.peer);
    match (decision, standing_on_disk(context, &operation.id)?) {
        (Decision::Thaw | Decision::End, _) => {
            Err(Failure::usage(format!("{name} comes to this host: it is let run or dropped here")))
        }
        (Decision::Run | Decision::Drop, Arrival::Restored | Arrival::Released) => Ok(operation),
        (_, Arrival::Running) => Err(Failure::refused(format!("{name} runs here, as any container"))),
        (_, other) => Err(Failure::refused(format!("{peer} has not sent all of {name}, or it is gone: {other:?}"))),
    }
}

/// What a decision can cost, by what the source says now; nothing where that is nothing.
pub fn risk(context: &Context, record: &OperationRecord, decision: Decision) -> Result<Option<String>, Failure> {
    let operation = can_be(context, record, decision)?;
    let (name, peer) = (operation.name(), &operation.peer);
    Ok(match (decision, of_source::decided(peer, &operation.id)) {
        (Decision::Run, Ok(Some(Request::Commit))) | (Decision::Drop, Ok(Some(Request::Drop) | None)) => None,
        (Decision::Run, Ok(Some(_))) => Some(format!("{peer} has kept {name}, which runs there: two would run")),
        (Decision::Run, Ok(None)) => {
            Some(format!("{peer} has not given {name} away yet: it may still keep it, and then two run"))
        }
        (Decision::Run, Err(error)) => Some(format!(
            "{peer} cannot be asked ({error}); if {name} goes on there, two run, and their files differ from then on"
        )),
        (_, Ok(_)) => Some(format!(
            "{peer} has given {name} away: it would run nowhere until it is brought back there, with: transship decide OPERATION thaw"
        )),
        (_, Err(error)) => {
            Some(format!("{peer} cannot be asked ({error}): this may be the only copy of {name} that is left"))
        }
    })
}

/// Carries a decision out: by whoever is at work on the migration, or else here.
pub fn decide(context: &Context, record: OperationRecord, decision: Decision) -> Result<(), Failure> {
    let operation = can_be(context, &record, decision)?;
    let event = match decision {
        Decision::Run => arrival::Event::ForceRun,
        _ => arrival::Event::ForceDrop,
    };
    let tell = || {
        if let Some(visit) = context.visits.get(&operation.id) {
            visit.say(Word::Forced(event), HEARING);
        }
    };
    let (turn, was_told) = forced::turn_after(context, operation.names(), tell)?;
    if !was_told {
        // Whoever had the turn until now may have brought it to its end.
        let mut record = operations::open_record(context, record.id)?;
        can_be(context, &record, decision)?;
        record.state["decided"] = json!(decision);
        let next = standing_on_disk(context, &operation.id)?.on(event).next;
        keep(context, &operation.peer, &operation.id, next)?;
        if let Err(failure) = go_on(context, &record) {
            tracing::info!(operation = record.id, %failure, "a decision is carried out");
        }
    }
    drop(turn);
    forced::ended(context, record.id, if decision == Decision::Run { Phase::Done } else { Phase::Undone })
}
