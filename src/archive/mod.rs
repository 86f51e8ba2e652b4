//! Archives: how a checkpoint's files become one stream, and how a stream becomes files again.
//!
//! Nothing here knows Docker. Whatever is read may come from a stranger: no size in a stream is allocated on
//! its word, no path in it is trusted, and what does not match the list it was announced by is an error that
//! names the member and its offset.
//!
//! * [`entry`]: paths, digests and the list of files everything is held against;
//! * [`hash`]: digests of many files in parallel;
//! * [`tar`]: a tar reader with limits and a writer, on the `tar` crate's headers;
//! * [`images`]: CRIU's images as one compressed stream;
//! * [`rootfs`]: a container's writable layer as it is;
//! * [`export`]: a whole checkpoint in one file;
//! * [`blocks`]: a file as references to what the other side has, and literal bytes for the rest.

pub mod blocks;
pub mod entry;
pub mod error;
pub mod export;
pub mod hash;
pub mod images;
pub mod rootfs;
pub mod tar;

mod file;
mod prefetch;

pub use entry::{Digest, FileEntry, RelPath};
pub use error::ArchiveError;

/// Told the bytes that were done since it was last called; called from several threads.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);

/// What is copied at once, in bytes.
const CHUNK: usize = 256 << 10;

/// A file that changed less than this before it was looked at may change again without its time showing it: file
/// times are as fine as the kernel's tick, at most 10 ms.
pub(crate) const TICK: std::time::Duration = std::time::Duration::from_millis(50);
