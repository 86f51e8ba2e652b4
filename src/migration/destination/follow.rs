//! Memory that follows containers that run here already (post-copy), as their destination sees it.
//!
//! Until all of it is here they are [`Arrival::Released`] and not `Running`: their source keeps its copy, and where they are
//! lost here a person can take that back.

use super::Arrive;
use super::at_the_gate;
use super::heard::heard;
use crate::failure::{Failure, OrFail};
use crate::handover::{Arrival, Request, arrival};
use crate::pager::{self, Seen, Told, Watch};
use crate::process::Identity;
use crate::saga::Step;
use crate::world::Context;
use crate::world::decisions::Decision;
use crate::world::visits::Word;
use std::time::Duration;

/// How long a pager is listened to before words are.
const LISTENING: Duration = Duration::from_millis(200);

/// A container whose memory follows it.
struct Follower {
    container: String,
    init: Option<Identity>,
    watch: Watch,
    told: Told,
    is_whole: bool,
}

/// Waits until nothing is missing any more.
pub fn follow() -> Step<Arrive, Context> {
    fn run(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        if arrive.arrival != Arrival::Released {
            return Ok(());
        }
        let mut followers = followers(arrive, context)?;
        while followers.iter().any(|follower| !follower.is_whole) {
            for follower in followers.iter_mut().filter(|follower| !follower.is_whole) {
                if !listen(follower)? {
                    return Err(lose(arrive, context, &follower.container));
                }
            }
            let told = sum(&followers);
            arrive.visit(context).change(|standing| standing.follows = Some(told));
            hear(arrive, context)?;
        }
        followers.iter().try_for_each(|follower| {
            pager::end(&follower.container).or_fail(|| format!("what served memory to {} is not gone", arrive.name()))
        })?;
        arrive.stands(context, arrive.arrival.on(arrival::Event::Runs).next)
    }
    Step::new("follow", run, |_, _| Ok(()))
}

fn followers(arrive: &Arrive, context: &Context) -> Result<Vec<Follower>, Failure> {
    let follower = |container: String| {
        let found = context.docker.container(&container).or_fail(|| format!("{container:.12} cannot be looked at"))?;
        let (init, watch) = (found.pid().and_then(Identity::of), Watch::over(&container));
        Ok(Follower { container, init, watch, told: Told::default(), is_whole: false })
    };
    arrive.containers().into_iter().map(|container| follower(container.to_string())).collect()
}

/// Whether its memory is not lost.
fn listen(follower: &mut Follower) -> Result<bool, Failure> {
    let failed = || format!("what serves memory to container {:.12} cannot be heard", follower.container);
    match follower.watch.next(LISTENING).or_fail(failed)? {
        Seen::Told(told) => follower.told = told,
        Seen::All => {
            follower.told.left = 0;
            follower.is_whole = true;
        }
        // It has come to its end by itself, as any container may: nobody misses anything any more.
        _ if !follower.init.is_some_and(|init| init.is_alive()) => follower.is_whole = true,
        Seen::Nothing => {}
        Seen::Died => return Ok(false),
    }
    Ok(true)
}

fn sum(followers: &[Follower]) -> Told {
    let mut sum = Told::default();
    for Follower { told, .. } in followers {
        sum.total += told.total;
        sum.left += told.left;
        sum.problem = sum.problem.or_else(|| told.problem.clone());
    }
    sum
}

/// What is said meanwhile: a source that has not heard that it runs says so once more, and a person may have enough of it.
fn hear(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
    while let Some(word) = arrive.visit(context).next_word(Duration::ZERO) {
        match word {
            Word::Forced(event) => {
                if event == arrival::Event::ForceDrop {
                    arrive.decided = Some(Decision::Drop);
                }
                heard(arrive, context, event)?;
            }
            Word::Handover(Request::Offer | Request::Commit | Request::Drop | Request::Ask) | Word::Restore(_) => {}
        }
        arrive.visit(context).hear();
    }
    Ok(())
}

/// What served its memory has died: it stands still on the next page, and would go on with an empty one if that were not
/// so (I4). It is ended, and its source still has it.
fn lose(arrive: &mut Arrive, context: &Context, container: &str) -> Failure {
    let (name, peer) = (arrive.name(), arrive.peer.clone());
    let failure = Failure::new(format!("what served memory to container {container:.12} of {name} has died"));
    if let Err(failure) = at_the_gate::end_all(arrive, context) {
        return failure;
    }
    if let Err(failure) = arrive.stands(context, arrive.arrival.on(arrival::Event::Gone).next) {
        return failure;
    }
    arrive.visit(context).hear();
    failure.remedy(format!(
        "{peer} still has it, frozen, with all its memory: decide there; then, here, transship resume OPERATION removes what \
         is left of it (see transship status)"
    ))
}
