//! Containers that come from a peer: restored and stopped here, and let go on their source's word only (I2).
//!
//! ```text
//!   docker start ─► create ─► (waits for the checkpoint) ─► restored ─► start ─► (waits for the word) ─► runs
//!                      │                                                  │
//!                   expected                                          stopped ─► told to the source
//! ```
//!
//! A container whose network others join goes *ahead*: Docker starts those only when it has taken that one as started, so its
//! `start` is answered at once. Its processes stand still like the others'.

use crate::docker::Container;
use crate::failure::Failure;
use crate::handover::Arrival;
use crate::network::ways::Link;
use crate::pager;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is written down of a migration that comes here.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    /// Who it comes from; nobody else has a say in it.
    pub peer: String,
    /// Where it stands.
    pub arrival: Arrival,
    /// Why it came to nothing: whoever has not heard that asks again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Failure>,
    /// The boot of this host in which its files were put in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed_in: Option<String>,
    /// Whether all of that is known to be on disk.
    #[serde(default)]
    pub is_on_disk: bool,
}

impl Kept {
    /// Where it stands, and nothing else.
    pub fn of(peer: &str, arrival: Arrival) -> Self {
        Self { peer: peer.to_owned(), arrival, cause: None, placed_in: None, is_on_disk: false }
    }

    /// Whether all that came is on disk once everything is written out in this boot: what was not when an earlier one ended is
    /// lost. Not known of what an older helper has taken in.
    pub fn is_whole_in(&self, boot: &str) -> Option<bool> {
        match self.is_on_disk {
            true => Some(true),
            false => self.placed_in.as_ref().map(|placed_in| placed_in == boot),
        }
    }
}

/// Whether a container that comes from a peer may run although nobody brings it to the gate now: its source's word is on
/// disk by then. One that is neither written down nor `under_way` did not come from a peer.
pub fn may_run_by_itself(kept: Option<&Kept>, under_way: bool) -> bool {
    kept.map_or(!under_way, |kept| matches!(kept.arrival, Arrival::Released | Arrival::Running))
}

/// How far one is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// Docker has not come to the point where it would run.
    Coming,
    /// It is restored, its network is in place, and it stands still.
    Stopped,
    /// The same, and Docker has taken it as started.
    Ahead,
    /// Its source has committed.
    Released,
    /// It must not run.
    Refused,
    /// Docker has started it, or has failed to, for this reason.
    Ended(Result<(), String>),
}

/// One container that comes from a peer.
#[derive(Debug)]
pub struct Landing {
    /// What `docker inspect` said of it where it comes from, with the addresses fixed that can be.
    pub inspect: Value,
    /// The host that it comes from and this one; visitors of its published ports are led here from there.
    pub link: Link,
    /// Where its memory comes from, where that follows it.
    pub memory: Option<pager::Source>,
    goes_ahead: bool,
    stage: Mutex<Stage>,
    changed: Condvar,
}

impl Landing {
    /// Nothing of it is here yet.
    pub fn of(inspect: Value, link: Link) -> Self {
        Self {
            inspect,
            link,
            memory: None,
            goes_ahead: false,
            stage: Mutex::new(Stage::Coming),
            changed: Condvar::new(),
        }
    }

    /// The same, of one whose memory follows it.
    pub fn with_memory_from(self, memory: Option<pager::Source>) -> Self {
        Self { memory, ..self }
    }

    /// The same, of one whose network others join.
    pub fn ahead_of_others(self) -> Self {
        Self { goes_ahead: true, ..self }
    }

    /// Whether Docker takes it as started before it runs.
    pub fn goes_ahead(&self) -> bool {
        self.goes_ahead
    }

    /// The container as it will be, under its id here, as long as Docker is at starting it.
    pub fn container(&self, id: &str) -> Option<Container> {
        if matches!(*self.lock(), Stage::Ended(_)) {
            return None;
        }
        let mut inspect = self.inspect.clone();
        inspect["Id"] = id.into();
        // Its processes are another host's as yet.
        inspect["State"] = json!({ "Status": "created", "Running": false, "Pid": 0 });
        Some(Container::new(inspect))
    }

    /// At the gate: it is ready to run. Returns when its source has decided: whether it may.
    pub fn wait_for_word(&self) -> bool {
        let mut stage = self.lock();
        if *stage == Stage::Coming {
            *stage = Stage::Stopped;
            self.changed.notify_all();
        }
        while *stage == Stage::Stopped {
            stage = self.changed.wait(stage).unwrap_or_else(PoisonError::into_inner);
        }
        *stage == Stage::Released
    }

    /// At the gate, of one that goes ahead: it is ready to run. Whether it is still wanted.
    pub fn stands_ready(&self) -> bool {
        let mut stage = self.lock();
        if *stage == Stage::Coming {
            *stage = Stage::Stopped;
        }
        *stage == Stage::Stopped
    }

    /// Returns when it stands ready, or will not come to that any more: whether it does. `None` where neither is so within
    /// `limit`.
    pub fn wait_until_stopped(&self, limit: Duration) -> Option<bool> {
        let ready = if self.goes_ahead { Stage::Ahead } else { Stage::Stopped };
        let is_on_its_way = |stage: &Stage| *stage != ready && matches!(stage, Stage::Coming | Stage::Stopped);
        let stage = self.wait_while(limit, is_on_its_way);
        (!is_on_its_way(&stage)).then_some(*stage == ready)
    }

    /// Lets it run. The decision is the source's, and is on disk by now.
    pub fn release(&self) {
        self.decide(Stage::Released);
    }

    /// It must not run, or its start has failed; nobody waits for it any more.
    pub fn refuse(&self) {
        self.decide(Stage::Refused);
    }

    /// Docker's start has come to its end.
    pub fn ended(&self, started: Result<(), String>) {
        let mut stage = self.lock();
        *stage = match (&*stage, started) {
            (Stage::Stopped, Ok(())) if self.goes_ahead => Stage::Ahead,
            (_, started) => Stage::Ended(started),
        };
        drop(stage);
        self.changed.notify_all();
    }

    /// Whether Docker's start has come to its end.
    pub fn has_ended(&self) -> bool {
        matches!(*self.lock(), Stage::Ended(_))
    }

    /// Returns when Docker's start has come to its end, or has not within `limit`: how.
    pub fn wait_for_end(&self, limit: Duration) -> Result<(), String> {
        match &*self.wait_while(limit, |stage| !matches!(stage, Stage::Ended(_))) {
            Stage::Ended(started) => started.clone(),
            _ => Err(format!("Docker has not come to an end of starting it within {} s", limit.as_secs())),
        }
    }

    fn wait_while(&self, limit: Duration, is_so: impl Fn(&Stage) -> bool) -> MutexGuard<'_, Stage> {
        let waited = self.changed.wait_timeout_while(self.lock(), limit, |stage| is_so(stage));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The first decision stands.
    fn decide(&self, decision: Stage) {
        let mut stage = self.lock();
        *stage = match (&*stage, decision) {
            (Stage::Coming | Stage::Stopped, decision) => decision,
            (Stage::Ahead, Stage::Released) => Stage::Ended(Ok(())),
            (Stage::Ahead, _) => Stage::Ended(Err("it is not let run".into())),
            _ => return,
        };
        drop(stage);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn a_docker_that_does_nothing_is_not_waited_for_without_end() {
        let landing = landing();
        assert_eq!(landing.wait_until_stopped(Duration::from_millis(1)), None);
        assert!(landing.wait_for_end(Duration::from_millis(1)).is_err());
    }

    fn landing() -> Landing {
        let here = [127, 0, 0, 1].into();
        Landing::of(Value::Null, Link { source: here, destination: here })
    }

    #[test]
    fn i2_it_waits_for_the_word_and_the_first_one_stands() {
        let landing = Arc::new(landing());
        let gate = Arc::clone(&landing);
        let asked = std::thread::spawn(move || gate.wait_for_word());
        assert_eq!(landing.wait_until_stopped(PATIENCE), Some(true));
        landing.refuse();
        landing.release();
        assert!(!asked.join().unwrap());
    }

    #[test]
    fn i2_one_that_goes_ahead_stands_ready_when_docker_has_taken_it_as_started() {
        let landing = landing().ahead_of_others();
        assert!(landing.stands_ready());
        assert_eq!(landing.wait_until_stopped(Duration::from_millis(1)), None, "Docker is still at it");
        landing.ended(Ok(()));
        assert_eq!(landing.wait_until_stopped(PATIENCE), Some(true));
        assert!(!landing.has_ended() && landing.container("here").is_some(), "it does not run");
        landing.release();
        landing.refuse();
        assert_eq!(landing.wait_for_end(PATIENCE), Ok(()));
    }

    #[test]
    fn i2_one_that_goes_ahead_and_is_given_up_has_not_come() {
        let ready = landing().ahead_of_others();
        assert!(ready.stands_ready());
        ready.ended(Ok(()));
        ready.refuse();
        assert!(ready.has_ended() && ready.wait_for_end(PATIENCE).is_err());
        assert_eq!(ready.wait_until_stopped(PATIENCE), Some(false));
        let late = landing().ahead_of_others();
        late.refuse();
        assert!(!late.stands_ready());
    }

    #[test]
    fn i1_one_that_is_refused_and_comes_to_the_gate_late_hears_no() {
        let landing = landing();
        landing.refuse();
        assert!(!landing.has_ended(), "Docker is still at it");
        assert!(!landing.wait_for_word());
        landing.ended(Err("refused".into()));
        assert!(landing.has_ended());
        assert!(!landing.wait_for_word());
    }

    #[test]
    fn what_was_not_on_disk_when_the_host_lost_its_power_may_be_missing() {
        let placed = Kept { placed_in: Some("first".into()), ..Kept::of("alpha", Arrival::Running) };
        assert_eq!((placed.is_whole_in("first"), placed.is_whole_in("second")), (Some(true), Some(false)));
        assert_eq!(Kept { is_on_disk: true, ..placed }.is_whole_in("second"), Some(true));
        assert_eq!(
            Kept::of("alpha", Arrival::Running).is_whole_in("first"),
            None,
            "an older helper has not written it down"
        );
    }

    #[test]
    fn i1_i2_what_came_from_a_peer_does_not_run_by_itself_without_its_word() {
        let may_run = |arrival, under_way| may_run_by_itself(Some(&Kept::of("alpha", arrival)), under_way);
        for under_way in [false, true] {
            let refused = [Arrival::Expecting, Arrival::Restored, Arrival::Dropped, Arrival::Lost];
            refused.into_iter().for_each(|arrival| assert!(!may_run(arrival, under_way), "{arrival:?}"));
            assert!(may_run(Arrival::Released, under_way) && may_run(Arrival::Running, under_way));
        }
        assert!(!may_run_by_itself(None, true), "nothing is written down before it is restored");
        assert!(may_run_by_itself(None, false), "it was frozen here");
    }

    #[test]
    fn while_docker_starts_it_it_is_told_as_one_that_does_not_run() {
        let here = [127, 0, 0, 1].into();
        let inspect = json!({ "Id": "there", "Name": "/web", "State": { "Status": "running", "Pid": 7 } });
        let landing = Landing::of(inspect, Link { source: here, destination: here });
        let told = landing.container("here").unwrap();
        assert_eq!((told.id(), told.name(), told.is_running(), told.pid()), ("here", "web", false, None));
        landing.ended(Ok(()));
        assert!(landing.container("here").is_none(), "Docker answers for itself");
    }

    #[test]
    fn a_start_that_fails_keeps_nobody_waiting() {
        let landing = landing();
        landing.refuse();
        assert_eq!(landing.wait_until_stopped(PATIENCE), Some(false));
        assert!(!landing.wait_for_word());
    }
}
