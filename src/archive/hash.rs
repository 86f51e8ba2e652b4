//! Digests of many files at once, at memory speed.
//!
//! Every file is cut into segments, and all segments of all files go through one queue, so one file of many
//! gigabytes keeps every core as busy as a thousand small ones do. BLAKE3 is a tree hash: the chaining values
//! of segments whose length is a power of two merge into the very digest that hashing the whole file gives.
//!
//! Files are read, not mapped: a bad sector under a mapping is a SIGBUS, which would end the helper, while a
//! failed read is an error that names the file.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};

use super::Progress;
use super::entry::Digest;

/// Length of a segment in bytes. BLAKE3 asks for a power of two.
const SEGMENT: u64 = 8 << 20;
/// What a thread reads at once: small enough to stay in a core's cache between the read and the hash.
const READ: usize = 256 << 10;

/// Why a file has no digest.
#[derive(Debug, thiserror::Error)]
pub enum HashFault {
    /// There is no such file.
    #[error("missing")]
    Missing,
    /// It is a directory, a link, a device or the like.
    #[error("not a regular file")]
    NotRegular,
    /// Its length is not what it should be.
    #[error("has {found} bytes instead of {expected}")]
    Length { expected: u64, found: u64 },
    /// It could not be read.
    #[error("cannot be read")]
    Read(#[source] io::Error),
}

/// A file to be hashed.
#[derive(Debug, Clone)]
pub struct HashJob {
    /// The file. A symbolic link in the last component is not followed.
    pub path: PathBuf,
    /// The length it must have, in bytes.
    pub length: u64,
}

/// As many threads as this process may run at once.
pub fn all_cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Digests of `jobs`, in their order, by `threads` threads. `progress` is told the bytes done since its last call.
///
/// Memory is bounded by the number of threads and 32 bytes a segment (8 MiB) of files that really are that long.
pub fn hash_files(
    jobs: &[HashJob],
    threads: NonZeroUsize,
    progress: Progress<'_>,
) -> Vec<Result<Digest, HashFault>> {
    let slots: Vec<Slot> = jobs.iter().map(Slot::new).collect();
    let queue: Vec<(usize, u64)> = slots
        .iter()
        .enumerate()
        .flat_map(|(index, slot)| (0..slot.segments).map(move |segment| (index, segment)))
        .collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut buffer = vec![0; READ];
        while let Some(&(index, segment)) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
            slots[index].hash_segment(segment, &mut buffer, progress);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.get().min(queue.len()) {
            scope.spawn(work);
        }
        work();
    });
    slots.into_iter().map(Slot::into_digest).collect()
}

/// The digest of one file that must have `length` bytes.
pub fn hash_file(path: &Path, length: u64) -> Result<Digest, HashFault> {
    let job = HashJob {
        path: path.to_owned(),
        length,
    };
    hash_files(&[job], all_cores(), &|_| ())
        .pop()
        .unwrap_or(Err(HashFault::Missing))
}

/// One file on its way.
struct Slot<'a> {
    job: &'a HashJob,
    /// 0 when the file failed before it was read.
    segments: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Open from its first segment to its last, so that a checkpoint of many files needs few descriptors.
    file: Option<Arc<File>>,
    done: u64,
    values: Vec<ChainingValue>,
    result: Option<Result<Digest, HashFault>>,
}

impl<'a> Slot<'a> {
    fn new(job: &'a HashJob) -> Self {
        let (segments, result) = match check(job) {
            // An empty file has one empty segment.
            Ok(()) => (job.length.div_ceil(SEGMENT).max(1), None),
            Err(fault) => (0, Some(Err(fault))),
        };
        Self {
            job,
            segments,
            state: Mutex::new(State {
                result,
                ..State::default()
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hash_segment(&self, segment: u64, buffer: &mut [u8], progress: Progress<'_>) {
        if self.lock().result.is_some() {
            return;
        }
        let outcome = self
            .file()
            .and_then(|file| self.read_segment(&file, segment, buffer, progress));
        let mut state = self.lock();
        match outcome {
            Ok(Hashed::Whole(digest)) => state.result = Some(Ok(digest)),
            Ok(Hashed::Part(value)) => {
                // Only as many as the file has, whose real length was looked at.
                state
                    .values
                    .resize(self.segments as usize, ChainingValue::default());
                state.values[segment as usize] = value;
                state.done += 1;
                if state.done == self.segments {
                    state.result = Some(Ok(merge(&state.values, self.job.length)));
                }
            }
            Err(fault) => state.result = Some(Err(fault)),
        }
        if state.result.is_some() {
            state.file = None;
        }
    }

    fn file(&self) -> Result<Arc<File>, HashFault> {
        let mut state = self.lock();
        if let Some(file) = &state.file {
            return Ok(Arc::clone(file));
        }
        let file = File::options()
            .read(true)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
            .open(&self.job.path)
            .map_err(fault)?;
        let file = Arc::new(file);
        state.file = Some(Arc::clone(&file));
        Ok(file)
    }

    fn read_segment(
        &self,
        file: &File,
        segment: u64,
        buffer: &mut [u8],
        progress: Progress<'_>,
    ) -> Result<Hashed, HashFault> {
        let start = segment * SEGMENT;
        let end = (start + SEGMENT).min(self.job.length);
        let mut hasher = blake3::Hasher::new();
        if self.segments > 1 {
            hasher.set_input_offset(start);
        }
        let mut at = start;
        while at < end {
            let want = (end - at).min(buffer.len() as u64) as usize;
            let got = read_at(file, &mut buffer[..want], at).map_err(HashFault::Read)?;
            if got == 0 {
                return Err(HashFault::Length {
                    expected: self.job.length,
                    found: at,
                });
            }
            hasher.update(&buffer[..got]);
            progress(got as u64);
            at += got as u64;
        }
        Ok(match self.segments {
            1 => Hashed::Whole(hasher.finalize().into()),
            _ => Hashed::Part(hasher.finalize_non_root()),
        })
    }

    fn into_digest(self) -> Result<Digest, HashFault> {
        let state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        state.result.unwrap_or(Err(HashFault::Missing))
    }
}

enum Hashed {
    Whole(Digest),
    Part(ChainingValue),
}

fn check(job: &HashJob) -> Result<(), HashFault> {
    let metadata = job.path.symlink_metadata().map_err(fault)?;
    if !metadata.is_file() {
        return Err(HashFault::NotRegular);
    }
    if metadata.len() != job.length {
        return Err(HashFault::Length {
            expected: job.length,
            found: metadata.len(),
        });
    }
    Ok(())
}

fn fault(error: io::Error) -> HashFault {
    match error.kind() {
        io::ErrorKind::NotFound => HashFault::Missing,
        _ => HashFault::Read(error),
    }
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => return other,
        }
    }
}

/// The digest of a file of `length` bytes, more than one segment, from its segments' chaining values.
fn merge(values: &[ChainingValue], length: u64) -> Digest {
    let left = left_subtree_len(length);
    let (a, b) = values.split_at((left / SEGMENT) as usize);
    merge_subtrees_root(&subtree(a, left), &subtree(b, length - left), Mode::Hash).into()
}

fn subtree(values: &[ChainingValue], length: u64) -> ChainingValue {
    if let [value] = values {
        return *value;
    }
    let left = left_subtree_len(length);
    let (a, b) = values.split_at((left / SEGMENT) as usize);
    merge_subtrees_non_root(&subtree(a, left), &subtree(b, length - left), Mode::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::atomic::AtomicU64;

    fn job(dir: &Path, name: &str, bytes: &[u8]) -> HashJob {
        fs::write(dir.join(name), bytes).unwrap();
        HashJob {
            path: dir.join(name),
            length: bytes.len() as u64,
        }
    }

    #[test]
    fn segments_merge_into_the_plain_digest() {
        let dir = tempfile::tempdir().unwrap();
        let lengths = [
            0,
            1,
            SEGMENT - 1,
            SEGMENT,
            SEGMENT + 1,
            2 * SEGMENT,
            3 * SEGMENT + 7,
            5 * SEGMENT,
        ];
        let bytes: Vec<u8> = (0..5 * SEGMENT).map(|i| (i % 251) as u8).collect();
        let jobs: Vec<_> = lengths
            .iter()
            .map(|length| job(dir.path(), &length.to_string(), &bytes[..*length as usize]))
            .collect();
        let seen = AtomicU64::new(0);
        let progress = |n| {
            seen.fetch_add(n, Ordering::Relaxed);
        };
        let digests = hash_files(&jobs, NonZeroUsize::new(3).unwrap(), &progress);
        for (length, digest) in lengths.iter().zip(digests) {
            assert_eq!(
                digest.unwrap(),
                Digest::of(&bytes[..*length as usize]),
                "{length}"
            );
        }
        assert_eq!(seen.into_inner(), lengths.iter().sum::<u64>());
    }

    #[test]
    fn faults_say_what_is_wrong_and_spare_the_other_files() {
        let dir = tempfile::tempdir().unwrap();
        let good = job(dir.path(), "good", b"good");
        let mut long = job(dir.path(), "long", b"long");
        long.length = u64::MAX;
        let missing = HashJob {
            path: dir.path().join("missing"),
            length: 1,
        };
        std::os::unix::fs::symlink("good", dir.path().join("link")).unwrap();
        let link = HashJob {
            path: dir.path().join("link"),
            length: 4,
        };
        let found = hash_files(&[missing, long, link, good], all_cores(), &|_| ());
        assert!(matches!(found[0], Err(HashFault::Missing)));
        assert!(matches!(found[1], Err(HashFault::Length { found: 4, .. })));
        assert!(matches!(found[2], Err(HashFault::NotRegular)));
        assert_eq!(*found[3].as_ref().unwrap(), Digest::of(b"good"));
    }
}
