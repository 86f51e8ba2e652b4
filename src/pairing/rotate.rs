//! `peer rotate`: another key for this host, told to its peers over connections of the former one.
//!
//! Whoever dies in between, the two hosts still know each other:
//!
//! 1. a peer that was told accepts both keys until the new one has been used;
//! 2. this host uses the new one when the peer has said that it was told, and the former one until then;
//! 3. this host goes on being known by the former one until the peer has heard the new one from it.

use super::of_own;
use crate::failure::Failure;
use crate::transport::Fingerprint;
use crate::transport::book::Peer;
use crate::transport::client::{self, PeerError, SOCKET};
use crate::transport::peers::PeersError;
use crate::transport::protocol::{ROTATE, RotateRequest};
use crate::world::Context;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// What a peer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a peer does not know the new key.
#[derive(Debug, thiserror::Error)]
enum NotTold {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Own(#[from] PeersError),
}

/// Makes a key and tells it to every peer that can be reached.
pub fn run(context: &Context) -> Result<Value, Failure> {
    let made = context.peers.change(|state| {
        let fingerprint = state.identity.rotate()?;
        // The word of an open invitation has the former key in it.
        let closed = state.book.close_invitations();
        Ok((fingerprint, closed, state.book.peers().to_vec()))
    });
    let failed = |error: &PeersError| of_own("the key is not changed", error);
    let ((fingerprint, closed, peers), number) = made.map_err(|error| failed(&error))?;
    if !peers.is_empty() {
        context.peers.wait_for_port(number).map_err(|error| failed(&error))?;
    }
    let (mut told, mut not_told) = (Vec::new(), Vec::new());
    for peer in &peers {
        match tell(context, peer, fingerprint) {
            Ok(()) => told.push(&peer.name),
            Err(error) => {
                tracing::warn!(peer = %peer.name, %error, "does not know the new key");
                not_told.push(json!({ "name": peer.name, "why": error.to_string() }));
            }
        }
    }
    let tidied = context.peers.change(|state| {
        let book = &state.book;
        state.identity.retain(|key| book.peers().iter().any(|peer| peer.knows.contains(key)));
        Ok(())
    });
    tidied.map_err(|error| of_own("the key is changed, and the former one could not be removed", &error))?;
    tracing::info!(%fingerprint, "this host has another key");
    Ok(json!({
        "fingerprint": fingerprint,
        "told": told,
        "not_told": not_told,
        "invitations_closed": closed,
    }))
}

fn tell(context: &Context, peer: &Peer, fingerprint: Fingerprint) -> Result<(), NotTold> {
    let name = peer.name.as_str();
    let socket = Path::new(SOCKET);
    client::Peer::named(socket, name).post::<Value>(ROTATE, &RotateRequest { fingerprint }, Some(PATIENCE))?;
    knows(context, name, |former| std::iter::once(fingerprint).chain(former.iter().copied()).collect())?;
    // A new connection, by the new key.
    match client::Peer::named(socket, name).hello() {
        Ok(_) => Ok(knows(context, name, |_| vec![fingerprint])?),
        // It was told. That it may still expect the former key is noted, and costs nothing.
        Err(error) => {
            tracing::warn!(name, %error, "was told of the new key, and has not heard it yet");
            Ok(())
        }
    }
}

/// Notes by which keys a peer knows this host, and has the port go by that.
fn knows(context: &Context, name: &str, change: impl Fn(&[Fingerprint]) -> Vec<Fingerprint>) -> Result<(), PeersError> {
    let ((), number) = context.peers.change(|state| {
        // It may have been removed meanwhile.
        if let Some(peer) = state.book.peer_mut(name) {
            peer.knows = change(&peer.knows);
        }
        Ok(())
    })?;
    context.peers.wait_for_port(number)
}
