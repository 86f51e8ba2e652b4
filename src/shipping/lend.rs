//! What a peer is answered about checkpoints that were shared with it, and nothing about others.

use super::words::Shared;
use crate::archive::blocks::{BlockDigest, BlockStream, Cutting, KnownBlocks, digests};
use crate::failure::{Failure, OrFail};
use crate::operations::list;
use crate::store::{Checkpoint, CheckpointId};
use crate::world::Context;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

/// What a peer may fetch, newest first.
pub fn all(context: &Context, peer: &str) -> Result<Shared, Failure> {
    let shared = shared_with(context, peer)?;
    let listing = context.catalog.list().or_fail(|| "the store cannot be listed".into())?;
    let mut whole = listing.checkpoints;
    whole.retain(|checkpoint| shared.contains(checkpoint.id().as_str()));
    whole.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.manifest().created));
    Ok(Shared { checkpoints: whole.iter().map(list::facts).collect() })
}

/// The manifest, byte for byte.
pub fn manifest(context: &Context, peer: &str, id: &CheckpointId) -> Result<Box<dyn Read + Send>, Failure> {
    let path = lent(context, peer, id)?.manifest_path();
    Ok(Box::new(File::open(&path).or_fail(|| format!("the manifest of {id} cannot be read"))?))
}

/// The image, as Docker saves it.
pub fn image(context: &Context, peer: &str, id: &CheckpointId) -> Result<Box<dyn Read + Send>, Failure> {
    let checkpoint = lent(context, peer, id)?;
    let container = &checkpoint.manifest().container;
    let saved = context.docker.save_image(&container.image_id);
    Ok(Box::new(saved.or_fail(|| format!("the image {} cannot be sent", container.image))?))
}

/// The digests of a file's blocks, one behind the other.
pub fn blocks(
    context: &Context,
    peer: &str,
    id: &CheckpointId,
    number: usize,
) -> Result<Box<dyn Read + Send>, Failure> {
    let lent = open(&lent(context, peer, id)?, number)?;
    let some = digests(&lent.file, lent.length, lent.cutting);
    Ok(Box::new(Digests { some: Box::new(some), piece: io::Cursor::default() }))
}

/// A file from byte `from` on, as the stream of one whose receiver has these blocks.
pub fn file(
    context: &Context,
    peer: &str,
    id: &CheckpointId,
    (number, from): (usize, u64),
    known: &[u8],
) -> Result<Box<dyn Read + Send>, Failure> {
    let lent = open(&lent(context, peer, id)?, number)?;
    let (known, rest) = known.as_chunks::<{ BlockDigest::BYTES }>();
    if from > lent.length || !rest.is_empty() {
        return Err(Failure::usage("that is no part of the file, or no list of digests"));
    }
    let mut blocks = KnownBlocks::new();
    known.iter().for_each(|digest| {
        blocks.insert(BlockDigest::from_bytes(*digest));
    });
    Ok(Box::new(BlockStream::new(&lent.file, from, lent.length, lent.cutting, Arc::new(blocks))))
}

/// A checkpoint that this peer may fetch. Whether there are others is not told.
fn lent(context: &Context, peer: &str, id: &CheckpointId) -> Result<Checkpoint, Failure> {
    let refused = || {
        Failure::refused(format!("no checkpoint {id} is shared with this host"))
            .remedy("on the host that has it: transship share CHECKPOINT --with NAME")
    };
    match shared_with(context, peer)?.contains(id.as_str()) {
        true => context.catalog.get(id).map_err(|_| refused()),
        false => Err(refused()),
    }
}

fn shared_with(context: &Context, peer: &str) -> Result<BTreeSet<String>, Failure> {
    let known = context.peers.peer(peer).or_fail(|| "the book of peers cannot be read".into())?;
    Ok(known.map(|known| known.permissions.shared).unwrap_or_default())
}

struct Lent {
    file: Arc<File>,
    length: u64,
    cutting: Cutting,
}

fn open(checkpoint: &Checkpoint, number: usize) -> Result<Lent, Failure> {
    let id = checkpoint.id();
    let (path, entry) = checkpoint
        .manifest()
        .files()
        .nth(number)
        .ok_or_else(|| Failure::usage(format!("{id} has no file {number}")))?;
    let path = checkpoint.dir().join(path);
    let file = File::options().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(&path);
    let file = file.or_fail(|| format!("{} of checkpoint {id} cannot be read", entry.path))?;
    Ok(Lent { file: Arc::new(file), length: entry.length, cutting: Cutting::of(entry.path.as_str()) })
}

/// Reads as digests.
struct Digests {
    some: Box<dyn Iterator<Item = io::Result<Vec<BlockDigest>>> + Send>,
    piece: io::Cursor<Vec<u8>>,
}

impl Read for Digests {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.piece.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.some.next() {
                Some(some) => self.piece = io::Cursor::new(some?.iter().flat_map(|one| *one.as_bytes()).collect()),
                None => return Ok(0),
            }
        }
    }
}
