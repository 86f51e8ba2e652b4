//! Where a host listens: a host, by name or number, and a TCP port.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Longest name of a host (RFC 1035).
const MAX_HOST_BYTES: usize = 253;

/// `HOST:PORT`, where the host is a name, an IPv4 address, or an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

/// Text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// The part before the port.
    #[error("{0:?} is neither the name of a host nor an IP address; an IPv6 address with a port stands in brackets")]
    Host(String),
    /// The part behind the last colon.
    #[error("{0:?} is no TCP port: a number from 1 to 65535")]
    Port(String),
    /// No port where one is needed.
    #[error("{0:?} names no port")]
    NoPort(String),
}

impl Address {
    /// Reads `HOST` or `HOST:PORT`.
    pub fn parse_or(text: &str, default_port: u16) -> Result<Self, AddressFault> {
        let (host, port) = split(text)?;
        match port {
            Some(port) => Self::new(host, port),
            None => Self::new(host, default_port),
        }
    }

    /// An address by number.
    pub fn of(ip: IpAddr, port: u16) -> Self {
        Self { host: ip.to_string(), port }
    }

    /// The host, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// An address of its two parts.
    pub fn new(host: &str, port: u16) -> Result<Self, AddressFault> {
        let is_label_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let is_name = !host.is_empty()
            && host.len() <= MAX_HOST_BYTES
            && !host.starts_with(['-', '.'])
            && host.bytes().all(is_label_byte);
        if !is_name && host.parse::<Ipv6Addr>().is_err() {
            return Err(AddressFault::Host(short(host)));
        }
        match port {
            0 => Err(AddressFault::Port("0".into())),
            port => Ok(Self { host: host.to_owned(), port }),
        }
    }
}

/// The host without brackets, and the port where there is one.
fn split(text: &str) -> Result<(&str, Option<u16>), AddressFault> {
    let number = |port: &str| match port.bytes().all(|byte| byte.is_ascii_digit()) {
        true => port.parse().map_err(|_| AddressFault::Port(short(port))),
        false => Err(AddressFault::Port(short(port))),
    };
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(AddressFault::Host(short(text)));
        }
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(number(port)?))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(AddressFault::Host(short(text))),
        };
    }
    match text.rsplit_once(':') {
        // Several colons without brackets: an IPv6 address and no port, or nothing at all.
        Some((host, _)) if host.contains(':') => Ok((text, None)),
        Some((host, port)) => Ok((host, Some(number(port)?))),
        None => Ok((text, None)),
    }
}

/// Not more of it than a person can read.
fn short(text: &str) -> String {
    text.chars().take(150).collect()
}

impl FromStr for Address {
    type Err = AddressFault;

    fn from_str(text: &str) -> Result<Self, AddressFault> {
        let (host, port) = split(text)?;
        Self::new(host, port.ok_or_else(|| AddressFault::NoPort(short(text)))?)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_read_as_people_write_them() {
        for (text, expected) in [
            ("10.0.0.1", "10.0.0.1:7423"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("host.example:80", "host.example:80"),
            ("fd00::1", "[fd00::1]:7423"),
            ("[fd00::1]", "[fd00::1]:7423"),
            ("[fd00::1]:80", "[fd00::1]:80"),
        ] {
            assert_eq!(Address::parse_or(text, 7423).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in ["", ":80", "a b:1", "a:0", "a:65536", "a:+1", "a:", "[x]:1", "[::1", "[::1]1", "-a:1", "1:2:3"] {
            assert!(Address::parse_or(bad, 7423).is_err(), "{bad:?}");
        }
        assert_eq!("host".parse::<Address>(), Err(AddressFault::NoPort("host".into())));
    }

    proptest! {
        #[test]
        fn an_address_is_read_back_as_it_was_written(text in "\\PC{0,40}", port in any::<u16>()) {
            if let Ok(address) = Address::parse_or(&text, port) {
                prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
            }
        }
    }
}
