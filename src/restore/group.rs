//! Containers that were frozen together are let go together.

use crate::store::claims::Claim;
use crate::world::World;

/// The claims of a restore's whole group, `claim` among them.
///
/// A new container made from a checkpoint is no member of the group that the checkpoint was taken in.
pub fn claims(world: &World, claim: &Claim) -> Vec<Claim> {
    let Ok(checkpoint) = world.catalog.get(&claim.checkpoint) else { return vec![claim.clone()] };
    if checkpoint.manifest().container.id != claim.container {
        return vec![claim.clone()];
    }
    let group = &checkpoint.manifest().group;
    let is_member = |other: &Claim| {
        let in_place =
            world.catalog.get(&other.checkpoint).is_ok_and(|found| found.manifest().container.id == other.container);
        in_place && group.contains(&other.checkpoint) && other.container != claim.container
    };
    let others = world.claims.all().into_iter().filter(is_member);
    std::iter::once(claim.clone()).chain(others).collect()
}
