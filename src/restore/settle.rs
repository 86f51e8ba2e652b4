//! What is left to do when a restored container runs.

use crate::docker::Container;
use crate::network::hold;
use crate::store::ContainerId;
use crate::store::claims::Claim;
use crate::world::World;

/// Gives a container its restart policy back and removes what the restore needed. Repeating it is harmless; where
/// it fails, the helper's next start does it again.
pub fn container(world: &World, claim: &Claim) {
    super::prepare::forget(world, &claim.checkpoint);
    remove_directory(&super::gate::work_path(&claim.container));
    match give_restart_policy_back(world, claim) {
        Ok(()) => forget_unsettled(world, claim),
        Err(error) => {
            tracing::error!(container = %claim.container, %error, "the restart policy could not be put back");
        }
    }
}

fn forget_unsettled(world: &World, claim: &Claim) {
    if let Err(error) = world.claims.settle(&claim.container) {
        tracing::warn!(container = %claim.container, %error, "its restart policy is put back once more at the next start");
    }
}

fn give_restart_policy_back(world: &World, claim: &Claim) -> Result<(), Box<dyn std::error::Error>> {
    let now = match world.docker.container(&claim.container.to_string()) {
        Ok(container) => container.restart_policy(),
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let checkpoint = world.catalog.get(&claim.checkpoint)?;
    let before = Container::new(checkpoint.manifest().container.spec.clone()).restart_policy();
    if before != now {
        world.docker.set_restart_policy(&claim.container.to_string(), &before)?;
    }
    Ok(())
}

/// Ends a container's hold: it runs, or nobody waits for it any more.
pub fn lift_hold(world: &World, container: &ContainerId) {
    lift_hold_beside_others(world, container);
    hold::forget_shared();
}

/// The same while others may still be held: [`hold::forget_shared`] follows when none of them is.
pub fn lift_hold_beside_others(world: &World, container: &ContainerId) {
    drop(world.stand_ins.take(container));
    let Some(mut hold) = world.holds.take(container) else { return };
    // Where it fails twice, its rules are taken away with what all holds share.
    match hold.lift().or_else(|first| hold.lift().map_err(|_| first)) {
        Ok(report) => {
            tracing::info!(%container, ?report, "hold lifted");
            world.lifted.keep(container.clone(), report);
        }
        Err(error) => tracing::error!(%container, %error, "the hold could not be lifted"),
    }
}

/// Removes a directory that may be gone already.
pub fn remove_directory(path: &std::path::Path) {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "could not be removed");
        }
        _ => {}
    }
}
