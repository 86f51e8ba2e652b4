//! Decisions that a killed helper had made and not carried out: a committed claim means that the container runs.

use crate::interposer::resume;
use crate::store::ContainerId;
use crate::store::claims::Claim;
use crate::world::World;

/// Lets every container go whose claim is committed, with the rest of its group.
pub fn committed(world: &World) {
    for container in world.claims.committed_containers() {
        let Ok(Some(claim)) = world.claims.find(&container) else { continue };
        for member in super::group::claims(world, &claim) {
            if let Err(error) = carry_out(world, &member) {
                tracing::error!(container = %member.container, error, "a committed restore could not be carried out");
            }
        }
    }
}

/// Puts back what a helper before this one had set aside and did not come to put back. Called when no restore of its time is
/// unfinished any more: that one was let go shows by what is settled here.
pub fn unsettled(world: &World) {
    for claim in world.claims.unsettled_claims() {
        // Otherwise it was not committed after all, or is frozen anew: its own restore will settle it.
        if let Ok(None) = world.claims.find(&claim.container) {
            super::settle::container(world, &claim);
        }
    }
}

fn carry_out(world: &World, claim: &Claim) -> Result<(), String> {
    world.claims.commit(&claim.container).map_err(|error| error.to_string())?;
    match running(world, &claim.container)? {
        Some(pid) => resume::processes(pid, &[]).map_err(|error| error.to_string())?,
        // It was let go and has ended since, or Docker ended it: it may have run, so it is not restored again.
        None => tracing::warn!(container = %claim.container, checkpoint = %claim.checkpoint,
            "was let go and does not run any more; its checkpoint is kept"),
    }
    super::settle::lift_hold(world, &claim.container);
    world.claims.finish(&claim.container).map_err(|error| error.to_string())
}

fn running(world: &World, container: &ContainerId) -> Result<Option<i32>, String> {
    match world.docker.container(container.as_str()) {
        Ok(found) => Ok(found.pid()),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}
