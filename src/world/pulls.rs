//! Images that dockerd pulls because a peer's containers need them, and registries that have not answered.

use super::ending::Ending;
use crate::store::CheckpointId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// So many are under way at a time; containers whose images are more are sent them.
const MOST: usize = 16;

/// How long a registry that has not answered is not asked again: each container would wait for it.
const SILENCE: Duration = Duration::from_secs(600);

/// So many registries are remembered.
const MOST_SILENT: usize = 256;

/// An image on its way here from its registry.
#[derive(Debug, Default)]
pub struct Pulling {
    done: AtomicU64,
    total: AtomicU64,
    /// Told when nobody wants it any more.
    pub unwanted: Notify,
    /// How it ends.
    pub ending: Ending,
}

impl Pulling {
    /// It has come so far.
    pub fn is_at(&self, done: u64, total: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// How many bytes have come, and how many there are.
    pub fn bytes(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }
}

/// What a pull is for: a migration and the image's id.
type For = (CheckpointId, String);

/// All that are under way, or have ended and were not asked for since.
#[derive(Debug, Default)]
pub struct Pulls {
    all: Mutex<HashMap<For, Arc<Pulling>>>,
    silent: Mutex<HashMap<String, Instant>>,
}

/// What is found where a pull is to begin.
#[derive(Debug)]
pub enum Place {
    /// It is under way, or has ended.
    Taken(Arc<Pulling>),
    /// It is whoever asks who has to begin it.
    Free(Arc<Pulling>),
    /// Too many are under way.
    Full,
}

impl Pulls {
    /// A place for the pull of an image.
    pub fn place(&self, id: &CheckpointId, image: &str) -> Place {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let what = (id.clone(), image.to_owned());
        if let Some(pulling) = all.get(&what) {
            return Place::Taken(Arc::clone(pulling));
        }
        if all.len() >= MOST {
            // Whoever has begun them may not have come back to hear how they ended.
            all.retain(|_, pulling| pulling.ending.wait(Duration::ZERO).is_none());
        }
        if all.len() >= MOST {
            return Place::Full;
        }
        let pulling = Arc::new(Pulling::default());
        all.insert(what, Arc::clone(&pulling));
        Place::Free(pulling)
    }

    /// How it ended was told.
    pub fn told(&self, id: &CheckpointId, image: &str) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&(id.clone(), image.to_owned()));
    }

    /// Nobody waits for a migration's images any more: whether one is still being pulled.
    pub fn are_unwanted(&self, id: &CheckpointId) -> bool {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let of_it: Vec<_> = all.extract_if(|(of, _), _| of == id).collect();
        of_it.iter().for_each(|(_, pulling)| pulling.unwanted.notify_one());
        of_it.iter().any(|(_, pulling)| pulling.ending.wait(Duration::ZERO).is_none())
    }

    /// A registry has not answered.
    pub fn is_silent(&self, registry: &str) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.retain(|_, since| since.elapsed() < SILENCE);
        if silent.len() < MOST_SILENT {
            silent.insert(registry.to_owned(), Instant::now());
        }
    }

    /// Whether it has not answered a short while ago.
    pub fn was_silent(&self, registry: &str) -> bool {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.get(registry).is_some_and(|since| since.elapsed() < SILENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_begun_once_and_told_once_and_there_are_no_more_than_so_many() {
        let (pulls, id) = (Pulls::default(), CheckpointId::random().unwrap());
        let Place::Free(first) = pulls.place(&id, "sha256:0") else { panic!("it is not begun") };
        assert!(matches!(pulls.place(&id, "sha256:0"), Place::Taken(_)));
        for number in 1..MOST {
            assert!(matches!(pulls.place(&id, &format!("sha256:{number}")), Place::Free(_)));
        }
        assert!(matches!(pulls.place(&id, "sha256:more"), Place::Full));
        assert!(first.ending.wait(Duration::ZERO).is_none());
        first.ending.come(Ok(()));
        assert!(matches!(pulls.place(&id, "sha256:more"), Place::Free(_)), "an ended one gives its place away");
        assert!(pulls.are_unwanted(&id));
        let Place::Free(last) = pulls.place(&id, "sha256:1") else { panic!("it is not begun") };
        last.ending.come(Ok(()));
        assert!(!pulls.are_unwanted(&id), "it has come to its end");
        assert!(matches!(pulls.place(&id, "sha256:1"), Place::Free(_)));
        pulls.told(&id, "sha256:1");
        assert!(matches!(pulls.place(&id, "sha256:1"), Place::Free(_)));
    }

    #[tokio::test]
    async fn whoever_pulls_hears_that_nobody_wants_it() {
        let (pulls, id) = (Pulls::default(), CheckpointId::random().unwrap());
        let Place::Free(pulling) = pulls.place(&id, "sha256:0") else { panic!("it is not begun") };
        pulls.are_unwanted(&id);
        pulling.unwanted.notified().await;
    }

    #[test]
    fn a_registry_that_did_not_answer_is_remembered_and_no_other() {
        let pulls = Pulls::default();
        pulls.is_silent("host:5000");
        assert!(pulls.was_silent("host:5000") && !pulls.was_silent("other:5000"));
    }
}
