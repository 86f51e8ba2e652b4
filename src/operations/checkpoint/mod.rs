//! `checkpoint`: freeze containers to disk, or back them up while they run on.
//!
//! ```text
//! freeze:  set-aside  pre-copy  hold  freeze  dump  copy  seal  claim*  stop
//! backup:             pre-copy  hold  freeze  dump  copy  go-on  seal*
//!                                     └─ the container stands still ─┘          * commits
//! ```
//!
//! The dump ends with the processes standing still and waiting for a verdict. Until the container's checkpoint
//! is sealed and claimed, whatever fails, and whoever dies, they go on as if nothing had happened. Containers
//! that share a network namespace are one group and are frozen together.

pub mod apart;
mod dumping;
mod group;
pub mod line;
mod member;
mod packets;
pub mod steps;

pub use group::{admit, of as groups};
pub use member::Member;

use crate::failure::Failure;
use crate::saga::{self, Asked, Operation, Step};
use crate::store::{CheckpointId, CheckpointName, ContainerId};
use crate::world::cancels::Cancellable;
use crate::world::hurry::Hurry;
use crate::world::{Context, World};
use line::Place;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Freezing or backing up one group of containers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The group; its first member owns the network namespace.
    members: Vec<Member>,
    /// Whether the containers run on.
    leave_running: bool,
    /// Whether their memory stays in the processes, and follows them to another host.
    memory_follows: bool,
    /// Whether CRIU locks networks by nftables.
    nftables: bool,
    /// The checkpoint's name, where one was given.
    name: Option<CheckpointName>,
    /// From the hold to the end of the operation.
    #[serde(skip)]
    hurry: Option<Hurry>,
    /// Its place among others that are frozen at the same time.
    #[serde(skip)]
    place: Option<Place>,
    /// By what a person cancels it.
    #[serde(skip)]
    cancel: Cancellable,
}

impl Operation for Checkpoint {
    type World = Context;

    const KIND: &'static str = "checkpoint";

    fn steps(&self) -> Vec<Step<Self, Context>> {
        use steps::{claim, copy, dump, freeze, go_on, hold, pre_copy, seal, set_aside, stop};
        match self.leave_running {
            true => vec![pre_copy(), hold(), freeze(), dump(), copy(), go_on(), seal().commits()],
            false => vec![set_aside(), pre_copy(), hold(), freeze(), dump(), copy(), seal(), claim().commits(), stop()],
        }
    }

    fn has_committed(&self, context: &Context) -> bool {
        let Some(leader) = self.members.first() else { return false };
        let claim = context.claims.find(&leader.id).ok().flatten();
        claim.is_some_and(|claim| claim.checkpoint == leader.checkpoint)
    }

    fn is_numbered(&mut self, number: i64) {
        self.cancel.is_numbered(number);
    }

    fn is_taken_up(&mut self, context: &Context) {
        self.note_paused(context);
    }

    fn go_ahead(&self, commits: bool) -> Result<(), Failure> {
        self.cancel.go_ahead(commits)
    }

    fn subject(&self) -> String {
        self.members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn answer(&self) -> Value {
        let one = |member: &Member| {
            json!({
                "id": member.checkpoint,
                "container": member.name,
                "left_running": self.leave_running,
                "pages_bytes": member.pages_bytes,
                "frozen_us": member.timings.get("frozen"),
                "timings_us": member.timings,
            })
        };
        json!({ "checkpoints": self.members.iter().map(one).collect::<Vec<_>>() })
    }
}

impl Checkpoint {
    /// Freezing containers that belong together.
    pub fn of(mut members: Vec<Member>) -> Self {
        apart::find_chains(&mut members);
        let (name, hurry, place, cancel) = (None, None, None, Cancellable::default());
        Self { members, leave_running: false, memory_follows: false, nftables: false, name, hurry, place, cancel }
    }

    /// The same, of containers whose memory follows them to another host.
    pub fn without_memory(self) -> Self {
        Self { memory_follows: true, ..self }
    }

    /// Whose claim decides for all; it owns a network namespace. There is always one.
    pub fn leader(&self) -> &Member {
        &self.members[0]
    }

    /// All of them, the leader first.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The same, to be changed.
    pub fn members_mut(&mut self) -> &mut [Member] {
        &mut self.members
    }

    /// Notes which of them an operator has paused while no helper was there. Docker tells that from a freeze of ours, of which it
    /// knows nothing; and one that stands still by us it refuses to pause.
    pub fn note_paused(&mut self, context: &World) {
        for member in &mut self.members {
            let found = context.docker.container(member.id.as_str());
            member.is_paused = found.is_ok_and(|found| found.status() == "paused");
        }
    }

    /// What is left to be done has time.
    pub fn no_hurry(&mut self) {
        self.hurry = None;
    }

    /// Does something with those alone that are chosen.
    pub fn only<T>(&mut self, chosen: impl Fn(&Member) -> bool, act: impl FnOnce(&mut Self) -> T) -> T {
        let all = std::mem::take(&mut self.members);
        let order: Vec<ContainerId> = all.iter().map(|member| member.id.clone()).collect();
        let (members, others) = all.into_iter().partition(chosen);
        self.members = members;
        let done = act(self);
        self.members.extend(others);
        self.members.sort_by_key(|member| order.iter().position(|id| *id == member.id));
        done
    }

    /// Whether nothing is left to decide: the containers that it froze were restored, or given up.
    pub fn is_seen_to(&self, context: &World) -> bool {
        self.members.iter().all(|member| {
            let claim = context.claims.find(&member.id).ok().flatten();
            claim.is_none_or(|claim| claim.checkpoint != member.checkpoint)
        })
    }
}

/// Checks, then freezes or backs up the containers, group by group.
pub fn run(
    context: &Context,
    references: &[String],
    leave_running: bool,
    name: Option<String>,
    peer: &str,
) -> Result<Value, Failure> {
    let name = name.map(|name| name.parse::<CheckpointName>()).transpose();
    let name = name.map_err(|error| Failure::usage("--name is not a name for a checkpoint").because(&error))?;
    let mut groups = groups(context, references, leave_running)?;
    let names = groups.iter().flatten().map(|member| member.name.clone()).collect();
    let _turn = super::turn(context, names)?;
    for members in &mut groups {
        admit(context, members, leave_running)?;
    }
    let mut checkpoints = Vec::new();
    for members in groups {
        let cancel = context.cancels.admit();
        let operation = Checkpoint { leave_running, name: name.clone(), cancel, ..Checkpoint::of(members) };
        let answer = carry_out(context, operation, Asked::by(peer))?;
        checkpoints.extend(answer["checkpoints"].as_array().cloned().unwrap_or_default());
    }
    super::pack::begin(&context.world);
    if let Err(failure) = super::collect::run(context, false) {
        context.told.note(&format!("old checkpoints could not be deleted: {failure}"));
    }
    Ok(json!({ "checkpoints": checkpoints }))
}

/// Freezes or backs up containers that belong together, as a part of a larger operation that has the turn on them; in its
/// place, where others are frozen at the same time. Returns the checkpoint of each.
pub fn part(
    context: &Context,
    names: &[String],
    leave_running: bool,
    mut place: Option<Place>,
    asked: Asked<'_>,
) -> Result<Vec<(ContainerId, CheckpointId)>, Failure> {
    let mut made = Vec::new();
    for mut members in groups(context, names, leave_running)? {
        admit(context, &mut members, leave_running)?;
        let checkpoints = members.iter().map(|member| (member.id.clone(), member.checkpoint.clone()));
        let checkpoints: Vec<_> = checkpoints.collect();
        let operation = Checkpoint { leave_running, place: place.take(), ..Checkpoint::of(members) };
        carry_out(context, operation, asked)?;
        made.extend(checkpoints);
    }
    Ok(made)
}

fn carry_out(context: &Context, operation: Checkpoint, asked: Asked<'_>) -> Result<Value, Failure> {
    let world = &context.world;
    saga::run(operation, context, &world.journal, &world.failpoints, context.told.as_ref(), asked)
}
