//! CRIU, spoken to directly, for what runc does not do.
//!
//! runc stays the one that dumps and restores Docker's containers. Here is the rest: versions and features
//! ([`rpc`]), what CRIU left behind in its log ([`log`]) and its image directory ([`images`]), what it loses of a
//! process's timers ([`timers`]), and the proof that this host's CRIU and kernel get on with each other ([`canary`]).

pub mod canary;
pub mod error;
pub mod feature;
pub mod images;
pub mod log;
pub(crate) mod netns;
pub mod pagemap;
pub mod rpc;
mod swrk;
pub mod timers;
