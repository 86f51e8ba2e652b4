//! What the source says to the destination.

use super::Migrate;
use super::binds::Bind;
use crate::archive::hash::all_cores;
use crate::checkpoint::{describe, preflight};
use crate::failure::{Failure, OrFail};
use crate::handover::{Arrival, Request};
use crate::migration::asking::peer;
use crate::migration::networks;
use crate::migration::words::{self, Coming, Following, Needs, Offer, Prepared, Standing, Synced, Welcome};
use crate::operations::checkpoint::Member;
use crate::operations::persist::{Patience, Persistence, RUNNING, STANDING_STILL, failed};
use crate::operations::{carriage, check, processor};
use crate::store::CheckpointId;
use crate::transport::client::{Carriage, Compress, Peer, PeerError};
use crate::world::Context;
use crate::world::cancels::Watch;
use crate::world::decisions::Decision;
use serde_json::json;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Between two tries to reach a peer that has to be told something.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long the peer may look at itself and at its images: it starts CRIU for that, and asks Docker. The container runs meanwhile.
pub const LOOK: Duration = Duration::from_secs(120);

/// How long writing out may take.
const SYNC: Duration = Duration::from_secs(600);

/// It runs there, and nobody waits but the operator: a peer that has lost its power boots meanwhile.
const UNTIL_BOOTED: Patience = Patience { broken: SYNC, ..RUNNING };

/// How long letting go may take on the other side.
const RELEASE: Duration = Duration::from_secs(60);

/// A migration's peer, for bodies. Where nothing of one goes for `stall`, it is given up; all together go no faster than they
/// may.
pub fn sending(migrate: &Migrate, stall: Duration) -> Peer {
    let carriage = Carriage { compress: compression(migrate), flow: migrate.flow, patience: Some(stall) };
    peer(&migrate.peer).carried(carriage)
}

/// As was asked for, or as link and cores give.
fn compression(migrate: &Migrate) -> Compress {
    migrate.compress.unwrap_or_else(|| carriage::compression(migrate.measured_link, all_cores()))
}

/// Bytes on their way to the peer, until the migration is cancelled.
pub struct Watched<R> {
    /// The bytes.
    pub bytes: R,
    /// Whether it is.
    pub watch: Watch,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.watch.go_on()?;
        self.bytes.read(buffer)
    }
}

/// Counts what is read.
pub struct Counted<R> {
    /// The bytes.
    pub bytes: R,
    /// How many there were.
    pub done: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        self.done.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Going on where the connection to its peer breaks.
pub fn persistence<'a>(context: &'a Context, migrate: &'a Migrate, patience: Patience) -> Persistence<'a> {
    Persistence::with(&migrate.peer, context.told.as_ref(), &migrate.cancel, patience)
}

/// Asks whether the container may come; nothing is made there.
pub fn look(context: &Context, migrate: &Migrate) -> Result<Welcome, Failure> {
    look_again(context, migrate, &persistence(context, migrate, RUNNING))
}

/// The same, while a connection breaks again and again.
pub fn look_again(context: &Context, migrate: &Migrate, persistence: &Persistence<'_>) -> Result<Welcome, Failure> {
    let (peer, path, offer) = (peer(&migrate.peer), words::path(migrate.id(), "expect"), offer(context, migrate)?);
    let cannot = || format!("{} cannot go to {}", migrate.name(), migrate.peer);
    persistence.ask_first(move || peer.post(&path, &offer, Some(LOOK)), cannot)
}

fn offer(context: &Context, migrate: &Migrate) -> Result<Offer, Failure> {
    let members = migrate.freeze.members();
    let engine = context.docker.engine().or_fail(|| "Docker does not say what it is".into())?;
    let origin = describe::origin(&engine);
    let origin = origin.map_err(|error| Failure::new("this host cannot be described").because(error.as_ref()))?;
    Ok(Offer {
        members: members.iter().map(coming).collect(),
        networks: networks::of(&context.docker, members)?,
        volumes: migrate.volumes.iter().map(|volume| volume.told.clone()).collect(),
        binds: migrate.binds.iter().map(Bind::told).collect(),
        origin,
        link: migrate.link,
        needs: needs(context, members)?,
        processor: processor::features(context)?,
        memory: migrate
            .mode
            .has_memory_follow()
            .then(|| Following { compress: compression(migrate), rate: migrate.rate }),
    })
}

/// What their memory, their writable layers and their deleted files take. Volumes are not counted: that would take too long.
fn needs(context: &Context, members: &[Member]) -> Result<Needs, Failure> {
    let mut needs = Needs::default();
    for member in members {
        let facts = check::facts(context, &member.container())?;
        needs.memory = needs.memory.saturating_add(facts.memory());
        needs.disk = needs.disk.saturating_add(preflight::space_needed(&facts));
    }
    Ok(needs)
}

fn coming(member: &Member) -> Coming {
    Coming { checkpoint: member.checkpoint.clone(), inspect: member.inspect.clone() }
}

/// Has networks, volumes and the containers made there. Asked again, the peer waits for what it is at.
pub fn prepare(context: &Context, migrate: &Migrate) -> Result<(), Failure> {
    let cannot = || format!("{} cannot be made on {}", migrate.name(), migrate.peer);
    let (path, offer) = (words::path(migrate.id(), "prepare"), Arc::new(offer(context, migrate)?));
    let (begun, mut told) = (Instant::now(), None);
    loop {
        let (peer, path, offer) = (peer(&migrate.peer), path.clone(), Arc::clone(&offer));
        let Prepared { waits_for } = persistence(context, migrate, RUNNING).ask_within(
            words::PREPARE.saturating_sub(begun.elapsed()),
            move |left| peer.post(&path, &*offer, Some(left)),
            cannot,
        )?;
        let Some(waits_for) = waits_for else { return Ok(()) };
        let waits = format!("{} waits for {waits_for}", migrate.peer);
        if begun.elapsed() >= words::PREPARE {
            return Err(Failure::new(cannot()).details(vec![waits]).remedy("see there: transship status"));
        }
        if told.as_ref() != Some(&waits) {
            context.told.note(&format!("{waits}; {} goes there after that", migrate.name()));
            told = Some(waits);
        }
        // It has waited itself.
        migrate.cancel.pause(SHORTEST_PAUSE)?;
    }
}

/// Has all of them restored there, stopped. No answer means that it was not heard, or is being done: nothing runs there without
/// a commit. Said again, it is done once.
pub fn restore(context: &Context, migrate: &Migrate, manifests: Vec<String>) -> Result<Standing, Failure> {
    is_restored(insist_on_restore(context, migrate, words::Sealed { manifests })?, &migrate.name(), &migrate.peer)
}

/// Whether a standing says that they were restored. Where a person there has let them run by force they were, too.
fn is_restored(standing: Standing, name: &str, peer: &str) -> Result<Standing, Failure> {
    match (standing.arrival, standing.problem) {
        (Arrival::Restored | Arrival::Released | Arrival::Running, problem) => Ok(Standing { problem, ..standing }),
        (_, Some(problem)) => {
            let mut failure = Failure::new(format!("{name} cannot be restored on {peer}"));
            failure.why = std::iter::once(problem.what).chain(problem.why).collect();
            failure.remedy = problem.remedy;
            Err(failure)
        }
        (other, None) => Err(Failure::new(format!("{peer} says of {name}: {other:?}"))),
    }
}

fn insist_on_restore(context: &Context, migrate: &Migrate, sealed: words::Sealed) -> Result<Standing, Failure> {
    let failed_to = || format!("{} was not restored on {}", migrate.name(), migrate.peer);
    let persistence = persistence(context, migrate, STANDING_STILL);
    let (sealed, begun) = (Arc::new(sealed), Instant::now());
    loop {
        let left = words::RESTORE.saturating_sub(begun.elapsed());
        let (peer, path, sealed) = (peer(&migrate.peer), words::path(migrate.id(), "restore"), Arc::clone(&sealed));
        match migrate.cancel.unless_cancelled(move || peer.post::<Standing>(&path, &*sealed, Some(left)))? {
            Ok(standing) => return Ok(standing),
            Err(error) if begun.elapsed() >= words::RESTORE => return Err(failed(&error, failed_to())),
            Err(error) => persistence.broke(&error, failed_to)?,
        }
        let (peer, path) = (self::peer(&migrate.peer), words::path(migrate.id(), "standing"));
        let standing: Standing = persistence.ask_at_hand(move |left| peer.get_within(&path, left), failed_to)?;
        if standing.arrival != Arrival::Expecting {
            return Ok(standing);
        }
        // It can be asked, and has not said no: this is about its connection alone.
        persistence.went_on();
    }
}

/// Returns when what was sent is on the peer's disk.
pub fn sync(context: &Context, migrate: &Migrate) -> Result<(), Failure> {
    let (name, there) = (migrate.name(), &migrate.peer);
    let (peer, path) = (peer(there), words::path(migrate.id(), "sync"));
    let synced = persistence(context, migrate, UNTIL_BOOTED).ask_within(
        SYNC,
        move |left| peer.post::<Synced>(&path, &json!({}), Some(left)),
        || format!("{there} does not say that {name} is on its disk"),
    )?;
    match synced.is_whole.unwrap_or_else(|| migrate.boot_there.as_ref() == Some(&synced.boot)) {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "{there} was booted since {name} came, and may have lost what was not on its disk"
        ))
        .remedy(format!("look at {name} there; here are its files still: its container, its volumes, its checkpoint"))),
    }
}

/// One word of the handover, and where the destination stands now.
pub fn say(peer_name: &str, id: &CheckpointId, request: Request) -> Result<Standing, PeerError> {
    let peer = peer(peer_name);
    match request {
        Request::Commit => peer.post(&words::path(id, "commit"), &json!({}), Some(RELEASE)),
        Request::Drop => peer.post(&words::path(id, "drop"), &json!({}), Some(RELEASE)),
        Request::Offer | Request::Ask => peer.get(&words::path(id, "standing")),
    }
}

/// Whether nothing more follows from a request at the destination. Until then it was not heard, or is being seen to; or it is
/// stuck there, which it says.
fn is_last_word(request: Request, answer: Arrival, is_stuck: bool) -> bool {
    match request {
        Request::Commit => is_stuck || matches!(answer, Arrival::Running | Arrival::Dropped | Arrival::Lost),
        Request::Drop => !matches!(answer, Arrival::Expecting | Arrival::Restored),
        Request::Offer | Request::Ask => true,
    }
}

/// What comes of insisting.
pub enum Heard {
    /// The destination says where it stands.
    Says(Standing),
    /// A person did not want to wait for that.
    Decided(Decision),
}

/// Says it again and again until there is an answer from which nothing more follows, a person decides, or `patience` is
/// over.
pub fn insist(context: &Context, migrate: &Migrate, request: Request, patience: Duration) -> Result<Heard, PeerError> {
    let (begun, mut pause, mut told) = (Instant::now(), SHORTEST_PAUSE, false);
    loop {
        match say(&migrate.peer, migrate.id(), request) {
            Ok(standing) if is_last_word(request, standing.arrival, standing.problem.is_some()) => {
                return Ok(Heard::Says(standing));
            }
            // It runs, though not all of it is there.
            Ok(standing) if standing.follows.is_some() => return Ok(Heard::Says(standing)),
            other if begun.elapsed() >= patience => return other.map(Heard::Says),
            other => {
                let why = other.map_or_else(|error| error.to_string(), |standing| format!("{:?}", standing.arrival));
                if !std::mem::replace(&mut told, true) {
                    context.told.note(&format!("{} has not done it yet ({why}); asking on", migrate.peer));
                }
            }
        }
        // The network has no event that says when it works again.
        if let Some(decision) = context.decisions.wait(migrate.id(), pause) {
            return Ok(Heard::Decided(decision));
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::protocol::Problem;

    #[test]
    fn i3_a_commit_is_repeated_until_the_copy_runs_or_is_gone() {
        let repeated = [Arrival::Expecting, Arrival::Restored, Arrival::Released];
        repeated.iter().for_each(|answer| assert!(!is_last_word(Request::Commit, *answer, false), "{answer:?}"));
        let ends = [Arrival::Running, Arrival::Dropped, Arrival::Lost];
        ends.iter().for_each(|answer| assert!(is_last_word(Request::Commit, *answer, false), "{answer:?}"));
        assert!(is_last_word(Request::Commit, Arrival::Released, true), "a person has to see to it there");
        assert!(!is_last_word(Request::Drop, Arrival::Restored, false));
        assert!(is_last_word(Request::Drop, Arrival::Running, false), "it was refused");
    }

    #[test]
    fn i1_what_runs_there_by_force_was_restored_and_what_failed_there_says_why() {
        let told = |arrival, problem: Option<Problem>| {
            let standing = Standing { arrival, containers: Vec::new(), boot: String::new(), problem, follows: None };
            is_restored(standing, "web", "beta")
        };
        for arrival in [Arrival::Restored, Arrival::Released, Arrival::Running] {
            assert_eq!(told(arrival, None).unwrap().arrival, arrival);
        }
        let failed = told(Arrival::Dropped, Some(Problem::new("no room"))).unwrap_err();
        assert_eq!(failed.to_string(), "web cannot be restored on beta: no room");
        assert!(told(Arrival::Lost, None).is_err());
    }
}
