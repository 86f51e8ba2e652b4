//! Asking the other host.

use crate::transport::client::{self, Peer};
use std::path::Path;

/// A peer, by the name that the book has.
pub fn peer(name: &str) -> Peer {
    Peer::named(Path::new(client::SOCKET), name)
}
