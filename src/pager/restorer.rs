//! What CRIU says while it restores (`criu/uffd.c`): of each process its pid in the container and its userfaultfd, and at
//! last that it has finished.
//!
//! ```text
//!   (i32 pid  [userfaultfd, with one byte])*  u32 0x52535446
//! ```
//!
//! A pid below zero is that of a process that has ended and has no memory.

use super::uffd::Uffd;
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::io::{self, IoSliceMut, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

const FINISHED: i32 = 0x5253_5446;

/// A word of CRIU's.
#[derive(Debug)]
pub enum Said {
    /// A process, and its address space.
    Process(i32, Uffd),
    /// A process that has ended.
    Ended,
    /// All are restored.
    Finished,
    /// It is gone.
    Gone,
}

/// CRIU, as it restores.
#[derive(Debug)]
pub struct Restorer(UnixStream);

impl Restorer {
    /// CRIU has called.
    pub fn new(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// What it says next; waits for that.
    pub fn hear(&mut self) -> io::Result<Said> {
        let mut word = [0; 4];
        match self.0.read_exact(&mut word) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Said::Gone),
            read => read?,
        }
        match i32::from_le_bytes(word) {
            FINISHED => Ok(Said::Finished),
            pid if pid < 0 => Ok(Said::Ended),
            pid => Ok(Said::Process(pid, Uffd::new(self.descriptor()?))),
        }
    }

    fn descriptor(&self) -> io::Result<OwnedFd> {
        let mut byte = [0];
        let mut room = cmsg_space!(RawFd);
        let mut parts = [IoSliceMut::new(&mut byte)];
        let message = recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut room), MsgFlags::MSG_CMSG_CLOEXEC)?;
        let given = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::ScmRights(given) => given.first().copied(),
            _ => None,
        });
        let given = given.ok_or_else(|| io::Error::other("CRIU has given no userfaultfd"))?;
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(given) })
    }
}

impl AsFd for Restorer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{ControlMessage, sendmsg};
    use std::io::{IoSlice, Write};

    #[test]
    fn processes_are_heard_of_one_by_one_until_criu_has_finished() {
        let (mut criu, ours) = UnixStream::pair().unwrap();
        let mut restorer = Restorer::new(ours);
        criu.write_all(&7i32.to_le_bytes()).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let rights = [file.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&rights)];
        sendmsg::<()>(criu.as_raw_fd(), &[IoSlice::new(&[0])], &control, MsgFlags::empty(), None).unwrap();
        assert!(matches!(restorer.hear().unwrap(), Said::Process(7, _)));
        criu.write_all(&(-8i32).to_le_bytes()).unwrap();
        assert!(matches!(restorer.hear().unwrap(), Said::Ended));
        criu.write_all(&FINISHED.to_le_bytes()).unwrap();
        assert!(matches!(restorer.hear().unwrap(), Said::Finished));
        criu.write_all(&9i32.to_le_bytes()).unwrap();
        criu.write_all(&[0]).unwrap();
        assert!(restorer.hear().is_err(), "a byte without a descriptor");
        drop(criu);
        assert!(matches!(restorer.hear().unwrap(), Said::Gone));
    }
}
