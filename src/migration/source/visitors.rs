//! Visitors of containers that have left, and those whose connections are open, are led after them.

use super::Migrate;
use crate::failure::{Failure, OrFail};
use crate::network::forward::{Forward, Leads};
use crate::network::tracking::{self, Entry};
use crate::network::ways::Moving;
use crate::network::{published, segment};
use crate::operations::checkpoint::Member;
use crate::operations::{self, forward::Led};
use crate::restore::prepare;
use crate::world::Context;

/// Leads those of all of them.
pub fn lead(migrate: &Migrate, context: &Context) -> Result<(), Failure> {
    let mut ways = Vec::new();
    for member in migrate.freeze.members() {
        ways.extend(way(migrate, member, context)?.map(|led| (member.checkpoint.clone(), led)));
    }
    operations::forward::begin(context, &ways)
}

/// The way of one container's, once its open connections are tracked as going there; none where nobody comes.
fn way(migrate: &Migrate, member: &Member, context: &Context) -> Result<Option<Led>, Failure> {
    let failed = || format!("visitors of {} cannot be led to {}", member.name, migrate.peer);
    // It has been given away and stands still: it is not kept from running for the sake of open connections.
    let lost = |failure: &dyn std::fmt::Display| {
        context.told.note(&format!("the open connections of {} are lost: {failure}", member.name));
        tracing::error!(migration = %migrate.id(), %failure, "open connections are not led after it");
    };
    let published = published::from_inspect(&member.inspect).or_fail(failed)?.published;
    let entries = departed(migrate, member, context).unwrap_or_else(|failure| {
        lost(&failure);
        Vec::new()
    });
    if published.is_empty() && entries.is_empty() {
        return Ok(None);
    }
    let key = member.checkpoint.as_str().chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    let leads = if published.is_empty() { Leads::OpenOnly } else { Leads::Everybody };
    let open = entries.iter().map(|entry| entry.reply).collect();
    let forward = Forward { key, link: migrate.link, published, open };
    let (container, peer) = (member.name.clone(), migrate.peer.clone());
    // Before the way: one for open connections alone is ended as soon as there are none. Their packets are parked still.
    match tracking::put_back(&entries) {
        Ok(put_back) => tracing::info!(?put_back, of = entries.len(), "open connections are led after it"),
        Err(error) => lost(&error),
    }
    Ok(Some(Led { container, peer, forward, leads }))
}

/// The entries by which its open connections go on. What was tracked is in the checkpoint, which may be damaged where this
/// host has lost its power meanwhile.
fn departed(migrate: &Migrate, member: &Member, context: &Context) -> Result<Vec<Entry>, Failure> {
    let failed = || "the open connections cannot be read".to_owned();
    let checkpoint = context.catalog.get(&member.checkpoint).or_fail(failed)?;
    let network = prepare::network(&checkpoint)?;
    let segments = segment::from_inspect(&member.inspect).or_fail(failed)?;
    let moving = Moving { addresses: network.addresses(), segments: &segments, link: migrate.link };
    Ok(moving.departed(&network.tracked))
}
