//! Entries as ctnetlink speaks of them (linux/netfilter/nfnetlink_conntrack.h).

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{DefaultNla, Emitable, Nla};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoInfo, ProtoInfoTCP, ProtoTuple, Status, TCPFlags,
    Tuple as WireTuple,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};

use super::{Entry, Protocol, TCP_BE_LIBERAL, TcpState, Tuple};

// Attributes the crate has no names for.
const CTA_NAT_SRC: u16 = 6;
const CTA_NAT_DST: u16 = 13;
const CTA_ZONE: u16 = 18;
const CTA_NAT_V4_MINIP: u16 = 1;
const CTA_NAT_V6_MINIP: u16 = 4;
const CTA_NAT_PROTO: u16 = 3;
const CTA_PROTONAT_PORT_MIN: u16 = 1;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const NLA_F_NESTED: u16 = 0x8000;
/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADERS: usize = 16 + 4;
/// `struct nlattr`.
const ATTRIBUTE_HEADER: usize = 4;

/// The question for the whole table. The kernel could be told to pass over the entries of others (`CTA_FILTER`), but from
/// 5.8, where that came, some kernels then pass over what was asked for, too: its filters for replies and for IPv6 were wrong.
pub(super) fn list() -> NetfilterMessage {
    message(NetfilterProtoFamily::Unspec, ConntrackMessage::Get(Vec::new()))
}

/// The request that creates an entry.
pub(super) fn create(entry: &Entry) -> NetfilterMessage {
    let mut attributes = vec![
        ConntrackAttribute::CtaTupleOrig(encode_tuple(entry.protocol, entry.original)),
        ConntrackAttribute::CtaTupleReply(encode_tuple(entry.protocol, entry.original.inverse())),
        ConntrackAttribute::CtaStatus(Status::from_bits_retain(entry.status_to_create())),
        ConntrackAttribute::CtaTimeout(entry.timeout_to_create()),
        ConntrackAttribute::CtaMark(entry.mark),
    ];
    attributes.extend(zone(entry));
    attributes.extend(entry.tcp.map(|tcp| ConntrackAttribute::CtaProtoInfo(encode_tcp(tcp))));
    attributes.extend(entry.source_nat().map(|to| nat(CTA_NAT_SRC, to)));
    attributes.extend(entry.destination_nat().map(|to| nat(CTA_NAT_DST, to)));
    message(family(entry.original), ConntrackMessage::New(attributes))
}

/// The request that deletes the entry to which packets of this tuple belong, in whichever direction.
pub(super) fn delete(entry: &Entry, tuple: Tuple) -> NetfilterMessage {
    let mut attributes = vec![ConntrackAttribute::CtaTupleOrig(encode_tuple(entry.protocol, tuple))];
    attributes.extend(zone(entry));
    message(family(tuple), ConntrackMessage::Delete(attributes))
}

fn message(family: NetfilterProtoFamily, content: ConntrackMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), content)
}

fn family(tuple: Tuple) -> NetfilterProtoFamily {
    if tuple.source.is_ipv4() { NetfilterProtoFamily::IPv4 } else { NetfilterProtoFamily::IPv6 }
}

fn zone(entry: &Entry) -> Option<ConntrackAttribute> {
    (entry.zone != 0).then(|| ConntrackAttribute::Other(DefaultNla::new(CTA_ZONE, entry.zone.to_be_bytes().to_vec())))
}

fn encode_tuple(protocol: Protocol, tuple: Tuple) -> Vec<WireTuple> {
    vec![
        WireTuple::Ip(vec![
            IPTuple::SourceAddress(tuple.source.ip()),
            IPTuple::DestinationAddress(tuple.destination.ip()),
        ]),
        WireTuple::Proto(vec![
            ProtoTuple::Protocol(protocol.number().into()),
            ProtoTuple::SourcePort(tuple.source.port()),
            ProtoTuple::DestinationPort(tuple.destination.port()),
        ]),
    ]
}

fn encode_tcp(tcp: TcpState) -> Vec<ProtoInfo> {
    let flags = |saved: u8| {
        let mut flags = no_flags();
        (flags.flags, flags.mask) = (saved | TCP_BE_LIBERAL, saved | TCP_BE_LIBERAL);
        flags
    };
    vec![ProtoInfo::TCP(vec![
        ProtoInfoTCP::State(tcp.state),
        ProtoInfoTCP::OriginalWindowScale(tcp.window_scale_original),
        ProtoInfoTCP::ReplyWindowScale(tcp.window_scale_reply),
        ProtoInfoTCP::OriginalFlags(flags(tcp.flags_original)),
        ProtoInfoTCP::ReplyFlags(flags(tcp.flags_reply)),
    ])]
}

/// The crate lets nobody else build one, but it can be read from two bytes.
fn no_flags() -> TCPFlags {
    TCPFlags::parse(&[0, 0]).expect("two bytes are a flags field")
}

/// A NAT mapping to exactly one address and port: a range of which only the lower end is given.
fn nat(kind: u16, to: SocketAddr) -> ConntrackAttribute {
    let (ip_kind, ip) = match to.ip() {
        IpAddr::V4(ip) => (CTA_NAT_V4_MINIP, ip.octets().to_vec()),
        IpAddr::V6(ip) => (CTA_NAT_V6_MINIP, ip.octets().to_vec()),
    };
    let port = DefaultNla::new(CTA_PROTONAT_PORT_MIN, to.port().to_be_bytes().to_vec());
    let range = [DefaultNla::new(ip_kind, ip), nested(CTA_NAT_PROTO, &[port])];
    ConntrackAttribute::Other(nested(kind, &range))
}

fn nested(kind: u16, content: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; content.buffer_len()];
    content.emit(&mut bytes);
    DefaultNla::new(kind | NLA_F_NESTED, bytes)
}

/// Whether an encoded entry has any of the addresses in either of its tuples. Of the many entries of a busy host few are worth
/// being decoded.
pub(super) fn has_any(addresses: &HashSet<IpAddr>, message: &[u8]) -> bool {
    let inside = |bytes, kinds: [u16; 2]| attributes(bytes).filter(move |(kind, _)| kinds.contains(kind));
    let tuples = inside(message.get(HEADERS..).unwrap_or_default(), [CTA_TUPLE_ORIG, CTA_TUPLE_REPLY]);
    let ips = tuples.flat_map(|(_, tuple)| inside(tuple, [CTA_TUPLE_IP; 2]));
    let mut found = ips.flat_map(|(_, ip)| attributes(ip)).filter_map(|(_, octets)| address(octets));
    found.any(|ip| addresses.contains(&ip))
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// Attributes and their contents, up to the first that is longer than what is left.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d] = *bytes.first_chunk()?;
        let (length, kind) = (usize::from(u16::from_ne_bytes([a, b])), u16::from_ne_bytes([c, d]));
        let content = bytes.get(ATTRIBUTE_HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & !NLA_F_NESTED, content))
    })
}

/// An entry of the table; none for a protocol without ports, and for what does not look like an entry.
pub(super) fn decode(message: &NetfilterMessage) -> Option<Entry> {
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = &message.inner else {
        return None;
    };
    let (mut original, mut reply, mut tcp) = (None, None, None);
    let (mut status, mut timeout, mut mark, mut zone) = (0, 0, 0, 0);
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(parts) => original = decode_tuple(parts),
            ConntrackAttribute::CtaTupleReply(parts) => reply = decode_tuple(parts),
            ConntrackAttribute::CtaStatus(bits) => status = bits.bits(),
            ConntrackAttribute::CtaTimeout(seconds) => timeout = *seconds,
            ConntrackAttribute::CtaMark(value) => mark = *value,
            ConntrackAttribute::CtaProtoInfo(parts) => tcp = decode_tcp(parts),
            ConntrackAttribute::Other(other) if other.kind() == CTA_ZONE => zone = decode_zone(other),
            _ => {}
        }
    }
    let ((protocol, original), (_, reply)) = (original?, reply?);
    Some(Entry { protocol, original, reply, status, timeout, mark, zone, tcp })
}

fn decode_zone(attribute: &DefaultNla) -> u16 {
    let mut bytes = [0; 2];
    if attribute.value_len() == bytes.len() {
        attribute.emit_value(&mut bytes);
    }
    u16::from_be_bytes(bytes)
}

fn decode_tuple(parts: &[WireTuple]) -> Option<(Protocol, Tuple)> {
    let (mut source, mut destination, mut protocol) = (None, None, None);
    let (mut source_port, mut destination_port) = (None, None);
    for part in parts {
        match part {
            WireTuple::Ip(parts) => {
                for part in parts {
                    match part {
                        IPTuple::SourceAddress(ip) => source = Some(*ip),
                        IPTuple::DestinationAddress(ip) => destination = Some(*ip),
                        _ => {}
                    }
                }
            }
            WireTuple::Proto(parts) => {
                for part in parts {
                    match part {
                        ProtoTuple::Protocol(number) => protocol = Protocol::from_number((*number).into()),
                        ProtoTuple::SourcePort(port) => source_port = Some(*port),
                        ProtoTuple::DestinationPort(port) => destination_port = Some(*port),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let tuple = Tuple {
        source: SocketAddr::new(source?, source_port?),
        destination: SocketAddr::new(destination?, destination_port?),
    };
    Some((protocol?, tuple))
}

fn decode_tcp(parts: &[ProtoInfo]) -> Option<TcpState> {
    let ProtoInfo::TCP(parts) = parts.first()? else {
        return None;
    };
    let mut tcp = TcpState::default();
    for part in parts {
        match part {
            ProtoInfoTCP::State(state) => tcp.state = *state,
            ProtoInfoTCP::OriginalWindowScale(scale) => tcp.window_scale_original = *scale,
            ProtoInfoTCP::ReplyWindowScale(scale) => tcp.window_scale_reply = *scale,
            ProtoInfoTCP::OriginalFlags(flags) => tcp.flags_original = flags.flags,
            ProtoInfoTCP::ReplyFlags(flags) => tcp.flags_reply = flags.flags,
            _ => {}
        }
    }
    Some(tcp)
}
