//! The steps of `arrive`, each beside its undo.

use super::{Arrive, admit, intake, remove_image};
use crate::archive::rootfs;
use crate::checkpoint::mend;
use crate::docker::{Container, DockerError, RestartPolicy, creation_request, network_request};
use crate::failure::{Failure, OrFail};
use crate::handover::{Arrival, arrival};
use crate::network::hold::Hold;
use crate::network::published;
use crate::operations::migrate::{self, volumes};
use crate::operations::restore::put_files;
use crate::operations::{self, forward, holds};
use crate::restore::{addresses, prepare, settle};
use crate::saga::{Operation, Step};
use crate::store::layout;
use crate::store::staging::Durability;
use crate::store::{Checkpoint, CheckpointId, ContainerId};
use crate::world::decisions::Decision;
use crate::world::landing::Landing;
use crate::world::visits::Word;
use crate::world::{Context, World};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

type ArriveStep = Step<Arrive, Context>;

/// How long a source may say nothing before it is asked, once its container is restored.
const SILENCE: Duration = Duration::from_secs(30);

/// So many silences in a row, without a byte of a file either, and it does not come any more: an hour, for a source that
/// copies a large volume on its own disk first.
const SILENCES: u32 = 120;

/// How long Docker may take to bring it to the gate. The source does not wait longer.
const LANDING: Duration = migrate::RESTORE;

/// How long Docker may take to come to an end of starting it, once it is let go or refused.
const END_OF_START: Duration = Duration::from_secs(60);

/// How long dockerd may take to come up, where the whole host has just booted.
const DOCKER_PATIENCE: Duration = Duration::from_secs(600);

fn nothing(_: &mut Arrive, _: &Context) -> Result<(), Failure> {
    Ok(())
}

/// Networks and volumes that lack, and the container, stopped and without a restart policy.
pub fn make() -> ArriveStep {
    fn run(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        let failed = || format!("a container {} cannot be made", arrive.name);
        // What another has made since it was asked for first.
        admit::look(context, &arrive.peer, &arrive.offer)?;
        for told in &arrive.offer.networks {
            let name = told["Name"].as_str().unwrap_or_default();
            if arrive.networks.iter().any(|lacks| lacks == name) && context.docker.network(name).is_err() {
                let request = labelled(network_request(told), &arrive.id);
                context.docker.create_network(&request).or_fail(|| format!("the network {name} cannot be made"))?;
            }
        }
        for told in &arrive.offer.volumes {
            let request = labelled(json!({ "Name": told["Name"], "Labels": told["Labels"] }), &arrive.id);
            context.docker.create_volume(&request).or_fail(failed)?;
            let name = told["Name"].as_str().unwrap_or_default();
            if !is_made_for(arrive, &context.docker.volume(name).or_fail(failed)?) {
                // Docker takes one of that name for the one that was asked for.
                return Err(Failure::new(format!("the volume {name} was made by somebody else meanwhile")));
            }
        }
        let id = context
            .docker
            .create(&arrive.name, &labelled(request(&inspect_to_be(arrive)), &arrive.id))
            .or_fail(failed)?;
        arrive.container = Some(id.parse().or_fail(failed)?);
        context.catalog.begin(&arrive.id).or_fail(|| "the store cannot take its checkpoint".into())?;
        // The image, too, which came before. It costs nobody anything now: the source's container runs.
        intake::sync(context)?;
        let container = arrive.container.clone();
        arrive.visit(context).change(|standing| standing.container = container);
        Ok(())
    }
    fn undo(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        if let Some(staging) = context.catalog.staging(&arrive.id) {
            staging.discard().or_fail(|| "what came of its checkpoint cannot be removed".into())?;
        }
        if let Some(container) = made_here(arrive, context)? {
            context.docker.remove(&container).or_fail(|| format!("{} cannot be removed", arrive.name))?;
        }
        for volume in &arrive.volumes {
            let failed = || format!("the volume {volume} cannot be removed");
            if is_there_for(arrive, context.docker.volume(volume)).or_fail(failed)? {
                context.docker.remove_volume(volume).or_fail(failed)?;
            }
        }
        for network in &arrive.networks {
            let failed = || format!("the network {network} cannot be removed");
            if is_there_for(arrive, context.docker.network(network)).or_fail(failed)? {
                context.docker.remove_network(network).or_fail(failed)?;
            }
        }
        if let Some(image) = &arrive.brought_image {
            remove_image(context, image);
        }
        Ok(())
    }
    Step::new("make", run, undo)
}

/// What a migration makes bears its id: what somebody else has made under the same name meanwhile is not taken for it.
const LABEL: &str = "transship.migration";

fn labelled(mut request: Value, id: &CheckpointId) -> Value {
    if !request["Labels"].is_object() {
        request["Labels"] = json!({});
    }
    request["Labels"][LABEL] = json!(id);
    request
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

/// The container that was made for it. A helper that died over that has not noted which.
fn made_here(arrive: &Arrive, context: &Context) -> Result<Option<String>, Failure> {
    if let Some(container) = &arrive.container {
        return Ok(Some(container.to_string()));
    }
    match context.docker.container(&arrive.name) {
        Ok(found) => Ok((found.label(LABEL) == Some(arrive.id.as_str())).then(|| found.id().to_owned())),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(Failure::new(format!("{} cannot be looked at", arrive.name)).because(&error)),
    }
}

/// What Docker says of it where it comes from, with its addresses fixed in every network that takes a fixed one.
fn inspect_to_be(arrive: &Arrive) -> Value {
    let mut inspect = arrive.offer.inspect.clone();
    let networks = inspect.pointer_mut("/NetworkSettings/Networks").and_then(Value::as_object_mut);
    for (name, endpoint) in networks.into_iter().flatten() {
        let has_range = arrive.offer.networks.iter().any(|told| told["Name"] == *name);
        if has_range {
            let mut fixed = json!({});
            for (field, kept) in [("IPAddress", "IPv4Address"), ("GlobalIPv6Address", "IPv6Address")] {
                if endpoint[field].as_str().is_some_and(|address| !address.is_empty()) {
                    fixed[kept] = endpoint[field].clone();
                }
            }
            endpoint["IPAMConfig"] = fixed;
        }
    }
    inspect
}

fn request(inspect: &Value) -> Value {
    let mut request = creation_request(inspect);
    request["HostConfig"]["RestartPolicy"] = json!(RestartPolicy::default());
    let endpoints = request.pointer_mut("/NetworkingConfig/EndpointsConfig").and_then(Value::as_object_mut);
    for (name, endpoint) in endpoints.into_iter().flatten() {
        let mac =
            inspect.pointer("/NetworkSettings/Networks").and_then(|networks| networks[name]["MacAddress"].as_str());
        if let Some(mac) = mac.filter(|mac| !mac.is_empty()) {
            endpoint["MacAddress"] = mac.into();
        }
    }
    request
}

/// The checkpoint's files, until the source says that all are there; then every digest (I4).
pub fn receive() -> ArriveStep {
    fn run(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        let manifest = wait_for_manifest(arrive, context)?;
        arrive.visit(context).close_intake();
        let failed = || format!("the checkpoint of {} is not what it should be", arrive.name);
        let staging = context.catalog.staging(&arrive.id).ok_or_else(|| Failure::new(failed()))?;
        staging.adopt(manifest.as_bytes(), Durability::FilesAreOnDisk, &|_| {}).or_fail(failed)?;
        // What lies there was hashed just now.
        prepare::adopted(&context.world, &arrive.id).map(drop)
    }
    fn undo(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        prepare::forget(context, &arrive.id);
        context.catalog.remove_if_there(&arrive.id).or_fail(|| "its checkpoint cannot be removed".into())
    }
    Step::new("receive", run, undo)
}

fn wait_for_manifest(arrive: &mut Arrive, context: &Context) -> Result<String, Failure> {
    let visit = arrive.visit(context);
    let (mut silences, mut signs) = (0, 0);
    loop {
        let heard_of = visit.signs_of_life();
        if heard_of != signs {
            (silences, signs) = (0, heard_of);
        }
        match visit.next_word(SILENCE) {
            Some(Word::Restore(manifest)) => return Ok(manifest),
            Some(Word::Handover(request)) => heard(arrive, context, arrival::Event::Request(request))?,
            Some(Word::Forced(event)) => heard(arrive, context, event)?,
            None if silences >= SILENCES => {
                return Err(Failure::new(format!("{} has not sent all of {}", arrive.peer, arrive.name)));
            }
            None => silences += 1,
        }
    }
}

/// A word of the handover, or a person's. The rules say what becomes of it; this carries out what they say, short of letting it run.
fn heard(arrive: &mut Arrive, context: &Context, event: arrival::Event) -> Result<(), Failure> {
    let next = arrive.arrival.on(event).next;
    if next != arrive.arrival {
        arrive.stands(context, next)?;
    }
    match next {
        // The answer follows when all is undone.
        Arrival::Dropped | Arrival::Lost => Err(Failure::new(match event {
            arrival::Event::ForceDrop => format!("{} was dropped here by force", arrive.name),
            _ => format!("{} is not to run here: {} keeps it", arrive.name, arrive.peer),
        })),
        // Answered once it runs.
        Arrival::Released => {
            if event == arrival::Event::ForceRun {
                arrive.decided = Some(Decision::Run);
            }
            Ok(())
        }
        _ => {
            arrive.visit(context).hear();
            Ok(())
        }
    }
}

/// Its files where Docker's storage driver looks for them, and its volumes'.
pub fn place() -> ArriveStep {
    Step::new("place", put_in_place, nothing)
}

fn put_in_place(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
    let failed = || format!("the files of {} cannot be put in place", arrive.name);
    let checkpoint = context.catalog.get(&arrive.id).or_fail(failed)?;
    let container = context.docker.container(container_of(arrive)?.as_str()).or_fail(failed)?;
    if let Some(upper) = container.upper_directory() {
        // A start that came to nothing has left its own there.
        empty(Path::new(upper)).or_fail(failed)?;
    }
    put_files(&container, &checkpoint)?;
    for (number, name) in arrive.volumes.iter().enumerate() {
        fill(context, &checkpoint, number, name)?;
    }
    arrive.is_placed = true;
    Ok(())
}

/// A helper before this one had put the files in place, and may have died with the host's power. The checkpoint was on
/// disk by then, and what is in place is made from it again: `false` where it is not whole.
fn put_in_place_again(arrive: &mut Arrive, context: &Context) -> Result<bool, Failure> {
    let failed = || format!("{} cannot be made ready again", arrive.name);
    context.docker.wait_until_up(DOCKER_PATIENCE, || false).or_fail(failed)?;
    let container = container_of(arrive)?;
    // The start that the other helper was at ends by itself: nobody answers it at the gate.
    context.docker.wait_until_stopped(container.as_str()).or_fail(failed)?;
    context.claims.give_back(&container).or_fail(failed)?;
    if let Err(failure) = prepare::verify(context, &arrive.id, &|_, _| {}) {
        tracing::error!(migration = %arrive.id, %failure, "what came from the peer is not whole any more");
        return Ok(false);
    }
    put_in_place(arrive, context)?;
    Ok(true)
}

fn fill(context: &Context, checkpoint: &Checkpoint, number: usize, name: &str) -> Result<(), Failure> {
    let failed = || format!("the files of the volume {name} cannot be put in place");
    let told = context.docker.volume(name).or_fail(failed)?;
    let mountpoint = PathBuf::from(told["Mountpoint"].as_str().unwrap_or_default());
    // Docker has copied in what the image has there.
    empty(&mountpoint).or_fail(failed)?;
    let [base, delta] = volumes::files(number).map(|file| checkpoint.dir().join(layout::EXTRA).join(file));
    let base = File::open(base).or_fail(failed)?;
    let delta = File::open(delta).or_fail(failed)?;
    rootfs::apply(base, Some(delta), &mountpoint).or_fail(failed)
}

fn empty(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => std::fs::remove_dir_all(entry.path())?,
            false => std::fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

fn container_of(arrive: &Arrive) -> Result<ContainerId, Failure> {
    arrive.container.clone().ok_or_else(|| Failure::new(format!("there is no container {} yet", arrive.name)))
}

/// Its next create restores the checkpoint.
pub fn claim() -> ArriveStep {
    fn run(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        let failed = || format!("{} cannot be claimed", arrive.name);
        let claim = operations::claim(context, &container_of(arrive)?, &arrive.id).or_fail(failed)?;
        context.claims.place(&claim).or_fail(failed)
    }
    fn undo(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        let Some(container) = &arrive.container else { return Ok(()) };
        context.claims.withdraw(container).or_fail(|| "the claim cannot be withdrawn".into())
    }
    Step::new("claim", run, undo)
}

/// `docker start`, which restores it and comes back when it runs. Done when it stands ready at the gate.
pub fn start() -> ArriveStep {
    fn run(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        match bring_to_the_gate(arrive, context)? {
            Some(_) => Ok(()),
            None => Err(Failure::new(format!("the checkpoint of {} is damaged", arrive.name))),
        }
    }
    fn undo(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        let Some(container) = &arrive.container else { return Ok(()) };
        let failed = || format!("the restored copy of {} cannot be ended", arrive.name);
        // It was never let go, so nobody has heard of it: its dying sockets must not be heard either.
        if let Some(waiting) = context.waiting.take(container) {
            mend::silence(waiting.pid).or_fail(failed)?;
        }
        turn_away(context, container, END_OF_START)?;
        settle::lift_hold(context, container);
        if arrive.is_taken_back() {
            // It was given to this host, and may have been let go.
            let pid = match context.docker.container(container.as_str()) {
                // An undo before this one may have come further.
                Err(error) if error.is_not_found() => None,
                found => found.or_fail(failed)?.pid(),
            };
            if let Some(pid) = pid {
                mend::end_silently(&context.docker, container.as_str(), pid).or_fail(failed)?;
            }
            context.claims.finish(container).or_fail(failed)?;
        }
        context.docker.wait_until_stopped(container.as_str()).or_fail(failed)?;
        context.claims.give_back(container).or_fail(failed)
    }
    Step::new("start", run, undo)
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

/// Its sockets speak as soon as they are restored, before its processes do, and its connections are not tracked by then
/// (I6). Lifted when it is let go.
fn hold(context: &Context, container: &ContainerId, inspect: &Value) -> Result<(), Failure> {
    if context.holds.has(container) {
        // Taken over from a helper that has died.
        return Ok(());
    }
    let failed = || format!("packets of container {container:.12} cannot be held");
    let spec = published::from_inspect(inspect).or_fail(failed)?;
    let hold = Hold::place_all(spec, holds::bounds(context)).or_fail(failed)?;
    context.holds.keep(container.clone(), hold);
    Ok(())
}

/// The landing of a container that stands ready at the gate; brings it there where it is not. None where its checkpoint
/// is not whole any more.
fn bring_to_the_gate(arrive: &mut Arrive, context: &Context) -> Result<Option<Arc<Landing>>, Failure> {
    let container = container_of(arrive)?;
    if let Some(landing) = context.landings.get(&container) {
        if landing.wait_until_stopped(Duration::ZERO) == Some(true) {
            return Ok(Some(landing));
        }
        // Its start came to nothing, or was given up: nothing of it may be in the way of another one.
        turn_away(context, &container, END_OF_START)?;
        arrive.is_placed = false;
    }
    if !arrive.is_placed && !put_in_place_again(arrive, context)? {
        return Ok(None);
    }
    let _expedited = context.rcu.expedite();
    let inspect = inspect_to_be(arrive);
    hold(context, &container, &inspect)?;
    let landing = Arc::new(Landing::of(inspect.clone(), arrive.offer.link));
    context.landings.keep(container.clone(), Arc::clone(&landing));
    let (world, at_the_gate, name) = (Arc::clone(&context.world), Arc::clone(&landing), arrive.name.clone());
    let starting = move || start_in_docker(&world, &container, &Container::new(inspect), &at_the_gate, &name);
    let thread = std::thread::Builder::new().name("landing".into()).spawn(starting).inspect_err(|error| {
        landing.ended(Err(error.to_string()));
    });
    let thread = thread.or_fail(|| "no thread to start it".into())?;
    match landing.wait_until_stopped(LANDING) {
        Some(true) => Ok(Some(landing)),
        None => {
            landing.refuse();
            Err(Failure::new(format!("Docker has not restored {} within {} s", arrive.name, LANDING.as_secs())))
        }
        Some(false) => match thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            Err(failure) => Err(failure),
            Ok(()) => Err(Failure::new(format!("{} was started and not restored", arrive.name)).needs_person()),
        },
    }
}

fn start_in_docker(
    world: &Arc<World>,
    container: &ContainerId,
    before: &Container,
    landing: &Landing,
    name: &str,
) -> Result<(), Failure> {
    let started = addresses::start(world, container, before);
    if let Err(failure) = &started {
        tracing::warn!(container = name, %failure, "could not be started");
    }
    // Where it did not come to the gate, nobody waits for it there.
    landing.ended(started.as_ref().map(drop).map_err(ToString::to_string));
    started
}

/// The source is told that it is restored, and decides.
pub fn wait_for_word() -> ArriveStep {
    fn run(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        let visit = arrive.visit(context);
        if arrive.arrival == Arrival::Expecting {
            arrive.stands(context, arrive.arrival.on(arrival::Event::Restored).next)?;
            visit.hear();
        } else {
            // A helper before this one had told so. What it had restored is gone with it, and never ran.
            if bring_to_the_gate(arrive, context)?.is_none() {
                arrive.stands(context, arrive.arrival.on(arrival::Event::Gone).next)?;
                return Err(Failure::new(format!("what came of {} is not whole any more", arrive.name)));
            }
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

/// The source may have decided and not have been able to say so.
fn ask_source(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
    match migrate::decided(&arrive.peer, &arrive.id) {
        Ok(Some(request)) => heard(arrive, context, arrival::Event::Request(request)),
        Ok(None) => Ok(()),
        Err(error) => {
            tracing::info!(migration = %arrive.id, peer = arrive.peer, %error, "its source cannot be asked; waiting on");
            Ok(())
        }
    }
}

/// From here on it runs here.
pub fn release() -> ArriveStep {
    fn run(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        let container = container_of(arrive)?;
        let name = arrive.name.clone();
        if !matches!(arrive.arrival, Arrival::Released | Arrival::Running) {
            return Err(Failure::new(format!("{name} is not to run here: its source was told {:?}", arrive.arrival)));
        }
        let failed = || format!("{name} was given to this host and does not run");
        let is_claimed = context.claims.find(&container).or_fail(failed)?.is_some();
        // One that was let go may have run, and is not restored once more.
        let may_still_start = is_claimed && !context.claims.is_committed(&container);
        let event = match may_still_start && let_run(arrive, context)? || runs(context, &container)? {
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
        let next = arrive.arrival.on(event).next;
        arrive.stands(context, next)?;
        arrive.visit(context).hear();
        match next {
            Arrival::Running => Ok(()),
            _ => Err(Failure::new(failed()).remedy(format!(
                "{} still has it, frozen: decide there; then, here, transship resume OPERATION removes what is left of it \
                 (see transship status)",
                arrive.peer
            ))),
        }
    }
    Step::new("release", run, nothing)
}

/// Whether it does.
fn let_run(arrive: &mut Arrive, context: &Context) -> Result<bool, Failure> {
    let Some(landing) = bring_to_the_gate(arrive, context)? else { return Ok(false) };
    let published = published::from_inspect(&arrive.offer.inspect).or_fail(|| "its ports cannot be read".into())?;
    forward::keep_here(context, &published.published)?;
    landing.release();
    match landing.wait_for_end(END_OF_START) {
        Ok(()) => Ok(true),
        Err(reason) => {
            tracing::error!(container = arrive.name, reason, "was given to this host and could not be let run");
            Ok(false)
        }
    }
}

fn runs(context: &Context, container: &ContainerId) -> Result<bool, Failure> {
    let found = context.docker.container(container.as_str());
    found.map(|found| found.is_running()).or_fail(|| format!("container {container:.12} cannot be looked at"))
}

/// The checkpoint that brought it is of no use any more.
pub fn settle() -> ArriveStep {
    fn run(arrive: &mut Arrive, context: &Context) -> Result<(), Failure> {
        let container = container_of(arrive)?;
        context.settling.wait_until_taken(&container);
        context.landings.take(&container);
        context.packing.stop(&arrive.id);
        context.catalog.remove_if_there(&arrive.id).or_fail(|| "its checkpoint cannot be removed".into())
    }
    Step::new("settle", run, nothing)
}
