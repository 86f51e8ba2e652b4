//! Files that come over connections that may break: what of each is here.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tempfile::NamedTempFile;

/// What the disk is told of at once.
const WRITE_OUT: u64 = 16 << 20;

/// A file that the disk begins with while more of it comes: whoever waits for all of it then waits less.
#[derive(Debug, Default)]
pub struct WritingOut {
    /// Up to where the disk has been told.
    told: u64,
}

impl WritingOut {
    /// One whose first bytes, so many, are seen to.
    pub fn from(told: u64) -> Self {
        Self { told }
    }

    /// So much of it is here now. Whatever cannot be written out shows when all of it is waited for.
    pub fn has(&mut self, file: &File, here: u64) {
        let more = here.saturating_sub(self.told);
        if more < WRITE_OUT {
            return;
        }
        let (from, length) = (self.told.cast_signed(), more.cast_signed());
        // SAFETY: a call on an open descriptor, which touches no memory of this process.
        unsafe { nix::libc::sync_file_range(file.as_raw_fd(), from, length, nix::libc::SYNC_FILE_RANGE_WRITE) };
        self.told = here;
    }
}

/// Files of which not all is here. They are removed with this, but for those that were put elsewhere.
#[derive(Debug, Default)]
pub struct Parts(Mutex<HashMap<String, Arc<Part>>>);

#[derive(Debug)]
struct Part {
    file: NamedTempFile,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many bytes are here, from the first on.
    here: u64,
    writing_out: WritingOut,
    /// Which of those who began to write it may: the last one. One before it may not have noticed that its connection broke.
    writer: u64,
    /// Whether it lies where it belongs: nobody adds on to it any more.
    is_in_place: bool,
}

impl Parts {
    /// How much of a file is here.
    pub fn here(&self, name: &str) -> u64 {
        self.lock().get(name).map_or(0, |part| part.lock().here)
    }

    /// Goes on with a file after its first `from` bytes; what is here beyond is dropped. Makes it, in `directory`, where
    /// nothing of it is here.
    ///
    /// # Errors
    /// When less than `from` is here, or `most` files are under way.
    pub fn go_on(&self, name: &str, from: u64, directory: &Path, most: usize) -> io::Result<PartWriter> {
        let part = {
            let mut parts = self.lock();
            match parts.get(name) {
                Some(part) => Arc::clone(part),
                None if parts.len() >= most => return Err(io::Error::other("too many files are under way")),
                None => {
                    let part = Part { file: NamedTempFile::new_in(directory)?, state: Mutex::default() };
                    let part = Arc::new(part);
                    parts.insert(name.to_owned(), Arc::clone(&part));
                    part
                }
            }
        };
        let mut state = part.lock();
        if state.is_in_place {
            return Err(io::Error::other("it is here in whole"));
        }
        if from > state.here {
            return Err(io::Error::other(format!("{} bytes of it are here, and it goes on at {from}", state.here)));
        }
        part.file.as_file().set_len(from)?;
        state.here = from;
        state.writing_out = WritingOut::from(from);
        state.writer += 1;
        let number = state.writer;
        drop(state);
        Ok(PartWriter { part, number })
    }

    /// A file is here in whole, and was put where it belongs.
    pub fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Part>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds on to a file, until somebody else does.
#[derive(Debug)]
pub struct PartWriter {
    part: Arc<Part>,
    number: u64,
}

impl PartWriter {
    /// Returns when all is on disk.
    pub fn sync(&self) -> io::Result<()> {
        self.part.file.as_file().sync_all()
    }

    /// Has `put` move the file from where it lies to where it belongs.
    pub fn put_in_place<E>(&self, put: impl FnOnce(&Path) -> Result<(), E>) -> io::Result<Result<(), E>> {
        let mut state = self.own()?;
        let outcome = put(self.part.file.path());
        state.is_in_place = outcome.is_ok();
        Ok(outcome)
    }

    fn own(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.part.lock();
        match state.writer == self.number {
            true => Ok(state),
            false => Err(io::Error::other("it goes on over another connection")),
        }
    }
}

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.own()?;
        self.part.file.as_file().write_all_at(bytes, state.here)?;
        state.here += bytes.len() as u64;
        let here = state.here;
        state.writing_out.has(self.part.file.as_file(), here);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_on_where_it_stood_and_who_came_before_writes_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let parts = Parts::default();
        let mut first = parts.go_on("a", 0, dir.path(), 1).unwrap();
        first.write_all(b"0123456789").unwrap();
        assert_eq!((parts.here("a"), parts.here("b")), (10, 0));
        assert!(parts.go_on("a", 11, dir.path(), 1).is_err(), "a gap");
        assert!(parts.go_on("b", 0, dir.path(), 1).is_err(), "too many");
        let mut second = parts.go_on("a", 4, dir.path(), 1).unwrap();
        assert!(first.write_all(b"late").is_err());
        second.write_all(b"abc").unwrap();
        let put = |path: &Path| std::fs::rename(path, dir.path().join("in-place"));
        assert!(first.put_in_place(put).is_err());
        second.put_in_place(put).unwrap().unwrap();
        assert!(parts.go_on("a", 0, dir.path(), 1).is_err(), "it would be cut");
        assert_eq!(std::fs::read(dir.path().join("in-place")).unwrap(), b"0123abc");
    }

    #[test]
    fn what_is_not_put_elsewhere_goes() {
        let dir = tempfile::tempdir().unwrap();
        let parts = Parts::default();
        let kept = parts.go_on("kept", 0, dir.path(), 9).unwrap();
        parts.go_on("left", 0, dir.path(), 9).unwrap();
        kept.put_in_place(|path| std::fs::rename(path, dir.path().join("in-place"))).unwrap().unwrap();
        parts.forget("kept");
        drop((parts, kept));
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["in-place"]);
    }
}
