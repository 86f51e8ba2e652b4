//! The rules of both sides: as they are, and each broken in one place.

use transship::handover::arrival::{self, Found};
use transship::handover::departure::{self, Outcome};
use transship::handover::{Arrival, Departure, Request, Transition};

type Source = fn(Departure, departure::Event) -> Transition<Departure, departure::Action>;
type Destination = fn(Arrival, arrival::Event) -> Transition<Arrival, arrival::Action>;

/// What each side does on an event.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub source: Source,
    pub destination: Destination,
}

/// The code that migrates.
pub const RULES: Rules = Rules { source: Departure::on, destination: Arrival::on };

const fn source(source: Source) -> Rules {
    Rules { source, ..RULES }
}

const fn destination(destination: Destination) -> Rules {
    Rules { destination, ..RULES }
}

/// The source gives up when it is told to, committed or not.
pub const GIVES_UP_AFTER_COMMIT: Rules = source(|state, event| match (state, event) {
    (Departure::Committed, departure::Event::GiveUp) => Departure::Ready.on(event),
    _ => state.on(event),
});

/// A source that was started again thaws, whatever its journal says.
pub const THAWS_AT_START: Rules = source(|state, event| match (state, event) {
    (Departure::Committed, departure::Event::Restarted) => Departure::Ready.on(event),
    _ => state.on(event),
});

/// A source takes back what may have run at the destination.
pub const TAKES_BACK_WHAT_MAY_HAVE_RUN: Rules = source(|state, event| match (state, event) {
    (Departure::Committed, departure::Event::Answer(Arrival::Lost)) => {
        state.on(departure::Event::Answer(Arrival::Dropped))
    }
    _ => state.on(event),
});

/// The destination hears of the commit before it is on disk.
pub const SENDS_BEFORE_JOURNAL: Rules = source(|state, event| {
    let mut next = state.on(event);
    if next.actions.first() == Some(&departure::Action::Journal) && next.next == Departure::Committed {
        next.actions.reverse();
    }
    next
});

/// The source forgets the commit: it is not journalled at all.
pub const COMMITS_IN_MEMORY: Rules = source(|state, event| {
    let mut next = state.on(event);
    if next.next == Departure::Committed {
        next.actions.retain(|action| *action != departure::Action::Journal);
    }
    next
});

/// The source ends its copy when the destination says that it will let its own run.
pub const ENDS_TOO_EARLY: Rules = source(|state, event| match (state, event) {
    (Departure::Committed, departure::Event::Answer(Arrival::Released)) => {
        state.on(departure::Event::Answer(Arrival::Running))
    }
    _ => state.on(event),
});

/// The source says once that it has given up, and takes that as heard.
pub const DROPS_ONCE: Rules = source(|state, event| match state {
    Departure::GivenUp if event != departure::Event::Restarted => {
        Transition { next: Departure::Closed(Outcome::Kept), actions: vec![departure::Action::Journal] }
    }
    _ => state.on(event),
});

/// The source says once that it has committed.
pub const COMMITS_ONCE: Rules = source(|state, event| {
    let mut next = state.on(event);
    if state == Departure::Committed {
        next.actions.retain(|action| *action != departure::Action::Send(Request::Commit));
    }
    next
});

/// The source answers each answer.
pub const CHATTERS: Rules = source(|state, event| match (state, event) {
    (Departure::Committed, departure::Event::Answer(Arrival::Released | Arrival::Running)) => {
        state.on(departure::Event::Again)
    }
    _ => state.on(event),
});

/// The destination does not wait for the commit.
pub const RUNS_UNASKED: Rules = destination(|state, event| match (state, event) {
    (Arrival::Expecting, arrival::Event::Restored) => {
        Transition { next: Arrival::Released, actions: vec![arrival::Action::Journal, arrival::Action::LetRun] }
    }
    _ => state.on(event),
});

/// A destination that was started again has forgotten that it had dropped it.
pub const FORGETS_DROP: Rules = destination(|state, event| match (state, event) {
    (Arrival::Dropped, arrival::Event::Restarted(_)) => Arrival::Expecting.on(event),
    _ => state.on(event),
});

/// The destination says that it has dropped it, and does not write it down.
pub const DROPS_IN_MEMORY: Rules = destination(|state, event| {
    let mut next = state.on(event);
    if next.next == Arrival::Dropped {
        next.actions.retain(|action| *action != arrival::Action::Journal);
    }
    next
});

/// A restore that ends after the drop counts.
pub const HONOURS_LATE_RESTORE: Rules = destination(|state, event| match (state, event) {
    (Arrival::Dropped, arrival::Event::Restored) => Arrival::Expecting.on(event),
    _ => state.on(event),
});

/// It is let run before that is written down.
pub const RUNS_BEFORE_JOURNAL: Rules = destination(|state, event| {
    let mut next = state.on(event);
    if (state, next.next) == (Arrival::Restored, Arrival::Released) {
        next.actions.reverse();
    }
    next
});

/// What may have run already is taken back to where it was frozen.
pub const RESTORES_TWICE: Rules = destination(|state, event| match (state, event) {
    (Arrival::Released, arrival::Event::Restarted(Found::Nothing)) => {
        Transition { next: Arrival::Expecting, actions: vec![arrival::Action::Restore] }
    }
    _ => state.on(event),
});
