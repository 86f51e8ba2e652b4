//! A checkpoint as it lies in the store.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::fsync;
use super::id::CheckpointId;
use super::layout::{self, Layout};
use super::manifest::{self, Manifest, ManifestError};
use super::tree;
use crate::archive::{Digest, FileEntry, images};

/// In which form a checkpoint's images lie there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As CRIU wrote them: restorable in place.
    Raw,
    /// In one compressed archive.
    Packed,
    /// In both, while it is packed, or after that was cut short.
    Both,
}

/// A whole checkpoint: its manifest was read and is sound. Its files are believed only once they are verified.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub(crate) layout: Layout,
    manifest: Manifest,
    manifest_digest: Digest,
}

impl Checkpoint {
    /// The checkpoint `id`.
    pub(super) fn open(layout: &Layout, id: &CheckpointId) -> Result<Self, StoreError> {
        let dir = layout.checkpoint(id);
        let path = dir.join(layout::MANIFEST);
        let json = read_manifest(&path)?;
        let manifest =
            Manifest::from_json(&json).map_err(|source| StoreError::Manifest { path, source })?;
        if manifest.id != *id {
            return Err(StoreError::WrongId {
                path: dir,
                found: manifest.id,
            });
        }
        Ok(Self::assemble(
            layout.clone(),
            manifest,
            manifest::digest(&json),
        ))
    }

    pub(super) fn assemble(layout: Layout, manifest: Manifest, manifest_digest: Digest) -> Self {
        Self {
            layout,
            manifest,
            manifest_digest,
        }
    }

    /// Its id.
    pub fn id(&self) -> &CheckpointId {
        &self.manifest.id
    }

    /// What it says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The digest of the manifest's bytes, and by the digests therein of everything.
    pub fn manifest_digest(&self) -> Digest {
        self.manifest_digest
    }

    /// Its directory.
    pub fn dir(&self) -> PathBuf {
        self.layout.checkpoint(self.id())
    }

    /// Where its manifest lies.
    pub fn manifest_path(&self) -> PathBuf {
        self.dir().join(layout::MANIFEST)
    }

    /// The directory of raw images, whether it is there or not.
    pub fn images_dir(&self) -> PathBuf {
        self.dir().join(layout::IMAGES)
    }

    /// Where one of the manifest's `extra` files lies.
    pub fn extra_path(&self, entry: &FileEntry) -> PathBuf {
        entry.path.below(&self.dir().join(layout::EXTRA))
    }

    /// In which form its images lie there.
    ///
    /// # Errors
    /// [`StoreError::NoImages`] when they lie there in none.
    pub fn form(&self) -> Result<Form, StoreError> {
        let raw = self.images_dir().is_dir();
        let packed = self.dir().join(layout::PACKED_IMAGES).is_file();
        match (raw, packed) {
            (true, false) => Ok(Form::Raw),
            (false, true) => Ok(Form::Packed),
            (true, true) => Ok(Form::Both),
            (false, false) => Err(StoreError::NoImages {
                id: self.id().clone(),
            }),
        }
    }

    /// Bytes it takes on disk.
    pub fn disk_usage(&self) -> u64 {
        tree::disk_usage(&self.dir())
    }

    /// Writes its contents out to disk, for a checkpoint that was sealed with
    /// [`Durability::Deferred`](super::staging::Durability::Deferred).
    pub fn sync(&self) -> Result<(), StoreError> {
        fsync::file_system(&self.dir())
    }

    /// A reader of one of the manifest's tars, uncompressed, whichever form it lies there in.
    ///
    /// What is read is compared with the entry: in place of its end the reader gives an error when the length or the
    /// digest is another (I4). So whatever was made of it must not be used before its end was seen.
    pub fn open_tar(&self, entry: &FileEntry) -> Result<Box<dyn Read + Send>, StoreError> {
        let raw = entry.path.below(&self.dir());
        match File::open(&raw) {
            Ok(file) => Ok(Box::new(Verifying::new(file, entry))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let packed = self.packed_tar(entry);
                let file = File::open(&packed).map_err(StoreError::io("open", &packed))?;
                let decoder =
                    images::decoder(file).map_err(StoreError::archive("decompress", self.id()))?;
                Ok(Box::new(Verifying::new(decoder, entry)))
            }
            Err(error) => Err(StoreError::io("open", &raw)(error)),
        }
    }

    /// Where one of the manifest's tars lies once it is compressed.
    pub(super) fn packed_tar(&self, entry: &FileEntry) -> PathBuf {
        self.dir()
            .join(format!("{}{}", entry.path, layout::PACKED_SUFFIX))
    }
}

fn read_manifest(path: &Path) -> Result<Vec<u8>, StoreError> {
    let mut json = Vec::new();
    let mut read = || {
        File::open(path)?
            .take(manifest::MAX_BYTES + 1)
            .read_to_end(&mut json)
    };
    read().map_err(StoreError::io("read", path))?;
    match json.len() as u64 > manifest::MAX_BYTES {
        true => Err(StoreError::Manifest {
            path: path.to_owned(),
            source: ManifestError::TooLong,
        }),
        false => Ok(json),
    }
}

/// Gives an error in place of the end when what was read is not what the entry says.
struct Verifying<R> {
    input: R,
    hasher: blake3::Hasher,
    entry: FileEntry,
    done: u64,
}

impl<R: Read> Verifying<R> {
    fn new(input: R, entry: &FileEntry) -> Self {
        Self {
            input,
            hasher: blake3::Hasher::new(),
            entry: entry.clone(),
            done: 0,
        }
    }

    fn fault(&self, what: &str) -> io::Error {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{:?} {what}", self.entry.path.as_str()),
        )
    }
}

impl<R: Read> Read for Verifying<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.done += count as u64;
        if self.done > self.entry.length {
            return Err(self.fault("is longer than its manifest says"));
        }
        if count == 0 && !buffer.is_empty() {
            if self.done != self.entry.length {
                return Err(self.fault("is shorter than its manifest says"));
            }
            if Digest::from(self.hasher.finalize()) != self.entry.blake3 {
                return Err(self.fault("has another digest than its manifest says"));
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{catalog, sealed};
    use std::fs;

    #[test]
    fn i4_a_tar_with_other_contents_ends_in_an_error() {
        let (_dir, catalog) = catalog();
        let checkpoint = sealed(&catalog);
        let entry = checkpoint.manifest().rootfs.clone().unwrap().base;
        let mut bytes = Vec::new();
        checkpoint
            .open_tar(&entry)
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        assert_eq!(bytes, vec![1; 50_000]);
        for damaged in [vec![2; 50_000], vec![1; 49_999], vec![1; 50_001]] {
            fs::write(checkpoint.dir().join(layout::ROOTFS_BASE), damaged).unwrap();
            assert!(
                checkpoint
                    .open_tar(&entry)
                    .unwrap()
                    .read_to_end(&mut bytes)
                    .is_err()
            );
        }
    }
}
