//! Processes that are not our children.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Returns when the process has ended; at once when there is none.
pub fn wait_for_end(pid: i32) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let Some(pidfd) = open(pid) else { return };
    // A pidfd becomes readable when its process ends (pidfd_open(2)).
    let mut waited = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    while poll(&mut waited, PollTimeout::NONE) == Err(nix::errno::Errno::EINTR) {}
}

fn open(pid: i32) -> Option<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and returns a new descriptor or -1.
    let descriptor = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) };
    let descriptor = RawFd::try_from(descriptor).ok().filter(|descriptor| *descriptor >= 0)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_end_of_a_process_is_waited_for() {
        let mut child = std::process::Command::new("sleep").arg("0.05").spawn().unwrap();
        super::wait_for_end(child.id() as i32);
        assert!(child.try_wait().unwrap().is_some());
        super::wait_for_end(child.id() as i32);
    }
}
