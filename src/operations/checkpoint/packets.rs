//! Packets to a container that is being frozen: parked, until it goes on here or runs again.

use super::{Checkpoint, Member, apart};
use crate::failure::{Failure, OrFail};
use crate::network::backlog::{self, Reason, Waiting};
use crate::network::hold::{FreeQueue, Hold};
use crate::network::remembered::Remembered;
use crate::network::spec::{HoldSpec, ReplyTuple};
use crate::network::{inside, published};
use crate::operations::holds;
use crate::restore::prepare;
use crate::store::{CheckpointId, ContainerId};
use crate::world::Context;

/// Holds one: new connections, until those that wait to be accepted are, and then everything.
pub fn hold_one(member: &mut Member, context: &Context) -> Result<(), Failure> {
    let failed = || format!("packets to {} cannot be held", member.name);
    let spec = published::from_inspect(&member.inspect).or_fail(failed)?;
    let queue = member.free_queue.take().map_or_else(|| free_queue(member, context), Ok)?;
    let hold = Hold::place_on(queue, spec).or_fail(failed)?;
    member.queue = Some(hold.queue());
    context.holds.keep(member.id.clone(), hold);
    let netns = member.network_namespace()?;
    let parked = inside::hold_new(member.network_namespace()?, holds::bounds(context)).or_fail(failed)?;
    context.parked_inside.keep(member.id.clone(), parked);
    let waiting = backlog::wait_until_clear(&netns, context.settings.accept_patience()).or_fail(failed)?;
    waiting.iter().for_each(|waiting| context.told.note(&left_behind(member, waiting)));
    let outbound = member.outbound.take().map_or_else(|| outbound(member), Ok)?;
    let tightened = context.holds.with(&member.id, |hold| hold.tighten(outbound));
    tightened.transpose().or_fail(failed).map(drop)
}

/// Connections that it has opened between its hold and its standing still are held as well.
pub fn hold_late_ones(member: &Member, context: &Context) -> Result<(), Failure> {
    let outbound = member.network.as_ref().map(Remembered::outbound).unwrap_or_default();
    let tightened = context.holds.with(&member.id, |hold| {
        match outbound.iter().all(|tuple| hold.spec().outbound.contains(tuple)) {
            true => Ok(()),
            false => hold.tighten(outbound),
        }
    });
    tightened.transpose().or_fail(|| format!("packets to {} cannot be held", member.name)).map(drop)
}

/// A queue for its hold.
pub fn free_queue(member: &Member, context: &Context) -> Result<FreeQueue, Failure> {
    FreeQueue::open(holds::bounds(context)).or_fail(|| format!("packets to {} cannot be held", member.name))
}

fn left_behind(member: &Member, waiting: &Waiting) -> String {
    let (name, port, count) = (&member.name, waiting.port, waiting.connections);
    match waiting.reason {
        Reason::NotAccepted => format!("{name} leaves {count} connections to port {port} unaccepted"),
        Reason::NotDelivered => {
            format!("{name} has closed {count} connections on port {port} whose clients have not taken all of it yet")
        }
    }
}

/// Where what belongs to all connections arrives that the container has opened by now.
pub fn outbound(member: &Member) -> Result<Vec<ReplyTuple>, Failure> {
    let failed = || network_unreadable(member);
    let spec = published::from_inspect(&member.inspect).or_fail(failed)?;
    let now = Remembered::now(spec, member.queue).or_fail(failed)?;
    Ok(now.outbound())
}

/// What a container has of the network for itself: none in another's network namespace.
pub fn own_network(member: &Member) -> Result<Option<HoldSpec>, Failure> {
    let spec = (!member.joins_network()).then(|| published::from_inspect(&member.inspect));
    spec.transpose().or_fail(|| network_unreadable(member))
}

/// What is told where the kernel does not tell of it.
pub fn network_unreadable(member: &Member) -> String {
    format!("the network of {} cannot be read", member.name)
}

/// Lets what was parked go on, where the containers go on here.
pub fn release(operation: &mut Checkpoint, context: &Context) -> Result<(), Failure> {
    apart::with_each(&mut operation.members, |member| match member.joins_network() {
        true => Ok(()),
        false => release_one(member, context),
    })
}

fn release_one(member: &Member, context: &Context) -> Result<(), Failure> {
    let inside = match context.parked_inside.take(&member.id) {
        Some(parked) => parked.release().map(drop),
        // A container that has ended took its namespace, and the rules in it, along.
        None => member.network_namespace().map_or(Ok(()), |netns| inside::release(&netns)),
    };
    // Whatever came of that: nobody reaches it before this.
    let outside = context.holds.take(&member.id).map_or(Ok(()), |mut hold| hold.release().map(drop));
    inside.and(outside).or_fail(|| format!("the hold on {} cannot be lifted", member.name))
}

/// Does nothing for a container in another's network namespace: it has no hold of its own.
pub fn close_hold(context: &Context, id: &ContainerId, checkpoint: &CheckpointId) -> Result<(), Failure> {
    let failed = || format!("packets of container {id:.12} cannot be held");
    let checkpoint = context.catalog.get(checkpoint).or_fail(failed)?;
    let network = prepare::network(&checkpoint)?;
    let closed = context.holds.with(id, |hold| hold.close(network.outbound()));
    if closed.transpose().or_fail(failed)?.is_some() {
        holds::stand_in(context, id, network.addresses());
    }
    Ok(())
}
