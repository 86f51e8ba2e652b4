//! Neighbours of the container on its own bridge: they speak to it without the host's help, by hardware address.
//!
//! While the container is away a [`StandIn`] tells them that its addresses are at the bridge itself, so that their packets
//! come to the host and wait in the hold like all others; without it they get "no route to host" after three seconds. When
//! the container is back, [`announce`] tells them where it is now.
//!
//! The kernel's own proxy entries (`ip neigh add proxy`) do not do here: for IPv4 it answers by them only when the route to
//! the address leads out of another interface than the question came in by (`arp_process`), and on a bridge it never does.
//! `proxy_arp_pvlan` would answer, but for every address on the bridge. So the stand-in answers by itself through a packet
//! socket. It needs no setting changed, and a crash leaves nothing behind (I5).

use std::collections::BTreeMap;
use std::io::{self, PipeReader, PipeWriter};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;

use serde::Deserialize;

use super::command;
use super::error::{Error, Result};
use super::frames::{self, Heard, Mac};
use super::netns::{self, Interface, NetNs};
use super::packet::{PacketSocket, Receive};
use super::poll::readable;

/// Answers for a container's addresses on its bridges, until dropped.
///
/// To begin once the container's namespace is silent or gone, else both answer. It yields an address as soon as somebody
/// announces to have it: the container, back again.
#[must_use = "the stand-in ends when dropped"]
pub struct StandIn {
    ends: Vec<PipeWriter>,
    threads: Vec<JoinHandle<()>>,
}

impl StandIn {
    /// Takes the addresses over on whatever bridges of the calling thread's network namespace lead to them, and tells the
    /// neighbours. Addresses that no bridge leads to are left alone.
    ///
    /// # Errors
    /// Those of `ip` and of packet sockets.
    pub fn take_over(addresses: &[IpAddr]) -> Result<Self> {
        let mut stand_in = Self { ends: Vec::new(), threads: Vec::new() };
        for (bridge, addresses) in bridges(addresses)? {
            let (end, writer) = io::pipe().map_err(Error::netlink("make a pipe"))?;
            let worker = Worker::on(&bridge, addresses, end)?;
            worker.claim()?;
            let thread = std::thread::Builder::new()
                .name(format!("arp-{}", bridge.name))
                .spawn(move || worker.answer_until_told())
                .map_err(Error::netlink("start a thread"))?;
            stand_in.ends.push(writer);
            stand_in.threads.push(thread);
        }
        Ok(stand_in)
    }

    /// On how many bridges it stands in.
    pub fn bridges(&self) -> usize {
        self.threads.len()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.ends.clear();
        for thread in self.threads.drain(..) {
            // It panicked, or it did not; there is nothing left of it either way.
            let _ = thread.join();
        }
    }
}

/// Tells the neighbours of a container where its addresses are, from inside its network namespace: by gratuitous ARP, and
/// unsolicited neighbour advertisements. To be done when the container's interfaces are up and before its hold is released,
/// since the host learns from it too. Returns the addresses announced; those on interfaces without a hardware address (`lo`)
/// are skipped.
///
/// # Errors
/// [`Error::NoSuchAddress`] when no interface has one of the addresses; those of packet sockets.
pub fn announce(namespace: &NetNs, addresses: &[IpAddr]) -> Result<usize> {
    namespace.run(|| {
        let interfaces = netns::interfaces()?;
        let mut announced = 0;
        for address in addresses {
            let mut with_it = interfaces.iter().filter(|interface| interface.has(*address)).peekable();
            with_it.peek().ok_or(Error::NoSuchAddress { address: *address })?;
            for interface in with_it {
                announced += usize::from(announce_on(interface, *address)?);
            }
        }
        Ok(announced)
    })
}

fn announce_on(interface: &Interface, address: IpAddr) -> Result<bool> {
    let Some(mac) = interface.mac else {
        return Ok(false);
    };
    let socket = PacketSocket::open(&interface.name, interface.index, Receive::Nothing)?;
    frames::announcements(address, mac).iter().try_for_each(|frame| socket.send(frame))?;
    Ok(true)
}

struct Worker {
    arp: PacketSocket,
    discovery: PacketSocket,
    mac: Mac,
    addresses: Vec<IpAddr>,
    end: PipeReader,
}

impl Worker {
    fn on(bridge: &Interface, addresses: Vec<IpAddr>, end: PipeReader) -> Result<Self> {
        let mac = bridge.mac.ok_or_else(|| Error::NoSuchInterface { name: bridge.name.clone() })?;
        let open = |receive| PacketSocket::open(&bridge.name, bridge.index, receive);
        let v6 = addresses.iter().any(IpAddr::is_ipv6);
        let discovery = open(if v6 { Receive::NeighbourDiscovery } else { Receive::Nothing })?;
        Ok(Self { arp: open(Receive::Arp)?, discovery, mac, addresses, end })
    }

    /// Neighbours who know the container's hardware address would go on sending there, to nobody.
    fn claim(&self) -> Result<()> {
        let frames = self.addresses.iter().flat_map(|address| frames::announcements(*address, self.mac));
        frames.into_iter().try_for_each(|frame| self.arp.send(&frame))
    }

    fn answer_until_told(mut self) {
        loop {
            let fds = [self.arp.as_raw_fd(), self.discovery.as_raw_fd(), self.end.as_raw_fd()];
            let done = match readable(fds, None) {
                Ok([_, _, true]) => return,
                Ok([arp, discovery, _]) => self.hear_all(arp, discovery),
                Err(error) => Err(Error::netlink("wait for frames")(error)),
            };
            if let Err(error) = done {
                // Its neighbours will ask again, and the container itself is not harmed.
                tracing::warn!(error = &error as &dyn std::error::Error, "standing in for a container");
            }
        }
    }

    /// One frame of each; what else there is, poll reports again.
    fn hear_all(&mut self, arp: bool, discovery: bool) -> Result<()> {
        let mut buffer = [0; 256];
        let mut hear = |ready: bool, socket: &PacketSocket| match ready {
            true => Ok(socket.receive(&mut buffer)?.and_then(frames::hear)),
            false => Ok(None),
        };
        let heard = [hear(arp, &self.arp)?, hear(discovery, &self.discovery)?];
        heard.into_iter().flatten().try_for_each(|heard| self.heard(heard))
    }

    fn heard(&mut self, heard: Heard) -> Result<()> {
        match heard {
            Heard::Question { address, asker } if self.addresses.contains(&address) => {
                frames::answer(address, self.mac, &asker).map_or(Ok(()), |frame| self.arp.send(&frame))
            }
            Heard::Announcement { address, mac } if mac != self.mac => {
                self.addresses.retain(|own| *own != address);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The bridges that lead to the addresses, with what each leads to.
fn bridges(addresses: &[IpAddr]) -> Result<Vec<(Interface, Vec<IpAddr>)>> {
    let names = bridge_names()?;
    let mut by_name: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for address in addresses {
        if let Some(name) = interface_towards(*address)?.filter(|name| names.contains(name)) {
            by_name.entry(name).or_default().push(*address);
        }
    }
    let interfaces = netns::interfaces()?;
    let found = interfaces.into_iter().filter_map(|bridge| by_name.remove(&bridge.name).map(|own| (bridge, own)));
    Ok(found.collect())
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "ifname", alias = "dev")]
    name: String,
}

fn bridge_names() -> Result<Vec<String>> {
    let text = command::run("ip", &["-j", "link", "show", "type", "bridge"], "")?;
    let bridges: Vec<Named> = netns::parse("the bridges shown by ip", &text)?;
    Ok(bridges.into_iter().map(|bridge| bridge.name).collect())
}

/// The interface by which the host reaches an address; none when it does not.
fn interface_towards(address: IpAddr) -> Result<Option<String>> {
    match command::run("ip", &["-j", "route", "get", &address.to_string()], "") {
        Ok(text) => {
            let routes: Vec<Named> = netns::parse("a route shown by ip", &text)?;
            Ok(routes.into_iter().next().map(|route| route.name))
        }
        Err(Error::Command { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    use super::super::hold::{Bounds, Hold};
    use super::super::lab::{Namespace, Segment, connect, echo_server, resolve, veth};
    use super::super::spec::HoldSpec;
    use super::*;

    fn addresses() -> Vec<IpAddr> {
        ["172.30.0.2", "fd30::2"].map(|address| address.parse().unwrap()).to_vec()
    }

    /// Takes the container away, as when Docker removes it, and brings it back elsewhere: another interface, another
    /// hardware address.
    fn away(segment: &Segment) {
        segment.host.ip("link del veth2");
    }

    fn back(segment: &Segment) -> Namespace {
        let container = Namespace::new();
        veth(&segment.host, "veth9", &[], &container, "eth0", &["172.30.0.2/24", "fd30::2/64"]);
        segment.host.ip("link set veth9 master br0");
        container.ip("route add default via 172.30.0.1\nroute add default via fd30::1");
        container
    }

    fn known(namespace: &Namespace, address: &str) -> String {
        namespace.shell(&format!("ip neigh show {address}"))
    }

    /// A neighbour on the bridge waits like everybody else, whether it knew the container's hardware address or not.
    #[test]
    fn neighbours_wait_in_the_hold_and_find_the_container_again() {
        let segment = Segment::new();
        for address in ["172.30.0.2:7000", "[fd30::2]:7000"] {
            echo_server(&segment.container, address);
            connect(&segment.neighbour, address);
        }
        away(&segment);
        let spec = HoldSpec { addresses: addresses(), ..HoldSpec::default() };
        let mut hold = segment.host.run(|| Hold::place_all(spec, Bounds::default()));
        let stand_in = segment.host.run(|| StandIn::take_over(&addresses()));
        assert_eq!(stand_in.bridges(), 1);

        std::thread::scope(|scope| {
            let neighbour = &segment.neighbour;
            // The one it knows, and one that it has to ask for.
            neighbour.shell("ip neigh flush fd30::2");
            let connecting = ["172.30.0.2:7000", "[fd30::2]:7000"].map(|to| {
                scope.spawn(move || {
                    let start = Instant::now();
                    connect(neighbour, to);
                    start.elapsed()
                })
            });
            while segment.host.run(|| hold.waiting()) < 2 {
                std::thread::yield_now();
            }
            let again = back(&segment);
            let listeners = ["172.30.0.2:7000", "[fd30::2]:7000"]
                .map(|address| again.run(|| Ok(TcpListener::bind(address).unwrap())));
            assert_eq!(announce(&again.net, &addresses()).unwrap(), 2);
            drop(stand_in);
            let released = Instant::now();
            segment.host.run(|| hold.release());
            let waits = connecting.map(|connecting| connecting.join().unwrap());
            println!("waited {waits:?}, {:?} after the release", released.elapsed());
            assert!(released.elapsed() < Duration::from_millis(500), "{waits:?}");
            drop(listeners);
        });
    }

    /// Without the stand-in: what it is good for.
    #[test]
    fn an_announcement_moves_neighbours_and_host_to_the_new_hardware_address() {
        let segment = Segment::new();
        echo_server(&segment.container, "172.30.0.2:7000");
        connect(&segment.neighbour, "172.30.0.2:7000");
        connect(&segment.host, "172.30.0.2:7000");
        let before = known(&segment.neighbour, "172.30.0.2");
        away(&segment);
        let again = back(&segment);
        let mac = again.net.interfaces().unwrap().iter().find_map(|interface| {
            interface.has(addresses()[0]).then(|| interface.mac.unwrap().map(|byte| format!("{byte:02x}")).join(":"))
        });
        announce(&again.net, &addresses()).unwrap();
        let mac = mac.unwrap();
        assert!(!before.contains(&mac), "{before}");
        for namespace in [&segment.neighbour, &segment.host] {
            let start = Instant::now();
            while !known(namespace, "172.30.0.2").contains(&mac) {
                assert!(start.elapsed() < Duration::from_secs(5), "{}", known(namespace, "172.30.0.2"));
            }
        }
    }

    /// I7: nobody else's address is answered for; and once the container is back the stand-in keeps quiet.
    #[test]
    fn i7_it_stands_in_for_nobody_else_and_yields() {
        let segment = Segment::new();
        away(&segment);
        let _stand_in = segment.host.run(|| StandIn::take_over(&addresses()));
        for address in ["172.30.0.2", "fd30::2"] {
            assert!(resolve(&segment.neighbour, address).contains("lladdr"));
        }
        for address in ["172.30.0.77", "fd30::77"] {
            assert!(resolve(&segment.neighbour, address).contains("FAILED"));
        }
        let again = back(&segment);
        announce(&again.net, &addresses()).unwrap();
        segment.neighbour.shell("ip neigh flush 172.30.0.2");
        echo_server(&again, "172.30.0.2:7000");
        connect(&segment.neighbour, "172.30.0.2:7000");
    }
}
