//! Where a file has data, and where holes.

use std::fs::File;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::stat::FileStat;
use nix::unistd::{Whence, lseek};

use crate::archive::tar::{BLOCK, MAX_SPARSE_SEGMENTS};

/// The data segments (offset, length) of a file that has holes, widened to whole blocks; `None` for a file that is
/// better stored in full.
pub(super) fn segments(file: &File, stat: &FileStat) -> Result<Option<Vec<(u64, u64)>>, Errno> {
    let size = stat.st_size as u64;
    // `st_blocks` counts 512 bytes each, whatever the file system's block is.
    if stat.st_blocks as u64 * 512 >= size {
        return Ok(None);
    }
    let mut segments: Vec<(u64, u64)> = Vec::new();
    let mut at = 0;
    while at < size {
        let Some(start) = seek(file, at, Whence::SeekData)? else {
            break;
        };
        let end = seek(file, start, Whence::SeekHole)?.unwrap_or(size).min(size);
        if start >= end {
            break;
        }
        push(&mut segments, start - start % BLOCK, end.next_multiple_of(BLOCK).min(size));
        at = end;
        // One more may come at the end to give the file its length.
        if segments.len() >= MAX_SPARSE_SEGMENTS {
            return Ok(None);
        }
    }
    let dense = segments == [(0, size)];
    Ok((!dense).then_some(segments))
}

fn push(segments: &mut Vec<(u64, u64)>, start: u64, end: u64) {
    match segments.last_mut() {
        Some((first, length)) if *first + *length >= start => *length = end - *first,
        _ => segments.push((start, end - start)),
    }
}

/// `None` when there is nothing of the kind behind `at`.
fn seek(file: impl AsFd, at: u64, whence: Whence) -> Result<Option<u64>, Errno> {
    let at = i64::try_from(at).map_err(|_| Errno::EOVERFLOW)?;
    match lseek(file, at, whence) {
        Ok(found) => Ok(u64::try_from(found).ok()),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}
