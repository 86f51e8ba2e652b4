//! `report`: what the journal knows of an operation, put together.

use crate::failure::{Failure, OrFail};
use crate::operations::checkpoint::Checkpoint;
use crate::operations::upgrade::Upgrade;
use crate::report::{Cause, ContainerCourse, Outcome, Report, Span};
use crate::saga::{Entry, Operation, OperationRecord, Phase};
use crate::world::Context;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

/// The report of one operation, as data.
pub fn run(context: &Context, operation: i64) -> Result<Value, Failure> {
    let record = context.journal.operation(operation).or_fail(|| "the journal cannot be read".into())?;
    let record = record
        .ok_or_else(|| Failure::usage(format!("there is no operation {operation}")).remedy("see: transship history"))?;
    let report = put_together(context, &record).or_fail(|| format!("operation {operation} cannot be read"))?;
    Ok(json!({ "report": report }))
}

fn put_together(context: &Context, record: &OperationRecord) -> Result<Report, crate::saga::JournalError> {
    let now = Timestamp::now();
    let steps = spans(&context.journal.entries(record.id)?, record.ended);
    let mut parts = Vec::new();
    for part in context.journal.parts(record.id)? {
        parts.push((titles(&part), spans(&context.journal.entries(part.id)?, part.ended)));
    }
    let mut report = Report {
        operation: record.id,
        kind: record.kind.clone(),
        subject: record.subject.clone(),
        host: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        asked_by: record.asked_by.clone(),
        outcome: outcome(record.phase),
        began: record.began,
        ended: record.ended,
        as_of: now,
        utc_offset_s: Some(TimeZone::system().to_offset(now).seconds()),
        failure: record.result.as_ref().and_then(|result| cause(&result["failure"])),
        packages: Vec::new(),
        steps: Vec::new(),
        containers: Vec::new(),
        warnings: Vec::new(),
    };
    match record.kind.as_str() {
        Upgrade::KIND => {
            if let Ok(upgrade) = serde_json::from_value::<Upgrade>(record.state.clone()) {
                upgrade.tell(&mut report);
            }
            for course in &mut report.containers {
                let own = parts.iter().filter(|(titles, _)| titles.contains(&course.name));
                course.spans.extend(own.flat_map(|(_, spans)| spans.clone()));
            }
            report.steps = steps;
        }
        // Of one container, or of a few that went together: the steps are theirs.
        _ => report.containers = titles(record).into_iter().map(|name| alone(name, record, &steps)).collect(),
    }
    Ok(report)
}

/// The containers that an operation was about; where one has moved, its peer follows in the subject.
fn titles(record: &OperationRecord) -> Vec<String> {
    record.subject.split(", ").filter_map(|title| title.split(' ').next()).map(str::to_owned).collect()
}

fn alone(name: String, record: &OperationRecord, steps: &[Span]) -> ContainerCourse {
    let answered = |list: &str| {
        record.result.as_ref()?[list]
            .as_array()?
            .iter()
            .find(|one| one["container"] == *name || one["name"] == *name)
            .cloned()
    };
    let checkpoint = answered("checkpoints").unwrap_or_default();
    let container = answered("containers").unwrap_or_default();
    let moved = record.result.as_ref().and_then(|result| result["downtime_us"].as_u64());
    ContainerCourse {
        name,
        strategy: if record.kind == Checkpoint::KIND { "freeze" } else { &record.kind }.into(),
        reason: "it was asked for".into(),
        spans: steps.to_vec(),
        away_us: container["downtime_us"].as_u64().or(checkpoint["frozen_us"].as_u64()).or(moved),
        memory_bytes: checkpoint["pages_bytes"].as_u64(),
        parked: None,
        dropped: None,
        note: None,
    }
}

fn outcome(phase: Phase) -> Outcome {
    match phase {
        Phase::Running | Phase::Committed | Phase::Undoing => Outcome::UnderWay,
        Phase::Done => Outcome::Done,
        Phase::Undone => Outcome::Undone,
        Phase::NeedsPerson => Outcome::NeedsPerson,
    }
}

fn cause(failure: &Value) -> Option<Cause> {
    let failure: Failure = serde_json::from_value(failure.clone()).ok()?;
    Some(Cause { what: failure.what, why: failure.why, remedy: failure.remedy, details: failure.details })
}

/// Each step's span from the entries of its begin and its end. An undo has no entry of its own for its end: it ends where
/// the next entry begins.
pub(super) fn spans(entries: &[Entry], ended: Option<Timestamp>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for entry in entries {
        if let Some(open) = spans.last_mut().filter(|span| span.ended.is_none()) {
            open.ended = Some(entry.at);
        }
        if !matches!(entry.event.as_str(), "done" | "stands") {
            spans.push(Span { name: entry.step.clone(), began: entry.at, ended: None, undo: entry.event == "undoing" });
        }
    }
    if let Some(open) = spans.last_mut().filter(|span| span.ended.is_none()) {
        open.ended = ended;
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(step: &str, event: &str, second: i64) -> Entry {
        Entry { step: step.into(), event: event.into(), at: Timestamp::from_second(second).unwrap() }
    }

    #[test]
    fn a_step_that_failed_ends_where_undoing_begins() {
        let entries = [
            entry("hold", "begins", 1),
            entry("hold", "done", 2),
            entry("dump", "begins", 2),
            entry("dump", "undoing", 5),
            entry("hold", "undoing", 6),
        ];
        let spans = spans(&entries, Timestamp::from_second(7).ok());
        let told: Vec<_> = spans
            .iter()
            .map(|span| (span.name.as_str(), span.undo, span.began.as_second(), span.ended.unwrap().as_second()))
            .collect();
        assert_eq!(told, [("hold", false, 1, 2), ("dump", false, 2, 5), ("dump", true, 5, 6), ("hold", true, 6, 7)]);
    }
}
