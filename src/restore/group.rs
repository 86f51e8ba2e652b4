//! Containers that were frozen together are let go together.

use crate::store::claims::Claim;
use crate::world::World;

/// The claims of a restore's whole group, `claim` first.
///
/// Containers that have come from a peer together name the one that decides for them. A new container made from a
/// checkpoint is no member of the group that the checkpoint was taken in.
pub fn claims(world: &World, claim: &Claim) -> Vec<Claim> {
    let all = world.claims.all();
    let decided_together: Vec<Claim> =
        all.iter().filter(|other| other.decider() == claim.decider() && is_another(other, claim)).cloned().collect();
    let others = match decided_together.is_empty() {
        true => frozen_together(world, claim, all),
        false => decided_together,
    };
    std::iter::once(claim.clone()).chain(others).collect()
}

fn frozen_together(world: &World, claim: &Claim, all: Vec<Claim>) -> Vec<Claim> {
    let Ok(checkpoint) = world.catalog.get(&claim.checkpoint) else { return Vec::new() };
    if checkpoint.manifest().container.id != claim.container {
        return Vec::new();
    }
    let group = &checkpoint.manifest().group;
    let is_member = |other: &Claim| {
        let in_place =
            world.catalog.get(&other.checkpoint).is_ok_and(|found| found.manifest().container.id == other.container);
        in_place && group.contains(&other.checkpoint) && is_another(other, claim)
    };
    all.into_iter().filter(is_member).collect()
}

fn is_another(one: &Claim, other: &Claim) -> bool {
    one.container != other.container
}
