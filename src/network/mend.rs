//! What a CRIU that was killed in mid-dump leaves in a container, and its removal, so that the container can go on as if
//! nothing had happened (I2).
//!
//! CRIU keeps packets from the sockets while it reads them, by rules in the container's network namespace, and puts each TCP
//! socket in repair mode, in which it neither sends nor says goodbye when closed. It undoes both itself when a dump fails,
//! but not when it is killed. Names and methods are those of CRIU's `network_lock_internal` and `nftables_init_connection_lock`,
//! the same from 3.17 to 4.2: either an nftables table `inet CRIU-<run>`, or a chain `CRIU` in iptables' filter table.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use netlink_packet_netfilter::nftables::{NfTablesMessage, TableAttribute, TableMessage};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use nix::libc;

use super::command;
use super::error::{Error, Result};
use super::netlink::Channel;
use super::netns::NetNs;
use super::spec::Family;

const TABLE_PREFIX: &str = "CRIU-";
const CHAIN: &str = "CRIU";
/// struct `TCP_REPAIR` values of linux/tcp.h. Leaving repair mode sends a window probe, so that both ends go on at once.
const REPAIR_OFF: i32 = 0;

/// What was mended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Mended {
    /// nftables tables removed.
    pub tables: usize,
    /// Families from which the iptables chain was removed.
    pub chains: usize,
    /// TCP sockets taken out of repair mode.
    pub sockets: usize,
}

/// Removes what a killed CRIU left in a namespace and in the sockets of its processes. Rules first: a socket that leaves
/// repair mode speaks at once. Processes that are gone are skipped; they may be frozen. May be repeated.
///
/// # Errors
/// [`Error::Mend`] when a socket cannot be had or mended; those of netlink and iptables.
pub fn mend(namespace: &NetNs, pids: &[u32]) -> Result<Mended> {
    let (tables, chains) = namespace.run(|| Ok((remove_tables()?, remove_chains()?)))?;
    let mut sockets = 0;
    for pid in pids {
        sockets += mend_sockets(*pid)?;
    }
    Ok(Mended { tables, chains, sockets })
}

fn remove_tables() -> Result<usize> {
    let mut channel = Channel::open()?;
    let mut names = Vec::new();
    let question = NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() });
    match channel.dump(
        table_message(NetfilterProtoFamily::Inet, question),
        |_| true,
        |message| names.extend(table_name(&message)),
    ) {
        // A kernel without nftables.
        Err(Error::Netlink { source, .. })
            if matches!(source.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) =>
        {
            return Ok(0);
        }
        other => other?,
    }
    names.retain(|name| name.starts_with(TABLE_PREFIX));
    let deletions = names.iter().map(|name| {
        let attributes = vec![TableAttribute::Name(name.clone())];
        table_message(NetfilterProtoFamily::Inet, NfTablesMessage::DeleteTable(TableMessage { attributes }))
    });
    channel.transact_nftables(deletions.collect())?;
    Ok(names.len())
}

fn table_message(family: NetfilterProtoFamily, content: NfTablesMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), content)
}

fn table_name(message: &NetfilterMessage) -> Option<String> {
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewTable(table)) = &message.inner else {
        return None;
    };
    table.attributes.iter().find_map(|attribute| match attribute {
        TableAttribute::Name(name) => Some(name.clone()),
        _ => None,
    })
}

/// Without its jumps the chain is without effect; without the chain nothing is left.
fn remove_chains() -> Result<usize> {
    let mut removed = 0;
    for family in Family::BOTH {
        let present = match command::run(family.tool(), &["-w", "10", "-t", "filter", "-S"], "") {
            Err(Error::Command { .. } | Error::Spawn { .. }) if family == Family::V6 => continue,
            other => other?,
        };
        if present.lines().any(|line| line == format!("-N {CHAIN}")) {
            let jump = format!("-j {CHAIN}");
            let jumps =
                present.lines().filter_map(|line| line.strip_prefix("-A ")).filter(|line| line.ends_with(&jump));
            let jumps: String = jumps.map(|line| format!("-D {line}\n")).collect();
            let rules = format!("*filter\n{jumps}-F {CHAIN}\n-X {CHAIN}\nCOMMIT\n");
            command::run(family.restore_tool(), &["--noflush", "--wait=10"], &rules)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Takes every TCP socket of a process out of repair mode, through copies of its descriptors.
fn mend_sockets(pid: u32) -> Result<usize> {
    let failed = |doing| move |source| Error::Mend { doing, pid, source };
    let Some(process) = present(pidfd_open(pid)).map_err(failed("open a descriptor"))? else {
        return Ok(0);
    };
    let Some(numbers) = present(socket_numbers(pid)).map_err(failed("list the sockets"))? else {
        return Ok(0);
    };
    let mut mended = 0;
    for number in numbers {
        // Closed in the meantime, by a process that runs on.
        let copy = present(pidfd_getfd(&process, number)).map_err(failed("copy a socket"))?;
        if let Some(socket) = copy {
            mended += usize::from(leave_repair(&socket).map_err(failed("end the repair mode of a socket"))?);
        }
    }
    Ok(mended)
}

/// What is gone needs no mending.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EBADF | libc::ENOENT)) => Ok(None),
        other => other.map(Some),
    }
}

fn socket_numbers(pid: u32) -> io::Result<Vec<RawFd>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let is_socket =
            std::fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        numbers.extend(entry.file_name().to_str().filter(|_| is_socket).and_then(|name| name.parse::<RawFd>().ok()));
    }
    Ok(numbers)
}

fn leave_repair(socket: &OwnedFd) -> io::Result<bool> {
    let family = option(socket, libc::SOL_SOCKET, libc::SO_DOMAIN)?;
    let protocol = option(socket, libc::SOL_SOCKET, libc::SO_PROTOCOL)?;
    if !matches!(family, libc::AF_INET | libc::AF_INET6) || protocol != libc::IPPROTO_TCP {
        return Ok(false);
    }
    if option(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR)? == 0 {
        return Ok(false);
    }
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, REPAIR_OFF).map(|()| true)
}

fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

fn pidfd_getfd(process: &OwnedFd, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
}

fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(result).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel just gave us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn option(socket: &OwnedFd, level: i32, name: i32) -> io::Result<i32> {
    let (mut value, mut length) = (0_i32, size_of::<i32>() as libc::socklen_t);
    // SAFETY: value and length are valid, and the length is that of the value.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length) };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

fn set_option(socket: &OwnedFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the value is valid for its length.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Duration;

    use super::super::lab::{Segment, ask, connect, echo_server};
    use super::*;

    /// I2: after a killed dump the container goes on, with what it was about to say.
    #[test]
    fn i2_a_container_goes_on_after_a_killed_dump() {
        let segment = Segment::new();
        echo_server(&segment.client, "192.0.2.1:9000");
        let mut stream = connect(&segment.container, "192.0.2.1:9000");
        ask(&mut stream, 1);

        // As CRIU does it, both ways at once.
        let own = OwnedFd::from(stream.try_clone().unwrap());
        set_option(&own, libc::IPPROTO_TCP, libc::TCP_REPAIR, 1).unwrap();
        segment.container.shell(
            "nft 'create table inet CRIU-0b5c; add chain inet CRIU-0b5c output { type filter hook output priority 0; }
                  add rule inet CRIU-0b5c output meta mark 0xc114 accept; add rule inet CRIU-0b5c output drop'
             nft 'create table inet mine'
             for tool in iptables-restore ip6tables-restore; do
             printf '*filter\\n:CRIU - [0:0]\\n-I INPUT -j CRIU\\n-I OUTPUT -j CRIU\\n-A CRIU -j DROP\\nCOMMIT\\n' | $tool -n
             done",
        );

        let mended = mend(&segment.container.net, &[std::process::id(), i32::MAX as u32]).unwrap();
        assert_eq!(mended, Mended { tables: 1, chains: 2, sockets: 1 });
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        stream.write_all(b"on").unwrap();
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"on");

        let left = segment.container.shell("nft list ruleset");
        assert!(left.contains("table inet mine") && !left.contains("CRIU"), "{left}");
        assert_eq!(mend(&segment.container.net, &[std::process::id()]).unwrap(), Mended::default());
    }
}
