//! What a source says and asks of a migration that comes here.

use super::arrivals::{kept, put_on_disk, visit_of, without_copy, write_down};
use super::disk::docker_root;
use super::{Arrive, admit};
use crate::failure::{Failure, OrFail};
use crate::handover::{Arrival, Request, arrival};
use crate::migration::words;
use crate::operations::brought;
use crate::saga::Operation;
use crate::store::CheckpointId;
use crate::world::Context;
use crate::world::landing::Kept;
use crate::world::visits::{Standing, Word};
use std::time::Duration;

/// How long a source's word may wait until it is seen to; then the source hears where it stands, and says it again.
pub const HEARING: Duration = Duration::from_secs(45);

/// What the source says of a visit, and where it stands afterwards.
pub fn say(context: &Context, peer: &str, id: &CheckpointId, word: Word) -> Result<Standing, Failure> {
    admit::may(context, peer)?;
    match context.visits.has(id) {
        true => {
            let patience = match word {
                Word::Restore(_) => words::RESTORE,
                Word::Handover(_) | Word::Forced(_) => HEARING,
            };
            Ok(visit_of(context, peer, id)?.say(word, patience))
        }
        false => without_a_visit(context, peer, id, &word),
    }
}

/// Nobody works on it: it is over, or was never begun. The rules are the same.
fn without_a_visit(context: &Context, peer: &str, id: &CheckpointId, word: &Word) -> Result<Standing, Failure> {
    let known = kept(context, id)?;
    let request = match word {
        Word::Handover(request) => *request,
        // It was said before, and the answer was lost.
        Word::Restore(_) if known.is_some() => Request::Ask,
        Word::Restore(_) | Word::Forced(_) => {
            return Err(Failure::refused(format!("migration {id} was not prepared, or is over here")));
        }
    };
    if known.as_ref().is_some_and(|known| known.peer != peer) {
        return Err(Failure::refused(format!("migration {id} comes from another host")));
    }
    if is_to_be_taken_up(context, id)? {
        return Err(Failure::new(format!("migration {id} is about to be taken up again")).remedy("ask again"));
    }
    let (on_disk, cause) = known.map(|known| (known.arrival, known.cause)).unwrap_or_default();
    let before = match on_disk {
        // Nobody works on it and nobody will, so there is no copy. It was not written down that it is dropped.
        Arrival::Restored => without_copy(Arrival::Restored),
        other => other,
    };
    let after = before.on(arrival::Event::Request(request)).next;
    tracing::info!(migration = %id, peer, ?request, ?before, ?after, "asked about a migration that nobody works on");
    if after != on_disk {
        write_down(context, id, &Kept { cause: cause.clone(), ..Kept::of(peer, after) })?;
    }
    if matches!(after, Arrival::Dropped | Arrival::Lost) {
        // Whoever still pulls some sees to them all, once it has let go.
        if !context.pulls.are_unwanted(id) {
            brought::give_up(context, peer, id)?;
        }
    }
    let failure = match after {
        // The source need not ask until it is out of patience.
        Arrival::Released => Some(
            Failure::new("it was given to this host, and what would let it run here has failed")
                .remedy("on that host: transship status, and transship resume OPERATION; then the same here"),
        ),
        _ => cause,
    };
    Ok(Standing { arrival: after, is_over: true, failure, ..Standing::default() })
}

/// Whether a helper before this one has left it unfinished, and this one has not come to it yet.
fn is_to_be_taken_up(context: &Context, id: &CheckpointId) -> Result<bool, Failure> {
    let unfinished = context.journal.unfinished().or_fail(|| "the journal cannot be read".into())?;
    Ok(unfinished.iter().any(|record| record.kind == Arrive::KIND && record.state["id"] == id.as_str()))
}

/// Has everything written out; whether all that came is on disk then, where that is known. Only of what runs here: the source
/// deletes what it has.
pub fn sync(context: &Context, peer: &str, id: &CheckpointId) -> Result<Option<bool>, Failure> {
    admit::may(context, peer)?;
    match kept(context, id)?.filter(|kept| kept.peer == peer) {
        Some(kept) if kept.arrival == Arrival::Running && kept.is_on_disk => Ok(Some(true)),
        Some(kept) if kept.arrival == Arrival::Running => put_on_disk(context, id, kept, &docker_root(context)?),
        other => {
            let arrival = other.map(|kept| kept.arrival).unwrap_or_default();
            Err(Failure::refused(format!("migration {id} does not run here: it is {arrival:?}")))
        }
    }
}

/// Where a visit stands; of one that is over, what is written down.
pub fn standing(context: &Context, peer: &str, id: &CheckpointId) -> Result<Standing, Failure> {
    match context.visits.has(id) {
        true => Ok(visit_of(context, peer, id)?.standing()),
        false => without_a_visit(context, peer, id, &Word::Handover(Request::Ask)),
    }
}
