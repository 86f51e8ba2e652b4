//! What a person has decided by force about migrations that are under way, until whoever works on them hears of it.

use crate::store::CheckpointId;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Which copy of a container it is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// At its source: it runs here.
    Thaw,
    /// At its source: it is the destination's, and ends here.
    End,
    /// At its destination: it runs here.
    Run,
    /// At its destination: it is the source's, and goes from here.
    Drop,
}

impl Decision {
    /// As it is called on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Thaw => "thaw",
            Self::End => "end",
            Self::Run => "run",
            Self::Drop => "drop",
        }
    }
}

/// The decisions that nobody has heard of yet.
#[derive(Debug, Default)]
pub struct Decisions {
    left: Mutex<HashMap<CheckpointId, Decision>>,
    changed: Condvar,
}

impl Decisions {
    /// Leaves one for whoever works on the migration.
    pub fn leave(&self, migration: &CheckpointId, decision: Decision) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).insert(migration.clone(), decision);
        self.changed.notify_all();
    }

    /// Takes it, as soon as there is one; nothing after `patience`.
    pub fn wait(&self, migration: &CheckpointId, patience: Duration) -> Option<Decision> {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(left, patience, |left| !left.contains_key(migration));
        waited.unwrap_or_else(PoisonError::into_inner).0.remove(migration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_heard_once_by_whom_it_is_for() {
        let decisions = Decisions::default();
        let (one, other) = (CheckpointId::random().unwrap(), CheckpointId::random().unwrap());
        decisions.leave(&one, Decision::Thaw);
        assert_eq!(decisions.wait(&other, Duration::ZERO), None);
        assert_eq!(decisions.wait(&one, Duration::ZERO), Some(Decision::Thaw));
        assert_eq!(decisions.wait(&one, Duration::ZERO), None);
    }
}
