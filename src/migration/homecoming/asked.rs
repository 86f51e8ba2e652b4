//! What a peer asks that wants back what has come from it.
//!
//! It may have what came from it by a migration, still runs here, and moves with nothing else; and only where the operator
//! lets it (`peer allow --return`). It is sent by an ordinary `migrate` of this host, which the peer has to take in.

use crate::failure::{Failure, OrFail};
use crate::migration::groups;
use crate::migration::source::{self, How};
use crate::operations::answering::problem;
use crate::store::CheckpointId;
use crate::store::handovers::{About, LABEL};
use crate::world::cancels::Cancellable;
use crate::world::landing::Kept;
use crate::world::log::Log;
use crate::world::sending_back::{Returning, SendingBack};
use crate::world::{Context, World};
use std::sync::Arc;
use std::time::Duration;

/// How long another operation may be at work on them.
const TURN: Duration = Duration::from_secs(60);

/// Begins to send them, unless somebody is at it.
pub fn begin(context: &Context, peer: &str, migration: &CheckpointId) -> Result<SendingBack, Failure> {
    may(context, peer, migration)?;
    let names = names(context, migration)?;
    if names.is_empty() {
        return Ok(standing_of(context, migration).unwrap_or(SendingBack::NotHere));
    }
    if is_under_way(context, migration) {
        return Ok(SendingBack::UnderWay);
    }
    let returning = Returning { standing: SendingBack::UnderWay, cancel: Arc::default() };
    context.sending_back.keep(migration.clone(), returning.clone());
    let (world, id, peer) = (Arc::clone(&context.world), migration.clone(), peer.to_owned());
    let send = move || {
        let standing = match send(&world, &names, &peer, &returning.cancel) {
            Ok(()) => SendingBack::Sent,
            Err(failure) => {
                tracing::warn!(migration = %id, %failure, "what a peer wants back does not leave");
                SendingBack::Failed(problem(failure))
            }
        };
        world.sending_back.keep(id, Returning { standing, ..returning });
    };
    if let Err(error) = std::thread::Builder::new().name("sending-back".into()).spawn(send) {
        context.sending_back.take(migration);
        return Err(Failure::new("no thread to send it").because(&error));
    }
    Ok(SendingBack::UnderWay)
}

fn send(world: &Arc<World>, names: &[String], peer: &str, cancel: &Arc<Cancellable>) -> Result<(), Failure> {
    let context = Context { world: Arc::clone(world), told: Arc::new(Log) };
    let groups = source::group::of(&context, names)?;
    if let Some(other) = groups.iter().flatten().find(|member| !names.contains(&member.name)) {
        return Err(Failure::refused(format!(
            "{} has come to belong to {}, and did not come from {peer}",
            other.name,
            names.join(", ")
        ))
        .remedy(format!("move them by hand: transship migrate {} --to {peer}", other.name)));
    }
    // A migration of theirs that was cut short may still be being taken back.
    drop(groups::turn(&context, names, TURN, cancel)?);
    let how = How { whole: Some(Arc::clone(cancel)), ..How::to(peer) };
    source::run(&context, names, &how, &format!("peer {peer}")).map(drop)
}

/// Has what is under way kept here after all, where it has not been given away yet.
pub fn keep(context: &Context, peer: &str, migration: &CheckpointId) -> Result<SendingBack, Failure> {
    may(context, peer, migration)?;
    if let Some(returning) = context.sending_back.get(migration) {
        tracing::warn!(%migration, peer, "what it wanted back is to stay here");
        returning.cancel.cancel();
    }
    standing(context, peer, migration)
}

/// How far it is. What has come to an end is told once.
pub fn standing(context: &Context, peer: &str, migration: &CheckpointId) -> Result<SendingBack, Failure> {
    may(context, peer, migration)?;
    if let Some(standing) = standing_of(context, migration) {
        return Ok(standing);
    }
    Ok(if names(context, migration)?.is_empty() { SendingBack::NotHere } else { SendingBack::Idle })
}

fn standing_of(context: &Context, migration: &CheckpointId) -> Option<SendingBack> {
    match is_under_way(context, migration) {
        true => Some(SendingBack::UnderWay),
        false => context.sending_back.take(migration).map(|returning| returning.standing),
    }
}

fn is_under_way(context: &Context, migration: &CheckpointId) -> bool {
    let returning = context.sending_back.get(migration);
    returning.is_some_and(|returning| matches!(returning.standing, SendingBack::UnderWay))
}

/// Whether the peer may have them: they came from it.
fn may(context: &Context, peer: &str, migration: &CheckpointId) -> Result<(), Failure> {
    let known = context.peers.peer(peer).or_fail(|| "the book of peers cannot be read".into())?;
    if !known.is_some_and(|known| known.permissions.takes_back) {
        return Err(Failure::refused("this host sends nothing back there")
            .remedy("allow it on the host that is asked: transship peer allow NAME --return yes"));
    }
    let kept: Option<Kept> =
        context.handovers.get(About::Arrival, migration).or_fail(|| "what has come here cannot be read".into())?;
    match kept.is_some_and(|kept| kept.peer == peer) {
        true => Ok(()),
        false => Err(Failure::refused(format!("migration {migration} did not come from there"))),
    }
}

/// Its containers that run here.
fn names(context: &Context, migration: &CheckpointId) -> Result<Vec<String>, Failure> {
    let all = context.containers().or_fail(|| "the containers there cannot be listed".into())?;
    let came = all.iter().filter(|container| container.label(LABEL) == Some(migration.as_str()));
    Ok(came.filter(|container| container.is_running()).map(|container| container.name().to_owned()).collect())
}
