//! What a source sends besides words: images, and the checkpoints' files.

use super::admit;
use super::arrivals::{standing_on_disk, visit_of};
use super::capability::LEFT_FREE;
use crate::archive::RelPath;
use crate::failure::{Failure, OrFail};
use crate::handover::Arrival;
use crate::migration::words::{Here, LayersThere};
use crate::operations::{brought, images};
use crate::store::CheckpointId;
use crate::world::Context;
use crate::world::visits::{MOST_FILES, Visit};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is taken at once of what comes: each time costs a change of threads.
pub const CHUNK: usize = 256 << 10;

/// How many of an image's layers are here, from the lowest up: what lies on others is another layer.
pub fn layers_there(context: &Context, peer: &str, layers: &[String]) -> Result<LayersThere, Failure> {
    admit::may(context, peer)?;
    let failed = || "the images here cannot be listed".to_owned();
    let mut there = 0;
    for image in context.docker.image_ids().or_fail(failed)? {
        // One that has just been removed has none.
        let own = context.docker.image_layers(&image).unwrap_or_default();
        there = there.max(own.iter().zip(layers).take_while(|(own, wanted)| own == wanted).count());
    }
    Ok(LayersThere { there })
}

/// Takes an image in, as `docker save` writes it; that one and no other, and without a name.
pub fn take_image(
    context: &Context,
    (peer, id): (&str, &CheckpointId),
    image: &str,
    tar: impl Read + Send + 'static,
) -> Result<(), Failure> {
    expects_image(context, (peer, id), image)?;
    // Docker shows an image before it says that it is loaded: one that comes once more was noted the first time.
    brought::note(context, (peer, id), image, None)?;
    context.docker.load_image(images::without_names(tar, image)).or_fail(|| "the image cannot be loaded".into())?;
    match standing_on_disk(context, id)? {
        // The source has given it up meanwhile.
        Arrival::Dropped => {
            brought::give_up(context, peer, id)?;
            brought::remove_one(context, id, image)
        }
        _ => Ok(()),
    }
}

/// Refuses an image of a migration that expects none.
pub fn expects_image(context: &Context, (peer, id): (&str, &CheckpointId), image: &str) -> Result<(), Failure> {
    admit::may(context, peer)?;
    if !is_id(image) {
        return Err(Failure::usage(format!("{image:?} is no image's id")));
    }
    match standing_on_disk(context, id)? {
        Arrival::Expecting => Ok(()),
        _ => Err(Failure::refused(format!("migration {id} has been here before"))),
    }
}

fn is_id(image: &str) -> bool {
    let digest = image.strip_prefix("sha256:").unwrap_or_default();
    digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Bytes that come, each time a sign of life of whoever sends them.
pub struct Watched<'a> {
    /// The bytes.
    pub bytes: &'a mut dyn Read,
    /// What they come for.
    pub visit: &'a Visit,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.visit.sign_of_life();
        self.bytes.read(buffer)
    }
}

/// A file of a checkpoint that comes.
pub struct Incoming<'a> {
    /// What it comes for.
    pub visit: Arc<Visit>,
    checkpoint: &'a CheckpointId,
    path: &'a str,
    target: PathBuf,
}

impl<'a> Incoming<'a> {
    /// A file that a peer sends; refused where it belongs to nothing that comes from there, or has no room for `more` bytes.
    pub fn admit(
        context: &Context,
        (peer, id): (&str, &CheckpointId),
        (checkpoint, path): (&'a CheckpointId, &'a str),
        more: u64,
    ) -> Result<Self, Failure> {
        let failed = || format!("{path} of checkpoint {checkpoint} cannot be kept");
        let visit = visit_of(context, peer, id)?;
        if !visit.brings(checkpoint) {
            return Err(Failure::refused(format!("checkpoint {checkpoint} is none of migration {id}")));
        }
        let staging = context.catalog.staging(checkpoint).ok_or_else(|| Failure::new(failed()))?;
        let target = RelPath::new(path).or_fail(failed)?.below(staging.dir());
        let free = context.catalog.free_bytes().or_fail(failed)?;
        if more.saturating_add(LEFT_FREE) > free {
            return Err(Failure::new(format!(
                "{path} has {more} bytes, and {free} are free on the store's disk there"
            ))
            .remedy("make room on the destination: transship gc"));
        }
        Ok(Self { visit, checkpoint, path, target })
    }

    /// Puts it in its place, now that all of it lies at `coming`.
    pub fn put(&self, coming: &Path) -> Result<(), Failure> {
        let failed = || format!("{} of checkpoint {} cannot be kept", self.path, self.checkpoint);
        self.visit.take_in(&format!("{}/{}", self.checkpoint, self.path), || {
            if let Some(parent) = self.target.parent() {
                std::fs::create_dir_all(parent).or_fail(failed)?;
            }
            std::fs::rename(coming, &self.target).or_fail(failed)
        })
    }
}

/// Keeps one file of a checkpoint that comes, from byte `from` on; what is before is here. It is believed nothing: digests are
/// compared when all is there.
///
/// It is on disk then: the source's own copy is memory, and goes with its power. Of one that breaks off stays what has come.
pub fn keep_file(
    context: &Context,
    (peer, id): (&str, &CheckpointId),
    (checkpoint, path): (&CheckpointId, &str),
    (from, length): (u64, u64),
    bytes: &mut dyn Read,
) -> Result<(), Failure> {
    let failed = || format!("{path} of checkpoint {checkpoint} cannot be kept");
    let more = length.saturating_sub(from);
    let incoming = Incoming::admit(context, (peer, id), (checkpoint, path), more)?;
    let (parts, name) = (incoming.visit.parts(), format!("{checkpoint}/{path}"));
    let part = parts.go_on(&name, from, &context.catalog.layout().tmp(), MOST_FILES);
    if part.is_err() && from == length && incoming.visit.has_taken_in(&name) {
        // Who sent it over a connection that broke has had it put in its place since it was asked how much is here.
        return Ok(());
    }
    let mut part = part.or_fail(failed)?;
    let bytes = Watched { bytes, visit: &incoming.visit }.take(more);
    let copied = std::io::copy(&mut BufReader::with_capacity(CHUNK, bytes), &mut part).or_fail(failed)?;
    if copied != more {
        return Err(Failure::new(format!("{path} broke off after {copied} of {more} bytes")));
    }
    part.sync().or_fail(failed)?;
    part.put_in_place(|coming| incoming.put(coming)).or_fail(failed)??;
    parts.forget(&name);
    Ok(())
}

/// How much of a file is here.
pub fn here(
    context: &Context,
    (peer, id): (&str, &CheckpointId),
    (checkpoint, path): (&CheckpointId, &str),
) -> Result<Here, Failure> {
    let visit = Incoming::admit(context, (peer, id), (checkpoint, path), 0)?.visit;
    let name = format!("{checkpoint}/{path}");
    Ok(Here { bytes: visit.parts().here(&name), is_whole: visit.has_taken_in(&name) })
}
