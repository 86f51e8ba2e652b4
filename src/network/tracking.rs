//! Connection tracking: taken along in a checkpoint, and put back before the container runs (I6).
//!
//! Docker removes a container's NAT rules and the tracked connections through them when the container stops. Without the
//! entries, what a client sends next meets the host's own stack, which resets it; and what the container sends first is
//! masqueraded anew, onto another port. So the entries are saved at the freeze and created again before the hold is lifted.
//!
//! An entry is created from its original tuple and its NAT mappings. The reply tuple given along is the plain inverse of the
//! original: the kernel then applies the mappings and so comes to the mangled reply by itself. Given the mangled reply at
//! once it would find nothing to change, leave the SRC_NAT and DST_NAT bits unset, and translate no packet
//! (`ctnetlink_create_conntrack` and `nf_nat_setup_info` in the kernel).
//!
//! Everything here acts on the calling thread's network namespace.

mod wire;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use nix::libc;
use serde::{Deserialize, Serialize};

use super::error::Result;
use super::netlink::Channel;
use super::spec::{Protocol, Published, ReplyTuple};

/// Status bits of linux/netfilter/nf_conntrack_common.h that an entry can be created with.
const SEEN_REPLY: u32 = 1 << 1;
const ASSURED: u32 = 1 << 2;
const CONFIRMED: u32 = 1 << 3;
/// No window checks for one direction of a TCP connection (linux/netfilter/nf_conntrack_tcp.h).
const TCP_BE_LIBERAL: u8 = 0x08;
/// `TCP_CONNTRACK_TIME_WAIT` and `TCP_CONNTRACK_CLOSE` (linux/netfilter/nf_conntrack_tcp.h): both ends are done with it.
const OVER: [u8; 2] = [7, 8];
/// An entry lives at least this many seconds after it was put back: those about to expire when the container was frozen
/// must not be gone before it speaks again.
const SHORTEST_LIFE: u32 = 30;

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tuple {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

impl Tuple {
    /// The same connection seen from the other end, where nothing translates it.
    pub fn inverse(self) -> Self {
        Self { source: self.destination, destination: self.source }
    }

    fn touches(self, addresses: &HashSet<IpAddr>) -> bool {
        addresses.contains(&self.source.ip()) || addresses.contains(&self.destination.ip())
    }
}

/// What the kernel knows about the state of a TCP connection, in its own numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpState {
    /// `TCP_CONNTRACK_*`: 3 is established.
    pub state: u8,
    pub window_scale_original: u8,
    pub window_scale_reply: u8,
    /// `IP_CT_TCP_FLAG_*` of each direction.
    pub flags_original: u8,
    pub flags_reply: u8,
}

/// A tracked connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub protocol: Protocol,
    pub original: Tuple,
    pub reply: Tuple,
    /// `IPS_*` bits.
    pub status: u32,
    /// Seconds until it expires, when it was saved.
    pub timeout: u32,
    #[serde(default)]
    pub mark: u32,
    /// Conntrack zone, 0 for the ordinary one.
    #[serde(default)]
    pub zone: u16,
    pub tcp: Option<TcpState>,
}

impl Entry {
    /// Where the source is translated to, if it is.
    pub fn source_nat(&self) -> Option<SocketAddr> {
        (self.reply.destination != self.original.source).then_some(self.reply.destination)
    }

    /// Where the destination is translated to, if it is.
    pub fn destination_nat(&self) -> Option<SocketAddr> {
        (self.reply.source != self.original.destination).then_some(self.reply.source)
    }

    /// Whether both ends have closed the connection, or one has reset it. The kernel remembers it for a while, for stragglers.
    pub fn is_over(&self) -> bool {
        self.tcp.is_some_and(|tcp| OVER.contains(&tcp.state))
    }

    /// The bits a new entry is given. The NAT bits are the kernel's to set, and so are the passing ones.
    fn status_to_create(&self) -> u32 {
        (self.status & (SEEN_REPLY | ASSURED)) | CONFIRMED
    }

    fn timeout_to_create(&self) -> u32 {
        self.timeout.max(SHORTEST_LIFE)
    }
}

/// What became of the entries given to [`put_back`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PutBack {
    /// Created, with nothing in their way.
    pub created: usize,
    /// Created after another entry for the same packets was deleted.
    pub replaced: usize,
    /// Those the kernel would not take.
    pub refused: Vec<Refusal>,
}

/// An entry the kernel would not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    pub original: Tuple,
    /// The error number.
    pub errno: i32,
}

/// All tracked TCP, UDP and SCTP connections, of both families, that have one of the addresses at any end before or after
/// translation.
///
/// # Errors
/// [`Error::Netlink`](super::Error::Netlink) when the kernel does not give its table.
pub fn save(addresses: &[IpAddr]) -> Result<Vec<Entry>> {
    let wanted: HashSet<IpAddr> = addresses.iter().copied().collect();
    let mut entries = Vec::new();
    let mut seen = HashSet::new();
    Channel::open()?.dump(
        wire::list(),
        |message| wire::has_any(&wanted, message),
        |message| {
            if let Some(entry) = wire::decode(&message) {
                let ours = entry.original.touches(&wanted) || entry.reply.touches(&wanted);
                // The kernel may list an entry twice when its table is resized meanwhile.
                if ours && seen.insert((entry.protocol, entry.original, entry.zone)) {
                    entries.push(entry);
                }
            }
        },
    )?;
    Ok(entries)
}

/// Creates the entries again, translations and all, and replaces what is in their way. TCP entries come back without
/// window checks (liberal), since what was parked or is sent again need not fit what the kernel last saw.
///
/// # Errors
/// [`Error::Netlink`](super::Error::Netlink) when the kernel cannot be asked; an entry it refuses is in the result.
pub fn put_back(entries: &[Entry]) -> Result<PutBack> {
    let mut channel = Channel::open()?;
    let mut result = PutBack::default();
    let mut blocked = Vec::new();
    for (entry, errno) in entries.iter().zip(create(&mut channel, entries)?) {
        match errno {
            0 => result.created += 1,
            libc::EEXIST => blocked.push(entry.clone()),
            errno => result.refused.push(Refusal { original: entry.original, errno }),
        }
    }
    if blocked.is_empty() {
        return Ok(result);
    }
    clear_the_way(&mut channel, &blocked)?;
    for (entry, errno) in blocked.iter().zip(create(&mut channel, &blocked)?) {
        match errno {
            0 => result.replaced += 1,
            errno => result.refused.push(Refusal { original: entry.original, errno }),
        }
    }
    Ok(result)
}

fn create(channel: &mut Channel, entries: &[Entry]) -> Result<Vec<i32>> {
    channel.transact(NLM_F_CREATE | NLM_F_EXCL, entries.iter().map(wire::create))
}

/// Deletes whatever tracks the packets of either direction. That none is found for one of them is no failure, so the
/// answers do not matter: what could not be deleted shows when the entry is created.
fn clear_the_way(channel: &mut Channel, entries: &[Entry]) -> Result<()> {
    let tuples = entries.iter().flat_map(|entry| [entry.original, entry.reply].map(|tuple| (entry, tuple)));
    channel.transact(0, tuples.map(|(entry, tuple)| wire::delete(entry, tuple))).map(drop)
}

/// Deletes the entries. Those that are gone already are not an error.
///
/// # Errors
/// [`Error::Netlink`](super::Error::Netlink) when the kernel cannot be asked.
pub fn remove(entries: &[Entry]) -> Result<()> {
    let mut channel = Channel::open()?;
    channel.transact(0, entries.iter().map(|entry| wire::delete(entry, entry.original))).map(drop)
}

/// Where the replies to the container's own masqueraded connections arrive on this host: packets that belong to the
/// container although none of its addresses is in them.
pub fn outbound_replies(entries: &[Entry], container: &[IpAddr]) -> Vec<ReplyTuple> {
    let own: HashSet<IpAddr> = container.iter().copied().collect();
    let masqueraded = entries
        .iter()
        .filter(|entry| own.contains(&entry.original.source.ip()) && !own.contains(&entry.reply.destination.ip()));
    let tuples: BTreeSet<ReplyTuple> = masqueraded
        .map(|entry| ReplyTuple { protocol: entry.protocol, remote: entry.reply.source, host: entry.reply.destination })
        .collect();
    tuples.into_iter().collect()
}

/// Where else what is translated to the container arrives on this host than at its published ports: connections that it
/// had on another host, and that are led after it.
pub fn led_arrivals(entries: &[Entry], container: &[IpAddr], published: &[Published]) -> Vec<ReplyTuple> {
    let is_published = |entry: &Entry| {
        let (at, protocol) = (entry.original.destination.port(), entry.protocol);
        published.iter().any(|port| (port.host_port, port.protocol) == (at, protocol))
    };
    let led = entries
        .iter()
        .filter(|entry| entry.destination_nat().is_some_and(|to| container.contains(&to.ip())) && !is_published(entry));
    led.map(|entry| ReplyTuple {
        protocol: entry.protocol,
        remote: entry.original.source,
        host: entry.original.destination,
    })
    .collect()
}

/// The entries as they are on a host where some addresses are others: the container's, or the host's own.
pub fn rewrite(entries: &[Entry], addresses: &BTreeMap<IpAddr, IpAddr>) -> Vec<Entry> {
    let moved = |socket: SocketAddr| {
        let ip = addresses.get(&socket.ip()).copied().unwrap_or(socket.ip());
        SocketAddr::new(ip, socket.port())
    };
    let tuple = |tuple: Tuple| Tuple { source: moved(tuple.source), destination: moved(tuple.destination) };
    entries
        .iter()
        .map(|entry| Entry { original: tuple(entry.original), reply: tuple(entry.reply), ..entry.clone() })
        .collect()
}

#[cfg(test)]
mod tests;
