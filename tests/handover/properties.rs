//! What holds whatever happens, and what can happen.

use crate::model::Handover;
use crate::world::State;
use stateright::Property;
use transship::handover::Departure;
use transship::handover::departure::Outcome;

pub const ONE_RUNS: &str = "I1 at most one copy runs";
pub const THAWED_HERE: &str = "I1 what was thawed at the source is never let run at the destination";
pub const RENOUNCED: &str = "I1 what the destination has renounced it never lets run";
pub const NOT_TWICE: &str = "I1 what was let run is not restored once more";
pub const NO_THAW: &str =
    "I3 after the commit the source thaws only what the destination said has not run and never will";
pub const KEPT: &str = "a copy is not given up before another runs";
pub const NOT_ASKED: &str = "a person is asked only where a copy died or somebody has forced something";
pub const QUIET: &str = "two sides that hear each other come to an end";
pub const ENDS: &str = "in the end exactly one copy runs and nothing is left of the other, or a person is asked";
pub const MOVES: &str = "it can end up at the destination";
pub const STAYS: &str = "it can end up at the source";
pub const ASKS: &str = "it can come to a person";

/// Whatever a person forces may break what its documentation says, and nothing else.
pub fn all() -> Vec<Property<Handover>> {
    vec![
        always(ONE_RUNS, |_, state| !state.two_run() || state.past.may_be_two),
        always(THAWED_HERE, |_, state| !state.past.let_run_after_thaw || state.past.may_be_two),
        always(RENOUNCED, |_, state| !state.past.let_run_after_renounced),
        always(NOT_TWICE, |_, state| !state.past.restored_after_let_run),
        always(NO_THAW, |_, state| !state.past.thawed_after_commit || state.past.forced_thaw || state.past.dropped),
        always(KEPT, |_, state| state.is_kept() || state.past.may_be_none),
        always(NOT_ASKED, |_, state| !state.a_person_is_asked() || state.past.theirs_died || state.past.forced),
        always(QUIET, |_, state| !state.is_talking_without_end()),
        always(ENDS, |model, state| !model.is_quiet(state) || ends_well(state)),
        sometimes(MOVES, |_, state| is_closed(state, Outcome::Moved)),
        sometimes(STAYS, |_, state| is_closed(state, Outcome::Kept)),
        sometimes(ASKS, |model, state| model.is_quiet(state) && state.a_person_is_asked()),
    ]
}

type Condition = fn(&Handover, &State) -> bool;

fn always(name: &'static str, condition: Condition) -> Property<Handover> {
    Property::always(name, condition)
}

fn sometimes(name: &'static str, condition: Condition) -> Property<Handover> {
    Property::sometimes(name, condition)
}

fn ends_well(state: &State) -> bool {
    state.a_person_is_asked() || (state.is_over() && (state.one_runs() || state.past.may_be_none))
}

fn is_closed(state: &State, outcome: Outcome) -> bool {
    state.is_over() && state.source.machine == Departure::Closed(outcome)
}
