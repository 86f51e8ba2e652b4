//! The destination's side of `migrate`: containers come from a peer, together.
//!
//! ```text
//!   expect ─► (image) ─► prepare ─► (files) ─► restore ───────────────────► commit ─────────► standing
//!              make      receive      place  claim  start  │ await*         │ release
//!                                                       stopped           runs
//! ```
//!
//! A visit ([`crate::world::visits`]) is one thread that runs these steps; what the source says reaches it as words. From
//! the moment that the source was told "restored" the copy is kept, whatever becomes of this helper, until the source has
//! said commit or drop: it may have committed. Until it has, the copy does not run (I2).

mod admit;
mod at_the_gate;
mod binds;
mod capability;
mod follow;
pub mod intake;
mod logs;
mod member;
pub mod memory;
mod reach;
mod steps;

use crate::failure::{Failure, OrFail};
use crate::handover::{Arrival, Request, arrival};
use crate::migration::words::{Offer, Welcome};
use crate::migration::{decide, source};
use crate::saga::{self, Asked, Operation, OperationRecord, Phase, Step};
use crate::store::CheckpointId;
use crate::store::handovers::About;
use crate::world::decisions::Decision;
use crate::world::landing::Kept;
use crate::world::visits::{Standing, Visit, Word};
use crate::world::{Context, World};
use member::Member;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long a source's word may wait until it is seen to; then the source hears where it stands, and says it again.
const HEARING: Duration = Duration::from_secs(45);

/// Taking containers in that belong together.
#[derive(Debug, Serialize, Deserialize)]
pub struct Arrive {
    /// The migration: the checkpoint of the first of them.
    id: CheckpointId,
    /// Where they come from.
    peer: String,
    /// What comes.
    offer: Offer,
    /// The containers here, in the order of the offer.
    members: Vec<Member>,
    /// Where it stands.
    arrival: Arrival,
    /// Networks that are made for it.
    networks: Vec<String>,
    /// Volumes that are made for it.
    volumes: Vec<String>,
    /// Images that were sent for it.
    brought_images: Vec<String>,
    /// Whether this very helper has put their files in place: those of a helper before it may not have reached the disk.
    #[serde(skip)]
    is_placed: bool,
    /// What a person has decided by force.
    decided: Option<Decision>,
}

fn kept(world: &World, id: &CheckpointId) -> Result<Option<Kept>, Failure> {
    world.handovers.get(About::Arrival, id).or_fail(|| "where it stands cannot be read".into())
}

fn keep(world: &World, peer: &str, id: &CheckpointId, arrival: Arrival) -> Result<(), Failure> {
    let kept = Kept { peer: peer.to_owned(), arrival };
    world.handovers.put(About::Arrival, id, &kept).or_fail(|| "where it stands cannot be written down".into())
}

/// A host that is a peer no longer says nothing late: what came from it and is over need not be remembered.
pub fn forget_peer(context: &Context, peer: &str) -> Result<(), Failure> {
    for id in context.handovers.all(About::Arrival) {
        let is_past = |kept: Kept| kept.peer == peer && kept.arrival.is_over() && !context.visits.has(&id);
        if kept(context, &id)?.is_some_and(is_past) {
            context.handovers.remove(About::Arrival, &id).or_fail(|| "what came from it cannot be forgotten".into())?;
        }
    }
    Ok(())
}

impl Operation for Arrive {
    type World = Context;

    const KIND: &'static str = "arrive";

    fn steps(&self) -> Vec<Step<Self, Context>> {
        use steps::{claim, make, place, receive, release, settle, start, wait_for_word};
        // The source is told "restored" while it waits: by then all that led there is on disk.
        let wait_for_word = wait_for_word().on_disk().commits();
        let steps = [make(), receive(), place(), claim(), start(), wait_for_word, release()];
        let follow = self.offer.memory.map(|_| follow::follow());
        steps.into_iter().chain(follow).chain([settle()]).collect()
    }

    fn has_committed(&self, context: &Context) -> bool {
        let standing = kept(context, &self.id).ok().flatten().map(|kept| kept.arrival);
        matches!(standing, Some(Arrival::Released | Arrival::Running))
    }

    fn is_out_of_hand(&self, context: &Context) -> bool {
        self.has_committed(context)
    }

    /// The source may have committed since it was told that the container is restored.
    fn goes_on_after_a_crash(&self) -> bool {
        matches!(self.arrival, Arrival::Restored | Arrival::Released)
    }

    fn is_taken_back(&self) -> bool {
        self.decided == Some(Decision::Drop)
    }

    fn subject(&self) -> String {
        format!("{} from {}", self.name(), self.peer)
    }

    fn answer(&self) -> Value {
        let one = |member: &Member| {
            json!({
                "container": member.name,
                "peer": self.peer,
                "id": member.container,
                "checkpoint": member.checkpoint,
                "migration": self.id,
            })
        };
        json!({ "containers": self.members.iter().map(one).collect::<Vec<_>>() })
    }
}

impl Arrive {
    fn checkpoints(&self) -> Vec<CheckpointId> {
        self.members.iter().map(|member| member.checkpoint.clone()).collect()
    }

    /// Takes the next state, and writes it down before anything follows from it.
    fn stands(&mut self, context: &Context, arrival: Arrival) -> Result<(), Failure> {
        keep(context, &self.peer, &self.id, arrival)?;
        self.arrival = arrival;
        self.visit(context).change(|standing| standing.arrival = arrival);
        Ok(())
    }

    /// The visit that these steps are run for; one that nobody hears where there is none.
    fn visit(&self, context: &Context) -> Arc<Visit> {
        context.visits.get(&self.id).unwrap_or_else(|| Arc::new(Visit::of(&self.peer, Vec::new())))
    }
}

/// Whether containers may come; nothing is made.
pub fn expect(context: &Context, peer: &str, id: &CheckpointId, offer: &Offer) -> Result<Welcome, Failure> {
    if context.visits.has(id) || standing_on_disk(context, id)? != Arrival::Expecting {
        return Err(Failure::refused(format!("migration {id} has been here before")));
    }
    member::examine(id, offer)?;
    admit::look(context, peer, offer)?;
    let mut lacks_images = Vec::new();
    for image in images(offer) {
        if !context.docker.has_image(&image).or_fail(|| "the images here cannot be listed".into())? {
            lacks_images.push(image);
        }
    }
    Ok(Welcome { lacks_images })
}

fn images(offer: &Offer) -> BTreeSet<String> {
    offer.members.iter().map(|member| member.container().image_id().to_owned()).collect()
}

/// Begins a visit; returns when the containers are made and files may come.
pub fn prepare(context: &Context, peer: &str, id: &CheckpointId, offer: Offer) -> Result<(), Failure> {
    // Those that were here before stay, whatever becomes of the migration.
    let brought: Vec<String> = match context.brought_images.take(id) {
        Some(before) => images(&offer).into_iter().filter(|image| !before.contains(image)).collect(),
        None => Vec::new(),
    };
    let prepared = prepare_with(context, (peer, id), offer, brought.clone());
    if prepared.is_err() {
        brought.iter().for_each(|image| remove_image(context, image));
    }
    prepared
}

/// An image that was sent for a migration that comes to nothing; one that something uses stays.
fn remove_image(context: &Context, image: &str) {
    match context.docker.remove_unused_image(image) {
        Ok(removed) => tracing::info!(image, removed, "an image was sent for nothing"),
        Err(error) => tracing::warn!(image, %error, "an image that was sent for nothing cannot be removed"),
    }
}

fn prepare_with(
    context: &Context,
    (peer, id): (&str, &CheckpointId),
    offer: Offer,
    brought_images: Vec<String>,
) -> Result<(), Failure> {
    let welcome = expect(context, peer, id, &offer)?;
    if let Some(image) = welcome.lacks_images.first() {
        return Err(Failure::refused(format!("its image {image} is not here")));
    }
    let members: Vec<Member> = offer.members.iter().map(Member::of).collect();
    // Noted before anything is made, so that it is known to whoever has to remove it.
    let names = |told: &[Value]| -> Vec<String> {
        told.iter().filter_map(|one| one["Name"].as_str().map(str::to_owned)).collect()
    };
    let lacks = |network: &String| context.docker.network(network).is_err_and(|error| error.is_not_found());
    let (networks, volumes) = (names(&offer.networks).into_iter().filter(lacks).collect(), names(&offer.volumes));
    let operation = Arrive {
        id: id.clone(),
        peer: peer.to_owned(),
        offer,
        members,
        arrival: Arrival::default(),
        networks,
        volumes,
        brought_images,
        is_placed: false,
        decided: None,
    };
    let asked = format!("peer {peer}");
    let names = operation.members.iter().map(|member| member.name.clone()).collect();
    let visit = begin(context, (peer, id), operation.checkpoints(), Standing::default(), move |context| {
        // Nobody else works on containers of these names meanwhile.
        let _turn = crate::operations::turn(context, names)?;
        let world = &context.world;
        saga::run(operation, context, &world.journal, &world.failpoints, context.told.as_ref(), Asked::by(&asked))
    })?;
    let standing = visit.wait_until(|standing| !standing.containers.is_empty());
    match standing.failure {
        Some(failure) if standing.is_over => Err(failure),
        _ => Ok(()),
    }
}

/// At the helper's start: goes on with a visit that one before it had.
pub fn recover(context: &Context, record: &OperationRecord) -> Result<Value, Failure> {
    let _turn = crate::operations::turn_of(context, record)?;
    go_on(context, &crate::operations::open_record(context, record.id)?)
}

/// Goes on with a visit; whoever calls it has the turn on its container.
pub fn go_on(context: &Context, record: &OperationRecord) -> Result<Value, Failure> {
    let unreadable = || format!("operation {} in the journal cannot be read", record.id);
    let operation: Arrive = serde_json::from_value(record.state.clone()).or_fail(unreadable)?;
    // What the source was told is written down before it is told, and in the journal when the step has ended.
    let arrival = standing_on_disk(context, &operation.id)?;
    let mut record = record.clone();
    record.state["arrival"] = serde_json::to_value(arrival).or_fail(unreadable)?;
    if matches!(arrival, Arrival::Dropped | Arrival::Lost) {
        // The source goes by that: whatever the journal has as its last step, it is not let run.
        record.state["decided"] = json!(Decision::Drop);
    }
    if matches!(arrival, Arrival::Restored | Arrival::Released) {
        // Whatever the journal has as its last step: no more files come, and what the source says now is about the copy.
        record.step = record.step.max(operation.steps().iter().position(|step| step.commits).unwrap_or_default());
    }
    let from = (operation.peer.as_str(), &operation.id);
    let start = Standing { arrival, containers: operation.containers(), ..Standing::default() };
    let visit = begin(context, from, operation.checkpoints(), start, move |context| {
        let world = &context.world;
        saga::recover::<Arrive>(&record, context, &world.journal, &world.failpoints, context.told.as_ref())
    })?;
    match visit.wait_until(|standing| standing.is_over).failure {
        Some(failure) => Err(failure),
        None => Ok(operation.answer()),
    }
}

fn begin(
    context: &Context,
    (peer, id): (&str, &CheckpointId),
    checkpoints: Vec<CheckpointId>,
    start: Standing,
    work: impl FnOnce(&Context) -> Result<Value, Failure> + Send + 'static,
) -> Result<Arc<Visit>, Failure> {
    let visit = Arc::new(Visit::of(peer, checkpoints));
    visit.change(|standing| *standing = start);
    if !context.visits.keep_new(id.clone(), Arc::clone(&visit)) {
        return Err(Failure::refused(format!("migration {id} is under way here already")));
    }
    let of_thread = Context { world: Arc::clone(&context.world), told: Arc::clone(&context.told) };
    let (visit_id, worked_on) = (id.clone(), Arc::clone(&visit));
    let id = id.clone();
    let thread = move || {
        let failure = work(&of_thread).err();
        if let Some(failure) = &failure {
            tracing::warn!(migration = %id, %failure, "a container that came from a peer is not taken in");
        }
        end(&of_thread.world, &id, &worked_on, failure);
    };
    let thread = std::thread::Builder::new().name("arrival".into()).spawn(thread);
    if let Err(error) = thread {
        context.visits.take(&visit_id);
        return Err(Failure::new("no thread to take a container in").because(&error));
    }
    Ok(visit)
}

/// What was not released is dropped for good: a commit that comes late finds that.
fn end(world: &World, id: &CheckpointId, visit: &Visit, failure: Option<Failure>) {
    let mut arrival = visit.standing().arrival;
    if failure.is_some() && matches!(arrival, Arrival::Expecting | Arrival::Restored) {
        // Not said where it could not be written down: who asks next has it tried again.
        match keep(world, &visit.peer, id, without_copy(arrival)) {
            Ok(()) => arrival = without_copy(arrival),
            Err(error) => tracing::error!(migration = %id, %error, "that it was dropped cannot be written down"),
        }
    }
    visit.change(|standing| {
        standing.arrival = arrival;
        standing.failure = failure;
        standing.is_over = true;
    });
    for container in visit.standing().containers {
        if let Err(failure) = at_the_gate::turn_away(world, &container, Duration::ZERO) {
            // Whoever takes this up again waits for that, and brings it to the gate anew.
            tracing::info!(migration = %id, %failure, "it is turned away at the gate");
        }
    }
    world.visits.take(id);
}

/// Where it stands when nothing of the copy is left.
fn without_copy(arrival: Arrival) -> Arrival {
    match arrival.on(arrival::Event::RestoreFailed).next {
        Arrival::Dropped => Arrival::Dropped,
        other => other.on(arrival::Event::Gone).next,
    }
}

/// Whether a person can decide this about a migration that comes here.
pub fn can_be(context: &Context, record: &OperationRecord, decision: Decision) -> Result<Arrive, Failure> {
    let operation: Arrive = decide::state(record)?;
    let (name, peer) = (operation.name(), &operation.peer);
    match (decision, standing_on_disk(context, &operation.id)?) {
        (Decision::Thaw | Decision::End, _) => {
            Err(Failure::usage(format!("{name} comes to this host: it is let run or dropped here")))
        }
        (Decision::Run | Decision::Drop, Arrival::Restored | Arrival::Released) => Ok(operation),
        (_, Arrival::Running) => Err(Failure::refused(format!("{name} runs here, as any container"))),
        (_, other) => Err(Failure::refused(format!("{peer} has not sent all of {name}, or it is gone: {other:?}"))),
    }
}

/// What a decision can cost, by what the source says now; nothing where that is nothing.
pub fn risk(context: &Context, record: &OperationRecord, decision: Decision) -> Result<Option<String>, Failure> {
    let operation = can_be(context, record, decision)?;
    let (name, peer) = (operation.name(), &operation.peer);
    Ok(match (decision, source::decided(peer, &operation.id)) {
        (Decision::Run, Ok(Some(Request::Commit))) | (Decision::Drop, Ok(Some(Request::Drop) | None)) => None,
        (Decision::Run, Ok(Some(_))) => Some(format!("{peer} has kept {name}, which runs there: two would run")),
        (Decision::Run, Ok(None)) => {
            Some(format!("{peer} has not given {name} away yet: it may still keep it, and then two run"))
        }
        (Decision::Run, Err(error)) => Some(format!(
            "{peer} cannot be asked ({error}); if {name} goes on there, two run, and their files differ from then on"
        )),
        (_, Ok(_)) => Some(format!(
            "{peer} has given {name} away: it would run nowhere until it is brought back there, with: transship decide OPERATION thaw"
        )),
        (_, Err(error)) => {
            Some(format!("{peer} cannot be asked ({error}): this may be the only copy of {name} that is left"))
        }
    })
}

/// Carries a decision out: by whoever is at work on the migration, or else here.
pub fn decide(context: &Context, record: OperationRecord, decision: Decision) -> Result<(), Failure> {
    let operation = can_be(context, &record, decision)?;
    let event = match decision {
        Decision::Run => arrival::Event::ForceRun,
        _ => arrival::Event::ForceDrop,
    };
    let tell = || {
        if let Some(visit) = context.visits.get(&operation.id) {
            visit.say(Word::Forced(event), HEARING);
        }
    };
    let (turn, was_told) = decide::turn_after(context, &record, tell)?;
    if !was_told {
        // Whoever had the turn until now may have brought it to its end.
        let mut record = crate::operations::open_record(context, record.id)?;
        can_be(context, &record, decision)?;
        record.state["decided"] = json!(decision);
        let next = standing_on_disk(context, &operation.id)?.on(event).next;
        keep(context, &operation.peer, &operation.id, next)?;
        if let Err(failure) = go_on(context, &record) {
            tracing::info!(operation = record.id, %failure, "a decision is carried out");
        }
    }
    drop(turn);
    decide::ended(context, record.id, if decision == Decision::Run { Phase::Done } else { Phase::Undone })
}

/// What the source says of a visit, and where it stands afterwards.
pub fn say(context: &Context, peer: &str, id: &CheckpointId, word: Word) -> Result<Standing, Failure> {
    admit::may(context, peer)?;
    match context.visits.has(id) {
        true => {
            let patience = match word {
                Word::Restore(_) => source::RESTORE,
                Word::Handover(_) | Word::Forced(_) => HEARING,
            };
            Ok(visit_of(context, peer, id)?.say(word, patience))
        }
        false => without_a_visit(context, peer, id, &word),
    }
}

/// A visit that a peer has a say in.
fn visit_of(context: &Context, peer: &str, id: &CheckpointId) -> Result<Arc<Visit>, Failure> {
    let visit = context.visits.get(id).filter(|visit| visit.peer == peer);
    visit.ok_or_else(|| Failure::refused(format!("migration {id} was not prepared, or is over here")))
}

/// Nobody works on it: it is over, or was never begun. The rules are the same.
fn without_a_visit(context: &Context, peer: &str, id: &CheckpointId, word: &Word) -> Result<Standing, Failure> {
    let Word::Handover(request) = word else {
        return Err(Failure::refused(format!("migration {id} was not prepared, or is over here")));
    };
    let known = kept(context, id)?;
    if known.as_ref().is_some_and(|known| known.peer != peer) {
        return Err(Failure::refused(format!("migration {id} comes from another host")));
    }
    if is_to_be_taken_up(context, id)? {
        return Err(Failure::new(format!("migration {id} is about to be taken up again")).remedy("ask again"));
    }
    let on_disk = known.map(|known| known.arrival).unwrap_or_default();
    let before = match on_disk {
        // Nobody works on it and nobody will, so there is no copy. It was not written down that it is dropped.
        Arrival::Restored => without_copy(Arrival::Restored),
        other => other,
    };
    let after = before.on(arrival::Event::Request(*request)).next;
    tracing::info!(migration = %id, peer, ?request, ?before, ?after, "asked about a migration that nobody works on");
    if after != on_disk {
        keep(context, peer, id, after)?;
    }
    // The source need not ask until it is out of patience.
    let failure = (after == Arrival::Released).then(|| {
        Failure::new("it was given to this host, and what would let it run here has failed")
            .remedy("on that host: transship status, and transship resume OPERATION; then the same here")
    });
    Ok(Standing { arrival: after, is_over: true, failure, ..Standing::default() })
}

/// Whether a helper before this one has left it unfinished, and this one has not come to it yet.
fn is_to_be_taken_up(context: &Context, id: &CheckpointId) -> Result<bool, Failure> {
    let unfinished = context.journal.unfinished().or_fail(|| "the journal cannot be read".into())?;
    Ok(unfinished.iter().any(|record| record.kind == Arrive::KIND && record.state["id"] == id.as_str()))
}

/// Returns when all that came is on disk. Only of what runs here: the source deletes what it has.
pub fn sync(context: &Context, peer: &str, id: &CheckpointId) -> Result<(), Failure> {
    admit::may(context, peer)?;
    match kept(context, id)?.filter(|kept| kept.peer == peer).map(|kept| kept.arrival).unwrap_or_default() {
        Arrival::Running => intake::sync(context),
        other => Err(Failure::refused(format!("migration {id} does not run here: it is {other:?}"))),
    }
}

/// Where a visit stands; of one that is over, what is written down.
pub fn standing(context: &Context, peer: &str, id: &CheckpointId) -> Result<Standing, Failure> {
    match context.visits.has(id) {
        true => Ok(visit_of(context, peer, id)?.standing()),
        false => without_a_visit(context, peer, id, &Word::Handover(Request::Ask)),
    }
}

fn standing_on_disk(context: &Context, id: &CheckpointId) -> Result<Arrival, Failure> {
    Ok(kept(context, id)?.map(|kept| kept.arrival).unwrap_or_default())
}
