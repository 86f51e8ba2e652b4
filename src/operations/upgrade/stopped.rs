//! Containers that are stopped and started afresh.
//!
//! One that ignores SIGTERM takes as long to stop as it is given, and nobody who is frozen should wait for that. So those that
//! are stopped go first, before anybody is held, and come back last: then they take no address from those whose connections
//! need it, either. One that a container depends on that is frozen stays where the order has it: stopped first, it would
//! leave the other one running without it.

use super::course::{Course, Traveller};
use super::strategy::Strategy;
use crate::docker::{Container, RestartPolicy};
use crate::failure::{Failure, OrFail};
use crate::report::Span;
use crate::world::Context;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// What Docker gives a container to end by itself, where nothing else was asked for.
const DOCKERS_PATIENCE: Duration = Duration::from_secs(10);

/// In place of the endless patience that may be asked for.
const LONGEST_PATIENCE: Duration = Duration::from_secs(600);

/// A container, or a group of them, and the ids of those that come back after it on purpose.
pub struct Needed {
    /// What becomes of it.
    pub course: Course,
    /// Who needs it.
    pub by: Vec<String>,
}

/// Puts those that are stopped into waves of their own behind all others, unless somebody else needs them.
pub fn set_apart(all: Vec<Needed>) -> Vec<Course> {
    let mut apart: BTreeSet<usize> =
        (0..all.len()).filter(|index| all[*index].course.strategy == Strategy::Stop).collect();
    let has = |index: &usize, id: &String| all[*index].course.members.iter().any(|member| member.id.as_str() == id);
    loop {
        let is_apart = |id: &String| apart.iter().any(|index| has(index, id));
        let Some(needed) = apart.iter().find(|index| !all[**index].by.iter().all(is_apart)).copied() else { break };
        apart.remove(&needed);
    }
    let behind = all.iter().map(|needed| needed.course.wave + 1).max().unwrap_or_default();
    let place = |(index, Needed { mut course, .. }): (usize, Needed)| {
        course.wave += if apart.contains(&index) { behind } else { 0 };
        course
    };
    all.into_iter().enumerate().map(place).collect()
}

/// What the operator should know of one.
pub fn warning(course: &Course) -> String {
    let title = course.title();
    format!("{title} is stopped and started afresh: what it has in memory, and its connections, are lost")
}

/// Stops a group, the owner of the network last; returns when they have ended.
pub fn stop_all(course: &mut Course, context: &Context) -> Result<(), Failure> {
    let began = Timestamp::now();
    course.members.iter().rev().try_for_each(|member| stop(member, context))?;
    course.spans.push(span("stop", began));
    Ok(())
}

/// Starts a group, the owner of the network first.
pub fn start_all(course: &mut Course, context: &Context) -> Result<(), Failure> {
    let began = Timestamp::now();
    course.members.iter().try_for_each(|member| start(member, context))?;
    // They may run already, where the way back is gone a second time.
    if let Some(stopped) = course.spans.last().filter(|span| span.name == "stop").map(|span| span.began) {
        let away = Timestamp::now().duration_since(stopped).unsigned_abs();
        let away_us = u64::try_from(away.as_micros()).unwrap_or(u64::MAX);
        course.members.iter_mut().for_each(|member| member.away_us += away_us);
        course.spans.push(span("start", began));
    }
    Ok(())
}

fn span(name: &str, began: Timestamp) -> Span {
    Span { name: name.into(), began, ended: Some(Timestamp::now()), undo: false }
}

/// Stops one of them; returns when it has ended. Docker would start one with the restart policy `always` as soon as it is
/// itself started, before those whose addresses it could take, so that is set aside.
fn stop(member: &Traveller, context: &Context) -> Result<(), Failure> {
    let failed = || format!("{} cannot be stopped", member.name);
    context.told.part(&member.name, "stop", 1, 1);
    let container = context.docker.container(member.id.as_str()).or_fail(failed)?;
    if member.restart_policy.as_ref().is_some_and(RestartPolicy::restarts) {
        context.docker.set_restart_policy(member.id.as_str(), &RestartPolicy::default()).or_fail(failed)?;
    }
    context.docker.stop(member.id.as_str(), patience(&container)).or_fail(failed)
}

/// How long a container may take to end by itself, as for `docker stop`.
fn patience(container: &Container) -> Duration {
    match container.stop_timeout() {
        None => DOCKERS_PATIENCE,
        Some(seconds) => u64::try_from(seconds).map_or(LONGEST_PATIENCE, Duration::from_secs).min(LONGEST_PATIENCE),
    }
}

/// Starts one of them, unless it runs, and gives it its restart policy back.
fn start(member: &Traveller, context: &Context) -> Result<(), Failure> {
    let there = context.docker.container(member.id.as_str()).or_fail(|| format!("{} is not here", member.name))?;
    if !there.is_up() {
        context.told.part(&member.name, "start", 1, 1);
        context.docker.start(member.id.as_str()).or_fail(|| format!("{} cannot be started", member.name))?;
    }
    match member.restart_policy.as_ref().filter(|policy| **policy != there.restart_policy()) {
        None => Ok(()),
        Some(policy) => {
            let given_back = context.docker.set_restart_policy(member.id.as_str(), policy);
            given_back.or_fail(|| format!("the restart policy of {} cannot be put back", member.name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn needed(digit: char, wave: usize, strategy: Strategy, by: &str) -> Needed {
        let id = |digit: char| digit.to_string().repeat(64);
        let member = Traveller {
            id: id(digit).parse().unwrap(),
            name: digit.to_string(),
            init: None,
            was_healthy: None,
            restart_policy: None,
            checkpoint: None,
            away_us: 0,
            held: None,
        };
        let course = Course {
            members: vec![member],
            strategy,
            reason: String::new(),
            wave,
            address: None,
            wait_healthy: false,
            memory_bytes: 0,
            spans: Vec::new(),
        };
        Needed { course, by: by.chars().map(id).collect() }
    }

    fn waves(all: Vec<Needed>) -> Vec<usize> {
        set_apart(all).iter().map(|course| course.wave).collect()
    }

    #[test]
    fn who_is_stopped_goes_before_all_and_comes_back_after_all() {
        let all = vec![
            needed('a', 0, Strategy::Stop, ""),
            needed('b', 1, Strategy::Freeze, ""),
            needed('c', 0, Strategy::LiveRestore, "b"),
        ];
        assert_eq!(waves(all), [2, 1, 0]);
    }

    #[test]
    fn who_is_stopped_and_needed_stays_in_its_place() {
        let all = vec![needed('a', 0, Strategy::Stop, "b"), needed('b', 1, Strategy::Freeze, "")];
        assert_eq!(waves(all), [0, 1]);
    }

    #[test]
    fn who_is_needed_only_by_others_that_are_stopped_goes_with_them() {
        let chain = |last| vec![needed('a', 0, Strategy::Stop, "b"), needed('b', 1, Strategy::Stop, last)];
        assert_eq!(waves(chain("")), [2, 3]);
        let mut needed_at_the_end = chain("c");
        needed_at_the_end.push(needed('c', 2, Strategy::Freeze, ""));
        assert_eq!(waves(needed_at_the_end), [0, 1, 2]);
    }

    #[test]
    fn patience_is_the_containers_own() {
        let asked = |seconds| patience(&Container::new(json!({ "Config": { "StopTimeout": seconds } })));
        assert_eq!(asked(json!(null)), DOCKERS_PATIENCE);
        assert_eq!((asked(json!(0)), asked(json!(30))), (Duration::ZERO, Duration::from_secs(30)));
        assert_eq!(asked(json!(-1)), LONGEST_PATIENCE);
    }
}
