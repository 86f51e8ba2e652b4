//! The ways by which a container's open connections go on when it has moved to another host.
//!
//! ```text
//!                      the host it has left                the host it is on
//!   remote R:q ──► A:m ═══ source A:p, destination B:m ═══► B:m ═══ source R:q, destination container:c ═══► container
//! ```
//!
//! One tracked entry on each host translates a connection in both directions. It makes no difference who has opened it:
//! somebody by a published port (`A:m`), somebody who is led to the container's own address by its host, or the container,
//! which its host has masqueraded as `A:m`. There its socket still sees whom it has been talking to all along. The port `p`
//! follows from the connection, so that both hosts come to the same one by themselves; it tells connections apart that
//! differ in nothing but the remote.
//!
//! Whoever reaches the container without its host's help, by hardware address, cannot be led. A container that moves on
//! leaves a chain of such entries; one that comes back takes them in.

use super::segment::Segment;
use super::spec::Protocol;
use super::tracking::{Entry, TcpState, Tuple};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

/// Two hosts, by the addresses at which they reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The host that the container leaves.
    pub source: IpAddr,
    /// The host that it comes to.
    pub destination: IpAddr,
}

/// The first port that is no service's by convention.
const FIRST_PORT: u16 = 1024;

/// A container that moves between two hosts.
#[derive(Debug, Clone, Copy)]
pub struct Moving<'a> {
    /// Its addresses, which it keeps.
    pub addresses: &'a [IpAddr],
    /// The segments that they are on.
    pub segments: &'a [Segment],
    /// Where it was, and where it is.
    pub link: Link,
}

/// How one of its connections goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    /// What comes for it to the host that it has left.
    coming: Tuple,
    /// What the container sends.
    sent: Tuple,
    /// What comes from there to the host that it is on.
    between: Tuple,
    /// Whether somebody has come to the container; else it has called.
    has_come: bool,
}

impl Way {
    /// Whether it does not leave the host that the container comes to: somebody there has come to it, or is led from there.
    fn stays_on(&self, host: IpAddr) -> bool {
        self.has_come && self.coming.source.ip() == host
    }
}

impl Moving<'_> {
    /// The entries by which its open connections go on to the other host, on the host that it has left. Those that have
    /// come from there need none: they do not leave it any more.
    pub fn departed(&self, entries: &[Entry]) -> Vec<Entry> {
        let ways = self.ways(entries);
        let moved = ways.iter().filter(|(_, way)| !way.stays_on(self.link.destination));
        moved.map(|(entry, way)| rewritten(entry, way.coming, way.between.inverse())).collect()
    }

    /// Whether some of them go on by what that host, where it is now, has tracked itself.
    pub fn comes_back_to(&self, entries: &[Entry]) -> bool {
        self.ways(entries).iter().any(|(_, way)| way.stays_on(self.link.destination))
    }

    /// The entries by which they go on where it is now; `here` are those of that host, needed only where one of them
    /// [comes back to](Self::comes_back_to) it. What is translated and cannot be led
    /// is left out: it would speak in the name of a host that it is not on.
    pub fn arrived(&self, entries: &[Entry], here: &[Entry]) -> Vec<Entry> {
        let led_by: HashMap<Tuple, Tuple> = here.iter().map(|entry| (entry.reply, entry.original)).collect();
        let ways = self.ways(entries);
        let led = ways.iter().map(|(entry, way)| {
            let original = match way.stays_on(self.link.destination) {
                // Who was led away from here when the container was there; or a program of this host.
                true => led_by.get(&way.coming.inverse()).copied().unwrap_or(way.coming),
                false => way.between,
            };
            rewritten(entry, original, way.sent)
        });
        let as_they_are = entries.iter().filter(|entry| self.is_with_neighbour(entry));
        led.chain(as_they_are.cloned()).collect()
    }

    /// Whether a connection goes on, by its entry.
    pub fn leads(&self, entry: &Entry) -> bool {
        self.ends(entry).is_some()
    }

    /// For each connection that goes on its entry and how it does. The order of the entries decides who has a port first, and is
    /// the same on both hosts.
    fn ways<'e>(&self, entries: &'e [Entry]) -> Vec<(&'e Entry, Way)> {
        let mut taken = HashSet::new();
        let mut ways = Vec::new();
        for entry in entries {
            let Some((coming, sent)) = self.ends(entry) else { continue };
            let has_come = coming == entry.original;
            let to = SocketAddr::new(self.link.destination, coming.destination.port());
            let between = ports(coming)
                .map(|port| Tuple { source: SocketAddr::new(self.link.source, port), destination: to })
                .find(|between| taken.insert(*between));
            ways.extend(between.map(|between| (entry, Way { coming, sent, between, has_come })));
        }
        ways
    }

    /// What comes for the container by a connection that can be led, and what it sends.
    fn ends(&self, entry: &Entry) -> Option<(Tuple, Tuple)> {
        let is_own = |socket: SocketAddr| self.addresses.contains(&socket.ip());
        let (coming, sent) = match (is_own(entry.original.source), is_own(entry.reply.source)) {
            (false, true) => (entry.original, entry.reply),
            (true, false) => (entry.reply, entry.original),
            // With itself, or with nobody here.
            _ => return None,
        };
        let other = coming.source.ip();
        let is_direct = is_own(coming.destination) && (self.is_neighbour(other) || self.is_source(other));
        // What answers there may be behind a translation of its own, which only what comes from elsewhere meets.
        let has_called_there = coming == entry.reply && other == self.link.destination;
        let is_of_family = coming.source.is_ipv4() == self.link.source.is_ipv4();
        let stays_inside = other.is_loopback() || coming.destination.ip().is_loopback();
        let can = is_open(entry) && is_of_family && !is_direct && !has_called_there && !stays_inside;
        can.then_some((coming, sent))
    }

    /// Whether it is with somebody beside the container, who is reached by hardware address.
    fn is_with_neighbour(&self, entry: &Entry) -> bool {
        let is_translated = entry.reply != entry.original.inverse();
        let ends = [entry.original.source, entry.original.destination];
        !is_translated && is_open(entry) && ends.iter().any(|end| self.is_neighbour(end.ip()))
    }

    fn is_neighbour(&self, address: IpAddr) -> bool {
        self.segments.iter().any(|segment| segment.has_neighbour(address))
    }

    /// Whether it is the host that the container leaves.
    pub fn is_source(&self, address: IpAddr) -> bool {
        address == self.link.source || self.segments.iter().any(|segment| segment.gateway == Some(address))
    }
}

fn is_open(entry: &Entry) -> bool {
    entry.protocol == Protocol::Tcp && !entry.is_over()
}

/// The ports that a connection may have between the hosts: where they begin follows from the connection, so that two
/// containers' are most often apart.
fn ports(coming: Tuple) -> impl Iterator<Item = u16> {
    let digest = blake3::hash(format!("{} {}", coming.source, coming.destination).as_bytes());
    let count = u32::from(u16::MAX - FIRST_PORT) + 1;
    let begin = u32::from(u16::from_be_bytes([digest.as_bytes()[0], digest.as_bytes()[1]]));
    (0..count).map(move |step| FIRST_PORT + u16::try_from((begin + step) % count).unwrap_or_default())
}

/// An entry with other ends. Where they are the other way round, so is what is known of each direction.
fn rewritten(entry: &Entry, original: Tuple, reply: Tuple) -> Entry {
    let is_turned = reply == entry.original || original == entry.reply;
    let tcp = entry.tcp.map(|tcp| if is_turned { turned(tcp) } else { tcp });
    Entry { original, reply, tcp, ..entry.clone() }
}

fn turned(tcp: TcpState) -> TcpState {
    TcpState {
        state: tcp.state,
        window_scale_original: tcp.window_scale_reply,
        window_scale_reply: tcp.window_scale_original,
        flags_original: tcp.flags_reply,
        flags_reply: tcp.flags_original,
    }
}

#[cfg(test)]
mod tests;
