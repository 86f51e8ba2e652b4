//! The kernel's lists of sockets (`sock_diag`), of the network namespace that the calling thread is in.
//!
//! The same requests that CRIU makes; sources: `linux/sock_diag.h`, `linux/unix_diag.h`, `linux/inet_diag.h`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::libc;

const NETLINK_SOCK_DIAG: libc::c_int = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_HEADER: usize = 16;
const UNIX_MESSAGE: usize = 16;
const INET_MESSAGE: usize = 72;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_PEER: u16 = 2;
const UDIAG_SHOW_NAME: u32 = 1;
const UDIAG_SHOW_PEER: u32 = 4;
const TCP_LISTEN: u8 = 10;
/// How long the kernel may take for one more part of a list.
const PATIENCE: libc::timeval = libc::timeval { tv_sec: 5, tv_usec: 0 };

/// A unix socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unix {
    pub inode: u32,
    /// `SOCK_STREAM`, `SOCK_DGRAM` ...
    pub kind: u8,
    /// The other end's inode; 0 where that was not accepted yet.
    pub peer: Option<u32>,
    /// With a leading `@` for an abstract name.
    pub name: Option<String>,
}

/// A listening TCP socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listening {
    pub inode: u64,
    pub port: u16,
    /// Connections that wait for `accept`.
    pub waiting: u32,
}

/// All unix sockets.
pub(super) fn unix_sockets() -> io::Result<Vec<Unix>> {
    let mut body = vec![libc::AF_UNIX as u8, 0, 0, 0];
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(0u32.to_ne_bytes());
    body.extend((UDIAG_SHOW_NAME | UDIAG_SHOW_PEER).to_ne_bytes());
    body.extend([0; 8]);
    let mut found = Vec::new();
    dump(&body, |message| found.extend(parse_unix(message)))?;
    Ok(found)
}

/// All listening TCP sockets, of both families.
pub(super) fn listening() -> io::Result<Vec<Listening>> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let body = inet_request(family, libc::IPPROTO_TCP, 1 << TCP_LISTEN);
        dump(&body, |message| found.extend(parse_listening(message)))?;
    }
    Ok(found)
}

/// Which of the kernel's modules that list sockets are missing, of those that CRIU cannot do without.
pub(super) fn missing_modules() -> io::Result<Vec<String>> {
    let packet = [&[libc::AF_PACKET as u8, 0, 0, 0][..], &[0; 16]].concat();
    let netlink = [&[libc::AF_NETLINK as u8, u8::MAX, 0, 0][..], &[0; 16]].concat();
    let requests = [
        ("tcp_diag", inet_request(libc::AF_INET, libc::IPPROTO_TCP, 0)),
        ("udp_diag", inet_request(libc::AF_INET, libc::IPPROTO_UDP, 0)),
        ("af_packet_diag", packet),
        ("netlink_diag", netlink),
    ];
    let mut missing = Vec::new();
    let mut note = |module: &str, outcome: io::Result<()>| match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            missing.push(module.to_owned());
            Ok(())
        }
        other => other,
    };
    note("unix_diag", unix_sockets().map(drop))?;
    for (module, body) in requests {
        note(module, dump(&body, |_| {}))?;
    }
    Ok(missing)
}

/// An `inet_diag_req_v2` for all sockets of a protocol in the given states.
fn inet_request(family: libc::c_int, protocol: libc::c_int, states: u32) -> Vec<u8> {
    let mut body = vec![family as u8, protocol as u8, 0, 0];
    body.extend(states.to_ne_bytes());
    body.extend([0; 48]);
    body
}

/// Sends one request for a list and gives each of its messages to `each`.
fn dump(body: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let socket = open()?;
    let mut request = ((NLMSG_HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
    request.extend([0; 8]);
    request.extend(body);
    // SAFETY: a buffer and its length.
    let sent = unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut buffer = vec![0u8; 128 * 1024];
    loop {
        // SAFETY: a buffer and its length.
        let length = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        if length == 0 || !take(&buffer[..length], &mut each)? {
            return Ok(());
        }
    }
}

fn open() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: plain system call without pointers.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, NETLINK_SOCK_DIAG) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let length = size_of_val(&PATIENCE) as libc::socklen_t;
    let patience = PATIENCE;
    // SAFETY: value and length describe a timeval that outlives the call.
    unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const patience).cast(), length) };
    Ok(socket)
}

/// Gives each message of a packet to `each`; false after the last one of the list.
fn take(packet: &[u8], each: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    let mut rest = packet;
    while rest.len() >= NLMSG_HEADER {
        let length = number(rest, 0) as usize;
        let Some(body) = rest.get(NLMSG_HEADER..length) else {
            break;
        };
        match i32::from(short(rest, 4)) {
            libc::NLMSG_DONE => return Ok(false),
            libc::NLMSG_ERROR => match -(number(body, 0) as i32) {
                0 => return Ok(false),
                errno => return Err(io::Error::from_raw_os_error(errno)),
            },
            _ => each(body),
        }
        rest = rest.get(aligned(length)..).unwrap_or_default();
    }
    Ok(true)
}

fn parse_unix(message: &[u8]) -> Option<Unix> {
    let head = message.get(..UNIX_MESSAGE)?;
    let mut found = Unix { inode: number(head, 4), kind: head[1], peer: None, name: None };
    for (kind, value) in attributes(&message[UNIX_MESSAGE..]) {
        match kind {
            UNIX_DIAG_PEER if value.len() >= 4 => found.peer = Some(number(value, 0)),
            UNIX_DIAG_NAME => found.name = Some(name(value)),
            _ => {}
        }
    }
    Some(found)
}

fn name(bytes: &[u8]) -> String {
    match bytes {
        [0, rest @ ..] => format!("@{}", String::from_utf8_lossy(rest)),
        path => String::from_utf8_lossy(path).trim_end_matches('\0').to_owned(),
    }
}

fn parse_listening(message: &[u8]) -> Option<Listening> {
    let message = message.get(..INET_MESSAGE)?;
    Some(Listening {
        port: u16::from_be_bytes([message[4], message[5]]),
        waiting: number(message, 56),
        inode: u64::from(number(message, 68)),
    })
}

fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(short(rest.get(..4)?, 0));
        let value = rest.get(4..length)?;
        let kind = short(rest, 2);
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// The 32 bits at `at`; 0 past the end, which no caller takes for a value of its own.
fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
}

fn short(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |word| u16::from_ne_bytes([word[0], word[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::preflight::look::stat::status;
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;

    fn inode(socket: &impl AsRawFd) -> u64 {
        status(&PathBuf::from(format!("/proc/self/fd/{}", socket.as_raw_fd()))).unwrap().inode
    }

    #[test]
    fn a_pair_of_unix_sockets_name_each_other() {
        let (one, other) = UnixStream::pair().unwrap();
        let sockets = unix_sockets().unwrap();
        let found = sockets.iter().find(|socket| u64::from(socket.inode) == inode(&one)).unwrap();
        assert_eq!(found.peer.map(u64::from), Some(inode(&other)));
        assert_eq!(i32::from(found.kind), libc::SOCK_STREAM);
    }

    #[test]
    fn connections_that_wait_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let all = listening().unwrap();
        let found = all.iter().find(|socket| socket.inode == inode(&listener)).unwrap();
        assert_eq!((found.port, found.waiting), (listener.local_addr().unwrap().port(), 1));
    }

    #[test]
    fn cut_and_false_lengths_end_the_list() {
        let mut message = vec![0; UNIX_MESSAGE];
        message.extend(200u16.to_ne_bytes());
        message.extend([2, 0, 1]);
        assert_eq!(parse_unix(&message).unwrap().peer, None);
        assert_eq!(parse_unix(&[0; 7]), None);
        let mut calls = 0;
        let lying = [&500u32.to_ne_bytes()[..], &[0; 20]].concat();
        assert!(take(&lying, &mut |_| calls += 1).unwrap());
        assert_eq!(calls, 0);
        assert_eq!(name(b"\0dbus"), "@dbus");
    }

    #[test]
    fn the_kernel_has_its_modules_or_says_which_not() {
        missing_modules().unwrap();
    }
}
