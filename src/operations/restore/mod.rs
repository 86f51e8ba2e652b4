//! `restore`: bring frozen containers back, or make a new one from a checkpoint.
//!
//! ```text
//! in place:  verify           claim  start*
//! as new:    verify  create   claim  start*                                        * commits
//! ```
//!
//! Between `docker start` and its return, the gate ([`crate::restore::gate`]) puts the network in order and lifts
//! the hold. What is left to do then, such as the restart policy, is done when the container runs.

mod steps;
mod targets;

pub use steps::put_files;

use crate::failure::{Failure, OrFail};
use crate::saga::{self, Asked, Operation, Step};
use crate::store::{CheckpointId, ContainerId};
use crate::world::returns::Return;
use crate::world::{Context, World};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Restoring one group of containers, or one new container.
#[derive(Debug, Serialize, Deserialize)]
pub struct Restore {
    /// In the order in which they are started: who owns the network namespace first.
    targets: Vec<Target>,
    /// Whether a container that cannot be restored is started afresh.
    cold_start_on_failure: bool,
    /// Whether checkpoints that were verified a moment ago are not verified once more.
    #[serde(skip)]
    verified_ahead: bool,
    /// From the first start until the operation has ended. Until then nothing of them is settled, and whoever finds it
    /// unfinished finds by that what was let go.
    #[serde(skip)]
    returning: Option<Return>,
}

/// One container to restore.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Target {
    /// From this checkpoint.
    checkpoint: CheckpointId,
    /// The name it has or gets.
    name: String,
    /// The container; unknown until a new one is created.
    container: Option<ContainerId>,
    /// Whether a new container is made.
    is_new: bool,
    /// How long it was away, in microseconds; unknown for checkpoints of containers that ran on.
    downtime_us: Option<u64>,
    /// Whether its claim is this operation's to place and to withdraw: a frozen container has one already.
    claimed_here: bool,
    /// Whether a helper before this one let it go.
    #[serde(default)]
    was_let_go: bool,
    /// Why it cannot be restored, where it is to be started afresh for that.
    damaged: Option<String>,
    /// Whether it was started afresh.
    cold_started: bool,
}

impl Operation for Restore {
    type World = Context;

    const KIND: &'static str = "restore";

    fn steps(&self) -> Vec<Step<Self, Context>> {
        match self.targets.iter().any(|target| target.is_new) {
            // Which container it is has to be known on disk before it is claimed.
            true => vec![steps::verify(), steps::create(), steps::claim().on_disk(), steps::start().commits()],
            false => vec![steps::verify(), steps::claim(), steps::start().commits()],
        }
    }

    fn has_committed(&self, context: &Context) -> bool {
        self.targets.iter().any(|target| target.was_let_go(context))
    }

    /// What it does since is nowhere else.
    fn is_out_of_hand(&self, context: &Context) -> bool {
        self.has_committed(context)
    }

    fn is_taken_up(&mut self, context: &Context) {
        self.note_let_go(context);
    }

    fn notes_where_it_stands(&mut self, context: &Context) -> bool {
        self.note_let_go(context);
        true
    }

    fn subject(&self) -> String {
        self.targets.iter().map(|target| target.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn answer(&self) -> Value {
        let one = |target: &Target| {
            json!({
                "name": target.name,
                "id": target.container,
                "checkpoint": target.checkpoint,
                "downtime_us": target.downtime_us,
                "cold_started": target.cold_started,
            })
        };
        json!({ "containers": self.targets.iter().map(one).collect::<Vec<_>>() })
    }
}

impl Restore {
    fn of(targets: Vec<Target>) -> Self {
        Self { targets, cold_start_on_failure: false, verified_ahead: false, returning: None }
    }

    /// What tells that they were let go is gone when all that a freeze had set aside is put back.
    fn note_let_go(&mut self, context: &Context) {
        for target in &mut self.targets {
            target.was_let_go = target.was_let_go(context);
        }
    }

    /// Whether nothing is left to decide: all of them run, or were removed.
    pub fn is_seen_to(&self, world: &World) -> bool {
        self.targets.iter().all(|target| {
            let Some(container) = &target.container else { return false };
            let waits = !world.claims.find(container).is_ok_and(|claim| claim.is_none());
            match world.docker.container(container.as_str()) {
                Ok(found) => found.is_up() && !waits,
                Err(error) => error.is_not_found() && !waits,
            }
        })
    }
}

impl Target {
    /// Whether it was let go, or started afresh as was allowed: it may have run.
    fn was_let_go(&self, context: &Context) -> bool {
        let let_go = |container| context.claims.was_let_go(container, &self.checkpoint);
        self.was_let_go || self.cold_started || self.container.as_ref().is_some_and(let_go)
    }
}

/// Finds what is to be restored, checks that it can be, and restores it.
pub fn run(
    context: &Context,
    reference: &str,
    name: Option<String>,
    cold_start_on_failure: bool,
    peer: &str,
) -> Result<Value, Failure> {
    let targets = targets::find(context, reference, name.as_deref())?;
    if cold_start_on_failure && targets.len() > 1 {
        let names: Vec<_> = targets.iter().map(|target| target.name.as_str()).collect();
        let names = names.join(", ");
        return Err(Failure::refused(format!("{names} were frozen as one, and run again as one or not at all")).remedy(
            "restore them without --cold-start-on-failure; where that fails: transship rm --force CHECKPOINT, then docker start",
        ));
    }
    let _turn = super::turn(context, targets.iter().map(|target| target.name.clone()).collect())?;
    let operation = Restore { cold_start_on_failure, ..Restore::of(targets) };
    let answer = carry_out(context, operation, Asked::by(peer));
    super::pack::begin(&context.world);
    answer
}

/// Brings a frozen container, and the group that it was frozen in, back in place, as a part of a larger operation that
/// has the turn on them, and may have verified its checkpoints. Returns how long each was away, in microseconds.
pub fn part(
    context: &Context,
    checkpoint: &CheckpointId,
    asked: Asked<'_>,
) -> Result<BTreeMap<ContainerId, u64>, Failure> {
    let targets = targets::find(context, checkpoint.as_str(), None)?;
    let operation = Restore { verified_ahead: true, ..Restore::of(targets) };
    let answer = carry_out(context, operation, asked)?;
    let containers = answer["containers"].as_array().into_iter().flatten();
    let away = containers.filter_map(|one| Some((one["id"].as_str()?.parse().ok()?, one["downtime_us"].as_u64()?)));
    Ok(away.collect())
}

/// Brings back just these of the containers that were frozen together, in place; the others run.
pub fn members(context: &Context, checkpoints: &[CheckpointId], asked: Asked<'_>) -> Result<(), Failure> {
    let targets = targets::of(context, checkpoints)?;
    carry_out(context, Restore::of(targets), asked).map(drop)
}

/// The checkpoints of restores that wait for a person, who may have them restored once more.
pub fn left_to_a_person(world: &World) -> Result<Vec<CheckpointId>, Failure> {
    let waiting = world.journal.needing_a_person().or_fail(|| "the journal cannot be read".into())?;
    let restores = waiting.into_iter().filter(|record| record.kind == Restore::KIND);
    let restores = restores.filter_map(|record| serde_json::from_value::<Restore>(record.state).ok());
    Ok(restores.flat_map(|restore| restore.targets).map(|target| target.checkpoint).collect())
}

fn carry_out(context: &Context, mut operation: Restore, asked: Asked<'_>) -> Result<Value, Failure> {
    targets::admit(context, &mut operation.targets)?;
    let world = &context.world;
    saga::run(operation, context, &world.journal, &world.failpoints, context.told.as_ref(), asked)
}
