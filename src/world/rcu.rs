//! The kernel's grace periods, shortened while containers are away.
//!
//! Before the kernel frees an interface, a netfilter table or a socket, it waits until no processor can be using it any more: a
//! *grace period* of RCU, some 10 ms each. Docker and the hold cause several of them, one after the other, between the moment
//! a container stands still and the moment it runs again. `/sys/kernel/rcu_expedited` makes the kernel ask all processors at once
//! instead of waiting until each has come by: under a millisecond, for the price of an interrupt to each (kernel:
//! `Documentation/admin-guide/kernel-parameters.txt`, `rcupdate.rcu_expedited`; the same switch shortens boot and suspend).
//!
//! The switch is the host's. It is thrown only where it was off, for as long as somebody asks for it, and put back after;
//! a note in `/run` tells the next helper of one that could not.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SWITCH: &str = "/sys/kernel/rcu_expedited";
/// There while the switch is on by us.
const NOTE: &str = "/run/transship/rcu-expedited";

/// The switch, and for how many it is on.
#[derive(Debug)]
pub struct Rcu {
    switch: PathBuf,
    note: PathBuf,
    is_wanted: bool,
    holders: Mutex<Holders>,
}

#[derive(Debug, Default)]
struct Holders {
    count: usize,
    is_ours: bool,
}

/// Grace periods are short until this is dropped.
#[derive(Debug)]
#[must_use = "grace periods are as long as before when it is dropped"]
pub struct Expedited {
    rcu: Arc<Rcu>,
}

impl Rcu {
    /// Nothing is changed yet, nor ever if it is not wanted.
    pub fn of_this_host(is_wanted: bool) -> Arc<Self> {
        Arc::new(Self { switch: SWITCH.into(), note: NOTE.into(), is_wanted, holders: Mutex::default() })
    }

    /// Shortens grace periods until the answer, and those of others who asked, are dropped. Where the kernel does not let us
    /// all goes on as well, and slower.
    pub fn expedite(self: &Arc<Self>) -> Expedited {
        let mut holders = self.holders();
        if holders.count == 0 && self.is_wanted {
            holders.is_ours = self.turn_on().unwrap_or_else(|error| {
                tracing::debug!(%error, "the kernel's grace periods stay as they are");
                false
            });
        }
        holders.count += 1;
        Expedited { rcu: Arc::clone(self) }
    }

    /// Puts back what a helper that was killed has left on (I5).
    pub fn sweep(&self) -> io::Result<()> {
        match self.note.try_exists()? {
            true => self.turn_off(),
            false => Ok(()),
        }
    }

    /// Whether it was off, and is on by us now.
    fn turn_on(&self) -> io::Result<bool> {
        if std::fs::read_to_string(&self.switch)?.trim() != "0" {
            return Ok(false);
        }
        std::fs::write(&self.note, "")?;
        let turned = std::fs::write(&self.switch, "1");
        if turned.is_err() {
            std::fs::remove_file(&self.note)?;
        }
        turned.map(|()| true)
    }

    fn turn_off(&self) -> io::Result<()> {
        std::fs::write(&self.switch, "0")?;
        std::fs::remove_file(&self.note)
    }

    fn holders(&self) -> MutexGuard<'_, Holders> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        let mut holders = self.rcu.holders();
        holders.count -= 1;
        if holders.count == 0
            && std::mem::take(&mut holders.is_ours)
            && let Err(error) = self.rcu.turn_off()
        {
            tracing::error!(%error, "{SWITCH} could not be set back to 0; the next start of the helper tries again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Host {
        _dir: tempfile::TempDir,
        rcu: Arc<Rcu>,
    }

    fn host(switch: &str, is_wanted: bool) -> Host {
        let dir = tempfile::tempdir().unwrap();
        let (path, note) = (dir.path().join("switch"), dir.path().join("note"));
        std::fs::write(&path, switch).unwrap();
        Host { _dir: dir, rcu: Arc::new(Rcu { switch: path, note, is_wanted, holders: Mutex::default() }) }
    }

    impl Host {
        fn is_on(&self) -> bool {
            std::fs::read_to_string(&self.rcu.switch).unwrap().trim() == "1"
        }
    }

    #[test]
    fn i5_it_is_on_for_as_long_as_anybody_asks_and_not_longer() {
        let host = host("0\n", true);
        let (first, second) = (host.rcu.expedite(), host.rcu.expedite());
        assert!(host.is_on());
        drop(first);
        assert!(host.is_on());
        drop(second);
        assert!(!host.is_on());
        assert!(!host.rcu.note.exists());
    }

    #[test]
    fn i5_what_an_operator_has_turned_on_stays_on() {
        let host = host("1\n", true);
        drop(host.rcu.expedite());
        host.rcu.sweep().unwrap();
        assert!(host.is_on());
    }

    #[test]
    fn i5_the_next_helper_puts_back_what_a_killed_one_left() {
        let host = host("0\n", true);
        std::mem::forget(host.rcu.expedite());
        host.rcu.sweep().unwrap();
        assert!(!host.is_on());
        host.rcu.sweep().unwrap();
    }

    #[test]
    fn who_does_not_want_it_has_it_left_alone() {
        let host = host("0\n", false);
        let asked = host.rcu.expedite();
        assert!(!host.is_on());
        drop(asked);
    }
}
