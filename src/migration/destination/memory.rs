//! Memory that comes before its containers do, and the images that are put together from it.
//!
//! Pages lie in a directory below the store's temporary one, which goes with the visit. Their digests only find them: whatever
//! is put together is compared with the manifest when all is there.

use super::arrivals::visit_of;
use super::capability::LEFT_FREE;
use super::intake::{CHUNK, Incoming, Watched};
use crate::archive::blocks::{self, Cutting, MOST_BLOCKS, PAGE, Pool};
use crate::failure::{Failure, OrFail};
use crate::store::CheckpointId;
use crate::world::Context;
use crate::world::parts::WritingOut;
use crate::world::visits::Visit;
use std::fs::{DirBuilder, File};
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Pages of all rounds, one behind the other.
const PAGES: &str = "pages";

/// More than can be remembered is of no use.
const MOST_BYTES: u64 = MOST_BLOCKS as u64 * PAGE as u64;

fn directory(context: &Context, id: &CheckpointId) -> PathBuf {
    context.catalog.layout().tmp().join(format!("{id}.memory"))
}

/// The blocks that have come, and where they lie; made for the first of them, unless all files are there already.
fn pool(context: &Context, visit: &Visit, id: &CheckpointId) -> Result<(PathBuf, Arc<Mutex<Pool>>), Failure> {
    let directory = directory(context, id);
    visit.take_in(PAGES, || {
        context.pools.keep_new(id.clone(), Arc::default());
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.or_fail(|| "memory that comes cannot be kept".into())
    })?;
    let pool = context.pools.with(id, |pool| Arc::clone(pool));
    pool.map(|pool| (directory, pool)).ok_or_else(|| Failure::refused(format!("migration {id} is over here")))
}

/// Keeps pages of memory that come one behind the other.
pub fn keep_pages(context: &Context, (peer, id): (&str, &CheckpointId), bytes: &mut dyn Read) -> Result<(), Failure> {
    let failed = || "memory that comes cannot be kept".to_owned();
    let visit = visit_of(context, peer, id)?;
    let (directory, pool) = pool(context, &visit, id)?;
    let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
    let path = directory.join(PAGES);
    let mut file = File::options().create(true).append(true).mode(0o600).open(&path).or_fail(failed)?;
    let begin = file.metadata().or_fail(failed)?.len();
    let mut bytes = Watched { bytes, visit: &visit };
    let written = write_pages(context, &mut bytes, &mut file, begin);
    if written.is_err() {
        // What is there of it is not in the pool, and must not be in the way of what comes next.
        file.set_len(begin).or_fail(failed)?;
    }
    written?;
    // Now, while the containers run: what is written out later must not have to wait for it.
    file.sync_data().or_fail(failed)?;
    pool.add(&path, begin, Cutting::Pages).or_fail(failed)
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

/// A part of an image that comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its first byte; what is before came before.
    pub from: u64,
    /// Where it ends.
    pub length: u64,
    /// Whether the image ends there as well.
    pub whole: bool,
}

impl Part {
    /// As a query says it: `from=BYTES&length=BYTES&whole=true`, in this order.
    pub fn read(query: &str) -> Option<Self> {
        let (from, rest) = query.strip_prefix("from=")?.split_once("&length=")?;
        let (length, whole) = rest.split_once("&whole=")?;
        Some(Self { from: from.parse().ok()?, length: length.parse().ok()?, whole: whole.parse().ok()? })
    }
}

/// Puts a part of an image of pages together from what came before and from the stream; puts the image in its place when it
/// is whole.
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
    let (directory, pool) = pool(context, &incoming.visit, id)?;
    let pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
    let name = path.rsplit('/').next().unwrap_or(path);
    let coming = directory.join(format!("{checkpoint}-{name}"));
    begin(&coming, part.from).or_fail(failed)?;
    // Most of it are references of a few bytes.
    let mut bytes = BufReader::with_capacity(CHUNK, Watched { bytes, visit: &incoming.visit });
    let put_together = blocks::assemble(&mut bytes, &coming, (part.from, part.length), &pool);
    put_together.map_err(|broken| broken.error).or_fail(failed)?;
    match part.whole {
        // Not written out: where the power goes before it runs its digest differs, and the source has it still.
        true => incoming.put(&coming),
        false => Ok(()),
    }
}

/// What is there of it must be what was told to be.
fn begin(coming: &Path, from: u64) -> std::io::Result<()> {
    if from == 0 {
        return File::options().write(true).create(true).truncate(true).mode(0o600).open(coming).map(drop);
    }
    match coming.symlink_metadata()?.len() {
        length if length == from => Ok(()),
        other => Err(std::io::Error::other(format!("{other} bytes of it are here, and it goes on at {from}"))),
    }
}

/// What came before is of no use any more.
pub fn forget(context: &Context, id: &CheckpointId) -> Result<(), Failure> {
    drop(context.pools.take(id));
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
        let part = Part { from: 4096, length: 8192, whole: true };
        assert_eq!(Part::read("from=4096&length=8192&whole=true"), Some(part));
        for wrong in
            ["", "from=4096", "from=-1&length=2&whole=true", "from=0&length=2&whole=yes", "length=2&from=0&whole=true"]
        {
            assert_eq!(Part::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_goes_on_elsewhere_than_where_it_stood_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let coming = directory.path().join("pages-1.img");
        assert!(begin(&coming, 4096).is_err());
        begin(&coming, 0).unwrap();
        std::fs::write(&coming, [1; 4096]).unwrap();
        begin(&coming, 4096).unwrap();
        assert!(begin(&coming, 8192).is_err());
        begin(&coming, 0).unwrap();
        assert_eq!(coming.metadata().unwrap().len(), 0, "it begins anew");
    }
}
