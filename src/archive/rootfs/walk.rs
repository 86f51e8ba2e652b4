//! Everything below a directory, each directory before what it holds.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, fstatat};

use super::ROOT;
use super::object::{Root, kind};
use crate::archive::ArchiveError;
use crate::archive::hash::all_cores;
use crate::archive::tar::Kind;

/// Directories that make a thread worth its while.
const PER_THREAD: usize = 8;

/// Something below a directory, as it looked when its directory was listed.
pub(super) struct Node {
    pub path: Vec<u8>,
    pub stat: FileStat,
}

/// Lists everything below `root`, itself first, level by level. What vanishes meanwhile is left out.
pub(super) fn walk(root: &Root) -> Result<Vec<Node>, ArchiveError> {
    let own = root.open_below(ROOT, OFlag::O_PATH).and_then(|fd| nix::sys::stat::fstat(&fd));
    let own = Node { path: ROOT.to_vec(), stat: own.map_err(root.fault("look at", ROOT))? };
    let mut nodes = vec![own];
    let mut level = 0;
    while level < nodes.len() {
        let directories: Vec<&[u8]> =
            nodes[level..].iter().filter(|node| is_directory(node)).map(|node| node.path.as_slice()).collect();
        let found = list_all(root, &directories)?;
        level = nodes.len();
        nodes.extend(found.into_iter().flatten());
    }
    Ok(nodes)
}

fn is_directory(node: &Node) -> bool {
    kind(&node.stat) == Some(Kind::Directory)
}

/// Lists directories, several at once: in the second pass everybody waits for it.
fn list_all(root: &Root, directories: &[&[u8]]) -> Result<Vec<Vec<Node>>, ArchiveError> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut listed = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(directory) = directories.get(index) else {
                return Ok::<_, ArchiveError>(listed);
            };
            listed.push((index, list(root, directory)?));
        }
    };
    let threads = all_cores().get().min(directories.len() / PER_THREAD);
    let mut listed: Vec<(usize, Vec<Node>)> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut listed = work()?;
        for other in others {
            // A panic there is a panic here.
            listed.append(&mut other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok::<_, ArchiveError>(listed)
    })?;
    listed.sort_unstable_by_key(|(index, _)| *index);
    Ok(listed.into_iter().map(|(_, nodes)| nodes).collect())
}

fn list(root: &Root, path: &[u8]) -> Result<Vec<Node>, ArchiveError> {
    let dir = match root.open_below(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
        Err(errno) if vanished(errno) => return Ok(Vec::new()),
        other => other.map_err(root.fault("open directory", path))?,
    };
    let mut dir = Dir::from_fd(dir).map_err(root.fault("list", path))?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry.map_err(root.fault("list", path))?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    let mut nodes = Vec::with_capacity(names.len());
    for name in names {
        let below = join(path, name.to_bytes());
        match fstatat(dir.as_fd(), name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => nodes.push(Node { path: below, stat }),
            Err(errno) if vanished(errno) => {}
            Err(errno) => return Err(root.fault("look at", &below)(errno)),
        }
    }
    nodes.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(nodes)
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir == ROOT { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// Whether a path that was there led nowhere: it was removed, or something on the way was replaced.
pub(super) fn vanished(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ESTALE)
}
