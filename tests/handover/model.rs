//! Two hosts, a container's two copies and a network that does its worst, around the handover's own rules.
//!
//! A message, once sent, may be delivered at any time from then on, any number of times, or never. A host may die
//! between any two actions; it comes back with what it had journalled. At any time the network may heal: what was
//! under way is lost, nothing more is, nobody dies any more, and each side goes on asking for a few rounds.

use crate::rules::Rules;
use crate::world::{Ours, Patience, State, Theirs, Trouble};
use stateright::{Model, Property};
use transship::handover::{Arrival, Departure, Request, arrival, departure};

/// In an order: the checker asks that the same state has the same steps in the same order.
const REQUESTS: [Request; 4] = [Request::Offer, Request::Commit, Request::Drop, Request::Ask];
const ANSWERS: [Arrival; 6] =
    [Arrival::Expecting, Arrival::Restored, Arrival::Released, Arrival::Running, Arrival::Dropped, Arrival::Lost];

/// What is tried.
#[derive(Debug, Clone)]
pub struct Handover {
    pub rules: Rules,
    pub trouble: Trouble,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The source does the next of its actions.
    SourceActs,
    DestinationActs,
    /// A message is delivered.
    ToDestination(Request),
    ToSource(Arrival),
    /// Something happens on the source's own host.
    Source(departure::Event),
    Destination(arrival::Event),
    /// The source's helper dies and is started again.
    SourceDies,
    /// So does the destination's, with its copy or without.
    DestinationDies {
        and_its_copy: bool,
    },
    /// The destination's copy dies by itself.
    TheirsDies,
    /// The network heals.
    Heals,
    /// Where it has, and nothing else happens, both sides ask again.
    Round,
}

impl Model for Handover {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.trouble)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        match state.healed {
            None => {
                work(state, steps);
                adversity(state, steps);
            }
            Some(left) if left.deliveries > 0 => {
                work(state, steps);
                if left.rounds > 0 && self.have_no_effect(steps, state) {
                    steps.push(Step::Round);
                }
            }
            Some(_) => {}
        }
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        match step {
            Step::SourceActs => state.source_acts(),
            Step::DestinationActs => state.destination_acts(),
            Step::ToDestination(request) => {
                state.arrived(|state| state.requests.remove(&request));
                self.tell_destination(&mut state, arrival::Event::Request(request));
            }
            Step::ToSource(answer) => {
                state.arrived(|state| state.answers.remove(&answer));
                self.tell_source(&mut state, departure::Event::Answer(answer));
            }
            Step::Source(event) => {
                state.happens_at_source(event);
                self.tell_source(&mut state, event);
            }
            Step::Destination(event) => {
                state.happens_at_destination(event);
                self.tell_destination(&mut state, event);
            }
            Step::SourceDies => {
                state.source_dies();
                self.tell_source(&mut state, departure::Event::Restarted);
            }
            Step::DestinationDies { and_its_copy } => {
                let found = state.destination_dies(and_its_copy);
                self.tell_destination(&mut state, arrival::Event::Restarted(found));
            }
            Step::TheirsDies => state.theirs_dies(),
            Step::Heals => state.heals(),
            Step::Round => {
                state.begins_round();
                self.tell_source(&mut state, departure::Event::Again);
                self.tell_destination(&mut state, arrival::Event::Again);
            }
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        crate::properties::all()
    }
}

impl Handover {
    /// Whether nothing happens any more, though all that is said arrives and everybody keeps asking.
    pub fn is_quiet(&self, state: &State) -> bool {
        let mut steps = Vec::new();
        work(state, &mut steps);
        matches!(state.healed, Some(Patience { rounds: 0, .. })) && self.have_no_effect(&steps, state)
    }

    fn have_no_effect(&self, steps: &[Step], state: &State) -> bool {
        steps.iter().all(|step| self.next_state(state, *step).is_none())
    }

    fn tell_source(&self, state: &mut State, event: departure::Event) {
        let next = (self.rules.source)(state.source.machine, event);
        state.source.machine = next.next;
        state.source.to_do = next.actions;
    }

    fn tell_destination(&self, state: &mut State, event: arrival::Event) {
        let next = (self.rules.destination)(state.destination.machine, event);
        state.destination.machine = next.next;
        state.destination.to_do = next.actions;
    }
}

/// What goes on whether or not anything is wrong. An event waits until the actions of the last are done.
fn work(state: &State, steps: &mut Vec<Step>) {
    if !state.source.to_do.is_empty() {
        steps.push(Step::SourceActs);
    } else {
        steps.extend(at_source(state).into_iter().map(Step::Source));
        steps.extend(ANSWERS.into_iter().filter(|answer| state.answers.contains(answer)).map(Step::ToSource));
    }
    if !state.destination.to_do.is_empty() {
        steps.push(Step::DestinationActs);
    } else {
        steps.extend(at_destination(state).iter().copied().map(Step::Destination));
        steps.extend(REQUESTS.into_iter().filter(|request| state.requests.contains(request)).map(Step::ToDestination));
    }
}

fn at_source(state: &State) -> Vec<departure::Event> {
    use departure::Event::{Commit, Ended, Frozen, GiveUp};
    let mut events = vec![Commit, GiveUp];
    match state.ours {
        Ours::Running if state.source.machine == Departure::Preparing => events.push(Frozen),
        Ours::Ended => events.push(Ended),
        Ours::Running | Ours::Frozen => {}
    }
    events
}

fn at_destination(state: &State) -> &'static [arrival::Event] {
    use arrival::Event::{Gone, RestoreFailed, Restored, Runs};
    match state.theirs {
        Theirs::None => &[Gone],
        Theirs::BeingRestored => &[Restored, RestoreFailed],
        Theirs::Stopped => &[],
        Theirs::Running => &[Runs],
    }
}

fn adversity(state: &State, steps: &mut Vec<Step>) {
    use arrival::Event::{ForceDrop, ForceRun};
    use departure::Event::{ForceEnd, ForceThaw};
    let left = state.trouble;
    if state.source.to_do.is_empty() {
        steps.push(Step::Source(departure::Event::Again));
        steps.extend([ForceThaw, ForceEnd].into_iter().filter(|_| left.forces > 0).map(Step::Source));
    }
    if state.destination.to_do.is_empty() {
        steps.push(Step::Destination(arrival::Event::Again));
        steps.extend([ForceRun, ForceDrop].into_iter().filter(|_| left.forces > 0).map(Step::Destination));
    }
    if left.source_crashes > 0 {
        steps.push(Step::SourceDies);
    }
    if left.destination_crashes > 0 {
        steps.extend([false, true].map(|and_its_copy| Step::DestinationDies { and_its_copy }));
    }
    // What was seen to run is no longer the handover's to lose.
    if left.deaths > 0 && state.destination.machine != Arrival::Running {
        steps.push(Step::TheirsDies);
    }
    steps.push(Step::Heals);
}
