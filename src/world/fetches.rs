//! Checkpoints that are being fetched from a peer, and how far each is.

use crate::failure::Failure;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A checkpoint on its way here.
#[derive(Debug)]
pub struct Fetching {
    /// Who it comes from.
    pub peer: String,
    /// Bytes of all its files, once that is known.
    pub total: AtomicU64,
    /// Bytes that are here.
    pub done: AtomicU64,
    /// Set when nobody wants it any more.
    pub is_unwanted: AtomicBool,
    ended: Mutex<Option<Result<(), Failure>>>,
    changed: Condvar,
}

impl Fetching {
    /// One that has just begun.
    pub fn from(peer: &str) -> Self {
        Self {
            peer: peer.to_owned(),
            total: AtomicU64::default(),
            done: AtomicU64::default(),
            is_unwanted: AtomicBool::default(),
            ended: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Refuses to go on where nobody wants it any more.
    pub fn wanted(&self) -> Result<(), Failure> {
        match self.is_unwanted.load(Ordering::Relaxed) {
            true => Err(Failure::new(format!("{} does not want it sent any more", self.peer))),
            false => Ok(()),
        }
    }

    /// It has come to its end.
    pub fn end(&self, outcome: Result<(), Failure>) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.changed.notify_all();
    }

    /// How it ended; none where it is still under way after `patience`.
    pub fn wait(&self, patience: Duration) -> Option<Result<(), Failure>> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(ended, patience, |ended| ended.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}
