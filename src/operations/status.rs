//! `status` and `history`: what is going on, and what was done.

use crate::failure::{Failure, OrFail};
use crate::services::{Interposition, effective_runc};
use crate::world::Context;
use serde_json::{Value, json};

/// What is frozen, what is under way, what waits for a person.
pub fn run(context: &Context) -> Result<Value, Failure> {
    let unfinished = context.journal.unfinished().or_fail(|| "the journal cannot be read".into())?;
    let waiting = context.journal.needing_a_person().or_fail(|| "the journal cannot be read".into())?;
    let frozen = context.claims.all().into_iter().map(|claim| {
        let name = context.catalog.get(&claim.checkpoint).map(|found| found.manifest().container.name.clone());
        json!({
            "container": name.unwrap_or_else(|_| claim.container.to_string()),
            "checkpoint": claim.checkpoint,
            "held": context.holds.has(&claim.container),
        })
    });
    let interposer = match effective_runc() {
        Interposition::Interposed => "in front of runc".to_owned(),
        Interposition::Bare { found: Some(runc) } => {
            format!("NOT in front of runc ({}); run: transship install", runc.display())
        }
        Interposition::Bare { found: None } => "no runc in containerd's PATH".to_owned(),
        Interposition::NoContainerd => "no containerd runs".to_owned(),
    };
    Ok(json!({
        "interposer": interposer,
        "frozen": frozen.collect::<Vec<_>>(),
        "operations": unfinished.into_iter().chain(waiting).collect::<Vec<_>>(),
    }))
}

/// The last operations, newest first.
pub fn history(context: &Context, limit: usize) -> Result<Value, Failure> {
    let operations = context.journal.history(limit).or_fail(|| "the journal cannot be read".into())?;
    Ok(json!({ "operations": operations }))
}
