//! Going on where a connection to a peer breaks: what is safe to repeat is repeated, for as long as that leads on.
//!
//! ```text
//!   sent ──ok──────────────────────────────► done
//!    │ broke                                   ▲
//!    ▼                                         │
//!   again ──pause── "how much is there?" ── the rest of it, or all where nothing is
//!    └── nothing has led on for as long as that may take: it fails, as it would have at once
//! ```

use crate::failure::Failure;
use crate::transport::client::PeerError;
use crate::world::Told;
use crate::world::cancels::Cancellable;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two tries to reach a peer. The network has no event that says when it works again.
const PAUSE: Duration = Duration::from_millis(200);

/// How long what goes to a peer may not get on before it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Over a connection that stands.
    pub stall: Duration,
    /// Since a connection broke.
    pub broken: Duration,
}

/// A question that takes its time and was not answered for so long had come to the peer.
const STOOD: Duration = Duration::from_secs(15);

/// Nothing stands still for it: a switch may boot meanwhile.
pub const RUNNING: Patience = Patience { stall: Duration::from_secs(60), broken: Duration::from_secs(60) };

/// Containers stand still for it, and go on here when it is over.
pub const STANDING_STILL: Patience = Patience { stall: Duration::from_secs(30), broken: Duration::from_secs(10) };

/// Whoever goes on over connections that break. Those who send at once share one.
pub struct Persistence<'a> {
    peer: &'a str,
    told: &'a dyn Told,
    cancel: &'a Cancellable,
    patience: Duration,
    /// Since when nothing has led on.
    broken: Mutex<Option<Instant>>,
}

impl<'a> Persistence<'a> {
    /// With a peer, until it is cancelled or patience is over.
    pub fn with(peer: &'a str, told: &'a dyn Told, cancel: &'a Cancellable, patience: Patience) -> Self {
        Self { peer, told, cancel, patience: patience.broken, broken: Mutex::default() }
    }

    /// It has come further than before: what breaks from here on has all the patience again.
    pub fn went_on(&self) {
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A connection broke. Returns after a pause when it may be asked how far things are; an error, that says `what` could not be
    /// done, where that is of no use. What the answer is has to be said by [`Self::is_there`].
    pub fn broke(&self, error: &PeerError, what: impl FnOnce() -> String) -> Result<(), Failure> {
        if !error.may_pass() {
            return Err(failed(error, what()));
        }
        self.note(error);
        self.cancel.pause(PAUSE)
    }

    /// Whether there is more than there was before a connection broke; an error where nothing has led on for too long.
    pub fn is_there(&self, more: bool, error: &PeerError, what: impl FnOnce() -> String) -> Result<(), Failure> {
        if more {
            self.went_on();
            return Ok(());
        }
        match self.note(error).elapsed() >= self.patience {
            true => Err(failed(error, what())),
            false => Ok(()),
        }
    }

    /// Returns after a pause when what has failed, and is no further than before, may be tried once more.
    pub fn again(&self, error: &PeerError, what: impl FnOnce() -> String) -> Result<(), Failure> {
        match error.may_pass() {
            true => self.again_after(error, || failed(error, what())),
            false => Err(failed(error, what())),
        }
    }

    /// The same for what broke off while it was read.
    pub fn again_after(
        &self,
        error: &(dyn std::error::Error + 'static),
        failure: impl FnOnce() -> Failure,
    ) -> Result<(), Failure> {
        match self.note(error).elapsed() >= self.patience {
            true => Err(failure()),
            false => self.cancel.pause(PAUSE),
        }
    }

    /// Since when nothing has led on. Told where that is news.
    fn note(&self, error: &(dyn std::error::Error + 'static)) -> Instant {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        if broken.is_none() {
            tracing::info!(peer = self.peer, error, "a connection broke");
            self.told.note(&format!("the connection to {} broke, going on ({error})", self.peer));
        }
        *broken.get_or_insert_with(Instant::now)
    }

    /// Asks what is safe to ask twice, until there is an answer.
    pub fn ask<T: Send + 'static>(
        &self,
        question: impl Fn() -> Result<T, PeerError> + Send + Sync + 'static,
        what: impl Fn() -> String,
    ) -> Result<T, Failure> {
        self.ask_within(Duration::MAX, move |_| question(), what)
    }

    /// The same for what the peer has at hand: the question, and all that goes before its answer, take no longer than patience
    /// lasts. The question is told how much of that is left.
    pub fn ask_at_hand<T: Send + 'static>(
        &self,
        question: impl Fn(Duration) -> Result<T, PeerError> + Send + Sync + 'static,
        what: impl Fn() -> String,
    ) -> Result<T, Failure> {
        self.ask_within(self.patience, question, what)
    }

    /// The same as [`Self::ask`] before anything is touched: no answer is a refusal, unless it was cancelled meanwhile.
    pub fn ask_first<T: Send + 'static>(
        &self,
        question: impl Fn() -> Result<T, PeerError> + Send + Sync + 'static,
        what: impl Fn() -> String,
    ) -> Result<T, Failure> {
        self.ask(question, what).map_err(|failure| match self.cancel.go_ahead(false) {
            Ok(()) => failure.as_refusal(),
            Err(cancelled) => cancelled,
        })
    }

    /// The same as [`Self::ask`] for what takes its time, `limit` at most; the question is told how much of that is left.
    pub fn ask_within<T: Send + 'static>(
        &self,
        limit: Duration,
        question: impl Fn(Duration) -> Result<T, PeerError> + Send + Sync + 'static,
        what: impl Fn() -> String,
    ) -> Result<T, Failure> {
        let (begun, question, mut broken) = (Instant::now(), Arc::new(question), None);
        let mut left = limit;
        loop {
            let (tried, this) = (Instant::now(), Arc::clone(&question));
            let error = match self.cancel.unless_cancelled(move || this(left))? {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if limit < Duration::MAX && tried.elapsed() > STOOD {
                // It was heard, and was at it.
                broken = None;
            }
            let since = *broken.get_or_insert_with(Instant::now);
            if since.elapsed() >= self.patience {
                return Err(failed(&error, what()));
            }
            self.broke(&error, &what)?;
            left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(failed(&error, what()));
            }
        }
    }
}

/// A failure in the peer's own words.
pub fn failed(error: &PeerError, what: String) -> Failure {
    let failure = Failure::new(what).because(error);
    match error.remedy() {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Outcome;
    use crate::transport::protocol::Problem;
    use crate::world::cancels::Cancels;
    use crate::world::log::Log;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn lost() -> PeerError {
        PeerError::Unreachable { peer: "beta".into(), problem: Box::new(Problem::new("the connection was lost")) }
    }

    fn stuck() -> PeerError {
        PeerError::Stuck { peer: "beta".into(), problem: Box::new(Problem::new("nothing goes")) }
    }

    fn refused(status: u16) -> PeerError {
        let problem = Box::new(Problem::new("no"));
        PeerError::Refused { peer: "beta".into(), call: "GET /".into(), status, problem }
    }

    const SHORT: Patience = Patience { stall: Duration::ZERO, broken: Duration::from_millis(500) };

    #[test]
    fn what_breaks_is_repeated_until_nothing_leads_on() {
        let cancel = Cancellable::default();
        let persistence = Persistence::with("beta", &Log, &cancel, SHORT);
        let what = || "it does not go".to_owned();
        persistence.again(&lost(), what).unwrap();
        std::thread::sleep(SHORT.broken);
        let failure = persistence.again(&lost(), what).unwrap_err();
        assert_eq!(failure.what, "it does not go");
        persistence.went_on();
        persistence.again(&lost(), what).unwrap();
    }

    #[test]
    fn patience_does_not_run_while_all_goes_well() {
        let cancel = Cancellable::default();
        let persistence = Persistence::with("beta", &Log, &cancel, SHORT);
        persistence.broke(&lost(), String::new).unwrap();
        persistence.is_there(false, &lost(), String::new).unwrap();
        // Much goes, and nobody says so before the next break.
        std::thread::sleep(SHORT.broken);
        persistence.broke(&lost(), String::new).unwrap();
        persistence.is_there(true, &lost(), String::new).unwrap();
        std::thread::sleep(SHORT.broken);
        persistence.broke(&lost(), String::new).unwrap();
        persistence.is_there(false, &lost(), String::new).unwrap();
        std::thread::sleep(SHORT.broken);
        persistence.broke(&lost(), String::new).unwrap();
        assert!(persistence.is_there(false, &lost(), String::new).is_err());
    }

    #[test]
    fn a_question_has_all_the_patience_however_long_before_a_connection_broke() {
        let cancel = Cancellable::default();
        let persistence = Persistence::with("beta", &Log, &cancel, SHORT);
        persistence.broke(&lost(), String::new).unwrap();
        std::thread::sleep(SHORT.broken);
        let tries = AtomicU32::new(0);
        let second = move || match tries.fetch_add(1, Ordering::Relaxed) {
            0 => Err(lost()),
            tries => Ok(tries),
        };
        assert_eq!(persistence.ask(second, String::new).unwrap(), 1);
    }

    #[test]
    fn what_was_refused_or_is_stuck_is_not_repeated() {
        let cancel = Cancellable::default();
        let again = |error| Persistence::with("beta", &Log, &cancel, RUNNING).again(&error, String::new);
        assert!(again(refused(409)).is_err() && again(stuck()).is_err());
        assert!(again(refused(503)).is_ok(), "its helper is being started again");
    }

    #[test]
    fn what_is_not_answered_before_anything_is_touched_is_refused_and_what_is_cancelled_is_not() {
        let cancels = Cancels::default();
        let cancel = cancels.admit();
        cancel.is_numbered(1);
        let persistence = Persistence::with("beta", &Log, &cancel, RUNNING);
        let no = || Err::<(), _>(refused(409));
        assert_eq!(persistence.ask_first(no, String::new).unwrap_err().outcome, Outcome::Refused);
        cancels.ask(1).unwrap();
        assert_eq!(persistence.ask_first(no, String::new).unwrap_err().outcome, Outcome::Failed);
    }

    #[test]
    fn a_question_is_asked_until_it_is_answered_and_no_longer_than_it_may_take() {
        let cancel = Cancellable::default();
        let persistence = Persistence::with("beta", &Log, &cancel, RUNNING);
        let tries = AtomicU32::new(0);
        let second = move || match tries.fetch_add(1, Ordering::Relaxed) {
            0 => Err(lost()),
            tries => Ok(tries),
        };
        assert_eq!(persistence.ask(second, String::new).unwrap(), 1);
        let never = |_| Err::<(), _>(lost());
        assert!(persistence.ask_within(Duration::ZERO, never, String::new).is_err());
    }

    #[test]
    fn what_is_at_hand_is_asked_for_no_longer_than_patience_lasts() {
        let cancel = Cancellable::default();
        let persistence = Persistence::with("beta", &Log, &cancel, SHORT);
        let begun = Instant::now();
        // Each try is as long as it may be: a connection that stands and says nothing.
        let silent = |left: Duration| {
            std::thread::sleep(left.min(Duration::from_millis(300)));
            Err::<(), _>(lost())
        };
        let failure = persistence.ask_at_hand(silent, || "it is not told".into()).unwrap_err();
        assert!(failure.to_string().ends_with("the connection was lost"), "{failure}");
        assert!(begun.elapsed() < SHORT.broken * 2, "{:?}", begun.elapsed());
    }
}
