//! Checkpoints for tests.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::manifest::{CgroupVersion, Container, Dump, FORMAT, Interface, Manifest, Network, Origin, RootfsEntry};
use super::{Catalog, Checkpoint, CheckpointId, Layout};
use crate::archive::{Digest, FileEntry, RelPath};
use crate::store::staging::Durability;

/// The entry of a file with these contents.
pub fn entry(path: &str, bytes: &[u8]) -> FileEntry {
    FileEntry { path: RelPath::new(path).unwrap(), length: bytes.len() as u64, blake3: Digest::of(bytes) }
}

/// A manifest with one of everything.
pub fn manifest() -> Manifest {
    Manifest {
        format: FORMAT,
        id: CheckpointId::random().unwrap(),
        name: Some("before-upgrade".parse().unwrap()),
        created: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        transship: "0.1.0".into(),
        origin: Origin {
            hostname: "alpha".into(),
            kernel: "6.12.0".into(),
            engine: "28.5.2".into(),
            containerd: Some("2.1.9".into()),
            runc: "1.3.6".into(),
            criu: "4.2.1".into(),
            cgroup: CgroupVersion::V2,
            architecture: "x86_64".into(),
            storage_driver: "overlay2".into(),
        },
        container: Container {
            id: "ab".repeat(32).parse().unwrap(),
            name: "web".into(),
            image: "nginx:1".into(),
            image_id: format!("sha256:{}", "cd".repeat(32)),
            spec: serde_json::json!({"Config": {"Tty": false}}),
        },
        group: Vec::new(),
        dump: Dump {
            tcp_established: true,
            tty: false,
            leave_running: false,
            memory_follows: false,
            processes: 3,
            stopped_pids: vec![7],
            pages_bytes: 4096,
        },
        network: Network {
            hostname: "abababababab".into(),
            interfaces: vec![Interface {
                name: "eth0".into(),
                mac: Some("02:42:ac:11:00:02".parse().unwrap()),
                addresses: vec!["172.17.0.2/16".parse().unwrap()],
            }],
        },
        timings: [("freeze".to_owned(), 1500)].into(),
        images: vec![entry("core-1.img", b"core"), entry("pages-1.img", b"pages")],
        parents: Vec::new(),
        rootfs: Some(RootfsEntry { base: entry("rootfs.tar", b"base"), delta: None }),
        extra: vec![entry("conntrack.json", b"[]")],
    }
}

/// An empty store.
pub fn catalog() -> (TempDir, Catalog) {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(Layout::open(dir.path().join("store")).unwrap());
    (dir, catalog)
}

/// Puts what a dump would leave into a staging directory.
pub fn fill(dir: &Path) {
    fs::write(dir.join("images/core-1.img"), b"core").unwrap();
    fs::create_dir_all(dir.join("images/pre")).unwrap();
    fs::write(dir.join("images/pre/pages-1.img"), vec![9; 300_000]).unwrap();
    fs::create_dir_all(dir.join("images/final")).unwrap();
    fs::write(dir.join("images/final/pages-1.img"), b"pages").unwrap();
    std::os::unix::fs::symlink("../pre", dir.join("images/final/parent")).unwrap();
    fs::create_dir_all(dir.join("extra")).unwrap();
    fs::write(dir.join("extra/conntrack.json"), b"[]").unwrap();
    fs::write(dir.join("rootfs.tar"), vec![1; 50_000]).unwrap();
    fs::write(dir.join("rootfs-delta.tar"), b"delta").unwrap();
}

/// A sealed checkpoint with everything in it.
pub fn sealed(catalog: &Catalog) -> Checkpoint {
    sealed_with(catalog, |_| ())
}

/// The same, with a manifest that `change` has been at.
pub fn sealed_with(catalog: &Catalog, change: impl FnOnce(&mut Manifest)) -> Checkpoint {
    let mut manifest = manifest();
    change(&mut manifest);
    let staging = catalog.begin(&manifest.id).unwrap();
    fill(staging.dir());
    staging.seal(manifest, Durability::Deferred, &|_| ()).unwrap()
}
