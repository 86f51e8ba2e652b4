//! `peer ls`: the peers, and the invitations that are open.

use super::of_own;
use crate::failure::Failure;
use crate::transport::book::{Invitation, Peer};
use crate::world::Context;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Lists what the book says; nobody is called.
pub fn run(context: &Context) -> Result<Value, Failure> {
    let state = context.peers.state().map_err(|error| of_own("the peers cannot be listed", &error))?;
    let own = state.identity.fingerprint();
    let is_open = |invitation: &&Invitation| invitation.expires > Timestamp::now();
    let invitation = |one: &Invitation| json!({ "expires": one.expires, "name": one.name });
    Ok(json!({
        "fingerprint": own,
        "peers": state.book.peers().iter().map(|peer| describe(peer, peer.knows.first() == Some(&own))).collect::<Vec<_>>(),
        "invitations": state.book.invitations().iter().filter(is_open).map(invitation).collect::<Vec<_>>(),
    }))
}

fn describe(peer: &Peer, knows_own_key: bool) -> Value {
    json!({
        "name": peer.name,
        "fingerprint": peer.fingerprint,
        "addresses": peer.addresses,
        "containers": peer.permissions.accepts_containers,
        "checkpoints": peer.permissions.accepts_checkpoints,
        "return": peer.permissions.takes_back,
        "since": peer.since,
        "knows_own_key": knows_own_key,
    })
}
