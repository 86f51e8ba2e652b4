//! The destination's side of a handover.

use super::{Request, Transition};
use serde::{Deserialize, Serialize};

/// Where the destination stands; this is also all that it ever says to the source.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrival {
    /// Nothing of it is restored yet, or nothing that anybody was told of.
    #[default]
    Expecting,
    /// Restored and stopped. It runs on the source's word only.
    Restored,
    /// The source has committed: it is let run, or is about to be.
    Released,
    /// It was seen to run. From here on it is a container of this host as any other.
    Running,
    /// It never ran here and never will, whatever still comes.
    Dropped,
    /// It may have run here, is gone, and never will again.
    Lost,
}

/// What the destination is told, by the source and by its own host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The source asks.
    Request(Request),
    /// It is restored and stopped.
    Restored,
    /// It could not be restored.
    RestoreFailed,
    /// It was let run, and does. Where its memory follows: the last page is here.
    Runs,
    /// The copy is no more, or cannot be let run.
    Gone,
    /// Time has passed without word from the source, or there is a connection again.
    Again,
    /// The helper was started; this state is the journal's, and this is what it found.
    Restarted(Found),
    /// The operator's force: it runs here. Two run if the source was thawed or will be.
    ForceRun,
    /// The operator's force: it does not run here, and what does is ended. It is lost if the source has none.
    ForceDrop,
}

/// What a started helper finds of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Found {
    /// None. One that is [`Arrival::Restored`] may be restored once more before that is said, since it never ran;
    /// one that is [`Arrival::Released`] may not: its clients would be taken back to where it was frozen.
    Nothing,
    /// One that is stopped.
    Stopped,
    /// One that runs.
    Running,
}

/// What is to be done at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Write the next state down, on disk.
    Journal,
    /// Tell the source the next state.
    Answer,
    /// Begin to restore it, stopped, if that has not begun; [`Event::Restored`] or [`Event::RestoreFailed`] follows.
    Restore,
    /// Let the restored copy run; [`Event::Runs`] or [`Event::Gone`] follows.
    LetRun,
    /// End a restore or a copy, and remove what is left of it.
    Discard,
}

use Action::{Answer, Discard, Journal, LetRun, Restore};

type Next = Transition<Arrival, Action>;

impl Arrival {
    /// What follows from `event`. One that has no meaning here changes nothing.
    pub fn on(self, event: Event) -> Next {
        match event {
            Event::Request(request) => self.asked(request),
            Event::Restarted(found) => self.restarted(found),
            Event::ForceRun | Event::ForceDrop => self.forced(event),
            _ => self.happened(event),
        }
    }

    /// Whether nothing more is to be done.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Running | Self::Dropped | Self::Lost)
    }

    fn asked(self, request: Request) -> Next {
        match (self, request) {
            (Self::Expecting, Request::Offer) => self.stays([Journal, Restore]),
            // Told of the commit, journalled, and only then let run: a helper that dies in between goes on with it.
            (Self::Restored, Request::Commit) => Next::to(Self::Released, [Journal, LetRun]),
            (Self::Expecting | Self::Restored, Request::Drop) => self.drops(),
            // It was acknowledged, or there would be no commit, and the journal has forgotten. In doubt it has run.
            (Self::Expecting, Request::Commit) => self.loses(),
            // What is late or repeated changes nothing. A drop of one that was released is refused like this, too.
            _ => self.stays([Answer]),
        }
    }

    fn happened(self, event: Event) -> Next {
        match (self, event) {
            (Self::Expecting, Event::Restored) => Next::to(Self::Restored, [Journal, Answer]),
            (Self::Expecting, Event::RestoreFailed) => self.drops(),
            (Self::Restored, Event::Again) => self.stays([Answer]),
            (Self::Restored, Event::Gone) => self.drops(),
            (Self::Released, Event::Runs) => Next::to(Self::Running, [Journal, Answer]),
            (Self::Released, Event::Gone) => self.loses(),
            // It was dropped while it was being restored.
            (Self::Dropped | Self::Lost, Event::Restored) => self.stays([Discard]),
            _ => self.stays([]),
        }
    }

    fn restarted(self, found: Found) -> Next {
        match (self, found) {
            (Self::Expecting | Self::Dropped | Self::Lost, _) => self.stays([Discard]),
            (Self::Restored, Found::Stopped) => self.stays([Answer]),
            (Self::Restored, Found::Nothing) => self.drops(),
            // Somebody has let it run behind our back. The source may be thawed at any moment, so this one ends.
            (Self::Restored, Found::Running) => self.loses(),
            (Self::Released, Found::Stopped) => self.stays([LetRun]),
            (Self::Released, Found::Running) => Next::to(Self::Running, [Journal, Answer]),
            (Self::Released, Found::Nothing) => self.loses(),
            (Self::Running, _) => self.stays([]),
        }
    }

    fn forced(self, event: Event) -> Next {
        match (self, event) {
            (Self::Restored | Self::Released, Event::ForceRun) => Next::to(Self::Released, [Journal, LetRun]),
            (Self::Expecting | Self::Restored, Event::ForceDrop) => self.drops(),
            (Self::Released | Self::Running, Event::ForceDrop) => self.loses(),
            _ => self.stays([]),
        }
    }

    fn drops(self) -> Next {
        Next::to(Self::Dropped, [Journal, Discard, Answer])
    }

    fn loses(self) -> Next {
        Next::to(Self::Lost, [Journal, Discard, Answer])
    }

    fn stays(self, actions: impl Into<Vec<Action>>) -> Next {
        Next::to(self, actions)
    }
}

#[cfg(test)]
#[path = "arrival_tests.rs"]
mod tests;
