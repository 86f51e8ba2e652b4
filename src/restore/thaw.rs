//! The moment a restored container runs again.

use super::{group, prepare};
use crate::failure::{Failure, OrFail};
use crate::interposer::{Answer, resume};
use crate::network::hold::Hold;
use crate::network::netns::NetNs;
use crate::network::remembered::Remembered;
use crate::network::{forward, neighbours, temporary, tracking};
use crate::store::claims::Claim;
use crate::store::{Checkpoint, ContainerId};
use crate::world::{Waiting, World};
use std::net::IpAddr;
use std::sync::Arc;

/// Puts the container's network in order and lets it run, or leaves it stopped until its group is complete.
pub fn container(world: &Arc<World>, claim: &Claim, waiting: &Waiting) -> Result<Answer, Failure> {
    let checkpoint = get(world, claim)?;
    let group = group::claims(world, claim);
    let absent = absent_members(world, &group, &claim.container);
    if !absent.is_empty() {
        tracing::info!(container = %claim.container, waits_for = absent.len(), "restored; waits for its group");
        return Ok(Answer::Later);
    }
    let mut network = prepare::network(&owner_of_network(world, &checkpoint)?)?;
    if let Some(landing) = world.landings.get(&claim.container) {
        let here = tracking::save(&[landing.link.source]).or_fail(|| "the open connections cannot be listed".into())?;
        network.tracked = forward::arrived(&network.tracked, &network.spec.addresses, landing.link, &here);
    }
    if keeps_addresses(world, &checkpoint, claim) {
        require_addresses(waiting, &network)?;
    }
    // I6: connection tracking first; dockerd has set up addresses and routes by now.
    put_tracking_back(&network);
    for member in &group {
        // The point of no return: from here on this container runs, whoever dies.
        world.claims.commit(&member.container).or_fail(|| "the claim cannot be committed".into())?;
    }
    announce(world, &group, waiting, &network);
    let_packets_pass(world, &group);
    for member in group.iter().filter(|member| member.container != claim.container) {
        resume_member(world, member)?;
    }
    note_downtimes(world, &group);
    let stay_stopped = checkpoint.manifest().dump.stopped_pids.clone();
    settle_later(world, group, waiting.clone(), network);
    Ok(Answer::Go { stay_stopped })
}

/// Whether a restored container that stands still has the addresses that its connections need.
pub fn require_network(world: &World, claim: &Claim, waiting: &Waiting) -> Result<(), Failure> {
    let checkpoint = get(world, claim)?;
    let network = prepare::network(&owner_of_network(world, &checkpoint)?)?;
    require_addresses(waiting, &network)
}

/// A copy beside the container that was frozen takes what addresses it gets; one that came from a peer has those that it
/// had there.
pub fn keeps_addresses(world: &World, checkpoint: &Checkpoint, claim: &Claim) -> bool {
    checkpoint.manifest().container.id == claim.container || world.landings.has(&claim.container)
}

/// Docker gives a stopped container's address to whoever asks next. Connections to it would be lost, and packets for
/// it would go to a stranger.
fn require_addresses(waiting: &Waiting, network: &Remembered) -> Result<(), Failure> {
    let interfaces = NetNs::of_process(waiting.pid.unsigned_abs()).and_then(|netns| netns.interfaces());
    let interfaces = interfaces.or_fail(|| "the restored container's interfaces cannot be listed".into())?;
    let real = |address: &&IpAddr| interfaces.iter().any(|found| found.name != "lo" && found.has(**address));
    match network.addresses().iter().find(|address| !real(address)) {
        None => Ok(()),
        Some(address) => Err(Failure::new(format!("its address {address} was given to another container meanwhile"))
            .remedy(
                "stop that container and restore again; a fixed address (--ip) on a network of its own avoids this",
            )),
    }
}

/// The checkpoint that remembers the network: that of the group's first member, or the only one.
fn owner_of_network(world: &World, checkpoint: &Checkpoint) -> Result<Checkpoint, Failure> {
    match checkpoint.manifest().group.first() {
        Some(first) => world.catalog.get(first).or_fail(|| format!("checkpoint {first} cannot be read")),
        None => Ok(checkpoint.clone()),
    }
}

/// Continues a member of a group whose start Docker has seen already.
fn resume_member(world: &World, member: &Claim) -> Result<(), Failure> {
    let waiting = world.waiting.get(&member.container);
    let waiting =
        waiting.ok_or_else(|| Failure::new(format!("{} was not restored by this helper", member.container)))?;
    let stay_stopped = get(world, member)?.manifest().dump.stopped_pids.clone();
    resume::processes(waiting.pid, &stay_stopped)
        .or_fail(|| format!("the processes of {} cannot be continued", member.container))?;
    world.claims.finish(&member.container).or_fail(|| "the claim cannot be finished".into())
}

/// Members of the checkpoint's group that are claimed and not restored yet, besides `container`.
fn absent_members(world: &World, group: &[Claim], container: &ContainerId) -> Vec<ContainerId> {
    let others = group.iter().map(|claim| &claim.container);
    others.filter(|other| *other != container && !world.waiting.has(other)).cloned().collect()
}

fn put_tracking_back(network: &Remembered) {
    // A connection whose entry cannot be put back may be lost, and it is the only one: the others and the
    // container itself are not kept back for it.
    match tracking::put_back(&network.tracked) {
        Ok(done) => tracing::info!(?done, of = network.tracked.len(), "connection tracking put back"),
        Err(error) => tracing::error!(%error, "connection tracking could not be put back"),
    }
}

/// The neighbours, and the host itself, learn where the addresses are now, before the parked packets go there.
fn announce(world: &World, group: &[Claim], member: &Waiting, network: &Remembered) {
    for claim in group {
        drop(world.stand_ins.take(&claim.container));
    }
    let netns = NetNs::of_process(member.pid.unsigned_abs());
    if let Err(error) = netns.and_then(|netns| neighbours::announce(&netns, network.addresses())) {
        tracing::warn!(%error, "the container's addresses could not be announced to its neighbours");
    }
}

fn let_packets_pass(world: &World, group: &[Claim]) {
    for claim in group {
        if let Some(Err(error)) = world.holds.with(&claim.container, Hold::let_pass) {
            tracing::error!(container = %claim.container, %error, "parked packets could not be let go");
        }
    }
}

/// How long the containers were away, for who asked for the restore. A backup's container was not.
fn note_downtimes(world: &World, group: &[Claim]) {
    for claim in group {
        let Ok(checkpoint) = get(world, claim) else { continue };
        let manifest = checkpoint.manifest();
        if !manifest.dump.leave_running {
            let away = jiff::Timestamp::now().duration_since(manifest.created).unsigned_abs();
            world.downtimes.keep(claim.container.clone(), u64::try_from(away.as_micros()).unwrap_or(u64::MAX));
        }
    }
}

/// What nobody waits for: restart policies, directories, bookkeeping.
fn settle_later(world: &Arc<World>, group: Vec<Claim>, member: Waiting, network: Remembered) {
    let world = Arc::clone(world);
    // From now on, not from when the thread runs: who wants to freeze them again waits for it.
    group.iter().for_each(|claim| world.settling.keep(claim.container.clone(), ()));
    let settling = Settling { world, group };
    let settle = move || {
        let Settling { world, group } = &settling;
        group.iter().for_each(|claim| super::settle::lift_hold(world, &claim.container));
        if let Err(error) = temporary::remove(member.pid.unsigned_abs(), network.addresses()) {
            tracing::warn!(%error, "the temporary addresses could not be taken away");
        }
        for claim in group {
            world.waiting.take(&claim.container);
            super::settle::container(world, claim);
            world.settling.take(&claim.container);
        }
        (world.on_settled)(world);
    };
    if let Err(error) = std::thread::Builder::new().name("settle".into()).spawn(settle) {
        tracing::error!(%error, "no thread to settle restored containers; the next start of the helper does it");
    }
}

/// Containers that are being settled. Whoever waits for that does not wait for a thread that is gone.
struct Settling {
    world: Arc<World>,
    group: Vec<Claim>,
}

impl Drop for Settling {
    fn drop(&mut self) {
        for claim in &self.group {
            self.world.settling.take(&claim.container);
        }
    }
}

fn get(world: &World, claim: &Claim) -> Result<Checkpoint, Failure> {
    world.catalog.get(&claim.checkpoint).or_fail(|| format!("checkpoint {} cannot be read", claim.checkpoint))
}
