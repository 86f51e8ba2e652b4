//! What becomes of each open connection of a container when it moves to another host.

use super::segment::Segment;
use super::sockets::Connection;
use super::spec::Protocol;
use super::tracking::{Entry, Tuple};
use super::ways::Moving;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

/// What becomes of a connection, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prospect {
    /// Lives on: it has come by a published port of this host, which leads it to the other one.
    Visitor,
    /// Lives on: the container has opened it and this host masquerades it.
    Called,
    /// Lives on: it has come to the container's own address by way of this host.
    ByHost,
    /// May be lost: on the hosts' own segment this host cannot hold packets back, and both copies' sockets answer for a while.
    OnSegment,
    /// Lost: it ends in Docker's userland proxy here.
    Proxy,
    /// Lost: the other end is beside the container, on a bridge of this host.
    Neighbour,
    /// Lost: the other end is a program of this host.
    Host,
    /// Lost: the container has called the very host that it goes to.
    Peer,
    /// Lost: the hosts do not reach each other by its address family.
    OtherFamily,
    /// Lost: this host does not track it, or takes it for ended, so it cannot lead it either.
    Untracked,
}

impl Prospect {
    /// Whether it lives on.
    pub fn lives(self) -> bool {
        matches!(self, Self::Visitor | Self::Called | Self::ByHost)
    }
}

/// What is to be seen of a container's connections.
#[derive(Debug)]
pub struct Seen<'a> {
    /// Its sockets, that were open before and after the entries were listed.
    pub connections: &'a [Connection],
    /// What this host tracks for its addresses.
    pub entries: &'a [Entry],
    /// The ends that Docker's userland proxy has of connections to it.
    pub proxies: &'a HashSet<SocketAddr>,
    /// Those of its addresses that are on the hosts' own segment (macvlan, ipvlan).
    pub on_segment: &'a [IpAddr],
    /// Addresses of containers that move with it.
    pub along: &'a [IpAddr],
}

/// All connections that leave the container, by what becomes of them.
pub fn of(seen: &Seen<'_>, moving: &Moving<'_>) -> BTreeMap<Prospect, Vec<Connection>> {
    // Other protocols have the same ports, and what is over says nothing of a socket that is open.
    let tracked_now = seen.entries.iter().filter(|entry| entry.protocol == Protocol::Tcp && !entry.is_over());
    let by_sent: HashMap<Tuple, &Entry> =
        tracked_now.flat_map(|entry| [(entry.original, entry), (entry.reply, entry)]).collect();
    let is_own =
        |address: IpAddr| address.is_loopback() || moving.addresses.contains(&address) || seen.along.contains(&address);
    let leaves = seen.connections.iter().filter(|open| !is_own(open.remote.ip()));
    let mut found: BTreeMap<Prospect, Vec<Connection>> = BTreeMap::new();
    for open in leaves {
        let sent = Tuple { source: open.local, destination: open.remote };
        let prospect = match by_sent.get(&sent) {
            _ if seen.proxies.contains(&open.remote) => Prospect::Proxy,
            Some(entry) => tracked(entry, sent, moving),
            None if seen.on_segment.contains(&open.local.ip()) => Prospect::OnSegment,
            None if is_beside(moving.segments, open.remote.ip()) => Prospect::Neighbour,
            None => Prospect::Untracked,
        };
        found.entry(prospect).or_default().push(*open);
    }
    found
}

fn tracked(entry: &Entry, sent: Tuple, moving: &Moving<'_>) -> Prospect {
    let has_called = entry.original == sent;
    match moving.leads(entry) {
        true if has_called => Prospect::Called,
        true if moving.addresses.contains(&entry.original.destination.ip()) => Prospect::ByHost,
        true => Prospect::Visitor,
        false if sent.destination.is_ipv4() != moving.link.source.is_ipv4() => Prospect::OtherFamily,
        false if sent.destination.ip() == moving.link.destination => Prospect::Peer,
        false if moving.is_source(sent.destination.ip()) => Prospect::Host,
        false => Prospect::Neighbour,
    }
}

fn is_beside(segments: &[Segment], address: IpAddr) -> bool {
    segments.iter().any(|segment| segment.has_neighbour(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::tracking::TcpState;
    use crate::network::ways::Link;

    fn tuple(source: &str, destination: &str) -> Tuple {
        Tuple { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    fn entry(original: Tuple, reply: Tuple) -> Entry {
        Entry { protocol: Protocol::Tcp, original, reply, status: 6, timeout: 100, mark: 0, zone: 0, tcp: None }
    }

    fn ended(entry: Entry) -> Entry {
        let tcp =
            TcpState { state: 7, window_scale_original: 7, window_scale_reply: 7, flags_original: 0, flags_reply: 0 };
        Entry { tcp: Some(tcp), ..entry }
    }

    fn prospects(connections: &[(&str, &str)]) -> Vec<(Prospect, SocketAddr)> {
        let address = "172.30.0.9".parse().unwrap();
        let (wire, six) = ("10.0.0.50".parse().unwrap(), "fd00::9".parse().unwrap());
        let segment = Segment { address, subnet: "172.30.0.0/24".parse().unwrap(), gateway: "172.30.0.1".parse().ok() };
        let link = Link { source: "10.0.0.1".parse().unwrap(), destination: "10.0.0.2".parse().unwrap() };
        let connections: Vec<Connection> = connections
            .iter()
            .map(|(local, remote)| Connection {
                local: local.parse().unwrap(),
                remote: remote.parse().unwrap(),
                inode: 1,
            })
            .collect();
        let entries = [
            entry(tuple("10.0.0.100:5555", "10.0.0.1:8080"), tuple("172.30.0.9:80", "10.0.0.100:5555")),
            ended(entry(tuple("10.0.0.100:4444", "10.0.0.1:8080"), tuple("172.30.0.9:80", "10.0.0.100:4444"))),
            entry(tuple("172.30.0.9:40000", "192.0.2.7:5432"), tuple("192.0.2.7:5432", "10.0.0.1:40000")),
            entry(tuple("10.0.0.100:6666", "172.30.0.9:80"), tuple("172.30.0.9:80", "10.0.0.100:6666")),
            entry(tuple("172.30.0.9:42000", "10.0.0.2:22"), tuple("10.0.0.2:22", "10.0.0.1:42000")),
            entry(tuple("172.30.0.1:5656", "172.30.0.9:80"), tuple("172.30.0.9:80", "172.30.0.1:5656")),
            entry(tuple("[fd00:1::7]:5555", "[fd00::9]:80"), tuple("[fd00::9]:80", "[fd00:1::7]:5555")),
            // Listed behind what lives on, with the same ends.
            ended(entry(tuple("10.0.0.100:5555", "10.0.0.1:9090"), tuple("172.30.0.9:80", "10.0.0.100:5555"))),
            Entry {
                protocol: Protocol::Udp,
                ..entry(tuple("172.30.0.9:40000", "192.0.2.7:5432"), tuple("192.0.2.7:5432", "172.30.0.9:40000"))
            },
        ];
        let along = ["172.30.0.8".parse().unwrap()];
        let proxies = HashSet::from(["172.30.0.1:7777".parse().unwrap()]);
        let seen = Seen {
            connections: &connections,
            entries: &entries,
            proxies: &proxies,
            on_segment: &[wire],
            along: &along,
        };
        let found = of(&seen, &Moving { addresses: &[address, wire, six], segments: &[segment], link });
        found.into_iter().flat_map(|(prospect, all)| all.into_iter().map(move |one| (prospect, one.remote))).collect()
    }

    #[test]
    fn each_connection_is_told_by_who_carries_it() {
        let cases = [
            ("172.30.0.9:80", "10.0.0.100:5555", Prospect::Visitor),
            ("172.30.0.9:40000", "192.0.2.7:5432", Prospect::Called),
            ("172.30.0.9:80", "10.0.0.100:6666", Prospect::ByHost),
            ("10.0.0.50:80", "10.0.0.100:5555", Prospect::OnSegment),
            ("172.30.0.9:80", "172.30.0.1:7777", Prospect::Proxy),
            ("172.30.0.9:80", "172.30.0.7:5555", Prospect::Neighbour),
            ("172.30.0.9:42000", "10.0.0.2:22", Prospect::Peer),
            ("172.30.0.9:80", "172.30.0.1:5656", Prospect::Host),
            ("[fd00::9]:80", "[fd00:1::7]:5555", Prospect::OtherFamily),
            ("172.30.0.9:41000", "192.0.2.9:22", Prospect::Untracked),
        ];
        for (local, remote, prospect) in cases {
            assert_eq!(prospects(&[(local, remote)]), [(prospect, remote.parse().unwrap())], "{local} {remote}");
        }
    }

    #[test]
    fn a_socket_that_is_open_is_told_whatever_is_tracked_as_ended_with_its_ends() {
        let told = prospects(&[("172.30.0.9:80", "10.0.0.100:4444")]);
        assert_eq!(told, [(Prospect::Untracked, "10.0.0.100:4444".parse().unwrap())]);
    }

    #[test]
    fn what_stays_inside_the_container_or_its_group_is_not_told() {
        assert!(prospects(&[("172.30.0.9:80", "172.30.0.8:5555")]).is_empty());
        assert!(prospects(&[("127.0.0.1:80", "127.0.0.1:5555"), ("172.30.0.9:80", "172.30.0.9:5555")]).is_empty());
    }
}
