//! What a hold is about: which packets belong to a container, seen from its host.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// A transport protocol that Docker can publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// As iptables and Docker spell it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// The reverse of [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|protocol| protocol.name() == name)
    }

    /// Its number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The reverse of [`number`](Self::number).
    pub fn from_number(number: u8) -> Option<Self> {
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|protocol| protocol.number() == number)
    }
}

/// A published port: what arrives at it on the host belongs to the container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Published {
    pub protocol: Protocol,
    /// The host's address it is published on: absent for all of both families, `0.0.0.0` or `::` for all of one.
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
}

/// Where the replies to one of the container's masqueraded connections arrive: once the connection is no longer tracked,
/// nothing else tells them from packets to the host itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplyTuple {
    pub protocol: Protocol,
    /// Whom the container talks to.
    pub remote: SocketAddr,
    /// The host's address and the port chosen by masquerading.
    pub host: SocketAddr,
}

/// Everything that belongs to one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldSpec {
    /// The container's own addresses.
    pub addresses: Vec<IpAddr>,
    pub published: Vec<Published>,
    pub outbound: Vec<ReplyTuple>,
}

/// IPv4 and IPv6 have rules, and programs for them, of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    pub fn tool(self) -> &'static str {
        match self {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        }
    }

    pub fn restore_tool(self) -> &'static str {
        match self {
            Family::V4 => "iptables-restore",
            Family::V6 => "ip6tables-restore",
        }
    }
}

impl HoldSpec {
    /// Whether anything here is of this family for certain; a port published on all addresses does not count, since a
    /// host need not have IPv6.
    pub(super) fn requires(&self, family: Family) -> bool {
        let mut named = self
            .addresses
            .iter()
            .copied()
            .chain(self.published.iter().filter_map(|port| port.host_ip).filter(|ip| !ip.is_unspecified()))
            .chain(self.outbound.iter().map(|tuple| tuple.host.ip()));
        named.any(|address| Family::of(address) == family)
    }
}
