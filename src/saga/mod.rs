//! Operations as steps that are journalled before and after, each with its undo.
//!
//! ```text
//!   step 1   step 2   step 3 (commits)   step 4
//!   ──run──► ──run──► ──run───────────► ──run──►  done
//!                │ error                    │ error
//!   ◄──undo──────┘ 2, then 1                └► stands: later steps are tried again, never undone
//! ```
//!
//! The operation's own state (what it has found and what it has set aside) is written with each entry, so that
//! a helper that was killed goes on from the journal: forward after the commit, back before it.
//! A step and its undo must therefore bear being run twice, and an undo must bear a step that ran half.

mod failpoint;
mod journal;
pub mod reserve;
mod runner;
mod secrets;

pub use failpoint::Failpoints;
pub use journal::{Asked, Entry, Journal, JournalError, OperationRecord, Phase};
pub use runner::{Operation, Progress, Step, is_past_commit, recover, run};
