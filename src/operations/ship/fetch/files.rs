//! The files of a checkpoint that comes. A connection that breaks is made anew, and a file goes on from where it stood.

use super::Fetch;
use super::bases::SMALL;
use crate::archive::FileEntry;
use crate::archive::blocks::{BlockDigest, BlocksError, Pool, assemble};
use crate::failure::Failure;
use crate::operations::ship::{PATIENCE, PAUSE, failed, words};
use crate::store::{Manifest, Staging};
use crate::transport::client::{Peer, PeerError};
use crate::world::Context;
use crate::world::fetches::Fetching;
use std::io::{self, BufRead, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Small files are many, and each costs a journey there and back. Of large ones each keeps all cores busy.
const SMALL_AT_ONCE: usize = 4;

/// Shortest block that a sender cuts, but for the last one of 2 MiB.
const SHORTEST_BLOCK: u64 = 4 << 10;

struct File {
    number: usize,
    path: PathBuf,
    length: u64,
}

struct Work<'a> {
    context: &'a Context,
    fetch: &'a Fetch,
    peer: Peer,
    pool: &'a Pool,
    fetching: &'a Fetching,
    literals: AtomicU64,
}

/// Fetches every file; returns how many bytes of them had to travel.
pub fn fetch(
    context: &Context,
    fetch: &Fetch,
    (manifest, staging): (&Manifest, &Staging),
    pool: &Pool,
    fetching: &Fetching,
) -> Result<u64, Failure> {
    let peer = crate::operations::ship::peer(context, &fetch.peer)?;
    let work = Work { context, fetch, peer, pool, fetching, literals: AtomicU64::new(0) };
    let file = |(number, (path, entry)): (usize, (PathBuf, &FileEntry))| File {
        number,
        path: staging.dir().join(path),
        length: entry.length,
    };
    let (small, large) = manifest.files().enumerate().map(file).partition(|file| file.length < SMALL);
    work.all(small, SMALL_AT_ONCE)?;
    work.all(large, 1)?;
    Ok(work.literals.into_inner())
}

impl Work<'_> {
    fn all(&self, files: Vec<File>, at_once: usize) -> Result<(), Failure> {
        let queue = Mutex::new(files.into_iter());
        let worker = || {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                match next {
                    Some(file) => self.one(&file)?,
                    None => return Ok(()),
                }
            }
        };
        std::thread::scope(|threads| {
            let workers: Vec<_> = (0..at_once).map(|_| threads.spawn(worker)).collect();
            let ended = workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            ended.collect::<Vec<_>>().into_iter().collect()
        })
    }

    fn one(&self, file: &File) -> Result<(), Failure> {
        let mut known = match file.length >= SMALL && !self.pool.is_empty() {
            true => self.known(file)?,
            false => Vec::new(),
        };
        let (mut from, mut heard) = (0, Instant::now());
        while from < file.length {
            self.fetching.wanted()?;
            let before = from;
            let error = match self.part(file, from, &known) {
                Ok(()) => return Ok(()),
                Err(Trouble { whole, error }) => {
                    from = whole;
                    error
                }
            };
            match error {
                Fault::Blocks(error) if error.is_about_the_pool() => {
                    // It travels in full then.
                    tracing::warn!(checkpoint = %self.fetch.id, %error, "a block is not what it was");
                    known.clear();
                }
                error if error.may_pass() && (from > before || heard.elapsed() < PATIENCE) => {
                    if from > before {
                        heard = Instant::now();
                    }
                    tracing::info!(checkpoint = %self.fetch.id, file = file.number, from, %error, "goes on from there");
                    std::thread::sleep(PAUSE);
                }
                error => return Err(self.failure(file, error)),
            }
        }
        Ok(())
    }

    /// Fetches a file from byte `from` on.
    fn part(&self, file: &File, from: u64, known: &[u8]) -> Result<(), Trouble> {
        let path = words::shared(&self.fetch.id, &format!("files/{}/{from}", file.number));
        let come = self.peer.post_for_stream(&path, known.to_vec());
        let come = come.map_err(|error| Trouble { whole: from, error: Fault::Peer(error) })?;
        let mut come = io::BufReader::with_capacity(1 << 20, Watched { come, fetching: self.fetching });
        let (literals, whole, outcome) = match assemble(&mut come, &file.path, (from, file.length), self.pool) {
            Ok(literals) => (literals, file.length, Ok(())),
            Err(broken) => (broken.literals, broken.whole, Err(broken.error)),
        };
        self.literals.fetch_add(literals, Ordering::Relaxed);
        let done = self.fetching.done.fetch_add(whole - from, Ordering::Relaxed) + (whole - from);
        self.context.told.bytes("fetched", done, self.fetch.bytes);
        outcome.map_err(|error| Trouble { whole, error: Fault::Blocks(error) })
    }

    /// The digests of those blocks of a file that are here, as they are asked for.
    fn known(&self, file: &File) -> Result<Vec<u8>, Failure> {
        let heard = Instant::now();
        loop {
            self.fetching.wanted()?;
            match self.ask(file) {
                Ok(known) => return Ok(known),
                Err(error) if error.may_pass() && heard.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
                Err(error) => return Err(self.failure(file, error)),
            }
        }
    }

    fn ask(&self, file: &File) -> Result<Vec<u8>, Fault> {
        let path = words::shared(&self.fetch.id, &format!("blocks/{}", file.number));
        let come = self.peer.get_stream(&path).map_err(Fault::Peer)?;
        let most = file.length / SHORTEST_BLOCK + file.length / (2 << 20) + 2;
        let mut come = io::BufReader::with_capacity(64 << 10, come.take(most * BlockDigest::BYTES as u64));
        let (mut known, mut digest) = (Vec::new(), [0; BlockDigest::BYTES]);
        while !come.fill_buf().map_err(Fault::Stream)?.is_empty() {
            come.read_exact(&mut digest).map_err(Fault::Stream)?;
            if self.pool.has(&[BlockDigest::from_bytes(digest)])[0] {
                known.extend_from_slice(&digest);
            }
        }
        Ok(known)
    }

    fn failure(&self, file: &File, error: Fault) -> Failure {
        let what =
            format!("file {} of checkpoint {} does not come from {}", file.number, self.fetch.id, self.fetch.peer);
        match error {
            Fault::Peer(error) => failed(&error, what),
            Fault::Blocks(error) => Failure::new(what).because(&error),
            Fault::Stream(error) => Failure::new(what).because(&error),
        }
    }
}

/// Why a file did not come in whole, and how much of it is there.
struct Trouble {
    whole: u64,
    error: Fault,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Peer(PeerError),
    #[error(transparent)]
    Blocks(BlocksError),
    #[error(transparent)]
    Stream(io::Error),
}

impl Fault {
    /// Whether it may be otherwise a moment later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Peer(error) => error.is_in_doubt(),
            Self::Blocks(error) => matches!(error, BlocksError::Stream(_)),
            Self::Stream(_) => true,
        }
    }
}

/// Bytes that come, for as long as somebody wants them.
struct Watched<'a, R> {
    come: R,
    fetching: &'a Fetching,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.fetching.is_unwanted.load(Ordering::Relaxed) {
            true => Err(io::Error::other("it is not wanted any more")),
            false => self.come.read(buffer),
        }
    }
}
