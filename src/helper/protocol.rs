//! What goes over the helper's local socket: HTTP, JSON in, JSON lines out.
//!
//! `POST /v1/operations` with a [`Request`] as body. The answer is a stream of [`Message`]s, one a line, of which
//! the last is [`Message::Done`] or [`Message::Failed`]. A stream that ends without either means that the
//! helper died; the journal knows how far it came. `GET /v1/metrics` answers with what a monitor is told, as text.

use crate::failure::Failure;
pub use crate::migration::source::binds::{Course, Rule as Bind};
pub use crate::migration::source::memory::{Goal, IfMissed, Mode};
pub use crate::shipping::Way;
pub use crate::transport::client::Compress;
pub use crate::world::decisions::Decision;
pub use crate::world::told::Round;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::num::NonZeroU64;

/// Where the helper listens.
pub const SOCKET: &str = "/run/transship/transshipd.sock";

/// What an operator asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Can these containers (or all) be frozen and restored here, or go to a peer?
    Check {
        containers: Vec<String>,
        canary: bool,
        #[serde(default)]
        to: Option<String>,
        #[serde(default)]
        binds: Vec<Bind>,
    },
    /// Freeze containers to disk.
    Checkpoint { containers: Vec<String>, leave_running: bool, name: Option<String> },
    /// Bring one back.
    Restore { reference: String, name: Option<String>, cold_start_on_failure: bool },
    /// Which checkpoints are there, or which does a peer share?
    List {
        #[serde(default)]
        from: Option<String>,
    },
    /// Bring a checkpoint to a peer.
    Push {
        reference: String,
        to: String,
        #[serde(default)]
        way: Way,
    },
    /// Fetch a checkpoint from a peer.
    Pull {
        reference: String,
        from: String,
        #[serde(default)]
        way: Way,
    },
    /// Let a peer fetch a checkpoint, or let it no longer.
    Share { reference: String, with: String, ends: bool },
    /// One checkpoint in full.
    Inspect { reference: String },
    /// Delete checkpoints.
    Remove { references: Vec<String>, force: bool },
    /// Apply the retention rule and the quota.
    CollectGarbage { dry_run: bool },
    /// Write a checkpoint to one file.
    Export { reference: String, file: String },
    /// Read a checkpoint from such a file.
    Import { file: String },
    /// Put the interposer in front of runc.
    Install { dry_run: bool },
    /// Take it away again.
    Uninstall { dry_run: bool },
    /// Move containers to a peer.
    Migrate {
        containers: Vec<String>,
        to: String,
        keep_source: bool,
        dry_run: bool,
        /// Chosen by what link and cores give where there is none.
        #[serde(default)]
        compress: Option<Compress>,
        #[serde(default)]
        rate: Option<NonZeroU64>,
        #[serde(default)]
        mode: Mode,
        #[serde(default)]
        goal: Option<Goal>,
        #[serde(default)]
        tcp: Lost,
        #[serde(default)]
        binds: Vec<Bind>,
    },
    /// Move everything that can be moved to peers.
    Evacuate {
        to: Vec<String>,
        dry_run: bool,
        #[serde(default)]
        compress: Option<Compress>,
        #[serde(default)]
        rate: Option<NonZeroU64>,
    },
    /// Bring back what has left by that.
    Return { from: Option<String> },
    /// Whose visitors are led to a peer?
    Forwards,
    /// Lead a container's visitors there no longer.
    EndForward { container: String },
    /// Bring the engine to another version under its containers.
    Upgrade {
        to: Option<String>,
        strategy: Option<String>,
        may_stop: Vec<String>,
        dry_run: bool,
        #[serde(default)]
        evacuate_to: Vec<String>,
    },
    /// Bring the engine back to the version before an upgrade.
    Rollback { operation: i64, dry_run: bool },
    /// What did an operation do?
    Report { operation: i64 },
    /// What is going on?
    Status,
    /// What was done?
    History { limit: usize },
    /// What is a monitor told?
    Metrics,
    /// Open an invitation to another host.
    PeerInvite { addresses: Vec<String>, name: Option<String>, valid_minutes: u32 },
    /// Answer an invitation of another host's.
    PeerJoin { invitation: Hidden, addresses: Vec<String> },
    /// Which peers are there?
    PeerList,
    /// A peer is to be one no longer.
    PeerRemove { name: String },
    /// What may a peer do here?
    PeerAllow {
        name: String,
        containers: Option<bool>,
        checkpoints: Option<bool>,
        #[serde(default)]
        takes_back: Option<bool>,
    },
    /// Another key for this host.
    PeerRotate,
    /// Which copy of a container that migrates is it to be?
    Decide { operation: i64, decision: Decision, force: bool },
    /// End an operation that has not committed, and undo it.
    Cancel { operation: i64 },
    /// Bring an operation that needs a person, or an interrupted one, to an end.
    Resume { operation: i64 },
}

/// What becomes of TCP connections that cannot live on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lost {
    /// Each end finds out by itself.
    #[default]
    Keep,
    /// Both ends are told at once.
    Close,
}

/// Text that is in no log line.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

/// One line of an answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Message {
    /// An operation begins: its number in the journal.
    Begun { operation: i64 },
    /// A step begins.
    Step { name: String, number: usize, of: usize },
    /// A step ended after this many microseconds.
    StepEnded { name: String, microseconds: u64 },
    /// Bytes done of bytes in all, within a step.
    Bytes { what: String, done: u64, total: u64 },
    /// How much of a hundred is done, within a step.
    Percent { what: String, percent: u8 },
    /// A round of memory has gone to a peer.
    Round(Round),
    /// Something the operator should know.
    Note { text: String },
    /// What a part of the operation, named by its container, has come to.
    Part { container: String, doing: String, number: usize, of: usize },
    /// Undoing begins.
    Undoing { because: String },
    /// It is done; the verb's answer.
    Done { answer: Value },
    /// It is not.
    Failed { failure: Failure },
}
