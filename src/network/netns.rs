//! A network namespace: kept open, entered by a thread of its own, looked at.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::ifaddrs::{self, getifaddrs};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::SockaddrStorage;
use serde::Deserialize;

use super::command;
use super::error::{Error, Result};

/// An open network namespace. As long as it is open the namespace lives on, even when its last process is gone, so keep
/// it no longer than needed.
#[derive(Debug)]
pub struct NetNs {
    fd: OwnedFd,
}

impl NetNs {
    /// The network namespace of a process.
    ///
    /// # Errors
    /// [`Error::OpenNamespace`] when there is no such process (any more).
    pub fn of_process(pid: u32) -> Result<Self> {
        Self::at(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// The network namespace of the calling thread.
    pub fn current() -> Result<Self> {
        Self::at(Path::new("/proc/thread-self/ns/net"))
    }

    /// The namespace a file stands for: `/proc/PID/ns/net`, or where one is bound, as Docker's `SandboxKey` is.
    pub fn at(path: &Path) -> Result<Self> {
        let open =
            File::open(path).map_err(|source| Error::OpenNamespace { path: path.display().to_string(), source })?;
        Ok(Self { fd: open.into() })
    }

    /// What the kernel knows the namespace by: two with the same number are the same one.
    ///
    /// # Errors
    /// [`Error::EnterNamespace`] when the kernel does not tell.
    pub fn inode(&self) -> Result<u64> {
        let file = File::from(self.fd.try_clone().map_err(Error::EnterNamespace)?);
        Ok(file.metadata().map_err(Error::EnterNamespace)?.ino())
    }

    /// Runs `task` inside the namespace, on a thread made for it, and waits for it. The calling thread never changes
    /// namespace, so a failure cannot leave it in the wrong one. Sockets opened and programs started by `task` belong to
    /// the namespace; sockets stay there afterwards too.
    ///
    /// # Errors
    /// [`Error::EnterNamespace`], or what `task` returns.
    pub fn run<T: Send>(&self, task: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("netns".into())
                .spawn_scoped(scope, || {
                    setns(&self.fd, CloneFlags::CLONE_NEWNET).map_err(|error| Error::EnterNamespace(error.into()))?;
                    task()
                })
                .map_err(Error::EnterNamespace)?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The interfaces of the namespace with their addresses.
    pub fn interfaces(&self) -> Result<Vec<Interface>> {
        self.run(interfaces)
    }

    /// The routes of its main tables, IPv4 and IPv6.
    pub fn routes(&self) -> Result<Vec<Route>> {
        self.run(routes)
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its index in the namespace.
    pub index: u32,
    pub name: String,
    /// Its Ethernet address; none for `lo` and for tunnels.
    pub mac: Option<[u8; 6]>,
    pub addresses: Vec<InterfaceAddress>,
}

/// An address on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceAddress {
    pub address: IpAddr,
    /// Length of the prefix, in bits.
    pub prefix: u8,
}

impl Interface {
    /// Whether the interface has this address.
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.address == address)
    }
}

/// A route as `ip -j route` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Route {
    /// `default`, an address, or a prefix.
    #[serde(rename = "dst")]
    pub destination: String,
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    #[serde(rename = "dev", default)]
    pub interface: Option<String>,
    #[serde(default)]
    pub metric: Option<u32>,
    /// Whether it is one of IPv6; `default` does not tell.
    #[serde(skip)]
    pub ipv6: bool,
}

/// The interfaces of the calling thread's namespace. Asked of the kernel without a program: containers wait for the answer.
///
/// # Errors
/// [`Error::Netlink`] when the kernel does not tell.
pub fn interfaces() -> Result<Vec<Interface>> {
    let all: Vec<_> = getifaddrs().map_err(|error| Error::netlink("list the interfaces")(error.into()))?.collect();
    let mut interfaces: Vec<Interface> = all.iter().filter_map(link).collect();
    for found in &all {
        // An IPv4 address is told by its label, which is the interface's name and may go on behind a colon.
        let name = found.interface_name.split(':').next();
        let interface = interfaces.iter_mut().find(|interface| Some(interface.name.as_str()) == name);
        if let (Some(interface), Some(address)) = (interface, address(found)) {
            interface.addresses.push(address);
        }
    }
    Ok(interfaces)
}

/// The interface itself, which is told as an address of its own.
fn link(found: &ifaddrs::InterfaceAddress) -> Option<Interface> {
    let link = found.address.as_ref()?.as_link_addr()?;
    let mac = link.addr().filter(|_| link.hatype() == nix::libc::ARPHRD_ETHER);
    let (index, name) = (u32::try_from(link.ifindex()).ok()?, found.interface_name.clone());
    Some(Interface { index, name, mac, addresses: Vec::new() })
}

fn address(found: &ifaddrs::InterfaceAddress) -> Option<InterfaceAddress> {
    let ip = |address: &SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    let ones = match ip(found.netmask.as_ref()?)? {
        IpAddr::V4(mask) => u32::from(mask).count_ones(),
        IpAddr::V6(mask) => u128::from(mask).count_ones(),
    };
    Some(InterfaceAddress { address: ip(found.address.as_ref()?)?, prefix: u8::try_from(ones).ok()? })
}

/// The routes of the calling thread's namespace, IPv4 and IPv6.
pub fn routes() -> Result<Vec<Route>> {
    let mut all = Vec::new();
    for (option, ipv6) in [("-4", false), ("-6", true)] {
        let routes: Vec<Route> =
            parse("the routes shown by ip", &command::run("ip", &[option, "-j", "route", "show"], "")?)?;
        all.extend(routes.into_iter().map(|route| Route { ipv6, ..route }));
    }
    Ok(all)
}

/// `ip -j` prints nothing at all, or `[{}]`, for an empty list in some versions.
pub(super) fn parse<T: for<'a> Deserialize<'a>>(what: &'static str, text: &str) -> Result<Vec<T>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let values: Vec<serde_json::Value> = serde_json::from_str(text).map_err(|error| Error::malformed(what, error))?;
    values
        .into_iter()
        .filter(|value| value.as_object().is_some_and(|object| !object.is_empty()))
        .map(|value| serde_json::from_value(value).map_err(|error| Error::malformed(what, error)))
        .collect()
}

/// Reads a file of the kernel's, naming it in the error. Files below `/proc/sys/net` and `/proc/thread-self/net` show the
/// calling thread's namespace; `/proc/net` would show that of the process's first thread.
pub(super) fn read_kernel(path: &str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|source| kernel(path, source))
}

/// Writes a file of the kernel's.
pub(super) fn write_kernel(path: &str, value: &str) -> Result<()> {
    std::fs::write(path, value).map_err(|source| kernel(path, source))
}

fn kernel(path: &str, source: io::Error) -> Error {
    Error::Kernel { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::super::lab::{Namespace, veth};
    use super::*;

    #[test]
    fn a_task_runs_inside_and_the_caller_stays_outside() {
        let before = NetNs::current().unwrap().inode().unwrap();
        let other = Namespace::new();
        let inside = other.run(|| NetNs::current()?.inode());
        assert_eq!(inside, other.net.inode().unwrap());
        assert_ne!(inside, before);
        assert_eq!(NetNs::current().unwrap().inode().unwrap(), before);
    }

    #[test]
    fn shows_interfaces_addresses_and_routes() {
        let (left, right) = (Namespace::new(), Namespace::new());
        veth(&left, "a0", &["10.1.0.1/24", "fd01::1/64"], &right, "b0", &["10.1.0.2/24", "fd01::2/64"]);
        left.ip("route add default via 10.1.0.2");
        let interfaces = left.net.interfaces().unwrap();
        let a0 = interfaces.iter().find(|interface| interface.name == "a0").unwrap();
        assert!(a0.has("10.1.0.1".parse().unwrap()) && a0.has("fd01::1".parse().unwrap()));
        let lo = interfaces.iter().find(|interface| interface.name == "lo").unwrap();
        assert!(a0.mac.is_some() && lo.mac.is_none());
        let prefixes: Vec<u8> = a0.addresses.iter().map(|own| own.prefix).collect();
        assert_eq!(prefixes[..2], [24, 64]);
        let routes = left.net.routes().unwrap();
        assert!(routes.iter().any(|route| route.destination == "default" && route.gateway.is_some()), "{routes:?}");
    }

    #[test]
    fn a_process_that_is_gone_is_an_error_that_says_so() {
        let error = NetNs::of_process(u32::MAX - 1).unwrap_err();
        assert!(error.to_string().contains("/ns/net"), "{error}");
    }
}
