use super::*;

const STATES: [Departure; 10] = [
    Departure::Preparing,
    Departure::Offered,
    Departure::Ready,
    Departure::Committed,
    Departure::Stranded,
    Departure::Settled,
    Departure::GivenUp,
    Departure::Contested,
    Departure::Closed(Outcome::Moved),
    Departure::Closed(Outcome::Kept),
];

const EVENTS: [Event; 14] = [
    Event::Frozen,
    Event::Answer(Arrival::Expecting),
    Event::Answer(Arrival::Restored),
    Event::Answer(Arrival::Released),
    Event::Answer(Arrival::Running),
    Event::Answer(Arrival::Dropped),
    Event::Answer(Arrival::Lost),
    Event::Commit,
    Event::GiveUp,
    Event::Again,
    Event::Ended,
    Event::Restarted,
    Event::ForceThaw,
    Event::ForceEnd,
];

fn all() -> impl Iterator<Item = (Departure, Event, Next)> {
    STATES.into_iter().flat_map(|state| EVENTS.map(|event| (state, event, state.on(event))))
}

#[test]
fn a_migration_goes_out_commits_and_closes() {
    let offered = Departure::default().on(Event::Frozen);
    assert_eq!(offered, Next::to(Departure::Offered, [Journal, Send(Request::Offer)]));
    let ready = offered.next.on(Event::Answer(Arrival::Restored));
    assert_eq!(ready, Next::to(Departure::Ready, []));
    let committed = ready.next.on(Event::Commit);
    assert_eq!(committed, Next::to(Departure::Committed, [Journal, Send(Request::Commit)]));
    let settled = committed.next.on(Event::Answer(Arrival::Running));
    assert_eq!(settled, Next::to(Departure::Settled, [Journal, End]));
    assert_eq!(settled.next.on(Event::Ended), Next::to(Departure::Closed(Outcome::Moved), [Journal]));
}

#[test]
fn i2_before_the_commit_every_failure_thaws() {
    for state in [Departure::Preparing, Departure::Offered, Departure::Ready] {
        for event in [Event::GiveUp, Event::Restarted, Event::Answer(Arrival::Dropped), Event::Answer(Arrival::Lost)] {
            assert_eq!(
                state.on(event),
                Next::to(Departure::GivenUp, [Journal, Thaw, Send(Request::Drop)]),
                "{state:?} {event:?}"
            );
        }
    }
}

#[test]
fn i3_after_the_commit_nothing_thaws_but_force_and_a_destination_that_never_ran_it() {
    for (state, event, next) in all().filter(|(state, ..)| state.is_past_commit()) {
        let stays_past = next.next.is_past_commit() && !next.actions.contains(&Thaw);
        let may_thaw =
            event == Event::ForceThaw || (state, event) == (Departure::Committed, Event::Answer(Arrival::Dropped));
        assert!(stays_past || may_thaw, "{state:?} {event:?} {next:?}");
    }
}

#[test]
fn i1_i3_a_copy_that_never_ran_there_goes_on_here_and_that_is_on_disk_before() {
    let taken_back = Departure::Committed.on(Event::Answer(Arrival::Dropped));
    assert_eq!(taken_back, Next::to(Departure::GivenUp, [Journal, Thaw, Send(Request::Drop)]));
}

#[test]
fn i3_a_commit_whose_answer_is_lost_is_repeated() {
    for event in [Event::Again, Event::Restarted, Event::Answer(Arrival::Restored)] {
        assert_eq!(Departure::Committed.on(event), Next::to(Departure::Committed, [Send(Request::Commit)]));
    }
}

#[test]
fn a_change_is_journalled_before_anything_else_is_done() {
    for (state, event, next) in all() {
        let wanted = match next.next {
            _ if next.next == state => !next.actions.contains(&Journal),
            Departure::Ready => next.actions.is_empty(),
            _ => next.actions.iter().position(|action| *action == Journal) == Some(0),
        };
        assert!(wanted, "{state:?} {event:?} {next:?}");
    }
}

#[test]
fn a_destination_that_was_forced_to_run_is_not_raced() {
    for answer in [Arrival::Released, Arrival::Running] {
        assert_eq!(Departure::Ready.on(Event::Answer(answer)).next, Departure::Committed);
        assert_eq!(Departure::GivenUp.on(Event::Answer(answer)).next, Departure::Contested);
    }
}

#[test]
fn a_copy_that_may_have_run_and_is_lost_leaves_ours_frozen_until_a_person_decides() {
    let stranded = Departure::Committed.on(Event::Answer(Arrival::Lost)).next;
    assert_eq!(stranded, Departure::Stranded);
    assert!(stranded.needs_person());
    assert_eq!(stranded.on(Event::Restarted), Next::to(stranded, []));
    assert_eq!(stranded.on(Event::Answer(Arrival::Running)), Next::to(stranded, []));
    assert_eq!(stranded.on(Event::ForceThaw).next, Departure::GivenUp);
    assert_eq!(stranded.on(Event::ForceEnd).next, Departure::Settled);
}

#[test]
fn each_state_is_read_from_the_journal_as_it_was_written() {
    for state in STATES {
        let written = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<Departure>(&written).unwrap(), state);
    }
    assert_eq!(serde_json::to_string(&Departure::Closed(Outcome::Moved)).unwrap(), r#"{"closed":"moved"}"#);
}
