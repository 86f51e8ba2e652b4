//! A network for the moment of the restore.
//!
//! When CRIU restores the sockets of a container inside `create`, its new network namespace is still empty: Docker sets up
//! the interfaces only afterwards. Established sockets need no more than that their own address is there and that some route
//! leads to the other end, so until then `lo` is up, has the container's addresses, and is the way to everywhere, by the
//! worst metric there is: Docker's own routes then come in without a conflict and win.
//!
//! The interposer uses this from an OCI hook, so it needs nothing but `ip`.

use std::fmt::Write;
use std::net::IpAddr;

use super::command;
use super::error::Result;
use super::netns::{self, NetNs};
use super::spec::Family;

/// The worst metric. As a number, since `ip` shows it as one.
const WORST: u32 = u32::MAX;

/// Sets up the temporary network in the namespace of a process. May be repeated.
///
/// # Errors
/// [`Error::OpenNamespace`](super::Error::OpenNamespace) when the process is gone, and what `ip` says.
pub fn place(pid: u32, addresses: &[IpAddr]) -> Result<()> {
    place_in(&NetNs::of_process(pid)?, addresses)
}

/// As [`place`], in a namespace that is open already.
///
/// # Errors
/// What `ip` says.
pub fn place_in(namespace: &NetNs, addresses: &[IpAddr]) -> Result<()> {
    namespace.run(|| command::run("ip", &["-batch", "-"], &placing(addresses))).map(drop)
}

/// Takes away what [`place`] has made and nothing else; `lo` stays up, as containers have it. May be repeated, and may be
/// called when Docker has set up the same addresses elsewhere.
///
/// # Errors
/// As [`place`].
pub fn remove(pid: u32, addresses: &[IpAddr]) -> Result<()> {
    remove_in(&NetNs::of_process(pid)?, addresses)
}

/// As [`remove`], in a namespace that is open already.
///
/// # Errors
/// What `ip` says.
pub fn remove_in(namespace: &NetNs, addresses: &[IpAddr]) -> Result<()> {
    namespace.run(|| {
        let batch = removing(addresses, &netns::interfaces()?, &netns::routes()?);
        command::run("ip", &["-batch", "-"], &batch).map(drop)
    })
}

fn placing(addresses: &[IpAddr]) -> String {
    let mut batch = String::from("link set lo up\n");
    for address in addresses {
        // For IPv6 the kernel would add a route to the address as well, with which Docker finds its own to be in conflict
        // (libnetwork `checkRouteConflict`).
        let (prefix, at_once) = if address.is_ipv4() { (32, "") } else { (128, " nodad noprefixroute") };
        line(&mut batch, format_args!("addr replace {address}/{prefix} dev lo{at_once}"));
    }
    for family in families(addresses) {
        line(&mut batch, format_args!("route replace {} dev lo metric {WORST}", everywhere(family)));
    }
    batch
}

/// Only what is there, so that it may be repeated: a batch ends at its first failure.
fn removing(addresses: &[IpAddr], interfaces: &[netns::Interface], routes: &[netns::Route]) -> String {
    let mut batch = String::new();
    let on_lo = interfaces.iter().filter(|interface| interface.name == "lo").flat_map(|lo| &lo.addresses);
    let ours = |own: &&netns::InterfaceAddress| {
        addresses.contains(&own.address) && own.prefix == if own.address.is_ipv4() { 32 } else { 128 }
    };
    let way = |route: &&netns::Route| {
        route.destination == "default" && route.interface.as_deref() == Some("lo") && route.metric == Some(WORST)
    };
    for route in routes.iter().filter(way) {
        let family = if route.ipv6 { Family::V6 } else { Family::V4 };
        line(&mut batch, format_args!("route del {} dev lo metric {WORST}", everywhere(family)));
    }
    on_lo.filter(ours).for_each(|own| line(&mut batch, format_args!("addr del {}/{} dev lo", own.address, own.prefix)));
    batch
}

fn families(addresses: &[IpAddr]) -> impl Iterator<Item = Family> {
    Family::BOTH.into_iter().filter(|family| addresses.iter().any(|address| Family::of(*address) == *family))
}

/// The default route, with its family in its name.
fn everywhere(family: Family) -> &'static str {
    match family {
        Family::V4 => "0.0.0.0/0",
        Family::V6 => "::/0",
    }
}

fn line(batch: &mut String, text: std::fmt::Arguments) {
    writeln!(batch, "{text}").expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::super::lab::{Namespace, ask_all, connect, echo_server, veth};
    use super::*;

    fn addresses() -> Vec<IpAddr> {
        ["172.30.0.2", "fd30::2"].map(|address| address.parse().unwrap()).to_vec()
    }

    /// I6: with it a socket can be bound to the container's address and knows a way to its peer; afterwards everything goes
    /// over the interface that Docker made, and nothing of it is left (I5).
    #[test]
    fn i5_i6_serves_until_the_real_network_is_there_and_leaves_nothing() {
        let (container, host) = (Namespace::new(), Namespace::new());
        let before = (container.net.interfaces().unwrap(), container.net.routes().unwrap());
        place_in(&container.net, &addresses()).unwrap();
        place_in(&container.net, &addresses()).unwrap();
        container.run(|| {
            for (own, peer) in [("172.30.0.2:7000", "192.0.2.1:9"), ("[fd30::2]:7000", "[2001:db8:1::1]:9")] {
                let socket = std::net::UdpSocket::bind(own).unwrap();
                socket.connect(peer).unwrap();
                assert_eq!(socket.local_addr().unwrap(), own.parse().unwrap());
            }
            Ok(())
        });

        veth(&container, "eth0", &["172.30.0.2/24", "fd30::2/64"], &host, "veth0", &["172.30.0.1/24", "fd30::1/64"]);
        container.ip("route add default via 172.30.0.1\nroute add default via fd30::1");
        host.ip("addr add 192.0.2.1/32 dev lo\naddr add 2001:db8:1::1/128 dev lo nodad");
        for address in ["192.0.2.1:9000", "[2001:db8:1::1]:9000"] {
            echo_server(&host, address);
        }
        let reach = || ["192.0.2.1:9000", "[2001:db8:1::1]:9000"].map(|address| connect(&container, address));
        let mut early: [TcpStream; 2] = reach();
        remove_in(&container.net, &addresses()).unwrap();
        remove_in(&container.net, &addresses()).unwrap();
        ask_all(&mut early, 1);
        ask_all(&mut reach(), 1);

        container.ip("link del eth0");
        assert_eq!((container.net.interfaces().unwrap(), container.net.routes().unwrap()), before);
    }

    #[test]
    fn what_is_not_of_the_container_is_not_touched() {
        let container = Namespace::new();
        container.ip("addr add 172.30.0.9/32 dev lo\nroute add default dev lo metric 7");
        place_in(&container.net, &addresses()).unwrap();
        remove_in(&container.net, &addresses()).unwrap();
        let lo = &container.net.interfaces().unwrap()[0];
        assert!(lo.has("172.30.0.9".parse().unwrap()) && lo.has("127.0.0.1".parse().unwrap()));
        assert_eq!(container.net.routes().unwrap().len(), 1);
    }
}
