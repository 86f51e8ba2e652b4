//! The source's side of a handover.

use super::{Arrival, Request, Transition};
use serde::{Deserialize, Serialize};

/// Where the source stands.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Departure {
    /// The destination was asked for nothing that could run.
    #[default]
    Preparing,
    /// Frozen; the destination was asked to restore it stopped.
    Offered,
    /// The destination has it, stopped. Never in the journal: until the commit it makes no difference.
    Ready,
    /// The point of no return. It is the destination's, which may not know yet; ours stays frozen (I3).
    Committed,
    /// Committed, but the destination's copy is gone, and may have run and been heard: to thaw ours takes that back. Ours stays
    /// frozen, and a person decides.
    Stranded,
    /// It runs at the destination; our frozen copy is being ended.
    Settled,
    /// It is thawed here; the destination has not confirmed yet that its copy is gone.
    GivenUp,
    /// It is thawed here and runs at the destination, by somebody's force. A person decides.
    Contested,
    /// Both sides know how it ended.
    Closed(Outcome),
}

/// Who has the container in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The destination.
    Moved,
    /// The source.
    Kept,
}

/// What the source is told, by the destination and by its own host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The container is frozen, and all that a restore needs has been sent.
    Frozen,
    /// The destination says where it stands.
    Answer(Arrival),
    /// Nothing speaks against it any more. Of a group: each member is ready.
    Commit,
    /// A step failed, somebody's patience is over, or the operator wants it undone. After the commit it is not heard.
    GiveUp,
    /// Time has passed without an answer, or there is a connection again.
    Again,
    /// The frozen copy is gone.
    Ended,
    /// The helper was started; this state is the journal's.
    Restarted,
    /// The operator's force: it runs here. Two run if the destination has been told of the commit or will be; where
    /// it is [`Departure::Stranded`], one does.
    ForceThaw,
    /// The operator's force: it is the destination's, and ours is ended. It is lost if the destination has none.
    ForceEnd,
}

/// What is to be done at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Write the next state down, on disk.
    Journal,
    /// Tell the destination.
    Send(Request),
    /// Let our copy go on where it stood.
    Thaw,
    /// End our copy for good; [`Event::Ended`] follows.
    End,
}

use Action::{End, Journal, Send, Thaw};

type Next = Transition<Departure, Action>;

impl Departure {
    /// What follows from `event`. One that has no meaning here changes nothing.
    pub fn on(self, event: Event) -> Next {
        match self {
            Self::Preparing | Self::Offered | Self::Ready => self.before_commit(event),
            Self::Committed | Self::Stranded => self.after_commit(event),
            Self::GivenUp | Self::Contested => self.thawed(event),
            Self::Settled | Self::Closed(_) => self.decided(event),
        }
    }

    /// Whether it is the destination's, so that it is not thawed here but by force or where the destination has dropped it.
    pub fn is_past_commit(self) -> bool {
        matches!(self, Self::Committed | Self::Stranded | Self::Settled | Self::Closed(Outcome::Moved))
    }

    /// Whether nothing more happens before a person has decided.
    pub fn needs_person(self) -> bool {
        matches!(self, Self::Stranded | Self::Contested)
    }

    /// Whether nothing more is to be done.
    pub fn is_closed(self) -> bool {
        matches!(self, Self::Closed(_))
    }

    fn before_commit(self, event: Event) -> Next {
        use Arrival::{Dropped, Lost, Released, Restored, Running};
        match (self, event) {
            (Self::Preparing, Event::Frozen) => Next::to(Self::Offered, [Journal, Send(Request::Offer)]),
            (Self::Offered, Event::Again) => self.stays([Send(Request::Offer)]),
            (Self::Offered, Event::Answer(Restored)) => Next::to(Self::Ready, []),
            (Self::Ready, Event::Again) => self.stays([Send(Request::Ask)]),
            // The destination must not hear of it before it is on disk: from then on it may run there.
            (Self::Ready, Event::Commit) => self.commits(),
            // It was forced to run there. Ours is frozen still, and stays so.
            (Self::Offered | Self::Ready, Event::Answer(Released | Running)) => self.commits(),
            // No need to ask: without a commit the destination cannot let it run.
            (_, Event::GiveUp | Event::Restarted | Event::ForceThaw | Event::Answer(Dropped | Lost)) => self.thaws(),
            _ => self.stays([]),
        }
    }

    fn after_commit(self, event: Event) -> Next {
        match (self, event) {
            (Self::Committed, Event::Again | Event::Restarted | Event::Answer(Arrival::Restored)) => {
                self.stays([Send(Request::Commit)])
            }
            (Self::Committed, Event::Answer(Arrival::Running)) => self.settles(),
            // It has none, never let it run and never will, whatever still comes: ours is all that there is of it, and loses
            // nothing by going on.
            (Self::Committed, Event::Answer(Arrival::Dropped)) => self.thaws(),
            (Self::Committed, Event::Answer(Arrival::Lost)) => Next::to(Self::Stranded, [Journal]),
            (_, Event::ForceThaw) => self.thaws(),
            (_, Event::ForceEnd) => self.settles(),
            // What is heard of a stranded one is late: the destination does not get its copy back.
            _ => self.stays([]),
        }
    }

    fn thawed(self, event: Event) -> Next {
        match (self, event) {
            (Self::GivenUp, Event::Restarted) => self.stays([Thaw, Send(Request::Drop)]),
            (_, Event::Restarted | Event::Again) => self.stays([Send(Request::Drop)]),
            (_, Event::Answer(Arrival::Restored)) => self.stays([Send(Request::Drop)]),
            (_, Event::Answer(Arrival::Dropped | Arrival::Lost)) => Next::to(Self::Closed(Outcome::Kept), [Journal]),
            (Self::GivenUp, Event::Answer(Arrival::Released | Arrival::Running)) => {
                Next::to(Self::Contested, [Journal])
            }
            (Self::Contested, Event::ForceEnd) => self.settles(),
            _ => self.stays([]),
        }
    }

    fn decided(self, event: Event) -> Next {
        match (self, event) {
            (Self::Settled, Event::Again | Event::Restarted) => self.stays([End]),
            (Self::Settled, Event::Ended) => Next::to(Self::Closed(Outcome::Moved), [Journal]),
            // Ours was ended by force, before the destination had heard of the commit: it has the only copy.
            (Self::Settled | Self::Closed(Outcome::Moved), Event::Answer(Arrival::Restored)) => {
                self.stays([Send(Request::Commit)])
            }
            _ => self.stays([]),
        }
    }

    fn commits(self) -> Next {
        Next::to(Self::Committed, [Journal, Send(Request::Commit)])
    }

    fn settles(self) -> Next {
        Next::to(Self::Settled, [Journal, End])
    }

    fn thaws(self) -> Next {
        Next::to(Self::GivenUp, [Journal, Thaw, Send(Request::Drop)])
    }

    fn stays(self, actions: impl Into<Vec<Action>>) -> Next {
        Next::to(self, actions)
    }
}

#[cfg(test)]
#[path = "departure_tests.rs"]
mod tests;
