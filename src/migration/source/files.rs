//! The checkpoints' files on their way to the peer.

use super::talk::{Counted, Watched};
use super::{Migrate, talk};
use crate::failure::{Failure, OrFail};
use crate::migration::asking;
use crate::migration::words;
use crate::migration::words::Here;
use crate::store::CheckpointId;
use crate::transport::client::{Peer, PeerError};
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
use std::time::{Duration, Instant};

/// How long a peer may not be heard of after the last of a file came. The container may stand still for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two tries to reach it. The network has no event that says when it works again.
const PAUSE: Duration = Duration::from_millis(200);

/// Small files are many, and each costs a journey there and back.
const AT_ONCE: u64 = 4;

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

/// Sends every file of the checkpoints in these directories that `sent` does not have, as `PUT files/CHECKPOINT/PATH`.
pub fn send(
    context: &Context,
    migrate: &Migrate,
    directories: &[(CheckpointId, PathBuf)],
    sent: &mut AllSent,
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
    let (peer, id, told) = (talk::sending(migrate, talk::STALL, AT_ONCE), migrate.id(), &context.told);
    let cancel = &migrate.cancel;
    let worker = || {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(file) = next else { return Ok(()) };
            send_one(&peer, (id, cancel), &file, &done)?;
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

fn send_one(
    peer: &Peer,
    (id, cancel): (&CheckpointId, &Cancellable),
    outgoing: &Outgoing,
    done: &Arc<AtomicU64>,
) -> Result<(), Failure> {
    let Outgoing { checkpoint, directory, path, length } = outgoing;
    let failed = || format!("{path} cannot be sent to {}", peer.name());
    let request = words::path(id, &format!("files/{checkpoint}/{path}"));
    let (mut from, mut moved) = (0, Instant::now());
    loop {
        let mut file = File::open(directory.join(path)).or_fail(failed)?;
        file.seek(SeekFrom::Start(from)).or_fail(failed)?;
        let counted = Watched { bytes: Counted { bytes: file, done: Arc::clone(done) }, watch: cancel.watch() };
        let (to, part) = (peer.clone(), format!("{request}?from={from}&length={length}"));
        let left = length.saturating_sub(from);
        let error = match cancel.unless_cancelled(move || to.put::<Value>(&part, counted, Some(left)))? {
            Ok(_) => return Ok(()),
            Err(error) if error.is_in_doubt() => error,
            Err(error) => return Err(asking::failed(&error, failed())),
        };
        tracing::info!(%path, %error, "the connection broke");
        let here = arrived(peer, &request, cancel, (error, moved))?;
        if here.is_whole {
            return Ok(());
        }
        if here.bytes > from {
            moved = Instant::now();
        }
        from = here.bytes.min(*length);
    }
}

/// How much of a file has come over a connection that broke, as soon as the peer can be asked; the error for which it broke
/// where that takes too long.
fn arrived(
    peer: &Peer,
    request: &str,
    cancel: &Cancellable,
    (mut error, moved): (PeerError, Instant),
) -> Result<Here, Failure> {
    let failure = |error: &PeerError| asking::failed(error, format!("a file cannot be sent to {}", peer.name()));
    while moved.elapsed() < PATIENCE {
        let (to, question) = (peer.clone(), request.to_owned());
        let asked = cancel.unless_cancelled(move || {
            std::thread::sleep(PAUSE);
            to.get(&question)
        });
        error = match asked? {
            Ok(here) => return Ok(here),
            Err(error) if error.is_in_doubt() => error,
            Err(error) => return Err(failure(&error)),
        };
    }
    Err(failure(&error))
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
