//! Which memory of a dumped process is not in the images: what CRIU has left for later (`--lazy-pages`).
//!
//! An image is two magic numbers and entries, all little-endian; the first entry is a head, which is passed over:
//!
//! ```text
//!   u32 0x54564319 (any image)  u32 0x56084025 (pagemap)  (u32 length  pagemap_entry)*
//! ```
//!
//! Sources: CRIU's `images/pagemap.proto`, `criu/include/pagemap.h`, `criu/include/magic.h`.

use protobuf::CodedInputStream;
use protobuf::rt::WireType;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use thiserror::Error;

const COMMON_MAGIC: u32 = 0x5456_4319;
const PAGEMAP_MAGIC: u32 = 0x5608_4025;
/// Bytes of a page: what CRIU counts in.
pub const PAGE: u64 = 4096;
/// Longest entry taken, in bytes. Real ones have about 20.
const MAX_ENTRY: u32 = 1024;
/// Highest address of a process's memory, with five levels of page tables.
const MAX_ADDRESS: u64 = 1 << 56;

/// The pages may be restored later.
const LAZY: u64 = 1 << 1;
/// The pages are in the image beside.
const PRESENT: u64 = 1 << 2;

// Fields of a `pagemap_entry`.
const ADDRESS: u32 = 1;
const PAGES_OF_OLD: u32 = 2;
const FLAGS: u32 = 4;
const PAGES: u32 = 5;

/// Why an image does not tell what is to come.
#[derive(Debug, Error)]
pub enum PagemapError {
    #[error("cannot read CRIU's image {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("CRIU's image {} is malformed: {what}", path.display())]
    Malformed { path: PathBuf, what: &'static str },
}

enum Fault {
    Io(io::Error),
    Malformed(&'static str),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The ranges of addresses of a process, by its pid in the container, whose pages are still to come, in ascending order.
pub fn to_come(images: &Path, process: i32) -> Result<Vec<Range<u64>>, PagemapError> {
    let path = images.join(format!("pagemap-{process}.img"));
    let read = || read(BufReader::new(File::open(&path)?));
    read().map_err(|fault| match fault {
        Fault::Io(source) => PagemapError::Read { path: path.clone(), source },
        Fault::Malformed(what) => PagemapError::Malformed { path: path.clone(), what },
    })
}

fn read(mut image: impl Read) -> Result<Vec<Range<u64>>, Fault> {
    for magic in [COMMON_MAGIC, PAGEMAP_MAGIC] {
        if number(&mut image)? != Some(magic) {
            return Err(Fault::Malformed("it is no pagemap"));
        }
    }
    let (mut ranges, mut is_head) = (Vec::<Range<u64>>::new(), true);
    while let Some(length) = number(&mut image)? {
        if length > MAX_ENTRY {
            return Err(Fault::Malformed("an entry is too long"));
        }
        let mut entry = vec![0; length as usize];
        image.read_exact(&mut entry)?;
        if std::mem::take(&mut is_head) {
            continue;
        }
        let Some(range) = decode(&entry)? else { continue };
        match ranges.last_mut() {
            Some(last) if last.end > range.start => return Err(Fault::Malformed("its entries overlap")),
            Some(last) if last.end == range.start => last.end = range.end,
            _ => ranges.push(range),
        }
    }
    Ok(ranges)
}

/// The next number; none at the end of the file.
fn number(image: &mut impl Read) -> Result<Option<u32>, Fault> {
    let mut bytes = [0; 4];
    let mut filled = 0;
    while filled < bytes.len() {
        match image.read(&mut bytes[filled..])? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(Fault::Malformed("it is cut short")),
            count => filled += count,
        }
    }
    Ok(Some(u32::from_le_bytes(bytes)))
}

/// What an entry tells; none where its pages are in the images.
fn decode(entry: &[u8]) -> Result<Option<Range<u64>>, Fault> {
    let (mut address, mut pages, mut flags) = (0, 0, 0);
    let mut set = |field, value| match field {
        ADDRESS => address = value,
        // Cut to 32 bits where there is the other one, which comes after it.
        PAGES_OF_OLD | PAGES => pages = value,
        FLAGS => flags = value,
        _ => {}
    };
    decode_numbers(entry, &mut set).map_err(|_| Fault::Malformed("an entry cannot be decoded"))?;
    if flags & LAZY == 0 || flags & PRESENT != 0 {
        return Ok(None);
    }
    let end = pages.checked_mul(PAGE).and_then(|length| length.checked_add(address));
    match end.filter(|end| *end > address && *end <= MAX_ADDRESS && address % PAGE == 0) {
        Some(end) => Ok(Some(address..end)),
        None => Err(Fault::Malformed("an entry is of no memory that there can be")),
    }
}

fn decode_numbers(message: &[u8], set: &mut impl FnMut(u32, u64)) -> protobuf::Result<()> {
    let mut stream = CodedInputStream::from_bytes(message);
    while let Some(tag) = stream.read_raw_tag_or_eof()? {
        match WireType::new(tag & 7).unwrap_or(WireType::EndGroup) {
            WireType::Varint => set(tag >> 3, stream.read_uint64()?),
            other => stream.skip_field(other)?,
        }
    }
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn varint(bytes: &mut Vec<u8>, field: u8, value: u64) {
        bytes.push(field << 3);
        let mut rest = value;
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }

    /// An image of these entries: address, pages, flags.
    pub fn image(entries: &[(u64, u64, u64)]) -> Vec<u8> {
        let mut bytes = [COMMON_MAGIC.to_le_bytes(), PAGEMAP_MAGIC.to_le_bytes()].concat();
        let mut add = |entry: Vec<u8>| {
            bytes.extend((entry.len() as u32).to_le_bytes());
            bytes.extend(entry);
        };
        add(vec![1 << 3, 1]);
        for (address, pages, flags) in entries {
            let mut entry = Vec::new();
            varint(&mut entry, 1, *address);
            varint(&mut entry, 2, pages & 0xffff_ffff);
            varint(&mut entry, 4, *flags);
            varint(&mut entry, 5, *pages);
            add(entry);
        }
        bytes
    }

    fn ranges(image: &[u8]) -> Result<Vec<Range<u64>>, &'static str> {
        read(image).map_err(|fault| match fault {
            Fault::Io(_) => "io",
            Fault::Malformed(what) => what,
        })
    }

    #[test]
    fn only_pages_that_were_left_for_later_are_to_come_and_neighbours_are_one() {
        let image = image(&[
            (0x1000, 2, LAZY),
            (0x3000, 1, LAZY),
            (0x4000, 1, PRESENT),
            (0x5000, 1, LAZY | PRESENT),
            (0x7000, 1 << 33, LAZY),
        ]);
        assert_eq!(ranges(&image), Ok(vec![0x1000..0x4000, 0x7000..0x7000 + (1 << 45)]));
    }

    #[test]
    fn what_cannot_be_is_an_error_and_nothing_panics() {
        let good = image(&[(0x1000, 2, LAZY), (0x8000, 3, LAZY)]);
        (0..good.len()).filter(|length| ![8, 14].contains(length)).for_each(|length| {
            let cut = ranges(&good[..length]);
            assert!(cut.is_err() || cut.unwrap().len() < 2, "{length}");
        });
        assert!(ranges(b"not an image").is_err());
        assert_eq!(ranges(&image(&[(0x2000, 2, LAZY), (0x1000, 1, LAZY)])), Err("its entries overlap"));
        for entry in [(0x1000, u64::MAX, LAZY), (0x1001, 1, LAZY), (0x1000, 0, LAZY), (1 << 60, 1, LAZY)] {
            assert!(ranges(&image(&[entry])).is_err(), "{entry:x?}");
        }
        let mut lying = good;
        lying[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(ranges(&lying), Err("an entry is too long"));
    }
}
