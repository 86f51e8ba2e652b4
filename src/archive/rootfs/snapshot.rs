//! What a tree looked like, so that a later pass can tell what changed.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::stat::FileStat;

use crate::archive::TICK;

/// What each captured path looked like just before it was read.
#[derive(Debug, Default)]
pub struct Snapshot {
    stamps: HashMap<Box<[u8]>, Stamp>,
}

/// What shows that a file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    dev: u64,
    ino: u64,
    size: u64,
    /// Nanoseconds since 1970.
    mtime: i128,
    ctime: i128,
    mode: u32,
    uid: u32,
    gid: u32,
    rdev: u64,
    /// False when the stamp proves nothing: the file was changing as it was captured.
    settled: bool,
}

impl Snapshot {
    /// How many paths it knows.
    pub fn len(&self) -> usize {
        self.stamps.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.stamps.is_empty()
    }

    /// Notes what a path looked like at `now`, before it was read.
    pub(super) fn insert(&mut self, path: &[u8], stat: &FileStat, now: SystemTime) {
        let stamp = Stamp { settled: is_settled(stat, now), ..stamp(stat) };
        self.stamps.insert(path.into(), stamp);
    }

    /// Notes that a path has to be captured again.
    pub(super) fn unsettle(&mut self, path: &[u8]) {
        if let Some(stamp) = self.stamps.get_mut(path) {
            stamp.settled = false;
        }
    }

    /// Whether a path looks the same as when it was captured; `None` when it was not.
    pub(super) fn compare(&self, path: &[u8], stat: &FileStat) -> Option<bool> {
        self.stamps.get(path).map(|known| *known == stamp(stat))
    }

    /// How many paths have to be captured again whatever they look like.
    pub(super) fn unsettled(&self) -> usize {
        self.stamps.values().filter(|stamp| !stamp.settled).count()
    }

    /// All paths it knows.
    pub(super) fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.stamps.keys().map(|path| &**path)
    }
}

fn stamp(stat: &FileStat) -> Stamp {
    Stamp {
        dev: stat.st_dev,
        ino: stat.st_ino,
        size: stat.st_size as u64,
        mtime: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
        ctime: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: stat.st_rdev,
        settled: true,
    }
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}

fn is_settled(stat: &FileStat, now: SystemTime) -> bool {
    // A clock before 1970 settles nothing.
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let bound = now.saturating_sub(TICK).as_nanos();
    nanoseconds(stat.st_ctime, stat.st_ctime_nsec) < i128::try_from(bound).unwrap_or(i128::MAX)
}
