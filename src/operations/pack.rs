//! Compressing checkpoints in the background, when nobody waits for it any more.

use crate::archive::images::{Compression, Watch};
use crate::store::checkpoint::Form;
use crate::store::{Checkpoint, StoreError};
use crate::world::World;
use std::sync::Arc;

/// Starts compressing what lies there raw, one checkpoint after the other, unless that is under way already.
///
/// While the engine is being upgraded it waits for the end of that: containers are away, and the processors are theirs.
pub fn begin(world: &Arc<World>) {
    if world.busy.is_on_engine() {
        return;
    }
    let world = Arc::clone(world);
    let thread = std::thread::Builder::new().name("pack".into()).spawn(move || {
        give_way_to_everything();
        let _one_at_a_time = world.packing.turn();
        while let Some(checkpoint) = next(&world) {
            match pack(&world, &checkpoint) {
                Ok(()) => tracing::info!(checkpoint = %checkpoint.id(), bytes = checkpoint.disk_usage(), "compressed"),
                Err(error) if error.is_cancelled() => return,
                Err(error) => {
                    tracing::warn!(checkpoint = %checkpoint.id(), %error, "could not be compressed; it stays as it is");
                    return;
                }
            }
        }
    });
    if let Err(error) = thread {
        tracing::warn!(%error, "no thread to compress checkpoints; they stay as they are");
    }
}

/// The newest raw checkpoint that nobody is about to use.
fn next(world: &World) -> Option<Checkpoint> {
    let listing = world.catalog.list().ok()?;
    let mut raw = listing
        .checkpoints
        .into_iter()
        .rev()
        .filter(|checkpoint| checkpoint.form().is_ok_and(|form| form != Form::Packed));
    raw.find(|checkpoint| !is_needed(world, checkpoint))
}

/// Whether somebody reads it as it is: a restore, or a peer.
fn is_needed(world: &World, checkpoint: &Checkpoint) -> bool {
    world.reserved.has(checkpoint.id()) || world.peers.share(checkpoint.id().as_str())
}

fn pack(world: &World, checkpoint: &Checkpoint) -> Result<(), StoreError> {
    let stop = world.packing.begin(checkpoint.id().clone());
    // Who needs it says so first and then asks for the compression's end; so it is seen here, or it sees us there.
    if is_needed(world, checkpoint) {
        world.packing.end();
        return Ok(());
    }
    let compression = Compression { level: world.settings.compression_level, ..Compression::default() };
    let packed = checkpoint.pack(compression, Watch { progress: &|_| {}, cancel: &stop });
    world.packing.end();
    packed
}

/// The lowest priority for processor time; zstd's own threads are started from here and inherit it.
fn give_way_to_everything() {
    // SAFETY: setpriority takes three integers; on Linux PRIO_PROCESS with 0 means the calling thread.
    let result = unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, 19) };
    if result != 0 {
        tracing::debug!("compression runs at normal priority");
    }
}
