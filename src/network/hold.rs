//! The hold on the host: packets of a container that is away wait until it is back.
//!
//! Placed over new connections first (so that the application can accept what it has), then tightened over everything, a
//! hold parks packets in a netfilter queue and lets them go, in order, when it is released. To whoever sent them it was a
//! slow moment: nothing was refused, nothing has to be sent again.
//!
//! ```text
//!   place ──> (new ones wait) ──> tighten ──> (all that comes waits) ──> close ──> expect back ──> (all waits) ──> release
//!                                                          │
//!                        the helper dies: rules stay, packets are dropped and sent again
//!                                                          │
//!                                          readopt, or sweep when nobody knows the hold
//! ```
//!
//! Before [`Hold::release`]: the container runs or is about to, its tracked connections are put back (I6), and it has
//! announced its hardware address, lest the host send the parked packets to the one it had before.
//!
//! What a hold on the host does not see: packets between containers on one bridge (unless bridged packets pass iptables),
//! which [`StandIn`](super::neighbours::StandIn) brings to the host; and macvlan and ipvlan networks, which go around the
//! host's own stack altogether.
//!
//! What it cannot save: open connections through Docker's userland proxy (a client on the host itself that came by
//! 127.0.0.1), since they end in a process that Docker stops. New ones to the same port wait like all others.
//!
//! Limits of the kernel's: when any netfilter hook of the namespace is unregistered (a base chain deleted, the last rule
//! that needs connection tracking removed), or a device taken down, it drops what is parked. Senders send it again then.
//!
//! All of this acts on the calling thread's network namespace: the host's.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::libc;
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::queue::{self, Keeper};
use super::rules::{self, Mode, Placed};
use super::spec::{HoldSpec, ReplyTuple};

/// The numbers of the queues for holds: high enough not to meet those people give by hand.
const QUEUES: std::ops::RangeInclusive<u16> = 0x5453..=0x5652;

/// How much a hold may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Packets parked at most; the kernel drops, and counts, what comes on top.
    pub max_packets: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { max_packets: 65_536 }
    }
}

/// What a hold has done, told at its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HoldReport {
    /// Packets that waited and then went on.
    pub parked: u64,
    /// Packets dropped because the bound was reached.
    pub dropped: u64,
    /// From the first rule to the last packet let go.
    pub held: Duration,
}

/// A hold in place. Dropped without [`release`](Self::release) its rules stay, so that what a crash leaves behind is a
/// container nobody can reach rather than one that refuses its clients; [`sweep`] and [`Hold::readopt`] see to the rest.
#[must_use = "dropping a hold loses the parked packets and leaves its rules"]
pub struct Hold {
    spec: HoldSpec,
    queue: u16,
    /// Its rules, where it is known for certain which they are.
    placed: Option<Vec<Placed>>,
    keeper: Option<Keeper>,
    since: Instant,
}

/// A queue for a hold that is going to be placed: looking for a free one takes time, which nobody need be away for.
/// Dropped, nothing is left of it.
pub struct FreeQueue(Keeper);

impl std::fmt::Debug for FreeQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FreeQueue").field(&self.0.queue).finish()
    }
}

impl FreeQueue {
    /// Opens the first queue that nobody listens to and no rules lead to.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(bounds: Bounds) -> Result<Self> {
        free_queue(bounds).map(Self)
    }
}

impl Hold {
    /// Holds new TCP connections to the container; open ones go on.
    ///
    /// # Errors
    /// When no queue is free, or iptables refuses; then nothing is left behind.
    pub fn place(spec: HoldSpec, bounds: Bounds) -> Result<Self> {
        Self::place_on(FreeQueue::open(bounds)?, spec)
    }

    /// The same with a queue that was opened before.
    ///
    /// # Errors
    /// When iptables refuses; then nothing is left behind.
    pub fn place_on(queue: FreeQueue, spec: HoldSpec) -> Result<Self> {
        Self::on(queue.0, spec, Mode::NewOnly)
    }

    /// Holds everything from the start: for a container that is not there yet.
    ///
    /// # Errors
    /// As [`place`](Self::place).
    pub fn place_all(spec: HoldSpec, bounds: Bounds) -> Result<Self> {
        Self::on(FreeQueue::open(bounds)?.0, spec, Mode::All)
    }

    /// Takes over a hold over everything whose helper has died, by the number it had.
    ///
    /// # Errors
    /// As [`place`](Self::place); what rules there are stay.
    pub fn readopt(spec: HoldSpec, queue: u16, bounds: Bounds) -> Result<Self> {
        let since = Instant::now();
        let keeper = Keeper::open(queue, bounds.max_packets)?;
        rules::apply(&spec, queue, Mode::All, rules::list)?;
        Ok(Self { spec, queue, placed: None, keeper: Some(keeper), since })
    }

    /// The queue comes first: rules that lead to no queue drop.
    fn on(keeper: Keeper, spec: HoldSpec, mode: Mode) -> Result<Self> {
        let since = Instant::now();
        let queue = keeper.queue;
        match rules::apply(&spec, queue, mode, |_| Ok(Vec::new())) {
            Ok(placed) => Ok(Self { spec, queue, placed: Some(placed), keeper: Some(keeper), since }),
            Err(error) => {
                take_back(queue, keeper);
                Err(error)
            }
        }
    }

    /// Holds everything that comes for the container from now on; what it still has to say goes out. (Parked packets
    /// are lost with the interface they came in by, so its own must not be parked while that is going to vanish.)
    /// `outbound` are the tuples on which replies to the container's own connections arrive,
    /// from [`outbound_replies`](super::tracking::outbound_replies).
    ///
    /// # Errors
    /// Those of iptables; one family may be held altogether by then, the other not. It may be called again.
    pub fn tighten(&mut self, outbound: Vec<ReplyTuple>) -> Result<()> {
        self.switch(Mode::Inbound, outbound)
    }

    /// Holds what is sent in the container's name as well, for when its processes stand still and are ended: that its
    /// connections end is not said.
    ///
    /// # Errors
    /// As [`tighten`](Self::tighten).
    pub fn close(&mut self, outbound: Vec<ReplyTuple>) -> Result<()> {
        self.switch(Mode::Closing, outbound)
    }

    /// The frozen processes are gone, and who speaks in the container's name from now on is the restored one. It must not
    /// be heard before its connections are tracked again; but what it says, the end of a connection too, is kept for then.
    ///
    /// # Errors
    /// As [`tighten`](Self::tighten).
    pub fn expect_back(&mut self) -> Result<()> {
        self.switch(Mode::All, self.spec.outbound.clone())
    }

    fn switch(&mut self, mode: Mode, outbound: Vec<ReplyTuple>) -> Result<()> {
        let spec = HoldSpec { outbound, ..self.spec.clone() };
        let before = self.placed.take();
        let present = |family| match &before {
            Some(placed) => Ok(rules::jumps(placed, self.queue, family)),
            None => rules::list(family),
        };
        let now = rules::apply(&spec, self.queue, mode, present)?;
        self.placed = before.map(|before| rules::merge(before, now));
        self.spec = spec;
        Ok(())
    }

    /// Lets every parked packet go, in the order they came, and those that still come; then takes the rules away.
    ///
    /// # Errors
    /// Where iptables fails its rules lead to a queue that lets everything pass, and `release` may be called again.
    pub fn release(&mut self) -> Result<HoldReport> {
        let report = self.lift()?;
        forget_shared();
        Ok(report)
    }

    /// The same, but for what all holds share: [`forget_shared`] has to follow, when nobody is waited for any more.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub fn lift(&mut self) -> Result<HoldReport> {
        self.let_pass()?;
        rules::remove(self.queue, self.placed.as_deref())?;
        let keeper = self.keeper.take().ok_or(Error::AlreadyReleased { queue: self.queue })?;
        let tally = keeper.close()?;
        Ok(HoldReport { parked: tally.parked, dropped: tally.dropped, held: self.since.elapsed() })
    }

    /// Ends the waiting at once; [`release`](Self::release) has to follow.
    ///
    /// # Errors
    /// When the keeper is gone, or the hold was released before.
    pub fn let_pass(&mut self) -> Result<()> {
        let keeper = self.keeper.as_mut().ok_or(Error::AlreadyReleased { queue: self.queue })?;
        keeper.let_pass()
    }

    /// The number of its queue: what [`readopt`](Self::readopt) knows it by. To be journalled.
    pub fn queue(&self) -> u16 {
        self.queue
    }

    /// What it holds. To be journalled.
    pub fn spec(&self) -> &HoldSpec {
        &self.spec
    }

    /// How many packets wait in it now.
    ///
    /// # Errors
    /// When the queue is gone.
    pub fn waiting(&self) -> Result<u64> {
        Ok(queue::waiting_and_dropped(self.queue)?.0)
    }
}

/// Takes away what holds share, unless there is one, and what those left behind that could not be lifted.
pub fn forget_shared() {
    // Somebody else may have changed the rules just then. Whoever lifts the next hold tries again, if there is one.
    match sweep().or_else(|_| sweep()) {
        Ok(swept) if swept.is_empty() => {}
        Ok(swept) => tracing::warn!(?swept, "holds that could not be lifted are swept"),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "what holds share could not be taken away");
        }
    }
}

/// The first queue that nobody listens to and no rules lead to: those of a hold without a helper are not ours to take.
fn free_queue(bounds: Bounds) -> Result<Keeper> {
    // Two holds of this process that look at the same time would find the same queue free.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut taken = queue::in_use()?;
    taken.extend(rules::queues_with_rules()?);
    for queue in QUEUES.filter(|queue| !taken.contains(queue)) {
        match Keeper::open(queue, bounds.max_packets) {
            // Somebody was quicker.
            Err(Error::Netlink { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => {}
            other => return other,
        }
    }
    Err(Error::NoFreeQueue { first: *QUEUES.start(), last: *QUEUES.end() })
}

/// After a failed [`Hold::place`]: the failure is reported, not what follows from it.
fn take_back(queue: u16, keeper: Keeper) {
    let removed = rules::sweep_one(queue).and_then(|()| keeper.close().map(drop));
    if let Err(error) = removed.and_then(|()| sweep().map(drop)) {
        tracing::warn!(queue, error = &error as &dyn std::error::Error, "cannot take a failed hold back");
    }
}

/// Removes the rules that lead to a queue nobody listens to: what a helper does when it starts and has taken over the holds
/// it knows (I5). Returns the queues of the holds it removed.
///
/// # Errors
/// Those of iptables.
pub fn sweep() -> Result<Vec<u16>> {
    rules::sweep(queue::in_use)
}

#[cfg(test)]
mod tests;
