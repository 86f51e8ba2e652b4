//! `metrics`: what the journal and the store tell a monitor.

use super::report::spans;
use crate::failure::{Failure, OrFail};
use crate::metrics::{Ended, Metrics, Now};
use crate::migration::source::Migrate;
use crate::operations::checkpoint::Checkpoint;
use crate::operations::restore::Restore;
use crate::report::Span;
use crate::saga::{Entry, Operation, OperationRecord, Phase};
use crate::world::{Context, World};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// All figures, for `transship metrics`.
pub fn run(context: &Context) -> Result<Value, Failure> {
    Ok(json!({ "metrics": text(context)? }))
}

/// All figures as text.
pub fn text(world: &World) -> Result<String, Failure> {
    now(world).map(|now| world.metrics.text(&now))
}

/// Counts an operation that has ended.
pub fn count(metrics: &Metrics, record: &OperationRecord, entries: &[Entry]) {
    metrics.count(&ended(record, entries));
}

fn now(world: &World) -> Result<Now, Failure> {
    let unreadable = || "the journal cannot be read".to_owned();
    let mut under_way = BTreeMap::new();
    for record in world.journal.unfinished().or_fail(unreadable)?.into_iter().filter(|record| record.within.is_none()) {
        *under_way.entry(record.kind).or_default() += 1;
    }
    let waiting = world.journal.needing_a_person().or_fail(unreadable)?.len() as u64;
    let claims = world.claims.all().into_iter();
    let frozen =
        claims.filter(|claim| claim.departed_to.is_none() && !world.placeholders.has(&claim.container)).count();
    let listing = world.catalog.list().or_fail(|| "the store cannot be listed".into())?;
    Ok(Now {
        under_way,
        waiting,
        frozen: frozen as u64,
        checkpoints: listing.checkpoints.len() as u64,
        store_bytes: listing.checkpoints.iter().map(|checkpoint| checkpoint.disk_usage()).sum(),
    })
}

fn ended(record: &OperationRecord, entries: &[Entry]) -> Ended {
    let spans = spans(entries, record.ended);
    let is_closed = matches!(record.phase, Phase::Done | Phase::Undone);
    // One that is taken up again ends once more, and is told as a whole then.
    let standing = if is_closed { standing(&record.kind, &spans) } else { Vec::new() };
    Ended {
        kind: record.kind.clone(),
        outcome: record.phase.to_string(),
        took: record.ended.map(|ended| ended.duration_since(record.began).unsigned_abs()).unwrap_or_default(),
        failed_in: (record.phase != Phase::Done).then(|| failed_in(entries)).flatten(),
        away: away(record, &standing),
        phases: standing,
        bytes: if record.phase == Phase::Done { bytes(record) } else { Vec::new() },
    }
}

/// The last step that was begun and did not come to its end.
fn failed_in(entries: &[Entry]) -> Option<String> {
    let last = entries.iter().rfind(|entry| entry.event != "undoing")?;
    (last.event != "done").then(|| last.step.clone())
}

/// What was done while containers stood still, and for how long each. Others have no part in it: an upgrade's containers
/// are frozen and restored by operations of their own, and of those that arrive their source knows.
fn standing(kind: &str, spans: &[Span]) -> Vec<(String, Duration)> {
    let mut stands = match kind {
        Restore::KIND => true,
        Checkpoint::KIND | Migrate::KIND => false,
        _ => return Vec::new(),
    };
    let mut phases = Vec::new();
    let mut undone = None;
    for span in spans {
        stands |= span.name == "freeze" && !span.undo;
        let took = Duration::from_micros(span.took_us().unwrap_or_default());
        match (stands, span.undo) {
            (true, true) => *undone.get_or_insert(Duration::ZERO) += took,
            (true, false) => phases.push((span.name.clone(), took)),
            _ => {}
        }
        stands &= match span.undo {
            true => span.name != "freeze",
            false => !matches!(span.name.as_str(), "go-on" | "release" | "start"),
        };
    }
    phases.extend(undone.map(|took| ("undo".to_owned(), took)));
    phases
}

/// How long each container was away, where it is back.
fn away(record: &OperationRecord, standing: &[(String, Duration)]) -> Vec<Duration> {
    let answer = record.result.as_ref().unwrap_or(&Value::Null);
    let told = |list: &str, field: &str| -> Vec<Duration> {
        let ones = answer[list].as_array().into_iter().flatten();
        ones.filter_map(|one| one[field].as_u64()).map(Duration::from_micros).collect()
    };
    match (record.kind.as_str(), record.phase) {
        (Checkpoint::KIND | Migrate::KIND, Phase::Undone) if !standing.is_empty() => {
            vec![standing.iter().map(|(_, took)| *took).sum()]
        }
        (Checkpoint::KIND, Phase::Done) if record.state["leave_running"] == true => told("checkpoints", "frozen_us"),
        (Restore::KIND | Migrate::KIND, Phase::Done) => told("containers", "downtime_us"),
        _ => Vec::new(),
    }
}

fn bytes(record: &OperationRecord) -> Vec<(&'static str, u64)> {
    let members = match record.kind.as_str() {
        Checkpoint::KIND => &record.state["members"],
        Migrate::KIND => &record.state["freeze"]["members"],
        _ => return Vec::new(),
    };
    let dumped = members.as_array().into_iter().flatten().filter_map(|member| member["pages_bytes"].as_u64()).sum();
    let moved = record.result.as_ref().and_then(|answer| answer["containers"].as_array());
    let sent = moved.map(|moved| {
        let files: u64 = moved.iter().filter_map(|container| container["sent_bytes"].as_u64()).sum();
        // Memory that went ahead of all of them together.
        let ahead = moved.first().and_then(|container| container["ahead_bytes"].as_u64());
        ("sent", files + ahead.unwrap_or_default())
    });
    [("dumped", dumped)].into_iter().chain(sent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn course(steps: &[(&str, &str, i64)]) -> Vec<Entry> {
        let entry = |(step, event, second): &(&str, &str, i64)| Entry {
            step: (*step).into(),
            event: (*event).into(),
            at: Timestamp::from_second(*second).unwrap(),
        };
        steps.iter().map(entry).collect()
    }

    fn record(kind: &str, phase: Phase, state: Value, result: Value) -> OperationRecord {
        let second = |second| Timestamp::from_second(second).unwrap();
        OperationRecord {
            id: 1,
            kind: kind.into(),
            subject: "web".into(),
            asked_by: "a test".into(),
            phase,
            step: 0,
            state,
            result: Some(result),
            began: second(0),
            ended: Some(second(9)),
            within: None,
        }
    }

    fn seconds(phases: &[(String, Duration)]) -> Vec<(&str, u64)> {
        phases.iter().map(|(phase, took)| (phase.as_str(), took.as_secs())).collect()
    }

    #[test]
    fn only_what_is_done_while_a_container_stands_still_counts_as_downtime() {
        let entries = course(&[
            ("pre-copy", "begins", 0),
            ("pre-copy", "done", 2),
            ("freeze", "begins", 2),
            ("freeze", "done", 3),
            ("ship", "begins", 3),
            ("ship", "done", 5),
            ("release", "begins", 5),
            ("release", "done", 6),
            ("remove", "begins", 6),
            ("remove", "done", 9),
        ]);
        let state = json!({ "freeze": { "members": [{ "pages_bytes": 4096 }] } });
        let answer = json!({ "containers": [{ "downtime_us": 3_500_000, "sent_bytes": 5000, "ahead_bytes": 700 }] });
        let ended = ended(&record("migrate", Phase::Done, state, answer), &entries);
        assert_eq!(seconds(&ended.phases), [("freeze", 1), ("ship", 2), ("release", 1)]);
        assert_eq!(ended.away, [Duration::from_millis(3500)]);
        assert_eq!(ended.bytes, [("dumped", 4096), ("sent", 5700)]);
        assert_eq!((ended.took, ended.failed_in), (Duration::from_secs(9), None));
    }

    #[test]
    fn one_that_was_undone_names_the_step_that_failed_and_how_long_its_container_was_away() {
        let entries = course(&[
            ("hold", "begins", 0),
            ("hold", "done", 1),
            ("freeze", "begins", 1),
            ("freeze", "done", 2),
            ("dump", "begins", 2),
            ("dump", "undoing", 4),
            ("freeze", "undoing", 5),
            ("hold", "undoing", 6),
        ]);
        let failed = json!({ "failure": { "what": "no" } });
        let undone = ended(&record("checkpoint", Phase::Undone, json!({}), failed.clone()), &entries);
        assert_eq!(seconds(&undone.phases), [("freeze", 1), ("dump", 2), ("undo", 2)]);
        assert_eq!(undone.away, [Duration::from_secs(5)]);
        assert_eq!((undone.outcome.as_str(), undone.failed_in.as_deref()), ("undone", Some("dump")));
        assert!(undone.bytes.is_empty());
        let upgrade = ended(&record("upgrade", Phase::Undone, json!({}), failed), &entries);
        assert!(upgrade.phases.is_empty() && upgrade.away.is_empty(), "its containers are frozen by parts of it");
    }

    #[test]
    fn one_that_waits_for_a_person_is_told_as_a_whole_when_it_has_ended() {
        let entries = course(&[("freeze", "begins", 0), ("freeze", "done", 1), ("stop", "begins", 1)]);
        let waits = ended(&record("checkpoint", Phase::NeedsPerson, json!({}), json!({})), &entries);
        assert_eq!((waits.phases, waits.failed_in.as_deref()), (Vec::new(), Some("stop")));
    }
}
