//! A compressed checkpoint's files as they were, for whoever reads them in no order.

use std::fs::{self, File};
use std::path::Path;

use super::checkpoint::{Checkpoint, Form};
use super::error::StoreError;
use super::layout::{self, create_dir};
use super::{fsync, tree};
use crate::archive::Progress;

impl Checkpoint {
    /// Makes `dir`, which must not exist, with all files as [`Manifest::files`](super::Manifest::files) has them, but for
    /// the small ones beside the images, which are never compressed. Every digest is compared.
    ///
    /// # Errors
    /// As [`Checkpoint::verify`]. What there is of `dir` by then is the caller's to remove.
    pub fn unpack_all_to(&self, dir: &Path, progress: Progress<'_>) -> Result<(), StoreError> {
        create_dir(dir, false)?;
        self.unpack_to(&dir.join(layout::IMAGES), progress)?;
        for entry in self.manifest().tars() {
            let path = entry.path.below(dir);
            let mut out = File::create_new(&path).map_err(StoreError::io("create", &path))?;
            let mut tar = self.open_tar(entry)?;
            std::io::copy(&mut tar, &mut out).map_err(StoreError::io("unpack", &path))?;
        }
        Ok(())
    }

    /// Has all its files lie there as they were, beside the compressed ones. They are compressed again in the background
    /// when nobody keeps it from that.
    ///
    /// # Errors
    /// As [`Checkpoint::verify`]. The checkpoint is as it was then.
    pub fn unpack(&self, progress: Progress<'_>) -> Result<(), StoreError> {
        if self.is_raw()? {
            return Ok(());
        }
        let dir = self.layout.tmp().join(format!("{}-unpacked", self.id()));
        tree::remove(&dir)?;
        let outcome = self.unpack_all_to(&dir, progress).and_then(|()| self.take_in(&dir));
        match (outcome, tree::remove(&dir)) {
            (Err(error), _) | (Ok(()), Err(error)) => Err(error),
            (Ok(()), Ok(())) => Ok(()),
        }
    }

    /// Whether every file lies there as it was.
    pub fn is_raw(&self) -> Result<bool, StoreError> {
        let has_tars = self.manifest().tars().all(|entry| entry.path.below(&self.dir()).is_file());
        Ok(has_tars && self.form()? != Form::Packed)
    }

    /// Tars first: with its images there a checkpoint counts as one that is not compressed.
    fn take_in(&self, dir: &Path) -> Result<(), StoreError> {
        for entry in self.manifest().tars() {
            let (from, to) = (entry.path.below(dir), entry.path.below(&self.dir()));
            fs::rename(&from, &to).map_err(StoreError::io("rename into place", &to))?;
        }
        match self.form()? {
            Form::Packed => fsync::move_new(&dir.join(layout::IMAGES), &self.images_dir()),
            Form::Raw | Form::Both => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::archive::images::{Compression, Watch};
    use crate::store::checkpoint::Form;
    use crate::store::testing::{catalog, sealed};
    use std::fs;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn what_was_compressed_lies_there_again_as_it_was() {
        let (_dir, catalog) = catalog();
        let checkpoint = sealed(&catalog);
        let read = || {
            let files = checkpoint.manifest().files();
            files.map(|(path, _)| fs::read(checkpoint.dir().join(path)).unwrap()).collect::<Vec<_>>()
        };
        let before = read();
        let go_on = AtomicBool::new(false);
        let watch = || Watch { progress: &|_| (), cancel: &go_on };
        checkpoint.pack(Compression::default(), watch()).unwrap();
        assert!(!checkpoint.is_raw().unwrap());
        checkpoint.unpack(&|_| ()).unwrap();
        checkpoint.unpack(&|_| ()).unwrap();
        assert!(checkpoint.is_raw().unwrap());
        assert_eq!(read(), before);
        assert_eq!(checkpoint.form().unwrap(), Form::Both);
        assert!(fs::read_dir(catalog.layout().tmp()).unwrap().next().is_none());
        checkpoint.pack(Compression::default(), watch()).unwrap();
        assert_eq!(checkpoint.form().unwrap(), Form::Packed);
        checkpoint.verify(&|_| ()).unwrap();
    }
}
