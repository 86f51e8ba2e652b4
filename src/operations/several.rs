//! Several things at a time, in their order.

use crate::archive::hash::all_cores;
use crate::failure::Failure;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Does something with each, in their order, so many at a time.
pub fn each<T: Send>(all: &mut [T], at_once: usize, act: impl Fn(&mut T) + Sync) {
    if let [only] = all {
        return act(only);
    }
    let slots: Vec<Mutex<&mut T>> = all.iter_mut().map(Mutex::new).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(slot) = slots.get(next.fetch_add(1, Ordering::Relaxed)) {
            act(&mut slot.lock().unwrap_or_else(PoisonError::into_inner));
        }
    };
    std::thread::scope(|threads| (0..at_once.min(slots.len())).for_each(|_| drop(threads.spawn(work))));
}

/// The same where it may fail; returns what failed.
pub fn failures<T: Send>(
    all: &mut [T],
    at_once: usize,
    act: impl Fn(&mut T) -> Result<(), Failure> + Sync,
) -> Vec<Failure> {
    let failures = Mutex::new(Vec::new());
    each(all, at_once, |one| {
        if let Err(failure) = act(one) {
            failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
        }
    });
    failures.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The first failure, with the others in its details.
pub fn together(mut failures: Vec<Failure>) -> Result<(), Failure> {
    if failures.is_empty() {
        return Ok(());
    }
    let mut first = failures.remove(0);
    first.details.extend(failures.iter().map(ToString::to_string));
    Err(first)
}

/// Each may have threads of its own for every core, to hash with.
const MOST_AT_ONCE: usize = 8;

/// Does something with each of what keeps a core busy about as long as it waits, whatever fails.
pub fn try_each<T: Send>(all: &mut [T], act: impl Fn(&mut T) -> Result<(), Failure> + Sync) -> Result<(), Failure> {
    together(failures(all, (all_cores().get() * 2).min(MOST_AT_ONCE), act))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn each_is_seen_to_and_so_many_at_a_time() {
        let mut all: Vec<usize> = (0..10).collect();
        // Both have to be at it for either to go on.
        let both = Barrier::new(2);
        each(&mut all, 2, |one| {
            both.wait();
            *one += 100;
        });
        assert_eq!(all, (100..110).collect::<Vec<_>>());
    }
}
