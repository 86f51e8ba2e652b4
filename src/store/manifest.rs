//! A checkpoint's manifest: JSON that says where it comes from, what container it is of, and what every file in
//! it must be.
//!
//! The format's number is read before anything else is believed. Within a format, fields that this version does
//! not know are passed over, so that a newer one may add some; what changes the meaning of others gets a new number.
//!
//! Names of variants and fields are part of the format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::address::{InterfaceAddress, MacAddress};
use super::id::{CheckpointId, CheckpointName, ContainerId};
use super::layout;
use crate::archive::{Digest, FileEntry, RelPath};

/// The format that is written.
pub const FORMAT: u32 = 1;
/// Longest manifest that is read or written, in bytes.
pub const MAX_BYTES: u64 = 64 << 20;
/// Most files, of images and extra together.
pub const MAX_FILES: usize = 1_000_000;

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is longer than [`MAX_BYTES`].
    #[error("longer than {MAX_BYTES} bytes")]
    TooLong,
    /// It is not JSON, or a field is missing or malformed.
    #[error("malformed")]
    Json(#[from] serde_json::Error),
    /// It is of a format this version cannot read.
    #[error("has format {found}, this version reads format {FORMAT}")]
    Format { found: u32 },
    /// Its lists contradict themselves.
    #[error("{0}")]
    Inconsistent(String),
}

/// What a checkpoint says about itself. Units: bytes, microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`] when it was written.
    pub format: u32,
    pub id: CheckpointId,
    /// What the operator named it.
    #[serde(default)]
    pub name: Option<CheckpointName>,
    /// When the container was frozen.
    pub created: Timestamp,
    /// Version of transship that made it.
    pub transship: String,
    pub origin: Origin,
    pub container: Container,
    /// Checkpoints frozen in one go, because their containers share a network namespace: the namespace's owner
    /// first, this one among them. Empty for a container by itself.
    #[serde(default)]
    pub group: Vec<CheckpointId>,
    pub dump: Dump,
    pub network: Network,
    /// How long each phase took, in microseconds.
    #[serde(default)]
    pub timings: BTreeMap<String, u64>,
    /// CRIU's images and runc's, below `images/`.
    pub images: Vec<FileEntry>,
    /// Links between directories of images.
    #[serde(default)]
    pub parents: Vec<ParentLink>,
    /// The container's writable layer, where it was captured.
    #[serde(default)]
    pub rootfs: Option<RootfsEntry>,
    /// Small files beside, as connection tracking entries, below `extra/`.
    #[serde(default)]
    pub extra: Vec<FileEntry>,
}

/// The host a checkpoint was made on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub hostname: String,
    /// As `uname -r` prints it.
    pub kernel: String,
    /// Version of dockerd.
    pub engine: String,
    #[serde(default)]
    pub containerd: Option<String>,
    pub runc: String,
    pub criu: String,
    pub cgroup: CgroupVersion,
    /// As `uname -m` prints it.
    pub architecture: String,
    /// Docker's storage driver, as `overlay2`.
    pub storage_driver: String,
}

/// Which hierarchy a host's containers live in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupVersion {
    V1,
    V2,
}

/// The container a checkpoint is of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    pub id: ContainerId,
    /// Without Docker's leading slash.
    pub name: String,
    /// What the container was made from, as `redis:8`.
    pub image: String,
    /// The image's digest, as `sha256:...`.
    pub image_id: String,
    /// What `docker inspect` says, reduced to what makes such a container again.
    pub spec: serde_json::Value,
}

/// What was dumped, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// Established TCP connections are in it.
    pub tcp_established: bool,
    /// The container has a terminal.
    pub tty: bool,
    /// The processes were left (frozen) after the dump.
    pub leave_running: bool,
    /// Memory is not in the images: it follows from the processes while they stand still, and goes with them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory_follows: bool,
    pub processes: u32,
    /// Pids, in the container's pid namespace, that were stopped already and have to stay so.
    #[serde(default)]
    pub stopped_pids: Vec<i32>,
    /// Bytes of memory pages.
    pub pages_bytes: u64,
}

/// The container's network as it was.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Network {
    /// The host name in the container's UTS namespace.
    pub hostname: String,
    #[serde(default)]
    pub interfaces: Vec<Interface>,
}

/// One interface in the container's network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    pub name: String,
    #[serde(default)]
    pub mac: Option<MacAddress>,
    #[serde(default)]
    pub addresses: Vec<InterfaceAddress>,
}

/// The captured writable layer. Paths are the store's own; lengths and digests are of the uncompressed tars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootfsEntry {
    pub base: FileEntry,
    /// What changed between the capture of the base and the freeze.
    #[serde(default)]
    pub delta: Option<FileEntry>,
}

/// CRIU's link from a directory of images to that of the dump before (`--prev-images-dir`): it is always named
/// `parent`, and leads to a directory beside the one that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentLink {
    /// The link, below `images/`.
    pub path: RelPath,
    /// Name of the directory beside; the link's text is `../` and this.
    pub sibling: RelPath,
}

impl ParentLink {
    /// The name CRIU gives such links.
    pub const NAME: &str = "parent";

    /// The link at `path` with text `target`, if it is one of CRIU's.
    pub fn new(path: RelPath, target: &str) -> Option<Self> {
        let sibling = RelPath::new(target.trim_end_matches('/').strip_prefix("../")?).ok()?;
        let link = Self { path, sibling };
        link.is_valid().then_some(link)
    }

    /// The link's text.
    pub fn target(&self) -> String {
        format!("../{}", self.sibling)
    }

    fn is_valid(&self) -> bool {
        // One level up from a directory below `images/` is still below it, or `images/` itself.
        self.path.file_name() == Self::NAME && self.path.parent().is_some() && self.sibling.parent().is_none()
    }
}

#[derive(Deserialize)]
struct Header {
    format: u32,
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(ManifestError::TooLong);
        }
        let Header { format } = serde_json::from_slice(bytes)?;
        if format != FORMAT {
            return Err(ManifestError::Format { found: format });
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks a manifest and writes it as it is stored; its digest is of these bytes.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        match bytes.len() as u64 > MAX_BYTES {
            true => Err(ManifestError::TooLong),
            false => Ok(bytes),
        }
    }

    /// The tars in the checkpoint's directory.
    pub fn tars(&self) -> impl Iterator<Item = &FileEntry> {
        self.rootfs.iter().flat_map(|rootfs| std::iter::once(&rootfs.base).chain(&rootfs.delta))
    }

    /// Every file, with where it lies in a checkpoint's directory, uncompressed. By the number that it has here peers ask
    /// for it.
    pub fn files(&self) -> impl Iterator<Item = (PathBuf, &FileEntry)> {
        let images = self.images.iter().map(|entry| (entry.path.below(Path::new(layout::IMAGES)), entry));
        let tars = self.tars().map(|entry| (PathBuf::from(entry.path.as_str()), entry));
        let extra = self.extra.iter().map(|entry| (entry.path.below(Path::new(layout::EXTRA)), entry));
        images.chain(tars).chain(extra)
    }

    /// Bytes of all files, uncompressed.
    pub fn total_bytes(&self) -> u64 {
        // Cannot overflow: `check` has seen to it.
        self.images.iter().chain(&self.extra).chain(self.tars()).map(|entry| entry.length).sum()
    }

    fn check(&self) -> Result<(), ManifestError> {
        if self.format != FORMAT {
            return Err(ManifestError::Format { found: self.format });
        }
        self.check_files()?;
        self.check_parents()?;
        self.check_rootfs()?;
        self.check_group()
    }

    fn check_files(&self) -> Result<(), ManifestError> {
        if self.images.len() + self.extra.len() > MAX_FILES {
            return Err(inconsistent(format!("lists more than {MAX_FILES} files")));
        }
        check_paths(self.images.iter().map(|entry| &entry.path).chain(self.parents.iter().map(|link| &link.path)))?;
        check_paths(self.extra.iter().map(|entry| &entry.path))?;
        let mut lengths = self.images.iter().chain(&self.extra).chain(self.tars()).map(|entry| entry.length);
        match lengths.try_fold(0u64, |sum, length| sum.checked_add(length)) {
            Some(_) => Ok(()),
            None => Err(inconsistent("lists files of more bytes than there can be".into())),
        }
    }

    fn check_parents(&self) -> Result<(), ManifestError> {
        match self.parents.iter().find(|link| !link.is_valid()) {
            Some(link) => Err(inconsistent(format!("lists {:?} as a link to parent images", link.path.as_str()))),
            None => Ok(()),
        }
    }

    fn check_rootfs(&self) -> Result<(), ManifestError> {
        let expected = [layout::ROOTFS_BASE, layout::ROOTFS_DELTA];
        match self.tars().zip(expected).find(|(entry, name)| entry.path.as_str() != *name) {
            Some((entry, name)) => Err(inconsistent(format!("names {:?} instead of {name:?}", entry.path.as_str()))),
            None => Ok(()),
        }
    }

    fn check_group(&self) -> Result<(), ManifestError> {
        let members: std::collections::HashSet<_> = self.group.iter().collect();
        if members.len() != self.group.len() || !(self.group.is_empty() || members.contains(&self.id)) {
            return Err(inconsistent("is in a group that repeats a member or lacks this checkpoint".into()));
        }
        Ok(())
    }
}

/// No path may be there twice, nor be a directory to another.
fn check_paths<'a>(paths: impl Iterator<Item = &'a RelPath>) -> Result<(), ManifestError> {
    let mut paths: Vec<&str> = paths.map(RelPath::as_str).collect();
    // By component, so that what lies below a path follows right behind it.
    paths.sort_unstable_by(|a, b| a.split('/').cmp(b.split('/')));
    let clash = paths
        .windows(2)
        .find(|pair| pair[1].strip_prefix(pair[0]).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    match clash {
        Some(pair) => Err(inconsistent(format!("lists both {:?} and {:?}", pair[0], pair[1]))),
        None => Ok(()),
    }
}

fn inconsistent(fault: String) -> ManifestError {
    ManifestError::Inconsistent(fault)
}

/// The digest of a manifest's bytes, which a claim refers to.
pub fn digest(json: &[u8]) -> Digest {
    Digest::of(json)
}

#[cfg(test)]
mod tests;
