//! What an operation did, told afterwards (or while it goes on): a page for a browser, or plain lines.
//!
//! ```text
//!               ┌─► course: its bars, when it was away ─┬─► picture, on axes, drawn ─► html
//!   Report ─────┤                                        └─► a letter for each part ─► text
//!               └─► figures, reason, sentence ───────────────────────────────────► both
//! ```
//!
//! A [`Report`] is plain data that somebody else fills in from the journal. Nothing here asks a clock, a file or
//! Docker, so the same report always gives the same page. Names and texts come from users, and from logs of programs
//! that users wrote: all of them pass through `printable` once, and whatever goes into the page is escaped by maud.
//!
//! Clocks are set, and helpers die before they note an end. So an end may be missing or lie before its begin, and
//! still everything is drawn inside the picture.

mod axis;
mod course;
mod draw;
mod figures;
mod html;
mod picture;
mod printable;
mod reason;
#[cfg(test)]
pub(crate) mod sample;
mod sentence;
#[cfg(test)]
mod tests;
mod text;

pub use html::html;
pub use text::text;

use axis::Stretch;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One operation, from its first step to its last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its number in the journal.
    pub operation: i64,
    /// The journal's word: `upgrade` (a rollback is one, too), `checkpoint`, `restore`.
    pub kind: String,
    /// What it was about: `docker.io 26.1.5 to 28.5.2`, or a container.
    pub subject: String,
    /// The host it ran on.
    pub host: String,
    /// Who asked for it.
    pub asked_by: String,
    /// How it ended, if it has.
    pub outcome: Outcome,
    /// When its first step began.
    pub began: Timestamp,
    /// When its last step ended.
    pub ended: Option<Timestamp>,
    /// When this report was written. What has no end yet is drawn up to here.
    pub as_of: Timestamp,
    /// How far the host's own clock on the wall is east of UTC, in seconds.
    pub utc_offset_s: Option<i32>,
    /// Why it did not succeed.
    pub failure: Option<Cause>,
    /// Packages that changed, or were to.
    #[serde(default)]
    pub packages: Vec<PackageChange>,
    /// The operation's steps in the order in which they ran, those of undoing last.
    #[serde(default)]
    pub steps: Vec<Span>,
    /// Each container of the operation.
    #[serde(default)]
    pub containers: Vec<ContainerCourse>,
    /// What the operator should know besides.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It did what was asked.
    Done,
    /// It failed, and what it had done was rolled back.
    Undone,
    /// It failed, and a person has to decide.
    NeedsPerson,
    /// It has not ended yet.
    UnderWay,
}

/// Why an operation did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What failed, on what: one line.
    pub what: String,
    /// Why, from the nearest cause to the root.
    #[serde(default)]
    pub why: Vec<String>,
    /// What to do next.
    pub remedy: Option<String>,
    /// Last lines of a log that tell more, such as CRIU's.
    #[serde(default)]
    pub details: Vec<String>,
}

/// One package, before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageChange {
    /// The package's name.
    pub name: String,
    /// The version before; none if it was not installed.
    pub from: Option<String>,
    /// The version after; none if it was to be removed.
    pub to: Option<String>,
}

/// A step, or a phase of one container in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The step's name in the journal: `hold`, `dump`, `start`.
    pub name: String,
    /// When it began.
    pub began: Timestamp,
    /// When it ended; none if it has not, or if nobody was left to note it.
    pub ended: Option<Timestamp>,
    /// The step's undo rather than the step.
    #[serde(default)]
    pub undo: bool,
}

/// What one container went through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerCourse {
    /// The container's name.
    pub name: String,
    /// How it was brought through: `freeze`, `live-restore`, `stop`.
    pub strategy: String,
    /// Why so.
    pub reason: String,
    /// Its phases in order: `hold freeze dump copy seal claim stop`, then `verify claim start`. A gap in between is
    /// time for which it stood still and waited, usually for the engine.
    #[serde(default)]
    pub spans: Vec<Span>,
    /// How long it did not run, as measured.
    pub away_us: Option<u64>,
    /// How much memory was written out.
    pub memory_bytes: Option<u64>,
    /// Packets that were kept for it meanwhile.
    pub parked: Option<u64>,
    /// Packets that were dropped meanwhile; TCP sends its own again.
    pub dropped: Option<u64>,
    /// What else is to be said about it.
    pub note: Option<String>,
}

impl Report {
    /// From its begin to its end, or to now.
    fn stretch(&self) -> Stretch {
        Stretch::new(self.began.as_microsecond(), self.ended.unwrap_or(self.as_of).as_microsecond())
    }

    /// From begin to end, where the clock was not set back in between.
    fn took_us(&self) -> Option<u64> {
        let end = self.ended.unwrap_or(self.as_of);
        u64::try_from(end.as_microsecond() - self.began.as_microsecond()).ok()
    }

    /// Whether times lie in another order than they were noted in.
    fn clock_was_set_back(&self) -> bool {
        let disordered = |spans: &[Span]| {
            spans.iter().any(|span| span.ended.is_some_and(|ended| ended < span.began))
                || spans.windows(2).any(|pair| pair[1].began < pair[0].began)
        };
        self.ended.is_some_and(|ended| ended < self.began)
            || disordered(&self.steps)
            || self.containers.iter().any(|container| disordered(&container.spans))
    }
}

impl Span {
    /// From begin to end; none if the end is not known, or the clock was set back in between.
    pub fn took_us(&self) -> Option<u64> {
        u64::try_from(self.ended?.as_microsecond() - self.began.as_microsecond()).ok()
    }
}

impl Outcome {
    /// In two words.
    fn label(self) -> &'static str {
        match self {
            Self::Done => "Done",
            Self::Undone => "Rolled back",
            Self::NeedsPerson => "Needs a person",
            Self::UnderWay => "Under way",
        }
    }
}
