//! The checkpoints' files on their way to the peer.

use super::talk::{Counted, Watched};
use super::{Migrate, talk};
use crate::failure::{Failure, OrFail};
use crate::migration::words;
use crate::migration::words::Here;
use crate::operations::persist::{Patience, Persistence};
use crate::store::CheckpointId;
use crate::transport::client::Peer;
use crate::world::Context;
use crate::world::cancels::Cancellable;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Small files are many, and each costs a journey there and back.
const AT_ONCE: usize = 4;

/// What the peer has of a checkpoint.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Sent {
    /// Its files.
    paths: BTreeSet<String>,
    /// How many bytes they had.
    pub bytes: u64,
}

impl Sent {
    /// Notes a file that has gone another way.
    pub fn note(&mut self, path: String, bytes: u64) {
        self.paths.insert(path);
        self.bytes += bytes;
    }
}

/// What the peer has of each of the checkpoints.
pub type AllSent = BTreeMap<CheckpointId, Sent>;

/// A file on its way.
struct Outgoing {
    checkpoint: CheckpointId,
    directory: PathBuf,
    path: String,
    length: u64,
}

/// Where they go.
struct Destination<'a> {
    peer: Peer,
    id: &'a CheckpointId,
    cancel: &'a Cancellable,
    persistence: Persistence<'a>,
}

/// Sends every file of the checkpoints in these directories that `sent` does not have, as `PUT files/CHECKPOINT/PATH`.
pub fn send(
    context: &Context,
    migrate: &Migrate,
    directories: &[(CheckpointId, PathBuf)],
    (sent, patience): (&mut AllSent, Patience),
) -> Result<(), Failure> {
    let failed = || format!("the checkpoint of {} cannot be sent", migrate.name());
    let mut wanted = Vec::new();
    for (checkpoint, directory) in directories {
        let sent = sent.entry(checkpoint.clone()).or_default();
        for (path, length) in list(directory, Path::new("")).or_fail(failed)? {
            if sent.paths.insert(path.clone()) {
                sent.bytes += length;
                let (checkpoint, directory) = (checkpoint.clone(), directory.clone());
                wanted.push(Outgoing { checkpoint, directory, path, length });
            }
        }
    }
    // The largest first: what is begun last should not be what takes longest.
    wanted.sort_by_key(|file| file.length);
    let total: u64 = wanted.iter().map(|file| file.length).sum();
    let (queue, done) = (Mutex::new(wanted), Arc::new(AtomicU64::new(0)));
    let (told, persistence) = (&context.told, talk::persistence(context, migrate, patience));
    let peer = talk::sending(migrate, patience.stall);
    let to = Destination { peer, id: migrate.id(), cancel: &migrate.cancel, persistence };
    let worker = || {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(file) = next else { return Ok(()) };
            send_one(&to, &file, &done)?;
            // What broke off counts twice where it goes on before the break.
            told.bytes("sent", done.load(Ordering::Relaxed).min(total), total);
        }
    };
    std::thread::scope(|threads| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| threads.spawn(worker)).collect();
        let ended =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ended.collect::<Vec<_>>().into_iter().collect::<Result<(), Failure>>()
    })
}

/// Sends a file; where the connection breaks it goes on from where it stood.
fn send_one(to: &Destination<'_>, outgoing: &Outgoing, done: &Arc<AtomicU64>) -> Result<(), Failure> {
    let Destination { peer, id, cancel, persistence } = to;
    let Outgoing { checkpoint, directory, path, length } = outgoing;
    let failed = || format!("{path} cannot be sent to {}", peer.name());
    let request = words::path(id, &format!("files/{checkpoint}/{path}"));
    let mut from = 0;
    loop {
        let mut file = File::open(directory.join(path)).or_fail(failed)?;
        file.seek(SeekFrom::Start(from)).or_fail(failed)?;
        let counted = Watched { bytes: Counted { bytes: file, done: Arc::clone(done) }, watch: cancel.watch() };
        let (sender, part) = (peer.clone(), format!("{request}?from={from}&length={length}"));
        let left = length.saturating_sub(from);
        let error = match cancel.unless_cancelled(move || sender.put::<Value>(&part, counted, Some(left)))? {
            Ok(_) => break,
            Err(error) => error,
        };
        persistence.broke(&error, failed)?;
        let (asker, question) = (peer.clone(), request.clone());
        let here: Here = persistence.ask_at_hand(move |left| asker.get_within(&question, left), failed)?;
        if here.is_whole {
            break;
        }
        persistence.is_there(here.bytes > from, &error, failed)?;
        from = here.bytes.min(*length);
    }
    persistence.went_on();
    Ok(())
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
