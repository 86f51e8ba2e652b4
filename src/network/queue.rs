//! The keeper of a hold's packets: one netfilter queue, one thread.
//!
//! The kernel keeps the packets, whole; the thread only hears of each by a short message without payload
//! (linux/netfilter/nfnetlink_queue.h). To let them go it gives one verdict for all of them, and the kernel puts them back
//! in the order they came. The verdict is *repeat*, not *accept*: each packet meets the raw table once more, so that rules of
//! the operator's or of Docker's own behind the hold's (which keep strangers from container addresses and from ports
//! published on loopback) are not skipped. It carries a [`pass_mark`], by which the hold's own rules let it by: so packets
//! go at once, and the rules are taken away afterwards, which takes as long as iptables takes.
//!
//! Messages that do not fit the socket's buffer, and packets beyond the bound, make the kernel drop the packet and count
//! it; the keeper itself never fails for that.

use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;
use std::time::Duration;

use netlink_packet_core::{DefaultNla, NetlinkPayload, Nla};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily, NetfilterSubsystem,
};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use super::error::{Error, Result};
use super::netlink::{Channel, Received};
use super::netns::read_kernel;
use super::poll::readable;

const SUBSYSTEM: NetfilterSubsystem = NetfilterSubsystem::Other(3);
const MSG_PACKET: u8 = 0;
const MSG_CONFIG: u8 = 2;
const MSG_VERDICT_BATCH: u8 = 3;

const CFG_CMD: u16 = 1;
const CFG_PARAMS: u16 = 2;
const CFG_QUEUE_MAXLEN: u16 = 3;
const CFG_MASK: u16 = 4;
const CFG_FLAGS: u16 = 5;
const CMD_BIND: u8 = 1;
const CMD_UNBIND: u8 = 2;
const COPY_META: u8 = 1;
/// Take packets that are to be segmented by hardware as they are; without it the kernel segments each first.
const FLAG_GSO: u32 = 1 << 2;

const PACKET_HDR: u16 = 1;
const VERDICT_HDR: u16 = 2;
const VERDICT_REPEAT: u32 = 4;
const MARK: u16 = 3;

/// On packets that are let go, with the number of the queue, for the rules that led them here; those clear it.
const PASS: u32 = 0x5453_0000;
/// [`PASS`] of any queue, as a mark and its mask.
pub(super) const ANY_PASS: &str = "0x54530000/0xffff0000";

/// The mark of packets that one queue has let go.
pub(super) fn pass_mark(queue: u16) -> u32 {
    PASS | u32::from(queue)
}

/// Orders to the thread.
const LET_PASS: u8 = 1;
const CLOSE: u8 = 2;

/// Room for messages that came in faster than the thread reads them: some 10,000.
const RECEIVE_BUFFER: usize = 8 << 20;
/// After the rules are gone and the queue is empty, a packet that met them just before may still be on its way into the
/// queue. Milliseconds without any are proof enough that there is none.
const LINGER: Duration = Duration::from_millis(5);

const QUEUES: &str = "/proc/thread-self/net/netfilter/nfnetlink_queue";

/// A queue with somebody listening, and how many packets it took.
pub(super) struct Keeper {
    pub queue: u16,
    /// Orders; closing it means end.
    control: PipeWriter,
    thread: JoinHandle<Result<Tally>>,
}

/// What went through a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Packets kept until the release.
    pub parked: u64,
    /// Packets the kernel dropped because the queue, or the socket, was full.
    pub dropped: u64,
}

impl Keeper {
    /// Opens the queue in the calling thread's network namespace and starts keeping what comes.
    ///
    /// # Errors
    /// [`Error::Netlink`], with `EBUSY` when somebody else has the queue.
    pub fn open(queue: u16, max_packets: u32) -> Result<Self> {
        let mut channel = Channel::open()?;
        let socket = channel.socket();
        socket.set_no_enobufs(true).map_err(Error::netlink("set up a queue's socket"))?;
        setsockopt(socket, RcvBufForce, &RECEIVE_BUFFER)
            .map_err(|error| Error::netlink("set the buffer of a queue's socket")(error.into()))?;
        let answers = channel.transact(0, [bind(queue, max_packets)])?;
        match answers[..] {
            [0] => {}
            _ => return Err(Error::netlink("bind a netfilter queue")(refusal(&answers))),
        }
        let (end, control) = io::pipe().map_err(Error::netlink("make a pipe"))?;
        let worker = Worker { queue, channel, end, last: None, kept: 0, order: None };
        let thread = std::thread::Builder::new()
            .name(format!("hold-{queue}"))
            .spawn(move || worker.keep())
            .map_err(Error::netlink("start a queue's thread"))?;
        Ok(Self { queue, control, thread })
    }

    /// Lets every packet go, in the order they came, and those that still come.
    ///
    /// # Errors
    /// [`Error::KeeperGone`] when the thread had ended before.
    pub fn let_pass(&mut self) -> Result<()> {
        self.control.write_all(&[LET_PASS]).map_err(|_| Error::KeeperGone { queue: self.queue })
    }

    /// Lets every packet go and closes the queue once it is empty. No rule leads to the queue any more.
    ///
    /// # Errors
    /// [`Error::KeeperGone`] when the thread had ended before.
    pub fn close(mut self) -> Result<Tally> {
        let gone = || Error::KeeperGone { queue: self.queue };
        // A thread that ended on an error says so when it is joined.
        let told = self.control.write_all(&[CLOSE]);
        let tally = self.thread.join().map_err(|_| gone())??;
        told.map_err(|_| gone())?;
        Ok(tally)
    }
}

fn refusal(answers: &[i32]) -> io::Error {
    io::Error::from_raw_os_error(answers.first().copied().unwrap_or(libc::EPROTO))
}

struct Worker {
    queue: u16,
    channel: Channel,
    end: PipeReader,
    /// The number of the latest packet; the kernel counts up.
    last: Option<u32>,
    kept: u64,
    order: Option<Order>,
}

/// What the thread was told to do with packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    LetPass,
    Close,
}

impl Worker {
    fn keep(mut self) -> Result<Tally> {
        let mut parked = 0;
        loop {
            let ready = self.wait().map_err(Error::netlink("wait for packets"))?;
            if ready.packets {
                self.listen()?;
            }
            if ready.control {
                let Some(order) = self.hear_order() else {
                    return Ok(Tally { parked: self.kept, dropped: 0 });
                };
                if self.order.is_none() {
                    parked = self.kept;
                    tracing::debug!(queue = self.queue, parked, "letting parked packets go");
                }
                self.order = Some(order);
            }
            if self.order.is_some() {
                self.let_go()?;
            }
            if self.order == Some(Order::Close) && !ready.packets && waiting_and_dropped(self.queue)?.0 == 0 {
                return self.unbind(parked);
            }
        }
    }

    /// Blocks until a packet or an order comes; once closing, no longer than [`LINGER`].
    fn wait(&self) -> io::Result<Ready> {
        // The last order was read; its end of the pipe is closed some time later, which is no news.
        if self.order == Some(Order::Close) {
            let [packets] = readable([self.channel.as_raw_fd()], Some(LINGER))?;
            return Ok(Ready { packets, control: false });
        }
        let [packets, control] = readable([self.channel.as_raw_fd(), self.end.as_raw_fd()], None)?;
        Ok(Ready { packets, control })
    }

    /// The order that was given; none where whoever gives orders is gone.
    fn hear_order(&mut self) -> Option<Order> {
        let mut order = [0];
        match io::Read::read(&mut self.end, &mut order) {
            Ok(1) if order[0] == LET_PASS => Some(Order::LetPass),
            Ok(1) => Some(Order::Close),
            _ => None,
        }
    }

    /// Takes note of everything that lies in the socket.
    fn listen(&mut self) -> Result<()> {
        loop {
            match self.channel.receive(libc::MSG_DONTWAIT) {
                Ok(messages) => messages.iter().filter_map(packet_number).for_each(|number| self.note(number)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Error::netlink("receive packets")(error)),
            }
        }
    }

    fn note(&mut self, number: u32) {
        self.last = Some(number);
        self.kept += 1;
    }

    /// One verdict for all packets up to the latest.
    fn let_go(&mut self) -> Result<()> {
        self.last.take().map_or(Ok(()), |last| {
            self.channel.tell(verdict(self.queue, last)).map_err(Error::netlink("let parked packets go"))
        })
    }

    /// Unbinding drops what is in the queue, so it comes last.
    fn unbind(mut self, parked: u64) -> Result<Tally> {
        let (_, dropped) = waiting_and_dropped(self.queue)?;
        let answers = self.channel.transact(0, [message(self.queue, MSG_CONFIG, vec![command(CMD_UNBIND)])])?;
        match answers[..] {
            [0] => Ok(Tally { parked, dropped }),
            _ => Err(Error::netlink("unbind a netfilter queue")(refusal(&answers))),
        }
    }
}

/// What there is to do; nothing means that the wait was long enough.
struct Ready {
    packets: bool,
    control: bool,
}

/// Binding and setting up in one message: the queue is never there without its bound and mode.
fn bind(queue: u16, max_packets: u32) -> NetfilterMessage {
    let attribute = |kind, value: u32| DefaultNla::new(kind, value.to_be_bytes().to_vec());
    // struct nfqnl_msg_config_params: how much of a packet to copy, and the mode.
    let copy = DefaultNla::new(CFG_PARAMS, vec![0, 0, 0, 0, COPY_META]);
    let attributes = vec![
        command(CMD_BIND),
        copy,
        attribute(CFG_QUEUE_MAXLEN, max_packets),
        attribute(CFG_FLAGS, FLAG_GSO),
        attribute(CFG_MASK, FLAG_GSO),
    ];
    message(queue, MSG_CONFIG, attributes)
}

/// struct nfqnl_msg_config_cmd: the command, padding, and a protocol family nobody uses any more.
fn command(command: u8) -> DefaultNla {
    DefaultNla::new(CFG_CMD, vec![command, 0, 0, 0])
}

fn verdict(queue: u16, last: u32) -> NetfilterMessage {
    let header = [VERDICT_REPEAT.to_be_bytes(), last.to_be_bytes()].concat();
    let mark = DefaultNla::new(MARK, pass_mark(queue).to_be_bytes().to_vec());
    message(queue, MSG_VERDICT_BATCH, vec![DefaultNla::new(VERDICT_HDR, header), mark])
}

fn message(queue: u16, message_type: u8, attributes: Vec<DefaultNla>) -> NetfilterMessage {
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, queue);
    NetfilterMessage::new(header, NetfilterMessageInner::Other { subsys: SUBSYSTEM, message_type, attributes })
}

fn packet_number(received: &Received) -> Option<u32> {
    let NetlinkPayload::InnerMessage(message) = &received.payload else {
        return None;
    };
    match &message.inner {
        NetfilterMessageInner::Other { subsys: SUBSYSTEM, message_type: MSG_PACKET, attributes } => {
            let header = attributes.iter().find(|attribute| attribute.kind() == PACKET_HDR)?;
            let mut bytes = vec![0; header.value_len()];
            header.emit_value(&mut bytes);
            Some(u32::from_be_bytes(bytes.first_chunk().copied()?))
        }
        _ => None,
    }
}

/// The queues of the calling thread's network namespace that somebody listens to.
pub(super) fn in_use() -> Result<Vec<u16>> {
    Ok(statistics()?.into_iter().map(|line| line[0] as u16).collect())
}

/// How many packets a queue holds, and how many it had to drop.
pub(super) fn waiting_and_dropped(queue: u16) -> Result<(u64, u64)> {
    let all = statistics()?;
    let line = all.iter().find(|line| line[0] == u64::from(queue));
    line.map(|line| (line[2], line[5] + line[6])).ok_or(Error::KeeperGone { queue })
}

/// Columns: number, port, packets waiting, copy mode, copy range, dropped by the queue, dropped at the socket, last number.
/// The file comes with its module, which the kernel loads when the first queue is bound (`nfnetlink_rcv_msg`,
/// net/netfilter/nfnetlink.c): without it there is no queue.
fn statistics() -> Result<Vec<[u64; 8]>> {
    let text = match read_kernel(QUEUES) {
        Err(Error::Kernel { source, .. }) if source.kind() == io::ErrorKind::NotFound => String::new(),
        other => other?,
    };
    text.lines()
        .map(|line| {
            let mut columns = line.split_whitespace().map(str::parse);
            let mut next = || columns.next()?.ok();
            let values: Option<Vec<u64>> = (0..8).map(|_| next()).collect();
            values
                .and_then(|values| values.try_into().ok())
                .ok_or_else(|| Error::malformed("the kernel's list of netfilter queues", line))
        })
        .collect()
}
