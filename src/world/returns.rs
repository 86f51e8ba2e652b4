//! Containers that are being brought back, and what waits until they are.
//!
//! When one of many runs again, things are left to do for it that nobody waits for: its restart policy, which costs dockerd a
//! call of runc, temporary addresses, files. The others still wait, and for the same processors.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many bring containers back just now.
#[derive(Debug, Default)]
pub struct Returns {
    count: Mutex<usize>,
    changed: Condvar,
}

/// Containers are being brought back until this is dropped.
#[derive(Debug)]
#[must_use = "nobody is being brought back any more when it is dropped"]
pub struct Return(Arc<Returns>);

impl Returns {
    /// Containers are being brought back until the answer is dropped.
    pub fn begin(self: &Arc<Self>) -> Return {
        *self.count() += 1;
        Return(Arc::clone(self))
    }

    /// Returns when none is being brought back; after `limit` in any case.
    pub fn wait_until_none(&self, limit: Duration) {
        let count = self.count();
        // Whether it took too long makes no difference to what comes next.
        drop(self.changed.wait_timeout_while(count, limit, |count| *count > 0));
    }

    fn count(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Return {
    fn drop(&mut self) {
        *self.0.count() -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_is_waited_for_and_no_longer_than_the_limit() {
        let returns = Arc::new(Returns::default());
        let (first, last) = (returns.begin(), returns.begin());
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| returns.wait_until_none(Duration::MAX));
            drop(first);
            returns.wait_until_none(Duration::from_millis(20));
            assert!(!waiting.is_finished());
            drop(last);
        });
        returns.wait_until_none(Duration::MAX);
    }
}
