//! The container's sockets, as the kernel lists them for its network namespace.

use std::collections::{HashMap, HashSet};
use std::io;

use nix::libc;

use super::diag;
use super::process::read_text;
use crate::checkpoint::preflight::facts::{ExternalUnix, NetlinkSocket, WaitingConnections};
use crate::criu::netns::in_netns;

/// Those of the `owned` unix sockets whose other end is not among them.
pub(super) fn external_unix(pid: i32, owned: &HashSet<u64>) -> io::Result<Vec<ExternalUnix>> {
    let all = in_netns(pid, diag::unix_sockets)?;
    let names: HashMap<u32, &String> =
        all.iter().filter_map(|socket| Some((socket.inode, socket.name.as_ref()?))).collect();
    let mut found: Vec<ExternalUnix> = all
        .iter()
        .filter(|socket| owned.contains(&u64::from(socket.inode)))
        .filter_map(|socket| {
            // 0: connected, not accepted yet; the listening socket's own business.
            let peer = socket.peer.filter(|peer| *peer != 0 && !owned.contains(&u64::from(*peer)))?;
            Some(ExternalUnix {
                inode: socket.inode,
                datagram: i32::from(socket.kind) == libc::SOCK_DGRAM,
                peer,
                peer_name: names.get(&peer).map(|name| (*name).clone()),
            })
        })
        .collect();
    if found.iter().any(|socket| socket.peer_name.is_none()) {
        name_by_host(&mut found)?;
    }
    Ok(found)
}

/// The other end is most often a daemon of the host, in the host's network namespace.
fn name_by_host(found: &mut [ExternalUnix]) -> io::Result<()> {
    let host: HashMap<u32, Option<String>> =
        diag::unix_sockets()?.into_iter().map(|socket| (socket.inode, socket.name)).collect();
    for socket in found.iter_mut().filter(|socket| socket.peer_name.is_none()) {
        socket.peer_name = host.get(&socket.peer).cloned().flatten();
    }
    Ok(())
}

/// Connections that the container has not accepted yet.
pub(super) fn waiting(pid: i32, owned: &HashSet<u64>) -> io::Result<Vec<WaitingConnections>> {
    let all = in_netns(pid, diag::listening)?;
    let busy = all.into_iter().filter(|socket| socket.waiting > 0 && owned.contains(&socket.inode));
    Ok(busy.map(|socket| WaitingConnections { port: socket.port, count: socket.waiting }).collect())
}

/// The container's netlink sockets.
pub(super) fn netlink(pid: i32, owned: &HashSet<u64>) -> io::Result<Vec<NetlinkSocket>> {
    let text = read_text(&format!("/proc/{pid}/net/netlink"))?;
    Ok(text.lines().skip(1).filter_map(parse_netlink).filter(|socket| owned.contains(&socket.inode)).collect())
}

/// `sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode`
fn parse_netlink(line: &str) -> Option<NetlinkSocket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    Some(NetlinkSocket {
        protocol: fields.get(1)?.parse().ok()?,
        unread: fields.get(4)?.parse().ok()?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::preflight::look::stat::status;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    use std::path::PathBuf;

    fn inode(socket: &impl AsRawFd) -> u64 {
        status(&PathBuf::from(format!("/proc/self/fd/{}", socket.as_raw_fd()))).unwrap().inode
    }

    fn external(owned: &[u64]) -> Vec<ExternalUnix> {
        external_unix(std::process::id() as i32, &owned.iter().copied().collect()).unwrap()
    }

    #[test]
    fn a_connection_to_somebody_else_is_external_and_has_a_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("daemon.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        assert_eq!(external(&[inode(&client)]), [], "not accepted yet: nobody is on the other side");
        let (server, _) = listener.accept().unwrap();
        let found = external(&[inode(&client)]);
        assert_eq!(found[0].peer_name.as_deref(), path.to_str());
        assert!(!found[0].datagram);
        assert_eq!(external(&[inode(&client), inode(&server)]), []);
    }

    #[test]
    fn a_datagram_socket_is_told_apart() {
        let (one, _other) = UnixDatagram::pair().unwrap();
        assert!(external(&[inode(&one)])[0].datagram);
    }

    #[test]
    fn netlink_lines_are_taken_apart() {
        let line = "00000000b1a2e7f0 15  1234       00000002 832        0        0     2        0        4711";
        assert_eq!(parse_netlink(line), Some(NetlinkSocket { inode: 4711, protocol: 15, unread: 832 }));
        assert_eq!(parse_netlink("sk Eth"), None);
    }
}
