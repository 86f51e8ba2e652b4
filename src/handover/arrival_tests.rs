use super::*;

const STATES: [Arrival; 6] =
    [Arrival::Expecting, Arrival::Restored, Arrival::Released, Arrival::Running, Arrival::Dropped, Arrival::Lost];

const REQUESTS: [Request; 4] = [Request::Offer, Request::Commit, Request::Drop, Request::Ask];

const EVENTS: [Event; 14] = [
    Event::Request(Request::Offer),
    Event::Request(Request::Commit),
    Event::Request(Request::Drop),
    Event::Request(Request::Ask),
    Event::Restored,
    Event::RestoreFailed,
    Event::Runs,
    Event::Gone,
    Event::Again,
    Event::Restarted(Found::Nothing),
    Event::Restarted(Found::Stopped),
    Event::Restarted(Found::Running),
    Event::ForceRun,
    Event::ForceDrop,
];

fn all() -> impl Iterator<Item = (Arrival, Event, Next)> {
    STATES.into_iter().flat_map(|state| EVENTS.map(|event| (state, event, state.on(event))))
}

#[test]
fn a_migration_comes_in_is_released_and_runs() {
    let offered = Arrival::default().on(Event::Request(Request::Offer));
    assert_eq!(offered, Next::to(Arrival::Expecting, [Journal, Restore]));
    let restored = offered.next.on(Event::Restored);
    assert_eq!(restored, Next::to(Arrival::Restored, [Journal, Answer]));
    let released = restored.next.on(Event::Request(Request::Commit));
    assert_eq!(released, Next::to(Arrival::Released, [Journal, LetRun]));
    assert_eq!(released.next.on(Event::Runs), Next::to(Arrival::Running, [Journal, Answer]));
}

#[test]
fn i1_only_a_commit_of_what_is_restored_or_force_lets_it_run() {
    let lets_run = all().filter(|(.., next)| next.actions.contains(&LetRun));
    for (state, event, next) in lets_run {
        let told = state == Arrival::Restored && event == Event::Request(Request::Commit);
        let goes_on = state == Arrival::Released && event == Event::Restarted(Found::Stopped);
        assert!(told || goes_on || event == Event::ForceRun, "{state:?} {event:?} {next:?}");
        assert_eq!(next.next, Arrival::Released);
    }
}

#[test]
fn i1_what_was_dropped_or_lost_stays_so_whatever_comes_late() {
    for (state, event, next) in all().filter(|(state, ..)| matches!(state, Arrival::Dropped | Arrival::Lost)) {
        assert_eq!(next.next, state, "{event:?}");
        if matches!(event, Event::Request(_)) {
            assert_eq!(next.actions, [Answer], "{event:?}");
        }
    }
}

#[test]
fn i1_a_restore_that_ends_after_a_drop_is_discarded() {
    let dropped = Arrival::Expecting.on(Event::Request(Request::Drop));
    assert_eq!(dropped, Next::to(Arrival::Dropped, [Journal, Discard, Answer]));
    assert_eq!(dropped.next.on(Event::Restored), Next::to(Arrival::Dropped, [Discard]));
}

#[test]
fn a_drop_of_one_that_was_released_is_refused() {
    for state in [Arrival::Released, Arrival::Running] {
        assert_eq!(state.on(Event::Request(Request::Drop)), Next::to(state, [Answer]));
    }
}

#[test]
fn a_commit_of_what_is_not_in_the_journal_is_answered_lost() {
    assert_eq!(Arrival::default().on(Event::Request(Request::Commit)).next, Arrival::Lost);
}

#[test]
fn each_request_is_answered_at_once_or_when_it_is_carried_out() {
    for (state, request) in STATES.into_iter().flat_map(|state| REQUESTS.map(|request| (state, request))) {
        let actions = state.on(Event::Request(request)).actions;
        assert!(matches!(actions.last(), Some(Answer | Restore | LetRun)), "{state:?} {request:?}");
    }
}

#[test]
fn a_change_is_journalled_before_anything_else_is_done() {
    for (state, event, next) in all() {
        let journalled = next.actions.iter().position(|action| *action == Journal);
        assert!(next.next == state || journalled == Some(0), "{state:?} {event:?} {next:?}");
        assert!(journalled.is_none_or(|place| place == 0), "{state:?} {event:?} {next:?}");
    }
}

#[test]
fn a_helper_that_was_killed_goes_on_where_the_journal_stands() {
    let after = |state: Arrival, found| state.on(Event::Restarted(found));
    assert_eq!(after(Arrival::Expecting, Found::Stopped), Next::to(Arrival::Expecting, [Discard]));
    assert_eq!(after(Arrival::Restored, Found::Stopped), Next::to(Arrival::Restored, [Answer]));
    assert_eq!(after(Arrival::Restored, Found::Nothing).next, Arrival::Dropped);
    assert_eq!(after(Arrival::Restored, Found::Running).next, Arrival::Lost);
    assert_eq!(after(Arrival::Released, Found::Stopped), Next::to(Arrival::Released, [LetRun]));
    assert_eq!(after(Arrival::Released, Found::Running).next, Arrival::Running);
    assert_eq!(after(Arrival::Released, Found::Nothing).next, Arrival::Lost);
    assert_eq!(after(Arrival::Dropped, Found::Stopped), Next::to(Arrival::Dropped, [Discard]));
}

#[test]
fn each_state_is_read_from_the_journal_as_it_was_written() {
    for state in STATES {
        let written = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<Arrival>(&written).unwrap(), state);
    }
}
