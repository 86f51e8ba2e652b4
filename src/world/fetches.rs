//! Checkpoints that are being fetched from a peer, and how far each is.

use super::ending::Ending;
use crate::failure::Failure;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
    /// How it ends.
    pub ending: Ending,
}

impl Fetching {
    /// One that has just begun.
    pub fn from(peer: &str) -> Self {
        Self {
            peer: peer.to_owned(),
            total: AtomicU64::default(),
            done: AtomicU64::default(),
            is_unwanted: AtomicBool::default(),
            ending: Ending::default(),
        }
    }

    /// Refuses to go on where nobody wants it any more.
    pub fn wanted(&self) -> Result<(), Failure> {
        match self.is_unwanted.load(Ordering::Relaxed) {
            true => Err(Failure::new(format!("{} does not want it sent any more", self.peer))),
            false => Ok(()),
        }
    }
}
