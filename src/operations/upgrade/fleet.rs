//! Many containers at once: freezing them, and bringing them back in their order.

use super::course::{Course, Traveller};
use super::strategy::Strategy;
use super::{Upgrade, health, stopped};
use crate::failure::{Failure, OrFail, Outcome};
use crate::operations::checkpoint::line::{Line, Place};
use crate::operations::{checkpoint, restore, several};
use crate::restore::{addresses, prepare};
use crate::store::claims::Claim;
use crate::world::{Context, Part};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that are read and hashed in less time than dockerd needs to start.
const QUICKLY_VERIFIED: u64 = 512 << 20;

/// How many containers are on their way to disk at once: CRIU keeps a core busy, and more would be away without being
/// worked on.
pub fn away_at_once() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

/// How many are prepared for that at once: most of these wait for Docker.
fn prepared_at_once() -> usize {
    away_at_once() * 4
}

/// How many come back at once. Those that were frozen first wait longest, and beside more they would come back later; with
/// fewer, processors would idle while Docker waits for the kernel.
fn back_at_once() -> usize {
    away_at_once() * 2
}

/// Freezes (or backs up, or stops) every container that is not yet, those that come back last first. Where one fails, those
/// whose turn has not come yet run on.
pub fn freeze(upgrade: &mut Upgrade, context: &Context) -> Result<(), Failure> {
    let mut courses = std::mem::take(&mut upgrade.containers);
    let mut order: Vec<&mut Course> = courses.iter_mut().collect();
    order.sort_by_key(|course| std::cmp::Reverse(course.wave));
    let line = Line::of(order.iter().map(|course| course.wave), prepared_at_once(), away_at_once());
    let places = (0..order.len()).map(|index| line.place(index)).collect::<Vec<_>>();
    let (failures, whole) = (Mutex::new(Vec::new()), &*upgrade);
    std::thread::scope(|threads| {
        for (index, (course, place)) in order.into_iter().zip(places).enumerate() {
            let (failures, line) = (&failures, &line);
            threads.spawn(move || match go(course, place, whole, context) {
                // It runs on, since another one has failed, which tells why.
                Err(failure) if line.gave_up(index) && failure.outcome != Outcome::NeedsPerson => {}
                Err(failure) => failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure),
                Ok(()) => {}
            });
        }
    });
    upgrade.containers = courses;
    several::together(failures.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Brings back every container that is away, wave by wave. Where one does not come back the others still do.
pub fn bring_back(upgrade: &mut Upgrade, context: &Context) -> Result<(), Failure> {
    let mut courses = std::mem::take(&mut upgrade.containers);
    let waves = courses.chunk_by_mut(|one, other| one.wave == other.wave);
    let returning = context.returns.begin_some();
    let come_back = |course: &mut Course| come_back(course, upgrade, context);
    let failures = waves.flat_map(|wave| several::failures(wave, back_at_once(), come_back)).collect();
    drop(returning);
    // Docker may have begun to bring some back, and gone down in between.
    addresses::sweep(context);
    upgrade.containers = courses;
    several::together(failures)
}

/// The context of a part of the upgrade.
fn part_of(context: &Context, course: &Course) -> Context {
    let told = Part { whole: Arc::clone(&context.told), container: course.title() };
    Context { world: Arc::clone(&context.world), told: Arc::new(told) }
}

fn go(course: &mut Course, place: Place, upgrade: &Upgrade, context: &Context) -> Result<(), Failure> {
    if !place.prepare() {
        return Ok(());
    }
    let part = part_of(context, course);
    match course.strategy {
        Strategy::Freeze if is_away(course, context)? => {}
        Strategy::Freeze => {
            let made = checkpoint::part(&part, &course.names(), false, Some(place), upgrade.asks())?;
            course.note_checkpoints(&made);
            return Ok(());
        }
        // Its backup is there: this step was cut short and is run again.
        Strategy::LiveRestore if course.members.iter().all(|member| member.checkpoint.is_some()) => {}
        // Before the first of the others is away.
        Strategy::LiveRestore => back_up(course, upgrade, &part),
        Strategy::Stop if place.enter() => {
            place.idle();
            stopped::stop_all(course, context)?;
        }
        Strategy::Stop => return Ok(()),
    }
    place.leave();
    Ok(())
}

/// For the case that it does not run on as Docker promises. What cannot be frozen goes without.
fn back_up(course: &mut Course, upgrade: &Upgrade, part: &Context) {
    match checkpoint::part(part, &course.names(), true, None, upgrade.asks()) {
        Ok(made) => course.note_checkpoints(&made),
        Err(failure) => part.told.note(&format!("{} goes without a backup: {failure}", course.title())),
    }
}

/// Whether its containers are frozen: claims stand on them.
fn is_away(course: &Course, context: &Context) -> Result<bool, Failure> {
    let claim = |member: &Traveller| {
        context.claims.find(&member.id).or_fail(|| format!("the claim on {} cannot be read", member.name))
    };
    course.members.iter().try_fold(false, |away, member| Ok(away || claim(member)?.is_some()))
}

/// The claims of those that are frozen. One that cannot be read is told when its container comes back.
fn claims<'a>(upgrade: &'a Upgrade, context: &'a Context) -> impl Iterator<Item = Claim> + 'a {
    let frozen = upgrade.containers.iter().filter(|course| course.strategy == Strategy::Freeze);
    frozen.flat_map(|course| &course.members).filter_map(|member| context.claims.find(&member.id).ok().flatten())
}

/// Compares the digests of what is going to be restored (I4) while there is no engine to restore it, until `is_up` says that
/// there is one. The rest is verified when it is restored, and so are those that take long, lest all the others wait for
/// them. What is damaged is found once more, and told, when it is its turn.
pub fn verify_ahead(upgrade: &Upgrade, context: &Context, is_up: &AtomicBool) {
    let is_quick = |claim: &Claim| {
        let checkpoint = context.catalog.get(&claim.checkpoint);
        checkpoint.is_ok_and(|checkpoint| checkpoint.manifest().total_bytes() <= QUICKLY_VERIFIED)
    };
    for claim in claims(upgrade, context).filter(is_quick) {
        if is_up.load(Ordering::Relaxed) {
            return;
        }
        if let Err(failure) = prepare::verify(context, &claim.checkpoint, &|_, _| {}) {
            tracing::error!(container = %claim.container, %failure, "what it is to be restored from is not as it should be");
        }
    }
}

/// Nothing is restored just now: by then it may have changed.
pub fn forget_verified(upgrade: &Upgrade, context: &Context) {
    claims(upgrade, context).for_each(|claim| prepare::forget(context, &claim.checkpoint));
}

/// The first container that is still frozen.
pub fn is_any_away(upgrade: &Upgrade, context: &Context) -> Result<Option<String>, Failure> {
    for course in &upgrade.containers {
        if is_away(course, context)? {
            return Ok(Some(course.title()));
        }
    }
    Ok(None)
}

fn come_back(course: &mut Course, upgrade: &Upgrade, context: &Context) -> Result<(), Failure> {
    match course.strategy {
        Strategy::Freeze if is_away(course, context)? => restore_group(course, upgrade, context)?,
        Strategy::Freeze | Strategy::LiveRestore => {}
        Strategy::Stop => stopped::start_all(course, context)?,
    }
    match course.wait_healthy {
        true => course.members.iter().try_for_each(|member| health::wait_until_as_healthy(member, context)),
        false => Ok(()),
    }
}

fn restore_group(course: &mut Course, upgrade: &Upgrade, context: &Context) -> Result<(), Failure> {
    let title = course.title();
    let part = part_of(context, course);
    let claim =
        context.claims.find(&course.members[0].id).or_fail(|| format!("the claim on {title} cannot be read"))?;
    let claim = claim.ok_or_else(|| Failure::new(format!("{title} is not frozen as a whole")))?;
    let away = restore::part(&part, &claim.checkpoint, upgrade.asks())?;
    for member in &mut course.members {
        member.away_us += away.get(&member.id).copied().unwrap_or_default();
    }
    Ok(())
}

/// Remembers what the holds of those that are back have kept. Their rules are taken away after they run.
pub fn note_holds(upgrade: &mut Upgrade, context: &Context) {
    for member in upgrade.containers.iter_mut().flat_map(|course| &mut course.members) {
        context.settling.wait_until_taken(&member.id);
        if let Some(report) = context.lifted.take(&member.id) {
            let (parked, dropped) = member.held.unwrap_or_default();
            member.held = Some((parked + report.parked, dropped + report.dropped));
        }
    }
}

/// Containers that run and were not there when the upgrade was planned.
pub fn strangers(upgrade: &Upgrade, context: &Context) -> Result<Vec<String>, Failure> {
    let known = |id: &str| {
        let mut members = upgrade.containers.iter().flat_map(|course| &course.members);
        members.any(|member| member.id.as_str() == id)
    };
    running(context, |id| !known(id))
}

/// Containers that would end with dockerd: they run, and they are not among those that are away or run on without it.
pub fn left_running(upgrade: &Upgrade, context: &Context) -> Result<Vec<String>, Failure> {
    let runs_on = |id: &str| {
        let mut live = upgrade.containers.iter().filter(|course| course.strategy == Strategy::LiveRestore);
        live.any(|course| course.members.iter().any(|member| member.id.as_str() == id))
    };
    running(context, |id| !runs_on(id))
}

/// The names of those running containers whose id is `wanted`.
fn running(context: &Context, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, Failure> {
    let failed = || "the containers cannot be listed".to_owned();
    let mut found = Vec::new();
    for listed in context.docker.running().or_fail(failed)?.into_iter().filter(|listed| wanted(&listed.id)) {
        if context.docker.still_runs(&listed).or_fail(failed)? {
            found.push(listed.name);
        }
    }
    Ok(found)
}
