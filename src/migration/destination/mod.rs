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

pub mod admit;
mod arrivals;
mod at_the_gate;
mod binds;
mod capability;
mod disk;
mod follow;
pub mod forced;
mod heard;
pub mod intake;
mod logs;
mod member;
pub mod memory;
mod of_source;
mod place;
pub mod pull;
mod reach;
mod said;
mod steps;

pub use arrivals::forget_peer;
pub use said::{say, standing, sync};

use crate::failure::{Failure, OrFail};
use crate::handover::Arrival;
use crate::migration::words::{Offer, Prepared, Welcome};
use crate::operations::{self, brought};
use crate::saga::{self, Asked, Operation, OperationRecord, Step};
use crate::store::CheckpointId;
use crate::world::decisions::Decision;
use crate::world::landing::Kept;
use crate::world::visits::{Standing, Visit};
use crate::world::{Busy, Context, Turn, World};
use arrivals::{cause, keep_cause, kept, standing_on_disk, visit_of, without_copy, write_down};
use member::Member;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a source waits for its turn before it hears what that waits for.
const TURN: Duration = Duration::from_secs(10);

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
    /// Whether this very helper has put their files in place: those of a helper before it may not have reached the disk.
    #[serde(skip)]
    is_placed: bool,
    /// The boot of this host in which that was.
    #[serde(default)]
    placed_in: Option<String>,
    /// Docker's own directory, once this very helper has asked for it.
    #[serde(skip)]
    docker_root: Option<PathBuf>,
    /// What a person has decided by force.
    decided: Option<Decision>,
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
    /// The name of each.
    fn names(&self) -> Vec<String> {
        self.members.iter().map(|member| member.name.clone()).collect()
    }

    /// Docker's own directory, which is asked for once.
    fn docker_root(&mut self, context: &Context) -> Result<PathBuf, Failure> {
        let root = self.docker_root.take().map_or_else(|| disk::docker_root(context), Ok)?;
        Ok(self.docker_root.insert(root).clone())
    }

    fn checkpoints(&self) -> Vec<CheckpointId> {
        self.members.iter().map(|member| member.checkpoint.clone()).collect()
    }

    /// Takes the next state, and writes it down before anything follows from it.
    fn stands(&mut self, context: &Context, arrival: Arrival) -> Result<(), Failure> {
        let kept = Kept { placed_in: self.placed_in.clone(), ..Kept::of(&self.peer, arrival) };
        write_down(context, &self.id, &kept)?;
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
        if brought::has_to_come(context, id, &image)? {
            lacks_images.push(image);
        }
    }
    Ok(Welcome { lacks_images, pulls_images: pull::is_allowed(context) })
}

fn images(offer: &Offer) -> BTreeSet<String> {
    offer.members.iter().map(|member| member.container().image_id().to_owned()).collect()
}

/// Begins a visit; returns when the containers are made and files may come. Whoever asks again, because the answer was lost,
/// waits for the same. What has to end first is not waited for in silence.
pub fn prepare(context: &Context, peer: &str, id: &CheckpointId, offer: Offer) -> Result<Prepared, Failure> {
    let _turn = match turn_to_prepare(&context.busy, id, TURN) {
        Ok(turn) => turn,
        Err(waits_for) => return Ok(Prepared { waits_for: Some(waits_for) }),
    };
    let prepared = match visit_of(context, peer, id) {
        Ok(visit) => is_prepared(&visit),
        // It may have failed, and the answer that said so was lost.
        Err(_) => cause(context, peer, id)?.map_or_else(|| prepare_anew(context, peer, id, offer), Err),
    };
    prepared.map(|()| Prepared::default())
}

/// The turn to prepare a migration, or what has to end first.
fn turn_to_prepare<'a>(busy: &'a Busy, id: &CheckpointId, patience: Duration) -> Result<Turn<'a>, String> {
    let turn = busy.begin_within(vec![format!("migration {id}")], patience);
    turn.map_err(|_| match busy.is_on_engine() {
        true => "an operation on Docker itself".to_owned(),
        false => "what it has begun for it before".to_owned(),
    })
}

fn is_prepared(visit: &Visit) -> Result<(), Failure> {
    let standing = visit.wait_until(|standing| !standing.containers.is_empty());
    match standing.failure {
        Some(failure) if standing.is_over => Err(failure),
        _ => Ok(()),
    }
}

fn prepare_anew(context: &Context, peer: &str, id: &CheckpointId, offer: Offer) -> Result<(), Failure> {
    let prepared = prepare_with(context, (peer, id), offer);
    if let Err(failure) = &prepared {
        brought::give_up(context, peer, id)?;
        // A visit has written down itself why it ended.
        if !context.visits.has(id) && kept(context, id)?.is_none() {
            keep_cause(context, peer, id, (Arrival::Dropped, failure))?;
        }
    }
    prepared
}

fn prepare_with(context: &Context, (peer, id): (&str, &CheckpointId), offer: Offer) -> Result<(), Failure> {
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
        is_placed: false,
        placed_in: None,
        docker_root: None,
        decided: None,
    };
    let asked = format!("peer {peer}");
    let names = operation.names();
    let visit = begin(context, (peer, id), operation.checkpoints(), Standing::default(), move |context| {
        // Nobody else works on containers of these names meanwhile.
        let _turn = operations::turn(context, names)?;
        let world = &context.world;
        saga::run(operation, context, &world.journal, &world.failpoints, context.told.as_ref(), Asked::by(&asked))
    })?;
    is_prepared(&visit)
}

/// Goes on with a visit; whoever calls it has the turn on its container.
pub fn go_on(context: &Context, record: &OperationRecord) -> Result<Value, Failure> {
    let unreadable = || format!("operation {} in the journal cannot be read", record.id);
    let operation: Arrive = operations::state(record)?;
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
    if let Some(cause) = &failure
        && !matches!(arrival, Arrival::Released | Arrival::Running)
    {
        // Not said where it could not be written down: who asks next has it tried again.
        match keep_cause(world, &visit.peer, id, (without_copy(arrival), cause)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_hears_what_its_turn_waits_for() {
        let (busy, id) = (Busy::default(), CheckpointId::random().unwrap());
        let try_turn = || turn_to_prepare(&busy, &id, Duration::ZERO).map(drop);
        let engine = busy.begin_on_engine().unwrap();
        assert!(try_turn().unwrap_err().contains("Docker itself"));
        drop(engine);
        let first = turn_to_prepare(&busy, &id, Duration::ZERO).unwrap();
        assert!(try_turn().unwrap_err().contains("before"));
        drop(first);
        try_turn().unwrap();
    }
}
