//! What a killed helper left: brought to an end before anything new begins.

use crate::failure::{Failure, OrFail};
use crate::operations::checkpoint::Checkpoint;
use crate::operations::restore::Restore;
use crate::operations::upgrade::Upgrade;
use crate::saga::{self, Operation, OperationRecord, Phase, Progress};
use crate::world::{Context, Told, World};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// dockerd may be starting beside us, at boot. What needs it is worth waiting for, but not for ever: who is frozen can be
/// seen and held without it.
const DOCKER_PATIENCE: Duration = Duration::from_secs(30);

/// Brings unfinished operations to an end, takes holds over, sweeps what belongs to nothing.
///
/// An upgrade takes minutes. It is carried on beside the helper's other work, and keeps the turn on everything.
pub fn run(world: &Arc<World>) -> Result<(), Failure> {
    let context = Context { world: Arc::clone(world), told: Arc::new(Log) };
    crate::operations::holds::take_over(&context);
    let unfinished = world.journal.unfinished().or_fail(|| "the journal cannot be read".into())?;
    let has_upgrade = unfinished.iter().any(|record| record.kind == Upgrade::KIND);
    if has_upgrade && let Err(failure) = crate::operations::upgrade::ensure_engine_starts() {
        tracing::warn!(%failure, "dockerd may have been left stopped");
    }
    if (!unfinished.is_empty() || !world.claims.unsettled_claims().is_empty())
        && let Err(error) = world.docker.wait_until_up(DOCKER_PATIENCE, || false)
    {
        tracing::warn!(%error, "going on without dockerd");
    }
    crate::restore::carry_out::committed(world);
    crate::restore::carry_out::unsettled(world);
    let (upgrades, others): (Vec<_>, Vec<_>) = unfinished.into_iter().partition(|record| record.kind == Upgrade::KIND);
    for record in others {
        tracing::warn!(
            operation = record.id,
            kind = record.kind,
            of = record.subject,
            "unfinished; bringing it to an end"
        );
        match bring_to_an_end(&context, &record) {
            Ok(_) => tracing::info!(operation = record.id, "done"),
            Err(failure) => tracing::warn!(operation = record.id, %failure, "ended"),
        }
    }
    crate::operations::holds::sweep(&context);
    crate::restore::addresses::sweep(world);
    let swept = world.catalog.sweep_staging().or_fail(|| "the store cannot be swept".into())?;
    if !swept.is_empty() {
        tracing::warn!(?swept, "half-made checkpoints are removed");
    }
    carry_upgrades_on(world, upgrades)
}

/// Returns when they have the turn, so that nothing else begins before them.
fn carry_upgrades_on(world: &Arc<World>, upgrades: Vec<OperationRecord>) -> Result<(), Failure> {
    if upgrades.is_empty() {
        return Ok(());
    }
    let (turn_is_taken, taken) = std::sync::mpsc::channel();
    let world = Arc::clone(world);
    let carry_on = move || {
        let turn = world.busy.begin_on_engine();
        let _ = turn_is_taken.send(());
        let context = Context { world: Arc::clone(&world), told: Arc::new(Log) };
        for record in upgrades {
            tracing::warn!(operation = record.id, of = record.subject, "an upgrade was interrupted; it goes on");
            match bring_to_an_end(&context, &record) {
                Ok(_) => tracing::info!(operation = record.id, "the upgrade is done"),
                Err(failure) => tracing::error!(operation = record.id, %failure, "the upgrade did not succeed"),
            }
        }
        drop(turn);
        crate::operations::settled::containers(&world);
    };
    let thread = std::thread::Builder::new().name("upgrade".into()).spawn(carry_on);
    thread.or_fail(|| "no thread to carry an upgrade on".into())?;
    // A thread that ended without a word has logged why.
    let _ = taken.recv();
    Ok(())
}

/// Tries an operation again that waits for a person.
pub fn resume(context: &Context, operation: i64) -> Result<Value, Failure> {
    // Whoever is at work on it has a turn on something.
    let turn = crate::operations::turn_on_everything(context)?;
    let record = context.journal.operation(operation).or_fail(|| "the journal cannot be read".into())?;
    let record = record
        .ok_or_else(|| Failure::usage(format!("there is no operation {operation}")).remedy("see: transship history"))?;
    if matches!(record.phase, Phase::Done | Phase::Undone) {
        return Err(Failure::refused(format!("operation {operation} has ended: it is {}", record.phase))
            .remedy("see: transship history"));
    }
    let ended = bring_to_an_end(context, &record);
    drop(turn);
    crate::operations::settled::containers(&context.world);
    ended.map(|_| json!({ "operation": operation }))
}

fn bring_to_an_end(context: &Context, record: &OperationRecord) -> Result<Value, Failure> {
    match record.kind.as_str() {
        Checkpoint::KIND => recover::<Checkpoint>(context, record),
        Restore::KIND => recover::<Restore>(context, record),
        Upgrade::KIND => recover::<Upgrade>(context, record),
        other => Err(Failure::new(format!("operation {}: this version does not know {other}", record.id))),
    }
}

fn recover<O: Operation<World = Context>>(context: &Context, record: &OperationRecord) -> Result<Value, Failure> {
    let world = &context.world;
    saga::recover::<O>(record, context, &world.journal, &world.failpoints, context.told.as_ref())
}

/// Nobody waits for the answer at start; the log is told.
struct Log;

impl Progress for Log {
    fn step(&self, name: &str, number: usize, of: usize) {
        tracing::info!(step = name, number, of, "recovering");
    }

    fn step_ended(&self, name: &str, took: Duration) {
        tracing::info!(step = name, ?took, "step ended");
    }

    fn undoing(&self, because: &Failure) {
        tracing::info!(%because, "undoing");
    }
}

impl Told for Log {
    fn bytes(&self, _what: &str, _done: u64, _total: u64) {}

    fn percent(&self, _what: &str, _percent: u8) {}

    fn note(&self, text: &str) {
        tracing::info!("{text}");
    }

    fn part(&self, container: &str, doing: &str, number: usize, of: usize) {
        tracing::info!(container, doing, number, of, "recovering");
    }
}
