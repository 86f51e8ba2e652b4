//! TCP sockets with their two ends, as `/proc/PID/net/tcp` and `tcp6` list those of a process's network namespace.

use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// States of a socket that has somebody at the other end (`net/tcp_states.h`): established, and half closed by either end.
const OPEN: [u8; 4] = [1, 4, 5, 8];

/// A socket that has somebody at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Connection {
    /// Its own end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// The socket's inode.
    pub inode: u64,
}

impl Connection {
    /// The same for whom it is connected to.
    pub fn other_end(&self) -> Self {
        Self { local: self.remote, remote: self.local, inode: 0 }
    }
}

/// The open connections in the network namespace of a process. IPv4 in the newer family's sockets is IPv4.
///
/// # Errors
/// When the process is gone.
pub fn open_in(pid: i32) -> io::Result<Vec<Connection>> {
    let mut found = Vec::new();
    for name in ["tcp", "tcp6"] {
        match std::fs::read_to_string(format!("/proc/{pid}/net/{name}")) {
            Ok(table) => found.extend(table.lines().skip(1).filter_map(parse_row)),
            // A kernel without IPv6.
            Err(error) if name == "tcp6" && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The connections that are open before and after `act`, and what that comes to: what it finds is about them.
///
/// # Errors
/// When the process is gone.
pub fn open_throughout<T>(pid: i32, act: impl FnOnce() -> T) -> io::Result<(Vec<Connection>, T)> {
    let before = open_in(pid)?;
    let done = act();
    let after: HashSet<Connection> = open_in(pid)?.into_iter().collect();
    Ok((before.into_iter().filter(|open| after.contains(open)).collect(), done))
}

/// `sl local rem st tx:rx tr:tm retr uid timeout inode ...`
fn parse_row(line: &str) -> Option<Connection> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let state = u8::from_str_radix(fields.get(3)?, 16).ok()?;
    let connection = Connection {
        local: parse_address(fields.get(1)?)?,
        remote: parse_address(fields.get(2)?)?,
        inode: fields.get(9)?.parse().ok()?,
    };
    OPEN.contains(&state).then_some(connection)
}

/// Addresses are 32-bit words in the machine's byte order, in hexadecimal.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let words: Option<Vec<[u8; 4]>> = (0..address.len() / 8)
        .map(|at| Some(u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes()))
        .collect();
    let bytes = words?.concat();
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::V4(Ipv4Addr::from(four)),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?).to_canonical(),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_apart() {
        let row = "   0: 0100007F:1F90 0200000A:C350 01 00000000:00000000 00:00000000 00000000     0        0 4711 1";
        let open = parse_row(row).unwrap();
        assert_eq!(
            (open.local.to_string(), open.remote.to_string()),
            ("127.0.0.1:8080".into(), "10.0.0.2:50000".into())
        );
        assert_eq!(open.inode, 4711);
        assert_eq!(parse_row(&row.replace(" 01 ", " 0A ")), None, "it listens");
        let mapped = parse_address("0000000000000000FFFF00000100007F:0050").unwrap();
        assert_eq!(mapped.to_string(), "127.0.0.1:80");
        assert_eq!(parse_address("ünlikely:0050"), None);
    }

    #[test]
    fn our_own_connection_is_listed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let open = open_in(std::process::id() as i32).unwrap();
        let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        assert!(open.iter().any(|one| (one.local, one.remote) == (local, remote)));
    }

    #[test]
    fn what_ends_meanwhile_is_not_told_and_what_stays_is() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || {
            let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (client, listener.accept().unwrap().0)
        };
        let (stays, ends) = (connect(), connect());
        let local = [&stays, &ends].map(|(client, _)| client.local_addr().unwrap());
        let own = std::process::id() as i32;
        let end = || {
            // Dropped, they would stay open in what another test is starting just now.
            [&ends.0, &ends.1].into_iter().for_each(|one| one.shutdown(std::net::Shutdown::Both).unwrap());
            while open_in(own).unwrap().iter().any(|one| one.local == local[1]) {}
        };
        let (open, ()) = open_throughout(own, end).unwrap();
        let is_told = local.map(|local| open.iter().any(|one| one.local == local));
        assert_eq!(is_told, [true, false]);
    }
}
