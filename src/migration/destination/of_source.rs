//! What the destination asks of the source.

use crate::handover::departure::Outcome;
use crate::handover::{Departure, Request};
use crate::migration::{asking, words};
use crate::store::CheckpointId;
use crate::transport::client::PeerError;

/// What the source of a migration has decided, by its own word; nothing where it has not yet.
pub fn decided(peer: &str, id: &CheckpointId) -> Result<Option<Request>, PeerError> {
    let departure: Option<Departure> = asking::peer(peer).get(&words::departure_path(id))?;
    Ok(match departure {
        Some(Departure::GivenUp | Departure::Closed(Outcome::Kept)) => Some(Request::Drop),
        Some(departure) if departure.is_past_commit() => Some(Request::Commit),
        _ => None,
    })
}
