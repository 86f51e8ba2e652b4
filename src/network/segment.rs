//! The segments that a container is on: who is reached there by hardware address, and not by way of the host.

use super::error::{Error, Result};
use serde_json::{Map, Value};
use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// One address of it.
    address: IpAddr,
    /// How many of its first bits all have in common.
    prefix: u8,
}

impl Subnet {
    /// Whether an address is in it.
    pub fn has(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && self.network_of(address) == self.network_of(self.address)
    }

    /// Whether an address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.has(other.address) && self.prefix <= other.prefix || other.has(self.address)
    }

    fn network_of(&self, address: IpAddr) -> u128 {
        let (bits, width) = match address {
            IpAddr::V4(four) => (u128::from(u32::from(four)), 32),
            IpAddr::V6(six) => (u128::from(six), 128),
        };
        bits.checked_shr(width - u32::from(self.prefix).min(width)).unwrap_or_default()
    }
}

impl FromStr for Subnet {
    type Err = Error;

    /// As Docker writes it: `172.17.0.0/16`.
    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('/').and_then(|(ip, bits)| Some((ip.parse().ok()?, bits.parse().ok()?)));
        let (address, prefix) = parts.ok_or_else(|| malformed(format!("{text:?} is no subnet")))?;
        Ok(Self { address, prefix })
    }
}

/// One address of a container with the subnet around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The container's address.
    pub address: IpAddr,
    /// The subnet.
    pub subnet: Subnet,
    /// The host's own address there, where there is one.
    pub gateway: Option<IpAddr>,
}

impl Segment {
    /// Whether the address is another one's on the segment, besides the host's.
    pub fn has_neighbour(&self, address: IpAddr) -> bool {
        address != self.address && Some(address) != self.gateway && self.subnet.has(address)
    }
}

/// The segments of a container, from its object in the output of `docker inspect`.
///
/// # Errors
/// [`Error::Malformed`] with the field that does not read.
pub fn from_inspect(container: &Value) -> Result<Vec<Segment>> {
    let networks = container.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    let endpoints = networks.into_iter().flat_map(Map::values);
    let families =
        [("IPAddress", "IPPrefixLen", "Gateway"), ("GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPv6Gateway")];
    let all = endpoints.flat_map(|endpoint| families.map(|fields| segment(endpoint, fields)));
    all.filter_map(Result::transpose).collect()
}

fn segment(endpoint: &Value, (address, prefix, gateway): (&str, &str, &str)) -> Result<Option<Segment>> {
    let parse = |field: &str| {
        let text = endpoint[field].as_str().filter(|text| !text.is_empty());
        let malformed =
            |_| Error::malformed("what Docker says of a container's network", format!("{field} is {text:?}"));
        text.map(|text| text.parse::<IpAddr>().map_err(malformed)).transpose()
    };
    let prefix = endpoint[prefix].as_u64().and_then(|bits| u8::try_from(bits).ok()).unwrap_or(u8::MAX);
    let gateway = parse(gateway)?;
    Ok(parse(address)?.map(|address| Segment { address, subnet: Subnet { address, prefix }, gateway }))
}

fn malformed(why: String) -> Error {
    Error::malformed("what Docker says of a container's network", why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn neighbours_are_those_of_the_subnet_and_the_host_is_none() {
        let inspect = json!({ "NetworkSettings": { "Networks": { "front": {
            "IPAddress": "172.30.0.9", "IPPrefixLen": 24, "Gateway": "172.30.0.1",
            "GlobalIPv6Address": "fd00:9::9", "GlobalIPv6PrefixLen": 64, "IPv6Gateway": "" } } } });
        let segments = from_inspect(&inspect).unwrap();
        let is_neighbour = |text: &str| segments.iter().any(|one| one.has_neighbour(text.parse().unwrap()));
        assert!(is_neighbour("172.30.0.7") && is_neighbour("fd00:9::1"));
        ["172.30.0.1", "172.30.0.9", "172.30.1.7", "fd00:8::1"].iter().for_each(|other| assert!(!is_neighbour(other)));
        let broken = json!({ "NetworkSettings": { "Networks": { "front": { "IPAddress": "nowhere" } } } });
        assert!(from_inspect(&broken).is_err());
    }

    #[test]
    fn subnets_overlap_where_one_is_in_the_other() {
        let subnet = |text: &str| text.parse::<Subnet>().unwrap();
        let (wide, narrow, beside) = (subnet("10.0.0.0/8"), subnet("10.60.0.0/24"), subnet("10.60.1.0/24"));
        assert!(wide.overlaps(&narrow) && narrow.overlaps(&wide) && !narrow.overlaps(&beside));
        assert!(!wide.overlaps(&subnet("fd00::/8")));
        assert!("10.0.0.0".parse::<Subnet>().is_err());
    }
}
