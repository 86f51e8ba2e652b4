//! What can go wrong in this room.
//!
//! Each variant names the operation that failed and carries what it was about; the cause stands in `#[source]` alone, so
//! that whoever prints the chain prints each sentence once.

use std::io;
use std::net::IpAddr;
use std::process::ExitStatus;

/// A failed operation on the network of a container or of the host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The namespace could not be opened: mostly its process is gone.
    #[error("cannot open the network namespace {path}")]
    OpenNamespace {
        /// The file in `/proc` that was tried.
        path: String,
        #[source]
        source: io::Error,
    },
    /// `setns` was refused, or the thread for it could not be started.
    #[error("cannot enter a network namespace")]
    EnterNamespace(#[source] io::Error),
    /// An external program could not be run at all.
    #[error("cannot run {program}")]
    Spawn {
        program: String,
        #[source]
        source: io::Error,
    },
    /// An external program ran and said no; what it said is here in full.
    #[error("`{command}` failed ({status}): {}", stderr.trim())]
    Command { command: String, status: ExitStatus, stderr: String },
    /// An external program, Docker or the kernel gave something that does not read as what it should be.
    #[error("cannot read {what}: {why}")]
    Malformed { what: &'static str, why: String },
    /// A netlink socket failed.
    #[error("netlink: cannot {doing}")]
    Netlink {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    /// Every queue number set aside for holds is in use.
    #[error("no free netfilter queue between {first} and {last}")]
    NoFreeQueue { first: u16, last: u16 },
    /// The thread that keeps the packets of a hold ended before it was told to.
    #[error("the keeper of netfilter queue {queue} is gone; what it kept is lost, the rules still stand")]
    KeeperGone { queue: u16 },
    /// The hold was released before.
    #[error("the hold on netfilter queue {queue} was already released")]
    AlreadyReleased { queue: u16 },
    /// A file of the kernel's could not be read or written.
    #[error("cannot access {path}")]
    Kernel {
        path: String,
        #[source]
        source: io::Error,
    },
    /// No interface in the namespace has the address.
    #[error("no interface has the address {address}")]
    NoSuchAddress { address: IpAddr },
    /// No such interface in the namespace, or it has no hardware address.
    #[error("no interface {name} with a hardware address")]
    NoSuchInterface { name: String },
    /// A raw packet socket failed.
    #[error("cannot {doing} on interface {interface}")]
    Packet {
        doing: &'static str,
        interface: String,
        #[source]
        source: io::Error,
    },
    /// A socket of another process could not be taken out of repair mode.
    #[error("cannot {doing} of process {pid}")]
    Mend {
        doing: &'static str,
        pid: u32,
        #[source]
        source: io::Error,
    },
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(super) fn malformed(what: &'static str, why: impl ToString) -> Self {
        Error::Malformed { what, why: why.to_string() }
    }

    /// For `map_err` on netlink calls.
    pub(super) fn netlink(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Error::Netlink { doing, source }
    }
}
