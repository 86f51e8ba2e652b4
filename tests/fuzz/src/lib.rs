//! What the targets share: inputs that get past checksums, and what a target is given in parts.

use std::io::Read;
use tar::Header;

/// Where a ustar header has its magic.
const MAGIC: std::ops::Range<usize> = 257..262;

/// Gives every block that looks like a tar header the checksum that it should have: a fuzzer does not guess those, and
/// what is to be tried lies behind them.
pub fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512).filter(|block| block[MAGIC] == *b"ustar") {
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
    }
    bytes
}

/// Two inputs out of one; the first two bytes say where to part them.
pub fn in_two(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else { return (bytes, &[]) };
    rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()))
}

/// The other way around, for seeds.
pub fn as_one(first: &[u8], second: &[u8]) -> Vec<u8> {
    let length = u16::try_from(first.len()).expect("a seed's first part is short");
    [&length.to_le_bytes(), first, second].concat()
}

/// Reads to the end, but no more than so much: an input may stand for terabytes, of holes for example.
pub fn drain(from: impl Read, most: u64) {
    // How it ends is its own business.
    let _ = std::io::copy(&mut from.take(most), &mut std::io::sink());
}

/// Sixteen pages that differ, which a receiver of blocks has.
pub fn pages() -> Vec<u8> {
    (0..16u8).flat_map(|number| (0..4096u16).map(move |at| (at as u8).wrapping_mul(3) ^ number)).collect()
}

/// The image that a destination has asked for.
pub const IMAGE: &str = "sha256:aaaa";
