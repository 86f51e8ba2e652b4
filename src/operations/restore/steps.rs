//! The steps of `restore`, each beside its undo.

use super::{Restore, Target};
use crate::archive::rootfs;
use crate::checkpoint::mend;
use crate::docker::{Container, creation_request, labelled, unlabelled};
use crate::failure::{Failure, OrFail};
use crate::operations;
use crate::restore::{addresses, prepare, settle};
use crate::saga::Step;
use crate::store::{ContainerId, handovers, logs};
use crate::world::Context;
use std::path::Path;

type RestoreStep = Step<Restore, Context>;

/// What a new container bears, with its checkpoint: what somebody else has made under its name is not taken for it.
const LABEL: &str = "transship.restored-from";

/// Every digest of every checkpoint, before Docker is told anything (I4).
pub fn verify() -> RestoreStep {
    fn run(operation: &mut Restore, context: &Context) -> Result<(), Failure> {
        let may_start_afresh = operation.cold_start_on_failure;
        let is_verified = |target: &Target| context.prepared.has(&target.checkpoint);
        let verified_ahead = operation.verified_ahead;
        let to_verify = |target: &&mut Target| !(target.was_let_go || verified_ahead && is_verified(target));
        for target in operation.targets.iter_mut().filter(to_verify) {
            let told = |done, total| context.told.bytes("verified", done, total);
            match prepare::verify(context, &target.checkpoint, &told) {
                Ok(_) => {}
                Err(failure) if may_start_afresh && !target.is_new => target.damaged = Some(failure.to_string()),
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }
    fn undo(operation: &mut Restore, context: &Context) -> Result<(), Failure> {
        for target in &operation.targets {
            prepare::forget(context, &target.checkpoint);
        }
        Ok(())
    }
    Step::new("verify", run, undo)
}

/// A new container with the specification, the image and the files of the frozen one.
pub fn create() -> RestoreStep {
    fn run(operation: &mut Restore, context: &Context) -> Result<(), Failure> {
        for target in operation.targets.iter_mut().filter(|target| target.is_new && !target.was_let_go) {
            create_one(target, context).or_fail(|| format!("a new container {} cannot be made", target.name))?;
        }
        Ok(())
    }
    fn undo(operation: &mut Restore, context: &Context) -> Result<(), Failure> {
        for target in operation.targets.iter().filter(|target| target.is_new) {
            let Some(made) = made_here(target, context)? else { continue };
            if made.is_up() {
                // It was started afresh, as was allowed, and what it does since is nowhere else.
                context.told.note(&format!("{} runs, and stays", target.name));
                continue;
            }
            let removed = context.docker.remove(made.id());
            removed.or_fail(|| format!("the new container {} cannot be removed", target.name))?;
        }
        Ok(())
    }
    Step::new("create", run, undo)
}

fn create_one(target: &mut Target, context: &Context) -> Result<(), Failure> {
    let failed = || format!("a new container {} cannot be made", target.name);
    let checkpoint = context.catalog.get(&target.checkpoint).or_fail(failed)?;
    let from = &checkpoint.manifest().container;
    let mut request = labelled(creation_request(&from.spec), LABEL, target.checkpoint.as_str());
    if target.name != from.name {
        // That one has come here, and this one would go back with it.
        request = unlabelled(request, handovers::LABEL);
    }
    let id = context.docker.create(&target.name, &request).or_fail(failed)?;
    target.container = Some(id.parse().or_fail(failed)?);
    let container = context.docker.container(&id).or_fail(failed)?;
    put_files(&container, &checkpoint).map_err(|failure| failure.remedy("see: docker info --format '{{.Driver}}'"))
}

/// The container that was made for a target. A helper that died over that has not noted which.
fn made_here(target: &Target, context: &Context) -> Result<Option<Container>, Failure> {
    let reference = target.container.as_ref().map_or(target.name.as_str(), ContainerId::as_str);
    match context.docker.container(reference) {
        Ok(found) => {
            let is_ours = target.container.is_some() || found.label(LABEL) == Some(target.checkpoint.as_str());
            Ok(is_ours.then_some(found))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(Failure::new(format!("{} cannot be looked at", target.name)).because(&error)),
    }
}

/// A checkpoint's writable layer where Docker's storage driver looks for the container's.
pub fn put_files(container: &Container, checkpoint: &crate::store::checkpoint::Checkpoint) -> Result<(), Failure> {
    let Some(upper) = container.upper_directory() else {
        return Err(Failure::new("Docker's storage driver does not say where the writable layer is"));
    };
    let failed = || "the checkpoint's files cannot be put in place".to_owned();
    let Some(files) = &checkpoint.manifest().rootfs else { return Ok(()) };
    let base = checkpoint.open_tar(&files.base).or_fail(failed)?;
    let delta = files.delta.as_ref().map(|delta| checkpoint.open_tar(delta)).transpose().or_fail(failed)?;
    rootfs::apply(base, delta, Path::new(upper)).or_fail(failed)
}

/// The next create of each container restores its checkpoint.
pub fn claim() -> RestoreStep {
    fn run(operation: &mut Restore, context: &Context) -> Result<(), Failure> {
        let to_claim = |target: &&Target| !target.was_let_go && target.damaged.is_none();
        for target in operation.targets.iter().filter(to_claim) {
            let failed = || format!("{} cannot be claimed", target.name);
            let container = container_of(target)?;
            let claim = operations::claim(context, &container, &target.checkpoint).or_fail(failed)?;
            require_unchanged(target, context)?;
            context.claims.place(&claim).or_fail(failed)?;
            if target.claimed_here {
                withdraw_from_a_running_one(target, context)?;
            }
        }
        Ok(())
    }
    /// A frozen container's claim stays: it is what keeps `docker start` from starting it afresh.
    fn undo(operation: &mut Restore, context: &Context) -> Result<(), Failure> {
        for target in operation.targets.iter().filter(|target| target.claimed_here) {
            if let Some(container) = &target.container {
                let withdrawn = context.claims.withdraw_of(container, &target.checkpoint);
                withdrawn.or_fail(|| "the claim cannot be withdrawn".into())?;
                // A helper that has started meanwhile has held what the claim stood for.
                settle::lift_hold(context, container);
            }
        }
        Ok(())
    }
    Step::new("claim", run, undo)
}

/// While its checkpoint was verified, anybody may have started it.
fn require_unchanged(target: &Target, context: &Context) -> Result<(), Failure> {
    let Target { name, .. } = target;
    let claim =
        context.claims.find(&container_of(target)?).or_fail(|| format!("the claim on {name} cannot be read"))?;
    match claim.is_none() == target.claimed_here {
        true => Ok(()),
        false => Err(Failure::refused(format!("{name} was started or frozen by somebody else meanwhile"))
            .remedy("see: docker ps, and transship ls")),
    }
}

/// Whoever started it just before it was claimed has it running, and nothing is to be restored into it.
fn withdraw_from_a_running_one(target: &Target, context: &Context) -> Result<(), Failure> {
    let Target { name, checkpoint, .. } = target;
    let container = container_of(target)?;
    let found = context.docker.container(container.as_str()).or_fail(|| format!("{name} cannot be looked at"))?;
    if !found.is_up() {
        return Ok(());
    }
    context.claims.withdraw_of(&container, checkpoint).or_fail(|| "the claim cannot be withdrawn".into())?;
    Err(Failure::refused(format!("{name} was started by somebody else meanwhile")).remedy("see: docker ps"))
}

/// The container, once it is made.
pub fn container_of(target: &Target) -> Result<ContainerId, Failure> {
    target.container.clone().ok_or_else(|| Failure::new(format!("there is no container {} yet", target.name)))
}

/// `docker start`, which restores; the gate does the rest while Docker waits.
pub fn start() -> RestoreStep {
    fn run(operation: &mut Restore, context: &Context) -> Result<(), Failure> {
        let _hurry = context.hurry();
        let containers = operation.targets.iter().filter_map(|target| target.container.clone()).collect();
        operation.returning = Some(context.returns.begin(containers));
        start_each(operation, context)?;
        for target in &mut operation.targets {
            target.downtime_us = target.container.as_ref().and_then(|container| context.downtimes.take(container));
        }
        Ok(())
    }
    fn undo(operation: &mut Restore, context: &Context) -> Result<(), Failure> {
        operation.targets.iter().try_for_each(|target| stop_one(target, context))
    }
    Step::new("start", run, undo)
}

fn start_each(operation: &mut Restore, context: &Context) -> Result<(), Failure> {
    let cold_start = operation.cold_start_on_failure;
    for target in &mut operation.targets {
        if target.was_let_go {
            require_up(target, context)?;
            continue;
        }
        let started = match target.damaged.take() {
            Some(reason) => Err(Failure::new(reason)),
            None => start_one(target, context),
        };
        match started {
            Err(failure) if cold_start && !target.was_let_go(context) => {
                tracing::warn!(container = target.name, %failure, "starting it afresh, as was allowed");
                context.told.note(&format!("{failure}; starting it afresh, as was allowed"));
                start_afresh(target, context)?;
            }
            other => other?,
        }
    }
    Ok(())
}

/// What was let go is not restored once more: it may have run, and its files and its clients have gone on with it.
fn require_up(target: &Target, context: &Context) -> Result<(), Failure> {
    let Target { name, checkpoint, .. } = target;
    let container = container_of(target)?;
    let failed = || format!("whether {name} runs cannot be told");
    let is_up = match context.docker.container(container.as_str()) {
        // Whoever has removed it needs nothing more of it.
        Err(error) if error.is_not_found() => true,
        found => found.or_fail(failed)?.is_up(),
    };
    let claim = context.claims.find(&container).or_fail(failed)?;
    if is_up || claim.is_some_and(|claim| claim.checkpoint != *checkpoint) {
        return Ok(());
    }
    let again = match target.is_new {
        true => format!("docker rm {name}; transship restore {checkpoint} --name {name} makes it once more"),
        false => {
            format!("transship restore {checkpoint} takes its memory back to then, with its files as they are now")
        }
    };
    Err(Failure::new(format!("{name} was restored and let go, and has ended since, by itself or with this host")).remedy(
        format!(
            "its checkpoint is kept: {again}; docker start {name} starts it afresh; then: transship resume OPERATION (see \
             transship status)"
        ),
    ))
}

fn start_one(target: &mut Target, context: &Context) -> Result<(), Failure> {
    let container = container_of(target)?;
    let again = match target.is_new {
        true => format!("transship restore {} --name {}", target.checkpoint, target.name),
        false => format!("transship restore {}", target.name),
    };
    let remedy = format!("its checkpoint is whole: see transship check, then {again}");
    start_in_docker(target, &container, context)
        .or_fail(|| format!("{} was not restored", target.name))
        .map_err(|failure| failure.details(whole_log(target, context)).remedy(remedy))?;
    // I8: Docker's word that it started is not enough; the gate must have let it go, or hold it for its group.
    let claim = context.claims.find(&container).or_fail(|| "the claims cannot be read".into())?;
    let restored = claim.is_none() || context.waiting.has(&container) || context.claims.is_committed(&container);
    if !restored {
        return Err(Failure::new(format!(
            "{} was started afresh: Docker ran a runc that is not the interposer",
            target.name
        ))
        .remedy(format!("docker stop {0}; transship install; transship restore {0}", target.name))
        .needs_person());
    }
    Ok(())
}

/// Where CRIU's log of a restore that has failed is to be found. (Docker's answer has its telling lines.)
fn whole_log(target: &Target, context: &Context) -> Vec<String> {
    let kept = context.logs.find(&target.checkpoint, logs::Of::Restore);
    kept.map(|path| format!("CRIU's whole log: {}", path.display())).into_iter().collect()
}

/// In place its address has to be the one it had; a new container takes what it gets.
fn start_in_docker(target: &Target, container: &ContainerId, context: &Context) -> Result<(), Failure> {
    if target.is_new {
        return context.docker.start(container.as_str()).or_fail(|| format!("{} cannot be started", target.name));
    }
    let checkpoint = context.catalog.get(&target.checkpoint).or_fail(|| "the checkpoint cannot be read".into())?;
    addresses::start(&context.world, container, &Container::new(checkpoint.manifest().container.spec.clone()))
}

fn start_afresh(target: &mut Target, context: &Context) -> Result<(), Failure> {
    let failed = || format!("{} cannot be started afresh", target.name);
    let container = container_of(target)?;
    let claim = context.claims.find(&container).or_fail(failed)?;
    context.claims.withdraw(&container).or_fail(failed)?;
    if let Err(error) = context.docker.start(container.as_str()) {
        // It was allowed now, and not whenever somebody starts it next.
        claim.iter().try_for_each(|claim| context.claims.place(claim)).or_fail(failed)?;
        return Err(Failure::new(failed()).because(&error));
    }
    target.cold_started = true;
    settle::lift_hold(context, &container);
    if let Some(claim) = &claim {
        settle::container(context, claim);
    }
    Ok(())
}

/// A container that was restored and never let go ends without a word; its claim stands for the next try.
fn stop_one(target: &Target, context: &Context) -> Result<(), Failure> {
    let Some(container) = target.container.clone() else { return Ok(()) };
    let failed = || format!("the restored copy of {} cannot be ended", target.name);
    if context.claims.is_committed(&container) || context.claims.find(&container).or_fail(failed)?.is_none() {
        return Ok(());
    }
    context.waiting.take(&container);
    match context.docker.container(&container.to_string()) {
        Ok(found) => {
            if let Some(pid) = found.pid() {
                mend::end_silently(&context.docker, &container.to_string(), pid).or_fail(failed)?;
            }
        }
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(Failure::new(failed()).because(&error)),
    }
    context.claims.give_back(&container).or_fail(failed)
}
