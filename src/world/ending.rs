//! How something that is under way ends, for whoever waits for it.

use crate::failure::Failure;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The end of something, which comes once.
#[derive(Debug, Default)]
pub struct Ending {
    outcome: Mutex<Option<Result<(), Failure>>>,
    changed: Condvar,
}

impl Ending {
    /// It has come.
    pub fn come(&self, outcome: Result<(), Failure>) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.changed.notify_all();
    }

    /// How it came; none where it has not after `patience`.
    pub fn wait(&self, patience: Duration) -> Option<Result<(), Failure>> {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(outcome, patience, |outcome| outcome.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}
