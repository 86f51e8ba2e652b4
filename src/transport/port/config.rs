//! What the helper tells the port, one JSON object a line.

use crate::transport::identity::OwnKey;
use crate::transport::{Address, Fingerprint, PeerName};
use serde::{Deserialize, Serialize};

/// All that the port knows, until the next one comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which configuration this is; the port says it when it goes by it.
    pub number: u64,
    /// This host's keys, its own first.
    pub keys: Vec<OwnKey>,
    /// Who may ask, and who can be asked.
    pub peers: Vec<Remote>,
    /// Whether an invitation is open: then whoever has any key may ask to be paired.
    pub strangers: bool,
}

/// A peer as the port has to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remote {
    /// What it is called.
    pub name: PeerName,
    /// Its keys, of which the first is expected.
    pub keys: Vec<Fingerprint>,
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// The key of this host that it knows.
    pub own: Fingerprint,
}

/// What the port says on its standard output, one a line: it goes by this configuration now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// [`Config::number`].
    pub number: u64,
}

impl Config {
    /// The peer that has a key.
    pub fn owner(&self, key: &Fingerprint) -> Option<&Remote> {
        self.peers.iter().find(|peer| peer.keys.contains(key))
    }

    /// The peer of a name.
    pub fn peer(&self, name: &str) -> Option<&Remote> {
        self.peers.iter().find(|peer| peer.name.as_str() == name)
    }
}
