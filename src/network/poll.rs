//! poll(2), for threads that wait for packets and for the order to end.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use nix::libc;

/// Waits until one of the descriptors can be read, is closed at its other end, or has failed; and says which. All are false
/// when `limit` has passed, or when a signal came.
pub(super) fn readable<const N: usize>(fds: [RawFd; N], limit: Option<Duration>) -> io::Result<[bool; N]> {
    let mut fds = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let limit = limit.map_or(-1, |limit| i32::try_from(limit.as_millis()).unwrap_or(i32::MAX));
    // SAFETY: `fds` is an array of N valid descriptions and outlives the call.
    let count = unsafe { libc::poll(fds.as_mut_ptr(), N as libc::nfds_t, limit) };
    match count {
        -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => Ok([false; N]),
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(fds.map(|fd| fd.revents != 0)),
    }
}
