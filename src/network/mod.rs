//! The network of a container while it is away: nobody who talks to it may notice more than a pause.
//!
//! ```text
//!                         the container goes                        the container is back
//!
//!  hold       place ─────────────── tighten ── close ───────────────────────────────────── release
//!             new connections wait  everything waits                                          │
//!  inside          hold_new ─┐          silence (while frozen processes are killed)           │
//!  backlog                   └ wait_until_clear                                              │
//!  tracking                         save ─────────────────────────────── put_back ────────────┤
//!  neighbours                                  StandIn ─────────────────────────── announce ──┘
//!  temporary                                            place ── (restore) ── remove
//! ```
//!
//! [`published`] reads from Docker what to hold; [`mend`] brings a container round whose dump was killed; [`netns`] is how all
//! of this gets into a container's namespace. What acts on the host acts on the calling thread's namespace. Everything is
//! synchronous and blocks for milliseconds, mostly in iptables and ip.
//!
//! Invariants kept here: nothing is left (I5), and tracking is in place before the container is heard (I6); and nobody else's
//! packets are touched (I7): rules match addresses, published ports and exact tuples only.

pub mod backlog;
pub mod closing;
pub mod coming;
mod command;
mod error;
pub mod forward;
mod frames;
pub mod hold;
pub mod inside;
#[cfg(test)]
mod lab;
pub mod mend;
pub mod neighbours;
mod netlink;
pub mod netns;
mod packet;
mod poll;
pub mod prospects;
pub mod published;
mod queue;
pub mod remembered;
mod rules;
pub mod segment;
pub mod sockets;
pub mod spec;
pub mod temporary;
pub mod tracking;
pub mod ways;

pub use error::{Error, Result};
