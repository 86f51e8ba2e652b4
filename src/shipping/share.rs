//! `share`: which peer may fetch a checkpoint.

use crate::failure::{Failure, OrFail};
use crate::store::{Checkpoint, CheckpointId};
use crate::world::Context;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

/// Lets a peer fetch a checkpoint, or lets it no longer.
pub fn run(context: &Context, reference: &str, peer: &str, ends: bool) -> Result<Value, Failure> {
    super::peer(context, peer)?;
    let checkpoint = crate::operations::find(context, reference)?;
    match ends {
        true => end(context, checkpoint.id(), peer)?,
        false => drop(begin(context, &checkpoint, peer)?),
    }
    Ok(json!({ "id": checkpoint.id(), "peer": peer, "shared": !ends }))
}

/// Lets a peer fetch a checkpoint, whose files lie there uncompressed from then on. Whether it could not before.
pub fn begin(context: &Context, checkpoint: &Checkpoint, peer: &str) -> Result<bool, Failure> {
    let is_new = change(context, peer, |shared| shared.insert(checkpoint.id().to_string()))?;
    // After it is in the book: compression in the background looks there first.
    context.packing.stop(checkpoint.id());
    let (done, total) = (AtomicU64::new(0), checkpoint.manifest().total_bytes());
    let progress = |bytes| context.told.bytes("unpacked", done.fetch_add(bytes, Ordering::Relaxed) + bytes, total);
    let unpacked =
        checkpoint.unpack(&progress).or_fail(|| format!("checkpoint {} cannot be unpacked", checkpoint.id()));
    match unpacked {
        Ok(()) => Ok(is_new),
        Err(failure) => {
            if is_new {
                end(context, checkpoint.id(), peer)?;
            }
            Err(failure)
        }
    }
}

/// Lets a peer fetch it no longer.
pub fn end(context: &Context, id: &CheckpointId, peer: &str) -> Result<(), Failure> {
    change(context, peer, |shared| shared.remove(id.as_str()))?;
    crate::operations::pack::begin(&context.world);
    Ok(())
}

/// Changes what a peer may fetch, and forgets what is there no longer. A peer that has gone may fetch nothing.
fn change(
    context: &Context,
    peer: &str,
    change: impl FnOnce(&mut std::collections::BTreeSet<String>) -> bool,
) -> Result<bool, Failure> {
    let is_there = |id: &String| id.parse().is_ok_and(|id| context.catalog.get(&id).is_ok());
    let changed = context.peers.change(|state| {
        Ok(state.book.peer_mut(peer).is_some_and(|peer| {
            peer.permissions.shared.retain(is_there);
            change(&mut peer.permissions.shared)
        }))
    });
    changed.map(|(changed, _)| changed).or_fail(|| format!("what {peer} may fetch cannot be written down"))
}
