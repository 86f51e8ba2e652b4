//! `upgrade` and `rollback`: the engine changes its version under its containers.
//!
//! ```text
//!  fetch    drain        prepare     install     freeze      restart     restore     verify*      tidy
//!  both     a swarm's    hooks       new         all that    containerd  in order,   a grace      hooks,
//!  ways     tasks go                 packages    is to be    dockerd     hold by     period       active
//!           elsewhere                            frozen                  hold                     again
//!  ─────────────────────────────────────────────┤ containers are away ├────────────────────────────────► * commits
//!
//!  way back, from wherever it failed:
//!           active       bring back  old         nothing     nothing     freeze
//!           again        (restart    packages                            again
//!                        first)      again
//! ```
//!
//! Packages are installed while the containers still run: the long part costs nobody anything. Undoing goes from the
//! right to the left; frozen containers wait for the old packages and, where the engine was touched, for the old engine.
//! They come back as they are by then, not as they were.

mod course;
mod engine;
mod fleet;
mod health;
mod hooks;
mod live;
pub mod order;
mod plan;
mod steps;
mod stopped;
pub mod strategy;
mod swarm;
mod verify;

pub use engine::ensure_starts as ensure_engine_starts;

use crate::docker::Node;
use crate::failure::{Failure, OrFail};
use crate::packages::{self, Fetched, Plan};
use crate::report::{PackageChange, Report};
use crate::saga::{self, Asked, Operation, Step};
use crate::world::Context;
use crate::world::cancels::Cancellable;
use course::Course;
use plan::WayBack;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;
use strategy::Strategy;

/// Taking the engine from one version to another.
#[derive(Debug, Serialize, Deserialize)]
pub struct Upgrade {
    /// Its number in the journal.
    number: Option<i64>,
    /// Who asked for it.
    asked_by: String,
    /// The upgrade that it takes back, if it is a rollback.
    rolls_back: Option<i64>,
    /// The version of the running dockerd before.
    engine_before: String,
    /// Which packages change.
    packages: Plan,
    /// What becomes of each running container, in the order in which they come back.
    containers: Vec<Course>,
    /// Where the packages are; made by the first step.
    fetched: Option<Fetched>,
    /// Whether packages may have been changed and not yet changed back.
    #[serde(default)]
    packages_touched: bool,
    /// Whether the engine has been stopped since the containers were frozen.
    engine_touched: bool,
    /// This host's place in a swarm, where it is one's manager, as it was before.
    node: Option<Node>,
    /// What the operator should know.
    warnings: Vec<String>,
    /// By what a person cancels it.
    #[serde(skip)]
    cancel: Cancellable,
    /// Whether a person has; for a helper that takes it up again.
    #[serde(default)]
    is_cancelled: bool,
}

impl Operation for Upgrade {
    type World = Context;

    const KIND: &'static str = "upgrade";

    fn steps(&self) -> Vec<Step<Self, Context>> {
        use steps::{drain, fetch, freeze, install, prepare, restart, restore, tidy, verify};
        vec![fetch(), drain(), prepare(), install(), freeze(), restart(), restore(), verify().commits(), tidy()]
    }

    fn subject(&self) -> String {
        let change = self.packages.changes.iter().find(|change| change.package == self.packages.target.family.engine());
        let change = change.or(self.packages.changes.first());
        let version = |version: Option<&String>| version.cloned().unwrap_or_else(|| "none".into());
        change.map_or_else(String::new, |change| {
            format!("{} {} to {}", change.package, version(change.from.as_ref()), version(change.to.as_ref()))
        })
    }

    /// Its commit is in the journal and nowhere else.
    fn has_committed(&self, _: &Context) -> bool {
        false
    }

    fn answer(&self) -> Value {
        let containers = self.containers.iter().map(Course::answer);
        json!({
            "operation": self.number,
            "rolls_back": self.rolls_back,
            "packages": self.packages.changes,
            "containers": containers.collect::<Vec<_>>(),
            "warnings": self.warnings,
        })
    }

    fn is_numbered(&mut self, number: i64) {
        self.number = Some(number);
        self.cancel.is_numbered(number);
    }

    fn is_taken_up(&mut self, context: &Context) {
        self.cancel = context.cancels.admit();
        if self.is_cancelled {
            self.cancel.cancel();
        }
    }

    fn go_ahead(&self, commits: bool) -> Result<(), Failure> {
        self.cancel.go_ahead(commits)
    }

    /// Half an upgrade is worth completing: the packages are on disk, and containers wait.
    fn goes_on_after_a_crash(&self) -> bool {
        true
    }
}

impl Upgrade {
    /// Fills in what a report tells of an upgrade besides its steps.
    pub fn tell(&self, report: &mut Report) {
        report.packages = self
            .packages
            .changes
            .iter()
            .map(|change| PackageChange {
                name: change.package.clone(),
                from: change.from.clone(),
                to: change.to.clone(),
            })
            .collect();
        report.containers = self.containers.iter().flat_map(Course::tell).collect();
        report.warnings = self.warnings.clone();
    }

    /// Where its packages are kept.
    fn directory(&self, context: &Context) -> PathBuf {
        context.catalog.layout().upgrade(self.number.unwrap_or_default())
    }

    /// How many bytes of the disk are kept for the way back: for logs, and what dpkg needs to unpack where that is the
    /// same disk.
    fn reserved_bytes(&self, context: &Context) -> packages::Result<u64> {
        Ok(LOG_BYTES + self.packages.space.unpacking_beside(context.catalog.layout().root())?)
    }

    /// Disk space that is kept for the way back.
    fn reserve(&self, context: &Context) -> PathBuf {
        self.directory(context).join("reserve")
    }

    /// The version of the package with dockerd in it after the upgrade; none where that does not change.
    fn engine_package_version(&self) -> Option<&str> {
        let engine = self.packages.target.family.engine();
        self.packages.changes.iter().find(|change| change.package == engine)?.to.as_deref()
    }

    /// As what it asks for its parts.
    fn asks(&self) -> Asked<'_> {
        Asked { by: &self.asked_by, within: self.number }
    }
}

/// apt and dpkg fail when what they tell cannot be written.
const LOG_BYTES: u64 = 16 << 20;

/// Plans an upgrade and, unless only the plan is wanted, carries it out.
pub fn run(
    context: &Context,
    to: Option<String>,
    strategy: Option<&str>,
    may_stop: Vec<String>,
    dry_run: bool,
    asked: Asked<'_>,
) -> Result<Value, Failure> {
    let wish = plan::Wish { to, strategy: strategy.map_or(Ok(None), strategy::parse)?, may_stop, way_back: None };
    carry_out(context, &wish, dry_run, None, asked)
}

/// The same as a part of an operation that is cancelled with it, and commits where it does.
pub fn part(
    context: &Context,
    to: Option<String>,
    may_stop: Vec<String>,
    whole: &Cancellable,
    asked: Asked<'_>,
) -> Result<Value, Failure> {
    let wish = plan::Wish { to, strategy: None, may_stop, way_back: None };
    carry_out(context, &wish, false, Some(whole), asked)
}

/// Plans and carries out the way back to the packages from before an upgrade.
pub fn roll_back(context: &Context, operation: i64, dry_run: bool, peer: &str) -> Result<Value, Failure> {
    let record = context.journal.operation(operation).or_fail(|| "the journal cannot be read".into())?;
    let record = record.filter(|record| record.kind == Upgrade::KIND).ok_or_else(|| {
        Failure::usage(format!("operation {operation} is not an upgrade")).remedy("see: transship history")
    })?;
    if record.phase != saga::Phase::Done {
        return Err(Failure::refused(format!("upgrade {operation} is {}", record.phase))
            .remedy("only an upgrade that is done can be rolled back; see: transship status"));
    }
    let before: Upgrade = serde_json::from_value(record.state)
        .or_fail(|| format!("upgrade {operation} in the journal cannot be read"))?;
    let Some(fetched) = before.fetched.filter(|fetched| fetched.backward.directory.is_dir()) else {
        return Err(Failure::refused(format!("the packages from before upgrade {operation} are not kept any more"))
            .remedy("the packages from before the last one are"));
    };
    // Who might be stopped on the way there may be on the way back.
    let stopped = before.containers.iter().filter(|course| course.strategy == Strategy::Stop);
    let may_stop = stopped.flat_map(Course::names).collect();
    let way_back = WayBack { operation, packages: before.packages.reversed(), fetched: fetched.reversed() };
    let wish = plan::Wish { to: None, strategy: None, may_stop, way_back: Some(way_back) };
    carry_out(context, &wish, dry_run, None, Asked::by(peer))
}

/// One that needs a person stands on packages and an engine that must not change under it.
fn refuse_beside_another(context: &Context) -> Result<(), Failure> {
    let waiting = context.journal.needing_a_person().or_fail(|| "the journal cannot be read".into())?;
    match waiting.iter().find(|record| record.kind == Upgrade::KIND) {
        None => Ok(()),
        Some(record) => Err(Failure::refused(format!("upgrade {} is not at its end", record.id))
            .remedy(format!("transship resume {}", record.id))),
    }
}

fn carry_out(
    context: &Context,
    wish: &plan::Wish,
    dry_run: bool,
    whole: Option<&Cancellable>,
    asked: Asked<'_>,
) -> Result<Value, Failure> {
    let turn = super::turn_on_everything(context)?;
    refuse_beside_another(context)?;
    let mut planned = plan::make(context, wish, asked.by)?;
    let plan = planned.answer();
    if dry_run {
        return Ok(json!({ "plan": plan }));
    }
    planned.upgrade.cancel = context.cancels.admit();
    if let Some(whole) = whole {
        whole.commits_with(&planned.upgrade.cancel);
    }
    let world = &context.world;
    let answer = saga::run(planned.upgrade, context, &world.journal, &world.failpoints, context.told.as_ref(), asked);
    drop(turn);
    super::settled::containers(world);
    answer
}
