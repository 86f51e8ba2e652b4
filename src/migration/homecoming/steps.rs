//! The one step of `return`: group by group they come back, several at a time.

use super::{Group, Homecoming};
use crate::failure::{Failure, OrFail};
use crate::handover::Arrival;
use crate::migration::asking;
use crate::migration::evacuate;
use crate::migration::words;
use crate::operations::persist::{Persistence, RUNNING};
use crate::operations::several;
use crate::saga::Step;
use crate::store::handovers::{About, LABEL};
use crate::world::Context;
use crate::world::cancels::Cancellable;
use crate::world::landing::Kept;
use crate::world::sending_back::SendingBack;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many at a time share the link and the disks.
const AT_ONCE: usize = 2;

/// Between two questions. A peer sends no events.
const PAUSE: Duration = Duration::from_millis(500);

/// How long either host may take to be done with a migration that was cut short: who was told nothing asks after 30 s.
const UNDOING: Duration = Duration::from_secs(90);

/// All that has left comes back. What does not runs where it is, and keeps nobody from coming.
pub fn bring() -> Step<Homecoming, Context> {
    fn run(homecoming: &mut Homecoming, context: &Context) -> Result<(), Failure> {
        let (cancel, was_cut_short) = (Arc::clone(&homecoming.cancel), homecoming.is_taken_up);
        several::each(&mut homecoming.groups, AT_ONCE, |group| {
            let come = come_back(context, group, &cancel, was_cut_short);
            let come = come.and_then(|()| evacuate::is_back(context, &group.migration));
            group.is_back = come.is_ok();
            group.failure = come.err();
            let doing = if group.is_back { "is back" } else { "did not come back" };
            context.told.part(&group.title(), doing, 1, 1);
        });
        homecoming.is_cancelled = cancel.is_cancelled();
        Ok(())
    }
    fn nothing(_: &mut Homecoming, _: &Context) -> Result<(), Failure> {
        Ok(())
    }
    Step::new("bring", run, nothing)
}

fn come_back(context: &Context, group: &Group, cancel: &Cancellable, mut was_cut_short: bool) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        // A helper before this one may have asked for it.
        if is_here(context, group)? {
            return Ok(());
        }
        if !was_cut_short {
            cancel.go_ahead(false)?;
        }
        let standing = ask(context, group, cancel)?;
        if !matches!(standing, SendingBack::Sent | SendingBack::NotHere) {
            // Whoever has cancelled it has had it kept there.
            cancel.go_ahead(false)?;
        }
        match standing {
            SendingBack::Sent => return Ok(()),
            SendingBack::Failed(_) if was_cut_short && begun.elapsed() < UNDOING => cancel.pause(PAUSE)?,
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

/// Asks the peer to send them, and waits until it is at it no more. Where that is cancelled, or was so before, the peer is asked
/// to keep them, and waited for as well: it may have given them away already.
fn ask(context: &Context, group: &Group, cancel: &Cancellable) -> Result<SendingBack, Failure> {
    let nobody = Cancellable::default();
    let persistence = Persistence::with(&group.peer, context.told.as_ref(), &nobody, RUNNING);
    let cannot = || format!("{} cannot be asked to send {} back", group.peer, group.title());
    let say = |what: &'static str| {
        let (peer, path) = (asking::peer(&group.peer), words::path(&group.migration, what));
        persistence.ask_within(RUNNING.broken, move |left| peer.post(&path, &json!({}), Some(left)), cannot)
    };
    let mut standing = say(if cancel.is_cancelled() { "keep" } else { "return" })?;
    context.told.part(&group.title(), &format!("comes from {}", group.peer), 1, 1);
    let mut pauses = cancel;
    while matches!(standing, SendingBack::UnderWay) {
        standing = match pauses.pause(PAUSE) {
            Ok(()) => {
                let (peer, path) = (asking::peer(&group.peer), words::path(&group.migration, "return"));
                persistence.ask_at_hand(move |left| peer.get_within(&path, left), cannot)?
            }
            Err(_) => {
                pauses = &nobody;
                say("keep")?
            }
        };
    }
    Ok(standing)
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
