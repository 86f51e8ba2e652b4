//! What a reference means, and whether it can be restored here.

use super::{Target, steps};
use crate::failure::{Failure, OrFail};
use crate::restore::settle;
use crate::services::{Interposition, effective_runc};
use crate::store::claims::Claim;
use crate::store::{Checkpoint, CheckpointId};
use crate::world::Context;

/// The containers that `reference` means: the whole group of a checkpoint in place, or one new container.
pub fn find(context: &Context, reference: &str, name: Option<&str>) -> Result<Vec<Target>, Failure> {
    let checkpoint = crate::operations::find(context, reference)?;
    if let Some(name) = name {
        return Ok(vec![target(&checkpoint, Some(name))]);
    }
    match checkpoint.manifest().group.as_slice() {
        [] => Ok(vec![target(&checkpoint, None)]),
        group => of(context, group),
    }
}

/// The containers in place of checkpoints that were made together.
pub fn of(context: &Context, checkpoints: &[CheckpointId]) -> Result<Vec<Target>, Failure> {
    let in_place = |id: &CheckpointId| {
        let checkpoint = context.catalog.get(id);
        let checkpoint = checkpoint.or_fail(|| format!("checkpoint {id}, of one that belongs to it, is gone"))?;
        Ok(target(&checkpoint, None))
    };
    checkpoints.iter().map(in_place).collect()
}

fn target(checkpoint: &Checkpoint, new_name: Option<&str>) -> Target {
    let container = &checkpoint.manifest().container;
    Target {
        checkpoint: checkpoint.id().clone(),
        name: new_name.unwrap_or(&container.name).to_owned(),
        container: new_name.is_none().then(|| container.id.clone()),
        is_new: new_name.is_some(),
        downtime_us: None,
        claimed_here: new_name.is_some(),
        was_let_go: false,
        damaged: None,
        cold_started: false,
    }
}

/// Refuses what cannot be; nothing is touched. Whoever calls it has the turn on them.
pub fn admit(context: &Context, targets: &mut [Target]) -> Result<(), Failure> {
    if effective_runc() != Interposition::Interposed {
        return Err(Failure::refused("the interposer is not in front of runc: Docker would start it afresh")
            .remedy("run: transship install"));
    }
    targets.iter_mut().try_for_each(|target| match target.is_new {
        true => admit_new(context, target),
        false => admit_in_place(context, target),
    })
}

fn admit_in_place(context: &Context, target: &mut Target) -> Result<(), Failure> {
    let id = steps::container_of(target)?;
    // What tells that an earlier restore let it go would be taken for this one's.
    context.settling.wait_until_taken(&id);
    let container = match context.docker.container(id.as_str()) {
        Ok(container) => container,
        Err(error) if error.is_not_found() => {
            return Err(Failure::refused(format!("container {} ({id:.12}) is no longer here", target.name)).remedy(
                format!("restore it as a new one: transship restore {} --name {}", target.checkpoint, target.name),
            ));
        }
        Err(error) => return Err(Failure::new(format!("{} cannot be looked at", target.name)).because(&error)),
    };
    let claim = context.claims.find(&id).or_fail(|| format!("the claim on {} cannot be read", target.name))?;
    refuse_departed(target, claim.as_ref())?;
    if container.is_up() {
        return Err(Failure::refused(format!("{} runs already: it is {}", target.name, container.status())).remedy(
            format!("stop it first, or restore beside it: transship restore {} --name NAME", target.checkpoint),
        ));
    }
    target.claimed_here = claim.is_none();
    let left = context.claims.unsettled_claims().into_iter().find(|left| left.container == id);
    if let Some(left) = left.filter(|_| target.claimed_here) {
        // Of an earlier restore, when Docker could not be asked to put back what the freeze had set aside.
        settle::container(context, &left);
    }
    Ok(())
}

/// What has been given to a peer runs there (I3), though its container was kept here.
fn refuse_departed(target: &Target, claim: Option<&Claim>) -> Result<(), Failure> {
    match claim.and_then(|claim| claim.departed_to.as_ref()) {
        None => Ok(()),
        Some(peer) => {
            Err(Failure::refused(format!("{} has moved to {peer} and runs there", target.name)).remedy(format!(
                "bring it back with transship migrate on {peer}, or make another one of it, without its connections: \
             transship restore {} --name NAME",
                target.checkpoint
            )))
        }
    }
}

fn admit_new(context: &Context, target: &Target) -> Result<(), Failure> {
    let failed = || format!("{} cannot be restored as {}", target.checkpoint, target.name);
    match context.docker.container(&target.name) {
        Ok(_) => {
            return Err(Failure::refused(format!("there is a container {} already", target.name))
                .remedy("choose another --name"));
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(Failure::new(failed()).because(&error)),
    }
    let checkpoint = context.catalog.get(&target.checkpoint).or_fail(failed)?;
    let container = &checkpoint.manifest().container;
    if checkpoint.manifest().group.len() > 1 {
        return Err(Failure::refused(format!(
            "{} was frozen together with others, with which it shares a network",
            container.name
        ))
        .remedy("restore the group in place, without --name"));
    }
    if !context.docker.has_image(&container.image_id).or_fail(failed)? {
        return Err(Failure::refused(format!(
            "its image {} ({}) is not on this host",
            container.image, container.image_id
        ))
        .remedy(format!("bring it here: docker save {} on the other host, docker load on this one", container.image)));
    }
    Ok(())
}
