//! From tars back to a directory.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, makedev, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};

use super::object::{Object, Root, is_safe, split};
use super::{DELETED, MAX_PATH, ROOT};
use crate::archive::file::SparseFile;
use crate::archive::tar::{Kind, Member, Meta, TarReader};
use crate::archive::{ArchiveError, CHUNK};

/// Recreates in `dest`, an empty directory, what [`capture`](super::capture) and
/// [`capture_delta`](super::capture_delta) stored. Needs root.
///
/// # Errors
/// See [`Applier`].
pub fn apply<B: Read, D: Read>(base: B, delta: Option<D>, dest: &Path) -> Result<(), ArchiveError> {
    let mut applier = Applier::new(dest)?;
    applier.base(base)?;
    if let Some(delta) = delta {
        applier.delta(delta)?;
    }
    applier.finish()
}

/// Recreates a tree in steps, so that the base can be there before the delta is made.
///
/// What it is given is held to be hostile: nothing outside of the directory is touched. What is left after an error is
/// worthless and has to be removed by the caller. Every reader is read to its end.
pub struct Applier {
    root: Root,
    /// Directories get their owners, modes, attributes and times at the end: what is made in them would change their
    /// times, and inherit their default ACLs.
    directories: HashMap<Vec<u8>, Meta>,
    /// The directory of the last member; most have the same as the one before.
    parent: Option<(Vec<u8>, OwnedFd)>,
}

impl Applier {
    /// Starts in `dest`, which must be there and empty.
    pub fn new(dest: &Path) -> Result<Self, ArchiveError> {
        let root = Root::open(dest)?;
        let mut entries = std::fs::read_dir(dest).map_err(ArchiveError::file("list", dest))?;
        match entries.next() {
            Some(_) => Err(ArchiveError::NotEmpty { path: dest.to_owned() }),
            None => Ok(Self { root, directories: HashMap::new(), parent: None }),
        }
    }

    /// Makes everything in the tar of a first pass.
    pub fn base(&mut self, input: impl Read) -> Result<(), ArchiveError> {
        let mut tar = TarReader::new(BufReader::with_capacity(CHUNK, input));
        self.members(&mut tar, false)?;
        tar.finish()?;
        Ok(())
    }

    /// Removes what the tar of a second pass says is gone, and makes or replaces everything in it.
    pub fn delta(&mut self, input: impl Read) -> Result<(), ArchiveError> {
        let mut tar = TarReader::new(BufReader::with_capacity(CHUNK, input));
        match tar.next_member()? {
            Some(member) if member.meta.path == DELETED.as_bytes() && member.meta.kind == Kind::File => {
                self.delete(&mut tar, &member)?;
            }
            Some(member) => return Err(fault(&member, "a delta does not start with it")),
            None => {
                return Err(ArchiveError::MissingMember { member: DELETED.into() });
            }
        }
        self.members(&mut tar, true)?;
        tar.finish()?;
        Ok(())
    }

    /// Gives all directories what they were captured with.
    pub fn finish(mut self) -> Result<(), ArchiveError> {
        let mut directories: Vec<_> = std::mem::take(&mut self.directories).into_values().collect();
        // Deepest first: a directory's mode may shut others out.
        directories.sort_unstable_by(|a, b| b.path.cmp(&a.path));
        for meta in directories {
            let at = self.locate(&meta.path)?;
            self.dress(&at, &meta)?;
        }
        Ok(())
    }

    fn members<R: Read>(&mut self, tar: &mut TarReader<R>, replace: bool) -> Result<(), ArchiveError> {
        while let Some(member) = tar.next_member()? {
            if !is_safe(&member.meta.path) {
                return Err(fault(&member, "its path leads elsewhere"));
            }
            self.member(tar, &member, replace)?;
        }
        Ok(())
    }

    fn member<R: Read>(&mut self, tar: &mut TarReader<R>, member: &Member, replace: bool) -> Result<(), ArchiveError> {
        let meta = &member.meta;
        if meta.path == ROOT {
            if meta.kind != Kind::Directory {
                return Err(fault(member, "it is no directory"));
            }
            self.directories.insert(meta.path.clone(), meta.clone());
            return Ok(());
        }
        let at = self.locate(&meta.path)?;
        let kept = replace && self.clear(&at, meta)?;
        if kept {
            self.directories.insert(meta.path.clone(), meta.clone());
            return Ok(());
        }
        match meta.kind {
            Kind::File => self.make_file(tar, member, &at)?,
            Kind::HardLink => return self.make_link(member, &at),
            Kind::Directory => {
                self.check(&at, "create directory", mkdirat(&at.parent, at.name(), Mode::S_IRWXU))?;
                self.directories.insert(meta.path.clone(), meta.clone());
                return Ok(());
            }
            Kind::Symlink => {
                let target = OsStr::from_bytes(&meta.link);
                self.check(&at, "create link", symlinkat(target, &at.parent, at.name()))?;
            }
            Kind::Fifo => self.make_node(&at, SFlag::S_IFIFO, 0)?,
            Kind::CharDevice { major, minor } => {
                self.make_node(&at, SFlag::S_IFCHR, makedev(major.into(), minor.into()))?;
            }
            Kind::BlockDevice { major, minor } => {
                self.make_node(&at, SFlag::S_IFBLK, makedev(major.into(), minor.into()))?;
            }
        }
        self.dress(&at, meta)
    }

    /// Finds the directory a path lies in.
    fn locate(&mut self, path: &[u8]) -> Result<Place, ArchiveError> {
        let (dir, _) = split(path);
        let parent = match &self.parent {
            Some((known, fd)) if known == dir => fd.try_clone(),
            _ => {
                let fd = self.root.open_below(dir, OFlag::O_PATH | OFlag::O_DIRECTORY);
                let fd = fd.map_err(self.root.fault("open directory", dir))?;
                let copy = fd.try_clone();
                self.parent = Some((dir.to_vec(), fd));
                copy
            }
        };
        let parent = parent.map_err(ArchiveError::file("open directory", &self.root.display(dir)))?;
        Ok(Place { parent, path: path.to_vec() })
    }

    /// Makes way for a member of a delta. True if it is a directory that is there already.
    fn clear(&mut self, at: &Place, meta: &Meta) -> Result<bool, ArchiveError> {
        let stat = match fstatat(&at.parent, at.name(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(false),
            other => self.check(at, "look at", other)?,
        };
        let is_dir = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
        if is_dir && meta.kind == Kind::Directory {
            return Ok(true);
        }
        self.unlink(at, is_dir)?;
        Ok(false)
    }

    /// A directory is removed only when it is empty: what lies in it has to be in the list of deleted paths too.
    fn unlink(&mut self, at: &Place, is_dir: bool) -> Result<(), ArchiveError> {
        let flag = if is_dir { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
        self.check(at, "remove", unlinkat(&at.parent, at.name(), flag))?;
        if is_dir {
            self.directories.remove(&at.path);
            // It may be the one that was removed.
            self.parent = None;
        }
        Ok(())
    }

    fn delete<R: Read>(&mut self, tar: &mut TarReader<R>, member: &Member) -> Result<(), ArchiveError> {
        // Fed byte by byte, so that no list is too long; buffered, so that this is no loss.
        let mut path = Vec::new();
        for byte in BufReader::new(tar.by_ref()).bytes() {
            let byte = byte.map_err(|source| ArchiveError::Decompress { what: DELETED.into(), source })?;
            if byte != 0 {
                path.push(byte);
                if path.len() > MAX_PATH {
                    return Err(fault(member, "it lists a path that is too long"));
                }
                continue;
            }
            if !is_safe(&path) || path == ROOT {
                return Err(fault(member, "it lists a path that leads elsewhere"));
            }
            self.delete_path(&path)?;
            path.clear();
        }
        match path.is_empty() {
            true => Ok(()),
            false => Err(fault(member, "its last path does not end")),
        }
    }

    fn delete_path(&mut self, path: &[u8]) -> Result<(), ArchiveError> {
        let at = self.locate(path)?;
        let stat = self.check(&at, "look at", fstatat(&at.parent, at.name(), AtFlags::AT_SYMLINK_NOFOLLOW))?;
        self.unlink(&at, stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits())
    }

    fn make_file<R: Read>(&self, tar: &mut TarReader<R>, member: &Member, at: &Place) -> Result<(), ArchiveError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&at.parent, at.name(), flags, Mode::S_IRUSR | Mode::S_IWUSR);
        let file = File::from(self.check(at, "create", fd)?);
        let written = match &member.segments {
            None => {
                let mut file = SparseFile::new(file);
                copy(tar, member.length, &mut file).and_then(|()| file.finish().map(drop))
            }
            Some(segments) => write_segments(tar, segments, member.length, file),
        };
        written.map_err(ArchiveError::file("write", &self.root.display(&at.path)))
    }

    fn make_link(&self, member: &Member, at: &Place) -> Result<(), ArchiveError> {
        let target = &member.meta.link;
        if !is_safe(target) {
            return Err(fault(member, "its link leads elsewhere"));
        }
        let (dir, name) = split(target);
        let parent = self.root.open_below(dir, OFlag::O_PATH | OFlag::O_DIRECTORY);
        let parent = parent.map_err(self.root.fault("open directory", dir))?;
        let linked = linkat(&parent, OsStr::from_bytes(name), &at.parent, at.name(), AtFlags::empty());
        self.check(at, "create hard link", linked)
    }

    fn make_node(&self, at: &Place, kind: SFlag, device: u64) -> Result<(), ArchiveError> {
        let made = mknodat(&at.parent, at.name(), kind, Mode::S_IRUSR | Mode::S_IWUSR, device);
        self.check(at, "create device or pipe", made)
    }

    /// Gives what lies at a place its owner, mode, attributes and times, in this order: a change of owner drops set-id
    /// bits and capabilities, and anything else would change the times.
    fn dress(&self, at: &Place, meta: &Meta) -> Result<(), ArchiveError> {
        let (uid, gid) = (owner(meta.uid), owner(meta.gid));
        let (Some(uid), Some(gid)) = (uid, gid) else {
            return self.check(at, "set the owner of", Err(Errno::EOVERFLOW));
        };
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        let owned = fchownat(&at.parent, at.name(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), flags);
        self.check(at, "set the owner of", owned)?;
        if meta.kind != Kind::Symlink {
            let mode = Mode::from_bits_truncate(meta.mode);
            // It was made here, so it is no link that this could follow.
            let set = fchmodat(&at.parent, at.name(), mode, FchmodatFlags::FollowSymlink);
            self.check(at, "set the mode of", set)?;
        }
        if !meta.xattrs.is_empty() {
            let object = self.check(at, "look at", Object::at(&at.parent, at.name().as_bytes()))?;
            let set = meta.xattrs.iter().try_for_each(|xattr| object.set_xattr(xattr));
            set.map_err(ArchiveError::file("set extended attributes of", &self.root.display(&at.path)))?;
        }
        let mtime = TimeSpec::new(meta.mtime.seconds, meta.mtime.nanoseconds.into());
        let omit = TimeSpec::UTIME_OMIT;
        let timed = utimensat(&at.parent, at.name(), &omit, &mtime, UtimensatFlags::NoFollowSymlink);
        self.check(at, "set the time of", timed)
    }

    fn check<T>(&self, at: &Place, operation: &'static str, outcome: Result<T, Errno>) -> Result<T, ArchiveError> {
        outcome.map_err(self.root.fault(operation, &at.path))
    }
}

/// A directory, held open, and a path whose last component lies in it.
struct Place {
    parent: OwnedFd,
    path: Vec<u8>,
}

impl Place {
    fn name(&self) -> &OsStr {
        OsStr::from_bytes(split(&self.path).1)
    }
}

fn fault(member: &Member, fault: &'static str) -> ArchiveError {
    ArchiveError::Member { member: member.meta.display_path(), offset: member.offset, fault }
}

/// An id that a file can have; the highest means "leave it as it is".
fn owner(id: u64) -> Option<u32> {
    u32::try_from(id).ok().filter(|id| *id != u32::MAX)
}

fn write_segments(input: &mut impl Read, segments: &[(u64, u64)], length: u64, mut file: File) -> io::Result<()> {
    for (offset, size) in segments {
        file.seek(SeekFrom::Start(*offset))?;
        copy(input, *size, &mut file)?;
    }
    file.set_len(length)
}

fn copy(input: &mut impl Read, length: u64, output: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; length.min(CHUNK as u64) as usize];
    let mut left = length;
    while left > 0 {
        let want = left.min(buffer.len() as u64) as usize;
        input.read_exact(&mut buffer[..want])?;
        output.write_all(&buffer[..want])?;
        left -= want as u64;
    }
    Ok(())
}
