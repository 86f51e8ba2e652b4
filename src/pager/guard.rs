//! What keeps memory from becoming empty where the pager dies.
//!
//! When the last descriptor of a userfaultfd is closed, the kernel lets whoever waits go on, with empty pages: the program
//! would go on with wrong memory, and nobody would know (I4). So a second process holds the same table of descriptors and
//! does nothing at all. While it is there, a program whose pager was killed stands still on the next page that it misses,
//! until the helper has ended it.

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;

/// What the guard is called, in `/proc/PID/comm`.
pub const NAME: &str = "pager-guard";

static GUARD: Mutex<Option<Pid>> = Mutex::new(None);

/// Has a guard stand, once.
pub fn stand() -> io::Result<()> {
    let mut guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
    if guard.is_none() {
        *guard = Some(begin()?);
    }
    Ok(())
}

fn begin() -> io::Result<Pid> {
    let flags = libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: like fork(2), but for the table of descriptors. The child has a copy of this thread alone: it takes no lock,
    // allocates nothing, makes system calls and nothing else, and never returns.
    let child = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match i32::try_from(child) {
        Ok(0) => loop {
            // SAFETY: the name is a string with its end, and lives as long as the program.
            unsafe {
                libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, c"pager-guard".as_ptr());
                libc::syscall(libc::SYS_ppoll, 0, 0, 0, 0, 0);
            }
        },
        Ok(child) if child > 0 => Ok(Pid::from_raw(child)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Nothing is missing any more: there is nothing to guard.
pub fn leave() -> io::Result<()> {
    let Some(guard) = GUARD.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
    match kill(guard, Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => waitpid(guard, None).map(drop).map_err(io::Error::from),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn i4_what_the_pager_has_opened_stays_open_until_the_guard_leaves() {
        stand().unwrap();
        stand().unwrap();
        let pid = GUARD.lock().unwrap().unwrap();
        let name = || std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        while name().trim() != NAME {
            std::thread::yield_now();
        }
        let (ours, mut other) = UnixStream::pair().unwrap();
        let descriptor = format!("/proc/{pid}/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&ours));
        assert!(std::fs::read_link(&descriptor).is_ok(), "opened after it began");
        // A table that is shared has it closed with us, too: what is whole is let go at once.
        drop(ours);
        assert_eq!(other.read(&mut [0]).unwrap(), 0);
        leave().unwrap();
        assert!(name().is_empty());
    }
}
