//! Addresses as a manifest holds them: checked text.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text that is no address of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {kind}")]
pub struct AddressFault {
    text: String,
    kind: &'static str,
}

impl AddressFault {
    fn new(text: &str, kind: &'static str) -> Self {
        Self {
            text: text.chars().take(80).collect(),
            kind,
        }
    }
}

/// An interface's address and the length of its network's prefix, as `172.17.0.2/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InterfaceAddress {
    pub address: IpAddr,
    /// In bits: at most 32 for IPv4, 128 for IPv6.
    pub prefix: u8,
}

impl FromStr for InterfaceAddress {
    type Err = AddressFault;

    fn from_str(text: &str) -> Result<Self, AddressFault> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let address: IpAddr = address.parse().ok()?;
            let prefix = prefix.parse().ok()?;
            (prefix <= if address.is_ipv4() { 32 } else { 128 }).then_some(Self { address, prefix })
        };
        parse().ok_or_else(|| AddressFault::new(text, "an address with a prefix length"))
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// An Ethernet address, as `02:42:ac:11:00:02`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl FromStr for MacAddress {
    type Err = AddressFault;

    fn from_str(text: &str) -> Result<Self, AddressFault> {
        let parse = || {
            let mut bytes = [0; 6];
            let mut parts = text.split(':');
            for byte in &mut bytes {
                let part = parts
                    .next()
                    .filter(|part| part.len() == 2 && !part.starts_with('+'))?;
                *byte = u8::from_str_radix(part, 16).ok()?;
            }
            parts.next().is_none().then_some(Self(bytes))
        };
        parse().ok_or_else(|| AddressFault::new(text, "an Ethernet address"))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}

as_text!(InterfaceAddress);
as_text!(MacAddress);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn addresses_survive(address in any::<IpAddr>(), prefix in 0u8..=32, mac in any::<[u8; 6]>()) {
            let address = InterfaceAddress { address, prefix };
            prop_assert_eq!(address.to_string().parse(), Ok(address));
            prop_assert_eq!(MacAddress(mac).to_string().parse(), Ok(MacAddress(mac)));
        }

        #[test]
        fn other_text_is_refused_without_a_panic(text in "[0-9a-f:./+é]{0,20}") {
            let _ = text.parse::<InterfaceAddress>();
            let _ = text.parse::<MacAddress>();
        }
    }

    #[test]
    fn prefixes_fit_their_family() {
        assert!("10.0.0.1/33".parse::<InterfaceAddress>().is_err());
        assert!("10.0.0.1".parse::<InterfaceAddress>().is_err());
        assert!("fe80::1/128".parse::<InterfaceAddress>().is_ok());
        assert!("02:42:ac:11:00".parse::<MacAddress>().is_err());
        assert!("02:42:ac:11:00:02:03".parse::<MacAddress>().is_err());
    }
}
