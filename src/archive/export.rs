//! A whole checkpoint in one file: `transship export` and `transship import`.
//!
//! The file is a plain tar with these members, in this order and no others:
//!
//! ```text
//! transship-export.json      format, checkpoint's id, digest of the manifest
//! manifest.json              as it lies in the store
//! images.tar.zst             CRIU's images
//! rootfs.tar.zst             the writable layer, where there is one
//! rootfs-delta.tar.zst       what changed in it until the freeze, where there is one
//! extra/...                  small files, in the manifest's order
//! ```
//!
//! An import believes nothing: every length is held against the manifest before a byte is written, every digest is
//! compared in full before the checkpoint becomes visible (I4), and after an error nothing is left.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::entry::{Digest, FileEntry};
use super::file::{self, Copy};
use super::images::{Compression, Watch};
use super::tar::{Kind, Member, Meta, TarReader, TarWriter};
use super::{ArchiveError, CHUNK, Progress};
use crate::store::manifest::{self, Manifest, ManifestError};
use crate::store::pack::Part;
use crate::store::staging::Durability;
use crate::store::{Catalog, Checkpoint, CheckpointId, Staging, StoreError, layout};

/// The first member's name.
pub const HEADER: &str = "transship-export.json";
/// The format that is written and read.
pub const FORMAT: u32 = 1;
/// Longest first member, in bytes.
const MAX_HEADER: u64 = 64 << 10;

/// An export or import failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store refused, or found the checkpoint damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file is damaged or no export.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The file is of a format this version cannot read.
    #[error("the export has format {found}, this version reads format {FORMAT}")]
    Format { found: u32 },
    /// A JSON member is malformed.
    #[error("member {member:?} is malformed")]
    Json {
        member: &'static str,
        #[source]
        source: serde_json::Error,
    },
    /// The manifest cannot be used.
    #[error("cannot use the export's manifest")]
    Manifest(#[from] ManifestError),
    /// The manifest is not the one that the first member announced, or that was read before.
    #[error("the manifest has digest {found} instead of {expected}")]
    ManifestDigest { expected: Digest, found: Digest },
    /// The manifest is of another checkpoint than the first member announced.
    #[error("the export is of checkpoint {expected}, its manifest of {found}")]
    WrongId { expected: CheckpointId, found: CheckpointId },
    /// The checkpoint is larger than the caller allows.
    #[error("the checkpoint takes {bytes} bytes unpacked, {allowed} are allowed")]
    TooLarge { bytes: u64, allowed: u64 },
}

/// What the first member says.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    checkpoint: CheckpointId,
    manifest_digest: Digest,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// Writes a checkpoint into `out` and gives `out` back, flushed. What lies there raw is compressed on the fly, by way
/// of a file without a name in the store; the checkpoint stays as it is.
///
/// # Errors
/// When a file is not what the manifest says: a damaged checkpoint is not exported. What was written by then is
/// worthless.
pub fn export<W: Write>(
    checkpoint: &Checkpoint,
    out: W,
    compression: Compression,
    watch: Watch<'_>,
) -> Result<W, ExportError> {
    let json = manifest_bytes(checkpoint)?;
    let mut tar = TarWriter::new(out);
    let header =
        Header { format: FORMAT, checkpoint: checkpoint.id().clone(), manifest_digest: checkpoint.manifest_digest() };
    let header = serde_json::to_vec(&header).map_err(|source| ExportError::Json { member: HEADER, source })?;
    append_bytes(&mut tar, HEADER, &header)?;
    append_bytes(&mut tar, layout::MANIFEST, &json)?;
    if checkpoint.parts().any(|part| !checkpoint.raw_path(part).exists()) {
        // What is compressed already is copied as it is, so it has to be looked through first.
        checkpoint.verify(&|_| ())?;
    }
    for part in checkpoint.parts() {
        append_part(&mut tar, checkpoint, part, compression, watch)?;
    }
    for entry in &checkpoint.manifest().extra {
        append_extra(&mut tar, checkpoint, entry, watch)?;
    }
    Ok(tar.finish().map_err(ArchiveError::Write)?)
}

fn manifest_bytes(checkpoint: &Checkpoint) -> Result<Vec<u8>, ExportError> {
    let path = checkpoint.manifest_path();
    let json = std::fs::read(&path).map_err(ArchiveError::file("read", &path))?;
    let (expected, found) = (checkpoint.manifest_digest(), Digest::of(&json));
    if expected != found {
        return Err(ExportError::ManifestDigest { expected, found });
    }
    Ok(json)
}

fn append_bytes<W: Write>(tar: &mut TarWriter<W>, name: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
    tar.member(&Meta::plain_file(name), bytes.len() as u64).map_err(ArchiveError::Write)?;
    tar.write_all(bytes).map_err(ArchiveError::Write)
}

fn append_part<W: Write>(
    tar: &mut TarWriter<W>,
    checkpoint: &Checkpoint,
    part: Part<'_>,
    compression: Compression,
    watch: Watch<'_>,
) -> Result<(), ExportError> {
    let packed = checkpoint.packed_path(part);
    let mut input = if checkpoint.raw_path(part).exists() {
        let dir = checkpoint.layout.tmp();
        let fault = || ArchiveError::file("create a file in", &dir);
        let unnamed = tempfile::tempfile_in(&dir).map_err(fault())?;
        let mut unnamed = checkpoint.compress_part(part, unnamed, compression, watch)?;
        unnamed.rewind().map_err(fault())?;
        unnamed
    } else {
        file::open(&packed)?
    };
    let length = input.metadata().map_err(ArchiveError::file("look at", &packed))?.len();
    tar.member(&Meta::plain_file(&part_name(part)), length).map_err(ArchiveError::Write)?;
    copy_exactly(&mut input, &packed, length, tar)?;
    Ok(())
}

fn copy_exactly(input: &mut File, path: &Path, length: u64, out: &mut impl Write) -> Result<(), ArchiveError> {
    let mut buffer = vec![0; CHUNK];
    let mut left = length;
    while left > 0 {
        let want = left.min(CHUNK as u64) as usize;
        input.read_exact(&mut buffer[..want]).map_err(ArchiveError::file("read", path))?;
        out.write_all(&buffer[..want]).map_err(ArchiveError::Write)?;
        left -= want as u64;
    }
    Ok(())
}

fn append_extra<W: Write>(
    tar: &mut TarWriter<W>,
    checkpoint: &Checkpoint,
    entry: &FileEntry,
    watch: Watch<'_>,
) -> Result<(), ArchiveError> {
    let path = checkpoint.extra_path(entry);
    let mut input = file::open(&path)?;
    tar.member(&Meta::plain_file(&extra_name(entry)), entry.length).map_err(ArchiveError::Write)?;
    let copy = Copy { entry, progress: watch.progress, cancel: Some(watch.cancel) };
    copy.run(&mut input, ArchiveError::file("read", &path), tar, ArchiveError::Write)
}

fn part_name(part: Part<'_>) -> String {
    match part {
        Part::Images => layout::PACKED_IMAGES.into(),
        Part::Tar(entry) => format!("{}{}", entry.path, layout::PACKED_SUFFIX),
    }
}

fn extra_name(entry: &FileEntry) -> String {
    format!("{}/{}", layout::EXTRA, entry.path)
}

/// What an import is told and may do.
#[derive(Clone, Copy)]
pub struct ImportOptions<'a> {
    /// Most bytes the checkpoint may have, uncompressed.
    pub max_bytes: u64,
    pub durability: Durability,
    /// Told of bytes read from the file.
    pub read: Progress<'a>,
    /// Told of uncompressed bytes verified afterwards, [`Manifest::total_bytes`] in all.
    pub verified: Progress<'a>,
}

/// Reads an export to its end and puts the checkpoint into the store, packed, under the id it always had.
///
/// # Errors
/// When anything in the file is not as it should be, or a checkpoint of that id is there. Nothing is left then.
pub fn import<R: Read>(input: R, catalog: &Catalog, options: ImportOptions<'_>) -> Result<Checkpoint, ExportError> {
    let mut tar = TarReader::new(BufReader::with_capacity(CHUNK, input));
    let header = read_header(&mut tar)?;
    let json = read_manifest(&mut tar, &header)?;
    let manifest = Manifest::from_json(&json)?;
    if manifest.id != header.checkpoint {
        return Err(ExportError::WrongId { expected: header.checkpoint, found: manifest.id });
    }
    let bytes = manifest.total_bytes();
    if bytes > options.max_bytes {
        return Err(ExportError::TooLarge { bytes, allowed: options.max_bytes });
    }
    let staging = catalog.begin(&manifest.id)?;
    match fill(tar, &staging, &manifest, options.read)
        .and_then(|()| staging.adopt(&json, options.durability, options.verified).map_err(ExportError::from))
    {
        Ok(checkpoint) => Ok(checkpoint),
        Err(error) => {
            // What went wrong first is what counts; what stays is swept at the next start.
            if let Err(left) = staging.discard() {
                tracing::warn!(error = %left, "left a failed import behind");
            }
            Err(error)
        }
    }
}

fn read_header<R: Read>(tar: &mut TarReader<R>) -> Result<Header, ExportError> {
    let json = read_member(tar, HEADER, MAX_HEADER)?;
    let malformed = |source| ExportError::Json { member: HEADER, source };
    let Format { format } = serde_json::from_slice(&json).map_err(malformed)?;
    if format != FORMAT {
        return Err(ExportError::Format { found: format });
    }
    serde_json::from_slice(&json).map_err(malformed)
}

fn read_manifest<R: Read>(tar: &mut TarReader<R>, header: &Header) -> Result<Vec<u8>, ExportError> {
    let json = read_member(tar, layout::MANIFEST, manifest::MAX_BYTES)?;
    let (expected, found) = (header.manifest_digest, Digest::of(&json));
    match expected == found {
        true => Ok(json),
        false => Err(ExportError::ManifestDigest { expected, found }),
    }
}

/// The contents of the next member, which has to have this name and at most so many bytes.
fn read_member<R: Read>(tar: &mut TarReader<R>, name: &str, most: u64) -> Result<Vec<u8>, ArchiveError> {
    let member = next(tar, name)?;
    if member.length > most {
        return Err(ArchiveError::Length { member: name.into(), expected: most, found: member.length });
    }
    // Grows with what really comes.
    let mut bytes = Vec::new();
    let read = tar.read_to_end(&mut bytes);
    read.map_err(|source| ArchiveError::Input { member: name.into(), source })?;
    Ok(bytes)
}

/// The next member, which has to be a plain file of this name.
fn next<R: Read>(tar: &mut TarReader<R>, name: &str) -> Result<Member, ArchiveError> {
    let missing = || ArchiveError::MissingMember { member: name.into() };
    let member = tar.next_member()?.ok_or_else(missing)?;
    let (found, offset) = (member.meta.display_path(), member.offset);
    if member.meta.path != name.as_bytes() {
        return Err(ArchiveError::OutOfOrder { member: found, offset, expected: name.into() });
    }
    if member.meta.kind != Kind::File || member.segments.is_some() {
        return Err(ArchiveError::NotRegular { member: found, offset });
    }
    Ok(member)
}

fn fill<R: Read>(
    mut tar: TarReader<R>,
    staging: &Staging,
    manifest: &Manifest,
    progress: Progress<'_>,
) -> Result<(), ExportError> {
    // The archive takes its place.
    std::fs::remove_dir(staging.images()).map_err(ArchiveError::file("remove", &staging.images()))?;
    // Each file in the tar inside has headers of at most three blocks and a path's worth, and its padding.
    let tar_bytes =
        manifest.images.iter().fold(0u64, |sum, entry| sum.saturating_add(entry.length).saturating_add(4096));
    let images = (layout::PACKED_IMAGES.to_owned(), tar_bytes);
    let tars = manifest.tars().map(|entry| (part_name(Part::Tar(entry)), entry.length));
    for (name, bytes) in std::iter::once(images).chain(tars) {
        store_packed(&mut tar, &staging.dir().join(&name), &name, bytes, progress)?;
    }
    for entry in &manifest.extra {
        store_extra(&mut tar, staging, entry, progress)?;
    }
    if let Some(member) = tar.next_member().map_err(ArchiveError::from)? {
        let (member, offset) = (member.meta.display_path(), member.offset);
        return Err(ArchiveError::UnexpectedMember { member, offset }.into());
    }
    tar.finish().map_err(ArchiveError::from)?;
    Ok(())
}

/// Most bytes that zstd makes of so many: it stores what it cannot compress, at three bytes for each block of 128 KiB.
fn most_packed(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 1024).saturating_add(64 << 10)
}

fn store_packed<R: Read>(
    tar: &mut TarReader<R>,
    path: &Path,
    name: &str,
    bytes: u64,
    progress: Progress<'_>,
) -> Result<(), ArchiveError> {
    let member = next(tar, name)?;
    if member.length > most_packed(bytes) {
        return Err(ArchiveError::Length { member: name.into(), expected: most_packed(bytes), found: member.length });
    }
    let mut out = file::create(path)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = match tar.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(|source| ArchiveError::Input { member: name.into(), source })?,
        };
        out.write_all(&buffer[..count]).map_err(ArchiveError::file("write", path))?;
        progress(count as u64);
    }
}

fn store_extra<R: Read>(
    tar: &mut TarReader<R>,
    staging: &Staging,
    entry: &FileEntry,
    progress: Progress<'_>,
) -> Result<(), ExportError> {
    let name = extra_name(entry);
    let member = next(tar, &name)?;
    if member.length != entry.length {
        let fault = ArchiveError::Length { member: name, expected: entry.length, found: member.length };
        return Err(fault.into());
    }
    let path = entry.path.below(&staging.extra()?);
    if let Some(parent) = path.parent() {
        file::create_dir_all(parent)?;
    }
    let mut out = file::create(&path)?;
    let copy = Copy { entry, progress, cancel: None };
    copy.run(tar, |source| ArchiveError::Input { member: name, source }, &mut out, ArchiveError::file("write", &path))?;
    Ok(())
}

#[cfg(test)]
mod tests;
