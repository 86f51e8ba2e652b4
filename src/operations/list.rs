//! `ls`: the checkpoints, broken ones included.

use crate::failure::{Failure, OrFail};
use crate::store::{Checkpoint, CheckpointId};
use crate::world::Context;
use serde_json::{Value, json};
use std::collections::HashSet;

/// Lists every checkpoint, newest first.
pub fn run(context: &Context) -> Result<Value, Failure> {
    let listing = context.catalog.list().or_fail(|| "the store cannot be listed".into())?;
    let claimed: HashSet<CheckpointId> = context.claims.all().into_iter().map(|claim| claim.checkpoint).collect();
    let mut whole = listing.checkpoints;
    whole.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.manifest().created));
    let whole = whole.iter().map(|checkpoint| describe(checkpoint, &claimed));
    let broken = listing.broken.iter().map(|broken| json!({ "id": broken.entry, "broken": broken.reason.to_string() }));
    Ok(json!({ "checkpoints": whole.chain(broken).collect::<Vec<_>>() }))
}

fn describe(checkpoint: &Checkpoint, claimed: &HashSet<CheckpointId>) -> Value {
    let form = checkpoint.form().map_or_else(|error| error.to_string(), |form| super::form_name(form).to_owned());
    let state = match claimed.contains(checkpoint.id()) {
        true => format!("frozen, {form}"),
        false => form,
    };
    let mut told = facts(checkpoint);
    told["bytes"] = json!(checkpoint.disk_usage());
    told["state"] = json!(state);
    told
}

/// What others may know of a checkpoint.
pub fn facts(checkpoint: &Checkpoint) -> Value {
    let manifest = checkpoint.manifest();
    json!({
        "id": checkpoint.id(),
        "name": manifest.name,
        "container": manifest.container.name,
        "container_id": manifest.container.id,
        "image": manifest.container.image,
        "created": manifest.created,
        "bytes": manifest.total_bytes(),
        "memory_bytes": manifest.dump.pages_bytes,
    })
}
