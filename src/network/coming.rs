//! The moment at which a network namespace has got its addresses.

use super::error::{Error, Result};
use super::netns::NetNs;
use super::poll;
use netlink_sys::{Socket, SocketAddr};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

/// `NETLINK_ROUTE` of linux/netlink.h.
const ROUTE: isize = 0;
/// `RTMGRP_IPV4_IFADDR` of linux/rtnetlink.h: every address that comes or goes.
const IPV4_ADDRESSES: u32 = 0x10;
/// `RTM_NEWADDR` of linux/rtnetlink.h.
const NEW_ADDRESS: u16 = 20;
/// `IFA_LOCAL` of linux/if_addr.h.
const LOCAL: u16 = 2;
/// The kernel gives the loopback interface of each namespace this index.
const LOOPBACK: u32 = 1;
/// Larger than any message about one address.
const DATAGRAM: usize = 8192;

/// IPv4 addresses that are to come to a namespace's interfaces, other than `lo`.
#[derive(Debug)]
pub struct Coming {
    socket: Socket,
    missing: BTreeSet<Ipv4Addr>,
}

impl Coming {
    /// From now on addresses that come to the namespace are noticed.
    ///
    /// # Errors
    /// [`Error::EnterNamespace`], [`Error::Netlink`].
    pub fn watch(netns: &NetNs, addresses: impl IntoIterator<Item = Ipv4Addr>) -> Result<Self> {
        let socket = netns.run(|| {
            let mut socket = Socket::new(ROUTE).map_err(Error::netlink("open a socket for addresses"))?;
            socket.bind(&SocketAddr::new(0, IPV4_ADDRESSES)).map_err(Error::netlink("ask for addresses"))?;
            Ok(socket)
        })?;
        Ok(Self { socket, missing: addresses.into_iter().collect() })
    }

    /// Returns when all have come, or when the other end of `given_up` is closed; and whether they have.
    ///
    /// # Errors
    /// [`Error::Netlink`]; what was noticed meanwhile is lost.
    pub fn wait(mut self, given_up: &OwnedFd) -> Result<bool> {
        let failed = || Error::netlink("hear of addresses");
        let mut buffer = [0; DATAGRAM];
        while !self.missing.is_empty() {
            let fds = [self.socket.as_raw_fd(), given_up.as_raw_fd()];
            let [heard, is_given_up] = poll::readable(fds, None).map_err(failed())?;
            if is_given_up {
                return Ok(false);
            }
            if heard {
                let length = self.socket.recv(&mut &mut buffer[..], 0).map_err(failed())?;
                let come = new_addresses(&buffer[..length]);
                self.missing.retain(|address| !come.contains(address));
            }
        }
        Ok(true)
    }
}

/// The addresses that a datagram of the kernel's says have come.
fn new_addresses(mut datagram: &[u8]) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    // struct nlmsghdr: length, type, and ten bytes that are not needed.
    while let Some((length, kind)) = u32_at(datagram, 0).zip(u16_at(datagram, 4)) {
        let length = (length as usize).max(16);
        let Some(message) = datagram.get(16..length) else { break };
        if kind == NEW_ADDRESS && u32_at(message, 4) != Some(LOOPBACK) {
            found.extend(local_address(message.get(8..).unwrap_or_default()));
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// Of the attributes behind struct ifaddrmsg, the interface's own address.
fn local_address(mut attributes: &[u8]) -> Option<Ipv4Addr> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?).max(4);
        if u16_at(attributes, 2)? == LOCAL {
            return <[u8; 4]>::try_from(attributes.get(4..length)?).ok().map(Ipv4Addr::from);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::lab::{Namespace, veth};
    use super::*;

    #[test]
    fn addresses_are_noticed_as_they_come_and_those_of_lo_do_not_count() {
        let (one, other) = (Namespace::new(), Namespace::new());
        let wanted = ["10.9.0.2", "10.9.1.2"].map(|address| address.parse::<Ipv4Addr>().unwrap());
        let coming = Coming::watch(&one.net, wanted).unwrap();
        let (given_up, keeps_on) = std::io::pipe().unwrap();
        let waiting = std::thread::spawn(move || coming.wait(&given_up.into()));
        one.ip("addr add 10.9.0.2/32 dev lo");
        veth(&one, "a0", &["10.9.1.2/24"], &other, "b0", &[]);
        assert!(!waiting.is_finished(), "the first one is on lo only");
        one.ip("addr add 10.9.0.2/24 dev a0");
        assert!(waiting.join().unwrap().unwrap());
        drop(keeps_on);
    }

    #[test]
    fn nobody_waits_on_when_it_is_given_up() {
        let one = Namespace::new();
        let coming = Coming::watch(&one.net, ["10.9.0.2".parse().unwrap()]).unwrap();
        let (given_up, keeps_on) = std::io::pipe().unwrap();
        drop(keeps_on);
        assert!(!coming.wait(&given_up.into()).unwrap());
    }

    #[test]
    fn what_is_cut_off_or_lies_about_its_length_ends_the_reading() {
        let attribute =
            |kind: u16, address: [u8; 4]| [&8_u16.to_ne_bytes()[..], &kind.to_ne_bytes(), &address].concat();
        let body =
            [&[2, 24, 0, 0][..], &7_u32.to_ne_bytes(), &attribute(1, [10, 0, 0, 1]), &attribute(2, [10, 0, 0, 2])];
        let body = body.concat();
        let length = u32::try_from(16 + body.len()).unwrap();
        let whole = [&length.to_ne_bytes()[..], &NEW_ADDRESS.to_ne_bytes(), &[0; 10], &body].concat();
        assert_eq!(new_addresses(&whole), [Ipv4Addr::new(10, 0, 0, 2)]);
        for end in 0..whole.len() {
            assert!(new_addresses(&whole[..end]).is_empty());
        }
        assert!(new_addresses(&[0; 64]).is_empty());
    }
}
