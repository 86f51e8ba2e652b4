//! The kernel's userfaultfd: one address space whose missing pages are asked of this process.
//!
//! CRIU makes it and registers the memory; here are the calls that follow. Source: `linux/userfaultfd.h`,
//! ioctl_userfaultfd(2), userfaultfd(2).

use nix::errno::Errno;
use nix::libc;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

#[repr(C)]
struct Copy {
    to: u64,
    from: u64,
    length: u64,
    mode: u64,
    copied: i64,
}

#[repr(C)]
struct Zero {
    to: u64,
    length: u64,
    mode: u64,
    done: i64,
}

#[repr(C)]
struct Area {
    start: u64,
    length: u64,
}

/// One message of the kernel's; what the last three numbers mean depends on the event.
#[repr(C)]
#[derive(Default)]
struct Message {
    event: u8,
    reserved: [u8; 7],
    numbers: [u64; 3],
}

mod ioctl {
    nix::ioctl_read!(unregister, 0xAA, 0x01, super::Area);
    nix::ioctl_readwrite!(copy, 0xAA, 0x03, super::Copy);
    nix::ioctl_readwrite!(zero, 0xAA, 0x04, super::Zero);
}

const PAGE_FAULT: u8 = 0x12;
const FORK: u8 = 0x13;
const REMAP: u8 = 0x14;
const REMOVE: u8 = 0x15;
const UNMAP: u8 = 0x16;

/// What has happened in the address space. All but a fault wait until they are read.
#[derive(Debug)]
pub enum Event {
    /// Somebody waits for the page at this address.
    Fault(u64),
    /// There is another address space, with the same pages missing.
    Fork(Uffd),
    /// Pages are elsewhere now.
    Moved { from: u64, to: u64, length: u64 },
    /// Pages were given up; the addresses can be used, and are empty (madvise(2)).
    Removed { start: u64, end: u64 },
    /// Pages were given up, with their addresses.
    Unmapped { start: u64, end: u64 },
}

/// What came of putting pages in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placed {
    /// So many bytes are there.
    Bytes(u64),
    /// The address space is being changed: its events come first.
    Again,
    /// The first page is there already.
    There,
    /// The range is not, or not as one, memory that pages are asked for.
    Nowhere,
    /// The address space is gone.
    Gone,
}

/// An address space; nobody is waited for any more when it is dropped, and what is missing by then is empty.
#[derive(Debug)]
pub struct Uffd(OwnedFd);

impl Uffd {
    /// What CRIU, or a fork, has given.
    pub fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// Puts pages in place and wakes who waits for them. `to` and the length are whole pages.
    pub fn copy(&self, to: u64, pages: &[u8]) -> io::Result<Placed> {
        let mut copy = Copy { to, from: pages.as_ptr() as u64, length: pages.len() as u64, mode: 0, copied: 0 };
        // SAFETY: the kernel reads `length` bytes at `from`, which `pages` holds, and writes to `copied` alone here; `to`
        // is an address of the other process, in which it changes nothing but pages that are missing.
        let done = unsafe { ioctl::copy(self.0.as_raw_fd(), &raw mut copy) };
        placed(done, copy.copied, pages.len() as u64)
    }

    /// Puts an empty page in place.
    pub fn zero(&self, to: u64, length: u64) -> io::Result<Placed> {
        let mut zero = Zero { to, length, mode: 0, done: 0 };
        // SAFETY: the kernel writes to `done` alone here, and in the other process only to a page that is missing.
        let done = unsafe { ioctl::zero(self.0.as_raw_fd(), &raw mut zero) };
        placed(done, zero.done, length)
    }

    /// Pages of this range are not asked for any more: they are empty.
    pub fn let_go(&self, start: u64, end: u64) {
        let mut area = Area { start, length: end - start };
        // SAFETY: the kernel reads the two numbers.
        if let Err(error) = unsafe { ioctl::unregister(self.0.as_raw_fd(), &raw mut area) } {
            // Its pages are asked for on, one by one, and each is told to be empty.
            tracing::debug!(%error, "a range is not let go");
        }
    }

    /// The next event; none where nothing has happened.
    pub fn event(&self) -> io::Result<Option<Event>> {
        let mut message = Message::default();
        let size = size_of::<Message>();
        // SAFETY: `message` is plain numbers, and has room for `size` bytes.
        let read = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut message).cast(), size) };
        match usize::try_from(read) {
            Ok(length) if length == size => self.understand(&message).map(Some),
            Ok(0) => Ok(None),
            Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel has told half an event")),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                error => Err(error),
            },
        }
    }

    fn understand(&self, message: &Message) -> io::Result<Event> {
        let [first, second, third] = message.numbers;
        Ok(match message.event {
            // Flags come first.
            PAGE_FAULT => Event::Fault(second),
            FORK => {
                let descriptor = RawFd::try_from(first & 0xffff_ffff).map_err(io::Error::other)?;
                // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
                Event::Fork(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
            }
            REMAP => Event::Moved { from: first, to: second, length: third },
            REMOVE => Event::Removed { start: first, end: second },
            UNMAP => Event::Unmapped { start: first, end: second },
            other => return Err(io::Error::other(format!("the kernel tells of an event {other:#x}"))),
        })
    }
}

impl AsFd for Uffd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A call that did some of it fails with EAGAIN, and says how much.
fn placed(done: nix::Result<i32>, bytes: i64, length: u64) -> io::Result<Placed> {
    match (done, u64::try_from(bytes)) {
        (Ok(_), _) => Ok(Placed::Bytes(length)),
        (Err(Errno::EAGAIN), Ok(bytes)) if bytes > 0 => Ok(Placed::Bytes(bytes)),
        // Memory that is short now is there later; until then whoever waits has to.
        (Err(Errno::EAGAIN | Errno::ENOMEM), _) => Ok(Placed::Again),
        (Err(Errno::EEXIST), _) => Ok(Placed::There),
        (Err(Errno::ENOENT), _) => Ok(Placed::Nowhere),
        // ENOSPC until Linux 4.13.
        (Err(Errno::ESRCH | Errno::ENOSPC), _) => Ok(Placed::Gone),
        (Err(error), _) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous};
    use std::num::NonZeroUsize;
    use std::ptr::NonNull;

    const PAGE: usize = 4096;

    #[repr(C)]
    struct Api {
        version: u64,
        features: u64,
        ioctls: u64,
    }

    #[repr(C)]
    struct Register {
        area: Area,
        mode: u64,
        ioctls: u64,
    }

    mod ioctl {
        nix::ioctl_readwrite!(api, 0xAA, 0x3F, super::Api);
        nix::ioctl_readwrite!(register, 0xAA, 0x00, super::Register);
    }

    /// Memory of this process whose pages are missing, as CRIU registers it.
    pub fn missing(pages: usize) -> (Uffd, NonNull<libc::c_void>) {
        // SAFETY: a system call with one number; the features and the range are plain numbers; the mapping is new.
        unsafe {
            let descriptor = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK);
            let uffd = Uffd(OwnedFd::from_raw_fd(RawFd::try_from(descriptor).unwrap()));
            // Fork, remap, remove, unmap.
            let mut api = Api { version: 0xAA, features: 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6, ioctls: 0 };
            ioctl::api(uffd.0.as_raw_fd(), &raw mut api).unwrap();
            let length = NonZeroUsize::new(pages * PAGE).unwrap();
            let memory =
                mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE);
            let memory = memory.unwrap();
            let area = Area { start: memory.as_ptr() as u64, length: length.get() as u64 };
            let mut register = Register { area, mode: 1, ioctls: 0 };
            ioctl::register(uffd.0.as_raw_fd(), &raw mut register).unwrap();
            (uffd, memory)
        }
    }

    fn event(uffd: &Uffd) -> Event {
        loop {
            if let Some(event) = uffd.event().unwrap() {
                return event;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn who_waits_for_a_page_gets_it_and_what_is_there_stays() {
        let (uffd, memory) = missing(3);
        let start = memory.as_ptr() as u64;
        let address = start + PAGE as u64 + 7;
        // SAFETY: the address lies in the mapping.
        let reader = std::thread::spawn(move || unsafe { *(address as *const u8) });
        assert!(matches!(event(&uffd), Event::Fault(at) if at & !0xfff == start + PAGE as u64));
        assert_eq!(uffd.copy(start + PAGE as u64, &[5; PAGE]).unwrap(), Placed::Bytes(PAGE as u64));
        assert_eq!(reader.join().unwrap(), 5);
        assert_eq!(uffd.copy(start + PAGE as u64, &[6; PAGE]).unwrap(), Placed::There);
        assert_eq!(uffd.zero(start, PAGE as u64).unwrap(), Placed::Bytes(PAGE as u64));
        assert_eq!(uffd.copy(start, &[6; 3 * PAGE]).unwrap(), Placed::There);
        assert_eq!(uffd.copy(start + 3 * PAGE as u64, &[6; PAGE]).unwrap(), Placed::Nowhere);
    }

    #[test]
    fn what_is_given_up_is_told_and_empty() {
        let (uffd, memory) = missing(2);
        let start = memory.as_ptr() as u64;
        // SAFETY: the range is the mapping's.
        let giver = std::thread::spawn(move || unsafe {
            madvise(NonNull::new(start as *mut _).unwrap(), 2 * PAGE, MmapAdvise::MADV_DONTNEED)
        });
        assert!(
            matches!(event(&uffd), Event::Removed { start: at, end } if at == start && end == start + 2 * PAGE as u64)
        );
        giver.join().unwrap().unwrap();
        uffd.let_go(start, start + 2 * PAGE as u64);
        // SAFETY: the address lies in the mapping.
        assert_eq!(unsafe { *(start as *const u8) }, 0);
    }
}
