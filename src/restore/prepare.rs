//! Verified images for a claimed container.

use crate::failure::{Failure, OrFail};
use crate::network::remembered::Remembered;
use crate::network::sockets::Connection;
use crate::store::checkpoint::Form;
use crate::store::claims::Claim;
use crate::store::{Checkpoint, CheckpointId, StoreError, layout};
use crate::world::{Prepared, World};
use serde::de::DeserializeOwned;
use std::sync::atomic::{AtomicU64, Ordering};

/// The file beside the images that holds what the network has to be put back to.
pub const NETWORK_FILE: &str = "network.json";

/// The file beside the images that lists the connections that are to be closed when the container runs.
pub const LOST_FILE: &str = "lost.json";

/// Told the bytes that are verified, of how many.
pub type Told<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// The images of a claim, every digest verified (I4). Verified once for each restore: an operation that has
/// just done so leaves them to be found here.
pub fn images(world: &World, claim: &Claim) -> Result<Prepared, Failure> {
    match world.prepared.get(&claim.checkpoint) {
        Some(prepared) if prepared.manifest == claim.manifest => Ok(prepared),
        _ => verify(world, &claim.checkpoint, &|_, _| {}).and_then(|prepared| {
            match prepared.manifest == claim.manifest {
                true => Ok(prepared),
                false => Err(Failure::new(format!(
                    "checkpoint {} is not the one that was claimed: its manifest has changed",
                    claim.checkpoint
                ))),
            }
        }),
    }
}

/// Verifies a checkpoint in full, unpacking it where it is packed, and keeps the result for its restore.
pub fn verify(world: &World, id: &CheckpointId, told: Told<'_>) -> Result<Prepared, Failure> {
    // Compression in the background does not begin any more, and ends where it is.
    world.reserved.keep(id.clone(), ());
    world.packing.stop(id);
    let checkpoint = world.catalog.get(id).or_fail(|| format!("checkpoint {id} cannot be read"))?;
    let prepared =
        make(world, &checkpoint, told).or_fail(|| format!("checkpoint {id} is damaged and is not restored"))?;
    world.prepared.keep(id.clone(), prepared.clone());
    Ok(prepared)
}

/// The images of a checkpoint that was made from a peer's files just now: that is when every digest was compared.
pub fn adopted(world: &World, id: &CheckpointId) -> Result<Prepared, Failure> {
    world.reserved.keep(id.clone(), ());
    let checkpoint = world.catalog.get(id).or_fail(|| format!("checkpoint {id} cannot be read"))?;
    let manifest = checkpoint.manifest_digest().to_string();
    let prepared = Prepared { manifest, images: checkpoint.images_dir(), temporary: false };
    world.prepared.keep(id.clone(), prepared.clone());
    Ok(prepared)
}

fn make(world: &World, checkpoint: &Checkpoint, told: Told<'_>) -> Result<Prepared, StoreError> {
    let (done, total) = (AtomicU64::new(0), checkpoint.manifest().total_bytes());
    let progress = |bytes| told(done.fetch_add(bytes, Ordering::Relaxed) + bytes, total);
    let manifest = checkpoint.manifest_digest().to_string();
    if checkpoint.form()? != Form::Packed {
        checkpoint.verify(&progress)?;
        return Ok(Prepared { manifest, images: checkpoint.images_dir(), temporary: false });
    }
    let images = world.catalog.layout().tmp().join(format!("{}-{}", checkpoint.id(), layout::IMAGES));
    super::settle::remove_directory(&images);
    checkpoint.unpack_to(&images, &progress)?;
    Ok(Prepared { manifest, images, temporary: true })
}

/// Forgets verified images that no restore will ask for any more.
pub fn forget(world: &World, id: &CheckpointId) {
    world.reserved.take(id);
    if let Some(prepared) = world.prepared.take(id).filter(|prepared| prepared.temporary) {
        super::settle::remove_directory(&prepared.images);
    }
}

/// What the network looked like when the container was frozen.
pub fn network(checkpoint: &Checkpoint) -> Result<Remembered, Failure> {
    beside(checkpoint, NETWORK_FILE)
}

/// Which of its connections are to be closed.
pub fn lost(checkpoint: &Checkpoint) -> Result<Vec<Connection>, Failure> {
    beside(checkpoint, LOST_FILE)
}

/// What a file beside the images holds; nothing where there is none.
fn beside<T: DeserializeOwned + Default>(checkpoint: &Checkpoint, name: &str) -> Result<T, Failure> {
    let failed = || format!("{name} of checkpoint {} cannot be read", checkpoint.id());
    let entry = checkpoint.manifest().extra.iter().find(|entry| entry.path.as_str() == name);
    let Some(entry) = entry else { return Ok(T::default()) };
    let bytes = std::fs::read(checkpoint.extra_path(entry)).or_fail(failed)?;
    if crate::archive::Digest::of(&bytes) != entry.blake3 {
        return Err(Failure::new(failed()).because(&std::io::Error::other("its digest is not the manifest's")));
    }
    serde_json::from_slice(&bytes).or_fail(failed)
}
