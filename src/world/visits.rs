//! Migrations that come to this host: what their sources ask, and where each stands.
//!
//! A visit has one thread that works on it and changes where it stands. Whoever has a request leaves it here and waits for
//! the answer.

use super::parts::Parts;
use crate::failure::Failure;
use crate::handover::{Arrival, Request, arrival};
use crate::pager::Told;
use crate::store::{CheckpointId, ContainerId};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a source says, besides sending files.
#[derive(Debug, Clone)]
pub enum Word {
    /// All files are there; these are the manifests.
    Restore(Vec<String>),
    /// As the handover has it.
    Handover(Request),
    /// Not the source but a person on this host says so, by force.
    Forced(arrival::Event),
}

/// Where a visit stands.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// As the handover has it.
    pub arrival: Arrival,
    /// The containers, once they were made.
    pub containers: Vec<ContainerId>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Whether nobody works on it any more.
    pub is_over: bool,
    /// It runs, and so much of its memory is still to come.
    pub follows: Option<Told>,
}

/// One migration that comes here.
#[derive(Debug)]
pub struct Visit {
    /// Who it comes from; nobody else has a say in it.
    pub peer: String,
    /// The checkpoints that it brings.
    checkpoints: Vec<CheckpointId>,
    inner: Mutex<Inner>,
    changed: Condvar,
    intake: Mutex<Intake>,
    parts: Parts,
}

/// The files of its checkpoints.
#[derive(Debug, Default)]
struct Intake {
    paths: BTreeSet<String>,
    is_closed: bool,
}

/// CRIU writes about ten for each process, and no host has room for so many.
pub const MOST_FILES: usize = 100_000;

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
    /// One that has just begun, and brings these checkpoints.
    pub fn of(peer: &str, checkpoints: Vec<CheckpointId>) -> Self {
        Self {
            peer: peer.to_owned(),
            checkpoints,
            inner: Mutex::default(),
            changed: Condvar::new(),
            intake: Mutex::default(),
            parts: Parts::default(),
        }
    }

    /// Whether it brings this checkpoint.
    pub fn brings(&self, checkpoint: &CheckpointId) -> bool {
        self.checkpoints.contains(checkpoint)
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

    /// Says something to who works on it, and returns when that was seen to, or after `patience`: where it stands then.
    pub fn say(&self, word: Word, patience: Duration) -> Standing {
        let mut inner = self.lock();
        inner.words.push_back(word);
        inner.said += 1;
        let number = inner.said;
        self.changed.notify_all();
        let is_unheard = |inner: &mut Inner| !inner.standing.is_over && inner.heard < number;
        let waited = self.changed.wait_timeout_while(inner, patience, is_unheard);
        waited.unwrap_or_else(PoisonError::into_inner).0.standing.clone()
    }

    /// Puts a file that has come where it belongs, by `keep`, unless all are there already or there are too many. What
    /// is still under way by then comes to nothing: digests are compared of what lies there, and of nothing later.
    pub fn take_in(&self, path: &str, keep: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
        let mut intake = self.intake.lock().unwrap_or_else(PoisonError::into_inner);
        if intake.is_closed {
            return Err(Failure::refused(format!("{path} comes late: all files are here")));
        }
        if intake.paths.len() >= MOST_FILES && !intake.paths.contains(path) {
            return Err(Failure::refused(format!("more than {MOST_FILES} files belong to no migration")));
        }
        keep()?;
        intake.paths.insert(path.to_owned());
        Ok(())
    }

    /// Whether a file was put where it belongs.
    pub fn has_taken_in(&self, path: &str) -> bool {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner).paths.contains(path)
    }

    /// Files of which not all is here.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// No file is taken in any more.
    pub fn close_intake(&self) {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
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
        let visit = Arc::new(Visit::of("alpha", Vec::new()));
        let worker = Arc::clone(&visit);
        let working = std::thread::spawn(move || {
            let word = worker.next_word(Duration::from_secs(10));
            worker.change(|standing| standing.arrival = Arrival::Dropped);
            worker.hear();
            word
        });
        assert_eq!(visit.say(Word::Handover(Request::Drop), Duration::from_secs(10)).arrival, Arrival::Dropped);
        assert!(matches!(working.join().unwrap(), Some(Word::Handover(Request::Drop))));
    }

    #[test]
    fn who_is_not_heard_is_told_where_it_stands() {
        let visit = Visit::of("alpha", Vec::new());
        visit.change(|standing| standing.arrival = Arrival::Restored);
        let told = visit.say(Word::Handover(Request::Commit), Duration::from_millis(1));
        assert_eq!((told.arrival, told.is_over), (Arrival::Restored, false));
    }

    #[test]
    fn i4_no_file_is_put_in_place_once_digests_are_compared() {
        let visit = Visit::of("alpha", Vec::new());
        visit.take_in("images/pages-1.img", || Ok(())).unwrap();
        visit.take_in("images/pages-1.img", || Ok(())).unwrap();
        visit.close_intake();
        let late = visit.take_in("images/pages-1.img", || panic!("it is put in place"));
        assert!(late.unwrap_err().what.contains("comes late"));
    }

    #[test]
    fn nobody_waits_for_a_visit_that_is_over() {
        let visit = Visit::of("alpha", Vec::new());
        visit.change(|standing| standing.is_over = true);
        visit.say(Word::Handover(Request::Ask), Duration::from_secs(10));
        visit.wait_until(|standing| standing.arrival == Arrival::Running);
    }
}
