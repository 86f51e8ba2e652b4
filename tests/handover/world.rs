//! What there is, what happens to it, and what is to be remembered of it.

use stateright::util::HashableHashSet;
use transship::handover::arrival::{self, Found};
use transship::handover::departure::{self, Outcome};
use transship::handover::{Arrival, Departure, Request};

/// What the way to the end may take once the network has healed.
const PATIENCE: Patience = Patience { rounds: 4, deliveries: 16 };

/// How much more goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Trouble {
    pub source_crashes: u8,
    pub destination_crashes: u8,
    /// How often the destination's copy dies by itself before it was seen to run.
    pub deaths: u8,
    /// How often a person forces something.
    pub forces: u8,
}

/// How much longer both sides may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Patience {
    /// How often each side asks again.
    pub rounds: u8,
    /// How many messages arrive in a round: sides that answered each other without end would use them up.
    pub deliveries: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub source: Side<Departure, departure::Action>,
    pub destination: Side<Arrival, arrival::Action>,
    pub ours: Ours,
    pub theirs: Theirs,
    /// All that were sent; once the network has healed, those that have not arrived.
    pub requests: HashableHashSet<Request>,
    pub answers: HashableHashSet<Arrival>,
    pub trouble: Trouble,
    /// What is left of everybody's patience, once the network has healed.
    pub healed: Option<Patience>,
    pub past: Past,
}

/// A helper: what it knows, what it has on disk, and what it still has to do of its last event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Side<Machine, Action> {
    pub machine: Machine,
    pub journal: Machine,
    pub to_do: Vec<Action>,
}

/// The source's copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ours {
    Running,
    Frozen,
    Ended,
}

/// The destination's copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Theirs {
    None,
    BeingRestored,
    Stopped,
    Running,
}

/// What has happened and cannot be seen any more.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub struct Past {
    /// The commit was journalled.
    pub committed: bool,
    /// Ours was thawed, after a freeze or without one.
    pub thawed: bool,
    pub thawed_after_commit: bool,
    /// Theirs was let run.
    pub let_run: bool,
    pub let_run_after_thaw: bool,
    pub let_run_after_renounced: bool,
    pub restored_after_let_run: bool,
    /// The source was told that theirs never runs, or never again.
    pub renounced: bool,
    /// It was told that theirs never ran, too.
    pub dropped: bool,
    /// Theirs was there and died.
    pub theirs_died: bool,
    /// A person has forced something.
    pub forced: bool,
    pub forced_thaw: bool,
    /// After what was forced two may run.
    pub may_be_two: bool,
    /// After what was forced none may be left.
    pub may_be_none: bool,
}

impl State {
    pub fn new(trouble: Trouble) -> Self {
        Self {
            source: Side::new(),
            destination: Side::new(),
            ours: Ours::Running,
            theirs: Theirs::None,
            requests: HashableHashSet::new(),
            answers: HashableHashSet::new(),
            trouble,
            healed: None,
            past: Past::default(),
        }
    }

    pub fn source_acts(&mut self) {
        use departure::Action;
        match self.source.to_do.remove(0) {
            Action::Journal => {
                self.source.journal = self.source.machine;
                self.past.committed |= self.source.machine == Departure::Committed;
            }
            Action::Send(request) => drop(self.requests.insert(request)),
            Action::Thaw => {
                if self.ours == Ours::Frozen {
                    self.ours = Ours::Running;
                }
                self.past.thawed = true;
                self.past.thawed_after_commit |= self.past.committed;
            }
            Action::End => self.ours = Ours::Ended,
        }
    }

    pub fn destination_acts(&mut self) {
        use arrival::Action;
        match (self.destination.to_do.remove(0), self.theirs) {
            (Action::Journal, _) => self.destination.journal = self.destination.machine,
            (Action::Answer, _) => {
                self.past.renounced |= matches!(self.destination.machine, Arrival::Dropped | Arrival::Lost);
                self.past.dropped |= self.destination.machine == Arrival::Dropped;
                self.answers.insert(self.destination.machine);
            }
            (Action::Restore, Theirs::None) => {
                self.theirs = Theirs::BeingRestored;
                self.past.restored_after_let_run |= self.past.let_run;
            }
            (Action::LetRun, Theirs::Stopped) => {
                self.theirs = Theirs::Running;
                self.past.let_run = true;
                self.past.let_run_after_thaw |= self.past.thawed;
                self.past.let_run_after_renounced |= self.past.renounced;
            }
            // The worst case: a restore that is under way is not stopped in time, and reported later.
            (Action::Discard, Theirs::Stopped | Theirs::Running) => self.theirs = Theirs::None,
            (Action::Restore | Action::LetRun | Action::Discard, _) => {}
        }
    }

    /// A message has been delivered; a healed network does that once.
    pub fn arrived(&mut self, take: impl FnOnce(&mut Self) -> bool) {
        if let Some(left) = &mut self.healed {
            left.deliveries -= 1;
            take(self);
        }
    }

    /// What an event is in the world.
    pub fn happens_at_source(&mut self, event: departure::Event) {
        use departure::Event;
        match event {
            Event::Frozen => self.ours = Ours::Frozen,
            Event::ForceThaw => {
                self.is_forced();
                self.past.forced_thaw = true;
                // Of a stranded one the destination has said that it will not run.
                self.past.may_be_two |= self.source.machine == Departure::Committed;
            }
            Event::ForceEnd => {
                self.is_forced();
                self.past.may_be_none = true;
            }
            _ => {}
        }
    }

    pub fn happens_at_destination(&mut self, event: arrival::Event) {
        use arrival::Event;
        match event {
            Event::Restored => self.theirs = Theirs::Stopped,
            Event::RestoreFailed => self.theirs = Theirs::None,
            Event::ForceRun => {
                self.is_forced();
                self.past.may_be_two = true;
            }
            Event::ForceDrop => {
                self.is_forced();
                self.past.may_be_none |= matches!(self.destination.machine, Arrival::Released | Arrival::Running);
            }
            _ => {}
        }
    }

    fn is_forced(&mut self) {
        self.trouble.forces -= 1;
        self.past.forced = true;
    }

    pub fn source_dies(&mut self) {
        self.trouble.source_crashes -= 1;
        self.source = self.source.restarted();
    }

    /// What is found afterwards of its copy.
    pub fn destination_dies(&mut self, and_its_copy: bool) -> Found {
        self.trouble.destination_crashes -= 1;
        let runs_on = self.destination.journal == Arrival::Running;
        self.destination = self.destination.restarted();
        match self.theirs {
            // What was seen to run lives and dies as any container of its host.
            Theirs::Running if runs_on => {}
            _ if and_its_copy => self.lose_theirs(),
            // The restore went on while nobody looked.
            Theirs::BeingRestored => self.theirs = Theirs::Stopped,
            Theirs::None | Theirs::Stopped | Theirs::Running => {}
        }
        match self.theirs {
            Theirs::None | Theirs::BeingRestored => Found::Nothing,
            Theirs::Stopped => Found::Stopped,
            Theirs::Running => Found::Running,
        }
    }

    pub fn theirs_dies(&mut self) {
        self.trouble.deaths -= 1;
        self.lose_theirs();
    }

    fn lose_theirs(&mut self) {
        self.past.theirs_died |= self.theirs != Theirs::None;
        self.theirs = Theirs::None;
    }

    pub fn heals(&mut self) {
        self.healed = Some(PATIENCE);
        self.requests = HashableHashSet::new();
        self.answers = HashableHashSet::new();
    }

    pub fn begins_round(&mut self) {
        if let Some(left) = &mut self.healed {
            *left = Patience { rounds: left.rounds - 1, ..PATIENCE };
        }
    }

    pub fn two_run(&self) -> bool {
        self.ours == Ours::Running && self.theirs == Theirs::Running
    }

    pub fn one_runs(&self) -> bool {
        (self.ours == Ours::Running) != (self.theirs == Theirs::Running)
    }

    /// There is one that runs, or that the source can let run.
    pub fn is_kept(&self) -> bool {
        self.ours != Ours::Ended || self.theirs == Theirs::Running
    }

    /// Both sides know how it ended, and of the other's copy nothing is left.
    pub fn is_over(&self) -> bool {
        let nothing_left = match self.source.machine {
            Departure::Closed(Outcome::Moved) => self.ours == Ours::Ended,
            Departure::Closed(Outcome::Kept) => self.theirs == Theirs::None,
            _ => false,
        };
        nothing_left && self.destination.machine.is_over()
    }

    pub fn a_person_is_asked(&self) -> bool {
        self.source.machine.needs_person()
    }

    /// The network has healed, and they have said more than there is to say.
    pub fn is_talking_without_end(&self) -> bool {
        self.healed.is_some_and(|left| left.deliveries == 0)
    }
}

impl<Machine: Default + Copy, Action> Side<Machine, Action> {
    fn new() -> Self {
        Self { machine: Machine::default(), journal: Machine::default(), to_do: Vec::new() }
    }

    fn restarted(&self) -> Self {
        Self { machine: self.journal, journal: self.journal, to_do: Vec::new() }
    }
}
