//! What the roles report, in memory that all processes share.

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A role that does no turn for so long stands still.
const PATIENCE: Duration = Duration::from_secs(90);
const LONGEST_REASON: usize = 240;

#[repr(C)]
struct Slot {
    turns: AtomicU64,
    reason_length: AtomicU32,
    reason: [AtomicU8; LONGEST_REASON],
}

/// One slot a role; shared with every process that is forked afterwards.
pub struct Board {
    slots: &'static [Slot],
}

impl Board {
    pub fn new(roles: usize) -> Self {
        let length = NonZeroUsize::new(roles * size_of::<Slot>()).expect("there are roles");
        // SAFETY: a new mapping of zeroes, which is never unmapped; all of a Slot's fields are atomics, for which
        // zero is a value.
        let slots = unsafe {
            let place =
                mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
            std::slice::from_raw_parts(place.expect("mmap").as_ptr().cast(), roles)
        };
        Self { slots }
    }

    pub fn turned(&self, index: usize) {
        self.slots[index].turns.fetch_add(1, Ordering::SeqCst);
    }

    pub fn wrong(&self, index: usize, reason: &str) {
        let slot = &self.slots[index];
        let bytes = &reason.as_bytes()[..reason.len().min(LONGEST_REASON)];
        for (to, from) in slot.reason.iter().zip(bytes) {
            to.store(*from, Ordering::SeqCst);
        }
        slot.reason_length.store(bytes.len().max(1) as u32, Ordering::SeqCst);
    }

    pub fn reason(&self, index: usize) -> Option<String> {
        let slot = &self.slots[index];
        let length = slot.reason_length.load(Ordering::SeqCst) as usize;
        let bytes: Vec<u8> = slot.reason[..length].iter().map(|byte| byte.load(Ordering::SeqCst)).collect();
        (length > 0).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until each role has done a whole turn that began after this call: two, since one may be under way.
    /// Of each role, how many it has done; `None` where it stood still.
    pub fn wait_for_turns(&self) -> Vec<(usize, Option<u64>)> {
        let turns = |slot: &Slot| slot.turns.load(Ordering::SeqCst);
        let before: Vec<u64> = self.slots.iter().map(turns).collect();
        let deadline = Instant::now() + PATIENCE;
        let wait = |index: usize| {
            while turns(&self.slots[index]) < before[index] + 2 {
                if Instant::now() > deadline || self.reason(index).is_some() {
                    return None;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Some(turns(&self.slots[index]))
        };
        (0..self.slots.len()).map(|index| (index, wait(index))).collect()
    }

    pub fn total(&self) -> u64 {
        self.slots.iter().map(|slot| slot.turns.load(Ordering::SeqCst)).sum()
    }
}

/// Runs something in a process of its own, for as long as this one lives.
pub fn beside(work: impl FnOnce() -> Result<(), String>) -> Result<nix::unistd::Pid, String> {
    // SAFETY: the roles fork before they start threads.
    match unsafe { nix::unistd::fork() }.map_err(|error| format!("fork: {error}"))? {
        nix::unistd::ForkResult::Parent { child } => Ok(child),
        nix::unistd::ForkResult::Child => {
            // What is wrong here is seen by the parent, which gets no answer, or a wrong one.
            if let Err(reason) = work() {
                eprintln!("{reason}");
            }
            loop {
                nix::unistd::pause();
            }
        }
    }
}

/// Says what failed.
pub fn failed<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {error}")
}

/// An error unless something is as it should be.
pub fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
