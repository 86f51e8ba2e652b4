//! CRIU's whole logs of what has failed. A failure tells their most telling lines; who mends it may want all of them.
//!
//! The newest ones are kept, and of each as much of its end as a bound allows: a disk that fills up with them would be the
//! next failure.

use super::error::StoreError;
use super::id::CheckpointId;
use super::layout::{self, LOGS, Layout};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How many are kept.
const MOST: usize = 20;
/// Bytes that are kept of one.
const LARGEST: u64 = 8 << 20;

/// What has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// The dump of a checkpoint that therefore does not exist.
    Dump,
    /// A restore from one.
    Restore,
}

/// The directory of logs.
#[derive(Debug, Clone)]
pub struct Logs {
    directory: PathBuf,
}

impl Logs {
    /// Those of a store.
    pub fn of(layout: &Layout) -> Self {
        Self { directory: layout.root().join(LOGS) }
    }

    /// Keeps the log at `path` in place of an older one of the same; tells where.
    ///
    /// # Errors
    /// Where it cannot be read, or written.
    pub fn keep(&self, checkpoint: &CheckpointId, of: Of, path: &Path) -> Result<PathBuf, StoreError> {
        let kept = self.path(checkpoint, of);
        layout::create_dir(&self.directory, false)?;
        copy_end(path, &kept).map_err(StoreError::io("keep", path))?;
        self.forget_all_but(MOST).map_err(StoreError::io("sweep", &self.directory))?;
        Ok(kept)
    }

    /// Where the log of the last failure is, if one is kept.
    pub fn find(&self, checkpoint: &CheckpointId, of: Of) -> Option<PathBuf> {
        Some(self.path(checkpoint, of)).filter(|path| path.exists())
    }

    /// Forgets those that are older.
    ///
    /// # Errors
    /// Where they cannot be listed or removed.
    pub fn forget_older(&self, than: Duration) -> Result<(), StoreError> {
        let is_old = |modified: SystemTime| modified.elapsed().is_ok_and(|age| age > than);
        let old = self.newest_first().and_then(|all| {
            all.into_iter()
                .filter(|(modified, _)| is_old(*modified))
                .try_for_each(|(_, path)| std::fs::remove_file(path))
        });
        old.map_err(StoreError::io("sweep", &self.directory))
    }

    fn path(&self, checkpoint: &CheckpointId, of: Of) -> PathBuf {
        let of = match of {
            Of::Dump => "dump",
            Of::Restore => "restore",
        };
        self.directory.join(format!("{checkpoint}-{of}.log"))
    }

    fn forget_all_but(&self, newest: usize) -> io::Result<()> {
        self.newest_first()?.into_iter().skip(newest).try_for_each(|(_, path)| std::fs::remove_file(path))
    }

    fn newest_first(&self) -> io::Result<Vec<(SystemTime, PathBuf)>> {
        let entries = match std::fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let one = |entry: io::Result<std::fs::DirEntry>| {
            let entry = entry?;
            Ok((entry.metadata()?.modified()?, entry.path()))
        };
        let mut all = entries.map(one).collect::<io::Result<Vec<_>>>()?;
        all.sort_by(|one, other| other.cmp(one));
        Ok(all)
    }
}

fn copy_end(from: &Path, to: &Path) -> io::Result<()> {
    let mut log = File::open(from)?;
    let length = log.metadata()?.len();
    log.seek(SeekFrom::Start(length.saturating_sub(LARGEST)))?;
    // CRIU names files and peers of the container's: for root alone.
    let mut kept = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    io::copy(&mut log.take(LARGEST), &mut kept).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::catalog;

    #[test]
    fn only_the_newest_are_kept() {
        let (dir, catalog) = catalog();
        let logs = Logs::of(catalog.layout());
        let log = dir.path().join("restore.log");
        std::fs::write(&log, "short").unwrap();
        let ids: Vec<_> = (0..=MOST).map(|_| CheckpointId::random().unwrap()).collect();
        for (age, id) in ids.iter().enumerate() {
            let kept = logs.keep(id, Of::Restore, &log).unwrap();
            let at = SystemTime::now() - Duration::from_secs(1000 - age as u64);
            File::options().write(true).open(kept).unwrap().set_modified(at).unwrap();
        }
        assert_eq!(logs.find(&ids[0], Of::Restore), None, "the oldest one had to go");
        assert_eq!(std::fs::read_to_string(logs.find(&ids[1], Of::Restore).unwrap()).unwrap(), "short");
        assert_eq!(logs.find(&ids[1], Of::Dump), None);
        logs.forget_older(Duration::from_millis(990_500)).unwrap();
        assert_eq!(logs.newest_first().unwrap().len(), MOST - 10 + 1);
    }

    #[test]
    fn a_long_one_loses_its_beginning() {
        let (dir, catalog) = catalog();
        let log = dir.path().join("dump.log");
        std::fs::write(&log, [&vec![b'x'; LARGEST as usize][..], b"end"].concat()).unwrap();
        let kept = Logs::of(catalog.layout()).keep(&CheckpointId::random().unwrap(), Of::Dump, &log).unwrap();
        let kept = std::fs::read(kept).unwrap();
        assert_eq!((kept.len() as u64, kept.ends_with(b"xend")), (LARGEST, true));
    }
}
