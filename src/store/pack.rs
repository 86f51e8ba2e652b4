//! Compressing a checkpoint once nobody waits for it.
//!
//! At every moment each part lies there whole in one form or both:
//!
//! ```text
//! images/ ──> images.tar.zst.tmp ──fsync──> images.tar.zst ──(all parts done)──> images/ to staging/, deleted
//! ```

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::checkpoint::Checkpoint;
use super::error::StoreError;
use super::layout;
use super::{fsync, tree};
use crate::archive::images::{self, Compression, Watch};
use crate::archive::{ArchiveError, FileEntry};

/// Something that is compressed into one file.
#[derive(Clone, Copy)]
pub(crate) enum Part<'a> {
    Images,
    Tar(&'a FileEntry),
}

impl Checkpoint {
    /// Replaces the raw images and tars by compressed ones. What is compressed already stays as it is.
    ///
    /// Every byte is compared with the manifest on the way, so a raw file that was damaged is not given up for a
    /// good-looking archive of the damage.
    ///
    /// # Errors
    /// When cancelled (see [`StoreError::is_cancelled`]), out of space or damaged: the raw files are still there then,
    /// and nothing else is. Once all parts are compressed, `cancel` is looked at no more.
    pub fn pack(&self, compression: Compression, watch: Watch<'_>) -> Result<(), StoreError> {
        let parts: Vec<_> = self.parts().filter(|part| self.raw_path(*part).exists()).collect();
        let mut packed = Vec::new();
        for part in &parts {
            if let Err(error) = self.pack_part(*part, compression, watch) {
                packed.iter().for_each(|path: &PathBuf| remove_quietly(path));
                return Err(error);
            }
            packed.push(self.packed_path(*part));
        }
        fsync::directory(&self.dir())?;
        parts.into_iter().try_for_each(|part| self.retire(part))
    }

    /// What there is to be compressed.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        std::iter::once(Part::Images).chain(self.manifest().tars().map(Part::Tar))
    }

    pub(crate) fn raw_path(&self, part: Part<'_>) -> PathBuf {
        match part {
            Part::Images => self.images_dir(),
            Part::Tar(entry) => entry.path.below(&self.dir()),
        }
    }

    pub(crate) fn packed_path(&self, part: Part<'_>) -> PathBuf {
        match part {
            Part::Images => self.dir().join(layout::PACKED_IMAGES),
            Part::Tar(entry) => self.packed_tar(entry),
        }
    }

    /// Writes a part, which lies there raw, into `out`, compressed.
    pub(crate) fn compress_part(
        &self,
        part: Part<'_>,
        out: File,
        compression: Compression,
        watch: Watch<'_>,
    ) -> Result<File, ArchiveError> {
        let raw = self.raw_path(part);
        match part {
            Part::Images => images::pack(&raw, &self.manifest().images, out, compression, watch),
            Part::Tar(entry) => images::pack_file(&raw, entry, out, compression, watch),
        }
    }

    fn pack_part(&self, part: Part<'_>, compression: Compression, watch: Watch<'_>) -> Result<(), StoreError> {
        let path = self.packed_path(part);
        let mut temporary = path.clone().into_os_string();
        temporary.push(layout::TEMPORARY_SUFFIX);
        let temporary = PathBuf::from(temporary);
        let outcome = self.pack_through(part, &temporary, &path, compression, watch);
        if outcome.is_err() {
            remove_quietly(&temporary);
        }
        outcome
    }

    fn pack_through(
        &self,
        part: Part<'_>,
        temporary: &Path,
        path: &Path,
        compression: Compression,
        watch: Watch<'_>,
    ) -> Result<(), StoreError> {
        let out = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(temporary)
            .map_err(StoreError::io("create", temporary))?;
        let out =
            self.compress_part(part, out, compression, watch).map_err(StoreError::archive("compress", self.id()))?;
        out.sync_all().map_err(StoreError::io("write out", temporary))?;
        fs::rename(temporary, path).map_err(StoreError::io("rename into place", path))
    }

    /// Takes a raw part away. By a rename first, since a half-deleted directory of images would look whole.
    fn retire(&self, part: Part<'_>) -> Result<(), StoreError> {
        let what = match part {
            Part::Images => layout::IMAGES,
            Part::Tar(entry) => entry.path.as_str(),
        };
        let trash = self.layout.trash_of(self.id(), what);
        tree::remove(&trash)?;
        fsync::move_new(&self.raw_path(part), &trash)?;
        tree::remove(&trash)
    }
}

/// Removes a file on the way out of an error, which is the one that counts.
fn remove_quietly(path: &Path) {
    if let Err(error) = tree::remove(path) {
        tracing::warn!(%error, "left a temporary file behind");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::checkpoint::Form;
    use crate::store::testing::{catalog, sealed};
    use std::io::Read;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    static GO: AtomicBool = AtomicBool::new(false);

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn packing_keeps_the_contents_and_leaves_nothing_else() {
        let (_dir, catalog) = catalog();
        let checkpoint = sealed(&catalog);
        let watch = Watch { progress: &|_| (), cancel: &GO };
        checkpoint.pack(Compression::default(), watch).unwrap();
        checkpoint.pack(Compression::default(), watch).unwrap();
        assert_eq!(checkpoint.form().unwrap(), Form::Packed);
        let expected = ["extra", "images.tar.zst", "manifest.json", "rootfs-delta.tar.zst", "rootfs.tar.zst"];
        assert_eq!(names(&checkpoint.dir()), expected);
        assert!(names(&catalog.layout().staging()).is_empty());
        let mut rootfs = Vec::new();
        let entry = checkpoint.manifest().rootfs.clone().unwrap().base;
        checkpoint.open_tar(&entry).unwrap().read_to_end(&mut rootfs).unwrap();
        assert_eq!(rootfs, vec![1; 50_000]);
    }

    #[test]
    fn cancelled_at_any_byte_the_raw_files_are_untouched() {
        let (_dir, catalog) = catalog();
        let checkpoint = sealed(&catalog);
        let before = names(&checkpoint.dir());
        for limit in [0, 4, 300_000, 340_000, 350_000] {
            let (cancel, done) = (AtomicBool::new(limit == 0), AtomicU64::new(0));
            let progress = |n| {
                let sum = done.fetch_add(n, Ordering::Relaxed) + n;
                cancel.store(sum >= limit, Ordering::Relaxed);
            };
            let watch = Watch { progress: &progress, cancel: &cancel };
            assert!(checkpoint.pack(Compression::default(), watch).unwrap_err().is_cancelled(), "{limit}");
            assert_eq!(names(&checkpoint.dir()), before);
            checkpoint.verify(&|_| ()).unwrap();
        }
    }

    #[test]
    fn i4_damage_is_not_packed() {
        let (_dir, catalog) = catalog();
        let checkpoint = sealed(&catalog);
        fs::write(checkpoint.dir().join("rootfs-delta.tar"), b"atled").unwrap();
        let before = names(&checkpoint.dir());
        let watch = Watch { progress: &|_| (), cancel: &GO };
        match checkpoint.pack(Compression::default(), watch) {
            Err(StoreError::Archive { source, .. }) => {
                assert!(matches!(*source, ArchiveError::Digest { .. }))
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(names(&checkpoint.dir()), before);
    }
}
