//! Tar streams as transship writes and reads them: POSIX ustar headers with PAX records.
//!
//! Headers are encoded and decoded by the `tar` crate. Its iterator over members is not used, for two reasons:
//! it collects extended headers of whatever length the stream claims, and it splits PAX records at newlines,
//! which tears the binary values of extended attributes apart (`security.capability` may well hold a 0x0a).
//!
//! What is used of PAX: `path`, `linkpath`, `size`, `uid`, `gid`, `mtime` (POSIX.1-2001 pax), extended
//! attributes as `SCHILY.xattr.*` (star, GNU tar), and sparse files as GNU tar's format 1.0 (`GNU.sparse.*`).
//! GNU tar reads all of it.

mod member;
mod pax;
mod reader;
mod writer;

pub use member::{Kind, Meta, Timestamp, Xattr};
pub use reader::{Member, TarError, TarReader};
pub use writer::TarWriter;

/// A tar stream is made of blocks of 512 bytes.
pub const BLOCK: u64 = 512;
/// Longest extended header that is read or written. An inode's attribute names have at most 64 KiB (`listxattr(2)`),
/// its values 64 KiB each.
pub const MAX_EXTENDED_HEADER: u64 = 8 << 20;
/// Most segments of a sparse file, the empty one at its end included; a file with more is stored with its holes as zeros.
pub const MAX_SPARSE_SEGMENTS: usize = 1 << 16;

/// How many bytes are missing to the next block's start.
fn padding(length: u64) -> u64 {
    (BLOCK - length % BLOCK) % BLOCK
}

#[cfg(test)]
mod tests;
