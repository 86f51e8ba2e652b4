//! Operations whose asker is no operator: the helper at its start, or a peer.

use super::Told;
use crate::failure::Failure;
use crate::saga::Progress;
use std::time::Duration;

/// Tells the log how an operation comes along that nobody at a terminal waits for.
pub struct Log;

impl Progress for Log {
    fn step(&self, name: &str, number: usize, of: usize) {
        tracing::info!(step = name, number, of, "step begins");
    }

    fn step_ended(&self, name: &str, took: Duration) {
        tracing::info!(step = name, ?took, "step ended");
    }

    fn undoing(&self, because: &Failure) {
        tracing::info!(%because, "undoing");
    }
}

impl Told for Log {
    fn bytes(&self, _what: &str, _done: u64, _total: u64) {}

    fn percent(&self, _what: &str, _percent: u8) {}

    fn note(&self, text: &str) {
        tracing::info!("{text}");
    }

    fn part(&self, container: &str, doing: &str, number: usize, of: usize) {
        tracing::info!(container, doing, number, of, "step begins");
    }
}
