//! Members of a group that are worked on at the same time.
//!
//! All of them are away until the last one is done, so they are not done one after the other. Those that share a network, IPC
//! or pid namespace are, in their order: CRIU locks and reads what both have, and finds it as the one before has left it.

use super::Member;
use crate::docker::Container;
use crate::failure::Failure;
use crate::operations::several;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

/// Does something with each of them; with no more of them once it has failed for one.
pub fn until_one_fails(
    members: &mut [Member],
    act: impl Fn(&mut Member) -> Result<(), Failure> + Sync,
) -> Result<(), Failure> {
    let has_failed = AtomicBool::new(false);
    with_each(members, |member| match has_failed.load(Ordering::Relaxed) {
        true => Ok(()),
        false => act(member).inspect_err(|_| has_failed.store(true, Ordering::Relaxed)),
    })
}

/// Does something with each of them, whatever fails.
pub fn with_each(
    members: &mut [Member],
    act: impl Fn(&mut Member) -> Result<(), Failure> + Sync,
) -> Result<(), Failure> {
    let mut chains: Vec<_> = chains(members).into_values().collect();
    several::try_each(&mut chains, |chain| {
        several::together(chain.iter_mut().filter_map(|member| act(member).err()).collect())
    })
}

/// Finds out which members share a namespace: those have one chain.
pub fn find_chains(members: &mut [Member]) {
    let containers: Vec<Container> = members.iter().map(Member::container).collect();
    for (chain, tied) in tied(&containers, Container::shares_namespace_with).into_iter().enumerate() {
        tied.into_iter().for_each(|index| members[index].chain = chain);
    }
}

/// The members by their chains, in each in their order.
fn chains(members: &mut [Member]) -> BTreeMap<usize, Vec<&mut Member>> {
    let mut chains: BTreeMap<usize, Vec<&mut Member>> = BTreeMap::new();
    members.iter_mut().for_each(|member| chains.entry(member.chain).or_default().push(member));
    chains
}

/// The containers, by their indices, in sets of those that are tied to each other, directly or through others.
pub fn tied(containers: &[Container], are_tied: impl Fn(&Container, &Container) -> bool) -> Vec<BTreeSet<usize>> {
    let mut sets: Vec<BTreeSet<usize>> = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        let is_tied = |set: &BTreeSet<usize>| set.iter().any(|other| are_tied(container, &containers[*other]));
        let (tied, apart): (Vec<_>, Vec<_>) = sets.into_iter().partition(is_tied);
        sets = apart;
        sets.push(tied.into_iter().flatten().chain([index]).collect());
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Identity;
    use serde_json::json;
    use std::sync::Mutex;

    fn member(id: &str, network: &str, ipc: &str) -> Member {
        let container = Container::new(json!({ "Id": id, "Name": format!("/{id}"),
            "HostConfig": { "NetworkMode": network, "IpcMode": ipc, "PidMode": "" } }));
        let init = Identity::of(1).unwrap();
        let checkpoint = crate::store::CheckpointId::random().unwrap();
        Member::new(&container, init, "a".repeat(64).parse().unwrap(), checkpoint)
    }

    fn names(members: &[&mut Member]) -> Vec<String> {
        members.iter().map(|member| member.name.clone()).collect()
    }

    #[test]
    fn those_that_share_a_namespace_are_done_in_their_order_and_all_others_beside() {
        let mut members = [
            member("a", "front", "private"),
            member("b", "front", "private"),
            member("c", "container:a", "private"),
            member("d", "front", "container:c"),
        ];
        find_chains(&mut members);
        let mut chains: Vec<Vec<String>> = chains(&mut members).values().map(|chain| names(chain)).collect();
        chains.sort();
        assert_eq!(chains, [vec!["a", "c", "d"], vec!["b"]]);
    }

    #[test]
    fn i2_none_is_begun_when_one_has_failed_and_each_is_undone_all_the_same() {
        let mut members = [member("a", "front", ""), member("b", "container:a", "")];
        find_chains(&mut members);
        let seen = Mutex::new(Vec::new());
        let fail = |member: &mut Member| {
            seen.lock().unwrap().push(member.name.clone());
            Err(Failure::new(member.name.clone()))
        };
        assert_eq!(until_one_fails(&mut members, fail).unwrap_err().to_string(), "a");
        let failure = with_each(&mut members, fail).unwrap_err();
        assert_eq!((failure.to_string(), failure.details), ("a".to_owned(), vec!["b".to_owned()]));
        assert_eq!(seen.into_inner().unwrap(), ["a", "a", "b"]);
    }
}
