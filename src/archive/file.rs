//! Opening, checking and writing the files an archive is made of.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::entry::{Digest, FileEntry};
use super::{ArchiveError, CHUNK, Progress};

/// Zeros in runs of at least this many bytes become holes.
const HOLE: usize = 32 << 10;

/// Opens a regular file of ours for reading; a symbolic link in its place is an error.
pub(super) fn open(path: &Path) -> Result<File, ArchiveError> {
    File::options()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
        .map_err(ArchiveError::file("open", path))
}

/// Creates a file that must not exist, for its owner alone.
pub(super) fn create(path: &Path) -> Result<File, ArchiveError> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(ArchiveError::file("create", path))
}

/// Creates a directory and the parents it lacks, for their owner alone.
pub(super) fn create_dir_all(path: &Path) -> Result<(), ArchiveError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(ArchiveError::file("create directory", path))
}

/// Copies what `input` holds into `output` (if any) and compares length and digest with `entry`.
///
/// `out_fault` makes an error of one that `output` gave; `in_fault` of one that `input` gave.
pub(super) struct Copy<'a> {
    pub entry: &'a FileEntry,
    pub progress: Progress<'a>,
    pub cancel: Option<&'a AtomicBool>,
}

impl Copy<'_> {
    /// Runs the copy. `input` is read at most one byte further than the entry's length.
    pub fn run(
        &self,
        input: &mut impl Read,
        in_fault: impl FnOnce(io::Error) -> ArchiveError,
        output: &mut impl Write,
        out_fault: impl FnOnce(io::Error) -> ArchiveError,
    ) -> Result<(), ArchiveError> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; CHUNK];
        let mut done = 0;
        loop {
            if self
                .cancel
                .is_some_and(|cancel| cancel.load(Ordering::Relaxed))
            {
                return Err(ArchiveError::Cancelled);
            }
            // One byte more than is due shows a file that is too long.
            let want = (self.entry.length - done)
                .saturating_add(1)
                .min(CHUNK as u64) as usize;
            let count = match fill(input, &mut buffer[..want]) {
                Ok(count) => count,
                Err(error) => return Err(in_fault(error)),
            };
            done += count as u64;
            if count == 0 || done > self.entry.length {
                break;
            }
            hasher.update(&buffer[..count]);
            if let Err(error) = output.write_all(&buffer[..count]) {
                return Err(out_fault(error));
            }
            (self.progress)(count as u64);
        }
        self.check(done, hasher.finalize().into())
    }

    fn check(&self, found: u64, digest: Digest) -> Result<(), ArchiveError> {
        let member = || self.entry.path.to_string();
        if found != self.entry.length {
            return Err(ArchiveError::Length {
                member: member(),
                expected: self.entry.length,
                found,
            });
        }
        if digest != self.entry.blake3 {
            return Err(ArchiveError::Digest {
                member: member(),
                expected: self.entry.blake3,
                found: digest,
            });
        }
        Ok(())
    }
}

/// Reads until `buffer` is full or the input ends.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match input.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// Writes a file from its start and leaves holes where it is given zeros.
pub(super) struct SparseFile {
    file: File,
    length: u64,
}

impl SparseFile {
    /// A writer into `file`, which must be empty.
    pub fn new(file: File) -> Self {
        Self { file, length: 0 }
    }

    /// Gives the file its length, since a hole at its end was only skipped.
    pub fn finish(self) -> io::Result<File> {
        self.file.set_len(self.length)?;
        Ok(self.file)
    }
}

impl Write for SparseFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.chunks(HOLE) {
            if part.len() == HOLE && part.iter().all(|byte| *byte == 0) {
                self.file.seek(SeekFrom::Current(HOLE as i64))?;
            } else {
                self.file.write_all(part)?;
            }
            self.length += part.len() as u64;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn zeros_become_holes_and_read_back_as_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut bytes = vec![0; 10 << 20];
        bytes[5_000_000] = 7;
        let mut writer = SparseFile::new(create(&path).unwrap());
        writer.write_all(&bytes).unwrap();
        writer.finish().unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes);
        assert!(path.metadata().unwrap().blocks() * 512 < 1 << 20);
    }
}
