//! Operations that a person may cancel, until their commit.
//!
//! ```text
//!   open ──ask──► asked      whoever works on it fails at the next opportunity, and undoes
//!    └───close──► closed     it commits: too late
//! ```
//!
//! One of the two comes first, so nobody is told "cancelled" of an operation that goes on to commit.

use crate::failure::Failure;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Asked,
    Closed,
}

/// What is shared between whoever works on an operation and whoever cancels it.
#[derive(Debug, Default)]
struct Shared {
    /// Its number in the journal; 0 until it has one.
    number: AtomicI64,
    state: Mutex<(State, IsOver)>,
    changed: Condvar,
    /// What is cancelled with it.
    parts: Mutex<Vec<Weak<Shared>>>,
    /// What commits where it does.
    whole: Mutex<Weak<Shared>>,
}

type IsOver = bool;

impl Shared {
    fn lock(&self) -> MutexGuard<'_, (State, IsOver)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancels it, unless it is too late for that, and its parts in any case.
    fn ask(&self) -> Result<(), TooLate> {
        let mut state = self.lock();
        let asked = match *state {
            (_, true) => Err(TooLate::Unknown),
            (State::Closed, _) => Err(TooLate::Committed),
            (State::Open | State::Asked, _) => {
                state.0 = State::Asked;
                Ok(())
            }
        };
        self.changed.notify_all();
        drop(state);
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // A part that has committed goes on to its end.
        parts.iter().filter_map(Weak::upgrade).for_each(|part| drop(part.ask()));
        asked
    }

    /// It cannot be cancelled from here on; an error where it has been.
    fn close(&self) -> Result<(), Failure> {
        let mut state = self.lock();
        match state.0 {
            State::Asked => return Err(cancelled()),
            // Whoever cancels the whole cancels this one afterwards.
            State::Open => {
                let whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
                whole.map_or(Ok(()), |whole| whole.close())?;
            }
            State::Closed => {}
        }
        state.0 = State::Closed;
        Ok(())
    }
}

/// What an operation has in hand that can be cancelled. It ends with the operation.
#[derive(Debug, Default)]
pub struct Cancellable(Arc<Shared>);

impl Cancellable {
    /// The operation's number in the journal, by which it is cancelled.
    pub fn is_numbered(&self, number: i64) {
        self.0.number.store(number, Ordering::Relaxed);
    }

    /// An error where somebody has cancelled it. Where it `commits` now it cannot be cancelled from here on.
    pub fn go_ahead(&self, commits: bool) -> Result<(), Failure> {
        if commits {
            return self.0.close();
        }
        match self.0.lock().0 {
            State::Asked => Err(cancelled()),
            State::Open | State::Closed => Ok(()),
        }
    }

    /// Whether somebody has cancelled it.
    pub fn is_cancelled(&self) -> bool {
        self.0.lock().0 == State::Asked
    }

    /// It has committed by somebody else's word: whoever cancels it now, or has done so just now, is too late.
    pub fn has_committed(&self) {
        self.0.lock().0 = State::Closed;
    }

    /// Whoever cancels this one cancels its part as well; also where that was done before.
    pub fn takes_along(&self, part: &Self) {
        let mut parts = self.0.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.retain(|part| part.strong_count() > 0);
        parts.push(Arc::downgrade(&part.0));
        drop(parts);
        if self.0.lock().0 == State::Asked {
            drop(part.0.ask());
        }
    }

    /// The same, and it commits where its part does: either both are cancelled, or both have committed.
    pub fn commits_with(&self, part: &Self) {
        *part.0.whole.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&self.0);
        self.takes_along(part);
    }

    /// Cancels it: for one that is known otherwise than by its number.
    pub fn cancel(&self) {
        drop(self.0.ask());
    }

    /// For threads that only look at it.
    pub fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.0))
    }

    /// Returns after that long; an error as soon as the operation is cancelled.
    pub fn pause(&self, length: Duration) -> Result<(), Failure> {
        let is_open = |state: &mut (State, IsOver)| state.0 != State::Asked;
        let waited = self.0.changed.wait_timeout_while(self.0.lock(), length, is_open);
        match waited.unwrap_or_else(PoisonError::into_inner).0.0 {
            State::Asked => Err(cancelled()),
            State::Open | State::Closed => Ok(()),
        }
    }

    /// What `work` comes to, on a thread of its own; an error as soon as the operation is cancelled: then nobody waits for
    /// `work` any more, which ends by itself.
    pub fn unless_cancelled<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
        let (shared, is_done) = (Arc::clone(&self.0), Arc::new(AtomicBool::new(false)));
        let done = Arc::clone(&is_done);
        let thread = std::thread::Builder::new().name("cancellable".into()).spawn(move || {
            let _told = Done { shared, done };
            work()
        });
        let thread = thread.map_err(|error| Failure::new("no thread to work on").because(&error))?;
        let is_waited_for = |state: &mut (State, IsOver)| state.0 != State::Asked && !is_done.load(Ordering::Acquire);
        drop(self.0.changed.wait_while(self.0.lock(), is_waited_for).unwrap_or_else(PoisonError::into_inner));
        match is_done.load(Ordering::Acquire) {
            true => thread.join().map_err(|panic| std::panic::resume_unwind(panic)),
            false => Err(cancelled()),
        }
    }
}

impl Drop for Cancellable {
    fn drop(&mut self) {
        self.0.lock().1 = true;
        self.0.changed.notify_all();
    }
}

/// Tells whoever waits, also where the work panics.
struct Done {
    shared: Arc<Shared>,
    done: Arc<AtomicBool>,
}

impl Drop for Done {
    fn drop(&mut self) {
        let _state = self.shared.lock();
        self.done.store(true, Ordering::Release);
        self.shared.changed.notify_all();
    }
}

fn cancelled() -> Failure {
    Failure::new("it was cancelled")
}

/// Whether an operation is to go on.
#[derive(Debug, Clone)]
pub struct Watch(Arc<Shared>);

impl Watch {
    /// An error of a reader or a writer where the operation was cancelled.
    pub fn go_on(&self) -> std::io::Result<()> {
        match self.0.lock().0 {
            State::Asked => Err(std::io::Error::other("it was cancelled")),
            State::Open | State::Closed => Ok(()),
        }
    }
}

/// Why an operation is not cancelled.
#[derive(Debug, PartialEq, Eq)]
pub enum TooLate {
    /// Nobody works on one of this number that could be.
    Unknown,
    /// It has committed.
    Committed,
}

/// What can be cancelled now.
#[derive(Debug, Default)]
pub struct Cancels(Mutex<Vec<Weak<Shared>>>);

impl Cancels {
    /// For an operation that is about to begin.
    pub fn admit(&self) -> Cancellable {
        let cancellable = Cancellable::default();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|shared| shared.strong_count() > 0);
        all.push(Arc::downgrade(&cancellable.0));
        cancellable
    }

    /// Cancels an operation, by its number in the journal. It is undone by whoever works on it.
    pub fn ask(&self, number: i64) -> Result<Ending, TooLate> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = all.iter().filter_map(Weak::upgrade).find(|shared| shared.number.load(Ordering::Relaxed) == number);
        drop(all);
        let shared = found.ok_or(TooLate::Unknown)?;
        shared.ask().map(|()| Ending(shared))
    }
}

/// An operation that was cancelled and comes to its end.
#[derive(Debug)]
pub struct Ending(Arc<Shared>);

impl Ending {
    /// Whether it has come to its end within `patience`.
    pub fn wait(&self, patience: Duration) -> bool {
        let waited = self.0.changed.wait_timeout_while(self.0.lock(), patience, |(_, is_over)| !*is_over);
        waited.unwrap_or_else(PoisonError::into_inner).0.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn i2_either_it_is_cancelled_or_it_commits() {
        let cancels = Cancels::default();
        let (one, other) = (cancels.admit(), cancels.admit());
        one.is_numbered(1);
        other.is_numbered(2);
        one.go_ahead(false).unwrap();
        one.go_ahead(true).unwrap();
        assert_eq!(cancels.ask(1).unwrap_err(), TooLate::Committed);
        one.go_ahead(false).unwrap();
        let ending = cancels.ask(2).unwrap();
        assert!(other.go_ahead(true).is_err() && other.watch().go_on().is_err());
        assert!(!ending.wait(Duration::ZERO));
        drop(other);
        assert!(ending.wait(Duration::ZERO));
        assert_eq!(cancels.ask(2).unwrap_err(), TooLate::Unknown);
    }

    #[test]
    fn i1_what_was_committed_by_anothers_word_goes_on_although_it_was_cancelled() {
        let cancels = Cancels::default();
        let cancellable = cancels.admit();
        cancellable.is_numbered(1);
        cancels.ask(1).unwrap();
        cancellable.has_committed();
        cancellable.go_ahead(true).unwrap();
        assert_eq!(cancels.ask(1).unwrap_err(), TooLate::Committed);
    }

    #[test]
    fn i2_whoever_cancels_the_whole_cancels_the_parts_that_have_not_committed_and_those_to_come() {
        let cancels = Cancels::default();
        let [whole, given, under_way, later] = [(); 4].map(|()| cancels.admit());
        whole.is_numbered(1);
        [&given, &under_way].iter().for_each(|part| whole.takes_along(part));
        given.go_ahead(true).unwrap();
        cancels.ask(1).unwrap();
        whole.takes_along(&later);
        given.go_ahead(false).unwrap();
        assert!(whole.is_cancelled() && under_way.go_ahead(true).is_err() && later.go_ahead(false).is_err());
    }

    #[test]
    fn i2_a_whole_that_commits_with_its_part_is_cancelled_with_it_or_not_at_all() {
        let cancels = Cancels::default();
        let [whole, part] = [(); 2].map(|()| cancels.admit());
        whole.is_numbered(1);
        whole.commits_with(&part);
        part.go_ahead(false).unwrap();
        part.go_ahead(true).unwrap();
        assert_eq!(cancels.ask(1).unwrap_err(), TooLate::Committed);
        whole.go_ahead(false).unwrap();
        let [whole, part] = [(); 2].map(|()| cancels.admit());
        whole.is_numbered(2);
        whole.commits_with(&part);
        cancels.ask(2).unwrap();
        assert!(part.go_ahead(true).is_err() && whole.go_ahead(false).is_err());
        // One that was cancelled before its part began.
        let late = cancels.admit();
        whole.commits_with(&late);
        assert!(late.go_ahead(true).is_err());
    }

    #[test]
    fn nobody_waits_for_work_that_was_cancelled() {
        let cancels = Cancels::default();
        let cancellable = cancels.admit();
        cancellable.is_numbered(1);
        assert_eq!(cancellable.unless_cancelled(|| 7).unwrap(), 7);
        let (release, waits) = channel::<()>();
        std::thread::scope(|threads| {
            let working = threads.spawn(|| cancellable.unless_cancelled(move || waits.recv().is_ok()));
            cancels.ask(1).unwrap();
            assert!(working.join().unwrap().is_err());
        });
        drop(release);
    }

    #[test]
    fn a_pause_ends_when_it_is_over_or_when_it_is_cancelled() {
        let cancels = Cancels::default();
        let cancellable = cancels.admit();
        cancellable.is_numbered(1);
        cancellable.pause(Duration::from_millis(1)).unwrap();
        cancels.ask(1).unwrap();
        assert!(cancellable.pause(Duration::from_secs(600)).is_err());
    }
}
