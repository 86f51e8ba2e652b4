//! Reading an export, which anybody may have made.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use super::{ExportError, FORMAT, Format, HEADER, Header, MAX_HEADER, extra_name, part_name};
use crate::archive::entry::{Digest, FileEntry};
use crate::archive::file::{self, Copy};
use crate::archive::tar::{Kind, Member, TarReader};
use crate::archive::{ArchiveError, CHUNK, Progress};
use crate::store::manifest::{self, Manifest};
use crate::store::pack::Part;
use crate::store::staging::Durability;
use crate::store::{Catalog, Checkpoint, Staging, layout};

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
