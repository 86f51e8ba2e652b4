//! What a person decides by force about a migration from here (I3).

use super::departures::keep;
use super::recovery::{bring_back, frozen, take_up};
use super::{Migrate, talk};
use crate::failure::Failure;
use crate::handover::{Arrival, Departure, Request};
use crate::migration::forced;
use crate::operations;
use crate::saga::{Operation, OperationRecord, Phase};
use crate::world::Context;
use crate::world::decisions::Decision;
use serde_json::json;
use std::time::Duration;

/// Whether a person can decide this about a migration from here.
pub fn can_be(context: &Context, record: &OperationRecord, decision: Decision) -> Result<Migrate, Failure> {
    let operation: Migrate = operations::state(record)?;
    let (name, peer) = (operation.name(), &operation.peer);
    if !matches!(decision, Decision::Thaw | Decision::End) {
        return Err(Failure::usage(format!("{name} leaves this host: it is thawed or ended here")));
    }
    if !operation.has_committed(context) {
        return Err(Failure::refused(format!("{name} was not given to {peer}: whatever fails leaves it running here"))
            .remedy(format!("transship resume {}", record.id)));
    }
    let ends = operation.steps().iter().position(|step| step.name == "stop").unwrap_or_default();
    match decision == Decision::Thaw && record.step >= ends {
        true => Err(Failure::refused(format!("{peer} has said that {name} runs there"))),
        false => Ok(operation),
    }
}

/// What a decision can cost, by what the destination says now; nothing where that is nothing.
pub fn risk(context: &Context, record: &OperationRecord, decision: Decision) -> Result<Option<String>, Failure> {
    let operation = can_be(context, record, decision)?;
    let (name, peer) = (operation.name(), operation.peer.as_str());
    let says = talk::say(peer, operation.id(), Request::Ask);
    Ok(match (decision, says.map(|standing| standing.arrival)) {
        (Decision::Thaw, Ok(Arrival::Dropped)) | (Decision::End, Ok(Arrival::Running)) => None,
        (Decision::Thaw, Ok(Arrival::Lost)) => {
            Some(format!("{name} may have run on {peer} before it was lost there: its clients are taken back in time"))
        }
        (Decision::Thaw, Ok(Arrival::Running | Arrival::Released)) => {
            Some(format!("{name} runs on {peer}: two would run"))
        }
        (Decision::Thaw, Ok(Arrival::Restored)) => {
            Some(format!("{peer} answers and is about to let {name} run: transship resume {} is enough", record.id))
        }
        (Decision::Thaw, Ok(Arrival::Expecting)) => Some(format!(
            "{peer} does not remember {name}, and may have let it run: then its clients are taken back in time"
        )),
        (Decision::Thaw, Err(error)) => Some(format!(
            "{peer} cannot be asked ({error}); if {name} runs there, or comes to run there, two run, and their files differ from then on"
        )),
        (_, Ok(Arrival::Dropped | Arrival::Lost)) => Some(format!(
            "{peer} has no copy of {name}: it would run nowhere until it is restored from its checkpoint here"
        )),
        (_, Ok(_)) => Some(format!("{name} does not run on {peer} yet")),
        (_, Err(error)) => Some(format!("{peer} cannot be asked ({error}): {name} may run nowhere afterwards")),
    })
}

/// Carries a decision out: by whoever is at work on the migration, or else here.
pub fn decide(context: &Context, record: OperationRecord, decision: Decision, asked_by: &str) -> Result<(), Failure> {
    let operation: Migrate = operations::state(&record)?;
    let tell = || context.decisions.leave(operation.id(), decision);
    let turn = forced::turn_after(context, operation.names(), tell);
    // Where nobody has heard it nobody may hear it later: whoever decided is told that it was not carried out, or it is here.
    let is_left = context.decisions.wait(operation.id(), Duration::ZERO).is_some();
    let (_turn, was_told) = turn?;
    let wanted = if decision == Decision::Thaw { Phase::Undone } else { Phase::Done };
    // The destination may have said meanwhile what leads to the same.
    let is_so = || forced::ended(context, record.id, wanted).is_ok();
    if (!was_told || is_left) && !is_so() {
        carry_out(context, record.id, decision)?;
    }
    if decision == Decision::Thaw {
        bring_back(context, &frozen(&operation), asked_by)?;
    }
    forced::ended(context, record.id, wanted)
}

/// Carries a decision out on a migration that nobody works on; whoever calls it has the turn on its container.
fn carry_out(context: &Context, operation: i64, decision: Decision) -> Result<(), Failure> {
    // Whoever had the turn until now may have brought it to its end.
    let mut record = operations::open_record(context, operation)?;
    let migrate = can_be(context, &record, decision)?;
    if decision == Decision::Thaw {
        // Before anything runs here: a loss of power must not leave that it was given away and nothing else.
        keep(context, &migrate, Departure::GivenUp)?;
    }
    record.state["decided"] = json!(decision);
    if let Err(failure) = take_up(context, &record) {
        tracing::info!(operation = record.id, %failure, "a decision is carried out");
    }
    Ok(())
}
