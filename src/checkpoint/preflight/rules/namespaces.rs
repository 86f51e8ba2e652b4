//! Namespaces: the container's own, those it shares, those it made. After CRIU's `namespaces.c`.

use std::collections::BTreeSet;

use super::super::facts::ContainerFacts;
use super::super::{Context, Finding};

/// Kinds of which CRIU dumps one only.
const SINGLE: [&str; 6] = ["pid", "user", "ipc", "uts", "time", "cgroup"];
/// Kinds of which CRIU dumps several.
const SEVERAL: [&str; 2] = ["mnt", "net"];

/// The rules on namespaces.
pub(super) fn judge(facts: &ContainerFacts, context: &Context<'_>) -> Vec<Finding> {
    let rules: [fn(&ContainerFacts, &Context<'_>) -> Option<Finding>; 6] =
        [nested, remapped, pid_mode, ipc_mode, uts_mode, network_mode];
    rules.iter().filter_map(|rule| rule(facts, context)).collect()
}

/// Kinds of namespaces that some process of the container's tree has and its first has not. What `docker exec` starts
/// in a restored container is outside of the time namespace that CRIU has made for the tree, and is not dumped anyway.
fn differing(facts: &ContainerFacts) -> BTreeSet<&str> {
    let Some(init) = facts.init() else {
        return BTreeSet::new();
    };
    let differs = |(kind, inode): &(&String, &u64)| init.namespaces.get(*kind).is_some_and(|own| own != *inode);
    let differing = facts.processes.iter().filter(|process| process.namespaces.iter().any(|one| differs(&one)));
    let tree = differing.filter(|process| facts.is_in_tree(process));
    tree.flat_map(|process| process.namespaces.iter().filter(differs)).map(|(kind, _)| kind.as_str()).collect()
}

fn nested(facts: &ContainerFacts, _: &Context<'_>) -> Option<Finding> {
    let kinds = differing(facts);
    let single: Vec<&str> = SINGLE.into_iter().filter(|kind| kinds.contains(kind)).collect();
    if !single.is_empty() {
        return Some(Finding::refuse(
            "namespace.nested",
            &facts.engine.name,
            format!(
                "Processes of the container made {} namespaces of their own, which CRIU cannot dump.",
                single.join(", ")
            ),
            "Freeze what runs inside (Docker in Docker, a browser's sandbox, systemd services) by its own means, or stop the container for the operation.",
        ));
    }
    let several: Vec<&str> = SEVERAL.into_iter().filter(|kind| kinds.contains(kind)).collect();
    if several.is_empty() {
        return None;
    }
    Some(Finding::warn(
        "namespace.several",
        &facts.engine.name,
        format!(
            "Processes of the container made {} namespaces of their own, which CRIU dumps in part.",
            several.join(", ")
        ),
        "Try a checkpoint with --leave-running first.",
    ))
}

fn remapped(facts: &ContainerFacts, _: &Context<'_>) -> Option<Finding> {
    let own = *facts.init()?.namespaces.get("user")?;
    if own == facts.host_user_namespace || facts.host_user_namespace == 0 {
        return None;
    }
    Some(Finding::refuse(
        "namespace.user",
        &facts.engine.name,
        "The container has a user namespace of its own (userns-remap), which runc and CRIU do not restore together.",
        "Create it anew with --userns host.",
    ))
}

fn pid_mode(facts: &ContainerFacts, _: &Context<'_>) -> Option<Finding> {
    let mode = facts.engine.pid_mode.as_str();
    if mode.is_empty() || mode == "private" {
        return None;
    }
    Some(Finding::refuse(
        "namespace.pid-shared",
        &facts.engine.name,
        format!("The container shares its process numbers (--pid {mode}), which may be taken at the restore."),
        "Create it anew without --pid.",
    ))
}

/// Segments that are mapped are the memory rules' business; here it is about the rest.
fn ipc_mode(facts: &ContainerFacts, _: &Context<'_>) -> Option<Finding> {
    let mode = facts.engine.ipc_mode.as_str();
    if mode.starts_with("container:") {
        return Some(Finding::refuse(
            "namespace.ipc-shared",
            &facts.engine.name,
            format!("The container shares its IPC namespace with another one (--ipc {mode})."),
            "Create it anew with --ipc private.",
        ));
    }
    (mode == "host").then(|| {
        Finding::warn(
            "namespace.ipc-shared",
            &facts.engine.name,
            "The container uses the host's IPC namespace; semaphores and queues there are not part of a checkpoint.",
            "Create it anew with --ipc private.",
        )
    })
}

fn uts_mode(facts: &ContainerFacts, _: &Context<'_>) -> Option<Finding> {
    (facts.engine.uts_mode == "host").then(|| {
        Finding::warn(
            "namespace.uts-shared",
            &facts.engine.name,
            "The container uses the host's name, and has whatever name the host has at the restore.",
            "Create it anew without --uts host, if its own name matters.",
        )
    })
}

fn network_mode(facts: &ContainerFacts, context: &Context<'_>) -> Option<Finding> {
    let mode = facts.engine.network_mode.as_str();
    if mode == "host" {
        return Some(Finding::refuse(
            "network.host",
            &facts.engine.name,
            "The container uses the host's network, whose ports and connections cannot be held for it alone.",
            "Create it anew on a network of Docker's, with published ports.",
        ));
    }
    let leader = mode.strip_prefix("container:")?;
    // Docker stores the full id, whatever was typed; people give names and short ids.
    let along = context.group.iter().any(|member| !member.is_empty() && leader.starts_with(member.as_str()));
    (!along).then(|| {
        Finding::refuse(
            "network.shared",
            &facts.engine.name,
            format!("The container uses the network of the container {leader}, which is not part of this operation."),
            format!("Name both: add {leader} to the command."),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::{Purpose, Severity};
    use super::super::testing::{container_findings, context, facts, host_facts, process, refused, warned};
    use super::*;

    fn other(kind: &str) -> impl Fn(&mut ContainerFacts) {
        move |f| {
            f.processes[1].namespaces.insert(kind.into(), 77);
        }
    }

    #[test]
    fn nested_namespaces_are_judged_by_kind() {
        for kind in SINGLE {
            assert_eq!(refused(other(kind)), ["namespace.nested"], "{kind}");
        }
        for kind in SEVERAL {
            assert_eq!(warned(other(kind)), ["namespace.several"], "{kind}");
        }
        assert!(refused(other("pid_for_children")).is_empty());
    }

    #[test]
    fn what_is_executed_in_a_restored_container_has_the_hosts_time() {
        let probe = |f: &mut ContainerFacts| {
            f.engine.health_check = vec!["pg_isready".into()];
            let mut probe = process(200, 40, "pg_isready");
            probe.command = f.engine.health_check.clone();
            probe.namespaces.insert("time".into(), 77);
            f.processes.push(probe);
        };
        assert_eq!(warned(probe), ["process.health-probe"]);
        assert!(refused(probe).is_empty());
    }

    #[test]
    fn a_remapped_user_namespace_is_refused() {
        assert_eq!(refused(|f| f.host_user_namespace = 2), ["namespace.user"]);
    }

    #[test]
    fn shared_namespaces_are_judged() {
        assert_eq!(refused(|f| f.engine.pid_mode = "host".into()), ["namespace.pid-shared"]);
        assert_eq!(refused(|f| f.engine.pid_mode = "container:x".into()), ["namespace.pid-shared"]);
        assert_eq!(refused(|f| f.engine.ipc_mode = "container:x".into()), ["namespace.ipc-shared"]);
        assert_eq!(warned(|f| f.engine.ipc_mode = "host".into()), ["namespace.ipc-shared"]);
        assert_eq!(warned(|f| f.engine.uts_mode = "host".into()), ["namespace.uts-shared"]);
        assert_eq!(refused(|f| f.engine.network_mode = "host".into()), ["network.host"]);
    }

    #[test]
    fn a_joined_network_comes_with_its_leader() {
        let mut facts = facts();
        facts.engine.network_mode = "container:0011223344".into();
        let host = host_facts();
        let alone = context(&host, Purpose::Freeze);
        assert_eq!(container_findings(&facts, &alone), [("network.shared", Severity::Refuse)]);
        let group = ["00112233".to_owned()];
        let along = Context { group: &group, ..alone };
        assert_eq!(container_findings(&facts, &along), []);
    }
}
