//! Files, directories and whatever else lies below a directory, held by descriptors that cannot lead out of it.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::{FileStat, SFlag, fstat, major, minor};

use super::{MAX_PATH, ROOT};
use crate::archive::ArchiveError;
use crate::archive::tar::{Kind, Timestamp, Xattr};

/// A directory below which paths are resolved.
pub(super) struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

impl Root {
    /// Opens the directory at `path`.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let fd = File::options()
            .read(true)
            .custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW)
            .open(path)
            .map_err(ArchiveError::file("open directory", path))?;
        Ok(Self { fd: fd.into(), path: path.to_owned() })
    }

    /// Opens what lies at `below`, without following a link anywhere on the way.
    pub fn open_below(&self, below: &[u8], flags: OFlag) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        loop {
            match openat2(&self.fd, OsStr::from_bytes(below), how) {
                // The kernel could not prove a path beneath while something was renamed: it asks to be tried again.
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                other => return other,
            }
        }
    }

    /// Holds what lies at `below`, whatever it is, without opening it.
    pub fn hold(&self, below: &[u8]) -> Result<Object, Errno> {
        // A symbolic link itself is held only where links are not forbidden altogether, so its directory is opened first.
        let (parent, name) = split(below);
        let parent = self.open_below(parent, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        Object::at(&parent, name)
    }

    /// The path of `below` for messages.
    pub fn display(&self, below: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(below))
    }

    /// An error about `below`, for `map_err`.
    pub fn fault(&self, operation: &'static str, below: &[u8]) -> impl FnOnce(Errno) -> ArchiveError {
        let path = self.display(below);
        move |errno| ArchiveError::File { operation, path, source: errno.into() }
    }
}

/// The path of the directory that holds `below`, and its last component.
pub(super) fn split(below: &[u8]) -> (&[u8], &[u8]) {
    match below.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&below[..slash], &below[slash + 1..]),
        None => (ROOT, below),
    }
}

/// Whether an archive may name this path: relative, normal components only, not too long.
pub(super) fn is_safe(below: &[u8]) -> bool {
    let plain = |component: &[u8]| !component.is_empty() && component != b"." && component != b"..";
    below == ROOT || (below.len() <= MAX_PATH && !below.contains(&0) && below.split(|byte| *byte == b'/').all(plain))
}

/// Something held by an `O_PATH` descriptor: it may be looked at, and opened if it is a file.
pub(super) struct Object {
    fd: OwnedFd,
    pub stat: FileStat,
}

impl Object {
    /// Holds `name` in the directory `parent`.
    pub fn at(parent: &impl AsFd, name: &[u8]) -> Result<Self, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::openat(parent, OsStr::from_bytes(name), flags, nix::sys::stat::Mode::empty())?;
        let stat = fstat(&fd)?;
        Ok(Self { fd, stat })
    }

    /// What it is; `None` for a socket.
    pub fn kind(&self) -> Option<Kind> {
        kind(&self.stat)
    }

    /// Opens the regular file held, for reading.
    pub fn open_file(&self) -> io::Result<File> {
        File::options().read(true).custom_flags(nix::libc::O_NOATIME).open(self.magic_path())
    }

    /// The text of the symbolic link held.
    pub fn link_target(&self) -> Result<Vec<u8>, Errno> {
        Ok(readlinkat(&self.fd, "")?.into_vec())
    }

    /// All extended attributes that root can see.
    pub fn xattrs(&self) -> io::Result<Vec<Xattr>> {
        let path = self.magic_path();
        let names = match xattr::list_deref(&path) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => {
                return Ok(Vec::new());
            }
            other => other?,
        };
        let mut xattrs = Vec::new();
        for name in names {
            // One that went away since it was listed is none.
            if let Some(value) = xattr::get_deref(&path, &name)? {
                xattrs.push(Xattr { name: name.into_vec(), value });
            }
        }
        xattrs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(xattrs)
    }

    /// Sets one extended attribute.
    pub fn set_xattr(&self, xattr: &Xattr) -> io::Result<()> {
        xattr::set_deref(self.magic_path(), OsStr::from_bytes(&xattr.name), &xattr.value)
    }

    /// A path that leads to the very object held, whatever lies at its path by now; a link held is not followed.
    fn magic_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }
}

/// What a file is; `None` for a socket.
pub(super) fn kind(stat: &FileStat) -> Option<Kind> {
    let (major, minor) = (number(major(stat.st_rdev)), number(minor(stat.st_rdev)));
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG => Some(Kind::File),
        SFlag::S_IFDIR => Some(Kind::Directory),
        SFlag::S_IFLNK => Some(Kind::Symlink),
        SFlag::S_IFIFO => Some(Kind::Fifo),
        SFlag::S_IFCHR => Some(Kind::CharDevice { major, minor }),
        SFlag::S_IFBLK => Some(Kind::BlockDevice { major, minor }),
        _ => None,
    }
}

/// Linux has 12 bits of major and 20 of minor numbers.
fn number(part: u64) -> u32 {
    u32::try_from(part).unwrap_or(u32::MAX)
}

/// A file's modification time.
pub(super) fn mtime(stat: &FileStat) -> Timestamp {
    Timestamp { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default() }
}
