//! Asking the other host.

use crate::failure::Failure;
use crate::transport::client::{self, Peer, PeerError};
use std::path::Path;

/// A peer, by the name that the book has.
pub fn peer(name: &str) -> Peer {
    Peer::named(Path::new(client::SOCKET), name)
}

/// A failure in the peer's own words.
pub fn failed(error: &PeerError, what: String) -> Failure {
    let failure = Failure::new(what).because(error);
    match error.remedy() {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    }
}
