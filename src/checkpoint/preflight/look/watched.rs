//! The paths behind inotify watches on overlayfs.
//!
//! The kernel tells a watch's inode, not its path. CRIU finds the path by a file handle, which overlayfs does not
//! honour (unless mounted with `nfs_export=on`), and else looks in a few places (`/etc`, `/var/log` ...) and in those
//! that it is told by `irmap-scan-path`. So whoever looks them up before the dump can tell CRIU, and the dump passes:
//! tried with CRIU 4.2.1 on files and directories of either layer.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::checkpoint::preflight::facts::{ContainerFacts, FileKind};

/// Most files that are looked at.
const MAX_FILES: usize = 500_000;

/// The paths, inside the container, of what it watches on overlayfs; for CRIU's option `irmap-scan-path`, each.
///
/// Walks the container's root filesystem until all are found, so only call it where there are such watches. What is
/// not found (deleted, or renamed in the lower layer) is left out, and the dump will fail with CRIU's own words.
pub fn watched_paths(facts: &ContainerFacts) -> Vec<PathBuf> {
    let wanted = overlay_watches(facts);
    if wanted.is_empty() {
        return Vec::new();
    }
    let root = PathBuf::from(format!("/proc/{}/root", facts.engine.init_pid));
    search(&root, wanted)
}

/// Inodes of watches on overlayfs.
pub(in super::super) fn overlay_watches(facts: &ContainerFacts) -> HashSet<u64> {
    let files = facts.processes.iter().flat_map(|process| &process.files);
    let watches = files.filter_map(|file| match &file.kind {
        FileKind::Watcher { watches, .. } => Some(watches),
        _ => None,
    });
    let unreachable = |device| {
        facts.mounts.iter().any(|mount| {
            let exported = mount.options.split(',').any(|option| option == "nfs_export=on");
            mount.device == device && mount.file_system == "overlay" && !exported
        })
    };
    watches.flatten().filter(|watch| unreachable(watch.device)).map(|watch| watch.inode).collect()
}

fn search(root: &Path, mut wanted: HashSet<u64>) -> Vec<PathBuf> {
    // With the slash, or it would be the link itself that is asked about.
    let Ok(top) = fs::metadata(root.join("")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if wanted.remove(&top.ino()) {
        found.push(PathBuf::from("/"));
    }
    let mut left = vec![PathBuf::from("/")];
    let mut seen = 0;
    while let (Some(directory), false) = (left.pop(), wanted.is_empty()) {
        let outside = root.join(directory.strip_prefix("/").unwrap_or(&directory));
        for entry in fs::read_dir(outside.join("")).into_iter().flatten().flatten() {
            seen += 1;
            let Ok(meta) = entry.metadata() else { continue };
            // Directories tell the overlay's own device; other mounts are not its business.
            if seen > MAX_FILES || meta.is_dir() && meta.dev() != top.dev() {
                continue;
            }
            let path = directory.join(entry.file_name());
            if wanted.remove(&meta.ino()) {
                found.push(path.clone());
            }
            if meta.is_dir() {
                left.push(path);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::preflight::facts::{MountFacts, OpenFile, ProcessFacts, Watch};

    #[test]
    fn paths_are_found_by_inode() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("srv/app")).unwrap();
        fs::write(root.path().join("srv/app/config"), "x").unwrap();
        let inode = |path: &str| fs::metadata(root.path().join(path)).unwrap().ino();
        let wanted = HashSet::from([inode("srv/app/config"), inode("srv"), u64::MAX]);
        let mut found = search(root.path(), wanted);
        found.sort();
        assert_eq!(found, [PathBuf::from("/srv"), PathBuf::from("/srv/app/config")]);
        assert!(search(Path::new("/nonexistent"), HashSet::from([1])).is_empty());
    }

    #[test]
    fn only_watches_on_overlayfs_without_export_count() {
        let watch = |minor| Watch { device: (0, minor), inode: u64::from(minor), handle_type: 0 };
        let watches = vec![watch(1), watch(2), watch(3)];
        let kind = FileKind::Watcher { fanotify: false, watches };
        let mount = |minor, file_system: &str, options: &str| MountFacts {
            device: (0, minor),
            file_system: file_system.into(),
            options: options.into(),
            ..MountFacts::default()
        };
        let facts = ContainerFacts {
            processes: vec![ProcessFacts { files: vec![OpenFile { fd: 3, kind }], ..ProcessFacts::default() }],
            mounts: vec![mount(1, "overlay", "rw"), mount(2, "overlay", "rw,nfs_export=on"), mount(3, "tmpfs", "rw")],
            ..ContainerFacts::default()
        };
        assert_eq!(overlay_watches(&facts), HashSet::from([1]));
    }
}
