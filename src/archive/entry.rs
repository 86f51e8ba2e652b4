//! What a list of files is made of: a path that is safe to join, a length and a digest.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest relative path, in bytes. CRIU's own names stay under 64.
pub const MAX_PATH_BYTES: usize = 1024;
/// Most components of a relative path.
pub const MAX_PATH_DEPTH: usize = 16;
/// Longest component, in bytes: `NAME_MAX` of every file system Linux offers.
const MAX_COMPONENT_BYTES: usize = 255;

/// Why a path was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// The path has no bytes.
    #[error("relative path is empty")]
    Empty,
    /// The path is longer than [`MAX_PATH_BYTES`].
    #[error("relative path has {bytes} bytes, at most {MAX_PATH_BYTES} are allowed")]
    TooLong { bytes: usize },
    /// The path has more components than [`MAX_PATH_DEPTH`].
    #[error("relative path {path:?} is {depth} levels deep, at most {MAX_PATH_DEPTH} are allowed")]
    TooDeep { path: String, depth: usize },
    /// A component is empty (also: a leading or trailing slash), `.`, `..`, too long or has a NUL.
    #[error("relative path {path:?} has the forbidden component {component:?}")]
    Component { path: String, component: String },
}

/// A path below some directory that cannot leave it: no `..`, not absolute, no empty component.
///
/// It is text: CRIU's image names are ASCII. Paths of a container's own files, which may be any bytes, never
/// take this form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(String);

impl RelPath {
    /// Checks `path` and takes it.
    pub fn new(path: impl Into<String>) -> Result<Self, PathFault> {
        let path = path.into();
        check(&path)?;
        Ok(Self(path))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path below `dir`.
    pub fn below(&self, dir: &Path) -> PathBuf {
        dir.join(&self.0)
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The path without its last component, if it has more than one.
    pub fn parent(&self) -> Option<&str> {
        self.0.rsplit_once('/').map(|(parent, _)| parent)
    }
}

fn check(path: &str) -> Result<(), PathFault> {
    if path.is_empty() {
        return Err(PathFault::Empty);
    }
    if path.len() > MAX_PATH_BYTES {
        return Err(PathFault::TooLong { bytes: path.len() });
    }
    let depth = path.split('/').count();
    if depth > MAX_PATH_DEPTH {
        return Err(PathFault::TooDeep {
            path: path.into(),
            depth,
        });
    }
    match path.split('/').find(|component| !is_plain(component)) {
        Some(component) => Err(PathFault::Component {
            path: path.into(),
            component: component.into(),
        }),
        None => Ok(()),
    }
}

fn is_plain(component: &str) -> bool {
    !matches!(component, "" | "." | "..")
        && component.len() <= MAX_COMPONENT_BYTES
        && !component.contains('\0')
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RelPath {
    type Err = PathFault;

    fn from_str(text: &str) -> Result<Self, PathFault> {
        Self::new(text)
    }
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A BLAKE3 digest, written as 64 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// Text that is not 64 lowercase hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a BLAKE3 digest of 64 lowercase hex digits")]
pub struct DigestFault {
    text: String,
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        blake3::hash(bytes).into()
    }

    /// The digest's 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash.into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = DigestFault;

    fn from_str(text: &str) -> Result<Self, DigestFault> {
        let fault = || DigestFault {
            text: text.chars().take(80).collect(),
        };
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(fault());
        }
        blake3::Hash::from_hex(text)
            .map(Self::from)
            .map_err(|_| fault())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// One file of a checkpoint as it must be, uncompressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Where it lies, below a directory that the list's owner names.
    pub path: RelPath,
    /// Its length in bytes, holes included.
    pub length: u64,
    /// The BLAKE3 digest of its contents, holes read as zeros.
    pub blake3: Digest,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Component;

    #[test]
    fn paths_that_leave_their_directory_are_refused() {
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "a//b",
            "a/",
            ".",
            "..",
            "a/../b",
            "./a",
            "a\0b",
        ] {
            assert!(RelPath::new(bad).is_err(), "{bad:?}");
        }
        assert!(RelPath::new("a/".repeat(MAX_PATH_DEPTH) + "b").is_err());
        assert!(RelPath::new("a".repeat(256)).is_err());
        assert_eq!(
            RelPath::new("pre/1/pages-1.img").unwrap().file_name(),
            "pages-1.img"
        );
    }

    #[test]
    fn a_digest_is_lowercase_hex_only() {
        let digest = Digest::of(b"x");
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        assert!(digest.to_string().to_uppercase().parse::<Digest>().is_err());
        assert!("00".parse::<Digest>().is_err());
    }

    proptest! {
        #[test]
        fn every_accepted_path_has_only_normal_components(text in "[a./\\x00b]{0,12}") {
            if let Ok(path) = RelPath::new(text) {
                let joined = path.below(Path::new("/root"));
                prop_assert!(joined.starts_with("/root") && joined != Path::new("/root"));
                prop_assert!(Path::new(path.as_str()).components().all(|c| matches!(c, Component::Normal(_))));
            }
        }
    }
}
