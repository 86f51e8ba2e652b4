//! Where migrations from here stand, as it is written down.

use super::Migrate;
use crate::failure::{Failure, OrFail};
use crate::handover::Departure;
use crate::handover::departure::Outcome;
use crate::store::CheckpointId;
use crate::store::handovers::About;
use crate::world::Context;
use serde::{Deserialize, Serialize};

/// Where a migration from here stands; a destination asks that has waited for long.
///
/// It is told to its destination alone.
pub fn standing(context: &Context, peer: &str, id: &CheckpointId) -> Result<Option<Departure>, Failure> {
    let kept = kept(context, id)?.filter(|kept| kept.peer == peer).map(|kept| kept.departure);
    if kept.is_some_and(was_kept) {
        // Where a person has taken it back, the claim goes a while later.
        return Ok(kept);
    }
    let claims = context.claims.all();
    if let Some(claim) = claims.iter().find(|claim| claim.checkpoint == *id && claim.departed_to.is_some()) {
        return Ok((claim.departed_to.as_deref() == Some(peer)).then_some(Departure::Committed));
    }
    Ok(kept)
}

/// What is written down of a migration from here.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    /// Where it goes.
    pub peer: String,
    /// Where it stands.
    pub departure: Departure,
}

/// What is; nothing where there is none.
pub fn kept(context: &Context, id: &CheckpointId) -> Result<Option<Kept>, Failure> {
    context.handovers.get(About::Departure, id).or_fail(|| "where it stands cannot be read".into())
}

/// Writes down where it is to stand.
pub fn keep(context: &Context, migrate: &Migrate, departure: Departure) -> Result<(), Failure> {
    let kept = Kept { peer: migrate.peer.clone(), departure };
    let written = context.handovers.put(About::Departure, migrate.id(), &kept);
    written.or_fail(|| format!("where the migration of {} stands cannot be written down", migrate.name()))
}

/// Writes down where it stands now.
pub fn write_down(migrate: &Migrate, context: &Context) -> Result<(), Failure> {
    keep(context, migrate, migrate.departure)
}

/// Whether the container was kept here.
pub fn is_kept(context: &Context, id: &CheckpointId) -> Result<bool, Failure> {
    Ok(kept(context, id)?.is_some_and(|kept| was_kept(kept.departure)))
}

/// The same, by what is written down.
pub fn was_kept(departure: Departure) -> bool {
    matches!(departure, Departure::GivenUp | Departure::Contested | Departure::Closed(Outcome::Kept))
}

/// A host that is a peer no longer asks nothing: what went to it and is closed need not be remembered.
pub fn forget_peer(context: &Context, peer: &str) -> Result<(), Failure> {
    for id in context.handovers.all(About::Departure) {
        let is_past =
            |kept: Kept| kept.peer == peer && (kept.departure.is_closed() || kept.departure == Departure::GivenUp);
        if kept(context, &id)?.is_some_and(is_past) {
            let forgotten = context.handovers.remove(About::Departure, &id);
            forgotten.or_fail(|| "what went to it cannot be forgotten".into())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i1_what_was_kept_here_is_never_told_of_the_commit_again() {
        let kept = [Departure::GivenUp, Departure::Contested, Departure::Closed(Outcome::Kept)];
        assert!(kept.into_iter().all(was_kept));
        let given = [Departure::Committed, Departure::Stranded, Departure::Settled, Departure::Closed(Outcome::Moved)];
        assert!(!given.into_iter().any(was_kept));
        assert!(given.into_iter().all(Departure::is_past_commit));
    }
}
