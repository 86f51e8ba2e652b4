//! The handover's rules in every order of messages, deaths and decisions that a bounded amount of trouble allows.

mod model;
mod properties;
mod rules;
mod world;

use model::Handover;
use properties::{ENDS, KEPT, NO_THAW, NOT_ASKED, NOT_TWICE, ONE_RUNS, QUIET, RENOUNCED, THAWED_HERE};
use rules::Rules;
use stateright::{Checker, HasDiscoveries, Model};
use std::collections::BTreeSet;
use world::Trouble;

/// Helpers, hosts and copies die.
const DEATHS: Trouble = Trouble { source_crashes: 2, destination_crashes: 2, deaths: 1, forces: 0 };

/// A person decides, too.
const FORCE: Trouble = Trouble { source_crashes: 1, destination_crashes: 1, deaths: 1, forces: 2 };

/// A copy dies, and a person decides about the other.
const ONE_DECISION: Trouble = Trouble { source_crashes: 0, destination_crashes: 1, deaths: 1, forces: 1 };

/// Nothing is wrong but the network.
const NETWORK: Trouble = Trouble { source_crashes: 0, destination_crashes: 0, deaths: 0, forces: 0 };

#[test]
fn i1_the_rules_hold_whoever_dies() {
    check(DEATHS);
}

#[test]
fn i1_the_rules_hold_whatever_is_forced() {
    check(FORCE);
}

#[test]
fn i3_a_source_that_gives_up_after_its_commit_is_found() {
    find(rules::GIVES_UP_AFTER_COMMIT, NETWORK, NO_THAW);
    find(rules::GIVES_UP_AFTER_COMMIT, NETWORK, ONE_RUNS);
}

#[test]
fn i3_a_source_that_thaws_at_its_start_is_found() {
    find(rules::THAWS_AT_START, DEATHS, NO_THAW);
    find(rules::THAWS_AT_START, DEATHS, ONE_RUNS);
}

#[test]
fn i3_a_source_that_takes_back_what_may_have_run_is_found() {
    find(rules::TAKES_BACK_WHAT_MAY_HAVE_RUN, DEATHS, NO_THAW);
}

#[test]
fn i1_a_commit_that_is_sent_before_it_is_journalled_is_found() {
    find(rules::SENDS_BEFORE_JOURNAL, DEATHS, ONE_RUNS);
}

#[test]
fn i1_a_commit_that_is_not_journalled_is_found() {
    find(rules::COMMITS_IN_MEMORY, DEATHS, THAWED_HERE);
}

#[test]
fn i1_a_destination_that_runs_unasked_is_found() {
    find(rules::RUNS_UNASKED, NETWORK, ONE_RUNS);
}

#[test]
fn i1_a_destination_that_forgets_what_it_dropped_is_found() {
    find(rules::FORGETS_DROP, DEATHS, RENOUNCED);
    find(rules::FORGETS_DROP, ONE_DECISION, ONE_RUNS);
}

#[test]
fn i1_a_drop_that_is_not_journalled_is_found() {
    find(rules::DROPS_IN_MEMORY, DEATHS, RENOUNCED);
}

#[test]
fn i1_a_copy_that_may_have_run_and_is_restored_again_is_found() {
    find(rules::RESTORES_TWICE, DEATHS, NOT_TWICE);
}

#[test]
fn a_copy_that_is_ended_before_the_other_runs_is_found() {
    find(rules::ENDS_TOO_EARLY, DEATHS, KEPT);
}

#[test]
fn a_copy_that_is_let_run_before_that_is_journalled_is_found() {
    find(rules::RUNS_BEFORE_JOURNAL, DEATHS, NOT_ASKED);
}

#[test]
fn a_restore_that_ends_after_the_drop_and_stays_is_found() {
    find(rules::HONOURS_LATE_RESTORE, NETWORK, ENDS);
}

#[test]
fn a_word_that_is_said_once_is_found() {
    find(rules::COMMITS_ONCE, NETWORK, ENDS);
    find(rules::DROPS_ONCE, NETWORK, ENDS);
}

#[test]
fn sides_that_answer_each_other_without_end_are_found() {
    find(rules::CHATTERS, NETWORK, QUIET);
}

/// The rules as they are keep every promise, and what can happen does.
fn check(trouble: Trouble) {
    let model = Handover { rules: rules::RULES, trouble };
    model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join().assert_properties();
}

/// Broken rules break a promise.
fn find(rules: Rules, trouble: Trouble, promise: &'static str) {
    let wanted = HasDiscoveries::AllOf(BTreeSet::from([promise]));
    let checker = Handover { rules, trouble }.checker().finish_when(wanted).spawn_bfs().join();
    checker.assert_any_discovery(promise);
}
