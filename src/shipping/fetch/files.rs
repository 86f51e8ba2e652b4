//! The files of a checkpoint that comes. A connection that breaks is made anew, and a file goes on from where it stood.

use super::Fetch;
use super::bases::SMALL;
use super::watched::Watched;
use crate::archive::FileEntry;
use crate::archive::blocks::{BlockDigest, BlocksError, Pool, assemble};
use crate::archive::hash::all_cores;
use crate::failure::Failure;
use crate::operations::carriage;
use crate::operations::persist::{Persistence, failed};
use crate::shipping::words;
use crate::store::{Manifest, Staging};
use crate::transport::client::{Carriage, Flow, Peer, PeerError};
use crate::world::Context;
use crate::world::fetches::Fetching;
use std::io::{self, BufRead, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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

/// From so many bytes on, how long they took tells what the network carries.
const TELLS: u64 = 16 << 20;

struct Work<'a> {
    context: &'a Context,
    fetch: &'a Fetch,
    peer: Peer,
    /// All files together go no faster than was asked for.
    flow: Option<Flow>,
    pool: &'a Pool,
    fetching: &'a Arc<Fetching>,
    persistence: Persistence<'a>,
    literals: AtomicU64,
    /// Bytes a second that came, as it was measured last; 0 before that.
    link: AtomicU64,
}

/// How what comes travels, over a network that carries so many bytes a second; no faster than all else of this flow lets it.
pub fn carriage(fetch: &Fetch, flow: Option<Flow>, link: Option<u64>) -> Carriage {
    let compress = fetch.way.compress.unwrap_or_else(|| carriage::compression(link, all_cores()));
    Carriage { compress, flow, patience: None }
}

/// Fetches every file; returns how many bytes of them had to travel.
pub fn fetch(
    context: &Context,
    fetch: &Fetch,
    (manifest, staging): (&Manifest, &Staging),
    pool: &Pool,
    fetching: &Arc<Fetching>,
) -> Result<u64, Failure> {
    let flow = fetch.way.rate.map(Flow::of);
    let peer = crate::shipping::peer(context, &fetch.peer)?;
    let persistence = fetch.persistence(context);
    let (literals, link) = Default::default();
    let work = Work { context, fetch, peer, flow, pool, fetching, persistence, literals, link };
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
        let mut from = 0;
        while from < file.length {
            self.fetching.wanted()?;
            let before = from;
            let error = match self.part(file, from, &known) {
                Ok(()) => break,
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
                error => {
                    if from > before {
                        self.persistence.went_on();
                    }
                    self.again(file, error)?;
                }
            }
        }
        self.persistence.went_on();
        Ok(())
    }

    /// Fetches a file from byte `from` on.
    fn part(&self, file: &File, from: u64, known: &[u8]) -> Result<(), Trouble> {
        let path = words::shared(&self.fetch.id, &format!("files/{}/{from}", file.number));
        let link = Some(self.link.load(Ordering::Relaxed)).filter(|link| *link > 0);
        let (peer, begun) = (self.peer.clone().carried(carriage(self.fetch, self.flow, link)), Instant::now());
        let come = peer.post_for_stream(&path, known.to_vec());
        let come = come.map_err(|error| Trouble { whole: from, error: Fault::Peer(error) })?;
        let watched = Watched::for_fetch(self.fetch, self.fetching, come);
        let mut come = io::BufReader::with_capacity(1 << 20, watched);
        let (literals, whole, outcome) = match assemble(&mut come, &file.path, (from, file.length), self.pool) {
            Ok(literals) => (literals, file.length, Ok(())),
            Err(broken) => (broken.literals, broken.whole, Err(broken.error)),
        };
        self.literals.fetch_add(literals, Ordering::Relaxed);
        if literals >= TELLS {
            self.link.store((literals as f64 / begun.elapsed().as_secs_f64()) as u64, Ordering::Relaxed);
        }
        let done = self.fetching.done.fetch_add(whole - from, Ordering::Relaxed) + (whole - from);
        self.context.told.bytes("fetched", done, self.fetch.bytes);
        outcome.map_err(|error| Trouble { whole, error: Fault::Blocks(error) })
    }

    /// The digests of those blocks of a file that are here, as they are asked for.
    fn known(&self, file: &File) -> Result<Vec<u8>, Failure> {
        loop {
            self.fetching.wanted()?;
            match self.ask(file) {
                Ok(known) => return Ok(known),
                Err(error) => self.again(file, error)?,
            }
        }
    }

    /// Returns when what has failed may be tried once more.
    fn again(&self, file: &File, error: Fault) -> Result<(), Failure> {
        self.fetch.cancel.go_ahead(false)?;
        match error.may_pass() {
            true => self.persistence.again_after(error.cause(), || self.failure(file, &error)),
            false => Err(self.failure(file, &error)),
        }
    }

    fn ask(&self, file: &File) -> Result<Vec<u8>, Fault> {
        let path = words::shared(&self.fetch.id, &format!("blocks/{}", file.number));
        // Digests do not compress.
        let peer = self.peer.clone().carried(Carriage { flow: self.flow, ..Carriage::default() });
        let come = peer.get_stream(&path).map_err(Fault::Peer)?;
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

    fn failure(&self, file: &File, error: &Fault) -> Failure {
        let what =
            format!("file {} of checkpoint {} does not come from {}", file.number, self.fetch.id, self.fetch.peer);
        match error {
            Fault::Peer(error) => failed(error, what),
            error => Failure::new(what).because(error.cause()),
        }
    }
}

/// Why a file did not come in whole, and how much of it is there.
struct Trouble {
    whole: u64,
    error: Fault,
}

enum Fault {
    Peer(PeerError),
    Blocks(BlocksError),
    Stream(io::Error),
}

impl Fault {
    /// Whether it may be otherwise a moment later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Peer(error) => error.may_pass(),
            Self::Blocks(error) => matches!(error, BlocksError::Stream(_)),
            Self::Stream(_) => true,
        }
    }

    fn cause(&self) -> &(dyn std::error::Error + 'static) {
        match self {
            Self::Peer(error) => error,
            Self::Blocks(error) => error,
            Self::Stream(error) => error,
        }
    }
}
