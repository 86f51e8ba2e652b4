//! `migrate`: running containers go to a peer, and their clients keep their connections.
//!
//! ```text
//!  source:       expect  set-aside  pre-copy  rounds  hold  freeze  dump  copy  seal  ship  restore  commit*  forward  release  stop  remove
//!                  │                   │        │     └────────────────── the container stands still ──────────────────┘
//!  destination:  make                files    memory              files ◄──────────────┘      └► stopped           └► runs
//! ```
//!
//! Who owns the container is decided by [`crate::handover`]. On the source the claim is the journal of the commit: it is
//! what CRIU's action script and a helper that starts again look at, and it names the peer, so that nothing restores
//! what has gone. Until then every failure thaws the container where it stood; afterwards it never thaws by itself (I3).
//!
//! Containers that belong together ([`group`]) are one migration with one commit: the claim on the first of them, placed last.

pub mod binds;
mod compress;
mod files;
mod follow;
pub mod group;
mod link;
pub mod logs;
mod lost;
pub mod memory;
mod outlook;
mod steps;
pub mod talk;
pub mod volumes;

pub use follow::pages;
pub use talk::RESTORE;

use crate::archive::blocks::KnownBlocks;
use crate::docker::Container;
use crate::failure::{Failure, OrFail};
use crate::handover::departure::Outcome;
use crate::handover::{Arrival, Departure, Request};
use crate::migration::{decide, words};
use crate::network::ways::Link;
use crate::operations::{
    self,
    checkpoint::{self, Checkpoint, Member},
};
use crate::saga::{self, Asked, Operation, OperationRecord, Phase, Step};
use crate::store::handovers::About;
use crate::store::{CheckpointId, ContainerId};
use crate::transport::client::{Compress, PeerError};
use crate::world::Context;
use crate::world::cancels::Cancellable;
use crate::world::decisions::Decision;
use binds::{Bind, Rule};
use logs::Log;
use memory::{Goal, Mode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;
use volumes::Volume;

/// Moving containers that belong together.
#[derive(Debug, Serialize, Deserialize)]
pub struct Migrate {
    /// The containers, and how they are frozen.
    freeze: Checkpoint,
    /// Where they go.
    peer: String,
    /// How the two hosts reach each other.
    link: Link,
    /// Where the source stands.
    departure: Departure,
    /// Their named volumes.
    volumes: Vec<Volume>,
    /// What they have mounted of this host.
    binds: Vec<Bind>,
    /// What they have written, where Docker keeps that in files.
    #[serde(skip)]
    logs: Vec<Log>,
    /// The containers there, in the same order.
    containers_there: Vec<ContainerId>,
    /// Whether the containers here stay, stopped.
    keep_source: bool,
    /// The peer's boot that has the containers: after another, what came may not have reached its disk.
    boot_there: Option<String>,
    /// What the peer has of the checkpoints.
    sent: files::AllSent,
    /// When the peer said that they run.
    ran_at: Option<jiff::Timestamp>,
    /// What a person has decided by force.
    decided: Option<Decision>,
    /// How hard what is sent is compressed; chosen by what is measured where there is none.
    compress: Option<Compress>,
    /// How many bytes a second are sent.
    rate: Option<NonZeroU64>,
    /// When memory travels.
    mode: Mode,
    /// How long they may be away.
    goal: Option<Goal>,
    /// Bytes a second that went to the peer, as it was measured last.
    measured_link: Option<u64>,
    /// Bytes of memory that were sent while they ran.
    memory_sent: u64,
    /// Blocks of memory that the peer has.
    #[serde(skip)]
    known: Option<Arc<KnownBlocks>>,
    /// By what a person cancels it.
    #[serde(skip)]
    cancel: Cancellable,
    /// Whether connections that cannot live on are closed at once.
    closes_lost: bool,
}

impl Operation for Migrate {
    type World = Context;

    const KIND: &'static str = "migrate";

    fn steps(&self) -> Vec<Step<Self, Context>> {
        use steps::{commit, copy, dump, expect, forward, freeze, hold, pre_copy, release, remove, restore};
        use steps::{seal, set_aside, ship, stop};
        let running = [expect(), set_aside(), pre_copy()];
        let rounds = (!self.mode.has_memory_follow()).then(memory::rounds);
        let frozen = [hold(), freeze(), dump(), copy(), seal(), ship(), restore()];
        // From the claim on a later helper goes forward: it has to find all that led there.
        let commit = [commit().on_disk().commits(), forward(), release()];
        let follow = self.mode.has_memory_follow().then(follow::follow);
        running.into_iter().chain(rounds).chain(frozen).chain(commit).chain(follow).chain([stop(), remove()]).collect()
    }

    /// Where that cannot be read it may have: the destination may have been told so, and runs.
    fn has_committed(&self, context: &Context) -> bool {
        match context.claims.find(self.container()) {
            Ok(claim) => claim.is_some_and(|claim| claim.checkpoint == *self.id() && claim.departed_to.is_some()),
            Err(_) => true,
        }
    }

    /// The destination hears of the claim as soon as it is there, if it asks.
    fn is_out_of_hand(&self, context: &Context) -> bool {
        self.has_committed(context)
    }

    fn is_numbered(&mut self, number: i64) {
        self.cancel.is_numbered(number);
    }

    fn go_ahead(&self, commits: bool) -> Result<(), Failure> {
        self.cancel.go_ahead(commits)
    }

    fn is_taken_back(&self) -> bool {
        self.decided == Some(Decision::Thaw)
    }

    fn subject(&self) -> String {
        format!("{} to {}", self.freeze.subject(), self.peer)
    }

    fn answer(&self) -> Value {
        let one = |(number, member): (usize, &Member)| {
            json!({
                "container": member.name,
                "peer": self.peer,
                "id": self.containers_there.get(number),
                "checkpoint": member.checkpoint,
                "migration": self.id(),
                "mode": self.mode,
                "downtime_us": self.downtime_us(member),
                "sent_bytes": self.sent.get(&member.checkpoint).map_or(0, |sent| sent.bytes),
                "ahead_bytes": self.memory_sent,
            })
        };
        json!({ "containers": self.freeze.members().iter().enumerate().map(one).collect::<Vec<_>>() })
    }
}

impl Migrate {
    /// The containers.
    pub fn members(&self) -> &[Member] {
        self.freeze.members()
    }

    /// It goes elsewhere. Only before it is begun.
    pub fn aim(&mut self, peer: &str, link: Link) {
        (self.peer, self.link) = (peer.to_owned(), link);
    }

    /// The migration's id is its first checkpoint's: never used again.
    fn id(&self) -> &CheckpointId {
        &self.freeze.leader().checkpoint
    }

    /// The container whose claim decides.
    fn container(&self) -> &ContainerId {
        &self.freeze.leader().id
    }

    /// The names of all.
    fn name(&self) -> String {
        self.freeze.subject()
    }

    /// From the freeze until the peer said that it runs, in microseconds.
    fn downtime_us(&self, member: &Member) -> Option<u64> {
        let away = self.ran_at?.duration_since(member.frozen_at?).unsigned_abs();
        u64::try_from(away.as_micros()).ok()
    }
}

/// How containers are to be moved.
#[derive(Debug)]
pub struct How {
    /// Where to.
    pub peer: String,
    /// Whether they stay here as well, stopped.
    pub keep_source: bool,
    /// Whether it is only asked for.
    pub dry_run: bool,
    /// How hard what is sent is compressed.
    pub compress: Option<Compress>,
    /// How many bytes a second are sent.
    pub rate: Option<NonZeroU64>,
    /// When memory travels.
    pub mode: Mode,
    /// How long they may be away.
    pub goal: Option<Goal>,
    /// Whether connections that cannot live on are closed at once, at both ends.
    pub closes_lost: bool,
    /// What becomes of what they have mounted of this host.
    pub binds: Vec<Rule>,
}

impl How {
    /// As it is done where nothing else is asked for.
    pub fn to(peer: impl Into<String>) -> Self {
        Self {
            peer: peer.into(),
            keep_source: false,
            dry_run: false,
            compress: None,
            rate: None,
            mode: Mode::default(),
            goal: None,
            closes_lost: false,
            binds: Vec::new(),
        }
    }
}

/// In what may go nowhere for a while a piece of a body still has to go.
const LEAST_RATE: u64 = 64 << 10;

/// Moves containers to a peer, group by group.
pub fn run(context: &Context, references: &[String], how: &How, asked_by: &str) -> Result<Value, Failure> {
    if how.mode.has_memory_follow() && how.goal.is_some() {
        return Err(Failure::usage(
            "a goal for the downtime is met by memory that goes ahead, and in post-copy none does",
        ));
    }
    if how.dry_run {
        require_rate(how)?;
        return Ok(json!({ "containers": outlook::of(context, references, how)?, "dry_run": true }));
    }
    let link = reach(context, how)?;
    let groups = group::of(context, references)?;
    let names = groups.iter().flatten().map(|member| member.name.clone()).collect();
    let _turn = operations::turn(context, names)?;
    let mut moved = Vec::new();
    for members in groups {
        let answer = begin(context, planned(context, members, how, link)?, Asked::by(asked_by))?;
        moved.extend(answer["containers"].as_array().cloned().unwrap_or_default());
    }
    Ok(json!({ "containers": moved, "dry_run": false }))
}

fn require_rate(how: &How) -> Result<(), Failure> {
    match how.rate.filter(|rate| rate.get() < LEAST_RATE) {
        None => Ok(()),
        Some(rate) => Err(Failure::usage(format!("{rate} bytes a second are too few"))
            .remedy(format!("at least {LEAST_RATE}: less is not told from a network that is stuck"))),
    }
}

/// The way to a peer, which answers.
pub fn reach(context: &Context, how: &How) -> Result<Link, Failure> {
    require_rate(how)?;
    link::to_reachable(context, &how.peer)
}

/// Asks the peer whether it would take them.
pub fn look(context: &Context, migrate: &Migrate) -> Result<(), Failure> {
    talk::look(context, migrate).map(drop)
}

/// Moves a group; whoever calls it has the turn on its containers.
pub fn begin(context: &Context, migrate: Migrate, asked: Asked<'_>) -> Result<Value, Failure> {
    outlook::warn(context, migrate.members(), migrate.link, &migrate.peer)?;
    let world = &context.world;
    saga::run(migrate, context, &world.journal, &world.failpoints, context.told.as_ref(), asked)
}

/// Whether containers can go to a peer, and what becomes of their connections; all running ones, where none is named.
pub fn outlook(
    context: &Context,
    references: &[String],
    peer: String,
    binds: Vec<Rule>,
) -> Result<Vec<Value>, Failure> {
    let how = How { dry_run: true, binds, ..How::to(peer) };
    outlook::of(context, references, &how)
}

/// The migration of containers that belong together; refused where this host has something against it.
pub fn planned(context: &Context, mut members: Vec<Member>, how: &How, link: Link) -> Result<Migrate, Failure> {
    checkpoint::admit(context, &mut members, false)?;
    let containers: Vec<Container> = members.iter().map(Member::container).collect();
    let freeze = Checkpoint::of(members);
    let freeze = if how.mode.has_memory_follow() { freeze.without_memory() } else { freeze };
    Ok(Migrate {
        volumes: volumes::of(context, &containers)?,
        binds: binds::of(&containers, &how.binds)?,
        logs: Vec::new(),
        freeze,
        peer: how.peer.clone(),
        link,
        departure: Departure::default(),
        containers_there: Vec::new(),
        keep_source: how.keep_source,
        boot_there: None,
        sent: files::AllSent::new(),
        ran_at: None,
        decided: None,
        compress: how.compress,
        rate: how.rate,
        mode: how.mode,
        goal: how.goal,
        measured_link: None,
        memory_sent: 0,
        known: None,
        cancel: context.cancels.admit(),
        closes_lost: how.closes_lost,
    })
}

/// What the source of a migration has decided, by its own word; nothing where it has not yet.
pub fn decided(peer: &str, id: &CheckpointId) -> Result<Option<Request>, PeerError> {
    let departure: Option<Departure> = talk::peer(peer).get(&words::departure_path(id))?;
    Ok(match departure {
        Some(Departure::GivenUp | Departure::Closed(Outcome::Kept)) => Some(Request::Drop),
        Some(departure) if departure.is_past_commit() => Some(Request::Commit),
        _ => None,
    })
}

/// Where a migration from here stands; a destination asks that has waited for long.
///
/// It is told to its destination alone.
pub fn standing(context: &Context, peer: &str, id: &CheckpointId) -> Result<Option<Departure>, Failure> {
    let kept = kept(context, id)?.filter(|kept| kept.peer == peer).map(|kept| kept.departure);
    if kept.is_some_and(was_kept) {
        // Where a person has taken it back, the claim goes a while later.
        return Ok(kept);
    }
    let claims = context.claims.all();
    if let Some(claim) = claims.iter().find(|claim| claim.checkpoint == *id && claim.departed_to.is_some()) {
        return Ok((claim.departed_to.as_deref() == Some(peer)).then_some(Departure::Committed));
    }
    Ok(kept)
}

/// Whether a person can decide this about a migration from here.
pub fn can_be(context: &Context, record: &OperationRecord, decision: Decision) -> Result<Migrate, Failure> {
    let operation: Migrate = decide::state(record)?;
    let (name, peer) = (operation.name(), &operation.peer);
    if !matches!(decision, Decision::Thaw | Decision::End) {
        return Err(Failure::usage(format!("{name} leaves this host: it is thawed or ended here")));
    }
    if !operation.has_committed(context) {
        return Err(Failure::refused(format!("{name} was not given to {peer}: whatever fails leaves it running here"))
            .remedy(format!("transship resume {}", record.id)));
    }
    let ends = operation.steps().iter().position(|step| step.name == "stop").unwrap_or_default();
    match decision == Decision::Thaw && record.step >= ends {
        true => Err(Failure::refused(format!("{peer} has said that {name} runs there"))),
        false => Ok(operation),
    }
}

/// What a decision can cost, by what the destination says now; nothing where that is nothing.
pub fn risk(context: &Context, record: &OperationRecord, decision: Decision) -> Result<Option<String>, Failure> {
    let operation = can_be(context, record, decision)?;
    let (name, peer) = (operation.name(), operation.peer.as_str());
    let says = talk::say(peer, operation.id(), Request::Ask);
    Ok(match (decision, says.map(|standing| standing.arrival)) {
        (Decision::Thaw, Ok(Arrival::Dropped)) | (Decision::End, Ok(Arrival::Running)) => None,
        (Decision::Thaw, Ok(Arrival::Lost)) => {
            Some(format!("{name} may have run on {peer} before it was lost there: its clients are taken back in time"))
        }
        (Decision::Thaw, Ok(Arrival::Running | Arrival::Released)) => {
            Some(format!("{name} runs on {peer}: two would run"))
        }
        (Decision::Thaw, Ok(Arrival::Restored)) => {
            Some(format!("{peer} answers and is about to let {name} run: transship resume {} is enough", record.id))
        }
        (Decision::Thaw, Ok(Arrival::Expecting)) => Some(format!(
            "{peer} does not remember {name}, and may have let it run: then its clients are taken back in time"
        )),
        (Decision::Thaw, Err(error)) => Some(format!(
            "{peer} cannot be asked ({error}); if {name} runs there, or comes to run there, two run, and their files differ from then on"
        )),
        (_, Ok(Arrival::Dropped | Arrival::Lost)) => Some(format!(
            "{peer} has no copy of {name}: it would run nowhere until it is restored from its checkpoint here"
        )),
        (_, Ok(_)) => Some(format!("{name} does not run on {peer} yet")),
        (_, Err(error)) => Some(format!("{peer} cannot be asked ({error}): {name} may run nowhere afterwards")),
    })
}

/// Carries a decision out: by whoever is at work on the migration, or else here.
pub fn decide(context: &Context, record: OperationRecord, decision: Decision, asked_by: &str) -> Result<(), Failure> {
    let operation: Migrate = decide::state(&record)?;
    let tell = || context.decisions.leave(operation.id(), decision);
    let turn = decide::turn_after(context, &record, tell);
    // Where nobody has heard it nobody may hear it later: whoever decided is told that it was not carried out, or it is here.
    let is_left = context.decisions.wait(operation.id(), Duration::ZERO).is_some();
    let (_turn, was_told) = turn?;
    if !was_told || is_left {
        carry_out(context, record.id, decision)?;
    }
    let wanted = if decision == Decision::Thaw { Phase::Undone } else { Phase::Done };
    if decision == Decision::Thaw {
        bring_back(context, &operation, asked_by)?;
    }
    decide::ended(context, record.id, wanted)
}

/// Carries a decision out on a migration that nobody works on; whoever calls it has the turn on its container.
fn carry_out(context: &Context, operation: i64, decision: Decision) -> Result<(), Failure> {
    // Whoever had the turn until now may have brought it to its end.
    let mut record = operations::open_record(context, operation)?;
    let migrate = can_be(context, &record, decision)?;
    if decision == Decision::Thaw {
        // Before anything runs here: a loss of power must not leave that it was given away and nothing else.
        keep(context, &migrate, Departure::GivenUp)?;
    }
    record.state["decided"] = json!(decision);
    if let Err(failure) = take_up(context, &record) {
        tracing::info!(operation = record.id, %failure, "a decision is carried out");
    }
    Ok(())
}

/// Restores what was taken back after its processes had ended: it goes on from what was frozen.
fn bring_back(context: &Context, operation: &Migrate, asked_by: &str) -> Result<(), Failure> {
    let mut ended = Vec::new();
    for member in operation.freeze.members() {
        let claim = context.claims.find(&member.id).or_fail(|| "the claims cannot be read".into())?;
        if claim.is_some_and(|claim| claim.checkpoint == member.checkpoint && claim.departed_to.is_none()) {
            // It is refused as one that runs until Docker has heard of their end.
            let stopped = context.docker.wait_until_stopped(member.id.as_str());
            stopped.or_fail(|| format!("{} has ended, and Docker does not say so", member.name))?;
            ended.push(member.checkpoint.clone());
        }
    }
    match ended.is_empty() {
        true => Ok(()),
        false => operations::restore::members(context, &ended, Asked::by(asked_by)).map(drop),
    }
}

/// What is written down of a migration from here.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Where it goes.
    peer: String,
    /// Where it stands.
    departure: Departure,
}

fn kept(context: &Context, id: &CheckpointId) -> Result<Option<Kept>, Failure> {
    context.handovers.get(About::Departure, id).or_fail(|| "where it stands cannot be read".into())
}

fn keep(context: &Context, migrate: &Migrate, departure: Departure) -> Result<(), Failure> {
    let kept = Kept { peer: migrate.peer.clone(), departure };
    let written = context.handovers.put(About::Departure, migrate.id(), &kept);
    written.or_fail(|| format!("where the migration of {} stands cannot be written down", migrate.name()))
}

/// Whether the container was kept here, by what is written down.
fn was_kept(departure: Departure) -> bool {
    matches!(departure, Departure::GivenUp | Departure::Contested | Departure::Closed(Outcome::Kept))
}

/// A host that is a peer no longer asks nothing: what went to it and is closed need not be remembered.
pub fn forget_peer(context: &Context, peer: &str) -> Result<(), Failure> {
    for id in context.handovers.all(About::Departure) {
        let is_past =
            |kept: Kept| kept.peer == peer && (kept.departure.is_closed() || kept.departure == Departure::GivenUp);
        if kept(context, &id)?.is_some_and(is_past) {
            let forgotten = context.handovers.remove(About::Departure, &id);
            forgotten.or_fail(|| "what went to it cannot be forgotten".into())?;
        }
    }
    Ok(())
}

/// At the helper's start: brings a migration to its end that one before it had begun.
pub fn recover(context: &Context, record: &OperationRecord) -> Result<Value, Failure> {
    let _turn = operations::turn_of(context, record)?;
    go_on(context, &operations::open_record(context, record.id)?)
}

/// Brings a migration to its end; whoever calls it has the turn on its container.
pub fn go_on(context: &Context, record: &OperationRecord) -> Result<Value, Failure> {
    let operation: Migrate = decide::state(record)?;
    let ended = take_up(context, record);
    // A helper that had begun to take it back may have died over that.
    if kept(context, operation.id())?.is_some_and(|kept| was_kept(kept.departure)) {
        bring_back(context, &operation, &record.asked_by)?;
    }
    ended
}

fn take_up(context: &Context, record: &OperationRecord) -> Result<Value, Failure> {
    let world = &context.world;
    let operation: Migrate = decide::state(record)?;
    let mut record = record.clone();
    if let Some(kept) = kept(context, operation.id())?.filter(|kept| was_kept(kept.departure)) {
        // It may run here since. That was on disk before it did; the journal may not know.
        record.state["decided"] = json!(Decision::Thaw);
        record.state["departure"] = json!(kept.departure);
    }
    saga::recover::<Migrate>(&record, context, &world.journal, &world.failpoints, context.told.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::departure::Loss;

    #[test]
    fn i1_what_was_kept_here_is_never_told_of_the_commit_again() {
        let kept = [Departure::GivenUp, Departure::Contested, Departure::Closed(Outcome::Kept)];
        assert!(kept.into_iter().all(was_kept));
        let given = [Departure::Committed, Departure::Settled, Departure::Closed(Outcome::Moved)];
        let stranded = [Loss::NeverRan, Loss::MayHaveRun].map(Departure::Stranded);
        assert!(!given.into_iter().chain(stranded).any(was_kept));
        assert!(given.into_iter().chain(stranded).all(Departure::is_past_commit));
    }
}
