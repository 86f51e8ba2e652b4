//! Migrations that come to this host: what their sources ask, and where each stands.
//!
//! A visit has one thread that works on it and changes where it stands. Whoever has a request leaves it here and waits for
//! the answer.

use crate::failure::Failure;
use crate::handover::{Arrival, Request};
use crate::store::ContainerId;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a source says, besides sending files.
#[derive(Debug, Clone)]
pub enum Word {
    /// All files are there; this is the manifest.
    Restore(String),
    /// As the handover has it.
    Handover(Request),
}

/// Where a visit stands.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// As the handover has it.
    pub arrival: Arrival,
    /// The container, once it was made.
    pub container: Option<ContainerId>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Whether nobody works on it any more.
    pub is_over: bool,
}

/// One migration that comes here.
#[derive(Debug)]
pub struct Visit {
    /// Who it comes from; nobody else has a say in it.
    pub peer: String,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    standing: Standing,
    words: VecDeque<Word>,
    /// How many words were heard in full.
    heard: u64,
    said: u64,
    /// How often something came that is no word.
    signs: u64,
}

impl Visit {
    /// One that has just begun.
    pub fn of(peer: &str) -> Self {
        Self { peer: peer.to_owned(), inner: Mutex::default(), changed: Condvar::new() }
    }

    /// Where it stands now.
    pub fn standing(&self) -> Standing {
        self.lock().standing.clone()
    }

    /// Changes where it stands.
    pub fn change(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.lock().standing);
        self.changed.notify_all();
    }

    /// Returns when `condition` holds, or nobody works on it any more.
    pub fn wait_until(&self, condition: impl Fn(&Standing) -> bool) -> Standing {
        let mut inner = self.lock();
        while !inner.standing.is_over && !condition(&inner.standing) {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.standing.clone()
    }

    /// Says something to who works on it, and returns when that was seen to.
    pub fn say(&self, word: Word) -> Standing {
        let mut inner = self.lock();
        inner.words.push_back(word);
        inner.said += 1;
        let number = inner.said;
        self.changed.notify_all();
        while !inner.standing.is_over && inner.heard < number {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.standing.clone()
    }

    /// Something came from the source: it is at work.
    pub fn sign_of_life(&self) {
        self.lock().signs += 1;
    }

    /// How often there was one.
    pub fn signs_of_life(&self) -> u64 {
        self.lock().signs
    }

    /// The next word, or nothing after `patience`. It has to be [`Visit::hear`]d when it was seen to.
    pub fn next_word(&self, patience: Duration) -> Option<Word> {
        let inner = self.lock();
        let waited = self.changed.wait_timeout_while(inner, patience, |inner| inner.words.is_empty());
        let (mut inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.words.pop_front()
    }

    /// Who said the word that was taken last is answered.
    pub fn hear(&self) {
        self.lock().heard += 1;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn who_says_something_waits_until_it_was_seen_to() {
        let visit = Arc::new(Visit::of("alpha"));
        let worker = Arc::clone(&visit);
        let working = std::thread::spawn(move || {
            let word = worker.next_word(Duration::from_secs(10));
            worker.change(|standing| standing.arrival = Arrival::Dropped);
            worker.hear();
            word
        });
        assert_eq!(visit.say(Word::Handover(Request::Drop)).arrival, Arrival::Dropped);
        assert!(matches!(working.join().unwrap(), Some(Word::Handover(Request::Drop))));
    }

    #[test]
    fn nobody_waits_for_a_visit_that_is_over() {
        let visit = Visit::of("alpha");
        visit.change(|standing| standing.is_over = true);
        visit.say(Word::Handover(Request::Ask));
        visit.wait_until(|standing| standing.arrival == Arrival::Running);
    }
}
