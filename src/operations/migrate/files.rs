//! A checkpoint's files on their way to the peer.

use super::{Migrate, talk, words};
use crate::failure::{Failure, OrFail};
use crate::store::CheckpointId;
use crate::transport::client::Peer;
use crate::world::Context;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Small files are many, and each costs a journey there and back.
const AT_ONCE: u64 = 4;

/// Sends every file below `dir` that `sent` does not have, as `PUT files/PATH`; returns how many bytes they had.
pub fn send(context: &Context, migrate: &Migrate, dir: &Path, sent: &mut BTreeSet<String>) -> Result<u64, Failure> {
    let failed = || format!("the checkpoint of {} cannot be sent", migrate.name());
    let all = list(dir, Path::new("")).or_fail(failed)?;
    let mut wanted: Vec<(String, u64)> = all.into_iter().filter(|(path, _)| !sent.contains(path)).collect();
    // The largest first: what is begun last should not be what takes longest.
    wanted.sort_by_key(|(_, length)| *length);
    let total: u64 = wanted.iter().map(|(_, length)| length).sum();
    sent.extend(wanted.iter().map(|(path, _)| path.clone()));
    let (queue, done) = (Mutex::new(wanted), Arc::new(AtomicU64::new(0)));
    let (peer, id, told) = (talk::sending(migrate, talk::STALL, AT_ONCE), migrate.id(), &context.told);
    let worker = || {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some((path, length)) = next else { return Ok(()) };
            send_one(&peer, id, (dir, &path, length), &done)?;
            told.bytes("sent", done.load(Ordering::Relaxed), total);
        }
    };
    std::thread::scope(|threads| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| threads.spawn(worker)).collect();
        let ended =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ended.collect::<Vec<_>>().into_iter().collect::<Result<(), Failure>>()
    })?;
    Ok(total)
}

fn send_one(
    peer: &Peer,
    id: &CheckpointId,
    (dir, path, length): (&Path, &str, u64),
    done: &Arc<AtomicU64>,
) -> Result<(), Failure> {
    let failed = || format!("{path} cannot be sent to {}", peer.name());
    let file = File::open(dir.join(path)).or_fail(failed)?;
    let counted = Counted { file, done: Arc::clone(done) };
    let request = words::path(id, &format!("files/{path}?length={length}"));
    let kept = peer.put::<Value>(&request, counted, Some(length));
    kept.map(drop).map_err(|error| talk::failed(&error, failed()))
}

/// Regular files below a directory, with their lengths, by their paths in it.
fn list(dir: &Path, below: &Path) -> std::io::Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir.join(below))? {
        let entry = entry?;
        let path: PathBuf = below.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            found.extend(list(dir, &path)?);
        } else if kind.is_file() {
            found.push((path.to_string_lossy().into_owned(), entry.metadata()?.len()));
        }
    }
    Ok(found)
}

/// Counts what is read.
struct Counted {
    file: File,
    done: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.done.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
