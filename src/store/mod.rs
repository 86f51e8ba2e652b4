//! The store: where checkpoints lie, whole and verified or not at all.
//!
//! ```text
//!  begin ──> staging/ID ──seal/adopt──> checkpoints/ID ──pack──> (the same, compressed)
//!                │                            │
//!             discard                  verify ──> Verified ──> claim ──place──> claims/CONTAINER
//!                                             │                                      │ take (the interposer)
//!                                          remove                                claims/CONTAINER.taken
//! ```
//!
//! A checkpoint becomes visible by one rename, after everything in it was hashed and written out, and ceases to
//! be by one rename. What a crash leaves behind lies in `staging/` and `tmp/` and is swept when the helper starts.
//!
//! * [`layout`]: names of files, and the directories' owner and mode;
//! * [`id`]: identifiers that are safe in a path;
//! * [`manifest`]: what a checkpoint says about itself;
//! * [`catalog`], [`staging`], [`checkpoint`]: finding, making and holding checkpoints;
//! * [`verify`], [`pack`], [`unpack`]: digests in full, compression afterwards, and the files as they were;
//! * [`claims`]: "the next create of container X restores checkpoint Y";
//! * [`handovers`]: where migrations stand;
//! * [`logs`]: CRIU's logs of what has failed;
//! * [`retention`]: what may go.

pub mod address;
pub mod catalog;
pub mod checkpoint;
pub mod claims;
pub mod error;
pub mod handovers;
pub mod id;
pub mod layout;
pub mod logs;
pub mod manifest;
pub mod pack;
pub mod retention;
pub mod staging;
pub mod unpack;
pub mod verify;

mod ahead;
mod fsync;
#[cfg(test)]
pub(crate) mod testing;
mod tree;

pub use catalog::Catalog;
pub use checkpoint::Checkpoint;
pub use error::StoreError;
pub use handovers::Handovers;
pub use id::{CheckpointId, CheckpointName, ContainerId};
pub use layout::Layout;
pub use logs::Logs;
pub use manifest::Manifest;
pub use staging::Staging;
pub use verify::Verified;
