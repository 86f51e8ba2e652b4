//! Which containers are frozen together, and whether they may be.

use super::member::Member;
use crate::docker::{Container, Running};
use crate::failure::{Failure, OrFail};
use crate::operations::check;
use crate::process::Identity;
use crate::services::{Interposition, effective_runc};
use crate::store::{CheckpointId, ContainerId};
use crate::world::Context;
use std::collections::BTreeMap;

/// Sorts the named containers into groups that share a network namespace, its owner first.
///
/// A group is frozen whole or not at all: half of it would lose its connections to the other half.
pub fn of(context: &Context, references: &[String], leave_running: bool) -> Result<Vec<Vec<Member>>, Failure> {
    let all = context.docker.running().or_fail(|| "the containers cannot be listed".into())?;
    let mut groups: BTreeMap<String, Vec<Member>> = BTreeMap::new();
    for reference in references {
        let container = settled(context, reference)?;
        let member = member(&container, leave_running)?;
        let owner = container.shares_network_of().unwrap_or(container.id()).to_owned();
        let members = groups.entry(owner).or_default();
        if members.iter().all(|known| known.id != member.id) {
            members.push(member);
        }
    }
    for (owner, members) in &mut groups {
        whole(context, owner, members, &all)?;
        members.sort_by_key(Member::joins_network);
    }
    Ok(groups.into_values().collect())
}

/// The container as it is once a restore that has just ended has put its restart policy back: what is read here is
/// what it gets back.
fn settled(context: &Context, reference: &str) -> Result<Container, Failure> {
    let look = || {
        let found = context.docker.container(reference).or_fail(|| format!("there is no container {reference}"));
        found.map_err(|failure| failure.as_refusal().remedy("see: docker ps"))
    };
    let container = look()?;
    match container.id().parse::<ContainerId>() {
        Ok(id) if context.settling.has(&id) => {
            context.settling.wait_until_taken(&id);
            look()
        }
        _ => Ok(container),
    }
}

fn member(container: &Container, leave_running: bool) -> Result<Member, Failure> {
    let name = container.name();
    let init = container.pid().filter(|_| container.is_running()).and_then(Identity::of);
    let Some(init) = init else {
        return Err(Failure::refused(format!("{name} does not run: it is {}", container.status()))
            .remedy(format!("start it first: docker start {name}")));
    };
    if container.removes_itself() && !leave_running {
        return Err(Failure::refused(format!("{name} was started with --rm: Docker deletes it the moment it stops"))
            .remedy("create it without --rm, or take a backup with --leave-running"));
    }
    let id: ContainerId =
        container.id().parse().or_fail(|| format!("Docker's id of {name} is not one: {:?}", container.id()))?;
    let checkpoint = CheckpointId::random().or_fail(|| "no random number for a checkpoint's id".into())?;
    Ok(Member::new(container, init, id, checkpoint))
}

fn whole(context: &Context, owner: &str, members: &[Member], all: &[Running]) -> Result<(), Failure> {
    let running = all.iter().filter(|container| !container.is_paused);
    let related =
        running.filter(|container| container.id == owner || container.shares_network_of.as_deref() == Some(owner));
    for missing in related.filter(|container| members.iter().all(|member| member.id.as_str() != container.id)) {
        if context.docker.still_runs(missing).or_fail(|| format!("{} cannot be looked at", missing.name))? {
            let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
            let names = names.join(" ");
            return Err(Failure::refused(format!(
                "{} shares its network with {names} and was not named",
                missing.name
            ))
            .remedy(format!("name them together: {names} {}", missing.name)));
        }
    }
    Ok(())
}

/// Refuses a group of which a member cannot be frozen and restored here; nothing is touched.
pub fn admit(context: &Context, members: &mut [Member], leave_running: bool) -> Result<(), Failure> {
    if !leave_running && effective_runc() != Interposition::Interposed {
        return Err(Failure::refused(
            "the interposer is not in front of runc: what is frozen now could not be restored",
        )
        .remedy("run: transship install"));
    }
    let group: Vec<String> = members.iter().map(|member| member.id.to_string()).collect();
    for member in members {
        if let Some(claim) = context.claims.find(&member.id).or_fail(|| "the claims cannot be read".into())? {
            return Err(Failure::refused(format!("{} is claimed by checkpoint {}", member.name, claim.checkpoint))
                .remedy(format!("transship rm --force {}", claim.checkpoint)));
        }
        let judgement = check::judge(context, &member.container(), &group, leave_running)?;
        member.watched = judgement.watched;
        if let Some((first, others)) = judgement.refusals.split_first() {
            let others = others.iter().map(|finding| finding.reason.clone()).collect();
            return Err(Failure::refused(format!("{} cannot be frozen here: {}", member.name, first.reason))
                .details(others)
                .remedy(first.remedy.clone()));
        }
    }
    Ok(())
}
