//! A checkpoint while it comes to be.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::ahead::Ahead;
use super::checkpoint::Checkpoint;
use super::error::StoreError;
use super::fsync;
use super::id::CheckpointId;
use super::layout::{self, Layout};
use super::manifest::{self, Manifest, ParentLink, RootfsEntry};
use super::tree::{self, Node};
use super::verify;
use crate::archive::hash::HashJob;
use crate::archive::{Digest, FileEntry, Progress, RelPath};

/// When a checkpoint's contents reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Before the checkpoint becomes visible. Takes as long as the disk takes to write all of it.
    Immediate,
    /// Its files were written out one by one as they came; what is left are the directories' names.
    FilesAreOnDisk,
    /// When the kernel gets to it. For a container that is frozen meanwhile: after a loss of power the checkpoint may
    /// be damaged, which its digests show.
    Deferred,
}

/// A directory that becomes a checkpoint, or nothing.
///
/// It is not removed when it is dropped: the dump in it may be the only copy of a container. What is neither sealed
/// nor discarded is swept when the helper starts.
#[derive(Debug)]
pub struct Staging {
    layout: Layout,
    id: CheckpointId,
    dir: PathBuf,
    ahead: Ahead,
}

impl Staging {
    pub(super) fn create(layout: Layout, id: CheckpointId) -> Result<Self, StoreError> {
        let dir = layout.staging_of(&id);
        if layout.checkpoint(&id).symlink_metadata().is_ok() || dir.symlink_metadata().is_ok() {
            return Err(StoreError::Exists { id });
        }
        layout::create_dir(&dir, false)?;
        let staging = Self { layout, id, dir, ahead: Ahead::default() };
        layout::create_dir(&staging.images(), false)?;
        Ok(staging)
    }

    /// The directory that `create` made, by the same helper or one before it.
    pub(super) fn reopen(layout: Layout, id: CheckpointId) -> Option<Self> {
        let dir = layout.staging_of(&id);
        dir.is_dir().then(|| Self { layout, id, dir, ahead: Ahead::default() })
    }

    /// The id it will have.
    pub fn id(&self) -> &CheckpointId {
        &self.id
    }

    /// The directory, for what belongs beside the images: [`layout::ROOTFS_BASE`], [`layout::ROOTFS_DELTA`], files in
    /// [`layout::EXTRA`].
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where CRIU's images go.
    pub fn images(&self) -> PathBuf {
        self.dir.join(layout::IMAGES)
    }

    /// Where small files go, by a path of the caller's below it. Made on first use.
    pub fn extra(&self) -> Result<PathBuf, StoreError> {
        let path = self.dir.join(layout::EXTRA);
        layout::create_dir(&path, false)?;
        Ok(path)
    }

    /// Hashes what lies in the directory by now, so that [`Staging::seal`] or [`Staging::adopt`] need not hash it again
    /// unless it changes. Takes at least 50 ms; to be called while the container still runs. Returns the bytes hashed.
    pub fn hash_ahead(&self, progress: Progress<'_>) -> Result<u64, StoreError> {
        self.ahead.hash(&self.dir, progress)
    }

    /// Makes an empty file for each that a manifest lists, and its links, for whoever fills them.
    pub fn lay_out(&self, manifest: &Manifest) -> Result<(), StoreError> {
        self.check_id(manifest)?;
        for (path, _) in manifest.files() {
            let path = self.dir.join(path);
            if let Some(parent) = path.parent() {
                layout::create_dir(parent, true)?;
            }
            let file = fs::File::options().write(true).create_new(true).mode(0o600).open(&path);
            file.map_err(StoreError::io("create", &path))?;
        }
        verify::link_parents(&self.images(), &manifest.parents)
    }

    /// Hashes everything in the directory, lists it in `manifest`, and makes the checkpoint visible.
    ///
    /// The manifest's own lists of files are replaced. This is the commit point: before its last step there is no
    /// checkpoint, after it there is a whole one.
    ///
    /// # Errors
    /// Nothing is visible then; the directory is as it was, so the call can be repeated.
    pub fn seal(
        &self,
        mut manifest: Manifest,
        durability: Durability,
        progress: Progress<'_>,
    ) -> Result<Checkpoint, StoreError> {
        self.list_into(&mut manifest, progress)?;
        self.check_id(&manifest)?;
        let json = manifest.to_json().map_err(|source| StoreError::Manifest { path: self.manifest_path(), source })?;
        self.commit(&json, manifest, durability)
    }

    /// Takes the manifest of a checkpoint made elsewhere, verifies everything in the directory against it (I4), and
    /// makes the checkpoint visible.
    ///
    /// # Errors
    /// When anything is missing, too much, or differs. Nothing is visible then.
    pub fn adopt(&self, json: &[u8], durability: Durability, progress: Progress<'_>) -> Result<Checkpoint, StoreError> {
        let manifest =
            Manifest::from_json(json).map_err(|source| StoreError::Manifest { path: self.manifest_path(), source })?;
        self.check_id(&manifest)?;
        self.check_stray()?;
        verify::contents(&self.dir, &manifest, &self.ahead, progress)?;
        self.commit(json, manifest, durability)
    }

    /// Removes the directory.
    pub fn discard(self) -> Result<(), StoreError> {
        tree::remove(&self.dir)
    }

    fn manifest_path(&self) -> PathBuf {
        self.dir.join(layout::MANIFEST)
    }

    fn check_id(&self, manifest: &Manifest) -> Result<(), StoreError> {
        match manifest.id == self.id {
            true => Ok(()),
            false => Err(StoreError::WrongId { path: self.dir.clone(), found: manifest.id.clone() }),
        }
    }

    fn list_into(&self, manifest: &mut Manifest, progress: Progress<'_>) -> Result<(), StoreError> {
        self.check_stray()?;
        (manifest.images, manifest.parents) = self.list_images()?;
        manifest.extra = self.list_extra()?;
        manifest.rootfs = self.list_rootfs()?;
        let mut entries: Vec<(PathBuf, &mut FileEntry)> = Vec::new();
        let below = |name: &str| self.dir.join(name);
        entries.extend(manifest.images.iter_mut().map(|entry| (entry.path.below(&below(layout::IMAGES)), entry)));
        entries.extend(manifest.extra.iter_mut().map(|entry| (entry.path.below(&below(layout::EXTRA)), entry)));
        if let Some(RootfsEntry { base, delta }) = &mut manifest.rootfs {
            entries.extend([base].into_iter().chain(delta).map(|entry| (entry.path.below(&self.dir), entry)));
        }
        let jobs: Vec<_> =
            entries.iter().map(|(path, entry)| HashJob { path: path.clone(), length: entry.length }).collect();
        for ((path, entry), digest) in entries.into_iter().zip(self.ahead.complete(&jobs, progress)) {
            entry.blake3 = digest.map_err(|source| StoreError::Hash { path, source })?;
        }
        Ok(())
    }

    /// Nothing may lie in the directory that no list would name.
    fn check_stray(&self) -> Result<(), StoreError> {
        let known = |name: &str| {
            let tars = [layout::ROOTFS_BASE, layout::ROOTFS_DELTA];
            matches!(name, layout::IMAGES | layout::EXTRA | layout::PACKED_IMAGES | layout::MANIFEST)
                || tars.contains(&name.strip_suffix(layout::PACKED_SUFFIX).unwrap_or(name))
        };
        for entry in fs::read_dir(&self.dir).map_err(StoreError::io("list", &self.dir))? {
            let entry = entry.map_err(StoreError::io("list", &self.dir))?;
            if !entry.file_name().to_str().is_some_and(known) {
                return Err(StoreError::StrayFile { path: entry.path() });
            }
        }
        Ok(())
    }

    fn list_images(&self) -> Result<(Vec<FileEntry>, Vec<ParentLink>), StoreError> {
        let dir = self.images();
        let (mut files, mut parents) = (Vec::new(), Vec::new());
        for (path, node) in tree::list(&dir)? {
            match node {
                Node::File(length) => files.push(unhashed(path, length)),
                Node::Link(target) => {
                    let stray = StoreError::StrayFile { path: path.below(&dir) };
                    parents.push(ParentLink::new(path, &target).ok_or(stray)?);
                }
            }
        }
        Ok((files, parents))
    }

    fn list_extra(&self) -> Result<Vec<FileEntry>, StoreError> {
        let dir = self.dir.join(layout::EXTRA);
        let file = |(path, node): (RelPath, Node)| match node {
            Node::File(length) => Ok(unhashed(path, length)),
            Node::Link(_) => Err(StoreError::StrayFile { path: path.below(&dir) }),
        };
        tree::list(&dir)?.into_iter().map(file).collect()
    }

    fn list_rootfs(&self) -> Result<Option<RootfsEntry>, StoreError> {
        let base = self.list_tar(layout::ROOTFS_BASE)?;
        let delta = self.list_tar(layout::ROOTFS_DELTA)?;
        match (base, delta) {
            (Some(base), delta) => Ok(Some(RootfsEntry { base, delta })),
            (None, Some(_)) => Err(StoreError::StrayFile { path: self.dir.join(layout::ROOTFS_DELTA) }),
            (None, None) => Ok(None),
        }
    }

    fn list_tar(&self, name: &'static str) -> Result<Option<FileEntry>, StoreError> {
        let path = self.dir.join(name);
        match path.symlink_metadata() {
            Ok(metadata) => {
                let relative = RelPath::new(name).map_err(|_| StoreError::StrayFile { path })?;
                Ok(Some(unhashed(relative, metadata.len())))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("look at", &path)(error)),
        }
    }

    fn commit(&self, json: &[u8], manifest: Manifest, durability: Durability) -> Result<Checkpoint, StoreError> {
        let temporary = self.dir.join(format!("{}{}", layout::MANIFEST, layout::TEMPORARY_SUFFIX));
        fsync::write_atomically(&self.manifest_path(), &temporary, json)?;
        match durability {
            Durability::Immediate => fsync::file_system(&self.dir)?,
            Durability::FilesAreOnDisk => fsync::directories(&self.dir)?,
            Durability::Deferred => fsync::directory(&self.dir)?,
        }
        // From here on the checkpoint exists.
        fsync::move_new(&self.dir, &self.layout.checkpoint(&self.id))?;
        Ok(Checkpoint::assemble(self.layout.clone(), manifest, manifest::digest(json)))
    }
}

/// An entry whose digest is filled in once everything is listed.
fn unhashed(path: RelPath, length: u64) -> FileEntry {
    FileEntry { path, length, blake3: Digest::of(b"") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{catalog, fill, manifest, sealed};

    #[test]
    fn sealing_lists_everything_and_makes_it_visible() {
        let (_dir, catalog) = catalog();
        let checkpoint = sealed(&catalog);
        let manifest = checkpoint.manifest();
        let images: Vec<_> = manifest.images.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(images, ["core-1.img", "final/pages-1.img", "pre/pages-1.img"]);
        assert_eq!(manifest.images[0].blake3, Digest::of(b"core"));
        assert_eq!(manifest.parents[0].target(), "../pre");
        assert_eq!(manifest.extra.len(), 1);
        assert!(manifest.rootfs.as_ref().unwrap().delta.is_some());
        assert_eq!(catalog.list().unwrap().checkpoints.len(), 1);
        checkpoint.verify(&|_| ()).unwrap();
    }

    #[test]
    fn a_failed_seal_shows_nothing_and_can_be_repeated() {
        let (_dir, catalog) = catalog();
        let manifest = manifest();
        let staging = catalog.begin(&manifest.id).unwrap();
        fill(staging.dir());
        fs::write(staging.dir().join("stray"), b"").unwrap();
        let refused = staging.seal(manifest.clone(), Durability::Deferred, &|_| ());
        assert!(matches!(refused, Err(StoreError::StrayFile { .. })));
        assert!(catalog.list().unwrap().checkpoints.is_empty());
        fs::remove_file(staging.dir().join("stray")).unwrap();
        staging.seal(manifest, Durability::Immediate, &|_| ()).unwrap();
    }

    #[test]
    fn foreign_links_and_other_ids_are_refused() {
        let (_dir, catalog) = catalog();
        let manifest = manifest();
        let staging = catalog.begin(&manifest.id).unwrap();
        std::os::unix::fs::symlink("/etc", staging.images().join("parent")).unwrap();
        let refused = staging.seal(manifest.clone(), Durability::Deferred, &|_| ());
        assert!(matches!(refused, Err(StoreError::StrayFile { .. })));
        fs::remove_file(staging.images().join("parent")).unwrap();
        let other = Manifest { id: CheckpointId::random().unwrap(), ..manifest };
        assert!(matches!(staging.seal(other, Durability::Deferred, &|_| ()), Err(StoreError::WrongId { .. })));
    }

    #[test]
    fn i4_an_adopted_checkpoint_is_verified_before_it_is_visible() {
        let (_there, source) = catalog();
        let checkpoint = sealed(&source);
        let json = fs::read(checkpoint.dir().join(layout::MANIFEST)).unwrap();
        let (_here, destination) = catalog();
        let staging = destination.begin(checkpoint.id()).unwrap();
        fill(staging.dir());
        fs::write(staging.images().join("core-1.img"), b"c0re").unwrap();
        let refused = staging.adopt(&json, Durability::Deferred, &|_| ());
        assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{refused:?}");
        assert!(destination.list().unwrap().checkpoints.is_empty());
        fs::write(staging.images().join("core-1.img"), b"core").unwrap();
        let adopted = staging.adopt(&json, Durability::Deferred, &|_| ()).unwrap();
        assert_eq!(adopted.manifest_digest(), checkpoint.manifest_digest());
    }

    #[test]
    fn what_is_laid_out_and_filled_is_adopted() {
        let (_there, source) = catalog();
        let checkpoint = sealed(&source);
        let json = fs::read(checkpoint.dir().join(layout::MANIFEST)).unwrap();
        let (_here, destination) = catalog();
        let staging = destination.begin(checkpoint.id()).unwrap();
        staging.lay_out(checkpoint.manifest()).unwrap();
        assert!(staging.adopt(&json, Durability::Deferred, &|_| ()).is_err(), "all of it is empty");
        for (path, _) in checkpoint.manifest().files() {
            fs::copy(checkpoint.dir().join(&path), staging.dir().join(&path)).unwrap();
        }
        staging.adopt(&json, Durability::Deferred, &|_| ()).unwrap();
    }

    #[test]
    fn an_id_is_used_once() {
        let (_dir, catalog) = catalog();
        let checkpoint = sealed(&catalog);
        assert!(matches!(catalog.begin(checkpoint.id()), Err(StoreError::Exists { .. })));
        let staging = catalog.begin(&CheckpointId::random().unwrap()).unwrap();
        assert!(matches!(catalog.begin(staging.id()), Err(StoreError::Exists { .. })));
        staging.discard().unwrap();
    }
}
