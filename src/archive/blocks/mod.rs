//! A file as references to blocks that the other side has, and literal bytes for the rest.
//!
//! ```text
//!  sender                                                     receiver
//!  file ──cut──> blocks ──hash──> known? ──yes── reference ──> pool ──read, hash──┐
//!                                   └─────no───── literal  ──────────────────────┴──> file
//! ```
//!
//! CRIU's pages are cut at every 4 KiB, since memory changes by pages. Everything else is cut where its contents say, so
//! that what is inserted moves no other boundary. All of it is done by all cores on pieces of a few MiB, at memory speed:
//! it runs while a container stands still. Memory does not grow with the file, and a [`Pool`] or a set of [`KnownBlocks`]
//! takes in [`MOST_BLOCKS`] at most.
//!
//! * [`cut`]: where a file is cut;
//! * [`record`]: the stream's form;
//! * [`send`]: the stream of a file, as a reader;
//! * [`pool`]: blocks of files that are here;
//! * [`assemble`]: a file from a stream and a pool.
//!
//! A block's digest only finds it. Whoever puts a file together compares the digest of the whole file afterwards, as for
//! any other file.

mod assemble;
mod cut;
mod error;
mod pool;
mod record;
mod segments;
mod send;

pub use assemble::{Broken, assemble};
pub use cut::Cutting;
pub use error::BlocksError;
pub use pool::Pool;
pub use record::{MAX_BLOCK, PAGE};
pub use send::{BlockStream, KnownBlocks, digests};

use serde::{Deserialize, Serialize};
use std::fmt;

/// Most blocks that are remembered at a time: 3.4 GiB of pages, or some 14 GiB of other files, in 26 MiB of memory.
/// Blocks beyond are not found, and travel.
pub const MOST_BLOCKS: usize = 900_000;

/// The first half of a block's BLAKE3.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockDigest([u8; Self::BYTES]);

impl BlockDigest {
    /// Its length in bytes.
    pub const BYTES: usize = 16;

    /// The digest of a block.
    pub fn of(block: &[u8]) -> Self {
        let mut half = [0; Self::BYTES];
        half.copy_from_slice(&blake3::hash(block).as_bytes()[..Self::BYTES]);
        Self(half)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The digest that has these bytes.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for BlockDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests;
