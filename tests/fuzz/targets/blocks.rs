//! A file as references to blocks and literals: whatever comes, the file is as a plain reading of the stream has it, or cut
//! to what is whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::HashMap;
use std::fs;
use std::sync::LazyLock;
use tempfile::TempDir;
use transship::archive::blocks::{BlockDigest, Cutting, MAX_BLOCK, PAGE, Pool, assemble};
use transship_fuzz::pages;

/// Files are no longer than this: there is no need to try with larger ones.
const LONGEST: u64 = 1 << 20;

/// A pool, the directory of its file, and its blocks.
static POOL: LazyLock<(TempDir, Pool, HashMap<[u8; 16], Vec<u8>>)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pages-1.img");
    fs::write(&path, pages()).unwrap();
    let mut pool = Pool::new();
    pool.add(&path, 0, Cutting::of("pages-1.img")).unwrap();
    let blocks = pages().chunks(PAGE).map(|page| (*BlockDigest::of(page).as_bytes(), page.to_vec())).collect();
    (dir, pool, blocks)
});

fuzz_target!(|data: &[u8]| {
    let (dir, pool, blocks) = &*POOL;
    let (from, length) = part(data);
    let path = dir.path().join("coming");
    fs::write(&path, vec![1; from as usize]).unwrap();
    let assembled = assemble(&mut &*data, &path, (from, length), pool);
    let bytes = fs::read(&path).unwrap();
    let expected = plainly(data, (from, length), blocks);
    match assembled {
        Ok(literals) => {
            assert!(literals <= data.len() as u64);
            assert_eq!(Some(bytes), expected);
        }
        Err(broken) => {
            assert!(expected.is_none(), "it was good: {:?}", broken.error);
            assert!(from <= broken.whole && broken.whole <= length && bytes.len() as u64 == broken.whole);
        }
    }
});

/// The part that the stream says it is of, where that is one to try.
fn part(data: &[u8]) -> (u64, u64) {
    let number = |at: usize| data.get(at..at + 8).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
    Some((number(10), number(18))).filter(|(from, length)| from <= length && *length <= LONGEST).unwrap_or((0, 70_000))
}

/// What docs/protocol.md says about such a stream, one record after the other; nothing where it is none.
fn plainly(mut data: &[u8], (from, length): (u64, u64), blocks: &HashMap<[u8; 16], Vec<u8>>) -> Option<Vec<u8>> {
    let header = [b"tsblocks".as_slice(), &1u16.to_le_bytes(), &from.to_le_bytes(), &length.to_le_bytes()].concat();
    data = data.strip_prefix(header.as_slice())?;
    let mut file = vec![1; from as usize];
    while (file.len() as u64) < length {
        let (&kind, rest) = data.split_first()?;
        let (count, rest) = rest.split_first_chunk()?;
        let count = u32::from_le_bytes(*count) as usize;
        data = rest;
        match kind {
            1 if count <= MAX_BLOCK => {
                let (literal, rest) = data.split_at_checked(count)?;
                file.extend(literal);
                data = rest;
            }
            2 => {
                let (digest, rest) = data.split_first_chunk()?;
                file.extend(blocks.get(digest).filter(|block| block.len() == count)?);
                data = rest;
            }
            3 if count as u64 <= length => file.resize(file.len() + count, 0),
            _ => return None,
        }
        if count == 0 || file.len() as u64 > length {
            return None;
        }
    }
    data.is_empty().then_some(file)
}
