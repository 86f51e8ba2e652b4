//! Requests to netfilter over netlink: many in one datagram, each with its own answer.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use netlink_sys::{Socket, SocketAddr};

use super::error::{Error, Result};

/// `NETLINK_NETFILTER` of linux/netlink.h.
const NETFILTER: isize = 12;
/// `NFNL_SUBSYS_NFTABLES` of linux/netfilter/nfnetlink.h.
const NFTABLES: u16 = 10;
/// Smaller message types are netlink's own (linux/netlink.h).
const NLMSG_MIN_TYPE: u16 = 0x10;
/// The kernel never answers in larger datagrams.
const DATAGRAM: usize = 65_536;
/// So many requests go in one datagram: their answers must fit the socket's default receive buffer all at once.
const BATCH: usize = 64;

/// What came back for one message of a batch, or unasked.
pub(super) type Received = NetlinkMessage<NetfilterMessage>;

/// A netfilter netlink socket in the namespace of the thread that opened it.
pub(super) struct Channel {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Channel {
    pub fn open() -> Result<Self> {
        let mut socket = Socket::new(NETFILTER).map_err(Error::netlink("open a netfilter socket"))?;
        socket.bind_auto().map_err(Error::netlink("bind a netfilter socket"))?;
        // Answers need not repeat the question.
        socket.set_cap_ack(true).map_err(Error::netlink("set up a netfilter socket"))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; DATAGRAM] })
    }

    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Asks for a whole table and hands over those of its parts whose bytes are wanted, as they come.
    pub fn dump(
        &mut self,
        question: NetfilterMessage,
        is_wanted: impl Fn(&[u8]) -> bool,
        mut each: impl FnMut(NetfilterMessage),
    ) -> Result<()> {
        self.sequence += 1;
        let bytes = encode(question, NLM_F_REQUEST | NLM_F_DUMP, self.sequence);
        self.send(&bytes).map_err(Error::netlink("ask for a table"))?;
        let mut done = false;
        while !done {
            let length = self.receive_datagram(0).map_err(Error::netlink("receive a table"))?;
            let answers = decode(&self.buffer[..length], |kind, message| kind < NLMSG_MIN_TYPE || is_wanted(message));
            for answer in answers.map_err(Error::netlink("receive a table"))? {
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => each(message),
                    NetlinkPayload::Done(_) => done = true,
                    NetlinkPayload::Error(error) => {
                        return Err(error.to_io()).map_err(Error::netlink("receive a table"));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Sends every request and returns, in their order, the error number each was answered with, 0 for success.
    pub fn transact(&mut self, flags: u16, requests: impl IntoIterator<Item = NetfilterMessage>) -> Result<Vec<i32>> {
        let mut answers = Vec::new();
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            let (mut datagram, first) = (Vec::new(), self.sequence + 1);
            for request in requests.by_ref().take(BATCH) {
                self.sequence += 1;
                datagram.extend(encode(request, flags | NLM_F_REQUEST | NLM_F_ACK, self.sequence));
            }
            self.send(&datagram).map_err(Error::netlink("send requests"))?;
            self.collect(first, &mut answers)?;
        }
        Ok(answers)
    }

    /// Sends changes to nftables as one transaction, which the kernel takes whole or not at all.
    pub fn transact_nftables(&mut self, changes: Vec<NetfilterMessage>) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let first = self.sequence + 1;
        let mut datagram = Vec::new();
        let frame =
            |content| NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, NFTABLES), content);
        let mut put = |message, flags| {
            self.sequence += 1;
            datagram.extend(encode(message, flags | NLM_F_REQUEST, self.sequence));
        };
        // An error of the frame itself comes unasked; asked to acknowledge it, older kernels fail.
        put(frame(ControlMessage::BatchBegin), 0);
        changes.into_iter().for_each(|change| put(change, NLM_F_ACK));
        put(frame(ControlMessage::BatchEnd), 0);
        self.send(&datagram).map_err(Error::netlink("send changes to nftables"))?;
        self.await_changes(first).map_err(Error::netlink("change nftables"))
    }

    /// Success of all requests between the two ends of a transaction, or the first error.
    fn await_changes(&mut self, first: u32) -> io::Result<()> {
        let mut missing = self.sequence - first - 1;
        while missing > 0 {
            for answer in self.receive(0)? {
                match answer.payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    NetlinkPayload::Error(_) => missing -= 1,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Waits for the answers to the requests from `first` to the last one sent.
    fn collect(&mut self, first: u32, answers: &mut Vec<i32>) -> Result<()> {
        let (start, last) = (answers.len(), self.sequence);
        answers.resize(start + (last - first + 1) as usize, 0);
        let mut missing = last - first + 1;
        while missing > 0 {
            for answer in self.receive(0).map_err(Error::netlink("receive answers"))? {
                let number = answer.header.sequence_number;
                if let (NetlinkPayload::Error(error), true) = (answer.payload, (first..=last).contains(&number)) {
                    answers[start + (number - first) as usize] = error.code.map_or(0, |code| code.get().abs());
                    missing -= 1;
                }
            }
        }
        Ok(())
    }

    /// Sends one request without asking for an answer.
    pub fn tell(&mut self, request: NetfilterMessage) -> io::Result<()> {
        self.sequence += 1;
        let bytes = encode(request, NLM_F_REQUEST, self.sequence);
        self.send(&bytes)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0).map(drop)
    }

    /// The messages of one datagram; `flags` are those of recv(2).
    pub fn receive(&mut self, flags: i32) -> io::Result<Vec<Received>> {
        let length = self.receive_datagram(flags)?;
        decode(&self.buffer[..length], |_, _| true)
    }

    fn receive_datagram(&mut self, flags: i32) -> io::Result<usize> {
        loop {
            match self.socket.recv(&mut &mut self.buffer[..], flags) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn encode(message: NetfilterMessage, flags: u16, sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    // Each message of a datagram starts at a multiple of four.
    let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
    message.serialize(&mut bytes);
    bytes
}

/// The messages of a datagram that are wanted, by their type and bytes.
fn decode(mut bytes: &[u8], is_wanted: impl Fn(u16, &[u8]) -> bool) -> io::Result<Vec<Received>> {
    let bad = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let message = NetlinkBuffer::new_checked(bytes).map_err(bad)?;
        let (length, kind) = (message.length() as usize, message.message_type());
        if is_wanted(kind, &bytes[..length]) {
            messages.push(NetlinkMessage::deserialize(&bytes[..length]).map_err(bad)?);
        }
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    Ok(messages)
}
