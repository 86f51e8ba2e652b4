//! Containers that are being brought back, and what waits until they are.
//!
//! When one of many runs again, things are left to do for it that nobody waits for: its restart policy, which costs dockerd a
//! call of runc, temporary addresses, files. The others still wait, and for the same processors. Some of that is put off until
//! its own restore has come to its end as well: until then it tells of the container that it was let go.

use crate::store::ContainerId;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Who is being brought back just now.
#[derive(Debug, Default)]
pub struct Returns {
    under_way: Mutex<Vec<Vec<ContainerId>>>,
    changed: Condvar,
}

/// Containers are being brought back until this is dropped.
#[derive(Debug)]
#[must_use = "nobody is being brought back any more when it is dropped"]
pub struct Return {
    returns: Arc<Returns>,
    containers: Vec<ContainerId>,
}

impl Returns {
    /// Some are being brought back until the answer is dropped, each by a restore of its own.
    pub fn begin_some(self: &Arc<Self>) -> Return {
        self.begin(Vec::new())
    }

    /// These are being brought back by one restore until the answer is dropped.
    pub fn begin(self: &Arc<Self>, containers: Vec<ContainerId>) -> Return {
        self.under_way().push(containers.clone());
        Return { returns: Arc::clone(self), containers }
    }

    /// Returns when none is being brought back; after `limit` in any case.
    pub fn wait_until_none(&self, limit: Duration) {
        let under_way = self.under_way();
        // Whether it took too long makes no difference to what comes next.
        drop(self.changed.wait_timeout_while(under_way, limit, |under_way| !under_way.is_empty()));
    }

    /// Returns when the restore of this one, if one is under way, has ended.
    pub fn wait_until_ended(&self, container: &ContainerId) {
        let is_one = |under_way: &mut Vec<Vec<ContainerId>>| under_way.iter().flatten().any(|one| one == container);
        drop(self.changed.wait_while(self.under_way(), is_one));
    }

    fn under_way(&self) -> MutexGuard<'_, Vec<Vec<ContainerId>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Return {
    fn drop(&mut self) {
        let mut under_way = self.returns.under_way();
        if let Some(place) = under_way.iter().position(|containers| *containers == self.containers) {
            under_way.swap_remove(place);
        }
        drop(under_way);
        self.returns.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_is_waited_for_and_no_longer_than_the_limit() {
        let returns = Arc::new(Returns::default());
        let (first, last) = (returns.begin_some(), returns.begin_some());
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| returns.wait_until_none(Duration::MAX));
            drop(first);
            returns.wait_until_none(Duration::from_millis(20));
            assert!(!waiting.is_finished());
            drop(last);
        });
        returns.wait_until_none(Duration::MAX);
    }

    #[test]
    fn i8_each_is_waited_for_until_its_own_restore_has_ended() {
        let returns = Arc::new(Returns::default());
        let [own, other] = ["ab", "cd"].map(|id| id.repeat(32).parse::<ContainerId>().unwrap());
        let (restore, others) = (returns.begin(vec![own.clone()]), returns.begin(vec![other]));
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| returns.wait_until_ended(&own));
            returns.wait_until_none(Duration::from_millis(20));
            assert!(!waiting.is_finished());
            drop(restore);
        });
        drop(others);
    }
}
