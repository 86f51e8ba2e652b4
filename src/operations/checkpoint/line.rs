//! Many containers that are to be frozen at once: when each may begin to be away.
//!
//! ```text
//!            at most `many` at a time            all of them are ready         at most `few` at a time, in order
//!  coming ──────────────────────────► preparing ─────────────────────► ready ──────────────────────────────────► inside ──► out
//! ```
//!
//! Whoever is away waits for everybody else: for the engine's restart, and before it for the last one to be frozen. So all
//! that can be done while containers run is done for all of them before the first is held. Then they go in their order, a
//! wave when all of the wave before it are away, and no more at once than the processors bear: beside others each would only
//! be away for longer. Where one fails, those that are not inside yet do not go any more.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Where one of them is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Coming,
    Preparing,
    Ready,
    Inside,
    /// Inside, and needs no processor.
    Idle,
    /// Frozen: what is left is Docker's.
    Away,
    Out,
    GaveUp,
}

#[derive(Debug)]
struct State {
    /// In the order in which they go.
    places: Vec<(usize, At)>,
    is_given_up: bool,
}

/// The places of all.
#[derive(Debug)]
pub struct Line {
    many: usize,
    few: usize,
    state: Mutex<State>,
    changed: Condvar,
}

/// One's own place; dropped before it is left, it has failed.
#[derive(Debug)]
pub struct Place {
    line: Arc<Line>,
    index: usize,
}

impl Line {
    /// A line of so many as there are waves told, in the order in which they go.
    pub fn of(waves: impl IntoIterator<Item = usize>, many: usize, few: usize) -> Arc<Self> {
        let places = waves.into_iter().map(|wave| (wave, At::Coming)).collect();
        Arc::new(Self { many, few, state: Mutex::new(State { places, is_given_up: false }), changed: Condvar::new() })
    }

    /// The place of the one with this number.
    pub fn place(self: &Arc<Self>, index: usize) -> Place {
        Place { line: Arc::clone(self), index }
    }

    /// Whether it did not go because another one had failed.
    pub fn gave_up(&self, index: usize) -> bool {
        self.lock().places[index].1 == At::GaveUp
    }

    /// Waits until the place may be there, and puts it there; not where the line is given up.
    fn go(&self, index: usize, to: At, may: impl Fn(&State) -> bool) -> bool {
        let mut state = self.lock();
        while !state.is_given_up && !may(&state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let at = if state.is_given_up { At::GaveUp } else { to };
        state.places[index].1 = at;
        drop(state);
        self.changed.notify_all();
        at == to
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&self, at: At) -> usize {
        self.places.iter().filter(|(_, other)| *other == at).count()
    }

    /// Nobody is away before all are ready; a wave goes when all before it are away, and in its order.
    fn may_enter(&self, index: usize, few: usize) -> bool {
        let all_are_ready = self.count(At::Coming) + self.count(At::Preparing) == 0;
        let wave = self.places[index].0;
        let mut before = self.places[..index].iter();
        let is_next = before.all(|(other, at)| match at {
            At::Inside | At::Idle => *other == wave,
            at => matches!(at, At::Away | At::Out),
        });
        all_are_ready && is_next && self.count(At::Inside) < few
    }
}

impl Place {
    /// Waits until it may be prepared; not where another one has failed.
    pub fn prepare(&self) -> bool {
        self.line.go(self.index, At::Preparing, |state| state.count(At::Preparing) < self.line.many)
    }

    /// It is prepared. Waits until it may be away; not where another one has failed.
    pub fn enter(&self) -> bool {
        self.line.go(self.index, At::Ready, |_| true)
            && self.line.go(self.index, At::Inside, |state| state.may_enter(self.index, self.line.few))
    }

    /// What it does is mostly waiting: the next one of its wave may go beside it.
    pub fn idle(&self) {
        self.is_at(At::Idle);
    }

    /// It is frozen, though its end is not: the next one may go, of whatever wave.
    pub fn away(&self) {
        self.is_at(At::Away);
    }

    /// Nothing is left to do for it.
    pub fn leave(self) {
        self.is_at(At::Out);
    }

    fn is_at(&self, at: At) {
        self.line.lock().places[self.index].1 = at;
        self.line.changed.notify_all();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.line.lock();
        state.is_given_up |= state.places[self.index].1 != At::Out;
        drop(state);
        self.line.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn nobody_is_away_before_all_are_ready_and_waves_do_not_mix() {
        let line = Line::of([1, 1, 0], 8, 2);
        let places = [0, 1, 2].map(|index| line.place(index));
        assert!(places.iter().all(Place::prepare));
        let (told, heard) = channel();
        std::thread::scope(|threads| {
            for place in places {
                let (told, index) = (told.clone(), place.index);
                let (leave, may_leave) = channel::<()>();
                threads.spawn(move || {
                    assert!(place.enter());
                    told.send((index, leave)).unwrap();
                    let _ = may_leave.recv();
                    place.leave();
                });
            }
            let mut first = [heard.recv().unwrap(), heard.recv().unwrap()];
            // Both are inside; which of them tells it first is the scheduler's.
            first.sort_by_key(|(index, _)| *index);
            assert_eq!(first.each_ref().map(|(index, _)| *index), [0, 1]);
            assert!(!line.lock().may_enter(2, 8), "the wave before it is not away");
            drop(first);
            assert_eq!(heard.recv().unwrap().0, 2);
        });
        assert!(!line.gave_up(0));
    }

    #[test]
    fn no_more_are_inside_than_there_is_room_for_and_in_their_order() {
        let line = Line::of([0, 0, 0], 8, 1);
        let mut state = line.lock();
        state.places = vec![(0, At::Out), (0, At::Inside), (0, At::Ready)];
        assert!(!state.may_enter(2, 1) && state.may_enter(2, 2));
        state.places[1].1 = At::Idle;
        assert!(state.may_enter(2, 1));
        state.places[2].0 = 1;
        assert!(!state.may_enter(2, 1), "another wave waits for its end");
        state.places[1].1 = At::Away;
        assert!(state.may_enter(2, 1));
        state.places[2].0 = 0;
        state.places[1].1 = At::Ready;
        assert!(!state.may_enter(2, 2) && state.may_enter(1, 1));
        state.places[2].1 = At::Preparing;
        assert!(!state.may_enter(1, 1));
    }

    #[test]
    fn where_one_fails_those_that_are_not_away_yet_stay() {
        let line = Line::of([0, 0, 0], 8, 8);
        let [away, failing, last] = [0, 1, 2].map(|index| line.place(index));
        assert!([&away, &failing, &last].iter().all(|place| place.prepare()));
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| away.enter());
            drop(failing);
            assert!(!waiting.join().unwrap());
        });
        assert!(!last.enter());
        assert!(line.gave_up(0) && line.gave_up(2) && !line.gave_up(1));
    }
}
