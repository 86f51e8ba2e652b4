//! Connections that a migration loses, where they are to be closed (`--tcp close`): the container's program hears at once when
//! it runs on the peer, and so does a neighbour that stays here. Otherwise each waits until it has given the other up.

use super::{Migrate, outlook};
use crate::docker::Container;
use crate::failure::{Failure, OrFail};
use crate::network::closing;
use crate::network::netns::NetNs;
use crate::network::published;
use crate::network::sockets::Connection;
use crate::operations::checkpoint::Member;
use crate::restore::prepare;
use crate::world::Context;
use std::net::IpAddr;

/// Writes down what is lost, now that nothing changes any more; the peer closes that.
pub fn write_down(context: &Context, migrate: &Migrate) -> Result<(), Failure> {
    let group: Vec<Container> = migrate.freeze.members().iter().map(Member::container).collect();
    for (member, container) in migrate.freeze.members().iter().zip(&group) {
        let lost = outlook::lost(context, container, &group, migrate.link)?;
        let failed = || format!("the store cannot take what {} loses", member.name);
        let extra = member.staging()?.extra().or_fail(failed)?;
        let json = serde_json::to_vec(&lost).or_fail(failed)?;
        std::fs::write(extra.join(prepare::LOST_FILE), json).or_fail(failed)?;
    }
    Ok(())
}

/// Closes the neighbours' ends of what a member has lost. It runs elsewhere by now, and is not undone for that.
pub fn tell_neighbours(context: &Context, member: &Member) {
    let told = context.catalog.get(&member.checkpoint).or_fail(|| "its checkpoint cannot be read".into());
    let lost = told.and_then(|checkpoint| prepare::lost(&checkpoint));
    let closed = lost.and_then(|lost| match lost.is_empty() {
        true => Ok(0),
        false => close_ends(context, &lost),
    });
    match closed {
        Ok(closed) => tracing::info!(container = member.name, closed, "neighbours are told that it has gone"),
        Err(failure) => context.told.note(&format!("neighbours of {} are not told: {failure}", member.name)),
    }
}

fn close_ends(context: &Context, lost: &[Connection]) -> Result<usize, Failure> {
    let mut closed = 0;
    for neighbour in context.containers().or_fail(|| "the containers cannot be listed".into())? {
        let Some(pid) = neighbour.pid().filter(|_| neighbour.shares_network_of().is_none()) else { continue };
        let failed = || format!("the connections of {} cannot be closed", neighbour.name());
        let addresses: Vec<IpAddr> = published::from_inspect(neighbour.inspect()).or_fail(failed)?.addresses;
        let own = lost.iter().filter(|one| addresses.contains(&one.remote.ip()));
        let ends: Vec<Connection> = own.map(|one| one.other_end()).collect();
        if !ends.is_empty() {
            let netns = NetNs::of_process(pid.unsigned_abs()).or_fail(failed)?;
            closed += closing::close(&netns, &ends).or_fail(failed)?;
        }
    }
    Ok(closed)
}
