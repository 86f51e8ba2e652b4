//! Connections that belong to no process, counted over sock_diag (linux/inet_diag.h).
//!
//! Two kinds of them cannot be frozen, so they are waited for. *Not accepted yet*: CRIU does not dump a listening socket
//! with a connection in its queue (`In-flight connection (l)`); the application has to accept it first. *Closed, and not
//! delivered yet*: the application has written its answer and closed the socket, and the kernel still sends what the
//! client has not acknowledged. No process has that socket, so CRIU does not see it, and it ends with the namespace.
//!
//! The kernel tells nobody when there are none left, hence the polling.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::{self, IpAddr};
use std::time::{Duration, Instant};

use netlink_sys::{Socket, SocketAddr};
use nix::libc;
use serde::Serialize;

use super::error::{Error, Result};
use super::netns::NetNs;

/// `NETLINK_SOCK_DIAG` and `SOCK_DIAG_BY_FAMILY`.
const SOCK_DIAG: isize = 4;
const BY_FAMILY: u16 = 20;
pub(super) const DONE: u16 = 3;
pub(super) const ERROR: u16 = 2;
/// States of a TCP socket (`net/tcp_states.h`).
const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const SYN_RECV: u8 = 3;
const FIN_WAIT1: u8 = 4;
const FIN_WAIT2: u8 = 5;
const CLOSE_WAIT: u8 = 8;
const LAST_ACK: u8 = 9;
const LISTEN: u8 = 10;
const CLOSING: u8 = 11;
/// All but those without another end, those that only keep their ports for a while, and half open ones, which have no socket.
const NOT_OVER: [u8; 7] = [ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING];
/// Between two looks: as short as makes sense, since the container is about to be frozen.
const PAUSE: Duration = Duration::from_millis(1);

/// What keeps a port's connections from being frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Established but not accepted, or half open.
    NotAccepted,
    /// Closed by the application, with something that the other end has not acknowledged.
    NotDelivered,
}

/// A port with connections that belong to no process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Waiting {
    pub port: u16,
    pub reason: Reason,
    pub connections: u32,
}

/// Waits until no TCP connection of the namespace waits to be accepted, is half open, or is closed and not delivered.
/// Returns those that still are when `limit` has passed; none means that all is clear. New connections must be held by then.
///
/// # Errors
/// [`Error::EnterNamespace`] and [`Error::Netlink`].
pub fn wait_until_clear(namespace: &NetNs, limit: Duration) -> Result<Vec<Waiting>> {
    let start = Instant::now();
    let mut diagnosis = Diagnosis::inside(namespace)?;
    loop {
        let waiting = diagnosis.waiting()?;
        if waiting.is_empty() || start.elapsed() >= limit {
            return Ok(waiting);
        }
        std::thread::sleep(PAUSE);
    }
}

/// The TCP connections of the namespace that are not over yet, whether a process still has them or only the kernel: their
/// own ends, and the other ones.
///
/// # Errors
/// [`Error::EnterNamespace`] and [`Error::Netlink`].
pub fn not_over(namespace: &NetNs) -> Result<HashSet<(net::SocketAddr, net::SocketAddr)>> {
    let mut found = HashSet::new();
    Diagnosis::inside(namespace)?
        .ask(&NOT_OVER, |body| {
            found.insert(ends(body)?);
            Ok(())
        })
        .map_err(Error::netlink("ask about connections"))?;
    Ok(found)
}

/// Connections by what they wait for.
type Counts = BTreeMap<(u16, Reason), u32>;

/// A socket that answers about the namespace it was opened in, from wherever it is asked.
struct Diagnosis {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Diagnosis {
    fn inside(namespace: &NetNs) -> Result<Self> {
        let open = || {
            let mut socket = Socket::new(SOCK_DIAG)?;
            socket.bind_auto()?;
            Ok(socket)
        };
        let socket = namespace.run(|| open().map_err(Error::netlink("open a socket for diagnosis")))?;
        Ok(Self { socket, buffer: vec![0; 65_536] })
    }

    fn waiting(&mut self) -> Result<Vec<Waiting>> {
        let mut counts = Counts::new();
        self.ask(&[SYN_RECV, FIN_WAIT1, LAST_ACK, LISTEN, CLOSING], |body| add(body, &mut counts))
            .map_err(Error::netlink("ask about listening sockets"))?;
        Ok(counts.into_iter().map(|((port, reason), connections)| Waiting { port, reason, connections }).collect())
    }

    /// Hands over all sockets in these states, of both families.
    fn ask(&mut self, states: &[u8], mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        for family in [libc::AF_INET, libc::AF_INET6] {
            self.socket.send_to(&question(family as u8, states), &SocketAddr::new(0, 0), 0)?;
            while self.hear(&mut each)? {}
        }
        Ok(())
    }

    /// Hands over the sockets of one datagram. Whether there are more.
    fn hear(&mut self, each: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<bool> {
        let length = self.socket.recv(&mut &mut self.buffer[..], 0)?;
        for message in messages(&self.buffer[..length]) {
            let (kind, body) = message?;
            match kind {
                DONE => return Ok(false),
                ERROR => return Err(answer_error(body)),
                _ => each(body)?,
            }
        }
        Ok(true)
    }
}

/// struct nlmsghdr and struct inet_diag_req_v2: all sockets of the family in these states.
fn question(family: u8, states: &[u8]) -> Vec<u8> {
    const LENGTH: u32 = 16 + 56;
    const REQUEST_AND_DUMP: u16 = 0x301;
    let states = states.iter().fold(0_u32, |states, state| states | 1 << state);
    let mut bytes = Vec::with_capacity(LENGTH as usize);
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST_AND_DUMP.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, libc::IPPROTO_TCP as u8, 0, 0]);
    bytes.extend(states.to_ne_bytes());
    bytes.resize(LENGTH as usize, 0);
    bytes
}

/// The messages of a datagram: type and body.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = io::Result<(u16, &[u8])>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let length = bytes.first_chunk().map_or(0, |length| u32::from_ne_bytes(*length) as usize);
        let Some(message) = bytes.get(..length).filter(|message| message.len() >= 16) else {
            bytes = &[];
            return Some(Err(short()));
        };
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
        Some(Ok((u16::from_ne_bytes([message[4], message[5]]), &message[16..])))
    })
}

/// struct inet_diag_msg: state, the socket's own port in network order, the lengths of its queues (for listeners the first
/// counts connections), and its inode, which is 0 when no process has it any more.
fn add(body: &[u8], counts: &mut Counts) -> io::Result<()> {
    let fields = body.get(..72).ok_or_else(short)?;
    let port = u16::from_be_bytes([fields[4], fields[5]]);
    let number = |at: usize| u32::from_ne_bytes([fields[at], fields[at + 1], fields[at + 2], fields[at + 3]]);
    let (receive_queue, send_queue, inode) = (number(56), number(60), number(68));
    let (reason, connections) = match fields[1] {
        LISTEN => (Reason::NotAccepted, receive_queue),
        SYN_RECV => (Reason::NotAccepted, 1),
        _ => (Reason::NotDelivered, u32::from(inode == 0 && send_queue > 0)),
    };
    if connections > 0 {
        *counts.entry((port, reason)).or_default() += connections;
    }
    Ok(())
}

/// The two ends of a socket: ports and addresses stand behind its state, in network order. IPv4 in the newer family's sockets
/// is IPv4.
fn ends(body: &[u8]) -> io::Result<(net::SocketAddr, net::SocketAddr)> {
    let fields = body.get(..40).ok_or_else(short)?;
    let end = |port: usize, address: usize| {
        let octets: [u8; 16] = fields[address..address + 16].try_into().expect("16 bytes");
        let ip = match i32::from(fields[0]) {
            libc::AF_INET => IpAddr::from([octets[0], octets[1], octets[2], octets[3]]),
            _ => IpAddr::from(octets).to_canonical(),
        };
        net::SocketAddr::new(ip, u16::from_be_bytes([fields[port], fields[port + 1]]))
    };
    Ok((end(4, 8), end(6, 24)))
}

/// The error in the body of struct nlmsgerr.
pub(super) fn answer_error(body: &[u8]) -> io::Error {
    body.first_chunk().map_or_else(short, |code| io::Error::from_raw_os_error(i32::from_ne_bytes(*code).abs()))
}

fn short() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a message is cut short")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::lab::{Namespace, connect};
    use super::*;

    #[test]
    fn names_the_port_where_a_connection_waits_and_returns_when_it_is_accepted() {
        let namespace = Namespace::new();
        let limit = Duration::from_millis(20);
        for address in ["127.0.0.1:7000", "[::1]:7000"] {
            let listener = namespace.run(|| Ok(TcpListener::bind(address).unwrap()));
            assert_eq!(wait_until_clear(&namespace.net, limit).unwrap(), []);
            let _streams = [connect(&namespace, address), connect(&namespace, address)];
            let waiting = wait_until_clear(&namespace.net, limit).unwrap();
            assert_eq!(waiting, [Waiting { port: 7000, reason: Reason::NotAccepted, connections: 2 }]);

            let accepting = std::thread::spawn(move || [listener.accept().unwrap(), listener.accept().unwrap()]);
            assert_eq!(wait_until_clear(&namespace.net, Duration::from_secs(5)).unwrap(), []);
            accepting.join().unwrap();
        }
    }

    /// What the application has said last is waited for, however slowly the client takes it.
    #[test]
    fn names_the_port_of_an_answer_that_is_written_and_not_delivered() {
        use std::io::{Read, Write};
        let namespace = Namespace::new();
        let listener = namespace.run(|| Ok(TcpListener::bind("127.0.0.1:7000").unwrap()));
        let mut client = connect(&namespace, "127.0.0.1:7000");
        let (mut server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        while server.write(&[7; 1 << 16]).is_ok() {}
        drop(server);
        let limit = Duration::from_millis(20);
        let waiting = wait_until_clear(&namespace.net, limit).unwrap();
        assert_eq!(waiting, [Waiting { port: 7000, reason: Reason::NotDelivered, connections: 1 }]);
        let ends = (client.peer_addr().unwrap(), client.local_addr().unwrap());
        assert!(not_over(&namespace.net).unwrap().contains(&ends));
        client.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(wait_until_clear(&namespace.net, Duration::from_secs(5)).unwrap(), []);
    }

    #[test]
    fn a_datagram_cut_short_is_an_error() {
        let mut bytes = question(2, &[LISTEN]);
        bytes.truncate(60);
        assert!(messages(&bytes).next().unwrap().is_err());
        assert!(add(&[0; 71], &mut Counts::new()).is_err());
    }
}
