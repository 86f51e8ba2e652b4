//! What the destination asks of the source.

use crate::handover::departure::Outcome;
use crate::handover::{Departure, Request};
use crate::migration::{asking, words};
use crate::store::CheckpointId;
use crate::transport::client::PeerError;
use std::time::Duration;

/// How long the source may take to answer: meanwhile nobody hears what it says by itself, a commit at worst.
const ANSWER: Duration = Duration::from_secs(10);

/// What the source of a migration has decided, by its own word; nothing where it has not yet.
pub fn decided(peer: &str, id: &CheckpointId) -> Result<Option<Request>, PeerError> {
    let departure: Option<Departure> = asking::peer(peer).get_within(&words::departure_path(id), ANSWER)?;
    Ok(match departure {
        Some(Departure::GivenUp | Departure::Closed(Outcome::Kept)) => Some(Request::Drop),
        Some(departure) if departure.is_past_commit() => Some(Request::Commit),
        _ => None,
    })
}
