//! `rm`: delete checkpoints.

use crate::failure::{Failure, OrFail};
use crate::store::claims::Claim;
use crate::store::{Checkpoint, CheckpointId};
use crate::world::Context;
use serde_json::{Value, json};

/// Deletes checkpoints; all are found, and none refused, before the first goes.
pub fn run(context: &Context, references: &[String], force: bool) -> Result<Value, Failure> {
    let mut found = Vec::new();
    let mut broken = Vec::new();
    for reference in references {
        if let Some(id) = broken_one(context, reference) {
            if !force {
                return Err(Failure::refused(format!(
                    "checkpoint {id} is damaged, and may be the only copy of a container"
                ))
                .remedy("put its files back from a backup, or delete it with --force"));
            }
            broken.push(id);
            continue;
        }
        let checkpoint = super::find(context, reference)?;
        let claims = claims_on(context, checkpoint.id());
        if !claims.is_empty() && !force {
            let name = &checkpoint.manifest().container.name;
            return Err(Failure::refused(format!(
                "checkpoint {} is the only copy of {name}, which is frozen",
                checkpoint.id()
            ))
            .remedy(format!("bring it back first (transship restore {name}), or abandon it with --force")));
        }
        found.push((checkpoint, claims));
    }
    for (checkpoint, claims) in &found {
        for claim in claims {
            abandon(context, checkpoint, claim)?;
        }
        remove(context, checkpoint.id())?;
    }
    for id in &broken {
        for claim in claims_on(context, id) {
            context
                .claims
                .withdraw(&claim.container)
                .or_fail(|| format!("the claim on {} cannot be withdrawn", claim.container))?;
            crate::restore::settle::lift_hold(context, &claim.container);
        }
        remove(context, id)?;
    }
    let removed = found.iter().map(|(checkpoint, _)| checkpoint.id()).chain(&broken);
    Ok(json!({ "removed": removed.collect::<Vec<_>>() }))
}

/// A checkpoint that is there by this id and cannot be read.
fn broken_one(context: &Context, reference: &str) -> Option<CheckpointId> {
    let id: CheckpointId = reference.parse().ok()?;
    let there = context.catalog.layout().checkpoint(&id).is_dir();
    (there && context.catalog.get(&id).is_err()).then_some(id)
}
/// The claims that name a checkpoint: of the container that was frozen, and of new ones that are being made from it.
fn claims_on(context: &Context, id: &CheckpointId) -> Vec<Claim> {
    context.claims.all().into_iter().filter(|claim| &claim.checkpoint == id).collect()
}

/// Deletes one checkpoint that nothing claims.
pub fn remove(context: &Context, id: &CheckpointId) -> Result<(), Failure> {
    // Of a container that has just been restored it tells which restart policy it gets back.
    for claim in context.claims.unsettled_claims().iter().filter(|claim| claim.checkpoint == *id) {
        context.settling.wait_until_taken(&claim.container);
    }
    context.packing.stop(id);
    context.catalog.remove(id).or_fail(|| format!("checkpoint {id} cannot be deleted"))
}

/// The frozen container is a stopped one from here on: its clients are told so, and its restart policy is back.
fn abandon(context: &Context, checkpoint: &Checkpoint, claim: &Claim) -> Result<(), Failure> {
    let name = &checkpoint.manifest().container.name;
    context.claims.withdraw(&claim.container).or_fail(|| format!("the claim on {name} cannot be withdrawn"))?;
    crate::restore::settle::lift_hold(context, &claim.container);
    crate::restore::settle::container(&context.world, claim);
    Ok(())
}
