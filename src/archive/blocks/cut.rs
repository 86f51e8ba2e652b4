//! Where a file is cut into blocks.

use super::record::{MAX_BLOCK, PAGE};
use fastcdc::v2020::FastCDC;

/// Shortest and usual length of a block that is cut by its contents, in bytes; the longest is [`MAX_BLOCK`].
const SHORTEST: usize = 4 << 10;
const USUAL: usize = 16 << 10;

/// How a file is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cutting {
    /// At every 4 KiB: memory.
    Pages,
    /// Where the contents say.
    Content,
}

impl Cutting {
    /// The one for a checkpoint's file by its name: CRIU's pages are called `pages-N.img`.
    pub fn of(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        match name.starts_with("pages-") && name.ends_with(".img") {
            true => Self::Pages,
            false => Self::Content,
        }
    }

    /// The blocks of a piece of a file that begins at `offset` of it.
    pub(super) fn blocks(self, piece: &[u8], offset: u64) -> Vec<&[u8]> {
        match self {
            Self::Pages => {
                // Pages keep to multiples of their length, wherever the piece begins.
                let first = (PAGE - (offset % PAGE as u64) as usize).min(piece.len());
                let (head, rest) = piece.split_at(if first == PAGE { 0 } else { first });
                let head = Some(head).filter(|head| !head.is_empty());
                head.into_iter().chain(rest.chunks(PAGE)).collect()
            }
            Self::Content => {
                let cuts = FastCDC::new(piece, SHORTEST, USUAL, MAX_BLOCK);
                cuts.map(|chunk| &piece[chunk.offset..chunk.offset + chunk.length]).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn memory_is_cut_by_pages_and_nothing_else_is() {
        for pages in ["pages-1.img", "images/pages-12.img", "pre/pages-1.img"] {
            assert_eq!(Cutting::of(pages), Cutting::Pages);
        }
        for other in ["images/pagemap-1.img", "rootfs.tar", "pages-1.img/core-1.img", "pages-1.img.zst"] {
            assert_eq!(Cutting::of(other), Cutting::Content);
        }
    }

    #[test]
    fn what_is_inserted_moves_few_boundaries() {
        let mut random = 1u64;
        let mut noise = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as u8
        };
        let before: Vec<u8> = (0..1 << 20).map(|_| noise()).collect();
        let mut after = before.clone();
        after.splice(1000..1000, *b"inserted");
        let old: std::collections::HashSet<_> = Cutting::Content.blocks(&before, 0).into_iter().collect();
        let new = Cutting::Content.blocks(&after, 0);
        let unknown: usize = new.iter().filter(|block| !old.contains(*block)).map(|block| block.len()).sum();
        assert!(unknown <= 2 * MAX_BLOCK, "{unknown} of {} bytes are new", after.len());
    }

    proptest! {
        #[test]
        fn the_blocks_are_the_piece(piece in proptest::collection::vec(any::<u8>(), 0..300_000), offset in 0u64..20_000) {
            for cutting in [Cutting::Pages, Cutting::Content] {
                let blocks = cutting.blocks(&piece, offset);
                prop_assert!(blocks.iter().all(|block| (1..=MAX_BLOCK).contains(&block.len())));
                prop_assert_eq!(&blocks.concat(), &piece);
            }
            let pages = Cutting::Pages.blocks(&piece, offset);
            let mut at = offset;
            for page in &pages[..pages.len().saturating_sub(1)] {
                at += page.len() as u64;
                prop_assert_eq!(at % PAGE as u64, 0);
            }
        }
    }
}
