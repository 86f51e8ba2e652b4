//! The one step of `return`: group by group they come back, several at a time.

use super::{Group, Homecoming};
use crate::failure::{Failure, OrFail};
use crate::handover::Arrival;
use crate::migration::asking;
use crate::migration::evacuate;
use crate::migration::words::{self, LABEL};
use crate::operations::persist;
use crate::saga::Step;
use crate::store::handovers::About;
use crate::transport::client::PeerError;
use crate::world::Context;
use crate::world::landing::Kept;
use crate::world::sending_back::SendingBack;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many at a time share the link and the disks.
const AT_ONCE: usize = 2;

/// How long a peer may not answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two questions. A peer sends no events.
const PAUSE: Duration = Duration::from_millis(500);

/// How long either host may take to be done with a migration that was cut short: who was told nothing asks after 30 s.
const UNDOING: Duration = Duration::from_secs(90);

/// All that has left comes back. What does not runs where it is, and keeps nobody from coming.
pub fn bring() -> Step<Homecoming, Context> {
    fn run(homecoming: &mut Homecoming, context: &Context) -> Result<(), Failure> {
        let slots: Vec<Mutex<&mut Group>> = homecoming.groups.iter_mut().map(Mutex::new).collect();
        let (next, was_cut_short) = (AtomicUsize::new(0), homecoming.is_taken_up);
        let work = || {
            while let Some(slot) = slots.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut group = slot.lock().unwrap_or_else(PoisonError::into_inner);
                let come = come_back(context, &group, was_cut_short)
                    .and_then(|()| evacuate::is_back(context, &group.migration));
                group.is_back = come.is_ok();
                group.failure = come.err();
                let doing = if group.is_back { "is back" } else { "did not come back" };
                context.told.part(&group.title(), doing, 1, 1);
            }
        };
        std::thread::scope(|threads| (0..AT_ONCE.min(slots.len())).for_each(|_| drop(threads.spawn(work))));
        Ok(())
    }
    fn nothing(_: &mut Homecoming, _: &Context) -> Result<(), Failure> {
        Ok(())
    }
    Step::new("bring", run, nothing)
}

fn come_back(context: &Context, group: &Group, mut was_cut_short: bool) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        // A helper before this one may have asked for it.
        if is_here(context, group)? {
            return Ok(());
        }
        match ask(context, group)? {
            SendingBack::Sent => return Ok(()),
            SendingBack::Failed(_) if was_cut_short && begun.elapsed() < UNDOING => std::thread::sleep(PAUSE),
            SendingBack::Failed(problem) => {
                let mut failure = Failure::new(format!("{} does not send {} back", group.peer, group.title()));
                failure.why = std::iter::once(problem.what).chain(problem.why).collect();
                failure.remedy = problem.remedy;
                return Err(failure);
            }
            SendingBack::NotHere => {
                return match is_here(context, group)? {
                    true => Ok(()),
                    false => Err(Failure::new(format!("{} is not on {} any more", group.title(), group.peer))
                        .remedy("look for it there; where it has gone on to, migrate it from")),
                };
            }
            SendingBack::Idle | SendingBack::UnderWay if begun.elapsed() < UNDOING => was_cut_short = true,
            SendingBack::Idle | SendingBack::UnderWay => {
                let (peer, title) = (&group.peer, group.title());
                return Err(Failure::new(format!("{peer} has begun to send {title} back, and does not end it"))
                    .remedy("see there: transship status"));
            }
        }
    }
}

/// Asks the peer to send them, and waits until it is at it no more.
fn ask(context: &Context, group: &Group) -> Result<SendingBack, Failure> {
    let path = words::path(&group.migration, "return");
    let peer = asking::peer(&group.peer);
    let mut standing = insist(group, || peer.post(&path, &json!({}), None))?;
    context.told.part(&group.title(), &format!("comes from {}", group.peer), 1, 1);
    while matches!(standing, SendingBack::UnderWay) {
        std::thread::sleep(PAUSE);
        standing = insist(group, || peer.get(&path))?;
    }
    Ok(standing)
}

/// Says it again while the peer cannot be reached; what it refuses it refuses.
fn insist(group: &Group, say: impl Fn() -> Result<SendingBack, PeerError>) -> Result<SendingBack, Failure> {
    let begun = Instant::now();
    loop {
        match say() {
            Err(error) if !matches!(error, PeerError::Refused { .. }) && begun.elapsed() < PATIENCE => {
                tracing::info!(peer = group.peer, %error, "cannot be asked to send containers back; asking on");
                std::thread::sleep(PAUSE);
            }
            told => {
                let what = || format!("{} cannot be asked to send {} back", group.peer, group.title());
                return told.map_err(|error| persist::failed(&error, what()));
            }
        }
    }
}

/// Whether all of them run here, and came from that peer.
fn is_here(context: &Context, group: &Group) -> Result<bool, Failure> {
    let failed = || format!("whether {} is back cannot be looked at", group.title());
    let all = context.containers().or_fail(failed)?;
    for name in &group.names {
        let Some(found) = all.iter().find(|container| container.name() == name) else { return Ok(false) };
        let Some(Ok(migration)) = found.label(LABEL).map(str::parse) else { return Ok(false) };
        let kept: Option<Kept> = context.handovers.get(About::Arrival, &migration).or_fail(failed)?;
        let has_come = |kept: Kept| kept.peer == group.peer && kept.arrival == Arrival::Running;
        if !found.is_running() || !kept.is_some_and(has_come) {
            return Ok(false);
        }
    }
    Ok(true)
}
