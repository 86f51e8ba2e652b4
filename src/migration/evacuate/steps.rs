//! The one step of `evacuate`: group by group they leave, several at a time.

use super::left::{self, Left};
use super::{Evacuate, Leaving, Outcome};
use crate::failure::{Failure, OrFail};
use crate::migration::evacuate::room;
use crate::migration::groups;
use crate::migration::source::{self, Migrate};
use crate::operations::several;
use crate::saga::{Operation, OperationRecord, Phase, Step};
use crate::store::CheckpointId;
use crate::world::{Context, Part};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long another operation may be at work on containers that are to leave.
const TURN: Duration = Duration::from_secs(600);

/// How long a peer may take to be done with a migration that was taken back: it asks after 30 s without a word.
const UNDOING: Duration = Duration::from_secs(90);

/// Between two tries. A peer sends no events.
const PAUSE: Duration = Duration::from_secs(2);

/// More at a time share the same link and the same disks.
const MOST_AT_ONCE: usize = 4;

type EvacuateStep = Step<Evacuate, Context>;

/// All that can leaves. What fails to leave runs here as before, and keeps nobody from leaving.
pub fn leave() -> EvacuateStep {
    fn run(evacuate: &mut Evacuate, context: &Context) -> Result<(), Failure> {
        let mut groups = std::mem::take(&mut evacuate.groups);
        let parts = match evacuate.number {
            Some(number) => context.journal.parts(number).or_fail(|| "the journal cannot be read".into())?,
            None => Vec::new(),
        };
        let (budget, whole) = (Budget::of(context, &groups), &*evacuate);
        several::each(&mut groups, budget.at_once, |group| {
            let _share = budget.take(group.memory_bytes);
            group.outcome = go(whole, group, &parts, context).unwrap_or_else(|failure| Some(Outcome::Failed(failure)));
        });
        evacuate.groups = groups;
        evacuate.is_cancelled = evacuate.cancel.is_cancelled();
        Ok(())
    }
    fn nothing(_: &mut Evacuate, _: &Context) -> Result<(), Failure> {
        Ok(())
    }
    Step::new("leave", run, nothing)
}

/// What becomes of a group; nothing where it is not begun because that was cancelled before.
fn go(
    evacuate: &Evacuate,
    group: &Leaving,
    parts: &[OperationRecord],
    context: &Context,
) -> Result<Option<Outcome>, Failure> {
    let mut was_taken_back = false;
    // A helper before this one had begun it; by now that migration has come to its end.
    if let Some(record) = parts.iter().rev().find(|record| is_about(record, group)) {
        match record.phase {
            Phase::Done => return has_left(context, group, &record.result.clone().unwrap_or_default()).map(Some),
            Phase::Undone => was_taken_back = true,
            _ => {
                let failure = record.result.as_ref().map(|result| result["failure"].clone()).unwrap_or_default();
                let why =
                    serde_json::from_value(failure).unwrap_or_else(|_| Failure::new("its migration has not ended"));
                return Err(why.remedy(format!("transship resume {}", record.id)));
            }
        }
    }
    if evacuate.cancel.is_cancelled() {
        return Ok(None);
    }
    let _turn = groups::turn(context, &group.names, TURN, &evacuate.cancel)?;
    for id in &group.ids {
        match context.docker.container(id.as_str()) {
            Err(error) if error.is_not_found() => return Ok(Some(Outcome::Gone)),
            found => found.map(drop).or_fail(|| format!("{} cannot be looked at", group.names.join(", ")))?,
        }
    }
    let told = Part { whole: Arc::clone(&context.told), container: group.names.join(", ") };
    let part = Context { world: Arc::clone(&context.world), told: Arc::new(told) };
    let how = evacuate.how(&group.peer);
    let link = source::reach(&part, &how)?;
    let ids: Vec<String> = group.ids.iter().map(ToString::to_string).collect();
    let begun = Instant::now();
    let mut outcome = Outcome::Gone;
    for members in source::group::of(&part, &ids)? {
        let migrate = source::planned(&part, members, &how, link)?;
        while let Err(refusal) = source::look(&part, &migrate) {
            if !was_taken_back || begun.elapsed() > UNDOING {
                return Err(refusal);
            }
            evacuate.cancel.pause(PAUSE)?;
        }
        let answer = source::begin(&part, migrate, evacuate.asks())?;
        outcome = has_left(context, group, &answer)?;
    }
    Ok(Some(outcome))
}

/// Whether a migration is of these containers.
fn is_about(record: &OperationRecord, group: &Leaving) -> bool {
    let members = record.state.pointer("/freeze/members").and_then(Value::as_array).into_iter().flatten();
    let ids: BTreeSet<&str> = members.filter_map(|member| member["id"].as_str()).collect();
    record.kind == Migrate::KIND && group.ids.iter().any(|id| ids.contains(id.as_str()))
}

fn has_left(context: &Context, group: &Leaving, answer: &Value) -> Result<Outcome, Failure> {
    let containers = || answer["containers"].as_array().into_iter().flatten();
    let migration: Option<CheckpointId> = containers().find_map(|one| one["migration"].as_str()?.parse().ok());
    let migration = migration.ok_or_else(|| Failure::new("the migration does not say what it was"))?;
    let names = containers().filter_map(|one| one["container"].as_str().map(str::to_owned)).collect();
    left::note(context, &migration, &Left { peer: group.peer.clone(), names })?;
    Ok(Outcome::Left)
}

/// What may be under way at a time: so many migrations, and so many bytes of memory on their way through the disks.
struct Budget {
    at_once: usize,
    bytes: u64,
    under_way: Mutex<(usize, u64)>,
    changed: Condvar,
}

/// One migration's share, until dropped.
struct Share<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    /// Half of what is free where checkpoints are stored, here and on the peers: the rest is for what is not memory.
    fn of(context: &Context, groups: &[Leaving]) -> Self {
        let peers: BTreeSet<&str> = groups.iter().map(|group| group.peer.as_str()).collect();
        let rooms = peers.into_iter().map(room::of_peer).chain([room::here(context)]);
        let bytes = rooms.filter_map(Result::ok).map(|room| room.store_bytes / 2).min().unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self { at_once: cores.clamp(2, MOST_AT_ONCE), bytes, under_way: Mutex::default(), changed: Condvar::new() }
    }

    /// Waits for a share. A single one always goes, however large.
    fn take(&self, bytes: u64) -> Share<'_> {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |(count, used): &mut (usize, u64)| *count > 0 && used.saturating_add(bytes) > self.bytes;
        let mut under_way = self.changed.wait_while(under_way, is_full).unwrap_or_else(PoisonError::into_inner);
        (under_way.0, under_way.1) = (under_way.0 + 1, under_way.1 + bytes);
        Share { budget: self, bytes }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut under_way = self.budget.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        (under_way.0, under_way.1) = (under_way.0 - 1, under_way.1 - self.bytes);
        drop(under_way);
        self.budget.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_bytes_are_under_way_than_fit_and_one_always_goes() {
        let budget = Budget { at_once: 2, bytes: 10, under_way: Mutex::default(), changed: Condvar::new() };
        let large = budget.take(100);
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| drop(budget.take(1)));
            assert_eq!(*budget.under_way.lock().unwrap(), (1, 100));
            drop(large);
            waiting.join().unwrap();
        });
        let (_one, _other) = (budget.take(4), budget.take(6));
        assert_eq!(*budget.under_way.lock().unwrap(), (2, 10));
    }
}
