//! The steps of `migrate`, each beside its undo.

use super::departures::write_down;
use super::given_away::{by_force, give_away, given_away_stands, let_pass, not_run_there};
use super::memory::{Dumped, Follow, Mode};
use super::talk::{self, Heard};
use super::{Migrate, files, follow, images, logs, lost, visitors};
use crate::checkpoint::{mapped, mend};
use crate::failure::{Failure, OrFail};
use crate::handover::departure::Outcome;
use crate::handover::{Departure, Request, departure};
use crate::migration::{networks, tree};
use crate::network::tracking;
use crate::operations;
use crate::operations::checkpoint::{Checkpoint, Member, steps as freeze_steps};
use crate::operations::persist::{self, Patience, Persistence};
use crate::restore::{prepare, settle};
use crate::saga::{Operation, Step};
use crate::world::Context;
use std::time::{Duration, Instant};

type MigrateStep = Step<Migrate, Context>;

/// How long the destination is told of the commit before a person is asked. A link that is down comes back.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a destination that has been given up is told so, before it is left to ask.
const GIVING_UP: Duration = Duration::from_secs(3);

/// How long processes may take to end that CRIU has ended: much memory takes its time. What ends later than that is lost.
const ENDING: Duration = Duration::from_secs(120);

/// From so many bytes on, how long they took tells what the network carries.
const TELLS: u64 = 16 << 20;

fn nothing(_: &mut Migrate, _: &Context) -> Result<(), Failure> {
    Ok(())
}

/// Whether one that is taken back has no processes any more: its checkpoint is all that there is of it, and stays, with what
/// keeps Docker and its visitors from it until it is restored.
fn stays_frozen(member: &Member, context: &Context) -> bool {
    let claim = context.claims.find(&member.id);
    claim.map_or(true, |claim| claim.is_some_and(|claim| claim.checkpoint == member.checkpoint))
}

/// Undoes a step of `checkpoint` on those that go on here.
fn undo_here(
    migrate: &mut Migrate,
    context: &Context,
    undo: fn(&mut Checkpoint, &Context) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let is_taken_back = migrate.is_taken_back();
    let goes_on = |member: &Member| !is_taken_back || !stays_frozen(member, context);
    migrate.freeze.only(goes_on, |freeze| undo(freeze, context))
}

/// Whether it has processes here that can go on. Where nobody has its dump in hand, CRIU goes by the claim and may be ending
/// them just now, or have done so: they are there for a while yet.
fn has_processes(member: &Member, mode: Mode) -> bool {
    // Where memory follows CRIU has let go of them, and ends nothing.
    if member.still.is_some() || mode.has_memory_follow() {
        return member.init.is_alive();
    }
    mend::wait_for_dump_to_end(&member.work_directory());
    member.init.outlives(ENDING)
}

/// A step of `checkpoint` on the containers that move.
macro_rules! of_checkpoint {
    ($name:ident, $label:literal, $doc:literal) => {
        #[doc = $doc]
        pub fn $name() -> MigrateStep {
            Step::new(
                $label,
                |migrate, context| (freeze_steps::$name().run)(&mut migrate.freeze, context),
                |migrate, context| undo_here(migrate, context, freeze_steps::$name().undo),
            )
        }
    };
}

of_checkpoint!(set_aside, "set-aside", "Their restart policies must not start them afresh.");
of_checkpoint!(hold, "hold", "Packets to them are parked.");
of_checkpoint!(freeze, "freeze", "They stand still from here on.");
of_checkpoint!(
    seal,
    "seal",
    "What they are frozen as becomes checkpoints of this host, until the destination runs them."
);

/// Their memory and processes; then they wait for the verdict. Where the peer has most of their memory already, what CRIU
/// writes goes there as it is written.
pub fn dump() -> MigrateStep {
    fn run(migrate: &mut Migrate, context: &Context) -> Result<(), Failure> {
        let Some(known) = migrate.known.clone() else {
            return (freeze_steps::dump().run)(&mut migrate.freeze, context);
        };
        let members = migrate.freeze.members().iter();
        let images = members
            .map(|member| Ok((member.checkpoint.clone(), member.staging()?.images())))
            .collect::<Result<_, Failure>>()?;
        let peer = talk::sending(migrate, persist::STANDING_STILL.stall);
        let (id, name) = (migrate.id().clone(), migrate.peer.clone());
        let Migrate { freeze, cancel, sent, bodies, .. } = migrate;
        let persistence = Persistence::with(&name, context.told.as_ref(), cancel, persist::STANDING_STILL);
        let mut follow = Follow { peer, id, images, known, cancel, persistence, bodies };
        let dumped = Dumped::default();
        let (written, followed) = std::thread::scope(|threads| {
            let following = threads.spawn(|| follow.run(&dumped));
            let written = (freeze_steps::dump().run)(freeze, context);
            dumped.tell(written.is_ok());
            (written, following.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        written?;
        for pages in followed? {
            sent.entry(pages.checkpoint).or_default().note(pages.path, pages.sent_bytes);
        }
        Ok(())
    }
    fn undo(migrate: &mut Migrate, context: &Context) -> Result<(), Failure> {
        undo_here(migrate, context, freeze_steps::dump().undo)
    }
    Step::new("dump", run, undo)
}

/// The destination says whether they can come, gets their images, and makes the containers.
pub fn expect() -> MigrateStep {
    fn run(migrate: &mut Migrate, context: &Context) -> Result<(), Failure> {
        let welcome = talk::look(context, migrate)?;
        images::bring(context, migrate, &welcome)?;
        talk::prepare(context, migrate)
    }
    Step::new("expect", run, give_up)
}

/// By now the containers run here again. The destination need not be asked: without a commit nothing runs there. It is
/// told, so that it keeps nothing; where it cannot be, it will ask.
fn give_up(migrate: &mut Migrate, context: &Context) -> Result<(), Failure> {
    if migrate.departure == Departure::Contested {
        // A person has heard that it runs on both, and takes it up again: the peer keeps saying so, and need not be asked.
        context.told.note(&format!("{} was taken back here by force, and ran on {}", migrate.name(), migrate.peer));
        migrate.departure = Departure::Closed(Outcome::Kept);
        return write_down(migrate, context);
    }
    migrate.departure = match migrate.is_taken_back() {
        true => Departure::GivenUp,
        false => migrate.departure.on(departure::Event::GiveUp).next,
    };
    write_down(migrate, context)?;
    match talk::insist(context, migrate, Request::Drop, GIVING_UP) {
        Ok(Heard::Says(standing)) => {
            migrate.departure = migrate.departure.on(departure::Event::Answer(standing.arrival)).next;
            write_down(migrate, context)?;
            match migrate.departure {
                Departure::Contested => {
                    let (name, peer) = (migrate.name(), &migrate.peer);
                    let forced = match migrate.is_taken_back() {
                        true => format!("{name} was taken back here by force, and runs on {peer}"),
                        false => format!("{name} goes on here, and was let run on {peer} by force"),
                    };
                    Err(Failure::new(format!(
                        "{forced}; stop one of the two (docker stop {name}, here or there), then: transship resume OPERATION"
                    )))
                }
                _ => Ok(()),
            }
        }
        Ok(Heard::Decided(_)) => Ok(()),
        Err(error) => {
            context.told.note(&format!("{} keeps a stopped copy until it can ask this host: {error}", migrate.peer));
            Ok(())
        }
    }
}

/// Files, volumes and logs go while it runs, so that little is left for when it stands still.
pub fn pre_copy() -> MigrateStep {
    fn run(migrate: &mut Migrate, context: &Context) -> Result<(), Failure> {
        (freeze_steps::pre_copy().run)(&mut migrate.freeze, context)?;
        let Migrate { volumes, binds, freeze, .. } = migrate;
        // The first one's checkpoint brings them all: two may use the same.
        let staging = freeze.leader().staging()?;
        let volumes = volumes.iter_mut().enumerate();
        let mut trees: Vec<_> =
            volumes.map(|(number, one)| (tree::files(tree::VOLUMES, number), &mut one.tree)).collect();
        let binds = binds.iter_mut().enumerate();
        trees.extend(binds.filter_map(|(number, one)| Some((tree::files(tree::BINDS, number), one.tree_mut()?))));
        for (files, tree) in &mut trees {
            tree.copy(files, staging)?;
        }
        if !trees.is_empty() {
            staging.hash_ahead(&|_| {}).or_fail(|| "their volumes cannot be read again".into())?;
        }
        migrate.logs = logs::copy(migrate.freeze.members())?;
        send_files(migrate, context, persist::RUNNING)
    }
    fn undo(migrate: &mut Migrate, context: &Context) -> Result<(), Failure> {
        (freeze_steps::pre_copy().undo)(&mut migrate.freeze, context)
    }
    Step::new("pre-copy", run, undo)
}

fn send_files(migrate: &mut Migrate, context: &Context, patience: Patience) -> Result<(), Failure> {
    let begun = Instant::now();
    let before: u64 = migrate.sent.values().map(|sent| sent.bytes).sum();
    let directory = |member: &Member| {
        let directory = match context.catalog.get(&member.checkpoint) {
            Ok(checkpoint) => checkpoint.dir(),
            Err(_) => member.staging()?.dir().to_owned(),
        };
        Ok((member.checkpoint.clone(), directory))
    };
    let directories: Vec<_> = migrate.freeze.members().iter().map(directory).collect::<Result<_, Failure>>()?;
    let mut sent = std::mem::take(&mut migrate.sent);
    let done = files::send(context, migrate, &directories, (&mut sent, patience));
    migrate.sent = sent;
    let bytes = migrate.sent.values().map(|sent| sent.bytes).sum::<u64>() - before;
    if bytes >= TELLS {
        migrate.measured_link = Some((bytes as f64 / begun.elapsed().as_secs_f64()) as u64);
    }
    done
}

/// Files, volumes, logs, connections and addresses as they are now.
pub fn copy() -> MigrateStep {
    fn run(migrate: &mut Migrate, context: &Context) -> Result<(), Failure> {
        (freeze_steps::copy().run)(&mut migrate.freeze, context)?;
        let members = migrate.freeze.members().iter();
        let always = members.flat_map(|member| mapped::writable_shared_files(member.init.pid)).collect();
        if migrate.closes_lost {
            lost::write_down(context, migrate)?;
        }
        logs::copy_rest(&mut migrate.logs, migrate.freeze.members())?;
        let staging = migrate.freeze.leader().staging()?;
        let volumes = migrate.volumes.iter().enumerate();
        let volumes = volumes.map(|(number, one)| (tree::files(tree::VOLUMES, number), &one.tree));
        let binds = migrate.binds.iter().enumerate();
        let binds = binds.filter_map(|(number, one)| Some((tree::files(tree::BINDS, number), one.tree()?)));
        volumes.chain(binds).try_for_each(|(files, tree)| tree.copy_rest(&files, staging, &always))
    }
    Step::new("copy", run, nothing)
}

/// Everything that is not there yet.
pub fn ship() -> MigrateStep {
    fn run(migrate: &mut Migrate, context: &Context) -> Result<(), Failure> {
        let in_hand = match migrate.mode.has_memory_follow() {
            true => follow::in_hand(migrate.freeze.members_mut()),
            false => Vec::new(),
        };
        std::thread::scope(|threads| {
            let letting_go = threads.spawn(|| follow::let_go(in_hand));
            let sent = send_files(migrate, context, persist::STANDING_STILL);
            letting_go.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).and(sent)
        })
    }
    fn undo(migrate: &mut Migrate, _: &Context) -> Result<(), Failure> {
        match migrate.mode.has_memory_follow() {
            true => follow::may_speak(migrate.freeze.members()),
            false => Ok(()),
        }
    }
    Step::new("ship", run, undo)
}

/// The destination restores them, and they stand still there as well.
pub fn restore() -> MigrateStep {
    fn run(migrate: &mut Migrate, context: &Context) -> Result<(), Failure> {
        if migrate.is_given_away(context).unwrap_or_default() {
            // A helper before this one has heard that they run there by force.
            migrate.departure = Departure::Committed;
            return Ok(());
        }
        migrate.departure = migrate.departure.on(departure::Event::Frozen).next;
        write_down(migrate, context)?;
        if migrate.mode.has_memory_follow() {
            follow::lend(migrate, context)?;
        }
        let manifest = |member: &Member| {
            let failed = || format!("the checkpoint of {} cannot be read", member.name);
            let checkpoint = context.catalog.get(&member.checkpoint).or_fail(failed)?;
            std::fs::read_to_string(checkpoint.manifest_path()).or_fail(failed)
        };
        let manifests = migrate.freeze.members().iter().map(manifest).collect::<Result<_, Failure>>()?;
        let standing = talk::restore(context, migrate, manifests)?;
        migrate.containers_there = standing.containers;
        migrate.boot_there = Some(standing.boot);
        migrate.departure = migrate.departure.on(departure::Event::Answer(standing.arrival)).next;
        match migrate.departure {
            Departure::Ready => Ok(()),
            // A person there has let them run by force: they are not this host's any more, whatever comes next.
            Departure::Committed => {
                migrate.cancel.has_committed();
                give_away(migrate, context)
            }
            other => Err(Failure::new(format!("{} is not ready for {}: {other:?}", migrate.peer, migrate.name()))),
        }
    }
    Step::new("restore", run, |migrate, context| {
        follow::take_back(migrate, context);
        Ok(())
    })
}

/// The point of no return. The first one's claim is it, for all of them, and is placed last: CRIU's action scripts and every
/// later helper look at that one.
pub fn commit() -> MigrateStep {
    fn run(migrate: &mut Migrate, context: &Context) -> Result<(), Failure> {
        give_away(migrate, context)
    }
    /// The first one's claim is changed first: while it is as it was, the others follow it.
    fn undo(migrate: &mut Migrate, context: &Context) -> Result<(), Failure> {
        let (is_taken_back, mode) = (migrate.is_taken_back(), migrate.mode);
        // CRIU goes by the claim, so it has to be done with all of them before that changes.
        let stays_frozen = |member: &Member| is_taken_back && !has_processes(member, mode);
        let stay_frozen: Vec<bool> = migrate.freeze.members().iter().map(stays_frozen).collect();
        for (member, stays_frozen) in migrate.freeze.members().iter().zip(stay_frozen) {
            let undone = match stays_frozen {
                true => context.claims.stays_here(&member.id, &member.checkpoint),
                false => context.claims.withdraw_of(&member.id, &member.checkpoint),
            };
            undone.or_fail(|| format!("the claim on {} cannot be changed", member.name))?;
        }
        Ok(())
    }
    Step::new("commit", run, undo)
}

/// The destination is told until it says that it runs (I3).
pub fn release() -> MigrateStep {
    fn run(migrate: &mut Migrate, context: &Context) -> Result<(), Failure> {
        if let Some(decision) = migrate.decided {
            return by_force(migrate, context, decision);
        }
        // The rest is the destination's to hurry with.
        migrate.freeze.no_hurry();
        let heard = talk::insist(context, migrate, Request::Commit, PATIENCE).map_err(|error| {
            let what = format!("{} was given to {}, which has not said that it runs", migrate.name(), migrate.peer);
            persist::failed(&error, what)
                .remedy("bring the peer back, then: transship resume OPERATION (see transship status)")
        })?;
        let standing = match heard {
            Heard::Says(standing) => standing,
            Heard::Decided(decision) => return by_force(migrate, context, decision),
        };
        given_away_stands(migrate, context, standing.arrival)?;
        let follows = migrate.mode.has_memory_follow() && standing.follows.is_some();
        let runs = match migrate.departure {
            Departure::Settled => true,
            // It misses memory still.
            Departure::Committed => follows,
            _ => false,
        };
        match runs {
            true => {
                migrate.ran_at = Some(jiff::Timestamp::now());
                let_pass(migrate, context)
            }
            false => Err(not_run_there(migrate, standing)),
        }
    }
    Step::new("release", run, nothing)
}

/// Visitors of their published ports, those with open connections too, are led after them. They are parked until those run;
/// but what those say first there comes by here, and would be answered with a reset.
pub fn forward() -> MigrateStep {
    fn run(migrate: &mut Migrate, context: &Context) -> Result<(), Failure> {
        visitors::lead(migrate, context)
    }
    /// Whoever was led to the destination finds the container here again.
    fn undo(migrate: &mut Migrate, context: &Context) -> Result<(), Failure> {
        for member in migrate.freeze.members() {
            operations::forward::end_of(context, &member.checkpoint)?;
            if has_processes(member, migrate.mode)
                && let Ok(checkpoint) = context.catalog.get(&member.checkpoint)
            {
                let network = prepare::network(&checkpoint)?;
                let put_back = tracking::put_back(&network.tracked);
                put_back.or_fail(|| format!("the open connections of {} cannot be led here again", member.name))?;
            }
        }
        Ok(())
    }
    Step::new("forward", run, undo)
}

/// The frozen copies end without a word to anybody; those that joined a network go before its owner.
pub fn stop() -> MigrateStep {
    fn run(migrate: &mut Migrate, context: &Context) -> Result<(), Failure> {
        let closes_lost = migrate.closes_lost;
        follow::take_back(migrate, context);
        migrate.freeze.members_mut().iter_mut().rev().try_for_each(|member| {
            if closes_lost {
                lost::tell_neighbours(context, member);
            }
            let still = member.still.take();
            freeze_steps::end_processes(context, member, still)?;
            member.remove_work_directory();
            settle::lift_hold(context, &member.id);
            operations::forward::give_way(context, &member.checkpoint)
        })
    }
    Step::new("stop", run, nothing)
}

/// What is left of them here. A container that stays keeps its claim, so that nothing starts it beside the one that runs.
pub fn remove() -> MigrateStep {
    fn run(migrate: &mut Migrate, context: &Context) -> Result<(), Failure> {
        operations::forward::sweep(context).map(drop)?;
        migrate.departure = migrate.departure.on(departure::Event::Ended).next;
        write_down(migrate, context)?;
        if migrate.keep_source || migrate.decided.is_some() {
            return Ok(());
        }
        talk::sync(context, migrate)?;
        let failed = || format!("what is left of {} here cannot be removed", migrate.name());
        let members = || migrate.freeze.members().iter().rev();
        for member in members() {
            context.docker.remove(member.id.as_str()).or_fail(failed)?;
        }
        for volume in &migrate.volumes {
            context.docker.remove_volume(&volume.name).or_fail(failed)?;
        }
        if let Err(failure) = networks::remove_left(context, migrate.freeze.members()) {
            context.told.note(&failure.to_string());
        }
        members().try_for_each(|member| {
            context.claims.withdraw(&member.id).or_fail(failed)?;
            context.catalog.remove_if_there(&member.checkpoint).or_fail(failed)
        })
    }
    Step::new("remove", run, nothing)
}
