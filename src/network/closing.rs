//! Ends TCP connections from outside the programs that have them (`SOCK_DESTROY` of linux/sock_diag.h): the program is told
//! at once (`ECONNABORTED`), and the other end by a reset, where a packet still reaches it.
//!
//! Named by its two ends alone, a connection that has just gone would be taken for the socket that listens at its local end. So
//! each is listed first, and named by the cookie that the kernel tells it by.

use super::backlog::{DONE, ERROR, answer_error, messages};
use super::error::{Error, Result};
use super::netns::NetNs;
use super::sockets::Connection;
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};
use nix::libc;
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `NETLINK_SOCK_DIAG`, `SOCK_DIAG_BY_FAMILY` and `SOCK_DESTROY`.
const SOCK_DIAG: isize = 4;
const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const REQUEST_AND_DUMP: u16 = 0x301;
const REQUEST_AND_ACKNOWLEDGE: u16 = 0x5;
/// struct nlmsghdr and struct inet_diag_req_v2.
const LENGTH: u32 = 16 + 56;
/// States of a connection that somebody is at the other end of (`net/tcp_states.h`): established, half closed by either end.
const OPEN: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8;

/// struct inet_diag_sockid: ports, addresses, interface, cookie.
type Id = [u8; 48];

/// Ends the connections whose ends these are in a network namespace; returns how many there were. Those that have ended
/// already are no failure.
///
/// # Errors
/// [`Error::EnterNamespace`], and [`Error::Netlink`] where the kernel cannot do it (`CONFIG_INET_DIAG_DESTROY`).
pub fn close(namespace: &NetNs, connections: &[Connection]) -> Result<usize> {
    namespace.run(|| close_here(connections).map_err(Error::netlink("end a connection")))
}

fn close_here(connections: &[Connection]) -> io::Result<usize> {
    let wanted: HashSet<(SocketAddr, SocketAddr)> = connections.iter().map(|one| (one.local, one.remote)).collect();
    let mut socket = Socket::new(SOCK_DIAG)?;
    socket.bind_auto()?;
    let mut closed = 0;
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        for id in list(&socket, family)?.into_iter().filter(|id| wanted.contains(&ends(family, id))) {
            closed += usize::from(destroy(&socket, family, &id)?);
        }
    }
    Ok(closed)
}

fn list(socket: &Socket, family: u8) -> io::Result<Vec<Id>> {
    socket.send_to(&question(BY_FAMILY, REQUEST_AND_DUMP, family, &[0; 48]), &NetlinkAddress::new(0, 0), 0)?;
    let (mut found, mut buffer) = (Vec::new(), vec![0; 65_536]);
    loop {
        let length = socket.recv(&mut &mut buffer[..], 0)?;
        for message in messages(&buffer[..length]) {
            let (kind, body) = message?;
            match kind {
                DONE => return Ok(found),
                ERROR => return Err(answer_error(body)),
                // struct inet_diag_msg has it behind family, state, timer and retransmissions.
                _ => found.extend(body.get(4..52).and_then(|id| Id::try_from(id).ok())),
            }
        }
    }
}

/// Whether it was still there.
fn destroy(socket: &Socket, family: u8, id: &Id) -> io::Result<bool> {
    socket.send_to(&question(DESTROY, REQUEST_AND_ACKNOWLEDGE, family, id), &NetlinkAddress::new(0, 0), 0)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut &mut answer[..], 0)?;
    let (_, body) = messages(&answer[..length]).next().ok_or(io::ErrorKind::UnexpectedEof)??;
    match answer_error(body) {
        // An acknowledgement is an error with the number 0.
        error if error.raw_os_error() == Some(0) => Ok(true),
        error if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE)) => Ok(false),
        error => Err(error),
    }
}

fn question(kind: u16, flags: u16, family: u8, id: &Id) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LENGTH as usize);
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, libc::IPPROTO_TCP as u8, 0, 0]);
    bytes.extend(OPEN.to_ne_bytes());
    bytes.extend(id);
    bytes
}

/// The two ends; IPv4 in the newer family's sockets is IPv4.
fn ends(family: u8, id: &Id) -> (SocketAddr, SocketAddr) {
    let port = |at: usize| u16::from_be_bytes([id[at], id[at + 1]]);
    let address = |at: usize| -> IpAddr {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&id[at..at + 16]);
        match i32::from(family) {
            libc::AF_INET => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(),
            _ => Ipv6Addr::from(bytes).to_canonical(),
        }
    };
    (SocketAddr::new(address(4), port(0)), SocketAddr::new(address(20), port(2)))
}

#[cfg(test)]
mod tests {
    use super::super::lab::{Namespace, connect};
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    #[test]
    fn both_ends_hear_of_it_and_the_others_do_not() {
        let namespace = Namespace::new();
        for listen in ["127.0.0.1:7000", "[::1]:7000"] {
            let listener = namespace.run(|| Ok(TcpListener::bind(listen).unwrap()));
            let (mut client, other) = (connect(&namespace, listen), connect(&namespace, listen));
            let (mut server, _) = listener.accept().unwrap();
            let end = Connection { local: server.local_addr().unwrap(), remote: server.peer_addr().unwrap(), inode: 0 };
            assert_eq!(close(&namespace.net, &[end]).unwrap(), 1);
            assert!(server.read(&mut [0; 1]).is_err());
            assert!(client.read(&mut [0; 1]).is_err());
            assert_eq!(close(&namespace.net, &[end]).unwrap(), 0, "it has ended already");
            let another = connect(&namespace, listen);
            assert!(another.peer_addr().is_ok(), "who listens there goes on listening");
            other.set_nonblocking(true).unwrap();
            assert_eq!((&other).read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    }
}
