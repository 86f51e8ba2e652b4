//! `status` and `history`: what is going on, and what was done.

use crate::failure::{Failure, OrFail};
use crate::migration::decide;
use crate::saga::OperationRecord;
use crate::services::{Interposition, effective_runc};
use crate::world::Context;
use serde_json::{Value, json};

/// What is frozen, what is under way, what waits for a person.
pub fn run(context: &Context) -> Result<Value, Failure> {
    let unfinished = context.journal.unfinished().or_fail(|| "the journal cannot be read".into())?;
    let waiting = context.journal.needing_a_person().or_fail(|| "the journal cannot be read".into())?;
    let frozen =
        context.claims.all().into_iter().filter(|claim| !context.placeholders.has(&claim.container)).map(|claim| {
            let name = context.catalog.get(&claim.checkpoint).map(|found| found.manifest().container.name.clone());
            json!({
                "container": name.unwrap_or_else(|_| claim.container.to_string()),
                "checkpoint": claim.checkpoint,
                "held": context.holds.has(&claim.container),
                "departed_to": claim.departed_to,
            })
        });
    let interposer = match effective_runc() {
        Interposition::Interposed => "in front of runc".to_owned(),
        Interposition::Bare { found: Some(runc) } => {
            format!("NOT in front of runc ({}); run: transship install", runc.display())
        }
        Interposition::Bare { found: None } => "no runc in containerd's PATH".to_owned(),
        Interposition::NoContainerd => "no containerd runs".to_owned(),
    };
    let whole = unfinished.into_iter().filter(|record| record.within.is_none()).rev().chain(waiting);
    let operations: Vec<Value> = whole.map(|record| told(context, &record)).collect();
    Ok(json!({
        "interposer": interposer,
        "frozen": frozen.collect::<Vec<_>>(),
        "operations": operations,
    }))
}

/// An operation with the step that it is at; what it remembers of containers is `history`'s to tell.
fn told(context: &Context, record: &OperationRecord) -> Value {
    let last = context.journal.entries(record.id).ok().and_then(|entries| entries.into_iter().next_back());
    json!({
        "id": record.id,
        "kind": record.kind,
        "subject": record.subject,
        "asked_by": record.asked_by,
        "phase": record.phase,
        "began": record.began,
        "step": last.as_ref().map(|entry| &entry.step),
        "since": last.as_ref().map(|entry| entry.at),
        "decisions": decide::choices(context, record),
        "failure": record.result.as_ref().map(|result| &result["failure"]),
    })
}

/// The last operations, newest first.
pub fn history(context: &Context, limit: usize) -> Result<Value, Failure> {
    let operations = context.journal.history(limit).or_fail(|| "the journal cannot be read".into())?;
    Ok(json!({ "operations": operations }))
}
