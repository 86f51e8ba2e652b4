//! Ethernet frames that say who has an address: ARP (RFC 826, announcements RFC 5227) and neighbour discovery (RFC 4861).
//! Pure: bytes in, bytes out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ARP_REQUEST: u8 = 1;
const ARP_REPLY: u8 = 2;
const ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// What is cached about the address is to be replaced.
const OVERRIDE: u8 = 0x20;
const SOLICITED: u8 = 0x40;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];

/// Frames that tell everybody on the segment that `address` is at `mac`. For IPv4 both forms of announcement are sent,
/// since each has receivers that heed only that one.
pub(super) fn announcements(address: IpAddr, mac: Mac) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(address) => {
            let arp = |operation, target| arp(operation, BROADCAST, (mac, address), (target, address));
            vec![arp(ARP_REQUEST, [0; 6]), arp(ARP_REPLY, BROADCAST)]
        }
        IpAddr::V6(address) => {
            let to = Peer { mac: ALL_NODES_MAC, address: ALL_NODES };
            vec![advertisement(address, mac, to, OVERRIDE)]
        }
    }
}

/// What another on the segment says or asks about an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// Somebody wants to know who has `address`; the frame answers with `mac`.
    Question { address: IpAddr, asker: Asker },
    /// Somebody announces to have it.
    Announcement { address: IpAddr, mac: Mac },
}

/// Whom to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asker {
    mac: Mac,
    address: IpAddr,
}

#[derive(Clone, Copy)]
struct Peer<T> {
    mac: Mac,
    address: T,
}

/// Reads a frame. A probe, by which somebody makes sure that nobody has the address it is about to take, is nothing heard:
/// it is the container itself on its way back.
pub(super) fn hear(frame: &[u8]) -> Option<Heard> {
    match frame.get(12..14)? {
        kind if kind == ETHERTYPE_ARP => hear_arp(frame),
        kind if kind == ETHERTYPE_IPV6 => hear_ipv6(frame),
        _ => None,
    }
}

/// The answer that `address` is at `mac`.
pub(super) fn answer(address: IpAddr, mac: Mac, asker: &Asker) -> Option<Vec<u8>> {
    match (address, asker.address) {
        (IpAddr::V4(address), IpAddr::V4(to)) => Some(arp(ARP_REPLY, asker.mac, (mac, address), (asker.mac, to))),
        (IpAddr::V6(address), IpAddr::V6(to)) => {
            Some(advertisement(address, mac, Peer { mac: asker.mac, address: to }, OVERRIDE | SOLICITED))
        }
        _ => None,
    }
}

fn arp(operation: u8, to: Mac, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    // Ethernet, IPv4, and the lengths of their addresses.
    let header = [0, 1, 8, 0, 6, 4, 0, operation];
    let mut frame = [&to[..], &sender.0, &ETHERTYPE_ARP, &header].concat();
    for (mac, address) in [sender, target] {
        frame.extend(mac);
        frame.extend(address.octets());
    }
    frame
}

fn hear_arp(frame: &[u8]) -> Option<Heard> {
    let operation = *frame.get(21)?;
    let mac: Mac = frame.get(22..28)?.try_into().ok()?;
    let sender = Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(28..32)?).ok()?);
    let target = Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(38..42)?).ok()?);
    if sender == target {
        Some(Heard::Announcement { address: sender.into(), mac })
    } else if operation == ARP_REQUEST && !sender.is_unspecified() {
        Some(Heard::Question { address: target.into(), asker: Asker { mac, address: sender.into() } })
    } else {
        None
    }
}

fn hear_ipv6(frame: &[u8]) -> Option<Heard> {
    let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(frame.get(at..at + 16)?).ok()?));
    let (source, kind, target) = (address(22)?, *frame.get(54)?, address(62)?);
    let mac: Mac = frame.get(6..12)?.try_into().ok()?;
    match kind {
        _ if *frame.get(20)? != ICMPV6 => None,
        NEIGHBOUR_SOLICITATION if !source.is_unspecified() => {
            Some(Heard::Question { address: target.into(), asker: Asker { mac, address: source.into() } })
        }
        NEIGHBOUR_ADVERTISEMENT if *frame.get(58)? & SOLICITED == 0 => {
            Some(Heard::Announcement { address: target.into(), mac })
        }
        _ => None,
    }
}

fn advertisement(address: Ipv6Addr, mac: Mac, to: Peer<Ipv6Addr>, flags: u8) -> Vec<u8> {
    // Type, code, checksum to come, flags, target, and the option that carries its hardware address.
    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    message.extend(address.octets());
    message.extend([2, 1]);
    message.extend(mac);
    let sum = checksum(address, to.address, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut frame = [&to.mac[..], &mac, &ETHERTYPE_IPV6].concat();
    // Version 6; length; next header; the hop limit that proves that no router passed it on.
    frame.extend([0x60, 0, 0, 0, 0, message.len() as u8, ICMPV6, 255]);
    frame.extend(address.octets());
    frame.extend(to.address.octets());
    frame.extend(message);
    frame
}

/// RFC 4443, section 2.3: over the addresses, the length, the protocol and the message.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let tail = [0, 0, 0, message.len() as u8, 0, 0, 0, ICMPV6];
    let bytes = [&source.octets()[..], &destination.octets(), &tail, message].concat();
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 7];

    #[test]
    fn announcements_are_heard_as_such() {
        for address in ["172.30.0.2", "fd30::2"].map(|text| text.parse::<IpAddr>().unwrap()) {
            for frame in announcements(address, MAC) {
                assert_eq!(hear(&frame), Some(Heard::Announcement { address, mac: MAC }));
            }
        }
    }

    #[test]
    fn a_probe_is_not_answered() {
        let (nobody, wanted) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(172, 30, 0, 2));
        assert_eq!(hear(&arp(ARP_REQUEST, BROADCAST, (MAC, nobody), ([0; 6], wanted))), None);
        let asker = Ipv4Addr::new(172, 30, 0, 3);
        let question = hear(&arp(ARP_REQUEST, BROADCAST, (MAC, asker), ([0; 6], wanted)));
        assert!(matches!(question, Some(Heard::Question { address, .. }) if address == wanted));
    }

    #[test]
    fn nothing_cut_short_is_heard_or_panics() {
        for address in ["172.30.0.2", "fd30::2"].map(|text| text.parse::<IpAddr>().unwrap()) {
            let frame = announcements(address, MAC).remove(0);
            let needed = if address.is_ipv4() { 42 } else { 78 };
            for length in 0..needed {
                assert_eq!(hear(&frame[..length]), None, "{length}");
            }
        }
    }

    #[test]
    fn the_checksum_of_an_advertisement_adds_up() {
        let IpAddr::V6(address) = "fd30::2".parse().unwrap() else { unreachable!() };
        let frame = advertisement(address, MAC, Peer { mac: ALL_NODES_MAC, address: ALL_NODES }, OVERRIDE);
        // Over a message that carries its checksum the sum is all ones.
        assert_eq!(checksum(address, ALL_NODES, &frame[54..]), 0);
    }
}
