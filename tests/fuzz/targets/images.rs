//! CRIU's images as a compressed tar, against a list that fits, nearly fits, or does not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io::Read;
use transship::archive::images::unpack;
use transship::archive::tar::TarReader;
use transship::archive::{Digest, FileEntry, RelPath};
use transship_fuzz::with_checksums;

/// The input is the compressed stream itself.
const PACKED: u8 = 1;
/// The last file is missing from the list.
const ONE_LESS: u8 = 2;
/// The last file's length in the list is another.
const LENGTH: u8 = 4;
/// Nothing is written, all is compared.
const COMPARED: u8 = 8;

fuzz_target!(|data: &[u8]| {
    let Some((flags, data)) = data.split_first() else { return };
    let (packed, tar) = match flags & PACKED {
        0 => {
            let tar = with_checksums(data);
            (zstd::encode_all(tar.as_slice(), 1).unwrap(), tar)
        }
        _ => (data.to_vec(), plain(data)),
    };
    let mut entries = list(&tar);
    if flags & ONE_LESS != 0 {
        entries.pop();
    }
    if flags & LENGTH != 0
        && let Some(last) = entries.last_mut()
    {
        last.length = last.length.wrapping_add(u64::from(*flags)).wrapping_mul(3);
    }
    let around = tempfile::tempdir().unwrap();
    let dest = around.path().join("new");
    let unpacked = unpack(packed.as_slice(), &entries, (flags & COMPARED == 0).then_some(dest.as_path()), &|_| ());
    assert_eq!(dest.exists(), unpacked.is_ok() && flags & COMPARED == 0, "a failed unpack left something");
    if unpacked.is_ok() && flags & COMPARED == 0 {
        for entry in &entries {
            let bytes = std::fs::read(entry.path.below(&dest)).unwrap();
            assert_eq!((bytes.len() as u64, Digest::of(&bytes)), (entry.length, entry.blake3));
        }
    }
});

/// As much of a compressed stream as comes out of it.
fn plain(packed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    if let Ok(decoder) = zstd::Decoder::new(packed) {
        let _ = decoder.take(4 << 20).read_to_end(&mut plain);
    }
    plain
}

/// The list that a tar fulfils, as far as it can be read.
fn list(tar: &[u8]) -> Vec<FileEntry> {
    let mut reader = TarReader::new(tar);
    let mut entries = Vec::new();
    while let Ok(Some(member)) = reader.next_member() {
        let mut bytes = Vec::new();
        let path = String::from_utf8(member.meta.path).ok().and_then(|path| RelPath::new(path).ok());
        let read = reader.read_to_end(&mut bytes);
        if let (Some(path), Ok(_)) = (path, read) {
            entries.push(FileEntry { path, length: bytes.len() as u64, blake3: Digest::of(&bytes) });
        }
    }
    entries
}
