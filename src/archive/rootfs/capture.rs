//! From a directory to a tar, in one pass or two.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::sys::stat::FileStat;

use super::object::{Object, Root, kind, mtime, split};
use super::snapshot::Snapshot;
use super::walk::{Node, vanished, walk};
use super::{DELETED, ROOT, sparse};
use crate::archive::tar::{Kind, Meta, TarWriter};
use crate::archive::{ArchiveError, CHUNK};

/// Most sockets that a report names.
const MAX_NAMED: usize = 64;

/// What a pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Members written, the list of deleted paths not counted.
    pub members: u64,
    /// Bytes of file contents written.
    pub bytes: u64,
    /// Paths that the first pass captured and that are gone.
    pub deleted: u64,
    /// Paths that changed while they were captured, so that the next pass captures them again.
    pub unsettled: u64,
    /// Sockets left out.
    pub sockets: u64,
    /// The first few of them.
    pub socket_paths: Vec<PathBuf>,
}

/// Writes everything below `upper` into `out` as a tar, and gives `out` back, flushed. The container may run.
///
/// The snapshot is for [`capture_delta`]. Without a second pass the tar is good only of a tree at rest.
///
/// # Errors
/// When something cannot be read for another reason than that it vanished, or `out` fails.
pub fn capture<W: Write>(upper: &Path, out: W) -> Result<(W, Snapshot, Report), ArchiveError> {
    let root = Root::open(upper)?;
    let mut snapshot = Snapshot::default();
    let mut pass = Pass::new(&root, out, Some(&mut snapshot));
    for node in walk(&root)? {
        pass.store(&node)?;
    }
    let (out, mut report) = pass.finish()?;
    report.unsettled = snapshot.unsettled() as u64;
    Ok((out, snapshot, report))
}

/// Writes what changed below `upper` since `snapshot` into `out` as a tar, and gives `out` back, flushed. The
/// container is frozen.
///
/// `always` are files to be stored even if they look unchanged, by device and inode in `upper`'s file system: those
/// that were mapped writable and shared, whose times lie.
///
/// # Errors
/// As [`capture`], and when a file changes all the same.
pub fn capture_delta<W: Write>(
    upper: &Path,
    out: W,
    snapshot: &Snapshot,
    always: &HashSet<(u64, u64)>,
) -> Result<(W, Report), ArchiveError> {
    let root = Root::open(upper)?;
    let nodes = walk(&root)?;
    let (changed, known) = compare(&nodes, snapshot, always);
    let mut pass = Pass::new(&root, out, None);
    // Usually nothing is gone, and then nothing has to be looked for.
    let deleted = if known == snapshot.len() { Vec::new() } else { deleted(&nodes, snapshot) };
    pass.report.deleted = pass.store_deleted(&deleted)?;
    for node in changed {
        pass.store(node)?;
    }
    pass.finish()
}

/// Paths that are gone, deepest first. A path where a socket is now counts as gone.
fn deleted<'a>(nodes: &[Node], snapshot: &'a Snapshot) -> Vec<&'a [u8]> {
    let present: HashSet<&[u8]> =
        nodes.iter().filter(|node| kind(&node.stat).is_some()).map(|node| node.path.as_slice()).collect();
    let mut gone: Vec<_> = snapshot.paths().filter(|path| !present.contains(path)).collect();
    // What lies in a directory sorts behind it.
    gone.sort_unstable_by(|a, b| b.cmp(a));
    gone
}

/// Nodes that have to be stored, and how many nodes the snapshot knows. Of a file with several names all are stored
/// when one is: each may be a link to any.
fn compare<'a>(nodes: &'a [Node], snapshot: &Snapshot, always: &HashSet<(u64, u64)>) -> (Vec<&'a Node>, usize) {
    let inode = |node: &Node| (node.stat.st_dev, node.stat.st_ino);
    let (mut changed, mut quiet_links, mut known) = (Vec::new(), Vec::new(), 0);
    let mut linked = HashSet::new();
    for (index, node) in nodes.iter().enumerate() {
        let unchanged = snapshot.compare(&node.path, &node.stat);
        known += usize::from(unchanged.is_some() && kind(&node.stat).is_some());
        let has_names = node.stat.st_nlink > 1 && kind(&node.stat) != Some(Kind::Directory);
        if unchanged != Some(true) || always.contains(&inode(node)) {
            changed.push(index);
            if has_names {
                linked.insert(inode(node));
            }
        } else if has_names {
            quiet_links.push(index);
        }
    }
    changed.extend(quiet_links.into_iter().filter(|index| linked.contains(&inode(&nodes[*index]))));
    // Parents before what lies in them.
    changed.sort_unstable();
    (changed.into_iter().map(|index| &nodes[index]).collect(), known)
}

/// Whether nothing happened to a file between two looks at it.
fn same_state(a: &FileStat, b: &FileStat) -> bool {
    (a.st_ctime, a.st_ctime_nsec, a.st_size, a.st_nlink) == (b.st_ctime, b.st_ctime_nsec, b.st_size, b.st_nlink)
}

/// A pass under way.
struct Pass<'a, W: Write> {
    root: &'a Root,
    tar: TarWriter<BufWriter<W>>,
    /// The first name under which each file with several was stored, and what it looked like then.
    names: HashMap<(u64, u64), (Vec<u8>, FileStat)>,
    /// Directories that were stored, in the first pass.
    directories: HashSet<Vec<u8>>,
    /// There in the first pass, when files may change.
    snapshot: Option<&'a mut Snapshot>,
    report: Report,
    buffer: Vec<u8>,
}

impl<'a, W: Write> Pass<'a, W> {
    fn new(root: &'a Root, out: W, snapshot: Option<&'a mut Snapshot>) -> Self {
        Self {
            root,
            tar: TarWriter::new(BufWriter::with_capacity(CHUNK, out)),
            names: HashMap::new(),
            directories: HashSet::new(),
            snapshot,
            report: Report::default(),
            buffer: vec![0; CHUNK],
        }
    }

    fn finish(self) -> Result<(W, Report), ArchiveError> {
        let out = self.tar.finish().map_err(ArchiveError::Write)?;
        let out = out.into_inner().map_err(|error| ArchiveError::Write(error.into_error()))?;
        Ok((out, self.report))
    }

    fn store_deleted(&mut self, paths: &[&[u8]]) -> Result<u64, ArchiveError> {
        let size = paths.iter().map(|path| path.len() as u64 + 1).sum();
        let mut write = || {
            self.tar.member(&Meta::plain_file(DELETED), size)?;
            paths.iter().try_for_each(|path| self.tar.write_all(path).and_then(|()| self.tar.write_all(&[0])))
        };
        write().map_err(ArchiveError::Write)?;
        Ok(paths.len() as u64)
    }

    fn store(&mut self, node: &Node) -> Result<(), ArchiveError> {
        // Before the object is looked at: what changes later has a later time.
        let now = SystemTime::now();
        let object = match self.root.hold(&node.path) {
            Err(errno) if vanished(errno) => return Ok(()),
            other => other.map_err(self.root.fault("look at", &node.path))?,
        };
        let Some(kind) = object.kind() else {
            self.note_socket(&node.path);
            return Ok(());
        };
        if !self.note(&node.path, kind, &object, now) {
            return Ok(());
        }
        let mut meta = self.meta(&node.path, kind, &object)?;
        if kind != Kind::Directory && object.stat.st_nlink > 1 {
            self.link(&mut meta, &object.stat);
        }
        self.report.members += 1;
        match meta.kind {
            Kind::File => self.store_file(&meta, &object),
            _ => self.tar.member(&meta, 0).map_err(ArchiveError::Write),
        }
    }

    /// Notes in the first pass what a path looks like. False if it must be left to the second: its directory was not
    /// there, or was none, when that was stored, so that it could not be recreated.
    fn note(&mut self, path: &[u8], kind: Kind, object: &Object, now: SystemTime) -> bool {
        let Some(snapshot) = &mut self.snapshot else {
            return true;
        };
        if path != ROOT && !self.directories.contains(split(path).0) {
            return false;
        }
        if kind == Kind::Directory {
            self.directories.insert(path.to_vec());
        }
        snapshot.insert(path, &object.stat, now);
        true
    }

    /// Makes a link of a member whose file was stored under another name.
    fn link(&mut self, meta: &mut Meta, stat: &FileStat) {
        let inode = (stat.st_dev, stat.st_ino);
        match self.names.get(&inode) {
            Some((first, then)) if same_state(stat, then) => {
                *meta = Meta { kind: Kind::HardLink, link: first.clone(), xattrs: Vec::new(), ..meta.clone() };
            }
            other => {
                // While the container runs the file may have changed since, or its inode number may be another file's by
                // now. The second pass sorts it out.
                if let (Some(_), Some(snapshot)) = (other, &mut self.snapshot) {
                    snapshot.unsettle(&meta.path);
                }
                self.names.insert(inode, (meta.path.clone(), *stat));
            }
        }
    }

    fn meta(&self, path: &[u8], kind: Kind, object: &Object) -> Result<Meta, ArchiveError> {
        let link = match kind {
            Kind::Symlink => object.link_target().map_err(self.root.fault("read link", path))?,
            _ => Vec::new(),
        };
        let display = self.root.display(path);
        Ok(Meta {
            path: path.to_vec(),
            kind,
            link,
            mode: object.stat.st_mode & 0o7777,
            uid: object.stat.st_uid.into(),
            gid: object.stat.st_gid.into(),
            mtime: mtime(&object.stat),
            xattrs: object.xattrs().map_err(ArchiveError::file("read extended attributes of", &display))?,
        })
    }

    fn store_file(&mut self, meta: &Meta, object: &Object) -> Result<(), ArchiveError> {
        let display = self.root.display(&meta.path);
        let file = object.open_file().map_err(ArchiveError::file("open", &display))?;
        let size = object.stat.st_size as u64;
        let segments =
            sparse::segments(&file, &object.stat).map_err(self.root.fault("find the holes of", &meta.path))?;
        let started = match &segments {
            Some(segments) => self.tar.sparse_file(meta, size, segments),
            None => self.tar.member(meta, size),
        };
        started.map_err(ArchiveError::Write)?;
        let mut complete = true;
        for (offset, length) in segments.unwrap_or_else(|| vec![(0, size)]) {
            complete &= self.copy(&file, &display, offset, length)?;
        }
        match (complete, &mut self.snapshot) {
            (true, _) => Ok(()),
            (false, Some(snapshot)) => {
                snapshot.unsettle(&meta.path);
                Ok(())
            }
            (false, None) => Err(ArchiveError::file("read", &display)(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Copies a part of a file, filled with zeros where the file has become shorter: the member's length is written
    /// already. False if it had to be filled.
    fn copy(&mut self, file: &File, path: &Path, offset: u64, length: u64) -> Result<bool, ArchiveError> {
        let mut done = 0;
        let mut complete = true;
        while done < length {
            let want = (length - done).min(self.buffer.len() as u64) as usize;
            let part = &mut self.buffer[..want];
            let mut count = match file.read_at(part, offset + done) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(ArchiveError::file("read", path))?,
            };
            if count == 0 {
                part.fill(0);
                (count, complete) = (want, false);
            }
            self.tar.write_all(&self.buffer[..count]).map_err(ArchiveError::Write)?;
            done += count as u64;
        }
        self.report.bytes += length;
        Ok(complete)
    }

    fn note_socket(&mut self, path: &[u8]) {
        self.report.sockets += 1;
        if self.report.socket_paths.len() < MAX_NAMED {
            self.report.socket_paths.push(OsStr::from_bytes(path).into());
        }
    }
}
