//! Memory that comes before its containers do, and the images that are put together from it.
//!
//! Pages lie in a directory below the store's temporary one, which goes with the visit. Their digests only find them: whatever
//! is put together is compared with the manifest when all is there.

use super::arrivals::visit_of;
use super::capability::LEFT_FREE;
use super::intake::{CHUNK, Incoming, Watched};
use crate::archive::blocks::{self, Cutting, MOST_BLOCKS, PAGE};
use crate::failure::{Failure, OrFail};
use crate::migration::words::Here;
use crate::store::CheckpointId;
use crate::world::Context;
use crate::world::memory_coming::MemoryComing;
use crate::world::parts::WritingOut;
use crate::world::visits::Visit;
use std::fs::{DirBuilder, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Pages of all rounds, one behind the other.
const PAGES: &str = "pages";

/// More than can be remembered is of no use.
const MOST_BYTES: u64 = MOST_BLOCKS as u64 * PAGE as u64;

fn directory(context: &Context, id: &CheckpointId) -> PathBuf {
    context.catalog.layout().tmp().join(format!("{id}.memory"))
}

/// What has come, and where it lies; made for the first of it, unless all files are there already.
///
/// Whoever takes something in has it locked until that has come in whole or has broken off. So whoever asks how much is here
/// waits for a connection that broke, and hears all of it.
fn coming(context: &Context, visit: &Visit, id: &CheckpointId) -> Result<(PathBuf, Arc<Mutex<MemoryComing>>), Failure> {
    let directory = directory(context, id);
    visit.take_in(PAGES, || {
        context.memory_coming.keep_new(id.clone(), Arc::default());
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.or_fail(|| "memory that comes cannot be kept".into())
    })?;
    let coming = context.memory_coming.with(id, |coming| Arc::clone(coming));
    coming.map(|coming| (directory, coming)).ok_or_else(|| Failure::refused(format!("migration {id} is over here")))
}

fn lock(coming: &Mutex<MemoryComing>) -> MutexGuard<'_, MemoryComing> {
    coming.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A body that comes now, and not late.
fn begin(coming: &Mutex<MemoryComing>, body: u64) -> Result<MutexGuard<'_, MemoryComing>, Failure> {
    let mut coming = lock(coming);
    match coming.begins(body) {
        true => Ok(coming),
        false => Err(Failure::refused(format!("body {body} of memory comes late"))),
    }
}

/// Keeps pages of memory that come one behind the other. Of a body that breaks off stays what has come, by whole pages.
pub fn keep_pages(
    context: &Context,
    (peer, id): (&str, &CheckpointId),
    body: u64,
    bytes: &mut dyn Read,
) -> Result<(), Failure> {
    let failed = || "memory that comes cannot be kept".to_owned();
    let visit = visit_of(context, peer, id)?;
    let (directory, coming) = coming(context, &visit, id)?;
    let mut coming = begin(&coming, body)?;
    let path = directory.join(PAGES);
    let mut file = File::options().create(true).append(true).mode(0o600).open(&path).or_fail(failed)?;
    let before = file.metadata().or_fail(failed)?.len();
    let mut bytes = Watched { bytes, visit: &visit };
    let written = write_pages(context, &mut bytes, &mut file, before);
    let whole = file.metadata().or_fail(failed)?.len() / PAGE as u64 * PAGE as u64;
    file.set_len(whole).or_fail(failed)?;
    // Now, while the containers run: what is written out later must not have to wait for it.
    file.sync_data().or_fail(failed)?;
    coming.pool.add(&path, before, Cutting::Pages).or_fail(failed)?;
    coming.brings(whole - before);
    written
}

/// How much of a body of pages is here; nothing more of it is taken in.
pub fn pages_here(context: &Context, (peer, id): (&str, &CheckpointId), body: u64) -> Result<Here, Failure> {
    let visit = visit_of(context, peer, id)?;
    let (_, coming) = coming(context, &visit, id)?;
    let bytes = lock(&coming).ends(body);
    Ok(Here { bytes, is_whole: false })
}

fn write_pages(context: &Context, bytes: &mut dyn Read, file: &mut File, begin: u64) -> Result<(), Failure> {
    let failed = || "memory that comes cannot be kept".to_owned();
    let mut buffer = vec![0; CHUNK];
    let (mut length, mut writing_out) = (begin, WritingOut::from(begin));
    loop {
        let count = bytes.read(&mut buffer).or_fail(failed)?;
        length += count as u64;
        if count == 0 {
            break;
        }
        if length > MOST_BYTES || context.catalog.free_bytes().or_fail(failed)? < LEFT_FREE {
            return Err(Failure::new("more memory comes than there is room for")
                .remedy("make room on the destination: transship gc; or use --mode stop-and-copy"));
        }
        file.write_all(&buffer[..count]).or_fail(failed)?;
        writing_out.has(file, length);
    }
    match length.is_multiple_of(PAGE as u64) {
        true => Ok(()),
        false => Err(Failure::new("memory that comes ends within a page")),
    }
}

/// The number of a body of pages, as a query says it: `body=NUMBER`.
pub fn body(query: &str) -> Option<u64> {
    query.strip_prefix("body=")?.parse().ok()
}

/// A part of an image that comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The body that it comes as.
    pub body: u64,
    /// Its first byte; what is before came before.
    pub from: u64,
    /// Where it ends.
    pub length: u64,
    /// Whether the image ends there as well.
    pub whole: bool,
}

impl Part {
    /// As a query says it: `body=NUMBER&from=BYTES&length=BYTES&whole=true`, in this order.
    pub fn read(query: &str) -> Option<Self> {
        let (number, rest) = query.split_once("&from=")?;
        let (from, rest) = rest.split_once("&length=")?;
        let (length, whole) = rest.split_once("&whole=")?;
        let (from, length, whole) = (from.parse().ok()?, length.parse().ok()?, whole.parse().ok()?);
        Some(Self { body: body(number)?, from, length, whole })
    }
}

/// Puts a part of an image of pages together from what came before and from the stream; puts the image in its place when it
/// is whole. Of one that breaks off stays what is there without a gap.
pub fn keep_part(
    context: &Context,
    (peer, id): (&str, &CheckpointId),
    (checkpoint, path): (&CheckpointId, &str),
    part: Part,
    bytes: &mut dyn Read,
) -> Result<(), Failure> {
    let failed = || format!("{path} of checkpoint {checkpoint} cannot be kept");
    let more = part.length.saturating_sub(part.from);
    let incoming = Incoming::admit(context, (peer, id), (checkpoint, path), more)?;
    let (directory, coming) = coming(context, &incoming.visit, id)?;
    let coming = begin(&coming, part.body)?;
    let image = part_of_image(&directory, checkpoint, path);
    go_on(&image, part.from).or_fail(failed)?;
    // Most of it are references of a few bytes.
    let mut bytes = BufReader::with_capacity(CHUNK, Watched { bytes, visit: &incoming.visit });
    let put_together = blocks::assemble(&mut bytes, &image, (part.from, part.length), &coming.pool);
    put_together.map_err(|broken| broken.error).or_fail(failed)?;
    match part.whole {
        // Not written out: where the power goes before it runs its digest differs, and the source has it still.
        true => incoming.put(&image),
        false => Ok(()),
    }
}

/// How much of an image of pages is here; nothing more of that body is taken in.
pub fn part_here(
    context: &Context,
    (peer, id): (&str, &CheckpointId),
    (checkpoint, path): (&CheckpointId, &str),
    body: u64,
) -> Result<Here, Failure> {
    let failed = || format!("{path} of checkpoint {checkpoint} cannot be looked at");
    let visit = Incoming::admit(context, (peer, id), (checkpoint, path), 0)?.visit;
    let (directory, coming) = coming(context, &visit, id)?;
    lock(&coming).ends(body);
    let bytes = match part_of_image(&directory, checkpoint, path).symlink_metadata() {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error).or_fail(failed),
    };
    Ok(Here { bytes, is_whole: visit.has_taken_in(&format!("{checkpoint}/{path}")) })
}

/// Where an image lies of which not all is here.
fn part_of_image(directory: &Path, checkpoint: &CheckpointId, path: &str) -> PathBuf {
    let name = path.rsplit('/').next().unwrap_or(path);
    directory.join(format!("{checkpoint}-{name}"))
}

/// What is there of it must be what was told to be.
fn go_on(image: &Path, from: u64) -> io::Result<()> {
    if from == 0 {
        return File::options().write(true).create(true).truncate(true).mode(0o600).open(image).map(drop);
    }
    match image.symlink_metadata()?.len() {
        length if length == from => Ok(()),
        other => Err(io::Error::other(format!("{other} bytes of it are here, and it goes on at {from}"))),
    }
}

/// What came before is of no use any more.
pub fn forget(context: &Context, id: &CheckpointId) -> Result<(), Failure> {
    drop(context.memory_coming.take(id));
    match std::fs::remove_dir_all(directory(context, id)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::new("memory that came cannot be removed").because(&error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_told_in_full_or_not_at_all() {
        let part = Part { body: 7, from: 4096, length: 8192, whole: true };
        assert_eq!(Part::read("body=7&from=4096&length=8192&whole=true"), Some(part));
        for wrong in [
            "",
            "body=7&from=4096",
            "from=4096&length=8192&whole=true",
            "body=7&from=-1&length=2&whole=true",
            "body=7&from=0&length=2&whole=yes",
            "body=7&length=2&from=0&whole=true",
        ] {
            assert_eq!(Part::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_goes_on_elsewhere_than_where_it_stood_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("pages-1.img");
        assert!(go_on(&image, 4096).is_err());
        go_on(&image, 0).unwrap();
        std::fs::write(&image, [1; 4096]).unwrap();
        go_on(&image, 4096).unwrap();
        assert!(go_on(&image, 8192).is_err());
        go_on(&image, 0).unwrap();
        assert_eq!(image.metadata().unwrap().len(), 0, "it begins anew");
    }
}
