//! Everything below a directory, each directory before what it holds.

use std::os::fd::AsFd;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, fstatat};

use super::ROOT;
use super::object::{Root, kind};
use crate::archive::ArchiveError;
use crate::archive::tar::Kind;

/// Something below a directory, as it looked when its directory was listed.
pub(super) struct Node {
    pub path: Vec<u8>,
    pub stat: FileStat,
}

/// Lists everything below `root`, itself first. What vanishes meanwhile is left out.
pub(super) fn walk(root: &Root) -> Result<Vec<Node>, ArchiveError> {
    let own = root.open_below(ROOT, OFlag::O_PATH).and_then(|fd| nix::sys::stat::fstat(&fd));
    let own = Node { path: ROOT.to_vec(), stat: own.map_err(root.fault("look at", ROOT))? };
    let mut pending = vec![own];
    let mut nodes = Vec::new();
    while let Some(node) = pending.pop() {
        if kind(&node.stat) == Some(Kind::Directory) {
            let mut children = list(root, &node.path)?;
            // The last one pushed is the first to be popped.
            children.sort_unstable_by(|a, b| b.path.cmp(&a.path));
            pending.append(&mut children);
        }
        nodes.push(node);
    }
    Ok(nodes)
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
    Ok(nodes)
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir == ROOT { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// Whether a path that was there led nowhere: it was removed, or something on the way was replaced.
pub(super) fn vanished(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ESTALE)
}
