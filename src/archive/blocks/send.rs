//! The stream of a file, for a receiver that has some blocks.

use super::cut::Cutting;
use super::record::{Part, Records};
use super::segments::Segments;
use super::{BlockDigest, MOST_BLOCKS};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

/// Blocks that the receiver is known to have.
#[derive(Debug, Default, Clone)]
pub struct KnownBlocks(HashSet<BlockDigest>);

impl KnownBlocks {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers a block, unless it remembers [`MOST_BLOCKS`] already. Whether it is remembered now.
    pub fn insert(&mut self, digest: BlockDigest) -> bool {
        if self.0.len() >= MOST_BLOCKS {
            return self.0.contains(&digest);
        }
        self.0.insert(digest);
        true
    }

    /// Forgets a block: the receiver does not have it after all.
    pub fn remove(&mut self, digest: &BlockDigest) {
        self.0.remove(digest);
    }

    /// Whether the receiver has it.
    pub fn contains(&self, digest: &BlockDigest) -> bool {
        self.0.contains(digest)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The digests of a file's blocks, in their order, as many at a time as a segment has. Blocks of zeros are left out: they
/// are never referred to.
///
/// # Errors
/// As an item, when the file cannot be read or is shorter than `length`.
pub fn digests(
    file: &Arc<File>,
    length: u64,
    cutting: Cutting,
) -> impl Iterator<Item = io::Result<Vec<BlockDigest>>> + use<> {
    Segments::of(file, (0, length), move |segment, offset| {
        let blocks = cutting.blocks(segment, offset);
        blocks.into_iter().filter(|block| !is_zero(block)).map(BlockDigest::of).collect()
    })
}

/// Reads as the stream of a file. All cores work ahead of whoever reads it, by a few MiB.
pub struct BlockStream {
    segments: Segments<Vec<u8>>,
    /// What is read next, and how much of it was read.
    piece: Vec<u8>,
    at: usize,
}

impl BlockStream {
    /// The stream of bytes `from` to `length` of a file.
    pub fn new(file: &Arc<File>, from: u64, length: u64, cutting: Cutting, known: Arc<KnownBlocks>) -> Self {
        let encode = move |segment: &[u8], offset| encoded(segment, offset, cutting, &known);
        let segments = Segments::of(file, (from, length), encode);
        Self { segments, piece: Part { from, length }.header(), at: 0 }
    }
}

impl Read for BlockStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            match self.segments.next() {
                Some(next) => (self.piece, self.at) = (next?, 0),
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

fn encoded(segment: &[u8], offset: u64, cutting: Cutting, known: &KnownBlocks) -> Vec<u8> {
    let mut records = Records::default();
    for block in cutting.blocks(segment, offset) {
        if is_zero(block) {
            records.zeros(block);
            continue;
        }
        let digest = (!known.is_empty()).then(|| BlockDigest::of(block)).filter(|digest| known.contains(digest));
        match digest {
            Some(digest) => records.reference(block, &digest),
            None => records.literal(block),
        }
    }
    records.into_bytes()
}

/// Compared with itself, one byte on: that is one `memcmp`, which the C library does by vectors.
pub(super) fn is_zero(block: &[u8]) -> bool {
    block.first().is_none_or(|first| *first == 0)
        && block[..block.len().saturating_sub(1)] == block[block.len().min(1)..]
}
