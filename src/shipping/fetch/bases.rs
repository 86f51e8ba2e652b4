//! What of a checkpoint is here already: in others of the same container, or of the same image.

use crate::archive::blocks::{Cutting, Pool};
use crate::failure::{Failure, OrFail};
use crate::store::{Checkpoint, CheckpointId, Manifest};
use crate::world::Context;
use std::cmp::Reverse;
use std::path::PathBuf;

/// How many are looked at.
const MOST: usize = 2;

/// Shorter files are not worth a question.
pub const SMALL: u64 = 64 << 10;

/// Checkpoints that have blocks of one that comes, and stay as they are meanwhile.
pub struct Bases {
    /// Their blocks.
    pub pool: Pool,
    of: CheckpointId,
    kept: Vec<CheckpointId>,
}

impl Bases {
    /// The newest of the same container first, then the newest of the same image. One that is compressed is unpacked beside.
    pub fn find(context: &Context, of: &CheckpointId, manifest: &Manifest) -> Result<Self, Failure> {
        let failed = || "the store cannot be listed".to_owned();
        Self::remove_left(context, of)?;
        let mut similar = context.catalog.list().or_fail(failed)?.checkpoints;
        let (container, image) = (&manifest.container.id, &manifest.container.image_id);
        similar.retain(|one| one.manifest().container.image_id == *image || one.manifest().container.id == *container);
        similar.sort_by_key(|one| Reverse((one.manifest().container.id == *container, one.manifest().created)));
        let mut bases = Self { pool: Pool::new(), of: of.clone(), kept: Vec::new() };
        for one in similar.iter().take(MOST) {
            if let Err(failure) = bases.add(context, one) {
                // It is of use only where it is sound.
                tracing::warn!(checkpoint = %one.id(), %failure, "nothing of it is used for another one");
            }
        }
        Ok(bases)
    }

    fn add(&mut self, context: &Context, base: &Checkpoint) -> Result<(), Failure> {
        let failed = || format!("the blocks of checkpoint {} cannot be read", base.id());
        if context.reserved.keep_new(base.id().clone(), ()) {
            self.kept.push(base.id().clone());
        }
        context.packing.stop(base.id());
        let mut dir = base.dir();
        if !base.is_raw().or_fail(failed)? {
            let below = directory(context, &self.of);
            std::fs::create_dir_all(&below).or_fail(failed)?;
            dir = below.join(base.id().as_str());
            base.unpack_all_to(&dir, &|_| {}).or_fail(failed)?;
        }
        for (path, entry) in base.manifest().files().filter(|(_, entry)| entry.length >= SMALL) {
            self.pool.add(&dir.join(path), 0, Cutting::of(entry.path.as_str())).or_fail(failed)?;
        }
        Ok(())
    }

    /// They may be compressed and removed again.
    pub fn remove(self, context: &Context) -> Result<(), Failure> {
        for id in &self.kept {
            context.reserved.take(id);
        }
        Self::remove_left(context, &self.of)
    }

    /// Removes what was unpacked, by this helper or one before it.
    pub fn remove_left(context: &Context, of: &CheckpointId) -> Result<(), Failure> {
        let directory = directory(context, of);
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).or_fail(|| format!("{} cannot be removed", directory.display()))
            }
            _ => Ok(()),
        }
    }
}

fn directory(context: &Context, of: &CheckpointId) -> PathBuf {
    context.catalog.layout().tmp().join(format!("{of}-bases"))
}
