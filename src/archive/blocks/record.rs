//! The form of a stream of blocks: a header, then records until the file is whole. Numbers are little-endian.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `tsblocks` |
//! | 2 | version, 1 |
//! | 8 | the byte of the file that it begins with: a stream that broke off is gone on with |
//! | 8 | the file's length |
//!
//! Each record is a byte that says its kind, four for how many bytes of the file it is for, and what belongs to it.

use super::{BlockDigest, BlocksError};
use std::io::Read;

/// Longest block, and longest literal, in bytes.
pub const MAX_BLOCK: usize = 64 << 10;
/// A page of memory, in bytes.
pub const PAGE: usize = 4 << 10;

const MAGIC: [u8; 8] = *b"tsblocks";
const VERSION: u16 = 1;

const LITERAL: u8 = 1;
const REFERENCE: u8 = 2;
const ZEROS: u8 = 3;

/// Of which part of a file a stream is: from here to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The first byte.
    pub from: u64,
    /// The file's length.
    pub length: u64,
}

impl Part {
    pub(super) fn header(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.from.to_le_bytes());
        bytes.extend(self.length.to_le_bytes());
        bytes
    }

    /// Reads a header, which must be of this very part.
    pub(super) fn expect(self, input: &mut impl Read) -> Result<(), BlocksError> {
        let magic: [u8; 8] = array(input)?;
        if magic != MAGIC {
            return Err(BlocksError::NoBlocks);
        }
        let found = u16::from_le_bytes(array(input)?);
        if found != VERSION {
            return Err(BlocksError::Version { found, known: VERSION });
        }
        let (found_from, found_length) = (u64::from_le_bytes(array(input)?), u64::from_le_bytes(array(input)?));
        match (found_from, found_length) == (self.from, self.length) {
            true => Ok(()),
            false => Err(BlocksError::Part { from: self.from, length: self.length, found_from, found_length }),
        }
    }
}

/// What a record says about the next bytes of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    /// They follow, so many.
    Literal(u32),
    /// They are a block that the receiver has.
    Reference(u32, BlockDigest),
    /// They are zero, so many.
    Zeros(u32),
}

impl Record {
    /// Reads the record for byte `offset` of a file of which `left` bytes are missing.
    pub(super) fn read(input: &mut impl Read, offset: u64, left: u64) -> Result<Self, BlocksError> {
        let [kind] = array(input)?;
        let length = u32::from_le_bytes(array(input)?);
        let fault = |fault| Err(BlocksError::Record { offset, fault });
        let is_block = length as usize <= MAX_BLOCK;
        match kind {
            _ if length == 0 => fault("is empty"),
            _ if u64::from(length) > left => fault("goes beyond the file's end"),
            LITERAL if is_block => Ok(Self::Literal(length)),
            REFERENCE if is_block => Ok(Self::Reference(length, BlockDigest::from_bytes(array(input)?))),
            LITERAL | REFERENCE => fault("is longer than a block can be"),
            ZEROS => Ok(Self::Zeros(length)),
            _ => fault("is of no known kind"),
        }
    }

    pub(super) fn length(self) -> u32 {
        match self {
            Self::Literal(length) | Self::Reference(length, _) | Self::Zeros(length) => length,
        }
    }
}

fn array<const N: usize>(input: &mut impl Read) -> Result<[u8; N], BlocksError> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes).map_err(BlocksError::Stream)?;
    Ok(bytes)
}

/// Records as they are put together, one behind the other. Literals and zeros that follow each other become one.
#[derive(Debug, Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    /// Where the last record begins, if it can grow.
    last: Option<(usize, Record)>,
}

impl Records {
    pub(super) fn literal(&mut self, block: &[u8]) {
        match self.last {
            Some((at, Record::Literal(length))) if length as usize + block.len() <= MAX_BLOCK => {
                self.grow(at, Record::Literal(length + block.len() as u32));
            }
            _ => self.begin(LITERAL, Record::Literal(block.len() as u32)),
        }
        self.bytes.extend_from_slice(block);
    }

    pub(super) fn reference(&mut self, block: &[u8], digest: &BlockDigest) {
        self.begin(REFERENCE, Record::Reference(block.len() as u32, *digest));
        self.bytes.extend_from_slice(digest.as_bytes());
    }

    pub(super) fn zeros(&mut self, block: &[u8]) {
        match self.last {
            Some((at, Record::Zeros(length))) => self.grow(at, Record::Zeros(length + block.len() as u32)),
            _ => self.begin(ZEROS, Record::Zeros(block.len() as u32)),
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn begin(&mut self, kind: u8, record: Record) {
        self.last = Some((self.bytes.len(), record));
        self.bytes.push(kind);
        self.bytes.extend(record.length().to_le_bytes());
    }

    fn grow(&mut self, at: usize, record: Record) {
        self.last = Some((at, record));
        self.bytes[at + 1..at + 5].copy_from_slice(&record.length().to_le_bytes());
    }
}
