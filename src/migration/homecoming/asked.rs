//! What a peer asks that wants back what has come from it.
//!
//! It may have what came from it by a migration, still runs here, and moves with nothing else; and only where the operator
//! lets it (`peer allow --return`). It is sent by an ordinary `migrate` of this host, which the peer has to take in.

use crate::failure::{Failure, OrFail};
use crate::migration::source::{self, How};
use crate::migration::words::LABEL;
use crate::operations::answering::problem;
use crate::store::CheckpointId;
use crate::store::handovers::About;
use crate::world::landing::Kept;
use crate::world::log::Log;
use crate::world::sending_back::SendingBack;
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
    if let Some(SendingBack::UnderWay) = context.sending_back.get(migration) {
        return Ok(SendingBack::UnderWay);
    }
    context.sending_back.keep(migration.clone(), SendingBack::UnderWay);
    let (world, id, peer) = (Arc::clone(&context.world), migration.clone(), peer.to_owned());
    let send = move || {
        let standing = match send(&world, &names, &peer) {
            Ok(()) => SendingBack::Sent,
            Err(failure) => {
                tracing::warn!(migration = %id, %failure, "what a peer wants back does not leave");
                SendingBack::Failed(problem(failure))
            }
        };
        world.sending_back.keep(id, standing);
    };
    if let Err(error) = std::thread::Builder::new().name("sending-back".into()).spawn(send) {
        context.sending_back.take(migration);
        return Err(Failure::new("no thread to send it").because(&error));
    }
    Ok(SendingBack::UnderWay)
}

fn send(world: &Arc<World>, names: &[String], peer: &str) -> Result<(), Failure> {
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
    let turn = context.busy.begin_within(names.to_vec(), TURN);
    drop(turn.map_err(|taken| Failure::refused(format!("another operation is at work on {taken}")))?);
    source::run(&context, names, &How::to(peer), &format!("peer {peer}")).map(drop)
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
    match context.sending_back.get(migration)? {
        SendingBack::UnderWay => Some(SendingBack::UnderWay),
        _ => context.sending_back.take(migration),
    }
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
