//! The steps of `arrive`, each beside its undo.

use super::arrivals::{kept, put_on_disk};
use super::heard::{ask_source, heard};
use super::member::{self, Member};
use super::place::put_in_place;
use super::{Arrive, admit, at_the_gate, binds, disk, memory};
use crate::docker::{DockerError, is_same_network, labelled, network_request};
use crate::failure::{Failure, OrFail};
use crate::handover::{Arrival, arrival};
use crate::migration::networks;
use crate::operations::{self, brought, several};
use crate::pager::Told;
use crate::restore::prepare;
use crate::saga::{Operation, Step};
use crate::store::claims::Decider;
use crate::store::handovers::LABEL;
use crate::store::staging::Durability;
use crate::world::Context;
use crate::world::decisions::Decision;
use crate::world::visits::Word;
use serde_json::{Value, json};
use std::time::Duration;

type ArriveStep = Step<Arrive, Context>;

/// How long a source may say nothing before it is asked, once its container is restored.
const SILENCE: Duration = Duration::from_secs(30);

/// So many silences in a row, without a byte of a file either, and it does not come any more: an hour, for a source that
/// copies a large volume on its own disk first.
const SILENCES: u32 = 120;

fn nothing(_: &mut Arrive, _: &Context) -> Result<(), Failure> {
    Ok(())
}

/// Networks and volumes that lack, and the containers, stopped and without a restart policy.
pub fn make() -> ArriveStep {
    fn run(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        let failed = || format!("{} cannot be made", arrive.name());
        // What another has made since it was asked for first.
        admit::look(context, &arrive.peer, &arrive.offer)?;
        for told in &arrive.offer.networks {
            let name = told["Name"].as_str().unwrap_or_default();
            if arrive.networks.iter().any(|lacks| lacks == name) && context.docker.network(name).is_err() {
                make_network(arrive, context, told)?;
            }
        }
        for told in &arrive.offer.volumes {
            let request = json!({ "Name": told["Name"], "Labels": told["Labels"] });
            let request = labelled(request, LABEL, arrive.id.as_str());
            context.docker.create_volume(&request).or_fail(failed)?;
            let name = told["Name"].as_str().unwrap_or_default();
            if !is_made_for(arrive, &context.docker.volume(name).or_fail(failed)?) {
                // Docker takes one of that name for the one that was asked for.
                return Err(Failure::new(format!("the volume {name} was made by somebody else meanwhile")));
            }
        }
        binds::make(&arrive.offer.binds, &arrive.id)?;
        for number in 0..arrive.members.len() {
            make_one(arrive, context, number)?;
        }
        // The images, too, which came before. It costs nobody anything now: the source's containers run.
        disk::write_out(context, &arrive.docker_root(context)?)?;
        let containers = arrive.containers();
        arrive.visit(context).change(|standing| standing.containers = containers);
        Ok(())
    }
    fn undo(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        arrive.visit(context).close_intake();
        memory::forget(context, &arrive.id)?;
        for member in arrive.members.iter().rev() {
            if let Some(staging) = context.catalog.staging(&member.checkpoint) {
                staging.discard().or_fail(|| format!("what came of {} cannot be removed", member.name))?;
            }
            if let Some(container) = made_here(arrive, member, context)? {
                context.docker.remove(&container).or_fail(|| format!("{} cannot be removed", member.name))?;
            }
        }
        binds::remove(&arrive.offer.binds, &arrive.id)?;
        for volume in &arrive.volumes {
            let failed = || format!("the volume {volume} cannot be removed");
            if is_there_for(arrive, context.docker.volume(volume)).or_fail(failed)? {
                context.docker.remove_volume(volume).or_fail(failed)?;
            }
        }
        for network in &arrive.networks {
            let failed = || format!("the network {network} cannot be removed");
            let is_ours = is_there_for(arrive, context.docker.network(network)).or_fail(failed)?;
            // Another migration may have come to use it meanwhile.
            if is_ours && !networks::is_used(&context.containers().or_fail(failed)?, network) {
                context.docker.remove_network(network).or_fail(failed)?;
            }
        }
        brought::give_up(context, &arrive.peer, &arrive.id)
    }
    Step::new("make", run, undo)
}

/// Another migration may be at making the same one.
fn make_network(arrive: &Arrive, context: &Context, told: &Value) -> Result<(), Failure> {
    let name = told["Name"].as_str().unwrap_or_default();
    let made = context.docker.create_network(&labelled(network_request(told), LABEL, arrive.id.as_str()));
    match context.docker.network(name) {
        Ok(here) if is_same_network(&here, told) => Ok(()),
        _ => made.or_fail(|| format!("the network {name} cannot be made")),
    }
}

fn make_one(arrive: &mut Arrive, context: &Context, number: usize) -> Result<(), Failure> {
    let (name, checkpoint) = (arrive.members[number].name.clone(), arrive.members[number].checkpoint.clone());
    let failed = || format!("a container {name} cannot be made");
    let request = labelled(member::request(&arrive.inspect_to_be(number)?), LABEL, arrive.id.as_str());
    let id = context.docker.create(&name, &request).or_fail(failed)?;
    arrive.members[number].container = Some(id.parse().or_fail(failed)?);
    context.catalog.begin(&checkpoint).or_fail(|| format!("the store cannot take the checkpoint of {name}")).map(drop)
}

fn is_made_for(arrive: &Arrive, told: &Value) -> bool {
    told["Labels"][LABEL] == arrive.id.as_str()
}

/// Whether it is there, and was made for this migration.
fn is_there_for(arrive: &Arrive, told: Result<Value, DockerError>) -> Result<bool, DockerError> {
    match told {
        Ok(told) => Ok(is_made_for(arrive, &told)),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The container that was made for a member. A helper that died over that has not noted which.
fn made_here(arrive: &Arrive, member: &Member, context: &Context) -> Result<Option<String>, Failure> {
    if let Some(container) = &member.container {
        return Ok(Some(container.to_string()));
    }
    match context.docker.container(&member.name) {
        Ok(found) => Ok((found.label(LABEL) == Some(arrive.id.as_str())).then(|| found.id().to_owned())),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(Failure::new(format!("{} cannot be looked at", member.name)).because(&error)),
    }
}

/// The checkpoints' files, until the source says that all are there; then every digest (I4).
pub fn receive() -> ArriveStep {
    fn run(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        let manifests = wait_for_manifests(arrive, context)?;
        arrive.visit(context).close_intake();
        if manifests.len() != arrive.members.len() {
            return Err(Failure::new(format!("{} manifests came for {}", manifests.len(), arrive.name())));
        }
        let mut received: Vec<_> = arrive.members.iter().zip(&manifests).collect();
        several::try_each(&mut received, |(member, manifest)| adopt(member, manifest, context))?;
        memory::forget(context, &arrive.id)
    }
    fn undo(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        arrive.members.iter().try_for_each(|member| {
            prepare::forget(context, &member.checkpoint);
            let removed = context.catalog.remove_if_there(&member.checkpoint);
            removed.or_fail(|| format!("the checkpoint of {} cannot be removed", member.name))
        })
    }
    Step::new("receive", run, undo)
}

fn adopt(member: &Member, manifest: &str, context: &Context) -> Result<(), Failure> {
    let failed = || format!("the checkpoint of {} is not what it should be", member.name);
    let staging = context.catalog.staging(&member.checkpoint).ok_or_else(|| Failure::new(failed()))?;
    staging.adopt(manifest.as_bytes(), Durability::FilesAreOnDisk, &|_| {}).or_fail(failed)?;
    // What lies there was hashed just now.
    prepare::adopted(&context.world, &member.checkpoint).map(drop)
}

fn wait_for_manifests(arrive: &mut Arrive, context: &Context) -> Result<Vec<String>, Failure> {
    let visit = arrive.visit(context);
    let (mut silences, mut signs) = (0, 0);
    loop {
        let heard_of = visit.signs_of_life();
        if heard_of != signs {
            (silences, signs) = (0, heard_of);
        }
        match visit.next_word(SILENCE) {
            Some(Word::Restore(manifests)) => return Ok(manifests),
            Some(Word::Handover(request)) => heard(arrive, context, arrival::Event::Request(request))?,
            Some(Word::Forced(event)) => heard(arrive, context, event)?,
            None if silences >= SILENCES => {
                return Err(Failure::new(format!("{} has not sent all of {}", arrive.peer, arrive.name())));
            }
            None => {
                silences += 1;
                if silences > 1 {
                    ask_source(arrive, context)?;
                }
            }
        }
    }
}

/// Their files where Docker's storage driver looks for them, and their volumes'.
pub fn place() -> ArriveStep {
    Step::new("place", put_in_place, nothing)
}

/// The next create of each restores its checkpoint; that they run is decided by the first one's claim alone.
pub fn claim() -> ArriveStep {
    fn run(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        let [first, ..] = arrive.members.as_slice() else { return Ok(()) };
        let decider = Decider { container: first.id()?.clone(), checkpoint: first.checkpoint.clone() };
        for member in &arrive.members {
            let failed = || format!("{} cannot be claimed", member.name);
            let claim = operations::claim(context, member.id()?, &member.checkpoint).or_fail(failed)?;
            let claim = if *member.id()? == decider.container { claim } else { claim.decided_by(decider.clone()) };
            context.claims.place(&claim).or_fail(failed)?;
        }
        Ok(())
    }
    fn undo(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        // A loss of power may have taken from the journal which containers they are.
        let withdrawn = arrive.members.iter().try_for_each(|member| context.claims.withdraw_all_of(&member.checkpoint));
        withdrawn.or_fail(|| format!("the claims on {} cannot be withdrawn", arrive.name()))
    }
    Step::new("claim", run, undo)
}

/// `docker start`, which restores them and comes back when they run. Done when they stand ready at the gate.
pub fn start() -> ArriveStep {
    fn run(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        match at_the_gate::bring(arrive, context)? {
            Some(_) => Ok(()),
            None => Err(Failure::new(format!("the checkpoint of {} is damaged", arrive.name()))),
        }
    }
    fn undo(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        at_the_gate::end_all(arrive, context)?;
        let failed = || format!("the claims on {} cannot be given back", arrive.name());
        arrive.containers().iter().try_for_each(|container| {
            if arrive.is_taken_back() {
                // It was given to this host, and may have been let go.
                context.claims.finish(container).or_fail(failed)?;
            }
            context.claims.give_back(container).or_fail(failed)
        })
    }
    Step::new("start", run, undo)
}

/// The source is told that they are restored, and decides.
pub fn wait_for_word() -> ArriveStep {
    fn run(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        let visit = arrive.visit(context);
        if arrive.arrival == Arrival::Expecting {
            arrive.stands(context, arrive.arrival.on(arrival::Event::Restored).next)?;
            visit.hear();
        } else {
            // A helper before this one had told so. What it had restored is gone with it, and never ran.
            if at_the_gate::bring(arrive, context)?.is_none() {
                arrive.stands(context, arrive.arrival.on(arrival::Event::Gone).next)?;
                return Err(Failure::new(format!("what came of {} is not whole any more", arrive.name())));
            }
            // Its files may have been put in place once more.
            arrive.stands(context, arrive.arrival)?;
        }
        while arrive.arrival == Arrival::Restored {
            match visit.next_word(SILENCE) {
                Some(Word::Handover(request)) => heard(arrive, context, arrival::Event::Request(request))?,
                Some(Word::Forced(event)) => heard(arrive, context, event)?,
                Some(Word::Restore(_)) => visit.hear(),
                None => ask_source(arrive, context)?,
            }
        }
        Ok(())
    }
    Step::new("await", run, nothing)
}

/// From here on they run here.
pub fn release() -> ArriveStep {
    fn run(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        let name = arrive.name();
        if !matches!(arrive.arrival, Arrival::Released | Arrival::Running) {
            return Err(Failure::new(format!("{name} is not to run here: its source was told {:?}", arrive.arrival)));
        }
        let failed = || format!("{name} was given to this host and does not run");
        let [first, ..] = arrive.members.as_slice() else { return Err(Failure::new(failed())) };
        let is_claimed = context.claims.find(first.id()?).or_fail(failed)?.is_some();
        // What was let go may have run, and is not restored once more.
        let may_still_start = is_claimed && !context.claims.is_committed(first.id()?);
        let let_run = if may_still_start { at_the_gate::let_run(arrive, context)? } else { None };
        let some_run = let_run.as_ref().is_some_and(|failed| failed.len() < arrive.members.len());
        let event = match some_run || at_the_gate::any_runs(arrive, context)? {
            true => arrival::Event::Runs,
            false => arrival::Event::Gone,
        };
        if event == arrival::Event::Gone && arrive.decided == Some(Decision::Run) {
            // The source may be no more, and then this is all that there is of it: it is not lost yet.
            return Err(Failure::new(failed()).remedy(format!(
                "see on {} whether it is still there; transship resume OPERATION tries it here again, and \
                 transship decide OPERATION drop removes it (see transship status)",
                arrive.peer
            )));
        }
        if event == arrival::Event::Runs && arrive.arrival == Arrival::Released && arrive.offer.memory.is_some() {
            // It runs; that it needs nobody any more is said when all its memory is here.
            arrive.visit(context).change(|standing| standing.follows = Some(Told::default()));
            arrive.visit(context).hear();
            return whole(&let_run.unwrap_or_default());
        }
        let next = arrive.arrival.on(event).next;
        if event == arrival::Event::Gone
            && let Err(failure) = at_the_gate::end_all(arrive, context)
        {
            tracing::error!(migration = %arrive.id, %failure, "what was not let run is ended later");
        }
        arrive.stands(context, next)?;
        arrive.visit(context).hear();
        match next {
            Arrival::Running => whole(&let_run.unwrap_or_default()),
            _ => Err(Failure::new(failed()).remedy(format!(
                "{} still has it, frozen: decide there; then, here, transship resume OPERATION removes what is left of it \
                 (see transship status)",
                arrive.peer
            ))),
        }
    }
    Step::new("release", run, nothing)
}

/// Whether all that were let go run; those that do not were given to this host all the same (I8).
fn whole(failed: &[String]) -> Result<(), Failure> {
    match failed {
        [] => Ok(()),
        failed => {
            Err(Failure::new(format!("{} was let go and does not run; what came with it does", failed.join(", ")))
                .remedy("its checkpoint is kept until: transship resume OPERATION (see transship status)"))
        }
    }
}

/// What came is put on disk, and the checkpoints that brought it are of no use any more.
pub fn settle() -> ArriveStep {
    fn run(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        if let Some(kept) = kept(context, &arrive.id)?.filter(|kept| !kept.is_on_disk)
            && let Err(failure) =
                arrive.docker_root(context).and_then(|root| put_on_disk(context, &arrive.id, kept, &root))
        {
            tracing::warn!(migration = %arrive.id, %failure, "its source keeps what it has until it has asked for it again");
        }
        binds::keep(&arrive.offer.binds)?;
        brought::keep(context, &arrive.id)?;
        arrive.members.iter().try_for_each(|member| {
            context.settling.wait_until_taken(member.id()?);
            context.landings.take(member.id()?);
            context.packing.stop(&member.checkpoint);
            let removed = context.catalog.remove_if_there(&member.checkpoint);
            removed.or_fail(|| format!("the checkpoint of {} cannot be removed", member.name))
        })
    }
    Step::new("settle", run, nothing)
}
