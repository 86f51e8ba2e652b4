//! I4: nothing is restored whose digests were not verified in full.
//!
//! [`Verified`] is the proof: only the functions here make one, and a claim is made from one.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::ahead::Ahead;
use super::checkpoint::{Checkpoint, Form};
use super::claims::Claim;
use super::error::{Damage, FileFault, StoreError};
use super::id::{CheckpointId, ContainerId};
use super::layout;
use super::manifest::{Manifest, ParentLink};
use super::tree::{self, Node};
use crate::archive::hash::{HashFault, HashJob};
use crate::archive::{Digest, FileEntry, Progress, images};

/// Proof that every file of a checkpoint is what its manifest says.
#[derive(Debug, Clone)]
pub struct Verified {
    id: CheckpointId,
    manifest_digest: Digest,
    images: Option<PathBuf>,
}

impl Verified {
    /// The checkpoint's id.
    pub fn id(&self) -> &CheckpointId {
        &self.id
    }

    /// The digest of the manifest it was verified against.
    pub fn manifest_digest(&self) -> Digest {
        self.manifest_digest
    }

    /// The verified raw images; `None` for a packed checkpoint that was only looked through.
    pub fn images(&self) -> Option<&Path> {
        self.images.as_deref()
    }

    /// The claim that has the next create of `container` restore this checkpoint; `gate` is the socket at which the
    /// interposer asks before it goes on.
    pub fn claim(&self, container: ContainerId, gate: PathBuf) -> Claim {
        Claim::new(container, self.id.clone(), self.manifest_digest.to_string(), gate)
    }
}

impl Checkpoint {
    /// Compares every file with the manifest, in parallel. `progress` is told of uncompressed bytes,
    /// [`Manifest::total_bytes`] in all.
    ///
    /// Where images lie there raw and packed, it is the raw ones that count.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] names the files and how each differs; in an archive, the first only.
    pub fn verify(&self, progress: Progress<'_>) -> Result<Verified, StoreError> {
        contents(&self.dir(), self.manifest(), &Ahead::default(), progress)?;
        let images = matches!(self.form()?, Form::Raw | Form::Both).then(|| self.images_dir());
        Ok(self.verified(images))
    }

    /// Makes `dir`, which must not exist, with the images of a packed checkpoint, and verifies the checkpoint in the
    /// same pass. For one that lies there raw it copies them.
    ///
    /// # Errors
    /// As [`Checkpoint::verify`]. Nothing is left of `dir` then.
    pub fn unpack_to(&self, dir: &Path, progress: Progress<'_>) -> Result<Verified, StoreError> {
        let manifest = self.manifest();
        let checkpoint_dir = self.dir();
        let mut check = Check::new(&checkpoint_dir, manifest);
        check.extra()?;
        check.tars(progress)?;
        let entries = &manifest.images;
        match self.form()? {
            Form::Packed => {
                let file = open_packed_images(&checkpoint_dir)?;
                images::unpack(file, entries, Some(dir), progress)
            }
            Form::Raw | Form::Both => images::copy(&self.images_dir(), entries, dir, progress),
        }
        .map_err(StoreError::archive("unpack", self.id()))?;
        let outcome = check.finish(&Ahead::default(), progress).and_then(|()| link_parents(dir, &manifest.parents));
        if let Err(error) = outcome {
            // The first error is the one that says what happened.
            let _ = fs::remove_dir_all(dir);
            return Err(error);
        }
        Ok(self.verified(Some(dir.to_owned())))
    }

    fn verified(&self, images: Option<PathBuf>) -> Verified {
        Verified { id: self.id().clone(), manifest_digest: self.manifest_digest(), images }
    }
}

/// Compares everything in `dir`, a checkpoint's or one that is to be, with `manifest`. What is known `ahead` is not
/// hashed again.
pub(super) fn contents(
    dir: &Path,
    manifest: &Manifest,
    ahead: &Ahead,
    progress: Progress<'_>,
) -> Result<(), StoreError> {
    let mut check = Check::new(dir, manifest);
    check.images(progress)?;
    check.extra()?;
    check.tars(progress)?;
    check.finish(ahead, progress)
}

fn open_packed_images(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(layout::PACKED_IMAGES);
    File::open(&path).map_err(StoreError::io("open", &path))
}

pub(super) fn link_parents(dir: &Path, parents: &[ParentLink]) -> Result<(), StoreError> {
    for link in parents {
        let path = link.path.below(dir);
        std::os::unix::fs::symlink(link.target(), &path).map_err(StoreError::io("create link", &path))?;
    }
    Ok(())
}

/// A check under way: raw files are collected and hashed together, archives are looked through as they come.
struct Check<'a> {
    dir: &'a Path,
    manifest: &'a Manifest,
    raw: Vec<(String, HashJob, Digest)>,
    faults: Vec<FileFault>,
}

impl<'a> Check<'a> {
    fn new(dir: &'a Path, manifest: &'a Manifest) -> Self {
        Self { dir, manifest, raw: Vec::new(), faults: Vec::new() }
    }

    fn images(&mut self, progress: Progress<'_>) -> Result<(), StoreError> {
        if self.dir.join(layout::IMAGES).is_dir() {
            return self.tree(layout::IMAGES, &self.manifest.images, &self.manifest.parents);
        }
        match self.dir.join(layout::PACKED_IMAGES).is_file() {
            true => images::unpack(open_packed_images(self.dir)?, &self.manifest.images, None, progress)
                .map_err(StoreError::archive("verify", &self.manifest.id)),
            false => Err(StoreError::NoImages { id: self.manifest.id.clone() }),
        }
    }

    fn extra(&mut self) -> Result<(), StoreError> {
        self.tree(layout::EXTRA, &self.manifest.extra, &[])
    }

    fn tars(&mut self, progress: Progress<'_>) -> Result<(), StoreError> {
        for entry in self.manifest.tars() {
            let raw = entry.path.below(self.dir);
            let packed = self.dir.join(format!("{}{}", entry.path, layout::PACKED_SUFFIX));
            if raw.symlink_metadata().is_err() && packed.is_file() {
                let file = File::open(&packed).map_err(StoreError::io("open", &packed))?;
                images::unpack_file(file, entry, None, progress)
                    .map_err(StoreError::archive("verify", &self.manifest.id))?;
            } else {
                self.file(entry.path.to_string(), raw, entry);
            }
        }
        Ok(())
    }

    /// Holds what lies below the directory `name` against its lists, both ways: CRIU looks for images by name, so
    /// one that is not listed may not lie there either.
    fn tree(&mut self, name: &str, entries: &[FileEntry], parents: &[ParentLink]) -> Result<(), StoreError> {
        let dir = self.dir.join(name);
        let mut links: HashMap<_, _> = parents.iter().map(|link| (&link.path, link)).collect();
        let listed: HashMap<_, _> = entries.iter().map(|entry| (&entry.path, entry)).collect();
        for (path, node) in tree::list(&dir)? {
            let damage = match (node, listed.contains_key(&path), links.remove(&path)) {
                (Node::Link(target), _, Some(link)) if target.trim_end_matches('/') == link.target() => {
                    continue;
                }
                (_, true, _) => continue,
                (_, _, Some(_)) => Damage::Link,
                _ => Damage::Unlisted,
            };
            self.faults.push(FileFault { file: format!("{name}/{path}"), damage });
        }
        for path in links.into_keys() {
            self.faults.push(FileFault { file: format!("{name}/{path}"), damage: Damage::Hash(HashFault::Missing) });
        }
        for entry in entries {
            self.file(format!("{name}/{}", entry.path), entry.path.below(&dir), entry);
        }
        Ok(())
    }

    fn file(&mut self, name: String, path: PathBuf, entry: &FileEntry) {
        self.raw.push((name, HashJob { path, length: entry.length }, entry.blake3));
    }

    fn finish(mut self, ahead: &Ahead, progress: Progress<'_>) -> Result<(), StoreError> {
        let jobs: Vec<_> = self.raw.iter().map(|(_, job, _)| job.clone()).collect();
        for ((file, _, expected), found) in self.raw.into_iter().zip(ahead.complete(&jobs, progress)) {
            let damage = match found {
                Ok(digest) if digest == expected => continue,
                Ok(_) => Damage::Digest,
                Err(fault) => Damage::Hash(fault),
            };
            self.faults.push(FileFault { file, damage });
        }
        match self.faults.is_empty() {
            true => Ok(()),
            false => Err(StoreError::Damaged { id: self.manifest.id.clone(), faults: self.faults }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::images::{Compression, Watch};
    use crate::store::testing::{catalog, sealed};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    fn faults(checkpoint: &Checkpoint) -> Vec<(String, String)> {
        match checkpoint.verify(&|_| ()) {
            Err(StoreError::Damaged { faults, .. }) => {
                faults.into_iter().map(|fault| (fault.file, fault.damage.to_string())).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn pack(checkpoint: &Checkpoint) {
        let watch = Watch { progress: &|_| (), cancel: &AtomicBool::new(false) };
        checkpoint.pack(Compression::default(), watch).unwrap();
    }

    #[test]
    fn i4_every_kind_of_damage_is_named() {
        let (_dir, catalog) = catalog();
        let checkpoint = sealed(&catalog);
        let images = checkpoint.images_dir();
        fs::write(images.join("core-1.img"), b"c0re").unwrap();
        fs::write(images.join("pre/pages-1.img"), b"short").unwrap();
        fs::remove_file(images.join("final/pages-1.img")).unwrap();
        fs::write(images.join("new.img"), b"").unwrap();
        fs::remove_file(images.join("final/parent")).unwrap();
        std::os::unix::fs::symlink("../../extra", images.join("final/parent")).unwrap();
        fs::write(checkpoint.dir().join("rootfs-delta.tar"), b"atled").unwrap();
        let mut found = faults(&checkpoint);
        found.sort();
        let expected = [
            ("images/core-1.img", "wrong digest"),
            ("images/final/pages-1.img", "missing"),
            ("images/final/parent", "link with another target"),
            ("images/new.img", "not in the manifest"),
            ("images/pre/pages-1.img", "has 5 bytes instead of 300000"),
            ("rootfs-delta.tar", "wrong digest"),
        ];
        assert_eq!(found, expected.map(|(file, damage)| (file.to_owned(), damage.to_owned())));
    }

    #[test]
    fn progress_adds_up_in_either_form() {
        let (_dir, catalog) = catalog();
        let checkpoint = sealed(&catalog);
        let total = checkpoint.manifest().total_bytes();
        let seen = || {
            let done = AtomicU64::new(0);
            checkpoint.verify(&|n| _ = done.fetch_add(n, Ordering::Relaxed)).unwrap();
            done.into_inner()
        };
        assert_eq!(seen(), total);
        pack(&checkpoint);
        assert_eq!(seen(), total);
    }

    #[test]
    fn i4_unpacking_verifies_everything_and_leaves_nothing_of_a_damaged_checkpoint() {
        let (_dir, catalog) = catalog();
        let checkpoint = sealed(&catalog);
        pack(&checkpoint);
        let (good, bad) = (catalog.layout().tmp().join("good"), catalog.layout().tmp().join("bad"));
        let verified = checkpoint.unpack_to(&good, &|_| ()).unwrap();
        assert_eq!(verified.images(), Some(good.as_path()));
        assert_eq!(fs::read(good.join("final/parent/pages-1.img")).unwrap(), vec![9; 300_000]);
        assert!(checkpoint.unpack_to(&good, &|_| ()).is_err(), "unpacked into a directory that was there");
        assert!(good.exists());
        for file in ["extra/conntrack.json", "rootfs.tar.zst", "images.tar.zst"] {
            let path = checkpoint.dir().join(file);
            let mut bytes = fs::read(&path).unwrap();
            let original = bytes.clone();
            bytes[1] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert!(checkpoint.unpack_to(&bad, &|_| ()).is_err(), "{file}");
            assert!(checkpoint.verify(&|_| ()).is_err(), "{file}");
            assert!(!bad.exists(), "{file}");
            fs::write(&path, original).unwrap();
        }
    }

    #[test]
    fn i4_a_claim_carries_the_digest_that_was_verified() {
        let (_dir, catalog) = catalog();
        let checkpoint = sealed(&catalog);
        let verified = checkpoint.verify(&|_| ()).unwrap();
        assert_eq!(verified.images(), Some(checkpoint.images_dir().as_path()));
        let claim = verified.claim(checkpoint.manifest().container.id.clone(), "/run/gate".into());
        let bytes = fs::read(checkpoint.manifest_path()).unwrap();
        assert_eq!(claim.manifest, blake3::hash(&bytes).to_string());
    }
}
