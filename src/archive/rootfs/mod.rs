//! A container's writable layer as it is: an overlayfs upper directory in a tar and back.
//!
//! ```text
//!  container runs:   capture        upper ──> base tar   + Snapshot (what each path looked like)
//!  container frozen: capture_delta  upper ──> delta tar    only what looks different since, and what is gone
//!  elsewhere:        Applier::base, Applier::delta, Applier::finish
//! ```
//!
//! The first pass may take as long as it likes and does not mind files that change or vanish under it. The second is
//! part of the downtime: for a path that did not change it costs one `fstatat`.
//!
//! A path counts as changed when its inode, size, modification time, status change time, mode, owner or device number
//! differ. The status change time alone shows a change of contents, owner, mode, links or attributes, with two
//! exceptions that are provided for: times are only as fine as the kernel's tick, so what changed just before it
//! was captured is captured again; and pages written through a shared mapping reach a file's times late, so the caller
//! names the files that are mapped so.
//!
//! Kept: regular files with their holes, directories, symbolic and hard links, named pipes, devices and thus overlayfs's
//! whiteouts (character device 0:0), extended attributes of all namespaces and thus opaque directories,
//! capabilities and ACLs, owners, modes, modification times to the nanosecond, names of any bytes. Not kept: sockets,
//! which only their process can bind again; access times; inode flags (`chattr`).
//!
//! Both directions stay below their directory whatever the tree or the archive holds: paths are resolved by
//! `openat2(2)` with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`, and no object is opened before it is known to be a file.

mod apply;
mod capture;
mod object;
mod snapshot;
mod sparse;
#[cfg(test)]
mod tests;
mod walk;

pub use apply::{Applier, apply};
pub use capture::{Report, capture, capture_delta};
pub use snapshot::Snapshot;

/// The delta's first member: paths that are gone, each followed by a NUL, deepest first.
pub const DELETED: &str = ".transship-deleted";
/// How the directory itself is called in an archive.
const ROOT: &[u8] = b".";
/// Longest path below the directory: `PATH_MAX` with its NUL.
const MAX_PATH: usize = 4095;
