//! Memory that follows containers that run at the destination already (post-copy), as their source sees it.
//!
//! The source's copy stands still with all its memory, by the freezer alone: CRIU lets go of it when the dump is complete.
//! Pages are read from it for the destination until that says that none is missing, and only then it is ended. A helper
//! that dies here does no harm: the next one finds the processes as they were.

use super::departures::kept;
use super::given_away::{by_force, given_away_stands, not_run_there};
use super::{Migrate, talk};
use crate::checkpoint::dump::{Still, Verdict};
use crate::checkpoint::memory::FrozenMemory;
use crate::checkpoint::mend;
use crate::failure::{Failure, OrFail};
use crate::handover::{Arrival, Request};
use crate::migration::words::Standing;
use crate::network::inside;
use crate::network::netns::NetNs;
use crate::operations::checkpoint::Member;
use crate::operations::several;
use crate::pager::words::{PROOF, Question, proof};
use crate::saga::Step;
use crate::store::CheckpointId;
use crate::world::Context;
use crate::world::memories::Memory;
use std::time::Duration;

/// Between two questions how far it is.
const PACE: Duration = Duration::from_millis(300);

/// What CRIU has in hand.
pub struct InHand {
    name: String,
    init: i32,
    still: Option<Still>,
}

/// Takes it out of their hands.
pub fn in_hand(members: &mut [Member]) -> Vec<InHand> {
    let of =
        |member: &mut Member| InHand { name: member.name.clone(), init: member.init.pid, still: member.still.take() };
    members.iter_mut().map(of).collect()
}

/// CRIU lets go of it, and nothing that its sockets say gets out any more: it is the destination's turn to speak. By the
/// freezer it stands still on.
pub fn let_go(mut in_hand: Vec<InHand>) -> Result<(), Failure> {
    // In whatever order: their dumps are done, and rules in one namespace are changed one after the other.
    let let_go = |InHand { name, init, still }: &mut InHand| {
        let failed = || format!("{name} cannot be made to wait for its memory to follow");
        if let Some(still) = still.take() {
            still.end(Verdict::GiveUp).or_fail(failed)?;
        }
        mend::silence(*init).or_fail(failed)
    };
    several::try_each(&mut in_hand, let_go)
}

/// What goes on here speaks again.
pub fn may_speak(members: &[Member]) -> Result<(), Failure> {
    members.iter().filter(|member| member.init.is_alive()).try_for_each(|member| {
        let failed = || format!("{} is not heard any more", member.name);
        let network = NetNs::of_process(member.init.pid.unsigned_abs()).or_fail(failed)?;
        inside::release(&network).or_fail(failed)
    })
}

/// The destination may read their memory from here on.
pub fn lend(migrate: &Migrate, context: &Context) -> Result<(), Failure> {
    migrate.freeze.members().iter().filter(|member| !context.memories.has(&member.checkpoint)).try_for_each(|member| {
        let memory = FrozenMemory::of(&member.init);
        let memory = memory.or_fail(|| format!("the memory of {} cannot be read", member.name))?;
        context.memories.keep(member.checkpoint.clone(), Memory::of(migrate.id().clone(), memory));
        Ok(())
    })
}

/// It may not any more; returns when nobody reads.
pub fn take_back(migrate: &Migrate, context: &Context) {
    let memories = migrate.freeze.members().iter().filter_map(|member| context.memories.take(&member.checkpoint));
    memories.for_each(|memory| memory.close());
}

/// Pages that a destination asks for, and their proof. They are told to the migration's destination alone.
pub fn pages(context: &Context, peer: &str, id: &CheckpointId, question: &Question) -> Result<Vec<u8>, Failure> {
    let refused = || Failure::refused(format!("no memory of migration {id} follows from here"));
    kept(context, id)?.filter(|kept| kept.peer == peer).ok_or_else(refused)?;
    let bytes = question.bytes().ok_or_else(|| Failure::usage("more is asked for at once than may be"))?;
    let checkpoint: CheckpointId = question.checkpoint.parse().map_err(|_| refused())?;
    let memory = context.memories.get(&checkpoint).filter(|memory| memory.is_of(id)).ok_or_else(refused)?;
    let mut pages = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default() + PROOF);
    let read = memory.with(|memory| memory.read(question.process, &question.ranges, &mut pages)).ok_or_else(refused)?;
    read.or_fail(|| format!("pages of migration {id} cannot be read"))?;
    let proved = proof(question, &pages);
    pages.extend(proved);
    Ok(pages)
}

/// Waits until the destination misses nothing any more. Until then this host's copy may be all that there is.
pub fn follow() -> Step<Migrate, Context> {
    fn run(migrate: &mut Migrate, context: &Context) -> Result<(), Failure> {
        if migrate.decided.is_some() {
            return Ok(());
        }
        lend(migrate, context)?;
        context.told.note(&format!(
            "{0} runs on {1}, and its memory follows; until it is there, both hosts and the network between them are needed",
            migrate.name(),
            migrate.peer
        ));
        let mut is_cut_off = false;
        loop {
            match talk::say(&migrate.peer, migrate.id(), Request::Ask) {
                Ok(standing) if standing.arrival == Arrival::Released && standing.problem.is_none() => {
                    is_cut_off = false;
                    if let Some(told) = &standing.follows {
                        context.told.bytes("memory", told.total - told.left.min(told.total), told.total);
                    }
                }
                Ok(standing) => {
                    // It was said to run there, whatever is said by now.
                    let ran = |arrival| if arrival == Arrival::Dropped { Arrival::Lost } else { arrival };
                    let standing = Standing { arrival: ran(standing.arrival), ..standing };
                    given_away_stands(migrate, context, standing.arrival)?;
                    return match standing.arrival {
                        Arrival::Running => Ok(()),
                        _ => Err(not_run_there(migrate, standing)),
                    };
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_cut_off, true) {
                        let (name, peer) = (migrate.name(), &migrate.peer);
                        context.told.note(&format!(
                            "{peer} cannot be asked ({error}); {name} stands still there on the next page that it misses, \
                             and goes on when it can be"
                        ));
                    }
                }
            }
            // The network has no event that says when it works again, or how far the other host is.
            if let Some(decision) = context.decisions.wait(migrate.id(), PACE) {
                take_back(migrate, context);
                return by_force(migrate, context, decision);
            }
        }
    }
    Step::new("follow", run, |migrate, context| {
        take_back(migrate, context);
        Ok(())
    })
}
