//! What has left this host and is to come back: remembered on disk until it has.

use crate::failure::{Failure, OrFail};
use crate::store::CheckpointId;
use crate::store::handovers::About;
use crate::world::Context;
use serde::{Deserialize, Serialize};

/// Containers that have left together.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Left {
    /// The peer that has them.
    pub peer: String,
    /// Their names.
    pub names: Vec<String>,
}

/// They have left.
pub fn note(context: &Context, migration: &CheckpointId, left: &Left) -> Result<(), Failure> {
    let noted = context.handovers.put(About::Evacuated, migration, left);
    noted.or_fail(|| format!("that {} is on {} cannot be written down", left.names.join(", "), left.peer))
}

/// They are back, or do not come back.
pub fn back(context: &Context, migration: &CheckpointId) -> Result<(), Failure> {
    let forgotten = context.handovers.remove(About::Evacuated, migration);
    forgotten.or_fail(|| format!("that migration {migration} is back cannot be written down"))
}

/// Everything that has left and is not back.
pub fn all(context: &Context) -> Result<Vec<(CheckpointId, Left)>, Failure> {
    let mut found = Vec::new();
    for id in context.handovers.all(About::Evacuated) {
        let left = context.handovers.get(About::Evacuated, &id).or_fail(|| "what has left cannot be read".into())?;
        found.extend(left.map(|left| (id, left)));
    }
    Ok(found)
}
