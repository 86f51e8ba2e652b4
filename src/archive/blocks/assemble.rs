//! A file from a stream of blocks and a pool.
//!
//! One thread reads records; every core puts batches of them together: it reads what is referred to, hashes it, and writes
//! the batch with one call.

use super::pool::{Place, Pool};
use super::record::{MAX_BLOCK, PAGE, Part, Record};
use super::{BlockDigest, BlocksError};
use crate::archive::hash::all_cores;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};

/// Bytes of the file in a batch, about.
const BATCH: usize = 1 << 20;

/// Zeros in longer runs become holes.
const HOLE: u32 = 32 << 10;

/// A file that could not be put together in whole.
#[derive(Debug)]
pub struct Broken {
    /// Why.
    pub error: BlocksError,
    /// How many bytes of it are there, without a gap: a stream from there on completes it.
    pub whole: u64,
    /// How many bytes came as they are.
    pub literals: u64,
}

/// Puts bytes `from` to `length` of the file at `path` together from `input`; what is before them is there already. Returns
/// how many bytes came as they are.
///
/// What the input says is checked before it is used: no more is allocated than a batch for each core, nothing is written
/// beyond `length`, and the input must end where the file does.
///
/// # Errors
/// The file is cut to what is there without a gap.
pub fn assemble(input: &mut impl Read, path: &Path, (from, length): (u64, u64), pool: &Pool) -> Result<u64, Broken> {
    let open = File::options().write(true).custom_flags(nix::libc::O_NOFOLLOW).open(path);
    let file = match open {
        Ok(file) => file,
        Err(error) => return Err(Broken { error: BlocksError::file("open", path)(error), whole: from, literals: 0 }),
    };
    let work = Work { file: &file, path, pool, failed: AtomicBool::new(false), first: Mutex::default() };
    let mut batches = Batches::new(from, length);
    let (read, done) = thread::scope(|scope| {
        let (mut lanes, mut threads): (Vec<SyncSender<Batch>>, Vec<ScopedJoinHandle<'_, usize>>) = Default::default();
        for _ in 0..all_cores().get() {
            let (sender, receiver) = sync_channel(1);
            let work = &work;
            threads.push(scope.spawn(move || work.run(&receiver)));
            lanes.push(sender);
        }
        let read = batches.read_all(input, &work.failed, &lanes);
        drop(lanes);
        let done =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        (read, done.collect::<Vec<_>>())
    });
    let written = work.first.into_inner().unwrap_or_else(PoisonError::into_inner);
    let error = match (written, read) {
        (None, Ok(())) => None,
        (Some(error), _) | (None, Err(error)) => Some(error),
    };
    let whole = if error.is_none() { length } else { batches.whole(&done) };
    let cut = file.set_len(whole).map_err(BlocksError::file("set the length of", path));
    match (error, cut) {
        (None, Ok(())) => Ok(batches.literals),
        (Some(error), Ok(())) => Err(Broken { error, whole, literals: batches.literals }),
        (_, Err(error)) => Err(Broken { error, whole: from, literals: batches.literals }),
    }
}

/// Bytes of the file, with gaps that are filled from the pool.
#[derive(Debug)]
struct Batch {
    offset: u64,
    bytes: Vec<u8>,
    gaps: Vec<Gap>,
}

impl Batch {
    /// An empty one, with room for all that comes into it.
    fn at(offset: u64) -> Self {
        Self { offset, bytes: Vec::with_capacity(BATCH + MAX_BLOCK), gaps: Vec::with_capacity(BATCH / PAGE) }
    }
}

#[derive(Debug)]
struct Gap {
    at: usize,
    length: usize,
    digest: BlockDigest,
}

/// The input as batches.
struct Batches {
    from: u64,
    length: u64,
    at: u64,
    batch: Batch,
    /// Where each batch ends that was handed out.
    ends: Vec<u64>,
    literals: u64,
}

impl Batches {
    fn new(from: u64, length: u64) -> Self {
        Self { from, length, at: from, batch: Batch::at(from), ends: Vec::new(), literals: 0 }
    }

    fn read_all(
        &mut self,
        input: &mut impl Read,
        failed: &AtomicBool,
        lanes: &[SyncSender<Batch>],
    ) -> Result<(), BlocksError> {
        Part { from: self.from, length: self.length }.expect(input)?;
        let read = self.read_records(input, failed, lanes);
        // What came before the stream broke off is kept.
        self.hand_out(lanes);
        read
    }

    fn read_records(
        &mut self,
        input: &mut impl Read,
        failed: &AtomicBool,
        lanes: &[SyncSender<Batch>],
    ) -> Result<(), BlocksError> {
        while self.at < self.length && !failed.load(Ordering::Relaxed) {
            let record = Record::read(input, self.at, self.length - self.at)?;
            self.take(record, input, lanes)?;
            if self.batch.bytes.len() >= BATCH {
                self.hand_out(lanes);
            }
        }
        let mut more = [0];
        match self.at == self.length && input.read(&mut more).map_err(BlocksError::Stream)? > 0 {
            true => Err(BlocksError::Record { offset: self.length, fault: "comes after the file's end" }),
            false => Ok(()),
        }
    }

    fn take(&mut self, record: Record, input: &mut impl Read, lanes: &[SyncSender<Batch>]) -> Result<(), BlocksError> {
        let begin = self.batch.bytes.len();
        let length = record.length() as usize;
        match record {
            Record::Zeros(zeros) if zeros >= HOLE => {
                self.hand_out(lanes);
                self.batch.offset += u64::from(zeros);
            }
            Record::Zeros(_) => self.batch.bytes.resize(begin + length, 0),
            Record::Reference(_, digest) => {
                self.batch.bytes.resize(begin + length, 0);
                self.batch.gaps.push(Gap { at: begin, length, digest });
            }
            Record::Literal(_) => {
                self.batch.bytes.resize(begin + length, 0);
                if let Err(error) = input.read_exact(&mut self.batch.bytes[begin..]) {
                    self.batch.bytes.truncate(begin);
                    return Err(BlocksError::Stream(error));
                }
                self.literals += length as u64;
            }
        }
        self.at += length as u64;
        Ok(())
    }

    /// To the lanes in turn, so that each one's count says which batches are written.
    fn hand_out(&mut self, lanes: &[SyncSender<Batch>]) {
        if self.batch.bytes.is_empty() {
            return;
        }
        let end = self.batch.offset + self.batch.bytes.len() as u64;
        let batch = std::mem::replace(&mut self.batch, Batch::at(end));
        // One that has failed takes no more, and has said why.
        let _ = lanes[self.ends.len() % lanes.len()].send(batch);
        self.ends.push(end);
    }

    /// Up to where the file has no gap, where each lane has written so many batches.
    fn whole(&self, done: &[usize]) -> u64 {
        let lanes = done.len();
        let written = done.iter().enumerate().map(|(lane, count)| count * lanes + lane).min().unwrap_or(0);
        match written.min(self.ends.len()).checked_sub(1) {
            // The zeros before the next batch are there too, but it is simpler to have them come again.
            Some(last) => self.ends[last],
            None => self.from,
        }
    }
}

/// What the threads that write share.
struct Work<'a> {
    file: &'a File,
    path: &'a Path,
    pool: &'a Pool,
    failed: AtomicBool,
    first: Mutex<Option<BlocksError>>,
}

impl Work<'_> {
    /// Writes batches until there are no more, or one fails. How many were written.
    fn run(&self, batches: &Receiver<Batch>) -> usize {
        let (mut source, mut done) = (Source::default(), 0);
        for mut batch in batches {
            if let Err(error) = self.write(&mut batch, &mut source) {
                self.failed.store(true, Ordering::Relaxed);
                self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                return done;
            }
            done += 1;
        }
        done
    }

    fn write(&self, batch: &mut Batch, source: &mut Source) -> Result<(), BlocksError> {
        let mut gaps = batch.gaps.as_slice();
        while let Some(run) = self.run_of(gaps, batch.offset)? {
            let (these, rest) = gaps.split_at(run.gaps);
            gaps = rest;
            let begin = these[0].at;
            let bytes = &mut batch.bytes[begin..begin + run.bytes];
            source.read(self.pool, run.place, bytes)?;
            self.check(these, run.place, &batch.bytes)?;
        }
        self.file.write_all_at(&batch.bytes, batch.offset).map_err(BlocksError::file("write", self.path))
    }

    /// How many of the gaps, which follow each other, lie one behind the other in the pool as well.
    fn run_of(&self, gaps: &[Gap], batch: u64) -> Result<Option<Run>, BlocksError> {
        let place = |gap: &Gap| {
            let unknown = BlocksError::Unknown { digest: gap.digest, offset: batch + gap.at as u64 };
            self.pool.place(&gap.digest).ok_or(unknown)
        };
        let Some(first) = gaps.first() else { return Ok(None) };
        let mut run = Run { place: place(first)?, gaps: 1, bytes: first.length };
        for gap in &gaps[1..] {
            let behind = Place { offset: run.place.offset + run.bytes as u64, ..run.place };
            if gap.at != first.at + run.bytes || place(gap)? != behind {
                break;
            }
            run.gaps += 1;
            run.bytes += gap.length;
        }
        Ok(Some(run))
    }

    fn check(&self, gaps: &[Gap], place: Place, bytes: &[u8]) -> Result<(), BlocksError> {
        let changed = |gap: &&Gap| BlockDigest::of(&bytes[gap.at..gap.at + gap.length]) != gap.digest;
        match gaps.iter().find(changed) {
            Some(gap) => Err(BlocksError::Changed {
                digest: gap.digest,
                path: self.pool.path(place).to_owned(),
                at: place.offset + (gap.at - gaps[0].at) as u64,
            }),
            None => Ok(()),
        }
    }
}

struct Run {
    place: Place,
    gaps: usize,
    bytes: usize,
}

/// Reads of the pool; one file is open at a time, since blocks that follow each other come from the same one.
#[derive(Default)]
struct Source {
    open: Option<(usize, File)>,
}

impl Source {
    fn read(&mut self, pool: &Pool, place: Place, bytes: &mut [u8]) -> Result<(), BlocksError> {
        let path = pool.path(place);
        let file = match self.open.take() {
            Some((number, file)) if number == place.file => file,
            _ => File::options()
                .read(true)
                .custom_flags(nix::libc::O_NOFOLLOW)
                .open(path)
                .map_err(BlocksError::pool(path))?,
        };
        let read = file.read_exact_at(bytes, place.offset);
        self.open = Some((place.file, file));
        read.map_err(BlocksError::pool(path))
    }
}
