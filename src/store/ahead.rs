//! Digests computed before they are needed: of what lies in a staging directory while the container still runs
//! (earlier rounds of memory, the writable layer's base), so that the downtime pays only for the rest.
//!
//! A digest counts as long as nothing happened to its file: same inode, length, modification and status change time.
//! Times are as fine as the kernel's tick, so a file that changed just before it was hashed is not remembered.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::StoreError;
use super::tree::{self, Node};
use crate::archive::hash::{HashFault, HashJob, all_cores, hash_files};
use crate::archive::{Digest, Progress, TICK};

/// What is known of the files of one directory.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    known: Mutex<HashMap<PathBuf, (Stamp, Digest)>>,
}

/// What shows that a file changed: device, inode, length, modification and status change time.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl Ahead {
    /// Hashes every file below `dir` that is not known yet. Returns the bytes hashed.
    pub fn hash(&self, dir: &Path, progress: Progress<'_>) -> Result<u64, StoreError> {
        let mut jobs = Vec::new();
        for (path, node) in tree::list(dir)? {
            if let Node::File(length) = node {
                jobs.push(HashJob { path: path.below(dir), length });
            }
        }
        jobs.retain(|job| self.lookup(job).is_none());
        // Whoever wrote them is done, or their times will show it.
        std::thread::sleep(TICK);
        let stamps: Vec<_> = jobs.iter().map(|job| settled(&job.path)).collect();
        let digests = hash_files(&jobs, all_cores(), progress);
        let mut bytes = 0;
        for ((job, stamp), digest) in jobs.into_iter().zip(stamps).zip(digests) {
            if let (Some(stamp), Ok(digest)) = (stamp, digest) {
                self.lock().insert(job.path, (stamp, digest));
                bytes += job.length;
            }
        }
        Ok(bytes)
    }

    /// Digests of `jobs` in their order, hashing only what is not known.
    pub fn complete(&self, jobs: &[HashJob], progress: Progress<'_>) -> Vec<Result<Digest, HashFault>> {
        let known: Vec<_> = jobs.iter().map(|job| self.lookup(job)).collect();
        let unknown: Vec<_> =
            jobs.iter().zip(&known).filter(|(_, known)| known.is_none()).map(|(job, _)| job.clone()).collect();
        let mut hashed = hash_files(&unknown, all_cores(), progress).into_iter();
        let digest = |(job, known): (&HashJob, Option<Digest>)| match known {
            Some(digest) => {
                progress(job.length);
                Ok(digest)
            }
            None => hashed.next().unwrap_or(Err(HashFault::Missing)),
        };
        jobs.iter().zip(known).map(digest).collect()
    }

    fn lookup(&self, job: &HashJob) -> Option<Digest> {
        let known = self.lock();
        let (stamp, digest) = known.get(&job.path)?;
        let metadata = job.path.symlink_metadata().ok()?;
        (metadata.len() == job.length && *stamp == self::stamp(&metadata)).then_some(*digest)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, (Stamp, Digest)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    let mtime = (metadata.mtime(), metadata.mtime_nsec());
    (metadata.dev(), metadata.ino(), metadata.len(), mtime, (metadata.ctime(), metadata.ctime_nsec()))
}

/// The stamp of a file that has not just changed.
fn settled(path: &Path) -> Option<Stamp> {
    let metadata = path.symlink_metadata().ok()?;
    let bound = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.checked_sub(TICK)?;
    let changed = Duration::new(metadata.ctime().try_into().ok()?, metadata.ctime_nsec().try_into().ok()?);
    (changed < bound).then(|| stamp(&metadata))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn i4_a_digest_from_before_is_not_used_for_a_file_that_changed() {
        let dir = tempfile::tempdir().unwrap();
        let job = |name: &str| HashJob { path: dir.path().join(name), length: 4 };
        for name in ["same", "rewritten", "replaced"] {
            fs::write(dir.path().join(name), b"four").unwrap();
        }
        let ahead = Ahead::default();
        assert_eq!(ahead.hash(dir.path(), &|_| ()).unwrap(), 12);
        assert_eq!(ahead.hash(dir.path(), &|_| ()).unwrap(), 0);
        fs::write(dir.path().join("rewritten"), b"FOUR").unwrap();
        fs::write(dir.path().join("new"), b"Four").unwrap();
        fs::rename(dir.path().join("new"), dir.path().join("replaced")).unwrap();
        let jobs = [job("same"), job("rewritten"), job("replaced"), job("missing")];
        let seen = AtomicU64::new(0);
        let digests = ahead.complete(&jobs, &|n| _ = seen.fetch_add(n, Ordering::Relaxed));
        assert_eq!(*digests[0].as_ref().unwrap(), Digest::of(b"four"));
        assert_eq!(*digests[1].as_ref().unwrap(), Digest::of(b"FOUR"));
        assert_eq!(*digests[2].as_ref().unwrap(), Digest::of(b"Four"));
        assert!(digests[3].is_err());
        assert_eq!(seen.into_inner(), 12);
    }
}
