//! What a host calls another.

use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::str::FromStr;

/// Longest name of a peer: a host's name has no more (`HOST_NAME_MAX`).
const MAX_BYTES: usize = 64;

/// A peer's name: safe in a header, in a log line and on a command line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PeerName(String);

/// Text that cannot be the name of a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name of a peer: letters, digits, `.`, `_` and `-`, beginning with a letter or a digit, at most 64"
)]
pub struct NameFault(String);

impl PeerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a host can be called that calls itself `text`.
    pub fn nearest(text: &str) -> Self {
        let plain: String =
            text.chars().filter(|sign| u8::try_from(*sign).is_ok_and(is_plain)).take(MAX_BYTES).collect();
        match plain.trim_start_matches(|sign: char| !sign.is_ascii_alphanumeric()) {
            "" => Self("host".to_owned()),
            name => Self(name.to_owned()),
        }
    }

    /// The same name with a number behind it, for a second peer that calls itself so.
    pub fn numbered(&self, number: usize) -> Self {
        let suffix = format!("-{number}");
        let kept = &self.0[..self.0.len().min(MAX_BYTES - suffix.len())];
        Self(format!("{kept}{suffix}"))
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

impl FromStr for PeerName {
    type Err = NameFault;

    fn from_str(text: &str) -> Result<Self, NameFault> {
        let begins_well = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        match begins_well && text.len() <= MAX_BYTES && text.bytes().all(is_plain) {
            true => Ok(Self(text.to_owned())),
            // Not more of it than a person can read.
            false => Err(NameFault(text.chars().take(150).collect())),
        }
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for PeerName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_a_header_or_begin_an_option() {
        for bad in ["", "-x", ".x", "a b", "a\r\nb", "a/b", "é", &"a".repeat(65)] {
            assert!(bad.parse::<PeerName>().is_err(), "{bad:?}");
        }
        assert_eq!("web-1.example".parse::<PeerName>().unwrap().as_str(), "web-1.example");
    }

    #[test]
    fn every_host_can_be_called_something() {
        for (text, name) in [("web-1", "web-1"), ("-web 1é", "web1"), ("", "host"), ("é", "host")] {
            assert_eq!(PeerName::nearest(text).as_str(), name);
        }
        assert!(PeerName::nearest(&"a".repeat(100)).as_str().parse::<PeerName>().is_ok());
    }

    #[test]
    fn a_numbered_name_is_a_name() {
        let name: PeerName = "a".repeat(64).parse().unwrap();
        assert!(name.numbered(12).as_str().parse::<PeerName>().is_ok());
        assert_eq!("web".parse::<PeerName>().unwrap().numbered(2).as_str(), "web-2");
    }
}
