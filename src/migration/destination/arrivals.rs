//! Where migrations that come here stand: the visits under way, and what is written down.

use super::disk;
use crate::failure::{Failure, OrFail};
use crate::handover::{Arrival, arrival};
use crate::operations::brought;
use crate::process;
use crate::store::CheckpointId;
use crate::store::handovers::About;
use crate::world::landing::Kept;
use crate::world::visits::Visit;
use crate::world::{Context, World};
use std::path::Path;
use std::sync::Arc;

/// Bytes of a cause that are kept: those of a log's last lines may be many.
const LONGEST_CAUSE: usize = 8 << 10;

/// What is written down; nothing where there is none.
pub fn kept(world: &World, id: &CheckpointId) -> Result<Option<Kept>, Failure> {
    world.handovers.get(About::Arrival, id).or_fail(|| "where it stands cannot be read".into())
}

/// Writes down where it stands.
pub fn keep(world: &World, peer: &str, id: &CheckpointId, arrival: Arrival) -> Result<(), Failure> {
    write_down(world, id, &Kept::of(peer, arrival))
}

/// Writes down that it came to nothing, and why.
pub fn keep_cause(
    world: &World,
    peer: &str,
    id: &CheckpointId,
    (arrival, cause): (Arrival, &Failure),
) -> Result<(), Failure> {
    let cause = Some(cause.clone().shortened(LONGEST_CAUSE));
    write_down(world, id, &Kept { cause, ..Kept::of(peer, arrival) })
}

/// Writes down where it stands, and all else that is kept of it.
pub fn write_down(world: &World, id: &CheckpointId, kept: &Kept) -> Result<(), Failure> {
    world.handovers.put(About::Arrival, id, kept).or_fail(|| "where it stands cannot be written down".into())
}

/// Has everything written out that may not be on disk; whether all that came is then, where that is known.
pub fn put_on_disk(
    context: &Context,
    id: &CheckpointId,
    kept: Kept,
    docker_root: &Path,
) -> Result<Option<bool>, Failure> {
    disk::write_out(context, docker_root)?;
    let is_whole = kept.is_whole_in(&process::boot());
    if is_whole == Some(true) {
        write_down(context, id, &Kept { is_on_disk: true, ..kept })?;
    }
    Ok(is_whole)
}

/// Why a migration from this peer came to nothing here.
pub fn cause(world: &World, peer: &str, id: &CheckpointId) -> Result<Option<Failure>, Failure> {
    Ok(kept(world, id)?.filter(|kept| kept.peer == peer).and_then(|kept| kept.cause))
}

/// A host that is a peer no longer says nothing late: what came from it and is over need not be remembered.
pub fn forget_peer(context: &Context, peer: &str) -> Result<(), Failure> {
    for id in context.handovers.all(About::Arrival) {
        let is_past = |kept: Kept| kept.peer == peer && kept.arrival.is_over() && !context.visits.has(&id);
        if kept(context, &id)?.is_some_and(is_past) {
            context.handovers.remove(About::Arrival, &id).or_fail(|| "what came from it cannot be forgotten".into())?;
        }
    }
    brought::forget_peer(context, peer)
}

/// Where it stands; as one that was never heard of where nothing is written down.
pub fn standing_on_disk(context: &Context, id: &CheckpointId) -> Result<Arrival, Failure> {
    Ok(kept(context, id)?.map(|kept| kept.arrival).unwrap_or_default())
}

/// Where it stands when nothing of the copy is left.
pub fn without_copy(arrival: Arrival) -> Arrival {
    match arrival.on(arrival::Event::RestoreFailed).next {
        Arrival::Dropped => Arrival::Dropped,
        other => other.on(arrival::Event::Gone).next,
    }
}

/// A visit that a peer has a say in.
pub fn visit_of(context: &Context, peer: &str, id: &CheckpointId) -> Result<Arc<Visit>, Failure> {
    let visit = context.visits.get(id).filter(|visit| visit.peer == peer);
    visit.ok_or_else(|| Failure::refused(format!("migration {id} was not prepared, or is over here")))
}
