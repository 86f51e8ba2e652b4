//! `cancel`: a person ends an operation before its commit, and it is undone by whoever works on it.

use crate::failure::Failure;
use crate::saga::Phase;
use crate::world::Context;
use crate::world::cancels::TooLate;
use serde_json::{Value, json};
use std::time::Duration;

/// How long undoing may take until it is left to itself: a dump that is under way ends first.
const UNDOING: Duration = Duration::from_secs(300);

/// Cancels an operation; returns when it has been undone, or, where it is made of several, when all of them have come to their
/// end.
pub fn run(context: &Context, operation: i64, asked_by: &str) -> Result<Value, Failure> {
    let record = super::open_record(context, operation)?;
    let ending = context.cancels.ask(operation).map_err(|why| match why {
        TooLate::Committed => {
            Failure::refused(format!("{} of {} has committed: it goes on to its end", record.kind, record.subject))
                .remedy("wait for it; see: transship status")
        }
        TooLate::Unknown => Failure::refused(format!(
            "{} of {} cannot be cancelled: it is {}",
            record.kind, record.subject, record.phase
        ))
        .remedy("a migration is cancelled on the host that it leaves; see: transship status"),
    })?;
    tracing::warn!(operation, asked_by, "a person has cancelled it");
    if let Err(error) = context.journal.note_cancelled(operation) {
        tracing::error!(operation, %error, "a helper that takes it up again will not know that it was cancelled");
    }
    if !ending.wait(UNDOING) {
        return Err(Failure::new(format!("operation {operation} is still being undone"))
            .remedy("see: transship status")
            .needs_person());
    }
    let record = super::record(context, operation)?;
    let kept = record.result.as_ref().map(|result| result["cancelled"].clone()).filter(Value::is_object);
    match (record.phase, kept) {
        (Phase::Undone, _) => Ok(json!({ "operation": operation, "subject": record.subject })),
        // What is made of several: each has come to its own end.
        (Phase::Done, Some(mut answer)) => {
            answer["operation"] = json!(operation);
            answer["subject"] = json!(record.subject);
            Ok(answer)
        }
        (phase, _) => {
            let failure = record.result.and_then(|result| serde_json::from_value(result["failure"].clone()).ok());
            Err(failure.unwrap_or_else(|| Failure::new(format!("operation {operation} is {phase}"))))
        }
    }
}
