//! What a checkpoint will take, and what there is.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use crate::checkpoint::preflight::facts::{ContainerFacts, MountFacts};

/// Most files of a writable layer that are counted: enough for nearly all, and done in a tenth of a second.
const MAX_FILES: usize = 50_000;

/// Bytes free for root at `path`.
pub(super) fn free(path: &Path) -> io::Result<u64> {
    let status = statvfs(path)?;
    Ok(status.blocks_available() * status.fragment_size())
}

/// Fills in the sizes of the container's tmpfs mounts and of its writable layer.
pub(super) fn look(facts: &mut ContainerFacts) {
    let root = format!("/proc/{}/root", facts.engine.init_pid);
    let given: Vec<&str> = facts.engine.mounts.iter().map(|mount| mount.destination.as_str()).collect();
    // A tmpfs of the host that is bound into the container is not part of its checkpoint.
    let own = facts.mounts.iter().filter(|mount| {
        let engines = facts.engine.mounts.iter().find(|given| given.destination == mount.mount_point);
        mount.file_system == "tmpfs" && mount.root == "/" && engines.is_none_or(|given| given.kind == "tmpfs")
    });
    let own = own.filter(|mount| !given.iter().any(|above| is_below(&mount.mount_point, above)));
    facts.space.tmpfs = own.map(|mount| used(&format!("{root}{}", mount.mount_point))).sum();
    if let Some(upper) = upper_directory(&facts.mounts) {
        let counted = directory_bytes(Path::new(&upper));
        facts.space.layer = counted.map(|(bytes, _)| bytes);
        facts.space.layer_partly = counted.is_some_and(|(_, partly)| partly);
    }
}

fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

fn used(path: &str) -> u64 {
    statvfs(path).map_or(0, |status| (status.blocks() - status.blocks_free()) * status.fragment_size())
}

/// Where an overlay root keeps what the container wrote.
fn upper_directory(mounts: &[MountFacts]) -> Option<String> {
    let root = mounts.iter().rfind(|mount| mount.mount_point == "/" && mount.file_system == "overlay")?;
    root.options.split(',').find_map(|option| option.strip_prefix("upperdir=")).map(str::to_owned)
}

/// Bytes on disk below `directory`, and whether there are more than were counted.
fn directory_bytes(directory: &Path) -> Option<(u64, bool)> {
    let mut left = vec![fs::read_dir(directory).ok()?];
    let (mut bytes, mut files) = (0u64, 0usize);
    while let Some(entries) = left.pop() {
        for entry in entries.flatten() {
            files += 1;
            if files > MAX_FILES {
                return Some((bytes, true));
            }
            let Ok(meta) = entry.metadata() else { continue };
            bytes = bytes.saturating_add(meta.blocks().saturating_mul(512));
            if meta.is_dir() {
                left.extend(fs::read_dir(entry.path()));
            }
        }
    }
    Some((bytes, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_found_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("a/b")).unwrap();
        fs::write(directory.path().join("a/b/file"), vec![1; 100_000]).unwrap();
        let (bytes, partly) = directory_bytes(directory.path()).unwrap();
        assert!((100_000..200_000).contains(&bytes) && !partly);
        assert_eq!(directory_bytes(Path::new("/nonexistent")), None);
        let mount = MountFacts {
            mount_point: "/".into(),
            file_system: "overlay".into(),
            options: "rw,lowerdir=/l,upperdir=/u/diff,workdir=/w".into(),
            ..MountFacts::default()
        };
        assert_eq!(upper_directory(&[mount]).as_deref(), Some("/u/diff"));
    }

    #[test]
    fn there_is_some_space_somewhere() {
        assert!(free(Path::new("/")).unwrap() > 0);
        assert!(free(Path::new("/nonexistent")).is_err());
        assert!(is_below("/data/x", "/data") && !is_below("/database", "/data"));
    }
}
