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
use std::io::{Read, Seek, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::entry::{Digest, FileEntry};
use super::file::{self, Copy};
use super::images::{Compression, Watch};
use super::tar::{Meta, TarWriter};
use super::{ArchiveError, CHUNK};
use crate::store::manifest::ManifestError;
use crate::store::pack::Part;
use crate::store::{Checkpoint, CheckpointId, StoreError, layout};

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

mod import;
#[cfg(test)]
mod tests;

pub use import::{ImportOptions, import};
