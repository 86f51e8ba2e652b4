//! What a killed helper left: brought to an end before anything new begins.

use crate::failure::{Failure, OrFail};
use crate::migration::destination::Arrive;
use crate::migration::evacuate::Evacuate;
use crate::migration::evacuated_upgrade::EvacuatedUpgrade;
use crate::migration::homecoming::Homecoming;
use crate::migration::source::Migrate;
use crate::operations::checkpoint::Checkpoint;
use crate::operations::restore::Restore;
use crate::operations::upgrade::Upgrade;
use crate::saga::{self, Operation, OperationRecord};
use crate::shipping::{Fetch, Push};
use crate::world::log::Log;
use crate::world::{Context, Turn, World};
use crate::{migration, operations, shipping};
use serde_json::{Value, json};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// dockerd may be starting beside us, at boot. What needs it is worth waiting for, but not for ever: who is frozen can be
/// seen and held without it.
const DOCKER_PATIENCE: Duration = Duration::from_secs(30);

/// Brings unfinished operations to an end, takes holds over, sweeps what belongs to nothing.
///
/// An upgrade takes minutes. It is carried on beside the helper's other work, and keeps the turn on everything.
pub fn run(world: &Arc<World>) -> Result<(), Failure> {
    let context = Context { world: Arc::clone(world), told: Arc::new(Log) };
    world.sweep_hurry();
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
    let (upgrades, others): (Vec<_>, Vec<_>) = unfinished.into_iter().partition(|record| record.kind == Upgrade::KIND);
    let (handovers, others): (Vec<_>, Vec<_>) = others.into_iter().partition(is_handover);
    let (wholes, others): (Vec<_>, Vec<_>) = others.into_iter().partition(is_of_migrations);
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
    crate::restore::carry_out::unsettled(world);
    crate::operations::holds::sweep();
    crate::restore::addresses::sweep(world);
    let swept = world.catalog.sweep_staging().or_fail(|| "the store cannot be swept".into())?;
    if !swept.is_empty() {
        tracing::warn!(?swept, "half-made checkpoints are removed");
    }
    if let Err(failure) = operations::brought::sweep(&context) {
        tracing::warn!(%failure, "images of migrations that nobody waits for may be left");
    }
    crate::operations::forward::resume(&context);
    let mut under_way: Vec<_> =
        handovers.into_iter().map(|record| (record.within, carry_on(world, record, Vec::new()))).collect();
    let of_upgrades = upgrades.iter().find_map(|record| record.within);
    under_way.push((of_upgrades, carry_upgrades_on(world, upgrades)?));
    // The journal tells the newest first: parts before their whole.
    for whole in wholes {
        let of_it = |(within, _): &mut (Option<i64>, _)| *within == Some(whole.id);
        let parts = under_way.extract_if(.., of_it).filter_map(|(_, thread)| thread).collect();
        under_way.push((whole.within, carry_on(world, whole, parts)));
    }
    Ok(())
}

/// What waits for a peer must not keep the helper from its work.
fn is_handover(record: &OperationRecord) -> bool {
    matches!(record.kind.as_str(), Migrate::KIND | Arrive::KIND)
}

/// What is made of migrations goes on when those that a helper before this one had begun have come to their end.
fn is_of_migrations(record: &OperationRecord) -> bool {
    matches!(record.kind.as_str(), Evacuate::KIND | Homecoming::KIND | EvacuatedUpgrade::KIND)
}

/// Carries an operation on, beside everything else, when its `parts` have ended.
fn carry_on(world: &Arc<World>, record: OperationRecord, parts: Vec<JoinHandle<()>>) -> Option<JoinHandle<()>> {
    let context = Context { world: Arc::clone(world), told: Arc::new(Log) };
    let carry_on = move || {
        // A part that has panicked has ended as well, and is looked at in the journal.
        parts.into_iter().for_each(|part| drop(part.join()));
        tracing::warn!(operation = record.id, kind = record.kind, of = record.subject, "unfinished; it goes on");
        let ended = match is_handover(&record) {
            true => bring_handover_to_an_end(&context, &record),
            false => bring_to_an_end(&context, &record),
        };
        if let Err(failure) = ended {
            tracing::warn!(operation = record.id, %failure, "ended");
        }
    };
    let thread = std::thread::Builder::new().name("handover".into()).spawn(carry_on);
    thread.inspect_err(|error| tracing::error!(%error, "no thread to carry a migration on")).ok()
}

/// Returns when they have the turn, so that nothing else begins before them.
fn carry_upgrades_on(world: &Arc<World>, upgrades: Vec<OperationRecord>) -> Result<Option<JoinHandle<()>>, Failure> {
    if upgrades.is_empty() {
        return Ok(None);
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
    let thread = thread.or_fail(|| "no thread to carry an upgrade on".into())?;
    // A thread that ended without a word has logged why.
    let _ = taken.recv();
    Ok(Some(thread))
}

/// Tries an operation again that waits for a person.
pub fn resume(context: &Context, operation: i64) -> Result<Value, Failure> {
    let record = operations::open_record(context, operation)?;
    // Whoever is at work on it has the turn on its containers.
    let turn = turn_of(context, &record)?;
    // Whoever had it until now may have brought the operation to its end, or further.
    let record = operations::open_record(context, operation)?;
    let ended = bring_to_an_end(context, &record);
    drop(turn);
    crate::operations::settled::containers(&context.world);
    ended.map(|_| json!({ "operation": operation }))
}

/// Whoever works on its containers by now may have taken it up, and brought it further.
fn bring_handover_to_an_end(context: &Context, record: &OperationRecord) -> Result<Value, Failure> {
    let _turn = turn_of(context, record)?;
    bring_to_an_end(context, &operations::open_record(context, record.id)?)
}

fn bring_to_an_end(context: &Context, record: &OperationRecord) -> Result<Value, Failure> {
    match record.kind.as_str() {
        Checkpoint::KIND => recover::<Checkpoint>(context, record),
        Restore::KIND => recover::<Restore>(context, record),
        Upgrade::KIND => recover::<Upgrade>(context, record),
        Push::KIND => recover::<Push>(context, record),
        Fetch::KIND => recover::<Fetch>(context, record),
        Migrate::KIND => migration::source::go_on(context, record),
        Arrive::KIND => migration::destination::go_on(context, record),
        Evacuate::KIND => migration::evacuate::go_on(context, record),
        Homecoming::KIND => migration::homecoming::go_on(context, record),
        EvacuatedUpgrade::KIND => migration::evacuated_upgrade::go_on(context, record),
        other => Err(Failure::new(format!("operation {}: this version does not know {other}", record.id))),
    }
}

fn recover<O: Operation<World = Context>>(context: &Context, record: &OperationRecord) -> Result<Value, Failure> {
    let world = &context.world;
    saga::recover::<O>(record, context, &world.journal, &world.failpoints, context.told.as_ref())
}

/// The right to work on what an operation in the journal is about: its containers, or everything.
fn turn_of<'a>(context: &'a Context, record: &OperationRecord) -> Result<Turn<'a>, Failure> {
    match containers_of(record) {
        Some(names) => operations::turn(context, names),
        None => operations::turn_on_everything(context),
    }
}

/// The names of an operation's containers, where it is about some and not about the engine.
fn containers_of(record: &OperationRecord) -> Option<Vec<String>> {
    let list = match record.kind.as_str() {
        Checkpoint::KIND => "/members",
        Restore::KIND => "/targets",
        Migrate::KIND => "/freeze/members",
        Arrive::KIND => "/members",
        Push::KIND | Fetch::KIND => return Some(vec![shipping::turn_on(record.state["id"].as_str()?)]),
        // Their parts have the turns.
        Evacuate::KIND | Homecoming::KIND | EvacuatedUpgrade::KIND => {
            return Some(Vec::new());
        }
        _ => return None,
    };
    let containers = record.state.pointer(list)?.as_array()?.iter();
    containers.map(|container| container["name"].as_str().map(str::to_owned)).collect()
}
