//! `peer`: other hosts, who they are and what they may do here.

mod addresses;
mod allow;
mod invite;
pub mod inward;
mod join;
mod list;
mod remove;
mod rotate;

pub use allow::run as allow;
pub use invite::run as invite;
pub use join::run as join;
pub use list::run as list;
pub use remove::run as remove;
pub use rotate::run as rotate;

use crate::failure::Failure;
use crate::transport::PeerName;
use crate::transport::client::PeerError;
use crate::transport::peers::PeersError;

/// What this host calls itself.
fn own_name() -> PeerName {
    let host = nix::unistd::gethostname().unwrap_or_default();
    PeerName::nearest(&host.to_string_lossy())
}

/// A peer that is not in the book.
fn unknown(name: &str) -> Failure {
    Failure::refused(format!("{name} is no peer of this host")).remedy("see: transship peer ls")
}

/// What failed with this host's own book, keys or port.
fn of_own(what: impl Into<String>, error: &PeersError) -> Failure {
    let failure = Failure::new(what).because(error);
    match error {
        PeersError::Port(_) | PeersError::PortIsSilent => {
            failure.remedy("see transshipd's log; the setting `port` in /etc/transship/transship.json is the TCP port")
        }
        _ => failure,
    }
}

/// What failed on the way to another host, or there.
fn of_peer(what: impl Into<String>, error: &PeerError) -> Failure {
    let failure = Failure::new(what).because(error);
    match error.remedy() {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    }
}
