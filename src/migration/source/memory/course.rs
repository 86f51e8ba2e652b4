//! How rounds go, and when there have been enough.

use std::time::Duration;

/// More rounds than this bring nothing: whatever changes all the time changes in each.
const MOST_ROUNDS: usize = 16;

/// A round that leaves more than this part of what the one before left shows that it does not shrink any more.
const SHRINKS: f64 = 0.75;

/// Less than this part of the memory is not worth another look at all of it.
const LITTLE: u64 = 200;

/// All memory is gone over about so often while the containers stand still, as often as a round goes over it: written by CRIU
/// and read again, hashed here, put together, hashed and restored there. Measured on two cores, for a gigabyte.
const LOOKS: u32 = 8;

/// One look at all memory, of which what the peer lacked was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Bytes that were looked at.
    pub memory: u64,
    /// Bytes that were sent.
    pub sent: u64,
    /// How long it took.
    pub took: Duration,
}

/// The rounds so far.
#[derive(Debug, Default)]
pub struct Course(Vec<Round>);

/// What is to be done after a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another one: it leaves less.
    Round,
    /// What is left fits the goal, or is little.
    Fits,
    /// What is left does not get less any more.
    ShrinksNoMore,
}

impl Course {
    /// Notes one more.
    pub fn ran(&mut self, round: Round) {
        self.0.push(round);
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Bytes that change in a second: what a round finds changed has changed since the one before looked. None before there
    /// were two.
    pub fn dirty_rate(&self) -> Option<u64> {
        let [.., before, last] = self.0.as_slice() else { return None };
        Some(per_second(last.sent, before.took + last.took / 2))
    }

    /// Bytes that have changed since the last round looked at them: what travels while the container stands still.
    pub fn rest(&self) -> Option<u64> {
        let last = self.0.last()?;
        let rate = self.dirty_rate()?;
        Some(((rate as f64 * last.took.as_secs_f64()) as u64).min(last.memory))
    }

    /// How long the containers will be away if they are frozen now, where no memory at all takes `fixed`.
    pub fn expected_downtime(&self, fixed: Duration) -> Option<Duration> {
        let quickest = self.0.iter().map(|round| round.took).min()?;
        Some(fixed + quickest * LOOKS + Duration::from_secs_f64(self.rest()? as f64 / self.link().max(1) as f64))
    }

    /// Bytes a second that went to the peer: the round that sent most tells.
    pub fn link(&self) -> u64 {
        let fullest = self.0.iter().max_by_key(|round| round.sent);
        fullest.map_or(0, |round| per_second(round.sent, round.took))
    }

    /// What is to be done now, with a goal or without; no memory at all would take `fixed`.
    pub fn next(&self, fixed: Duration, goal: Option<Duration>) -> Next {
        let (Some(rest), Some(last)) = (self.rest(), self.0.last()) else { return Next::Round };
        let fits = goal.is_some_and(|goal| self.expected_downtime(fixed).is_some_and(|expected| expected <= goal));
        if fits || rest <= last.memory / LITTLE {
            return Next::Fits;
        }
        let before = Course(self.0[..self.0.len() - 1].to_vec()).rest();
        let shrinks = before.is_none_or(|before| rest as f64 <= before as f64 * SHRINKS);
        match shrinks && self.0.len() < MOST_ROUNDS {
            true => Next::Round,
            false => Next::ShrinksNoMore,
        }
    }
}

fn per_second(bytes: u64, time: Duration) -> u64 {
    (bytes as f64 / time.as_secs_f64().max(1e-3)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXED: Duration = Duration::from_millis(400);

    /// Rounds of a program that dirties `rate` bytes a second of `memory`, over a link of `link` bytes a second, and what is
    /// done after the last.
    fn run(memory: u64, rate: u64, link: u64, goal: Option<Duration>) -> (Course, Next) {
        let mut course = Course::default();
        let mut left = memory;
        loop {
            let took = Duration::from_secs_f64(left as f64 / link as f64 + 0.2);
            course.ran(Round { memory, sent: left, took });
            left = ((rate as f64 * took.as_secs_f64()) as u64).min(memory);
            match course.next(FIXED, goal) {
                Next::Round => assert!(course.count() < 100),
                end => return (course, end),
            }
        }
    }

    #[test]
    fn rounds_end_when_little_is_left() {
        let (course, end) = run(1 << 30, 1 << 20, 200 << 20, None);
        assert_eq!(end, Next::Fits);
        assert!(course.count() <= 3 && course.rest().unwrap() <= 10 << 20, "{course:?}");
    }

    #[test]
    fn rounds_end_when_they_bring_nothing_any_more() {
        let (course, end) = run(1 << 30, 400 << 20, 200 << 20, None);
        assert_eq!(end, Next::ShrinksNoMore);
        assert!(course.count() <= 5, "{course:?}");
    }

    #[test]
    fn a_goal_is_told_from_one_that_cannot_be_met() {
        let goal = Some(Duration::from_secs(3));
        let (course, end) = run(1 << 30, 20 << 20, 200 << 20, goal);
        assert_eq!(end, Next::Fits);
        assert!(course.expected_downtime(FIXED) <= goal);
        let goal = Some(Duration::from_millis(500));
        let (course, end) = run(1 << 30, 50 << 20, 200 << 20, goal);
        assert_ne!(end, Next::Round);
        assert!(course.expected_downtime(FIXED) > goal);
    }

    #[test]
    fn nothing_is_expected_before_it_is_known_how_fast_memory_changes() {
        let mut course = Course::default();
        assert_eq!(course.next(FIXED, None), Next::Round);
        course.ran(Round { memory: 1 << 30, sent: 1 << 30, took: Duration::from_secs(4) });
        assert_eq!((course.dirty_rate(), course.rest(), course.expected_downtime(FIXED)), (None, None, None));
        assert_eq!(course.next(FIXED, Some(Duration::from_secs(9))), Next::Round);
    }
}
