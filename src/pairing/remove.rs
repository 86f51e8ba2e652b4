//! `peer rm`: a peer is one no longer.

use super::{of_own, unknown};
use crate::failure::Failure;
use crate::migration::{destination, source};
use crate::world::Context;
use serde_json::{Value, json};

/// Takes a peer out of the book; its connections are closed when this returns.
pub fn run(context: &Context, name: &str) -> Result<Value, Failure> {
    let removed = context.peers.change(|state| {
        let removed = state.book.remove(name);
        // A former key that only this peer knew is of no use any more.
        let book = &state.book;
        state.identity.retain(|key| book.peers().iter().any(|peer| peer.knows.contains(key)));
        Ok(removed)
    });
    let (removed, number) = removed.map_err(|error| of_own(format!("{name} cannot be removed"), &error))?;
    let removed = removed.ok_or_else(|| unknown(name))?;
    context
        .peers
        .wait_for_port(number)
        .map_err(|error| of_own(format!("{name} is removed, and may still be connected"), &error))?;
    destination::forget_peer(context, name)?;
    source::forget_peer(context, name)?;
    tracing::info!(name, fingerprint = %removed.fingerprint, "no peer any more");
    Ok(json!({ "removed": removed.name }))
}
