//! Raw frames in and out of one interface (packet(7)).

use std::io;
use std::mem::{ManuallyDrop, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;

use super::error::{Error, Result};

/// Which frames a socket receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receive {
    Nothing,
    Arp,
    /// Neighbour discovery: solicitations and advertisements, of all multicast groups.
    NeighbourDiscovery,
}

/// A packet socket on one interface.
///
/// Its close is left to a thread: the kernel waits until no processor can be handing frames to it any more
/// (`packet_release`), some 15 ms in which a container would be kept from running.
pub(super) struct PacketSocket {
    fd: ManuallyDrop<OwnedFd>,
    interface: String,
}

impl Drop for PacketSocket {
    fn drop(&mut self) {
        // SAFETY: taken once, here, and nothing uses it afterwards.
        let fd = unsafe { ManuallyDrop::take(&mut self.fd) };
        // Without a thread it is closed here.
        let _ = std::thread::Builder::new().name("close-packet".into()).spawn(move || drop(fd));
    }
}

impl PacketSocket {
    /// Opens it in the calling thread's network namespace.
    pub fn open(interface: &str, index: u32, receive: Receive) -> Result<Self> {
        // Without a protocol nothing is received until it is bound to its interface and its filter stands.
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
        let failed = |doing| move |source| Error::Packet { doing, interface: interface.to_owned(), source };
        if fd < 0 {
            return Err(failed("open a packet socket")(io::Error::last_os_error()));
        }
        // SAFETY: the kernel just gave us this descriptor, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let socket = Self { fd: ManuallyDrop::new(fd), interface: interface.to_owned() };
        if receive == Receive::NeighbourDiscovery {
            socket.all_multicast(index).map_err(failed("receive multicast frames"))?;
            socket.filter(&mut neighbour_discovery()).map_err(failed("filter frames"))?;
        }
        socket.bind(index, receive).map_err(failed("bind a packet socket"))?;
        Ok(socket)
    }

    fn bind(&self, index: u32, receive: Receive) -> io::Result<()> {
        let protocol = match receive {
            Receive::Nothing => 0,
            Receive::Arp => libc::ETH_P_ARP,
            Receive::NeighbourDiscovery => libc::ETH_P_IPV6,
        };
        // SAFETY: all zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (protocol as u16).to_be();
        address.sll_ifindex = index as i32;
        // SAFETY: the address is a sockaddr_ll and its size is given.
        let result = unsafe {
            libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32)
        };
        check(result as isize).map(drop)
    }

    fn all_multicast(&self, index: u32) -> io::Result<()> {
        let request = libc::packet_mreq {
            mr_ifindex: index as i32,
            mr_type: libc::PACKET_MR_ALLMULTI as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
    }

    fn filter(&self, program: &mut [libc::sock_filter]) -> io::Result<()> {
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    fn set<T>(&self, level: i32, name: i32, value: &T) -> io::Result<()> {
        // SAFETY: the value is what this option takes, and its size is given.
        let result = unsafe {
            libc::setsockopt(self.fd.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), size_of::<T>() as u32)
        };
        check(result as isize).map(drop)
    }

    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: the frame is valid for its length.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        check(sent).map(drop).map_err(|source| self.failed("send a frame", source))
    }

    /// The next frame, cut to the buffer; none when there is none now.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>> {
        // SAFETY: the buffer is valid for its length.
        let length = unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        match check(length) {
            Ok(length) => Ok(Some(&buffer[..length])),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            // The interface is down for a while.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => Ok(None),
            Err(error) => Err(self.failed("receive frames", error)),
        }
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> Error {
        Error::Packet { doing, interface: self.interface.clone(), source }
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Lets through ICMPv6 of types 135 and 136 without extension headers, which these never have.
fn neighbour_discovery() -> [libc::sock_filter; 7] {
    // BPF_LD|B|ABS, BPF_JMP|JEQ|K, BPF_JMP|JGE|K and BPF_RET|K of linux/bpf_common.h.
    const LOAD_BYTE: u16 = 0x30;
    const EQUAL: u16 = 0x15;
    const AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    [
        step(LOAD_BYTE, 0, 0, 20),
        step(EQUAL, 0, 4, 58),
        step(LOAD_BYTE, 0, 0, 54),
        step(AT_LEAST, 0, 2, 135),
        step(AT_LEAST, 1, 0, 137),
        step(RETURN, 0, 0, u32::MAX),
        step(RETURN, 0, 0, 0),
    ]
}
