//! The copies between Docker's start and the source's word: restored, stopped, and ended again where they may not run.

use super::Arrive;
use super::place::put_in_place;
use crate::checkpoint::mend;
use crate::docker::Container;
use crate::failure::{Failure, OrFail};
use crate::migration::words;
use crate::network::hold::Hold;
use crate::network::published;
use crate::network::spec::HoldSpec;
use crate::operations::upgrade::order;
use crate::operations::{forward, holds, several};
use crate::pager;
use crate::restore::{addresses, prepare, settle, thaw};
use crate::store::ContainerId;
use crate::world::landing::Landing;
use crate::world::{Context, World};
use serde_json::Value;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long Docker may take to bring them to the gate. The source does not wait longer.
const LANDING: Duration = words::RESTORE;

/// How long dockerd may take to come up, where the whole host has just booted.
const DOCKER_PATIENCE: Duration = Duration::from_secs(600);

/// How long Docker may take to come to an end of starting one, once it is let go or refused.
pub const END_OF_START: Duration = Duration::from_secs(60);

/// The landings of containers that all stand ready at the gate, in the order of the offer; brings them there where they do
/// not. None where a checkpoint is not whole any more.
pub fn bring(arrive: &mut Arrive, context: &Context) -> Result<Option<Vec<Arc<Landing>>>, Failure> {
    let containers = arrive.containers();
    let landings: Vec<_> = containers.iter().filter_map(|container| context.landings.get(container)).collect();
    let all_are_ready = landings.len() == arrive.members.len()
        && landings.iter().all(|landing| landing.wait_until_stopped(Duration::ZERO) == Some(true));
    if all_are_ready {
        return Ok(Some(landings));
    }
    if !landings.is_empty() {
        // A start came to nothing, or was given up: nothing of it may be in the way of another one.
        end_all(arrive, context)?;
        arrive.is_placed = false;
    }
    if !arrive.is_placed && !put_in_place_again(arrive, context)? {
        return Ok(None);
    }
    start_all(arrive, context).map(Some)
}

/// A helper before this one had put the files in place, and may have died with the host's power. The checkpoint was on
/// disk by then, and what is in place is made from it again: `false` where it is not whole.
fn put_in_place_again(arrive: &mut Arrive, context: &Context) -> Result<bool, Failure> {
    let failed = || format!("{} cannot be made ready again", arrive.name());
    context.docker.wait_until_up(DOCKER_PATIENCE, || false).or_fail(failed)?;
    for container in arrive.containers().iter().rev() {
        // The start that the other helper was at ends by itself: nobody answers it at the gate.
        end(context, container)?;
        context.claims.give_back(container).or_fail(failed)?;
    }
    for member in &arrive.members {
        if let Err(failure) = prepare::verify(context, &member.checkpoint, &|_, _| {}) {
            tracing::error!(migration = %arrive.id, %failure, "what came from the peer is not whole any more");
            return Ok(false);
        }
    }
    put_in_place(arrive, context)?;
    Ok(true)
}

/// One that Docker is at starting.
struct Starting {
    name: String,
    landing: Arc<Landing>,
    thread: JoinHandle<Result<(), Failure>>,
}

fn start_all(arrive: &Arrive, context: &Context) -> Result<Vec<Arc<Landing>>, Failure> {
    let _hurry = context.hurry();
    let deadline = Instant::now() + LANDING;
    let mut expected = Vec::new();
    for number in 0..arrive.members.len() {
        expected.push((number, arrive.inspect_to_be(number)?));
    }
    several::try_each(&mut expected, |(number, inspect)| hold(arrive, *number, inspect, context))?;
    let mut landings = Vec::new();
    for (number, inspect) in expected {
        let landing = Landing::of(inspect, arrive.offer.link).with_memory_from(memory_source(arrive, number));
        landings.push(Arc::new(if arrive.is_joined(number) { landing.ahead_of_others() } else { landing }));
    }
    // Docker starts who uses another's network only when it has taken that one as started.
    for goes_ahead in [true, false] {
        let these = landings.iter().enumerate().filter(|(_, landing)| landing.goes_ahead() == goes_ahead);
        let starting: Vec<Starting> =
            these.map(|(number, _)| start(arrive, context, number, &landings)).collect::<Result<_, _>>()?;
        // Where one fails, the others have come to the gate before they are turned away there.
        let ended: Vec<_> = starting.into_iter().map(|starting| wait_for(starting, deadline)).collect();
        ended.into_iter().collect::<Result<(), Failure>>()?;
    }
    Ok(landings)
}

fn start(arrive: &Arrive, context: &Context, number: usize, landings: &[Arc<Landing>]) -> Result<Starting, Failure> {
    let (member, landing) = (&arrive.members[number], Arc::clone(&landings[number]));
    let (world, at_the_gate) = (Arc::clone(&context.world), Arc::clone(&landing));
    let (container, name) = (member.id()?.clone(), member.name.clone());
    context.landings.keep(container.clone(), Arc::clone(&landing));
    let starting = move || start_in_docker(&world, &container, &at_the_gate, &name);
    let thread = std::thread::Builder::new().name("landing".into()).spawn(starting).inspect_err(|error| {
        landing.ended(Err(error.to_string()));
    });
    let thread = thread.or_fail(|| format!("no thread to start {}", member.name))?;
    Ok(Starting { name: member.name.clone(), landing, thread })
}

fn wait_for(starting: Starting, deadline: Instant) -> Result<(), Failure> {
    let Starting { name, landing, thread } = starting;
    match landing.wait_until_stopped(deadline.saturating_duration_since(Instant::now())) {
        Some(true) => Ok(()),
        None => {
            landing.refuse();
            Err(Failure::new(format!("Docker has not restored {name} within {} s", LANDING.as_secs())))
        }
        Some(false) => match thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            Err(failure) => Err(failure),
            Ok(()) => Err(Failure::new(format!("{name} was started and not restored")).needs_person()),
        },
    }
}

fn start_in_docker(world: &Arc<World>, container: &ContainerId, landing: &Landing, name: &str) -> Result<(), Failure> {
    let started = addresses::start(world, container, &Container::new(landing.inspect.clone()));
    if let Err(failure) = &started {
        tracing::warn!(container = name, %failure, "could not be started");
    }
    // Where it did not come to the gate, nobody waits for it there.
    landing.ended(started.as_ref().map(drop).map_err(ToString::to_string));
    started
}

/// Its sockets speak as soon as they are restored, before its processes do, and its connections are not tracked by then
/// (I6). Lifted when it is let go. One that uses another's network has no hold of its own.
fn hold(arrive: &Arrive, number: usize, inspect: &Value, context: &Context) -> Result<(), Failure> {
    let member = &arrive.members[number];
    let container = member.id()?;
    let joins = Container::new(inspect.clone()).shares_network_of().is_some();
    if joins || context.holds.has(container) {
        // Or taken over from a helper that has died.
        return Ok(());
    }
    let failed = || format!("packets of container {container:.12} cannot be held");
    let checkpoint = context.catalog.get(&member.checkpoint).or_fail(failed)?;
    let network = thaw::arriving(prepare::network(&checkpoint)?, inspect, arrive.offer.link)?;
    // What is led here by tracked entries meets none as long as those are not there, and would be answered with a reset.
    let outbound = network.outbound();
    let spec = HoldSpec { outbound, ..published::from_inspect(inspect).or_fail(failed)? };
    let hold = Hold::place_all(spec, holds::bounds(context)).or_fail(failed)?;
    context.holds.keep(container.clone(), hold);
    Ok(())
}

/// Where a member's memory is to come from; nothing where it comes with its checkpoint.
fn memory_source(arrive: &Arrive, number: usize) -> Option<pager::Source> {
    let memory = arrive.offer.memory?;
    Some(pager::Source {
        peer: arrive.peer.clone(),
        path: words::pages_path(&arrive.id),
        checkpoint: arrive.members.get(number)?.checkpoint.to_string(),
        compress: memory.compress,
        rate: memory.rate,
    })
}

/// Ends what is restored and was not let go, those that use another's network first. Nobody has heard of it: its dying
/// sockets must not be heard either.
pub fn end_all(arrive: &Arrive, context: &Context) -> Result<(), Failure> {
    let failed = || format!("the restored copy of {} cannot be ended", arrive.name());
    let containers = arrive.containers();
    for waiting in containers.iter().filter_map(|container| context.waiting.take(container)) {
        mend::silence(waiting.pid).or_fail(failed)?;
    }
    for container in containers.iter().rev() {
        turn_away(context, container, END_OF_START)?;
        settle::lift_hold(context, container);
        end(context, container)?;
    }
    Ok(())
}

/// Ends a copy that Docker has taken as started, and returns when Docker has come to an end of it.
pub fn end(context: &Context, container: &ContainerId) -> Result<(), Failure> {
    let failed = || format!("the restored copy {container:.12} cannot be ended");
    let pid = match context.docker.container(container.as_str()) {
        // An undo before this one may have come further.
        Err(error) if error.is_not_found() => None,
        found => found.or_fail(failed)?.pid(),
    };
    if let Some(pid) = pid {
        mend::end_silently(&context.docker, container.as_str(), pid).or_fail(failed)?;
    }
    context.docker.wait_until_stopped(container.as_str()).or_fail(failed)?;
    pager::end(container.as_str()).or_fail(failed)
}

/// It is not let run, whenever it comes to the gate. The landing is what says so there, so it is taken out only when Docker has
/// come to an end of starting it; an error where it has not within `limit`.
pub fn turn_away(world: &World, container: &ContainerId, limit: Duration) -> Result<(), Failure> {
    let Some(landing) = world.landings.get(container) else { return Ok(()) };
    landing.refuse();
    let ended = landing.wait_for_end(limit);
    if !landing.has_ended() {
        return Err(Failure::new(format!("Docker is still at starting container {container:.12}")).remedy(
            "when it is not, or after a restart of dockerd: transship resume OPERATION (see transship status)",
        ));
    }
    tracing::info!(%container, ?ended, "its start has come to its end");
    world.landings.take(container);
    Ok(())
}

/// Lets all of them run, what others depend on first: the names of those that Docker could not start all the same; nothing
/// where none was let run.
pub fn let_run(arrive: &mut Arrive, context: &Context) -> Result<Option<Vec<String>>, Failure> {
    let Some(landings) = bring(arrive, context)? else { return Ok(None) };
    let mut published = Vec::new();
    for coming in &arrive.offer.members {
        let spec = published::from_inspect(&coming.inspect).or_fail(|| "its ports cannot be read".into())?;
        published.extend(spec.published);
    }
    forward::keep_here(context, &published)?;
    let claims = in_order(arrive)
        .into_iter()
        .map(|number| {
            let claim =
                context.claims.find(arrive.members[number].id()?).or_fail(|| "the claims cannot be read".into())?;
            claim.ok_or_else(|| Failure::new(format!("there is no claim on {}", arrive.members[number].name)))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if let Err(failure) = thaw::arrived(&context.world, &claims) {
        tracing::error!(containers = arrive.name(), %failure, "was given to this host and could not be let run");
        landings.iter().for_each(|landing| landing.refuse());
        return Ok(None);
    }
    landings.iter().for_each(|landing| landing.release());
    let mut failed = Vec::new();
    for (member, landing) in arrive.members.iter().zip(&landings) {
        if let Err(reason) = landing.wait_for_end(END_OF_START) {
            tracing::error!(container = member.name, reason, "was given to this host and could not be let run");
            failed.push(member.name.clone());
        }
    }
    Ok(Some(failed))
}

/// The members by their numbers, what others depend on first.
fn in_order(arrive: &Arrive) -> Vec<usize> {
    let containers: Vec<Container> = arrive.offer.members.iter().map(|coming| coming.container()).collect();
    let places = order::places(&containers);
    let mut order: Vec<usize> = (0..containers.len()).collect();
    order.sort_by_key(|number| (places[*number].wave, containers[*number].shares_network_of().is_some()));
    order
}

/// Whether one of them runs.
pub fn any_runs(arrive: &Arrive, context: &Context) -> Result<bool, Failure> {
    for container in arrive.containers() {
        let found = context.docker.container(container.as_str());
        if found.or_fail(|| format!("container {container:.12} cannot be looked at"))?.is_running() {
            return Ok(true);
        }
    }
    Ok(false)
}
