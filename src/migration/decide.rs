//! `decide`: a person says by force which copy of a container it is to be, where the two hosts cannot agree (I3).

use super::destination::{self, Arrive};
use super::source::{self, Migrate};
use crate::failure::{Failure, OrFail};
use crate::operations;
use crate::saga::{Operation, OperationRecord, Phase};
use crate::world::decisions::Decision;
use crate::world::{Context, Turn};
use serde_json::{Value, json};
use std::time::Duration;

/// How long whoever works on the migration may take to hear of it and to carry it out.
const CARRYING_OUT: Duration = Duration::from_secs(300);

/// Carries a decision out. Where it can cost something it is refused, with what it can cost, unless it is forced.
pub fn run(
    context: &Context,
    operation: i64,
    decision: Decision,
    force: bool,
    asked_by: &str,
) -> Result<Value, Failure> {
    let record = operations::open_record(context, operation)?;
    let (risk, of_source) = match record.kind.as_str() {
        Migrate::KIND => (source::risk(context, &record, decision)?, true),
        Arrive::KIND => (destination::risk(context, &record, decision)?, false),
        other => {
            return Err(Failure::usage(format!("operation {operation} is a {other}"))
                .remedy("only migrations are decided; see: transship status"));
        }
    };
    if let Some(risk) = risk.filter(|_| !force) {
        let again = format!("if that is what you want: transship decide {operation} {} --force", decision.word());
        return Err(Failure::refused(risk).remedy(again));
    }
    tracing::warn!(operation, ?decision, force, asked_by, "a person has decided");
    match of_source {
        true => source::decide(context, record, decision, asked_by)?,
        false => destination::decide(context, record, decision)?,
    }
    Ok(json!({ "operation": operation, "decision": decision, "forced": force }))
}

/// What can be decided about an operation now.
pub fn choices(context: &Context, record: &OperationRecord) -> Vec<Decision> {
    let all = [Decision::Thaw, Decision::End, Decision::Run, Decision::Drop];
    let can = |decision: &Decision| match record.kind.as_str() {
        Migrate::KIND => source::can_be(context, record, *decision).is_ok(),
        Arrive::KIND => destination::can_be(context, record, *decision).is_ok(),
        _ => false,
    };
    all.into_iter().filter(can).collect()
}

/// The right to work on the containers of a migration once `tell` has told whoever works on it now.
pub(super) fn turn_after<'a>(
    context: &'a Context,
    record: &OperationRecord,
    tell: impl FnOnce(),
) -> Result<(Turn<'a>, bool), Failure> {
    if let Ok(turn) = operations::turn_of(context, record) {
        return Ok((turn, false));
    }
    tell();
    let names = operations::containers_of(record).unwrap_or_default();
    let turn = context.busy.begin_within(names, CARRYING_OUT);
    turn.map(|turn| (turn, true)).map_err(|taken| {
        Failure::new(format!(
            "whoever is at work on {taken} has not carried it out within {} s",
            CARRYING_OUT.as_secs()
        ))
        .remedy("see: transship status")
        .needs_person()
    })
}

/// How it has ended; an error where it has not ended as decided.
pub(super) fn ended(context: &Context, operation: i64, wanted: Phase) -> Result<(), Failure> {
    let record = operations::record(context, operation)?;
    if record.phase == wanted {
        return Ok(());
    }
    let failure = record.result.and_then(|result| serde_json::from_value(result["failure"].clone()).ok());
    Err(failure.unwrap_or_else(|| Failure::new(format!("operation {operation} is {}", record.phase)).needs_person()))
}

/// The state of a migration in the journal.
pub(super) fn state<O: Operation>(record: &OperationRecord) -> Result<O, Failure> {
    let unreadable = || format!("operation {} in the journal cannot be read", record.id);
    serde_json::from_value(record.state.clone()).or_fail(unreadable)
}
