//! What leaves for which peer, and what stays, found out before anything moves.

use super::{Evacuate, Leaving, Staying, Wish};
use crate::checkpoint::mend::processes_of;
use crate::failure::Failure;
use crate::migration::evacuate::room::{self, Room};
use crate::migration::source::{self, How, Migrate};
use crate::network::ways::Link;
use crate::operations::checkpoint::Member;
use crate::saga::Asked;
use crate::store::ContainerId;
use crate::world::Context;
use std::sync::Arc;

/// A peer, and what is left of its room once what was given to it has come.
struct Candidate {
    name: String,
    link: Link,
    room: Room,
}

/// Finds out what can go where.
pub fn make(context: &Context, wish: &Wish, asked: Asked<'_>) -> Result<Evacuate, Failure> {
    let [first, ..] = wish.peers.as_slice() else { return Err(Failure::usage("no peer was named")) };
    // Where each goes is found out once everybody is known.
    let (anywhere, link) = (how(wish, first), source::reach(context, &how(wish, first))?);
    let mut candidates = wish.peers.iter().map(|peer| candidate(context, wish, peer)).collect::<Result<Vec<_>, _>>()?;
    let (mut groups, mut stays) = (Vec::new(), Vec::new());
    let mut going: Vec<(u64, Migrate)> = Vec::new();
    for group in source::group::all(context)? {
        let names = group.names.clone();
        match group.members.and_then(|members| prepare(context, members, &anywhere, link)) {
            Ok(one) => going.push(one),
            Err(reason) => stays.push(Staying { names, reason }),
        }
    }
    // The largest first: they find room where the small ones still do later.
    going.sort_by_key(|(memory, _)| std::cmp::Reverse(*memory));
    for (memory_bytes, mut migrate) in going {
        let names: Vec<String> = migrate.members().iter().map(|member| member.name.clone()).collect();
        let ids: Vec<ContainerId> = migrate.members().iter().map(|member| member.id.clone()).collect();
        match place(context, &mut candidates, memory_bytes, &mut migrate) {
            Ok(peer) => groups.push(Leaving { names, ids, peer, memory_bytes, outcome: None }),
            Err(reason) => stays.push(Staying { names, reason }),
        }
    }
    let Wish { compress, rate, .. } = *wish;
    let (asked_by, cancel) = (asked.by.to_owned(), Arc::new(context.cancels.admit()));
    if let Some(whole) = &wish.whole {
        whole.takes_along(&cancel);
    }
    Ok(Evacuate { number: None, asked_by, groups, stays, compress, rate, cancel, is_cancelled: false })
}

fn how(wish: &Wish, peer: &str) -> How {
    How { compress: wish.compress, rate: wish.rate, ..How::to(peer) }
}

fn candidate(context: &Context, wish: &Wish, peer: &str) -> Result<Candidate, Failure> {
    let link = source::reach(context, &how(wish, peer))?;
    Ok(Candidate { name: peer.to_owned(), link, room: room::of_peer(peer)? })
}

fn prepare(context: &Context, members: Vec<Member>, how: &How, link: Link) -> Result<(u64, Migrate), Failure> {
    let memory = members.iter().map(|member| memory_of(member.init.pid)).sum();
    Ok((memory, source::planned(context, members, how, link)?))
}

/// Bytes of memory that a container's processes have.
fn memory_of(init: i32) -> u64 {
    processes_of(init).into_iter().map(resident).sum()
}

fn resident(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * 4096
}

/// The peer with the most memory left that takes them.
fn place(
    context: &Context,
    candidates: &mut [Candidate],
    memory: u64,
    migrate: &mut Migrate,
) -> Result<String, Failure> {
    candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.room.memory_bytes));
    let mut reasons = Vec::new();
    for candidate in candidates {
        if !candidate.room.has(memory) {
            reasons.push(Failure::refused(format!(
                "{} has room for {} MiB, and they have {} MiB of memory",
                candidate.name,
                candidate.room.memory_bytes >> 20,
                memory >> 20
            )));
            continue;
        }
        migrate.aim(&candidate.name, candidate.link);
        match source::look(context, migrate) {
            Ok(()) => {
                candidate.room.take(memory);
                return Ok(candidate.name.clone());
            }
            Err(reason) => reasons.push(reason),
        }
    }
    let mut reasons = reasons.into_iter();
    let first = reasons.next().unwrap_or_else(|| Failure::refused("no peer was named"));
    Err(first.details(reasons.map(|reason| reason.to_string()).collect()))
}
