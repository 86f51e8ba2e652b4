//! `gc`: the retention rule and the quota.

use crate::failure::{Failure, OrFail};
use crate::store::retention::{self, Item, Policy, Reason};
use crate::store::{Checkpoint, CheckpointId};
use crate::world::Context;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Duration;

/// Deletes what the rule and the quota no longer keep, or says what it would.
pub fn run(context: &Context, dry_run: bool) -> Result<Value, Failure> {
    let listing = context.catalog.list().or_fail(|| "the store cannot be listed".into())?;
    let mut in_use: HashSet<CheckpointId> = context.claims.all().into_iter().map(|claim| claim.checkpoint).collect();
    in_use.extend(super::restore::left_to_a_person(context)?);
    let candidates: Vec<Item> = listing.checkpoints.iter().map(|one| candidate(one, &in_use)).collect();
    let policy = policy(context)?;
    let plan = retention::plan(&candidates, &policy, jiff::Timestamp::now());
    if let Some(age) = policy.max_age.filter(|_| !dry_run) {
        context.logs.forget_older(age).or_fail(|| "old logs cannot be removed".into())?;
    }
    let mut removed = Vec::new();
    for removal in &plan.removals {
        if !dry_run {
            super::remove::remove(context, &removal.id)?;
        }
        let name =
            listing.checkpoints.iter().find(|one| one.id() == &removal.id).map(|one| &one.manifest().container.name);
        removed.push(json!({ "id": removal.id, "container": name, "why": why(removal.reason) }));
    }
    let total: u64 = candidates.iter().map(|candidate| candidate.bytes).sum();
    Ok(json!({
        "removed": removed,
        "freed_bytes": total - plan.bytes,
        "kept_bytes": plan.bytes,
        "over_quota_bytes": plan.over_quota,
    }))
}

fn why(reason: Reason) -> String {
    match reason {
        Reason::Superseded { kept } => format!("{kept} newer ones of the container are kept"),
        Reason::Expired { age } => format!("it is {} days old", age.as_secs() / 86_400),
        Reason::Quota { over } => format!("the store is {over} bytes over its quota"),
    }
}

fn candidate(checkpoint: &Checkpoint, in_use: &HashSet<CheckpointId>) -> Item {
    let manifest = checkpoint.manifest();
    Item {
        id: checkpoint.id().clone(),
        container: manifest.container.id.clone(),
        created: manifest.created,
        bytes: checkpoint.disk_usage(),
        // A name is the operator's word that this one is wanted.
        in_use: in_use.contains(checkpoint.id()) || manifest.name.is_some(),
        exported: false,
    }
}

fn policy(context: &Context) -> Result<Policy, Failure> {
    let settings = &context.settings;
    let quota = match settings.quota_bytes {
        0 => quarter_of_the_file_system(context)?,
        bytes => bytes,
    };
    Ok(Policy {
        keep_last: Some(settings.keep_last),
        max_age: (settings.keep_days > 0).then(|| Duration::from_secs(u64::from(settings.keep_days) * 86_400)),
        quota_bytes: Some(quota),
    })
}

fn quarter_of_the_file_system(context: &Context) -> Result<u64, Failure> {
    let root = context.catalog.layout().root();
    let found = nix::sys::statvfs::statvfs(root).or_fail(|| format!("{} cannot be measured", root.display()))?;
    Ok(found.blocks() * found.fragment_size() / 4)
}
