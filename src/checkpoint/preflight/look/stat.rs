//! What a file is, asked without waking the server or daemon behind it.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::libc;

use crate::checkpoint::preflight::facts::DeviceNumber;

/// The part of a file's status that the look needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Status {
    pub mode: u32,
    pub links: u32,
    /// On disk.
    pub bytes: u64,
    pub inode: u64,
    /// What it lies on.
    pub device: DeviceNumber,
    /// What it is, for device nodes.
    pub own_device: DeviceNumber,
}

impl Status {
    pub(super) fn is(&self, format: libc::mode_t) -> bool {
        self.mode & libc::S_IFMT == format
    }
}

/// The status of what `path` leads to, from what the kernel has at hand.
pub(super) fn status(path: &Path) -> io::Result<Status> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all zeroes is a valid statx.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT;
    // SAFETY: a terminated path and a place for the answer, which both outlive the call.
    let done = unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, libc::STATX_BASIC_STATS, &mut found) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Status {
        mode: u32::from(found.stx_mode),
        links: found.stx_nlink,
        bytes: found.stx_blocks.saturating_mul(512),
        inode: found.stx_ino,
        device: (found.stx_dev_major, found.stx_dev_minor),
        own_device: (found.stx_rdev_major, found.stx_rdev_minor),
    })
}

/// The protocol's name of the socket that `path` leads to, as the kernel calls it: `TCP`, `UNIX-STREAM`, `MPTCP` ...
///
/// From the extended attribute `system.sockprotoname`, which every socket has and which touches nothing.
pub(super) fn socket_protocol(path: &Path) -> io::Result<String> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut name = [0u8; 64];
    // SAFETY: terminated strings and a buffer of the length that is told.
    let length = unsafe {
        libc::getxattr(path.as_ptr(), c"system.sockprotoname".as_ptr(), name.as_mut_ptr().cast(), name.len())
    };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let text = name[..length].split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn files_and_devices_are_told_apart() {
        let null = status(Path::new("/dev/null")).unwrap();
        assert!(null.is(libc::S_IFCHR));
        assert_eq!(null.own_device, (1, 3));
        assert!(status(Path::new("/proc/self/status")).unwrap().is(libc::S_IFREG));
        assert!(status(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn sockets_tell_their_protocol() {
        let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let name = |fd: i32| socket_protocol(Path::new(&format!("/proc/self/fd/{fd}"))).unwrap();
        assert!(name(unix.as_raw_fd()).starts_with("UNIX"));
        assert_eq!(name(tcp.as_raw_fd()), "TCP");
        assert!(socket_protocol(Path::new("/dev/null")).is_err());
    }
}
