//! The few facts that are read from CRIU's image files: what a dump and a restore cost.
//!
//! A statistics file is two magic numbers and one protobuf message, all little-endian:
//!
//! ```text
//!   u32 0x55105940 (a service file)  u32 0x57093306 (statistics)  u32 length  stats_entry
//! ```
//!
//! Sources: CRIU's `images/stats.proto` and `criu/include/magic.h`. Unknown fields are skipped, so that a newer CRIU
//! may tell more.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use protobuf::CodedInputStream;
use protobuf::rt::WireType;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// CRIU's name of the file with a dump's statistics, in its work directory.
pub const DUMP_STATS: &str = "stats-dump";
/// CRIU's name of the file with a restore's statistics, in its work directory.
pub const RESTORE_STATS: &str = "stats-restore";

const SERVICE_MAGIC: u32 = 0x5510_5940;
const STATS_MAGIC: u32 = 0x5709_3306;
/// Longest statistics file taken, in bytes. Real ones have about 70.
const MAX_FILE: u64 = 4096;
const DUMP_FIELD: u32 = 1;
const RESTORE_FIELD: u32 = 2;

/// Why a statistics file tells nothing.
#[derive(Debug, Error)]
pub enum ImageError {
    #[error("cannot read CRIU's statistics {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("CRIU's statistics {} are longer than {MAX_FILE} bytes", path.display())]
    TooLong { path: PathBuf },
    #[error("{} is no CRIU statistics file: it begins with {found:#010x}", path.display())]
    Magic { path: PathBuf, found: u32 },
    #[error("CRIU's statistics {} are cut short", path.display())]
    Truncated { path: PathBuf },
    #[error("CRIU's statistics {} cannot be decoded", path.display())]
    Decode {
        path: PathBuf,
        #[source]
        source: protobuf::Error,
    },
    #[error("CRIU's statistics {} are not those of a {wanted}", path.display())]
    Kind { path: PathBuf, wanted: &'static str },
}

/// What a dump cost. Times in microseconds, pages as the kernel's (4 KiB on x86-64).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpStats {
    /// From the first task's seizing to the last's.
    pub freezing_time: u64,
    /// From there until the tasks ran again or were killed.
    pub frozen_time: u64,
    /// Memory taken from the tasks.
    pub memdump_time: u64,
    /// Memory written to images or the page server.
    pub memwrite_time: u64,
    pub pages_scanned: u64,
    /// Pages left out because an earlier dump has them.
    pub pages_skipped_parent: u64,
    pub pages_written: u64,
    /// Pages left for post-copy.
    pub pages_lazy: u64,
    pub shpages_scanned: u64,
    pub shpages_skipped_parent: u64,
    /// Pages of shared memory written.
    pub shpages_written: u64,
}

/// What a restore cost. Times in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreStats {
    pub pages_compared: u64,
    pub pages_skipped_cow: u64,
    /// Making the tasks.
    pub forking_time: u64,
    /// From the start to the moment the tasks could run.
    pub restore_time: u64,
    pub pages_restored: u64,
}

impl DumpStats {
    /// Reads `stats-dump` in CRIU's work directory.
    pub fn read(directory: &Path) -> Result<Self, ImageError> {
        let path = directory.join(DUMP_STATS);
        let message = read_message(&path)?;
        let mut stats = Self::default();
        decode(&path, &message, DUMP_FIELD, "dump", |field, value| stats.set(field, value))?;
        Ok(stats)
    }

    fn set(&mut self, field: u32, value: u64) {
        let place = match field {
            1 => &mut self.freezing_time,
            2 => &mut self.frozen_time,
            3 => &mut self.memdump_time,
            4 => &mut self.memwrite_time,
            5 => &mut self.pages_scanned,
            6 => &mut self.pages_skipped_parent,
            7 => &mut self.pages_written,
            9 => &mut self.pages_lazy,
            12 => &mut self.shpages_scanned,
            13 => &mut self.shpages_skipped_parent,
            14 => &mut self.shpages_written,
            _ => return,
        };
        *place = value;
    }
}

impl RestoreStats {
    /// Reads `stats-restore` in CRIU's work directory. That it is there proves that CRIU restored something.
    pub fn read(directory: &Path) -> Result<Self, ImageError> {
        let path = directory.join(RESTORE_STATS);
        let message = read_message(&path)?;
        let mut stats = Self::default();
        decode(&path, &message, RESTORE_FIELD, "restore", |field, value| stats.set(field, value))?;
        Ok(stats)
    }

    fn set(&mut self, field: u32, value: u64) {
        let place = match field {
            1 => &mut self.pages_compared,
            2 => &mut self.pages_skipped_cow,
            3 => &mut self.forking_time,
            4 => &mut self.restore_time,
            5 => &mut self.pages_restored,
            _ => return,
        };
        *place = value;
    }
}

fn read_message(path: &Path) -> Result<Vec<u8>, ImageError> {
    let read = |source| ImageError::Read { path: path.to_path_buf(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(read)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(ImageError::TooLong { path: path.to_path_buf() });
    }
    let truncated = || ImageError::Truncated { path: path.to_path_buf() };
    let mut rest = bytes.as_slice();
    for magic in [SERVICE_MAGIC, STATS_MAGIC] {
        let found = take_u32(&mut rest).ok_or_else(truncated)?;
        if found != magic {
            return Err(ImageError::Magic { path: path.to_path_buf(), found });
        }
    }
    let length = take_u32(&mut rest).ok_or_else(truncated)? as usize;
    rest.get(..length).map(<[u8]>::to_vec).ok_or_else(truncated)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (word, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_le_bytes(*word))
}

/// Calls `set` for each number in the sub-message `wanted` of a `stats_entry`.
fn decode(
    path: &Path,
    message: &[u8],
    wanted: u32,
    kind: &'static str,
    mut set: impl FnMut(u32, u64),
) -> Result<(), ImageError> {
    let failed = |source| ImageError::Decode { path: path.to_path_buf(), source };
    let mut found = false;
    let mut outer = CodedInputStream::from_bytes(message);
    while let Some((field, wire)) = next_tag(&mut outer).map_err(failed)? {
        if field == wanted && wire == WireType::LengthDelimited {
            found = true;
            let inner = outer.read_bytes().map_err(failed)?;
            decode_numbers(&inner, &mut set).map_err(failed)?;
        } else {
            outer.skip_field(wire).map_err(failed)?;
        }
    }
    if found { Ok(()) } else { Err(ImageError::Kind { path: path.to_path_buf(), wanted: kind }) }
}

fn decode_numbers(message: &[u8], set: &mut impl FnMut(u32, u64)) -> protobuf::Result<()> {
    let mut stream = CodedInputStream::from_bytes(message);
    while let Some((field, wire)) = next_tag(&mut stream)? {
        match wire {
            WireType::Varint => set(field, stream.read_uint64()?),
            other => stream.skip_field(other)?,
        }
    }
    Ok(())
}

fn next_tag(stream: &mut CodedInputStream<'_>) -> protobuf::Result<Option<(u32, WireType)>> {
    let Some(tag) = stream.read_raw_tag_or_eof()? else {
        return Ok(None);
    };
    // A wire type that no protobuf has: let the library word the error, as it does for a group's stray end.
    let wire = WireType::new(tag & 7).unwrap_or(WireType::EndGroup);
    Ok(Some((tag >> 3, wire)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(field: u8, value: u64) -> Vec<u8> {
        let mut bytes = vec![field << 3];
        let mut rest = value;
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        bytes
    }

    fn file(field: u8, inner: &[u8]) -> Vec<u8> {
        let mut message = vec![field << 3 | 2, inner.len() as u8];
        message.extend(inner);
        let mut bytes = SERVICE_MAGIC.to_le_bytes().to_vec();
        bytes.extend(STATS_MAGIC.to_le_bytes());
        bytes.extend((message.len() as u32).to_le_bytes());
        bytes.extend(message);
        bytes
    }

    fn written(name: &str, bytes: &[u8]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(name), bytes).unwrap();
        directory
    }

    #[test]
    fn a_dump_is_read_and_unknown_fields_are_skipped() {
        let inner = [varint(1, 120), varint(2, 300_000), varint(7, 1 << 40), varint(15, 9)].concat();
        let stats = DumpStats::read(written(DUMP_STATS, &file(1, &inner)).path()).unwrap();
        assert_eq!((stats.freezing_time, stats.frozen_time, stats.pages_written), (120, 300_000, 1 << 40));
    }

    #[test]
    fn a_restore_is_read_and_not_taken_for_a_dump() {
        let bytes = file(2, &[varint(3, 7), varint(4, 88)].concat());
        let stats = RestoreStats::read(written(RESTORE_STATS, &bytes).path()).unwrap();
        assert_eq!((stats.forking_time, stats.restore_time), (7, 88));
        let error = DumpStats::read(written(DUMP_STATS, &bytes).path()).unwrap_err();
        assert!(matches!(error, ImageError::Kind { wanted: "dump", .. }));
    }

    #[test]
    fn every_truncation_is_an_error_and_none_a_panic() {
        let bytes = file(1, &[varint(1, 120), varint(2, 300_000)].concat());
        for length in 0..bytes.len() {
            assert!(DumpStats::read(written(DUMP_STATS, &bytes[..length]).path()).is_err(), "{length}");
        }
    }

    #[test]
    fn foreign_and_oversized_files_are_named() {
        let error = DumpStats::read(written(DUMP_STATS, b"not an image").path()).unwrap_err();
        assert!(matches!(error, ImageError::Magic { .. }));
        let error = DumpStats::read(written(DUMP_STATS, &[0; 5000]).path()).unwrap_err();
        assert!(matches!(error, ImageError::TooLong { .. }));
        let mut lying = file(1, &[]);
        lying[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        let error = DumpStats::read(written(DUMP_STATS, &lying).path()).unwrap_err();
        assert!(matches!(error, ImageError::Truncated { .. }));
    }

    #[test]
    fn a_length_inside_the_message_is_not_believed() {
        let mut bytes = file(1, &varint(1, 5));
        bytes[13] = 0x7f;
        assert!(matches!(DumpStats::read(written(DUMP_STATS, &bytes).path()).unwrap_err(), ImageError::Decode { .. }));
    }
}
