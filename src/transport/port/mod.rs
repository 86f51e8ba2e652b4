//! The port: a process without privileges that stands between the helper and the network.
//!
//! `transshipd port --out FD --network FD --helper PATH`, started by the helper. Two listening sockets are handed to it:
//! one on which peers call, and one on which the helper asks to have peers called. It goes by what it is told on its
//! standard input ([`config`]) and ends when that does. Keys come that way too, and are nowhere but in its memory.
//!
//! ```text
//!  helper ── out.sock ──► outbound ══ TLS ══► peer        peer ══ TLS ══► inbound ── in.sock ──► helper
//!              names the peer;                               says which peer it is;
//!              what, how packed, how fast                    unpacks
//! ```
//!
//! Bodies are passed on as they come, in both directions, and never collected.

mod active;
pub mod body;
mod call;
pub mod compress;
pub mod config;
mod errand;
mod inbound;
mod link;
mod message;
mod outbound;
pub mod process;
mod seldom;
mod stall;
mod tcp;
mod throttle;

#[cfg(test)]
mod tests;
