//! The handover: who owns a container while it migrates, decided on both hosts by rules that touch nothing.
//!
//! ```text
//!   source (Departure)                               destination (Arrival)
//!   Preparing ─ Frozen                               Expecting
//!   Offered ───────────────── Offer ───────────────► Expecting ─ restores it, stopped
//!   Ready ◄────────────────── Restored ───────────── Restored
//!     │ Commit                                          │
//!   Committed ═══ journalled: no way back            Restored
//!   Committed ─────────────── Commit ──────────────► Released ══ journalled, then it is let run
//!   Settled ◄──────────────── Running ────────────── Running
//!     │ the frozen copy is ended
//!   Closed (moved)
//!
//!   before the commit, whatever fails                once it has failed, or was dropped
//!   GivenUp ─ thawed ──────── Drop ────────────────► Dropped ══ journalled: never runs, whatever comes late
//!   Closed (kept) ◄────────── Dropped ──────────────
//!
//!   after the commit                                 its copy is gone
//!   GivenUp ◄──────────────── Dropped ────────────── never ran and never will: thawed
//!   Stranded ◄─────────────── Lost ───────────────── may have run: stays frozen, and a person decides
//! ```
//!
//! [`Departure`] and [`Arrival`] are one migration's two sides. An event leads to the next state and to actions. Both
//! say what is to be done and do nothing themselves, so that `tests/handover` can try every order of events.
//!
//! Messages may be lost, late, repeated or out of order. The source repeats a [`Request`] until it knows; the
//! destination answers each with where it stands, and with nothing else. Either host may die between any two actions.
//!
//! # Contract
//!
//! Who carries the actions out keeps to this, and the check assumes it:
//!
//! - Each migration has an id that is never used again; messages carry it. A destination that has none of an id
//!   begins with [`Arrival::default`]. It remembers each that was dropped for as long as the peer may still speak.
//! - Events are taken one at a time. The actions are done in their order, all of them before the next event.
//! - `Journal` writes the state that the event led to, and returns when it is on disk. Where that fails nothing
//!   behind it is done, for it may be on disk all the same: the side starts again from what the journal says.
//! - Each action may be done again, and is then as done once.
//! - After a start of the helper the first event is `Restarted`, with the state from the journal, or the default.
//! - Nothing but these actions lets a copy run: no restart policy stands at the source until it is closed, nor at the
//!   destination until its copy was seen to run.

pub mod arrival;
pub mod departure;
mod transition;

pub use arrival::Arrival;
pub use departure::Departure;
pub use transition::Transition;

use serde::{Deserialize, Serialize};

/// What the source asks of the destination. Each is answered with the [`Arrival`] as it then is: an offer when the
/// container is restored or could not be, a commit when it runs or cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Restore it, stopped.
    Offer,
    /// It is yours: let it run.
    Commit,
    /// It is not: remove your copy and never let it run.
    Drop,
    /// Where do you stand?
    Ask,
}
