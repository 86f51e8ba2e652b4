//! What peers say to each other: HTTP/1.1 with JSON, in paths that begin with the protocol's major version.
//!
//! `docs/protocol.md` describes the wire. A host asks [`Hello`] before anything else, so that two versions that do not
//! understand each other say so.

use super::{Address, Fingerprint, PeerName};
use serde::{Deserialize, Serialize};

/// The protocol's major version; the first part of every path.
pub const PROTOCOL: u32 = 1;

/// What TLS agrees on (ALPN), so that nothing that speaks another protocol is mistaken for a peer.
pub const ALPN: &[u8] = b"transship/1";

/// `GET`: who is there, and what it speaks.
pub const HELLO: &str = "/v1/hello";
/// `POST`: the answer to an invitation. The one path that a stranger may ask for.
pub const PAIR: &str = "/v1/pair";
/// `POST`: the asker will have another key.
pub const ROTATE: &str = "/v1/rotate";

/// Headers between helper and port. What comes from outside with such a name is dropped.
pub const HEADER_PREFIX: &str = "x-transship-";
/// Port to helper: the name of the peer that asks.
pub const FROM_PEER: &str = "x-transship-peer";
/// Port to helper: the fingerprint of the key that the peer used.
pub const FROM_KEY: &str = "x-transship-key";
/// Port to helper: the fingerprint of whoever asks and is no peer.
pub const FROM_STRANGER: &str = "x-transship-stranger";
/// Helper to port: the name of the peer that is meant.
pub const TO_PEER: &str = "x-transship-to";
/// Helper to port, for one that is no peer yet: the fingerprint that it must have.
pub const TO_KEY: &str = "x-transship-to-key";
/// Helper to port, with [`TO_KEY`]: where it listens, separated by commas.
pub const TO_ADDRESSES: &str = "x-transship-to-addresses";
/// Helper to port: `off`, `fast` or `best`.
pub const COMPRESS: &str = "x-transship-compress";
/// Helper to port: bytes a second, in each direction.
pub const RATE: &str = "x-transship-rate";
/// Helper to port, with [`RATE`]: a number; what bears the same one goes no faster than that together.
pub const FLOW: &str = "x-transship-flow";
/// Helper to port: for how many seconds nothing of a body may go before it is given up.
pub const PATIENCE: &str = "x-transship-patience";
/// Port to helper: the answer is the port's own and no peer's.
pub const BY_PORT: &str = "x-transship-port";

/// Who a host is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the host that answers.
    pub protocol: u32,
    /// Its transship's version.
    pub version: String,
    /// What it calls itself.
    pub name: String,
}

/// The answer to an invitation.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairRequest {
    /// The invitation's secret, as the token holds it.
    pub secret: String,
    /// What the joining host calls itself.
    pub name: PeerName,
    /// Where it listens.
    pub addresses: Vec<Address>,
}

/// Both have each other's key from here on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairAnswer {
    /// What the inviting host calls itself.
    pub name: PeerName,
}

/// The asker's key from now on. The present one is valid until the new one is used for the first time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// Of the new key.
    pub fingerprint: Fingerprint,
}

/// Why something was not done, in sentences for an operator: the body of every answer that is not a success.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What failed, on what.
    pub what: String,
    /// Why, from the nearest cause to the root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Problem {
    /// A problem in one sentence.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }

    /// What failed and why, in one line.
    pub fn sentence(&self) -> String {
        std::iter::once(&self.what).chain(&self.why).cloned().collect::<Vec<_>>().join(": ")
    }

    /// Adds an error and all that caused it.
    pub fn because(mut self, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            self.why.push(error.to_string());
            next = error.source();
        }
        self
    }

    /// Adds what to do next.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}
