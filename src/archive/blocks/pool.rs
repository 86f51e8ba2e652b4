//! Blocks of files that are here, by their digests.

use super::cut::Cutting;
use super::segments::Segments;
use super::send::is_zero;
use super::{BlockDigest, BlocksError, MOST_BLOCKS};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place in one word: the file's number above, the offset in it below.
const OFFSET_BITS: u32 = 44;

/// Most files of a pool.
const MOST_FILES: usize = 1 << (u64::BITS - OFFSET_BITS);

/// Blocks and where they lie. Nothing is copied: the files have to stay as they are, and each block is hashed again when
/// it is used.
#[derive(Debug, Default)]
pub struct Pool {
    files: Vec<PathBuf>,
    places: HashMap<BlockDigest, u64>,
}

/// Where a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub file: usize,
    pub offset: u64,
}

impl Pool {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the blocks of a file from byte `from` of it, while there is room. What it had of it before must have been
    /// the bytes before.
    ///
    /// # Errors
    /// When the file cannot be read; what was read of it by then is in.
    pub fn add(&mut self, path: &Path, from: u64, cutting: Cutting) -> Result<(), BlocksError> {
        let options = File::options().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path);
        let file = Arc::new(options.map_err(BlocksError::file("open", path))?);
        let length = file.metadata().map_err(BlocksError::file("look at", path))?.len().min(1 << OFFSET_BITS);
        let Some(number) = self.number_of(path) else { return Ok(()) };
        let located = Segments::of(&file, (from, length), move |segment, offset| {
            let mut at = offset;
            let mut locate = |block: &[u8]| {
                let begin = at;
                at += block.len() as u64;
                (!is_zero(block)).then(|| (BlockDigest::of(block), begin))
            };
            cutting.blocks(segment, offset).into_iter().filter_map(&mut locate).collect::<Vec<_>>()
        });
        for blocks in located {
            for (digest, offset) in blocks.map_err(BlocksError::file("read", path))? {
                if self.places.len() >= MOST_BLOCKS {
                    return Ok(());
                }
                self.places.insert(digest, (number as u64) << OFFSET_BITS | offset);
            }
        }
        Ok(())
    }

    /// Which of these blocks are here.
    pub fn has(&self, digests: &[BlockDigest]) -> Vec<bool> {
        digests.iter().map(|digest| self.places.contains_key(digest)).collect()
    }

    /// How many blocks are here.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether nothing more is taken in.
    pub fn is_full(&self) -> bool {
        self.places.len() >= MOST_BLOCKS || self.files.len() >= MOST_FILES
    }

    pub(super) fn place(&self, digest: &BlockDigest) -> Option<Place> {
        let place = *self.places.get(digest)?;
        Some(Place { file: (place >> OFFSET_BITS) as usize, offset: place & ((1 << OFFSET_BITS) - 1) })
    }

    pub(super) fn path(&self, place: Place) -> &Path {
        &self.files[place.file]
    }

    /// The number of a file; none when there are too many. The one that is added on to is the last.
    fn number_of(&mut self, path: &Path) -> Option<usize> {
        if let Some(known) = self.files.iter().rposition(|known| known == path) {
            return Some(known);
        }
        if self.files.len() >= MOST_FILES {
            return None;
        }
        self.files.push(path.to_owned());
        Some(self.files.len() - 1)
    }
}
