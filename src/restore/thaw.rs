//! The moment a restored container runs again.

use super::{group, prepare};
use crate::docker::Container;
use crate::failure::{Failure, OrFail};
use crate::interposer::{Answer, resume};
use crate::network::hold::{self, Hold};
use crate::network::netns::NetNs;
use crate::network::remembered::Remembered;
use crate::network::ways::{Link, Moving};
use crate::network::{closing, neighbours, segment, temporary, tracking};
use crate::store::claims::Claim;
use crate::store::{Checkpoint, ContainerId};
use crate::world::{Waiting, World};
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long settling is put off while others come back.
const LONGEST_PUT_OFF: Duration = Duration::from_secs(10);

/// Puts the container's network in order and lets it run, or leaves it stopped until its group is complete.
pub fn container(world: &Arc<World>, claim: &Claim) -> Result<Answer, Failure> {
    let checkpoint = get(world, claim)?;
    let group = group::claims(world, claim);
    let absent = absent_members(world, &group, &claim.container);
    if !absent.is_empty() {
        tracing::info!(container = %claim.container, waits_for = absent.len(), "restored; waits for its group");
        return Ok(Answer::Later);
    }
    let networks = put_in_order(world, &group)?;
    for member in &group {
        // The point of no return: from here on this container runs, whoever dies.
        world.claims.commit(&member.container).or_fail(|| "the claim cannot be committed".into())?;
    }
    open(world, &group, &networks);
    for member in group.iter().filter(|member| member.container != claim.container) {
        resume_member(world, member)?;
        world.claims.finish(&member.container).or_fail(|| "the claim cannot be finished".into())?;
    }
    note_downtimes(world, &group);
    let stay_stopped = checkpoint.manifest().dump.stopped_pids.clone();
    settle_later(world, group, networks);
    Ok(Answer::Go { stay_stopped })
}

/// Lets containers run that have come from a peer together, in this order. Those that wait at the gate are answered
/// afterwards.
///
/// # Errors
/// None of them runs.
pub fn arrived(world: &Arc<World>, group: &[Claim]) -> Result<(), Failure> {
    let networks = put_in_order(world, group)?;
    let Some(first) = group.first() else { return Ok(()) };
    // The point of no return: from here on all of them run, whoever dies.
    world.claims.commit(first.decider()).or_fail(|| "the claim cannot be committed".into())?;
    for member in group {
        if let Err(error) = world.claims.commit(&member.container) {
            tracing::error!(container = %member.container, %error, "its claim is left to the next start of the helper");
        }
    }
    open(world, group, &networks);
    if group.len() > 1 {
        group.iter().for_each(|member| resume_arrived(world, member));
    }
    note_downtimes(world, group);
    settle_later(world, group.to_vec(), networks);
    Ok(())
}

/// Those that wait at the gate are continued once more when they are answered, and finish their claims themselves.
fn resume_arrived(world: &World, member: &Claim) {
    let waits_at_the_gate = world.landings.get(&member.container).is_some_and(|landing| !landing.goes_ahead());
    let resumed = resume_member(world, member).and_then(|()| match waits_at_the_gate {
        true => Ok(()),
        false => world.claims.finish(&member.container).or_fail(|| "the claim cannot be finished".into()),
    });
    if let Err(failure) = resumed {
        tracing::error!(container = %member.container, %failure, "was let go, and may stand still");
    }
}

/// What a member of a group has of the network for itself, and a process in it.
struct OwnNetwork {
    waiting: Waiting,
    remembered: Remembered,
}

/// I6: connection tracking first; dockerd has set up addresses and routes by now.
fn put_in_order(world: &World, group: &[Claim]) -> Result<Vec<OwnNetwork>, Failure> {
    let mut networks = Vec::new();
    for claim in group {
        let checkpoint = get(world, claim)?;
        if Container::new(checkpoint.manifest().container.spec.clone()).shares_network_of().is_some() {
            continue;
        }
        let (waiting, mut remembered) = (waiting(world, claim)?, prepare::network(&checkpoint)?);
        if let Some(landing) = world.landings.get(&claim.container) {
            remembered = arriving(remembered, &landing.inspect, landing.link)?;
        }
        if keeps_addresses(world, &checkpoint, claim) {
            require_addresses(&waiting, &remembered)?;
            close_lost(&checkpoint, &waiting);
        }
        networks.push(OwnNetwork { waiting, remembered });
    }
    networks.iter().for_each(|network| put_tracking_back(&network.remembered));
    Ok(networks)
}

/// The network of a container that comes from a peer as it is on this host; `inspect` is what Docker says of it.
pub fn arriving(network: Remembered, inspect: &Value, link: Link) -> Result<Remembered, Failure> {
    let segments = segment::from_inspect(inspect).or_fail(|| "its networks cannot be read".into())?;
    let moving = Moving { addresses: network.addresses(), segments: &segments, link };
    // The kernel goes through all of its table for that, which takes some 10 ms where there is nothing in it.
    let here = match moving.comes_back_to(&network.tracked) {
        true => tracking::save(&[link.source]).or_fail(|| "the open connections cannot be listed".into())?,
        false => Vec::new(),
    };
    let tracked = moving.arrived(&network.tracked, &here);
    Ok(Remembered { tracked, ..network })
}

/// Closes the connections that cannot live on here, so that its programs hear of it at once.
fn close_lost(checkpoint: &Checkpoint, waiting: &Waiting) {
    let closed = prepare::lost(checkpoint).and_then(|lost| {
        let netns = NetNs::of_process(waiting.pid.unsigned_abs()).or_fail(|| "its network is gone".into())?;
        closing::close(&netns, &lost).or_fail(|| "they cannot be closed".into())
    });
    match closed {
        Ok(closed) => tracing::debug!(closed, "connections that are lost are closed"),
        // They end later, by themselves.
        Err(failure) => tracing::warn!(%failure, "connections that are lost stay open"),
    }
}

/// Neighbours and visitors find them from here on.
fn open(world: &World, group: &[Claim], networks: &[OwnNetwork]) {
    group.iter().for_each(|claim| drop(world.stand_ins.take(&claim.container)));
    networks.iter().for_each(announce);
    let_packets_pass(world, group);
}

/// Whether a restored container that stands still has the addresses that its connections need.
pub fn require_network(world: &World, claim: &Claim, waiting: &Waiting) -> Result<(), Failure> {
    let checkpoint = get(world, claim)?;
    let network = prepare::network(&owner_of_network(world, &checkpoint)?)?;
    require_addresses(waiting, &network)
}

/// Processes of a checkpoint that were stopped when it was made: they are not continued.
pub fn stay_stopped(world: &World, claim: &Claim) -> Result<Vec<i32>, Failure> {
    Ok(get(world, claim)?.manifest().dump.stopped_pids.clone())
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

/// The checkpoint that remembers the network: its own, or that of the member of its group whose network it uses.
fn owner_of_network(world: &World, checkpoint: &Checkpoint) -> Result<Checkpoint, Failure> {
    let manifest = checkpoint.manifest();
    let container = Container::new(manifest.container.spec.clone());
    let Some(owner) = container.shares_network_of() else { return Ok(checkpoint.clone()) };
    let mut group = manifest.group.iter().filter_map(|member| world.catalog.get(member).ok());
    group.find(|member| member.manifest().container.id.as_str() == owner).ok_or_else(|| {
        let name = &manifest.container.name;
        Failure::new(format!("the checkpoint of {owner:.12}, whose network {name} uses, cannot be read"))
    })
}

fn waiting(world: &World, claim: &Claim) -> Result<Waiting, Failure> {
    let waiting = world.waiting.get(&claim.container);
    waiting.ok_or_else(|| Failure::new(format!("{} was not restored by this helper", claim.container)))
}

/// Continues a member of a group whose start Docker has seen already.
fn resume_member(world: &World, member: &Claim) -> Result<(), Failure> {
    let pid = waiting(world, member)?.pid;
    let resumed = resume::processes(pid, &stay_stopped(world, member)?);
    resumed.or_fail(|| format!("the processes of {} cannot be continued", member.container))
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
fn announce(network: &OwnNetwork) {
    let netns = NetNs::of_process(network.waiting.pid.unsigned_abs());
    if let Err(error) = netns.and_then(|netns| neighbours::announce(&netns, network.remembered.addresses())) {
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
fn settle_later(world: &Arc<World>, group: Vec<Claim>, networks: Vec<OwnNetwork>) {
    let world = Arc::clone(world);
    // From now on, not from when the thread runs: who wants to freeze them again waits for it.
    group.iter().for_each(|claim| world.settling.keep(claim.container.clone(), ()));
    let settling = Settling { world, group };
    let settle = move || {
        let Settling { world, group } = &settling;
        group.iter().for_each(|claim| super::settle::lift_hold_beside_others(world, &claim.container));
        // They run, and others do not yet.
        world.returns.wait_until_none(LONGEST_PUT_OFF);
        hold::forget_shared();
        for OwnNetwork { waiting, remembered } in &networks {
            if let Err(error) = temporary::remove(waiting.pid.unsigned_abs(), remembered.addresses()) {
                tracing::warn!(%error, "the temporary addresses could not be taken away");
            }
        }
        for claim in group {
            world.waiting.take(&claim.container);
            world.returns.wait_until_ended(&claim.container);
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
