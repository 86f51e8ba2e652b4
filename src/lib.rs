//! transship freezes running Docker containers with CRIU and brings them back with their connections open.
//!
//! ```text
//!                     transship (cli) ── one request, a stream of lines ──┐
//!                                                                         ▼
//!   transshipd:  helper ──► operations, each a list of steps (saga: journal, undo)
//!                               │
//!       freeze                  │                                  restore
//!   docker      what runs here  │                    docker start ─► shim ─► interposer (transship-runc)
//!     ▼                         │                                               │ claim taken
//!   checkpoint  may it, dump ───┤ network: hold, stand-in                       ▼
//!     ▼         CRIU asks at ◄──┤ the gate: "does it count?"         gate (restore): digests verified
//!   archive     files, digests  │                                               ▼
//!     ▼                         │                                    runc restore, left stopped
//!   store       manifest ──► claim (the commit) ──────────────────►             ▼
//!                               │ network: tracking, announce ◄─────  gate: claim committed
//!                               └──────────────────────────────────►            ▼
//!                                                                     the container runs
//! ```
//!
//! Rooms in the order of the data flow: [`docker`], [`checkpoint`], [`archive`], [`store`], [`restore`],
//! [`interposer`]. Beside them: [`network`] (holds, addresses, connection tracking), [`criu`] (its protocol, its log,
//! the canary), [`services`] (the interposer's place in front of runc), [`packages`] (what the engine was installed
//! from), [`handover`] (who owns a container while it migrates), [`transport`] (other hosts, and the process without
//! privileges that talks to them). Across them: [`saga`] (steps and journal), [`world`] (what outlives an operation),
//! [`operations`] (the verbs of a single host), [`shipping`] (checkpoints that go to other hosts), [`migration`]
//! (containers that move between hosts), [`pairing`] (who those hosts are), [`overview`] (what is told of all operations).
//! At the ends: [`helper`] (the socket, recovery), [`cli`], [`report`] (what an operation did, as a page or as lines) and
//! [`metrics`] (figures for a monitor).
//!
//! Who decides when something dies half way: the claim. Where the claim on a group's leader exists, the group is
//! frozen; where it is committed, the container runs. See `docs/architecture.md`.
pub mod archive;
pub mod checkpoint;
pub mod cli;
pub mod criu;
pub mod docker;
pub mod failure;
pub mod handover;
pub mod helper;
pub mod interposer;
pub mod metrics;
pub mod migration;
pub mod network;
pub mod operations;
pub mod overview;
pub mod packages;
pub mod pager;
pub mod pairing;
pub mod process;
pub mod report;
pub mod restore;
pub mod saga;
pub mod services;
pub mod settings;
pub mod shipping;
pub mod store;
pub mod transport;
pub mod world;
