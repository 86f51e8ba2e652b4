//! The steps of an upgrade, each beside its undo.

use super::{Upgrade, engine, fleet, hooks, live, swarm, verify as verification};
use crate::failure::{Failure, OrFail};
use crate::packages::{self, Event, Fetched, PackageError, PackageManager, PackageSet};
use crate::restore::settle::remove_directory;
use crate::saga::{Phase, Step, reserve};
use crate::world::Context;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a swarm's task may take to end on this host; services may set long grace periods of their own.
const LONGEST_DRAIN: Duration = Duration::from_secs(300);

type UpgradeStep = Step<Upgrade, Context>;

fn nothing(_: &mut Upgrade, _: &Context) -> Result<(), Failure> {
    Ok(())
}

fn manager() -> Result<Box<dyn PackageManager>, Failure> {
    packages::of_this_host().or_fail(|| "this host has no package manager that is known".into())
}

fn failed(what: &'static str) -> impl FnOnce(PackageError) -> Failure {
    move |error| {
        let failure = Failure::new(what).because(&error).details(error.log().to_vec());
        match error.remedy() {
            Some(remedy) => failure.remedy(remedy),
            None => failure,
        }
    }
}

/// The new packages, and the present ones for the way back, are on disk before anything changes.
pub fn fetch() -> UpgradeStep {
    fn run(operation: &mut Upgrade, context: &Context) -> Result<(), Failure> {
        // Whatever has come so far goes again, and nothing else was done.
        bring(operation, context).map_err(Failure::as_refusal)
    }
    fn bring(operation: &mut Upgrade, context: &Context) -> Result<(), Failure> {
        let directory = operation.directory(context);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.or_fail(|| format!("{} cannot be made", directory.display()))?;
        let mut watch = |event| match event {
            Event::Fetched { bytes, of } => context.told.bytes("fetched", bytes, of),
            Event::Percent(_) | Event::Line(_) => {}
        };
        match &operation.fetched {
            // A rollback's are those that its upgrade has left.
            Some(fetched) => fetched.verify().map_err(failed("the packages are not as they were fetched"))?,
            None => {
                let fetched = manager()?.fetch(&operation.packages, &directory, &mut watch);
                operation.fetched =
                    Some(fetched.map_err(failed("the packages cannot be fetched, and nothing was touched"))?);
            }
        }
        // Old packages are unpacked beside the new ones: should the disk fill up meanwhile, there still is a way back.
        let bytes = operation.reserved_bytes(context).map_err(failed("the disk cannot be looked at"))?;
        reserve::keep(&operation.reserve(context), bytes)
            .or_fail(|| "there is no room on the disk for a way back".into())
    }
    fn undo(operation: &mut Upgrade, context: &Context) -> Result<(), Failure> {
        // Where they could not be installed again they are still needed.
        if !operation.packages_touched {
            remove_directory(&operation.directory(context));
        }
        Ok(())
    }
    Step::new("fetch", run, undo)
}

/// A swarm's tasks are its scheduler's: it takes them elsewhere, and would replace one that was frozen.
pub fn drain() -> UpgradeStep {
    fn run(operation: &mut Upgrade, context: &Context) -> Result<(), Failure> {
        let Some(node) = &operation.node else { return Ok(()) };
        let set = context.docker.set_availability(&node.id, "drain");
        set.or_fail(|| "this node of the swarm cannot be drained".into())?;
        for task in swarm::tasks(context)? {
            let ended = context.docker.wait_until_stopped_within(task.id(), LONGEST_DRAIN);
            ended.or_fail(|| format!("{}, a task of the swarm, does not leave this host", task.name()))?;
        }
        Ok(())
    }
    fn undo(operation: &mut Upgrade, context: &Context) -> Result<(), Failure> {
        swarm::put_back(operation, context)
    }
    Step::new("drain", run, undo)
}

/// Hooks before; and on the way back the last thing: whoever is away comes back, on the engine that is installed by then.
pub fn prepare() -> UpgradeStep {
    fn run(operation: &mut Upgrade, context: &Context) -> Result<(), Failure> {
        hooks::run("before-upgrade", operation, "planned", context.settings.longest_hook())
    }
    fn undo(operation: &mut Upgrade, context: &Context) -> Result<(), Failure> {
        let restarted = match operation.engine_touched {
            true => take_engine_back(operation, context),
            false => Ok(()),
        };
        let back = fleet::bring_back(operation, context);
        fleet::note_holds(operation, context);
        restarted.and(back)?;
        // Not before everybody is here again: a hook may send clients.
        hooks::run("after-upgrade", operation, "rolled-back", context.settings.longest_hook())
    }
    Step::new("prepare", run, undo)
}

/// While the containers still run: nothing is restarted yet.
pub fn install() -> UpgradeStep {
    fn run(operation: &mut Upgrade, context: &Context) -> Result<(), Failure> {
        let fetched = fetched(operation)?;
        let manager = manager()?;
        let differences = manager.differences(&fetched.backward).map_err(failed("the packages cannot be looked at"))?;
        // A host that is not as it was planned for was left half way by an installation that was cut short.
        let half_way = !differences.is_empty();
        operation.packages_touched = true;
        let kept = change_packages(operation, context, manager.as_ref(), &fetched.forward, half_way)
            .map_err(failed("the new packages cannot be installed"))?;
        operation
            .warnings
            .extend(kept.into_iter().map(|package| format!("{package} stays: something needs it by now")));
        Ok(())
    }
    fn undo(operation: &mut Upgrade, context: &Context) -> Result<(), Failure> {
        reserve::give_back(&operation.reserve(context));
        let Some(fetched) = operation.fetched.clone() else { return Ok(()) };
        let manager = manager()?;
        let differences = manager.differences(&fetched.backward).map_err(failed("the packages cannot be looked at"))?;
        if !operation.packages_touched && differences.is_empty() {
            return Ok(());
        }
        operation.packages_touched = true;
        change_packages(operation, context, manager.as_ref(), &fetched.backward, true)
            .map_err(failed("the old packages cannot be installed again"))?;
        operation.packages_touched = false;
        Ok(())
    }
    Step::new("install", run, undo)
}

fn fetched(operation: &Upgrade) -> Result<Fetched, Failure> {
    operation.fetched.clone().ok_or_else(|| Failure::new("the packages were not fetched"))
}

/// Installs a set with service starts deferred, and lets services start again whatever comes of it.
fn change_packages(
    operation: &Upgrade,
    context: &Context,
    manager: &dyn PackageManager,
    set: &PackageSet,
    half_way: bool,
) -> packages::Result<Vec<String>> {
    // What stood in the way of the deferral is kept beside the packages.
    let saved = operation.directory(context);
    let mut watch = |event| match event {
        Event::Percent(percent) => context.told.percent("installed", percent as u8),
        Event::Line(line) => tracing::debug!(line, "package manager"),
        Event::Fetched { .. } => {}
    };
    manager.defer_service_starts(&saved)?;
    let installed = match half_way {
        true => manager.repair(set, &mut watch),
        false => manager.install(set, &mut watch),
    };
    // Somebody else's apt that is still at work would start services now.
    if !matches!(installed, Err(PackageError::Locked { .. })) {
        manager.allow_service_starts(&saved)?;
    }
    installed
}

/// Everything that is to be frozen stands still on disk, everything that is to be stopped is.
pub fn freeze() -> UpgradeStep {
    fn run(operation: &mut Upgrade, context: &Context) -> Result<(), Failure> {
        spare(&fleet::strangers(operation, context)?)?;
        fleet::freeze(operation, context)
    }
    // They come back when the old packages are here again: a containerd that still runs starts no container with the shim
    // of a newer one ("unsupported shim version").
    Step::new("freeze", run, nothing)
}

/// containerd and dockerd as they are installed now.
pub fn restart() -> UpgradeStep {
    fn run(operation: &mut Upgrade, context: &Context) -> Result<(), Failure> {
        // A helper that was killed in this step may have restarted it already.
        let begun = context.journal.entries(operation.number.unwrap_or_default());
        let begun = begun.or_fail(|| "the journal cannot be read".into())?;
        let times = begun.iter().filter(|entry| entry.step == "restart" && entry.event == "begins").count();
        operation.engine_touched |= times > 1;
        restart_engine(operation, context)?;
        engine::require(context, operation.engine_package_version())
    }
    Step::new("restart", run, nothing)
}

/// Containers that nobody spoke of are not ended by the way (I7).
fn restart_engine(operation: &mut Upgrade, context: &Context) -> Result<(), Failure> {
    // Where dockerd is dead already there is nobody to ask, and nobody left to protect from its end.
    spare(&fleet::left_running(operation, context).unwrap_or_default())?;
    operation.engine_touched = true;
    let operation = &*operation;
    // dockerd takes interfaces and rules away, and makes them anew.
    let _hurry = context.hurry();
    // Until dockerd answers: its rules are there by then.
    let new_connections = live::hold_new_connections(operation, context);
    let is_up = AtomicBool::new(false);
    let restarted = std::thread::scope(|threads| {
        // Reading, which dockerd leaves time for.
        threads.spawn(|| fleet::verify_ahead(operation, context, &is_up));
        let restarted = engine::restart(context);
        is_up.store(true, Ordering::Relaxed);
        drop(new_connections);
        restarted
    });
    if restarted.is_err() {
        fleet::forget_verified(operation, context);
    }
    restarted
}

/// Who is back already, or was started by dockerd itself, stands aside once more.
fn take_engine_back(operation: &mut Upgrade, context: &Context) -> Result<(), Failure> {
    if let Err(failure) = fleet::freeze(operation, context) {
        tracing::warn!(%failure, "not everybody could be frozen before the engine is restarted");
    }
    restart_engine(operation, context)?;
    // The engine is that of the packages. Should something fail behind this, it need not be done again.
    operation.engine_touched = operation.packages_touched;
    Ok(())
}

/// Fails where containers would end with dockerd that are not meant to.
fn spare(left: &[String]) -> Result<(), Failure> {
    if left.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("{} would end with dockerd", left.join(", ")))
        .remedy("they were started, or could not be frozen, since the upgrade began; stop or freeze them"))
}

/// In the order that they depend on each other; each one's clients wait no longer than for itself.
pub fn restore() -> UpgradeStep {
    fn run(operation: &mut Upgrade, context: &Context) -> Result<(), Failure> {
        fleet::bring_back(operation, context)
    }
    /// As they are by then.
    fn undo(operation: &mut Upgrade, context: &Context) -> Result<(), Failure> {
        fleet::freeze(operation, context)
    }
    Step::new("restore", run, undo)
}

/// From here on the old engine does not come back by itself.
pub fn verify() -> UpgradeStep {
    fn run(operation: &mut Upgrade, context: &Context) -> Result<(), Failure> {
        fleet::note_holds(operation, context);
        verification::everything(operation, context)
    }
    Step::new("verify", run, nothing)
}

/// The swarm may give it tasks again; hooks after. A host that runs the new engine is not taken back for a hook.
pub fn tidy() -> UpgradeStep {
    fn run(operation: &mut Upgrade, context: &Context) -> Result<(), Failure> {
        reserve::give_back(&operation.reserve(context));
        forget_older(operation, context);
        let hooks = |operation: &_| hooks::run("after-upgrade", operation, "done", context.settings.longest_hook());
        for outcome in [swarm::put_back(operation, context), hooks(operation)] {
            if let Err(failure) = outcome {
                context.told.note(&failure.to_string());
                operation.warnings.push(failure.to_string());
            }
        }
        Ok(())
    }
    Step::new("tidy", run, nothing)
}

/// Packages are kept for the way back from the last upgrade, and no longer.
fn forget_older(operation: &Upgrade, context: &Context) {
    let needed = |directory: &Path| {
        let mut sets = operation.fetched.iter().flat_map(|fetched| [&fetched.forward, &fetched.backward]);
        directory == operation.directory(context) || sets.any(|set| set.directory.starts_with(directory))
    };
    let is_open = |directory: &Path| {
        let number = directory.file_name().and_then(|name| name.to_str()?.parse().ok());
        let record = number.and_then(|number| context.journal.operation(number).ok().flatten());
        record.is_some_and(|record| !matches!(record.phase, Phase::Done | Phase::Undone))
    };
    let Some(Ok(all)) = operation.directory(context).parent().map(std::fs::read_dir) else { return };
    for directory in all.flatten().map(|entry| entry.path()) {
        if !needed(&directory) && !is_open(&directory) {
            remove_directory(&directory);
        }
    }
}
