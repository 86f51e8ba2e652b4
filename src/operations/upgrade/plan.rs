//! What an upgrade will do, found out before anything is touched.

use super::Upgrade;
use super::course::{Course, Traveller};
use super::order::{self, Place};
use super::strategy::{self, Situation, Strategy};
use super::{stopped, swarm};
use crate::checkpoint::mend::processes_of;
use crate::criu::canary::CanaryReport;
use crate::docker::{Container, Engine};
use crate::failure::{Failure, OrFail};
use crate::operations::check;
use crate::packages::{self, Fetched, PackageError, PackageManager, Plan, Space};
use crate::process::Identity;
use crate::restore::addresses;
use crate::services::{Interposition, effective_runc};
use crate::store::ContainerId;
use crate::world::Context;
use crate::world::cancels::Cancellable;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the operator asks for.
#[derive(Debug)]
pub struct Wish {
    /// The engine's version; none for the newest that the package manager would choose.
    pub to: Option<String>,
    /// The strategy for all containers whose label says nothing; none for `auto`.
    pub strategy: Option<Strategy>,
    /// Containers that may be stopped, by name.
    pub may_stop: Vec<String>,
    /// The upgrade that is taken back.
    pub way_back: Option<WayBack>,
}

/// What an upgrade has left for the way back from it.
#[derive(Debug)]
pub struct WayBack {
    /// The upgrade's number.
    pub operation: i64,
    /// Its packages, the other way round.
    pub packages: Plan,
    /// The same on disk.
    pub fetched: Fetched,
}

/// An upgrade that could begin.
pub struct Planned {
    /// The operation.
    pub upgrade: Upgrade,
    /// What the canary measured on this host; none where nothing is frozen.
    canary: Option<CanaryReport>,
    /// Free bytes where checkpoints are stored.
    free: u64,
}

/// What stays free in the store after all containers were frozen, at the least.
const RESERVE: u64 = 256 << 20;

/// Finds out everything, and refuses what cannot be. Nothing is touched.
pub fn make(context: &Context, wish: &Wish, peer: &str) -> Result<Planned, Failure> {
    let engine = context.docker.engine().or_fail(|| "Docker does not say what it is".into())?;
    let manager = packages::of_this_host().map_err(|error| refusal("this host cannot be upgraded", &error))?;
    let packages = plan_packages(manager.as_ref(), wish)?;
    let (rolls_back, fetched) = wish.way_back.as_ref().map(|back| (back.operation, back.fetched.clone())).unzip();
    let target = packages.changes.iter().find(|change| change.package == packages.target.family.engine());
    let target_version = target.and_then(|change| change.to.clone()).unwrap_or_else(|| engine.version.clone());
    let node = swarm::node(context, &engine)?;
    let containers = running(context)?;
    let mut courses = stopped::set_apart(choose(context, wish, &engine, &target_version, containers)?);
    // Within a wave by address: Docker hands addresses out from the lowest. They are frozen in the same order, so that
    // who goes first is back first.
    courses.sort_by_key(|course| (course.wave, course.address));
    let is_frozen = courses.iter().any(|course| course.strategy == Strategy::Freeze);
    let canary = is_frozen.then(|| canary(context)).transpose()?;
    if is_frozen && effective_runc() != Interposition::Interposed {
        return Err(Failure::refused("the interposer is not in front of runc: what is frozen could not be restored")
            .remedy("run: transship install"));
    }
    let free = room(context, &courses, &packages.space)?;
    let mut warnings = warnings(&packages, &courses, &engine, target_version.as_str());
    warnings.extend(
        node.is_some().then(|| "this node's tasks of the swarm are drained, and it is made active again".into()),
    );
    let upgrade = Upgrade {
        number: None,
        asked_by: peer.to_owned(),
        rolls_back,
        engine_before: engine.version,
        packages,
        containers: courses,
        fetched,
        packages_touched: false,
        engine_touched: false,
        node,
        warnings,
        cancel: Cancellable::default(),
        is_cancelled: false,
    };
    Ok(Planned { upgrade, canary, free })
}

fn plan_packages(manager: &dyn PackageManager, wish: &Wish) -> Result<Plan, Failure> {
    let failed = |error: PackageError| refusal("the packages cannot be changed", &error);
    // What dpkg has left half done keeps apt from planning anything, and apt's own words for it are others.
    require_ready(manager, &[])?;
    let plan = match &wish.way_back {
        Some(back) => {
            require_unchanged(manager, back)?;
            back.packages.clone()
        }
        None => {
            let wanted = packages::Wish { version: wish.to.clone(), allow_downgrade: false, criu: false };
            let target = manager.target(&wanted).map_err(failed)?;
            let plan = manager.plan(&target).map_err(failed)?;
            manager.reach(&plan).map_err(|error| refusal("the packages cannot be fetched", &error))?;
            plan
        }
    };
    let names: Vec<String> = plan.changes.iter().map(|change| change.package.clone()).collect();
    require_ready(manager, &names)?;
    Ok(plan)
}

/// Whether the packages can be changed just now.
fn require_ready(manager: &dyn PackageManager, names: &[String]) -> Result<(), Failure> {
    let problems = manager.problems(names).map_err(|error| refusal("the packages cannot be looked at", &error))?;
    match problems.split_first() {
        None => Ok(()),
        Some((first, others)) => {
            let others = others.iter().map(|problem| format!("{}; {}", problem.reason(), problem.remedy())).collect();
            Err(Failure::refused(format!("the packages cannot be changed now: {}", first.reason()))
                .remedy(first.remedy())
                .details(others))
        }
    }
}

/// The way back begins where the upgrade has ended.
fn require_unchanged(manager: &dyn PackageManager, back: &WayBack) -> Result<(), Failure> {
    let differences = manager.differences(&back.fetched.backward);
    let differences = differences.map_err(|error| refusal("the packages cannot be looked at", &error))?;
    if differences.is_empty() {
        return Ok(());
    }
    Err(Failure::refused(format!("the packages are not any more as upgrade {} has left them", back.operation))
        .details(differences.iter().map(ToString::to_string).collect())
        .remedy("choose a version instead: transship upgrade --to VERSION"))
}

/// A failure of the package manager's before anything was touched.
fn refusal(what: &str, error: &PackageError) -> Failure {
    let failure = Failure::refused(what).because(error).details(error.log().to_vec());
    match error.remedy() {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    }
}

fn running(context: &Context) -> Result<Vec<Container>, Failure> {
    let all = context.containers().or_fail(|| "the containers cannot be listed".into())?;
    // A swarm's tasks are drained.
    let is_there = |container: &Container| container.is_up() && !container.is_swarm_task();
    Ok(all.into_iter().filter(is_there).collect())
}

/// Containers that share a network namespace, its owner first, go together.
fn groups(containers: Vec<Container>) -> Vec<Vec<(Container, Place)>> {
    let places = order::places(&containers);
    let mut groups: BTreeMap<String, Vec<(Container, Place)>> = BTreeMap::new();
    for (container, place) in containers.into_iter().zip(places) {
        let owner = container.shares_network_of().unwrap_or(container.id()).to_owned();
        groups.entry(owner).or_default().push((container, place));
    }
    for members in groups.values_mut() {
        members.sort_by_key(|(container, _)| container.shares_network_of().is_some());
    }
    groups.into_values().collect()
}

fn choose(
    context: &Context,
    wish: &Wish,
    engine: &Engine,
    target_version: &str,
    containers: Vec<Container>,
) -> Result<Vec<stopped::Needed>, Failure> {
    let not_live =
        strategy::against_live_restore(engine.live_restore, engine.in_swarm, &engine.version, target_version);
    let stray = wish.may_stop.iter().find(|name| !containers.iter().any(|container| is_called(container, name)));
    if let Some(name) = stray.filter(|_| wish.way_back.is_none()) {
        return Err(Failure::usage(format!("there is no running container {name:?} that may be stopped"))
            .remedy("see: docker ps"));
    }
    let mut courses = Vec::new();
    let mut refused = Vec::new();
    for group in groups(containers) {
        let names: Vec<&str> = group.iter().map(|(container, _)| container.name()).collect();
        let names = names.join(", ");
        let situation = Situation {
            wish: wish_for(&group, wish)?,
            not_frozen: against_freezing(context, &group)?,
            not_live: not_live.clone(),
            may_stop: group.iter().all(|(container, _)| may_stop(container, wish)),
        };
        match strategy::choose(&situation) {
            Ok((strategy, reason)) => courses.push(stopped::Needed {
                course: course(&group, strategy, reason)?,
                by: group.iter().flat_map(|(_, place)| place.needed_by.clone()).collect(),
            }),
            Err(why) => refused.push(format!("{names}: {why}")),
        }
    }
    match refused.split_first() {
        None => Ok(courses),
        Some((first, others)) => Err(Failure::refused(format!("not every container can go through it: {first}"))
            .details(others.to_vec())
            .remedy(
                "transship check NAME says what to do about it; a container that may be stopped and started afresh is \
                 named with --may-stop NAME, or has the label transship.strategy=stop",
            )),
    }
}

fn wish_for(group: &[(Container, Place)], wish: &Wish) -> Result<Option<Strategy>, Failure> {
    let labels = group.iter().find_map(|(container, _)| container.label(strategy::LABEL));
    match labels {
        Some(word) => strategy::parse(word.trim()).map_err(|failure| {
            let name = group[0].0.name();
            Failure::refused(format!("the label {} of {name} cannot be followed", strategy::LABEL)).because(&failure)
        }),
        None => Ok(wish.strategy),
    }
}

fn may_stop(container: &Container, wish: &Wish) -> bool {
    let named = wish.may_stop.iter().any(|name| is_called(container, name));
    (named || container.label(strategy::LABEL) == Some("stop")) && !container.removes_itself()
}

fn is_called(container: &Container, name: &str) -> bool {
    name == container.name() || (!name.is_empty() && container.id().starts_with(name))
}

/// Why a group cannot be frozen here; none where it can.
fn against_freezing(context: &Context, group: &[(Container, Place)]) -> Result<Option<String>, Failure> {
    let ids: Vec<String> = group.iter().map(|(container, _)| container.id().to_owned()).collect();
    for (container, _) in group {
        if !container.is_running() {
            return Ok(Some(format!("{} is {}", container.name(), container.status())));
        }
        let judgement = check::judge(context, container, &ids, false)?;
        if let Some(first) = judgement.refusals.first() {
            return Ok(Some(first.reason.clone()));
        }
    }
    Ok(None)
}

fn course(group: &[(Container, Place)], strategy: Strategy, reason: String) -> Result<Course, Failure> {
    let mut members = Vec::new();
    let mut memory_bytes = 0;
    for (container, _) in group {
        let name = container.name().to_owned();
        let id: ContainerId = container.id().parse().or_fail(|| format!("Docker's id of {name} is not one"))?;
        let init = container.pid().and_then(Identity::of);
        if init.is_none() && strategy != Strategy::Stop {
            return Err(Failure::refused(format!("{name} is ending")).remedy("try again"));
        }
        memory_bytes +=
            init.map(|init| processes_of(init.pid).into_iter().map(resident).sum::<u64>()).unwrap_or_default();
        let was_healthy = container.health().map(|health| health == "healthy");
        let restart_policy = (strategy == Strategy::Stop).then(|| container.restart_policy());
        members.push(Traveller {
            id,
            name,
            init,
            was_healthy,
            restart_policy,
            checkpoint: None,
            away_us: 0,
            held: None,
        });
    }
    let wave = group.iter().map(|(_, place)| place.wave).max().unwrap_or_default();
    let wait_healthy = group.iter().any(|(_, place)| place.wait_healthy);
    let address =
        group.first().and_then(|(owner, _)| addresses::chosen_by_docker(owner).first().map(|(_, address)| *address));
    Ok(Course { members, strategy, reason, wave, address, wait_healthy, memory_bytes, spans: Vec::new() })
}

/// Bytes of memory that a process has; 0 when it has ended.
fn resident(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * 4096
}

/// A process of our own is frozen and restored on this very host, for real.
fn canary(context: &Context) -> Result<CanaryReport, Failure> {
    check::canary(context).map_err(|error| {
        Failure::refused("CRIU cannot freeze and restore on this host").because(&error).remedy("see: transship check")
    })
}

/// Free bytes in the store, where all that is to be frozen fits.
fn room(context: &Context, courses: &[Course], packages: &Space) -> Result<u64, Failure> {
    let root = context.catalog.layout().root();
    let looked_at = || format!("{} cannot be looked at", root.display());
    let found = nix::sys::statvfs::statvfs(root).or_fail(looked_at)?;
    let free = found.blocks_available() * found.fragment_size();
    let frozen = courses.iter().filter(|course| course.strategy != Strategy::Stop);
    let memory = frozen.map(|course| course.memory_bytes + course.memory_bytes / 10).sum::<u64>();
    // What is unpacked, and as much for the way back.
    let unpacked = packages.unpacking_beside(root).or_fail(looked_at)?;
    let needed = memory + packages.forward + packages.backward + 2 * unpacked + RESERVE;
    if needed > free {
        return Err(Failure::refused(format!(
            "the packages and the containers' memory may take {} MiB, and {} MiB are free where they are stored",
            needed >> 20,
            free >> 20
        ))
        .remedy("free some space there, or remove old checkpoints: transship gc"));
    }
    Ok(free)
}

fn warnings(packages: &Plan, courses: &[Course], engine: &Engine, to: &str) -> Vec<String> {
    let mut warnings: Vec<String> =
        packages.removed().map(|change| format!("the package {} will be REMOVED", change.package)).collect();
    warnings.extend(courses.iter().filter(|course| course.strategy == Strategy::Stop).map(stopped::warning));
    let major = |version: &str| {
        packages::without_epoch(version)
            .split('.')
            .next()
            .and_then(|major| major.parse::<u32>().ok())
            .unwrap_or_default()
    };
    if major(&engine.version) < 29 && major(to) >= 29 {
        warnings.push("Docker 29 refuses clients of an API older than 1.44: see what talks to docker.sock".into());
    }
    warnings
}

impl Planned {
    /// The plan for the operator.
    pub fn answer(&self) -> Value {
        let upgrade = &self.upgrade;
        let frozen = upgrade.containers.iter().filter(|course| course.strategy == Strategy::Freeze);
        json!({
            "engine": upgrade.engine_before,
            "subject": crate::saga::Operation::subject(upgrade),
            "rolls_back": upgrade.rolls_back,
            "packages": upgrade.packages.changes,
            "download_bytes": upgrade.packages.space.forward + upgrade.packages.space.backward,
            "disk_bytes": upgrade.packages.space.unpacking,
            "checkpoint_bytes": frozen.map(|course| course.memory_bytes).sum::<u64>(),
            "free_bytes": self.free,
            "canary": self.canary,
            "window_us": self.window_us(),
            "containers": upgrade.containers.iter().map(Course::answer).collect::<Vec<_>>(),
            "warnings": upgrade.warnings,
        })
    }

    /// How long freezing and restoring will take all together, in microseconds, after what the canary took and the
    /// memory that there is. The engine's own restart comes on top.
    fn window_us(&self) -> Option<u64> {
        let canary = self.canary.as_ref()?;
        let frozen = self.upgrade.containers.iter().filter(|course| course.strategy == Strategy::Freeze);
        let (count, bytes) = frozen.fold((0_u64, 0), |(count, bytes), course| {
            (count + course.members.len() as u64, bytes + course.memory_bytes)
        });
        let at_once = super::fleet::away_at_once() as u64;
        let each = canary.dump_us + canary.restore_us + DOCKERS_PART_US;
        Some(each * count.div_ceil(at_once) + bytes / BYTES_PER_US)
    }
}

/// What Docker takes to end and to start a container, in microseconds, about.
const DOCKERS_PART_US: u64 = 300_000;

/// Memory goes to the page cache and comes back from it: 1 GiB/s, about.
const BYTES_PER_US: u64 = 1 << 10;
