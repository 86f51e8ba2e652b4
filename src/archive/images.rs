//! A directory of CRIU images as one zstd-compressed tar, and single files as zstd.
//!
//! Everything is streamed: memory does not grow with the checkpoint. Both directions compute every digest and
//! compare it with the list, so that neither a damaged directory is packed (and its original then removed) nor a
//! damaged archive unpacked. Only regular files in the list are read or written, nothing else is believed.
//!
//! Holes are read as zeros, which compress to nothing, and long runs of zeros are written as holes.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::entry::FileEntry;
use super::file::{self, Copy, SparseFile};
use super::prefetch::with_prefetch;
use super::tar::{Kind, Member, Meta, TarReader, TarWriter};
use super::{ArchiveError, Progress};

/// How hard to compress.
#[derive(Debug, Clone, Copy)]
pub struct Compression {
    /// zstd's level, 1 to 19; 3 is zstd's own default.
    pub level: i32,
    /// Threads that compress, beside the one that reads.
    pub threads: NonZeroUsize,
}

impl Default for Compression {
    fn default() -> Self {
        Self { level: zstd::DEFAULT_COMPRESSION_LEVEL, threads: super::hash::all_cores() }
    }
}

/// What long-running work is given: whom to tell, and where to look whether it should stop.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Told of uncompressed bytes.
    pub progress: Progress<'a>,
    /// Set by another thread to stop the work, which then fails with [`ArchiveError::Cancelled`].
    pub cancel: &'a AtomicBool,
}

/// Writes `entries`, which lie below `dir`, into `out` as a compressed tar, and gives `out` back.
///
/// # Errors
/// When a file is missing or differs from its entry; what was written by then is worthless.
pub fn pack<W: Write>(
    dir: &Path,
    entries: &[FileEntry],
    out: W,
    compression: Compression,
    watch: Watch<'_>,
) -> Result<W, ArchiveError> {
    let mut tar = TarWriter::new(encoder(out, compression)?);
    for entry in entries {
        tar.member(&Meta::plain_file(entry.path.as_str()), entry.length).map_err(ArchiveError::Compress)?;
        copy_in(&entry.path.below(dir), entry, &mut tar, watch)?;
    }
    let encoder = tar.finish().map_err(ArchiveError::Compress)?;
    encoder.finish().map_err(ArchiveError::Compress)
}

/// Writes the one file `path`, described by `entry`, into `out`, compressed, and gives `out` back.
pub fn pack_file<W: Write>(
    path: &Path,
    entry: &FileEntry,
    out: W,
    compression: Compression,
    watch: Watch<'_>,
) -> Result<W, ArchiveError> {
    let mut encoder = encoder(out, compression)?;
    copy_in(path, entry, &mut encoder, watch)?;
    encoder.finish().map_err(ArchiveError::Compress)
}

fn encoder<W: Write>(out: W, compression: Compression) -> Result<zstd::Encoder<'static, W>, ArchiveError> {
    let setup = || {
        let mut encoder = zstd::Encoder::new(out, compression.level)?;
        encoder.include_checksum(true)?;
        encoder.multithread(u32::try_from(compression.threads.get()).unwrap_or(u32::MAX).min(256))?;
        Ok(encoder)
    };
    setup().map_err(ArchiveError::Compress)
}

fn copy_in(path: &Path, entry: &FileEntry, out: &mut impl Write, watch: Watch<'_>) -> Result<(), ArchiveError> {
    let mut input = file::open(path)?;
    let copy = Copy { entry, progress: watch.progress, cancel: Some(watch.cancel) };
    copy.run(&mut input, ArchiveError::file("read", path), out, ArchiveError::Compress)
}

/// Decompresses a tar written by [`pack`], compares every member with `entries`, and writes it below `dest`,
/// which must not exist and is made for its owner alone; without `dest` everything is only compared.
///
/// # Errors
/// When anything is not as listed. Nothing is left of `dest` then.
pub fn unpack<R: Read + Send>(
    input: R,
    entries: &[FileEntry],
    dest: Option<&Path>,
    progress: Progress<'_>,
) -> Result<(), ArchiveError> {
    let decoder = decoder(input)?;
    match dest {
        None => with_prefetch(decoder, |input| unpack_members(input, entries, None, progress)),
        Some(dir) => {
            into_fresh_dir(dir, || with_prefetch(decoder, |input| unpack_members(input, entries, Some(dir), progress)))
        }
    }
}

/// Copies `entries`, which lie below `from`, to the same places below `dest`, and compares them on the way. `dest` is
/// treated as by [`unpack`].
pub fn copy(from: &Path, entries: &[FileEntry], dest: &Path, progress: Progress<'_>) -> Result<(), ArchiveError> {
    into_fresh_dir(dest, || {
        entries.iter().try_for_each(|entry| {
            let path = entry.path.below(from);
            let mut input = file::open(&path)?;
            copy_out(&mut input, entry, Some(&entry.path.below(dest)), ArchiveError::file("read", &path), progress)
        })
    })
}

/// Makes `dir` for its owner alone, has `fill` fill it, and removes it when that fails.
fn into_fresh_dir(dir: &Path, fill: impl FnOnce() -> Result<(), ArchiveError>) -> Result<(), ArchiveError> {
    // Not `create_dir_all`: the directory must be fresh, so that nothing in it can be a trap or be mixed in.
    std::fs::DirBuilder::new().mode(0o700).create(dir).map_err(ArchiveError::file("create directory", dir))?;
    let outcome = fill();
    if outcome.is_err() {
        // The first error is the one that says what happened.
        let _ = std::fs::remove_dir_all(dir);
    }
    outcome
}

fn unpack_members(
    input: impl Read,
    entries: &[FileEntry],
    dest: Option<&Path>,
    progress: Progress<'_>,
) -> Result<(), ArchiveError> {
    let mut tar = TarReader::new(input);
    // Whether each listed file has come.
    let mut pending: HashMap<&[u8], (&FileEntry, bool)> =
        entries.iter().map(|entry| (entry.path.as_str().as_bytes(), (entry, false))).collect();
    while let Some(member) = tar.next_member()? {
        let entry = announced(&member, &mut pending)?;
        let path = dest.map(|dir| entry.path.below(dir));
        copy_out(&mut tar, entry, path.as_deref(), damaged(entry), progress)?;
    }
    tar.finish()?;
    match entries.iter().find(|entry| pending.get(entry.path.as_str().as_bytes()).is_none_or(|(_, seen)| !seen)) {
        Some(entry) => Err(ArchiveError::MissingMember { member: entry.path.to_string() }),
        None => Ok(()),
    }
}

fn announced<'a>(
    member: &Member,
    pending: &mut HashMap<&[u8], (&'a FileEntry, bool)>,
) -> Result<&'a FileEntry, ArchiveError> {
    let (name, offset) = (member.meta.display_path(), member.offset);
    let Some((entry, seen)) = pending.get_mut(member.meta.path.as_slice()) else {
        return Err(ArchiveError::UnexpectedMember { member: name, offset });
    };
    if std::mem::replace(seen, true) {
        return Err(ArchiveError::DuplicateMember { member: name, offset });
    }
    if member.meta.kind != Kind::File || member.segments.is_some() {
        return Err(ArchiveError::NotRegular { member: name, offset });
    }
    if member.length != entry.length {
        return Err(ArchiveError::Length { member: name, expected: entry.length, found: member.length });
    }
    Ok(entry)
}

/// Decompresses a file written by [`pack_file`], compares it with `entry`, and writes it to `dest`, which must not
/// exist; without `dest` it is only compared. On an error nothing is left of `dest`.
pub fn unpack_file<R: Read + Send>(
    input: R,
    entry: &FileEntry,
    dest: Option<&Path>,
    progress: Progress<'_>,
) -> Result<(), ArchiveError> {
    let decoder = decoder(input)?;
    let outcome = with_prefetch(decoder, |input| copy_out(input, entry, dest, damaged(entry), progress));
    let exists = matches!(&outcome, Err(ArchiveError::File { operation: "create", .. }));
    if let (Err(_), Some(path), false) = (&outcome, dest, exists) {
        let _ = std::fs::remove_file(path);
    }
    outcome
}

/// A reader of decompressed data. zstd's own limit on the window (128 MiB) bounds its memory.
pub fn decoder<R: Read>(input: R) -> Result<impl Read + use<R>, ArchiveError> {
    let fault = |source| ArchiveError::Decompress { what: "the stream".into(), source };
    zstd::Decoder::new(input).map_err(fault)
}

fn damaged(entry: &FileEntry) -> impl FnOnce(io::Error) -> ArchiveError {
    |source| ArchiveError::Decompress { what: entry.path.to_string(), source }
}

fn copy_out(
    input: &mut impl Read,
    entry: &FileEntry,
    dest: Option<&Path>,
    in_fault: impl FnOnce(io::Error) -> ArchiveError,
    progress: Progress<'_>,
) -> Result<(), ArchiveError> {
    let copy = Copy { entry, progress, cancel: None };
    let Some(path) = dest else {
        return copy.run(input, in_fault, &mut io::sink(), ArchiveError::Write);
    };
    if let Some(parent) = path.parent() {
        file::create_dir_all(parent)?;
    }
    let mut out = SparseFile::new(file::create(path)?);
    copy.run(input, in_fault, &mut out, ArchiveError::file("write", path))?;
    out.finish().map_err(ArchiveError::file("write", path))?;
    Ok(())
}

#[cfg(test)]
mod tests;
