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
mod departures;
mod files;
mod follow;
pub mod forced;
mod given_away;
pub mod group;
mod images;
mod link;
pub mod logs;
mod lost;
pub mod memory;
mod outlook;
mod recovery;
mod steps;
pub mod talk;
mod visitors;
pub mod volumes;

pub use departures::{forget_peer, standing};
pub use follow::pages;
pub use recovery::go_on;

use crate::archive::blocks::KnownBlocks;
use crate::docker::Container;
use crate::failure::Failure;
use crate::handover::Departure;
use crate::migration::words::Bodies;
use crate::network::ways::Link;
use crate::operations::{
    self, carriage,
    checkpoint::{self, Checkpoint, Member},
};
use crate::saga::{self, Asked, Operation, Step};
use crate::store::claims::ClaimError;
use crate::store::{CheckpointId, ContainerId};
use crate::transport::client::{Compress, Flow};
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
    /// What was decided since the commit: by a person's force, or by a destination that never ran it.
    decided: Option<Decision>,
    /// How hard what is sent is compressed; chosen by what is measured where there is none.
    compress: Option<Compress>,
    /// How many bytes a second are sent.
    rate: Option<NonZeroU64>,
    /// What is sent no faster than that, all of it together.
    #[serde(skip)]
    flow: Option<Flow>,
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
    /// The bodies of pages that have gone there.
    #[serde(skip)]
    bodies: Bodies,
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
        self.is_given_away(context).unwrap_or(true)
    }

    /// The destination hears of the claim as soon as it is there, if it asks. It may also run there by force.
    fn is_out_of_hand(&self, context: &Context) -> bool {
        self.has_committed(context) || self.departure.is_past_commit()
    }

    fn is_numbered(&mut self, number: i64) {
        self.cancel.is_numbered(number);
    }

    fn is_taken_up(&mut self, context: &Context) {
        self.freeze.note_paused(context);
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

    /// Whether the claim says that it has gone.
    fn is_given_away(&self, context: &Context) -> Result<bool, ClaimError> {
        let claim = context.claims.find(self.container())?;
        Ok(claim.is_some_and(|claim| claim.checkpoint == *self.id() && claim.departed_to.is_some()))
    }

    /// The name of each.
    fn names(&self) -> Vec<String> {
        self.members().iter().map(|member| member.name.clone()).collect()
    }

    /// The names of all, for people.
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
    /// Whoever cancels this cancels the migration.
    pub whole: Option<Arc<Cancellable>>,
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
            whole: None,
        }
    }
}

/// Moves containers to a peer, group by group.
pub fn run(context: &Context, references: &[String], how: &How, asked_by: &str) -> Result<Value, Failure> {
    if how.mode.has_memory_follow() && how.goal.is_some() {
        return Err(Failure::usage(
            "a goal for the downtime is met by memory that goes ahead, and in post-copy none does",
        ));
    }
    if how.dry_run {
        carriage::require_rate(how.rate)?;
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

/// The way to a peer, which answers.
pub fn reach(context: &Context, how: &How) -> Result<Link, Failure> {
    carriage::require_rate(how.rate)?;
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
    let (id, frozen, asked_by) = (migrate.id().clone(), recovery::frozen(&migrate), asked.by.to_owned());
    let ended = saga::run(migrate, context, &world.journal, &world.failpoints, context.told.as_ref(), asked);
    // What the peer has dropped goes on here. Its processes may have ended while that was waited for.
    if ended.is_err() && departures::is_kept(context, &id)? {
        recovery::bring_back(context, &frozen, &asked_by)?;
    }
    ended
}

/// `check --to`: says of this host and of each container (all running ones, where none is named) whether it can go to a peer,
/// and what becomes of its connections.
pub fn check(
    context: &Context,
    references: &[String],
    with_canary: bool,
    peer: String,
    binds: Vec<Rule>,
) -> Result<Value, Failure> {
    let how = How { dry_run: true, binds, ..How::to(peer) };
    operations::check::answer(context, with_canary, || outlook::of(context, references, &how))
}

/// The migration of containers that belong together; refused where this host has something against it.
pub fn planned(context: &Context, mut members: Vec<Member>, how: &How, link: Link) -> Result<Migrate, Failure> {
    checkpoint::admit(context, &mut members, false)?;
    let containers: Vec<Container> = members.iter().map(Member::container).collect();
    let cancel = context.cancels.admit();
    if let Some(whole) = &how.whole {
        whole.takes_along(&cancel);
    }
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
        flow: how.rate.map(Flow::of),
        mode: how.mode,
        goal: how.goal,
        measured_link: None,
        memory_sent: 0,
        known: None,
        bodies: Bodies::default(),
        cancel,
        closes_lost: how.closes_lost,
    })
}
