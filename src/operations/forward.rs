//! `forward`: visitors of ports whose container has moved to a peer are led there, until the operator ends it.

use crate::failure::{Failure, OrFail};
use crate::network::forward::{Forward, Leads};
use crate::network::spec::Published;
use crate::store::CheckpointId;
use crate::store::handovers::About;
use crate::world::log::Log;
use crate::world::{Context, World};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whose visitors are led where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Led {
    /// The container's name.
    pub container: String,
    /// The peer that it has moved to.
    pub peer: String,
    /// The rules.
    pub forward: Forward,
    /// Who is led.
    pub leads: Leads,
}

/// Rules are put in place and taken away one after the other: containers come and go at the same time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leads visitors from now on, and after a restart of the helper.
pub fn begin(context: &Context, begun: &[(CheckpointId, Led)]) -> Result<(), Failure> {
    let _turn = turn();
    put(context, begun)?;
    // The same way as one before: what goes by those rules goes by these. Rules for open connections alone are each its own.
    let is_same = |old: &Forward, new: &Forward| old.link == new.link && old.published == new.published;
    for (other, old) in all(context)?.into_iter().filter(|(_, old)| !old.forward.published.is_empty()) {
        let is_new = begun.iter().any(|(id, _)| *id == other);
        if !is_new && begun.iter().any(|(_, led)| is_same(&old.forward, &led.forward)) {
            end(context, &other, &old)?;
        }
    }
    Ok(())
}

/// Docker's own rules for the container that has left are gone: what is published anew comes first.
pub fn give_way(context: &Context, id: &CheckpointId) -> Result<(), Failure> {
    let _turn = turn();
    match get(context, id)? {
        Some(led) if led.leads == Leads::Everybody => {
            put(context, &[(id.clone(), Led { leads: Leads::WhoeverFindsNobody, ..led })])
        }
        _ => Ok(()),
    }
}

fn put(context: &Context, ways: &[(CheckpointId, Led)]) -> Result<(), Failure> {
    for (id, led) in ways {
        let failed = || format!("that visitors of {} are led to {} cannot be written down", led.container, led.peer);
        context.handovers.put(About::Forward, id, led).or_fail(failed)?;
    }
    let rules: Vec<_> = ways.iter().map(|(_, led)| (&led.forward, led.leads)).collect();
    Forward::put(&rules).or_fail(|| {
        let led: Vec<_> = ways.iter().map(|(_, led)| format!("{} to {}", led.container, led.peer)).collect();
        format!("visitors cannot be led: of {}", led.join(", of "))
    })?;
    if ways.iter().any(|(_, led)| led.leads == Leads::OpenOnly) {
        context.open_ways.begin();
    }
    Ok(())
}

/// Puts the rules back: at the helper's start.
pub fn resume(context: &Context) {
    let _turn = turn();
    for id in context.handovers.all(About::Forward) {
        let resumed = get(context, &id).and_then(|led| led.map_or(Ok(()), |led| put(context, &[(id.clone(), led)])));
        if let Err(failure) = resumed {
            tracing::error!(migration = %id, %failure, "visitors of a container that has moved are not led after it");
        }
    }
}

/// Visitors of ports that a container publishes here from now on stay here. Open connections go on by the way that they
/// have; it is ended once there is none.
pub fn keep_here(context: &Context, published: &[Published]) -> Result<(), Failure> {
    let _turn = turn();
    let is_published =
        |port: &Published| published.iter().any(|own| (own.host_port, own.protocol) == (port.host_port, port.protocol));
    let mut stay = all(context)?;
    stay.retain(|(_, led)| led.forward.published.iter().any(is_published));
    stay.iter_mut().for_each(|(_, led)| led.leads = Leads::OpenOnly);
    put(context, &stay)
}

/// Ends the ways that only open connections were led by, and that none goes by any more: whether there are others.
pub fn sweep(context: &Context) -> Result<bool, Failure> {
    let mut is_any_used = false;
    for (id, led) in all(context)?.into_iter().filter(|(_, led)| led.leads == Leads::OpenOnly) {
        match led.forward.is_used().or_fail(|| "the open connections cannot be listed".into())? {
            true => is_any_used = true,
            false => end_of(context, &id)?,
        }
    }
    Ok(is_any_used)
}

/// Ends such ways as soon as it is seen that none goes by them any more, on a thread of its own.
pub fn keep_ending(world: &Arc<World>) -> Result<(), Failure> {
    let context = Context { world: Arc::clone(world), told: Arc::new(Log) };
    let look = move || {
        sweep(&context).unwrap_or_else(|failure| {
            tracing::warn!(%failure, "whether open connections are still led is looked at again");
            true
        })
    };
    let world = Arc::clone(world);
    let work = move || {
        loop {
            world.open_ways.wait_for_one();
            world.open_ways.look_until_there_is_none(&look);
        }
    };
    let begun = std::thread::Builder::new().name("open-ways".into()).spawn(work);
    begun.map(drop).or_fail(|| "no thread to end ways of open connections".into())
}

/// Which are led.
pub fn list(context: &Context) -> Result<Value, Failure> {
    sweep(context)?;
    let all = all(context)?;
    let one = |(id, led): &(CheckpointId, Led)| {
        let ports = led.forward.published.iter().map(|port| format!("{}/{}", port.host_port, port.protocol.name()));
        let ports: std::collections::BTreeSet<String> = ports.collect();
        json!({ "id": id, "container": led.container, "peer": led.peer, "to": led.forward.link.destination, "ports": ports, "leads": led.leads })
    };
    Ok(json!({ "forwards": all.iter().map(one).collect::<Vec<_>>() }))
}

/// Ends it for a container; open connections through it go on as long as they are tracked.
pub fn remove(context: &Context, container: &str) -> Result<Value, Failure> {
    let _turn = turn();
    let mut removed = Vec::new();
    for (id, led) in all(context)?.into_iter().filter(|(_, led)| led.container == container) {
        end(context, &id, &led)?;
        removed.push(id);
    }
    match removed.is_empty() {
        true => Err(Failure::refused(format!("no visitors of {container} are led elsewhere"))
            .remedy("see: transship forward ls")),
        false => Ok(json!({ "removed": removed })),
    }
}

/// Ends what a migration has begun, if it has.
pub fn end_of(context: &Context, id: &CheckpointId) -> Result<(), Failure> {
    let _turn = turn();
    get(context, id)?.map_or(Ok(()), |led| end(context, id, &led))
}

fn end(context: &Context, id: &CheckpointId, led: &Led) -> Result<(), Failure> {
    let failed = || format!("visitors of {} are still led to {}", led.container, led.peer);
    led.forward.remove().or_fail(failed)?;
    context.handovers.remove(About::Forward, id).or_fail(failed)
}

fn all(context: &Context) -> Result<Vec<(CheckpointId, Led)>, Failure> {
    let ids = context.handovers.all(About::Forward).into_iter();
    ids.filter_map(|id| get(context, &id).map(|led| led.map(|led| (id, led))).transpose()).collect()
}

fn get(context: &Context, id: &CheckpointId) -> Result<Option<Led>, Failure> {
    context.handovers.get(About::Forward, id).or_fail(|| "who is led elsewhere cannot be read".into())
}
